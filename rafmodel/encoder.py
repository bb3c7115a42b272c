"""Networks (flax.nnx), their features, and the statistics of their layers."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from rafmodel import backend, native
from rafmodel.errors import InputError
from rafmodel.on_disk import OnDisk

AT_ONCE = 2**20  # bytes of images encoded together: with what their layers answer they stay in a cache
NO_MAPS = "says something of an image as a whole and nothing of its pixels; use an encoder with maps (n, *positions, d)"


class Network(Protocol):
    """Any encoder: features (N, d) of images (N, *space, C)."""

    def __call__(self, images: Any, /) -> Any: ...


class Maps(NamedTuple):
    """What layers answer at their own positions, and where these lie.

    layers   (N, *positions, width) each
    corner   a layer that keeps every s-th pixel along a side has its i-th position at pixel i s, as convolutions with a stride
             do; otherwise a position lies in the middle of its s pixels, as patches and means of neighbours do
    covered  pixels along each side that positions in the middle stand for, some of them beyond the border; (): the image's own
    """

    layers: list[Array]
    corner: bool
    covered: tuple[int, ...] = ()


class Encoder(nnx.Module):
    """Convolutions 3x3 (3x3x3) with stride 2 and ReLU, then the mean over positions: ``(N, *space, C) -> (N, d)``.

    Convolutions have a gradient rule of their own, see ``convolved``.
    """

    def __init__(self, n_channels: int, widths: tuple[int, ...], *, dims: int = 2, rngs: nnx.Rngs):
        sizes = [n_channels, *widths]
        he = nnx.initializers.he_normal()
        self.weights = nnx.List(
            [nnx.Param(he(rngs.params(), (3**dims * i, o), jnp.float32)) for i, o in itertools.pairwise(sizes)]
        )
        self.biases = nnx.List([nnx.Param(jnp.zeros((o,), jnp.float32)) for o in widths])

    def __call__(self, images: Array) -> Array:
        return pooled(self.layers(images)[-1])

    def layers(self, images: Array) -> list[Array]:
        """What each layer answers, after its ReLU: (N, *ceil(space / 2), width), and so on."""
        x, found = (images - 0.5) / 0.25, []
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = jax.nn.relu(beside(convolved(x, weight[...]), bias[...]))
            found.append(x)
        return found

    def maps(self, images: Array) -> Maps:
        """The layers' answers, which lie at the first pixel of their stride."""
        return Maps(self.layers(images), corner=True)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolved(x: Array, weight: Array, stride: int = 2) -> Array:
    """Convolution 3x3 (3x3x3) with one pixel of zeros around: (N, *space, C) -> (N, *ceil(space / stride), width).

    weight  (3^dims C, width); stride 1 or 2
    On accelerators it is ``lax.conv``, on a CPU compiled code (``native``) where that fits.  Where it does not, it is
    ``lax.conv``, too, and where something is differentiated patches times a matrix, as a CPU's gradient of ``lax.conv`` is slow
    in loops: the gradient makes the patches again rather than keep them, and adds what a pixel gets from the patches it lies in
    by slices of adjacent memory.  Reverse mode only.
    """
    by_code = backend.on_cpu() and native.fits(x, weight)
    return native.convolved(x, weight, stride) if by_code else _by_library(stride, x, weight)


def _by_library(stride: int, x: Array, weight: Array) -> Array:
    dims, channels = x.ndim - 2, x.shape[-1]
    axes = "DHW"[-dims:]
    dtype = jnp.result_type(x, weight)
    x, filters = x.astype(dtype), weight.astype(dtype).reshape(*(3,) * dims, channels, -1)
    layout = f"N{axes}C", f"{axes}IO", f"N{axes}C"
    return jax.lax.conv_general_dilated(x, filters, (stride,) * dims, ((1, 1),) * dims, dimension_numbers=layout)


