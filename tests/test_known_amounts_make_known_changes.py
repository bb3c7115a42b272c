"""Amounts added to an image in a known state lead to the state that is stated, and noise cut at black takes nothing along."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import amounts, injection, state
from rafmodel.amounts import BLUR, FIELD, NAMES, NOISE, POSE
from rafmodel.state import SCORES
from rafmodel.variability import CATALOGUE, alter

MIDDLE = np.log(0.3)
SIDE = 64
STATE = np.array([0.1, 0.15, 12.0, 0.06, -0.05, 0.12, 0, 0, 0.15, -0.1, 0.12, 0.1, -0.12])
AMOUNT = np.array([-0.15, -0.2, -8.0, 0.05, 0.07, -0.1, 0, 0, -0.1, 0.12, 0.1, -0.1, 0.08])


def scene() -> np.ndarray:
    """A smooth picture (1, H, W, 1) of unequal blobs far from the borders, on grey."""
    y, x = np.meshgrid(*[np.linspace(-1, 1, SIDE)] * 2, indexing="ij")
    blobs = [(-0.2, -0.1, 0.35, 0.15), (0.25, 0.2, 0.3, 0.12), (0.1, -0.3, 0.25, -0.1)]
    image = 0.3 + sum(h * np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * w**2)) for a, b, w, h in blobs)
    return image[None, ..., None].astype(np.float32)


def added(image, amount):
    return np.asarray(amounts.add(jax.random.key(0), jnp.asarray(MIDDLE), jnp.asarray(image), np.array(amount)[None]))


def only(values, *parts) -> np.ndarray:
    kept = np.zeros_like(values)
    for part in parts:
        kept[part] = values[part]
    return kept


@pytest.mark.parametrize(
    "parts", [(POSE,), (POSE, FIELD), (slice(0, 2),), (slice(0, 2), FIELD), (slice(0, 6), FIELD)], ids=str
)
def test_two_changes_come_to_the_state_that_is_stated(parts):
    """The image in one state, changed again, is the bare image in the state that ``made`` foretells.

    To the error of sampling twice in place of once, far below what the change does.
    """
    before, amount = only(STATE, *parts), only(AMOUNT, *parts)
    twice = added(added(scene(), before), amount)
    state_ = before + amounts.made(before[None], amount[None], SIDE)[0]
    once = added(scene(), np.where(np.isin(np.arange(len(NAMES)), [NOISE, BLUR]), 0, state_))
    inside = np.s_[:, 10:-10, 10:-10]
    off, moved = np.abs(twice - once)[inside].max(), np.abs(twice - added(scene(), before))[inside].max()
    assert off < 0.06 * moved
    plain = added(scene(), only(before + amount, *parts))  # states that would simply add
    assert off < np.abs(twice - plain)[inside].max() or parts == (slice(0, 2),)


def test_noise_goes_through_tones_and_blur_and_variances_add():
    """Immerkær's estimate of the noise of an altered flat image is the one that ``made`` foretells, to a few percent."""
    rng = np.random.default_rng(0)
    image = (0.4 + 0.02 * rng.normal(size=(64, SIDE, SIDE, 1))).astype(np.float32)
    before = np.zeros((64, len(NAMES)))
    before[:, NOISE] = found = np.asarray(state.log_noise(jnp.asarray(image)))
    for parts, values in (((0,), (0.3,)), ((0, NOISE), (-0.3, 0.03)), ((BLUR,), (1e-4,)), ((1, NOISE), (0.2, 0.01))):
        amount = np.zeros_like(before)
        amount[:, parts] = values
        altered = amounts.add(jax.random.key(1), jnp.asarray(np.log(0.4)), jnp.asarray(image), amount)
        change = np.asarray(state.log_noise(altered)) - found
        assert abs(change.mean()) > 0.1
        assert change.mean() == pytest.approx(amounts.made(before, amount, SIDE)[:, NOISE].mean(), abs=0.03)


def test_a_goal_is_reached():
    rng = np.random.default_rng(0)
    before, goal = STATE * rng.normal(size=(20, len(NAMES))), AMOUNT * rng.normal(size=(20, len(NAMES)))
    before[:, NOISE], goal[:, NOISE], goal[:, BLUR] = -3.5, 0.9, 1e-4 * rng.uniform(size=20)
    amount = amounts.towards(before, goal, SIDE)
    np.testing.assert_allclose(amounts.made(before, amount, SIDE), goal, atol=1e-5)
    still = amounts.made(before, amounts.towards(before, 0 * goal, SIDE), SIDE)
    np.testing.assert_allclose(still, 0, atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.02, 0.05, 0.3, 0.96, 1.0])
def test_means_are_those_before_noise_was_cut(level):
    """Noise of 0.05 lifts black to 0.02; a quarter of the image is grey, where its size can be seen."""
    rng = np.random.default_rng(0)
    image = np.full((40, SIDE, SIDE, 1), level)
    image[:, : SIDE // 4] = 0.5
    cut = np.clip(image + 0.05 * rng.normal(size=image.shape), 0, 1).astype(np.float32)
    found = np.asarray(state._unclipped(jnp.asarray(cut)))[:, SIDE // 2 : -8, 8:-8]
    raw = cut[:, SIDE // 2 : -8, 8:-8]
    se = raw.std() / np.sqrt(raw.size)
    assert abs(found.mean() - level) < 4 * se + 0.003  # where all is black no mean can lie below it
    if level in (0.0, 1.0):
        assert abs(raw.mean() - level) > 0.015


def test_a_blank_border_stays_blank():
    image = np.zeros((4, SIDE, SIDE, 1), np.float32)
    image[:, 20:44, 20:44] = 0.5 + 0.05 * np.random.default_rng(0).normal(size=(4, 24, 24, 1))
    found = np.asarray(state._unclipped(jnp.asarray(image)))
    np.testing.assert_allclose(found[:, :8], 0, atol=1e-4)


# ---- detectors


@pytest.fixture(scope="module")
def detected():
    """Noisy grey images, of which the first 40 % have a spike and the last 30 % a zipper; calls, and what detectors are worth."""
    noise = 0.03 * jax.random.normal(jax.random.key(0), (200, 32, 32, 1))
    images = jnp.clip(0.4 + 0.2 * scene()[:, ::2, ::2] + noise, 0, 1).astype(jnp.float32)
    for name, rows in (("spike", slice(0, 80)), ("zipper", slice(140, 200))):
        law = CATALOGUE[name]
        level = jnp.array([law.levels[injection.LEVEL]], images.dtype)
        images = images.at[rows].set(alter(jax.random.key(1), law, images[rows], level)[0])
    reference = state.reference(images)
    found = injection._detectors(jax.random.key(2), reference, images, images)
    return state.scores(reference, images) > found[0], found


def test_thresholds_stay_where_many_images_have_an_artifact(detected):
    called, _ = detected
    spike, zipper = (called[:, SCORES.index(name)] for name in ("spike", "zipper"))
    assert spike[:80].mean() > 0.7
    assert spike[80:140].mean() < 0.05
    assert zipper[140:].mean() > 0.9
    assert zipper[:140].mean() < 0.05


def test_what_was_there_before_is_no_false_alarm_of_an_injection(detected):
    called, (_, found, tried, crossed, *_) = detected
    for i, j in ((0, 1), (1, 0)):
        assert crossed[i, j] < 0.1 < called[:, SCORES.index(SCORES[i])].mean()
    np.testing.assert_array_equal(tried, (~called).sum(0))
    assert (found[:2] / tried[:2] > 0.6).all()
