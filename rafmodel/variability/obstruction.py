"""What comes between the body and the picture: shadows and echoes of ultrasound, dirt, ink and edges of cameras, hidden parts.

Ultrasound acts along its beams (``beams``): down the first axis of space, or in a fan from the apex of a sector.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel.variability.beams import beams, in_picture, in_view, on_beams
from rafmodel.variability.law import Drawn, Variability, axes, one_sign, one_uniform, place
from rafmodel.variability.linear import along
from rafmodel.variability.marks import Kind, Look, clear, hide, over, round_marks, round_view, stamps

MARKS = 24  # bubbles, stains or characters of a fully covered image
LARGEST = 0.2  # radius of a bubble, of half the side
STROKES = 6  # of a pen
CELL = 0.28 / 5  # of a digit


def shadow(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Bone or gas: behind a random place a band of beams, wider with depth if these are parallel, loses a share ``severity``."""
    seen = beams(image)
    start, place = drawn["place"]
    behind = jax.nn.sigmoid((seen.depth - start) * 12)
    half_width = 0.15 + jnp.where(seen.fanned, 0.1, 0.15 * (seen.depth - start))
    band = jax.nn.sigmoid((half_width - jnp.abs(seen.across - place)) * 15)
    return image * (1 - severity * behind * band)[..., None]


def _bone(key: Array, shape: tuple[int, ...]) -> Drawn:
    del shape
    u = jax.random.uniform(key, (2,), jnp.float32)
    return {"place": jnp.stack([0.8 * u[0] - 0.8, 1.2 * u[1] - 0.6])}  # depth, and place across


