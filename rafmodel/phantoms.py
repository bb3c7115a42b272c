"""Synthetic cohorts with known truth: a lesion in the texture of an organ, imaged at two sites.

Lengths are fractions of half the field of view, so the image spans [-1, 1] in rows and columns; intensities
are fractions of the display range.
"""

from dataclasses import replace
from functools import partial
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
    centre     (N, 2)  row and column of the lesion, or of where one would be
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


_POLE = np.array([-0.35, 0.15], np.float32)  # lesions cluster here, in units of the organ's semi-axes


class _Anatomy(NamedTuple):
    """Class, site and sex as codes (N,); centre (N, 2), semi-axes (N, 2) and tilt (N,) of the organ."""

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
) -> Cohort:
    """A classification cohort whose class signal is known; the same key gives the same bytes.

    n_patients  patients, at least 20; they have 1, 2 or 3 images each in equal numbers
    size        pixels a side, at least 8
    lesion      mean height of a case's lesion, in the display range; 0 leaves no class signal
    prevalence  share of the patients who have a lesion, in (0, 1)

    Attributes: ``site`` (A 75 %, B 25 %; B has less contrast, more noise, more blur) and ``sex`` (half each;
    the organ of F is smaller).  ``mask`` is 1 where a lesion stands above half its height.  Patients are
    split 60/20/20.  Logistic regression on 50 principal components has a test AUC of 0.83, at site A 0.85 and
    at site B 0.77 (means of 12 keys; s.d. over keys 0.03, 0.03, 0.07).
    Raises InputError for a value outside its range.
    """
    if n_patients < 20 or size < 8 or not 0 < prevalence < 1:
        asked = f"n_patients {n_patients}, size {size}, prevalence {prevalence}"
        raise InputError(f"phantom: {asked}; choose at least 20, at least 8, and strictly between 0 and 1")
    patient, split, anatomy = _cohort(key, n_patients, prevalence)
    truth = _truth(key, anatomy, lesion)
    image, mask = _pictures(jax.random.fold_in(key, 2), anatomy, truth, size)
    return Cohort(
        np.asarray(image)[..., None],
        np.asarray(anatomy.case, np.int8),
        patient,
        split,
        {"site": np.array(SITES)[anatomy.site], "sex": np.array(SEXES)[anatomy.sex]},
        name="phantom",
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
) -> Truth:
    """The lesions of ``phantom`` with the same key and options, image by image."""
    return _truth(key, _cohort(key, n_patients, prevalence)[2], lesion)


def named(name: str, key: Array, size: int | None) -> Cohort:
    """The synthetic cohort of a name (``rafmodel cohort list``), larger images averaged to ``size`` pixels a side."""
    match name:
        case "phantom":
            return phantom(key) if size is None else phantom(key, size=size)
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


def _cohort(key: Array, n: int, prevalence: float) -> tuple[np.ndarray, np.ndarray, _Anatomy]:
    """Patient and split of each image (N,), and its anatomy."""
    uniform = np.asarray(_uniform(jax.random.fold_in(key, 0), (10, n)))
    order = uniform[:5].argsort(1).argsort(1)  # ranks, for exact shares of everything that is counted
    sex, shape = order[2] % 2, 2 * uniform[5:].T - 1
    large = np.where(sex == SEXES.index("M"), 1.0, 0.85).astype(np.float32)
    anatomy = _Anatomy(
        case=(order[0] < round(prevalence * n)).astype(np.int32),
        site=(order[1] < round(n / 4)).astype(np.int32),
        sex=sex.astype(np.int32),
        centre=0.1 * shape[:, :2],
        axes=large[:, None] * (np.array([0.75, 0.6], np.float32) + 0.06 * shape[:, 2:4]),
        tilt=0.5 * shape[:, 4],
    )
    owner = np.repeat(np.arange(n), 1 + order[3] % 3)
    split = np.array(["train", "val", "test"])[np.digitize(order[4], (0.6 * n, 0.8 * n))]
    patient = np.array([f"p{i:05d}" for i in range(n)])
    return patient[owner], split[owner], _Anatomy(*(column[owner] for column in anatomy))


