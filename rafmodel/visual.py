"""What images look like, in numbers: quality statistics, feature spaces, and how far one image or part lies from others.

Images are ``(N, *space, C)`` with two or three axes of space; features are ``(N, d)``.  Nothing here sees a label.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import correlate1d, laplace
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from rafmodel import harmonise, sources
from rafmodel.errors import InputError

COMPONENTS = 16  # of a feature space
QUALITY = {
    "brightness": "mean grey value, fraction of display range",
    "contrast": "s.d. of grey values, fraction of display range",
    "noise": "s.d. of fast noise, fraction of display range (Immerkær 1996)",
    "sharpness": "s.d. of the Laplacian over that of the grey values (after Pech-Pacheco et al. 2000)",
    "white": "share of pixels at the upper end of the display range",
    "black": "share of pixels at the lower end",
}
SPACES = {
    "thumbnail": "images averaged to 16 pixels a side (8 in 3D)",
    "quality": "the six quality statistics",
    "encoder": "64 features of an untrained convolutional encoder of key 0 (2D only)",
}
_SECOND = np.array([1.0, -2.0, 1.0])  # along both axes: blind to planes and to edges along the axes
_CHUNK = 64


# ---- quality


def quality(image: np.ndarray) -> np.ndarray:
    """The statistics of QUALITY of each image, (N, 6), without a reference image.

    Volumes are judged slice by slice along their first axis, and the slices averaged.
    """
    scaled = (image[i : i + _CHUNK] for i in range(0, len(image), _CHUNK))
    return np.concatenate([_quality(harmonise.grey(harmonise.unit(part))[..., 0]) for part in scaled])


def _quality(grey: np.ndarray) -> np.ndarray:
    slices = grey.reshape(-1, *grey.shape[-2:])
    spread = grey.std(tuple(range(1, grey.ndim)))
    found = [immerkaer(slices), np.sqrt(_variance(_valid(laplace(slices, axes=(1, 2)))))]
    noise, edges = (column.reshape(len(grey), -1).mean(1) for column in found)
    flat = grey.reshape(len(grey), -1)
    half = 0.5 / 255
    ends = (flat >= 1 - half).mean(1), (flat <= half).mean(1)
    sharpness = np.where(spread > 0, edges / np.maximum(spread, 1e-9), np.nan)
    return np.stack([flat.mean(1), spread, noise, sharpness, *ends], 1).astype(float)


def immerkaer(slices: np.ndarray) -> np.ndarray:
    """S.d. of the noise of images (N, H, W), √(π/2) times the mean |difference of two Laplacians| / 6.  Immerkær (1996)."""
    answer = correlate1d(correlate1d(slices, _SECOND, 1), _SECOND, 2)
    return np.sqrt(np.pi / 2) / 6 * np.abs(_valid(answer)).mean((1, 2))


def _valid(filtered: np.ndarray) -> np.ndarray:
    """Without the border, which a filter of 3 x 3 makes up."""
    return filtered[:, 1:-1, 1:-1]


def _variance(slices: np.ndarray) -> np.ndarray:
    return slices.var((1, 2))


# ---- feature spaces


def features(image: np.ndarray, space: str) -> np.ndarray:
    """Features of images in a space of SPACES, (N, d).  Raises InputError where it is not made for them."""
    if space == "thumbnail":
        return thumbnails(image, 16 if image.ndim == 4 else 8)
    if space == "quality":
        return np.nan_to_num(quality(image))
    if space == "encoder" and image.ndim == 4:
        import jax

        from rafmodel import encoder

        network = encoder.encoder(jax.random.key(0), image.shape[-1], (16, 32, 64))
        return encoder.features(network, harmonise.unit(image)).astype(float)
    raise InputError(f"feature space '{space}': not for images of shape {image.shape[1:]}; choose thumbnail or quality")


def thumbnails(image: np.ndarray, side: int) -> np.ndarray:
    """Grey images averaged to at most ``side`` pixels along each axis, flat, (N, d)."""
    small = sources.shrink(image, side)
    return harmonise.grey(small).reshape(len(image), -1).astype(float)


class Space(NamedTuple):
    """An affine map to coordinates of mean 0 and covariance 1 over the rows that it was fitted to.

    mean (d,), axes (d, k)
    """

    mean: np.ndarray
    axes: np.ndarray

    def coordinates(self, found: np.ndarray) -> np.ndarray:
        """Whitened coordinates (N, k) of features (N, d)."""
        return (found - self.mean) @ self.axes


def whitened(found: np.ndarray, components: int = COMPONENTS) -> Space:
    """The leading principal components of standardised features, each scaled to variance 1.

    A feature without variance and a component with less than 1e-6 of the variance of the first are left out.
    """
    mean, spread = found.mean(0), found.std(0)
    weight = np.where(spread > 1e-9 * max(spread.max(), 1e-300), 1 / np.where(spread > 0, spread, 1), 0)
    scaled = (found - mean) * weight
    variance, axes = np.linalg.eigh(scaled.T @ scaled / len(found))
    leading = np.argsort(-variance)[:components]
    kept = leading[variance[leading] > 1e-6 * max(variance.max(), 1e-300)]
    return Space(mean, weight[:, None] * axes[:, kept] / np.sqrt(variance[kept]))


# ---- distances


def by_patient(values: np.ndarray, patient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted patients and the mean of each one's values (P, ...)."""
    who, code, count = np.unique(patient, return_inverse=True, return_counts=True)
    total = np.zeros((len(who), *values.shape[1:]))
    np.add.at(total, code, values)
    return who, total / count.reshape(-1, *(1,) * (values.ndim - 1))


