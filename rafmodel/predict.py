"""Predict a learning design before it is trained (level L0), in the statistics of its untrained encoder's layers.

Reads the source cohort, the design's law of pairs and the shift laws; trains nothing and never sees a test label.
The mathematics on moments is in ``theory``; this module takes the moments of a cohort and a design.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import charts, theory, transfer, unequal
from rafmodel import cohort as cohorts
from rafmodel.architectures import PLAIN, Architecture
from rafmodel.charts import Alike, Chart
from rafmodel.cohort import Cohort
from rafmodel.design import Design, counted, n_by_class, n_labels, scaled_views, select, unforeseen
from rafmodel.encoder import Network, features, in_chunks, layer_statistics
from rafmodel.experience import unstudied
from rafmodel.metrics import Outcome, probit
from rafmodel.on_disk import OnDisk
from rafmodel.once import Once
from rafmodel.teaching import Taught, flips, taught
from rafmodel.variability import Variability

TARGETS = 64  # principal directions of a target that has more
LARGEST, SKETCHED = 2**16, 2**12  # numbers of a target above which it is sketched, and of the sketch
PAIRED = 3840  # pairs of a proxy task: a quarter of them hides most differences in the noise of its moments
LEARNING_TIME = 0.04  # steps times learning rate after which a task of pace 1 has shaped half of the variance
VIEW_RIDGE, LABEL_RIDGE, IMAGE_RIDGE = 0.0003, 0.1, 0.03
"""Relative to the mean variance of a direction: where the target is another view, labels, or made from the image.
They, the time and the paces were chosen on four development cohorts (`derivations/NOTES.md`)."""
UNTRAINED = select(["untrained"])[0]

# images (m, *space, C), their labels (m,), and the rows of those that a proxy task sees
Shown = tuple[np.ndarray | OnDisk, np.ndarray, np.ndarray]


class Survey(NamedTuple):
    """What theory keeps of a source cohort.

    charts     one for each untrained encoder and each part of the source to deploy on
    pools      one for each such part: all encoders' statistics together, for tasks that labels teach; empty: as charts
    images     (m, H, W, C) and image_label (m,): source images in random order, for the pairs of proxy tasks
    label      all source labels, for the number of labels at hand
    counts     cases and controls of the test part by group
    alike      how alike the labelled images of one patient are
    moments    of pairs, by the law that they follow: designs which share it differ in what is made of them
    """

    charts: tuple[Chart, ...]
    pools: tuple[Chart, ...]
    images: np.ndarray | OnDisk
    image_label: np.ndarray
    label: np.ndarray
    counts: tuple[np.ndarray, np.ndarray]
    alike: Alike
    moments: Once


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


def outside(train: Cohort, design: Design, shifts: Sequence[Variability] = ()) -> list[str]:
    """Why the theory was not checked on such a cohort, design or shift; empty where it was.

    Checked on the designs, shifts and steps of the shipped experience (``experience.unstudied``), with right labels and a ridge
    probe, on images (2 axes) of 28 and 32 pixels with one channel, one encoder shape, 256 labels or all there are; of the two
    cohorts with the fewest images of the rarer class, one (78) had no reliable design effects to foresee and the other (136)
    none that were foreseen (`derivations/NOTES.md`).
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
        f"{max(flips(design)):.0%} wrong labels (checked: none)": max(flips(design)) > 0,
        "a logistic probe (checked: ridge)": design.probe == "logistic",
        "views of another strength than those of the designs studied": scaled_views(design),
        design.encoder.doubt: bool(design.encoder.doubt),
        f"encoder widths {design.widths} (checked: (16, 32, 64))": design.widths != (16, 32, 64),
    }
    named = [why for why, so in found.items() if so] + unstudied(design, [shift.name for shift in shifts])
    return named + unforeseen(design)


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
    labelled = cohorts.part(train, "train")
    labels = labelled.label
    networks = untrained(key_networks, architecture, source, widths)
    alike = patients(key_images, networks[0], labelled, labels, 2)
    folds, reference = charts.folds(key_images, source), replace(UNTRAINED, widths=widths)
    n, shown = n_labels(reference, labels), independent(taught(reference, labels), alike)
    names, test_code = cohorts.groups(test, group)

    def fold(i: int) -> list[Chart]:
        deployed = cohorts.take(source, folds[i][: charts.ALTERED])
        fixed = cohorts.take(source, np.concatenate([fold for fold in folds if fold is not folds[i]])[: charts.CLEAN])
        all_raw = charts.statistics(networks, cohorts.pixels(fixed))
        key_here, images = jax.random.fold_in(key_shift, i), cohorts.pixels(deployed)
        all_shifted = charts.under_shifts(key_here, networks, images, shifts)
        code = charts.code(deployed, group, names)

        def chart(one: charts.Columns) -> Chart:
            raw, shifted, d = all_raw[:, one.columns], all_shifted[..., one.columns], one.width
            centre, axes, untrained = one.directions(raw, shifted)
            clean = jax.jit(theory.moments)((raw - centre) @ axes, fixed.label)
            by_group = charts.moments_by_group(shifted, centre, axes, deployed.label, code, len(names))
            own = charts.scaled(untrained, clean)
            found = Chart(one.networks, centre, axes, d, own, clean, by_group, np.zeros(()))
            stated = _rates(found, own, shown, reference.ridge)[..., 0]
            seen = raw[:, :d], fixed.label, shifted[..., :d], deployed.label
            measured = charts.measured(key_probe, *seen, n, reference.ridge)
            return found._replace(offset=probit(measured) - probit(stated))

        return [chart(one) for one in charts.columns(networks, all_raw.shape[1], widths[-1])]

    found = [fold(i) for i in range(charts.FOLDS)]
    paired = cohorts.take(source, folds[-1][: charts.CLEAN])
    single = tuple(chart for some in found for chart in some[: len(networks)])
    pools = tuple(chart for some in found for chart in some[len(networks) :])
    counts = charts.counts(test.label, test_code, len(names))
    return Survey(single, pools, cohorts.pixels(paired), paired.label, labels, counts, alike, Once())


