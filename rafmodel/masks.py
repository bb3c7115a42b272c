"""Which pixels belong to a structure: binary masks of a cohort, moved as their images are, and pixels drawn from them.

Both theory and simulation read this; what a dense probe makes of the pixels is in ``segment_predict`` and in ``segment``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.ndimage import maximum_filter

from rafmodel import cohort as cohorts
from rafmodel.architectures import Architecture
from rafmodel.choices import HEADS
from rafmodel.cohort import Cohort
from rafmodel.design import OF_MASKS, Design, fits
from rafmodel.encoder import NO_MAPS, Maps, Network, at_pixels, in_chunks, of_maps
from rafmodel.errors import InputError
from rafmodel.on_disk import OnDisk, batches, taken
from rafmodel.patches import cut_alike, foreground_biased_patches, of_patch
from rafmodel.variability import Variability

SAMPLINGS = ("foreground", "random")
ON_STRUCTURE = 0.5  # share of the patches of a labelled image that lie about a pixel of the structure
EACH = 64  # pixels drawn from a labelled image, half of them in the structure
AT_ONCE = 2**18  # most pixels of which dense features are held at a time


@dataclass(frozen=True)
class Segmentation:
    """The task of saying which pixels belong to a structure.

    foreground  classes of the mask that are the structure; none named: all above 0
    head        ``probe``, a linear score of each pixel's frozen features; ``decoder``, a small convolutional head on them;
                ``tuned``, the same head trained together with the encoder
    chance      Dice of calling every pixel foreground, the best that can be had without looking at the image
    patch       side in pixels of the patches that are learned from and scored, 0 for whole images
    sampling    ``foreground``: a share ON_STRUCTURE of the patches of a labelled image lie about a pixel of the structure;
                ``random``: all anywhere
    """

    foreground: tuple[int, ...] = ()
    head: str = "probe"
    chance: float = 0.0
    patch: int = 0
    sampling: str = "foreground"


def segmented(
    cohort: Cohort,
    foreground: Sequence[int] = (),
    head: str = "probe",
    *,
    patch: int = 0,
    sampling: str = "foreground",
) -> tuple[Cohort, Segmentation]:
    """The cohort with a mask of 1 in the structure and 0 elsewhere, and the task on it.

    Raises InputError, in one line, where the cohort has no masks, no mask has a class that was asked for, a part that
    is trained on or judged has no pixel of the structure, or nothing else, or a patch is larger than the images.
    """
    _check_patch(cohort.image.shape[1:-1], patch, sampling)
    if head not in HEADS:
        raise InputError(f"--head {head}: choose from {', '.join(HEADS)}")
    if cohort.mask is None:
        told = "has no masks, so its pixels have no class; use a cohort with `masks`, or leave --task out"
        raise InputError(f"{cohort.name}: {told}")
    there = cohorts.mask_classes(cohort)
    for missing in sorted(set(foreground) - set(there)):
        told = f"no pixel of the masks has this class; choose from {', '.join(map(str, there))}"
        raise InputError(f"--foreground {missing}: {told}")
    mark = partial(_marked, tuple(foreground))
    mask = cohort.mask.seen_as(mark, np.uint8) if isinstance(cohort.mask, OnDisk) else mark(cohort.mask)
    share = prevalence(mask)
    for part in ("train", "test"):
        inside = share[cohort.split == part]
        if not inside.any() or inside.min() == 1:
            what = "no pixel of the structure" if not inside.any() else "nothing but the structure"
            raise InputError(f"{cohort.name}: the masks of split '{part}' hold {what}; both are needed there")
    named = f"class {', '.join(map(str, foreground))}" if foreground else "classes above 0"
    made = replace(cohort, mask=mask, contrast=f"pixels of mask {named} against all other pixels")
    return made, Segmentation(tuple(foreground), head, chance(taken(mask, cohort.split != "test")), patch, sampling)


def _check_patch(space: tuple[int, ...], patch: int, sampling: str) -> None:
    whole = " x ".join(map(str, space))
    if sampling not in SAMPLINGS:
        raise InputError(f"--sampling {sampling}: choose from {', '.join(SAMPLINGS)}")
    if patch < 0:
        raise InputError(f"--patch {patch}: give a side in pixels above 0, or leave it out for whole images")
    if patch > min(space):
        told = f"larger than the images, {whole} pixels; take at most {min(space)}, or a larger --size"
        raise InputError(f"--patch {patch}: {told}")


def as_designed(task: Segmentation, design: Design) -> Segmentation:
    """The task with the patches, their sampling and the head that the design says; where it says none with the task's own."""
    chosen = {name: value for name in ("patch", "sampling", "head") if (value := getattr(design, name))}
    return replace(task, **chosen)