def energy_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Energy distance of two samples (n, k) and (m, k), 0 where they are the same.  Székely and Rizzo (2013).

    ``2 E|X − Y| − E|X − X'| − E|Y − Y'|`` over all pairs, a point and itself among them.
    """
    both = np.concatenate([one, other])
    sides = _sides(len(one), len(other))
    return float(-sides @ cdist(both, both) @ sides)


def energy_at_random(one: np.ndarray, other: np.ndarray, *, shuffles: int = 200) -> tuple[float, float]:
    """Mean and 95 % quantile of the energy distance if the members of both samples had been dealt out at random."""
    both = np.concatenate([one, other])
    rng = np.random.default_rng(0)
    sides = rng.permuted(np.tile(_sides(len(one), len(other)), (shuffles, 1)), axis=1)
    found = -np.einsum("bi,bi->b", sides @ cdist(both, both), sides)
    return float(found.mean()), float(np.quantile(found, 0.95))


def _sides(n: int, m: int) -> np.ndarray:
    return np.concatenate([np.full(n, 1 / n), np.full(m, -1 / m)])


def separation(outer: np.ndarray, inner: np.ndarray) -> float:
    """Chance that a value of ``outer`` exceeds one of ``inner``, ties half: 0.5 in distribution, 1 wholly outside."""
    from rafmodel.metrics import auc

    label = np.concatenate([np.ones(len(outer)), np.zeros(len(inner))])
    return float(auc(np.concatenate([outer, inner]), label))


def isolation(coordinates: np.ndarray, patient: np.ndarray, neighbours: int = 5) -> np.ndarray:
    """Distance of each image to its k-th nearest image of another patient, (N,).  Ramaswamy et al. (2000).

    nan where other patients have fewer than k images.
    """
    _, code, size = np.unique(patient, return_inverse=True, return_counts=True)
    asked = min(neighbours + size.max(), len(code))
    distance, index = KDTree(coordinates).query(coordinates, asked)
    foreign = code[index] != code[:, None]
    reached = np.cumsum(foreign, 1) >= neighbours
    kth = np.take_along_axis(distance, reached.argmax(1)[:, None], 1)[:, 0]
    return np.where(reached.any(1), kth, np.nan)


def fence(values: np.ndarray) -> float:
    """Tukey's upper fence on the log scale: third quartile plus 1.5 interquartile ranges.  Tukey (1977)."""
    logs = np.log(np.maximum(values[np.isfinite(values)], 1e-12))
    low, high = np.quantile(logs, [0.25, 0.75])
    return float(np.exp(high + 1.5 * (high - low)))


# ---- the same picture twice


def twins(image: np.ndarray, *, side: int = 32, least: float = 0.97) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of images (P, 2) whose thumbnails, less the mean of all, correlate above ``least``; and the correlations (P,).

    Taking the mean image away leaves what is particular to an image, so that aligned anatomy alone is no likeness.
    Images that equal the mean to 1e-6 are compared with none.
    """
    small = thumbnails(image, side if image.ndim == 4 else 12)
    small = small - small.mean(0)
    small -= small.mean(1, keepdims=True)
    norm = np.linalg.norm(small, axis=1)
    small = np.where(norm[:, None] > 1e-6, small / np.maximum(norm, 1e-12)[:, None], 0).astype(np.float32)
    pairs, found = [], []
    for start in range(0, len(small), 1024):
        likeness = small[start : start + 1024] @ small.T
        i, j = np.nonzero(likeness > least)
        later = j > i + start
        pairs.append(np.stack([i + start, j], 1)[later])
        found.append(likeness[i, j][later])
    return np.concatenate(pairs), np.concatenate(found)
