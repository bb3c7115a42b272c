"""Simulate a learning design: pre-train its encoder, fit the probe, deploy under every shift, score."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from rafmodel import cohort as cohorts
from rafmodel import metrics
from rafmodel.cohort import Cohort
from rafmodel.collapse import FAILED, Health, health
from rafmodel.design import Design, check
from rafmodel.encoder import Network, features
from rafmodel.labels import Lesson, lesson
from rafmodel.metrics import Outcome
from rafmodel.probes import Probe, logistic, logistic_probe, ridge_probe
from rafmodel.proxies import Proxy, supervised
from rafmodel.variability import Variability, alter

SCAN = 25  # optimiser steps per compiled call
IMAGES, PIXELS = 256, 2**22  # most images altered at a time, and most pixels of them
FINE_STEPS, FINE_RATE = 100, 0.1  # of fine-tuning: optimiser steps, and share of the learning rate of pre-training
UNSEEN = 256  # most source images kept aside to be scored with the test part


class Deployment(NamedTuple):
    """Scores of every test image under every shift, and of source images that the probe never saw.

    score         (shift, severity 0-5, n); severity 0 is clean
    threshold     score above which an image is called a case, set on the source's validation part
    source_score  (shift, severity 0-5, m) of the unseen source images under the same laws, drawn anew
    source_row    (m,) their rows in the source cohort
    rank, spread  of the trained features of the labelled images, see ``collapse.Health``
    error         what was raised in place of a result, in one line; then nothing is known
    """

    score: np.ndarray
    threshold: float
    source_score: np.ndarray
    source_row: np.ndarray
    rank: float
    spread: float
    error: str = ""

    @property
    def failed(self) -> str:
        """``diverged``, ``collapsed``, ``error``, or '' where training ended well."""
        return FAILED[3] if self.error else Health(self.rank, self.spread).failed


def simulate(
    key: Array,
    train: Cohort,
    test: Cohort,
    design: Design,
    shifts: Sequence[Variability],
    *,
    group: str | None = None,
) -> Outcome:
    """AUC, TPR and FPR of a trained design under every shift, by subgroup, measured.

    train  cohort with the parts ``train`` (images, labels) and, for the threshold, ``val``
    test   cohort to deploy on
    Arrays of the outcome are (shift, severity 0-5, group); group 0 is everyone.
    """
    return score(deploy(key, train, test, design, shifts), test, group)


def score(deployment: Deployment, test: Cohort, group: str | None) -> Outcome:
    """Scores reduced to AUC, TPR and FPR by subgroup; nan where training diverged or collapsed."""
    names, code = cohorts.groups(test, group)
    scores = np.full_like(deployment.score, np.nan) if deployment.failed else deployment.score
    return metrics.outcome(scores, test.label, code, len(names), deployment.threshold)


def deploy(key: Array, train: Cohort, test: Cohort, design: Design, shifts: Sequence[Variability]) -> Deployment:
    """Train the design with ``key`` and score ``test`` under every shift.

    The draws of the deployment shifts, the labelled images and the untrained weights depend on ``key`` only,
    so designs that share a key are compared on the same images from the same start.
    """
    key_label, _, key_shift = jax.random.split(key, 3)
    network, probe, labelled, found = trained(key, train, design)
    aside = unseen(jax.random.fold_in(key_label, 2), train, labelled)
    if found.failed == FAILED[2]:
        nothing = (np.full((len(shifts), 6, n), np.nan, np.float32) for n in (len(test.label), len(aside)))
        return Deployment(next(nothing), np.nan, next(nothing), aside, *found)
    score = scores_under(key_shift, network, probe, cohorts.pixels(test), shifts)
    again = cohorts.pixels(cohorts.take(train, aside))
    source_score = scores_under(jax.random.fold_in(key_shift, len(shifts)), network, probe, again, shifts)
    return Deployment(score, midpoint(network, probe, train, labelled), source_score, aside, *found)


class Trained(NamedTuple):
    """A trained design: encoder, linear probe (features -> scores), the labelled images it saw, and how training ended."""

    network: Network
    probe: Probe
    labelled: Cohort
    health: Health


def trained(key: Array, train: Cohort, design: Design) -> Trained:
    """The design's encoder and probe after training with ``key``; where training diverged the probe says nan."""
    key_label, key_train, _ = jax.random.split(key, 3)
    check(design, train.image.shape[1:])
    learned = lesson(key_label, cohorts.part(train, "train"), design)
    network = pretrain(key_train, shown(key_label, train, learned, design), design)
    if design.probe == "finetuned" and sound(network):
        network, probe = finetuned(jax.random.fold_in(key_train, 1), network, learned.learned, design)
    encoded = features(network, cohorts.pixels(learned.cohort))
    found = health(encoded) if sound(network) else Health(np.nan, np.nan)
    if found.failed == FAILED[2]:
        return Trained(network, lambda z: np.full(len(z), np.nan), learned.cohort, found)
    if design.probe != "finetuned":
        fit = logistic_probe if design.probe == "logistic" else ridge_probe
        probe = fit(encoded[learned.row], learned.label[learned.row], design.ridge, learned.weight)
    return Trained(network, probe, learned.cohort, found)


