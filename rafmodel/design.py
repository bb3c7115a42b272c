"""What a study chooses: an encoder, a proxy task with its view law, and how many labels of which quality."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rafmodel import architectures, external, proxies, transfer
from rafmodel.architectures import PLAIN, Architecture
from rafmodel.asked import BINARY, Asked
from rafmodel.choices import alternatives, choices_of_patches, rules, studied_as, view_law
from rafmodel.cohort import Cohort, groups, pixels
from rafmodel.errors import InputError
from rafmodel.patches import of_patch
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
    n_labelled     images with labels for the probe (and for a supervised proxy); fewer where a class runs out
    label_flip     share of those labels that are wrong
    ridge          the probe's penalty, relative to the mean variance of a feature
    encoder        how the encoder is built
    pretrain_on    cohort whose training images the proxy task sees; None: the study's own.  A supervised proxy takes its labels,
                   all of them right, as many as ``n_labelled``
    prevalence     share of cases among the labelled images, in (0, 1); None: half
    flip_case, flip_control  share of wrong labels among cases (missed ones) and among controls; None: ``label_flip``
    mask_jitter    s.d. in pixels by which the contour of labelled masks is off (``contours``); 0: right
    mask_missed    probability that a connected part of a labelled mask is missing
    mask_coarse    side in pixels of the blocks that labelled masks are made of; 1: pixels
    flip_in        the one subgroup in which labels, or masks, are wrong; '': in all
    group          attribute that names the subgroups of ``flip_in`` and of balancing; None: none
    weighting      what weighs alike in the probe's loss: none (images), class, or group (each class of each subgroup)
    resampling     the same by showing images of smaller ones several times, to a supervised proxy too
    probe          ridge, logistic, or finetuned: the encoder is trained on with a linear head
    precision      what pre-training computes in: float32 or bfloat16; weights are kept in float32
    patch          side in pixels of the patches that encoder and probe see in place of images; 0: whole images
    pooling        how scores of an image's tiles become the image's (``tiles.POOL``): mean, max, or top
    sampling       which patches of labelled images the probe sees: grid, the tiles that images are scored by; random, anywhere;
                   foreground, half of them about a pixel of the mask's structure; '': grid; of pixels see ``masks.Segmentation``
    head           how pixels are scored, as ``masks.Segmentation`` has it; '': as the task says
    """

    name: str
    proxy: Proxy
    widths: tuple[int, ...] = (16, 32, 64)
    steps: int = 400
    batch: int = 128
    learning_rate: float = 3e-3
    n_unlabelled: int = 20_000
    n_labelled: int = 256
    label_flip: float = 0.0
    ridge: float = 1e-2
    encoder: Architecture = PLAIN
    pretrain_on: Cohort | None = field(default=None, repr=False)
    prevalence: float | None = None
    flip_case: float | None = None
    flip_control: float | None = None
    mask_jitter: float = 0.0
    mask_missed: float = 0.0
    mask_coarse: int = 1
    flip_in: str = ""
    group: str | None = None
    weighting: str = "none"
    resampling: str = "none"
    probe: str = "ridge"
    precision: str = "float32"
    patch: int = 0
    pooling: str = "mean"
    sampling: str = ""
    head: str = ""


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


OF_TWO = ("prevalence", "flip_case", "flip_control")  # choices that say nothing where there are more than two classes
OF_MASKS = ("mask_jitter", "mask_missed", "mask_coarse")  # choices about how masks were drawn
STRONGEST = 2.0  # beyond it a crop would leave nothing of an image


def select(
    texts: Sequence[str] | None, *, steps: int | None = None, like: Cohort | None = None, patch: int = 0
) -> tuple[Design, ...]:
    """Designs by name, in the given order; those of a plain study for None.  ``steps`` replaces those of trained designs.

    patch  of every design that does not say its own in brackets

    ``DESIGN@ENCODER`` or ``DESIGN@ENCODER:base`` takes another encoder, ``external:PLACE`` a frozen one from outside.  Behind
    each of them ``[key=value,key=one|two]`` makes choices of a ``Design``, and ``strength`` that scales its views' severities,
    one design for each combination.  ``TASK[views=NAME+NAME]`` takes variabilities as views (``choices.view_law``).
    ``pretrain_on`` names a cohort (``transfer``), brought to the sides of ``like``'s images.
    Raises InputError for a name, a choice or a value that does not exist.
    """
    if not texts:
        return tuple(replace(_stepped(design, steps), patch=patch) for design in DESIGNS)
    asked = {label: (name, choices) for text in texts for label, name, choices in alternatives(text)}
    return tuple(
        _chosen(label, _stepped(_named(name, "views" in choices), steps), {"patch": patch} | choices, like)
        for label, (name, choices) in asked.items()
    )


