"""A cohort made up differently: class prevalence, subgroup mix, how much of an image its structure fills, who is tested."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import jax
import numpy as np
from jax import Array

from rafmodel import cohort as cohorts
from rafmodel import selection
from rafmodel.cohort import Cohort
from rafmodel.errors import InputError
from rafmodel.selection import PLAIN, Who


def rebalanced(
    cohort: Cohort,
    key: Array,
    *,
    prevalence: float | None = None,
    attribute: str | None = None,
    mix: Mapping[str, float] | None = None,
    part: str = "train",
) -> Cohort:
    """The cohort with images of one part left out at random, until prevalence and mix are as asked; as many stay as can.

    prevalence  share of cases, in [0, 1]; the same in every subgroup where a mix is asked for too.  None: as it is
    attribute   column whose subgroups are mixed
    mix         share of each of its values; they add to 1, and images with other values are left out.  None: as it is
    The other parts stay.  Raises InputError for a share that cannot be, an unknown column or value, or where nothing would stay.
    """
    if prevalence is not None and not 0 <= prevalence <= 1:
        raise InputError(f"prevalence {prevalence}: must be a share, 0 to 1")
    here = np.flatnonzero(cohort.split == part)
    values = _values(cohort, attribute, mix)[here]
    cells = []  # (share, rows of one class in one subgroup)
    for value, share in mix.items() if mix else [("", 1.0)]:
        rows = here[values == value]
        classes = [rows[cohort.label[rows] == c] for c in (0, 1)]
        both = [1 - prevalence, prevalence] if prevalence is not None else [len(c) / max(len(rows), 1) for c in classes]
        cells += [(share * of_class, members) for of_class, members in zip(both, classes, strict=True)]
    asked = [(share, members) for share, members in cells if share > 0]
    size = min(len(members) / share for share, members in asked)
    order = jax.random.permutation(key, len(cohort.label))
    rank = np.argsort(np.asarray(order))
    kept = [members[np.argsort(rank[members])][: math.floor(size * share + 0.5)] for share, members in asked]
    if not sum(map(len, kept)):
        raise InputError(f"{cohort.name}: no image of the {part} part would stay; ask for a mix that it has")
    stay = np.concatenate([np.flatnonzero(cohort.split != part), *kept])
    return cohorts.take(cohort, np.sort(stay))


def _values(cohort: Cohort, attribute: str | None, mix: Mapping[str, float] | None) -> np.ndarray:
    """The subgroup of every image, "" where none is mixed."""
    if mix is None or attribute is None:
        if (mix is None) != (attribute is None):
            raise InputError("a mix needs both: the attribute, and the share of each of its values")
        return np.full(len(cohort.label), "")
    if attribute not in cohort.attributes:
        raise InputError(
            f"{cohort.name}: no attribute '{attribute}'; choose from {', '.join(cohort.attributes) or 'none'}"
        )
    column = cohort.attributes[attribute]
    unknown = [value for value in mix if value not in column]
    if unknown or any(share < 0 for share in mix.values()) or abs(sum(mix.values()) - 1) > 1e-9:
        have = ", ".join(map(str, np.unique(column)))
        raise InputError(f"mix of {attribute} {dict(mix)}: shares must add to 1, over values among {have}")
    return column


def pixel_prevalence(cohort: Cohort) -> np.ndarray:
    """Share of each image's pixels that its structure fills, (N,).  Raises InputError where there are no masks."""
    if cohort.mask is None:
        raise InputError(f"{cohort.name}: has no masks; use a cohort with `masks`")
    return (cohort.mask > 0).mean(tuple(range(1, cohort.mask.ndim)))


def filled(cohort: Cohort, low: float, high: float, *, part: str = "train") -> Cohort:
    """The cohort with only those images of one part whose structure fills a share of pixels in [low, high]."""
    share = pixel_prevalence(cohort)
    stay = (cohort.split != part) | ((share >= low) & (share <= high))
    if not (stay & (cohort.split == part)).any():
        raise InputError(f"{cohort.name}: no image of the {part} part is filled to between {low} and {high}")
    return cohorts.take(cohort, stay)


def dealt(cohort: Cohort, key: Array, shares: Sequence[float], *, attribute: str | None = None) -> Cohort:
    """The cohort with its patients dealt anew to train, val and test, alike in class and subgroup.

    shares     of patients in train, val and test; they add to 1
    attribute  column whose subgroups every part gets its share of; None: no matter
    A patient with any case counts as one.  For cohorts whose own test part is too small to tell designs apart.
    Raises InputError for shares that are none, or a column that is not there.
    """
    if len(shares) != len(cohorts.SPLITS) or min(shares) <= 0 or not math.isclose(sum(shares), 1):
        raise InputError(f"shares {tuple(shares)}: three shares above 0 that add to 1, for {', '.join(cohorts.SPLITS)}")
    group = cohorts.groups(cohort, attribute)[1] if attribute else np.zeros(len(cohort.label), int)
    who = Who(cohort.label, group, np.full(len(group), PLAIN), cohort.patient)
    nowhere = np.zeros((len(group), 1))
    return replace(cohort, split=selection.parted(key, who, nowhere, degree=0, shares=shares).split)
