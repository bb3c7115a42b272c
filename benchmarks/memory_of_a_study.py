"""Does the peak memory of a study grow with its designs, shifts and seeds, or with its batch only?

    python benchmarks/memory_of_a_study.py

Runs small studies of the phantom by the command line, each in a process of its own that has more of one thing than the first, and
prints peak resident memory in MiB.  Compiled programs count; simulations run two at a time.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass

import tyro

FEW, MANY = (
    ("untrained", "contrastive+noise"),
    ("vicreg+noise", "contrastive+crop", "contrastive+rotation", "exemplar+all", "jigsaw", "masked"),
)


@dataclass(frozen=True)
class Options:
    """How much training."""

    steps: int = 20
    """optimiser steps"""


def peak(arguments: list[str]) -> float:
    """MiB of one study."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "rafmodel", "study", "--out", folder, *arguments]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {child.returncode}")
    return used.ru_maxrss / 1024


def main(options: Options) -> None:
    """Print a line a study."""
    steps = ["--steps", str(options.steps)]
    few, shift, one = ["--designs", *FEW], ["--shifts", "noise"], ["--seeds", "1"]
    studies = {
        "two designs, one shift, one seed": [*few, *shift, *one],
        "eight designs": ["--designs", *FEW, *MANY, *shift, *one],
        "all designs": [*shift, *one],
        "eight shifts": [*few, *one],
        "six seeds": [*few, *shift, "--seeds", "6"],
        "batch of 1,024 for 128": ["--designs", FEW[0], f"{FEW[1]}[batch=1024]", *shift, *one],
    }
    for name, arguments in studies.items():
        print(f"{name:36s}{peak([*arguments, *steps]):8.0f} MiB", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
