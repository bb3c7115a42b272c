"""Injection adds what it says: composed movements and fields, noise that comes last, errors with their leaks, fair thresholds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from rafmodel import added, injection, own_variability, state
from rafmodel.added import Bare
from rafmodel.registration import warp
from rafmodel.state import SCORES, STATES
from rafmodel.variability import fitted
from rafmodel.variability.intensity import _legendre

NAMES = list(STATES)
GAIN, GAMMA, NOISE, BLUR = (NAMES.index(name) for name in ("gain", "gamma", "noise", "blur"))
POSE, FIELD = slice(2, 6), slice(8, 13)
N, SIDE = 64, 32


def drawn(seed: int, **spread: float) -> np.ndarray:
    """States or amounts (5, len(STATES)), normal; the others 0."""
    rng = np.random.default_rng(seed)
    values = np.zeros((5, len(NAMES)))
    for name, sd in spread.items():
        values[:, NAMES.index(name)] = sd * rng.normal(size=5)
    return values


def test_movements_and_fields_are_composed():
    """A second movement starts from the first, and carries the old field along: what both show, pixel by pixel."""
    moves = {"rotation": 20, "down": 0.1, "across": 0.1, "scale": 0.2}
    tones = {"gain": 0.3, "gamma": 0.3}
    field = dict.fromkeys(NAMES[8:], 0.3)
    before, amount = drawn(0, **moves, **tones, **field), drawn(1, **moves, **tones, **field)
    after = before + added.made(before, amount)
    places = jnp.asarray(np.random.default_rng(2).uniform(-1, 1, (2, 40)))

    def seen(x: np.ndarray, place: jax.Array, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the reference is read, and the log grey value there less mid-grey, of an image in state x of log level."""
        shown = x[GAIN] + np.exp(x[GAMMA]) * (level + x[FIELD] @ np.asarray(_legendre(place)))
        return np.asarray(warp(jnp.asarray(x[POSE]), place)), shown

    level = np.random.default_rng(3).normal(size=40)  # of the reference at the places that are read in the end
    for one, more, both in zip(before, amount, after, strict=True):
        through = warp(jnp.asarray(more[POSE]), places)
        first, grey = seen(one, through, level)
        grey = more[GAIN] + np.exp(more[GAMMA]) * (grey + more[FIELD] @ np.asarray(_legendre(places)))
        last, expected = seen(both, places, level)
        np.testing.assert_allclose(last, first, atol=1e-5)
        np.testing.assert_allclose(expected, grey, atol=1e-5)


def test_what_is_asked_for_is_made():
    """Amounts that are to lead to some change lead there, but for blur and noise, which ``made`` takes as they are."""
    spread = dict.fromkeys(NAMES, 0.1) | {"rotation": 15, "blur": 0.0}
    before, goal = drawn(4, **spread), drawn(5, **spread)
    np.testing.assert_allclose(added.made(before, injection._towards(before, goal)), goal, atol=1e-5)


@pytest.fixture(scope="module")
def dark():
    """A smooth dark scene and noisy images of it, (SIDE, SIDE) and (N, SIDE, SIDE, 1); the left quarter is blank in both."""
    x, y = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE))
    scene = 0.02 + 0.25 * np.exp(-(x**2 + y**2) / 0.2)
    return scene, seen(scene, 1)


