"""Parallel-beam projections of a square slice and their filtered back-projection.  Kak, Slaney 1988, chapter 3."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel.variability.law import sample


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


def _ramp(n: int) -> np.ndarray:
    """Symmetric Toeplitz matrix of the ramp filter's taps at unit spacing: 1/4, −1/(πk)² for odd k, else 0."""
    k = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    odd = np.where(k % 2 == 1, k, 1)
    return np.where(k == 0, 0.25, np.where(k % 2 == 1, -1 / (np.pi * odd) ** 2, 0.0))
