"""A cohort made again from its own mean: as sharp as its anatomy, misread as the cohort is, and known where the cohort is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import amounts, injection, recovery, remade, sharpening, state
from rafmodel.amounts import BLUR, GAIN, GAMMA, NAMES, NOISE
from rafmodel.detectors import Worth
from rafmodel.recovery import FEW, Recovery
from rafmodel.registration import aligned, register
from rafmodel.variability.resolution import gaussian_blur

SIDE = 32
MIDDLE = np.float32(-1.2)
CODE = np.repeat([0, 1], 80)


def anatomy() -> np.ndarray:
    """Unequal discs with edges of a pixel or two, one of them white, on dark grey, (H, W, 1)."""
    y, x = np.meshgrid(*[np.linspace(-1, 1, SIDE)] * 2, indexing="ij")
    discs = [(0.0, -0.1, 0.6, 0.45), (0.3, 0.35, 0.25, 0.2), (0.25, -0.35, 0.2, -0.2), (-0.2, 0.0, 0.2, 0.5)]
    edges = (h / (1 + np.exp((np.hypot(y - a, 1.2 * (x - b)) - r) * 20)) for a, b, r, h in discs)
    return (0.05 + 0.02 * x + sum(edges))[..., None].astype(np.float32)


def scene() -> np.ndarray:
    """A smooth picture (1, H, W, 1) of unequal blobs far from the borders, on grey."""
    y, x = np.meshgrid(*[np.linspace(-1, 1, SIDE)] * 2, indexing="ij")
    blobs = [(-0.2, -0.1, 0.35, 0.15), (0.25, 0.2, 0.3, 0.12), (0.1, -0.3, 0.25, -0.1)]
    image = 0.3 + sum(h * np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * w**2)) for a, b, w, h in blobs)
    return image[None, ..., None].astype(np.float32)


def known() -> np.ndarray:
    """States (160, states) of two subgroups: the second is darker, bent, turned, larger, softer and noisier."""
    rng = np.random.default_rng(3)
    value, second = np.zeros((160, len(NAMES))), CODE == 1
    spread = {"gain": 0.08, "gamma": 0.1, "rotation": 3.0, "down": 0.02, "across": 0.02, "scale": 0.04, "field_x": 0.06}
    apart = {
        "gain": -0.2,
        "gamma": 0.25,
        "rotation": 3.0,
        "down": 0.03,
        "across": -0.03,
        "scale": 0.08,
        "field_x": 0.08,
    }
    for name, s in spread.items():
        value[:, NAMES.index(name)] = s * rng.normal(size=160) + apart[name] * second
    value[:, NOISE] = np.log(0.03) + 0.6 * second + 0.1 * rng.normal(size=160)
    value[:, BLUR] = np.where(second, 0.0024, 0.0012)
    return value


@pytest.fixture(scope="module")
def made():
    """Images in known states, in the order of the law, and those states."""
    value = known()
    amount = np.where(np.arange(len(NAMES)) == NOISE, np.exp(value), value)
    bare = jnp.broadcast_to(anatomy(), (160, SIDE, SIDE, 1))
    return jnp.asarray(amounts.add(jax.random.key(2), jnp.asarray(MIDDLE), bare, amount)), value


@pytest.fixture(scope="module")
def found(made):
    """The reference, and what comes back, with and without making the cohort again."""
    reference = state.reference(made[0])
    corrected = injection.recover(jax.random.key(0), reference, made[0], CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(injection, "corrected", lambda key, reference, found, *rest: found)
        plain = injection.recover(jax.random.key(0), reference, made[0], CODE)
    return reference, corrected, plain


# ---- the anatomy behind a mean image


@pytest.mark.parametrize("width", [0.03, 0.05])
def test_a_blur_is_undone(width):
    image = anatomy()
    soft = gaussian_blur({}, jnp.asarray(image), jnp.float32(width))
    back = np.asarray(sharpening.without_blur(soft, width**2))
    inside = np.s_[4:-4, 4:-4]
    assert np.abs(back - image)[inside].max() < 0.35 * np.abs(np.asarray(soft) - image)[inside].max()
    np.testing.assert_allclose(sharpening.without_blur(soft, 0.0), soft, atol=1e-6)


def test_images_tell_how_much_blur_their_mean_has(made, found):
    """1.8 by the law, and the mean's own: images in register are not quite so."""
    image, lacking = sharpening.sharpened(found[0], made[0])
    assert lacking in sharpening.VARIANCES
    assert 0.0012 <= lacking <= 0.0024
    true_image = jnp.asarray(anatomy(), found[0].template.dtype)[None]
    pose, _ = register(found[0].template, true_image)
    true = np.asarray(aligned(true_image, pose))[0, 3:-3, 3:-3, 0].ravel()

    def off(picture: np.ndarray) -> float:
        """Root mean square of what is left once gain and gamma are taken back."""
        log = np.log(np.asarray(picture)[3:-3, 3:-3, 0]).ravel()
        slope, level = np.polyfit(np.log(true), log, 1)
        return float(np.sqrt(np.mean((np.exp((log - level) / slope) - true) ** 2)))

    assert off(image) < 0.6 * off(found[0].template)


