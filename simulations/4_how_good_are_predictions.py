"""How good are predictions on the development cohorts, level by level, and can the subgroup that is behind be foretold?

    python simulations/4_how_good_are_predictions.py                       from the committed tables, a few minutes
    python simulations/4_how_good_are_predictions.py --tables runs/development --keep paper/data/development
    python simulations/4_how_good_are_predictions.py --tables paper/data/witnesses --shipped   cohorts that nothing was chosen on

Tells, per cohort and pooled over cohorts: mean absolute error, skill against the mean of the other designs (B1), design-effect
correlation r, and r over the square root of the seed mean's reliability; then what part of L0's error is the luck of which
patients the test part holds, which all designs share; how far the two parts of the source that theory is read from agree on
what sets designs apart; then the subgroup gaps.  A gap is sure where its 95 % interval excludes zero (``findings.gap_between``).
``--keep`` writes the tables again, reduced to single precision and compressed, to be committed, and what is told to docs/SKILL.md
or, with ``--shipped``, to docs/SKILL_ON_WITNESSES.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import tyro
import xarray as xr

from rafmodel import agreement, check, experience, findings
from rafmodel import study as studies
from rafmodel.files import atomically

ROOT = Path(__file__).resolve().parents[1]
CHOSEN_ON = ("pneumoniamnist", "breastmnist", "phantom-sex", "phantom-rare-sex")
WITNESSES = (
    "lung-airways-dose",
    "nih-sex",
    "nuclei-pixels",
    "adrenal-flattened",
    "retina-pixels",
    "hippocampus-pixels",
    "hannover-icu",
    "nih-view",
)
RIVALS = ("ATC", "DoC", "CBE")  # know no law of the shift
WITNESS_TABLES = "paper/data/witnesses"
LEAST_TRUST = 0.1  # reliability of effects below which r is not divided by its root
DRAWN = "pneumoniamnist"  # whose held-out predictions the paper draws
AROUND_B1 = ("L2", "L2x", "B3")  # levels that move the mean of the other designs


@dataclass(frozen=True)
class Options:
    """Which tables."""

    tables: Path = ROOT / "paper/data/development"
    """folder with the study tables of 3_development_study.py"""
    keep: Path | None = None
    """folder for the reduced tables and that of the scores, skill_check.nc; shipped experience is made anew too, unless read"""
    shipped: bool = False
    """read experience as it is shipped, not that of the other tables in the folder, and keep it as it is"""
    quick: bool = False
    """two tables and few posterior draws: shows that the script runs"""
    out: Path = Path("runs/skill")
    """folder for the table of scores"""


class Luck(NamedTuple):
    """The test part is a sample of patients; a forecast from the source cannot know which, while B1 has seen them.

    error  sampling s.d. of an observed AUC, mean over cells
    floor  MAE that this error alone leaves to someone who knows the AUC among all patients: its s.d. times √(2/π)
    level  mean over designs and cells of L0 minus observed: one number that does not depend on the design
    rest   MAE of L0 without that number
    mae    of L0, and of B1
    """

    error: float
    floor: float
    level: float
    rest: float
    mae: tuple[float, float]


@dataclass(frozen=True)
class Scored:
    """One table's predictions of everyone's AUC: check table, and what pooling needs."""

    cohort: str
    checked: xr.Dataset
    noise: float  # variance of the seed mean, mean over cells
    total: float  # variance of design effects
    luck: "Luck"


def scored(name: str, table: xr.Dataset, known: xr.Dataset, quick: bool) -> Scored:
    """Held-out predictions of one table; of the experience ``known`` each sees what was seen on other cohorts."""
    draws = 20 if quick else 250
    checked = check.check(table, known, key=jax.random.key(0), warmup=draws, draws=draws)
    seen = table["observed_auc"].sel(group="all", severity=slice(1, None)).transpose("seed", "design", ...).values
    noise = seen.var(0, ddof=1).mean() / len(seen) if len(seen) > 1 else np.nan
    return Scored(name, checked, float(noise), float(seen.mean(0).var(0, ddof=1).mean()), luck(table, checked))


def luck(table: xr.Dataset, checked: xr.Dataset) -> Luck:
    """How much of L0's error can be the sampling of the test part, from everyone's standard errors over patients."""
    error = float(table["observed_auc_se"].sel(group="all", severity=slice(1, None)).mean())
    off = {level: (checked["held_out"].sel(level=level) - checked["observed"]).values for level in ("L0", "B1")}
    level = off["L0"].mean()
    rest = np.abs(off["L0"] - level).mean()
    return Luck(error, error * np.sqrt(2 / np.pi), level, rest, (np.abs(off["L0"]).mean(), np.abs(off["B1"]).mean()))


def pooled(all_of: list[Scored]) -> dict[str, tuple[float, ...]]:
    """MAE, skill, r and corrected r of each level over all cohorts' cells."""
    trust = 1 - sum(one.noise for one in all_of) / sum(one.total for one in all_of)
    found = {}
    for level in all_of[0].checked["level"].values:
        errors, against, told, own = [], [], [], []
        for one in all_of:
            held, seen = one.checked["held_out"].sel(level=level).values, one.checked["observed"].values
            b1 = one.checked["held_out"].sel(level="B1").values
            errors.append(np.abs(held - seen).ravel())
            against.append(np.abs(b1 - seen).ravel())
            told.append((held - (b1 if level in AROUND_B1 else check.others(held))).ravel())
            own.append((seen - b1).ravel())
        mae, b1_mae = np.concatenate(errors).mean(), np.concatenate(against).mean()
        x, y = np.concatenate(told), np.concatenate(own)
        r = np.corrcoef(x, y)[0, 1] if level != "B1" else np.nan
        found[str(level)] = (float(mae), float(1 - mae / b1_mae), float(r), float(r / np.sqrt(trust)))
    return found


