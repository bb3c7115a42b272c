"""Core-seconds and memory of cells beside their estimate: where the rates in ``rafmodel.cost`` come from.

    python benchmarks/what_a_cell_costs.py --sides 32 64

Processor time is read, not the clock, so other programs disturb little.  Each cell is run twice, and the second run, with
everything compiled, is the one to compare; the first minus the second is what compiling took.
"""

import resource
import subprocess
import sys
import time
from dataclasses import dataclass, replace

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
    alone: bool = False
    """this process runs the first of each, and nothing else"""


def main(options: Options) -> None:
    """A process for each cell, since memory is read at its peak."""
    if options.alone:
        run(options.designs[0], options.sides[0], options)
        return
    print(
        f"{'design':28s}{'side':>5s}{'core-s':>8s}{'estimate':>9s}{'compiled':>9s}{'GB':>6s}{'estimate':>9s}",
        flush=True,
    )
    for side in options.sides:
        for name in options.designs:
            extra = ["--steps", str(options.steps), "--batch", str(options.batch), "--alone"]
            subprocess.run([sys.executable, __file__, "--designs", name, "--sides", str(side), *extra], check=True)


def run(name: str, side: int, options: Options) -> None:
    """One cell, its line of the table."""
    set_up_jax()
    jax.config.update("jax_enable_compilation_cache", False)
    images = phantom(jax.random.key(0), n_patients=400, size=side)
    [one] = (replace(d, batch=options.batch) for d in design.select([name], steps=options.steps))
    plan = Plan(images, None, (one,), variability.select(["noise", "rotation", "blur"]), 1)
    test, spent = cohorts.part(images, "test"), []
    for _ in range(2):
        start = time.process_time()
        simulate.deploy(plan.key(1, 0), images, test, one, plan.shifts)
        spent.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    foreseen, memory = cost.core_seconds(plan, one), cost.memory(plan, 1) / 1e9
    first, second = spent
    print(f"{name:28s}{side:5d}{second:8.1f}{foreseen:9.1f}{first - second:9.1f}{peak:6.2f}{memory:9.2f}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
