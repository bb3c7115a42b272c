"""Image cohorts on disk: an npz file whose headers are all checked before anything in it is decoded.

A compressed megabyte can declare terabytes, and a pickled array can run a program; neither passes its header.
Two layouts are read: ``images`` with one column per attribute, and MedMNIST's ``train_images`` and so on.
"""

import io
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rafmodel.errors import InputError

SPLITS = ("train", "val", "test")
AGE_BANDS = ("<18", "18-49", "50-64", "65+")
NOTES = ("name", "source", "licence")  # optional single entries that say where the images are from
_TEXT = "SUbuif"  # types that can be told as text
_HEADER_BYTES = 2**16  # a longer header than this is a lie
_DAMAGE = (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


class Header(NamedTuple):
    """What an array declares of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype


class NpzFile(NamedTuple):
    """An npz file by its headers.

    columns  name -> {array: header}; a column of MedMNIST's layout has one array per part, in order
    """

    path: Path
    columns: dict[str, dict[str, Header]]

    @property
    def by_part(self) -> bool:
        """Whether the file keeps MedMNIST's layout."""
        return "images" not in self.columns["images"]

    def counts(self) -> list[int]:
        """Images in each array."""
        return [header.shape[0] for header in self.columns["images"].values()]

    def dtype(self, column: str) -> np.dtype:
        """Declared type of a column's first array."""
        return next(iter(self.columns[column].values())).dtype

    def fits(self, column: str, *sides: int) -> bool:
        """Whether a column has one entry, of shape ``sides``, for every image."""
        shapes = [header.shape for header in self.columns[column].values()]
        return shapes == [(count, *sides) for count in self.counts()]

    def read(self, column: str) -> np.ndarray:
        """A column, decoded; pickled objects never are."""
        parts = [_read(self.path, name) for name in self.columns[column]]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]


# ---- the file and its headers


def find(source: str | os.PathLike) -> Path:
    """The npz file that a path, a folder or a bare name inside the folder RAFMODEL_DATA stands for."""
    path, home = Path(source), os.environ.get("RAFMODEL_DATA")
    if home and not path.exists() and path.name == str(source):
        places = Path(home, path, f"{path}.npz"), Path(home, f"{path}.npz")
        path = next((place for place in places if place.exists()), path)
    if path.is_dir():
        inside = sorted(path.glob("*.npz"))
        if len(inside) != 1:
            names = ", ".join(file.name for file in inside) or "none"
            raise InputError(f"{path}: a cohort folder holds exactly one npz, here {names}; name the file")
        path = inside[0]
    if not path.is_file():
        where = home or "(not set)"
        raise InputError(f"{path}: no such file, folder, or name in RAFMODEL_DATA {where}; give an npz file")
    return path


def headers(path: Path) -> NpzFile:
    """Shape and type of every array in the file; nothing else is decoded."""
    found = {}
    with _told(f"{path}"), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                name = info.filename.removesuffix(".npy")
                with _told(f"{path}: {name}"), archive.open(info) as content:
                    found[name] = _header(io.BytesIO(content.read(_HEADER_BYTES)))
    return NpzFile(path, _layout(path, found))


def _header(start: io.BytesIO) -> Header:
    version = np.lib.format.read_magic(start)
    if version > (2, 0):
        raise ValueError(f"npy version {version} is for records, not for plain arrays")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(start)
    if any(side < 0 for side in shape):
        raise ValueError(f"declared shape {shape}")
    return Header(shape, dtype)


def _layout(path: Path, found: dict[str, Header]) -> dict[str, dict[str, Header]]:
    """Column -> its arrays."""
    if "images" in found:
        return {name: {name: header} for name, header in found.items()}
    parts = [split for split in SPLITS if f"{split}_images" in found]
    if not parts:
        there = ", ".join(found) or "nothing"
        raise InputError(f"{path}: no array `images` or `train_images`, it holds {there}; add the images")
    columns = {name: {name: header} for name, header in found.items() if header.shape == ()}
    for column in (name.removeprefix(f"{parts[0]}_") for name in found):
        names = [f"{split}_{column}" for split in parts]
        if all(name in found for name in names):
            columns[column] = {name: found[name] for name in names}
    return columns


