"""What a segmentation is judged by: Dice of each image, AUC and rates of pixels, by subgroup, and intervals over patients.

Pixels are counted by class and bin of their score, (..., n images, 2 classes, BINS): no more of a score map is kept.  Bins are
narrow where scores lie and wide far away (``bins``); all that is read from counts is exact but the AUC, which takes the pixels of
one bin for ties.  An image without any pixel of the structure has no Dice, which is nan and is counted.
"""

import numpy as np
from jax import Array

from rafmodel import metrics
from rafmodel.metrics import Outcome

BINS = 128
REACH = 1000.0  # how far the bins reach, in units of the score's scale; what lies beyond is in the last one


def edges() -> np.ndarray:
    """Lower edges (BINS,) of the bins of a score that was centred and scaled; the first is minus infinity."""
    inner = np.sinh(np.linspace(-1, 1, BINS + 1)[1:-1] * np.arcsinh(REACH))
    return np.concatenate([[-np.inf], inner])


def counts(score: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Pixels of each image by class and bin, (n, 2, BINS); score (n, *space) centred and scaled, mask of 0 and 1.

    Raises FloatingPointError where a score is not finite, for then no bin is its own.
    """
    n = len(score)
    flat = np.asarray(score).reshape(n, -1)
    if unknown := int((~np.isfinite(flat)).sum()):
        raise FloatingPointError(f"{unknown} of {flat.size} scores of pixels are not finite")
    place = np.searchsorted(edges()[1:], flat, side="right")
    cell = (np.arange(n)[:, None] * 2 + np.asarray(mask).reshape(n, -1)) * BINS + place
    found = np.bincount(cell.ravel(), minlength=n * 2 * BINS).reshape(n, 2, BINS)
    return found.astype(np.uint16 if found.max(initial=0) < 2**16 else np.uint32)


def dice(pixels: np.ndarray, threshold: int) -> np.ndarray:
    """Dice of each image when pixels from bin ``threshold`` on are called foreground, in [0, 1]; (..., n).

    2 TP / (2 TP + FP + FN), nan where the mask is empty.  Dice 1945.
    """
    called = pixels[..., threshold:].sum(-1, dtype=np.int64)
    inside = pixels[..., 1, :].sum(-1, dtype=np.int64)
    total = called.sum(-1) + inside
    return np.where(inside > 0, 2 * called[..., 1] / np.maximum(total, 1), np.nan)


def best_threshold(pixels: np.ndarray) -> int:
    """The bin from which on pixels of images (n, 2, BINS) are best called foreground: the highest mean Dice."""
    each = np.array([dice(pixels, i) for i in range(BINS)])
    return int(np.nanmean(each, axis=1).argmax())


def auc(pixels: np.ndarray) -> np.ndarray:
    """AUC of counts or weights of pixels (..., 2, BINS), those of one bin taken for ties; nan where a class is absent."""
    control, case = (pixels[..., c, :].astype(np.float64) for c in (0, 1))
    below = np.cumsum(control, -1) - control / 2
    pairs = control.sum(-1) * case.sum(-1)
    return np.where(pairs > 0, (case * below).sum(-1) / np.where(pairs > 0, pairs, 1), np.nan)


def rates(pixels: np.ndarray, threshold: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of foreground and of background pixels (..., 2, BINS) that are called foreground: TPR, FPR, (...)."""
    total, called = (pixels[..., start:].sum(-1, dtype=np.float64) for start in (0, threshold))
    share = np.where(total > 0, called / np.where(total > 0, total, 1), np.nan)
    return share[..., 1], share[..., 0]


def outcome(pixels: np.ndarray, threshold: int, code: np.ndarray, n_groups: int) -> Outcome:
    """Counts (1 + 5 shifts, n, 2, BINS), clean first, reduced by subgroup.

    ``dice`` is the mean over the images that have the structure; AUC, TPR and FPR are those of all pixels of a subgroup
    together.  ``n_case`` and ``n_control`` are the images, clean, that have pixels of the structure and of the rest.
    code  (n,) subgroup of each image in 0 .. n_groups - 1
    """
    inside = metrics.members(code, n_groups)
    each = dice(pixels, threshold)
    pooled = [pixels[:, m].sum(1, dtype=np.int64) for m in inside]
    found = [(auc(p), *rates(p, threshold), mean(each[:, m])) for p, m in zip(pooled, inside, strict=True)]
    auc_, tpr, fpr, dice_ = (np.stack([metrics.by_shift(v) for v in group], -1) for group in zip(*found, strict=True))
    some = pixels[0].sum(-1) > 0  # (n, class)
    n_control, n_case = ((inside & some[None, :, c]).sum(1) for c in (0, 1))
    return Outcome(auc_, tpr, fpr, n_case, n_control, dice_)


def mean(each: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Mean of each image's Dice (..., n), or with weights (B, n) a mean for each of their rows, (B, ...); nan of none."""
    known = np.isfinite(each)
    weights = np.ones((1, each.shape[-1])) if weight is None else weight
    total = np.tensordot(weights, np.where(known, each, 0), (1, -1))
    mass = np.tensordot(weights, known.astype(float), (1, -1))
    found = np.where(mass > 0, total / np.where(mass > 0, mass, 1), np.nan)
    return found[0] if weight is None else found


def raf_interval(
    cells: list[tuple[np.ndarray, int]],
    code: np.ndarray,
    n_groups: int,
    patient: np.ndarray,
    key: Array | int,
    *,
    chance: float,
    n_replicates: int = 500,
    level: float = 0.95,
) -> dict[str, np.ndarray]:
    """Bootstrap over patients, then images, of one design's seed mean; as ``metrics.raf_interval``, with Dice as the metric.

    cells     counts (1 + 5 shifts, n, 2, BINS) and threshold of each seed
    Returns the interval of each part of RAF, standard errors ``dice_se`` and ``auc_se`` (shift, severity, group) with their
    degrees of freedom ``dice_df`` and ``auc_df``, and ``undefined`` (4,).
    """
    weight, inside = metrics.patient_weights(key, patient, n_replicates), metrics.members(code, n_groups)
    owner = np.unique(patient, return_inverse=True)[1]
    kept = np.concatenate([np.ones((1, len(owner))), owner != np.arange(owner.max() + 1)[:, None]])  # all; all but one
    each = [dice(pixels, threshold) for pixels, threshold in cells]

    def under(weight: np.ndarray) -> np.ndarray:  # (B, seed, shift, severity, group)
        return np.stack([_by_group([mean(one[:, m], weight[:, m]) for m in inside]) for one in each], 1)

    def areas(pixels: np.ndarray) -> np.ndarray:
        return _by_group([auc(np.tensordot(kept[:, m], pixels[:, m], (1, 1))) for m in inside])

    found = {"dice": under(kept).mean(1), "auc": np.mean([areas(pixels) for pixels, _ in cells], axis=0)}
    found = {name: (v[0], np.moveaxis(v[1:], 0, -1)) for name, v in found.items()}
    told = metrics.intervals(under(weight), *found["dice"], level, chance)
    for name, both in found.items():
        told[f"{name}_se"], told[f"{name}_df"] = metrics.jackknife(*both)
    return told


def _by_group(values: list[np.ndarray]) -> np.ndarray:
    """Values by state (B, 1 + 5 shifts) of each group as (B, shift, severity, group)."""
    return np.stack([metrics.by_shift(v) for v in values], -1)
