"""How well masks were drawn: contours that are off, parts that were missed, outlines made of blocks.

What is wrong stays a mask: pixels change together, as they do where a person or a program drew a line, not one by one.  Draws are
of each image apart, so the mask of an image does not depend on which others there are.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import jax
import numpy as np
from jax import Array
from scipy import ndimage

from rafmodel.cohort import Cohort
from rafmodel.design import Design, poorly_drawn
from rafmodel.errors import InputError
from rafmodel.labels import subgroup

SMOOTH = 3.0  # s.d. of the kernel that smooths a contour's displacement, in units of the displacement's own


def drawn(key: Array, labelled: Cohort, design: Design) -> Cohort:
    """Labelled images with the masks (N, *space) that the design's annotator drew: parts missed, contours off, then coarse.

    Only in the subgroup ``design.flip_in`` where it is named; all other masks, and all of a design that asks for nothing of this
    kind, are as they were.  Raises InputError where none of the masks has a pixel of the structure left.
    """
    if not poorly_drawn(design) or labelled.mask is None:
        return labelled
    mask, seed = np.array(labelled.mask[:]), np.asarray(jax.random.key_data(key)).ravel().tolist()
    poor = subgroup(design, labelled) == design.flip_in if design.flip_in else np.ones(len(mask), bool)
    for i in np.flatnonzero(poor):
        mask[i] = _one(mask[i], design, lambda purpose, i=i: np.random.default_rng([*seed, int(i), purpose]))
    if not mask.any():
        told = f"none of the {len(mask)} labelled masks has a pixel of the structure left"
        raise InputError(f"design '{design.name}': {told}; ask for less {', '.join(poorly_drawn(design))}")
    return replace(labelled, mask=mask)


def _one(mask: np.ndarray, design: Design, rng: Callable[[int], np.random.Generator]) -> np.ndarray:
    found = missed(rng(0), mask, design.mask_missed)
    found = jittered(rng(1), found, design.mask_jitter)
    return coarse(rng(2), found, design.mask_coarse)


def missed(rng: np.random.Generator, mask: np.ndarray, probability: float) -> np.ndarray:
    """The mask (*space) without some of its connected parts, each left out with this probability.

    Pixels that touch at a corner are connected; of a structure in one piece all is there or nothing.
    """
    part, n = cast(tuple[np.ndarray, int], ndimage.label(mask, np.ones((3,) * mask.ndim)))
    kept = np.append(False, rng.random(n) >= probability)
    return kept[part].astype(mask.dtype)


def jittered(rng: np.random.Generator, mask: np.ndarray, sigma: float) -> np.ndarray:
    """The mask (*space) with each point of its contour moved along its normal by a smooth Gaussian field, s.d. ``sigma`` pixels.

    The field is added to the signed distance to the contour, which lies half way between pixels of the structure and others.  It
    varies so slowly (SMOOTH) that a contour hardly ever tears; where an image ends there is no contour.
    """
    inside = mask > 0
    if not sigma or inside.all() or not inside.any():
        return mask
    within, beyond = (np.asarray(ndimage.distance_transform_edt(side)) for side in (inside, ~inside))
    distance = within - beyond - np.where(inside, 0.5, -0.5)
    return (distance + sigma * field(rng, mask.shape, SMOOTH * sigma) > 0).astype(mask.dtype)


def field(rng: np.random.Generator, space: tuple[int, ...], scale: float) -> np.ndarray:
    """Gaussian noise (*space) of mean 0 and s.d. 1 at every pixel, smoothed by a kernel of s.d. ``scale`` pixels; periodic."""
    impulse = np.zeros(space)
    impulse[(0,) * len(space)] = 1
    smooth = [ndimage.gaussian_filter(x, scale, mode="wrap") for x in (rng.normal(size=space), impulse)]
    return smooth[0] / np.sqrt((smooth[1] ** 2).sum())


def coarse(rng: np.random.Generator, mask: np.ndarray, side: int) -> np.ndarray:
    """The mask (*space) in blocks of ``side`` pixels, each in the structure where at least half of it was.

    Where the grid of blocks starts is drawn; at the border blocks are cut off.
    """
    if side == 1:
        return mask
    cell = np.zeros(mask.shape, int)
    for axis, n in enumerate(mask.shape):
        along = (np.arange(n) + rng.integers(side)) // side
        cell = cell * (along[-1] + 1) + along.reshape(-1, *(1,) * (mask.ndim - 1 - axis))
    share = np.bincount(cell.ravel(), mask.ravel() > 0) / np.maximum(np.bincount(cell.ravel()), 1)
    return (share >= 0.5)[cell].astype(mask.dtype)
