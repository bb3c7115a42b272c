"""Compiled code convolves as the library does, whoever asks, and stays away where it does not fit."""

import logging
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import encoder, machine_code, native

CASES = [  # images (N, *space, C) and channels of the answer
    ((3, 8, 8, 1), 16),
    ((2, 7, 5, 6), 48),
    ((9, 9, 12, 16), 32),
    ((33, 4, 3, 32), 80),
    ((2, 1, 2, 16), 16),
    ((2, 2, 1, 3), 16),
    ((2, 9, 6, 7, 3), 16),
    ((3, 4, 5, 2, 16), 32),
    ((2, 1, 3, 2, 2), 16),
]


def numbers(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def case(shape, width, stride):
    """Images, weights, slopes of the answer, and by the library in double precision what each of the three calls should give."""
    dims = len(shape) - 2
    x, weight = numbers(shape), numbers((3**dims * shape[-1], width), 1)
    answer, back = jax.vjp(lambda x, w: encoder._by_library(stride, x, w), *(jnp.float64(one) for one in (x, weight)))
    slope = numbers(answer.shape, 2)
    return x, weight, slope, answer, *back(jnp.float64(slope))


def close(found, expected):
    """To single precision."""
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(np.asarray(found) / scale, np.asarray(expected) / scale, atol=3e-6)


@pytest.fixture(autouse=True)
def compiled():
    assert native.fits(numbers((1, 2, 2, 1)), numbers((9, 16)))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("shape", "width"), CASES, ids=str)
def test_answers_and_both_slopes_are_those_of_the_library(shape, width, stride):
    x, weight, slope, answer, to_images, to_weight = case(shape, width, stride)
    close(native.convolved(x, weight, stride), answer)
    close(native.to_weight(x, slope, stride), to_weight)
    if shape[-1] % native.EVEN == 0:
        close(native.to_images(slope, weight, shape, stride), to_images)


@pytest.mark.parametrize(("channels", "width", "called"), [(16, 32, 3), (5, 32, 2), (16, 24, 0)])
def test_a_convolution_and_its_gradient_take_this_way_where_it_fits(channels, width, called):
    x, weight, slope, answer, *expected = case((4, 9, 10, channels), width, 2)

    def slopes(x, weight):
        found, back = jax.vjp(encoder.convolved, x, weight)
        return found, *back(slope)

    assert str(jax.make_jaxpr(slopes)(x, weight)).count("target_name=rafmodel_") == called
    for one, other in zip(slopes(x, weight), (answer, *expected), strict=True):
        close(one, other)
    close(encoder.convolved(x, weight), answer)  # where nothing is differentiated


def test_batches_of_batches_are_each_convolved():
    x, weight = numbers((3, 2, 6, 7, 16)), numbers((3, 144, 16), 1)

    def slopes(x, weight):
        return jax.grad(lambda x, weight: jnp.sum(encoder.convolved(x, weight, 2) ** 2), (0, 1))(x, weight)

    every = jax.vmap(slopes)(x, weight)
    for i in range(3):
        for one, other in zip(every, slopes(x[i], weight[i]), strict=True):
            np.testing.assert_array_equal(one[i], other)


def test_many_threads_may_ask_for_large_batches_at_once():
    """Threads that XLA lends come late, or not at all, while others of their pool ask for help themselves."""
    x, weight = numbers((60, 16, 16, 16)), numbers((144, 16), 1) / 12
    assert x.size * weight.size / 16 > 2**20  # help is asked for

    @jax.jit
    def step(x, weight):
        def turn(_, weight):
            return weight - 1e-3 * jax.grad(
                lambda w: jnp.mean(encoder.convolved(encoder.convolved(x, w, 1), w, 1) ** 2)
            )(weight)

        return jax.lax.fori_loop(0, 5, turn, weight)

    expected = step(x, weight)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: step(x, weight), range(60)):
            np.testing.assert_array_equal(found, expected)  # bit for bit, whoever did which part


@pytest.mark.parametrize("kind", [jnp.float64, jnp.bfloat16])
def test_other_numbers_are_left_to_xla(kind):
    one, weight = jnp.ones((1, 2, 2, 1)), jnp.ones((9, 16))
    assert not native.fits(one.astype(kind), weight.astype(kind))
    assert not native.fits(one.astype(jnp.float32), weight.astype(kind))


def test_code_on_disk_is_known_by_all_files_that_it_comes_from():
    """Numba looks at one file's text and at what a function encloses; else changes elsewhere would find old code."""
    text = b"".join(
        Path(machine_code.__file__).with_name(f"{name}.py").read_bytes() for name in ("instructions", "jobs")
    )
    for made in (machine_code.helped, machine_code.ahead, machine_code.back, machine_code.to_weight):
        assert zlib.crc32(text) in [cell.cell_contents for cell in made.__wrapped__.__closure__]


def test_it_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("RAFMODEL_NATIVE", "0")
    assert not native.ready.__wrapped__()


@pytest.mark.parametrize("header", ["#define XLA_FFI_API_MAJOR 1\n", None], ids=["another version", "none"])
def test_another_interface_is_left_to_xla_and_said(header, monkeypatch, tmp_path, caplog):
    if header:
        place = tmp_path / "xla" / "ffi" / "api" / "c_api.h"
        place.parent.mkdir(parents=True)
        place.write_text(header)
    monkeypatch.setattr(jax.ffi, "include_dir", lambda: str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert not native.ready.__wrapped__()
    assert "slower than they could be" in caplog.text
