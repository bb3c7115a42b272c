"""Encoders from elsewhere, frozen: a Python callable, an ONNX file, or a table of features.

They are scored and foreseen like the others; theory reads the moments of their features alone.
"""

import hashlib
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from rafmodel.architectures import Architecture
from rafmodel.encoder import Maps, Network, features, in_chunks
from rafmodel.errors import InputError, in_a_line
from rafmodel.on_disk import OnDisk

PREFIX = "external:"
TABLES = (".npz", ".npy", ".csv")
CLEAN_ONLY = "a table of features holds no altered image, so it has clean outcomes only"
SHOWN = 8  # images of a cohort whose features tell one network from another
SCALE = (0.5, 0.5)  # what an ONNX network is taken to expect: (pixel - 0.5) / 0.5, from -1 to 1


def architecture(place: str) -> Architecture:
    """The frozen encoder at ``module:function``, ``FILE.onnx``, ``FILE.onnx#TENSOR`` or a table ``FILE.npz``, .npy or .csv.

    Raises InputError where there is none.
    """
    file = Path(place.partition("#")[0])
    if file.suffix == ".onnx" or file.suffix in TABLES:
        if not file.is_file():
            raise InputError(f"{PREFIX}{place}: no such file; give the path of an ONNX file or of a table of features")
        network, content = _onnx(place, file) if file.suffix == ".onnx" else (_table(file), _content([file]))
    else:
        network, content = _callable(place)
    found = transferred(f"{PREFIX}{place}", network, content)
    return replace(found, doubt=CLEAN_ONLY) if isinstance(network, Table) else found


def transferred(name: str, network: Network, content: str) -> Architecture:
    """A network that was trained elsewhere, for example here on another cohort, to be used as it is.

    content  digest of what it was trained on and how, since the cells of a study are found by it
    """
    return Architecture(name, lambda key, shape, widths: network, frozen=True, content=content)


def bound(design: Architecture, images: np.ndarray | OnDisk) -> Architecture:
    """The architecture, told the cohort's images (N, *space, C), float32 in [0, 1]: what it answers on SHOWN of them is part
    of its content, as weights may come from anywhere; a table learns which image each row belongs to.

    A network that raises is left to its cells, which say so.  Raises InputError where it answers something else than
    features, or a table has another number of rows.
    """
    network = design.build(jax.random.key(0), images.shape[1:], ())
    if isinstance(network, Table):
        known = network.told(images)
        return replace(design, build=lambda key, shape, widths: known)
    some = np.asarray(images[np.linspace(0, len(images) - 1, SHOWN).astype(int)])
    try:
        answer = features(network, some)
    except InputError:
        raise
    except Exception:  # it is somebody else's code
        return design
    return replace(design, content=f"{design.content}-{_short(hashlib.sha256(answer.tobytes()))}")


def _content(files: Sequence[Path]) -> str:
    """Digest of what files hold."""
    found = hashlib.sha256()
    for file in files:
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return _short(found)


def _short(digest: Any) -> str:
    return digest.hexdigest()[:16]


class Foreign(NamedTuple):
    """A function from images (n, *space, C) float32 in [0, 1] to numbers (n, d) or (n, *positions, d), as a network.

    Its features are the mean over positions.  Where these are as many axes as the images have they lie on the image, each in the
    middle of its share of the pixels.  Raises InputError at the first call that returns something else.
    """

    place: str
    function: Callable[[np.ndarray], Any]

    def __call__(self, images: Any) -> np.ndarray:
        found = self.answer(images)
        return found.reshape(len(found), -1, found.shape[-1]).mean(1)

    def maps(self, images: Any) -> Maps:
        """What it answers at its positions; InputError where these do not lie on the image."""
        found = self.answer(images)
        if found.ndim != np.ndim(images):
            told = f"returned {found.shape} for images {np.shape(images)}, so no pixel has features"
            raise InputError(f"{PREFIX}{self.place}: {told}; return maps (n, *positions, d)")
        return Maps([jnp.asarray(found)], corner=False)

    def answer(self, images: Any) -> np.ndarray:
        """What the function returns, float32."""
        found = np.asarray(self.function(np.asarray(images, np.float32)))
        if found.ndim < 2 or len(found) != len(images) or found.dtype.kind not in "fiu" or not found.size:
            told = f"returned {found.dtype} {found.shape} for {len(images)} images; return numbers ({len(images)}, d)"
            raise InputError(f"{PREFIX}{self.place}: {told} or ({len(images)}, *positions, d)")
        return found.astype(np.float32)


class Held(nnx.Module):
    """What a network from outside, which cannot be compiled, answered of some images: a network of their numbers."""

    def __init__(self, seen: Maps):
        self.layers, self.where = nnx.List([nnx.Variable(x) for x in seen.layers]), seen[1:]

    def maps(self, rows: Array) -> Maps:
        """The maps of images by their numbers (B,)."""
        return Maps([x[...][rows] for x in self.layers], *self.where)


