"""Scores that grow with each artifact that can be told from an image, and what they are worth on a cohort."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel.encoder import in_chunks
from rafmodel.state import CHUNK, Reference, powers
from rafmodel.variability import CATALOGUE, alter
from rafmodel.variability.beams import beams, on_beams
from rafmodel.variability.fitted import ARTIFACTS
from rafmodel.variability.law import axes

SCORES = tuple(law.name for law in ARTIFACTS)  # artifacts with a detector
LEVEL = 2  # of an artifact's five levels, from 0, at which its detector is judged
FAR = 5.0  # robust s.d. above the median of the images without it from which a score counts as an artifact
_TURNS = 10  # in which images with an artifact are set apart, at most
_BLACK, _WHITE = 0.02, 0.985  # grey values beyond which a pixel counts as black or as burnt in
_LIT = 0.15  # of the template, from which a black pixel is hidden and not background
_BLOCK = 8  # pixels of a JPEG block
_PERIODS = range(2, 6)  # of ghosting
_EDGE = 0.15  # of the side, at which a field of view is looked for
_APART = 0.2  # of the width, between a dark band of beams and those beside it


def scores(reference: Reference, images: Array) -> np.ndarray:
    """Scores (N, len(SCORES)) of images (N, H, W, 1) that grow with each artifact."""
    return in_chunks(partial(_scores, reference), images, chunk=CHUNK)


@jax.jit
def _scores(reference: Reference, images: Array) -> Array:
    each = jax.vmap(lambda image, power: jnp.stack([_OF[name](reference, image, power) for name in SCORES]))
    return each(images[..., 0], powers(images)[1])


# ---- lines of k-space


def spike(reference: Reference, image: Array, log_power: Array) -> Array:
    """Largest excess of log power over the mean's among waves of 2 to 10 cycles, less the median excess."""
    del image
    height, half = log_power.shape
    radius = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.arange(half)[None, :])
    inside = (radius >= 2) & (radius <= min(10, half - 1))
    excess = (log_power - reference.waves)[inside]
    return jnp.max(excess) - jnp.median(excess)


