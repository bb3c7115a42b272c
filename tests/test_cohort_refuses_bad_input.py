"""A file that cannot serve is refused in one line: the file, the field, the value and the remedy."""

import io
import os
import tracemalloc
import zipfile

import numpy as np
import pytest

from rafmodel import cohort, sources
from rafmodel.errors import InputError

N = 40


def columns(**changes) -> dict[str, np.ndarray]:
    """A small sound cohort, with some columns replaced; None leaves one out."""
    rng = np.random.default_rng(0)
    fields = {
        "images": rng.integers(0, 255, (N, 12, 10), dtype=np.uint8),
        "labels": np.arange(N) % 2,
        "patient": np.arange(N).astype(str),
        "sex": np.where(np.arange(N) % 3, "F", "M"),
        "split": np.repeat(["train", "val", "test"], [20, 10, 10]),
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def changed(name: str, index, value) -> dict[str, np.ndarray]:
    """The sound cohort with one entry of one column replaced."""
    column = columns()[name].copy()
    column[index] = value
    return columns(**{name: column})


def member(array: np.ndarray) -> bytes:
    """An array as the bytes of an npy file."""
    content = io.BytesIO()
    np.lib.format.write_array(content, np.asarray(array))
    return content.getvalue()


def declared(descr: str, shape: tuple[int, ...]) -> bytes:
    """The header of an array, with none of its data."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": descr, "fortran_order": False, "shape": shape})
    return content.getvalue()


@pytest.fixture
def refused(tmp_path):
    """``refused(fields, *words)``: loading raises one line that holds the file's name and every word."""

    def ask(fields: dict, *words: str, **options) -> None:
        path = tmp_path / "cohort.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, value in fields.items():
                archive.writestr(f"{name}.npy", value if isinstance(value, bytes) else member(value))
        line_of(path, "cohort.npz", *words, **options)

    return ask


def line_of(path, *words: str, **options) -> None:
    """Loading ``path`` raises InputError, one line with every word."""
    with pytest.raises(InputError) as problem:
        cohort.load(path, **options)
    line = str(problem.value)
    assert "\n" not in line
    for word in words:
        assert word in line, line


def test_the_sound_cohort_loads(tmp_path):
    """Else every refusal below would prove nothing."""
    np.savez_compressed(tmp_path / "cohort.npz", **columns())
    found = cohort.load(tmp_path)
    assert (found.image.shape, list(found.attributes)) == ((N, 12, 10, 1), ["sex"])


# ---- the file


def test_missing_file_or_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("RAFMODEL_DATA", raising=False)
    line_of(tmp_path / "nowhere.npz", "nowhere.npz", "no such file", "give an npz")
    line_of("nowhere", "nowhere", "RAFMODEL_DATA", "not set")
    monkeypatch.setenv("RAFMODEL_DATA", str(tmp_path))
    line_of("nowhere", "nowhere", str(tmp_path))


def test_a_folder_with_none_or_two(tmp_path):
    line_of(tmp_path, "exactly one", "none")
    for name in ("one.npz", "two.npz"):
        np.savez(tmp_path / name, **columns())
    line_of(tmp_path, "exactly one", "one.npz, two.npz", "name the file")


def test_not_an_npz(tmp_path):
    (tmp_path / "notes.npz").write_text("this is text\nand more of it")
    line_of(tmp_path / "notes.npz", "notes.npz", "npz", "not a zip file")
    np.save(tmp_path / "array.npy", np.zeros(3))
    line_of(tmp_path / "array.npy", "array.npy", "not a zip file")


def test_pickled_objects_are_never_unpickled(refused, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    for name in ("images", "labels", "split", "patient", "sex"):
        refused(columns(**{name: np.array([Bomb()] * N, dtype=object)}), name, "pickled objects")
    with pytest.raises(InputError, match="sex: cannot be read"):
        sources.npz.headers(tmp_path / "cohort.npz").read("sex")  # not even past the headers' check
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["images", "labels", "sex"])
def test_truncated_data(refused, name):
    refused(columns(**{name: member(columns()[name])[:-30]}), name, "cannot be read")
    refused(columns(**{name: member(columns()[name])[:40]}), name, "cannot be read")


def test_corrupt_data_fails_its_checksum(tmp_path):
    path = tmp_path / "cohort.npz"
    np.savez(path, **columns())
    content = bytearray(path.read_bytes())
    at = content.find(columns()["images"].tobytes()[:64]) + 1000
    content[at] ^= 1
    path.write_bytes(content)
    line_of(path, "images", "CRC")


def test_a_broken_compressed_stream(tmp_path):
    path = tmp_path / "cohort.npz"
    np.savez_compressed(path, **columns())
    content = bytearray(path.read_bytes())
    content[2000:2400] = bytes(400)
    path.write_bytes(content)
    line_of(path, "images", "cannot be read")


def test_no_images(refused):
    refused(columns(images=None), "no array `images`", "labels, patient, sex, split")
    refused(columns(images=np.zeros((0, 12, 10), np.uint8)), "images", "(0, 12, 10)")
    refused(columns(images=np.zeros((N, 0, 10), np.uint8)), "images", "(40, 0, 10)")
    refused(columns(images=np.zeros(N, np.uint8)), "images", "(40,)", "(N, H, W)")


# ---- declared sizes


def test_a_petabyte_in_a_header_is_refused_from_the_header(refused):
    refused(columns(images=declared("|u1", (10**9, 1000, 1000))), "images", "GiB of memory", "store fewer")
    refused(columns(images=declared("<f8", (N, 10**10, 10**10))), "images", "GiB of memory")
    refused(columns(images=declared("|u1", (-5, 12, 10))), "images", "shape (-5, 12, 10)")


def test_text_and_masks_count_too(refused):
    refused(columns(sex=declared("<U400000000", (N,))), "sex", "GiB of memory")
    refused(columns(labels=declared("<i8", (10**12,))), "labels", "GiB of memory")
    refused(columns(name=declared("<U400000000", ())), "name", "GiB of memory", limit_bytes=2**30)
    masks = np.zeros((N, 12, 10), np.int64)
    refused(columns(masks=masks), "masks", "memory", limit_bytes=masks.size * 4 + 5000)


def test_nothing_is_decoded_before_the_headers_are_sound(refused, monkeypatch):
    def decoded(*_):
        raise AssertionError("an array was decoded")

    monkeypatch.setattr(sources.npz, "_read", decoded)
    refused(columns(), "memory", limit_bytes=N * 12 * 10 * 4 - 1)  # float32 images alone are larger
    refused(columns(labels=np.arange(N - 1) % 2), "labels")
    four = np.zeros((N, 8, 12, 10, 5), np.uint8)
    refused(columns(images=four), "images", "no 2D or 3D images", "(40, 8, 12, 10, 5)")


def test_a_header_of_gigabytes_is_not_read(refused):
    lie = b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little") + b" " * 2**25
    fields = columns(images=lie)
    tracemalloc.start()
    refused(fields, "images", "cannot be read")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23  # of the 32 MiB that the file would unpack to


def test_free_memory_is_a_limit_too(refused, monkeypatch):
    monkeypatch.setattr(sources.stored, "free_memory", lambda: 1000.0)
    refused(columns(), "images", "memory")


# ---- pixels


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite(refused, value):
    images = np.random.default_rng(0).uniform(size=(N, 12, 10)).astype(np.float32)
    images[7, 3, 3] = images[7, 3, 4] = images[30, 0, 0] = value
    refused(columns(images=images), "images", "3 pixels", "first in image 7")


def test_floats_outside_the_unit_interval(refused):
    images = np.random.default_rng(0).uniform(size=(N, 12, 10))
    refused(columns(images=255 * images), "images", "[0, 1]", "divide by the display range")
    refused(columns(images=images - 0.5), "images", "from -0.", "[0, 1]")


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.int64, bool, complex])
def test_other_pixel_types(refused, kind):
    refused(columns(images=columns()["images"].astype(kind)), "images", str(np.dtype(kind)), "store uint8")


