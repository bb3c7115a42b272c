"""A killed study goes on where it stopped and ends in the same table; the same command gives the same table."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import xarray as xr

from rafmodel import study as studies
from rafmodel.files import atomically

DESIGNS = ["untrained", "supervised", "contrastive+noise"]


def start(folder, seed=0):
    """The study as a process of its own."""
    command = [sys.executable, "-m", "rafmodel", "study", "--designs", *DESIGNS, "--shifts", "noise", "--seeds", "2"]
    quiet = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    return subprocess.Popen(
        [*command, "--steps", "30", "--seed", str(seed), "--out", str(folder)],
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


def test_killed_run_ends_in_the_same_table(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(start(whole))

    process = start(cut)
    deadline = time.monotonic() + 400
    while len(list(cut.glob("cells/*.npz"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in cut.glob("cells/*.npz")}
    assert 2 <= len(kept) < 6
    assert not (cut / "study.nc").exists()

    finish(start(cut))
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