def shown(key: Array, train: Cohort, learned: Lesson, design: Design) -> Cohort:
    """What the proxy task sees: training images, of another cohort if the design says so; of a supervised task labelled ones."""
    if design.pretrain_on is None:
        return learned.learned if design.proxy.labelled else cohorts.part(train, "train")
    there = cohorts.part(design.pretrain_on, "train")
    right = replace(
        design, label_flip=0.0, flip_case=None, flip_control=None, flip_in="", weighting="none", resampling="none"
    )
    return lesson(key, there, right).learned if design.proxy.labelled else there


def finetuned(key: Array, network: Network, learned: Cohort, design: Design) -> tuple[Network, Probe]:
    """Encoder and head trained on with labels, from the head of a logistic probe.  Kumar et al. 2022 (LP-FT).

    FINE_STEPS at FINE_RATE of the design's learning rate, on images as they are.
    """
    task = replace(design, proxy=supervised(()), steps=FINE_STEPS, learning_rate=FINE_RATE * design.learning_rate)
    slope, offset = logistic(features(network, cohorts.pixels(learned)), learned.label, design.ridge)
    learner = Learner(key, task, learned.image.shape[1:])
    learner.encoder = network
    signs = jnp.array([-0.5, 0.5], jnp.float32)
    head = {"kernel": jnp.asarray(slope, jnp.float32)[:, None] * signs[None], "bias": offset * signs}
    nnx.update(learner.out, head)
    label = jnp.asarray(learned.label, jnp.int32)
    after = _train(jax.random.fold_in(key, 1), learner, jnp.asarray(cohorts.pixels(learned)), label, task)
    head = {name: np.asarray(value, np.float64) for name, value in nnx.to_pure_dict(nnx.state(after.out)).items()}
    slope, offset = head["kernel"] @ [-1, 1], head["bias"] @ [-1, 1]
    return after.encoder, lambda z: z @ slope + offset


def sound(network: Network) -> bool:
    """Whether all weights are finite; fast maxima on a CPU can hide from the features that they are not."""
    weights = jax.tree.leaves(nnx.state(network)) if isinstance(network, nnx.Module) else []
    return all(bool(jnp.isfinite(weight).all()) for weight in weights)


def unseen(key: Array, train: Cohort, labelled: Cohort) -> np.ndarray:
    """Rows of source images, at most UNSEEN, from patients of whom the probe has no image: validation first."""
    fresh = ~np.isin(train.patient, labelled.patient)
    order = np.asarray(jax.random.permutation(key, len(train.label)))
    return np.concatenate([order[fresh[order] & (train.split[order] == part)] for part in ("val", "train")])[:UNSEEN]


def midpoint(network: Network, probe, train: Cohort, labelled: Cohort) -> float:
    """Threshold half way between the two classes' mean scores on the validation part.

    Without a validation part that has both classes, on the labelled images.
    """
    validation = cohorts.part(train, "val")
    held = validation if len(np.unique(validation.label)) == 2 else labelled
    value = probe(features(network, cohorts.pixels(held)))
    return float(np.mean([value[held.label == c].mean() for c in (0, 1)]))


