"""From the command line to the report: a segmentation of hearts, of colour pictures of nuclei, and of hippocampi in volumes."""

import numpy as np
import pytest

from rafmodel import cli, study

pytestmark = pytest.mark.exhaustive


@pytest.mark.parametrize(
    ("name", "size", "group", "least"),
    [
        ("sunnybrook_cmr", 16, "pathology", 0.1),
        ("nuclei_dsb2018", 16, "domain", 0.1),
        ("msd_hippocampus3d", 12, None, 0.1),
    ],
)
def test_a_study_runs_to_its_report(cohort_folder, tmp_path, monkeypatch, name, size, group, least):
    monkeypatch.setenv("RAFMODEL_DATA", str(cohort_folder))
    asked = ["--cohort", name, "--task", "segmentation", "--size", str(size), "--out", str(tmp_path), "--seeds", "1"]
    asked += ["--steps", "2", "--designs", "untrained", "rotation", "--shifts", "gain"]
    cli.main(["study", *asked, *(["--group", group] if group else [])])
    table = study.load(tmp_path / "study.nc")
    assert table.attrs["metric"] == "dice"
    assert 0 < table.attrs["chance"] < 0.5
    assert table["observed_dice"].dims == ("design", "seed", "shift", "severity", "group")
    clean = table["observed_dice"].sel(group="all", severity=0)
    assert float(clean.min()) > table.attrs["chance"] + least  # it has learned where the structure is
    assert np.isfinite(table["predicted_dice"].sel(group="all")).all()
    assert float(table["predicted_dice"].sel(group="all", severity=0).min()) > table.attrs["chance"]
    for low, high in table["performance_observed_interval"].values:
        assert low < high
    text = (tmp_path / "report.html").read_text()
    assert "Dice of every design" in text
    assert "AUC of every design" not in text
