"""Predict a segmentation before it is trained (level L0), from the pixels of the untrained encoder's maps.

The mathematics is that of ``predict`` with pixels as samples: moments of dense features by class under each shift, what the
proxy task keeps of the channels, the ridge probe's law, Gaussian scores, and Dice from their rates and each image's share of
foreground.  Two approximations are this module's own.  What a proxy task teaches is an inner product on the channels' means over
an image, and is taken to hold at each pixel.  Pixels of one image are alike, so their number is divided by the design effect
(``effective``).  The head is taken to be the probe, whichever is trained.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import charts, dice, predict, theory
from rafmodel import cohort as cohorts
from rafmodel.architectures import PLAIN, Architecture
from rafmodel.charts import FEWEST, Chart
from rafmodel.cohort import Cohort
from rafmodel.design import Design, unforeseen
from rafmodel.encoder import Maps, Network, in_chunks, of_maps, widths_of_maps
from rafmodel.experience import unstudied
from rafmodel.masks import EACH, at_once, drawn, merged, moved, pixel_features, prevalence
from rafmodel.metrics import Outcome, members, probit
from rafmodel.once import Once
from rafmodel.predict import representations
from rafmodel.variability import Variability, alter

FIXED, SHIFTED = 256, 96  # source images for the class moments, and for each shift
GRID = 400  # thresholds among which the best is sought


class Pixels(NamedTuple):
    """Pixels of a source cohort in the maps of one untrained encoder.

    chart       as of ``predict``, with every channel of every layer for a direction, and moments of pixels for those of images;
                ``offset`` (4, shift, severity 0-5) is of AUC, TPR, FPR and Dice
    alike       correlation of two pixels of one image, within a class
    share       (n,) share of foreground of the source images that fix the threshold
    prevalence  (shift, severity 0-5, m) of those deployed on, whose masks have moved
    member      (group, m) who they are
    """

    chart: Chart
    alike: float
    share: np.ndarray
    prevalence: np.ndarray
    member: np.ndarray


class Survey(NamedTuple):
    """What theory keeps of a source cohort: of pixels in each untrained encoder, and of images for the proxy tasks."""

    pixels: tuple[Pixels, ...]
    images: predict.Survey


def survey(
    key: Array,
    train: Cohort,
    test: Cohort,
    widths: tuple[int, ...],
    shifts: Sequence[Variability],
    *,
    group: str | None = None,
    architecture: Architecture = PLAIN,
) -> Survey:
    """As ``predict.survey``, of pixels.  Of ``test`` only the subgroups and whether an image has foreground are read."""
    key_networks, key_images, key_shift, key_probe = jax.random.split(key, 4)
    source = cohorts.take(train, np.flatnonzero(train.split != "test"))
    folds = charts.folds(key_images, source)
    networks = predict.untrained(key_networks, architecture, source, widths)  # one for each part to deploy on
    names, test_code = cohorts.groups(test, group)

    def of(i: int) -> Pixels:
        fixed = cohorts.take(source, np.concatenate([fold for fold in folds if fold is not folds[i]])[:FIXED])
        deployed = cohorts.take(source, folds[i][:SHIFTED])
        member = members(charts.code(deployed, group, names), len(names))
        key_here = jax.random.fold_in(key_shift, i)
        return _pixels(
            key_here, jax.random.fold_in(key_probe, i), networks[i % len(networks)], fixed, deployed, member, shifts
        )

    found = tuple(of(i) for i in range(charts.FOLDS))
    paired = cohorts.take(source, folds[-1][: charts.CLEAN])
    inside = members(test_code, len(names))
    assert test.mask is not None
    share = prevalence(test.mask)
    counts = tuple((inside & some[None]).sum(1) for some in (share > 0, share < 1))
    labels = cohorts.part(train, "train").label
    seen = tuple(p.chart for p in found)
    images = cohorts.pixels(paired), paired.label
    return Survey(found, predict.Survey(seen, (), *images, labels, counts, charts.APART, Once()))


def foresee(key: Array, survey: Survey, design: Design) -> Outcome:
    """The outcome of one design, the mean over untrained encoders; with Dice."""
    n_images = min(design.n_labelled, len(survey.images.label))
    seen = zip(representations(key, survey.images, design), survey.pixels, strict=True)
    stated = [_stated(pixels, metric, n_images, design) for metric, pixels in seen]
    auc, tpr, fpr, overlap = charts.averaged(stated, [pixels.chart.offset for pixels in survey.pixels])
    return Outcome(auc, tpr, fpr, *survey.images.counts, overlap)


def effective(n_images: int, each: int, alike: float) -> float:
    """How many independent samples ``each`` pixels of ``n_images`` images are worth.

    Their number divided by the design effect 1 + (each − 1) · alike.  Kish 1965.
    """
    return n_images * each / (1 + (each - 1) * alike)


def outside(train: Cohort, design: Design, shifts: Sequence[Variability] = ()) -> list[str]:
    """Why the forecast is rougher than that of a classification: said of every segmentation, and of what a design chooses.

    What a jittered contour has of Dice itself is known (``sampling.dice_jitter``); what is learned from it is not derived.
    """
    told = ["segmentation, where pixels of an image are alike and a proxy task's effect on each is taken from images"]
    if design.patch:
        told.append(f"training and scoring by patches of {design.patch} pixels, foreseen as if whole images were seen")
    doubt = [design.encoder.doubt] if design.encoder.doubt else []
    return [*told, *doubt, *unforeseen(replace(design, patch=0)), *unstudied(design, [s.name for s in shifts])]


# ---- moments of pixels


def _pixels(
    key: Array,
    key_probe: Array,
    network: Network,
    fixed: Cohort,
    deployed: Cohort,
    member: np.ndarray,
    shifts: Sequence[Variability],
) -> Pixels:
    images, mask = np.asarray(cohorts.pixels(fixed)), _mask(fixed)  # FIXED of them at most
    place, label = drawn(key_probe, mask)
    raw = pixel_features(network, images, place).astype(np.float64)
    known = label.ravel() >= 0
    x, y = raw.reshape(len(known), -1)[known], label.ravel()[known]
    centre = x.mean(0)
    clean = jax.jit(theory.moments)(jnp.asarray(x - centre), jnp.asarray(y))
    d = x.shape[1]
    weight, middle = _ridge(x, y, predict.UNTRAINED.ridge)
    scores = (raw - middle) @ weight
    bins = _unit(scores, label)
    scored, along = of_maps(network, _scored), jnp.asarray(weight, jnp.float32)

    def measure(altered: Array | np.ndarray) -> np.ndarray:
        score = in_chunks(lambda some: scored(some, along), altered, chunk=at_once(images))
        return (score - middle @ weight - bins[0]) / bins[1]

    seen = np.asarray(cohorts.pixels(deployed)), _mask(deployed)
    states = [_deployed(key, network, measure, *seen, centre, member)]
    for i, shift in enumerate(shifts):
        key_shift = jax.random.fold_in(key, i)
        for level in shift.levels:
            states.append(
                _deployed(key_shift, network, measure, *_altered(key_shift, shift, *seen, level), centre, member)
            )
    means, covs, weights, shares, counted = (np.stack(column) for column in zip(*states, strict=True))
    shifted = theory.Moments(*(jnp.asarray(_levels(v)) for v in (means, covs, weights)))
    threshold = dice.best_threshold(dice.counts(measure(images), mask))
    measured = dice.outcome(counted, threshold, np.zeros(len(deployed.label), int), 0)
    chart = Chart((network,), *_on_statistics(network, images, centre), d, jnp.zeros(()), clean, shifted, np.zeros(()))
    chart = chart._replace(untrained=charts.scaled(np.eye(d), clean))
    found = Pixels(chart, _alike(raw, label), prevalence(mask), _levels(shares), member)
    stated = _stated(found, chart.untrained, len(fixed.label), predict.UNTRAINED)[..., 0]
    measured = np.stack([getattr(measured, name) for name in ("auc", "tpr", "fpr", "dice")])[..., 0]
    return found._replace(chart=chart._replace(offset=probit(measured) - probit(stated)))


def _altered(
    key: Array, shift: Variability, images: np.ndarray, mask: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks at one level; an image keeps its draw over levels."""
    levels = jnp.asarray([level], jnp.float32)
    changed = alter(key, shift, jnp.asarray(images), levels)[0]
    return np.asarray(changed), np.asarray(moved(key, shift, jnp.asarray(mask), images.shape[-1], levels)[0])