def _stepped(design: Design, steps: int | None) -> Design:
    return replace(design, steps=steps) if steps is not None and design.steps else design


def _named(text: str, viewed: bool = False) -> Design:
    """The design of a name; where its views are to be chosen, that of a proxy task alone."""
    if text.startswith(external.PREFIX):
        frozen = external.architecture(text.removeprefix(external.PREFIX))
        return Design(text, proxies.untrained(), steps=0, encoder=frozen)
    name, at, kind = text.partition("@")
    known = {design.name: design for design in (*DESIGNS, *MORE)}
    if viewed:
        known = {design.name.partition("+")[0]: design for design in known.values() if design.proxy.on}
        if name not in known:
            told = f"no proxy task that makes views is called '{name}'; choose from {', '.join(known)}"
            raise InputError(f"--designs {text}[views=...]: {told}")
    if name not in known:
        others = f"any of them @{'/'.join(architectures.ARCHITECTURES)}, TASK[views=NAME+NAME], or external:PLACE"
        raise InputError(f"--designs: no design is called '{name}'; choose from {', '.join(known)}, {others}")
    if not at:
        return known[name]
    encoder, widths = architectures.named(kind)
    rate = encoder.learning_rate or known[name].learning_rate
    return replace(known[name], name=text, encoder=encoder, widths=widths, learning_rate=rate)


def _chosen(label: str, design: Design, choices: dict[str, Any], like: Cohort | None) -> Design:
    """The design with the choices made."""
    design, rest = replace(design, name=label), dict(choices)
    if named := rest.pop("views", ""):
        design = _viewed(design, named, rest.get("strength", 1.0))
    if "strength" in rest:
        design = strengthened(design, rest.pop("strength"))
    if "pretrain_on" in rest:
        rest["pretrain_on"] = transfer.named(rest["pretrain_on"], like)
    return replace(design, **rest)


def _viewed(design: Design, named: str, strength: float) -> Design:
    """The design on other views, which are yet to be made ``strength`` times as severe.

    Raises InputError where the task makes none, or one would be beyond its strongest level, which not every law can take.
    """
    if design.proxy.on is None:
        raise InputError(f"design '{design.name}': {design.proxy.name} makes no views that could be chosen")
    law = view_law(named)
    for variability, middle in law:
        if middle * strength > variability.levels[-1]:
            most = f"choose a strength of at most {min(STRONGEST, variability.levels[-1] / middle):.2g}"
            raise InputError(f"design '{design.name}': {variability.name} would be beyond its strongest level; {most}")
    return replace(design, proxy=design.proxy.on(law))


def strengthened(design: Design, strength: float) -> Design:
    """The design whose views are ``strength`` times as severe, above 0 and at most STRONGEST; 1 changes nothing.

    Raises InputError for another strength, or where the task has no views.
    """
    if not 0 < strength <= STRONGEST:
        raise InputError(f"design '{design.name}': strength {strength:g} must be above 0 and at most {STRONGEST:g}")
    if design.proxy.on is None or not design.proxy.law:
        raise InputError(f"design '{design.name}': {design.proxy.name} makes no views whose strength could be chosen")
    law = tuple((variability, strongest * strength) for variability, strongest in design.proxy.law)
    return replace(design, proxy=design.proxy.on(law))


def scaled_views(design: Design) -> bool:
    """Whether the views are of a design with a name, but of another strength."""
    known = {one.name: one.proxy for one in (*DESIGNS, *MORE)}.get(studied_as(design.name))
    return known is not None and known.law != design.proxy.law


