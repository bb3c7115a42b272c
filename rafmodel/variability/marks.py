"""Marks on a picture: how much of every pixel they leave, one mark after another appearing as severity goes from 0 to 1.

On a CPU that machine code is compiled for, round marks and stamps are put on by it; else, and for others, by XLA.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_batching import sequential_vmap

from rafmodel import backend, native

Drawn = dict[str, Array]
ENTRIES = 4096  # of a round mark's profile


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


# ---- round marks

Profile = Callable[[Array], Array]  # how far beyond a round mark's size, as a share of half the side -> share covered


class Look(NamedTuple):
    """Pictures of a shape with round marks of some kinds of cover, and ``reach`` as ``clear_of_round`` says."""

    shape: tuple[int, ...]
    reach: tuple[float, float]
    profiles: tuple[Profile, ...]


def clear_of_round(
    shape: tuple[int, ...], severity: Array, marks: tuple[Array, Array], reach: tuple[float, float], *profiles: Profile
) -> list[Array]:
    """``clear`` for round marks: their places (most, 2) and sizes (most,), and covers by how far a pixel is beyond that.

    reach  the largest size, and how far beyond it a mark covers nothing that could be seen; by machine code, profiles are
           tables between these
    """
    made = _round if native.alters(severity, *marks) else _round_by_library
    return made(Look(shape, reach, profiles), severity, *marks)


def _round_by_library(look: Look, severity: Array, place: Array, size: Array) -> list[Array]:
    def cover(profile: Profile) -> Cover:
        def of(mark: Drawn, row: Array, column: Array) -> Array:
            far = jnp.sqrt((row - mark["place"][0]) ** 2 + (column - mark["place"][1]) ** 2)
            return profile(far - mark["size"])

        return of

    half = (sum(look.reach), sum(look.reach))
    return clear(look.shape, severity, {"place": place, "size": size}, half, *map(cover, look.profiles))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _round(look: Look, severity: Array, place: Array, size: Array) -> list[Array]:
    """``_round_by_library`` by machine code; its derivatives are the library's."""
    with jax.ensure_compile_time_eval():
        far = jnp.linspace(-look.reach[0], look.reach[1], ENTRIES, dtype=severity.dtype)
        tables = jnp.stack([profile(far) for profile in look.profiles])
        pairs = jnp.stack([tables, jnp.diff(tables, append=tables[:, -1:])], -1).reshape(len(look.profiles), -1)
    marks = jnp.concatenate([place, size[:, None]], 1)
    return list(
        native.round_marks(look.shape, shown(severity, len(place)), marks, np.array(look.reach, np.float32), pairs)
    )


@_round.defjvp
def _(look: Look, primals: tuple, tangents: tuple) -> tuple:
    return jax.jvp(partial(_round_by_library, look), primals, tangents)


# ---- stamps


def clear_of_stamps(shape: tuple[int, ...], severity: Array, corner: Array, raster: Array, cell: float) -> Array:
    """Share of every pixel (*shape) that stamps leave: rasters (most, rows, columns) of square cells, hung from
    corners (most, 2)."""
    made = _stamped if native.alters(severity, corner, raster) else _stamped_by_library
    return made(shape, cell, severity, corner, raster)


def _stamped_by_library(shape: tuple[int, ...], cell: float, severity: Array, corner: Array, raster: Array) -> Array:
    rows, columns = raster.shape[1:]

    def ink(stamp: Drawn, row: Array, column: Array) -> Array:
        """A raster, where a pixel's row and column lie in its cells."""
        top, left = stamp["corner"]
        within_row = (jnp.floor((row - top) / cell) == jnp.arange(rows)[None]).astype(severity.dtype)
        within_column = (jnp.floor((column - left) / cell) == jnp.arange(columns)[:, None]).astype(severity.dtype)
        return within_row @ stamp["raster"] @ within_column

    half = (rows / 2 * cell, columns / 2 * cell)
    stamps = {"place": corner + jnp.array([half], corner.dtype), "corner": corner, "raster": raster}
    return clear(shape, severity, stamps, half, ink)[0]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _stamped(shape: tuple[int, ...], cell: float, severity: Array, corner: Array, raster: Array) -> Array:
    """``_stamped_by_library`` by machine code; its derivatives are the library's."""
    return native.stamps(shape, shown(severity, len(corner)), corner, raster, cell)


@_stamped.defjvp
def _(shape, cell, primals: tuple, tangents: tuple) -> tuple:
    return jax.jvp(partial(_stamped_by_library, shape, cell), primals, tangents)