def depth_gain(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Time-gain compensation off by ``exp(± severity depth)``, depth from −1 to 1, either sign."""
    return jnp.clip(image * jnp.exp(severity * drawn["sign"] * beams(image).depth)[..., None], 0, 1)


def reverberation(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Echoes between two layers: the image again, two to four times, deeper by a random step, each ``severity`` as strong.

    What is beyond the field of view stays black.
    """
    seen = beams(image)
    n = image.shape[0]
    row = jnp.arange(n, dtype=image.dtype)
    reached = jnp.zeros((n, n), image.dtype)
    for echo in range(1, 5):
        source = (row - echo * (0.12 + 0.12 * drawn["u"]) * n)[:, None]
        share = jnp.maximum(1 - jnp.abs(source - row[None]), 0)
        reached = reached + severity**echo * jnp.where(source >= 0, share, 0)
    echoes = in_picture(along(on_beams(image, seen), reached, 0), seen)
    inside = in_view(image) & (jnp.maximum(jnp.abs(seen.across), jnp.abs(seen.depth)) <= 1)
    return jnp.where(inside[..., None], jnp.clip(image + echoes, 0, 1), image)


def dropout(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Elements without contact: three bands of beams lose a share ``severity`` of their intensity."""
    across = beams(image).across
    near = [jnp.exp(-(((across - place) / 0.08) ** 2) / 2) for place in drawn["u"]]
    return image * (1 - severity * jnp.clip(sum(near[1:], near[0]), 0, 1))[..., None]


def _three_places(key: Array, shape: tuple[int, ...]) -> Drawn:
    del shape
    return {"u": jax.random.uniform(key, (3,), jnp.float32, -0.9, 0.9)}


# ---- microscopes, dermatoscopes, scanners


def black_corner(drawn: Drawn, image: Array, severity: Array) -> Array:
    """A round field of view, off centre: black beyond ``1 − severity`` of the way to the corners."""
    radius = jnp.where(severity > 0, 1.5 * (1 - severity), jnp.inf)
    return round_view(image, drawn["place"], radius)


def _off_centre(key: Array, shape: tuple[int, ...]) -> Drawn:
    del shape
    return {"place": jax.random.uniform(key, (2,), jnp.float32, -0.15, 0.15)}


def _marks(key: Array, shape: tuple[int, ...]) -> Drawn:
    del shape
    keys = jax.random.split(key, 3)
    return {
        "place": jax.random.uniform(keys[0], (MARKS, 2), jnp.float32, -0.95, 0.95),
        "size": jax.random.uniform(keys[1], (MARKS,), jnp.float32, 0.06, LARGEST),
        "u": jax.random.uniform(keys[2], (MARKS,), jnp.float32),
    }


FADED = 8  # where edges end: a logistic one is e^-8 there, less than a tenth of a grey level of 8 bits


def _disc(far: Array) -> Array:
    return 0.5 * jax.nn.sigmoid(-60 * far)


def _rim(far: Array) -> Array:
    return 0.8 * jnp.exp(-((far / 0.03) ** 2))


def _blot(far: Array) -> Array:
    return 0.9 * jax.nn.sigmoid(-40 * far)


def bubble(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Air under the cover slip: bright discs with dark rims; at severity 1 there are MARKS of them."""
    look = Look((LARGEST, FADED / 60), (Kind(_disc, (1.0,)), Kind(_rim, (0.0,))))
    return round_marks(image, severity, (drawn["place"], drawn["size"]), look)


def stain_deposit(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Drops of stain: dark violet blots (dark grey in one channel); at severity 1 there are MARKS of them."""
    colour = (0.25, 0.1, 0.35) if image.shape[-1] == 3 else (0.15,)
    look = Look((LARGEST, FADED / 40), (Kind(_blot, colour),))
    return round_marks(image, severity, (drawn["place"], 0.8 * drawn["size"]), look)


def pen(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Strokes of a marker pen, STROKES of them at severity 1, dark blue where there is colour."""

    def ink(stroke: Drawn, row: Array, column: Array) -> Array:
        (y, x), end = stroke["ends"]
        down, right = end[0] - y, end[1] - x
        share = jnp.clip(((row - y) * down + (column - x) * right) / (down**2 + right**2 + 1e-6), 0, 1)
        bow = stroke["bow"] * jnp.sin(jnp.pi * share)
        beside = jnp.sqrt((row - y - share * down + bow * right) ** 2 + (column - x - share * right - bow * down) ** 2)
        return jax.nn.sigmoid((0.05 - beside) * 60)

    strokes = drawn | {"place": drawn["ends"].mean(1)}
    (left,) = clear(image.shape[:2], severity, strokes, (2.0, 2.0), ink)  # all of the image
    return over(image, (0.1, 0.15, 0.45) if image.shape[-1] == 3 else 0.1, left)


def _strokes(key: Array, shape: tuple[int, ...]) -> Drawn:
    del shape
    key_ends, key_bow = jax.random.split(key)
    return {
        "ends": jax.random.uniform(key_ends, (STROKES, 2, 2), jnp.float32, -1, 1),
        "bow": jax.random.uniform(key_bow, (STROKES,), jnp.float32, -0.4, 0.4),
    }


# digits on a raster of five rows and three columns
_FONT = np.array(
    [
        [c == "#" for c in rows.replace(" ", "")]
        for rows in (
            "### #.# #.# #.# ###",
            ".#. ##. .#. .#. ###",
            "### ..# ### #.. ###",
            "### ..# ### ..# ###",
            "#.# #.# ### ..# ..#",
            "### #.. ### ..# ###",
            "### #.. ### #.# ###",
            "### ..# .#. .#. .#.",
            "### #.# ### #.# ###",
            "### #.# ### ..# ###",
        )
    ],
    float,
).reshape(10, 5, 3)


def characters(drawn: Drawn, image: Array, severity: Array) -> Array:
    """Burnt-in digits, white, MARKS of them at severity 1."""
    glyph = jnp.asarray(_FONT, severity.dtype)[jnp.minimum((drawn["u"] * 10).astype(int), 9)]
    return stamps(image, severity, drawn["place"], glyph, CELL, 1.0)


# ---- hidden parts


def field_of_view(drawn: Drawn, image: Array, severity: Array) -> Array:
    """A share ``severity`` of the side is missing at a random edge of each axis: black."""
    kept = jnp.ones(image.shape[:-1], image.dtype)
    for axis, position in enumerate(axes(image)):
        n = image.shape[axis]
        edge = position * drawn["sign"][axis]
        kept = kept * jnp.clip((1 - 2 * severity - edge) * n / 2 + 0.5, 0, 1)
    return image * kept[..., None]


def _sides(key: Array, shape: tuple[int, ...]) -> Drawn:
    return {"sign": jax.random.rademacher(key, (len(shape) - 1,), jnp.float32)}


def occlusion(drawn: Drawn, image: Array, severity: Array) -> Array:
    """A black square, a cube in space, of side ``severity`` of the image's, at a random place inside."""
    covers = []
    for axis, position in enumerate(axes(image)):
        centre = drawn["u"][axis] * (1 - severity)
        cover = (severity - jnp.abs(position - centre)) * image.shape[axis] / 2 + 0.5
        covers.append(jnp.where(severity > 0, jnp.clip(cover, 0, 1), 0))
    return hide(image, covers)


SHADOW = Variability("shadow", "share of intensity lost", _bone, shadow, (0.2, 0.4, 0.6, 0.8, 1.0))
DEPTH_GAIN = Variability("depth_gain", "log gain at the deepest", one_sign, depth_gain, (0.15, 0.3, 0.5, 0.8, 1.2))
REVERBERATION = Variability(
    "reverberation", "strength of an echo", one_uniform, reverberation, (0.05, 0.1, 0.18, 0.28, 0.4)
)
DROPOUT = Variability("dropout", "share of intensity lost", _three_places, dropout, (0.2, 0.4, 0.6, 0.8, 1.0))
BLACK_CORNER = Variability(
    "black_corner",
    "share of the half diagonal",
    _off_centre,
    black_corner,
    (0.1, 0.2, 0.3, 0.4, 0.5),
    dims=(2,),
    stored=True,
)
BUBBLE = Variability(
    "bubble", f"bubbles, of {MARKS}", _marks, bubble, (0.1, 0.2, 0.35, 0.6, 1.0), dims=(2,), stored=True
)
STAIN_DEPOSIT = Variability(
    "stain_deposit", f"blots, of {MARKS}", _marks, stain_deposit, (0.1, 0.2, 0.35, 0.6, 1.0), dims=(2,), stored=True
)
PEN = Variability("pen", f"strokes, of {STROKES}", _strokes, pen, (0.2, 0.35, 0.5, 0.75, 1.0), dims=(2,))
CHARACTERS = Variability(
    "characters", f"digits, of {MARKS}", _marks, characters, (0.1, 0.2, 0.35, 0.6, 1.0), dims=(2,), stored=True
)
FIELD_OF_VIEW = Variability(
    "field_of_view", "fraction of image side", _sides, field_of_view, (0.05, 0.1, 0.2, 0.3, 0.45)
)
OCCLUSION = Variability(
    "occlusion", "fraction of image side", place, occlusion, (0.1, 0.2, 0.3, 0.45, 0.65), stored=True
)
