"""What a test part is large enough to show: the smallest gap between two subgroups that it would find at a stated power.

Images of one patient are not independent, so patients are counted, as if a second image of a patient told nothing new: the
design effect is then the number of images a patient, and the gaps are the largest that could be needed.  Tests are two-sided.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from rafmodel import cohort as cohorts
from rafmodel.cohort import Cohort
from rafmodel.facts import ASSUMED_AUC

POWER, LEVEL = 0.8, 0.05


def variance_of_auc(auc: float, n_case: float, n_control: float) -> float:
    """Sampling variance of an AUC under exponential scores.  Hanley and McNeil (1982)."""
    both_cases, both_controls = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = (n_case - 1) * (both_cases - auc**2) + (n_control - 1) * (both_controls - auc**2)
    return (auc * (1 - auc) + spread) / (n_case * n_control)


def gap_in_auc(
    auc: float, one: tuple[float, float], other: tuple[float, float], *, power: float = POWER, level: float = LEVEL
) -> float:
    """Smallest amount by which the AUC of the second subgroup lies below the first's and is found; nan if none down to 0.5.

    auc         of the first subgroup, assumed
    one, other  cases and controls of each, patients
    """
    if min(*one, *other) < 1:
        return np.nan
    z = norm.ppf(1 - level / 2) + norm.ppf(power)
    first = variance_of_auc(auc, *one)
    return _root(lambda gap: gap - z * np.sqrt(first + variance_of_auc(auc - gap, *other)), auc - 0.5)


def gap_in_rate(rate: float, one: float, other: float, *, power: float = POWER, level: float = LEVEL) -> float:
    """Smallest amount by which a rate (TPR, or 1 − FPR) of n patients lies below that of others and is found; nan if none.

    rate  of the first subgroup, assumed, in (0, 1).  Fleiss, Levin and Paik (2003), without continuity correction.
    """
    if min(one, other) < 1:
        return np.nan
    null, alternative = norm.ppf(1 - level / 2), norm.ppf(power)

    def lacking(gap: float) -> float:
        second = rate - gap
        pooled = (one * rate + other * second) / (one + other)
        under_null = np.sqrt(pooled * (1 - pooled) * (1 / one + 1 / other))
        apart = np.sqrt(rate * (1 - rate) / one + second * (1 - second) / other)
        return gap - null * under_null - alternative * apart

    return _root(lacking, rate)


def gap_in_mean(one: float, other: float, *, power: float = POWER, level: float = LEVEL) -> float:
    """Smallest gap in the mean of a score a patient (a Dice coefficient), in its s.d., that is found.  Cohen (1988)."""
    if min(one, other) < 2:
        return np.nan
    return float((norm.ppf(1 - level / 2) + norm.ppf(power)) * np.sqrt(1 / one + 1 / other))


def in_words(cohort: Cohort, group: str | None) -> list[str]:
    """Who is in a cohort and, of cases and controls, what its test part can show, a line each."""
    test = cohorts.part(cohort, "test")
    sizes = [f"{len(some.label):,} images of {len(set(some.patient)):,} patients" for some in (cohort, test)]
    lines = [f"{cohort.name}: {sizes[0]}, {sizes[1]} to test on"]
    if cohort.asked.several or not {0, 1} <= set(test.label.tolist()):
        return lines
    names, code = cohorts.groups(test, group)

    def patients(rows: np.ndarray) -> tuple[int, int]:
        case, control = (len(set(test.patient[rows & (test.label == k)])) for k in (1, 0))
        return case, control

    width = norm.ppf(1 - LEVEL / 2) * np.sqrt(variance_of_auc(ASSUMED_AUC, *patients(np.ones(len(test.label), bool))))
    told = f"an AUC of {ASSUMED_AUC} will be known to ±{width:.3f}"
    if len(names) > 1:
        found = [gap_in_auc(ASSUMED_AUC, patients(code != g), patients(code == g)) for g in range(len(names))]
        gaps = ["none" if np.isnan(gap) else f"{gap:.2f}" for gap in found]
        below = ", ".join(f"{name} {gap}" for name, gap in zip(names, gaps, strict=True))
        told += (
            f"; smallest gap in AUC, below the other images, that is found at {POWER:.0%} power, by {group}: {below}"
        )
    return [*lines, told]


def _root(lacking: Callable[[float], float], most: float) -> float:
    """The first gap in (0, most] at which nothing is lacking, nan where there is none."""
    grid = np.linspace(0, most, 201)[1:]
    enough = np.flatnonzero(np.array([lacking(gap) for gap in grid]) >= 0)
    if not len(enough):
        return np.nan
    first = enough[0]
    return float(brentq(lacking, grid[first - 1] if first else 0.0, grid[first]))  # pyright: ignore
