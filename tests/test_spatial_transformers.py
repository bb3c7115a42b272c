"""The experiment on spatial transformers: predicted residual of filters, and what each place of a transformer leaves."""

import jax
import numpy as np
import scripts
from scipy.stats import norm

from rafmodel import cohort
from rafmodel.encoder import encoder
from rafmodel.phantoms import phantom

transformers = scripts.load("simulations/6_spatial_transformers.py")

IMAGES = transformers.smooth(cohort.pixels(phantom(jax.random.key(0), n_patients=60))[:40])
ANGLES = 0.5 * norm.ppf((np.arange(12) + 0.5) / 12)
NETWORK = encoder(jax.random.key(1), 1, (16, 32))


def test_energy_left_follows_the_angular_orders_of_the_filters():
    kernels = np.asarray(NETWORK.weights[0][...]).reshape(3, 3, -1)
    law = np.array([1 - np.abs(np.exp(1j * m * ANGLES).mean()) ** 2 for m in range(9)])
    measured = transformers.residual(kernels, IMAGES, ANGLES)
    predicted = transformers.orders(kernels, IMAGES) @ law
    assert measured.max() > 0.2
    assert np.corrcoef(measured, predicted)[0, 1] > 0.95
    assert abs(measured.mean() - predicted.mean()) < 0.02
    flat = np.ones((3, 3, 1)) / 9  # order 0 alone, but for the corners of the square
    assert transformers.residual(flat, IMAGES, ANGLES)[0] < 0.01


def test_only_the_input_can_be_aligned_without_loss():
    left = {place: transformers.varies(NETWORK, IMAGES, ANGLES, place) for place in ("nowhere", "input", "layer 1")}
    assert left["input"] < 0.01 * left["nowhere"]
    assert left["layer 1"] > 10 * left["input"]
