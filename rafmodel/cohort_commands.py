"""``rafmodel cohort …``: who is in a cohort, and which cohorts there are."""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from rafmodel.console import set_up_jax
from rafmodel.errors import InputError

if TYPE_CHECKING:
    from rafmodel.cohort import Cohort

SYNTHETIC = ("phantom", "phantom-3d", "cardiac-ultrasound", "lung-airways", "lung-airways-3d")


@dataclass(frozen=True)
class Who:
    """Which cohort, and what is asked of it."""

    cohort: str | None = None
    """npz file, csv beside images, folder with one, or a name of ``cohort list``.  Default: the phantom."""
    label: str | None = None
    """Column that holds the class.  Default: labels."""
    positive: tuple[str, ...] = ()
    """Values of that column that count as a case.  Default: the highest."""
    negative: tuple[str, ...] = ()
    """Values that count as a control; images with neither are left out.  Default: all the others."""
    group: str | None = None
    """Attribute that names the subgroups: sex, view, age, site...  Default for the phantom: site."""
    size: int = 32
    """Side in pixels to which larger images are averaged down."""
    window: tuple[float, float] | Literal["file"] | None = None
    """LOW HIGH: values of DICOM, NIfTI or 16-bit images shown black and white; file: each file's own.  Default: percentiles."""
    memory: float = 4.0
    """Most GiB that images may take as numbers; of an npz that needs more, show, predict and study leave them on disk."""


@dataclass(frozen=True)
class Show(Who):
    """Print who is in a cohort: counts by split, class and subgroup, licence and source."""

    variability: tuple[str, ...] = ()
    """Variabilities of the contact sheet, module:OBJECT for your own, or ``all`` that suit.  Default: a plain study's eight."""
    sheet: Path | None = None
    """PNG or PDF file for a contact sheet of the variabilities at every level.  Default: variability.png if some are named."""


@dataclass(frozen=True)
class List:
    """Name the cohorts that ``--cohort`` can be given, and the public ones that can be fetched."""


@dataclass(frozen=True)
class Fetch:
    """Fetch a public cohort (MedMNIST v2) into the cache, checked and resumed; ``--cohort NAME`` finds it from then on."""

    name: tyro.conf.Positional[str]
    """Name, as ``cohort list`` gives it."""
    size: int = 28
    """Side in pixels: 28, 64, 128 or 224; 28 or 64 in 3D."""
    accept_licence: bool = False
    """Accept the licence that is printed, without being asked."""


@dataclass(frozen=True)
class Make:
    """Build a benchmark cohort from a recipe: a public part, with its card, and a hidden part that never travel together."""

    recipe: tyro.conf.Positional[Path]
    """TOML file; recipes/ has examples."""
    key: str | None = None
    """Root of all randomness, a number or a text, kept with the hidden part only.  Default: the recipe's."""
    out: Path | None = None
    """Folder for the folders public and hidden.  Default: runs/NAME."""


@dataclass(frozen=True)
class Audit(Who):
    """Write a cohort's card (HTML, Markdown, Croissant): what a reviewer would ask about a test set."""

    keep: tuple[str, ...] = ()
    """Columns to audit although they have many values, as lists of findings do."""
    size: int = 64
    """Side in pixels to which larger images are averaged down."""
    pictures: bool = True
    """Whether the card shows images; without, it can be passed on where the images cannot."""
    complete: bool = False
    """For the organisers alone: list and show the hidden images of a benchmark, with their classes, too."""
    out: Path | None = None
    """Folder for the card.  Default: runs/COHORT."""


@dataclass(frozen=True)
class Fit(Who):
    """Fit the cohort's own variability by subgroup: grey values, pose, noise, blur, field, artifacts, prevalences."""

    out: Path | None = None
    """File for the posterior; --shifts FILE.nc:SUBGROUP takes it as a shift.  Default: own_COHORT.nc."""
    seed: int = 0
    """Root of all randomness."""


Action = (
    Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Fetch, tyro.conf.subcommand("fetch")]
    | Annotated[Make, tyro.conf.subcommand("make")]
    | Annotated[Audit, tyro.conf.subcommand("audit")]
    | Annotated[Fit, tyro.conf.subcommand("fit")]
)


@dataclass(frozen=True)
class OfCohort:
    """What is in a cohort, and which cohorts there are."""

    action: Action
    """What is asked."""


def run(action: Action) -> None:
    """One parsed action."""
    match action:
        case Show():
            show(action)
        case List():
            list_names()
        case Fetch():
            fetch(action)
        case Make():
            make(action)
        case Audit():
            audit(action)
        case Fit():
            fit(action)


