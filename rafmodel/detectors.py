"""Scores that grow with each artifact that can be told from an image, and what they are worth on a cohort."""

from collections.abc import Callable
from functools import partial
from itertools import combinations, product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.stats import norm

from rafmodel.encoder import in_chunks
from rafmodel.state import CHUNK, Reference, powers
from rafmodel.variability import CATALOGUE, alter
from rafmodel.variability.beams import beams, on_beams
from rafmodel.variability.fitted import ARTIFACTS
from rafmodel.variability.law import axes

SCORES = tuple(law.name for law in ARTIFACTS)  # artifacts with a detector
LEVEL = 2  # of an artifact's five levels, from 0, at which its detector is judged
FEW = 32  # clean images below which artifacts are injected into all
PAIRED = 64  # clean images, at most, that are given two
FALSE = (0.005, 0.0015, 0.0005, 0.00015, 0.00005)  # shares of clean images that a detector may be meant to call
USUAL = 0.05  # prevalence at which it is weighed whether a higher threshold misses more than it spares
BODY = 0.35  # quantile of a cohort's scores below which all are clean
_TURNS = 60  # of expectation maximization
_FAINT = 1e-4  # density of an artifact's scores where none was seen, as a share of an even one
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
    """Share of the corner that is least black, beyond 1.28 half sides from the centre, that is: a round field leaves none lit."""
    del reference, log_power
    rows, columns = axes(image[..., None])
    far, black = jnp.hypot(rows, columns) > 1.28, image < 2 * _BLACK
    corners = [far & (rows * down > 0) & (columns * right > 0) for down in (-1, 1) for right in (-1, 1)]
    return jnp.min(jnp.stack([jnp.sum(one * black) / jnp.sum(one) for one in corners]))


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
    """What detectors make of artifacts injected into clean images; calls of all of them together as ``codes``.

    threshold   (len(SCORES),) score from which an artifact is called
    false       (len(SCORES),) share of clean images expected above it
    alone       (len(SCORES), M) calls in images with one artifact
    paired      (pairs, m) calls in images with two, in the order of ``combinations``
    curve       (len(SCORES), 5) mean score of images at each level of the artifact
    grows       (len(SCORES),) correlation of score and level over images with the artifact
    """

    threshold: np.ndarray
    false: np.ndarray
    alone: np.ndarray
    paired: np.ndarray
    curve: np.ndarray
    grows: np.ndarray

    @property
    def tried(self) -> int:
        """Images that each artifact was injected into."""
        return self.alone.shape[1]

    @property
    def found(self) -> np.ndarray:
        """(len(SCORES),) how many of them its own detector calls."""
        return np.diag(decoded(self.alone, len(self.alone)).sum(1))


def codes(called: np.ndarray) -> np.ndarray:
    """One number for what is called together, from calls (..., detectors) of 0 and 1."""
    return called @ (1 << np.arange(called.shape[-1]))


def decoded(code: np.ndarray, detectors: int) -> np.ndarray:
    """Calls (..., detectors) of 0 and 1, from ``codes``."""
    return (code[..., None] >> np.arange(detectors)) & 1


def worth(key: Array, reference: Reference, images: Array, some: Array) -> Worth:
    """What detectors find of artifacts injected into those of ``some`` of a cohort's images (N, H, W, 1) that are clean.

    Clean are images in which nothing is called; where these are fewer than FEW, all.
    """
    own, before = scores(reference, images), scores(reference, some)
    keys = [jax.random.fold_in(key, 99 + j) for j in range(len(SCORES))]
    after = np.stack([_injected(k, reference, some, j) for j, k in enumerate(keys)])
    itself = np.moveaxis(np.diagonal(after, axis1=0, axis2=3), 2, 0)  # (artifact, level, image), by its own detector
    told = [_threshold(*one) for one in zip(own.T, itself[:, LEVEL:], LEAST, strict=True)]
    threshold, false = np.array(told).T
    clean = np.flatnonzero((before <= threshold).all(1))
    clean = clean if len(clean) >= FEW else np.arange(len(some))
    alone = codes(after[:, LEVEL][:, clean] > threshold)
    paired = codes(_two(key, reference, some[clean[:PAIRED]]) > threshold)
    level = np.repeat(np.arange(5), len(some))
    grows = np.array([np.corrcoef(level, x.ravel())[0, 1] if np.ptp(x) else 0.0 for x in itself])
    return Worth(threshold, false, alone, paired, itself.mean(2), grows)


