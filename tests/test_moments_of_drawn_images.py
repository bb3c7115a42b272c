"""Closed forms of a variability's first two moments against images drawn by its law, within standard errors.

Images are dark or grey enough that nothing is clipped.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rafmodel import theory
from rafmodel import variability as v
from rafmodel.variability import acquisition, noise
from rafmodel.variability.intensity import _legendre
from rafmodel.variability.law import grid

N, SIDE = 20_000, 6
RNG = np.random.default_rng(0)
MEAN = RNG.uniform(0.02, 0.06, SIDE**2)
ROOT = 0.004 * RNG.normal(size=(SIDE**2, SIDE**2)) / SIDE
COV = ROOT @ ROOT.T


def images(lift=0.0):
    """Images (N, SIDE, SIDE, 1) of the stated moments, as they came out: their own mean and covariance are returned too."""
    drawn = np.clip(lift + MEAN + RNG.normal(size=(N, SIDE**2)) @ ROOT.T, 0, 1)
    return jnp.asarray(drawn.reshape(N, SIDE, SIDE, 1), jnp.float32), drawn.mean(0), np.cov(drawn.T)


def agree(law, batch, severity, mean, cov):
    """Mean and covariance of altered images within 4.5 standard errors at every pixel and pair (a thousand tests at once)."""
    altered = np.asarray(v.alter(jax.random.key(1), law, batch, jnp.asarray([severity], jnp.float32)))[0]
    x = altered.reshape(N, -1).astype(float)
    error = x.std(0) / N**0.5
    assert (np.abs(x.mean(0) - np.asarray(mean)) < 4.5 * error + 1e-7).all()
    apart = x - x.mean(0)
    products = apart[:, :, None] * apart[:, None, :]
    spread = products.std(0) / N**0.5
    assert (np.abs(products.mean(0) - np.asarray(cov)) < 4.5 * spread + 1e-9).all()


def test_gain():
    batch, mean, cov = images()
    agree(v.GAIN, batch, 0.4, *theory.contrast_moments(jnp.asarray(mean), jnp.asarray(cov), 0.4))


def test_noise():
    batch, mean, cov = images(lift=0.45)
    agree(v.NOISE, batch, 0.08, *theory.noise_moments(jnp.asarray(mean), jnp.asarray(cov), 0.08))


def test_speckle():
    """Independent factors 1 + σz: the diagonal gains σ²(Σ_ii + μ_i²)."""
    batch, mean, cov = images(lift=0.3)
    agree(noise.SPECKLE, batch, 0.1, mean, cov + np.diag(0.01 * (np.diag(cov) + mean**2)))


def test_bias_field():
    batch, mean, cov = images()
    basis = np.asarray(_legendre(grid(batch[0]))).reshape(5, -1)
    field = 0.3**2 * basis.T @ basis
    agree(v.BIAS, batch, 0.3, *theory.field_moments(jnp.asarray(mean), jnp.asarray(cov), jnp.asarray(field)))


def test_blur_and_coarse_pixels_are_linear_maps():
    """A blur of given width is a matrix B: mean Bμ, covariance BΣBᵀ; the matrix from images of single pixels."""
    for name, severity in (("blur", 0.1), ("down_sampling", 1.0), ("pixelate", 2.0)):
        law = v.CATALOGUE[name]
        points = jnp.eye(SIDE**2, dtype=jnp.float32).reshape(-1, SIDE, SIDE, 1)
        matrix = np.asarray(v.alter(jax.random.key(0), law, points, jnp.asarray([severity], jnp.float32)))[0]
        matrix = matrix.reshape(SIDE**2, -1).T
        batch, mean, cov = images()
        agree(law, batch, severity, matrix @ mean, matrix @ cov @ matrix.T)


def test_shot_noise():
    """Poisson counts at 1/s² photons: variance s² times intensity."""
    batch, mean, cov = images(lift=0.2)
    agree(noise.SHOT, batch, 0.1, mean, cov + np.diag(0.01 * mean))


def test_an_artifact_with_a_probability():
    """Rings in a share of the images: an additive artifact of mean 0, whose covariance is that of the rings alone."""
    batch, mean, cov = images(lift=0.4)
    law = acquisition.RINGS
    flat = jnp.full_like(batch, 0.5)
    alone = np.asarray(v.alter(jax.random.key(7), law, flat, jnp.asarray([0.05], jnp.float32)))[0].reshape(N, -1) - 0.5
    altered, _, _ = v.compose(jax.random.key(2), (v.Step(law, 0.05, 0.3),), batch)
    expected = theory.artifact_moments(
        jnp.asarray(mean), jnp.asarray(cov), 0.3, jnp.zeros(SIDE**2), jnp.asarray(np.cov(alone.T))
    )
    x = np.asarray(altered).reshape(N, -1).astype(float)
    apart = x - x.mean(0)
    products = apart[:, :, None] * apart[:, None, :]
    error = 4.5 * products.std(0) / N**0.5
    assert (
        np.abs(products.mean(0) - np.asarray(expected[1])) < 1.5 * error
    ).all()  # the rings' own covariance is drawn too
    assert (np.abs(x.mean(0) - np.asarray(expected[0])) < 4.5 * x.std(0) / N**0.5).all()