def test_sharp_images_are_left_as_they_are():
    value = np.where(np.arange(len(NAMES)) == BLUR, 0.0, known())
    amount = np.where(np.arange(len(NAMES)) == NOISE, np.exp(value), value)
    soft = gaussian_blur({}, jnp.asarray(anatomy()), jnp.float32(0.06))  # nothing in it is finer than that
    bare = jnp.broadcast_to(soft, (160, SIDE, SIDE, 1))
    images = jnp.asarray(amounts.add(jax.random.key(2), jnp.asarray(MIDDLE), bare, amount))
    assert sharpening.sharpened(state.reference(images), images)[1] <= 8e-4


def test_where_white_was_cut_does_not_darken_the_anatomy():
    """Half of the images are so bright that a part of them is cut; brought back to the others' tones that part is darker."""
    value = np.zeros((160, len(NAMES)))
    value[:, GAIN] = np.where(CODE == 1, 0.6, -0.1)
    amount = np.where(np.arange(len(NAMES)) == NOISE, 0.01, value)
    bare = jnp.broadcast_to(anatomy(), (160, SIDE, SIDE, 1))
    images = jnp.asarray(amounts.add(jax.random.key(2), jnp.asarray(MIDDLE), bare, amount))
    reference = state.reference(images)
    whole, _ = sharpening.sharpened(reference, images)
    log, mean = (np.log(np.asarray(x)[..., 0]).ravel() for x in (whole, reference.template))
    true = np.log(anatomy()[..., 0]).ravel()
    bright = true > np.quantile(true, 0.97)
    off = [np.mean((one - np.polyval(np.polyfit(true[~bright], one[~bright], 1), true))[bright]) for one in (log, mean)]
    assert off[1] < -0.03  # of the mean
    assert abs(off[0]) < 0.5 * abs(off[1])


# ---- what is misread


def test_differences_between_subgroups_are_read_as_they_are(made, found):
    """Of what is misread between them a third is left, and no more than is said to be doubtful."""
    images, value = made
    reference, corrected, _ = found
    read = recovery.measured(reference, corrected, images)
    which = [NAMES.index(name) for name in ("gamma", "scale", "field_x")]
    assert corrected.identified[which].all()
    each = (read, corrected.misread[CODE], value)
    apart, wrong, true = ((x[CODE == 1].mean(0) - x[CODE == 0].mean(0))[which] for x in each)
    spread = value[CODE == 1].std(0)[which]
    before, after = (apart - true) / spread, (apart - wrong - true) / spread
    assert np.square(after).sum() < np.square(before).sum() / 3
    doubt = np.hypot(*corrected.misread_error)[which] / spread
    assert (np.abs(after) < 3 * np.hypot(doubt, 0.03)).all()


def test_no_spread_is_said_to_be_known_better_than_any_was(found):
    _, corrected, plain = found
    assert (corrected.response_error >= plain.response_error).all()
    assert (corrected.response_error >= remade.AT_BEST).all()


@pytest.mark.exhaustive
def test_less_comes_back_of_what_was_there_before_noise_was_cut_at_black(monkeypatch):
    """Dark, noisy images show less of their own gains than of gains added to them; bright, clean ones show the same."""
    rng = np.random.default_rng(5)
    code = np.repeat([0, 1], 80)
    scale, noise = np.array([1.0, 0.6])[code], np.array([0.01, 0.09])[code]
    gain = 0.15 * rng.normal(size=160)
    lit = (0.03 + 1.5 * np.abs(scene() - 0.3)) * (scale * np.exp(gain))[:, None, None, None]
    images = np.clip(lit + noise[:, None, None, None] * rng.normal(size=lit.shape), 0, 1)
    images = jnp.asarray(images, jnp.float32)
    reference = state.reference(images)
    found = injection.recover(jax.random.key(0), reference, images, code)
    monkeypatch.setattr(injection, "corrected", lambda key, reference, found, *rest: found)
    plain = injection.recover(jax.random.key(0), reference, images, code)
    which = GAIN
    assert found.identified[which]
    ratio = found.response[:, which] / plain.response[:, which]
    assert ratio[0] == pytest.approx(1, abs=0.04)
    assert ratio[1] < 0.9
    measured = recovery.measured(reference, found, images)
    read = np.array([measured[code == g, NOISE].mean() for g in (0, 1)])
    off, before = abs(read - found.misread[:, NOISE] - np.log([0.01, 0.09])), abs(read - np.log([0.01, 0.09]))
    assert off[1] < before[1]
    assert off[0] < before[0] + 0.01
    value = measured[:, which]
    for g in (0, 1):
        true = np.polyfit(gain[code == g], value[code == g], 1)[0]
        off, before = (abs(np.log(one.response[g, which] / true)) for one in (found, plain))
        assert off < before
    assert (found.response_error >= plain.response_error).all()


