"""Theory's functions match other libraries, have the slopes that finite differences have, keep leading axes, and say
what they lack: an absent class is nan, a training set outside the law's range is flagged, wrong shapes are refused.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import eigh
from scipy.stats import norm
from sklearn.linear_model import Ridge

from rafmodel import theory
from rafmodel.errors import InputError

RNG = np.random.default_rng(7)


def covariance(size, rng=RNG):
    a = rng.normal(size=(size, 2 * size))
    return a @ a.T / (2 * size)


def source(size=6, gap=0.8, common=0.0):
    """Two classes of unequal covariance around a common mean."""
    half = gap / 2 * RNG.normal(size=size) / size**0.5
    mean = common + np.stack([-half, half])
    return theory.Moments(jnp.asarray(mean), jnp.asarray(np.stack([covariance(size), covariance(size)])), jnp.ones(2))


# ---- against other libraries


@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_operator_solves_the_generalised_eigenproblem(ridge):
    joint = covariance(8)
    uu, uv, vv = joint[:5, :5], joint[:5, 5:], joint[5:, 5:]
    rho2, basis = (np.asarray(a) for a in theory.operator(*map(jnp.asarray, (uu, uv, vv)), ridge=ridge))
    ridged = [c + ridge * np.trace(c) / len(c) * np.eye(len(c)) for c in (uu, vv)]
    expected, directions = eigh(uv @ np.linalg.solve(ridged[1], uv.T), ridged[0])
    np.testing.assert_allclose(rho2, expected[::-1], atol=1e-12)
    assert (rho2[3:] < 1e-12).all()  # three targets, three directions
    np.testing.assert_allclose(basis.T @ ridged[0] @ basis, np.eye(5), atol=1e-10)
    leading = np.abs(np.diag(basis[:, :3].T @ ridged[0] @ directions[:, ::-1][:, :3]))  # cosines, up to sign
    np.testing.assert_allclose(leading, 1, atol=1e-8)


def test_predictor_is_scikit_learns_ridge():
    x, y = RNG.normal(size=(50, 4)), RNG.normal(size=(50, 2))
    uu, uv = x.T @ x / 50, x.T @ y / 50
    other = Ridge(alpha=50 * 0.3 * np.trace(uu) / 4, fit_intercept=False).fit(x, y).coef_.T
    np.testing.assert_allclose(theory.predictor(jnp.asarray(uu), jnp.asarray(uv), ridge=0.3), other, rtol=1e-9)


def test_moments_are_numpys():
    x, label, weight = RNG.normal(size=(40, 3)) + 5, RNG.integers(0, 2, 40), RNG.uniform(0.1, 3, 40)
    found = theory.moments(jnp.asarray(x), jnp.asarray(label), jnp.asarray(weight))
    rescaled = theory.moments(jnp.asarray(x), jnp.asarray(label), jnp.asarray(10 * weight))
    plain = theory.moments(jnp.asarray(x), jnp.asarray(label))
    for y in (0, 1):
        own = label == y
        np.testing.assert_allclose(found.mean[y], np.average(x[own], axis=0, weights=weight[own]))
        np.testing.assert_allclose(found.cov[y], np.cov(x[own].T, aweights=weight[own], ddof=0))
        np.testing.assert_allclose(plain.cov[y], np.cov(x[own].T, ddof=0))
        assert float(found.weight[y]) == pytest.approx(weight[own].sum())
        assert float(plain.weight[y]) == own.sum()
    np.testing.assert_allclose(found.cov, rescaled.cov)


# ---- slopes


@jax.jit
def outcome(mean, cov, n, flip, ridge, deployed):
    """One number that hangs on all of a prediction: AUC, TPR and FPR, weighted."""
    law = theory.probe(theory.Moments(mean, cov, jnp.ones(2)), n, flip=flip, ridge=ridge)
    return sum(w * v for w, v in zip((1.0, 0.7, 0.4), theory.deploy(law, deployed, 0.1), strict=True))


SLOPES = jax.jit(jax.grad(outcome, (0, 1, 2, 3, 4)))


@pytest.mark.parametrize("labels", [4.0, 60.0])
@pytest.mark.parametrize("alike", [False, True], ids=["spectrum", "equal eigenvalues"])
def test_slopes_of_a_prediction_are_those_of_finite_differences(labels, alike):
    moments = source()
    cov = jnp.stack([jnp.eye(6)] * 2) if alike else moments.cov
    at = (moments.mean, cov, jnp.asarray(labels), jnp.asarray(0.1), jnp.asarray(0.2), source(common=0.3))
    slopes = SLOPES(*at)
    step = 1e-5
    for place, slope in enumerate(slopes):
        way = RNG.normal(size=at[place].shape)
        way = way + np.swapaxes(way, -1, -2) if way.ndim == 3 else way  # a covariance stays symmetric
        ends = [outcome(*at[:place], at[place] + side * step * way, *at[place + 1 :]) for side in (1, -1)]
        # a central difference is good to about step² and rounding over step
        np.testing.assert_allclose(jnp.sum(slope * way), (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-8)


def test_vmap_over_designs_is_a_loop():
    moments, flips, ridges = source(), jnp.array([0.0, 0.1, 0.3]), jnp.array([0.05, 0.2, 1.0])

    @jax.jit
    def area(flip, ridge):
        return theory.deploy(theory.probe(moments, 50, flip=flip, ridge=ridge), moments)[0]

    np.testing.assert_allclose(jax.vmap(area)(flips, ridges), [area(*p) for p in zip(flips, ridges, strict=True)])


# ---- shapes


def test_leading_axes_are_shifts_and_subgroups():
    """Shift (3) by subgroup (2): every cell equals the prediction for that cell alone, at its own threshold."""
    cells = [[source(common=0.2 * g) for g in range(2)] for _ in range(3)]
    together = jax.tree.map(lambda *x: jnp.stack(x), *[jax.tree.map(lambda *x: jnp.stack(x), *row) for row in cells])
    deploy = jax.jit(theory.deploy)
    law = theory.probe(source(common=1.0), 40, flip=0.0, ridge=0.1)  # its centre is not the origin
    cut = jnp.asarray(RNG.normal(size=(3, 2)))
    found, midpoint = deploy(law, together, cut), theory.threshold(law, together)
    for row in range(3):
        for column in range(2):
            alone = deploy(law, cells[row][column], cut[row, column])
            np.testing.assert_allclose([part[row, column] for part in found], alone, rtol=1e-12)
            scores = (np.asarray(cells[row][column].mean) - np.asarray(law.centre)) @ np.asarray(law.mean)
            assert float(midpoint[row, column]) == pytest.approx(float(scores.mean()))


def test_severities_broadcast_over_classes():
    moments, severity = source(common=1.0), jnp.array([0.1, 0.5, 1.0])
    mean, cov = (jnp.broadcast_to(a, (3, *a.shape)) for a in moments[:2])
    for change in (theory.contrast_moments, theory.noise_moments):
        found = change(mean, cov, severity[:, None])
        for row in range(3):
            for y in (0, 1):
                alone = change(moments.mean[y], moments.cov[y], float(severity[row]))
                np.testing.assert_allclose(found[0][row, y], alone[0])
                np.testing.assert_allclose(found[1][row, y], alone[1])


def test_a_uniform_field_is_a_gain():
    moments = source(common=1.0)
    field = theory.field_moments(moments.mean[0], moments.cov[0], jnp.full((6, 6), 0.7**2))
    for one, other in zip(field, theory.contrast_moments(moments.mean[0], moments.cov[0], 0.7), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


# ---- where the classes have moved away from the threshold


def test_rates_where_both_classes_have_moved():
    """A far common offset: the weights' spread moves whole classes past the threshold, and the centre matters."""
    rng, size, labels, draws = np.random.default_rng(3), 40, 80, 800
    half, common = np.full(size, 0.15), 2.0
    spectrum, offset = np.linspace(0.5, 1.5, size), 0.5 * rng.normal(size=size)
    mean = common + np.stack([-half, half])
    moments = theory.Moments(jnp.asarray(mean), jnp.asarray(np.stack([np.diag(spectrum)] * 2)), jnp.ones(2))
    moved = moments._replace(mean=moments.mean + jnp.asarray(np.stack([offset] * 2)))
    law = theory.probe(moments, labels, flip=0.1, ridge=0.3)
    predicted = np.array([float(v) for v in theory.deploy(law, moved, 0.2)])
    y = np.repeat([-1.0, 1.0], labels // 2)
    found = np.empty((draws, 3))
    for row in range(draws):
        x = rng.normal(size=(labels, size)) * spectrum**0.5 + y[:, None] * half
        seen = np.where(rng.random(labels) < 0.1, -y, y)
        w = np.linalg.solve(x.T @ x / labels + 0.3 * np.eye(size), x.T @ seen / labels)
        sd = (w**2 @ spectrum) ** 0.5
        score = w @ (offset + half), w @ (offset - half)
        found[row] = norm.cdf((score[0] - score[1]) / sd / 2**0.5), *(norm.cdf((m - 0.2) / sd) for m in score)
    se = found.std(0) / draws**0.5
    assert (np.abs(found.mean(0) - predicted) < 4 * se + 0.003).all()  # 0.003: terms of order 1/n
    at_the_mean = norm.cdf(
        (np.asarray(law.mean) @ (offset - half) - 0.2) / (np.asarray(law.mean) ** 2 @ spectrum) ** 0.5
    )
    assert abs(at_the_mean - found[:, 2].mean()) > 0.02  # the effect is there to be missed


# ---- what is missing is said


def test_an_absent_class_is_nan_and_stays_nan():
    x = jnp.asarray(RNG.normal(size=(10, 6)))
    only_cases = theory.moments(x, jnp.ones(10, int))
    assert float(only_cases.weight[0]) == 0
    assert jnp.isnan(only_cases.mean[0]).all()
    assert jnp.isfinite(only_cases.cov[1]).all()
    area, tpr, fpr = theory.deploy(theory.probe(source(), 40, flip=0.0, ridge=0.1), only_cases)
    assert jnp.isnan(area)
    assert jnp.isnan(fpr)
    assert jnp.isfinite(tpr)


@pytest.mark.parametrize(
    ("n", "ridge", "valid"), [(40, 0.1, True), (10, 0.1, False), (30, 1e-6, False), (30, 1.0, True)]
)
def test_the_range_of_validity_is_flagged(n, ridge, valid):
    """Too few labels, or as many labels as features at no ridge, where the variance diverges."""
    white = theory.Moments(jnp.zeros((2, 30)), jnp.stack([jnp.eye(30)] * 2), jnp.ones(2))
    assert bool(theory.probe(white, n, flip=0.0, ridge=ridge).valid) is valid


def test_wrong_shapes_are_refused_in_one_line():
    x, label, two = jnp.ones((5, 3)), jnp.zeros(4), source()
    calls = (
        lambda: theory.moments(x, label),
        lambda: theory.operator(jnp.eye(3), jnp.ones((2, 3)), jnp.eye(2), ridge=0.1),
        lambda: theory.probe(theory.Moments(two.mean[None], two.cov[None], jnp.ones((1, 2))), 10, flip=0.0, ridge=0.1),
    )
    for call in calls:
        with pytest.raises(InputError) as refusal:
            call()
        assert "\n" not in str(refusal.value)
        assert "pass" in str(refusal.value)