def _deployed(key, network, measure, images, mask, centre, member) -> tuple[np.ndarray, ...]:
    """Means, covariances and weights of pixels by group and class, share of foreground, and counts of one state."""
    place, label = drawn(key, mask)
    x = jnp.asarray(pixel_features(network, images, place).reshape(label.size, -1) - centre, jnp.float32)
    flat = label.ravel()
    weight = np.repeat(member, label.shape[1], 1) * (flat >= 0)
    found = _moments(x, jnp.asarray(flat), jnp.asarray(weight, jnp.float32))
    inside = (label[:, 0] == 1)[None] & member
    few = inside.sum(1) < FEWEST
    mean = np.where(few[:, None, None], np.nan, np.asarray(found.mean))
    return mean, np.asarray(found.cov), np.asarray(found.weight), prevalence(mask), dice.counts(measure(images), mask)


@jax.jit
def _moments(x: Array, label: Array, weight: Array) -> theory.Moments:
    return jax.vmap(theory.moments, (None, None, 0))(x, label, weight)


def _scored(seen: Maps, space: tuple[int, ...], weight: Array) -> Array:
    cuts = np.cumsum([x.shape[-1] for x in seen.layers])[:-1]
    return merged(seen, [w[:, None] for w in jnp.split(weight, cuts)], space)[..., 0]


