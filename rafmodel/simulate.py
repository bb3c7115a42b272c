"""Simulate a learning design: pre-train its encoder, fit the probe, deploy under every shift, score."""

from collections.abc import Callable, Sequence
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
from rafmodel.design import Design, n_labels
from rafmodel.encoder import Encoder, encoder, features
from rafmodel.metrics import Outcome
from rafmodel.proxies import Proxy
from rafmodel.variability import Variability, alter

SCAN = 25  # optimiser steps per compiled call
IMAGES = 256  # images altered at a time
UNSEEN = 256  # most source images kept aside to be scored with the test part


class Deployment(NamedTuple):
    """Scores of every test image under every shift, and of source images that the probe never saw.

    score         (shift, severity 0-5, n); severity 0 is clean
    threshold     score above which an image is called a case, set on the source's validation part
    source_score  (shift, severity 0-5, m) of the unseen source images under the same laws, drawn anew
    source_row    (m,) their rows in the source cohort
    """

    score: np.ndarray
    threshold: float
    source_score: np.ndarray
    source_row: np.ndarray


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
    """Scores reduced to AUC, TPR and FPR by subgroup."""
    names, code = cohorts.groups(test, group)
    return metrics.outcome(deployment.score, test.label, code, len(names), deployment.threshold)


def deploy(key: Array, train: Cohort, test: Cohort, design: Design, shifts: Sequence[Variability]) -> Deployment:
    """Train the design with ``key`` and score ``test`` under every shift.

    The draws of the deployment shifts, the labelled images and the untrained weights depend on ``key`` only,
    so designs that share a key are compared on the same images from the same start.
    """
    key_label, key_train, key_shift = jax.random.split(key, 3)
    source = cohorts.part(train, "train")
    rows = balanced(key_label, source.label, n_labels(design, source.label))
    labelled = cohorts.take(source, rows)
    network = pretrain(key_train, labelled if design.proxy.labelled else source, design)
    noisy = flip(jax.random.fold_in(key_label, 1), labelled.label, design.label_flip)
    probe = ridge_probe(features(network, cohorts.pixels(labelled)), noisy, design.ridge)
    score = scores_under(key_shift, network, probe, cohorts.pixels(test), shifts)
    aside = unseen(jax.random.fold_in(key_label, 2), train, labelled)
    again = cohorts.pixels(cohorts.take(train, aside))
    source_score = scores_under(jax.random.fold_in(key_shift, len(shifts)), network, probe, again, shifts)
    return Deployment(score, midpoint(network, probe, train, labelled), source_score, aside)


def unseen(key: Array, train: Cohort, labelled: Cohort) -> np.ndarray:
    """Rows of source images, at most UNSEEN, from patients of whom the probe has no image: validation first."""
    fresh = ~np.isin(train.patient, labelled.patient)
    order = np.asarray(jax.random.permutation(key, len(train.label)))
    return np.concatenate([order[fresh[order] & (train.split[order] == part)] for part in ("val", "train")])[:UNSEEN]


def balanced(key: Array, label: np.ndarray, n: int) -> np.ndarray:
    """Indices of ``n`` images, half of each class, drawn at random."""
    order, half = np.asarray(jax.random.permutation(key, len(label))), n // 2
    return np.concatenate([order[label[order] == c][:half] for c in (0, 1)])


def flip(key: Array, label: np.ndarray, rate: float) -> np.ndarray:
    """Labels of which a share ``rate``, drawn image by image, is wrong."""
    return np.where(np.asarray(jax.random.bernoulli(key, rate, (len(label),))), 1 - label, label)


def ridge_probe(x: np.ndarray, label: np.ndarray, ridge: float) -> Callable[[np.ndarray], np.ndarray]:
    """Linear score from features (n, d) and labels (n,), penalty ``ridge`` times the mean feature variance."""
    x = x.astype(np.float64)
    centre = np.mean([x[label == c].mean(0) for c in (0, 1)], axis=0)
    x, y = x - centre, 2.0 * label - 1
    second = x.T @ x / len(x)
    penalty = ridge * np.trace(second) / len(second) + 1e-12
    weight = np.linalg.solve(second + penalty * np.eye(len(second)), x.T @ y / len(x))
    return lambda z: (z - centre) @ weight


def midpoint(network: Encoder, probe, train: Cohort, labelled: Cohort) -> float:
    """Threshold half way between the two classes' mean scores on the validation part.

    Without a validation part that has both classes, on the labelled images.
    """
    validation = cohorts.part(train, "val")
    held = validation if len(np.unique(validation.label)) == 2 else labelled
    value = probe(features(network, cohorts.pixels(held)))
    return float(np.mean([value[held.label == c].mean() for c in (0, 1)]))


