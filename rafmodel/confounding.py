"""Does one column follow another?  Association of class, part and attributes, with intervals over patients."""

from typing import NamedTuple

import numpy as np

from rafmodel import metrics


class Association(NamedTuple):
    """Cramér's V of two columns, 0 none to 1 one follows from the other, and its 95 % interval; the patients behind it."""

    one: str
    other: str
    v: float
    low: float
    high: float
    patients: int


def table(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted contingency tables (B, r, c) of two columns of codes (N,) under weights (B, N)."""
    rows, columns = one.max() + 1, other.max() + 1
    cell = np.eye(rows * columns)[one * columns + other]
    return (weight @ cell).reshape(len(weight), rows, columns)


def cramers_v(tables: np.ndarray, total: np.ndarray | float, *, bias: float = 1.0) -> np.ndarray:
    """Bias-corrected Cramér's V of contingency tables (B, r, c) with ``total`` independent observations.  Bergsma (2013).

    bias  how often the bias of φ² is taken off: 0 for the plain V, 1 for a sample, 2 for a bootstrap sample of a sample, whose
          φ² carries the bias twice
    nan where a column has one value only, or there are too few observations to correct.
    """
    share = tables / tables.sum((1, 2), keepdims=True)
    expected = share.sum(2, keepdims=True) * share.sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        squared = np.where(expected > 0, (share - expected) ** 2 / expected, 0).sum((1, 2))
    r, c = ((tables.sum(axis) > 0).sum(1) for axis in (2, 1))
    off = np.asarray(total, float) - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        squared = np.maximum(squared - bias * (r - 1) * (c - 1) / off, 0)
        r, c = (k - min(bias, 1) * (k - 1) ** 2 / off for k in (r, c))
        v = np.sqrt(squared / (np.minimum(r, c) - 1))
    return np.where((np.minimum(r, c) > 1) & (off > 0), np.minimum(v, 1), np.nan)


def association(
    names: tuple[str, str],
    one: np.ndarray,
    other: np.ndarray,
    patient: np.ndarray,
    *,
    key: int = 0,
    n_replicates: int = 500,
) -> Association:
    """Cramér's V of two columns of text (N,), each patient counted once, with a bootstrap interval over patients.

    A patient's images share one weight, so that many images of one patient are no evidence; their number is the one that the
    bias is corrected for.
    """
    _, a = np.unique(one, return_inverse=True)
    _, b = np.unique(other, return_inverse=True)
    _, owner, size = np.unique(patient, return_inverse=True, return_counts=True)
    each = 1 / size[owner]
    v = cramers_v(table(a, b, each[None]), len(size))[0]
    drawn = np.random.default_rng(key).multinomial(len(size), np.full(len(size), 1 / len(size)), n_replicates)
    replicates = cramers_v(table(a, b, each * drawn[:, owner]), len(size), bias=2)
    known = replicates[np.isfinite(replicates)]
    enough = np.isfinite(v) and 2 * len(known) > n_replicates
    low, high = np.quantile(known, [0.025, 0.975]) if enough else (np.nan, np.nan)
    return Association(*names, float(v), float(low), float(high), len(size))


class Tell(NamedTuple):
    """How well one number about an image tells the class: AUC, 0.5 not at all, with its 95 % interval over patients."""

    statistic: str
    auc: float
    low: float
    high: float


def tells(values: np.ndarray, label: np.ndarray, patient: np.ndarray, names: list[str], *, key: int = 0) -> list[Tell]:
    """AUC of each column of values (N, d) for the class; a trivial statistic that tells it is a shortcut to learn."""
    weight = metrics.patient_weights(key, patient, 300)
    found = []
    for name, column in zip(names, values.T, strict=True):
        area = float(metrics.auc(column, label))
        spread = metrics.weighted_auc(column, label, weight)
        known = spread[np.isfinite(spread)]
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) > 150 else (np.nan, np.nan)
        found.append(Tell(name, area, float(low), float(high)))
    return found
