"""A made-up study and its check table, to the schema, with values like those of a real one.

``make_study`` invents a cohort, learning designs and their scores; ``make_check`` predicts each design from the
others with one fixed slope.  Scores of the check and RAF are worked out here, apart from the package, so that
tests of figures and of the report have numbers from somewhere else.
"""

import numpy as np
import xarray as xr
from scipy.stats import norm, spearmanr

DESIGNS = (
    *("untrained", "supervised", "supervised+all", "contrastive", "contrastive+contrast"),
    *("contrastive+rotation", "contrastive+noise", "contrastive+all", "vicreg", "vicreg+noise"),
    *("vicreg+all", "rotation", "jigsaw", "masked"),
)
# unit, five levels, loss on the probit scale at the strongest level, design word that protects
SHIFTS = {
    "gain": ("s.d. of log gain", (0.1, 0.2, 0.35, 0.5, 0.75), 0.35, "contrast"),
    "gamma": ("s.d. of log gamma", (0.1, 0.2, 0.4, 0.6, 0.9), 0.40, "contrast"),
    "rotation": ("s.d., degrees", (5.0, 10.0, 20.0, 40.0, 80.0), 0.60, "rotation"),
    "noise": ("s.d., fraction of display range", (0.02, 0.05, 0.1, 0.2, 0.3), 0.85, "noise"),
    "blur": ("s.d., fraction of image side", (0.015, 0.025, 0.04, 0.06, 0.09), 0.30, "blur"),
    "bias": ("s.d. of log field coefficients", (0.1, 0.2, 0.3, 0.45, 0.6), 0.45, "contrast"),
    "spike": ("amplitude, fraction of display range", (0.03, 0.06, 0.12, 0.2, 0.3), 0.65, "noise"),
    "crop": ("fraction of image side cut away", (0.1, 0.2, 0.3, 0.4, 0.5), 0.50, "crop"),
}
NOMINAL = (0.5, 0.8, 0.9, 0.95)
LEVELS = ("B0", "B1", "L0", "L2")
MEASURES = (
    *("mae", "skill", "effect_r", "effect_r_corrected", "rank_r"),
    *("coverage_50", "coverage_80", "coverage_90", "coverage_95", "log_score"),
)
ATTRIBUTES = {
    "cohort": "synthetic chest",
    "contrast": "label 1 against 0",
    "licence": "CC BY 4.0",
    "source": "made up for tests",
    "command": "rafmodel study --cohort synthetic --group site",
    "rafmodel_version": "0.1.0",
    "jax_version": "0.10.2",
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "seed": 0,
    "metric": "auc",
    "n_train": 3000,
    "n_labelled": 256,
    "image_size": 28,
}