# ---- the parts


def sound(n_groups: int) -> Recovery:
    """Estimators that are all good."""
    k = len(NAMES)
    one, none = np.ones((n_groups, k)), np.zeros((n_groups, k))
    worth = Worth(*(np.zeros(1) for _ in Worth._fields))
    ones = {name: np.ones(k) for name in ("undo", "slope", "correlation")}
    nothing = dict.fromkeys(("error", "response_error", "misread", "misread_error"), none)
    whole, identified = np.zeros(k, bool), np.ones(k, bool)
    told = {"whole": whole, "bias": np.zeros(k), "identified": identified, "detectors": worth, "turning": 1.0}
    return Recovery(response=one, **ones, **nothing, **told)


def test_what_is_misread_is_told_beside_the_largest_subgroup_and_noise_as_it_is():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 3], [30, 90, 40])
    off = np.array([0.3, -0.2, np.nan, 0.5])[group][None, :, None] + 0.1 * rng.normal(size=(3, 160, len(NAMES)))
    off[0] += 5.0  # of the first round
    nothing = np.zeros((3, 160, len(NAMES)))
    tried = remade._Tried(nothing, nothing, nothing, nothing, off)
    wrong, doubt = remade._misread(tried, sound(4), group, np.bincount(group))
    free = [i for i in range(len(NAMES)) if i != NOISE]
    np.testing.assert_allclose(wrong[:, free], np.array([0.5, 0.0, 0.0, 0.7])[:, None] * np.ones(len(free)), atol=0.06)
    np.testing.assert_allclose(wrong[:, NOISE], [0.3, -0.2, 0.0, 0.5], atol=0.06)
    assert (doubt[1, free] == 0).all()
    chance = 0.1 / np.sqrt(60)
    np.testing.assert_allclose(doubt[0, free], np.hypot(chance, wrong[0, free] / 3), rtol=0.1)
    assert (doubt[1, NOISE] > 0.06).all()


def test_the_cohort_is_made_again_without_errors_and_where_nothing_is_identified_at_the_centre():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 500)
    value = rng.normal(size=(1000, len(NAMES))) * 0.1 + group[:, None]
    told = sound(2)._replace(error=np.full((2, len(NAMES)), 0.06), identified=np.arange(len(NAMES)) != GAMMA)
    kept = remade._without_errors(told, value, group)
    for g in (0, 1):
        np.testing.assert_allclose(kept[group == g].mean(0), g, atol=0.02)
        assert kept[group == g, GAIN].std() == pytest.approx(0.08, rel=0.1)
        assert kept[group == g, GAMMA].std() < 1e-9


def test_amounts_are_added_to_images_of_every_subgroup():
    """Of a thousand images 256, and those of three small subgroups are all among them, up to so many."""
    code = np.repeat([0, 1, 2, 3], [900, 60, 30, 10])
    rows = injection._some(jax.random.key(0), code)
    count = np.bincount(code[rows], minlength=4)
    assert len(set(rows.tolist())) == len(rows) == injection.IMAGES
    assert count[3] == 10
    assert (count[1:3] >= FEW).all()
    assert count[0] > 150
    one = np.zeros(1000, int)
    np.testing.assert_array_equal(
        injection._some(jax.random.key(0), one),
        np.asarray(jax.random.permutation(jax.random.key(0), 1000))[: injection.IMAGES],
    )


def test_noise_is_not_taken_for_misread_where_the_anatomy_shows_more():
    made_, still = np.log(np.full(3, 0.02)), np.log([0.001, 0.015, 0.05])
    seen = 0.5 * np.log(np.exp(2 * made_) + np.exp(2 * still)) + 0.1
    found = remade._dimmed(made_, seen, still)
    assert found[0] == pytest.approx(0.1, abs=0.01)
    assert found[1] == pytest.approx(0.1, abs=0.06)
    assert found[2] == 0
