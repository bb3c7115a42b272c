"""How stored values become [0, 1]: one documented rule for a whole cohort, told in its notes."""

import numpy as np

from rafmodel.errors import InputError
from rafmodel.sources.scan import Kind, Scan
from rafmodel.sources.stored import Window

PERCENTILES = (0.5, 99.5)
_BITS = (8, 10, 12, 14, 16)
_MOST_VALUES = 2**24  # that percentiles are taken of


def windowed(found: Scan, window: Window) -> np.ndarray:
    """One image's values in [0, 1] by a window; as stored where none is asked.  Raises InputError where its file has none."""
    if window is None:
        return found.values
    limits = found.window if window == "file" else window
    if limits is None:
        raise InputError("recommends no window; give --window LOW HIGH, or leave it out")
    low, high = limits
    return ((found.values.astype(np.float32) - np.float32(low)) / np.float32(high - low)).clip(0, 1)


def to_unit(image: np.ndarray, kind: Kind, window: Window, source: np.ndarray) -> str:
    """Map images (N, *space, C), float32 and in place, to [0, 1]; the rule in words.

    ``counts`` are divided by the highest number of the fewest bits (8, 10, 12, 14, 16) that hold all of them.  ``values`` go
    linearly from the 0.5th to the 99.5th percentile of the training images (``source``, (N,) bool; all images where it has none)
    and are clipped.
    """
    if window is not None:
        asked = "each file's own window" if window == "file" else f"the window {window[0]:g} to {window[1]:g}"
        return f"intensity: {asked} to [0, 1], clipped, before any averaging"
    if kind == "counts":
        high = float(image.max())
        bits = next(b for b in _BITS if high <= 2**b - 1)
        image /= np.float32(2**bits - 1)
        return f"intensity: divided by {2**bits - 1}, the largest number of {bits} bits, which hold the largest pixel {high:g}"
    of = image[source] if source.any() else image
    values = of.reshape(-1)[:: max(1, of.size // _MOST_VALUES)]
    low, high = (float(v) for v in np.percentile(values, PERCENTILES))
    if not low < high:
        raise InputError(f"values from the 0.5th to the 99.5th percentile are all {low:g}; give --window LOW HIGH")
    image -= np.float32(low)
    image /= np.float32(high - low)
    np.clip(image, 0, 1, out=image)
    whose = "the training images" if source.any() else "all images"
    return f"intensity: {low:.6g} to {high:.6g} (0.5th and 99.5th percentile of {whose}) to [0, 1], clipped"
