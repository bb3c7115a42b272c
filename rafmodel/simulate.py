"""Simulate a learning design: pre-train its encoder, fit the probe, deploy under every shift, score."""

from collections.abc import Sequence
from dataclasses import replace
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
from rafmodel.design import Design, check
from rafmodel.encoder import Network, features
from rafmodel.labels import Lesson, lesson
from rafmodel.metrics import Outcome
from rafmodel.on_disk import OnDisk
from rafmodel.pretrain import Learner, pretrain, train_on
from rafmodel.probes import Probe, decided, fitted, logistics
from rafmodel.proxies import supervised
from rafmodel.tiles import Tiled, in_tiles, pooled
from rafmodel.variability import Variability, alter

IMAGES, PIXELS = 256, 2**22  # most images altered at a time, and most pixels of them
FINE_STEPS, FINE_RATE = 100, 0.1  # of fine-tuning: optimiser steps, and share of the learning rate of pre-training
UNSEEN = 256  # most source images kept aside to be scored with the test part


class Deployment(NamedTuple):
    """Scores of every test image under every shift, and of source images that the probe never saw.

    score         (shift, severity 0-5, n), or (shift, severity 0-5, n, Q) of several questions; severity 0 is clean
    threshold     score above which an image is called a case, (Q,) of several, set on the source's validation part
    source_score  (shift, severity 0-5, m[, Q]) of the unseen source images under the same laws, drawn anew
    source_row    (m,) their rows in the source cohort
    rank, spread  of the trained features of the labelled images, see ``collapse.Health``
    error         what was raised in place of a result, in one line; then nothing is known
    """

    score: np.ndarray
    threshold: float | np.ndarray
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
    scores = np.full_like(deployment.score, np.nan) if deployment.failed else deployment.score
    return judged(scores, deployment.threshold, test, group)


def judged(scores: np.ndarray, threshold: float | np.ndarray, test: Cohort, group: str | None) -> Outcome:
    """Scores (shift, severity 0-5, n[, Q]) of test images reduced by subgroup; of several questions to the mean over them."""
    names, code = cohorts.groups(test, group)
    if not test.asked.several:
        return metrics.outcome(scores, test.label, code, len(names), float(threshold))
    bars = np.broadcast_to(threshold, scores.shape[-1:])
    answers = test.asked.answers(test.label)
    each = zip(np.moveaxis(scores, -1, 0), answers.T, bars, strict=True)
    mean = metrics.mean_outcome([metrics.outcome(s, a, code, len(names), float(bar)) for s, a, bar in each])
    if test.asked.kind != "ordinal":
        return mean
    inside = metrics.members(code, len(names))
    ranked = [metrics.concordance(scores.sum(-1)[..., who], test.label[who]) for who in inside]
    return mean._replace(concordance=np.stack(ranked, -1))


def deploy(key: Array, train: Cohort, test: Cohort, design: Design, shifts: Sequence[Variability]) -> Deployment:
    """Train the design with ``key`` and score ``test`` under every shift.

    The draws of the deployment shifts, the labelled images and the untrained weights depend on ``key`` only,
    so designs that share a key are compared on the same images from the same start.
    """
    key_label, _, key_shift = jax.random.split(key, 3)
    network, probe, labelled, found = trained(key, train, design)
    aside = unseen(jax.random.fold_in(key_label, 2), train, labelled)
    if found.failed == FAILED[2]:
        nothing = lost(len(test.label), len(shifts), "", len(aside), shape=train.asked.shape)
        return nothing._replace(source_row=aside, rank=found.rank, spread=found.spread)
    score = scores_under(key_shift, network, probe, cohorts.pixels(test), shifts)
    again = cohorts.pixels(cohorts.take(train, aside))
    source_score = scores_under(jax.random.fold_in(key_shift, len(shifts)), network, probe, again, shifts)
    return Deployment(score, midpoint(network, probe, train, labelled), source_score, aside, *found)


def lost(n: int, shifts: int, error: str, m: int = 0, *, shape: tuple[int, ...] = ()) -> Deployment:
    """What stands for a deployment on n images, and m of the source, that raised an error: no score, of this shape, is known."""
    score, source_score = (np.full((shifts, 6, k, *shape), np.nan, np.float32) for k in (n, m))
    return Deployment(score, np.nan, source_score, np.empty(0, int), np.nan, np.nan, error)


class Trained(NamedTuple):
    """A trained design: encoder, linear probe (features -> scores), the labelled images it saw, and how training ended."""

    network: Network
    probe: Probe
    labelled: Cohort
    health: Health


