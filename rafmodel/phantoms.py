"""Synthetic cohorts with known truth: a lesion in the texture of an organ, imaged at two sites, in two or three axes of space.

Lengths are fractions of half the field of view, so the image spans [-1, 1] along each axis; intensities
are fractions of the display range.
"""

from dataclasses import replace
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel.cohort import Cohort
from rafmodel.errors import InputError

SITES = ("A", "B")
SEXES = ("F", "M")


class Truth(NamedTuple):
    """What was put into each image.

    amplitude  (N,)    height of the lesion above the organ before imaging; 0 in a control
    centre     (N, dims)  row, column (and depth) of the lesion, or of where one would be
    width      (N,)    s.d. of its Gaussian profile
    """

    amplitude: np.ndarray
    centre: np.ndarray
    width: np.ndarray


class Site(NamedTuple):
    """How a site images: share of the intensity range that is left, s.d. of the noise and of the blur."""

    contrast: Array | float
    noise: Array | float
    blur: Array | float


IMAGING = (Site(contrast=1.0, noise=0.03, blur=0.02), Site(contrast=0.6, noise=0.065, blur=0.08))


_POLE = np.array([-0.35, 0.15, 0.0], np.float32)  # lesions cluster here, in units of the organ's semi-axes
_AXES = np.array([0.75, 0.6, 0.6], np.float32)  # semi-axes of the organ of M, on average
AT_ONCE = 8  # volumes made together


class _Anatomy(NamedTuple):
    """Class, site and sex as codes (N,); centre and semi-axes (N, dims) of the organ, and its tilt (N,) from row to column."""

    case: np.ndarray
    site: np.ndarray
    sex: np.ndarray
    centre: np.ndarray
    axes: np.ndarray
    tilt: np.ndarray


def phantom(
    key: Array,
    *,
    n_patients: int = 800,
    size: int = 28,
    lesion: float = 0.35,
    prevalence: float = 0.4,
    volumes: bool = False,
) -> Cohort:
    """A classification cohort whose class signal is known; the same key gives the same bytes.

    n_patients  patients, at least 20; they have 1, 2 or 3 images each in equal numbers
    size        pixels a side, at least 8
    lesion      mean height of a case's lesion, in the display range; 0 leaves no class signal
    prevalence  share of the patients who have a lesion, in (0, 1)
    volumes     whether images have a third axis of space: the organ is an ellipsoid, the lesion a Gaussian ball

    Attributes: ``site`` (A 75 %, B 25 %; B has less contrast, more noise, more blur) and ``sex`` (half each;
    the organ of F is smaller).  ``mask`` is 1 where a lesion stands above half its height.  Patients are
    split 60/20/20.  Logistic regression on 50 principal components has a test AUC of 0.83, at site A 0.85 and
    at site B 0.77 (means of 12 keys; s.d. over keys 0.03, 0.03, 0.07), in two axes.
    Raises InputError for a value outside its range.
    """
    if n_patients < 20 or size < 8 or not 0 < prevalence < 1:
        asked = f"n_patients {n_patients}, size {size}, prevalence {prevalence}"
        raise InputError(f"phantom: {asked}; choose at least 20, at least 8, and strictly between 0 and 1")
    patient, split, anatomy = _cohort(key, n_patients, prevalence, 3 if volumes else 2)
    truth = _truth(key, anatomy, lesion)
    image, mask = (_volumes if volumes else _pictures)(jax.random.fold_in(key, 2), anatomy, truth, size)
    return Cohort(
        np.asarray(image)[..., None],
        np.asarray(anatomy.case, np.int8),
        patient,
        split,
        {"site": np.array(SITES)[anatomy.site], "sex": np.array(SEXES)[anatomy.sex]},
        name="phantom-3d" if volumes else "phantom",
        source="synthetic, rafmodel.phantoms",
        licence="BSD-3-Clause, as rafmodel",
        contrast="lesion against none",
        mask=np.asarray(mask, np.uint8),
    )


def phantom_truth(
    key: Array,
    *,
    n_patients: int = 800,
    lesion: float = 0.35,
    prevalence: float = 0.4,
    volumes: bool = False,
) -> Truth:
    """The lesions of ``phantom`` with the same key and options, image by image."""
    return _truth(key, _cohort(key, n_patients, prevalence, 3 if volumes else 2)[2], lesion)


