"""Subgroups, statistics, smaller sizes and fingerprints are what they say, against brute force."""

import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
from PIL import Image

from rafmodel import cohort, cohort_commands, masks
from rafmodel.errors import InputError

N = 60


@pytest.fixture
def load(tmp_path):
    """``load(options, **changes)``: a small cohort with some columns replaced, read back from disk."""

    def read(options=None, **changes):
        rng = np.random.default_rng(1)
        fields = {
            "images": rng.integers(0, 255, (N, 30, 21), dtype=np.uint8),
            "labels": np.arange(N) % 2,
            "group": np.array([f"g{i // 2}" for i in range(N)]),
            "split": np.repeat(["train", "val", "test"], [30, 10, 20]),
        } | changes
        np.savez(tmp_path / "small.npz", **fields)
        return cohort.load(tmp_path / "small.npz", **(options or {}))

    return read


def area_average(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Area average by brute force: enlarge by whole numbers, then average whole blocks."""
    fine = np.kron(image.astype(float), np.ones((rows, columns)))
    height, width = image.shape
    return fine.reshape(rows, height, columns, width).mean((1, 3))


@pytest.mark.parametrize("size", [7, 13, 20, 25])
def test_shrinking_averages_areas(load, size):
    """13, 20 and 25 do not divide 30 or 21; at 25 the 21 columns stay, since nothing is enlarged."""
    whole, small = load(), load({"size": size})
    columns = min(size, 21)
    assert small.image.shape == (N, size, columns, 1)
    for i in (0, 17):
        expected = area_average(whole.image[i, ..., 0], size, columns) / 255
        np.testing.assert_allclose(small.image[i, ..., 0], expected, atol=1e-6)  # float32


def test_shrinking_agrees_with_pillow():
    """Whole ratios: Pillow's ``reduce`` is the block mean, rounded to 1/255."""
    image = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)
    small = cohort.sources.shrink(image, 8)
    for ours, picture in zip(small, image, strict=True):
        pillow = np.asarray(Image.fromarray(picture).reduce(4)) / 255
        np.testing.assert_allclose(ours, pillow, atol=0.5 / 255 + 1e-6)


def test_small_images_keep_their_bytes(load):
    assert load({"size": 30}).image.dtype == np.uint8
    np.testing.assert_array_equal(load({"size": 300}).image, load().image)


def test_masks_keep_their_classes(load):
    mask = np.random.default_rng(0).choice([0, 3, 7], (N, 30, 21))
    assert set(np.unique(load({"size": 10}, masks=mask).mask)) == {0, 3, 7}
    coarse = mask[:, ::3, :10]
    fine = np.kron(coarse, np.ones((3, 3), int))
    found = load({"size": 10}, images=np.zeros((N, 30, 30), np.uint8), masks=fine)
    np.testing.assert_array_equal(found.mask, coarse)
    rows = np.broadcast_to(np.arange(30)[None, :, None], (N, 30, 21))
    centres = load({"size": 10}, masks=rows).mask[0, :, 0]  # 30 to 10: the middle one of every three
    np.testing.assert_array_equal(centres, np.arange(1, 30, 3))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_in_fortran_order_and_any_precision(load, kind):
    images = np.asfortranarray(np.random.default_rng(0).uniform(size=(N, 9, 8)).astype(kind))
    found = cohort.pixels(load(images=images))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[..., 0], images.astype(np.float32))


def test_pixels_of_bytes(load):
    found = load()
    np.testing.assert_allclose(cohort.pixels(found), found.image / 255, rtol=1e-7)
    assert cohort.pixels(found).dtype == np.float32


def test_missing_values_are_a_subgroup_of_their_own(load):
    sex = np.array(["F", "M", "", "nan", " F"])[np.arange(N) % 5]
    site = np.where(np.arange(N) % 4 == 0, np.nan, np.arange(N) % 3)
    found = load(sex=sex, site=site)
    names, code = cohort.groups(found, "sex")
    assert (names, np.bincount(code).tolist()) == (["F", "M", "unknown"], [24, 12, 24])
    names, code = cohort.groups(found, "site")
    assert names == ["0", "1", "2", "unknown"]
    assert (np.array(names)[code] == "unknown").sum() == 15
    assert cohort.groups(found, None)[0] == []
    assert not cohort.groups(found, None)[1].any()


