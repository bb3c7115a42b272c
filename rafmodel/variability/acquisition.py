"""Artifacts of magnetic resonance and computed tomography: what goes wrong between the body and the image."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import native
from rafmodel.variability.law import Drawn, Variability, axes, grid, nothing, one_uniform, real
from rafmodel.variability.linear import UNIT, along, along_all
from rafmodel.variability.projections import DENSE, detectors, discs, redrawn

MOVES = 3  # times that a patient moves during a scan
VIEWS = 90  # projections of a half turn
METAL_DENSITY = 12.0  # attenuation of an implant, times white
STARVED = 5.0  # attenuation at which no more is read than scatter
COUNTING = 0.004  # 1/√photons where nothing is in the way

# ---- magnetic resonance: k-space lines run along the first axis of space


def _lines(n: int) -> np.ndarray:
    """Wave numbers of k-space lines along an axis, cycles a pixel."""
    return np.fft.fftfreq(n)


def _from_lines(image: Array, factor: Array) -> Array:
    """Each k-space line along the first axis times its factor (n,), and the magnitude of the image again."""
    lines = jnp.fft.fft(image, axis=0) * factor.reshape(-1, *(1,) * (image.ndim - 1))
    return jnp.clip(jnp.abs(jnp.fft.ifft(lines, axis=0)), 0, 1).astype(image.dtype)


def patient_motion(drawn: Drawn, image: Array, severity: Array) -> Array:
    """The patient moves MOVES times along the first axis while lines are read, by s.d. ``severity`` of the side."""
    n = image.shape[0]
    time = (_lines(n) + 0.5) % 1  # from the most negative line to the most positive
    moved = (time[:, None] > jnp.sort(drawn["u"])[None]).astype(image.dtype)
    place = severity * n * (moved @ drawn["z"])
    at_centre = severity * n * ((jnp.sort(drawn["u"]) < 0.5).astype(image.dtype) @ drawn["z"])
    phase = -2 * jnp.pi * jnp.asarray(_lines(n), image.dtype) * (place - at_centre)
    return _from_lines(image, jnp.exp(1j * phase))


def _moves(key: Array, shape: tuple[int, ...]) -> Drawn:
    del shape
    key_time, key_size = jax.random.split(key)
    return {
        "u": jax.random.uniform(key_time, (MOVES,), jnp.float32),
        "z": jax.random.normal(key_size, (MOVES,), jnp.float32),
    }


def ghosting(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Every second to fifth line of k-space loses a share ``severity`` of its strength, but for the middle one."""
    n = image.shape[0]
    period = 2 + jnp.minimum((4 * drawn["u"]).astype(int), 3)
    line = jnp.asarray(np.rint(_lines(n) * n).astype(int))
    weak = (line % period == 0) & (line != 0)
    kept = jnp.where(weak, 1 - severity, 1.0).astype(image.dtype)
    return jnp.clip(jnp.abs(along(image, _by_lines(kept), 0)), 0, 1)


def spike(drawn: Drawn, image: Array, severity: Array) -> Array:
    """A k-space spike: one cosine of amplitude ``severity``, 3 to 8 cycles per image, any direction and phase."""
    draw = drawn["u"]
    cycles, direction, phase = 3 + 5 * draw[0], jnp.pi * draw[1], 2 * jnp.pi * draw[2]
    along_each = [jnp.sin(direction), jnp.cos(direction)]
    if image.ndim == 4:
        tilt = jnp.pi * (draw[3] - 0.5)
        along_each = [jnp.sin(tilt), *(jnp.cos(tilt) * x for x in along_each)]
    phases = [jnp.pi * cycles * share * x for share, x in zip(along_each, axes(image), strict=True)]
    cosine, sine = jnp.cos(phase), jnp.sin(phase)
    for one in phases:  # cosine and sine of a sum, from those along each axis
        cos, sin = native.settled(jnp.cos(one)), native.settled(jnp.sin(one))
        cosine, sine = cosine * cos - sine * sin, sine * cos + cosine * sin
    return jnp.clip(image + severity * cosine[..., None], 0, 1)


def _wave(key: Array, shape: tuple[int, ...]) -> Drawn:
    return {"u": jax.random.uniform(key, (3 if len(shape) == 3 else 4,), jnp.float32)}


