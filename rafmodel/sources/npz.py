"""Cohorts in an npz file whose headers are all checked before anything in it is decoded.

A compressed megabyte can declare terabytes, and a pickled array can run a program; neither passes its header.
Two layouts are read: ``images`` with one column per attribute, and MedMNIST's ``train_images`` and so on.
"""

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from rafmodel.errors import InputError
from rafmodel.sources import stored
from rafmodel.sources.columns import LISTED, as_text
from rafmodel.sources.size import shrink, thin
from rafmodel.sources.stored import NOTES, SPLITS, Pictures, Stored

_HEADER_BYTES = 2**16  # a longer header than this is a lie
_MOST_CLASSES = 32  # of one image: a wider array of labels is no list of them
_CHUNK_BYTES = 2**22  # of images that are made smaller while they are read


class Header(NamedTuple):
    """What an array declares of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool = False


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


def opened(path: Path, column: str | None, limit_bytes: int, size: int | None) -> Stored:
    """A cohort from an npz file; ``column`` holds the class where the caller names one."""
    file = headers(path)
    streamed = check(file, column, limit_bytes, size)
    parts = [name.removesuffix("_images") for name in file.columns["images"]]
    return Stored(
        path=path,
        text=columns(file),
        parts=np.repeat(parts, file.counts()) if file.by_part else None,
        place=np.concatenate([np.arange(count) for count in file.counts()]),
        has_masks=_has_masks(file),
        notes={name: text for name in NOTES if (text := note(file, name))},
        decode=partial(_decoded, file, size, streamed),
    )


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


def _header(start: IO[bytes]) -> Header:
    version = np.lib.format.read_magic(start)
    if version > (2, 0):
        raise ValueError(f"npy version {version} is for records, not for plain arrays")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(start)
    if any(side < 0 for side in shape):
        raise ValueError(f"declared shape {shape}")
    return Header(shape, dtype, fortran)


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
    except Exception as problem:  # zipfile, zlib and numpy raise what they please over broken bytes
        reason = " ".join(str(problem).split()) or type(problem).__name__
        raise InputError(f"{where}: cannot be read as npz ({reason}); make or fetch the file again") from None


# ---- checks that need headers only


def check(file: NpzFile, column: str | None, limit_bytes: int, size: int | None = None) -> bool:
    """Refuse, from the headers alone, what cannot be a cohort of 2D or 3D images within memory.

    column  the one that holds the class, where the caller names one

    Returns whether the images fit only if they are averaged to ``size`` while they are read.
    """
    _check_images(file)
    names = (column, "labels", "label", "split", "patient", "group")
    needed = [name for name in dict.fromkeys(names) if name in file.columns]
    notes = [name for name in NOTES if name in file.columns]
    pictures = ["images", "masks"] if _has_masks(file) else ["images"]
    streamed = _check_memory(file, pictures, {*_per_image(file), *needed, *notes}, limit_bytes, size)
    for name in needed:
        if name not in _per_image(file):
            shapes = " + ".join(str(header.shape) for header in file.columns[name].values())
            found = f"{name} has shape {shapes} for {' + '.join(map(str, file.counts()))} images"
            raise InputError(f"{file.path}: {found}; store one entry an image")
    for name in (*_per_image(file), *notes):
        if file.dtype(name).hasobject:
            raise InputError(f"{file.path}: {name} holds pickled objects, never unpickled; store it as text")
    return streamed


def _check_images(file: NpzFile) -> None:
    """Images of one size with two or three axes of space, uint8 or float, and at least one of them."""
    heads = file.columns["images"]
    name, (shape, dtype, _) = next(iter(heads.items()))
    where = f"{file.path}: {name}"
    if any((header.shape[1:], header.dtype) != (shape[1:], dtype) for header in heads.values()):
        raise InputError(f"{where}: {', '.join(heads)} differ in shape or type; store them alike")
    if dtype.hasobject:
        raise InputError(f"{where} holds pickled objects, which are never unpickled; store uint8 (N, H, W)")
    if len(_space(shape)[0]) not in (2, 3) or sum(file.counts()) * math.prod(shape[1:]) == 0:
        hint = "store them as (N, H, W), (N, H, W, C), (N, D, H, W) or (N, D, H, W, C), C 1, 3 or 4"
        raise InputError(f"{where} has no 2D or 3D images, shape {shape}; {hint}")
    if dtype != np.uint8 and dtype.kind != "f":
        raise InputError(f"{where} has type {dtype}; store uint8, or floats divided by the display range")


def _space(shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Sides and channels of images (N, ...): a last side of 1, 3 or 4 after two or three others is the channels."""
    if len(shape) > 3 and shape[-1] in (1, 3, 4):
        return shape[1:-1], shape[-1]
    return shape[1:], 1


