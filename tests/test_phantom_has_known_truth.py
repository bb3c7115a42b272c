"""The phantom holds what its truth says: lesions in their places, two sites, two sexes, whole patients."""

import jax
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from rafmodel import cohort, phantoms
from rafmodel.errors import InputError
from rafmodel.phantoms import IMAGING, phantom, phantom_truth

KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def images():
    return phantom(KEY)


@pytest.fixture(scope="module")
def truth():
    return phantom_truth(KEY)


def pixel(place: np.ndarray, size: int = 28) -> np.ndarray:
    """Place in [-1, 1] as a pixel index."""
    return np.floor((place + 1) / 2 * size).astype(int).clip(0, size - 1)


def test_same_key_same_bytes(images):
    again = phantom(jax.random.key(7))
    assert again.image.tobytes() == images.image.tobytes()
    assert cohort.fingerprint(again) == cohort.fingerprint(images)
    assert cohort.fingerprint(phantom(jax.random.key(8))) != cohort.fingerprint(images)


def test_precision_of_the_session_changes_no_byte():
    with jax.enable_x64(True):
        double = phantom(KEY, n_patients=30)
    with jax.enable_x64(False):
        single = phantom(KEY, n_patients=30)
    assert cohort.fingerprint(double) == cohort.fingerprint(single)


def test_shapes_and_ranges(images, truth):
    n = len(images.label)
    assert n == 1599
    assert images.image.shape == (n, 28, 28, 1)
    assert images.image.dtype == np.float32
    assert 0 <= images.image.min() < images.image.max() <= 1
    assert images.mask.shape == (n, 28, 28)
    assert truth.centre.shape == (n, 2)
    assert phantom(KEY, n_patients=30, size=64).image.shape[1:] == (64, 64, 1)


def test_shares_of_patients_are_exact(images):
    patients, first, count = np.unique(images.patient, return_index=True, return_counts=True)
    assert len(patients) == 800
    assert np.bincount(count).tolist() == [0, 267, 267, 266]
    assert (images.label[first] == 1).sum() == 320
    assert (images.attributes["site"][first] == "B").sum() == 200
    assert (images.attributes["sex"][first] == "F").sum() == 400
    assert [(images.split[first] == s).sum() for s in cohort.SPLITS] == [480, 160, 160]


def test_a_patient_has_one_class_site_sex_and_split(images):
    for column in (images.label, images.split, *images.attributes.values()):
        pairs = {*zip(images.patient.tolist(), column.tolist(), strict=True)}
        assert len(pairs) == 800


def test_attributes_do_not_tell_the_class(images):
    """Drawn apart: the difference of prevalence between subgroups of patients is chance."""
    _, first = np.unique(images.patient, return_index=True)
    case = images.label[first]
    for attribute in images.attributes.values():
        a, b = (case[attribute[first] == name] for name in np.unique(attribute))
        assert abs(a.mean() - b.mean()) < 4 * np.sqrt(0.4 * 0.6 * (1 / len(a) + 1 / len(b)))


def test_label_amplitude_and_mask_agree(images, truth):
    np.testing.assert_array_equal(truth.amplitude > 0, images.label == 1)
    assert not images.mask[images.label == 0].any()
    found = images.mask[images.label == 1].any((1, 2))
    assert found.mean() > 0.95  # a narrow lesion between four pixels, or at the edge, may not fill one
    height = truth.amplitude[images.label == 1]
    assert height.mean() == pytest.approx(0.35, abs=4 * height.std() / np.sqrt(320))  # patients, not images
    assert (height.min(), height.max()) == pytest.approx((0.6 * 0.35, 1.4 * 0.35), rel=0.02)


def test_a_lesion_is_where_the_truth_says(images, truth):
    """The same key without lesions gives the same images but for the lesions."""
    none = phantom(KEY, lesion=0.0)
    np.testing.assert_array_equal(none.image[images.label == 0], images.image[images.label == 0])
    case = np.flatnonzero(images.label == 1)
    added = (images.image - none.image)[case, ..., 0]
    mass = added.clip(0).sum((1, 2))
    assert (added > -1e-6).all()
    axis = (2 * np.arange(28) + 1) / 28 - 1
    moments = [np.einsum("nhw,h->n", added, axis), np.einsum("nhw,w->n", added, axis)]
    off = np.linalg.norm(np.stack(moments, 1) / mass[:, None] - truth.centre[case], axis=1)
    assert np.median(off) < 0.03  # under half a pixel (0.071 wide); the organ's edge cuts a few
    assert np.quantile(off, 0.99) < 0.15


def test_lesions_cluster_at_one_pole_of_the_organ(truth):
    """In the organ's own frame, turned back as complex numbers, all lie in one disc around the pole."""
    anatomy = phantoms._cohort(KEY, 800, 0.4)[2]
    away = ((truth.centre - anatomy.centre) @ [1, 1j]) * np.exp(-1j * anatomy.tilt)
    local = np.stack([away.real, away.imag], 1) / anatomy.axes - [-0.35, 0.15]
    radius = np.linalg.norm(local, axis=1)
    assert radius.max() < 0.401
    assert (radius**2).mean() == pytest.approx(0.4**2 / 2, rel=0.1)  # uniform over the disc


