"""Several cohorts as one: loaded, brought to one size, one spacing and one scale of grey values, and what was done to each."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import jax
import numpy as np
from jax import Array

from rafmodel import cohort as cohorts
from rafmodel import harmonise, selection, sources
from rafmodel.cohort import UNKNOWN, Cohort
from rafmodel.errors import InputError
from rafmodel.recipe import Ingredient, Recipe

ORIGIN, COHORT = "origin", "cohort"  # columns that are added: where an image is from
_SHARES, _PHANTOM = (
    1000,
    2000,
)  # what is folded into the key, beside the number of a cohort, for its share and for its phantom


def size(cohort: Cohort) -> dict[str, int]:
    """Images and patients."""
    return {"images": len(cohort.label), "patients": len(set(cohort.patient.tolist()))}


def home(one: Ingredient) -> str:
    """What patients are named after, so that those of two parts of one cohort stay the same patients."""
    return one.source or one.phantom or ""


def gathered(recipe: Recipe, key: Array) -> tuple[Cohort, list[dict[str, Any]]]:
    """All cohorts as one, on one size and scale, with the column ``origin``; and what each is and what was done to it.

    A phantom is drawn from the key too, else whoever has rafmodel could draw its hidden part again; parts of one phantom are
    of one draw.
    """
    first = [[home(other) for other in recipe.cohort].index(home(one)) for one in recipe.cohort]
    draws = [jax.random.fold_in(key, _PHANTOM + i) for i in first]
    loaded = [
        _ingredient(one, jax.random.fold_in(key, i), draw, recipe)
        for i, (one, draw) in enumerate(zip(recipe.cohort, draws, strict=True))
    ]
    _check_together(recipe, loaded)
    prints = [cohorts.fingerprint(cohort) for cohort in loaded]  # as loaded and sized
    named = [one.name or cohort.name for one, cohort in zip(recipe.cohort, loaded, strict=True)]
    loaded = _to_shares(recipe, loaded, key)
    if len({cohort.image.shape[-1] for cohort in loaded}) > 1:
        loaded = [replace(cohort, image=harmonise.grey(cohort.image)) for cohort in loaded]
    images, changes = harmonise.one_scale([cohort.image for cohort in loaded], recipe.harmonise)
    loaded = [replace(cohort, image=image) for cohort, image in zip(loaded, images, strict=True)]
    told = []
    for one, cohort, name, change, found in zip(recipe.cohort, loaded, named, changes, prints, strict=True):
        facts = {"name": name, "asked": {k: v for k, v in asdict(one).items() if v}, "source": cohort.source}
        facts |= {"licence": cohort.licence, "attribution": one.attribution or "", "contrast": cohort.contrast}
        facts |= {"fingerprint": found, **size(cohort)}
        facts |= {"harmonise": recipe.harmonise, "grey_values": change, "spacing_mm": recipe.spacing}
        told.append(facts)
    return _together(recipe, loaded, named), told


def _ingredient(one: Ingredient, key: Array, draw: Array, recipe: Recipe) -> Cohort:
    """One cohort, its images of the asked kind and size, its attributes renamed; ``draw`` is the key of a phantom."""
    cohort = _loaded(one, draw)
    rows = np.arange(len(cohort.label))
    origin = np.array([f"{one.name or cohort.name}:{i}" for i in rows])
    for attribute, value in one.only.items():
        rows = rows[column(cohort, attribute)[rows] == value]
        if not len(rows):
            there = ", ".join(np.unique(column(cohort, attribute)).tolist()[:20])
            raise InputError(f"{cohort.name}: no image has {attribute} '{value}'; choose from {there}")
    rows = rows[np.isin(cohort.patient[rows], _some(key, cohort.patient[rows], one.patients))]
    cohort, origin = cohorts.take(cohort, rows), origin[rows]
    renamed = {new: column(cohort, old) for new, old in one.rename.items()}
    gone = {*one.rename.values(), *(name for name in one.drop if len(column(cohort, name)))}
    columns = {name: values for name, values in cohort.attributes.items() if name not in gone} | renamed
    columns |= {name: np.full(len(rows), value) for name, value in one.set.items()}
    cohort = _sized(replace(cohort, licence=one.licence or cohort.licence), recipe)
    patient = np.array([f"{home(one)}/{name}" for name in cohort.patient])
    return replace(cohort, patient=patient, attributes={**columns, ORIGIN: origin})


def _loaded(one: Ingredient, draw: Array) -> Cohort:
    if one.source is not None:
        classes = {"label": one.label, "positive": one.positive or None, "negative": one.negative or None}
        return cohorts.load(one.source, **classes, keep=one.keep)
    from rafmodel import phantoms

    return phantoms.named(home(one), draw, None)


def column(cohort: Cohort, attribute: str) -> np.ndarray:
    """An attribute's value for each image, (N,).  Raises InputError, naming those there are."""
    if attribute not in cohort.attributes:
        there = ", ".join(sorted(cohort.attributes)) or "none"
        raise InputError(f"{cohort.name}: no attribute '{attribute}'; choose from {there}, or name it in `keep`")
    return cohort.attributes[attribute]


