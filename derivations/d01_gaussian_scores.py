"""AUC, TPR, FPR, balanced accuracy and calibration of Gaussian scores and of mixtures of them.

Statement    AUC = Φ((m₁ − m₀)/√(v₁ + v₀));  TPR = Φ((m₁ − t)/√v₁), FPR the same with m₀, v₀.  For mixtures the rates are sums
             over components weighted by their probabilities, balanced accuracy with them, and the AUC is the sum over pairs
             of components: an artifact is a second component, and a shortcut where cases carry it more often.  The probit
             forecast Φ((s − c)/τ) has the class mean Φ((m − c)/√(τ² + v)), which gives the calibration in the large.  A
             logistic forecast that is right at the source has, under a shift, the calibration slope (Δ'/v')/(Δ/v).  The
             expected calibration error of any forecast r(s) is ∫ |r f − q f₁| ds with f = q f₁ + (1−q) f₀, mixtures included.
Assumptions  Scores of cases and controls are independent and Gaussian, or mixtures of Gaussians.  For the calibration slope:
             Gaussian with one variance for both classes, before the shift and after it.
Limit        Equal means give AUC ½; a threshold far below both means gives TPR = FPR = 1; a forecast that is right has no
             calibration error.
Source       Green & Swets 1966 (binormal ROC).
"""

import jax.numpy as jnp
import numpy as np
import sympy as sp
from scipy.integrate import quad
from scipy.stats import norm

from rafmodel import calibration as forecast_of
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
    closed = forecast_of.calibration_error(jnp.asarray(mean), jnp.asarray(variance), prevalence, jnp.asarray(forecast))
    assert abs(drawn - float(closed)) < 0.003  # chance within bins adds, their width hides
    right = forecast_of.calibration_error(jnp.array([-0.5, 0.5]), jnp.ones(2), 0.5, jnp.array([0.0, 1.0]))
    assert float(right) < 1e-6


def mixtures() -> None:
    """Rates and AUC of two components a class, from the densities and from the law of the difference of two scores."""
    size = 2
    x, z = sp.symbols("x z", real=True)
    part = lambda y, i: (s.P[y, i], s.component_mean[y, i], s.component_variance[y, i])  # noqa: E731
    bell = lambda mean, var: sp.exp(-((x - mean) ** 2) / (2 * var)) / sp.sqrt(2 * sp.pi * var)  # noqa: E731
    weighted = lambda y: sum(p * bell(mean, var) for p, mean, var in (part(y, i) for i in range(size)))  # noqa: E731
    above = s.RATE_MIXTURE.rhs.subs(s.k, size).doit()
    assert sp.simplify(sp.diff(above, s.t) + weighted(1).subs(x, s.t)) == 0  # its slope is minus the density,
    far = above.rewrite(sp.erf).subs({s.component_mean[1, i]: 0 for i in range(size)})
    assert sp.limit(far, s.t, sp.oo) == 0  # and it ends at 0
    below = 1 - above.subs({s.P[1, 1]: 1 - s.P[1, 0]}).subs(  # controls: the same with 1 − FPR
        {base[1, i]: base[0, i] for base in (s.P, s.component_mean, s.component_variance) for i in range(size)}
    )
    both = s.BALANCED_MIXTURE.rhs.subs(s.k, size).doit().subs({s.P[0, 1]: 1 - s.P[0, 0]})
    assert sp.simplify((both - (above + below) / 2).rewrite(sp.erf)) == 0
    # E e^(izS) of a difference: the product of two sums is the sum over pairs, each as of two Gaussian scores
    wave = lambda p, mean, var, sign: p * sp.exp(sp.I * sign * mean * z - var * z**2 / 2)  # noqa: E731
    product = sp.prod([sum(wave(*part(y, i), sign) for i in range(size)) for y, sign in ((1, 1), (0, -1))])
    pairs = 0
    stated = sp.expand(s.AUC_MIXTURE.rhs.subs(s.k, size).doit())
    for i in range(size):
        for j in range(size):
            (p, m1, v1), (r, m0, v0) = part(1, i), part(0, j)
            pairs += wave(p * r, m1 - m0, v1 + v0, 1)
            area = s.AUC.rhs.subs({s.m_1: m1, s.m_0: m0, s.v_1: v1, s.v_0: v0}, simultaneous=True)
            assert sp.simplify(stated.coeff(p * r) - area) == 0
    assert sp.simplify(sp.expand(product) - sp.expand(pairs)) == 0
    # |r f − q f₁| is |r − P(1|s)| times the density of s
    chance, density = s.q * weighted(1), s.q * weighted(1) + (1 - s.q) * weighted(0)
    called = 1 / (1 + sp.exp(-s.b_0 - s.b_1 * s.score))
    inside = s.CALIBRATION_ERROR.rhs.function.args[0].subs(s.k, size).doit()
    given = sp.Symbol("r", positive=True)  # the forecast
    inside, apart = inside.subs(called, given), (given * density - chance).subs(x, s.score)
    assert 0 in (sp.expand(inside - apart), sp.expand(inside + apart))  # under | |, either sign
    odds = sp.log(s.q / (1 - s.q)) - s.Delta * (s.m_0 + s.Delta / 2) / s.v
    right = {s.b_0: odds, s.b_1: s.Delta / s.v, s.component_mean[0, 0]: s.m_0, s.component_mean[1, 0]: s.m_0 + s.Delta}
    right |= {s.component_variance[y, 0]: s.v for y in (0, 1)} | {s.P[y, 0]: 1 for y in (0, 1)}
    assert sp.simplify(s.CALIBRATION_ERROR.rhs.function.args[0].subs(s.k, 1).doit().subs(right)) == 0


