"""What a cohort's images vary by is measured, fitted, and comes back when the fit is used as a law."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.transform import SimilarityTransform, warp

from rafmodel import cohort as cohorts
from rafmodel import injection, own_laws, own_variability, recovery, state, variability
from rafmodel import study as studies
from rafmodel.detectors import SCORES
from rafmodel.errors import InputError
from rafmodel.phantoms import phantom
from rafmodel.state import STATES
from rafmodel.variability import fitted

pytestmark = pytest.mark.exhaustive

NAMES = list(STATES)
N = 256


@pytest.fixture(scope="module")
def hospital():
    """One anatomy: the phantom's site A, half of it altered by a law that is known."""
    cohort = phantom(jax.random.key(3), n_patients=230, size=28, lesion=0.2)
    cohort = cohorts.take(cohort, np.flatnonzero(cohort.attributes["site"] == "A")[:N])
    code = np.unique(cohort.patient, return_inverse=True)[1] % 2
    rng = np.random.default_rng(0)
    image = cohort.image[..., 0].astype(float)
    for i in np.flatnonzero(code):  # by another library, one at a time
        gained = np.exp(-0.35 + 0.1 * rng.normal())
        move = SimilarityTransform(translation=(0.12 * 28, 0))
        image[i] = warp(np.clip(gained * image[i], 0, 1), move, mode="edge", order=1)
        image[i] = image[i] + 0.06 * rng.normal(size=image[i].shape)
    image = np.clip(image, 0, 1).astype(np.float32)[..., None]
    attributes = {"site": np.array(["here", "there"])[code]}
    return replace(cohort, image=image, attributes=attributes)


