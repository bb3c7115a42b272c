"""Drawing from a study and its check table: what was observed, what was predicted, how far they are apart.

Functions that take ``axes`` draw one thing on it and give nothing back; ``sheets`` makes them into figures.
Colour and marker say which family of proxy task a design belongs to, dashed and open say *predicted*.
Only tables are seen here: where a number came from is never asked.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from rafmodel.canvas import FAMILIES, GROUP_MARKERS, GROUPS, family, folded, grid, handle, legend, save, short, style
from rafmodel.findings import SHIFTED, called, defined_parts, effects, extremes, metric, pairs, ranking

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rafmodel.cohort import Cohort
    from rafmodel.variability import Variability

    Draw = Callable[[Axes, xr.Dataset, str], None]

_HEAD, _ROW = 0.5, 0.22  # inches of a table's head and of each row

# ---- degradation


def degradation(
    axes: "Axes", study: xr.Dataset, shift: str, group: str = "all", *, highlight: Sequence[str] | None = None
) -> None:
    """AUC, or Dice, of every design over the levels of one shift; the best and the worst stand out.

    Thick: seed mean of a highlighted design, with its seed range as a band and its prediction dashed.
    Without ``highlight`` these are the designs with the highest and lowest mean AUC under the shift.
    """
    cells = study.sel(shift=shift, group=group)
    observed = cells[f"observed_{metric(study)}"].mean("seed")
    if highlight is None:
        highlight = extremes(observed.sel(severity=SHIFTED).mean("severity"))
    level = study["severity"].values
    for name in map(str, study["design"].values):
        bold = name in highlight
        width, alpha, above = (2.0, 1.0, 3) if bold else (0.9, 0.45, 2)
        colour, _ = FAMILIES[family(name)]
        line = {"color": colour, "lw": width, "alpha": alpha, "zorder": above}
        axes.plot(level, observed.sel(design=name), label=f"observed {name}", **line)
        if bold:
            one = cells.sel(design=name)
            seeds = one[f"observed_{metric(study)}"]
            low, high = seeds.min("seed"), seeds.max("seed")
            axes.fill_between(level, low, high, color=colour, alpha=0.18, lw=0)
            axes.plot(level, one[f"predicted_{metric(study)}"], "--", color=colour, lw=1.3, label=f"predicted {name}")
    _name_shift(axes, study, shift)
    _name_ends(axes, shift, highlight)


def foreseen(axes: "Axes", table: xr.Dataset, shift: str) -> None:
    """Predicted AUC, or Dice, of every design over the levels of one shift; the best and the worst under it stand out."""
    predicted = table[f"predicted_{metric(table)}"].sel(shift=shift, group="all")
    ends = extremes(predicted.sel(severity=SHIFTED).mean("severity"))
    for name in map(str, table["design"].values):
        width, alpha = (2.0, 1.0) if name in ends else (0.9, 0.45)
        line = {"color": FAMILIES[family(name)][0], "lw": width, "alpha": alpha, "ls": "--"}
        axes.plot(table["severity"].values, predicted.sel(design=name), label=f"predicted {name}", **line)
    _name_shift(axes, table, shift)
    _name_ends(axes, shift, ends)


def _name_ends(axes: "Axes", shift: str, highlight: Sequence[str]) -> None:
    """Title of a panel, and below it the best and the worst design in their colours."""
    axes.set_title(shift, pad=24)  # room for the two names below the title
    for height, place, name in zip((1.12, 1.02), ("best", "worst"), highlight, strict=False):
        colour, _ = FAMILIES[family(name)]
        text = f"{place}: {short(name)}"
        axes.text(0, height, text, color=colour, size=8, transform=axes.transAxes, label=place)


def subgroups(axes: "Axes", study: xr.Dataset, shift: str) -> None:
    """AUC, or Dice, of each subgroup over the levels of one shift: mean of the designs; the band is their quartiles."""
    cells = study.sel(shift=shift)
    observed = cells[f"observed_{metric(study)}"].mean("seed")
    level = study["severity"].values
    for i, name in enumerate(map(str, study["group"].values[1:])):
        colour, marker = _group_look(i)
        one = observed.sel(group=name).dropna("design", how="all")
        if not one.size:  # a group without cases or without controls has no AUC to draw
            continue
        low, high = one.quantile([0.25, 0.75], "design").values
        axes.fill_between(level, low, high, color=colour, alpha=0.15, lw=0)
        axes.plot(level, one.mean("design"), color=colour, marker=marker, label=f"observed {name}")
        foreseen = cells[f"predicted_{metric(study)}"].sel(group=name).mean("design")
        axes.plot(level, foreseen, "--", color=colour, lw=1, label=f"predicted {name}")
    _name_shift(axes, study, shift)


# ---- prediction against observation


def predicted_against_observed(
    axes: "Axes", study: xr.Dataset, check: xr.Dataset | None = None, *, level: str = "L0"
) -> None:
    """Every shifted cell, predicted across and observed up; the line is where they agree."""
    predicted, observed = pairs(study, check, level)
    _by_family(axes, predicted, observed)
    _identity(axes, predicted, observed)
    error = float(abs(predicted - observed).mean())
    axes.set_title(f"{level}   mean absolute error {error:.3f}")
    axes.set(xlabel=f"predicted {called(study)}", ylabel=f"observed {called(study)}")


def residuals(axes: "Axes", study: xr.Dataset, check: xr.Dataset | None = None, *, level: str = "L0") -> None:
    """Observed minus predicted AUC by shift, weak to strong; the bar is the mean, the worst cell is named."""
    predicted, observed = pairs(study, check, level)
    error = (observed - predicted).transpose("design", "shift", "severity")
    shifts, severities = error["shift"].values, error["severity"].values
    at = np.arange(len(shifts))[:, None] + (severities - severities.mean()) * 0.15
    place = xr.DataArray(at, {"shift": shifts, "severity": severities}, ("shift", "severity"))
    _by_family(axes, place.broadcast_like(error).transpose(*error.dims), error)
    axes.axhline(0, color="black", lw=0.8)
    for i, mean in enumerate(error.mean(("design", "severity")).values):
        axes.plot([i - 0.42, i + 0.42], [mean, mean], color="black", lw=2.2, label=f"mean {shifts[i]}")
    axes.set_xticks(range(len(shifts)), [str(s) for s in shifts])
    axes.set(title=level, ylabel=f"observed − predicted {called(study)}")
    axes.grid(False, axis="x")
    axes.margins(y=0.12)
    axes.set_xlim(-0.55, len(shifts) - 0.45)
    if error.notnull().any():
        worst = error.isel(abs(error).argmax(...))
        _name_point(axes, float(place.sel(shift=worst["shift"], severity=worst["severity"])), worst)


def design_effects(axes: "Axes", check: xr.Dataset, *, level: str = "L0") -> None:
    """Design effects, predicted against observed: each design minus the mean of the others in its cell."""
    predicted, observed = effects(check, level)
    _by_family(axes, predicted, observed)
    _identity(axes, predicted, observed)
    for line in (axes.axhline, axes.axvline):
        line(0, color="#9a9a9a", lw=0.7)
    r = float(check["score"].sel(level=level, measure="effect_r"))
    corrected = float(check["score"].sel(level=level, measure="effect_r_corrected"))
    without_noise = f" ({corrected:.2f} corrected)" if np.isfinite(corrected) else ""
    axes.set_title(f"{level}   r {r:.2f}{without_noise}")
    axes.set(xlabel=f"predicted effect on {called(check)}", ylabel=f"observed effect on {called(check)}")


def calibration(axes: "Axes", check: xr.Dataset) -> None:
    """Share of held-out AUCs inside L2's intervals against the share promised, with the mean half width.

    Bars are ±1 standard error over designs, since the cells of one design go together.
    """
    lower, upper, observed = check["interval"][:, 0], check["interval"][:, 1], check["observed"]
    known = observed.notnull() & lower.notnull() & upper.notnull()
    inside = ((observed >= lower) & (observed <= upper)).where(known).mean(("shift", "severity"))
    actual = inside.mean("design")
    error = inside.std("design", ddof=1 if len(inside["design"]) > 1 else 0) / np.sqrt(inside.count("design"))
    half = (upper - lower).mean(("design", "shift", "severity")) / 2
    axes.axline((0.5, 0.5), slope=1, color="black", lw=0.8, label="identity")
    nominal = check["nominal"].values
    axes.errorbar(nominal, actual, error, fmt="o", color="#555555", capsize=2, label="coverage")
    for x, y, width in zip(nominal, actual.values, half.values, strict=True):
        axes.annotate(f"±{width:.3f}", (x, y), (-6, 4), textcoords="offset points", ha="right", size=8)
    axes.set(title="L2   coverage", xlabel="nominal share inside", ylabel="actual share inside", box_aspect=1)
    axes.set(xlim=(0.3, 1.0), ylim=(min(0.3, float(actual.min()) - 0.1), 1.03))


def skill_table(axes: "Axes", check: xr.Dataset) -> None:
    """The held-out scores as a small table of text; a dash where a level has none."""
    score = check["score"]
    axes.set_axis_off()
    across = np.linspace(0.16, 1, score.sizes["measure"])
    down = 1 - (_HEAD + _ROW * (np.arange(score.sizes["level"]) + 0.5)) / (_HEAD + _ROW * score.sizes["level"])
    for y, level in zip(down, score["level"].values, strict=True):
        axes.text(0, y, str(level), va="center", weight="bold")
    for x, column in zip(across, score["measure"].values, strict=True):
        words = "\n".join(str(column).replace("_", " ").rsplit(" ", 1))
        axes.text(x, 1, words, ha="right", va="top", size=8, weight="bold")
        for y, value in zip(down, score.sel(measure=column).values, strict=True):
            text = f"{value:.3f}".replace("-", "−") if np.isfinite(value) else "–"
            axes.text(x, y, text, ha="right", va="center")


# ---- RAF


def raf_by_design(axes: "Sequence[Axes]", study: xr.Dataset) -> None:
    """Performance, robustness, fairness and RAF by design, best on top; one axes for each defined part.

    Dot and line: seed mean with its 95 % interval; small dots: seeds; open marker: predicted.
    """
    order = ranking(study)
    for one, part in zip(axes, defined_parts(study), strict=True):
        for y, name in enumerate(order):
            _raf_row(one, study.sel(design=name), part, y)
        one.set_yticks(range(len(order)), [folded(name) for name in order])
        one.set_ylim(len(order) - 0.4, -0.6)
        one.set_title({"raf": "RAF"}.get(part, part))
        one.grid(False, axis="y")
        one.tick_params(axis="y", length=0, labelleft=one is axes[0])


def _raf_row(axes: "Axes", one: xr.Dataset, part: str, y: float) -> None:
    name = str(one["design"].item())
    colour, marker = FAMILIES[family(name)]
    seeds = one[f"{part}_observed"].values
    mean = one[f"{part}_observed"].mean("seed")
    axes.plot(one[f"{part}_observed_interval"], [y, y], color=colour, lw=1.6, label=f"interval {name}")
    axes.plot(seeds, np.full(len(seeds), y + 0.27), ".", color=colour, ms=3, alpha=0.6, label=f"seeds {name}")
    axes.plot(mean, y, marker, color=colour, ms=5.5, label=f"observed {name}")
    axes.plot(one[f"{part}_predicted"], y, marker, mfc="white", mec=colour, ms=5.5, label=f"predicted {name}")


# ---- whole figures


def by_shift(draw: "Draw", study: xr.Dataset, *, columns: int = 4, width: float = 9.6) -> "Figure":
    """One panel a shift, ``draw(axes, study, shift)`` in each, all on one scale of AUC."""
    shifts = [str(shift) for shift in study["shift"].values]
    figure, axes = grid(len(shifts), columns, width=width, height=2.75, sharey=True)
    for one, shift in zip(axes, shifts, strict=True):
        draw(one, study, shift)
    for one in axes[:: min(columns, len(shifts))]:
        one.set_ylabel(called(study))
    return figure


def family_key(figure: "Figure", designs: Sequence[str], *, lines: bool = False, observed: bool = True) -> None:
    """Legend below a figure: colour and marker of each family present, and what dashed or open means."""
    present = [name for name in FAMILIES if name in set(map(family, map(str, designs)))]
    marked = {name: {"color": FAMILIES[name][0], "marker": FAMILIES[name][1]} for name in present}
    bare = {name: {"color": FAMILIES[name][0], "lw": 2} for name in present}
    handles = [handle(name, **look) for name, look in (bare if lines else marked).items()]
    if lines and observed:
        handles += [handle("observed (band: seeds)", color="#555555", lw=2)]
        handles += [handle("predicted (L0)", color="#555555", lw=1.3, ls="--")]
    legend(figure, handles)


def sheets(study: xr.Dataset, check: xr.Dataset | None) -> "dict[str, Figure]":
    """Every figure that the tables allow, by name; draw and save them inside ``with style():``."""
    designs = [str(name) for name in study["design"].values]
    found = {"degradation": by_shift(degradation, study)}
    if defined_parts(study):  # none is where every run has failed
        found["raf"] = _raf_sheet(study)
    family_key(found["degradation"], designs, lines=True)
    if study.sizes["group"] > 1:
        found["subgroups"] = by_shift(subgroups, study)
        _group_key(found["subgroups"], study)
    levels = ["L0"] if check is None else ["L0", "L2"]
    found["predicted"], axes = grid(len(levels), 2, width=4.2 * len(levels), height=4.4)
    found["residuals"], below = grid(len(levels), 1, width=9.6, height=2.9, sharex=True, sharey=True)
    for one, other, level in zip(axes, below, levels, strict=True):
        predicted_against_observed(one, study, check, level=level)
        residuals(other, study, check, level=level)
    _one_scale(axes)
    if check is not None:
        shown = [level for level in ("L0", "L0x", "L2") if level in check["level"].values]
        found["effects"], axes = grid(len(shown) + 1, len(shown) + 1, width=3.2 * (len(shown) + 1), height=3.5)
        for one, level in zip(axes, shown, strict=False):
            design_effects(one, check, level=level)
        _one_scale(axes[:-1])
        calibration(axes[-1], check)
    for name in {"predicted", "residuals", "effects"} & set(found):
        family_key(found[name], designs)
    return found


def forecast(table: xr.Dataset, folder: Path) -> Path:
    """Save the figure of a prediction, one panel a shift, as PDF and PNG in ``folder``; the path of the PNG."""
    with style():
        figure = by_shift(foreseen, table)
        family_key(figure, [str(name) for name in table["design"].values], lines=True, observed=False)
        save(figure, folder / "foreseen.pdf")
        return save(figure, folder / "foreseen.png")


def figures(study: xr.Dataset, check: xr.Dataset | None, folder: Path) -> list[Path]:
    """Save every figure as PDF and PNG in ``folder``; the paths written."""
    with style():
        found = sheets(study, check)
        if check is not None:
            found["skill"], (axes,) = grid(1, 1, width=8.4, height=_HEAD + _ROW * check.sizes["level"])
            skill_table(axes, check)
        files = [(figure, folder / f"{name}.{kind}") for name, figure in found.items() for kind in ("pdf", "png")]
        return [save(figure, path) for figure, path in files]


def contact_sheet(cohort: "Cohort", path: Path, laws: "Sequence[Variability] | None" = None) -> None:
    """One image of a cohort under each variability (rows) at every level (columns), as PNG or PDF.

    An image keeps its random draw over the levels, so that a row shows severity alone.  Laws act on the whole volume, of which
    the middle slice is drawn.  ``laws`` are the eight of a plain study unless given.
    """
    import jax

    from rafmodel import cohort as cohorts
    from rafmodel.variability import VARIABILITIES, alter

    laws = VARIABILITIES if laws is None else laws
    image = np.asarray(cohorts.pixels(cohorts.take(cohort, np.array([0]))))
    with style():
        figure, axes = grid(6 * len(laws), 6, width=7.5, height=1.28)
        for row, law in enumerate(laws):
            levels = np.array([0.0, *law.levels], image.dtype)
            altered = np.asarray(alter(jax.random.key(row), law, image, levels))[:, 0]
            altered = cohorts.middle(altered, cohort.oriented) if altered.ndim == 5 else altered
            for one, level, picture in zip(axes[6 * row :], levels, altered, strict=False):
                one.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=1)
                one.set(xticks=[], yticks=[])
                one.set_title(f"{level:g}", size=7, weight="normal", loc="center", pad=2)
            axes[6 * row].set_ylabel(law.name.replace("_", "\n"), weight="bold")
        save(figure, path)


def _raf_sheet(study: xr.Dataset) -> "Figure":
    parts = defined_parts(study)
    height = 1.1 + 0.3 * study.sizes["design"]
    figure, axes = grid(len(parts), 4, width=3.0 + 1.7 * len(parts), height=height)
    raf_by_design(axes, study)
    grey = {"color": "#555555", "marker": "o"}
    handles = [handle("observed, with 95 % interval", **grey, lw=1.6)]
    handles += [handle("predicted (L0)", **grey, mfc="white")]
    handles += [handle("one seed", color="#555555", marker=".", ms=3)]
    if "fairness" not in parts:
        handles += [handle("fairness and RAF are undefined: no subgroups", lw=0)]
    legend(figure, handles, columns=2 if len(parts) < 4 else 4)
    return figure


# ---- small parts


def _name_shift(axes: "Axes", study: xr.Dataset, shift: str) -> None:
    """Title, unit and physical levels of a shift, and the line of chance."""
    one = study.sel(shift=shift)
    axes.axhline(float(study.attrs.get("chance", 0.5)), color="#9a9a9a", lw=0.8, ls=":")
    axes.set_xticks(one["severity"].values, [f"{value:g}" for value in one["level_value"].values])
    axes.set_xlabel(str(one["unit"].item()), size=8)
    axes.set_title(shift)


def _by_family(axes: "Axes", across: xr.DataArray, up: xr.DataArray) -> None:
    """One dot a cell, in its family's colour and marker."""
    for name in map(str, up["design"].values):
        colour, marker = FAMILIES[family(name)]
        x, y = across.sel(design=name).values.ravel(), up.sel(design=name).values.ravel()
        axes.plot(x, y, marker, ls="", color=colour, mew=0, ms=4, alpha=0.6, label=name)