def test_a_lesion_adds_the_mass_of_its_gaussian(images, truth):
    """``2 pi amplitude width^2``, times the site's contrast; blur moves mass but keeps it."""
    none = phantom(KEY, lesion=0.0)
    added = (images.image - none.image)[..., 0].sum((1, 2)) * (2 / 28) ** 2
    contrast = np.array([site.contrast for site in IMAGING])[(images.attributes["site"] == "B").astype(int)]
    expected = 2 * np.pi * truth.amplitude * truth.width**2 * contrast
    unclipped = (images.image.max((1, 2, 3)) < 1) & (images.image.min((1, 2, 3)) > 0) & (images.label == 1)
    ratio = added[unclipped] / expected[unclipped]
    assert 0.97 < np.median(ratio) <= 1.001  # the organ's soft edge takes some, nothing adds
    for site in "AB":
        here = images.attributes["site"][unclipped] == site
        assert 0.95 < np.median(ratio[here]) <= 1.001


def test_the_brightest_spot_of_a_large_lesion_lies_in_its_mask():
    strong = phantom(KEY, lesion=1.5)
    place = pixel(phantom_truth(KEY, lesion=1.5).centre)
    case = np.flatnonzero(strong.label == 1)
    inside = strong.mask[case, place[case, 0], place[case, 1]] == 1
    assert inside.mean() > 0.9
    masked = strong.mask.astype(bool)[..., None]
    seen = [i for i in case if masked[i].any()]
    height = [strong.image[i][masked[i]].mean() - strong.image[i][~masked[i]].mean() for i in seen]
    assert np.mean(height) > 0.3


def test_site_b_has_less_contrast_and_more_noise(images):
    """Corners show no organ: their s.d. from pixel to pixel is noise.  The organ's height is the contrast."""
    b = images.attributes["site"] == "B"
    control = images.label == 0
    corner = images.image[:, :4, :4, 0]
    noise = corner.std((1, 2))
    assert noise[b].mean() > 1.5 * noise[~b].mean()
    organ = images.image[:, 11:17, 11:17, 0].mean((1, 2)) - corner.mean((1, 2))
    ratio = organ[b & control].mean() / organ[~b & control].mean()
    assert ratio == pytest.approx(IMAGING[1].contrast / IMAGING[0].contrast, abs=0.05)


def test_the_organ_of_f_is_smaller(images):
    bright = (images.image[..., 0] > 0.35).mean((1, 2))[images.attributes["site"] == "A"]
    sex = images.attributes["sex"][images.attributes["site"] == "A"]
    assert bright[sex == "F"].mean() == pytest.approx(0.85**2 * bright[sex == "M"].mean(), rel=0.1)


def linear_scores(train, test) -> np.ndarray:
    model = make_pipeline(PCA(50, random_state=0), LogisticRegression(max_iter=2000))
    flat = [cohort.pixels(part).reshape(len(part.label), -1) for part in (train, test)]
    return model.fit(flat[0], train.label).decision_function(flat[1])


def test_a_linear_reader_finds_it_harder_at_site_b():
    """AUC over four keys: neither easy nor hopeless, lower at B; nothing to find without lesions."""
    found = []
    for seed in range(4):
        whole = phantom(jax.random.key(seed))
        test = cohort.part(whole, "test")
        score = linear_scores(cohort.part(whole, "train"), test)
        rows = [np.ones(len(score), bool), *(test.attributes["site"] == site for site in "AB")]
        found.append([roc_auc_score(test.label[r], score[r]) for r in rows])
    everyone, at_a, at_b = np.mean(found, 0)
    assert 0.75 < everyone < 0.9
    assert at_a - at_b > 0.04  # 0.08 over twelve keys, s.d. of a key's difference about 0.08
    blank = phantom(KEY, lesion=0.0)
    test = cohort.part(blank, "test")
    auc = roc_auc_score(test.label, linear_scores(cohort.part(blank, "train"), test))
    n_case, n_control = test.label.sum(), (test.label == 0).sum()
    se = np.sqrt(2 * (n_case + n_control + 1) / (12 * n_case * n_control))  # Mann-Whitney; two a patient
    assert abs(auc - 0.5) < 4 * se


@pytest.mark.parametrize("option", ["n_patients 5", "size 4", "prevalence 0", "prevalence 1"])
def test_options_outside_their_range(option):
    name, value = option.split()
    with pytest.raises(InputError, match=f"phantom: .*{option}"):
        phantom(KEY, **{name: int(value)})


# ---- in three axes of space


@pytest.fixture(scope="module")
def volumes():
    """With and without lesions, and the truth."""
    options = {"n_patients": 40, "volumes": True}
    pair = (phantom(KEY, size=20, lesion=lesion, **options) for lesion in (0.25, 0.0))
    return *pair, phantom_truth(KEY, lesion=0.25, **options)


