"""What a variability is: chance drawn from a key, a law that uses it at a severity, and what follows for masks and batches.

Images are ``(*space, C)`` in [0, 1] with two or three axes of space; a position is in [-1, 1] along each, pixel centres inside.
Images of 8 bits, 0 to 255, are altered as their 255th parts and rounded: they stay what they are, in a quarter of the memory.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.ndimage import map_coordinates

from rafmodel import backend, native
from rafmodel.errors import InputError
from rafmodel.variability import threefry
from rafmodel.variability.turns import in_turn

Drawn = dict[str, Array]
Draw = Callable[[Array, tuple[int, ...]], Drawn]
Law = Callable[[Drawn, Array, Array], Array]
Warp = Callable[[Drawn, Array, Array], Array]


@dataclass(frozen=True)
class Variability:
    """A random image transform with a severity that means something.

    name    label in tables
    unit    what the severity measures
    draw    ``(key, shape) -> drawn``: all that is left to chance, the same at every severity
    law     ``(drawn, image, severity) -> image``; of a geometric one the movement of masks follows from ``warp``
    levels  the five severities, weak to strong, that levels 1-5 of a study stand for
    warp    ``(drawn, positions (dims, *space), severity) -> positions`` that each pixel's value is read from; None: masks stay
    dims    axes of space that the law is made for
    colour  whether the law needs red, green and blue
    source  where the law or its parameters come from
    content digest of a law that comes from outside the package
    stored  whether the law also takes images of 8 bits as they are, by machine code, and returns an image itself at severity 0
    """

    name: str
    unit: str
    draw: Draw
    law: Law
    levels: tuple[float, float, float, float, float]
    warp: Warp | None = None
    dims: tuple[int, ...] = (2, 3)
    colour: bool = False
    source: str = ""
    content: str = ""
    stored: bool = False

    def apply(self, key: Array, image: Array, severity: Array | float) -> Array:
        """One altered image; severity 0 returns the input bit for bit.

        Compiled once a law and shape of batch, whoever asks: shifts and views of all designs share it.
        """
        return _fresh(self, key, image, jnp.asarray(severity, real(image)))

    def rebuild(self, drawn: Drawn, image: Array, severity: Array | float) -> Array:
        """The altered image again, from what was drawn for it."""
        return _applied(self, drawn, image, jnp.asarray(severity, real(image)))

    def move(self, drawn: Drawn, mask: Array, severity: Array | float) -> Array:
        """The mask (*space) that belongs to the altered image: classes of the nearest pixels, so a binary mask stays binary."""
        if self.warp is None:
            return mask
        severity = jnp.asarray(severity, float)
        where = indices(self.warp(drawn, grid(mask[..., None]), severity), mask.shape)
        moved = map_coordinates(mask, where, order=0, mode="nearest")
        return jnp.where(severity > 0, moved, mask)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises InputError where the law is not made for images of this shape (*space, C)."""
        if len(shape) - 1 not in self.dims:
            raise InputError(f"{self.name}: made for {_axes(self.dims)} of space, but images are {shape[:-1]}")
        if self.colour and shape[-1] != 3:
            raise InputError(f"{self.name}: needs red, green and blue, but images have {shape[-1]} channel(s)")


def _axes(dims: tuple[int, ...]) -> str:
    return " or ".join(map(str, dims)) + " axes"


@partial(jax.jit, static_argnums=0)
def _fresh(variability: Variability, key: Array, image: Array, severity: Array) -> Array:
    return _applied(variability, variability.draw(key, image.shape), image, severity)


@partial(jax.jit, static_argnums=0)
def _applied(variability: Variability, drawn: Drawn, image: Array, severity: Array) -> Array:
    variability.check(image.shape)
    if variability.stored and native.alters_stored(image):
        return variability.law(drawn, image, severity)
    altered = in_numbers(lambda image: variability.law(drawn, image, severity), image)
    return jnp.where(severity > 0, altered, image)


