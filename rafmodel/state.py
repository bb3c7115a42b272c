"""In what state each image is: its grey values, pose, noise, sharpness and field relative to a reference.

A reference is taken from a cohort once; states of any images are then measured against it.  What an estimator is worth on
a cohort is found by ``injection``.  Several channels are measured as their mean.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtr

from rafmodel.appearance import matched
from rafmodel.encoder import in_chunks
from rafmodel.registration import Pose, aligned, refined, register, warp
from rafmodel.variability.intensity import _legendre
from rafmodel.variability.law import grid, sample
from rafmodel.variability.resolution import gaussian_blur

STATES = {  # name -> what its value is
    "gain": "log gain at mid-grey",
    "gamma": "log gamma",
    "rotation": "degrees",
    "down": "fraction of image side",
    "across": "fraction of image side",
    "scale": "log size",
    "noise": "log s.d., fraction of display range",
    "blur": "variance added to the mean's, (fraction of image side)²",
    "field_x": "log, across",
    "field_y": "log, down",
    "field_xy": "log, product",
    "field_xx": "log, second order across",
    "field_yy": "log, second order down",
}
CHUNK = 128  # images measured together
_SHARES = np.linspace(0.04, 0.96, 24)  # of the pixels, at which grey values are compared
_DARK = 0.02  # below this a logarithm tells the noise, not the tissue
SMOOTH = 0.03  # blur before grey values are compared, fraction of the side
_NEAR = 0.05  # blur of a local mean, fraction of the side
_HALVED = np.sqrt(0.5 - 0.5 / np.pi)  # s.d. of noise of s.d. 1 that is cut at its mean
_FLOOR = 1e-4  # least noise that is told apart from none, fraction of the display range


class Reference(NamedTuple):
    """What states are relative to.

    grey      (Q,) log grey values at the shares, geometric mean over images
    middle    () their mean: mid-grey, log
    template  (H, W, 1) mean of the images at the reference's grey values and in register
    power     (R,) log power by frequency, mean over images
    waves     (H, W // 2 + 1) log power of each wave, mean over images
    """

    grey: Array
    middle: Array
    template: Array
    power: Array
    waves: Array


def grey_images(image: Array | np.ndarray) -> Array:
    """Images (N, H, W, 1), float32 in [0, 1], from uint8 or floats of one or more channels; of volumes the middle plane."""
    if image.ndim == 5:
        image = image[:, image.shape[1] // 2]
    scale = np.float32(255) if image.dtype == np.uint8 else np.float32(1)
    return jnp.asarray(np.asarray(image).astype(np.float32).mean(-1, keepdims=True) / scale)


def reference(images: Array) -> Reference:
    """The mean of images (N, H, W, 1): grey values, power and, registered twice, shape."""
    clear = in_chunks(unclipped, images, chunk=CHUNK)
    grey = jnp.mean(in_chunks(_log_quantiles, clear, chunk=CHUNK), 0)
    mean_powers = [jnp.mean(power, 0) for power in in_chunks(powers, images, chunk=CHUNK)]
    bare = Reference(grey, _middle(grey), images[0], *mean_powers)
    normal = in_chunks(partial(normalised, bare), clear, chunk=CHUNK)
    template = jnp.mean(normal, 0)
    for _ in range(2):
        pose = in_chunks(lambda some, template=template: register(template, some)[0], normal, chunk=CHUNK)
        centred = [x - np.mean(x) for x in pose]  # else the template would drift
        template = jnp.mean(in_chunks(lambda some, *one: aligned(some, Pose(*one)), normal, *centred, chunk=CHUNK), 0)
    return bare._replace(template=template)


def states(reference: Reference, images: Array) -> np.ndarray:
    """State of each image (N, len(STATES)), in the order and units of STATES, part by part; images (N, H, W, 1)."""
    return in_chunks(partial(_states, reference), images, chunk=CHUNK)


def both(reference: Reference, images: Array) -> tuple[np.ndarray, np.ndarray]:
    """States by parts, and all fitted at once (``appearance``), (N, len(STATES)) each; noise is the same in both."""
    return in_chunks(partial(_both, reference), images, chunk=CHUNK)


def _both(reference: Reference, images: Array) -> tuple[Array, Array]:
    apart = _states(reference, images)
    found, _ = matched(reference.template, reference.middle, unclipped(images), _start(apart).astype(images.dtype))
    return apart, jnp.concatenate([found[:, :6], apart[:, 6:7], found[:, 11:], found[:, 6:11]], 1)


def rough(reference: Reference, images: Array) -> tuple[np.ndarray, np.ndarray]:
    """Where a fit of all states sets out from for images (N, H, W, 1), as ``matched`` takes it, and their log noise (N,)."""
    apart = states(reference, images)
    return np.asarray(_start(apart)), apart[:, 6]


def _start(apart: Array | np.ndarray) -> Array:
    field = apart[:, 8:] * jnp.exp(-apart[:, 1:2])  # by parts it is what is seen, after gamma
    return jnp.concatenate([apart[:, :6], field, jnp.zeros_like(apart[:, :1])], 1)


def _states(reference: Reference, images: Array) -> Array:
    clear = unclipped(images)
    gain, log_gamma = _tones(reference, _log_quantiles(clear))
    normal = normalised(reference, clear)
    pose, _ = register(reference.template, normal)
    for _ in range(2):  # a field looks like a movement and the other way round: in turn
        field = _fields(reference, clear, log_gamma, pose)
        pose, _ = refined(reference.template, _evened(normal, field, log_gamma), pose)
    field = _fields(reference, clear, log_gamma, pose)
    single = jnp.stack([gain, log_gamma, *pose, log_noise(images), _blurs(reference.power, powers(images)[0])], 1)
    return jnp.concatenate([single, field], 1)


# ---- grey values


@jax.jit
def _log_quantiles(images: Array) -> Array:
    """Log grey values (N, Q) at the shares, of the image a little blurred so that noise does not widen them."""
    smooth = jax.vmap(lambda image: gaussian_blur({}, image, jnp.array(SMOOTH, image.dtype)))(images)
    found = jnp.quantile(smooth.reshape(len(images), -1), jnp.asarray(_SHARES, images.dtype), axis=1)
    return jnp.log(jnp.maximum(found.T, _DARK))


def _trusted(grey: Array) -> Array:
    """Weight of a log grey value: none near black, where it is cut, and near white, where it is clipped."""
    return jax.nn.sigmoid((grey - jnp.log(2 * _DARK)) * 8) * jax.nn.sigmoid((jnp.log(0.97) - grey) * 80)


@jax.jit
def _middle(grey: Array) -> Array:
    weight = _trusted(grey)
    return jnp.sum(weight * grey) / jnp.sum(weight)


@jax.jit
def _tones(reference: Reference, grey: Array) -> tuple[Array, Array]:
    """Log gain at the reference's mid-grey and log gamma (N,): a line through log grey values against the reference's."""
    weight = _trusted(grey) * _trusted(reference.grey)[None] + 1e-6
    total = weight.sum(1)
    x = jnp.broadcast_to(reference.grey[None] - reference.middle, grey.shape)
    mean_x, mean_y = ((weight * v).sum(1) / total for v in (x, grey))
    slope = (weight * (x - mean_x[:, None]) * grey).sum(1) / (weight * (x - mean_x[:, None]) ** 2).sum(1)
    slope = jnp.clip(slope, 0.1, 10.0)
    return mean_y - slope * mean_x - reference.middle, jnp.log(slope)


@jax.jit
def normalised(reference: Reference, images: Array) -> Array:
    """Images with the grey values of the reference."""
    gain, log_gamma = (x[:, None, None, None] for x in _tones(reference, _log_quantiles(images)))
    log = jnp.log(jnp.maximum(images, 1e-3))
    return jnp.clip(jnp.exp((log - gain - reference.middle) * jnp.exp(-log_gamma) + reference.middle), 0, 1)


# ---- noise


def _crossed(image: Array) -> Array:
    """Second difference along both axes, (H − 2, W − 2), s.d. 6 on white noise of s.d. 1.  Immerkær 1996."""
    down = image[:-2] - 2 * image[1:-1] + image[2:]
    return down[:, :-2] - 2 * down[:, 1:-1] + down[:, 2:]


@jax.jit
def log_noise(images: Array) -> Array:
    """Log s.d. of white noise (N,), from second differences where the image is smooth and not clipped.

    Immerkær 1996 with mean squares in place of mean magnitudes, so that variances add, and without edges (Tai, Yang 2008).
    Finest texture counts as noise.  Smooth: the half of the pixels with the smallest gradient after a blur.  Not clipped:
    twice the s.d. away from black and white, which takes two passes; else strong noise near black reads a tenth too small.
    """

    def one(image: Array) -> Array:
        smooth = gaussian_blur({}, image, jnp.array(0.06, image.dtype))[..., 0]
        rows, columns = jnp.gradient(smooth)
        steep, inside = jnp.hypot(rows, columns)[1:-1, 1:-1], smooth[1:-1, 1:-1]
        energy = _crossed(image[..., 0]) ** 2 / 36

        def variance(margin: Array) -> Array:
            open_ = jax.nn.sigmoid((inside - margin) * 100) * jax.nn.sigmoid((1 - margin - inside) * 100) + 1e-4
            flat = open_ * (steep <= jnp.nanquantile(jnp.where(open_ > 0.5, steep, jnp.nan), 0.5)) + 1e-6 * open_
            return jnp.sum(flat * energy) / jnp.sum(flat)

        least = jnp.array(0.06, image.dtype)
        first = jnp.sqrt(variance(least))
        return 0.5 * jnp.log(variance(jnp.maximum(least, jnp.minimum(2 * first, 0.3))) + _FLOOR**2)

    return jax.lax.map(one, images, batch_size=64)


@jax.jit
def unclipped(images: Array) -> Array:
    """Images (N, H, W, 1) whose local means are those before noise was cut at black and white.

    A cut at black lifts the mean of dark parts by what noise would have taken below it, and the more, the darker they are: a gain
    or a field seems smaller there than it is.  Where an image shows no noise, as in a blank border, nothing is changed.
    """
    deviation = jnp.exp(log_noise(images))[:, None, None, None]
    blur = jax.vmap(lambda image: gaussian_blur({}, image, jnp.array(_NEAR, image.dtype)))
    mean = blur(images)
    grain = jnp.minimum(deviation, jnp.sqrt(jnp.maximum(blur((images - mean) ** 2), 0)) / _HALVED)
    return images + (1 - _uncut(1 - _uncut(mean, grain), grain) - mean)


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


# ---- sharpness


def _rings(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ring of each wave (H, W // 2 + 1), −1 outside; squared wave number of each ring, cycles a side; waves in each."""
    rows, columns = np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None, :] * width
    radius = np.hypot(rows, columns)
    count = min(height, width) // 2
    ring = np.where(radius < count - 0.5, np.rint(radius).astype(int) - 1, -1)
    inside = [ring == r for r in range(count - 1)]
    square = np.array([(radius[i] ** 2).mean() for i in inside])
    return ring, square, np.array([i.sum() for i in inside], float)


