"""From a column of a cohort to several binary questions: its classes, its findings, or its grades."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rafmodel.asked import SEVERAL, Asked
from rafmodel.cohort import UNKNOWN, Cohort, take
from rafmodel.errors import InputError
from rafmodel.sources.contrast import by_number

MOST = {"multi-class": 12, "multi-label": 10, "ordinal": 12}  # names; of findings every combination has a code
FEWEST = {"train": 2, "test": 1}  # images that answer a question with yes, and with no


def asked(cohort: Cohort, column: str, kind: str, names: Sequence[str] = ()) -> Cohort:
    """The cohort whose labels are the classes, findings or grades in a column, without the images that have none of them.

    column  an attribute of the cohort; an entry ``one|two`` is a list
    kind    one of ``asked.SEVERAL``
    names   which values are asked about, grades from low to high; none named: all, and grades must be whole numbers without gaps
    Attributes that follow from the class are dropped, for they cannot name subgroups.
    Raises InputError, in one line, for whatever is wrong with the column or with what is asked of it.
    """
    where = f"{cohort.name}: {column}"
    if kind not in SEVERAL:
        raise InputError(f"--task {kind}: choose from {', '.join(SEVERAL)}")
    if column not in cohort.attributes:
        there = ", ".join(sorted(cohort.attributes)) or "none here"
        raise InputError(f"{cohort.name}: no column '{column}' that holds the class; choose with --label from {there}")
    entries, code = np.unique(cohort.attributes[column], return_inverse=True)
    lists = [{part.strip() for part in entry.split("|")} - {"", UNKNOWN} for entry in entries.tolist()]
    names = _names(where, kind, sorted(set().union(*lists), key=by_number), names)
    label = np.array([_label(where, kind, found, names) for found in lists], np.int16)[code]
    made = take(replace(cohort, label=label), label >= 0)
    made = replace(made, asked=Asked(kind, names, _strata(made, names) if kind == "multi-label" else ()))
    _check(where, made)
    rest = {k: v for k, v in made.attributes.items() if k != column and _names_subgroups(v, made)}
    missing = int((label < 0).sum())
    left_out = f" ({missing} of {len(label)} images have none of them and are left out)" if missing else ""
    return replace(made, attributes=rest, contrast=f"{column}: {_words(kind, names)}{left_out}")


def _names(where: str, kind: str, values: list[str], named: Sequence[str]) -> tuple[str, ...]:
    """The values that are asked about, in order."""
    there = ", ".join(values[:20]) + (", ..." if len(values) > 20 else "")
    for name in named:
        if name not in values:
            raise InputError(
                f"{where}: no image has the value '{name}'; choose with --classes from {there or 'nothing'}"
            )
        if list(named).count(name) > 1:
            raise InputError(f"{where}: '{name}' is named twice; name each once in --classes")
    names = tuple(named) or tuple(values)
    if kind == "ordinal" and not named:
        _check_grades(where, values, there)
    least = 1 if kind == "multi-label" else 2
    if not least <= len(names) <= MOST[kind]:
        asked = f"{len(names)} asked about, of the values {there or 'none'}"
        raise InputError(f"{where}: {asked}; {kind} needs {least} to {MOST[kind]}, name them with --classes")
    return names


def _check_grades(where: str, values: list[str], there: str) -> None:
    """Grades that nobody put in order are whole numbers, and none between the lowest and the highest is missing."""
    grades = [by_number(value)[0] for value in values]
    if not all(math.isfinite(grade) and grade == int(grade) for grade in grades):
        raise InputError(
            f"{where}: values are no grades in a known order; name them from low to high with --classes: {there}"
        )
    gaps = sorted(set(range(int(grades[0]), int(grades[-1]) + 1)) - {int(grade) for grade in grades}) if grades else []
    if gaps:
        hint = f"if that is meant, name those there are with --classes {' '.join(values[:20])}"
        raise InputError(
            f"{where}: no image has grade {', '.join(map(str, gaps[:5]))}, though some have less and more; {hint}"
        )


def _label(where: str, kind: str, found: set[str], names: tuple[str, ...]) -> int:
    """Code of an entry's values, -1 where it has none that is asked about, or of findings none at all."""
    places = [place for place, name in enumerate(names) if name in found]
    if kind == "multi-label":
        return sum(2**place for place in places) if found else -1
    if len(places) > 1:
        several = ", ".join(names[place] for place in places[:3])
        raise InputError(f"{where}: an image has {several} at once; use --task multi-label")
    return places[0] if places else -1


def _strata(cohort: Cohort, names: tuple[str, ...]) -> tuple[int, ...]:
    """Stratum of every code of findings: none, or the rarest one among the training images; empty ones are no strata."""
    table = Asked("multi-label", names).table
    label = cohort.label[cohort.split == "train"]
    order = np.argsort(table[label].sum(0), kind="stable")
    rarest = np.where(table.any(1), 1 + order[table[:, order].argmax(1)], 0)
    there = np.unique(rarest[label])
    return tuple(np.where(np.isin(rarest, there), np.searchsorted(there, rarest), 0).tolist())


def _check(where: str, cohort: Cohort) -> None:
    """Every question is answered with yes and with no where a model is trained and where it is judged."""
    asked = cohort.asked
    for split, fewest in FEWEST.items():
        label = cohort.label[cohort.split == split]
        by_class = np.stack([label == code for code in range(len(asked.names))], 1)
        told = asked.answers(label).astype(bool) if asked.kind == "multi-label" else by_class
        for name, have in zip(asked.names, told.T, strict=True):
            if min(have.sum(), (~have).sum()) < fewest:
                found = f"{have.sum()} of the {len(have)} images of split '{split}' are '{name}'"
                hint = "leave it out with --classes, or split anew"
                raise InputError(
                    f"{where}: {found}, but {fewest} that are and {fewest} that are not are needed; {hint}"
                )


def _names_subgroups(column: np.ndarray, cohort: Cohort) -> bool:
    """Whether the images of some value of a column (N,) answer every question with yes and with no."""
    return any(not cohort.asked.undecided(cohort.label[column == value]) for value in np.unique(column))


def _words(kind: str, names: tuple[str, ...]) -> str:
    if kind == "ordinal":
        return f"grades {' < '.join(names)}, each or higher against lower"
    listed = ", ".join(names)
    return f"{listed}, each against the rest" if kind == "multi-class" else f"{listed}, each with against without"