def in_numbers(made: Callable[[Array], Array], image: Array) -> Array:
    """What is made of an image; of 8 bits, of their 255th parts, and rounded."""
    if image.dtype != jnp.uint8:
        return made(image)
    return (255 * made(image.astype(real(image)) / 255) + 0.5).astype(jnp.uint8)


def real(image: Array) -> Any:
    """Type of the numbers that an image is altered in: its own, or single precision for 8 bits."""
    return jnp.float32 if image.dtype == jnp.uint8 else image.dtype


@partial(jax.jit, static_argnums=1)
def alter(key: Array, variability: Variability, images: Array, severities: Array) -> Array:
    """Every image at every severity, each image with its own draw that it keeps over severities.

    images (N, *space, C), severities (S,)  ->  (S, N, *space, C)
    """
    keys = jax.random.split(key, images.shape[0])

    def at_all(keys: Array, images: Array) -> Array:
        """Severities outside, as they are in the result, so that no copy turns it round."""
        return jax.vmap(jax.vmap(variability.apply, (0, 0, None)), (None, None, 0))(keys, images, severities)

    return in_turn(at_all, keys, images, size=len(severities) * _row(images), axis=1)


def _row(images: Array) -> int:
    return images.size // max(images.shape[0], 1) * jnp.dtype(real(images)).itemsize


# ---- several in a row


class Step(NamedTuple):
    """One variability of a composition, at a severity, for a share of the images."""

    variability: Variability
    severity: float
    probability: float = 1.0


class Record(NamedTuple):
    """What was done to each image by one step: the severity (N,), 0 where it was left out, and what was drawn."""

    name: str
    severity: Array
    drawn: Drawn


def compose(
    key: Array, steps: tuple[Step, ...], images: Array, masks: Array | None = None
) -> tuple[Array, Array | None, list[Record]]:
    """Images (N, *space, C), and masks (N, *space) with them, after each step in turn; and a record of each step.

    Each image has its own draws, and each step happens to it with the step's probability.  ``repeat`` does it
    again from records.
    """
    records = []
    for step in steps:
        key, key_step = jax.random.split(key)
        severity, drawn = _chances(key_step, step.variability, images.shape, step.severity, step.probability)
        records.append(Record(step.variability.name, severity, drawn))
        images, masks = _every(step.variability, drawn, images, masks, severity)
    return images, masks, records


def repeat(
    records: list[Record], known: dict[str, Variability], images: Array, masks: Array | None = None
) -> tuple[Array, Array | None]:
    """The images and masks that ``compose`` returned with these records, made again."""
    for record in records:
        images, masks = _every(known[record.name], record.drawn, images, masks, record.severity)
    return images, masks


@partial(jax.jit, static_argnums=(1, 2))
def _chances(
    key: Array, variability: Variability, shape: tuple[int, ...], severity: float, probability: float
) -> tuple[Array, Drawn]:
    key_happens, key_draw = jax.random.split(key)
    happens = jax.random.uniform(key_happens, shape[:1]) < probability
    keys, size = jax.random.split(key_draw, shape[0]), 4 * math.prod(shape[1:])
    drawn = in_turn(jax.vmap(lambda key: variability.draw(key, shape[1:])), keys, size=size)
    return jnp.where(happens, severity, 0.0), drawn


@partial(jax.jit, static_argnums=0)
def _every(
    variability: Variability, drawn: Drawn, images: Array, masks: Array | None, severity: Array
) -> tuple[Array, Array | None]:
    altered = in_turn(jax.vmap(variability.rebuild), drawn, images, severity, size=_row(images))
    if masks is None:
        return altered, None
    return altered, in_turn(jax.vmap(variability.move), drawn, masks, severity, size=_row(images))


# ---- space


def grid(image: Array) -> Array:
    """Position of each pixel centre, (dims, *space), from -1 to 1 over the image."""
    return jnp.stack(jnp.broadcast_arrays(*axes(image)))


