"""How good were the predictions: held-out designs, contrasts rather than levels, always beside the baselines.

B0  as good as clean: the design's own observed clean AUC
B1  the mean of the other designs in the same cell (needs outcomes)
L0  theory alone, before training
L2  the hierarchical model of ``fit``, which never saw an outcome of the design it predicts
B3  the mean of the other designs, moved by what this design does on other cohorts: no theory; where such studies are given
L2x the hierarchical model with that knowledge as a second covariate beside the theory
L0x theory read with that knowledge, before anything is trained here
L0+ theory and a short run of each design, where the study has them; L0+x: L0x and the short run
L1  early warning, which sees the design's own trained encoder, and the other estimators of ``early``, where the study has them;
    L1x: its design effect is the mean of L1's and L0x's
"""

import jax
import numpy as np
import xarray as xr
from jax import Array
from scipy.special import ndtr
from scipy.stats import spearmanr

from rafmodel import experience, fit, pilot
from rafmodel.experience import metric
from rafmodel.metrics import NAMES

LEVELS = ("B0", "B1", "L0", "L2")
COVERAGE = tuple(f"coverage_{round(100 * p)}" for p in fit.NOMINAL)
MEASURES = ("mae", "skill", "effect_r", "effect_r_corrected", "rank_r", *COVERAGE, "log_score")
_CELL = ("design", "shift", "severity")


def check(
    study: xr.Dataset, known: xr.Dataset | None = None, *, key: Array, warmup: int = 200, draws: int = 250
) -> xr.Dataset:
    """Every design predicted from the others and scored on its shifted cells.

    known  experience of other cohorts, for B3, L2x, L0x, L1x and L0+x, which are left out where it says nothing of this study
    The design effect is taken against the mean of the *other* designs, observed and predicted alike: centred on all
    designs, B1 would correlate at -1 with what it predicts, and L2 would inherit the artefact.
    Raises InputError where the study has fewer than four designs.
    """
    key_fit, key_draw, key_full = jax.random.split(key, 3)
    by_seed = study[f"observed_{metric(study)}"].sel(group="all").transpose("seed", *_CELL)
    observed = _shifted(by_seed.mean("seed").values)
    theory = study[f"predicted_{metric(study)}"].sel(group="all").transpose(*_CELL).values
    foreseen, clean = _shifted(theory), by_seed.sel(severity=0).mean("seed").values
    law = fit.leave_one_design_out(study, key=key_fit, warmup=warmup, draws=draws)
    shape, n = observed.shape, len(fit.NOMINAL)
    median, interval = _told(law, shape, key_draw)

    b1 = others(observed)
    held_out = {"B0": np.broadcast_to(clean[:, :, None], shape), "B1": b1, "L0": foreseen, "L2": median}
    effects = {
        "B0": held_out["B0"] - others(held_out["B0"]),
        "B1": np.full(shape, np.nan),
        "L0": foreseen - others(foreseen),
        "L2": median - b1,
    }
    laws = {"L2": (law, interval)}
    told, abroad = _early(study), None if known is None else experience.effects(known, study)
    if known is not None and abroad is not None and np.isfinite(abroad).any():
        informed = fit.leave_one_design_out(study, known, key=key_fit, warmup=warmup, draws=draws)
        centre, bounds = _told(informed, shape, key_draw)
        laws["L2x"] = informed, bounds
        plain = experience.effects(known, study, scaled=False)
        moved = ndtr(fit.probit(b1) + np.nan_to_num(_shifted(plain)))
        held_out |= {"B3": moved, "L2x": centre}
        effects |= {"B3": moved - b1, "L2x": centre - b1}
        told |= _with_experience(study, theory, abroad, told)
    if "pilot_auc" in study:
        told |= {"L0+": _shifted(pilot.combined(theory, _runs(study)))}
    for name, values in told.items():
        held_out[name], effects[name] = values, values - others(values)
    trust = reliability(_shifted(by_seed.values))
    score = np.full((len(held_out), len(MEASURES)), np.nan)
    for i, level in enumerate(held_out):
        score[i, :5] = _scores(held_out[level], effects[level], observed, b1, trust)
    for name, (one, bounds) in laws.items():
        inside = (bounds[:, 0] <= observed[None]) & (observed[None] <= bounds[:, 1])
        row = list(held_out).index(name)
        score[row, 5 : 5 + n] = inside.mean((1, 2, 3))
        score[row, -1] = fit.log_density(one, fit.cells(study).observed)[:, 1:].mean()

    weight = fit.fit(study, key=key_full, warmup=warmup, draws=draws, chains=4)["weight"].values
    under_shift = by_seed.sel(severity=slice(1, None))
    variables = {
        "score": (("level", "measure"), score),
        "held_out": (("level", *_CELL), np.stack(list(held_out.values()))),
        "interval": (("nominal", "bound", *_CELL), interval),
        "observed": (_CELL, observed),
        "weight_mean": weight.mean(),
        "weight_lower": np.quantile(weight, 0.05),
        "weight_upper": np.quantile(weight, 0.95),
        "reliability": trust,
        "seed_sd": float(np.sqrt(under_shift.var("seed", ddof=1).mean())) if by_seed.sizes["seed"] > 1 else np.nan,
        "sampling_se": float(study[f"observed_{metric(study)}_se"].sel(group="all", severity=slice(1, None)).mean()),
    }
    coordinates = {
        "level": list(held_out),
        "measure": list(MEASURES),
        "design": study["design"].values,
        "shift": study["shift"].values,
        "severity": np.arange(1, 6),
        "nominal": list(fit.NOMINAL),
        "bound": ["lower", "upper"],
    }
    return xr.Dataset(variables, coordinates, {"cohort": study.attrs.get("cohort", ""), "metric": metric(study)})