def scores_under(key: Array, network: Network, probe, images: np.ndarray, shifts: Sequence[Variability]) -> np.ndarray:
    """Scores (shift, severity 0-5, n) of images (n, *space, C)."""
    if not len(images):
        return np.empty((len(shifts), 6, 0), np.float32)
    clean = probe(features(network, images))
    scores = np.empty((len(shifts), 6, len(images)), np.float32)
    for i, shift in enumerate(shifts):
        encoded = _encode_altered(jax.random.fold_in(key, i), network, images, shift)
        scores[i] = np.concatenate([clean[None], probe(encoded)])
    return scores


def _encode_altered(key: Array, network: Network, images: np.ndarray, shift: Variability) -> np.ndarray:
    """Features under the five levels, (5, n, d), a chunk of images at a time."""
    levels = jnp.asarray(shift.levels, jnp.float32)
    most = max(1, min(IMAGES, PIXELS // int(np.prod(images.shape[1:-1]))))
    parts = []
    for start in range(0, len(images), most):
        chunk = images[start : start + most]
        short = most - len(chunk)  # pad the last chunk: one compilation
        padded = jnp.asarray(np.pad(chunk, ((0, short), *((0, 0),) * (images.ndim - 1))))
        altered = alter(jax.random.fold_in(key, start), shift, padded, levels)
        encoded = features(network, altered.reshape(-1, *chunk.shape[1:]), chunk=5 * most)
        parts.append(encoded.reshape(5, most, -1)[:, : len(chunk)])
    return np.concatenate(parts, axis=1)


# ---- pre-training


class Learner(nnx.Module):
    """Encoder and the heads that the proxy task discards afterwards."""

    def __init__(self, key: Array, design: Design, image_shape: tuple[int, ...]):
        key_encoder, key_head = jax.random.split(key)
        proxy, rngs, width = design.proxy, nnx.Rngs(params=key_head), design.widths[-1]
        seen, outputs = width * (proxy.inputs(image_shape)[0] if proxy.patched else 1), proxy.outputs(image_shape)
        self.axes = len(image_shape)
        self.encoder = design.encoder.build(key_encoder, image_shape, design.widths)
        self.hidden = nnx.Linear(seen, 2 * width, rngs=rngs) if proxy.siamese else None
        self.out = nnx.Linear(2 * width if self.hidden else seen, outputs, rngs=rngs)
        self.match = nnx.Linear(width, outputs, rngs=rngs) if proxy.siamese and proxy.patched else None
        sizes = ((outputs, 2 * width), (2 * width, outputs)) if proxy.momentum else ()
        self.foretell = nnx.List([nnx.Linear(*size, rngs=rngs) for size in sizes])

    def __call__(self, images: Array) -> Array:
        """Head's output (B, k) for inputs (B, *space, C) or (B, patches, *cell, C)."""
        x = self.encoder(images.reshape(-1, *images.shape[-self.axes :])).reshape(len(images), -1)
        return self.out(self._bent(self.hidden(x)) if self.hidden else x)

    def _bent(self, x: Array) -> Array:
        """Behind a hidden layer; with a slow teacher standardised over the batch first, as Grill et al. 2020."""
        return jax.nn.relu(standardised(x) if self.foretell else x)

    def pair(self, inputs: Array, targets: Array) -> tuple[Array, Array]:
        """Outputs for two batches of images: by one head, or by the targets' own where the input is many patches."""
        if self.match:
            return self(inputs), self.match(self.encoder(targets))
        both = self(jnp.concatenate([inputs, targets]))
        return both[: len(inputs)], both[len(inputs) :]

    def foretold(self, output: Array) -> Array:
        """What the teacher's output for the other view should be, from one's own for this view."""
        first, second = self.foretell
        return second(self._bent(first(output)))


def pretrain(key: Array, source: Cohort, design: Design) -> Network:
    """The encoder after ``design.steps`` steps of the proxy task on ``source``'s images.

    Raises InputError where the design does not fit the images.
    """
    key_start, key_images, key_steps = jax.random.split(key, 3)
    image_shape = source.image.shape[1:]
    check(design, image_shape)
    if not design.steps:
        return design.encoder.build(jax.random.split(key_start)[0], image_shape, design.widths)
    learner = Learner(key_start, design, image_shape)
    chosen = np.asarray(jax.random.permutation(key_images, len(source.label)))[: design.n_unlabelled]
    images = jnp.asarray(cohorts.pixels(cohorts.take(source, chosen)))
    label = jnp.asarray(source.label[chosen], jnp.int32)
    return _train(key_steps, learner, images, label, design).encoder


def _train(key: Array, learner: Learner, images: Array, label: Array, design: Design) -> Learner:
    graph, weights = nnx.split(learner)
    slow = jax.tree.map(jnp.copy, weights) if design.proxy.momentum else None
    state = (weights, _optimiser(design.steps, design.learning_rate).init(weights), slow)
    run = partial(_steps, design.proxy, graph, design.batch, design.steps, design.learning_rate)
    for start in range(0, design.steps, SCAN):
        state = run(state, images, label, key, start, min(start + SCAN, design.steps))
    return nnx.merge(graph, state[0])


def _optimiser(steps: int, learning_rate: float) -> optax.GradientTransformation:
    schedule = optax.cosine_onecycle_schedule(steps, learning_rate, pct_start=0.1)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4), donate_argnums=5)
