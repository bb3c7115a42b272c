"""Known amounts of every state, added to images: what ``injection`` looks for.

All states are changed at once, in the order in which ``variability.fitted`` makes them; what that comes to in the states depends
on those that an image is in already.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import state
from rafmodel.encoder import in_chunks
from rafmodel.registration import warp
from rafmodel.state import STATES
from rafmodel.variability.fitted import passed
from rafmodel.variability.intensity import _legendre, bias_field, gain, gamma
from rafmodel.variability.law import grid, sample
from rafmodel.variability.noise import gaussian
from rafmodel.variability.resolution import gaussian_blur

NAMES = list(STATES)
GAIN, GAMMA, NOISE, BLUR = (NAMES.index(name) for name in ("gain", "gamma", "noise", "blur"))
POSE, MOVES, FIELD = slice(2, 6), slice(3, 5), slice(8, 13)


def add(key: Array, middle: Array, images: Array, amount: np.ndarray) -> Array:
    """Images (N, H, W, 1) with amounts (N, len(STATES)) added: variance of blur, s.d. of noise, all else as in STATES.

    middle  mid-grey, log, which gamma leaves where it is
    """
    keys = jax.random.split(key, len(images))
    level = jnp.broadcast_to(middle, (len(images),))
    altered = in_chunks(_added, keys, level, images, jnp.asarray(amount, images.dtype), chunk=state.CHUNK)
    return jnp.asarray(altered)


@jax.jit
@jax.vmap
def _added(key: Array, middle: Array, image: Array, a: Array) -> Array:
    one = jnp.ones((), image.dtype)
    image = sample(image, warp(a[POSE], grid(image)))
    image = bias_field({"z": a[FIELD]}, image, one)
    lifted = a[GAIN] + (1 - jnp.exp(a[GAMMA])) * middle
    image = gain({"z": lifted}, gamma({"z": a[GAMMA]}, image, one), one)
    image = gaussian_blur({}, image, jnp.sqrt(jnp.maximum(a[BLUR], 0)))
    return gaussian({"z": jax.random.normal(key, image.shape, image.dtype)}, image, a[NOISE])


def made(before: np.ndarray, amount: np.ndarray, pixels: int) -> np.ndarray:
    """Changes of the states (N, len(STATES)) that amounts make to images in states ``before``.

    Variances of noise add, once the old noise went through tones and blur; a gain is bent by the new gamma.  A field that is seen
    through the old gamma was smaller before it; the old one moves with its image, and its mean counts as gain.  Turns and sizes
    add; a move is added in the frame of an image that is turned and scaled already.
    """
    change = amount.copy()
    change[:, MOVES] = np.einsum("nij,nj->ni", _frame(before), amount[:, MOVES])
    moved, level = _field_moved(before[:, FIELD], amount[:, POSE])
    change[:, FIELD] = moved - before[:, FIELD] + amount[:, FIELD] * np.exp(-before[:, [GAMMA]])
    bent = np.exp(amount[:, GAMMA])
    change[:, GAIN] += (bent - 1) * before[:, GAIN] + bent * np.exp(before[:, GAMMA]) * level
    through = np.asarray(jax.vmap(passed)(jnp.sqrt(jnp.maximum(amount[:, BLUR], 0)) * pixels))
    kept = np.exp(2 * amount[:, GAIN] + 2 * amount[:, GAMMA]) * through
    change[:, NOISE] = 0.5 * np.log(kept + (amount[:, NOISE] / np.exp(before[:, NOISE])) ** 2)
    return change


def _frame(before: np.ndarray) -> np.ndarray:
    """What a move of an image in states ``before`` is on the reference, (N, 2, 2): turned and scaled as the image is."""
    angle, size = np.deg2rad(before[:, POSE.start]), np.exp(-before[:, POSE.stop - 1])
    cos, sin = size * np.cos(angle), size * np.sin(angle)
    return np.moveaxis(np.array([[cos, -sin], [sin, cos]]), 2, 0)


def _field_moved(field: np.ndarray, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (N, 5) of a field that was moved with its image by a pose (N, 4), and its mean (N,), log.

    A field of second order stays one wherever it is moved, so six places tell it.
    """
    places = np.array([(0.0, 0.0), (0.7, 0.1), (-0.6, 0.2), (0.1, 0.8), (0.2, -0.7), (0.6, 0.6)]).T
    terms = np.array(_legendre(jnp.asarray(places)))
    there = np.asarray(jax.vmap(lambda one: _legendre(warp(one, jnp.asarray(places))))(jnp.asarray(pose)))
    values = np.einsum("nk,nkp->np", field, there)
    solved = np.linalg.solve(np.concatenate([np.ones((1, 6)), terms]).T, values.T).T
    return solved[:, 1:], solved[:, 0]


def drawn(key: Array, spread: np.ndarray, own_noise: np.ndarray) -> np.ndarray:
    """Amounts (N, len(STATES)) for images of some noise (N,): normal, but uniform from 0 for noise and blur, which only grow."""
    keys = jax.random.split(key)
    amount = np.array(jax.random.normal(keys[0], spread.shape)) * spread
    up = np.array(jax.random.uniform(keys[1], (2, len(own_noise))))
    amount[:, NOISE] = spread[:, NOISE] * up[0] * own_noise
    amount[:, BLUR] = np.sqrt(12) * spread[:, BLUR] * up[1]
    return amount
