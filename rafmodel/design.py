"""What a study chooses: an encoder, a proxy task with its view law, and how many labels of which quality."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rafmodel import proxies
from rafmodel.errors import InputError
from rafmodel.proxies import Proxy
from rafmodel.variability import BIAS, BLUR, CROP, GAIN, GAMMA, NOISE, ROTATION, SPIKE


@dataclass(frozen=True)
class Design:
    """One learning design.

    name           label in tables
    proxy          the task the encoder is pre-trained on
    widths         channels of the encoder's layers; the last is the feature dimension
    steps, batch   optimiser steps and images per step; 0 steps leave the encoder untrained
    learning_rate  peak of Adam's one-cycle cosine schedule
    n_unlabelled   most images the proxy task may see
    n_labelled     images with labels, half of each class, for the probe (and for a supervised proxy)
    label_flip     share of those labels that are wrong
    ridge          the probe's penalty, relative to the mean variance of a feature
    """

    name: str
    proxy: Proxy
    widths: tuple[int, ...] = (16, 32, 64)
    steps: int = 800
    batch: int = 128
    learning_rate: float = 3e-3
    n_unlabelled: int = 20_000
    n_labelled: int = 256
    label_flip: float = 0.0
    ridge: float = 1e-2


_CROP = (CROP, 0.4)
_CONTRAST = ((GAIN, 0.5), (GAMMA, 0.6))
_ROTATION = (ROTATION, 90.0)
_NOISE = (NOISE, 0.3)
# geometry acts before intensity, noise of the detector comes last
_ALL = (_CROP, _ROTATION, (BLUR, 0.05), *_CONTRAST, (BIAS, 0.4), (SPIKE, 0.2), _NOISE)

VIEWS = {
    "crop": (_CROP,),
    "contrast": (_CROP, *_CONTRAST),
    "rotation": (_CROP, _ROTATION),
    "noise": (_CROP, _NOISE),
    "all": _ALL,
}

DESIGNS = (
    Design("untrained", proxies.untrained(), steps=0),
    Design("supervised", proxies.supervised(())),
    Design("supervised+crop", proxies.supervised(VIEWS["crop"])),
    Design("supervised+all", proxies.supervised(VIEWS["all"])),
    Design("contrastive+crop", proxies.contrastive(VIEWS["crop"])),
    Design("contrastive+contrast", proxies.contrastive(VIEWS["contrast"])),
    Design("contrastive+rotation", proxies.contrastive(VIEWS["rotation"])),
    Design("contrastive+noise", proxies.contrastive(VIEWS["noise"])),
    Design("contrastive+all", proxies.contrastive(VIEWS["all"])),
    Design("vicreg+crop", proxies.decorrelating(VIEWS["crop"])),
    Design("vicreg+noise", proxies.decorrelating(VIEWS["noise"])),
    Design("vicreg+all", proxies.decorrelating(VIEWS["all"])),
    Design("rotation", proxies.rotation_prediction(VIEWS["crop"])),
    Design("jigsaw", proxies.jigsaw(())),
    Design("masked", proxies.masked(VIEWS["crop"])),
    Design("cpc", proxies.predictive_coding(VIEWS["crop"])),
    Design("location", proxies.relative_location(())),
    Design("exemplar+all", proxies.exemplar(VIEWS["all"])),
)


def select(names: Sequence[str] | None, *, steps: int | None = None) -> tuple[Design, ...]:
    """Designs by name, in the given order; all of them for None.  ``steps`` replaces those of trained designs.

    Raises InputError for a name that does not exist.
    """
    known = {design.name: design for design in DESIGNS}
    for name in names or ():
        if name not in known:
            raise InputError(f"--designs: no design is called '{name}'; choose from {', '.join(known)}")
    chosen = [known[name] for name in dict.fromkeys(names)] if names else list(DESIGNS)
    return tuple(replace(d, steps=steps) if steps is not None and d.steps else d for d in chosen)


def n_labels(design: Design, label: np.ndarray) -> int:
    """Labels the probe gets from a source with these labels: half of each class, fewer where the rarer runs out."""
    return 2 * min(design.n_labelled // 2, *(int((label == c).sum()) for c in (0, 1)))
