"""Where things lie: turned, moved, scaled, sheared, bent, cropped; masks move with the image."""

import jax
import jax.numpy as jnp
from jax import Array

from rafmodel.variability.law import Drawn, Variability, geometric, one_direction, one_normal, one_uniform, place
from rafmodel.variability.linear import turned

KNOTS = 5  # a side of the grid of random displacements


def turn(drawn: Drawn, position: Array, severity: Array) -> Array:
    """Turn about the centre by a normal angle of s.d. ``severity`` degrees; in space about a random axis (Rodrigues)."""
    angle = jnp.deg2rad(severity * drawn["z"])
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    if len(position) == 2:
        rows, columns = position
        return jnp.stack([cos * rows - sin * columns, sin * rows + cos * columns])
    axis = drawn["axis"]
    crossed = jnp.stack([axis[i] * position[j] - axis[j] * position[i] for i, j in ((1, 2), (2, 0), (0, 1))])
    return (
        position * cos
        + crossed * sin
        + axis[:, None, None, None] * (jnp.tensordot(axis, position, 1) * (1 - cos))[None]
    )


def _angle(key: Array, shape: tuple[int, ...]) -> Drawn:
    if len(shape) == 3:
        return one_normal(key, shape)
    key, key_axis = jax.random.split(key)
    return one_normal(key, shape) | {"axis": one_direction(key_axis, shape)["direction"]}


def _beside(vector: Array, position: Array) -> Array:
    """A vector (dims,) with axes appended, to go with positions."""
    return jnp.reshape(vector, (-1, *(1,) * (position.ndim - 1)))


def mirror(drawn: Drawn, position: Array, severity: Array) -> Array:
    """The last axis turned round in a share ``severity`` of the images."""
    flipped = drawn["u"] < severity
    return position.at[-1].set(jnp.where(flipped, -position[-1], position[-1]))


def mirrored(drawn: Drawn, image: Array, severity: Array) -> Array:
    """The image whose values ``mirror`` reads: no value lies between pixels."""
    return turned(image, False, drawn["u"] < severity)


def shift(drawn: Drawn, position: Array, severity: Array) -> Array:
    """Moved by ``severity`` of the side in a random direction."""
    return position + 2 * severity * _beside(drawn["direction"], position)


def rescale(drawn: Drawn, position: Array, severity: Array) -> Array:
    """Enlarged by ``exp(severity z)`` about the centre."""
    return position * jnp.exp(-severity * drawn["z"])


def slant(drawn: Drawn, position: Array, severity: Array) -> Array:
    """The last axis sheared along the first by ``severity z``."""
    return position.at[-1].add(severity * drawn["z"] * position[0])


def bend(drawn: Drawn, position: Array, severity: Array) -> Array:
    """Displaced by ``severity`` times a smooth random field: normal at KNOTS places a side, cubic between.

    Simard, Steinkraus, Platt 2003.
    """
    field = jnp.stack([jax.image.resize(each, position.shape[1:], "cubic") for each in drawn["z"]])
    return position + 2 * severity * field


def _knots(key: Array, shape: tuple[int, ...]) -> Drawn:
    dims = len(shape) - 1
    return {"z": jax.random.normal(key, (dims, *(KNOTS,) * dims), jnp.float32)}


def patch(drawn: Drawn, position: Array, severity: Array) -> Array:
    """A patch whose side is ``1 - severity`` of the image's, at a uniform place, resized to the full matrix."""
    return (1 - severity) * position + _beside(severity * drawn["u"], position)


ROTATION = geometric("rotation", "s.d., degrees", _angle, turn, (5.0, 10.0, 20.0, 40.0, 80.0))
FLIP = Variability(
    "flip", "share of images mirrored", one_uniform, mirrored, (0.1, 0.2, 0.3, 0.5, 1.0), mirror, stored=True
)
TRANSLATION = geometric("translation", "fraction of image side", one_direction, shift, (0.02, 0.05, 0.1, 0.15, 0.25))
SCALE = geometric("scale", "s.d. of log size", one_normal, rescale, (0.05, 0.1, 0.2, 0.3, 0.5))
SHEAR = geometric("shear", "s.d. of the tangent", one_normal, slant, (0.05, 0.1, 0.2, 0.35, 0.6))
ELASTIC = geometric("elastic", "s.d. of displacement, fraction of side", _knots, bend, (0.01, 0.02, 0.04, 0.06, 0.1))
CROP = geometric("crop", "fraction of image side cut away", place, patch, (0.1, 0.2, 0.3, 0.4, 0.5))
