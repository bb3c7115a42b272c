"""Predict a learning design before it is trained (level L0), in the statistics of its untrained encoder's layers.

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
from rafmodel.encoder import Encoder, encoder, in_chunks, layer_statistics
from rafmodel.metrics import Outcome
from rafmodel.proxies import Proxy
from rafmodel.variability import Variability

DIRECTIONS = 200  # principal directions of the layer statistics that are kept
TARGETS = 64  # principal directions of a target that has more
NETWORKS = 2  # untrained encoders to average over
CLEAN, ALTERED = 2048, 512  # source images for the class moments and the pairs, and for each shift
PAIRED = 3840  # pairs of a proxy task: with a quarter of them the noise of its moments hides most differences
AT_ONCE = 1280  # images altered together, in the survey and in the pairs, so that each law compiles once
LEARNING_TIME = 0.06  # steps times learning rate after which half of the features' variance has been learned
OPERATOR_RIDGE = 0.003  # relative to the mean variance of a direction
FEWEST = 8  # images of a class below which a subgroup's moments are not taken


class Chart(NamedTuple):
    """Moments of a source cohort in the leading directions of one untrained encoder.

    network    the untrained encoder whose layers are used
    centre     (p,), axes (p, r): layer statistics -> coordinates
    untrained  (r, r) inner product of the untrained encoder's own features
    clean      Moments of the source
    shifted    Moments with leading axes (shift, severity 0-5, group); nan where a subgroup has too few images
    """

    network: Encoder
    centre: np.ndarray
    axes: np.ndarray
    untrained: Array
    clean: theory.Moments
    shifted: theory.Moments


class Survey(NamedTuple):
    """What theory keeps of a source cohort.

    charts     one for each untrained encoder
    images     (m, H, W, C) and image_label (m,): source images in random order, for the pairs of proxy tasks
    label      all source labels, for the number of labels at hand
    counts     cases and controls of the test part by group
    """

    charts: tuple[Chart, ...]
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
    return foresee(key_pairs, survey(key_survey, train, test, design.widths, shifts, group=group), design)


def survey(
    key: Array,
    train: Cohort,
    test: Cohort,
    widths: tuple[int, ...],
    shifts: Sequence[Variability],
    *,
    group: str | None = None,
) -> Survey:
    """Survey of the source by several untrained encoders; all designs with one encoder shape share it."""
    key_networks, key_images, key_shift = jax.random.split(key, 3)
    source = cohorts.part(train, "train")
    networks = [encoder(k, source.image.shape[-1], widths) for k in jax.random.split(key_networks, NETWORKS)]
    order = np.asarray(jax.random.permutation(key_images, len(source.label)))
    n_altered = min(ALTERED, len(order) // 3)  # deployment is never foreseen on the images that fix the probe
    deployed, fixed = cohorts.take(source, order[:n_altered]), cohorts.take(source, order[n_altered:][:CLEAN])
    names, code, test_code = _groups(deployed, test, group)

    clean = [layer_statistics(network, cohorts.pixels(fixed)) for network in networks]
    shifted = _under_shifts(key_shift, networks, cohorts.pixels(deployed), shifts)
    charts = []
    for network, raw, raw_shifted in zip(networks, clean, shifted, strict=True):
        centre, axes = _directions(raw, raw_shifted, network)
        source_moments = jax.jit(theory.moments)((raw - centre) @ axes, fixed.label)
        by_group = _moments_by_group((raw_shifted - centre) @ axes, deployed.label, code, len(names))
        own = axes[: widths[-1]]  # the features are the first statistics
        untrained = _scaled(own.T @ own, source_moments)
        charts.append(Chart(network, centre, axes, untrained, source_moments, by_group))
    counts = _counts(test.label, test_code, len(names))
    return Survey(tuple(charts), cohorts.pixels(fixed), fixed.label, source.label, counts)


def foresee(key: Array, survey: Survey, design: Design) -> Outcome:
    """The outcome of one design, the mean over charts, since each untrained encoder is one draw."""
    n, width = n_labels(design, survey.label), design.widths[-1]
    found = [
        _outcome(metric, chart.clean, chart.shifted, n, design.label_flip, design.ridge, width)
        for metric, chart in zip(representations(key, survey, design), survey.charts, strict=True)
    ]
    auc, tpr, fpr = (np.mean(rates, axis=0) for rates in zip(*found, strict=True))
    return Outcome(auc, tpr, fpr, *survey.counts)


@jax.jit
def _outcome(
    metric: Array, clean: theory.Moments, shifted: theory.Moments, n: int, flip: float, ridge: float, width: int
) -> tuple[Array, Array, Array]:
    """AUC, TPR and FPR of a ridge probe on the representation ``metric^½ φ``, on shifted moments of φ."""
    spectrum, basis = jnp.linalg.eigh(metric)
    root = (basis * jnp.sqrt(jnp.maximum(spectrum, 0))[None, :]) @ basis.T
    learned = theory.Moments(clean.mean @ root, root @ clean.cov @ root, clean.weight)
    penalty = ridge * jnp.trace(theory.total_covariance(learned)) / width
    law = theory.probe(learned, n, flip=flip, ridge=penalty)
    outward = law._replace(mean=root @ law.mean, cov=root @ law.cov @ root, centre=clean.mean.mean(0))
    return theory.deploy(outward, shifted, theory.threshold(outward, clean))


def representations(key: Array, survey: Survey, design: Design) -> list[Array]:
    """Inner product (r, r) that the trained encoder puts on the layer statistics, in each chart.

    A mixture of the untrained encoder's own and of the best linear prediction of the proxy task's target from its
    input, which shrinks each direction by between / (between + view) (Eq. gain).  The weight moves from the first to
    the second with training time; both are scaled to the same total variance on the source.
    """
    if not design.steps:
        return [chart.untrained for chart in survey.charts]
    inputs, targets = _pairs(key, survey, design)
    trained = design.steps * design.learning_rate
    share = trained / (trained + LEARNING_TIME)
    moments = (_covariances(*_coordinates(chart, inputs, targets, design.proxy)) for chart in survey.charts)
    return [
        (1 - share) * chart.untrained + share * _learned(chart.clean, *uv)
        for chart, uv in zip(survey.charts, moments, strict=True)
    ]


def _pairs(key: Array, survey: Survey, design: Design) -> tuple[np.ndarray, np.ndarray]:
    """PAIRED inputs and targets of the proxy task; a task that needs labels sees only as many images as have one."""
    chosen = np.arange(len(survey.images))
    if design.proxy.labelled:
        each = n_labels(design, survey.label) // 2
        chosen = np.concatenate([np.flatnonzero(survey.image_label == c)[:each] for c in (0, 1)])
    rows = np.resize(chosen, PAIRED)
    keys, label = jax.random.split(key, PAIRED), survey.image_label[rows].astype(np.int32)
    # not compiled as a whole: the pieces of different laws are the same, and compile once
    inputs, targets = in_chunks(jax.vmap(design.proxy.pairs), keys, survey.images[rows], label, chunk=AT_ONCE)
    return inputs, targets if design.proxy.siamese else _leading(targets.reshape(PAIRED, -1))


@jax.jit
def _learned(clean: theory.Moments, uu: Array, uv: Array) -> Array:
    """Inner product (r, r) of the linear predictor, from the second moments of pairs."""
    weights = theory.predictor(uu, uv, ridge=OPERATOR_RIDGE)
    by_patch = weights.reshape(-1, clean.mean.shape[-1], weights.shape[1])  # a head that sees several patches
    return _scaled(jnp.einsum("pik,pjk->ij", by_patch, by_patch), clean)


def _scaled(metric: Array | np.ndarray, clean: theory.Moments) -> Array:
    """The inner product, scaled so that the source's total variance is that of the coordinates themselves."""
    second = theory.total_covariance(clean)
    return metric * jnp.trace(second) / jnp.trace(metric @ second)


