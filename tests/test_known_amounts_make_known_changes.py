"""Amounts added to an image in a known state lead to the state that is stated, and noise cut at black takes nothing along."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import amounts, detectors, state
from rafmodel import cohort as cohorts
from rafmodel.amounts import BLUR, FIELD, NAMES, NOISE, POSE
from rafmodel.detectors import SCORES
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


@pytest.mark.parametrize("level", [0.0, 0.02, 0.05, 0.3, 0.96, 1.0])
def test_means_are_those_before_noise_was_cut(level):
    """Noise of 0.05 lifts black to 0.02; a quarter of the image is grey, where its size can be seen."""
    rng = np.random.default_rng(0)
    image = np.full((40, SIDE, SIDE, 1), level)
    image[:, : SIDE // 4] = 0.5
    cut = np.clip(image + 0.05 * rng.normal(size=image.shape), 0, 1).astype(np.float32)
    found = np.asarray(state.unclipped(jnp.asarray(cut)))[:, SIDE // 2 : -8, 8:-8]
    raw = cut[:, SIDE // 2 : -8, 8:-8]
    se = raw.std() / np.sqrt(raw.size)
    assert abs(found.mean() - level) < 4 * se + 0.003  # where all is black no mean can lie below it
    if level in (0.0, 1.0):
        assert abs(raw.mean() - level) > 0.015


def test_a_blank_border_stays_blank():
    image = np.zeros((4, SIDE, SIDE, 1), np.float32)
    image[:, 20:44, 20:44] = 0.5 + 0.05 * np.random.default_rng(0).normal(size=(4, 24, 24, 1))
    found = np.asarray(state.unclipped(jnp.asarray(image)))
    np.testing.assert_allclose(found[:, :8], 0, atol=1e-4)


# ---- detectors


@pytest.fixture(scope="module")
def detected():
    """Noisy grey images, of which the first 40 % have a spike and the last 30 % a zipper; calls, and what detectors are worth."""
    noise = 0.03 * jax.random.normal(jax.random.key(0), (200, 32, 32, 1))
    images = jnp.clip(0.4 + 0.2 * scene()[:, ::2, ::2] + noise, 0, 1).astype(jnp.float32)
    for name, rows in (("spike", slice(0, 80)), ("zipper", slice(140, 200))):
        law = CATALOGUE[name]
        level = jnp.array([law.levels[detectors.LEVEL]], images.dtype)
        images = images.at[rows].set(alter(jax.random.key(1), law, images[rows], level)[0])
    reference = state.reference(images)
    found = detectors.worth(jax.random.key(2), reference, images, images)
    return detectors.scores(reference, images) > found.threshold, found


def test_thresholds_stay_where_many_images_have_an_artifact(detected):
    called, _ = detected
    spike, zipper = (called[:, SCORES.index(name)] for name in ("spike", "zipper"))
    assert spike[:80].mean() > 0.7
    assert spike[80:140].mean() < 0.05
    assert zipper[140:].mean() > 0.9
    assert zipper[:140].mean() < 0.05


TAILS = {  # scores of clean images that have a long tail, and one that has none
    "exponential": lambda key, n: np.asarray(jax.random.exponential(key, (n,))),
    "two in three at one value": lambda key, n: np.maximum(TAILS["exponential"](key, n) - np.log(3), 0),
    "normal": lambda key, n: np.asarray(jax.random.normal(key, (n,))),
}
WHOLE = np.stack([np.asarray(jax.random.normal(jax.random.key(k), (200,))) for k in (1, 2, 3)])  # of three levels


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_a_threshold_is_that_of_the_images_without_artifact(tail, share):
    """It leaves less than one and a half per cent of the clean images above it whether others are far above or not, and fewer
    than it could only where it then finds as many of the others."""
    clean = TAILS[tail](jax.random.key(0), 4000)
    injected = WHOLE + np.array([9.0, 12, 15])[:, None]
    own = np.where(np.arange(4000) < share * 4000, np.resize(injected[0], 4000), clean)
    found, false = detectors._threshold(own, injected, 0.1)
    assert (clean > found).mean() < 0.015
    assert (injected[0] <= found).mean() < 0.15
    assert (clean > 0.7 * found).mean() > 0.2 * false


@pytest.mark.parametrize(("gap", "expected"), [(40.0, detectors.FALSE[-1]), (6.0, detectors.FALSE[0])])
def test_a_threshold_is_as_high_as_it_may_be(gap, expected):
    """Scores of clean images are exponential, those of injected ones lie a gap above."""
    clean = TAILS["exponential"](jax.random.key(0), 4000)
    injected = WHOLE + gap + np.array([0.0, 1, 2])[:, None]
    found, false = detectors._threshold(np.r_[clean, injected[0]], injected, 0.1)
    assert false == expected
    assert found == pytest.approx(-np.log(false), rel=0.15)
    assert (injected[0] <= found).mean() == (0 if gap > 20 else pytest.approx(0.25, abs=0.15))


def test_a_long_tail_is_not_taken_for_an_artifact():
    """Clean images whose scores lie among those of injected ones: to ask again and again would call ever more of them."""
    clean = TAILS["exponential"](jax.random.key(0), 1000)
    found, _ = detectors._threshold(clean, WHOLE + np.array([4.0, 5, 6])[:, None], 0.01)
    assert (clean > found).mean() < 0.02


def test_scores_without_spread_have_a_threshold():
    assert detectors._threshold(np.zeros(40), WHOLE, 0.1) == pytest.approx((0.1, detectors.FALSE[0]))


def test_what_was_there_before_is_no_false_alarm_of_an_injection(detected):
    """Artifacts go into the images in which nothing is called."""
    called, found = detected
    crossed = detectors.decoded(found.alone, len(SCORES)).mean(1)  # (artifact, detector)
    assert found.tried == (~called).all(1).sum() < 100
    for i, j in ((0, 1), (1, 0)):
        assert crossed[j, i] < 0.1 < called[:, SCORES.index(SCORES[i])].mean()
    assert (found.found[:2] / found.tried > 0.6).all()
    np.testing.assert_array_equal(found.found, (crossed.diagonal() * found.tried).round())


def test_two_artifacts_are_called_together(detected):
    """Pairs in the order of combinations: spike and zipper hide nothing, characters hide rings, a black corner JPEG's blocks."""
    found = detected[1]
    pairs = list(combinations(SCORES, 2))
    called = detectors.decoded(found.paired, len(SCORES)).mean(1)
    assert called.shape == (len(pairs), len(SCORES))
    assert found.paired.shape[1] == min(found.tried, detectors.PAIRED)

    def share(one: str, other: str) -> tuple[float, float]:
        both = called[pairs.index((one, other))]
        return both[SCORES.index(one)], both[SCORES.index(other)]

    assert min(share("spike", "zipper")) > 0.9
    for hidden, other in (("rings", "characters"), ("jpeg", "black_corner")):
        left, seen = share(hidden, other)
        assert left < 0.3 < 0.9 < seen


