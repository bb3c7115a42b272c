"""The factor phantom: sample moments are the stated ones at a strong effect, and an optimal reader scores as they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from rafmodel import theory
from rafmodel.cohort import fingerprint
from rafmodel.errors import InputError
from rafmodel.factors import factor_moments, factor_phantom

KEY = jax.random.key(3)
STRONG = {"size": 8, "effect": 3.0, "offset": 3.0, "spread": 1.8, "paler": 0.4}


@pytest.fixture(scope="module")
def images():
    return factor_phantom(KEY, n=40_000, **STRONG)


@pytest.fixture(scope="module")
def exact():
    return factor_moments(**STRONG)


def cells(cohort):
    """Subgroup, class and pixels (m, d) of every cell."""
    for g, site in enumerate("AB"):
        for c in (0, 1):
            chosen = (cohort.attributes["site"] == site) & (cohort.label == c)
            yield g, c, cohort.image[chosen].reshape(chosen.sum(), -1).astype(np.float64)


def test_means_and_covariances_are_the_stated_ones(images, exact):
    """Four standard errors of a mean and of a Gaussian covariance; the largest of 64 + 64² of each cell gets 5.5."""
    for g, c, x in cells(images):
        mean, cov, m = exact.mean[g, c], exact.cov[g, c], len(x)
        z = (x.mean(0) - mean) / np.sqrt(np.diag(cov) / m)
        assert np.sqrt((z**2).mean()) < 1.6  # neighbours are alike: few independent ones of the 64
        assert np.abs(z).max() < 5.5
        se = np.sqrt((cov**2 + np.outer(np.diag(cov), np.diag(cov))) / (m - 1))
        z = (np.cov(x.T) - cov) / se
        assert np.sqrt((z**2).mean()) < 1.6
        assert np.abs(z).max() < 5.5


def test_the_effects_are_strong_enough_to_be_missed(exact):
    """In s.e. of the test above: class, subgroup and spread each move the moments by far more than it allows."""
    sd = np.sqrt(np.einsum("gcii->gci", exact.cov))
    assert np.abs(exact.mean[0, 1] - exact.mean[0, 0]).max() > 0.5 * sd.max()
    assert np.abs(exact.mean[1, 0] - exact.mean[0, 0]).max() > 0.3 * sd.max()
    gap = [np.linalg.norm(exact.mean[g, 1] - exact.mean[g, 0]) for g in (0, 1)]
    assert gap[1] == pytest.approx(0.4 * gap[0])
    signal = [np.trace(exact.cov[g, 0]) for g in (0, 1)]
    assert signal[1] > 2 * signal[0]


def test_shares_are_the_stated_ones(images, exact):
    n = len(images.label)
    assert exact.weight.sum() == pytest.approx(1)
    for g, c, x in cells(images):
        p = exact.weight[g, c]
        assert abs(len(x) / n - p) < 4 * np.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("group", [0, 1])
def test_the_best_linear_reader_scores_what_theory_makes_of_the_moments(images, exact, group):
    """Weights Σ⁻¹δ of one subgroup: AUC Φ(Δ/√2), against ranks of the images' scores."""
    delta = exact.mean[group, 1] - exact.mean[group, 0]
    weight = np.linalg.solve(exact.cov[group, 0], delta)
    scores = {c: x @ weight for g, c, x in cells(images) if g == group}
    found = roc_auc_score(np.repeat([0, 1], [len(scores[0]), len(scores[1])]), np.concatenate([scores[0], scores[1]]))
    expected = norm.cdf(np.sqrt(delta @ weight / 2))
    se = np.sqrt(expected * (1 - expected) / min(map(len, scores.values())))  # an upper bound
    assert abs(found - expected) < 4 * se
    spread = weight @ exact.cov[group, 0] @ weight
    assert float(theory.auc(weight @ delta, spread, spread)) == pytest.approx(expected)


def test_moments_are_in_theorys_order(images, exact):
    """The best reader of A meets B, where the class is paler and the factors spread: what theory makes of the moments is seen."""
    moments = theory.Moments(*(jnp.asarray(part) for part in exact[:3]))
    weight = np.linalg.solve(exact.cov[0, 0], exact.mean[0, 1] - exact.mean[0, 0])
    score = moments.mean @ weight
    spread = jnp.einsum("i,gcij,j->gc", weight, moments.cov, weight)
    predicted = np.asarray(theory.auc(score[:, 1] - score[:, 0], spread[:, 1], spread[:, 0]))
    assert predicted[0] > predicted[1] + 0.15
    scores = {(g, c): x @ weight for g, c, x in cells(images)}
    for g in (0, 1):
        truth = np.repeat([0, 1], [len(scores[g, 0]), len(scores[g, 1])])
        found = roc_auc_score(truth, np.concatenate([scores[g, 0], scores[g, 1]]))
        assert abs(found - predicted[g]) < 4 * np.sqrt(predicted[g] * (1 - predicted[g]) / truth.sum())


def test_clipping_is_negligible_and_its_probability_is_stated(images, exact):
    assert 0 < exact.clipped < 1e-8
    inside = (images.image > 0) & (images.image < 1)
    assert inside.all()
    assert images.image.std() > 0.03  # and the range is not left empty either
    for changed in ({"effect": 0.0}, {"noise": 2.0}, {"size": 28}):
        assert factor_moments(**changed).clipped < 1e-8


def test_same_key_same_bytes(images):
    small = [factor_phantom(jax.random.key(k), n=50) for k in (3, 3, 4)]
    assert fingerprint(small[0]) == fingerprint(small[1]) != fingerprint(small[2])
    assert len(set(images.patient)) == len(images.label)


@pytest.mark.parametrize("option", [{"n": 5}, {"size": 2}, {"noise": 0.0}, {"prevalence": 1.0}])
def test_options_outside_their_range(option):
    with pytest.raises(InputError, match="factor_phantom: "):
        factor_phantom(KEY, **option)
