"""Twins: theory of several questions against plain numpy where everything is exactly solvable.

Three Gaussian classes in 40 features, a linear encoder, ridge regression of all questions at once on a few labels, some of them
wrong; deployed on other means and covariances, in unequal numbers.  Agreement is within four standard errors of the replicates,
plus the term of order 1/n of the deterministic equivalent.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from rafmodel import theory, unequal
from rafmodel.asked import Asked
from rafmodel.classes_predict import above, by_stratum, cells, sides

D, K = 40, 3
FINITE = 0.004


def population(seed, apart=2.0):
    """Means (3, d) of unequal distances from each other, and one covariance."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(D, D)))[0]
    cov = turn * np.geomspace(3, 0.3, D) @ turn.T
    mean = apart * np.array([[0.0], [0.6], [1.3]]) * rng.normal(size=(K, D)) / D**0.5
    return mean - mean.mean(0), cov


def ridge(rng, mean, cov, label, asked, flip, penalty):
    """Weights (d, Q) and centre of a ridge with an intercept on one draw of images with these labels, some of them wrong."""
    x = rng.normal(size=(len(label), D)) @ np.linalg.cholesky(cov).T + mean[label]
    wrong = rng.random(len(label)) < flip
    given = np.where(wrong, (label + rng.integers(1, K, len(label))) % K, label)
    y = np.stack([column[given] for column in asked.table.T], 1).astype(float)
    x, y = x - x.mean(0), y - y.mean(0)
    return np.linalg.solve(x.T @ x / len(x) + penalty * np.eye(D), x.T @ y / len(x))


def scored(weights, mean, cov, count, asked):
    """AUC of every question, exact given the weights (d, Q): pairs of classes, weighted by how many images they have."""
    found = []
    for w, yes in zip(weights.T, asked.table.T, strict=True):
        centre, var = mean @ w, np.einsum("i,kij,j->k", w, cov, w)
        pairs = [(i, j) for i in range(K) for j in range(K) if yes[i] and not yes[j]]
        won = [norm.cdf((centre[i] - centre[j]) / np.sqrt(var[i] + var[j])) for i, j in pairs]
        found.append(np.average(won, weights=[count[i] * count[j] for i, j in pairs]))
    return np.array(found)


def foreseen(mean, cov, n, flip, penalty, deployed, count, asked):
    """AUC of every question by the theory, from moments."""
    clean = theory.Moments(jnp.asarray(mean), jnp.broadcast_to(jnp.asarray(cov)[None], (K, D, D)), jnp.ones(K))
    total = theory.total_covariance(clean)
    apart = asked.table - asked.table.mean(0)
    cross = jnp.asarray(mean.T @ apart / K)
    law = unequal.answers(total, unequal.told(cross, jnp.asarray((apart**2).mean(0)), flip, K), n, ridge=penalty)
    means, covs = deployed
    score = jnp.asarray(means) @ law.mean
    fixed = jnp.einsum("iq,kij,jq->kq", law.mean, covs, law.mean)
    spread = jnp.einsum("ij,kij->k", law.spread, covs)
    return np.asarray(
        unequal.ranked(
            score,
            fixed + spread[:, None] * law.noise[None],
            jnp.asarray(count),
            above(asked)[: 2 if asked.kind == "ordinal" else 3],
        )
    )


@pytest.mark.parametrize(
    ("kind", "n", "flip"), [("multi-class", 90, 0.0), ("multi-class", 60, 0.25), ("ordinal", 90, 0.15)]
)
def test_three_classes_are_foreseen_within_four_standard_errors(kind, n, flip):
    asked = Asked(kind, ("a", "b", "c"))
    mean, cov = population(n, apart=3.0)
    rng, draws, penalty = np.random.default_rng(n + 1), 400, 0.1
    noisier = np.stack([cov + 0.5 * np.eye(D), cov, 1.5 * cov])  # where it is deployed
    shrunk, count = 0.8 * mean, np.array([50.0, 200.0, 30.0])
    label = np.arange(n) % K
    found = np.stack(
        [
            scored(ridge(rng, mean, cov, label, asked, flip, penalty), shrunk, noisier, count, asked)
            for _ in range(draws)
        ]
    )
    expected = foreseen(mean, cov, n, flip, penalty, (shrunk, noisier), count, asked)
    se = found.std(0) / draws**0.5
    assert (np.abs(found.mean(0) - expected) < 4 * se + FINITE).all(), (found.mean(0), expected, se)
    assert abs(found.mean() - expected.mean()) < 4 * found.mean(1).std() / draws**0.5 + FINITE
    assert np.ptp(expected) > 0.03  # questions exchanged would be seen
    assert found.mean() > 0.62  # the effect is there to be missed


