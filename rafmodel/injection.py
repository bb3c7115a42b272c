"""What estimators of an image's state are worth on a cohort: known amounts are added to its images and looked for.

All states are changed at once, by amounts of half the subgroup's own spread, for what comes back depends on both: the images are
in states of their own already, and what states do to each other grows with the square of how far they are spread.  For each
state that estimator is taken, by parts or of all states at once, which follows the amounts more closely; ``change found = slope *
change made + error``, subgroup by subgroup.  A state that does not answer is not identified, and it is said why.
"""

import jax
import numpy as np
from jax import Array

from rafmodel import amounts, detectors, state
from rafmodel.amounts import NAMES, NOISE, POSE
from rafmodel.recovery import FEW, ROUNDS, SLOPES, Recovery, lines, tame
from rafmodel.registration import change_by_turning
from rafmodel.remade import corrected
from rafmodel.state import Reference

FEWEST = 0.5  # correlation of added and recovered below which a state is not identified; errors are taken out, means are many
SYMMETRIC = 0.02  # change of the mean image by a turn of 20 degrees, 1 − correlation, below which it has no orientation
USABLE = 0.4  # correlation from which a state's difference between subgroups is made, so that what leaks from it is corrected
UNSURE = 0.2  # standard error of what comes back in a subgroup, as a share of it, above which a state is not identified
IMAGES = 256  # of a cohort that amounts are added to
SHARE = 0.5  # of the subgroup's own spread that amounts have
# s.d. of amounts at most; of noise: times its own
LARGEST = np.array([0.2, 0.2, 10, 0.05, 0.05, 0.1, 1.2, 1e-3, *(0.2,) * 5])


