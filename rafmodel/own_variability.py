"""A cohort's own variability by subgroup: the laws that its images' states were drawn from, and how sure they are.

Each state is normal within a subgroup; a patient's images share a part of it.  Means and s.d. of subgroups are drawn from a
population of subgroups, so that small ones borrow from the others (Gelman, Hill 2007).  Estimators err by what injection found,
and that is taken out of the s.d.  Artifacts, found by detectors of known sensitivity, and classes have prevalences pooled alike.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import xarray as xr
from jax import Array
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import MCMC, NUTS, init_to_median
from scipy.special import logit

import rafmodel
from rafmodel import cohort as cohorts
from rafmodel import injection, state
from rafmodel.cohort import Cohort
from rafmodel.errors import InputError
from rafmodel.imbalance import pixel_prevalence
from rafmodel.injection import Recovery
from rafmodel.state import SCORES, STATES, Reference
from rafmodel.variability import CATALOGUE, FAMILIES

STRENGTHS = tuple(f"{name}_strength" for name in SCORES)
UNITS = (
    STATES
    | {"structure": "logit share of pixels"}
    | {s: f"log {CATALOGUE[a].unit}" for s, a in zip(STRENGTHS, SCORES, strict=True)}
)
QUANTITIES = tuple(UNITS)
PRESENCES = (*SCORES, "case")
FEWEST = 24  # images that a fit needs
EXTREME = 5.0  # robust s.d. from its subgroup's median from which a state counts as a failed measurement
MOST = 1500  # images that are measured; a larger cohort is sampled
_PAD = 256  # patients are padded to a multiple of this, so that few shapes are compiled
_FALSE = (1.0, 99.0)  # Beta prior of a detector's false alarms; assumed, for no image is known to be clean


class Measured(NamedTuple):
    """What was measured of a cohort.

    value       (N, len(QUANTITIES)) states in true units relative to the reference; nan where absent
    error       (len(QUANTITIES),) s.d. of one measurement
    present     (N, len(PRESENCES)) 1 where a detector calls an artifact, or the image is a case
    reference, recovery   what they are relative to, and what the estimators are worth here
    """

    value: np.ndarray
    error: np.ndarray
    present: np.ndarray
    reference: Reference
    recovery: Recovery


def measure(key: Array, cohort: Cohort, *, like: Measured | None = None) -> Measured:
    """States, strengths and presences of a cohort's images, relative to their own mean or, with ``like``, to another's.

    Raises InputError where there are too few images.
    """
    if len(cohort.label) < FEWEST:
        raise InputError(f"{cohort.name}: {len(cohort.label)} images; own variability needs {FEWEST}")
    images = state.grey_images(cohort.image)
    reference = like.reference if like else state.reference(images)
    recovery = like.recovery if like else injection.recover(key, reference, images)
    found = np.where(recovery.identified[None], state.states(reference, images) / recovery.slope[None], np.nan)
    score = state.scores(reference, images)
    called = score > recovery.threshold[None]
    share = np.full(len(images), np.nan) if cohort.mask is None else pixel_prevalence(cohort)
    pixel = logit(np.where((share > 0) & (share < 1), share, np.nan))
    strength = np.stack([_strength(i, score[:, i], called[:, i], recovery) for i in range(len(SCORES))], 1)
    value = np.concatenate([found, pixel[:, None], strength], 1)
    error = np.concatenate([recovery.error, np.zeros(1 + len(SCORES))])
    present = np.concatenate([called, cohort.label[:, None] == 1], 1).astype(int)
    return Measured(value, error, present, reference, recovery)


def _strength(which: int, score: np.ndarray, called: np.ndarray, recovery: Recovery) -> np.ndarray:
    """Log strength of an artifact where it was called, read off the mean scores of injected levels; else nan."""
    levels, curve = np.log(CATALOGUE[SCORES[which]].levels), np.maximum.accumulate(recovery.curve[which])
    return np.where(called, np.interp(score, curve, levels), np.nan)


# ---- what the laws are told


class Lanes(NamedTuple):
    """Sums of each quantity over the images of a patient in a subgroup; leading axis quantity, then patients (padded).

    count, mean, square   images, their mean, and squared distances from it, in units of ``scale`` from ``centre``
    error                 (quantity,) s.d. of one measurement in that unit
    centre, scale         (quantity,)
    """

    count: Array
    mean: Array
    square: Array
    error: Array
    centre: np.ndarray
    scale: np.ndarray


def lanes(value: np.ndarray, error: np.ndarray, patient: np.ndarray, code: np.ndarray) -> tuple[Lanes, Array]:
    """Sums for the model, and the subgroup of each of their patients (padded); value (N, quantity), nan where absent."""
    _, unit = np.unique([f"{c}\t{p}" for c, p in zip(code, patient, strict=True)], return_inverse=True)
    n_units = -(-(unit.max() + 1) // _PAD) * _PAD
    group = np.zeros(n_units, int)
    group[unit] = code
    known = np.isfinite(value)
    none = ~known.any(0)
    centre = np.where(none, 0.0, np.nan_to_num(np.nanmedian(np.where(none, 0.0, value), 0)))
    scale = np.where(none, 1.0, np.nanstd(np.where(none, 0.0, value), 0))
    scale = np.where(scale > 0, scale, 1.0)
    z = np.where(known, (value - centre) / scale, 0.0)
    count, total = (np.zeros((n_units, value.shape[1])) for _ in range(2))
    np.add.at(count, unit, known)
    np.add.at(total, unit, z)
    mean = total / np.maximum(count, 1)
    square = np.zeros_like(count)
    np.add.at(square, unit, known * (z - mean[unit]) ** 2)
    sums = [jnp.asarray(x.T) for x in (count, mean, square)]
    return Lanes(sums[0], sums[1], sums[2], jnp.asarray(error / scale), centre, scale), jnp.asarray(group)


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


def state_law(count: Array, mean: Array, square: Array, error: Array, group: Array, n_groups: int) -> None:
    """One quantity: normal within each subgroup, with patients, subgroups pooled; unit scale.  The patients are integrated out.

    count, mean, square, group (patients,)
    """
    middle, typical = _drawn("middle", dist.Normal(0, 1)), _drawn("log_sd", dist.Normal(0, 1))
    between, uneven = _drawn("between", dist.HalfNormal(1.0)), _drawn("uneven", dist.HalfNormal(0.5))
    with numpyro.plate("groups", n_groups):
        means = middle + between * _drawn("mean_z", dist.Normal(0, 1))
        sds = jnp.exp(typical + uneven * _drawn("sd_z", dist.Normal(0, 1)))
    shared = _drawn("shared", dist.Uniform(0, 1))  # share of the variance that a patient's images have in common
    numpyro.deterministic("mean", means)
    numpyro.deterministic("sd", sds)
    each = (1 - shared) * sds[group] ** 2 + error**2 + 1e-8
    whole = each + count * shared * sds[group] ** 2
    apart = count * (mean - means[group]) ** 2 / whole + square / each
    log = jnp.log(whole) + (count - 1) * jnp.log(each)
    numpyro.factor("seen", -0.5 * jnp.sum(jnp.where(count > 0, apart + log, 0.0)))


def presence_law(hits: Array, tries: Array, found: Array, tried: Array, exact: Array, n_groups: int) -> None:
    """One artifact or class: hits of tries (group,); a detector found of tried injected ones, or is exact."""
    middle = _drawn("middle", dist.Normal(jnp.where(exact > 0, 0.0, -3.0), 1.5))
    between = _drawn("between", dist.HalfNormal(1.0))
    with numpyro.plate("groups", n_groups):
        share = jax.nn.sigmoid(middle + between * _drawn("z", dist.Normal(0, 1)))
    sensitive = _drawn("sensitivity", dist.Beta(found + 0.5, tried - found + 0.5))
    false = _drawn("false_alarms", dist.Beta(*_FALSE))
    numpyro.deterministic("share", share)
    called = jnp.where(exact > 0, share, share * sensitive + (1 - share) * false)
    called = jnp.clip(called, 1e-6, 1 - 1e-6)
    numpyro.factor("seen", jnp.sum(hits * jnp.log(called) + (tries - hits) * jnp.log1p(-called)))


@partial(jax.jit, static_argnames=("n_groups", "warmup", "draws"))
def state_chains(key: Array, sums: tuple[Array, ...], group: Array, *, n_groups: int, warmup: int, draws: int) -> dict:
    """Draws (lane, draw, ...) of every quantity's law, by the no-U-turn sampler; sums with leading axis lane."""

    def one(key: Array, count: Array, mean: Array, square: Array, error: Array) -> dict[str, Array]:
        run = _sampler(state_law, warmup, draws)
        run.run(key, count, mean, square, error, group, n_groups)
        return run.get_samples()

    found = jax.vmap(one)(jax.random.split(key, len(sums[0])), *sums)
    return {name: found[name] for name in ("mean", "sd", "shared", "between")}


