"""Simulate a segmentation: pre-train the encoder, fit a head on its dense features, deploy under every shift, count pixels.

The proxy tasks and their training are those of ``simulate``.  What is added is a head that scores every pixel: a ridge probe,
or a light convolutional decoder on frozen features or trained together with them.  Masks move with their images.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from rafmodel import cohort as cohorts
from rafmodel import contours, dice, external
from rafmodel.cohort import Cohort
from rafmodel.collapse import FAILED, Health, health
from rafmodel.design import Design
from rafmodel.encoder import Maps, Network, beside, convolved, features, in_chunks, of_maps, widths_of_maps
from rafmodel.labels import Lesson, flip_rate, flipped
from rafmodel.masks import (
    Segmentation,
    as_designed,
    at_once,
    drawn,
    merged,
    moved,
    patched,
    pixel_features,
    prevalence,
)
from rafmodel.metrics import Outcome
from rafmodel.on_disk import OnDisk
from rafmodel.patches import assemble, grid_patches
from rafmodel.pretrain import SCAN, pretrain
from rafmodel.simulate import shown, sound
from rafmodel.variability import Variability, alter

WIDTH = 16  # channels of the decoder
STEPS, RATE = 200, 3e-3  # optimiser steps of the decoder and the peak of their one-cycle learning rate
BATCH, PIXELS = 16, 2**17  # most images of a step, and most pixels of them
FINE = 4  # unit of the score's bins: this part of the s.d. of scores within a class


class Head(NamedTuple):
    """Weights from the maps of the layers to a score of each pixel.

    merge       (width, k) for each layer: maps are merged to k channels at the image's own pixels
    offset      (k,)
    conv, bias  (3^dims k, k) and (k,) of a convolution between two ReLU, and out (k, 1); None where k = 1, the linear probe
    """

    merge: tuple[Array, ...]
    offset: Array
    conv: Array | None = None
    bias: Array | None = None
    out: Array | None = None


class Segmented(NamedTuple):
    """Pixels of every test image by class and score under every shift.

    pixels        (1 + 5 shifts, n, 2, dice.BINS) counts; row 0 is clean, then levels 1-5 of each shift
    threshold     bin from which on a pixel is called foreground: the best mean Dice on the source's validation part
    rank, spread  of the trained features of the labelled images, see ``collapse.Health``
    error         what was raised in place of a result, in one line; then nothing is known
    """

    pixels: np.ndarray
    threshold: float
    rank: float
    spread: float
    error: str = ""

    @property
    def failed(self) -> str:
        """``diverged``, ``collapsed``, ``error``, or '' where training ended well."""
        return FAILED[3] if self.error else Health(self.rank, self.spread).failed


class Trained(NamedTuple):
    """A trained design: encoder, head, the images whose masks it saw, and how training ended."""

    network: Network
    head: Head
    labelled: Cohort
    health: Health


def segment(
    key: Array,
    train: Cohort,
    test: Cohort,
    design: Design,
    shifts: Sequence[Variability],
    *,
    group: str | None = None,
    task: Segmentation,
) -> Outcome:
    """Dice, and AUC, TPR and FPR of pixels, of a trained design under every shift, by subgroup, measured.

    train, test  as of ``simulate.simulate``, with binary masks (``masks.segmented``)
    """
    return score(deploy(key, train, test, design, shifts, task=task), test, group)


def score(deployment: Segmented, test: Cohort, group: str | None) -> Outcome:
    """Counts of pixels reduced to Dice, AUC, TPR and FPR by subgroup; nan where training diverged or collapsed."""
    names, code = cohorts.groups(test, group)
    found = dice.outcome(deployment.pixels, int(deployment.threshold), code, len(names))
    if not deployment.failed:
        return found
    return found._replace(**{k: np.full_like(getattr(found, k), np.nan) for k in ("auc", "tpr", "fpr", "dice")})


def deploy(
    key: Array, train: Cohort, test: Cohort, design: Design, shifts: Sequence[Variability], *, task: Segmentation
) -> Segmented:
    """Train the design with ``key``, and count the pixels of ``test`` under every shift.

    As in ``simulate.deploy`` the shifts' draws, the labelled images and the untrained weights depend on ``key`` only.
    """
    task, (_, _, key_shift) = as_designed(task, design), jax.random.split(key, 3)
    network, head, labelled, found = trained(key, train, design, task)
    if found.failed == FAILED[2]:
        return Segmented(lost(len(test.label), len(shifts), "").pixels, 0, *found)
    validation = cohorts.part(train, "val")
    held = validation if len(validation.label) and prevalence(_masks(validation)).any() else labelled
    images, mask = cohorts.pixels(held), _masks(held)
    score = partial(tiled, partial(score_maps, network, head), side=task.patch)
    centre, spread = _unit(score, images, mask)

    def measure(images: Array | np.ndarray) -> np.ndarray:
        return (score(images) - centre) * (FINE / (spread + 1e-12))

    threshold = dice.best_threshold(counted(measure, images, mask))
    return Segmented(pixels_under(key_shift, measure, test, shifts), threshold, *found)


def lost(n: int, shifts: int, error: str) -> Segmented:
    """What stands for a deployment on n images that raised an error: no pixel is counted."""
    return Segmented(np.zeros((1 + 5 * shifts, n, 2, dice.BINS), np.uint16), 0, np.nan, np.nan, error)


def trained(key: Array, train: Cohort, design: Design, task: Segmentation) -> Trained:
    """The design's encoder and head after training with ``key`` on at most ``design.n_labelled`` images with masks.

    Their masks are drawn as poorly as the design says (``contours``), and then a share ``design.label_flip`` of the pixels that
    are learned from has the wrong class, pixel by pixel; both in one subgroup only where it says so.  Where the task has
    patches, both learn from patches: the proxy task from one of each image anywhere, the head from those of ``masks.patched``.
    Raises InputError where the masks as given hold no pixel of the structure.
    """
    task, (key_label, key_train, _) = as_designed(task, design), jax.random.split(key, 3)
    source = cohorts.part(train, "train")
    chosen = np.asarray(jax.random.permutation(key_label, len(source.label)))[: design.n_labelled]
    labelled = cohorts.take(source, chosen)
    learned = Lesson(labelled, labelled.label, np.arange(len(chosen)), None)
    network = pretrain(key_train, shown(key_label, train, learned, design), design, patch=task.patch)
    labelled = contours.drawn(jax.random.fold_in(key_label, 3), labelled, design)
    labelled = patched(jax.random.fold_in(key_label, 2), labelled, task)
    key_head, key_flip = jax.random.split(jax.random.fold_in(key_label, 1))
    if task.head == "probe" or not sound(network):
        head = probe(key_head, key_flip, network, labelled, design)
    else:
        network, head = decoder(key_head, key_flip, network, labelled, design, tune=task.head == "tuned")
    return Trained(network, head, labelled, ended(network, head, cohorts.pixels(labelled)))


def ended(network: Network, head: Head, images: np.ndarray | OnDisk) -> Health:
    """Health of the trained features of images (N, *space, C).

    nan where a weight of encoder or head, a feature or the score of a pixel is not finite.
    """
    weights = all(bool(jnp.isfinite(weight).all()) for weight in jax.tree.leaves(head))
    scored = (score_maps(network, head, images[rows]) for rows in _some(images))
    if not (sound(network) and weights and all(np.isfinite(score).all() for score in scored)):
        return Health(np.nan, np.nan)
    return health(features(network, images))


# ---- heads


def probe(key: Array, key_flip: Array, network: Network, labelled: Cohort, design: Design) -> Head:
    """The linear head that a ridge regression on drawn pixels of the labelled images gives, classes weighing alike."""
    images = cohorts.pixels(labelled)
    place, label = drawn(key, np.asarray(_masks(labelled)))
    known = label.ravel() >= 0
    x = pixel_features(network, images, place).reshape(len(known), -1)[known]
    rate = np.repeat(flip_rate(design, labelled), label.shape[1])[known]
    weight, centre = ridge(x, flipped(key_flip, label.ravel()[known], rate), design.ridge)
    cuts = np.cumsum(widths_of_maps(network, images.shape[1:]))[:-1]
    return Head(
        tuple(jnp.asarray(w[:, None], jnp.float32) for w in np.split(weight, cuts)), _row(float(-centre @ weight))
    )


def ridge(x: np.ndarray, label: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights and centre (d,) of a linear score from features (n, d) and labels (n,), both classes weighing the same.

    penalty  relative to the mean variance of a feature
    """
    x = x.astype(np.float64)
    centre = np.mean([x[label == c].mean(0) for c in (0, 1)], axis=0)
    x, share = x - centre, np.where(label == 1, 0.5 / (label == 1).sum(), 0.5 / (label == 0).sum())
    second = (x * share[:, None]).T @ x
    ridged = second + (penalty * np.trace(second) / len(second) + 1e-12) * np.eye(len(second))
    return np.linalg.solve(ridged, x.T @ (share * (2.0 * label - 1))), centre


