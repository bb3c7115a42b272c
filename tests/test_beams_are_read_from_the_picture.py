"""The apex, the beams and the depths of a sector are found in its picture, and the artifacts of ultrasound follow them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import variability as v
from rafmodel.ultrasound import cardiac_ultrasound
from rafmodel.variability import beams

LAWS = {name: jax.jit(v.CATALOGUE[name].law) for name in ("shadow", "depth_gain", "reverberation", "dropout")}
READ, FAN = jax.jit(beams.beams), jax.jit(beams.fan)
# side, row and column of the apex, first and last angle in degrees, near, far, rows of a length over its columns
SECTORS = {
    "phased": (112, 2.0, 55.0, -40, 40, 3, 105, 1.0),
    "aside": (112, 4.0, 70.0, -42, 25, 2, 100, 1.0),
    "curved": (112, -45.0, 54.0, -23, 23, 55, 142, 1.0),
    "squeezed": (112, 1.0, 55.5, -38, 38, 3, 108, 1.25),
    "cut": (112, -60.0, 56.0, -28, 28, 60, 400, 1.0),  # by three borders
    "small": (32, 1.0, 15.0, -37, 37, 1, 30, 1.2),
}
EACH = pytest.mark.parametrize("name", SECTORS)
LARGE = pytest.mark.parametrize("name", list(SECTORS)[:-1])


def sector(name):
    """Distance from the apex and angle of every pixel, and what is in view, by trigonometry."""
    n, row, column, first, last, near, far, aspect = SECTORS[name]
    rows, columns = np.meshgrid(np.arange(n) - row, aspect * (np.arange(n) - column), indexing="ij")
    depth, angle = np.hypot(rows, columns), np.degrees(np.arctan2(columns, rows))
    return depth, angle, (depth >= near) & (depth <= far) & (angle >= first) & (angle <= last)


def picture(name):
    """Tissue in view, with two black cavities, three black rows and a letter in a corner outside."""
    _, _, seen = sector(name)
    n = SECTORS[name][0]
    image = np.where(seen, np.random.default_rng(0).uniform(0.2, 0.8, seen.shape), 0)
    rows, columns = np.meshgrid(*2 * [np.arange(n) / n], indexing="ij")
    image[np.hypot(rows - 0.55, columns - 0.5) < 0.12] = 0
    image[(rows > 0.4) & (rows < 0.5) & (columns < 0.5)] = 0  # to the left border
    image[[n // 3, n // 2, 2 * n // 3]] = 0
    image[: max(n // 20, 1), : max(n // 20, 1)] = 0.7
    return image


def alter(name, severity, image, **drawn):
    drawn = {key: jnp.asarray(value, float) for key, value in drawn.items()}
    return np.asarray(LAWS[name](drawn, jnp.asarray(image)[..., None], jnp.asarray(severity, float)))[..., 0]


@EACH
def test_the_apex_and_the_angles_are_found(name):
    _, row, column, first, last, *_, aspect = SECTORS[name]
    found = FAN(jnp.asarray(picture(name))[..., None])
    assert bool(found.found)
    np.testing.assert_allclose(found.apex, [row, column], atol=2)
    np.testing.assert_allclose(np.degrees(np.arcsin(found.sines)), [first, last], atol=2)
    assert float(found.aspect) == pytest.approx(aspect, abs=0.04)


@EACH
def test_beams_are_rays_and_depths_are_arcs(name):
    """Both as known, to a pixel or so: even in the sine from side to side, and in the distance from shallowest to deepest."""
    depth, angle, seen = sector(name)
    found = READ(jnp.asarray(picture(name))[..., None])
    low, high = np.sin(np.radians(SECTORS[name][3:5]))
    across = (2 * np.sin(np.radians(angle)) - low - high) / (high - low)
    pixel = 2 / (high - low) / np.maximum(depth, 5)
    assert (np.abs(np.asarray(found.across) - across) < 2 * pixel + 0.01)[seen & (depth > 5)].all()
    low, high = depth[seen].min(), depth[seen].max()
    np.testing.assert_allclose(
        np.asarray(found.depth)[seen], (2 * depth[seen] - low - high) / (high - low), atol=4 / (high - low)
    )
    assert np.abs(np.asarray(found.depth)[seen]).max() <= 1.02
    assert np.abs(np.asarray(found.across)[seen & (depth > 5)]).max() <= 1.05


def test_where_depth_and_beam_lie_is_where_they_are_read():
    """Depth and beam, smooth over the picture, taken along the beams are straight."""
    image = picture("curved")
    found = READ(jnp.asarray(image)[..., None])
    fields = jnp.stack([found.depth, found.across], -1)
    for axis, n in enumerate(image.shape):
        along = np.asarray(beams.on_beams(fields, found))[12:-40, :, axis]  # without the corners beyond the frame
        expected = np.broadcast_to(np.expand_dims((2 * np.arange(n) + 1) / n - 1, 1 - axis), image.shape)[12:-40]
        inside = np.all(np.abs(np.asarray(found.places)) <= 1 - 2 / n, axis=0)[12:-40]
        np.testing.assert_allclose(along[inside], expected[inside], atol=5e-3)


@pytest.mark.parametrize("kind", ["full", "strip", "disc", "one side", "narrowing", "black"])
def test_what_is_no_fan_has_parallel_beams(kind):
    n = 64
    rows, columns = np.meshgrid(*2 * [(2 * np.arange(n) + 1) / n - 1], indexing="ij")
    seen = {
        "full": rows < 2,
        "strip": np.abs(columns) < 0.6,
        "disc": np.hypot(rows, columns) < 0.8,
        "one side": columns < 0.2 + 0.4 * rows,
        "narrowing": np.abs(columns) < 0.5 - 0.4 * rows,
        "black": rows > 2,
    }[kind]
    image = np.where(seen, np.random.default_rng(0).uniform(0.1, 0.9, (n, n)), 0)[..., None]
    found = READ(jnp.asarray(image))
    assert not bool(found.fanned)
    np.testing.assert_allclose(found.depth, rows, atol=1e-12)
    np.testing.assert_allclose(found.across, columns, atol=1e-12)
    np.testing.assert_allclose(beams.on_beams(jnp.asarray(image), found), image, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("shadow", {"place": [-0.4, 0.3]}),
        ("depth_gain", {"sign": -1}),
        ("reverberation", {"u": 0.3}),
        ("dropout", {"u": [-0.5, 0.0, 0.6]}),
    ],
)
def test_a_volume_is_altered_down_its_columns(name, drawn):
    """Each plane through depth and the last axis as a picture of the whole frame."""
    plane = np.random.default_rng(0).uniform(0.1, 0.9, (24, 20))
    volume = np.repeat(plane[:, None], 6, 1)
    expected = np.repeat(alter(name, 0.4, plane, **drawn)[:, None], 6, 1)
    np.testing.assert_allclose(alter(name, 0.4, volume, **drawn), expected, atol=1e-12)


@LARGE
def test_a_shadow_lies_along_one_beam(name):
    """Its middle is at the same angle at all depths below the bone, its edges are rays, and nothing is lost elsewhere."""
    depth, angle, seen = sector(name)
    image = np.where(seen, 0.5, 0)
    lost = 1 - alter("shadow", 0.8, image, place=[-0.3, 0.25])[seen] / 0.5
    sine, depth = np.sin(np.radians(angle[seen])), depth[seen]
    low, high = np.sin(np.radians(SECTORS[name][3:5]))
    middle, half = (low + high) / 2 + 0.25 * (high - low) / 2, (high - low) / 2
    share = (depth - depth.min()) / np.ptp(depth)
    for at in (0.6, 0.75, 0.9):
        here = (np.abs(share - at) < 0.05) & (np.abs(sine - middle) < 0.5 * half)  # the same on both sides
        assert (lost * sine)[here].sum() / lost[here].sum() == pytest.approx(middle, abs=0.05 * half)
        assert lost[here].max() > 0.7
        edge = here & (np.abs(np.abs(sine - middle) - 0.25 * half) < 0.02 * half)
        assert lost[edge].mean() == pytest.approx(0.4, abs=0.06)  # half of it
    assert lost[(share < 0.1) | (np.abs(sine - middle) > 0.6 * half)].max() < 0.03


@LARGE
def test_gain_follows_arcs_and_lost_elements_follow_beams(name):
    depth, angle, seen = sector(name)
    deep = seen & (depth > 0.3 * depth[seen].max())
    gain = np.log(alter("depth_gain", 0.5, np.where(seen, 0.4, 0), sign=1)[deep] / 0.4)
    low, high = depth[seen].min(), depth[seen].max()
    np.testing.assert_allclose(gain, 0.5 * (2 * depth[deep] - low - high) / (high - low), atol=2 / (high - low))
    lost = 1 - alter("dropout", 0.6, np.where(seen, 0.4, 0), u=[-0.6, 0.1, 0.7])[deep] / 0.4
    low, high = np.sin(np.radians(SECTORS[name][3:5]))
    across = (2 * np.sin(np.radians(angle[deep])) - low - high) / (high - low)
    bands = sum(np.exp(-(((across - u) / 0.08) ** 2) / 2) for u in (-0.6, 0.1, 0.7))
    assert np.abs(lost - 0.6 * np.minimum(bands, 1)).mean() < 0.03
    assert np.corrcoef(lost, bands)[0, 1] > 0.97


def test_echoes_of_a_spot_lie_behind_it_on_its_beam():
    depth, angle, seen = sector("phased")
    spot = np.exp(-((depth - 40) ** 2 + (depth * np.radians(angle - 25)) ** 2) / 8)
    image = np.where(seen, 0.05 + 0.5 * spot, 0)
    flat = np.where(seen, 0.05, 0)
    echo = alter("reverberation", 0.4, image, u=0.5) - alter("reverberation", 0.4, flat, u=0.5) - (image - flat)
    step = 0.18 * np.ptp(depth[seen])
    for n in (1, 2, 3):
        near = (np.abs(depth - 40 - n * step) < 5) & (np.abs(angle - 25) < 12)
        weight = echo[near]
        assert (weight * depth[near]).sum() / weight.sum() == pytest.approx(40 + n * step, abs=1)
        assert (weight * angle[near]).sum() / weight.sum() == pytest.approx(25, abs=1)
        assert weight.max() == pytest.approx(0.5 * 0.4**n, rel=0.25)  # of what is read between pixels
    assert np.abs(echo[seen & ((np.abs(angle - 25) > 15) | (depth < 40))]).max() < 0.01


def test_echoes_of_a_flat_probe_start_below_it():
    """The frame cuts the sector off above: nothing comes from beyond it, and the first echo is the step deeper than the frame."""
    depth, angle, seen = sector("cut")
    image = np.where(seen, 0.3, 0)
    echo = alter("reverberation", 0.4, image, u=0.5) - image
    step = 0.18 * np.ptp(depth[seen])
    start = 60 / np.cos(np.radians(angle)) + step
    side = (
        seen & (np.abs(angle) > 20) & (np.abs(angle) < 27)
    )  # where the frame is 4 pixels or more behind the probe's middle
    assert np.abs(echo[side & (depth < start - 2)]).max() < 0.01
    assert echo[side & (depth > start + 2)].min() > 0.1


@pytest.mark.parametrize("law", LAWS)
def test_what_is_outside_the_view_stays_black(law):
    images = np.stack([picture(name) for name in SECTORS if name != "small"])
    levels = jnp.asarray(v.CATALOGUE[law].levels[4:], jnp.float32)
    found = np.asarray(
        v.alter(jax.random.key(0), v.CATALOGUE[law], jnp.asarray(images, jnp.float32)[..., None], levels)
    )
    seen = np.stack([sector(name)[2] for name in SECTORS if name != "small"])
    assert (found[0, ..., 0][~seen & (images == 0)] == 0).all()


@pytest.mark.exhaustive
def test_every_picture_of_the_cardiac_phantom_is_a_fan():
    cohort = cardiac_ultrasound(jax.random.key(0), n_patients=20, size=64)
    found = jax.jit(jax.vmap(beams.fan))(jnp.asarray(cohort.image, jnp.float32) / 255)
    assert np.asarray(found.found).all()
    assert np.ptp(np.asarray(found.apex), 0).max() < 2
    assert np.ptp(np.asarray(found.sines), 0).max() < 0.03
