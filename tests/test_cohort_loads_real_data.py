"""Real cohorts load with the counts that their publishers state, or are refused with the line that helps."""

import numpy as np
import pytest

from rafmodel import cohort
from rafmodel.errors import InputError

# name: (images, patients, cases of the default contrast, split sizes, side, attributes), from their README
PUBLISHED = {
    "breastmnist": (780, 780, 570, (546, 78, 156), 28, {}),
    "pneumoniamnist": (5856, 5856, 4273, (4708, 524, 624), 28, {}),
    "nih_cxr1000": (
        1000,
        264,
        500,
        None,
        64,
        {
            "sex": {"F": 509, "M": 491},
            "view": {"PA": 637, "AP": 363},
            "age": {"18-49": 99, "50-64": 484, "65+": 417},
        },
    ),
    "hannover_cxr": (
        243,
        71,
        194,
        None,
        128,
        {"sex": {"M": 180, "F": 63}, "icu_ever": {"0": 57, "1": 186}, "died": {"0": 195, "1": 48}},
    ),
    "busi_ultrasound": (780, 609, 210, None, 128, {}),
    "sunnybrook_cmr": (805, 45, 245, None, 128, {"sex": {"M": 585, "F": 220}, "age": None}),
    "mni152_slices": (216, 26, 68, None, 128, {}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_those_published(cohort_folder, name):
    images, patients, cases, parts, side, attributes = PUBLISHED[name]
    found = cohort.load(cohort_folder / name)
    assert found.name == name
    assert found.image.shape == (images, side, side, 1)
    assert found.image.dtype == np.uint8
    assert len(set(found.patient)) == patients
    assert found.label.dtype == np.int8
    assert (found.label.sum(), (found.label == 0).sum()) == (cases, images - cases)
    if parts:
        assert tuple(int((found.split == s).sum()) for s in cohort.SPLITS) == parts
    for attribute, counts in attributes.items():
        names, code = cohort.groups(found, attribute)
        if counts:
            assert dict(zip(names, np.bincount(code), strict=True)) == counts
    assert set(found.attributes) >= set(attributes)
    the_class_itself = {"diagnosis", "pathology", "projection", "orientation"}
    assert not set(found.attributes) & {*the_class_itself, "findings", "image_id"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_patients_never_share_splits_and_statistics_add_up(cohort_folder, name):
    found = cohort.load(cohort_folder / name, size=32)
    parts = [set(cohort.part(found, split).patient) for split in cohort.SPLITS]
    assert sum(map(len, parts)) == len(set.union(*parts))
    for attribute in (None, *found.attributes):
        rows = cohort.statistics(found, attribute)
        assert sum(row["images"] for row in rows) == len(found.label)
        assert sum(row["images"] for row in rows if row["label"] == 1) == found.label.sum()
        mean = sum(row["images"] * row["mean"] for row in rows if row["images"]) / len(found.label)
        assert mean == pytest.approx(cohort.pixels(found).mean(dtype=np.float64), abs=1e-6)  # float32 pixels
    assert cohort.threshold_split(found) == "val"


@pytest.mark.parametrize("name", ["sunnybrook_cmr", "mni152_slices"])
def test_masks_come_along(cohort_folder, name):
    found = cohort.load(cohort_folder / name, size=32)
    assert found.mask is not None
    assert found.mask.shape == found.image.shape[:3]


def test_medmnist_order_and_labels_are_those_of_the_file(cohort_folder):
    found = cohort.load(cohort_folder / "pneumoniamnist" / "pneumoniamnist.npz")
    with np.load(cohort_folder / "pneumoniamnist" / "pneumoniamnist.npz") as file:
        for split in cohort.SPLITS:
            part = cohort.part(found, split)
            np.testing.assert_array_equal(part.image[..., 0], file[f"{split}_images"])
            np.testing.assert_array_equal(part.label, file[f"{split}_labels"][:, 0])
    assert cohort.part(found, "train").patient[12] == "train-00012"


def test_findings_match_any_entry_of_the_list(cohort_folder):
    chest = cohort_folder / "nih_cxr1000"
    found = cohort.load(chest, label="findings", positive=["Effusion"], negative=["No Finding"])
    assert found.label.sum() == 170  # README: Effusion 170
    with np.load(chest / "nih_cxr1000.npz") as file:
        healthy = int((file["findings"] == "No Finding").sum())
    assert (found.label == 0).sum() == healthy
    assert found.contrast.startswith("findings Effusion against No Finding")
    assert f"{1000 - 170 - healthy} of 1000" in found.contrast
    everyone = cohort.load(chest, label="findings", positive=["Cardiomegaly", "Atelectasis"])
    assert len(everyone.label) == 1000
    assert 95 < everyone.label.sum() <= 95 + 83  # README: Atelectasis 95, Cardiomegaly 83, some have both


def test_three_classes_become_a_stated_contrast(cohort_folder):
    breast = cohort_folder / "busi_ultrasound"
    default = cohort.load(breast)
    assert default.contrast == "labels 2 against 0, 1 (the highest against the rest)"
    chosen = cohort.load(breast, label="diagnosis", positive=["malignant"], negative=["benign"])
    assert (chosen.label.sum(), (chosen.label == 0).sum()) == (210, 437)
    assert "malignant against benign" in chosen.contrast
    assert "133 of 780" in chosen.contrast
    np.testing.assert_array_equal(chosen.image[chosen.label == 1], default.image[default.label == 1])


def test_colour_stays_and_cameras_are_subgroups(cohort_folder):
    found = cohort.load(cohort_folder / "retina_vessels", label="disease", positive=["healthy"], size=64)
    assert found.image.shape == (95, 64, 64, 3)
    names, code = cohort.groups(found, "domain")
    assert dict(zip(names, np.bincount(code), strict=True)) == {"CHASE_DB1": 28, "HRF": 45, "LES-AV": 22}
    assert found.label.sum() == 15


# name: (images, patients, shape after 32 pixels a side, classes of the masks, attributes), from their README
WITHOUT_CLASSES = {
    "retina_vessels": (95, 45 + 14 + 22, (32, 32, 3), [0, 1], {"domain": {"HRF": 45, "CHASE_DB1": 28, "LES-AV": 22}}),
    "nuclei_dsb2018": (
        664,
        664,
        (32, 32, 3),
        [0, 1],
        {"domain": {"fluorescence": 541, "histology": 107, "brightfield-grey": 16}, "acquisition": None},
    ),
    "msd_hippocampus3d": (260, 260, (32, 32, 32, 1), [0, 1, 2], {}),
}


@pytest.mark.parametrize("name", WITHOUT_CLASSES)
def test_masks_without_classes_load_by_name(cohort_folder, monkeypatch, name):
    images, patients, shape, classes, attributes = WITHOUT_CLASSES[name]
    monkeypatch.setenv("RAFMODEL_DATA", str(cohort_folder))
    found = cohort.load(name, size=32)
    assert (found.image.shape, found.mask.shape) == ((images, *shape), (images, *shape[:-1]))
    assert len(set(found.patient)) == patients
    assert (set(found.label.tolist()), found.contrast, found.has_classes) == ({-1}, "none: masks only", False)
    assert np.unique(found.mask).tolist() == classes
    for attribute, counts in attributes.items():
        names, code = cohort.groups(found, attribute)
        assert counts is None or dict(zip(names, np.bincount(code), strict=True)) == counts
    assert set(found.attributes) >= set(attributes)
    rows = cohort.statistics(found)
    assert [(row["split"], row["label"]) for row in rows] == [(split, -1) for split in cohort.SPLITS]
    assert sum(row["images"] for row in rows) == images
    assert f"{images} of" in cohort.describe(found)
    assert cohort.fingerprint(found) != cohort.fingerprint(cohort.take(found, np.arange(images)[::-1]))


def test_volumes_of_two_sizes_load_by_name(cohort_folder, monkeypatch):
    monkeypatch.setenv("RAFMODEL_DATA", str(cohort_folder))
    small = cohort.load("adrenalmnist3d")
    assert small.image.shape == (1584, 28, 28, 28, 1)
    assert (small.label.sum(), (small.label == 0).sum()) == (350, 1234)
    assert [int((small.split == s).sum()) for s in cohort.SPLITS] == [1188, 98, 298]
    large = cohort.load("adrenalmnist3d_64", size=16)
    assert large.image.shape == (1584, 16, 16, 16, 1)
    np.testing.assert_array_equal(large.label, small.label)
    with np.load(cohort_folder / "adrenalmnist3d" / "adrenalmnist3d_64.npz") as file:
        blocks = file["test_images"][7].reshape(16, 4, 16, 4, 16, 4).mean((1, 3, 5)) / 255
    np.testing.assert_allclose(large.image[1188 + 98 + 7, ..., 0], blocks, atol=1e-6)  # float32


def test_spacing_follows_the_size(cohort_folder):
    found = cohort.load(cohort_folder / "msd_hippocampus3d", size=20)  # 40, 56, 48 voxels of 1 mm
    np.testing.assert_allclose(found.spacing, [[2, 56 / 20, 48 / 20]] * 260)


def test_what_is_read_in_pieces_is_what_is_read_whole(cohort_folder):
    """A limit below the whole, above what is left of it at 16 pixels."""
    path = cohort_folder / "sunnybrook_cmr"
    whole = cohort.load(path, size=16)
    pieces = cohort.load(path, size=16, limit_bytes=805 * 128 * 128 * 4)
    np.testing.assert_allclose(pieces.image, whole.image, atol=1e-6)
    np.testing.assert_array_equal(pieces.mask, whole.mask)
    with pytest.raises(InputError, match="GiB of memory"):
        cohort.load(path, limit_bytes=805 * 128 * 128 * 4)


@pytest.mark.parametrize("label", ["camera", "disease", "domain"])
def test_any_column_can_be_the_class(cohort_folder, label):
    with pytest.raises(InputError, match=r"values; name those of a case with --positive"):
        cohort.load(cohort_folder / "retina_vessels", label=label, size=32)
    with pytest.raises(InputError, match=r"no column 'labels'.*--label.*camera"):
        cohort.load(cohort_folder / "retina_vessels", positive=["1"])


def test_a_bare_name_is_looked_up_in_the_data_folder(cohort_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("RAFMODEL_DATA", str(cohort_folder))
    monkeypatch.chdir(tmp_path)
    assert len(cohort.load("breastmnist").label) == 780
    with pytest.raises(InputError, match=r"no_such_cohort.*RAFMODEL_DATA"):
        cohort.load("no_such_cohort")


def test_same_file_same_fingerprint(cohort_folder):
    path = cohort_folder / "breastmnist" / "breastmnist.npz"
    assert cohort.fingerprint(cohort.load(path)) == cohort.fingerprint(cohort.load(path))
    assert cohort.fingerprint(cohort.load(path)) != cohort.fingerprint(cohort.load(path, size=14))
