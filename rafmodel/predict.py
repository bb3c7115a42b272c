"""Predict a learning design before it is trained (level L0), in the statistics of its untrained encoder's layers.

Reads the source cohort, the design's law of pairs and the shift laws; trains nothing and never sees a test label.
The mathematics on moments is in ``theory``; this module takes the moments of a cohort and a design.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.special import ndtr, ndtri

from rafmodel import cohort as cohorts
from rafmodel import theory, transfer
from rafmodel.architectures import PLAIN, Architecture
from rafmodel.cohort import Cohort
from rafmodel.design import Design, counted, n_labels, select, unforeseen, wrong
from rafmodel.encoder import Network, in_chunks, layer_statistics
from rafmodel.metrics import Outcome, auc, probit
from rafmodel.proxies import Proxy
from rafmodel.variability import Variability

DIRECTIONS = 200  # principal directions of the layer statistics that are kept
TARGETS = 64  # principal directions of a target that has more
NETWORKS = 2  # untrained encoders to average over
CLEAN, ALTERED = 2048, 512  # source images for the class moments and the pairs, and for each shift
PAIRED = 3840  # pairs of a proxy task: a quarter of them hides most differences in the noise of its moments
PROBES = 8  # draws of labels over which the untrained encoder's scores are averaged
AT_ONCE = 1280  # images altered together, in the survey and in the pairs, so that each law compiles once,
PIXELS = 1280 * 64**2  # and most pixels of them
LEARNING_TIME = 0.04  # steps times learning rate after which a task of pace 1 has shaped half of the variance
OPERATOR_RIDGE = 0.0003  # relative to the mean variance of a direction, for views and labels,
TARGET_RIDGE = (
    0.03  # and for targets that are made from the image: chosen on four development cohorts (`derivations/NOTES.md`)
)
_UNTRAINED = select(["untrained"])[0]
FEWEST = 8  # images of a class below which a subgroup's moments are not taken


class Chart(NamedTuple):
    """Moments of a source cohort in the leading directions of one untrained encoder.

    network    the untrained encoder whose layers are used
    centre     (p,), axes (p, r): layer statistics -> coordinates
    width      number of the encoder's features
    untrained  (r, r) inner product of the untrained encoder's own features
    clean      Moments of the source
    shifted    Moments with leading axes (shift, severity 0-5, group); nan where a subgroup has too few images
    offset     (3, shift, severity 0-5) what to add to the probits of AUC, TPR and FPR so that theory is right for
               the untrained encoder on the source's own images
    """

    network: Network
    centre: np.ndarray
    axes: np.ndarray
    width: int
    untrained: Array
    clean: theory.Moments
    shifted: theory.Moments
    offset: np.ndarray


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

    Same signature and record as ``simulate.simulate``.  Of ``test`` only subgroup names and class counts are read.
    """
    key_survey, key_pairs = jax.random.split(key)
    found = survey(key_survey, train, test, design.widths, shifts, group=group, architecture=design.encoder)
    return foresee(key_pairs, found, design)


def outside(train: Cohort, design: Design) -> list[str]:
    """Why the theory was not checked on such a cohort or design; empty where it was.

    Checked on images (2 axes) of 28 and 32 pixels with one channel, one encoder shape, 256 labels or all there are, and
    training up to 800 steps; of the two cohorts with the fewest images of the rarer class, one (78) had no reliable design
    effects to foresee and the other (136) none that were foreseen (`derivations/NOTES.md`).
    """
    side, channels, dims = max(train.image.shape[1:-1]), train.image.shape[-1], train.image.ndim - 2
    rarer = min(counted(train.label[train.split != "test"], train.asked))
    n = n_labels(design, cohorts.part(train, "train").label, train.asked)
    found = {
        f"images of {side} pixels (checked: 28 and 32)": not 28 <= side <= 32,
        "volumes (checked: images of 2 axes)": dims != 2,
        f"{channels} channels (checked: 1)": channels != 1,
        f"{rarer} images of the rarer class outside the test part (checked: 100 and more)": rarer < 100,
        f"{n} labels: too few for the probe's law (20 and more)": n < 20,
        f"encoder {design.encoder.name} (checked: plain)": design.encoder != PLAIN,
        design.encoder.doubt: bool(design.encoder.doubt),
        f"encoder widths {design.widths} (checked: (16, 32, 64))": design.widths != (16, 32, 64),
        f"{design.steps} steps at learning rate {design.learning_rate:g} (checked: up to 800 at 0.003)": (
            design.steps * design.learning_rate > 800 * 3e-3
        ),
    }
    return [why for why, so in found.items() if so] + unforeseen(design)


