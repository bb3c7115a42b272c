"""Performance and robustness (and fairness and RAF, where there are subgroups) by design."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tables import read, save

from rafmodel import plot
from rafmodel.canvas import style

study = read("development/nih-sex")
with style():
    save(plot.sheets(study, None)["raf"], "fig_raf")
