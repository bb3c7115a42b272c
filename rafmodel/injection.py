"""What estimators of an image's state are worth on a cohort: known amounts are added to its images and looked for.

All states are changed at once, by amounts of half the subgroup's own spread, for what comes back depends on both: the images are
in states of their own already, and what states do to each other grows with the square of how far they are spread.  For each
state that estimator is taken, by parts or of all states at once, which follows the amounts more closely; ``change found = slope *
change made + error``, subgroup by subgroup.  A state that does not answer is not identified, and it is said why.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import amounts, detectors, state
from rafmodel.amounts import BLUR, MOVES, NAMES, NOISE, POSE
from rafmodel.detectors import Worth
from rafmodel.registration import change_by_turning
from rafmodel.state import Reference

FEWEST = 0.5  # correlation of added and recovered below which a state is not identified; errors are taken out, means are many
SYMMETRIC = 0.02  # change of the mean image by a turn of 20 degrees, 1 − correlation, below which it has no orientation
USABLE = 0.4  # correlation from which a state's difference between subgroups is made, so that what leaks from it is corrected
SLOPES = (0.5, 1.5)  # between which the recovered share of what was added must lie
UNSURE = 0.2  # standard error of that share in a subgroup, relative to it, above which a state is not identified
IMAGES = 256  # of a cohort that amounts are added to
SHARE = 0.5  # of the subgroup's own spread that amounts have
ROUNDS = 3  # amounts added to each of them, one after another; then noise alone
LIKELY = 0.1  # s.d. that a response to changes before noise has about that to changes after it, log, before it is known
DOUBTED = 1 / 3  # share of a correction between subgroups that may be wrong, s.d.; images made are not images taken
AT_BEST = 0.032  # share of an s.d. that it is wrong by beyond chance: root mean square of 24 of phantoms' known ones
FEW = 24  # images of a subgroup from which its own response and error are taken
FAR = 5.0  # robust s.d. from the median from which a change counts as a failure
LARGEST = np.array(
    [0.2, 0.2, 10, 0.05, 0.05, 0.1, 1.2, 1e-3, *(0.2,) * 5]
)  # s.d. of amounts at most; of noise: times its own


class Recovery(NamedTuple):
    """What each estimator recovers, (len(STATES),) each.

    whole               whether the estimate is that of all states at once, else by parts
    undo                what an estimate is multiplied by, one over its slope; 0 where it is of no use
    slope               of an estimate's change on its own state's, all others held
    correlation         of the change found and the change made, where all states change, as it would be were amounts as large as
                        the subgroup's own spread; the lowest of all and of each subgroup
    bias                change found where none was made, in the state's unit
    error               (subgroups, len(STATES)) s.d. of one measurement
    response            (subgroups, len(STATES)) share of a change before an image's noise that comes back in a subgroup
    response_error      (subgroups, len(STATES)) its standard error, as a share of it
    misread             (subgroups,) of log noise, what it is read above what it is, on mean images in states like the subgroup's
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
    identified: np.ndarray
    detectors: Worth
    turning: float


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
    later = np.stack(
        state.both(reference, amounts.add(drawn[0], reference.middle, altered, added[0]))
    )  # noise, then the rest
    drift, state_before = later - before - changes[0] - changes[-1], before[0]
    for _ in range(
        2
    ):  # what amounts come to depends on the state before, which is told better once it is known what comes back
        steps = np.stack([amounts.made(state_before, amount, some.shape[1]) for amount in added])
        worth = _worth(np.stack(changes), drift, steps, group, n_groups, more)
        state_before = np.where(worth[0], before[1], before[0]) * worth[1]
    turning = float(change_by_turning(reference.template, 20.0))
    worth[-1][POSE.start] &= turning >= SYMMETRIC
    told = *worth[:-1], np.zeros(n_groups), worth[-1], detectors.worth(key, reference, images, some), turning
    found = Recovery(*told)  # pyright: ignore[reportCallIssue]
    return _noise_last(key, reference, found, np.where(found.whole, before[1], before[0]) * found.undo, spread, group)


