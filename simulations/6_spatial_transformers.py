"""Does re-aligning a feature map leave of trained encoders what theory says, and re-aligning the input nothing?

    python simulations/6_spatial_transformers.py --out derivations

Encoders are trained as in a study.  Images turn by drawn angles, and a transformer that knows the angle turns back the input, or
the map after the first or second layer.  First table: share of the energy of the first layer's answers that still varies after
its map was turned back, measured, and predicted (Eq. stn-residual) from the angular orders of the trained filters.  Second
table: variance of the final features over angles, as a share of their variance over images, for each place of the transformer.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from scipy.ndimage import gaussian_filter, rotate
from scipy.stats import norm

from rafmodel import cohort as cohorts
from rafmodel import design, learning, phantoms, pretrain
from rafmodel.encoder import Encoder, convolved
from rafmodel.errors import InputError
from rafmodel.files import atomically

NAMES = ("untrained", "contrastive+crop", "contrastive+rotation", "rotation", "supervised")
SIGMA, ANGLES = 0.5, 24  # s.d. of the angle in radians, and how many of its quantiles stand for it
SIDE = 29  # pixels: maps at stride 2 and 4 of this side share the image's centre


@dataclass(frozen=True)
class Options:
    """Where the images come from and how long encoders train."""

    cohort: Path | None = None
    """npz file of grey images of 28 or 32 pixels; default: the phantom"""
    steps: int = 400
    """training steps"""
    out: Path | None = None
    """folder for the tables, SPATIAL_TRANSFORMERS.md"""
    quick: bool = False
    """few steps: shows that the script runs"""


def smooth(images: np.ndarray) -> np.ndarray:
    """Images (n, SIDE, SIDE), smooth enough to be turned, in the encoder's units, fading to 0 before the border."""
    grid = np.arange(SIDE) - SIDE // 2
    radius = np.hypot(*np.meshgrid(grid, grid))
    window = np.clip((SIDE / 2 - 1 - radius) / 4, 0, 1)
    start = (images.shape[1] - 28) // 2
    cut = np.pad(images[:, start : start + 28, start : start + 28, 0], ((0, 0), (0, 1), (0, 1)), mode="edge")
    return gaussian_filter((cut - 0.5) / 0.25, (0, 1, 1)) * window


def turned(maps: np.ndarray, angle: float) -> np.ndarray:
    """Maps (n, side, side, ...) turned about their centre."""
    return rotate(maps, np.degrees(angle), axes=(2, 1), reshape=False, order=3)


def answers(kernels: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Linear answers (n, SIDE, SIDE, k) of 3x3 filters (3, 3, k) at every pixel."""
    shape = ("NHWC", "HWIO", "NHWC")
    found = jax.lax.conv_general_dilated(
        jnp.asarray(images, jnp.float32)[..., None],
        jnp.asarray(kernels, jnp.float32)[:, :, None, :],
        (1, 1),
        "SAME",
        dimension_numbers=shape,
    )
    return np.asarray(found)


def orders(kernels: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Share (k, 9) of each filter's answer that has angular order 0 to 8, for images of a radial spectrum."""
    spectrum = (np.abs(np.fft.fft2(images)) ** 2).mean(0)
    frequency = 2 * np.pi * np.fft.fftfreq(SIDE)
    wave = np.hypot(*np.meshgrid(frequency, frequency))
    edges = np.linspace(0, np.pi, 16)
    rings = [spectrum[(wave >= low) & (wave < high)].mean() for low, high in itertools.pairwise(edges)]
    omega, angle = (edges[1:] + edges[:-1]) / 2, 2 * np.pi * np.arange(64) / 64
    offset = np.arange(-1, 2)
    rows = np.exp(1j * omega[:, None, None] * np.sin(angle)[None, :, None] * offset)
    columns = np.exp(1j * omega[:, None, None] * np.cos(angle)[None, :, None] * offset)
    answer = np.einsum("wai,waj,ijk->wak", rows, columns, kernels)
    energy = np.abs(np.fft.fft(answer, axis=1) / 64) ** 2  # (frequency, order, filter)
    power = np.einsum("w,wmk->mk", np.array(rings) * omega, energy)
    both = power[:9] + np.where(np.arange(9)[:, None] > 0, power[-np.arange(9)], 0)  # orders m and −m
    return (both / both.sum(0)).T


def residual(kernels: np.ndarray, images: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Share (k,) of each filter's answers that varies over angles after the map was turned back."""
    aligned = np.stack([turned(answers(kernels, turned(images, a)), -a) for a in angles])
    inside = slice(6, -6)
    aligned = aligned[:, :, inside, inside]
    return 1 - (aligned.mean(0) ** 2).sum((0, 1, 2)) / (aligned**2).mean(0).sum((0, 1, 2))


def final(network: Encoder, images: np.ndarray, angle: float, place: str) -> np.ndarray:
    """Features (n, d) of images turned by an angle, turned back at a place: input, layer 1, layer 2, or nowhere."""
    x = turned(images, angle)
    x = jnp.asarray(turned(x, -angle) if place == "input" else x, jnp.float32)[..., None]
    for depth, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True), 1):
        x = jax.nn.relu(convolved(x, weight[...]) + bias[...][None, None, None])
        if place == f"layer {depth}":
            x = jnp.asarray(turned(np.asarray(x), -angle))
    return np.asarray(x.mean((1, 2)))


