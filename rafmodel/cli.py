"""The command line.  Heavy imports wait until a command runs, so that ``--help`` answers at once."""

import json
import os
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from rafmodel.errors import InputError
from rafmodel.files import atomically

if TYPE_CHECKING:
    import xarray as xr

    from rafmodel.cohort import Cohort
    from rafmodel.study import Plan

SYNTHETIC = ("phantom", "cardiac-ultrasound")


@dataclass(frozen=True)
class Who:
    """Which cohort, and what is asked of it."""

    cohort: str | None = None
    """npz file, folder with one, name inside $RAFMODEL_DATA, or cardiac-ultrasound (synthetic).  Default: the phantom."""
    label: str | None = None
    """Column that holds the class.  Default: labels."""
    positive: tuple[str, ...] = ()
    """Values of that column that count as a case.  Default: the highest."""
    negative: tuple[str, ...] = ()
    """Values that count as a control; images with neither are left out.  Default: all the others."""
    group: str | None = None
    """Attribute that names the subgroups: sex, view, age, site...  Default for the phantom: site."""
    size: int = 32
    """Side in pixels to which larger images are averaged down."""


@dataclass(frozen=True)
class Plans(Who):
    """Predict designs without training them."""

    designs: tuple[str, ...] = ()
    """Learning designs.  Default: all."""
    shifts: tuple[str, ...] = ()
    """Variabilities at deployment, or ``all`` that suit the images.  Default: the eight of a plain study."""
    seeds: int = 2
    """Simulations of each design."""
    steps: int | None = None
    """Optimiser steps of each trained design.  Default: the design's own (800)."""
    seed: int = 0
    """Root of all randomness: the same command gives the same table."""
    out: Path | None = None
    """Folder for the results.  Default: runs/COHORT."""


@dataclass(frozen=True)
class Study(Plans):
    """Predict, simulate, score, fit and report.  Resumes where an earlier run of the same command stopped."""


@dataclass(frozen=True)
class Predict(Plans):
    """Predict designs without training them; writes prediction.nc."""


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
    seed: int = 0
    """Root of all randomness."""


@dataclass(frozen=True)
class AboutCohort(Who):
    """Print who is in a cohort: counts by split, class and subgroup, licence and source."""

    action: tyro.conf.Positional[Literal["show"]] = "show"
    """What to do with it."""
    variability: tuple[str, ...] = ()
    """Variabilities of the contact sheet, or ``all`` that suit the images.  Default: the eight of a plain study."""
    sheet: Path | None = None
    """PNG or PDF file for a contact sheet of the variabilities at every level.  Default: variability.png if some are named."""


@dataclass(frozen=True)
class Figures:
    """Draw the figures and the report of studies again from their tables."""

    studies: tyro.conf.Positional[tuple[Path, ...]]
    """study.nc files; check.nc is read beside each."""
    out: Path | None = None
    """Folder for the figures.  Default: beside each study."""