def _injected(key: Array, reference: Reference, images: Array, which: int) -> np.ndarray:
    """Scores (level, N, len(SCORES)) of images with an artifact at each of its levels."""
    law = CATALOGUE[SCORES[which]]
    altered = alter(key, law, images, jnp.array(law.levels, images.dtype))
    return scores(reference, altered.reshape(-1, *images.shape[1:])).reshape(5, len(images), -1)


def _two(key: Array, reference: Reference, images: Array) -> np.ndarray:
    """Scores (pairs, N, len(SCORES)) of images with two artifacts at the level at which they are judged."""
    levels = [jnp.array(CATALOGUE[name].levels[LEVEL : LEVEL + 1], images.dtype) for name in SCORES]
    keys = jax.random.split(jax.random.fold_in(key, 98), (len(SCORES), len(SCORES)))
    first = [alter(keys[i, i], CATALOGUE[name], images, levels[i])[0] for i, name in enumerate(SCORES)]
    pairs = combinations(range(len(SCORES)), 2)
    both = (alter(keys[i, j], CATALOGUE[SCORES[j]], first[i], levels[j])[0] for i, j in pairs)
    return np.stack([scores(reference, one) for one in both])


# ---- from which score an artifact is called


def _threshold(own: np.ndarray, injected: np.ndarray, least: float) -> tuple[float, float]:
    """Score from which an artifact is called and share of a cohort's clean images expected there, given all of its scores (N,).

    injected  (levels, M) scores of its images with the artifact
    least     smallest scale
    Of the shares FALSE that one which makes the fewest errors at prevalence USUAL, with what is missed of the lowest level: where
    artifacts score far above clean images, the threshold lies between them.
    Which images are clean is not known.  Above BODY's quantile scores are a mixture of the upper tail of clean images,
    exponential or half normal, and of the densities of injected ones (kernels, Silverman 1986), by expectation maximization
    (Dempster et al. 1977); of both tails and four starts the likeliest.
    """
    start, low, middle = np.quantile(own, [BODY, 0.25, 0.5])
    narrow, above = max((middle - low) / 0.6745, least), own[own > start] - start
    if not above.size:
        return float(start + narrow), FALSE[0]
    artifact = np.stack([_density(above, one - start, least) for one in injected]) + _FAINT / (above.max() + least)
    starts = product((1, 2), (narrow, max(above.mean(), least)), (0.02, 0.3))
    _, scale, clean, power = max(_mixed(above, artifact, narrow, *one) for one in starts)
    tail = clean / (clean + (own <= start).sum())  # share of the clean images that is above
    false = np.clip(FALSE, FALSE[-1], max(tail / 2, FALSE[-1]))
    threshold = start + scale * (power * np.log(np.maximum(tail / false, 2))) ** (1 / power)
    best = np.argmin(USUAL * (injected[0] <= threshold[:, None]).mean(1) + false)
    return float(threshold[best]), float(false[best])


def _density(at: np.ndarray, seen: np.ndarray, least: float) -> np.ndarray:
    """Density (N,) at values (N,) of what others (M,) are drawn from, by a normal kernel."""
    low, high = np.quantile(seen, [0.25, 0.75])
    width = max(1.06 * min(seen.std(), (high - low) / 1.349) * len(seen) ** -0.2, least / 2)
    return norm.pdf(at[:, None], seen[None], width).mean(1)


def _mixed(
    above: np.ndarray, artifact: np.ndarray, narrow: float, power: int, scale: float, share: float
) -> tuple[float, float, float, int]:
    """Log likelihood, scale of the clean tail, how many are of it, and its power.

    above (N,) > 0, artifact (levels, N) densities there
    narrow        scale of one image more, for where hardly any is of the tail
    power         1, exponential, or 2, half normal
    scale, share  of the tail, and of images with the artifact, to start with
    """
    weight = np.r_[1 - share, np.full(len(artifact), share / len(artifact))]
    high = (1.0, np.sqrt(2 / np.pi))[power - 1]
    for _ in range(_TURNS):
        tail = high / scale * np.exp(-((above / scale) ** power) / power)
        part = weight[:, None] * np.concatenate([tail[None], artifact])
        whole = part.sum(0)
        part /= whole
        weight = np.maximum(part.mean(1), 1e-6)
        scale = ((part[0] @ above**power + narrow**power) / (part[0].sum() + 1)) ** (1 / power)
    return float(np.log(whole).sum()), float(scale), float(part[0].sum()), power
