"""What a study will take, before it is run: time, memory and disk from counts of operations.

Rates were measured by ``benchmarks/what_a_cell_costs.py`` on a laptop's cores; on another machine, a GPU above all, they are
others, so the estimate is good to a factor of about UNSURE either way.
"""

import math
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rafmodel import patches, segment
from rafmodel.design import Design, n_labels
from rafmodel.on_disk import OnDisk
from rafmodel.patches import of_patch
from rafmodel.pretrain import GATHERED
from rafmodel.proxies import Proxy
from rafmodel.running import Cell, Plan
from rafmodel.simulate import FINE_STEPS, IMAGES, PIXELS, UNSEEN

UNSURE = 3.0
FLOPS = 2e10  # of a core: encoder's operations a second, forward and backward
ALTERED = 2e7  # of a core: pixels a second that one variability alters
COMPILED = (12.0, 4.0)  # core-seconds to compile a design's training, and a shift, each once
FORESEEN = (20.0, 2.0)  # core-seconds of theory: for the first design, and for each more
REPORTED = (30.0, 2.0)  # core-seconds of the check and the report, and for each design more
PROCESS, THEORY = 0.5e9, 0.6e9  # bytes of a process before it has an image, and of theory in the one that asks
LIVE = 8  # copies of a batch's images and maps that are alive in a training step


@dataclass(frozen=True)
class Cost:
    """An estimate.

    core_seconds  of one core, in all; seconds  on the cores that the executor has
    memory        bytes at most in the process that asks; worker  in each of the others, 0 where there are none
    disk          bytes that stay
    """

    core_seconds: float
    seconds: float
    memory: float
    worker: float
    disk: float


def estimate(plan: Plan, missing: list[Cell], executor: str, cores: int) -> Cost:
    """What the cells that are missing will take, with theory, check and report.

    cores  of this machine, or of a cluster; cells are taken to share them without loss
    """
    todo = {i for i, _ in missing}
    one = {i: core_seconds(plan, plan.designs[i]) for i in todo}
    cells = sum(one[i] for i, _ in missing)
    compiled = COMPILED[0] * sum(plan.designs[i].steps > 0 for i in todo) + COMPILED[1] * len(plan.shifts) * bool(todo)
    designs = len(plan.designs)
    around = sum(first + more * designs for first, more in (FORESEEN, REPORTED))
    busy = min(cores, 2 * len(missing)) or 1  # a cell keeps about two cores busy
    seconds = (cells + compiled) / busy + around / min(cores, 2)
    n_test = int((plan.cohort.split == "test").sum())
    scores = designs * plan.seeds * len(plan.shifts) * 6 * (n_test + UNSEEN) * (len(plan.task.questions) or 1)
    disk = 4 * scores + 3e6
    apart = executor.startswith(("local", "dask"))
    here, there = memory(plan, 0 if apart else 2) + THEORY, memory(plan, 1) if apart else 0.0
    return Cost(cells + compiled + around, seconds, here, there, disk)


