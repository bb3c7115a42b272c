"""Commands keep the memory of a large array for the next one, unless the environment says otherwise."""

import os
import subprocess
import sys

import pytest

from rafmodel import console

FAULTS = """
import resource
import numpy as np
from rafmodel.console import reuse_memory
reuse_memory()
for turn in range(6):
    if turn == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(40 * 2**20 // 8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 5 * 40 * 2**20 // 4096  # that five arrays of 40 MiB take


def faults(**environment):
    run = [sys.executable, "-c", FAULTS]
    return int(
        subprocess.run(
            run,
            env=os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"} | environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


@pytest.mark.skipif(console._libc("mallopt") is None, reason="another C library")
def test_a_large_array_is_written_to_pages_that_are_there():
    assert faults() < PAGES / 10
    assert faults(MALLOC_MMAP_THRESHOLD_="33554432") > PAGES / 2


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(console, "_libc", lambda function: None)
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    console.reuse_memory()
