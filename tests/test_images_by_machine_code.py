"""Compiled code alters images as the library does, for every shape, whoever shares what, and stays away where it does not fit."""

import zlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import image_code, jobs, native
from rafmodel.variability import CATALOGUE, alter, law, marks, obstruction, threefry

SHAPES = [
    (128, 128, 1),
    (64, 96, 1),
    (28, 28, 1),
    (37, 45, 3),
    (33, 18, 17, 1),
    (13, 14, 15, 2),
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
            expected = law._along_by_library(jnp.float64(image), jnp.float64(matrix), axis)
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
        expected = law._spread_by_library(jnp.float64(image), jnp.float64(kernel))
        np.testing.assert_allclose(native.spread(image, kernel), expected, atol=1e-5 + 3e-5 * float(abs(kernel).sum()))


def test_a_sum_about_a_pixel_is_of_those_about_it_in_order():
    """Not mirrored, as a convolution would be; and beyond the border there is what is at it."""
    image = jnp.asarray(np.arange(12.0).reshape(3, 4, 1), jnp.float32)
    kernel = jnp.zeros((3, 5), jnp.float32).at[0, 4].set(1)
    expected = [[2, 3, 3, 3], [2, 3, 3, 3], [6, 7, 7, 7]]
    for found in (native.spread(image, kernel), law._spread_by_library(image, kernel)):
        np.testing.assert_allclose(found[..., 0], expected, atol=1e-5)


def test_each_image_of_a_batch_may_have_its_kernel_or_share_it():
    images, many = numbers((5, 40, 21, 2)), numbers((5, 7, 3), 1)
    own = jax.vmap(law.spread)(images, many)
    same = jax.vmap(law.spread, (0, None))(images, many[2])
    of_one = jax.vmap(law.spread, (None, 0))(images[1], many)
    for i in range(5):
        np.testing.assert_allclose(own[i], law._spread_by_library(images[i], many[i]), atol=2e-5)
        np.testing.assert_allclose(same[i], law._spread_by_library(images[i], many[2]), atol=2e-5)
        np.testing.assert_allclose(of_one[i], law._spread_by_library(images[1], many[i]), atol=2e-5)


def test_blurs_have_the_librarys_derivatives():
    image, kernel = numbers((9, 8, 1)), numbers((3, 5), 1)
    for argument in (0, 1):
        found = jax.grad(lambda *given: jnp.sum(law.spread(*given) ** 2), argument)(image, kernel)
        expected = jax.grad(lambda *given: jnp.sum(law._spread_by_library(*given) ** 2), argument)(image, kernel)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(128, 128), (60, 90), (33, 5), (1, 1)], ids=str)
@pytest.mark.parametrize("severity", [0.0, 0.02, 0.35, 1.0])
def test_round_marks_are_those_of_the_library(shape, severity):
    """Two kinds of cover, of marks at and over the borders, one image with other marks than the next."""
    place, size = 2.2 * numbers((3, 24, 2)) - 1.1, obstruction.LARGEST * numbers((3, 24), 1)
    severity, look = jnp.float32(severity), marks.Look(shape, (obstruction.LARGEST, 0.25), (disc, ring))
    found = jax.vmap(lambda *drawn: marks._round(look, severity, *drawn))(place, size)
    for i in range(3):
        expected = marks._round_by_library(look, severity, place[i], size[i])
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one[i], other, atol=1e-5)


@pytest.mark.parametrize("shape", [(128, 128), (60, 90), (33, 5), (1, 1)], ids=str)
@pytest.mark.parametrize("severity", [0.0, 0.02, 0.35, 1.0])
def test_stamps_are_those_of_the_library(shape, severity):
    """At and over the borders, too."""
    corner, glyph = 2.4 * numbers((3, 24, 2)) - 1.2, numbers((3, 24, 5, 3), 1)
    severity = jnp.float32(severity)
    found = jax.vmap(lambda *stamps: marks._stamped(shape, 0.07, severity, *stamps))(corner, glyph)
    for i in range(3):
        expected = marks._stamped_by_library(shape, 0.07, severity, corner[i], glyph[i])
        np.testing.assert_allclose(found[i], expected, atol=1e-6)


def disc(far):
    return 0.7 * jax.nn.sigmoid(-60 * far)


def ring(far):
    return 0.6 * jnp.exp(-((far / 0.05) ** 2))


def test_marks_have_the_librarys_derivatives():
    place, size = 2 * numbers((24, 2)) - 1, obstruction.LARGEST * numbers((24,), 1)

    def slope(make):
        of_sum = partial(make, marks.Look((20, 30), (obstruction.LARGEST, 0.25), (disc, ring)))
        return jax.jvp(lambda severity: sum(of_sum(severity, place, size)), [jnp.float32(0.35)], [jnp.float32(1)])[1]

    slopes = slope(marks._round), slope(marks._round_by_library)
    np.testing.assert_allclose(*slopes, rtol=1e-4)


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
            lambda image, m: law._along_by_library(image, m, 1),
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

    mine = jax.grad(total(law.sample, law.along), (0, 1, 2))(image, where, matrix)
    expected = jax.grad(total(law._read_by_library, law._along_by_library), (0, 1, 2))(image, where, matrix)
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
    for program in (lambda x: law.sample(x, where), lambda x: law.along(x, jnp.eye(6, dtype=kind), 0)):
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


@pytest.mark.parametrize("name", ["flip", "gain", "gamma", "inversion", "occlusion", "contrast_down", "spike"])
def test_what_needs_nothing_in_between_is_done_in_one_piece(name):
    assert _loops(name) == 0


@pytest.mark.parametrize("name", ["rotation", "noise", "rician", "elastic", "blur"])
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
    assert jobs.OTHER ^ of("image_jobs", "image_points", "image_products", "chance_code") == image_code.OTHER
    code = ("helped", "down", "across", "read", "spread", "normal", "round_", "stamp", "settled")
    for made in (getattr(image_code, name) for name in code):
        assert image_code.OTHER in [cell.cell_contents for cell in made.__wrapped__.__closure__]


@pytest.mark.parametrize("dims", [2, 3])
def test_images_of_one_pixel_do_not_read_their_neighbours_memory(dims):
    images = jnp.array([0.5, jnp.nan], jnp.float32).reshape(2, *(1,) * dims, 1)
    found = jax.vmap(lambda image: native.read(image, [jnp.zeros(1, jnp.float32)] * dims))(images)
    assert float(found[0, 0, 0]) == 0.5