@pytest.fixture(scope="module", autouse=True)
def fewer():
    """Amounts are added to half as many images, to spare time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(injection, "IMAGES", 128)
        yield


@pytest.fixture(scope="module")
def measured(hospital):
    return measure(hospital)


@pytest.fixture(scope="module")
def posterior(hospital, measured):
    return fit_of(hospital, measured)


def measure(cohort, **options):
    return own_variability.measure(jax.random.key(1), cohort, cohorts.groups(cohort, "site")[1], **options)


def fit_of(cohort, measured):
    names, code = cohorts.groups(cohort, "site")
    return own_variability.posterior(jax.random.key(2), measured, cohort, names, code, ("site", 150, 150, 2))


def difference(posterior, name: str) -> float:
    mean = posterior["mean"].sel(quantity=name).mean(("chain", "draw"))
    return float(mean.sel(group="there") - mean.sel(group="here"))


def test_known_amounts_come_back(measured):
    """Slopes near 1 for amounts of 0.2 in the log, 10 degrees and so on; a flipped sign would give −1."""
    found = measured.recovery
    for name in ("gain", "gamma", "noise", "down", "across", "scale", "field_x", "field_y"):
        i = NAMES.index(name)
        assert 0.7 < found.slope[i] < 1.3, (name, found.slope[i])
        assert found.correlation[i] > 0.5, (name, found.correlation[i])
        assert found.identified[i]
    i = NAMES.index("blur")  # noise hides it at 28 pixels, and then it is said to be unknown
    low, high = injection.SLOPES
    assert found.identified[i] == (low <= found.slope[i] <= high and found.correlation[i] >= injection.FEWEST)


def test_poses_agree_with_another_library(hospital, measured):
    """scikit-image moves the structure by +0.12 sides, and turns it; the estimate follows with the same sign."""
    images = hospital.image[:64, ..., 0].astype(float)
    middle = SimilarityTransform(translation=(-13.5, -13.5))
    amounts = {
        "across": (0.1, SimilarityTransform(translation=(-2.8, 0))),  # warp reads from here: content moves right
        "down": (-0.1, SimilarityTransform(translation=(0, 2.8))),
        "scale": (0.2, middle + SimilarityTransform(scale=np.exp(-0.2)) + middle.inverse),
    }
    before = recovery.measured(measured.reference, measured.recovery, jnp.asarray(hospital.image[:64]))
    for name, (amount, move) in amounts.items():
        moved = np.stack([warp(x, move, mode="edge", order=1) for x in images]).astype(np.float32)[..., None]
        change = recovery.measured(measured.reference, measured.recovery, jnp.asarray(moved)) - before
        found = np.median(change[:, NAMES.index(name)])
        assert found == pytest.approx(amount, rel=0.25), name


def test_noise_has_the_size_that_was_added():
    """White noise on a flat image: the s.d. itself, to the sampling error of about 700 pixels and the cut at half."""
    noisy = 0.5 + 0.05 * np.random.default_rng(1).normal(size=(128, 28, 28, 1))
    found = np.exp(np.asarray(state.log_noise(jnp.asarray(noisy, jnp.float32))))
    assert found.mean() == pytest.approx(0.05, rel=0.03)


def test_artifacts_are_called_where_they_are(measured):
    """Injected spikes and zippers are found; the untouched cohort is rarely called."""
    found = measured.recovery.detectors.found / measured.recovery.detectors.tried
    assert found[SCORES.index("spike")] > 0.6
    assert found[SCORES.index("zipper")] > 0.9
    assert measured.present[:, : len(SCORES)].mean() < 0.1


def test_a_symmetric_organ_cannot_be_turned(hospital):
    """Rings about the centre look alike at every angle: rotation is said to be unknown, and its law is nan."""
    radius = np.hypot(*np.meshgrid(*[np.linspace(-1, 1, 28)] * 2))
    rng = np.random.default_rng(0)
    wide = rng.uniform(0.8, 1.2, (N, 1, 1))
    rings = np.cos(4 * wide * radius) * np.exp(
        -((radius / 0.5) ** 2)
    )  # nothing in the corners, which a turn would show
    image = 0.35 + 0.3 * rings + 0.02 * rng.normal(size=(N, 28, 28))
    organ = replace(hospital, image=image.clip(0, 1).astype(np.float32)[..., None], mask=None)
    found = measure(organ)
    assert not found.recovery.identified[NAMES.index("rotation")]
    table = fit_of(organ, found)
    assert np.isnan(table["mean"].sel(quantity="rotation")).all()
    assert "turning the mean image by 20°" in str(table["why"].sel(quantity="rotation").item())
    assert "rotation" in own_variability.summary(table).split("cannot be told")[1]


def test_the_fit_finds_what_was_done(posterior):
    """Gain −0.35 and 0.12 sides to the left, with intervals; noise 0.06 in quadrature to the own."""
    gain = posterior["mean"].sel(quantity="gain")
    low, high = np.quantile(gain.sel(group="there") - gain.sel(group="here"), [0.005, 0.995])
    assert low < -0.35 + 0.05  # anatomy of the two halves differs by chance, s.e. about 0.02
    assert high > -0.35 - 0.05
    assert difference(posterior, "across") == pytest.approx(-0.12, abs=0.035)
    noise = np.exp(posterior["mean"].sel(quantity="noise").mean(("chain", "draw")))
    added = np.sqrt(float(noise.sel(group="there")) ** 2 - float(noise.sel(group="here")) ** 2)
    assert added == pytest.approx(0.06, rel=0.2)


def test_measurement_error_is_taken_out():
    """States of s.d. 1 seen with errors of s.d. 1.5: the fit says 1, not √3.25."""
    rng = np.random.default_rng(0)
    n = 2000
    value = np.full((n, len(own_variability.QUANTITIES)), np.nan)
    value[:, 0] = rng.normal(size=n) + 1.5 * rng.normal(size=n)
    sd = laws(value, np.zeros(n, int), np.arange(n), error=1.5)["sd"][0]
    assert sd.mean() == pytest.approx(1.0, abs=4 * sd.std())
    assert sd.mean() < 1.3


def test_a_small_subgroup_borrows_from_the_others():
    """Four patients far out are drawn towards the other subgroups; a large subgroup stays where it is."""
    rng = np.random.default_rng(0)
    code = np.repeat([0, 1, 2, 3, 4], [400, 400, 400, 400, 4])
    value = np.full((len(code), len(own_variability.QUANTITIES)), np.nan)
    value[:, 0] = rng.normal(size=len(code)) + np.array([-0.1, 0, 0.1, 0.05, 0])[code]
    value[code == 4, 0] = np.array([0.5, 1.0, 1.5, 2.0])
    means = laws(value, code, np.arange(len(code)))["mean"][0].mean(0)
    assert means[4] < 0.8  # of 1.25
    assert means[1] == pytest.approx(value[code == 1, 0].mean(), abs=0.06)


def laws(
    value: np.ndarray, code: np.ndarray, patient: np.ndarray, error: float = 0.0, **how: float
) -> dict[str, np.ndarray]:
    """Draws of the first quantity's law in its own unit; how: doubt and slope_error."""
    blank = np.zeros((code.max() + 1, 1))
    known = blank + error, blank + how.get("doubt", 0.0), blank + how.get("slope_error", 0.0)
    sums, groups = own_laws.lanes(value[:, :1], known, patient.astype(str), code)
    found = own_laws.state_chains(
        jax.random.key(0), tuple(sums[:7]), groups, n_groups=code.max() + 1, warmup=150, draws=150
    )
    mean = np.asarray(found["mean"]) * sums.scale + sums.centre
    return {"mean": mean, "sd": np.asarray(found["sd"]) * sums.scale}


