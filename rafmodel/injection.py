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
from rafmodel.amounts import MOVES, NAMES, NOISE, POSE
from rafmodel.mean_images import before_noise
from rafmodel.recovery import FEW, ROUNDS, SLOPES, Recovery, centre, lines, measured, tame
from rafmodel.registration import change_by_turning
from rafmodel.state import Reference

FEWEST = 0.5  # correlation of added and recovered below which a state is not identified; errors are taken out, means are many
SYMMETRIC = 0.02  # change of the mean image by a turn of 20 degrees, 1 − correlation, below which it has no orientation
USABLE = 0.4  # correlation from which a state's difference between subgroups is made, so that what leaks from it is corrected
UNSURE = 0.2  # standard error of what comes back in a subgroup, as a share of it, above which a state is not identified
IMAGES = 256  # of a cohort that amounts are added to
SHARE = 0.5  # of the subgroup's own spread that amounts have
DOUBTED = 1 / 3  # share of a correction between subgroups that may be wrong, s.d.; images made are not images taken
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
    order = np.asarray(jax.random.permutation(key, len(images)))[:IMAGES]
    some = images[order]
    group = np.zeros(len(order), int) if code is None else code[order]
    n_groups = 1 if code is None else int(code.max()) + 1
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
    told = *worth[:-1], np.zeros(n_groups), worth[-1], detectors.worth(key, reference, images, some), turning
    found = Recovery(*told)  # pyright: ignore[reportCallIssue]
    return before_noise(key, reference, found, np.where(found.whole, before[1], before[0]) * found.undo, spread, group)


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


# ---- between subgroups


def offsets(
    key: Array, reference: Reference, recovery: Recovery, images: Array, value: np.ndarray, code: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What differences between subgroups are misread by, and the standard error of that, (subgroups, len(STATES)) each.

    One subgroup's images are taken to each other subgroup, by the differences found, and measured: what is found less what was
    done.  Subtracted, and done again from there (indirect inference, Gourieroux, Monfort, Renault 1993).  That subgroup is the
    one with the least noise among the larger ones, since noise and blur can only be added.  Noise itself is corrected by what
    mean images tell (``Recovery``), for among dark and clipped parts it reads too small.
    What is altered is read between its pixels, which blurs it as no difference between hospitals does: what the same images,
    moved by up to half a pixel, are misread by does not count.

    value  (N, len(STATES)) as ``measured`` gives them
    """
    n_groups, useful = int(code.max()) + 1, (recovery.undo != 0) & (np.arange(len(NAMES)) != NOISE)
    wrong, doubt = np.zeros((2, n_groups, len(NAMES)))
    wrong[:, NOISE] = recovery.misread
    doubt[:, NOISE] = DOUBTED * np.abs(recovery.misread)
    if n_groups == 1:
        return wrong, doubt
    size = np.bincount(code, minlength=n_groups)
    middle = np.stack([centre(value[code == g]) for g in range(n_groups)])
    wide = np.stack(
        [
            tame(value[code == g]).std(0) / np.where(recovery.identified, recovery.response[g], 1.0)
            for g in range(n_groups)
        ]
    )
    wide = np.sqrt(np.maximum(wide**2 - recovery.error**2, 0))
    base = min(range(n_groups), key=lambda g: (size[g] < min(24, size.max()), middle[g, NOISE], -size[g]))
    rows = np.resize(np.flatnonzero(code == base), max(state.CHUNK, min(size[base], IMAGES)))
    extra = np.sqrt(np.maximum(wide**2 - wide[base] ** 2, 0))
    before, some = value[rows], images[rows]

    def misread(key: Array, goal: np.ndarray) -> np.ndarray:
        amount = amounts.towards(before, goal, some.shape[1])
        after = measured(reference, recovery, amounts.add(key, reference.middle, some, amount))
        return tame(after - before - amounts.made(before, amount, some.shape[1]))

    key_move, key_still = jax.random.split(jax.random.fold_in(key, 2 * n_groups))
    still = np.zeros_like(before)
    within = jax.random.uniform(key_move, still[:, MOVES].shape, minval=-0.5, maxval=0.5)
    still[:, MOVES] = np.asarray(within) / some.shape[1]
    resampled = misread(key_still, still).mean(0)
    for g in range(n_groups):
        seen = middle[g] - middle[base]
        for turn in range(2 if g != base else 0):
            keys = jax.random.split(jax.random.fold_in(key, 2 * g + turn))
            goal = seen - wrong[g] + wrong[base] + extra[g] * np.asarray(jax.random.normal(keys[0], before.shape))
            rest = misread(keys[1], goal)
            wrong[g] = np.where(useful, rest.mean(0) - resampled, wrong[g])
            chance = rest.std(0) / np.sqrt(min(size[base], len(rows)))
            doubt[g] = np.where(useful, np.hypot(chance, DOUBTED * wrong[g]), doubt[g])
    return wrong, doubt


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