def _check_memory(file: NpzFile, pictures: list[str], columns: set[str], limit: int, size: int | None) -> bool:
    """Declared bytes, at least four an entry as images become float32, within the limit and free memory."""
    heads = {name: header for column in {*pictures, *columns} for name, header in file.columns[column].items()}
    sizes = {name: math.prod(header.shape) * max(header.dtype.itemsize, 4) for name, header in heads.items()}
    allowed = min(limit, stored.free_memory())
    if sum(sizes.values()) <= allowed:
        return False
    of_pictures = {name for column in pictures for name in file.columns[column]}
    if size is not None and not any(heads[name].fortran for name in of_pictures):
        old = _space(heads[next(iter(file.columns["images"]))].shape)[0]
        share = math.prod(min(side, size) for side in old) / math.prod(old)
        small = sum(bytes_ * (share if name in of_pictures else 1) for name, bytes_ in sizes.items())
        one = max(sizes[name] / heads[name].shape[0] for name in of_pictures)
        if share < 1 and small + 4 * max(one, _CHUNK_BYTES) <= allowed:
            return True
    large = max(sizes, key=sizes.__getitem__)
    asked = f"{sum(sizes.values()) / 2**30:.3g} GiB of memory in all, above {allowed / 2**30:.3g} GiB"
    declared = f"{large} declares shape {heads[large].shape}"
    raise InputError(f"{file.path}: {declared}, {asked}; store fewer pixels")


def _has_masks(file: NpzFile) -> bool:
    """Whether ``masks`` has one integer for every pixel."""
    sides, _ = _space(next(iter(file.columns["images"].values())).shape)
    return "masks" in file.columns and file.fits("masks", *sides) and file.dtype("masks").kind in "bui"


def _per_image(file: NpzFile) -> list[str]:
    """Columns with one entry an image, flat or as a column vector; in MedMNIST's layout labels may be flags of classes."""
    return [name for name in file.columns if file.fits(name) or file.fits(name, 1) or _flags(file, name)]


def _flags(file: NpzFile, name: str) -> bool:
    """Whether a column marks, in MedMNIST's layout, which of several classes an image has."""
    shape = next(iter(file.columns[name].values())).shape
    marked = file.by_part and name == "labels" and len(shape) == 2 and 2 <= shape[1] <= _MOST_CLASSES
    return marked and file.fits(name, shape[1]) and file.dtype(name).kind in "bui"


# ---- decoding


def columns(file: NpzFile) -> dict[str, np.ndarray]:
    """Every column with one entry an image, as text (N,); a missing entry is ''."""
    return {name: as_text(name, file.read(name)) for name in _per_image(file) if file.dtype(name).kind in LISTED}


