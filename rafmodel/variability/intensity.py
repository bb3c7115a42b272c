"""Grey values and colours: what the receiver, the display or the stain does to them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from rafmodel import native
from rafmodel.variability.law import Drawn, Variability, axes, in_numbers, nothing, one_normal, one_uniform, real
from rafmodel.variability.linear import turned


def gain(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Intensities times ``exp(severity z)``, clipped to the display range.  Log-normal contrast."""
    return jnp.clip(image * jnp.exp(severity * drawn["z"]), 0, 1)


def _power(image: Array, severity: Array, log_power: Array) -> Array:
    """An image to a power, itself at severity 0; of numbers or of 8 bits."""
    power = jnp.where(severity > 0, jnp.exp(log_power), 1).astype(real(image))
    return (_powered if native.alters_stored(image) else _powered_by_library)(image, power[None])


def _powered_by_library(image: Array, power: Array) -> Array:
    def made(image: Array) -> Array:
        positive = jnp.maximum(image, 1e-6)  # keeps the logarithm finite; black is put back below
        return jnp.where(image > 0, jnp.exp(power[0] * jnp.log(positive)), image)

    return in_numbers(made, image)


@native.derived_by(_powered_by_library)
def _powered(image: Array, power: Array) -> Array:
    return native.power(image, power)


