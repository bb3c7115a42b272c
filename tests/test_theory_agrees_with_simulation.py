"""Every exactly solvable setting of the agreement table, at fewer draws than the table in `docs/AGREEMENT.md`."""

from dataclasses import replace

import numpy as np
import pytest
import scripts

agreement = scripts.load("simulations/5_theory_against_simulation.py")

SETTINGS = agreement.settings()


# images are drawn and altered, or probes trained
IN_THE_TABLE = "logistic probe, 77 cases"  # thousands of fits each, beside others of their kind
SLOW = [
    pytest.param(i, marks=pytest.mark.exhaustive, id=s.name)
    for i, s in enumerate(SETTINGS)
    if s.costly > 1 and not s.name.startswith(IN_THE_TABLE)
]
FAST = [pytest.param(i, id=s.name) for i, s in enumerate(SETTINGS) if s.costly == 1]


@pytest.mark.parametrize("number", FAST + SLOW)
def test_prediction_is_within_four_standard_errors_and_error_falls_as_root_n(number):
    one = SETTINGS[number]
    _, error, apart, slope = agreement.compare(
        one, np.random.default_rng(number), 80_000 if one.costly == 1 else 160_000
    )
    assert error > 0
    assert apart < 4
    assert abs(slope + 0.5) < (0.12 if one.costly == 1 else 0.2)


def test_a_wrong_prediction_is_far_off_and_its_error_does_not_fall():
    wrong = replace(SETTINGS[0], predicted=0.999)
    _, _, apart, slope = agreement.compare(wrong, np.random.default_rng(0), 80_000)
    assert apart > 100
    assert abs(slope) < 0.1


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["ridge probe, a fifth wrong", "sensitivity of the rare class"])
def test_what_is_left_out_shrinks_with_the_size(name):
    """Of order one over the size: at twice the size no more than half the error, within three standard errors."""
    [one] = [setting for setting in SETTINGS if setting.name == name]
    large, small = (agreement.compare(s, np.random.default_rng(0), 160_000) for s in (one, one.half))
    error = abs(large[0] - one.predicted) - abs(small[0] - one.half.predicted) / 2
    assert error < 3 * np.hypot(large[1], small[1] / 2)


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
