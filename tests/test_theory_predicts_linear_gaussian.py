"""Twins: theory against an independent simulator where everything is exactly solvable, at strong effects.

Images are Gaussian given their class, the encoder is linear, the probe is ridge regression.  The simulator below is plain
numpy and shares nothing with ``rafmodel.theory``; agreement is within four standard errors of its replicates, plus the
finite-size term where one is stated.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm, rankdata

from rafmodel import theory

D = 60


def population(rng, gap=2.2, spread=4.0):
    """Class means (2, d) and one within-class covariance with a spectrum over a decade, in a random basis."""
    turn = np.linalg.qr(rng.normal(size=(D, D)))[0]
    within = turn * np.geomspace(spread, 0.3, D) @ turn.T
    direction = rng.normal(size=D)
    half = gap / 2 * direction / np.linalg.norm(direction)
    return np.stack([-half, half]), within


def moments(mean, cov_control, cov_case=None):
    cov = np.stack([cov_control, cov_control if cov_case is None else cov_case])
    return theory.Moments(jnp.asarray(mean), jnp.asarray(cov), jnp.ones(2))


def probes(rng, mean, cov, n, flip, ridge, draws):
    """Ridge weights (draws, d) from n labels, half of each class, some of them wrong."""
    root, y = np.linalg.cholesky(cov), np.repeat([-1.0, 1.0], n // 2)
    found = np.empty((draws, D))
    for row in range(draws):
        x = rng.normal(size=(n, D)) @ root.T + np.repeat(mean, n // 2, axis=0)
        seen = np.where(rng.random(n) < flip, -y, y)
        found[row] = np.linalg.solve(x.T @ x / n + ridge * np.eye(D), x.T @ seen / n)
    return found


def outcomes(weights, mean, covs):
    """AUC, TPR and FPR at threshold 0 of each probe, exact given its weights, (3, draws)."""
    centre, var = weights @ mean.T, np.stack([np.einsum("ri,ij,rj->r", weights, c, weights) for c in covs], 1)
    area = norm.cdf((centre[:, 1] - centre[:, 0]) / np.sqrt(var.sum(1)))
    return np.stack([area, norm.cdf(centre[:, 1] / var[:, 1] ** 0.5), norm.cdf(centre[:, 0] / var[:, 0] ** 0.5)])


def agree(found, predicted, finite=0.004):
    """Means over probes against theory; ``finite`` is the term of order 1/n of the deterministic equivalent."""
    se = found.std(1) / found.shape[1] ** 0.5
    assert (np.abs(found.mean(1) - np.asarray(predicted)) < 4 * se + finite).all(), (found.mean(1), predicted, se)


@pytest.mark.parametrize(("n", "flip", "ridge"), [(40, 0.0, 0.2), (40, 0.2, 0.2), (300, 0.3, 0.05), (1000, 0.0, 0.5)])
def test_few_labels_flipped_labels_and_a_ridge(n, flip, ridge):
    rng = np.random.default_rng(n)
    mean, cov = population(rng)
    law = theory.probe(moments(mean, cov), n, flip=flip, ridge=ridge)
    found = outcomes(probes(rng, mean, cov, n, flip, ridge, 400), mean, (cov, cov))
    agree(found, theory.deploy(law, moments(mean, cov)))
    assert found[0].mean() > 0.6  # the effect is there to be missed


def test_label_flips_cost_what_theory_says():
    rng = np.random.default_rng(1)
    mean, cov = population(rng)
    source = moments(mean, cov)
    clean, flipped = (theory.deploy(theory.probe(source, 80, flip=flip, ridge=0.1), source)[0] for flip in (0.0, 0.25))
    drawn = [outcomes(probes(rng, mean, cov, 80, flip, 0.1, 300), mean, (cov, cov))[0] for flip in (0.0, 0.25)]
    loss, se = drawn[0].mean() - drawn[1].mean(), np.hypot(*(x.std() for x in drawn)) / 300**0.5
    assert loss > 0.05
    assert abs(loss - float(clean - flipped)) < 4 * se + 0.004


def test_noise_contrast_and_artifact_at_deployment():
    """A probe from clean images meets strong noise, a strong gain, and an artifact that is mostly in controls."""
    rng = np.random.default_rng(2)
    mean, cov = population(rng)
    mean = mean + 0.4 * rng.normal(size=D)[None]  # a gain acts on the common mean too
    centre = mean.mean(0)
    weights = probes(rng, mean - centre, cov, 200, 0.0, 0.1, 200)
    law = theory.probe(moments(mean, cov), 200, flip=0.0, ridge=0.1)
    images = 4000

    def drawn(alter):
        """AUC of each probe on images drawn afresh and altered."""
        root = np.linalg.cholesky(cov)
        label = np.repeat([0, 1], images // 2)
        x = rng.normal(size=(images, D)) @ root.T + mean[label]
        score = (alter(x, label) - centre) @ weights.T
        ranks = rankdata(score, axis=0)
        half = images // 2
        return (ranks[label == 1].sum(0) - half * (half + 1) / 2) / half**2

    noisy = drawn(lambda x, _: x + 1.5 * rng.normal(size=x.shape))
    noisier = [theory.noise_moments(jnp.asarray(m), jnp.asarray(cov), 1.5) for m in mean]
    predicted = theory.deploy(law, theory.Moments(*(jnp.stack(p) for p in zip(*noisier, strict=True)), jnp.ones(2)))[0]
    sampling = 0.5 / (images // 2) ** 0.5  # one set of images for all probes: bound on the s.e. of an AUC
    assert abs(noisy.mean() - float(predicted)) < 4 * np.hypot(noisy.std() / 200**0.5, sampling)

    # moments under a gain, measured: the score is not Gaussian there, so the moments are what theory promises
    x = rng.normal(size=(400_000, D)) @ np.linalg.cholesky(cov).T + mean[1]
    turned = x * np.exp(0.7 * rng.normal(size=(len(x), 1)))
    mu, sigma = theory.contrast_moments(jnp.asarray(mean[1]), jnp.asarray(cov), 0.7)
    for w in np.asarray(law.mean)[None] / np.linalg.norm(law.mean), np.eye(D)[:1]:
        along = turned @ w[0]
        assert abs(along.mean() - float(w[0] @ mu)) < 4 * along.std() / len(x) ** 0.5
        fourth = ((along - along.mean()) ** 2).std() / len(x) ** 0.5
        assert abs(along.var() - float(w[0] @ sigma @ w[0])) < 4 * fourth

    offset = 3 * np.asarray(law.mean) / np.linalg.norm(law.mean)
    share = np.array([0.6, 0.05])  # in most controls: the shortcut points the wrong way
    marked = drawn(lambda x, y: x + (rng.random(len(y)) < share[y])[:, None] * offset)
    w = weights.mean(0)
    base = (mean - centre) @ w
    mixture = theory.auc_mixture(
        jnp.asarray(np.stack([1 - share, share], 1)),
        jnp.asarray(np.stack([base, base + offset @ w], 1)),
        jnp.full((2, 2), w @ cov @ w),
    )
    one = drawn(lambda x, y: x)
    single = ((mean[1] - mean[0]) @ w) / np.sqrt(2 * w @ cov @ w)
    assert norm.cdf(single) - float(mixture) > 0.1
    # the mean probe stands for all here: what it misses is the loss by the probes' spread, measured on clean images
    assert abs(marked.mean() - float(mixture)) < 4 * sampling + abs(one.mean() - norm.cdf(single)) + 0.01


def test_unequal_counts():
    """1 case to 9 controls in 400 features: sensitivity is lost, specificity is not."""
    rng, (n1, n0), delta, d, draws = np.random.default_rng(3), (20, 180), 3.0, 400, 500
    gap = np.full(d, delta / d**0.5)
    case = gap / 2 + rng.normal(size=(draws, d)) / n1**0.5
    control = -gap / 2 + rng.normal(size=(draws, d)) / n0**0.5
    w, centre = case - control, (case + control) / 2
    norms = np.linalg.norm(w, axis=1)
    found = np.stack(
        [
            norm.cdf((w @ gap / 2 - (w * centre).sum(1)) / norms),
            norm.cdf((-w @ gap / 2 - (w * centre).sum(1)) / norms),
            norm.cdf(w @ gap / norms / 2**0.5),
        ]
    )
    tpr, fpr, area = theory.imbalance_rates(delta**2, d, n1, n0)
    agree(found, (tpr, fpr, area), finite=0.01)  # curvature of Φ over draws
    assert float(tpr) < 0.6 < 0.9 < 1 - float(fpr)


def test_subgroups_with_different_shift_are_not_exchanged():
    """One probe, two subgroups: B is noisier and its cases are paler; each gets its own AUC, TPR and FPR."""
    rng = np.random.default_rng(4)
    mean, cov = population(rng)
    weights = probes(rng, mean, cov, 120, 0.1, 0.1, 400)
    law = theory.probe(moments(mean, cov), 120, flip=0.1, ridge=0.1)
    paler = mean * np.array([[1.0], [0.3]])
    noisier = cov + 1.5 * np.eye(D)
    groups = theory.Moments(
        jnp.asarray(np.stack([mean, paler])), jnp.asarray(np.stack([[cov, cov], [noisier, noisier]])), jnp.ones((2, 2))
    )
    predicted = np.asarray(theory.deploy(law, groups))
    agree(outcomes(weights, mean, (cov, cov)), predicted[:, 0])
    agree(outcomes(weights, paler, (noisier, noisier)), predicted[:, 1])
    assert predicted[0, 0] - predicted[0, 1] > 0.1


def test_a_view_law_buys_robustness_and_costs_signal():
    """Linear encoder from drawn view pairs: shrunk directions, then the probe's AUC with and without the shift."""
    rng = np.random.default_rng(5)
    turn = np.linalg.qr(rng.normal(size=(D, D)))[0]
    view = turn * np.where(np.arange(D) < 20, 3.0, 0.02) @ turn.T  # views move twenty directions strongly
    between = turn * np.linspace(0.6, 1.4, D) @ turn.T
    half = turn @ np.where(np.arange(D) < 20, 0.18, 0.16)
    mean = np.stack([-half, half])

    pairs = 40_000
    anatomy = rng.normal(size=(pairs, D)) @ np.linalg.cholesky(between).T
    u, v = (anatomy + rng.normal(size=(pairs, D)) @ np.linalg.cholesky(view).T for _ in range(2))
    drawn = np.linalg.lstsq(u, v, rcond=None)[0]
    stated = np.asarray(theory.predictor(jnp.asarray(between + view), jnp.asarray(between), ridge=0.0))
    ell = np.linspace(0.6, 1.4, D)
    rho = np.asarray(theory.gain(ell, np.where(np.arange(D) < 20, 3.0, 0.02)))
    np.testing.assert_allclose(np.diag(turn.T @ stated @ turn), rho, rtol=1e-9)
    residual = (v - u @ drawn).std(0).max() / pairs**0.5 / 0.6**0.5
    assert (np.abs(np.diag(turn.T @ drawn @ turn) - rho) < 5 * residual).all()  # sixty tests at once
    rho2, _ = theory.operator(*(jnp.asarray(m) for m in (between + view, between, between + view)), ridge=0.0)
    np.testing.assert_allclose(np.sort(rho2), np.sort(rho**2), rtol=1e-9)

    results = {}
    for name, encoder in (("plain", np.eye(D)), ("viewed", drawn)):
        inner, cov = mean @ encoder, encoder.T @ between @ encoder
        scale = np.trace(cov) / D
        shifted = encoder.T @ (between + 3 * view) @ encoder
        weights = probes(rng, inner, cov, 90, 0.0, 0.3 * scale, 400)
        law = theory.probe(moments(inner, cov), 90, flip=0.0, ridge=0.3 * scale)
        for state, covariance in (("clean", cov), ("shifted", shifted)):
            found = outcomes(weights, inner, (covariance, covariance))
            agree(found, theory.deploy(law, moments(inner, covariance)), finite=0.006)
            results[name, state] = found[0].mean()
    assert results["viewed", "shifted"] > results["plain", "shifted"] + 0.05  # what it buys
    assert results["viewed", "clean"] < results["plain", "clean"] - 0.02  # what it costs
