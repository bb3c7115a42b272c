"""Studies made with a known weight of theory: the fit finds it, and held-out predictions are calibrated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy.stats import binom, multivariate_normal, norm

from rafmodel import experience, fit
from rafmodel.errors import InputError

DOSE = np.arange(6) / 5
SPREAD = {"design": 0.08, "curve": 0.12, "residual": 0.03}  # probit scale, as in studies of small encoders
SHORT = {"warmup": 150, "draws": 150}


def study(seed: int, weight: float, *, n_designs: int = 10, n_shifts: int = 3, signal: float = 0.25) -> xr.Dataset:
    """Outcomes = level + weight · theory + a design's offset, curve per shift and residual.

    Theory as written in the table has levels of its own, as a real one that misjudges how hard a shift is.
    """
    rng = np.random.default_rng(seed)
    cells = (n_designs, n_shifts, 6)
    level = 1.2 - rng.uniform(0.3, 0.9, (n_shifts, 1)) * DOSE
    theory = rng.normal(0, signal, (n_designs, n_shifts, 1)) * DOSE + rng.normal(0, signal / 2, (n_designs, 1, 1))
    curve = rng.normal(0, SPREAD["curve"], (n_designs, n_shifts, 1)) * DOSE
    offset, rest = (
        rng.normal(0, SPREAD["design"], (n_designs, 1, 1)),
        rng.normal(0, SPREAD["residual"], cells),
    )
    outcome = level + weight * theory + offset + curve + rest
    outcome[:, :, 0] = outcome[:, :1, 0]
    observed = norm.cdf(outcome)[:, None] + np.array([-0.01, 0.01])[None, :, None, None]
    dims = ("design", "shift", "severity", "group")
    variables = {
        "observed_auc": (("design", "seed", *dims[1:]), observed[..., None]),
        "predicted_auc": (dims, norm.cdf(level + 0.3 - 0.2 * DOSE + theory)[..., None]),
        "observed_auc_se": (dims, np.full((*cells, 1), 0.02)),
    }
    coordinates = {
        "design": [f"design {i}" for i in range(n_designs)],
        "seed": [0, 1],
        "shift": [f"shift {i}" for i in range(n_shifts)],
        "severity": np.arange(6),
        "group": ["all"],
    }
    return xr.Dataset(variables, coordinates, {"cohort": "made up"})


def interval(posterior: xr.Dataset, name: str = "weight") -> np.ndarray:
    return np.quantile(posterior[name].values, [0.025, 0.975])


def seed_mean(table: xr.Dataset) -> np.ndarray:
    """Observed AUC of the seed mean under shift, (design, 5 · shifts)."""
    values = table["observed_auc"].sel(group="all", severity=slice(1, None)).mean("seed").values
    return values.reshape(len(values), -1)


def held_out(table: xr.Dataset, key: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Skill over the mean of the other designs, and quantiles (5, 50, 95 %) of each shifted cell."""
    law = fit.leave_one_design_out(table, key=jax.random.key(key), **SHORT)
    found = fit.quantiles(law, [0.05, 0.5, 0.95], key=jax.random.key(key + 1))[:, :, 1:]
    seen = seed_mean(table)
    b1 = np.array([np.delete(seen, d, 0).mean(0) for d in range(len(seen))])
    return 1 - np.abs(found[1] - seen).mean() / np.abs(b1 - seen).mean(), found


@pytest.mark.parametrize("weight", [1.0, 0.5, 0.0])
def test_the_weight_of_theory_is_recovered(weight):
    posterior = fit.fit(study(1, weight), key=jax.random.key(0), **SHORT)
    low, high = interval(posterior)
    assert low < weight < high and high - low < 0.7
    assert posterior.attrs["max_rhat"] < 1.1 and posterior["weight_by_shift"].dims == (
        "chain",
        "draw",
        "term",
    )


def test_flipping_the_sign_of_theory_flips_the_weight():
    table = study(2, 1.0)
    middle = norm.ppf(table["predicted_auc"]).mean(0)
    flipped = table.assign(
        predicted_auc=(table["predicted_auc"].dims, norm.cdf(2 * middle - norm.ppf(table["predicted_auc"])))
    )
    # the prior N(0.5, 0.5) draws -1 towards 0.5, so the interval need only be well below zero
    assert interval(fit.fit(flipped, key=jax.random.key(0), warmup=400, draws=300))[1] < -0.5
    assert interval(fit.fit(table, key=jax.random.key(0), warmup=400, draws=300))[0] > 0.5


