"""What cannot be asked of a cohort's images is told in one line, with exit code 2, before anything is trained."""

from dataclasses import replace

import numpy as np
import patterns
import pytest

from rafmodel import classes, cli, cohort, design, study
from rafmodel.errors import InputError

CLASSES, FINDINGS, GRADES = patterns.classes(60), patterns.findings(60), patterns.grades(60)


def changed(made, column, place, value):
    """The cohort with another value of a column at some images."""
    entries = made.attributes[column].astype("U20")
    entries[place] = value
    return replace(made, attributes={**made.attributes, column: entries})


def test_columns_and_values_must_be_there():
    with pytest.raises(InputError, match="no column 'kind' that holds the class; choose with --label from site, which"):
        classes.asked(CLASSES, "kind", "multi-class")
    with pytest.raises(
        InputError, match=r"which: no image has the value 'round'; choose with --classes from across, along"
    ):
        classes.asked(CLASSES, "which", "multi-class", ("blob", "round"))
    with pytest.raises(InputError, match="'blob' is named twice"):
        classes.asked(CLASSES, "which", "multi-class", ("blob", "along", "blob"))
    with pytest.raises(InputError, match="1 asked about, of the values across, along, blob; multi-class needs 2 to 12"):
        classes.asked(CLASSES, "which", "multi-class", ("blob",))
    many = replace(CLASSES, attributes={"which": (np.arange(60) // 2 % 14).astype(str)})
    with pytest.raises(InputError, match="14 asked about"):
        classes.asked(many, "which", "multi-class")
    with pytest.raises(InputError, match="--task several: choose from multi-class, multi-label, ordinal"):
        classes.asked(CLASSES, "which", "several")
    blank = changed(CLASSES, "which", slice(None), "unknown")
    with pytest.raises(InputError, match="0 asked about, of the values none"):
        classes.asked(blank, "which", "multi-class")


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("kind", ["multi-class", "multi-label"])
def test_a_class_needs_images_where_it_is_learned_and_where_it_is_judged(split, kind):
    there = (CLASSES.split == split) & (CLASSES.attributes["which"] == "blob")
    with pytest.raises(
        InputError, match=f"0 of the .* images of split '{split}' are 'blob'.*leave it out with --classes"
    ):
        classes.asked(changed(CLASSES, "which", there, "along"), "which", kind)


def test_a_class_of_one_image_is_refused():
    there = np.flatnonzero((CLASSES.split == "train") & (CLASSES.attributes["which"] == "blob"))
    with pytest.raises(InputError, match=r"1 of the .* images of split 'train' are 'blob', but 2"):
        classes.asked(changed(CLASSES, "which", there[1:], "along"), "which", "multi-class")
    without = classes.asked(changed(CLASSES, "which", there[1:], "along"), "which", "multi-class", ("along", "across"))
    assert without.asked.names == ("along", "across")


def test_a_class_may_be_absent_where_only_the_threshold_is_set():
    there = (CLASSES.split == "val") & (CLASSES.attributes["which"] == "blob")
    assert len(classes.asked(changed(CLASSES, "which", there, "along"), "which", "multi-class").label) == 60


def test_grades_are_numbers_without_gaps_or_named_in_order():
    gap = changed(GRADES, "grade", GRADES.attributes["grade"] == "2", "4")
    with pytest.raises(InputError, match=r"no image has grade 2, though some.*--classes 0 1 3 4"):
        classes.asked(gap, "grade", "ordinal")
    assert classes.asked(gap, "grade", "ordinal", ("0", "1", "3", "4")).asked.n_strata == 4
    with pytest.raises(InputError, match="no grades in a known order; name them from low to high"):
        classes.asked(CLASSES, "which", "ordinal")
    with pytest.raises(InputError, match="no grades in a known order"):
        classes.asked(changed(GRADES, "grade", GRADES.attributes["grade"] == "2", "1.5"), "grade", "ordinal")
    words = changed(
        GRADES, "grade", slice(None), np.array(["poor", "fair", "good", "best"])[GRADES.attributes["grade"].astype(int)]
    )
    made = classes.asked(words, "grade", "ordinal", ("poor", "fair", "good", "best"))
    np.testing.assert_array_equal(made.label, GRADES.attributes["grade"].astype(int))
    ten = changed(GRADES, "grade", GRADES.attributes["grade"] == "3", "10")
    with pytest.raises(InputError, match="grade 3, 4, 5, 6, 7"):
        classes.asked(ten, "grade", "ordinal")


def test_several_classes_of_one_image_are_findings():
    with pytest.raises(InputError, match=r"an image has .* at once; use --task multi-label"):
        classes.asked(FINDINGS, "seen", "multi-class")


def test_images_without_any_of_the_classes_are_left_out_and_counted():
    some = changed(CLASSES, "which", slice(0, 4), "unknown")
    made = classes.asked(some, "which", "multi-class", ("along", "blob"))
    left = int((~np.isin(some.attributes["which"], ["along", "blob"])).sum())
    assert len(made.label) == 60 - left
    assert f"{left} of 60 images have none of them and are left out" in made.contrast
    kept = classes.asked(FINDINGS, "seen", "multi-label", ("one",))
    assert len(kept.label) == 60 and not kept.label[FINDINGS.attributes["seen"] == "nothing"].any()


def test_columns_that_follow_from_the_class_name_no_subgroups():
    words = np.where(CLASSES.attributes["which"] == "blob", "round", "striped")
    told = replace(CLASSES, attributes={**CLASSES.attributes, "shape": words, "id": np.arange(60).astype(str)})
    made = classes.asked(told, "which", "multi-class")
    assert set(made.attributes) == {"site"}


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("prevalence=0.3", "prevalence is a choice about cases and controls"),
        ("flip_case=0.1", "flip_case is a choice about cases"),
        ("n_labelled=2", "0, 0, 0 images would be labelled"),
        ("n_labelled=900", "images of patterns give"),
    ],
)
def test_designs_for_two_classes_are_refused(choice, told):
    made = classes.asked(CLASSES, "which", "multi-class")
    with pytest.raises(InputError, match=told):
        design.fitted(design.select([f"untrained[{choice}]"]), made)


def archive(folder, **columns):
    """An npz of 60 images with a column of classes."""
    fields = {
        "images": (CLASSES.image[..., 0] * 255).astype(np.uint8),
        "kind": CLASSES.attributes["which"],
        "split": CLASSES.split,
        "patient": CLASSES.patient,
        "labels": np.arange(60) % 3,
        "site": CLASSES.attributes["site"],
    }
    path = folder / "three.npz"
    np.savez(path, **(fields | columns))
    return path


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            ["--task", "multi-class", "--label", "sort"],
            "no column 'sort' that holds the class; choose with --label from",
        ),
        (["--task", "multi-class", "--positive", "2"], "--positive and --negative: name cases and controls"),
        (["--classes", "0", "1"], "--classes: made for several questions; add --task multi-class"),
        (["--task", "segmentation", "--classes", "0"], "name classes of the masks with --foreground"),
        (["--task", "ordinal", "--head", "decoder"], "add --task segmentation"),
        (["--task", "multi-class", "--classes", "0", "7"], "no image has the value '7'"),
        (["--task", "ordinal", "--label", "kind"], "no grades in a known order"),
        (["--task", "multi-class", "--label", "kind", "--group", "kind"], "no attribute 'kind' that names subgroups"),
        (
            ["--task", "multi-class", "--designs", "supervised[flip_control=0.2]"],
            "flip_control is a choice about cases",
        ),
    ],
)
def test_the_command_line_says_so_in_one_line(more, told, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "predicted", lambda *_: pytest.fail("something was computed"))
    with pytest.raises(SystemExit) as stopped:
        cli.main(["study", "--cohort", str(archive(tmp_path)), "--out", str(tmp_path / "out"), *more])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert told in lines[0]