def named(name: str, key: Array, size: int | None) -> Cohort:
    """The synthetic cohort of a name (``rafmodel cohort list``), larger images averaged to ``size`` pixels a side."""
    match name:
        case "phantom":
            return phantom(key) if size is None else phantom(key, size=size)
        case "phantom-3d":
            return phantom(key, n_patients=200, size=size or 28, volumes=True)
        case "cardiac-ultrasound":
            from rafmodel.ultrasound import cardiac_ultrasound

            return _averaged(cardiac_ultrasound(key), size)
        case "lung-airways" | "lung-airways-3d":
            from rafmodel.airways import lung_airways

            return _averaged(lung_airways(key, volumes=name.endswith("3d")), size)
    raise InputError(f"no synthetic cohort '{name}'; rafmodel cohort list names them")


def _averaged(cohort: Cohort, size: int | None) -> Cohort:
    """The cohort with images (N, [D,] H, W, C) averaged, and masks thinned, to ``size`` pixels a side."""
    if size is None or size >= cohort.image.shape[1]:
        return cohort
    from rafmodel import sources

    def along(array: np.ndarray, change) -> np.ndarray:
        """``change`` of the last two axes of space, and of the first of three."""
        sides = array.shape[1:-1]
        flat = change(array.reshape(-1, *sides[-2:], array.shape[-1]), size)
        if len(sides) == 2:
            return flat
        whole = np.moveaxis(
            flat.reshape(-1, sides[0], *flat.shape[1:]), 1, 2
        )  # depth beside columns, once rows are done
        flat = change(whole.reshape(-1, *whole.shape[2:]), size)
        return np.moveaxis(flat.reshape(*whole.shape[:2], *flat.shape[1:]), 1, 2)

    mask = cohort.mask
    if mask is not None:
        mask = along(mask[..., None], lambda flat, size: sources.thin(flat[..., 0], size)[..., None])[..., 0]
    return replace(cohort, image=along(cohort.image, sources.shrink), mask=mask)


# ---- who is imaged


def _cohort(key: Array, n: int, prevalence: float, dims: int = 2) -> tuple[np.ndarray, np.ndarray, _Anatomy]:
    """Patient and split of each image (N,), and its anatomy in so many axes of space."""
    uniform = np.asarray(_uniform(jax.random.fold_in(key, 0), (6 + 2 * dims, n)))
    order = uniform[:5].argsort(1).argsort(1)  # ranks, for exact shares of everything that is counted
    sex, shape = order[2] % 2, 2 * uniform[5:].T - 1
    large = np.where(sex == SEXES.index("M"), 1.0, 0.85).astype(np.float32)
    anatomy = _Anatomy(
        case=(order[0] < round(prevalence * n)).astype(np.int32),
        site=(order[1] < round(n / 4)).astype(np.int32),
        sex=sex.astype(np.int32),
        centre=0.1 * shape[:, :dims],
        axes=large[:, None] * (_AXES[:dims] + 0.06 * shape[:, dims : 2 * dims]),
        tilt=0.5 * shape[:, 2 * dims],
    )
    owner = np.repeat(np.arange(n), 1 + order[3] % 3)
    split = np.array(["train", "val", "test"])[np.digitize(order[4], (0.6 * n, 0.8 * n))]
    patient = np.array([f"p{i:05d}" for i in range(n)])
    return patient[owner], split[owner], _Anatomy(*(column[owner] for column in anatomy))


def _truth(key: Array, anatomy: _Anatomy, lesion: float) -> Truth:
    """Lesions of every image, uniform over a disc, or ball, around one pole of the organ."""
    n, dims = anatomy.centre.shape
    radius, angle, height, width, *along = np.asarray(_uniform(jax.random.fold_in(key, 1), (2 + dims, n)))
    turned = np.stack([np.cos(2 * np.pi * angle), np.sin(2 * np.pi * angle)])
    if dims == 3:  # Archimedes: the third coordinate of a random direction is uniform
        depth = 2 * along[0] - 1
        turned = np.concatenate([np.sqrt(1 - depth**2) * turned, depth[None]])
    ring = 0.4 * (np.sqrt(radius) if dims == 2 else np.cbrt(radius)) * turned
    local = (_POLE[:dims, None] + ring) * anatomy.axes.T
    c, s = np.cos(anatomy.tilt), np.sin(anatomy.tilt)
    local[:2] = c * local[0] - s * local[1], s * local[0] + c * local[1]
    case = anatomy.case.astype(np.float32)  # integer times float32 would be double
    return Truth(lesion * case * (0.6 + 0.8 * height), anatomy.centre + local.T, 0.1 + 0.1 * width)


@partial(jax.jit, static_argnames="shape")
def _uniform(key: Array, shape: tuple[int, ...]) -> Array:
    return jax.random.uniform(key, shape, jnp.float32)


# ---- how it looks


@partial(jax.jit, static_argnames="size")
def _pictures(key: Array, anatomy: _Anatomy, truth: Truth, size: int) -> tuple[Array, Array]:
    """Images in [0, 1] and lesion masks, (N, size, size) each."""
    white = jax.random.normal(key, (len(truth.amplitude), 4, size, size), jnp.float32)
    return jax.vmap(_picture)(white, anatomy, truth, _imaging(anatomy))


