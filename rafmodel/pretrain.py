"""Pre-training: an encoder and the heads that its proxy task discards, by optimiser steps on pairs drawn as they are needed.

On several devices each draws and encodes its part of a batch; weights are the same on all, and a loss that compares images
still sees the whole batch.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rafmodel import cohort as cohorts
from rafmodel.cohort import Cohort
from rafmodel.design import Design, check, fits
from rafmodel.encoder import Network
from rafmodel.on_disk import OnDisk
from rafmodel.proxies import Proxy

SCAN = 25  # optimiser steps per compiled call
GATHERED = 2**28  # most bytes of images and pairs that lie ready for several steps, or for one whose batch is larger


class Learner(nnx.Module):
    """Encoder and the heads that the proxy task discards afterwards."""

    def __init__(self, key: Array, design: Design, image_shape: tuple[int, ...]):
        key_encoder, key_head = jax.random.split(key)
        proxy, rngs, width = design.proxy, nnx.Rngs(params=key_head), design.widths[-1]
        seen, outputs = width * (proxy.inputs(image_shape)[0] if proxy.patched else 1), proxy.outputs(image_shape)
        self.axes = len(image_shape)
        self.encoder = design.encoder.build(key_encoder, image_shape, design.widths)
        self.hidden = nnx.Linear(seen, 2 * width, rngs=rngs) if proxy.siamese else None
        self.out = nnx.Linear(2 * width if self.hidden else seen, outputs, rngs=rngs)
        self.match = nnx.Linear(width, outputs, rngs=rngs) if proxy.siamese and proxy.patched else None
        sizes = ((outputs, 2 * width), (2 * width, outputs)) if proxy.momentum else ()
        self.foretell = nnx.List([nnx.Linear(*size, rngs=rngs) for size in sizes])

    def __call__(self, images: Array) -> Array:
        """Head's output (B, k) for inputs (B, *space, C) or (B, patches, *cell, C)."""
        x = self.encoder(images.reshape(-1, *images.shape[-self.axes :])).reshape(len(images), -1)
        return self.out(self._bent(self.hidden(x)) if self.hidden else x)

    def _bent(self, x: Array) -> Array:
        """Behind a hidden layer; with a slow teacher standardised over the batch first, as Grill et al. 2020."""
        return jax.nn.relu(standardised(x) if self.foretell else x)

    def pair(self, inputs: Array, targets: Array) -> tuple[Array, Array]:
        """Outputs for two batches of images: by one head, or by the targets' own where the input is many patches."""
        if self.match:
            return self(inputs), self.match(self.encoder(targets))
        both = self(jnp.concatenate([inputs, targets]))
        return both[: len(inputs)], both[len(inputs) :]

    def foretold(self, output: Array) -> Array:
        """What the teacher's output for the other view should be, from one's own for this view."""
        first, second = self.foretell
        return second(self._bent(first(output)))


def pretrain(key: Array, source: Cohort, design: Design, *, patch: int = 0) -> Network:
    """The encoder after ``design.steps`` steps of the proxy task on ``source``'s images.

    patch  side in pixels: the task sees one patch of each image of a batch, drawn anew in every step; 0: the whole
    Raises InputError where the design does not fit the images, or the patches.
    """
    key_start, key_images, key_steps = jax.random.split(key, 3)
    image_shape = source.image.shape[1:]
    check(design, image_shape)
    if patch:
        image_shape = (*(patch,) * (len(image_shape) - 1), image_shape[-1])
        fits(design, image_shape)
    if not design.steps:
        return design.encoder.build(jax.random.split(key_start)[0], image_shape, design.widths)
    learner = Learner(key_start, design, image_shape)
    chosen = np.asarray(jax.random.permutation(key_images, len(source.label)))[: design.n_unlabelled]
    images = cohorts.pixels(cohorts.take(source, chosen))
    return train_on(key_steps, learner, images, source.label[chosen], design, patch=patch).encoder


