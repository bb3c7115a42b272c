"""Performance, robustness, fairness and RAF are what their definitions say, and have the properties claimed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rafmodel import metrics

EXACT = 1e-12  # means of a few dozen ratios in double precision
AREA = st.floats(0, 1, width=32)
ABOVE_CHANCE = st.floats(0.5625, 1, width=32)


@st.composite
def tables(draw, area=AREA, n_groups=None):
    """AUC (shift, severity 0-5, group): everyone, then two to four subgroups; clean is the same for each shift."""
    n_shifts, groups = draw(st.integers(1, 3)), n_groups or draw(st.integers(2, 4))
    table = draw(arrays(np.float64, (n_shifts, 6, 1 + groups), elements=area))
    table[:, 0] = table[0, 0]
    return table


def by_hand(table: np.ndarray) -> dict[str, float]:
    """The definitions, cell by cell."""
    clean, (n_shifts, _, _) = table[0, 0, 0] - 0.5, table.shape
    shifted = [table[f, s] for f in range(n_shifts) for s in range(1, 6)]
    kept = [min(max((cell[0] - 0.5) / clean, 0), 1) for cell in shifted] if clean > 0 else []
    cells = [table[0, 0, 1:], *(cell[1:] for cell in shifted)]
    ratios = [max((min(c) - 0.5) / (max(c) - 0.5), 0) for c in cells if max(c) > 0.5]
    r = np.mean(kept) if kept else np.nan
    fairness = np.mean(ratios) if ratios else np.nan
    return {
        "performance": clean / 0.5,
        "robustness": r,
        "fairness": fairness,
        "raf": np.sqrt(r * fairness),
        "undefined": len(cells) - len(ratios),
    }


@given(tables())
def test_raf_is_its_definition_and_stays_in_range(table):
    found = metrics.raf(table)
    for name, expected in by_hand(table).items():
        assert getattr(found, name) == pytest.approx(expected, abs=EXACT, nan_ok=True)
    for part in (found.robustness, found.fairness, found.raf):
        assert np.isnan(part) or 0 <= part <= 1
    assert -1 <= found.performance <= 1


def test_a_worked_example():
    """One shift.  Everyone 0.9 clean, 0.7 shifted: half is kept.  Subgroups 0.9 and 0.7 always: ratio a half."""
    table = np.tile(np.array([0.7, 0.9, 0.7]), (1, 6, 1))
    table[0, 0, 0] = 0.9
    found = metrics.raf(table)
    parts = found.performance, found.robustness, found.fairness, found.raf
    assert parts == pytest.approx((0.8, 0.5, 0.5, 0.5), abs=EXACT) and found.undefined == 0


def test_clean_counts_once_whatever_the_number_of_shifts():
    """Fair when clean, all of the gap under shift: F = 1 / 11 with two shifts, not 2 / 12."""
    table = np.full((2, 6, 3), 0.9)
    table[:, 1:, 2] = 0.5
    assert metrics.raf(table).fairness == pytest.approx(1 / 11, abs=EXACT)


def test_a_design_that_gains_under_shift_is_not_more_than_robust():
    table = np.full((1, 6, 3), 0.9)
    table[:, 0] = 0.7
    assert metrics.raf(table).robustness == 1
    table[:, 3, 0] = 0.3  # below chance is nothing kept, not less than nothing
    assert metrics.raf(table).robustness == pytest.approx(4 / 5, abs=EXACT)


@given(tables(ABOVE_CHANCE))
def test_raf_is_one_only_without_loss_and_without_gap(table):
    lossless = bool((table[:, 1:, 0] >= table[0, 0, 0]).all())
    even = bool(np.ptp(table[..., 1:], axis=-1).max() == 0)
    # a float32 step next to 1 is 6e-8, and one cell in 16 at most carries it: far above rounding at 1e-12
    assert (metrics.raf(table).raf > 1 - EXACT) == (lossless and even)
    flat = np.full_like(table, table[0, 0, 0])
    assert metrics.raf(flat).raf == pytest.approx(1, abs=EXACT)


@given(tables(ABOVE_CHANCE), st.data(), st.floats(0, 1))
def test_fairness_never_falls_as_the_worst_group_gains(table, data, share):
    f, s = data.draw(st.integers(0, len(table) - 1)), data.draw(st.integers(1, 5))
    worst = 1 + int(table[f, s, 1:].argmin())
    better = table.copy()
    better[f, s, worst] += share * (table[f, s, 1:].max() - table[f, s, worst])
    before, after = metrics.raf(table), metrics.raf(better)
    assert after.fairness >= before.fairness - EXACT and after.raf >= before.raf - EXACT
    assert after.robustness == before.robustness


@given(tables(st.floats(0.5625, 0.875, width=32)), st.data())
def test_fairness_falls_when_the_best_group_alone_gains(table, data):
    f, s = data.draw(st.integers(0, len(table) - 1)), data.draw(st.integers(1, 5))
    better = table.copy()
    better[f, s, 1 + int(table[f, s, 1:].argmax())] += 0.1
    # ratio a/b with a >= 0.0625 and b <= 0.375 loses at least 0.0625/0.375 - 0.0625/0.475 = 0.035, over 16 cells
    assert metrics.raf(better).fairness < metrics.raf(table).fairness - 0.035 / 16 + EXACT


@given(tables(), st.randoms(use_true_random=False))
def test_names_of_groups_do_not_matter(table, random):
    order = list(range(1, table.shape[-1]))
    random.shuffle(order)
    swapped = table[..., [0, *order]]
    for one, other in zip(metrics.raf(table), metrics.raf(swapped), strict=True):
        np.testing.assert_allclose(one, other, atol=EXACT)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_names_of_classes_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    label, code = np.tile([0, 1], 30), np.repeat([0, 1], 30)
    score = np.round(rng.normal(size=(2, 6, 60)) + label, 1)
    score[:, 0] = score[0, 0]
    one = metrics.raf(metrics.outcome(score, label, code, 2, 0.0).auc)
    other = metrics.raf(metrics.outcome(1 - score, 1 - label, code, 2, 0.0).auc)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=EXACT)


def test_a_useless_model_is_not_a_fair_one():
    found = metrics.raf(np.full((2, 6, 3), 0.5))
    assert np.isnan([found.robustness, found.fairness, found.raf]).all() and found.undefined == 11
    below = np.full((2, 6, 3), 0.9)
    below[:, 0, 0] = 0.4  # clean below chance: nothing to lose
    assert np.isnan(metrics.raf(below).robustness) and metrics.raf(below).performance == pytest.approx(-0.2)


def test_a_subgroup_without_a_value_is_counted_not_ignored():
    table = np.full((1, 6, 4), 0.8)
    table[0, 2, 3] = np.nan
    table[0, 3, 1:] = 0.5
    found = metrics.raf(table)
    assert found.undefined == 2 and found.fairness == pytest.approx(1, abs=EXACT)


@pytest.mark.parametrize("groups", [0, 1])
def test_without_two_subgroups_there_is_no_fairness(groups):
    found = metrics.raf(np.full((2, 6, 1 + groups), 0.8))
    assert found.robustness == 1 and np.isnan(found.fairness) and np.isnan(found.raf) and found.undefined == 0


def test_another_chance_level():
    """A metric from 0, such as Dice: 0.9 clean and 0.6 shifted keeps two thirds."""
    table = np.full((1, 6, 3), 0.6)
    table[:, 0] = 0.9
    found = metrics.raf(table, chance=0.0)
    assert (found.performance, found.robustness) == pytest.approx((0.9, 2 / 3), abs=EXACT)


def test_leading_axes_are_independent():
    table = np.random.default_rng(0).uniform(0.3, 1, (2, 3, 4, 6, 3))
    table[..., 0, :] = table[..., :1, 0, :]
    found = metrics.raf(table)
    for at in np.ndindex(2, 3):
        for name, expected in by_hand(table[at]).items():
            assert getattr(found, name)[at] == pytest.approx(expected, abs=EXACT, nan_ok=True)
