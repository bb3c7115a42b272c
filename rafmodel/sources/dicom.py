"""DICOM: one image, or a folder that holds one series of slices, sorted along their normal, rescaled, and checked for gaps.

What is declared is checked before pixels are decoded.  Modality rescale (or its table) is applied; MONOCHROME1 is marked as
inverted.  Attributes and their meaning after the standard, parts 3 (C.7.6.2, C.7.6.3, C.11) and 5.
"""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from rafmodel.errors import InputError
from rafmodel.sources.scan import Head, Scan, canonical, canonical_space, finite, within
from rafmodel.sources.stored import needs, refusing

SUFFIXES = (".dcm", ".dicom", ".ima")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_RUN_LENGTH = "1.2.840.10008.1.2.5"
_MOST_EXPANSION = 64  # of two bytes of a run-length code
_ASIDE = (".txt", ".csv", ".json", ".xml", ".md", ".png", ".jpg", ".pdf", ".html")  # files that lie beside slices
_MOST_SLICES = 4096
_GREY = ("MONOCHROME1", "MONOCHROME2")
_SAME = ("SeriesInstanceUID", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "FrameOfReferenceUID")
_UNEVEN = 0.2  # of the usual distance between slices: chosen; one missing slice makes it 1


# ---- one file


def _dataset(path: Path, limit_bytes: float, *, pixels: bool) -> Any:
    """A file's attributes, its pixels still coded; what would unpack on reading, or beyond the limit, is refused."""
    try:
        import pydicom
        from pydicom.filereader import read_file_meta_info
    except ImportError:
        raise needs("pydicom") from None
    if path.stat().st_size > limit_bytes:
        raise InputError(f"has {path.stat().st_size / 2**30:.3g} GiB, above {limit_bytes / 2**30:.3g} GiB")
    content = path.read_bytes()  # whole, for a lie about a length then ends where the file does
    if content[128:132] != b"DICM":
        raise InputError("is no DICOM file")
    syntax = read_file_meta_info(path).get("TransferSyntaxUID", "")
    if syntax == _DEFLATED:
        raise InputError("is deflated as a whole, which cannot be checked before it unpacks; store it explicit")
    if syntax == _RUN_LENGTH and _MOST_EXPANSION * len(content) > limit_bytes:
        raise InputError("has more run-length codes than can be unpacked within the limit")
    _check_decoder(syntax)
    return pydicom.dcmread(io.BytesIO(content), stop_before_pixels=not pixels)


def _check_decoder(syntax: Any) -> None:
    """Raises InputError, with what to install, where pixels are coded in a way that nothing here decodes."""
    from pydicom.pixels import get_decoder  # pyright: ignore

    if not syntax or not syntax.is_encapsulated:
        return
    decoder = get_decoder(syntax)
    if not decoder.is_available:
        missing = [line.partition(" - requires ")[2] or line for line in decoder.missing_dependencies]
        raise InputError(f"is coded as {syntax.name} ({syntax}); to decode it, pip install {' or '.join(missing)}")


def _frames(data: Any) -> int:
    return int(data.get("NumberOfFrames") or 1)


def _frame(data: Any, asked: int | None) -> int:
    """The frame that is read, counted from 1: the one that is asked for, or the middle one."""
    frames = _frames(data)
    if frames == 1:
        return 1
    if asked is not None and not 1 <= asked <= frames:
        raise InputError(f"has {frames} frames, not a frame {asked}")
    return (frames + 1) // 2 if asked is None else asked


def _head(data: Any, limit_bytes: float, frame: int | None = None) -> Head:
    """What one file declares of its frame; all of them must be within the limit."""
    frames = _frames(data)
    rows, columns = int(data.get("Rows") or 0), int(data.get("Columns") or 0)
    samples = int(data.get("SamplesPerPixel") or 1)
    which = "as column `frame` says" if frame else "the middle one"
    note = f"frames: of files with several, {which} is read, as an image" if frames > 1 else ""
    found = Head((rows, columns), 3 if samples == 3 else 1, "bytes" if _plain(data) else "values", note)
    within(found if frames == 1 else found._replace(space=(frames, rows, columns)), limit_bytes)
    grey = samples == 1 and data.get("PhotometricInterpretation") in (*_GREY, None)
    if not grey and samples != 3:
        raise InputError(f"has {samples} samples a pixel of type {data.get('PhotometricInterpretation')}")
    _frame(data, frame)
    slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise InputError(f"declares slope {slope:g} and intercept {intercept:g}")
    return found


