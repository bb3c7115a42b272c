"""What is computed in another way on accelerators gives the same numbers and slopes, here by a CPU that takes itself for one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rafmodel import architectures, backend, encoder
from rafmodel import variability as v
from rafmodel.variability.turns import AT_ONCE

RNG = np.random.default_rng(0)


@pytest.fixture
def accelerated(monkeypatch):
    """A function that takes this machine for an accelerator from then on; what was compiled before is not met again."""

    def begin() -> None:
        monkeypatch.setattr(backend, "on_cpu", lambda: False)
        jax.clear_caches()

    yield begin
    jax.clear_caches()


@pytest.mark.parametrize("shape", [(3, 9, 12, 2), (2, 5, 6, 7, 1)], ids=["plane", "space"])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_and_their_slopes(accelerated, shape, stride):
    x = jnp.asarray(RNG.normal(size=shape), jnp.float32)
    weight = jnp.asarray(RNG.normal(size=(3 ** (len(shape) - 2) * shape[-1], 4)), jnp.float32)

    def answered():
        wave = jnp.cos(jnp.arange(4.0))
        return jax.value_and_grad(lambda x, w: (encoder.convolved(x, w, stride) ** 2 @ wave).sum(), (0, 1))(x, weight)

    (value, slopes), patches = answered(), str(jax.make_jaxpr(answered)())
    accelerated()
    (other, others), library = answered(), str(jax.make_jaxpr(answered)())
    assert "conv_general_dilated" not in patches
    assert "conv_general_dilated" in library
    np.testing.assert_allclose(other, value, rtol=1e-5)
    for one, two in zip(slopes, others, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["plain", "residual", "vit", "stn", "orbit"])
def test_encoders_and_their_slopes(accelerated, name):
    """Layers of 16 channels or multiples of them are compiled code on a CPU, those of 8 patches."""
    images = jnp.asarray(RNG.uniform(size=(24, 64, 64, 1)), jnp.float32)
    wanted = jnp.asarray(RNG.normal(size=(24, 16)), jnp.float32)
    graph, state = nnx.split(architectures.named(name)[0].build(jax.random.key(0), (64, 64, 1), (8, 16, 16)))

    def answered():
        def loss(state):
            return jnp.sum(wanted * nnx.merge(graph, state)(images))

        return jax.tree.leaves(jax.jit(jax.grad(loss))(state))

    slopes = answered()
    accelerated()
    largest = max(float(jnp.abs(x).max()) for x in slopes)
    for one, other in zip(slopes, answered(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5 * largest)


@pytest.mark.parametrize("name", ["bubble", "stain_deposit", "characters", "pen", "noise", "rotation"])
def test_altered_images(accelerated, name):
    """Some with marks put on image by image, all in turns on a CPU; edges of several marks end where each is e^-12."""
    images = jnp.asarray(RNG.uniform(size=(24, 80, 96, 1)), jnp.float32)
    assert images.nbytes * 2 > AT_ONCE
    law = v.CATALOGUE[name]
    levels = jnp.asarray(law.levels[1:3], jnp.float32)
    altered = v.alter(jax.random.key(0), law, images, levels)
    accelerated()
    np.testing.assert_allclose(v.alter(jax.random.key(0), law, images, levels), altered, atol=3e-5)


def test_many_large_images_are_encoded_together(accelerated):
    images = np.zeros((300, 224, 224, 1), np.float32)
    assert encoder.few(images) < 8
    accelerated()
    assert encoder.few(images) == 256
