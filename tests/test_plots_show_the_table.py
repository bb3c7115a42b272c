"""Lines and points of a figure are the values of the table."""

import matplotlib.figure
import numpy as np
import pytest
from synthetic_study import make_check, make_study

from rafmodel import plot
from rafmodel.canvas import style


@pytest.fixture(scope="module")
def tables():
    study = make_study(n_designs=5)
    return study, make_check(study)


def drawn(call, *arguments, **options):
    with style():
        axes = matplotlib.figure.Figure().subplots()
        call(axes, *arguments, **options)
    return axes


def test_degradation_draws_each_design(tables):
    study = tables[0]
    axes = drawn(plot.degradation, study, "noise")
    lines = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    for name in study["design"].values:
        mean = study["observed_auc"].sel(design=name, shift="noise", group="all").mean("seed").values
        assert any(line.shape == mean.shape and np.allclose(line, mean) for line in lines), name


def test_a_forecast_draws_each_design_and_names_the_ends(tables, tmp_path):
    table = tables[0].drop_vars("observed_auc")
    axes = drawn(plot.foreseen, table, "noise")
    lines = {line.get_label(): np.asarray(line.get_ydata(), float) for line in axes.lines}
    cells = table["predicted_auc"].sel(shift="noise", group="all")
    for name in table["design"].values:
        np.testing.assert_allclose(lines[f"predicted {name}"], cells.sel(design=name).values)
    best = str(cells.sel(severity=slice(1, None)).mean("severity").idxmax().values)
    named = {text.get_label(): text.get_text() for text in axes.texts}
    assert named["best"].split(": ")[1] in best
    assert plot.forecast(table, tmp_path).exists()
    assert (tmp_path / "foreseen.pdf").exists()


@pytest.mark.parametrize("level", ["L0", "L2"])
def test_points_are_predictions_and_outcomes(tables, level):
    study, check = tables
    axes = drawn(plot.predicted_against_observed, study, check, level=level)
    points = np.concatenate([np.ma.getdata(c.get_offsets()) for c in axes.collections] or [np.empty((0, 2))])
    points = np.concatenate(
        [points, *(np.c_[l.get_xdata(), l.get_ydata()] for l in axes.lines if len(l.get_xdata()) > 2)]
    )
    expected = np.c_[check["held_out"].sel(level=level).values.ravel(), check["observed"].values.ravel()]
    nearest = np.abs(points[None] - expected[:, None]).sum(2).min(1)
    assert nearest.max() < 1e-6


def test_no_global_state_is_left(tables):
    import sys

    drawn(plot.calibration, tables[1])
    assert "matplotlib.pyplot" not in sys.modules or not __import__("matplotlib.pyplot").pyplot.get_fignums()


def test_the_contact_sheet_is_a_picture(tmp_path):
    import jax
    from PIL import Image

    from rafmodel.phantoms import phantom

    plot.contact_sheet(phantom(jax.random.key(0), n_patients=40), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert min(image.size) > 400
