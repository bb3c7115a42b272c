"""A benchmark on disk: a public part (train, validation) and a hidden part (test) in two folders that travel apart.

``FOLDER/public`` and ``FOLDER/hidden`` hold one npz and one provenance file each; nothing in the first is about an image or a
patient of the second.  What the organisers keep, key and recipe among it, is with the hidden part.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rafmodel import __version__, sources
from rafmodel import cohort as cohorts
from rafmodel.benchmark import Made
from rafmodel.cohort import Cohort
from rafmodel.errors import InputError
from rafmodel.files import atomically
from rafmodel.gather import ORIGIN
from rafmodel.recipe import Recipe
from rafmodel.sources import npz

PUBLIC, HIDDEN = ("train", "val"), ("test",)
PROVENANCE = "provenance.json"
_ROWS = ("images", "labels", "masks", "patient", "split", "spacing")
_TEXTS = ("name", "source", "licence", "contrast")
_NOTES = (*_TEXTS, "dims", "oriented")
LIMIT_BYTES = 4 * 2**30


# ---- writing


def write(made: Made, recipe: Recipe, key: int | str, folder: Path) -> tuple[Path, Path]:
    """Both parts into ``folder``; their npz files.  Same benchmark, same bytes."""
    paths = []
    hidden = archive(_of(made.cohort, HIDDEN))
    for side, splits, data in (("public", PUBLIC, None), ("hidden", HIDDEN, hidden)):
        data = archive(_of(made.cohort, splits)) if data is None else data
        path = folder / side / f"{recipe.name}-{side}.npz"
        told = provenance(made, recipe, splits if side == "public" else PUBLIC + HIDDEN)
        told["sha256"] = {path.name: hashlib.sha256(data).hexdigest()}
        told["sha256_of_the_hidden_part"] = hashlib.sha256(hidden).hexdigest()
        if side == "hidden":
            told["key"] = key
        atomically(path, lambda file, data=data: file.write(data))
        text = json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        atomically(path.with_name(PROVENANCE), lambda file, text=text: file.write(text.encode()))
        paths.append(path)
    return paths[0], paths[1]


def _of(cohort: Cohort, splits: tuple[str, ...]) -> Cohort:
    return cohorts.take(cohort, np.isin(cohort.split, splits))


def archive(cohort: Cohort) -> bytes:
    """The npz file of a cohort: columns as ``cohort.load`` reads them, attributes as text, no date."""
    image = cohort.image[..., 0] if cohort.image.shape[-1] == 1 else cohort.image
    arrays: dict[str, Any] = {"images": image, "patient": cohort.patient, "split": cohort.split}
    if (cohort.label >= 0).all():
        arrays["labels"] = cohort.label
    optional = {"masks": cohort.mask, "spacing": cohort.spacing}
    arrays |= {name: values for name, values in optional.items() if values is not None}
    arrays |= {name: getattr(cohort, name) for name in (*_TEXTS, "oriented")} | {"dims": cohort.image.ndim - 2}
    taken = sorted(arrays.keys() & cohort.attributes.keys())
    if taken:
        raise InputError(f"{cohort.name}: an attribute is called '{taken[0]}', which means something else; rename it")
    arrays |= {k: v.astype(str) for k, v in cohort.attributes.items()}
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **{name: _tight(arrays[name]) for name in sorted(arrays)})
    return file.getvalue()


def _tight(values: Any) -> np.ndarray:
    """Text as wide as its longest entry, so that bytes depend on values alone."""
    found = np.asarray(values)
    return np.array(found.tolist(), dtype=str) if found.dtype.kind == "U" else np.asarray(found, order="C")


def provenance(made: Made, recipe: Recipe, splits: tuple[str, ...]) -> dict[str, Any]:
    """All that was decided and measured, per image only for the images of some splits, without the key."""
    here = set(made.cohort.attributes[ORIGIN][np.isin(made.cohort.split, splits)].tolist())
    asked = {name: value for name, value in asdict(recipe).items() if name != "key"}
    return {
        **made.facts,
        "recipe": asked,
        "records": [record for record in made.records if record["origin"] in here],
        "versions": {"rafmodel": __version__, "jax": jax.__version__, "numpy": np.__version__},
    }


def summary(made: Made) -> str:
    """What the benchmark came to, part by part, and how far out its test part lies."""
    lines = [f"{step}: {n['images']} images of {n['patients']} patients" for step, n in made.facts["counts"].items()]
    for part, reached in made.facts["parts"].items():
        shares = [f"{k} {_shown(v)}" for k, v in reached.items() if k not in ("images", "patients")]
        lines.append(f"{part}: {reached['images']} images of {reached['patients']} patients; {'; '.join(shares)}")
    far = made.facts["out_of_distribution"]
    told = f"degree {far['degree']:g} in {far['space']}: separation {far['delivered']['separation']:.3f}"
    return "\n".join([*lines, f"{told} (0.5 at random), energy distance {far['delivered']['energy_distance']:.3f}"])


def _shown(value: Any) -> str:
    return ", ".join(f"{k} {v:.3f}" for k, v in value.items()) if isinstance(value, dict) else f"{value:.3f}"


# ---- reading


def whole(folder: Path, size: int | None = None) -> Cohort:
    """The benchmark in a folder that holds both parts, larger images averaged to ``size`` pixels a side."""
    cohort = join(*(sources.find(folder / side) for side in ("public", "hidden")))
    if size is None or max(cohort.image.shape[1:-1]) <= size:
        return cohort
    mask = None if cohort.mask is None else sources.thin(cohort.mask, size)
    return replace(cohort, image=sources.shrink(cohort.image, size), mask=mask, spacing=None)


def told(folder: Path) -> dict[str, Any]:
    """The provenance of the part in a folder.  Raises InputError where it is missing or damaged."""
    try:
        return json.loads((folder / PROVENANCE).read_text("utf-8"))
    except (OSError, ValueError) as problem:
        raise InputError(f"{folder / PROVENANCE}: cannot be read ({problem}); make the benchmark again") from None


def join(public: Path, hidden: Path) -> Cohort:
    """The whole benchmark from its two npz files; raises InputError where they do not belong together."""
    one, other = read(public), read(hidden)
    if one.name != other.name or one.image.shape[1:] != other.image.shape[1:]:
        raise InputError(
            f"{hidden}: is of '{other.name}', but {public} is of '{one.name}'; give parts of one benchmark"
        )
    shared = set(one.patient.tolist()) & set(other.patient.tolist())
    if shared:
        raise InputError(f"{hidden}: patient {min(shared)} is in {public} too; make the benchmark again")
    rows = {k: np.concatenate([getattr(one, k), getattr(other, k)]) for k in ("image", "label", "patient", "split")}
    columns = {k: np.concatenate([v, other.attributes[k]]) for k, v in one.attributes.items()}
    both = [c.mask for c in (one, other) if c.mask is not None]
    more = _spacing([c.spacing for c in (one, other)])
    return replace(one, **rows, attributes=columns, mask=np.concatenate(both) if len(both) == 2 else None, **more)


def _spacing(parts: list[np.ndarray | None]) -> dict[str, Any]:
    known = [part for part in parts if part is not None]
    return {"spacing": np.concatenate(known)} if known and len(known) == len(parts) else {}


def read(path: Path) -> Cohort:
    """One part of a benchmark as a cohort; label -1 where it has no classes.  Raises InputError for any other file."""
    file = npz.headers(path)
    heads = {name: header for column in file.columns.values() for name, header in column.items()}
    if not {"images", "patient", "split", ORIGIN, *_NOTES} <= heads.keys():
        raise InputError(f"{path}: no part of a benchmark; make one with `rafmodel cohort make`")
    total = sum(np.prod(head.shape, dtype=float) * head.dtype.itemsize for head in heads.values())
    if total > LIMIT_BYTES or any(head.dtype.hasobject for head in heads.values()):
        raise InputError(f"{path}: declares {total / 2**30:.3g} GiB or pickled objects; fetch the file again")
    held: Mapping[str, np.ndarray] = {name: file.read(name) for name in heads}
    image = held["images"] if held["images"].ndim == 2 + int(held["dims"]) else held["images"][..., None]
    label = held.get("labels", np.full(len(image), -1, np.int8))
    notes = {name: str(held[name]) for name in _TEXTS}
    columns = {k: v for k, v in held.items() if k not in (*_ROWS, *_NOTES)}
    more = _spacing([held.get("spacing")])
    rows = {"image": image, "label": label, "patient": held["patient"], "split": held["split"]}
    return Cohort(**rows, attributes=columns, mask=held.get("masks"), oriented=bool(held["oriented"]), **notes, **more)
