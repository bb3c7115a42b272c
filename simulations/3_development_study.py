"""On which cohorts and groups are predictions developed, and what was observed there?

Every design under every shift, three seeds of 400 steps, on eleven development cohorts.  One command makes or continues it; the
six that their experience was tried on are made by name, in a folder of their own, so that they do not become experience:

    python simulations/3_development_study.py --out runs/development      (1 h 49 min on two cores)
    python simulations/3_development_study.py --out runs/witnesses --only nuclei-pixels adrenal-flattened retina-pixels
    python simulations/3_development_study.py --out runs/witnesses --only hippocampus-pixels hannover-icu nih-view

Cells that are done are read again, so a kill loses at most one.  Each cohort and group ends in ``OUT/NAME.nc``, a study table;
``simulations/4_how_good_are_predictions.py`` reads them.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import tyro

from rafmodel import cohort as cohorts
from rafmodel import design, experience, imbalance, masks, running, variability
from rafmodel import study as studies
from rafmodel.cohort import Cohort
from rafmodel.console import keep_programs
from rafmodel.files import atomically
from rafmodel.phantoms import named, phantom

FAILURE = ("Heart failure with infarct", "Heart failure without infarct")


@dataclass(frozen=True)
class Source:
    """A development cohort: how to get it, and the attributes whose subgroups are scored (None: no subgroups)."""

    name: str
    load: Callable[[], Cohort]
    groups: tuple[str | None, ...] = (None,)


SHARES = (0.4, 0.15, 0.45)  # of patients


def _dealt(attribute: str, name: str, **contrast) -> Cohort:
    """Patients dealt anew, half of each subgroup to the test part: the cohorts' own ones are too small to tell anything.

    They hold 10 patients with an effusion, 5 images of cardiomegaly and 8 hearts; these hold 24, 43 and 20.
    """
    return imbalance.dealt(cohorts.load(name, size=32, **contrast), jax.random.key(0), SHARES, attribute=attribute)


def _pixels(name: str, each: int, **contrast) -> Cohort:
    """Pixels of a structure and ``each`` beside it in every image, as a dense linear probe sees them."""
    return masks.around_pixels(cohorts.load(name, **contrast), jax.random.key(0), side=32, each=each)


def _flattened(name: str) -> Cohort:
    """Volumes as pictures: the mean along their first axis, as a radiograph has it."""
    whole = cohorts.load(name)
    return replace(whole, image=cohorts.pixels(whole).mean(1), name=f"{name}_flattened")


def _slices(name: str) -> Cohort:
    """Volumes and masks as pictures: their middle slice along the first axis."""
    whole = cohorts.load(name)
    middle = whole.image.shape[1] // 2
    assert whole.mask is not None
    return replace(whole, image=cohorts.pixels(whole)[:, middle], mask=whole.mask[:, middle], name=f"{name}_slices")


def _pixels_of_slices(name: str) -> Cohort:
    """Pixels of a structure and one beside it in every middle slice."""
    return masks.around_pixels(_slices(name), jax.random.key(0), side=32, each=1)


_nih = partial(_dealt, "sex", "nih_cxr1000", label="findings")

SOURCES = (
    Source("pneumoniamnist", partial(cohorts.load, "pneumoniamnist")),
    Source("sunnybrook", partial(_dealt, "sex", "sunnybrook_cmr", label="pathology", positive=FAILURE), ("sex",)),
    Source("nih-cardiomegaly", partial(_nih, positive=["Cardiomegaly"]), ("sex", "view")),
    Source("phantom", lambda: phantom(jax.random.key(0)), ("site", "sex")),
    Source("breastmnist", partial(cohorts.load, "breastmnist")),
    Source("nih-effusion", partial(_nih, positive=["Effusion"]), ("sex", "view")),
    Source("sunnybrook-pixels", partial(_pixels, "sunnybrook_cmr", 2, label="pathology", positive=FAILURE), ("sex",)),
    Source("phantom-rare", lambda: phantom(jax.random.key(1), lesion=0.5, prevalence=0.2), ("site", "sex")),
    Source("cardiac-ultrasound", partial(named, "cardiac-ultrasound", jax.random.key(2), size=32), ("quality", "sex")),
    # witnesses: foreseen before anyone had looked at what is observed there
    Source("lung-airways", partial(named, "lung-airways", jax.random.key(3), size=32), ("dose", "sex")),
    Source("nih-sex", partial(_dealt, "view", "nih_cxr1000", label="sex", positive=["F"]), ("view",)),
)
# witnesses of experience: foreseen from the eleven above, before anyone had looked at what is observed there
APART = (
    Source("nuclei-pixels", partial(_pixels, "nuclei_dsb2018", 1)),
    Source("adrenal-flattened", partial(_flattened, "adrenalmnist3d")),
    Source("retina-pixels", partial(_pixels, "retina_vessels", 8)),
    # of experience in units of the spread that theory foresees
    Source("hippocampus-pixels", partial(_pixels_of_slices, "msd_hippocampus3d")),
    Source("hannover-icu", partial(_dealt, "sex", "hannover_cxr", label="icu_ever"), ("sex",)),
    Source("nih-view", partial(_dealt, "sex", "nih_cxr1000", label="view", positive=["AP"]), ("sex",)),
)


@dataclass(frozen=True)
class Options:
    """What to run."""

    out: Path = Path("runs/development")
    """folder for cells, tables and timings"""
    only: tuple[str, ...] = ()
    """names of some of the cohorts; the eleven without it"""
    seeds: int = 3
    """simulations of each design"""
    steps: int = experience.STEPS
    """optimiser steps of each trained design"""
    predict_only: bool = False
    """replace the predictions in tables that exist already; nothing is simulated"""
    quick: bool = False
    """the phantom alone, four designs, one seed of 20 steps: shows that the script runs"""


def make(source: Source, options: Options) -> None:
    """Predict, simulate and score one cohort; a table a group."""
    cohort = source.load()
    folder = studies.writable(options.out if options.predict_only else options.out / source.name)
    names = ["untrained", "supervised", "contrastive+noise", "rotation"] if options.quick else None
    designs = design.select(names, steps=20 if options.quick else options.steps)
    began = {"start": time.perf_counter()}
    for group in source.groups:
        plan = running.Plan(cohort, group, designs, variability.VARIABILITIES, 1 if options.quick else options.seeds)
        suffix = f"-{group}" if len(source.groups) > 1 else ""
        place = options.out / f"{source.name}{suffix}.nc"
        if options.predict_only and not place.exists():
            continue
        forecast = studies.predicted(plan, _tell)
        began.setdefault("predicted", time.perf_counter())
        if options.predict_only:
            studies.save(studies.foreseen_again(studies.load(place), plan, forecast), place)
            continue
        cells = running.simulated(plan, folder / "cells", _tell)
        began.setdefault("simulated", time.perf_counter())
        table = studies.assemble(plan, forecast, cells, "python simulations/3_development_study.py")
        studies.save(table, place)
    if options.predict_only:
        return
    seconds = {
        "predict": round(began["predicted"] - began["start"], 1),
        "simulate": round(began["simulated"] - began["predicted"], 1),
    }
    place = folder / "timings.json"
    if not place.exists():  # a continued run would count only what was left
        atomically(place, lambda file: file.write(json.dumps(seconds).encode()))
    print(f"{source.name}: seconds {seconds}", flush=True)


def _tell(what: str, done: int, total: int) -> None:
    if done % 10 == 0 or done == total:
        print(f"  {what} {done}/{total} {time.strftime('%H:%M:%S')}", flush=True)


def main(options: Options) -> None:
    """All cohorts, or some."""
    wanted = {"phantom"} if options.quick else set(options.only) or {source.name for source in SOURCES}
    for source in (*SOURCES, *APART):
        if source.name in wanted:
            print(source.name, flush=True)
            make(source, options)


if __name__ == "__main__":
    keep_programs()
    main(tyro.cli(Options))
