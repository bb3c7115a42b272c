"""Predict a learning design before it is trained (level L0), in the tangent features of its untrained encoder.

Reads the source cohort, the design's law of pairs and the shift laws; trains nothing and never sees a test label.
The mathematics on moments is in ``theory``; this module takes the moments of a cohort and a design.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import cohort as cohorts
from rafmodel import theory
from rafmodel.cohort import Cohort
from rafmodel.design import Design, n_labels
from rafmodel.encoder import Encoder, encoder, in_chunks, tangents
from rafmodel.metrics import Outcome
from rafmodel.variability import Variability

DIRECTIONS = 200  # principal directions of the tangent features that are kept
TARGETS = 64  # principal directions of a target that has more
NETWORKS = 2  # untrained encoders to average over
CLEAN, ALTERED, PAIRED = 2048, 256, 1024  # source images for the class moments, for each shift, for the pairs
LEARNING_TIME = 0.8  # steps times learning rate after which 1 - 1/e of the untrained features has been replaced
OPERATOR_RIDGE = 0.003  # relative to the mean variance of a direction
FEWEST = 8  # images of a class below which a subgroup's moments are not taken


class Survey(NamedTuple):
    """What theory keeps of a source cohort: moments in the leading directions of one untrained encoder.

    network    the untrained encoder whose tangent features are used
    centre     (p,), axes (p, r): features -> coordinates
    clean      Moments of the source
    shifted    Moments with leading axes (shift, severity 0-5, group); nan where a subgroup has too few images
    images     (m, H, W, C) and label (m,): source images for the pairs of proxy tasks
    label      all source labels, for the number of labels at hand
    """

    network: Encoder
    centre: np.ndarray
    axes: np.ndarray
    clean: theory.Moments
    shifted: theory.Moments
    images: np.ndarray
    image_label: np.ndarray
    label: np.ndarray
    counts: tuple[np.ndarray, np.ndarray]


def predict(
    key: Array,
    train: Cohort,
    test: Cohort,
    design: Design,
    shifts: Sequence[Variability],
    *,
    group: str | None = None,
) -> Outcome:
    """AUC, TPR and FPR that the design will have under every shift, by subgroup, without training it.

    Same signature and same record as ``simulate.simulate``.  Of ``test`` only the subgroup names and the class
    counts are read.
    """
    key_survey, key_pairs = jax.random.split(key)
    surveys = survey(key_survey, train, test, design.widths, shifts, group=group)
    return foresee(key_pairs, surveys, design)


def survey(
    key: Array,
    train: Cohort,
    test: Cohort,
    widths: tuple[int, ...],
    shifts: Sequence[Variability],
    *,
    group: str | None = None,
) -> list[Survey]:
    """Surveys of the source by several untrained encoders; all designs with one encoder shape share them."""
    keys = jax.random.split(key, NETWORKS)
    return [_survey(k, train, test, widths, shifts, group) for k in keys]


def foresee(key: Array, surveys: Sequence[Survey], design: Design) -> Outcome:
    """The outcome of one design, the mean over surveys, since each untrained encoder is one draw."""
    found = [_foresee(k, s, design) for k, s in zip(jax.random.split(key, len(surveys)), surveys, strict=True)]
    auc, tpr, fpr = (np.mean([getattr(o, name) for o in found], axis=0) for name in ("auc", "tpr", "fpr"))
    return Outcome(auc, tpr, fpr, *surveys[0].counts)


def _survey(
    key: Array,
    train: Cohort,
    test: Cohort,
    widths: tuple[int, ...],
    shifts: Sequence[Variability],
    group: str | None,
) -> Survey:
    """Moments of the source under every shift, in the tangent features of one untrained encoder."""
    key_network, key_images, key_shift = jax.random.split(key, 3)
    source = cohorts.part(train, "train")
    network = encoder(key_network, source.image.shape[-1], widths)
    order = np.asarray(jax.random.permutation(key_images, len(source.label)))
    n_altered = min(ALTERED, len(order) // 3)  # deployment is never foreseen on the images that fix the probe
    deployed, fixed = cohorts.take(source, order[:n_altered]), cohorts.take(source, order[n_altered:][:CLEAN])

    raw_clean = tangents(network, cohorts.pixels(fixed))
    raw_shifted = _under_shifts(key_shift, network, cohorts.pixels(deployed), shifts)
    centre, axes = _directions(raw_clean, raw_shifted, network)
    paired = cohorts.take(fixed, np.arange(min(PAIRED, len(fixed.label))))
    names, code, test_code = _groups(deployed, test, group)
    return Survey(
        network,
        centre,
        axes,
        theory.moments(jnp.asarray((raw_clean - centre) @ axes), jnp.asarray(fixed.label)),
        _moments_by_group((raw_shifted - centre) @ axes, deployed.label, code, len(names)),
        cohorts.pixels(paired),
        paired.label,
        source.label,
        _counts(test.label, test_code, len(names)),
    )


def _foresee(key: Array, survey: Survey, design: Design) -> Outcome:
    """The outcome of one design from the moments of its source."""
    metric = representation(key, survey, design)
    n = n_labels(design, survey.label)
    auc, tpr, fpr = _outcome(
        metric, survey.clean, survey.shifted, n, design.label_flip, design.ridge, design.widths[-1]
    )
    return Outcome(np.asarray(auc), np.asarray(tpr), np.asarray(fpr), *survey.counts)


@jax.jit
def _outcome(
    metric: Array, clean: theory.Moments, shifted: theory.Moments, n: int, flip: float, ridge: float, width: int
) -> tuple[Array, Array, Array]:
    """AUC, TPR and FPR of a ridge probe on the representation ``metric^½ φ``, on shifted moments of φ."""
    spectrum, basis = jnp.linalg.eigh(metric)
    root = (basis * jnp.sqrt(spectrum)[None, :]) @ basis.T
    learned = theory.Moments(clean.mean @ root, root @ clean.cov @ root, clean.weight)
    penalty = ridge * jnp.trace(theory.total_covariance(learned)) / width
    law = theory.probe(learned, n, flip=flip, ridge=penalty)
    outward = law._replace(mean=root @ law.mean, cov=root @ law.cov @ root, centre=jnp.linalg.solve(root, law.centre))
    return theory.deploy(outward, shifted, theory.threshold(outward, clean))


def representation(key: Array, survey: Survey, design: Design) -> Array:
    """Inner product (r, r) that the trained encoder puts on the tangent features.

    A mixture of the untrained one (identity) and of the best linear prediction of the proxy task's target from its
    input, which shrinks each direction by between / (between + view) (Eq. gain).  The weight moves from the first to
    the second with training time; both are scaled to the same total variance on the source.
    """
    identity = jnp.eye(survey.axes.shape[1])
    if not design.steps:
        return identity
    weights = theory.predictor(*_covariances(*_pairs(key, survey, design)), ridge=OPERATOR_RIDGE)
    by_patch = weights.reshape(-1, len(identity), weights.shape[1])  # a head that sees several patches
    learned = jnp.einsum("pik,pjk->ij", by_patch, by_patch)
    second = theory.total_covariance(survey.clean)
    learned = learned * jnp.trace(second) / jnp.trace(learned @ second)
    share = 1 - jnp.exp(-design.steps * design.learning_rate / LEARNING_TIME)
    return (1 - share) * identity + share * learned


def _pairs(key: Array, survey: Survey, design: Design) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the proxy task's inputs (m, r), or (m, patches r), and its targets (m, k)."""
    keys = jax.random.split(key, len(survey.images))
    label = survey.image_label.astype(np.int32)
    # not compiled as a whole: the pieces of different laws are the same, and compile once
    inputs, targets = in_chunks(jax.vmap(design.proxy.pairs), keys, survey.images, label)
    patches = max(design.proxy.patches, 1)
    u = _coordinates(survey, inputs.reshape(-1, *inputs.shape[-3:]))
    if not design.proxy.siamese:
        return u.reshape(len(label), -1), targets.reshape(len(label), -1)
    v = np.repeat(_coordinates(survey, targets), patches, axis=0)  # each patch seen is paired with the one to come
    return np.concatenate([u, v]), np.concatenate([v, u])  # the two views are exchangeable


