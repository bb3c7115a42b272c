"""A killed study goes on where it stopped and ends in the same table; the same command gives the same table."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import xarray as xr

from rafmodel import study as studies
from rafmodel.files import atomically
from rafmodel.phantoms import phantom

DESIGNS = ["untrained", "contrastive+noise"]


@pytest.fixture
def small(tmp_path):
    """File of a phantom of few, small images."""
    cohort = phantom(jax.random.key(0), n_patients=80, size=16)
    columns = {"labels": cohort.label, "split": cohort.split, "patient": cohort.patient, **cohort.attributes}
    np.savez(tmp_path / "small.npz", images=cohort.image[..., 0], **columns)
    return tmp_path / "small.npz"


def start(cohort, folder, seed=0):
    """The study as a process of its own."""
    command = [sys.executable, "-m", "rafmodel", "study", "--cohort", str(cohort), "--designs", *DESIGNS]
    quiet = {k: v for k, v in os.environ.items() if k not in ("JAX_ENABLE_X64", "JAX_NUMPY_RANK_PROMOTION")}
    return subprocess.Popen(
        [*command, "--shifts", "noise", "--seeds", "3", "--steps", "30", "--seed", str(seed), "--out", str(folder)],
        env=quiet,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Its output, once it ended well."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


def same(one: xr.Dataset, two: xr.Dataset) -> bool:
    """Equal in every variable and coordinate, bit for bit."""
    return one.drop_attrs().identical(two.drop_attrs())


def test_killed_run_ends_in_the_same_table(tmp_path, small):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(start(small, whole))

    process = start(small, cut)
    deadline = time.monotonic() + 400
    while not list(cut.glob("cells/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in cut.glob("cells/*.npz")}
    assert 1 <= len(kept) < 6
    assert not (cut / "study.nc").exists()

    finish(start(small, cut))
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())  # nothing was done twice
    assert same(studies.load(whole / "study.nc"), studies.load(cut / "study.nc"))
    again = studies.load(whole / "study.nc")
    assert np.isfinite(again["observed_auc"]).all()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.nc"
    atomically(path, lambda file: file.write(b"old"))

    def breaks(file):
        file.write(b"half of the new")
        raise OSError("disk full")

    with contextlib.suppress(OSError):
        atomically(path, breaks)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
