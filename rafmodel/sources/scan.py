"""One image of a folder: what its header declares, and what it holds once decoded."""

import math
from typing import Literal, NamedTuple

import numpy as np

from rafmodel.errors import InputError

Kind = Literal["bytes", "counts", "values"]


class Head(NamedTuple):
    """What a file declares of its image.

    space     sides, as they will be stored
    channels  1 or 3
    kind      ``bytes`` are shown as they are, ``counts`` are 16-bit pictures, ``values`` are measured on the scanner's own scale
    note      what a reader has to be told about it, or ''
    """

    space: tuple[int, ...]
    channels: int
    kind: Kind
    note: str = ""


class Scan(NamedTuple):
    """One decoded image.

    values    (*space, C)  uint8 for bytes, else float32
    spacing   mm between pixel centres along each axis of space, nan where not known
    affine    (4, 4)  from indices to mm in the patient (right, front, head), or None where the file does not tell
    inverted  whether its lowest value is white
    window    lowest and highest value to be shown, where the file recommends them
    """

    values: np.ndarray
    spacing: tuple[float, ...]
    affine: np.ndarray | None = None
    inverted: bool = False
    window: tuple[float, float] | None = None


def within(head: Head, limit_bytes: float) -> Head:
    """The header, if its pixels as float32 stay within the limit; InputError otherwise."""
    if not head.space or min(head.space) < 1:
        raise InputError(f"declares sides {head.space}")
    asked = 4 * head.channels * math.prod(head.space)
    if asked > limit_bytes:
        raise InputError(f"declares {head.space} pixels, {asked / 2**30:.3g} GiB, above {limit_bytes / 2**30:.3g} GiB")
    return head


def finite(values: np.ndarray) -> np.ndarray:
    """The values as float32, none of them nan or infinite; InputError otherwise."""
    with np.errstate(all="ignore"):
        values = values.astype(np.float32)
    wrong = int(values.size - np.isfinite(values).sum())
    if wrong:
        raise InputError(f"{wrong} values are nan or infinite")
    return values


# ---- orientation


def canonical_space(space: tuple[int, ...], affine: np.ndarray) -> tuple[int, ...]:
    """Sides of a volume once its axes point to the patient's right, front and head."""
    order = _orientation(affine)[:, 0].astype(int)
    sides = [0, 0, 0]
    for side, axis in zip(space, order, strict=True):
        sides[axis] = side
    return tuple(sides)


def canonical(values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A volume (X, Y, Z) and its affine, axes flipped and swapped so that they point closest to right, front and head.

    Nothing is resampled: an oblique volume stays oblique.
    """
    from nibabel.orientations import apply_orientation, inv_ornt_aff

    turn = _orientation(affine)
    return np.ascontiguousarray(apply_orientation(values, turn)), affine @ inv_ornt_aff(turn, values.shape)


def _orientation(affine: np.ndarray) -> np.ndarray:
    from nibabel.orientations import io_orientation

    size = abs(np.linalg.det(affine[:3, :3])) if np.isfinite(affine).all() else 0
    if not 1e-12 < size < 1e12:
        raise InputError("its affine matrix is not finite or flat, so its orientation cannot be told")
    turn = io_orientation(affine)
    if np.isnan(turn).any():
        raise InputError("its affine matrix leaves an axis without direction")
    return turn


def as_slice(volume: np.ndarray, axis: int) -> np.ndarray:
    """A slice (rows, columns) of a volume (right, front, head, ...) that is one thick along ``axis``, as radiologists look at it.

    Head or front is up, and the patient's right is on the left; a sagittal slice looks to the left.
    """
    one = np.take(volume, 0, axis)
    return np.ascontiguousarray(np.swapaxes(one[::-1, ::-1], 0, 1))