def _spreads(value: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """S.d. of the amounts for each image (N, states): that of its subgroup, robust, for what comes back depends on it."""
    spread = np.empty_like(value)
    for g in range(n_groups):
        own = group == g
        low, high = np.quantile(value[own] if own.sum() >= FEW else value, [0.25, 0.75], axis=0)
        spread[own] = SHARE * np.minimum((high - low) / 1.349, LARGEST)
    spread[:, NOISE] = LARGEST[NOISE]
    return spread


# ---- what comes back


def recover(key: Array, reference: Reference, images: Array, code: np.ndarray | None = None) -> Recovery:
    """What every estimator, and every detector, recovers on images (N, H, W, 1) of a cohort.

    code  (N,) subgroup of each image, for errors of measurement differ between subgroups; None: one
    """
    code = np.zeros(len(images), int) if code is None else code
    n_groups = int(code.max()) + 1
    order = _some(key, code)
    some, group = images[order], code[order]
    before = np.stack(state.both(reference, some))
    spread = _spreads(before[0], group, n_groups)
    own, alone, altered = np.exp(before[0][:, NOISE]), np.arange(len(NAMES)) == NOISE, some
    changes, added, drawn = [], [], []
    for number in range(ROUNDS + 1):
        keys = jax.random.split(jax.random.fold_in(key, number))
        amount = amounts.drawn(keys[0], spread, own)
        amount[:, ~alone if number == ROUNDS else alone] = 0.0  # noise last and alone, for it lessens what comes back
        altered = amounts.add(keys[1], reference.middle, some, amount)
        changes.append(np.stack(state.both(reference, altered)) - before)
        added.append(amount)
        drawn.append(keys[1])
    more = float(np.mean((added[-1][:, NOISE] / own) ** 2))
    noise_first = amounts.add(drawn[0], reference.middle, altered, added[0])
    drift = np.stack(state.both(reference, noise_first)) - before - changes[0] - changes[-1]
    state_before = before[0]
    for _ in range(2):  # what amounts come to depends on the state before, told better once it is known what comes back
        steps = np.stack([amounts.made(state_before, amount, some.shape[1]) for amount in added])
        worth = _worth(np.stack(changes), drift, steps, group, n_groups, more)
        state_before = np.where(worth[0], before[1], before[0]) * worth[1]
    turning = float(change_by_turning(reference.template, 20.0))
    worth[-1][POSE.start] &= turning >= SYMMETRIC
    nothing = np.zeros((n_groups, len(NAMES)))
    told = *worth[:-1], nothing, nothing, worth[-1], detectors.worth(key, reference, images, some), turning
    found = Recovery(*told)  # pyright: ignore[reportCallIssue]
    value = np.where(found.whole, before[1], before[0]) * found.undo
    return corrected(key, reference, found, some, value, spread, group)


def _some(key: Array, code: np.ndarray) -> np.ndarray:
    """Rows of at most IMAGES images drawn at random, of every subgroup FEW before there are more of any."""
    order = np.asarray(jax.random.permutation(key, len(code)))
    number = np.empty(len(order), int)
    for g in np.unique(code):
        own = code[order] == g
        number[own] = np.arange(own.sum())
    return order[np.argsort(number >= FEW, kind="stable")][:IMAGES]


def _worth(
    changes: np.ndarray, drift: np.ndarray, steps: np.ndarray, group: np.ndarray, n_groups: int, more: float
) -> tuple[np.ndarray, ...]:
    """First fields of ``Recovery``.

    changes  (rounds, 2, N, states) found by both estimators, in the last round by noise alone
    drift    (2, N, states) how else the last round's noise acts where it was altered by the first round's amounts
    steps    (rounds, N, states) made
    group    (N,) subgroup of each image
    more     variance of the noise that the last round added, relative to the images' own
    """
    step = np.where(np.arange(len(NAMES)) == NOISE, 0.0, steps[:-1].reshape(-1, len(NAMES)))
    both = np.moveaxis(changes[:-1], 1, 0).reshape(2, -1, len(NAMES))
    follows = np.stack([_correlation(step, tame(one)) for one in both])
    whole = follows[1] > follows[0]
    found, noisy, drift = (tame(np.where(whole, x[1], x[0])) for x in (both, changes[-1], drift))
    lone = steps[-1][:, NOISE], noisy[:, NOISE]
    use = np.arange(len(NAMES)) != NOISE
    slope, bias, _ = lines(step, found)
    correlation = _at_full_size(_correlation(step, found))
    slope[NOISE], correlation[NOISE] = np.polyfit(*lone, 1)[0], np.corrcoef(*lone)[0, 1]
    use = (correlation >= USABLE) & (slope >= SLOPES[0] / 2)
    undo = np.where(use, 1 / np.where(use, slope, 1.0), 0.0)
    undo[NOISE] = 1.0  # it is what it is, in the image as it is
    rest = np.where(use, (found - bias) * undo - step, 0.0)
    grain = noisy * undo
    grain[:, NOISE] -= steps[-1][:, NOISE]
    many = np.tile(group, len(steps) - 1)
    bias = np.where(np.arange(len(NAMES)) == NOISE, grain.mean(0), bias * undo)
    each = rest, step, grain, steps[-1], drift * undo
    parts = [_of_subgroup(*each, (many == g, group == g), more) for g in range(n_groups)]
    error, response, response_error, follows = (np.stack(x) for x in zip(*parts, strict=True))
    correlation = np.minimum(correlation, follows.min(0))
    parted = slope[None] * response
    answers = (slope >= SLOPES[0]) & (slope <= SLOPES[1]) & ((parted >= SLOPES[0]) & (parted <= SLOPES[1])).all(0)
    identified = (correlation >= FEWEST) & answers & (response_error <= UNSURE * response).all(0)
    usual = np.where(identified, response, 1.0)
    error, response_error = error / usual, response_error / usual
    return whole, undo, slope, correlation, bias, error, response, response_error, identified


def _of_subgroup(
    rest: np.ndarray,
    step: np.ndarray,
    grain: np.ndarray,
    lone: np.ndarray,
    drift: np.ndarray,
    own: tuple[np.ndarray, np.ndarray],
    more: float,
) -> tuple[np.ndarray, ...]:
    """Error, response and its error, and correlation (states,) in one subgroup, in all where it has few images.

    rest, step  (rounds N, states) what is left where everything was changed, and the changes; of two measurements that share
                the image's noise, as far as it acts on them alike
    grain, lone (N, states) what is left of, and the changes by, noise of ``more`` times the own variance; variances grow in
                proportion
    drift       (N, states) how else that noise acts where it was moved, toned and blurred with the image
    own         which of both rows are of the subgroup
    """
    if own[1].sum() < FEW:
        own = np.ones(len(rest), bool), np.ones(len(grain), bool)
    rest, step, grain, lone, drift = rest[own[0]], step[own[0]], grain[own[1]], lone[own[1]], drift[own[1]]
    response = 1 + np.array([_slope(a, b) for a, b in zip(step.T, rest.T, strict=True)])
    response[NOISE] = 1.0  # it is what it is, in the image as it is
    rest = rest - (response - 1) * step
    error = np.sqrt(np.maximum(rest.var(0) - drift.var(0) / more, 0) / 2 + grain.var(0) / more)
    # of a variance (1 + q) v only q v is new, and v itself errs alike before and after: 1 − 1 / (1 + q)² of one error's square
    error[NOISE] = np.sqrt(grain[:, NOISE].var() / np.mean(-np.expm1(-4 * lone[:, NOISE])))
    left, made_ = rest.std(0), np.where(step.std(0) > 0, step.std(0), np.inf)
    follows = _at_full_size(_correlation(step, rest + response[None] * step))
    follows[NOISE] = _correlation(lone, lone + grain)[NOISE]
    return error, response, left / made_ / np.sqrt(len(grain)), follows


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Of y on x (N,); 0 where x is constant."""
    x = x - x.mean()
    return float(x @ y / max(x @ x, 1e-12))


def _correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of columns (N, k)."""
    x, y = x - x.mean(0), y - y.mean(0)
    norm = np.sqrt((x**2).sum(0) * (y**2).sum(0))
    return np.where(norm > 0, (x * y).sum(0) / np.where(norm > 0, norm, 1.0), 0.0)


def _at_full_size(correlation: np.ndarray) -> np.ndarray:
    """What a correlation of changes found and made would be were those made 1 / SHARE times as large, and errors the same."""
    missed = SHARE**2 * (1 - correlation**2)
    return correlation / np.sqrt(np.maximum(correlation**2 + missed, 1e-12))


# ---- in words


def why_not(name: str, recovery: Recovery) -> str:
    """Why a state cannot be told from the images; "" where it can."""
    i = NAMES.index(name)
    if recovery.identified[i]:
        return ""
    found = f"of a known amount {recovery.slope[i]:.0%} comes back, correlation {recovery.correlation[i]:.2f}"
    parted = recovery.slope[i] * recovery.response[:, i]
    worst = parted[np.argmax(np.abs(parted - 1))]
    if len(parted) > 1 and not SLOPES[0] <= worst <= SLOPES[1]:
        found += f", in one subgroup {worst:.0%}"
    if (unsure := recovery.response_error[:, i].max()) > UNSURE:
        found += f", known to ±{unsure:.0%} only"
    if name == "rotation":
        return (
            f"{found}; turning the mean image by 20° changes its correlation with itself by {recovery.turning:.3f} only"
        )
    return found