def core_seconds(plan: Plan, design: Design) -> float:
    """Time of a core for one cell, compiled already: training, then every test image under every level of every shift."""
    whole, task = plan.cohort.image.shape[1:], plan.task
    side = design.patch or task.patch
    shape = of_patch(whole, side)
    scored_by = design.head or task.head
    pixels, forward, head = math.prod(shape), operations(design, shape), _headed(scored_by, shape)
    views = 2 if design.proxy.siamese else 1
    trained = design.steps * design.batch * views
    tuned = FINE_STEPS * design.batch if design.probe == "finetuned" else 0
    encoded = 3 * forward * (trained * _seen(design.proxy, shape) + tuned)
    if head:
        batch = int(np.clip(segment.PIXELS // math.prod(shape[:-1]), 2, segment.BATCH))
        encoded += segment.STEPS * batch * (3 * head + forward * (3 if scored_by == "tuned" else 1))
    drawn = pixels * trained * len(design.proxy.law)
    scored = (int((plan.cohort.split == "test").sum()) + UNSEEN) * 5 * len(plan.shifts)
    tiles = len(patches.corners(whole[:-1], side=side, overlap=side // 2)) if side else 1
    answered = scored * tiles * (forward + head)
    return (encoded + answered) / FLOPS + (drawn + math.prod(whole) * scored) / ALTERED


def _headed(head: str, shape: tuple[int, ...]) -> float:
    """Floating-point operations of a segmentation's convolutional head on one image; 0 for linear scores."""
    width = segment.WIDTH
    return (
        2.0 * math.prod(shape[:-1]) * (3 ** len(shape[:-1]) * width**2 + width) if head in ("decoder", "tuned") else 0.0
    )


def operations(design: Design, shape: tuple[int, ...]) -> float:
    """Floating-point operations that encode one image (*space, C); 0 for an encoder from outside, which is not counted."""
    if design.encoder.frozen:
        return 0.0
    network = design.encoder.build(jax.random.key(0), shape, design.widths)
    graph, state = nnx.split(network)
    half = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), state
    )  # XLA does not see into native code
    batch = jax.ShapeDtypeStruct((8, *shape), jnp.bfloat16)
    lowered = jax.jit(lambda state, images: nnx.merge(graph, state)(images)).lower(half, batch)
    return float(cast(dict[str, Any], lowered.cost_analysis() or {}).get("flops", 0.0)) / 8


def memory(plan: Plan, at_once: int) -> float:
    """Bytes at most in one process: its libraries, the images as numbers, and what its cells hold while they compute."""
    shape, n = plan.cohort.image.shape[1:], len(plan.cohort.label)
    pixels, maps = math.prod(shape), [_maps(design, shape) for design in plan.designs]
    seen = [_maps(design, of_patch(shape, design.patch or plan.task.patch)) for design in plan.designs]
    trained = [d.batch * (2 if d.proxy.siamese else 1) * m for d, m in zip(plan.designs, seen, strict=True) if d.steps]
    altered = 5 * min(IMAGES, PIXELS // math.prod(shape[:-1])) * (pixels + max(maps))
    on_disk = isinstance(plan.cohort.image, OnDisk)
    images = 4 * GATHERED // 3 * at_once if on_disk else plan.cohort.image.nbytes + 2 * 4 * n * pixels
    return PROCESS + images + at_once * 4 * (LIVE * max(trained, default=0) + altered)


def _maps(design: Design, shape: tuple[int, ...]) -> float:
    """Numbers that the layers of a strided encoder hold for one image, with the patches they are made of."""
    sides, total = np.array(shape[:-1], float), float(math.prod(shape))
    channels = shape[-1]
    for width in design.widths:
        sides = np.ceil(sides / 2)
        total += sides.prod() * (3 ** len(sides) * channels + width)
        channels = width
    return total


def _seen(proxy: Proxy, shape: tuple[int, ...]) -> float:
    """Share of an image's pixels that the encoder sees of an input, above 1 where patches overlap."""
    return math.prod(proxy.inputs(shape)) / math.prod(shape)


def told(plan: Plan, places: dict[Cell, Any], cost: Cost, executor: str) -> str:
    """The plan in words, and what it will take."""
    done = sum(place.exists() for place in places.values())
    label = plan.cohort.label[plan.cohort.split == "train"]
    shown = [
        f"{min(d.n_labelled, len(label))} labelled images"
        if plan.task.head
        else f"{n_labels(d, label, plan.cohort.asked)} labels"
        for d in plan.designs
    ]
    of = [f" in patches of {side} pixels" if (side := d.patch or plan.task.patch) else "" for d in plan.designs]
    each = zip(plan.designs, shown, of, strict=True)
    counts = [f"  {d.name}: {d.steps} steps of {d.batch}, {n}{patches}" for d, n, patches in each]
    workers = f", and {cost.worker / 1e9:.1f} GB in each worker process" if cost.worker else ""
    outside = [d.name for d in plan.designs if d.encoder.frozen]
    images = f"{len(plan.cohort.label)} images of {' x '.join(map(str, plan.cohort.image.shape[1:]))}"
    return "\n".join(
        [
            f"cohort   {plan.cohort.name}: {images}",
            f"designs  {len(plan.designs)}",
            *counts,
            f"shifts   {', '.join(shift.name for shift in plan.shifts)}, five levels each",
            f"cells    {len(places)} ({len(plan.designs)} designs, {plan.seeds} seeds), {done} done already",
            f"executor {executor}",
            f"time     about {duration(cost.seconds)}, {duration(cost.core_seconds)} of one core"
            f" (from measured rates; may be {UNSURE:g} times less or more)",
            f"memory   about {cost.memory / 1e9:.1f} GB{workers}",
            f"disk     about {cost.disk / 1e6:.0f} MB",
            *([f"not counted: the encoders of {', '.join(outside)}, from outside"] if outside else []),
        ]
    )


def duration(seconds: float) -> str:
    """Seconds in words, two figures."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{float(f'{seconds / size:.2g}'):g} {unit}"
    return f"{float(f'{seconds:.2g}'):g} seconds"
