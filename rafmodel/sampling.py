"""What is seen of an image and how it was labelled: patches, wrong labels, unequal classes and subgroups.

Closed forms beside those of ``theory``; the label after "Eq." is the one of the paper.  A patch that holds a part of the
class signal is called a carrier.  Everything is differentiable in its continuous arguments and works under jit.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaln, ndtr

from rafmodel.errors import InputError
from rafmodel.theory import Moments, auc, rate

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(96)  # on (-1, 1), for the integrals of `auc_max` and `auc_tiles`
_UNIT = (_NODES + 1) / 2, _WEIGHTS / 2  # on (0, 1)
_LINE = np.linspace(-1, 1, 401)  # for the integral of `auc_noisy_or`
_OFFSETS = 12  # of a lesion along an axis, in `auc_tiles`
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


def any_patch(chance: Array, tpr: Array | float, fpr: Array | float) -> tuple[Array, Array]:
    """TPR and FPR of an image that is called a case when any of its n patches is.  Eq. (any-*), d07.

    tpr, fpr  rates of a patch with and without the class
    """
    n, h = len(chance) - 1, jnp.arange(len(chance))
    silent = 1 - jnp.asarray(fpr)
    missed = jnp.sum(chance * (1 - jnp.asarray(tpr)) ** h * silent ** (n - h))
    return 1 - missed, 1 - silent**n


def auc_noisy_or(chance: Array, gap: Array | float, forecast: tuple[Array | float, Array | float]) -> Array:
    """AUC of the score 1 − Π(1 − p) over n patches, in [0, 1].  Eq. (noisy-or-wave, noisy-or-auc), d07.

    chance, gap  as in `auc_mean`
    forecast     intercept and slope of the log-odds of p in a patch's score
    The score orders images as Σ −log(1 − p) does, whose characteristic function is a product over patches; by quadrature, to
    1e-6 for six patches and 3e-4 for two where the log-odds reach far beyond ±10.
    """
    n, h = len(chance) - 1, jnp.arange(len(chance))[:, None]
    x, weight = jnp.asarray(_REACH * _LINE), _REACH * (_LINE[1] - _LINE[0]) * jnp.exp(-((_REACH * _LINE) ** 2) / 2)
    weight = weight / jnp.sum(weight)
    share = jnp.logaddexp(
        0.0, forecast[0] + forecast[1] * (x[None] + jnp.asarray([[0.0], [1.0]]) * gap)
    )  # of control, case
    log_time = jnp.linspace(jnp.log(1e-7), jnp.log(60.0), 800)  # in units of what a patch adds on average
    time = jnp.exp(log_time) / jnp.sum(weight * share[0])
    clean, carrier = (jnp.exp(1j * time[:, None] * each[None, :]) @ (weight + 0j) for each in share)
    case = jnp.sum(chance[:, None] * carrier[None, :] ** h * clean[None, :] ** (n - h), axis=0)
    return 0.5 + jnp.trapezoid(jnp.imag(case * jnp.conj(clean) ** n), log_time) / jnp.pi


def touched(lesion: Array | float, patch: Array | float) -> Array:
    """Mean number of patches of a grid that a square lesion touches, at a random offset.  Eq. (touched), d07.

    lesion, patch  sides, in the same unit
    """
    return (jnp.asarray(lesion) / patch + 1) ** 2


def diluted(gap: Array | float, lesion: Array | float, patch: Array | float) -> Array:
    """Gap of a mean over a patch that holds the whole square lesion: gap times its share of the area.  Eq. (diluted), d07.

    In units of the pixel's gap; noise falls too, see `auc_tiles`.
    """
    return gap * jnp.minimum(jnp.asarray(lesion) / patch, 1.0) ** 2


def auc_tiles(gap: Array | float, lesion: float, patch: float, n_tiles: int, n_drawn: int) -> Array:
    """AUC of the largest mean of n tiles drawn from a grid over a square image, in [0, 1].

    Eq. (overlap, tile-gap, auc-tiles), d07; over the lesion's offsets, by quadrature.

    gap            mean of a lesion's pixel, in standard deviations of a pixel's white noise
    lesion, patch  sides in pixels; n_tiles tiles in the image, of which n_drawn are drawn without replacement
    A tile of the lesion's size shows most of it; where even that is faint larger tiles do better, since fewer of them
    are large by chance.
    """
    axis = 1 + int(np.ceil(lesion / patch))  # tiles that may be touched along an axis
    if not axis**2 <= n_tiles >= n_drawn > 0:
        raise InputError(
            f"auc_tiles: {n_tiles} tiles of side {patch} cannot hold a lesion of side {lesion} at any offset and "
            f"give {n_drawn} to draw; use more, smaller tiles"
        )
    start = patch * (np.arange(_OFFSETS) + 0.5)[:, None] / _OFFSETS
    end, edge = start + lesion, patch * np.arange(axis)[None, :]
    overlap = np.clip(np.minimum(end, edge + patch) - np.maximum(start, edge), 0, None)  # offset, tile
    product = (overlap[:, None, :, None] * overlap[None, :, None, :]).reshape(_OFFSETS**2, axis**2)
    t = jnp.asarray(_REACH * _NODES)
    below = ndtr(t[None, None, :] - gap * jnp.asarray(product / patch)[:, :, None])  # offset, tile, node
    sets = [jnp.ones((_OFFSETS**2, len(t)))]  # sums over sets of h tiles of their products
    for tile in range(axis**2):
        more = [sets[h] + sets[h - 1] * below[:, tile] for h in range(1, len(sets))]
        sets = [sets[0], *more, sets[-1] * below[:, tile]]
    chance = hits(n_tiles, axis**2, n_drawn)
    seen = range(min(n_drawn, axis**2) + 1)
    each = [chance[h] / math.comb(axis**2, h) * sets[h].mean(0) * ndtr(t) ** (n_drawn - h) for h in seen]
    density = jnp.exp(-(t**2) / 2) / jnp.sqrt(2 * jnp.pi)
    inside = jnp.sum(jnp.stack(each), axis=0) * n_drawn * ndtr(t) ** (n_drawn - 1) * density
    return 1 - jnp.sum(jnp.asarray(_REACH * _WEIGHTS) * inside)


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


def mean_dice(prevalence: Array | float, tpr: Array | float, fpr: Array | float, pixels: Array | float) -> Array:
    """Mean over images of each image's Dice, where images have few pixels, in [0, 1].  Eq. (mean-dice), d06.

    prevalence  share of pixels that belong to the structure; images without any have no Dice and are left out
    pixels      independent pixels of an image; neighbours that err together count as fewer
    For many pixels ``theory.dice`` less D(1 − D) over the number of pixels called plus those of the structure.
    """
    return _mean_dice(*map(jnp.asarray, (prevalence, tpr, fpr, pixels)))


@jnp.vectorize
def _mean_dice(prevalence: Array, tpr: Array, fpr: Array, pixels: Array) -> Array:
    hit, other = prevalence * tpr, prevalence * (1 - tpr) + (1 - prevalence) * fpr
    reach = jnp.minimum(1.0, 80 / (pixels * (2 * hit + other)))  # beyond it nothing is left
    y, weight = (reach * jnp.asarray(each) for each in _UNIT)
    power = jnp.exp((pixels - 1) * jnp.log1p(-hit * y * (2 - y) - other * y))
    seen = -jnp.expm1(pixels * jnp.log1p(-prevalence))  # chance that an image has any of the structure
    return 2 * pixels * hit * jnp.sum(weight * (1 - y) * power) / seen


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


def pooled(groups: Moments) -> Moments:
    """Class moments of all subgroups together, for ``theory.probe``.  Eq. (pooled-mean, pooled-covariance), d09.

    groups  mean (g, 2, d), cov (g, 2, d, d), weight (g, 2): images of each class in each subgroup, 0 for none
    The covariance holds the scatter between subgroups, so that a probe is held back along what tells them apart.
    ``theory.deploy`` of the probe on ``groups`` gives each subgroup's AUC.
    """
    total = jnp.sum(groups.weight, axis=0)
    share = groups.weight / total[None, :]
    mean = jnp.einsum("gc,gci->ci", share, groups.mean)
    apart = groups.mean - mean[None]
    spread = groups.cov + apart[..., :, None] * apart[..., None, :]
    return Moments(mean, jnp.einsum("gc,gcij->cij", share, spread), total)


def subgroup_auc(
    gap: Array, place: Array, variance: Array, dimension: Array | float, n_case: Array, n_control: Array
) -> Array:
    """AUC (g,) by subgroup of one difference-of-means classifier trained on all.  Eq. (subgroup-weights, -auc), d09.

    gap, place (g, k)     difference of the class means of each subgroup, and the midpoint of them, in the k directions
                          in which any of these differ
    variance (g,)         of each feature in each subgroup; dimension is the number of features
    n_case, n_control (g,)   training images
    Where gap and variance are the same in all subgroups there is no gap in AUC, whatever counts and places: those move a
    threshold.  Otherwise who is rare in training is read along a direction that others taught.
    """
    total_case, total_control = jnp.sum(n_case), jnp.sum(n_control)
    case, control = n_case / total_case, n_control / total_control
    weights = (case + control) / 2 @ gap + (case - control) @ place
    wander = dimension * jnp.sum(variance * (case / total_case + control / total_control))
    spread = variance * (weights @ weights + wander)
    return auc(gap @ weights, spread, spread)


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