def decoder(
    key: Array, key_flip: Array, network: Network, labelled: Cohort, design: Design, *, tune: bool
) -> tuple[Network, Head]:
    """Encoder and a convolutional head after STEPS steps on cross-entropy plus soft Dice of the labelled images.

    tune  whether the encoder is trained as well; else it comes back as it was.  Loss: Isensee et al. 2021.
    """
    key_start, key_steps = jax.random.split(key)
    images, mask = np.asarray(cohorts.pixels(labelled)), np.asarray(_masks(labelled))
    rate = np.repeat(flip_rate(design, labelled).astype(np.float32), mask[0].size)
    noisy = flipped(key_flip, mask.ravel(), rate).reshape(mask.shape)
    head = untrained_head(key_start, widths_of_maps(network, images.shape[1:]), images.ndim - 2)
    learner, shown = (
        (network, images) if isinstance(network, nnx.Module) else external.held(network, images, at_once(images))
    )
    graph, weights = nnx.split(learner)
    weights = jax.tree.map(jnp.copy, weights)  # they are given away, and a network from elsewhere is used again
    free: Any = (weights, head) if tune else head
    moments = _optimiser().init(free)
    batch = int(np.clip(PIXELS // np.prod(mask.shape[1:]), 2, BATCH))
    state = (weights, head, moments)
    for start in range(0, STEPS, SCAN):
        state = _steps(
            graph, tune, batch, state, jnp.asarray(shown), jnp.asarray(noisy), key_steps, start, start + SCAN
        )
    return nnx.merge(graph, state[0]) if learner is network else network, state[1]


def untrained_head(key: Array, widths: Sequence[int], dims: int) -> Head:
    """A convolutional head drawn from ``key`` (He normal weights, zero offsets)."""
    he, keys = jax.nn.initializers.he_normal(), jax.random.split(key, len(widths) + 2)
    merge = tuple(he(k, (width, WIDTH), jnp.float32) for k, width in zip(keys[2:], widths, strict=True))
    conv, out = he(keys[0], (3**dims * WIDTH, WIDTH), jnp.float32), he(keys[1], (WIDTH, 1), jnp.float32)
    return Head(merge, jnp.zeros((WIDTH,), jnp.float32), conv, jnp.zeros((WIDTH,), jnp.float32), out)


def answered(head: Head, seen: Maps, space: tuple[int, ...]) -> Array:
    """The head's score of every pixel, (N, *space)."""
    x = beside(merged(seen, head.merge, space), head.offset)
    if head.conv is None or head.bias is None or head.out is None:
        return x[..., 0]
    x = jax.nn.relu(beside(convolved(jax.nn.relu(x), head.conv, 1), head.bias))
    return (x @ head.out)[..., 0]


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def _steps(graph, tune: bool, batch: int, state, images: Array, masks: Array, key: Array, start: int, stop: int):
    def step(i, state):
        weights, head, moments = state
        rows = jax.random.randint(jax.random.fold_in(key, i), (batch,), 0, len(images), jnp.int32)

        def loss(free):
            encoder, top = free if tune else (weights, free)
            seen = nnx.merge(graph, encoder).maps(images[rows])
            return _loss(answered(top, seen, masks.shape[1:]), masks[rows])

        free = (weights, head) if tune else head
        update, moments = _optimiser().update(jax.grad(loss)(free), moments, free)
        after: Any = optax.apply_updates(free, update)
        return (*(after if tune else (weights, after)), moments)

    return jax.lax.fori_loop(start, stop, step, state)


def _loss(score: Array, mask: Array) -> Array:
    """Cross-entropy plus one minus the soft Dice of a batch, score and mask (B, *space)."""
    mask = mask.astype(score.dtype)
    called = jax.nn.sigmoid(score)
    overlap = 2 * (called * mask).sum() / (called.sum() + mask.sum() + 1)
    return optax.sigmoid_binary_cross_entropy(score, mask).mean() + 1 - overlap


def _optimiser() -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_onecycle_schedule(STEPS, RATE)))


