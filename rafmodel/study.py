"""The study's table: what was predicted and what its cells came to, its schema and its file."""

import json
import logging
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

import rafmodel
from rafmodel import agreement, early, experience, metrics, pilot
from rafmodel import cohort as cohorts
from rafmodel.architectures import Architecture
from rafmodel.collapse import FAILED
from rafmodel.console import forget_programs
from rafmodel.design import Design, strengthened, unforeseen
from rafmodel.errors import InputError, in_a_line
from rafmodel.files import atomically
from rafmodel.metrics import Outcome
from rafmodel.running import Plan, Tell, commit
from rafmodel.simulate import Deployment
from rafmodel.task import RATES

log = logging.getLogger("rafmodel")
Surveys = dict[tuple[Architecture, tuple[int, ...]], Any]
_CELL = ("design", "seed", "shift", "severity", "group")
_FORESEEN = ("design", "shift", "severity", "group")
_PARTS = ("performance", "robustness", "fairness", "raf")
SCHEMA: dict[str, tuple[str, ...]] = {
    **{f"observed_{m}": _CELL for m in RATES},
    **{f"predicted_{m}": _FORESEEN for m in RATES},
    "observed_auc_se": _FORESEEN,
    "n_case": ("group",),
    "n_control": ("group",),
    "level_value": ("shift", "severity"),
    **{f"{part}_observed": ("design", "seed") for part in _PARTS},
    **{f"{part}_observed_interval": ("design", "bound") for part in _PARTS},
    **{f"{part}_predicted": ("design",) for part in _PARTS},
    "undefined_fairness_cells": ("design", "seed"),
}
SEGMENTED = {"observed_dice": _CELL, "predicted_dice": _FORESEEN, "observed_dice_se": _FORESEEN}  # beside pixels' AUC
# beside the mean AUC of several questions, that of each; of grades ``observed_concordance`` and ``predicted_concordance`` too
OF_QUESTIONS = {
    "observed_auc_of_question": ("question", *_CELL),
    "predicted_auc_of_question": ("question", *_FORESEEN),
}
BY_PART = ("design", "part", "shift", "severity")  # of `predicted_by_part`, AUC of everyone, which not all tables have
EARLY = ("estimator", *_CELL)  # of `early_auc`, which tables of earlier versions lack
ATTRIBUTES = ("cohort", "contrast", "group_attribute", "command", "rafmodel_version", "seed", "metric")
PREDICTED = {name: dims for name, dims in SCHEMA.items() if "predicted" in name or len(dims) < 2 or "level" in name}


def surveyed(plan: Plan) -> Surveys:
    """What untrained encoders see of the cohort: all that theory reads of the images, by encoder and widths.

    An encoder that raises has its exception in place of a survey.
    """
    test, key = cohorts.part(plan.cohort, "test"), jax.random.split(plan.key(0))[0]
    forget_programs()
    return {
        (e, w): _tried(plan.task.survey, key, plan.cohort, test, w, plan.shifts, group=plan.group, architecture=e)
        for e, w in {(design.encoder, design.widths) for design in plan.designs}
    }


def predicted(plan: Plan, tell: Tell, found: Surveys | None = None, *, believed: bool = True) -> Outcome:
    """L0 for every design, leading axis design.  ``tell(what, done, total)`` hears of progress.

    A design whose forecast raises is logged, has no values, and says so in ``errors``; but an InputError is raised.
    found     surveys of the plan's encoders, where they have been made
    believed  keep what sets designs apart as far as parts of the source agree on it (``agreement.believed``); else as stated
    """
    total, key_pairs = len(plan.designs), jax.random.split(plan.key(0))[1]
    tell("predict", 0, total)
    found = surveyed(plan) if found is None else found
    alike = {_foreseen_as(design): design for design in plan.designs}

    def foresee(design: Design) -> Outcome:
        survey = found[design.encoder, design.widths]
        if isinstance(survey, Exception):
            raise survey
        return plan.task.foresee(key_pairs, survey, design)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # most of the time is compilation, which uses one core
        waiting = {what: pool.submit(_tried, foresee, design) for what, design in alike.items()}
        outcomes = []
        for design in plan.designs:
            outcomes.append(waiting[_foreseen_as(design)].result())
            tell("predict", len(outcomes), total)
    return _together(plan, outcomes, believed)


