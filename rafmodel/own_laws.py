"""Laws of a population from errant measurements: what each subgroup's images vary by, and how often something is present.

Each state is normal within a subgroup; a patient's images share a part of it.  Means and s.d. of subgroups are drawn from a
population of subgroups, so that small ones borrow from the others (Gelman, Hill 2007).  How far subgroups lie apart, in states
and in prevalence, has no mass at 0, for a law that is highest there draws two of them together whatever they are (Chung et al.
2013).  What is measured is a line of what is, plus an error, both known from injection with errors of their own (errors in
variables, Carroll et al. 2006).
"""

from functools import partial
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.infer import MCMC, NUTS, init_to_median

from rafmodel.detectors import FALSE, Worth, codes, decoded

EXTREME = 5.0  # robust s.d. from its subgroup's median from which a state counts as a failed measurement
TOGETHER = 3  # artifacts that an image has at most
DOUBT = 100.0  # images with independent calls beside those injected; 50 to 300 foretell most left-out ones best
APART = (2.0, 2.0)  # Gamma law of how far subgroups lie apart, in the unit that their middle has
_PATTERNS = 32  # patterns of calls are padded to a multiple of this
_PAD = 256  # patients are padded to a multiple of this, so that few shapes are compiled
_WIDE = 2.5  # s.d. of the middle of subgroups' prevalences, logit


class Lanes(NamedTuple):
    """Sums of each quantity over the images of a patient in a subgroup; leading axis quantity, then patients (padded).

    count, mean, square   images, their mean, and squared distances from it, in units of ``scale`` from ``centre``
    error                 (quantity, subgroup) s.d. of one measurement in that unit
    doubt                 (quantity, subgroup) standard error of the calibration of a subgroup's mean, in that unit
    slope_error           (quantity, subgroup) standard error of the measurement's slope, as a share of it
    wide                  (quantity,) s.d. of all images, subgroups apart, in that unit
    centre, scale         (quantity,) median of all images; s.d. within subgroups
    """

    count: Array
    mean: Array
    square: Array
    error: Array
    doubt: Array
    slope_error: Array
    wide: Array
    centre: np.ndarray
    scale: np.ndarray


