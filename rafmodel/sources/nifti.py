"""NIfTI volumes: header checked by hand, data read to its declared length and no further, axes turned to right, front, head.

Slope and intercept are applied.  The fields are those of the NIfTI-1 and NIfTI-2 headers, decoded by nibabel.
"""

import gzip
import io
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rafmodel.errors import InputError
from rafmodel.sources.scan import Head, Scan, as_slice, canonical, canonical_space, finite, within
from rafmodel.sources.stored import needs, refusing

SUFFIXES = (".nii", ".nii.gz")
_HEADERS = {348: 348, 540: 540}  # declared size of the header -> bytes to read
_MOST_OFFSET = 2**24  # extensions before the data beyond 16 MiB are a lie
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # metres and micrometres; all else is millimetres


class _Layout(NamedTuple):
    """Where the numbers of a volume lie in its file, and what they mean."""

    space: tuple[int, ...]
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float
    affine: np.ndarray | None
    zooms: tuple[float, ...]
    window: tuple[float, float] | None


def _open(path: Path) -> Any:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _layout(path: Path, limit_bytes: float) -> _Layout:
    """A file's header, checked; nothing behind it is read."""
    with _open(path) as file:
        start = file.read(max(_HEADERS))
    header = _header(start)
    n_axes = int(header["dim"][0])
    sides = [int(n) for n in header["dim"][1 : 1 + n_axes]]
    if not 2 <= n_axes <= 7 or min(sides) < 1:
        raise InputError(f"declares dimensions {sides}")
    while len(sides) > 3 and sides[-1] == 1:
        sides.pop()
    if len(sides) > 3:
        raise InputError(f"declares {len(sides)} dimensions {sides}; store one volume a file")
    space = (*sides, 1)[:3]
    within(Head(space, 1, "values"), limit_bytes)
    dtype = header.get_data_dtype()
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise InputError(f"holds {dtype}; store whole or floating-point numbers of at most 8 bytes")
    offset = float(header["vox_offset"])
    if not len(start) >= 348 or not 348 <= offset <= _MOST_OFFSET:
        raise InputError(f"declares that its data start at byte {offset:g}")
    return _Layout(space, dtype, int(offset), *_scaling(header), *_geometry(header), _window(header))


def _header(start: bytes) -> Any:
    try:
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header
    except ImportError:
        raise needs("nibabel") from None
    size = {int.from_bytes(start[:4], order) for order in ("little", "big")} & set(_HEADERS)
    if not size or len(start) < max(size):
        raise InputError("is no NIfTI file")
    kind = Nifti1Header if 348 in size else Nifti2Header
    header = kind(start[: max(size)], check=False)
    if bytes(header["magic"])[:3] not in (b"n+1", b"n+2"):
        raise InputError("is no single NIfTI file (pairs of .hdr and .img are not read)")
    return header


def _scaling(header: Any) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 means that none are stored."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0:
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise InputError(f"declares slope {slope:g} and intercept {intercept:g}")
    return slope, intercept


def _geometry(header: Any) -> tuple[np.ndarray | None, tuple[float, ...]]:
    """Affine in mm, None where neither form of it is declared valid; and mm between voxels, nan where that is not known."""
    unit = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    zooms = np.abs(np.array(header["pixdim"][1:4], float)) * unit
    zooms = tuple(np.where(np.isfinite(zooms) & (zooms > 0), zooms, np.nan).tolist())
    if int(header["sform_code"]) <= 0 and int(header["qform_code"]) <= 0:
        return None, zooms
    affine = np.array(header.get_best_affine(), float)
    affine[:3] *= unit
    return affine, tuple(np.sqrt((affine[:3, :3] ** 2).sum(0)).tolist())


def _window(header: Any) -> tuple[float, float] | None:
    low, high = float(header["cal_min"]), float(header["cal_max"])
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def head(path: Path, limit_bytes: float) -> Head:
    """What the header of a volume declares; InputError beyond the limit."""
    with refusing():
        layout = _layout(path, limit_bytes)
        note = "" if layout.affine is not None else "orientation is not stated in some, whose axes stay as stored"
        space = layout.space if layout.affine is None else canonical_space(layout.space, layout.affine)
        flat = [i for i, side in enumerate(space) if side == 1]
        space = tuple(np.delete(space, flat[-1])[::-1].tolist()) if flat else space
        return Head(space, 1, "values", note)


def scan(path: Path, limit_bytes: float) -> Scan:
    """The decoded volume (right, front, head, 1), or a picture (rows, columns, 1) if it is one voxel thick."""
    with refusing():
        layout = _layout(path, limit_bytes)
        values = finite(_numbers(path, layout))
        values, spacing, affine = _turned(values, layout)
        return Scan(values[..., None], spacing, affine, window=layout.window)


def mask(path: Path, limit_bytes: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Classes of the voxels, turned as their image is, and their affine."""
    with refusing():
        layout = _layout(path, limit_bytes)
        values = finite(_numbers(path, layout))
        if (values != np.rint(values)).any():
            raise InputError("has fractions; a mask has whole numbers")
        values, _, affine = _turned(values, layout)
        return values.astype(np.int32), affine


def _numbers(path: Path, layout: _Layout) -> np.ndarray:
    """The numbers (X, Y, Z), slope and intercept applied, float32; exactly as many as declared are read."""
    wanted = math.prod(layout.space) * layout.dtype.itemsize
    with _open(path) as file:
        file.read(layout.offset)
        data = io.BytesIO()
        while (missing := wanted - data.tell()) and (part := file.read(min(missing, 2**24))):
            data.write(part)
        file.read(1)  # past the end a gzip file checks its sum
    if data.tell() < wanted:
        raise InputError(f"is cut short: {data.tell()} of {wanted} bytes")
    stored = np.frombuffer(data.getbuffer(), layout.dtype).reshape(layout.space, order="F")
    return np.multiply(stored, layout.slope, dtype=np.float32) + np.float32(layout.intercept)


def _turned(values: np.ndarray, layout: _Layout) -> tuple[np.ndarray, tuple[float, ...], np.ndarray | None]:
    """A volume with its axes to right, front and head, or the picture it is if one voxel thick; its spacing and affine."""
    affine, spacing = layout.affine, np.array(layout.zooms)
    if affine is not None:
        values, affine = canonical(values, affine)
        spacing = np.sqrt((affine[:3, :3] ** 2).sum(0))
    flat = [i for i, side in enumerate(values.shape) if side == 1]
    if not flat:
        return values, tuple(spacing.tolist()), affine
    return as_slice(values, flat[-1]), tuple(np.delete(spacing, flat[-1])[::-1].tolist()), affine
