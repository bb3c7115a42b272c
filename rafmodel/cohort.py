"""Who was imaged: a labelled cohort, its patients, parts and subgroups, and how many there are of each."""

import hashlib
import itertools
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from rafmodel import sources
from rafmodel.asked import BINARY, Asked
from rafmodel.errors import InputError
from rafmodel.on_disk import OnDisk, batches, taken
from rafmodel.sources import SPLITS, Stored, Window
from rafmodel.sources.contrast import contrast as binary

UNKNOWN = "unknown"  # the subgroup of those whose attribute is missing
NO_CLASSES = "none: masks only"  # the contrast of images without any class
_IDENTIFIERS = {
    "images",
    "labels",
    "label",
    "masks",
    "split",
    "patient",
    "group",
    "image_id",
    "id",
    "spacing",
    *sources.NOTES,
}
_IDENTIFIERS |= {"file", "image", "mask", "frame"}
_MOST_GROUPS = 12
_MOST_NAMED = 3  # unreadable files in one line


@dataclass(frozen=True, eq=False)
class Cohort:
    """Labelled images, who they are of, and which part of the study each belongs to.

    image       (N, *space, C)  uint8, or float32 in [0, 1]; two or three axes of space; in memory, or read from disk by rows
    label       (N,)  whole numbers, 1 for a case and 0 for a control, or codes of ``asked``; -1 for every image without a class
    patient     (N,)  text; images of one patient are not independent
    split       (N,)  train, val or test; no patient is in two
    attributes  name -> (N,) text: the columns that can name subgroups, ages in bands
    contrast    what label 1 means against label 0, and how many images were left out
    mask        (N, *space)  integer classes of the pixels, or None
    spacing     (N, dims)  mm between pixel centres along each axis of space, nan where not known, or None
    oriented    whether the axes of volumes point to the patient's right, front and head; else they are as stored
    notes       how stored values became [0, 1], and what else was done to the images
    unreadable  a line for each image that was left out because its file is broken
    asked       what labels say
    """

    image: np.ndarray  # or OnDisk, where ``load`` was asked for it: who asks reads by rows
    label: np.ndarray
    patient: np.ndarray
    split: np.ndarray
    attributes: dict[str, np.ndarray]
    name: str
    source: str
    licence: str
    contrast: str
    mask: np.ndarray | None = None
    spacing: np.ndarray | None = None
    oriented: bool = False
    notes: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    asked: Asked = BINARY

    @property
    def has_classes(self) -> bool:
        """Whether images are cases and controls."""
        return bool((self.label >= 0).any())


def load(
    source: str | os.PathLike,
    *,
    label: str | None = None,
    positive: Sequence[str] | None = None,
    negative: Sequence[str] | None = None,
    size: int | None = None,
    keep: Sequence[str] = (),
    window: Window = None,
    classed: bool = True,
    limit_bytes: int = 4 * 2**30,
    on_disk: bool = False,
) -> Cohort:
    """A cohort from an npz file, a csv beside its images, a folder with exactly one of them, or a name.

    A name is one inside the folder RAFMODEL_DATA, or of a cohort that was fetched.

    label        column that holds the class (default ``labels`` or ``label``); in a list ``one|two`` any entry matches
    positive     values that make a case; default: the higher of two, the highest of several numbers
    negative     values that make a control; default: all others.  Images with neither are left out, counted
    size         images with a larger side are averaged by area to this many pixels a side, never enlarged
    keep         columns to carry as attributes whatever their values, as lists of findings
    window       lowest and highest value shown, of volumes and DICOM; ``file``: each file's own; default: percentiles
    classed      whether images are cases and controls; else none has a class, and the column is an attribute whatever its values
    limit_bytes  most memory that headers may declare, images counted as float32
    on_disk      whether images of an npz that need more stay on disk (``on_disk.OnDisk``) and are read when they are used; else
                 they are refused

    Patients come from the column ``patient``, else ``group`` (near-duplicates), else every image is its own.
    An attribute is a column of 2 to 12 values that does not follow from the class.  Images with masks need no class.
    Raises InputError, in one line, for whatever is wrong with the file or with what is asked of it.
    """
    if size is not None and size < 1:
        raise InputError(f"size {size}: must be at least 1 pixel")
    stored = sources.opened(
        sources.find(source), label, limit_bytes=limit_bytes, size=size, window=window, on_disk=on_disk
    )
    split = _splits(stored)
    patient = _patients(stored, split)
    column = label or next((name for name in ("labels", "label") if name in stored.text), None)
    if not classed:
        if column not in stored.text:
            raise InputError(_no_such_label(stored, column or "labels"))
        keep, column = (*keep, str(column)), None
    y, contrast = _classes(stored, column, positive, negative) if classed else _none(stored)
    kept = np.arange(len(y)) if column is None else np.flatnonzero(y >= 0)
    _check_classes(stored.path, y[kept], split[kept], contrast)
    pictures = stored.decode(kept)
    if len(pictures.rows) < len(kept):
        kept = kept[pictures.rows]
        _check_classes(stored.path, y[kept], split[kept], contrast)
    attributes = _attributes(stored, column, kept, y[kept], keep)
    rows = (pictures.image, y[kept], patient[kept], split[kept], attributes)
    seen = (pictures.mask, pictures.spacing, pictures.oriented, pictures.notes, stored.unreadable + pictures.unreadable)
    return Cohort(*rows, *_notes(stored), contrast, *seen)


