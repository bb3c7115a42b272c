"""Machine code inside XLA's programs on a CPU: convolutions of training, and what XLA does slowly to images.

XLA has no fast gradient of a convolution on a CPU: its own is slow within loops, and products of patches with weights spend half
of their time on making patches and adding up their slopes.  ``machine_code`` needs no patches.  Nor does XLA leave out zeros of a
matrix or a kernel, read images between pixels on several cores, or put marks where they are alone; ``image_code`` does, and draws
normal noise sooner.  Where they cannot be compiled, or jaxlib's foreign-function interface is another one, ``fits`` and
``alters`` are false, and XLA is what there is.
"""

import ctypes
import logging
import math
import os
import re
from collections.abc import Callable, Sequence
from functools import cache, partial, reduce, wraps
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import backend

PARTS = 8  # of a batch, whose slopes of weights are summed apart from each other, whatever the number of threads
EVEN = 16  # channels that an answer must have a multiple of
# what is done to an image as a whole, so that nothing is in between
WHOLE = ("round", "stamp", "view", "hide", "tone", "power", "all")
WIDE = 32  # columns that a matrix has a multiple of where rows of images are multiplied by it: two registers of any machine


def fits(x: Array, weight: Array) -> bool:
    """Whether images are convolved with these weights by machine code: single precision, on one CPU for which it compiles."""
    single = x.dtype == weight.dtype == jnp.float32
    return single and weight.shape[1] % EVEN == 0 and _here()


def _here() -> bool:
    return backend.on_cpu() and jax.local_device_count() == 1 and ready()


