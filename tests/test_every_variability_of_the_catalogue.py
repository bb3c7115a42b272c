"""Every law of the catalogue: identity at 0, shape, type, range, damage that grows, masks that move along, records."""

import colorsys
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter

from rafmodel import cohort
from rafmodel import variability as v
from rafmodel.errors import InputError
from rafmodel.variability import noise, resolution
from rafmodel.variability.intensity import _hsv, _rgb
from rafmodel.variability.projections import filtered_back, projected

pytestmark = pytest.mark.exhaustive

EVERY = pytest.mark.parametrize("law", v.CATALOGUE.values(), ids=lambda law: law.name)
GEOMETRIC = pytest.mark.parametrize("law", [x for x in v.CATALOGUE.values() if x.warp], ids=lambda law: law.name)
KEY = jax.random.key(3)
OF_SOME = ("flip", "inversion")  # change a share of the images, wholly


def smooth(shape):
    """Images (n, *space, C) with black, white and everything between."""
    fields = gaussian_filter(np.random.default_rng(0).normal(size=shape), (0, *[2] * (len(shape) - 2), 0))
    fields = (fields - fields.min()) / (fields.max() - fields.min())
    return jnp.asarray(np.clip(1.4 * fields - 0.2, 0, 1), jnp.float32)


@pytest.fixture(scope="module")
def real(cohort_folder):
    """Images of real cohorts: 24 each of chest and breast, 8 volumes of hippocampi, 24 retinas in colour."""

    def some(name, step, size=None):
        whole = cohort.load(cohort_folder / name, size=size)
        return cohort.pixels(cohort.take(whole, np.arange(0, len(whole.image), step)))

    grey = [some(name, 20)[:24] for name in ("pneumoniamnist", "breastmnist")]
    return {"grey": grey, "volumes": [some("msd_hippocampus3d", 30, 20)[:8]], "colour": [some("retina_vessels", 4, 48)]}


@EVERY
def test_identity_shape_type_and_range_in_two_and_three_dimensions(law):
    for shape in ((2, 20, 28, 1), (2, 24, 24, 3), (2, 10, 14, 12, 1)):
        if len(shape) - 2 not in law.dims or (law.colour and shape[-1] != 3):
            with pytest.raises(InputError, match=law.name):
                law.check(shape[1:])
            continue
        images = smooth(shape)
        severities = jnp.asarray([0.0, law.levels[2], law.levels[4]], jnp.float32)
        altered = v.alter(KEY, law, images, severities)
        assert altered.shape == (3, *shape)
        assert altered.dtype == jnp.float32
        assert np.array_equal(altered[0], images)
        assert not np.array_equal(altered[2], images)
        assert float(altered.min()) >= 0
        assert float(altered.max()) <= 1 + 1e-6


def unlike(one, two):
    """1 − structural similarity of image stacks (n, *space) in windows of 7 pixels.  Wang et al. 2004."""
    window = (0, *[7] * (one.ndim - 1))
    mean = [uniform_filter(x, window) for x in (one, two)]
    spread = [uniform_filter(x * y, window) for x, y in ((one, one), (two, two), (one, two))]
    across = spread[2] - mean[0] * mean[1]
    top = (2 * mean[0] * mean[1] + 1e-4) * (2 * across + 9e-4)
    below = (mean[0] ** 2 + mean[1] ** 2 + 1e-4) * (spread[0] - mean[0] ** 2 + spread[1] - mean[1] ** 2 + 9e-4)
    return 1 - (top / below).mean(tuple(range(1, one.ndim)))


@EVERY
def test_damage_grows_from_level_to_level_on_real_images(law, real):
    """Median mean-square error (PSNR falls) and dissimilarity; of a share of images their mean, since others stay."""
    middle = np.mean if law.name in OF_SOME else np.median
    flat = real["colour" if law.colour else "grey"] if 2 in law.dims else []
    for images in flat + (real["volumes"] if 3 in law.dims and not law.colour else []):
        altered = np.asarray(v.alter(KEY, law, jnp.asarray(images), jnp.asarray(law.levels, jnp.float32)))
        error = middle(((altered - images[None]) ** 2).mean(tuple(range(2, altered.ndim))), 1)
        assert error[0] > 0 or law.name in OF_SOME
        assert (np.diff(error) > 0).all(), error
        if not law.colour:
            apart = [float(middle(unlike(level[..., 0], images[..., 0]))) for level in altered]
            assert (np.diff(apart) > 0).all(), apart


