"""Proxy tasks: each a law of (input, target) pairs and a loss.

Theory reads only the pairs; simulation trains on the pairs and the loss.  There is no second description.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rafmodel import grids
from rafmodel.asked import BINARY, Asked
from rafmodel.errors import InputError
from rafmodel.variability import Variability
from rafmodel.variability.law import settled

ViewLaw = tuple[tuple[Variability, float], ...]
Shape = tuple[int, ...]
TEMPERATURE = 0.2
TILES = 2  # jigsaw: tiles along a side
FINE = 24  # voxels: where every side of a volume has as many, a jigsaw has 3 tiles along it (Taleb et al. 2020)
CELLS = 3  # relative patch location: cells along a side
MARGIN = 1.0  # exemplar: how much farther than its other view the other image must be
REDUNDANCY = 0.005  # Barlow Twins: weight of correlations off the diagonal (Zbontar et al. 2021)
MOMENTUM = 0.99  # self-distillation: of the teacher; below Grill's 0.996, as training is a few hundred steps (chosen)
PATCHES = 4  # masked reconstruction: patches along a side
HIDDEN = 0.5  # masked reconstruction: share of patches hidden


@dataclass(frozen=True)
class Proxy:
    """What the encoder is shown and what it is asked for.  Equal tasks are one object, so that they share compiled programs.

    name     label in tables
    pairs    ``(key, image (*space, C), label ()) -> (input, target)``
    loss     ``(output (B, k), target) -> ()``
    outputs  size of the head that maps features to the output, given the image's shape
    law      what a view is made by; also inside ``pairs``
    siamese  the target is an image too, and is encoded by the same network
    labelled the task sees only images with labels
    asked    what these labels say
    patched  the input is several patches (patches, *cell, C); the head sees the features of all of them side by side
    cells    along each side, what the image is cut into: fewer pixels than two a cell are too few
    turned   the image is turned by quarters, so its sides must be equal
    momentum share of its weights that a slow teacher keeps in the first step; 0: there is no teacher
    pace     how soon the task shapes an encoder, 1 for two views of an image; read by theory (`derivations/NOTES.md`)
    on       the same task on views by another law; None: it has no views
    grid     cells along a side of images of a shape, where pixels that make no whole cell are cut; None: none are
    """

    name: str
    pairs: Callable[[Array, Array, Array], tuple[Array, Array]]
    loss: Callable[[Array, Array], Array]
    outputs: Callable[[Shape], int]
    law: ViewLaw = ()
    siamese: bool = False
    labelled: bool = False
    asked: Asked = BINARY
    patched: bool = False
    cells: int = 1
    turned: bool = False
    momentum: float = 0.0
    pace: float = 1.0
    on: Callable[[ViewLaw], "Proxy"] | None = None
    grid: Callable[[Shape], int] | None = None

    def check(self, shape: Shape) -> None:
        """Raises InputError where images of this shape (*space, C) cannot be given the task."""
        for variability, _ in self.law:
            variability.check(shape)
        if len(shape) not in (3, 4):
            raise InputError(f"{self.name}: made for 2 or 3 axes of space, but images are {shape[:-1]}")
        if min(shape[:-1]) < 2 * self.cells:
            needed = f"{self.cells} cells of at least 2 pixels along each side"
            raise InputError(f"{self.name}: needs {needed}, but images are {shape[:-1]}; enlarge them")
        if self.turned and len(set(shape[:-1])) > 1:
            raise InputError(f"{self.name}: turns by quarters, but the sides {shape[:-1]} differ; crop to equal sides")

    def taught(self, asked: Asked) -> "Proxy":
        """The task for labels that say something else; itself where it needs none."""
        return supervised(self.law, asked) if self.labelled and asked != self.asked else self

    def inputs(self, shape: Shape) -> Shape:
        """Shape of the input for images of this shape."""
        return self._shapes(shape)[0].shape

    def _shapes(self, shape: Shape):
        image, label = jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
        return jax.eval_shape(self.pairs, jax.random.key(0), image, label)


def view(key: Array, image: Array, law: ViewLaw) -> Array:
    """One random view: each variability of the law in turn, its severity uniform between 0 and its maximum."""
    for number, (variability, strongest) in enumerate(law):
        key, key_law, severity = _severity(key, jnp.asarray(strongest, image.dtype))
        image = settled(image) if number and variability.warp else image
        image = variability.apply(key_law, image, severity)
    return image


# the steps of a law of pairs are compiled one by one: theory, which draws few pairs of many laws, shares them


@jax.jit
def _severity(key: Array, strongest: Array) -> tuple[Array, Array, Array]:
    key, key_severity, key_law = jax.random.split(key, 3)
    return key, key_law, strongest * jax.random.uniform(key_severity, dtype=strongest.dtype)


@cache
def _two_views(law: ViewLaw):
    """One function a view law, so that tasks which share the law share its compilation in theory."""

    def pairs(key: Array, image: Array, label: Array) -> tuple[Array, Array]:
        del label
        first, second = jax.random.split(key)
        return view(first, image, law), view(second, image, law)

    return pairs


def info_nce(one: Array, two: Array) -> Array:
    """Each image must find its other view among the batch's.  van den Oord 2018; Chen et al. 2020 (NT-Xent)."""
    one, two = _unit(one), _unit(two)
    logits = one @ two.T / TEMPERATURE
    place = jnp.arange(len(one))
    rows = optax.softmax_cross_entropy_with_integer_labels(logits, place)
    columns = optax.softmax_cross_entropy_with_integer_labels(logits.T, place)
    return (rows.mean() + columns.mean()) / 2


