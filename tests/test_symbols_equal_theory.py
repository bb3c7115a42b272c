"""Each closed form, stated in sympy, equals the function that computes it, in value and slope, at random points."""

import ast
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ive
from scipy.stats import poisson

from rafmodel import affine, calibration, learning, sampling, theory, unequal
from rafmodel import symbols as s
from rafmodel.equations import EQUATIONS
from rafmodel.errors import InputError
from rafmodel.metrics import raf
from rafmodel.typeset import typst

RNG = np.random.default_rng(0)
POINTS = RNG.uniform(0.3, 2.0, (5, 8))

SCALAR = {
    "auc": (s.AUC, [s.m_1, s.m_0, s.v_1, s.v_0], lambda a, b, c, d: theory.auc(a - b, c, d)),
    "rate": (s.RATE, [s.m_1, s.v_1, s.t], theory.rate),
    "dice": (s.DICE, [s.q, s.TPR, s.FPR], theory.dice),
    "gain": (s.GAIN, [s.between, s.view], theory.gain),
    "rotation": (s.ROTATION_DECAY, [s.m, s.sigma], theory.rotation_decay),
    "blur": (s.BLUR_DECAY, [s.omega, s.sigma], theory.blur_decay),
    "rotation-3d": (s.TURNING_DECAY.subs(s.degree, 3).doit(), [s.sigma], lambda sd: theory.rotation_decay_3d(3, sd)),
    "down-sampling": (s.SAMPLING_DECAY, [s.omega, s.factor], theory.sampling_decay),
    "calibration-slope": (s.CALIBRATION_SLOPE, [s.Delta, s.v, s.Delta_d, s.v_d], calibration.calibration_slope),
    "resampled": (s.RESAMPLED, [s.n, s.drawn], unequal.resampled_size),
    "repeats-few": (s.REPEATS_FEW, [s.again], lambda r: unequal.repeats(r)[0][0]),
    "repeats-many": (s.REPEATS_MANY, [s.again], lambda r: unequal.repeats(r)[0][1]),
    "repeats": (s.REPEATS, [s.again], lambda r: unequal.repeats(r)[1][1]),
    "imbalance-tpr": (s.IMBALANCE_TPR, [s.Delta, s.d, s.n_1, s.n_0], lambda g, *a: theory.imbalance_rates(g**2, *a)[0]),
    "imbalance-fpr": (s.IMBALANCE_FPR, [s.Delta, s.d, s.n_1, s.n_0], lambda g, *a: theory.imbalance_rates(g**2, *a)[1]),
    "imbalance-auc": (s.IMBALANCE_AUC, [s.Delta, s.d, s.n_1, s.n_0], lambda g, *a: theory.imbalance_rates(g**2, *a)[2]),
    "contrast-mean": (
        s.CONTRAST_MEAN,
        [s.mu_i, s.sigma],
        lambda mu, sd: theory.contrast_moments(jnp.stack([mu]), jnp.eye(1), sd)[0][0],
    ),
    "contrast-covariance": (
        s.CONTRAST_COVARIANCE,
        [s.mu_i, s.mu_j, s.Sigma_ij, s.sigma],
        lambda a, b, c, sd: theory.contrast_moments(jnp.stack([a, b]), _square(9.0, c, 9.0), sd)[1][0, 1],
    ),
    "field-mean": (
        s.FIELD_MEAN,
        [s.mu_i, s.Gamma_ii],
        lambda mu, g: theory.field_moments(jnp.stack([mu]), jnp.eye(1), jnp.reshape(g, (1, 1)))[0][0],
    ),
    "field-covariance": (
        s.FIELD_COVARIANCE,
        [s.mu_i, s.mu_j, s.Sigma_ij, s.Gamma_ii, s.Gamma_ij, s.Gamma_jj],
        lambda a, b, c, *g: theory.field_moments(jnp.stack([a, b]), _square(9.0, c, 9.0), _square(*g))[1][0, 1],
    ),
    "noise": (
        s.NOISE_COVARIANCE.subs(s.Kronecker_ij, 1),
        [s.Sigma_ij, s.sigma],
        lambda c, sd: theory.noise_moments(jnp.zeros(1), jnp.reshape(c, (1, 1)), sd)[1][0, 0],
    ),
    "artifact-mean": (
        s.ARTIFACT_MEAN,
        [s.mu_i, s.p, s.a_i],
        lambda mu, p, a: theory.artifact_moments(jnp.stack([mu]), jnp.eye(1), p, jnp.stack([a]), jnp.eye(1))[0][0],
    ),
    "artifact-covariance": (
        s.ARTIFACT_COVARIANCE,
        [s.Sigma_ij, s.p, s.K_ij, s.a_i, s.a_j],
        lambda c, p, k, a, b: theory.artifact_moments(
            jnp.ones(2), _square(9.0, c, 9.0), p, jnp.stack([a, b]), _square(9.0, k, 9.0)
        )[1][0, 1],
    ),
    "operator": (
        s.OPERATOR,
        [s.C_uu, s.C_uv, s.C_vv],
        lambda a, b, c: theory.operator(*(jnp.reshape(v, (1, 1)) for v in (a, b, c)), ridge=0.0)[0][0],
    ),
    "predictor": (
        s.PREDICTOR,
        [s.C_uv, s.C_uu],
        lambda b, a: theory.predictor(jnp.reshape(a, (1, 1)), jnp.reshape(b, (1, 1)), ridge=0.0)[0, 0],
    ),
    "touched": (s.TOUCHED, [s.lesion, s.patch], sampling.touched),
    "diluted": (
        s.DILUTED.subs(s.patch, s.patch + s.lesion),
        [s.Delta, s.lesion, s.patch],
        lambda gap, lesion, more: sampling.diluted(gap, lesion, lesion + more),
    ),
    "auc-wrong-labels": (
        s.AUC_WRONG_LABELS.subs({s.alpha: s.IMPURE_CASES.rhs, s.beta: s.IMPURE_CONTROLS.rhs}).subs(s.pi, s.pi / 3),
        [s.A, s.pi, s.e_1, s.e_0],
        lambda area, prevalence, *errors: sampling.auc_wrong_labels(area, prevalence / 3, *errors),
    ),
    "dice-jitter": (s.DICE_JITTER, [s.area, s.perimeter, s.sigma], sampling.dice_jitter),
    "bayes-threshold": (
        s.BAYES_THRESHOLD.subs(s.pi, s.pi / 3),
        [s.Delta, s.v, s.pi],
        lambda gap, var, pi: sampling.bayes_threshold(gap, var, pi / 3),
    ),
    "prevalence-gap": (
        s.PREVALENCE_GAP.subs({s.pi_1: s.pi_1 / 3, s.pi_0: s.pi_0 / 3}),
        [s.Delta, s.pi_0, s.pi_1],
        lambda gap, *pi: sampling.prevalence_gap(gap, jnp.stack(pi) / 3),
    ),
    "any-fpr": (s.ANY_FPR.subs(s.n, 3), [s.f], lambda fpr: sampling.any_patch(jnp.ones(4) / 4, 0.5, fpr)[1]),
    "balanced-accuracy": (
        s.BALANCED_ACCURACY,
        [s.m_1, s.v_1, s.m_0, s.v_0, s.t],
        lambda m1, v1, m0, v0, t: theory.balanced_accuracy(theory.rate(m1, v1, t), theory.rate(m0, v0, t)),
    ),
    "mean-forecast": (s.MEAN_FORECAST, [s.m_1, s.v_1, s.c, s.tau_c], calibration.mean_forecast),
    "turning": (
        s.TURNING.subs(s.m, 3),
        [s.mean_power, s.power],
        lambda mean, power: learning.kept_by_turning(3, mean**2, power),
    ),
    "place": (s.PLACE, [s.between, s.within], learning.kept_by_place),
    "context": (
        s.CONTEXT.subs(s.overlap, s.overlap / 3),
        [s.between, s.within, s.k, s.overlap],
        lambda shared, own, n, overlap: learning.kept_of_context(shared, own, n, overlap / 3),
    ),
    "barlow-alone": (s.BARLOW_ALONE, [s.rho_1, s.k, s.lam], learning.barlow_alone),
    "vicreg-alone": (s.VICREG_ALONE, [s.rho_1, s.k, s.output_sd, s.agreed, s.covaried], learning.vicreg_alone),
    "view-limit": (s.VIEW_LIMIT, [s.ell_1, s.ell_2, s.added, s.lam], learning.best_gain),
    "time-half": (
        s.HALF_TIME.subs(s.w_end, s.w_end + 2 * s.w_start),
        [s.w_end, s.w_start],
        lambda more, start: learning.half_time(more + 2 * start, start),
    ),
    "time-shallow": (s.TIME_SHALLOW, [s.w_end, s.ell_, s.tau], learning.learned_shallow),
    "time-deep": (s.TIME_DEEP, [s.w_end, s.w_start, s.tau], learning.learned_deep),
    "flipped": (s.FLIPPED, [s.ahead, s.sigma], sampling.flipped),
    "flipped-bound": (s.FLIPPED_BOUND, [s.ahead, s.sigma], sampling.flipped_bound),
    "stn-residual": (s.STN_RESIDUAL, [s.m, s.sigma], learning.stn_residual),
    "subgroup-tpr": (s.SUBGROUP_TPR.subs(s.place, 1), "subgroup", lambda *a: _subgroup(*a)[0][1]),
    "subgroup-fpr": (s.SUBGROUP_FPR.subs(s.place, 0), "subgroup", lambda *a: _subgroup(*a)[1][0]),
}
SUBGROUP = [s.Delta, s.d, s.n_1, s.n_0, s.c_1, s.c_0, s.s_g]


