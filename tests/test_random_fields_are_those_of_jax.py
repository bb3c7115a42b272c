"""Random fields made in one pass are bit for bit those of ``jax.random``; two fields from one pass are independent normals."""

import jax
import numpy as np
import pytest
from scipy import stats

from rafmodel.variability import law, threefry

KEY = jax.random.key(11)


@pytest.mark.parametrize("shape", [(7,), (12, 9, 1), (4, 5, 6, 2)])
def test_the_same_numbers(shape):
    for key in jax.random.split(KEY, 3):
        assert np.array_equal(threefry.uniform(key, shape), jax.random.uniform(key, shape, np.float32))
        assert np.array_equal(threefry.normal(key, shape), jax.random.normal(key, shape, np.float32))
        assert np.array_equal(law.normal_field(key, shape)["z"], jax.random.normal(key, shape, np.float32))
    many = jax.jit(jax.vmap(lambda key: threefry.normal(key, shape)))(jax.random.split(KEY, 3))
    assert np.array_equal(many[1], jax.random.normal(jax.random.split(KEY, 3)[1], shape, np.float32))


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
