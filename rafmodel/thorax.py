"""The right side of a chest without its airways and vessels: shapes of the organs, and their Hounsfield units.

Places are (down, back, left) in millimetres from the middle of the field of view, as in ``airway_tree``.  Every shape is
assumed, drawn to look like an adult in deep inspiration; the Hounsfield units are the customary ones (air −1000, fat −100, muscle
and blood 40 to 55, bone 200 and more; lung near −860 at full inspiration, of whose volume 0.2 to 2 % lies below −950 in health,
Cheng et al. 2019, Zach et al. 2012).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

AIR, FAT, MUSCLE, BLOOD, LIVER, BONE, WALL = -1000.0, -100.0, 50.0, 45.0, 55.0, 320.0, 25.0
LUNG = -862.0  # mean in health at full inspiration
MIDLINE = 68.0  # of the patient, millimetres to the left of the middle of the picture
Values = Any  # an array: numpy's where patients are drawn, jax's where they are imaged


class Body(NamedTuple):
    """One patient's chest; arrays (n,).

    scale        all lengths, 1 for a man of average size
    wide, deep   of the rib cage, relative
    heart        size, relative
    dome         height of the diaphragm, millimetres down
    fat          thickness under the skin, millimetres
    lung         mean of healthy lung in Hounsfield units
    ribs         where the ribs lie, millimetres along the patient
    """

    scale: Values
    wide: Values
    deep: Values
    heart: Values
    dome: Values
    fat: Values
    lung: Values
    ribs: Values


def depth(body: Body, place: tuple[Array, Array, Array]) -> Array:
    """Millimetres from a place inside the right lung to its border, negative outside; near the border only, and roughly."""
    down, back, left = _in_units(body, place)
    cage = _cage(body, down, back, left)
    dome = 0.75 * (body.dome + 42 * (((left + 5) / 75) ** 2 + (back / 80) ** 2) - down)
    spine = jnp.hypot(1.05 * (left - MIDLINE), back - 58) - 23
    centre = jnp.sqrt(((left - 76) / 27) ** 2 + ((back + 6) / 62) ** 2) - 1
    return jnp.minimum(
        jnp.minimum(jnp.minimum(cage, dome), jnp.minimum(spine, _heart(body, down, back, left))), 27 * centre
    )


def tissue(body: Body, place: tuple[Array, Array, Array]) -> Array:
    """Hounsfield units of everything that is not lung."""
    down, back, left = _in_units(body, place)
    cage = _cage(body, down, back, left)
    angle = (back - 8) / 80
    rib = jnp.cos(2 * jnp.pi * (down + body.ribs + 48 * angle) / 27) - 0.15 + jnp.zeros_like(cage)
    shell = 1 - jnp.abs(cage + 7.5) / 4.0
    found = jnp.where(cage < -18 - 8 * jnp.exp(-(((back - 35) / 30) ** 2)), FAT, MUSCLE)
    found = jnp.where((cage < -1) & (cage > -4), FAT, found)  # between pleura and ribs
    found = jnp.where((rib > 0) & (shell > 0), jnp.where((rib > 0.25) & (shell > 0.45), 180.0, BONE + 150), found)
    found = jnp.where(cage < -18 - 8 * jnp.exp(-(((back - 35) / 30) ** 2)) - body.fat, AIR, found)
    inside = _mediastinum(body, down, back, left)
    return jnp.where(cage > -1, inside, found)


def _in_units(body: Body, place: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    down, back, left = (one / body.scale for one in place)
    return down, back, left


def _cage(body: Body, down: Array, back: Array, left: Array) -> Array:
    """Millimetres inside the rib cage: across it a rounded ellipse, up it half an ellipsoid."""
    taper = jnp.sqrt(jnp.clip(1 - (jnp.clip(40 - down, 0) / 178) ** 2, 0.01))
    wide, deep = 137 * body.wide * taper, 79 * body.deep * taper
    u, v = jnp.abs(left - MIDLINE) / wide + 1e-4, jnp.abs(back - 2) / deep + 1e-4
    far = jnp.exp(0.4 * jnp.log(u * u * jnp.sqrt(u) + v * v * jnp.sqrt(v)))  # exponent 2.5
    return (1 - far) * jnp.hypot(u * wide, v * deep) / far


def _heart(body: Body, down: Array, back: Array, left: Array) -> Array:
    """Millimetres outside the heart."""
    size = body.heart
    far = jnp.sqrt(((down - 44) / 54) ** 2 + ((back + 24) / 42) ** 2 + ((left - 82) / 54) ** 2)
    return 48 * (far - size)


def _mediastinum(body: Body, down: Array, back: Array, left: Array) -> Array:
    """Hounsfield units between the lungs and below the diaphragm."""
    found = jnp.full_like(down + back + left, FAT)
    vessels = (((-22, 48, 8.5), (-90, 40)), ((-20, 66, 15.5), (-50, 30)), ((30, 96, 12.5), (-60, 90)))
    for (at_back, at_left, radius), (top, bottom) in vessels:  # superior vena cava, ascending and descending aorta
        here = (jnp.hypot(back - at_back, left - at_left) < radius) & (down > top) & (down < bottom)
        found = jnp.where(here, BLOOD, found)
    gullet = jnp.hypot(back - 26, left - 76) < 7
    found = jnp.where(gullet | (_heart(body, down, back, left) < 0), BLOOD, found)
    dome = body.dome + 42 * (((left + 5) / 75) ** 2 + (back / 80) ** 2)
    found = jnp.where((down > dome) & (left < 52), LIVER, found)
    vertebra = jnp.hypot(1.05 * (left - MIDLINE), 1.2 * (back - 50)) - 16
    arch = (jnp.hypot(left - MIDLINE, back - 72) < 12) & (jnp.hypot(left - MIDLINE, back - 71) > 8)
    disc = jnp.cos(2 * jnp.pi * (down + body.ribs) / 27) > 0.8
    found = jnp.where(jnp.hypot(left - MIDLINE, back - 62) < 27, jnp.maximum(found, MUSCLE), found)
    found = jnp.where(vertebra < 0, jnp.where(disc, 80.0, jnp.where(vertebra < -2.5, 190.0, BONE + 80)), found)
    found = jnp.where(arch, BONE + 80, found)
    return jnp.where(jnp.hypot(left - MIDLINE, back - 71) < 8, 25.0, found)


def points(rng: np.random.Generator, body: Body, number: int) -> np.ndarray:
    """Places spread evenly over each patient's right lung, (n, number, 3), a few millimetres from its border."""
    low, high = np.array([-126.0, -80.0, -74.0]), np.array([100.0, 84.0, 56.0])
    tried = rng.uniform(low, high, (len(body.scale), 4 * number, 3)) * np.asarray(body.scale)[:, None, None]
    best = np.argsort(~np.asarray(_inside(body, tried.astype(np.float32))), axis=1, kind="stable")[:, :number]
    return np.take_along_axis(tried, best[..., None], 1)


@jax.jit
def _inside(body: Body, place: Array) -> Array:
    spread = jax.tree.map(lambda column: column[:, None], body)
    return depth(spread, (place[..., 0], place[..., 1], place[..., 2])) > 4
