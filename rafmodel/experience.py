"""Experience: what the same designs came to on other cohorts, read beside the theory (levels L0x, L1x, L0+x).

Theory knows the cohort's own images and no training; other cohorts' studies know training and not these images.  Each misjudges
what makes a design stand out in a way of its own, so a design's effect is foreseen as the mean of the two, on the probit
scale; how hard a cell is stays theory's.  A design that was studied nowhere else is told by theory alone.
``simulations/4_how_good_are_predictions.py`` measures what each is worth.

Designs are told apart by proxy task and views: choices in brackets and other encoders differ from the design that was studied
as theory says, and their mean is moved as that design is.
"""

from collections.abc import Sequence
from importlib import resources

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.scipy.special import ndtr, ndtri

SHARE = 0.5  # of a design's effect that other cohorts tell; theory tells the rest
_EDGE = 0.02  # an AUC nearer to 0 or 1 is taken as this far away
_ONE = (("breastmnist", "busi"), ("chestmnist", "nih"))  # beginnings of names of cohorts that share images
_UNSTATED = ("", "not stated in the file")  # sources that say nothing
_SCALE = ("cohort", "design", "shift", "severity")


def shipped() -> xr.Dataset:
    """Experience that comes with the package: eleven cohorts, eighteen designs, eight shifts, three seeds of 400 steps."""
    with resources.as_file(resources.files("rafmodel") / "data" / "experience.nc") as place:
        return xr.load_dataset(place, engine="h5netcdf")


def gathered(studies: Sequence[xr.Dataset]) -> xr.Dataset:
    """Experience of some studies: ``auc`` of everyone (cohort, design, shift, severity), or Dice; nan where one lacks a design.

    Along ``cohort``: its name, ``source``, ``task`` and ``metric``.
    """
    one = [
        study[f"observed_{metric(study)}"].sel(group="all").mean("seed").reset_coords(drop=True) for study in studies
    ]
    whole = xr.concat(one, "cohort", join="outer").transpose(*_SCALE).rename("auc")
    names = {"cohort": [str(s.attrs.get("cohort", "")) for s in studies]}
    told = {"source": [str(s.attrs.get("source", "")) for s in studies], "task": [task(s) for s in studies]}
    told["metric"] = [metric(s) for s in studies]
    return whole.to_dataset().assign_coords(names | {name: ("cohort", values) for name, values in told.items()})


def metric(study: xr.Dataset) -> str:
    """What a study is judged by: ``auc`` or ``dice``."""
    return str(study.attrs.get("metric", "auc"))


def task(study: xr.Dataset) -> str:
    """What was asked of the images; tables of earlier versions do not say."""
    return str(study.attrs.get("task", "segmentation" if metric(study) == "dice" else "classification"))


def of_others(known: xr.Dataset, study: xr.Dataset) -> xr.Dataset:
    """The part of the experience that is of the study's task and shares no images with it.

    Passed over is a cohort whose name begins like the study's or the other way round (one may be made from the other), one known
    to share its images (``_ONE``), and one of the same stated source.  Other names for the same images are not noticed.
    """
    mine, source = str(study.attrs.get("cohort", "")), str(study.attrs.get("source", ""))
    rows = zip(*(known[name].values for name in ("cohort", "source", "task", "metric")), strict=True)
    apart = [
        not _related(mine, name)
        and (theirs != source or source in _UNSTATED)
        and (asked, judged) == (task(study), metric(study))
        for name, theirs, asked, judged in rows
    ]
    return known.isel(cohort=np.flatnonzero(apart))


def effects(known: xr.Dataset, study: xr.Dataset) -> np.ndarray:
    """Mean effect of each of the study's designs on other cohorts, (design, shift, severity), probit scale; nan: not known.

    In a cohort an effect is the outcome minus the mean over the designs that it shares with the study.
    """
    other, names = of_others(known, study), [studied_as(name) for name in study["design"].values]
    shared = [name for name in dict.fromkeys(names) if name in other["design"].values]
    seen = other["auc"].sel(design=shared).reindex(shift=study["shift"].values, severity=study["severity"].values)
    seen = xr.DataArray(probit(seen.values), seen.coords, seen.dims)
    apart = _mean(seen - _mean(seen, "design"), "cohort")
    return apart.reindex(design=names).transpose(*_SCALE[1:]).values


def studied_as(name: str) -> str:
    """A design's proxy task and views: its name without choices in brackets and without another encoder."""
    return str(name).partition("[")[0].partition("@")[0]


def expected(auc: np.ndarray, known: np.ndarray, names: Sequence[str], share: float = SHARE) -> np.ndarray:
    """AUC (design, shift, severity, ...) with a ``share`` of each design's effect from ``known`` (design, shift, severity).

    Subgroups, where there is a fourth axis that starts with everyone, are moved as everyone is.  Cells in which fewer than two
    designs are known both ways stay.
    """
    z = probit(auc)
    everyone = z if z.ndim == 3 else z[..., 0]
    move = share * (_centred(known, names) - _centred(np.where(np.isfinite(known), everyone, np.nan), names))
    move = np.nan_to_num(move).reshape(*move.shape, *[1] * (z.ndim - 3))
    return np.where(move == 0, auc, np.asarray(ndtr(ndtri(jnp.asarray(auc)) + move)))


def probit(auc: np.ndarray) -> np.ndarray:
    """Standard normal quantile of AUCs or Dice, kept a little away from 0 and 1."""
    return np.asarray(ndtri(jnp.clip(jnp.asarray(auc), _EDGE, 1 - _EDGE)))


def _related(one: str, other: str) -> bool:
    """Whether one of two names begins the other, or both are of cohorts that share images."""
    if not (one and other):
        return False
    return (
        one.startswith(other) or other.startswith(one) or any(one.startswith(f) and other.startswith(f) for f in _ONE)
    )


def _centred(z: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Mean over the rows of each proxy task and views, minus the mean over these; same shape."""
    kinds, which = np.unique([studied_as(name) for name in names], return_inverse=True)
    rows = xr.DataArray(z, dims=_SCALE[1:])
    kind = xr.concat([_mean(rows[which == i], "design") for i in range(len(kinds))], "kind")
    return (kind - _mean(kind, "kind"))[which].values


def _mean(values: xr.DataArray, over: str) -> xr.DataArray:
    """Mean of what is there; nan where nothing is."""
    n = values.notnull().sum(over)
    return values.sum(over) / n.where(n > 0)