def _identity(axes: "Axes", predicted: xr.DataArray, observed: xr.DataArray) -> None:
    """The line of agreement, on one scale across and up."""
    both = np.concatenate([predicted.values.ravel(), observed.values.ravel()])
    low, high = (np.nanmin(both), np.nanmax(both)) if np.isfinite(both).any() else (0.0, 1.0)
    margin = 0.04 * (high - low) + 1e-3
    scale = (low - margin, high + margin)
    axes.set(xlim=scale, ylim=scale, box_aspect=1)
    axes.axline((low, low), slope=1, color="black", lw=0.8, label="identity")


def _one_scale(axes: "Sequence[Axes]") -> None:
    """Panels that are to be compared get the widest of their scales."""
    scale = min(one.get_xlim()[0] for one in axes), max(one.get_xlim()[1] for one in axes)
    for one in axes:
        one.set(xlim=scale, ylim=scale)


def _name_point(axes: "Axes", x: float, worst: xr.DataArray) -> None:
    """Name the worst cell beside its dot, on the side that has room."""
    right = x < axes.get_xlim()[1] / 2
    text = f"worst: {short(str(worst['design'].item()))}, level {int(worst['severity'])}"
    offset, side = ((8, 0), "left") if right else ((-8, 0), "right")
    axes.annotate(text, (x, float(worst)), offset, textcoords="offset points", ha=side, va="center", size=8)


def _group_look(i: int) -> tuple[str, str]:
    return GROUPS[i % len(GROUPS)], GROUP_MARKERS[i % len(GROUP_MARKERS)]


def _group_key(figure: "Figure", study: xr.Dataset) -> None:
    """Legend of subgroups with the counts their AUC rests on."""
    handles = []
    for i, name in enumerate(map(str, study["group"].values[1:])):
        colour, marker = _group_look(i)
        cases, controls = (int(study[n].sel(group=name)) for n in ("n_case", "n_control"))
        least = "at least " if "question" in study.dims else ""  # of several questions, the one with the fewest
        counted = f"{least}{cases} cases, {least}{controls} controls" if metric(study) == "auc" else f"{cases} images"
        text = f"{short(name)}: {counted}"
        handles.append(handle(text, color=colour, marker=marker, lw=1.2))
    handles.append(handle("predicted (L0)", color="#555555", lw=1, ls="--"))
    legend(figure, handles, columns=4)
