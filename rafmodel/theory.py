"""Predict the outcome of a design from moments: no training, no images, no random numbers.

Read from top to bottom: scores of a Gaussian classifier; what a variability does to two moments; what a proxy
task keeps; what a probe learns from few labels; what it scores where it is deployed.  Every closed form is stated
in `rafmodel.symbols` and derived in `derivations/`; the label after "Eq." is the one of the paper.

Class axes are ordered control (0), case (1).  Everything is differentiable and works under jit and vmap.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtr

from rafmodel.errors import InputError

# ---- scores


def auc(gap: Array | float, variance_case: Array | float, variance_control: Array | float) -> Array:
    """Area under the ROC curve of a score that is Gaussian in each class, in [0, 1].  Eq. (auc), d01.

    gap             mean score of cases minus mean score of controls
    variance_case, variance_control   variances of the score, same shape as gap
    """
    return ndtr(gap / jnp.sqrt(variance_case + variance_control))


def rate(mean: Array | float, variance: Array | float, threshold: Array | float) -> Array:
    """Share of a class whose Gaussian score exceeds the threshold, in [0, 1].  Eq. (rate), d01.

    It is the TPR for the scores of cases and the FPR for those of controls.
    """
    return ndtr((mean - threshold) / jnp.sqrt(variance))


def balanced_accuracy(tpr: Array | float, fpr: Array | float) -> Array | float:
    """Mean of sensitivity and specificity, in [0, 1].  Eq. (balanced-accuracy), d01."""
    return (tpr + 1 - fpr) / 2


def auc_mixture(probability: Array, mean: Array, variance: Array) -> Array:
    """AUC when each class is a mixture of Gaussian scores, in [0, 1].  Eq. (auc-mixture), d01.

    probability, mean, variance  (..., 2, k)  of the k components of controls and cases; probabilities sum to 1
    An artifact is two components; if cases carry it more often than controls it is a shortcut.
    """
    gap = mean[..., 1, :, None] - mean[..., 0, None, :]
    pair = auc(gap, variance[..., 1, :, None], variance[..., 0, None, :])
    return jnp.sum(probability[..., 1, :, None] * probability[..., 0, None, :] * pair, axis=(-2, -1))


def rate_mixture(probability: Array, mean: Array, variance: Array, threshold: Array | float) -> Array:
    """TPR, or FPR, of a class (..., k) whose score is a mixture of k Gaussians, in [0, 1].  Eq. (rate-mixture), d01."""
    return jnp.sum(probability * rate(mean, variance, threshold), axis=-1)


def dice(prevalence: Array | float, tpr: Array | float, fpr: Array | float) -> Array | float:
    """Dice coefficient of a segmentation from its pixel rates, in [0, 1].  Eq. (dice), d06.

    prevalence  share of pixels that belong to the structure, in (0, 1]
    """
    return 2 * prevalence * tpr / (prevalence * tpr + (1 - prevalence) * fpr + prevalence)


# ---- variability: what it does to a mean (..., d) and a covariance (..., d, d); more of it in `affine`


def _beside(scale: Array | float, axes: int) -> Array:
    """A severity with `axes` axes appended, to multiply vectors (1) or matrices (2); a scalar stays one."""
    scale = jnp.asarray(scale)
    return scale if scale.ndim == 0 else scale[(..., *(None,) * axes)]


def contrast_moments(mean: Array, cov: Array, sigma: Array | float) -> tuple[Array, Array]:
    """Moments after a gain exp(sigma z), z standard normal, one draw per image.  Eq. (contrast-*), d03.

    mean (..., d), cov (..., d, d), sigma () or (...); returns both with the same shapes.
    """
    growth = jnp.exp(jnp.square(jnp.asarray(sigma)))
    outer = mean[..., :, None] * mean[..., None, :]
    cov = cov * _beside(growth**2, 2) + outer * _beside(growth**2 - growth, 2)
    return mean * _beside(jnp.sqrt(growth), 1), cov


def field_moments(mean: Array, cov: Array, field: Array) -> tuple[Array, Array]:
    """Moments after a smooth positive field exp(b), b ~ N(0, field), multiplies the image.  Eq. (field-*), d03.

    mean (..., d), cov (..., d, d), field (..., d, d) covariance Γ of the log-field.  Exact.  A weak field adds
    mean meanᵀ ∘ Γ + (Γ_ij + (Γ_ii + Γ_jj)/2) Σ_ij; what that leaves out is of fourth order in the field's s.d.
    """
    half = jnp.diagonal(field, axis1=-2, axis2=-1) / 2
    lift = jnp.exp(half)
    second = (cov + mean[..., :, None] * mean[..., None, :]) * jnp.exp(field)
    second = second * lift[..., :, None] * lift[..., None, :]
    mean = mean * lift
    return mean, second - mean[..., :, None] * mean[..., None, :]


def noise_moments(mean: Array, cov: Array, sigma: Array | float) -> tuple[Array, Array]:
    """Moments after white noise of s.d. sigma is added.  Eq. (noise), d03.  Shapes as in `contrast_moments`."""
    white = jnp.broadcast_to(jnp.eye(cov.shape[-1], dtype=cov.dtype), cov.shape)
    return mean, cov + white * _beside(jnp.square(jnp.asarray(sigma)), 2)


def artifact_moments(
    mean: Array, cov: Array, probability: Array | float, offset: Array, spread: Array
) -> tuple[Array, Array]:
    """Moments of a class in which a share of images carries an additive artifact.  Eq. (artifact-*), d03.

    mean (..., d), cov (..., d, d), probability () or (...), offset (..., d) and spread (..., d, d) of the artifact.
    """
    outer = offset[..., :, None] * offset[..., None, :]
    probability = jnp.asarray(probability)
    chance, mixed = _beside(probability, 2), _beside(probability * (1 - probability), 2)
    return mean + offset * _beside(probability, 1), cov + spread * chance + outer * mixed


def rotation_decay(order: Array | float, sigma: Array | float) -> Array:
    """Factor on the mean of a circular harmonic when the image turns by N(0, sigma²).  Eq. (rotation), d03.

    order m of the harmonic, sigma in radians.  With order m − n it is the factor on E[c_m conj(c_n)]: powers |c_m|² do not decay.
    """
    return jnp.exp(-jnp.square(order * jnp.asarray(sigma)) / 2)


def blur_decay(wavenumber: Array | float, sigma: Array | float) -> Array:
    """Factor on a Fourier coefficient under a Gaussian blur of width sigma.  Eq. (blur), d03.

    wavenumber |k| in radians per pixel where sigma is in pixels.
    """
    return jnp.exp(-jnp.square(wavenumber * jnp.asarray(sigma)) / 2)


def rotation_decay_3d(degree: int, sigma: Array | float) -> Array:
    """Factor on the mean of a spherical harmonic when a volume turns by N(0, sigma²) about a random axis.

    Eq. (rotation-3d), d03.  degree l of the harmonic, sigma in radians.
    """
    order = jnp.arange(1, degree + 1)
    waves = jnp.exp(-jnp.square(order[:, None] * jnp.ravel(jnp.asarray(sigma))[None, :]) / 2)
    return jnp.reshape((1 + 2 * waves.sum(0)) / (2 * degree + 1), jnp.shape(sigma))


def sampling_decay(wavenumber: Array | float, factor: Array | int) -> Array:
    """Factor on a wave when blocks of ``factor`` pixels are averaged into one, along its direction.

    Eq. (down-sampling), d03.  wavenumber in radians per pixel, in (0, 2 pi); beyond pi / factor the wave
    comes back under the name of a slower one (aliasing).
    """
    half = jnp.asarray(wavenumber) / 2
    return jnp.sin(factor * half) / (factor * jnp.sin(half))


# ---- the proxy task


def gain(between: Array | float, view: Array | float) -> Array | float:
    """Share of a direction's variance that a contrastive encoder keeps, in (0, 1].  Eq. (gain), d02.

    between  (d,)  variance across images
    view     (d,)  variance the proxy task adds between two views of one image
    It is the canonical correlation rho of two views; `operator` returns its square.
    """
    return between / (between + view)


def _ridged(cov: Array, ridge: Array | float) -> Array:
    """A covariance plus ridge times its mean eigenvalue."""
    size = cov.shape[-1]
    return cov + ridge * jnp.trace(cov) / size * jnp.eye(size, dtype=cov.dtype)


def operator(uu: Array, uv: Array, vv: Array, *, ridge: Array | float) -> tuple[Array, Array]:
    """Directions that a proxy task makes predictable, and how well.  Eq. (operator), d02.

    uu (d, d), uv (d, e), vv (e, e)  second moments of input features u and targets v
    ridge  added to uu and vv, relative to their mean eigenvalue; must be positive where one is singular
    Returns rho2 (d,), squared canonical correlations in descending order, and basis (d, d): basisᵀ u is white
    (under the ridged uu) and its column i predicts the target with correlation rho_i.  At most e are not 0.
    Slopes of the basis exist only where the rho2 differ.  Raises InputError where the shapes disagree.
    """
    if uv.shape != (uu.shape[-1], vv.shape[-1]) or uu.ndim != 2 or vv.ndim != 2:
        raise InputError(
            f"operator: uv has shape {uv.shape}, but uu is {uu.shape} and vv is {vv.shape}; "
            "pass uv as (features of u, features of v)"
        )
    # a Cholesky factor gives the rho2 and basis of the symmetric root, and has a slope at equal eigenvalues too
    root = jnp.linalg.cholesky(_ridged(uu, ridge))
    target = jnp.linalg.cholesky(_ridged(vv, ridge))
    half = jax.scipy.linalg.solve_triangular(root, uv, lower=True)
    half = jax.scipy.linalg.solve_triangular(target, half.T, lower=True)
    rho2, vectors = jnp.linalg.eigh(half.T @ half)
    basis = jax.scipy.linalg.solve_triangular(root, vectors[:, ::-1], lower=True, trans="T")
    return jnp.maximum(rho2[::-1], 0.0), basis


def predictor(uu: Array, uv: Array, *, ridge: Array | float) -> Array:
    """Weights (d, e) of the best linear prediction of a proxy task's target from its input.  Eq. (predictor), d02.

    uu (d, d), uv (d, e), ridge as in `operator`, of which this is the form in the features' own scale.
    With two views of one image as input and target, a direction shrinks by `gain`: a Wiener filter against the view law.
    """
    return jnp.linalg.solve(_ridged(uu, ridge), uv)


# ---- the probe


class Moments(NamedTuple):
    """All that theory keeps of a labelled cohort.  Leading axes may be shifts and subgroups.

    mean    (..., 2, d)     class means, control then case
    cov     (..., 2, d, d)  class covariances
    weight  (..., 2)        summed weights, or counts; 0 marks an absent class, whose moments are nan
    """

    mean: Array
    cov: Array
    weight: Array


class ProbeLaw(NamedTuple):
    """Law of a probe's weights over draws of its training labels and images; score = weightsᵀ(x − centre) + offset.

    mean (d,), cov (d, d)   of the weights
    centre (d,)             midpoint of the class means at the source
    kappa, df2              effective ridge and degrees of freedom
    valid                   whether the training set is inside the law's range of validity (see `probe`)
    offset                  expected; 0 where classes are alike.  Thresholds below are on the score without it
    """

    mean: Array
    cov: Array
    centre: Array
    kappa: Array
    df2: Array
    valid: Array
    offset: Array | float = 0.0


def moments(features: Array, label: Array, weight: Array | None = None) -> Moments:
    """Weighted class means and covariances of features (n, d) under labels (n,) in {0, 1}.

    weight  (n,), not negative; default 1.  Covariances divide by the summed weight (ddof = 0), so that only the
    ratios of weights matter.  A class without weight gets nan.  Raises InputError where the shapes disagree.
    """
    weight = jnp.ones(features.shape[0], features.dtype) if weight is None else weight
    if features.ndim != 2 or label.shape != features.shape[:1] or weight.shape != label.shape:
        raise InputError(
            f"moments: features {features.shape}, label {label.shape} and weight {weight.shape} disagree; "
            "pass (n, d), (n,) and (n,)"
        )
    member = jnp.stack([label == 0, label == 1]) * weight[None, :]
    total = jnp.sum(member, axis=1)
    share = member / total[:, None]
    mean = share @ features
    centred = features[None] - mean[:, None, :]
    return Moments(mean, jnp.einsum("cn,cni,cnj->cij", share, centred, centred), total)


def total_covariance(moments: Moments) -> Array:
    """Covariance (..., d, d) of all images where the classes, two or more, are equally frequent: within plus between."""
    apart = moments.mean - jnp.mean(moments.mean, -2, keepdims=True)
    between = jnp.mean(apart[..., :, None] * apart[..., None, :], -3)
    return jnp.mean(moments.cov, -3) + between


def effective_ridge(spectrum: Array, n: Array | float, ridge: Array | float) -> Array:
    """Root kappa > 0 of kappa = ridge + (kappa / n) Σ l / (l + kappa).  Eq. (kappa), d05.

    The residual is convex and not negative at ridge + tr/n, so Newton's steps from there descend to the root.
    """

    def residual(kappa: Array) -> Array:
        return kappa - ridge - kappa / n * jnp.sum(spectrum / (spectrum + kappa))

    def newton(f, start: Array) -> Array:
        return jax.lax.fori_loop(0, 80, lambda _, k: jnp.maximum(k - f(k) / jax.grad(f)(k), ridge), start)

    start = ridge + jnp.sum(spectrum) / n
    return jax.lax.custom_root(residual, start, newton, lambda f, y: y / f(jnp.ones_like(y)))


def probe(moments: Moments, n: Array | float, *, flip: Array | float, ridge: Array | float) -> ProbeLaw:
    """Law of a ridge probe's weights when it learns from n labelled images.  Eq. (kappa, df2, probe-*), d05.

    moments  of the source: mean (2, d), cov (2, d, d); classes taken as balanced, with the average covariance
    n        training images in all, half of each class; below or above d
    flip     share of labels that are wrong, in [0, 0.5]
    ridge    > 0, in the features' variance unit: the probe minimises Σ (±1 − wᵀ(x − centre))² + n ridge |w|²
    The law is exact only as n and d grow together.  `valid` is False where n < 20 or df2 > 0.9 n: there E|w|² was
    seen to be off by more than a tenth (at n = 10, d = 12 and a ridge of 0.001 by a half, d05).
    Raises InputError where the shapes disagree.
    """
    if moments.mean.ndim != 2 or moments.cov.shape != (2, *moments.mean.shape[-1:] * 2):
        raise InputError(
            f"probe: source means {moments.mean.shape} and covariances {moments.cov.shape} must be (2, d) and "
            "(2, d, d); pass one source, or jax.vmap over several"
        )
    half_gap = (moments.mean[1] - moments.mean[0]) / 2
    total = total_covariance(moments)
    kappa = effective_ridge(jnp.linalg.eigvalsh(total), n, ridge)
    resolvent = jnp.linalg.inv(total + kappa * jnp.eye(total.shape[0], dtype=total.dtype))
    smooth = resolvent @ total
    df2 = jnp.sum(smooth * smooth.T)
    pull = resolvent @ half_gap  # the mean weights of a probe whose labels are all right
    clean = 1 - 2 * flip
    # kappa² βᵀRΣRβ + 1 − βᵀΣβ, written without Σ⁻¹ so that it holds for a singular Σ
    noise = 1 - clean**2 * (half_gap @ pull + kappa * pull @ pull)
    spread = smooth @ resolvent
    cov = noise / (n - df2) * (spread + spread.T) / 2
    valid = (jnp.asarray(n) >= 20) & (df2 <= 0.9 * n)
    return ProbeLaw(clean * pull, cov, (moments.mean[0] + moments.mean[1]) / 2, kappa, df2, valid)


# ---- deployment


def threshold(law: ProbeLaw, moments: Moments) -> Array:
    """Midpoint of the two classes' mean scores, shape (...); 0 at the source the probe was trained on."""
    return jnp.mean(moments.mean @ law.mean, axis=-1) - law.centre @ law.mean


