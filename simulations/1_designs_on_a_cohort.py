"""Which learning designs keep their performance on a cohort whose images vary, and was it foreseen?

Runs the whole study on one cohort and keeps the two small tables that the paper reads:

    python simulations/1_designs_on_a_cohort.py --cohort PATH/pneumoniamnist.npz --out paper/data

writes ``OUT/NAME.nc`` (the study) and ``OUT/NAME_check.nc`` (held-out predictions).  ``--quick`` takes three designs, two
shifts and a few steps.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import tyro

from rafmodel.cli import main

QUICK = [
    "--designs",
    "untrained",
    "contrastive+crop",
    "contrastive+noise",
    "supervised",
    "--shifts",
    "noise",
    "--steps",
    "20",
]


@dataclass(frozen=True)
class Options:
    """Where the images come from and where the tables go."""

    cohort: str | None = None
    """npz file; default: the phantom"""
    group: str | None = None
    """attribute that names the subgroups"""
    seeds: int = 2
    """simulations of each design"""
    out: Path = Path("runs/tables")
    """folder for the reduced tables; the whole run is kept in its subfolder ``whole``"""
    quick: bool = False
    """a few designs, one shift, twenty steps"""


def ask(options: Options) -> None:
    """The study, then its two tables under the cohort's name."""
    name = Path(options.cohort).stem if options.cohort else "phantom"
    name += f"-{options.group}" if options.group else ""
    whole = options.out / "whole" / name
    arguments = ["study", "--out", str(whole), "--seeds", str(options.seeds), *(QUICK if options.quick else [])]
    arguments += ["--cohort", options.cohort] if options.cohort else []
    arguments += ["--group", options.group] if options.group else []
    main(arguments)
    shutil.copyfile(whole / "study.nc", options.out / f"{name}.nc")
    if (whole / "check.nc").exists():
        shutil.copyfile(whole / "check.nc", options.out / f"{name}_check.nc")


if __name__ == "__main__":
    ask(tyro.cli(Options, description=__doc__))
