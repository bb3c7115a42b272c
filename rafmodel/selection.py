"""Which patients and images a benchmark takes: quotas of classes, subgroups and challenging cases, and the dial of distance.

Everything is drawn from a key, once for each image or patient, so that what is chosen at one degree is kept at the next.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from rafmodel import visual
from rafmodel.errors import InputError

PLAIN, RARE = "none", "rare"  # kinds of images: of one that is no challenging case, and of one whose disease is rare


class Who(NamedTuple):
    """What quotas are about, image by image, (N,) each: label (-1 where there is none), subgroup, kind of challenge, patient."""

    label: np.ndarray
    group: np.ndarray
    kind: np.ndarray
    patient: np.ndarray

    def take(self, rows: np.ndarray) -> "Who":
        """The images of some rows."""
        return Who(*(column[rows] for column in self))


def counts(shares: Sequence[float] | np.ndarray, total: float) -> np.ndarray:
    """Whole numbers within one of ``share · total`` that add up as the shares do: differences of rounded sums."""
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(shares, float) * total)])
    return np.diff(np.floor(sums + 0.5 + 1e-9)).astype(int)


def rank(key: Array, n: int) -> np.ndarray:
    """A random place for each of n, a permutation; drawn by numpy, which compiles nothing for a new n."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel()).permutation(n)


# ---- quotas of images


def apportioned(
    key: Array,
    who: Who,
    *,
    kinds: Mapping[str, float],
    prevalence: float | None = None,
    mix: Mapping[str, float] | None = None,
) -> np.ndarray:
    """Rows, in order, of the most images that have the asked shares of kinds, classes and subgroups.

    kinds       share of each kind of challenging case among the images; the rest are plain
    prevalence  share of cases, the same in every subgroup; None: as it is
    mix         share of each subgroup; images of others are left out; None: as it is

    Every kind has the asked prevalence and mix too, lest class or subgroup can be told from the quality of an image; only rare
    cases keep the classes and subgroups that they come with, and plain images make up for it.
    Raises InputError where no set of images can have these shares.
    """
    wanted = _cells(who, kinds, prevalence, mix)
    rows = {cell: np.flatnonzero(_in(who, cell)) for cell in wanted}
    wanted = {cell: share for cell, share in wanted.items() if share > 1e-12}
    missing = [cell for cell in wanted if not len(rows[cell])]
    if missing:
        raise InputError(f"no image is {_told(missing[0])}, but {wanted[missing[0]]:.1%} are asked for; ask for less")
    total = min((len(rows[cell]) + 0.49) / share for cell, share in wanted.items())
    place = rank(key, len(who.label))
    taken = counts(list(wanted.values()), total)
    kept = [rows[c][np.argsort(place[rows[c]])][:n] for c, n in zip(wanted, taken, strict=True)]
    return np.sort(np.concatenate(kept))


Cell = tuple[str, str, int]  # kind, subgroup, label


def _in(who: Who, cell: Cell) -> np.ndarray:
    kind, group, label = cell
    return (who.kind == kind) & (who.group == group) & (who.label == label)


def _told(cell: Cell) -> str:
    kind, group, label = cell
    words = [{0: "a control", 1: "a case"}.get(label, "without a class")]
    words += [f"of subgroup '{group}'"] if group else []
    return " ".join([*words, f"and challenging ({kind})" if kind != PLAIN else "and plain"])


def _cells(
    who: Who, kinds: Mapping[str, float], prevalence: float | None, mix: Mapping[str, float] | None
) -> dict[Cell, float]:
    """Share of every cell, kind by kind, so that rounding stays within a kind."""
    groups = list(mix) if mix else sorted(set(who.group.tolist()))
    labels = sorted(set(who.label.tolist()) | ({0, 1} if prevalence is not None else set()))
    there = np.isin(who.group, groups)
    goal = {(g, c): _goal(who, there, g, c, prevalence, mix) for g in groups for c in labels}
    cells = {}
    for kind, share in kinds.items():
        here = there & (who.kind == kind)
        if share > 0 and not here.any():
            raise InputError(f"no image is challenging ({kind}), but a share of {share:g} is asked for; leave it out")
        asked = (None, None) if kind == RARE else (prevalence, mix)
        for g, c in goal:
            part = share * _goal(who, here, g, c, *asked)
            cells[kind, g, c], goal[g, c] = part, goal[g, c] - part
    short = min(goal, key=lambda cell: goal[cell])
    if goal[short] < -1e-9:
        raise InputError(f"challenging cases alone have more than the share of images {_told((PLAIN, *short))[:-10]}")
    return {**{(PLAIN, g, c): max(share, 0.0) for (g, c), share in goal.items()}, **cells}


