"""Doses of published benchmarks in the units of our variabilities: MedMNIST-C, CIFAR-10-C and ImageNet-C.

``medmnistc.json`` holds the parameters of the 21 corruptions of MedMNIST-C at five levels for 12 data sets (medmnistc 0.1.0,
corruption registry, Apache-2.0; Di Salvo et al. 2024).  Three lists have a sixth entry, which the benchmark does not use either.
``hendrycks.json`` holds those of CIFAR-10-C and ImageNet-C, there `cifar10c` and `imagenetc`, lengths in pixels
(github.com/hendrycks/robustness, make_cifar_c.py and make_imagenet_c.py, Apache-2.0; Hendrycks, Dietterich 2019), but for snow,
frost, fog and spatter, which are weather and pictures laid over an image: no law of ours corresponds to them.
"""

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.ndimage import gaussian_filter1d

from rafmodel.errors import InputError
from rafmodel.variability import CATALOGUE
from rafmodel.variability.geometry import KNOTS
from rafmodel.variability.law import Variability
from rafmodel.variability.obstruction import MARKS

WEATHER = ("snow", "frost", "fog", "spatter")
_BUBBLE = np.pi * (0.2**3 - 0.06**3) / (3 * 0.14) / 4  # share of an image that one of our bubbles covers, on average

Equivalents = dict[str, tuple[str, Callable[[Any, int], float]]]


class Benchmark(NamedTuple):
    """A published benchmark on one data set.

    name        what it is called
    side        of the images that its parameters are made for, in pixels
    levels      corruption -> the parameters of its five levels
    equivalent  corruption -> our variability, and the severity of a parameter on images of a side
    """

    name: str
    side: int
    levels: dict[str, list]
    equivalent: Equivalents


# ---- one parameter -> severity


def _as_is(parameter: float, side: int) -> float:
    del side
    return parameter


def _log(parameter: float, side: int, *, sign: int = 1) -> float:
    del side
    return sign * float(np.log(parameter))


def _photons(count: float, side: int) -> float:
    del side
    return count**-0.5


def _pixelate(share: float, side: int) -> float:
    """Side of a pixel, less 1, where a share of them is left, in whole pixels."""
    return side / int(side * share) - 1


def _jpeg(quality: float, side: int) -> float:
    """Factor on the quantisation tables (Independent JPEG Group)."""
    del side
    return 50 / quality if quality < 50 else 2 - quality / 50


def _gaussian(kernel: float, side: int) -> float:
    """S.d. that goes with a kernel size where none is given (OpenCV, torchvision)."""
    return (0.3 * ((kernel - 1) * 0.5 - 1) + 0.8) / side


def _width(width: float, side: int) -> float:
    return width / side


def _defocus(parameters: list[float], side: int) -> float:
    """Radius of a disc as wide as theirs, which is of whole pixels, smoothed over 3 of them, or over 5 if larger than 8."""
    radius, smooth = parameters
    place, step = np.arange(-int(radius), int(radius) + 1), np.arange(-2, 3) if radius > 8 else np.arange(-1, 2)
    inside, weight = np.add.outer(place**2, place**2) <= radius**2, np.exp(-(step**2) / (2 * smooth**2))
    variance = (inside * place**2).sum() / inside.sum() + (weight * step**2).sum() / weight.sum()
    return 2 * float(np.sqrt(variance)) / side


def _motion(parameters: list[float], side: int) -> float:
    """Length of a line with the s.d. of a half Gaussian of s.d. sigma, cut at two radii (ImageMagick)."""
    radius, sigma = parameters
    step = np.arange(2 * np.ceil(radius) + 1)
    weight = np.exp(-(step**2) / (2 * sigma**2))
    weight /= weight.sum()
    variance = (weight * step**2).sum() - (weight * step).sum() ** 2
    return float(np.sqrt(12 * variance)) / side


