"""Who was imaged: a labelled cohort, its patients, parts and subgroups, and how many there are of each."""

import hashlib
import itertools
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rafmodel import sources
from rafmodel.errors import InputError
from rafmodel.sources import SPLITS, NpzFile

if TYPE_CHECKING:
    from jax import Array

UNKNOWN = "unknown"  # the subgroup of those whose attribute is missing
_IDENTIFIERS = {"images", "labels", "masks", "split", "patient", "group", "image_id", "id", *sources.NOTES}
_MOST_GROUPS = 12


@dataclass(frozen=True, eq=False)
class Cohort:
    """Labelled images, who they are of, and which part of the study each belongs to.

    image       (N, H, W, C)  uint8, or float32 in [0, 1]
    label       (N,)  int8, 1 for a case and 0 for a control
    patient     (N,)  text; images of one patient are not independent
    split       (N,)  train, val or test; no patient is in two
    attributes  name -> (N,) text: the columns that can name subgroups, ages in bands
    contrast    what label 1 means against label 0, and how many images were left out
    mask        (N, H, W)  integer classes of the pixels, or None
    """

    image: np.ndarray
    label: np.ndarray
    patient: np.ndarray
    split: np.ndarray
    attributes: dict[str, np.ndarray]
    name: str
    source: str
    licence: str
    contrast: str
    mask: np.ndarray | None = None


def load(
    source: str | os.PathLike,
    *,
    label: str | None = None,
    positive: Sequence[str] | None = None,
    negative: Sequence[str] | None = None,
    size: int | None = None,
    keep: Sequence[str] = (),
    limit_bytes: int = 4 * 2**30,
) -> Cohort:
    """A cohort from an npz file, a folder with exactly one, or a name inside the folder RAFMODEL_DATA.

    label        column that holds the class (default ``labels``); in a list ``one|two`` any entry matches
    positive     values that make a case; default: the higher of two, the highest of several numbers
    negative     values that make a control; default: all others.  Images with neither are left out, counted
    size         images with a larger side are averaged by area to this many pixels a side, never enlarged
    keep         columns to carry as attributes whatever their values, as lists of findings
    limit_bytes  most memory that the file's headers may declare, images counted as float32

    Patients come from the column ``patient``, else ``group`` (near-duplicates), else every image is its own.
    An attribute is a column of 2 to 12 values that does not follow from the class.
    Raises InputError, in one line, for whatever is wrong with the file or with what is asked of it.
    """
    if size is not None and size < 1:
        raise InputError(f"size {size}: must be at least 1 pixel")
    file, column = sources.headers(sources.find(source)), label or "labels"
    sources.check(file, column, limit_bytes)
    text = sources.columns(file)
    split = _splits(file, text)
    patient = _patients(file, text, split)
    if column not in text:
        raise InputError(_no_such_label(file, text, column))
    y, contrast = _contrast(f"{file.path}: {column}", column, text[column], positive, negative)
    kept = np.flatnonzero(y >= 0)
    _check_classes(file, y[kept], split[kept], contrast)
    image, mask = sources.images(file)[kept], sources.masks(file)
    mask = None if mask is None else mask[kept]
    if size is not None and max(image.shape[1:3]) > size:
        image, mask = sources.shrink(image, size), None if mask is None else sources.thin(mask, size)
    missing = [name for name in keep if name not in text]
    if missing:
        raise InputError(f"{file.path}: no column '{missing[0]}' to keep; choose from {', '.join(text)}")
    attributes = {k: v[kept] for k, v in text.items() if k in keep or (k != column and k not in _IDENTIFIERS)}
    attributes = {k: np.where(v == "", UNKNOWN, v) for k, v in attributes.items()}
    attributes = {k: v for k, v in attributes.items() if k in keep or _names_subgroups(k, v, y[kept])}
    return Cohort(image, y[kept], patient[kept], split[kept], attributes, *_notes(file), contrast, mask)


def _splits(file: NpzFile, text: dict[str, np.ndarray]) -> np.ndarray:
    """Split of each image (N,), from its column or from MedMNIST's parts."""
    if file.by_part:
        parts = [name.removesuffix("_images") for name in file.columns["images"]]
        return np.repeat(parts, file.counts())
    if "split" not in text:
        raise InputError(f"{file.path}: no column `split`; add one of {'/'.join(SPLITS)}, patient by patient")
    wrong = np.flatnonzero(~np.isin(text["split"], SPLITS))
    if len(wrong):
        found = f"{str(text['split'][wrong[0]])!r} for image {wrong[0]}"
        raise InputError(f"{file.path}: split is {found}; use {'/'.join(SPLITS)} only")
    return text["split"]


