"""What the other designs tell about one that was not simulated: a hierarchical model of degradation curves.

Works on the probit scale and sees study tables only.  Each design is a draw from a population of curves: a
level per cell (clean, and each shift at each level), a term for what theory (L0) says about this design there
and a deviation of the design.  Levels have a flat prior and are integrated out, which leaves two dozen
parameters to sample.  The weight of the theory is inferred, so that useless predictions are ignored rather
than believed: at weight 0 the held-out prediction is the mean of the other designs (B1).

Test images are the same for all designs, so most of the sampling error sits in the levels; what differs
between designs, seed noise included, is in the residual.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import xarray as xr
from jax import Array
from jax.scipy.special import ndtr
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import MCMC, NUTS

from rafmodel import experience, metrics
from rafmodel.errors import InputError
from rafmodel.experience import metric

FEWEST_DESIGNS = 4
NOMINAL = (0.5, 0.8, 0.9, 0.95)
probit = partial(metrics.probit, edge=1e-3)  # of AUCs or Dice


class Cells(NamedTuple):
    """A study's cells (clean first, then shift by level) on the probit scale.

    observed  (design, cell) seed means, nan where there is none
    theory    (design, cell) L0, centred over designs in each cell; 0, the mean, where there is none
    shift     (cell,) index of the shift; clean has one of its own, the last
    dose      (cell,) level over 5, 0 for clean
    used      (cell,) 1 where two designs have an outcome beside any one that is held out, else 0
    holes     (2, n) design and cell of each absent outcome that has others beside it
    abroad    (design, cell) mean effect of the design on other cohorts, 0 where not known
    """

    observed: Array
    theory: Array
    shift: Array
    dose: Array
    used: Array
    holes: Array
    abroad: Array


def cells(study: xr.Dataset, known: xr.Dataset | None = None) -> Cells:
    """Cells of everyone's AUC; ``known`` is experience of other cohorts.

    Theory is centred over *all* designs, a held-out one included: predictions use no outcome, and a constant
    moved between ``theory`` and the levels changes nothing.
    Raises InputError where fewer than four designs have outcomes to compare.
    """
    n_shifts = study.sizes["shift"]
    seen, theory = (probit(_everyone(study, f"{what}_{metric(study)}")) for what in ("observed", "predicted"))
    has = np.isfinite(seen)
    n_designs, used = int(np.sum(has.sum(1) > 0)), np.asarray(has.sum(0) > 2)
    if n_designs < FEWEST_DESIGNS:
        where = study.attrs.get("cohort", "study")
        raise InputError(
            f"{where}: a fit needs {FEWEST_DESIGNS} designs with outcomes and this study has "
            f"{n_designs}; run more --designs"
        )
    middle = np.nansum(theory, 0) / np.maximum(np.isfinite(theory).sum(0), 1)
    elsewhere = np.zeros_like(seen) if known is None else _flat(experience.effects(known, study))
    return Cells(
        jnp.asarray(seen),
        jnp.asarray(np.nan_to_num(theory - middle)),
        jnp.asarray(np.concatenate([[n_shifts], np.repeat(np.arange(n_shifts), 5)])),
        jnp.asarray(np.concatenate([[0.0], np.tile(np.arange(1, 6) / 5, n_shifts)])),
        jnp.asarray(used, float),
        jnp.asarray(np.stack(np.nonzero(~has & has.any(1, keepdims=True) & used[None, :]))),
        jnp.asarray(np.nan_to_num(elsewhere)),
    )


def _everyone(study: xr.Dataset, name: str) -> np.ndarray:
    """AUC of everyone, mean over the seeds that have one, (design, cell): clean once, then shift by level."""
    values = study[name].sel(group="all")
    values = values.mean("seed") if "seed" in values.dims else values
    return _flat(values.transpose("design", "shift", "severity").values)


def _flat(table: np.ndarray) -> np.ndarray:
    """(design, shift, severity 0-5) -> (design, cell)."""
    return np.concatenate([table[:, :1, 0], table[:, :, 1:].reshape(len(table), -1)], axis=1)


def reported(study: Cells) -> Array:
    """1 for designs with at least one outcome, else 0; (design,)."""
    return jnp.isfinite(study.observed).any(1).astype(study.observed.dtype)


def filled(study: Cells, values: Array | None) -> Array:
    """Outcomes (design, cell) with ``values`` in the holes, and 0 where nothing is compared."""
    outcomes = jnp.nan_to_num(study.observed)
    return outcomes if values is None else outcomes.at[study.holes[0], study.holes[1]].set(values)


# ---- the model


class Spread(NamedTuple):
    """Standard deviations, probit scale, of what sets a design apart.

    design    of its offset, the same in every cell
    curve     (term,) of its curve under each shift, at full dose
    residual  of each cell
    """

    design: Array
    curve: Array
    residual: Array


def model(studies: Sequence[Cells], included: Sequence[Array]) -> None:
    """Designs of one or several studies that share the weight of theory and the size of deviations.

    included  (design,) of each study: 1 where its outcomes are known, 0 where they are held out
    A held-out design enters through its prediction only (the centring of ``theory``), which uses no outcome.
    An absent outcome is a parameter under a nearly flat prior, which integrates it out.  So is the weight of what designs did on
    other cohorts where nothing is known of that: it keeps its prior and changes no other parameter's law, and one compiled
    program serves both.
    """
    foreign = _drawn("weight_abroad", dist.Normal(0.5, 0.5))
    n_terms = 1 + studies[0].shift.shape[0] // 5  # shifts, which all studies share, and clean
    weight = _drawn("weight", dist.Normal(0.5, 0.5))
    by_shift = _drawn("weight_spread", dist.HalfNormal(0.3))
    with numpyro.plate("terms", n_terms):
        apart = _drawn("weight_z", dist.Normal(0, 1))
        weights = weight + by_shift * apart
        curve_z = _drawn("curve_z", dist.Normal(0, 1))
    design = _drawn("design_sd", dist.HalfNormal(0.2))
    typical = _drawn("curve_sd", dist.HalfNormal(0.3))
    curves = typical * jnp.exp(curve_z / 2)
    spread = Spread(design, curves, _drawn("residual_sd", dist.HalfNormal(0.1)))
    numpyro.deterministic("weight_by_shift", weights)
    numpyro.deterministic("curve_sd_by_shift", curves)
    for i, (study, known) in enumerate(zip(studies, included, strict=True)):
        absent = study.holes.shape[1]
        values = _drawn(f"absent_{i}", dist.Normal(0, 3).expand([absent])) if absent else None
        rest = unexplained(study, filled(study, values), weights, foreign)
        numpyro.factor(f"outcomes_{i}", restricted(study, known, rest, spread))


def _drawn(name: str, law: dist.Distribution) -> Array:
    return jnp.asarray(numpyro.sample(name, law))


def unexplained(study: Cells, outcomes: Array, weights: Array, foreign: Array | float = 0.0) -> Array:
    """Outcomes minus what theory and other cohorts say of each design, (design, cell): a level per cell plus deviations."""
    return outcomes - explained(study, weights, foreign)


def explained(study: Cells, weights: Array, foreign: Array | float) -> Array:
    """What theory, and other cohorts where they are asked, say of each design's effect, (design, cell)."""
    return weights[study.shift][None, :] * study.theory + foreign * study.abroad