def list_names() -> None:
    """A line for every cohort that has a name here, or can be fetched."""
    from rafmodel.sources import catalogue

    print("\n".join(f"{name:24s}synthetic" for name in SYNTHETIC))
    home = os.environ.get("RAFMODEL_DATA")
    if home is None:
        print("(RAFMODEL_DATA is not set: no cohort of your own has a name)")
    own = [] if home is None else sorted([*Path(home).glob("*.npz"), *Path(home).glob("*/*.npz")])
    for file in own:
        alone = file.parent != Path(home or "") and len(list(file.parent.glob("*.npz"))) == 1
        print(f"{file.parent.name if alone else file.stem}".ljust(24) + f"{file.stat().st_size / 2**20:.1f} MiB")
    for file in sorted(catalogue.cache().glob("*.npz")):
        print(f"{file.stem:24s}{file.stat().st_size / 2**20:.1f} MiB, fetched")
    print("\nto be fetched with `rafmodel cohort fetch NAME --size SIZE`:")
    for name in catalogue.names():
        one = catalogue.entry(name)
        facts = f"{one.dims}D, {one.images} images, {'/'.join(map(str, one.sizes))}, {one.task}, {one.licence}"
        print(f"{name:24s}{facts}")


def fetch(command: Fetch) -> None:
    """A public cohort into the cache, once its licence is accepted."""
    from rafmodel.console import progress
    from rafmodel.sources import catalogue

    wanted = catalogue.entry(command.name, command.size)
    print(f"{wanted.stem}: {wanted.dims}D, {wanted.images} images, {wanted.task}: {', '.join(wanted.classes)}")
    print(f"source:  {wanted.source}\nlicence: {wanted.licence}")
    if not catalogue.fetched(wanted):
        _accepted(command, wanted.licence)
        catalogue.fetch(wanted, progress())
    print(f"\n{catalogue.cache() / wanted.stem}.npz\nuse it: rafmodel cohort show --cohort {wanted.stem}")


def _accepted(command: Fetch, licence: str) -> None:
    """Raises InputError unless the licence is accepted, by option or by hand."""
    if command.accept_licence:
        return
    answer = input(f"accept the licence {licence}? [y/N] ") if sys.stdin.isatty() else ""
    if answer.strip().lower() not in ("y", "yes"):
        raise InputError(f"{command.name}: its licence {licence} was not accepted; add --accept-licence to accept it")


def show(command: Show) -> None:
    """Counts of a cohort."""
    cohort = found(command, on_disk=True)
    from rafmodel.cohort import describe

    print(describe(cohort, command.group))
    if command.sheet or command.variability:
        from rafmodel import plot, variability

        path = command.sheet or Path("variability.png")
        plot.contact_sheet(cohort, path, variability.suited(command.variability, cohort.image.shape[1:]))
        print(f"\ncontact sheet: {path}")


def fit(command: Fit) -> None:
    """Posterior of a cohort's own variability, and its table."""
    if command.out and (command.out.suffix != ".nc" or command.out.is_dir()):
        raise InputError(
            f"--out {command.out}: must be the name of a file that ends in .nc, for --shifts FILE.nc:SUBGROUP"
        )
    cohort = found(command)
    set_up_jax()
    import jax

    from rafmodel import own_variability, study

    path = command.out or Path(f"own_{cohort.name}.nc")
    study.writable(path.parent)
    group = command.group or ("site" if command.cohort in (None, "phantom") else None)
    posterior = own_variability.fit(jax.random.key(command.seed), cohort, group=group)
    study.save(posterior, path)
    print(own_variability.summary(posterior))
    if warning := own_variability.disagreement(posterior):
        print(f"rafmodel: {warning}", file=sys.stderr)
    groups = [str(name) for name in posterior["group"].values]
    print(
        f"\nposterior: {path}\nuse it: rafmodel predict --cohort {command.cohort or 'phantom'} --shifts {path}:{groups[-1]}"
    )