def seen(scene: np.ndarray, seed: int) -> np.ndarray:
    noisy = np.clip(scene + 0.06 * np.random.default_rng(seed).normal(size=(N, SIDE, SIDE)), 0, 1)
    noisy[:, :, : SIDE // 4] = 0
    return noisy[..., None].astype(np.float32)


def test_noise_comes_last(dark):
    """A darker scene under the same noise is not a darker image: black is where it was, and noise as strong."""
    scene, images = dark
    amount = np.zeros((N, len(NAMES)))
    amount[:, GAIN] = -0.5
    found = np.asarray(added.add(jax.random.key(0), jnp.float32(-2.0), added.bare(jnp.asarray(images)), amount))
    expected = seen(scene * np.exp(-0.5), 2)
    edge = slice(SIDE // 4, -SIDE // 4), slice(SIDE // 2, -SIDE // 8)  # away from the blank part
    here, there, at_first = (x[:, *edge].mean() for x in (found, expected, images))
    assert abs(here - there) < 0.1 * (at_first - there)
    corner = slice(None, SIDE // 4), slice(-SIDE // 4, None)  # black but for noise, which lifts it as much as before
    here, there, at_first = (x[:, *corner].mean() for x in (found, expected, images))
    assert here - np.exp(-0.5) * at_first > 0.4 * (there - np.exp(-0.5) * at_first)
    assert here < 1.08 * there
    assert np.exp(state.log_noise(jnp.asarray(found))).mean() == pytest.approx(0.06, rel=0.1)


def test_what_is_blank_stays_blank(dark):
    """No noise is drawn where an image shows none."""
    _, images = dark
    found = added.bare(jnp.asarray(images))
    assert float(found.grain[:, :, 0].mean()) < 0.2 * 0.06
    assert float(found.image[:, :, 0].mean()) < 0.2 * 0.06


def test_cut_noise_is_taken_back():
    """The mean of max(0, t + z) by quadrature, and back."""
    z = np.linspace(-8, 8, 20001)
    weight = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    values = np.array([0.0, 0.01, 0.05, 0.2, 0.5])
    lifted = np.array([(np.maximum(0, t + 0.06 * z) * weight).sum() for t in values])
    np.testing.assert_allclose(added._uncut(jnp.asarray(lifted), jnp.asarray(0.06)), values, atol=1e-5)


def test_an_error_holds_noise_and_leaks():
    """Gain read with noise of s.d. 0.05 and a third of every turn's unit: one error holds both, and the response is its own."""
    rng, rounds, n = np.random.default_rng(0), 3, 4000
    own = np.ones(len(NAMES))
    step = injection.SHARE * own * rng.normal(size=(rounds, n, len(NAMES)))
    first = 0.05 * rng.normal(size=n)
    found = 0.9 * step[..., GAIN] + 0.3 * step[..., POSE.start] + 0.05 * rng.normal(size=(rounds, n)) - first
    rest = np.zeros_like(step)
    rest[..., GAIN] = found - step[..., GAIN]
    flat = [x.reshape(-1, len(NAMES)) for x in (rest, step)]
    error, response, doubt, _ = injection._of_subgroup(*flat, np.ones(rounds * n, bool), rounds)
    assert response[GAIN] == pytest.approx(0.9, abs=4 * doubt[GAIN])
    assert error[GAIN] == pytest.approx(np.hypot(0.05, 0.3), rel=0.05)


# ---- detectors


def scored(rng: np.random.Generator, shares: tuple[float, ...], n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N, len(SCORES)), skewed as the largest of many, ten higher in a share of each subgroup; subgroups."""
    code = np.repeat(np.arange(len(shares)), n)
    score = rng.gumbel(size=(len(code), len(SCORES)))
    lifted = rng.uniform(size=len(code)) < np.array(shares)[code]
    return score + 10 * lifted[:, None], code


def test_a_subgroup_full_of_artifacts_does_not_hide_them():
    """Where 45 % have one the upper half of scores is artifacts; the other subgroup tells what is usual."""
    score, code = scored(np.random.default_rng(0), (0.1, 0.45))
    called = score > injection._thresholds(score, code)[code]
    for g, share in enumerate((0.1, 0.45)):
        assert called[code == g].mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 400))


def test_skewed_scores_are_not_artifacts():
    score, code = scored(np.random.default_rng(1), (0.0, 0.0))
    assert (score > injection._thresholds(score, code)[code]).mean() < 0.01
    wider = np.where(code[:, None] == 1, 3 * score, score)  # a subgroup of more various images
    assert (wider > injection._thresholds(wider, code)[code]).mean() < 0.01


def recovery(found: int, usual: float) -> injection.Recovery:
    """Estimators that are all good, and detectors that call ``found`` of 50."""
    k, n = len(NAMES), len(SCORES)
    many = {name: np.ones(k) for name in ("undo", "slope", "correlation")}
    return injection.Recovery(
        whole=np.zeros(k, bool), bias=np.zeros(k), error=np.zeros((1, k)), response=np.ones((1, k)),
        response_error=np.zeros((1, k)), identified=np.ones(k, bool), threshold=np.zeros((1, n)), found=np.full((1, n), found),
        tried=np.full((1, n), 50), crossed=np.eye(n)[None], curve=np.tile(np.arange(5.0), (n, 1)), grows=np.ones(n),
        usual=np.full(n, usual), turning=1.0, **many,
    )  # fmt: skip


@pytest.mark.parametrize(("found", "usual", "words"), [(0, 0.86, "86%"), (24, 0.1, "24 of 50"), (25, 0.9, "")])
def test_a_blind_detector_tells_no_prevalence(found, usual, words):
    """Half of what was injected must be called; corners that are black anyway are named as the cause, of that artifact alone."""
    value = np.zeros((40, len(own_variability.QUANTITIES)))
    _, why = own_variability.reasons(recovery(found, usual), True, value)
    corner, spike = (why[SCORES.index(name)] for name in ("black_corner", "spike"))
    assert words in corner
    assert bool(corner) == bool(spike) == bool(words)
    assert "black" not in spike
    assert ("black as they are" in corner) == (bool(words) and usual >= own_variability.BLACK)


def test_a_detector_that_is_blind_in_one_subgroup_tells_no_prevalence():
    sound = recovery(50, 0.1)
    told = sound._replace(found=np.tile([[50], [5]], len(SCORES)), tried=np.full((2, len(SCORES)), 50))
    assert own_variability.blind(0, sound) == ""
    assert "5 of 50 injected ones in one subgroup" in own_variability.blind(0, told)


def test_a_prevalence_that_is_not_told_changes_nothing():
    """As a shift the artifact is left out, while one that is told is drawn as often as it was found."""
    shape = 1, fitted.DRAWS, len(own_variability.QUANTITIES), 2
    prevalence = np.full((1, fitted.DRAWS, len(own_variability.PRESENCES), 2), np.nan)
    prevalence[:, :, SCORES.index("zipper")] = 0.0, 0.3
    by = ("chain", "draw", "quantity", "group")
    laws = {name: (by, np.full(shape, np.nan)) for name in ("mean", "sd")}
    laws["prevalence"] = ("chain", "draw", "presence", "group"), prevalence
    names = {
        "quantity": list(own_variability.QUANTITIES),
        "presence": list(own_variability.PRESENCES),
        "group": ["A", "B"],
    }
    sets = dict(zip(fitted._COLUMNS, fitted._sets(xr.Dataset(laws, names), "B", "A").T, strict=True))
    assert (sets["spike prevalence"] == 0).all()
    np.testing.assert_allclose(sets["zipper prevalence"], 0.3, rtol=1e-5)


def test_bare_images_are_one_pytree():
    """Image and noise of each are handed on in chunks together."""
    found = added.bare(jnp.full((3, SIDE, SIDE, 1), 0.5, jnp.float32))
    assert isinstance(found, Bare)
    assert found.image.shape == found.grain.shape == (3, SIDE, SIDE, 1)
