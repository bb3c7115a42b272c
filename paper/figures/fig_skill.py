"""Eleven cohorts: error of each level, design effects that were foreseen, and how much of theory's error is luck."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import matplotlib.pyplot as plt
import numpy as np
from tables import read, save

from rafmodel.canvas import style

LEVELS = {"B1": ("mean of the other designs", "o", "0.6"), "L0": ("theory alone (L0)", "D", "#d55e00")}
LEVELS["L2x"] = ("other designs, theory and experience (L2x)", "s", "#0072b2")
EFFECTS = {"L0": LEVELS["L0"], "B3": ("experience alone", "v", "#e69f00")}
EFFECTS["L0x"] = ("theory and experience (L0x)", "^", "#009e73")

GROUPED = (
    "-dose",
    "-quality",
    "-sex",
    "-site",
)  # a cohort has a table for each attribute; everyone's AUC is the same in all

skill = read("development/skill_check")
skill = skill.isel(table=np.argsort(skill["score"].sel(level="L2x", measure="skill").values))
rows = np.arange(skill.sizes["table"])
with style():
    figure, (error, effect, luck) = plt.subplots(1, 3, figsize=(11, 3.8), sharey=True, layout="constrained")
    for level, (label, marker, colour) in LEVELS.items():
        mae = skill["score"].sel(level=level, measure="mae")
        error.plot(mae, rows, marker, color=colour, label=label, markersize=6)
    best = skill["score"].sel(level=["B1", "L2x"], measure="mae")
    error.hlines(rows, best.min("level"), best.max("level"), color="0.8", zorder=0)
    error.set(xlabel="mean absolute error of AUC under shift", xlim=(0, None), yticks=rows)
    for level, (label, marker, colour) in EFFECTS.items():
        r = skill["score"].sel(level=level, measure="effect_r")
        effect.plot(r, rows, marker, color=colour, label=None if level == "L0" else label, markersize=6)
    effect.set(xlabel="correlation of design effects, before training", xlim=(0, 1))
    names = [str(name) for name in skill["table"].values]
    bare = {n: next((n.removesuffix(end) for end in GROUPED if n.endswith(end)), n) for n in names}
    error.set_yticklabels([n if n == "nih-sex" else bare[n] for n in names])
    level, spread = (skill["luck"].sel(part=part).values for part in ("level", "error"))
    luck.hlines(rows, -1.96 * spread, 1.96 * spread, color="0.8", linewidth=6, label="95 % of what sampling does")
    luck.plot(level, rows, "D", color=LEVELS["L0"][2], label="mean error of L0")
    luck.axvline(0, color="0.5", linewidth=0.8)
    luck.set(xlabel="foreseen minus observed, mean of all cells")
    figure.legend(loc="outside lower center", ncols=4)
    save(figure, "fig_skill")
