"""Tests run in double precision, and a silent broadcast is an error."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")


@pytest.fixture(scope="session")
def cohort_folder() -> Path:
    """Folder of the real cohorts: ``RAFMODEL_DATA``, or the one beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "cohorts"
    folder = Path(os.environ.get("RAFMODEL_DATA", beside))
    if not folder.is_dir():
        pytest.skip("no real cohorts: set RAFMODEL_DATA to the folder that holds them")
    return folder