def found(command: Who, keep: tuple[str, ...] = (), *, classed: bool = True, on_disk: bool = False) -> "Cohort":
    """The cohort that a command asks for; ``keep`` names columns to carry along whatever their values.

    classed  whether images of a file are cases and controls; else the column of ``--label`` is an attribute
    on_disk  whether the command reads images a batch at a time, so that those above ``--memory`` may stay on disk
    """
    from rafmodel import cohort as cohorts
    from rafmodel.on_disk import OnDisk
    from rafmodel.sources.contrast import healthy_cases

    if not 0 < command.memory < 2**20:
        raise InputError(f"--memory {command.memory:g}: give GiB above 0, such as 4")

    if command.cohort in (None, *SYNTHETIC):
        import jax

        from rafmodel.phantoms import named

        cohort = named(command.cohort or SYNTHETIC[0], jax.random.key(0), command.size)
    elif _is_benchmark(command.cohort):
        from rafmodel import artefact

        cohort = artefact.whole(Path(command.cohort), command.size, command.memory * 2**30)
    else:
        cohort = cohorts.load(
            command.cohort,
            label=command.label,
            positive=list(command.positive) or None,
            negative=list(command.negative) or None,
            size=command.size,
            keep=keep,
            window=command.window,
            classed=classed,
            limit_bytes=int(command.memory * 2**30),
            on_disk=on_disk,
        )
        if isinstance(cohort.image, OnDisk):
            told = f"images stay on disk, {cohort.image.nbytes / 2**30:.3g} GiB in {cohort.image.path}"
            print(f"rafmodel: {told}", file=sys.stderr)
        if line := cohorts.left_out(cohort):
            print(f"rafmodel: {line}", file=sys.stderr)
        if line := healthy_cases(cohort.contrast):
            print(f"rafmodel: {line}", file=sys.stderr)
    cohorts.groups(cohort, command.group)  # an unknown attribute is told before anything is computed
    return cohort


def _is_benchmark(folder: str) -> bool:
    """Whether a folder holds both parts of a benchmark, as ``cohort make`` writes them."""
    return all((Path(folder) / side).is_dir() for side in ("public", "hidden"))


def studied(command: Who) -> "Cohort":
    """The cohort that a study or a prediction asks for, with cases and controls, else InputError."""
    cohort = found(command, on_disk=True)
    if not cohort.has_classes:
        few = ", ".join(sorted(cohort.attributes)) or "none here"
        hint = f"name a column with --label ({few}) and --positive"
        raise InputError(f"{cohort.name}: {cohort.contrast}, but a study needs cases and controls; {hint}")
    return cohort


def asked(command: Who, kind: str, names: tuple[str, ...]) -> "Cohort":
    """The cohort that a study or a prediction asks several questions: of its classes, findings or grades in a column."""
    if command.positive or command.negative:
        raise InputError(f"--positive and --negative: name cases and controls; with --task {kind} use --classes")
    cohort = found(command, classed=False, on_disk=True)
    from rafmodel import classes
    from rafmodel import cohort as cohorts

    usual = next((name for name in ("labels", "label") if name in cohort.attributes), "labels")
    made = classes.asked(cohort, command.label or usual, kind, names)
    cohorts.groups(made, command.group)  # the attribute may follow from the class
    return made


def make(command: Make) -> None:
    """A benchmark from a recipe, its card beside the public part, and what it came to."""
    from rafmodel import artefact, benchmark, card, recipe
    from rafmodel import audit as audits

    asked = recipe.read(command.recipe)
    key = asked.key if command.key is None else command.key
    if key is None:
        raise InputError(f"{command.recipe}: no `key`; add one, or give --key, which stays with the hidden part")
    made = benchmark.make(asked, benchmark.root(key))
    public, hidden = artefact.write(made, asked, key, command.out or Path("runs") / asked.name)
    cohort = artefact.in_order(made.cohort)
    facts = audits.audit(cohort, artefact.told(hidden.parent))
    card.write(facts, cohort, public.parent, pictures=card.may_show(facts), files=[public])
    print(artefact.summary(made))
    print(f"\npublic: {public}\ncard:   {public.with_name('card.html')}\nhidden: {hidden}")


def audit(command: Audit) -> None:
    """The card of a cohort."""
    from rafmodel import artefact, card, questions, sources
    from rafmodel import audit as audits

    folder, files = Path(command.cohort or "."), []
    if command.cohort and (folder / artefact.PROVENANCE).is_file():  # one part of a benchmark
        cohort, told = artefact.read(sources.find(folder), command.memory * 2**30), artefact.told(folder)
        files = [] if set(cohort.split) & {*artefact.HIDDEN} else [sources.find(folder)]
    else:
        cohort = found(command, keep=command.keep)
        whole = command.cohort is not None and _is_benchmark(command.cohort)
        told = artefact.told(folder / "hidden") if whole else {}
        files = [sources.find(folder / "public")] if whole else []
    facts = audits.audit(cohort, told, group=command.group)
    facts = replace(facts, withheld=()) if command.complete else facts
    out = command.out or Path("runs") / cohort.name
    paths = card.write(facts, cohort, out, pictures=command.pictures, files=files)
    print("\n".join(questions.beware(facts)))
    print("\n" + "\n".join(f"{path.suffix[1:]}: {path}" for path in paths))
