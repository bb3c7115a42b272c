"""AUC, TPR and FPR of a Gaussian score, and the AUC of mixtures.

Statement    AUC = Φ((m₁ − m₀)/√(v₁ + v₀));  TPR = Φ((m₁ − t)/√v₁), FPR the same with m₀, v₀;  for mixtures the AUC is the
             sum over pairs of components, weighted by their probabilities.  The probit forecast Φ((s − c)/τ) has the class
             mean Φ((m − c)/√(τ² + v)), which gives the calibration in the large.  A logistic forecast that is right at the
             source has, under a shift, the calibration slope (Δ'/v')/(Δ/v); its expected calibration error is an integral.
Assumptions  Scores of cases and controls are independent and Gaussian, or mixtures of Gaussians.
Limit        Equal means give AUC ½; a threshold far below both means gives TPR = FPR = 1.
Source       Green & Swets 1966 (binormal ROC).
"""

import jax.numpy as jnp
import numpy as np
import sympy as sp
from scipy.integrate import quad
from scipy.stats import norm

from rafmodel import symbols as s
from rafmodel import theory


def derive() -> None:
    """The rate from the density; the AUC from the law of the difference of two scores."""
    x = sp.Symbol("x", real=True)
    density = sp.exp(-((x - s.m_1) ** 2) / (2 * s.v_1)) / sp.sqrt(2 * sp.pi * s.v_1)
    above = sp.integrate(density, (x, s.t, sp.oo))
    assert sp.simplify(above - s.RATE.rhs.rewrite(sp.erf)) == 0
    # the difference of independent Gaussian scores is Gaussian: its cumulants add (even ones) or subtract (odd ones)
    z = sp.Symbol("z", real=True)
    case = sp.I * s.m_1 * z - s.v_1 * z**2 / 2
    control = sp.I * s.m_0 * z - s.v_0 * z**2 / 2
    log_difference = sp.expand(case + control.subs(z, -z))
    mean, variance = log_difference.coeff(z, 1) / sp.I, -2 * log_difference.coeff(z, 2)
    difference = sp.exp(-((x - mean) ** 2) / (2 * variance)) / sp.sqrt(2 * sp.pi * variance)
    positive = sp.integrate(difference, (x, 0, sp.oo))
    assert sp.simplify(positive - s.AUC.rhs.rewrite(sp.erf)) == 0
    assert s.AUC.rhs.subs(s.m_1, s.m_0).rewrite(sp.erf) == sp.Rational(1, 2)
    assert sp.limit(s.RATE.rhs.rewrite(sp.erf), s.t, -sp.oo) == 1


def forecasts() -> None:
    """Balanced accuracy from its two rates; a probit forecast is the chance that s − τz exceeds c, z standard normal."""
    tpr = s.RATE.rhs
    fpr = tpr.subs({s.m_1: s.m_0, s.v_1: s.v_0}, simultaneous=True)
    both = ((tpr + 1 - fpr) / 2 - s.BALANCED_ACCURACY.rhs).rewrite(sp.erf)
    assert sp.simplify(both) == 0
    # s − τz − c is Gaussian with mean m − c and variance v + τ²
    at_zero = tpr.subs({s.v_1: s.v_1 + s.tau_c**2, s.t: s.c}, simultaneous=True)
    assert sp.simplify((at_zero - s.MEAN_FORECAST.rhs).rewrite(sp.erf)) == 0
    mean, var, centre, scale = 0.8, 1.7, 0.3, 0.6
    drawn = quad(lambda x: norm.cdf((x - centre) / scale) * norm.pdf(x, mean, var**0.5), -12, 14)[0]
    closed = s.function(s.MEAN_FORECAST, [s.m_1, s.v_1, s.c, s.tau_c])(mean, var, centre, scale)
    assert abs(drawn - float(closed)) < 1e-6


def calibration() -> None:
    """Log-odds of a case given its score are linear with slope Δ/v; under a shift the truth has slope Δ'/v' instead."""
    x, prior = sp.Symbol("x", real=True), sp.Symbol("o", positive=True)
    gap, var = s.Delta, s.v_1
    log_odds = sp.log(prior) + ((x + gap / 2) ** 2 - (x - gap / 2) ** 2) / (2 * var)
    slope = sp.diff(log_odds, x)
    assert sp.simplify(slope - gap / var) == 0
    shifted = slope.subs({gap: s.Delta_d, var: s.v_d})
    assert sp.simplify(shifted / slope.subs(var, s.v) - s.CALIBRATION_SLOPE.rhs) == 0
    # expected calibration error, against drawn scores in bins
    rng = np.random.default_rng(6)
    n, mean, variance, prevalence, forecast = 2_000_000, np.array([-0.4, 0.9]), np.array([1.0, 1.6]), 0.3, (-0.6, 2.5)
    case = rng.random(n) < prevalence
    score = mean[case.astype(int)] + variance[case.astype(int)] ** 0.5 * rng.normal(size=n)
    called = 1 / (1 + np.exp(-(forecast[0] + forecast[1] * score)))
    which = np.digitize(score, np.linspace(-5, 6, 221))
    apart = np.bincount(which, called - case) / n
    drawn = np.abs(apart).sum()
    closed = theory.calibration_error(jnp.asarray(mean), jnp.asarray(variance), prevalence, jnp.asarray(forecast))
    assert abs(drawn - float(closed)) < 0.003  # chance within bins adds, their width hides
    right = theory.calibration_error(jnp.array([-0.5, 0.5]), jnp.ones(2), 0.5, jnp.array([0.0, 1.0]))
    assert float(right) < 1e-6


def by_quadrature() -> None:
    """The area under the curve (FPR, TPR) itself, and under that of a shortcut: an artifact in most cases."""
    m1, m0, v1, v0 = 1.3, 0.2, 2.0, 0.5
    area = quad(lambda t: norm.sf(t, m1, v1**0.5) * norm.pdf(t, m0, v0**0.5), -12, 12)[0]
    assert abs(area - norm.cdf((m1 - m0) / (v1 + v0) ** 0.5)) < 1e-9
    p, mean, var = (
        np.array([[0.9, 0.1], [0.2, 0.8]]),
        np.array([[0.0, 3.0], [0.5, 3.5]]),
        np.array([[1.0, 2.0], [1.5, 0.7]]),
    )
    density = lambda t: p[0] @ norm.pdf(t, mean[0], var[0] ** 0.5)  # noqa: E731
    beyond = lambda t: p[1] @ norm.sf(t, mean[1], var[1] ** 0.5)  # noqa: E731
    area = quad(lambda t: beyond(t) * density(t), -12, 16)[0]
    pairs = s.function(s.AUC_MIXTURE.subs(s.k, 2).doit(), [s.P, s.component_mean, s.component_variance])
    assert abs(area - float(pairs(p, mean, var))) < 1e-5  # the function may run in single precision


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    derive()
    forecasts()
    calibration()
    by_quadrature()


if __name__ == "__main__":
    check()
    print("d01: AUC, TPR and FPR of Gaussian scores and of mixtures hold")
