"""What a study is judged by: AUC and rates by subgroup, RAF, and intervals over patients.

Sees scores and labels; never asks whether they were predicted or observed.  Absence is nan and is counted.
"""

from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from scipy import stats
from scipy.special import ndtr, ndtri

EDGE = 0.005  # rates nearer to 0 or 1 count as this far away on the probit scale


class Outcome(NamedTuple):
    """One design under every shift; group 0 is everyone.

    auc, tpr, fpr      (shift, severity 0-5, group), nan where a class is absent; severity 0 is clean
    n_case, n_control  (group,) images behind each value; of a segmentation those with pixels of either class
    dice               as auc, of a segmentation; its auc, tpr and fpr are those of pixels
    concordance        as auc, of grades: chance that of two images with unequal grades the higher one scores higher
    of_question        auc (question, shift, severity 0-5, group) where several are asked; then auc, tpr and fpr are means over
                       them, nan where one has none, and counts are those of the question with the fewest
    by_part            (part, shift, severity 0-5) auc of everyone as each part of the source has it, of a forecast of cases
                       against controls
    errors             what a forecast of several designs raised, one line a design, '' where it did not; none: none did
    """

    auc: np.ndarray
    tpr: np.ndarray
    fpr: np.ndarray
    n_case: np.ndarray
    n_control: np.ndarray
    dice: np.ndarray | None = None
    concordance: np.ndarray | None = None
    of_question: np.ndarray | None = None
    by_part: np.ndarray | None = None
    errors: tuple[str, ...] = ()


NAMES = {"auc": "AUC", "dice": "Dice"}  # metrics that a table can be judged by, its attribute ``metric``


class RAF(NamedTuple):
    """Robust and fair: each in [0, 1] except performance, which is negative below chance; any leading axes.

    performance  clean metric above chance, 1 is perfect
    robustness   share of it that is kept under shift
    fairness     worst subgroup's share of the best one's
    raf          √(robustness · fairness), never shown without the other three
    undefined    cells in which not even the best subgroup is above chance, or one has no value
    """

    performance: np.ndarray
    robustness: np.ndarray
    fairness: np.ndarray
    raf: np.ndarray
    undefined: np.ndarray


def probit(rate: np.ndarray, edge: float = EDGE) -> np.ndarray:
    """Standard normal quantile of rates in [0, 1]; one nearer to 0 or 1 than ``edge`` is taken as this far away."""
    return ndtri(np.clip(rate, edge, 1 - edge))


