"""The encoder is a plain convolutional network, and the statistics of its layers are what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel.encoder import AT_ONCE, convolved, encoder, features, layer_statistics

IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(12, 28, 27, 2)), jnp.float32)


def test_patches_times_matrix_is_a_convolution():
    network = encoder(jax.random.key(0), 2, (8, 16))
    x = (IMAGES - 0.5) / 0.25
    for weight in network.weights:
        kernel = weight[...].reshape(3, 3, x.shape[-1], -1)
        x = jax.lax.conv_general_dilated(
            x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jnp.maximum(x, 0)
    np.testing.assert_allclose(network(IMAGES), x.mean((1, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("space", [(8, 7), (5, 6, 3), (1, 2)], ids=str)
def test_the_gradient_of_a_convolution_is_that_of_lax(space, stride):
    """The rule is written by hand; XLA derives its own for the same convolution."""
    dims, rng = len(space), np.random.default_rng(3)
    x, weight = jnp.asarray(rng.normal(size=(3, *space, 2))), jnp.asarray(rng.normal(size=(3**dims * 2, 5)))
    letters = "DHW"[-dims:]
    layout = (f"N{letters}C", f"{letters}IO", f"N{letters}C")

    def peer(x, weight):
        kernel = weight.reshape(*(3,) * dims, 2, 5)
        return jax.lax.conv_general_dilated(x, kernel, (stride,) * dims, ((1, 1),) * dims, dimension_numbers=layout)

    found, back = jax.vjp(lambda x, weight: convolved(x, weight, stride), x, weight)
    expected, its_back = jax.vjp(peer, x, weight)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    slope = jnp.asarray(rng.normal(size=found.shape))
    for one, other in zip(back(slope), its_back(slope), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def test_features_do_not_depend_on_the_chunk():
    network = encoder(jax.random.key(0), 2, (8, 16))
    whole = features(network, IMAGES)
    np.testing.assert_allclose(features(network, IMAGES, chunk=5), whole, rtol=1e-5, atol=1e-6)
    assert whole.shape == (12, 16)


def test_many_images_in_turn_have_the_features_of_all_at_once():
    network = encoder(jax.random.key(0), 2, (8, 16))
    many = jnp.asarray(np.random.default_rng(1).uniform(size=(100, 100, 90, 2)), jnp.float32)
    assert 6 * AT_ONCE < many.nbytes < 7 * AT_ONCE  # seven turns, the last one padded
    np.testing.assert_allclose(features(network, many), network(many), rtol=1e-5, atol=1e-6)
    assert layer_statistics(network, many).shape == (100, 48)


def test_layer_statistics_are_first_and_second_moments_over_positions():
    network = encoder(jax.random.key(1), 2, (8, 16))
    first, last = network.layers(IMAGES)
    assert first.shape == (12, 14, 14, 8)
    assert last.shape == (12, 7, 7, 16)
    found = layer_statistics(network, IMAGES, chunk=5)
    np.testing.assert_allclose(found[:, :16], features(network, IMAGES), rtol=1e-5, atol=1e-6)
    by_hand = np.asarray(first).reshape(12, -1, 8)
    np.testing.assert_allclose(found[:, 16:24], by_hand.mean(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[:, 40:], (by_hand**2).mean(1), rtol=1e-4, atol=1e-5)
    assert found.shape == (12, 48)
