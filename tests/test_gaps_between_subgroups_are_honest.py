"""A gap between two subgroups is told with its error over patients and seeds, and in words with its interval."""

import numpy as np
import pytest
from scipy import stats
from synthetic_study import make_study

from rafmodel import findings

CELL = {"design": 1, "shift": 0, "severity": 3}


def table(n_seeds: int = 3):
    study = make_study(n_seeds=n_seeds)
    study["observed_auc_df"] = study["observed_auc_se"] * 0 + 5.0
    study["observed_auc_df"].loc[{"group": "B"}] = 2.0
    return study


def by_hand(study, first, second):
    """Welch's t with a variance of patients and one of seeds for each subgroup."""
    one = study.isel(CELL)
    parts, degrees = [], []
    for group in (first, second):
        seeds = one["observed_auc"].sel(group=group).dropna("seed").values
        parts += [float(one["observed_auc_se"].sel(group=group)) ** 2, seeds.var(ddof=1) / len(seeds)]
        degrees += [float(one["observed_auc_df"].sel(group=group)), len(seeds) - 1]
    parts, degrees = np.array(parts), np.array(degrees)
    return np.sqrt(parts.sum()), parts.sum() ** 2 / (parts**2 / degrees).sum()


def test_error_and_degrees_of_freedom_are_those_of_welch():
    study = table()
    study["observed_auc"][1, 2] = np.nan  # a seed that failed
    found = findings.gap_between(study, "A", "B")
    error, degrees = by_hand(study, "A", "B")
    assert float(found.error.isel(CELL)) == pytest.approx(error)
    assert float(found.degrees.isel(CELL)) == pytest.approx(degrees)
    assert float(found.reach().isel(CELL)) == pytest.approx(error * stats.t.ppf(0.975, degrees))
    assert float(found.reach(0.8).isel(CELL)) == pytest.approx(error * stats.t.ppf(0.9, degrees))
    mean = study["observed_auc"].isel(CELL).mean("seed")
    assert float(found.observed.isel(CELL)) == pytest.approx(float(mean.sel(group="A") - mean.sel(group="B")))
    turned = findings.gap_between(study, "B", "A")
    np.testing.assert_allclose(turned.observed, -found.observed)
    np.testing.assert_allclose(turned.error, found.error)


def test_of_one_seed_patients_alone_are_known():
    found = findings.gap_between(table(n_seeds=1), "A", "B")
    se = table(n_seeds=1)["observed_auc_se"].isel(CELL).sel(group=["A", "B"]).values
    assert float(found.error.isel(CELL)) == pytest.approx(np.hypot(*se))
    assert float(found.degrees.isel(CELL)) == pytest.approx((se**2).sum() ** 2 / (se**4 / [5, 2]).sum())


def test_the_widest_gap_is_told_with_its_interval():
    study = table()
    widest = findings.widest_gap(study)
    assert widest is not None
    cell, best, worst = widest
    text = findings._gap(study)
    found = findings.gap_between(study, best, worst)
    at = abs(found.observed).argmax(...)
    middle, reach = float(found.observed.isel(at)), float(found.reach().isel(at))
    assert middle == pytest.approx(cell.observed - cell.other)
    assert f"The 95 % interval of that gap is {middle - reach:.2f} to {middle + reach:.2f}" in text
    assert text.endswith("the widest of many is partly chance.")
    study["observed_auc_se"].loc[{"group": "B"}] = np.nan
    assert findings._gap(study).endswith("one of them hangs on a single patient.")


def test_errors_of_earlier_tables_count_as_those_of_many_patients():
    study = table(n_seeds=1)
    older = findings.gap_between(study.drop_vars("observed_auc_df"), "A", "B")
    np.testing.assert_allclose(older.error, findings.gap_between(study, "A", "B").error)
    np.testing.assert_allclose(older.reach(), 1.959964 * older.error, rtol=1e-6)
