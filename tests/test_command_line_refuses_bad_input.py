"""Bad input through the command line: one line that says what to do, exit code 2, no traceback, nothing written."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rafmodel.errors import InputError

PYTHON = [sys.executable, "-m", "rafmodel"]


def rafmodel(*arguments, cwd=None, **environment):
    """The finished process of one command."""
    quiet = {k: v for k, v in os.environ.items() if k not in ("JAX_ENABLE_X64", "JAX_NUMPY_RANK_PROMOTION")}
    return subprocess.run(
        [*PYTHON, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, env=quiet | environment, check=False
    )


def refused(done: subprocess.CompletedProcess, *words: str) -> None:
    """Exit code 2 and one line on standard error that holds every word."""
    assert done.returncode == 2, done.stderr
    line = done.stderr.strip()
    assert "\n" not in line, line
    assert line.startswith("rafmodel: ")
    assert "Traceback" not in done.stderr + done.stdout
    for word in words:
        assert word in line, line


def columns(n=40, **changes) -> dict[str, np.ndarray]:
    """A small sound cohort in the column layout, with some fields replaced; None leaves a field out."""
    rng = np.random.default_rng(0)
    fields = {
        "images": rng.integers(0, 255, (n, 28, 28), dtype=np.uint8),
        "labels": np.arange(n) % 2,
        "patient": np.arange(n).astype(str),
        "sex": np.where(np.arange(n) % 3, "F", "M"),
        "split": np.repeat(["train", "val", "test"], [n // 2, n // 4, n - n // 2 - n // 4]),
    } | changes
    return {k: v for k, v in fields.items() if v is not None}


@pytest.fixture
def ask(tmp_path):
    """``ask(fields or path, *words)``: the study is refused with these words, and no output folder appears."""

    def study(source, *words, options=()):
        path = tmp_path / "cohort.npz"
        if isinstance(source, dict):
            np.savez(path, **source)
        else:
            path = source
        done = rafmodel("study", "--cohort", path, "--out", tmp_path / "out", *options)
        refused(done, *words)
        assert not (tmp_path / "out").exists()

    return study


def test_missing_file(ask, tmp_path):
    ask(tmp_path / "nowhere.npz", "nowhere.npz")


def test_not_an_npz(ask, tmp_path):
    path = tmp_path / "notes.npz"
    path.write_text("this is text")
    ask(path, "notes.npz", "npz")


def test_pickled_objects_are_never_unpickled(ask, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    ask(columns(images=np.array([Bomb()] * 40, dtype=object)), "images", "pickle")
    assert not (tmp_path / "exploded").exists()


def test_labels_of_another_length(ask):
    ask(columns(labels=np.arange(39) % 2), "labels", "39", "40")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite(ask, value):
    images = np.random.default_rng(0).uniform(size=(40, 28, 28)).astype(np.float32)
    images[7, 3, 3] = value
    ask(columns(images=images), "images", "7")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_single_class_in_a_split(ask, split):
    fields = columns()
    fields["labels"][fields["split"] == split] = 1
    ask(fields, split, "class")


def test_a_patient_in_two_splits(ask):
    patient = np.arange(40).astype(str)
    patient[39] = "0"
    ask(columns(patient=patient), "patient", "'0'", "train", "test")


def test_unknown_group_lists_the_ones_there_are(ask):
    ask(columns(), "scanner", "sex", options=["--group", "scanner"])


def test_declared_size_that_would_not_fit_in_memory(ask, tmp_path):
    """A header of a petabyte over a few bytes is refused from the header."""
    path = tmp_path / "bomb.npz"
    np.savez(path, **columns())
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 1000, 1000), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "lie.npz", "w") as new:
        for name in old.namelist():
            magic = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
            new.writestr(name, magic + header if name == "images.npy" else old.read(name))
    ask(tmp_path / "lie.npz", "images", "memory")


def test_images_without_classes_cannot_be_studied(ask, tmp_path):
    """Told before anything is computed: a study needs cases and controls."""
    fields = columns(labels=None, masks=np.zeros((40, 28, 28), np.uint8))
    ask(fields, "none: masks only", "cases and controls", "--label (sex)")
    from rafmodel.cohort_commands import Show, Who, found, studied

    with pytest.raises(InputError, match="cases and controls"):
        studied(Who(cohort=str(tmp_path / "cohort.npz")))
    assert not found(Show(cohort=str(tmp_path / "cohort.npz"))).has_classes
    assert studied(Who(cohort=str(tmp_path / "cohort.npz"), label="sex")).has_classes


def test_a_folder_with_broken_files_is_shown_with_their_names(tmp_path):
    from PIL import Image

    rows = ["file,labels,split"]
    for i in range(9):
        split = ("train", "val", "test")[i // 2 % 3] if i < 6 else "train"
        rows.append(f"{i}.png,{i % 2},{split}")
        Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "8.png").write_bytes(b"\x89PNG nothing")
    (tmp_path / "cohort.csv").write_text("\n".join(rows))
    done = rafmodel("cohort", "show", "--cohort", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("rafmodel: 1 of 9 images cannot be used and are left out: 8.png: ")
    assert done.stderr.count("\n") == 1
    assert "images      8 of 8 x 8 x 1" in done.stdout
    assert "left out    8.png" in done.stdout
    refused(rafmodel("cohort", "fetch", "nothing"), "no public cohort is called 'nothing'", "pathmnist")


def test_an_output_folder_that_cannot_be_written(tmp_path):
    np.savez(tmp_path / "cohort.npz", **columns())
    (tmp_path / "taken").write_text("a file is in the way")
    done = rafmodel("study", "--cohort", tmp_path / "cohort.npz", "--out", tmp_path / "taken" / "out")
    refused(done, "taken", "cannot be written")


def test_unknown_designs_and_shifts_list_the_ones_there_are(ask):
    ask(columns(), "'clip'", "contrastive+crop", options=["--designs", "clip"])
    ask(columns(), "'fog'", "noise", options=["--shifts", "fog"])
    ask(columns(), "--seeds 0", options=["--seeds", "0"])


@pytest.mark.parametrize("command", ["fit", "check", "figures"])
def test_a_study_file_with_a_wrong_schema(command, tmp_path):
    from synthetic_study import make_study

    from rafmodel.study import save

    save(make_study().drop_vars("observed_tpr"), tmp_path / "study.nc")
    before = sorted(tmp_path.iterdir())
    refused(rafmodel(command, tmp_path / "study.nc", cwd=tmp_path), "study.nc", "observed_tpr")
    refused(rafmodel(command, tmp_path / "none.nc", cwd=tmp_path), "none.nc", "no such")
    assert sorted(tmp_path.iterdir()) == before


def test_a_study_of_another_cohort_is_not_overwritten(tmp_path):
    from synthetic_study import make_study

    from rafmodel.study import save

    np.savez(tmp_path / "mine.npz", **columns())
    save(make_study(), tmp_path / "out" / "study.nc")
    before = (tmp_path / "out" / "study.nc").read_bytes()
    refused(rafmodel("study", "--cohort", tmp_path / "mine.npz", "--out", tmp_path / "out"), "choose another folder")
    assert (tmp_path / "out" / "study.nc").read_bytes() == before


def test_a_subgroup_without_cases_is_nan_with_its_counts(tmp_path):
    """Not an error: the value is absent, and the count says why."""
    from rafmodel.study import load

    fields = columns(n=160)
    fields["sex"] = np.where((fields["labels"] == 0) & (np.arange(160) % 3 == 0), "M", "F")
    np.savez(tmp_path / "cohort.npz", **fields)
    options = [
        "--group",
        "sex",
        "--designs",
        "untrained",
        "--shifts",
        "noise",
        "--seeds",
        "1",
        "--out",
        tmp_path / "out",
    ]
    done = rafmodel("study", "--cohort", tmp_path / "cohort.npz", *options)
    assert done.returncode == 0, done.stderr
    table = load(tmp_path / "out" / "study.nc")
    male = table.sel(group="M")
    assert int(male["n_case"]) == 0
    assert int(male["n_control"]) > 0
    assert np.isnan(male["observed_auc"]).all()
    assert np.isnan(male["predicted_auc"]).all()
    assert np.isfinite(table["observed_auc"].sel(group="F")).all()
    assert (tmp_path / "out" / "report.html").stat().st_size > 0


def test_help_is_quick_because_heavy_imports_wait():
    """Not a timing: none of the slow libraries is imported to print help."""
    code = (
        "import sys, contextlib\n"
        "from rafmodel.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "print({'jax', 'numpy', 'xarray', 'matplotlib', 'sympy', 'flax'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stderr.strip() == "set()"
    assert "study" in done.stdout
