"""Dice, rates and AUC read from counts are those of the pixels themselves; intervals are a bootstrap over patients."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from rafmodel import dice, masks, metrics


def cohort_of_pixels(seed=0, n=12, side=9, states=6, separation=1.5):
    """Scores (states, n, side, side) and masks alike; the last image has an empty mask in every state."""
    rng = np.random.default_rng(seed)
    mask = (rng.uniform(size=(states, n, side, side)) < rng.uniform(0.05, 0.5, (1, n, 1, 1))).astype(np.uint8)
    mask[:, -1] = 0
    loss = np.linspace(1, 0.3, states)[:, None, None, None]
    return 4 * (separation * loss * mask + rng.normal(size=mask.shape)), mask


SCORE, MASK = cohort_of_pixels()
PIXELS = np.stack([dice.counts(s, m) for s, m in zip(SCORE, MASK, strict=True)])


def test_counts_hold_every_pixel_in_its_bin():
    edges = dice.edges()
    assert PIXELS.shape == (6, 12, 2, dice.BINS)
    for image, of_class, place in ((0, 1, 70), (3, 0, 60), (11, 0, 64)):
        lower, upper = edges[place], edges[place + 1]
        inside = (SCORE[2, image] >= lower) & (SCORE[2, image] < upper) & (MASK[2, image] == of_class)
        assert PIXELS[2, image, of_class, place] == inside.sum()
    np.testing.assert_array_equal(PIXELS.sum((-1, -2)), 81)
    np.testing.assert_array_equal(PIXELS[..., 1, :].sum(-1), MASK.sum((2, 3)))
    on_edge = dice.counts(edges[None, 1:], np.zeros((1, dice.BINS - 1), np.uint8))[0, 0]
    assert on_edge.tolist() == [0] + [1] * (dice.BINS - 1)  # a bin holds its lower edge
    far = dice.counts(np.full((1, 300, 300), 1e9), np.ones((1, 300, 300), np.uint8))
    assert far[0, 1, -1] == 300**2  # more than fits into 16 bits, and beyond the reach


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_not_counted_as_anything(value):
    score = SCORE[0].copy()
    score[3, 4, :2] = value
    with pytest.raises(FloatingPointError, match="2 of 972 scores"):
        dice.counts(score, MASK[0])


def test_dice_is_sklearns_f1_of_each_image():
    at = 68
    called = dice.edges()[at] <= SCORE
    found = dice.dice(PIXELS, at)
    for state, image in ((0, 0), (0, 4), (3, 7), (5, 10)):
        expected = f1_score(MASK[state, image].ravel(), called[state, image].ravel())
        assert found[state, image] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(found[:, 11]).all()  # an empty mask has no Dice


def test_threshold_is_the_best_of_all():
    means = []
    for edge in dice.edges():
        called = SCORE[0, :11] >= edge
        both = 2 * (called & (MASK[0, :11] == 1)).sum((1, 2)) / (called.sum((1, 2)) + MASK[0, :11].sum((1, 2)))
        means.append(both.mean())
    assert dice.best_threshold(PIXELS[0]) == int(np.argmax(means))
    assert 0 < int(np.argmax(means)) < dice.BINS - 1


def test_auc_of_pixels_is_sklearns():
    for state in range(6):
        expected = roc_auc_score(MASK[state].ravel(), SCORE[state].ravel())
        assert dice.auc(PIXELS[state].sum(0)) == pytest.approx(expected, abs=1e-3)  # pixels of one bin are ties
    assert np.isnan(dice.auc(PIXELS[0, 11]))


def test_outcome_is_by_subgroup_and_leaves_empty_masks_out():
    code = np.array([0] * 5 + [1] * 7)
    found = dice.outcome(PIXELS, 66, code, 2)
    each, called = dice.dice(PIXELS, 66), dice.edges()[66] <= SCORE
    assert found.dice.shape == found.auc.shape == (1, 6, 3)
    for g, who in enumerate([slice(0, 12), slice(0, 5), slice(5, 12)]):
        assert found.dice[0, 2, g] == pytest.approx(np.nanmean(each[2, who]))
        assert found.tpr[0, 3, g] == pytest.approx(called[3, who][MASK[3, who] == 1].mean())
        assert found.fpr[0, 3, g] == pytest.approx(called[3, who][MASK[3, who] == 0].mean())
        pooled = MASK[1, who].ravel(), SCORE[1, who].ravel()
        assert found.auc[0, 1, g] == pytest.approx(roc_auc_score(*pooled), abs=1e-3)
    assert found.n_case.tolist() == [11, 5, 6]
    assert found.n_control.tolist() == [12, 5, 7]


def test_chance_is_the_dice_of_calling_everything_foreground():
    every = np.ones_like(MASK[0, 0])
    expected = np.mean([f1_score(m.ravel(), every.ravel()) for m in MASK[0, :11]])
    assert masks.chance(MASK[0]) == pytest.approx(expected)
    blind = np.stack([dice.counts(np.zeros_like(SCORE[0]), MASK[0])])
    assert np.nanmean(dice.dice(blind[0], dice.best_threshold(blind[0]))) == pytest.approx(expected)


def test_interval_is_a_bootstrap_over_patients_and_images():
    patient, code, chance = np.repeat(np.arange(4), 3).astype(str), np.zeros(12, int), 0.3
    cells = [(PIXELS, 66), (PIXELS[:, ::-1], 66)]
    found = dice.raf_interval(cells, code, 0, patient, 5, chance=chance, n_replicates=60)
    each = [dice.dice(p, t) for p, t in cells]
    robust = []
    for weight in metrics.patient_weights(5, patient, 60):
        rows = np.repeat(np.arange(12), weight.astype(int))
        by_seed = [np.nanmean(one[:, rows], 1) for one in each]
        robust.append(np.mean([np.clip((one[1:] - chance) / (one[0] - chance), 0, 1).mean() for one in by_seed]))
    np.testing.assert_allclose(found["robustness"], np.quantile(robust, [0.025, 0.975]), rtol=1e-6)
    assert found["undefined"].tolist() == [0, 0, 60, 60]  # no subgroups, no fairness


def test_standard_errors_are_those_without_each_patient():
    patient = np.repeat(np.arange(4), 3)
    cells = [(PIXELS, 66), (PIXELS[:, ::-1], 66)]
    found = dice.raf_interval(cells, np.zeros(12, int), 0, patient.astype(str), 5, chance=0.3, n_replicates=10)

    def told(rows):
        return (
            np.mean([np.nanmean(dice.dice(p, t)[2, rows]) for p, t in cells]),
            np.mean([dice.auc(p[2, rows].sum(0)) for p, _ in cells]),
        )

    whole = told(np.arange(12))
    change = np.array([told(np.flatnonzero(patient != one)) for one in range(4)]) - whole
    for i, name in enumerate(("dice", "auc")):
        assert found[f"{name}_se"][0, 2, 0] == pytest.approx(np.sqrt(0.75 * np.square(change[:, i]).sum()), rel=1e-6)
        many = np.square(np.square(change[:, i]).sum()) / (change[:, i] ** 4).sum()
        assert found[f"{name}_df"][0, 2, 0] == pytest.approx(many - 1, rel=1e-6)
