"""A folder of images with a table: one row an image, in CSV, with its file, split, patient and whatever else is known.

Columns ``file`` (or ``image``) and optionally ``mask`` name files inside the folder: PNG, JPEG, TIFF, NIfTI, one DICOM file, or a
folder that holds one DICOM series.  Column ``frame`` says which frame, from 1, of a DICOM file with several; default: the middle.
A file that is broken, hostile or elsewhere is left out and listed; the others stay usable.
"""

import csv
import math
import os
import stat
from collections import Counter
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import ModuleType
from typing import NamedTuple

import numpy as np

from rafmodel.errors import InputError
from rafmodel.sources import dicom, intensity, nifti, pictures, stored
from rafmodel.sources.columns import as_text
from rafmodel.sources.scan import Head, Scan
from rafmodel.sources.size import at_centres, averaged
from rafmodel.sources.stored import NOTES, Pictures, Stored, Window

_FILE_COLUMNS = ("file", "image")
_MOST_BYTES = 2**27  # of the table itself
_SAME_PLACE = 0.1  # mm by which the corners of a mask may lie off its image


class _Folder(NamedTuple):
    """A folder's usable images by their headers, and how they are to be read.

    space  sides that all of them get
    """

    path: Path
    files: list[str]
    masks: list[str]
    frames: list[int | None]
    heads: list[Head]
    space: tuple[int, ...]
    train: np.ndarray
    window: Window
    limit: float


def opened(path: Path, *, limit_bytes: int, size: int | None, window: Window) -> Stored:
    """A cohort from its table: headers of all images are read, none is decoded."""
    _check_window(path, window)
    table = _rows(path)
    column = next((name for name in _FILE_COLUMNS if name in table), None)
    if column is None:
        raise InputError(f"{path}: no column `file`, it holds {', '.join(table)}; name each image's file")
    limit = min(limit_bytes, stored.free_memory())
    frames = [_number(entry) for entry in table.get("frame", [""] * len(table[column]))]
    heads, unreadable = _headers(path.parent, table[column], frames, limit)
    good = np.array(sorted(heads), int)
    if not len(good):
        raise InputError(f"{path}: none of {len(table[column])} images can be used, first {unreadable[0]}")
    text = {name: as_text(name, np.array(entries)[good]) for name, entries in table.items()}
    usable = [heads[i] for i in good]
    space = _common(path, [table[column][i] for i in good], usable, size)
    _check_memory(path, usable, space, limit)
    masks = [table["mask"][i] for i in good] if "mask" in table else []
    train = text["split"] == "train" if "split" in text else np.ones(len(good), bool)
    files = [table[column][i] for i in good]
    folder = _Folder(path, files, masks, [frames[i] for i in good], usable, space, train, window, limit)
    notes = {name: " ".join(text[name][0].split()) for name in NOTES if name in text and len(set(text[name])) == 1}
    place = np.arange(len(good))
    return Stored(path, text, None, place, any(masks), notes, partial(_decoded, folder), tuple(unreadable))


def _check_window(path: Path, window: Window) -> None:
    if window is None or window == "file":
        return
    low, high = window
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"{path}: --window {low:g} {high:g}: give two finite values, the lower first")


