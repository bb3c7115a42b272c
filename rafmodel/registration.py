"""Where a structure lies in each image: the similarity that turns, scales and moves a template onto it.

An image is taken for ``template(exp(−s) R(angle) p − 2 (down, across))`` at position p, times a gain, plus an offset: the warps
of ``variability.geometry`` in the order turn, scale, shift.  All images are registered at once.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rafmodel.variability.geometry import rescale, shift, turn
from rafmodel.variability.law import grid, sample
from rafmodel.variability.resolution import gaussian_blur

STARTS = (-30.0, 0.0, 30.0)  # degrees from which the search sets out
WIDTHS = (0.08, 0.035)  # blurs, s.d. as fractions of the side: far pull first, then precision
BATCH = 32  # images at a time: they stay in the cache
STEPS = 10  # of Levenberg and Marquardt at each blur
_UNIT = (20.0, 0.1, 0.1, 0.2)  # degrees, sides and log size that count alike in a step
_HOLD = 2e-3  # pull towards no movement, relative to 1 − correlation: keeps what cannot be seen from running away


class Pose(NamedTuple):
    """Degrees turned, fractions of the side moved down and across, and log size, relative to the template; (N,) each."""

    angle: Array
    down: Array
    across: Array
    scale: Array


def warp(pose: Array, position: Array) -> Array:
    """Place in the template (2, H, W) that shows at each position; pose (4,) in the order of ``Pose``."""
    one = jnp.ones((), position.dtype)
    turned = turn({"z": pose[0]}, position, one)
    return shift({"direction": -pose[1:3]}, rescale({"z": pose[3]}, turned, one), one)


def unwarp(pose: Array, position: Array) -> Array:
    """Place in the image that shows at each position of the template: the inverse of ``warp``."""
    one = jnp.ones((), position.dtype)
    back = shift({"direction": pose[1:3]}, position, one)
    return turn({"z": -pose[0]}, rescale({"z": -pose[3]}, back, one), one)


def _window(image: Array) -> Array:
    """Weight of each pixel (H, W): 1, and less in the outer tenth, where borders are guessed; sums to 1."""
    rows, columns = (jnp.clip((1 - jnp.abs(x)) / 0.2, 0, 1) for x in grid(image))
    return rows * columns / jnp.sum(rows * columns)


def _standard(values: Array, weight: Array) -> tuple[Array, Array]:
    """Values less their weighted mean over their weighted norm, and that norm."""
    centred = values - jnp.sum(weight * values)
    norm = jnp.sqrt(jnp.sum(weight * centred**2) + 1e-12)
    return centred / norm, norm


class _Sight(NamedTuple):
    """A template with its slopes per unit of position, (H, W, 3), and an image, standardised, (H, W), at one blur."""

    template: Array
    image: Array


def pose_slopes(pose: Array, place: Array, down: Array, across: Array) -> Array:
    """How a template seen at ``warp(pose, position)`` changes with the pose (4, H, W), per unit of ``Pose``.

    place         (2, H, W) what ``warp`` gives
    down, across  (H, W) slopes of the template there, per unit of position
    """
    rows, columns = place[0] + 2 * pose[1], place[1] + 2 * pose[2]  # without the shift
    turned = (across * rows - down * columns) * (jnp.pi / 180)
    return jnp.stack([turned, -2 * down, -2 * across, -(down * rows + across * columns)])


def _normal_equations(sight: _Sight, scaled: Array) -> tuple[Array, Array, Array]:
    """Gauss-Newton's curvature (4, 4), its right side (4,) and the cost 2 (1 − correlation) + pull, at a scaled pose (4,)."""
    unit = jnp.array(_UNIT, scaled.dtype)
    pose, position = scaled * unit, grid(sight.image[..., None])
    weight, place = _window(sight.image[..., None]), warp(pose, position)
    seen, down, across = jnp.moveaxis(sample(sight.template, place), -1, 0)
    template, norm = _standard(seen, weight)
    slopes = pose_slopes(pose, place, down, across)
    slopes = slopes * unit[:, None, None] / norm
    slopes = slopes - jnp.sum(weight[None] * slopes, (1, 2), keepdims=True)
    along = jnp.sum(weight[None] * slopes * template[None], (1, 2))
    slopes = (slopes - along[:, None, None] * template[None]).reshape(4, -1)
    rest = (sight.image - template).ravel()
    flat = weight.ravel()
    curve = (slopes * flat[None]) @ slopes.T + _HOLD * jnp.eye(4, dtype=scaled.dtype)
    pull = slopes @ (flat * rest) - _HOLD * scaled
    return curve, pull, jnp.sum(flat * rest**2) + _HOLD * jnp.sum(scaled**2)


