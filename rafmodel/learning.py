"""What an encoder keeps: by the task it was given, by how long it trained, by how it is built, and in another domain.

Closed forms beside ``theory.gain`` and ``theory.operator``; the label after "Eq." is the one of the paper.
"""

import jax.numpy as jnp
from jax import Array

from rafmodel.errors import InputError
from rafmodel.theory import auc, effective_ridge

# ---- tasks


def kept_by_turning(order: Array | int, mean_power: Array | float, power: Array | float) -> Array:
    """ρ² of a circular harmonic under rotation prediction, in [0, 1].  Eq. (turning), d10.

    order        angular order m; multiples of 4 look the same after every quarter turn and are never kept
    mean_power   |E c_m|² over upright images, power E |c_m|²
    What has no preferred orientation across images tells nothing about how far an image was turned.
    """
    return jnp.where(jnp.asarray(order) % 4 == 0, 0.0, jnp.asarray(mean_power) / power)


def kept_by_place(between: Array | float, within: Array | float) -> Array | float:
    """ρ² of a patch's feature when the task asks where the patch was, in [0, 1).  Eq. (place), d10.

    between  variance over places of the mean patch, within variance of patches at one place
    Jigsaw and relative patch location: only what sits at a fixed place of the body helps.
    """
    return between / (between + within)


def kept_of_context(
    shared: Array | float, own: Array | float, patches: Array | float = 1, overlap: Array | float = 0.0
) -> Array:
    """ρ of a patch's feature that is to be foretold from other patches, in [0, 1).  Eq. (context), d10.

    shared   covariance of the feature in two patches of one image, own the rest of its variance
    patches  shown, alike in law; their mean foretells best
    overlap  correlation of the own parts of two of them, mean over pairs; of means over a patch the share of its pixels in both
    Contrastive predictive coding and masked reconstruction: what an image's patches have in common.
    """
    mean = shared + own * (1 + (jnp.asarray(patches) - 1) * overlap) / patches
    return shared / jnp.sqrt(mean * (shared + own))


# ---- losses on two views of an image; rho: canonical correlations of the views, modes in descending order


def info_nce(rho: Array, strength: Array, temperature: Array | float) -> Array:
    """InfoNCE of a linear encoder less log of the number of images, to second order in its scores.  Eq. (info-nce), d10.

    rho, strength (d,)  correlation and squared length of each mode in the encoder; scores are products over temperature
    Least at strength = temperature times rho.  What is left out is at most a third of the largest |score|³; scores on the
    unit sphere at temperature 0.2 are up to 5, which is far outside.
    """
    return jnp.sum(strength**2 / (2 * temperature**2) - rho * strength / temperature)


def barlow_alone(first: Array | float, outputs: Array | float, redundancy: Array | float) -> Array | float:
    """Below this ρ of the second mode all outputs of a linear Barlow Twins encoder repeat the first.  Eq. (barlow-alone), d10.

    first ρ of the first mode, redundancy ≤ 1 the weight of correlations off the diagonal; below 0 they never do
    """
    return first - redundancy * outputs * first**2 / (1 - first + redundancy * first)


def vicreg_alone(
    first: Array | float,
    outputs: Array | float,
    size: Array | float,
    agreement: Array | float = 25.0,
    covariance: Array | float = 1.0,
) -> Array | float:
    """Below this ρ of the second mode all outputs of a linear VICReg encoder repeat the first.  Eq. (vicreg-alone), d10.

    size  s.d. of an output there, at most 1; agreement and covariance are weights of the loss (Bardes et al. 2022)
    """
    return first - 2 * covariance * outputs * size**2 / agreement


def best_gain(
    variance: Array | float, other: Array | float, added: Array | float, ridge: Array | float
) -> Array | float:
    """ρ² to which a view law should shrink a mode that a shift widens, under a ridge probe.  Eq. (view-limit), d10.

    variance of that mode in a class and other of one that stays, added by the shift, ridge in the same unit
    1 or more: the ridge has done enough, any view law there costs.  0 without ridge: the probe undoes any view law.
    """
    return ridge * other / (ridge * (variance + added) + other * added)


# ---- training time


def learned_shallow(target: Array | float, eigenvalue: Array | float, time: Array | float) -> Array:
    """Weight of a mode in a linear map under gradient flow from 0.  Eq. (time-shallow), d11.

    target      weight in the end, eigenvalue variance of the mode's input, time steps times learning rate
    """
    return target * (1 - jnp.exp(-jnp.asarray(eigenvalue) * time))