def _patients(file: NpzFile, text: dict[str, np.ndarray], split: np.ndarray) -> np.ndarray:
    """Patient of each image (N,); none is missing, none is in two splits."""
    column = next((name for name in ("patient", "group") if name in text), None)
    if column is None:
        place = np.concatenate([np.arange(count) for count in file.counts()])
        return np.array([f"{s}-{i:05d}" for s, i in zip(split, place, strict=True)])
    patient = text[column]
    missing = np.flatnonzero(patient == "")
    if len(missing):
        problem = f"{column} is missing for {len(missing)} images, first image {missing[0]}"
        raise InputError(f"{file.path}: {problem}; name every patient")
    whereabouts = sorted({*zip(patient.tolist(), split.tolist(), strict=True)})
    for (one, first), (two, second) in itertools.pairwise(whereabouts):
        if one == two:
            problem = f"{column} {one!r} is in the splits {first} and {second}"
            raise InputError(f"{file.path}: {problem}; keep all images of a patient in one split")
    return patient


def _no_such_label(file: NpzFile, text: dict[str, np.ndarray], column: str) -> str:
    """What to say where the class is missing: the columns that could serve."""
    few = [k for k, v in text.items() if _few(k, v) or k == "labels" or any("|" in entry for entry in v)]
    hint = f"choose with --label from {', '.join(few)}" if few else "add one; no other column could serve"
    return f"{file.path}: no column '{column}' that holds the class; {hint}"


def _few(name: str, column: np.ndarray) -> bool:
    """Whether a column has few enough values to sort images by, and is no identifier."""
    few = 2 <= len(set(column.tolist()) - {""}) <= _MOST_GROUPS
    return few and name not in _IDENTIFIERS and not name.startswith("orig_")


def _names_subgroups(name: str, column: np.ndarray, label: np.ndarray) -> bool:
    """Whether a column can name subgroups: a few values, and not the class itself in other words."""
    mixed = set(column[label == 0].tolist()) & set(column[label == 1].tolist())
    return _few(name, column) and bool(mixed)


def _contrast(
    where: str,
    column: str,
    entries: np.ndarray,
    positive: Sequence[str] | None,
    negative: Sequence[str] | None,
) -> tuple[np.ndarray, str]:
    """Class of each image, (N,) int8, -1 for neither, and the contrast in words.

    An image whose list has both a positive and a negative value is a case.
    """
    distinct, code = np.unique(entries, return_inverse=True)
    lists = [set(entry.split("|")) - {""} for entry in distinct.tolist()]
    values = sorted(set().union(*lists), key=_by_number)
    cases, controls = _sides(where, values, positive, negative)
    y = np.array([1 if v & cases else 0 if v & controls else -1 for v in lists], np.int8)[code]
    rest = len(controls) > 6 and negative is None
    against = "the rest" if rest else ", ".join(v for v in values if v in controls) or "nothing"
    words = f"{column} {', '.join(v for v in values if v in cases)} against {against}"
    if len(values) > 2 and not positive and not negative:
        words += " (the highest against the rest)"
    left_out = int((y < 0).sum())
    return y, words + (f" ({left_out} of {len(y)} images have neither and are left out)" if left_out else "")


def _by_number(value: str) -> tuple[float, str]:
    """Key that sorts numbers by size and puts them before words."""
    try:
        return float(value), value
    except ValueError:
        return math.inf, value


def _sides(
    where: str, values: list[str], positive: Sequence[str] | None, negative: Sequence[str] | None
) -> tuple[set[str], set[str]]:
    """Values that make a case and values that make a control."""
    there = ", ".join(values[:20]) + (", ..." if len(values) > 20 else "")
    for asked in (*(positive or ()), *(negative or ())):
        if asked not in values:
            raise InputError(f"{where}: no image has the value '{asked}'; choose from {there}")
    both = set(positive or ()) & set(negative or ())
    if both:
        raise InputError(f"{where}: '{min(both)}' is asked to be positive and negative; leave one out")
    if not positive and not negative:
        if len(values) > 2 and _by_number(values[-1])[0] == math.inf:
            raise InputError(f"{where}: {len(values)} values; name those of a case with --positive: {there}")
        positive = values[-1:]
    cases = set(positive) if positive else set(values) - set(negative or ())
    return cases, set(negative) if negative else set(values) - cases