def test_doubt_about_the_calibration_widens_the_intervals():
    """A mean known to 0.5 at best is not known better from many images; a slope known to 20 % leaves 20 % in the s.d."""
    rng = np.random.default_rng(1)
    n = 2000
    value = np.full((n, len(own_variability.QUANTITIES)), np.nan)
    value[:, 0] = rng.normal(size=n)
    found = laws(value, np.zeros(n, int), np.arange(n), doubt=0.5, slope_error=0.2)
    assert 0.3 < found["mean"][0].std() < 0.6  # the prior on the mean takes a little
    assert 0.1 < np.log(found["sd"][0]).std() < 0.3


# ---- as a law


def test_dose_zero_changes_nothing_and_equal_fits_are_equal_laws(posterior, hospital):
    law, again = fitted.shift_law(posterior, "there"), fitted.shift_law(posterior, "there")
    assert law == again
    assert hash(law) == hash(again)
    image = jnp.asarray(hospital.image[0])
    assert np.array_equal(law.apply(jax.random.key(0), image, 0.0), image)
    one, two = (law.apply(jax.random.key(5), image, 1.0) for _ in range(2))
    assert np.array_equal(one, two)
    assert law.name == "site=there"
    assert "here" in law.unit
    other = posterior.assign(mean=posterior["mean"] + 1e-3 * (posterior["group"] == "there"))
    assert fitted.shift_law(other, "there").unit != law.unit  # what a study keeps is found by the unit


def test_the_law_carries_one_site_to_the_other(posterior, measured, hospital):
    """Images from here, through the law of there, are measured as those from there: most of each difference is made up."""
    law = fitted.shift_law(posterior, "there", "here")
    keys = jax.random.split(jax.random.key(7), N)
    here = hospital.attributes["site"] == "here"
    moved = np.asarray(variability.alter(keys[0], law, jnp.asarray(hospital.image), jnp.array([1.0], jnp.float32))[0])
    image = np.where(here[:, None, None, None], moved, hospital.image)
    again = measure(replace(hospital, image=image), like=measured)
    refit = fit_of(hospital, again)
    for name in ("gain", "across", "noise"):
        left = difference(refit, name) / difference(posterior, name)
        assert abs(left) < 0.3, (name, left)


def test_a_law_acts_on_a_volume_plane_by_plane(posterior, hospital):
    """Every plane is moved, lit and toned as the image is; only its noise is its own."""
    law = fitted.shift_law(posterior, "there")
    image = jnp.asarray(hospital.image[0])
    key, one = jax.random.key(5), jnp.float32(1)
    drawn = law.draw(key, (4, *image.shape))
    assert drawn["white"].shape == (4, *image.shape)
    volume = jnp.stack([image, image, jnp.flip(image, 1), image])
    got = law.rebuild(drawn, volume, one)
    for i, plane in enumerate(volume):
        alone = law.rebuild(drawn | {"white": drawn["white"][i]}, plane, one)
        np.testing.assert_allclose(got[i], alone, atol=1e-6)
    assert np.abs(got[0] - got[1]).max() > 1e-3
    mask = (volume[..., 0] > 0.4).astype(jnp.uint8)
    moved = law.move(drawn, mask, one)
    for i, plane in enumerate(mask):
        np.testing.assert_array_equal(moved[i], law.move(drawn | {"white": drawn["white"][i]}, plane, one))


def test_artifacts_that_nobody_has_are_left_out_of_a_law():
    value = dict(zip(fitted._COLUMNS, fitted._nothing(), strict=True))
    value["rings prevalence"] = 0.5
    drawn = fitted.Difference((tuple(value.values()),), -1.0)(jax.random.key(0), (16, 16, 1))
    assert [name for name in drawn if name.endswith(" at")] == ["rings at"]


