"""What a benchmark cohort is to be: a TOML file read into records, every mistake told in one line.

Shares and degrees are in [0, 1]; levels are the five of a variability, 1 weak to 5 strong.
"""

import dataclasses
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from rafmodel.errors import InputError
from rafmodel.harmonise import METHODS

PARTS = ("train", "val", "test")
KINDS = ("artifact", "quality", "rare")
SPACES = ("thumbnail", "quality", "encoder")


@dataclass(frozen=True)
class Ingredient:
    """One cohort of the benchmark, or a part of one.

    source or phantom     what ``--cohort`` takes, or the name of a synthetic cohort; exactly one of them
    name                  what the part is called; default: the cohort's own name
    label, positive, negative   as in ``cohort.load``
    keep                  columns to carry along although they have many values, as lists of findings do
    only                  attribute = value: the images to take
    rename, set, drop     new attribute = old one; attribute = one value for all; attributes to leave behind
    patients, share       at most so many patients, drawn at random; share of the benchmark's patients
    licence, attribution  where the file does not state them
    """

    source: str | None = None
    phantom: str | None = None
    name: str | None = None
    label: str | None = None
    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    only: dict[str, str] = field(default_factory=dict)
    rename: dict[str, str] = field(default_factory=dict)
    set: dict[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    patients: int | None = None
    share: float | None = None
    licence: str | None = None
    attribution: str | None = None

    def __post_init__(self):
        _require((self.source is None) != (self.phantom is None), "give one of `source` and `phantom`")
        _require(self.patients is None or self.patients >= 1, f"patients {self.patients}: must be at least 1")
        _share("share", self.share, above=0)


@dataclass(frozen=True)
class Mix:
    """Prevalence of cases, and the share of each value of an attribute, in every part; None: as it is."""

    prevalence: float | None = None
    attribute: str | None = None
    shares: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        _share("prevalence", self.prevalence)
        _require((self.attribute is None) == (not self.shares), "`attribute` and `shares` go together; give both")
        wrong = any(v < 0 for v in self.shares.values()) or abs(sum(self.shares.values()) - 1) > 1e-9
        _require(not self.shares or not wrong, f"shares {self.shares}: must be positive and add to 1")


@dataclass(frozen=True)
class Challenge:
    """One kind of challenging case and its share of the images of every part.

    Chosen: images whose ``attribute`` has one of ``values`` (in a list ``one|two`` any entry matches); unless their kind is rare,
    they have the asked prevalence and mix.
    Made: one of the laws ``variability`` at ``level``, drawn for each image.
    """

    kind: str
    share: float
    attribute: str | None = None
    values: tuple[str, ...] = ()
    variability: tuple[str, ...] = ()
    level: int = 3

    def __post_init__(self):
        _require(self.kind in KINDS, f"kind '{self.kind}': choose from {', '.join(KINDS)}")
        _share("share", self.share)
        chosen = self.attribute is not None and bool(self.values)
        _require(chosen != bool(self.variability), "give `attribute` with `values`, or `variability`")
        _known(self.variability)
        _require(1 <= self.level <= 5, f"level {self.level}: must be 1 to 5")


@dataclass(frozen=True)
class Alteration:
    """A law that alters images of some parts with a probability, at a ``level`` or at a ``severity`` in its unit."""

    variability: str
    level: int | None = None
    severity: float | None = None
    probability: float = 1.0
    parts: tuple[str, ...] = PARTS

    def __post_init__(self):
        _known((self.variability,))
        _require((self.level is None) != (self.severity is None), "give one of `level` and `severity`")
        _require(self.level is None or 1 <= self.level <= 5, f"level {self.level}: must be 1 to 5")
        _require(self.severity is None or self.severity >= 0, f"severity {self.severity}: must not be negative")
        _share("probability", self.probability)
        _require(set(self.parts) <= {*PARTS}, f"parts {', '.join(self.parts)}: choose from {', '.join(PARTS)}")


@dataclass(frozen=True)
class OutOfDistribution:
    """The dial: this share of the test patients are those farthest from the centre of ``space``, the rest are drawn."""

    degree: float = 0.0
    space: str = "thumbnail"

    def __post_init__(self):
        _share("degree", self.degree)
        _require(self.space in SPACES, f"space '{self.space}': choose from {', '.join(SPACES)}")


@dataclass(frozen=True)
class Split:
    """Shares of the patients in each part; they add to 1."""

    train: float = 0.6
    val: float = 0.1
    test: float = 0.3

    def __post_init__(self):
        for part in PARTS:
            _share(part, getattr(self, part))
        total = self.train + self.val + self.test
        _require(abs(total - 1) < 1e-9, f"train, val and test add to {total:g}; they must add to 1")
        _require(self.train > 0 and self.test > 0, "train and test must be above 0")


@dataclass(frozen=True)
class Recipe:
    """A benchmark: cohorts, size in pixels a side, and what is asked of it; ``key`` roots all its randomness."""

    name: str
    cohort: tuple[Ingredient, ...]
    key: int | str | None = None
    size: int = 64
    spacing: float | None = None
    harmonise: str = "none"
    use: str = ""
    mix: Mix = field(default_factory=Mix)
    challenging: tuple[Challenge, ...] = ()
    alteration: tuple[Alteration, ...] = ()
    out_of_distribution: OutOfDistribution = field(default_factory=OutOfDistribution)
    split: Split = field(default_factory=Split)

    def __post_init__(self):
        _require(re.fullmatch(r"[\w.+-]{1,80}", self.name) is not None, f"name '{self.name}': use letters, digits, -")
        _require(bool(self.cohort), "no [[cohort]]: name at least one")
        _require(self.size >= 8, f"size {self.size}: must be at least 8 pixels")
        _require(self.spacing is None or self.spacing > 0, f"spacing {self.spacing}: must be above 0 mm")
        _require(self.harmonise in METHODS, f"harmonise '{self.harmonise}': choose from {', '.join(METHODS)}")
        total = sum(one.share for one in self.challenging)
        _require(total <= 1, f"shares of [[challenging]] add to {total:g}; they must not exceed 1")
        shares = [one.share for one in self.cohort if one.share is not None]
        all_or_none = len(shares) in (0, len(self.cohort)) and (not shares or abs(sum(shares) - 1) < 1e-9)
        _require(all_or_none, "share: give one to every [[cohort]], adding to 1, or to none")


# ---- reading


def read(path: Path) -> Recipe:
    """The recipe of a TOML file.  Raises InputError, in one line, for whatever is wrong with it."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such recipe; give the path of a TOML file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise InputError(f"{path}: cannot be read as TOML ({problem}); mend it") from None
    return parsed(table, str(path))


def parsed(table: Mapping[str, Any], where: str) -> Recipe:
    """The recipe of a table as TOML has it; ``where`` begins every complaint."""
    return _record(Recipe, table, where)


def _record(cls: Any, table: Any, where: str) -> Any:
    """A dataclass from a table: unknown and missing keys and wrong types are told, then what the record itself refuses."""
    if not isinstance(table, Mapping):
        raise InputError(f"{where}: is {_said(table)}; write it as a table")
    fields = {one.name: one for one in dataclasses.fields(cls)}
    for key in table:
        if key not in fields:
            raise InputError(f"{where}: unknown key `{key}`; choose from {', '.join(fields)}")
    for name, one in fields.items():
        bare = one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
        if bare and name not in table:
            raise InputError(f"{where}: no `{name}`; add it")
    hints = get_type_hints(cls)
    values = {key: _value(hints[key], value, f"{where}: {key}") for key, value in table.items()}
    try:
        return cls(**values)
    except InputError as problem:
        raise InputError(f"{where}: {problem}") from None


def _value(hint: Any, value: Any, where: str) -> Any:
    """A value of the type that a field asks for."""
    if dataclasses.is_dataclass(hint):
        return _record(hint, value, where)
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if not isinstance(value, list):
            raise InputError(f"{where}: is {_said(value)}; write a list")
        return tuple(_value(inner, one, f"{where} {i}") for i, one in enumerate(value, 1))
    if get_origin(hint) is dict:
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: is {_said(value)}; write a table, {{name = value}}")
        return {key: _value(get_args(hint)[1], one, f"{where}.{key}") for key, one in value.items()}
    allowed = get_args(hint) or (hint,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if int not in allowed else value
    right = any(type(value) is one for one in allowed) and not (isinstance(value, float) and not math.isfinite(value))
    if not right:
        words = {str: "text", int: "a whole number", float: "a number"}
        wanted = " or ".join(words[one] for one in allowed if one in words)
        raise InputError(f"{where}: is {_said(value)}; write {wanted}")
    return value


def _said(value: Any) -> str:
    return f"`{value}`" if isinstance(value, str | int | float) else f"a {type(value).__name__}"


# ---- what a value must be


def _require(right: bool, problem: str) -> None:
    if not right:
        raise InputError(problem)


def _share(name: str, value: float | None, above: float | None = None) -> None:
    low = value is not None and (value <= above if above is not None else value < 0)
    _require(value is None or not (low or value > 1), f"{name} {value}: must be a share, 0 to 1")


def _known(names: tuple[str, ...]) -> None:
    from rafmodel.variability import named

    for name in names:
        named(name)
