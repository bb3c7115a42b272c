"""Warn before labels arrive (level L1): what a trained encoder will score on a deployment that nobody has labelled.

Reads the scores of labelled source images, clean and under the shift's law, and the scores of unlabelled deployment
images.  Beside it stand three estimators that know no law of the shift: average thresholded confidence, difference
of confidences, and confidence-based estimation.
"""

import numpy as np

from rafmodel import metrics

ESTIMATORS = ("L1", "ATC", "DoC", "CBE")
FEWEST = 8  # source images of each class below which nothing is estimated
_RIDGE = 1e-3  # keeps the slope finite where the classes separate


def warn(score: np.ndarray, source_score: np.ndarray, source_label: np.ndarray) -> dict[str, np.ndarray]:
    """AUC under every shift by each of ESTIMATORS, (shift, severity 0-5); nan where a class is too small.

    score (shift, severity 0-5, n) unlabelled, source_score (shift, severity 0-5, m), source_label (m,) in {0, 1}

    L1   expected AUC of the deployment's scores, calibrated on source images under the same shift
    CBE  the same, calibrated on clean source images
    ATC  clean AUC plus the change of accuracy that average thresholded confidence sees (Garg et al. 2022)
    DoC  the same by the difference of confidences (Guillory et al. 2021)
    """
    shape = score.shape[:-1]
    if min((source_label == c).sum() for c in (0, 1)) < FEWEST or not score.shape[-1]:
        return {name: np.full(shape, np.nan) for name in ESTIMATORS}
    label = source_label.astype(float)
    clean = calibrated(source_score[:1, 0], source_score[:1, 0], label)[0]
    confident, foreseen = confidence(clean), calibrated(source_score[:1, 0], score, label)
    right = ((clean > 0.5) == (label > 0.5)).mean()
    bar = np.quantile(confident, 1 - right)  # as many source images are above as are right
    start = metrics.auc(source_score[0, 0], source_label)
    return {
        "L1": expected_auc(score, calibrated(source_score, score, label)),
        "ATC": np.clip(start + (confidence(foreseen) >= bar).mean(-1) - right, 0, 1),
        "DoC": np.clip(start + confidence(foreseen).mean(-1) - confident.mean(), 0, 1),
        "CBE": expected_auc(score, foreseen),
    }


def confidence(probability: np.ndarray) -> np.ndarray:
    """Probability of the class that is more likely, in [0.5, 1]."""
    return np.maximum(probability, 1 - probability)


def calibrated(source_score: np.ndarray, score: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Probability of a case (..., n) for scores (..., n), by logistic regression on source scores (..., m).

    Platt (1999); Newton's method on slope and offset, all states at once.
    """
    middle, scale = source_score.mean(-1, keepdims=True), source_score.std(-1, keepdims=True) + 1e-12
    z = np.stack([(source_score - middle) / scale, np.ones_like(source_score)], -1).astype(float)
    weight = np.zeros((*z.shape[:-2], 2))
    for _ in range(30):
        p = _logistic((z @ weight[..., None])[..., 0])
        slope = np.einsum("...m,...mi->...i", p - label, z) / z.shape[-2] + _RIDGE * weight
        bend = np.einsum("...m,...mi,...mj->...ij", p * (1 - p), z, z) / z.shape[-2] + _RIDGE * np.eye(2)
        step = np.linalg.solve(bend, slope[..., None])[..., 0]
        weight = weight - step / np.maximum(1, np.linalg.norm(step, axis=-1, keepdims=True))
    return _logistic((score - middle) / scale * weight[..., :1] + weight[..., 1:])


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -40, 40)))


def expected_auc(score: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """AUC (...) of scores (..., n) whose labels are independent draws of ``probability`` (..., n), in [0, 1].

    Ratio of expectations: of pairs with a case above a control, ties half, to pairs of a case and a control.
    """
    order = np.argsort(score, axis=-1)
    value, p = np.take_along_axis(score, order, -1), np.take_along_axis(probability, order, -1)
    below = np.concatenate([np.zeros((*p.shape[:-1], 1)), np.cumsum(1 - p, -1)], -1)
    flat, lower, upper = value.reshape(-1, value.shape[-1]), [], []
    for row in flat:
        lower.append(np.searchsorted(row, row, "left"))
        upper.append(np.searchsorted(row, row, "right"))
    first, last = (np.array(i).reshape(value.shape) for i in (lower, upper))
    won = (np.take_along_axis(below, first, -1) + np.take_along_axis(below, last, -1)) / 2 - (1 - p) / 2
    pairs = p.sum(-1) * (1 - p).sum(-1) - (p * (1 - p)).sum(-1)
    return (p * won).sum(-1) / pairs
