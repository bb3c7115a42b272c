"""AUC, TPR and FPR agree with scikit-learn and with counting pairs, ties and weights included."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

from rafmodel import metrics

EXACT = 1e-12  # both sides are sums of a few hundred products in double precision


def scored(seed: int, n: int, *, tied: bool) -> tuple[np.ndarray, np.ndarray]:
    """Scores of weak but clear signal, rounded to a few values where ties are wanted, and labels of both classes."""
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.35).astype(int)
    label[:2] = 0, 1
    score = rng.normal(size=n) + 0.8 * label
    return np.round(score) if tied else score, label


def pairs_won(score: np.ndarray, label: np.ndarray) -> float:
    """The definition, pair by pair."""
    duels = [(a > b) + 0.5 * (a == b) for a in score[label == 1] for b in score[label == 0]]
    return float(np.mean(duels))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("n", [2, 7, 60, 400])
def test_auc_is_scikit_learns_and_the_share_of_pairs_won(n, tied):
    score, label = scored(n, n, tied=tied)
    expected = roc_auc_score(label, score)
    assert metrics.auc(score, label) == pytest.approx(expected, abs=EXACT)
    assert metrics.auc(score, label) == pytest.approx(pairs_won(score, label), abs=EXACT)


@pytest.mark.parametrize("tied", [False, True])
def test_weighted_auc_is_scikit_learns(tied):
    score, label = scored(1, 300, tied=tied)
    weight = np.random.default_rng(2).gamma(0.5, size=300)
    expected = roc_auc_score(label, score, sample_weight=weight)
    assert abs(expected - roc_auc_score(label, score)) > 0.005  # the weights matter here
    assert metrics.auc(score, label, weight) == pytest.approx(expected, abs=EXACT)


def test_a_weight_is_a_number_of_copies():
    score, label = scored(3, 80, tied=True)
    weight = np.random.default_rng(4).integers(0, 4, 80)
    copies = np.repeat(np.arange(80), weight)
    expected = roc_auc_score(label[copies], score[copies])
    assert metrics.auc(score, label, weight) == pytest.approx(expected, abs=EXACT)


def test_leading_axes_and_rows_of_weights_are_independent():
    rng = np.random.default_rng(5)
    _, label = scored(5, 90, tied=False)
    scores, weights = np.round(rng.normal(size=(2, 3, 90)), 1), rng.integers(0, 3, (4, 90))
    found = metrics.weighted_auc(scores, label, weights)
    assert found.shape == (4, 2, 3)
    for b, i, j in np.ndindex(4, 2, 3):
        expected = roc_auc_score(label, scores[i, j], sample_weight=weights[b])
        assert found[b, i, j] == pytest.approx(expected, abs=EXACT)
    assert metrics.auc(scores, label)[1, 2] == pytest.approx(roc_auc_score(label, scores[1, 2]), abs=EXACT)


@pytest.mark.parametrize("only", [0, 1])
def test_without_one_class_there_is_no_auc(only):
    assert np.isnan(metrics.auc(np.arange(5.0), np.full(5, only)))
    assert np.isnan(metrics.auc(np.zeros((2, 3, 0)), np.zeros(0, int))).all()
    weight = np.array([[1, 1, 0, 0], [1, 1, 1, 1]])
    found = metrics.weighted_auc(np.array([0.0, 1, 2, 3]), np.array([0, 0, 1, 1]), weight)
    assert np.isnan(found[0]) and found[1] == 1


def test_a_score_that_is_nan_leaves_no_auc_rather_than_a_loss():
    score, label = scored(6, 40, tied=False)
    broken = np.stack([score, score])
    broken[1, np.flatnonzero(label == 1)[0]] = np.nan
    assert np.isfinite(metrics.auc(broken, label)).tolist() == [True, False]
    tpr, fpr = metrics.rates(broken, label, 0.0)
    assert np.isfinite(tpr).tolist() == [True, False] and np.isfinite(fpr).all()


def test_infinite_scores_have_ranks():
    assert metrics.auc(np.array([-np.inf, 0.0, np.inf]), np.array([0, 0, 1])) == 1
    assert metrics.auc(np.array([-np.inf, -np.inf, np.inf]), np.array([0, 1, 1])) == 0.75


def test_rates_are_those_of_the_confusion_matrix():
    score, label = scored(7, 200, tied=True)  # scores equal to the threshold occur, and are not above it
    tn, fp, fn, tp = confusion_matrix(label, score > 1).ravel()
    tpr, fpr = metrics.rates(score, label, 1.0)
    assert (tpr, fpr) == (tp / (tp + fn), fp / (fp + tn)) and tpr > fpr + 0.1


def test_an_outcome_is_scored_subgroup_by_subgroup():
    rng = np.random.default_rng(8)
    n, code = 240, np.repeat([0, 1, 2], [120, 90, 30])
    label = (rng.random(n) < 0.4).astype(int)
    label[code == 2] = 1  # a subgroup without controls
    score = rng.normal(size=(2, 6, n)) + label * np.linspace(2, 0.2, 6)[None, :, None] * (1 + code)
    score[:, 0] = score[0, 0]  # clean is clean, whatever the shift
    found = metrics.outcome(score, label, code, 3, threshold=0.3)
    assert found.auc.shape == found.tpr.shape == found.fpr.shape == (2, 6, 4)
    for f, s, g in np.ndindex(2, 6, 4):
        member = np.ones(n, bool) if g == 0 else code == g - 1
        one, above = score[f, s, member], score[f, s, member] > 0.3
        own = label[member]
        assert found.tpr[f, s, g] == pytest.approx(above[own == 1].mean(), abs=EXACT)
        if g == 3:
            assert np.isnan(found.auc[f, s, g]) and np.isnan(found.fpr[f, s, g])
            continue
        assert found.auc[f, s, g] == pytest.approx(roc_auc_score(own, one), abs=EXACT)
        assert found.fpr[f, s, g] == pytest.approx(above[own == 0].mean(), abs=EXACT)
    assert found.n_case.tolist() == [label.sum(), *(label[code == g].sum() for g in range(3))]
    assert found.n_control.tolist() == [(1 - label).sum(), *((1 - label)[code == g].sum() for g in range(3))]
