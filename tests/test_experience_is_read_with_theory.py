"""L0x, L1x, L0+x: what other cohorts saw of a design is averaged as stated, never comes from the cohort itself, and helps."""

from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm
from synthetic_study import make_study

from rafmodel import check, cli, experience, findings, pilot, study

ROOT = Path(__file__).resolve().parents[1]
RNG = np.random.default_rng(0)


def clipped(auc):
    return norm.ppf(np.clip(auc, 0.02, 0.98))


def other(seed: int, name: str, **attributes) -> xr.Dataset:
    return make_study(seed=seed, groups=("all",), n_designs=6).assign_attrs(cohort=name, source=name, **attributes)


def everyone(table: xr.Dataset) -> np.ndarray:
    return table["observed_auc"].sel(group="all").mean("seed").values


# ---- what is known


def test_effects_are_means_over_other_cohorts_of_what_both_studied():
    mine, one, two = other(0, "a"), other(1, "b"), other(2, "c")
    few = two.isel(design=slice(1, None)).isel(shift=[0, 2])  # a design and most shifts less
    found = experience.effects(experience.gathered([one, few]), mine, scaled=False)
    first = clipped(everyone(one))
    first -= first.mean(0)
    second = clipped(everyone(few))
    second -= second.mean(0)
    np.testing.assert_allclose(found[0], first[0], atol=1e-6)  # known of one cohort alone
    np.testing.assert_allclose(found[:, 1], first[:, 1], atol=1e-6)
    np.testing.assert_allclose(found[1:, [0, 2]], (first[1:, [0, 2]] + second) / 2, atol=1e-6)


def test_a_design_that_nobody_has_studied_is_not_known():
    mine = other(0, "a")
    mine = mine.assign_coords(design=[*mine["design"].values[:-1], "new"])
    found = experience.effects(experience.gathered([other(1, "b")]), mine)
    assert np.isnan(found[-1]).all()
    assert np.isfinite(found[:-1]).all()


@pytest.mark.parametrize(
    ("attributes", "apart"),
    [
        ({"cohort": "chest", "source": "x"}, False),  # the same cohort
        ({"cohort": "chest_pixels", "source": "x"}, False),  # made from it
        ({"cohort": "che", "source": "x"}, False),
        ({"cohort": "other", "source": "hospital"}, False),  # the same source
        ({"cohort": "other", "source": "x", "metric": "auc", "task": "multi-label"}, False),
        ({"cohort": "other", "source": "x"}, True),
        ({"cohort": "", "source": "x"}, True),  # a name that says nothing
    ],
)
def test_experience_never_comes_from_the_cohort_itself_or_from_another_task(attributes, apart):
    mine = other(0, "chest").assign_attrs(source="hospital")
    known = experience.gathered([other(1, "b").assign_attrs(**attributes)])
    assert experience.of_others(known, mine).sizes["cohort"] == apart
    assert np.isfinite(experience.effects(known, mine)).all() == apart


def test_the_same_images_under_another_name_are_passed_over():
    for mine, theirs in (("busi_ultrasound", "breastmnist"), ("chestmnist", "nih_cxr1000")):
        one, two = other(0, mine), other(1, theirs)
        assert experience.of_others(experience.gathered([two]), one).sizes["cohort"] == 0
        assert experience.of_others(experience.gathered([two]), other(2, "pneumoniamnist")).sizes["cohort"] == 1


def test_sources_that_are_not_stated_are_not_one_source():
    mine, theirs = (other(i, name).assign_attrs(source="not stated in the file") for i, name in enumerate("ab"))
    assert experience.of_others(experience.gathered([theirs]), mine).sizes["cohort"] == 1


def test_the_shipped_experience_is_that_of_the_committed_tables():
    known = experience.shipped()
    places = sorted((ROOT / "paper" / "data" / "development").glob("*.nc"))
    tables = [study.load(place) for place in places if "check" not in place.stem]
    for row in range(known.sizes["cohort"]):
        one = known.isel(cohort=row)
        same = [t for t in tables if np.allclose(everyone(t), one["auc"].values, atol=1e-6)]
        assert {t.attrs["cohort"] for t in same} == {str(one["cohort"].values)}
    assert len(tables) > known.sizes["cohort"] == 11  # a table for each attribute, of the same outcomes


def test_outcomes_near_perfect_count_as_nearly_as_they_can_be_told():
    """An AUC of 0.9999 or of 1 is no larger an effect than one of 0.98."""
    mine, found = other(0, "a"), []
    for auc in (0.98, 0.9999, 1.0):
        theirs = other(1, "b")
        theirs["observed_auc"][0] = auc
        found.append(experience.effects(experience.gathered([theirs]), mine))
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    np.testing.assert_allclose(found[2], found[0], atol=1e-6)


