"""What a study chooses: an encoder, a proxy task with its view law, and how many labels of which quality."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rafmodel import architectures, external, proxies
from rafmodel.architectures import PLAIN, Architecture
from rafmodel.cohort import Cohort, pixels
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
    encoder        how the encoder is built
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
    encoder: Architecture = PLAIN


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


MORE = (
    *(Design(f"barlow+{views}", proxies.barlow(VIEWS[views])) for views in ("crop", "noise", "all")),
    *(Design(f"byol+{views}", proxies.self_distillation(VIEWS[views])) for views in ("crop", "noise", "all")),
)  # not in a plain study, whose table is compared over time; chosen by name


def select(names: Sequence[str] | None, *, steps: int | None = None) -> tuple[Design, ...]:
    """Designs by name, in the given order; those of a plain study for None.  ``steps`` replaces those of trained designs.

    ``DESIGN@ENCODER`` or ``DESIGN@ENCODER:base`` takes another encoder, ``external:PLACE`` a frozen one from outside.
    Raises InputError for a name that does not exist.
    """
    chosen = [_named(name) for name in dict.fromkeys(names)] if names else list(DESIGNS)
    return tuple(replace(d, steps=steps) if steps is not None and d.steps else d for d in chosen)


def _named(text: str) -> Design:
    if text.startswith(external.PREFIX):
        frozen = external.architecture(text.removeprefix(external.PREFIX))
        return Design(text, proxies.untrained(), steps=0, encoder=frozen)
    name, at, kind = text.partition("@")
    known = {design.name: design for design in (*DESIGNS, *MORE)}
    if name not in known:
        others = f"any of them @{'/'.join(architectures.ARCHITECTURES)}, or external:PLACE"
        raise InputError(f"--designs: no design is called '{name}'; choose from {', '.join(known)}, {others}")
    if not at:
        return known[name]
    encoder, widths = architectures.named(kind)
    rate = encoder.learning_rate or known[name].learning_rate
    return replace(known[name], name=text, encoder=encoder, widths=widths, learning_rate=rate)


def fitted(designs: Sequence[Design], cohort: Cohort) -> tuple[Design, ...]:
    """The designs, a table of features told that its rows are the cohort's.

    Raises InputError, before anything is trained, for the first that does not fit the cohort's images.
    """
    for design in designs:
        check(design, cohort.image.shape[1:])
    tables = any(d.encoder.frozen for d in designs)
    images = pixels(cohort) if tables else np.empty(0)
    return tuple(replace(d, encoder=external.bound(d.encoder, images)) if d.encoder.frozen else d for d in designs)


def check(design: Design, shape: tuple[int, ...]) -> None:
    """Raises InputError, in one line, where the design does not fit images of this shape (*space, C)."""
    if design.encoder.frozen and design.steps:
        raise InputError(
            f"design '{design.name}': {design.encoder.name} is frozen, so it cannot be trained; use steps=0"
        )
    try:
        design.proxy.check(shape)
        design.encoder.check(shape)
        design.encoder.check(design.proxy.inputs(shape)[1 if design.proxy.patched else 0 :])
    except InputError as problem:
        raise InputError(f"design '{design.name}' does not fit: {problem}") from None


def n_labels(design: Design, label: np.ndarray) -> int:
    """Labels the probe gets from a source with these labels: half of each class, fewer where the rarer runs out."""
    return 2 * min(design.n_labelled // 2, *(int((label == c).sum()) for c in (0, 1)))
