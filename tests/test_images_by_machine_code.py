"""Compiled code alters images as the library does, for every shape, whoever shares what, and stays away where it does not fit."""

import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import image_code, jobs, native
from rafmodel.variability import CATALOGUE, alter, law, threefry

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
    twice = jax.jit(jax.vmap(lambda x: 2 * native.settled(x + x)))(x)
    np.testing.assert_array_equal(twice, 2 * (x + x))


@pytest.mark.parametrize("shape", [(512, 60, 1), (512, 20, 3)], ids=str)
def test_fields_are_those_of_jax_whatever_the_channels(shape):
    key = jax.random.key(7)
    np.testing.assert_array_equal(threefry.uniform(key, shape), jax.random.uniform(key, shape, jnp.float32))
    np.testing.assert_allclose(threefry.normal(key, shape), jax.random.normal(key, shape, jnp.float32), atol=1e-6)
    assert float(jnp.abs(jnp.corrcoef(*threefry.two_normals(key, shape).reshape(2, -1))[0, 1])) < 0.03


@pytest.mark.parametrize("name", ["flip", "gain", "gamma", "inversion", "occlusion", "field_of_view"])
def test_what_needs_nothing_in_between_is_done_in_one_piece(name):
    assert _loops(name) == 0


@pytest.mark.parametrize("name", ["rotation", "noise", "contrast_down", "rician", "spike", "blur"])
def test_all_else_is_done_in_turns(name):
    """A mean over the image, waves, or chance for each pixel are in between."""
    assert _loops(name) == 1


def _loops(name):
    """Loops in which a batch of sixteen turns is written part by part."""
    images = jax.ShapeDtypeStruct((64, 256, 256, 1), jnp.float32)
    program = jax.make_jaxpr(lambda key, images: alter(key, CATALOGUE[name], images, jnp.ones(1, jnp.float32)))
    return str(program(jax.random.key(0), images)).count("dynamic_update_slice")


def test_code_on_disk_is_known_by_all_files_that_it_comes_from():
    text = b"".join(Path(image_code.__file__).with_name(f"{name}.py").read_bytes() for name in ("instructions", "jobs"))
    assert zlib.crc32(text) == jobs.OTHER
    for made in (image_code.helped, image_code.down, image_code.across, image_code.read, image_code.settled):
        assert jobs.OTHER in [cell.cell_contents for cell in made.__wrapped__.__closure__]


@pytest.mark.parametrize("dims", [2, 3])
def test_images_of_one_pixel_do_not_read_their_neighbours_memory(dims):
    images = jnp.array([0.5, jnp.nan], jnp.float32).reshape(2, *(1,) * dims, 1)
    found = jax.vmap(lambda image: native.read(image, [jnp.zeros(1, jnp.float32)] * dims))(images)
    assert float(found[0, 0, 0]) == 0.5
