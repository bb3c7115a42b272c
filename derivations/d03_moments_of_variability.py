"""First two moments of an image under contrast, a smooth field, orientation, blur, noise and an artifact.

Statement    The equations contrast-*, field-*, rotation, blur, noise and artifact-* of ``symbols``.
Assumptions  One draw per image, independent of the image; gain and field log-normal, angle wrapped normal; no clipping to
             the display range (clipping makes all of them approximate, and intensity-dependent).
Limit        Severity 0 changes nothing.  The first order of the field has an error of second order in its covariance.
"""

import numpy as np
import sympy as sp

from rafmodel import symbols as s

z = sp.Symbol("z", real=True)


def normal_mean(value: sp.Expr) -> sp.Expr:
    """Expectation over a standard normal z, by integration."""
    return sp.simplify(sp.integrate(value * sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi), (z, -sp.oo, sp.oo), conds="none"))


def contrast() -> None:
    """Gain exp(σz): moments of the product of independent factors."""
    first, second = normal_mean(sp.exp(s.sigma * z)), normal_mean(sp.exp(2 * s.sigma * z))
    mean = s.mu_i * first
    covariance = second * (s.Sigma_ij + s.mu_i * s.mu_j) - first**2 * s.mu_i * s.mu_j
    assert sp.simplify(mean - s.CONTRAST_MEAN.rhs) == 0
    assert sp.simplify(sp.expand(covariance - s.CONTRAST_COVARIANCE.rhs)) == 0
    assert s.CONTRAST_COVARIANCE.rhs.subs(s.sigma, 0) == s.Sigma_ij


def field() -> None:
    """exp(b_i) with b ~ N(0, Γ): E exp(b_i + b_j) = exp((Γ_ii + Γ_jj)/2 + Γ_ij); then the first order and its error."""
    width = sp.Symbol("v", positive=True)  # variance of a Gaussian exponent
    lift = normal_mean(sp.exp(sp.sqrt(width) * z))
    one, other = lift.subs(width, s.Gamma_ii), lift.subs(width, s.Gamma_jj)
    both = lift.subs(width, s.Gamma_ii + s.Gamma_jj + 2 * s.Gamma_ij)
    assert sp.simplify(s.mu_i * one - s.FIELD_MEAN.rhs) == 0
    covariance = both * (s.Sigma_ij + s.mu_i * s.mu_j) - one * other * s.mu_i * s.mu_j
    assert sp.simplify(sp.expand(covariance - s.FIELD_COVARIANCE.rhs)) == 0
    e = sp.Symbol("epsilon", positive=True)
    small = {g: e * g for g in (s.Gamma_ii, s.Gamma_jj, s.Gamma_ij)}
    error = (s.FIELD_COVARIANCE.rhs - s.FIELD_FIRST_ORDER.rhs).subs(small, simultaneous=True)
    assert sp.simplify(sp.series(error, e, 0, 2).removeO()) == 0
    assert sp.simplify(sp.limit(error / e**2, e, 0)) != 0


def orientation_and_blur() -> None:
    """E exp(i m σ z) for a turned harmonic; the Fourier transform of a Gaussian kernel for a blurred wave."""
    turned = normal_mean(sp.cos(s.m * s.sigma * z)) + sp.I * normal_mean(sp.sin(s.m * s.sigma * z))
    assert sp.simplify(turned - s.ROTATION_DECAY.rhs) == 0
    assert s.ROTATION_DECAY.rhs.subs(s.m, 0) == 1  # what does not depend on the angle is not forgotten
    blurred = normal_mean(sp.cos(s.omega * s.sigma * z))
    assert sp.simplify(blurred - s.BLUR_DECAY.rhs) == 0


def artifact() -> None:
    """An offset a with spread K that is present with probability p: the law of total covariance."""
    present = s.Sigma_ij + s.K_ij + (s.mu_i + s.a_i) * (s.mu_j + s.a_j)
    assert sp.expand(s.p * (s.mu_i + s.a_i) + (1 - s.p) * s.mu_i - s.ARTIFACT_MEAN.rhs) == 0
    absent = s.Sigma_ij + s.mu_i * s.mu_j
    mean_j = s.ARTIFACT_MEAN.rhs.subs({s.mu_i: s.mu_j, s.a_i: s.a_j}, simultaneous=True)
    covariance = s.p * present + (1 - s.p) * absent - s.ARTIFACT_MEAN.rhs * mean_j
    assert sp.simplify(sp.expand(covariance - s.ARTIFACT_COVARIANCE.rhs)) == 0


def by_simulation() -> None:
    """A strong gain with noise, a strong field, a strong artifact on drawn images."""
    rng = np.random.default_rng(1)
    n, sigma, mu = 400_000, 0.6, np.array([1.0, -2.0])
    cov = np.array([[1.0, 0.6], [0.6, 2.0]])
    x = rng.multivariate_normal(mu, cov, n)
    gained = x * np.exp(sigma * rng.normal(size=(n, 1))) + 0.5 * rng.normal(size=x.shape)
    g = np.exp(sigma**2)
    expected = g**2 * cov + g * (g - 1) * np.outer(mu, mu) + 0.25 * np.eye(2)
    agree(gained, mu * g**0.5, expected)
    log_field = np.array([[0.25, 0.1], [0.1, 0.16]])
    lift = np.exp(np.diag(log_field) / 2)
    expected = np.outer(lift, lift) * (np.exp(log_field) * cov + (np.exp(log_field) - 1) * np.outer(mu, mu))
    agree(x * np.exp(rng.multivariate_normal(np.zeros(2), log_field, n)), mu * lift, expected)
    offset, marked = np.array([3.0, 1.0]), rng.random(n) < 0.3
    expected = cov + 0.3 * np.diag([0.5, 2.0]) + 0.3 * 0.7 * np.outer(offset, offset)
    artifact = offset + rng.normal(size=(n, 2)) * np.array([0.5, 2.0]) ** 0.5
    agree(x + marked[:, None] * artifact, mu + 0.3 * offset, expected)


def agree(drawn: np.ndarray, mean: np.ndarray, cov: np.ndarray) -> None:
    """Moments of drawn images (n, d) within four standard errors of the expected ones."""
    apart = drawn - drawn.mean(0)
    products = apart[:, :, None] * apart[:, None, :]
    assert (np.abs(products.mean(0) - cov) < 4 * products.std(0) / len(drawn) ** 0.5).all()
    assert (np.abs(drawn.mean(0) - mean) < 4 * drawn.std(0) / len(drawn) ** 0.5).all()


def turning_an_image() -> None:
    """A two-lobed image on a ring turned by drawn angles: order m of the mean decays, its power does not."""
    rng, sigma, n = np.random.default_rng(4), 0.5, 20_000
    theta = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    angle = sigma * rng.normal(size=(n, 1))
    ring = np.exp(2 * np.cos(theta - angle) + np.cos(3 * (theta - angle)))
    found, start = np.fft.fft(ring, axis=1), np.fft.fft(np.exp(2 * np.cos(theta) + np.cos(3 * theta)))
    for order in (1, 2, 4):
        ratio = (found[:, order] / start[order]).real
        assert abs(ratio.mean() - np.exp(-(order**2) * sigma**2 / 2)) < 4 * ratio.std() / n**0.5
        assert np.allclose(np.abs(found[:, order]), np.abs(start[order]), rtol=1e-6)


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    contrast()
    field()
    orientation_and_blur()
    artifact()
    by_simulation()
    turning_an_image()


if __name__ == "__main__":
    check()
    print("d03: moments under contrast, field, orientation, blur, noise and artifact hold")
