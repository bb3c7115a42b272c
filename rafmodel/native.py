"""Convolutions of a CPU's training by machine code inside XLA's programs.

XLA has no fast gradient of a convolution on a CPU: its own is slow within loops, and products of patches with weights spend half
of their time on making patches and adding up their slopes.  ``machine_code`` needs no patches.  Where it cannot be compiled, or
jaxlib's foreign-function interface is another one, ``fits`` is false and patches are what there is.
"""

import ctypes
import logging
import os
import re
from functools import cache, reduce
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

PARTS = 8  # of a batch, whose slopes of weights are summed apart from each other, whatever the number of threads
EVEN = 16  # channels that an answer must have a multiple of


def fits(x: Array, weight: Array) -> bool:
    """Whether images are convolved with these weights here: single precision, one device, a machine on which this compiles."""
    single = x.dtype == weight.dtype == jnp.float32
    return single and weight.shape[1] % EVEN == 0 and jax.local_device_count() == 1 and ready()


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


@cache
def ready() -> bool:
    """Whether the code is compiled and known to XLA, which it is once this was asked; RAFMODEL_NATIVE=0 leaves all to XLA."""
    if os.environ.get("RAFMODEL_NATIVE") == "0":
        return False
    try:
        header = (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text()
        if not re.search(r"define XLA_FFI_API_MAJOR 0\b", header):
            raise ImportError("jaxlib's foreign-function interface is not of version 0")
        from rafmodel import machine_code

        for name in ("ahead", "back", "to_weight"):
            address = ctypes.c_void_p(getattr(machine_code, name).address)
            jax.ffi.register_ffi_target(f"rafmodel_{name}", jax.ffi.pycapsule(address), platform="cpu")
    except Exception as problem:  # whatever numba raises on a machine that it was not tried on
        logging.getLogger(__name__).warning("convolutions are slower than they could be: %s", problem)
        return False
    return True