def test_no_name_is_stated_twice():
    """A second symbol of a name would take the place of the first in every equation stated later, and in none before."""
    names = [
        name.id
        for node in ast.parse(Path(s.__file__).read_text()).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        for name in ast.walk(target)
        if isinstance(name, ast.Name) and not name.id.startswith("_")
    ]
    assert len(names) > 150
    assert len(names) == len(set(names))


def _subgroup(gap, d, n_case, n_control, case, control, distance):
    cases, controls = (jnp.stack([n * (1 - c), n * c]) for n, c in ((n_case, case), (n_control, control)))
    return sampling.subgroup_rates(gap**2, d, cases, controls, distance**2)


def _square(a, b, c):
    return jnp.stack([jnp.stack([jnp.asarray(a), b]), jnp.stack([b, jnp.asarray(c)])])


@pytest.mark.parametrize("name", SCALAR)
def test_value_and_slope(name):
    expression, symbols, ours = SCALAR[name]
    symbols = SUBGROUP if symbols == "subgroup" else symbols
    stated = s.function(expression, symbols)
    for point in POINTS:
        arguments = tuple(jnp.asarray(v) for v in point[: len(symbols)])
        np.testing.assert_allclose(ours(*arguments), stated(*arguments), rtol=1e-10)
        every = tuple(range(len(symbols)))
        np.testing.assert_allclose(
            jax.jit(jax.grad(ours, every))(*arguments), jax.grad(stated, every)(*arguments), rtol=1e-8, atol=1e-12
        )


PIXELS = {
    "affine": (s.AFFINE_MEAN, s.AFFINE_COVARIANCE, affine.affine_moments),
    "speckle": (s.mu_i, s.SPECKLE_COVARIANCE, affine.speckle),
    "impulse": (s.IMPULSE_MEAN, s.IMPULSE_COVARIANCE, affine.impulse),
    "inversion": (s.INVERSION_MEAN, s.INVERSION_COVARIANCE, lambda d, share: affine.inversion(share)),
    "brightness": (s.mu_i, s.BRIGHTNESS_COVARIANCE, lambda d, sd: affine.brightness(sd)),
    "window": (s.WINDOW_MEAN, s.WINDOW_COVARIANCE, lambda d, sd: affine.window(sd)),
    "shot": (s.mu_i, s.SHOT_COVARIANCE, None),
}