def _truth(key: Array, anatomy: _Anatomy, lesion: float) -> Truth:
    """Lesions of every image, uniform over a disc around one pole of the organ."""
    radius, angle, height, width = np.asarray(_uniform(jax.random.fold_in(key, 1), (4, len(anatomy.case))))
    ring = 0.4 * np.sqrt(radius) * np.stack([np.cos(2 * np.pi * angle), np.sin(2 * np.pi * angle)])
    local = (_POLE[:, None] + ring) * anatomy.axes.T
    c, s = np.cos(anatomy.tilt), np.sin(anatomy.tilt)
    centre = anatomy.centre + np.stack([c * local[0] - s * local[1], s * local[0] + c * local[1]], -1)
    case = anatomy.case.astype(np.float32)  # integer times float32 would be double
    return Truth(lesion * case * (0.6 + 0.8 * height), centre, 0.1 + 0.1 * width)


@partial(jax.jit, static_argnames="shape")
def _uniform(key: Array, shape: tuple[int, ...]) -> Array:
    return jax.random.uniform(key, shape, jnp.float32)


# ---- how it looks


@partial(jax.jit, static_argnames="size")
def _pictures(key: Array, anatomy: _Anatomy, truth: Truth, size: int) -> tuple[Array, Array]:
    """Images in [0, 1] and lesion masks, (N, size, size) each."""
    white = jax.random.normal(key, (len(truth.amplitude), 4, size, size), jnp.float32)
    imaging = Site(*(jnp.array(of_both, jnp.float32)[anatomy.site] for of_both in zip(*IMAGING, strict=True)))
    return jax.vmap(_picture)(white, anatomy, truth, imaging)


def _picture(white: Array, anatomy: _Anatomy, lesion: Truth, site: Site) -> tuple[Array, Array]:
    """One image and its lesion mask, (size, size) each, from four fields of white noise (4, size, size)."""
    background, lobes, grain, detector = white
    axis = (2 * jnp.arange(white.shape[-1], dtype=jnp.float32) + 1) / white.shape[-1] - 1
    organ = _organ(axis, anatomy)
    rows, columns = axis[:, None] - lesion.centre[0], axis[None, :] - lesion.centre[1]
    profile = jnp.exp(-(rows**2 + columns**2) / (2 * lesion.width**2))
    tissue = 0.35 + 0.06 * _smooth(lobes, axis, 0.22) + 0.05 * _smooth(grain, axis, 0.07)
    object_ = 0.15 + 0.05 * _smooth(background, axis, 0.4) + organ * (tissue + lesion.amplitude * profile)
    mottle = _smooth(detector, axis, site.blur)  # noise has the grain of the site's point spread
    seen = 0.4 + site.contrast * (_blurred(object_, axis, site.blur) - 0.4) + site.noise * mottle
    return jnp.clip(seen, 0, 1), jnp.where(lesion.amplitude > 0, profile * organ, 0) > 0.5


def _organ(axis: Array, anatomy: _Anatomy) -> Array:
    """Share of each pixel that the organ, a tilted ellipse with a soft edge, takes up; (size, size)."""
    rows, columns = axis[:, None] - anatomy.centre[0], axis[None, :] - anatomy.centre[1]
    c, s = jnp.cos(anatomy.tilt), jnp.sin(anatomy.tilt)
    u, v = (c * rows + s * columns) / anatomy.axes[0], (c * columns - s * rows) / anatomy.axes[1]
    return jax.nn.sigmoid((1 - jnp.hypot(u, v)) / 0.05)


def _kernel(axis: Array, width: Array | float) -> Array:
    """Gaussian of s.d. ``width`` around each pixel, (size, size)."""
    return jnp.exp(-((axis[:, None] - axis[None, :]) ** 2) / (2 * width**2))


def _smooth(white: Array, axis: Array, length: Array | float) -> Array:
    """Gaussian random field: white noise through a kernel of s.d. ``length``, variance 1 at every pixel."""
    kernel = _kernel(axis, length)
    kernel = kernel / jnp.linalg.norm(kernel, axis=1, keepdims=True)
    return kernel @ white @ kernel.T


def _blurred(image: Array, axis: Array, width: Array | float) -> Array:
    """Gaussian blur, the kernel renormalised at the borders."""
    kernel = _kernel(axis, width)
    kernel = kernel / kernel.sum(1, keepdims=True)
    return kernel @ image @ kernel.T
