"""Pictures of a card: a sample, rare images and categories, look-alikes, associations and quality, each as PNG.

No image of a withheld part is shown.
Volumes are shown by a middle slice.
"""

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rafmodel import canvas, harmonise, visual
from rafmodel import cohort as cohorts
from rafmodel.cohort import Cohort
from rafmodel.facts import QUANTILES, SHOWN, Card
from rafmodel.sources import SPLITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TILE = 1.25  # inches
_SPLIT_COLOURS: dict[str, str] = dict(zip(SPLITS, ("#004488", "#ddaa33", "#bb5566"), strict=True))


def drawn(card: Card, cohort: Cohort, *, images: bool) -> dict[str, tuple[str, bytes]]:
    """Caption and PNG of each picture by name; those that show images only where asked."""
    with canvas.style():
        found = {"confounding": _confounding(card), "quality": _quality(card)}
        if images:
            found |= {
                "sample": _sample(card, cohort),
                "rare_images": _rare_images(card, cohort),
                "rare_categories": _rare_categories(card, cohort),
                "twins": _twins(card, cohort),
            }
        return {name: (caption, _png(figure)) for name, (caption, figure) in found.items() if figure is not None}


Picture = tuple[str, Any]  # a caption and a figure, None where there is nothing to show


def _png(figure: "Figure") -> bytes:
    file = io.BytesIO()
    canvas.render(figure, file, "png")
    return file.getvalue()


def face(cohort: Cohort, row: int) -> np.ndarray:
    """One image as (H, W) or (H, W, 3) in [0, 1]; of a volume the middle slice."""
    image = harmonise.unit(cohort.image[row : row + 1])
    image = cohorts.middle(image, cohort.oriented)[0] if image.ndim == 5 else image[0]
    return image if image.shape[-1] == 3 else image[..., 0]


def _sheet(cohort: Cohort, rows: list[int], titles: list[str], columns: int = SHOWN) -> "Figure":
    width = _TILE * min(columns, len(rows))
    figure, axes = canvas.grid(len(rows), columns, width=width, height=_TILE + 0.3)
    for axis, row, title in zip(axes, rows, titles, strict=True):
        _show(axis, face(cohort, row), title)
    return figure


def _show(axis: "Axes", image: np.ndarray, title: str) -> None:
    axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_title(title, fontsize=6.5, fontweight="normal", loc="center")
    axis.set_axis_off()


def _sample(card: Card, cohort: Cohort) -> Picture:
    """Images of the parts and classes, evenly spaced through the cohort, not chosen by eye."""
    rows, titles = [], []
    for split in [split for split in SPLITS if split not in card.withheld]:
        here = np.flatnonzero(cohort.split == split)
        chosen = here[np.linspace(0, len(here) - 1, min(SHOWN, len(here))).astype(int)] if len(here) else here
        rows += chosen.tolist()
        titles += [f"{split}{_class(cohort, i)}" for i in chosen.tolist()]
    if not rows:
        return "", None
    return "Images of each part, evenly spaced through it, not chosen by eye.", _sheet(cohort, rows, titles)


def _class(cohort: Cohort, row: int) -> str:
    return {1: ", case", 0: ", control"}.get(int(cohort.label[row]), "")


def _rare_images(card: Card, cohort: Cohort) -> Picture:
    listed = [r for r in card.rarity.listed if r.split not in card.withheld]
    if not listed:
        return "", None
    titles = [f"{r.split}, {r.distance:.1f}\n{r.statistic} {r.deviation:+.1f} s.d." for r in listed]
    caption = "Rare looks: images farthest from their neighbours; distance, and the quality statistic most out of line."
    return caption, _sheet(cohort, [r.row for r in listed], titles)


def _rare_categories(card: Card, cohort: Cohort) -> Picture:
    shown = [r for r in card.rare_categories if cohort.split[r.example] not in card.withheld]
    rare = sorted(shown, key=lambda r: (r.sort == "other", r.patients))[: 2 * SHOWN]
    if not rare:
        return "", None
    titles = [f"{r.attribute}\n{canvas.short(r.value, 18)} ({r.patients})" for r in rare]
    caption = "Rare categories: an image of each; in brackets how many patients have it."
    return caption, _sheet(cohort, [r.example for r in rare], titles)


def _twins(card: Card, cohort: Cohort) -> Picture:
    pairs = [pair for pair in card.twins if not {*pair.splits} & {*card.withheld}][:SHOWN]
    if not pairs:
        return "", None
    rows = [row for pair in pairs for row in (pair.one, pair.other)]
    titles = [f"{split}, r {pair.correlation:.3f}" for pair in pairs for split in pair.splits]
    caption = "Look-alikes of different patients, pair by pair, those in two parts first."
    return caption, _sheet(cohort, rows, titles)


def _confounding(card: Card) -> Picture:
    """Forest of associations with class and part, the strongest first."""
    known = [a for a in card.confounding if a.one in ("class", "part") and math.isfinite(a.v)]
    known = sorted(known, key=lambda a: (a.one, a.v))
    if not known:
        return "", None
    figure, [axis] = canvas.grid(1, 1, width=6.5, height=0.6 + 0.24 * len(known))
    place = np.arange(len(known))
    for y, a in zip(place, known, strict=True):
        colour = "#004488" if a.one == "class" else "#bb5566"
        axis.plot([a.low, a.high], [y, y], color=colour)
        axis.plot([a.v], [y], "o", color=colour)
    axis.set_yticks(place, [f"{a.one} and {canvas.short(a.other)}" for a in known])
    axis.set_xlim(-0.02, 1.02)
    axis.set_xlabel("Cramér's V, 95 % interval over patients")
    return "Association of class and part with the attributes; 0 is none.", figure


def _quality(card: Card) -> Picture:
    """Distribution of each quality statistic by part, as cumulative shares."""
    figure, axes = canvas.grid(6, 3, width=7.5, height=1.9)
    there = [q.split for q in card.quality[: len(SPLITS)] if math.isfinite(q.quantiles[0])]
    for axis, name in zip(axes, visual.QUALITY, strict=True):
        for q in card.quality:
            if q.statistic == name and q.split in there:
                axis.plot(q.quantiles, QUANTILES, color=_SPLIT_COLOURS[q.split])
        axis.set_title(name)
        axis.set_ylim(0, 1)
    axes[0].set_ylabel("share of images")
    axes[3].set_ylabel("share of images")
    canvas.legend(figure, [canvas.handle(s, color=_SPLIT_COLOURS[s], lw=1.5) for s in there])
    return "Quality statistics: share of the images of each part below a value.", figure
