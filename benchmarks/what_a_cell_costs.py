"""Core-seconds and memory of cells beside their estimate: where the rates in ``rafmodel.cost`` come from.

    python benchmarks/what_a_cell_costs.py --sides 32 64
    python benchmarks/what_a_cell_costs.py --cohort pneumoniamnist --sides 28 --designs contrastive+crop --steps 400 \
        --shifts gain gamma rotation noise blur bias spike crop

Processor time is read, not the clock, so other programs disturb little.  Each cell is run twice, and the second run, with
everything compiled, is the one to compare; the first minus the second is what compiling took.  ``scored`` is the share of the
second that scoring images under all shifts takes, those of the test part and the source images kept aside.
"""

import resource
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import partial

import jax
import tyro

from rafmodel import cohort as cohorts
from rafmodel import cost, design, simulate, variability
from rafmodel.console import set_up_jax
from rafmodel.phantoms import phantom
from rafmodel.running import Plan

DESIGNS = (
    "untrained",
    "supervised",
    "supervised+crop",
    "contrastive+crop",
    "contrastive+all",
    "masked",
    "contrastive+crop@residual",
)


@dataclass(frozen=True)
class Options:
    """Which cells."""

    sides: tuple[int, ...] = (32, 64)
    """pixels a side"""
    designs: tuple[str, ...] = DESIGNS
    """learning designs"""
    steps: int = 50
    """optimiser steps of trained ones"""
    batch: int = 128
    """images a step"""
    cohort: str = ""
    """in place of a phantom of 400 patients"""
    shifts: tuple[str, ...] = ("noise", "rotation", "blur")
    """variabilities at deployment"""
    alone: bool = False
    """this process runs the first of each, and nothing else"""


def main(options: Options) -> None:
    """A process for each cell, since memory is read at its peak."""
    if options.alone:
        run(options.designs[0], options.sides[0], options)
        return
    print(
        f"{'design':28s}{'side':>5s}{'core-s':>8s}{'estimate':>9s}{'scored':>8s}{'compiled':>9s}{'GB':>6s}{'estimate':>9s}",
        flush=True,
    )
    for side in options.sides:
        for name in options.designs:
            extra = [
                "--steps",
                str(options.steps),
                "--batch",
                str(options.batch),
                "--cohort",
                options.cohort,
                "--alone",
            ]
            extra += ["--shifts", *options.shifts]
            subprocess.run([sys.executable, __file__, "--designs", name, "--sides", str(side), *extra], check=True)


def run(name: str, side: int, options: Options) -> None:
    """One cell, its line of the table."""
    set_up_jax()
    jax.config.update("jax_enable_compilation_cache", False)
    load = (
        partial(cohorts.load, options.cohort) if options.cohort else partial(phantom, jax.random.key(0), n_patients=400)
    )
    images = load(size=side)
    [one] = (replace(d, batch=options.batch) for d in design.select([name], steps=options.steps))
    plan = Plan(images, None, (one,), variability.select(options.shifts), 1)
    test, spent, scored = cohorts.part(images, "test"), [], []
    under = simulate.scores_under

    def timed(*given):
        start = time.process_time()
        found = under(*given)
        scored.append(time.process_time() - start)
        return found

    simulate.scores_under = timed
    for _ in range(2):
        start = time.process_time()
        simulate.deploy(plan.key(1, 0), images, test, one, plan.shifts)
        spent.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    foreseen, memory = cost.core_seconds(plan, one), cost.memory(plan, 1) / 1e9
    first, second = spent
    share = sum(scored[len(scored) // 2 :]) / second
    told = f"{second:8.1f}{foreseen:9.1f}{share:8.1%}{first - second:9.1f}{peak:6.2f}{memory:9.2f}"
    print(f"{name:28s}{side:5d}{told}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
