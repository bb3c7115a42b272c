"""How often an artifact is there, from what detectors call: together, by mistake, and of a class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import own_laws
from rafmodel.detectors import FALSE, Worth, codes

pytestmark = pytest.mark.exhaustive


def prevalences(called: np.ndarray, crossed: list, label: np.ndarray | None = None, found=(200, 200)) -> np.ndarray:
    """Mean prevalence of two artifacts, and of a class, from what detectors call in images (N, 2), and find of 200 injected;
    calls being independent."""
    pattern, weight = own_laws.tallied(called, np.zeros(len(called), int), np.ones(len(called)), 1)
    hits = np.zeros((0, 1)) if label is None else np.array([[label.sum()]])
    never = np.full((len(pattern), len(own_laws._sets(2))), np.nan)
    told = pattern, weight, hits, found, np.full(2, 200.0), np.full(2, FALSE[0]), crossed, never
    return drawn(own_laws.Calls(*(jnp.asarray(x, float) for x in told)))


def drawn(calls: own_laws.Calls) -> np.ndarray:
    lanes = jax.tree.map(lambda x: x[None], calls)
    return own_laws.presence_chains(jax.random.key(0), lanes, n_groups=1, warmup=150, draws=150)[0, :, :, 0].mean(0)


def worth(alone: list, paired: list, false: float = FALSE[0]) -> Worth:
    """Of two detectors, from what both call in images with one artifact, with the other, with both."""
    none = np.zeros(2)
    return Worth(none, np.full(2, false), codes(np.array(alone)), codes(np.array([paired])), none, none)


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


def told(called: list, worth: Worth) -> np.ndarray:
    n = len(called)
    pattern, weight = own_laws.tallied(np.array(called), np.zeros(n, int), np.ones(n), 1)
    return drawn(own_laws.told_by(pattern, weight, np.zeros((0, 1)), worth))


def test_calls_that_come_together_are_one_artifact():
    """Half of the first artifact's images are called by both detectors and half by its own: never is it a second one, as seen
    when injected.  Where the second hides the first, images that only it is called in have both as often as not."""
    first, second = [[1, 1], [1, 0]] * 60, [[0, 1]] * 120
    seen = worth([first, second], [[1, 1]] * 64)
    found = told([[1, 1]] * 20 + [[1, 0]] * 20 + [[0, 0]] * 60, seen)
    assert found[0] == pytest.approx(0.4, abs=0.06)
    assert found[1] < 0.06


def test_calls_of_a_detector_that_hardly_errs_are_believed():
    """Two images of four hundred are called: by mistake, as likely as not, where that happens in one of two hundred."""
    called = [[1, 0]] * 2 + [[0, 0]] * 398
    first, second = [[1, 0]] * 120, [[0, 1]] * 120
    believed, doubted = (
        told(called, worth([first, second], [[1, 1]] * 64, false))[0] for false in (FALSE[-1], FALSE[0])
    )
    assert believed == pytest.approx(3 / 400, abs=0.003)
    assert doubted < 0.75 * believed


def test_subgroups_that_lie_far_apart_are_hardly_drawn_together():
    """Of 80 images each, 4 and 32 are called; both detectors find all and nothing else."""
    code = np.repeat([0, 1], 80)
    called = np.zeros((160, 2), int)
    called[:4, 0] = called[80:112, 0] = 1
    pattern, weight = own_laws.tallied(called, code, np.ones(160), 2)
    seen = worth([[[1, 0]] * 120, [[0, 1]] * 120], [[1, 1]] * 64, FALSE[-1])
    calls = jax.tree.map(lambda x: x[None], own_laws.told_by(pattern, weight, np.zeros((0, 2)), seen))
    share = own_laws.presence_chains(jax.random.key(0), calls, n_groups=2, warmup=200, draws=400)[0, :, 0].mean(0)
    np.testing.assert_allclose(share, [0.055, 0.396], atol=0.012)


def test_what_a_detector_misses_is_added():
    """It finds nine in ten, and calls 27 of a hundred images."""
    first, second = [[1, 0]] * 108 + [[0, 0]] * 12, [[0, 1]] * 120
    found = told([[1, 0]] * 27 + [[0, 0]] * 73, worth([first, second], [[1, 1]] * 64))
    assert found[0] == pytest.approx(0.3, abs=0.05)


def test_an_artifact_that_another_hides_is_still_counted():
    """Both are in half of the images at random; where the second is, the first is not called."""
    called = [[0, 0]] * 100 + [[1, 0]] * 100 + [[0, 1]] * 200
    first, second = [[1, 0]] * 128, [[0, 1]] * 128
    hidden = told(called, worth([first, second], [[0, 1]] * 64))
    np.testing.assert_allclose(hidden, 0.5, atol=0.1)
    shown = told(called, worth([first, second], [[1, 1]] * 64))
    assert shown[0] < 0.35


def test_how_often_a_pattern_is_to_be_seen():
    """By hand: 3 of 4 of the first artifact's images are called by its detector, two of these by both."""
    seen = worth([[[1, 1], [1, 1], [1, 0], [0, 1]], [[0, 1]] * 4], [[1, 1], [1, 0]])
    assert seen.tried == 4
    np.testing.assert_array_equal(seen.found, [3, 4])
    patterns, more, few = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), own_laws.DOUBT, FALSE[0]
    likely = own_laws.seen_together(patterns, seen)
    assert np.isnan(likely[:, 0]).all()
    often, seldom = (2 + 3 / 4) / 4, (1 + 3 / 4) / 2  # the second is called where the first is, and where it is not
    missed = ([0, 1] + more / 4 * np.array([1 - seldom, seldom])) / (1 + more / 4)
    called = ([1, 2] + more * 3 / 4 * np.array([1 - often, often])) / (3 + more * 3 / 4)
    first = np.r_[missed, called]
    second = np.array([1 - few, (4 + more * (1 - few)) / (4 + more), few, more * few / (4 + more)])
    both = np.array([more * few / 2, more * few / 2, 1 + more * (1 - few) / 2, 1 + more * (1 - few) / 2]) / (2 + more)
    np.testing.assert_allclose(likely[:, 1:], np.stack([first, second, both], 1))
    told = own_laws.told_by(patterns, np.ones((4, 1)), np.zeros((0, 1)), seen)
    np.testing.assert_allclose(told.crossed, [[0.75, 0], [0.75, 1]])
    np.testing.assert_allclose(told.found, [3, 4])
