"""The ultrasound phantom: published sizes, fully developed speckle, quality that shows, truth that fits, same key same bytes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import ultrasound
from rafmodel.errors import InputError

pytestmark = pytest.mark.exhaustive

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def made():
    return ultrasound.cardiac_ultrasound_with_truth(KEY, n_patients=120, size=64)


def test_sizes_are_the_published_ones(made):
    """Healthy ventricles at end-diastole: inner diameter 45.0 ± 3.6 mm in women and 50.2 ± 4.1 mm in men (Lang et al. 2015)."""
    cohort, truth = made
    for sex, mean, sd in (("F", 4.50, 0.36), ("M", 5.02, 0.41)):
        who = (cohort.attributes["sex"] == sex) & (truth.disease == "none") & ~truth.systole
        size = truth.heart.diameter[who][::2]  # both images at end-diastole are of one ventricle
        assert abs(size.mean() - mean) < 4 * sd / len(size) ** 0.5
        assert abs(size.std() - sd) < 4 * sd / (2 * len(size)) ** 0.5
    thick = truth.disease == "hypertrophy"
    wide = truth.disease == "dilation"
    assert truth.heart.wall[thick & ~truth.systole].mean() > 1.25
    assert truth.heart.diameter[wide & ~truth.systole].mean() > 5.9
    shrinks = [
        truth.heart.diameter[who & truth.systole].sum() / truth.heart.diameter[who & ~truth.systole].sum()
        for who in (wide, ~wide)
    ]
    assert shrinks[0] > 0.8 > shrinks[1]


def test_masks_have_the_area_and_thickness_that_were_drawn(made):
    cohort, truth = made
    area = 1.25 * (ultrasound.DEPTH / 64) ** 2  # square centimetres a pixel
    cavity = (cohort.mask == 1).sum((1, 2)) * area
    along = np.linspace(0, 1, 400)
    sides = jax.vmap(lambda h: jnp.stack(ultrasound.half_width(h, along)))(truth.heart)
    drawn = np.asarray(sides.sum(1).mean(-1)) * truth.heart.length
    whole = np.abs(np.rad2deg(truth.heart.tilt)) < 4  # the sector's edge cuts others
    ratio = cavity[whole] / drawn[whole]
    assert abs(np.median(ratio) - 1) < 0.03
    assert set(np.unique(cohort.mask)) == {0, 1, 2}
    muscle = (cohort.mask == 2).sum((1, 2))
    thick = truth.disease == "hypertrophy"
    assert muscle[thick & ~truth.systole].mean() > 1.3 * muscle[(truth.disease == "none") & ~truth.systole].mean()
    np.testing.assert_array_equal(cohort.label, truth.disease != "none")


def test_four_chambers_lie_where_anatomy_has_them():
    """Places in a normal heart that is not tilted, centimetres: (across, down from the ventricle's apex)."""
    heart = ultrasound.Heart(*map(jnp.float32, (4.8, 0.8, 8.4, 2.0, 0.0)), jnp.zeros(4))
    places = {
        "left ventricle": (0, 4, 1, True),
        "septum": (-2.75, 4, 2, False),
        "lateral wall": (2.75, 4, 2, False),
        "right ventricle": (-4.2, 6, 0, True),
        "left atrium": (0, 10.2, 0, True),
        "right atrium": (-4.5, 10, 0, True),
        "between the atria": (-2.25, 10.2, 0, False),
        "lung beside the heart": (4.5, 6, 0, False),
        "below the atria": (0, 13.5, 0, False),
        "mitral valve": (0, 7.9, 1, False),
    }
    for name, (across, down, tissue, dark) in places.items():
        found, echo = ultrasound.anatomy(heart, jnp.float32(across), jnp.float32(down) + heart.apex)
        assert (int(found), bool(echo < -40)) == (tissue, dark), name
    sides = [ultrasound.anatomy(heart, jnp.float32(x), heart.apex + 6.0)[1] for x in (-4.2, 4.2)]
    assert sides[0] < sides[1]  # the right heart lies to the left of the picture


def test_speckle_is_fully_developed():
    """The envelope of many scatterers is Rayleigh: mean over s.d. 1.91 (Wagner et al. 1983), and grains are as wide as asked."""
    scatter = jax.random.normal(KEY, (2, 400, 400), jnp.float32)
    found = np.asarray(ultrasound.speckle(scatter, axial=1.0, lateral=2.5))
    envelope = np.hypot(*found)
    assert envelope.mean() / envelope.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.02)
    field = found[0] - found[0].mean()
    for axis, width in ((0, 1.0), (1, 2.5)):
        near = (field * np.roll(field, 1, axis)).mean() / (field**2).mean()
        assert near == pytest.approx(np.exp(-1 / (4 * width**2)), abs=0.03)  # of a Gaussian kernel with itself


def test_quality_shows(made):
    """Contrast between muscle and cavity, in s.d. of the cavity, grows along the scale."""
    cohort, truth = made
    image = cohort.image[..., 0] / 255.0
    contrast = []
    for picture, mask in zip(image, cohort.mask, strict=True):
        one, two = picture[mask == 1], picture[mask == 2]
        contrast.append((two.mean() - one.mean()) / one.std())
    order = np.argsort(truth.acquisition.quality)
    thirds = [np.mean(np.array(contrast)[part]) for part in np.array_split(order, 3)]
    assert thirds[0] + 0.5 < thirds[1] < thirds[2] - 0.5
    grade = cohort.attributes["quality"]
    np.testing.assert_array_equal(grade == "poor", truth.acquisition.quality < 1 / 3)


def test_patients_stay_together_and_the_key_decides(made):
    cohort, _ = made
    for column in (cohort.split, cohort.attributes["sex"], cohort.attributes["probe"]):
        assert all(len(set(column[cohort.patient == p])) == 1 for p in np.unique(cohort.patient))
    again = ultrasound.cardiac_ultrasound(KEY, n_patients=120, size=64)
    np.testing.assert_array_equal(again.image, cohort.image)
    other = ultrasound.cardiac_ultrasound(jax.random.key(1), n_patients=120, size=64)
    assert not np.array_equal(other.image, cohort.image)
    assert (cohort.image[:, 0, 0] == 0).all()  # outside the sector


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="at least 20"):
        ultrasound.cardiac_ultrasound(KEY, n_patients=3)