def patched(key: Array, labelled: Cohort, task: Segmentation) -> Cohort:
    """Patches of labelled images with their masks, as a cohort of small images; as it is where the task has no patches.

    Of every image as many as tile it once (sides divided by the patch's, rounded up), drawn as the task's sampling says.
    """
    space = labelled.image.shape[1:-1]
    if not task.patch:
        return labelled
    assert labelled.mask is not None
    each = math.prod(-(-side // task.patch) for side in space)
    share = ON_STRUCTURE if task.sampling == "foreground" else 0.0
    images, mask = jnp.asarray(cohorts.pixels(labelled)[:]), jnp.asarray(labelled.mask[:])
    found = foreground_biased_patches(key, images, mask, side=task.patch, each=each, share=share)
    picked = cohorts.take(replace(labelled, image=labelled.label, mask=None), np.asarray(found.row))
    return replace(picked, image=np.asarray(found.pixels), mask=np.asarray(cut_alike(mask, found)))


def _marked(foreground: tuple[int, ...], mask: np.ndarray) -> np.ndarray:
    """1 in the structure, 0 elsewhere."""
    return (np.isin(mask, foreground) if foreground else mask > 0).astype(np.uint8)


def chance(mask: np.ndarray | OnDisk) -> float:
    """Dice of calling every pixel foreground, 2 q / (1 + q), mean over masks (N, *space) that have any.

    A score that knows nothing of the image can do no better than this at any threshold, as it has an AUC of 0.5.
    """
    share = prevalence(mask)
    share = share[share > 0]
    return float((2 * share / (1 + share)).mean())


def prevalence(mask: np.ndarray | OnDisk) -> np.ndarray:
    """Share of each image's pixels that belong to the structure, (N,), of masks (N, *space)."""
    return np.concatenate([some.reshape(len(some), -1).mean(1) for some in batches(mask)])


OF_IMAGES = ("prevalence", "weighting", "resampling", "flip_case", "flip_control", "probe", "pooling")


def suited(
    designs: Sequence[Design], cohort: Cohort, *, named: bool, patch: int = 0, head: str = "probe"
) -> tuple[Design, ...]:
    """The designs that can say something of the cohort's pixels, or of those of patches of it, with such a head.

    named  whether each was asked for by name: InputError for the first that cannot; else it is left out
    """
    shape = cohort.image.shape[1:]
    found = []
    for design in designs:
        try:
            check(design, shape, classes=cohort.has_classes, head=design.head or head)
            if side := design.patch or patch:
                fits(design, of_patch(shape, side))
        except InputError:
            if named:
                raise
            continue
        found.append(design)
    return tuple(found)


def check(design: Design, shape: tuple[int, ...], *, classes: bool, head: str = "probe") -> None:
    """Raises InputError, before anything is trained, where the design cannot say anything of pixels with such a head.

    classes  whether the cohort's images are cases and controls, which a supervised proxy task needs
    """
    if design.proxy.labelled and not classes:
        told = "its proxy task needs the class of each image, and the cohort has masks only; leave it out of --designs"
        raise InputError(f"design '{design.name}': {told}, or name a column with --label")
    chosen = [name for name in OF_IMAGES if getattr(design, name) != getattr(Design, name)]
    if chosen:
        told = f"{chosen[0]} is a choice about labels of images, which a segmentation does not learn from"
        others = f"{', '.join(OF_MASKS)}, n_labelled, label_flip, flip_in or ridge"
        raise InputError(f"design '{design.name}': {told}; choose {others}")
    if design.sampling not in ("", *SAMPLINGS):
        told = f"sampling {design.sampling} is of images; choose from {', '.join(SAMPLINGS)} for pixels"
        raise InputError(f"design '{design.name}': {told}")
    for name in ("mask_jitter", "mask_coarse"):
        if (value := getattr(design, name)) > min(shape[:-1]):
            told = f"larger than the images, {' x '.join(map(str, shape[:-1]))} pixels; take at most {min(shape[:-1])}"
            raise InputError(f"design '{design.name}': {name} {value}: {told}")
    if head == "tuned" and design.encoder.frozen:
        told = f"encoder {design.encoder.name} is frozen, so a tuned head cannot train it; choose probe or decoder"
        raise InputError(f"design '{design.name}' does not fit: {told}")
    if told := _unfit(design.encoder, shape, design.widths):
        raise InputError(f"design '{design.name}' does not fit: {told}")


@cache
def _unfit(architecture: Architecture, shape: tuple[int, ...], widths: tuple[int, ...]) -> str:
    """Why a network says nothing of pixels; of one from outside its answer to a blank image tells."""
    network = architecture.build(jax.random.key(0), shape, widths)
    if not hasattr(network, "maps"):
        return f"encoder {architecture.name} {NO_MAPS}"
    try:
        if architecture.frozen:
            network.maps(np.zeros((1, *shape), np.float32))
    except InputError as problem:
        return str(problem)
    except Exception:  # each of its cells will say so
        return ""
    return ""


def around_pixels(cohort: Cohort, key: Array, *, side: int, each: int) -> Cohort:
    """Patches of ``side`` pixels around drawn pixels: a case where the pixel belongs to the structure of the mask.

    A dense probe as a cohort: what it scores is the AUC of pixels, and the receptive field is the patch.  Of every image that has
    the structure ``each`` pixels of it are drawn and as many beside it, at most half a side away; borders are extended.
    Raises InputError where the cohort has no masks, or an image fewer pixels than are to be drawn.
    """
    if cohort.mask is None:
        raise InputError(f"{cohort.name}: has no masks, so its pixels have no class; use a cohort with `masks`")
    inside = np.asarray(cohort.mask) > 0
    seen = inside.any(tuple(range(1, inside.ndim)))
    near = np.asarray(maximum_filter(inside, (1, *[side + 1] * (inside.ndim - 1))), bool) & ~inside
    n, *space = inside.shape
    drawn = np.asarray(jax.random.uniform(key, (n, math.prod(space))))
    flat = np.stack([near, inside]).reshape(2, n, -1)
    if (flat[:, seen].sum(-1) < each).any():
        raise InputError(f"{cohort.name}: an image has fewer than {each} pixels in or beside its structure; draw fewer")
    chosen = np.argpartition(np.where(flat, drawn, -1), -each, axis=-1)[..., -each:][:, seen]  # class, image, pixel
    places = [np.concatenate(part, 1).ravel() for part in np.unravel_index(chosen, space)]
    which = np.repeat(np.flatnonzero(seen), 2 * each)
    picked, half = (
        cohorts.take(replace(cohort, image=cohort.label, mask=None), which),
        side // 2,
    )  # without copying whole images
    padded = np.pad(np.asarray(cohort.image), ((0, 0), *[(half, half)] * len(space), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side,) * len(space), tuple(range(1, 1 + len(space))))
    patches = np.ascontiguousarray(
        np.moveaxis(windows[which, *places], 1, -1)
    )  # a window's axes come after the channels
    label = np.tile(np.repeat([0, 1], each), seen.sum()).astype(np.int8)
    contrast = f"pixels of the structure against pixels beside it, in patches of {side}"
    return replace(picked, image=patches, label=label, contrast=contrast, name=f"{cohort.name}_pixels")


# ---- masks under a shift


@partial(jax.jit, static_argnums=(1, 3))
def moved(key: Array, variability: Variability, masks: Array, channels: int, severities: Array) -> Array:
    """The masks (N, *space) that belong to ``alter(key, variability, images, severities)``, (S, N, *space).

    channels  of the images, on whose shape a draw may depend
    """
    if variability.warp is None:
        return jnp.broadcast_to(masks[None], (len(severities), *masks.shape))

    def one(key: Array, mask: Array) -> Array:
        drawn = variability.draw(key, (*mask.shape, channels))
        return jax.vmap(variability.move, (None, None, 0))(drawn, mask, severities)

    found = jax.lax.map(lambda row: one(*row), (jax.random.split(key, len(masks)), masks))
    return jnp.moveaxis(found, 1, 0)


# ---- pixels and their features


def drawn(key: Array, masks: np.ndarray, each: int = EACH) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of binary masks (N, *space): flat places (N, each), and their class (N, each), the structure's first.

    Half are of the structure and half of the rest, all pixels of a class alike; where an image has fewer than that,
    some come again, and where it has none of a class the label says -1 and the place means nothing.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    flat, half = np.asarray(masks).reshape(len(masks), -1), each // 2
    place, label = np.zeros((len(flat), 2 * half), np.int64), np.full((len(flat), 2 * half), -1, np.int8)
    for row, mask in enumerate(flat):
        for slot, c in ((slice(0, half), 1), (slice(half, None), 0)):
            there = np.flatnonzero(mask == c)
            if len(there):
                place[row, slot] = np.resize(rng.choice(there, min(half, len(there)), replace=False), half)
                label[row, slot] = c
    return place, label


def pixel_features(network: Network, images: np.ndarray | OnDisk, place: np.ndarray) -> np.ndarray:
    """Dense features (N, k, d) of the pixels at flat places (N, k) of images (N, *space, C)."""
    return in_chunks(of_maps(network, _gathered), images, place, chunk=at_once(images))


def at_once(images: Array | np.ndarray | OnDisk) -> int:
    """How many images (N, *space, C) are scored together."""
    return max(1, min(256, AT_ONCE // int(np.prod(images.shape[1:-1]))))


def _gathered(seen: Maps, space: tuple[int, ...], place: Array) -> Array:
    found = [at_pixels(x, space, seen).reshape(len(x), -1, x.shape[-1]) for x in seen.layers]
    return jnp.concatenate([jnp.take_along_axis(x, place[..., None], 1) for x in found], -1)


def merged(seen: Maps, weights: Sequence[Array], space: tuple[int, ...]) -> Array:
    """Dense features times a matrix, (N, *space, k): the same as of ``dense_features``, whose columns are never made.

    weights  (width, k) of each layer; interpolation and matrix commute
    """
    each = [at_pixels(x @ w, space, seen) for x, w in zip(seen.layers, weights, strict=True)]
    return sum(each[1:], each[0])