def scores_under(key: Array, network: Encoder, probe, images: np.ndarray, shifts: Sequence[Variability]) -> np.ndarray:
    """Scores (shift, severity 0-5, n) of images (n, H, W, C)."""
    if not len(images):
        return np.empty((len(shifts), 6, 0), np.float32)
    clean = probe(features(network, images))
    scores = np.empty((len(shifts), 6, len(images)), np.float32)
    for i, shift in enumerate(shifts):
        encoded = _encode_altered(jax.random.fold_in(key, i), network, images, shift)
        scores[i] = np.concatenate([clean[None], probe(encoded)])
    return scores


def _encode_altered(key: Array, network: Encoder, images: np.ndarray, shift: Variability) -> np.ndarray:
    """Features under the five levels, (5, n, d), a chunk of images at a time."""
    levels = jnp.asarray(shift.levels, jnp.float32)
    parts = []
    for start in range(0, len(images), IMAGES):
        chunk = images[start : start + IMAGES]
        short = IMAGES - len(chunk)  # pad the last chunk: one compilation
        padded = jnp.asarray(np.pad(chunk, ((0, short), (0, 0), (0, 0), (0, 0))))
        altered = alter(jax.random.fold_in(key, start), shift, padded, levels)
        encoded = features(network, altered.reshape(-1, *chunk.shape[1:]), chunk=5 * IMAGES)
        parts.append(encoded.reshape(5, IMAGES, -1)[:, : len(chunk)])
    return np.concatenate(parts, axis=1)


# ---- pre-training


class Learner(nnx.Module):
    """Encoder and the head that the proxy task discards afterwards."""

    def __init__(self, key: Array, design: Design, image_shape: tuple[int, ...]):
        key_encoder, key_head = jax.random.split(key)
        proxy, rngs, width = design.proxy, nnx.Rngs(params=key_head), design.widths[-1]
        seen, outputs = width * max(proxy.patches, 1), proxy.outputs(image_shape)
        self.encoder = encoder(key_encoder, image_shape[-1], design.widths)
        self.hidden = nnx.Linear(seen, 2 * width, rngs=rngs) if proxy.siamese else None
        self.out = nnx.Linear(2 * width if self.hidden else seen, outputs, rngs=rngs)
        self.match = nnx.Linear(width, outputs, rngs=rngs) if proxy.siamese and proxy.patches else None

    def __call__(self, images: Array) -> Array:
        """Head's output (B, k) for inputs (B, H, W, C) or (B, patches, h, w, C)."""
        x = self.encoder(images.reshape(-1, *images.shape[-3:])).reshape(len(images), -1)
        return self.out(jax.nn.relu(self.hidden(x)) if self.hidden else x)

    def pair(self, inputs: Array, targets: Array) -> tuple[Array, Array]:
        """Outputs for two batches of images: by one head, or by the targets' own where the input is many patches."""
        if self.match:
            return self(inputs), self.match(self.encoder(targets))
        both = self(jnp.concatenate([inputs, targets]))
        return both[: len(inputs)], both[len(inputs) :]


def pretrain(key: Array, source: Cohort, design: Design) -> Encoder:
    """The encoder after ``design.steps`` steps of the proxy task on ``source``'s images."""
    key_start, key_images, key_steps = jax.random.split(key, 3)
    image_shape = source.image.shape[1:]
    learner = Learner(key_start, design, image_shape)
    if design.steps:
        chosen = np.asarray(jax.random.permutation(key_images, len(source.label)))[: design.n_unlabelled]
        images = jnp.asarray(cohorts.pixels(cohorts.take(source, chosen)))
        label = jnp.asarray(source.label[chosen], jnp.int32)
        learner = _train(key_steps, learner, images, label, design)
    return learner.encoder


def _train(key: Array, learner: Learner, images: Array, label: Array, design: Design) -> Learner:
    graph, weights = nnx.split(learner)
    state = (weights, _optimiser(design.steps, design.learning_rate).init(weights))
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
        weights, moments = state
        key_batch, key_pairs = jax.random.split(jax.random.fold_in(key, i))
        rows = jax.random.randint(key_batch, (batch,), 0, len(images), jnp.int32)
        inputs, targets = jax.vmap(proxy.pairs)(jax.random.split(key_pairs, batch), images[rows], label[rows])
        gradient = jax.grad(partial(_loss, proxy, graph))(weights, inputs, targets)
        update, moments = optimiser.update(gradient, moments, weights)
        return optax.apply_updates(weights, update), moments

    return jax.lax.fori_loop(start, stop, step, state)


def _loss(proxy: Proxy, graph, weights, inputs: Array, targets: Array) -> Array:
    learner = nnx.merge(graph, weights)
    if not proxy.siamese:
        return proxy.loss(learner(inputs), targets)
    return proxy.loss(*learner.pair(inputs, targets))