def _coordinates(chart: Chart, inputs: np.ndarray, targets: np.ndarray, proxy: Proxy) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the proxy task's inputs (m, r), or (m, patches r), and its targets (m, TARGETS)."""

    def of(images: np.ndarray) -> np.ndarray:
        return (layer_statistics(chart.network, images.reshape(-1, *images.shape[-3:])) - chart.centre) @ chart.axes

    u = of(inputs)
    if not proxy.siamese:
        return u.reshape(len(targets), -1), targets
    v = np.repeat(of(targets), max(proxy.patches, 1), axis=0)  # each patch seen is paired with the one to come
    return np.concatenate([u, v]), _leading(np.concatenate([v, u]))  # the two views are exchangeable


def _covariances(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Second moments C_uu (r, r) and C_uv (r, k) of pairs."""
    u, v = u - u.mean(0), v - v.mean(0)
    return u.T @ u / len(u), u.T @ v / len(u)


def _leading(v: np.ndarray) -> np.ndarray:
    """The leading TARGETS principal components, (m, k) -> (m, TARGETS): of pixels, what n pairs can teach to predict.

    Fewer columns are kept as they are and followed by zeros, so that one shape is compiled.
    """
    m, k = v.shape
    if k <= TARGETS:
        return np.pad(v, ((0, 0), (0, TARGETS - k)))
    v = v - v.mean(0)
    if k <= m:
        return v @ np.linalg.eigh(v.T @ v)[1][:, -TARGETS:]
    power, vectors = np.linalg.eigh(v @ v.T)
    return vectors[:, -TARGETS:] * np.sqrt(np.maximum(power[-TARGETS:], 0))


def _directions(clean: np.ndarray, shifted: np.ndarray, network: Encoder) -> tuple[np.ndarray, np.ndarray]:
    """Centre (p,) and axes (p, r): features and other statistics scaled to equal total variance, then principal axes.

    Shifted images take part, since what a shift moves is often flat among clean images.
    """
    centre = clean.mean(0)
    d = network.biases[-1][...].shape[0]
    spread = clean.var(0)
    scale = 1 / np.sqrt(np.concatenate([np.full(d, spread[:d].sum()), np.full(len(spread) - d, spread[d:].sum())]))
    stacked = np.concatenate([clean - centre, shifted.reshape(-1, len(centre))[::7] - centre]) * scale
    vectors = np.linalg.eigh(stacked.T @ stacked)[1][:, ::-1][:, :DIRECTIONS]
    return centre, scale[:, None] * vectors


def _under_shifts(
    key: Array, networks: Sequence[Encoder], images: np.ndarray, shifts: Sequence[Variability]
) -> np.ndarray:
    """Raw layer statistics (network, shift, severity 0-5, n, p)."""
    n = len(images)
    clean = [layer_statistics(network, images) for network in networks]

    def under(i: int) -> list[np.ndarray]:
        levels = shifts[i].levels
        keys = jax.random.split(jax.random.fold_in(key, i), n)  # an image keeps its draw over severities
        repeated = np.tile(np.arange(n), len(levels))
        severity = np.repeat(np.asarray(levels, np.float32), n)
        altered = in_chunks(jax.vmap(shifts[i].apply), keys[repeated], images[repeated], severity, chunk=AT_ONCE)
        found = [layer_statistics(network, altered).reshape(len(levels), n, -1) for network in networks]
        return [np.concatenate([still[None], moved]) for still, moved in zip(clean, found, strict=True)]

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # compiles several variabilities at a time
        return np.array(list(pool.map(under, range(len(shifts))))).swapaxes(0, 1)


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
    found = _moments_of(x, label, member.astype(np.float32))
    few = np.array([min((label[m] == c).sum() for c in (0, 1)) < FEWEST for m in member])
    return found._replace(mean=jnp.where(few[None, None, :, None, None], jnp.nan, found.mean))


@jax.jit
def _moments_of(x: Array, label: Array, member: Array) -> theory.Moments:
    """Moments (shift, severity, group) of x (shift, severity, n, r) for groups given as weights (group, n)."""
    over_groups = jax.vmap(theory.moments, (None, None, 0))
    return jax.vmap(jax.vmap(over_groups, (0, None, None)), (0, None, None))(x, label, member)


def _counts(label: np.ndarray, code: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    inside = [np.ones(len(label), bool), *(code == g for g in range(n_groups))]
    cases, controls = (np.array([(label[m] == c).sum() for m in inside]) for c in (1, 0))
    return cases, controls
