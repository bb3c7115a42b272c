"""Columns of a cohort as text: whole numbers without decimals, ages in bands, what is missing as ''."""

import numpy as np

AGE_BANDS = ("<18", "18-49", "50-64", "65+")
LISTED = "SUbuif"  # types that can be told as text


def as_text(name: str, column: np.ndarray) -> np.ndarray:
    """Entries (N,) as text: whole numbers without decimals, ages in bands, '' and what is not finite as ''."""
    if column.ndim == 2 and column.shape[1] > 1:
        return _lists(column)
    column = column.reshape(-1)
    if column.dtype.kind == "S":
        text = np.strings.decode(column, "utf-8", "replace")
    elif column.dtype.kind == "f":
        text = _numerals(column)
    else:
        text = column.astype(np.uint8 if column.dtype.kind == "b" else column.dtype).astype(str)
    text = np.strings.strip(text)
    text = np.where(np.strings.lower(text) == "nan", "", text)
    return _age_bands(text) if "age" in name.lower().split("_") else text


def _lists(flags: np.ndarray) -> np.ndarray:
    """Numbers of the classes that each row (N, classes) marks, as ``0|5``, or ``none``."""
    distinct, code = np.unique(flags != 0, axis=0, return_inverse=True)
    return np.array(["|".join(map(str, np.flatnonzero(row))) or "none" for row in distinct])[code.reshape(-1)]


def _numerals(column: np.ndarray) -> np.ndarray:
    """Floats as text, without decimals where none of them has any."""
    known = np.isfinite(column)
    values = np.where(known, column, 0)
    whole = (values == np.floor(values)).all() and np.abs(values).max(initial=0) < 2**53
    return np.where(known, values.astype(np.int64 if whole else values.dtype).astype(str), "")


def _age_bands(text: np.ndarray) -> np.ndarray:
    """Ages in years as bands, one outside 0-120 as missing; text that is no number is a band already."""
    try:
        years = np.where(text == "", "nan", text).astype(float)
    except ValueError:
        return text
    band = np.array(AGE_BANDS)[np.digitize(years, (18, 50, 65))]
    return np.where((years >= 0) & (years <= 120), band, "")
