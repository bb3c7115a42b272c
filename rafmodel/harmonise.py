"""One scale for several cohorts: pixels of one length, grey values on one scale, and a record of what was done.

Images are ``(N, *space, C)`` in [0, 1] with two or three axes of space.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rafmodel.errors import InputError

METHODS = ("none", "histogram", "zscore")
LANDMARKS = np.linspace(0, 1, 101)  # quantiles at which grey values of cohorts are matched
REACH = 3.0  # standard deviations from an image's mean that black and white stand for after zscore


# ---- space


def overlap(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Length that each old pixel shares with each new one, (new, old), from their edges (old + 1,) and (new + 1,)."""
    low = np.maximum(new[:-1, None], old[None, :-1])
    return np.maximum(np.minimum(new[1:, None], old[None, 1:]) - low, 0)


def _shares(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Share of each old pixel in each new one; pixels outside the old field of view are black."""
    return (overlap(old, new) / np.diff(new)[:, None]).astype(np.float32)


def unit(image: np.ndarray) -> np.ndarray:
    """Pixels as float32 in [0, 1]."""
    return image.astype(np.float32) / np.float32(255 if image.dtype == np.uint8 else 1)


def _along(image: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    """A matrix (new, old) along each axis of space."""
    for axis, matrix in enumerate(matrices, 1):
        image = np.moveaxis(np.tensordot(image, matrix, (axis, 1)), -1, axis)
    return image


def respaced(
    image: np.ndarray, mask: np.ndarray | None, spacing: np.ndarray, *, millimetres: float, sides: Sequence[int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Images and masks about their centre with pixels of one length, ``sides`` of them along each axis.

    spacing (N, dims) in mm.  Grey values are averaged by area (a finer grid repeats the nearest), what lies outside is black and
    of class 0.  Raises InputError where a spacing is not positive.
    """
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise InputError(
            f"spacing: {np.sum(~(spacing > 0))} entries are not positive; repair them or leave spacing out"
        )
    new_image = np.zeros((len(image), *sides, image.shape[-1]), np.float32)
    new_mask = None if mask is None else np.zeros((len(image), *sides), mask.dtype)
    for one in np.unique(spacing, axis=0):
        rows = np.flatnonzero((spacing == one).all(1))
        old = [_edges(n, length) for n, length in zip(image.shape[1:-1], one, strict=True)]
        new = [_edges(n, millimetres) for n in sides]
        new_image[rows] = _along(unit(image[rows]), [_shares(*both) for both in zip(old, new, strict=True)])
        if mask is not None and new_mask is not None:
            new_mask[rows] = _at_centres(mask[rows], old, new)
    return new_image.clip(0, 1), new_mask


def _edges(n: int, length: float) -> np.ndarray:
    """Edges of n pixels of a length, about 0."""
    return (np.arange(n + 1) - n / 2) * length


def _at_centres(mask: np.ndarray, old: Sequence[np.ndarray], new: Sequence[np.ndarray]) -> np.ndarray:
    """Class of the old pixel in which each new centre lies, 0 outside."""
    for axis, (before, after) in enumerate(zip(old, new, strict=True), 1):
        place = np.searchsorted(before, (after[:-1] + after[1:]) / 2, side="right") - 1
        inside = (place >= 0) & (place < mask.shape[axis])
        shape = [1] * mask.ndim
        shape[axis] = len(place)
        mask = np.where(inside.reshape(shape), np.take(mask, np.clip(place, 0, mask.shape[axis] - 1), axis), 0)
    return mask.astype(mask.dtype)


# ---- grey values


def grey(image: np.ndarray) -> np.ndarray:
    """Images (N, *space, 1): luma of red, green and blue (Rec. ITU-R BT.601), else the mean of the channels."""
    if image.shape[-1] == 3:
        return (image @ np.array([0.299, 0.587, 0.114], image.dtype))[..., None]
    return image.mean(-1, keepdims=True, dtype=image.dtype)


def one_scale(images: Sequence[np.ndarray], method: str) -> tuple[list[np.ndarray], list[dict[str, Any]]]:
    """Images of every cohort on one scale of grey values, and the record of each cohort's change.

    none       as they are
    histogram  one monotone map a cohort and channel, from the quantiles of its pixels to the mean of those of all cohorts, each
               counted alike: differences between images of a cohort stay.  After the landmarks of Nyúl and Udupa (1999).
    zscore     each image to mean 0 and s.d. 1, then −3 to 3 shown as 0 to 1: differences in gain and offset between images go.
    """
    if method == "histogram":
        tables = [np.quantile(x.reshape(-1, x.shape[-1]), LANDMARKS, axis=0) for x in images]
        goal = np.mean(tables, 0)
        mapped = [_mapped(x, table, goal) for x, table in zip(images, tables, strict=True)]
        return mapped, [{"from": t.T.round(6).tolist(), "to": goal.T.round(6).tolist()} for t in tables]
    if method == "zscore":
        return [_standardised(x) for x in images], [{"black": -REACH, "white": REACH} for _ in images]
    return list(images), [{} for _ in images]


def _mapped(image: np.ndarray, table: np.ndarray, goal: np.ndarray) -> np.ndarray:
    found = [_piecewise(image[..., c], table[:, c], goal[:, c]) for c in range(image.shape[-1])]
    return np.stack(found, -1).astype(np.float32)


def _piecewise(values: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Linear between landmarks; several landmarks at one value (a black background) go to the mean of their goals."""
    distinct, first, count = np.unique(old, return_index=True, return_counts=True)
    return np.interp(values, distinct, np.add.reduceat(new, first) / count)


def _standardised(image: np.ndarray) -> np.ndarray:
    axes = tuple(range(1, image.ndim))
    mean, spread = image.mean(axes, keepdims=True), image.std(axes, keepdims=True)
    z = (image - mean) / np.maximum(spread, 1e-6)
    return np.clip((z + REACH) / (2 * REACH), 0, 1).astype(np.float32)
