"""Tests run in double precision, and a silent broadcast is an error."""

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
# most of the time goes into compiling, and little code runs for long enough to be worth optimising
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()
# what one worker, program or run has compiled, no other compiles again
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parents[1] / ".pytest_cache" / "compiled")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


@pytest.fixture(scope="session")
def cohort_folder() -> Path:
    """Folder of the real cohorts: ``RAFMODEL_DATA``, or the one beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "cohorts"
    folder = Path(os.environ.get("RAFMODEL_DATA", beside))
    if not folder.is_dir():
        pytest.skip("no real cohorts: set RAFMODEL_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """A worker compiles more than any study does."""
    yield
    from rafmodel.console import forget_programs

    forget_programs(25_000)


@pytest.fixture(autouse=True)
def numbers_of_its_own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """What a test draws from its module's RNG does not depend on the tests that this worker ran before."""
    if hasattr(request.module, "RNG"):
        monkeypatch.setattr(request.module, "RNG", np.random.default_rng(0))