def _coordinates(survey: Survey, images: Array) -> np.ndarray:
    return (tangents(survey.network, images) - survey.centre) @ survey.axes


def _covariances(u: np.ndarray, v: np.ndarray) -> tuple[Array, Array]:
    """Second moments C_uu (r, r) and C_uv (r, k) of pairs."""
    u, v = u - u.mean(0), v - v.mean(0)
    if v.shape[1] > TARGETS:  # pixels: a few leading directions are what can be predicted from n pairs
        v = v @ np.linalg.eigh(v.T @ v)[1][:, -TARGETS:]
    return jnp.asarray(u.T @ u / len(u)), jnp.asarray(u.T @ v / len(u))


def _directions(clean: np.ndarray, shifted: np.ndarray, network: Encoder) -> tuple[np.ndarray, np.ndarray]:
    """Centre (p,) and axes (p, r): features and gradients scaled to equal total variance, then principal axes.

    Shifted images take part, since what a shift moves is often flat among clean images.
    """
    centre = clean.mean(0)
    d = network.biases[-1][...].shape[0]
    spread = clean.var(0)
    scale = 1 / np.sqrt(np.concatenate([np.full(d, spread[:d].sum()), np.full(len(spread) - d, spread[d:].sum())]))
    stacked = np.concatenate([clean - centre, shifted.reshape(-1, len(centre))[::7] - centre]) * scale
    vectors = np.linalg.eigh(stacked.T @ stacked)[1][:, ::-1][:, :DIRECTIONS]
    return centre, scale[:, None] * vectors


