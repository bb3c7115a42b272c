"""A benchmark on disk: a public part (train, validation) and a hidden part (test) in two folders that travel apart.

``FOLDER/public`` and ``FOLDER/hidden`` hold one npz and one provenance file each, the first the card too; nothing in the first is
about a single image or patient of the second.  What the organisers keep, key and recipe among it, is with the hidden part.
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
from rafmodel.sources.stored import sound

PUBLIC, HIDDEN = ("train", "val"), ("test",)
PROVENANCE = "provenance.json"
_ROWS = ("images", "labels", "masks", "patient", "split", "spacing")
_TEXTS = ("name", "source", "licence", "contrast")
_NOTES = (*_TEXTS, "dims", "oriented")
_NOTE_BYTES = 2**20  # of a single text
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


def in_order(cohort: Cohort) -> Cohort:
    """The images in the order in which ``join`` gives them: the public part first."""
    return cohorts.take(cohort, np.argsort(np.isin(cohort.split, HIDDEN), kind="stable"))


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
    delivered = {name: f"{value:.3f}" for name, value in far["delivered"].items()}
    chance = (
        f"at random {delivered['energy_distance_at_random']}, 95 % below {delivered['energy_distance_at_random_95']}"
    )
    return "\n".join([*lines, f"{told} (0.5 at random), energy distance {delivered['energy_distance']} ({chance})"])


def _shown(value: Any) -> str:
    return ", ".join(f"{k} {v:.3f}" for k, v in value.items()) if isinstance(value, dict) else f"{value:.3f}"


# ---- reading


def whole(folder: Path, size: int | None = None, limit_bytes: float = LIMIT_BYTES) -> Cohort:
    """The benchmark in a folder that holds both parts, larger images averaged to ``size`` pixels a side."""
    cohort = join(sources.find(folder / "public"), sources.find(folder / "hidden"), limit_bytes)
    old = np.array(cohort.image.shape[1:-1])
    if size is None or max(old) <= size:
        return cohort
    mask = None if cohort.mask is None else sources.thin(cohort.mask, size)
    image = sources.shrink(cohort.image, size)
    spacing = None if cohort.spacing is None else cohort.spacing * old / np.array(image.shape[1:-1])
    return replace(cohort, image=image, mask=mask, spacing=spacing)


def told(folder: Path) -> dict[str, Any]:
    """The provenance of the part in a folder.  Raises InputError where it is missing or damaged."""
    try:
        found = json.loads((folder / PROVENANCE).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise InputError(f"{folder / PROVENANCE}: cannot be read ({problem}); make the benchmark again") from None
    if not isinstance(found, dict) or not isinstance(found.get("sha256"), dict):
        raise InputError(f"{folder / PROVENANCE}: states no `sha256`; make the benchmark again")
    return found


def join(public: Path, hidden: Path, limit_bytes: float = LIMIT_BYTES) -> Cohort:
    """The whole benchmark from its two npz files; raises InputError where they do not belong together.

    limit_bytes  most memory that both may take, images counted as float32
    """
    one = read(public, limit_bytes)
    other = read(hidden, max(limit_bytes - 4 * one.image.size, 0))
    if one.name != other.name or one.image.shape[1:] != other.image.shape[1:]:
        raise InputError(
            f"{hidden}: is of '{other.name}', but {public} is of '{one.name}'; give parts of one benchmark"
        )
    shared = set(one.patient.tolist()) & set(other.patient.tolist())
    if shared:
        raise InputError(f"{hidden}: patient {min(shared)} is in {public} too; make the benchmark again")
    _check_digests(public, hidden)
    lacking = sorted(one.attributes.keys() ^ other.attributes.keys())
    if lacking or (one.mask is None) != (other.mask is None):
        raise InputError(
            f"{hidden}: {public} differs in {lacking[0] if lacking else 'masks'}; make the benchmark again"
        )
    rows = {k: np.concatenate([getattr(one, k), getattr(other, k)]) for k in ("image", "label", "patient", "split")}
    columns = {k: np.concatenate([v, other.attributes[k]]) for k, v in one.attributes.items()}
    both = [c.mask for c in (one, other) if c.mask is not None]
    spacing = [c.spacing for c in (one, other) if c.spacing is not None]
    more = {
        "mask": np.concatenate(both) if both else None,
        "spacing": np.concatenate(spacing) if len(spacing) == 2 else None,
    }
    return replace(one, **rows, attributes=columns, **more)


def _check_digests(public: Path, hidden: Path) -> None:
    """Raises InputError where a file is not the one that provenance beside the public part states."""
    stated = told(public.parent)
    wanted = {public: stated["sha256"].get(public.name), hidden: stated.get("sha256_of_the_hidden_part")}
    for path, digest in wanted.items():
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            where = public.with_name(PROVENANCE)
            raise InputError(
                f"{path}: its SHA-256 is {found[:12]}..., {where} states {str(digest)[:12]}...; fetch both again"
            )


def read(path: Path, limit_bytes: float = LIMIT_BYTES) -> Cohort:
    """One part of a benchmark as a cohort; label -1 where it has no classes.  Raises InputError for any other file.

    limit_bytes  most memory that it may take, images counted as float32; told from headers before anything is decoded
    """
    file = npz.headers(path)
    if file.by_part or not {"images", "patient", "split", ORIGIN, *_NOTES} <= file.columns.keys():
        raise InputError(f"{path}: no part of a benchmark; make one with `rafmodel cohort make`")
    npz.check(file, None, int(limit_bytes))
    _check_headers(file)
    dims, shape = int(file.read("dims")), file.columns["images"]["images"].shape
    if dims not in (2, 3) or len(shape) not in (1 + dims, 2 + dims):
        raise InputError(f"{path}: dims {dims}, but images have shape {shape}; fetch the file again")
    _check_shapes(file, shape[1 : 1 + dims])
    image = sound(path, np.ascontiguousarray(file.read("images")))
    image = image if image.ndim == 2 + dims else image[..., None]
    held: Mapping[str, np.ndarray] = {name: file.read(name) for name in file.columns if name not in ("images", "dims")}
    label = held.get("labels", np.full(len(image), -1, np.int8))
    _check_entries(path, label, held["split"], held.get("spacing"))
    pairs = set(zip(held["patient"].tolist(), held["split"].tolist(), strict=True))
    if len(pairs) > len({patient for patient, _ in pairs}):
        raise InputError(f"{path}: a patient is in two of its splits; fetch the file again")
    columns = {k: v for k, v in held.items() if k not in (*_ROWS, *_NOTES)}
    rows = {"image": image, "label": label, "patient": held["patient"], "split": held["split"]}
    more = {"mask": held.get("masks"), "spacing": held.get("spacing"), "oriented": bool(held["oriented"])}
    return Cohort(**rows, attributes=columns, **{name: str(held[name]) for name in _TEXTS}, **more)


def _check_headers(file: npz.NpzFile) -> None:
    """Single entries of the right type, and one text an image in every other column."""
    kinds = {**dict.fromkeys(_TEXTS, "U"), "dims": "iu", "oriented": "b"}
    for name in file.columns:
        kind, sides = file.dtype(name).kind, file.columns[name][name].shape
        if name in kinds and (sides != () or kind not in kinds[name] or file.dtype(name).itemsize > _NOTE_BYTES):
            raise InputError(f"{file.path}: {name} has shape {sides} and type {file.dtype(name)}; fetch the file again")
        text = name not in kinds and name not in ("images", "labels", "masks", "spacing")
        if text and not (file.fits(name) and kind == "U"):
            raise InputError(f"{file.path}: {name} has shape {sides} and type {file.dtype(name)}, but is text an image")


def _check_shapes(file: npz.NpzFile, space: tuple[int, ...]) -> None:
    """Labels, masks and spacing, where there are any, fit images with so many pixels a side."""
    wanted = {"labels": ((), "biu"), "masks": (space, "biu"), "spacing": ((len(space),), "f")}
    for name in wanted.keys() & file.columns.keys():
        sides, kinds = wanted[name]
        if not file.fits(name, *sides) or file.dtype(name).kind not in kinds:
            found = f"shape {file.columns[name][name].shape} and type {file.dtype(name)}"
            raise InputError(f"{file.path}: {name} has {found} for {sum(file.counts())} images; fetch the file again")


def _check_entries(path: Path, label: np.ndarray, split: np.ndarray, spacing: np.ndarray | None) -> None:
    """Labels are 0 or 1 (-1 where there is none), parts have their names, and lengths are above 0."""
    wrong: dict[str, Any] = {"labels": ~np.isin(label, (-1, 0, 1)), "split": ~np.isin(split, PUBLIC + HIDDEN)}
    if spacing is not None:
        unknown = np.isnan(spacing).all(1)
        wrong["spacing"] = ~(((spacing > 0) & np.isfinite(spacing)).all(1) | unknown)
    for name, where in wrong.items():
        if where.any():
            values = {"labels": label, "split": split, "spacing": spacing}[name]
            raise InputError(
                f"{path}: {name} of image {where.argmax()} is {values[where.argmax()]!s:.40}; fetch the file again"
            )
