"""What a design learns its labels from: which images, which labels are wrong, what each weighs, how often it is seen."""

from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from rafmodel import cohort as cohorts
from rafmodel.cohort import Cohort
from rafmodel.design import Design, n_by_class
from rafmodel.errors import InputError


class Lesson(NamedTuple):
    """Labelled images as the learner gets them.

    cohort  n images, with their true classes
    label   (n,) in {0, 1} as given, some of them wrong
    row     (m,) which images are learned from: each once, or some several times where they are re-sampled
    weight  (m,) of each of these in the loss, mean 1; None: all alike
    """

    cohort: Cohort
    label: np.ndarray
    row: np.ndarray
    weight: np.ndarray | None

    @property
    def learned(self) -> Cohort:
        """The images (m) to learn from, with the labels as given."""
        return replace(cohorts.take(self.cohort, self.row), label=self.label[self.row])


def lesson(key: Array, source: Cohort, design: Design) -> Lesson:
    """The labelled images of a design, drawn from a source; what is wrong and what is balanced goes by the labels as given.

    Raises InputError where these are all of one class.
    """
    labelled = cohorts.take(source, drawn(key, source.label, n_by_class(design, source.label)))
    label = flipped(jax.random.fold_in(key, 1), labelled.label, flip_rate(design, labelled))
    if len(np.unique(label)) < 2:
        raise InputError(
            f"design '{design.name}': all {len(label)} labels as given are of one class; ask for more of them"
        )
    # an image that weighs more is drawn more often where the loss takes batches
    balance = design.weighting if design.probe == "finetuned" and design.resampling == "none" else design.resampling
    if balance != "none":
        return Lesson(
            labelled, label, oversampled(jax.random.fold_in(key, 3), cell(design, balance, labelled, label)), None
        )
    weight = None if design.weighting == "none" else balancing(cell(design, design.weighting, labelled, label))
    return Lesson(labelled, label, np.arange(len(label)), weight)


def drawn(key: Array, label: np.ndarray, count: tuple[int, int]) -> np.ndarray:
    """Indices of as many controls and cases, drawn at random without repeats."""
    order = np.asarray(jax.random.permutation(key, len(label)))
    return np.concatenate([order[label[order] == c][: count[c]] for c in (0, 1)])


def flip_rate(design: Design, labelled: Cohort) -> np.ndarray:
    """Chance (n,) that each image's label is wrong: by its class, and in one subgroup only where the design says so."""
    of_class = [design.label_flip if rate is None else rate for rate in (design.flip_control, design.flip_case)]
    rate = np.array(of_class)[labelled.label]
    return rate * (subgroup(design, labelled) == design.flip_in) if design.flip_in else rate


def flipped(key: Array, label: np.ndarray, rate: np.ndarray | float) -> np.ndarray:
    """Labels of which each is wrong with a chance ``rate``."""
    return np.where(np.asarray(jax.random.bernoulli(key, rate, (len(label),))), 1 - label, label)


def subgroup(design: Design, labelled: Cohort) -> np.ndarray:
    """The subgroup (n,) of each image, a text.  Raises InputError where the cohort has no such attribute."""
    names, code = cohorts.groups(labelled, design.group)
    return np.array(names)[code] if names else np.full(len(code), "")


def cell(design: Design, balance: str, labelled: Cohort, label: np.ndarray) -> np.ndarray:
    """What is to count alike (n,): the classes, or each class in each subgroup, as numbers from 0."""
    who = subgroup(design, labelled) if balance == "group" else np.full(len(label), "")
    return np.unique(np.char.add(np.char.add(label.astype(str), " "), who.astype(str)), return_inverse=True)[1]


def balancing(cell: np.ndarray) -> np.ndarray:
    """Weights (n,), mean 1, that give every cell the same total.  Idrissi et al. 2022: re-weighting."""
    count = np.bincount(cell)
    return (len(cell) / len(count) / count)[cell]


def oversampled(key: Array, cell: np.ndarray) -> np.ndarray:
    """Rows (m,): every image, and images of smaller cells again, drawn at random, until each cell has as many as the largest."""
    count = np.bincount(cell)
    keys = jax.random.split(key, len(count))
    more = [np.asarray(jax.random.randint(k, (count.max() - n,), 0, n)) for k, n in zip(keys, count, strict=True)]
    again = [np.flatnonzero(cell == c)[extra] for c, extra in enumerate(more)]
    return np.concatenate([np.arange(len(cell)), *again])