def _under_shifts(key: Array, network: Encoder, images: np.ndarray, shifts: Sequence[Variability]) -> np.ndarray:
    """Raw tangent features (shift, severity 0-5, n, p)."""
    clean = tangents(network, images)

    def under(i: int) -> list[np.ndarray]:
        keys = jax.random.split(jax.random.fold_in(key, i), len(images))  # an image keeps its draw over severities
        severities = [np.full(len(images), level, np.float32) for level in shifts[i].levels]
        altered = [in_chunks(jax.vmap(shifts[i].apply), keys, images, severity) for severity in severities]
        return [clean, *(tangents(network, state) for state in altered)]

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # compiles several variabilities at a time
        return np.array(list(pool.map(under, range(len(shifts)))))


def _groups(deployed: Cohort, test: Cohort, group: str | None) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The test part's subgroups, and the code of each deployed and each test image (-1: not in the test part)."""
    names, test_code = cohorts.groups(test, group)
    own, code = cohorts.groups(deployed, group)
    place = np.array([names.index(name) if name in names else -1 for name in own] or [0])
    return names, place[code], test_code


def _moments_by_group(x: np.ndarray, label: np.ndarray, code: np.ndarray, n_groups: int) -> theory.Moments:
    """Moments with leading axes (shift, severity, group), everyone first."""
    everyone = np.ones((1, len(label)), bool)
    member = np.concatenate([everyone, code[None] == np.arange(n_groups)[:, None]]) if n_groups else everyone
    over_states = jax.vmap(jax.vmap(theory.moments, (0, None, None)), (0, None, None))
    found = [over_states(jnp.asarray(x[:, :, m]), jnp.asarray(label[m]), None) for m in member]
    stacked = theory.Moments(*(jnp.stack(parts, axis=2) for parts in zip(*found, strict=True)))
    few = np.array([min((label[m] == c).sum() for c in (0, 1)) < FEWEST for m in member])
    return stacked._replace(mean=jnp.where(few[None, None, :, None, None], jnp.nan, stacked.mean))


def _counts(label: np.ndarray, code: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    inside = [np.ones(len(label), bool), *(code == g for g in range(n_groups))]
    cases, controls = (np.array([(label[m] == c).sum() for m in inside]) for c in (1, 0))
    return cases, controls