def _decoded(file: NpzFile, size: int | None, streamed: bool, rows: np.ndarray) -> Pictures:
    """The images of ``rows``, with their masks and spacing, at most ``size`` pixels a side."""
    old, _ = _space(next(iter(file.columns["images"].values())).shape)
    if streamed and size is not None:
        image, mask = (
            _streamed(file, "images", size)[rows],
            _streamed(file, "masks", size) if _has_masks(file) else None,
        )
        mask = None if mask is None else mask[rows]
    else:
        image, mask = images(file)[rows], masks(file)
        mask = None if mask is None else mask[rows]
        if size is not None and max(old) > size:
            image, mask = shrink(image, size), None if mask is None else thin(mask, size)
    spacing = _spacing(file, len(old))
    if spacing is not None:
        spacing = spacing[rows] * np.array(old) / np.array(image.shape[1:-1])
    return Pictures(image, mask, spacing, False, np.arange(len(rows)))


def _streamed(file: NpzFile, column: str, size: int) -> np.ndarray:
    """All images, or masks, made smaller while they are read, so that the whole is never in memory."""
    small = []
    for name, header in file.columns[column].items():
        space, channels = _space(header.shape) if column == "images" else (header.shape[1:], 1)
        for part in _chunks(file.path, name, header):
            if column == "masks":
                small.append(thin(part, size))
            else:
                small.append(shrink(_sound(file, part.reshape(-1, *space, channels)), size))
    return np.concatenate(small)


def _chunks(path: Path, name: str, header: Header) -> Iterator[np.ndarray]:
    """An array in C order, some images at a time."""
    each = math.prod(header.shape[1:]) * header.dtype.itemsize
    step = max(1, _CHUNK_BYTES // each)
    with _told(f"{path}: {name}"), zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as content:
        _header(content)
        for start in range(0, header.shape[0], step):
            n = min(step, header.shape[0] - start)
            data = content.read(n * each)
            if len(data) < n * each:
                raise EOFError(f"ends within image {start + len(data) // each}")
            yield np.frombuffer(data, header.dtype).reshape(n, *header.shape[1:])


def images(file: NpzFile) -> np.ndarray:
    """Images (N, *space, C), uint8 or float32 in [0, 1]; InputError where a pixel is neither."""
    image = np.ascontiguousarray(file.read("images"))
    space, channels = _space(image.shape)
    return _sound(file, image.reshape(len(image), *space, channels))


def _sound(file: NpzFile, image: np.ndarray) -> np.ndarray:
    """The images, uint8 or float32 in [0, 1]."""
    if image.dtype == np.uint8:
        return image
    wrong = ~np.isfinite(image)
    if wrong.any():
        first = np.argmax(wrong.any(tuple(range(1, wrong.ndim))))
        found = f"{wrong.sum()} pixels are nan or infinite, first in image {first}"
        raise InputError(f"{file.path}: images: {found}; repair those images or drop them")
    low, high = image.min(), image.max()
    if low < 0 or high > 1:
        found = f"floats from {low:.4g} to {high:.4g}, outside [0, 1]"
        raise InputError(f"{file.path}: images: {found}; divide by the display range, or store uint8")
    return image.astype(np.float32, copy=False)


def masks(file: NpzFile) -> np.ndarray | None:
    """Integer classes of the pixels (N, *space) where the file has them, else None."""
    return file.read("masks") if _has_masks(file) else None


def _spacing(file: NpzFile, dims: int) -> np.ndarray | None:
    """Column ``spacing`` in mm, (N,) for all axes or (N, dims), as (N, dims); None where the file has none."""
    if "spacing" not in file.columns or file.dtype("spacing").kind not in "fui":
        return None
    if not (file.fits("spacing") or file.fits("spacing", 1) or file.fits("spacing", dims)):
        return None
    column = file.read("spacing").astype(float)
    spacing = np.array(np.broadcast_to(column.reshape(len(column), -1), (len(column), dims)))
    spacing = np.where(np.isfinite(spacing) & (spacing > 0), spacing, np.nan)
    return None if np.isnan(spacing).all() else spacing


def note(file: NpzFile, name: str) -> str | None:
    """A single text entry of the file, on one line; None where there is none."""
    header = file.columns.get(name, {}).get(name)
    if header is None or header.shape != () or header.dtype.kind != "U":
        return None
    return " ".join(str(file.read(name)).split()) or None
