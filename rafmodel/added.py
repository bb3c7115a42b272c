"""Known amounts of every state added to images: to the image before its noise, which is drawn anew.

What is added and what has changed are not the same: a move of an image that is turned goes another way, a field that is seen
through a gamma is another field, and ``made`` says what comes of it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtr

from rafmodel import state
from rafmodel.encoder import in_chunks
from rafmodel.registration import warp
from rafmodel.state import STATES
from rafmodel.variability.intensity import _legendre, bias_field, gain, gamma
from rafmodel.variability.law import grid, sample
from rafmodel.variability.noise import gaussian
from rafmodel.variability.resolution import gaussian_blur

_NEAR = 0.06  # about how far the s.d. of noise is taken to be one, fraction of the side
_HALVED = np.sqrt(0.5 - 0.5 / np.pi)  # s.d. of white noise about black, of which half is cut, relative to its own
_NAMES = list(STATES)
GAIN, GAMMA, NOISE, BLUR = (_NAMES.index(name) for name in ("gain", "gamma", "noise", "blur"))
POSE, MOVES, FIELD = slice(2, 6), slice(3, 5), slice(8, 13)


class Bare(NamedTuple):
    """Images before their noise, as far as it can be told.

    image  (N, H, W, 1) grey values
    grain  (N, H, W, 1) s.d. of the white noise that is to be drawn on them, 0 where an image shows none, as in a blank border
    """

    image: Array
    grain: Array


def bare(images: Array) -> Bare:
    """Images (N, H, W, 1) parted into what tones, blur and movements act on and the noise that comes after them.

    Every ring of frequencies keeps the power that is beyond the noise's (power subtraction, Berouti, Schwartz, Makhoul 1979),
    so that with new noise the power is what it was.  Noise is cut at black and white, which lifts the mean of dark parts and
    lowers that of bright ones; that is taken back.
    """
    return Bare(*(jnp.asarray(x) for x in in_chunks(_bare, images, chunk=state.CHUNK)))


@jax.jit
def _bare(images: Array) -> tuple[Array, Array]:
    deviation = jnp.exp(state.log_noise(images))
    return jax.vmap(_parted)(images, deviation)


def _parted(image: Array, deviation: Array) -> tuple[Array, Array]:
    """One image (H, W, 1) without noise of s.d. ``deviation``, and the s.d. of its noise at each pixel."""
    height, width, _ = image.shape
    mirrored = jnp.concatenate([image[..., 0], image[::-1, :, 0]])
    mirrored = jnp.concatenate([mirrored, mirrored[:, ::-1]], 1)  # no step at the borders
    wave = jnp.fft.rfft2(mirrored)
    ring = _ring(height, width)
    power = jnp.abs(wave) ** 2 / mirrored.size
    power = (jnp.bincount(ring.ravel(), power.ravel(), length=ring.max() + 1) / np.bincount(ring.ravel()))[ring]
    kept = jnp.sqrt(jnp.maximum(power - deviation**2, 0) / jnp.maximum(power, 1e-12))
    kept = kept.at[0, 0].set(1.0).astype(image.dtype)
    smooth = jnp.fft.irfft2(wave * kept, mirrored.shape)[:height, :width, None].astype(image.dtype)
    rest = gaussian_blur({}, (image - smooth) ** 2, jnp.array(_NEAR, image.dtype))
    grain = jnp.minimum(deviation, jnp.sqrt(rest) / _HALVED)
    return 1 - _uncut(1 - _uncut(smooth, grain), grain), grain


def _ring(height: int, width: int) -> np.ndarray:
    """Ring of frequencies of each wave of a mirrored image, (2 H, W + 1), one cycle a side of the image wide."""
    rows, columns = np.fft.fftfreq(2 * height)[:, None] * height, np.fft.rfftfreq(2 * width)[None, :] * width
    return np.rint(np.minimum(np.hypot(rows, columns), min(height, width) // 2)).astype(int)


def _uncut(mean: Array, grain: Array) -> Array:
    """The value that noise of s.d. ``grain``, cut at 0, lifts to ``mean``; 0 where even black would be lifted beyond it.

    The mean of max(0, t + z) is t Φ(t) + φ(t), in units of the s.d.; solved by Newton's method.
    """
    wide = jnp.maximum(grain, 1e-6)
    goal = mean / wide
    value = jnp.maximum(goal, 0)
    for _ in range(6):
        lifted = value * ndtr(value) + jnp.exp(-(value**2) / 2) / np.sqrt(2 * np.pi)
        value = jnp.maximum(value - (lifted - goal) / ndtr(value), 0)
    return jnp.where(grain > 1e-6, value * wide, mean)


def add(key: Array, middle: Array, images: Bare, amount: np.ndarray) -> Array:
    """Images (N, H, W, 1) with amounts (N, len(STATES)) added and noise drawn anew: variance of blur, all else as in STATES.

    middle  mid-grey, log, which gamma leaves where it is
    """
    keys = jax.random.split(key, len(images.image))
    level = jnp.broadcast_to(middle, (len(keys),))
    altered = in_chunks(_added, keys, level, *images, jnp.asarray(amount, images.image.dtype), chunk=state.CHUNK)
    return jnp.asarray(altered)


@jax.jit
@jax.vmap
def _added(key: Array, middle: Array, image: Array, grain: Array, a: Array) -> Array:
    one = jnp.ones((), image.dtype)
    image = sample(image, warp(a[POSE], grid(image)))
    image = bias_field({"z": a[FIELD]}, image, one)
    lifted = a[GAIN] + (1 - jnp.exp(a[GAMMA])) * middle
    image = gain({"z": lifted}, gamma({"z": a[GAMMA]}, image, one), one)
    image = gaussian_blur({}, image, jnp.sqrt(jnp.maximum(a[BLUR], 0)))
    return gaussian({"z": grain * jax.random.normal(key, image.shape, image.dtype)}, image, jnp.exp(a[NOISE]))


def made(before: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Changes of the states (N, len(STATES)) that amounts make to images in states ``before``.

    A field that is seen through the old gamma was smaller before it; it moves with the image, and its mean counts as gain, which
    a new gamma bends.  A move is added in the frame of an image that is turned and scaled already.
    """
    change = amount.copy()
    moved, level = _field_moved(before[:, FIELD], amount[:, POSE])
    change[:, FIELD] = moved - before[:, FIELD] + amount[:, FIELD] * np.exp(-before[:, [GAMMA]])
    bent = np.exp(amount[:, GAMMA])
    change[:, GAIN] += (bent - 1) * before[:, GAIN] + bent * np.exp(before[:, GAMMA]) * level
    change[:, MOVES] = np.einsum("nij,nj->ni", frame(before), amount[:, MOVES])
    return change


def frame(before: np.ndarray) -> np.ndarray:
    """What a move of an image in states ``before`` is on the reference, (N, 2, 2): turned and scaled as the image is."""
    angle = np.deg2rad(before[:, POSE.start])
    cos, sin = np.cos(angle), np.sin(angle)
    return np.exp(-before[:, [[POSE.stop - 1]]]) * np.moveaxis(np.array([[cos, -sin], [sin, cos]]), 2, 0)


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


def amounts(key: Array, spread: np.ndarray) -> np.ndarray:
    """Amounts (N, len(STATES)) of s.d. ``spread``: normal, but uniform from 0 for blur, which only grows."""
    keys = jax.random.split(key)
    drawn = np.array(jax.random.normal(keys[0], spread.shape)) * spread
    drawn[:, BLUR] = np.sqrt(12) * spread[:, BLUR] * np.array(jax.random.uniform(keys[1], (len(spread),)))
    return drawn