def train_on(
    key: Array,
    learner: Learner,
    images: np.ndarray | OnDisk,
    label: np.ndarray,
    design: Design,
    *,
    patch: int = 0,
) -> Learner:
    """The learner after the design's optimiser steps on images (n, *space, C), or patches of them, with labels (n,).

    Images of a few steps at a time lie ready in the order they are seen in, from disk or from the device, so that a program
    serves any number of images.
    """
    graph, weights = nnx.split(learner)
    slow = jax.tree.map(jnp.copy, weights) if design.proxy.momentum else None
    state = (weights, _OPTIMISER.init(weights), slow)
    rate, parts = rates(design.steps, design.learning_rate), over_devices(design.batch)
    run = partial(_steps, Objective.of(design.proxy), graph, parts, design.precision)
    each = max(1, min(SCAN, GATHERED // (3 * 4 * design.batch * int(np.prod(images.shape[1:])))))
    source = images if isinstance(images, OnDisk) else jnp.asarray(images)
    for start in range(0, design.steps, each):
        few = jnp.asarray(np.resize(rate[start : start + each], SCAN))
        rows = np.asarray(_rows(key, start, design.batch, len(label)))[:each]
        seen = jnp.asarray(source[rows.ravel()]).reshape(*rows.shape, *images.shape[1:])
        told = jnp.asarray(label[rows], jnp.int32)
        jax.block_until_ready(state)  # no more than the images of two calls, and the pairs of one, are in memory
        pairs = _drawn(design.proxy.pairs, parts, patch, seen, told, key, start)
        state = run(state, *pairs, few, start, min(start + each, design.steps), design.steps)
        del pairs
    return nnx.merge(graph, state[0])


@partial(jax.jit, static_argnums=2)
def _rows(key: Array, start: int, batch: int, n: int) -> Array:
    """Which of ``n`` images each of the SCAN steps from ``start`` on sees, (SCAN, batch)."""
    return jax.vmap(lambda i: jax.random.randint(_keys(key, i)[0], (batch,), 0, n, jnp.int32))(start + jnp.arange(SCAN))


def _keys(key: Array, step: Array) -> Array:
    """A step's keys: for which images it sees, and for their pairs."""
    return jax.random.split(jax.random.fold_in(key, step))


def over_devices(batch: int) -> NamedSharding | None:
    """How a batch is divided among this machine's devices; None where there is one, or they cannot have equal parts."""
    devices = jax.local_devices()
    if len(devices) == 1 or batch % len(devices):
        return None
    return NamedSharding(Mesh(np.array(devices), ("batch",)), PartitionSpec("batch"))


# the learning rate is not inside: one program serves every rate and number of steps
# weights are one long vector inside, which compiles sooner
_OPTIMISER = optax.flatten(optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam()))


def rates(steps: int, peak: float) -> np.ndarray:
    """Learning rate of each step (steps,): a tenth of them to the peak, then down, by cosines.  Smith, Topin 2019."""
    schedule = optax.cosine_onecycle_schedule(steps, peak, pct_start=0.1)
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.arange(steps)), np.float32)


# what is shown and what is learned are two programs: tasks on one law share the first, one task on several laws the second


@partial(jax.jit, static_argnums=(0, 1, 2))
def _drawn(pairs, parts, patch, images, label, key, start):
    """Inputs and targets of a few steps, (a few steps, batch, ...); step i always draws from ``fold_in(key, i)``.

    start          the first of the steps
    images, label  (a few steps, batch, *space, C) and (a few steps, batch)
    """

    def seen(i):
        """The images of the i-th step and their labels."""
        now = jnp.minimum(i, len(images) - 1)
        shown = _divided(images[now], parts)
        return _cut(_keys(key, start + i)[0], shown, patch) if patch else shown, label[now]

    def draw(i, shown):
        keys = _divided(jax.random.split(_keys(key, start + i)[1], label.shape[1]), parts)
        return _divided(jax.vmap(pairs)(keys, *shown), parts)

    def filed(kept, pair, i):
        return jax.tree.map(lambda many, one: many.at[i].set(one), kept, pair)

    def step(i, carried):
        shown, pair, kept = carried
        return seen(i + 1), draw(i, shown), filed(kept, pair, i - 1)

    # the next step's images are carried along, so that they lie in memory: looked up where a view reads them, each is found
    # again for every pixel of every view; and so is the last step's pair, as a view is drawn by one core where it is filed
    kinds = jax.eval_shape(draw, 0, seen(0))
    pair = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), kinds)
    kept = jax.tree.map(lambda one: jnp.zeros((len(images), *one.shape), one.dtype), kinds)
    _, pair, kept = jax.lax.fori_loop(0, len(images), step, (seen(0), pair, kept))
    return filed(kept, pair, -1)


