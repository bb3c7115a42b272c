"""Images cut into cells, cells put in another order, images turned by quarters: in two and in three axes of space."""

import itertools
import math
from functools import cache

import jax.numpy as jnp
import numpy as np
from jax import Array

POOL = 10_000  # orders to choose from where all of them are too many
MOST_ORDERS = 100  # orders of a jigsaw in space, chosen


def space(image: Array) -> tuple[int, ...]:
    """Pixels along each axis of an image (*space, C)."""
    return image.shape[:-1]


def to_cells(image: Array, n: int) -> Array:
    """(*space, C) -> (n^dims, *cell, C), first axis slowest; pixels that make no whole cell are cut."""
    dims, cell = len(space(image)), [side // n for side in space(image)]
    whole = image[tuple(slice(n * side) for side in cell)]
    split = whole.reshape(*itertools.chain(*((n, side) for side in cell)), image.shape[-1])
    order = (*range(0, 2 * dims, 2), *range(1, 2 * dims, 2), 2 * dims)
    return split.transpose(order).reshape(n**dims, *cell, image.shape[-1])


def from_cells(cells: Array, n: int) -> Array:
    """(n^dims, *cell, C) -> (*space, C), what ``to_cells`` did undone."""
    cell = cells.shape[1:-1]
    dims = len(cell)
    order = (*itertools.chain(*((i, dims + i) for i in range(dims))), 2 * dims)
    split = cells.reshape(*(n,) * dims, *cell, cells.shape[-1]).transpose(order)
    return split.reshape(*(n * side for side in cell), cells.shape[-1])


def quarter_turns(image: Array) -> Array:
    """The image upright and after 1, 2 and 3 quarter turns in each plane: (4, ...) in 2D and (10, ...) in 3D.

    Gidaris, Singh, Komodakis 2018; in space three turns about each axis and none, Taleb et al. 2020.
    """
    planes = itertools.combinations(range(len(space(image))), 2)
    turned = [jnp.rot90(image, k, plane) for plane in planes for k in (1, 2, 3)]
    return jnp.stack([image, *turned])


def n_turns(dims: int) -> int:
    """How many images ``quarter_turns`` gives."""
    return 1 + 3 * math.comb(dims, 2)


@cache
def orders(n_cells: int) -> np.ndarray:
    """Orders that cells may be put in, (k, n_cells): all of four cells, else MOST_ORDERS far from one another.

    One by one the order whose smallest Hamming distance to those already chosen is largest, from the upright one on and
    among POOL drawn ones.  Noroozi, Favaro 2016 (their algorithm 1).
    """
    if n_cells <= 4:
        return np.array(list(itertools.permutations(range(n_cells))))
    rng = np.random.default_rng(0)
    pool = np.concatenate([np.arange(n_cells)[None], rng.permuted(np.tile(np.arange(n_cells), (POOL, 1)), axis=1)])
    chosen, nearest = [0], np.full(len(pool), n_cells)
    for _ in range(MOST_ORDERS - 1):
        nearest = np.minimum(nearest, (pool != pool[chosen[-1]]).sum(1))
        chosen.append(int(nearest.argmax()))
    return pool[chosen]


def overlapping(side: int) -> tuple[int, list[int]]:
    """Length of half a side, and where three such stretches that overlap by half begin."""
    half = side // 2
    return half, [0, half // 2, side - half]
