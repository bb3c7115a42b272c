"""All states of an image at once: the template is turned, lit, and blurred until it looks like the image.

Estimates made one after the other leak into each other: a turn of a lit structure is taken for a field, a blur for a loss of
contrast.  Here gain, gamma, pose, field and blur are fitted together, by least squares under the laws that make them.  That is
best where every image shows one anatomy; where anatomies differ, estimates by parts are steadier, and ``injection`` finds which
to trust.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel.registration import _UNIT, _window, warp
from rafmodel.variability.intensity import _legendre
from rafmodel.variability.law import grid, sample

STEPS = 10  # of Levenberg and Marquardt
BATCH = 32  # images at a time: they stay in the cache
WIDTH = 0.04  # blur of image and template before they are compared, fraction of the side
HOLD = 1e-4  # pull towards no change, relative to the template's variance
_SCALE = np.array([0.2, 0.2, *_UNIT, *(0.2,) * 5, 1e-3], np.float32)  # changes that count alike in a step


@jax.jit
def matched(template: Array, middle: Array, images: Array, start: Array) -> Array:
    """Gain, gamma, pose (4), field (5) and blur of each image (N, 12), in the units of STATES.

    template  (H, W, 1) at the reference's grey values
    middle    () mid-grey, log
    images    (N, H, W, 1)
    start     (N, 12) rough values to set out from
    """
    dtype, scale = images.dtype, jnp.asarray(_SCALE, images.dtype)
    position = grid(images[0])
    weight = jnp.sqrt(_window(images[0]))
    level = template[..., 0] - jnp.sum(weight**2 * template[..., 0])
    weight = weight / jnp.sqrt(jnp.sum((weight * level) ** 2))
    one_width = jnp.asarray(WIDTH**2, dtype)
    hold = HOLD * jnp.eye(len(_SCALE), dtype=dtype)
    model = partial(_model, template, middle, position, _legendre(position))

    def parts(seen: Array, at: Array) -> tuple[Array, Array, Array]:
        """Gauss-Newton's curvature, slope of the cost, and cost."""
        rest = (weight * (model(at * scale) - seen)).ravel()
        slopes = (jax.jacfwd(lambda x: model(x * scale))(at) * weight[..., None]).reshape(rest.size, -1)
        return slopes.T @ slopes + hold, slopes.T @ rest + hold @ at, jnp.sum(rest**2) + at @ hold @ at

    def one(given: tuple[Array, Array]) -> Array:
        seen = _blurred(given[0][..., 0], one_width)

        def step(_, state):
            best, trial, damping = state
            new = (trial, *parts(seen, trial))
            better = new[-1] < best[-1]
            best = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, best)
            damping = damping * jnp.where(better, 0.3, 8.0)
            x, curve, slope, _ = best
            return best, x - jnp.linalg.solve(curve + damping * jnp.eye(len(x), dtype=dtype), slope), damping

        nothing = (given[1], hold, jnp.zeros_like(given[1]), jnp.array(jnp.inf, dtype))
        best, _, _ = jax.lax.fori_loop(0, STEPS + 1, step, (nothing, given[1], jnp.array(0.03, dtype)))
        return best[0]

    return jax.lax.map(one, (images, start / scale), batch_size=BATCH) * scale


def _model(template: Array, middle: Array, position: Array, terms: Array, x: Array) -> Array:
    """What the template looks like in state x (12,), (H, W): pose, field, tones and blur in the order of ``fitted``."""
    seen = sample(template, warp(x[2:6], position))[..., 0]
    log = jnp.log(jnp.maximum(seen, 1e-3)) + jnp.tensordot(x[6:11], terms, 1)
    bent = jnp.exp(x[1])
    lit = jnp.clip(jnp.exp(x[0] + middle * (1 - bent) + bent * log), 0, 1)
    return _blurred(lit, jnp.maximum(WIDTH**2 + x[11], 0.1 * WIDTH**2))


def _blurred(image: Array, variance: Array) -> Array:
    """Gaussian blur of a variance in squared sides, image (H, W)."""

    def kernel(n: int) -> Array:
        place = jnp.arange(n, dtype=image.dtype) / n
        return jax.nn.softmax(-((place[:, None] - place[None]) ** 2) / (2 * variance), axis=1)

    return kernel(image.shape[0]) @ image @ kernel(image.shape[1]).T
