"""Design effects, predicted against observed, for theory alone and calibrated; and the coverage of intervals."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tables import read, save

from rafmodel import plot
from rafmodel.canvas import style

study, check = read("development/pneumoniamnist"), read("development/pneumoniamnist_check")
with style():
    save(plot.sheets(study, check)["effects"], "fig_predicted")
