"""What comes back of a cohort's own states, and what they are misread by, as the cohort made again shows.

Amounts are added to images that are blurred, noisy and cut at black and white already, while a hospital's own differences come
before all that.  So the anatomy behind the cohort's mean image (``sharpening``) is put in the states of some images and measured
as they were, from a mean of its own: what is read less what was put is the misreading, which is taken off what is put next
(indirect inference, Gourieroux, Monfort, Renault 1993).  Then it is changed by amounts, as images were; what comes back of both
gives the ratio.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import amounts, state
from rafmodel.amounts import BLUR, NAMES, NOISE
from rafmodel.recovery import FEW, ROUNDS, SLOPES, Recovery, answered, centre, lines, measured, tame
from rafmodel.sharpening import sharpened
from rafmodel.state import Reference

LIKELY = (
    0.1  # s.d. that a response to a cohort's own changes has about that to changes after it, log, before it is known
)
AT_BEST = 0.032  # share of an s.d. that it is wrong by beyond chance: root mean square of 24 of phantoms' known ones
DOUBTED = 1 / 3  # share of a correction between subgroups that may be wrong, s.d.; images made are not images taken
_FREE = np.arange(len(NAMES)) != NOISE


class _Tried(NamedTuple):
    """The cohort made again, ROUNDS times, one after another.

    put, seen       (rounds, N, states) states that its anatomy was put in, and what was measured; noise put is 0
    more, change    the same of amounts added, and what changed
    misread         (rounds, N, states) what is read above what was put
    """

    put: np.ndarray
    seen: np.ndarray
    more: np.ndarray
    change: np.ndarray
    misread: np.ndarray


def corrected(
    key: Array,
    reference: Reference,
    found: Recovery,
    images: Array,
    value: np.ndarray,
    spread: np.ndarray,
    group: np.ndarray,
) -> Recovery:
    """``found`` with responses to what came before blur, noise and white, and with what states are misread by.

    images         (N, H, W, 1) some of the cohort
    value, spread  (N, states) their states, and s.d. of the amounts added to them
    group          (N,) subgroup of each
    """
    n_groups = len(found.response)
    size = np.bincount(group, minlength=n_groups)
    rows = np.concatenate([np.resize(np.flatnonzero(group == g), max(n, FEW)) for g, n in enumerate(size) if n])
    states = _without_errors(found, answered(found, value, group), group)[rows]
    anatomy = sharpened(reference, images)
    tried = _tried(key, reference, found, anatomy, states, spread[rows], group[rows])
    ratio, unsure = _responses(tried, found, group[rows], size)
    misread, doubt = _misread(tried, found, group[rows], size)
    return found._replace(
        response=found.response * ratio,
        error=found.error / ratio,
        response_error=np.sqrt(found.response_error**2 + unsure**2 + AT_BEST**2),
        misread=misread,
        misread_error=doubt,
    )


def _tried(
    key: Array,
    reference: Reference,
    found: Recovery,
    anatomy: tuple[Array, float],
    states: np.ndarray,
    spread: np.ndarray,
    group: np.ndarray,
) -> _Tried:
    image, lacking = anatomy
    bare, noise = jnp.broadcast_to(image, (len(states), *image.shape)), np.exp(states[:, NOISE])
    wrong, rounds = np.zeros_like(states), []
    for number in range(ROUNDS):
        keys = jax.random.split(jax.random.fold_in(key, 199 + number), 3)
        put = (states - wrong) * _FREE
        blurred = put.copy()
        blurred[:, BLUR] = np.maximum(put[:, BLUR] + lacking, 0)
        again = amounts.add(keys[0], reference.middle, bare, np.where(_FREE, blurred, noise[:, None]))
        own = state.reference(again)._replace(middle=reference.middle)  # where gains are told
        seen = measured(own, found, again)
        amount = amounts.drawn(keys[1], spread, noise) * _FREE
        after = measured(own, found, amounts.add(keys[2], reference.middle, again, amount))
        still = np.asarray(state.log_noise(amounts.add(keys[0], reference.middle, bare, blurred)))
        misread = np.where(found.undo != 0, seen - put, 0.0)
        misread[:, NOISE] = _dimmed(states[:, NOISE], seen[:, NOISE], still)
        for g in np.unique(group):
            wrong[group == g] = centre(misread[group == g]) * _FREE
        more = amounts.made(seen, amount, image.shape[0]) * _FREE
        rounds.append(_Tried(put, seen, more, after - seen, misread))
    return _Tried(*(np.stack(parts) for parts in zip(*rounds, strict=True)))


def _responses(tried: _Tried, found: Recovery, group: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratio of what comes back of the cohort's own states to what comes back of amounts, and its error, (subgroups, states)."""
    use = found.identified & _FREE & (np.arange(len(NAMES)) != BLUR)
    ratio, unsure = np.ones_like(found.response), np.zeros_like(found.response)
    for g, n in enumerate(size):
        own = group == g if n >= FEW else np.ones(len(group), bool)
        put, seen, more, change = (x[:, own].reshape(-1, len(NAMES)) for x in tried[:4])
        whole, _, of_whole = lines(put, tame(seen))
        part, _, of_part = lines(more, tame(change))
        whole, part = (np.clip(slope, *SLOPES) for slope in (whole, part))
        variance = np.where(use, of_whole / whole**2 + of_part / part**2, np.inf)
        kept = LIKELY**2 / (LIKELY**2 + variance)  # what hardly varies tells nothing
        ratio[g], unsure[g] = np.exp(kept * np.log(whole / part)), LIKELY * np.sqrt(1 - kept) * (kept > 0)
    return ratio, unsure


def _misread(tried: _Tried, found: Recovery, group: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What states are misread by in each subgroup, and its standard error, (subgroups, states).

    Noise as it is, all others beside the largest subgroup, as they are relative to the cohort's mean.  The first round, which set
    out from what was misread, is left out.
    """
    wrong, doubt = np.zeros_like(found.response), np.zeros_like(found.response)
    for g in np.unique(group):
        own = tame(tried.misread[1:, group == g].reshape(-1, len(NAMES)))
        wrong[g], doubt[g] = own.mean(0), own.std(0) / np.sqrt(len(own))
    base = size.argmax()
    wrong = wrong - np.where(_FREE, wrong[base], 0.0) * (size > 0)[:, None]
    doubt[base] *= ~_FREE
    return wrong, np.hypot(doubt, DOUBTED * wrong)


def _dimmed(made: np.ndarray, seen: np.ndarray, still: np.ndarray) -> np.ndarray:
    """Log noise seen less log noise made (N,), without what images show that have none; 0 where that is most of it."""
    share = -np.expm1(2 * np.minimum(still - seen, 0))
    return np.where(share > 0.5, seen + 0.5 * np.log(np.maximum(share, 0.5)) - made, 0.0)


def _without_errors(found: Recovery, value: np.ndarray, group: np.ndarray) -> np.ndarray:
    """States (N, states) as far from their subgroup's centre as they are without errors; at the centre where not identified."""
    known = value.copy()
    told = found.identified | ~_FREE
    for g in np.unique(group):
        own = group == g
        middle, total = centre(known[own]), np.maximum(tame(known[own]).var(0), 1e-12)
        share = np.sqrt(np.maximum(1 - found.error[g] ** 2 / total, 0)) * told
        known[own] = middle + share * (tame(known[own]) - middle)
    return known
