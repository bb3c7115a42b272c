"""How an encoder is built: plain or residual convolutions, vision transformer, spatial transformers, pooled orientations.

Every network answers ``layers(images) -> [(N, *positions, width), ...]``, and its features are the mean of the last over
positions: theory reads the first two moments of each layer, whichever network it is.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from rafmodel import backend
from rafmodel.alignment import Aligned
from rafmodel.encoder import Encoder, Maps, beside, centred, convolved, encoder, pooled
from rafmodel.errors import InputError

Shape = tuple[int, ...]
Widths = tuple[int, ...]
TOKENS = {2: 8, 3: 4}  # most patches of a vision transformer along a side, by axes of space
HEAD = 16  # width of an attention head
WAVE = 10_000.0  # longest wave of the position code, as Vaswani et al. 2017


@dataclass(frozen=True)
class Architecture:
    """A way to build an encoder; a value to pass, and its name a label in tables.

    name           behind "@" in a design's name
    build          ``(key, shape (*space, C), widths) -> network``, untrained
    small, base    usual widths, for a laptop and for a GPU
    learning_rate  peak rate that suits it, None for the design's own
    dims           axes of space it is made for
    square         the sides of its input must be equal
    frozen         it comes from outside as it is, and is never trained
    content        digest of what comes from outside
    doubt          what theory cannot see of it
    """

    name: str
    build: Callable[[Array, Shape, Widths], Any] = field(repr=False)
    small: Widths = (16, 32, 64)
    base: Widths = (32, 64, 128, 256)
    learning_rate: float | None = None
    dims: tuple[int, ...] = (2, 3)
    square: bool = False
    frozen: bool = False
    content: str = ""
    doubt: str = ""

    def check(self, shape: Shape) -> None:
        """Raises InputError where the encoder is not made for images of this shape (*space, C)."""
        if len(shape) - 1 not in self.dims:
            made = " or ".join(map(str, self.dims))
            raise InputError(f"encoder {self.name}: made for {made} axes of space, but images are {shape[:-1]}")
        if self.square and len(set(shape[:-1])) > 1:
            raise InputError(
                f"encoder {self.name}: turns its input, but the sides {shape[:-1]} differ; crop to equal sides"
            )


class Residual(nnx.Module):
    """Blocks of two convolutions beside a shortcut, at stride 2 where the width changes.  He et al. 2016.

    The sum is divided by √2, which keeps its variance without statistics of the batch.
    """

    def __init__(self, key: Array, shape: Shape, widths: Widths):
        volume, keys = 3 ** (len(shape) - 1), nnx.Rngs(params=key)
        sizes = list(itertools.pairwise([shape[-1], *widths]))
        self.strides = tuple(2 if one != two or not i else 1 for i, (one, two) in enumerate(sizes))
        self.first = nnx.List([_weight(keys, volume * one, two) for one, two in sizes])
        self.second = nnx.List([_weight(keys, volume * two, two, gain=1.0) for _, two in sizes])
        self.short = nnx.List([_weight(keys, one, two, gain=1.0) for one, two in sizes])
        self.biases = nnx.List([nnx.Param(jnp.zeros((2, two), jnp.float32)) for _, two in sizes])

    def __call__(self, images: Array) -> Array:
        return pooled(self.layers(images)[-1])

    def layers(self, images: Array) -> list[Array]:
        """What each block answers: (N, *ceil(space / stride), width), and so on."""
        x, found = (images - 0.5) / 0.25, []
        blocks = zip(self.first, self.second, self.short, self.biases, self.strides, strict=True)
        for first, second, short, bias, stride in blocks:
            y = jax.nn.relu(beside(convolved(x, first[...], stride), bias[0]))
            y = beside(convolved(y, second[...], 1), bias[1])
            x = jax.nn.relu((y + _shortcut(x, short[...], stride)) / math.sqrt(2))
            found.append(x)
        return found

    def maps(self, images: Array) -> Maps:
        """The blocks' answers, which lie at the first pixel of their stride."""
        return Maps(self.layers(images), corner=True)


