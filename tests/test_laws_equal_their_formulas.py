"""Each law with its chance fixed, against what numpy, scipy, Pillow, colorsys or a count by hand says of it."""

import colorsys
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, special, stats
from scipy.spatial.transform import Rotation

from rafmodel import variability as v
from rafmodel.variability import geometry, noise, obstruction
from rafmodel.variability.law import grid, sample
from rafmodel.variability.projections import discs, filtered_back, projected

RNG = np.random.default_rng(2)
N = 16
IMAGE = ndimage.gaussian_filter(RNG.uniform(size=(N, N)), 1.5, mode="wrap")
IMAGE = 0.2 + 0.6 * (IMAGE - IMAGE.min()) / np.ptp(IMAGE)
ROWS, COLUMNS = np.meshgrid(*2 * [(2 * np.arange(N) + 1) / N - 1], indexing="ij")
LAWS = {name: jax.jit(law.law) for name, law in v.CATALOGUE.items()}


def alter(name, severity, image=IMAGE, **drawn):
    """The image (H, W) or (D, H, W), or with colours (H, W, 3), altered with the stated chance."""
    image = np.asarray(image, float)
    grey = image.shape[-1] != 3
    drawn = {key: jnp.asarray(value, float) for key, value in drawn.items()}
    altered = np.asarray(LAWS[name](drawn, jnp.asarray(image[..., None] if grey else image), jnp.asarray(severity)))
    return altered[..., 0] if grey else altered


def same(found, expected, **tolerance):
    np.testing.assert_allclose(found, expected, **{"atol": 1e-6, **tolerance})


def column(*values):
    """An image of one row with these grey values."""
    return np.array([values])


# ---- grey values


def test_grey_values_by_hand():
    dark, double = column(0.0, 0.1, 0.25, 0.5, 0.8), np.log(2)
    same(alter("gain", double, dark, z=1), column(0, 0.2, 0.5, 1, 1))
    same(alter("gain", double, dark, z=-1), dark / 2)
    same(alter("gamma", double, dark, z=1), dark**2)
    same(alter("gamma", double, dark, z=-1), np.sqrt(dark))
    same(alter("gamma_up", double, dark), dark**2)
    same(alter("gamma_down", double, dark), np.sqrt(dark))
    same(alter("brightness", 0.3, dark, z=1), column(0.3, 0.4, 0.55, 0.8, 1))
    same(alter("brightness_up", double, dark), column(0, 0.2, 0.5, 1, 1))
    same(alter("brightness_down", double, dark), dark / 2)
    same(alter("contrast_down", double, column(0.2, 0.6)), column(0.3, 0.5))
    same(alter("contrast_up", double, column(0.3, 0.5)), column(0.2, 0.6))
    same(alter("window", 0.1, column(0.6, 0.9), z=[1, 0]), column(0.5, 0.8))
    same(alter("window", double, column(0.6, 0.9), z=[0, 1]), column(0.55, 0.7))
    same(alter("inversion", 0.25, column(0.0, 0.4), u=0.2), column(1.0, 0.6))
    same(alter("inversion", 0.25, column(0.0, 0.4), u=0.3), column(0.0, 0.4))


def test_bias_field_is_made_of_legendre_polynomials():
    one, two = (lambda x, n=n: special.eval_legendre(n, x) for n in (1, 2))
    expected = [one(COLUMNS), one(ROWS), one(COLUMNS) * one(ROWS), two(COLUMNS), two(ROWS)]
    for z, field in zip(np.eye(5), expected, strict=True):
        same(np.log(alter("bias", 0.1, np.full((N, N), 0.3), z=z) / 0.3), 0.1 * field)
    places = np.meshgrid(*[(2 * np.arange(n) + 1) / n - 1 for n in (4, 5, 6)], indexing="ij")
    z, y, x = places
    expected = [x, y, z, x * y, x * z, y * z, *(two(p) for p in (x, y, z))]
    for chosen, field in zip(np.eye(9), expected, strict=True):
        same(np.log(alter("bias", 0.1, np.full((4, 5, 6), 0.3), z=chosen) / 0.3), 0.1 * field)


def test_colours_against_colorsys():
    colours = RNG.uniform(0.1, 0.9, size=(4, 5, 3))
    hsv = np.array([colorsys.rgb_to_hsv(*c) for c in colours.reshape(-1, 3)])

    def back(h, s, value):
        columns = np.broadcast_arrays(h, s, value)
        return np.array([colorsys.hsv_to_rgb(*c) for c in zip(*columns, strict=True)]).reshape(colours.shape)

    h, s, value = hsv.T
    same(alter("hue", 0.2, colours, z=1), back((h + 0.2) % 1, s, value))
    same(alter("saturation", 0.3, colours, z=-1), back(h, s * np.exp(-0.3), value))
    same(alter("saturate", 0.2, colours), back(h, np.minimum(s + 0.2, 1), value))