@pytest.mark.parametrize("name", PIXELS)
def test_moments_of_pixels(name):
    """Two pixels with themselves and with each other, in value and slope in the severity."""
    stated_mean, stated_cov, ours = PIXELS[name]
    root = RNG.normal(size=(2, 2))
    mean, cov, severity = RNG.uniform(0.2, 0.8, 2), root @ root.T, 0.37
    general = affine.Affine(*RNG.normal(size=(2, 2)), *RNG.normal(size=(3, 2, 2)))
    general = general._replace(factors=general.factors + general.factors.T, offsets=general.offsets + general.offsets.T)
    symbols = [s.mu_i, s.mu_j, s.Sigma_ij, s.Kronecker_ij, s.sigma, s.p]
    symbols += [s.f_i, s.f_j, s.b_i, s.b_j, s.F_ij, s.X_ij, s.X_ji, s.B_ij]
    mean_of, cov_of = s.function(stated_mean, symbols), s.function(stated_cov, symbols)

    def found(severity):
        if name == "shot":
            return affine.shot_moments(jnp.asarray(mean), jnp.asarray(cov), severity)
        law = general if name == "affine" else ours(2, severity)
        return affine.affine_moments(jnp.asarray(mean), jnp.asarray(cov), law)

    values, slopes = found(severity), jax.jacfwd(found)(severity)
    f, b, ff, fb, bb = general
    for i, j in ((0, 0), (0, 1), (1, 1)):

        def at(severity, i=i, j=j):
            moments = (f[i], f[j], b[i], b[j], ff[i, j], fb[i, j], fb[j, i], bb[i, j])
            return mean[i], mean[j], cov[i, j], float(i == j), severity, severity, *moments

        assert float(values[0][i]) == pytest.approx(float(mean_of(*at(severity))), rel=1e-10)
        assert float(values[1][i, j]) == pytest.approx(float(cov_of(*at(severity))), rel=1e-10)
        slope = float(jax.grad(lambda x, at=at: 0.0 * x + cov_of(*at(x)))(severity))
        assert float(slopes[1][i, j]) == pytest.approx(slope, rel=1e-8, abs=1e-12)


def test_magnitudes_and_linear_maps():
    stated = s.function(s.RICIAN_MEAN, [s.intensity, s.sigma])
    for intensity, sigma in ((0.0, 0.3), (0.2, 0.5), (0.9, 0.1)):
        assert float(affine.rician_mean(intensity, sigma)) == pytest.approx(float(stated(intensity, sigma)), rel=1e-9)

        def density(m, x=intensity, s2=sigma**2):
            """The magnitude m times its chance."""
            return m**2 / s2 * np.exp(-((m - x) ** 2) / (2 * s2)) * ive(0, m * x / s2)

        assert float(stated(intensity, sigma)) == pytest.approx(quad(density, 0, intensity + 12 * sigma)[0], rel=1e-6)
    mean, matrix, root = RNG.normal(size=3), RNG.normal(size=(2, 3)), RNG.normal(size=(3, 3))
    cov = root @ root.T
    power = s.function(s.RICIAN_POWER, [s.Sigma_ii, s.mu_i, s.sigma])
    np.testing.assert_allclose(
        affine.rician_power(mean, jnp.asarray(cov), 0.4), power(np.diag(cov), mean, 0.4), rtol=1e-10
    )
    found = affine.linear_moments(*map(jnp.asarray, (mean, cov, matrix)))
    mean_of = s.function(s.LINEAR_MEAN.rhs.subs(s.d, 3).doit(), [s.i, s.mapped, s.mu_of])
    cov_of = s.function(s.LINEAR_COVARIANCE.rhs.subs(s.d, 3).doit(), [s.i, s.j, s.mapped, s.Sigma_of])
    np.testing.assert_allclose(found[0], [float(mean_of(i, matrix, mean)) for i in (0, 1)], rtol=1e-10)
    assert float(found[1][0, 1]) == pytest.approx(float(cov_of(0, 1, matrix, cov)), rel=1e-10)


def test_mixture():
    p, mean, var = RNG.dirichlet([1, 1, 1], 2), RNG.normal(size=(2, 3)), RNG.uniform(0.5, 2, (2, 3))
    stated = s.function(s.AUC_MIXTURE.subs(s.k, 3).doit(), [s.P, s.component_mean, s.component_variance])
    np.testing.assert_allclose(theory.auc_mixture(*map(jnp.asarray, (p, mean, var))), stated(p, mean, var), rtol=1e-10)


def test_rates_of_a_mixture():
    p, mean, var = RNG.dirichlet([1, 1, 1], 2), RNG.normal(size=(2, 3)), RNG.uniform(0.5, 2, (2, 3))
    at = [s.P, s.component_mean, s.component_variance, s.t]
    stated, both = (s.function(e.rhs.subs(s.k, 3).doit(), at) for e in (s.RATE_MIXTURE, s.BALANCED_MIXTURE))
    arrays = tuple(map(jnp.asarray, (p, mean, var)))

    def ours(p, mean, var, threshold):
        return theory.rate_mixture(p[1], mean[1], var[1], threshold)

    for t in (-0.7, 0.4):
        assert float(ours(*arrays, t)) == pytest.approx(float(stated(*arrays, t)), rel=1e-10)
        fpr = theory.rate_mixture(arrays[0][0], arrays[1][0], arrays[2][0], t)
        found = theory.balanced_accuracy(ours(*arrays, t), fpr)
        assert float(found) == pytest.approx(float(both(*arrays, t)), rel=1e-10)
        for one, two in zip(*(jax.grad(f, (0, 1, 2, 3))(*arrays, t) for f in (ours, stated)), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-12)


def test_calibration_error_of_mixtures():
    p, mean, var = RNG.dirichlet([1, 1], 2), RNG.normal(size=(2, 2)), RNG.uniform(0.5, 2, (2, 2))
    inside = s.CALIBRATION_ERROR.rhs.function.subs(s.k, 2).doit()
    at = s.function(inside, [s.score, s.P, s.component_mean, s.component_variance, s.q, s.b_0, s.b_1])
    for forecast in ((-0.3, 1.2), (0.5, -2.0)):
        x = np.linspace(-12, 12, 200_001)
        stated = np.trapezoid(np.asarray(at(x, p, mean, var, 0.3, *forecast)), x)
        found = calibration.calibration_error(
            *map(jnp.asarray, (mean, var)), 0.3, jnp.asarray(forecast), jnp.asarray(p)
        )
        assert float(found) == pytest.approx(stated, abs=5e-6)  # 2,001 points
        alone = calibration.calibration_error(
            jnp.asarray(mean[:, 0]), jnp.asarray(var[:, 0]), 0.3, jnp.asarray(forecast)
        )
        first = np.asarray(at(x, np.eye(2)[[0, 0]], mean, var, 0.3, *forecast))
        assert float(alone) == pytest.approx(np.trapezoid(first, x), abs=5e-6)