def _classes(
    stored: Stored, column: str | None, positive: Sequence[str] | None, negative: Sequence[str] | None
) -> tuple[np.ndarray, str]:
    """Class of each image (N,) int8, -1 for neither, and the contrast in words."""
    if column in stored.text:
        where = f"{stored.path}: {column}"
        names = sources.classes_of(stored.path) if column in ("labels", "label") else None
        return binary(where, str(column), stored.text[str(column)], positive, negative, names)
    if column is None and stored.has_masks and not positive and not negative:
        return _none(stored)
    raise InputError(_no_such_label(stored, column or "labels"))


def _none(stored: Stored) -> tuple[np.ndarray, str]:
    return np.full(len(stored.place), -1, np.int8), NO_CLASSES


def _attributes(
    stored: Stored, column: str | None, kept: np.ndarray, label: np.ndarray, keep: Sequence[str]
) -> dict[str, np.ndarray]:
    """The columns that can name subgroups of the images in ``kept``, and those that are to be kept whatever they are."""
    missing = [name for name in keep if name not in stored.text]
    if missing:
        raise InputError(f"{stored.path}: no column '{missing[0]}'; choose from {', '.join(stored.text)}")
    text = {k: v[kept] for k, v in stored.text.items() if k in keep or (k != column and k not in _IDENTIFIERS)}
    text = {k: np.where(v == "", UNKNOWN, v) for k, v in text.items()}
    return {k: v for k, v in text.items() if k in keep or _names_subgroups(k, v, label)}


def _splits(stored: Stored) -> np.ndarray:
    """Split of each image (N,), from its column or from MedMNIST's parts."""
    if stored.parts is not None:
        return stored.parts
    if "split" not in stored.text:
        raise InputError(f"{stored.path}: no column `split`; add one of {'/'.join(SPLITS)}, patient by patient")
    split = stored.text["split"]
    wrong = np.flatnonzero(~np.isin(split, SPLITS))
    if len(wrong):
        found = f"{str(split[wrong[0]])!r} for image {wrong[0]}"
        raise InputError(f"{stored.path}: split is {found}; use {'/'.join(SPLITS)} only")
    return split


def _patients(stored: Stored, split: np.ndarray) -> np.ndarray:
    """Patient of each image (N,); none is missing, none is in two splits."""
    column = next((name for name in ("patient", "group") if name in stored.text), None)
    if column is None:
        return np.array([f"{s}-{i:05d}" for s, i in zip(split, stored.place, strict=True)])
    patient = stored.text[column]
    missing = np.flatnonzero(patient == "")
    if len(missing):
        problem = f"{column} is missing for {len(missing)} images, first image {missing[0]}"
        raise InputError(f"{stored.path}: {problem}; name every patient")
    whereabouts = sorted({*zip(patient.tolist(), split.tolist(), strict=True)})
    for (one, first), (two, second) in itertools.pairwise(whereabouts):
        if one == two:
            problem = f"{column} {one!r} is in the splits {first} and {second}"
            raise InputError(f"{stored.path}: {problem}; keep all images of a patient in one split")
    return patient


