"""A cohort's own variability as a user meets it: fitted, read, and used as a shift, all from the command line."""

import os
import subprocess
import sys
from itertools import combinations

import jax
import numpy as np
import pytest
import xarray as xr

from rafmodel import own_variability
from rafmodel.detectors import SCORES, Worth
from rafmodel.phantoms import phantom
from rafmodel.recovery import Recovery
from rafmodel.state import STATES
from rafmodel.variability import fitted

SEEN = 18  # pixels a side: quick


def rafmodel(folder, *arguments):
    """The finished process of one command, run in a folder."""
    quiet = {k: v for k, v in os.environ.items() if k not in ("JAX_ENABLE_X64", "JAX_NUMPY_RANK_PROMOTION")}
    command = [sys.executable, "-m", "rafmodel", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=quiet, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small cohort of two sites, of which B is darker: exp(−0.5) of A's grey values."""
    place = tmp_path_factory.mktemp("hospital")
    cohort = phantom(jax.random.key(2), n_patients=90, size=SEEN)
    rows = np.flatnonzero(cohort.attributes["site"] == "A")
    code = np.unique(cohort.patient[rows], return_inverse=True)[1] % 2
    image = np.asarray(cohort.image[rows], float) * np.where(code, np.exp(-0.5), 1.0)[:, None, None, None]
    np.savez(
        place / "two.npz",
        images=(255 * image[..., 0]).round().clip(0, 255).astype(np.uint8),
        labels=cohort.label[rows],
        patient=cohort.patient[rows],
        split=cohort.split[rows],
        site=np.array(["A", "B"])[code],
    )
    return place


@pytest.fixture(scope="module")
def told(folder):
    return rafmodel(folder, "cohort", "fit", "--cohort", "two.npz", "--group", "site", "--out", "own.nc")


@pytest.mark.exhaustive
def test_fit_then_predict_with_site_b_as_a_shift(folder, told):
    """The two commands of the README, one after the other; B is found darker, and its images are foreseen to be harder."""
    assert told.returncode == 0, told.stderr
    assert "use it: rafmodel predict --cohort two.npz --shifts own.nc:B" in told.stdout
    found = xr.load_dataset(folder / "own.nc", engine="h5netcdf")
    gain = found["mean"].sel(quantity="gain")
    assert float((gain.sel(group="B") - gain.sel(group="A")).mean()) == pytest.approx(-0.5, abs=0.1)
    told_again = own_variability.disagreement(found)
    assert bool(told_again) == (found.attrs["max_rhat"] >= own_variability.RHAT)
    assert told_again in told.stderr
    done = rafmodel(
        folder, "predict", "--cohort", "two.npz", "--shifts", "own.nc:B", "--designs", "untrained", "--out", "out"
    )
    assert done.returncode == 0, done.stderr
    assert "site=B" in done.stdout
    table = xr.load_dataset(folder / "out" / "prediction.nc", engine="h5netcdf")
    assert [str(name) for name in table["shift"].values] == ["site=B"]
    auc = table["predicted_auc"].sel(group="all", shift="site=B", design="untrained").values
    assert np.isfinite(auc).all()
    assert np.ptp(auc) > 1e-3  # a shift that left the images as they are would change nothing


def refused(done: subprocess.CompletedProcess, words: tuple[str, ...]) -> None:
    """Exit code 2 and one line that holds every word."""
    assert done.returncode == 2, done.stderr
    line = done.stderr.strip()
    assert line.startswith("rafmodel: ")
    assert "\n" not in line
    for word in words:
        assert word in line, line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("predict", "--cohort", "two.npz", "--shifts", "none.nc:B"), ("no such file", "cohort fit")),
        (("cohort", "fit", "--cohort", "two.npz", "--group", "age"), ("no attribute 'age'", "site")),
        (("cohort", "fit", "--cohort", "two.npz", "--out", "own"), ("--out own", "ends in .nc")),
    ],
)
def test_wrong_requests_are_one_line(folder, arguments, words):
    refused(rafmodel(folder, *arguments), words)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("predict", "--cohort", "two.npz", "--shifts", "own.nc:Z"), ("no subgroup 'Z'", "A, B")),
    ],
)
def test_a_fit_that_does_not_suit_is_one_line(folder, told, arguments, words):
    refused(rafmodel(folder, *arguments), words)


# ---- strengths of artifacts


def recovery(grows: float) -> Recovery:
    """Estimators that are all good, and detectors that find everything."""
    k, n = len(STATES), len(SCORES)
    sound = {name: np.ones(k) for name in ("undo", "slope", "correlation")}
    alone, pairs = np.repeat(1 << np.arange(n), 50).reshape(n, 50), combinations(range(n), 2)
    paired = np.array([[(1 << i) + (1 << j)] * 50 for i, j in pairs])
    worth = Worth(np.zeros(n), np.full(n, 0.005), alone, paired, np.tile(np.arange(5.0), (n, 1)), np.full(n, grows))
    return Recovery(
        whole=np.zeros(k, bool),
        bias=np.zeros(k),
        error=np.zeros((1, k)),
        response=np.ones((1, k)),
        response_error=np.zeros((1, k)),
        misread=np.zeros((1, k)),
        misread_error=np.zeros((1, k)),
        identified=np.ones(k, bool),
        detectors=worth,
        turning=1.0,
        **sound,
    )


@pytest.mark.parametrize(
    ("strengths", "grows", "words"),
    [
        ([0.4] * 7, 0.9, "found in 7 images"),
        ([0.1] * 12, 0.9, "in 12 of 12 images"),  # all at the weakest level: what made the chains of a fit never agree
        ([0.1] * 5 + [0.4] * 7, 0.9, ""),
        ([0.3, 0.4] * 6, 0.3, "correlation 0.30"),
    ],
)
def test_a_strength_that_cannot_be_told_is_not_told(strengths, grows, words):
    value = np.full((40, len(own_variability.QUANTITIES)), 0.0)
    value[:, -len(SCORES) :] = np.nan
    weakest, *_, strongest = fitted.ARTIFACTS[0].levels
    low, high = np.log([weakest, strongest])
    share = (np.array(strengths) - 0.1) / 0.9  # 0.1: weakest
    value[: len(strengths), -len(SCORES)] = low + share * (high - low)
    why, _ = own_variability.reasons(recovery(grows), True, value)
    assert words in why[-len(SCORES)]
    assert bool(words) == bool(why[-len(SCORES)])


def test_an_artifact_of_unknown_strength_is_drawn_at_the_middle_level():
    """Neither as nothing nor, as exp(0) once made it, at its strongest."""
    values = dict(zip(fitted._COLUMNS, fitted._nothing(), strict=True))
    for law in fitted.ARTIFACTS:
        values[f"{law.name} prevalence"] = 1.0
    sets = (tuple(values[name] for name in fitted._COLUMNS),)
    drawn = fitted.Difference(sets, -1.0)(jax.random.key(0), (16, 16, 1))
    for law in fitted.ARTIFACTS:
        assert float(drawn[f"{law.name} strength"]) == pytest.approx(law.levels[2], rel=1e-5)
        assert law.levels[1] < float(drawn[f"{law.name} strength"]) < law.levels[3]


@pytest.mark.parametrize(
    ("centre", "width", "text"),
    [(0.000119, 0.0000004, "0.00011900"), (-3.53, 0.005, "-3.5300"), (19.0, 12.0, "19")],
)
def test_numbers_have_the_digits_that_their_interval_bears(centre, width, text):
    draws = centre + width * np.linspace(-1, 1, 101)
    assert own_variability.interval(draws).split()[0] == text
