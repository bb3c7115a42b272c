"""RAF of two proxy tasks on two tasks, segmentation and classification, on a real cohort and on both use-case phantoms.

    python simulations/12_raf_of_proxy_tasks.py

Each cohort is studied twice with the same images, subgroups, shifts and designs: once to tell cases from controls, judged by
AUC, and once to tell pixels of the structure from all others, judged by Dice.  The untrained encoder stands beside the two
proxy tasks.  Resumes where it stopped.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import jax
import numpy as np
import tyro
import xarray as xr

from rafmodel import cohort as cohorts
from rafmodel import design, imbalance, masks, metrics, running, variability
from rafmodel import study as studies
from rafmodel import task as tasks
from rafmodel.airways import lung_airways
from rafmodel.canvas import FAMILIES, family, grid, handle, legend, save, style
from rafmodel.cohort import Cohort
from rafmodel.console import progress, set_up_jax
from rafmodel.files import atomically
from rafmodel.ultrasound import cardiac_ultrasound

DESIGNS = ("untrained", "contrastive+noise", "rotation")
SHIFTS = ("noise", "gain", "rotation")
PARTS = metrics.RAF._fields[:4]


@dataclass(frozen=True)
class Source:
    """A cohort, the attribute of its subgroups, and the classes of its masks that are to be segmented.

    load  ``(size, n_patients) -> cohort``; n_patients is of phantoms only
    """

    name: str
    group: str
    foreground: tuple[int, ...]
    load: Callable[[int, int], Cohort]


def sunnybrook(size: int, n_patients: int) -> Cohort:
    """Cine MR of 45 hearts: failing against not, and the left ventricle.

    Patients are dealt anew, as in the development study: no woman of the cohort's own test part has a failing heart.
    """
    del n_patients
    failing = ["Heart failure with infarct", "Heart failure without infarct"]
    hearts = cohorts.load("sunnybrook_cmr", label="pathology", positive=failing, size=size)
    return imbalance.dealt(hearts, jax.random.key(0), (0.4, 0.15, 0.45), attribute="sex")


SOURCES = (
    Source("sunnybrook_cmr", "sex", (1,), sunnybrook),
    Source("lung-airways", "dose", (1, 2), lambda size, n: lung_airways(jax.random.key(0), n_patients=n, size=size)),
    Source(
        "cardiac-ultrasound",
        "quality",
        (1,),
        lambda size, n: cardiac_ultrasound(jax.random.key(0), n_patients=n, size=size),
    ),
)


@dataclass(frozen=True)
class Options:
    """How much to run."""

    size: int = 32
    """side of the images in pixels"""
    n_patients: int = 500
    """patients of each phantom, four images each"""
    seeds: int = 2
    """repetitions of each simulation"""
    steps: int = 100
    """optimiser steps"""
    batch: int = 64
    """images a step"""
    head: str = "probe"
    """how pixels are scored: probe, decoder or tuned"""
    out: Path = Path("runs/raf_of_proxy_tasks")
    """folder of cells, tables, RAF_OF_PROXY_TASKS.md and raf_of_proxy_tasks.png"""
    quick: bool = False
    """phantoms of 40 patients at 32 pixels, two designs, one shift, one seed of five steps: shows that the script runs"""


def plans(options: Options) -> dict[tuple[str, str], studies.Plan]:
    """What to study, by cohort and task."""
    found = {}
    chosen = design.select(DESIGNS[1:] if options.quick else DESIGNS, steps=options.steps)
    chosen = tuple(replace(one, batch=options.batch) for one in chosen)
    shifts = variability.select(SHIFTS[:1] if options.quick else SHIFTS)
    for source in SOURCES[1:] if options.quick else SOURCES:
        cohort = source.load(options.size, options.n_patients)
        with_masks, asked = masks.segmented(cohort, source.foreground, options.head)
        both = {
            "classification": (cohort, tasks.CLASSIFICATION),
            "segmentation": (with_masks, tasks.segmentation(asked, with_masks)),
        }
        for name, (images, task) in both.items():
            fitted = design.fitted(chosen, images, of_pixels=name == "segmentation")
            found[source.name, name] = studies.Plan(images, source.group, fitted, shifts, options.seeds, 0, task)
    return found


def told(value: float) -> str:
    """Two digits, or a dash for what has no value."""
    return f"{value:.2f}" if np.isfinite(value) else "–"


def interval(one: xr.Dataset, part: str) -> str:
    """Seed mean of a part of RAF with its 95 % interval."""
    low, high = (told(float(v)) for v in one[f"{part}_observed_interval"].values)
    return f"{told(float(one[f'{part}_observed'].mean('seed')))} ({low} to {high})"


def rows(cohort: str, task: str, table: xr.Dataset) -> list[str]:
    """The study's lines in the report: each part with its interval, and RAF as it was foreseen."""
    lines, metric = [], table.attrs["metric"]
    for name in table["design"].values:
        one = table.sel(design=name)
        clean = told(float(one[f"observed_{metric}"].sel(group="all", severity=0).mean()))
        cells = " | ".join(interval(one, part) for part in PARTS)
        foreseen = told(float(one["raf_predicted"]))
        lines.append(f"| {cohort} | {task} | {name} | {metrics.NAMES[metric]} {clean} | {cells} | {foreseen} |")
    return lines