def _tried(f: Callable[..., Any], *args: Any, **chosen: Any) -> Any:
    """What a function returns, or the exception that it raises; an InputError is raised."""
    try:
        return f(*args, **chosen)
    except InputError:
        raise
    except Exception as problem:  # of one design, which is to stop no other
        return problem


def _together(plan: Plan, outcomes: list[Outcome | Exception], believed: bool) -> Outcome:
    """Outcomes of designs as one, leading axis design; nan, and an error in a line, for those that raised one."""
    sound = [one for one in outcomes if isinstance(one, Outcome)]
    test = cohorts.part(plan.cohort, "test")
    some = sound or [plan.task.score(plan.task.lost(len(test.label), len(plan.shifts), ""), test, plan.group)]
    known = (*plan.task.measures, *(m for m in ("of_question", "by_part") if getattr(some[0], m) is not None))
    found = some[0]._replace(**{m: np.stack([getattr(one, m) for one in some]) for m in known})
    found = agreement.believed(found) if believed else found
    if len(sound) == len(outcomes):
        return found
    errors = tuple(in_a_line(one) if isinstance(one, Exception) else "" for one in outcomes)
    for design, error in zip(plan.designs, errors, strict=True):
        if error:
            log.error("%s has no forecast: %s", design.name, error)
    there = np.array([not error for error in errors])
    place = np.maximum(np.cumsum(there) - 1, 0)

    def spread(values: np.ndarray) -> np.ndarray:
        return np.where(there.reshape(-1, *(1,) * (values.ndim - 1)), values[place], np.nan)

    return found._replace(errors=errors, **{m: spread(getattr(found, m)) for m in known})


def piloted(plan: Plan, tell: Tell) -> np.ndarray:
    """AUC of a short run of every design, (design, shift, severity 0-5, group); nan where it raised an error."""
    test, found = cohorts.part(plan.cohort, "test"), []
    for design in plan.designs:
        tell("pilot", len(found), len(plan.designs))
        found.append(_tried(pilot.short_run, plan.key(3), plan.cohort, test, design, plan.shifts, group=plan.group))
        if isinstance(found[-1], Exception):
            log.error("%s has no short run: %s", design.name, in_a_line(found[-1]))
    tell("pilot", len(found), len(plan.designs))
    nothing = np.full((len(plan.shifts), 6, 1 + len(cohorts.groups(test, plan.group)[0])), np.nan)
    return np.stack([nothing if isinstance(run, Exception) else run for run in found])


