"""All states of an image at once: the template is turned, lit and blurred until it looks like the image.

Estimates made one after the other leak into each other: a turn of a lit structure is taken for a field, a blur for a loss of
contrast.  Here gain, gamma, pose, field and blur are fitted together, by least squares under the laws that make them.  That is
best where every image shows one anatomy; where anatomies differ estimates by parts may be steadier, and ``injection`` finds
which to take.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel.registration import _UNIT, _window, pose_slopes, warp, with_slopes
from rafmodel.variability.intensity import _legendre
from rafmodel.variability.law import grid, sample

STEPS = 10  # of Levenberg and Marquardt
BATCH = 32  # images at a time: they stay in the cache
WIDTH = 0.04  # blur of image and template before they are compared, fraction of the side
HOLD = 1e-4  # pull towards no change, relative to the template's variance
_SCALE = np.array([0.2, 0.2, *_UNIT, *(0.2,) * 5, 1e-3], np.float32)  # changes that count alike in a step
_DARK = 1e-3  # least grey value of the template


@jax.jit
def matched(
    template: Array, middle: Array, images: Array, start: Array, lacking: Array | float = 0.0
) -> tuple[Array, Array]:
    """Gain, gamma, pose (4), field (5) and blur of each image (N, 12), in the units of STATES, and what is not matched (N,).

    template  (H, W, 1) at the reference's grey values
    middle    () mid-grey, log
    images    (N, H, W, 1)
    start     (N, 12) rough values to set out from
    lacking   () variance of a blur that the template lacks and every image is taken to have
    What is not matched is the mean square of differences once both are blurred, and the pull towards no change.
    """
    scale, position = jnp.asarray(_SCALE, images.dtype), grid(images[0])
    weight = _window(images[0])
    level = template[..., 0] - jnp.sum(weight * template[..., 0])
    power = jnp.sum(weight * level**2)
    weight = weight / power
    hold = HOLD * jnp.eye(len(_SCALE), dtype=images.dtype)
    given = with_slopes(template[..., 0]), middle.astype(images.dtype), position, _legendre(position)
    model = partial(_model, *given, WIDTH**2 + jnp.asarray(lacking, images.dtype))
    kernel = _kernel(template.shape[0], jnp.asarray(WIDTH**2, images.dtype))
    across = _kernel(template.shape[1], jnp.asarray(WIDTH**2, images.dtype))

    def parts(seen: Array, at: Array) -> tuple[Array, Array, Array]:
        """Gauss-Newton's curvature, slope of the cost, and cost."""
        found, slopes = model(at * scale)
        rest, slopes = (found - seen).ravel(), (slopes * scale[:, None, None]).reshape(len(_SCALE), -1)
        weighted = slopes * weight.ravel()[None]
        return (
            weighted @ slopes.T + hold,
            weighted @ rest + hold @ at,
            jnp.sum(weight.ravel() * rest**2) + at @ hold @ at,
        )

    def one(image: tuple[Array, Array]) -> tuple[Array, Array]:
        seen = kernel @ image[0][..., 0] @ across.T

        def step(_, state):
            best, trial, damping = state
            new = (trial, *parts(seen, trial))
            better = new[-1] < best[-1]
            best = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, best)
            damping = damping * jnp.where(better, 0.3, 8.0)
            x, curve, slope, _ = best
            return best, x - jnp.linalg.solve(curve + damping * jnp.eye(len(x), dtype=x.dtype), slope), damping

        nothing = (image[1], hold, jnp.zeros_like(image[1]), jnp.array(jnp.inf, images.dtype))
        best, _, _ = jax.lax.fori_loop(0, STEPS + 1, step, (nothing, image[1], jnp.array(0.03, images.dtype)))
        return best[0], best[-1]

    found, rest = jax.lax.map(one, (images, start / scale[None]), batch_size=BATCH)
    return found * scale[None], rest * power


def _model(slopes: Array, middle: Array, position: Array, terms: Array, least: Array, x: Array) -> tuple[Array, Array]:
    """What the template looks like in state x (12,), (H, W), and how that changes with x, (12, H, W).

    slopes  (H, W, 3) template with its slopes; pose, field, tones and blur in the order of ``fitted``
    least   () variance of the blur of what has no more
    """
    place = warp(x[2:6], position)
    value, down, across = jnp.moveaxis(sample(slopes, place), -1, 0)
    value, bent = jnp.maximum(value, _DARK), jnp.exp(x[1])
    log = jnp.log(value) + jnp.tensordot(x[6:11], terms, 1)
    lit = jnp.exp(x[0] + middle * (1 - bent) + bent * log)
    moved = pose_slopes(x[2:6], place, down, across) / value[None]
    each = [jnp.ones_like(lit)[None], bent * (log - middle)[None], bent * moved, bent * terms]
    changes = jnp.concatenate(each) * jnp.where(lit < 1, lit, 0)[None]
    lit, variance = jnp.minimum(lit, 1), jnp.maximum(least + x[11], 0.1 * WIDTH**2)
    (rows, more_rows), (columns, more_columns) = (
        jax.jvp(partial(_kernel, n), (variance,), (jnp.ones_like(variance),)) for n in lit.shape
    )
    blurred = more_rows @ lit @ columns.T + rows @ lit @ more_columns.T
    return rows @ lit @ columns.T, jnp.concatenate([rows @ changes @ columns.T, blurred[None]])


def _kernel(n: int, variance: Array) -> Array:
    """Gaussian blur along n pixels, (n, n), of a variance in squared sides."""
    place = jnp.arange(n, dtype=variance.dtype) / n
    return jax.nn.softmax(-((place[:, None] - place[None]) ** 2) / (2 * variance), axis=1)
