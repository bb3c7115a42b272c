"""How much does a short run of each design tell beside the theory, and what does it cost?

    python simulations/11_pilot_runs.py --out runs/pilots --steps 50 100      run what is not there yet, then score
    python simulations/11_pilot_runs.py                                      score the committed runs

One short run of every design on each development cohort, with a key of its own.  Scored against the committed development study
(three seeds of 400 steps): MAE, skill against the mean of the other designs (B1), correlation of design effects r, and r over
the square root of the seed mean's reliability.  The weights of the effects of L0 (or of L0x, which knows what the designs did on
other cohorts) and of the run come from the other cohorts.
"""

import importlib
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tyro
import xarray as xr
from scipy.special import ndtri

from rafmodel import check, design, experience, pilot, variability
from rafmodel import cohort as cohorts
from rafmodel import study as studies

Told = dict[str, np.ndarray]
ROOT = Path(__file__).resolve().parents[1]
KEY = 12345  # of no seed of the development study


@dataclass(frozen=True)
class Options:
    """What to run and to score."""

    out: Path = ROOT / "paper/data/pilots"
    """folder of the runs, NAME-STEPS.nc; those that are there are read"""
    tables: Path = ROOT / "paper/data/development"
    """folder with the study tables of 3_development_study.py"""
    steps: tuple[int, ...] = ()
    """lengths of the runs to make"""
    only: tuple[str, ...] = ()
    """names of some of the cohorts"""
    quick: bool = False
    """the phantom alone, four designs, 20 steps: shows that the script runs"""


def make(source, steps: int, place: Path, names: list[str] | None) -> None:
    """Short runs of one cohort, and what they took."""
    cohort = source.load()
    test, shifts = cohorts.part(cohort, "test"), variability.VARIABILITIES
    designs, found, seconds = design.select(names), [], []
    for one in designs:
        start = time.perf_counter()
        found.append(pilot.short_run(jax.random.key(KEY), cohort, test, one, shifts, steps=steps)[..., 0])
        seconds.append(time.perf_counter() - start)
    variables = {
        "pilot_auc": (("design", "shift", "severity"), np.stack(found).astype(np.float32)),
        "seconds": ("design", np.round(seconds, 2)),
    }
    coordinates = {"design": [d.name for d in designs], "shift": [s.name for s in shifts], "severity": np.arange(6)}
    studies.save(xr.Dataset(variables, coordinates, {"steps": steps, "cohort": source.name}), place)
    print(f"{source.name}, {steps} steps: {sum(seconds):.0f} s", flush=True)


def read(options: Options, steps: int) -> dict[str, Told]:
    """Cohort -> L0, L0x and the short run (design, shift, severity 0-5), and what was observed with seeds in front."""
    found, known = {}, experience.shipped()
    for place in sorted(options.out.glob(f"*-{steps}.nc")):
        runs, name = xr.load_dataset(place, engine="h5netcdf"), place.stem.removesuffix(f"-{steps}")
        [study, *_] = sorted(options.tables.glob(f"{name}.nc")) or sorted(options.tables.glob(f"{name}-s*.nc"))
        whole = studies.load(study).sel(design=runs["design"])
        table = whole.sel(group="all")
        theory, designs = table["predicted_auc"].values, [str(d) for d in table["design"].values]
        informed = experience.expected(theory, experience.effects(known, whole), designs)
        observed = table["observed_auc"].transpose("seed", "design", "shift", "severity").values
        found[name] = {"L0": theory, "L0x": informed, "short run": runs["pilot_auc"].values, "observed": observed}
    return found


def effects(auc: np.ndarray) -> np.ndarray:
    """Design effects on the probit scale, one long vector."""
    z = ndtri(np.clip(auc, 0.02, 0.98))
    return (z - z.mean(0, keepdims=True)).ravel()


def weights(some: list[Told], level: str) -> tuple[float, float]:
    """Least squares of observed on the effects of L0 or L0x and on the short run's."""
    told = np.stack([np.concatenate([effects(one[what][..., 1:]) for one in some]) for what in (level, "short run")], 1)
    seen = np.concatenate([effects(one["observed"].mean(0)[..., 1:]) for one in some])
    first, second = np.linalg.lstsq(told, seen, rcond=None)[0]
    return float(first), float(second)


def score(found: dict[str, Told]) -> dict[str, tuple[float, ...]]:
    """MAE, skill, r, r* of each level, pooled; the weights of L0+ and L0+x never saw the cohort they are used on."""
    rows, noise, total = {}, 0.0, 0.0
    for name, one in found.items():
        others = [it for other, it in found.items() if other != name] or [one]
        both = {
            f"L0+{level[2:]}": pilot.combined(one[level], one["short run"], weights(others, level))
            for level in ("L0", "L0x")
        }
        told = {level: values[..., 1:] for level, values in ({**one, **both}).items()}
        seeds = told.pop("observed")
        observed, b1 = seeds.mean(0), check.others(seeds.mean(0))
        noise += seeds.var(0, ddof=1).mean() / len(seeds) if len(seeds) > 1 else np.nan
        total += observed.var(0, ddof=1).mean()
        for level, values in told.items():
            cells = (np.abs(values - observed), np.abs(b1 - observed), values - check.others(values), observed - b1)
            rows.setdefault(level, []).append([c.ravel() for c in cells])
    trust, table = 1 - noise / total, {}
    for level, parts in rows.items():
        error, base, told, own = (np.concatenate(p) for p in zip(*parts, strict=True))
        r = np.corrcoef(told, own)[0, 1]
        table[level] = error.mean(), 1 - error.mean() / base.mean(), r, r / np.sqrt(trust)
    return table


def main(options: Options) -> None:
    """Run, score, print."""
    development = importlib.import_module("3_development_study")  # beside this script; its name begins with a digit
    names = ["untrained", "supervised", "contrastive+noise", "rotation"] if options.quick else None
    wanted = {"phantom"} if options.quick else set(options.only) or {source.name for source in development.SOURCES}
    lengths = (20,) if options.quick else options.steps
    for steps in lengths:
        for source in development.SOURCES:
            place = studies.writable(options.out) / f"{source.name}-{steps}.nc"
            if source.name in wanted and not place.exists():
                make(source, steps, place, names)
    there = sorted({int(place.stem.rsplit("-", 1)[1]) for place in options.out.glob("*.nc")})
    print(f"{'steps':>6s} {'level':12s}{'MAE':>8s}{'skill':>8s}{'r':>8s}{'r*':>8s}   cohorts")
    for steps in there:
        found = read(options, steps)
        for level, values in score(found).items():
            print(f"{steps:6d} {level:12s}" + "".join(f"{v:8.3f}" for v in values) + f"{len(found):10d}")
        for level in ("L0", "L0x"):
            first, second = weights(list(found.values()), level)
            print(f"{steps:6d} weights of all: {level} {first:.2f}, short run {second:.2f}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