def test_mean_dice_of_few_pixels():
    """In value and slope, the slope in the number of pixels by finite differences of the statement."""
    at = [s.q, s.TPR, s.FPR, s.pixels]
    [integral] = s.MEAN_DICE.rhs.atoms(s.sp.Integral)
    inside = s.function(integral.function, [s.x, *at])
    before = s.function(s.MEAN_DICE.rhs / integral, at)

    def stated(*point):
        return float(before(*point)) * quad(lambda x: float(inside(x, *point)), 0, 1, epsabs=1e-13)[0]

    for point in ((0.1, 0.85, 0.05, 50.0), (0.02, 0.4, 0.01, 900.0), (0.6, 0.9, 0.3, 2.0)):
        assert float(sampling.mean_dice(*point)) == pytest.approx(stated(*point), rel=1e-8)
        slope = jax.grad(sampling.mean_dice, (0, 1, 2, 3))(*point)
        for i, found in enumerate(slope):
            ends = [stated(*(v * (1 + e * (i == j)) for j, v in enumerate(point))) for e in (1e-4, -1e-4)]
            assert float(found) == pytest.approx((ends[0] - ends[1]) / (2e-4 * point[i]), rel=1e-4)
    # of many pixels, value and slope are those of the second order, whose own error falls with 1/N²
    second = s.function(s.MEAN_DICE_MANY, at)
    for point in ((0.1, 0.85, 0.05, 1e6), (0.3, 0.4, 0.01, 3e6)):
        assert float(sampling.mean_dice(*point)) == pytest.approx(float(second(*point)), abs=1e-10)
        slopes = (jax.grad(f, (0, 1, 2, 3))(*point) for f in (sampling.mean_dice, second))
        np.testing.assert_allclose(*slopes, rtol=1e-4)
    # a whole array of images, one of them without any structure seen
    many = sampling.mean_dice(jnp.array([0.1, 0.02]), jnp.array([0.85, 0.0]), 0.05, 50)
    np.testing.assert_allclose(many, [stated(0.1, 0.85, 0.05, 50.0), 0], rtol=1e-8)


CHANCE = RNG.dirichlet([1.0] * 6)  # of 0 to 5 carriers among 5 patches


def test_hits():
    stated = s.function(s.HITS, [s.h, s.N, s.K, s.n])
    found = sampling.hits(9, 4, 5)
    np.testing.assert_allclose(found, [stated(h, 9, 4, 5) for h in range(5)] + [0.0], rtol=1e-9)
    assert float(found.sum()) == pytest.approx(1)
    assert float(sampling.hits(6, 4, 5)[0]) == float(sampling.hits(6, 4, 5)[2]) == 0  # two controls cannot fill five
    for wrong in ((5, 6, 2), (5, 2, 6), (5, 2, 0)):
        with pytest.raises(InputError):
            sampling.hits(*wrong)


@pytest.mark.parametrize("gap", [0.4, 1.7, 3.0])
def test_pooled_scores(gap):
    given = {s.n: 5, s.Delta: gap}
    mean = s.function(s.AUC_MEAN.rhs.subs(s.n, 5).doit(), [s.P_h, s.Delta])
    ours = sampling.auc_mean
    assert float(ours(jnp.asarray(CHANCE), gap)) == pytest.approx(float(mean(CHANCE, gap)), rel=1e-9)
    slope, stated = jax.grad(ours, 1)(jnp.asarray(CHANCE), gap), jax.grad(mean, 1)(CHANCE, gap)
    assert float(slope) == pytest.approx(float(stated), rel=1e-8)
    [integral] = s.AUC_MAX.rhs.atoms(s.sp.Integral)
    inside = s.function(integral.function.subs(given), [s.y, s.h])
    each = [quad(lambda y, h=h: float(inside(y, h)), -9, 9)[0] for h in range(6)]
    assert float(sampling.auc_max(jnp.asarray(CHANCE), gap)) == pytest.approx(1 - CHANCE @ each, abs=1e-7)
    tpr = s.function(s.ANY_TPR.rhs.subs(s.n, 5).doit(), [s.P_h, s.r, s.f])
    for at in ((0.8, 0.1), (0.3, 0.25)):
        assert float(sampling.any_patch(jnp.asarray(CHANCE), *at)[0]) == pytest.approx(
            float(tpr(CHANCE, *at)), rel=1e-9
        )


@pytest.mark.parametrize(("gap", "forecast"), [(1.7, (-1.0, 1.2)), (0.6, (-4.0, 2.0))])
def test_noisy_or_is_as_stated(gap, forecast):
    """Waves and their integral by another quadrature; slopes by finite differences of the statement."""
    wave_of = s.function(s.NOISY_OR_WAVE.rhs.function, [s.y, s.wave_time, s.shift, s.b_0, s.b_1])
    [integral] = s.NOISY_OR_AUC.rhs.atoms(s.sp.Integral)
    inside = s.function(integral.function.subs(s.n, 5).doit(), [s.wave_time, s.P_h, s.wave])
    nodes, weight = np.polynomial.legendre.leggauss(700)
    time, y = (nodes[:, None] + 1) * 60, 9 * nodes[None, :]

    def stated(gap, intercept, slope):
        waves = [(wave_of(y, time, g, intercept, slope) * 9 * weight[None]).sum(1) for g in (0.0, gap)]
        return 0.5 + float((inside(time[:, 0], CHANCE, waves) * 60 * weight).sum()) / np.pi

    point = gap, *forecast
    ours = lambda gap, *forecast: sampling.auc_noisy_or(jnp.asarray(CHANCE), gap, forecast)  # noqa: E731
    assert float(ours(*point)) == pytest.approx(stated(*point), abs=1e-5)
    for i, found in enumerate(jax.grad(ours, (0, 1, 2))(*point)):
        ends = [stated(*(v + e * (i == j) for j, v in enumerate(point))) for e in (1e-3, -1e-3)]
        assert float(found) == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(("lesion", "patch", "total", "drawn"), [(5.0, 4.0, 25, 7), (2.0, 6.0, 9, 9)])