# ---- labels, splits, patients


@pytest.mark.parametrize("name", ["labels", "split", "patient"])
def test_columns_of_another_length(refused, name):
    refused(columns(**{name: columns()[name][:-1]}), name, "(39,)", "40 images")
    refused(columns(**{name: np.stack([columns()[name]] * 2, 1)}), name, "(40, 2)", "40 images")


def test_medmnist_parts_of_another_length_even_if_the_sum_is_right(refused):
    whole = columns()
    parts = {"train": slice(0, 20), "val": slice(20, 30), "test": slice(30, 40)}
    fields = {f"{s}_{name}": whole[name][rows] for s, rows in parts.items() for name in ("images", "labels")}
    off = fields | {"train_labels": whole["labels"][:19], "val_labels": whole["labels"][19:30]}
    refused(off, "labels", "(19,) + (11,) + (10,)", "20 + 10 + 10")
    refused(fields | {"val_images": np.zeros((10, 9, 9), np.uint8)}, "val_images", "differ in shape")
    refused({k: v for k, v in fields.items() if "test" not in k}, "'test'", "0 cases and 0 controls")


def test_no_labels_lists_what_could_serve(refused):
    stage = np.array(["I", "II", "III", "IV"])[np.arange(N) % 4]
    without = columns(labels=None, stage=stage, orig_h=stage)
    refused(without, "no column 'labels'", "choose with --label from sex, stage")
    refused(columns(labels=None, sex=None), "no column 'labels'", "add one")
    refused(columns(), "no column 'grade'", "labels, sex", label="grade")


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(("label", "found"), [(1, "0 controls"), (0, "0 cases")])
def test_a_single_class_in_a_split(refused, split, label, found):
    refused(changed("labels", columns()["split"] == split, label), f"'{split}'", found, "both classes")


