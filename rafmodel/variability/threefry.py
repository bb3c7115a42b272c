"""Random fields by the cipher of JAX's keys, Threefry 2x32 of 20 rounds: the same numbers as ``jax.random``, sooner on a CPU.

There ``jax.random`` loops over rounds, each a pass through memory; written out, the rounds are one pass that stays in registers.
Normals are made by machine code where there is any, which rounds otherwise (``chance_code``).  Salmon, Moraes, Dror, Shaw 2011.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import native

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_LOWEST = np.nextafter(np.float32(-1), np.float32(0))  # the inverse error function is finite there


def words(key: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Two random words of 32 bits for each place of a field of at most 2³² places."""
    first, second = jax.random.key_data(key)
    keys = (first, second, first ^ second ^ jnp.uint32(_PARITY))
    x = jnp.broadcast_to(keys[0], shape)
    y = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape) + keys[1]
    for i in range(5):
        for bits in _ROTATIONS[i % 2]:
            x = x + y
            y = ((y << bits) | (y >> (32 - bits))) ^ x
        x, y = x + keys[(i + 1) % 3], y + keys[(i + 2) % 3] + jnp.uint32(i + 1)
    return x, y


def uniform(key: Array, shape: tuple[int, ...]) -> Array:
    """``jax.random.uniform(key, shape, float32)``: from 0 to 1, 23 binary places."""
    return _field(lambda x, y: _between(x ^ y), key, shape)


def normal(key: Array, shape: tuple[int, ...]) -> Array:
    """``jax.random.normal(key, shape, float32)``, but for rounding."""
    if native.alters():
        return native.normal(jax.random.key_data(key), 1, math.prod(shape)).reshape(shape)
    return _field(lambda x, y: _normal(x ^ y), key, shape)


def two_normals(key: Array, shape: tuple[int, ...]) -> Array:
    """Two independent standard normal fields, (2, *shape), for the work of one: each from a word of its own."""
    if native.alters():
        return native.normal(jax.random.key_data(key), 2, math.prod(shape)).reshape(2, *shape)
    return _field(lambda x, y: jnp.stack([_normal(x), _normal(y)]), key, shape)


def _field(made: Callable[[Array, Array], Array], key: Array, shape: tuple[int, ...]) -> Array:
    """A field made of words; where there are a few channels, in a row and apart from what reads it, since a loop over these few
    is not one that a processor does several numbers at a time."""
    if shape[-1] == 1:
        return made(*words(key, shape))
    row = native.settled(made(*words(key, (math.prod(shape),))))
    return row.reshape(*row.shape[:-1], *shape)


def _between(word: Array) -> Array:
    """A word's first 23 bits as the binary places of a number from 0 to 1."""
    from_one_to_two = (word >> 9) | jnp.uint32(0x3F800000)
    return jax.lax.bitcast_convert_type(from_one_to_two, jnp.float32) - 1


def _normal(word: Array) -> Array:
    u = _between(word) * (np.float32(1) - _LOWEST) + _LOWEST
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(jnp.maximum(u, _LOWEST))