def deploy(law: ProbeLaw, moments: Moments, threshold: Array | float = 0.0) -> tuple[Array, Array, Array]:
    """Expected AUC, TPR and FPR of the probe on shifted moments with leading axes (...).  Eq. (deploy), d01, d05.

    threshold  () or (...), fixed before deployment
    Scores are Gaussian given the weights.  AUC uses the mean gap and E[wᵀ(Σ1 + Σ0)w]; rates use also the spread
    that the weights give to a class's mean score.  A class with nan moments gives nan.  With few features (d = 5)
    AUC and rates come out low by up to 0.01, since the length of the weights, which changes no score's order,
    counts as spread.
    """
    second = law.cov + law.mean[:, None] * law.mean[None, :]
    within = jnp.einsum("...cij,ij->...c", moments.cov, second)
    offset = moments.mean - jnp.broadcast_to(law.centre, moments.mean.shape)
    score = offset @ law.mean
    wander = jnp.sum((offset @ law.cov) * offset, axis=-1)
    share = rate(score, within + wander, _beside(threshold, 1))
    return auc(score[..., 1] - score[..., 0], within[..., 1], within[..., 0]), share[..., 1], share[..., 0]


def imbalance_rates(
    separation2: Array | float, dimension: Array | float, n_case: Array | float, n_control: Array | float
) -> tuple[Array, Array, Array]:
    """TPR, FPR and AUC of a difference-of-means classifier trained on unequal counts.  Eq. (imbalance-*), d04.

    separation2  squared distance of the class means, identity covariance
    dimension    number of features
    n_case, n_control   training images; the threshold is the midpoint of the two sample means
    The rarer class loses although nothing about it is harder.
    """
    pull = dimension * (1 / n_control - 1 / n_case)
    norm2 = separation2 + dimension * (1 / n_control + 1 / n_case)
    return (
        rate((pull + separation2) / 2, norm2, 0.0),
        rate((pull - separation2) / 2, norm2, 0.0),
        auc(separation2, norm2, norm2),
    )
