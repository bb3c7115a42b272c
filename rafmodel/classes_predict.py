"""Predict several questions to one representation before it is trained (level L0): classes, findings, grades.

The mathematics is that of ``predict``; what is learned of the images is read once, by the same function.  The ridge probe's law
has a column for each question (``unequal.answers``), and where it is deployed a question's sides are mixtures of cells, each
Gaussian: of a class against the rest every class is a cell, of a finding those with and those without.  In place of shifted
moments the images' coordinates are kept, of which the moments of the scores are taken, for there are fewer of them.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import charts, metrics, predict, theory, unequal
from rafmodel import cohort as cohorts
from rafmodel.architectures import PLAIN, Architecture
from rafmodel.asked import Asked
from rafmodel.charts import FEWEST, Chart
from rafmodel.cohort import Cohort
from rafmodel.design import Design, n_by_class
from rafmodel.metrics import Outcome, probit
from rafmodel.once import Once
from rafmodel.predict import representations
from rafmodel.variability import Variability


class Seen(NamedTuple):
    """A source cohort in the leading directions of one untrained encoder, S columns: questions, and of grades their sum.

    chart     as of ``predict``; ``clean`` has an axis of strata in place of control and case, ``shifted`` and ``offset`` nothing
    x         (shift, severity 0-5, m, r) coordinates of source images under each shift
    cell      (group, C, m) in {0, 1}, which of them make up each cell of each subgroup, everyone first
    centre    (r,), cross (r, S), variance (S,): mean of labelled images, their covariance with the answers, variance of these
    middle    (r, S) half way between the means of images that answer yes and no
    offset    (S, 3, shift, severity 0-5) what to add to the probits of AUC, TPR and FPR, as of ``predict.Chart``
    """

    chart: Chart
    x: np.ndarray
    cell: np.ndarray
    centre: np.ndarray
    cross: np.ndarray
    variance: np.ndarray
    middle: np.ndarray
    offset: np.ndarray


class Survey(NamedTuple):
    """What theory keeps of a source cohort; ``images`` is what proxy tasks and representations are read from."""

    asked: Asked
    seen: tuple[Seen, ...]
    pools: tuple[Seen, ...]
    images: predict.Survey


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
    """As ``predict.survey``, for a cohort whose images are asked several questions."""
    key_networks, key_images, key_shift, key_probe = jax.random.split(key, 4)
    source, asked = cohorts.take(train, np.flatnonzero(train.split != "test")), train.asked
    labelled, reference = cohorts.part(train, "train"), predict.UNTRAINED
    labels = labelled.label
    networks = predict.untrained(key_networks, architecture, source, widths)
    folds = charts.folds(key_images, source)
    names, test_code = cohorts.groups(test, group)
    each = n_by_class(reference, labels, asked)
    alike = predict.patients(key_images, networks[0], labelled, asked.strata(labels), len(each))
    n = sum(each) * alike.worth(each)

    def fold(i: int) -> list[Seen]:
        deployed = cohorts.take(source, folds[i][: charts.ALTERED])
        fixed = cohorts.take(source, np.concatenate([fold for fold in folds if fold is not folds[i]])[: charts.CLEAN])
        all_raw = charts.statistics(networks, cohorts.pixels(fixed))
        key_here, images = jax.random.fold_in(key_shift, i), cohorts.pixels(deployed)
        all_shifted = charts.under_shifts(key_here, networks, images, shifts)
        member = metrics.members(charts.code(deployed, group, names), len(names))
        cell = (member[:, None] * cells(asked, deployed.label)[None]).astype(np.float32)

        def of(one: charts.Columns) -> Seen:
            raw, shifted, d = all_raw[:, one.columns], all_shifted[..., one.columns], one.width
            centre, axes, untrained = one.directions(raw, shifted)
            x = (raw - centre) @ axes
            clean = by_stratum(x, asked.strata(fixed.label))
            own = charts.scaled(untrained, clean)
            chart = Chart(one.networks, centre, axes, d, own, clean, clean, np.zeros(()))
            learned = _answered(x, asked, fixed.label)
            placed = ((shifted - centre) @ axes).astype(np.float32)
            found = Seen(chart, placed, cell, *learned, offset=np.zeros(()))
            stated = _rates(found, own, n, reference, asked)[..., 0]
            seen, told = (raw[:, :d], fixed.label), (shifted[..., :d], deployed.label)
            measured = _measured(key_probe, *seen, *told, each, reference.ridge, asked)
            return found._replace(offset=probit(measured) - probit(stated))

        return [of(one) for one in charts.columns(networks, all_raw.shape[1], widths[-1])]

    found = [fold(i) for i in range(charts.FOLDS)]
    single = tuple(seen for some in found for seen in some[: len(networks)])
    pools = tuple(seen for some in found for seen in some[len(networks) :])
    paired = cohorts.take(source, folds[-1][: charts.CLEAN])
    counts = _counts(asked.answers(test.label), metrics.members(test_code, len(names)))
    here, there = (tuple(one.chart for one in some) for some in (single, pools))
    images = predict.Survey(here, there, cohorts.pixels(paired), paired.label, labels, counts, alike, Once())
    return Survey(asked, single, pools, images)


def foresee(key: Array, survey: Survey, design: Design) -> Outcome:
    """The outcome of one design, the mean over untrained encoders and then over questions, with the AUC of each."""
    asked, each = survey.asked, n_by_class(design, survey.images.label, survey.asked)
    n = sum(each) * survey.images.alike.worth(each)
    here = predict.charts_of(design, survey.seen, survey.pools)
    metrics = representations(key, survey.images, design)
    stated = [_rates(seen, metric, n, design, asked) for seen, metric in zip(here, metrics, strict=True)]
    mean = charts.averaged(stated, [seen.offset for seen in here])
    n_questions = len(asked.questions)
    auc, tpr, fpr = mean[:n_questions].mean(0)
    concordance = mean[n_questions, 0] if len(mean) > n_questions else None
    return Outcome(auc, tpr, fpr, *survey.images.counts, concordance=concordance, of_question=mean[:n_questions, 0])


def outside(train: Cohort, design: Design, shifts: Sequence[Variability] = ()) -> list[str]:
    """Why the forecast is rougher than that of cases against controls: said of every task with several questions."""
    told = (
        f"{train.asked.kind}, {len(train.asked.questions)} questions (constants were chosen on cases against controls)"
    )
    return [told, *predict.outside(train, design, shifts)]


# ---- what is asked, as cells


def cells(asked: Asked, label: np.ndarray) -> np.ndarray:
    """Which images (n,) make up each cell, (C, n): the classes or grades, or those without and with each finding."""
    if asked.kind != "multi-label":
        return label[None] == np.arange(len(asked.names))[:, None]
    answers = asked.answers(label).T
    return np.stack([answers == 0, answers == 1], 1).reshape(-1, len(label))


def sides(asked: Asked) -> np.ndarray:
    """Whether each cell answers each question with yes, (2, Q, C) in {0, 1}: no, then yes; neither where it is not its own."""
    if asked.kind != "multi-label":
        return np.stack([asked.table.T == 0, asked.table.T == 1]).astype(float)
    own = np.eye(len(asked.names))
    return np.stack([np.kron(own, [1, 0]), np.kron(own, [0, 1])])


def above(asked: Asked) -> np.ndarray:
    """Which cells are to score above which, (S, C, C): of each question, and of grades of their sum."""
    no, yes = sides(asked)
    pairs = yes[:, :, None] * no[:, None, :]
    return pairs if asked.kind != "ordinal" else np.concatenate([pairs, np.tri(len(asked.names), k=-1)[None]])


def by_stratum(x: np.ndarray, stratum: np.ndarray) -> theory.Moments:
    """Moments of x (m, r) with the strata that have images for classes: mean (n, r), cov (n, r, r)."""
    parts = [x[stratum == c] for c in np.unique(stratum)]
    cov = [(p - p.mean(0)).T @ (p - p.mean(0)) / len(p) for p in parts]
    sizes = jnp.asarray([float(len(p)) for p in parts])
    return theory.Moments(jnp.asarray(np.stack([p.mean(0) for p in parts])), jnp.asarray(np.stack(cov)), sizes)


def _answered(x: np.ndarray, asked: Asked, label: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centre, cross, variance and middle of ``Seen`` from coordinates (m, r), where strata are drawn in equal numbers."""
    _, stratum, size = np.unique(asked.strata(label), return_inverse=True, return_counts=True)
    weight = 1 / (len(size) * size[stratum])
    answers = asked.answers(label).astype(float)
    if asked.kind == "ordinal":
        answers = np.column_stack([answers, answers.sum(1)])
    centre, apart = weight @ x, answers - weight @ answers
    middle = [(_mean(x[column > 0]) + _mean(x[column <= 0])) / 2 for column in apart.T]
    return centre, (weight[:, None] * (x - centre)).T @ apart, weight @ apart**2, np.stack(middle, 1)