def test_stains_are_scaled_one_by_one():
    """A pixel of one dye of density a has colour exp(−a S); Ruifrok and Johnston's table as scikit-image prints it."""
    dyes = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    for i, dye in enumerate(dyes):
        pixel = np.exp(-0.8 * dye)[None, None]
        same(alter("stain", np.log(2), pixel, z=np.eye(3)[i]), np.exp(-1.6 * dye)[None, None])
        same(alter("stain", np.log(2), pixel, z=np.eye(3)[i - 1]), pixel)


# ---- places


def moved(name, position, severity, **drawn):
    drawn = {key: jnp.asarray(value, float) for key, value in drawn.items()}
    return np.asarray(v.CATALOGUE[name].warp(drawn, jnp.asarray(position), jnp.asarray(severity)))


def test_positions_by_hand_and_turns_by_scipy():
    plane, space = RNG.uniform(-1, 1, (2, 3, 4)), RNG.uniform(-1, 1, (3, 2, 3, 4))
    same(moved("rotation", plane, 30.0, z=2), np.tensordot([[0.5, -(3**0.5) / 2], [3**0.5 / 2, 0.5]], plane, 1))
    axis = np.array([1.0, 2.0, -2.0]) / 3
    turned = Rotation.from_rotvec(np.deg2rad(50) * axis).apply(space.reshape(3, -1).T).T.reshape(space.shape)
    same(moved("rotation", space, 25.0, z=2, axis=axis), turned)
    for position in (plane, space):
        dims = len(position)
        last, beside = np.eye(dims)[-1], (slice(None), *(None,) * dims)
        same(moved("flip", position, 0.5, u=0.4), position * (1 - 2 * last[beside]))
        same(moved("flip", position, 0.5, u=0.6), position)
        values = RNG.uniform(size=position.shape[1:])
        same(alter("flip", 0.5, values, u=0.4), values[..., ::-1])
        same(alter("flip", 0.5, values, u=0.6), values)
        vector = np.arange(1, dims + 1) / 10
        same(moved("translation", position, 0.2, direction=vector), position + 0.4 * vector[beside])
        same(moved("scale", position, 0.5, z=2), position / np.e)
        same(moved("shear", position, 0.5, z=3), position + 1.5 * last[beside] * position[:1])
        same(moved("crop", position, 0.25, u=vector), 0.75 * position + 0.25 * vector[beside])
        knots = np.broadcast_to(vector.reshape(-1, *(1,) * dims), (dims, *(geometry.KNOTS,) * dims))
        same(moved("elastic", position, 0.1, z=knots), position + 0.2 * vector[beside])


def test_masks_take_the_class_of_the_nearest_pixel():
    """Classes 0, 5 and 9 stay classes; against scipy's spline of order 0, of a turn and an enlargement."""
    classes = np.array([0, 5, 9])[RNG.integers(0, 3, (9, 12))].astype(np.uint8)
    rows, columns = np.meshgrid(*[(2 * np.arange(n) + 1) / n - 1 for n in classes.shape], indexing="ij")
    for name, severity, z in (("rotation", 30.0, 0.7), ("scale", 0.3, 1.0)):
        where = moved(name, np.stack([rows, columns]), severity, z=z)
        index = [(x + 1) * n / 2 - 0.5 for x, n in zip(where, classes.shape, strict=True)]
        expected = ndimage.map_coordinates(classes, index, order=0, mode="nearest")
        found = v.CATALOGUE[name].move({"z": jnp.asarray(z)}, jnp.asarray(classes), severity)
        assert found.dtype == jnp.uint8
        assert np.array_equal(found, expected)
        assert np.array_equal(v.CATALOGUE[name].move({"z": jnp.asarray(z)}, jnp.asarray(classes), 0.0), classes)


def test_directions_and_places_are_drawn_as_they_say():
    """Directions are unit vectors, of which every component has mean 0 and mean square 1/dims; places fill [-1, 1]."""
    keys = jax.random.split(jax.random.key(8), 4000)
    for shape in ((6, 6, 1), (4, 4, 4, 1)):
        dims = len(shape) - 1
        vector = np.asarray(jax.vmap(lambda key, s=shape: v.CATALOGUE["translation"].draw(key, s)["direction"])(keys))
        same(np.linalg.norm(vector, axis=1), 1)
        assert (np.abs(vector.mean(0)) < 4 / (dims * 4000) ** 0.5).all()
        assert (np.abs((vector**2).mean(0) - 1 / dims) < 4 * (vector**2).std(0) / 4000**0.5).all()
        for name in ("crop", "occlusion"):
            u = np.asarray(jax.vmap(lambda key, s=shape, law=v.CATALOGUE[name]: law.draw(key, s)["u"])(keys))
            assert all(stats.kstest(column, "uniform", (-1, 2)).pvalue > 1e-4 for column in u.T)


def test_bends_are_cubic_between_the_knots():
    """A ramp over the knots is a ramp over the pixels away from the border, with a slope of pixels per knot."""
    n = 40
    position = np.asarray(grid(jnp.zeros((n, n, 1))))
    ramp = np.zeros((2, 5, 5))
    ramp[1] = np.arange(5)[None]
    field = moved("elastic", position, 0.5, z=ramp) - position
    same(field[0], 0)
    same(np.diff(field[1], axis=1)[:, 15:24], 5 / n, atol=1e-5)


