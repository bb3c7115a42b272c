"""How one anatomy's image varies: the same objects are augmentations of a proxy task and shifts at deployment.

``law`` says what a variability is; the other modules hold the laws by what causes them.  To add one, write
``law(drawn, image, severity) -> image`` and name its unit and five levels.
"""

from collections.abc import Sequence

from rafmodel.errors import InputError
from rafmodel.variability import acquisition, fitted, geometry, intensity, noise, obstruction, resolution
from rafmodel.variability.acquisition import SPIKE
from rafmodel.variability.geometry import CROP, ROTATION
from rafmodel.variability.intensity import BIAS, GAIN, GAMMA
from rafmodel.variability.law import Record, Step, Variability, alter, compose, repeat
from rafmodel.variability.noise import NOISE
from rafmodel.variability.resolution import BLUR

__all__ = [
    "BIAS",
    "BLUR",
    "CATALOGUE",
    "CROP",
    "FAMILIES",
    "GAIN",
    "GAMMA",
    "NOISE",
    "ROTATION",
    "SPIKE",
    "VARIABILITIES",
    "Record",
    "Step",
    "Variability",
    "alter",
    "compose",
    "repeat",
    "select",
    "suited",
]

VARIABILITIES = (GAIN, GAMMA, ROTATION, NOISE, BLUR, BIAS, SPIKE, CROP)  # what a study takes unless told otherwise

FAMILIES = {
    module.__name__.rsplit(".", 1)[1]: tuple(v for v in vars(module).values() if isinstance(v, Variability))
    for module in (intensity, geometry, noise, resolution, acquisition, obstruction)
}
CATALOGUE = {variability.name: variability for family in FAMILIES.values() for variability in family}


def select(names: Sequence[str] | None, asked: str = "--shifts") -> tuple[Variability, ...]:
    """Variabilities by name, in the given order; the eight of a plain study for None.

    asked  what the names were given to, for an error's words
    ``FILE.nc:SUBGROUP`` is a law fitted to a cohort (``fitted``).  Raises InputError for a name that does not exist.
    """
    known = CATALOGUE | {name: fitted.named(name) for name in names or () if ".nc:" in name}
    for name in names or ():
        if name not in known:
            raise InputError(f"{asked}: no variability is called '{name}'; choose from {', '.join(CATALOGUE)}")
    return tuple(known[name] for name in dict.fromkeys(names)) if names else VARIABILITIES


def suited(names: Sequence[str], shape: tuple[int, ...]) -> tuple[Variability, ...]:
    """As ``select`` for images of a shape (*space, C); the one name ``all`` stands for every law that suits them.

    Raises InputError for a name that does not exist or a law that does not suit.
    """
    if tuple(names) == ("all",):
        return tuple(v for v in CATALOGUE.values() if len(shape) - 1 in v.dims and (shape[-1] == 3 or not v.colour))
    chosen = select(names)
    for variability in chosen:
        variability.check(shape)
    return chosen
