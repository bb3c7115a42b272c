"""Who was imaged: a cohort, read from an npz file whose headers are all checked before a pixel is decoded."""

import hashlib
import io
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rafmodel.errors import InputError

SPLITS = ("train", "val", "test")
UNKNOWN = "unknown"  # the subgroup of those whose attribute is missing
AGE_BANDS = ("<18", "18-49", "50-64", "65+")
_MOST_GROUPS = 12
_IDENTIFIERS = {"images", "labels", "masks", "split", "patient", "group", "image_id", "id", "name"}
_DAMAGE = (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Cohort:
    """Labelled images, who they are of, and which part of the study each belongs to.

    image       (N, H, W, C)  uint8, or float32 in [0, 1]
    label       (N,)  int8, 1 for a case and 0 for a control
    patient     (N,)  text; images of one patient are not independent
    split       (N,)  train, val or test; no patient is in two
    attributes  name -> (N,) text: the columns that can name subgroups, ages in bands
    contrast    what label 1 means against label 0, and how many images were left out
    mask        (N, H, W) integer classes of the pixels, or None
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
    limit_bytes: int = 4 * 2**30,
) -> Cohort:
    """A cohort from an npz file, a folder with exactly one, or a name inside the folder RAFMODEL_DATA.

    label     column that holds the class (default ``labels``); a list ``one|two`` matches on any of its entries
    positive  values that make a case; default: the higher of two, the highest of several numbers
    negative  values that make a control; default: all others.  Images with neither are left out and counted.
    size      images with a larger side are averaged by area to this many pixels a side, never enlarged
    Two layouts: MedMNIST's ``{train,val,test}_{images,labels}``, or ``images``, ``labels``, ``split`` and one column
    an attribute.  Patients come from ``patient``, else ``group`` (near-duplicates), else each image is its own.
    Raises InputError, in one line, for whatever is wrong with the file or with what is asked of it.
    """
    if size is not None and size < 1:
        raise InputError(f"size {size}: must be at least 1 pixel")
    file, column = _open(_find(source)), label or "labels"
    text = _columns(file, column, limit_bytes)
    split, patient = _splits(file, text), _patients(file, text)
    _check_patients(file, patient, split)
    y, contrast = _contrast(file, column, text[column], positive, negative)
    kept = np.flatnonzero(y >= 0)
    y, split, patient = y[kept], split[kept], patient[kept]
    _check_classes(file, y, split, contrast)
    attributes = {k: np.where(v == "", UNKNOWN, v)[kept] for k, v in text.items() if k != column}
    attributes = {k: v for k, v in attributes.items() if _names_subgroups(k, v, y)}
    image = _shrink(_images(file)[kept], size)
    return Cohort(image, y, patient, split, attributes, *_provenance(file), contrast)


# ---- parts, pixels, subgroups


def take(cohort: Cohort, index: np.ndarray) -> Cohort:
    """The images that ``index`` (positions or a mask) picks, in its order."""
    rows = {k: getattr(cohort, k)[index] for k in ("image", "label", "patient", "split")}
    columns = {name: column[index] for name, column in cohort.attributes.items()}
    return replace(cohort, **rows, attributes=columns, mask=None if cohort.mask is None else cohort.mask[index])


def part(cohort: Cohort, split: str) -> Cohort:
    """The images of one split; none where the cohort has none."""
    if split not in SPLITS:
        raise InputError(f"split '{split}': choose from {', '.join(SPLITS)}")
    return take(cohort, cohort.split == split)


def threshold_split(cohort: Cohort) -> str:
    """The split to set a threshold on: ``val`` where it has both classes, else ``train``, which always has."""
    return "val" if len(set(cohort.label[cohort.split == "val"])) == 2 else "train"


def pixels(cohort: Cohort) -> np.ndarray:
    """Images (N, H, W, C) as float32 in [0, 1]."""
    scale = 255 if cohort.image.dtype == np.uint8 else 1
    return cohort.image.astype(np.float32) / np.float32(scale)


def groups(cohort: Cohort, attribute: str | None) -> tuple[list[str], np.ndarray]:
    """Sorted names of an attribute's subgroups and each image's place among them (N,); None has no subgroups.

    Raises InputError, listing the attributes there are, when the cohort does not carry this one.
    """
    if attribute is None:
        return [], np.zeros(len(cohort.label), np.int64)
    if attribute not in cohort.attributes:
        there = ", ".join(sorted(cohort.attributes))
        hint = f"choose from {there}" if there else "this cohort carries none, so leave the choice out"
        raise InputError(f"{cohort.name}: no attribute '{attribute}' to name subgroups; {hint}")
    names, code = np.unique(cohort.attributes[attribute], return_inverse=True)
    return names.tolist(), code


# ---- counts


def statistics(cohort: Cohort, attribute: str | None = None) -> list[dict[str, Any]]:
    """One row per split, class and subgroup: images, patients, mean and s.d. of the pixels in [0, 1].

    A cell without images has counts of 0 and intensities of nan.
    """
    names, code = groups(cohort, attribute)
    axes = (1, 2, 3)
    scale = 255 if cohort.image.dtype == np.uint8 else 1
    mean = cohort.image.mean(axes, dtype=np.float64) / scale
    square = cohort.image.var(axes, dtype=np.float64) / scale**2 + mean**2
    rows = []
    for split in SPLITS:
        for label in (0, 1):
            for g, name in enumerate(names or ["all"]):
                cell = (cohort.split == split) & (cohort.label == label) & (code == g)
                m, s = (float(x[cell].mean()) if cell.any() else math.nan for x in (mean, square))
                counts = {"images": int(cell.sum()), "patients": len(set(cohort.patient[cell]))}
                spread = {"mean": m, "sd": math.sqrt(s - m**2) if s > m**2 else s - m**2}
                rows.append({"split": split, "label": label, "group": name, **counts, **spread})
    return rows


def describe(cohort: Cohort, attribute: str | None = None) -> str:
    """Plain-text account of a cohort: what it is, where it is from, and the counts of ``statistics``."""
    shape = " x ".join(map(str, cohort.image.shape[1:]))
    facts = {
        "cohort": cohort.name,
        "images": f"{len(cohort.label)} of {shape}, {len(set(cohort.patient))} patients",
        "contrast": cohort.contrast,
        "threshold": f"set on {threshold_split(cohort)}",
        "attributes": "; ".join(f"{k}: {', '.join(groups(cohort, k)[0])}" for k in cohort.attributes) or "none",
        "source": cohort.source,
        "licence": cohort.licence,
    }
    rows = statistics(cohort, attribute)
    head = ["split", "label", attribute or "group", "images", "patients", "mean", "s.d."]
    cells = [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    width = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    lines = ["  ".join(c.rjust(w) for c, w in zip(row, width, strict=True)) for row in [head, *cells]]
    return "\n".join([*(f"{name:12s}{fact}" for name, fact in facts.items()), "", *lines])


def fingerprint(cohort: Cohort) -> str:
    """SHA-256, in hex, of all that can change a result: pixels, labels, splits, patients, attributes, contrast."""
    columns = {k: v.tolist() for k, v in sorted(cohort.attributes.items())}  # numpy pads text to the longest
    facts = (cohort.contrast, cohort.split.tolist(), cohort.patient.tolist(), cohort.label.tolist(), columns)
    digest = hashlib.sha256(repr((facts, cohort.image.shape, str(cohort.image.dtype))).encode())
    digest.update(np.ascontiguousarray(cohort.image))
    return digest.hexdigest()


# ---- the file and its headers


class Header(NamedTuple):
    """What an array declares of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype


class NpzFile(NamedTuple):
    """An npz file by its headers.  ``columns`` joins MedMNIST's parts: column -> {array: header}, in order."""

    path: Path
    columns: dict[str, dict[str, Header]]

    def read(self, column: str) -> np.ndarray:
        """A column, decoded; pickled objects never are."""
        found = []
        for name in self.columns[column]:
            with _told(f"{self.path}: {name}"), zipfile.ZipFile(self.path) as archive:
                with archive.open(f"{name}.npy") as content:
                    found.append(np.lib.format.read_array(content, allow_pickle=False))
                    content.read(1)  # the end of the stream, where its checksum is compared
        return np.concatenate(found) if len(found) > 1 else found[0]


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Whatever a broken archive raises, as one line."""
    try:
        yield
    except InputError:
        raise
    except _DAMAGE as problem:
        reason = " ".join(str(problem).split()) or type(problem).__name__
        raise InputError(f"{where}: cannot be read as npz ({reason}); make or fetch the file again") from None


def _find(source: str | os.PathLike) -> Path:
    """The npz file that a path, a folder or a bare name stands for."""
    path, home = Path(source), os.environ.get("RAFMODEL_DATA")
    if not path.exists() and home and path.name == str(source):
        path = next((p for p in (Path(home, path, f"{path}.npz"), Path(home, f"{path}.npz")) if p.exists()), path)
    if path.is_dir():
        inside = sorted(path.glob("*.npz"))
        if len(inside) != 1:
            names = ", ".join(p.name for p in inside) or "none"
            raise InputError(f"{path}: a cohort folder holds exactly one npz file, here {names}; name the file")
        path = inside[0]
    if not path.is_file():
        where = f"in RAFMODEL_DATA, {home}" if home else "in RAFMODEL_DATA, which is not set"
        raise InputError(f"{path}: no such file or folder, and no such name {where}; give the path of an npz file")
    return path


def _open(path: Path) -> NpzFile:
    """Shape and type of every array in the file; nothing else is decoded."""
    headers = {}
    with _told(str(path)), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                name = info.filename.removesuffix(".npy")
                with _told(f"{path}: {name}"), archive.open(info) as content:
                    headers[name] = _header(io.BytesIO(content.read(2**16)))  # a longer header is a lie
    if "images" in headers:
        return NpzFile(path, {name: {name: header} for name, header in headers.items()})
    parts = [split for split in SPLITS if f"{split}_images" in headers]
    if not parts:
        there = ", ".join(headers) or "nothing"
        raise InputError(f"{path}: no array `images` or `train_images`; it holds {there}; add the images")
    names = {name: [f"{split}_{name.partition('_')[2]}" for split in parts] for name in headers}
    joined = {k.partition("_")[2]: v for k, v in names.items() if k in v and all(n in headers for n in v)}
    single = {name: [name] for name, header in headers.items() if header.shape == ()}
    return NpzFile(path, {c: {n: headers[n] for n in v} for c, v in (joined | single).items()})


def _header(start: io.BytesIO) -> Header:
    version = np.lib.format.read_magic(start)
    if version > (2, 0):
        raise ValueError(f"npy version {version} is for records, not for plain arrays")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(start)
    if any(side < 0 for side in shape):
        raise ValueError(f"declared shape {shape}")
    return Header(shape, dtype)


def _check_image_headers(file: NpzFile) -> None:
    """Two-dimensional images of one size, uint8 or float, and at least one of them."""
    heads = file.columns["images"]
    name, (shape, dtype) = next(iter(heads.items()))
    where, count = f"{file.path}: {name}", sum(h.shape[0] for h in heads.values() if h.shape)
    if any((h.shape[1:], h.dtype) != (shape[1:], dtype) for h in heads.values()):
        raise InputError(f"{where} and {', '.join(heads)} differ in shape or type; store them alike")
    if dtype.hasobject:
        raise InputError(f"{where} holds pickled objects, which are never unpickled; store uint8 (N, H, W)")
    if len(shape) > 4 or (len(shape) == 4 and shape[3] not in (1, 3, 4)):
        raise InputError(f"{where} is 3D, shape {shape}; 2D cohorts are supported, so store slices (N, H, W)")
    if len(shape) < 3 or count * math.prod(shape[1:]) == 0:
        raise InputError(f"{where} has shape {shape}, no images; store at least one as (N, H, W) or (N, H, W, C)")
    if dtype != np.uint8 and dtype.kind != "f":
        raise InputError(f"{where} has type {dtype}; store uint8, or floats divided by the display range")


def _check_sizes(file: NpzFile, wanted: set[str], limit_bytes: int) -> None:
    """Declared bytes of the arrays to be read, four a pixel at least, against the limit and the free memory."""
    heads = {name: header for column in wanted for name, header in file.columns[column].items()}
    sizes = {name: math.prod(h.shape) * max(h.dtype.itemsize, 4) for name, h in heads.items()}
    total, allowed = sum(sizes.values()), min(limit_bytes, _free_memory())
    if total > allowed:
        name = max(sizes, key=sizes.__getitem__)
        asked = f"{total / 2**30:.3g} GiB of memory in all, of {allowed / 2**30:.3g} GiB allowed"
        raise InputError(f"{file.path}: {name} declares shape {heads[name].shape}, {asked}; store fewer pixels")


def _free_memory() -> float:
    """Bytes that a program can still have; infinite where the system does not tell."""
    told = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+)", told.read_text() if told.is_file() else "")
    return 1024 * int(found[1]) if found else math.inf


# ---- columns


def _columns(file: NpzFile, label: str, limit_bytes: int) -> dict[str, np.ndarray]:
    """Text (N,) of every column with one entry an image, after the checks that need headers only."""
    _check_image_headers(file)
    counts = [h.shape[0] for h in file.columns["images"].values()]
    fitting = [((n,), (n, 1)) for n in counts]
    fits = {c for c, h in file.columns.items() if all(map(_among, h.values(), fitting)) and len(h) == len(counts)}
    needed = {label, "split", "patient", "group"} & set(file.columns)
    _check_sizes(file, {"images", *fits, *needed, *({"name", "source", "licence"} & set(file.columns))}, limit_bytes)
    for column in sorted(needed - fits):
        shapes = " + ".join(str(h.shape) for h in file.columns[column].values())
        problem = f"{column} has shape {shapes} for {' + '.join(map(str, counts))} images"
        raise InputError(f"{file.path}: {problem}; store one entry an image")
    kinds = {c: next(iter(file.columns[c].values())).dtype for c in sorted(fits - {"images"})}
    for column in (c for c, dtype in kinds.items() if dtype.hasobject):
        raise InputError(f"{file.path}: {column} holds pickled objects, never unpickled; store it with astype(str)")
    text = {c: _words(file.read(c), c) for c, dtype in kinds.items() if dtype.kind in "SUbuif"}
    if label not in text:
        serve = ", ".join(c for c, v in text.items() if _could_be_label(c, v)) or "none: add one"
        raise InputError(f"{file.path}: no column '{label}' for the class; could serve with --label: {serve}")
    return text


def _words(column: np.ndarray, name: str) -> np.ndarray:
    """Entries as text (N,): whole numbers without decimals, ages in bands, a missing entry ('' or nan) as ''."""
    column = column.reshape(-1)
    if column.dtype.kind == "S":
        column = np.strings.decode(column, "utf-8", "replace")
    if column.dtype.kind == "f" and np.equal(np.mod(column, 1), 0)[np.isfinite(column)].all():
        column = np.where(np.isfinite(column), np.nan_to_num(column).astype(np.int64).astype(str), "")
    text = np.strings.strip(column.astype(np.uint8 if column.dtype.kind == "b" else column.dtype).astype(str))
    text = np.where(np.isin(np.strings.lower(text), ("nan", "inf", "-inf")), "", text)
    return _bands(text) if "age" in name.lower().split("_") else text


def _bands(text: np.ndarray) -> np.ndarray:
    """Ages in years as bands, one outside 0-120 as missing; text that is no number is a band already."""
    try:
        years = np.where(text == "", "nan", text).astype(float)
    except ValueError:
        return text
    return np.where((years >= 0) & (years <= 120), np.array(AGE_BANDS)[np.digitize(years, (18, 50, 65))], "")


def _could_name(column: str, text: np.ndarray) -> bool:
    """Whether a column has few enough values to be a class or a subgroup, and is no bookkeeping."""
    return 2 <= len(set(text)) <= _MOST_GROUPS and column not in _IDENTIFIERS and not column.startswith("orig_")


def _splits(file: NpzFile, text: dict[str, np.ndarray]) -> np.ndarray:
    """Split of each image (N,), from its column or from MedMNIST's parts."""
    heads = file.columns["images"]
    parts = [np.repeat(name.removesuffix("_images"), h.shape[0]) for name, h in heads.items()]
    split = text.get("split", np.concatenate(parts))
    hint = f"use {', '.join(SPLITS)}, with every patient in one of them"
    if "split" not in text and "images" in heads:
        raise InputError(f"{file.path}: no column `split`; add one: {hint}")
    wrong = np.flatnonzero(~np.isin(split, SPLITS))
    if len(wrong):
        raise InputError(f"{file.path}: split is {str(split[wrong[0]])!r} for image {wrong[0]}; {hint}")
    return split


def _patients(file: NpzFile, text: dict[str, np.ndarray], split: np.ndarray) -> np.ndarray:
    """Patient of each image (N,), none of them in two splits."""
    alone = np.array([f"{s}-{i:05d}" for s in SPLITS ])
    field = next((c for c in ("patient", "group") if c in text), None)
    if field is None:
        return np.strings.add
    patient = text[field]
    absent = np.flatnonzero(patient == "")
    if len(absent):
        raise InputError(f"{file.path}: {field} is missing for {len(absent)} images, first {absent[0]}; name each")
    pairs = sorted(set(zip(patient.tolist(), split.tolist(), strict=True)))
    for (one, first), (two, second) in itertools.pairwise(pairs):
        if one == two:
            raise InputError(f"{file.path}: {field} {one!r} is in {first} and {second}; keep each patient in one split")
    return patient


def _contrast(file, column, values, positive, negative) -> tuple[np.ndarray, str]:
    """Class of each image (N,), 1, 0 or -1 where it is neither, and the contrast in words."""
    return None
