"""A hospital's own variability as a law: what a fit to a cohort found, in place of a synthetic severity.

``FILE:B`` takes an image of the largest other subgroup to subgroup B: by the difference of their means, and by the variance
that B has beyond the other's.  ``FILE:B:A`` says from which; ``FILE:B:B`` is B's own spread, around any image as it is.
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel.errors import InputError
from rafmodel.variability.acquisition import GHOSTING, RINGS, SPIKE, ZIPPER
from rafmodel.variability.geometry import rescale, shift, turn
from rafmodel.variability.intensity import bias_field, gain, gamma
from rafmodel.variability.law import Drawn, Variability, grid, sample
from rafmodel.variability.noise import gaussian
from rafmodel.variability.obstruction import BLACK_CORNER, CHARACTERS, DROPOUT, FIELD_OF_VIEW, OCCLUSION, SHADOW
from rafmodel.variability.resolution import JPEG, gaussian_blur

if TYPE_CHECKING:
    import xarray as xr

LEVELS = (
    0.25,
    0.5,
    1.0,
    1.5,
    2.0,
)  # doses: 1 is the subgroup as it was fitted, less is on the way there, more is beyond
UNKNOWN = 3  # level, of five, of an artifact whose strength cannot be told
DRAWS = 64  # parameter sets of the posterior that a law keeps
ARTIFACTS = (
    SPIKE,
    ZIPPER,
    GHOSTING,
    RINGS,
    JPEG,
    DROPOUT,
    SHADOW,
    BLACK_CORNER,
    FIELD_OF_VIEW,
    OCCLUSION,
    CHARACTERS,
)  # with a detector
_ADDED = ("gain", "gamma", "rotation", "down", "across", "scale")
_FIELDS = ("field_x", "field_y", "field_xy", "field_xx", "field_yy")
_SIGNED = (*_ADDED, *_FIELDS)
_COLUMNS = (
    *(f"{name} {what}" for name in _SIGNED for what in ("offset", "spread")),
    *("noise target", "noise spread", "noise source", "blur added", "blur spread"),
    *(f"{law.name} {what}" for law in ARTIFACTS for what in ("prevalence", "strength", "spread")),
)


@dataclass(frozen=True)
class Difference:
    """Draws how one image of a subgroup differs from one of another; equal where its numbers are equal.

    sets    (DRAWS, len(_COLUMNS)) parameter sets from the posterior, one of which each image draws: doubt about the subgroup
            widens the law
    middle  mid-grey of the cohort, log
    """

    sets: tuple[tuple[float, ...], ...]
    middle: float

    def __call__(self, key: Array, shape: tuple[int, ...]) -> Drawn:
        """Everything that is left to chance for an image (H, W, C) or a volume (D, H, W, C), whose planes share all but noise."""
        keys = jax.random.split(key, 3 + len(ARTIFACTS))
        table = jnp.asarray(np.array(self.sets, np.float32))
        chosen = table[jax.random.randint(keys[0], (), 0, len(self.sets))]
        value = dict(zip(_COLUMNS, chosen, strict=True))
        z = jax.random.normal(keys[1], (len(_SIGNED) + 2,), jnp.float32)
        drawn: Drawn = {"middle": jnp.float32(self.middle)}
        for i, name in enumerate(_SIGNED):
            drawn[name] = value[f"{name} offset"] + value[f"{name} spread"] * z[i]
        drawn["blur"] = jnp.sqrt(jnp.maximum(value["blur added"] + value["blur spread"] * z[-1], 0))
        drawn["noise_target"] = jnp.exp(value["noise target"] + value["noise spread"] * z[-2])
        drawn["noise_source"] = jnp.exp(value["noise source"])
        drawn["white"] = jax.random.normal(keys[2], shape, jnp.float32)
        for law, key_one in zip(ARTIFACTS, keys[3:], strict=True):
            share = _COLUMNS.index(f"{law.name} prevalence")
            if not any(one[share] for one in self.sets):
                continue
            key_u, key_z, key_law = jax.random.split(key_one, 3)
            strength = value[f"{law.name} strength"] + value[f"{law.name} spread"] * jax.random.normal(
                key_z, (), jnp.float32
            )
            drawn[f"{law.name} at"] = jax.random.uniform(key_u, dtype=jnp.float32) / jnp.maximum(
                value[f"{law.name} prevalence"], 1e-9
            )
            drawn[f"{law.name} strength"] = jnp.clip(jnp.exp(strength), 0, law.levels[-1])
            drawn |= {f"{law.name} {name}": x for name, x in law.draw(key_law, shape[-3:]).items()}
        return drawn


def where_from(drawn: Drawn, position: Array, severity: Array) -> Array:
    """Turned, scaled and moved by the dose of what was drawn; a volume in its last two axes."""
    if len(position) == 3:
        return jnp.concatenate([position[:1], where_from(drawn, position[1:], severity)])
    turned = rescale({"z": drawn["scale"]}, turn({"z": drawn["rotation"]}, position, severity), severity)
    return shift({"direction": -jnp.stack([drawn["down"], drawn["across"]])}, turned, severity)


def altered(drawn: Drawn, image: Array, severity: Array) -> Array:
    """The image as the other subgroup would have it, at a dose: pose, field, tones, blur, noise, artifacts in this order.

    A volume plane by plane, as it was measured.
    """
    if image.ndim == 4:
        by_plane = {name: 0 if name == "white" else None for name in drawn}
        return jax.vmap(altered, (by_plane, 0, None))(drawn, image, severity)
    d = {name: x.astype(image.dtype) for name, x in drawn.items()}
    image = sample(image, where_from(d, grid(image), severity))
    image = bias_field({"z": jnp.stack([d[name] for name in _FIELDS])}, image, severity)
    image = _toned(d, image, severity)
    image = gaussian_blur({}, image, severity * d["blur"])
    image = gaussian({"z": d["white"]}, image, severity * _lacking(d, severity, image.shape[0]))
    for law in ARTIFACTS:
        if f"{law.name} at" not in drawn:
            continue
        own = {name.removeprefix(f"{law.name} "): x for name, x in d.items() if name.startswith(f"{law.name} ")}
        happens, strength = own.pop("at") < severity, own.pop("strength")
        image = jnp.where(happens, law.law(own, image, strength), image)
    return image


def _toned(d: Drawn, image: Array, severity: Array) -> Array:
    """Gamma about mid-grey, which stays where it is, and gain."""
    one, bent = jnp.ones_like(severity), severity * d["gamma"]
    lifted = severity * d["gain"] + (1 - jnp.exp(bent)) * d["middle"]
    return gain({"z": lifted}, gamma({"z": bent}, image, one), one)


def _lacking(d: Drawn, severity: Array, pixels: int) -> Array:
    """S.d. of noise to add: the image has that of its own subgroup, through tones and blur, and should have the other's."""
    kept = jnp.exp(2 * severity * (d["gain"] + d["gamma"])) * passed(severity * d["blur"] * pixels)
    return jnp.sqrt(jnp.maximum(d["noise_target"] ** 2 - kept * d["noise_source"] ** 2, 0))


