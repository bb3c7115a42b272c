"""A segmentation is trained, deployed and scored as it says, and theory foresees it from the source without training."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.linear_model import Ridge

from rafmodel import cohort, design, dice, masks, segment, segment_predict, theory, variability
from rafmodel.encoder import dense_features
from rafmodel.masks import Segmentation
from rafmodel.phantoms import phantom
from rafmodel.variability import alter

IMAGES, TASK = masks.segmented(phantom(jax.random.key(0), n_patients=160, lesion=0.9))
TEST = cohort.part(IMAGES, "test")
NOISE = (variability.NOISE,)
[UNTRAINED] = design.select(["untrained"])
UNTRAINED = replace(UNTRAINED, widths=(8, 16), n_labelled=64)


@pytest.fixture(scope="module")
def deployed():
    return segment.deploy(jax.random.key(1), IMAGES, TEST, UNTRAINED, NOISE, task=TASK)


def test_the_probe_is_sklearns_weighted_ridge():
    rng = np.random.default_rng(0)
    label = np.r_[np.ones(30, int), np.zeros(90, int)]
    x = rng.normal(size=(120, 6)) * np.linspace(0.2, 2, 6) + 0.7 * label[:, None]
    weight, centre = segment.ridge(x, label, 0.1)
    np.testing.assert_allclose(centre, (x[:30].mean(0) + x[30:].mean(0)) / 2)
    each = np.where(label == 1, 1 / 60, 1 / 180)
    second = (x - centre).T @ ((x - centre) * each[:, None])
    peer = Ridge(alpha=0.1 * np.trace(second) / 6, fit_intercept=False, solver="cholesky")
    peer.fit(x - centre, 2.0 * label - 1, sample_weight=each)
    np.testing.assert_allclose(weight, peer.coef_, rtol=1e-6)


def test_counts_are_those_of_the_scores_and_a_key_decides_them(deployed):
    again = segment.deploy(jax.random.key(1), IMAGES, TEST, UNTRAINED, NOISE, task=TASK)
    np.testing.assert_array_equal(deployed.pixels, again.pixels)
    assert deployed.threshold == again.threshold
    network, head, labelled, _ = segment.trained(jax.random.key(1), IMAGES, UNTRAINED, TASK)
    assert len(labelled.label) == 64
    assert set(labelled.split) == {"train"}
    images = cohort.pixels(TEST)
    by_hand = dense_features(network, images) @ np.concatenate(head.merge) + np.asarray(head.offset)
    score = segment.score_maps(network, head, images)
    np.testing.assert_allclose(score, by_hand[..., 0], rtol=1e-3, atol=1e-4)
    # the counts know the scores' order only, so the AUC and the Dice at the best threshold must be theirs
    order = [dice.auc(p.sum(0)) for p in (dice.counts(8 * score, TEST.mask), deployed.pixels[0])]
    assert order[0] == pytest.approx(order[1], abs=2e-3)
    _, _, key_shift = jax.random.split(jax.random.key(1), 3)
    key = jax.random.fold_in(jax.random.fold_in(key_shift, 0), 0)
    altered = alter(key, NOISE[0], jnp.asarray(images), jnp.asarray(NOISE[0].levels, jnp.float32))[2]
    score = segment.score_maps(network, head, altered)
    assert dice.auc(deployed.pixels[3].sum(0)) == pytest.approx(
        dice.auc(dice.counts(8 * score, TEST.mask).sum(0)), abs=2e-3
    )


def test_the_threshold_comes_from_validation_images(deployed):
    blind = replace(IMAGES, mask=np.where((IMAGES.split == "test")[:, None, None], 0, IMAGES.mask).astype(np.uint8))
    other = segment.deploy(jax.random.key(1), blind, TEST, UNTRAINED, NOISE, task=TASK)
    assert other.threshold == deployed.threshold
    np.testing.assert_array_equal(other.pixels, deployed.pixels)


def test_test_images_move_no_threshold(deployed):
    inverted = replace(TEST, image=1 - np.asarray(TEST.image))
    other = segment.deploy(jax.random.key(1), IMAGES, inverted, UNTRAINED, NOISE, task=TASK)
    assert other.threshold == deployed.threshold
    assert (other.pixels != deployed.pixels).any()


def test_the_probe_s_zero_lies_half_way_between_the_classes():
    """Drawn anew from the same labelled images, pixels of both classes score on average as far above zero as below."""
    keys = jax.random.split(jax.random.key(2), 4)
    network, _, labelled, _ = segment.trained(keys[0], IMAGES, UNTRAINED, TASK)
    head = segment.probe(keys[1], keys[2], network, labelled, UNTRAINED)
    score = np.asarray(segment.score_maps(network, head, cohort.pixels(labelled)))
    means = [score[labelled.mask == c].mean() for c in (1, 0)]
    assert means[0] > 0 > means[1]
    assert abs(sum(means)) < 0.1 * (means[0] - means[1])


def test_outcome_is_better_than_chance_and_noise_hurts(deployed):
    found = segment.score(deployed, TEST, "site")
    assert found.dice.shape == (1, 6, 3)
    assert found.dice[0, 0, 0] > TASK.chance + 0.1
    assert found.dice[0, 5, 0] < found.dice[0, 0, 0] - 0.1
    assert found.n_case[0] == (TEST.mask.reshape(len(TEST.mask), -1).max(1) > 0).sum()
    lost = segment.score(deployed._replace(spread=np.nan), TEST, "site")
    assert np.isnan(lost.dice).all()
    assert np.isnan(lost.auc).all()


def test_wrong_pixels_cost_dice(deployed):
    noisy = replace(UNTRAINED, label_flip=0.5)
    found = segment.score(segment.deploy(jax.random.key(1), IMAGES, TEST, noisy, NOISE, task=TASK), TEST, None)
    assert found.dice[0, 0, 0] < segment.score(deployed, TEST, None).dice[0, 0, 0] - 0.05


@pytest.mark.exhaustive
def test_decoders_learn_and_only_tuning_moves_the_encoder(deployed):
    [one] = design.select(["untrained"])
    clean = {}
    for head in masks.HEADS:
        task = Segmentation(head=head, chance=TASK.chance)
        network, *_ = segment.trained(jax.random.key(1), IMAGES, one, task)
        if head == "probe":
            before = [np.asarray(w[...]) for w in network.weights]
        moved = max(np.abs(np.asarray(w[...]) - b).max() for w, b in zip(network.weights, before, strict=True))
        assert (moved > 1e-3) == (head == "tuned")
        found = segment.deploy(jax.random.key(1), IMAGES, TEST, one, (), task=task)
        each = dice.dice(found.pixels[0], int(found.threshold))
        clean[head] = np.nanmean(each)
    assert clean["decoder"] > clean["probe"]
    assert clean["tuned"] > clean["probe"]


@pytest.mark.parametrize("head", ["decoder", "tuned"])
def test_a_head_that_diverges_is_recorded_as_diverged(head, monkeypatch):
    task = Segmentation(head=head, chance=TASK.chance)
    few = replace(UNTRAINED, widths=(4,), n_labelled=16)
    monkeypatch.setattr(segment, "STEPS", 10)
    segment._steps.clear_cache()
    sound = segment.trained(jax.random.key(1), IMAGES, few, task)
    assert not sound.health.failed
    monkeypatch.setattr(segment, "RATE", np.inf)
    segment._steps.clear_cache()
    try:
        found = segment.deploy(jax.random.key(1), IMAGES, TEST, few, NOISE, task=task)
    finally:
        segment._steps.clear_cache()
    assert found.failed == "diverged"
    assert not found.pixels.any()
    assert np.isnan(segment.score(found, TEST, "site").dice).all()


def test_training_ended_well_where_weights_and_scores_are_finite():
    network, head, labelled, health = segment.trained(jax.random.key(1), IMAGES, UNTRAINED, TASK)
    images = cohort.pixels(labelled)
    assert segment.ended(network, head, images) == health
    assert not health.failed
    lost = head._replace(offset=jnp.full_like(head.offset, np.nan))
    beyond = head._replace(merge=tuple(jnp.full_like(w, 3e38) for w in head.merge))  # finite, but no score is
    assert np.isfinite(beyond.merge[0]).all()
    for wrong in (lost, beyond):
        assert segment.ended(network, wrong, images).failed == "diverged"


def test_a_tuned_encoder_is_judged_by_the_features_it_was_left_with(monkeypatch):
    task, few = Segmentation(head="tuned", chance=TASK.chance), replace(UNTRAINED, widths=(4,), n_labelled=16)
    monkeypatch.setattr(segment, "decoder", lambda key, flip, network, *_, tune: (_flat(network), HEAD))
    assert segment.trained(jax.random.key(1), IMAGES, few, task).health.failed == "collapsed"


HEAD = segment.untrained_head(jax.random.key(0), [4], 2)


def _flat(network):
    """The network with no weight but zero, whose features are all alike."""
    graph, state = nnx.split(network)
    return nnx.merge(graph, jax.tree.map(jnp.zeros_like, state))


# ---- theory


@pytest.fixture(scope="module")
def surveyed():
    return segment_predict.survey(jax.random.key(2), IMAGES, TEST, (8, 16), NOISE, group="site")


def test_theory_foresees_the_untrained_encoder(surveyed, deployed):
    found, seen = segment_predict.foresee(jax.random.key(3), surveyed, UNTRAINED), segment.score(deployed, TEST, "site")
    assert found.dice.shape == seen.dice.shape
    # one draw of weights and 32 test images on the one side, two draws on the other: s.d. of the difference about 0.05
    assert np.abs(found.dice - seen.dice)[0, :, 0].max() < 0.15
    assert np.abs(found.auc - seen.auc)[0, :, 0].max() < 0.12
    assert found.dice[0, 5, 0] < found.dice[0, 0, 0] - 0.1
    np.testing.assert_array_equal(found.n_case, seen.n_case)
    np.testing.assert_array_equal(found.n_control, seen.n_control)


def test_theory_reads_no_test_image(surveyed):
    """Nor the masks' places: only which test images have any of the structure."""
    test = replace(TEST, image=np.zeros_like(TEST.image), mask=TEST.mask[:, ::-1])
    again = segment_predict.survey(jax.random.key(2), IMAGES, test, (8, 16), NOISE, group="site")
    first, second = (segment_predict.foresee(jax.random.key(3), s, UNTRAINED) for s in (surveyed, again))
    np.testing.assert_array_equal(first.dice, second.dice)
    np.testing.assert_array_equal(first.n_case, second.n_case)


