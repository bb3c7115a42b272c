"""Experience: what the same designs came to on other cohorts, read beside the theory (levels L0x, L1x, L0+x).

Theory knows the cohort's own images and no training; other cohorts' studies know training and not these images.  Each misjudges
what makes a design stand out in a way of its own, so a design's effect is foreseen as the mean of the two, on the probit
scale; how hard a cell is stays theory's, and so does how far apart designs lie on these images at all: what another cohort
saw counts in units of the spread that theory foresees there and here.  A design that was studied nowhere else is told by
theory alone.
``simulations/4_how_good_are_predictions.py`` measures what each is worth.

Designs are told apart by proxy task and views: choices in brackets and other encoders differ from the design that was studied
as theory says, and their mean is moved as that design is.
"""

from collections.abc import Sequence
from functools import cache, partial
from importlib import resources

import numpy as np
import xarray as xr
from scipy.special import ndtr, ndtri

from rafmodel import metrics
from rafmodel.choices import studied_as
from rafmodel.design import Design

STEPS = 400  # of the studies that experience is of, and that theory was checked on
SHARE = 0.5  # of a design's effect that other cohorts tell; theory tells the rest
_USUAL = 0.1  # spread of designs on the probit scale that counts as
_AS_MANY = 2  # so many more designs, so that a few do not decide
probit = partial(metrics.probit, edge=0.02)  # of AUCs or Dice
_ONE = (("breastmnist", "busi"), ("chestmnist", "nih"))  # beginnings of names of cohorts that share images
_UNSTATED = ("", "not stated in the file")  # sources that say nothing
_SCALE = ("cohort", "design", "shift", "severity")


def shipped() -> xr.Dataset:
    """Experience that comes with the package: eleven cohorts, eighteen designs, eight shifts, three seeds of STEPS steps."""
    with resources.as_file(resources.files("rafmodel") / "data" / "experience.nc") as place:
        return xr.load_dataset(place, engine="h5netcdf")


@cache
def _studied() -> tuple[frozenset[str], frozenset[str]]:
    """Names of designs and of shifts in the shipped experience, which theory was checked on."""
    known = shipped()
    return frozenset(map(str, known["design"].values)), frozenset(map(str, known["shift"].values))


def unstudied(design: Design, shifts: Sequence[str]) -> list[str]:
    """Which of a design's proxy task, views and training and of some shifts no study of the shipped experience has, in words.

    Training is steps times learning rate, the time that theory reads.
    """
    designs, seen = _studied()
    others, task = [name for name in shifts if name not in seen], studied_as(design.name)
    trained = design.steps * design.learning_rate
    found = {
        f"proxy task and views of {task} (checked: {len(designs)} designs of a plain study)": task not in designs,
        f"{design.steps} steps at learning rate {design.learning_rate:g} (checked: {STEPS} at {Design.learning_rate:g})": (
            design.steps > 0 and not np.isclose(trained, STEPS * Design.learning_rate)
        ),
        f"shift{'s' * (len(others) > 1)} {', '.join(others)} (checked: {', '.join(sorted(seen))})": bool(others),
    }
    return [why for why, so in found.items() if so]


def gathered(studies: Sequence[xr.Dataset]) -> xr.Dataset:
    """Experience of some studies: ``auc`` of everyone (cohort, design, shift, severity), or Dice; nan where one lacks a design.

    ``theory`` is what was foreseen of it (L0).  Along ``cohort``: its name, ``source``, ``task`` and ``metric``.
    """
    one = [
        xr.Dataset({"auc": _everyone(study, "observed").mean("seed"), "theory": _everyone(study, "predicted")})
        for study in studies
    ]
    whole = xr.concat(one, "cohort", join="outer").transpose(*_SCALE)
    names = {"cohort": [str(s.attrs.get("cohort", "")) for s in studies]}
    told = {"source": [str(s.attrs.get("source", "")) for s in studies], "task": [task(s) for s in studies]}
    told["metric"] = [metric(s) for s in studies]
    return whole.assign_coords(names | {name: ("cohort", values) for name, values in told.items()})


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