def learned_deep(strength: Array | float, start: Array | float, time: Array | float) -> Array:
    """Strength of a mode in a product of two linear layers under gradient flow.  Eq. (time-deep), d11.

    strength  in the end, start > 0 at time 0.  White input.  Saxe, McClelland, Ganguli 2014.
    A weak mode waits: half of it is there after log(strength / start − 1) / (2 strength).
    """
    grown = jnp.exp(-2 * jnp.asarray(strength) * time)
    return strength / (1 + (strength / jnp.asarray(start) - 1) * grown)


def half_time(strength: Array | float, start: Array | float) -> Array:
    """Steps times learning rate until two linear layers have half of a mode, from start < strength / 2.  Eq. (time-half), d11.

    strength  in the end: ρ of the mode for whitened features and a target of unit variance
    """
    return jnp.log(jnp.asarray(strength) / start - 1) / (2 * jnp.asarray(strength))


# ---- architecture


def stn_residual(order: Array | float, sigma: Array | float) -> Array:
    """Share of the energy of angular order m that still varies after a transformer re-aligned the feature map, in [0, 1).

    order of the filter, sigma of the image's angle in radians, angle wrapped normal.  Eq. (stn-residual), d12;
    Finnveden, Jansson, Lindeberg 2020.  Aligning the input instead leaves 0 at every order.
    """
    return 1 - jnp.exp(-jnp.square(order * jnp.asarray(sigma)))


def pooled_energy(filters: Array, patch_cov: Array) -> Array:
    """Mean square response (k,) of linear filters (k, p) to patches of covariance (p, p), mean zero.  Eq. (pooled-energy), d12.

    The mean response itself is 0 whatever the filter: a linear convolution under mean pooling sees intensity only, and
    texture reaches the pooled features through the non-linearity.
    """
    return jnp.einsum("kp,pq,kq->k", filters, patch_cov, filters)


def attended(patch_second: Array, query_key: Array, patch: Array) -> Array:
    """A patch (..., d) after linear attention over its image: the second moment of the image's patches times A times it.

    patch_second (d, d) mean of x xᵀ over the image's patches, query_key (d, d).  Eq. (attended), d12.
    Attention reads the second moment of the patches, which a pooled convolution does not; the mean over patches is the
    image's second moment applied to its mean patch.
    """
    return patch @ (patch_second @ query_key).T


# ---- domains


def retained(basis: Array, direction: Array) -> Array:
    """Share of the squared length of a class direction (d,) inside the subspace that a source domain taught.

    basis (d, k), orthonormal columns.  Eq. (retained), d13.  Of a direction drawn uniformly in another domain's subspace
    the mean share is the mean of cos² over the principal angles between the two.
    Raises InputError where the lengths disagree.
    """
    if basis.ndim != 2 or direction.shape != basis.shape[:1]:
        raise InputError(
            f"retained: basis {basis.shape} and direction {direction.shape} disagree; pass (d, k) and (d,)"
        )
    return jnp.sum((direction @ basis) ** 2) / jnp.sum(direction**2)


def transferred(
    separation2: Array | float,
    share: Array | float,
    kept: int,
    n: Array | float,
    *,
    flip: Array | float,
    ridge: Array | float,
) -> Array:
    """AUC of a ridge probe from n labels on an encoder of another domain, in [0, 1].

    Eq. (kept-gap, transfer-kappa, transfer-auc), d13; `theory.probe` and `theory.deploy` in what is kept, in closed form.

    separation2  squared distance of the class means in whitened features
    share        of it that the encoder keeps (`retained`), in `kept` dimensions of unit variance
    flip, ridge  as in `theory.probe`; n is about `kept` or more, in equal classes
    With a large ridge Φ(Δ √(r/2) / √(1 + 4 kept / (n r Δ²))): a dimension kept in vain costs as much as labels thrown away.
    """
    half2 = share * separation2 / jnp.asarray(4.0)
    spectrum = jnp.ones(kept).at[0].set(1 + half2)
    kappa = effective_ridge(spectrum, n, ridge)
    clean, held = 1 - 2 * jnp.asarray(flip), 1 + half2 + kappa
    noise = 1 - clean**2 * half2 * (held + kappa) / held**2
    df2 = jnp.sum((spectrum / (spectrum + kappa)) ** 2)
    spread = noise / (n - df2) * jnp.sum(spectrum / (spectrum + kappa) ** 2)
    pull = clean * jnp.sqrt(half2) / held
    return auc(2 * pull * jnp.sqrt(half2), pull**2 + spread, pull**2 + spread)


def principal_cosines(one: Array, two: Array) -> Array:
    """Cosines (min(k, l),) of the principal angles between two subspaces, descending.  Björck, Golub 1973.

    one (d, k), two (d, l), orthonormal columns
    """
    return jnp.clip(jnp.linalg.svd(one.T @ two, compute_uv=False), 0, 1)