def held(network: Any, images: np.ndarray, chunk: int) -> tuple[Held, np.ndarray]:
    """A network from outside on these images (N, *space, C), so many at a time, and their numbers."""
    layers = in_chunks(lambda some: tuple(network.maps(some).layers), images, chunk=chunk)
    where = network.maps(images[:1])[1:]
    return Held(Maps([jnp.asarray(x) for x in layers], *where)), np.arange(len(images))


# ---- a Python callable


def _callable(place: str) -> tuple[Network, str]:
    """The function at ``module:name``, and a digest of its module's text."""
    module, colon, name = place.partition(":")
    if not colon:
        raise InputError(f"{PREFIX}{place}: not module:function, and no file .onnx, {', '.join(TABLES)}")
    try:
        found = importlib.import_module(module)
        function = getattr(found, name)
    except Exception as problem:  # a module may raise anything while it is imported
        raise InputError(
            f"{PREFIX}{place}: {in_a_line(problem)}; give module:function that can be imported"
        ) from problem
    if not callable(function):
        raise InputError(f"{PREFIX}{place}: is a {type(function).__name__}; give a function from images to features")
    file = inspect.getsourcefile(found)
    return Foreign(place, function), _content([Path(file)]) if file else ""


# ---- an ONNX file


class Onnx(NamedTuple):
    """The network of an ONNX file up to its first output or to a named tensor, as a function of images.

    It holds the path alone, so that it can be sent to another process, which opens the file for itself.
    A network of two axes takes a volume slice by slice along the first axis: the slices are positions like others.
    """

    place: str
    file: Path
    tensor: str
    content: str

    def __call__(self, images: np.ndarray) -> np.ndarray:
        session = _session(self)
        entry, name = session.get_inputs()[0], session.get_outputs()[-1 if self.tensor else 0].name
        first, size, colours = _layout(self.place, entry.shape)
        stacked = images.ndim == len(size) + 3
        slices = images.reshape(-1, *images.shape[2:]) if stacked else images
        ready = _prepared(self.place, slices, first=first, size=size, colours=colours)
        at_once = entry.shape[0] if isinstance(entry.shape[0], int) else len(ready)
        found = in_chunks(lambda some: session.run([name], {entry.name: some})[0], ready, chunk=at_once)
        found = np.moveaxis(found, 1, -1) if first and found.ndim > 3 else found
        return found.reshape(*images.shape[:2], *found.shape[1:]) if stacked else found


def _onnx(place: str, file: Path) -> tuple[Network, str]:
    """The network of an ONNX file, and a digest of it and of the files beside it that hold its weights.

    Raises InputError where it cannot be opened.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError:
        raise InputError(f"{PREFIX}{place}: needs onnx and onnxruntime; install rafmodel[onnx]") from None
    try:
        weights = onnx.load(file, load_external_data=False).graph.initializer
        beside = {entry.value for one in weights for entry in one.external_data if entry.key == "location"}
        content = _content([file, *(file.parent / name for name in sorted(beside))])
    except Exception as problem:
        raise _unreadable(place, problem) from problem
    network = Onnx(place, file.resolve(), place.partition("#")[2], content)
    _session(network)
    return Foreign(place, network), content


@cache
def _session(network: Onnx) -> Any:
    """The network, opened by its path, beside which its weights may lie.  Raises InputError where it cannot be."""
    import onnxruntime

    try:
        model = _up_to(network) if network.tensor else network.file
        return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    except InputError:
        raise
    except Exception as problem:
        raise _unreadable(network.place, problem) from problem


def _unreadable(place: str, problem: Exception) -> InputError:
    return InputError(f"{PREFIX}{place}: no ONNX network that can be opened ({in_a_line(problem)}); export it again")


def _up_to(network: Onnx) -> bytes:
    """The model, with a named inner tensor as its last output.  Raises InputError where the model has none."""
    import onnx

    model = onnx.load(network.file)
    there = [name for node in model.graph.node for name in node.output]
    if network.tensor not in there:
        raise InputError(f"{PREFIX}{network.place}: no such tensor; the last ones are {', '.join(there[-5:])}")
    model.graph.output.append(onnx.ValueInfoProto(name=network.tensor))
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

    def told(self, images: np.ndarray | OnDisk) -> "Table":
        """The table that knows the image of each row.  Raises InputError where there are not as many images as rows."""
        if len(images) != len(self.rows):
            told = f"{len(self.rows)} rows for a cohort of {len(images)} images; give one row an image, in its order"
            raise InputError(f"{PREFIX}{self.file}: {told}")
        return self._replace(place={_print(images[i]): i for i in range(len(images))})


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