def test_codes_are_told_apart_and_back():
    called = np.random.default_rng(0).integers(0, 2, (5, 7, len(SCORES)))
    code = detectors.codes(called)
    assert code.shape == (5, 7)
    np.testing.assert_array_equal(detectors.decoded(code, len(SCORES)), called)


LONG = {  # cohort -> detectors whose scores have a long tail on its untouched images
    "nih_cxr1000": ("occlusion", "field_of_view"),
    "sunnybrook_cmr": ("occlusion",),
    "adrenalmnist3d": ("zipper",),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", LONG)
def test_images_of_a_hospital_are_rarely_called(name):
    """Of images as they were published few are called by a detector that is believed, whatever its scores' tail."""
    images = state.grey_images(cohorts.load(name, size=32).image)[:400]
    reference = state.reference(images)
    worth = detectors.worth(jax.random.key(0), reference, images, images[:128])
    share = (detectors.scores(reference, images) > worth.threshold).mean(0)
    assert (share[worth.found >= worth.tried / 2] < 0.03).all()
    for long in LONG[name]:
        assert share[SCORES.index(long)] < 0.05, long


FOUND = {  # artifact -> smallest share of a hundred noisy scenes with its third level that is called
    "spike": 0.8,
    "zipper": 0.9,
    "ghosting": 0.9,
    "rings": 0.9,
    "jpeg": 0.9,
    "dropout": 0.9,
    "shadow": 0.6,
    "black_corner": 0.9,
    "field_of_view": 0.9,
    "occlusion": 0.9,
    "characters": 0.9,
}


@pytest.fixture(scope="module")
def plain():
    """Scores of two hundred scenes that differ in brightness and noise and have no artifact, and what detectors are worth."""
    keys = jax.random.split(jax.random.key(3))
    level = jnp.exp(0.1 * jax.random.normal(keys[0], (200, 1, 1, 1)))
    noise = 0.02 * jax.random.normal(keys[1], (200, SIDE, SIDE, 1))
    images = jnp.clip(level * (0.1 + scene()) + noise, 0, 1).astype(jnp.float32)
    reference = state.reference(images)
    worth = detectors.worth(jax.random.key(4), reference, images, images[:100])
    return detectors.scores(reference, images), worth


@pytest.mark.parametrize("name", SCORES)
def test_every_detector_calls_its_artifact_and_little_else(name, plain):
    own, worth = plain
    i = SCORES.index(name)
    assert (own[:, i] > worth.threshold[i]).mean() < 0.03
    assert worth.found[i] / worth.tried >= FOUND[name]
    assert worth.grows[i] > 0.5
    assert (np.diff(worth.curve[i]) > -0.02 * np.ptp(worth.curve[i])).all()


def test_scores_are_those_of_the_pictures_they_are_made_for():
    """Pictures of one artifact and nothing else, whose scores are known."""
    n = 48
    y, x = np.mgrid[:n, :n]
    flat = np.full((n, n), 0.5, np.float32)
    none, template = jnp.zeros(()), jnp.asarray(np.where(x < 24, 0.5, 0))[..., None]  # dark on the right
    nothing = state.Reference(none, none, template, none, none)

    def score(name: str, image: np.ndarray) -> float:
        return float(detectors._OF[name](nothing, jnp.asarray(image, jnp.float32), jnp.zeros(())))

    hidden = flat.copy()
    hidden[:12, :12] = 0
    assert score("occlusion", hidden) == pytest.approx(1 / 8)
    assert score("occlusion", hidden[:, ::-1]) == 0  # nothing of the mean image lies there
    assert score("occlusion", flat) == 0
    cut = flat.copy()
    cut[:, -10:] = 0
    assert score("field_of_view", cut) == 1
    assert score("field_of_view", hidden) == pytest.approx(12 / n)
    round_ = np.where(np.hypot(y - 23.5, x - 23.5) > 26, 0, 0.5)
    assert score("black_corner", round_) > 0.8
    framed = np.where((y < 10) | (x < 10), 0, 0.5)  # a field of view leaves a corner lit, a round one none
    assert score("field_of_view", framed) == 1
    assert score("black_corner", framed) == 0
    rng = np.random.default_rng(0)
    tune = rng.normal(size=n)[np.rint(np.hypot(y - 23.5, x - 23.5)).astype(int)]
    assert score("rings", 0.5 + 0.02 * tune) > 2
    assert abs(score("rings", 0.5 + 0.02 * rng.normal(size=(n, n)))) < 0.2
    stripes = 0.5 + 0.02 * rng.normal(size=n)[:, None] + 0 * x  # straight lines are not rings
    assert score("rings", stripes) < 1
    blocks = 0.5 + 0.1 * rng.normal(size=(6, 6)).repeat(8, 0).repeat(8, 1)
    assert score("jpeg", blocks) > 3
    assert score("jpeg", np.roll(blocks, 4, (0, 1))) < 0
    band = np.where(np.abs(x - 24) < 4, 0.1, 0.5)
    assert score("dropout", band) == pytest.approx(np.log(0.52 / 0.12), rel=1e-3)
    below = np.where((np.abs(x - 24) < 4) & (y >= 24), 0.1, 0.5)
    assert score("shadow", below) == pytest.approx(np.log(0.52 / 0.12), rel=1e-3)
    assert score("shadow", band) == pytest.approx(0, abs=1e-3)
    assert score("dropout", below) == pytest.approx(0, abs=1e-3)
    lines = np.fft.fft(rng.normal(size=(n, n)), axis=0)
    lines[np.rint(np.fft.fftfreq(n) * n).astype(int) % 3 == 0] *= 0.1
    assert score("ghosting", np.fft.ifft(lines, axis=0).real) == pytest.approx(1.5 * np.log(100), rel=0.1)
    assert score("characters", np.where(y < 12, 1, 0.5)) == pytest.approx(np.log(0.252))
