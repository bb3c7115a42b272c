"""Does a view law that contains a variability make the trained encoder robust to it, beyond seed noise?

For contrastive designs with crop-only views, with noise added to the views and with rotation added: AUC of the first under the
three strongest levels of noise and of rotation, and what the others gain on it, mean ± s.d. over seeds.

    python simulations/2_do_views_buy_robustness.py STUDY.nc ...

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


def row(name: str, table: xr.Dataset) -> str:
    """AUC of crop-only views and the gain of each view law, mean ± s.d. over seeds, as a row in Markdown."""
    fields = [name]
    for design, shift in CLAIMS:
        gain = gains(table, design, shift)
        plain = float(table["observed_auc"].sel(group="all", shift=shift, severity=[3, 4, 5], design=PLAIN).mean())
        spread = gain.std(ddof=1) if len(gain) > 1 else float("nan")
        fields += [f"{plain:.3f}", f"{gain.mean():+.3f} ± {spread:.3f}"]
    return "| " + " | ".join(fields) + " |"


def ask(options: Options) -> None:
    """A row for each given study, or for one made on the phantom."""
    paths = options.studies
    if not paths:
        names = [PLAIN, *(design for design, _ in CLAIMS)]
        arguments = ["study", "--out", str(options.out), "--designs", *names, "--shifts", "noise", "rotation"]
        main([*arguments, "--seeds", str(options.seeds), *(["--steps", "20"] if options.quick else [])])
        paths = (options.out / "study.nc",)
    heads = [f"{what} {shift}" for _, shift in CLAIMS for what in ("crop-only under", "gain by views with")]
    print("| table | " + " | ".join(heads) + " |\n" + "|---" * (1 + len(heads)) + "|")
    for path in paths:
        print(row(path.stem, studies.load(path)), flush=True)


if __name__ == "__main__":
    ask(tyro.cli(Options, description=__doc__))
