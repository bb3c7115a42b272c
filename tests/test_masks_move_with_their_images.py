"""A mask stays on its structure under a shift, drawn pixels are of their class, and dense features lie on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import masks, variability
from rafmodel.encoder import dense_features, encoder
from rafmodel.variability import alter

LEVELS = jnp.asarray([0.0, 0.5, 1.0], jnp.float32)


def discs(n=4, side=32, dims=2):
    """Binary masks of a disc or ball in another place each."""
    centre = np.random.default_rng(0).uniform(0.3, 0.7, (n, dims)) * side
    far = sum(
        (
            np.arange(side).reshape([-1 if a == i else 1 for a in range(dims)])[None]
            - centre[:, i].reshape(n, *[1] * dims)
        )
        ** 2
        for i in range(dims)
    )
    return (far < (side / 5) ** 2).astype(np.uint8)


@pytest.mark.parametrize("name", ["rotation", "crop", "translation"])
def test_a_mask_moves_as_an_image_of_it_does(name):
    law, mask = variability.CATALOGUE[name], discs()
    levels = LEVELS * law.levels[2]
    image = jnp.asarray(mask[..., None], jnp.float32)
    seen = np.asarray(alter(jax.random.key(3), law, image, levels))[..., 0] > 0.5
    moved = np.asarray(masks.moved(jax.random.key(3), law, jnp.asarray(mask), 1, levels))
    np.testing.assert_array_equal(moved[0], mask)  # severity 0
    both = 2 * (seen & (moved == 1)).sum((2, 3)) / (seen.sum((2, 3)) + moved.sum((2, 3)))
    assert both.min() > 0.9  # they differ on the rim, where the image is interpolated
    left = 2 * (mask & moved[2]).sum((1, 2)) / (mask.sum((1, 2)) + moved[2].sum((1, 2)))
    assert left.min() < 0.9  # it did move


def test_shifts_of_intensity_leave_masks_where_they_are():
    mask = jnp.asarray(discs())
    for law in (variability.NOISE, variability.GAIN):
        found = masks.moved(jax.random.key(0), law, mask, 1, jnp.asarray(law.levels))
        np.testing.assert_array_equal(found, np.broadcast_to(mask, (5, *mask.shape)))


@pytest.mark.exhaustive
def test_a_mask_of_a_volume_moves_too():
    law, mask = variability.ROTATION, discs(n=2, side=14, dims=3)
    image = jnp.asarray(mask[..., None], jnp.float32)
    seen = np.asarray(alter(jax.random.key(1), law, image, jnp.asarray([40.0], jnp.float32)))[0, ..., 0] > 0.5
    moved = np.asarray(masks.moved(jax.random.key(1), law, jnp.asarray(mask), 1, jnp.asarray([40.0])))[0]
    assert 2 * (seen & (moved == 1)).sum() / (seen.sum() + moved.sum()) > 0.85
    assert not np.array_equal(moved, mask)


def test_drawn_pixels_are_of_their_class():
    mask = discs(n=5)
    mask[3], mask[4] = 0, 0
    mask[4, :2, 0] = 1  # fewer pixels than are drawn
    place, label = masks.drawn(jax.random.key(2), mask, 20)
    flat = mask.reshape(5, -1)
    assert label.shape == (5, 20)
    assert (label[3, :10] == -1).all()  # nothing to draw
    known = label >= 0
    np.testing.assert_array_equal(np.take_along_axis(flat, place, 1)[known], label[known])
    assert (label[0] == [1] * 10 + [0] * 10).all()
    assert len(set(place[0])) == 20
    assert set(place[4, :10]) == set(np.flatnonzero(flat[4]))  # both come again
    share = np.mean(
        [np.isin(np.flatnonzero(flat[0]), masks.drawn(jax.random.key(i), mask, 20)[0][0]) for i in range(200)], 0
    )
    expected = 10 / flat[0].sum()
    assert abs(share - expected).max() < 5 * np.sqrt(expected * (1 - expected) / 200)  # all pixels alike


@pytest.mark.parametrize("shape", [(13, 10, 3), pytest.param((9, 8, 7, 1), marks=pytest.mark.exhaustive)])
def test_features_of_pixels_are_those_of_dense_maps(shape):
    images = np.random.default_rng(4).uniform(size=(3, *shape)).astype(np.float32)
    network = encoder(jax.random.key(0), shape[-1], (4, 6), dims=len(shape) - 1)
    whole = dense_features(network, images).reshape(3, -1, 10)
    place = np.random.default_rng(5).integers(0, whole.shape[1], (3, 11))
    found = masks.pixel_features(network, images, place)
    np.testing.assert_allclose(found, np.take_along_axis(whole, place[..., None], 1), atol=1e-5)
    weight = np.random.default_rng(6).normal(size=(10, 2)).astype(np.float32)
    merged = masks.merged(network.maps(images), [weight[:4], weight[4:]], shape[:-1])
    np.testing.assert_allclose(np.reshape(merged, (3, -1, 2)), whole @ weight, rtol=1e-3, atol=1e-4)
