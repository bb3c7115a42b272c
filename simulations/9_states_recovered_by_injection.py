"""Is every image's state recovered when known amounts are added, and do the intervals of a cohort's own variability hold?

    python simulations/9_states_recovered_by_injection.py --replicates 100

On each cohort, volumes in their middle plane, known gains, gammas, turns, moves, sizes, noises, blurs and fields are added, all
at once, to up to 256 images, and artifacts one at a time; the table holds slope, correlation and error of one measurement.
Then 100 replicates of two subgroups are made from one phantom image by known laws, measured and fitted: the share of 90 %
intervals that hold the truth, where the state counts as identified.  Resumes where it stopped, replicate by replicate; writes
STATES.md and states.json.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from scipy.stats import beta, binom, chi2, ttest_ind

from rafmodel import cohort as cohorts
from rafmodel import detectors, injection, own_laws, own_variability, state
from rafmodel.cohort import Cohort
from rafmodel.detectors import SCORES
from rafmodel.errors import InputError
from rafmodel.files import atomically
from rafmodel.phantoms import named, phantom
from rafmodel.state import STATES, Reference
from rafmodel.variability import CATALOGUE, alter, fitted
from rafmodel.variability.fitted import Difference
from rafmodel.variability.intensity import _legendre
from rafmodel.variability.law import Variability, grid
from rafmodel.variability.resolution import gaussian_blur

SYNTHETIC = ("phantom", "cardiac-ultrasound", "lung-airways")
COHORTS = (
    *SYNTHETIC,
    *("pneumoniamnist", "breastmnist", "nih_cxr1000", "sunnybrook_cmr"),
    *("busi_ultrasound", "nuclei_dsb2018", "retina_vessels"),
    *("adrenalmnist3d", "msd_hippocampus3d"),  # volumes, in their middle plane
)
SIZE = 32
EACH = 80  # images of each of two subgroups in a replicate
NAMES = tuple(STATES)
CODE = np.repeat([0, 1], EACH)
INTERVAL = (0.05, 0.95)
MIDDLE = -1.6  # grey value, log, that gamma leaves where it is

# the known laws: offset and spread of each state, in subgroup A and in B
LAWS = {
    "gain": ((0.0, 0.08), (-0.25, 0.15)),
    "gamma": ((0.0, 0.1), (0.2, 0.15)),
    "rotation": ((0.0, 4.0), (6.0, 8.0)),
    "down": ((0.0, 0.02), (0.04, 0.03)),
    "across": ((0.0, 0.02), (-0.04, 0.03)),
    "scale": ((0.0, 0.04), (0.08, 0.06)),
    "field_x": ((0.0, 0.08), (0.1, 0.12)),
    "field_y": ((0.0, 0.08), (0.0, 0.12)),
    "field_xy": ((0.0, 0.08), (0.0, 0.12)),
    "field_xx": ((0.0, 0.08), (0.0, 0.12)),
    "field_yy": ((0.0, 0.08), (0.0, 0.12)),
}
NOISE = ((np.log(0.03), 0.15), (np.log(0.06), 0.25))  # log s.d., mean and s.d.
BLUR = ((0.0012, 0.0002), (0.0022, 0.0004))  # variance, mean and s.d.
PREVALENCE = {
    "spike": (0.1, 0.4),
    "zipper": (0.05, 0.3),
    "ghosting": (0.1, 0.3),
    "rings": (0.05, 0.3),
    "jpeg": (0.1, 0.3),
    "dropout": (0.05, 0.2),
    "shadow": (0.1, 0.3),
    "black_corner": (0.05, 0.2),
    "field_of_view": (0.1, 0.3),
    "occlusion": (0.05, 0.2),
    "characters": (0.05, 0.2),
}  # of artifacts, in subgroup A and in B, each by itself
TOGETHER = {
    "spikes": ("spike", "zipper"),
    "ghosts": ("ghosting", "rings"),
    "blocks": ("jpeg", "characters"),
    "beams": ("dropout", "occlusion"),
    "corners": ("shadow", "black_corner"),
    "borders": ("field_of_view",),
    "crowd": ("spike", "zipper", "ghosting", "rings", "occlusion", "characters"),
}  # artifacts that one cohort has at once
EXACT = """In brackets: exact intervals from the states, and Jeffreys' from the artifacts, that were drawn for the same images, if
they were known.  What these miss is chance, which measurement has no part in."""
FIRST = "Noise comes before artifacts, as in the law."
CROWD = """The last six rows are of one cohort that has them all at once, which leaves 66 % of A's and 13 % of B's images without
any."""
GRAIN = (np.log(0.02), 0.15)  # log s.d. of noise, which comes before artifacts, mean and s.d.


@dataclass(frozen=True)
class Options:
    """What to run."""

    out: Path = Path("docs")
    """folder for STATES.md"""
    data: Path = Path("paper/data")
    """folder for states.json"""
    kept: Path = Path("runs/states")
    """folder for what is done already"""
    together: tuple[str, ...] = tuple(TOGETHER)
    """cohorts whose prevalences are looked at; the crowd, with most patterns of calls, takes longest"""
    replicates: int = 100
    """phantoms with known laws"""
    quick: bool = False
    """one cohort and four replicates: shows that the script runs"""


# ---- known amounts on cohorts


def recovered(name: str) -> dict:
    """Lines of the tables for one cohort."""
    cohort = named(name, jax.random.key(0), SIZE) if name in SYNTHETIC else cohorts.load(name, size=SIZE)
    images = state.grey_images(cohort.image)
    images = images[np.asarray(jax.random.permutation(jax.random.key(1), len(images)))[: own_variability.MOST]]
    found = injection.recover(jax.random.key(2), state.reference(images), images)
    wanted = ("slope", "correlation", "error", "identified", "turning", "whole")
    told = {name: np.asarray(getattr(found, name)).tolist() for name in wanted} | {"images": len(images)}
    worth = found.detectors
    return told | {"found": worth.found.tolist(), "tried": worth.tried, "grows": worth.grows.tolist()}


def kept(path: Path, make) -> dict:
    """What a file holds, made first where there is none."""
    if not path.exists():
        content = json.dumps(make()).encode()
        atomically(path, lambda file: file.write(content))
    return json.loads(path.read_text())


# ---- known laws on phantoms


def law_of(which: int, present: tuple[str, ...]) -> Variability:
    """The law of subgroup A (0) or B (1): of artifacts where there are any, else of all states."""
    value = dict(zip(fitted._COLUMNS, fitted._nothing(), strict=True))
    value["noise target"], value["noise spread"] = GRAIN if present else NOISE[which]
    if not present:
        for name, pairs in LAWS.items():
            value[f"{name} offset"], value[f"{name} spread"] = pairs[which]
        value["blur added"], value["blur spread"] = BLUR[which]
    for name in present:
        value[f"{name} prevalence"] = PREVALENCE[name][which]
        value[f"{name} strength"] = np.log(CATALOGUE[name].levels[detectors.LEVEL])
    sets = (tuple(float(value[column]) for column in fitted._COLUMNS),)
    return Variability("known", "dose", Difference(sets, MIDDLE), fitted.altered, fitted.LEVELS, fitted.where_from)


def replicate(key: jax.Array, base: jax.Array, present: tuple[str, ...] = ()) -> jax.Array:
    """Images (2 EACH, H, W, 1) of subgroup A, then of B."""
    parts = []
    for which, key_one in enumerate(jax.random.split(key)):
        images = jnp.broadcast_to(base, (EACH, *base.shape))
        parts.append(alter(key_one, law_of(which, present), images, jnp.ones(1, jnp.float32))[0])
    return jnp.concatenate(parts)


@cache
def _drawing(which: int, present: tuple[str, ...]):
    """What the law of subgroup A or B draws for its images, noise apart."""
    law = law_of(which, present)

    def one(key: jax.Array) -> dict:
        return {name: x for name, x in law.draw(key, (SIZE, SIZE, 1)).items() if name != "white"}

    return jax.jit(lambda key: jax.vmap(one)(jax.random.split(key, EACH)))


def drawn(key: jax.Array, present: tuple[str, ...] = ()) -> list[dict]:
    """What was drawn for the images of ``replicate``, of A and of B."""
    return [_drawing(which, present)(key_one) for which, key_one in enumerate(jax.random.split(key))]


@cache
def base_image() -> jax.Array:
    """One phantom image at site A with a lesion, without its noise: the anatomy that all replicates share."""
    cohort = phantom(jax.random.key(11), n_patients=60, size=SIZE, lesion=0.5)
    row = np.flatnonzero((cohort.attributes["site"] == "A") & (cohort.label == 1))[0]
    return gaussian_blur({}, jnp.asarray(cohort.image[row]), jnp.float32(0.03))


def true_values(reference: Reference) -> np.ndarray:
    """Difference of means B − A, s.d. in A, s.d. in B, (states, 3).

    The law bends grey values about MIDDLE, from the bare image; states are relative to the mean of all images, and gains at
    its mid-grey.  There the bare image's log grey value above MIDDLE is u, and a gain is lifted by e^γ u.  The mean image went
    through the mean e^γ, and so a field that makes the same image from it is larger by that; the blur that comes after it, its
    borders extended, leaves less of it (``through_blur``).  Moves are seen from the mean image, in which the bare one lies turned
    and scaled.
    """
    pairs = LAWS | {"noise": NOISE, "blur": BLUR}
    truth = {name: [pairs[name][1][0] - pairs[name][0][0], pairs[name][0][1], pairs[name][1][1]] for name in NAMES}
    offset, bend = np.array(LAWS["gamma"]).T
    bent = np.exp(offset + bend**2 / 2)  # means of e^γ
    gained = np.array(LAWS["gain"])
    u = (float(reference.middle) - MIDDLE - gained[:, 0].mean()) / bent.mean()
    means = gained[:, 0] + u * bent
    truth["gain"] = [means[1] - means[0], *np.sqrt(gained[:, 1] ** 2 + (u * bent) ** 2 * np.expm1(bend**2))]
    left = [through_blur(np.sqrt(BLUR[which][0])) for which in (0, 1)]
    for i, name in enumerate(fitted._FIELDS):
        (mean_a, sd_a), (mean_b, sd_b) = bent.mean() * np.array(LAWS[name]) * np.array(left)[:, i, None]
        truth[name] = [mean_b - mean_a, sd_a, sd_b]
    angle, _, _, scale = state.both(reference, base_image()[None])[1][0, 2:6]
    cos, sin = np.exp(-scale) * np.cos(np.deg2rad(angle)), np.exp(-scale) * np.sin(np.deg2rad(angle))
    seen = np.array([[cos, -sin], [sin, cos]])
    moves = np.array([truth["down"], truth["across"]])
    truth["down"], truth["across"] = np.c_[seen @ moves[:, 0], np.sqrt(seen**2 @ moves[:, 1:] ** 2)]
    return np.array([truth[name] for name in NAMES])


@cache
def through_blur(width: float) -> np.ndarray:
    """Share of each field's coefficient (5,) that a blur of s.d. ``width`` leaves, as least squares see it."""
    base, terms = base_image(), _legendre(grid(base_image()))

    def lit(dose: float) -> jax.Array:
        fields = jnp.exp(dose * terms)[..., None] * base[None]
        return jnp.log(jax.vmap(lambda image: gaussian_blur({}, image, jnp.float32(width)))(fields))

    slope = np.asarray(lit(0.1) - lit(-0.1)).reshape(len(terms), -1) / 0.2
    design = np.concatenate([np.ones((1, base.size)), np.asarray(terms).reshape(len(terms), -1)])
    return np.diag(np.linalg.lstsq(design.T, slope.T, rcond=None)[0][1:])