def gamma(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Intensities to the power ``exp(severity z)``: mid-tones move, black and white stay."""
    return _power(image, severity, severity * drawn["z"])


def _scaled(sign: float):
    def law(drawn: Drawn, image: Array, severity: Array) -> Array:
        del drawn
        return jnp.clip(image * jnp.exp(sign * severity), 0, 1)

    return law


def _stretched(sign: float):
    def law(drawn: Drawn, image: Array, severity: Array) -> Array:
        """Distances from the image's mean times ``exp(±severity)``."""
        del drawn
        mean = (
            image.sum(0).sum() / image.size
        )  # along the first axis first, which a processor does several numbers at a time
        return jnp.clip(mean + (image - mean) * jnp.exp(sign * severity), 0, 1)

    return law


def _bent(sign: float):
    def law(drawn: Drawn, image: Array, severity: Array) -> Array:
        del drawn
        return _power(image, severity, sign * severity)

    return law


def brightness(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Intensities plus ``severity z``."""
    return jnp.clip(image + severity * drawn["z"], 0, 1)


def window(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Another window: its level moves by ``severity z1`` of the display range, its width by ``exp(severity z2)``."""
    level, width = severity * drawn["z"][0], jnp.exp(severity * drawn["z"][1])
    return jnp.clip((image - 0.5 - level) / width + 0.5, 0, 1)


def _two_normals(key: Array, shape: tuple[int, ...]) -> Drawn:
    del shape
    return {"z": jax.random.normal(key, (2,), jnp.float32)}


def inversion(drawn: Drawn, image: Array, severity: Array) -> Array:
    """The negative of a share ``severity`` of the images, as of radiographs in the other polarity."""
    return turned(image, drawn["u"] < severity, False)


def bias_field(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Times ``exp(sum_j c_j P_j)``, ``c_j ~ N(0, severity^2)``, over the Legendre products of order 1 and 2.

    Van Leemput et al. 1999.  Five products in the plane, nine in space.
    """
    terms = [c * term for c, term in zip(severity * drawn["z"], _products(axes(image)), strict=True)]
    if image.ndim == 4 and native.alters(image):  # an exponential for each pixel of three planes, not of the volume
        x, y, z, xy, xz, yz, xx, yy, zz = terms
        one, two, three = (native.settled(jnp.exp(plane)) for plane in (y + z + yz + yy + zz, x + xz + xx, xy))
        field = one * two * three
    else:
        field = jnp.exp(sum(terms[1:], terms[0]))
    return jnp.clip(image * field[..., None], 0, 1)


def _legendre(position: Array) -> Array:
    """Products of order 1 and 2: (dims, *space) -> (terms, *space)."""
    return jnp.stack(_products(position))


def _products(position: Sequence[Array] | Array) -> list[Array]:
    """The same of positions that may each have an axis of its own only: five in the plane, nine in space."""
    if len(position) == 2:
        y, x = position
        return [x, y, x * y, (3 * x**2 - 1) / 2, (3 * y**2 - 1) / 2]
    z, y, x = position
    crossed = [x * y, x * z, y * z]
    return [x, y, z, *crossed, *((3 * p**2 - 1) / 2 for p in (x, y, z))]


def _coefficients(key: Array, shape: tuple[int, ...]) -> Drawn:
    return {"z": jax.random.normal(key, (5 if len(shape) == 3 else 9,), jnp.float32)}


# ---- colour


def _hsv(rgb: Array) -> tuple[Array, Array, Array]:
    """Hue in turns, saturation and value of colours (..., 3).  Smith 1978."""
    high, low = jnp.max(rgb, -1), jnp.min(rgb, -1)
    spread = high - low
    safe = jnp.where(spread > 0, spread, 1.0)
    r, g, b = jnp.moveaxis(rgb, -1, 0)
    hue = jnp.where(high == r, (g - b) / safe % 6, jnp.where(high == g, (b - r) / safe + 2, (r - g) / safe + 4)) / 6
    hue = jnp.where(spread > 0, hue, 0.0)
    return hue, spread / jnp.maximum(high, 1e-6), high


def _rgb(hue: Array, saturation: Array, value: Array) -> Array:
    """Colours (..., 3) of hue in turns, saturation and value."""
    turn = jnp.stack([(start + 6 * hue) % 6 for start in (5, 3, 1)], -1)
    ramp = jnp.clip(jnp.minimum(turn, 4 - turn), 0, 1)
    return value[..., None] * (1 - saturation[..., None] * ramp)


def hue(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Hue turned by ``severity z`` of a full turn."""
    h, s, v = _hsv(image)
    return _rgb((h + severity * drawn["z"]) % 1, s, v)


def saturation(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Saturation times ``exp(severity z)``."""
    h, s, v = _hsv(image)
    return _rgb(h, jnp.clip(s * jnp.exp(severity * drawn["z"]), 0, 1), v)


def saturate(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Saturation plus ``severity``."""
    del drawn
    h, s, v = _hsv(image)
    return _rgb(h, jnp.clip(s + severity, 0, 1), v)


# absorbance of haematoxylin, eosin and diaminobenzidine in red, green, blue: Ruifrok and Johnston 2001
_STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))


def stain(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Amount of each histological stain times ``exp(severity z)``, one z a stain.  Ruifrok, Johnston 2001; Tellez et al. 2018."""
    stains = jnp.array(_STAINS, image.dtype)
    amount = -jnp.log(jnp.maximum(image, 1e-3)) @ jnp.linalg.inv(stains)
    absorbed = (amount * jnp.exp(severity * drawn["z"])[None, None]) @ stains
    return jnp.clip(jnp.exp(-absorbed), 0, 1)


def _three_normals(key: Array, shape: tuple[int, ...]) -> Drawn:
    del shape
    return {"z": jax.random.normal(key, (3,), jnp.float32)}


GAIN = Variability("gain", "s.d. of log gain", one_normal, gain, (0.1, 0.2, 0.35, 0.5, 0.75))
GAMMA = Variability("gamma", "s.d. of log gamma", one_normal, gamma, (0.1, 0.2, 0.4, 0.6, 0.9), stored=True)
BIAS = Variability("bias", "s.d. of log field coefficients", _coefficients, bias_field, (0.1, 0.2, 0.3, 0.45, 0.6))
BRIGHTNESS = Variability(
    "brightness", "s.d., fraction of display range", one_normal, brightness, (0.05, 0.1, 0.15, 0.25, 0.4)
)
BRIGHTNESS_UP = Variability("brightness_up", "log gain", nothing, _scaled(1), (0.1, 0.2, 0.3, 0.45, 0.6))
BRIGHTNESS_DOWN = Variability("brightness_down", "log gain lost", nothing, _scaled(-1), (0.1, 0.2, 0.35, 0.5, 0.7))
CONTRAST_UP = Variability("contrast_up", "log contrast", nothing, _stretched(1), (0.1, 0.2, 0.3, 0.4, 0.6))
CONTRAST_DOWN = Variability("contrast_down", "log contrast lost", nothing, _stretched(-1), (0.2, 0.4, 0.6, 0.9, 1.3))
GAMMA_UP = Variability("gamma_up", "log power", nothing, _bent(1), (0.1, 0.2, 0.3, 0.45, 0.7), stored=True)
GAMMA_DOWN = Variability("gamma_down", "log power lost", nothing, _bent(-1), (0.1, 0.2, 0.35, 0.5, 0.9), stored=True)
WINDOW = Variability("window", "s.d. of level and log width", _two_normals, window, (0.05, 0.1, 0.2, 0.3, 0.45))
INVERSION = Variability(
    "inversion", "share of images inverted", one_uniform, inversion, (0.1, 0.2, 0.35, 0.6, 1.0), stored=True
)
HUE = Variability("hue", "s.d., turns", one_normal, hue, (0.02, 0.04, 0.07, 0.12, 0.2), colour=True)
SATURATION = Variability(
    "saturation", "s.d. of log saturation", one_normal, saturation, (0.1, 0.2, 0.4, 0.6, 0.9), colour=True
)
SATURATE = Variability("saturate", "saturation added", nothing, saturate, (0.05, 0.1, 0.15, 0.2, 0.3), colour=True)
STAIN = Variability(
    "stain", "s.d. of log amount of stain", _three_normals, stain, (0.1, 0.2, 0.3, 0.45, 0.6), colour=True
)
