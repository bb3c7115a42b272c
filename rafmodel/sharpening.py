"""The anatomy behind a cohort's mean image: as sharp as images were before they were blurred, and with its whites.

A mean of registered images is blurred as they are and a little more.  A hospital's tones come before its blur, and the two do not
commute, so a cohort is not made again from its mean but from that mean without its blur.  How much blur that is, images tell: the
likeliest sharpness of a template that is posed, lit, and only then blurred until it looks like each of them.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel.appearance import matched
from rafmodel.encoder import in_chunks
from rafmodel.registration import Pose, aligned, register
from rafmodel.state import CHUNK, SMOOTH, Reference, normalised, rough, unclipped
from rafmodel.variability.resolution import gaussian_blur

VARIANCES = tuple(np.arange(9) * 4e-4)  # of the blur that is tried, (fraction of the side)²
LEFT = 0.01  # power, of waves' own, below which they are not raised any more: what is left of noise in a mean image
_CLIPPED = 0.93  # grey value from which a pixel may be white that was cut


def sharpened(reference: Reference, images: Array) -> tuple[Array, float]:
    """The reference's template as sharp as these images' anatomy, (H, W, 1), and the variance of the blur that it lacks.

    images  (N, H, W, 1)
    Of VARIANCES the likeliest: least squares over the variance of each image's noise.
    """
    apart, clear = rough(reference, images), jnp.asarray(in_chunks(unclipped, images, chunk=CHUNK))
    start, noise = jnp.asarray(apart[0], images.dtype), np.exp(2 * apart[1])
    template = _whole(reference, clear)
    each = [without_blur(template, variance) for variance in VARIANCES]
    tried = [
        matched(one, reference.middle, clear, start, jnp.asarray(variance, images.dtype))[1]
        for one, variance in zip(each, VARIANCES, strict=True)
    ]
    best = int(np.argmin((np.stack(tried) / noise).mean(1)))
    return each[best], VARIANCES[best]


def _whole(reference: Reference, clear: Array) -> Array:
    """Mean (H, W, 1) of images in register and at the reference's grey values, where they are not cut at white."""
    normal = jnp.asarray(in_chunks(partial(normalised, reference), clear, chunk=CHUNK))
    smooth = jax.vmap(lambda image: gaussian_blur({}, image, jnp.asarray(SMOOTH, image.dtype)))(clear)
    weight = jax.nn.sigmoid((_CLIPPED - smooth) * 60) + 1e-3
    pose = in_chunks(lambda some: register(reference.template, some)[0], normal, chunk=CHUNK)
    both = jnp.concatenate([normal * weight, weight], -1)
    total = jnp.sum(in_chunks(lambda some, *one: aligned(some, Pose(*one)), both, *pose, chunk=CHUNK), 0)
    return total[..., :1] / total[..., 1:]


def without_blur(image: Array, variance: float) -> Array:
    """The image (H, W, 1), mirrored at its borders, without a Gaussian blur of a variance in squared sides; in [0, 1].

    Wiener's filter, with LEFT for the noise; 0 leaves the image as it is.
    """
    height, width = image.shape[:2]
    rows, columns = np.fft.fftfreq(2 * height)[:, None] * height, np.fft.rfftfreq(2 * width)[None] * width
    passed = np.exp(-2 * np.pi**2 * variance * (rows**2 + columns**2))
    whole = jnp.pad(image[..., 0], ((0, height), (0, width)), mode="symmetric")
    raised = jnp.fft.rfft2(whole) * (passed * (1 + LEFT) / (passed**2 + LEFT))
    found = jnp.fft.irfft2(raised, whole.shape)[:height, :width, None]
    return jnp.clip(found, 0, 1).astype(image.dtype)