@jax.jit
def powers(images: Array) -> tuple[Array, Array]:
    """Log power by ring (N, R) and by wave (N, H, W // 2 + 1), of images under a Hann window."""
    height, width = images.shape[1:3]
    window = np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (height, width)))
    window = jnp.asarray(window / np.sqrt((window**2).mean()), images.dtype)
    level = images[..., 0] - jnp.mean(images[..., 0] * window[None] ** 2, (1, 2), keepdims=True)
    power = jnp.abs(jnp.fft.rfft2(level * window[None])) ** 2 / (height * width)
    ring, _, count = _rings(height, width)
    pick = np.stack([(ring == r).ravel() / n for r, n in enumerate(count)], 1)
    radial = power.reshape(len(images), -1) @ jnp.asarray(pick, images.dtype)
    return jnp.log(radial + _FLOOR**2), jnp.log(power + _FLOOR**2)


@jax.jit
def _blurs(mean: Array, log_power: Array) -> Array:
    return jax.vmap(partial(_blur, mean))(log_power)


def _blur(mean: Array, log_power: Array) -> Array:
    """Variance of the blur beyond the mean image's, signed, (fraction of the side)², from log power by ring (R,).

    Power is fitted, on the log scale, by that of the mean without its floor, times a gain, times the Gaussian transfer
    ``exp(−(2π k)² Δ)`` at k cycles a side, plus a floor of white noise.
    """
    count = len(mean)
    side = 2 * (count + 1)
    _, square, waves = _rings(side, side)
    wave2, weight = (jnp.asarray(v, mean.dtype) for v in ((2 * np.pi) ** 2 * square, np.sqrt(waves / waves.sum())))
    floor = 0.9 * jnp.min(mean[-3:])
    signal = jnp.exp(mean) - jnp.exp(floor)
    signal = jnp.maximum(signal, 1e-3 * jnp.exp(mean))
    unit = 1 / wave2[count // 2]

    def apart(x: Array) -> Array:
        fitted = signal * jnp.exp(x[0] - wave2 * unit * x[1]) + jnp.exp(x[2])
        return jnp.concatenate([weight * (log_power - jnp.log(fitted)), 0.03 * x[1:2], 0.03 * (x[2:] - floor)])

    def step(_, state):
        x, cost, damping = state
        slope, residual = jax.jacfwd(apart)(x), apart(x)
        trial = x - jnp.linalg.solve(slope.T @ slope + damping * jnp.eye(3, dtype=x.dtype), slope.T @ residual)
        new = jnp.sum(apart(trial) ** 2)
        better = new < cost
        return jnp.where(better, trial, x), jnp.minimum(new, cost), damping * jnp.where(better, 0.3, 6.0)

    start = jnp.stack([jnp.zeros((), mean.dtype), jnp.zeros((), mean.dtype), jnp.minimum(floor, log_power[-1])])
    x, _, _ = jax.lax.fori_loop(0, 30, step, (start, jnp.sum(apart(start) ** 2), jnp.array(1e-2, mean.dtype)))
    return x[1] * unit


# ---- field


@jax.jit
def _fields(reference: Reference, images: Array, log_gamma: Array, pose: Pose) -> Array:
    return jax.vmap(partial(_field, reference))(images, log_gamma, jnp.stack(pose, 1))


def _field(reference: Reference, image: Array, log_gamma: Array, pose: Array) -> Array:
    """Coefficients (5,) of the log field over Legendre products: image over template, in register and of its gamma."""
    blur = partial(gaussian_blur, {}, severity=jnp.array(0.05, image.dtype))
    seen = blur(image)[..., 0]
    model = sample(blur(reference.template), warp(pose, grid(image)))[..., 0]
    log_model = jnp.log(jnp.maximum(model, _DARK))
    ratio = jnp.log(jnp.maximum(seen, _DARK)) - jnp.exp(log_gamma) * log_model
    weight = (_trusted(jnp.log(jnp.maximum(seen, 1e-6))) * _trusted(log_model) + 1e-4).ravel()
    terms = jnp.concatenate([jnp.ones((1, *seen.shape), image.dtype), _legendre(grid(image))]).reshape(6, -1)
    gram = (terms * weight[None]) @ terms.T
    ridge = 1e-3 * jnp.trace(gram) / 6 * jnp.eye(6, dtype=image.dtype)
    return jnp.linalg.solve(gram + ridge, (terms * weight[None]) @ ratio.ravel())[1:]


@jax.jit
def _evened(images: Array, field: Array, log_gamma: Array) -> Array:
    """Normalised images (N, H, W, 1) without their field; it was found before gamma was undone."""
    log = jnp.tensordot(field, _legendre(grid(images[0])), 1) * jnp.exp(-log_gamma)[:, None, None]
    return images * jnp.exp(-jnp.clip(log, -1.5, 1.5))[..., None]
