"""One self-contained HTML file that a person would send to a colleague: question, answers, figures, tables.

Reads tables only.  Every number on the page comes from the study or from its check.
"""

import base64
from pathlib import Path

import numpy as np
import xarray as xr
from jinja2 import Environment, PackageLoader, StrictUndefined

from rafmodel import findings, plot
from rafmodel.files import atomically

FEW = 20  # cases or controls below which a subgroup is flagged
PARTS = ("performance", "robustness", "fairness", "raf")
CAPTIONS = {
    "degradation": (
        "Degradation curves",
        "AUC of every design as each shift grows; level 0 is clean. Solid: observed, mean of the seeds, band from the "
        "lowest to the highest seed. Dashed: predicted before training (L0). Named: the best and the worst at the "
        "strongest level.",
    ),
    "predicted": (
        "Predicted against observed",
        "Each point is one design under one shift at one level. Left: theory alone (L0). Right: calibrated on the other "
        "designs (L2). On the line the prediction is right.",
    ),
    "residuals": ("Residuals", "Observed minus predicted AUC of the same points, by shift and level; 0 is right."),
    "effects": (
        "Design effects and calibration",
        "How much better or worse than the mean of the other designs: predicted against observed. This is the part that "
        "choosing a design depends on. Right: how often intervals held the outcome.",
    ),
    "raf": (
        "Robust and fair, by design",
        "Performance, robustness, fairness and RAF. Filled: observed, mean of the seeds, with its 95 % bootstrap interval "
        "over patients; small dots: single seeds; open: predicted (L0).",
    ),
    "subgroups": ("Subgroups", "AUC of each subgroup under each shift, mean over designs and seeds."),
}
MEASURES = {
    "mae": ("MAE", "mean absolute error of the AUC under shift; smaller is better"),
    "skill": ("skill", "1 − MAE / MAE of B1; above 0 is better than the mean of the other designs"),
    "effect_r": ("effect r", "correlation of predicted and observed design effects; 1 is perfect"),
    "effect_r_corrected": ("r*", "effect r divided by √reliability: what it would be without seed noise"),
    "rank_r": ("rank r", "mean over shifted cells of the rank correlation of designs"),
    "coverage_50": ("50 %", "share of outcomes inside the 50 % interval"),
    "coverage_80": ("80 %", "share of outcomes inside the 80 % interval"),
    "coverage_90": ("90 %", "share of outcomes inside the 90 % interval"),
    "coverage_95": ("95 %", "share of outcomes inside the 95 % interval"),
    "log_score": ("log score", "mean log predictive density on the probit scale; larger is better"),
}
LEVELS = {
    "B0": "as good as clean: the design's own clean AUC",
    "B1": "the mean of the other designs under the same shift (needs their outcomes)",
    "L0": "theory before any training: source images, design and shift law only",
    "L0x": "theory read with what the same designs did on other cohorts, before any training here",
    "L0+": "theory and a short run of each design",
    "L0+x": "L0x and the short run",
    "B3": "the mean of the other designs, moved by what this design did on other cohorts",
    "L2": "hierarchical model with the other designs' outcomes and L0; never saw the design it predicts",
    "L2x": "L2 that also knows what the same designs did on other cohorts",
    "L1": "early warning: the design's own trained encoder, source images under the shift law, unlabelled test images",
    "L1x": "L1 whose design effects are the mean of its own and those of L0x",
    "ATC": "average thresholded confidence of the same encoder, without the shift law",
    "DoC": "difference of confidences, likewise",
    "CBE": "confidence-based estimation, likewise",
}


def write(study: xr.Dataset, check: xr.Dataset | None, folder: Path) -> Path:
    """Write ``folder/report.html`` and the figures (PDF and PNG) in ``folder/figures``; the path of the report.

    check  held-out predictions, or None where there were too few designs
    """
    name = findings.called(study)
    drawn = plot.figures(study, check, folder / "figures")
    page = _template().render(
        study=study.attrs,
        metric=name,
        question=findings.question(study),
        questions=[str(q) for q in study["question"].values] if "question" in study.dims else [],
        answers=findings.answers(study, check),
        figures=_figures(drawn, name),
        check=_check_rows(check),
        levels={level: LEVELS[level] for level, _ in _check_rows(check)},
        measures={k: (short, text.replace("AUC", name)) for k, (short, text) in MEASURES.items()},
        raf=_raf_rows(study),
        has_groups=study.sizes["group"] > 1,
        counts=_counts(study),
        undefined=int(study["undefined_fairness_cells"].sum()),
        cells=int(study["undefined_fairness_cells"].size * (1 + 5 * study.sizes["shift"])),
        seeds=study.sizes["seed"],
        few=FEW,
        failures=findings.failures(study),
        unforeseen=findings.unforeseen(study),
    )
    path = folder / "report.html"
    atomically(path, lambda file: file.write(page.encode()))
    return path


def _template():
    loader = PackageLoader("rafmodel", ".")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("report.html.jinja")


def _figures(drawn: list[Path], metric: str) -> list[dict[str, str]]:
    """Title, caption and PNG (base64) of each figure that was drawn, in reading order."""
    pictures = {path.stem: path for path in drawn if path.suffix == ".png"}
    return [
        {
            "name": name,
            "title": title,
            "caption": caption.replace("AUC", metric),
            "data": base64.b64encode(pictures[name].read_bytes()).decode(),
        }
        for name, (title, caption) in CAPTIONS.items()
        if name in pictures
    ]


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "–"


def _check_rows(check: xr.Dataset | None) -> list[tuple[str, list[str]]]:
    if check is None:
        return []
    score = check["score"]
    there = [level for level in LEVELS if level in check["level"].values]
    return [(level, [_number(float(score.sel(level=level, measure=m))) for m in MEASURES]) for level in there]


def _raf_rows(study: xr.Dataset) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """For each design, best first: (observed, interval, predicted) of P, R, F and RAF."""
    rows = []
    for name in findings.ranking(study):
        one, cells = study.sel(design=name), []
        for part in PARTS:
            low, high = (_number(float(v), 2) for v in one[f"{part}_observed_interval"].values)
            interval = f"{low} to {high}" if low != "–" else ""
            observed = _number(float(one[f"{part}_observed"].mean("seed")), 2)
            cells.append((observed, interval, _number(float(one[f"{part}_predicted"]), 2)))
        rows.append((name, cells))
    return rows


def _counts(study: xr.Dataset) -> list[tuple[str, int, int, bool]]:
    """Cases and controls of each group in the test part, and whether they are too few to trust."""
    rows = zip(study["group"].values, study["n_case"].values, study["n_control"].values, strict=True)
    return [(str(g), int(case), int(control), bool(min(case, control) < FEW)) for g, case, control in rows]