def _check_classes(file: NpzFile, label: np.ndarray, split: np.ndarray, contrast: str) -> None:
    """Both classes are needed where a model is trained and where it is judged."""
    for part in ("train", "test"):
        n_control, n_case = (int(((split == part) & (label == c)).sum()) for c in (0, 1))
        if not (n_case and n_control):
            found = f"{n_case} cases and {n_control} controls"
            hint = "both classes are needed there, choose another contrast or split"
            raise InputError(f"{file.path}: split '{part}' holds {found} ({contrast}); {hint}")


def _notes(file: NpzFile) -> tuple[str, str, str]:
    """Name, source and licence, as far as the file states them; the name is fit for a folder."""
    name, source, licence = (sources.note(file, field) for field in sources.NOTES)
    name = re.sub(r"[^\w.+-]+", "_", name or file.path.stem)[:80].strip("._") or "cohort"
    return name, source or "not stated in the file", licence or "not stated in the file"


# ---- parts, pixels, subgroups


def take(cohort: Cohort, index: np.ndarray) -> Cohort:
    """The images that ``index`` (positions or a mask) picks, in its order."""
    rows = {k: getattr(cohort, k)[index] for k in ("image", "label", "patient", "split")}
    columns = {name: column[index] for name, column in cohort.attributes.items()}
    mask = None if cohort.mask is None else cohort.mask[index]
    return replace(cohort, **rows, attributes=columns, mask=mask)


def part(cohort: Cohort, split: str) -> Cohort:
    """The images of one split; none where the cohort has none."""
    if split not in SPLITS:
        raise InputError(f"split '{split}': choose from {', '.join(SPLITS)}")
    return take(cohort, cohort.split == split)


def around_pixels(cohort: Cohort, key: "Array", *, side: int, each: int) -> Cohort:
    """Patches of ``side`` pixels around drawn pixels: a case where the pixel belongs to the structure of the mask.

    A dense probe as a cohort: what it scores is the AUC of pixels, and the receptive field is the patch.  Of every image that has
    the structure ``each`` pixels of it are drawn and as many beside it, at most half a side away; borders are extended.
    Raises InputError where the cohort has no masks, or an image fewer pixels than are to be drawn.
    """
    import jax  # here, so that reading a cohort does not wait for it
    from scipy.ndimage import maximum_filter

    if cohort.mask is None:
        raise InputError(f"{cohort.name}: has no masks, so its pixels have no class; use a cohort with `masks`")
    inside = cohort.mask > 0
    seen = inside.any((1, 2))
    near = np.asarray(maximum_filter(inside, (1, side + 1, side + 1)), bool) & ~inside
    n, height, width = inside.shape
    drawn = np.asarray(jax.random.uniform(key, (n, height * width)))
    flat = np.stack([near, inside]).reshape(2, n, -1)
    if (flat[:, seen].sum(-1) < each).any():
        raise InputError(f"{cohort.name}: an image has fewer than {each} pixels in or beside its structure; draw fewer")
    chosen = np.argpartition(np.where(flat, drawn, -1), -each, axis=-1)[..., -each:][:, seen]  # class, image, pixel
    rows, columns = (np.concatenate(part, 1).ravel() for part in np.unravel_index(chosen, (height, width)))
    picked = take(cohort, np.repeat(np.flatnonzero(seen), 2 * each))
    half, offset = side // 2, np.arange(side)
    padded = np.pad(cohort.image, ((0, 0), (half, half), (half, half), (0, 0)), mode="edge")
    which = np.repeat(np.flatnonzero(seen), 2 * each)[:, None, None]
    patches = padded[which, (rows[:, None] + offset)[:, :, None], (columns[:, None] + offset)[:, None, :]]
    label = np.tile(np.repeat([0, 1], each), seen.sum()).astype(np.int8)
    contrast = f"pixels of the structure against pixels beside it, in patches of {side}"
    return replace(picked, image=patches, label=label, contrast=contrast, name=f"{cohort.name}_pixels", mask=None)


