"""Sharpness: blurs, coarse sampling, compression."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel.variability.law import (
    Drawn,
    Variability,
    grid,
    normal_field,
    nothing,
    one_direction,
    one_uniform,
    real,
    sample,
)
from rafmodel.variability.linear import along, along_all, spread

ZOOMS = 8  # exposures while the lens zooms
FARTHEST = 1 / 3  # of the side of an image, how far a kernel reaches


def gaussian_blur(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Gaussian blur, s.d. ``severity`` of the image's side; the kernel is renormalised at the borders."""
    del drawn
    return along_all(image, severity, lambda n: _smoother(n, severity, real(image)))


def _smoother(n: int, severity: Array, dtype) -> Array:
    """Row-stochastic matrix that blurs one axis, (n, n)."""
    position = jnp.arange(n, dtype=dtype)
    distance = (position[:, None] - position[None, :]) / (jnp.maximum(severity, 1e-6) * n)
    return jax.nn.softmax(-(distance**2) / 2, axis=1)


def _about(image: Array) -> Array:
    """Distances in pixels, (dims, *lengths), from the middle of a kernel that reaches over FARTHEST of every side each way."""
    lines = [np.arange(-int(n * FARTHEST), int(n * FARTHEST) + 1) for n in image.shape[:-1]]
    return jnp.asarray(np.stack(np.meshgrid(*lines, indexing="ij")), real(image))


def _mean_by(image: Array, severity: Array, share: Array) -> Array:
    """Every number the mean of those about it, weighted by a share of each pixel; at severity 0 the image itself."""
    alone = jnp.all(_about(image) == 0, 0)
    kernel = jnp.where(severity > 0, share / share.sum(), alone)
    made = spread(image, kernel.astype(real(image)))
    return made if image.dtype == jnp.uint8 else jnp.clip(made, 0, 1)


