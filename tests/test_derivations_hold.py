"""Every derivation's own check passes, and the map names every file and every equation."""

from pathlib import Path

import pytest
import scripts

from rafmodel.equations import EQUATIONS

pytestmark = pytest.mark.exhaustive

FOLDER = Path(__file__).resolve().parents[1] / "derivations"
FILES = sorted(FOLDER.glob("d[0-9]*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_derivation(path):
    scripts.load(f"derivations/{path.name}").check()


def test_the_map_is_complete():
    text = (FOLDER / "README.md").read_text()
    assert len(FILES) >= 3
    for path in FILES:
        assert f"`{path.stem[:3]}`" in text
    stated = {
        cell.strip() for line in text.splitlines() if line.startswith("|") for cell in line.split("|")[5].split(",")
    }
    for label, _, _ in EQUATIONS:
        assert label in stated, label
