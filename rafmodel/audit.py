"""What a reviewer would ask about a cohort, answered in numbers: the records of ``facts``.

A patient counts once wherever patients are counted.
"""

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from rafmodel import cohort as cohorts
from rafmodel import confounding, power, selection, visual
from rafmodel.cohort import UNKNOWN, Cohort
from rafmodel.confounding import Association, Tell
from rafmodel.facts import (
    ASSUMED_AUC,
    ASSUMED_RATE,
    QUANTILES,
    RARE_PATIENTS,
    RARE_SHARE,
    SHOWN,
    Card,
    Count,
    Gap,
    Leak,
    Missing,
    Quality,
    RareCategory,
    RareImage,
    Rarity,
    Twin,
)
from rafmodel.gather import ORIGIN
from rafmodel.sources import SPLITS

SCANNER = {
    "scanner",
    "camera",
    "probe",
    "modality",
    "manufacturer",
    "device",
    "acquisition",
    "projection",
    "view",
    "site",
}
SCANNER |= {"domain", "kernel", "dose", "sequence", "field_strength"}
DISEASE = {"disease", "findings", "finding", "pathology", "diagnosis"}
_MOST_VALUES = 40  # of an attribute that is counted


def audit(cohort: Cohort, told: Mapping[str, Any] | None = None, *, group: str | None = None) -> Card:
    """The card of a cohort; ``told`` is what is known of how it was made, ``group`` an attribute to list first.

    What provenance says to be hidden is withheld.
    """
    names = sorted(_counted(cohort), key=lambda name: (name != group, name))
    looks, statistics = visual.features(cohort.image, "thumbnail"), visual.quality(cohort.image)
    coordinates = visual.whitened(looks).coordinates(looks)
    pairs, within = _twins(cohort)
    return Card(
        name=cohort.name,
        contrast=cohort.contrast,
        source=cohort.source,
        licence=cohort.licence,
        fingerprint=cohorts.fingerprint(cohort),
        shape=cohort.image.shape[1:],
        spacing=_spacing(cohort),
        images=len(cohort.label),
        patients=len(set(cohort.patient.tolist())),
        most_images=int(np.unique(cohort.patient, return_counts=True)[1].max()),
        group=group,
        counts=tuple(itertools.chain(_counts(cohort, None), *(_counts(cohort, name) for name in names))),
        missing=tuple(_missing(cohort, name) for name in names),
        rare_categories=tuple(itertools.chain(*(_rare_categories(cohort, name) for name in names))),
        rarity=_rarity(cohort, coordinates, statistics),
        quality=tuple(_quality(cohort, statistics)),
        confounding=tuple(_confounding(cohort, names)),
        tells=tuple(_tells(cohort, statistics)),
        twins=pairs,
        twins_within_patients=within,
        leaks=_leaks(cohort),
        gaps=tuple(itertools.chain(*(_gaps(cohort, name) for name in names))),
        distance=_distance(cohort, looks),
        told=told or {},
        withheld=("test",) if "sha256_of_the_hidden_part" in (told or {}) else (),
    )


def _counted(cohort: Cohort) -> list[str]:
    """Attributes that are counted: not origins, and not those with a value for nearly every image."""
    few = {k for k, v in cohort.attributes.items() if len(_entries(v)) <= _MOST_VALUES}
    return [name for name in cohort.attributes if name in few and name != ORIGIN]


def _entries(column: np.ndarray) -> list[str]:
    """Single values of a column whose entries may be lists ``one|two``."""
    return sorted({value for entry in set(column.tolist()) for value in entry.split("|")})


def _has(column: np.ndarray, value: str) -> np.ndarray:
    """Whether each entry is or lists a value, (N,)."""
    distinct, code = np.unique(column, return_inverse=True)
    return np.array([value in entry.split("|") for entry in distinct.tolist()])[code]


def _patients(cohort: Cohort, rows: np.ndarray) -> int:
    return len(set(cohort.patient[rows].tolist()))


