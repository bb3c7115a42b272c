"""What ``rafmodel predict`` says: the numbers of its table, what would move them, and where theory was not checked."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm
from scripts import load

from rafmodel import charts, cohort, design, experience, foreseen, predict, study, variability
from rafmodel.phantoms import phantom

IMAGES = phantom(jax.random.key(0), n_patients=200)


def tiny_table():
    """Two designs, two shifts: b is better, blur hurts more and hurts a most, group M is behind under blur."""
    auc = np.full((2, 2, 6, 3), 0.9)
    auc[0, 1, 5] = [0.6, 0.7, 0.5]
    auc[1, 1, 5] = [0.8, 0.85, 0.75]
    auc[0, 0, 5] = 0.85
    cell = ("design", "shift", "severity", "group")
    return xr.Dataset(
        {
            "predicted_auc": (cell, auc),
            "raf_predicted": ("design", [0.5, 0.7]),
            "robustness_predicted": ("design", [0.9, 0.3]),
            "level_value": (("shift", "severity"), np.arange(12.0).reshape(2, 6)),
        },
        {
            "design": ["a", "b"],
            "shift": ["noise", "blur"],
            "unit": ("shift", ["s.d.", "pixels"]),
            "severity": np.arange(6),
            "group": ["all", "F", "M"],
        },
    )


def test_the_sentences_name_the_cells_of_the_table():
    told = dict(foreseen.sentences(tiny_table(), {"twice the labels": 0.01, "ten times the ridge": -0.2}))
    assert told["Designs"] == "b (0.70) is foreseen to have the highest RAF, a (0.50) the lowest."
    assert told["Shifts"].startswith("blur 11 (pixels; level 5) is foreseen to hurt most: a loses 0.30 of AUC, b 0.10.")
    assert "that of a under blur 11 (pixels; level 5): AUC 0.70 in F, 0.50 in M." in told["Subgroups"]
    assert told["What would move it"] == "RAF of b: ten times the ridge -0.200; twice the labels +0.010."


def test_one_known_subgroup_has_no_gap():
    table = tiny_table()
    table["predicted_auc"][..., 2] = np.nan
    assert "Subgroups" not in dict(foreseen.sentences(table, {}))


def test_without_a_raf_designs_are_ranked_by_robustness():
    table = tiny_table().isel(group=[0])
    table["raf_predicted"] = table["raf_predicted"] * np.nan
    told = dict(foreseen.sentences(table, {}))
    assert told["Designs"].startswith("a (0.90)")
    assert "Subgroups" not in told
    assert "What would move it" not in told


def test_how_far_the_parts_of_the_source_agree_is_told():
    """Four designs whose effects are the same in two parts; then a second part in which they are the other way round."""
    table = tiny_table()
    effect = np.array([0.3, 0.1, -0.1, -0.3])[:, None, None, None] * np.ones((4, 2, 2, 6))
    dims = ("design", "part", "shift", "severity")

    def told(z):
        both = table.drop_dims("design").assign(predicted_by_part=(dims, norm.cdf(0.6 + z)))
        return foreseen._agreement(both)[0]

    headline, text = told(effect)
    assert headline == "How sure it is of designs"
    assert "at r = 1.00; 100% of their mean effects and 100% of the rest are kept." in text
    assert "hardly" not in text
    assert "at r = -1.00; 0% of" in told(effect * np.array([1, -1])[:, None, None])[1]
    assert "no ground to prefer a design" in told(effect * np.array([1, -1])[:, None, None])[1]
    assert not foreseen._agreement(table)
    assert not foreseen._agreement(table.assign(predicted_by_part=(dims, norm.cdf(effect[:2]))))


@pytest.fixture
def small(monkeypatch):
    for name, value in {"NETWORKS": 1, "FOLDS": 1, "DIRECTIONS": 60, "ALTERED": 200, "AT_ONCE": 500}.items():
        monkeypatch.setattr(charts, name, value)
    monkeypatch.setattr(predict, "PAIRED", 200)


def test_levers_have_the_signs_they_must(small):
    """Wrong labels and fewer labels cannot help; a choice that the cohort's size makes void is left out."""
    one = design.select(["untrained"])
    plan = study.Plan(IMAGES, None, one, variability.select(["noise"]))
    found = study.levers(plan, "untrained", "performance", lambda *_: None)
    assert found["half the labels"] < 0
    assert found["a tenth of the labels wrong"] < 0
    assert "twice the training" not in found
    assert found == study.levers(plan, "untrained", "performance", lambda *_: None, study.surveyed(plan))
    most = int(min((cohort.part(IMAGES, "train").label == c).sum() for c in (0, 1))) * 2
    plenty = replace(plan, designs=(replace(one[0], n_labelled=2 * most),))
    assert "twice the labels" not in study.levers(plenty, "untrained", "performance", lambda *_: None)


