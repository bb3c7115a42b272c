"""Pre-training changes the encoder for the better at its task, the probe is ridge regression, a key decides everything."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from rafmodel import cohort, design, labels, pretrain, probes, proxies, simulate, variability
from rafmodel.asked import Asked
from rafmodel.phantoms import phantom

IMAGES = phantom(jax.random.key(0), n_patients=300)
TRAIN, TEST = cohort.part(IMAGES, "train"), cohort.part(IMAGES, "test")
NOISE = (variability.NOISE,)
NOISY = design.Design(
    "supervised+noise", proxies.supervised(((variability.NOISE, 0.3),))
)  # views that are soon compiled


def chosen(name, **changes):
    return replace(design.select([name])[0], **{"steps": 40, "batch": 64} | changes)


def test_ridge_probe_is_sklearns():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 40)
    x = rng.normal(size=(80, 12)) * np.linspace(0.1, 3, 12) + 0.8 * label[:, None]
    score = probes.ridge_probe(x.astype(np.float32), label, 0.05)
    centred = x.astype(np.float32).astype(float)
    centred = centred - (centred[:40].mean(0) + centred[40:].mean(0)) / 2
    penalty = 0.05 * np.trace(centred.T @ centred)  # n times ridge times mean variance, over 12 features
    peer = Ridge(alpha=penalty / 12, fit_intercept=False, solver="svd").fit(centred, 2.0 * label - 1)
    np.testing.assert_allclose(score(x.astype(np.float32)), centred @ peer.coef_, rtol=1e-6, atol=1e-8)


def test_labels_are_balanced_and_flipped_at_the_rate():
    label = np.r_[np.zeros(900, int), np.ones(100, int)]
    rows = labels.drawn(jax.random.key(1), label, (80, 80))
    assert len(set(rows)) == 160
    assert label[rows].sum() == 80
    wrong = labels.flipped(jax.random.key(2), label, 0.3) != label
    assert abs(wrong.mean() - 0.3) < 4 * np.sqrt(0.21 / 1000)
    assert design.n_labels(chosen("untrained"), label) == 200  # the rarer class runs out


@pytest.mark.parametrize(
    "name",
    [
        "supervised",
        "contrastive+noise",
        "vicreg+crop",
        "rotation",
        "jigsaw",
        "masked",
        "cpc",
        "location",
        "exemplar+all",
    ],
)
def test_the_loss_falls(name):
    """Loss of fresh pairs under the trained and the untrained learner that share a start."""
    one = chosen(name, steps=60)
    images, label = jnp.asarray(cohort.pixels(TRAIN)), jnp.asarray(TRAIN.label, jnp.int32)
    start = pretrain.Learner(jax.random.key(3), one, images.shape[1:])
    trained = pretrain.train_on(jax.random.key(4), start, images, label, one)
    inputs, targets = jax.vmap(one.proxy.pairs)(jax.random.split(jax.random.key(5), 128), images[:128], label[:128])
    before, after = (
        float(pretrain._loss(one.proxy, *nnx.split(learner), inputs, targets))
        for learner in (pretrain.Learner(jax.random.key(3), one, images.shape[1:]), trained)
    )
    assert after < before


def test_same_key_same_scores_and_severity_zero_is_clean():
    one = chosen("contrastive+noise", steps=10)
    first, again = (simulate.deploy(jax.random.key(7), IMAGES, TEST, one, NOISE) for _ in range(2))
    assert np.array_equal(first.score, again.score)
    assert first.threshold == again.threshold
    other = simulate.deploy(jax.random.key(8), IMAGES, TEST, one, NOISE)
    assert not np.array_equal(first.score, other.score)
    assert first.score.shape == (1, 6, len(TEST.label))
    two = simulate.deploy(jax.random.key(7), IMAGES, TEST, one, (variability.NOISE, variability.BLUR))
    assert np.array_equal(two.score[0, 0], two.score[1, 0])


def test_outcome_is_sklearns_auc_by_subgroup():
    one = chosen("supervised")
    found = simulate.deploy(jax.random.key(9), IMAGES, TEST, one, NOISE)
    outcome = simulate.score(found, TEST, "site")
    names, code = cohort.groups(TEST, "site")
    for g, member in enumerate([np.ones(len(code), bool), *(code == i for i in range(len(names)))]):
        for level in range(6):
            expected = roc_auc_score(TEST.label[member], found.score[0, level, member])
            assert outcome.auc[0, level, g] == pytest.approx(expected)
        case = member & (TEST.label == 1)
        assert outcome.tpr[0, 3, g] == pytest.approx((found.score[0, 3, case] > found.threshold).mean())
        assert outcome.n_case[g] == case.sum()
    assert outcome.auc[0, 0, 0] > 0.65  # the phantom's class signal is learned


def test_training_is_not_a_no_op():
    one = chosen("supervised")
    before = pretrain.pretrain(jax.random.key(1), TRAIN, replace(one, steps=0))
    after = pretrain.pretrain(jax.random.key(1), TRAIN, one)
    assert float(jnp.abs(before.weights[0][...] - after.weights[0][...]).max()) > 1e-3


def test_the_learning_rate_is_a_tenth_up_and_the_rest_down():
    """By hand, cosines from a 25th of the peak up to it and down to a 250,000th (Smith, Topin 2019, as optax has it)."""
    up, down = (np.cos(np.pi * np.arange(n) / n) for n in (4, 36))
    expected = np.r_[1 / 25 + (1 - 1 / 25) * (1 - up) / 2, 1 / 25e4 + (1 - 1 / 25e4) * (1 + down) / 2]
    np.testing.assert_allclose(pretrain.rates(40, 0.003), 0.003 * expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("supervised", "supervised[steps=7]"),
        ("supervised", "supervised[learning_rate=0.001]"),
        ("supervised", "supervised[n_labelled=32]"),
        ("supervised", "untrained[probe=finetuned]"),
        ("untrained[probe=finetuned]", "untrained[probe=finetuned,n_labelled=32]"),
        ("supervised+noise[strength=0.5]", "supervised+noise[strength=0.5,n_labelled=32]"),
    ],
)
def test_designs_of_one_task_share_a_program(text, other, monkeypatch):
    """Whatever their steps, rates, labels and seeds."""
    monkeypatch.setattr(simulate, "FINE_STEPS", 2)
    monkeypatch.setattr(design, "DESIGNS", (*design.DESIGNS, NOISY))

    def run(text, seed):
        [one] = design.select([text], steps=5)
        simulate.trained(jax.random.key(seed), IMAGES, replace(one, batch=16, widths=(4, 8)))

    run(text, 1)
    compiled = pretrain._steps._cache_size()
    run(other, 2)
    assert pretrain._steps._cache_size() == compiled > 0


def test_what_is_shown_and_what_is_asked_are_compiled_apart():
    """Two tasks on one law share the program that draws their pairs, one task on two laws that of its steps."""

    def compiled(text):
        before = [program._cache_size() for program in pretrain.PROGRAMS]
        [one] = design.select([text], steps=5)
        simulate.trained(jax.random.key(1), IMAGES, replace(one, batch=12, widths=(4, 8)))
        return [program._cache_size() - b for program, b in zip(pretrain.PROGRAMS, before, strict=True)]

    assert compiled("contrastive+crop") == [1, 1]
    assert compiled("vicreg+crop") == [0, 1]
    assert compiled("vicreg+noise") == [1, 0]
    assert compiled("contrastive+noise") == [0, 0]


def test_equal_tasks_are_one():
    made = {one.name: one.proxy for one in (*design.DESIGNS, *design.MORE)}
    for one in design.DESIGNS[1:]:
        assert one.proxy.on(one.proxy.law) is made[one.name]
        assert one.proxy.on(((variability.NOISE, 0.1),)) is one.proxy.on(((variability.NOISE, 0.1),)) is not one.proxy
    assert proxies.untrained() is made["untrained"]
    asked = Asked("multi-class", ("a", "b", "c"))
    assert proxies.supervised((), asked) is made["supervised"].taught(asked) is not made["supervised"]


@pytest.mark.parametrize("patch", [0, 16], ids=["whole", "patches"])
def test_steps_are_those_taken_one_by_one(patch):
    """Each step sees the images that its own key draws, their labels, and pairs made of them by its second key."""
    one, key, stop = chosen("supervised+crop", steps=pretrain.SCAN + 3), jax.random.key(5), pretrain.SCAN + 3
    images, label = jnp.asarray(cohort.pixels(TRAIN)), jnp.asarray(TRAIN.label, jnp.int32)
    shape = (patch, patch, 1) if patch else images.shape[1:]

    def learner():
        return pretrain.Learner(jax.random.key(6), one, shape)

    graph, weights = nnx.split(learner())
    moments, rate = pretrain._OPTIMISER.init(weights), pretrain.rates(stop, one.learning_rate)

    @jax.jit
    def step(i, rate, weights, moments):
        key_rows, key_pairs = jax.random.split(jax.random.fold_in(key, i))
        rows = jax.random.randint(key_rows, (one.batch,), 0, len(label), jnp.int32)
        shown = pretrain._cut(key_rows, images[rows], patch) if patch else images[rows]
        pairs = jax.vmap(one.proxy.pairs)(jax.random.split(key_pairs, one.batch), shown, label[rows])
        slope = jax.grad(lambda w: pretrain._loss(one.proxy, graph, w, *pairs))(weights)
        update, moments = pretrain._OPTIMISER.update(slope, moments, weights)
        return jax.tree.map(lambda w, u: w - rate * u, weights, update), moments

    for i in range(stop):
        weights, moments = step(i, rate[i], weights, moments)
    trained = pretrain.train_on(key, learner(), np.asarray(images), TRAIN.label, one, patch=patch)
    for mine, theirs in zip(jax.tree.leaves(nnx.split(trained)[1]), jax.tree.leaves(weights), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)