def vicreg(one: Array, two: Array) -> Array:
    """Variance, invariance, covariance, weights 25, 25, 1.  Bardes, Ponce, LeCun 2022."""
    invariance = ((one - two) ** 2).mean()
    return 25 * invariance + 25 * (_collapse(one) + _collapse(two)) + _redundancy(one) + _redundancy(two)


def _collapse(z: Array) -> Array:
    return jax.nn.relu(1 - jnp.sqrt(z.var(0) + 1e-4)).mean() / 2


def _redundancy(z: Array) -> Array:
    z = z - z.mean(0, keepdims=True)
    covariance = z.T @ z / (len(z) - 1)
    return ((covariance**2).sum() - (jnp.diag(covariance) ** 2).sum()) / z.shape[1]


def _unit(z: Array) -> Array:
    return z / jnp.sqrt((z**2).sum(1, keepdims=True) + 1e-8)


@cache
def contrastive(law: ViewLaw) -> Proxy:
    """Tell the views of one image from those of others."""
    return Proxy("contrastive", _two_views(law), info_nce, lambda _: 64, law, siamese=True, on=contrastive)


@cache
def decorrelating(law: ViewLaw) -> Proxy:
    """Two views agree in features that have unit variance and do not repeat each other."""
    return Proxy("decorrelating", _two_views(law), vicreg, lambda _: 64, law, siamese=True, on=decorrelating)


@cache
def barlow(law: ViewLaw) -> Proxy:
    """Features of two views have the identity as their cross-correlation.  Zbontar et al. 2021.

    Theory reads the same pairs as of ``contrastive``.
    """
    return Proxy("barlow", _two_views(law), barlow_twins, lambda _: 64, law, siamese=True, on=barlow)


def barlow_twins(one: Array, two: Array) -> Array:
    """Squared distance of the cross-correlation (k, k) over the batch from the identity, off the diagonal times REDUNDANCY."""
    one, two = ((z - z.mean(0, keepdims=True)) / jnp.sqrt(z.var(0, keepdims=True) + 1e-6) for z in (one, two))
    squared = (one.T @ two / len(one) - jnp.eye(one.shape[1], dtype=one.dtype)) ** 2
    agreed = jnp.trace(squared)
    return agreed + REDUNDANCY * (squared.sum() - agreed)


@cache
def self_distillation(law: ViewLaw) -> Proxy:
    """Foretell from one view what a slow copy of the network makes of the other; no other image takes part (BYOL).

    Grill et al. 2020.  Theory reads the same pairs as of ``contrastive``: in a linear network the eigenmodes of the views'
    correlation are learned in order of their strength, and those too weak against the weight decay collapse (Tian, Chen,
    Ganguli 2021); that training does not collapse is assumed, and checked in each run.
    """
    return Proxy(
        "byol", _two_views(law), likeness, lambda _: 64, law, siamese=True, momentum=MOMENTUM, on=self_distillation
    )


def likeness(one: Array, two: Array) -> Array:
    """Mean squared distance on the unit sphere, 2 - 2 cos, in [0, 4]."""
    return ((_unit(one) - _unit(two)) ** 2).sum(1).mean()


