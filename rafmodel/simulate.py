"""Simulate a learning design: pre-train its encoder, fit the probe, deploy under every shift, score."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from rafmodel import cohort as cohorts
from rafmodel import metrics
from rafmodel.cohort import Cohort
from rafmodel.collapse import FAILED, Health, health
from rafmodel.design import Design, n_labels
from rafmodel.encoder import Network, features
from rafmodel.metrics import Outcome
from rafmodel.pretrain import pretrain
from rafmodel.variability import Variability, alter

IMAGES, PIXELS = 256, 2**22  # most images altered at a time, and most pixels of them
UNSEEN = 256  # most source images kept aside to be scored with the test part


class Deployment(NamedTuple):
    """Scores of every test image under every shift, and of source images that the probe never saw.

    score         (shift, severity 0-5, n); severity 0 is clean
    threshold     score above which an image is called a case, set on the source's validation part
    source_score  (shift, severity 0-5, m) of the unseen source images under the same laws, drawn anew
    source_row    (m,) their rows in the source cohort
    rank, spread  of the trained features of the labelled images, see ``collapse.Health``
    """

    score: np.ndarray
    threshold: float
    source_score: np.ndarray
    source_row: np.ndarray
    rank: float
    spread: float

    @property
    def failed(self) -> str:
        """``diverged``, ``collapsed``, or '' where training ended well."""
        return Health(self.rank, self.spread).failed


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
    probe: Callable[[np.ndarray], np.ndarray]
    labelled: Cohort
    health: Health


def trained(key: Array, train: Cohort, design: Design) -> Trained:
    """The design's encoder and probe after training with ``key``; where training diverged the probe says nan."""
    key_label, key_train, _ = jax.random.split(key, 3)
    source = cohorts.part(train, "train")
    rows = balanced(key_label, source.label, n_labels(design, source.label))
    labelled = cohorts.take(source, rows)
    network = pretrain(key_train, labelled if design.proxy.labelled else source, design)
    noisy = flip(jax.random.fold_in(key_label, 1), labelled.label, design.label_flip)
    encoded = features(network, cohorts.pixels(labelled))
    found = health(encoded) if sound(network) else Health(np.nan, np.nan)
    if found.failed == FAILED[2]:
        return Trained(network, lambda z: np.full(len(z), np.nan), labelled, found)
    return Trained(network, ridge_probe(encoded, noisy, design.ridge), labelled, found)


def sound(network: Network) -> bool:
    """Whether all weights are finite; fast maxima on a CPU can hide from the features that they are not."""
    weights = jax.tree.leaves(nnx.state(network)) if isinstance(network, nnx.Module) else []
    return all(bool(jnp.isfinite(weight).all()) for weight in weights)


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