def parts(results: list[Scored]) -> dict[str, list[Scored]]:
    """All cohorts; those that theory's constants were chosen on, the next ones, and the witnesses, where there are several."""
    split = {f"all {len(results)}": results, "cohorts of choice": [], "the next ones": [], "witnesses": []}
    for one in results:
        place = (
            "cohorts of choice"
            if one.cohort in CHOSEN_ON
            else "witnesses"
            if one.cohort in WITNESSES
            else "the next ones"
        )
        split[place].append(one)
    there = {which: some for which, some in split.items() if some}
    return there if len(there) > 2 else dict(list(there.items())[:1])


class Gaps(NamedTuple):
    """AUC of one subgroup minus that of another in every cell, and as each level told it.

    observed, with its standard ``error`` over patients and seeds, and ``reach``, half the width of its 95 % interval
    """

    observed: np.ndarray
    error: np.ndarray
    reach: np.ndarray
    told: dict[str, np.ndarray]


def gaps(table: xr.Dataset) -> Gaps | None:
    """Between the two subgroups whose observed AUCs differ most on average, the first in the alphabet minus the other."""
    names = [g for g in table["group"].values[1:] if min(table[n].sel(group=g) for n in ("n_case", "n_control")) > 0]
    if len(names) < 2:
        return None
    means = table["observed_auc"].sel(group=names).mean(("seed", "design", "shift", "severity")).values
    first, second = sorted(names[i] for i in (int(means.argmax()), int(means.argmin())))
    found = findings.gap_between(table, first, second)

    def cells(values: xr.DataArray) -> np.ndarray:
        return values.transpose("design", "shift", "severity").values

    foreseen = {"L0": table["predicted_auc"]}
    if "early_auc" in table:
        foreseen["L1"] = table["early_auc"].sel(estimator="L1").mean("seed")
    told = {level: cells(v.sel(group=first) - v.sel(group=second)) for level, v in foreseen.items()}
    observed, error, reach = (cells(v) for v in (found.observed, found.error, found.reach()))
    return Gaps(observed, error, reach, told)


def gap_scores(found: list[Gaps], level: str) -> tuple[float, ...]:
    """Over the cells of some tables: sure cells, share with the right sign there, correlation over all, and the same over the
    square root of the share of the observed variance that is neither seed nor sampling error."""
    columns = [np.stack([g.told[level], *g[:3]]).reshape(4, -1) for g in found if level in g.told]
    told, observed, error, reach = np.concatenate(columns, 1)[:, np.isfinite(np.concatenate(columns, 1)).all(0)]
    sure = np.abs(observed) > reach
    right = (np.sign(told) == np.sign(observed))[sure]
    r = np.corrcoef(told, observed)[0, 1] if len(told) else np.nan
    trust = 1 - np.mean(error**2) / observed.var() if len(told) else np.nan
    corrected = r / np.sqrt(trust) if trust > 0 else np.nan
    return int(sure.sum()), float(right.mean()) if right.size else np.nan, float(r), float(corrected)


