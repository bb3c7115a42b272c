"""Is every image's state recovered when known amounts are added, and do the intervals of a cohort's own variability hold?

    python simulations/9_states_recovered_by_injection.py --out derivations

On each development cohort known gains, gammas, turns, moves, sizes, noises, blurs, fields and artifacts are added to up to
256 images; the table holds slope, correlation, bias and error of one measurement.  Then 100 replicates of two subgroups are made
from one phantom image by known laws, measured and fitted: the share of 90 % intervals that hold the truth.  Resumes where it
stopped.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from rafmodel import cohort as cohorts
from rafmodel import injection, own_variability, state
from rafmodel.errors import InputError
from rafmodel.files import atomically
from rafmodel.phantoms import named, phantom
from rafmodel.state import SCORES, STATES
from rafmodel.variability import CATALOGUE, alter, fitted
from rafmodel.variability.fitted import Difference
from rafmodel.variability.law import Variability

SYNTHETIC = ("phantom", "cardiac-ultrasound")
COHORTS = (*SYNTHETIC, "pneumoniamnist", "breastmnist", "nih_cxr1000", "sunnybrook_cmr")
SIZE = 32
EACH = 64  # images of each of two subgroups in a replicate
NAMES = tuple(STATES)
INTERVAL = (0.05, 0.95)

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
PREVALENCE = {"spike": (0.1, 0.4), "zipper": (0.05, 0.3)}


@dataclass(frozen=True)
class Options:
    """What to run."""

    out: Path = Path("derivations")
    """folder for STATES.md"""
    kept: Path = Path("runs/states")
    """folder for what is done already"""
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
    return {field: np.asarray(value).tolist() for field, value in found._asdict().items()} | {"images": len(images)}


def kept(path: Path, make) -> dict:
    """What a file holds, made first where there is none."""
    if not path.exists():
        content = json.dumps(make()).encode()
        atomically(path, lambda file: file.write(content))
    return json.loads(path.read_text())


# ---- known laws on phantoms


def law_of(which: int, prevalence: dict[str, float], states: bool) -> Variability:
    """The law of subgroup A (0) or B (1): of all states, or of artifacts alone."""
    value = dict(zip(fitted._COLUMNS, fitted._nothing(), strict=True))
    for name, pairs in LAWS.items() if states else ():
        value[f"{name} offset"], value[f"{name} spread"] = pairs[which]
    if states:
        value["noise target"], value["noise spread"] = NOISE[which]
        value["blur added"], value["blur spread"] = BLUR[which]
    for name, share in prevalence.items():
        value[f"{name} prevalence"], value[f"{name} strength"] = share, np.log(CATALOGUE[name].levels[3])
    sets = (tuple(float(value[column]) for column in fitted._COLUMNS),)
    return Variability("known", "dose", Difference(sets, -1.0), fitted.altered, fitted.LEVELS, fitted.where_from)


def replicate(key: jax.Array, base: jax.Array, *, states: bool) -> jax.Array:
    """Images (2 EACH, H, W, 1) of subgroup A, then of B."""
    parts = []
    for which, key_one in enumerate(jax.random.split(key)):
        shares = {} if states else {name: pair[which] for name, pair in PREVALENCE.items()}
        images = jnp.broadcast_to(base, (EACH, *base.shape))
        parts.append(alter(key_one, law_of(which, shares, states), images, jnp.ones(1, jnp.float32))[0])
    return jnp.concatenate(parts)


def base_image() -> jax.Array:
    """One phantom image at site A with a lesion: the anatomy that all replicates share."""
    cohort = phantom(jax.random.key(11), n_patients=60, size=SIZE, lesion=0.5)
    row = np.flatnonzero((cohort.attributes["site"] == "A") & (cohort.label == 1))[0]
    return jnp.asarray(cohort.image[row])


def true_values() -> dict[str, tuple[float, float, float]]:
    """Difference of means B − A, s.d. in A, s.d. in B."""
    pairs = LAWS | {"noise": NOISE, "blur": BLUR}
    return {name: (pairs[name][1][0] - pairs[name][0][0], pairs[name][0][1], pairs[name][1][1]) for name in NAMES}


def coverage_of_states(options: Options) -> dict:
    """Share of replicates whose 90 % interval holds the truth, (state, 3): difference of means, s.d. in A, s.d. in B."""
    base, n = base_image(), options.replicates
    first = replicate(jax.random.key(100), base, states=True)
    reference = state.reference(first)
    recovery = injection.recover(jax.random.key(3), reference, first)
    values = np.stack([
        state.states(reference, replicate(jax.random.key(101 + r), base, states=True)) / recovery.slope for r in range(n)
    ])  # fmt: skip
    code, patient = np.repeat([0, 1], EACH), np.arange(2 * EACH).astype(str)
    told = [
        own_variability.lanes(own_variability.without_extremes(v, code, 2), recovery.error, patient, code)
        for v in values
    ]
    sums = [jnp.concatenate([getattr(one[0], field) for one in told]) for field in ("count", "mean", "square", "error")]
    centre, scale = (np.concatenate([getattr(one[0], field) for one in told]) for field in ("centre", "scale"))
    draws = own_variability.state_chains(jax.random.key(5), tuple(sums), told[0][1], n_groups=2, warmup=200, draws=250)
    mean = np.asarray(draws["mean"]) * scale[:, None, None] + centre[:, None, None]
    sd = np.asarray(draws["sd"]) * scale[:, None, None]
    found = np.stack([mean[..., 1] - mean[..., 0], sd[..., 0], sd[..., 1]], -1).reshape(n, len(NAMES), -1, 3)
    truth = np.array([true_values()[name] for name in NAMES])
    low, high = np.quantile(found, INTERVAL, axis=2)
    return {
        "held": ((low <= truth) & (truth <= high)).mean(0).tolist(),
        "median": np.median(found.mean(2), 0).tolist(),
        "identified": recovery.identified.tolist(),
        "slope": recovery.slope.tolist(),
    }


def coverage_of_prevalence(options: Options) -> dict:
    """Share of replicates whose 90 % interval holds the prevalence, (artifact, subgroup), and the median of its means."""
    base, n = base_image(), options.replicates
    quiet = jnp.broadcast_to(base, (2 * EACH, *base.shape))
    noisy = jnp.clip(quiet + 0.02 * jax.random.normal(jax.random.key(4), quiet.shape), 0, 1)
    reference = state.reference(noisy)
    recovery = injection.recover(jax.random.key(3), reference, noisy)
    code, which = np.repeat([0, 1], EACH), [SCORES.index(name) for name in PREVALENCE]
    hits = []
    for r in range(n):
        images = replicate(jax.random.key(1001 + r), base, states=False)
        images = jnp.clip(images + 0.02 * jax.random.normal(jax.random.key(5001 + r), images.shape), 0, 1)
        called = state.scores(reference, images)[:, which] > recovery.threshold[which]
        hits.append([np.bincount(code, c, 2) for c in called.T])
    hits = np.array(hits).reshape(-1, 2)
    lanes = len(hits)
    found, tried = (np.tile(getattr(recovery, name)[which], n) for name in ("found", "tried"))
    counts = (hits, np.full((lanes, 2), EACH), found, tried, np.zeros(lanes))
    draws = own_variability.presence_chains(
        jax.random.key(6), tuple(jnp.asarray(x, float) for x in counts), n_groups=2, warmup=200, draws=250
    )
    share = np.asarray(draws).reshape(n, len(which), -1, 2)
    low, high = np.quantile(share, INTERVAL, axis=2)
    truth = np.array(list(PREVALENCE.values()))
    return {
        "held": ((low <= truth) & (truth <= high)).mean(0).tolist(),
        "median": np.median(share.mean(2), 0).tolist(),
        "found": (recovery.found / recovery.tried)[which].tolist(),
    }


# ---- the tables


def table(heading: list[str], rows: list[list[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    return f"{value:.3g}"


def written(of: dict[str, dict], states: dict, presence: dict, options: Options) -> str:
    """STATES.md."""
    heads = [f"{name} ({one['images']})" for name, one in of.items()]

    def by_state(text) -> list[list[str]]:
        return [[name, *(text(one, i) for one in of.values())] for i, name in enumerate(NAMES)]

    def worth(one: dict, i: int) -> str:
        mark = "" if one["identified"][i] else " ✗"
        return f"{one['slope'][i]:.2f} ({one['correlation'][i]:.2f}){mark}"

    def errs(one: dict, i: int) -> str:
        return f"{number(one['bias'][i])}, {number(one['error'][i])}"

    detectors = [
        [name, *(f"{one['found'][i]} of {one['tried'][i]}" for one in of.values())] for i, name in enumerate(SCORES)
    ]
    truth = true_values()
    held = []
    for i, name in enumerate(NAMES):
        shares = [f"{100 * h:.0f} %{'' if 0.85 <= h <= 0.95 else ' *'}" for h in states["held"][i]]
        medians = [f"{number(m)} ({number(t)})" for m, t in zip(states["median"][i], truth[name], strict=True)]
        held.append([name, *(x for pair in zip(shares, medians, strict=True) for x in pair)])
    shares = [
        [name, *(f"{100 * h:.0f} %{'' if 0.85 <= h <= 0.95 else ' *'}" for h in presence["held"][i])]
        + [f"{number(m)} ({number(t)})" for m, t in zip(presence["median"][i], PREVALENCE[name], strict=True)]
        + [f"{presence['found'][i]:.2f}"]
        for i, name in enumerate(PREVALENCE)
    ]
    pairs = ["B − A", "median (true)", "s.d. A", "median (true)", "s.d. B", "median (true)"]
    return "\n\n".join([
        "# States recovered by injection",
        "Made by `python simulations/9_states_recovered_by_injection.py --out derivations`; columns are explained there.",
        "## Slope (correlation) of what is recovered on what was added; ✗: not identified",
        table(["state", *heads], by_state(worth)),
        "## Bias, and error of one measurement, in the state's unit",
        table(["state", *heads], by_state(errs)),
        f"## Injected artifacts that their detectors call, level {injection.LEVEL + 1} of 5",
        table(["artifact", *heads], detectors),
        f"## 90 % intervals that hold the truth, {options.replicates} phantoms of {EACH} images a subgroup; *: outside 85–95 %",
        table(["state", *pairs], held),
        "## 90 % intervals of prevalence that hold the truth",
        table(["artifact", "A", "B", "A, median (true)", "B, median (true)", "sensitivity"], shares),
    ]) + "\n"  # fmt: skip


def main(options: Options) -> None:
    names = COHORTS
    if options.quick:
        names, options = COHORTS[:1], Options(options.out, options.kept, 4, True)
    of = {}
    for name in names:
        try:
            of[name] = kept(options.kept / f"{name}.json", lambda name=name: recovered(name))
        except InputError as problem:
            print(f"left out: {problem}")
        print(name, flush=True)
    tag = options.replicates
    states = kept(options.kept / f"coverage_{tag}.json", lambda: coverage_of_states(options))
    presence = kept(options.kept / f"prevalence_{tag}.json", lambda: coverage_of_prevalence(options))
    text = written(of, states, presence, options)
    atomically(options.out / "STATES.md", lambda file: file.write(text.encode()))
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
