"""What comes back of what was there before an image's noise, and how noise is read, as mean images show it.

Amounts move and light noise along with the image, while a hospital's own differences are there before its noise, which is cut at
black: of these less comes back from dark, noisy images.  The mean image is put in the states of some images, and then changed by
amounts, as images were; what comes back of both gives the ratio.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import amounts, state
from rafmodel.amounts import BLUR, NAMES, NOISE
from rafmodel.recovery import FEW, ROUNDS, SLOPES, Recovery, answered, centre, lines, measured, tame
from rafmodel.state import Reference

LIKELY = 0.1  # s.d. that a response to changes before noise has about that to changes after it, log, before it is known
AT_BEST = 0.032  # share of an s.d. that it is wrong by beyond chance: root mean square of 24 of phantoms' known ones
_FREE = np.arange(len(NAMES)) != NOISE


class _Tried(NamedTuple):
    """Mean images in states of some images, ROUNDS times these, one after another.

    put, seen       (rounds N, states) states that mean images were put in, and what was measured; noise put is 0
    more, change    the same of amounts added to them, and what changed
    misread         (rounds N,) log noise read above what it is
    """

    put: np.ndarray
    seen: np.ndarray
    more: np.ndarray
    change: np.ndarray
    misread: np.ndarray


def before_noise(
    key: Array, reference: Reference, found: Recovery, value: np.ndarray, spread: np.ndarray, group: np.ndarray
) -> Recovery:
    """``found`` with responses to what came before an image's noise, in place of those to what is added after it.

    value, spread  (N, states) states of some images, and s.d. of the amounts added to them
    group          (N,) subgroup of each
    """
    states = _without_errors(found, answered(found, value, group), group)
    tried = _tried(key, reference, found, states, spread)
    which, n_groups = np.tile(group, ROUNDS), len(found.response)
    use = found.identified & _FREE & (np.arange(len(NAMES)) != BLUR)
    ratio, unsure = np.ones_like(found.response), np.zeros_like(found.response)
    for g in range(n_groups):
        own = which == g if (group == g).sum() >= FEW else np.ones(len(which), bool)
        whole, _, of_whole = lines(tried.put[own], tame(tried.seen[own]))
        part, _, of_part = lines(tried.more[own], tame(tried.change[own]))
        whole, part = (np.clip(slope, *SLOPES) for slope in (whole, part))
        variance = np.where(use, of_whole / whole**2 + of_part / part**2, np.inf)
        kept = LIKELY**2 / (LIKELY**2 + variance)  # what hardly varies tells nothing
        ratio[g], unsure[g] = np.exp(kept * np.log(whole / part)), LIKELY * np.sqrt(1 - kept) * (kept > 0)
    each = [tried.misread[which == g] for g in range(n_groups)]
    return found._replace(
        response=found.response * ratio,
        error=found.error / ratio,
        response_error=np.sqrt(found.response_error**2 + unsure**2 + AT_BEST**2),
        misread=np.array([centre(one) if len(one) else 0.0 for one in each]),
    )


def _tried(key: Array, reference: Reference, found: Recovery, states: np.ndarray, spread: np.ndarray) -> _Tried:
    mean, noise = (
        jnp.broadcast_to(reference.template, (len(states), *reference.template.shape)),
        np.exp(states[:, NOISE]),
    )
    rounds = []
    for number in range(ROUNDS):
        keys = jax.random.split(jax.random.fold_in(key, 199 + number), 3)
        image = amounts.add(keys[0], reference.middle, mean, np.where(_FREE, states, noise[:, None]))
        seen = measured(reference, found, image)
        amount = amounts.drawn(keys[1], spread, noise) * _FREE
        after = measured(reference, found, amounts.add(keys[2], reference.middle, image, amount))
        still = state.log_noise(amounts.add(keys[0], reference.middle, mean, states * _FREE))
        misread = _dimmed(states[:, NOISE], seen[:, NOISE], np.asarray(still))
        more = amounts.made(seen, amount, reference.template.shape[0]) * _FREE
        rounds.append(_Tried(states * _FREE, seen, more, after - seen, misread))
    return _Tried(*(np.concatenate(parts) for parts in zip(*rounds, strict=True)))


def _dimmed(made: np.ndarray, seen: np.ndarray, still: np.ndarray) -> np.ndarray:
    """Log noise seen less log noise made (N,), without what images show that have none; 0 where that is most of it."""
    share = -np.expm1(2 * np.minimum(still - seen, 0))
    return np.where(share > 0.5, seen + 0.5 * np.log(np.maximum(share, 0.5)) - made, 0.0)


def _without_errors(found: Recovery, value: np.ndarray, group: np.ndarray) -> np.ndarray:
    """States (N, states) as far from their subgroup's centre as they are without errors; 0 where not identified."""
    known = np.where(found.identified | (np.arange(len(NAMES)) == NOISE), value, 0.0)
    for g in np.unique(group):
        own = group == g
        middle, total = centre(known[own]), np.maximum(tame(known[own]).var(0), 1e-12)
        share = np.sqrt(np.maximum(1 - found.error[g] ** 2 / total, 0))
        known[own] = middle + share * (tame(known[own]) - middle)
    known[:, BLUR] = np.maximum(known[:, BLUR], 0)
    return known
