"""Patches cut from images, in the plane and in space: a grid of them, at random, or some of them on the structure.

Where each patch lies goes with it, so that masks are cut alike and what was said of patches is put together to an image again.
How often patches drawn at random hit a structure is `sampling.hits`.
"""

import math
from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel.errors import InputError

Side = int | Sequence[int]


class Patches(NamedTuple):
    """P patches and where they are from.

    pixels  (P, *side, C)
    row     (P,) which image
    corner  (P, dims) its first pixel there, along each axis of space
    """

    pixels: Array
    row: Array
    corner: Array


def grid_patches(images: Array, *, side: Side, overlap: int = 0) -> Patches:
    """Patches beside each other that cover every image (N, *space, C), image by image in row-major order.

    side     pixels of a patch, one number or one an axis
    overlap  pixels that neighbours share; at the far border they share more where patches do not fit
    Raises InputError where a patch is larger than the image or the overlap is not smaller than the patch.
    """
    space = images.shape[1:-1]
    places = corners(space, side=side, overlap=overlap)
    rows = np.repeat(np.arange(len(images)), len(places))
    return _cut(images, rows, np.tile(places, (len(images), 1)), _sides(side, space))


def corners(space: tuple[int, ...], *, side: Side, overlap: int = 0) -> np.ndarray:
    """First pixels (P, dims) of the patches of ``grid_patches`` in images of these sides."""
    return np.array(list(product(*_starts(space, _sides(side, space), overlap))), np.int32)


def of_patch(shape: tuple[int, ...], side: int) -> tuple[int, ...]:
    """Shape (*side, C) of patches of images (*space, C); of the images where ``side`` is 0."""
    return (*(side,) * (len(shape) - 1), shape[-1]) if side else shape


def random_patches(key: Array, images: Array, *, side: Side, each: int, tiles: bool = False) -> Patches:
    """``each`` patches of every image (N, *space, C), image by image: anywhere inside, all places alike.

    tiles  draw them without replacement from the grid without overlap, as `sampling.hits` has it
    Raises InputError where a patch is larger than the image, or more tiles are to be drawn than there are.
    """
    space = images.shape[1:-1]
    sides, n = _sides(side, space), len(images)
    if tiles:
        corners = jnp.array(list(product(*_starts(space, sides, 0))), jnp.int32)
        if each > len(corners):
            raise InputError(
                f"patches: {each} of every image, but its grid has {len(corners)}; draw fewer or smaller ones"
            )
        order = jax.vmap(partial(jax.random.permutation, x=len(corners)))(jax.random.split(key, n))
        corner = corners[order[:, :each].ravel()]
    else:
        corner = _anywhere(key, n * each, space, sides)
    return _cut(images, np.repeat(np.arange(n), each), corner, sides)


def foreground_biased_patches(
    key: Array, images: Array, masks: Array, *, side: Side, each: int, share: float
) -> Patches:
    """``each`` patches of every image, of which the first ``round(share * each)`` lie about a pixel of the mask's structure.

    images (N, *space, C), masks (N, *space)   the structure is where the mask is above 0
    A pixel of the structure is the middle of the patch (the one after it of an even side), unless the border is nearer; all
    pixels of it are alike.  The other patches, and all of an image without the structure, lie anywhere.
    Raises InputError where a patch is larger than the image, the share is not in [0, 1] or masks do not fit.
    """
    space, n = images.shape[1:-1], len(images)
    sides = _sides(side, space)
    if not 0 <= share <= 1:
        raise InputError(f"patches: share {share} of patches on the structure; it must be from 0 to 1")
    if masks.shape != images.shape[:-1]:
        raise InputError(
            f"patches: masks {masks.shape} do not fit images {images.shape[:-1]}; there must be one an image"
        )
    key_where, key_pixel = jax.random.split(key)
    anywhere = _anywhere(key_where, n * each, space, sides).reshape(n, each, -1)
    about, some = _about(key_pixel, jnp.asarray(masks) > 0, each, sides)
    biased = (np.arange(each) < round(share * each))[None] & some[:, None]
    corner = jnp.where(biased[..., None], about, anywhere).reshape(n * each, -1)
    return _cut(images, np.repeat(np.arange(n), each), corner, sides)


def cut_alike(images: Array, patches: Patches) -> Array:
    """Other images or masks (N, *space[, C]) cut where the patches were, (P, *side[, C])."""
    sides = patches.pixels.shape[1:-1]
    if images.ndim == len(sides) + 1:
        return _cut(images[..., None], patches.row, patches.corner, sides).pixels[..., 0]
    return _cut(images, patches.row, patches.corner, sides).pixels


