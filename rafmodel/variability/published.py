"""Doses of a published benchmark, MedMNIST-C, in the units of our variabilities.

``medmnistc.json`` holds the parameters of its 21 corruptions at five levels for 12 data sets (medmnistc 0.1.0, corruption
registry, Apache-2.0; Di Salvo et al. 2024), which are made for images of SIDE pixels.  Three lists have a sixth entry, which the
benchmark does not use either.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rafmodel.errors import InputError
from rafmodel.variability import CATALOGUE
from rafmodel.variability.law import Variability
from rafmodel.variability.obstruction import MARKS

SIDE = 224
_TABLE = Path(__file__).with_name("medmnistc.json")
_BUBBLE = np.pi * (0.2**3 - 0.06**3) / (3 * 0.14) / 4  # share of an image that one of our bubbles covers, on average


def _gaussian(kernel: float) -> float:
    """S.d. that goes with a kernel size where none is given (OpenCV, torchvision)."""
    return (0.3 * ((kernel - 1) * 0.5 - 1) + 0.8) / SIDE


def _motion(parameters: list[float]) -> float:
    """Length of a line with the s.d. of a half Gaussian of s.d. sigma, cut at radius."""
    radius, sigma = parameters
    step = np.arange(radius + 1)
    weight = np.exp(-(step**2) / (2 * sigma**2))
    weight /= weight.sum()
    variance = (weight * step**2).sum() - (weight * step).sum() ** 2
    return float(np.sqrt(12 * variance)) / SIDE


def _jpeg(quality: float) -> float:
    """Factor on the quantisation tables (Independent JPEG Group)."""
    return 50 / quality if quality < 50 else 2 - quality / 50


def _bubble(parameters: list[float]) -> float:
    """Radius uniform from 3 pixels, count uniform from 7: the same covered share."""
    radius, most = parameters
    covered = np.pi * (radius**3 - 27) / (3 * (radius - 3)) / SIDE**2
    return (7 + most) / 2 * covered / _BUBBLE / MARKS


# corruption -> (our variability, parameter -> severity)
EQUIVALENT: dict[str, tuple[str, Callable[[Any], float]]] = {
    "pixelate": ("pixelate", lambda share: 1 / share - 1),
    "jpeg_compression": ("jpeg", _jpeg),
    "defocus_blur": ("defocus", lambda p: p[0] / SIDE),
    "motion_blur": ("motion_blur", _motion),
    "zoom_blur": ("zoom_blur", lambda p: p[2] - p[3] - 1),  # the last of a range that leaves out its stop
    "gaussian_blur": ("blur", _gaussian),
    "brightness_up": ("brightness_up", np.log),
    "brightness_down": ("brightness_down", lambda factor: -np.log(factor)),
    "contrast_up": ("contrast_up", np.log),
    "contrast_down": ("contrast_down", lambda factor: -np.log(factor)),
    "gamma_corr_up": ("gamma_up", np.log),
    "gamma_corr_down": ("gamma_down", lambda power: -np.log(power)),
    "saturate": ("saturate", float),
    "gaussian_noise": ("noise", float),
    "speckle_noise": ("speckle", float),
    "impulse_noise": ("impulse", float),
    "shot_noise": ("shot", lambda photons: photons**-0.5),
    "stain_deposit": (
        "stain_deposit",
        lambda most: (1 + most) / 2 / MARKS,
    ),  # counts only: the blots' sizes are pictures
    "bubble": ("bubble", _bubble),
    "black_corner": ("black_corner", lambda share: 1 - share / 1.5),
    "characters": ("characters", lambda p: (1 + p[0]) / 2 * (3 + p[1]) / 2 / MARKS),  # counts only: the font is another
}


def doses(corruption: str, dataset: str) -> tuple[Variability, np.ndarray]:
    """Our variability for a published corruption, and the severities (5,) of its levels 1 to 5 on a data set, as published.

    Raises InputError where the benchmark has no such corruption or not on that data set.
    """
    table = json.loads(_TABLE.read_text())
    if dataset not in table:
        raise InputError(f"'{dataset}' is not in MedMNIST-C; choose from {', '.join(table)}")
    if corruption not in table[dataset]:
        raise InputError(f"MedMNIST-C has no '{corruption}' on {dataset}; choose from {', '.join(table[dataset])}")
    name, severity = EQUIVALENT[corruption]
    return CATALOGUE[name], np.array([severity(p) for p in table[dataset][corruption][:5]], float)


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
    table = json.loads(_TABLE.read_text())
    found = []
    for dataset, corruptions in table.items():
        for corruption in corruptions:
            published = doses(corruption, dataset)[1]
            if not (np.diff(published) > 0).all():
                found.append((dataset, corruption, [round(float(d), 4) for d in published]))
    return found
