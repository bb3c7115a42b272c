"""A cohort's own variability by subgroup: the laws that its images' states were drawn from, and how sure they are.

States are measured, scaled by what injection found, and put in relation to each other by taking one subgroup's images to the
others; their laws are those of ``own_laws``.  Artifacts are found by detectors of known sensitivity.
"""

from typing import NamedTuple

import jax
import numpy as np
import xarray as xr
from jax import Array
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from scipy.special import logit

import rafmodel
from rafmodel import cohort as cohorts
from rafmodel import detectors, injection, state
from rafmodel.cohort import Cohort
from rafmodel.detectors import SCORES
from rafmodel.errors import InputError
from rafmodel.imbalance import pixel_prevalence
from rafmodel.own_laws import Calls, lanes, presence_chains, state_chains, tallied, told_by, without_extremes
from rafmodel.recovery import Recovery, answered
from rafmodel.recovery import measured as read
from rafmodel.state import STATES, Reference
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
CALLED = 8  # images with an artifact from which the law of its strength is told
GROWS = 0.7  # correlation of score and injected level below which a strength is not told
CROWDED = 0.5  # share of a subgroup's images called for some artifact above which prevalences are not to be relied on
RHAT = 1.05  # of two chains from which they are said not to agree
MOST = 1500  # images that are measured; a larger cohort is sampled


class Measured(NamedTuple):
    """What was measured of a cohort.

    value       (N, len(QUANTITIES)) states in true units relative to the reference; nan where absent
    error       (subgroups, len(QUANTITIES)) s.d. of one measurement
    doubt       (subgroups, len(QUANTITIES)) standard error of the calibration of a subgroup's mean
    present     (N, len(PRESENCES)) 1 where a detector calls an artifact, or the image is a case
    reference, recovery   what they are relative to, and what the estimators are worth here
    """

    value: np.ndarray
    error: np.ndarray
    doubt: np.ndarray
    present: np.ndarray
    reference: Reference
    recovery: Recovery


def measure(key: Array, cohort: Cohort, code: np.ndarray | None = None, *, like: Measured | None = None) -> Measured:
    """States, strengths and presences of a cohort's images, relative to their own mean or, with ``like``, to another's.

    code  (N,) subgroup of each image, 0, 1, ...; None: one
    Volumes are measured in their middle plane.  Raises InputError where there are too few images.
    """
    if len(cohort.label) < FEWEST:
        raise InputError(f"{cohort.name}: {len(cohort.label)} images; own variability needs {FEWEST}")
    code = np.zeros(len(cohort.label), int) if code is None else code
    images = state.grey_images(cohort.image)
    reference = like.reference if like else state.reference(images)
    recovery = like.recovery if like else injection.recover(key, reference, images, code)
    found = read(reference, recovery, images)
    found = np.where(recovery.identified[None], answered(recovery, found, code) - recovery.misread[code], np.nan)
    score = detectors.scores(reference, images)
    called = score > recovery.detectors.threshold[None]
    share = np.full(len(images), np.nan) if cohort.mask is None else pixel_prevalence(cohort)
    pixel = logit(np.where((share > 0) & (share < 1), share, np.nan))
    strength = np.stack([_strength(i, score[:, i], called[:, i], recovery) for i in range(len(SCORES))], 1)
    value = np.concatenate([found, pixel[:, None], strength], 1)
    exact = np.zeros((len(recovery.error), len(QUANTITIES) - len(STATES)))
    error = np.concatenate([recovery.error, exact], 1)
    present = np.concatenate([called, cohort.label[:, None] == 1], 1).astype(int)
    return Measured(value, error, np.concatenate([recovery.misread_error, exact], 1), present, reference, recovery)


def _strength(which: int, score: np.ndarray, called: np.ndarray, recovery: Recovery) -> np.ndarray:
    """Log strength of an artifact where it was called, read off the mean scores of injected levels; else nan."""
    levels, curve = np.log(CATALOGUE[SCORES[which]].levels), np.maximum.accumulate(recovery.detectors.curve[which])
    return np.where(called, np.interp(score, curve, levels), np.nan)


# ---- the fit