def restricted(study: Cells, known: Array, rest: Array, spread: Spread) -> Array:
    """Log likelihood of the known designs with each cell's level integrated out under a flat prior (REML).

    known (design,) 0 or 1, rest (design, cell).  Up to a constant.
    """
    apart = rest - (known @ rest / known.sum())[None, :]
    square, log_determinant = deviation(study, apart, spread)
    return -0.5 * (known @ square + (known.sum() - 1) * log_determinant)


def deviation(study: Cells, rest: Array, spread: Spread) -> tuple[Array, Array]:
    """``rᵀK⁻¹r`` of each row of rest (design, cell), and ``log det K``, over the used cells.

    ``K = σ² I + Σ_f τ_f² v_f v_fᵀ + a² 1 1ᵀ`` with v_f the doses of shift f.  The v_f do not overlap, so
    Sherman and Morrison (1950), once per shift and once for the offset, leaves nothing to factorise.
    """
    one = study.used
    v = study.dose[:, None] * jax.nn.one_hot(study.shift, spread.curve.shape[0]) * one[:, None]
    noise, curve, offset = spread.residual**2, spread.curve**2, spread.design**2
    lift = 1 + curve * (v**2).sum(0) / noise
    shrink = curve / (noise**2 * lift)
    along, total = rest @ v, one @ v
    square = (rest**2 @ one) / noise - along**2 @ shrink
    sum_ = (rest @ one) / noise - along @ (shrink * total)
    ones = one.sum() / noise - shrink @ total**2
    log_determinant = one.sum() * jnp.log(noise) + jnp.log(lift).sum() + jnp.log1p(offset * ones)
    return square - offset * sum_**2 / (1 + offset * ones), log_determinant