def _ahead(x: Array, weight: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    if backend.on_cpu() and not native.fits(x, weight):
        return _patches(x, stride=stride) @ weight, (x, weight)
    return convolved(x, weight, stride), (x, weight)


def _back(stride: int, kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, weight = kept
    if not backend.on_cpu():
        return jax.vjp(partial(_by_library, stride), x, weight)[1](slope)
    by_code = native.fits(x, weight)
    if by_code:
        to_weight = native.to_weight(x, slope, stride)
    else:
        to_weight = _patches(x, stride=stride).reshape(-1, len(weight)).T @ slope.reshape(-1, slope.shape[-1])
    if by_code and x.shape[-1] % native.EVEN == 0:
        return native.to_images(slope, weight, x.shape, stride), to_weight
    return _unpatched(slope @ weight.T, x.shape, stride), to_weight


convolved.defvjp(_ahead, _back)


def _patches(x: Array, *, stride: int = 2) -> Array:
    """Every 3x3 (3x3x3) patch at a stride: (N, *space, C) -> (N, *ceil(space / stride), 3^dims C)."""
    dims = x.ndim - 2
    x = jnp.pad(x, ((0, 0), *((1, 1),) * dims, (0, 0)))
    reach = [stride * ((side - 3) // stride) + 1 for side in x.shape[1:-1]]
    offsets = itertools.product(range(3), repeat=dims)
    places = [tuple(slice(i, i + r, stride) for i, r in zip(offset, reach, strict=True)) for offset in offsets]
    return jnp.concatenate([x[(slice(None), *place)] for place in places], -1)


def _unpatched(slope: Array, shape: tuple[int, ...], stride: int) -> Array:
    """The transpose of ``_patches``: every pixel (N, *space, C) of ``shape`` gets the sum over its places in patches.

    One axis of space after the other.  With stride 2 an even pixel is in the middle of one patch, and an odd one is the last
    of that patch and the first of the next.
    """
    dims = len(shape) - 2
    slope = slope.reshape(*slope.shape[:-1], *(3,) * dims, shape[-1])
    for axis, side in enumerate(shape[1:-1], 1):
        first, middle, last = (jax.lax.index_in_dim(slope, i, 1 + dims, keepdims=False) for i in range(3))
        if stride == 1:
            slope = _moved(last, axis, 1) + middle + _moved(first, axis, -1)
        else:
            pairs = jnp.stack([middle, last + _moved(first, axis, -1)], axis + 1)
            slope = pairs.reshape(*middle.shape[:axis], -1, *middle.shape[axis + 1 :])
            slope = jax.lax.slice_in_dim(slope, 0, side, axis=axis)
    return slope


def _moved(x: Array, axis: int, by: int) -> Array:
    """Entries moved by one place along an axis, zero where none comes from."""
    edges = [(by, -by, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), edges)


def beside(x: Array, bias: Array) -> Array:
    """A bias (C,) added at every position of (N, *space, C)."""
    return x + bias.reshape(*(1,) * (x.ndim - 1), -1)


def pooled(x: Array) -> Array:
    """Mean over positions, (N, *space, C) -> (N, C)."""
    return x.mean(tuple(range(1, x.ndim - 1)))


def encoder(key: Array, n_channels: int, widths: tuple[int, ...], *, dims: int = 2) -> Encoder:
    """An untrained encoder drawn from ``key`` (He normal weights, zero biases) for images of ``dims`` axes of space."""
    return Encoder(n_channels, widths, dims=dims, rngs=nnx.Rngs(params=key))


def features(network: Network, images: Array | np.ndarray | OnDisk, *, chunk: int | None = None) -> np.ndarray:
    """Features of many images, (N, d) float32, in chunks that fit the cache."""
    if not isinstance(network, nnx.Module):  # comes from outside
        images = images if isinstance(images, OnDisk) else np.asarray(images)
        return in_chunks(network, images, chunk=chunk or few(images))
    graph, state = nnx.split(network)
    return in_chunks(partial(_encode, graph, state), images, chunk=chunk or few(images))


def few(images: Array | np.ndarray | OnDisk, most: int = 256) -> int:
    """How many images (N, *space, C) are encoded together: AT_ONCE bytes as float32 on a CPU, at most so many, at least one."""
    return max(1, min(most, backend.together(AT_ONCE) // (4 * int(np.prod(images.shape[1:])))))


def layer_statistics(network: Network, images: Array | np.ndarray | OnDisk, *, chunk: int | None = None) -> np.ndarray:
    """Mean and mean square over positions of every channel of every layer, (N, 2 Σ widths); the features come first.

    First and second moments of what each layer offers to the next: level (b) of the theory's feature maps.
    Of a network from outside, whose layers are not seen, the features alone.
    """
    if not isinstance(network, nnx.Module):
        return features(network, images, chunk=chunk)
    graph, state = nnx.split(network)
    return in_chunks(partial(_statistics, graph, state), images, chunk=chunk or few(images))


def dense_features(network: Network, images: Array | np.ndarray, *, chunk: int = 64) -> np.ndarray:
    """Every layer's maps side by side at each pixel, (N, *space, Σ widths), linear between their pixels.

    For pixel-wise probes: hypercolumns, Hariharan et al. 2015.
    Raises InputError for a network that has no maps.
    """
    if not hasattr(network, "maps"):
        raise InputError(f"encoder {type(network).__name__}: {NO_MAPS}")
    return in_chunks(of_maps(network, _columns), images, chunk=chunk)


def of_maps(network: Network, f: Callable[..., Array]) -> Callable[..., Array]:
    """``(images (N, *space, C), *more) -> f(maps, space, *more)`` of the network's maps of these images, compiled.

    f  a function of a module, by which the program is found again
    """
    if not isinstance(network, nnx.Module):  # comes from outside, so only what is made of its answer is compiled

        def found(images: Any, *more: Any) -> Array:
            seen = cast(Any, network).maps(images)
            return _behind(f, (seen.corner, seen.covered), tuple(images.shape[1:-1]), seen.layers, *more)

        return found
    return partial(_within, f, *nnx.split(network))


def widths_of_maps(network: Network, shape: tuple[int, ...]) -> list[int]:
    """Channels of each layer's maps of images of shape (*space, C)."""
    if not isinstance(network, nnx.Module):
        return [x.shape[-1] for x in cast(Any, network).maps(np.zeros((1, *shape), np.float32)).layers]
    graph, state = nnx.split(network)
    seen = jax.eval_shape(
        lambda x: cast(Any, nnx.merge(graph, state)).maps(x).layers, jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    )
    return [x.shape[-1] for x in seen]


def in_chunks(f: Callable[..., Any], *columns: Array | np.ndarray | OnDisk, chunk: int = 256) -> Any:
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
    return jnp.concatenate([*(pooled(x) for x in layers), *(pooled(x**2) for x in layers)], 1)


@partial(jax.jit, static_argnums=(0, 1))
def _within(f, graph, state, images: Array, *more: Any) -> Array:
    return f(nnx.merge(graph, state).maps(images), images.shape[1:-1], *more)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _behind(f, where: tuple[bool, tuple[int, ...]], space: tuple[int, ...], layers: list[Array], *more: Any) -> Array:
    return f(Maps(layers, *where), space, *more)


def _columns(seen: Maps, space: tuple[int, ...]) -> Array:
    return jnp.concatenate([at_pixels(x, space, seen) for x in seen.layers], -1)


def at_pixels(x: Array, space: tuple[int, ...], seen: Maps) -> Array:
    """A layer's maps (N, *positions, k) at every pixel of ``space``, linear between their own positions, flat beyond the last.

    seen  says where these lie; a stride is a power of 2
    """
    if not seen.corner:
        covered = jax.image.resize(x, (len(x), *(seen.covered or space), x.shape[-1]), "linear")
        return covered[(slice(None), *(slice(side) for side in space))]
    for axis, side in enumerate(space, 1):
        x = _read(x, axis, np.arange(side) / stride_of(side, x.shape[axis]))
    return x


def centred(x: Array, space: tuple[int, ...]) -> Array:
    """A layer's maps (N, *positions, k) whose positions lie at the first of their pixels, read in the middle of these."""
    for axis, side in enumerate(space, 1):
        n = x.shape[axis]
        x = _read(x, axis, ((np.arange(n) + 0.5) * side / n - 0.5) / stride_of(side, n))
    return x


def stride_of(side: int, n: int) -> int:
    """The power of 2 at which n positions lie along a side of so many pixels."""
    return next(2**k for k in itertools.count() if -(-side // 2**k) <= n)


def _read(x: Array, axis: int, place: np.ndarray) -> Array:
    """Entries along an axis at places between them, linear, flat beyond the last."""
    n = x.shape[axis]
    share = np.maximum(0, 1 - np.abs(np.minimum(place, n - 1)[:, None] - np.arange(n)[None]))
    return jnp.moveaxis(jnp.tensordot(x, jnp.asarray(share.T, x.dtype), (axis, 0)), -1, axis)
