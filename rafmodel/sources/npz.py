"""Cohorts in an npz file whose headers are all checked before anything in it is decoded.

A compressed megabyte can declare terabytes, and a pickled array can run a program; neither passes its header.
Two layouts are read: ``images`` with one column per attribute, and MedMNIST's ``train_images`` and so on.
"""

import hashlib
import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

import numpy as np

from rafmodel.errors import InputError
from rafmodel.on_disk import OnDisk, unpacked
from rafmodel.sources import stored
from rafmodel.sources.catalogue import cache
from rafmodel.sources.columns import LISTED, as_text
from rafmodel.sources.size import shrink, thin
from rafmodel.sources.stored import NOTES, SPLITS, Pictures, Stored, sound

_HEADER_BYTES = 2**16  # a longer header than this is a lie
_MOST_CLASSES = 32  # of one image: a wider array of labels is no list of them
_CHUNK_BYTES = 2**22  # of images that are made smaller, or put on disk, while they are read
_MOST_PACKED = 200  # times that images may grow when unpacked to disk: scans pack 2 to 20 times, zeros 1000 times

How = Literal["whole", "pieces", "disk"]
"""How images are read: at once, made smaller piece by piece, or left on disk."""


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


def opened(path: Path, column: str | None, limit_bytes: int, size: int | None, on_disk: bool = False) -> Stored:
    """A cohort from an npz file; ``column`` holds the class where the caller names one.

    on_disk  whether images that do not fit into memory may stay on disk
    """
    file = headers(path)
    how = check(file, column, limit_bytes, size, on_disk)
    parts = [name.removesuffix("_images") for name in file.columns["images"]]
    return Stored(
        path=path,
        text=columns(file),
        parts=np.repeat(parts, file.counts()) if file.by_part else None,
        place=np.concatenate([np.arange(count) for count in file.counts()]),
        has_masks=_has_masks(file),
        notes={name: text for name in NOTES if (text := note(file, name))},
        decode=partial(_decoded, file, size, how),
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


def check(file: NpzFile, column: str | None, limit_bytes: int, size: int | None = None, on_disk: bool = False) -> How:
    """Refuse, from the headers alone, what cannot be a cohort of 2D or 3D images within memory.

    column  the one that holds the class, where the caller names one

    Returns how the images can be read: averaged to ``size`` piece by piece, or left on disk, only where they do not fit else.
    """
    _check_images(file)
    names = (column, "labels", "label", "split", "patient", "group")
    needed = [name for name in dict.fromkeys(names) if name in file.columns]
    notes = [name for name in NOTES if name in file.columns]
    pictures = ["images", "masks"] if _has_masks(file) else ["images"]
    how = _check_memory(file, pictures, {*_per_image(file), *needed, *notes}, limit_bytes, size, on_disk)
    for name in needed:
        if name not in _per_image(file):
            shapes = " + ".join(str(header.shape) for header in file.columns[name].values())
            found = f"{name} has shape {shapes} for {' + '.join(map(str, file.counts()))} images"
            raise InputError(f"{file.path}: {found}; store one entry an image")
    for name in (*_per_image(file), *notes):
        if file.dtype(name).hasobject:
            raise InputError(f"{file.path}: {name} holds pickled objects, never unpickled; store it as text")
    return how


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


def _check_memory(
    file: NpzFile, pictures: list[str], columns: set[str], limit: int, size: int | None, on_disk: bool
) -> How:
    """Declared bytes, at least four an entry as images become float32, within the limit and free memory."""
    heads = {name: header for column in {*pictures, *columns} for name, header in file.columns[column].items()}
    sizes = {name: math.prod(header.shape) * max(header.dtype.itemsize, 4) for name, header in heads.items()}
    allowed = min(limit, stored.free_memory())
    if sum(sizes.values()) <= allowed:
        return "whole"
    of_pictures = {name for column in pictures for name in file.columns[column]}
    if not any(heads[name].fortran for name in of_pictures):
        share = _share(file, size)
        rest = sum(bytes_ for name, bytes_ in sizes.items() if name not in of_pictures)
        rest += 4 * max(max(sizes[name] / heads[name].shape[0] for name in of_pictures), _CHUNK_BYTES)
        if share < 1 and rest + share * sum(sizes[name] for name in of_pictures) <= allowed:
            return "pieces"
        if on_disk and rest <= allowed and _unpacks(file.path, {name: heads[name] for name in of_pictures}):
            return "disk"
    large = max(sizes, key=sizes.__getitem__)
    asked = f"{sum(sizes.values()) / 2**30:.3g} GiB of memory in all, above {allowed / 2**30:.3g} GiB"
    declared = f"{large} declares shape {heads[large].shape}"
    raise InputError(f"{file.path}: {declared}, {asked}; store fewer pixels")


def _share(file: NpzFile, size: int | None) -> float:
    """Share of the pixels that is left of an image at ``size`` pixels a side."""
    old = _space(next(iter(file.columns["images"].values())).shape)[0]
    return 1.0 if size is None else math.prod(min(side, size) for side in old) / math.prod(old)


def _unpacks(path: Path, heads: dict[str, Header]) -> bool:
    """Whether arrays hold what they declare, and are no bombs: a disk can be filled as memory can."""
    with _told(f"{path}"), zipfile.ZipFile(path) as archive:
        infos = {name: archive.getinfo(f"{name}.npy") for name in heads}
    declared = {name: math.prod(header.shape) * header.dtype.itemsize for name, header in heads.items()}
    whole = sum(info.compress_size for info in infos.values()) <= path.stat().st_size
    return whole and all(
        declared[name] <= min(info.file_size, _MOST_PACKED * info.compress_size) for name, info in infos.items()
    )


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


def _decoded(file: NpzFile, size: int | None, how: How, rows: np.ndarray) -> Pictures:
    """The images of ``rows``, with their masks and spacing, at most ``size`` pixels a side."""
    old, _ = _space(next(iter(file.columns["images"].values())).shape)
    size = size if _share(file, size) < 1 else None
    image, mask = (_column(file, column, size, how, rows) for column in ("images", "masks"))
    assert image is not None
    spacing = _spacing(file, len(old))
    if spacing is not None:
        spacing = spacing[rows] * np.array(old) / np.array(image.shape[1:-1])
    return Pictures(cast(np.ndarray, image), cast(np.ndarray | None, mask), spacing, False, np.arange(len(rows)))


def _column(file: NpzFile, column: str, size: int | None, how: How, rows: np.ndarray) -> np.ndarray | OnDisk | None:
    """Images, or masks, of ``rows``; masks None where there are none.  ``size`` is None where nothing becomes smaller."""
    if column == "masks" and not _has_masks(file):
        return None
    if how == "disk":
        found = _in_place(file, column) if size is None else None
        return (_unpacked(file, column, size) if found is None else found).take(rows)
    if how == "pieces":
        return np.concatenate([*_pieces(file, column, size)])[rows]
    if column == "masks":
        mask = file.read("masks")[rows]
        return mask if size is None else thin(mask, size)
    image = images(file)[rows]
    return image if size is None else shrink(image, size)


def _pieces(file: NpzFile, column: str, size: int | None) -> Iterator[np.ndarray]:
    """All images, or masks, some at a time and made smaller, so that the whole is never in memory."""
    for name, header in file.columns[column].items():
        for part in _chunks(file.path, name, header):
            if column == "masks":
                yield part if size is None else thin(part, size)
                continue
            space, channels = _space(header.shape)
            image = sound(file.path, part.reshape(-1, *space, channels))
            yield image if size is None else shrink(image, size)


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


# ---- images that stay on disk


def _in_place(file: NpzFile, column: str) -> OnDisk | None:
    """A column as it lies in the archive; None where it is packed, in several arrays, or of a type that images have not."""
    (name, header), *more = file.columns[column].items()
    shape, types = header.shape, (np.uint8, np.float32)
    with _told(f"{file.path}: {name}"), zipfile.ZipFile(file.path) as archive, open(file.path, "rb") as bytes_:
        info = archive.getinfo(f"{name}.npy")
        if more or info.compress_type != zipfile.ZIP_STORED or (column == "images" and header.dtype not in types):
            return None
        with archive.open(info) as content:
            _header(content)
            start = content.tell()
        bytes_.seek(info.header_offset)
        local = bytes_.read(30)  # ends in the lengths of the name and of what stands between it and the content
    start += info.header_offset + 30 + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    if column == "images":
        for _ in _pieces(file, column, None):  # raises where a pixel is no number in [0, 1]
            pass
        space, channels = _space(shape)
        shape = (shape[0], *space, channels)
    return OnDisk(file.path, start, header.dtype, shape, np.arange(shape[0]), header.dtype)


def _unpacked(file: NpzFile, column: str, size: int | None) -> OnDisk:
    """A column unpacked, and made smaller, to a file of the cache, once: the next time it is there.

    Raises InputError where the disk has no room for it.
    """
    known = file.path.stat()
    asked = repr((str(file.path.resolve()), known.st_size, known.st_mtime_ns, column, size))
    name = f"{file.path.stem}-{column}-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.npy"
    place = cache().parent / "on_disk" / name
    first = next(iter(file.columns[column].values()))
    space, channels = _space(first.shape) if column == "images" else (first.shape[1:], None)
    sides = (*(side if size is None else min(side, size) for side in space), *([channels] if channels else []))
    dtype = first.dtype
    if column == "images":
        dtype = np.dtype(np.uint8 if dtype == np.uint8 and size is None else np.float32)
    shape = (sum(file.counts()), *sides)
    return unpacked(place, shape, dtype, _pieces(file, column, size))


def images(file: NpzFile) -> np.ndarray:
    """Images (N, *space, C), uint8 or float32 in [0, 1]; InputError where a pixel is neither."""
    image = np.ascontiguousarray(file.read("images"))
    space, channels = _space(image.shape)
    return sound(file.path, image.reshape(len(image), *space, channels))


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