def trained(key: Array, train: Cohort, design: Design) -> Trained:
    """The design's encoder and probe after training with ``key``; where training diverged the probe says nan.

    By patches, where the design has them: of an image the network then gives the features of all its tiles, and the probe pools
    their scores.
    """
    key_label, key_train, _ = jax.random.split(key, 3)
    check(design, train.image.shape[1:])
    learned = lesson(key_label, cohorts.part(train, "train"), design)
    network = pretrain(key_train, shown(key_label, train, learned, design), design, patch=design.patch)
    labelled, learned = learned.cohort, in_tiles(jax.random.fold_in(key_label, 4), learned, design)
    if design.probe == "finetuned" and sound(network):
        network, probe = finetuned(jax.random.fold_in(key_train, 1), network, learned.learned, design)
    encoded = features(network, cohorts.pixels(learned.cohort))
    found = health(encoded) if sound(network) else Health(np.nan, np.nan)
    if found.failed == FAILED[2]:
        return Trained(network, lambda z: np.full(len(z), np.nan), labelled, found)
    if design.probe != "finetuned":
        seen, given = encoded[learned.row], learned.label[learned.row]
        probe = fitted(design.probe, seen, given, design.ridge, learned.weight, train.asked)
    if not design.patch:
        return Trained(network, probe, labelled, found)
    return Trained(Tiled(network, design.patch), pooled(probe, design.pooling, encoded.shape[1]), labelled, found)


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
    asked = learned.asked
    task = replace(
        design, proxy=supervised((), asked), steps=FINE_STEPS, learning_rate=FINE_RATE * design.learning_rate
    )
    findings = asked.kind == "multi-label"
    targets = asked.answers(learned.label) if findings else np.eye(len(asked.names))[learned.label]
    share = 1.0 if findings else 1 - 1 / len(asked.names)  # a softmax of two has half the slope on either side
    slopes, offsets = logistics(features(network, cohorts.pixels(learned)), targets, design.ridge)
    learner = Learner(key, task, learned.image.shape[1:])
    learner.encoder = network
    nnx.update(
        learner.out, {k: jnp.asarray(share * v, jnp.float32) for k, v in (("kernel", slopes), ("bias", offsets))}
    )
    after = train_on(jax.random.fold_in(key, 1), learner, cohorts.pixels(learned), learned.label, task)
    head = {name: np.asarray(value, np.float64) for name, value in nnx.to_pure_dict(nnx.state(after.out)).items()}
    return after.encoder, lambda z: decided(z @ head["kernel"] + head["bias"], asked)


def sound(network: Network) -> bool:
    """Whether all weights are finite; fast maxima on a CPU can hide from the features that they are not."""
    weights = jax.tree.leaves(nnx.state(network)) if isinstance(network, nnx.Module) else []
    return all(np.isfinite(np.asarray(weight)).all() for weight in weights)


def unseen(key: Array, train: Cohort, labelled: Cohort) -> np.ndarray:
    """Rows of source images, at most UNSEEN, from patients of whom the probe has no image: validation first."""
    fresh = ~np.isin(train.patient, labelled.patient)
    order = np.asarray(jax.random.permutation(key, len(train.label)))
    return np.concatenate([order[fresh[order] & (train.split[order] == part)] for part in ("val", "train")])[:UNSEEN]


def midpoint(network: Network, probe, train: Cohort, labelled: Cohort) -> float | np.ndarray:
    """Threshold half way between the mean scores of cases and controls on the validation part, (Q,) of several questions.

    Without a validation part that has both for each question, on the labelled images.
    """
    asked, validation = train.asked, cohorts.part(train, "val")
    held = labelled if asked.undecided(validation.label) else validation
    value = probe(features(network, cohorts.pixels(held))).reshape(len(held.label), -1)
    each = zip(value.T, asked.answers(held.label).T, strict=True)
    found = np.array([np.mean([v[yes == c].mean() for c in (0, 1)]) for v, yes in each])
    return found if asked.several else float(found[0])


def scores_under(
    key: Array, network: Network, probe, images: np.ndarray | OnDisk, shifts: Sequence[Variability]
) -> np.ndarray:
    """Scores (shift, severity 0-5, n) of images (n, *space, C), or (shift, severity 0-5, n, Q) of several questions."""
    if not len(images):
        return np.empty((len(shifts), 6, 0), np.float32)
    clean = probe(features(network, images))
    scores = np.empty((len(shifts), 6, *clean.shape), np.float32)
    for i, shift in enumerate(shifts):
        encoded = _encode_altered(jax.random.fold_in(key, i), network, images, shift)
        scores[i] = np.concatenate([clean[None], probe(encoded)])
    return scores


def _encode_altered(key: Array, network: Network, images: np.ndarray | OnDisk, shift: Variability) -> np.ndarray:
    """Features under the five levels, (5, n, d), a chunk of images at a time."""
    levels = jnp.asarray(shift.levels, jnp.float32)
    most = max(1, min(IMAGES, PIXELS // int(np.prod(images.shape[1:-1]))))
    parts = []
    for start in range(0, len(images), most):
        chunk = images[start : start + most]
        short = most - len(chunk)  # pad the last chunk: one compilation
        padded = jnp.asarray(np.pad(chunk, ((0, short), *((0, 0),) * (images.ndim - 1))))
        altered = alter(jax.random.fold_in(key, start), shift, padded, levels)
        encoded = features(network, altered.reshape(-1, *chunk.shape[1:]), chunk=most)
        parts.append(encoded.reshape(5, most, -1)[:, : len(chunk)])
    return np.concatenate(parts, axis=1)
