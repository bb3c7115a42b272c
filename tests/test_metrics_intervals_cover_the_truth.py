"""Bootstrap over patients, then images: weights, standard errors and intervals."""

import jax
import numpy as np
import pytest
from scipy.stats import binom, norm, t

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
    assert np.mean(claims) == pytest.approx(truth, abs=4 * se)


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


@pytest.mark.parametrize(("each", "bar"), [(400, 2.36), (3, 3.44)])
def test_subgroups_are_told_apart_by_their_mean_over_cells(each, bar):
    """Three subgroups whose AUCs have s.d. 0.02, over replicates and over patients.

    The largest of three differences needs 2.36 s.d. of 0.028 with 400 patients a subgroup (Tukey), and by Student's t with five
    degrees of freedom 3.44 with three.
    """
    metric = 0.8 + 0.02 * np.random.default_rng(9).normal(size=(4000, 1, 1, 3))
    change = np.kron(np.eye(3), np.ones(each)) * 0.02 / each**0.5 * (2 * each / (2 * each - 1)) ** 0.5
    for factor, expected in ((0.94, False), (1.06, True)):
        gap = factor * bar * 0.02 * 2**0.5 * np.array([0.0, 0.5, 1.0])
        whole = np.broadcast_to(0.8 + gap, (2, 6, 3))
        told = np.broadcast_to(metric + gap, (4000, 2, 6, 3)), whole, whole[..., None] + change
        assert metrics.told_apart(*told, 0.95) is expected
    unknown = [v * np.nan for v in told]
    assert not metrics.told_apart(*unknown, 0.95) and not metrics.told_apart(told[0], whole, unknown[2], 0.95)
    assert not metrics.told_apart(*[v[..., :1, :] if v.ndim > 3 and v.shape[0] < 9 else v[..., :1] for v in told], 0.95)


# ---- without each patient


def test_auc_without_each_patient_is_that_of_the_others():
    rng = np.random.default_rng(11)
    owner, label = rng.integers(0, 9, 80), rng.integers(0, 2, 80)
    label[owner == 4] = 1
    score = np.round(rng.normal(size=(2, 3, 80)) + label, 1)  # many ties
    found = metrics.without_each(score, label, owner, 10)
    for p in range(10):
        rest = owner != p
        np.testing.assert_allclose(found[..., p], metrics.auc(score[..., rest], label[rest]), atol=1e-12)
    np.testing.assert_allclose(found[..., 9], metrics.auc(score, label), atol=1e-12)  # who has no image
    assert np.isnan(metrics.without_each(score[0], (owner == 3).astype(int), owner, 10)[:, 3]).all()
    assert np.isnan(metrics.without_each(np.full(80, np.nan), label, owner, 10)).all()


def test_error_of_a_mean_is_the_textbook_one():
    """s / √n with n - 1 degrees of freedom where all count alike; fewer where one counts most; patients of others do not."""
    x = np.array([-1.0, 1, -1, 1, -1, 1, -1, 1]) + 5
    without = np.append((x.sum() - x) / 7, [x.mean()] * 30)
    error, degrees = metrics.jackknife(np.array(x.mean()), without)
    assert error == pytest.approx(x.std(ddof=1) / 8**0.5) and degrees == pytest.approx(7)
    weight = np.array([9.0, 1, 1, 1])
    y = np.array([1.0, -1, 1, -1])
    whole = weight @ y / weight.sum()
    uneven = np.array([(weight @ y - w * v) / (weight.sum() - w) for w, v in zip(weight, y, strict=True)])
    assert metrics.jackknife(np.array(whole), uneven)[1] < 0.2
    for unknown in ([0.5, 0.5, np.nan], [0.4, 0.5, 0.5], [0.5, 0.5, 0.5]):
        assert np.isnan(metrics.jackknife(np.array(0.5), np.array(unknown))).all()


def test_a_gap_between_equal_subgroups_of_few_patients_is_seldom_sure():
    """One of four patients has most images of a subgroup's cases, and images of one patient are much alike.

    With two standard errors of the bootstrap more than twice as many gaps are sure as should be.
    """
    rng, sure = np.random.default_rng(12), []
    size = np.array([40, 6, 6, 6, 12, 4, 4, 4] + [2] * 24)
    owner, n = np.repeat(np.arange(len(size)), size), len(size)
    case, second = np.array([1] * 4 + [0] * 4 + [0, 1] * 12), np.array([0] * 8 + [1] * 24)
    label, inside = case[owner], [second[owner] == g for g in (0, 1)]
    for i in range(250):
        score = label + rng.normal(size=n)[owner] + 0.2 * rng.normal(size=len(owner))
        weight = metrics.patient_weights(i, owner, 100)
        areas = [metrics.auc(score[m], label[m]) for m in inside]
        own = [metrics.without_each(score[m], label[m], owner[m], n) for m in inside]
        again = [metrics.weighted_auc(score[m], label[m], weight[:, m]) for m in inside]
        gap = np.array(areas[1] - areas[0])
        error, degrees = metrics.jackknife(gap, own[1] - own[0])
        bars = t.ppf(0.975, degrees) * error, 1.96 * np.nanstd(again[1] - again[0], ddof=1)
        sure.append([abs(gap) > bar for bar in bars])
    honest, usual = np.mean(sure, axis=0)
    assert honest < 0.05 + 3 * (0.05 * 0.95 / 250) ** 0.5 < 0.12 < usual, (honest, usual)


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