def _read(path: Path, name: str) -> np.ndarray:
    with _told(f"{path}: {name}"), zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as content:
        return np.lib.format.read_array(content, allow_pickle=False)


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


# ---- checks that need headers only


def check(file: NpzFile, column: str, limit_bytes: int) -> None:
    """Refuse, from the headers alone, what cannot be a labelled cohort of 2D images within memory.

    column  the one that holds the class
    """
    _check_images(file)
    needed = [name for name in (column, "split", "patient", "group") if name in file.columns]
    notes = [name for name in NOTES if name in file.columns]
    pictures = ["images", "masks"] if _has_masks(file) else ["images"]
    _check_memory(file, {*pictures, *_per_image(file), *needed, *notes}, limit_bytes)
    for name in needed:
        if name not in _per_image(file):
            shapes = " + ".join(str(header.shape) for header in file.columns[name].values())
            found = f"{name} has shape {shapes} for {' + '.join(map(str, file.counts()))} images"
            raise InputError(f"{file.path}: {found}; store one entry an image")
    for name in (*_per_image(file), *notes):
        if file.dtype(name).hasobject:
            raise InputError(f"{file.path}: {name} holds pickled objects, never unpickled; store it as text")


def _check_images(file: NpzFile) -> None:
    """Two-dimensional images of one size, uint8 or float, and at least one of them."""
    heads = file.columns["images"]
    name, (shape, dtype) = next(iter(heads.items()))
    where = f"{file.path}: {name}"
    if any((header.shape[1:], header.dtype) != (shape[1:], dtype) for header in heads.values()):
        raise InputError(f"{where}: {', '.join(heads)} differ in shape or type; store them alike")
    if dtype.hasobject:
        raise InputError(f"{where} holds pickled objects, which are never unpickled; store uint8 (N, H, W)")
    if len(shape) > 4 or (len(shape) == 4 and shape[3] not in (1, 3, 4)):
        raise InputError(f"{where} is 3D, shape {shape}; 2D cohorts are supported, so store slices (N, H, W)")
    if len(shape) < 3 or sum(file.counts()) * math.prod(shape[1:]) == 0:
        raise InputError(f"{where} has no images, shape {shape}; store them as (N, H, W) or (N, H, W, C)")
    if dtype != np.uint8 and dtype.kind != "f":
        raise InputError(f"{where} has type {dtype}; store uint8, or floats divided by the display range")


def _check_memory(file: NpzFile, columns: set[str], limit_bytes: int) -> None:
    """Declared bytes, at least four an entry as images become float32, within the limit and free memory."""
    heads = {name: header for column in columns for name, header in file.columns[column].items()}
    sizes = {name: math.prod(header.shape) * max(header.dtype.itemsize, 4) for name, header in heads.items()}
    total, allowed = sum(sizes.values()), min(limit_bytes, _free_memory())
    if total > allowed:
        large = max(sizes, key=sizes.__getitem__)
        asked = f"{total / 2**30:.3g} GiB of memory in all, above {allowed / 2**30:.3g} GiB"
        declared = f"{large} declares shape {heads[large].shape}"
        raise InputError(f"{file.path}: {declared}, {asked}; store fewer pixels")


def _free_memory() -> float:
    """Bytes that a program can still have; infinite where the system does not tell."""
    told = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+)", told.read_text()) if told.is_file() else None
    return 1024 * int(found[1]) if found else math.inf


def _has_masks(file: NpzFile) -> bool:
    """Whether ``masks`` has one integer for every pixel."""
    sides = next(iter(file.columns["images"].values())).shape[1:3]
    return "masks" in file.columns and file.fits("masks", *sides) and file.dtype("masks").kind in "bui"


def _per_image(file: NpzFile) -> list[str]:
    """Columns with one entry an image, flat or as a column vector."""
    return [name for name in file.columns if file.fits(name) or file.fits(name, 1)]


# ---- decoding


def columns(file: NpzFile) -> dict[str, np.ndarray]:
    """Every column with one entry an image, as text (N,); a missing entry is ''."""
    return {name: _text(name, file.read(name)) for name in _per_image(file) if file.dtype(name).kind in _TEXT}