@partial(jax.jit, static_argnames=("n_groups", "warmup", "draws"))
def presence_chains(key: Array, counts: tuple[Array, ...], *, n_groups: int, warmup: int, draws: int) -> Array:
    """Draws (lane, draw, group) of every prevalence; counts with leading axis lane."""

    def one(key: Array, *counts: Array) -> Array:
        run = _sampler(presence_law, warmup, draws)
        run.run(key, *counts, n_groups)
        return run.get_samples()["share"]

    return jax.vmap(one)(jax.random.split(key, len(counts[0])), *counts)


def _sampler(law, warmup: int, draws: int) -> MCMC:
    # a start at the prior's median: from one drawn at random some chains never come back
    kernel = NUTS(law, target_accept_prob=0.9, max_tree_depth=6, init_strategy=init_to_median)
    return MCMC(kernel, num_warmup=warmup, num_samples=draws, progress_bar=False)


# ---- the fit


def fit(
    key: Array,
    cohort: Cohort,
    *,
    group: str | None = None,
    like: Measured | None = None,
    warmup: int = 400,
    draws: int = 400,
    chains: int = 2,
) -> xr.Dataset:
    """Posterior of a cohort's own variability, dims chain, draw, quantity or presence, group.

    group  attribute that names the subgroups; None: everyone is one
    like   measurements of another cohort, to whose mean the states are relative; None: to their own
    What is not identified is nan, and ``why`` says why.  Raises InputError for an unknown attribute or too few images.
    """
    names, code = cohorts.groups(cohort, group)
    key_pick, key_measure, key_chain = jax.random.split(key, 3)
    if len(cohort.label) > MOST:
        rows = np.sort(np.asarray(jax.random.permutation(key_pick, len(cohort.label)))[:MOST])
        cohort, code = cohorts.take(cohort, rows), code[rows]
    measured = measure(key_measure, cohort, like=like)
    return posterior(key_chain, measured, cohort, names or ["all"], code, (group, warmup, draws, chains))