def ghosting(reference: Reference, image: Array, log_power: Array) -> Array:
    """How far each second to fifth line down the image lies below both beside it, mean log power; the period that shows most."""
    del reference, log_power
    n = image.shape[0]
    line = jnp.log(jnp.mean(jnp.abs(jnp.fft.fft(image, axis=0)) ** 2, 1) + 1e-8)[: n // 2]
    below = (line[:-2] + line[2:]) / 2 - line[1:-1]
    number = np.arange(1, n // 2 - 1)
    weak = [number % period == 0 for period in _PERIODS if (number % period == 0).sum() > 1]
    return jnp.max(jnp.stack([jnp.mean(below[which]) - jnp.mean(below[~which]) for which in weak]))


# ---- lines and rings of pixels


def zipper(reference: Reference, image: Array, log_power: Array) -> Array:
    """Log of the largest over the median energy of a column's fine differences along it."""
    del reference, log_power
    fine = image[:-2] - 2 * image[1:-1] + image[2:]
    energy = jnp.mean(jnp.abs(fine), 0)
    energy = (energy[1:] + energy[:-1]) / 2
    return jnp.log((jnp.max(energy) + 1e-3) / (jnp.median(energy) + 1e-3))


def rings(reference: Reference, image: Array, log_power: Array) -> Array:
    """How far rings about the centre are alike in the image's four quarters: Fisher's z of their second differences."""
    del reference, log_power
    height, width = image.shape
    rows, columns = np.arange(height)[:, None] - (height - 1) / 2, np.arange(width)[None] - (width - 1) / 2
    ring = np.rint(np.hypot(rows, columns)).astype(int)
    quarters = [((rows < 0) ^ down) & ((columns < 0) ^ right) for down in (False, True) for right in (False, True)]
    member = np.stack([[q & (ring == r) for r in range(2, min(height, width) // 2)] for q in quarters])
    mean = jnp.tensordot(jnp.asarray(member / member.sum((2, 3), keepdims=True), image.dtype), image, 2)
    fine = mean[:, :-2] - 2 * mean[:, 1:-1] + mean[:, 2:]
    own = jnp.sum(fine**2)
    alike = (jnp.sum(jnp.sum(fine, 0) ** 2) - own) / (len(fine) - 1) / (own + 1e-7)
    return jnp.arctanh(jnp.clip(alike, -0.999, 0.999))


def jpeg(reference: Reference, image: Array, log_power: Array) -> Array:
    """Log of the mean step between blocks of 8 pixels over that at other places, beyond what lies beside it."""
    del reference, log_power
    edge = other = jnp.zeros((), image.dtype)
    for axis in (0, 1):
        fine = jnp.abs(jnp.diff(image, axis=axis))
        step = jnp.moveaxis(fine, axis, 0).mean(1)  # between pixel i and i + 1
        at = np.arange(_BLOCK - 1, len(step), _BLOCK)
        edge, other = edge + jnp.mean(step[at]), other + jnp.mean(jnp.delete(step, at, assume_unique_indices=True))
    return jnp.log((edge + 1e-3) / (other + 1e-3))


# ---- hidden parts


def dropout(reference: Reference, image: Array, log_power: Array) -> Array:
    """How far a band of beams is darker, along its upper and its lower half, than both bands beside it; log."""
    del reference, log_power
    return _dip(image)[0]


def shadow(reference: Reference, image: Array, log_power: Array) -> Array:
    """How far the lower half of a band of beams is darker than both beside it, beyond what its upper half is; log."""
    del reference, log_power
    return _dip(image)[1]


def _dip(image: Array) -> tuple[Array, Array]:
    seen = beams(image[..., None])
    along = on_beams(image[..., None], seen)[..., 0]
    depth, width = along.shape
    half = jnp.stack([along[: depth // 2].mean(0), along[depth // 2 :].mean(0)])
    log = jnp.log(half + _BLACK)
    log = (
        jnp.pad(log, ((0, 0), (1, 1)), mode="edge")[:, :-2] + log + jnp.pad(log, ((0, 0), (1, 1)), mode="edge")[:, 2:]
    ) / 3
    far = max(2, round(_APART * width))
    below = jnp.minimum(log[:, : -2 * far], log[:, 2 * far :]) - log[:, far:-far]
    return jnp.max(jnp.min(below, 0)), jnp.max(below[1] - jnp.maximum(below[0], 0))


def black_corner(reference: Reference, image: Array, log_power: Array) -> Array:
    """Share of the corners, beyond 1.2 half sides from the centre, that is nearly black."""
    del reference, log_power
    rows, columns = axes(image[..., None])
    corner = jnp.hypot(rows, columns) > 1.2
    return jnp.sum(corner * (image < 2 * _BLACK)) / jnp.sum(corner)


def field_of_view(reference: Reference, image: Array, log_power: Array) -> Array:
    """Share of black in the blackest of the four borders."""
    del reference, log_power
    black = image < _BLACK
    sides = []
    for turned in (black, black.T):
        deep = max(1, round(_EDGE * len(turned)))
        sides += [turned[:deep].mean(), turned[-deep:].mean()]
    return jnp.max(jnp.stack(sides)).astype(image.dtype)


def occlusion(reference: Reference, image: Array, log_power: Array) -> Array:
    """Share of black where the mean image is lit."""
    del log_power
    lit = reference.template[..., 0] > _LIT
    return (jnp.sum(lit * (image < _BLACK)) / jnp.maximum(jnp.sum(lit), 1)).astype(image.dtype)


def characters(reference: Reference, image: Array, log_power: Array) -> Array:
    """Share of white pixels, log."""
    del reference, log_power
    return jnp.log(jnp.mean(image > _WHITE) + 2e-3)


_OF: dict[str, Callable[[Reference, Array, Array], Array]] = {
    f.__name__: f
    for f in (spike, zipper, ghosting, rings, jpeg, dropout, shadow, black_corner, field_of_view, occlusion, characters)
}
_LEAST = {
    "spike": 0.1,
    "zipper": 0.05,
    "ghosting": 0.05,
    "rings": 0.05,
    "jpeg": 0.03,
    "dropout": 0.03,
    "shadow": 0.03,
    "black_corner": 0.1,
    "field_of_view": 0.1,
    "occlusion": 0.01,
    "characters": 0.3,
}
LEAST = np.array([_LEAST[name] for name in SCORES])  # smallest s.d. that a score is taken to have


# ---- what they are worth


class Worth(NamedTuple):
    """What each detector finds, (len(SCORES),) each.

    threshold     score from which an artifact is called
    found, tried  images with an injected artifact that were called, and how many there were that had not been before
    crossed       (len(SCORES), len(SCORES)) share of such images with artifact j, made by hand, that detector i calls
    curve         (len(SCORES), 5) mean score of images at each level of the artifact
    grows         correlation of score and level over images with the artifact
    """

    threshold: np.ndarray
    found: np.ndarray
    tried: np.ndarray
    crossed: np.ndarray
    curve: np.ndarray
    grows: np.ndarray


def worth(key: Array, reference: Reference, images: Array, some: Array) -> Worth:
    """What detectors find of artifacts injected into ``some`` of a cohort's images (N, H, W, 1)."""
    threshold, curve = thresholds(scores(reference, images)), np.empty((len(SCORES), 5))
    crossed, grows = np.empty((len(SCORES), len(SCORES))), np.zeros(len(SCORES))
    clear = scores(reference, some) <= threshold  # what is called before anything was injected tells nothing
    tried = np.maximum(clear.sum(0), 1)
    for j, name in enumerate(SCORES):
        levels = jnp.array(CATALOGUE[name].levels, some.dtype)
        altered = alter(jax.random.fold_in(key, 99 + j), CATALOGUE[name], some, levels)
        score = scores(reference, altered.reshape(-1, *some.shape[1:])).reshape(5, len(some), -1)
        called = ((score[LEVEL] > threshold) & clear).sum(0)
        curve[j], crossed[:, j] = score[..., j].mean(1), called / tried
        seen = score[..., j].ravel()
        grows[j] = np.corrcoef(np.repeat(np.arange(5), len(some)), seen)[0, 1] if np.ptp(seen) else 0.0
    found = np.rint(tried * np.diag(crossed)).astype(int)
    return Worth(threshold, found, tried, crossed, curve, grows)


def thresholds(own: np.ndarray) -> np.ndarray:
    """From which a cohort's scores (N, len(SCORES)) count as artifacts.

    FAR s.d. above the median, by the lower half of the images, which artifacts hardly reach; those that lie above are set apart
    and the others asked again, until none is left.
    """
    kept = np.ones_like(own, bool)
    for _ in range(_TURNS):
        lower, middle = np.nanquantile(np.where(kept, own, np.nan), [0.25, 0.5], axis=0)
        threshold = middle + FAR * np.maximum((middle - lower) / 0.6745, LEAST)
        if ((own <= threshold) == kept).all():
            break
        kept = own <= threshold
    return threshold