def _goal(
    who: Who, there: np.ndarray, group: str, label: int, prevalence: float | None, mix: Mapping[str, float] | None
) -> float:
    """Share that one subgroup and class shall have among some images (N,), or has where nothing is asked."""
    here = there & (who.group == group)
    of_group = mix[group] if mix else here.sum() / max(there.sum(), 1)
    if prevalence is not None:
        return of_group * {0: 1 - prevalence, 1: prevalence}.get(label, 0.0)
    some = here if here.any() else there  # so that a subgroup that is asked for and is not there is told
    return of_group * (some & (who.label == label)).sum() / max(some.sum(), 1)


# ---- patients and parts


class Parted(NamedTuple):
    """Part of each image (N,), and of each patient (P,) its name, distance from the centre of the pool, and part."""

    split: np.ndarray
    patient: np.ndarray
    distance: np.ndarray
    part: np.ndarray


def parted(key: Array, who: Who, coordinates: np.ndarray, *, degree: float, shares: Sequence[float]) -> Parted:
    """Patients in train, val and test, alike in class, subgroup and challenge; the test part as far out as ``degree`` says.

    coordinates  (N, k) whitened over all images; a patient's distance is the mean squared one of the images to the centre
    degree       share of the test patients who are the farthest ones of their class, subgroup and challenge; the others are drawn
    shares       of patients in train, val, test
    """
    names, distance = visual.by_patient((coordinates**2).sum(1), who.patient)
    stratum = _strata(who)
    size = np.bincount(stratum)
    n_test, n_val = counts(size * shares[2], 1), counts(size * shares[1], 1)
    n_far = counts(n_test * degree, 1)
    place, part = rank(key, len(names)), np.full(len(names), "train", "U5")
    for s in range(len(size)):
        members = np.flatnonzero(stratum == s)
        outward = members[np.lexsort((place[members], -distance[members]))]
        far, rest = outward[: n_far[s]], outward[n_far[s] :]
        drawn = rest[np.argsort(place[rest])]
        part[far] = "test"
        part[drawn[: n_test[s] - n_far[s]]] = "test"
        part[drawn[n_test[s] - n_far[s] :][: n_val[s]]] = "val"
    return Parted(part[np.searchsorted(names, who.patient)], names, distance, part)


def _strata(who: Who) -> np.ndarray:
    """Stratum of each patient, in sorted order of names: any case, first subgroup, any challenge."""
    names, first, code = np.unique(who.patient, return_index=True, return_inverse=True)
    case, challenged = np.full(len(names), -1), np.zeros(len(names), int)
    np.maximum.at(case, code, who.label)
    kinds, kind = np.unique(np.where(who.kind == PLAIN, "", who.kind), return_inverse=True)
    del kinds
    np.maximum.at(challenged, code, kind)
    _, group = np.unique(who.group, return_inverse=True)
    return np.unique(np.stack([case, group[first], challenged], 1), axis=0, return_inverse=True)[1].reshape(-1)


def measured(coordinates: np.ndarray, patient: np.ndarray, split: np.ndarray) -> dict[str, float]:
    """How far the test part lies from the training part, patient by patient, in given coordinates (N, k).

    separation       chance that a test patient lies farther from the centre than a training one: 0.5 at random, 1 outside
    energy_distance  between patients' mean coordinates (Székely and Rizzo 2013); and its mean and 95 % quantile if the same
                     patients had been dealt out at random, for it is above 0 in any sample
    """
    squared = (coordinates**2).sum(1)
    of = {part: split == part for part in ("train", "test")}
    far = {part: visual.by_patient(squared[rows], patient[rows])[1] for part, rows in of.items()}
    mean = {part: visual.by_patient(coordinates[rows], patient[rows])[1] for part, rows in of.items()}
    expected, extreme = visual.energy_at_random(mean["test"], mean["train"])
    return {
        "separation": visual.separation(far["test"], far["train"]),
        "energy_distance": visual.energy_distance(mean["test"], mean["train"]),
        "energy_distance_at_random": expected,
        "energy_distance_at_random_95": extreme,
    }