def test_rates_are_those_of_gaussian_pixels_at_the_best_threshold():
    """Pixels drawn from the moments, scored by the mean probe of many labels, against what theory states."""
    rng = np.random.default_rng(0)
    d, share = 5, np.array([0.05, 0.2])
    mean = np.stack([np.zeros(d), 0.9 * np.arange(1, d + 1) / d])
    root = rng.normal(size=(2, d, d)) / np.sqrt(d)
    cov = root @ root.transpose(0, 2, 1) + 0.3 * np.eye(d)
    clean = theory.Moments(jnp.asarray(mean), jnp.asarray(cov), jnp.ones(2))
    shifted = theory.Moments(jnp.asarray(mean * 0.5)[None], jnp.asarray(cov * 1.5)[None], jnp.ones((1, 2)))
    _, tpr, fpr = segment_predict._rates(jnp.eye(d), clean, shifted, jnp.asarray(share), 1e6, 0.0, 1e-6, d)
    total = (cov[0] + cov[1]) / 2 + np.outer(mean[1] - mean[0], mean[1] - mean[0]) / 4
    weight = np.linalg.solve(total, (mean[1] - mean[0]) / 2)
    score = [rng.multivariate_normal(m, c, 200_000) @ weight for m, c in zip(mean, cov, strict=True)]
    places = np.quantile(score[0], np.linspace(0.3, 0.999, 400))
    rates = [(np.searchsorted(np.sort(s), places) / len(s)) for s in score]
    overlap = [2 * q * (1 - rates[1]) / (q * (1 - rates[1]) + (1 - q) * (1 - rates[0]) + q) for q in share]
    best = places[np.argmax(np.mean(overlap, 0))]
    score = [rng.multivariate_normal(0.5 * m, 1.5 * c, 200_000) @ weight for m, c in zip(mean, cov, strict=True)]
    expected = [(s > best).mean() for s in score]
    # the optimum is flat: its place is known to about a fiftieth of the score's s.d.
    np.testing.assert_allclose([fpr[0], tpr[0]], expected, atol=0.02)


def test_pixels_of_an_image_are_worth_their_design_effect():
    """Variance of a mean of equicorrelated pixels, by simulation: that of ``effective`` independent ones."""
    rng = np.random.default_rng(1)
    alike, each, n_images = 0.3, 16, 10
    own, common = rng.normal(size=(4000, n_images, each)), rng.normal(size=(4000, n_images, 1))
    pixels = np.sqrt(1 - alike) * own + np.sqrt(alike) * common
    variance = pixels.mean((1, 2)).var()
    assert 1 / variance == pytest.approx(segment_predict.effective(n_images, each, alike), rel=4 * np.sqrt(2 / 4000))
    label = np.tile(np.r_[np.ones(8, int), np.zeros(8, int)], (500, 1))
    x = np.sqrt(1 - alike) * rng.normal(size=(500, 16, 30)) + np.sqrt(alike) * rng.normal(size=(500, 1, 30))
    assert segment_predict._alike(x, label) == pytest.approx(alike, abs=0.02)
