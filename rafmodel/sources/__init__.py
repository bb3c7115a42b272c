"""Real cohorts on disk: one npz file, or a folder of pictures, NIfTI volumes or DICOM series with a table in CSV.

Everything is checked from headers before anything is decoded, for a compressed megabyte can declare terabytes and a pickled
array can run a program.  One reader a format; ``stored`` says what each of them gives.
"""

import os
from pathlib import Path

from rafmodel.errors import InputError
from rafmodel.sources import npz, table
from rafmodel.sources.catalogue import cache, classes_of, notes_of
from rafmodel.sources.size import shrink, thin
from rafmodel.sources.stored import NOTES, SPLITS, Pictures, Stored, Window

__all__ = ["NOTES", "SPLITS", "Pictures", "Stored", "Window", "cache", "classes_of", "find", "opened", "shrink", "thin"]


def find(source: str | os.PathLike) -> Path:
    """The npz or csv file that a path, a folder, or a bare name in RAFMODEL_DATA or among the fetched cohorts stands for."""
    path = Path(source)
    if not path.exists() and path.name == str(source):
        path = next((place for place in _places(path.name) if place.exists()), path)
    if path.is_dir():
        path = _inside(path)
    if not path.is_file():
        where = os.environ.get("RAFMODEL_DATA") or "(not set)"
        hint = "give an npz file, a folder with a csv, or fetch one: rafmodel cohort list"
        raise InputError(f"{path}: no such file, folder, or name in RAFMODEL_DATA {where}; {hint}")
    return path


def _places(name: str) -> list[Path]:
    """Where a bare name may be: in RAFMODEL_DATA, in one of its folders, or fetched."""
    home = os.environ.get("RAFMODEL_DATA")
    own = [Path(home, name), Path(home, f"{name}.npz"), Path(home, name, f"{name}.npz")] if home else []
    nested = sorted(p for p in Path(home).glob("*/*.npz") if p.stem == name) if home else []
    return [*own, *nested, cache() / f"{name}.npz"]


def _inside(folder: Path) -> Path:
    """The one file of a folder that makes it a cohort: its npz, or the one of the folder's name, or else its csv."""
    for kind in ("npz", "csv"):
        inside = sorted(folder.glob(f"*.{kind}"))
        named = [file for file in inside if file.stem == folder.name]
        if len(inside) == 1 or named:
            return (named or inside)[0]
        if inside:
            names = ", ".join(file.name for file in inside)
            raise InputError(f"{folder}: a cohort folder holds exactly one {kind}, here {names}; name the file")
    raise InputError(f"{folder}: a cohort folder holds exactly one npz or csv, here none; name the file")


def opened(
    path: Path,
    column: str | None,
    *,
    limit_bytes: int,
    size: int | None = None,
    window: Window = None,
    on_disk: bool = False,
) -> Stored:
    """The cohort in a file that ``find`` found; ``column`` holds the class where the caller names one.

    Raises InputError for what its headers show to be wrong.
    """
    if path.suffix.lower() == ".csv":
        return table.opened(path, limit_bytes=limit_bytes, size=size, window=window)
    if window is not None:
        raise InputError(f"{path}: --window {window}: an npz holds display values already; leave it out")
    found = npz.opened(path, column, limit_bytes, size, on_disk)
    return found._replace(notes=notes_of(path) | found.notes)
