"""How fast: images altered per second, optimiser steps, and theory against simulation.  Printed, never asserted."""

import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import cohort, design, variability
from rafmodel.airways import lung_airways
from rafmodel.encoder import encoder, layer_statistics
from rafmodel.phantoms import phantom
from rafmodel.predict import foresee, survey
from rafmodel.pretrain import pretrain
from rafmodel.simulate import deploy

IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(256, 28, 28, 1)), jnp.float32)


@pytest.mark.parametrize("law", variability.VARIABILITIES, ids=lambda law: law.name)
def test_images_altered(benchmark, law):
    """256 images at five levels."""
    levels = jnp.asarray(law.levels, jnp.float32)
    benchmark(lambda: jax.block_until_ready(variability.alter(jax.random.key(0), law, IMAGES, levels)))


def test_layer_statistics(benchmark):
    """256 images."""
    network = encoder(jax.random.key(0), 1, (16, 32, 64))
    benchmark(lambda: layer_statistics(network, IMAGES))


@pytest.mark.parametrize("name", ["supervised", "contrastive+noise", "masked"])
def test_pretraining(benchmark, name):
    """100 steps of batch 128, compiled beforehand."""
    source = cohort.part(phantom(jax.random.key(0)), "train")
    chosen = replace(design.select([name])[0], steps=100)
    benchmark.pedantic(lambda: pretrain(jax.random.key(1), source, chosen), rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("volumes", [False, True], ids=["2000 slices of 112", "64 volumes of 64"])
def test_lung_phantom(capsys, volumes):
    """Seconds on the clock and of the processor for a cohort of default size, compilation included."""
    clock, used = time.perf_counter(), time.process_time()
    lung_airways(jax.random.key(0), volumes=volumes)
    with capsys.disabled():
        print(f"\n{time.perf_counter() - clock:.1f} s, {time.process_time() - used:.1f} s of the processor")


def test_theory_against_simulation(capsys):
    """Seconds for L0 and for one seed of every design, compilation included, in one run."""
    images = phantom(jax.random.key(0))
    test = cohort.part(images, "test")
    start = time.perf_counter()
    for chosen in design.DESIGNS:
        deploy(jax.random.key(1), images, test, chosen, variability.VARIABILITIES)
    simulated = time.perf_counter() - start
    start = time.perf_counter()
    found = survey(jax.random.key(2), images, test, (16, 32, 64), variability.VARIABILITIES)
    for chosen in design.DESIGNS:
        foresee(jax.random.key(3), found, chosen)
    foreseen = time.perf_counter() - start
    with capsys.disabled():
        ratio = simulated / foreseen
        print(f"\nsimulation {simulated:.0f} s (one seed), prediction {foreseen:.1f} s, ratio {ratio:.0f}")
