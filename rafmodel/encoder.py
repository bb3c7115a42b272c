"""Networks (flax.nnx), their features, and the statistics of their layers."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array


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
        return self.layers(images)[-1].mean((1, 2))

    def layers(self, images: Array) -> list[Array]:
        """What each layer answers, after its ReLU: (N, ceil(H/2), ceil(W/2), width), and so on."""
        x, found = (images - 0.5) / 0.25, []
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = jax.nn.relu(_patches(x) @ weight[...] + bias[...][None, None, None])
            found.append(x)
        return found


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


def layer_statistics(network: Encoder, images: Array | np.ndarray, *, chunk: int = 256) -> np.ndarray:
    """Mean and mean square over positions of every channel of every layer, (N, 2 Σ widths); the features come first.

    First and second moments of what each layer offers to the next: level (b) of the theory's feature maps.
    """
    graph, state = nnx.split(network)
    return in_chunks(partial(_statistics, graph, state), images, chunk=chunk)


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
def _statistics(graph, state, images: Array) -> Array:
    layers = nnx.merge(graph, state).layers(images)[::-1]
    return jnp.concatenate([*(x.mean((1, 2)) for x in layers), *((x**2).mean((1, 2)) for x in layers)], 1)