def gibbs(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Ringing: lines of k-space beyond ``1 − severity`` of the largest are not read, along every axis."""
    del drawn
    return along_all(image, severity, lambda n: _reached(n, 1 - severity, real(image)), UNIT)


def _reached(n: int, share: Array, dtype) -> Array:
    """Circulant matrix (n, n) that keeps the lines of k-space of an axis up to a share of the largest; the next one fades."""
    line = jnp.asarray(np.abs(_lines(n) * n), dtype)
    return _by_lines(jnp.clip(0.5 + share * n / 2 - line, 0, 1))  # so that severity is continuous


def _by_lines(factor: Array) -> Array:
    """Circulant matrix (n, n) that multiplies the lines of k-space of an axis by factors (n,), alike for both signs of a line."""
    n = len(factor)
    waves = np.cos(2 * np.pi * np.outer(np.arange(n), _lines(n))) / n
    return (jnp.asarray(waves, factor.dtype) @ factor)[np.subtract.outer(np.arange(n), np.arange(n)) % n]


def zipper(drawn: Drawn, image: Array, severity: Array) -> Array:
    """A radio station: a line across the last axis of alternating dots of amplitude ``severity``, two pixels wide."""
    position = grid(image)
    n = image.shape[-2]
    row = jnp.exp(-(((position[-1] - drawn["place"]) * n / 2) ** 2) / 2)
    dots = drawn["z"].reshape(-1, *(1,) * (image.ndim - 2))
    return jnp.clip(image + severity * (row * dots)[..., None], 0, 1)


def _zip(key: Array, shape: tuple[int, ...]) -> Drawn:
    key_place, key_dots = jax.random.split(key)
    return {
        "place": jax.random.uniform(key_place, (), jnp.float32, -0.8, 0.8),
        "z": jax.random.rademacher(key_dots, shape[:1], jnp.float32),
    }


# ---- computed tomography: circles about the centre of the last two axes


def _polar(image: Array) -> tuple[Array, Array]:
    """Distance from the centre, 1 at the nearest border, and angle, of the last two axes; (..., H, W)."""
    rows, columns = grid(image)[-2:]
    return jnp.sqrt(rows**2 + columns**2), jnp.arctan2(rows, columns)


def rings(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Detectors out of tune: each circle about the centre off by s.d. ``severity``."""
    radius, _ = _polar(image)
    n = drawn["z"].shape[0]
    profile = jnp.interp(radius.ravel() * (n - 1) / 1.5, jnp.arange(n), drawn["z"]).reshape(radius.shape)
    return jnp.clip(image + severity * profile[..., None], 0, 1)


def _detectors(key: Array, shape: tuple[int, ...]) -> Drawn:
    return {"z": jax.random.normal(key, (3 * max(shape[-3:-1]) // 4,), jnp.float32)}


def metal(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Two implants of radius ``severity`` (of half the side), METAL_DENSITY times white, in the projections.

    Few photons come through: what is read saturates at STARVED, and the noise of those that do makes streaks.
    """
    n = max(image.shape[-3:-1])
    inside = METAL_DENSITY * DENSE / 2 * discs(drawn["place"], severity, VIEWS, n)

    def change(path: Array, z: Array) -> Array:
        read = -jnp.logaddexp(-(path + inside), -STARVED)
        noise = COUNTING * z * jnp.exp(read / 2)
        return jnp.where(inside > 0, read - path + noise * -jnp.expm1(-inside), 0)

    return redrawn(image, change, drawn["z"], views=VIEWS)


def _implants(key: Array, shape: tuple[int, ...]) -> Drawn:
    keys = jax.random.split(key)
    slices = shape[0] if len(shape) == 4 else 1
    return {
        "place": jax.random.uniform(keys[0], (2, 2), jnp.float32, -0.5, 0.5),
        "z": jax.random.normal(keys[1], (slices, VIEWS, max(shape[-3:-1])), jnp.float32),
    }


def beam_hardening(drawn: Drawn, image: Array, severity: Array) -> Array:
    """A beam that grows harder on its way: a path across white loses a share ``severity`` of its attenuation, others in
    proportion.

    The middle of large bodies is darker, and bands between dense parts.
    """
    del drawn
    return redrawn(image, lambda path: -severity * path**2 / DENSE, views=VIEWS)


def truncation(drawn: Drawn, image: Array, severity: Array) -> Array:
    """A field of view that is too small: rays beyond ``1 − severity`` of the radius are not read, and its rim is bright."""
    del drawn

    def change(path: Array) -> Array:
        n = path.shape[1]
        kept = jnp.clip((1 - severity - jnp.abs(detectors(n))) * n / 2 + 0.5, 0, 1)
        return -path * (1 - kept)[None]

    return redrawn(image, change, views=VIEWS)


PATIENT_MOTION = Variability(
    "patient_motion", "s.d. of a move, fraction of side", _moves, patient_motion, (0.005, 0.01, 0.02, 0.035, 0.06)
)
GHOSTING = Variability("ghosting", "share of a line's strength lost", one_uniform, ghosting, (0.15, 0.3, 0.5, 0.7, 1.0))
SPIKE = Variability("spike", "amplitude, fraction of display range", _wave, spike, (0.03, 0.06, 0.12, 0.2, 0.3))
GIBBS = Variability("gibbs", "share of k-space not read", nothing, gibbs, (0.3, 0.45, 0.6, 0.7, 0.8), stored=True)
ZIPPER = Variability("zipper", "amplitude, fraction of display range", _zip, zipper, (0.1, 0.2, 0.35, 0.6, 1.0))
RINGS = Variability("rings", "s.d., fraction of display range", _detectors, rings, (0.02, 0.04, 0.08, 0.15, 0.25))
METAL = Variability(
    "metal", "radius of two implants, fraction of half the side", _implants, metal, (0.02, 0.04, 0.07, 0.11, 0.16)
)
BEAM_HARDENING = Variability(
    "beam_hardening", "share lost by a path across white", nothing, beam_hardening, (0.1, 0.2, 0.35, 0.55, 0.8)
)
TRUNCATION = Variability("truncation", "share of the radius cut", nothing, truncation, (0.2, 0.3, 0.4, 0.5, 0.6))