def levers(plan: Plan, best: str, part: str, tell: Tell, found: Surveys | None = None) -> dict[str, float]:
    """Change of theory's RAF, or another of its parts, when one choice of the design ``best`` is changed.

    The finite-difference gradient of the forecast, in steps that a person could take; choices that change nothing
    (a cohort may have no more labels), or that theory does not see (``design.unforeseen``), are left out.
    """
    design = next(d for d in plan.designs if d.name == best)
    steps: dict[str, dict[str, Any]] = {
        "twice the labels": {"n_labelled": 2 * design.n_labelled},
        "half the labels": {"n_labelled": design.n_labelled // 2},
        "a tenth of the labels wrong": {"label_flip": min(design.label_flip + 0.1, 0.5)},
        "ten times the ridge": {"ridge": 10 * design.ridge},
    }
    if plan.task.name == "classification":  # where a probe's loss and weights are read
        steps["a ridge probe" if design.probe == "logistic" else "a logistic probe"] = {
            "probe": "ridge" if design.probe == "logistic" else "logistic"
        }
        if design.weighting == design.resampling == "none" and design.prevalence is not None:
            steps["classes weighed alike"] = {"weighting": "class"}
    if design.steps:
        steps["twice the training"] = {"steps": 2 * design.steps}
        if not design.proxy.labelled and design.pretrain_on is None:
            n = min(design.n_unlabelled, int((plan.cohort.split == "train").sum()))
            steps["half the images without labels"] = {"n_unlabelled": n // 2}
        if design.proxy.on is not None and design.proxy.law:
            steps["views half as strong"] = {"proxy": strengthened(design, 0.5).proxy}
    unseen = unforeseen(design)
    steps = {
        what: change for what, change in steps.items() if set(unforeseen(replace(design, **change))) <= set(unseen)
    }
    variants = tuple(replace(design, **change) for change in steps.values())
    foreseen = predicted(replace(plan, designs=(design, *variants)), tell, found, believed=False)
    score = getattr(plan.raf(getattr(foreseen, plan.task.metric)), part)
    return {what: float(s - score[0]) for what, s in zip(steps, score[1:], strict=True) if abs(s - score[0]) >= 0.0005}


def _foreseen_as(design: Design) -> tuple:
    """All that theory reads of a design: of its proxy only the law of pairs, so losses on one law are not told apart."""
    unread = ("name", "proxy", "patch", "pooling", "sampling", "head")
    return design.proxy.pairs, *(getattr(design, f.name) for f in fields(design) if f.name not in unread)


def assemble(plan: Plan, forecast: Outcome, deployments: list[list], command: str) -> xr.Dataset:
    """The study table, to the schema."""
    table = forecast_table(plan, forecast, command)
    test, task = cohorts.part(plan.cohort, "test"), plan.task
    outcomes = [[task.score(cell, test, plan.group) for cell in row] for row in deployments]
    for name in task.measures:
        table[f"observed_{name}"] = _CELL, np.array([[getattr(o, name) for o in row] for row in outcomes])
    if task.questions:
        by_question = np.array([[o.of_question for o in row] for row in outcomes])
        table["observed_auc_of_question"] = OF_QUESTIONS["observed_auc_of_question"], np.moveaxis(by_question, 2, 0)
    observed = plan.raf(table[f"observed_{task.metric}"].values)
    for part in _PARTS:
        table[f"{part}_observed"] = ("design", "seed"), getattr(observed, part)
    table["undefined_fairness_cells"] = ("design", "seed"), observed.undefined
    ended = np.array([[FAILED.index(cell.failed) for cell in row] for row in deployments])
    table["failed"] = ("design", "seed"), ended
    told = {
        plan.named((i, j)): cell.error for i, row in enumerate(deployments) for j, cell in enumerate(row) if cell.error
    }
    table.attrs["errors"] = json.dumps(json.loads(table.attrs.get("errors", "{}")) | told)
    table["effective_rank"] = ("design", "seed"), np.array([[cell.rank for cell in row] for row in deployments])
    spread = [task.spread(task.sound(row), test, plan.group, plan.key(2)) for row in deployments]
    for part in _PARTS:
        interval = np.stack([np.asarray(s[part]) for s in spread])
        table[f"{part}_observed_interval"] = ("design", "bound"), interval
    for name in (f"{one}_{what}" for one in {"auc", task.metric} for what in ("se", "df")):
        table[f"observed_{name}"] = _FORESEEN, np.stack([s[name] for s in spread])
    table = table.assign_coords(seed=np.arange(plan.seeds), bound=["lower", "upper"])
    if task.record is not Deployment:
        return table  # early warnings are made for the scores of images
    warned = np.array([[_warned(plan, cell) for cell in row] for row in deployments])
    table["early_auc"] = EARLY, np.moveaxis(warned, 2, 0)
    return table.assign_coords(estimator=list(early.ESTIMATORS))


def _warned(plan: Plan, cell: Deployment) -> np.ndarray:
    """What each label-free estimator says of one deployment, (estimator, shift, severity 0-5, group); means over questions."""
    source, test = cohorts.take(plan.cohort, cell.source_row), cohorts.part(plan.cohort, "test")
    names, code = cohorts.groups(test, plan.group)
    if cell.failed or not len(cell.source_row):
        return np.full((len(early.ESTIMATORS), *cell.score.shape[:2], 1 + len(names)), np.nan)
    theirs, source_code = cohorts.groups(source, plan.group)
    place = np.array([names.index(name) if name in names else -1 for name in theirs] or [-1])[source_code]
    inside = [*zip(metrics.members(code, len(names)), metrics.members(place, len(names)), strict=True)]
    scores, source_scores = (s.reshape(*s.shape[:3], -1) for s in (cell.score, cell.source_score))
    answers = plan.cohort.asked.answers(source.label)

    def of(question: int) -> np.ndarray:
        one, again, yes = scores[..., question], source_scores[..., question], answers[:, question]
        found = [early.warn(one[..., who], again[..., like], yes[like]) for who, like in inside]
        return np.stack([[group[name] for name in early.ESTIMATORS] for group in found], -1)

    return np.mean([of(question) for question in range(answers.shape[1])], axis=0)


def forecast_table(plan: Plan, forecast: Outcome, command: str) -> xr.Dataset:
    """The predicted half of the study table; all that ``rafmodel predict`` can know."""
    names, _ = cohorts.groups(cohorts.part(plan.cohort, "test"), plan.group)
    foreseen = plan.raf(getattr(forecast, plan.task.metric))
    levels = np.array([(0.0, *shift.levels) for shift in plan.shifts])
    variables: dict[str, Any] = {
        f"predicted_{name}": (_FORESEEN, getattr(forecast, name)) for name in plan.task.measures
    }
    variables |= {f"{part}_predicted": (("design",), getattr(foreseen, part)) for part in _PARTS}
    variables |= {
        "n_case": (("group",), forecast.n_case),
        "n_control": (("group",), forecast.n_control),
        "level_value": (("shift", "severity"), levels),
    }
    coordinates = {"question": list(plan.task.questions)} if plan.task.questions else {}
    if forecast.by_part is not None:
        variables["predicted_by_part"] = BY_PART, forecast.by_part
    if forecast.of_question is not None:
        variables["predicted_auc_of_question"] = (
            OF_QUESTIONS["predicted_auc_of_question"],
            np.moveaxis(forecast.of_question, 1, 0),
        )
    coordinates |= {
        "design": [design.name for design in plan.designs],
        "shift": [shift.name for shift in plan.shifts],
        "unit": ("shift", [shift.unit for shift in plan.shifts]),
        "severity": np.arange(6),
        "group": ["all", *names],
    }
    errors = zip(plan.designs, forecast.errors, strict=bool(forecast.errors))
    told = {f"{design.name}, forecast": error for design, error in errors if error}
    table = xr.Dataset(variables, coordinates, _attributes(plan, command))
    return table.assign_attrs(errors=json.dumps(told)) if told else table


def with_experience(table: xr.Dataset) -> xr.Dataset:
    """The forecast read together with what its designs did on other cohorts; theory's own AUC is kept as ``theory_auc``.

    AUC and RAF become those of L0x, and attribute ``experience`` says how many cohorts told; true and false positive rates stay
    those of theory.  Unchanged where the shipped experience knows fewer than two of the designs, or nothing of the task.
    """
    known = experience.shipped()
    names, theory = [str(d) for d in table["design"].values], table[f"predicted_{experience.metric(table)}"].values
    auc = experience.expected(theory, experience.effects(known, table), names)
    if np.array_equal(auc, theory, equal_nan=True):
        return table
    n = experience.of_others(known, table).sizes["cohort"]
    told = _foreseen(table, auc).assign(theory_auc=(_FORESEEN, theory))
    return told.assign_attrs(experience=f"{n} other cohorts")


def _foreseen(table: xr.Dataset, auc: np.ndarray) -> xr.Dataset:
    """The forecast with another AUC, and the RAF of that."""
    foreseen = metrics.raf(auc)
    parts = {f"{part}_predicted": ("design", getattr(foreseen, part)) for part in _PARTS}
    return table.assign({"predicted_auc": (_FORESEEN, auc), **parts})


def with_runs(table: xr.Dataset, runs: np.ndarray) -> xr.Dataset:
    """The forecast read together with short runs (design, shift, severity, group), which are kept as ``pilot_auc``.

    AUC and RAF become those of L0+; true and false positive rates stay those of theory.
    """
    told = _foreseen(table, pilot.combined(table["predicted_auc"].values, runs))
    return told.assign(pilot_auc=(_FORESEEN, runs))


def foreseen_again(table: xr.Dataset, plan: Plan, forecast: Outcome) -> xr.Dataset:
    """The study table with another forecast: theory has moved, what was observed has not."""
    new = forecast_table(plan, forecast, table.attrs["command"])
    for name in (name for name in new if "predicted" in str(name)):
        table[name] = new[name]
    return table.assign_attrs(git_commit=new.attrs["git_commit"])


def _attributes(plan: Plan, command: str) -> dict[str, str | int | float]:
    cohort = plan.cohort
    return {
        "cohort": cohort.name,
        "contrast": cohort.contrast,
        "licence": cohort.licence,
        "source": cohort.source,
        "group_attribute": plan.group or "",
        "command": command,
        "rafmodel_version": rafmodel.__version__,
        "jax_version": version("jax"),
        "git_commit": commit(),
        "seed": plan.seed,
        "task": plan.task.name,
        "metric": plan.task.metric,
        "chance": plan.task.chance,
        "head": plan.task.head,
        **({"patch": plan.task.patch} if plan.task.patch else {}),
        "n_train": int((cohort.split == "train").sum()),
        "n_labelled": max(design.n_labelled for design in plan.designs),
        "steps": max(design.steps for design in plan.designs),
        "image_size": int(cohort.image.shape[1]),
    }


# ---- files


def save(table: xr.Dataset, path: Path) -> None:
    """A table as netCDF, atomically."""
    content = bytes(table.to_netcdf(engine="h5netcdf"))
    atomically(path, lambda file: file.write(content))


def load(path: Path | str, schema: dict[str, tuple[str, ...]] = SCHEMA) -> xr.Dataset:
    """A study table from disk, in memory.

    Raises InputError when the file is missing, is not netCDF, or breaks the schema; the message names the field.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such study file; `rafmodel study` writes one")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as opened:
            table = opened.load()
    except (OSError, ValueError, KeyError) as problem:
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise InputError(f"{path}: not a readable netCDF file ({reason}); is it a study.nc?") from None
    return check_schema(table, str(path), schema)


def check_schema(table: xr.Dataset, where: str, schema: dict[str, tuple[str, ...]] = SCHEMA) -> xr.Dataset:
    """The table itself if it keeps to the schema; InputError naming the first field that does not."""
    hint = "write it again with `rafmodel study` of this version"
    more = SEGMENTED if table.attrs.get("metric") == "dice" and schema is SCHEMA else {}
    if "question" in table.dims and schema is SCHEMA:
        more = OF_QUESTIONS
    for name, dims in (schema | more).items():
        if name not in table:
            raise InputError(f"{where}: variable '{name}' is missing from the study table; {hint}")
        if table[name].dims != dims:
            raise InputError(f"{where}: variable '{name}' has dims {table[name].dims}, expected {dims}; {hint}")
        if table[name].dtype.kind not in "fiu":
            raise InputError(f"{where}: variable '{name}' is not numeric ({table[name].dtype}); {hint}")
    for name in ATTRIBUTES:
        if name not in table.attrs:
            raise InputError(f"{where}: attribute '{name}' is missing from the study table; {hint}")
    if table.sizes["severity"] != 6 or str(table["group"].values[0]) != "all":
        raise InputError(f"{where}: severities must be 0-5 and the first group 'all'; {hint}")
    return table


def writable(folder: Path) -> Path:
    """The folder, made if need be; InputError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as problem:
        reason = problem.strerror or problem
        raise InputError(f"--out {folder}: cannot be written ({reason}); choose a folder you may write to") from None
    return folder
