"""What README and paper say of the committed tables is in the tables."""

from pathlib import Path

import pytest
import xarray as xr

from rafmodel import findings
from rafmodel import study as studies

ROOT = Path(__file__).resolve().parents[1]
DEVELOPMENT = ROOT / "paper" / "data" / "development"
WITNESSES = ROOT / "paper" / "data" / "witnesses"
TABLES = sorted(path for folder in (DEVELOPMENT, WITNESSES) for path in folder.glob("*.nc") if "check" not in path.stem)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_tables_keep_to_the_schema(path):
    table = studies.load(path)
    assert table.sizes["design"] >= 12
    assert table.sizes["shift"] == 8


@pytest.mark.parametrize("name", ["pneumoniamnist", "breastmnist", "phantom-site", "sunnybrook-pixels"])
def test_noise_in_the_views_buys_robustness_to_noise_beyond_seeds(name):
    """At the three strongest levels: the gain over crop-only exceeds twice its s.d. over seeds, and every seed has it."""
    auc = studies.load(DEVELOPMENT / f"{name}.nc")["observed_auc"]
    strong = auc.sel(group="all", shift="noise", severity=[3, 4, 5])
    gain = (strong.sel(design="contrastive+noise") - strong.sel(design="contrastive+crop")).mean("severity")
    assert float(gain.mean()) > 2 * float(gain.std(ddof=1))
    assert (gain > 0).all()


def test_rotation_in_the_views_gains_a_little_everywhere():
    tables = {
        path.stem.split("-s")[0]: studies.load(path)["observed_auc"] for path in TABLES if path.parent == DEVELOPMENT
    }
    gains = []
    for auc in tables.values():
        strong = auc.sel(group="all", shift="rotation", severity=[3, 4, 5])
        gains.append(float((strong.sel(design="contrastive+rotation") - strong.sel(design="contrastive+crop")).mean()))
    assert len(gains) >= 11
    assert 0 < min(gains) < max(gains) < 0.06


@pytest.fixture(scope="module")
def everywhere():
    """What the held-out predictions of eleven cohorts come to, pooled (level, measure)."""
    return xr.load_dataset(DEVELOPMENT / "skill_check.nc", engine="h5netcdf")["pooled"]


def test_theory_and_experience_together_see_more_than_each(everywhere):
    r = everywhere.sel(pooled_measure="r_corrected")
    assert float(r.sel(level="L0x")) > 0.76 > 0.72 > float(r.sel(level="L0")) > 0.65 > float(r.sel(level="B3"))
    assert float(r.sel(level="L1x")) > 0.85 > float(r.sel(level="L1"))
    skill = everywhere.sel(pooled_measure="skill")
    assert float(skill.sel(level="L2x")) > 0.18 > max(float(skill.sel(level=level)) for level in ("L2", "B3"))


def test_early_warning_is_a_quarter_better_than_what_knows_no_law(everywhere):
    mae = everywhere.sel(pooled_measure="mae")
    assert float(mae.sel(level="L1")) < 0.75 * min(float(mae.sel(level=name)) for name in ("ATC", "DoC", "CBE"))


def test_on_witnesses_theory_and_experience_see_more_together():
    """Cohorts of which nothing was known when they were foreseen, unlike those that experience is of."""
    score = xr.load_dataset(WITNESSES / "skill_check.nc", engine="h5netcdf")
    assert score.sizes["table"] == 6
    r, mae = (score["pooled"].sel(pooled_measure=name) for name in ("r_corrected", "mae"))
    assert float(r.sel(level="L0x")) > 0.5 > max(float(r.sel(level=level)) for level in ("L0", "B3"))
    assert float(r.sel(level="L1")) > 0.9
    assert float(mae.sel(level="L1")) < 0.5 * min(float(mae.sel(level=name)) for name in ("ATC", "DoC", "CBE"))
    assert float(score["pooled"].sel(level="L2x", pooled_measure="skill")) > 0.1
    by_cohort = score["score"].sel(level="L0", measure="skill")
    assert float(by_cohort.sel(table="nuclei-pixels")) > 0.25
    assert float(by_cohort.drop_sel(table="nuclei-pixels").max()) < 0


def early_error(table, estimator):
    """MAE of an early warning of everyone's seed-mean AUC under shift."""
    told = table["early_auc"].sel(estimator=estimator, group="all").mean("seed")
    return float(abs(told - table["observed_auc"].sel(group="all").mean("seed")).sel(severity=slice(1, None)).mean())


@pytest.mark.parametrize("name", ["pneumoniamnist", "cardiac-ultrasound-quality", "phantom-site"])
def test_early_warning_beats_what_knows_no_law_of_the_shift(name):
    table = studies.load(DEVELOPMENT / f"{name}.nc")
    rivals = [early_error(table, estimator) for estimator in ("ATC", "DoC", "CBE")]
    assert early_error(table, "L1") < 0.75 * min(rivals)


def test_l0_knows_which_site_is_behind():
    table = studies.load(DEVELOPMENT / "phantom-site.nc")

    def gap(values):
        return values.sel(group="A") - values.sel(group="B")

    found = findings.gap_between(table, "A", "B")
    sure = abs(found.observed) > found.reach()
    assert sure.sum() > 50
    right = (gap(table["predicted_auc"]) > 0) == (found.observed > 0)
    assert float(right.where(sure).mean()) > 0.8