def survey(
    key: Array,
    train: Cohort,
    test: Cohort,
    widths: tuple[int, ...],
    shifts: Sequence[Variability],
    *,
    group: str | None = None,
    architecture: Architecture = PLAIN,
) -> Survey:
    """Survey of the source by several untrained encoders; all designs with one architecture and widths share it.

    Each chart foresees deployment on a part of the source whose patients neither fix its probe nor make its pairs.
    Theory's error in level is measured there, for the untrained encoder, and taken to be that of every design.
    """
    key_networks, key_images, key_shift, key_probe = jax.random.split(key, 4)
    source = cohorts.take(train, np.flatnonzero(train.split != "test"))  # validation images are source images too
    labels = cohorts.part(train, "train").label
    shape = source.image.shape[1:]
    networks = [architecture.build(k, shape, widths) for k in jax.random.split(key_networks, NETWORKS)]
    folds, reference = _folds(key_images, source), replace(_UNTRAINED, widths=widths)
    n = n_labels(reference, labels)
    names, test_code = cohorts.groups(test, group)

    def chart(i: int) -> Chart:
        network, deployed = networks[i], cohorts.take(source, folds[i][:ALTERED])
        fixed = cohorts.take(source, np.concatenate([fold for fold in folds if fold is not folds[i]])[:CLEAN])
        raw = layer_statistics(network, cohorts.pixels(fixed))
        d = widths[-1] if hasattr(network, "layers") else raw.shape[1]
        shifted = _under_shifts(jax.random.fold_in(key_shift, i), network, cohorts.pixels(deployed), shifts)
        centre, axes = _directions(raw, shifted, d)
        clean = jax.jit(theory.moments)((raw - centre) @ axes, fixed.label)
        by_group = _moments_by_group(
            (shifted - centre) @ axes, deployed.label, _code(deployed, group, names), len(names)
        )
        own = axes[:d]  # the features are the first statistics
        found = Chart(network, centre, axes, d, _scaled(own.T @ own, clean), clean, by_group, np.zeros(()))
        stated = _rates(found, found.untrained, n, reference)[..., 0]
        measured = _measured(key_probe, raw[:, :d], fixed.label, shifted[..., :d], deployed.label, n, reference.ridge)
        return found._replace(offset=probit(measured) - probit(stated))

    paired = cohorts.take(source, folds[-1][:CLEAN])
    charts = tuple(chart(i) for i in range(NETWORKS))
    counts = _counts(test.label, test_code, len(names))
    return Survey(charts, cohorts.pixels(paired), paired.label, labels, counts)


def foresee(key: Array, survey: Survey, design: Design) -> Outcome:
    """The outcome of one design, the mean over charts, since each untrained encoder is one draw."""
    n = n_labels(design, survey.label)
    found = [
        ndtr(ndtri(_rates(chart, metric, n, design)) + chart.offset[..., None])
        for metric, chart in zip(representations(key, survey, design), survey.charts, strict=True)
    ]
    known = ~np.isnan(found)  # a chart that has too few of a subgroup is left out
    mean = np.where(known, found, 0).sum(0) / np.maximum(known.sum(0), 1)
    auc, tpr, fpr = np.where(known.any(0), mean, np.nan)
    return Outcome(auc, tpr, fpr, *survey.counts)