def _classed(cohort: Cohort) -> bool:
    """Whether every image has a class."""
    return bool((cohort.label >= 0).all())


def _spacing(cohort: Cohort) -> tuple[float, ...]:
    """Median length of a pixel along each axis in mm; empty where it is not stated."""
    spacing = cohort.spacing
    return () if spacing is None else tuple(np.median(spacing, 0).round(4).tolist())


# ---- who is in it, and who is rare


def _counts(cohort: Cohort, attribute: str | None) -> list[Count]:
    column = np.full(len(cohort.label), "all") if attribute is None else cohort.attributes[attribute]
    found = []
    for value, split in itertools.product(_entries(column), SPLITS):
        rows = _has(column, value) & (cohort.split == split)
        cases = float((cohort.label[rows] == 1).sum()) if _classed(cohort) else np.nan
        found.append(Count(attribute or "", value, split, int(rows.sum()), _patients(cohort, rows), cases))
    return found


def _missing(cohort: Cohort, attribute: str) -> Missing:
    gone = cohort.attributes[attribute] == UNKNOWN
    classes = [cohort.label == c for c in (0, 1)]
    shares = [float(gone[rows].mean()) if rows.any() else np.nan for rows in classes]
    return Missing(attribute, _patients(cohort, gone) / _patients(cohort, np.ones_like(gone)), *shares)


def _rare_categories(cohort: Cohort, attribute: str) -> list[RareCategory]:
    column = cohort.attributes[attribute]
    sort = "scanner" if attribute in SCANNER else "disease" if attribute in DISEASE else "other"
    everyone, found = len(set(cohort.patient.tolist())), []
    for value in _entries(column):
        rows = _has(column, value)
        n = _patients(cohort, rows)
        if value not in (UNKNOWN, "") and (n < RARE_PATIENTS or n < RARE_SHARE * everyone):
            in_test = _patients(cohort, rows & (cohort.split == "test"))
            found.append(RareCategory(sort, attribute, value, n, n / everyone, in_test, int(np.argmax(rows))))
    return found


def _rarity(cohort: Cohort, coordinates: np.ndarray, statistics: np.ndarray, neighbours: int = 5) -> Rarity:
    distance = visual.isolation(coordinates, cohort.patient, neighbours)
    if not np.isfinite(distance).any():
        return Rarity("thumbnail", neighbours, np.nan, 0, 0, ())
    limit = visual.fence(distance)
    order = np.argsort(-np.where(np.isfinite(distance), distance, -np.inf), kind="stable")
    beyond = order[distance[order] > limit]
    middle = np.nanmedian(statistics, 0)
    robust = 1.4826 * np.nanmedian(np.abs(statistics - middle), 0)  # the s.d. of a normal distribution
    spread = np.fmax(robust, np.nanstd(statistics, 0))  # most images may have exactly the same share of black
    z = np.where(spread > 0, (statistics - middle) / np.where(spread > 0, spread, 1), 0)
    most, names = np.abs(np.nan_to_num(z)).argmax(1), list(visual.QUALITY)
    listed = [
        RareImage(
            int(i),
            str(cohort.patient[i]),
            str(cohort.split[i]),
            float(distance[i]),
            names[most[i]],
            float(z[i, most[i]]),
        )
        for i in beyond[:SHOWN]
    ]
    return Rarity(
        "thumbnail", neighbours, limit, len(beyond), int((cohort.split[beyond] == "test").sum()), tuple(listed)
    )


# ---- how good the images are, and what follows what


def _quality(cohort: Cohort, statistics: np.ndarray) -> list[Quality]:
    found = []
    for (i, name), split in itertools.product(enumerate(visual.QUALITY), SPLITS):
        values = statistics[cohort.split == split, i]
        known = values[np.isfinite(values)]
        quantiles = np.quantile(known, QUANTILES) if len(known) else np.full(len(QUANTILES), np.nan)
        found.append(Quality(name, split, tuple(quantiles.tolist())))
    return found


