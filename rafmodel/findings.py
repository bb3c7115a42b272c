"""What a study table and its check table say: contrasts between designs, the cells to worry about, plain sentences.

Used by the figures and by the report, so that both tell the same numbers.
"""

import json
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

from rafmodel.collapse import FAILED
from rafmodel.errors import InputError
from rafmodel.experience import metric
from rafmodel.metrics import NAMES

PARTS = ("performance", "robustness", "fairness", "raf")
SHIFTED = slice(1, None)  # severity 0 is the clean image


class Cell(NamedTuple):
    """One design under one shift at one level.

    place     level in the shift's unit, e.g. "noise 0.3 (s.d., fraction of display range; level 5)"
    observed  AUC, mean of the seeds
    other     what it is compared with: the predicted AUC, or nan
    """

    design: str
    place: str
    observed: float
    other: float = np.nan


def called(table: xr.Dataset, auc: str = "AUC") -> str:
    """The metric's name; ``auc`` says how the area under the curve is to be called in the sentence."""
    return auc if metric(table) == "auc" else NAMES[metric(table)]


# ---- contrasts


def pairs(study: xr.Dataset, check: xr.Dataset | None, level: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Predicted and observed AUC of shifted cells (design, shift, severity 1-5), seed means, group 'all'.

    Raises InputError for a level other than L0 without a check table.
    """
    if check is not None:
        return check["held_out"].sel(level=level), check["observed"]
    if level != "L0":
        raise InputError(f"level {level}: needs the check table, which is missing; `rafmodel check` writes it")
    cells = study.sel(group="all", severity=SHIFTED)
    return cells[f"predicted_{metric(study)}"], cells[f"observed_{metric(study)}"].mean("seed")


def apart(values: xr.DataArray) -> xr.DataArray:
    """Design effect: each design minus the mean of the other designs in the same cell; nan where it is alone."""
    n = values.notnull().sum("design")
    return (values - values.mean("design")) * n / (n - 1).where(n > 1)


def effects(check: xr.Dataset, level: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Predicted and observed design effects (design, shift, severity).

    Those of L2 are relative to B1, the mean of the other designs' outcomes: L2 already starts from the others.
    """
    held_out = check["held_out"]
    from_others = held_out.sel(level="L2") - held_out.sel(level="B1")
    predicted = from_others if level == "L2" else apart(held_out.sel(level=level))
    return predicted, apart(check["observed"])


def defined_parts(study: xr.Dataset) -> list[str]:
    """The parts of RAF that the study defines for at least one design."""
    return [part for part in PARTS if bool(study[f"{part}_observed"].notnull().any())]


def ranking(study: xr.Dataset) -> list[str]:
    """Designs from best to worst RAF, or robustness where no RAF is defined; undefined designs last."""
    part = "raf" if "raf" in defined_parts(study) else "robustness"
    score = study[f"{part}_observed"].mean("seed").fillna(-1)
    return [str(name) for name in study["design"].values[np.argsort(-score.values, kind="stable")]]


def failures(study: xr.Dataset) -> list[str]:
    """Which runs collapsed, diverged or raised an error, a line each; empty too for tables of earlier versions."""
    if "failed" not in study:
        return []
    lost = [
        (d, s, int(study["failed"][i, j]))
        for i, d in enumerate(study["design"].values)
        for j, s in enumerate(study["seed"].values)
    ]
    errors = json.loads(study.attrs.get("errors", "{}"))
    told = {(d, s): errors.get(f"{d}, seed {s}", FAILED[how]) for d, s, how in lost if how}
    return [f"{name}, seed {seed}: {how}, so its outcomes are absent" for (name, seed), how in told.items()]


def unforeseen(study: xr.Dataset) -> list[str]:
    """Which designs theory has no forecast of since it raised an error, a line each."""
    errors = json.loads(study.attrs.get("errors", "{}"))
    names = [str(d) for d in study["design"].values]
    return [f"{d}: {errors[f'{d}, forecast']}" for d in names if f"{d}, forecast" in errors]


def extremes(score: xr.DataArray) -> list[str]:
    """Names with the highest and the lowest value of a one-dimensional array; empty where none is defined."""
    known = score.dropna(score.dims[0])
    names, values = known[score.dims[0]].values, known.values
    return [str(names[at]) for at in (values.argmax(), values.argmin())] if known.size else []


# ---- cells to worry about


def place(study: xr.Dataset, shift: str, severity: int) -> str:
    """A level of a shift in words, with its physical value."""
    one = study.sel(shift=shift, severity=severity)
    return f"{shift} {float(one['level_value']):g} ({one['unit'].item()}; level {severity})"


def worst_error(study: xr.Dataset, check: xr.Dataset | None, level: str) -> Cell | None:
    """The cell whose prediction is furthest from what was observed; None where nothing can be compared."""
    predicted, observed = pairs(study, check, level)
    at = largest(abs(predicted - observed))
    return _cell(study, at, observed, predicted) if at else None


def lowest(study: xr.Dataset) -> Cell | None:
    """The shifted cell with the lowest observed AUC; None where none was observed."""
    observed = study[f"observed_{metric(study)}"].sel(group="all", severity=SHIFTED).mean("seed")
    at = largest(-observed)
    return _cell(study, at, observed, study[f"predicted_{metric(study)}"].sel(group="all")) if at else None


def widest_gap(study: xr.Dataset) -> tuple[Cell, str, str] | None:
    """The cell, clean ones included, with the widest gap between subgroups, and the best and worst subgroup there.

    The cell's ``observed`` is the AUC of the best subgroup, ``other`` that of the worst.
    """
    groups = study[f"observed_{metric(study)}"].isel(group=SHIFTED).mean("seed")
    at = largest(_gaps(study))
    if at is None:
        return None
    best, worst = extremes(groups.sel(at))
    return _cell(study, at, groups.sel(group=best), groups.sel(group=worst)), best, worst


def _gaps(study: xr.Dataset) -> xr.DataArray:
    return gap(study[f"observed_{metric(study)}"].isel(group=SHIFTED).mean("seed"))


class Gap(NamedTuple):
    """Metric of one subgroup minus that of another, (design, shift, severity), mean of the seeds.

    observed
    error    its standard error over patients (``metrics.jackknife``) and seeds; nan where a subgroup hangs on one patient
    degrees  the degrees of freedom of that (Satterthwaite 1946)
    """

    observed: xr.DataArray
    error: xr.DataArray
    degrees: xr.DataArray

    def reach(self, level: float = 0.95) -> xr.DataArray:
        """Half the width of its interval, by Student's t."""
        return self.error * stats.t.ppf((1 + level) / 2, self.degrees)


def gap_between(study: xr.Dataset, first: str, second: str) -> Gap:
    """The gap between two subgroups and how sure it is.

    Subgroups count as independent, so that where they share patients the error is too large.  Tables of earlier versions have
    a bootstrap's errors, which are taken as those of many patients.
    """
    name = f"observed_{metric(study)}"
    pair = study.sel(group=[first, second])
    freedom = pair[f"{name}_df"] if f"{name}_df" in pair else xr.full_like(pair[f"{name}_se"], np.inf)
    n, mean = pair[name].notnull().sum("seed"), pair[name].mean("seed")
    patients, seeds = pair[f"{name}_se"] ** 2, (pair[name].var("seed", ddof=1) / n).where(n > 1, 0)
    variance = (patients + seeds).sum("group", skipna=False)
    doubt = (patients**2 / freedom + seeds**2 / (n - 1).clip(1)).sum("group", skipna=False)
    return Gap(mean.sel(group=first) - mean.sel(group=second), variance**0.5, variance**2 / doubt)


# ---- sentences


def question(study: xr.Dataset) -> str:
    """What the study asked."""
    n, attrs = study.sizes["design"], study.attrs
    return (
        f"Before anyone trains anything: how robust, and how fair, will each of {n} learning designs be on "
        f"{attrs['cohort']} ({attrs['contrast']}) when its images vary at deployment?"
    )


def answers(study: xr.Dataset, check: xr.Dataset | None) -> list[tuple[str, str]]:
    """(headline, sentences) from the most to the least asked for; what the tables leave undefined is left out."""
    told = [
        ("Designs", _designs(study)),
        ("Shifts", _shifts(study)),
        ("Questions", _questions(study)),
        ("Prediction without training (L0)", _a_priori(study, check)),
        ("Prediction with experience (L0x)", _experienced(check)),
        ("Prediction from other designs (L2)", _calibrated(check)),
        ("Early warning without labels (L1)", _warned(check)),
        ("Worst prediction", _worst_predictions(study, check)),
        (f"Lowest {called(study)}", _lowest(study)),
        ("Widest subgroup gap", _gap(study)),
        ("How much of it is chance", _noise(check)),
    ]
    return [(headline, text) for headline, text in told if text]


def _designs(study: xr.Dataset) -> str:
    robustness = study["robustness_observed"].mean("seed")
    ends = extremes(robustness)
    if not ends:
        return ""
    best, worst = (_kept(study, name) for name in ends)
    shifts = f"{study.sizes['shift']} shifts at {study.sizes['severity'] - 1} levels"
    text = f"{ends[0]} degrades least: under {shifts} it keeps {best}."
    if ends[0] == ends[1]:
        return text
    bounds = study["robustness_observed_interval"].sel(design=ends)
    apart_ = bool(bounds[0].sel(bound="lower") > bounds[1].sel(bound="upper"))
    sure = "The two intervals do not overlap." if apart_ else "The two intervals overlap or are unknown."
    return f"{text} {ends[1]} degrades most: it keeps {worst}. {sure}"


def _kept(study: xr.Dataset, design: str) -> str:
    one = study.sel(design=design)
    low, high = (100 * one["robustness_observed_interval"].values).round()
    clean = float(one[f"observed_{metric(study)}"].sel(group="all", severity=0).mean())
    interval = f"95 % interval {low:.0f} to {high:.0f} %; " if np.isfinite([low, high]).all() else ""
    return (
        f"{100 * float(one['robustness_observed'].mean()):.0f} % of its clean advantage over chance "
        f"({interval}clean {called(study)} {clean:.2f})"
    )


def _shifts(study: xr.Dataset) -> str:
    auc = study[f"observed_{metric(study)}"].sel(group="all").mean(("seed", "design"))
    ends = extremes(auc.isel(severity=-1))
    if not ends:
        return ""
    last, clean = int(auc["severity"][-1]), float(auc.isel(severity=0).mean())
    falls = [f"from {clean:.2f} to {float(auc.sel(shift=s).isel(severity=-1)):.2f}" for s in ends]
    text = f"{place(study, ends[1], last)} hurts most: the mean {called(study)} of all designs goes {falls[1]}."
    return text if ends[0] == ends[1] else f"{text} {place(study, ends[0], last)} hurts least: {falls[0]}."


def _questions(study: xr.Dataset) -> str:
    """What each of several questions came to, mean over designs, seeds and shifts; '' of a single one."""
    if "question" not in study.dims:
        return ""
    observed, foreseen = (
        study[f"{side}_auc_of_question"].sel(group="all").mean(["design", "shift", *more], skipna=True)
        for side, more in (("observed", ["seed"]), ("predicted", []))
    )
    told = [
        f"{name}: clean {float(one[0]):.2f} (foreseen {float(two[0]):.2f}), under shift {float(one[1:].mean()):.2f} "
        f"({float(two[1:].mean()):.2f})"
        for name, one, two in zip(study["question"].values, observed, foreseen, strict=True)
    ]
    text = f"Every AUC is the mean of {len(told)} questions. {'; '.join(told)}."
    if "observed_concordance" not in study:
        return text
    ranked = study["observed_concordance"].sel(group="all").mean(("design", "seed", "shift"))
    return (
        f"{text} Of two images with unequal grades the higher scores higher in {100 * float(ranked[0]):.0f} % (clean)."
    )


def _a_priori(study: xr.Dataset, check: xr.Dataset | None) -> str:
    predicted, observed = pairs(study, check, "L0")
    error = float(abs(predicted - observed).mean())
    if not np.isfinite(error):
        return ""
    text = f"The {called(study)} under shift that theory foresaw was wrong by {error:.3f} on average."
    if check is None:
        return text
    return f"{text} That is {_against_others(check, 'L0')} B1 has seen their outcomes; L0 has seen none."


def _experienced(check: xr.Dataset | None) -> str:
    if check is None or "L0x" not in check["level"].values:
        return ""
    r = {level: float(check["score"].sel(level=level, measure="effect_r")) for level in ("L0", "L0x")}
    if not np.isfinite(list(r.values())).all():
        return ""
    return (
        f"What sets designs apart was foreseen with a correlation of {r['L0x']:.2f} by theory and what the same designs did on "
        f"other cohorts together, {r['L0']:.2f} by theory alone."
    )


def _warned(check: xr.Dataset | None) -> str:
    rivals = ("ATC", "DoC", "CBE")
    if check is None or not {"L1", *rivals} <= set(check["level"].values):
        return ""
    mae = check["score"].sel(measure="mae")
    best = min(rivals, key=lambda name: float(mae.sel(level=name)))
    return (
        f"From each trained encoder and unlabelled test images the AUC was foreseen to {float(mae.sel(level='L1')):.3f} on "
        f"average; the best estimator that does not know the law of the shift ({best}) was wrong by "
        f"{float(mae.sel(level=best)):.3f}."
    )


def _against_others(check: xr.Dataset, level: str) -> str:
    mine, others = (float(check["score"].sel(level=name, measure="mae")) for name in (level, "B1"))
    percent = round(100 * (1 - mine / others))
    word = f"{'better' if percent > 0 else 'worse'}, by {abs(percent)} %, than" if percent else "as good as"
    return f"{word} the mean of the other designs (B1: wrong by {others:.3f})."


def _calibrated(check: xr.Dataset | None) -> str:
    if check is None or not np.isfinite(check["score"].sel(level="L2", measure="mae")):
        return ""
    score = check["score"].sel(level="L2")
    mean, low, high = (float(check[f"weight_{name}"]) for name in ("mean", "lower", "upper"))
    return (
        f"With the other designs' outcomes and theory as a guide, it was wrong by {float(score.sel(measure='mae')):.3f}: "
        f"{_against_others(check, 'L2')} The guide's inferred weight is {mean:.2f} ({low:.2f} to {high:.2f}), where "
        f"0 ignores the theory. Intervals meant to hold 90 % of held-out outcomes held "
        f"{100 * float(score.sel(measure='coverage_90')):.0f} %."
    )


def _worst_predictions(study: xr.Dataset, check: xr.Dataset | None) -> str:
    found = [(level, worst_error(study, check, level)) for level in (["L0"] if check is None else ["L0", "L2"])]
    return " ".join(
        f"{level}: {cell.design} under {cell.place}: observed {cell.observed:.2f}, predicted {cell.other:.2f}."
        for level, cell in found
        if cell
    )


def _lowest(study: xr.Dataset) -> str:
    cell = lowest(study)
    if cell is None:
        return ""
    return f"{cell.design} under {cell.place}: observed {cell.observed:.2f}, predicted {cell.other:.2f} (L0)."


def _gap(study: xr.Dataset) -> str:
    found = widest_gap(study)
    if found is None:
        return ""
    cell, best, worst = found
    text = (
        f"{cell.design} under {cell.place}: {called(study)} {cell.observed:.2f} in {best}, {cell.other:.2f} in {worst}."
    )
    at = largest(_gaps(study))
    between = gap_between(study, best, worst)
    gap_, reach = (float(values.sel(at)) for values in (between.observed, between.reach()))
    if not np.isfinite(reach):
        return f"{text} How sure that is cannot be said: one of them hangs on a single patient."
    interval = f"{gap_ - reach:.2f} to {gap_ + reach:.2f}"
    return f"{text} The 95 % interval of that gap is {interval}, and the widest of many is partly chance."


def _noise(check: xr.Dataset | None) -> str:
    if check is None:
        return ""
    seed, sampling, reliability = (float(check[name]) for name in ("seed_sd", "sampling_se", "reliability"))
    parts = [
        f"Another seed moves {called(check, 'an AUC')} by {seed:.3f} (s.d.)." if np.isfinite(seed) else "",
        f"Another sample of test patients moves a seed mean by {sampling:.3f} (s.e.)." if np.isfinite(sampling) else "",
        f"Even a perfect prediction of design effects could reach only r = {max(reliability, 0) ** 0.5:.2f}."
        if np.isfinite(reliability)
        else "",
    ]
    return " ".join(filter(None, parts))


def gap(groups: xr.DataArray) -> xr.DataArray:
    """Best subgroup minus worst; nan where fewer than two are known."""
    known = groups.notnull().sum("group") > 1
    return (groups.max("group") - groups.min("group")).where(known) if known.any() else known.where(known)


def largest(score: xr.DataArray) -> dict[str, Any] | None:
    """Coordinates of the largest defined value; None where none is defined."""
    if not bool(score.notnull().any()):
        return None
    at = score.where(score.notnull(), -np.inf).argmax(...)
    return {str(dim): score[dim].values[int(i)] for dim, i in at.items()}


def _cell(study: xr.Dataset, at: dict, observed: xr.DataArray, other: xr.DataArray) -> Cell:
    where = place(study, str(at["shift"]), int(at["severity"]))
    return Cell(str(at["design"]), where, float(observed.sel(at)), float(other.sel(at)))
