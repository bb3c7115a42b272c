"""Marks on a picture, one after another appearing as severity goes from 0 to 1, and round fields of view.

On a CPU that machine code is compiled for, round marks, stamps and round views are put on by it, on pictures as they are stored;
else, and for others, by XLA, as how much of every pixel they leave.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_batching import sequential_vmap

from rafmodel import backend, native
from rafmodel.variability.law import Drawn, axes, in_numbers

ENTRIES = 4096  # of a round mark's profile
MOST_KINDS = 2  # of round marks that machine code puts on


def shown(severity: Array, most: int) -> Array:
    """How far each of ``most`` marks has appeared, (most,) in [0, 1]: one after another as severity goes from 0 to 1."""
    return jnp.clip(severity * most - jnp.arange(most, dtype=severity.dtype), 0, 1)


Cover = Callable[[Drawn, Array, Array], Array]  # mark, row (h, 1), column (1, w) -> share of each pixel that it covers


def clear(
    shape: tuple[int, ...], severity: Array, marks: Drawn, half: tuple[float, float], *covers: Cover
) -> list[Array]:
    """For each of some kinds of cover, the share of every pixel (*shape) that no mark shown covers: product of 1 − ``cover``.

    marks  what was drawn, a row a mark; the middle of each is its ``place``
    half   half the height and width of the box about it, beyond which it covers nothing that could be seen

    Image by image on a CPU, and mark by mark, since only so the marks that are shown and the pixels near them are all that is
    touched.
    """
    of_one = partial(_clear_of_one, shape, half, covers)
    return (sequential_vmap(of_one) if backend.on_cpu() else of_one)(severity, marks)


def _clear_of_one(
    shape: tuple[int, ...], half: tuple[float, float], covers: tuple[Cover, ...], severity: Array, marks: Drawn
) -> list[Array]:
    most = len(marks["place"])
    how_far = shown(severity, most)
    box = [min(n, math.ceil(reach * n) + 2) for n, reach in zip(shape, half, strict=True)]

    def line(start: Array, n: int, size: int) -> Array:
        return ((2 * (start + jnp.arange(size)) + 1) / n - 1).astype(severity.dtype)

    def over(k: Array, left_: list[Array]) -> list[Array]:
        mark = {name: value[k] for name, value in marks.items()}
        middle = [((x + 1) * n / 2).astype(int) for x, n in zip(mark["place"], shape, strict=True)]
        start = [jnp.clip(x - size // 2, 0, n - size) for x, n, size in zip(middle, shape, box, strict=True)]
        row, column = map(line, start, shape, box)
        left = [1 - how_far[k] * cover(mark, row[:, None], column[None]).astype(severity.dtype) for cover in covers]
        near = [jax.lax.dynamic_slice(free, start, box) for free in left_]
        return [
            jax.lax.dynamic_update_slice(free, part * some, start)
            for free, part, some in zip(left_, near, left, strict=True)
        ]

    count = jnp.ceil(jnp.clip(severity, 0, 1) * most).astype(int)
    return jax.lax.fori_loop(0, count, over, [jnp.ones(shape, severity.dtype) for _ in covers])


def over(image: Array, colour: Any, left: Array) -> Array:
    """A picture (h, w, C) under a colour, one number or (C,), of which every pixel is left a share (h, w)."""
    colour = jnp.broadcast_to(jnp.asarray(colour, image.dtype), image.shape[-1:])
    return colour[None, None] + (image - colour[None, None]) * left[..., None].astype(image.dtype)


# ---- round marks

Profile = Callable[[Array], Array]  # how far beyond a round mark's size, as a share of half the side -> share covered


class Kind(NamedTuple):
    """A cover that round marks have: its colour, one number or one a channel, and its profile."""

    profile: Profile
    colour: tuple[float, ...]


class Look(NamedTuple):
    """Kinds of cover, one over the other, and ``reach`` as ``round_marks`` says."""

    reach: tuple[float, float]
    kinds: tuple[Kind, ...]


def round_marks(image: Array, severity: Array, marks: tuple[Array, Array], look: Look) -> Array:
    """A picture under round marks: their places (most, 2) and sizes (most,), and covers by how far a pixel is beyond that.

    The look's reach is the largest size, and how far beyond it a mark ends, where it covers hardly anything; by machine code,
    profiles are tables between these.
    """
    by_machine_code = len(look.kinds) <= MOST_KINDS and native.alters_stored(image)
    made = _round if by_machine_code else _round_by_library
    return made(look, image, severity, *marks)


def _ending(look: Look, kind: Kind) -> Profile:
    """A profile that ends at the look's reach, without a step."""
    return lambda far: jnp.maximum(kind.profile(far) - kind.profile(jnp.full_like(far, look.reach[1])), 0)