def _steps(proxy: Proxy, graph, batch, steps, learning_rate, state, images, label, key, start, stop):
    """Optimiser steps ``start`` to ``stop``; step i always draws from ``fold_in(key, i)``."""
    optimiser = _optimiser(steps, learning_rate)

    def step(i, state):
        weights, moments, slow = state
        key_batch, key_pairs = jax.random.split(jax.random.fold_in(key, i))
        rows = jax.random.randint(key_batch, (batch,), 0, len(images), jnp.int32)
        inputs, targets = jax.vmap(proxy.pairs)(jax.random.split(key_pairs, batch), images[rows], label[rows])
        gradient = jax.grad(partial(_loss, proxy, graph))(weights, inputs, targets, slow)
        update, moments = optimiser.update(gradient, moments, weights)
        weights = optax.apply_updates(weights, update)
        return weights, moments, followed(slow, weights, proxy.momentum, i / steps)

    return jax.lax.fori_loop(start, stop, step, state)


def _loss(proxy: Proxy, graph, weights, inputs: Array, targets: Array, slow=None) -> Array:
    """The task's loss; with a slow teacher each view foretells what the teacher makes of the other."""
    learner = nnx.merge(graph, weights)
    if not proxy.siamese:
        return proxy.loss(learner(inputs), targets)
    one, two = learner.pair(inputs, targets)
    if not proxy.momentum:
        return proxy.loss(one, two)
    teacher = nnx.merge(graph, jax.lax.stop_gradient(weights if slow is None else slow))
    its_one, its_two = teacher.pair(inputs, targets)
    return (proxy.loss(learner.foretold(one), its_two) + proxy.loss(learner.foretold(two), its_one)) / 2


def followed(slow, weights, momentum: float, done: Array | float):
    """The teacher's weights after a step: they keep a share ``momentum``, which rises to 1 by a cosine.  Grill et al. 2020.

    slow  weights of the teacher, None where the task has none; done  share of the training, in [0, 1)
    """
    keep = 1 - (1 - momentum) * (jnp.cos(jnp.pi * done) + 1) / 2
    return (
        None if slow is None else jax.tree.map(lambda s, w: (keep * s + (1 - keep) * w).astype(s.dtype), slow, weights)
    )


def standardised(x: Array) -> Array:
    """Each column (B, k) with mean 0 and variance 1 over the batch.  Ioffe, Szegedy 2015, without gain and offset."""
    return (x - x.mean(0, keepdims=True)) / jnp.sqrt(x.var(0, keepdims=True) + 1e-5)