def posterior(
    key: Array,
    measured: Measured,
    cohort: Cohort,
    names: list[str],
    code: np.ndarray,
    how: tuple[str | None, int, int, int],
) -> xr.Dataset:
    """The posterior of ``fit`` from measurements; how: attribute, warm-up, draws, chains."""
    group, warmup, draws, chains = how
    value = without_extremes(measured.value, code, len(names))
    sums, unit_group = lanes(value, measured.error, cohort.patient, code)
    options = {"n_groups": len(names), "warmup": warmup, "draws": draws}
    keys = jax.random.split(key, (2, chains))
    runs = [state_chains(k, tuple(sums[:4]), unit_group, **options) for k in keys[0]]
    laws = {name: np.stack([np.asarray(run[name]) for run in runs]) for name in runs[0]}
    laws["mean"] = laws["mean"] * sums.scale[:, None, None] + sums.centre[:, None, None]
    laws["sd"] = laws["sd"] * sums.scale[:, None, None]
    counts = _counted(measured, cohort.patient, code, len(names))
    shares = np.stack([np.asarray(presence_chains(k, counts, **options)) for k in keys[1]])
    found = _dataset(measured, value, cohort, names, code, laws, shares)
    told = {"cohort": cohort.name, "group_attribute": group or "", "size": int(cohort.image.shape[1])}
    return found.assign_attrs(told, middle=float(measured.reference.middle), rafmodel_version=rafmodel.__version__)