def test_wrong_labels_and_unequal_classes_matter():
    """What the test above would pass without: flips and the mixture of the rest move the forecast by more than its tolerance."""
    asked = Asked("multi-class", ("a", "b", "c"))
    mean, cov = population(60, apart=3.0)
    same = (mean, np.broadcast_to(cov, (K, D, D)))
    clean = foreseen(mean, cov, 60, 0.0, 0.1, same, np.ones(K), asked)
    assert (clean - foreseen(mean, cov, 60, 0.25, 0.1, same, np.ones(K), asked)).min() > 0.01
    assert np.abs(clean - foreseen(mean, cov, 60, 0.0, 0.1, same, np.array([1.0, 5, 1]), asked)).max() > 0.02
    np.testing.assert_allclose(foreseen(mean, cov, 60, 2 / 3, 0.1, same, np.ones(K), asked), 0.5, atol=1e-6)


def test_one_question_of_two_equal_classes_is_the_probe_of_before():
    mean, cov = population(3)
    mean = mean[:2]
    moments = theory.Moments(jnp.asarray(mean), jnp.broadcast_to(jnp.asarray(cov)[None], (2, D, D)), jnp.ones(2))
    gap = (mean[1] - mean[0])[:, None]
    for classes, flip in ((2, 0.2), (None, 0.2), (2, 0.0)):
        expected = theory.probe(moments, 70, flip=flip, ridge=0.1)
        cross = unequal.told(jnp.asarray(gap) / 4, jnp.array([0.25]), flip, classes)
        law = unequal.answers(theory.total_covariance(moments), cross, 70, ridge=0.1)
        np.testing.assert_allclose(law.mean[:, 0], expected.mean, rtol=1e-9)
        np.testing.assert_allclose(law.spread * law.noise[0], expected.cov, rtol=1e-9, atol=1e-15)
        assert bool(law.valid) == bool(expected.valid)


def test_total_covariance_is_that_of_equally_frequent_classes():
    rng = np.random.default_rng(6)
    x, label = (
        rng.normal(size=(90, 4)) + np.arange(3).repeat(30)[:, None] * np.array([1.0, -2, 0, 3]),
        np.arange(3).repeat(30),
    )
    total = theory.total_covariance(by_stratum(x, label))
    np.testing.assert_allclose(total, np.cov(x.T, bias=True), atol=1e-12)
    more = np.concatenate([x, x[:30]])  # a class twice as frequent changes nothing
    np.testing.assert_allclose(theory.total_covariance(by_stratum(more, np.r_[label, label[:30]])), total, atol=1e-12)


def test_independent_findings_are_wrong_each_on_its_own():
    """Covariance with answers that are wrong at random, measured."""
    rng, n, flip = np.random.default_rng(7), 200_000, 0.2
    answer = rng.random(n) < 0.15
    x = rng.normal(size=(n, 2)) + answer[:, None] * np.array([1.0, -0.5])
    given = answer ^ (rng.random(n) < flip)
    cross = jnp.asarray((x - x.mean(0)).T @ (answer - answer.mean()) / n)[:, None]
    expected = (x - x.mean(0)).T @ (given - given.mean()) / n / given.std()
    found = unequal.told(cross, jnp.array([answer.var()]), flip)[:, 0]
    np.testing.assert_allclose(found, expected, atol=4 / np.sqrt(n))


def test_cells_sides_and_what_is_above_what():
    finding = Asked("multi-label", ("one", "two"), (0, 1, 2, 2))
    np.testing.assert_array_equal(cells(finding, np.array([0, 3])), [[1, 0], [0, 1], [1, 0], [0, 1]])
    no, yes = sides(finding)
    np.testing.assert_array_equal(yes, [[0, 1, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(no, [[1, 0, 0, 0], [0, 0, 1, 0]])
    grades = above(Asked("ordinal", ("a", "b", "c")))
    np.testing.assert_array_equal(grades[0], [[0, 0, 0], [1, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(grades[2], [[0, 0, 0], [1, 0, 0], [1, 1, 0]])  # the sum: concordance
    rest = above(Asked("multi-class", ("a", "b", "c")))
    np.testing.assert_array_equal(rest[1], [[0, 0, 0], [1, 0, 1], [0, 0, 0]])


def test_a_cell_without_images_takes_no_part():
    mean = jnp.array([[0.0], [1.0], [jnp.nan]])
    over = above(Asked("multi-class", ("a", "b", "c")))[:1]
    found = unequal.ranked(-mean, jnp.ones((3, 1)), jnp.array([5.0, 4.0, 0.0]), over)
    np.testing.assert_allclose(found, norm.cdf(1 / np.sqrt(2)))
    assert np.isnan(unequal.ranked(-mean, jnp.ones((3, 1)), jnp.array([5.0, 0.0, 0.0]), over)).all()
