"""Barlow Twins and the slow teacher compute what their papers define, and training that fails is noticed."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rafmodel import cohort as cohorts
from rafmodel import collapse, design, findings, metrics, pretrain, proxies, running, simulate, variability
from rafmodel import study as studies
from rafmodel.phantoms import phantom
from rafmodel.simulate import Deployment

IMAGES = phantom(jax.random.key(0), n_patients=200)
TEST = cohorts.part(IMAGES, "test")


def test_barlow_twins_equals_its_definition():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(40, 5)) @ rng.normal(size=(5, 5))
    two = one + 0.5 * rng.normal(size=one.shape)
    correlation = np.corrcoef(one.T, two.T)[:5, 5:]
    apart = ~np.eye(5, dtype=bool)
    expected = ((1 - np.diag(correlation)) ** 2).sum() + 0.005 * (correlation[apart] ** 2).sum()
    found = float(proxies.barlow_twins(jnp.asarray(one), jnp.asarray(two)))
    assert found == pytest.approx(expected, rel=1e-4)  # 1e-6 is added to the variances


def test_likeness_is_two_minus_twice_the_cosine():
    rng = np.random.default_rng(1)
    one, two = rng.normal(size=(2, 6, 4))
    cosine = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    assert float(proxies.likeness(jnp.asarray(one), jnp.asarray(two))) == pytest.approx((2 - 2 * cosine).mean())


def test_all_tasks_of_two_views_share_one_law_of_pairs():
    law = design.VIEWS["noise"]
    alike = (proxies.contrastive, proxies.decorrelating, proxies.barlow, proxies.self_distillation)
    assert len({task(law).pairs for task in alike}) == 1
    image = jnp.full((12, 12, 1), 0.5, jnp.float32)
    one, two = proxies.self_distillation(((variability.NOISE, 0.1),)).pairs(jax.random.key(0), image, jnp.zeros(()))
    assert not np.array_equal(one, two)
    assert abs(float(one.mean()) - 0.5) < 4 * 0.1 / 12


def test_the_teacher_follows_slowly_and_stops_at_the_end():
    slow, weights = {"w": jnp.zeros(3)}, {"w": jnp.ones(3)}
    np.testing.assert_allclose(pretrain.followed(slow, weights, 0.99, 0.0)["w"], 0.01, rtol=1e-6)
    np.testing.assert_allclose(pretrain.followed(slow, weights, 0.99, 0.5)["w"], 0.005, rtol=1e-6)
    np.testing.assert_allclose(pretrain.followed(slow, weights, 0.99, 1.0)["w"], 0.0, atol=1e-12)
    assert pretrain.followed(None, weights, 0.0, 0.5) is None


def test_no_gradient_reaches_the_teacher_and_the_views_are_exchangeable():
    one = replace(design.select(["byol+noise"])[0], widths=(4, 8), batch=16)
    graph, weights = nnx.split(pretrain.Learner(jax.random.key(0), one, (28, 28, 1)))
    images = jnp.asarray(cohorts.pixels(TEST))[:32]
    first, second = images[:16], images[16:]
    loss, ahead = (
        pretrain._loss(one.proxy, graph, weights, *views, slow)
        for views, slow in (((first, second), weights), ((second, first), weights))
    )
    assert float(loss) == pytest.approx(float(ahead), rel=1e-4)
    slope = jax.grad(lambda slow: pretrain._loss(one.proxy, graph, weights, first, second, slow))(weights)
    assert all(float(jnp.abs(leaf).max()) == 0 for leaf in jax.tree.leaves(slope))
    own = jax.grad(lambda w: pretrain._loss(one.proxy, graph, w, first, second, weights))(weights)
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(own["encoder"]["weights"]))


@pytest.mark.parametrize("name", ["barlow+noise", "byol+noise"])
def test_the_loss_falls_and_features_do_not_collapse(name):
    one = replace(design.select([name])[0], steps=40, batch=64, widths=(8, 16))
    source = cohorts.part(IMAGES, "train")
    images, label = jnp.asarray(cohorts.pixels(source)), jnp.asarray(source.label, jnp.int32)

    def learner():
        return pretrain.Learner(jax.random.key(3), one, images.shape[1:])

    trained = pretrain.train_on(jax.random.key(4), learner(), images, label, one)
    inputs, targets = jax.vmap(one.proxy.pairs)(jax.random.split(jax.random.key(5), 64), images[:64], label[:64])
    before, after = (
        float(pretrain._loss(one.proxy, *nnx.split(each), inputs, targets)) for each in (learner(), trained)
    )
    assert after < before
    found = collapse.health(np.asarray(trained.encoder(images[:128])))
    assert not found.failed
    assert found.rank > 1.2  # a single direction would be dimensional collapse (Jing et al. 2022)


# ---- failures


def test_health_of_known_features():
    rng = np.random.default_rng(0)
    sphere = collapse.health(rng.normal(size=(4000, 6)))
    assert sphere.rank == pytest.approx(6, rel=0.01)
    assert sphere.spread == pytest.approx(1, rel=0.01)
    line = collapse.health(5 + np.outer(rng.normal(size=1000), [3.0, 4.0, 0.0]))
    assert line.rank == pytest.approx(1, abs=1e-6)
    assert line.spread == pytest.approx(np.sqrt(25 / (25 + 75)), rel=0.05)
    assert collapse.health(np.full((9, 3), 2.0)).failed == "collapsed"
    assert collapse.health(np.zeros((9, 3))).failed == "collapsed"
    assert collapse.health(1 + 1e-5 * rng.normal(size=(9, 3))).failed == "collapsed"
    assert collapse.health(np.array([[1.0, np.inf], [0, 1]])).failed == "diverged"
    assert sphere.failed == line.failed == ""


def test_training_that_diverges_is_recorded_and_has_no_score():
    wild = replace(design.select(["supervised"])[0], steps=5, batch=16, widths=(4, 8), learning_rate=np.inf)
    found = simulate.deploy(jax.random.key(0), IMAGES, TEST, wild, (variability.NOISE,))
    assert found.failed == "diverged"
    assert np.isnan(found.score).all()
    assert np.isnan(simulate.score(found, TEST, "site").auc).all()


def test_a_task_whose_best_answer_is_one_point_collapses_and_has_no_score():
    still = proxies.Proxy(
        "still", proxies.contrastive(()).pairs, lambda one, two: (one**2 + two**2).mean(), lambda _: 8, siamese=True
    )
    one = design.Design("still", still, widths=(4, 8), steps=0)
    network = pretrain.pretrain(jax.random.key(0), cohorts.part(IMAGES, "train"), one)
    for weight in network.weights:
        weight[...] = jnp.zeros_like(weight[...])
    found = collapse.health(np.asarray(network(jnp.asarray(cohorts.pixels(TEST))[:20])))
    assert found.failed == "collapsed"
    told = Deployment(
        np.random.default_rng(0).normal(size=(1, 6, len(TEST.label))), 0.0, np.zeros((1, 6, 0)), [], *found
    )
    assert np.isnan(simulate.score(told, TEST, "site").auc).all()


def test_a_study_leaves_a_failed_seed_out_and_says_so():
    plan = studies.Plan(IMAGES, "site", design.select(["untrained", "byol+noise"]), (variability.NOISE,), seeds=2)
    rng = np.random.default_rng(0)
    shape, aside = (1, 6, len(TEST.label)), np.arange(40)
    base = rng.normal(size=shape) + TEST.label

    def cell(spread):
        return Deployment(base + rng.normal(size=shape), 0.5, rng.normal(size=(1, 6, 40)), aside, 3.0, spread)

    rows = [[cell(0.3), cell(0.2)], [cell(0.3), cell(1e-6)]]
    outcome = metrics.Outcome(*(np.full((2, 1, 6, 3), 0.7) for _ in range(3)), np.ones(3), np.ones(3))
    table = studies.assemble(plan, outcome, rows, "a test")
    assert np.isnan(table["observed_auc"].sel(design="byol+noise", seed=1)).all()
    assert np.isnan(table["early_auc"].sel(design="byol+noise", seed=1)).all()
    assert table["observed_auc"].sel(design="byol+noise", seed=0).notnull().all()
    assert table["failed"].values.tolist() == [[0, 0], [0, 1]]
    assert findings.failures(table) == ["byol+noise, seed 1: collapsed, so its outcomes are absent"]
    alone = studies.assemble(replace(plan, seeds=1), outcome, [row[:1] for row in rows], "a test")
    for part in ("performance", "robustness"):  # the interval is that of the seed that is left
        np.testing.assert_array_equal(
            table[f"{part}_observed_interval"].sel(design="byol+noise"),
            alone[f"{part}_observed_interval"].sel(design="byol+noise"),
        )
    assert not np.array_equal(
        table["performance_observed_interval"].sel(design="untrained"),
        alone["performance_observed_interval"].sel(design="untrained"),
    )


def test_names_of_cells_did_not_change_with_the_new_field():
    plan = studies.Plan(IMAGES, "site", design.DESIGNS, (variability.NOISE,))
    one = design.select(["jigsaw"])[0]
    other = replace(one, encoder=design.select(["jigsaw@residual"])[0].encoder)
    assert running.digest(("x", "x"), plan, one, 0) != running.digest(("x", "x"), plan, other, 0)
    with pytest.MonkeyPatch.context() as patch:
        seen = []
        patch.setattr(running.hashlib, "sha256", lambda data: seen.append(data) or __import__("hashlib").blake2b(data))
        patch.setattr(running, "release", lambda more: ("version", "code"))
        running.digest(("x", "x"), plan, one, 0)
    assert b"encoder" not in seen[0]
