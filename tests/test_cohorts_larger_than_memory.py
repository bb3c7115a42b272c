"""Images that do not fit into memory stay on disk: the same numbers, within a limit that all images would break."""

import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from types import SimpleNamespace

import cloudpickle
import jax
import numpy as np
import pytest

from rafmodel import cli, cohort, cost, design, masks, pretrain, running, segment, sources, study, task, variability
from rafmodel.errors import InputError
from rafmodel.on_disk import OnDisk, batches
from rafmodel.phantoms import phantom
from rafmodel.running import Plan

LIMIT = 2**18  # bytes: below the images of these files as float32, above all the rest
PHANTOM = phantom(jax.random.key(3), n_patients=160, size=24)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch, tmp_path):
    """As on a small machine: little is read at once, and the cache is this test's own."""
    monkeypatch.setattr(sources.npz, "_CHUNK_BYTES", 2**13)
    monkeypatch.setattr("rafmodel.on_disk.AT_ONCE", 2**14)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def columns(**more):
    image = PHANTOM.image if PHANTOM.image.dtype == np.uint8 else np.rint(255 * PHANTOM.image).astype(np.uint8)
    facts = {"labels": PHANTOM.label, "split": PHANTOM.split, "patient": PHANTOM.patient, **PHANTOM.attributes}
    return {"images": image, "masks": PHANTOM.mask, **facts, **more}


def both(path, **how):
    """The cohort in memory, and on disk."""
    there = cohort.load(path, limit_bytes=LIMIT, on_disk=True, **how)
    assert isinstance(there.image, OnDisk)
    return cohort.load(path, **how), there


def parts():
    """Columns in MedMNIST's layout."""
    known = columns()
    return {
        f"{part}_{name}": known[name][PHANTOM.split == part]
        for part in sources.SPLITS
        for name in ("images", "labels", "masks")
    }


FLOATS = (columns()["images"] / 255).astype(np.float32)


@pytest.mark.parametrize(
    ("write", "content"),
    [
        (np.savez, columns()),
        (np.savez_compressed, columns()),
        (np.savez, columns(images=FLOATS)),
        (np.savez, columns(images=FLOATS.astype(np.float64))),
        (np.savez_compressed, columns(images=columns()["images"][..., 0])),
        (np.savez, parts()),
    ],
    ids=["stored", "packed", "floats", "doubles", "no channel", "in parts"],
)
@pytest.mark.parametrize("size", [None, 12])
def test_what_is_read_from_disk_is_what_is_in_memory(tmp_path, write, content, size, monkeypatch):
    write(tmp_path / "some.npz", **content)
    if size:  # smaller ones would fit, so the limit is lower
        monkeypatch.setattr(sys.modules[__name__], "LIMIT", 2**17)
    whole, there = both(tmp_path / "some.npz", size=size)
    assert there.image.shape == whole.image.shape
    assert there.image.dtype == whole.image.dtype
    # areas are averaged by matrix products of other shapes
    np.testing.assert_allclose(there.image[:], whole.image, atol=1e-6 if size else 0)
    np.testing.assert_array_equal(there.mask[:], whole.mask)
    for rows in (5, -1, slice(3, 30, 4), np.array([7, 2, 2]), whole.split == "test", [0, 1], np.array([], int)):
        np.testing.assert_allclose(there.image[rows], whole.image[rows], atol=1e-6 if size else 0)
    one, other = (cohort.part(c, "test") for c in (whole, there))
    one, other = (cohort.take(c, np.array([4, 0, 3])) for c in (one, other))
    assert isinstance(other.image, OnDisk)
    assert isinstance(other.mask, OnDisk)
    np.testing.assert_allclose(cohort.pixels(other)[:], cohort.pixels(one), atol=1e-6 if size else 0)
    np.testing.assert_array_equal(other.mask[:], one.mask)
    if not size:
        assert cohort.fingerprint(there) == cohort.fingerprint(whole)
        assert cohort.describe(there) == cohort.describe(whole)
    again = cloudpickle.loads(cloudpickle.dumps(there))
    np.testing.assert_array_equal(again.image[3], there.image[3])


def test_what_lies_open_in_the_file_is_not_copied_and_the_rest_once(tmp_path):
    for write, copies in ((np.savez, 0), (np.savez_compressed, 2)):
        path = tmp_path / f"{copies}.npz"
        write(path, **columns())
        _, there = both(path)
        made = sorted((tmp_path / "cache").rglob("*.npy"))
        assert len(made) == copies
        if copies:
            before = [file.stat().st_mtime_ns for file in made]
            np.testing.assert_array_equal(np.load(there.image.path), columns()["images"])
            both(path)
            assert [file.stat().st_mtime_ns for file in made] == before
            os.utime(path, ns=(1, 1))  # another file of the same name is not taken for it
            both(path)
            assert len([*(tmp_path / "cache").rglob("*.npy")]) == 2 * copies


