"""Compiled code alters images as the library does, for every shape, whoever shares what, and stays away where it does not fit."""

import zlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import image_code, image_tones, jobs, native
from rafmodel.variability import CATALOGUE, alter, intensity, law, linear, marks, obstruction, threefry

SHAPES = [
    (128, 128, 1),
    (64, 96, 1),
    (28, 28, 1),
    (37, 45, 3),
    (33, 18, 17, 1),
    (13, 14, 15, 2),
    (9, 10, 16, 1),
    (1, 5, 1),
    (5, 1, 1),
    (2, 3, 40),
    (3, 5, 50, 11),
]


def numbers(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(size=shape), jnp.float32)


def matrices(n):
    """Dense, a band, blocks with rows and columns of nothing, and nothing at all."""
    dense = np.random.default_rng(n).normal(size=(n, n))
    far = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    holes = dense * (np.arange(n) % 3 > 0)[:, None] * (np.arange(n) > n // 2)[None]
    return [jnp.asarray(m, jnp.float32) for m in (dense, dense * (far < 3), holes, 0 * dense)]


def places(shape, seed=0, most=1.3):
    """Anywhere in the image and beside it, (dims, *space)."""
    return 2 * most * numbers((len(shape) - 1, *shape[:-1]), seed) - most


@pytest.fixture(autouse=True)
def compiled():
    assert native.alters(numbers((2, 2, 1)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_along_axes_are_those_of_the_library(shape):
    image = numbers(shape)
    for axis in range(len(shape) - 1):
        for matrix in matrices(shape[axis]):
            expected = linear._along_by_library(jnp.float64(image), jnp.float64(matrix), axis)
            np.testing.assert_allclose(native.along(image, matrix, axis), expected, atol=3e-6 * shape[axis])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_between_pixels_are_those_of_the_library(shape):
    image, where = numbers(shape), places(shape)
    found = native.read(image, law.indices(where, shape[:-1]))
    np.testing.assert_allclose(found, law._read_by_library(image, where), atol=2e-6)


def kernels(lengths):
    """A block, whose differences are fewer than itself; scattered numbers, which are fewer; off its middle; and nothing."""
    rng = np.random.default_rng(sum(lengths))
    block, scattered, corner = np.zeros(lengths), rng.normal(size=lengths), np.zeros(lengths)
    block[tuple(slice(n // 4, n - n // 4) for n in lengths)] = 0.3
    corner[(0,) * len(lengths)] = corner[(-1,) * len(lengths)] = 1.5
    scattered *= rng.uniform(size=lengths) < 0.2
    return [jnp.asarray(kernel, jnp.float32) for kernel in (block, scattered, corner, 0 * block)]


@pytest.mark.parametrize(
    "shape, lengths",
    [
        ((128, 128, 1), (85, 85)),
        ((37, 45, 3), (9, 5)),
        ((20, 32, 3), (5, 9)),
        ((70, 3, 1), (1, 15)),
        ((1, 9, 2), (7, 3)),
        ((33, 18, 17, 1), (9, 7, 5)),
        ((35, 5, 9, 2), (3, 11, 1)),
    ],
    ids=str,
)
def test_sums_about_every_pixel_are_those_of_the_library(shape, lengths):
    image = numbers(shape)
    for kernel in kernels(lengths):
        expected = linear._spread_by_library(jnp.float64(image), jnp.float64(kernel))
        np.testing.assert_allclose(native.spread(image, kernel), expected, atol=1e-5 + 3e-5 * float(abs(kernel).sum()))
        mean = 0.99 * abs(kernel) / jnp.maximum(abs(kernel).sum(), 1e-6)  # so that few are half-way between two levels
        expected = law.in_numbers(partial(linear._spread_by_library, kernel=mean), levels(shape))
        alike(native.spread(levels(shape), mean), expected)


def test_a_sum_about_a_pixel_is_of_those_about_it_in_order():
    """Not mirrored, as a convolution would be; and beyond the border there is what is at it."""
    image = jnp.asarray(np.arange(12.0).reshape(3, 4, 1), jnp.float32)
    kernel = jnp.zeros((3, 5), jnp.float32).at[0, 4].set(1)
    expected = [[2, 3, 3, 3], [2, 3, 3, 3], [6, 7, 7, 7]]
    for found in (native.spread(image, kernel), linear._spread_by_library(image, kernel)):
        np.testing.assert_allclose(found[..., 0], expected, atol=1e-5)


def test_each_image_of_a_batch_may_have_its_kernel_or_share_it():
    images, many = numbers((5, 40, 21, 2)), numbers((5, 7, 3), 1)
    own = jax.vmap(linear.spread)(images, many)
    same = jax.vmap(linear.spread, (0, None))(images, many[2])
    of_one = jax.vmap(linear.spread, (None, 0))(images[1], many)
    for i in range(5):
        np.testing.assert_allclose(own[i], linear._spread_by_library(images[i], many[i]), atol=2e-5)
        np.testing.assert_allclose(same[i], linear._spread_by_library(images[i], many[2]), atol=2e-5)
        np.testing.assert_allclose(of_one[i], linear._spread_by_library(images[1], many[i]), atol=2e-5)


def test_blurs_have_the_librarys_derivatives():
    image, kernel = numbers((9, 8, 1)), numbers((3, 5), 1)
    for argument in (0, 1):
        found = jax.grad(lambda *given: jnp.sum(linear.spread(*given) ** 2), argument)(image, kernel)
        expected = jax.grad(lambda *given: jnp.sum(linear._spread_by_library(*given) ** 2), argument)(image, kernel)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def levels(shape, seed=0):
    """Grey levels of 8 bits."""
    return jnp.asarray(np.random.default_rng(seed).integers(0, 256, shape), jnp.uint8)


def alike(found, expected):
    """To rounding; grey levels to one, which few differ by."""
    assert found.dtype == expected.dtype
    if found.dtype == jnp.uint8:
        far = np.abs(np.asarray(found, int) - np.asarray(expected, int))
        assert far.max(initial=0) <= 1 and far.mean() < 0.01
    else:
        np.testing.assert_allclose(found, expected, atol=1e-5)


def products(n):
    """A band, large pixels, nothing in places, and the same row everywhere: each with rows that sum up to 1 or 0."""
    far = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    band = np.random.default_rng(n).uniform(size=(n, n)) * (far < 3)
    large = (np.arange(n)[:, None] // 3 == np.arange(n) // 3).astype(float)
    holes = band * (np.arange(n) % 4 > 1)[:, None]
    same = np.tile(np.random.default_rng(n).uniform(size=n), (n, 1))
    return [jnp.asarray(m / np.maximum(m.sum(1, keepdims=True), 1e-9), jnp.float32) for m in (band, large, holes, same)]


@pytest.mark.parametrize("made", [numbers, levels])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_along_all_axes_are_those_of_the_library(shape, made):
    """Whatever is first, in each image of a batch."""
    images, ends = made((3, *shape)), jnp.array([0.25, 0.75], jnp.float32)
    for k in range(4):
        matrices = tuple(products(n)[(k + axis) % 4] for axis, n in enumerate(shape[:-1]))
        for given in (ends, jnp.array([-jnp.inf, jnp.inf], jnp.float32)) if made is numbers else (ends[:1] * 0,):
            limits = given if len(given) == 2 else jnp.array(linear.ANY, jnp.float32)
            found = jax.vmap(lambda image, m=matrices, e=limits: linear._along_all(image, m, e))(images)
            for one, image in zip(found, images, strict=True):
                alike(one, linear._along_all_by_library(image, matrices, limits))


@pytest.mark.parametrize("dims", [2, 3])
def test_each_image_may_have_its_own_matrices(dims):
    shape = (5, *(7, 9, 21)[:dims], 2)
    images, matrices = numbers(shape), tuple(numbers((5, n, n), n) / n for n in shape[1:-1])
    found = jax.vmap(linear._along_all, (0, 0, None))(images, matrices, jnp.array(linear.ANY, jnp.float32))
    for i in range(5):
        expected = linear._along_all_by_library(
            images[i], tuple(m[i] for m in matrices), jnp.array(linear.ANY, jnp.float32)
        )
        np.testing.assert_allclose(found[i], expected, atol=1e-5)


def test_no_number_stays_none_where_it_is():
    image = numbers((6, 40, 1)).at[2, 3].set(jnp.nan)
    found = linear._along_all(image, (jnp.eye(6, dtype=jnp.float32), products(40)[1]), jnp.zeros(2).at[1].set(1))
    assert np.isnan(found[2, 3:6]).all()


MADE = [(numbers, 1), (numbers, 3), (levels, 2), (levels, 3)]
PICTURES = [(60, 90), (33, 5), (1, 1)]


@pytest.mark.parametrize("made, channels", MADE)
@pytest.mark.parametrize("space", PICTURES, ids=str)
@pytest.mark.parametrize("severity", [0.0, 0.35, 1.0])
@pytest.mark.parametrize("kinds", ["disc", "disc ring", "none disc", "ring disc"])
def test_round_marks_are_those_of_the_library(space, severity, made, channels, kinds):
    """Of marks at and over the borders, one image with other marks than the next."""
    images = made((3, *space, channels))
    place, size = 2.2 * numbers((3, 24, 2)) - 1.1, obstruction.LARGEST * numbers((3, 24), 1)
    colours = [(1.0,), tuple(np.linspace(0, 0.4, channels))]
    profiles = [{"disc": disc, "ring": ring, "none": jnp.zeros_like}[kind] for kind in kinds.split()]
    covers = tuple(marks.Kind(*both) for both in zip(profiles, colours, strict=False))
    severity, look = jnp.float32(severity), marks.Look((obstruction.LARGEST, 0.25), covers)
    found = jax.vmap(lambda image, *drawn: marks._round(look, image, severity, *drawn))(images, place, size)
    for i in range(3):
        alike(found[i], marks._round_by_library(look, images[i], severity, place[i], size[i]))
    assert severity > 0 or (found == images).all()


def test_round_marks_of_more_kinds_are_left_to_the_library():
    image, severity = numbers((20, 30, 1)), jnp.float32(0.5)
    place, size = 2.2 * numbers((24, 2)) - 1.1, obstruction.LARGEST * numbers((24,), 1)
    look = marks.Look((obstruction.LARGEST, 0.25), tuple(marks.Kind(disc, (c,)) for c in (1.0, 0.0, 0.5)))
    found = marks.round_marks(image, severity, (place, size), look)
    np.testing.assert_array_equal(found, marks._round_by_library(look, image, severity, place, size))
    assert (found != image).any()


@pytest.mark.parametrize("made, channels", MADE)
@pytest.mark.parametrize("space", PICTURES, ids=str)
@pytest.mark.parametrize("severity", [0.0, 0.35, 1.0])
def test_stamps_are_those_of_the_library(space, severity, made, channels):
    """At and over the borders, too.  Grey levels are rounded once more where stamps lie on each other, unless they hide all."""
    images, look = made((3, *space, channels)), (0.07, 0.9)
    corner, glyph = 2.4 * numbers((3, 24, 2)) - 1.2, numbers((3, 24, 5, 3), 1)
    glyph = jnp.round(glyph) if made is levels else glyph
    severity = jnp.float32(severity)
    found = jax.vmap(lambda image, *stamps: marks._stamped(look, image, severity, *stamps))(images, corner, glyph)
    for i in range(3):
        alike(found[i], marks._stamped_by_library(look, images[i], severity, corner[i], glyph[i]))
    assert severity > 0 or (found == images).all()


@pytest.mark.parametrize("made", [numbers, levels])
def test_stamps_of_a_colour_have_it_in_every_channel(made):
    image, colour = made((30, 37, 3)), jnp.array([0.2, 1.0, 0.5], jnp.float32)
    given = numbers((9,)), 2 * numbers((9, 2), 1) - 1, jnp.round(numbers((9, 5, 3), 2)), jnp.float32(0.1)
    found = native.stamps(image, *given, colour)
    for c in range(3):
        alike(found[..., c : c + 1], native.stamps(image[..., c : c + 1], *given, colour[c : c + 1]))


@pytest.mark.parametrize("made, channels", MADE)
@pytest.mark.parametrize("space", PICTURES, ids=str)
@pytest.mark.parametrize("radius", [-1.0, 0.0, 0.004, 0.3, 1.05, 1.6, np.inf])
def test_round_views_are_those_of_the_library(space, radius, made, channels):
    """In the middle and off it, from nothing seen to all."""
    images = made((3, *space, channels))
    for place in jnp.array([[0, 0], [0.1, -0.13], [1.2, 0.4]], jnp.float32):
        found = jax.vmap(lambda image, at=place: marks._viewed(image, at, jnp.float32(radius)))(images)
        for one, image in zip(found, images, strict=True):
            alike(one, marks._viewed_by_library(image, place, jnp.float32(radius)))


@pytest.mark.parametrize("made", [numbers, levels])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_is_hidden_is_what_the_library_hides(shape, made):
    """A box with soft edges, each image its own, and none."""
    images, dims = made((4, *shape)), len(shape) - 1

    def covers(seed):
        ends = np.random.default_rng(seed).uniform(-1.5, 1.5, (dims, 2))
        lines = [np.linspace(-1, 1, n) for n in shape[:-1]]
        boxes = [
            np.clip(3 * (x - low), 0, 1) * np.clip(3 * (high - x), 0, 1)
            for x, (low, high) in zip(lines, ends, strict=True)
        ]
        return [
            jnp.asarray(x.reshape([-1 if k == i else 1 for k in range(dims)]), jnp.float32) for i, x in enumerate(boxes)
        ]

    several = jax.tree.map(lambda *x: jnp.stack(x), *(covers(seed) for seed in range(3)), [0 * x for x in covers(3)])
    for one, expected in zip(
        jax.vmap(marks._hidden)(images, several), jax.vmap(marks._hidden_by_library)(images, several), strict=True
    ):
        alike(one, expected)


@pytest.mark.parametrize("made", [numbers, levels])
@pytest.mark.parametrize("shape", [*SHAPES, (3, 48, 48, 1)], ids=str)
def test_negatives_and_mirror_images_are_exact(shape, made):
    """Four images: as it is, its negative, its mirror image, and both; and many, more than caches hold."""
    images, white = made((4, *shape)), 255 if made is levels else 1
    negative, mirrored = jnp.array([False, True, False, True]), jnp.array([False, False, True, True])
    found = np.asarray(jax.vmap(linear.turned)(images, negative, mirrored))
    assert found.dtype == images.dtype
    x = np.asarray(images)
    expected = np.stack([x[0], white - x[1], x[2, ..., ::-1, :], white - x[3, ..., ::-1, :]])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("made", [numbers, levels])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_powers_are_those_of_the_library(shape, made):
    """Of images that are brighter and darker in turn, the same at power 1."""
    images, powers = made((4, *shape)), jnp.array([[0.3], [1.0], [2.2], [5.0]], jnp.float32)
    images = (
        images if made is levels else images ** jnp.array([1, 1, 3, 8.0], jnp.float32).reshape(4, *(1 for _ in shape))
    )
    found = jax.vmap(intensity._powered)(images, powers)
    exact = images if made is levels else images.astype(float)
    alike(found, jax.vmap(intensity._powered_by_library)(exact, powers).astype(images.dtype))
    np.testing.assert_array_equal(found[1], images[1])


def test_powers_hold_from_black_to_white_and_beyond():
    """To some units in the last place of what is seen; what is not above black stays, and what is hardly above counts as 1e-6."""
    image = jnp.concatenate([jnp.logspace(-6, 0, 299), jnp.linspace(0.5, 1.5, 202)]).astype(jnp.float32)[None, :, None]
    for power in (0.01, 0.4, 0.999, 1.7, 6.0, 30.0):
        found = native.power(image, jnp.array([power], jnp.float32))
        expected = np.float64(image) ** np.float64(np.float32(power))
        seen = expected > 1e-36  # the least numbers of single precision are 2^-126, of which all below are made
        np.testing.assert_allclose(found[seen], expected[seen], rtol=2e-7 + 1.5e-6 * power, atol=0)
        assert found.max(where=~seen, initial=0) < 2e-36
    odd = jnp.array([0, -0.0, -3, jnp.nan, -jnp.inf, 1e-12], jnp.float32)[None, :, None]
    found = native.power(odd, jnp.array([0.5], jnp.float32))
    np.testing.assert_array_equal(found[0, :5], odd[0, :5])
    np.testing.assert_allclose(found[0, 5], 1e-3, rtol=1e-6)


def test_results_that_no_cache_holds_are_written_whole():
    """Each image in turn as it is, its negative, its mirror image, and both; each by itself is not written past the caches."""
    images = numbers((448, 128, 128, 1))
    assert images.nbytes > image_tones.PAST
    flags = jnp.arange(448) % 4
    found = jax.jit(jax.vmap(linear.turned))(images, flags % 2 == 1, flags > 1)
    each = jnp.stack([linear.turned(x, f % 2 == 1, f > 1) for x, f in zip(images[:8], flags[:8], strict=True)])
    np.testing.assert_array_equal(found[:8], each)
    x = np.asarray(images)
    np.testing.assert_array_equal(found[1::4], 1 - x[1::4])
    np.testing.assert_array_equal(found[3::4], 1 - x[3::4, :, ::-1])


def disc(far):
    return 0.7 * jax.nn.sigmoid(-60 * far)


def ring(far):
    return 0.6 * jnp.exp(-((far / 0.05) ** 2))


@pytest.mark.parametrize("made", [numbers, levels])
@pytest.mark.parametrize(
    "name", [name for name, one in CATALOGUE.items() if one.stored and one.content == "" and not one.colour]
)
def test_what_takes_images_as_they_are_stored_leaves_them_alone_at_severity_0(name, made):
    law_, severities = CATALOGUE[name], jnp.array([-0.1, 0, CATALOGUE[name].levels[-1]], jnp.float32)
    images = made((4, 30, 41, 3))
    found = alter(jax.random.key(1), law_, images, severities)
    assert found.dtype == images.dtype
    np.testing.assert_array_equal(found[:2], jnp.stack([images, images]))
    assert (found[2] != images).any()


def test_pictures_as_they_are_stored_have_the_librarys_derivatives():
    image, place, size = numbers((20, 30, 1)), 2 * numbers((24, 2)) - 1, obstruction.LARGEST * numbers((24,), 1)
    look = marks.Look((obstruction.LARGEST, 0.25), (marks.Kind(disc, (1.0,)), marks.Kind(ring, (0.0,))))
    glyph, matrix = numbers((24, 5, 3), 2), lambda severity, n: jnp.eye(n) + severity * numbers((n, n), n)
    steps = {
        "round": lambda make, s, x: make(look, x, s, place, size),
        "stamp": lambda make, s, x: make((0.07, 1.0), x, s, place, glyph),
        "view": lambda make, s, x: make(x, place[0], 1.2 * s),
        "hidden": lambda make, s, x: make(x, [s * numbers((20, 1)), s * numbers((1, 30))]),
        "turned": lambda make, s, x: make(x, jnp.stack([1 - s, s, 1 + s])),
        "powered": lambda make, s, x: make(x, 1 + s[None]),
        "all": lambda make, s, x: make(x, (matrix(s, 20), matrix(s, 30)), jnp.array(linear.ANY)),
    }
    both = {
        "round": (marks._round, marks._round_by_library),
        "stamp": (marks._stamped, marks._stamped_by_library),
        "view": (marks._viewed, marks._viewed_by_library),
        "hidden": (marks._hidden, marks._hidden_by_library),
        "turned": (linear._turned, linear._turned_by_library),
        "powered": (intensity._powered, intensity._powered_by_library),
        "all": (linear._along_all, linear._along_all_by_library),
    }
    for name, step in steps.items():
        slopes = [
            jax.jvp(partial(step, make), [jnp.float32(0.35), image], [jnp.float32(1), image])[1] for make in both[name]
        ]
        np.testing.assert_allclose(*slopes, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("points", [(), (1,), (3, 5), (7, 2, 2)], ids=str)
def test_places_may_be_of_any_shape_and_other_than_the_image(points):
    image, where = numbers((9, 7, 3)), 2 * numbers((2, *points), 4) - 1
    found = law.sample(image, where)
    assert found.shape == (*points, 3)
    np.testing.assert_allclose(found, law._read_by_library(image, where), atol=2e-6)


def test_what_is_no_number_or_far_outside_reads_the_border():
    image = numbers((4, 5, 1))
    rows = jnp.array([jnp.nan, -jnp.inf, jnp.inf, 1e30, -1e30], jnp.float32)
    found = native.read(image, [rows, jnp.zeros(5, jnp.float32)])[:, 0]
    np.testing.assert_array_equal(found, image[jnp.array([0, 0, 3, 3, 0]), 0, 0])


def test_images_and_what_is_done_to_them_may_be_shared_in_any_way():
    """What lies in front of an operand is the result's, or 1: images by severities, one image at many, one matrix for all."""
    images, other, where = (
        numbers((3, 12, 9, 2)),
        jnp.stack(matrices(9)[:2]),
        jnp.stack([places((12, 9, 2), k) for k in (1, 2)]),
    )
    steps = {
        "along": (
            lambda image, m: native.along(image, m, 1),
            lambda image, m: linear._along_by_library(image, m, 1),
            other,
        ),
        "read": (law._read, law._read_by_library, where),
    }
    for mine, library, seconds in steps.values():
        for first, second in (((0, None), (None, 0)), ((None, 0), (0, None))):

            def every(one, first=first, second=second, seconds=seconds):
                return jax.vmap(jax.vmap(one, second), first)(images, seconds)

            assert every(mine).shape[:2] in {(3, 2), (2, 3)}
            np.testing.assert_allclose(every(mine), every(library), atol=1e-5)
        np.testing.assert_allclose(
            jax.vmap(mine)(images[:2], seconds), jax.vmap(library)(images[:2], seconds), atol=1e-5
        )


def test_derivatives_are_the_librarys():
    image, where, matrix = numbers((8, 9, 1)), places((8, 9, 1), most=0.9), matrices(8)[0]

    def total(sample, along):
        return lambda image, where, matrix: jnp.sum(sample(along(image, matrix, 0), where) ** 2)

    mine = jax.grad(total(law.sample, linear.along), (0, 1, 2))(image, where, matrix)
    expected = jax.grad(total(law._read_by_library, linear._along_by_library), (0, 1, 2))(image, where, matrix)
    for one, other in zip(mine, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["rotation", "elastic", "zoom_blur", "pixelate", "anisotropy", "gibbs", "blur"])
@pytest.mark.parametrize("shape", [(64, 64, 64, 1), (5, 20, 24, 22, 1)], ids=["images", "volumes"])
def test_batches_are_altered_as_without_it(name, shape, monkeypatch):
    """Enough images that they are altered in turns, by several threads."""
    images, key, level = numbers(shape), jax.random.key(3), jnp.asarray(CATALOGUE[name].levels[1:3], jnp.float32)
    found = alter(key, CATALOGUE[name], images, level)
    monkeypatch.setattr(native, "ready", lambda: False)
    jax.clear_caches()
    expected = alter(key, CATALOGUE[name], images, level)
    jax.clear_caches()
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_one_image_is_altered_alike_alone_and_among_many():
    images = numbers((70, 40, 48, 1))
    matrix = matrices(40)[1]
    many = jax.vmap(lambda image: native.along(image, matrix, 0))(images)
    np.testing.assert_array_equal(many[41], native.along(images[41], matrix, 0))


@pytest.mark.parametrize("kind", [jnp.float64, jnp.bfloat16])
def test_other_numbers_are_left_to_xla(kind):
    assert not native.alters(numbers((2, 2, 1)).astype(kind))
    image, where = numbers((6, 6, 1)).astype(kind), places((6, 6, 1)).astype(kind)
    for program in (lambda x: law.sample(x, where), lambda x: linear.along(x, jnp.eye(6, dtype=kind), 0)):
        assert "rafmodel_" not in str(jax.make_jaxpr(program)(image))


@pytest.mark.parametrize("kind", ["float32", "float64", "uint8", "bool"])
def test_what_is_settled_is_itself_and_what_it_was_made_from_stays(kind):
    x = (5 * numbers((6, 7, 3))).astype(kind)
    found, before = jax.jit(lambda x: (native.settled(x), x))(x)
    np.testing.assert_array_equal(found, x)
    np.testing.assert_array_equal(before, x)
    if kind.startswith("float"):
        slope = jax.grad(lambda x: jnp.sum(native.settled(x) ** 3))(x)
        np.testing.assert_allclose(slope, 3 * x**2, rtol=1e-5)
    twice = jax.jit(jax.vmap(lambda x: 2 * native.settled(x + x)))(x)
    np.testing.assert_array_equal(twice, 2 * (x + x))


@pytest.mark.parametrize("shape", [(512, 60, 1), (512, 20, 3)], ids=str)
def test_fields_are_those_of_jax_whatever_the_channels(shape):
    key = jax.random.key(7)
    np.testing.assert_array_equal(threefry.uniform(key, shape), jax.random.uniform(key, shape, jnp.float32))
    np.testing.assert_allclose(threefry.normal(key, shape), jax.random.normal(key, shape, jnp.float32), atol=3e-5)
    assert float(jnp.abs(jnp.corrcoef(*threefry.two_normals(key, shape).reshape(2, -1))[0, 1])) < 0.03


@pytest.mark.parametrize(
    "name",
    ["flip", "gain", "gamma", "inversion", "occlusion", "contrast_down", "spike", "blur", "bubble", "black_corner"],
)
def test_what_needs_nothing_in_between_is_done_in_one_piece(name):
    assert _loops(name) == 0


@pytest.mark.parametrize("name", ["rotation", "noise", "rician", "elastic", "motion_blur"])
def test_all_else_is_done_in_turns(name):
    """Waves, or chance for each pixel, are in between."""
    assert _loops(name) == 1


def test_a_mean_over_images_of_8_bits_is_in_between():
    """All of them as numbers would take four times the memory of the batch."""
    assert _loops("contrast_down", jnp.uint8) == 1


def _loops(name, kind=jnp.float32):
    """Loops in which a batch of sixteen turns is written part by part."""
    images = jax.ShapeDtypeStruct((64, 256, 256, 1), kind)
    program = jax.make_jaxpr(lambda key, images: alter(key, CATALOGUE[name], images, jnp.ones(1, jnp.float32)))
    return str(program(jax.random.key(0), images)).count("dynamic_update_slice")


def test_code_on_disk_is_known_by_all_files_that_it_comes_from():
    def of(*names):
        return zlib.crc32(b"".join(Path(image_code.__file__).with_name(f"{name}.py").read_bytes() for name in names))

    assert of("instructions", "jobs") == jobs.OTHER
    assert (
        jobs.OTHER
        ^ of(
            "image_jobs",
            "image_points",
            "image_products",
            "image_axes",
            "image_kernels",
            "image_marks",
            "image_powers",
            "image_tones",
            "chance_code",
        )
        == image_code.OTHER
    )
    code = ("helped", "images", "settled")
    for made in (getattr(image_code, name) for name in code):
        assert image_code.OTHER in [cell.cell_contents for cell in made.__wrapped__.__closure__]


@pytest.mark.parametrize("dims", [2, 3])
def test_images_of_one_pixel_do_not_read_their_neighbours_memory(dims):
    images = jnp.array([0.5, jnp.nan], jnp.float32).reshape(2, *(1,) * dims, 1)
    found = jax.vmap(lambda image: native.read(image, [jnp.zeros(1, jnp.float32)] * dims))(images)
    assert float(found[0, 0, 0]) == 0.5