def _no_such_label(stored: Stored, column: str) -> str:
    """What to say where the class is missing: the columns that could serve."""
    lists = {k for k, v in stored.text.items() if k not in _IDENTIFIERS and any("|" in entry for entry in v)}
    few = [k for k, v in stored.text.items() if _few(k, v) or k in ("labels", "label") or k in lists]
    hint = f"choose with --label from {', '.join(few)}" if few else "add one; no other column could serve"
    return f"{stored.path}: no column '{column}' that holds the class; {hint}"


def _few(name: str, column: np.ndarray) -> bool:
    """Whether a column has few enough values to sort images by, and is no identifier."""
    few = 2 <= len(set(column.tolist()) - {""}) <= _MOST_GROUPS
    return few and name not in _IDENTIFIERS and not name.startswith("orig_")


def _names_subgroups(name: str, column: np.ndarray, label: np.ndarray) -> bool:
    """Whether a column can name subgroups: a few values, and not the class itself in other words."""
    if (label < 0).all():
        return _few(name, column)
    mixed = set(column[label == 0].tolist()) & set(column[label == 1].tolist())
    return _few(name, column) and bool(mixed)


def _check_classes(path: Path, label: np.ndarray, split: np.ndarray, contrast: str) -> None:
    """Both classes, if there are any, are needed where a model is trained and where it is judged."""
    if contrast == NO_CLASSES:
        return
    for part in ("train", "test"):
        n_control, n_case = (int(((split == part) & (label == c)).sum()) for c in (0, 1))
        if not (n_case and n_control):
            found = f"{n_case} cases and {n_control} controls"
            hint = "both classes are needed there, choose another contrast or split"
            raise InputError(f"{path}: split '{part}' holds {found} ({contrast}); {hint}")


def _notes(stored: Stored) -> tuple[str, str, str]:
    """Name, source and licence, as far as the file states them; the name is fit for a folder."""
    name, source, licence = (stored.notes.get(field) for field in sources.NOTES)
    whose = stored.path.stem if stored.path.suffix == ".npz" else stored.path.resolve().parent.name
    name = re.sub(r"[^\w.+-]+", "_", name or whose)[:80].strip("._") or "cohort"
    return name, source or "not stated in the file", licence or "not stated in the file"


# ---- parts, pixels, subgroups


def take(cohort: Cohort, index: np.ndarray) -> Cohort:
    """The images that ``index`` (positions or a mask) picks, in its order; of those on disk none is read."""
    rows = {k: taken(getattr(cohort, k), index) for k in ("image", "label", "patient", "split")}
    columns = {name: column[index] for name, column in cohort.attributes.items()}
    mask, spacing = (None if x is None else taken(x, index) for x in (cohort.mask, cohort.spacing))
    return replace(cohort, **rows, attributes=columns, mask=mask, spacing=spacing)


def part(cohort: Cohort, split: str) -> Cohort:
    """The images of one split; none where the cohort has none."""
    if split not in SPLITS:
        raise InputError(f"split '{split}': choose from {', '.join(SPLITS)}")
    return take(cohort, cohort.split == split)


def threshold_split(cohort: Cohort) -> str:
    """The split to set a threshold on: ``val`` where it has both classes, else ``train``, which must have."""
    return "val" if len(set(cohort.label[cohort.split == "val"].tolist())) == 2 else "train"


def pixels(cohort: Cohort) -> np.ndarray:
    """Images (N, *space, C) as float32 in [0, 1]; those on disk become so when they are read."""
    if isinstance(cohort.image, OnDisk):
        return cast(np.ndarray, cohort.image.seen_as(_unit, np.float32))
    return _unit(cohort.image)


def _unit(image: np.ndarray) -> np.ndarray:
    """Values in [0, 1], float32."""
    if image.dtype == np.uint8:
        return image.astype(np.float32) / np.float32(255)
    return image.astype(np.float32, copy=False)