def _confounding(cohort: Cohort, names: list[str]) -> list[Association]:
    """Class with every attribute of few values, part with class and every attribute, and attributes with each other.

    Lists, as of findings, are left out: they are many values at once, and often what the class was made from.
    """
    columns = {name: cohort.attributes[name] for name in names if _sorts(cohort.attributes[name])}
    first = {"class": cohort.label.astype(str)} if _classed(cohort) else {}
    pairs = [("class", name) for name in columns if first]
    pairs += [("part", name) for name in (*first, *columns)] + list(itertools.combinations(columns, 2))
    columns = {**first, **columns, "part": cohort.split}
    return [confounding.association(pair, columns[pair[0]], columns[pair[1]], cohort.patient) for pair in pairs]


def _sorts(column: np.ndarray) -> bool:
    """Whether a column has 2 to 12 values, none of them a list."""
    distinct = set(column.tolist())
    return 2 <= len(distinct) <= 12 and not any("|" in entry for entry in distinct)


def _tells(cohort: Cohort, statistics: np.ndarray) -> list[Tell]:
    if not _classed(cohort):
        return []
    return confounding.tells(np.nan_to_num(statistics), cohort.label, cohort.patient, list(visual.QUALITY))


# ---- the same picture or patient twice


def _twins(cohort: Cohort) -> tuple[tuple[Twin, ...], int]:
    """Pairs of images of two patients that look the same, across parts first, and how many pairs one patient has."""
    pairs, correlation = visual.twins(cohort.image)
    foreign = cohort.patient[pairs[:, 0]] != cohort.patient[pairs[:, 1]]
    found = []
    for (i, j), r in zip(pairs[foreign].tolist(), correlation[foreign].tolist(), strict=True):
        splits = str(cohort.split[i]), str(cohort.split[j])
        same = _digest(cohort.image[i]) == _digest(cohort.image[j])
        found.append(Twin(i, j, r, splits, same, bool(cohort.label[i] == cohort.label[j])))
    return tuple(sorted(found, key=lambda t: (t.splits[0] == t.splits[1], -t.correlation))), int((~foreign).sum())


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()


def _leaks(cohort: Cohort) -> tuple[Leak, ...]:
    there: dict[str, set[str]] = {}
    for patient, split in zip(cohort.patient.tolist(), cohort.split.tolist(), strict=True):
        there.setdefault(patient, set()).add(split)
    return tuple(Leak(patient, tuple(sorted(parts))) for patient, parts in sorted(there.items()) if len(parts) > 1)


# ---- what the test part can show


def _gaps(cohort: Cohort, attribute: str) -> list[Gap]:
    """Every subgroup of the test part below the others whose attribute is known."""
    test = cohorts.part(cohort, "test")
    column = test.attributes[attribute]
    known = (column != UNKNOWN) & (column != "")
    names = [value for value in _entries(column[known]) if value]
    return [_gap(test, attribute, value, _has(column, value), known) for value in names] if len(names) > 1 else []


def _gap(test: Cohort, attribute: str, value: str, inside: np.ndarray, known: np.ndarray) -> Gap:
    sides = [inside, known & ~inside]
    total, case, control = (
        [_patients(test, side & rows) for side in sides] for rows in (known, test.label == 1, test.label == 0)
    )
    return Gap(
        attribute,
        value,
        total[0],
        case[0],
        control[0],
        power.gap_in_auc(ASSUMED_AUC, (case[1], control[1]), (case[0], control[0])),
        power.gap_in_rate(ASSUMED_RATE, case[1], case[0]),
        power.gap_in_rate(ASSUMED_RATE, control[1], control[0]),
        power.gap_in_mean(total[1], total[0]),
        float(inside.sum() / max(total[0], 1)),
    )


def _distance(cohort: Cohort, looks: np.ndarray) -> dict[str, float]:
    """How far the test part lies from the training part in the space of the latter; empty where one is missing."""
    train = cohort.split == "train"
    if not train.any() or not (cohort.split == "test").any():
        return {}
    coordinates = visual.whitened(looks[train]).coordinates(looks)
    return selection.measured(coordinates, cohort.patient, cohort.split)
