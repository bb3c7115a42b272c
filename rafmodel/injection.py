"""What estimators of an image's state are worth on a cohort: known amounts are added to its images and looked for.

All states are changed at once, by amounts of the order of the subgroup's own spread, for what comes back depends on both; what
is changed is the image before its noise, which is drawn anew.  For each state that estimator is taken, by parts or of all states
at once, which follows the amounts more closely; ``change found = slope * change made + error``, subgroup by subgroup.  A state
that does not answer is not identified, and it is said why.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import state
from rafmodel.added import BLUR, FIELD, GAIN, GAMMA, MOVES, NOISE, POSE, add, amounts, bare, frame, made
from rafmodel.registration import change_by_turning
from rafmodel.state import SCORES, STATES, Reference
from rafmodel.variability import CATALOGUE, alter

FEWEST = 0.5  # correlation of added and recovered below which a state is not identified; errors are taken out, means are many
SYMMETRIC = 0.02  # change of the mean image by a turn of 20 degrees, 1 − correlation, below which it has no orientation
USABLE = 0.2  # correlation from which a state's mean is carried to other subgroups, to correct what leaks from it; means are many
SLOPES = (0.5, 1.5)  # between which the recovered share of what was added must lie
IMAGES = 256  # of a cohort that amounts are added to
ROUNDS = 3  # amounts added to each of them, one after another
SHARE = 0.7  # s.d. of amounts, of the subgroup's own: less comes back of states that are wider than they were
DOUBTED = 1 / 3  # share of a correction between subgroups that may be wrong, s.d.; images made are not images taken
FEW = 24  # images of a subgroup from which its own response and error are taken
LEVEL = 2  # of an artifact's five levels, from 0, at which its detector is judged
FAR = 5.0  # robust s.d. above the cohort's median from which a score counts as an artifact, or a change as a failure
LARGEST = np.array([0.2, 0.2, 10, 0.05, 0.05, 0.1, 0.5, 1e-3, *(0.2,) * 5])  # s.d. of amounts at most
TURNS = 8  # of finding what score is usual, without the images that were called before
_NOISY = 0.2  # s.d. of log noise that is added at least
_LEAST = np.array([0.1, 0.05, 0.1, 0.3])  # smallest s.d. that a score is taken to have
_NAMES = list(STATES)


class Recovery(NamedTuple):
    """What each estimator recovers, (len(STATES),) each, and each detector, (len(SCORES),).

    whole               whether the estimate is that of all states at once, else by parts
    undo                what an estimate is multiplied by, one over its slope; 0 where it is of no use
    slope               of an estimate's change on its own state's, all others held
    correlation         of the change found and the change made, where all states change; the lowest of all and of each subgroup
    bias                change found where none was made, in the state's unit
    error               (subgroups, len(STATES)) s.d. of one measurement
    response            (subgroups, len(STATES)) share of a change that comes back in a subgroup
    response_error      (subgroups, len(STATES)) its standard error, as a share of it
    identified          whether the state can be told from these images
    threshold           (subgroups, len(SCORES)) score from which an artifact is called
    found, tried        (subgroups, len(SCORES)) images with an injected artifact that were called, and how many there were, of
                        those not called before
    crossed             (subgroups, len(SCORES), len(SCORES)) share of images with artifact j, made by hand, that detector i calls
    curve               (len(SCORES), 5) mean score of images at each level of the artifact
    grows               (len(SCORES),) correlation of score and level over images with the artifact
    usual               (len(SCORES),) median score of the images as they are
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
    identified: np.ndarray
    threshold: np.ndarray
    found: np.ndarray
    tried: np.ndarray
    crossed: np.ndarray
    curve: np.ndarray
    grows: np.ndarray
    usual: np.ndarray
    turning: float


# ---- what comes back