def _on_statistics(network: Network, images: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (p,) and axes (p, d) that turn layer statistics into the dense channels: their means over an image.

    The statistics hold the means of the last layer first, then those before it, then mean squares, which are left out.
    """
    cuts = np.cumsum(widths_of_maps(network, images.shape[1:]))[:-1]
    blocks = np.split(np.arange(len(centre)), cuts)
    order = np.concatenate(blocks[::-1])
    axes = np.zeros((2 * len(centre), len(centre)))
    axes[np.arange(len(centre)), order] = 1
    return axes @ centre, axes


def _alike(raw: np.ndarray, label: np.ndarray) -> float:
    """Intraclass correlation of pixels (n, k, d) of one image, mean over both classes of labels (n, k)."""
    n, each, d = raw.shape
    image = np.repeat(np.arange(n), each)
    return float(charts.alike(raw.reshape(-1, d), label.ravel(), image, 2).correlation.mean())


def _ridge(x: np.ndarray, label: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights and centre (d,) of the probe of the untrained encoder, on which theory's error in level is measured."""
    means = np.stack([x[label == c].mean(0) for c in (0, 1)])
    z = [x[label == c] - means.mean(0) for c in (0, 1)]
    second = np.mean([v.T @ v / len(v) for v in z], axis=0)
    ridged = second + ridge * np.trace(second) / len(second) * np.eye(len(second))
    return np.linalg.solve(ridged, (means[1] - means[0]) / 2), means.mean(0)


def _unit(scores: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Centre and unit of the bins that scores are counted in."""
    apart = [scores[label == c] for c in (0, 1)]
    return float(np.mean([v.mean() for v in apart])), float(np.mean([v.std() for v in apart]) / 4 + 1e-12)


def _levels(values: np.ndarray) -> np.ndarray:
    """Values by state (1 + 5 shifts, ...) as (shift, severity 0-5, ...)."""
    shifted = values[1:].reshape(-1, 5, *values.shape[1:])
    return np.concatenate([np.broadcast_to(values[None, :1], (len(shifted), 1, *values.shape[1:])), shifted], 1)


def _mask(cohort: Cohort) -> np.ndarray:
    assert cohort.mask is not None
    return np.asarray(cohort.mask)


# ---- outcome


def _stated(pixels: Pixels, metric: Array, n_images: int, design: Design) -> np.ndarray:
    """AUC, TPR, FPR and Dice (4, shift, severity, group) that theory states for a design's representation."""
    n, share = effective(n_images, EACH, pixels.alike), pixels.share[pixels.share > 0]
    found = _outcome(metric, pixels.chart, jnp.asarray(share), n, design.label_flip, design.ridge)
    auc, tpr, fpr = map(np.asarray, found)
    q = np.where(pixels.prevalence > 0, pixels.prevalence, np.nan)[..., None, :]  # (shift, severity, 1, image)
    each = np.where(
        pixels.member, np.asarray(theory.dice(jnp.asarray(q), found[1][..., None], found[2][..., None])), np.nan
    )
    known = np.isfinite(each)
    total = np.where(known, each, 0).sum(-1)
    return np.stack([auc, tpr, fpr, np.where(known.any(-1), total / np.maximum(known.sum(-1), 1), np.nan)])


def _outcome(metric, chart: Chart, share: Array, n: float, flip: float, ridge: float) -> tuple[Array, Array, Array]:
    return _rates(metric, chart.clean, chart.shifted, share, n, flip, ridge, chart.width)


@jax.jit
def _rates(
    metric: Array,
    clean: theory.Moments,
    shifted: theory.Moments,
    share: Array,
    n: float,
    flip: float,
    ridge: float,
    width: int,
) -> tuple[Array, Array, Array]:
    """AUC, TPR and FPR of a ridge probe on the representation ``metric^½ φ`` at the threshold of the best Dice."""
    spectrum, basis = jnp.linalg.eigh(metric)
    root = (basis * jnp.sqrt(jnp.maximum(spectrum, 0))[None, :]) @ basis.T
    learned = theory.Moments(clean.mean @ root, root @ clean.cov @ root, clean.weight)
    penalty = ridge * jnp.trace(theory.total_covariance(learned)) / width
    law = theory.probe(learned, n, flip=flip, ridge=penalty)
    outward = law._replace(mean=root @ law.mean, cov=root @ law.cov @ root, centre=clean.mean.mean(0))
    middle = theory.threshold(outward, clean)
    variance = jnp.einsum("cij,i,j->c", clean.cov, outward.mean, outward.mean)
    place = middle + jnp.linspace(-4, 8, GRID) * jnp.sqrt(variance.max())
    _, tpr, fpr = jax.vmap(lambda t: theory.deploy(outward, clean, t))(place)
    overlap = jnp.asarray(theory.dice(share[None, :], tpr[:, None], fpr[:, None])).mean(1)
    return theory.deploy(outward, shifted, place[jnp.argmax(overlap)])