def test_volumes_are_measured_in_their_middle_plane(hospital, measured, tmp_path):
    """The same states as the images that lie in the middle of volumes of other things; the fit is a shift of volumes."""
    rng = np.random.default_rng(0)
    volume = rng.uniform(size=(N, 5, *hospital.image.shape[1:])).astype(np.float32)
    volume[:, 2] = hospital.image
    np.testing.assert_array_equal(state.grey_images(volume), state.grey_images(hospital.image))
    deep = replace(hospital, image=volume, mask=None)
    again = measure(deep)
    k = len(STATES)
    np.testing.assert_allclose(again.value[:, :k], measured.value[:, :k])
    found = fit_of(deep, again)
    assert "measured in the middle plane of volumes (5, 28, 28)" in own_variability.summary(found)
    assert difference(found, "gain") == pytest.approx(-0.35, abs=0.1)
    path = tmp_path / "volumes.nc"
    studies.save(found, path)
    [law] = variability.suited([f"{path}:there:here"], volume.shape[1:])
    assert law == fitted.shift_law(found, "there", "here")


def test_a_subgroup_that_is_called_too_often_is_pointed_out(posterior):
    """Where most of a subgroup's images are called for an artifact, and nowhere else."""
    assert "images are called" not in own_variability.summary(posterior)
    crowded = posterior.assign(called=("group", np.where(posterior["group"] == "there", 0.62, 0.1)))
    [line] = [line for line in own_variability.summary(crowded).splitlines() if "images are called" in line]
    assert line.strip().startswith("there: 62% of images are called")
    assert line.endswith("do not rely on this")


def test_a_fit_file_is_a_shift(posterior, tmp_path):
    path = tmp_path / "own.nc"
    studies.save(posterior, path)
    [law, noise] = variability.suited([f"{path}:there", "noise"], (28, 28, 1))
    assert law == fitted.shift_law(posterior, "there")
    assert noise.name == "noise"
    own = variability.select([f"{path}:there:there"])[0]
    assert "own spread" in own.unit


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("own.nc:Z", ("no subgroup 'Z'", "here, there")),
        ("own.nc:there:Z", ("no subgroup 'Z'",)),
        ("own.nc:", ("names no subgroup", "FILE.nc:SUBGROUP")),
        ("missing.nc:B", ("no such file", "cohort fit")),
        ("text.nc:B", ("not a readable netCDF",)),
    ],
)
def test_bad_requests_are_one_line(posterior, tmp_path, asked, words):
    studies.save(posterior, tmp_path / "own.nc")
    (tmp_path / "text.nc").write_text("nothing")
    with pytest.raises(InputError) as problem:
        variability.select([f"{tmp_path}/{asked}"])
    line = str(problem.value)
    assert "\n" not in line
    for word in words:
        assert word in line, line


def test_bad_cohorts_are_one_line(hospital):
    few = cohorts.take(hospital, np.arange(10))
    with pytest.raises(InputError, match="10 images; own variability needs 24"):
        own_variability.measure(jax.random.key(0), few)
    with pytest.raises(InputError, match="no attribute 'age'"):
        own_variability.fit(jax.random.key(0), hospital, group="age")


def test_what_has_no_estimator_is_named():
    text = " ".join(own_variability.UNSEEN)
    assert "metal" in text
    assert "ghosting" not in text
    assert injection.FEWEST >= 0.5


@pytest.mark.parametrize(("images", "told"), [(30, False), (600, True)])
def test_what_comes_back_must_be_known_well_enough(images, told):
    """One state comes back with as much error as change: many images tell its slope to a fifth, few do not; others are exact."""
    rng = np.random.default_rng(0)
    k = len(injection.NAMES)
    steps = rng.normal(size=(3, images, k))
    steps[-1, :, injection.NOISE] = np.abs(steps[-1, :, injection.NOISE])
    missed = 0.01 * rng.normal(size=(3, images, k))
    blur = injection.NAMES.index("blur")
    missed[:2, :, blur] *= 150
    found = np.stack([steps + missed] * 2, 1)
    found[-1, ..., [i for i in range(k) if i != injection.NOISE]] = 0.0  # noise alone moves nothing else
    worth = injection._worth(found, np.zeros((2, images, k)), steps, np.zeros(images, int), 1, 1.0)
    correlation, identified, response_error = worth[3], worth[-1], worth[7]
    assert correlation[blur] > injection.FEWEST
    assert (response_error[0, blur] <= injection.UNSURE) == told
    assert identified[blur] == told
    assert np.delete(identified, blur).all()