def test_batches_go_through_all_rows_a_few_at_a_time(tmp_path):
    np.savez(tmp_path / "some.npz", **columns())
    whole, there = both(tmp_path / "some.npz")
    few = [*batches(there.image)]
    assert len(few) > 5
    assert max(some.nbytes for some in few) <= 2**14
    np.testing.assert_array_equal(np.concatenate(few), whole.image)


def test_parts_of_a_cohort_read_nothing(tmp_path, monkeypatch):
    np.savez(tmp_path / "some.npz", **columns())
    _, there = both(tmp_path / "some.npz")
    monkeypatch.setattr(np, "memmap", lambda *_: pytest.fail("images were read"))
    assert cohort.pixels(cohort.part(there, "train")).shape[1:] == (24, 24, 1)
    assert cost.memory(_plan(there), 2) > 0


# ---- a study of them


def _plan(images, what=task.CLASSIFICATION, names=("untrained", "contrastive+noise", "masked"), **more):
    chosen = design.select(
        [f"{name}[steps={more.pop('steps', 7)},batch=16]" if name != "untrained" else name for name in names]
    )
    return Plan(
        images, "site", design.fitted(chosen, images, "site"), variability.select(["noise", "rotation"]), 1, **more
    )


def tables(plan, folder):
    forecast = study.predicted(plan, lambda *_: None)
    found = running.simulated(plan, folder, lambda *_: None)
    assert not running.failed(plan, found)
    return study.assemble(plan, forecast, found, "here")


@pytest.mark.parametrize(
    "gathered", [1, 3 * 3 * 4 * 16 * 24 * 24, 2**27], ids=["a step", "three steps", "all that are compiled"]
)
def test_training_sees_the_same_images_whatever_is_read_together(tmp_path, monkeypatch, gathered):
    np.savez(tmp_path / "some.npz", **columns())
    monkeypatch.setattr(pretrain, "GATHERED", gathered)
    [one] = design.select(["supervised+crop[steps=30,batch=16]"])
    trained = [
        jax.tree.leaves(pretrain.nnx.state(pretrain.pretrain(jax.random.key(2), c, one)))
        for c in both(tmp_path / "some.npz")
    ]
    for whole, there in zip(*trained, strict=True):
        np.testing.assert_array_equal(whole, there)


def test_a_study_of_images_on_disk_gives_the_same_table(tmp_path):
    np.savez_compressed(tmp_path / "some.npz", **columns())
    whole, there = both(tmp_path / "some.npz")
    # by another file's name a cell would be taken for done
    one, other = (tables(_plan(c), tmp_path / name) for c, name in ((whole, "memory"), (there, "disk")))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=str(name))


def test_so_does_a_segmentation(tmp_path):
    np.savez(tmp_path / "some.npz", **columns())
    found = []
    for images in both(tmp_path / "some.npz"):
        made, asked = masks.segmented(images)
        found.append(_plan(made, task.segmentation(asked, made), ("untrained", "contrastive+noise")))
    assert found[0].task.content == found[1].task.content
    one, other = (tables(plan, tmp_path / str(i)) for i, plan in enumerate(found))
    for name in one:  # the unit of the scores' bins is summed in another order
        np.testing.assert_allclose(one[name], other[name], atol=2e-3, err_msg=str(name))


def test_the_unit_of_scores_is_the_same_when_they_are_seen_in_parts(tmp_path):
    np.savez(tmp_path / "some.npz", **columns())
    score = lambda images: np.asarray(images)[..., 0] ** 2  # noqa: E731
    whole, there = (
        segment._unit(score, cohort.pixels(made), made.mask)
        for made, _ in map(masks.segmented, both(tmp_path / "some.npz"))
    )
    np.testing.assert_allclose(there, whole, rtol=1e-5)


# ---- what is refused


def refused(path, told, **how):
    with pytest.raises(InputError, match=told) as stopped:
        cohort.load(path, limit_bytes=LIMIT, on_disk=True, **how)
    assert "\n" not in str(stopped.value)