def test_tiles_are_as_stated(lesion, patch, total, drawn, monkeypatch):
    """Over three offsets of the lesion along an axis: overlaps, gaps, sets of h tiles one by one, and the integral."""
    monkeypatch.setattr(sampling, "_OFFSETS", 3)
    overlap, gap_of = (
        s.function(s.OVERLAP, [s.k, s.begin, s.lesion, s.patch]),
        s.function(s.TILE_GAP, [s.Delta, s.o_1, s.o_2, s.patch]),
    )
    [integral] = s.AUC_TILES.rhs.atoms(s.sp.Integral)
    axis = int(np.ceil(lesion / patch)) + 1
    many = min(axis**2, drawn)
    given = {s.n: drawn, s.K: axis**2, s.N: total}
    inside = s.function(integral.function.subs(given).doit(), [s.y, s.set_h])
    y = np.linspace(-8, 8, 401)

    def stated(gap):
        found = []
        for one, two in itertools.product(patch * (np.arange(3) + 0.5) / 3, repeat=2):
            along = [[float(overlap(k, at, lesion, patch)) for k in range(axis)] for at in (one, two)]
            gaps = [float(gap_of(gap, a, b, patch)) for a in along[0] for b in along[1]]
            below = np.asarray(jax.scipy.special.ndtr(jnp.asarray(y[None] - np.array(gaps)[:, None])))
            sets = np.zeros((drawn + 1, len(y)))
            for h in range(many + 1):
                sets[h] = sum(below[list(which)].prod(0) for which in itertools.combinations(range(axis**2), h))
            found.append(1 - np.trapezoid(np.asarray(inside(y, sets)), y))
        return np.mean(found)

    ours = lambda gap: sampling.auc_tiles(gap, lesion, patch, total, drawn)  # noqa: E731
    assert float(ours(0.9)) == pytest.approx(stated(0.9), abs=1e-6)
    assert float(jax.grad(ours)(0.9)) == pytest.approx((stated(0.901) - stated(0.899)) / 2e-3, rel=1e-4)
    with pytest.raises(InputError, match="tiles"):
        sampling.auc_tiles(0.9, lesion, patch, 3, 1)


def test_weights_of_images_and_of_subgroups():
    weight = RNG.uniform(0.1, 3, 7)
    stated = s.function(s.EFFECTIVE_SIZE.rhs.subs(s.n, 7).doit(), [s.weights])
    assert float(sampling.effective_size(jnp.asarray(weight))) == pytest.approx(float(stated(weight)), rel=1e-9)
    assert float(sampling.effective_size(jnp.ones(7))) == 7
    share, flip, gap = RNG.dirichlet([1, 1, 1]), RNG.uniform(0, 0.5, 3), RNG.normal(size=3)
    stated = s.function(s.TILTED.rhs.subs(s.G, 3).doit(), [s.share_g, s.eta_g, s.Delta_g])
    found = sampling.tilted(*map(jnp.asarray, (share, flip, gap[:, None])))
    assert float(found[0]) == pytest.approx(float(stated(share, flip, gap)), rel=1e-9)


def test_subgroups_that_look_different():
    """Pooled moments, learned direction and AUC by subgroup; and the slope of a gap in AUC with the rare subgroup's counts."""
    case, control = np.array([50.0, 20.0, 7.0]), np.array([60.0, 5.0, 30.0])
    gap, place, variance = RNG.normal(size=(3, 2)), RNG.normal(size=(3, 2)), RNG.uniform(0.5, 2, 3)
    root = RNG.normal(size=(3, 2, 2))
    cov = root @ root.transpose(0, 2, 1)
    mean = np.stack([place - gap / 2, place + gap / 2], 1)
    groups = theory.Moments(
        jnp.asarray(mean), jnp.asarray(np.stack([cov] * 2, 1)), jnp.asarray([*zip(control, case, strict=True)])
    )
    found, given = sampling.pooled(groups), {s.G: 3, s.k: 2}
    middle = s.function(s.POOLED_MEAN.rhs.subs(given).doit(), [s.i, s.share_g, s.mu_g])
    spread = s.function(
        s.POOLED_COVARIANCE.rhs.subs(given).doit(), [s.i, s.j, s.share_g, s.mu_g, s.Sigma_g, s.pooled_mean]
    )
    for y, count in enumerate((control, case)):
        share, centre = count / count.sum(), np.asarray(found.mean[y])
        for i in (0, 1):
            assert float(found.mean[y, i]) == pytest.approx(float(middle(i, share, mean[:, y])), rel=1e-9)
            for j in (0, 1):
                stated = float(spread(i, j, share, mean[:, y], cov, centre))
                assert float(found.cov[y, i, j]) == pytest.approx(stated, rel=1e-9)
    np.testing.assert_allclose(found.weight, [control.sum(), case.sum()])

    weights = s.function(s.SUBGROUP_WEIGHTS.rhs.subs(given).doit(), [s.i, s.case_g, s.control_g, s.gap_g, s.place_g])
    argument = [s.j, s.weights, s.gap_g, s.v_c, s.d, s.case_g, s.control_g, s.n_1, s.n_0]
    area = s.function(s.SUBGROUP_AUC.rhs.subs(given).doit(), argument)

    def stated(j, case, control):
        total = jnp.sum(case), jnp.sum(control)
        shares = case / total[0], control / total[1]
        w = jnp.stack([weights(i, *shares, gap, place) for i in (0, 1)])
        return area(j, w, gap, variance, 90, *shares, *total)

    def ours(j, case, control):
        return sampling.subgroup_auc(*map(jnp.asarray, (gap, place, variance)), 90, case, control)[j]

    counts = jnp.asarray(case), jnp.asarray(control)
    for j in range(3):
        assert float(ours(j, *counts)) == pytest.approx(float(stated(j, *counts)), rel=1e-9)
        for one, two in zip(jax.grad(ours, (1, 2))(j, *counts), jax.grad(stated, (1, 2))(j, *counts), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-8)
    alike = sampling.subgroup_auc(jnp.ones((3, 2)), jnp.asarray(place), jnp.ones(3), 90, *counts)
    np.testing.assert_allclose(alike, alike[0], rtol=1e-12)  # counts and places alone make no gap in AUC


