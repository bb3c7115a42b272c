"""What cannot be segmented is told in one line, with exit code 2, before anything is trained."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from rafmodel import cli, cohort, design, masks, study
from rafmodel.errors import InputError
from rafmodel.phantoms import phantom

IMAGES = phantom(jax.random.key(0), n_patients=40)


def test_masks_must_be_there_and_hold_both_classes():
    with pytest.raises(InputError, match="has no masks"):
        masks.segmented(replace(IMAGES, mask=None))
    with pytest.raises(InputError, match=r"--foreground 7: .* choose from 0, 1"):
        masks.segmented(IMAGES, (7,))
    with pytest.raises(InputError, match="--head tree: choose from probe, decoder, tuned"):
        masks.segmented(IMAGES, (), "tree")
    for part, value, told in (("test", 0, "no pixel of the structure"), ("train", 1, "nothing but the structure")):
        mask = np.where((IMAGES.split == part)[:, None, None], value, IMAGES.mask)
        with pytest.raises(InputError, match=f"'{part}' hold {told}"):
            masks.segmented(replace(IMAGES, mask=mask))


def test_classes_of_the_structure_can_be_chosen():
    mask = IMAGES.mask.copy()
    mask[:, :2] = 5
    several = replace(IMAGES, mask=mask)
    found, task = masks.segmented(several, (5,))
    np.testing.assert_array_equal(found.mask, mask == 5)
    assert task.foreground == (5,)
    assert "5" in found.contrast
    both, _ = masks.segmented(several)
    np.testing.assert_array_equal(both.mask, mask > 0)


def test_designs_that_say_nothing_of_pixels_are_refused_or_left_out(tmp_path, monkeypatch):
    np.save(tmp_path / "table.npy", np.zeros((len(IMAGES.label), 3)))
    (tmp_path / "pooling.py").write_text("def means(images):\n    return images.mean((1, 2))\n")
    monkeypatch.syspath_prepend(tmp_path)
    table, means = f"external:{tmp_path}/table.npy", "external:pooling:means"
    table, means, supervised, plain = design.select([table, means, "supervised", "untrained"])
    bare = replace(IMAGES, label=np.full_like(IMAGES.label, -1))
    assert masks.suited((table, means, supervised, plain), bare, named=False) == (plain,)
    assert masks.suited((supervised,), IMAGES, named=True) == (supervised,)
    with pytest.raises(InputError, match=r"table.npy' does not fit.*nothing of its pixels"):
        masks.suited((table,), IMAGES, named=True)
    with pytest.raises(InputError, match=r"means' does not fit.*returned \(1, 1\).*return maps \(n, \*positions, d\)"):
        masks.suited((means,), IMAGES, named=True)
    frozen = replace(plain, encoder=replace(plain.encoder, frozen=True))
    with pytest.raises(InputError, match="frozen, so a tuned head cannot train it"):
        masks.suited((frozen,), IMAGES, named=True, head="tuned")
    with pytest.raises(InputError, match=r"'supervised'.*masks only"):
        masks.suited((supervised,), bare, named=True)


def test_as_many_masks_can_be_asked_for_as_training_images_have_one():
    """Of pixels no class of the image need be balanced: 3 cases among n training images give n masks."""
    [one] = design.select(["untrained"])
    train = np.flatnonzero(IMAGES.split == "train")
    n = len(train)
    rare = replace(IMAGES, label=np.where(np.isin(np.arange(len(IMAGES.label)), train[:3]), 1, 0).astype(np.int8))
    all_of_them, more = replace(one, n_labelled=n), replace(one, n_labelled=n + 1)
    bare = replace(IMAGES, label=np.full_like(IMAGES.label, -1))
    for images in (IMAGES, rare, bare):
        assert design.fitted([all_of_them], images, of_pixels=True) == (all_of_them,)
        with pytest.raises(InputError, match=f"{n + 1} labelled images are asked for, but phantom has {n} training"):
            design.fitted([more], images, of_pixels=True)
    assert design.fitted([one], rare, of_pixels=True) == (one,)  # the usual number stands for at most so many
    with pytest.raises(
        InputError, match=rf"{n} labels are asked for, but 3 cases and {n - 3} controls of phantom give 6"
    ):
        design.fitted([all_of_them], rare)


def archive(folder, **columns):
    """An npz with masks and no classes, of 12 images."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (12, 12, 12), np.uint8)
    masks_ = np.zeros((12, 12, 12), np.uint8)
    masks_[:, 3:6, 3:6] = 1
    split = np.array(["train"] * 6 + ["val"] * 3 + ["test"] * 3)
    path = folder / "masked.npz"
    np.savez(path, **{"images": images, "masks": masks_, "split": split} | columns)
    return path


@pytest.mark.parametrize(
    ("more", "columns", "told"),
    [
        (["--task", "segmentation", "--foreground", "3"], {}, "--foreground 3"),
        (["--task", "segmentation", "--pilot"], {}, "--pilot"),
        (["--task", "segmentation"], {"masks": np.zeros((12, 12, 12), np.uint8)}, "no pixel of the structure"),
        (["--task", "segmentation", "--designs", "supervised"], {}, "masks only"),
        (["--task", "segmentation", "--designs", "untrained[n_labelled=7]"], {}, "has 6 training images with a mask"),
        (
            ["--task", "segmentation", "--designs", "untrained[n_labelled=7]"],
            {"labels": np.array([0, 1] * 6)},
            "has 6 training images with a mask",
        ),
        (["--head", "decoder"], {}, "add --task segmentation"),
        ([], {}, "a study needs cases and controls"),
    ],
)
def test_the_command_line_says_so_in_one_line(more, columns, told, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "predicted", lambda *_: pytest.fail("something was computed"))
    path = archive(tmp_path, **columns)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["study", "--cohort", str(path), "--out", str(tmp_path / "out"), *more])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert told in lines[0]


def test_a_folder_keeps_to_one_task(tmp_path, capsys, monkeypatch):
    import xarray as xr

    xr.Dataset(attrs={"cohort": "masked", "metric": "auc"}).to_netcdf(tmp_path / "study.nc", engine="h5netcdf")
    monkeypatch.setattr(study, "predicted", lambda *_: pytest.fail("something was computed"))
    with pytest.raises(SystemExit):
        cli.main(["study", "--cohort", str(archive(tmp_path)), "--out", str(tmp_path), "--task", "segmentation"])
    assert "another task" in capsys.readouterr().err


def test_images_of_a_cohort_without_validation_masks_still_have_a_threshold():
    from rafmodel import segment, variability

    mask = np.where((IMAGES.split == "val")[:, None, None], 0, IMAGES.mask).astype(np.uint8)
    made, task = masks.segmented(replace(IMAGES, mask=mask))
    [one] = design.select(["untrained"])
    test = cohort.part(made, "test")
    found = segment.deploy(
        jax.random.key(0), made, test, replace(one, widths=(8,)), variability.select(["gain"])[:1], task=task
    )
    assert 0 < found.threshold < 128
