"""Probes when classes are unequal: in number, in covariance, in the quality of their labels, in their weight in the loss;
and probes that answer several questions at once, of which a class against the rest is one.

Beside ``theory.probe``, which takes balanced classes of one covariance and a squared loss.  Class axes are ordered control
(0), case (1); the label after "Eq." is the one of the paper.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel.errors import InputError
from rafmodel.theory import Moments, ProbeLaw, auc, effective_ridge, rate

LOSSES = ("squared", "logistic")
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(40)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_SIGN = np.array([-1.0, 1.0])  # of a control, of a case


class _State(NamedTuple):
    """Scores of an image left out of training, signed by its class: their mean m () but for the offset b (), which adds to those
    of cases and takes from those of controls, their variances v (2,), and the leverage γ (2,) of an image."""

    mean: Array
    offset: Array
    variance: Array
    leverage: Array


def probe(
    moments: Moments,
    count: Array | tuple[float, float],
    *,
    flip: Array | tuple[float, float],
    ridge: Array | float,
    weight: Array | tuple[float, float] = (1.0, 1.0),
    again: Array | tuple[float, float] = (0.0, 0.0),
    loss: str = "squared",
    iterations: int = 300,
) -> ProbeLaw:
    """Law of a regularised linear probe with a free offset, of unequal classes.  Eq. (leverage, ..., weights-*, offset), d15.

    moments  of the source: mean (2, d), cov (2, d, d), which may differ between classes
    count    (2,) training images of each class
    flip     (2,) share of each class's labels that are wrong
    ridge    > 0; the probe minimises Σ weight_y ℓ(ỹ (wᵀx + offset)) / n + ridge |w|² / 2, with ℓ(a) = (1 − a)²/2 or
             log(1 + e⁻ᵃ) and n all images.  For equal classes and the squared loss this is ``theory.probe``; a probe that takes
             the middle of its two class means for the centre instead has the same weights but for their length
    weight   (2,) of each class in the loss, by the true class; n / (2 count) is re-weighting
    again    (2,) how many more times an image of the class is seen on average, where some are drawn again with replacement;
             its weight is then in proportion to how often it is seen, ``weight`` on average.  Eq. (repeats)
    loss     "squared" or "logistic"
    iterations  damped steps to the fixed point
    Exact as n and d grow together; ``valid`` as in ``theory.probe``.  ``offset`` is what the probe adds to weightsᵀ(x − centre).
    Mai, Liao, Couillet 2019; Salehi et al. 2019.
    Raises InputError for another loss, or where the shapes disagree.
    """
    if loss not in LOSSES:
        raise InputError(f"probe: loss {loss!r} is unknown; use one of {', '.join(LOSSES)}")
    if moments.mean.ndim != 2 or moments.cov.shape != (2, *moments.mean.shape[-1:] * 2):
        raise InputError(
            f"probe: source means {moments.mean.shape} and covariances {moments.cov.shape} must be (2, d) and (2, d, d)"
        )
    count, flip, weight, again = (jnp.asarray(v, moments.mean.dtype) for v in (count, flip, weight, again))
    n = jnp.sum(count)
    share, half_gap = count / n, (moments.mean[1] - moments.mean[0]) / 2
    identity = jnp.eye(half_gap.size, dtype=half_gap.dtype)
    times, often = repeats(again)
    seen = weight[:, None] * (1 + times) / (1 + again)[:, None]

    def given(state: _State) -> tuple[Array, Array, Array, Array, Array]:
        """Mean weights, covariance of the weights, resolvent, slopes and offset at a state."""
        force, slope, force2 = _forces(state, flip, seen, often, loss)
        resolvent = jnp.linalg.inv(ridge * identity + jnp.einsum("c,cij->ij", share * slope, moments.cov))
        mean = jnp.sum(share * force) * resolvent @ half_gap
        wander = jnp.einsum("c,cij->ij", share * force2, moments.cov) / n
        offset = state.offset + jnp.sum(_SIGN * share * force) / jnp.sum(share * slope)  # towards forces that cancel
        return mean, resolvent @ wander @ resolvent, resolvent, slope, offset

    def step(_: Any, state: _State) -> _State:
        mean, cov, resolvent, _, offset = given(state)
        second = cov + mean[:, None] * mean[None, :]
        new = _State(
            mean @ half_gap,
            offset,
            jnp.einsum("cij,ij->c", moments.cov, second),
            jnp.einsum("cij,ij->c", moments.cov, resolvent) / n,
        )
        return jax.tree.map(lambda old, new: (old + new) / 2, state, new)

    start = _State(jnp.zeros(()), jnp.zeros(()), jnp.ones(2), jnp.einsum("cii->c", moments.cov) / (n * ridge))
    start = jax.tree.map(lambda x: x.astype(half_gap.dtype), start)
    mean, cov, resolvent, slope, offset = given(jax.lax.fori_loop(0, iterations, step, start))
    pooled = jnp.einsum("c,cij->ij", share * slope, moments.cov)
    smooth = resolvent @ pooled
    df2 = jnp.sum(smooth * smooth.T)
    valid = (n >= 20) & (df2 <= 0.9 * n)
    return ProbeLaw(mean, cov, moments.mean.mean(0), ridge / jnp.sum(share * slope), df2, valid, offset)


def repeats(again: Array | float) -> tuple[Array, Array]:
    """Numbers of repeats (..., 2) and their chances (..., 2), as good as Poisson ones for any cubic.  Eq. (repeats), d15.

    again  (...) mean number of repeats, 0 or more
    """
    again = jnp.asarray(again)
    root = jnp.sqrt(again + 0.25)
    many = (root - 0.5) / (2 * root)
    return jnp.stack([again + 0.5 - root, again + 0.5 + root], -1), jnp.stack([1 - many, many], -1)


def _forces(state: _State, flip: Array, weight: Array, often: Array, loss: str) -> tuple[Array, Array, Array]:
    """Mean force ψ of an image on the weights, its mean slope −ψ' and mean square, each (2,), over scores and flips.

    weight, often  (2, k) weights in each class and their chances
    Scores are signed by the true class.  Eq. (force): ψ = weight · label · r with r = −ℓ'(label · score + γ weight r).
    """
    mean = state.mean + _SIGN * state.offset
    spread = jnp.sqrt(state.variance)[:, None, None] * jnp.asarray(_NODES)[None, None]
    score = mean[:, None, None] + spread  # class, weight, node
    pliant = (state.leverage[:, None] * weight)[:, :, None]
    force, slope, force2 = 0.0, 0.0, 0.0
    for label, chance in ((1, 1 - flip), (-1, flip)):
        residual = _residual(label * score, pliant, loss)
        curved = residual * (1 - residual) if loss == "logistic" else jnp.ones_like(residual)
        force += chance * label * jnp.sum(often * weight * (residual @ jnp.asarray(_WEIGHTS)), 1)
        slope += chance * jnp.sum(often * weight * ((curved / (1 + pliant * curved)) @ jnp.asarray(_WEIGHTS)), 1)
        force2 += chance * jnp.sum(often * weight**2 * (residual**2 @ jnp.asarray(_WEIGHTS)), 1)
    return jnp.asarray(force), jnp.asarray(slope), jnp.asarray(force2)


def _residual(margin: Array, pliant: Array, loss: str) -> Array:
    """r = −ℓ'(margin + pliant r): 1 − a for the squared loss, 1/(1 + eᵃ) for the logistic one, by Newton's steps."""
    if loss == "squared":
        return (1 - margin) / (1 + pliant)

    def newton(_: Any, r: Array) -> Array:
        s = jax.nn.sigmoid(-margin - pliant * r)
        return jnp.clip(r - (r - s) / (1 + pliant * s * (1 - s)), 0, 1)

    start = jnp.full(jnp.broadcast_shapes(margin.shape, pliant.shape), 0.5, margin.dtype)
    return jax.lax.fori_loop(0, 25, newton, start)


def penalty(
    moments: Moments, count: Array, weight: Array, *, ridge: Array | float, loss: str = "squared"
) -> Array | float:
    """What a ridge relative to the mean variance of the labelled features comes to, () in the features' unit squared.

    moments, count, weight, loss  as of ``probe``
    Variance is taken about the weighted mean by the logistic probe, and about half way between the classes by the ridge probe.
    """
    share = count * weight / jnp.sum(count)
    between = 4 * share[0] * share[1] if loss == "logistic" else 1.0
    half_gap = (moments.mean[1] - moments.mean[0]) / 2
    return ridge * (share @ jnp.einsum("cii->c", moments.cov) + between * half_gap @ half_gap) / half_gap.size


def discriminant_rates(
    moments: Moments, count: Array | tuple[float, float], *, ridge: Array | float
) -> tuple[Array, Array, Array]:
    """TPR, FPR and AUC of a regularised linear discriminant trained on unequal counts.  Eq. (discriminant-*), d15.

    moments  of the source; classes of one covariance, taken as their average
    count    (2,) training images; the classifier is w = (Ŝ + ridge)⁻¹(x̄₁ − x̄₀) with Ŝ the pooled sample covariance, and
             its threshold the midpoint of the sample means
    ``theory.imbalance_rates`` with a general covariance: white features and a large ridge give it back.
    """
    control, case = jnp.asarray(count, moments.mean.dtype)
    gap, cov = moments.mean[1] - moments.mean[0], jnp.mean(moments.cov, 0)
    freedom = case + control - 2
    kappa = effective_ridge(jnp.linalg.eigvalsh(cov), freedom, ridge)
    resolvent = jnp.linalg.inv(cov + kappa * jnp.eye(gap.size, dtype=gap.dtype))
    smooth = resolvent @ cov
    df2 = jnp.sum(smooth * smooth.T)
    weights = resolvent @ gap
    spread = (weights @ cov @ weights + df2 * (1 / case + 1 / control)) / (1 - df2 / freedom)
    pull = jnp.trace(smooth) * (1 / control - 1 / case)
    reach = gap @ weights
    return (
        rate((pull + reach) / 2, spread, 0.0),
        rate((pull - reach) / 2, spread, 0.0),
        rate(reach, 2 * spread, 0.0),
    )


def resampled_size(n: Array | float, drawn: Array | float) -> Array | float:
    """How many images estimate a mean as well as ``drawn`` draws with replacement from n images.  Eq. (resampled), d15.

    Never more than n: drawing the rare class again and again adds no image and some chance, which weights do not.
    """
    return 1 / (1 / n + (1 - 1 / n) / drawn)


# ---- several questions to one representation


class AnswersLaw(NamedTuple):
    """Law of the ridge weights of Q questions over draws of the labelled images; score q = weightsᵀ(x − mean of the images).

    mean    (d, Q)  of the weights
    spread  (d, d)  their covariance is noise[q] times this
    noise   (Q,)    variance of an answer that the weights leave
    valid           as in ``theory.probe``
    """

    mean: Array
    spread: Array
    noise: Array
    valid: Array


def answers(total: Array, cross: Array, n: Array | int, *, ridge: Array | float) -> AnswersLaw:
    """Law of ridge regression with an intercept of Q answers, each of variance 1, on n labelled images.

    total  (d, d) covariance of the features over the labelled images' population, cross (d, Q) with the answers (``told``)
    ridge  > 0; the probe minimises Σ (answer − wᵀ(x − centre))² + n ridge |w|², the centre the mean of the images
    Eq. (kappa, df2, probe-*), d05, where the covariance with the answer stands for half the gap of two equal classes: the
    resolvent is one for all questions.  ``theory.probe`` is the case of one question that half of the images answer with yes.
    Raises InputError where the shapes disagree.
    """
    if total.ndim != 2 or cross.ndim != 2 or total.shape != cross.shape[:1] * 2:
        raise InputError(f"answers: total {total.shape} and cross {cross.shape} disagree; pass (d, d) and (d, Q)")
    kappa = effective_ridge(jnp.linalg.eigvalsh(total), n, ridge)
    resolvent = jnp.linalg.inv(total + kappa * jnp.eye(len(total), dtype=total.dtype))
    smooth = resolvent @ total
    df2 = jnp.sum(smooth * smooth.T)
    pull = resolvent @ cross
    noise = 1 - jnp.sum(cross * pull + kappa * pull * pull, axis=0)
    spread = smooth @ resolvent
    valid = (jnp.asarray(n) >= 20) & (df2 <= 0.9 * n)
    return AnswersLaw(pull, (spread + spread.T) / (2 * (n - df2)), noise, valid)


def told(cross: Array, variance: Array, flip: Array | float, classes: int | None = None) -> Array:
    """Covariance (d, Q) of the features with answers as labelled, scaled to variance 1, where a share of labels is wrong.

    cross     (d, Q) covariance with the true answers, variance (Q,) of these over the labelled images
    classes   K equally frequent ones, of which a wrong label names any other: an answer keeps 1 − flip K / (K − 1) of its
              covariance, and its variance, for as many labels come to a class as leave it.  None: every answer in {0, 1} is wrong
              on its own, keeps 1 − 2 flip, and varies by flip (1 − flip) on top
    """
    kept = 1 - jnp.asarray(flip) * (2 if classes is None else classes / (classes - 1))
    shown = kept**2 * variance + flip * (1 - flip) if classes is None else variance
    return cross * (kept / jnp.sqrt(shown))[None, :]


def ranked(mean: Array, variance: Array, count: Array, above: Array) -> Array:
    """AUC (..., Q) of Gaussian scores in C cells, each side of a question a mixture of some.  Eq. (auc-mixture), d01.

    mean, variance  (..., C, Q) of the score that answers each question
    count           (..., C) images of each cell where it is deployed
    above           (Q, C, C) in {0, 1}, whether an image of the first cell is to score above one of the second
    A question is its cells of yes above those of no; of grades each cell above all lower ones makes the concordance.
    nan where no such pair of cells has images.
    """
    here = (count > 0)[..., None]
    mean, variance = jnp.where(here, mean, 0.0), jnp.where(here, variance, 1.0)
    gap = mean[..., :, None, :] - mean[..., None, :, :]
    won = auc(gap, variance[..., :, None, :], variance[..., None, :, :])
    pairs = jnp.einsum("...i,...j,qij->...q", count, count, above)
    return jnp.einsum("...i,...j,qij,...ijq->...q", count, count, above, won) / pairs