def test_energy_and_retention():
    filters, root = RNG.normal(size=(2, 4)), RNG.normal(size=(4, 4))
    cov = root @ root.T
    stated = s.function(s.POOLED_ENERGY.rhs.subs(s.d, 4).doit(), [s.filter_, s.patch_cov])
    found = learning.pooled_energy(jnp.asarray(filters), jnp.asarray(cov))
    np.testing.assert_allclose(found, [float(stated(f, cov)) for f in filters], rtol=1e-9)
    one, two = (np.linalg.qr(RNG.normal(size=(9, k)))[0] for k in (5, 3))
    cosines = np.asarray(learning.principal_cosines(jnp.asarray(one), jnp.asarray(two)))
    mean = s.function(s.RETAINED.rhs.subs(s.k, 3).doit(), [s.angle])
    each = [float(learning.retained(jnp.asarray(one), jnp.asarray(column))) for column in two.T]
    # the mean over an orthonormal basis is the mean over all directions
    assert float(mean(np.arccos(cosines))) == pytest.approx(np.mean(each), rel=1e-9)
    with pytest.raises(InputError):
        learning.retained(jnp.asarray(one), jnp.ones(5))


def test_info_nce_to_second_order():
    rho, strength = RNG.uniform(0.1, 0.9, 4), RNG.uniform(0.1, 2, 4)
    stated = s.function(s.INFO_NCE.rhs.subs(s.d, 4).doit(), [s.modes, s.s, s.temperature])
    ours = learning.info_nce(jnp.asarray(rho), jnp.asarray(strength), 0.7)
    assert float(ours) == pytest.approx(float(stated(rho, strength, 0.7)), rel=1e-9)
    least = jax.grad(learning.info_nce, 1)(jnp.asarray(rho), 0.7 * jnp.asarray(rho), 0.7)
    np.testing.assert_allclose(least, 0, atol=1e-12)


def test_transfer_from_few_labels():
    """As stated at the effective ridge, in value; in value and slope as the law of the probe in what is kept, to rounding."""
    kept, n, flip, ridge = 12, 30.0, 0.1, 0.3
    at = [s.half2, s.kappa, s.k, s.n, s.eta]
    stated = s.function(s.TRANSFER_AUC, at)
    fixed = s.function(s.TRANSFER_KAPPA, [s.lam, s.n, s.kappa, s.k, s.half2])
    share = s.sp.Symbol("r", positive=True)
    gap = s.function(s.KEPT_GAP, [share, s.Delta])

    def law(separation2, share, n, flip, ridge):
        mean = jnp.zeros((2, kept)).at[:, 3].set(jnp.sqrt(share * separation2) * jnp.array([-0.5, 0.5]))
        source = theory.Moments(mean, jnp.broadcast_to(jnp.eye(kept), (2, kept, kept)), jnp.ones(2))
        return theory.deploy(theory.probe(source, n, flip=flip, ridge=ridge), source)[0]

    def ours(separation2, share, n, flip, ridge):
        return learning.transferred(separation2, share, kept, n, flip=flip, ridge=ridge)

    for separation, share in ((2.0, 0.9), (3.0, 0.35)):
        half2 = float(gap(share, separation))
        kappa = ridge
        for _ in range(300):
            kappa = float(fixed(ridge, n, kappa, kept, half2))
        point = (separation**2, share, n, flip, ridge)
        assert float(ours(*point)) == pytest.approx(float(stated(half2, kappa, kept, n, flip)), rel=1e-9)
        assert float(ours(*point)) == pytest.approx(float(law(*point)), rel=1e-9)
        slopes = (jax.grad(f, (0, 1, 2, 3, 4))(*point) for f in (ours, law))
        for one, two in zip(*slopes, strict=True):
            assert float(one) == pytest.approx(float(two), rel=1e-7)


def test_where_a_statement_has_an_edge():
    """A lesion larger than the patch fills it; what looks the same after every turn tells nothing; a length is no share."""
    assert float(sampling.diluted(0.8, 6.0, 5.0)) == 0.8
    assert [float(learning.kept_by_turning(order, 0.3, 0.6)) for order in (0, 4, 8)] == [0, 0, 0]
    assert [float(learning.kept_by_turning(order, 0.3, 0.6)) for order in (1, 2, 3, 6)] == [0.5] * 4
    basis, direction = jnp.eye(4, 2), jnp.asarray([3.0, 0.0, 4.0, 0.0])
    assert float(learning.retained(basis, direction)) == pytest.approx(9 / 25)


def test_raf_joins_its_two_parts():
    found = raf(0.5 + 0.4 * RNG.uniform(0.2, 1, (3, 6, 3)))
    stated = s.function(s.RAF, [s.R, s.F])(float(found.robustness), float(found.fairness))
    assert 0 < float(found.fairness) < 1
    assert float(found.raf) == pytest.approx(float(stated), rel=1e-9)


def test_robustness_is_the_mean_share_kept():
    kept = RNG.uniform(0.1, 0.3, (1, 5))
    table = np.full((1, 6, 1), 0.85)
    table[:, 1:, 0] = 0.5 + kept
    rest = s.ROBUSTNESS.rhs.subs(s.S_cells, 5).doit()
    stated = s.function(rest, [s.kept, s.clean_])
    assert float(raf(table).robustness) == pytest.approx(float(stated(kept[0], 0.35)), rel=1e-9)


def test_probe_and_its_deployment():
    """In an eigenbasis: effective ridge, degrees of freedom, law of the weights, and the quadratic form."""
    size, labels, flip, ridge = 6, 9, 0.15, 0.2
    half, within = RNG.normal(size=size) * 0.1, RNG.uniform(0.5, 2, size)
    half[1:] = 0  # one signal direction keeps the total covariance diagonal
    ell = within + half**2
    moments = theory.Moments(jnp.stack([-half, half]), jnp.stack([jnp.diag(within)] * 2), jnp.ones(2))
    law = theory.probe(moments, labels, flip=flip, ridge=ridge)
    given = {s.d: size}

    def stated(equation, symbols):
        return s.function(equation.rhs.subs(given).doit(), symbols)

    kappa = float(law.kappa)
    assert stated(s.KAPPA, [s.lam, s.n, s.kappa, s.ell])(ridge, labels, kappa, ell) == pytest.approx(kappa, rel=1e-9)
    assert stated(s.DF2, [s.ell, s.kappa])(ell, kappa) == pytest.approx(float(law.df2), rel=1e-9)
    noise = stated(s.PROBE_NOISE, [s.eta, s.u, s.ell, s.kappa])(flip, half, ell, kappa)
    mean = s.function(s.PROBE_MEAN, [s.i, s.eta, s.u, s.ell, s.kappa])
    spread = s.function(s.PROBE_VARIANCE, [s.i, s.noise, s.n, s.df_2, s.ell, s.kappa])
    for row in range(size):
        assert mean(row, flip, half, ell, kappa) == pytest.approx(float(law.mean[row]), rel=1e-9, abs=1e-14)
        assert spread(row, noise, labels, float(law.df2), ell, kappa) == pytest.approx(
            float(law.cov[row, row]), rel=1e-9
        )
    form = RNG.normal(size=(size, size))
    quadratic = stated(s.DEPLOY, [s.w, s.s, s.M])(np.asarray(law.mean), np.diag(law.cov), form)
    assert quadratic == pytest.approx(float(law.mean @ form @ law.mean + np.trace(law.cov @ form)), rel=1e-9)