def defocus(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Mean over a disc of radius ``severity`` of the image's side, over a ball in space; its transfer is 2 J₁(kr)/(kr), times a
    pixel's own, for these have a width."""
    del drawn
    distance = jnp.sqrt(jnp.sum(_about(image) ** 2, 0))
    return _mean_by(image, severity, jnp.clip(severity * max(image.shape[:-1]) - distance + 0.5, 0, 1))


def motion(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Mean along a line of length ``severity`` of the image's side and a pixel's width, in a random direction; its transfer is a
    sinc, times a pixel's own."""
    about = _about(image)
    far = jnp.abs(jnp.tensordot(drawn["direction"], about, 1))
    beside = jnp.sqrt(jnp.maximum(jnp.sum(about**2, 0) - far**2, 0))
    within = jnp.clip((severity * max(image.shape[:-1]) + 1) / 2 - far, 0, 1)
    return _mean_by(image, severity, within * jnp.clip(1 - beside, 0, 1))


def glass(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Seen through frosted glass: each pixel is read from a place that is displaced by ``severity`` of the side, s.d. along each
    axis and independent from pixel to pixel, between two blurs of half that width.
    """
    blurred = gaussian_blur({}, image, severity / 2)
    scattered = sample(blurred, grid(image) + 2 * severity * drawn["z"])
    return gaussian_blur({}, scattered, severity / 2)


def _displacements(key: Array, shape: tuple[int, ...]) -> Drawn:
    return normal_field(key, (len(shape) - 1, *shape[:-1]))


def zoom(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Mean of ZOOMS magnifications from 1 to ``1 + severity`` about the centre."""
    del drawn
    position = grid(image)
    steps = [sample(image, position / (1 + severity * k / (ZOOMS - 1))) for k in range(ZOOMS)]
    return sum(steps[1:], steps[0]) / ZOOMS


def _cells(n: int, factor: Array, dtype) -> Array:
    """Row-stochastic matrix (n, n): each pixel the mean of the cell of ``factor`` pixels that its centre lies in.

    Cells are laid from the middle, so that the centre stays in place.
    """
    edge = jnp.arange(n, dtype=dtype) - n / 2
    shift = 0.5 * (n % 2)  # an odd number of pixels has one in the middle, and a cell around it
    low = jnp.floor((edge + 0.5) / factor + shift) - shift
    return _overlap(low * factor, (low + 1) * factor, edge)


def _overlap(low: Array, high: Array, edge: Array) -> Array:
    """Shares (k, n) of each interval that lie in the pixels whose lower edges are given."""
    shared = jnp.clip(jnp.minimum(high[:, None], (edge + 1)[None]) - jnp.maximum(low[:, None], edge[None]), 0)
    return shared / shared.sum(1, keepdims=True)


def pixelate(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Square pixels of ``1 + severity`` times the side, each the mean of what it covers."""
    del drawn
    return along_all(image, severity, lambda n: _cells(n, 1 + severity, real(image)))


def down_sample(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Fewer pixels by ``1 + severity`` a side, each the mean of what it covers, and back by linear interpolation."""
    del drawn
    return along_all(image, severity, lambda n: _coarse(n, 1 + severity, real(image)))


def anisotropy(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Thick slices: coarse by ``1 + severity`` along one random axis, and back by linear interpolation."""
    dims = image.ndim - 1
    ways = jnp.stack(
        [along(image, _coarse(image.shape[axis], 1 + severity, image.dtype), axis) for axis in range(dims)]
    )
    return ways[jnp.minimum((drawn["u"] * dims).astype(int), dims - 1)]


def _coarse(n: int, factor: Array, dtype) -> Array:
    """Matrix (n, n): box means of width ``factor`` at cells laid from the middle, interpolated linearly."""
    shift = 0.5 * ((n + 1) % 2)  # cells beside the middle where pixels are, else one around it
    place = (jnp.arange(n, dtype=dtype) + 0.5 - n / 2) / factor
    low = jnp.floor(place - shift) + shift
    share = (place - low)[:, None]
    last = (n / 2) / factor - 0.5
    edge = jnp.arange(n, dtype=dtype) - n / 2

    def box(centre: Array) -> Array:
        centre = jnp.clip(centre, -jnp.maximum(last, 0), jnp.maximum(last, 0)) * factor
        return _overlap(centre - factor / 2, centre + factor / 2, edge)

    return (1 - share) * box(low) + share * box(low + 1)


# ---- JPEG, ITU-T T.81: 8 x 8 blocks, cosine transform, tables of its annex K

_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_CHROMA = np.full((8, 8), 99)
_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def _cosines() -> np.ndarray:
    """Cosine transform of a block of 8 x 8 pixels in a row, an orthogonal matrix (64, 64)."""
    k = np.arange(8)
    rows = np.cos(np.pi * (2 * k[None, :] + 1) * k[:, None] / 16) / 2
    rows[0] /= np.sqrt(2)
    return np.kron(rows, rows)


def jpeg(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Compressed and read again; ``severity`` multiplies the quantisation tables of quality 50."""
    del drawn
    height, width, channels = image.shape
    padded = jnp.pad(image, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="edge") * 255 - 128
    colours = jnp.asarray(_YCC, image.dtype)
    planes = jnp.moveaxis(padded, -1, 0)
    if channels == 3:
        planes = jnp.tensordot(colours, planes, 1)
    tables = np.stack([_LUMINANCE, *[_CHROMA if channels == 3 else _LUMINANCE] * (channels - 1)])
    step = jnp.maximum(jnp.asarray(tables.reshape(channels, 1, 1, 64), image.dtype) * severity, 1)
    rows, columns = padded.shape[0] // 8, padded.shape[1] // 8
    blocks = planes.reshape(channels, rows, 8, columns, 8).transpose(0, 1, 3, 2, 4).reshape(channels, rows, columns, 64)
    cosines = jnp.asarray(_cosines(), image.dtype)
    blocks = (jnp.round(blocks @ cosines.T / step) * step) @ cosines
    found = blocks.reshape(channels, rows, columns, 8, 8).transpose(0, 1, 3, 2, 4).reshape(planes.shape)
    if channels == 3:
        found = jnp.tensordot(jnp.linalg.inv(colours), found, 1)
    found = jnp.moveaxis(found, 0, -1)[:height, :width]
    return jnp.clip((found + 128) / 255, 0, 1)


BLUR = Variability(
    "blur", "s.d., fraction of image side", nothing, gaussian_blur, (0.015, 0.025, 0.04, 0.06, 0.09), stored=True
)
DEFOCUS = Variability(
    "defocus", "radius, fraction of image side", nothing, defocus, (0.03, 0.05, 0.08, 0.12, 0.18), stored=True
)
MOTION_BLUR = Variability(
    "motion_blur", "length, fraction of image side", one_direction, motion, (0.06, 0.1, 0.16, 0.25, 0.4), stored=True
)
GLASS = Variability(
    "glass", "s.d. of displacement, fraction of side", _displacements, glass, (0.01, 0.02, 0.035, 0.06, 0.1)
)
ZOOM_BLUR = Variability("zoom_blur", "largest magnification, less 1", nothing, zoom, (0.1, 0.2, 0.35, 0.6, 1.0))
DOWN_SAMPLING = Variability(
    "down_sampling", "factor, less 1", nothing, down_sample, (0.5, 1.0, 2.0, 3.0, 5.0), stored=True
)
PIXELATE = Variability("pixelate", "factor, less 1", nothing, pixelate, (0.5, 1.0, 2.0, 3.0, 5.0), stored=True)
ANISOTROPY = Variability(
    "anisotropy", "thickness in pixels, less 1", one_uniform, anisotropy, (0.5, 1.0, 2.0, 4.0, 7.0)
)
JPEG = Variability("jpeg", "quantisation relative to quality 50", nothing, jpeg, (1.0, 2.0, 3.5, 5.0, 8.0), dims=(2,))
