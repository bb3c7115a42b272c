"""Closed forms of a variability's first two moments against images drawn by its law, within standard errors.

Images are dark or grey enough that at most one value in a million is clipped.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import affine, sampling, theory
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
    products = apart.T @ apart / N
    spread = np.sqrt((apart**2).T @ apart**2 / N - products**2) / N**0.5  # of the products of two pixels
    assert (np.abs(products - np.asarray(cov)) < 4.5 * spread + 1e-9).all()


def test_gain():
    batch, mean, cov = images()
    agree(v.GAIN, batch, 0.4, *theory.contrast_moments(jnp.asarray(mean), jnp.asarray(cov), 0.4))


def test_noise():
    batch, mean, cov = images(lift=0.45)
    agree(v.NOISE, batch, 0.08, *theory.noise_moments(jnp.asarray(mean), jnp.asarray(cov), 0.08))


def follows(law, batch, severity, mean, cov, stated):
    agree(law, batch, severity, *affine.affine_moments(jnp.asarray(mean), jnp.asarray(cov), stated))


def test_speckle_and_impulses():
    batch, mean, cov = images(lift=0.3)
    follows(noise.SPECKLE, batch, 0.2, mean, cov, affine.speckle(SIDE**2, 0.2))
    follows(noise.IMPULSE, batch, 0.3, mean, cov, affine.impulse(SIDE**2, 0.3))


def test_brightness_window_and_inversion():
    batch, mean, cov = images(lift=0.45)
    follows(v.CATALOGUE["brightness"], batch, 0.08, mean, cov, affine.brightness(0.08))
    follows(v.CATALOGUE["window"], batch, 0.08, mean, cov, affine.window(0.08))
    follows(v.CATALOGUE["inversion"], batch, 0.3, mean, cov, affine.inversion(0.3))


@pytest.mark.exhaustive
def test_masks_and_gains_of_known_chance():
    """Every draw there is, or a fine grid of them: edges of a view, signs of a gain, places of a square and of bands."""
    batch, mean, cov = images(lift=0.2)
    signs = jnp.asarray(list(itertools.product((-1.0, 1.0), repeat=2)))
    places = (np.arange(100) + 0.5) / 50 - 1
    bands = 0.9 * ((np.arange(30) + 0.5) / 15 - 1)
    for name, severity, drawn in (
        ("field_of_view", 0.3, {"sign": signs}),
        ("depth_gain", 0.8, {"sign": jnp.asarray([-1.0, 1.0])}),
        ("occlusion", 0.45, {"u": jnp.asarray(list(itertools.product(places, repeat=2)))}),
        ("dropout", 0.6, {"u": jnp.asarray(list(itertools.product(bands, repeat=3)))}),
    ):
        law, grey = v.CATALOGUE[name], jnp.full((SIDE, SIDE, 1), 0.2)
        left = jax.vmap(lambda one, law=law, grey=grey, x=severity: law.law(one, grey, jnp.asarray(x)))(drawn)
        factors = left.reshape(-1, SIDE**2) / 0.2
        follows(law, batch, severity, mean, cov, affine.of_draws(factors, jnp.zeros_like(factors)))


def test_rician_noise():
    """The mean and variance of every pixel of one image, and the second moment of images that vary."""
    image = jnp.asarray(np.linspace(0, 0.3, SIDE**2))
    batch = jnp.broadcast_to(image.reshape(1, SIDE, SIDE, 1).astype(jnp.float32), (N, SIDE, SIDE, 1))
    once, nothing = affine.rician_mean(image, 0.12), jnp.zeros((SIDE**2, SIDE**2))
    agree(noise.RICIAN, batch, 0.12, once, jnp.diag(affine.rician_power(image, nothing, 0.12) - once**2))
    batch, mean, cov = images(lift=0.1)
    altered = np.asarray(v.alter(jax.random.key(1), noise.RICIAN, batch, jnp.asarray([0.12], jnp.float32)))[0]
    power = altered.reshape(N, -1).astype(float) ** 2
    stated = affine.rician_power(jnp.asarray(mean), jnp.asarray(cov), 0.12)
    assert (np.abs(power.mean(0) - stated) < 4.5 * power.std(0) / N**0.5).all()


def test_mirrored_images_are_two_groups():
    """A share of the images is another linear map of them: moments of the groups together."""
    batch, mean, cov = images()
    order = np.arange(SIDE**2).reshape(SIDE, SIDE)[:, ::-1].ravel()
    groups = theory.Moments(
        jnp.stack([mean, mean[order]])[:, None],
        jnp.stack([cov, cov[order][:, order]])[:, None],
        jnp.asarray([[0.7], [0.3]]),
    )
    both = sampling.pooled(groups)
    agree(v.CATALOGUE["flip"], batch, 0.3, both.mean[0], both.cov[0])


def test_bias_field():
    batch, mean, cov = images()
    basis = np.asarray(_legendre(grid(batch[0]))).reshape(5, -1)
    field = 0.3**2 * basis.T @ basis
    agree(v.BIAS, batch, 0.3, *theory.field_moments(jnp.asarray(mean), jnp.asarray(cov), jnp.asarray(field)))


@pytest.mark.exhaustive
def test_blurs_coarse_pixels_ringing_and_contrast_are_linear_maps():
    """Mean Bμ, covariance BΣBᵀ; the matrix is the slope of the law at a grey image."""
    batch, mean, cov = images(lift=0.4)
    grey = jnp.full(SIDE**2, 0.4)
    for name, severity in (
        ("blur", 0.1),
        ("down_sampling", 1.0),
        ("pixelate", 2.0),
        ("defocus", 0.2),
        ("zoom_blur", 0.4),
        ("gibbs", 0.5),
        ("contrast_down", 0.5),
        ("brightness_down", 0.5),
    ):
        law = v.CATALOGUE[name]
        shape = (SIDE, SIDE, 1)
        slope = jax.jacfwd(lambda x, law=law, s=severity, at=shape: law.law({}, x.reshape(at), jnp.asarray(s)).ravel())
        agree(law, batch, severity, *affine.linear_moments(jnp.asarray(mean), jnp.asarray(cov), slope(grey)))


def test_shot_noise():
    batch, mean, cov = images(lift=0.2)
    agree(noise.SHOT, batch, 0.1, *affine.shot_moments(jnp.asarray(mean), jnp.asarray(cov), 0.1))


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
