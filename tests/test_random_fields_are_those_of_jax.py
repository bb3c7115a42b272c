"""Random fields are those of ``jax.random``, bit for bit where XLA makes them; two from one pass are independent normals."""

import jax
import numpy as np
import pytest
from scipy import special, stats

from rafmodel import native
from rafmodel.variability import law, threefry

KEY = jax.random.key(11)


@pytest.fixture
def by_xla(monkeypatch):
    monkeypatch.setattr(native, "alters", lambda *given: False)


@pytest.mark.parametrize("shape", [(7,), (12, 9, 1), (4, 5, 6, 2)])
def test_the_same_numbers(shape, by_xla):
    for key in jax.random.split(KEY, 3):
        assert np.array_equal(threefry.uniform(key, shape), jax.random.uniform(key, shape, np.float32))
        assert np.array_equal(threefry.normal(key, shape), jax.random.normal(key, shape, np.float32))
        assert np.array_equal(law.normal_field(key, shape)["z"], jax.random.normal(key, shape, np.float32))
    many = jax.jit(jax.vmap(lambda key: threefry.normal(key, shape)))(jax.random.split(KEY, 3))
    assert np.array_equal(many[1], jax.random.normal(jax.random.split(KEY, 3)[1], shape, np.float32))


def quantiles(words):
    """Standard normals where a word's first 23 bits lie between -1 and 1."""
    lowest = np.nextafter(np.float32(-1), np.float32(0))
    between = (words >> 9).astype(np.float32) * np.float32(2.0**-23)
    return np.sqrt(2) * special.erfinv(np.maximum(between * (np.float32(1) - lowest) + lowest, lowest).astype(float))


@pytest.mark.parametrize("shape", [(7,), (12, 9, 1), (4, 5, 6, 2), (1023,), (1024, 1), (3, 1025), (2**20,)], ids=str)
def test_machine_code_is_as_close_to_the_normal_quantiles_as_single_precision_allows(shape):
    """Farther out than any of a million draws, too."""
    assert native.alters()
    keys = jax.random.split(KEY, 2)
    for key, found in zip(keys, jax.jit(jax.vmap(lambda key: threefry.normal(key, shape)))(keys), strict=True):
        expected = quantiles(np.asarray(jax.random.bits(key, shape, "uint32")))
        np.testing.assert_allclose(found, expected, rtol=3e-7, atol=3e-7)


def test_two_fields_are_of_the_two_words_of_each_place():
    for shape in ((5,), (40, 30), (3, 1025)):
        x, y = threefry.words(KEY, shape)
        found = threefry.two_normals(KEY, shape)
        for field, word in zip(found, (x, y), strict=True):
            np.testing.assert_allclose(field, quantiles(np.asarray(word)), rtol=3e-7, atol=3e-7)


def test_two_fields_are_normal_and_know_nothing_of_each_other():
    z = np.asarray(threefry.two_normals(KEY, (300, 300)), float)
    n = z[0].size
    for field in z:
        assert stats.kstest(field.ravel(), "norm").pvalue > 1e-4
    assert abs(np.corrcoef(z[0].ravel(), z[1].ravel())[0, 1]) < 4 / n**0.5
    assert abs(np.corrcoef(z[0].ravel() ** 2, z[1].ravel() ** 2)[0, 1]) < 4 / n**0.5
    assert abs(np.corrcoef(z[0, :-1].ravel(), z[1, 1:].ravel())[0, 1]) < 4 / n**0.5
    assert z.dtype == float
    assert np.abs(z).max() < 6
