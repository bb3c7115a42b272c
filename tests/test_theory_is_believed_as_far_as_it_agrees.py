"""What sets designs apart in one part of the source only is not believed: effects are kept as far as parts agree."""

import jax
import numpy as np
import pytest
from scipy.stats import norm

from rafmodel import agreement, charts, design, predict, running, study, variability
from rafmodel.metrics import Outcome
from rafmodel.phantoms import phantom

RNG = np.random.default_rng(0)
CELLS = (3, 6)


def outcome(parts: np.ndarray, groups: int = 2) -> Outcome:
    """AUC is the mean over parts (design, part, shift, severity); other rates and subgroups are a little off."""
    middle = parts.mean(1)
    z = np.stack([middle + 0.1 * g for g in range(groups)], -1)
    counts = np.full(groups, 50)
    return Outcome(norm.cdf(z), norm.cdf(z - 0.2), norm.cdf(z - 1.5), counts, counts, by_part=norm.cdf(parts))


def effects(rate: np.ndarray) -> np.ndarray:
    z = norm.ppf(rate)
    return z - z.mean(0)


def drawn(noise: float, designs: int = 40, own: float = 0.2, rest: float = 0.1) -> np.ndarray:
    """Probits (design, part, shift, severity): what a design has everywhere, what it has in a cell, and errors of each part."""
    level = RNG.normal(0.6, 0.2, (1, 1, *CELLS))
    common = RNG.normal(0, own, (designs, 1, 1, 1)) + RNG.normal(0, rest, (designs, 1, *CELLS))
    return level + common + RNG.normal(0, noise, (designs, 2, *CELLS))


def test_parts_that_agree_are_believed_and_parts_that_contradict_each_other_are_not():
    same = outcome(drawn(0.0))
    for rate in ("auc", "tpr", "fpr"):
        np.testing.assert_allclose(getattr(agreement.believed(same), rate), getattr(same, rate), atol=1e-9)
    effect = RNG.normal(0, 0.2, (6, 1, *CELLS))
    against = outcome(0.6 + np.concatenate([effect, -0.9 * effect], 1))
    for rate in ("auc", "tpr", "fpr"):
        np.testing.assert_allclose(effects(getattr(agreement.believed(against), rate)), 0, atol=1e-9)
    told = agreement.believed(against)
    np.testing.assert_allclose(norm.ppf(told.auc).mean(0), norm.ppf(against.auc).mean(0))  # how hard a cell is stays


def test_a_design_s_mean_effect_and_the_rest_are_kept_each_by_its_own_share():
    """Written out for two parts: the covariance of the parts over the variance of their mean."""
    parts = drawn(0.15)
    before = outcome(parts)
    told = agreement.believed(before)
    z = parts - parts.mean(0)
    own = z.mean((2, 3), keepdims=True)
    shares = [(x[:, 0] * x[:, 1]).mean() / np.square(x.mean(1)).mean() for x in (own, z - own)]
    assert 0.3 < shares[1] < 0.7 < shares[0] < 1
    for rate in ("auc", "tpr", "fpr"):
        effect = effects(getattr(before, rate))
        mean = effect.mean((1, 2), keepdims=True)
        expected = shares[0] * mean + shares[1] * (effect - mean)
        np.testing.assert_allclose(effects(getattr(told, rate)), expected, atol=1e-9)


def test_what_is_kept_is_nearer_to_what_the_parts_have_in_common():
    """Errors of 0.3 in each part beside effects of 0.1: the best share is 0.01 / 0.055."""
    ratio, kept = [], []
    for _ in range(40):
        level, common = RNG.normal(0.6, 0.2, (1, 1, *CELLS)), RNG.normal(0, 0.1, (40, 1, *CELLS))
        parts = level + common + RNG.normal(0, 0.3, (40, 2, *CELLS))
        before = outcome(parts)
        truth = (common - common.mean(0))[:, 0]
        error = [np.square(effects(x.auc)[..., 0] - truth).mean() for x in (before, agreement.believed(before))]
        ratio.append(error[1] / error[0])
        rest = [
            effects(x.auc)[..., 0] - effects(x.auc)[..., 0].mean((1, 2), keepdims=True)
            for x in (before, agreement.believed(before))
        ]
        kept.append((rest[0] * rest[1]).mean() / np.square(rest[0]).mean())
    assert np.mean(ratio) < 0.4
    assert abs(np.mean(kept) - 0.01 / 0.055) < 4 * np.std(kept) / 40**0.5