def _shortcut(x: Array, weight: Array, stride: int) -> Array:
    """A convolution by one pixel: (N, *space, C) -> (N, *ceil(space / stride), width).

    On accelerators pixels are taken first and multiplied then: where XLA (jaxlib 0.11.2, on an H100) makes one program of both,
    it ends the process.
    """
    some = x[(slice(None), *(slice(None, None, stride),) * (x.ndim - 2))]
    return (some if backend.on_cpu() else jax.lax.optimization_barrier(some)) @ weight


def _weight(keys: nnx.Rngs, n_in: int, n_out: int, *, gain: float = 2.0) -> nnx.Param:
    """Normal weights (n_in, n_out) of variance gain / n_in; 2 before a ReLU (He et al. 2015)."""
    return nnx.Param(math.sqrt(gain / n_in) * jax.random.normal(keys.params(), (n_in, n_out), jnp.float32))


# ---- vision transformer


class Block(nnx.Module):
    """Self-attention and a perceptron, each behind a layer norm and beside a shortcut."""

    def __init__(self, width: int, keys: nnx.Rngs):
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=keys) for _ in range(2)])
        self.attend = nnx.MultiHeadAttention(max(1, width // HEAD), width, decode=False, rngs=keys)
        self.grow, self.shrink = nnx.Linear(width, 4 * width, rngs=keys), nnx.Linear(4 * width, width, rngs=keys)

    def __call__(self, x: Array) -> Array:
        x = x + self.attend(self.norms[0](x))
        return x + self.shrink(jax.nn.gelu(self.grow(self.norms[1](x))))


class VisionTransformer(nnx.Module):
    """Patches as tokens with a code of their place, then blocks of one width.  Dosovitskiy et al. 2021.

    The code is made of sines, so that parts of an image can be encoded too; features are the mean token (Chen, Xie, He
    2021).  A patch has the fewest pixels that give at most TOKENS of them along the shortest side; the last pixel of a side is
    repeated until its patch is whole.
    """

    def __init__(self, key: Array, shape: Shape, widths: Widths):
        keys, dims, width = nnx.Rngs(params=key), len(shape) - 1, widths[-1]
        self.patch = -(-min(shape[:-1]) // TOKENS[dims])
        self.embed = nnx.Linear(self.patch**dims * shape[-1], width, rngs=keys)
        self.blocks = nnx.List([Block(width, keys) for _ in widths])
        self.norm = nnx.LayerNorm(width, rngs=keys)

    def __call__(self, images: Array) -> Array:
        return pooled(self.layers(images)[-1])

    def layers(self, images: Array) -> list[Array]:
        """Tokens after each block, (N, *patches, width); the last after the final norm."""
        tokens = _tokens((images - 0.5) / 0.25, self.patch)
        n, *grid, _ = tokens.shape
        x = self.embed(tokens)
        x = (x + place_code(tuple(grid), x.shape[-1])[None]).reshape(n, math.prod(grid), -1)
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        return [tokens.reshape(n, *grid, -1) for tokens in [*found[:-1], self.norm(found[-1])]]

    def maps(self, images: Array) -> Maps:
        """The tokens, which lie in the middle of their patches."""
        covered = tuple(self.patch * -(-length // self.patch) for length in images.shape[1:-1])
        return Maps(self.layers(images), corner=False, covered=covered)


def _tokens(x: Array, side: int) -> Array:
    """Patches (N, *ceil(space / side), side^dims C) of (N, *space, C), whose border is repeated where the last are not whole."""
    dims, grid = x.ndim - 2, [-(-length // side) for length in x.shape[1:-1]]
    more = [(0, n * side - length) for n, length in zip(grid, x.shape[1:-1], strict=True)]
    whole = jnp.pad(x, ((0, 0), *more, (0, 0)), "edge")
    split = whole.reshape(len(x), *itertools.chain(*((n, side) for n in grid)), x.shape[-1])
    order = (0, *range(1, 2 * dims, 2), *range(2, 2 * dims + 1, 2), 2 * dims + 1)
    return split.transpose(order).reshape(len(x), *grid, -1)


def place_code(grid: Shape, width: int) -> Array:
    """Sines and cosines of each patch's place along each axis, (*grid, width), zeros where width is left over."""
    waves = width // (2 * len(grid))
    rate = WAVE ** (-jnp.arange(waves, dtype=jnp.float32) / max(waves, 1))
    angles = [jnp.arange(n, dtype=jnp.float32)[:, None] * rate[None] for n in grid]
    codes = [jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1) for angle in angles]
    spread = [
        jnp.broadcast_to(
            code.reshape(*(len(code) if i == axis else 1 for i in range(len(grid))), -1), (*grid, 2 * waves)
        )
        for axis, code in enumerate(codes)
    ]
    whole = jnp.concatenate(spread, -1)
    return jnp.pad(whole, [(0, 0)] * len(grid) + [(0, width - whole.shape[-1])])


# ---- orientations


class FourFold(nnx.Module):
    """Group convolutions over quarter turns, the strongest orientation pooled at the end.  Cohen, Welling 2016 (p4).

    Maps are halved by means of pairs, or every other pixel where their side is odd, so that turning the image by quarters turns
    every map and leaves the features as they are.
    """

    def __init__(self, key: Array, shape: Shape, widths: Widths):
        keys = nnx.Rngs(params=key)
        inner = [max(1, width // 2) for width in widths[:-1]]  # as many weights as the plain encoder, as in their paper
        sizes = list(itertools.pairwise([shape[-1], *inner, widths[-1]]))
        turns = [1, *(4,) * (len(sizes) - 1)]
        self.filters = nnx.List(
            [
                nnx.Param(_weight(keys, 9 * k * one, two)[...].reshape(3, 3, k, one, two))
                for k, (one, two) in zip(turns, sizes, strict=True)
            ]
        )
        self.biases = nnx.List([nnx.Param(jnp.zeros((two,), jnp.float32)) for _, two in sizes])

    def __call__(self, images: Array) -> Array:
        return pooled(self.layers(images)[-1])

    def layers(self, images: Array) -> list[Array]:
        """Maps (N, h, 4 w, width) with the orientations of a pixel side by side; the last (N, h, w, width), the strongest."""
        *found, last = self._oriented(images)
        return [*(x.reshape(*x.shape[:2], 4 * x.shape[2], -1) for x in found), _strongest(last)]

    def maps(self, images: Array) -> Maps:
        """Maps (N, h, w, width) of the strongest orientation; they turn with the image."""
        return Maps([_strongest(x) for x in self._oriented(images)], corner=False)

    def _oriented(self, images: Array) -> list[Array]:
        x, found = (images - 0.5) / 0.25, []
        for depth, (filters, bias) in enumerate(zip(self.filters, self.biases, strict=True)):
            answer = jnp.asarray(convolved(x if depth == 0 else _halved(x), _turned_filters(filters[...]), 1))
            x = jax.nn.relu(beside(answer, jnp.tile(bias[...], 4)))
            x = _halved(x) if depth == 0 else x
            found.append(x)
        return found


def _strongest(x: Array) -> Array:
    """(N, h, w, 4 O) -> (N, h, w, O), the largest over orientations."""
    return x.reshape(*x.shape[:3], 4, -1).max(3)


def _turned_filters(filters: Array) -> Array:
    """Filters (3, 3, k, I, O) in four orientations, as a matrix (9 k I, 4 O); turning one rolls the orientations it reads."""
    turned = [jnp.roll(jnp.rot90(filters, r), r, axis=2) for r in range(4)]
    return jnp.stack(turned, -2).reshape(math.prod(filters.shape[:4]), -1)


def _halved(x: Array) -> Array:
    """(N, h, w, C) at half the side, rounded up, symmetric under quarter turns."""
    for axis in (1, 2):
        one, two = (jax.lax.slice_in_dim(x, start, None, 2, axis) for start in (0, 1))
        x = one if x.shape[axis] % 2 else (one + two) / 2
    return x


class Orbit(nnx.Module):
    """The plain encoder's mean over all turns of the image by quarters, 4 in a plane and 24 in space.

    Exactly invariant to them.  Laptev et al. 2016, who take the maximum over turns where this takes the mean.
    """

    def __init__(self, key: Array, shape: Shape, widths: Widths):
        self.plain = encoder(key, shape[-1], widths, dims=len(shape) - 1)

    def __call__(self, images: Array) -> Array:
        return pooled(self.layers(images)[-1])

    def layers(self, images: Array) -> list[Array]:
        """The plain encoder's maps of every turn side by side, (N, turns h, ...)."""
        apart = [x.swapaxes(0, 1) for x in self._each(images)]
        return [x.reshape(len(images), -1, *x.shape[3:]) for x in apart]

    def maps(self, images: Array) -> Maps:
        """The mean over turns of the plain encoder's maps, each turned back; they turn with the image."""
        space = images.shape[1:-1]  # equal sides
        back = [
            jnp.asarray(sum(turned_back(centred(one, space), turn) for turn, one in enumerate(x))) / len(x)
            for x in self._each(images)
        ]
        return Maps(back, corner=False)

    def _each(self, images: Array) -> list[Array]:
        """The plain encoder's maps of every turn, (turns, N, *positions, width)."""
        turns = turned(images)
        found = self.plain.layers(jnp.concatenate(turns))
        return [x.reshape(len(turns), len(images), *x.shape[1:]) for x in found]


def turned(images: Array) -> list[Array]:
    """Images (N, *space, C) in every orientation that quarter turns reach: axes permuted and reversed, never mirrored."""
    dims = images.ndim - 2
    return [
        jnp.flip(images.transpose(0, *(1 + axis for axis in order), dims + 1), axes) for order, axes in quarters(dims)
    ]


def turned_back(x: Array, turn: int) -> Array:
    """What ``turned`` made at this place of its list, (N, *space, C), in the orientation of the image again."""
    order, axes = quarters(x.ndim - 2)[turn]
    return jnp.flip(x, axes).transpose(0, *(1 + order.index(axis) for axis in range(len(order))), x.ndim - 1)


def quarters(dims: int) -> list[tuple[Shape, Shape]]:
    """Every turn by quarters: the order that axes of space are put in, and which axes of an array are then reversed."""
    found = []
    for order in itertools.permutations(range(dims)):
        odd = sum(one > two for one, two in itertools.combinations(order, 2)) % 2
        for reverse in itertools.product((False, True), repeat=dims):
            if sum(reverse) % 2 == odd:
                found.append((order, tuple(1 + axis for axis in range(dims) if reverse[axis])))
    return found


# ---- to choose from


def _plain(key: Array, shape: Shape, widths: Widths) -> Encoder:
    return encoder(key, shape[-1], widths, dims=len(shape) - 1)


PLAIN = Architecture("plain", _plain)
RESIDUAL = Architecture("residual", Residual, base=(64, 64, 128, 128, 256, 256, 512, 512))
VIT = Architecture("vit", VisionTransformer, small=(64,) * 4, base=(192,) * 12, learning_rate=1e-3)
_STILL = "a spatial transformer is the identity before training, so it is foreseen as the plain encoder"
STN = Architecture("stn", partial(Aligned, after=0), doubt=_STILL)
STN_MAPS = Architecture("stn-maps", partial(Aligned, after=1), doubt=_STILL)
P4 = Architecture("p4", FourFold, dims=(2,))
ORBIT = Architecture("orbit", Orbit, square=True)
ARCHITECTURES = {one.name: one for one in (PLAIN, RESIDUAL, VIT, STN, STN_MAPS, P4, ORBIT)}


def named(text: str) -> tuple[Architecture, Widths]:
    """Architecture and widths that ``NAME`` or ``NAME:base`` stands for.

    Raises InputError for a name or a size that does not exist.
    """
    name, _, size = text.partition(":")
    if name not in ARCHITECTURES:
        raise InputError(f"--designs: no encoder is called '{name}'; choose from {', '.join(ARCHITECTURES)}")
    if size not in ("", "small", "base"):
        raise InputError(f"--designs: encoder {name} has no size '{size}'; choose small or base")
    one = ARCHITECTURES[name]
    return one, one.base if size == "base" else one.small
