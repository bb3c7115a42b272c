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


def kept_of_context(shared: Array | float, own: Array | float) -> Array | float:
    """ρ of a patch's feature that is to be foretold from another patch, in [0, 1).  Eq. (context), d10.

    shared  covariance of the feature in two patches of one image, own the rest of its variance
    Contrastive predictive coding and masked reconstruction: what an image's patches have in common.
    """
    return shared / (shared + own)


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