def axes(image: Array) -> list[Array]:
    """The rows of ``grid`` each along its own axis of space, (n, 1) and (1, n) in the plane.

    What is computed from them stays in registers, while a grid goes through memory.
    """
    dtype = image.dtype if jnp.issubdtype(image.dtype, jnp.floating) else float
    lines = [(2 * jnp.arange(n, dtype=dtype) + 1) / n - 1 for n in image.shape[:-1]]
    return [jnp.expand_dims(x, [k for k in range(len(lines)) if k != i]) for i, x in enumerate(lines)]


def indices(positions: Array, shape: tuple[int, ...]) -> list[Array]:
    """Fractional index along each axis of positions (dims, ...) in [-1, 1]."""
    return [((x + 1) * n - 1) / 2 for x, n in zip(positions, shape, strict=True)]


def sample(image: Array, positions: Array) -> Array:
    """Values (..., C) at positions (dims, ...), linear between pixels; outside the image the border is extended."""
    if native.alters(image, positions):
        return _read(image, positions)
    return _read_by_library(image, positions)


def _read_by_library(image: Array, positions: Array) -> Array:
    where = indices(positions, image.shape[:-1])
    channel = partial(map_coordinates, coordinates=where, order=1, mode="nearest")
    return jax.vmap(channel, in_axes=-1, out_axes=-1)(image)


@native.derived_by(_read_by_library)
def _read(image: Array, positions: Array) -> Array:
    """``sample`` by machine code; its derivatives are the library's."""
    return native.read(image, indices(positions, image.shape[:-1]))


@jax.jit  # else its loop, a new function at every call, would be compiled again wherever it is not part of a program
def settled(image: Array) -> Array:
    """The image itself, written to memory before XLA reads it, where this is a CPU.

    Programs are fused there: what reads an image at places that are drawn would work out its pixels again for each neighbour.
    Machine code is handed images that are in memory anyhow.
    """
    if not backend.on_cpu() or native.alters(image):
        return image
    parts = next(n for n in range(2, image.size + 1) if image.size % n == 0)
    return jax.lax.map(lambda part: 1.0 * part, image.reshape(parts, -1)).reshape(image.shape)


def geometric(
    name: str, unit: str, draw: Draw, warp: Warp, levels: tuple[float, float, float, float, float], *, source: str = ""
) -> Variability:
    """A variability that moves pixels and changes no value."""

    def law(drawn: Drawn, image: Array, severity: Array) -> Array:
        return sample(image, warp(drawn, grid(image), severity))

    return Variability(name, unit, draw, law, levels, warp, source=source)


# ---- chance


def nothing(key: Array, shape: tuple[int, ...]) -> Drawn:
    """No chance at all."""
    del key, shape
    return {}


def one_normal(key: Array, shape: tuple[int, ...]) -> Drawn:
    """One standard normal z an image."""
    del shape
    return {"z": jax.random.normal(key, dtype=jnp.float32)}


def normal_field(key: Array, shape: tuple[int, ...]) -> Drawn:
    """A standard normal z for every pixel and channel."""
    return {"z": threefry.normal(key, shape)}


def one_uniform(key: Array, shape: tuple[int, ...]) -> Drawn:
    """One u an image, uniform from 0 to 1."""
    del shape
    return {"u": jax.random.uniform(key, dtype=jnp.float32)}


def place(key: Array, shape: tuple[int, ...]) -> Drawn:
    """A position u in the image, (dims,), uniform from −1 to 1 along each axis."""
    return {"u": jax.random.uniform(key, (len(shape) - 1,), jnp.float32, -1, 1)}


def one_sign(key: Array, shape: tuple[int, ...]) -> Drawn:
    """A sign, each with chance one half."""
    del shape
    return {"sign": jax.random.rademacher(key, (), jnp.float32)}


def one_direction(key: Array, shape: tuple[int, ...]) -> Drawn:
    """A unit vector in space, all directions alike."""
    vector = jax.random.normal(key, (len(shape) - 1,), jnp.float32)
    return {"direction": vector / jnp.sqrt(jnp.sum(vector**2))}