def _some(key: Array, patient: np.ndarray, most: int | None) -> np.ndarray:
    """At most so many patients, drawn at random."""
    names = np.unique(patient)
    return names if most is None else names[np.argsort(selection.rank(key, len(names)))[:most]]


def _sized(cohort: Cohort, recipe: Recipe) -> Cohort:
    """Images as float32 and masks with ``size`` pixels a side, of one length where the recipe asks for a spacing."""
    if recipe.spacing is None:
        mask = None if cohort.mask is None else sources.thin(cohort.mask, recipe.size)
        return replace(cohort, image=sources.shrink(cohort.image, recipe.size), mask=mask)
    sides = [recipe.size] * (cohort.image.ndim - 2)
    spacing = cohort.spacing
    if spacing is None:
        raise InputError(f"{cohort.name}: states no spacing, so {recipe.spacing} mm cannot be had; leave `spacing` out")
    image, mask = harmonise.respaced(cohort.image, cohort.mask, spacing, millimetres=recipe.spacing, sides=sides)
    return replace(cohort, image=image, mask=mask, spacing=np.full_like(spacing, recipe.spacing))


def _check_together(recipe: Recipe, loaded: Sequence[Cohort]) -> None:
    """Raises InputError where cohorts cannot be one: other shapes, masks or classes, or the same image twice."""
    shapes = {cohort.image.shape[1:-1] for cohort in loaded}
    if len(shapes) > 1:
        told = ", ".join(f"{c.name} {' x '.join(map(str, c.image.shape[1:-1]))}" for c in loaded)
        raise InputError(f"images differ in shape ({told}); choose a size that all of them reach")
    if len({cohort.mask is None for cohort in loaded}) > 1:
        without = next(cohort.name for cohort in loaded if cohort.mask is None)
        raise InputError(f"{without}: has no masks, but other cohorts of the recipe do; leave one of them out")
    if len({bool((cohort.label < 0).any()) for cohort in loaded}) > 1:
        without = next(cohort.name for cohort in loaded if (cohort.label < 0).any())
        raise InputError(f"{without}: has no classes, but other cohorts of the recipe do; leave one of them out")
    seen: dict[tuple, int] = {}
    for i, (one, cohort) in enumerate(zip(recipe.cohort, loaded, strict=True)):
        marks = {(home(one), p, x.tobytes()) for p, x in zip(cohort.patient.tolist(), cohort.image, strict=True)}
        for mark in marks & seen.keys():
            raise InputError(f"[[cohort]] {seen[mark] + 1} and {i + 1}: both take an image of {mark[1]}; take it once")
        seen |= dict.fromkeys(marks, i)


def _to_shares(recipe: Recipe, loaded: Sequence[Cohort], key: Array) -> list[Cohort]:
    """Cohorts cut to whole patients so that each has its share of all patients, as many as can be."""
    if recipe.cohort[0].share is None:
        return list(loaded)
    shares = [one.share or 0.0 for one in recipe.cohort]
    total = min(len(set(c.patient.tolist())) / share for c, share in zip(loaded, shares, strict=True))
    cut = []
    for i, (cohort, n) in enumerate(zip(loaded, selection.counts(shares, total), strict=True)):
        kept = _some(jax.random.fold_in(key, _SHARES + i), cohort.patient, int(n))
        cut.append(cohorts.take(cohort, np.isin(cohort.patient, kept)))
    return cut


def _together(recipe: Recipe, loaded: Sequence[Cohort], named: Sequence[str]) -> Cohort:
    """One cohort of several; what one of them does not tell is unknown."""
    names = sorted({name for cohort in loaded for name in cohort.attributes})
    told = {n: [c.attributes.get(n, np.full(len(c.label), UNKNOWN)) for c in loaded] for n in names}
    columns = {name: np.concatenate(parts) for name, parts in told.items()}
    if len(loaded) > 1:
        columns[COHORT] = np.repeat(named, [len(c.label) for c in loaded])
    rows = {k: np.concatenate([getattr(c, k) for c in loaded]) for k in ("image", "label", "patient", "split")}
    masks = [c.mask for c in loaded if c.mask is not None]
    mask = np.concatenate(masks) if masks else None
    words: dict[str, Any] = {
        k: "; ".join(dict.fromkeys(getattr(c, k) for c in loaded)) for k in ("source", "licence", "contrast")
    }
    spacing = [s for s in (c.spacing for c in loaded) if s is not None]
    return Cohort(
        **rows,
        attributes=columns,
        name=recipe.name,
        **words,
        mask=mask,
        spacing=np.concatenate(spacing) if len(spacing) == len(loaded) else None,
        oriented=all(c.oriented for c in loaded),
        notes=tuple(dict.fromkeys(note for c in loaded for note in c.notes)),
    )