@cache
def exemplar(law: ViewLaw) -> Proxy:
    """Each image is a class of its own: its views stay closer to each other than to another image's.

    Dosovitskiy et al. 2014; as triplets, Taleb et al. 2020.
    """
    return Proxy("exemplar", _two_views(law), triplet, lambda _: 64, law, siamese=True, on=exemplar)


def triplet(one: Array, two: Array) -> Array:
    """Anchor, its other view, and the next image of the batch, on the unit sphere.  Schroff et al. 2015."""
    one, two = _unit(one), _unit(two)
    near, far = ((one - two) ** 2).sum(1), ((one - jnp.roll(two, 1, 0)) ** 2).sum(1)
    return jax.nn.relu(near - far + MARGIN).mean()


@cache
def predictive_coding(law: ViewLaw) -> Proxy:
    """From the patches of the upper half, tell a lower patch of this image from those of others.

    Patches have half the image's sides and overlap by half: three are seen and one of the three below is to come; in space
    nine and nine.  Contrastive predictive coding: van den Oord et al. 2018, as Taleb et al. 2020.
    """

    def pairs(key: Array, image: Array, label: Array) -> tuple[Array, Array]:
        del label
        key_view, key_column = jax.random.split(key)
        return _to_come(key_column, view(key_view, image, law))

    return Proxy(
        "cpc", pairs, info_nce, lambda _: 64, law, siamese=True, patched=True, cells=4, pace=5.0, on=predictive_coding
    )


@jax.jit
def _to_come(key: Array, image: Array) -> tuple[Array, Array]:
    (half, _), *across = (grids.overlapping(side) for side in grids.space(image))
    columns = [
        tuple(slice(start, start + width) for start, (width, _) in zip(starts, across, strict=True))
        for starts in itertools.product(*(starts for _, starts in across))
    ]
    upper = jnp.stack([image[(slice(None, half), *column)] for column in columns])
    lower = jnp.stack([image[(slice(-half, None), *column)] for column in columns])
    return upper, lower[jax.random.randint(key, (), 0, len(columns), jnp.int32)]


@cache
def relative_location(law: ViewLaw) -> Proxy:
    """Where is the second patch from the first, the central one?  Doersch, Gupta, Efros 2015; Taleb et al. 2020.

    Eight cells around the centre of a 3x3 grid, 26 in space; pixels that make no whole cell are cut.
    """

    def pairs(key: Array, image: Array, label: Array) -> tuple[Array, Array]:
        del label
        key_view, key_place = jax.random.split(key)
        return _neighbours(key_place, view(key_view, image, law))

    def places(shape: Shape) -> int:
        return CELLS ** (len(shape) - 1) - 1

    grid = {"cells": CELLS, "grid": lambda _: CELLS}
    return Proxy("location", pairs, cross_entropy, places, law, patched=True, pace=5.0, on=relative_location, **grid)


@jax.jit
def _neighbours(key: Array, image: Array) -> tuple[Array, Array]:
    cells = grids.to_cells(image, CELLS)
    middle, places = len(cells) // 2, len(cells) - 1
    place = jax.random.randint(key, (), 0, places, jnp.int32)
    target = jax.nn.one_hot(place, places, dtype=image.dtype)
    return jnp.stack([cells[middle], cells[jnp.where(place < middle, place, place + 1)]]), target


def cross_entropy(output: Array, target: Array) -> Array:
    """Softmax cross-entropy against one-hot targets, (B, k)."""
    return optax.softmax_cross_entropy(output, target).mean()


def supervised(law: ViewLaw, asked: Asked = BINARY) -> Proxy:
    """Predict the label from a view: its class or grade among all, or every finding by a logit of its own."""
    return _supervised(law, asked)


@cache
def _supervised(law: ViewLaw, asked: Asked) -> Proxy:
    findings = asked.kind == "multi-label"
    answers = asked.table if findings else np.eye(len(asked.names))

    def pairs(key: Array, image: Array, label: Array) -> tuple[Array, Array]:
        return view(key, image, law), jnp.asarray(answers, image.dtype)[label]

    loss, n = each_apart if findings else cross_entropy, answers.shape[1]
    on = partial(supervised, asked=asked)
    return Proxy("supervised", pairs, loss, lambda _: n, law, labelled=True, asked=asked, on=on)


def each_apart(output: Array, target: Array) -> Array:
    """Logistic cross-entropy of every answer (B, k) in {0, 1}, mean over answers."""
    return optax.sigmoid_binary_cross_entropy(output, target).mean()