def cohort_of(images: jax.Array) -> Cohort:
    """A replicate as a cohort: every image is a patient of subgroup A or B."""
    n = len(images)
    site = {"site": np.repeat(["A", "B"], EACH)}
    return Cohort(
        np.asarray(images), np.zeros(n, int), np.arange(n).astype(str), np.full(n, "test"), site, *["replicate"] * 4
    )


def one_of_states(number: int) -> dict:
    """What is measured of one replicate, and what its law was, with gains at the reference's mid-grey."""
    images = replicate(jax.random.key(20101 + number), base_image())
    seen = own_variability.measure(jax.random.key(8001 + number), cohort_of(images), CODE)
    k = len(NAMES)
    value = own_laws.without_extremes(seen.value[:, :k], CODE, 2)
    return {
        "value": value.tolist(),
        "error": seen.error[:, :k].tolist(),
        "doubt": seen.doubt[:, :k].tolist(),
        "slope_error": seen.recovery.response_error.tolist(),
        "slope": seen.recovery.slope.tolist(),
        "correlation": seen.recovery.correlation.tolist(),
        "identified": seen.recovery.identified.tolist(),
        "truth": true_values(seen.reference).tolist(),
    }


def intervals(number: int, one: dict) -> dict:
    """Means and 90 % intervals of one replicate's posterior, (state, 3): difference of means, s.d. in A, s.d. in B."""
    how = tuple(np.array(one[name]) for name in ("error", "doubt", "slope_error"))
    lanes, group = own_laws.lanes(np.array(one["value"], float), how, np.arange(2 * EACH).astype(str), CODE)
    key, sums = jax.random.fold_in(jax.random.key(5), number), tuple(jnp.asarray(x) for x in lanes[:7])
    draws = own_laws.state_chains(key, sums, group, n_groups=2, warmup=200, draws=250)
    mean, sd = (np.asarray(draws[name]) * lanes.scale[:, None, None] for name in ("mean", "sd"))
    found = np.stack([mean[..., 1] - mean[..., 0], sd[..., 0], sd[..., 1]], -1)
    low, high = np.quantile(found, INTERVAL, axis=1)
    return {"mean": found.mean(1).tolist(), "low": low.tolist(), "high": high.tolist()}


