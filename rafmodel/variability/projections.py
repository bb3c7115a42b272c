"""Parallel-beam projections of a square slice and their filtered back-projection.  Kak, Slaney 1988, chapter 3."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel.variability.law import sample

DENSE = 4.0  # attenuation of a path across a white image, log


def _angles(views: int) -> Array:
    return jnp.pi * jnp.arange(views) / views


def projected(plane: Array, views: int) -> Array:
    """Sums along parallel rays: (H, W) -> (views, max(H, W)), in pixels times intensity; air outside the inscribed circle.

    Views are spread over half a turn; the middle detector sees the centre.
    """
    side = max(plane.shape)
    axis = (2 * jnp.arange(side, dtype=plane.dtype) + 1) / side - 1
    along, across = jnp.meshgrid(axis, axis, indexing="ij")
    inside = (along**2 + across**2 <= 1).astype(plane.dtype)

    def view(angle: Array) -> Array:
        rows = jnp.cos(angle) * along + jnp.sin(angle) * across
        columns = -jnp.sin(angle) * along + jnp.cos(angle) * across
        return (sample(plane[..., None], jnp.stack([rows, columns]))[..., 0] * inside).sum(0)

    return jax.lax.map(view, _angles(views).astype(plane.dtype))


def filtered_back(sinogram: Array, shape: tuple[int, ...]) -> Array:
    """The slice (H, W) of a sinogram (views, n): ramp filter in space (Ram, Lakshminarayanan), then back along the rays."""
    views, n = sinogram.shape
    ramp = jnp.asarray(_ramp(n), sinogram.dtype)
    filtered = sinogram @ ramp
    rows, columns = (
        jnp.reshape((2 * jnp.arange(m, dtype=sinogram.dtype) + 1) / m - 1, at)
        for m, at in zip(shape, ((-1, 1), (1, -1)), strict=True)
    )

    def back(total: Array, view: tuple[Array, Array]) -> tuple[Array, None]:
        angle, values = view
        place = ((jnp.sin(angle) * rows + jnp.cos(angle) * columns + 1) * n - 1) / 2
        return total + jnp.interp(place.ravel(), jnp.arange(n), values, left=0, right=0).reshape(shape), None

    start = jnp.zeros(shape, sinogram.dtype)
    total, _ = jax.lax.scan(back, start, (_angles(views).astype(sinogram.dtype), filtered))
    return total * jnp.pi / views


def redrawn(image: Array, change: Callable[..., Array], *more: Array, views: int) -> Array:
    """An image (H, W, C) or volume (D, H, W, C) whose projections were changed.

    change  ``(paths (views, n), ...) -> what is added to them``, attenuations in which a path across a white image has DENSE;
            each array of ``more`` has a row for every slice.  Reconstruction is linear, so only the change passes through it.
    """
    slices = image if image.ndim == 4 else image[None]
    scale = DENSE / max(slices.shape[1:3])

    def of_slice(plane: Array, *own: Array) -> Array:
        return filtered_back(change(projected(plane, views) * scale, *own), plane.shape) / scale

    found = jax.vmap(of_slice)(slices.mean(-1), *more)[..., None]
    return jnp.clip((slices + found).reshape(image.shape), 0, 1)


def detectors(n: int) -> Array:
    """Places (n,) of the rays of a view: distance from the centre, 1 at the border."""
    return (2 * jnp.arange(n, dtype=jnp.float32) + 1) / n - 1


def discs(places: Array, radius: Array, views: int, n: int) -> Array:
    """Lengths (views, n) of rays inside discs at places (k, 2), row and column from −1 to 1, in half sides.

    Mean over each ray's width.
    """
    angle = _angles(views)[:, None, None]
    across = jnp.sin(angle) * places[None, None, :, 0] + jnp.cos(angle) * places[None, None, :, 1]
    off = detectors(n)[None, :, None] - across

    def area(edge: Array) -> Array:
        """Of the disc on one side of a line, but for a constant."""
        x = jnp.clip(edge, -radius, radius)
        half = jnp.sqrt(jnp.maximum(radius**2 - x**2, 0))
        return x * half + radius**2 * jnp.arctan2(x, half)

    return ((area(off + 1 / n) - area(off - 1 / n)) * n / 2).sum(-1)


def _ramp(n: int) -> np.ndarray:
    """Symmetric Toeplitz matrix of the ramp filter's taps at unit spacing: 1/4, −1/(πk)² for odd k, else 0."""
    k = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    odd = np.where(k % 2 == 1, k, 1)
    return np.where(k == 0, 0.25, np.where(k % 2 == 1, -1 / (np.pi * odd) ** 2, 0.0))