def _rows(path: Path) -> dict[str, list[str]]:
    """The table, column by column, with entries stripped."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: a table above {_MOST_BYTES // 2**20} MiB; store one row an image")
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file, strict=True) if row]
    except (OSError, UnicodeError, csv.Error) as problem:
        reason = " ".join(str(problem).split())
        raise InputError(f"{path}: cannot be read as CSV in UTF-8 ({reason}); save the table again") from None
    names = [name.strip() for name in rows[0]] if rows else []
    if len(rows) < 2 or not all(names) or len(set(names)) < len(names):
        raise InputError(f"{path}: needs a line of unlike column names and a line for each image")
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(names):
            raise InputError(
                f"{path}: image {number} has {len(row)} entries for {len(names)} columns; repair that line"
            )
    return {
        name: [entry.strip() for entry in column]
        for name, column in zip(names, zip(*rows[1:], strict=True), strict=True)
    }


# ---- headers


def _number(entry: str) -> int | None:
    """Number of a frame; None where it is not stated, and 0, which no file has, where it is none."""
    return None if not entry else int(entry) if entry.isascii() and entry.isdigit() and len(entry) < 9 else 0


def _headers(
    folder: Path, names: list[str], frames: list[int | None], limit: float
) -> tuple[dict[int, Head], list[str]]:
    """Number of each usable image -> what it declares; and a line for each of the others."""
    heads, unreadable = {}, []
    for i, name in enumerate(names):
        try:
            path = inside(folder, name)
            reader = _reader(path)
            heads[i] = reader.head(path, limit, frames[i]) if reader is dicom else reader.head(path, limit)
        except InputError as problem:
            unreadable.append(f"{name or f'image {i + 1}'}: {problem}")
    return heads, unreadable


def inside(folder: Path, name: str) -> Path:
    """The file or folder of a relative name, links followed; InputError where it lies outside ``folder`` or is no plain file."""
    if not name or "\0" in name:
        raise InputError("no file is named")
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    if windows.drive or windows.root or posix.is_absolute() or ".." in windows.parts:
        raise InputError("lies outside the folder of the table; name files inside it")
    try:
        path = Path(os.path.realpath(folder / name))
        mode = path.stat().st_mode
    except (OSError, ValueError) as problem:
        raise InputError(f"cannot be opened ({getattr(problem, 'strerror', None) or problem})") from None
    if not path.is_relative_to(os.path.realpath(folder)):
        raise InputError("is a link out of the folder of the table; copy it inside")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError("is neither a file nor a folder")
    return path


def _reader(path: Path) -> ModuleType:
    """The module that reads a file, by its name."""
    name = path.name.lower()
    if path.is_dir() or name.endswith(dicom.SUFFIXES):
        return dicom
    for reader in (pictures, nifti):
        if name.endswith(reader.SUFFIXES):
            return reader
    known = ", ".join((*pictures.SUFFIXES, *nifti.SUFFIXES, *dicom.SUFFIXES))
    raise InputError(f"is of no known kind; use {known}, or a folder with a DICOM series")


def _common(path: Path, files: list[str], heads: list[Head], size: int | None) -> tuple[int, ...]:
    """Sides that all images get; InputError where that takes what was not asked for."""
    for what, of in (("axes of space", lambda h: len(h.space)), ("kinds of values", lambda h: h.kind)):
        counts = Counter(of(head) for head in heads)
        if len(counts) > 1:
            rare = min(counts, key=counts.__getitem__)
            odd = next(name for name, head in zip(files, heads, strict=True) if of(head) == rare)
            raise InputError(f"{path}: images differ in {what}: {dict(counts)}, as {odd} does; store them alike")
    sides = {head.space for head in heads}
    first = heads[0].space
    if len(sides) == 1:
        return first if size is None else tuple(min(side, size) for side in first)
    least = [min(head.space) for head in heads]
    smallest, limit = files[int(np.argmin(least))], min(least)
    if size is None or size > limit:
        asked = (
            f"--size {size} would enlarge some" if size else f"as {first} and {next(s for s in sides if s != first)}"
        )
        hint = f"give --size {limit} or less (smallest: {smallest})"
        raise InputError(f"{path}: images have {len(sides)} unequal sizes, {asked}; {hint}, or resample them")
    return (size,) * len(first)


def _check_memory(path: Path, heads: list[Head], space: tuple[int, ...], limit: float) -> None:
    """All images at their final sides, and the largest while it is decoded, within the limit."""
    channels = max(head.channels for head in heads)
    total = 4 * len(heads) * channels * math.prod(space)
    one = 4 * max(head.channels * math.prod(head.space) for head in heads)
    if total + 2 * one > limit:
        asked = f"{(total + 2 * one) / 2**30:.3g} GiB of memory, above {limit / 2**30:.3g} GiB"
        raise InputError(f"{path}: {len(heads)} images of {space} pixels need {asked}; give a smaller --size")


# ---- decoding


def _decoded(folder: _Folder, rows: np.ndarray) -> Pictures:
    """The images of ``rows`` that can be decoded, mapped to [0, 1]."""
    heads = [folder.heads[i] for i in rows]
    kind, channels = heads[0].kind, max(head.channels for head in heads)
    as_stored = kind == "bytes" and folder.window is None and all(h.space == folder.space for h in heads)
    image = np.empty((len(rows), *folder.space, channels), np.uint8 if as_stored else np.float32)
    mask = np.zeros((len(rows), *folder.space), np.int32) if any(folder.masks) else None
    spacing = np.full((len(rows), len(folder.space)), np.nan)
    inverted, oriented = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    kept, unreadable = [], []
    for asked, row in enumerate(rows.tolist()):
        at = len(kept)
        try:
            found, classes = _one(folder, row)
            shown = intensity.windowed(found, folder.window)
        except InputError as problem:
            unreadable.append(f"{folder.files[row]}: {problem}")
            continue
        image[at] = shown if as_stored else averaged(shown[None], folder.space)[0]
        if mask is not None and classes is not None:
            mask[at] = at_centres(classes[None], folder.space)[0]
        spacing[at] = np.array(found.spacing) * np.array(found.values.shape[:-1]) / np.array(folder.space)
        inverted[at], oriented[at] = found.inverted, found.affine is not None
        kept.append(asked)
    n, picked = len(kept), np.array(kept, int)
    if not n:
        raise InputError(f"{folder.path}: none of {len(rows)} images can be decoded, first {unreadable[0]}")
    image, mask = image[:n], None if mask is None else mask[:n]
    notes = [
        _mapped(folder, image, kind, folder.train[rows[picked]]),
        *_notes(folder, heads, inverted[:n], oriented[:n]),
    ]
    if inverted[:n].any():
        image[inverted[:n]] = (255 if as_stored else 1) - image[inverted[:n]]
    known = bool(np.isfinite(spacing[:n]).any())
    volume = len(folder.space) == 3 and bool(oriented[:n].all())
    mask = None if mask is None else _plain(mask)
    return Pictures(image, mask, spacing[:n] if known else None, volume, picked, tuple(notes), tuple(unreadable))


def _one(folder: _Folder, row: int) -> tuple[Scan, np.ndarray | None]:
    """One image with its mask."""
    path = inside(folder.path.parent, folder.files[row])
    reader = _reader(path)
    frame = [folder.frames[row]] if reader is dicom else []
    found = reader.scan(path, folder.limit, *frame)
    if found.values.shape[:-1] != folder.heads[row].space:
        raise InputError(f"declares {folder.heads[row].space} pixels but holds {found.values.shape[:-1]}")
    if not any(folder.masks):
        return found, None
    return found, _mask(folder, folder.masks[row], found)


def _mask(folder: _Folder, name: str, found: Scan) -> np.ndarray:
    """Classes of an image's pixels; InputError where the mask is missing, of another size or lies elsewhere in the patient."""
    try:
        path = inside(folder.path.parent, name)
        reader = _reader(path)
        if reader is dicom:
            raise InputError("is DICOM; store masks as pictures or NIfTI")
        reader.head(path, folder.limit)
        classes, affine = reader.mask(path, folder.limit)
    except InputError as problem:
        raise InputError(f"its mask {name!r} {problem}") from None
    if classes.shape != found.values.shape[:-1]:
        raise InputError(f"its mask has {classes.shape} pixels, it has {found.values.shape[:-1]}")
    if affine is not None and found.affine is not None:
        corners = np.array(np.meshgrid(*[[0, n] for n in (*classes.shape, 1)[:3]], [1])).reshape(4, -1)
        off = np.abs((affine - found.affine) @ corners).max()
        if off > _SAME_PLACE:
            raise InputError(f"its mask lies {off:.3g} mm off the image")
    return classes