# ---- in units of the spread that theory foresees


def foreseen(table: xr.Dataset, spread: float) -> xr.Dataset:
    """The study with designs foreseen so many times as far apart on the probit scale."""
    z = norm.ppf(table["predicted_auc"])
    middle = z.mean(0, keepdims=True)
    return table.assign(predicted_auc=(table["predicted_auc"].dims, norm.cdf(middle + spread * (z - middle))))


def test_effects_count_in_units_of_the_spread_that_theory_foresees_there_and_here():
    mine, theirs = other(0, "a"), other(1, "b")
    plain = experience.effects(experience.gathered([theirs]), mine, scaled=False)
    for here, there in ((1.0, 1.0), (0.3, 1.0), (1.0, 0.3), (0.0, 1.0)):
        known = experience.gathered([foreseen(theirs, there)])
        z = [clipped(foreseen(t, s)["predicted_auc"].values[..., 0]) for t, s in ((mine, here), (theirs, there))]
        square = [((x - x.mean(0)) ** 2).mean() * len(x) + 2 * 0.1**2 for x in z]
        found = experience.effects(known, foreseen(mine, here))
        np.testing.assert_allclose(found, plain * (square[0] / square[1]) ** 0.5, atol=1e-6)


def test_the_spread_is_that_of_what_both_studied():
    """A design that only one of them has, however far it stands out, does not count; nor does a shift."""
    here, there = RNG.normal(0.6, 0.2, (6, 3, 6)), RNG.normal(0.6, 0.4, (1, 6, 3, 6))
    there[0, 4], there[0, :, 2] = np.nan, np.nan
    same = experience.relative_spread(here[[0, 1, 2, 3, 5], :2], there[:, [0, 1, 2, 3, 5], :2])
    assert 0.4 < same < 0.8
    far = here.copy()
    far[4], far[:, 2] = 9.0, RNG.normal(0, 9, (6, 6))
    np.testing.assert_allclose(experience.relative_spread(far, there), same)
    there[0, 4], far[4] = 9.0, np.nan  # foreseen there and not here
    np.testing.assert_allclose(experience.relative_spread(far, there), same)


def test_choices_of_one_design_count_once_in_the_spread():
    names = ["cpc[n_labelled=32]", "cpc[n_labelled=256]", "jigsaw"]
    mine = other(0, "a").isel(design=slice(0, 3)).assign_coords(design=names)
    theirs = other(1, "b").isel(design=slice(0, 2)).assign_coords(design=["cpc", "jigsaw"])
    known = experience.gathered([theirs])
    here, there = (clipped(t["predicted_auc"].values[..., 0]) for t in (mine, theirs))
    ratio = experience.relative_spread(np.stack([here[:2].mean(0), here[2]]), there[None])
    plain = experience.effects(known, mine, scaled=False)
    np.testing.assert_allclose(experience.effects(known, mine), plain * ratio, atol=1e-6)


def test_a_cohort_that_was_not_foreseen_counts_as_it_was_observed():
    there = np.full((2, 6, 3, 6), np.nan)
    np.testing.assert_array_equal(experience.relative_spread(RNG.normal(0, 1, (6, 3, 6)), there), 1)


def test_a_cohort_in_which_theory_sees_no_spread_counts_as_any_other():
    mine, flat, theirs = other(0, "a"), foreseen(other(1, "b"), 0.0), other(2, "c")
    plain, found = (experience.effects(experience.gathered([flat, theirs]), mine, scaled=s) for s in (False, True))
    np.testing.assert_allclose(found, plain * (found / plain).mean(), atol=1e-6)
    z = [clipped(t["predicted_auc"].values[..., 0]) for t in (mine, theirs)]
    square = [((x - x.mean(0)) ** 2).mean() * len(x) for x in z]
    expected = ((square[0] + 2 * 0.1**2) / (square[1] / 2 + 2 * 0.1**2)) ** 0.5
    assert (found / plain).mean() == pytest.approx(expected, rel=1e-5)


def test_few_designs_hardly_decide_the_spread():
    """Two designs foreseen alike here and not there: what was seen there still counts."""
    here, there = np.full((2, 3, 6), 0.6), np.full((1, 2, 3, 6), 0.6)
    there[0, 0] += 0.2
    few = experience.relative_spread(here, there)
    many = experience.relative_spread(np.tile(here, (10, 1, 1)), np.tile(there, (1, 10, 1, 1)))
    assert few == pytest.approx(0.5**0.5, abs=1e-6)
    assert many == pytest.approx((2 / 22) ** 0.5, abs=1e-6)


# ---- how it is read with theory


