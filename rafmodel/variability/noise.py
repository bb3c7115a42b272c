"""Noise of receivers, counts and coherent waves."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtr

from rafmodel import native
from rafmodel.variability import threefry
from rafmodel.variability.law import Drawn, Variability, normal_field
from rafmodel.variability.projections import filtered_back, projected

FEW, MOST = 8.0, 30  # counts of a mean below FEW are counted up to MOST, which one in 10^8 exceeds
VIEWS = 45  # projections of a half turn in which the counts of a low dose are drawn


def gaussian(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Independent Gaussian noise of s.d. ``severity``, clipped to the display range."""
    return jnp.clip(image + severity * drawn["z"], 0, 1)


def rician(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Magnitude of a complex signal with noise of s.d. ``severity`` in each part.  Gudbjartsson, Patz 1995."""
    real, imaginary = image + severity * drawn["z"][0], severity * drawn["z"][1]
    return jnp.clip(jnp.sqrt(real**2 + imaginary**2), 0, 1)


def _two_fields(key: Array, shape: tuple[int, ...]) -> Drawn:
    return {"z": threefry.two_normals(key, shape)}


def shot(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Poisson counts, ``1 / severity²`` of them at white."""
    white = 1 / jnp.maximum(severity, 1e-3) ** 2
    counts = native.settled(_counts(drawn["z"].ravel(), image.ravel() * white))  # apart, else a few channels are a loop
    return jnp.clip(counts.reshape(image.shape) / white, 0, 1).astype(image.dtype)


def _counts(z: Array, mean: Array) -> Array:
    """The Poisson counts that lie where standard normals do: the quantile Φ(z) of the law of each mean.

    Few are counted up.  Many are the normal's expansion in 1/√mean, rounded down (Giles 2016), which is off by one in at most
    7 draws of 10,000, at a mean of FEW.
    """
    few = jnp.minimum(mean, FEW)
    quantile, chance = ndtr(z), jnp.exp(-few)
    count, below = jnp.zeros_like(mean), chance
    for n in range(1, MOST):
        count += below < quantile
        chance *= few / n
        below += chance
    many = jnp.maximum(mean, FEW)
    root = jnp.sqrt(many)
    series = many + root * z + 1 / 3 + z**2 / 6
    series += -(z / 36 + z**3 / 72) / root + (-8 / 405 + 7 * z**2 / 810 + z**4 / 270) / many
    return jnp.where(mean < FEW, count, jnp.maximum(jnp.floor(series), 0))


def low_dose(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Noise of few photons in CT, drawn in the projections and reconstructed: streaked, and worst behind dense parts.

    severity  1/√photons where nothing is in the way; a path across a white image weakens the beam by exp(−4).
    The log of Poisson counts of mean I has variance 1/I; reconstruction is linear, so only the noise passes through it.
    Volumes are slices along the first axis.
    """

    def of_slice(plane: Array, z: Array) -> Array:
        path = projected(plane, VIEWS) * (4 / plane.shape[0])
        return filtered_back(z * jnp.exp(jnp.minimum(path, 8.0) / 2), plane.shape)

    slices = image if image.ndim == 4 else image[None]
    grey = slices.mean(-1)
    found = jax.vmap(of_slice)(grey, drawn["z"])[..., None]
    return jnp.clip((slices + severity * found).reshape(image.shape), 0, 1)


def _sinogram(key: Array, shape: tuple[int, ...]) -> Drawn:
    slices = shape[0] if len(shape) == 4 else 1
    return {"z": jax.random.normal(key, (slices, VIEWS, max(shape[-3:-1])), jnp.float32)}


def speckle(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Intensities times ``1 + severity z``, one z a pixel."""
    return jnp.clip(image * (1 + severity * drawn["z"]), 0, 1)


def impulse(drawn: Drawn, image: Array, severity: Array) -> Array:
    """A share ``severity`` of the pixels black or white, each with chance one half."""
    u = drawn["u"]
    white = (u * 2**23) % 2  # the last of the 23 binary places that a uniform draw has
    return jnp.where(u < severity, white.astype(image.dtype), image)


def _uniform_field(key: Array, shape: tuple[int, ...]) -> Drawn:
    return {"u": threefry.uniform(key, shape)}


NOISE = Variability("noise", "s.d., fraction of display range", normal_field, gaussian, (0.02, 0.05, 0.1, 0.2, 0.3))
RICIAN = Variability(
    "rician", "s.d. of each part, fraction of display range", _two_fields, rician, (0.02, 0.05, 0.1, 0.2, 0.3)
)
SHOT = Variability("shot", "1/√photons at white", normal_field, shot, (0.1, 0.15, 0.2, 0.3, 0.45))
LOW_DOSE = Variability("low_dose", "1/√photons unattenuated", _sinogram, low_dose, (0.01, 0.02, 0.04, 0.08, 0.15))
SPECKLE = Variability("speckle", "s.d. of the factor", normal_field, speckle, (0.05, 0.1, 0.2, 0.35, 0.5))
IMPULSE = Variability("impulse", "share of pixels", _uniform_field, impulse, (0.01, 0.02, 0.05, 0.1, 0.2))
