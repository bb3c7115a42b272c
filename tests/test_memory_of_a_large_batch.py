"""A large batch is altered a few images at a time, in at most six times its own memory and in the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import variability as v
from rafmodel.variability.turns import AT_ONCE

BATCH = (512, 128, 128, 1)
EIGHT_BITS = ("gain", "flip", "rotation", "noise", "impulse", "blur", "gamma", "spike", "bubble", "occlusion")
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


def test_each_step_of_a_composition_has_a_chance_of_its_own():
    """The same law three times: each step happens to other images and draws other numbers."""
    images = jnp.full((400, 4, 4, 1), 0.5, jnp.float32)
    _, _, records = v.compose(jax.random.key(3), (v.Step(v.GAIN, 0.1, 0.5),) * 3, images)
    happens = np.array([record.severity > 0 for record in records])
    z = np.array([record.drawn["z"] for record in records])
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert abs((happens[one] == happens[two]).mean() - 0.5) < 4 * 0.5 / 400**0.5
        assert abs(np.corrcoef(z[one], z[two])[0, 1]) < 4 / 400**0.5
    assert (np.abs(happens.mean(1) - 0.5) < 4 * 0.5 / 400**0.5).all()


def as_eight_bits(altered):
    return np.floor(255 * np.asarray(altered, float) + 0.5)


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_images_of_eight_bits_stay_so(name):
    """They become what their 255th parts become, rounded; those at severity 0 stay bit for bit."""
    law, key = v.CATALOGUE[name], jax.random.key(5)
    images = np.random.default_rng(0).integers(0, 256, (30, 24, 20, 1)).astype(np.uint8)
    levels = jnp.asarray([0.0, law.levels[2]], jnp.float32)
    altered = v.alter(key, law, jnp.asarray(images), levels)
    expected = as_eight_bits(v.alter(key, law, jnp.asarray(images / np.float32(255)), levels))
    assert altered.dtype == jnp.uint8
    assert np.array_equal(altered[0], images)
    assert not np.array_equal(altered[1], images)
    apart = np.abs(expected - np.asarray(altered, float))
    assert (apart > 0).mean() < 1e-3  # on the edge between two grey levels
    assert apart.max() <= 1


def test_a_composition_of_images_of_eight_bits():
    """Rounded after every step, and made again from the record."""
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 1)).astype(np.uint8)
    steps = (v.Step(v.GAIN, 0.3), v.Step(v.NOISE, 0.1, 0.5))
    altered, _, records = v.compose(jax.random.key(0), steps, jnp.asarray(images))
    again, _ = v.repeat(records, v.CATALOGUE, jnp.asarray(images))
    assert altered.dtype == again.dtype == jnp.uint8
    assert np.array_equal(altered, again)
    gain = np.exp(0.3 * np.asarray(records[0].drawn["z"], float))[:, None, None, None]
    bright = as_eight_bits(np.clip(images / 255 * gain, 0, 1)) / 255
    noisy = np.clip(bright + np.asarray(records[1].severity)[:, None, None, None] * records[1].drawn["z"], 0, 1)
    assert (np.abs(as_eight_bits(noisy) - altered) > 1).mean() == 0
    assert (as_eight_bits(noisy) != altered).mean() < 1e-3


def test_rows_that_do_not_divide_into_turns_are_each_altered_once():
    """Of 25 images of 256 x 256 at two severities two are taken at once: the last turn makes one again."""
    side = 256
    assert 2 * 2 * 4 * side**2 == AT_ONCE
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(25, side, side, 1)), jnp.float32)
    keys = jax.random.split(jax.random.key(1), 25)
    altered = v.alter(jax.random.key(1), v.GAIN, images, jnp.asarray([0.3, 0.1], jnp.float32))
    z = np.array([jax.random.normal(key, dtype=jnp.float32) for key in keys])
    for row, severity in zip(altered, (0.3, 0.1), strict=True):
        expected = np.clip(np.asarray(images) * np.exp(severity * z)[:, None, None, None], 0, 1)
        np.testing.assert_allclose(row, expected, rtol=1e-5)
