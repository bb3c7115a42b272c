"""Patches of images, cut and added up by machine code inside XLA's programs on a CPU.

XLA makes the patches of a convolution by slicing a padded image nine times and concatenating the slices, which takes two cores
twice as long as copying them, and adds up what a pixel gets from its patches no faster.  ``machine_code`` does both.  Where it
cannot be compiled, or jaxlib's foreign-function interface is another one, ``fits`` is false and XLA does all.
"""

import ctypes
import logging
import os
import re
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def fits(x: Array) -> bool:
    """Whether patches of x are cut here: single precision, one device, a machine on which this compiles."""
    return x.dtype == jnp.float32 and jax.local_device_count() == 1 and ready()


def patches(x: Array, *, stride: int) -> Array:
    """Every 3x3 (3x3x3) patch at a stride, zeros around: (N, *space, C) -> (N, *ceil(space / stride), 3^dims C), float32."""
    n, *space, channels = x.shape
    shape = (n, *(-(-side // stride) for side in space), 3 ** len(space) * channels)
    return _called("patches", x, shape, stride)


def unpatched(slope: Array, shape: tuple[int, ...], *, stride: int) -> Array:
    """The transpose of ``patches``: every pixel (N, *space, C) of ``shape`` gets the sum over its places in patches, float32."""
    return _called("unpatched", slope, shape, stride)


def _called(name: str, x: Array, shape: tuple[int, ...], stride: int) -> Array:
    made = jax.ShapeDtypeStruct(_deep(shape), x.dtype)
    call = jax.ffi.ffi_call(f"rafmodel_{name}", made, vmap_method="broadcast_all")
    return call(x.reshape(_deep(x.shape)), stride=np.int64(stride)).reshape(shape)


def _deep(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(N, depth, height, width, C): a picture is a volume of one plane."""
    return shape if len(shape) == 5 else (shape[0], 1, *shape[1:])


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

        for name in ("patches", "unpatched"):
            address = ctypes.c_void_p(getattr(machine_code, name).address)
            jax.ffi.register_ffi_target(f"rafmodel_{name}", jax.ffi.pycapsule(address), platform="cpu")
    except Exception as problem:  # whatever numba raises on a machine that it was not tried on
        logging.getLogger(__name__).warning("convolutions are slower than they could be: %s", problem)
        return False
    return True
