"""The command line.  Heavy imports wait until a command runs, so that ``--help`` answers at once."""

import json
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from rafmodel import cohort_commands as cohorts
from rafmodel.console import progress, set_up_jax, timed
from rafmodel.errors import InputError
from rafmodel.files import atomically

if TYPE_CHECKING:
    import xarray as xr

    from rafmodel.cohort import Cohort
    from rafmodel.running import Plan


@dataclass(frozen=True)
class Plans(cohorts.Who):
    """Predict designs without training them."""

    designs: tuple[str, ...] = ()
    """Learning designs, with choices in brackets: 'contrastive+noise[n_labelled=32|256,probe=logistic]'.  Default: all."""
    shifts: tuple[str, ...] = ()
    """Variabilities at deployment, module:OBJECT for your own, or ``all`` that suit.  Default: the eight of a plain study."""
    steps: int | None = None
    """Optimiser steps of each trained design.  Default: the design's own (400), at which predictions were checked."""
    seed: int = 0
    """Root of all randomness: the same command gives the same table."""
    task: Literal["classification", "multi-class", "multi-label", "ordinal", "segmentation"] = "classification"
    """What is asked of the images: case or control, class, findings or grade in the column of --label, or pixels of the masks."""
    classes: tuple[str, ...] = ()
    """Classes or findings of that column that are asked about, or its grades from low to high.  Default: all."""
    foreground: tuple[int, ...] = ()
    """Segmentation: classes of the masks that are the structure.  Default: all above 0."""
    head: Literal["probe", "decoder", "tuned"] = "probe"
    """Segmentation: linear probe of each pixel, light decoder on frozen features, or decoder and encoder tuned together."""
    patch: int = 0
    """Segmentation: learn from patches of this side in pixels, score overlapping tiles; mind --size.  Default: whole images."""
    sampling: Literal["foreground", "random"] = "foreground"
    """Segmentation by patches: half of those of a labelled image lie about a pixel of the structure, or all lie anywhere."""
    pilot: bool = False
    """Also train each design for a few steps and read that together with the theory (level L0+)."""
    out: Path | None = None
    """Folder for the results.  Default: runs/COHORT."""


@dataclass(frozen=True)
class Study(Plans):
    """Predict, simulate, score, fit and report.  Resumes where an earlier run of the same command stopped."""

    seeds: int = 2
    """Simulations of each design."""
    executor: str = "threads"
    """What runs the simulations: threads[:N], local[:N] (processes), or dask:ADDRESS of a cluster's scheduler."""
    dry_run: bool = False
    """Print the plan with its estimated time, memory and disk, and stop."""


@dataclass(frozen=True)
class Predict(Plans):
    """Predict designs without training them; writes prediction.nc."""

    theory_only: bool = False
    """Leave out what the same designs did on other cohorts (level L0 in place of L0x)."""


@dataclass(frozen=True)
class Fit:
    """Fit the hierarchical model to one or several studies; writes its posterior."""

    studies: tyro.conf.Positional[tuple[Path, ...]]
    """study.nc files."""
    out: Path = Path("posterior.nc")
    """File for the posterior."""
    seed: int = 0
    """Root of all randomness."""


@dataclass(frozen=True)
class Check:
    """Predict each design from the others and compare with what was observed; writes check.nc beside each study."""

    studies: tyro.conf.Positional[tuple[Path, ...]]
    """study.nc files."""
    elsewhere: tuple[Path, ...] = ()
    """Studies of other cohorts: what the same designs did there is read beside the theory.  Default: those shipped."""
    seed: int = 0
    """Root of all randomness."""


@dataclass(frozen=True)
class Figures:
    """Draw the figures and the report of studies again from their tables."""

    studies: tyro.conf.Positional[tuple[Path, ...]]
    """study.nc files; check.nc is read beside each."""
    out: Path | None = None
    """Folder for the figures.  Default: beside each study."""