def _divided(rows, parts: NamedSharding | None):
    """A batch, each part of it on its device."""
    return rows if parts is None else jax.lax.with_sharding_constraint(rows, parts)


class Objective(NamedTuple):
    """What a proxy task asks, whatever it shows: fields of ``Proxy``."""

    loss: Callable[[Array, Array], Array]
    siamese: bool
    momentum: float

    @classmethod
    def of(cls, proxy: Proxy) -> "Objective":
        return cls(proxy.loss, proxy.siamese, proxy.momentum)


@partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=4)
def _steps(asked: Objective, graph, parts, precision, state, inputs, targets, rate, start, stop, steps):
    """Optimiser steps ``start`` to ``stop`` of ``steps`` at rates (SCAN,).

    inputs, targets  (a few steps, batch, ...), from step ``start`` on
    """

    def step(i, state):
        weights, moments, slow = state
        pair = (_divided(each[i - start], parts) for each in (inputs, targets))
        gradient = jax.grad(partial(_loss, asked, graph, precision=precision))(weights, *pair, slow)
        update, moments = _OPTIMISER.update(gradient, moments, weights)
        weights = optax.apply_updates(weights, jax.tree.map(lambda u: -rate[i - start] * u, update))
        return weights, moments, followed(slow, weights, asked.momentum, i / steps)

    return jax.lax.fori_loop(start, stop, step, state)


PROGRAMS = _drawn, _steps  # of one design or a few, where others serve all


def _cut(key: Array, images: Array, side: int) -> Array:
    """One patch of ``side`` pixels, anywhere in each image (B, *space, C)."""
    space = images.shape[1:-1]
    free = jnp.array([[n - side + 1 for n in space]])
    corner = jax.random.randint(jax.random.fold_in(key, 1), (len(images), len(space)), 0, free)
    size = (*(side,) * len(space), images.shape[-1])
    return jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (*at, 0), size))(images, corner)


def _loss(
    asked: Objective | Proxy, graph, weights, inputs: Array, targets: Array, slow=None, *, precision: str = "float32"
) -> Array:
    """The task's loss; with a slow teacher each view foretells what the teacher makes of the other.

    Networks compute in ``precision``; weights are kept, and losses taken, in single precision.
    """

    def rounded(tree):
        return jax.tree.map(lambda x: x.astype(precision) if x.dtype == jnp.float32 else x, tree)

    learner, inputs = nnx.merge(graph, rounded(weights)), rounded(inputs)
    if not asked.siamese:
        return asked.loss(_single(learner(inputs)), targets)
    targets = rounded(targets)
    one, two = learner.pair(inputs, targets)
    if not asked.momentum:
        return asked.loss(_single(one), _single(two))
    teacher = nnx.merge(graph, jax.lax.stop_gradient(rounded(weights if slow is None else slow)))
    its_one, its_two = map(_single, teacher.pair(inputs, targets))
    told = _single(learner.foretold(one)), _single(learner.foretold(two))
    return (asked.loss(told[0], its_two) + asked.loss(told[1], its_one)) / 2


def _single(x: Array) -> Array:
    return x.astype(jnp.float32)


def followed(slow, weights, momentum: float, done: Array | float):
    """The teacher's weights after a step: they keep a share ``momentum``, which rises to 1 by a cosine.  Grill et al. 2020.

    slow  weights of the teacher, None where the task has none; done  share of the training, in [0, 1)
    """
    keep = 1 - (1 - momentum) * (jnp.cos(jnp.pi * done) + 1) / 2
    return (
        None if slow is None else jax.tree.map(lambda s, w: (keep * s + (1 - keep) * w).astype(s.dtype), slow, weights)
    )


def standardised(x: Array) -> Array:
    """Each column (B, k) with mean 0 and variance 1 over the batch.  Ioffe, Szegedy 2015, without gain and offset."""
    return (x - x.mean(0, keepdims=True)) / jnp.sqrt(x.var(0, keepdims=True) + 1e-5)
