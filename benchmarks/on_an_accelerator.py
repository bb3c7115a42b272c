"""Do cells end the same on an accelerator as on the processor beside it, and in how much less time?

    python benchmarks/on_an_accelerator.py --cohort pneumoniamnist --steps 400
    python benchmarks/on_an_accelerator.py --cohort adrenalmnist3d --designs contrastive+noise masked --steps 100

Each backend runs the same cells, a design at a time in a process of its own: twice from one key, so that the second run has
everything compiled, and once from another.  Columns: seconds of the second run on either, their ratio, what the first took beyond
it, and the AUC's mean absolute difference, over shifts and severities, between backends, between the two runs of one key on the
accelerator, and between two keys.  Rounding differs between backends (products of float32 are rounded to TF32 on a GPU), and
training amplifies it: the same, here, is a difference between backends of no more than that between keys.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np
import tyro

from rafmodel import cohort as cohorts
from rafmodel import design, simulate, variability
from rafmodel.console import set_up_jax
from rafmodel.phantoms import phantom

DESIGNS = (
    "supervised",
    "contrastive+crop",
    "vicreg+noise",
    "rotation",
    "jigsaw",
    "cpc",
    "masked",
    "contrastive+crop@residual",
    "contrastive+crop@vit",
    "contrastive+crop@residual:base",
)


@dataclass(frozen=True)
class Options:
    """Which cells."""

    designs: tuple[str, ...] = DESIGNS
    """learning designs"""
    steps: int = 400
    """optimiser steps of trained ones"""
    cohort: str = ""
    """in place of a phantom of 400 patients"""
    size: int | None = None
    """pixels a side to which its images are averaged"""
    shifts: tuple[str, ...] = ("noise", "rotation", "blur")
    """variabilities at deployment"""
    alone: str = ""
    """this process runs one design and keeps what came out in this file"""


def main(options: Options) -> None:
    """A process for each design and backend, a line for each design."""
    if options.alone:
        run(options, Path(options.alone))
        return
    print(f"{'':32s}{'seconds on':>20s}{'':>7s}{'to compile':>20s}{'AUC differs between':>30s}")
    print(
        f"{'':32s}{'cpu':>10s}{'acc.':>10s}{'ratio':>7s}{'cpu':>10s}{'acc.':>10s}{'backends':>10s}{'runs':>10s}{'keys':>10s}"
    )
    for name in options.designs:
        slow, fast = (on(backend, name) for backend in ("cpu", ""))
        clock = "".join(f"{x['seconds'][1]:10.1f}" for x in (slow, fast))
        compiled = "".join(f"{x['seconds'][0] - x['seconds'][1]:10.1f}" for x in (slow, fast))
        apart = (fast["auc"][1] - slow["auc"][1], fast["auc"][1] - fast["auc"][0], slow["auc"][2] - slow["auc"][1])
        told = "".join(f"{np.abs(x).mean():10.4f}" for x in apart)
        print(f"{name:32s}{clock}{slow['seconds'][1] / fast['seconds'][1]:7.1f}{compiled}{told}", flush=True)


def on(platform: str, name: str) -> dict[str, np.ndarray]:
    """Seconds and AUC of a design's three runs on a platform; '': the one that JAX finds."""
    with TemporaryDirectory() as folder:
        place = Path(folder, "runs.npz")
        environment = os.environ | ({"JAX_PLATFORMS": platform} if platform else {})
        last = ["--designs", name, "--alone", str(place)]  # of an option named twice the last counts
        subprocess.run([sys.executable, __file__, *sys.argv[1:], *last], check=True, env=environment)
        return dict(np.load(place))


def run(options: Options, place: Path) -> None:
    """A design's three runs on the backend that JAX finds."""
    set_up_jax()
    jax.config.update("jax_enable_compilation_cache", False)
    size = {"size": options.size} if options.size else {}
    images = cohorts.load(options.cohort, **size) if options.cohort else phantom(jax.random.key(0), n_patients=400)
    test, shifts = cohorts.part(images, "test"), variability.select(options.shifts)
    [one] = design.select(options.designs, steps=options.steps)
    seconds, auc = [], []
    for seed in (0, 0, 1):
        start = time.perf_counter()
        deployed = simulate.deploy(jax.random.key(seed), images, test, one, shifts)
        seconds.append(time.perf_counter() - start)
        auc.append(simulate.score(deployed, test, None).auc)
    np.savez(place, seconds=seconds, auc=auc)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
