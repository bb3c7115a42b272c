"""What is in the benchmark cohorts?  Makes each recipe of ``recipes/`` and writes its card.

    python simulations/8_cards_of_the_benchmarks.py --out docs/cards

A folder a benchmark: card.md with its pictures, images.csv and croissant.json.  Images of patients are shown only where the
licence of every part clearly allows it.  A recipe whose cohort is not there is told and passed over.
"""

import io
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from PIL import Image

from rafmodel import artefact, benchmark, card, questions, recipe
from rafmodel.audit import audit
from rafmodel.errors import InputError
from rafmodel.files import atomically

HOME = Path(__file__).resolve().parents[1]
COLOURS = 128  # of a picture in the documentation


@dataclass(frozen=True)
class Options:
    """Which recipes, and where the cards go."""

    recipes: tuple[Path, ...] = ()
    """TOML files; default: all of recipes/"""
    out: Path | None = None
    """folder for the cards"""
    quick: bool = False
    """few patients of small phantoms: shows that the script runs"""


def small(asked: recipe.Recipe) -> recipe.Recipe:
    """The same recipe for few patients and pixels, without quotas that few cannot fill."""
    few = tuple(replace(one, patients=60) for one in asked.cohort)
    made = tuple(one for one in asked.challenging if one.variability)
    return replace(asked, cohort=few, size=32, mix=recipe.Mix(), challenging=made)


def lighter(data: bytes) -> bytes:
    """A PNG in few colours."""
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").quantize(COLOURS).save(file, "png", optimize=True)
    return file.getvalue()


def told(asked: recipe.Recipe, folder: Path | None) -> None:
    """One benchmark, made, read back as a user reads it, audited; the card into a folder."""
    made = benchmark.make(asked, benchmark.root(asked.key or 0))
    with tempfile.TemporaryDirectory() as place:
        artefact.write(made, asked, asked.key or 0, Path(place))
        cohort, facts = artefact.whole(Path(place)), artefact.told(Path(place) / "hidden")
    found = audit(cohort, facts)
    print(f"\n{asked.name}\n{artefact.summary(made)}", *questions.beware(found), sep="\n", flush=True)
    if folder is None:
        return
    with tempfile.TemporaryDirectory() as place:
        card.write(found, cohort, Path(place), pictures=card.may_show(found))
        for path in sorted(Path(place).rglob("*.*")):
            data = lighter(path.read_bytes()) if path.suffix == ".png" else path.read_bytes()
            if path.suffix != ".html":
                goal = folder / asked.name / path.relative_to(place)
                atomically(goal, lambda file, data=data: file.write(data))


def main(options: Options) -> None:
    """Every recipe in turn."""
    phantoms = "lung-airways", "cardiac-ultrasound"
    for path in options.recipes or sorted((HOME / "recipes").glob("*.toml")):
        asked = recipe.read(path)
        if options.quick and asked.name not in phantoms:
            continue
        try:
            told(small(asked) if options.quick else asked, options.out)
        except InputError as problem:
            print(f"\n{asked.name}: passed over: {problem}")


if __name__ == "__main__":
    main(tyro.cli(Options))
