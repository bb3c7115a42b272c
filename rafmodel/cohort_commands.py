"""``rafmodel cohort …``: who is in a cohort, and which cohorts there are."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from rafmodel.errors import InputError

if TYPE_CHECKING:
    from rafmodel.cohort import Cohort

SYNTHETIC = ("phantom", "cardiac-ultrasound")


@dataclass(frozen=True)
class Who:
    """Which cohort, and what is asked of it."""

    cohort: str | None = None
    """npz file, folder with one, name inside $RAFMODEL_DATA, or cardiac-ultrasound (synthetic).  Default: the phantom."""
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


@dataclass(frozen=True)
class Show(Who):
    """Print who is in a cohort: counts by split, class and subgroup, licence and source."""

    variability: tuple[str, ...] = ()
    """Variabilities of the contact sheet, or ``all`` that suit the images.  Default: the eight of a plain study."""
    sheet: Path | None = None
    """PNG or PDF file for a contact sheet of the variabilities at every level.  Default: variability.png if some are named."""


@dataclass(frozen=True)
class List:
    """Name the cohorts that ``--cohort`` can be given: the synthetic ones and those in the folder RAFMODEL_DATA."""


@dataclass(frozen=True)
class Make:
    """Build a benchmark cohort from a recipe: a public part and a hidden part that never travel together."""

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
    pictures: bool = True
    """Whether the card shows images; without, it can be passed on where the images cannot."""
    out: Path | None = None
    """Folder for the card.  Default: runs/COHORT."""


Action = (
    Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Make, tyro.conf.subcommand("make")]
    | Annotated[Audit, tyro.conf.subcommand("audit")]
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
        case Make():
            make(action)
        case Audit():
            audit(action)


def list_names() -> None:
    """A line for every cohort that has a name here."""
    print("\n".join(f"{name:24s}synthetic" for name in SYNTHETIC))
    home = os.environ.get("RAFMODEL_DATA")
    if home is None:
        print("(RAFMODEL_DATA is not set: no real cohort has a name)")
        return
    for file in sorted([*Path(home).glob("*.npz"), *Path(home).glob("*/*.npz")]):
        alone = file.parent == Path(home) or len(list(file.parent.glob("*.npz"))) == 1
        name = file.stem if file.parent == Path(home) else file.parent.name
        print(f"{name if alone else file}".ljust(24) + f"  {file.stat().st_size / 2**20:.1f} MiB")


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


def found(command: Who, keep: tuple[str, ...] = ()) -> "Cohort":
    """The cohort that a command asks for; ``keep`` names columns to carry along whatever their values."""
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
            keep=keep,
        )
    cohorts.groups(cohort, command.group)  # an unknown attribute is told before anything is computed
    return cohort


def make(command: Make) -> None:
    """A benchmark from a recipe, and what it came to."""
    from rafmodel import artefact, benchmark, recipe

    asked = recipe.read(command.recipe)
    key = asked.key if command.key is None else command.key
    if key is None:
        raise InputError(f"{command.recipe}: no `key`; add one, or give --key, which stays with the hidden part")
    made = benchmark.make(asked, benchmark.root(key))
    public, hidden = artefact.write(made, asked, key, command.out or Path("runs") / asked.name)
    print(artefact.summary(made))
    print(f"\npublic: {public}\nhidden: {hidden}")


def audit(command: Audit) -> None:
    """The card of a cohort."""
    from rafmodel import artefact, card, questions
    from rafmodel import audit as audits

    folder = Path(command.cohort or "")
    if command.cohort and artefact.is_one(folder):
        cohort, told = artefact.whole(folder), artefact.told(folder)
    else:
        cohort, told = found(command, keep=command.keep), {}
    facts = audits.audit(cohort, told, group=command.group)
    paths = card.write(facts, cohort, command.out or Path("runs") / cohort.name, pictures=command.pictures)
    print("\n".join(questions.beware(facts)))
    print("\n" + "\n".join(f"{path.suffix[1:]}: {path}" for path in paths))
