"""A benchmark cohort made from a recipe: gathered, harmonised, balanced, split by patient, made harder, and measured.

One pass, in this order: every cohort is loaded, brought to one size and one scale of grey values; patients are split with the
test part as far out as the dial says; each part is cut to the asked prevalence, mix and challenging cases; images are altered.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import cohort as cohorts
from rafmodel import selection, visual
from rafmodel.cohort import Cohort
from rafmodel.errors import InputError
from rafmodel.gather import ORIGIN, column, gathered, size
from rafmodel.recipe import PARTS, Alteration, Recipe
from rafmodel.selection import PLAIN, Who
from rafmodel.variability import Variability, named

CHALLENGE = "challenge"  # column: artifact, quality, rare or none


class Made(NamedTuple):
    """A benchmark: its cohort, with columns challenge and origin, and all that was decided and measured on the way.

    facts    sources, harmonisation, counts after each step, distances
    records  for every altered image: origin, step, variability, severity, key
    """

    cohort: Cohort
    facts: dict[str, Any]
    records: list[dict[str, Any]]


class _Keys(NamedTuple):
    """One key for each purpose, so that what is asked of one leaves the others as they were."""

    draw: Array
    split: Array
    cut: Array
    challenge: Array
    alter: Array


def make(recipe: Recipe, key: Array) -> Made:
    """The benchmark of a recipe; the same recipe and key give the same pixels.

    Raises InputError for a cohort that is not there or cannot have what is asked.
    """
    keys = _Keys(*jax.random.split(key, 5))
    whole, sources = gathered(recipe, keys.draw)
    who, kinds = _who(recipe, whole), _chosen(recipe)
    balance = partial(_balanced, keys.cut, recipe, kinds)
    rows = balance(who, np.arange(len(whole.label)), "pool")
    pool, who = cohorts.take(whole, rows), who.take(rows)
    coordinates = _coordinates(pool, recipe.out_of_distribution.space)
    shares = [getattr(recipe.split, part) for part in PARTS]
    degree = recipe.out_of_distribution.degree
    split = selection.parted(keys.split, who, coordinates, degree=degree, shares=shares).split
    kept = np.sort(np.concatenate([balance(who, np.flatnonzero(split == part), part) for part in PARTS]))
    pool = cohorts.take(replace(pool, split=split), kept)
    cohort, records = _altered(recipe, keys, _quantised(replace(pool, attributes=_with_kind(pool, who.kind[kept]))))
    facts = {
        "sources": sources,
        "counts": {"gathered": size(whole), "balanced": size(cohorts.take(whole, rows)), "benchmark": size(pool)},
        "out_of_distribution": _distances(recipe, cohort, coordinates[kept], pool),
        "parts": {part: _reached(cohorts.part(cohort, part), recipe.mix.attribute) for part in PARTS},
    }
    return Made(replace(cohort, name=recipe.name), facts, records)


def root(key: int | str) -> Array:
    """A jax key from a number or a text, all of whose digits count."""
    digest = hashlib.sha256(str(key).encode()).digest()
    return jax.random.wrap_key_data(jnp.asarray(np.frombuffer(digest[:8], np.uint32)), impl="threefry2x32")


# ---- quotas


def _chosen(recipe: Recipe) -> dict[str, float]:
    """Share of each kind of challenging case that is chosen, not made."""
    shares: dict[str, float] = {}
    for one in recipe.challenging:
        if one.attribute is not None:
            shares[one.kind] = shares.get(one.kind, 0.0) + one.share
    return shares


def _who(recipe: Recipe, pool: Cohort) -> Who:
    """What quotas are about; an image that is challenging in two ways counts as the first."""
    kind = np.full(len(pool.label), PLAIN, "U8")
    for one in reversed(recipe.challenging):
        if one.attribute is not None:
            wanted = set(one.values)
            entries = column(pool, one.attribute)
            kind[[bool(wanted & {entry, *entry.split("|")}) for entry in entries.tolist()]] = one.kind
    group = column(pool, recipe.mix.attribute) if recipe.mix.attribute else np.full(len(pool.label), "")
    if recipe.mix.prevalence is not None and (pool.label < 0).any():
        raise InputError(f"{pool.name}: [mix] prevalence {recipe.mix.prevalence}: its cohorts have no classes")
    for value in recipe.mix.shares:
        if value not in group:
            there = ", ".join(np.unique(group).tolist()[:20])
            raise InputError(f"{pool.name}: [mix] no image has {recipe.mix.attribute} '{value}'; choose from {there}")
    return Who(pool.label.astype(int), group, kind, pool.patient)


def _balanced(key: Array, recipe: Recipe, kinds: dict[str, float], who: Who, rows: np.ndarray, part: str) -> np.ndarray:
    """Those of some rows that have the asked shares; all of them where nothing is asked."""
    mix = recipe.mix
    if not len(rows) or (mix.prevalence is None and not mix.shares and not kinds):
        return rows
    try:
        asked = {"kinds": kinds, "prevalence": mix.prevalence, "mix": mix.shares or None}
        return rows[selection.apportioned(key, who.take(rows), **asked)]
    except InputError as problem:
        raise InputError(f"{recipe.name}, {part}: {problem}") from None


def _with_kind(pool: Cohort, kind: np.ndarray) -> dict[str, np.ndarray]:
    return {**pool.attributes, CHALLENGE: kind}


# ---- alterations


def _altered(recipe: Recipe, keys: _Keys, cohort: Cohort) -> tuple[Cohort, list[dict[str, Any]]]:
    """The cohort with challenging cases made and alterations done, and a record of each."""
    records: list[dict[str, Any]] = []
    plan = [(i, one) for i, one in enumerate(recipe.challenging) if one.variability]
    kind = cohort.attributes[CHALLENGE].astype("U8")
    law = _drawn_images(keys.challenge, recipe, cohort, kind)
    for i, one in plan:
        kind[law[:, 0] == i] = one.kind
        for v, name in enumerate(one.variability):
            rows = np.flatnonzero((law[:, 0] == i) & (law[:, 1] == v))
            severity = named(name).levels[one.level - 1]
            step = f"challenging {i + 1}"
            cohort = _step(jax.random.fold_in(keys.challenge, 100 + i), step, name, severity, cohort, rows, records)
    cohort = replace(cohort, attributes={**cohort.attributes, CHALLENGE: kind})
    for i, one in enumerate(recipe.alteration):
        key = jax.random.fold_in(keys.alter, i)
        rows = _hit(key, one, cohort)
        cohort = _step(key, f"alteration {i + 1}", one.variability, _severity(one), cohort, rows, records)
    return cohort, records


def _drawn_images(key: Array, recipe: Recipe, cohort: Cohort, kind: np.ndarray) -> np.ndarray:
    """For each image the number of the challenge that is made of it and of the law that makes it, (N, 2); -1 for none."""
    found = np.full((len(kind), 2), -1)
    made = [(i, one) for i, one in enumerate(recipe.challenging) if one.variability]
    for p, part in enumerate(PARTS):
        rows = np.flatnonzero((cohort.split == part) & (kind == PLAIN))
        drawn = rows[np.argsort(selection.rank(jax.random.fold_in(key, p), len(rows)))]
        numbers = selection.counts([one.share for _, one in made], (cohort.split == part).sum())
        if numbers.sum() > len(drawn):
            raise InputError(
                f"{recipe.name}, {part}: {numbers.sum()} challenging cases asked, {len(drawn)} plain images"
            )
        for (i, one), end, n in zip(made, np.cumsum(numbers), numbers, strict=True):
            some = drawn[end - n : end]
            found[some] = np.stack([np.full(n, i), np.arange(n) % len(one.variability)], 1)
    return found


def _severity(one: Alteration) -> float:
    return one.severity if one.severity is not None else named(one.variability).levels[(one.level or 1) - 1]


def _hit(key: Array, one: Alteration, cohort: Cohort) -> np.ndarray:
    """Images of the asked parts to which the alteration happens."""
    chance = _image_keys(jax.random.fold_in(key, 1), cohort)[:, 0] / 2**32
    return np.flatnonzero((chance < one.probability) & np.isin(cohort.split, one.parts))


def _image_keys(key: Array, cohort: Cohort) -> np.ndarray:
    """Key data (N, 2) uint32 for each image, hashed from the key and its origin, whichever other images there are."""
    seed = np.asarray(jax.random.key_data(key)).tobytes()
    found = [hashlib.sha256(seed + str(origin).encode()).digest()[:8] for origin in cohort.attributes[ORIGIN]]
    return np.frombuffer(b"".join(found), "<u4").reshape(-1, 2)


def _step(
    key: Array,
    step: str,
    name: str,
    severity: float,
    cohort: Cohort,
    rows: np.ndarray,
    records: list[dict[str, Any]],
) -> Cohort:
    """One law on some rows; records are added."""
    if not len(rows):
        return cohort
    law = named(name)
    law.check(cohort.image.shape[1:])
    keys = _image_keys(key, cohort)[rows]
    what = {"step": step, "variability": name, "severity": severity}
    origin = cohort.attributes[ORIGIN][rows].tolist()
    records += [{"origin": o, **what, "key": k} for o, k in zip(origin, keys.tolist(), strict=True)]
    return _law(cohort, rows, law, keys, np.full(len(rows), severity, np.float32))


def _law(cohort: Cohort, rows: np.ndarray, law: Variability, keys: np.ndarray, severity: np.ndarray) -> Cohort:
    """The cohort with some images (and masks) altered, in grey levels of 1/255."""
    from rafmodel.encoder import in_chunks

    mask = None if cohort.mask is None else cohort.mask.copy()
    columns = keys, cohort.image[rows], severity, *(() if mask is None else (mask[rows],))
    found = in_chunks(partial(_applied, law), *columns, chunk=32)
    image = cohort.image.copy()
    image[rows] = found[0]
    if mask is not None:
        mask[rows] = found[1]
    return replace(cohort, image=image, mask=mask)


@partial(jax.jit, static_argnums=0)
def _applied(law: Variability, keys: Array, image: Array, severity: Array, mask: Array | None = None):
    drawn = jax.vmap(law.draw, (0, None))(jax.random.wrap_key_data(keys, impl="threefry2x32"), image.shape[1:])
    new = jax.vmap(law.rebuild)(drawn, image.astype(jnp.float32) / 255, severity)
    grey = jnp.round(255 * new).astype(jnp.uint8)
    return (grey,) if mask is None else (grey, jax.vmap(law.move)(drawn, mask, severity).astype(mask.dtype))


def repeat(cohort: Cohort, records: Sequence[dict[str, Any]]) -> Cohort:
    """The altered images made again from unaltered ones (with the column ``origin``) and the records of their alterations."""
    place = {origin: i for i, origin in enumerate(cohort.attributes[ORIGIN].tolist())}
    steps: dict[tuple, list[dict[str, Any]]] = {}
    for record in records:
        steps.setdefault((record["step"], record["variability"]), []).append(record)
    for (_, name), some in steps.items():
        here = [record for record in some if record["origin"] in place]
        rows = np.array([place[record["origin"]] for record in here], int)
        if len(rows):
            keys = np.array([record["key"] for record in here], np.uint32)
            severity = np.array([record["severity"] for record in here], np.float32)
            cohort = _law(cohort, rows, named(name), keys, severity)
    return cohort


# ---- measured


def _quantised(cohort: Cohort) -> Cohort:
    """Images in the 256 grey levels that are written."""
    return replace(cohort, image=np.rint(255 * cohort.image).astype(np.uint8))


def _coordinates(cohort: Cohort, space: str) -> np.ndarray:
    found = visual.features(cohort.image, space)
    return visual.whitened(found).coordinates(found)


def _distances(recipe: Recipe, cohort: Cohort, chosen: np.ndarray, pool: Cohort) -> dict[str, Any]:
    """The dial and what it did: as chosen, in the space of the whole pool, and as delivered, in that of the training part."""
    space = recipe.out_of_distribution.space
    found = visual.features(cohort.image, space)
    delivered = visual.whitened(found[cohort.split == "train"]).coordinates(found)
    return {
        **asdict(recipe.out_of_distribution),
        "features": visual.SPACES[space],
        "chosen": selection.measured(chosen, pool.patient, pool.split),
        "delivered": selection.measured(delivered, cohort.patient, cohort.split),
    }


def _reached(part: Cohort, attribute: str | None) -> dict[str, Any]:
    """What a part has: counts, prevalence, subgroup mix and challenging cases, as shares of its images."""
    found: dict[str, Any] = size(part)
    if len(part.label) and (part.label >= 0).all():
        found["prevalence"] = round(float(part.label.mean()), 6)
    for name in (CHALLENGE, attribute):
        if name:
            values, n = np.unique(part.attributes[name], return_counts=True)
            found[name] = {str(v): round(float(m / n.sum()), 6) for v, m in zip(values, n, strict=True)}
    return found
