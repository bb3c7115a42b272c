"""Machine code inside XLA's programs on a CPU: convolutions of training, and what XLA does slowly to images.

XLA has no fast gradient of a convolution on a CPU: its own is slow within loops, and products of patches with weights spend half
of their time on making patches and adding up their slopes.  ``machine_code`` needs no patches.  Nor does XLA leave out a matrix's
zeros, or read images between pixels on several cores; ``image_code`` does.  Where they cannot be compiled, or jaxlib's
foreign-function interface is another one, ``fits`` and ``alters`` are false, and XLA is what there is.
"""

import ctypes
import logging
import math
import os
import re
from collections.abc import Sequence
from functools import cache, reduce
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import backend

PARTS = 8  # of a batch, whose slopes of weights are summed apart from each other, whatever the number of threads
EVEN = 16  # channels that an answer must have a multiple of
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


def along(image: Array, matrix: Array, axis: int) -> Array:
    """A matrix (n, n) applied along one axis of an image (*space, C); its zeros cost nothing."""
    n, last = image.shape[axis], axis == image.ndim - 2
    flat = image.reshape(-1, n, math.prod(image.shape[axis + 1 :]))
    matrix = jnp.pad(matrix.T, ((0, 0), (0, -n % WIDE))) if last else matrix
    return _of_images("across" if last else "down", flat.shape, flat, matrix).reshape(image.shape)


def read(image: Array, where: Sequence[Array]) -> Array:
    """Values (*shape, C) of an image (*space, C), of less than 2³¹ numbers, at fractional indices along each axis, of one shape.

    The border is extended.
    """
    return _of_images("read", (*where[0].shape, image.shape[-1]), image, *where)


def _of_images(name: str, shape: tuple[int, ...], *given: Array) -> Array:
    result = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.ffi.ffi_call(f"rafmodel_{name}", result, vmap_method="expand_dims")(*given)


def settled(x: Array) -> Array:
    """The same array, whole in memory before anything reads it; XLA's own barriers do not hold on a CPU."""
    if not _here():
        return x
    same = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.ffi.ffi_call("rafmodel_settled", same, input_output_aliases={0: 0}, vmap_method="broadcast_all")(x)


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

        code = {machine_code: ("ahead", "back", "to_weight"), image_code: ("down", "across", "read", "settled")}
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