def test_probe_of_unequal_classes():
    """At the fixed point, in an eigenbasis of both covariances: leverage, slope, pull, force and the weights' law."""
    size, count, flip, weight, ridge = 5, (30, 12), (0.1, 0.25), (0.7, 1.6), 0.3
    half, within = RNG.normal(size=size) * 0.3, RNG.uniform(0.5, 2, (2, size))
    source = theory.Moments(jnp.stack([-half, half]), jax.vmap(jnp.diag)(within), jnp.ones(2))
    law = unequal.probe(source, count, flip=flip, ridge=ridge, weight=weight)
    second = np.asarray(law.cov + law.mean[:, None] * law.mean[None, :])
    share, along = np.array(count) / 42, float(law.mean @ half)
    variance = np.array([(second.diagonal() * each).sum() for each in within])
    slope = np.array([0.5, 0.5])
    given = {s.d: size}
    by_class = [s.LEVERAGE.rhs.subs(given | {s.y_c: c}).doit() for c in (0, 1)]
    leverage = [s.function(each, [s.n, s.lam, s.share_c, s.theta_c, s.ell_c]) for each in by_class]
    theta = s.function(s.SLOPE, [s.y_c, s.omega_c, s.gamma_c])
    for _ in range(200):
        gamma = np.array([float(leverage[c](42, ridge, share, slope, within)) for c in (0, 1)])
        slope = np.array([float(theta(c, np.array(weight), gamma)) for c in (0, 1)])
    offset = s.function(s.OFFSET.rhs.doit(), [s.share_c, s.theta_c, s.eta_c, s.score_mean])
    assert float(offset(share, slope, np.array(flip), along)) == pytest.approx(float(law.offset), rel=1e-7)
    class_mean = s.function(s.CLASS_MEAN, [s.y_c, s.score_mean, s.offset])
    mean = np.array([float(class_mean(c, along, float(law.offset))) for c in (0, 1)])
    symbols = [s.y_c, s.theta_c, s.eta_c, s.class_mean]
    pull = np.array([float(s.function(s.PULL, symbols)(c, slope, np.array(flip), mean)) for c in (0, 1)])
    sides = [s.function(side, [s.share_c, s.psi_c])(share, pull) for side in (s.BALANCE.lhs, s.BALANCE.rhs)]
    assert float(sides[0]) == pytest.approx(float(sides[1]), rel=1e-7)
    force = s.function(s.FORCE, [*symbols, s.v_c])
    square = np.array([float(force(c, slope, np.array(flip), mean, variance)) for c in (0, 1)])
    args = [s.i, s.lam, s.share_c, s.theta_c, s.ell_c]
    stated = s.function(s.WEIGHTS_MEAN.rhs.doit(), [*args, s.psi_c, s.u])
    spread = s.function(s.WEIGHTS_VARIANCE.rhs.doit(), [*args, s.n, s.rho_c])
    for i in range(size):
        at = (i, ridge, share, slope, within)
        assert float(stated(*at, pull, half)) == pytest.approx(float(law.mean[i]), rel=1e-7)
        assert float(spread(*at, 42, square)) == pytest.approx(float(law.cov[i, i]), rel=1e-7)
    assert float(law.kappa) == pytest.approx(ridge / (share @ slope), rel=1e-7)


@pytest.mark.parametrize("loss", unequal.LOSSES)
def test_offset_has_a_slope_and_moves_against_the_rarer_class(loss):
    """The slope of the law's offset in a count is the one of its differences; swapped classes turn its sign."""
    half, within = jnp.asarray(RNG.normal(size=5) * 0.3), jnp.asarray(RNG.uniform(0.5, 2, (2, 5)))
    source = theory.Moments(jnp.stack([-half, half]), jax.vmap(jnp.diag)(within), jnp.ones(2))

    def offset(cases):
        return unequal.probe(
            source, jnp.stack([jnp.asarray(40.0), cases]), flip=(0.1, 0.2), ridge=0.3, loss=loss
        ).offset

    slope = jax.jacfwd(offset)(jnp.asarray(12.0))
    ends = [float(offset(jnp.asarray(12.0 + e))) for e in (1e-3, -1e-3)]
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-4)
    turned = theory.Moments(jnp.stack([-half, half]), source.cov[::-1], jnp.ones(2))
    other = unequal.probe(turned, (12.0, 40.0), flip=(0.2, 0.1), ridge=0.3, loss=loss).offset
    assert float(other) == pytest.approx(-float(offset(jnp.asarray(12.0))), rel=1e-9)
    assert float(offset(jnp.asarray(12.0))) < -0.2


def test_images_drawn_again_are_random_weights():
    """Squared loss: leverage, mean weights and their variance again, with sums over a hundred Poisson terms for the two."""
    size, count, weight, again, ridge = 4, np.array([30.0, 12.0]), np.array([0.7, 1.75]), np.array([0.0, 1.5]), 0.3
    half, within = RNG.normal(size=size) * 0.4, RNG.uniform(0.5, 2, (2, size))
    source = theory.Moments(jnp.stack([-half, half]), jax.vmap(jnp.diag)(within), jnp.ones(2))
    chosen = {"flip": (0.0, 0.0), "ridge": ridge, "weight": weight, "again": again}
    law = unequal.probe(source, jnp.asarray(count), **chosen)
    number = np.arange(100)
    chance = np.stack([poisson.pmf(number, r) for r in again])
    omega = (weight / (1 + again))[:, None] * (1 + number)
    share, sign, mean, offset, variance, slope = count / 42, np.array([-1, 1]), 0.0, 0.0, np.ones(2), np.ones(2)
    for _ in range(500):
        held = ridge + (share * slope) @ within
        gamma = (within / held).sum(1) / 42
        theta = omega / (1 + omega * gamma[:, None])
        slope, square = (chance * theta).sum(1), (chance * theta**2).sum(1)
        offset = (sign * share * slope * (1 - mean)).sum() / (share * slope).sum()
        short = 1 - mean - sign * offset
        w = (share * slope * short).sum() * half / held
        spread = (share * square * (short**2 + variance)) @ within / 42 / held**2
        mean, variance = w @ half, within @ (w**2 + spread)
    np.testing.assert_allclose(law.mean, w, rtol=2e-3)
    np.testing.assert_allclose(np.diag(law.cov), spread, rtol=5e-3)
    once = unequal.probe(source, jnp.asarray(count), **chosen | {"again": (0.0, 0.0)})
    assert float(jnp.trace(law.cov) / jnp.trace(once.cov)) > 1.03