def threshold_split(cohort: Cohort) -> str:
    """The split to set a threshold on: ``val`` where it has both classes, else ``train``, which must have."""
    return "val" if len(set(cohort.label[cohort.split == "val"].tolist())) == 2 else "train"


def pixels(cohort: Cohort) -> np.ndarray:
    """Images (N, H, W, C) as float32 in [0, 1]."""
    if cohort.image.dtype == np.uint8:
        return cohort.image.astype(np.float32) / np.float32(255)
    return cohort.image.astype(np.float32, copy=False)


def groups(cohort: Cohort, attribute: str | None) -> tuple[list[str], np.ndarray]:
    """Sorted names of an attribute's subgroups and each image's place among them (N,); None has no subgroups.

    Raises InputError, listing the attributes there are, when the cohort does not carry this one.
    """
    if attribute is None:
        return [], np.zeros(len(cohort.label), np.int64)
    if attribute not in cohort.attributes:
        there = ", ".join(sorted(cohort.attributes))
        hint = f"choose from {there}" if there else "this cohort carries none, ask without subgroups"
        raise InputError(f"{cohort.name}: no attribute '{attribute}' that names subgroups; {hint}")
    names, code = np.unique(cohort.attributes[attribute], return_inverse=True)
    return names.tolist(), code


# ---- counts


def statistics(cohort: Cohort, attribute: str | None = None) -> list[dict[str, Any]]:
    """One row per split, class and subgroup: images, patients, mean and s.d. of the pixels in [0, 1].

    A cell without images has counts of 0 and intensities of nan.
    """
    names, code = groups(cohort, attribute)
    scale = 255 if cohort.image.dtype == np.uint8 else 1
    mean = np.array([x.mean(dtype=np.float64) for x in cohort.image]) / scale  # one by one, to spare memory
    variance = np.array([x.var(dtype=np.float64) for x in cohort.image]) / scale**2
    rows = []
    for split, label, (g, name) in itertools.product(SPLITS, (0, 1), enumerate(names or ["all"])):
        cell = (cohort.split == split) & (cohort.label == label) & (code == g)
        row = {"split": split, "label": label, "group": name, "images": int(cell.sum())}
        row["patients"] = len(set(cohort.patient[cell].tolist()))
        row["mean"] = row["sd"] = math.nan
        if cell.any():  # all images have one size, so within- and between-image variances add up
            row["mean"] = float(mean[cell].mean())
            row["sd"] = math.sqrt(variance[cell].mean() + mean[cell].var())
        rows.append(row)
    return rows


def describe(cohort: Cohort, attribute: str | None = None) -> str:
    """Plain-text account of a cohort: what it is, where it is from, and the counts of ``statistics``."""
    shape = " x ".join(map(str, cohort.image.shape[1:]))
    named = [f"{name} ({', '.join(groups(cohort, name)[0])})" for name in sorted(cohort.attributes)]
    facts = {
        "cohort": cohort.name,
        "images": f"{len(cohort.label)} of {shape}, {len(set(cohort.patient.tolist()))} patients",
        "contrast": cohort.contrast,
        "threshold": f"set on {threshold_split(cohort)}",
        "attributes": "; ".join(named) or "none",
        "source": cohort.source,
        "licence": cohort.licence,
    }
    rows = [list(row.values()) for row in statistics(cohort, attribute)]
    cells = [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    cells.insert(0, ["split", "label", attribute or "group", "images", "patients", "mean", "s.d."])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    table = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    return "\n".join([*(f"{name:12s}{fact}" for name, fact in facts.items()), "", *table])


def fingerprint(cohort: Cohort) -> str:
    """SHA-256, in hex, of what can change a result: pixels, labels, split, patients, attributes, contrast."""
    attributes = {name: column.tolist() for name, column in sorted(cohort.attributes.items())}
    columns = (cohort.label.tolist(), cohort.split.tolist(), cohort.patient.tolist(), attributes)
    facts = (cohort.contrast, columns, cohort.image.shape, str(cohort.image.dtype))
    digest = hashlib.sha256(repr(facts).encode())  # text by value: numpy pads it to the longest entry
    digest.update(np.ascontiguousarray(cohort.image).data)
    return digest.hexdigest()
