"""The encoder is a plain convolutional network, and its tangent sketch keeps the inner products of its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rafmodel.encoder import encoder, features, tangents

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


def test_features_do_not_depend_on_the_chunk():
    network = encoder(jax.random.key(0), 2, (8, 16))
    whole = features(network, IMAGES)
    np.testing.assert_allclose(features(network, IMAGES, chunk=5), whole, rtol=1e-5, atol=1e-6)
    assert whole.shape == (12, 16)


def test_tangent_sketch_keeps_the_gradient_kernel():
    """Inner products of sketched gradients follow those of the full Jacobian, by autodiff, over images that differ."""
    rng = np.random.default_rng(1)
    waves = np.cos(rng.uniform(0.1, 1.2, (12, 1, 1)) * np.arange(28)[None, :, None] + rng.uniform(0, 6, (12, 1, 1)))
    images = jnp.asarray(0.5 + 0.45 * waves[..., None] * np.linspace(0.1, 1, 12)[:, None, None, None], jnp.float32)
    images = jnp.broadcast_to(images, (12, 28, 27, 2))
    network = encoder(jax.random.key(1), 2, (16, 32, 64))
    graph, state = nnx.split(network)
    jacobian = jax.jacobian(lambda s: nnx.merge(graph, s)(images))(state)
    rows = [np.asarray(j).reshape(12, 64, -1) for j in jax.tree.leaves(jacobian) if j.ndim == 4]  # weights
    exact = sum(np.einsum("nop,mop->nm", r, r) for r in rows)
    found = tangents(network, images)
    np.testing.assert_allclose(found[:, :64], features(network, images), rtol=1e-4, atol=1e-5)
    sketched = found[:, 64:] @ found[:, 64:].T
    assert np.corrcoef(exact[np.triu_indices(12)], sketched[np.triu_indices(12)])[0, 1] > 0.9