def errors(cohort: str, task: str, table: xr.Dataset) -> str:
    """The study's line in the table of forecasts: mean absolute error over shifted cells, beside the other designs' mean."""
    cells, metric = table.sel(group="all", severity=slice(1, None)), table.attrs["metric"]
    observed = cells[f"observed_{metric}"].mean("seed")
    others = (observed.sum("design") - observed) / (observed.sizes["design"] - 1)
    mae = [float(abs(told - observed).mean()) for told in (cells[f"predicted_{metric}"], others)]
    counts = " | ".join(" / ".join(map(str, table[name].values)) for name in ("n_case", "n_control"))
    groups = ", ".join(map(str, table["group"].values))
    return f"| {cohort} | {task} | {groups} | {counts} | {metrics.NAMES[metric]} | {mae[0]:.3f} | {mae[1]:.3f} |"


def draw(tables: dict[tuple[str, str], xr.Dataset], path: Path) -> None:
    """RAF of each design with its interval, a panel a cohort and task; open: foreseen."""
    with style():
        figure, axes = grid(len(tables), 2, width=7.2, height=1.5, sharex=True)
        for one, ((cohort, task), table) in zip(axes, tables.items(), strict=True):
            by_design(one, table, "raf")
            one.set(title=f"{cohort}, {task}", xlim=(0, 1))
        for one in axes[-2:]:
            one.set_xlabel("RAF")
        key(figure)
        save(figure, path)


def by_design(axes, table: xr.Dataset, part: str) -> None:
    """A part of RAF of each design with its interval, a row a design; open: foreseen."""
    names = [str(name) for name in table["design"].values]
    for y, name in enumerate(names):
        row, (colour, marker) = table.sel(design=name), FAMILIES[family(name)]
        axes.plot(row[f"{part}_observed_interval"].values, [y, y], color=colour)
        axes.plot(float(row[f"{part}_observed"].mean("seed")), y, marker, color=colour, ms=6)
        axes.plot(float(row[f"{part}_predicted"]), y, marker, mfc="white", mec=colour, ms=6)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)


def key(figure) -> None:
    """What filled and open marks are."""
    grey = {"color": "#555555", "marker": "o"}
    legend(figure, [handle("observed, 95 % interval", **grey), handle("predicted (L0)", **grey, mfc="white")])


def ruled(head: str) -> str:
    """The line below the head of a table."""
    return "|" + "---|" * (head.count("|") - 1)


def asked(options: Options) -> str:
    """The command without the folder that it writes to."""
    said = [
        f"--{f.name.replace('_', '-')}" + ("" if f.name == "quick" else f" {getattr(options, f.name)}")
        for f in fields(options)
        if f.name != "out" and getattr(options, f.name) != f.default
    ]
    return " ".join(["python simulations/12_raf_of_proxy_tasks.py", *said])


def studied(plan: studies.Plan, path: Path, cells: Path, command: str) -> xr.Dataset:
    """The study's table, read if the same command has made it already."""
    if path.exists() and (table := studies.load(path)).attrs["command"] == command:
        return table
    forecast = studies.predicted(plan, progress())
    table = studies.assemble(plan, forecast, running.simulated(plan, cells, progress()), command)
    studies.save(table, path)
    return table


def main(options: Options) -> None:
    """Study, tabulate, draw."""
    set_up_jax()
    command = asked(options)
    if options.quick:
        options = replace(options, size=32, n_patients=40, seeds=1, steps=5, batch=16)
    out, tables, lines = studies.writable(options.out), {}, []
    for (cohort, task), plan in plans(options).items():
        tables[cohort, task] = table = studied(plan, out / f"{cohort}-{task}.nc", out / "cells", command)
        lines += rows(cohort, task, table)
        print("\n".join(lines[-len(plan.designs) :]), flush=True)
    parts = " | ".join({"raf": "RAF"}.get(part, part) for part in PARTS)
    head = f"| cohort | task | design | clean | {parts} | RAF, predicted |"
    about = (
        f"Made by `{command}`: {options.steps} steps of {options.batch} images of {options.size} pixels a side, "
        f"{options.seeds} seeds, five levels of {', '.join(s.name for s in plan.shifts)}. Seed mean with its 95 % bootstrap "
        f"interval over patients, then images; of a segmentation AUC is replaced by Dice above that of calling every pixel "
        f"foreground, and each pixel is scored by a {options.head} on dense features. Subgroups: "
        f"{', '.join(f'{source.group} of {source.name}' for source in SOURCES)}."
    )
    second = "| cohort | task | groups | cases | controls | metric | MAE of theory | MAE of the other designs' mean |"
    text = [
        *("# RAF of proxy tasks on two tasks\n", about, "\n![RAF by design](raf_of_proxy_tasks.png)\n"),
        *(head, ruled(head), *lines),
        "\nTest images behind it (of a segmentation: with pixels of the structure, and of the rest), and how far the metric "
        "under shift was foreseen before training, over shifted cells:\n",
        *(second, ruled(second), *(errors(*which, table) for which, table in tables.items()), ""),
    ]
    atomically(out / "RAF_OF_PROXY_TASKS.md", lambda file: file.write("\n".join(text).encode()))
    draw(tables, out / "raf_of_proxy_tasks.png")
    print(f"table:  {out / 'RAF_OF_PROXY_TASKS.md'}\nfigure: {out / 'raf_of_proxy_tasks.png'}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
