"""An image learned from in patches and scored by its tiles, whose scores are pooled to one: multiple-instance learning.

Each patch of a labelled image has the label of its image, right or not for the patch (Carbonneau et al. 2018).  What pooling is
worth where a case shows its class in few tiles is `sampling.auc_mean` and `sampling.auc_max`.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import cohort as cohorts
from rafmodel.design import Design
from rafmodel.encoder import Network, features
from rafmodel.labels import Lesson
from rafmodel.masks import ON_STRUCTURE
from rafmodel.patches import Patches, foreground_biased_patches, grid_patches, random_patches
from rafmodel.probes import Probe

TOP = 0.1  # share of an image's tiles, the highest, whose mean is the score by ``top``; at least one tile


class Tiled(NamedTuple):
    """An encoder that sees images (N, *space, C) by their tiles: features (N, T d), those of the T tiles side by side."""

    encoder: Network
    side: int

    def __call__(self, images: Any, /) -> np.ndarray:
        return features(self.encoder, tiles(images, self.side).pixels).reshape(len(images), -1)


def tiles(images: Array | np.ndarray, side: int) -> Patches:
    """Patches that cover every image (N, *space, C) and overlap by half of their side."""
    return grid_patches(jnp.asarray(images), side=side, overlap=side // 2)


def in_tiles(key: Array, learned: Lesson, design: Design) -> Lesson:
    """The lesson of the patches of its images, each with the label and the weight of its image; as it is without patches.

    Of each image all tiles, or, drawn at random as the design's sampling says, as many as tile it once without overlap.
    """
    if not design.patch:
        return learned
    cohort = learned.cohort
    found = _patches(key, jnp.asarray(cohorts.pixels(cohort)[:]), cohort.mask, design)
    each = len(found.row) // len(cohort.label)
    cut = cohorts.take(replace(cohort, image=cohort.label, mask=None), np.asarray(found.row))  # copies no whole image
    rows = (learned.row[:, None] * each + np.arange(each)[None]).ravel()
    weight = None if learned.weight is None else learned.weight.repeat(each)
    return Lesson(replace(cut, image=np.asarray(found.pixels)), learned.label.repeat(each), rows, weight)


def _patches(key: Array, images: Array, mask: Any, design: Design) -> Patches:
    side, each = design.patch, math.prod(-(-n // design.patch) for n in images.shape[1:-1])
    if design.sampling == "random":
        return random_patches(key, images, side=side, each=each)
    if design.sampling == "foreground":
        return foreground_biased_patches(key, images, jnp.asarray(mask[:]), side=side, each=each, share=ON_STRUCTURE)
    return tiles(images, side)


def _top(score: np.ndarray) -> np.ndarray:
    n = score.shape[1]
    return np.partition(score, n - math.ceil(TOP * n), axis=1)[:, n - math.ceil(TOP * n) :].mean(1)


POOL: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda score: score.mean(1),
    "max": lambda score: score.max(1),
    "top": _top,
}
"""Scores (N, T, ...) of tiles to those of images (N, ...); ``top`` is the mean of the highest TOP of them."""


def pooled(probe: Probe, pooling: str, width: int) -> Probe:
    """Scores (..., N[, Q]) of images from features (..., N, T d) of their tiles, by a probe of one tile; ``width`` is d."""

    def score(z: np.ndarray) -> np.ndarray:
        tile = probe(z.reshape(-1, width))
        image = POOL[pooling](tile.reshape(-1, z.shape[-1] // width, *tile.shape[1:]))
        return image.reshape(*z.shape[:-1], *tile.shape[1:])

    return score
