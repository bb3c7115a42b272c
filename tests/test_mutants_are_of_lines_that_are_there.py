"""A mutant whose line has changed would be no test of anything: every line that a list breaks is in its module, once."""

from pathlib import Path

import pytest
from mutants import LISTS

PACKAGE = Path(__file__).resolve().parents[1] / "rafmodel"


@pytest.mark.parametrize("which", LISTS)
def test_lines_are_there_once_and_are_changed(which):
    for module, old, new, tests in LISTS[which]:
        assert (PACKAGE / f"{module}.py").read_text().count(old) == 1, (module, old)
        assert old != new
        for name in tests:
            assert (Path(__file__).parent / f"{name}.py").exists()