def passed(width: Array) -> Array:
    """Share of white noise's variance, as second differences see it, that passes a Gaussian blur of ``width`` pixels."""
    place = jnp.arange(-24, 25, dtype=width.dtype)
    kernel = jax.nn.softmax(-((place / jnp.maximum(width, 1e-3)) ** 2) / 2)
    along = kernel[:-2] - 2 * kernel[1:-1] + kernel[2:]
    return (jnp.sum(along**2) / 6) ** 2


# ---- from a posterior


def shift_law(posterior: "xr.Dataset", group: str, source: str | None = None) -> Variability:
    """The law that takes an image of one subgroup to another, from the posterior of ``own_variability.fit``.

    group   subgroup whose variability is met
    source  subgroup that images come from; None: the largest other one, or ``group`` itself where there is no other
    Severity is a dose of the difference: 0 leaves the image, 1 is the subgroup as fitted.  Variance and noise can be added but
    not taken away, and what is not identified stays as it is; artifacts of unknown strength
    have level UNKNOWN.  Raises InputError for an unknown subgroup.
    """
    names = [str(g) for g in posterior["group"].values]
    for asked in (group, *([source] if source is not None else [])):
        if asked not in names:
            raise InputError(
                f"{posterior.attrs.get('cohort')}: no subgroup '{asked}' in the fit; choose from {', '.join(names)}"
            )
    if source is None:
        others = [g for g in names if g != group]
        size = posterior["n_images"].to_series()
        source = max(others, key=lambda g: size[g]) if others else group
    sets = _sets(posterior, group, source)
    difference = Difference(tuple(map(tuple, sets.tolist())), round(float(posterior.attrs["middle"]), 6))
    attribute = posterior.attrs.get("group_attribute") or "cohort"
    digest = sha256(repr(difference).encode()).hexdigest()[:12]
    came = f"from {source}" if source != group else "its own spread"
    unit = f"dose of {attribute} {group}, {came} ({posterior.attrs.get('cohort')}, {digest})"
    return Variability(
        f"{attribute}={group}",
        unit,
        difference,
        altered,
        LEVELS,
        where_from,
        source="fitted, own_variability",
    )


