"""The held-out table equals hand computations, and its definitions do what they say."""

import jax
import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from synthetic_study import make_study

from rafmodel import check, experience


@pytest.fixture(scope="module")
def tables():
    study = make_study(groups=("all",), n_designs=6).isel(shift=[2, 3, 6])
    other = make_study(seed=1, groups=("all",), n_designs=6).isel(shift=[2, 3, 6]).assign_attrs(cohort="b", source="b")
    return study, check.check(study, experience.gathered([other]), key=jax.random.key(0), warmup=60, draws=60)


def cells(study, name):
    values = study[name].sel(group="all", severity=slice(1, None))
    return values.mean("seed").values if "seed" in values.dims else values.values


def test_baselines_are_what_they_are_called(tables):
    study, found = tables
    seen = cells(study, "observed_auc")
    for d in range(len(seen)):
        rest = np.delete(seen, d, axis=0).mean(0)
        np.testing.assert_allclose(found["held_out"].sel(level="B1")[d], rest)
        clean = float(study["observed_auc"].sel(group="all", severity=0).mean("seed")[d, 0])
        np.testing.assert_allclose(found["held_out"].sel(level="B0")[d], clean)
    np.testing.assert_allclose(found["held_out"].sel(level="L0"), cells(study, "predicted_auc"))
    np.testing.assert_allclose(found["observed"], seen)


@pytest.mark.parametrize("level", ["B0", "L0", "L2", "B3", "L2x", "L0x"])
def test_scores_by_hand(tables, level):
    study, found = tables
    seen, told = cells(study, "observed_auc"), found["held_out"].sel(level=level).values
    rest = np.array([np.delete(seen, d, axis=0).mean(0) for d in range(len(seen))])
    score = {str(m): float(found["score"].sel(level=level, measure=m)) for m in found["measure"].values}
    assert score["mae"] == pytest.approx(np.mean(np.abs(told - seen)))
    assert score["skill"] == pytest.approx(1 - np.mean(np.abs(told - seen)) / np.mean(np.abs(rest - seen)))
    against = (
        rest
        if level in ("L2", "B3", "L2x")
        else np.array([np.delete(told, d, axis=0).mean(0) for d in range(len(told))])
    )
    effect, own = told - against, seen - rest
    assert score["effect_r"] == pytest.approx(pearsonr(effect.ravel(), own.ravel())[0])
    assert score["effect_r_corrected"] == pytest.approx(score["effect_r"] / np.sqrt(float(found["reliability"])))
    pairs = [(f, s) for f in range(3) for s in range(5)]
    ranks = [spearmanr(effect[:, f, s], own[:, f, s])[0] for f, s in pairs]
    assert score["rank_r"] == pytest.approx(np.mean(ranks))


def test_the_mean_of_the_others_has_no_effect_to_correlate(tables):
    score = tables[1]["score"].sel(level="B1")
    assert np.isnan(score.sel(measure="effect_r"))
    assert float(score.sel(measure="skill")) == 0


def test_coverage_counts_outcomes_inside(tables):
    found = tables[1]
    for p in found["nominal"].values:
        low, high = found["interval"].sel(nominal=p).transpose("bound", ...).values
        inside = ((low <= found["observed"].values) & (found["observed"].values <= high)).mean()
        assert float(found["score"].sel(level="L2", measure=f"coverage_{round(100 * p)}")) == pytest.approx(inside)
    width = found["interval"].sel(bound="upper") - found["interval"].sel(bound="lower")
    assert (width.diff("nominal") > 0).all()


def test_reliability_is_the_share_that_is_not_seed_noise():
    rng = np.random.default_rng(0)
    effect, noise, seeds = 0.05, 0.04, 3
    drawn = rng.normal(0, effect, (1, 60, 200)) + rng.normal(0, noise, (seeds, 60, 200))
    expected = effect**2 / (effect**2 + noise**2 / seeds)
    assert check.reliability(drawn) == pytest.approx(expected, abs=0.02)
    assert check.reliability(rng.normal(0, noise, (2, 60, 200))) < 0.1
    assert np.isnan(check.reliability(drawn[:1]))


def test_the_table_shows_every_level_and_what_is_undefined(tables):
    text = check.table(tables[1])
    levels = {*check.LEVELS, "B3", "L2x", "L0x"}
    rows = {line.split()[0]: line for line in text.splitlines() if line.split()[:1] and line.split()[0] in levels}
    assert set(rows) == levels
    assert "-" in rows["B1"].split()
    assert f"{float(tables[1]['score'].sel(level='L0', measure='mae')):.3f}" in rows["L0"]