def cells(*shape: int) -> np.ndarray:
    return norm.cdf(RNG.normal(0.6, 0.3, shape))


def test_half_of_an_effect_is_experience_and_how_hard_a_cell_is_stays():
    theory, known, names = cells(5, 2, 6), RNG.normal(0, 0.2, (5, 2, 6)), list("abcde")
    z, found = norm.ppf(theory), norm.ppf(experience.expected(theory, known, names))
    effect = (z - z.mean(0) + known - known.mean(0)) / 2
    np.testing.assert_allclose(found, z.mean(0) + effect, atol=1e-5)
    whole = norm.ppf(experience.expected(theory, known, names, share=1.0))
    np.testing.assert_allclose(whole - whole.mean(0), known - known.mean(0), atol=1e-5)


def test_designs_without_experience_stay_and_do_not_move_the_others():
    theory, known, names = cells(5, 2, 6), RNG.normal(0, 0.2, (5, 2, 6)), list("abcde")
    known[1] = np.nan
    found = experience.expected(theory, known, names)
    np.testing.assert_array_equal(found[1], theory[1])
    rest = [0, 2, 3, 4]
    np.testing.assert_allclose(found[rest], experience.expected(theory[rest], known[rest], list("acde")), atol=1e-6)


def test_one_known_design_says_nothing():
    theory, known = cells(3, 2, 6), np.full((3, 2, 6), np.nan)
    known[0] = 1.0
    np.testing.assert_array_equal(experience.expected(theory, known, list("abc")), theory)


def test_subgroups_are_moved_as_everyone_is():
    theory, known = cells(4, 2, 6, 3), RNG.normal(0, 0.2, (4, 2, 6))
    theory[..., 2] = np.nan
    found = experience.expected(theory, known, list("abcd"))
    alone = experience.expected(theory[..., 0], known, list("abcd"))
    np.testing.assert_allclose(found[..., 0], alone, atol=1e-6)
    move = norm.ppf(found) - norm.ppf(theory)
    np.testing.assert_allclose(move[..., 1], move[..., 0], atol=1e-5)
    assert np.isnan(found[..., 2]).all()


def test_choices_of_one_design_differ_as_theory_says():
    names = ["cpc[n_labelled=32]", "cpc[n_labelled=256]", "jigsaw", "cpc@vit"]
    mine = other(0, "a").isel(design=slice(0, 4)).assign_coords(design=names)
    theirs = other(1, "b").isel(design=slice(0, 3)).assign_coords(design=["cpc", "jigsaw", "masked"])
    known = experience.effects(experience.gathered([theirs]), mine, scaled=False)
    np.testing.assert_array_equal(known[0], known[1])
    np.testing.assert_array_equal(known[0], known[3])
    theory = mine["predicted_auc"].sel(group="all").values
    before, after = norm.ppf(theory), norm.ppf(experience.expected(theory, known, names))
    np.testing.assert_allclose((after[[0, 1]] - after[3]), before[[0, 1]] - before[3], atol=1e-5)
    z = clipped(everyone(theirs))[:2]
    contrast = after[[0, 1, 3]].mean(0) - after[2]
    np.testing.assert_allclose(contrast, (before[[0, 1, 3]].mean(0) - before[2] + z[0] - z[1]) / 2, atol=1e-5)


def test_two_sights_with_errors_of_their_own_are_better_than_each():
    """Errors as large as the effects: each alone has r 1/√2, their mean √(2/3)."""
    effect = RNG.normal(0, 0.2, (12, 8, 6))
    theory = norm.cdf(RNG.normal(0.6, 0.2, (1, 8, 6)) + effect + RNG.normal(0, 0.2, effect.shape))
    known = effect + RNG.normal(0, 0.2, effect.shape)

    def r(z):
        return np.corrcoef((z - z.mean(0)).ravel(), (effect - effect.mean(0)).ravel())[0, 1]

    found = norm.ppf(experience.expected(theory, known, [str(i) for i in range(12)]))
    se = (1 - 2 / 3) / effect.size**0.5
    assert abs(r(found) - (2 / 3) ** 0.5) < 4 * se
    assert r(found) > max(r(norm.ppf(theory)), r(known)) + 0.05


# ---- its rows, and the forecast


@pytest.fixture(scope="module")
def scored():
    mine = other(0, "a").isel(shift=[2, 3])
    runs = np.clip(mine["observed_auc"].mean("seed") + RNG.normal(0, 0.02, (6, 2, 6, 1)), 0.1, 0.97)
    mine["pilot_auc"] = mine["predicted_auc"].dims, runs.values
    warned = np.clip(mine["observed_auc"].values[None] + RNG.normal(0, 0.02, (4, 6, 3, 2, 6, 1)), 0.1, 0.97)
    mine["early_auc"] = study.EARLY, warned
    mine = mine.assign_coords(estimator=["L1", "ATC", "DoC", "CBE"])
    known = experience.gathered([other(1, "b"), other(2, "c")])
    return mine, known, check.check(mine, known, key=jax.random.key(0), warmup=20, draws=20)