def test_a_missing_or_single_class_validation_part_falls_back_on_train(tmp_path):
    for fields in (changed("labels", slice(20, 30), 1), changed("split", slice(20, 30), "train")):
        np.savez(tmp_path / "cohort.npz", **fields)
        assert cohort.threshold_split(cohort.load(tmp_path)) == "train"
    np.savez(tmp_path / "cohort.npz", **columns())
    assert cohort.threshold_split(cohort.load(tmp_path)) == "val"


def test_splits_that_are_not_train_val_test(refused):
    refused(columns(split=None), "no column `split`", "train/val/test")
    other = np.repeat(["train", "valid", "test"], [20, 10, 10])
    refused(columns(split=other), "'valid'", "image 20")
    refused(changed("split", 3, ""), "''", "image 3")


@pytest.mark.parametrize("name", ["patient", "group"])
def test_a_patient_in_two_splits(refused, name):
    ids = np.array([f"id{i}" for i in range(N)])
    ids[39] = ids[0]
    changes = {"patient": None, name: ids}
    refused(columns(**changes), f"{name} 'id0'", "train", "test", "one split")


def test_a_patient_without_a_name(refused):
    refused(changed("patient", [5, 9], ""), "patient is missing for 2 images", "image 5")


# ---- what is asked of it


def test_values_that_are_not_there(refused):
    refused(columns(), "no image has the value '7'", "0, 1", positive=["7"])
    refused(columns(), "no image has the value 'x'", negative=["x"])
    refused(columns(), "'1' is asked to be positive and negative", positive=["1"], negative=["1", "0"])
    refused(columns(), "0 controls", positive=["0", "1"])
    words = np.array(["benign", "malignant", "normal"])[np.arange(N) % 3]
    refused(columns(labels=words), "3 values", "--positive", "benign, malignant, normal")


def test_sizes_splits_and_attributes(tmp_path):
    with pytest.raises(InputError, match="size 0: must be at least 1"):
        cohort.load(tmp_path, size=0)
    np.savez(tmp_path / "cohort.npz", **columns())
    found = cohort.load(tmp_path)
    with pytest.raises(InputError, match=r"'valid'.*train, val, test"):
        cohort.part(found, "valid")
    with pytest.raises(InputError, match=r"'scanner'.*choose from sex"):
        cohort.groups(found, "scanner")
    np.savez(tmp_path / "cohort.npz", **columns(sex=None))
    with pytest.raises(InputError, match=r"'sex'.*carries none"):
        cohort.groups(cohort.load(tmp_path), "sex")


def test_text_from_a_file_cannot_break_the_line_or_leave_the_folder(tmp_path, refused):
    ids = np.arange(N).astype("U20")
    ids[[0, 39]] = "a\nb"
    refused(columns(patient=ids), r"'a\nb'")
    notes = {"name": np.array("../../evil\nname"), "licence": np.array("CC\nBY")}
    np.savez(tmp_path / "cohort.npz", **columns(**notes))
    found = cohort.load(tmp_path)
    assert (found.name, found.licence, found.source) == ("evil_name", "CC BY", "not stated in the file")