@pytest.mark.parametrize("what", ["few", "unknown", "one part", "absent"])
def test_where_parts_cannot_be_asked_the_outcome_is_as_stated(what):
    parts = drawn(0.3, designs=3 if what == "few" else 6)
    if what == "unknown":
        parts[2, 1] = np.nan
    told = outcome(np.nan_to_num(parts, nan=0.5))._replace(by_part=norm.cdf(parts))
    if what == "one part":
        told = told._replace(by_part=told.by_part[:, :1])
    if what == "absent":
        told = told._replace(by_part=None)
    assert agreement.believed(told) is told


def test_subgroups_without_a_value_stay_without():
    before = outcome(drawn(0.3))
    before.auc[..., 1] = np.nan
    told = agreement.believed(before)
    assert np.isnan(told.auc[..., 1]).all()
    assert np.isfinite(told.auc[..., 0]).all()


def test_agreement_is_the_correlation_of_effects_under_shift():
    z = np.concatenate([drawn(0.1)] * 2, 1)[:, [0, 1]]
    z[..., 0] = RNG.normal(0, 5, z.shape[:3])  # clean images say nothing of it
    first, second = ((z - z.mean(0))[:, i, :, 1:].ravel() for i in (0, 1))
    assert agreement.correlation(norm.cdf(z)) == pytest.approx(np.corrcoef(first, second)[0, 1], abs=1e-9)


# ---- where it is done


IMAGES = phantom(jax.random.key(0), n_patients=120, size=16)


def plan(*names: str) -> running.Plan:
    return running.Plan(IMAGES, "site", design.select(names, steps=20), (variability.NOISE,), 1)


def quiet(*_) -> None:
    pass


def test_a_forecast_is_believed_and_what_moves_it_is_told_as_stated(monkeypatch):
    monkeypatch.setattr(charts, "NETWORKS", 2)
    monkeypatch.setattr(predict, "PAIRED", 128)
    asked = plan("untrained", "supervised", "contrastive+noise", "rotation")
    found = study.surveyed(asked)
    stated = study.predicted(asked, quiet, found, believed=False)
    assert stated.by_part.shape == (4, charts.FOLDS, 1, 6)
    told = study.predicted(asked, quiet, found)
    np.testing.assert_allclose(told.auc, agreement.believed(stated).auc)
    assert np.nanmax(np.abs(told.auc - stated.auc)) > 1e-3
    [survey] = found.values()
    key = jax.random.split(asked.key(0))[1]
    one = predict.foresee(key, survey, asked.designs[2])
    halves = [predict.foresee(key, survey._replace(charts=survey.charts[i : i + 2]), asked.designs[2]) for i in (0, 2)]
    for part, half in zip(one.by_part, halves, strict=True):
        np.testing.assert_allclose(part, half.auc[..., 0], atol=1e-6)

    table = study.forecast_table(asked, told, "a command")
    np.testing.assert_array_equal(table["predicted_by_part"].transpose(*study.BY_PART), stated.by_part)
    older = table.drop_vars("predicted_by_part")
    assert "predicted_by_part" in study.foreseen_again(older, asked, told)

    def never(_):
        raise AssertionError("a design and its variants are not to be compared with what they have in common")

    monkeypatch.setattr(agreement, "believed", never)
    assert "a tenth of the labels wrong" in study.levers(asked, "rotation", "performance", quiet, found)