def lanes(
    value: np.ndarray, how: tuple[np.ndarray, np.ndarray, np.ndarray], patient: np.ndarray, code: np.ndarray
) -> tuple[Lanes, Array]:
    """Sums for the model, and the subgroup of each of their patients (padded).

    value  (N, quantity), nan where absent
    how    error, doubt and slope_error (subgroup, quantity), of ``Lanes``, in the unit of the values
    """
    _, unit = np.unique([f"{c}\t{p}" for c, p in zip(code, patient, strict=True)], return_inverse=True)
    n_units = -(-(unit.max() + 1) // _PAD) * _PAD
    group = np.zeros(n_units, int)
    group[unit] = code
    known = np.isfinite(value)
    none = ~known.any(0)
    centre = np.where(none, 0.0, np.nan_to_num(np.nanmedian(np.where(none, 0.0, value), 0)))
    scale, wide = _within(value, code), np.where(none, 1.0, np.nanstd(np.where(none, 0.0, value), 0))
    scale = np.where(scale > 0, scale, np.where(wide > 0, wide, 1.0))
    z = np.where(known, (value - centre) / scale, 0.0)
    count, total = (np.zeros((n_units, value.shape[1])) for _ in range(2))
    np.add.at(count, unit, known)
    np.add.at(total, unit, z)
    mean = total / np.maximum(count, 1)
    square = np.zeros_like(count)
    np.add.at(square, unit, known * (z - mean[unit]) ** 2)
    sums = [jnp.asarray(x.T) for x in (count, mean, square)]
    error, doubt = (jnp.asarray((x / scale).T) for x in how[:2])
    return Lanes(
        sums[0],
        sums[1],
        sums[2],
        error,
        doubt,
        jnp.asarray(how[2].T),
        jnp.asarray(np.maximum(wide / scale, 1.0)),
        centre,
        scale,
    ), jnp.asarray(group)


def _within(value: np.ndarray, code: np.ndarray) -> np.ndarray:
    """S.d. of values (N, quantity) about the means of their subgroups; 0 where there are none."""
    square, count = np.zeros((2, value.shape[1]))
    for g in np.unique(code):
        own = value[code == g]
        seen = np.isfinite(own)
        mean = np.where(seen, own, 0.0).sum(0) / np.maximum(seen.sum(0), 1)
        square += (np.where(seen, own - mean, 0.0) ** 2).sum(0)
        count += seen.sum(0)
    return np.sqrt(square / np.maximum(count, 1))


def without_extremes(value: np.ndarray, code: np.ndarray, n_groups: int) -> np.ndarray:
    """Values (N, quantity) with nan for those EXTREME robust s.d. from their subgroup's median: failed measurements."""
    kept = value.copy()
    for g in range(n_groups):
        own = value[code == g]
        seen = np.isfinite(own).any(0)
        low, middle, high = np.nanquantile(np.where(seen, own, 0.0), [0.25, 0.5, 0.75], axis=0)
        far = np.abs(own - middle) > EXTREME * np.maximum((high - low) / 1.349, 1e-12)
        kept[code == g] = np.where(far, np.nan, own)
    return kept


# ---- the model


def _drawn(name: str, law: dist.Distribution) -> Array:
    return jnp.asarray(numpyro.sample(name, law))


def state_law(
    count: Array,
    mean: Array,
    square: Array,
    error: Array,
    doubt: Array,
    slope_error: Array,
    wide: Array,
    group: Array,
    n_groups: int,
) -> None:
    """One quantity: normal within each subgroup, with patients, subgroups pooled; unit scale.  The patients are integrated out.

    count, mean, square, group   (patients,)
    error, doubt, slope_error    (subgroups,) how it is measured, and wide (), see ``Lanes``
    """
    middle, typical = wide * _drawn("middle", dist.Normal(0, 1)), _drawn("log_sd", dist.Normal(0, 1))
    between, uneven = wide * _drawn("between", dist.Gamma(*APART)), _drawn("uneven", dist.HalfNormal(0.5))
    with numpyro.plate("groups", n_groups):
        raw = _drawn("raw", dist.Normal(0, 1))
        sds = jnp.exp(typical + uneven * _drawn("sd_z", dist.Normal(0, 1)))
        means = wide * raw
        seen = means + doubt * _drawn("doubt_z", dist.Normal(0, 1))
        slope = jnp.exp(slope_error * _drawn("slope_z", dist.Normal(0, 1)))
    shared = _drawn("shared", dist.Uniform(0, 1))  # share of the variance that a patient's images have in common
    numpyro.deterministic("mean", means)
    numpyro.deterministic("sd", sds)
    # centred, for images tell a mean far better than other subgroups do; the density of ``raw`` itself is taken back
    pooled = -0.5 * ((means - middle) / (between + 1e-3)) ** 2 - jnp.log(between + 1e-3)
    numpyro.factor("pooled", jnp.sum(pooled + 0.5 * raw**2))
    variance = (slope * sds)[group] ** 2
    each = (1 - shared) * variance + error[group] ** 2 + 1e-8
    whole = each + count * shared * variance
    apart = count * (mean - seen[group]) ** 2 / whole + square / each
    log = jnp.log(whole) + (count - 1) * jnp.log(each)
    numpyro.factor("seen", -0.5 * jnp.sum(jnp.where(count > 0, apart + log, 0.0)))


def _log_beta(x: Array, a: Array | float, b: Array | float) -> Array:
    """Log density of Beta(a, b) at x, without its constant."""
    return (a - 1) * jnp.log(x) + (b - 1) * jnp.log1p(-x)


class Calls(NamedTuple):
    """What detectors call, and what they are worth; a leading axis lane where there are several.

    pattern        (patterns, detectors) 1 where a detector calls: what is called together is told together
    weight         (patterns, subgroups) how many patients' images have this pattern
    hits           (classes, subgroups) patients' images of a class, which is there where it is called
    found, tried   (detectors,) of injected artifacts
    false          (detectors,) expected share of clean images that are called
    crossed        (detectors, detectors) share of images with j alone that detector i calls
    likely         (patterns, sets) chance of a pattern where that set was injected, else nan: see ``seen_together``
    """

    pattern: Array
    weight: Array
    hits: Array
    found: Array
    tried: Array
    false: Array
    crossed: Array
    likely: Array


def told_by(pattern: np.ndarray, weight: np.ndarray, hits: np.ndarray, worth: Worth) -> Calls:
    """What ``presence_law`` is told, from patterns, weights and hits of ``Calls`` and what the detectors are worth."""
    crossed = decoded(worth.alone, pattern.shape[1]).mean(1).T
    tried = np.full(len(crossed), worth.tried)
    told = pattern, weight, hits, worth.found, tried, worth.false, crossed, seen_together(pattern, worth)
    return Calls(*(jnp.asarray(x, float) for x in told))


def seen_together(pattern: np.ndarray, worth: Worth) -> np.ndarray:
    """Chance of each pattern (patterns, detectors) in images with one or two artifacts, as injected ones show it and DOUBT more
    that have each call as often as these, by itself.  (patterns, sets) as in ``_sets``; nan for sets that were not injected.

    Of one artifact: among those images which its own detector calls, or does not call, as in the pattern.
    """
    n = pattern.shape[1]
    likely = np.full((len(pattern), len(_sets(n))), np.nan)
    for j, seen in enumerate(worth.alone):
        others = np.arange(n) != j
        for call in (0, 1):
            rows = pattern[:, j] == call
            likely[rows, 1 + j] = _share(pattern[rows], seen[seen >> j & 1 == call], seen, others)
    for k, seen in enumerate(worth.paired, 1 + n):
        likely[:, k] = _share(pattern, seen, seen, np.full(n, True))
    return likely


def _share(pattern: np.ndarray, seen: np.ndarray, whole: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Chance of each pattern (patterns, detectors) in images like some injected ones: shares of these, smoothed.

    seen   (M,) codes of these images
    whole  (all,) codes of all with that artifact, of which these are a part; DOUBT is divided in proportion
    which  (detectors,) whose calls count; the others' are given
    """
    n = pattern.shape[1]
    often = (decoded(seen, n).sum(0) + decoded(whole, n).mean(0)) / (len(seen) + 1)
    often = np.clip(often, FALSE[0], 1 - FALSE[0])
    by_itself = np.where(pattern == 1, often, 1 - often)[:, which].prod(1)
    more = DOUBT * max(len(seen), 1) / len(whole)
    same = (seen == codes(pattern.astype(int))[:, None]).sum(1)
    return (same + more * by_itself) / (len(seen) + more)


def tallied(called: np.ndarray, code: np.ndarray, weight: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows of ``called`` (N, detectors), and how much weight (N,) of each subgroup has each; padded."""
    rows, which = np.unique(called, axis=0, return_inverse=True)
    pattern, total = (np.zeros((-(-len(rows) // _PATTERNS) * _PATTERNS, n)) for n in (called.shape[1], n_groups))
    pattern[: len(rows)] = rows
    np.add.at(total, (which.reshape(-1), code), weight)
    return pattern, total


def presence_law(calls: Calls, n_groups: int) -> None:
    """Prevalence of artifacts and classes by subgroup, from what their detectors call; subgroups pooled.

    An image has at most TOGETHER artifacts, each by itself; what it has is summed over.  Given one or two artifacts calls are as
    those of injected images; given three they are independent.  An artifact whose detector misses most of those injected could
    explain any call, and is taken not to be there.
    """
    size, n = len(calls.found), len(calls.found) + len(calls.hits)
    with numpyro.plate("presences", n):
        middle = jnp.where(jnp.arange(n) < size, -3.0, 0.0) + _WIDE * _drawn("middle", dist.Normal(0, 1))
        between = _WIDE * _drawn("between", dist.Gamma(*APART))
    with numpyro.plate("detectors", size):
        sensitive = _drawn("sensitivity", dist.Uniform(0, 1))
        false = _drawn("false_alarms", dist.Uniform(0, 1))
    known = _log_beta(sensitive, calls.found + 0.5, calls.tried - calls.found + 0.5)
    numpyro.factor("known", jnp.sum(known + _log_beta(false, 1.0, 1 / calls.false - 1)))
    z = _drawn("z", dist.Normal(0, 1).expand([n, n_groups]).to_event(2))
    share = jax.nn.sigmoid(middle[:, None] + between[:, None] * z)
    numpyro.deterministic("share", share)
    there, absent = (jnp.log(jnp.clip(x, 1e-6)) for x in (share, 1 - share))
    sets = jnp.asarray(_sets(size))
    blind = calls.found < calls.tried / 2
    prior = sets @ there[:size] + (1 - sets) @ absent[:size] - 1e3 * (sets @ blind)[:, None]  # (sets, subgroups)
    sets_off = jnp.where(jnp.eye(size, dtype=bool), sensitive[:, None], calls.crossed)
    missed, sound = jnp.log(jnp.clip(1 - sets_off, 1e-6)), jnp.log1p(-false)
    quiet = sets @ missed.T + sound[None]  # (sets, detectors) log chance of no call
    loud = jnp.log(jnp.clip(-jnp.expm1(quiet), 1e-6))
    silent = 1 - calls.pattern
    apart = calls.pattern @ loud.T + silent @ quiet.T  # (patterns, sets), calls being independent
    one = sets * (sets.sum(1, keepdims=True) == 1)
    itself = calls.pattern @ (one * jnp.log(sensitive)[None]).T + silent @ (one * jnp.log1p(-sensitive)[None]).T
    seen = jnp.where(jnp.isnan(calls.likely), apart, jnp.log(calls.likely) + itself)
    most = jax.lax.stop_gradient(seen.max(1, keepdims=True))
    whole = most + jnp.log(jnp.exp(seen - most) @ jax.nn.softmax(prior, axis=0))  # (patterns, subgroups)
    classes = calls.hits * there[size:] + (calls.weight.sum(0)[None] - calls.hits) * absent[size:]
    numpyro.factor("seen", jnp.sum(calls.weight * whole) + jnp.sum(classes))


def _sets(n: int) -> np.ndarray:
    """Every choice of at most TOGETHER of n things, (choices, n) of 0 and 1."""
    some = [set_ for k in range(TOGETHER + 1) for set_ in combinations(range(n), k)]
    return np.array([[float(i in set_) for i in range(n)] for set_ in some])


@partial(jax.jit, static_argnames=("n_groups", "warmup", "draws"))
def state_chains(key: Array, sums: tuple[Array, ...], group: Array, *, n_groups: int, warmup: int, draws: int) -> dict:
    """Draws (lane, draw, ...) of every quantity's law, by the no-U-turn sampler; sums: fields of ``Lanes``."""

    def one(key: Array, *lane: Array) -> dict[str, Array]:
        run = _sampler(state_law, warmup, draws)
        run.run(key, *lane, group, n_groups)
        return run.get_samples()

    found = jax.vmap(one)(jax.random.split(key, len(sums[0])), *sums)
    return {name: found[name] for name in ("mean", "sd", "shared")}


@partial(jax.jit, static_argnames=("n_groups", "warmup", "draws"))
def presence_chains(key: Array, calls: Calls, *, n_groups: int, warmup: int, draws: int) -> Array:
    """Draws (lane, draw, presence, group) of every prevalence, artifacts and then classes; calls with a leading axis lane."""

    def one(lane: tuple[Array, Calls]) -> Array:
        run = _sampler(presence_law, warmup, draws)
        run.run(*lane, n_groups)
        return run.get_samples()["share"]

    # one after another: together each would wait for the longest of all trajectories
    return jax.lax.map(one, (jax.random.split(key, len(calls.found)), calls))


def _sampler(law, warmup: int, draws: int) -> MCMC:
    # a start at the prior's median: from one drawn at random some chains never come back
    kernel = NUTS(law, target_accept_prob=0.9, max_tree_depth=6, init_strategy=init_to_median)
    return MCMC(kernel, num_warmup=warmup, num_samples=draws, progress_bar=False)