def fitted(
    designs: Sequence[Design], cohort: Cohort, group: str | None = None, *, of_pixels: bool = False
) -> tuple[Design, ...]:
    """The designs, told the attribute ``group`` that names subgroups, a supervised task what the labels it learns say, and a
    table of features that its rows are the cohort's.

    of_pixels  whether masks are learned, as in a segmentation, not classes of images
    Raises InputError, before anything is trained, for the first that does not fit the cohort.
    """
    designs = [replace(d, proxy=d.proxy.taught((d.pretrain_on or cohort).asked)) for d in designs]
    designs = [replace(d, group=group) if d.group is None and _asks_subgroups(d) else d for d in designs]
    for design in designs:
        check(design, cohort.image.shape[1:])
        check_labels(design, cohort, of_pixels=of_pixels)
    tables = any(d.encoder.frozen for d in designs)
    images = pixels(cohort) if tables else np.empty(0)
    return tuple(replace(d, encoder=external.bound(d.encoder, images)) if d.encoder.frozen else d for d in designs)


def check(design: Design, shape: tuple[int, ...]) -> None:
    """Raises InputError, in one line, where the design does not fit images of this shape (*space, C), or itself."""
    for choice, sound, told in (*rules(design), *choices_of_patches(design, min(shape[:-1]))):
        if not sound:
            raise InputError(f"design '{design.name}': {choice} {getattr(design, choice)} must be {told}")
    if design.encoder.frozen and (design.steps or design.probe == "finetuned"):
        told = f"{design.encoder.name} is frozen, so it cannot be trained; use steps=0 and another probe than finetuned"
        raise InputError(f"design '{design.name}': {told}")
    if design.patch and design.encoder.doubt == external.CLEAN_ONLY:
        raise InputError(f"design '{design.name}': a table of features has no patches; leave patch out")
    if design.pretrain_on is not None and design.pretrain_on.image.shape[1:] != shape:
        there = f"images of {design.pretrain_on.name}, to pre-train on, are {design.pretrain_on.image.shape[1:]}"
        raise InputError(f"design '{design.name}': {there} but the cohort's {shape}; choose a cohort of the same kind")
    fits(design, of_patch(shape, design.patch))


def fits(design: Design, shape: tuple[int, ...]) -> None:
    """Raises InputError, in one line, where the proxy task or the encoder cannot take images, or patches, (*space, C)."""
    try:
        design.proxy.check(shape)
        design.encoder.check(shape)
        design.encoder.check(design.proxy.inputs(shape)[1 if design.proxy.patched else 0 :])
    except InputError as problem:
        raise InputError(f"design '{design.name}' does not fit: {problem}") from None


def remark(design: Design, shape: tuple[int, ...]) -> str:
    """A line on what the task leaves out of images of this shape (*space, C); '' where it sees them whole."""
    shape = of_patch(shape, design.patch)
    cells = design.proxy.grid(shape) if design.proxy.grid else 1
    if all(side % cells == 0 for side in shape[:-1]):
        return ""
    return (
        f"{design.proxy.name}: sides {shape[:-1]} are no multiples of {cells} cells, so the last pixels are not shown"
    )


def check_labels(design: Design, cohort: Cohort, *, of_pixels: bool = False) -> None:
    """Raises InputError where the cohort's training part has not the images, labels or subgroups that the design asks for.

    of_pixels  whether labels are masks, of which any training image has one, and not classes, of which each needs as many
    A number of images that is the usual one stands for at most so many.
    """
    source, asked = cohort.split == "train", cohort.asked
    label, where = cohort.label[source], f"design '{design.name}'"
    if asked.several and (chosen := [name for name in OF_TWO if getattr(design, name) is not None]):
        told = f"{chosen[0]} is a choice about cases and controls, and --task {asked.kind} has other classes"
        raise InputError(f"{where}: {told}; leave it out, or choose label_flip, flip_in, weighting or resampling")
    if not of_pixels and (poor := poorly_drawn(design)):
        told = f"{poor[0]} is a choice about masks, which only a segmentation learns from"
        raise InputError(f"{where}: {told}; leave it out, or add --task segmentation")
    if of_pixels:
        _check_masks(design, cohort.name, len(label))
    elif cohort.has_classes:
        _check_classes(design, cohort.name, label, asked)
    seen = cohort if design.pretrain_on is None else design.pretrain_on
    n = int((seen.split == "train").sum())
    if design.n_unlabelled != Design.n_unlabelled and n < design.n_unlabelled:
        raise InputError(f"{where}: {design.n_unlabelled} images are asked for, but {seen.name} has {n} to train on")
    if design.proxy.labelled and min(n_by_class(design, seen.label[seen.split == "train"], seen.asked)) < 1:
        raise InputError(f"{where}: {design.proxy.name} learns classes, but {seen.name} has not both to train on")
    if design.sampling == "foreground" and cohort.mask is None:
        raise InputError(f"{where}: sampling foreground needs masks, and {cohort.name} has none; choose grid or random")
    if not _asks_subgroups(design):
        return
    if design.group is None:
        raise InputError(f"{where}: asks for subgroups, but none are named; add --group ATTRIBUTE, or group=ATTRIBUTE")
    names, code = groups(cohort, design.group)
    there = [names[g] for g in np.unique(code[source])]
    if design.flip_in and design.flip_in not in there:
        raise InputError(f"{where}: no subgroup '{design.flip_in}' to train on; choose from {', '.join(there)}")


