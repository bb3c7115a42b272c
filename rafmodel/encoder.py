"""Networks (flax.nnx), their features, and the tangent features of an untrained one."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

COTANGENTS = 2  # random output directions whose gradients stand for all of them
SKETCH = 16  # columns and rows kept of each layer's weight gradient


class Encoder(nnx.Module):
    """Convolutions 3x3 with stride 2 and ReLU, then the mean over positions: ``(N, H, W, C) -> (N, d)``.

    Convolutions are written as patches times a matrix: on a CPU their gradient stays fast inside ``lax.scan``.
    """

    def __init__(self, n_channels: int, widths: tuple[int, ...], *, rngs: nnx.Rngs):
        sizes = [n_channels, *widths]
        he = nnx.initializers.he_normal()
        self.weights = nnx.List(
            [nnx.Param(he(rngs.params(), (9 * i, o), jnp.float32)) for i, o in itertools.pairwise(sizes)]
        )
        self.biases = nnx.List([nnx.Param(jnp.zeros((o,), jnp.float32)) for o in widths])

    def __call__(self, images: Array) -> Array:
        n_layers = len(self.weights)
        return self.trace(images, [jnp.zeros((), images.dtype)] * n_layers)[0]

    def trace(self, images: Array, offsets: list[Array]) -> tuple[Array, list[Array]]:
        """Features (N, d) when ``offsets`` are added before each ReLU, and the patches each layer sees."""
        x, seen = (images - 0.5) / 0.25, []
        for weight, bias, offset in zip(self.weights, self.biases, offsets, strict=True):
            patches = _patches(x)
            seen.append(patches)
            x = jax.nn.relu(patches @ weight[...] + bias[...][None, None, None] + offset)
        return x.mean((1, 2)), seen


def _patches(x: Array) -> Array:
    """Every 3x3 patch at stride 2: (N, H, W, C) -> (N, ceil(H/2), ceil(W/2), 9 C)."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = (x.shape[1] - 3) // 2 + 1, (x.shape[2] - 3) // 2 + 1
    return jnp.concatenate(
        [x[:, i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2] for i in range(3) for j in range(3)], -1
    )


def encoder(key: Array, n_channels: int, widths: tuple[int, ...]) -> Encoder:
    """An untrained encoder drawn from ``key`` (He normal weights, zero biases)."""
    return Encoder(n_channels, widths, rngs=nnx.Rngs(params=key))


def features(network: Encoder, images: Array | np.ndarray, *, chunk: int = 256) -> np.ndarray:
    """Features of many images, (N, d) float32, in chunks that fit the cache."""
    graph, state = nnx.split(network)
    return in_chunks(partial(_encode, graph, state), images, chunk=chunk)


def tangents(network: Encoder, images: Array | np.ndarray, *, chunk: int = 256) -> np.ndarray:
    """Features (d) and sketched parameter gradients (p) of an encoder at its present weights, (N, d + p).

    The gradient of a layer's weights is a sum over positions of patch times back-propagated error; both factors
    are multiplied by fixed random matrices (SKETCH columns), which keeps inner products in expectation.
    Level (b) of the theory's feature maps.
    """
    graph, state = nnx.split(network)
    return in_chunks(partial(_tangents, graph, state), images, chunk=chunk)


def in_chunks(f: Callable[..., Any], *columns: Array | np.ndarray, chunk: int = 256) -> Any:
    """``f`` of columns with n rows each, some rows at a time, the last chunk padded so that one shape is compiled.

    f  returns one array or a tuple of them, with as many rows as it was given; so does this, as numpy arrays
    """
    n = len(columns[0])
    parts = []
    for start in range(0, n, chunk):
        rows = np.minimum(np.arange(start, start + chunk), n - 1)  # padded with copies of the last row
        parts.append(jax.tree.map(np.asarray, f(*(column[rows] for column in columns))))
    return jax.tree.map(lambda *some: np.concatenate(some)[:n], *parts)


@partial(jax.jit, static_argnums=0)
def _encode(graph, state, images: Array) -> Array:
    return nnx.merge(graph, state)(images)


@partial(jax.jit, static_argnums=0)
def _tangents(graph, state, images: Array) -> Array:
    network = nnx.merge(graph, state)
    shapes = [patches.shape[:3] for patches in network.trace(images, [0.0] * len(network.weights))[1]]
    zeros = [
        jnp.zeros((*shape, weight[...].shape[1]), images.dtype)
        for shape, weight in zip(shapes, network.weights, strict=True)
    ]
    output, pullback, seen = jax.vjp(partial(network.trace, images), zeros, has_aux=True)
    directions = _gaussian(0, COTANGENTS, output.shape[1])
    columns = [output]
    for direction in directions:
        (errors,) = pullback(jnp.broadcast_to(direction[None], output.shape))
        for i, (patches, error) in enumerate(zip(seen, errors, strict=True)):
            left, right = _thin(1 + 2 * i, patches), _thin(2 + 2 * i, error)
            columns.append(jnp.einsum("nhwa,nhwb->nab", left, right).reshape(len(images), -1))
    return jnp.concatenate(columns, 1)


def _thin(number: int, x: Array) -> Array:
    """Random projection of the last axis to SKETCH columns, unless it has no more than that."""
    n = x.shape[-1]
    return x if n <= SKETCH else x @ (_gaussian(number, n, SKETCH) / SKETCH**0.5)


def _gaussian(number: int, *shape: int) -> Array:
    """The sketch is part of the feature map, so it is fixed; drawing it outside the program halves compilation."""
    return jnp.asarray(np.random.default_rng(number).normal(size=shape), jnp.float32)
