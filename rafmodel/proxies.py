"""Proxy tasks: each a law of (input, target) pairs and a loss.

Theory reads only the pairs; simulation trains on the pairs and the loss.  There is no second description.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rafmodel.variability import Variability

ViewLaw = tuple[tuple[Variability, float], ...]
TEMPERATURE = 0.2
TILES = 2  # jigsaw: tiles along a side
CELLS = 3  # relative patch location: cells along a side
MARGIN = 1.0  # exemplar: how much farther than its other view the other image must be
PATCHES = 4  # masked reconstruction: patches along a side
HIDDEN = 0.5  # masked reconstruction: share of patches hidden


@dataclass(frozen=True)
class Proxy:
    """What the encoder is shown and what it is asked for.

    name     label in tables
    pairs    ``(key, image (H, W, C), label ()) -> (input, target)``
    loss     ``(output (B, k), target) -> ()``
    outputs  size of the head that maps features to the output, given the image's shape
    siamese  the target is an image too, and is encoded by the same network
    labelled the task sees only images with labels
    patches  how many patches the input holds: 0 for an image (H, W, C), else (patches, h, w, C); the head sees the
             features of all of them side by side
    """

    name: str
    pairs: Callable[[Array, Array, Array], tuple[Array, Array]]
    loss: Callable[[Array, Array], Array]
    outputs: Callable[[tuple[int, ...]], int]
    siamese: bool = False
    labelled: bool = False
    patches: int = 0


def view(key: Array, image: Array, law: ViewLaw) -> Array:
    """One random view: each variability of the law in turn, its severity uniform between 0 and its maximum."""
    for variability, strongest in law:
        key, key_law, severity = _severity(key, jnp.asarray(strongest, image.dtype))
        image = variability.apply(key_law, image, severity)
    return image


# the steps of a law of pairs are compiled one by one: theory, which draws few pairs of many laws, shares them


@jax.jit
def _severity(key: Array, strongest: Array) -> tuple[Array, Array, Array]:
    key, key_severity, key_law = jax.random.split(key, 3)
    return key, key_law, strongest * jax.random.uniform(key_severity, dtype=strongest.dtype)


@cache
def _two_views(law: ViewLaw):
    """One function a view law, so that tasks which share the law share its compilation."""

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


def contrastive(law: ViewLaw) -> Proxy:
    """Tell the views of one image from those of others."""
    return Proxy("contrastive", _two_views(law), info_nce, lambda _: 64, siamese=True)


def decorrelating(law: ViewLaw) -> Proxy:
    """Two views agree in features that have unit variance and do not repeat each other."""
    return Proxy("decorrelating", _two_views(law), vicreg, lambda _: 64, siamese=True)


def exemplar(law: ViewLaw) -> Proxy:
    """Each image is a class of its own: its views stay closer to each other than to another image's.

    Dosovitskiy et al. 2014; as triplets, Taleb et al. 2020.
    """
    return Proxy("exemplar", _two_views(law), triplet, lambda _: 64, siamese=True)


def triplet(one: Array, two: Array) -> Array:
    """Anchor, its other view, and the next image of the batch, on the unit sphere.  Schroff et al. 2015."""
    one, two = _unit(one), _unit(two)
    near, far = ((one - two) ** 2).sum(1), ((one - jnp.roll(two, 1, 0)) ** 2).sum(1)
    return jax.nn.relu(near - far + MARGIN).mean()


def predictive_coding(law: ViewLaw) -> Proxy:
    """From the patches of the upper half, tell the lower patch of this image from those of others.

    Patches have half the image's side and overlap by half; three are seen, and one of the three below is to come.
    Contrastive predictive coding: van den Oord et al. 2018, as Taleb et al. 2020.
    """

    def pairs(key: Array, image: Array, label: Array) -> tuple[Array, Array]:
        del label
        key_view, key_column = jax.random.split(key)
        return _to_come(key_column, view(key_view, image, law))

    return Proxy("cpc", pairs, info_nce, lambda _: 64, siamese=True, patches=3)


@jax.jit
def _to_come(key: Array, image: Array) -> tuple[Array, Array]:
    h, w = image.shape[0] // 2, image.shape[1] // 2
    starts = [0, w // 2, image.shape[1] - w]
    upper = jnp.stack([image[:h, start : start + w] for start in starts])
    lower = jnp.stack([image[-h:, start : start + w] for start in starts])
    return upper, lower[jax.random.randint(key, (), 0, 3, jnp.int32)]


def relative_location(law: ViewLaw) -> Proxy:
    """Where is the second patch from the first, the central one?  Doersch, Gupta, Efros 2015; Taleb et al. 2020.

    Eight cells around the centre of a 3x3 grid; pixels that make no whole cell are cut.
    """

    def pairs(key: Array, image: Array, label: Array) -> tuple[Array, Array]:
        del label
        key_view, key_place = jax.random.split(key)
        return _neighbours(key_place, view(key_view, image, law))

    return Proxy("location", pairs, cross_entropy, lambda _: CELLS**2 - 1, patches=2)


@jax.jit
def _neighbours(key: Array, image: Array) -> tuple[Array, Array]:
    cells, middle = _to_tiles(image, CELLS), CELLS**2 // 2
    place = jax.random.randint(key, (), 0, CELLS**2 - 1, jnp.int32)
    around = jnp.where(place < middle, place, place + 1)
    target = jax.nn.one_hot(place, CELLS**2 - 1, dtype=image.dtype)
    return jnp.stack([cells[middle], cells[around]]), target


def cross_entropy(output: Array, target: Array) -> Array:
    """Softmax cross-entropy against one-hot targets, (B, k)."""
    return optax.softmax_cross_entropy(output, target).mean()


def supervised(law: ViewLaw) -> Proxy:
    """Predict the label from a view."""

    def pairs(key: Array, image: Array, label: Array) -> tuple[Array, Array]:
        return view(key, image, law), jax.nn.one_hot(label, 2, dtype=image.dtype)

    return Proxy("supervised", pairs, cross_entropy, lambda _: 2, labelled=True)


def rotation_prediction(law: ViewLaw) -> Proxy:
    """By how many quarter turns was the view turned?  Gidaris, Singh, Komodakis 2018."""

    def pairs(key: Array, image: Array, label: Array) -> tuple[Array, Array]:
        del label
        key_view, key_turn = jax.random.split(key)
        return _turned(key_turn, view(key_view, image, law))

    return Proxy("rotation", pairs, cross_entropy, lambda _: 4)


@jax.jit
def _turned(key: Array, image: Array) -> tuple[Array, Array]:
    turns = jax.random.randint(key, (), 0, 4, jnp.int32)
    return jnp.stack([jnp.rot90(image, k) for k in range(4)])[turns], jax.nn.one_hot(turns, 4, dtype=image.dtype)


def jigsaw(law: ViewLaw) -> Proxy:
    """Which of the 24 orders were the view's 2x2 tiles put in?

    Noroozi, Favaro 2016, with the tiles put back into one image as in Carlucci et al. 2019.
    An odd last row or column of pixels belongs to no tile and is cut.
    """

    def pairs(key: Array, image: Array, label: Array) -> tuple[Array, Array]:
        del label
        key_view, key_order = jax.random.split(key)
        return _reordered(key_order, view(key_view, image, law))

    return Proxy("jigsaw", pairs, cross_entropy, lambda _: math.factorial(TILES**2))


@jax.jit
def _reordered(key: Array, image: Array) -> tuple[Array, Array]:
    orders = jnp.asarray(np.array(list(permutations(range(TILES**2)))))
    which = jax.random.randint(key, (), 0, len(orders), jnp.int32)
    tiles = _to_tiles(image, TILES)[orders[which]]
    return _from_tiles(tiles, TILES), jax.nn.one_hot(which, len(orders), dtype=image.dtype)


def masked(law: ViewLaw) -> Proxy:
    """Fill in the patches that were hidden (half of a 4x4 grid, painted mid-grey).  He et al. 2022.

    The target holds the image and, as a last channel, which pixels were hidden; only those are scored.
    """

    def pairs(key: Array, image: Array, label: Array) -> tuple[Array, Array]:
        del label
        key_view, key_mask = jax.random.split(key)
        return _hidden(key_mask, view(key_view, image, law))

    def loss(output: Array, target: Array) -> Array:
        content, mask = target[..., :-1], target[..., -1:]
        painted = output.reshape(content.shape) * mask
        return ((painted - content) ** 2).sum() / (mask.sum() * content.shape[-1])

    return Proxy("masked", pairs, loss, lambda shape: int(np.prod(shape)))


@jax.jit
def _hidden(key: Array, image: Array) -> tuple[Array, Array]:
    height, width, _ = image.shape
    hidden = jax.random.permutation(key, jnp.arange(PATCHES**2)) < HIDDEN * PATCHES**2
    rows, columns = (jnp.arange(height) * PATCHES) // height, (jnp.arange(width) * PATCHES) // width
    mask = hidden.reshape(PATCHES, PATCHES)[rows[:, None], columns[None, :]][..., None].astype(image.dtype)
    return image * (1 - mask) + 0.5 * mask, jnp.concatenate([(image - 0.5) * mask, mask], -1)


def untrained() -> Proxy:
    """No task: the encoder stays as it was drawn.  Its pairs are an image and itself."""
    return Proxy(
        "untrained",
        lambda key, image, label: (image, image),
        lambda output, target: jnp.zeros(()),
        lambda _: 1,
    )


def _to_tiles(image: Array, n: int) -> Array:
    """(H, W, C) -> (n*n, H//n, W//n, C)"""
    height, width, channels = image.shape
    h, w = height // n, width // n
    tiles = image[: h * n, : w * n].reshape(n, h, n, w, channels)
    return tiles.transpose(0, 2, 1, 3, 4).reshape(n * n, h, w, channels)


def _from_tiles(tiles: Array, n: int) -> Array:
    """(n*n, h, w, C) -> (n*h, n*w, C)"""
    _, h, w, channels = tiles.shape
    return tiles.reshape(n, n, h, w, channels).transpose(0, 2, 1, 3, 4).reshape(n * h, n * w, channels)