def untrained(key: Array, architecture: Architecture, source: Cohort, widths: tuple[int, ...]) -> tuple[Network, ...]:
    """Encoders to average over; of a frozen one, which is always the same, one."""
    keys = jax.random.split(key, 1 if architecture.frozen else charts.NETWORKS)
    return tuple(architecture.build(k, source.image.shape[1:], widths) for k in keys)


def patients(key: Array, network: Network, labelled: Cohort, stratum: np.ndarray, strata: int) -> Alike:
    """How alike images of one patient are to an untrained encoder, read from at most CLEAN labelled ones."""
    rows = np.asarray(jax.random.permutation(key, len(stratum)))[: charts.CLEAN]
    some = cohorts.take(labelled, rows)
    alone = len(np.unique(some.patient)) == len(rows)  # then features do not matter
    x = np.zeros((len(rows), 1)) if alone else features(network, cohorts.pixels(some)).astype(float)
    return charts.alike(x, stratum[rows], some.patient, strata)


def independent(shown: Taught, alike: Alike) -> Taught:
    """What as many labels as there are are worth where some are of one patient."""
    worth = alike.worth(shown.count)
    return shown._replace(count=(shown.count[0] * worth, shown.count[1] * worth))


def charts_of(design: Design, single: tuple[Any, ...], pools: tuple[Any, ...]) -> tuple[Any, ...]:
    """Those charts that a design is foreseen in: labels form what several untrained encoders see together."""
    return (pools if design.proxy.labelled else ()) or single


def foresee(key: Array, survey: Survey, design: Design) -> Outcome:
    """The outcome of one design, the mean over its charts."""
    shown = independent(taught(design, survey.label), survey.alike)
    here = charts_of(design, survey.charts, survey.pools)
    metrics = representations(key, survey, design)
    stated = [_rates(chart, metric, shown, design.ridge) for chart, metric in zip(here, metrics, strict=True)]
    offsets = [chart.offset for chart in here]
    auc, tpr, fpr = charts.averaged(stated, offsets)
    return Outcome(auc, tpr, fpr, *survey.counts, by_part=charts.by_part(stated, offsets))


