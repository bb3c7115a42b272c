"""``rafmodel cohort …``: who is in a cohort, and which cohorts there are."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from rafmodel.errors import InputError

if TYPE_CHECKING:
    from rafmodel.cohort import Cohort

SYNTHETIC = ("phantom", "cardiac-ultrasound")


@dataclass(frozen=True)
class Who:
    """Which cohort, and what is asked of it."""

    cohort: str | None = None
    """npz file, csv beside images, folder with one, name of ``cohort list``, or cardiac-ultrasound.  Default: the phantom."""
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


@dataclass(frozen=True)
class Show(Who):
    """Print who is in a cohort: counts by split, class and subgroup, licence and source."""

    variability: tuple[str, ...] = ()
    """Variabilities of the contact sheet, or ``all`` that suit the images.  Default: the eight of a plain study."""
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


Action = (
    Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Fetch, tyro.conf.subcommand("fetch")]
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
    cohort = found(command)
    from rafmodel.cohort import describe

    print(describe(cohort, command.group))
    if command.sheet or command.variability:
        from rafmodel import plot, variability

        path = command.sheet or Path("variability.png")
        plot.contact_sheet(cohort, path, variability.suited(command.variability, cohort.image.shape[1:]))
        print(f"\ncontact sheet: {path}")


def found(command: Who) -> "Cohort":
    """The cohort that a command asks for."""
    from rafmodel import cohort as cohorts

    if command.cohort in (None, *SYNTHETIC):
        import jax

        from rafmodel.phantoms import named

        cohort = named(command.cohort or SYNTHETIC[0], jax.random.key(0), command.size)
    else:
        cohort = cohorts.load(
            command.cohort,
            label=command.label,
            positive=list(command.positive) or None,
            negative=list(command.negative) or None,
            size=command.size,
            window=command.window,
        )
        if line := cohorts.left_out(cohort):
            print(f"rafmodel: {line}", file=sys.stderr)
    cohorts.groups(cohort, command.group)  # an unknown attribute is told before anything is computed
    return cohort


def studied(command: Who) -> "Cohort":
    """The cohort that a study or a prediction asks for: 2D images of two classes, else InputError."""
    cohort = found(command)
    if not cohort.has_classes:
        few = ", ".join(sorted(cohort.attributes)) or "none here"
        hint = f"name a column with --label ({few}) and --positive"
        raise InputError(f"{cohort.name}: {cohort.contrast}, but a study needs cases and controls; {hint}")
    if cohort.image.ndim != 4:
        sides = " x ".join(map(str, cohort.image.shape[1:-1]))
        hint = "store slices (N, H, W), or look at it with `rafmodel cohort show`"
        raise InputError(f"{cohort.name}: images are volumes of {sides}, but encoders are 2D so far; {hint}")
    return cohort