def effects(known: xr.Dataset, study: xr.Dataset, *, scaled: bool = True) -> np.ndarray:
    """Mean effect of each of the study's designs on other cohorts, (design, shift, severity), probit scale; nan: not known.

    In a cohort an effect is the outcome minus the mean over the designs that it shares with the study.
    scaled  times ``relative_spread``, which needs the study's predictions; else as they were observed
    """
    other, names = of_others(known, study), [studied_as(name) for name in study["design"].values]
    shared = [name for name in dict.fromkeys(names) if name in other["design"].values]
    there = other[["auc", "theory"]].sel(design=shared)
    there = there.reindex(shift=study["shift"].values, severity=study["severity"].values)
    there = there.map(lambda v: xr.DataArray(probit(v.values), v.coords, v.dims))
    apart = there["auc"] - _mean(there["auc"], "design")
    if scaled:
        here = _everyone(study, "predicted").transpose(*_SCALE[1:]).values
        here = np.stack([probit(here)[[name == one for one in names]].mean(0) for name in shared] or [here[:0]])
        apart = apart * relative_spread(here, there["theory"].transpose(*_SCALE).values)
    return _mean(apart, "cohort").reindex(design=names).transpose(*_SCALE[1:]).values


def relative_spread(here: np.ndarray, there: np.ndarray) -> float:
    """How much farther apart than on the other cohorts theory sees designs here: the ratio of root mean square effects.

    here (design, shift, severity), there (cohort, design, shift, severity): probits that theory foresees, of the same designs.
    Over the cells that are foreseen both here and there; 1 where there are none.  One ratio for all cohorts: one by one, those
    where theory is not believed, and sees no spread, would count most.
    """
    both = np.isfinite(here) & np.isfinite(there)
    if not both.any():
        return 1.0
    n = both.any((2, 3)).sum(1).max()
    effects = [np.where(both, z - _over(z, both, (1,)), 0)[both] for z in (np.broadcast_to(here, there.shape), there)]
    mine, theirs = (n * np.square(effect).mean() + _AS_MANY * _USUAL**2 for effect in effects)
    return float(np.sqrt(mine / theirs))


def expected(auc: np.ndarray, known: np.ndarray, names: Sequence[str], share: float = SHARE) -> np.ndarray:
    """AUC (design, shift, severity, ...) with a ``share`` of each design's effect from ``known`` (design, shift, severity).

    Subgroups, where there is a fourth axis that starts with everyone, are moved as everyone is.  Cells in which fewer than two
    designs are known both ways stay.
    """
    z = probit(auc)
    everyone = z if z.ndim == 3 else z[..., 0]
    move = share * (_centred(known, names) - _centred(np.where(np.isfinite(known), everyone, np.nan), names))
    move = np.nan_to_num(move).reshape(*move.shape, *[1] * (z.ndim - 3))
    return np.where(move == 0, auc, ndtr(ndtri(auc) + move))


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


def _everyone(study: xr.Dataset, what: str) -> xr.DataArray:
    """Observed or predicted metric of everyone."""
    return study[f"{what}_{metric(study)}"].sel(group="all").reset_coords(drop=True)


def _over(values: np.ndarray, there: np.ndarray, axis: tuple[int, ...]) -> np.ndarray:
    """Mean over axes, which stay with length 1, of what is there; 0 where nothing is."""
    return np.where(there, values, 0).sum(axis, keepdims=True) / np.maximum(there.sum(axis, keepdims=True), 1)


def _mean(values: xr.DataArray, over: str) -> xr.DataArray:
    """Mean of what is there; nan where nothing is."""
    n = values.notnull().sum(over)
    return values.sum(over) / n.where(n > 0)
