"""Degradation curves of every design under every shift, observed and predicted before training."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tables import read, save

from rafmodel import plot
from rafmodel.canvas import style

study = read("development/pneumoniamnist")
with style():
    figure = plot.by_shift(plot.degradation, study)
    plot.family_key(figure, [str(name) for name in study["design"].values], lines=True)
    save(figure, "fig_degradation")
