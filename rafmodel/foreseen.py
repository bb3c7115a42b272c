"""What a forecast says before anything is trained: its table and plain sentences."""

import xarray as xr

from rafmodel import agreement
from rafmodel.experience import metric
from rafmodel.findings import SHIFTED, called, extremes, gap, largest, place
from rafmodel.metrics import NAMES

_NAMES = {"raf": "RAF", "robustness": "robustness"}
_HARDLY = (
    0.5  # correlation between parts below which it is said that they hardly agree; chosen by eye on eleven cohorts
)


def sentences(table: xr.Dataset, levers: dict[str, float]) -> list[tuple[str, str]]:
    """(headline, sentences) of a prediction: designs, shifts, subgroups, and what would help the best design.

    levers  change of the foreseen RAF (robustness where no fairness is defined) of the best design for each choice
    """
    auc, score = table[f"predicted_{metric(table)}"].sel(group="all"), part(table)
    ends = extremes(table[f"{score}_predicted"])
    told = []
    if ends:
        best, worst = (f"{name} ({float(table[f'{score}_predicted'].sel(design=name)):.2f})" for name in ends)
        told.append(("Designs", f"{best} is foreseen to have the highest {_NAMES[score]}, {worst} the lowest."))
    last, loss = int(auc["severity"][-1]), (auc.isel(severity=0) - auc.isel(severity=-1)).dropna("design")
    shift = extremes(loss.mean("design"))
    if shift:
        most, least = extremes(loss.sel(shift=shift[0]))
        told.append(
            (
                "Shifts",
                f"{place(table, shift[0], last)} is foreseen to hurt most: {most} loses "
                f"{float(loss.sel(shift=shift[0], design=most)):.2f} of {called(table)}, {least} "
                f"{float(loss.sel(shift=shift[0], design=least)):.2f}.",
            )
        )
    told += _gap(table) + _agreement(table)
    if levers:
        changes = sorted(levers.items(), key=lambda item: -abs(item[1]))
        moved = "; ".join(f"{what} {change:+.3f}" for what, change in changes)
        told.append(("What would move it", f"{_NAMES[score]} of {ends[0]}: {moved}."))
    return told


def _gap(table: xr.Dataset) -> list[tuple[str, str]]:
    groups = table[f"predicted_{metric(table)}"].isel(group=SHIFTED)
    at = largest(gap(groups))
    if at is None:
        return []
    here = groups.sel(at)
    high, low = (f"{float(here.sel(group=name)):.2f} in {name}" for name in extremes(here))
    where = f"{at['design']} under {place(table, str(at['shift']), int(at['severity']))}"
    return [("Subgroups", f"The widest foreseen gap is that of {where}: {called(table)} {high}, {low}.")]


def _agreement(table: xr.Dataset) -> list[tuple[str, str]]:
    """How far two parts of the source agree on what sets designs apart, and what is kept of it."""
    if "predicted_by_part" not in table:
        return []
    known = agreement.shares(table["predicted_by_part"].values)
    if known is None:
        return []
    r, (own, rest) = agreement.correlation(table["predicted_by_part"].values), (f"{share:.0%}" for share in known)
    text = (
        f"Theory read from two parts of the source, of other patients each, agrees on what sets designs apart at r = {r:.2f}; "
        f"{own} of their mean effects and {rest} of the rest are kept."
    )
    doubt = " They hardly agree: theory has no ground to prefer a design here." if r < _HARDLY else ""
    return [("How sure it is of designs", text + doubt)]


def rows(table: xr.Dataset) -> str:
    """Predicted AUC, or Dice, by design: clean, and at the strongest level of each shift."""
    auc = table[f"predicted_{metric(table)}"].sel(group="all")
    first = max(24, 2 + max(map(len, auc["design"].values)))
    wide = [max(10, 2 + len(shift)) for shift in auc["shift"].values]
    heads = "".join(f"{shift:>{width}s}" for shift, width in zip(auc["shift"].values, wide, strict=True))
    lines = [f"{f'predicted {NAMES[metric(table)]}':{first}s}{'clean':>8s}{heads}"]
    for name in auc["design"].values:
        one = auc.sel(design=name)
        worst = "".join(f"{v:{width}.3f}" for v, width in zip(one.isel(severity=-1).values, wide, strict=True))
        lines.append(f"{name:{first}s}{float(one.isel(shift=0, severity=0)):8.3f}{worst}")
    return "\n".join([*lines, "(shift columns: the strongest level)"])


def part(table: xr.Dataset) -> str:
    """The score that designs are ranked by before training: RAF, or robustness where no RAF is foreseen."""
    return "raf" if bool(table["raf_predicted"].notnull().any()) else "robustness"