def if_states_were_known(replicates: int) -> np.ndarray:
    """Share of the same replicates, (state, 3), whose exact 90 % intervals of normal laws hold the truth, from what was drawn."""
    pairs, held = LAWS | {"noise": NOISE, "blur": BLUR}, []
    for number in range(replicates):
        values = []
        for of in drawn(jax.random.key(20101 + number)):
            of = of | {"noise": np.log(of["noise_target"]), "blur": np.square(of["blur"])}
            values.append(np.array([of[name] for name in NAMES]))
        (mean_a, sd_a), (mean_b, sd_b) = np.array([pairs[name] for name in NAMES]).transpose(1, 2, 0)
        apart = ttest_ind(values[1], values[0], axis=1, equal_var=False).confidence_interval(0.9)
        hits = [(apart.low <= mean_b - mean_a) & (mean_b - mean_a <= apart.high)]
        for value, sd in zip(values, (sd_a, sd_b), strict=True):
            square = (EACH - 1) * value.var(1, ddof=1) / sd**2
            hits.append((chi2.ppf(0.05, EACH - 1) <= square) & (square <= chi2.ppf(0.95, EACH - 1)))
        held.append(np.stack(hits, 1))
    return np.mean(held, 0)


def coverage_of_states(options: Options) -> dict:
    """Share of replicates whose 90 % interval holds the truth, (state, 3): difference of means, s.d. in A, s.d. in B."""
    n = options.replicates
    all_ = [kept(options.kept / f"replicate_{r}.json", lambda r=r: one_of_states(r)) for r in range(n)]
    told = [kept(options.kept / f"interval_{r}.json", lambda r=r: intervals(r, all_[r])) for r in range(n)]
    low, high, middles = (np.array([one[name] for one in told]) for name in ("low", "high", "mean"))
    truth, known = np.array([one["truth"] for one in all_]), np.array([one["identified"] for one in all_])
    held = np.where(known[..., None], (low <= truth) & (truth <= high), np.nan)
    middle = np.where(known[..., None], middles, np.nan)
    return {
        "held": share_of(held).tolist(),
        "held_if_known": if_states_were_known(n).tolist(),
        "median": middle_of(middle).tolist(),
        "truth": truth.mean(0).tolist(),
        "width": share_of(np.where(known[..., None], high - low, np.nan)).tolist(),
        "identified": known.sum(0).tolist(),
        "slope": np.nanmean([one["slope"] for one in all_], 0).tolist(),
    }