# ---- deployment


def score_maps(network: Network, head: Head, images: Array | np.ndarray | OnDisk) -> np.ndarray:
    """The head's score of every pixel of images (N, *space, C), (N, *space)."""
    score = of_maps(network, _scored)
    return in_chunks(lambda some: score(some, head), images, chunk=at_once(images))


def tiled(score: Callable[..., np.ndarray], images: Array | np.ndarray | OnDisk, *, side: int) -> np.ndarray:
    """Scores (N, *space) of images (N, *space, C) from tiles of ``side`` pixels that overlap by half of it; 0: of the whole.

    score  tiles (P, *side, C) -> (P, *side)
    Where tiles overlap the mean is taken with the weights of ``bell``, as their borders see less of what is around.
    """
    space = images.shape[1:-1]
    if not side or all(n == side for n in space):
        return score(images)
    weight = bell(side, len(space))

    def one_by_one(some: Array | np.ndarray) -> Array:
        found = grid_patches(jnp.asarray(some), side=side, overlap=side // 2)
        value = jnp.asarray(score(found.pixels))[..., None]
        return assemble(value, found, some.shape[:-1], weight=weight)[..., 0]

    return in_chunks(one_by_one, images, chunk=at_once(images))


def bell(side: int, dims: int) -> Array:
    """Weights (side, ...) of a tile's pixels: a Gaussian about its middle, s.d. an eighth of the side.  Isensee et al. 2021."""
    along = np.exp(-(((np.arange(side) - (side - 1) / 2) / (side / 8)) ** 2) / 2).astype(np.float32)
    return jnp.asarray(reduce(np.multiply.outer, [along] * dims))


def _unit(
    score: Callable[..., np.ndarray], images: np.ndarray | OnDisk, mask: np.ndarray | OnDisk
) -> tuple[float, float]:
    """Centre of the scores of pixels (N, *space), and their s.d., both means over the two classes."""
    if not isinstance(images, OnDisk):
        value = score(images)
        apart = [value[mask == c] for c in (0, 1)]
        centre, spread = (float(np.mean([f(v) for v in apart])) for f in (np.mean, np.std))
        return centre, spread
    sums = np.zeros((2, 3))
    for rows in _some(images):
        value, inside = score(images[rows]).astype(np.float64), mask[rows] == 1
        sums += [[part.size, part.sum(), (part**2).sum()] for part in (value[~inside], value[inside])]
    mean, square = sums[:, 1] / sums[:, 0], sums[:, 2] / sums[:, 0]
    return float(mean.mean()), float(np.sqrt(np.maximum(square - mean**2, 0)).mean())


def _some(images: np.ndarray | OnDisk) -> list[slice]:
    """Rows of as many images as are scored together, one after the other."""
    each = at_once(images)
    return [slice(start, start + each) for start in range(0, len(images), each)]


def counted(measure: Callable[..., np.ndarray], images: np.ndarray | OnDisk, mask: np.ndarray | OnDisk) -> np.ndarray:
    """Pixels of each image by class and bin, (n, 2, BINS); no more score maps are held than are made together."""
    return np.concatenate([dice.counts(measure(images[rows]), mask[rows]) for rows in _some(images)])


def pixels_under(
    key: Array, measure: Callable[..., np.ndarray], test: Cohort, shifts: Sequence[Variability]
) -> np.ndarray:
    """Counts (1 + 5 shifts, n, 2, BINS) of a cohort's pixels, clean and under the five levels of each shift.

    measure  images (n, *space, C) -> scores (n, *space) in the unit of the bins
    """
    images, mask = cohorts.pixels(test), _masks(test)
    found = [counted(measure, images, mask)]
    for i, shift in enumerate(shifts):
        found += _counted(jax.random.fold_in(key, i), measure, images, mask, shift)
    return np.stack(found)


def _counted(
    key: Array,
    measure: Callable[..., np.ndarray],
    images: np.ndarray | OnDisk,
    mask: np.ndarray | OnDisk,
    shift: Variability,
) -> list[np.ndarray]:
    """Counts of each of the five levels, a chunk of images at a time."""
    levels, most, parts = jnp.asarray(shift.levels, jnp.float32), at_once(images), []
    for start in range(0, len(images), most):
        rows = np.minimum(np.arange(start, start + most), len(images) - 1)  # one shape for every chunk
        key_chunk, n = jax.random.fold_in(key, start), min(most, len(images) - start)
        altered = alter(key_chunk, shift, jnp.asarray(images[rows]), levels)
        there = np.asarray(moved(key_chunk, shift, jnp.asarray(mask[rows]), images.shape[-1], levels))
        parts.append([dice.counts(measure(x)[:n], m[:n]) for x, m in zip(altered, there, strict=True)])
    return [np.concatenate(level) for level in zip(*parts, strict=True)]


def _scored(seen: Maps, space: tuple[int, ...], head: Head) -> Array:
    return answered(head, seen, space)


def _masks(cohort: Cohort) -> np.ndarray | OnDisk:
    return np.zeros(cohort.image.shape[:-1], np.uint8) if cohort.mask is None else cohort.mask


def _row(value: float) -> Array:
    return jnp.full((1,), value, jnp.float32)