def test_a_folder_keeps_to_one_task(tmp_path, capsys, monkeypatch):
    import xarray as xr

    earlier = xr.Dataset(attrs={"cohort": "three", "metric": "auc", "task": "ordinal"})
    earlier.to_netcdf(tmp_path / "study.nc", engine="h5netcdf")
    monkeypatch.setattr(study, "predicted", lambda *_: pytest.fail("something was computed"))
    with pytest.raises(SystemExit):
        cli.main(["study", "--cohort", str(archive(tmp_path)), "--out", str(tmp_path), "--task", "multi-class"])
    assert "another task" in capsys.readouterr().err


def test_labels_as_text_and_as_rows_of_flags_are_read(tmp_path):
    """Words from an npz are classes; MedMNIST's rows of 0 and 1 are findings, numbered."""
    loaded = cohort.load(archive(tmp_path), label="kind", classed=False)
    made = classes.asked(loaded, "kind", "multi-class")
    np.testing.assert_array_equal(np.array(made.asked.names)[made.label], CLASSES.attributes["which"])
    flags = np.random.default_rng(0).random((60, 3)) < 0.4
    parts, images = np.repeat(["train", "val", "test"], 20), np.zeros((60, 8, 8), np.uint8)
    columns = {
        f"{p}_{k}": v[parts == p] for p in ("train", "val", "test") for k, v in (("images", images), ("labels", flags))
    }
    np.savez(tmp_path / "many.npz", **columns)
    made = classes.asked(cohort.load(tmp_path / "many.npz", classed=False), "labels", "multi-label", ("0", "1", "2"))
    np.testing.assert_array_equal(made.asked.answers(made.label), flags)


def test_what_is_asked_changes_the_fingerprint():
    prints = {
        cohort.fingerprint(classes.asked(GRADES, "grade", kind, ("0", "1", "2", "3")))
        for kind in ("ordinal", "multi-class")
    }
    assert len(prints | {cohort.fingerprint(GRADES)}) == 3
