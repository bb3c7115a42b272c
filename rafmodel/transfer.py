"""The cohort that an encoder is pre-trained on where that is another than the study's own."""

from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import numpy as np
from jax import Array

from rafmodel import cohort as cohorts
from rafmodel import phantoms
from rafmodel.cohort import Cohort
from rafmodel.errors import InputError
from rafmodel.on_disk import OnDisk


def named(text: str, like: Cohort | None = None) -> Cohort:
    """The cohort ``PLACE``, or ``PLACE@COLUMN`` where its class is in another column than usual.

    PLACE is a synthetic cohort, a file, a folder or a name, as ``cohort.load`` finds it; larger images are averaged.  Images of
    as many axes and channels as those of ``like`` are brought to their sides.  Raises InputError as ``cohort.load``.
    """
    found = _loaded(text, None if like is None else max(like.image.shape[1:-1]))
    return found if like is None else resized(found, like.image.shape[1:])


@cache
def _loaded(text: str, size: int | None) -> Cohort:
    """Once for all designs of a grid."""
    place, _, column = text.partition("@")
    if not column and not Path(place).exists():
        with suppress(InputError):
            return phantoms.named(place, jax.random.key(0), size)
    return cohorts.load(place, label=column or None, size=size)


def resized(cohort: Cohort, shape: tuple[int, ...]) -> Cohort:
    """The cohort with images of ``shape`` (*space, C), linear between pixels and smoothed where they shrink.

    As it is where sides are equal, or where axes or channels are not, which no resampling mends.  Masks and spacing are dropped.
    """
    here = cohort.image.shape[1:]
    if here == shape or len(here) != len(shape) or here[-1] != shape[-1]:
        return cohort
    parts = np.array_split(np.asarray(cohorts.pixels(cohort)), -(-len(cohort.label) // 256))
    images = [np.asarray(jax.image.resize(part, (len(part), *shape), "linear")).clip(0, 1) for part in parts]
    return replace(cohort, image=np.concatenate(images), mask=None, spacing=None)


def shown(key: Array, cohort: Cohort, most: int) -> tuple[np.ndarray | OnDisk, np.ndarray, np.ndarray]:
    """Training images (n, *space, C) in random order, at most so many, their labels (n,), and all labels of that part."""
    there = cohorts.part(cohort, "train")
    seen = cohorts.take(there, np.asarray(jax.random.permutation(jax.random.fold_in(key, 1), len(there.label)))[:most])
    return cohorts.pixels(seen), seen.label, there.label
