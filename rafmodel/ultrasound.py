"""A phantom of cardiac ultrasound: the four-chamber view in a sector, from poor to high image quality, with known truth.

Lengths are centimetres.  A picture is made as a scanner makes one: reflectivity on a polar grid of depth and beam, complex
scatterers through a point spread function, attenuation that the time gain compensates in part, receiver noise, shadows,
envelope, logarithm, and the sector converted to pixels.  Published: diameters and walls of the left ventricle by sex at
end-diastole and the right one's width at its base (Lang et al. 2015, ASE and EACVI), fully developed speckle (Wagner et al.
1983).  Assumed: length 1.75 diameters, less where the cavity is dilated, the size of the atria, how the wall changes with age,
shares of diseases, and the ranges of the acquisition.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel.cohort import Cohort
from rafmodel.errors import InputError
from rafmodel.variability.law import sample

DEPTH, HALF_ANGLE, NEAR = 16.0, np.deg2rad(38.0), 0.6  # field of view: deepest, half the sector, and where it begins
SAMPLES, BEAMS = 176, 96  # of the polar grid
RANGE_DB = 55.0  # that black to white spans
RIGHT, ATRIUM = 3.3, 1.9  # width of the right ventricle at its base, half the width of an atrium
DIAMETER = {"F": (4.50, 0.36), "M": (5.02, 0.41)}  # mean and s.d. at end-diastole
WALL = {"F": (0.75, 0.075), "M": (0.80, 0.10)}
SHARE = {"none": 0.5, "hypertrophy": 0.25, "dilation": 0.25}  # of the patients
QUALITIES = ("poor", "medium", "high")  # thirds of the scale from 0 to 1
_CHUNK = 50
Values = Array | np.ndarray


class Heart(NamedTuple):
    """One ventricle in one phase, in centimetres and radians; arrays (N,), shape (N, 4).

    diameter, wall, length  inner diameter, thickness, inner length
    apex, tilt              depth of the apex and angle of the long axis to the middle of the sector
    shape                   amplitudes of waves along the two side walls
    """

    diameter: Values
    wall: Values
    length: Values
    apex: Values
    tilt: Values
    shape: Values


class Acquisition(NamedTuple):
    """How it was imaged; arrays (N,), bands (N, 3).

    quality     0 (poor) to 1 (high): of it follow receiver noise, width of the beam, haze near the probe and shadows
    gain        decibels added
    frequency   megahertz: the higher, the finer and the weaker with depth
    bands       places of shadows across the sector, from −1 to 1
    """

    quality: Values
    gain: Values
    frequency: Values
    bands: Values


class Truth(NamedTuple):
    """What was drawn for each image: heart, acquisition, disease by name, and whether it is end-systole."""

    heart: Heart
    acquisition: Acquisition
    disease: np.ndarray
    systole: np.ndarray


def cardiac_ultrasound(key: Array, *, n_patients: int = 500, size: int = 112) -> Cohort:
    """A cohort of apical views: a diseased ventricle (wall too thick, or cavity too wide) against a normal one.

    n_patients  at least 20; each has four images, two at end-diastole and two at end-systole
    size        pixels a side, at least 32

    ``mask`` is 1 in the cavity and 2 in the myocardium.  Attributes: ``sex`` (half each; size and wall differ), ``age`` (walls
    thicken with it), ``probe`` (S4 75 %, X8 25 %: higher frequency), ``quality`` (poor, medium, high) and ``phase``.  Patients
    are split 60/20/20.  The same key gives the same bytes.  Raises InputError for a value outside its range.
    """
    return cardiac_ultrasound_with_truth(key, n_patients=n_patients, size=size)[0]


def cardiac_ultrasound_with_truth(key: Array, *, n_patients: int = 500, size: int = 112) -> tuple[Cohort, Truth]:
    """The cohort of ``cardiac_ultrasound`` and what was drawn for each of its images."""
    if n_patients < 20 or size < 32:
        raise InputError(
            f"cardiac_ultrasound: n_patients {n_patients}, size {size}; choose at least 20 and at least 32"
        )
    who, truth, columns = _patients(key, n_patients)
    keys = jax.random.split(jax.random.fold_in(key, 1), len(who))
    parts = []
    for start in range(0, len(who), _CHUNK):
        rows = np.minimum(np.arange(start, start + _CHUNK), len(who) - 1)
        chosen = jax.tree.map(lambda column, rows=rows: column[rows], (truth.heart, truth.acquisition))
        parts.append(tuple(np.asarray(part) for part in _pictures(keys[rows], *chosen, size)))
    image, mask = (np.concatenate(part)[: len(who)] for part in zip(*parts, strict=True))
    cohort = Cohort(
        image[..., None],
        (truth.disease != "none").astype(np.int8),
        np.array([f"u{i:05d}" for i in who]),
        columns.pop("split"),
        columns,
        name="cardiac_ultrasound",
        source="synthetic, rafmodel.ultrasound",
        licence="BSD-3-Clause, as rafmodel",
        contrast="hypertrophy or dilation against neither",
        mask=mask,
    )
    return cohort, truth


# ---- who is imaged


def _patients(key: Array, n: int) -> tuple[np.ndarray, Truth, dict[str, np.ndarray]]:
    """Patient of each image (4 n,), what was drawn for it, and the columns of the cohort."""
    rng = np.random.default_rng(np.asarray(jax.random.bits(key, (4,), jnp.uint32)))
    sex = np.where(rng.permutation(n) % 2, "M", "F")
    age = rng.uniform(25, 85, n)
    disease = np.repeat(list(SHARE), np.diff(np.rint(n * np.cumsum([0, *SHARE.values()])).astype(int)))
    disease = disease[rng.permutation(n)]
    probe = np.where(rng.permutation(n) < round(0.25 * n), "X8", "S4")
    split = np.array(["train", "val", "test"])[np.digitize(rng.permutation(n), (0.6 * n, 0.8 * n))]
    size, thick = (np.array([table[s] for s in sex]) for table in (DIAMETER, WALL))
    healthy = size[:, 0] + size[:, 1] * rng.normal(size=n)
    diameter = healthy + (disease == "dilation") * rng.uniform(1.1, 1.9, n)
    wall = thick[:, 0] + thick[:, 1] * rng.normal(size=n) + 0.002 * (age - 55)
    wall = wall + (disease == "hypertrophy") * rng.uniform(0.4, 0.8, n)
    who, systole = np.repeat(np.arange(n), 4), np.tile([False, False, True, True], n)
    shrunk = np.where(disease == "dilation", 0.86, 0.68)[who]  # fractional shortening 14 % and 32 %
    m = len(who)
    heart = Heart(
        diameter=diameter[who] * np.where(systole, shrunk, 1),
        wall=wall[who] * np.where(systole, np.where(shrunk > 0.8, 1.12, 1.35), 1),
        length=(1.25 * healthy + 0.5 * diameter)[who] * np.where(systole, 0.5 + shrunk / 2, 1),
        apex=rng.uniform(1.8, 2.8, m),
        tilt=np.deg2rad(6) * rng.normal(size=m),
        shape=0.05 * rng.normal(size=(n, 4))[who],
    )
    quality = rng.uniform(0, 1, m)
    acquisition = Acquisition(
        quality=quality,
        gain=3 * rng.normal(size=m),
        frequency=np.where(probe == "X8", 3.4, 2.4)[who],
        bands=rng.uniform(-1, 1, (m, 3)),
    )
    columns = {
        "split": split[who],
        "sex": sex[who],
        "age": np.array(["18-49", "50-64", "65+"])[np.digitize(age, (50, 65))][who],
        "probe": probe[who],
        "quality": np.array(QUALITIES)[np.minimum((3 * quality).astype(int), 2)],
        "phase": np.where(systole, "systole", "diastole"),
    }
    heart, acquisition = jax.tree.map(lambda column: column.astype(np.float32), (heart, acquisition))
    return who, Truth(heart, acquisition, disease[who], systole), columns


# ---- anatomy


def half_width(heart: Heart, along: Array) -> tuple[Values, Values]:
    """Inner half width of the left and right wall at a share ``along`` of the way from apex (0) to base (1)."""
    tip = jnp.sqrt(jnp.clip(1 - (1 - jnp.clip(along / 0.6, 0, 1)) ** 2, 0))  # a half ellipse, then nearly straight
    base = 1 - 0.15 * jnp.clip((along - 0.6) / 0.4, 0, 1) ** 2
    waves = [jnp.sin(jnp.pi * k * jnp.clip(along, 0, 1)) for k in (1, 2)]
    sides = [1 + heart.shape[2 * s] * waves[0] + heart.shape[2 * s + 1] * waves[1] for s in (0, 1)]
    return heart.diameter / 2 * tip * base * sides[0], heart.diameter / 2 * tip * base * sides[1]


def anatomy(heart: Heart, across: Array, down: Array) -> tuple[Array, Array]:
    """Class of each place, 0 else, 1 cavity, 2 myocardium, and its echo in decibels; places in centimetres from the probe.

    The four-chamber view: left ventricle and atrium, and the right heart to the left of the septum.  The valves are closed.
    """
    cos, sin = jnp.cos(heart.tilt), jnp.sin(heart.tilt)
    x, y = cos * across - sin * (down - heart.apex), sin * across + cos * (down - heart.apex)
    along = y / heart.length
    left, right = half_width(heart, along)
    width = jnp.where(x < 0, left, right)
    cavity = (along > 0) & (along < 1) & (jnp.abs(x) < width)
    outer = heart._replace(diameter=heart.diameter + 2 * heart.wall)
    beyond = (y + heart.wall) / (heart.length + heart.wall)
    septal, lateral = half_width(outer, beyond)
    shell = (beyond > 0) & (along < 1) & (jnp.abs(x) < jnp.where(x < 0, septal, lateral))
    muscle = shell & ~cavity
    begins = jnp.clip((along - 0.2) / 0.75, 0, 1)  # of the right ventricle, from its apex to its base
    free = septal + RIGHT * jnp.sqrt(1 - (1 - begins) ** 2)  # where its free wall is
    right_ventricle = (begins > 0) & (along < 0.95) & (-x > septal) & (-x < free)
    rim = 0.35 * jnp.sqrt(begins)  # thickness of its wall
    right_wall = (begins > 0) & (along < 0.95) & (-x >= free) & (-x < free + rim)
    middle = -(heart.diameter * 0.43 + heart.wall + 1.7)
    atria = [_atrium(x, y - heart.length, ATRIUM), _atrium(x - middle, y - 0.95 * heart.length, ATRIUM)]
    in_atrium = (atria[0] < 0) & (along >= 1) | (atria[1] < 0) & (along >= 0.95) & ~shell
    atrial_wall = jnp.exp(-((jnp.minimum(jnp.abs(atria[0]), jnp.abs(atria[1])) / 0.12) ** 2)) * ~shell * (along > 0.95)
    outside = jnp.where(x > 0, x - lateral, -x - free - rim)
    sac = jnp.exp(-((outside / 0.13) ** 2)) * jnp.clip(4 * beyond, 0, 1) * (along < 1)  # the pericardium, a bright line
    tent = heart.length - 0.5 * jnp.clip(1 - jnp.abs(x) / width, 0, 1)
    mitral = jnp.exp(-(((y - tent) / 0.1) ** 2)) * (jnp.abs(x) < width)
    share = jnp.clip((-x - septal) / (free - septal + 1e-3), 0, 1)  # of the way from the septum to the free wall
    hinge = 0.95 * heart.length - 0.5 * (1 - jnp.abs(2 * share - 1))
    tricuspid = jnp.exp(-(((y - hinge) / 0.1) ** 2)) * ((-x > septal) & (-x < free))
    blood = cavity | right_ventricle | in_atrium
    echo = jnp.where(blood, -46.0, jnp.where(muscle | right_wall, -15.0, -27.0))
    for bright, level in ((atrial_wall, -16.0), (mitral, -11.0), (tricuspid, -14.0), (sac, -2.0)):
        echo = echo + jnp.clip(level - echo, 0) * bright
    return jnp.where(cavity, 1, jnp.where(muscle, 2, 0)), echo


def _atrium(x: Array, y: Array, half: float) -> Array:
    """About how far outside an atrium's wall a place is, negative inside, in centimetres; (0, 0) is the middle of its valve."""
    return half * (jnp.hypot(x / half, jnp.where(y < half, 0.4 * (y / half - 1), y / half - 1)) - 1)