def _rates(chart: Chart, metric: Array, shown: Taught, ridge: float) -> np.ndarray:
    """AUC, TPR and FPR (3, shift, severity, group) that theory states for a representation and what its probe is taught."""
    chosen = {"alike": shown.alike, "loss": shown.loss}
    return np.stack(_outcome(metric, chart.clean, chart.shifted, *shown[:3], shown.again, ridge, chart.width, **chosen))


@partial(jax.jit, static_argnames=("alike", "loss"))
def _outcome(
    metric: Array,
    clean: theory.Moments,
    shifted: theory.Moments,
    count: tuple[float, float],
    flip: tuple[float, float],
    weight: tuple[float, float],
    again: tuple[float, float],
    ridge: float,
    width: int,
    *,
    alike: bool,
    loss: str,
) -> tuple[Array, Array, Array]:
    """AUC, TPR and FPR of a linear probe on the representation ``metric^½ φ``, on shifted moments of φ."""
    spectrum, basis = jnp.linalg.eigh(metric)
    root = (basis * jnp.sqrt(jnp.maximum(spectrum, 0))[None, :]) @ basis.T
    learned = theory.Moments(clean.mean @ root, root @ clean.cov @ root, clean.weight)
    if alike:
        penalty = ridge * jnp.trace(theory.total_covariance(learned)) / width
        law = theory.probe(learned, 2 * count[0], flip=flip[0], ridge=penalty)
    else:
        learned = theory.Moments(
            *(jnp.asarray(each, float) for each in learned)
        )  # one precision all through the fixed point
        counts, weights = jnp.asarray(count, float), jnp.asarray(weight, float)
        # relative to the width of the encoder, of which r directions are kept
        relative = ridge * len(metric) / width
        penalty = unequal.penalty(learned, counts, weights, ridge=relative, loss=loss)
        chosen = {"weight": weights, "again": jnp.asarray(again, float), "loss": loss}
        law = unequal.probe(learned, counts, flip=jnp.asarray(flip), ridge=penalty, **chosen)
    outward = law._replace(mean=root @ law.mean, cov=root @ law.cov @ root, centre=clean.mean.mean(0))
    bar = theory.threshold(outward, clean)
    return jax.lax.map(lambda one: theory.deploy(outward, one, bar), shifted)  # a shift at a time: moments are large


def representations(key: Array, survey: Survey, design: Design) -> list[Array]:
    """Inner product (r, r) that the trained encoder puts on the layer statistics, in each of ``charts_of``.

    A mixture of all layers' statistics alike and of the best linear prediction of the proxy task's target from its
    input, which shrinks each direction by between / (between + view) (Eq. gain).  The weight moves from the first to
    the second with training time, at the proxy's pace; both are scaled to the same total variance on the source.
    Without training it is the untrained encoder's own.
    """
    if not design.steps:
        return [chart.untrained for chart in charts_of(design, survey.charts, survey.pools)]
    trained = design.steps * design.learning_rate * design.proxy.pace
    share = trained / (trained + LEARNING_TIME)
    ridge = LABEL_RIDGE if design.proxy.labelled else VIEW_RIDGE if design.proxy.siamese else IMAGE_RIDGE
    here = charts_of(design, survey.charts, survey.pools)
    shown = _shown(key, survey, design)
    # charts by identity: the survey that keeps the answers holds them
    law = design.proxy.pairs, design.proxy.siamese, design.proxy.patched, design.pretrain_on, shown[2].tobytes()
    asked = np.asarray(jax.random.key_data(key)).tobytes(), law, tuple(map(id, here))
    moments = survey.moments(asked, lambda: _seen(key, shown, design, here))
    alike = [charts.scaled(np.eye(chart.axes.shape[1]), chart.clean) for chart in here]
    learned = [_learned(chart.clean, *some, ridge) for chart, some in zip(here, moments, strict=True)]
    return [(1 - share) * start + share * end for start, end in zip(alike, learned, strict=True)]


