"""What every reader of images gives: columns as text, pictures to be decoded later, and what was left out and why."""

import math
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from rafmodel.errors import InputError

SPLITS = ("train", "val", "test")
NOTES = ("name", "source", "licence")  # optional single entries that say where the images are from

Window = tuple[float, float] | Literal["file"] | None


class Pictures(NamedTuple):
    """Decoded images, all of one size; in memory, or on disk.

    image       (n, *space, C)  uint8, or float32 in [0, 1]
    mask        (n, *space)  integer classes, or None
    spacing     (n, dims)  distance of pixel centres along each axis of space in mm, nan where not known, or None
    oriented    whether the axes of a volume point to the patient's right, front and head
    rows        (n,)  which of the images that were asked for these are: all but the unreadable ones
    notes       how values became [0, 1], and whatever else was done to them
    unreadable  a line for each image that is missing for its file could not be decoded
    """

    image: np.ndarray  # or OnDisk, as the mask, where that was asked for
    mask: np.ndarray | None
    spacing: np.ndarray | None
    oriented: bool
    rows: np.ndarray
    notes: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


class Stored(NamedTuple):
    """A cohort on disk whose headers are sound.

    path        what every message about it names
    text        column -> (N,) text; a missing entry is ''
    parts       (N,) split of each image where the file's layout tells it, else None
    place       (N,) number of each image within its part
    has_masks   whether the pixels have classes
    notes       name, source and licence as far as they are stated
    decode      ``decode(rows) -> Pictures`` of those images
    unreadable  a line for each image that its header excludes; it has no row
    """

    path: Path
    text: dict[str, np.ndarray]
    parts: np.ndarray | None
    place: np.ndarray
    has_masks: bool
    notes: dict[str, str]
    decode: Callable[[np.ndarray], Pictures]
    unreadable: tuple[str, ...] = ()


def free_memory() -> float:
    """Bytes that a program can still have; infinite where the system does not tell."""
    told = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+)", told.read_text()) if told.is_file() else None
    return 1024 * int(found[1]) if found else math.inf


@contextmanager
def refusing() -> Iterator[None]:
    """Whatever a decoder raises over one hostile file, as one line, and no warnings.

    Decoders raise what they please over broken bytes (``struct.error``, ``KeyError``, ``SyntaxError``), hence all is caught.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Exception as problem:
        reason = " ".join(str(problem).split())[:120] or "damaged"
        raise InputError(f"{type(problem).__name__}: {reason}") from None


def needs(module: str) -> InputError:
    """What to say where a format's library is not installed."""
    return InputError(f"this needs {module}, which is not installed; pip install 'rafmodel[data]'")


def sound(where: Path, image: np.ndarray) -> np.ndarray:
    """The images, uint8 or float32 in [0, 1]; InputError, naming the file, where a pixel is neither."""
    if image.dtype == np.uint8:
        return image
    wrong = ~np.isfinite(image)
    if wrong.any():
        first = np.argmax(wrong.any(tuple(range(1, wrong.ndim))))
        found = f"{wrong.sum()} pixels are nan or infinite, first in image {first}"
        raise InputError(f"{where}: images: {found}; repair those images or drop them")
    low, high = image.min(), image.max()
    if low < 0 or high > 1:
        found = f"floats from {low:.4g} to {high:.4g}, outside [0, 1]"
        raise InputError(f"{where}: images: {found}; divide by the display range, or store uint8")
    return image.astype(np.float32, copy=False)