def _refined(sight: _Sight, start: Array) -> tuple[Array, Array]:
    """Scaled pose of least squares and its cost, from a start.  Levenberg 1944, Marquardt 1963."""

    def step(_, state):
        best, trial, damping = state
        new = (trial, *_normal_equations(sight, trial))
        better = new[-1] < best[-1]
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, best)
        damping = damping * jnp.where(better, 0.3, 8.0)
        x, curve, pull, _ = best
        return best, x + jnp.linalg.solve(curve + damping * jnp.eye(4, dtype=x.dtype), pull), damping

    nothing = (start, jnp.eye(4, dtype=start.dtype), jnp.zeros_like(start), jnp.array(jnp.inf, start.dtype))
    best, _, _ = jax.lax.fori_loop(0, STEPS, step, (nothing, start, jnp.array(0.03, start.dtype)))
    return best[0], best[-1]


def with_slopes(template: Array) -> Array:
    """Template (H, W) with its slopes down and across per unit of position, (H, W, 3)."""
    down, across = jnp.gradient(template)
    height, side = template.shape
    return jnp.stack([template, down * (height / 2), across * (side / 2)], -1)


def _with_slopes(template: Array, width: float) -> Array:
    """Blurred template and its slopes along both axes of position, (H, W, 3)."""
    return with_slopes(gaussian_blur({}, template, jnp.array(width, template.dtype))[..., 0])


def _sight(template: Array, image: Array, width: float) -> _Sight:
    blurred = gaussian_blur({}, image, jnp.array(width, image.dtype))[..., 0]
    return _Sight(template, _standard(blurred, _window(image))[0])


def _halved(image: Array) -> Array:
    height, width, channels = image.shape
    return jax.image.resize(image, (height // 2, width // 2, channels), "linear")


@jax.jit
def searched(template: Array, images: Array) -> Pose:
    """Rough pose of each image (N, H, W, 1) on the template (H, W, 1), whatever it is turned by."""
    # after that much blur half the pixels a side hold it all
    template, images = _halved(template), jax.vmap(_halved)(images)
    slopes = _with_slopes(template, WIDTHS[0])
    unit = jnp.array(_UNIT, images.dtype)
    starts = jnp.zeros((len(STARTS), 4), images.dtype).at[:, 0].set(jnp.array(STARTS, images.dtype) / _UNIT[0])

    def one(image: Array) -> Array:
        found, cost = jax.vmap(partial(_refined, _sight(slopes, image, WIDTHS[0])))(starts)
        return found[jnp.argmin(cost)] * unit

    return Pose(*jax.lax.map(one, images, batch_size=BATCH).T)


@jax.jit
def refined(template: Array, images: Array, start: Pose) -> tuple[Pose, Array]:
    """Pose of each image (N, H, W, 1) from a rough one, and 1 − correlation that remains (N,)."""
    slopes, unit = _with_slopes(template, WIDTHS[1]), jnp.array(_UNIT, images.dtype)

    def one(given: tuple[Array, Array]) -> tuple[Array, Array]:
        found, cost = _refined(_sight(slopes, given[0], WIDTHS[1]), given[1] / unit)
        return found * unit, cost / 2

    pose, apart = jax.lax.map(one, (images, jnp.stack(start, 1)), batch_size=BATCH)
    return Pose(*pose.T), apart


def register(template: Array, images: Array) -> tuple[Pose, Array]:
    """Pose of each image (N, H, W, 1) relative to the template (H, W, 1), and 1 − correlation that remains (N,)."""
    return refined(template, images, searched(template, images))


@jax.jit
def aligned(images: Array, pose: Pose) -> Array:
    """Images (N, H, W, 1) moved back onto the template."""
    back = jax.vmap(lambda image, one: sample(image, unwarp(one, grid(image))))
    return back(images, jnp.stack(pose, 1))


@jax.jit
def change_by_turning(template: Array, degrees: Array | float) -> Array:
    """1 − correlation of the template (H, W, 1) with itself turned: 0 where a turn cannot be seen."""
    weight, one = _window(template), jnp.ones((), template.dtype)
    turned = sample(template, turn({"z": jnp.asarray(degrees, template.dtype)}, grid(template), one))
    straight, turned = (_standard(x[..., 0], weight)[0] for x in (template, turned))
    return 1 - jnp.sum(weight * straight * turned)
