"""A cohort whose moments are known exactly: images that are Gaussian given class and subgroup.

An image is a mean, smooth patterns times Gaussian factors, and white noise.  Class and subgroup move the factors: cases along one
direction, subgroup B along another; in B the factors spread more and the class moves them less.  So class means and covariances
of every subgroup are closed forms, and whatever is computed from moments can be held to what is measured on the images.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel.cohort import Cohort
from rafmodel.errors import InputError

GROUPS = ("A", "B")
SAFE = 6.0  # s.d. that every pixel's mean keeps from black and from white
_SIDE = 4  # patterns along each side


class FactorMoments(NamedTuple):
    """Exact moments, subgroup first (A, B), then class (control, case); the order that ``theory.Moments`` has.

    mean     (2, 2, d)     of the pixels, row by row, fractions of the display range
    cov      (2, 2, d, d)
    weight   (2, 2)        probability of subgroup and class; sums to 1
    clipped  ()            probability that a pixel of an image lies outside [0, 1] before it is clipped there, mean over pixels
    """

    mean: np.ndarray
    cov: np.ndarray
    weight: np.ndarray
    clipped: float


class _Law(NamedTuple):
    """Patterns (d, k); means (2, 2, k) and variances (2, k) of the factors; s.d. of the noise; scale to the display range."""

    patterns: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    noise: float
    scale: float


def factor_phantom(
    key: Array,
    *,
    n: int = 2000,
    size: int = 16,
    effect: float = 2.0,
    offset: float = 1.5,
    spread: float = 1.3,
    paler: float = 0.6,
    noise: float = 0.6,
    prevalence: float = 0.4,
    share_b: float = 0.25,
) -> Cohort:
    """One image a patient, with the moments of ``factor_moments`` at the same options; the same key gives the same bytes.

    n           images, at least 20
    size        pixels a side, at least 4
    effect      distance of the class means in subgroup A, in s.d. of a factor
    offset      distance of the subgroups' means along another direction
    spread      s.d. of the factors in B, relative to A
    paler       effect in B, relative to A
    noise       s.d. of a pixel's white noise, relative to the root mean square of the patterns' part
    prevalence  probability of a case, in (0, 1), the same in both subgroups
    share_b     probability of subgroup B, in (0, 1)

    Images (n, size, size, 1) are float32.  The scale is such that the mean of every pixel, in every class and subgroup,
    keeps six s.d. from 0 and from 1: clipping changes fewer than one pixel in 10⁸, and moments by less than 10⁻⁸.
    Attribute: ``site`` (A, B).  Split 60/20/20.  Raises InputError for a value outside its range.
    """
    law = _law(n, size, effect, offset, spread, paler, noise, prevalence, share_b)
    rng = np.random.default_rng(np.asarray(jax.random.bits(jax.random.fold_in(key, 0), (4,), jnp.uint32)))
    case, group = (rng.uniform(size=(2, n)) < np.array([[prevalence], [share_b]])).astype(int)
    factor = law.mean[group, case] + np.sqrt(law.variance[group]) * rng.normal(size=(n, law.mean.shape[-1]))
    image = 0.5 + law.scale * (factor @ law.patterns.T + law.noise * rng.normal(size=(n, size * size)))
    return Cohort(
        np.clip(image, 0, 1).astype(np.float32).reshape(n, size, size, 1),
        case.astype(np.int8),
        np.array([f"f{i:06d}" for i in range(n)]),
        np.array(["train", "val", "test"])[np.digitize(rng.permutation(n), (0.6 * n, 0.8 * n))],
        {"site": np.array(GROUPS)[group]},
        name="factors",
        source="synthetic, rafmodel.factors",
        licence="BSD-3-Clause, as rafmodel",
        contrast="moved along a pattern against not",
    )


def factor_moments(
    *,
    size: int = 16,
    effect: float = 2.0,
    offset: float = 1.5,
    spread: float = 1.3,
    paler: float = 0.6,
    noise: float = 0.6,
    prevalence: float = 0.4,
    share_b: float = 0.25,
) -> FactorMoments:
    """Exact moments of ``factor_phantom`` at the same options: mean ½ + s L m and covariance s² (L D Lᵀ + σ² I)."""
    law = _law(20, size, effect, offset, spread, paler, noise, prevalence, share_b)
    mean = 0.5 + law.scale * law.mean @ law.patterns.T
    common = np.einsum("ik,gk,jk->gij", law.patterns, law.variance, law.patterns) + law.noise**2 * np.eye(size * size)
    cov = np.repeat((law.scale**2 * common)[:, None], 2, 1)
    weight = np.outer([1 - share_b, share_b], [1 - prevalence, prevalence])
    sd = np.sqrt(np.einsum("gcii->gci", cov))
    tail = np.vectorize(math.erfc)(np.stack([mean, 1 - mean]) / (sd * math.sqrt(2))).sum(0) / 2
    return FactorMoments(mean, cov, weight, float((weight[..., None] * tail).sum() / size**2))


def _law(
    n: int,
    size: int,
    effect: float,
    offset: float,
    spread: float,
    paler: float,
    noise: float,
    prevalence: float,
    share_b: float,
) -> _Law:
    """The law of the images for given options."""
    shares = 0 < prevalence < 1 and 0 < share_b < 1
    if n < 20 or size < _SIDE or not shares or spread <= 0 or noise <= 0:
        asked = (
            f"n {n}, size {size}, spread {spread:g}, noise {noise:g}, prevalence {prevalence:g}, share_b {share_b:g}"
        )
        raise InputError(f"factor_phantom: {asked}; choose at least 20, at least 4, two above 0, and two inside (0, 1)")
    waves = np.cos(np.pi * np.outer((np.arange(size) + 0.5) / size, np.arange(_SIDE)))  # (size, waves), orthogonal
    order = np.add.outer(np.arange(_SIDE), np.arange(_SIDE)).ravel()
    patterns = np.einsum("ru,cv->rcuv", waves, waves).reshape(size**2, -1)[:, order > 0]  # all but the constant
    patterns = patterns / np.linalg.norm(patterns, axis=0) * size
    variance = 1 / order[order > 0] ** 2  # as in pictures: slow waves are the strong ones
    sd = np.sqrt(variance)
    towards, aside = np.zeros((2, len(sd)))
    towards[1:5], aside[5:9] = 0.5, 0.5
    strength = effect * np.array([[[-0.5], [0.5]], [[-0.5 * paler], [0.5 * paler]]])
    mean = (strength * towards + offset * np.array([0, 1])[:, None, None] * aside) * sd
    both = np.stack([variance, spread**2 * variance])
    level = noise * np.sqrt(variance.sum())
    widest = np.sqrt((patterns**2 @ both.T) + level**2).T[:, None]
    scale = 0.5 / (np.abs(mean @ patterns.T) + SAFE * widest).max()
    return _Law(patterns, mean, both, float(level), float(scale))