def _counted(measured: Measured, patient: np.ndarray, code: np.ndarray, n_groups: int) -> tuple[Array, ...]:
    """Hits and tries (presence, group), found and tried (presence,), and whether it is exact.

    A patient counts once, with the share of its images, for these are not independent.
    """
    _, unit = np.unique([f"{c}\t{p}" for c, p in zip(code, patient, strict=True)], return_inverse=True)
    weight = 1 / np.bincount(unit)[unit]
    hits = np.stack([np.bincount(code, weight * p, n_groups) for p in measured.present.T])
    tries = np.broadcast_to(np.bincount(code, weight, n_groups), hits.shape)
    found = np.append(measured.recovery.found, 1.0)
    tried = np.append(measured.recovery.tried, 1.0)
    exact = np.append(np.zeros(len(SCORES)), 1.0)
    return tuple(jnp.asarray(x, float) for x in (hits, tries, found, tried, exact))


def _dataset(
    measured: Measured,
    value: np.ndarray,
    cohort: Cohort,
    names: list[str],
    code: np.ndarray,
    laws: dict,
    shares: np.ndarray,
) -> xr.Dataset:
    """Draws and what they rest on; laws (chain, quantity, draw, group), shares (chain, presence, draw, group)."""
    seen = np.stack([np.isfinite(value[code == g]).sum(0) for g in range(len(names))], 1)
    why, why_presence = _reasons(measured.recovery, cohort, seen)
    known = np.array([not reason for reason in why])
    told = np.array([not reason for reason in why_presence])
    by, recovery = ("chain", "draw", "quantity", "group"), measured.recovery
    kept = {name: np.where(known[:, None], np.moveaxis(laws[name], 1, 2), np.nan) for name in ("mean", "sd")}
    shared = np.where(known, np.moveaxis(laws["shared"], 1, 2), np.nan)
    prevalence = np.where(told[:, None], np.moveaxis(shares, 1, 2), np.nan)
    found: dict[str, tuple] = {name: (by, x) for name, x in kept.items()} | {"shared": (by[:3], shared)}
    found |= {"prevalence": (("chain", "draw", "presence", "group"), prevalence)}
    blank = np.full(len(QUANTITIES) - len(STATES), np.nan)
    for name in ("slope", "correlation", "bias", "error"):
        found[name] = ("quantity",), np.concatenate([getattr(recovery, name), blank])
    extreme = np.isfinite(measured.value).sum(0) - np.isfinite(value).sum(0)
    patients = np.array([len(set(cohort.patient[code == g].tolist())) for g in range(len(names))])
    found |= {"n_seen": (by[2:], seen), "n_extreme": (("quantity",), extreme), "n_patients": (("group",), patients)}
    found["n_images"] = ("group",), np.bincount(code, minlength=len(names))
    found["sensitivity"] = ("presence",), np.append(recovery.found / recovery.tried, 1.0)
    coordinates = {
        "quantity": list(QUANTITIES),
        "presence": list(PRESENCES),
        "group": names,
        "unit": ("quantity", list(UNITS.values())),
        "why": ("quantity", why),
        "why_presence": ("presence", why_presence),
    }
    known_draws = [x[:, :, i] for x in kept.values() for i in np.flatnonzero(known)]
    worst = {
        "max_rhat": max((float(np.max(split_gelman_rubin(x))) for x in known_draws), default=np.nan),
        "min_ess": min((float(np.min(effective_sample_size(x))) for x in known_draws), default=np.nan),
    }
    return xr.Dataset(found, coordinates, worst)