def _told(law: fit.HeldOut, shape: tuple[int, ...], key: Array) -> tuple[np.ndarray, np.ndarray]:
    """Medians (design, shift, severity 1-5) and intervals (nominal, bound, design, shift, severity 1-5) of the AUC."""
    tails, n = [(1 - p) / 2 for p in fit.NOMINAL], len(fit.NOMINAL)
    found = fit.quantiles(law, [0.5, *tails, *(1 - t for t in tails)], key=key)
    median, *bounds = (q[:, 1:].reshape(shape) for q in found)
    return median, np.stack([np.stack(bounds[:n]), np.stack(bounds[n:])], axis=1)


def _early(study: xr.Dataset) -> dict[str, np.ndarray]:
    """Seed means of the early warnings of everyone's AUC, (design, shift, severity 1-5), where the study has all."""
    if "early_auc" not in study:
        return {}
    told = study["early_auc"].sel(group="all").mean("seed").transpose("estimator", *_CELL)
    return {str(one.estimator.values): _shifted(one.values) for one in told if np.isfinite(one.values).all()}


def _with_experience(
    study: xr.Dataset, theory: np.ndarray, abroad: np.ndarray, early: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """L0x, L1x and L0+x, those that the study allows, (design, shift, severity 1-5)."""
    names = [str(name) for name in study["design"].values]
    informed = experience.expected(theory, abroad, names)
    found = {"L0x": _shifted(informed)}
    if "L1" in early:
        effect = experience.probit(found["L0x"])
        found["L1x"] = experience.expected(early["L1"], effect - effect.mean(0), names)
    if "pilot_auc" in study:
        found["L0+x"] = _shifted(pilot.combined(informed, _runs(study)))
    return found


def _runs(study: xr.Dataset) -> np.ndarray:
    return study["pilot_auc"].sel(group="all").transpose(*_CELL).values


def others(values: np.ndarray) -> np.ndarray:
    """For each design, the mean over all other designs, same shape."""
    return (values.sum(0) - values) / (len(values) - 1)


def reliability(by_seed: np.ndarray) -> float:
    """Share of the variance of the seed mean's design effects that is not seed noise; nan with one seed.

    by_seed  (seed, design, ...) AUC.  One-way variance components, pooled over cells; may be 0 when all is noise.
    """
    n_seeds = len(by_seed)
    if n_seeds < 2:
        return float("nan")
    noise = by_seed.var(0, ddof=1).mean() / n_seeds
    total = by_seed.mean(0).var(0, ddof=1).mean()
    return float(max(0.0, 1 - noise / total)) if total > 0 else 0.0


def table(checked: xr.Dataset) -> str:
    """The scores as text."""
    short = ["MAE", "skill", "effect r", "r*", "rank r", *(f"{round(100 * p)} %" for p in fit.NOMINAL), "log score"]
    rows = [
        f"held-out designs, {NAMES[checked.attrs.get('metric', 'auc')]} under shift",
        f"{'':4s}" + "".join(f"{name:>10s}" for name in short),
    ]
    for level in checked["level"].values:
        values = checked["score"].sel(level=level).values
        rows.append(f"{level:4s}" + "".join(f"{v:10.3f}" if np.isfinite(v) else f"{'':>9s}-" for v in values))
    rows.append(
        f"weight of theory {float(checked['weight_mean']):.2f} "
        f"({float(checked['weight_lower']):.2f} to {float(checked['weight_upper']):.2f}); "
        f"reliability of the seed mean {float(checked['reliability']):.2f}; r* = effect r / sqrt(reliability)"
    )
    return "\n".join(rows)


def _shifted(values: np.ndarray) -> np.ndarray:
    return values[..., 1:]


def _scores(predicted, effect, observed, b1, trust) -> list[float]:
    """MAE, skill, design-effect correlation, the same over the noise ceiling, and rank correlation within cells."""
    mae = np.abs(predicted - observed).mean()
    own = observed - b1
    r = _correlation(effect.ravel(), own.ravel())
    cells = zip(effect.reshape(len(effect), -1).T, own.reshape(len(own), -1).T, strict=True)
    ranks = [float(np.asarray(spearmanr(e, o)[0])) for e, o in cells if np.ptp(e) > 0 and np.ptp(o) > 0]
    rank = float(np.mean(ranks)) if ranks and np.isfinite(r) else np.nan
    corrected = r / np.sqrt(trust) if trust > 0 else np.nan
    return [mae, 1 - mae / np.abs(b1 - observed).mean(), r, corrected, rank]


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if not np.isfinite(x).all() or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan
    return float(np.corrcoef(x, y)[0, 1])
