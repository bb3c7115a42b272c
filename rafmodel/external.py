"""Encoders from elsewhere, frozen: a Python callable, an ONNX file, or a table of features.

They are scored and foreseen like the others; theory reads the moments of their features alone.
"""

import hashlib
import importlib
import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rafmodel.architectures import Architecture
from rafmodel.encoder import Network
from rafmodel.errors import InputError

PREFIX = "external:"
TABLES = (".npz", ".npy", ".csv")
CLEAN_ONLY = "a table of features holds no altered image, so it has clean outcomes only"
SCALE = (0.5, 0.5)  # what an ONNX network is taken to expect: (pixel - 0.5) / 0.5, from -1 to 1


def architecture(place: str) -> Architecture:
    """The frozen encoder at ``module:function``, ``FILE.onnx``, ``FILE.onnx#TENSOR`` or a table ``FILE.npz``, .npy or .csv.

    Raises InputError where there is none.
    """
    file = Path(place.partition("#")[0])
    if file.suffix == ".onnx" or file.suffix in TABLES:
        if not file.is_file():
            raise InputError(f"{PREFIX}{place}: no such file; give the path of an ONNX file or of a table of features")
        content = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        network = _onnx(place, content) if file.suffix == ".onnx" else _table(file)
    else:
        network, content = _callable(place)
    found = transferred(f"{PREFIX}{place}", network, content)
    return replace(found, doubt=CLEAN_ONLY) if isinstance(network, Table) else found


def transferred(name: str, network: Network, content: str) -> Architecture:
    """A network that was trained elsewhere, for example here on another cohort, to be used as it is.

    content  digest of what it was trained on and how, since the cells of a study are found by it
    """
    return Architecture(name, lambda key, shape, widths: network, frozen=True, content=content)


# ---- a Python callable


def _callable(place: str) -> tuple[Network, str]:
    """The function at ``module:name``, and a digest of its module's text, which stands for what it computes."""
    module, colon, name = place.partition(":")
    if not colon:
        raise InputError(f"{PREFIX}{place}: not module:function, and no file .onnx, {', '.join(TABLES)}")
    try:
        found = importlib.import_module(module)
        function = getattr(found, name)
    except (ImportError, AttributeError) as problem:
        raise InputError(f"{PREFIX}{place}: {problem}; give module:function that can be imported") from None
    if not callable(function):
        raise InputError(f"{PREFIX}{place}: is a {type(function).__name__}; give a function from images to features")
    file = inspect.getsourcefile(found)
    content = hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] if file else ""
    return checked(place, function), content


def checked(place: str, function: Callable[[np.ndarray], Any]) -> Network:
    """A function from images (n, *space, C) float32 in [0, 1] to features (n, d), held to that.

    Raises InputError at the first call that returns something else.
    """

    def network(images: Any) -> np.ndarray:
        found = np.asarray(function(np.asarray(images, np.float32)))
        if found.ndim != 2 or len(found) != len(images) or found.dtype.kind not in "fiu":
            told = f"returned {found.dtype} {found.shape} for {len(images)} images; return numbers ({len(images)}, d)"
            raise InputError(f"{PREFIX}{place}: {told}")
        return found.astype(np.float32)

    return network


# ---- an ONNX file


@cache
def _onnx(place: str, content: str) -> Network:
    """The network of an ONNX file up to its first output or to a named tensor, averaged over positions."""
    del content  # another file at the same place is another network
    path, _, tensor = place.partition("#")
    try:
        import onnxruntime
    except ImportError:
        raise InputError(f"{PREFIX}{place}: needs onnxruntime; install rafmodel[onnx]") from None
    session = onnxruntime.InferenceSession(_up_to(path, tensor), providers=["CPUExecutionProvider"])
    entry, name = session.get_inputs()[0], session.get_outputs()[-1 if tensor else 0].name
    first, size, colours = _layout(place, entry.shape)

    def function(images: np.ndarray) -> np.ndarray:
        ready = _prepared(place, images, first=first, size=size, colours=colours)
        at_once = entry.shape[0] if isinstance(entry.shape[0], int) else len(ready)
        starts = range(0, len(ready), at_once)
        parts = [np.asarray(session.run([name], {entry.name: ready[i : i + at_once]})[0]) for i in starts]
        return pooled(np.concatenate(parts), first=first)

    return checked(place, function)


def _up_to(path: str, tensor: str) -> bytes:
    """The model, with a named inner tensor as its last output.  Raises InputError where the model has none."""
    if not tensor:
        return Path(path).read_bytes()
    try:
        import onnx
    except ImportError:
        raise InputError(f"{PREFIX}{path}#{tensor}: needs onnx; install rafmodel[onnx]") from None
    model = onnx.load(path)
    there = [name for node in model.graph.node for name in node.output]
    if tensor not in there:
        raise InputError(f"{PREFIX}{path}#{tensor}: no such tensor; the last ones are {', '.join(there[-5:])}")
    model.graph.output.append(onnx.ValueInfoProto(name=tensor))
    return model.SerializeToString()


