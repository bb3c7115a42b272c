"""Compiled code cuts and adds up patches as XLA does, whoever asks, and stays away where it does not fit."""

import logging
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import encoder, native

SHAPES = [(3, 8, 8, 1), (2, 7, 5, 6), (2, 1, 2, 3), (2, 2, 1, 3), (2, 9, 6, 7, 3), (2, 1, 3, 2, 2)]


def images(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.fixture
def by_xla(monkeypatch):
    """Runs something while XLA does it all."""

    def run(f, *arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr(native, "fits", lambda x: False)
            jax.clear_caches()  # of what was traced the other way
            found = f(*arguments, **options)
        jax.clear_caches()
        return found

    return run


@pytest.fixture(autouse=True)
def compiled():
    assert native.fits(images((1, 2, 2, 1)))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_patches_and_their_transpose_are_those_of_xla(shape, stride, by_xla):
    x = images(shape)
    expected = by_xla(encoder._patches, x, stride=stride)
    np.testing.assert_array_equal(native.patches(x, stride=stride), expected)
    slope = images(expected.shape, 1)
    found = native.unpatched(slope, x.shape, stride=stride)
    np.testing.assert_allclose(found, by_xla(encoder._unpatched, slope, x.shape, stride), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_gradient_of_a_convolution_takes_this_way(stride, by_xla):
    """In single precision, as encoders are trained."""
    x, weight = images((4, 9, 10, 5)), images((45, 7), 1)

    def slopes(x, weight):
        return jax.grad(lambda x, weight: jnp.sum(encoder.convolved(x, weight, stride) ** 2), (0, 1))(x, weight)

    assert "rafmodel_unpatched" in str(jax.make_jaxpr(slopes)(x, weight))
    assert "rafmodel" not in str(by_xla(jax.make_jaxpr(slopes), x, weight))
    for one, other in zip(slopes(x, weight), by_xla(slopes, x, weight), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_batches_of_batches_are_patches_of_all():
    x = images((3, 2, 6, 7, 4))
    every = jax.jit(jax.vmap(lambda x: native.patches(x, stride=2)))(x)
    np.testing.assert_array_equal(every.reshape(6, 3, 4, 36), native.patches(x.reshape(6, 6, 7, 4), stride=2))
    back = jax.jit(jax.vmap(lambda s: native.unpatched(s, (2, 6, 7, 4), stride=2)))(every)
    one_by_one = native.unpatched(every.reshape(6, 3, 4, 36), (6, 6, 7, 4), stride=2)
    np.testing.assert_array_equal(back.reshape(6, 6, 7, 4), one_by_one)


def test_many_threads_may_ask_for_large_batches_at_once():
    """Threads that XLA lends come late, or not at all, while others of their pool ask for help themselves."""

    @jax.jit
    def there_and_back(x):
        return jax.lax.fori_loop(
            0, 20, lambda _, x: native.unpatched(native.patches(x, stride=1), x.shape, stride=1) / 9, x
        )

    x = images((60, 16, 16, 8))
    assert x.size * 9 > 2**16  # help is asked for
    expected = there_and_back(x)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda i: there_and_back(x + 0 * i), range(80)):
            np.testing.assert_array_equal(found, expected)
    inside = np.asarray(expected)[:, 8, 8], np.asarray(x)[:, 8, 8]  # a pixel away from borders is in nine patches
    np.testing.assert_allclose(*inside, rtol=1e-4)


@pytest.mark.parametrize("kind", [jnp.float64, jnp.bfloat16, jnp.int32])
def test_other_numbers_are_left_to_xla(kind):
    assert not native.fits(jnp.ones((1, 2, 2, 1), kind))


def test_it_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("RAFMODEL_NATIVE", "0")
    assert not native.ready.__wrapped__()


@pytest.mark.parametrize("header", ["#define XLA_FFI_API_MAJOR 1\n", None], ids=["another version", "none"])
def test_another_interface_is_left_to_xla_and_said(header, monkeypatch, tmp_path, caplog):
    if header:
        place = tmp_path / "xla" / "ffi" / "api" / "c_api.h"
        place.parent.mkdir(parents=True)
        place.write_text(header)
    monkeypatch.setattr(jax.ffi, "include_dir", lambda: str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert not native.ready.__wrapped__()
    assert "convolutions are slower than they could be" in caplog.text