def _plain(data: Any) -> bool:
    """Whether a file holds display values of 8 bits: colour, or grey without any rescale."""
    coded = int(data.get("BitsAllocated") or 0) == 8 and int(data.get("PixelRepresentation") or 0) == 0
    scaled = (float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))) != (1, 0)
    return coded and not scaled and "ModalityLUTSequence" not in data


def _values(path: Path, limit_bytes: float, frame: int | None = None) -> tuple[np.ndarray, Any]:
    """Decoded pixels (rows, columns, C) of one frame of a file, and its attributes."""
    from PIL import Image
    from pydicom.pixels import apply_modality_lut  # pyright: ignore

    data = _dataset(path, limit_bytes, pixels=True)
    found = _head(data, limit_bytes, frame)
    if _frames(data) > 1:
        data.pixel_array_options(index=_frame(data, frame) - 1)
    most, Image.MAX_IMAGE_PIXELS = (
        Image.MAX_IMAGE_PIXELS,
        math.prod(found.space),
    )  # a JPEG inside has a header of its own
    try:
        pixels = data.pixel_array
    finally:
        Image.MAX_IMAGE_PIXELS = most
    if pixels.shape[:2] != found.space:
        raise InputError(f"declares {found.space} pixels but holds {pixels.shape}")
    if found.kind == "values":
        pixels = finite(apply_modality_lut(pixels, data))
    elif pixels.dtype != np.uint8:
        raise InputError(f"declares 8 bits but holds {pixels.dtype}")
    return pixels.reshape(*found.space, found.channels), data


def _window(data: Any) -> tuple[float, float] | None:
    """Lowest and highest value of the first recommended window (PS3.3 C.11.2.1.2.1); None without one."""
    if "WindowCenter" not in data or "WindowWidth" not in data:
        return None
    centre, width = (float(np.atleast_1d(np.asarray(data[k].value, float))[0]) for k in ("WindowCenter", "WindowWidth"))
    low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


# ---- an image, or a series


def head(path: Path, limit_bytes: float, frame: int | None = None) -> Head:
    """What one file, or the slices in a folder, declare; InputError beyond the limit, or where slices do not make a volume.

    frame  number, from 1, of the one that is read of a file with several; default: the middle one
    """
    with refusing():
        if path.is_file():
            return _head(_dataset(path, limit_bytes, pixels=False), limit_bytes, frame)
        files, slices = _series(path, limit_bytes)
        first = _head(slices[0], limit_bytes, frame)
        if len(files) == 1:
            return first
        if any(_frames(data) > 1 for data in slices):
            raise InputError("has slices with several frames; store one frame a file")
        _, affine = _stacked(slices)
        space = canonical_space((first.space[1], first.space[0], len(files)), affine)
        kinds = {_head(data, limit_bytes).kind for data in slices}
        return within(Head(space, 1, first.kind if len(kinds) == 1 else "values"), limit_bytes)


def scan(path: Path, limit_bytes: float, frame: int | None = None) -> Scan:
    """One image (rows, columns, C), or the volume (right, front, head, 1) of a series; ``frame`` as in ``head``."""
    with refusing():
        files, slices = ([path], []) if path.is_file() else _series(path, limit_bytes)
        if len(files) == 1:
            values, data = _values(files[0], limit_bytes, frame)
            return Scan(values, _pixel_spacing(data), None, _inverted(data), _window(data))
        order, affine = _stacked(slices)
        planes = [_values(files[i], limit_bytes) for i in order]
        volume = np.stack([plane[..., 0].T for plane, _ in planes], -1)
        values, affine = canonical(volume, affine)
        spacing = tuple(np.sqrt((affine[:3, :3] ** 2).sum(0)).tolist())
        return Scan(values[..., None], spacing, affine, _inverted(slices[0]), _window(slices[0]))