def _text(name: str, column: np.ndarray) -> np.ndarray:
    """Entries as text: whole numbers without decimals, ages in bands, '' and what is not finite as ''."""
    column = column.reshape(-1)
    if column.dtype.kind == "S":
        text = np.strings.decode(column, "utf-8", "replace")
    elif column.dtype.kind == "f":
        text = _numerals(column)
    else:
        text = column.astype(np.uint8 if column.dtype.kind == "b" else column.dtype).astype(str)
    text = np.strings.strip(text)
    text = np.where(np.strings.lower(text) == "nan", "", text)
    return _age_bands(text) if "age" in name.lower().split("_") else text


def _numerals(column: np.ndarray) -> np.ndarray:
    """Floats as text, without decimals where none of them has any."""
    known = np.isfinite(column)
    values = np.where(known, column, 0)
    whole = (values == np.floor(values)).all() and np.abs(values).max(initial=0) < 2**53
    return np.where(known, values.astype(np.int64 if whole else values.dtype).astype(str), "")


def _age_bands(text: np.ndarray) -> np.ndarray:
    """Ages in years as bands, one outside 0-120 as missing; text that is no number is a band already."""
    try:
        years = np.where(text == "", "nan", text).astype(float)
    except ValueError:
        return text
    band = np.array(AGE_BANDS)[np.digitize(years, (18, 50, 65))]
    return np.where((years >= 0) & (years <= 120), band, "")


def images(file: NpzFile) -> np.ndarray:
    """Images (N, H, W, C), uint8 or float32 in [0, 1]; InputError where a pixel is neither."""
    image = np.ascontiguousarray(file.read("images"))
    image = image if image.ndim == 4 else image[..., None]
    if image.dtype == np.uint8:
        return image
    wrong = ~np.isfinite(image)
    if wrong.any():
        found = f"{wrong.sum()} pixels are nan or infinite, first in image {np.argmax(wrong.any((1, 2, 3)))}"
        raise InputError(f"{file.path}: images: {found}; repair those images or drop them")
    low, high = image.min(), image.max()
    if low < 0 or high > 1:
        found = f"floats from {low:.4g} to {high:.4g}, outside [0, 1]"
        raise InputError(f"{file.path}: images: {found}; divide by the display range, or store uint8")
    return image.astype(np.float32, copy=False)


def masks(file: NpzFile) -> np.ndarray | None:
    """Integer classes of the pixels (N, H, W) where the file has them, else None."""
    return file.read("masks") if _has_masks(file) else None


def note(file: NpzFile, name: str) -> str | None:
    """A single text entry of the file, on one line; None where there is none."""
    header = file.columns.get(name, {}).get(name)
    if header is None or header.shape != () or header.dtype.kind != "U":
        return None
    return " ".join(str(file.read(name)).split()) or None


# ---- size


def shrink(image: np.ndarray, size: int, chunk: int = 256) -> np.ndarray:
    """Images (N, H, W, C) averaged by area to at most ``size`` pixels a side, float32 in [0, 1]."""
    rows, columns = (_area_weights(side, min(side, size)) for side in image.shape[1:3])
    small = np.empty((len(image), len(rows), len(columns), image.shape[3]), np.float32)
    for start in range(0, len(image), chunk):  # a chunk at a time, since each becomes float
        part = image[start : start + chunk].astype(np.float32)
        small[start : start + chunk] = np.einsum("ih,nhwc,jw->nijc", rows, part, columns, optimize=True)
    return (small / np.float32(255 if image.dtype == np.uint8 else 1)).clip(0, 1)


def _area_weights(old: int, new: int) -> np.ndarray:
    """Share of each old pixel in each new one, (new, old); rows sum to 1."""
    edges = np.linspace(0, old, new + 1)
    low = np.maximum(edges[:-1, None], np.arange(old)[None, :])
    high = np.minimum(edges[1:, None], np.arange(1, old + 1)[None, :])
    return (np.maximum(high - low, 0) * new / old).astype(np.float32)


def thin(mask: np.ndarray, size: int) -> np.ndarray:
    """Classes (N, H, W) at the centre of each new pixel, for classes have no mean."""
    rows, columns = (_centres(side, min(side, size)) for side in mask.shape[1:])
    return mask[:, rows[:, None], columns[None, :]]


def _centres(old: int, new: int) -> np.ndarray:
    """Old pixel in which the centre of each new one lies, (new,)."""
    return (2 * np.arange(new) + 1) * old // (2 * new)