def share_of(values: np.ndarray) -> np.ndarray:
    """Mean over replicates, nan where there is none."""
    return np.ma.masked_invalid(values).mean(0).filled(np.nan)


def middle_of(values: np.ndarray) -> np.ndarray:
    """Median over replicates, nan where there is none."""
    return np.ma.median(np.ma.masked_invalid(values), 0).filled(np.nan)


def one_of_presence(number: int, present: tuple[str, ...]) -> dict:
    """Calls of every detector in one replicate, by subgroup, and what the detectors are worth on it."""
    images = replicate(jax.random.key(1001 + number), base_image(), present)
    reference = state.reference(images)
    worth = detectors.worth(jax.random.key(9001 + number), reference, images, images)
    called = detectors.scores(reference, images) > worth.threshold
    told = {"called": called.astype(int).tolist()}
    return told | {name: np.asarray(value).tolist() for name, value in worth._asdict().items()}


def if_artifacts_were_known(present: tuple[str, ...], replicates: int) -> np.ndarray:
    """Share of the same replicates, (artifact, subgroup), whose Jeffreys intervals hold the truth, from what was drawn."""
    held = []
    for number in range(replicates):
        both = drawn(jax.random.key(1001 + number), present)
        count = np.array([[np.sum(of[f"{name} at"] < 1) for of in both] for name in present])
        low, high = (beta.ppf(end, count + 0.5, EACH - count + 0.5) for end in INTERVAL)
        truth = np.array([PREVALENCE[name] for name in present])
        held.append((low <= truth) & (truth <= high))
    return np.mean(held, 0)