def variance(study: Cells, spread: Spread) -> Array:
    """Variance (cell,) of a design's outcome about the level: the diagonal of K."""
    return spread.design**2 + (spread.curve[study.shift] * study.dose) ** 2 + spread.residual**2


@partial(jax.jit, static_argnames=("warmup", "draws"))
def chain(
    key: Array, studies: Sequence[Cells], included: Sequence[Array], *, warmup: int, draws: int
) -> dict[str, Array]:
    """Posterior draws, (draw, ...) of each parameter, by the no-U-turn sampler (Hoffman and Gelman 2014).

    Compiled once for all chains, held-out designs and studies of one size.
    """
    kernel = NUTS(model, target_accept_prob=0.9, max_tree_depth=7)
    run = MCMC(kernel, num_warmup=warmup, num_samples=draws, progress_bar=False)
    run.run(key, studies, included)
    return run.get_samples()


def _chains(
    keys: Array, studies: Sequence[Cells], included: Sequence[Sequence[Array]], **size: int
) -> list[dict[str, Array]]:
    """A chain for each key and choice of designs, on all cores, as one uses a single core; the first alone, which compiles."""
    first = jax.block_until_ready(chain(keys[0], studies, included[0], **size))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = [
            pool.submit(lambda *given: jax.block_until_ready(chain(*given, **size)), key, studies, some)
            for key, some in zip(keys[1:], included[1:], strict=True)
        ]
        return [first, *(one.result() for one in waiting)]


def fit(
    studies: xr.Dataset | Sequence[xr.Dataset],
    *,
    key: Array,
    warmup: int = 500,
    draws: int = 500,
    chains: int = 2,
) -> xr.Dataset:
    """Posterior of one or several studies, dims chain, draw, term (shifts, then clean).

    Each study has levels of its own; the weight of theory and the size of deviations are shared.  Attributes:
    largest R-hat, smallest effective sample, and how many cells have no outcome or no prediction.
    Raises InputError for a study with too few designs, or for studies that do not share their shifts.
    """
    tables = [studies] if isinstance(studies, xr.Dataset) else list(studies)
    shifts = [str(s) for s in tables[0]["shift"].values]
    for table in tables[1:]:
        if [str(s) for s in table["shift"].values] != shifts:
            raise InputError(
                f"{table.attrs.get('cohort')}: its shifts differ from those of the first study; fit it alone"
            )
    data = [cells(table) for table in tables]
    known = [reported(d) for d in data]
    runs = _chains(jax.random.split(key, chains), data, [known] * chains, warmup=warmup, draws=draws)
    names = [n for n in runs[0] if not n.endswith(("_z", "_abroad")) and not n.startswith("absent")]
    values = {n: np.stack([np.asarray(run[n]) for run in runs]) for n in names}
    variables = {}
    for name, value in values.items():
        variables[name] = (("chain", "draw", "term")[: value.ndim], value)
    posterior = xr.Dataset(variables, {"term": [*shifts, "clean"]})
    posterior.attrs = {
        "cohorts": ", ".join(str(t.attrs.get("cohort", "")) for t in tables),
        "max_rhat": max(float(np.max(split_gelman_rubin(v))) for v in values.values()),
        "min_ess": min(float(np.min(effective_sample_size(v))) for v in values.values()),
        "n_absent": sum(int(jnp.isnan(d.observed).sum()) for d in data),
        "n_unpredicted": sum(int(np.isnan(_everyone(t, f"predicted_{metric(t)}")).sum()) for t in tables),
    }
    return posterior