def _check_masks(design: Design, cohort: str, n: int) -> None:
    """Raises InputError where more masks are asked for than the n training images of a cohort have."""
    if design.n_labelled != Design.n_labelled and n < design.n_labelled:
        there = f"{cohort} has {n} training images with a mask; ask for at most {n}"
        raise InputError(f"design '{design.name}': {design.n_labelled} labelled images are asked for, but {there}")


def _check_classes(design: Design, cohort: str, label: np.ndarray, asked: Asked) -> None:
    """Raises InputError where the classes (n,) of a cohort's training images do not give what the design asks for."""
    where, drawn, have = f"design '{design.name}'", n_by_class(design, label, asked), counted(label, asked)
    if min(drawn) < 1:
        raise InputError(f"{where}: {_told(drawn, asked)} would be labelled; ask for more labels")
    if design.n_labelled != Design.n_labelled and sum(drawn) <= design.n_labelled - len(drawn):
        there = f"{_told(have, asked)} of {cohort} give {sum(drawn)}"
        raise InputError(
            f"{where}: {design.n_labelled} labels are asked for, but {there} at this prevalence; ask for fewer"
        )


def _told(count: Sequence[int], asked: Asked) -> str:
    """Numbers of images by stratum, in words."""
    return f"{count[1]} cases and {count[0]} controls" if not asked.several else f"{', '.join(map(str, count))} images"


def _asks_subgroups(design: Design) -> bool:
    return bool(design.flip_in) or "group" in (design.weighting, design.resampling)


def n_labels(design: Design, label: np.ndarray, asked: Asked = BINARY) -> int:
    """Labels the probe gets from a source with these labels: fewer than asked for where a class runs out."""
    return sum(n_by_class(design, label, asked))


def n_by_class(design: Design, label: np.ndarray, asked: Asked = BINARY) -> tuple[int, ...]:
    """Controls and cases among them: half of each class, or as the prevalence says; of several as many of each stratum."""
    have = counted(label, asked)
    if design.prevalence is None:
        return (min(design.n_labelled // len(have), *have),) * len(have)
    shares = (1 - design.prevalence, design.prevalence)
    n = min(design.n_labelled, *(int(there / share + 1e-9) for there, share in zip(have, shares, strict=True)))
    cases = round(n * design.prevalence)
    return n - cases, cases


def counted(label: np.ndarray, asked: Asked = BINARY) -> list[int]:
    """Images with codes (n,) in each stratum that labels are drawn from."""
    stratum = asked.strata(label)
    return [int((stratum == c).sum()) for c in range(asked.n_strata)]


def poorly_drawn(design: Design) -> list[str]:
    """The choices by which a design's labelled masks are wrong."""
    return [name for name in OF_MASKS if getattr(design, name) != getattr(Design, name)]


def unforeseen(design: Design) -> list[str]:
    """What theory does not see of how the design learns its labels, or was not checked on."""
    by_group, poor = "group" in (design.weighting, design.resampling), poorly_drawn(design)
    found = {
        "pre-training on another cohort (checked: on the study's own)": design.pretrain_on is not None,
        "a finetuned probe, foreseen as if it were a ridge probe": design.probe == "finetuned",
        "labels balanced by subgroup, foreseen as if by class": by_group,
        "labels wrong in one subgroup, foreseen as if they were in all": bool(design.flip_in),
        f"masks drawn poorly ({', '.join(poor)}), foreseen as if they were right": bool(poor),
        f"tiles of {design.patch} pixels and the {design.pooling} of their scores, foreseen as if images were seen whole": (
            design.patch > 0
        ),
    }
    return [why for why, so in found.items() if so]