def _spreads(value: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """S.d. of states (N, states) in each image's subgroup, robust, LARGEST at most; in all where it has few images."""
    spread = np.empty_like(value)
    for g in range(n_groups):
        own = group == g
        low, high = np.quantile(value[own] if own.sum() >= FEW else value, [0.25, 0.75], axis=0)
        spread[own] = np.minimum((high - low) / 1.349, LARGEST)
    spread[:, NOISE] = np.maximum(spread[:, NOISE], _NOISY)  # it is told where it hardly varies, too
    return spread


def recover(key: Array, reference: Reference, images: Array, code: np.ndarray | None = None) -> Recovery:
    """What every estimator, and every detector, recovers on images (N, H, W, 1) of a cohort.

    code  (N,) subgroup of each image, for errors of measurement differ between subgroups; None: one
    """
    order = np.asarray(jax.random.permutation(key, len(images)))[:IMAGES]
    codes = np.zeros(len(images), int) if code is None else code
    group, n_groups = codes[order], int(codes.max()) + 1
    some = images[order]
    plain, nothing = bare(some), np.zeros((len(order), len(_NAMES)))
    keys = jax.random.split(key, ROUNDS + 2)
    before = np.stack(state.both(reference, add(keys[0], reference.middle, plain, nothing)))
    spread = SHARE * _spreads(before[0], group, n_groups)
    changes, added = [], []
    for key_round in keys[1:-1]:
        key_amount, key_noise = jax.random.split(key_round)
        added.append(amounts(key_amount, spread))
        changes.append(np.stack(state.both(reference, add(key_noise, reference.middle, plain, added[-1]))) - before)
    whole = _closer(before, np.stack(changes), added)
    steps = np.stack([made(np.where(whole, before[1], before[0]), amount) for amount in added])
    worth = whole, *_worth(np.where(whole, *np.stack(changes)[:, ::-1].swapaxes(0, 1)), steps, group, n_groups)
    turning = float(change_by_turning(reference.template, 20.0))
    worth[-1][POSE.start] &= turning >= SYMMETRIC
    return Recovery(*worth, *_detectors(keys[-1], reference, images, codes, order), turning)  # pyright: ignore[reportCallIssue]


def _closer(before: np.ndarray, changes: np.ndarray, added: list[np.ndarray]) -> np.ndarray:
    """Whether the estimate of all states at once follows the changes made more closely than that by parts, (states,).

    before   (2, N, states) by both estimators
    changes  (rounds, 2, N, states)
    """
    follows = []
    for which in (0, 1):
        step = np.concatenate([made(before[which], amount) for amount in added])
        follows.append(_correlation(step, _tame(changes[:, which].reshape(-1, len(_NAMES)))))
    return follows[1] > follows[0]


def _worth(changes: np.ndarray, steps: np.ndarray, group: np.ndarray, n_groups: int) -> tuple[np.ndarray, ...]:
    """Fields of ``Recovery`` from ``undo`` to ``identified``.

    changes, steps  (rounds, N, states) found and made
    group           (N,) subgroup of each image
    """
    step, found = steps.reshape(-1, len(_NAMES)), _tame(changes.reshape(-1, len(_NAMES)))
    slope, bias = _lines(step, found)
    correlation = _correlation(step, found)
    use = (correlation >= USABLE) & (slope >= SLOPES[0] / 2)
    undo = np.where(use, 1 / np.where(use, slope, 1.0), 0.0)
    rest = np.where(use, (found - bias) * undo - step, 0.0)
    many = np.tile(group, len(steps))
    parts = [_of_subgroup(rest, step, many == g, len(steps)) for g in range(n_groups)]
    error, response, response_error, follows = (np.stack(x) for x in zip(*parts, strict=True))
    correlation = np.minimum(correlation, follows.min(0))
    parted = slope[None] * response
    answers = (slope >= SLOPES[0]) & (slope <= SLOPES[1]) & ((parted >= SLOPES[0]) & (parted <= SLOPES[1])).all(0)
    identified = (correlation >= FEWEST) & answers
    usual = np.where(identified, response, 1.0)
    return undo, slope, correlation, bias * undo, error / usual, response, response_error / usual, identified


def _lines(step: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope of each change found on the same state's change made, all others held, and what is found where none was made."""
    line = np.linalg.lstsq(np.c_[step, np.ones(len(step))], found, rcond=None)[0]
    return np.diag(line[:-1]).copy(), line[-1]


def _of_subgroup(rest: np.ndarray, step: np.ndarray, own: np.ndarray, rounds: int) -> tuple[np.ndarray, ...]:
    """Error, response and its error, and correlation (states,) in one subgroup, in all where it has few images.

    rest, step  (rounds N, states) what is left of the changes found less those made, and those made
    own         (rounds N,) which are of the subgroup
    A measurement errs by its noise, of which a change holds that of two, and by what leaks into it from other states, which
    vary as much as their changes do.
    """
    if own.sum() < FEW * rounds:
        own = np.ones(len(rest), bool)
    rest, step = rest[own], step[own]
    design = np.c_[step, np.ones(len(step))]
    line = np.linalg.lstsq(design, rest, rcond=None)[0]
    left, free = rest - design @ line, len(rest) - design.shape[1]
    noise = (left**2).sum(0) / free
    leaks = line[:-1] * (1 - np.eye(len(_NAMES)))
    centred = step - step.mean(0)
    leaked = (centred @ leaks).var(0) - noise * (len(leaks) - 1) / len(rest)  # less what chance makes of none
    square = np.maximum((centred**2).sum(0), 1e-12)
    each = (centred * left).reshape(rounds, -1, len(_NAMES)).sum(0)  # rounds of an image share its first measurement
    follows = _correlation(step, rest + step)
    error = np.sqrt(noise / 2 + np.maximum(leaked, 0) / SHARE**2)
    return error, 1 + np.diag(line[:-1]), np.sqrt((each**2).sum(0)) / square, follows


def _tame(values: np.ndarray) -> np.ndarray:
    """Values (N, ...) no farther than FAR robust s.d. from their median."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
    far = FAR * (high - low) / 1.349
    return np.clip(values, middle - far, middle + far)


def _correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of columns (N, k)."""
    x, y = x - x.mean(0), y - y.mean(0)
    norm = np.sqrt((x**2).sum(0) * (y**2).sum(0))
    return np.where(norm > 0, (x * y).sum(0) / np.where(norm > 0, norm, 1.0), 0.0)


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
            middle = _centre(value[own])
            answer[own] = middle + (value[own] - middle) / np.where(recovery.identified, recovery.response[g], 1.0)
    return answer


# ---- between subgroups


def offsets(
    key: Array, reference: Reference, recovery: Recovery, images: Array, value: np.ndarray, code: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What differences between subgroups are misread by, and the standard error of that, (subgroups, len(STATES)) each.

    One subgroup's images are taken to each other subgroup, by the differences found, and measured: what is found less what was
    done.  Subtracted, and done again from there (indirect inference, Gourieroux, Monfort, Renault 1993).  That subgroup is the
    one with the least noise among the larger ones, of which the most can be seen; blur can only be added.

    value  (N, len(STATES)) as ``measured`` gives them
    """
    n_groups, useful = int(code.max()) + 1, recovery.undo != 0
    wrong, doubt = np.zeros((2, n_groups, len(_NAMES)))
    size = np.bincount(code, minlength=n_groups)
    middle = np.stack([_centre(value[code == g]) for g in range(n_groups)])
    wide = np.stack(
        [
            _tame(value[code == g]).std(0) / np.where(recovery.identified, recovery.response[g], 1.0)
            for g in range(n_groups)
        ]
    )
    wide = np.sqrt(np.maximum(wide**2 - recovery.error**2, 0))
    base = min(range(n_groups), key=lambda g: (size[g] < min(24, size.max()), middle[g, NOISE], -size[g]))
    rows = np.resize(np.flatnonzero(code == base), max(state.CHUNK, min(size[base], IMAGES)))
    extra = np.sqrt(np.maximum(wide**2 - wide[base] ** 2, 0))
    key_before, key_turns = jax.random.split(key)
    plain = bare(images[rows])
    before = measured(reference, recovery, add(key_before, reference.middle, plain, np.zeros((len(rows), len(_NAMES)))))
    for g in range(n_groups):
        seen = middle[g] - middle[base]
        for turn in range(2 if g != base else 0):
            keys = jax.random.split(jax.random.fold_in(key_turns, 2 * g + turn))
            goal = seen - wrong[g] + extra[g] * np.asarray(jax.random.normal(keys[0], before.shape))
            amount = _towards(before, goal)
            after = measured(reference, recovery, add(keys[1], reference.middle, plain, amount))
            rest = _tame(after - before - made(before, amount))
            wrong[g] = np.where(useful, rest.mean(0), 0.0)
            chance = rest.std(0) / np.sqrt(min(size[base], len(rows)))
            doubt[g] = np.where(useful, np.hypot(chance, DOUBTED * wrong[g]), 0.0)
    return wrong, doubt


def _centre(values: np.ndarray) -> np.ndarray:
    return _tame(values).mean(0)


def _towards(before: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Amounts (N, len(STATES)) that change states by ``goal``: ``made`` the other way round, as far as that goes."""
    amount = goal.copy()
    amount[:, MOVES] = np.linalg.solve(frame(before), goal[:, MOVES, None])[..., 0]
    amount[:, GAIN] = amount[:, FIELD] = 0.0
    short = goal - made(before, amount)
    amount[:, GAIN] = short[:, GAIN]
    amount[:, FIELD] = short[:, FIELD] * np.exp(before[:, [GAMMA]])
    amount[:, BLUR] = np.maximum(goal[:, BLUR], 0)
    return amount


# ---- artifacts


def _detectors(
    key: Array, reference: Reference, images: Array, code: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Thresholds from the cohort's own scores, what they find of injected artifacts, and mean score by level.

    code  (N,) subgroup of each image
    rows  images that artifacts are added to, but for those that are called as they are: these would count as found whatever
          a detector sees
    """
    own, n_groups = state.scores(reference, images), int(code.max()) + 1
    threshold, curve, grows = _thresholds(own, code), np.empty((len(SCORES), 5)), np.zeros(len(SCORES))
    some, group = images[rows], code[rows]
    clean = ~(own > threshold[code])[rows].any(1)
    parts = [np.flatnonzero(clean & (group == g)) for g in range(n_groups)]
    parts = [own_rows if len(own_rows) >= FEW else np.arange(len(rows)) for own_rows in parts]
    crossed = np.empty((n_groups, len(SCORES), len(SCORES)))
    for j, name in enumerate(SCORES):
        levels = jnp.array(CATALOGUE[name].levels, some.dtype)
        altered = alter(jax.random.fold_in(key, 99 + j), CATALOGUE[name], some, levels)
        score = state.scores(reference, altered.reshape(-1, *some.shape[1:])).reshape(5, len(some), -1)
        called = score[LEVEL] > threshold[group]
        crossed[:, :, j] = np.stack([called[part].mean(0) for part in parts])
        curve[j] = score[..., j].mean(1)
        number = np.repeat(np.arange(5.0), len(some))[:, None]
        grows[j] = _correlation(number, score[..., j].reshape(-1, 1))[0]
    tried = np.repeat([[len(part)] for part in parts], len(SCORES), 1)
    found = np.rint(tried * np.diagonal(crossed, axis1=1, axis2=2)).astype(int)
    return threshold, found, tried, crossed, curve, grows, np.median(own, 0)


def _thresholds(score: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Score from which an artifact is called, (subgroups, len(SCORES)): FAR s.d. above what is usual in the subgroup.

    Artifacts lift the upper scores and leave the lower ones.  So the centre is told from the lower quartile, and the s.d. from
    the upper half of that subgroup whose upper half is the narrowest, which has the fewest artifacts; it is larger in another
    subgroup by as much as the lower scores are wider there.  What is called is left out, and it is done again.
    """
    n_groups, kept = int(code.max()) + 1, score.copy()
    threshold = np.full((n_groups, len(SCORES)), np.inf)
    for turn in range(TURNS):
        parts = [kept[code == g] if (code == g).sum() >= FEW else kept for g in range(n_groups)]
        points = np.stack([np.nanquantile(part, [0.1, 0.25, 0.5, 0.75], axis=0) for part in parts], 1)
        tenth, low, middle, upper = points
        below = np.maximum((low - tenth) / 0.6071, _LEAST)
        half = np.maximum(np.maximum(upper - middle, middle - low) / 0.6745, _LEAST)
        narrow = half.argmin(0), np.arange(len(SCORES))
        # artifacts widen the lower scores too, while many are left in
        wider = np.maximum(below / below[narrow], 1) if turn >= TURNS // 2 else 1.0
        threshold = low + (FAR + 0.6745) * half[narrow] * wider
        kept = np.where(score > threshold[code], np.nan, score)
    return threshold


def why_not(name: str, recovery: Recovery) -> str:
    """Why a state cannot be told from the images; "" where it can."""
    i = _NAMES.index(name)
    if recovery.identified[i]:
        return ""
    found = f"of a known amount {recovery.slope[i]:.0%} comes back, correlation {recovery.correlation[i]:.2f}"
    parted = recovery.slope[i] * recovery.response[:, i]
    worst = parted[np.argmax(np.abs(parted - 1))]
    if len(parted) > 1 and not SLOPES[0] <= worst <= SLOPES[1]:
        found += f", in one subgroup {worst:.0%}"
    if name == "rotation":
        return (
            f"{found}; turning the mean image by 20° changes its correlation with itself by {recovery.turning:.3f} only"
        )
    return found