Command = (
    Annotated[Study, tyro.conf.subcommand("study")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
    | Annotated[Fit, tyro.conf.subcommand("fit")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[AboutCohort, tyro.conf.subcommand("cohort")]
    | Annotated[Figures, tyro.conf.subcommand("figures")]
)


def main(arguments: list[str] | None = None) -> None:
    """Run one command; a user's error is one line on standard error and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = tyro.cli(
        Command, args=arguments, prog="rafmodel", description=__doc__, config=(tyro.conf.OmitSubcommandPrefixes,)
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
        case AboutCohort():
            cohort_show(command)
        case Figures():
            figures(command)


def study(command: Study, line: str) -> None:
    """The main job."""
    cohort = _cohort(command)
    _set_up_jax()
    from rafmodel import study as studies

    plan = _plan(command, cohort)
    folder = _folder(command, cohort)
    seconds, tell = {}, _progress()
    with _timed(seconds, "predict"):
        forecast = studies.predicted(plan, tell)
    with _timed(seconds, "simulate"):
        deployments = studies.simulated(plan, folder / "cells", tell)
    with _timed(seconds, "score"):
        table = studies.assemble(plan, forecast, deployments, line)
        studies.save(table, folder / "study.nc")
    with _timed(seconds, "check"):
        checked = _checked(table, folder, command.seed)
    with _timed(seconds, "report"):
        report = _report(table, checked, folder)
    timings = json.dumps({what: round(s, 2) for what, s in seconds.items()})
    atomically(folder / "timings.json", lambda file: file.write(timings.encode()))
    print(f"\nseconds: {timings}\ntable:   {folder / 'study.nc'}\nreport:  {report}")


def predict(command: Predict, line: str) -> None:
    """Theory alone."""
    cohort = _cohort(command)
    _set_up_jax()
    from rafmodel import findings, plot
    from rafmodel import study as studies
    from rafmodel.predict import outside

    plan = _plan(command, cohort)
    folder = _folder(command, cohort)
    table = studies.forecast_table(plan, studies.predicted(plan, _progress()), line)
    studies.save(table, folder / "prediction.nc")
    print(_forecast_text(table))
    part = findings.forecast_part(table)
    best = findings.extremes(table[f"{part}_predicted"])
    levers = studies.levers(plan, table, best[0], part, _progress()) if best else {}
    print()
    for headline, text in findings.forecast(table, levers):
        print(f"{headline}: {text}")
    doubts = dict.fromkeys(why for design in plan.designs for why in outside(cohort, design))
    for why in doubts:
        print(f"Outside what the theory was checked on: {why}.")
    print(f"\ntable:  {folder / 'prediction.nc'}\nfigure: {plot.forecast(table, folder)}")


def fit(command: Fit) -> None:
    """Posterior of the hierarchical model."""
    _set_up_jax()
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
    _set_up_jax()
    from rafmodel import study as studies

    for path, table in [(path, studies.load(path)) for path in _some(command.studies)]:
        print(f"{path}")
        _checked(table, studies.writable(path.parent), command.seed)


def cohort_show(command: AboutCohort) -> None:
    """Counts of a cohort."""
    cohort = _cohort(command)
    from rafmodel.cohort import describe

    print(describe(cohort, command.group))
    if command.sheet or command.variability:
        from rafmodel import plot, variability

        path = command.sheet or Path("variability.png")
        plot.contact_sheet(cohort, path, variability.suited(command.variability, cohort.image.shape[1:]))
        print(f"\ncontact sheet: {path}")


def figures(command: Figures) -> None:
    """Figures and report from tables."""
    import xarray as xr

    from rafmodel import study as studies

    for path in _some(command.studies):
        table, beside = studies.load(path), path.parent / "check.nc"
        checked = xr.load_dataset(beside, engine="h5netcdf") if beside.exists() else None
        print(_report(table, checked, studies.writable(command.out or path.parent)))


# ---- parts of commands


def _cohort(command: Who) -> "Cohort":
    from rafmodel import cohort as cohorts

    if command.cohort in (None, *SYNTHETIC):
        import jax

        from rafmodel.phantoms import named

        found = named(command.cohort or SYNTHETIC[0], jax.random.key(0), command.size)
    else:
        found = cohorts.load(
            command.cohort,
            label=command.label,
            positive=list(command.positive) or None,
            negative=list(command.negative) or None,
            size=command.size,
        )
    cohorts.groups(found, command.group)  # an unknown attribute is told before anything is computed
    return found


def _plan(command: Plans, cohort: "Cohort") -> "Plan":
    from rafmodel import design, variability
    from rafmodel.study import Plan

    for name, value in (("--seeds", command.seeds), ("--steps", command.steps or 1)):
        if value < 1:
            raise InputError(f"{name} {value}: must be at least 1")
    group = command.group or ("site" if command.cohort in (None, "phantom") else None)
    designs = design.select(command.designs, steps=command.steps)
    shifts = variability.suited(command.shifts, cohort.image.shape[1:])
    return Plan(cohort, group, designs, shifts, command.seeds, command.seed)


def _folder(command: Plans, cohort: "Cohort") -> Path:
    """The output folder, writable, and not that of another cohort's study."""
    import xarray as xr

    from rafmodel import study as studies

    folder = studies.writable(command.out or Path("runs") / cohort.name)
    earlier = folder / "study.nc"
    if earlier.exists():
        with xr.open_dataset(earlier, engine="h5netcdf") as table:
            name = table.attrs.get("cohort")
        if name != cohort.name:
            raise InputError(f"--out {folder}: holds a study of '{name}'; choose another folder for '{cohort.name}'")
    return folder


def _checked(table: "xr.Dataset", folder: Path, seed: int) -> "xr.Dataset | None":
    """Held-out check, saved and printed; None where there are too few designs to leave one out."""
    import jax

    from rafmodel import check as checks
    from rafmodel import study as studies

    try:
        checked = checks.check(table, key=jax.random.fold_in(jax.random.key(seed), 3))
    except InputError as problem:
        print(f"no held-out check: {problem}")
        return None
    studies.save(checked, folder / "check.nc")
    print("\n" + checks.table(checked))
    return checked


def _report(table: "xr.Dataset", checked: "xr.Dataset | None", folder: Path) -> Path:
    from rafmodel import report

    return report.write(table, checked, folder)


def _forecast_text(table: "xr.Dataset") -> str:
    """Predicted AUC by design: clean, and at the strongest level of each shift."""
    auc = table["predicted_auc"].sel(group="all")
    rows = [f"{'predicted AUC':24s}{'clean':>8s}" + "".join(f"{s:>10s}" for s in auc["shift"].values)]
    for name in auc["design"].values:
        one = auc.sel(design=name)
        worst = "".join(f"{v:10.3f}" for v in one.isel(severity=-1).values)
        rows.append(f"{name:24s}{float(one.isel(shift=0, severity=0)):8.3f}" + worst)
    return "\n".join([*rows, "(shift columns: the strongest level)"])


def _some(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    if not paths:
        raise InputError("STUDY: no study file was named; give the path of a study.nc")
    return paths


def _set_up_jax() -> None:
    """Double precision, and compiled programs kept between runs.

    Theory and fit are linear algebra and want double precision; simulation asks for float32 by itself.
    """
    import jax

    jax.config.update("jax_enable_x64", True)
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    jax.config.update("jax_compilation_cache_dir", str(home / "rafmodel" / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


class _timed:
    """Wall-clock seconds of a block, put into a dictionary."""

    def __init__(self, seconds: dict[str, float], name: str):
        self.seconds, self.name = seconds, name

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *problem) -> None:
        self.seconds[self.name] = time.perf_counter() - self.start


def _progress():
    """``tell(what, done, total)``: a bar with the time left on a terminal, otherwise a line per tenth."""
    start: dict[str, float] = {}

    def left(what: str, done: int, total: int) -> str:
        elapsed = time.perf_counter() - start.setdefault(what, time.perf_counter())
        return f"{elapsed / done * (total - done):.0f} s left" if done else ""

    def bar(what: str, done: int, total: int) -> None:
        filled = 30 * done // total
        end = "\n" if done == total else ""
        text = f"\r{what:9s} [{'#' * filled}{'.' * (30 - filled)}] {done}/{total}  {left(what, done, total):12s}"
        print(text, end=end, file=sys.stderr, flush=True)

    def log(what: str, done: int, total: int) -> None:
        if done * 10 // total != (done - 1) * 10 // total:
            print(f"{what} {done}/{total}  {left(what, done, total)}".rstrip(), file=sys.stderr, flush=True)

    return bar if sys.stderr.isatty() else log