def _mean(x: np.ndarray) -> np.ndarray:
    """Mean over the first axis, nan where it is empty."""
    return x.mean(0) if len(x) else np.full(x.shape[1:], np.nan)


def _counts(answers: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest numbers of cases and of controls over the questions, by group, from answers (n, Q) and members (group, n)."""
    cases, controls = (np.array([(answers[who] == c).sum(0).min() for who in member]) for c in (1, 0))
    return cases, controls


# ---- rates


def _rates(seen: Seen, metric: Array, n: float, design: Design, asked: Asked) -> np.ndarray:
    """AUC, TPR and FPR (S, 3, shift, severity, group) of a design's representation; nan where a group has too few images."""
    classes = None if asked.kind == "multi-label" else len(asked.names)
    numbers = (n, design.label_flip, design.ridge, seen.chart.width)
    found = _deployed(metric, seen.chart.clean, seen[1:-1], sides(asked), above(asked), *numbers, classes=classes)
    return np.moveaxis(np.stack(found), (0, -1), (1, 0))


@partial(jax.jit, static_argnames="classes")
def _deployed(metric, clean, seen, side, above, n, flip, ridge, width, *, classes):
    """AUC, TPR and FPR, each (shift, severity, group, S), of ridge probes on the representation ``metric^½ φ``."""
    x, cell, centre, cross, variance, middle = map(jnp.asarray, seen)
    spectrum, basis = jnp.linalg.eigh(metric)
    root = (basis * jnp.sqrt(jnp.maximum(spectrum, 0))[None, :]) @ basis.T
    total = root @ theory.total_covariance(clean) @ root
    penalty = ridge * jnp.trace(total) / width
    law = unequal.answers(total, root @ unequal.told(cross, variance, flip, classes), n, ridge=penalty)
    weights, spread, noise = root @ law.mean, root @ law.spread @ root, law.noise[None, None, None, None]
    z, count = x - centre[None, None, None], cell.sum(-1)
    part, score = cell / jnp.maximum(count, 1)[..., None], z @ weights
    mean, square = (jnp.einsum("gcm,fsmq->fsgcq", part, s) for s in (score, score**2))
    middles = jnp.einsum("gcm,fsmr->fsgcr", part, z)
    wander = jnp.sum((middles @ spread) * middles, -1)
    around = jnp.einsum("gcm,fsm->fsgc", part, jnp.sum((z @ spread) * z, -1)) - wander
    within = square - mean**2 + around[..., None] * noise
    area = unequal.ranked(mean, within, count[None, None], above)
    bar = jnp.sum((middle - centre[:, None]) * weights, 0)[None, None, None, None]
    share = theory.rate(mean, within + wander[..., None] * noise + (count == 0)[None, None, ..., None], bar)
    images = jnp.einsum("aqc,gc->agq", side, count)  # that answer no, and yes
    own = side.shape[1]  # the sum of grades has no threshold
    fpr, tpr = jnp.einsum("aqc,gc,fsgcq->afsgq", side, count, share[..., :own]) / images[:, None, None]
    blank = ((0, 0),) * 3 + ((0, area.shape[-1] - own),)
    few = jnp.pad(jnp.broadcast_to((images.min(0) < FEWEST)[None, None], tpr.shape), blank)
    rates = (area, *(jnp.pad(rate, blank, constant_values=0.5) for rate in (tpr, fpr)))
    return tuple(jnp.where(few, jnp.nan, rate) for rate in rates)


def _measured(
    key: Array,
    clean: np.ndarray,
    label: np.ndarray,
    shifted: np.ndarray,
    shifted_label: np.ndarray,
    each: tuple[int, ...],
    ridge: float,
    asked: Asked,
) -> np.ndarray:
    """As ``charts.measured``, of every question, (S, 3, shift, severity); ``each`` images of each stratum are labelled."""
    rates, stratum, told = [], asked.strata(label), asked.answers(shifted_label)
    for one in jax.random.split(key, charts.PROBES):
        order = np.asarray(jax.random.permutation(one, len(label)))
        rows = np.concatenate([order[stratum[order] == c][:n] for c, n in enumerate(each)])
        x, y = clean[rows].astype(float), 2.0 * asked.answers(label[rows]) - 1
        centre = x.mean(0)
        x, y = x - centre, y - y.mean(0)
        penalty = ridge * (x**2).sum() / x.size
        weight = np.linalg.solve(x.T @ x / len(x) + penalty * np.eye(x.shape[1]), x.T @ y / len(x))
        source_score, score = (clean - centre) @ weight, (shifted - centre) @ weight
        found = []
        for q, (yes, answer) in enumerate(zip(told.T, asked.answers(label).T, strict=True)):
            bar = float(np.mean([_mean(source_score[answer == c, q]) for c in (0, 1)]))
            found.append([metrics.auc(score[..., q], yes), *metrics.rates(score[..., q], yes, bar)])
        if asked.kind == "ordinal":
            ranks = metrics.concordance(score.sum(-1), shifted_label)
            found.append([ranks, *[np.full_like(ranks, 0.5)] * 2])
        rates.append(found)
    return np.mean(rates, axis=0)