def assemble(values: Array, patches: Patches, shape: Sequence[int], *, weight: Array | None = None) -> Array:
    """What was found in patches put together to images (N, *space, k): the mean over the patches that a pixel lies in.

    values  (P, *side, k), or (P, k) where a patch has one score for all its pixels
    shape   (N, *space) of the images that patches were cut from
    weight  (*side) of a patch's pixels in the mean, all alike unless given; less at its border hides seams
    Pixels that no patch covers are nan.
    """
    sides = patches.pixels.shape[1:-1]
    values = jnp.asarray(values)
    if values.ndim == 2:
        values = jnp.broadcast_to(
            values.reshape(len(values), *(1,) * len(sides), -1), (len(values), *sides, values.shape[1])
        )
    share = jnp.ones(sides, values.dtype) if weight is None else jnp.asarray(weight, values.dtype)
    return _blended(values, share, patches.row, patches.corner, tuple(shape))


@partial(jax.jit, static_argnums=4)
def _blended(values: Array, share: Array, row: Array, corner: Array, shape: tuple[int, ...]) -> Array:
    place = _flat(row, corner, share.shape, shape).ravel()
    blank = jnp.zeros((math.prod(shape), values.shape[-1] + 1), values.dtype)
    weighed = jnp.concatenate([values, jnp.ones_like(values[..., :1])], -1) * share[None, ..., None]
    total = blank.at[place].add(weighed.reshape(len(place), -1))
    covered = total[:, -1:] > 0
    mean = jnp.where(covered, total[:, :-1] / jnp.where(covered, total[:, -1:], 1), jnp.nan)
    return mean.reshape(*shape, -1)


# ---- places


def _sides(side: Side, space: tuple[int, ...]) -> tuple[int, ...]:
    sides = (side,) * len(space) if isinstance(side, int) else tuple(side)
    if len(sides) != len(space) or min(sides) < 1 or any(a > n for a, n in zip(sides, space, strict=True)):
        stated, whole = (" x ".join(map(str, some)) for some in (sides, space))
        raise InputError(f"patches: {stated} pixels do not fit into images of {whole}; take smaller patches")
    return sides


def _starts(space: tuple[int, ...], sides: tuple[int, ...], overlap: int) -> list[list[int]]:
    """First pixels of the patches of a grid along each axis; the last one ends where the image does."""
    if not 0 <= overlap < min(sides):
        raise InputError(f"patches: overlap of {overlap} pixels; it must be from 0 to less than the side, {min(sides)}")
    return [
        sorted({min(i, n - a) for i in range(0, n - overlap, a - overlap)}) for n, a in zip(space, sides, strict=True)
    ]


@partial(jax.jit, static_argnums=(1, 2, 3))
def _anywhere(key: Array, count: int, space: tuple[int, ...], sides: tuple[int, ...]) -> Array:
    return jax.random.randint(key, (count, len(space)), 0, jnp.array(space)[None] - jnp.array(sides)[None] + 1)


@partial(jax.jit, static_argnums=(2, 3))
def _about(key: Array, inside: Array, each: int, sides: tuple[int, ...]) -> tuple[Array, Array]:
    """Corners (N, each, dims) of patches about pixels of each mask, drawn with replacement, and whether it has any (N,)."""
    space, flat = inside.shape[1:], inside.reshape(len(inside), -1)
    before = jnp.cumsum(flat, 1)
    wanted = jax.random.randint(key, (len(flat), each), 0, jnp.maximum(before[:, -1:], 1))
    pixel = jax.vmap(partial(jnp.searchsorted, side="right"))(before, wanted) % flat.shape[1]
    middle = jnp.stack(jnp.unravel_index(pixel, space), -1)
    half, most = np.array(sides) // 2, np.array(space) - np.array(sides)
    return jnp.clip(middle - half[None, None], 0, most[None, None]), flat.any(1)


def _flat(row: Array, corner: Array, sides: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """Index of every pixel of patches, (P, *side), among all pixels (N, *space) in a row."""
    index = row.reshape(-1, *(1,) * len(sides))
    for axis, (side, n) in enumerate(zip(sides, shape[1:], strict=True)):
        along = corner[:, axis, None] + jnp.arange(side, dtype=corner.dtype)[None]
        index = index * n + along.reshape(-1, *(side if at == axis else 1 for at in range(len(sides))))
    return index


@partial(jax.jit, static_argnums=3)
def _cut(images: Array, row: Array, corner: Array, sides: tuple[int, ...]) -> Patches:
    row, corner = jnp.asarray(row, jnp.int32), jnp.asarray(corner, jnp.int32)

    def one(row: Array, corner: Array) -> Array:
        return jax.lax.dynamic_slice(images, (row, *corner, jnp.int32(0)), (1, *sides, images.shape[-1]))[0]

    return Patches(jax.vmap(one)(row, corner), row, corner)
