"""A variability from outside the package: ``module:OBJECT``, a ``Variability`` in a module that Python finds."""

import importlib
import inspect
import math
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from rafmodel.errors import InputError, in_a_line
from rafmodel.variability.law import Variability, alter

SIDE = 16  # of the image that a law is tried on


def named(place: str) -> Variability:
    """The law at ``module:OBJECT``, after it was tried on one image at its five levels.

    Its content is a digest of the module's text and of what it made of that image, since the cells of a study are found by it.
    Raises InputError where it cannot be imported, is something else, or does not alter an image as a law should.
    """
    module, _, name = place.partition(":")
    try:
        found = importlib.import_module(module)
        law = getattr(found, name)
    except Exception as problem:  # a module may raise anything while it is imported
        raise InputError(f"{place}: {in_a_line(problem)}; give module:OBJECT that can be imported") from problem
    if not isinstance(law, Variability):
        raise InputError(f"{place}: is a {type(law).__name__}; give a rafmodel.variability.Variability")
    if len(law.levels) != 5 or not all(low < high for low, high in pairwise((0, *law.levels))):
        raise InputError(f"{place}: levels {law.levels}; give five that grow, the first above 0")
    law = replace(law, levels=tuple(map(float, law.levels)))
    file = inspect.getsourcefile(found)
    text = Path(file).read_bytes() if file else b""
    return replace(law, content=sha256(text + _tried(place, law).tobytes()).hexdigest()[:16])


def _tried(place: str, law: Variability) -> np.ndarray:
    """What the law makes of a ramp at its levels, (5, *space, C).  Raises InputError where that is no image of the same kind."""
    shape = (*(SIDE,) * law.dims[0], 3 if law.colour else 1)
    ramp = jnp.linspace(0.1, 0.9, math.prod(shape), dtype=jnp.float32).reshape(1, *shape)
    try:
        made = np.asarray(alter(jax.random.key(0), law, ramp, jnp.asarray(law.levels, jnp.float32)))[:, 0]
    except Exception as problem:  # it is somebody else's code
        told = f"on an image {shape}: {in_a_line(problem)}"
        raise InputError(f"{place}: {told}; write draw(key, shape) and law(drawn, image, severity)") from problem
    if made.shape != (5, *shape) or not (made.min() >= 0 and made.max() <= 1 + 1e-6):
        told = f"made {made.shape[1:]} from {made.min():.3g} to {made.max():.3g} of an image {shape}"
        raise InputError(f"{place}: {told}; keep its shape, and grey values in [0, 1]")
    return made