# ---- the scanner


@partial(jax.jit, static_argnums=3)
def _pictures(keys: Array, heart: Heart, acquisition: Acquisition, size: int) -> tuple[Array, Array]:
    return jax.vmap(_picture, (0, 0, 0, None))(keys, heart, acquisition, size)


def _picture(key: Array, heart: Heart, acquisition: Acquisition, size: int) -> tuple[Array, Array]:
    """One image and its mask, (size, size), uint8 each."""
    depth = jnp.linspace(NEAR, DEPTH, SAMPLES, dtype=jnp.float32)[:, None]
    angle = jnp.linspace(-HALF_ANGLE, HALF_ANGLE, BEAMS, dtype=jnp.float32)[None, :]
    _, echo = anatomy(heart, depth * jnp.sin(angle), depth * jnp.cos(angle))
    log = _decibels(key, echo, depth, angle, acquisition)
    polar = jnp.clip(1 + (log + acquisition.gain) / RANGE_DB, 0, 1)
    down, across = _pixels(size)
    far, turn = jnp.sqrt(down**2 + across**2), jnp.arctan2(across, down)
    inside = (far > NEAR) & (far < DEPTH) & (jnp.abs(turn) < HALF_ANGLE)
    place = jnp.stack([2 * (far - NEAR) / (DEPTH - NEAR) - 1, turn / HALF_ANGLE])
    image = jnp.where(inside, sample(polar[..., None], place)[..., 0], 0.0)
    classes, _ = anatomy(heart, across, down)
    mask = jnp.where(inside, classes, 0)
    return jnp.round(255 * image).astype(jnp.uint8), mask.astype(jnp.uint8)


