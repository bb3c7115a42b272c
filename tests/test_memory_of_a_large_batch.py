"""A large batch is altered in a few times its own memory, by the compiler, and in the same numbers as image by image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import variability as v
from rafmodel.variability.law import AT_ONCE

BATCH = (512, 128, 128, 1)
HUNGRY = ("noise", "shot", "low_dose", "elastic", "motion_blur", "bubble")  # fields, series, rays, bends, waves, marks


@pytest.mark.parametrize("name", HUNGRY)
def test_memory_is_at_most_six_times_the_batch(name):
    """Input, output and what lies between; the same for every law is printed by the benchmark."""
    law = v.CATALOGUE[name]
    images = jax.ShapeDtypeStruct(BATCH, jnp.float32)
    severities = jax.ShapeDtypeStruct((1,), jnp.float32)
    needed = v.alter.lower(jax.random.key(0), law, images, severities).compile().memory_analysis()
    total = needed.argument_size_in_bytes + needed.output_size_in_bytes + needed.temp_size_in_bytes
    assert total < 6 * 4 * np.prod(BATCH)


@pytest.mark.parametrize("n", [1, 3, 7, 12])
def test_images_taken_in_turn_are_as_each_alone(n):
    """Volumes of 1/3 of what is taken at once: a batch in one turn, in equal ones, and with a rest."""
    side = round((AT_ONCE / 4 / 3) ** (1 / 3))
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(n, side, side, side, 1)), jnp.float32)
    severities = jnp.asarray([0.0, 0.2], jnp.float32)
    key = jax.random.key(1)
    altered = v.alter(key, v.NOISE, images, severities)
    keys = jax.random.split(key, n)
    for i in range(n):
        alone = jnp.stack([v.NOISE.apply(keys[i], images[i], s) for s in severities])
        np.testing.assert_allclose(altered[:, i], alone, atol=1e-6)


def test_a_composition_of_a_large_batch_is_that_of_its_record():
    """Masks move with their own image where the batch is taken in turns."""
    n, side = 40, 128
    place = np.random.default_rng(0).integers(30, 98, (n, 2))
    masks = np.zeros((n, side, side), np.uint8)
    for mask, (row, column) in zip(masks, place, strict=True):
        mask[row - 10 : row + 10, column - 10 : column + 10] = 1
    steps = (v.Step(v.ROTATION, 40.0), v.Step(v.NOISE, 0.01))
    altered, moved, records = v.compose(
        jax.random.key(2), steps, jnp.asarray(masks[..., None], jnp.float32), jnp.asarray(masks)
    )
    bright = np.asarray(altered[..., 0]) > 0.5
    overlap = 2 * (bright & (np.asarray(moved) == 1)).sum((1, 2)) / (bright.sum((1, 2)) + np.asarray(moved).sum((1, 2)))
    assert overlap.min() > 0.9  # a border of one pixel of squares of 20
    one = jax.tree.map(lambda column: column[17], records[0].drawn)
    np.testing.assert_array_equal(moved[17], v.ROTATION.move(one, jnp.asarray(masks[17]), 40.0))
