"""How often an artifact is there, from what detectors call: together, by mistake, and of a class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import own_laws

pytestmark = pytest.mark.exhaustive


def prevalences(called: np.ndarray, crossed: list, label: np.ndarray | None = None, found=(200, 200)) -> np.ndarray:
    """Mean prevalence of two artifacts, and of a class, from what detectors call in images (N, 2), and find of 200 injected."""
    pattern, weight = own_laws.tallied(called, np.zeros(len(called), int), np.ones(len(called)), 1)
    hits, tried = np.zeros((0, 1)) if label is None else np.array([[label.sum()]]), np.full(2, 200.0)
    calls = own_laws.Calls(*(jnp.asarray(x, float)[None] for x in (pattern, weight, hits, found, tried, crossed)))
    return own_laws.presence_chains(jax.random.key(0), calls, n_groups=1, warmup=150, draws=150)[0, :, :, 0].mean(0)


def test_a_detector_that_another_artifact_sets_off_is_not_believed():
    """Forty of a hundred images have a zipper; half of these set off the spike detector too: no spike is there."""
    called = np.array([[1, 1]] * 20 + [[0, 1]] * 20 + [[0, 0]] * 60)
    assert prevalences(called, [[0, 0], [0, 0]])[0] == pytest.approx(0.2, abs=0.06)
    assert prevalences(called, [[0, 0.5], [0, 0]])[0] < 0.08


def test_what_is_called_together_tells_which_artifact_it_was():
    """The first sets off both, the second its own and in half of them the other: always both is the first."""
    crossed = [[0, 0.5], [1, 0]]
    first, second = prevalences(np.array([[1, 1]] * 30 + [[0, 0]] * 70), crossed)
    assert first == pytest.approx(0.3, abs=0.06)
    assert second < 0.1
    first, second = prevalences(np.array([[1, 1]] * 15 + [[0, 1]] * 15 + [[0, 0]] * 70), crossed)
    assert first < 0.15
    assert second == pytest.approx(0.3, abs=0.06)


def test_what_is_hardly_ever_found_explains_no_call_of_another():
    called = np.array([[1, 0]] * 20 + [[0, 0]] * 80)
    assert prevalences(called, [[0, 1], [0, 0]], found=(200, 2))[0] == pytest.approx(0.2, abs=0.05)


def test_equal_calls_are_counted_together():
    called, code, weight = np.array([[1, 0], [0, 0], [1, 0], [1, 0]]), np.array([0, 0, 1, 0]), np.array([1, 0.5, 1, 2])
    pattern, total = own_laws.tallied(called, code, weight, 2)
    assert len(pattern) == len(total) == 32
    np.testing.assert_array_equal(pattern[:2], [[0, 0], [1, 0]])
    np.testing.assert_array_equal(total[:2], [[0.5, 0], [3, 1]])
    assert not total[2:].any()


def test_sets_of_artifacts_are_all_small_ones():
    sets = own_laws._sets(5)
    assert len(np.unique(sets, axis=0)) == len(sets) == 1 + 5 + 10 + 10
    assert sets.sum(1).max() == own_laws.TOGETHER


def test_a_class_is_there_where_it_is_called():
    called = np.zeros((100, 2))
    assert prevalences(called, [[0, 0], [0, 0]], np.arange(100) < 60)[2] == pytest.approx(0.6, abs=0.05)