def test_volumes_are_the_same_patients_with_one_axis_more(volumes):
    whole, none, truth = volumes
    flat = phantom(KEY, n_patients=40, size=20)
    assert whole.image.shape == (len(flat.label), 20, 20, 20, 1)
    assert whole.mask.shape == whole.image.shape[:-1]
    assert truth.centre.shape == (len(flat.label), 3)
    for column in ("patient", "split", "label"):
        np.testing.assert_array_equal(getattr(whole, column), getattr(flat, column))
    np.testing.assert_array_equal(none.image[whole.label == 0], whole.image[whole.label == 0])
    again = phantom(jax.random.key(7), n_patients=40, size=20, lesion=0.25, volumes=True)
    assert cohort.fingerprint(again) == cohort.fingerprint(whole)


def test_a_ball_lies_where_the_truth_says_and_weighs_what_it_should(volumes):
    """Centre of mass on all three axes; mass ``(2 pi)^(3/2) amplitude width^3``, times contrast, as far as the organ goes."""
    whole, none, truth = volumes
    added = (whole.image - none.image)[..., 0]
    contrast = np.array([site.contrast for site in IMAGING])[(whole.attributes["site"] == "B").astype(int)]
    open_ = (whole.image.max((1, 2, 3, 4)) < 1) & (whole.label == 1)  # black is clipped alike with and without
    assert open_.sum() >= 10
    added, truth = added[open_], phantoms.Truth(*(column[open_] for column in truth))
    axis, mass = (2 * np.arange(20) + 1) / 20 - 1, added.sum((1, 2, 3))
    moments = [np.einsum(f"nabc,{letter}->n", added, axis) / mass for letter in "abc"]
    assert np.median(np.abs(np.stack(moments, 1) - truth.centre), 0).max() < 0.03  # a voxel is 0.1 wide
    anatomy = phantoms._cohort(KEY, 40, 0.4, 3)[2]
    shares = [inside_the_organ(anatomy, i, *ball) for i, *ball in zip(np.flatnonzero(open_), *truth[1:], strict=True)]
    expected = (2 * np.pi) ** 1.5 * truth.amplitude * truth.width**3 * contrast[open_] * shares
    np.testing.assert_allclose(mass * (2 / 20) ** 3 / expected, 1, atol=0.05)
    assert np.median(mass * (2 / 20) ** 3 / expected) == pytest.approx(1, abs=0.01)


def inside_the_organ(anatomy, i: int, centre: np.ndarray, width: float) -> float:
    """Share of a Gaussian ball that the organ's soft ellipsoid holds, by drawn points turned as complex numbers."""
    points = centre + width * np.random.default_rng(0).normal(size=(20000, 3)) - anatomy.centre[i]
    plane = (points[:, :2] @ [1, 1j]) * np.exp(-1j * anatomy.tilt[i])
    radius = np.linalg.norm(np.stack([plane.real, plane.imag, points[:, 2]], 1) / anatomy.axes[i], axis=1)
    return float((1 / (1 + np.exp((radius - 1) / 0.05))).mean())


def test_lesions_of_volumes_fill_a_ball():
    """In the organ's own frame they are uniform over a ball: the cube of the distance is, and every axis has a share."""
    anatomy, truth = phantoms._cohort(KEY, 800, 0.4, 3)[2], phantom_truth(KEY, volumes=True)
    away = truth.centre - anatomy.centre
    plane = (away[:, :2] @ [1, 1j]) * np.exp(-1j * anatomy.tilt)
    local = np.stack([plane.real, plane.imag, away[:, 2]], 1) / anatomy.axes - [-0.35, 0.15, 0]
    share = (np.linalg.norm(local, axis=1) / 0.4) ** 3
    assert share.max() < 1.01
    assert share.mean() == pytest.approx(0.5, abs=4 * np.sqrt(1 / 12 / len(share)))
    variance = 0.4**2 / 5  # of one coordinate of a uniform ball
    np.testing.assert_allclose((local**2).mean(0), variance, rtol=4 * np.sqrt(0.86 / len(share)))  # kurtosis 15/7


def test_the_organ_has_the_volume_of_its_ellipsoid():
    anatomy = phantoms._cohort(KEY, 20, 0.4, 3)[2]
    axis = (2 * np.arange(40) + 1) / 40 - 1
    for i in range(3):
        one = phantoms._Anatomy(*(column[i] for column in anatomy))
        found = np.asarray(phantoms._organ(axis.astype(np.float32), one)).sum() * (2 / 40) ** 3
        soft = 1 + (np.pi * 0.05) ** 2  # integral of r² under a logistic edge of width 0.05
        assert found == pytest.approx(4 / 3 * np.pi * np.prod(one.axes) * soft, rel=0.02)


def test_volumes_have_a_name_on_the_command_line():
    named = phantoms.named("phantom-3d", KEY, 12)
    assert named.name == "phantom-3d"
    assert named.image.shape[1:] == (12, 12, 12, 1)