def make_study(
    seed: int = 0, groups: tuple[str, ...] = ("all", "A", "B"), n_designs: int = 14, n_seeds: int = 3
) -> xr.Dataset:
    """A study table; ``groups`` starts with 'all', and with nothing after it fairness and RAF are nan."""
    rng = np.random.default_rng(seed)
    names, sizes = list(DESIGNS[:n_designs]), (n_designs, n_seeds, len(SHIFTS), 6, len(groups))
    clean = rng.normal(1.15, 0.12, n_designs) - 0.35 * np.array([n == "untrained" for n in names])
    loss = np.array([[_loss(name, shift, rng) for shift in SHIFTS] for name in names])
    dose = (np.arange(6) / 5) ** 1.3
    by_group = np.array([0.0, *np.linspace(0.08, -0.22, len(groups) - 1)])
    widen = np.array([1.0, *np.linspace(0.9, 1.3, len(groups) - 1)])
    probit = clean[:, None, None, None] + by_group - loss[:, :, None, None] * dose[:, None] * widen
    wobble = rng.normal(0, 0.10, (*sizes[:3], 1, 1)) * dose[:, None] + rng.normal(0, 0.03, sizes)
    observed = norm.cdf((probit[:, None] + wobble) / np.sqrt(2))
    observed[:, :, :, 0] = observed[:, :, :1, 0]  # clean is the same for each shift
    mean = probit.mean(0)
    theory = mean + 0.45 * (probit - mean) + rng.normal(0, 0.08, (n_designs, 1, 1, 1))
    theory = theory + rng.normal(0.25, 0.3, (len(SHIFTS), 1, 1)) * dose[:, None]  # shifts misjudged, mostly too mild
    predicted = norm.cdf(theory / np.sqrt(2))
    share = np.array([1.0, *np.linspace(0.7, 0.3, len(groups) - 1)])
    se = 0.022 / np.sqrt(share) * np.ones((n_designs, len(SHIFTS), 6, 1))
    cell, foreseen = (
        ("design", "seed", "shift", "severity", "group"),
        ("design", "shift", "severity", "group"),
    )
    variables = {
        **{f"observed_{m}": (cell, _rate(observed, m)) for m in ("auc", "tpr", "fpr")},
        **{f"predicted_{m}": (foreseen, _rate(predicted, m)) for m in ("auc", "tpr", "fpr")},
        "observed_auc_se": (foreseen, se),
        "n_case": ("group", np.round(220 * share).astype(int)),
        "n_control": ("group", np.round(180 * share).astype(int)),
        "level_value": (("shift", "severity"), np.array([(0.0, *SHIFTS[s][1]) for s in SHIFTS])),
        **_raf_variables(observed, predicted),
    }
    coordinates = {
        "design": names,
        "seed": np.arange(n_seeds),
        "shift": list(SHIFTS),
        "unit": ("shift", [SHIFTS[s][0] for s in SHIFTS]),
        "severity": np.arange(6),
        "group": list(groups),
        "bound": ["lower", "upper"],
    }
    attribute = "site" if len(groups) > 1 else ""
    return xr.Dataset(variables, coordinates, {**ATTRIBUTES, "group_attribute": attribute})


def make_check(study: xr.Dataset) -> xr.Dataset:
    """The check table of a study: B1 plus 0.8 times the predicted design effect plays L2."""
    cells = study.sel(group="all", severity=slice(1, None))
    observed = cells["observed_auc"].mean("seed")
    clean = study["observed_auc"].sel(group="all", severity=0).mean("seed")
    held_out = {
        "B0": clean.broadcast_like(observed),
        "B1": observed - _apart(observed),
        "L0": cells["predicted_auc"],
    }
    held_out["L2"] = held_out["B1"] + 0.8 * _apart(held_out["L0"])
    held = xr.concat(list(held_out.values()), "level", coords="minimal", compat="override")
    held = held.assign_coords(level=list(LEVELS)).transpose("level", "design", "shift", "severity")
    width = float((observed - held_out["L2"]).std()) * norm.ppf(0.5 + np.array(NOMINAL) / 2)
    half = xr.DataArray(width, {"nominal": list(NOMINAL)}, "nominal")
    sides = [held_out["L2"] - half, held_out["L2"] + half]
    interval = xr.concat(sides, "bound").assign_coords(bound=["lower", "upper"])
    within = float(cells["observed_auc"].var("seed", ddof=1).mean())
    between = float(observed.var("design").mean())
    reliability = between / (between + within / study.sizes["seed"])
    variables = {
        "score": (("level", "measure"), _scores(held, observed, interval, reliability)),
        "held_out": held.drop_vars(["group", "unit"], errors="ignore"),
        "interval": interval.transpose("nominal", "bound", "design", "shift", "severity"),
        "observed": observed.drop_vars(["group"], errors="ignore"),
        "weight_mean": 0.8,
        "weight_lower": 0.42,
        "weight_upper": 1.15,
        "reliability": reliability,
        "seed_sd": within**0.5,
        "sampling_se": float(cells["observed_auc_se"].mean()),
    }
    return xr.Dataset(variables, {"measure": list(MEASURES)}).drop_vars("group", errors="ignore")