def _zoom(steps: list, side: int) -> float:
    """The last of a range, which begins at 1, less 1; whether it holds its stop is a matter of rounding, as in numpy."""
    del side
    return float(np.arange(*steps[1:])[-1]) - 1


def _saturation(parameters: list[float], side: int) -> float:
    """Log of the factor, up or down; what is added besides, at the two highest levels, is left out."""
    del side
    return abs(float(np.log(parameters[0])))


@cache
def _slope(side: int = 128) -> float:
    """Root mean square slope of the displacement of our `elastic` at severity 1, on images that are not coarse."""
    spread = np.asarray(jax.image.resize(np.eye(KNOTS, dtype=np.float32), (side, KNOTS), "cubic"))
    return side * float(np.sqrt((np.diff(spread, axis=0) ** 2).sum(1).mean() * (spread**2).sum(1).mean()))


def _elastic(parameters: list[float], side: int) -> float:
    """Displacement whose slope has the root mean square of theirs, for it is slopes that deform and not displacements.

    Theirs is the affine map that moves the corners of a triangle, two legs of 2/3 of the side, uniformly by up to ``corner``, and
    ``amplitude`` times a white field, uniform from -1 to 1, smoothed by a Gaussian.
    """
    amplitude, width, corner = parameters
    slope2 = corner**2 / 6 / (side // 3) ** 2
    if width:
        smooth = gaussian_filter1d(np.eye(side), width, axis=0, truncate=3)
        slope2 += amplitude**2 / 3 * (np.diff(smooth, axis=0) ** 2).sum(1).mean() * (smooth**2).sum(1).mean()
    return float(np.sqrt(slope2)) / _slope()


@cache
def _scattered(reach: int, sweeps: int, side: int = 128) -> float:
    """S.d. along an axis, in pixels, of how far pixels come when each in turn is exchanged with one within reach."""
    place, inside = list(range(side**2)), slice(4 * reach, -4 * reach)
    turns = [side * row + column for row in range(side - reach, reach, -1) for column in range(side - reach, reach, -1)]
    for step in np.random.default_rng(0).integers(-reach, reach, (sweeps, len(turns), 2)):
        for here, there in zip(turns, (turns + step @ [side, 1]).tolist(), strict=True):
            place[here], place[there] = place[there], place[here]
    moved = np.stack(np.divmod(np.reshape(place, (side, side)), side)) - np.indices((side, side))
    return float(np.sqrt((moved[:, inside, inside] ** 2).mean()))


def _glass(parameters: list[float], side: int) -> float:
    """Of three parameters the reach and the sweeps; the blur before and after, which is narrower, is left out."""
    _, reach, sweeps = parameters
    return _scattered(int(reach), int(sweeps)) / side


def _stains(most: float, side: int) -> float:
    """Counts only: the blots' sizes are pictures."""
    del side
    return (1 + most) / 2 / MARKS


def _bubble(parameters: list[float], side: int) -> float:
    """Radius uniform from 3 pixels, count uniform from 7: the same covered share."""
    radius, most = parameters
    covered = np.pi * (radius**3 - 27) / (3 * (radius - 3)) / side**2
    return (7 + most) / 2 * covered / _BUBBLE / MARKS


def _corner(share: float, side: int) -> float:
    del side
    return 1 - share / 1.5


def _characters(parameters: list[float], side: int) -> float:
    """Counts only: the font is another."""
    del side
    return (1 + parameters[0]) / 2 * (3 + parameters[1]) / 2 / MARKS


_OF_ALL: Equivalents = {
    "pixelate": ("pixelate", _pixelate),
    "jpeg_compression": ("jpeg", _jpeg),
    "defocus_blur": ("defocus", _defocus),
    "motion_blur": ("motion_blur", _motion),
    "zoom_blur": ("zoom_blur", _zoom),
    "gaussian_noise": ("noise", _as_is),
    "speckle_noise": ("speckle", _as_is),
    "impulse_noise": ("impulse", _as_is),
    "shot_noise": ("shot", _photons),
}
_MEDMNIST: Equivalents = _OF_ALL | {
    "gaussian_blur": ("blur", _gaussian),
    "brightness_up": ("brightness_up", _log),
    "brightness_down": ("brightness_down", partial(_log, sign=-1)),
    "contrast_up": ("contrast_up", _log),
    "contrast_down": ("contrast_down", partial(_log, sign=-1)),
    "gamma_corr_up": ("gamma_up", _log),
    "gamma_corr_down": ("gamma_down", partial(_log, sign=-1)),
    "saturate": ("saturate", _as_is),
    "stain_deposit": ("stain_deposit", _stains),
    "bubble": ("bubble", _bubble),
    "black_corner": ("black_corner", _corner),
    "characters": ("characters", _characters),
}
_HENDRYCKS: Equivalents = _OF_ALL | {
    "gaussian_blur": ("blur", _width),
    "brightness": ("brightness", _as_is),  # added to the largest colour, always up; ours is up or down with that s.d.
    "contrast": ("contrast_down", partial(_log, sign=-1)),  # about the mean of each colour
    "saturate": ("saturation", _saturation),
    "elastic_transform": ("elastic", _elastic),
    "glass_blur": ("glass", _glass),
}


# ---- tables


@cache
def benchmarks() -> dict[str, Benchmark]:
    """Every data set of which a table is here, by name."""
    medmnist, hendrycks = (
        json.loads(Path(__file__).with_name(f"{name}.json").read_text()) for name in ("medmnistc", "hendrycks")
    )
    found = {dataset: Benchmark("MedMNIST-C", 224, table, _MEDMNIST) for dataset, table in medmnist.items()}
    for dataset, name, side in (("cifar10c", "CIFAR-10-C", 32), ("imagenetc", "ImageNet-C", 224)):
        found[dataset] = Benchmark(name, side, hendrycks[dataset], _HENDRYCKS)
    return found


def doses(corruption: str, dataset: str) -> tuple[Variability, np.ndarray]:
    """Our variability for a published corruption, and the severities (5,) of its levels 1 to 5 on a data set, as published.

    Raises InputError where the benchmark has no such corruption or not on that data set.
    """
    known = benchmarks()
    if dataset not in known:
        raise InputError(f"'{dataset}' is in no published benchmark; choose from {', '.join(known)}")
    name, _, levels, equivalent = known[dataset]
    if corruption not in levels:
        weather = corruption in WEATHER and equivalent is _HENDRYCKS
        told = f"'{corruption}' is weather, to which no law here corresponds" if weather else f"no '{corruption}'"
        raise InputError(f"{name} on {dataset}: {told}; choose from {', '.join(levels)}")
    return CATALOGUE[equivalent[corruption][0]], np.array(_severities(corruption, dataset))


@cache
def _severities(corruption: str, dataset: str) -> tuple[float, ...]:
    _, side, levels, equivalent = benchmarks()[dataset]
    return tuple(float(equivalent[corruption][1](parameter, side)) for parameter in levels[corruption][:5])


def equivalent_level(corruption: str, dataset: str, severity: float) -> float:
    """Published level, 0 to 5 and between, that a severity of our variability stands for; beyond the fifth it is 5.

    Levels are read in order of their dose, so that a stronger dose never has a lower level; equal doses share their mean level.
    """
    _, published = doses(corruption, dataset)
    dose = np.sort(published)
    steps = np.unique(dose)
    level = [float(np.mean(np.flatnonzero(dose == step) + 1)) for step in steps]
    return float(np.interp(severity, np.array([0, *steps]), np.array([0, *level])))


def out_of_order() -> list[tuple[str, str, list[float]]]:
    """(data set, corruption, severities) of published tables whose dose does not grow from level to level."""
    found = []
    for dataset, benchmark in benchmarks().items():
        for corruption in benchmark.levels:
            published = doses(corruption, dataset)[1]
            if not (np.diff(published) > 0).all():
                found.append((dataset, corruption, [round(float(d), 4) for d in published]))
    return found