def _reasons(recovery: Recovery, cohort: Cohort, seen: np.ndarray) -> tuple[list[str], list[str]]:
    """Why each quantity, and each presence, cannot be told; "" where it can.  seen (quantity, group)"""
    why = [injection.why_not(name, recovery) for name in STATES]
    why.append(
        "the cohort has no masks" if cohort.mask is None else "" if seen[len(STATES)].sum() else "masks are empty"
    )
    few = seen[-len(SCORES) :].sum(1) < 2
    why += [f"found in {n} images" if no else "" for no, n in zip(few, seen[-len(SCORES) :].sum(1), strict=True)]
    pairs = zip(recovery.found, recovery.tried, strict=True)
    blind = [f"its detector calls {f} of {t} injected ones" if f < t / 2 else "" for f, t in pairs]
    return why, [*blind, ""]


# ---- in words


def _interval(values: xr.DataArray) -> str:
    low, high = np.quantile(values.values, [0.05, 0.95])
    return f"{float(values.mean()):9.4f} [{low:8.4f}, {high:8.4f}]"


def summary(posterior: xr.Dataset) -> str:
    """Posterior means and 90 % intervals by subgroup, what cannot be told and why, and what has no estimator, as text."""
    groups = [str(g) for g in posterior["group"].values]
    who = ", ".join(f"{g} {n} images of {p} patients" for g, n, p in zip(
        groups, posterior["n_images"].values, posterior["n_patients"].values, strict=True
    ))  # fmt: skip
    rows = [
        f"own variability of {posterior.attrs['cohort']}: {who}",
        "means are relative to the mean of all images; mean or s.d., 90 % interval",
    ]
    missing = []
    for name in posterior["quantity"].values:
        one = posterior.sel(quantity=name)
        if str(one["why"].item()):
            missing.append((str(name), str(one["why"].item())))
            continue
        rows.append(f"\n{name} ({one['unit'].item()})" + _worth(one))
        rows += [
            f"  {g:14s} mean {_interval(one['mean'].sel(group=g))}   s.d. {_interval(one['sd'].sel(group=g))}"
            for g in groups
        ]
    rows.append("\nprevalence")
    for name in posterior["presence"].values:
        one = posterior.sel(presence=name)
        if str(one["why_presence"].item()):
            missing.append((f"prevalence of {name}", str(one["why_presence"].item())))
            continue
        rows += [f"  {name:14s} {g:14s} {_interval(one['prevalence'].sel(group=g))}" for g in groups]
    rows.append("\ncannot be told from these images")
    rows += [f"  {name}: {why}" for name, why in missing] or ["  (nothing)"]
    rows += [f"  {what}" for what in UNSEEN]
    rows.append(
        f"\nlargest R-hat {posterior.attrs['max_rhat']:.3f}, smallest effective sample {posterior.attrs['min_ess']:.0f}"
    )
    return "\n".join(rows)


def _worth(one: xr.Dataset) -> str:
    """What injection found of an estimator, and how many of its measurements failed."""
    failed = f"; {int(one['n_extreme'])} extreme values left out" if int(one["n_extreme"]) else ""
    if not np.isfinite(float(one["slope"])):
        return failed
    return f": {float(one['slope']):.2f} of a known amount comes back, one measurement errs by {float(one['error']):.3g}{failed}"


_BLIND = sorted({v.name for f in ("acquisition", "obstruction") for v in FAMILIES[f]} - set(SCORES))
UNSEEN = (
    "noise with a grain of its own: only its part at the scale of a pixel counts as noise, and finest texture counts with it",
    "anatomy against acquisition: a patient who lies askew and a camera that does are one",
    "mirror images, shear, elastic deformation, colour: no estimator",
    f"no detector: {', '.join(_BLIND)}",
)
