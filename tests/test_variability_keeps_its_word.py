"""Each variability is the identity at 0, keeps shape, type and range, hurts more at each level, and follows its law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from rafmodel import variability as v
from rafmodel.errors import InputError

EVERY = pytest.mark.parametrize("law", v.VARIABILITIES, ids=lambda law: law.name)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def images():
    """24 smooth images with black, white and everything between."""
    rng = np.random.default_rng(0)
    fields = gaussian_filter(rng.normal(size=(24, 28, 28)), (0, 2, 2))
    low, high = fields.min((1, 2), keepdims=True), fields.max((1, 2), keepdims=True)
    stretched = np.clip(1.2 * (fields - low) / (high - low) - 0.1, 0, 1)
    return jnp.asarray(stretched[..., None], jnp.float32)


@EVERY
def test_severity_zero_is_bit_for_bit_the_input(law, images):
    altered = v.alter(KEY, law, images, jnp.asarray([0.0, law.levels[2]], jnp.float32))
    assert np.array_equal(altered[0], images)
    assert not np.array_equal(altered[1], images)


@EVERY
def test_shape_type_and_range_stay(law, images):
    for batch in (images, jnp.repeat(images[:, :20], 3, axis=-1)):
        altered = v.alter(KEY, law, batch, jnp.asarray(law.levels, jnp.float32))
        assert altered.shape == (5, *batch.shape)
        assert altered.dtype == jnp.float32
        assert float(altered.min()) >= 0
        assert float(altered.max()) <= 1 + 1e-6


@EVERY
def test_each_level_hurts_more(law, images):
    levels = jnp.asarray((0.0, *law.levels), jnp.float32)
    damage = np.abs(np.asarray(v.alter(KEY, law, images, levels) - images[None])).mean((1, 2, 3, 4))
    assert (np.diff(damage) > 0).all()


@EVERY
def test_same_key_same_image_and_other_key_another(law, images):
    level = jnp.asarray(law.levels[3:4], jnp.float32)
    once, again = v.alter(KEY, law, images, level), v.alter(KEY, law, images, level)
    other = v.alter(jax.random.key(4), law, images, level)
    assert np.array_equal(once, again)
    if law is not v.BLUR:  # a blur draws nothing
        assert not np.array_equal(once, other)


def many(law, image, severity, n=4000):
    """n draws of one image, (n, H, W)."""
    batch = jnp.broadcast_to(jnp.asarray(image, jnp.float32)[None, :, :, None], (n, *image.shape, 1))
    return np.asarray(v.alter(KEY, law, batch, jnp.asarray([severity], jnp.float32)))[0, ..., 0]


def test_noise_has_the_stated_sd():
    drawn = many(v.NOISE, np.full((16, 16), 0.5), 0.1, n=400)
    se = 0.1 / np.sqrt(2 * drawn.size)
    assert abs(drawn.std() - 0.1) < 4 * se


def test_gain_is_log_normal():
    ratio = np.log(many(v.GAIN, np.full((2, 2), 0.05), 0.4)[:, 0, 0] / 0.05)
    assert abs(ratio.mean()) < 4 * 0.4 / np.sqrt(len(ratio))
    assert abs(ratio.std() - 0.4) < 4 * 0.4 / np.sqrt(2 * len(ratio))


def test_gamma_moves_mid_tones_by_a_power_and_keeps_black_and_white():
    image = np.array([[0.0, 0.25], [0.5, 1.0]])
    drawn = many(v.GAMMA, image, 0.5)
    power = np.log(drawn[:, 0, 1]) / np.log(0.25)
    np.testing.assert_allclose(drawn[:, 1, 0], 0.5**power, rtol=1e-4)
    assert (drawn[:, 0, 0] == 0).all()
    np.testing.assert_allclose(drawn[:, 1, 1], 1, rtol=1e-6)
    assert abs(np.log(power).std() - 0.5) < 4 * 0.5 / np.sqrt(2 * len(power))


@pytest.mark.parametrize("order", [1, 2])
def test_rotation_decays_angular_harmonics(order):
    """Mean of cos(m (theta + a)), a ~ N(0, s^2), is cos(m theta) exp(-m^2 s^2 / 2)."""
    n, degrees = 64, 40.0
    y, x = np.meshgrid(*2 * [(2 * np.arange(n) + 1) / n - 1], indexing="ij")
    radius, theta = np.hypot(x, y), np.arctan2(y, x)
    image = 0.5 + 0.4 * np.cos(order * theta) * np.exp(-((radius - 0.5) ** 2) / 0.02)
    drawn = many(v.ROTATION, image, degrees, n=1500)
    ring = (np.abs(radius - 0.5) < 0.1)[None]
    wave = np.cos(order * theta)[None]
    amplitude = ((drawn - 0.5) * wave * ring).sum((1, 2)) / ((image - 0.5)[None] * wave * ring).sum()
    expected = np.exp(-(order**2) * np.deg2rad(degrees) ** 2 / 2)
    assert abs(amplitude.mean() - expected) < 4 * amplitude.std() / np.sqrt(len(amplitude)) + 0.01  # bilinear loss


def test_blur_is_scipys_gaussian_away_from_the_border():
    image = np.random.default_rng(1).uniform(size=(40, 40))
    ours = many(v.BLUR, image, 0.05, n=1)[0]
    np.testing.assert_allclose(ours[12:-12, 12:-12], gaussian_filter(image, 2.0, truncate=6)[12:-12, 12:-12], atol=1e-4)


def test_bias_field_is_a_random_quadratic_in_the_logarithm():
    n, s = 12, 0.3
    logs = np.log(many(v.BIAS, np.full((n, n), 0.05), s) / 0.05).reshape(-1, n * n)
    y, x = np.meshgrid(*2 * [(2 * np.arange(n) + 1) / n - 1], indexing="ij")
    basis = np.stack([x, y, x * y, 1.5 * x**2 - 0.5, 1.5 * y**2 - 0.5]).reshape(5, -1)
    coefficient, *_ = np.linalg.lstsq(basis.T, logs.T, rcond=None)
    np.testing.assert_allclose(coefficient.T @ basis, logs, atol=1e-4)
    se = s / np.sqrt(2 * len(logs))
    assert (np.abs(coefficient.std(1) - s) < 4.5 * se).all()  # five tests at once


def test_spike_is_one_cosine():
    n, s = 64, 0.2
    wave = many(v.SPIKE, np.full((n, n), 0.5), s, n=200) - 0.5
    assert abs(np.abs(wave).max() - s) < 0.01 * s
    np.testing.assert_allclose((wave**2).mean((1, 2)), s**2 / 2, rtol=0.12)  # 3-8 cycles are not whole ones
    power = np.abs(np.fft.fft2(wave * np.hanning(n)[:, None] * np.hanning(n))) ** 2
    cycles = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(n, 1 / n)]))
    inside = (cycles > 0.5) & (cycles < 10)
    assert (power[:, inside].sum(1) / power.sum((1, 2)) > 0.98).all()


def test_crop_magnifies_and_stays_inside():
    n, s = 32, 0.4
    ramp = np.broadcast_to((np.arange(n) + 0.5) / n, (n, n))
    drawn = many(v.CROP, ramp, s, n=500)
    slope = np.diff(drawn[:, n // 2], axis=1)[:, 2:-2]
    np.testing.assert_allclose(slope, (1 - s) / n, atol=1e-5)
    offset = drawn[:, n // 2, n // 2] - ramp[n // 2, n // 2] * (1 - s)
    assert offset.min() >= -1e-5
    assert offset.max() <= s + 1e-5
    assert abs(offset.mean() - s / 2) < 4 * s / np.sqrt(12 * len(offset))


def test_unknown_variability_is_named():
    with pytest.raises(InputError, match=r"'fog'.*choose from gain"):
        v.select(["noise", "fog"])
    assert v.select(["noise", "gain", "noise"]) == (v.NOISE, v.GAIN)