def test_deviations_of_designs_are_recovered():
    posterior = fit.fit(study(3, 1.0, n_designs=40), key=jax.random.key(0), **SHORT)
    for name, truth in SPREAD.items():
        low, high = np.quantile(posterior[f"{name}_sd"].values, [0.005, 0.995])
        assert low < truth < high and high < 2.5 * truth, name  # three shifts tell little of a typical curve


def test_informative_theory_has_skill_and_swapping_its_designs_destroys_it():
    table = study(4, 1.0)
    assert held_out(table)[0] > 0.3
    turned = np.roll(table["predicted_auc"].values, 1, axis=0)
    swapped = table.assign(predicted_auc=(table["predicted_auc"].dims, turned))
    assert held_out(swapped)[0] < 0.1


def test_useless_theory_falls_back_on_the_mean_of_the_others():
    """Skill within noise of 0, and never far below it; the noise is the spread over five studies."""
    skills = np.array([held_out(study(10 + i, 0.0))[0] for i in range(5)])
    assert abs(skills.mean()) < 4 * skills.std(ddof=1) / np.sqrt(5) + 0.02  # 0.02: median of an AUC against its mean
    assert skills.min() > -0.15


def test_constant_theory_gives_the_mean_of_the_others():
    table = study(5, 1.0)
    table["predicted_auc"] = table["predicted_auc"] * 0 + 0.7
    skill, found = held_out(table)
    seen = norm.ppf(seed_mean(table))
    b1 = norm.cdf([np.delete(seen, d, 0).mean(0) for d in range(len(seen))])
    # a median's Monte Carlo error over 150 draws with 20 copies each, some 50 of them independent: 0.12 * 1.25 / √1000,
    # 0.4 from the probit to the AUC; five of these among 150 cells
    np.testing.assert_allclose(found[1], b1, atol=0.01)
    assert abs(skill) < 0.05


def test_intervals_of_held_out_designs_hold_nine_in_ten():
    inside = []
    for i in range(5):
        table = study(20 + i, 0.6)
        _, (low, _, high) = held_out(table)
        seen = seed_mean(table)
        inside.append((low < seen) & (seen < high))
    share = np.mean(inside)
    # cells of one design and shift move together: 150 independent curves at the least favourable
    lower, upper = binom(150, 0.9).ppf([1e-3, 1 - 1e-3]) / 150
    assert lower < share < upper


def test_no_outcome_of_a_held_out_design_reaches_its_prediction():
    table = study(6, 1.0)
    changed = table.copy(deep=True)
    changed["observed_auc"][3] = 0.55 + 0.1 * np.random.default_rng(0).random(changed["observed_auc"][3].shape)
    one, other = (fit.leave_one_design_out(t, key=jax.random.key(0), **SHORT) for t in (table, changed))
    assert (one.mean[3] == other.mean[3]).all() and (one.sd[3] == other.sd[3]).all()
    assert (jnp.abs(one.mean[2] - other.mean[2]) > 1e-3).any()  # while the others do learn from it


def test_the_predictive_law_of_known_parameters():
    """Level, theory and variance of one held-out design, written out."""
    data = fit.cells(study(7, 1.0, n_shifts=2))
    weights, curve = np.array([0.5, 1.0, 0.8]), np.array([0.2, 0.4, 0.3])
    draw = {"weight_by_shift": weights, "curve_sd_by_shift": curve, "design_sd": 0.1, "residual_sd": 0.05}
    draw |= {"weight_abroad": 3.0}  # of nothing
    known = np.ones(10)
    known[4] = 0
    law = fit.foretold(data, jnp.asarray(known), 4, {k: jnp.asarray(v)[None] for k, v in draw.items()})
    y, x, shift = (np.asarray(v) for v in (data.observed, data.theory, data.shift))
    others = np.delete(y - weights[shift] * x, 4, 0)
    np.testing.assert_allclose(law.mean[0], others.mean(0) + weights[shift] * x[4], atol=1e-12)
    own = 0.1**2 + (curve[shift] * np.array([0, *DOSE[1:], *DOSE[1:]])) ** 2 + 0.05**2
    np.testing.assert_allclose(law.sd[0] ** 2, own * (1 + 1 / 9), atol=1e-12)
    assert fit.log_density(law._replace(mean=law.mean[None], sd=law.sd[None]), data.observed[4:5])[0] == pytest.approx(
        norm(law.mean[0], law.sd[0]).logpdf(y[4]), abs=1e-10
    )


