"""What a design learns its labels from: which images, which labels are wrong, what each weighs, how often it is seen."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import cohort as cohorts
from rafmodel.asked import BINARY, Asked
from rafmodel.cohort import Cohort
from rafmodel.design import Design, n_by_class
from rafmodel.errors import InputError


class Lesson(NamedTuple):
    """Labelled images as the learner gets them.

    cohort  n images, with their true classes
    label   (n,) codes of the cohort's ``asked`` as given, some of them wrong
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

    Raises InputError where these all answer a question alike.
    """
    asked = source.asked
    labelled = cohorts.take(source, drawn(key, asked.strata(source.label), n_by_class(design, source.label, asked)))
    label = flipped(jax.random.fold_in(key, 1), labelled.label, flip_rate(design, labelled), asked)
    if alike := asked.undecided(label):
        told = f"answer '{alike[0]}' alike" if asked.several else "are of one class"
        raise InputError(f"design '{design.name}': all {len(label)} labels as given {told}; ask for more of them")
    # an image that weighs more is drawn more often where the loss takes batches
    balance = design.weighting if design.probe == "finetuned" and design.resampling == "none" else design.resampling
    if balance != "none":
        return Lesson(
            labelled, label, oversampled(jax.random.fold_in(key, 3), cell(design, balance, labelled, label)), None
        )
    weight = None if design.weighting == "none" else balancing(cell(design, design.weighting, labelled, label))
    return Lesson(labelled, label, np.arange(len(label)), weight)


def drawn(key: Array, label: np.ndarray, count: tuple[int, ...]) -> np.ndarray:
    """Indices of as many controls and cases, or of as many images of each stratum, drawn at random without repeats."""
    order = np.asarray(jax.random.permutation(key, len(label)))
    return np.concatenate([order[label[order] == c][:n] for c, n in enumerate(count)])


def flip_rate(design: Design, labelled: Cohort) -> np.ndarray:
    """Chance (n,) that each image's label is wrong: by its class, and in one subgroup only where the design says so."""
    of_class = [design.label_flip if rate is None else rate for rate in (design.flip_control, design.flip_case)]
    rate = np.array(of_class)[(labelled.label > 0).astype(int)]  # of several classes both are ``label_flip``
    return rate * (subgroup(design, labelled) == design.flip_in) if design.flip_in else rate


def flipped(key: Array, label: np.ndarray, rate: np.ndarray | float, asked: Asked = BINARY) -> np.ndarray:
    """Labels of which each is wrong with a chance ``rate``: any other class as likely as another; of findings each one apart."""
    n, k = len(label), len(asked.names)
    if asked.kind == "multi-label":
        chance = jnp.broadcast_to(jnp.asarray(rate), (n,))
        wrong = np.asarray(jax.random.bernoulli(key, chance[:, None], (n, k)))
        return (label ^ wrong @ 2 ** np.arange(k)).astype(label.dtype)
    further = 1 + np.asarray(jax.random.randint(jax.random.fold_in(key, 1), (n,), 0, k - 1, jnp.int32))
    wrong = np.asarray(jax.random.bernoulli(key, rate, (n,)))
    return np.where(wrong, (label + further) % k, label).astype(label.dtype)


def subgroup(design: Design, labelled: Cohort) -> np.ndarray:
    """The subgroup (n,) of each image, a text.  Raises InputError where the cohort has no such attribute."""
    names, code = cohorts.groups(labelled, design.group)
    return np.array(names)[code] if names else np.full(len(code), "")


def cell(design: Design, balance: str, labelled: Cohort, label: np.ndarray) -> np.ndarray:
    """What is to count alike (n,): the classes, or each class in each subgroup, as numbers from 0."""
    who = subgroup(design, labelled) if balance == "group" else np.full(len(label), "")
    stratum = labelled.asked.strata(label).astype(str)
    return np.unique(np.char.add(np.char.add(stratum, " "), who.astype(str)), return_inverse=True)[1]


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