def _sets(posterior: "xr.Dataset", group: str, source: str) -> np.ndarray:
    """Parameter sets (DRAWS, len(_COLUMNS)), evenly from all draws, to six digits."""
    flat = posterior.stack(sample=("chain", "draw"))
    rows = np.linspace(0, flat.sizes["sample"] - 1, DRAWS).astype(int)
    flat = flat.isel(sample=rows)

    def of(variable: str, name: str, who: str) -> np.ndarray:
        axis = "presence" if variable == "prevalence" else "quantity"
        return flat[variable].sel({axis: name, "group": who}).values

    def beyond(name: str) -> np.ndarray:
        """S.d. to add, so that the source's becomes the subgroup's."""
        own = of("sd", name, group)
        return own if source == group else np.sqrt(np.maximum(own**2 - of("sd", name, source) ** 2, 0))

    columns = {}
    for name in _SIGNED:
        columns[f"{name} offset"] = of("mean", name, group) - of("mean", name, source)
        columns[f"{name} spread"] = beyond(name)
    columns["noise target"], columns["noise source"] = of("mean", "noise", group), of("mean", "noise", source)
    columns["noise spread"] = beyond("noise")
    columns["blur added"] = of("mean", "blur", group) - of("mean", "blur", source)
    columns["blur spread"] = beyond("blur")
    for law in ARTIFACTS:
        share = of("prevalence", law.name, group)
        less = 0 if source == group else of("prevalence", law.name, source)
        columns[f"{law.name} prevalence"] = np.maximum(share - less, 0) / np.maximum(1 - less, 1e-3)
        columns[f"{law.name} strength"] = of("mean", f"{law.name}_strength", group)
        columns[f"{law.name} spread"] = of("sd", f"{law.name}_strength", group)
    found = np.stack([columns[name] for name in _COLUMNS], 1)
    found = np.where(np.isfinite(found), found, _nothing())
    return np.array([[float(f"{x:.6g}") for x in row] for row in found])


def _nothing() -> np.ndarray:
    """Values (len(_COLUMNS),) for what is not identified: they change nothing.

    An artifact's strength is at level UNKNOWN, the middle of its five; that matters only where some images have it.
    """
    least = {"noise target": -20.0, "noise source": -20.0}
    least |= {f"{law.name} strength": float(np.log(law.levels[UNKNOWN - 1])) for law in ARTIFACTS}
    return np.array([least.get(name, 0.0) for name in _COLUMNS])


# ---- from a file


def named(name: str) -> Variability:
    """The law that ``FILE:SUBGROUP`` or ``FILE:SUBGROUP:FROM`` names.  Raises InputError for whatever is wrong with it."""
    file, _, who = name.partition(".nc:")
    path = Path(f"{file}.nc")
    group, _, source = who.partition(":")
    if not group:
        raise InputError(f"--shifts {name}: names no subgroup; write FILE.nc:SUBGROUP")
    return shift_law(load(path), group, source or None)


def load(path: Path) -> "xr.Dataset":
    """A posterior of ``rafmodel cohort fit`` from disk.  Raises InputError where it is missing or something else."""
    import xarray as xr

    if not path.is_file():
        raise InputError(f"{path}: no such file; `rafmodel cohort fit --out {path}` writes one")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as opened:
            found = opened.load()
    except (OSError, ValueError, KeyError) as problem:
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise InputError(f"{path}: not a readable netCDF file ({reason}); is it from `rafmodel cohort fit`?") from None
    missing = [v for v in ("mean", "sd", "prevalence", "n_images") if v not in found] + (
        [] if "middle" in found.attrs else ["middle"]
    )
    if missing:
        raise InputError(f"{path}: no '{missing[0]}' in it; is it from `rafmodel cohort fit`?")
    return found