def dense(data: fit.Cells, spread: fit.Spread) -> np.ndarray:
    """The covariance of a design's deviations, cell by cell."""
    shift, dose, curve = (np.asarray(v) for v in (data.shift, data.dose, spread.curve))
    n = len(dose)
    found = np.empty((n, n))
    for i, j in np.ndindex(n, n):
        found[i, j] = float(spread.design) ** 2 + (i == j) * float(spread.residual) ** 2
        found[i, j] += (shift[i] == shift[j]) * curve[shift[i]] ** 2 * dose[i] * dose[j]
    return found


def test_the_likelihood_is_that_of_a_dense_gaussian_with_levels_integrated_out():
    """Against scipy with a level of s.d. 1000, which a flat prior is the limit of: equal but for a constant."""
    data = fit.cells(study(8, 1.0, n_designs=5, n_shifts=2))
    rng, known, gaps = np.random.default_rng(0), np.array([1.0, 1, 0, 1, 1]), []
    for _ in range(4):
        spread = fit.Spread(*(jnp.asarray(rng.uniform(0.05, 0.5, s)) for s in ((), (3,), ())))
        rest, k = rng.normal(size=(5, 11)), dense(data, spread)
        np.testing.assert_allclose(fit.variance(data, spread), np.diag(k), atol=1e-12)
        joint = np.kron(np.eye(4), k) + np.kron(np.ones((4, 4)), 1e6 * np.eye(11))
        expected = multivariate_normal(np.zeros(44), joint).logpdf(rest[known > 0].ravel())
        gaps.append(float(fit.restricted(data, jnp.asarray(known), jnp.asarray(rest), spread)) - expected)
    # the log densities differ by hundreds between parameters; a level of s.d. 1000 leaves k/1e6, and rounding 1e-5
    assert np.ptp(gaps) < 1e-3


def test_an_absent_outcome_is_integrated_out():
    """The same draws of the weight, within Monte Carlo error, as from the Gaussian law of what is present."""
    table = study(9, 1.0, n_designs=8, n_shifts=1)
    lost = table.copy(deep=True)
    lost["observed_auc"][2, :, :, 3:] = np.nan
    lost["observed_auc"][5, :, :, 1] = np.nan
    posterior = fit.fit(lost, key=jax.random.key(0), warmup=200, draws=500)
    assert posterior.attrs["n_absent"] == 4 and "cells without an outcome 4" in fit.summary(posterior)
    spreads = [
        fit.Spread(jnp.asarray(a), jnp.asarray(c), jnp.asarray(r))
        for a, c, r in zip(
            *(
                posterior[n].values.reshape(1000, -1)[::25].squeeze()
                for n in ("design_sd", "curve_sd_by_shift", "residual_sd")
            ),
            strict=True,
        )
    ]
    data = fit.cells(lost)
    y, x = np.asarray(data.observed), np.asarray(data.theory)
    seen = np.isfinite(y).ravel()
    found = []
    for spread, both in zip(spreads, posterior["weight_by_shift"].values.reshape(1000, -1)[::25], strict=True):
        joint = np.kron(np.eye(8), dense(data, spread)) + np.kron(np.ones((8, 8)), 100 * np.eye(6))
        rest = (y - both[np.asarray(data.shift)] * x).ravel()[seen]
        # standardised by the law of the present cells, levels apart: mean square 1 where the draws fit
        whole = np.linalg.inv(joint[np.ix_(seen, seen)])
        found.append(rest @ whole @ rest / (seen.sum() - 6))
    assert 0.6 < np.mean(found) < 1.6
    complete = fit.fit(table, key=jax.random.key(0), warmup=200, draws=500)
    assert abs(float(posterior["weight"].mean() - complete["weight"].mean())) < 0.15


