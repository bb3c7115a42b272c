"""Early warning: calibration is logistic regression's, expected AUC is brute force's, and the law of the shift is what helps."""

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from rafmodel import early


def scores(rng, n, gap, spread=1.0):
    label = (rng.random(n) < 0.4).astype(int)
    return label, (gap * (label - 0.5) + spread * rng.normal(size=n)).astype(np.float32)


def test_calibration_is_sklearns():
    rng = np.random.default_rng(0)
    label, source = scores(rng, 400, 1.5)
    fresh = rng.normal(size=(3, 50))
    z = (source - source.mean()) / source.std()
    # the penalty is on the mean loss there, and spares the intercept here by being tiny
    model = LogisticRegression(C=1 / (early._RIDGE * 400), tol=1e-10).fit(z[:, None], label)
    expected = model.predict_proba(((fresh - source.mean()) / source.std()).reshape(-1, 1))[:, 1].reshape(fresh.shape)
    np.testing.assert_allclose(early.calibrated(source[None], fresh, label), expected, atol=2e-3)


def test_expected_auc_is_the_mean_over_labels_drawn_from_the_probabilities():
    rng = np.random.default_rng(1)
    score = np.round(rng.normal(size=(2, 60)), 1)  # with ties
    p = 1 / (1 + np.exp(-2 * score))
    label = rng.random((20000, *p.shape)) < p
    n_case = label.sum(-1)
    ranks = (label * rankdata(score, axis=-1)).sum(-1)  # Mann and Whitney 1947
    drawn = (ranks - n_case * (n_case + 1) / 2) / (n_case * (60 - n_case))
    assert drawn[0, 1] == pytest.approx(roc_auc_score(label[0, 1], score[1]))
    mean, se = drawn.mean(0), drawn.std(0) / 20000**0.5
    # a ratio of expectations against the mean of a ratio: they differ by order 1/n, at 60 images less than 0.003
    assert (np.abs(early.expected_auc(score, p) - mean) < 4 * se + 0.003).all()


def test_expected_auc_counts_pairs():
    score, p = np.array([[0.3, 0.1, 0.3, 0.9]]), np.array([[0.5, 0.2, 0.7, 0.9]])
    won = pairs = 0.0
    for i in range(4):
        for j in range(4):
            if i != j:
                weight = p[0, i] * (1 - p[0, j])
                pairs += weight
                won += weight * ((score[0, i] > score[0, j]) + 0.5 * (score[0, i] == score[0, j]))
    assert early.expected_auc(score, p)[0] == pytest.approx(won / pairs)


def test_the_law_of_the_shift_is_what_makes_a_warning():
    """A shift that shrinks the gap and widens the scores looks like confidence to those who do not know it."""
    rng = np.random.default_rng(2)
    label, clean = scores(rng, 4000, 2.0)
    deployed, clean_again = scores(rng, 4000, 2.0)
    hurt, hurt_again = (0.6 * (y - 0.5) + 3 * rng.normal(size=4000) for y in (label, deployed))
    tables = [np.stack([one, *[two] * 5])[None] for one, two in ((clean_again, hurt_again), (clean, hurt))]
    found = early.warn(tables[0], tables[1], label)
    truth = roc_auc_score(deployed, hurt_again)
    assert found["L1"].shape == (1, 6)
    # s.e. of the truth and of the slope of the calibration, both about 0.009
    assert abs(found["L1"][0, 5] - truth) < 4 * 0.013
    assert found["L1"][0, 0] > found["L1"][0, 5] + 0.2
    for name in ("ATC", "DoC", "CBE"):
        assert abs(found[name][0, 5] - truth) > 0.1


def test_the_estimators_by_confidence_are_those_of_their_papers():
    """Garg et al. 2022 and Guillory et al. 2021 over probabilities of scikit-learn; deployed scores are less sure."""
    rng = np.random.default_rng(3)
    label, source = scores(rng, 600, 3.0)
    fresh = 0.4 * rng.normal(size=500)
    model = LogisticRegression(C=1 / (early._RIDGE * 600), tol=1e-10)
    model.fit(((source - source.mean()) / source.std())[:, None], label)
    case, far = (
        model.predict_proba(((x - source.mean()) / source.std())[:, None])[:, 1] for x in (source.astype(float), fresh)
    )
    sure, less, right = np.maximum(case, 1 - case), np.maximum(far, 1 - far), ((case > 0.5) == (label == 1)).mean()
    accuracy = (less >= np.sort(sure)[round((1 - right) * 600)]).mean()
    found = early.warn(np.broadcast_to(fresh, (1, 6, 500)), np.broadcast_to(source, (1, 6, 600)), label)
    clean = roc_auc_score(label, source)
    assert found["DoC"][0, 2] == pytest.approx(clean + less.mean() - sure.mean(), abs=2e-3)
    assert found["ATC"][0, 2] == pytest.approx(clean + accuracy - right, abs=0.01)  # a few images at the threshold
    assert found["DoC"][0, 2] < clean - 0.1
    assert found["ATC"][0, 2] < clean - 0.1


def test_clean_estimates_agree_when_nothing_shifts():
    rng = np.random.default_rng(4)
    label, source = scores(rng, 3000, 1.5)
    other, fresh = scores(rng, 3000, 1.5)
    states = [np.broadcast_to(s, (2, 6, 3000)) for s in (fresh, source)]
    found = early.warn(*states, label)
    for name in early.ESTIMATORS:
        np.testing.assert_allclose(found[name], roc_auc_score(other, fresh), atol=0.04)


def test_too_few_source_images_give_nothing():
    rng = np.random.default_rng(5)
    score = rng.normal(size=(2, 6, 30))
    label = np.repeat([1, 0], [7, 23])
    found = early.warn(score, score, label)
    assert set(found) == set(early.ESTIMATORS)
    assert all(np.isnan(value).all() for value in found.values())
    assert all(np.isnan(v).all() for v in early.warn(score, score[..., :0], label[:0]).values())