def varies(network: Encoder, images: np.ndarray, angles: np.ndarray, place: str) -> float:
    """Variance of the features over angles, by their variance over images."""
    found = np.stack([final(network, images, a, place) for a in angles])
    return float(found.var(0).sum(1).mean() / found.mean(0).var(0).sum())


def main(options: Options) -> None:
    """Train, measure, print and keep."""
    key = jax.random.key(0)
    cohort = cohorts.load(options.cohort) if options.cohort else phantoms.phantom(key)
    if cohort.image.shape[-1] != 1 or not 28 <= min(cohort.image.shape[1:3]) <= 32:
        raise InputError(f"{cohort.name}: images {cohort.image.shape[1:]}; pass grey images of 28 or 32 pixels")
    source = cohorts.part(cohort, "train")
    images = smooth(cohorts.pixels(cohorts.part(cohort, "test"))[: 32 if options.quick else 128])
    angles = SIGMA * norm.ppf((np.arange(ANGLES) + 0.5) / ANGLES)
    law = np.array([1 - np.abs(np.exp(1j * m * angles).mean()) ** 2 for m in range(9)])  # of these angles
    exact = np.asarray(learning.stn_residual(np.arange(9), SIGMA))
    first = ["| encoder | measured | predicted | correlation over filters |", "|---|---|---|---|"]
    second = ["| encoder | no transformer | input | after layer 1 | after layer 2 |", "|---|---|---|---|---|"]
    for one in design.select(NAMES, steps=20 if options.quick else options.steps):
        network = pretrain.pretrain(key, source, one)
        kernels = np.asarray(network.weights[0][...]).reshape(3, 3, -1)
        measured, share = residual(kernels, images, angles), orders(kernels, images)
        predicted = share @ np.where(exact > 0, law, 0)
        r = np.corrcoef(measured, predicted)[0, 1]
        first.append(f"| {one.name} | {measured.mean():.3f} | {predicted.mean():.3f} | {r:.2f} |")
        places = [varies(network, images, angles, place) for place in ("nowhere", "input", "layer 1", "layer 2")]
        second.append(f"| {one.name} | " + " | ".join(f"{v:.3f}" for v in places) + " |")
        print(first[-1], second[-1], sep="\n", flush=True)
    if options.out:
        command = f"`python simulations/6_spatial_transformers.py --out {options.out}`"
        told = f"Made by {command} on {cohort.name}: angles of s.d. {SIGMA} radians, {options.steps} steps.\n"
        energy = "## Share of the first layer's energy that still varies\n"
        variance = "\n## Variance of the final features over angles, by their variance over images\n"
        rows = ["# Spatial transformers on trained encoders\n", told, energy, *first, variance, *second, ""]
        atomically(options.out / "SPATIAL_TRANSFORMERS.md", lambda file: file.write("\n".join(rows).encode()))


if __name__ == "__main__":
    main(tyro.cli(Options))
