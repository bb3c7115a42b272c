"""Linear probes: how scores are learned from the features of labelled images."""

from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp

from rafmodel.asked import Asked
from rafmodel.errors import InputError

Probe = Callable[[np.ndarray], np.ndarray]
_STEPS = 100  # of Newton's method, which needs about ten


def fitted(kind: str, x: np.ndarray, label: np.ndarray, ridge: float, weight: np.ndarray | None, asked: Asked) -> Probe:
    """Scores (n,), or (n, Q) where several questions are asked, from features (n, d) and labels (n,) that are codes of ``asked``.

    kind  ``ridge`` or ``logistic``; ridge, weight as of each of these
    """
    if not asked.several:
        return (logistic_probe if kind == "logistic" else ridge_probe)(x, label, ridge, weight)
    answers = asked.answers(label)
    if kind != "logistic":
        return ridge_probes(x, answers, ridge, weight, asked.strata(label))
    slope, offset = logistics(x, answers, ridge, weight)
    return lambda z: z @ slope + offset


def ridge_probes(
    x: np.ndarray, answers: np.ndarray, ridge: float, weight: np.ndarray | None, stratum: np.ndarray
) -> Probe:
    """A linear score (n, Q) for every column of ``answers`` (n, Q) in {0, 1}, all at once; penalty and weight as ``ridge_probe``.

    Minimises Σ weight (y − wᵀ(x − centre))² / n + penalty |w|² for each, where y is ±1 less its mean.  Centre and that mean give
    every stratum (n,) the same weight: of two classes half way between them.
    """
    x = x.astype(np.float64)
    weight = np.ones(len(x)) if weight is None else weight
    alike = weight / np.bincount(stratum, weight)[stratum]
    centre, y = np.average(x, 0, alike), 2.0 * answers - 1
    slope = _slopes(x - centre, y - np.average(y, 0, alike), ridge, weight)
    return lambda z: (z - centre) @ slope


def _slopes(x: np.ndarray, y: np.ndarray, ridge: float, weight: np.ndarray) -> np.ndarray:
    """Ridge weights (d, Q) of centred features (n, d) for targets (n, Q)."""
    second = (weight[:, None] * x).T @ x / len(x)
    penalty = ridge * np.trace(second) / len(second) + 1e-12
    return np.linalg.solve(second + penalty * np.eye(len(second)), x.T @ (weight[:, None] * y) / len(x))


def ridge_probe(x: np.ndarray, label: np.ndarray, ridge: float, weight: np.ndarray | None = None) -> Probe:
    """Linear score from features (n, d) and labels (n,), penalty ``ridge`` times the mean feature variance.

    Minimises Σ weight (±1 − wᵀ(x − centre))² / n + penalty |w|², the centre half way between the classes' means.
    weight  (n,) with mean 1; None: all alike
    """
    x = x.astype(np.float64)
    weight = np.ones(len(x)) if weight is None else weight
    centre = np.mean([np.average(x[label == c], 0, weight[label == c]) for c in (0, 1)], axis=0)
    x, y = x - centre, 2.0 * label - 1
    slope = _slopes(x, y[:, None], ridge, weight)[:, 0]
    return lambda z: (z - centre) @ slope


def logistic_probe(x: np.ndarray, label: np.ndarray, ridge: float, weight: np.ndarray | None = None) -> Probe:
    """Log odds of a case, linear in features (n, d), by logistic regression on labels (n,).

    penalty  ``ridge`` times the mean feature variance, as ``ridge_probe``;  weight (n,) with mean 1; None: all alike
    """
    slope, offset = logistic(x, label, ridge, weight)
    return lambda z: z @ slope + offset


def logistic(
    x: np.ndarray, label: np.ndarray, ridge: float, weight: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Slope (d,) and offset that minimise Σ weight log(1 + e^(∓score)) / n + penalty |slope|² / 2, by Newton's method.

    Raises InputError where the labels are of one class, since the offset is then not finite.
    """
    if len(np.unique(label)) < 2:
        raise InputError("logistic probe: all labels are of one class; give labels of both")
    x = x.astype(np.float64)
    weight = np.ones(len(x)) if weight is None else weight
    centre = np.average(x, 0, weight)
    z = np.column_stack([x - centre, np.ones(len(x))])
    penalty = np.full(z.shape[1], ridge * (weight[:, None] * z[:, :-1] ** 2).mean() + 1e-12)
    penalty[-1] = 0

    def cost(w: np.ndarray) -> float:
        return float((weight * np.logaddexp(0, np.where(label == 1, -1, 1) * (z @ w))).mean() + penalty @ w**2 / 2)

    w = np.zeros(z.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(z @ w, -500, 500)))
        slope = z.T @ (weight * (p - label)) / len(z) + penalty * w
        bend = (z * (weight * p * (1 - p))[:, None]).T @ z / len(z) + np.diag(penalty + 1e-12)
        step = np.linalg.solve(bend, slope)
        size = next((s for s in 0.5 ** np.arange(30) if cost(w - s * step) <= cost(w) - 1e-4 * s * slope @ step), 0.0)
        w = w - size * step
        if size == 0 or np.abs(slope).max() < 1e-12:
            break
    return w[:-1], float(w[-1] - centre @ w[:-1])


def logistics(
    x: np.ndarray, answers: np.ndarray, ridge: float, weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """``logistic`` for every column of ``answers`` (n, Q): slopes (d, Q) and offsets (Q,)."""
    found = [logistic(x, column, ridge, weight) for column in answers.T]
    return np.stack([slope for slope, _ in found], 1), np.array([offset for _, offset in found])


def decided(logits: np.ndarray, asked: Asked) -> np.ndarray:
    """Log odds (..., n) of a case, or (..., n, Q) of questions, from logits (..., n, K) of labels, (..., n, Q) of findings."""
    if asked.kind == "multi-label":
        return logits
    sides = [[np.asarray(logsumexp(logits[..., answer == c], -1)) for c in (0, 1)] for answer in asked.table.T]
    odds = np.stack([case - control for control, case in sides], -1)
    return odds if asked.several else odds[..., 0]