def by_cohort(results: list[Scored]) -> str:
    """Levels of every cohort: before anything is trained, then with a trained encoder or with outcomes of other designs."""
    before, after = [], []
    for one in results:
        score, trust = one.checked["score"], float(one.checked["reliability"])

        def of(level: str, measure: str = "mae", score: xr.DataArray = score) -> float:
            return float(score.sel(level=level, measure=measure))

        def seen(level: str, of=of, trust: float = trust) -> str:
            corrected = f" ({of(level, 'effect_r_corrected'):.2f})" if trust > LEAST_TRUST else ""
            return f"{of(level, 'effect_r'):.2f}{corrected}"

        levels = [f"{of(level):.3f}" for level in ("B0", "B1", "L0", "L0x")]
        before.append([one.cohort, f"{trust:.2f}", *levels, *(seen(level) for level in ("L0", "B3", "L0x"))])
        rival = min(RIVALS, key=of)
        others = [f"{of(level, 'skill'):+.2f}" for level in ("L2", "B3", "L2x")]
        held = f"{100 * of('L2x', 'coverage_90'):.0f} %"
        early = [f"{of('L1'):.3f}", f"{of('L1x'):.3f}", f"{of(rival):.3f} ({rival})", seen("L1"), seen("L1x")]
        after.append([one.cohort, *early, *others, f"{of('L2x'):.3f}", held])
    heads = ["MAE of B0", "B1", "L0", "L0x", "r (r*) of L0", "of experience alone (B3)", "of L0x"]
    early = ["MAE of L1", "L1x", "best label-free baseline", "r (r*) of L1", "of L1x"]
    others = ["skill of L2", "B3", "L2x", "MAE of L2x", "its 90 % intervals hold"]
    return "\n\n".join([
        "## Before anything is trained",
        table(["cohort", "reliability", *heads], before),
        "## With the trained encoder, or outcomes of other designs",
        table(["cohort", *early, *others], after),
    ])  # fmt: skip


def over_cohorts(results: list[Scored]) -> str:
    """Every level pooled over all cohorts and over parts of them."""
    split = {which: pooled(some) for which, some in parts(results).items()}
    rows = [[level, *(pair(*split[which][level]) for which in split)] for level in pooled(results)]
    return table(["level: MAE, skill, r (r*)", *split], rows)


def pair(mae: float, skill: float, r: float, corrected: float) -> str:
    """Four measures in one field of a table."""
    seen = f", {r:.2f}" + (f" ({corrected:.2f})" if np.isfinite(corrected) else "") if np.isfinite(r) else ""
    return f"{mae:.3f}, {skill:+.2f}{seen}"


def of_luck(results: list[Scored]) -> str:
    """What the sampling of the test part alone would leave, and L0's mean error."""
    rows = [[one.cohort, *(f"{v:.3f}" for v in (*one.luck[:4], *one.luck.mae))] for one in results]
    mean = np.mean([(*o.luck[:4], *o.luck.mae) for o in results], axis=0)
    heads = [
        "sampling s.d. of an AUC",
        "MAE that this leaves",
        "mean error of L0",
        "MAE of L0 without it",
        "MAE of L0",
        "of B1",
    ]
    return table(["cohort", *heads], [*rows, ["mean", *(f"{v:.3f}" for v in mean)]])


def of_agreement(tables: dict[str, xr.Dataset], results: list[Scored]) -> str:
    """How far the parts of each source agree, what is kept for it, and how good theory turned out to be."""
    rows = []
    for one in (one for one in results if "predicted_by_part" in tables[one.cohort]):
        parts = tables[one.cohort]["predicted_by_part"].values
        kept = agreement.shares(parts) or (np.nan, np.nan)
        r, corrected = one.checked["score"].sel(level="L0", measure=["effect_r", "effect_r_corrected"]).values
        told = [f"{v:.2f}" for v in (agreement.correlation(parts), *kept, r)]
        rows.append([one.cohort, *told, f"{corrected:.2f}" if one.checked["reliability"] > LEAST_TRUST else "–"])
    return table(["cohort", "r between parts", "kept of a design's mean", "of the rest", "r of L0", "r*"], rows)