def _rates(chart: Chart, metric: Array, n: int, design: Design) -> np.ndarray:
    """AUC, TPR and FPR (3, shift, severity, group) that theory states for a design's representation."""
    return np.stack(_outcome(metric, chart.clean, chart.shifted, n, wrong(design), design.ridge, chart.width))


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

    A mixture of all layers' statistics alike and of the best linear prediction of the proxy task's target from its
    input, which shrinks each direction by between / (between + view) (Eq. gain).  The weight moves from the first to
    the second with training time, at the proxy's pace; both are scaled to the same total variance on the source.
    Without training it is the untrained encoder's own.
    """
    if not design.steps:
        return [chart.untrained for chart in survey.charts]
    inputs, targets = _pairs(key, survey, design)
    trained = design.steps * design.learning_rate * design.proxy.pace
    share = trained / (trained + LEARNING_TIME)
    ridge = OPERATOR_RIDGE if design.proxy.siamese or design.proxy.labelled else TARGET_RIDGE
    moments = (_covariances(*_coordinates(chart, inputs, targets, design.proxy)) for chart in survey.charts)
    alike = [_scaled(np.eye(chart.axes.shape[1]), chart.clean) for chart in survey.charts]
    learned = [_learned(chart.clean, *uv, ridge) for chart, uv in zip(survey.charts, moments, strict=True)]
    return [(1 - share) * start + share * end for start, end in zip(alike, learned, strict=True)]


def _pairs(key: Array, survey: Survey, design: Design) -> tuple[np.ndarray, np.ndarray]:
    """PAIRED inputs and targets of the proxy task; a task that needs labels sees only as many images as have one."""
    images, image_label, source_label = survey.images, survey.image_label, survey.label
    if design.pretrain_on is not None:
        images, image_label, source_label = transfer.shown(key, design.pretrain_on, CLEAN)
    chosen = np.arange(min(len(images), design.n_unlabelled))
    if design.proxy.labelled:
        asked = design.proxy.asked
        each, stratum = n_labels(design, source_label, asked) // asked.n_strata, asked.strata(image_label)
        chosen = np.concatenate([np.flatnonzero(stratum == c)[:each] for c in range(asked.n_strata)])
    rows = np.resize(chosen, PAIRED)
    keys, label = jax.random.split(key, PAIRED), image_label[rows].astype(np.int32)
    # not compiled as a whole: the pieces of different laws are the same, and compile once
    inputs, targets = in_chunks(jax.vmap(design.proxy.pairs), keys, images[rows], label, chunk=_at_once(images))
    return inputs, targets if design.proxy.siamese else _leading(targets.reshape(PAIRED, -1))


def _at_once(images: np.ndarray) -> int:
    """How many images (n, *space, C) are altered together."""
    return max(1, min(AT_ONCE, PIXELS // int(np.prod(images.shape[1:-1]))))


@jax.jit
def _learned(clean: theory.Moments, uu: Array, uv: Array, ridge: float) -> Array:
    """Inner product (r, r) of the linear predictor, from the second moments of pairs."""
    weights = theory.predictor(uu, uv, ridge=ridge)
    by_patch = weights.reshape(-1, clean.mean.shape[-1], weights.shape[1])  # a head that sees several patches
    return _scaled(jnp.einsum("pik,pjk->ij", by_patch, by_patch), clean)


def _scaled(metric: Array | np.ndarray, clean: theory.Moments) -> Array:
    """The inner product, scaled so that the source's total variance is that of the coordinates themselves."""
    second = theory.total_covariance(clean)
    return jnp.asarray(metric) * jnp.trace(second) / jnp.trace(metric @ second)