def _mapped(folder: _Folder, image: np.ndarray, kind: str, train: np.ndarray) -> str:
    """Bring images to [0, 1] in place; the rule in words."""
    if kind == "bytes" and folder.window is None:
        if image.dtype != np.uint8:
            image /= np.float32(255)
            np.clip(image, 0, 1, out=image)
        return "intensity: 8-bit values as stored"
    try:
        return intensity.to_unit(image, kind, folder.window, train)  # pyright: ignore
    except InputError as problem:
        raise InputError(f"{folder.path}: {problem}") from None


def _notes(folder: _Folder, heads: list[Head], inverted: np.ndarray, oriented: np.ndarray) -> list[str]:
    """What was done to the images, in words."""
    notes = sorted({head.note for head in heads} - {""})
    if len({head.channels for head in heads}) > 1:
        notes.append("grey images among coloured ones are repeated in red, green and blue")
    if len({head.space for head in heads}) > 1:
        notes.append(
            f"size: {len({h.space for h in heads})} sizes averaged by area to {folder.space}; proportions are not kept"
        )
    if inverted.any():
        notes.append(
            f"polarity: {inverted.sum()} of {len(inverted)} images store white as their lowest value and are inverted"
        )
    if len(folder.space) == 3 and oriented.any():
        notes.append(
            f"orientation: axes of {oriented.sum()} of {len(oriented)} volumes turned to right, front, head (RAS+)"
        )
    return notes


def _plain(mask: np.ndarray) -> np.ndarray:
    """Classes in few bytes; those of a mask of 0 and 255 become 0 and 1."""
    if set(np.unique(mask).tolist()) == {0, 255}:
        mask = (mask > 0).astype(np.uint8)
    return mask.astype(np.uint8) if mask.min() >= 0 and mask.max() < 256 else mask
