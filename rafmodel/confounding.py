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


def phi_squared(tables: np.ndarray, total: float) -> np.ndarray:
    """Pearson's φ² = χ²/n of contingency tables (B, r, c), less its bias under independence; may be negative.  Bergsma (2013)."""
    share = tables / tables.sum((1, 2), keepdims=True)
    expected = share.sum(2, keepdims=True) * share.sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        squared = np.where(expected > 0, (share - expected) ** 2 / expected, 0).sum((1, 2))
    r, c = _sides(tables)
    return squared - (r - 1) * (c - 1) / (total - 1)


def cramers_v(squared: np.ndarray, tables: np.ndarray, total: float) -> np.ndarray:
    """Bias-corrected Cramér's V from φ² (B,) of tables (B, r, c) with ``total`` independent observations.  Bergsma (2013).

    nan where a column has one value only.
    """
    r, c = (k - (k - 1) ** 2 / (total - 1) for k in _sides(tables))
    least = np.minimum(r, c) - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        v = np.sqrt(np.maximum(squared, 0) / np.where(least > 0, least, np.nan))
    return np.minimum(v, 1)


def _sides(tables: np.ndarray) -> list[np.ndarray]:
    """Rows and columns of each table that are not empty."""
    return [(tables.sum(axis) > 0).sum(1) for axis in (2, 1)]


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
    if len(size) < 3:
        return Association(*names, np.nan, np.nan, np.nan, len(size))
    sample = table(a, b, each[None])
    squared = phi_squared(sample, len(size))
    drawn = np.random.default_rng(key).multinomial(len(size), np.full(len(size), 1 / len(size)), n_replicates)
    again = table(a, b, each * drawn[:, owner])
    spread = phi_squared(again, len(size))
    spread = spread - (spread.mean() - squared)  # the bootstrap has the bias a second time
    v, replicates = cramers_v(squared, sample, len(size))[0], cramers_v(spread, again, len(size))
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
