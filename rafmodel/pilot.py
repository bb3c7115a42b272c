"""Between theory and simulation (level L0+): a short run of each design, read together with its prediction.

Both misjudge how hard a cohort is under a shift, each in its own way, and both see part of what makes a design stand
out.  So what differs between cells is the mean of the two, and the design effect is a weighted sum.  How hard the test part is
as a whole, the luck of its sampling included, only the runs have seen, so that is theirs.  ``simulations/11_pilot_runs.py``
measures what it is worth.
"""

from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np
from jax import Array
from scipy.special import ndtr

from rafmodel import cohort as cohorts
from rafmodel import simulate
from rafmodel.cohort import Cohort
from rafmodel.console import forget_programs
from rafmodel.design import Design
from rafmodel.experience import probit
from rafmodel.pretrain import PROGRAMS
from rafmodel.variability import Variability

STEPS = 100  # of a short run
# of L0's and of the short run's design effect, probit scale; simulations/11_pilot_runs.py fits them
WEIGHTS = (0.7, 0.2)


def short(design: Design, steps: int = STEPS) -> Design:
    """The design with at most this many optimiser steps."""
    return replace(design, steps=min(steps, design.steps))


def short_run(
    key: Array,
    train: Cohort,
    test: Cohort,
    design: Design,
    shifts: Sequence[Variability],
    *,
    group: str | None = None,
    steps: int = STEPS,
) -> np.ndarray:
    """AUC (shift, severity 0-5, group) of a design trained for ``steps`` steps; group 0 is everyone.

    What ``simulate`` would say of it, without threshold and early warning; nan where the run failed.
    """
    forget_programs(first=PROGRAMS)
    run = simulate.trained(key, train, short(design, steps))
    names, _ = cohorts.groups(test, group)
    if run.health.failed:
        return np.full((len(shifts), 6, 1 + len(names)), np.nan)
    key_shift = jax.random.split(key, 3)[2]
    score = simulate.scores_under(key_shift, run.network, run.probe, cohorts.pixels(test), shifts)
    return simulate.judged(score, 0.0, test, group).auc


def combined(foreseen: np.ndarray, runs: np.ndarray, weights: tuple[float, float] = WEIGHTS) -> np.ndarray:
    """AUC by L0+ (design, shift, severity 0-5, ...) from the forecasts of L0 and the short runs of the same designs.

    On the probit scale: the mean over designs is that of both, moved as a whole to the runs' over all cells, and the design
    effect is ``weights`` times theory's and the runs' own.  A design without one of the two is told by the other; nan where
    both are absent.
    """
    theory, seen = probit(foreseen), probit(runs)
    effects = [np.nan_to_num(x - _mean(x)) for x in (theory, seen)]
    own, told = _mean(seen), _mean(theory)
    both = _mean(np.concatenate([told, own]))
    luck = np.nan_to_num(_mean(own - both, (1, 2)))
    found = ndtr(both + luck + weights[0] * effects[0] + weights[1] * effects[1])
    return np.where(np.isfinite(theory) | np.isfinite(seen), found, np.nan)


def _mean(x: np.ndarray, axis: int | tuple[int, ...] = 0) -> np.ndarray:
    """Mean over designs, or other axes, which stay with length 1, of those that are there; nan where none is."""
    there = np.isfinite(x)
    total, n = np.where(there, x, 0).sum(axis, keepdims=True), there.sum(axis, keepdims=True)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)