def coverage_of_prevalence(options: Options) -> dict:
    """Of each set of artifacts: share of replicates whose 90 % interval holds the prevalence, (artifact, subgroup), the median of
    its means, and in how many the artifact's detector calls half of those injected, without which nothing is told."""
    return {
        name: kept(
            options.kept / f"prevalence_{name}.json", lambda name=name: _coverage_of(options, name, TOGETHER[name])
        )
        for name in options.together
    }


def _coverage_of(options: Options, name: str, present: tuple[str, ...]) -> dict:
    n = options.replicates
    all_ = [kept(options.kept / f"presence_{name}_{r}.json", lambda r=r: one_of_presence(r, present)) for r in range(n)]
    print(name, flush=True)
    worths = [detectors.Worth(*(np.array(one[field]) for field in detectors.Worth._fields)) for one in all_]
    tallies = [own_laws.tallied(np.array(one["called"]), CODE, np.ones(2 * EACH), 2) for one in all_]
    most, none = max(len(pattern) for pattern, _ in tallies), np.zeros((0, 2))
    each = []
    for worth, tally in zip(worths, tallies, strict=True):
        pattern, weight = (np.pad(x, ((0, most - len(x)), (0, 0))) for x in tally)
        each.append(own_laws.told_by(pattern, weight, none, worth))
    calls = jax.tree.map(lambda *lanes: jnp.stack(lanes), *each)
    share = np.asarray(own_laws.presence_chains(jax.random.key(6), calls, n_groups=2, warmup=200, draws=250))
    which = [SCORES.index(one) for one in present]
    share = np.moveaxis(share, 1, 2)[:, which]  # (replicate, artifact, draw, group)
    found = np.array([worth.found / worth.tried for worth in worths])[:, which]
    told = found >= 0.5
    low, high = np.quantile(share, INTERVAL, axis=2)
    truth = np.array([PREVALENCE[one] for one in present])
    return {
        "told": told.sum(0).tolist(),
        "held": share_of(np.where(told[..., None], (low <= truth) & (truth <= high), np.nan)).tolist(),
        "held_if_known": if_artifacts_were_known(present, n).tolist(),
        "median": middle_of(np.where(told[..., None], share.mean(2), np.nan)).tolist(),
        "found": found.mean(0).tolist(),
    }


# ---- the tables


