"""One HTML file, no network, nothing injected, every number from the tables."""

import re

import numpy as np
import pytest
import xarray as xr
from synthetic_study import make_check, make_study

from rafmodel import findings, report


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    study = make_study(n_designs=6)
    study.attrs["cohort"] = "<script>alert(1)</script>"
    check = make_check(study)
    return study, check, report.write(study, check, folder).read_text(), folder


def test_nothing_is_fetched(page):
    text = page[2]
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert "http://" not in text
    assert "https://" not in text


def test_a_hostile_name_stays_text(page):
    assert "<script" not in page[2]
    assert "&lt;script&gt;" in page[2]


def test_every_figure_is_embedded_described_and_saved(page):
    text, folder = page[2], page[3]
    images = re.findall(r"<img alt=\"([^\"]+)\" src=\"data:image/png;base64,", text)
    assert len(images) == 6
    assert all(len(alt) > 40 for alt in images)
    for kind in ("pdf", "png"):
        assert len(list((folder / "figures").glob(f"*.{kind}"))) >= 6


def test_the_numbers_are_the_tables(page):
    study, check, text, _ = page
    for level in ("B1", "L0", "L2"):
        assert f"<td>{float(check['score'].sel(level=level, measure='mae')):.3f}</td>" in text
    name = str(study["design"].values[2])
    row = re.search(rf"<tr><td>{re.escape(name)}</td>(.*?)</tr>", text).group(1)
    values = re.findall(r"<td>([^<]+)</td>", row)
    assert values == [f"{float(study[f'{p}_observed'].sel(design=name).mean()):.2f}" for p in report.PARTS]


def test_the_worst_cell_is_named(page):
    study, check, text, _ = page
    error = abs(check["held_out"].sel(level="L0") - check["observed"])
    at = np.unravel_index(int(np.argmax(error.values)), error.shape)
    design, shift = str(study["design"].values[at[0]]), str(study["shift"].values[at[1]])
    value = float(study["level_value"].sel(shift=shift, severity=at[2] + 1))
    assert re.search(rf"L0: {re.escape(design)} under {shift} {value:g}", text)


def test_without_subgroups_or_a_check_it_says_so(tmp_path):
    study = make_study(groups=("all",), n_designs=3)
    text = report.write(study, None, tmp_path).read_text()
    assert "fairness and RAF are not defined" in text
    assert "too few designs" in text


def test_a_group_without_cases_is_flagged(tmp_path):
    study = make_study(n_designs=3)
    study["n_case"][1] = 0
    study["observed_auc"][..., 1] = np.nan
    assert "a class is absent" in report.write(study, None, tmp_path).read_text()


def test_a_study_in_which_every_run_failed_has_a_report(tmp_path):
    study = make_study(n_designs=3)
    for name in study.data_vars:
        if "observed" in name or name.startswith("early"):
            study[name] = study[name] * np.nan
    text = report.write(study, None, tmp_path).read_text()
    assert "degradation" in text and 'id="raf"' not in text


@pytest.mark.parametrize(
    ("mae", "words"),
    [(0.02, "better, by 20 %, than"), (0.03, "worse, by 20 %, than"), (0.02504, "as good as"), (0.02496, "as good as")],
)
def test_an_error_is_told_beside_that_of_the_other_designs(mae, words):
    score = xr.DataArray([[mae], [0.025]], {"level": ["L0", "B1"], "measure": ["mae"]}, ("level", "measure"))
    told = findings._against_others(xr.Dataset({"score": score}), "L0")
    assert told == f"{words} the mean of the other designs (B1: wrong by 0.025)."
