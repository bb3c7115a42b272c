"""Every exactly solvable setting of the agreement table, at fewer draws than the table in `derivations/AGREEMENT.md`."""

import numpy as np
import pytest
import scripts

agreement = scripts.load("simulations/5_theory_against_simulation.py")

SETTINGS = agreement.settings()


def numbered(number):
    """A setting by its place; a fit by Newton's steps takes its time."""
    slow = [pytest.mark.exhaustive] if "logistic" in SETTINGS[number].name else []
    return pytest.param(number, id=SETTINGS[number].name, marks=slow)


@pytest.mark.parametrize("number", [numbered(i) for i in range(len(SETTINGS))])
def test_prediction_is_within_four_standard_errors_and_error_falls_as_root_n(number):
    _, error, beyond, slope = agreement.compare(SETTINGS[number], np.random.default_rng(number), 80_000)
    assert error > 0
    assert beyond < 4
    assert abs(slope + 0.5) < 0.1


def test_the_settings_cover_what_they_must():
    factors = {one.factor for one in SETTINGS}
    assert factors >= {
        "variability",
        "proxy task",
        "labels",
        "imbalance",
        "patches",
        "transfer",
        "scores",
        "two together",
    }