def test_values_between_pixels_are_scipys():
    for shape in ((6, 9), (4, 5, 6)):
        image, places = RNG.uniform(size=shape), RNG.uniform(-1.3, 1.3, (len(shape), 50))
        index = [(p + 1) * n / 2 - 0.5 for p, n in zip(places, shape, strict=True)]
        expected = ndimage.map_coordinates(image, index, order=1, mode="nearest")
        same(sample(jnp.asarray(image[..., None]), jnp.asarray(places))[..., 0], expected)


# ---- noise


def test_noise_by_hand():
    z = RNG.normal(size=(2, N, N))
    fields = z[..., None]
    same(alter("noise", 0.1, z=fields[0]), np.clip(IMAGE + 0.1 * z[0], 0, 1))
    same(alter("speckle", 0.3, z=fields[0]), np.clip(IMAGE * (1 + 0.3 * z[0]), 0, 1))
    same(alter("rician", 0.1, z=fields), np.clip(np.abs(IMAGE + 0.1 * z[0] + 0.1j * z[1]), 0, 1))
    same(alter("noise", 5.0, z=np.full((N, N, 1), 1.0)), 1)
    same(alter("noise", 5.0, z=np.full((N, N, 1), -1.0)), 0)


@pytest.mark.parametrize("mean", [0.02, 0.5, 3.0, 7.9, 8.1, 20.0, 300.0])
def test_counts_are_the_quantiles_that_scipy_has(mean):
    """Of 100,000 evenly spaced quantiles at most 7 in 10,000 are off, by one (Giles' series stops at 1/mean)."""
    level = (np.arange(100_000) + 0.5) / 100_000
    found = np.asarray(noise._counts(jnp.asarray(stats.norm.ppf(level)), jnp.full(level.shape, mean)))
    expected = stats.poisson.ppf(level, mean)
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < (7e-4 if mean > noise.FEW else 1e-5)


def test_impulses_are_as_often_white_as_black_whatever_the_share():
    u = np.asarray(noise.IMPULSE.draw(jax.random.key(0), (200, 200, 1))["u"])
    for share in (0.1, 0.5):
        hit = alter("impulse", share, np.full((200, 200), 0.3), u=u)
        struck = hit != 0.3
        assert np.array_equal(struck, u[..., 0] < share)
        assert abs(hit[struck].mean() - 0.5) < 4 * 0.5 / struck.sum() ** 0.5


def test_few_photons_add_what_the_filtered_back_projection_makes_of_their_noise():
    """Air, where every path has variance severity² of its logarithm, and a slice of any volume is as an image."""
    z = RNG.normal(size=(3, noise.VIEWS, N))
    image = np.stack([np.zeros((N, N)), np.full((N, N), 0.5), IMAGE])
    back = jax.jit(lambda sinogram: filtered_back(sinogram, (N, N)))
    path = np.asarray(jax.jit(lambda plane: projected(plane, noise.VIEWS))(jnp.asarray(image[1]))) * 4 / N
    found = alter("low_dose", 0.01, image, z=z)
    same(found[0], np.clip(0.01 * np.asarray(back(jnp.asarray(z[0]))), 0, 1))
    same(found[1], np.clip(0.5 + 0.01 * np.asarray(back(jnp.asarray(z[1] * np.exp(path / 2)))), 0, 1))
    same(alter("low_dose", 0.01, IMAGE, z=z[2:]), found[2])


# ---- k-space