def _pixels(size: int) -> tuple[Array, Array]:
    """Depth and place across of each pixel centre; the sector fills the height."""
    unit = (jnp.arange(size, dtype=jnp.float32) + 0.5) / size
    down = unit[:, None] * DEPTH + jnp.zeros((1, size), jnp.float32)
    return down, (unit[None, :] - 0.5) * DEPTH * 1.25 + jnp.zeros((size, 1), jnp.float32)


def _decibels(key: Array, echo: Array, depth: Array, angle: Array, acquisition: Acquisition) -> Array:
    """Echo received on the polar grid (SAMPLES, BEAMS), in decibels below white."""
    poor = 1 - acquisition.quality
    weight = 10 ** (echo / 20)
    scatter = jax.random.normal(jax.random.fold_in(key, 0), (2, *echo.shape), jnp.float32) * weight[None]
    fine = 2.4 / acquisition.frequency
    signal = speckle(scatter, axial=0.9 * fine, lateral=(0.9 + 0.9 * poor) * fine)
    loss = (
        0.12 * acquisition.frequency * (depth - NEAR) * (1 + poor)
    )  # decibels that the time gain leaves uncompensated
    shadows = sum(
        poor * 16 * jnp.exp(-(((angle / HALF_ANGLE - band) / 0.09) ** 2)) for band in acquisition.bands
    ) * jax.nn.sigmoid((depth - 1.5) * 3)
    noise = jax.random.normal(jax.random.fold_in(key, 1), (2, *echo.shape), jnp.float32)
    floor = 10 ** ((-66 + 24 * poor + 1.1 * (depth - NEAR)) / 20)  # the time gain lifts the receiver's noise with depth
    haze = 10 ** ((-26 + 12 * poor) / 20) * jnp.exp(-((depth - NEAR) / (1.2 + 2.5 * poor)))
    clutter = speckle(
        jax.random.normal(jax.random.fold_in(key, 2), (2, *echo.shape), jnp.float32), axial=2.0, lateral=3.0
    )
    total = signal * 10 ** (-(loss + shadows) / 20)[None] + floor[None] * noise + haze[None] * clutter
    envelope = jnp.sqrt(jnp.sum(total**2, 0))
    return 20 * jnp.log10(jnp.maximum(envelope, 1e-6)) - 4


def speckle(scatter: Array, *, axial: Values | float, lateral: Values | float) -> Array:
    """Complex scatterers (2, SAMPLES, BEAMS) through a Gaussian point spread of s.d. in samples and beams, unit gain on noise."""
    kernels = []
    for n, width in zip(scatter.shape[1:], (axial, lateral), strict=True):
        place = jnp.arange(n, dtype=jnp.float32)
        kernel = jnp.exp(-((place[:, None] - place[None, :]) ** 2) / (2 * width**2))
        kernels.append(kernel / jnp.sqrt(jnp.sum(kernel**2, 1, keepdims=True)))
    return jnp.einsum("ij,cjk,lk->cil", kernels[0], scatter, kernels[1])