@pytest.mark.parametrize("kind", [float, str])
def test_ages_come_in_bands(load, kind):
    age = np.array([0, 17.9, 18, 49.9, 50, 64.9, 65, 103, 130, -1, np.nan, 30])[np.arange(N) // 2 % 12]
    found = load(age=age.astype(kind))
    bands = ["<18", "<18", "18-49", "18-49", "50-64", "50-64", "65+", "65+", *["unknown"] * 3, "18-49"]
    np.testing.assert_array_equal(found.attributes["age"], np.array(bands)[np.arange(N) // 2 % 12])
    assert load(age=np.array(["old", "young"])[np.arange(N) // 3 % 2]).attributes["age"][0] == "old"


def test_which_columns_name_subgroups(load):
    found = load(
        scanner=np.arange(N) // 2 % 12,
        many=np.arange(N) // 2 % 13,
        one=np.zeros(N),
        orig_h=np.arange(N) // 2 % 3,
        image_id=np.arange(N) // 2 % 3,
        diagnosis=np.array(["healthy", "ill"])[np.arange(N) % 2],
        class_names=np.array(["a", "b"]),
        column_vector=(np.arange(N) // 2 % 3)[:, None],
        raw=np.array([b"x", b"y"])[np.arange(N) // 3 % 2],
    )
    assert sorted(found.attributes) == ["column_vector", "raw", "scanner"]
    assert cohort.groups(found, "raw")[0] == ["x", "y"]


def test_statistics_are_brute_force_counts(load):
    site = np.array(["A", "B", "A"])[np.arange(N) // 2 % 3]
    bright = np.where(site == "A", 60, 120) + 9 * (np.arange(N) % 2)
    texture = np.random.default_rng(0).integers(0, 99, (N, 5, 5))
    found = load(site=site, images=(bright[:, None, None] + texture).astype(np.uint8))
    cells = [*zip(found.split.tolist(), found.label.tolist(), site.tolist(), strict=True)]
    for row in cohort.statistics(found, "site"):
        rows = [i for i, cell in enumerate(cells) if cell == (row["split"], row["label"], row["group"])]
        assert row["images"] == len(rows) > 0
        assert row["patients"] == len({i // 2 for i in rows})
        assert row["mean"] == pytest.approx((found.image[rows] / 255).mean())
        assert row["sd"] == pytest.approx((found.image[rows] / 255).std())
    assert len(cohort.statistics(found, "site")) == 3 * 2 * 2


def test_an_empty_cell_is_nan_and_counted(load):
    found = load(site=np.where((np.arange(N) % 2 == 1) & (np.arange(N) < 20), "B", "A"))
    assert "site" in found.attributes
    empty = [row for row in cohort.statistics(found, "site") if row["images"] == 0]
    where = {(row["split"], row["label"], row["group"]) for row in empty}
    late = {(split, label, "B") for split in ("val", "test") for label in (0, 1)}
    assert where == {("train", 0, "B"), *late}
    assert all(np.isnan(row["mean"]) and np.isnan(row["sd"]) and row["patients"] == 0 for row in empty)


@pytest.mark.parametrize(
    ("name", "words", "warned"),
    [
        ("breastmnist", "labels 1 (normal, benign) against 0 (malignant)", True),
        ("breastmnist_64", "labels 1 (normal, benign) against 0 (malignant)", True),
        ("pneumoniamnist", "labels 1 (pneumonia) against 0 (normal)", False),
        ("mine", "labels 1 against 0", False),
    ],
)
def test_classes_of_the_catalogue_have_their_names_and_a_healthy_case_is_told(name, words, warned, tmp_path, capsys):
    fields = {f"{part}_images": np.zeros((8, 10, 10), np.uint8) for part in cohort.SPLITS}
    fields |= {f"{part}_labels": np.arange(8)[:, None] % 2 for part in cohort.SPLITS}
    np.savez(tmp_path / f"{name}.npz", **fields)
    found = cohort_commands.found(cohort_commands.Who(str(tmp_path / f"{name}.npz")))
    assert found.contrast == words
    assert found.label[:2].tolist() == [0, 1]  # which class is the case stays
    said = capsys.readouterr().err
    assert ("the case is the healthy class" in said) is warned
    turned = cohort_commands.found(cohort_commands.Who(str(tmp_path / f"{name}.npz"), positive=("0",)))
    assert ("the case is the healthy class" in capsys.readouterr().err) is (name == "pneumoniamnist")
    assert turned.label[:2].tolist() == [1, 0]


def test_description_holds_every_count(load):
    found = load(licence=np.array("CC0"), sex=np.array(["F", "M"])[np.arange(N) // 2 % 2])
    lines = cohort.describe(found, "sex").splitlines()
    text = "\n".join(lines)
    for word in ("small", "60 of 30 x 21 x 1", "30 patients", "labels 1 against 0", "CC0", "sex (F, M)"):
        assert word in text
    table = [line.split() for line in lines if line.lstrip().startswith(cohort.SPLITS)]
    rows = cohort.statistics(found, "sex")
    counted = [[str(row[k]) for k in ("split", "label", "group", "images")] for row in rows]
    assert [row[:4] for row in table] == counted
    assert len({len(line) for line in lines[-13:]}) == 1  # aligned


def test_parts_and_picks_keep_rows_together(load):
    found = load(masks=np.repeat(np.arange(N), 630).reshape(N, 30, 21), who=np.arange(N) // 2 % 7)
    number = np.arange(N, dtype=np.uint8)[:, None, None, None]
    found = replace(found, image=np.broadcast_to(number, found.image.shape))
    for picked in (cohort.take(found, np.array([50, 3, 3])), cohort.part(found, "test")):
        i = picked.image[:, 0, 0, 0].astype(int)
        np.testing.assert_array_equal(picked.label, i % 2)
        np.testing.assert_array_equal(picked.patient, [f"g{k // 2}" for k in i])
        np.testing.assert_array_equal(picked.mask[:, 0, 0], i)
        np.testing.assert_array_equal(picked.attributes["who"], (i // 2 % 7).astype(str))
    assert len(cohort.part(found, "test").label) == 20
    assert cohort.take(found, np.array([50, 3, 3])).image[:, 0, 0, 0].tolist() == [50, 3, 3]


def test_classes_by_default_and_by_choice(load):
    grade = np.arange(N) // 2 % 4 + 9  # 9, 10, 11, 12: the highest as a number, not as text
    found = load(labels=grade)
    np.testing.assert_array_equal(found.label, grade == 12)
    assert found.contrast == "labels 12 against 9, 10, 11 (the highest against the rest)"
    found = load({"negative": ["9"]}, labels=grade.astype(float))
    np.testing.assert_array_equal(found.label, grade != 9)
    found = load({"positive": ["11", "12"], "negative": ["9"]}, labels=grade[:, None])
    np.testing.assert_array_equal(found.label, (grade != 9)[grade != 10])
    assert f"{(grade == 10).sum()} of {N}" in found.contrast
    missing = np.where(np.arange(N) % 5 == 0, np.nan, np.arange(N) % 2)
    found = load(labels=missing)
    assert len(found.label) == 48
    assert "12 of 60" in found.contrast


def test_fingerprint_follows_what_can_change_a_result(load):
    found = load(sex=np.array(["F", "M"])[np.arange(N) // 2 % 2])
    image, label, split, patient = (getattr(found, k).copy() for k in ("image", "label", "split", "patient"))
    image[5, 3, 3, 0] ^= 1
    label[7] = 1 - label[7]
    split[0] = "val"
    patient[59] = "g0"
    variants = [
        replace(found, image=image),
        replace(found, image=image.astype(np.float32)),
        replace(found, label=label),
        replace(found, split=split),
        replace(found, patient=patient),
        replace(found, contrast="labels 0 against 1"),
        replace(found, attributes={"gender": found.attributes["sex"]}),
        replace(found, attributes={"sex": found.attributes["sex"][::-1]}),
        cohort.take(found, np.arange(N)[::-1]),
    ]
    prints = {cohort.fingerprint(c) for c in (found, *variants)}
    assert len(prints) == 1 + len(variants)
    assert all(len(p) == 64 for p in prints)
    wide, other_order = found.split.astype("U40"), np.asfortranarray(found.image)
    same = replace(found, split=wide, image=other_order, name="renamed")
    assert cohort.fingerprint(same) == cohort.fingerprint(found)


def test_module_needs_neither_jax_nor_pandas():
    """Errors about a cohort come before the slow imports."""
    code = "import sys, rafmodel.cohort; print({'jax', 'pandas', 'xarray', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_patches_around_pixels_carry_the_class_of_their_centre(load):
    """Every image holds its own pixel numbers, so that a patch says where it came from."""
    mask = np.zeros((N, 30, 21), np.uint8)
    mask[:40, 8:20, 5:15] = 1  # the last twenty images have no structure
    whole = load(masks=mask)
    place = np.broadcast_to(np.arange(30 * 21).reshape(1, 30, 21, 1), (N, 30, 21, 1))
    whole = replace(whole, image=place.astype(np.float32) / 1000)
    found = masks.around_pixels(whole, jax.random.key(0), side=8, each=3)
    assert found.image.shape == (40 * 6, 8, 8, 1)
    centre = np.rint(found.image[:, 4, 4, 0] * 1000).astype(int)
    row, column = np.divmod(centre, 21)
    np.testing.assert_array_equal(mask[0][row, column], found.label)
    away = np.maximum(np.maximum(8 - row, row - 19), np.maximum(5 - column, column - 14))
    assert away[found.label == 0].min() > 0
    assert away.max() <= 4
    np.testing.assert_array_equal(found.patient, np.repeat(whole.patient[:40], 6))
    assert len(np.unique(centre.reshape(40, 6), axis=0)) > 30  # each image its own draw
    with pytest.raises(InputError, match="no masks"):
        masks.around_pixels(replace(whole, mask=None), jax.random.key(0), side=8, each=3)
    with pytest.raises(InputError, match="draw fewer"):
        masks.around_pixels(whole, jax.random.key(0), side=8, each=200)
