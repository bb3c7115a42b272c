"""Images that stay on disk: rows of an array in a file, of which only those that are asked for are in memory.

A cohort larger than memory has such an array for its images and masks.  Choosing rows reads nothing; indexing reads.  Whoever
takes rows a batch at a time (``encoder.in_chunks``, ``pretrain``) need not know whether they come from memory or from here.
"""

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from rafmodel.errors import InputError
from rafmodel.files import atomically

AT_ONCE = 2**25  # bytes read at a time where a whole array is gone through


@dataclass(frozen=True, eq=False)
class OnDisk:
    """Rows (N, *sides) of an array in C order; read anew whenever they are asked for.

    path, offset  the file, and where in it the array starts, in bytes
    stored        type of the array there, and whole its shape
    row           (N,) which of its rows these are
    become        what is made of some rows once they are read; None: as stored
    dtype         of what comes
    """

    path: Path
    offset: int
    stored: np.dtype
    whole: tuple[int, ...]
    row: np.ndarray
    dtype: np.dtype
    become: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *sides)."""
        return (len(self.row), *self.whole[1:])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.whole)

    @property
    def nbytes(self) -> int:
        """Bytes that all rows would take in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The rows that an integer, a slice, positions or a mask picks, read from disk.

        Raises InputError where the file is no longer there, or shorter than it was.
        """
        place = self.row[np.asarray(rows) if not isinstance(rows, slice) else rows]
        try:  # mapped anew each time, for pages of a mapping that lasts count as this process's memory
            file = np.memmap(self.path, self.stored, "r", self.offset, self.whole)
        except (OSError, ValueError) as problem:
            told = f"images were to be read from here, but {problem}; load the cohort again"
            raise InputError(f"{self.path}: {told}") from None
        found = np.array(file[np.atleast_1d(place)])
        found = self.become(found) if self.become else found
        return found if np.ndim(place) else found[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All rows, for those who need them together."""
        return np.asarray(self[:], dtype)

    def take(self, index: np.ndarray) -> "OnDisk":
        """The rows that positions or a mask pick; nothing is read."""
        return replace(self, row=self.row[index])

    def seen_as(self, become: Callable[[np.ndarray], np.ndarray], dtype: Any) -> "OnDisk":
        """The same rows, to be turned into something of the same shape when they are read; nothing is read."""
        return replace(self, become=become, dtype=np.dtype(dtype))


def batches(array: "np.ndarray | OnDisk") -> Iterator[np.ndarray]:
    """An array a few rows at a time, AT_ONCE bytes of them; one in memory as it is."""
    each = max(1, AT_ONCE // max(1, array.nbytes // max(1, len(array))))
    if isinstance(array, np.ndarray):
        yield array
        return
    for start in range(0, len(array), each):
        yield array[start : start + each]


def taken(array: "np.ndarray | OnDisk", index: np.ndarray) -> "np.ndarray | OnDisk":
    """The rows that positions or a mask pick; of an array on disk nothing is read."""
    return array.take(index) if isinstance(array, OnDisk) else array[index]


def unpacked(place: Path, shape: tuple[int, ...], dtype: np.dtype, pieces: Iterator[np.ndarray]) -> OnDisk:
    """An array that comes in pieces, written to a file and left there; where the file exists it is taken as it is.

    Raises InputError where the disk has no room for it.
    """
    if not place.exists():
        _check_room(place, math.prod(shape) * dtype.itemsize)
        atomically(place, partial(_write, shape, dtype, pieces))
    with place.open("rb") as content:
        np.lib.format.read_magic(content)
        np.lib.format.read_array_header_1_0(content)
        return OnDisk(place, content.tell(), dtype, shape, np.arange(shape[0]), dtype)


def _write(shape: tuple[int, ...], dtype: np.dtype, pieces: Iterator[np.ndarray], file: IO[bytes]) -> None:
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)
    for piece in pieces:
        file.write(np.ascontiguousarray(piece, dtype).data)


def _check_room(place: Path, needed: int) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place.parent).free
    if needed > free:
        told = f"images need {needed / 2**30:.3g} GiB there and {free / 2**30:.3g} are free"
        raise InputError(f"{place.parent}: {told}; make room, or set XDG_CACHE_HOME to a folder that has it")
