"""How one anatomy's image varies: the same objects are augmentations of a proxy task and shifts at deployment.

``law`` says what a variability is; the other modules hold the laws by what causes them.  To add one, write
``law(drawn, image, severity) -> image`` and name its unit and five levels.
"""

from collections.abc import Sequence

from rafmodel.errors import InputError
from rafmodel.variability import acquisition, fitted, geometry, intensity, noise, obstruction, outside, resolution
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
    "named",
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


def named(name: str, asked: str = "") -> Variability:
    """One of the catalogue; ``FILE.nc:SUBGROUP``, fitted to a cohort (``fitted``); ``module:OBJECT``, a user's own (``outside``).

    asked  what the name was given to, for an error's words
    Raises InputError for a name that does not exist, or a law from outside that takes the name of another.
    """
    said = f"{asked}: " if asked else ""
    if ".nc:" in name:
        return fitted.named(name)
    if ":" in name:
        law = outside.named(name)
        if law.name in CATALOGUE:
            raise InputError(f"{said}{name}: its name '{law.name}' is that of a law of the package; give it another")
        return law
    if name not in CATALOGUE:
        raise InputError(
            f"{said}no variability is called '{name}'; choose from {', '.join(CATALOGUE)}, or give your own, module:OBJECT"
        )
    return CATALOGUE[name]


def select(names: Sequence[str] | None, asked: str = "") -> tuple[Variability, ...]:
    """Variabilities as ``named``, in the given order; the eight of a plain study for None.

    asked  what the names were given to, for an error's words
    Raises InputError for a name that does not exist, or one law's name for two.
    """
    chosen = {name: named(name, asked) for name in names or ()}
    said, by_name = f"{asked}: " if asked else "", {law.name: name for name, law in chosen.items()}
    for name, law in chosen.items():
        if by_name[law.name] != name:
            raise InputError(f"{said}{name} and {by_name[law.name]}: both are called '{law.name}'; choose one of them")
    return tuple(chosen.values()) or VARIABILITIES


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
