"""How one anatomy's image varies: the same objects are augmentations of a proxy task and shifts at deployment.

A law takes ``(key, image (H, W, C) in [0, 1], severity)`` and returns an image of the same shape and range.
Severity is a number with a unit; every law is continuous in it and is the identity at 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.ndimage import map_coordinates

from rafmodel.errors import InputError

Law = Callable[[Array, Array, Array], Array]


@dataclass(frozen=True)
class Variability:
    """A random image transform with a severity that means something.

    name    label in tables
    unit    what the severity measures
    law     ``(key, image (H, W, C), severity ()) -> image (H, W, C)``
    levels  the five severities, weak to strong, that levels 1-5 of a study stand for
    """

    name: str
    unit: str
    law: Law
    levels: tuple[float, float, float, float, float]

    def apply(self, key: Array, image: Array, severity: Array | float) -> Array:
        """One altered image; severity 0 returns the input bit for bit.

        Compiled once a law and shape of batch, whoever asks: shifts and views of all designs share it.
        """
        return _applied(self.law, key, image, jnp.asarray(severity, image.dtype))


@partial(jax.jit, static_argnums=0)
def _applied(law: Law, key: Array, image: Array, severity: Array) -> Array:
    return jnp.where(severity > 0, law(key, image, severity), image)


def gain(key: Array, image: Array, severity: Array) -> Array:
    """Intensities times ``exp(severity z)``, clipped to the display range.  Log-normal contrast."""
    return jnp.clip(image * jnp.exp(severity * jax.random.normal(key, dtype=image.dtype)), 0, 1)


def gamma(key: Array, image: Array, severity: Array) -> Array:
    """Intensities to the power ``exp(severity z)``: mid-tones move, black and white stay."""
    power = jnp.exp(severity * jax.random.normal(key, dtype=image.dtype))
    positive = jnp.maximum(image, 1e-6)  # keeps the logarithm finite; black is put back below
    return jnp.where(image > 0, jnp.exp(power * jnp.log(positive)), image)


def rotation(key: Array, image: Array, severity: Array) -> Array:
    """Turn about the image centre by a normal angle of s.d. ``severity`` degrees; borders are extended."""
    angle = jnp.deg2rad(severity * jax.random.normal(key, dtype=image.dtype))
    rows, columns = _grid(image)
    return _sample(
        image,
        jnp.cos(angle) * rows - jnp.sin(angle) * columns,
        jnp.sin(angle) * rows + jnp.cos(angle) * columns,
    )


def crop(key: Array, image: Array, severity: Array) -> Array:
    """A patch whose side is ``1 - severity`` of the image's, at a uniform place, resized to the full matrix."""
    keep = 1 - severity
    offset = severity * jax.random.uniform(key, (2,), image.dtype, -1, 1)
    rows, columns = _grid(image)
    return _sample(image, keep * rows + offset[0], keep * columns + offset[1])


def noise(key: Array, image: Array, severity: Array) -> Array:
    """Independent Gaussian noise of s.d. ``severity``, clipped to the display range."""
    return jnp.clip(image + severity * jax.random.normal(key, image.shape, image.dtype), 0, 1)


def blur(key: Array, image: Array, severity: Array) -> Array:
    """Gaussian blur, s.d. ``severity`` of the image's side; the kernel is renormalised at the borders."""
    del key  # a blur of given width leaves nothing to chance
    return jnp.einsum("ij,jkc,lk->ilc", _smoother(image, 0, severity), image, _smoother(image, 1, severity))


def bias_field(key: Array, image: Array, severity: Array) -> Array:
    """Times ``exp(sum_j c_j P_j)``, ``c_j ~ N(0, severity^2)``, over the five Legendre products of order 1 and 2."""
    y, x = _grid(image)
    basis = jnp.stack([x, y, x * y, (3 * x**2 - 1) / 2, (3 * y**2 - 1) / 2])
    field = jnp.tensordot(severity * jax.random.normal(key, (5,), image.dtype), basis, 1)
    return jnp.clip(image * jnp.exp(field)[..., None], 0, 1)


