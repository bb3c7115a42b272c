"""What README and paper say of the committed tables is in the tables."""

from pathlib import Path

import pytest

from rafmodel import study as studies

ROOT = Path(__file__).resolve().parents[1]
TABLES = sorted(path for path in (ROOT / "paper" / "data").glob("*.nc") if "check" not in path.stem)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_tables_keep_to_the_schema(path):
    table = studies.load(path)
    assert table.sizes["design"] >= 12
    assert table.sizes["shift"] == 8


@pytest.mark.parametrize(("design", "shift"), [("contrastive+noise", "noise"), ("contrastive+rotation", "rotation")])
def test_a_view_law_buys_robustness_beyond_seed_noise(design, shift):
    """On pneumoniamnist, at the three strongest levels: the gain over crop-only exceeds its spread over seeds."""
    auc = studies.load(ROOT / "paper" / "data" / "pneumoniamnist.nc")["observed_auc"]
    strong = auc.sel(group="all", shift=shift, severity=[3, 4, 5])
    gain = (strong.sel(design=design) - strong.sel(design="contrastive+crop")).mean("severity")
    assert float(gain.mean()) > float(gain.max() - gain.min())
    assert (strong.sel(design=design).mean("seed") > strong.sel(design="contrastive+crop").mean("seed")).all()
