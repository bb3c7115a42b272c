"""L0+: a short run is the simulation with fewer steps, and is read together with theory as stated."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy.stats import norm
from synthetic_study import make_study

from rafmodel import check, design, pilot, simulate, study, variability
from rafmodel import cohort as cohorts
from rafmodel.metrics import raf
from rafmodel.phantoms import phantom

RNG = np.random.default_rng(0)


def made(noise_theory: float, noise_run: float, n_designs: int = 12, n_cells: int = 200):
    """Observed AUC (designs, cells, 1), and a theory and a run that see its effects with independent errors.

    The theory misjudges how hard cells are, and the test part as a whole; the run does not.
    """
    level, effect = RNG.normal(0.8, 0.3, (1, n_cells, 1)), RNG.normal(0, 0.2, (n_designs, n_cells, 1))
    theory = RNG.normal(1.0, 0.3, (1, n_cells, 1)) + effect + RNG.normal(0, noise_theory, effect.shape)
    run = level + effect + RNG.normal(0, noise_run, effect.shape)
    return tuple(norm.cdf(x) for x in (level + effect, theory, run))


def test_cells_are_the_mean_of_both_their_level_is_the_run_s_and_effects_are_weighted():
    _, theory, run = made(0.2, 0.2)
    z = norm.ppf(pilot.combined(theory, run, (0.7, 0.1)))
    inside = ((theory > 0.02) & (theory < 0.98) & (run > 0.02) & (run < 0.98)).all(0)
    x, y = norm.ppf(theory)[:, inside], norm.ppf(run)[:, inside]
    pattern = (x.mean(0) + y.mean(0)) / 2
    assert np.allclose(z[:, inside].mean(0) - z[:, inside].mean(), pattern - pattern.mean())
    assert np.isclose(z.mean(), norm.ppf(np.clip(run, 0.02, 0.98)).mean())  # the runs have seen the test part
    assert np.allclose(z[:, inside] - z[:, inside].mean(0), 0.7 * (x - x.mean(0)) + 0.1 * (y - y.mean(0)))


def test_two_independent_sights_of_an_effect_beat_each():
    """Equal errors as large as the effects: each alone has r 1/√2, their mean √(2/3)."""
    observed, theory, run = made(0.2, 0.2)

    def r(told):
        return np.corrcoef((told - told.mean(0)).ravel(), (observed - observed.mean(0)).ravel())[0, 1]

    both = pilot.combined(theory, run, (1 / 3, 1 / 3))
    se = (1 - 2 / 3) / observed.size**0.5
    assert abs(r(both) - (2 / 3) ** 0.5) < 4 * se + 0.02  # 0.02: AUC is not quite linear in the probit
    assert r(both) > max(r(theory), r(run)) + 0.05
    assert np.abs(both - observed).mean() < np.abs(theory - observed).mean()  # half of its error between cells is left


def test_what_is_absent_is_told_by_the_other():
    _, theory, run = made(0.2, 0.2, 5, 3)
    run[1], theory[2] = np.nan, np.nan
    told = pilot.combined(theory, run, (0.5, 0.5))
    assert np.isfinite(told).all()
    run[2] = np.nan
    assert np.isnan(pilot.combined(theory, run)[2]).all()
    assert np.isfinite(pilot.combined(theory, run)[[0, 1, 3, 4]]).all()
    nothing = np.full_like(run, np.nan)
    alone, x = pilot.combined(theory, nothing, (0.5, 0.5)), norm.ppf(np.clip(theory[[0, 1, 3, 4]], 0.02, 0.98))
    assert np.allclose(norm.ppf(alone[[0, 1, 3, 4]]), x.mean(0) + 0.5 * (x - x.mean(0)))


def test_a_perfect_score_is_taken_as_a_little_less():
    perfect, low = np.array([1.0, 0.7])[:, None, None], np.array([0.0, 0.4])[:, None, None]
    near = pilot.combined(np.array([0.98, 0.7])[:, None, None], np.array([0.02, 0.4])[:, None, None])
    assert np.allclose(pilot.combined(perfect, low), near)


@pytest.fixture(scope="module")
def small():
    return phantom(jax.random.key(0), n_patients=60, size=16)


def test_a_short_run_is_a_short_simulation(small):
    [chosen] = design.select(["supervised"])
    test, shifts = cohorts.part(small, "test"), variability.VARIABILITIES[:2]
    key = jax.random.key(5)
    found = pilot.short_run(key, small, test, chosen, shifts, group="site", steps=3)
    whole = simulate.simulate(key, small, test, replace(chosen, steps=3), shifts, group="site")
    assert np.array_equal(found, whole.auc, equal_nan=True)
    assert pilot.short(replace(chosen, steps=10)).steps == 10
    assert pilot.short(chosen).steps == pilot.STEPS < chosen.steps


def test_forecast_and_check_use_it():
    table = make_study(n_designs=6).isel(shift=[0, 1])
    runs = table["observed_auc"].mean("seed").values
    told = study.with_runs(table, runs)
    expected = pilot.combined(table["predicted_auc"].values, runs)
    assert np.allclose(told["predicted_auc"], expected)
    assert np.allclose(told["raf_predicted"], raf(expected).raf)
    assert np.array_equal(told["pilot_auc"].values, runs)
    table["pilot_auc"] = table["predicted_auc"].dims, runs
    checked = check.check(table, key=jax.random.key(0), warmup=60, draws=60)
    score = checked["score"].sel(level="L0+")
    assert float(score.sel(measure="effect_r")) > float(checked["score"].sel(level="L0", measure="effect_r"))
    assert np.allclose(checked["held_out"].sel(level="L0+"), expected[..., 1:, 0])
