"""Does a view law that contains a variability make the trained encoder robust to it, beyond seed noise?

For contrastive designs with crop-only views, with noise added to the views and with rotation added, prints the AUC under
the three strongest levels of noise and of rotation, its mean gain over crop-only and the spread of that gain over seeds:

    python simulations/2_do_views_buy_robustness.py STUDY.nc

Without a study file it simulates the three designs on the phantom.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
import xarray as xr

from rafmodel import study as studies
from rafmodel.cli import main

PLAIN = "contrastive+crop"
CLAIMS = (("contrastive+noise", "noise"), ("contrastive+rotation", "rotation"))


@dataclass(frozen=True)
class Options:
    """A finished study, or how to make one."""

    studies: tyro.conf.Positional[tuple[Path, ...]] = ()
    """study.nc files that hold the three designs and both shifts"""
    seeds: int = 3
    """simulations of each design, when one is made here"""
    out: Path = Path("runs/views")
    """folder for the study, when one is made here"""
    quick: bool = False
    """twenty steps only: shows that the script runs, not that the claim holds"""


def gains(table: xr.Dataset, design: str, shift: str) -> np.ndarray:
    """AUC of a design minus crop-only's, mean over the three strongest levels, one value a seed."""
    strong = table["observed_auc"].sel(group="all", shift=shift, severity=[3, 4, 5])
    return (strong.sel(design=design) - strong.sel(design=PLAIN)).mean("severity").values


def show(table: xr.Dataset) -> None:
    """The table of the claim, one line a view law."""
    print(f"{table.attrs['cohort']}: AUC at the three strongest levels")
    for design, shift in CLAIMS:
        strong = table["observed_auc"].sel(group="all", shift=shift, severity=[3, 4, 5]).mean("seed")
        gain = gains(table, design, shift)
        values = ", ".join(
            f"{name} {' '.join(f'{v:.3f}' for v in strong.sel(design=name).values)}" for name in (PLAIN, design)
        )
        spread = gain.std(ddof=1) if len(gain) > 1 else float("nan")
        print(f"  under {shift}: {values}; gain {gain.mean():+.3f}, s.d. over {len(gain)} seeds {spread:.3f}")


def ask(options: Options) -> None:
    """Show the given studies, or make one on the phantom and show it."""
    paths = options.studies
    if not paths:
        names = [PLAIN, *(design for design, _ in CLAIMS)]
        arguments = ["study", "--out", str(options.out), "--designs", *names, "--shifts", "noise", "rotation"]
        main([*arguments, "--seeds", str(options.seeds), *(["--steps", "20"] if options.quick else [])])
        paths = (options.out / "study.nc",)
    for path in paths:
        show(studies.load(path))


if __name__ == "__main__":
    ask(tyro.cli(Options, description=__doc__))