def by_lines(image, factor):
    """Lines of k-space along the first axis times a factor, as a matrix of plane waves."""
    n = len(image)
    k = np.arange(n)
    k = np.where(k < (n + 1) // 2, k, k - n)
    waves = np.exp(2j * np.pi * np.outer(np.arange(n), k) / n)
    return np.clip(np.abs(np.tensordot(waves @ np.diag(factor(k)) @ waves.conj().T / n, image, 1)), 0, 1)


def test_motion_between_lines_of_k_space():
    """Moves at three quarters of the time shift the last quarter of the lines; the middle line stays where it is."""
    late = {"u": [0.75, 2, 2], "z": [1.5, 9, 9]}
    shifted = by_lines(IMAGE, lambda k: np.exp(-2j * np.pi * k / N * np.where(k / N + 0.5 > 0.75, 0.05 * N * 1.5, 0)))
    same(alter("patient_motion", 0.05, **late), shifted)
    early = {"u": [0.9, 0.25, 2], "z": [1.0, 3.0, 9]}  # drawn times are sorted, sizes are not

    def factor(k):
        time = k / N + 0.5
        place = np.where(time > 0.25, 1.0, 0) + np.where(time > 0.9, 3.0, 0) - 1.0
        return np.exp(-2j * np.pi * k / N * 0.05 * N * place)

    same(alter("patient_motion", 0.05, **early), by_lines(IMAGE, factor))
    volume = np.stack([IMAGE, IMAGE.T], -1)
    same(alter("patient_motion", 0.05, volume, **late)[..., 0], shifted)


@pytest.mark.parametrize(("u", "period"), [(0.1, 2), (0.3, 3), (0.6, 4), (0.99, 5)])
def test_ghosts_of_weakened_lines(u, period):
    expected = by_lines(IMAGE, lambda k: np.where((k % period == 0) & (k != 0), 0.3, 1))
    same(alter("ghosting", 0.7, u=u), expected)


def test_ringing_is_a_cut_of_the_fourier_transform():
    """Lines up to (1 − s) of the largest stay, the next one in part: with 16 pixels and s = 5/8 lines to 3, none beyond."""
    k = np.abs(np.fft.fftfreq(N) * N)
    kept = np.clip(0.5 - (k - 3.0), 0, 1)  # (1 − 5/8) 8 = 3
    spectrum = np.fft.fft2(IMAGE) * kept[:, None] * kept[None]
    same(alter("gibbs", 5 / 8), np.clip(np.fft.ifft2(spectrum).real, 0, 1))
    flat = np.broadcast_to(IMAGE[None], (6, N, N))
    same(alter("gibbs", 5 / 8, flat)[3], np.clip(np.fft.ifft2(spectrum).real, 0, 1))


def test_a_spike_has_its_cycles_direction_and_phase():
    n = 32
    wave = alter("spike", 0.2, np.full((n, n), 0.5), u=[0.4, 0.0, 0.0]) - 0.5  # 5 cycles along the last axis
    same(np.abs(np.fft.fft2(wave))[0, 5], 0.1 * n**2)
    same(np.abs(np.fft.fft2(alter("spike", 0.2, np.full((n, n), 0.5), u=[0.4, 0.5, 0.0])))[5, 0], 0.1 * n**2)
    same(wave[3, n // 2 - 1 : n // 2 + 1], 0.2 * np.cos(5 * np.pi / n))  # a crest in the middle
    shifted = alter("spike", 0.2, np.full((n, n), 0.5), u=[0.4, 0.0, 0.25]) - 0.5
    same(shifted[3, n // 2], -0.2 * np.sin(5 * np.pi / n))
    slanted = alter("spike", 0.2, np.full((N, N), 0.5), u=[(3 * 2**0.5 - 3) / 5, 0.25, 0.0]) - 0.5
    same(slanted, 0.2 * np.cos(3 * np.pi * (ROWS + COLUMNS)))  # three cycles down and three across, not up
    tilted = alter("spike", 0.2, np.full((8, 8, 8), 0.5), u=[0.0, 0.3, 0.0, 1.0]) - 0.5  # 3 cycles along the first axis
    same(np.abs(np.fft.fftn(tilted))[3, 0, 0], 0.1 * 8**3)
    level = alter("spike", 0.2, np.full((8, 8, 8), 0.5), u=[0.0, 0.0, 0.0, 0.5]) - 0.5
    same(np.abs(np.fft.fftn(level))[0, 0, 3], 0.1 * 8**3)


def test_a_zipper_is_a_line_of_dots():
    dots = np.where(np.arange(N) % 3 == 0, 1.0, -1.0)
    found = alter("zipper", 0.3, np.full((N, N), 0.5), place=2 * 5.5 / N - 1, z=dots) - 0.5
    same(found[:, 5], 0.3 * dots)
    same(found[:, 7], 0.3 * dots * np.exp(-2))
    same(found[:, 3], 0.3 * dots * np.exp(-2))


# ---- computed tomography


def test_circles_about_the_centre():
    n = 12
    radius = np.hypot(ROWS, COLUMNS)
    same(alter("rings", 0.1, z=np.arange(n)) - IMAGE, np.clip(IMAGE + 0.1 * radius * (n - 1) / 1.5, 0, 1) - IMAGE)


def test_rays_pass_through_the_inscribed_circle_alone():
    """Of a white square each ray sees the chord of its circle, from every side."""
    side = 64
    distance = (2 * np.arange(side) + 1) / side - 1
    seen = np.asarray(projected(jnp.ones((side, side)), 6))
    np.testing.assert_allclose(seen, np.tile(side * np.sqrt(1 - distance**2), (6, 1)), atol=2)


def disc(radius, grey, n=96):
    """A disc about the centre, and the distance of its pixels from there."""
    far = np.hypot(*np.meshgrid(*2 * [(2 * np.arange(n) + 1) / n - 1], indexing="ij"))
    return grey * special.expit((radius - far) * n), far


def test_a_hard_beam_takes_most_from_the_middle():
    """Of a disc of radius R and grey g the squared paths are a parabola, whose reconstruction is half an ellipsoid:
    (4/π) s g² √(R² − r²) is lost."""
    body, far = disc(0.8, 0.5)
    lost = body - alter("beam_hardening", 0.4, body)
    well = far < 0.7
    np.testing.assert_allclose(
        lost[well], (4 / np.pi * 0.4 * 0.25 * np.sqrt(np.maximum(0.64 - far**2, 0)))[well], atol=0.006
    )


def test_a_small_field_of_view_has_a_bright_rim_and_nothing_beyond():
    small, far = disc(0.4, 0.5)
    same(alter("truncation", 0.5, small), small, atol=0.01)
    large, far = disc(0.9, 0.5)
    found = alter("truncation", 0.5, large)
    ring = [found[abs(far - r) < 0.02].mean() for r in (0.0, 0.3, 0.47, 0.7)]
    assert 0.5 < ring[0] < ring[1] < ring[2]
    assert ring[3] < 0.2


def test_rays_through_a_disc_see_its_chords():
    seen = np.asarray(discs(jnp.asarray([[0.5, 0.0]]), jnp.float32(0.25), 4, 200))
    away = (2 * np.arange(200) + 1) / 200 - 1  # the first view looks along the rows
    np.testing.assert_allclose(seen[0], 2 * np.sqrt(np.maximum(0.0625 - away**2, 0)), atol=0.02)
    np.testing.assert_allclose(seen.sum(1) / 100, np.pi * 0.0625, rtol=1e-4)
    assert abs((seen[2] * away).sum() / seen[2].sum() - 0.5) < 1e-3  # the third across them
    beside = np.asarray(discs(jnp.asarray([[0.0, 0.5]]), jnp.float32(0.25), 4, 200))[0]  # of another column
    assert abs((beside * away).sum() / beside.sum() - 0.5) < 1e-3
    assert not np.asarray(discs(jnp.asarray([[0.5, 0.0]]), jnp.float32(0), 4, 200)).any()


def test_between_two_implants_it_is_dark():
    body, far = disc(0.95, 0.4)
    rows, columns = np.meshgrid(*2 * [(2 * np.arange(96) + 1) / 96 - 1], indexing="ij")
    drawn = {"place": [[0.0, -0.4], [0.0, 0.4]], "z": np.zeros((1, 90, 96))}
    change = alter("metal", 0.08, body, **drawn) - body
    for place in (-0.4, 0.4):
        assert (change[np.hypot(rows, columns - place) < 0.05] > 0.5).all()
    assert change[(abs(rows) < 0.03) & (abs(columns) < 0.25)].max() < -0.1
    noisy = (
        alter("metal", 0.08, body, **drawn | {"z": np.random.default_rng(0).normal(size=(1, 90, 96))}) - body - change
    )
    near = np.minimum(np.hypot(rows, columns - 0.4), np.hypot(rows, columns + 0.4))
    assert noisy[(near > 0.1) & (near < 0.15)].std() > 1.4 * noisy[(near > 0.6) & (far < 0.9)].std() > 0


# ---- sharpness


def wave(k, n=64, axis=1):
    across = np.cos(k * np.arange(n))
    return np.broadcast_to(0.5 + 0.4 * (across[None] if axis == 1 else across[:, None]), (n, n))


def amplitude(image, k, axis=1):
    """Of a wave in the middle of the image."""
    middle = (np.moveaxis(image, axis, 1) - 0.5)[16:48, 16:48]
    basis = np.stack([np.cos(k * np.arange(16, 48)), np.sin(k * np.arange(16, 48)), np.ones(32)])
    return float(np.linalg.lstsq(basis.T, middle.T, rcond=None)[0][0].mean() / 0.4)


def test_transfer_of_a_disc_and_of_a_line():
    """Of a wave of number k: 2 J₁(kr)/(kr), and the sinc of half its length along the wave, of pixels with a width of their own;
    scipy's Bessel function."""
    k = 2 * np.pi / 16
    pixel = np.sin(k / 2) / (k / 2)
    for radius in (3.0, 6.0):
        expected = pixel * 2 * special.j1(k * radius) / (k * radius)
        same(amplitude(alter("defocus", radius / 64, wave(k)), k), expected, atol=4e-3)  # the border's share
    for length in (6.0, 12.0):
        blurred = alter("motion_blur", length / 64, wave(k), direction=[0.0, 1.0])
        same(amplitude(blurred, k), pixel * np.sin(k * length / 2) / (k * length / 2), atol=6e-3)
        same(alter("motion_blur", length / 64, wave(k), direction=[1.0, 0.0]), wave(k), atol=1e-4)


def test_transfer_of_a_ball():
    """3 (sin x − x cos x)/x³ with x = kr, of pixels with a width of their own."""
    k, radius, n = 2 * np.pi / 8, 2.0, 16
    image = np.broadcast_to(0.5 + 0.4 * np.cos(k * np.arange(n)), (n, n, n))
    found = alter("defocus", radius / n, image)
    x = k * radius
    expected = 3 * (np.sin(x) - x * np.cos(x)) / x**3 * np.sin(k / 2) / (k / 2)
    same((found[8, 8, 8] - 0.5) / 0.4, expected, atol=0.02)  # a crest; eight pixels from the border


def test_gaussian_blur_in_space_is_scipys():
    volume = RNG.uniform(size=(12, 14, 16))
    found = alter("blur", 1 / 14, volume)
    expected = volume
    for axis, n in enumerate(volume.shape):
        expected = ndimage.gaussian_filter1d(expected, n / 14, axis=axis, truncate=8)
    same(found[6, 7, 8], expected[6, 7, 8], atol=2e-3)  # scipy reflects at the border, five standard deviations away
    pulse = np.zeros((21, 21))
    pulse[10, 10] = 1
    same(alter("blur", 1.5 / 21, pulse), ndimage.gaussian_filter(pulse, 1.5, truncate=8), atol=1e-5)


def test_blurs_keep_a_flat_image_flat_to_its_borders():
    """At every pixel: weights are normalised where the kernel is cut."""
    flat = np.full((9, 12), 0.4)
    for name, severity in (("blur", 0.3), ("down_sampling", 1.7), ("pixelate", 1.7), ("zoom_blur", 0.6)):
        same(alter(name, severity, flat), flat)
    for name, drawn in (("defocus", {}), ("motion_blur", {"direction": [0.6, 0.8]})):
        same(alter(name, 0.15, flat, **drawn), flat)


def test_glass_reads_every_pixel_from_another_place_between_two_blurs():
    z = RNG.normal(size=(2, N, N))
    blurred = alter("blur", 0.02, IMAGE)
    places = [(p + 2 * 0.04 * one + 1) * N / 2 - 0.5 for p, one in zip((ROWS, COLUMNS), z, strict=True)]
    scattered = ndimage.map_coordinates(blurred, places, order=1, mode="nearest")
    same(alter("glass", 0.04, z=z), alter("blur", 0.02, scattered))
    for shape in ((5, 6, 1), (4, 5, 6, 1)):
        assert v.CATALOGUE["glass"].draw(jax.random.key(0), shape)["z"].shape == (len(shape) - 1, *shape[:-1])


def test_zooming_is_a_mean_of_magnified_images():
    expected = np.mean([ndimage.map_coordinates(IMAGE, [(p / (1 + 0.4 * i / 7) + 1) * N / 2 - 0.5 for p in (ROWS, COLUMNS)],
                                                order=1, mode="nearest") for i in range(8)], 0)  # fmt: skip
    same(alter("zoom_blur", 0.4), expected)


def test_coarse_pixels_of_factor_two():
    """Means of two by two, and between the middles of those a straight line."""
    block = IMAGE.reshape(8, 2, 8, 2).mean((1, 3))
    same(alter("pixelate", 1.0), np.kron(block, np.ones((2, 2))))
    middles = np.arange(8) * 2 + 0.5

    def line(values, axis):
        return np.apply_along_axis(lambda one: np.interp(np.arange(16), middles, one), axis, values)

    inside = slice(1, -1)  # beyond the outermost middles
    same(alter("down_sampling", 1.0)[inside, inside], line(line(block, 0), 1)[inside, inside])
    thick = line(IMAGE.reshape(8, 2, N).mean(1), 0)
    same(alter("anisotropy", 1.0, u=0.3)[inside], thick[inside])
    thick = line(IMAGE.reshape(N, 8, 2).mean(2), 1)
    same(alter("anisotropy", 1.0, u=0.7)[:, inside], thick[:, inside])


def test_coarse_pixels_of_an_odd_side_keep_the_middle():
    image = RNG.uniform(size=(9, 9))
    found = alter("pixelate", 2.0, image)
    same(found, np.kron(image.reshape(3, 3, 3, 3).mean((1, 3)), np.ones((3, 3))))


@pytest.mark.parametrize(("quality", "severity"), [(50, 1.0), (25, 2.0)])
def test_colours_are_compressed_as_a_jpeg_file_is(quality, severity):
    """Against Pillow without subsampling; it rounds to eight bits before and after the transform."""
    colours = ndimage.gaussian_filter(np.random.default_rng(3).uniform(size=(24, 32, 3)), (2, 2, 0))
    colours = np.rint(255 * (colours - colours.min()) / np.ptp(colours)) / 255
    file = io.BytesIO()
    Image.fromarray((255 * colours).astype(np.uint8)).save(file, "JPEG", quality=quality, subsampling=0)
    theirs = np.asarray(Image.open(file)) / 255
    ours = alter("jpeg", severity, colours)
    assert np.abs(ours - theirs).mean() < 0.25 * np.abs(theirs - colours).mean()


# ---- what is in the way


def test_a_shadow_lies_behind_the_bone_only():
    n = 64
    flat = np.full((n, n), 0.8)
    found = alter("shadow", 0.7, flat, place=[-0.4, 0.3])
    rows, columns = np.meshgrid(*2 * [(2 * np.arange(n) + 1) / n - 1], indexing="ij")
    same(found[rows < -0.85], 0.8, atol=0.01)
    same(found[np.abs(columns - 0.3) > 0.75], 0.8, atol=0.01)
    deep = (rows > 0.5) & (np.abs(columns - 0.3) < 0.02)
    same(found[deep], 0.8 * 0.3, atol=0.02)
    wide = (found < 0.52).sum(1)
    assert wide[-1] > 1.5 * wide[n // 2]


def test_gain_in_depth_and_lost_elements():
    same(alter("depth_gain", 0.2, sign=-1), np.clip(IMAGE * np.exp(-0.2 * ROWS), 0, 1))
    loss = sum(np.exp(-(((COLUMNS - u) / 0.08) ** 2) / 2) for u in (-0.5, 0.0, 0.6))
    same(alter("dropout", 0.6, u=[-0.5, 0.0, 0.6]), IMAGE * (1 - 0.6 * np.minimum(loss, 1)))


def test_echoes_are_deeper_and_weaker():
    """A bright row at 2 with a step of 3 rows: echoes of s, s², s³, s⁴ at 5, 8, 11, 14."""
    row = np.zeros((N, 3 + 1))
    row[[0, -1]] = row[:, [0, -1]] = 1e-7  # a field of view that reaches all borders
    row[2] = 0.5
    found = alter("reverberation", 0.5, row, u=(3 / N - 0.12) / 0.12)
    same(found[[2, 5, 8, 11, 14], 1], 0.5 * 0.5 ** np.arange(5))
    same(found[[0, 1, 3, 4, 6, 15]], 0)
    half = alter("reverberation", 0.5, row, u=(2.5 / N - 0.12) / 0.12)
    same(half[[4, 5], 0], 0.125)


def test_echoes_do_not_light_up_what_is_beyond_the_sector():
    rows, columns = np.meshgrid(*2 * [np.arange(32)], indexing="ij")
    sector = (np.abs(columns - 15.5) <= 1 + rows / 2) & (rows < 24)
    picture = np.where(sector, 0.5, 0.0)
    picture[10:13, 14:17] = 0.0  # a cavity, which is inside
    found = alter("reverberation", 0.5, picture, u=0.0)
    assert (found[~sector] == 0).all()
    assert (found[10:13, 14:17] > 0.1).all()


def test_corners_and_edges_are_black():
    radius = np.hypot(ROWS - 0.1, COLUMNS + 0.05)
    same(alter("black_corner", 0.3, place=[0.1, -0.05]), IMAGE * np.clip((1.05 - radius) * N / 2 + 0.5, 0, 1))
    same(
        alter("field_of_view", 0.25, sign=[1, -1]),
        np.where((np.arange(N) < 12)[:, None] & (np.arange(N) >= 4)[None], IMAGE, 0),
    )
    hidden = (np.arange(N) >= 6) & (np.arange(N) < 10)  # a quarter of the side about the middle
    same(alter("occlusion", 0.25, u=[0, 0]), np.where(hidden[:, None] & hidden[None], 0, IMAGE))
    corner = alter("occlusion", 0.25, u=[-1, 1])
    same(corner == 0, (np.arange(N) < 4)[:, None] & (np.arange(N) >= 12)[None])


MARKS = 24
AWAY = np.full((MARKS, 2), 9.0)


def one_mark(at):
    """One mark at a place, the others out of sight."""
    places = AWAY.copy()
    places[0] = at
    return places


def test_bubbles_and_blots_one_at_a_time():
    n, size = 64, 0.2
    flat = np.full((n, n), 0.5)
    rows, columns = np.meshgrid(*2 * [(2 * np.arange(n) + 1) / n - 1], indexing="ij")
    far = np.hypot(rows - 0.2, columns + 0.3)
    drawn = {"place": one_mark([0.2, -0.3]), "size": np.full(MARKS, size), "u": np.zeros(MARKS)}
    bubble = alter("bubble", 1 / MARKS, flat, **drawn)
    same(bubble[far < 0.05], 0.75, atol=0.01)  # half way to white
    same(bubble[far > 0.4], 0.5, atol=1e-3)
    at_rim = np.abs(far - size) < 0.005
    same(bubble[at_rim], (0.5 + 0.5 * 0.25) * 0.2, atol=0.06)
    same(alter("bubble", 0.5 / MARKS, flat, **drawn)[far < 0.05], 0.625, atol=0.01)
    blot = alter("stain_deposit", 1 / MARKS, flat, **drawn)
    same(blot[far < 0.04], 0.15 + 0.1 * 0.35, atol=0.01)
    same(blot[far > 0.35], 0.5, atol=1e-2)
    same(blot[np.abs(far - 0.8 * size) < 0.004], 0.5 - 0.45 * 0.35, atol=0.03)
    both = alter("stain_deposit", 2 / MARKS, flat, **drawn | {"place": np.vstack([[[0.2, -0.3]] * 2, AWAY[2:]])})
    same(both[far < 0.04], 0.15 + 0.01 * 0.35, atol=0.01)
    tinted = alter("stain_deposit", 1 / MARKS, np.full((n, n, 3), 0.5), **drawn)
    same(tinted[far < 0.04].mean(0), 0.9 * np.array([0.25, 0.1, 0.35]) + 0.05, atol=0.01)


def test_a_pen_draws_along_its_bow():
    n = 64
    flat = np.full((n, n), 0.9)
    rows, columns = np.meshgrid(*2 * [(2 * np.arange(n) + 1) / n - 1], indexing="ij")
    ends = np.full((6, 2, 2), 9.0)
    ends[0] = [[0.0, -0.5], [0.0, 0.5]]
    straight = alter("pen", 1 / 6, flat, ends=ends, bow=np.zeros(6))
    same(straight[(np.abs(rows) < 0.02) & (np.abs(columns) < 0.4)], 0.1, atol=0.1)
    same(straight[(np.abs(rows) > 0.2) | (np.abs(columns) > 0.7)], 0.9, atol=0.01)
    bowed = alter("pen", 1 / 6, flat, ends=ends, bow=np.full(6, 0.3))
    middle = np.argmin(bowed[:, n // 2])
    assert abs(rows[middle, 0] + 0.3) < 0.04  # the normal of a way to the right points up
    assert bowed[n // 2, n // 2] > 0.85
    same(alter("pen", 0.5 / 6, flat, ends=ends, bow=np.zeros(6)).min(), 0.5 * (0.9 + 0.1), atol=0.05)


def test_a_digit_is_written_where_it_says():
    """Digit 7 upright, of 28/50 of a half side high, at one place."""
    n = 100
    found = alter("characters", 1 / MARKS, np.full((n, n), 0.3), place=one_mark([-0.5, -0.3]), u=np.full(MARKS, 0.75))
    rows = (np.arange(n) + 0.5) / n * 2 - 1
    seven = np.array([[1, 1, 1], [0, 0, 1], [0, 1, 0], [0, 1, 0], [0, 1, 0]])
    step = 0.28 / 5
    expected = np.full((n, n), 0.3)
    for i in range(5):
        for j in range(3):
            inside = [(rows >= a + k * step) & (rows < a + (k + 1) * step) for a, k in ((-0.5, i), (-0.3, j))]
            expected[np.ix_(*inside)] = 1.0 if seven[i, j] else 0.3
    same(found, expected)


def test_many_marks_of_any_place_and_size_as_on_the_whole_image():
    """What is written into boxes about the marks, cut by borders, against numpy on every pixel; an oblong image."""
    rng, shape, severity = np.random.default_rng(5), (40, 66), 0.55
    image = rng.uniform(size=shape)
    rows, columns = np.meshgrid(*[(2 * np.arange(n) + 1) / n - 1 for n in shape], indexing="ij")
    place, size = rng.uniform(-1.1, 1.1, (MARKS, 2)), rng.uniform(0.06, 0.2, MARKS)
    drawn = {"place": place, "size": size, "u": rng.uniform(size=MARKS)}
    shown = np.clip(severity * MARKS - np.arange(MARKS), 0, 1)  # 13 and a fifth
    unlit, bright, clean, end = (
        *np.ones((3, *shape)),
        special.expit(-8),
    )  # less of which edges cover, so that they end there
    for (y, x), radius, part in zip(place, size, shown, strict=True):
        far = np.hypot(rows - y, columns - x)
        unlit *= 1 - part * 0.5 * np.maximum(special.expit((radius - far) * 60) - end, 0)
        bright *= 1 - part * 0.8 * np.exp(-(((far - radius) / 0.03) ** 2))
        clean *= 1 - part * 0.9 * np.maximum(special.expit((0.8 * radius - far) * 40) - end, 0)
    same(alter("bubble", severity, image, **drawn), (1 - (1 - image) * unlit) * bright, atol=2e-5)
    same(alter("stain_deposit", severity, image, **drawn), 0.15 + (image - 0.15) * clean, atol=2e-5)
    ends, bow = rng.uniform(-1, 1, (6, 2, 2)), rng.uniform(-0.4, 0.4, 6)
    clean = np.ones(shape)
    for (start, end), bend, part in zip(ends, bow, np.clip(severity * 6 - np.arange(6), 0, 1), strict=True):
        along = end - start
        share = np.clip(((rows - start[0]) * along[0] + (columns - start[1]) * along[1]) / (along @ along + 1e-6), 0, 1)
        aside = bend * np.sin(np.pi * share)
        to = start[0] + share * along[0] - aside * along[1], start[1] + share * along[1] + aside * along[0]
        clean *= 1 - part * special.expit((0.05 - np.hypot(rows - to[0], columns - to[1])) * 60)
    same(alter("pen", severity, image, ends=ends, bow=bow), 0.1 + (image - 0.1) * clean, atol=2e-5)


def test_digits_overlap_and_are_cut_by_borders():
    """Pixel by pixel: the raster of each digit shown, from its upper left corner."""
    rng, shape, severity = np.random.default_rng(6), (50, 70), 0.5
    image, place, u = rng.uniform(size=shape), rng.uniform(-1.1, 1.0, (MARKS, 2)), rng.uniform(size=MARKS)
    font = obstruction._FONT
    unwritten = np.ones(shape)
    for i, j in np.ndindex(shape):
        at = (2 * np.array([i, j]) + 1) / shape - 1
        for k in range(MARKS // 2):
            cell = np.floor((at - place[k]) / (0.28 / 5)).astype(int)
            if 0 <= cell[0] < 5 and 0 <= cell[1] < 3 and font[int(u[k] * 10)][tuple(cell)]:
                unwritten[i, j] = 0
    assert 0.02 < (unwritten == 0).mean() < 0.3
    same(alter("characters", severity, image, place=place, size=np.ones(MARKS), u=u), 1 - (1 - image) * unwritten)
