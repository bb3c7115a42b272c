"""Figures, sentences and the report of a segmentation speak of its Dice, and never call it an AUC."""

import pytest
from matplotlib.figure import Figure
from synthetic_study import make_study

from rafmodel import findings, fit, plot, report, study
from rafmodel.errors import InputError


def segmented():
    """A study table judged by Dice, which is not its AUC."""
    table = make_study(n_designs=4, n_seeds=2)
    table["observed_dice"] = table["observed_auc"] ** 2
    table["predicted_dice"] = table["predicted_auc"] ** 2
    table["observed_dice_se"] = table["observed_auc_se"]
    return table.assign_attrs(metric="dice", chance=0.125, head="decoder")


def test_a_curve_is_the_dice_and_chance_its_own():
    table = segmented()
    axes = Figure().subplots()
    name = str(table["design"].values[0])
    plot.degradation(axes, table, "noise", highlight=[name])
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    dice = table["observed_dice"].sel(design=name, shift="noise", group="all").mean("seed")
    assert lines[f"observed {name}"] == pytest.approx(dice.values)
    assert any(list(line.get_ydata()) == [0.125, 0.125] for line in axes.lines)
    plot.predicted_against_observed(axes, table)
    assert axes.get_xlabel() == "predicted Dice"


@pytest.mark.exhaustive
def test_the_report_says_dice(tmp_path):
    text = report.write(segmented(), None, tmp_path).read_text()
    assert "Dice of every design" in text
    assert "calling every pixel foreground" in text
    assert "a decoder learns from the masks" in text
    told = dict(findings.answers(segmented(), None))
    assert "Lowest Dice" in told
    assert not any("AUC" in sentence for sentence in told.values())


def test_theory_and_outcomes_of_a_fit_are_the_dice():
    table = segmented()
    by_auc = fit.cells(table.assign_attrs(metric="auc"))
    same = fit.cells(table.assign(observed_dice=table["observed_auc"], predicted_dice=table["predicted_auc"]))
    assert (by_auc.observed == same.observed).all()
    assert not (by_auc.observed == fit.cells(table).observed).all()


def test_a_table_of_dice_without_dice_is_refused():
    study.check_schema(segmented(), "here")
    with pytest.raises(InputError, match="variable 'observed_dice' is missing"):
        study.check_schema(segmented().drop_vars("observed_dice"), "here")