def test_a_cell_or_design_without_outcomes_drops_out():
    table = study(11, 1.0)
    lost = table.copy(deep=True)
    lost["observed_auc"][4] = np.nan
    lost["observed_auc"][:, :, 1, 5] = np.nan
    lost["predicted_auc"][0, 2, 5] = np.nan
    posterior = fit.fit(lost, key=jax.random.key(0), **SHORT)
    assert posterior.attrs["n_absent"] == 16 + 9 and posterior.attrs["n_unpredicted"] == 1
    assert interval(posterior)[0] < 1 < interval(posterior)[1] and fit.cells(lost).holes.shape == (2, 0)
    one_seed = table.copy(deep=True)
    one_seed["observed_auc"][:, 1] = np.nan  # a seed that failed leaves the mean of the others
    assert np.isfinite(fit.cells(one_seed).observed).all()


def test_studies_share_the_weight_and_keep_their_levels():
    """Two cohorts far apart in level: together the weight is known better than from either."""
    first, second = study(12, 0.8), study(13, 0.8)
    second["observed_auc"] = second["observed_auc"] - 0.12
    together = fit.fit([first, second], key=jax.random.key(0), **SHORT)
    alone = [fit.fit(one, key=jax.random.key(0), **SHORT) for one in (first, second)]
    low, high = interval(together)
    assert low < 0.8 < high
    assert high - low < min(np.diff(interval(one))[0] for one in alone)
    assert together.attrs["cohorts"] == "made up, made up"


def test_too_few_designs_and_other_shifts_are_refused_in_one_line():
    with pytest.raises(InputError, match=r"needs 4 designs .* has 3") as raised:
        fit.fit(study(0, 1.0, n_designs=3), key=jax.random.key(0))
    assert "\n" not in str(raised.value)
    other = study(0, 1.0).assign_coords(shift=["a", "b", "c"])
    with pytest.raises(InputError, match="its shifts differ") as raised:
        fit.fit([study(0, 1.0), other], key=jax.random.key(0))
    assert "\n" not in str(raised.value)


def test_a_held_out_check_refuses_absent_outcomes():
    table = study(0, 1.0)
    table["observed_auc"][1, :, 0, 2] = np.nan
    with pytest.raises(InputError, match="design 'design 1' has missing values"):
        fit.leave_one_design_out(table, key=jax.random.key(0))


# ---- what the same designs did on other cohorts


def elsewhere(table: xr.Dataset, seed: int, name: str, *, share: float = 1.0) -> xr.Dataset:
    """A study of another cohort: other levels, and ``share`` of this study's design effects."""
    rng = np.random.default_rng(seed)
    seen = norm.ppf(table["observed_auc"])
    effect = share * (seen - seen.mean(0))
    level = 0.6 + rng.uniform(0, 0.3, seen.shape[2:4])[None, None, :, :, None]
    return table.assign(observed_auc=(table["observed_auc"].dims, norm.cdf(level + effect))).assign_attrs(
        cohort=name, source=name
    )


def test_knowledge_from_elsewhere_has_skill_and_its_turned_designs_have_none():
    table = study(21, 0.0).assign_attrs(source="here")

    def skill(others):
        law = fit.leave_one_design_out(table, experience.gathered(others), key=jax.random.key(0), **SHORT)
        told = fit.quantiles(law, [0.5], key=jax.random.key(1))[0, :, 1:]
        seen = seed_mean(table)
        b1 = np.array([np.delete(seen, d, 0).mean(0) for d in range(len(seen))])
        return 1 - np.abs(told - seen).mean() / np.abs(b1 - seen).mean()

    other = elsewhere(table, 3, "b", share=0.7)
    assert skill([other]) > 0.5
    data = fit.cells(table, experience.gathered([other]))
    drawn = fit.chain(jax.random.key(2), [data], [fit.reported(data)], **SHORT)
    assert float(drawn["weight_abroad"].mean()) == pytest.approx(1 / 0.7, rel=0.15)  # of effects that are 0.7 of these
    turned = np.roll(other["observed_auc"].values, 1, axis=0)
    assert skill([other.assign(observed_auc=(other["observed_auc"].dims, turned))]) < 0.15