def _layout(place: str, shape: list) -> tuple[bool, tuple[int | None, ...], int]:
    """Whether channels come first, the fixed sides (None: free) and the number of channels of an ONNX input."""
    if len(shape) not in (4, 5):
        raise InputError(f"{PREFIX}{place}: its input is {shape}; a network of images has 4 or 5 axes")
    first = shape[1] in (1, 3) or shape[-1] not in (1, 3)
    colours = shape[1] if first else shape[-1]
    space = shape[2:] if first else shape[1:-1]
    sides = tuple(side if isinstance(side, int) and side > 0 else None for side in space)
    return first, sides, colours if isinstance(colours, int) else 1


def _prepared(place: str, images: np.ndarray, *, first: bool, size: tuple[int | None, ...], colours: int) -> np.ndarray:
    """Images (n, *space, C) as the network takes them: its sides, its channels (grey is repeated), its scale and layout."""
    if images.ndim != len(size) + 2:
        raise InputError(f"{PREFIX}{place}: takes {len(size)} axes of space, but images are {images.shape[1:-1]}")
    if images.shape[-1] not in (1, colours):
        raise InputError(f"{PREFIX}{place}: takes {colours} channels, but images have {images.shape[-1]}")
    sides = tuple(there if asked is None else asked for asked, there in zip(size, images.shape[1:-1], strict=True))
    if sides != images.shape[1:-1]:
        images = np.asarray(jax.image.resize(images, (len(images), *sides, images.shape[-1]), "linear"))
    images = (np.broadcast_to(images, (*images.shape[:-1], colours)) - SCALE[0]) / SCALE[1]
    return np.ascontiguousarray(np.moveaxis(images, -1, 1) if first else images, np.float32)


def pooled(maps: np.ndarray, *, first: bool) -> np.ndarray:
    """Mean over positions, (n, d, *space) or (n, *space, d) -> (n, d); tokens (n, t, d) over t; (n, d) as it is."""
    if maps.ndim == 3:
        return maps.mean(1)
    return maps.reshape(*maps.shape[:2], -1).mean(2) if first else maps.reshape(len(maps), -1, maps.shape[-1]).mean(1)


# ---- a table


class Table(NamedTuple):
    """Features that were computed elsewhere, one row an image of a cohort; of an altered image there are none (nan).

    rows (N, d), and place: digest of an image -> its row; None before the cohort is known
    """

    file: Path
    rows: np.ndarray
    place: dict[bytes, int] | None = None

    def __call__(self, images: Any) -> np.ndarray:
        if self.place is None:
            raise InputError(f"{PREFIX}{self.file}: a table must be told of its cohort first; `external.bound` does")
        images = np.asarray(images, np.float32)
        at = np.array([self.place.get(_print(image), -1) for image in images], int)
        return np.where((at >= 0)[:, None], self.rows[at], np.nan).astype(np.float32)


def bound(design: Architecture, images: np.ndarray) -> Architecture:
    """The architecture, a table's rows told which images (N, *space, C), float32 in [0, 1], they belong to.

    Raises InputError where the table has another number of rows.
    """
    table = design.build(jax.random.key(0), images.shape[1:], ()) if design.name.endswith(TABLES) else None
    if not isinstance(table, Table):
        return design
    if len(images) != len(table.rows):
        told = f"{len(table.rows)} rows for a cohort of {len(images)} images; give one row an image, in its order"
        raise InputError(f"{PREFIX}{table.file}: {told}")
    known = table._replace(place={_print(image): i for i, image in enumerate(images)})
    return replace(design, build=lambda key, shape, widths: known)


def _print(image: np.ndarray) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def _table(file: Path) -> Table:
    """A table from disk: the array ``features`` of an npz, an npy, or a csv of numbers below a header."""
    try:
        if file.suffix == ".csv":
            rows = np.loadtxt(file, delimiter=",", skiprows=1, ndmin=2)
        else:
            with_names = np.load(file, allow_pickle=False)
            rows = with_names if file.suffix == ".npy" else with_names["features"]
    except (ValueError, KeyError, OSError) as problem:
        told = f"{problem}; give numbers (images, d), in an npz under the name `features`"
        raise InputError(f"{PREFIX}{file}: {told}") from None
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or not np.isfinite(rows).all():
        raise InputError(
            f"{PREFIX}{file}: {rows.dtype} {rows.shape} with or without nan; give finite numbers (images, d)"
        )
    return Table(file, rows.astype(np.float32))