def convolved(x: Array, weight: Array, stride: int) -> Array:
    """``encoder.convolved``: (N, *space, C) -> (N, *ceil(space / stride), width)."""
    n, *space, _ = x.shape
    shape = (n, *(-(-side // stride) for side in space), weight.shape[1])
    return _called("ahead", shape, stride, len(space), _deep(x), weight)


def to_images(slope: Array, weight: Array, shape: tuple[int, ...], stride: int) -> Array:
    """Slopes of images of a shape (N, *space, C) from those of what they are convolved to; C must be a multiple of EVEN."""
    taps = weight.reshape(-1, shape[-1], weight.shape[1]).transpose(0, 2, 1)
    return _called("back", shape, stride, len(shape) - 2, _deep(slope), taps)


def to_weight(x: Array, slope: Array, stride: int) -> Array:
    """Slopes of weights (3^dims C, width)."""
    dims = x.ndim - 2
    shape = (min(len(x), PARTS), 3**dims * x.shape[-1], slope.shape[-1])
    parts = _called("to_weight", shape, stride, dims, _deep(x), _deep(slope))
    return reduce(jnp.add, [parts[i] for i in range(shape[0])])  # 80 times as fast as XLA's sum over a first axis


def _called(name: str, shape: tuple[int, ...], stride: int, dims: int, *given: Array) -> Array:
    deep = (shape[0], 1, *shape[1:]) if len(shape) == 4 else shape
    call = jax.ffi.ffi_call(f"rafmodel_{name}", jax.ShapeDtypeStruct(deep, jnp.float32), vmap_method="sequential")
    return call(*given, planes=np.int64(3 if dims == 3 else 1), stride=np.int64(stride)).reshape(shape)


def _deep(x: Array) -> Array:
    """(N, depth, height, width, C): a picture is a volume of one plane."""
    return x[:, None] if x.ndim == 4 else x


# ---- images


def alters(*given: Array) -> bool:
    """Whether images are altered by machine code: single precision, on one CPU for which it compiles."""
    return all(x.dtype == jnp.float32 for x in given) and _here()


def alters_stored(image: Array) -> bool:
    """Whether images of numbers, or of grey levels of 8 bits, are altered by machine code as they are stored."""
    return image.dtype in (jnp.float32, jnp.uint8) and _here()


def along(image: Array, matrix: Array, axis: int) -> Array:
    """A matrix (n, n) applied along one axis of an image (*space, C); its zeros cost nothing."""
    n, last = image.shape[axis], axis == image.ndim - 2
    flat = image.reshape(-1, n, math.prod(image.shape[axis + 1 :]))
    matrix = jnp.pad(matrix.T, ((0, 0), (0, -n % WIDE))) if last else matrix
    return _of_images("across" if last else "down", flat.shape, flat, matrix).reshape(image.shape)


def along_all(image: Array, matrices: Sequence[Array], ends: Array) -> Array:
    """Matrices (n, n) applied along all axes of an image (*space, C), of numbers or of grey levels of 8 bits, and what is below
    or above two ends put there; zeros, and rows that are the one before, cost nothing.  Of 8 bits these are 0 and 255."""
    last = matrices[-1].T
    last = jnp.pad(last, ((0, 0), (0, -len(last) % WIDE)))
    planes = matrices[0] if image.ndim == 4 else jnp.ones((1, 1), jnp.float32)
    return _of_images("all", image.shape, image, planes, matrices[-2], last, ends, of=image.dtype)


def hide(image: Array, covers: Sequence[Array]) -> Array:
    """An image (*space, C), of numbers or of grey levels of 8 bits, times one less the product of numbers along each axis."""
    planes = covers[0] if image.ndim == 4 else jnp.ones(1, jnp.float32)
    return _of_images("hide", image.shape, image, planes, *covers[-2:], of=image.dtype)


def tone(image: Array, told: Array) -> Array:
    """An image (*space, 1), of numbers or of grey levels of 8 bits, times the first number (3,), plus the second, and its lines
    turned round if the third is 1."""
    return _of_images("tone", image.shape, image, told, of=image.dtype)


def power(image: Array, power: Array) -> Array:
    """An image (*space, C), of numbers or of grey levels of 8 bits, to a power (1,); what is below 1e-6 counts as that, but
    what is not above 0 stays."""
    return _of_images("power", image.shape, image, power, of=image.dtype)


def read(image: Array, where: Sequence[Array]) -> Array:
    """Values (*shape, C) of an image (*space, C), of less than 2³¹ numbers, at fractional indices along each axis, of one shape.

    The border is extended.
    """
    return _of_images("read", (*where[0].shape, image.shape[-1]), image, *where)


def spread(image: Array, kernel: Array) -> Array:
    """An image (*space, C), of numbers or of grey levels of 8 bits, of which every number is the sum of those about it times a
    kernel, of odd lengths; its border is extended, and the kernel's zeros cost nothing."""

    def deep(shape):
        return shape if image.ndim == 4 else (shape[0], 1, *shape[1:])  # a picture is a volume without a second axis

    shape = deep(image.shape)
    made = _of_images("spread", shape, image.reshape(shape), kernel.reshape(deep(kernel.shape)), of=image.dtype)
    return made.reshape(image.shape)


def normal(key: Array, fields: int, n: int) -> Array:
    """Standard normals (fields, n), one or two fields, of a key's two words."""
    return _of_images("normal", (fields, n), key)


def round_marks(image: Array, shown: Array, marks: Array, ends: Array, profiles: Array, colours: Array) -> Array:
    """A picture (h, w, C), of numbers or of grey levels of 8 bits, under round marks, one or two kinds of cover after the other.

    The share that one covers, by a profile of how far a pixel lies beyond the mark's size, is multiplied by how far it is shown.

    shown     (M,), 0 to 1
    marks     (M, 3) rows, columns and sizes, where the picture goes from -1 to 1
    ends      (2,) how far inside and outside of its size a mark has a profile; it covers nothing beyond
    profiles  (n, 2 kinds) from one end to the other, linear in between, of each kind the value and the change to the next
    colours   (kinds, C) in [0, 1]
    """
    return _of_images("round", image.shape, image, shown, marks, ends, profiles, colours, of=image.dtype)


def stamps(image: Array, shown: Array, corner: Array, raster: Array, cell: Array, colour: Array) -> Array:
    """A picture (h, w, C), of numbers or of grey levels of 8 bits, under stamps of a colour (C,): rasters (M, rows, columns) of
    cells of a size, each hung from its corner (M, 2) and shown to a share (M,); the picture goes from -1 to 1."""
    given = image, shown, corner, raster, cell[None], colour[None]
    return _of_images("stamp", image.shape, *given, of=image.dtype)


def round_view(image: Array, circle: Array) -> Array:
    """A picture (h, w, C), of numbers or of grey levels of 8 bits, black beyond a circle (row, column, radius), where it goes
    from -1 to 1; at its edge a pixel fades."""
    return _of_images("view", image.shape, image, circle, of=image.dtype)


def _of_images(name: str, shape: tuple[int, ...], *given: Array, of: Any = jnp.float32) -> Array:
    """What ``image_jobs`` calls so, of operands of one image; ``vmap`` puts axes in front."""
    call = jax.ffi.ffi_call("rafmodel_images", jax.ShapeDtypeStruct(shape, of), vmap_method="expand_dims")
    return call(*given, axes=np.int64(given[0].ndim), kind=np.int64(_kind(name)))


def _kind(name: str) -> int:
    from rafmodel import image_jobs  # which asks for numba, as nothing else does before it is there

    return getattr(image_jobs, name.upper())


def whole(step: dict[str, Any]) -> bool:
    """Whether parameters of a primitive are those of what is done to an image as a whole, by machine code."""
    if step.get("target_name") != "rafmodel_images":
        return False
    return dict(step["attributes"])["kind"] in [_kind(name) for name in WHOLE]


def derived_by(library: Callable[..., Any], fixed: tuple[int, ...] = ()) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: machine code with the derivatives of a library's function of the same arguments; ``fixed`` ones have none."""

    def derived(made: Callable[..., Any]) -> Any:
        @partial(jax.custom_jvp, nondiff_argnums=fixed)
        @wraps(made)
        def called(*given: Any) -> Any:
            return made(*given)

        @called.defjvp
        def _(*given: Any) -> tuple:
            *known, primals, tangents = given

            def varied(*others: Any) -> Any:
                rest, place = iter(others), dict(zip(fixed, known, strict=True))
                return library(*(place[i] if i in place else next(rest) for i in range(len(known) + len(others))))

            return jax.jvp(varied, primals, tangents)

        return called

    return derived


@jax.custom_jvp
def settled(x: Array) -> Array:
    """The same array, whole in memory before anything reads it; XLA's own barriers do not hold on a CPU."""
    if not _here():
        return x
    same = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.ffi.ffi_call("rafmodel_settled", same, input_output_aliases={0: 0}, vmap_method="broadcast_all")(x)


@settled.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return settled(*primals), tangents[0]


@cache
def ready() -> bool:
    """Whether the code is compiled and known to XLA, which it is once this was asked; RAFMODEL_NATIVE=0 leaves all to XLA."""
    if os.environ.get("RAFMODEL_NATIVE") == "0":
        return False
    try:
        header = (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text()
        if not re.search(r"define XLA_FFI_API_MAJOR 0\b", header):
            raise ImportError("jaxlib's foreign-function interface is not of version 0")
        from rafmodel import image_code, machine_code

        code = {machine_code: ("ahead", "back", "to_weight"), image_code: ("images", "settled")}
        for module, names in code.items():
            for name in names:
                address = ctypes.c_void_p(getattr(module, name).address)
                jax.ffi.register_ffi_target(f"rafmodel_{name}", jax.ffi.pycapsule(address), platform="cpu")
    except Exception as problem:  # whatever numba raises on a machine that it was not tried on
        logging.getLogger(__name__).warning(
            "convolutions and changes of images are slower than they could be: %s", problem
        )
        return False
    return True
