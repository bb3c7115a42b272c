"""What is seen of an image and how it was labelled: patches, wrong labels, unequal classes and subgroups.

Closed forms beside those of ``theory``; the label after "Eq." is the one of the paper.  A patch that holds a part of the
class signal is called a carrier.  Everything is differentiable in its continuous arguments and works under jit.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaln, ndtr

from rafmodel.errors import InputError
from rafmodel.theory import rate

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(96)  # on (-1, 1), for the integral of `auc_max`
_REACH = 8.0  # standard deviations on either side that the integral spans

# ---- patches


def hits(n_tiles: int, n_carriers: int, n_drawn: int) -> Array:
    """Probability of h = 0 .. n_drawn carriers among patches drawn without replacement.  Eq. (hits), d07.

    n_tiles, n_carriers   patches in the image, and how many of them carry the class
    Shape (n_drawn + 1,).  Raises InputError where more are drawn, or carry, than there are.
    """
    if not (0 <= n_carriers <= n_tiles and 0 < n_drawn <= n_tiles):
        raise InputError(
            f"hits: {n_drawn} patches drawn and {n_carriers} carriers, of {n_tiles}; both must be among them"
        )
    h = np.arange(n_drawn + 1)
    possible = (h <= n_carriers) & (n_drawn - h <= n_tiles - n_carriers)
    inside = np.where(possible, h, max(0, n_drawn - n_tiles + n_carriers))
    log = _choose(n_carriers, inside) + _choose(n_tiles - n_carriers, n_drawn - inside) - _choose(n_tiles, n_drawn)
    return jnp.where(jnp.asarray(possible), jnp.exp(log), 0.0)


def _choose(n: int, k: np.ndarray | int) -> Array:
    return gammaln(n + 1.0) - gammaln(jnp.asarray(k) + 1.0) - gammaln(n - jnp.asarray(k) + 1.0)


def auc_mean(chance: Array, gap: Array | float) -> Array:
    """AUC of the mean score of n patches, in [0, 1].  Eq. (auc-mean), d07.

    chance  (n + 1,) probability of each number of carriers in a case's image (`hits`); a control's has none
    gap     mean score of a carrier, in standard deviations of a patch's score
    """
    n = len(chance) - 1
    return jnp.sum(chance * ndtr(gap * jnp.arange(n + 1) / jnp.sqrt(2.0 * n)))


def auc_max(chance: Array, gap: Array | float) -> Array:
    """AUC of the largest score of n patches, in [0, 1].  Eq. (auc-max), d07.  Arguments as in `auc_mean`.

    P(control's largest < case's) = 1 − ∫ F_case dF_control, with F of a maximum the product of the patches'.
    """
    n, h = len(chance) - 1, jnp.arange(len(chance))[:, None]
    t, weight = jnp.asarray(_REACH * _NODES)[None, :], jnp.asarray(_REACH * _WEIGHTS)
    density = jnp.exp(-(t**2) / 2) / jnp.sqrt(2 * jnp.pi)
    below = chance @ (ndtr(t) ** (n - h) * ndtr(t - gap) ** h)
    return 1 - jnp.sum(weight * below * (n * ndtr(t) ** (n - 1) * density)[0])


def noisy_or(chance: Array, tpr: Array | float, fpr: Array | float) -> tuple[Array, Array]:
    """TPR and FPR of an image that is called a case when any of its n patches is.  Eq. (noisy-or-*), d07.

    tpr, fpr  rates of a patch with and without the class
    """
    n, h = len(chance) - 1, jnp.arange(len(chance))
    silent = 1 - jnp.asarray(fpr)
    missed = jnp.sum(chance * (1 - jnp.asarray(tpr)) ** h * silent ** (n - h))
    return 1 - missed, 1 - silent**n


def touched(lesion: Array | float, patch: Array | float) -> Array:
    """Mean number of patches of a grid that a square lesion touches, at a random offset.  Eq. (touched), d07.

    lesion, patch  sides, in the same unit
    """
    return (jnp.asarray(lesion) / patch + 1) ** 2


def diluted(gap: Array | float, lesion: Array | float, patch: Array | float) -> Array:
    """Gap of a mean over a patch that holds the whole square lesion: gap times its share of the area.  Eq. (diluted), d07."""
    return gap * jnp.minimum(jnp.asarray(lesion) / patch, 1.0) ** 2


# ---- labels


def auc_wrong_labels(
    area: Array | float, prevalence: Array | float, miss: Array | float, alarm: Array | float
) -> Array | float:
    """AUC measured against wrong labels of a score whose AUC is ``area``, in [0, 1].  Eq. (auc-wrong-labels), d08.

    prevalence    true share of cases, in (0, 1)
    miss, alarm   share of cases labelled control, and of controls labelled case; independent of the score in a class
    Menon et al. 2015.
    """
    called = prevalence * (1 - miss) + (1 - prevalence) * alarm
    impure_cases, impure_controls = (1 - prevalence) * alarm / called, prevalence * miss / (1 - called)
    return area * (1 - impure_cases - impure_controls) + (impure_cases + impure_controls) / 2


def tilted(share: Array, flip: Array, gap: Array) -> Array:
    """Direction (d,) that a probe learns from subgroups whose labels differ in quality.  Eq. (tilted), d08.

    share, flip (g,)   of the training images, and of the labels in each subgroup that are wrong
    gap (g, d)         difference of class means in each, in whitened features
    The subgroup with clean labels pulls the direction its way: quality is weight.
    """
    return (share * (1 - 2 * flip)) @ gap


def dice_jitter(area: Array | float, perimeter: Array | float, sigma: Array | float) -> Array:
    """Dice of a mask whose boundary was displaced by N(0, sigma²) point by point, in [0, 1].  Eq. (dice-jitter), d08.

    area, perimeter  of the structure, sigma in the same unit of length; first order in curvature times sigma
    """
    return 1 - jnp.asarray(perimeter) * sigma / (jnp.sqrt(2 * jnp.pi) * area)


# ---- classes and subgroups of unequal size


def bayes_threshold(gap: Array | float, variance: Array | float, prevalence: Array | float) -> Array:
    """Threshold of least error between Gaussian scores, from the midpoint of the means.  Eq. (bayes-threshold), d09.

    gap        mean score of cases minus that of controls, both with the same variance
    """
    return -variance / gap * jnp.log(prevalence / (1 - jnp.asarray(prevalence)))


def effective_size(weight: Array) -> Array:
    """How many equally weighted images estimate a mean as well as these weights (n,) do.  Eq. (effective-size), d09.

    Kish 1965.  Drawing with replacement in proportion to the weights is no better than using them.
    """
    return jnp.sum(weight) ** 2 / jnp.sum(weight**2)


def subgroup_rates(
    separation2: Array | float, dimension: Array | float, n_case: Array, n_control: Array, shift2: Array | float
) -> tuple[Array, Array]:
    """TPR and FPR (g,) by subgroup of one difference-of-means classifier trained on all.  Eq. (subgroup-tpr, -fpr), d09.

    separation2  squared distance of the class means in each subgroup, identity covariance
    dimension    number of features
    n_case, n_control   (2,) training images of the two subgroups
    shift2       squared distance of the two subgroups, orthogonal to the class direction
    The threshold is the midpoint of the pooled class means.  Where prevalence differs between subgroups the classifier
    learns the subgroup as a sign of the class: the gap grows with the difference of the shares.
    """
    pooled_case, pooled_control = jnp.sum(n_case), jnp.sum(n_control)
    case, control = n_case[1] / pooled_case, n_control[1] / pooled_control  # shares of the second subgroup
    pull = dimension * (1 / pooled_control - 1 / pooled_case)
    norm2 = separation2 + shift2 * (case - control) ** 2 + dimension * (1 / pooled_control + 1 / pooled_case)
    place = jnp.array([0.0, 1.0]) - (case + control) / 2
    lean = shift2 * (case - control) * place + pull / 2
    return rate(lean + separation2 / 2, norm2, 0.0), rate(lean - separation2 / 2, norm2, 0.0)


def prevalence_gap(separation: Array | float, prevalence: Array) -> Array:
    """Difference of TPR between two subgroups, each at the threshold of least error for its prevalence.

    Eq. (prevalence-gap), d09.

    separation  distance of class means in standard deviations; prevalence (2,) of the two subgroups
    """
    threshold = bayes_threshold(separation, 1.0, prevalence)
    sensitivity = rate(separation / 2, 1.0, threshold)
    return sensitivity[1] - sensitivity[0]


# ---- another sample of test images


def flipped(ahead: Array | float, error: Array | float) -> Array:
    """Chance that another test sample reverses the order of two designs.  Eq. (flipped), d14.

    ahead ≥ 0  true difference of their RAF, error its standard error over samples (paired: both see the same images)
    The difference is taken as Gaussian.  Where D is itself estimated from such a sample its own error adds: take √2 ``error``.
    """
    return ndtr(-jnp.asarray(ahead) / error)


def flipped_bound(ahead: Array | float, error: Array | float) -> Array:
    """No larger than this is that chance, whatever the law of the difference.  Cantelli 1928.  Eq. (flipped-bound), d14."""
    return jnp.square(jnp.asarray(error)) / (jnp.square(jnp.asarray(error)) + jnp.square(jnp.asarray(ahead)))
