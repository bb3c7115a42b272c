"""A design's choices in one line of text: ``contrastive+noise[n_labelled=32|256,probe=logistic]`` stands for two designs."""

import itertools
import math
from collections.abc import Callable
from typing import Any

from rafmodel import variability
from rafmodel.errors import InputError
from rafmodel.variability import Variability

PROBES = ("ridge", "logistic", "finetuned")
BALANCES = ("none", "class", "group")
PRECISIONS = ("float32", "bfloat16")
POOLINGS = ("mean", "max", "top")
SAMPLINGS = ("", "grid", "random", "foreground")
HEADS = ("probe", "decoder", "tuned")

KEYS: dict[str, Callable[[str], int | float | str]] = {
    "pretrain_on": str,
    "n_unlabelled": int,
    "n_labelled": int,
    "prevalence": float,
    "label_flip": float,
    "flip_case": float,
    "flip_control": float,
    "mask_jitter": float,
    "mask_missed": float,
    "mask_coarse": int,
    "flip_in": str,
    "group": str,
    "weighting": str,
    "resampling": str,
    "probe": str,
    "ridge": float,
    "views": str,
    "strength": float,
    "steps": int,
    "batch": int,
    "learning_rate": float,
    "precision": str,
    "patch": int,
    "pooling": str,
    "sampling": str,
    "head": str,
}


def alternatives(text: str) -> list[tuple[str, str, dict[str, int | float | str]]]:
    """Label, name before the bracket, and choices, of every design that ``NAME[key=value|value,key=value]`` stands for.

    The label is the text with one value a key; keys change slowest first.  Raises InputError where the text cannot be read.
    """
    name, bracket, inside = text.partition("[") if text.endswith("]") else (text, "", "")
    if not bracket:
        return [(text, text, {})]
    columns = [_column(text, part) for part in inside[:-1].split(",")]
    keys = [key for key, _ in columns]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise InputError(f"--designs {text}: {twice[0]} is chosen twice; give alternatives as {twice[0]}=one|two")
    found = []
    for values in itertools.product(*(values for _, values in columns)):
        label = ",".join(f"{key}={value}" for key, value in zip(keys, values, strict=True))
        choices = {key: _read(text, key, value) for key, value in zip(keys, values, strict=True)}
        found.append((f"{name}[{label}]", name, choices))
    return found


def _column(text: str, part: str) -> tuple[str, list[str]]:
    key, equals, values = (piece.strip() for piece in part.partition("="))
    if key not in KEYS:
        raise InputError(f"--designs {text}: no choice is called '{key}'; choose from {', '.join(KEYS)}")
    if not equals or not all(value.strip() for value in values.split("|")):
        raise InputError(f"--designs {text}: {key} has no value; write {key}=value or {key}=one|two")
    return key, [value.strip() for value in values.split("|")]


def _read(text: str, key: str, value: str) -> int | float | str:
    try:
        return KEYS[key](value)
    except ValueError:
        kind = "a whole number" if KEYS[key] is int else "a number"
        raise InputError(f"--designs {text}: {key}={value} is not {kind}") from None


def view_law(text: str) -> tuple[tuple[Variability, float], ...]:
    """Law of the views of ``views=NAME+NAME``: one variability after the other, each up to the third of its five levels.

    Raises InputError for a name that is not in the catalogue.
    """
    chosen = [variability.select([name.strip()], asked=f"views={text}")[0] for name in text.split("+")]
    return tuple((one, one.levels[2]) for one in chosen)


def studied_as(name: str) -> str:
    """A design's proxy task and views: its name without another encoder, and without choices in brackets but for its views."""
    stem, _, inside = str(name).removesuffix("]").partition("[")
    chosen = [part for part in inside.split(",") if part.startswith("views=")]
    return stem.partition("@")[0] + "".join(f"[{part}]" for part in chosen)


def rules(design: Any) -> list[tuple[str, bool, str]]:
    """Choice, whether its value can be, and what it must be: of a design, whatever the images."""
    shares = [(name, getattr(design, name)) for name in ("label_flip", "flip_case", "flip_control")]
    return [
        ("steps", design.steps >= 0, "0 or more"),
        ("batch", design.batch >= 2, "2 or more"),
        ("learning_rate", design.learning_rate > 0, "above 0"),
        ("n_unlabelled", design.n_unlabelled >= 1, "1 or more"),
        ("n_labelled", design.n_labelled >= 2, "2 or more"),
        ("ridge", design.ridge > 0, "above 0"),
        ("prevalence", design.prevalence is None or 0 < design.prevalence < 1, "a share above 0 and below 1"),
        *((name, share is None or 0 <= share <= 1, "a share, from 0 to 1") for name, share in shares),
        ("mask_jitter", 0 <= design.mask_jitter < math.inf, "a number of pixels, 0 or more"),
        ("mask_missed", 0 <= design.mask_missed <= 1, "a probability, from 0 to 1"),
        ("mask_coarse", design.mask_coarse >= 1, "1 or more"),
        ("weighting", design.weighting in BALANCES, f"one of {', '.join(BALANCES)}"),
        ("resampling", design.resampling in BALANCES, f"one of {', '.join(BALANCES)}"),
        ("resampling", "none" in (design.resampling, design.weighting), "none where weighting is not"),
        ("probe", design.probe in PROBES, f"one of {', '.join(PROBES)}"),
        ("precision", design.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    ]


def choices_of_patches(design: Any, side: int) -> list[tuple[str, bool, str]]:
    """Choice, whether its value can be, and what it must be: of a design's patches of images whose shortest side is ``side``."""
    whole = not design.patch
    return [
        ("patch", 0 <= design.patch <= side, f"from 1 to {side}, the images' shortest side, or 0 for whole images"),
        ("pooling", design.pooling in POOLINGS, f"one of {', '.join(POOLINGS)}"),
        ("pooling", not whole or design.pooling == "mean", "left out of whole images, or add patch=SIDE"),
        ("sampling", design.sampling in SAMPLINGS, f"one of {', '.join(SAMPLINGS[1:])}"),
        ("sampling", not (whole and design.sampling), "left out of whole images, or add patch=SIDE"),
        ("head", design.head in ("", *HEADS), f"one of {', '.join(HEADS)}"),
    ]