def summary(posterior: xr.Dataset) -> str:
    """Posterior means and 90 % intervals of what matters, as text."""
    rows = [f"posterior of {posterior.attrs['cohorts']}", f"{'':34s}{'mean':>8s}{'5 %':>8s}{'95 %':>8s}"]

    def row(name: str, values: xr.DataArray) -> str:
        low, high = np.quantile(values.values, [0.05, 0.95])
        return f"{name:34s}{float(values.mean()):8.3f}{low:8.3f}{high:8.3f}"

    rows.append(row("weight of theory", posterior["weight"]))
    for term in posterior["term"].values:
        rows.append(row(f"  under {term}", posterior["weight_by_shift"].sel(term=term)))
    for name in ("design_sd", "curve_sd", "residual_sd"):
        rows.append(row(name.replace("_", " ") + ", probit", posterior[name]))
    state = posterior.attrs
    rows.append(f"largest R-hat {state['max_rhat']:.3f}, smallest effective sample {state['min_ess']:.0f}")
    if state["n_absent"] or state["n_unpredicted"]:
        rows.append(f"cells without an outcome {state['n_absent']}, without a prediction {state['n_unpredicted']}")
    return "\n".join(rows)


# ---- predictions for a design that is held out


class HeldOut(NamedTuple):
    """Predictive law of each design's cells from the other designs, probit scale, (design, draw, cell)."""

    mean: Array
    sd: Array


def leave_one_design_out(
    study: xr.Dataset, known: xr.Dataset | None = None, *, key: Array, warmup: int = 200, draws: int = 250
) -> HeldOut:
    """For each design, the law of its seed-mean outcomes given all other designs and its own L0 prediction.

    known  experience of other cohorts, which may hold outcomes of the design there
    Raises InputError where an outcome is absent: a score over some of the cells is not that of the study.
    """
    data = cells(study, known)
    _complete(study, data)
    n = len(data.observed)
    rest = [reported(data).at[which].set(0) for which in range(n)]
    runs = _chains(jax.random.split(key, n), [data], [[one] for one in rest], warmup=warmup, draws=draws)
    laws = [foretold(data, rest[which], which, runs[which]) for which in range(n)]
    return HeldOut(jnp.stack([law.mean for law in laws]), jnp.stack([law.sd for law in laws]))


def _complete(study: xr.Dataset, data: Cells) -> None:
    lost = study["design"].values[np.isnan(np.asarray(data.observed)).any(1)]
    if len(lost):
        where = study.attrs.get("cohort", "study")
        raise InputError(
            f"{where}: observed_{metric(study)} of design '{lost[0]}' has missing values; leave it out of --designs"
        )


@jax.jit
def foretold(study: Cells, known: Array, which: int, draws: dict[str, Array]) -> HeldOut:
    """Law of one design's cells from the known designs, (draw, cell); nan where these leave no level."""

    def law(draw: dict[str, Array]) -> HeldOut:
        weights = draw["weight_by_shift"]
        foreign = draw["weight_abroad"]
        level = known @ unexplained(study, filled(study, draw.get("absent_0")), weights, foreign) / known.sum()
        mean = level + explained(study, weights, foreign)[which]
        own = variance(study, Spread(draw["design_sd"], draw["curve_sd_by_shift"], draw["residual_sd"]))
        # the level is itself known to a variance of own / number of known designs
        return HeldOut(jnp.where(study.used > 0, mean, jnp.nan), jnp.sqrt(own * (1 + 1 / known.sum())))

    return jax.vmap(law)(draws)


def quantiles(law: HeldOut, probabilities: Sequence[float], *, key: Array, per_draw: int = 20) -> np.ndarray:
    """Quantiles of the AUC, (probability, design, cell)."""
    noise = jax.random.normal(key, (per_draw, *law.mean.shape), law.mean.dtype)
    auc = np.asarray(ndtr(law.mean[None] + law.sd[None] * noise))  # (copy, design, draw, cell)
    return np.quantile(auc, probabilities, axis=(0, 2))


def log_density(law: HeldOut, observed: Array) -> np.ndarray:
    """Log predictive density of what was observed, probit scale, (design, cell)."""
    z = (observed[:, None, :] - law.mean) / law.sd
    each = -0.5 * z**2 - jnp.log(law.sd) - 0.5 * jnp.log(2 * jnp.pi)
    return np.asarray(jax.scipy.special.logsumexp(each, axis=1) - jnp.log(law.mean.shape[1]))