def test_free_offset_gives_the_discriminant_of_unequal_counts():
    """Squared loss, one covariance: the weights are those of a regularised discriminant, whose closed form is another route."""
    half, within = np.array([0.4, -0.3, 0.5, 0.1, -0.4, 0.2]), np.linspace(0.5, 2, 6)
    source = theory.Moments(jnp.stack([-half, half]), jnp.stack([jnp.diag(within)] * 2), jnp.ones(2))
    law = unequal.probe(source, (150.0, 12.0), flip=(0.0, 0.0), ridge=0.4)
    found = float(theory.deploy(law, source)[0])
    freedom = (151.0, 13.0)  # its scatter is divided by two fewer
    reach = [float(unequal.discriminant_rates(source, c, ridge=0.4)[2]) for c in (freedom, (150.0, 12.0))]
    assert min(reach) - 1e-3 < found < max(reach) + 1e-3
    even = unequal.probe(source, (81.0, 81.0), flip=(0.0, 0.0), ridge=0.4)
    assert float(theory.deploy(even, source)[0]) - found > 0.01  # fewer cases cost


def test_logistic_residual_solves_its_equation():
    margin, pliant = RNG.normal(size=9) * 3, RNG.uniform(0, 5, 9)
    found = unequal._residual(jnp.asarray(margin), jnp.asarray(pliant), "logistic")
    given = {s.gamma_c[s.y_c]: s.t, s.omega_c[s.y_c]: s.v}  # leverage and weight, whose product is the argument
    stated = s.function(s.LOGISTIC_FORCE.rhs.subs(given), [s.margin, s.t, s.v, s.residual])
    np.testing.assert_allclose(found, stated(margin, pliant / 1.7, 1.7, found), rtol=1e-9)


def test_equal_classes_have_the_law_of_the_plain_probe():
    """Up to the rank-one term of the gap, which vanishes with it."""
    cov, half = jnp.diag(RNG.uniform(0.5, 2, 8)), 1e-3 * RNG.normal(size=8)
    source = theory.Moments(jnp.stack([-half, half]), jnp.stack([cov, cov]), jnp.ones(2))
    one = unequal.probe(source, (20, 20), flip=(0.1, 0.1), ridge=0.2)
    other = theory.probe(source, 40, flip=0.1, ridge=0.2)
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-4)
    np.testing.assert_allclose(one.cov, other.cov, rtol=1e-4, atol=1e-6)
    assert float(one.df2) == pytest.approx(float(other.df2), rel=1e-4)
    with pytest.raises(InputError, match="hinge"):
        unequal.probe(source, (20, 20), flip=(0.1, 0.1), ridge=0.2, loss="hinge")
    with pytest.raises(InputError, match="covariances"):
        unequal.probe(source._replace(cov=cov), (20, 20), flip=(0.1, 0.1), ridge=0.2)


def test_discriminant_of_unequal_counts():
    size, ridge, count = 4, 0.4, (50, 15)
    gap, within = RNG.normal(size=size), RNG.uniform(0.5, 2, size)
    source = theory.Moments(jnp.stack([-gap / 2, gap / 2]), jnp.stack([jnp.diag(within)] * 2), jnp.ones(2))
    kappa = float(theory.effective_ridge(jnp.asarray(within), sum(count) - 2, ridge))
    df2 = ((within / (within + kappa)) ** 2).sum()
    found = unequal.discriminant_rates(source, count, ridge=ridge)
    stated = (s.DISCRIMINANT_TPR, s.DISCRIMINANT_FPR, s.DISCRIMINANT_AUC)
    for ours, equation in zip(found, stated, strict=True):
        value = s.function(equation.rhs.subs(s.d, size).doit(), [s.delta_, s.ell, s.kappa, s.n_1, s.n_0, s.df_2])
        assert float(ours) == pytest.approx(float(value(gap, within, kappa, count[1], count[0], df2)), rel=1e-9)
    slope = jax.grad(lambda r: unequal.discriminant_rates(source, count, ridge=r)[0])(ridge)
    ends = [float(unequal.discriminant_rates(source, count, ridge=ridge + e)[0]) for e in (1e-4, -1e-4)]
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-4)


def test_linear_attention():
    second, form, patch = (RNG.normal(size=shape) for shape in ((3, 3), (3, 3), (3,)))
    stated = s.function(s.ATTENDED.rhs.subs(s.d, 3).doit(), [s.i, s.patch_cov, s.query_key, s.token])
    found = learning.attended(*map(jnp.asarray, (second, form, patch)))
    np.testing.assert_allclose(found, [float(stated(i, second, form, patch)) for i in range(3)], rtol=1e-9)


def test_white_features_have_the_closed_form_ridge():
    moments = theory.Moments(jnp.zeros((2, 5)), jnp.stack([jnp.eye(5)] * 2), jnp.ones(2))
    stated = s.function(s.KAPPA_ISOTROPIC, [s.lam, s.n, s.d])(0.3, 8, 5)
    assert float(theory.probe(moments, 8, flip=0.0, ridge=0.3).kappa) == pytest.approx(float(stated), rel=1e-9)


def test_a_difference_before_a_sum_keeps_its_brackets():
    total = s.sp.Sum(s.ell[s.i], (s.i, 0, s.d - 1))
    assert typst((s.lam - s.kappa) * total).startswith("(")
    assert "(" not in typst(s.lam * total).split("sum")[0]
    assert '"' not in typst(s.PULL)  # every Greek name is known


def test_every_equation_can_be_typeset():
    for label, title, equation in EQUATIONS:
        text = typst(equation)
        assert text.count("(") == text.count(")"), label
        assert "**" not in text, label
        assert title