def _round_by_library(look: Look, image: Array, severity: Array, place: Array, size: Array) -> Array:
    def cover(profile: Profile) -> Cover:
        def of(mark: Drawn, row: Array, column: Array) -> Array:
            far = jnp.sqrt((row - mark["place"][0]) ** 2 + (column - mark["place"][1]) ** 2)
            return profile(far - mark["size"])

        return of

    def made(image: Array) -> Array:
        half, covers = (sum(look.reach), sum(look.reach)), [cover(_ending(look, kind)) for kind in look.kinds]
        lefts = clear(image.shape[:2], severity, {"place": place, "size": size}, half, *covers)
        for kind, left in zip(look.kinds, lefts, strict=True):
            image = over(image, kind.colour, left)
        return image

    return in_numbers(made, image)


@native.derived_by(_round_by_library, fixed=(0,))
def _round(look: Look, image: Array, severity: Array, place: Array, size: Array) -> Array:
    """``_round_by_library`` by machine code; its derivatives are the library's."""
    with jax.ensure_compile_time_eval():
        far = jnp.linspace(-look.reach[0], look.reach[1], ENTRIES, dtype=jnp.float32)
        tables = jnp.stack([_ending(look, kind)(far) for kind in look.kinds], 1)
        pairs = jnp.stack([tables, jnp.diff(tables, axis=0, append=tables[-1:])], -1).reshape(ENTRIES, -1)
        colours = np.stack(
            [np.broadcast_to(np.asarray(kind.colour, np.float32), image.shape[-1:]) for kind in look.kinds]
        )
    marks, ends = jnp.concatenate([place, size[:, None]], 1), jnp.asarray(look.reach, jnp.float32)
    given = shown(severity, len(place)), marks, ends, pairs, jnp.asarray(colours)
    return native.round_marks(image, *(x.astype(jnp.float32) for x in given))


# ---- stamps


def stamps(image: Array, severity: Array, corner: Array, raster: Array, cell: float, colour: float) -> Array:
    """A picture under stamps of a grey level: rasters (most, rows, columns) of square cells, hung from corners (most, 2)."""
    made = _stamped if native.alters_stored(image) else _stamped_by_library
    return made((cell, colour), image, severity, corner, raster)


def _stamped_by_library(
    look: tuple[float, float], image: Array, severity: Array, corner: Array, raster: Array
) -> Array:
    (cell, colour), (rows, columns) = look, raster.shape[1:]

    def ink(stamp: Drawn, row: Array, column: Array) -> Array:
        """A raster, where a pixel's row and column lie in its cells."""
        top, left = stamp["corner"]
        within_row = (jnp.floor((row - top) / cell) == jnp.arange(rows)[None]).astype(severity.dtype)
        within_column = (jnp.floor((column - left) / cell) == jnp.arange(columns)[:, None]).astype(severity.dtype)
        return within_row @ stamp["raster"].astype(severity.dtype) @ within_column

    def made(image: Array) -> Array:
        half = (rows / 2 * cell, columns / 2 * cell)
        drawn = {"place": corner + jnp.array([half], corner.dtype), "corner": corner, "raster": raster}
        return over(image, colour, clear(image.shape[:2], severity, drawn, half, ink)[0])

    return in_numbers(made, image)


@native.derived_by(_stamped_by_library, fixed=(0,))
def _stamped(look: tuple[float, float], image: Array, severity: Array, corner: Array, raster: Array) -> Array:
    """``_stamped_by_library`` by machine code; its derivatives are the library's."""
    cell, colour = (jnp.float32(x) for x in look)
    given = shown(severity, len(corner)), corner, raster, cell, jnp.broadcast_to(colour, image.shape[-1:])
    return native.stamps(image, *(x.astype(jnp.float32) for x in given))


# ---- what is hidden


def hide(image: Array, covers: list[Array]) -> Array:
    """An image of which the product of shares along each axis of space, as ``axes`` gives positions, is black."""
    return (_hidden if native.alters_stored(image) else _hidden_by_library)(image, covers)


def _hidden_by_library(image: Array, covers: list[Array]) -> Array:
    return in_numbers(lambda image: image * (1 - math.prod(covers[1:], start=covers[0]))[..., None], image)


@native.derived_by(_hidden_by_library)
def _hidden(image: Array, covers: list[Array]) -> Array:
    """``_hidden_by_library`` by machine code; its derivatives are the library's."""
    return native.hide(image, [cover.reshape(-1).astype(jnp.float32) for cover in covers])


# ---- round fields of view


def round_view(image: Array, place: Array, radius: Array) -> Array:
    """A picture that is black beyond a circle; at its edge a pixel fades."""
    return (_viewed if native.alters_stored(image) else _viewed_by_library)(image, place, radius)


def _viewed_by_library(image: Array, place: Array, radius: Array) -> Array:
    def made(image: Array) -> Array:
        rows, columns = axes(image)
        far = jnp.sqrt((rows - place[0]) ** 2 + (columns - place[1]) ** 2)
        return image * jnp.clip((radius - far) * image.shape[0] / 2 + 0.5, 0, 1)[..., None]

    return in_numbers(made, image)


@native.derived_by(_viewed_by_library)
def _viewed(image: Array, place: Array, radius: Array) -> Array:
    """``_viewed_by_library`` by machine code; its derivatives are the library's."""
    return native.round_view(image, jnp.concatenate([place, radius[None]]).astype(jnp.float32))
