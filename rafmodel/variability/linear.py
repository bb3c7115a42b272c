"""What every number of an image becomes a sum of: matrices along axes, and kernels.

On a CPU by machine code, where it is compiled; the derivatives are the library's.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from rafmodel import native
from rafmodel.variability.law import in_numbers, real

ANY, UNIT = (-jnp.inf, jnp.inf), (0.0, 1.0)  # what numbers may be


def along(image: Array, matrix: Array, axis: int) -> Array:
    """A matrix (n, n) applied along one axis of space."""
    if native.alters(image, matrix):
        return _along(image, matrix, axis)
    return _along_by_library(image, matrix, axis)


def _along_by_library(image: Array, matrix: Array, axis: int) -> Array:
    return jnp.moveaxis(jnp.tensordot(matrix, image, (1, axis)), 0, axis)


@native.derived_by(_along_by_library, fixed=(2,))
def _along(image: Array, matrix: Array, axis: int) -> Array:
    return native.along(image, matrix, axis)


def spread(image: Array, kernel: Array) -> Array:
    """Every number of an image the sum of those about it times a kernel of odd lengths along the axes of space; the border is
    extended.  Images may be of 8 bits."""
    if native.alters_stored(image) and native.alters(kernel):
        return _spread(image, kernel)
    return in_numbers(lambda image: _spread_by_library(image, kernel), image)


def _spread_by_library(image: Array, kernel: Array) -> Array:
    axes, half = tuple(range(kernel.ndim)), [n // 2 for n in kernel.shape]
    padded = jnp.pad(image, [*((n, n) for n in half), (0, 0)], mode="edge")
    shape, turned = padded.shape[:-1], jnp.flip(kernel)
    product = jnp.fft.rfftn(padded, axes=axes) * jnp.fft.rfftn(turned, shape)[..., None]
    whole = jnp.fft.irfftn(product, shape, axes=axes)
    return whole[tuple(slice(n - 1, None) for n in kernel.shape)].astype(image.dtype)


@native.derived_by(_spread_by_library)
def _spread(image: Array, kernel: Array) -> Array:
    return native.spread(image, kernel)


def along_all(image: Array, severity: Array, matrix: Callable[[int], Array], ends: tuple[float, float] = ANY) -> Array:
    """``matrix(n)``, of shape (n, n) for an axis of n pixels, applied along every axis of space, and what is beyond the ends put
    there; at severity 0 the image itself.  Images may be of 8 bits, whose ends are 0 and 255."""
    there = severity > 0
    lines = {
        n: jnp.where(there, matrix(n).astype(real(image)), jnp.eye(n, dtype=real(image))) for n in image.shape[:-1]
    }
    ends_ = jnp.where(there, jnp.asarray(ends, real(image)), jnp.asarray(ANY, real(image)))
    made = _along_all if native.alters_stored(image) else _along_all_by_library
    return made(image, tuple(lines[n] for n in image.shape[:-1]), ends_)


def _along_all_by_library(image: Array, matrices: tuple[Array, ...], ends: Array) -> Array:
    def made(image: Array) -> Array:
        if len(matrices) == 2:  # one product of three
            image = jnp.einsum("ij,jkc,lk->ilc", matrices[0], image, matrices[1])
        else:
            for axis, matrix in enumerate(matrices):
                image = _along_by_library(image, matrix, axis)
        return jnp.clip(image, ends[0], ends[1])

    return in_numbers(made, image)


@native.derived_by(_along_all_by_library)
def _along_all(image: Array, matrices: tuple[Array, ...], ends: Array) -> Array:
    return native.along_all(image, matrices, ends)


def turned(image: Array, negative: Array | bool, mirrored: Array | bool) -> Array:
    """The negative of an image, or its mirror image along the last axis, or both, where that is so; of numbers or of 8 bits."""
    made = _turned if image.shape[-1] == 1 and native.alters_stored(image) else _turned_by_library
    told = 1 - 2.0 * negative, 1.0 * negative, 1.0 * mirrored
    return made(image, jnp.stack([jnp.asarray(x, real(image)) for x in told]))


def _turned_by_library(image: Array, told: Array) -> Array:
    def made(image: Array) -> Array:
        return jnp.where(told[2] > 0, jnp.flip(image, -2), image) * told[0] + told[1]

    return in_numbers(made, image)


@native.derived_by(_turned_by_library)
def _turned(image: Array, told: Array) -> Array:
    return native.tone(image, told)