def _noise_last(
    key: Array, reference: Reference, found: Recovery, value: np.ndarray, spread: np.ndarray, group: np.ndarray
) -> Recovery:
    """``found`` with responses to what came before an image's noise, in place of those to what is added after it.

    Amounts move and light noise along with the image, while a hospital's own differences are there before its noise, which is
    cut at black: of these less comes back from dark, noisy images.  The mean image is put in the states of some images, and
    then changed by amounts, as images were; what of each comes back gives the ratio.  These images show how noise itself is read.

    value, spread  (N, states) states of some images, and s.d. of the amounts added to them
    """
    states = _without_errors(found, answered(found, value, group), group)
    shape, noise, free = reference.template.shape, np.exp(states[:, NOISE]), np.arange(len(NAMES)) != NOISE
    mean = jnp.broadcast_to(reference.template, (len(states), *shape))
    taken, added, misread = [], [], []
    for number in range(ROUNDS):
        keys = jax.random.split(jax.random.fold_in(key, 199 + number), 3)
        image = amounts.add(keys[0], reference.middle, mean, np.where(free, states, noise[:, None]))
        seen = measured(reference, found, image)
        amount = amounts.drawn(keys[1], spread, noise) * free
        after = measured(reference, found, amounts.add(keys[2], reference.middle, image, amount))
        taken.append((states * free, seen))
        still = state.log_noise(amounts.add(keys[0], reference.middle, mean, states * free))
        misread.append(_dimmed(states[:, NOISE], seen[:, NOISE], np.asarray(still)))
        added.append((amounts.made(seen, amount, shape[0]) * free, after - seen))
    ratio, unsure = np.ones_like(found.response), np.zeros_like(found.response)
    dim = np.array(
        [_centre(x) if len(x := np.stack(misread)[:, group == g].ravel()) else 0.0 for g in range(len(ratio))]
    )
    use = found.identified & free & (np.arange(len(NAMES)) != BLUR)
    for g in range(len(ratio)):
        own = np.tile(group == g, ROUNDS) if (group == g).sum() >= FEW else np.ones(ROUNDS * len(group), bool)
        each = ((np.concatenate(x)[own] for x in zip(*pairs, strict=True)) for pairs in (taken, added))
        (all_, _, of_all), (part, _, of_part) = (_lines(step, _tame(seen)) for step, seen in each)
        all_, part = (np.clip(slope, *SLOPES) for slope in (all_, part))
        variance = np.where(use, of_all / all_**2 + of_part / part**2, np.inf)
        kept = LIKELY**2 / (LIKELY**2 + variance)  # what hardly varies tells nothing
        ratio[g], unsure[g] = np.exp(kept * np.log(all_ / part)), LIKELY * np.sqrt(1 - kept) * (kept > 0)
    return found._replace(
        response=found.response * ratio,
        error=found.error / ratio,
        response_error=np.sqrt(found.response_error**2 + unsure**2 + AT_BEST**2),
        misread=dim,
    )


def _dimmed(made: np.ndarray, seen: np.ndarray, still: np.ndarray) -> np.ndarray:
    """Log noise seen less log noise made (N,), without what images show that have none; 0 where that is most of it."""
    share = -np.expm1(2 * np.minimum(still - seen, 0))
    return np.where(share > 0.5, seen + 0.5 * np.log(np.maximum(share, 0.5)) - made, 0.0)


def _without_errors(found: Recovery, value: np.ndarray, group: np.ndarray) -> np.ndarray:
    """States (N, states) as far from their subgroup's centre as they are without errors; 0 where not identified."""
    known = np.where(found.identified | (np.arange(len(NAMES)) == NOISE), value, 0.0)
    for g in np.unique(group):
        own = group == g
        middle, total = _centre(known[own]), np.maximum(_tame(known[own]).var(0), 1e-12)
        share = np.sqrt(np.maximum(1 - found.error[g] ** 2 / total, 0))
        known[own] = middle + share * (_tame(known[own]) - middle)
    known[:, BLUR] = np.maximum(known[:, BLUR], 0)
    return known


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
    follows = np.stack([_correlation(step, _tame(one)) for one in both])
    whole = follows[1] > follows[0]
    found, noisy, drift = (_tame(np.where(whole, x[1], x[0])) for x in (both, changes[-1], drift))
    lone = steps[-1][:, NOISE], noisy[:, NOISE]
    use = np.arange(len(NAMES)) != NOISE
    slope, bias, _ = _lines(step, found)
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


def _lines(step: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slope of each change found on the same state's change made, all others held, what is found where none was made, and the
    slope's variance, inf where nothing was changed; (states,) each."""
    design = np.c_[step, np.ones(len(step))]
    line = np.linalg.lstsq(design, found, rcond=None)[0]
    rest = ((found - design @ line) ** 2).sum(0) / max(len(step) - design.shape[1], 1)
    variance = np.maximum(np.diag(np.linalg.pinv(design.T @ design))[:-1], 0) * rest
    return np.diag(line[:-1]).copy(), line[-1], np.where(step.std(0) > 0, variance, np.inf)


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


def _at_full_size(correlation: np.ndarray) -> np.ndarray:
    """What a correlation of changes found and made would be were those made 1 / SHARE times as large, and errors the same."""
    missed = SHARE**2 * (1 - correlation**2)
    return correlation / np.sqrt(np.maximum(correlation**2 + missed, 1e-12))


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
    before, some = value[rows], images[rows]

    def misread(key: Array, goal: np.ndarray) -> np.ndarray:
        amount = amounts.towards(before, goal, some.shape[1])
        after = measured(reference, recovery, amounts.add(key, reference.middle, some, amount))
        return _tame(after - before - amounts.made(before, amount, some.shape[1]))

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


def _centre(values: np.ndarray) -> np.ndarray:
    return _tame(values).mean(0)


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