def table(heading: list[str], rows: list[list[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    return f"{value:.3g}"


def share(held: float, ideal: float) -> str:
    """A share of intervals, marked where it is not what 90 % intervals should have, and what it would be had all been known."""
    return f"{100 * held:.0f} %{'' if 0.85 <= held <= 0.95 else ' *'} ({100 * ideal:.0f})"


def inside(held: Sequence[float], ideal: Sequence[float], replicates: int) -> str:
    """How many shares of intervals are in 85 to 95 %, how many had all been known, and if every one held the truth in 90 %."""
    told = [one for one in held if one is not None]
    low, high = np.ceil(0.85 * replicates), np.floor(0.95 * replicates)
    exact = binom.cdf(high, replicates, 0.9) - binom.cdf(low - 1, replicates, 0.9)
    (found, mean), (best, best_mean) = (
        (sum(0.85 <= one <= 0.95 for one in some), 100 * np.mean(some)) for some in (told, ideal)
    )
    return (
        f"{found} of {len(told)} intervals hold it in 85–95 % of cases, {mean:.1f} % on average; of the exact ones in brackets "
        f"{best}, {best_mean:.1f} %; of as many of exactly 90 % {exact * len(told):.1f} would by chance."
    )


def prevalent(presence: dict) -> str:
    """The table of prevalences."""
    rows = []
    for set_, one in presence.items():
        for i, name in enumerate(TOGETHER[set_]):
            beside = ", ".join(other for other in TOGETHER[set_] if other != name)
            row = [name, beside or "–", str(one["told"][i])]
            parts = one["held"][i], one["held_if_known"][i], one["median"][i], PREVALENCE[name]
            for held, ideal, median, truth in zip(*parts, strict=True):
                row += [share(held, ideal), f"{number(median)} ({number(truth)})"] if one["told"][i] else ["–"] * 2
            rows.append([*row, f"{one['found'][i]:.2f}"])
    heads = ["artifact", "beside", "told in", "A", "median (true)", "B", "median (true)", "sensitivity"]
    return table(heads, rows)


def each(presence: dict, part: str) -> list[float]:
    """A part of every artifact's row, of A and of B."""
    return [x for one in presence.values() for pair in one[part] for x in pair]


def written(found: dict) -> str:
    """STATES.md from states.json."""
    of, states, presence = found["cohorts"], found["states"], found["prevalence"]
    heads = [f"{name} ({one['images']})" for name, one in of.items()]

    def by_state(text) -> list[list[str]]:
        return [[name, *(text(one, i) for one in of.values())] for i, name in enumerate(NAMES)]

    def worth(one: dict, i: int) -> str:
        mark = "" if one["identified"][i] else " ✗"
        return f"{one['slope'][i]:.2f} ({one['correlation'][i]:.2f}){mark}"

    calls = [[name, *(f"{one['found'][i]} of {one['tried']}" for one in of.values())] for i, name in enumerate(SCORES)]
    held, always, ideal = [], [], []
    for i, name in enumerate(NAMES):
        n = states["identified"][i]
        always += states["held"][i] if n == found["replicates"] else []
        ideal += states["held_if_known"][i] if n == found["replicates"] else []
        pairs = zip(*(states[part][i] for part in ("held", "held_if_known", "median", "truth")), strict=True)
        told = [x for h, k, m, t in pairs for x in (share(h, k), f"{number(m)} ({number(t)})")] if n else ["–"] * 6
        held.append([name, str(n), *told])
    pairs = ["B − A", "median (true)", "s.d. A", "median (true)", "s.d. B", "median (true)"]
    some = "" if set(presence) == set(TOGETHER) else f" --together {' '.join(presence)}"
    replicates = f"{found['replicates']} replicates of {found['each']} images a subgroup"
    return "\n\n".join([
        "# States recovered by injection",
        f"Made by `python simulations/9_states_recovered_by_injection.py{some}`, from `paper/data/states.json`.",
        "## Slope (correlation) of what is found on what was added, where all states change at once; ✗: not identified",
        table(["state", *heads], by_state(worth)),
        "## Error of one measurement, in the state's unit",
        table(["state", *heads], by_state(lambda one, i: number(one["error"][0][i]) if one["identified"][i] else "–")),
        f"## Injected artifacts that their detectors call, level {detectors.LEVEL + 1} of 5",
        table(["artifact", *heads], calls),
        f"## 90 % intervals that hold the truth, {replicates}; *: outside 85–95 %",
        EXACT,
        table(["state", "identified in", *pairs], held),
        f"Of the states identified in every replicate {inside(always, ideal, found['replicates'])}",
        "## 90 % intervals of prevalence that hold the truth, artifacts a few at a time",
        prevalent(presence),
        f"Of these {inside(*(each(presence, part) for part in ('held', 'held_if_known')), found['replicates'])}",
        *([FIRST, CROWD] if "crowd" in presence else [FIRST]),
    ]) + "\n"  # fmt: skip


def main(options: Options) -> None:
    names, replicates = COHORTS, options.replicates
    if options.quick:
        names, replicates = COHORTS[:1], 4
        options = Options(options.out, options.out, options.out / "kept", replicates=replicates, quick=True)
    found = {
        "each": EACH,
        "replicates": replicates,
        "states": coverage_of_states(options),
        "prevalence": coverage_of_prevalence(options),
        "cohorts": {},
    }
    for name in names:
        try:
            found["cohorts"][name] = kept(options.kept / f"{name}.json", lambda name=name: recovered(name))
        except InputError as problem:
            print(f"left out: {problem}")
        print(name, flush=True)
    rounded = json.dumps(shortened(found), indent=1)
    atomically(options.data / "states.json", lambda file: file.write(rounded.encode()))
    text = written(json.loads(rounded))
    atomically(options.out / "STATES.md", lambda file: file.write(text.encode()))
    print(text)


def shortened(value):
    """Numbers to four digits, for a small file; nan as null."""
    if isinstance(value, dict):
        return {key: shortened(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shortened(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.4g}") if np.isfinite(value) else None
    return value


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