def _volumes(key: Array, anatomy: _Anatomy, truth: Truth, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Volumes in [0, 1] and lesion masks, (N, size, size, size) each, a few at a time."""
    parts = []
    for start in range(0, len(truth.amplitude), AT_ONCE):
        rows = np.minimum(np.arange(start, start + AT_ONCE), len(truth.amplitude) - 1)  # one shape is compiled
        of_these = (type(record)(*(column[rows] for column in record)) for record in (anatomy, truth))
        parts.append(jax.tree.map(np.asarray, _some_volumes(jax.random.fold_in(key, start), *of_these, size)))
    image, mask = (np.concatenate(part)[: len(truth.amplitude)] for part in zip(*parts, strict=True))
    return image, mask


@partial(jax.jit, static_argnames="size")
def _some_volumes(key: Array, anatomy: _Anatomy, truth: Truth, size: int) -> tuple[Array, Array]:
    white = jax.random.normal(key, (AT_ONCE, 4, size, size, size), jnp.float32)
    return jax.vmap(_picture)(white, anatomy, truth, _imaging(anatomy))


def _imaging(anatomy: _Anatomy) -> Site:
    return Site(*(jnp.array(of_both, jnp.float32)[anatomy.site] for of_both in zip(*IMAGING, strict=True)))


def _picture(white: Array, anatomy: _Anatomy, lesion: Truth, site: Site) -> tuple[Array, Array]:
    """One image and its lesion mask, (*space) each, from four fields of white noise (4, *space)."""
    background, lobes, grain, detector = white
    axis = (2 * jnp.arange(white.shape[-1], dtype=jnp.float32) + 1) / white.shape[-1] - 1
    organ = _organ(axis, anatomy)
    away = _away(axis, lesion.centre)
    profile = jnp.exp(-sum(x**2 for x in away) / (2 * lesion.width**2))
    tissue = 0.35 + 0.06 * _smooth(lobes, axis, 0.22) + 0.05 * _smooth(grain, axis, 0.07)
    object_ = 0.15 + 0.05 * _smooth(background, axis, 0.4) + organ * (tissue + lesion.amplitude * profile)
    mottle = _smooth(detector, axis, site.blur)  # noise has the grain of the site's point spread
    seen = 0.4 + site.contrast * (_blurred(object_, axis, site.blur) - 0.4) + site.noise * mottle
    return jnp.clip(seen, 0, 1), jnp.where(lesion.amplitude > 0, profile * organ, 0) > 0.5


def _away(axis: Array, centre: Array | np.ndarray) -> list[Array]:
    """Distance of each pixel from a place (dims,) along each axis of space, to be broadcast."""
    dims = len(centre)
    return [jnp.reshape(axis - centre[i], [-1 if k == i else 1 for k in range(dims)]) for i in range(dims)]


def _organ(axis: Array, anatomy: _Anatomy) -> Array:
    """Share of each pixel that the organ, a tilted ellipse or ellipsoid with a soft edge, takes up; (*space)."""
    rows, columns, *depth = _away(axis, anatomy.centre)
    c, s = jnp.cos(anatomy.tilt), jnp.sin(anatomy.tilt)
    along = [c * rows + s * columns, c * columns - s * rows, *depth]
    radius = reduce(jnp.hypot, [x / anatomy.axes[i] for i, x in enumerate(along)])
    return jax.nn.sigmoid((1 - radius) / 0.05)


def _kernel(axis: Array, width: Array | float) -> Array:
    """Gaussian of s.d. ``width`` around each pixel, (size, size)."""
    return jnp.exp(-((axis[:, None] - axis[None, :]) ** 2) / (2 * width**2))


def _smooth(white: Array, axis: Array, length: Array | float) -> Array:
    """Gaussian random field: white noise through a kernel of s.d. ``length``, variance 1 at every pixel."""
    kernel = _kernel(axis, length)
    return _along_each(kernel / jnp.linalg.norm(kernel, axis=1, keepdims=True), white)


def _blurred(image: Array, axis: Array, width: Array | float) -> Array:
    """Gaussian blur, the kernel renormalised at the borders."""
    kernel = _kernel(axis, width)
    return _along_each(kernel / kernel.sum(1, keepdims=True), image)


def _along_each(kernel: Array, image: Array) -> Array:
    """A kernel (size, size) applied along every axis of an image (*space)."""
    image = kernel @ image @ kernel.T  # the last two axes
    return image if image.ndim == 2 else jnp.tensordot(kernel, image, (1, 0))
