# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false, reportArgumentType=false
"""What ``native`` calls for images and chance: one job of XLA's threads, whatever kind of work it is.

Compiled by numba for this machine, called and helped by XLA as ``jobs`` says; what each kind does is in ``image_products``,
``image_axes``, ``image_kernels``, ``image_points``, ``image_marks``, ``image_powers``, ``image_tones`` and ``chance_code``.
"""

from pathlib import Path
from typing import Any
from zlib import crc32

from llvmlite import binding
from numba import cfunc, types

from rafmodel import (
    chance_code,
    image_axes,
    image_jobs,
    image_kernels,
    image_marks,
    image_points,
    image_powers,
    image_products,
    image_tones,
    instructions,
    jobs,
)
from rafmodel.chance_code import BLOCK, normals
from rafmodel.image_axes import multiplied_all
from rafmodel.image_jobs import (
    ACROSS,
    ALL,
    CHANNELS,
    DEPTH,
    DOWN,
    HIDE,
    INNER,
    KIND,
    LEADS,
    LENGTHS,
    MADE,
    MOST_PARTS,
    NORMAL,
    OF_OPERAND,
    OPERAND,
    OUTER,
    PART,
    POWER,
    READ,
    ROUND,
    SIDE,
    SPACE,
    SPREAD,
    TONE,
    UNITS,
    VIEW,
    WIDE,
)
from rafmodel.image_kernels import BAND, spread_about
from rafmodel.image_marks import hidden, round_marks, round_view, stamps
from rafmodel.image_points import read_between
from rafmodel.image_powers import bent
from rafmodel.image_products import PANEL, multiplied_across, multiplied_down
from rafmodel.image_tones import toned
from rafmodel.instructions import add, compiled, words
from rafmodel.jobs import (
    ARGUMENTS,
    ATTRIBUTES,
    COUNTED,
    DATA,
    DIMS,
    DONE,
    LEVELS,
    NEXT,
    PARTS,
    RANK,
    RESULTS,
    TYPE,
    asked,
    begun,
    finished,
    left,
    versioned,
)

# what numba keeps on disk of this file is known by the text of those that it is compiled with, too
OTHER = jobs.OTHER ^ crc32(
    b"".join(
        Path(str(x.__file__)).read_bytes()
        for x in (
            image_jobs,
            image_points,
            image_products,
            image_axes,
            image_kernels,
            image_marks,
            image_powers,
            image_tones,
            chance_code,
        )
    )
)
NAME = "rafmodel_alters"
task = instructions.task(NAME)


@compiled
def _work(address):
    """Part after part of a job, until none is left."""
    job = words(address)
    part = add(address + 8 * NEXT, 1)
    while part < job[PARTS]:
        first, end = job[UNITS] * part // job[PARTS], job[UNITS] * (part + 1) // job[PARTS]
        if job[KIND] == DOWN:
            multiplied_down(job, first, end)
        elif job[KIND] == ACROSS:
            multiplied_across(job, first, end)
        elif job[KIND] == READ:
            read_between(job, first, end)
        elif job[KIND] == SPREAD:
            spread_about(job, first, end)
        elif job[KIND] == NORMAL:
            normals(job, first, end)
        elif job[KIND] == ROUND:
            round_marks(job, first, end)
        elif job[KIND] == VIEW:
            round_view(job, first, end)
        elif job[KIND] == HIDE:
            hidden(job, first, end)
        elif job[KIND] == TONE:
            toned(job, first, end)
        elif job[KIND] == POWER:
            bent(job, first, end)
        elif job[KIND] == ALL:
            multiplied_all(job, first, end)
        else:
            stamps(job, first, end)
        add(address + 8 * DONE, 1)
        part = add(address + 8 * NEXT, 1)


def _helped(other: int) -> Any:
    @cfunc(types.int64(types.int64), cache=True)
    def helped(address):
        _work(address)
        left(address)
        return 0 * other

    return helped


helped = _helped(OTHER)  # what every thread does, XLA's own call too, by its address, so that all is compiled once
binding.add_symbol(NAME, helped.address)


@compiled
def _answer(frame):
    """A call of XLA by its frame, whose settings are how many axes the first operand has of its own, and the kind of work,
    which ``image_jobs`` defines; 0, as nothing can fail."""
    if versioned(frame):
        return 0
    settings = words(frame[ATTRIBUTES])
    axes, kind = words(words(settings[0])[1])[0], words(words(settings[1])[1])[0]
    arguments, made = words(frame[ARGUMENTS]), words(words(frame[RESULTS])[0])
    image, lengths = words(arguments[0]), words(made[DIMS])
    leads = image[RANK] - axes
    space, own, total = words(image[DIMS] + 8 * leads), words(made[DIMS] + 8 * leads), 1
    for axis in range(leads):
        total *= lengths[axis]
    outer, side, inner, wide, results = 1, 1, 1, 0, total
    for axis in range(leads, made[RANK]):
        results *= lengths[axis]
    units = total
    if kind in (DOWN, ACROSS):
        outer, side, inner = space[0], space[1], space[2]
        wide = words(words(arguments[1])[DIMS])[leads + 1]
        units *= outer * (-(-inner // PANEL) if kind == DOWN else 1)
    elif kind == READ:  # places along each axis of space, of any shape
        side, inner = frame[COUNTED] - 1, lengths[made[RANK] - 1]
        outer = results // (total * inner) if total * inner else 0
        units *= outer
    elif kind in (ALL, HIDE, TONE, POWER):
        outer, side, inner = space[0] if axes == 4 else 1, space[axes - 3], space[axes - 2]
        if kind == POWER:
            inner *= space[axes - 1]
        if kind == ALL:
            wide = words(words(arguments[3])[DIMS])[leads + 1]
        else:
            units *= outer
    elif kind == SPREAD:
        inner = space[3]
        units *= -(-space[0] // BAND)
    elif kind == NORMAL:
        outer, inner = own[0], own[1]
        units *= -(-inner // BLOCK)
    else:  # of pictures
        side, inner = space[0], space[1]
        if kind != VIEW:
            wide = words(words(arguments[1])[DIMS])[leads]  # marks
        if kind == ROUND:
            outer = words(words(arguments[4])[DIMS])[leads + 1] // 2
    parts = max(1, min(units, results // PART, MOST_PARTS if kind == ALL else results))
    address = begun(parts)
    job = words(address)
    job[KIND], job[MADE], job[LEADS], job[LENGTHS], job[SPACE] = (
        kind,
        made[DATA],
        leads,
        made[DIMS],
        image[DIMS] + 8 * leads,
    )
    job[OUTER], job[SIDE], job[INNER], job[WIDE], job[UNITS] = outer, side, inner, wide, units
    job[CHANNELS] = space[axes - 1]
    job[DEPTH] = 1 if image[TYPE] & 0xFFFFFFFF == LEVELS else 4
    for i in range(frame[COUNTED]):
        operand = words(arguments[i])
        job[OPERAND + i], job[OF_OPERAND + i] = operand[DATA], operand[DIMS]
    if parts > 1:
        asked(frame, address, task())
    finished(address, task())
    return 0


def _called(other: int) -> Any:
    @cfunc(types.int64(types.CPointer(types.int64)), cache=True)
    def called(frame):
        return _answer(frame) + 0 * other

    return called


def _settled(other: int) -> Any:
    @cfunc(types.int64(types.CPointer(types.int64)), cache=True)
    def settled(frame):
        versioned(frame)
        return 0 * other

    return settled


images = _called(OTHER)
settled = _settled(OTHER)  # an array to itself, in place
