"""A design's choices in one line of text: ``contrastive+noise[n_labelled=32|256,probe=logistic]`` stands for two designs."""

import itertools
from collections.abc import Callable
from typing import Any

from rafmodel.errors import InputError

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