def fit(
    key: Array,
    cohort: Cohort,
    *,
    group: str | None = None,
    like: Measured | None = None,
    warmup: int = 500,
    draws: int = 800,
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
        cohort = cohorts.take(cohort, rows)
        names, code = cohorts.groups(cohort, group)  # the smallest subgroups may be gone
    measured = measure(key_measure, cohort, code, like=like)
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
    certain = np.zeros(len(QUANTITIES) - len(STATES))
    calibrated = measured.error, measured.doubt, np.pad(measured.recovery.response_error, ((0, 0), (0, len(certain))))
    sums, unit_group = lanes(value, calibrated, cohort.patient, code)
    options = {"n_groups": len(names), "warmup": warmup, "draws": draws}
    keys = jax.random.split(key, (2, chains))
    runs = [state_chains(k, tuple(sums[:7]), unit_group, **options) for k in keys[0]]
    laws = {name: np.stack([np.asarray(run[name]) for run in runs]) for name in runs[0]}
    laws["mean"] = laws["mean"] * sums.scale[:, None, None] + sums.centre[:, None, None]
    laws["sd"] = laws["sd"] * sums.scale[:, None, None]
    calls = _calls(measured, cohort.patient, code, len(names))
    shares = np.stack([np.asarray(presence_chains(k, calls, **options))[0] for k in keys[1]])
    found = _dataset(measured, value, cohort, names, code, laws, shares)
    told = {"cohort": cohort.name, "group_attribute": group or "", "size": int(cohort.image.shape[-2])}
    if cohort.image.ndim == 5:
        told["volumes"] = str(cohort.image.shape[1:-1])
    return found.assign_attrs(told, middle=float(measured.reference.middle), rafmodel_version=rafmodel.__version__)


def _calls(measured: Measured, patient: np.ndarray, code: np.ndarray, n_groups: int) -> Calls:
    """What ``presence_law`` is told, with one lane.

    A patient counts once, with the share of its images, for these are not independent.
    """
    _, unit = np.unique([f"{c}\t{p}" for c, p in zip(code, patient, strict=True)], return_inverse=True)
    weight, size = 1 / np.bincount(unit)[unit], len(SCORES)
    pattern, total = tallied(measured.present[:, :size], code, weight, n_groups)
    hits = np.stack([np.bincount(code, weight * p, n_groups) for p in measured.present[:, size:].T])
    return jax.tree.map(lambda x: x[None], told_by(pattern, total, hits, measured.recovery.detectors))


def _dataset(
    measured: Measured,
    value: np.ndarray,
    cohort: Cohort,
    names: list[str],
    code: np.ndarray,
    laws: dict,
    shares: np.ndarray,
) -> xr.Dataset:
    """Draws and what they rest on; laws (chain, quantity, draw, group), shares (chain, draw, presence, group)."""
    seen = np.stack([np.isfinite(value[code == g]).sum(0) for g in range(len(names))], 1)
    why, why_presence = reasons(measured.recovery, cohort.mask is not None, value)
    known = np.array([not reason for reason in why])
    told = np.array([not reason for reason in why_presence])
    by, recovery = ("chain", "draw", "quantity", "group"), measured.recovery
    kept = {name: np.where(known[:, None], np.moveaxis(laws[name], 1, 2), np.nan) for name in ("mean", "sd")}
    shared = np.where(known, np.moveaxis(laws["shared"], 1, 2), np.nan)
    prevalence = np.where(told[:, None], shares, np.nan)
    found: dict[str, tuple] = {name: (by, x) for name, x in kept.items()} | {"shared": (by[:3], shared)}
    found |= {"prevalence": (("chain", "draw", "presence", "group"), prevalence)}
    blank = np.full(len(QUANTITIES) - len(STATES), np.nan)
    for name in ("slope", "correlation", "bias"):
        found[name] = ("quantity",), np.concatenate([getattr(recovery, name), blank])
    found["error"] = ("quantity", "group"), np.where(known[:, None], measured.error.T, np.nan)
    extreme = np.isfinite(measured.value).sum(0) - np.isfinite(value).sum(0)
    patients = np.array([len(set(cohort.patient[code == g].tolist())) for g in range(len(names))])
    found |= {"n_seen": (by[2:], seen), "n_extreme": (("quantity",), extreme), "n_patients": (("group",), patients)}
    found["n_images"] = ("group",), np.bincount(code, minlength=len(names))
    found["sensitivity"] = ("presence",), np.append(recovery.detectors.found / recovery.detectors.tried, 1.0)
    artifact = (measured.present * told)[:, : len(SCORES)].any(1)
    found["called"] = ("group",), np.bincount(code, artifact, len(names)) / np.bincount(code, minlength=len(names))
    coordinates = {
        "quantity": list(QUANTITIES),
        "presence": list(PRESENCES),
        "group": names,
        "unit": ("quantity", list(UNITS.values())),
        "why": ("quantity", why),
        "why_presence": ("presence", why_presence),
    }
    parts = [(name, x[:, :, i]) for x in kept.values() for i, name in enumerate(QUANTITIES) if known[i]]
    parts += [(f"prevalence of {name}", prevalence[:, :, i]) for i, name in enumerate(PRESENCES) if told[i]]
    rhat = [(float(np.max(split_gelman_rubin(x))), name) for name, x in parts]
    ess = [float(np.min(effective_sample_size(x))) for _, x in parts]
    worst = {"max_rhat": max(rhat)[0], "max_rhat_of": max(rhat)[1], "min_ess": min(ess)}
    return xr.Dataset(found, coordinates, worst)


def reasons(recovery: Recovery, masked: bool, value: np.ndarray) -> tuple[list[str], list[str]]:
    """Why each quantity, and each presence, cannot be told; "" where it can.

    masked  whether the cohort has masks
    value   (N, len(QUANTITIES)) as in ``Measured``
    """
    why = [injection.why_not(name, recovery) for name in STATES]
    filled = "" if np.isfinite(value[:, len(STATES)]).any() else "masks are empty"
    why.append(filled if masked else "the cohort has no masks")
    why += [_weak(i, value[:, len(STATES) + 1 + i], recovery) for i in range(len(SCORES))]
    found, tried = recovery.detectors.found, recovery.detectors.tried
    blind = [f"its detector calls {f} of {tried} injected ones" if f < tried / 2 else "" for f in found]
    return why, [*blind, ""]


def _weak(which: int, strength: np.ndarray, recovery: Recovery) -> str:
    """Why the strength of an artifact, (N,) log and nan where it is not, cannot be told; "" where it can."""
    found = strength[np.isfinite(strength)]
    ends = np.log(np.array(CATALOGUE[SCORES[which]].levels)[[0, -1]])
    beyond = int((np.abs(found[:, None] - ends[None]) < 1e-6).any(1).sum())
    if len(found) < CALLED:
        return f"found in {len(found)} images, of {CALLED} needed"
    if 2 * beyond > len(found):
        return f"weaker or stronger than the levels that were injected in {beyond} of {len(found)} images"
    grows = recovery.detectors.grows[which]
    return f"its score hardly grows with it, correlation {grows:.2f}" if grows < GROWS else ""


# ---- in words


def interval(values: np.ndarray) -> str:
    """Mean and 90 % interval, to two digits of the interval's width."""
    low, high = np.quantile(values, [0.05, 0.95])
    if not high > low:
        return f"{float(np.mean(values)):9.3g} [one value]"
    places = int(np.clip(1 - np.floor(np.log10(high - low)), 0, 12))
    return f"{float(np.mean(values)):9.{places}f} [{low:8.{places}f}, {high:8.{places}f}]"


def summary(posterior: xr.Dataset) -> str:
    """Posterior means and 90 % intervals by subgroup, what cannot be told and why, and what has no estimator, as text."""
    groups = [str(g) for g in posterior["group"].values]
    who = ", ".join(f"{g} {n} images of {p} patients" for g, n, p in zip(
        groups, posterior["n_images"].values, posterior["n_patients"].values, strict=True
    ))  # fmt: skip
    space = posterior.attrs.get("volumes")
    rows = [
        f"own variability of {posterior.attrs['cohort']}: {who}",
        *([f"measured in the middle plane of volumes {space}, and met in every plane alike"] if space else []),
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
            f"  {g:14s} mean {interval(one['mean'].sel(group=g).values)}   s.d. {interval(one['sd'].sel(group=g).values)}"
            for g in groups
        ]
    rows.append("\nprevalence")
    for name in posterior["presence"].values:
        one = posterior.sel(presence=name)
        if str(one["why_presence"].item()):
            missing.append((f"prevalence of {name}", str(one["why_presence"].item())))
            continue
        rows += [f"  {name:14s} {g:14s} {interval(one['prevalence'].sel(group=g).values)}" for g in groups]
    rows += [
        f"  {g}: {share:.0%} of images are called for an artifact; detectors take most to be clean: do not rely on this"
        for g, share in zip(groups, posterior["called"].values, strict=True)
        if share > CROWDED
    ]
    rows.append("\ncannot be told from these images")
    rows += [f"  {name}: {why}" for name, why in missing] or ["  (nothing)"]
    rows += [f"  {what}" for what in UNSEEN]
    rows.append("  as a shift: what cannot be told stays as it is; an artifact of unknown strength has level 3 of 5")
    told = posterior.attrs
    rows.append(f"\nlargest R-hat {told['max_rhat']:.3f}, smallest effective sample {told['min_ess']:.0f}")
    if warning := disagreement(posterior):
        rows.append(warning)
    return "\n".join(rows)


def disagreement(posterior: xr.Dataset) -> str:
    """A warning where chains do not agree, R-hat of RHAT or more; else ""."""
    told = posterior.attrs
    if told["max_rhat"] < RHAT:
        return ""
    return f"chains do not agree (R-hat {told['max_rhat']:.2f} for {told['max_rhat_of']}): do not rely on its interval"


def _worth(one: xr.Dataset) -> str:
    """What injection found of an estimator, and how many of its measurements failed."""
    failed = f"; {int(one['n_extreme'])} extreme values left out" if int(one["n_extreme"]) else ""
    if not np.isfinite(float(one["slope"])):
        return failed
    slope, error = float(one["slope"]), float(one["error"].mean())
    return f": {slope:.2f} of a known amount comes back, one measurement errs by {error:.3g}{failed}"


_BLIND = sorted({v.name for f in ("acquisition", "obstruction") for v in FAMILIES[f]} - set(SCORES))
UNSEEN = (
    "noise with a grain of its own: only its part at the scale of a pixel counts as noise, and finest texture counts with it",
    "anatomy against acquisition: a patient who lies askew and a camera that does are one",
    "mirror images, shear, elastic deformation, colour: no estimator",
    f"no detector: {', '.join(_BLIND)}",
)