def a_shortcut() -> None:
    """Scores drawn with an artifact in most cases and few controls: rates, balanced accuracy and calibration error."""
    rng = np.random.default_rng(7)
    n, prevalence, at, forecast = 2_000_000, 0.3, 0.8, (-0.8, 0.9)
    p = np.array([[0.9, 0.1], [0.4, 0.6]])
    mean, variance = np.array([[0.0, 2.0], [1.0, 3.0]]), np.array([[1.0, 2.25], [1.0, 2.25]])
    case = (rng.random(n) < prevalence).astype(int)
    carries = (rng.random(n) < p[case, 1]).astype(int)
    score = mean[case, carries] + variance[case, carries] ** 0.5 * rng.normal(size=n)
    arrays = tuple(map(jnp.asarray, (p, mean, variance)))
    rates = [float(theory.rate_mixture(*(each[y] for each in arrays), at)) for y in (0, 1)]
    drawn = [(score[case == y] > at).mean() for y in (0, 1)]
    assert np.abs(np.subtract(rates, drawn)).max() < 4 * 0.5 / (prevalence * n) ** 0.5
    found = s.function(s.BALANCED_MIXTURE.rhs.subs(s.k, 2).doit(), [s.P, s.component_mean, s.component_variance, s.t])
    assert abs(float(found(p, mean, variance, at)) - (drawn[1] + 1 - drawn[0]) / 2) < 0.002
    called = 1 / (1 + np.exp(-(forecast[0] + forecast[1] * score)))
    apart = np.bincount(np.digitize(score, np.linspace(-5, 9, 281)), called - case) / n
    stated = forecast_of.calibration_error(*arrays[1:], prevalence, jnp.asarray(forecast), arrays[0])
    assert abs(np.abs(apart).sum() - float(stated)) < 0.003
    plain = forecast_of.calibration_error(arrays[1][:, 0], arrays[2][:, 0], prevalence, jnp.asarray(forecast))
    assert float(stated) > float(plain) + 0.02  # the artifact spoils the forecast


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
    mixtures()
    a_shortcut()
    by_quadrature()


if __name__ == "__main__":
    check()
    print("d01: AUC, rates and calibration of Gaussian scores and of mixtures hold")
