"""Where the paper's tables are, and how a figure script reads and saves."""

import sys
from pathlib import Path

import xarray as xr

PAPER = Path(__file__).resolve().parent
DATA, OUT = PAPER / "data", PAPER / "build"


def read(name: str) -> xr.Dataset:
    """A committed table; ends with one line that says how to make it where it is missing."""
    path = DATA / f"{name}.nc"
    if not path.is_file():
        sys.exit(f"{path}: missing; `git checkout {path}` brings it back, simulations 3 and 4 make it again")
    return xr.load_dataset(path, engine="h5netcdf")


def save(figure, name: str) -> None:
    """Figure as PDF and PNG in the build folder."""
    from rafmodel import canvas

    for kind in ("pdf", "png"):
        print(canvas.save(figure, OUT / f"{name}.{kind}"))
