"""What a cohort's card holds: plain records, filled by ``audit``, put into words by ``questions``, drawn by ``portraits``.

A patient counts once wherever patients are counted.  Absence is nan, or an empty tuple.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rafmodel.confounding import Association, Tell

RARE_SHARE, RARE_PATIENTS = 0.05, 10  # a category is rare below either
STRONG = 0.3  # Cramér's V of a medium effect, Cohen (1988)
ASSUMED_AUC, ASSUMED_RATE = 0.85, 0.8  # of the better subgroup
SHOWN = 8  # pictures of a kind
QUANTILES = np.linspace(0, 1, 41)


class Count(NamedTuple):
    """Images and patients of one value of an attribute in one part; cases among the images, nan without classes."""

    attribute: str
    value: str
    split: str
    images: int
    patients: int
    cases: float


class RareCategory(NamedTuple):
    """A value of an attribute that few patients have, what sort it is, its share of the patients, and an example's row."""

    sort: str
    attribute: str
    value: str
    patients: int
    share: float
    in_test: int
    example: int


class RareImage(NamedTuple):
    """An image that looks like few others: its row, distance to its neighbours, and the quality statistic most out of line."""

    row: int
    patient: str
    split: str
    distance: float
    statistic: str
    deviation: float


class Rarity(NamedTuple):
    """Images that look like few others: those beyond the fence, the farthest of them listed."""

    space: str
    neighbours: int
    fence: float
    beyond: int
    in_test: int
    listed: tuple[RareImage, ...]


class Quality(NamedTuple):
    """Quantiles at QUANTILES of one quality statistic in one part; nan where the part is empty."""

    statistic: str
    split: str
    quantiles: tuple[float, ...]

    @property
    def middle(self) -> tuple[float, float, float]:
        """The 5 %, 50 % and 95 % quantiles."""
        return self.quantiles[2], self.quantiles[20], self.quantiles[38]


class Twin(NamedTuple):
    """Two images of two patients that look the same: rows, correlation, parts, whether bytes and classes agree."""

    one: int
    other: int
    correlation: float
    splits: tuple[str, str]
    identical: bool
    same_label: bool


class Leak(NamedTuple):
    """A patient with images in several parts."""

    patient: str
    splits: tuple[str, ...]


class Gap(NamedTuple):
    """Smallest gap between a subgroup and the others in the test part that would be found at 80 % power.

    Patients of the subgroup: all, cases, controls; gaps in AUC, TPR and FPR, and in the mean of a score a patient in its s.d.;
    the design effect, images a patient.
    """

    attribute: str
    value: str
    patients: int
    cases: int
    controls: int
    auc: float
    tpr: float
    fpr: float
    mean: float
    design_effect: float


class Missing(NamedTuple):
    """Share of the patients for whom an attribute is unknown, by class (control, case), nan without classes."""

    attribute: str
    share: float
    control: float
    case: float


@dataclass(frozen=True)
class Card:
    """A cohort's card: who is in it, what is rare, how good the images are, what is confounded, what it can show.

    told      provenance of a benchmark, empty for another cohort
    withheld  parts of whose single images and patients no document of the card tells; counts and statistics are of all parts
    """

    name: str
    contrast: str
    source: str
    licence: str
    fingerprint: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    images: int
    patients: int
    most_images: int
    group: str | None
    counts: tuple[Count, ...]
    missing: tuple[Missing, ...]
    rare_categories: tuple[RareCategory, ...]
    rarity: Rarity
    quality: tuple[Quality, ...]
    confounding: tuple[Association, ...]
    tells: tuple[Tell, ...]
    twins: tuple[Twin, ...]
    twins_within_patients: int
    leaks: tuple[Leak, ...]
    gaps: tuple[Gap, ...]
    distance: Mapping[str, float]
    told: Mapping[str, Any]
    withheld: tuple[str, ...] = ()