def _seen(key: Array, shown: Shown, design: Design, here: Sequence[Chart]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Second moments of the proxy task's pairs in each chart; every network sees every image once, and none is kept."""
    networks, siamese = {id(network): network for chart in here for network in chart.networks}, design.proxy.siamese

    def statistics(images: np.ndarray, n: int) -> dict[int, np.ndarray]:
        return {i: layer_statistics(network, images).reshape(n, -1) for i, network in networks.items()}

    def seen(inputs: Array, targets: Array) -> tuple[dict[int, np.ndarray], Any]:
        n, single = len(inputs), np.asarray(inputs.reshape(-1, *inputs.shape[1 + design.proxy.patched :]))
        return statistics(single, n), statistics(np.asarray(targets), n) if siamese else targets

    ahead, behind = _pairs(key, shown, design, seen)

    def of(chart: Chart, seen: dict[int, np.ndarray]) -> np.ndarray:
        each = len(chart.centre) // len(chart.networks)
        by_network = [seen[id(network)].reshape(-1, each) for network in chart.networks]
        return (np.concatenate(by_network, 1) - chart.centre) @ chart.axes

    def moments(chart: Chart) -> tuple[np.ndarray, np.ndarray]:
        u = of(chart, ahead)
        if not siamese:
            return _covariances(u.reshape(len(behind), -1), behind)
        v = of(chart, behind)
        v = np.repeat(v, len(u) // len(v), axis=0)  # a patch seen is paired with the one to come
        return _covariances(np.concatenate([u, v]), _leading(np.concatenate([v, u])))  # the views are exchangeable

    return [moments(chart) for chart in here]


def _shown(key: Array, survey: Survey, design: Design) -> Shown:
    """What the proxy task sees; one that needs labels only as many images as have one."""
    images, image_label, source_label = survey.images, survey.image_label, survey.label
    if design.pretrain_on is not None:
        images, image_label, source_label = transfer.shown(key, design.pretrain_on, charts.CLEAN)
    chosen = np.arange(min(len(images), design.n_unlabelled))
    if design.proxy.labelled:
        asked = design.proxy.asked
        each, stratum = n_by_class(design, source_label, asked), asked.strata(image_label)
        chosen = np.concatenate([np.flatnonzero(stratum == c)[:n] for c, n in enumerate(each)])
    return images, image_label, chosen


def _pairs(key: Array, shown: Shown, design: Design, seen: Callable[..., Any] = lambda *pair: pair) -> Any:
    """What is seen of PAIRED inputs and targets of the proxy task, which are made a batch at a time."""
    images, image_label, chosen = shown
    rows = np.resize(chosen, PAIRED)
    keys, label = jax.random.split(key, PAIRED), image_label[rows].astype(np.int32)

    def some(keys: Array, row: np.ndarray, label: np.ndarray) -> Any:
        # not compiled as a whole: the pieces of different laws are the same, and compile once
        inputs, targets = jax.vmap(design.proxy.pairs)(keys, jnp.asarray(images[row]), jnp.asarray(label))
        return seen(inputs, targets if design.proxy.siamese else _sketched(targets.reshape(len(row), -1)))

    inputs, targets = in_chunks(some, keys, rows, label, chunk=charts.at_once(images))
    return inputs, targets if design.proxy.siamese else _leading(targets)


def _sketched(v: Array) -> Array:
    """Numbers (n, k), where they are more than LARGEST, added with random signs to SKETCHED sums.

    Inner products stay the same but for an error of 1 / sqrt(SKETCHED), so principal components do: count sketch, Charikar et
    al. 2002.  As they are they would not fit into memory for the volumes that they are the pixels of.
    """
    n, k = v.shape
    if k <= LARGEST:
        return v
    sign = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), k)
    return jnp.pad(v * sign[None], ((0, 0), (0, -k % SKETCHED))).reshape(n, -1, SKETCHED).sum(1)


@jax.jit
def _learned(clean: theory.Moments, uu: Array, uv: Array, ridge: float) -> Array:
    """Inner product (r, r) of the linear predictor, from the second moments of pairs."""
    weights = theory.predictor(uu, uv, ridge=ridge)
    by_patch = weights.reshape(-1, clean.mean.shape[-1], weights.shape[1])  # a head that sees several patches
    return charts.scaled(jnp.einsum("pik,pjk->ij", by_patch, by_patch), clean)


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