def auc(score: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Area under the ROC curve, P(case above control) with ties counted half, in [0, 1].

    score (..., n), label (n,) in {0, 1}, weight (n,) of each image or None for all alike.
    nan where a class is absent or a score is nan.  Bamber (1975).
    """
    each = np.ones(len(label)) if weight is None else np.asarray(weight, float)
    return weighted_auc(score, label, each[None, :])[0]


def weighted_auc(score: np.ndarray, label: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """AUC of scores (..., n) under each row of weights (B, n), (B, ...); nan where a class has no weight."""
    mass = np.ascontiguousarray(weight.T, float)  # image by image, so that a gather copies whole rows
    lead = score.shape[:-1]
    rows = [_ranked(score[at], label, mass) for at in np.ndindex(lead)]
    return np.array(rows).T.reshape(len(weight), *lead)


def _ranked(score: np.ndarray, label: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """AUC of one row of scores (n,) under weights (n, B): mean control weight below a case, ties half."""
    case, control = np.flatnonzero(label == 1), np.flatnonzero(label == 0)
    control = control[np.argsort(score[control])]
    below = np.concatenate([np.zeros((1, mass.shape[1])), np.cumsum(mass[control], axis=0)])
    lower, upper = (np.searchsorted(score[control], score[case], side) for side in ("left", "right"))
    won = np.einsum("ib,ib->b", mass[case], (below[lower] + below[upper]) / 2)
    pairs = mass[case].sum(0) * below[-1]
    known = (pairs > 0) & ~np.isnan(score).any()  # a nan has no rank
    return np.where(known, won / np.where(known, pairs, 1), np.nan)


def rates(score: np.ndarray, label: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Shares of cases and of controls with a score (..., n) above the threshold: TPR, FPR, (...), in [0, 1].

    nan where the class is absent or a score of it is nan.
    """
    above = np.where(np.isnan(score), np.nan, score > threshold)
    return _share(above[..., label == 1]), _share(above[..., label == 0])


def _share(true: np.ndarray) -> np.ndarray:
    """Mean over the last axis, nan if that is empty."""
    return true.mean(-1) if true.shape[-1] else np.full(true.shape[:-1], np.nan)


def outcome(score: np.ndarray, label: np.ndarray, code: np.ndarray, n_groups: int, threshold: float) -> Outcome:
    """Scores (shift, severity 0-5, n) reduced by subgroup; severity 0 is the same for every shift.

    label (n,) in {0, 1}, code (n,) subgroup of each image in 0 .. n_groups - 1, threshold of the source
    """
    inside, states = members(code, n_groups), _states(score)
    areas = [auc(states[:, m], label[m]) for m in inside]
    above = [rates(states[:, m], label[m], threshold) for m in inside]
    auc_, tpr, fpr = (
        np.stack([by_shift(group) for group in groups], axis=-1)
        for groups in (areas, [a[0] for a in above], [a[1] for a in above])
    )
    n_case, n_control = (np.array([int((label[m] == c).sum()) for m in inside]) for c in (1, 0))
    return Outcome(auc_, tpr, fpr, n_case, n_control)


def mean_outcome(each: list[Outcome]) -> Outcome:
    """One outcome from those of several questions: means over them, nan where one has none, and the smallest counts."""
    auc_, tpr, fpr = (np.mean([getattr(one, name) for one in each], axis=0) for name in ("auc", "tpr", "fpr"))
    n_case, n_control = (np.min([getattr(one, name) for one in each], axis=0) for name in ("n_case", "n_control"))
    return Outcome(auc_, tpr, fpr, n_case, n_control, of_question=np.stack([one.auc for one in each]))


def concordance(score: np.ndarray, grade: np.ndarray) -> np.ndarray:
    """P(higher score | higher grade) over pairs of unequal grades, ties half, in [0, 1]; scores (..., n), grades (n,).

    nan where all grades are one.  Harrell et al. 1982, nobody censored.
    """
    won, pairs = np.zeros(score.shape[:-1]), 0
    for high in np.unique(grade):
        case, lower = grade == high, grade < high
        either, n = case | lower, int(case.sum()) * int(lower.sum())
        if n:
            won, pairs = won + n * auc(score[..., either], case[either]), pairs + n
    return won / pairs if pairs else np.full(score.shape[:-1], np.nan)


def members(code: np.ndarray, n_groups: int) -> np.ndarray:
    """Who is in each group, (1 + n_groups, n), everyone first."""
    return np.concatenate([np.ones((1, len(code)), bool), code[None, :] == np.arange(n_groups)[:, None]])


def _states(score: np.ndarray) -> np.ndarray:
    """Scores (shift, severity 0-5, n) with clean once: (1 + 5 shifts, n)."""
    return np.concatenate([score[:1, 0], score[:, 1:].reshape(-1, score.shape[-1])])


def by_shift(values: np.ndarray) -> np.ndarray:
    """Values by state (..., 1 + 5 shifts) with clean repeated for every shift: (..., shift, severity 0-5)."""
    shifted = values[..., 1:].reshape(*values.shape[:-1], -1, 5)
    clean = np.broadcast_to(values[..., :1, None], (*shifted.shape[:-1], 1))
    return np.concatenate([clean, shifted], axis=-1)


def raf(metric: np.ndarray, chance: float = 0.5) -> RAF:
    """RAF of a metric (..., shift, severity 0-5, group) with a chance level.

    Group 0 is everyone and gives performance and robustness; the others give fairness, the mean over clean
    (counted once) and every shifted cell.  A cell where even the best subgroup is not above chance, or where
    one has no value, has no ratio: it is left out and counted.  Where clean is not above chance robustness is
    nan; with fewer than two subgroups fairness is.  Raising the best subgroup alone lowers fairness.
    """
    above = np.asarray(metric, float) - chance
    clean = above[..., 0, 0, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        kept = np.clip(above[..., 1:, 0] / clean[..., None, None], 0, 1).mean((-2, -1))
    robustness = np.where(clean > 0, kept, np.nan)
    fairness, undefined = _fairness(above)
    return RAF(clean / (1 - chance), robustness, fairness, np.sqrt(robustness * fairness), undefined)


def _fairness(above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean ratio of the worst to the best subgroup, and how many cells have none; ``above`` chance."""
    lead, n_groups = above.shape[:-3], above.shape[-1] - 1
    if n_groups < 2:
        return np.full(lead, np.nan), np.zeros(lead, int)
    shifted = above[..., 1:, 1:].reshape(*lead, -1, n_groups)
    cells = np.concatenate([above[..., 0, :1, 1:], shifted], axis=-2)
    best, worst = cells.max(-1), cells.min(-1)  # nan where one subgroup has no value
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(best > 0, np.clip(worst / best, 0, 1), np.nan)
    undefined = np.isnan(ratio).sum(-1)
    total = np.nansum(ratio, -1)
    defined = ratio.shape[-1] - undefined
    return np.where(defined > 0, total / np.maximum(defined, 1), np.nan), undefined


# ---- intervals


def without_each(score: np.ndarray, label: np.ndarray, owner: np.ndarray, n_patients: int) -> np.ndarray:
    """AUC of scores (..., n) without each of ``n_patients`` in turn, (..., patient); nan where a class is absent then.

    owner  (n,) patient of each image in 0 .. n_patients - 1; without one who has no image it is the AUC of all
    From how many images of the other class each one wins or loses against (DeLong et al. 1988).
    """
    case, control = label == 1, label == 0
    cases, controls = (np.bincount(owner[one], minlength=n_patients) for one in (case, control))
    ranks = stats.rankdata(score, axis=-1)
    won = _below(ranks, case, control)
    lost = cases.sum() - _below(ranks, control, case)  # cases above each control
    apart = ranks + 2 * len(label) * owner  # patients one above the other: the order within each is left
    inner = _below(apart, case, control) - (np.cumsum(controls) - controls)[owner[case]]
    without = won.sum(-1, keepdims=True) - _summed(won - inner, owner[case], n_patients)
    without = without - _summed(lost, owner[control], n_patients)
    pairs = (cases.sum() - cases) * (controls.sum() - controls)
    return np.where(pairs > 0, without / np.maximum(pairs, 1), np.nan)


def _below(rank: np.ndarray, some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How many of the ``others`` rank (..., n) below each of ``some``, (..., of some), ties half; together they are all n."""
    assert (some ^ others).all()
    return stats.rankdata(rank, axis=-1)[..., some] - stats.rankdata(rank[..., some], axis=-1)


def _summed(values: np.ndarray, owner: np.ndarray, n: int) -> np.ndarray:
    """Sums (..., n) of values (..., m) over those of each owner."""
    order = np.argsort(owner, kind="stable")
    total = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values[..., order], axis=-1)], -1)
    return np.diff(total[..., np.cumsum(np.bincount(owner, minlength=n))], prepend=0, axis=-1)


