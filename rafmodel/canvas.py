"""What every figure shares: its look, its palette, its legend, and how it gets to disk whole.

Matplotlib is imported when something is drawn, and never its global state.
"""

import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rafmodel.files import atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Okabe and Ito's palette, told apart by people with any common colour blindness; the marker says it again
FAMILIES = {
    "untrained": ("#8a8a8a", "X"),
    "supervised": ("#000000", "s"),
    "contrastive": ("#0072b2", "o"),
    "decorrelating": ("#e69f00", "^"),
    "rotation": ("#009e73", "D"),
    "jigsaw": ("#d55e00", "v"),
    "masked": ("#cc79a7", "P"),
    "cpc": ("#999933", ">"),  # no more of Okabe and Ito's: two of Tol's muted ones
    "exemplar": ("#882255", "h"),
    "location": ("#56b4e9", "<"),
    "byol": ("#44aa99", "p"),
    "other": ("#56b4e9", "*"),
}
# Paul Tol's colours, apart from those of the families: a subgroup is not a proxy task
GROUPS = ("#004488", "#ddaa33", "#bb5566", "#117733", "#88ccee", "#882255", "#999933", "#332288")
GROUP_MARKERS = "osD^vPX*"


def family(design: str) -> str:
    """Family of proxy task that a design's name belongs to; 'other' if none."""
    stem = design.split("[")[0].split("+")[0].split("@")[0].strip()
    stem = {"vicreg": "decorrelating", "barlow": "decorrelating", "simclr": "contrastive"}.get(stem, stem)
    return stem if stem in FAMILIES else "other"


def style() -> "AbstractContextManager[None]":
    """The look of every figure; draw and save inside ``with style():``."""
    from matplotlib import style as styles

    return styles.context(Path(__file__).with_name("rafmodel.mplstyle"))


def grid(n: int, columns: int, *, width: float, height: float, **share: Any) -> "tuple[Figure, list[Axes]]":
    """A figure ``width`` inches wide, ``n`` axes in rows of ``columns``, each row ``height`` inches high."""
    from matplotlib.figure import Figure

    columns = min(columns, n)
    rows = -(-n // columns)
    figure = Figure(figsize=(width, rows * height))
    axes = list(figure.subplots(rows, columns, squeeze=False, **share).flat)
    for spare in axes[n:]:
        spare.remove()
    return figure, axes[:n]


def save(figure: "Figure", path: Path) -> Path:
    """A figure to a file of the suffix's kind, whole or not at all."""
    atomically(path, lambda file: render(figure, file, path.suffix[1:]))
    return path


def render(figure: "Figure", file: "IO[bytes]", kind: str) -> None:
    """A figure as pdf, png or svg into an open file; the same figure gives the same bytes."""
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in another script shows as boxes
        figure.savefig(file, format=kind, metadata=undated, bbox_inches="tight")


def handle(text: str, **look: Any) -> "Line2D":
    """Legend entry; a marker stands alone unless a line width is given."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **{"lw": 0, "color": "none", **look}, label=text)


def legend(figure: "Figure", handles: "list[Line2D]", *, columns: int = 7) -> None:
    """Legend below a figure, in rows of ``columns``."""
    figure.legend(handles=handles, loc="outside lower center", ncols=min(columns, len(handles)))


def short(name: str, most: int = 24) -> str:
    """A name that fits beside a panel."""
    return name if len(name) <= most else name[: most - 1] + "…"


def folded(name: str) -> str:
    """A design's name beside a row, its choices on a line of their own."""
    stem, bracket, choices = name.partition("[")
    return short(stem) + (f"\n{short(bracket + choices, 36)}" if choices else "")