@cache
def rotation_prediction(law: ViewLaw) -> Proxy:
    """By how many quarter turns was the view turned?  Gidaris, Singh, Komodakis 2018.

    Four answers; in space ten, since it may be about any of three axes (Taleb et al. 2020).
    """

    def pairs(key: Array, image: Array, label: Array) -> tuple[Array, Array]:
        del label
        key_view, key_turn = jax.random.split(key)
        return _turned(key_turn, view(key_view, image, law))

    def answers(shape: Shape) -> int:
        return grids.n_turns(len(shape) - 1)

    return Proxy("rotation", pairs, cross_entropy, answers, law, turned=True, on=rotation_prediction)


@jax.jit
def _turned(key: Array, image: Array) -> tuple[Array, Array]:
    turned = grids.quarter_turns(image)
    which = jax.random.randint(key, (), 0, len(turned), jnp.int32)
    return turned[which], jax.nn.one_hot(which, len(turned), dtype=image.dtype)


@cache
def jigsaw(law: ViewLaw) -> Proxy:
    """Which of the 24 orders were the view's 2x2 tiles put in?  In space, which of 100 orders of 27 tiles, or 8 of a small one?

    Noroozi, Favaro 2016, with the tiles put back into one image as in Carlucci et al. 2019; in space Taleb et al. 2020.
    A last row or column of pixels that makes no whole tile is cut.
    """

    def pairs(key: Array, image: Array, label: Array) -> tuple[Array, Array]:
        del label
        key_view, key_order = jax.random.split(key)
        return _reordered(key_order, view(key_view, image, law))

    def answers(shape: Shape) -> int:
        return len(grids.orders(tiles(shape) ** (len(shape) - 1)))

    return Proxy("jigsaw", pairs, cross_entropy, answers, law, cells=TILES, pace=0.03, on=jigsaw, grid=tiles)


def tiles(shape: Shape) -> int:
    """Tiles along a side of a jigsaw: 2, or 3 of a volume with FINE voxels along each side."""
    return TILES + 1 if len(shape) == 4 and min(shape[:-1]) >= FINE else TILES


@jax.jit
def _reordered(key: Array, image: Array) -> tuple[Array, Array]:
    n = tiles(image.shape)
    orders = jnp.asarray(grids.orders(n ** (image.ndim - 1)))
    which = jax.random.randint(key, (), 0, len(orders), jnp.int32)
    cells = grids.to_cells(image, n)[orders[which]]
    return grids.from_cells(cells, n), jax.nn.one_hot(which, len(orders), dtype=image.dtype)


@cache
def masked(law: ViewLaw) -> Proxy:
    """Fill in the patches that were hidden (half of a 4x4 or 4x4x4 grid, painted mid-grey).  He et al. 2022.

    The target holds the image and, as a last channel, which pixels were hidden; only those are scored.
    """

    def pairs(key: Array, image: Array, label: Array) -> tuple[Array, Array]:
        del label
        key_view, key_mask = jax.random.split(key)
        return _hidden(key_mask, view(key_view, image, law))

    return Proxy("masked", pairs, filled_in, lambda shape: int(np.prod(shape)), law, cells=PATCHES, on=masked)


def filled_in(output: Array, target: Array) -> Array:
    """Mean squared distance at hidden pixels, of output (B, pixels x C) from target (B, *space, C + 1)."""
    content, mask = target[..., :-1], target[..., -1:]
    return ((output.reshape(content.shape) * mask - content) ** 2).sum() / (mask.sum() * content.shape[-1])


@jax.jit
def _hidden(key: Array, image: Array) -> tuple[Array, Array]:
    dims = image.ndim - 1
    hidden = jax.random.permutation(key, jnp.arange(PATCHES**dims)) < HIDDEN * PATCHES**dims
    places = [(jnp.arange(side) * PATCHES) // side for side in grids.space(image)]
    mask = hidden.reshape((PATCHES,) * dims)[jnp.ix_(*places)][..., None].astype(image.dtype)
    return image * (1 - mask) + 0.5 * mask, jnp.concatenate([(image - 0.5) * mask, mask], -1)


@cache
def untrained() -> Proxy:
    """No task: the encoder stays as it was drawn.  Its pairs are an image and itself."""
    return Proxy(
        "untrained", lambda key, image, label: (image, image), lambda output, target: jnp.zeros(()), lambda _: 1
    )