def test_rows_of_the_held_out_table(scored):
    mine, known, found = scored
    names, effects = list("123456"), experience.effects(known, mine)
    theory = mine["predicted_auc"].sel(group="all").values
    informed = experience.expected(theory, effects, names)
    np.testing.assert_allclose(found["held_out"].sel(level="L0x"), informed[..., 1:], atol=1e-6)
    both = pilot.combined(informed, mine["pilot_auc"].values[..., 0])
    np.testing.assert_allclose(found["held_out"].sel(level="L0+x"), both[..., 1:], atol=1e-6)
    warned = mine["early_auc"].sel(estimator="L1", group="all").mean("seed").values
    z = [clipped(x)[..., 1:] for x in (warned, informed)]
    effect = (z[0] - z[0].mean(0) + z[1] - z[1].mean(0)) / 2
    told = norm.ppf(found["held_out"].sel(level="L1x").values)
    np.testing.assert_allclose(told - told.mean(0), effect - effect.mean(0), atol=0.02)  # clipping


def test_experience_of_the_cohort_itself_adds_no_row(scored):
    mine, _, _ = scored
    found = check.check(mine, experience.gathered([mine]), key=jax.random.key(0), warmup=5, draws=5)
    assert not {"L0x", "L1x", "L2x", "B3", "L0+x"} & set(found["level"].values)


def forecast_of(mine: xr.Dataset) -> xr.Dataset:
    names = ["supervised", "rotation", "jigsaw"]
    return mine.isel(design=slice(0, 3)).assign_coords(design=names)


def test_a_forecast_keeps_theory_beside_what_it_is_read_with():
    table = forecast_of(make_study())
    found = study.with_experience(table)
    np.testing.assert_array_equal(found["theory_auc"], table["predicted_auc"])
    known = experience.effects(experience.shipped(), table)
    expected = experience.expected(table["predicted_auc"].values, known, [str(d) for d in table["design"].values])
    np.testing.assert_allclose(found["predicted_auc"], expected)
    assert abs(found["predicted_auc"] - table["predicted_auc"]).max() > 0.01
    assert found.attrs["experience"] == "11 other cohorts"
    raf = found["raf_predicted"].values
    assert np.isfinite(raf).all()
    assert not np.allclose(raf, table["raf_predicted"])


@pytest.mark.parametrize("attributes", [{"task": "ordinal"}, {}])
def test_a_forecast_of_which_nothing_is_known_is_theory_s(attributes):
    table = forecast_of(make_study()).assign_attrs(**attributes)
    if not attributes:
        table = table.assign_coords(design=["one", "two", "three"])
    xr.testing.assert_identical(study.with_experience(table), table)


def test_the_command_reads_experience_unless_told_not_to(tmp_path, capsys):
    asked = [
        "predict",
        "--designs",
        "untrained",
        "rotation",
        "--shifts",
        "noise",
        "--steps",
        "20",
        "--out",
        str(tmp_path),
    ]
    cli.main(asked)
    assert "what the same designs did on 9 other cohorts" in capsys.readouterr().out  # all but the two phantoms
    both = study.load(tmp_path / "prediction.nc", study.PREDICTED)
    cli.main([*asked, "--theory-only"])
    assert "other cohorts" not in capsys.readouterr().out
    alone = study.load(tmp_path / "prediction.nc", study.PREDICTED)
    np.testing.assert_array_equal(both["theory_auc"], alone["predicted_auc"])
    assert (both["predicted_auc"] != alone["predicted_auc"]).any()


def test_a_check_that_is_given_no_other_cohort_says_so(tmp_path, capsys):
    study.save(make_study(), tmp_path / "study.nc")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["check", str(tmp_path / "study.nc"), "--elsewhere", str(tmp_path / "study.nc")])
    assert stopped.value.code == 2
    assert "none of these is a study of another cohort" in capsys.readouterr().err


def test_the_report_says_what_experience_adds(scored):
    mine, _, found = scored
    told = dict(findings.answers(mine, found))["Prediction with experience (L0x)"]
    for level in ("L0x", "L0"):
        assert f"{float(found['score'].sel(level=level, measure='effect_r')):.2f} by theory" in told
    assert "Prediction with experience (L0x)" not in dict(findings.answers(mine, found.drop_sel(level="L0x")))
