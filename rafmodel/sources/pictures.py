"""PNG, JPEG and TIFF through Pillow: sides and type from the header, pages of a TIFF as the slices of a volume."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from rafmodel.errors import InputError
from rafmodel.sources.scan import Head, Kind, Scan, finite, within
from rafmodel.sources.stored import refusing

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "TIFF")
_GREY, _COUNTS, _VALUES = ("1", "L", "LA", "La"), ("I;16", "I;16L", "I;16B", "I;16N"), ("I", "F")
_MOST_PAGES = 4096
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap the sides


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture by its header; its pixels wait."""
    with refusing(), Image.open(path, formats=_FORMATS) as picture:
        yield picture


def head(path: Path, limit_bytes: float) -> Head:
    """What the header of a picture declares; InputError beyond the limit."""
    with _opened(path) as picture:
        return _head(picture, limit_bytes)


def _head(picture: Image.Image, limit_bytes: float) -> Head:
    kind: Kind = "counts" if picture.mode in _COUNTS else "values" if picture.mode in _VALUES else "bytes"
    channels = 1 if kind != "bytes" or picture.mode in _GREY else 3
    pages = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
    width, height = picture.size
    if pages == 1:
        sides = (width, height) if picture.getexif().get(274) in _TURNED else (height, width)
        return within(Head(sides, channels, kind, _note(picture)), limit_bytes)
    if pages > _MOST_PAGES:
        raise InputError(f"has {pages} pages, above {_MOST_PAGES}")
    return within(Head((pages, height, width), channels, kind, _note(picture)), limit_bytes)


def _note(picture: Image.Image) -> str:
    """What is lost of a picture: alpha, and the low bytes of 16-bit colour."""
    if "A" in picture.getbands():
        return "transparency is dropped"
    coded = str([tile[3] for tile in getattr(picture, "tile", ())])  # Pillow's own name of the type in the file
    return "16-bit colour is read to its high byte" if picture.mode == "RGB" and ";16" in coded else ""


def scan(path: Path, limit_bytes: float) -> Scan:
    """The decoded picture; its orientation tag is applied.  Spacing is not known: a picture's dpi is no measurement."""
    with _opened(path) as picture:
        found = _head(picture, limit_bytes)
        if len(found.space) == 2:
            values = _values(ImageOps.exif_transpose(picture), found)
        else:
            values = np.stack([_page(picture, i, found) for i in range(found.space[0])])
    return Scan(values, (np.nan,) * len(found.space))


def _page(picture: Image.Image, i: int, found: Head) -> np.ndarray:
    picture.seek(i)
    if picture.size != found.space[:0:-1]:
        raise InputError(f"page {i} has {picture.size} pixels, the first {found.space[:0:-1]}")
    return _values(picture, found)


def _values(picture: Image.Image, found: Head) -> np.ndarray:
    """Pixels (H, W, C): uint8, or float32."""
    if found.kind != "bytes":
        return finite(np.asarray(picture))[..., None]
    if found.channels == 1:
        return np.asarray(picture.convert("L"))[..., None]
    return np.asarray(picture.convert("RGB"))


def mask(path: Path, limit_bytes: float) -> tuple[np.ndarray, None]:
    """Classes (H, W) or (pages, H, W) of the pixels; a palette's numbers, or grey values, are the classes."""
    with _opened(path) as picture:
        found = _head(picture, limit_bytes)
        pages = [found.space[0]] if len(found.space) == 3 else []
        if not pages:
            return _classes(ImageOps.exif_transpose(picture)), None
        stack = []
        for i in range(pages[0]):
            _page(picture, i, found)
            stack.append(_classes(picture))
        return np.stack(stack), None


def _classes(picture: Image.Image) -> np.ndarray:
    classes = np.asarray(picture)
    if classes.ndim == 3:
        classes = classes[..., :3] if picture.mode == "RGBA" else classes
        if (classes != classes[..., :1]).any():
            raise InputError("is a colour picture; a mask has one number a pixel")
        classes = classes[..., 0]
    if classes.dtype.kind == "f":
        raise InputError("has fractions; a mask has whole numbers")
    return classes.astype(np.int32)
