"""Which values of a column make a case and which a control: any column becomes a stated contrast of two classes."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from rafmodel.errors import InputError

_HEALTHY = {"normal", "benign", "healthy"}


def contrast(
    where: str,
    column: str,
    entries: np.ndarray,
    positive: Sequence[str] | None,
    negative: Sequence[str] | None,
    names: Mapping[str, str] | None = None,
) -> tuple[np.ndarray, str]:
    """Class of each image, (N,) int8, -1 for neither, and the contrast in words; ``names`` says what values mean.

    An image whose list has both a positive and a negative value is a case.
    """
    distinct, code = np.unique(entries, return_inverse=True)
    lists = [set(entry.split("|")) - {""} for entry in distinct.tolist()]
    values = sorted(set().union(*lists), key=by_number)
    cases, controls = _sides(where, values, positive, negative)
    y = np.array([1 if v & cases else 0 if v & controls else -1 for v in lists], np.int8)[code]
    rest = len(controls) > 6 and negative is None
    named = {v: f"{v} ({names[v]})" if names and v in names else v for v in values}
    against = "the rest" if rest else ", ".join(named[v] for v in values if v in controls) or "nothing"
    words = f"{column} {', '.join(named[v] for v in values if v in cases)} against {against}"
    if len(values) > 2 and not positive and not negative:
        words += " (the highest against the rest)"
    left_out = int((y < 0).sum())
    return y, words + (f" ({left_out} of {len(y)} images have neither and are left out)" if left_out else "")


def healthy_cases(words: str) -> str:
    """One line where a contrast has a healthy class for its case, so that sensitivity is not that of disease; else ''."""
    case, control = (set(re.findall("[a-z]+", side.lower())) for side in words.partition(" against ")[::2])
    if not case & _HEALTHY or control & _HEALTHY:
        return ""
    return f"{words}: the case is the healthy class, so sensitivity is the share of healthy images that are named; see --positive"


def by_number(value: str) -> tuple[float, str]:
    """Key that sorts numbers by size and puts them before words."""
    try:
        return float(value), value
    except ValueError:
        return math.inf, value


def _sides(
    where: str, values: list[str], positive: Sequence[str] | None, negative: Sequence[str] | None
) -> tuple[set[str], set[str]]:
    """Values that make a case and values that make a control."""
    there = ", ".join(values[:20]) + (", ..." if len(values) > 20 else "")
    for asked in (*(positive or ()), *(negative or ())):
        if asked not in values:
            raise InputError(f"{where}: no image has the value '{asked}'; choose from {there}")
    both = set(positive or ()) & set(negative or ())
    if both:
        raise InputError(f"{where}: '{min(both)}' is asked to be positive and negative; leave one out")
    if not positive and not negative:
        if len(values) > 2 and by_number(values[-1])[0] == math.inf:
            raise InputError(f"{where}: {len(values)} values; name those of a case with --positive: {there}")
        positive = values[-1:]
    cases = set(positive) if positive else set(values) - set(negative or ())
    return cases, set(negative) if negative else set(values) - cases
