"""Where the beams of an ultrasound picture run, read from the picture: side by side down its columns, or in a fan from an apex.

Beams fan out where both sides of what is not black are straight and part with depth; the apex may lie above the picture (curved
probes).  All else has parallel beams, as have volumes: columns of the whole frame.  A sector that points up or sideways, or shows
one of its sides only, is not recognised and taken as parallel.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel.variability.law import axes, sample

BLACK = 0.02  # grey value that compression leaves where there is no picture
PICKS = 10  # points through two of which a straight side may run
NEAR = 1.0  # pixels within which a point lies on a side
LEAST_SLOPE = 0.06  # by which the half width of a fan grows with depth


class Fan(NamedTuple):
    """The fan of one picture; scalars unless stated.

    apex    row and column of the pixel where the beams meet, (2,)
    aspect  rows of a length over columns of the same length
    sines   of the angle of the first and the last beam to straight down, positive to the right, (2,)
    depths  of what is seen from the apex, shallowest and deepest, in rows, (2,)
    found   whether there is one; if not the others mean nothing
    """

    apex: Array
    aspect: Array
    sines: Array
    depths: Array
    found: Array


class Beams(NamedTuple):
    """The same for every pixel.

    depth, across  (*space), or 1 for an axis along which they stay, from −1 to 1 over the field of view; beams of a fan lie at
                   even steps of the sine, as steered ones do
    places         (dims, *space) where depth i of beam j lies in the picture, from −1 to 1; None where it lies at pixel (i, j)
    fanned         whether beams part with depth
    """

    depth: Array
    across: Array
    places: Array | None
    fanned: Array | bool


def _reach(lit: Array, axis: int) -> tuple[Array, Array, Array]:
    """Index along an axis, and the first and last of what is lit, all with as many axes; where nothing is, n and -1."""
    n = lit.shape[axis]
    index = jnp.expand_dims(jnp.arange(n, dtype=jnp.float32), [k for k in range(lit.ndim) if k != axis])
    return index, jnp.where(lit, index, n).min(axis, keepdims=True), jnp.where(lit, index, -1).max(axis, keepdims=True)


def in_view(image: Array) -> Array:
    """What is not black all the way to a border, along any axis of space: the sector of a curved probe; (*space,), bool."""
    lit = (image > 0).any(-1)
    inside = jnp.ones(lit.shape, bool)
    for axis in range(lit.ndim):
        index, first, last = _reach(lit, axis)
        inside = inside & (first <= index) & (index <= last)
    return inside


def fan(image: Array) -> Fan:
    """The fan of a picture (H, W, C)."""
    height, width = image.shape[:2]
    lit = (image > BLACK).any(-1)
    column, left, right = (x.ravel().astype(image.dtype) for x in _reach(lit, 1))
    row, top, bottom = (x.ravel().astype(image.dtype) for x in _reach(lit, 0))
    wide = right - left
    widest = jnp.where(wide == wide.max(), row, height).min()
    upper = (wide >= 0) & (row <= widest)  # below, the deepest arc narrows it again
    sides = [
        _line(row, x + outwards, upper & (x > 0) & (x < width - 1), jnp.full_like(row, NEAR))
        for x, outwards in ((left, -0.5), (right, 0.5))
    ]
    (a, slope, one, of_one), (b, other, two, of_two) = sides
    opening = other - slope
    widens = opening / 2 > LEAST_SLOPE
    found = widens & (one > 0.7 * of_one) & (two > 0.7 * of_two) & (jnp.minimum(one, two) > height / 8)
    apex_row = (a - b) / jnp.where(widens, opening, 1)
    apex = jnp.stack([apex_row, a + slope * apex_row])

    far, off = bottom + 0.5 - apex[0], column - apex[1]
    _, fall, arc, _ = _line(off**2, far**2, (bottom >= 0) & (bottom < height - 1), 2 * NEAR * far)
    is_arc = (arc > width / 3) & (fall < -0.25) & (fall > -4)  # far² + aspect² off² is the square of the greatest depth
    aspect = jnp.sqrt(jnp.where(is_arc, -fall, 1))

    steep = aspect * jnp.stack([slope, other])
    sines = steep / jnp.sqrt(1 + steep**2)
    depth, sine = _polar(jnp.stack([top - 0.5, bottom + 0.5]) - apex[0], aspect * off[None])
    here = (bottom >= 0)[None] & (sine > sines[0]) & (sine < sines[1])
    depths = jnp.stack([jnp.where(here, depth, jnp.inf).min(), jnp.where(here, depth, -jnp.inf).max()])
    return Fan(apex, aspect, sines, depths, found & here.any())


def _polar(down: Array, right: Array) -> tuple[Array, Array]:
    """Distance from the apex, and the sine of the angle from straight down."""
    far = jnp.sqrt(down**2 + right**2)
    return far, right / jnp.maximum(far, 1e-6)


def _line(x: Array, y: Array, known: Array, near: Array) -> tuple[Array, Array, Array, Array]:
    """Intercept and slope of the line near which most known points (n,) lie, how many those are, and how many are known.

    Of all lines through two of PICKS points the one nearest to most, then least squares over these.
    """
    count = jnp.cumsum(known)
    pick = jnp.searchsorted(count, (jnp.arange(PICKS) + 0.5) / PICKS * count[-1], method="compare_all")
    one, two = (pick[k] for k in np.triu_indices(PICKS, 1))
    run = x[two] - x[one]
    slope = (y[two] - y[one]) / jnp.where(run == 0, jnp.inf, run)
    aside = jnp.abs(y[None] - y[one][:, None] - slope[:, None] * (x[None] - x[one][:, None]))
    on = known[None] & (aside < near[None])
    best = on[jnp.argmax(on.sum(1))]
    n = jnp.maximum(best.sum(), 1)
    middle, height = ((best * z).sum() / n for z in (x, y))
    spread = (best * (x - middle) ** 2).sum()
    slope = (best * (x - middle) * (y - height)).sum() / jnp.where(spread > 0, spread, 1)
    return height - slope * middle, slope, best.sum(), count[-1]


def beams(image: Array) -> Beams:
    """Depth and beam of each pixel of a picture (H, W, C); columns of a volume (D, H, W, C)."""
    plain = axes(image)
    if image.ndim == 4:
        return Beams(plain[0], plain[-1], None, False)
    view = fan(image)
    down, right = (jnp.arange(n, dtype=image.dtype) - at for n, at in zip(image.shape[:2], view.apex, strict=True))
    depth, sine = _polar(down[:, None], view.aspect * right[None])
    depth = (2 * depth - view.depths.sum()) / (view.depths[1] - view.depths[0])
    across = (2 * sine - view.sines.sum()) / (view.sines[1] - view.sines[0])
    far = (view.depths.sum() + plain[0] * (view.depths[1] - view.depths[0])) / 2
    turn = (view.sines.sum() + plain[1] * (view.sines[1] - view.sines[0])) / 2
    index = view.apex[0] + far * jnp.sqrt(1 - turn**2), view.apex[1] + far * turn / view.aspect
    places = [
        jnp.where(view.found, (2 * i + 1) / n - 1, x) for i, n, x in zip(index, image.shape[:2], plain, strict=True)
    ]
    depth, across = (jnp.where(view.found, a, b) for a, b in zip((depth, across), plain, strict=True))
    return Beams(depth, across, jnp.stack(places), view.found)


def on_beams(image: Array, seen: Beams) -> Array:
    """The picture with a row a depth and a column a beam; black where these leave the frame."""
    if seen.places is None:
        return image
    framed = (jnp.abs(seen.places) <= 1).all(0)
    return jnp.where(framed[..., None], sample(image, seen.places), 0)


def in_picture(image: Array, seen: Beams) -> Array:
    """Back from a row a depth and a column a beam to the picture."""
    return image if seen.places is None else sample(image, jnp.stack([seen.depth, seen.across]))