def raf_parts(auc: np.ndarray) -> dict[str, np.ndarray]:
    """Performance, robustness, fairness, RAF and undefined cells of AUCs (..., shift, severity, group), in plain loops."""
    lead = auc.shape[:-3]
    found = {part: np.full(lead, np.nan) for part in ("performance", "robustness", "fairness", "raf", "undefined")}
    for at in np.ndindex(*lead):
        above = auc[at] - 0.5
        clean = above[0, 0, 0]
        ratios = []
        for f, s in [(0, 0), *((f, s) for f in range(above.shape[0]) for s in range(1, 6))]:
            groups = above[f, s, 1:]
            defined = groups.size and groups.max() > 0
            ratios.append(np.clip(groups.min() / groups.max(), 0, 1) if defined else np.nan)
        found["performance"][at] = clean / 0.5
        found["robustness"][at] = np.mean(np.clip(above[:, 1:, 0] / clean, 0, 1))
        found["undefined"][at] = np.isnan(ratios).sum()
        found["fairness"][at] = np.nanmean(ratios) if np.isfinite(ratios).any() else np.nan
        found["raf"][at] = np.sqrt(found["robustness"][at] * found["fairness"][at])
    return found


def _loss(design: str, shift: str, rng: np.random.Generator) -> float:
    """Loss of a design under a shift at its strongest level; views that contain the shift protect."""
    _, _, strength, word = SHIFTS[shift]
    shield = 0.35 if "+" in design and (word in design or "+all" in design) else 1.0
    return strength * shield * rng.lognormal(0, 0.2)


def _rate(auc: np.ndarray, name: str) -> np.ndarray:
    """The AUC itself, or TPR and FPR at the midpoint of two Gaussians with that AUC."""
    half = norm.ppf(auc) / np.sqrt(2)
    return {"auc": auc, "tpr": norm.cdf(half), "fpr": norm.cdf(-half)}[name]


def _raf_variables(observed: np.ndarray, predicted: np.ndarray) -> dict:
    seen, foreseen = raf_parts(observed), raf_parts(predicted)
    variables = {"undefined_fairness_cells": (("design", "seed"), seen.pop("undefined"))}
    for part, values in seen.items():
        middle = values.mean(1)
        bounds = np.stack([middle - 0.06, np.minimum(middle + 0.05, 1)], -1)
        variables[f"{part}_observed"] = ("design", "seed"), values
        variables[f"{part}_predicted"] = ("design",), foreseen[part]
        variables[f"{part}_observed_interval"] = ("design", "bound"), bounds
    return variables


def _apart(values: xr.DataArray) -> xr.DataArray:
    """Each design minus the mean of the others, one by one."""
    others = [values.drop_sel(design=name).mean("design") for name in values["design"].values]
    return values - xr.concat(others, "design").assign_coords(design=values["design"])


def _scores(held: xr.DataArray, observed: xr.DataArray, interval: xr.DataArray, reliability: float) -> np.ndarray:
    score = np.full((len(LEVELS), len(MEASURES)), np.nan)
    mae = abs(held - observed).mean(("design", "shift", "severity")).values
    score[:, 0], score[:, 1] = mae, 1 - mae / mae[1]
    effect = _apart(observed)
    centred = {"B0": _apart(held[0]), "L0": _apart(held[2]), "L2": held[3] - held[1]}
    for level, predicted in centred.items():
        i = LEVELS.index(level)
        score[i, 2] = np.corrcoef(predicted.values.ravel(), effect.values.ravel())[0, 1]
        score[i, 3] = score[i, 2] / np.sqrt(reliability)
        pairs = [(predicted[:, f, s], effect[:, f, s]) for f in range(held.shape[2]) for s in range(5)]
        score[i, 4] = np.mean([spearmanr(*pair).statistic for pair in pairs])
    inside = (observed > interval.sel(bound="lower")) & (observed < interval.sel(bound="upper"))
    score[3, 5:9] = inside.mean(("design", "shift", "severity")).values
    residual = (observed - held[3]).values
    score[3, 9] = norm.logpdf(residual, 0, residual.std()).mean()
    return score