@EVERY
def test_small_severities_change_little(law):
    if law.name in (*OF_SOME, "jpeg"):  # a share of images; coarser than one grey level at once
        return
    images = smooth((4, 24, 24, 3 if law.colour else 1))
    tiny = jnp.asarray([1e-3 * law.levels[0], law.levels[4]], jnp.float32)
    change = jnp.abs(v.alter(KEY, law, images, tiny) - images[None]).mean((1, 2, 3, 4))
    assert float(change[0]) < 0.05 * float(change[1]) + 1e-3


@GEOMETRIC
def test_masks_move_with_the_image_and_stay_binary(law):
    """A bright disc and its mask go to the same place, in the plane and in space."""
    for space in ((40, 40), (20, 20, 20)):
        rows = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in space], indexing="ij"))
        disc = ((rows - 0.15) ** 2).sum(0) < 0.16
        images = jnp.asarray(np.broadcast_to(disc[None, ..., None], (6, *space, 1)), jnp.float32)
        masks = jnp.asarray(np.broadcast_to(disc[None], (6, *space)).astype(np.uint8))
        steps = (v.Step(law, law.levels[2] if law.name != "flip" else 1.0),)
        moved, mask, _ = v.compose(KEY, steps, images, masks)
        assert mask.dtype == jnp.uint8
        assert set(np.unique(mask)) <= {0, 1}
        assert not np.array_equal(mask, masks)
        bright = np.asarray(moved[..., 0]) > 0.5
        both = (bright & (np.asarray(mask) == 1)).sum()
        assert 2 * both / (bright.sum() + np.asarray(mask).sum()) > 0.93  # a border of one pixel


def test_a_composition_is_drawn_by_image_and_made_again_from_its_record():
    images, masks = (
        smooth((40, 16, 16, 1)),
        jnp.asarray(np.random.default_rng(1).integers(0, 2, (40, 16, 16)), jnp.uint8),
    )
    steps = (v.Step(v.ROTATION, 20.0, 0.5), v.Step(v.CATALOGUE["low_dose"], 0.1), v.Step(v.CATALOGUE["shot"], 0.2, 0.0))
    altered, moved, records = v.compose(KEY, steps, images, masks)
    again, with_masks = v.repeat(records, v.CATALOGUE, images, masks)
    np.testing.assert_array_equal(again, altered)
    np.testing.assert_array_equal(with_masks, moved)
    turned = np.asarray(records[0].severity > 0)
    assert 0.25 < turned.mean() < 0.75
    stayed = (moved == masks).all((1, 2))
    assert stayed[~turned].all()
    assert stayed[turned].mean() < 0.2
    assert (records[2].severity == 0).all()
    assert len(np.unique(records[0].drawn["z"])) == 40
    other, _, _ = v.compose(jax.random.key(4), steps, images)
    assert not np.array_equal(other, altered)


def test_names_and_suitability():
    assert len(v.CATALOGUE) == sum(map(len, v.FAMILIES.values())) >= 50
    assert all(name == law.name for name, law in v.CATALOGUE.items())
    grey = v.suited(("all",), (28, 28, 1))
    assert "hue" not in [law.name for law in grey]
    assert "jpeg" not in [law.name for law in v.suited(("all",), (8, 8, 8, 1))]
    with pytest.raises(InputError, match="hue: needs red, green and blue"):
        v.suited(("hue",), (28, 28, 1))
    assert v.suited((), (28, 28, 1)) == v.VARIABILITIES


# ---- laws against what is known of them


def drawn(law, image, severity, n=400):
    batch = jnp.broadcast_to(jnp.asarray(image, jnp.float32)[None, ..., None], (n, *image.shape, 1))
    return np.asarray(v.alter(KEY, law, batch, jnp.asarray([severity], jnp.float32)))[0, ..., 0]


def test_counts_have_the_variance_of_poisson():
    found = drawn(noise.SHOT, np.full((12, 12), 0.3), 0.1)  # 100 photons at white
    assert abs(found.mean() - 0.3) < 4 * (0.3 / 100 / found.size) ** 0.5
    assert found.var() == pytest.approx(0.3 / 100, rel=4 * (2 / found.size) ** 0.5 + 0.02)


