"""Bootstrap over patients, then images: weights, standard errors and intervals."""

import jax
import numpy as np
import pytest
from scipy.stats import binom, norm

from rafmodel import metrics

DOSE = np.arange(6) / 5


def gaussian_scores(
    rng: np.random.Generator, n_patients: int, *, images: int = 1, seeds: int = 1, gap: float = 0.0
) -> dict:
    """Two Gaussians, the distance between them halved at full dose and lower by ``gap`` in the second subgroup.

    Images of one patient differ by little, so that a patient with three images counts for hardly more than one.
    """
    label, code = np.tile([0, 1], n_patients // 2), np.repeat([0, 1], n_patients // 2)
    own = rng.normal(size=n_patients)
    label, code, own = (np.repeat(v, images) for v in (label, code, own))
    distance = (2.0 - gap * code)[None, :] * (1 - DOSE / 2)[:, None]
    noise = 0.1 * rng.normal(size=(seeds, 1, 6, len(own)))
    score = own + label * distance + noise
    patient = np.repeat(np.arange(n_patients), images)
    return {"scores": score, "label": label, "code": code, "n_groups": 2, "patient": patient}


def true_auc(gap: float) -> np.ndarray:
    """AUC (shift, severity, group) of subgroups and of everyone, a mixture of the two, for one shift."""
    distance = np.stack([2.0 - 0 * DOSE, (2.0 - gap) + 0 * DOSE], -1) * (1 - DOSE / 2)[:, None]
    groups = norm.cdf(distance / np.sqrt(2 * 1.01))
    return np.concatenate([groups.mean(-1, keepdims=True), groups], -1)[None]


def test_weights_draw_patients_then_their_images():
    patient = np.repeat(np.arange(40), np.arange(40) % 4 + 1)
    weight = metrics.patient_weights(jax.random.key(0), patient, 400)
    size = np.bincount(patient)
    total = np.stack([weight[:, patient == p].sum(1) for p in range(40)], 1)
    times = total / size
    assert (times == np.round(times)).all()  # a drawn patient brings as many images as he has
    assert (times.sum(1) == 40).all()  # as many patients as there are
    # times is binomial(40, 1/40): over all patients and replicates its variance is 0.975
    se = 0.975 * np.sqrt((2 + 1 / 0.975) / times.size)
    assert times.var() == pytest.approx(binom(40, 1 / 40).var(), abs=4 * se)
    four = np.concatenate([weight[:, patient == p] for p in np.flatnonzero(size == 4)])
    once = four[four.sum(1) == 4]  # of four images, drawn with replacement, some comes twice but for 4! of 4^4
    expected = 1 - 24 / 4**4
    se = np.sqrt(expected * (1 - expected) / len(once))
    assert (once.max(1) > 1).mean() == pytest.approx(expected, abs=4 * se)


def test_weights_follow_the_key():
    patient = np.arange(30)
    one, again = (metrics.patient_weights(jax.random.key(3), patient, 5) for _ in range(2))
    assert (one == again).all()
    assert (one != metrics.patient_weights(jax.random.key(4), patient, 5)).any()
    assert (metrics.patient_weights(7, patient, 5) == metrics.patient_weights(7, patient, 5)).all()


@pytest.mark.parametrize("images", [1, 3])
def test_standard_error_is_the_spread_over_cohorts(images):
    """Against 300 fresh cohorts; three near copies of each patient must not look like three patients."""
    rng = np.random.default_rng(1)
    fresh = [gaussian_scores(rng, 120, images=images) for _ in range(300)]
    areas = np.array([metrics.auc(one["scores"][0, 0, :1], one["label"])[0] for one in fresh])
    claims = [metrics.raf_interval(**one, key=0, n_replicates=200)["auc_se"][0, 0, 0] for one in fresh[:20]]
    truth = areas.std(ddof=1)
    # s.e. of a standard deviation from 300 cohorts, and of a mean claim of 20, each read from its sample
    se = np.hypot(truth / np.sqrt(2 * 300), np.std(claims) / np.sqrt(20))
    # two stages add the spread within a patient once more: a variance of 2 % here (0.1² / 3 against 1, and chance)
    assert np.mean(claims) == pytest.approx(truth, abs=4 * se + 0.02 * truth)


def test_intervals_cover_the_truth():
    """95 % intervals of P, R and F on 100 fresh cohorts, subgroups truly apart."""
    rng, gap = np.random.default_rng(2), 0.8
    truth, inside = metrics.raf(true_auc(gap)), []
    for i in range(100):
        found = metrics.raf_interval(**gaussian_scores(rng, 240, gap=gap), key=i, n_replicates=200)
        inside.append([found[n][0] <= getattr(truth, n) <= found[n][1] for n in metrics.RAF._fields[:4]])
    low, high = binom(100, 0.95).ppf([1e-4, 1 - 1e-4]) / 100
    share = np.mean(inside, axis=0)
    assert (share >= low).all() and (share <= high).all(), dict(zip(metrics.RAF._fields, share, strict=False))


def test_equal_subgroups_may_be_fair():
    """Where subgroups are equal fairness is 1, which sampling error hides; 95 % intervals hold it, and √robustness with it."""
    rng, inside = np.random.default_rng(8), []
    truth = metrics.raf(true_auc(0.0))
    for i in range(100):
        found = metrics.raf_interval(**gaussian_scores(rng, 120), key=i, n_replicates=150)
        inside.append([found[n][0] <= getattr(truth, n) <= found[n][1] for n in ("fairness", "raf")])
        assert found["fairness"][0] < 1
    low, high = binom(100, 0.95).ppf([1e-4, 1 - 1e-4]) / 100
    share = np.mean(inside, axis=0)
    assert truth.fairness == 1 and (share >= low).all() and (share <= high).all(), share


def test_subgroups_are_told_apart_by_their_mean_over_cells():
    """Three subgroups whose AUCs have s.d. 0.02 over replicates; the largest of three differences needs 2.3 s.d. of 0.028."""
    noise = 0.02 * np.random.default_rng(9).normal(size=(2000, 1, 1, 3))
    for gap, expected in ((0.055, False), (0.075, True)):
        metric = np.broadcast_to(0.8 + noise + gap * np.array([0.0, 0.5, 1.0]), (2000, 2, 6, 3))
        assert metrics.told_apart(metric, 0.95) is expected
    assert not metrics.told_apart(metric[..., :1], 0.95) and not metrics.told_apart(metric * np.nan, 0.95)


def test_an_interval_is_of_the_seed_mean():
    """Independent noise in each seed: the interval narrows with more seeds, whose order does not matter."""
    rng = np.random.default_rng(5)
    one = gaussian_scores(rng, 200)
    noisy = one["scores"] + 2.5 * rng.normal(size=(12, 1, 6, 200))
    several = metrics.raf_interval(**{**one, "scores": noisy}, key=0)
    turned = metrics.raf_interval(**{**one, "scores": noisy[::-1]}, key=0)
    alone = metrics.raf_interval(**{**one, "scores": noisy[:1]}, key=0)
    assert np.ptp(several["performance"]) < 0.75 * np.ptp(alone["performance"])
    np.testing.assert_allclose(several["raf"], turned["raf"], atol=1e-12)
    assert several["auc_se"][0, 0, 0] < 0.75 * alone["auc_se"][0, 0, 0]


def test_a_wider_level_holds_the_narrower_one_and_clean_is_shared():
    one = gaussian_scores(np.random.default_rng(6), 100)
    one["scores"] = np.concatenate([one["scores"], one["scores"] + one["label"] * DOSE[:, None]], 1)
    wide, narrow = (metrics.raf_interval(**one, key=1, level=level) for level in (0.95, 0.5))
    for name in metrics.RAF._fields[:4]:
        assert wide[name][0] < narrow[name][0] < narrow[name][1] < wide[name][1]
    assert wide["auc_se"].shape == (2, 6, 3) and (wide["auc_se"][0, 0] == wide["auc_se"][1, 0]).all()


def test_replicates_without_a_value_are_left_out_and_counted():
    one = gaussian_scores(np.random.default_rng(7), 60)
    one["code"] = np.where(np.arange(60) < 3, 1, 0)  # two controls and a case: often a class is not drawn
    found = metrics.raf_interval(**one, key=0, n_replicates=300)
    # P(no case or no control of three drawn) = 1 - (1 - e^-1)(1 - e^-2) = 0.453
    assert found["undefined"].tolist()[:2] == [0, 0] and found["undefined"][2] > 0.3 * 300
    assert np.isfinite(found["auc_se"][..., :2]).all()
    one["n_groups"], one["code"] = 0, np.full(60, -1)
    bare = metrics.raf_interval(**one, key=0, n_replicates=50)
    assert np.isnan(bare["fairness"]).all() and np.isnan(bare["raf"]).all() and bare["undefined"][2] == 50
    assert np.isfinite(bare["robustness"]).all() and bare["auc_se"].shape == (1, 6, 1)