def spike(key: Array, image: Array, severity: Array) -> Array:
    """A k-space spike: one cosine of amplitude ``severity``, 3 to 8 cycles per image, any direction and phase."""
    draw = jax.random.uniform(key, (3,), image.dtype)
    cycles, direction, phase = 3 + 5 * draw[0], jnp.pi * draw[1], 2 * jnp.pi * draw[2]
    y, x = _grid(image)
    wave = jnp.cos(jnp.pi * cycles * (jnp.cos(direction) * x + jnp.sin(direction) * y) + phase)
    return jnp.clip(image + severity * wave[..., None], 0, 1)


GAIN = Variability("gain", "s.d. of log gain", gain, (0.1, 0.2, 0.35, 0.5, 0.75))
GAMMA = Variability("gamma", "s.d. of log gamma", gamma, (0.1, 0.2, 0.4, 0.6, 0.9))
ROTATION = Variability("rotation", "s.d., degrees", rotation, (5.0, 10.0, 20.0, 40.0, 80.0))
NOISE = Variability("noise", "s.d., fraction of display range", noise, (0.02, 0.05, 0.1, 0.2, 0.3))
BLUR = Variability("blur", "s.d., fraction of image side", blur, (0.015, 0.025, 0.04, 0.06, 0.09))
BIAS = Variability("bias", "s.d. of log field coefficients", bias_field, (0.1, 0.2, 0.3, 0.45, 0.6))
SPIKE = Variability("spike", "amplitude, fraction of display range", spike, (0.03, 0.06, 0.12, 0.2, 0.3))
CROP = Variability("crop", "fraction of image side cut away", crop, (0.1, 0.2, 0.3, 0.4, 0.5))

VARIABILITIES = (GAIN, GAMMA, ROTATION, NOISE, BLUR, BIAS, SPIKE, CROP)


def select(names: Sequence[str] | None) -> tuple[Variability, ...]:
    """Variabilities by name, in the given order; all of them for None.

    Raises InputError for a name that does not exist.
    """
    known = {variability.name: variability for variability in VARIABILITIES}
    for name in names or ():
        if name not in known:
            raise InputError(f"--shifts: no variability is called '{name}'; choose from {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names)) if names else VARIABILITIES


@partial(jax.jit, static_argnums=1)
def alter(key: Array, variability: Variability, images: Array, severities: Array) -> Array:
    """Every image at every severity, each image with its own draw that it keeps over severities.

    images (N, H, W, C), severities (S,)  ->  (S, N, H, W, C)
    """
    keys = jax.random.split(key, images.shape[0])
    over_images = jax.vmap(variability.apply, (0, 0, None))
    return jax.vmap(over_images, (None, None, 0))(keys, images, severities)


def _grid(image: Array) -> tuple[Array, Array]:
    """Row and column of each pixel centre, from -1 to 1 over the image."""
    axes = [(2 * jnp.arange(n, dtype=image.dtype) + 1) / n - 1 for n in image.shape[:2]]
    rows, columns = jnp.meshgrid(*axes, indexing="ij")
    return rows, columns


def _sample(image: Array, rows: Array, columns: Array) -> Array:
    """Bilinear values at positions in [-1, 1]; outside the image the border is extended."""
    height, width = image.shape[:2]
    where = [((rows + 1) * height - 1) / 2, ((columns + 1) * width - 1) / 2]
    channel = partial(map_coordinates, coordinates=where, order=1, mode="nearest")
    return jax.vmap(channel, in_axes=-1, out_axes=-1)(image)


def _smoother(image: Array, axis: int, severity: Array) -> Array:
    """Row-stochastic matrix that blurs one axis, (n, n)."""
    n = image.shape[axis]
    position = jnp.arange(n, dtype=image.dtype)
    distance = (position[:, None] - position[None, :]) / (jnp.maximum(severity, 1e-6) * n)
    return jax.nn.softmax(-(distance**2) / 2, axis=1)