def jackknife(whole: np.ndarray, without: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard error of estimates (...,) and its degrees of freedom, from those without each patient (..., patient).

    Nearer to the truth than a bootstrap where few patients have most images (MacKinnon, Nielsen and Webb 2023).  Degrees of
    freedom are the effective number of patients, Kish's (1965) of their squared parts, minus one.  nan where there is no
    estimate without one of the patients, or only one counts.
    """
    square = np.square(without - whole[..., None])
    n, total, fourth = (square > 0).sum(-1), square.sum(-1), np.square(square).sum(-1)
    degrees = np.square(total) / np.where(fourth > 0, fourth, np.nan) - 1
    known = (n > 1) & (degrees > 0)
    error = np.sqrt(total * (n - 1) / np.maximum(n, 1))
    return np.where(known, error, np.nan), np.where(known, degrees, np.nan)


def patient_weights(key: Array | int, patient: np.ndarray, n_replicates: int) -> np.ndarray:
    """How often each image is in each bootstrap sample, (n_replicates, n).

    Patients with replacement, then as many images within each drawn patient as that patient has, with
    replacement.  With one image a patient this is the ordinary bootstrap.  ``key`` is a jax key or a seed.
    """
    seed = key if isinstance(key, int) else np.asarray(jax.random.key_data(key)).ravel()
    rng = np.random.default_rng(seed)
    _, owner, size = np.unique(patient, return_inverse=True, return_counts=True)
    order = np.argsort(owner, kind="stable")
    start = np.concatenate([[0], np.cumsum(size)[:-1]])
    weights = np.zeros((n_replicates, len(patient)), np.float32)
    for row in weights:
        who = rng.integers(0, len(size), len(size))
        drawn = np.repeat(who, size[who])
        images = order[start[drawn] + rng.integers(0, size[drawn])]
        np.add.at(row, images, 1)
    return weights


def raf_interval(
    scores: np.ndarray,
    label: np.ndarray,
    code: np.ndarray,
    n_groups: int,
    patient: np.ndarray,
    key: Array | int,
    *,
    n_replicates: int = 500,
    level: float = 0.95,
) -> dict[str, np.ndarray]:
    """Bootstrap over patients, then images, of one design's seed mean.

    scores (seed, shift, severity 0-5, n), label (n,), or of several questions (seed, shift, severity 0-5, n, Q) and (n, Q),
    whose AUCs are averaged; the replicates are the same for all seeds, and for all designs given one key, so that
    differences between designs keep their pairing.
    Returns (lower, upper) of each part of RAF; ``auc_se`` and ``auc_df`` (shift, severity, group), the standard error of the
    AUC and its degrees of freedom; and ``undefined`` (4,), replicates in which a part has no value, which are left out.
    Where that is half of them or more the interval is nan.
    """
    weight, inside = patient_weights(key, patient, n_replicates), members(code, n_groups)
    scores, answers = (scores[..., None], label[:, None]) if label.ndim == 1 else (scores, label)
    owner = np.unique(patient, return_inverse=True)[1]
    found = [_areas(scores[..., q], answer, owner, weight, inside) for q, answer in enumerate(answers.T)]
    again, whole, without = (np.mean(areas, axis=0) for areas in zip(*found, strict=True))
    told = intervals(again, whole, without, level)
    told["auc_se"], told["auc_df"] = jackknife(whole, without)
    return told


def _areas(
    scores: np.ndarray, label: np.ndarray, owner: np.ndarray, weight: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AUC of scores (seed, shift, severity 0-5, n), group by group.

    Under weights (replicate, n): (replicate, seed, shift, severity, group); as it is, seed mean: (shift, severity, group); and
    without each patient: (shift, severity, group, patient).
    """
    states, patients = np.stack([_states(one) for one in scores]), owner.max() + 1
    each = [(states[..., m], label[m]) for m in inside]
    again = [weighted_auc(*one, weight[:, m]) for one, m in zip(each, inside, strict=True)]
    whole = [auc(*one).mean(0) for one in each]
    without = [without_each(*one, owner[m], patients).mean(0).T for one, m in zip(each, inside, strict=True)]
    again, whole, without = (np.stack([by_shift(v) for v in values], -1) for values in (again, whole, without))
    return again, whole, np.moveaxis(without, 0, -1)


def intervals(
    metric: np.ndarray, whole: np.ndarray, without: np.ndarray, level: float, chance: float = 0.5
) -> dict[str, np.ndarray]:
    """(lower, upper) of the seed mean of each part of RAF, and how many replicates have none, ``undefined`` (4,).

    metric   (replicate, seed, shift, severity 0-5, group), everyone first
    whole    its seed mean as it is (shift, severity, group), and ``without`` each patient (shift, severity, group, patient)
    Percentiles.  Sampling error alone sets the worst subgroup below the best, in every replicate, so no percentile of
    fairness would ever reach 1: where the subgroups cannot be told apart its upper bound is 1, and that of RAF √robustness.
    """
    parts = raf(metric, chance)
    means = np.stack([getattr(parts, name).mean(1) for name in RAF._fields[:4]], axis=-1)
    tail = (1 - level) / 2
    bounds = dict(zip(RAF._fields[:4], over_replicates(_percentiles(tail), means, 2), strict=True))
    if not told_apart(metric[..., 1:].mean(1), whole[..., 1:], without[..., 1:, :], level):
        fair = np.where(np.isfinite(means[:, 2]), np.sqrt(parts.robustness).mean(1), np.nan)
        upper = np.array([1.0, over_replicates(_percentiles(tail), fair[:, None], 2)[0, 1]])
        for name, most in zip(("fairness", "raf"), upper, strict=True):
            bounds[name] = np.where(np.isfinite(bounds[name]), [bounds[name][0], most], np.nan)
    return bounds | {"undefined": np.isnan(means).sum(0)}


def _percentiles(tail: float):
    return lambda values: np.quantile(values, [tail, 1 - tail])


def told_apart(metric: np.ndarray, whole: np.ndarray, without: np.ndarray, level: float) -> bool:
    """Whether any two subgroups surely differ, in the mean over clean and shifted cells.

    metric  (replicate, shift, severity 0-5, group), ``whole`` and ``without`` as of ``intervals``
    Differences of all pairs in units of their standard error over patients.  The bar is the quantile ``level`` of the largest
    one's deviation from its mean over replicates (Romano and Wolf 2005), of Student's t with the degrees of freedom of that
    error.  False where nothing is known, or fewer than two subgroups are.
    """
    if metric.shape[-1] < 2:
        return False
    low, high = np.triu_indices(metric.shape[-1], 1)
    group, own = _over_cells(np.moveaxis(metric, 0, -1)), _over_cells(without)
    apart = (group[high] - group[low]).T
    apart = apart[np.isfinite(apart).all(1)]
    if 2 * len(apart) <= len(metric):
        return False
    bar = np.quantile((np.abs(apart - apart.mean(0)) / (apart.std(0) + 1e-12)).max(1), level)
    difference = np.diff(_over_cells(whole)[np.array([low, high])], axis=0)[0]
    error, degrees = jackknife(difference, own[high] - own[low])
    return bool((np.abs(difference) > stats.t.ppf(ndtr(bar), degrees) * error).any())


def _over_cells(values: np.ndarray) -> np.ndarray:
    """Mean of values (shift, severity 0-5, ...) over clean, once, and the shifted cells."""
    return np.concatenate([values[:1, 0], values[:, 1:].reshape(-1, *values.shape[2:])]).mean(0)


def over_replicates(statistic, values: np.ndarray, shape) -> np.ndarray:
    """A statistic of the defined values along the first axis; nan unless more than half are."""
    flat = values.reshape(len(values), -1).T
    known = [v[np.isfinite(v)] for v in flat]
    found = [statistic(v) if 2 * len(v) > len(values) else np.full(shape, np.nan) for v in known]
    return np.array(found).reshape(*values.shape[1:], *np.shape(found[0]))