def of_gaps(found: dict[str, list[Gaps]]) -> str:
    """A row for each table, or several together, and level."""
    rows = []
    for name, some in found.items():
        for level in ("L0", "L1"):
            n, right, r, corrected = gap_scores(some, level)
            share = f"{100 * right:.0f} %" if n else "–"
            rows.append([name, level, str(n), share, *(f"{v:.2f}" if np.isfinite(v) else "–" for v in (r, corrected))])
    return table(["table", "level", "sure cells", "right sign", "r over all cells", "r*"], rows)


def table(heading: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [heading, ["---"] * len(heading), *rows])


def written(tables: dict[str, xr.Dataset], single: dict[str, xr.Dataset], results: list[Scored], command: str) -> str:
    """All of it, as a page."""
    found = {name: [one] for name, some in tables.items() if (one := gaps(some))}
    sites = [one for name, some in found.items() if name.endswith("-site") for one in some]
    rest = [one for name, some in found.items() if not name.endswith("-site") for one in some]
    told = [
        "# How good predictions are, cohort by cohort",
        f"Made by `{command}`.  Levels and measures are explained in [RESULTS.md](RESULTS.md).",
        by_cohort(results),
        "## Pooled",
        over_cohorts(results),
        "## Luck of the test part",
        of_luck(results),
    ]
    if any("predicted_by_part" in one for one in single.values()):
        told += ["## Agreement of the two parts of the source that theory is read from", of_agreement(single, results)]
    if found:
        together = {"all tables": sites + rest} | (
            {"phantoms' sites": sites, "all others": rest} if sites and rest else {}
        )
        told += ["## Gaps between two subgroups", of_gaps(found | together)]
    return "\n\n".join(told) + "\n"


def keep(table: xr.Dataset, path: Path) -> None:
    """The table in single precision, compressed."""
    small = table.assign({name: v.astype(np.float32) for name, v in table.data_vars.items() if v.dtype == np.float64})
    coding = {name: {"zlib": True, "complevel": 9, "shuffle": True} for name in small.data_vars if small[name].ndim}
    content = bytes(small.to_netcdf(engine="h5netcdf", encoding=coding))
    atomically(path, lambda file: file.write(content))


def main(options: Options) -> None:
    """Print the tables and save the scores."""
    paths = sorted(p for p in options.tables.glob("*.nc") if "check" not in p.stem and p.stem != "skill")
    if not paths:
        raise SystemExit(f"{options.tables}: no study tables; make them with simulations/3_development_study.py")
    paths = paths[:2] if options.quick else paths
    tables = {path.stem: studies.load(path) for path in paths}
    if options.keep:
        for name, table in tables.items():
            keep(table, studies.writable(options.keep) / f"{name}.nc")
    # one table a cohort, whatever its subgroups: those of everyone's AUC are the same
    once = {float(table["observed_auc"].sel(group="all").sum()): name for name, table in reversed(tables.items())}
    single = {name: tables[name] for name in sorted(once.values())}
    known = experience.shipped() if options.shipped else experience.gathered(list(single.values()))
    if options.keep and not options.shipped:
        keep(known, ROOT / "rafmodel" / "data" / "experience.nc")
    results = [scored(name, table, known, options.quick) for name, table in single.items()]
    command = f"python simulations/{Path(__file__).name}" + (
        f" --tables {WITNESS_TABLES} --shipped" if options.shipped else ""
    )
    page = written(tables, single, results, command)
    print(page, flush=True)
    whole = xr.concat([one.checked for one in results], "table", combine_attrs="drop").assign_coords(
        table=[one.cohort for one in results]
    )
    whole["luck"] = ("table", "part"), np.array([one.luck[:4] for one in results])
    over_all = pooled(results)
    whole["pooled"] = ("level", "pooled_measure"), np.array([over_all[str(level)] for level in whole["level"].values])
    whole = whole.assign_coords(part=list(Luck._fields[:4]), pooled_measure=["mae", "skill", "r", "r_corrected"])
    studies.save(whole, studies.writable(options.out) / "skill.nc")
    if options.keep:
        place = ROOT / "docs" / ("SKILL_ON_WITNESSES.md" if options.shipped else "SKILL.md")
        atomically(place, lambda file: file.write(page.encode()))
        keep(whole[["score", "reliability", "luck", "pooled"]], options.keep / "skill_check.nc")
        for one in results:
            if one.cohort == DRAWN:
                keep(one.checked, options.keep / f"{DRAWN}_check.nc")


if __name__ == "__main__":
    main(tyro.cli(Options))
