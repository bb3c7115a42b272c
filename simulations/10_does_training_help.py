"""Does each proxy task, and each encoder, end in a better representation than the untrained encoder it started from?

    python simulations/10_does_training_help.py --out runs/training

One design a proxy task on the plain encoder, and the contrastive task on every encoder, on development cohorts.  A design and its
untrained twin share labels, probes, shifts and starting weights in each seed, so the table holds paired gains: AUC on clean
images and its mean over the shifted cells.  Resumes where it stopped.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import tyro

from rafmodel import architectures, design, phantoms, running, simulate, variability
from rafmodel import cohort as cohorts
from rafmodel.cohort import Cohort
from rafmodel.console import progress, set_up_jax
from rafmodel.design import Design
from rafmodel.files import atomically
from rafmodel.simulate import Deployment

TASKS = (
    *("supervised+crop", "contrastive+crop", "vicreg+crop", "barlow+crop", "byol+crop"),
    *("exemplar+all", "cpc", "rotation", "jigsaw", "location", "masked"),
)
ENCODERS = tuple(name for name in architectures.ARCHITECTURES if name != "plain")
SHIFTS = ("noise", "rotation")


@dataclass(frozen=True)
class Options:
    """Which cohorts, and how much training."""

    cohorts: tuple[str, ...] = ("breastmnist", "pneumoniamnist")
    """names inside RAFMODEL_DATA, or npz files, of images or volumes"""
    seeds: int = 3
    """repetitions, each with its own start, labels and images"""
    steps: int = 200
    """optimiser steps"""
    batch: int = 64
    """images a step"""
    out: Path = Path("runs/training")
    """folder for the cells and the table TRAINING.md"""
    quick: bool = False
    """three designs, ten steps, on the phantom: shows that the script runs"""


def designs(options: Options, cohort: Cohort) -> tuple[Design, ...]:
    """The trained designs that fit the cohort, each after the untrained one of its encoder."""
    names = (
        ("supervised+crop", "byol+crop@p4") if options.quick else (*TASKS, *(f"contrastive+crop@{e}" for e in ENCODERS))
    )
    dims = cohort.image.ndim - 2
    chosen = [d for d in design.select(names, steps=10 if options.quick else options.steps) if dims in d.encoder.dims]
    twins = {twin(d): untrained(d) for d in chosen}
    return (*twins.values(), *(replace(d, batch=options.batch) for d in chosen))


def twin(trained: Design) -> str:
    """Name of the untrained design with the same encoder."""
    return f"untrained@{trained.encoder.name}"


def untrained(trained: Design) -> Design:
    """The design that its training starts from."""
    return replace(design.select(["untrained"])[0], name=twin(trained), encoder=trained.encoder, widths=trained.widths)


def scored(cell: Deployment, test: Cohort) -> tuple[float, float]:
    """AUC on clean images, and its mean over all shifted cells."""
    auc = simulate.score(cell, test, None).auc[..., 0]
    return float(auc[0, 0]), float(auc[:, 1:].mean())


def told(values: np.ndarray) -> str:
    """Mean and s.d. over the seeds that ended well."""
    known = values[np.isfinite(values)]
    spread = f" ± {known.std(ddof=1):.3f}" if len(known) > 1 else ""
    return f"{known.mean():+.3f}{spread}" if len(known) else "–"


def rows(options: Options, cohort: Cohort) -> list[str]:
    """The table's rows for one cohort."""
    chosen = designs(options, cohort)
    plan = running.Plan(cohort, None, chosen, variability.select(SHIFTS), 1 if options.quick else options.seeds)
    found = running.simulated(plan, options.out / "cells", progress())
    test, by_name, lines = cohorts.part(cohort, "test"), {}, []
    for one, cells in zip(chosen, found, strict=True):
        by_name[one.name] = np.array([scored(cell, test) for cell in cells])
        if not one.steps:
            continue
        gain = by_name[one.name] - by_name[twin(one)]
        ranks, failed = [c.rank for c in cells if np.isfinite(c.rank)], [c.failed for c in cells if c.failed]
        lines.append(
            f"| {cohort.name} | {one.name} | {by_name[twin(one)][:, 0].mean():.3f} | {told(gain[:, 0])} | {told(gain[:, 1])} "
            f"| {np.mean(ranks or np.nan):.1f} | {', '.join(failed) or 'none'} |"
        )
        print(lines[-1], flush=True)
    return lines


def main(options: Options) -> None:
    """Train, compare, print and keep."""
    set_up_jax()
    names = ("phantom",) if options.quick else options.cohorts
    found = [phantoms.phantom(jax.random.key(0)) if name == "phantom" else cohorts.load(name) for name in names]
    head = "| cohort | design | untrained AUC | gain, clean | gain, shifted | effective rank | failed |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for cohort in found:
        lines += rows(options, cohort)
    asked = " ".join(["python simulations/10_does_training_help.py", *(["--quick"] if options.quick else [])])
    about = (
        f"Made by `{asked}`: {options.steps} steps of {options.batch} images, {options.seeds} seeds; mean ± s.d. over seeds "
        f"of the AUC's gain over the untrained encoder of the same start; shifted: mean over five levels of "
        f"{' and '.join(SHIFTS)}."
    )
    text = "\n".join(["# Does training help?\n", about, "", *lines, ""])
    atomically(options.out / "TRAINING.md", lambda file: file.write(text.encode()))
    print(f"table: {options.out / 'TRAINING.md'}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