def test_a_file_that_would_fill_the_disk_is_refused(tmp_path, monkeypatch):
    shape = (len(PHANTOM.label), 40, 40)
    noise = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    np.savez_compressed(tmp_path / "scan.npz", **columns(images=noise, masks=np.zeros(shape, np.uint8) + noise // 200))
    assert isinstance(cohort.load(tmp_path / "scan.npz", limit_bytes=LIMIT, on_disk=True).image, OnDisk)
    shutil.rmtree(tmp_path / "cache")
    np.savez_compressed(tmp_path / "bomb.npz", **columns(images=np.zeros(shape, np.uint8), masks=noise // 200))
    refused(tmp_path / "bomb.npz", "GiB of memory")
    assert not [*(tmp_path / "cache").rglob("*.npy")]
    np.savez_compressed(tmp_path / "large.npz", **columns())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    refused(tmp_path / "large.npz", "make room, or set XDG_CACHE_HOME")


def test_a_file_that_holds_less_than_it_declares_is_refused(tmp_path):
    np.savez(tmp_path / "some.npz", **columns())
    lie = tmp_path / "lie.npz"
    with zipfile.ZipFile(tmp_path / "some.npz") as old, zipfile.ZipFile(lie, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(info.filename, content[: len(content) // 2] if info.filename == "images.npy" else content)
    refused(lie, "GiB of memory")


def test_only_images_may_stay_on_disk_and_only_where_they_are_read_in_batches(tmp_path):
    np.savez(tmp_path / "some.npz", **columns())
    with pytest.raises(InputError, match="GiB of memory"):
        cohort.load(tmp_path / "some.npz", limit_bytes=LIMIT)
    np.savez(tmp_path / "text.npz", **columns(notes=np.full(len(PHANTOM.label), "x" * 2000)))
    refused(tmp_path / "text.npz", "GiB of memory")
    turned = np.asfortranarray(columns()["images"][..., 0])
    np.savez(tmp_path / "turned.npz", **columns(images=turned))
    refused(tmp_path / "turned.npz", "GiB of memory")
    np.savez(tmp_path / "bright.npz", **columns(images=FLOATS + 0.5))
    refused(tmp_path / "bright.npz", r"outside \[0, 1\]")


def test_a_file_that_is_gone_is_told(tmp_path):
    np.savez(tmp_path / "some.npz", **columns())
    _, there = both(tmp_path / "some.npz")
    (tmp_path / "some.npz").unlink()
    with pytest.raises(InputError, match="load the cohort again"):
        there.image[0]


@pytest.mark.parametrize("memory", ["0", "-1", "nan"])
def test_memory_must_be_a_number_of_gibibytes(memory, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["predict", "--memory", memory])
    assert stopped.value.code == 2
    assert "--memory" in capsys.readouterr().err


# ---- a real limit

SCRIPT = """
    import resource, sys
    limit, path, folder, designs, shifts, seeds = int(sys.argv[1]), sys.argv[2], sys.argv[3], *map(int, sys.argv[4:7])
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    from pathlib import Path
    from rafmodel import cohort, design, running, study, variability
    images = cohort.load(path, limit_bytes=2**28, on_disk=sys.argv[7] == "disk")
    names = ["contrastive+crop", "contrastive+noise", "vicreg+crop", "vicreg+noise", "supervised", "rotation"][:designs]
    chosen = design.fitted(design.select([f"{name}[steps=4,batch=32]" for name in names]), images)
    laws = variability.select(["noise", "gain", "gamma", "blur", "bias", "rotation"][:shifts])
    plan = running.Plan(images, None, chosen, laws, seeds)
    quiet = lambda *_: None
    forecast = study.predicted(plan, quiet)
    found = running.simulated(plan, Path(folder), quiet, "threads:1")
    assert not running.failed(plan, found), running.failed(plan, found)
    table = study.assemble(plan, forecast, found, "here")
    assert (table["observed_auc"].notnull()).all()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(path, folder, *, designs, shifts, seeds, limit=0, where="disk"):
    """Largest resident memory, in bytes, of a process that runs a study."""
    usual = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    arguments = map(str, (limit, path, folder, designs, shifts, seeds, where))
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=900,
        env=usual,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return 1024 * int(ran.stdout.split()[-1])


def large(path, n, side):
    """An npz of uint8 images that differ between the classes."""
    rng = np.random.default_rng(0)
    label = np.arange(n) % 2
    pattern = rng.integers(0, 200, (64, side, side), np.uint8)
    images = pattern[rng.integers(0, 64, n)]
    images[label == 1, : side // 2, : side // 2] += 40
    split = np.where(np.arange(n) < n - 80, "train", np.where(np.arange(n) < n - 40, "val", "test"))
    np.savez(path, images=images, labels=label, split=split)
    return 4 * images.size


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_cohort_larger_than_the_memory_limit_is_studied_to_the_end(tmp_path):
    limit = 2**31
    assert large(tmp_path / "large.npz", 140_000, 64) > limit  # as float32
    peak(tmp_path / "large.npz", tmp_path / "cells", designs=2, shifts=2, seeds=1, limit=limit)