def _coordinates(chart: Chart, inputs: np.ndarray, targets: np.ndarray, proxy: Proxy) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the proxy task's inputs (m, r), or (m, patches r), and its targets (m, TARGETS)."""
    rank = inputs.ndim - 1 - proxy.patched

    def of(images: np.ndarray) -> np.ndarray:
        single = images.reshape(-1, *images.shape[-rank:])
        return (layer_statistics(chart.network, single) - chart.centre) @ chart.axes

    u = of(inputs)
    if not proxy.siamese:
        return u.reshape(len(targets), -1), targets
    v = np.repeat(of(targets), len(u) // len(targets), axis=0)  # each patch seen is paired with the one to come
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


def _directions(clean: np.ndarray, shifted: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Centre (p,) and axes (p, r): d features and other statistics scaled to equal total variance, then principal axes.

    Shifted images take part, since what a shift moves is often flat among clean images.
    """
    centre = clean.mean(0)
    spread = clean.var(0)
    scale = 1 / np.sqrt(np.concatenate([np.full(d, spread[:d].sum()), np.full(len(spread) - d, spread[d:].sum())]))
    stacked = np.concatenate([clean - centre, shifted.reshape(-1, len(centre))[::7] - centre]) * scale
    stacked = stacked[np.isfinite(stacked).all(1)]  # of a table of features nothing shifted is known
    vectors = np.linalg.eigh(stacked.T @ stacked)[1][:, ::-1][:, :DIRECTIONS]
    return centre, scale[:, None] * vectors


def _under_shifts(key: Array, network: Network, images: np.ndarray, shifts: Sequence[Variability]) -> np.ndarray:
    """Raw layer statistics (shift, severity 0-5, n, p)."""
    n = len(images)
    clean = layer_statistics(network, images)

    def under(i: int) -> np.ndarray:
        levels = shifts[i].levels
        keys = jax.random.split(jax.random.fold_in(key, i), n)  # an image keeps its draw over severities
        repeated = np.tile(np.arange(n), len(levels))
        severity = np.repeat(np.asarray(levels, np.float32), n)
        altered = in_chunks(
            jax.vmap(shifts[i].apply), keys[repeated], images[repeated], severity, chunk=_at_once(images)
        )
        return np.concatenate([clean[None], layer_statistics(network, altered).reshape(len(levels), n, -1)])

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # compiles several variabilities at a time
        return np.array(list(pool.map(under, range(len(shifts)))))


def _folds(key: Array, source: Cohort) -> list[np.ndarray]:
    """Rows of the source in random order: one part for each chart to deploy on, and the rest; no patient in two parts.

    A source of fewer patients than parts is split by image.
    """
    order = np.asarray(jax.random.permutation(key, len(source.label)))
    who = np.unique(source.patient[order], return_inverse=True)[1]
    if who.max() < NETWORKS:
        who = np.arange(len(order))
    first = np.unique(who, return_index=True)[1][who]  # a patient comes where the first image of theirs does
    order, first = order[np.argsort(first, kind="stable")], np.sort(first)
    size = min(ALTERED, len(order) // (NETWORKS + 1))
    return np.split(order, [np.searchsorted(first, first[size * (i + 1)]) for i in range(NETWORKS)])


def _measured(
    key: Array,
    clean: np.ndarray,
    label: np.ndarray,
    shifted: np.ndarray,
    shifted_label: np.ndarray,
    n: int,
    ridge: float,
) -> np.ndarray:
    """AUC, TPR and FPR (3, shift, severity) of ridge probes on untrained features (n, d) and (shift, severity, m, d)."""
    rates = []
    for one in jax.random.split(key, PROBES):
        order = np.asarray(jax.random.permutation(one, len(label)))
        rows = np.concatenate([order[label[order] == c][: n // 2] for c in (0, 1)])
        x, y = clean[rows].astype(float), 2.0 * label[rows] - 1
        centre = (x[y > 0].mean(0) + x[y < 0].mean(0)) / 2
        x = x - centre
        penalty = ridge * (x**2).sum() / x.size
        weight = np.linalg.solve(x.T @ x / len(x) + penalty * np.eye(x.shape[1]), x.T @ y / len(x))
        source_score, score = (clean - centre) @ weight, (shifted - centre) @ weight
        bar = (source_score[label == 1].mean() + source_score[label == 0].mean()) / 2
        case = shifted_label == 1
        rates.append([auc(score, shifted_label), (score[..., case] > bar).mean(-1), (score[..., ~case] > bar).mean(-1)])
    return np.mean(rates, axis=0)


def _code(deployed: Cohort, group: str | None, names: list[str]) -> np.ndarray:
    """Number of each deployed image's subgroup among the test part's (-1: not in the test part)."""
    own, code = cohorts.groups(deployed, group)
    return np.array([names.index(name) if name in names else -1 for name in own] or [0])[code]


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