def middle(volume: np.ndarray, oriented: bool) -> np.ndarray:
    """Middle slices (N, rows, columns, C) of volumes (N, X, Y, Z, C), to look at.

    Where axes point to the right, front and head: an axial slice as radiologists see it, front up and the patient's right
    on the left.  Else the middle of the first axis, as stored.
    """
    if not oriented:
        return volume[:, volume.shape[1] // 2]
    return np.swapaxes(volume[:, ::-1, ::-1, volume.shape[3] // 2], 1, 2)


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
    each = [(x.mean(dtype=np.float64), x.var(dtype=np.float64)) for some in batches(cohort.image) for x in some]
    mean, variance = np.array(each).reshape(-1, 2).T / np.array([[scale], [scale**2]])  # one by one, to spare memory
    rows = []
    classes = (0, 1) if cohort.has_classes else (-1,)
    for split, label, (g, name) in itertools.product(SPLITS, classes, enumerate(names or ["all"])):
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
        "threshold": f"set on {threshold_split(cohort)}" if cohort.has_classes else "none, for there are no classes",
        **({} if cohort.mask is None else {"masks": f"classes {', '.join(map(str, mask_classes(cohort)))}"}),
        **({} if cohort.spacing is None else {"spacing": _millimetres(cohort.spacing)}),
        "attributes": "; ".join(named) or "none",
        "source": cohort.source,
        "licence": cohort.licence,
    }
    rows = [list(row.values()) for row in statistics(cohort, attribute)]
    cells = [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    cells.insert(0, ["split", "label", attribute or "group", "images", "patients", "mean", "s.d."])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    table = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    lines = [f"{name:12s}{fact}" for name, fact in facts.items()]
    lines += [f"{'note':12s}{note}" for note in cohort.notes] + [
        f"{'left out':12s}{line}" for line in cohort.unreadable
    ]
    return "\n".join([*lines, "", *table])


def mask_classes(cohort: Cohort) -> list[int]:
    """Classes of the masks' pixels, in order; none of a cohort without masks."""
    found = [np.unique(some) for some in batches(cohort.mask)] if cohort.mask is not None else []
    return np.unique(np.concatenate(found)).tolist() if found else []


def _millimetres(spacing: np.ndarray) -> str:
    """Distances of pixels along each axis, as a range where images differ, and how many images do not tell."""
    known = spacing[np.isfinite(spacing).all(1)]
    low, high = known.min(0), known.max(0)
    sides = [f"{a:.3g}" if np.isclose(a, b, rtol=1e-3) else f"{a:.3g}-{b:.3g}" for a, b in zip(low, high, strict=True)]
    missing = len(spacing) - len(known)
    return " x ".join(sides) + " mm" + (f" (not known of {missing} images)" if missing else "")


def left_out(cohort: Cohort) -> str:
    """One line on the files that could not be used, with the first of them; '' where there were none."""
    lines, total = cohort.unreadable, len(cohort.unreadable) + len(cohort.label)
    if not lines:
        return ""
    more = "; ..." if len(lines) > _MOST_NAMED else ""
    return f"{len(lines)} of {total} images cannot be used and are left out: {'; '.join(lines[:_MOST_NAMED])}{more}"


def fingerprint(cohort: Cohort) -> str:
    """SHA-256, in hex, of what can change a result: pixels, spacing, labels, split, patients, attributes, contrast."""
    attributes = {name: column.tolist() for name, column in sorted(cohort.attributes.items())}
    columns = (cohort.label.tolist(), cohort.split.tolist(), cohort.patient.tolist(), attributes)
    facts = (cohort.contrast, columns, cohort.image.shape, str(cohort.image.dtype))
    facts += (cohort.asked,) if cohort.asked.several else ()
    digest = hashlib.sha256(repr(facts).encode())  # text by value: numpy pads it to the longest entry
    for some in batches(cohort.image):
        digest.update(np.ascontiguousarray(some).data)
    if cohort.spacing is not None:
        digest.update(np.ascontiguousarray(cohort.spacing, dtype=np.float64).data)
    return digest.hexdigest()