def test_theory_says_where_it_was_not_checked():
    usual = design.select(["contrastive+crop"], steps=experience.STEPS)[0]
    assert predict.outside(phantom(jax.random.key(0)), usual) == []
    large = replace(IMAGES, image=np.zeros((len(IMAGES.label), 64, 64, 3), np.uint8))
    told = " ".join(predict.outside(large, replace(usual, widths=(8,), steps=10_000, n_labelled=10)))
    for part in ("64 pixels", "3 channels", "10 labels", "(8,)", "10000 steps"):
        assert part in told


def test_theory_says_which_shifts_designs_and_choices_it_was_not_checked_on():
    cohort_ = phantom(jax.random.key(0))
    [usual] = design.select(["contrastive+noise"], steps=experience.STEPS)
    assert predict.outside(cohort_, usual, variability.VARIABILITIES) == []
    [told] = predict.outside(cohort_, usual, variability.select(["noise", "ghosting", "zipper"]))
    assert told.startswith("shifts ghosting, zipper (checked: bias, ")
    for name, part in (
        ("barlow+noise", "proxy task and views of barlow+noise"),
        ("contrastive+noise[strength=0.5]", "views of another strength"),
        ("contrastive+noise[label_flip=0.1]", "10% wrong labels"),
        ("contrastive+noise[probe=logistic]", "a logistic probe"),
    ):
        [why] = predict.outside(cohort_, *design.select([name], steps=experience.STEPS))
        assert part in why


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("jigsaw", ""),
        ("jigsaw[steps=800]", "800 steps at learning rate 0.003 (checked: 400 at 0.003)"),
        ("jigsaw[steps=300]", "300 steps at learning rate 0.003 (checked: 400 at 0.003)"),
        ("jigsaw[steps=400,learning_rate=0.01]", "400 steps at learning rate 0.01 (checked: 400 at 0.003)"),
        ("untrained", ""),
    ],
)
def test_theory_says_with_how_much_training_it_was_checked(text, told):
    """What a plain study takes unless told otherwise is what the skill was measured at."""
    assert load("simulations/3_development_study.py").Options().steps == experience.STEPS
    said = predict.outside(phantom(jax.random.key(0)), *design.select([text]))
    assert said == ([told] if told else [])


def test_levers_move_views_probe_and_images_where_theory_sees_them(small):
    [one] = design.select(["contrastive+noise[prevalence=0.3]"], steps=100)
    plan = study.Plan(IMAGES, None, (one,), variability.select(["noise"]))
    seen = study.surveyed(plan)
    found = study.levers(plan, one.name, "robustness", lambda *_: None, seen)
    other = replace(one, proxy=design.strengthened(one, 0.5).proxy)
    both = study.predicted(replace(plan, designs=(one, other)), lambda *_: None, seen, believed=False)
    score = plan.raf(both.auc).robustness
    assert found["views half as strong"] == pytest.approx(float(score[1] - score[0]), abs=1e-6)
    assert {"a logistic probe", "twice the training"} <= set(found)
    [tuned] = design.select(["contrastive+noise[probe=finetuned]"], steps=100)
    assert "classes weighed alike" not in study.levers(
        replace(plan, designs=(tuned,)), tuned.name, "robustness", lambda *_: None, seen
    )
