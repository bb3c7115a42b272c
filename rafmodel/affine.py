"""What more variabilities do to the mean (d,) and covariance (d, d) of images, in closed form.

A pixel becomes f_i x_i + b_i, with factors and offsets that are drawn independently of the image.  Gain, field, noise and
additive artifacts are of this kind too, and stand in ``theory``.  Poisson counts, Rician noise and linear maps follow.
Clipping to the display range is left out: on images of which a law clips much they are approximate.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import i0e, i1e


class Affine(NamedTuple):
    """Moments of the factors f and offsets b of a law, as arrays or as one number that holds for all pixels.

    factor, offset              (d,)    E f_i and E b_i
    factors, crossed, offsets   (d, d)  E f_i f_j, E f_i b_j and E b_i b_j
    """

    factor: Array | float = 1.0
    offset: Array | float = 0.0
    factors: Array | float = 1.0
    crossed: Array | float = 0.0
    offsets: Array | float = 0.0


def affine_moments(mean: Array, cov: Array, law: Affine) -> tuple[Array, Array]:
    """Moments after a law that is affine in the image.  Eq. (affine-mean, affine-covariance), d03."""
    after = law.factor * mean + law.offset
    crossed = law.crossed * mean[:, None]
    second = law.factors * (cov + mean[:, None] * mean[None, :]) + crossed + crossed.T + law.offsets
    return after, second - after[:, None] * after[None, :]


def of_draws(factors: Array, offsets: Array) -> Affine:
    """The law that takes each of n pairs of factors and offsets, (n, d), with the same chance: masks, fields, marks."""
    n = len(factors)
    crossed = factors.T @ offsets / n
    return Affine(factors.mean(0), offsets.mean(0), factors.T @ factors / n, crossed, offsets.T @ offsets / n)


def speckle(d: int, sigma: Array | float) -> Affine:
    """Every pixel times 1 + sigma z of its own.  Eq. (speckle), d03."""
    return Affine(factors=1 + jnp.square(jnp.asarray(sigma)) * jnp.eye(d))


def impulse(d: int, share: Array | float) -> Affine:
    """A share of the pixels black or white, each with chance one half.  Eq. (impulse-*), d03."""
    same, kept = jnp.eye(d), 1 - jnp.asarray(share)
    apart = 1 - same
    factors = kept**2 * apart + kept * same
    return Affine(kept, share / 2, factors, kept * share / 2 * apart, share**2 / 4 * apart + share / 2 * same)


def inversion(share: Array | float) -> Affine:
    """The negative of a share of the images.  Eq. (inversion-*), d03."""
    return Affine(1 - 2 * share, share, 1.0, -share, share)


def brightness(sigma: Array | float) -> Affine:
    """Intensities plus sigma z, one z an image.  Eq. (brightness), d03."""
    return Affine(offsets=jnp.square(jnp.asarray(sigma)))


def window(sigma: Array | float) -> Affine:
    """A window whose level moves by sigma z and whose width by exp(sigma z'), about mid-grey.  Eq. (window-*), d03."""
    variance = jnp.square(jnp.asarray(sigma))
    once, twice = jnp.exp(variance / 2), jnp.exp(2 * variance)  # E f and E f²
    offsets = 1 / 4 - once / 2 + (1 / 4 + variance) * twice
    return Affine(once, (1 - once) / 2, twice, (once - twice) / 2, offsets)


def shot_moments(mean: Array, cov: Array, sigma: Array | float) -> tuple[Array, Array]:
    """Moments of Poisson counts, 1 / sigma² at white.  Eq. (shot), d03."""
    return mean, cov + jnp.square(jnp.asarray(sigma)) * jnp.diag(mean)


def rician_mean(intensity: Array | float, sigma: Array | float) -> Array:
    """Mean magnitude of a complex signal of known intensity with noise of s.d. sigma in each part.  Eq. (rician-mean), d03.

    Rice 1945.  Of images that vary there is no closed form but of the second moment, ``rician_power``.
    """
    q = jnp.square(jnp.asarray(intensity) / sigma) / 4
    return sigma * jnp.sqrt(jnp.pi / 2) * ((1 + 2 * q) * i0e(q) + 2 * q * i1e(q))


def rician_power(mean: Array, cov: Array, sigma: Array | float) -> Array:
    """Second moment (d,) of every pixel under Rician noise, exact for any images.  Eq. (rician-power), d03."""
    return jnp.diagonal(cov) + jnp.square(mean) + 2 * jnp.square(jnp.asarray(sigma))


def linear_moments(mean: Array, cov: Array, matrix: Array) -> tuple[Array, Array]:
    """Moments after a matrix (e, d) was applied to the image: blurs, coarse pixels, ringing.  Eq. (linear-*), d03."""
    return matrix @ mean, matrix @ cov @ matrix.T
