"""Every check of the project, each in an environment of its own: ``nox -l`` lists them."""

from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests", "exhaustive"]

PEERS = (  # of the benchmark alone; wand needs ImageMagick's library
    "albumentations>=2.0", "kornia>=0.8", "monai>=1.5", "opencv-python-headless>=4.11", "scikit-image>=0.24", "torch>=2.6",
    "torchio>=1.0", "torchvision>=0.21", "wand>=0.6.13",
)  # fmt: skip
PROJECT = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, *groups: str) -> None:
    """The package, editable, and the dependency groups that the session needs."""
    session.install("-e", ".", *nox.project.dependency_groups(PROJECT, *groups))


@nox.session
def lint(session: nox.Session) -> None:
    """Style and imports."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Static types of the package."""
    session.install("-e", ".[cluster,data,onnx]", *nox.project.dependency_groups(PROJECT, "lint"))
    session.run("pyright")


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite without what takes long; ``nox -s tests -- -k name`` passes options on."""
    tested(session)
    session.run("pytest", "-n", "2", "-m", "not exhaustive", *session.posargs)


@nox.session
def exhaustive(session: nox.Session) -> None:
    """The rest of the test suite: every law, encoder, phantom, file format and derivation."""
    tested(session)
    session.run("pytest", "-n", "2", "-m", "exhaustive", *session.posargs)


def tested(session: nox.Session) -> None:
    """What tests need."""
    install(session, "test")
    session.install("--no-deps", "rapidocr-onnxruntime>=1.4")  # ships a small pretrained network; its code is not run


@nox.session
def derivations(session: nox.Session) -> None:
    """Every derivation's own check."""
    install(session)
    for script in sorted(Path("derivations").glob("d[0-9]*.py")):
        session.run("python", str(script))


@nox.session
def scripts(session: nox.Session) -> None:
    """The simulation scripts, at their smallest."""
    install(session)
    for script in sorted(Path("simulations").glob("[0-9]*.py")):
        session.run("python", str(script), "--quick", "--out", session.create_tmp())


@nox.session
def notebooks(session: nox.Session) -> None:
    """The notebooks, run from top to bottom."""
    install(session, "notebooks")
    for notebook in sorted(Path("simulations/notebooks").glob("*.py")):
        target = Path(session.create_tmp()) / f"{notebook.stem}.ipynb"
        session.run("jupytext", "--to", "ipynb", "--execute", "--output", str(target), str(notebook))


@nox.session
def paper(session: nox.Session) -> None:
    """Figures, numbers, equations and the PDF, from the committed tables."""
    install(session, "paper")
    session.run("python", "paper/build.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Timings, printed and never asserted."""
    install(session, "bench", "test")
    session.run("pytest", "benchmarks", "--benchmark-columns=min,median,max,rounds", *session.posargs)


@nox.session
def peers(session: nox.Session) -> None:
    """Our variabilities against the libraries that share their operations; ``nox -s peers -- --rounds 9`` passes options on."""
    install(session)
    session.install(*PEERS)
    session.install("--no-deps", "medmnistc>=0.1")  # it pins versions of what is installed above
    session.run("python", "benchmarks/variability_against_peers.py", *session.posargs)


@nox.session
def training_peers(session: nox.Session) -> None:
    """Our contrastive training against PyTorch's; ``nox -s training_peers -- --rounds 9`` passes options on."""
    install(session)
    session.install("torch>=2.6", "lightly>=1.5")
    session.run("python", "benchmarks/training_against_pytorch.py", *session.posargs)
