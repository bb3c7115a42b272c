"""A cohort with the prevalence and mix that were asked for, drawn at random, as large as can be, other parts untouched."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from rafmodel import cohort
from rafmodel.errors import InputError
from rafmodel.imbalance import dealt, filled, pixel_prevalence, rebalanced
from rafmodel.phantoms import phantom

WHOLE = phantom(jax.random.key(0), n_patients=400)
KEY = jax.random.key(1)


def shares(found, attribute=None):
    train = cohort.part(found, "train")
    column = train.attributes[attribute] if attribute else np.full(len(train.label), "")
    return {value: ((column == value).mean(), train.label[column == value].mean()) for value in np.unique(column)}


@pytest.mark.parametrize("prevalence", [0.05, 0.5, 0.9])
def test_prevalence_is_as_asked_and_as_many_stay_as_can(prevalence):
    found = rebalanced(WHOLE, KEY, prevalence=prevalence)
    train, before = cohort.part(found, "train"), cohort.part(WHOLE, "train").label
    assert train.label.mean() == pytest.approx(prevalence, abs=1 / len(train.label))
    full = [(train.label == c).sum() == (before == c).sum() for c in (0, 1)]
    assert any(full)  # one class is complete
    for split in ("val", "test"):
        np.testing.assert_array_equal(cohort.part(found, split).image, cohort.part(WHOLE, split).image)
    other = rebalanced(WHOLE, jax.random.key(2), prevalence=prevalence)
    assert not np.array_equal(cohort.part(other, "train").patient, train.patient)


def test_mix_of_subgroups_with_and_without_a_prevalence():
    site = list(np.unique(WHOLE.attributes["site"]))
    mix = {site[0]: 0.2, site[1]: 0.8}
    found = shares(rebalanced(WHOLE, KEY, attribute="site", mix=mix), "site")
    before = shares(WHOLE, "site")
    for value, share in mix.items():
        assert found[value][0] == pytest.approx(share, abs=0.01)
        assert found[value][1] == pytest.approx(before[value][1], abs=0.03)  # prevalence inside a subgroup stays
    both = shares(rebalanced(WHOLE, KEY, attribute="site", mix=mix, prevalence=0.3), "site")
    for value, share in mix.items():
        assert both[value][0] == pytest.approx(share, abs=0.02)
        assert both[value][1] == pytest.approx(0.3, abs=0.02)
    alone = shares(rebalanced(WHOLE, KEY, attribute="site", mix={site[1]: 1.0}), "site")
    assert list(alone) == [site[1]]


def test_what_cannot_be_is_refused():
    for options, said in (
        ({"prevalence": 1.2}, "a share"),
        ({"mix": {"A": 1.0}}, "needs both"),
        ({"attribute": "shoe", "mix": {"A": 1.0}}, "no attribute 'shoe'"),
        ({"attribute": "site", "mix": {"Z": 1.0}}, "among"),
        ({"attribute": "site", "mix": {WHOLE.attributes["site"][0]: 0.7}}, "add to 1"),
    ):
        with pytest.raises(InputError, match=said):
            rebalanced(WHOLE, KEY, **options)
    with pytest.raises(InputError, match="no masks"):
        pixel_prevalence(replace(WHOLE, mask=None))


def test_images_by_how_much_the_structure_fills(cohort_folder):
    whole = cohort.load(cohort_folder / "sunnybrook_cmr", label="pathology", positive=("Heart failure with infarct",))
    share = pixel_prevalence(whole)
    assert 0 < np.median(share) < 0.2
    few = filled(whole, 0.0, 0.05)
    assert pixel_prevalence(cohort.part(few, "train")).max() <= 0.05
    assert (few.split == "test").sum() == (whole.split == "test").sum()
    with pytest.raises(InputError, match="filled to between"):
        filled(whole, 0.99, 1.0)


def test_patients_are_dealt_anew_alike_in_class_and_subgroup():
    few = replace(WHOLE, patient=np.char.add("p", (np.arange(len(WHOLE.label)) // 2).astype(str)))  # two images each
    found = dealt(few, KEY, (0.4, 0.2, 0.4), attribute="site")
    parts = [set(few.patient[found.split == split]) for split in ("train", "val", "test")]
    n = len(set(few.patient))
    assert [len(p) / n for p in parts] == pytest.approx([0.4, 0.2, 0.4], abs=4 / n)  # rounded in each of four strata
    assert sum(map(len, parts)) == n  # nobody is in two
    case = {p: few.label[few.patient == p].max() for p in few.patient}
    shares = [np.mean([case[p] for p in part]) for part in parts]
    assert np.ptp(shares) < 4 / min(map(len, parts))
    again, other = (dealt(few, k, (0.4, 0.2, 0.4)).split for k in (KEY, jax.random.key(3)))
    assert np.array_equal(again, dealt(few, KEY, (0.4, 0.2, 0.4)).split) and not np.array_equal(again, other)
    for wrong in ((0.5, 0.5), (0.5, 0.6, -0.1), (0.5, 0.2, 0.2)):
        with pytest.raises(InputError, match="three shares above 0"):
            dealt(few, KEY, wrong)