def _inverted(data: Any) -> bool:
    return data.get("PhotometricInterpretation") == "MONOCHROME1"


def _pixel_spacing(data: Any) -> tuple[float, ...]:
    """mm between rows and between columns, at the patient or else at the detector; nan where neither is stored."""
    stored = data.get("PixelSpacing") or data.get("ImagerPixelSpacing") or (math.nan, math.nan)
    rows, columns = (float(x) for x in stored)
    sound = math.isfinite(rows) and math.isfinite(columns) and min(rows, columns) > 0
    return (rows, columns) if sound else (math.nan, math.nan)


def _series(folder: Path, limit_bytes: float) -> tuple[list[Path], list[Any]]:
    """Files of the one series in a folder, and their attributes."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
    files = [file for file in files if file.suffix.lower() not in _ASIDE and file.name != "DICOMDIR"]
    if not files or len(files) > _MOST_SLICES:
        raise InputError(f"holds {len(files)} slices; a series has 1 to {_MOST_SLICES}")
    slices = []
    for file in files:
        try:
            with refusing():
                slices.append(_dataset(file, limit_bytes, pixels=False))
        except InputError as problem:
            raise InputError(f"{file.name} {problem}") from None
    for field in _SAME:
        values = {str(data.get(field)) for data in slices}
        if len(values) > 1:
            raise InputError(f"holds {len(values)} values of {field}; store one series a folder")
    return files, slices


def _stacked(slices: list[Any]) -> tuple[list[int], np.ndarray]:
    """Order of slices along their normal, and the affine (4, 4) from (column, row, slice) to mm right, front, head.

    Raises InputError where slices are not parallel, lack a position, share one, are unevenly far apart, or are sheared.
    """
    if any(data.get(k) is None for data in slices for k in ("ImagePositionPatient", "ImageOrientationPatient")):
        raise InputError("has slices without position or orientation, so they cannot be put in order")
    if _pixel_spacing(slices[0]) != _pixel_spacing(slices[-1]) or not np.isfinite(_pixel_spacing(slices[0])).all():
        raise InputError("has slices without, or with unequal, PixelSpacing")
    towards = np.array([data.ImageOrientationPatient for data in slices], float)
    position = np.array([data.ImagePositionPatient for data in slices], float)
    if not np.isfinite(towards).all() or not np.isfinite(position).all() or abs(towards - towards[0]).max() > 1e-3:
        raise InputError("has slices that are not parallel")
    along_row, along_column = towards[0, :3], towards[0, 3:]
    normal = np.cross(along_row, along_column)
    depth = position @ normal
    order = np.argsort(depth, kind="stable")
    gaps = np.diff(depth[order])
    usual = float(np.median(gaps))
    if usual < 1e-3 or gaps.min() < 1e-3:
        raise InputError("has two slices at one position; store one volume a folder")
    wide = int(np.argmax(abs(gaps - usual)))
    if abs(gaps[wide] - usual) > _UNEVEN * usual:
        raise InputError(
            f"has a gap of {gaps[wide]:.3g} mm after slice {wide + 1}, usual are {usual:.3g}; slices are missing"
        )
    step = (position[order[-1]] - position[order[0]]) / (len(slices) - 1)
    if np.linalg.norm(step - normal * (step @ normal)) > 0.05 * usual:  # 3 degrees: chosen
        raise InputError("has slices shifted against each other (a tilted gantry); resample it first")
    rows, columns = _pixel_spacing(slices[0])
    affine = np.eye(4)
    affine[:3] = np.stack([along_row * columns, along_column * rows, step, position[order[0]]], 1)
    return order.tolist(), np.diag([-1.0, -1, 1, 1]) @ affine  # DICOM counts to the left and back
