"""What estimators of an image's state recover, as ``injection`` finds it, and states told with it."""

from typing import NamedTuple

import numpy as np
from jax import Array

from rafmodel import state
from rafmodel.detectors import Worth
from rafmodel.state import Reference

SLOPES = (0.5, 1.5)  # between which the share of what was added that comes back must lie
ROUNDS = 3  # of amounts added to each image
FEW = 24  # images of a subgroup from which its own response and error are taken
FAR = 5.0  # robust s.d. from the median from which a change counts as a failure


class Recovery(NamedTuple):
    """What each estimator recovers, (len(STATES),) each.

    whole               whether the estimate is that of all states at once, else by parts
    undo                what an estimate is multiplied by, one over its slope; 0 where it is of no use
    slope               of an estimate's change on its own state's, all others held
    correlation         of the change found and the change made, where all states change, as it would be were amounts as large as
                        the subgroup's own spread; the lowest of all and of each subgroup
    bias                change found where none was made, in the state's unit
    error               (subgroups, len(STATES)) s.d. of one measurement
    response            (subgroups, len(STATES)) share of a subgroup's own differences that comes back
    response_error      (subgroups, len(STATES)) its standard error, as a share of it
    misread             (subgroups, len(STATES)) what is read above what there is, beside the largest subgroup; noise as it is
    misread_error       (subgroups, len(STATES)) its standard error
    identified          whether the state can be told from these images
    detectors           what each artifact's detector is worth
    turning             1 − correlation of the mean image with itself turned by 20 degrees
    """

    whole: np.ndarray
    undo: np.ndarray
    slope: np.ndarray
    correlation: np.ndarray
    bias: np.ndarray
    error: np.ndarray
    response: np.ndarray
    response_error: np.ndarray
    misread: np.ndarray
    misread_error: np.ndarray
    identified: np.ndarray
    detectors: Worth
    turning: float


def measured(reference: Reference, recovery: Recovery, images: Array) -> np.ndarray:
    """States of images (N, H, W, 1) in their own units, (N, len(STATES)); 0 where an estimate is of no use."""
    pair = state.both(reference, images)
    return np.where(recovery.whole, pair[1], pair[0]) * recovery.undo


def answered(recovery: Recovery, value: np.ndarray, code: np.ndarray) -> np.ndarray:
    """States (N, len(STATES)) about their subgroup's centre, spread by what of a change comes back there."""
    answer = value.copy()
    for g in range(len(recovery.response)):
        own = code == g
        if own.any():
            middle = centre(value[own])
            answer[own] = middle + (value[own] - middle) / np.where(recovery.identified, recovery.response[g], 1.0)
    return answer


# ---- changes found, and changes made


def tame(values: np.ndarray) -> np.ndarray:
    """Values (N, ...) no farther than FAR robust s.d. from their median."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
    far = FAR * (high - low) / 1.349
    return np.clip(values, middle - far, middle + far)


def centre(values: np.ndarray) -> np.ndarray:
    return tame(values).mean(0)


def lines(step: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slope of each change found on the same state's change made, all others held, what is found where none was made, and the
    slope's variance, inf where nothing was changed; (states,) each."""
    design = np.c_[step, np.ones(len(step))]
    line = np.linalg.lstsq(design, found, rcond=None)[0]
    rest = ((found - design @ line) ** 2).sum(0) / max(len(step) - design.shape[1], 1)
    variance = np.maximum(np.diag(np.linalg.pinv(design.T @ design))[:-1], 0) * rest
    return np.diag(line[:-1]).copy(), line[-1], np.where(step.std(0) > 0, variance, np.inf)