def test_rician_noise_lifts_black():
    """Of black the magnitude has the mean of a Rayleigh law."""
    found = drawn(noise.RICIAN, np.zeros((10, 10)), 0.1)
    assert found.mean() == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.01)


def test_impulses_hit_their_share():
    found = drawn(noise.IMPULSE, np.full((16, 16), 0.5), 0.1)
    assert (found != 0.5).mean() == pytest.approx(0.1, abs=4 * (0.09 / found.size) ** 0.5)
    assert (found == 1).mean() == pytest.approx(0.05, abs=4 * (0.05 / found.size) ** 0.5)


def test_projections_of_a_disc_and_their_reconstruction():
    """The projection of a disc of radius r is 2 √(r² − t²); filtered back it is the disc again."""
    n, radius = 96, 24.0
    rows, columns = np.meshgrid(*[np.arange(n) - (n - 1) / 2] * 2, indexing="ij")
    disc = (np.hypot(rows, columns) < radius).astype(float)
    sinogram = np.asarray(projected(jnp.asarray(disc), 90))
    t = np.arange(n) - (n - 1) / 2
    chord = 2 * np.sqrt(np.maximum(radius**2 - t**2, 0))
    assert np.abs(sinogram - chord[None]).mean() < 0.5
    back = np.asarray(filtered_back(jnp.asarray(sinogram), (n, n)))
    inside = np.hypot(rows, columns) < radius - 4
    outside = (np.hypot(rows, columns) > radius + 4) & (np.hypot(rows, columns) < 44)
    assert back[inside].mean() == pytest.approx(1, abs=0.02)
    assert back[outside].mean() == pytest.approx(0, abs=0.02)


def test_few_photons_are_noisiest_behind_dense_parts():
    image = np.zeros((48, 48))
    image[16:32, 16:32] = 0.5
    spread = drawn(noise.LOW_DOSE, 0.25 + image, 0.02, n=60).std(0)
    assert spread[20:28, 20:28].mean() > 1.3 * spread[4:10, 4:10].mean()


def test_blurs_keep_the_mean_of_a_flat_image_and_spread_a_spot_as_they_should():
    rows = np.arange(64)[:, None] - 32.0
    spot = 0.8 * np.exp(-(rows**2 + rows.T**2) / 18)
    for law, severity, second in (
        (resolution.DEFOCUS, 0.1, (6.4**2) / 4),  # of a disc, along each axis
        (resolution.MOTION_BLUR, 0.2, 12.8**2 / 12 / 2),  # of a line in a random direction
    ):
        flat = drawn(law, np.full((32, 32), 0.4), severity, n=2)
        np.testing.assert_allclose(flat, 0.4, atol=2e-3)
        spread = drawn(law, spot, severity, n=1000).mean(0)
        assert (spread * rows**2).sum() / spread.sum() == pytest.approx(9 + second, rel=0.05)


def test_pixels_become_blocks():
    found = drawn(resolution.PIXELATE, np.arange(64.0).reshape(8, 8) / 64, 1.0, n=1)[0]
    blocks = (np.arange(64.0).reshape(8, 8) / 64).reshape(4, 2, 4, 2).mean((1, 3))
    np.testing.assert_allclose(found, np.kron(blocks, np.ones((2, 2))), atol=1e-6)


def test_compression_is_that_of_a_jpeg_file():
    """Against Pillow at quality 50: the same blocks, transform and tables."""
    image = np.asarray(smooth((1, 32, 32, 1)))[0, ..., 0]
    bytes_ = io.BytesIO()
    Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(bytes_, "JPEG", quality=50)
    theirs = np.asarray(Image.open(bytes_)).astype(float) / 255
    ours = drawn(resolution.JPEG, np.rint(image * 255) / 255, 1.0, n=1)[0]
    assert np.abs(ours - theirs).mean() < 0.25 * np.abs(theirs - image).mean()


def test_colours_go_to_hue_and_back():
    colours = np.random.default_rng(0).uniform(size=(50, 3))
    h, s, value = (np.asarray(x) for x in _hsv(jnp.asarray(colours)))
    expected = np.array([colorsys.rgb_to_hsv(*c) for c in colours])
    np.testing.assert_allclose(np.stack([h, s, value], 1), expected, atol=1e-6)
    np.testing.assert_allclose(_rgb(*map(jnp.asarray, (h, s, value))), colours, atol=1e-6)