ABOUT = "Predict, simulate and check how robust and how fair a learned image representation will be."

Command = (
    Annotated[Study, tyro.conf.subcommand("study")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
    | Annotated[Fit, tyro.conf.subcommand("fit")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[cohorts.OfCohort, tyro.conf.subcommand("cohort")]
    | Annotated[Figures, tyro.conf.subcommand("figures")]
)


def main(arguments: list[str] | None = None) -> None:
    """Run one command; a user's error is one line on standard error and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = tyro.cli(
        Command, args=arguments, prog="rafmodel", description=ABOUT, config=(tyro.conf.OmitSubcommandPrefixes,)
    )
    try:
        run(command, "rafmodel " + shlex.join(arguments))
    except InputError as problem:
        print(f"rafmodel: {' '.join(str(problem).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("rafmodel: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def run(command, line: str) -> None:
    """One parsed command."""
    match command:
        case Study():
            study(command, line)
        case Predict():
            predict(command, line)
        case Fit():
            fit(command)
        case Check():
            check(command)
        case cohorts.OfCohort():
            cohorts.run(command.action)
        case Figures():
            figures(command)


def study(command: Study, line: str) -> None:
    """The main job."""
    cohort = _asked(command)
    set_up_jax()
    from rafmodel import findings, foreseen, running
    from rafmodel import study as studies

    plan = _plan(command, cohort)
    if command.dry_run:
        print(_dry(command, plan))
        return
    running.check(command.executor)
    folder = _folder(command, cohort)
    _remark(plan)
    seconds, tell = {}, progress()
    with timed(seconds, "predict"):
        forecast = studies.predicted(plan, tell)
    print(foreseen.rows(studies.forecast_table(plan, forecast, line)), flush=True)  # training takes much longer
    with timed(seconds, "pilot"):
        runs = studies.piloted(plan, tell) if command.pilot else None
    with timed(seconds, "simulate"):
        deployments = running.simulated(plan, folder / "cells", tell, command.executor)
    with timed(seconds, "score"):
        table = studies.assemble(plan, forecast, deployments, line)
        if runs is not None:
            table["pilot_auc"] = table["predicted_auc"].dims, runs
        studies.save(table, folder / "study.nc")
    for failure in findings.unforeseen(table):
        print(f"forecast failed: {failure}")
    for failure in findings.failures(table):
        print(f"training failed: {failure}")
    with timed(seconds, "check"):
        checked = _checked(table, folder, command.seed)
    with timed(seconds, "report"):
        report = _report(table, checked, folder)
    timings = json.dumps({what: round(s, 2) for what, s in seconds.items()})
    atomically(folder / "timings.json", lambda file: file.write(timings.encode()))
    print(f"\nseconds: {timings}\ntable:   {folder / 'study.nc'}\nreport:  {report}")
    if lost := running.failed(plan, deployments):
        cells = f"{len(lost)} of {sum(map(len, deployments))} cells failed: {'; '.join(lost)}"
        print(f"rafmodel: {cells}; the same command tries them again", file=sys.stderr)
        sys.exit(1)


def predict(command: Predict, line: str) -> None:
    """Theory, read with experience unless that is to be left out."""
    cohort = _asked(command)
    set_up_jax()
    from rafmodel import classes_predict, findings, foreseen, plot, segment_predict
    from rafmodel import predict as predicts
    from rafmodel import study as studies

    plan = _plan(command, cohort)
    folder = _folder(command, cohort)
    _remark(plan)
    seen = studies.surveyed(plan)
    table = studies.forecast_table(plan, studies.predicted(plan, progress(), seen), line)
    if not command.theory_only:
        table = studies.with_experience(table)
    if command.pilot:
        table = studies.with_runs(table, studies.piloted(plan, progress()))
    studies.save(table, folder / "prediction.nc")
    print(foreseen.rows(table))
    if told := table.attrs.get("experience"):
        print(f"(design effects: half theory, half what the same designs did on {told}; --theory-only leaves that out)")
    part = foreseen.part(table)
    best = findings.extremes(table[f"{part}_predicted"])
    levers = studies.levers(plan, best[0], part, progress(), seen) if best else {}
    print()
    for headline, text in foreseen.sentences(table, levers):
        print(f"{headline}: {text}")
    outside = {"segmentation": segment_predict, "classification": predicts}.get(command.task, classes_predict).outside
    doubts = dict.fromkeys(why for design in plan.designs for why in outside(plan.cohort, design, plan.shifts))
    for why in doubts:
        print(f"Outside what the theory was checked on: {why}.")
    print(f"\ntable:  {folder / 'prediction.nc'}\nfigure: {plot.forecast(table, folder)}")
    if lost := findings.unforeseen(table):
        print(f"rafmodel: {len(lost)} of {len(plan.designs)} forecasts failed: {'; '.join(lost)}", file=sys.stderr)
        sys.exit(1)


def fit(command: Fit) -> None:
    """Posterior of the hierarchical model."""
    set_up_jax()
    import jax

    from rafmodel import fit as fits
    from rafmodel import study as studies

    tables = [studies.load(path) for path in _some(command.studies)]
    studies.writable(command.out.parent)
    posterior = fits.fit(tables, key=jax.random.key(command.seed))
    studies.save(posterior, command.out)
    print(fits.summary(posterior))
    print(f"\nposterior: {command.out}")


def check(command: Check) -> None:
    """Held-out predictions against what was observed."""
    set_up_jax()
    from rafmodel import experience
    from rafmodel import study as studies

    known = experience.gathered([studies.load(path) for path in command.elsewhere]) if command.elsewhere else None
    for path, table in [(path, studies.load(path)) for path in _some(command.studies)]:
        print(f"{path}")
        if known is not None and not experience.of_others(known, table).sizes["cohort"]:
            raise InputError(f"--elsewhere: none of these is a study of another cohort than {path} with its task")
        _checked(table, studies.writable(path.parent), command.seed, known)


def figures(command: Figures) -> None:
    """Figures and report from tables."""
    import xarray as xr

    from rafmodel import study as studies

    for path in _some(command.studies):
        table, beside = studies.load(path), path.parent / "check.nc"
        checked = xr.load_dataset(beside, engine="h5netcdf") if beside.exists() else None
        print(_report(table, checked, studies.writable(command.out or path.parent)))


# ---- parts of commands


def _asked(command: Plans) -> "Cohort":
    """The cohort, with cases and controls unless its masks are asked for."""
    if command.task == "segmentation":
        if command.pilot:
            raise InputError("--pilot: short runs are made of classifications only; leave it out of a segmentation")
        if command.classes:
            raise InputError("--classes: made for images; name classes of the masks with --foreground")
        if command.sampling != "foreground" and not command.patch:
            raise InputError(f"--sampling {command.sampling}: says which patches are drawn; add --patch SIDE")
        by = (command.group,) if command.group else ()  # a class of images may name subgroups, for pixels are judged
        return cohorts.found(command, keep=by, on_disk=True)
    if command.foreground or command.head != "probe":
        raise InputError("--foreground and --head: made for pixels; add --task segmentation")
    if command.patch or command.sampling != "foreground":
        raise InputError(
            "--patch and --sampling: made for pixels; add --task segmentation, or write DESIGN[patch=SIDE]"
        )
    if command.task != "classification":
        return cohorts.asked(command, command.task, command.classes)
    if command.classes:
        raise InputError("--classes: made for several questions; add --task multi-class, multi-label or ordinal")
    return cohorts.studied(command)


def _plan(command: Plans, cohort: "Cohort") -> "Plan":
    from rafmodel import design, masks, task, variability
    from rafmodel.running import Plan

    seeds = command.seeds if isinstance(command, Study) else 1  # a prediction has none
    for name, value in (("--seeds", seeds), ("--steps", 1 if command.steps is None else command.steps)):
        if value < 1:
            raise InputError(f"{name} {value}: must be at least 1")
    group = command.group or ("site" if command.cohort in (None, "phantom") else None)
    pixels, patch = command.task == "segmentation", command.patch
    chosen = design.select(command.designs, steps=command.steps, like=cohort, patch=patch)
    asked = task.classification(cohort.asked)
    if pixels:
        cohort, structure = masks.segmented(
            cohort, command.foreground, command.head, patch=patch, sampling=command.sampling
        )
        asked = task.segmentation(replace(structure, patch=0), cohort)  # each design says its own
        chosen = masks.suited(chosen, cohort, named=bool(command.designs), head=command.head)
    elif named := [one.name for one in chosen if one.head]:
        raise InputError(f"design '{named[0]}': head is made for pixels; add --task segmentation")
    designs = design.fitted(chosen, cohort, group, of_pixels=pixels)
    shifts = variability.suited(command.shifts, cohort.image.shape[1:])
    return Plan(cohort, group, designs, shifts, seeds, command.seed, asked)


def _remark(plan: "Plan") -> None:
    """Who is in the cohort, what its test part can show, and what tasks leave out of the images."""
    from rafmodel import design, power

    print(*power.in_words(plan.cohort, plan.group), sep="\n", flush=True)
    remarks = dict.fromkeys(design.remark(one, plan.cohort.image.shape[1:]) for one in plan.designs)
    print(*(f"rafmodel: {line}\n" for line in remarks if line), sep="", end="", file=sys.stderr)


def _dry(command: Study, plan: "Plan") -> str:
    """What would be run; nothing is written."""
    from rafmodel import cost, running

    running.engine(command.executor)
    places = running.cells(plan, _place(command, plan.cohort) / "cells")
    missing = [cell for cell, place in places.items() if not place.exists()]
    taken = cost.estimate(plan, missing, command.executor, running.cores(command.executor))
    return cost.told(plan, places, taken, command.executor)


def _place(command: Plans, cohort: "Cohort") -> Path:
    whose = cohort.name if command.task == "classification" else f"{cohort.name}-{command.task}"
    return command.out or Path("runs") / whose


def _folder(command: Plans, cohort: "Cohort") -> Path:
    """The output folder, writable, and not that of another cohort's study."""
    import xarray as xr

    from rafmodel import study as studies

    folder = studies.writable(_place(command, cohort))
    earlier = folder / "study.nc"
    if earlier.exists():
        with xr.open_dataset(earlier, engine="h5netcdf") as table:
            name, metric = table.attrs.get("cohort"), table.attrs.get("metric")
            task = table.attrs.get("task", "segmentation" if metric == "dice" else "classification")
        if name != cohort.name:
            raise InputError(f"--out {folder}: holds a study of '{name}'; choose another folder for '{cohort.name}'")
        if task != command.task:
            raise InputError(f"--out {folder}: holds a study of another task; choose another folder for {command.task}")
    return folder


def _checked(table: "xr.Dataset", folder: Path, seed: int, known: "xr.Dataset | None" = None) -> "xr.Dataset | None":
    """Held-out check, saved and printed; None where there are too few designs to leave one out."""
    import jax

    from rafmodel import check as checks
    from rafmodel import experience
    from rafmodel import study as studies

    known = experience.shipped() if known is None else known
    try:
        checked = checks.check(table, known, key=jax.random.fold_in(jax.random.key(seed), 3))
    except InputError as problem:
        print(f"no held-out check: {problem}")
        return None
    studies.save(checked, folder / "check.nc")
    print("\n" + checks.table(checked))
    return checked


def _report(table: "xr.Dataset", checked: "xr.Dataset | None", folder: Path) -> Path:
    from rafmodel import report

    return report.write(table, checked, folder)


def _some(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    if not paths:
        raise InputError("STUDY: no study file was named; give the path of a study.nc")
    return paths
