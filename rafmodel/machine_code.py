# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false
"""What ``native`` calls: convolutions 3x3 (3x3x3) and their slopes, compiled by numba for this machine.

All three are sums of products that one loop does (``jobs``), a tile of rows and channels in registers: rows are read where they
lie in a padded image, and no patch is ever made.  Tensors are deep, (N, depth, height, width, channels): a picture is a volume of
one plane.
"""

from typing import Any

from llvmlite import binding
from numba import cfunc, types

from rafmodel import instructions
from rafmodel.instructions import add, clear, compiled, copy, free, memory, words
from rafmodel.jobs import (
    ARGUMENTS,
    ATTRIBUTES,
    DATA,
    DIMS,
    DONE,
    NEXT,
    OTHER,
    OWN,
    PARTS,
    RESULTS,
    asked,
    begun,
    by_place,
    finished,
    left,
    rows,
    versioned,
)  # fmt: skip

SMALL = 2**20  # products below which no other thread is asked for help
TOGETHER = 128  # places of images that are worked on together, so that weights are read from a cache for many
# words of a job; SPACE and PLACES are of three axes
KIND, N, IMAGE, PLACE, WEIGHT, STRIDE, PLANES, CHANNELS, WIDTH, SPACE, PLACES = (
    OWN, OWN + 1, OWN + 2, OWN + 3, OWN + 4, OWN + 5, OWN + 6, OWN + 7, OWN + 8, OWN + 9, OWN + 12,
)  # fmt: skip
AHEAD, BACK, TO_WEIGHT = 0, 1, 2


# ---- some images


@compiled
def _padded(source, to, n, deep, depth, height, width, channels):
    """n volumes of so many pixels, with zeros around (before and behind only where deep is 1)."""
    line = (width + 2) * channels
    clear(to, n * (depth + 2 * deep) * (height + 2) * line)
    for i in range(n):
        for z in range(depth):
            for y in range(height):
                inside = ((i * (depth + 2 * deep) + z + deep) * (height + 2) + y + 1) * line + channels
                copy(to + 4 * inside, source + 4 * ((i * depth + z) * height + y) * width * channels, width * channels)


@compiled
def _size(job, at, channels):
    """Numbers in one padded image, or in one image's padded slopes."""
    return (job[at] + job[PLANES] - 1) * (job[at + 1] + 2) * (job[at + 2] + 2) * channels


@compiled
def _table(job, table, pad, n):
    """Addresses of the first pixel of each place's patch, (n, *places), in padded images."""
    stride, m, row = job[STRIDE], 0, (job[SPACE + 2] + 2) * job[CHANNELS]
    for i in range(n):
        for z in range(job[PLACES]):
            for y in range(job[PLACES + 1]):
                line = ((i * (job[SPACE] + job[PLANES] - 1) + z * stride) * (job[SPACE + 1] + 2) + y * stride) * row
                for x in range(job[PLACES + 2]):
                    table[m] = pad + 4 * (line + x * stride * job[CHANNELS])
                    m += 1


@compiled
def _shift(job, k):
    """From a patch's first row to its k-th, in bytes."""
    return 4 * (k // 3 * (job[SPACE + 1] + 2) + k % 3) * (job[SPACE + 2] + 2) * job[CHANNELS]


@compiled
def _ahead(job, first, n):
    """Answers (n, *places, width) of images from the first on."""
    channels, width = job[CHANNELS], job[WIDTH]
    pixels, places = job[SPACE] * job[SPACE + 1] * job[SPACE + 2], job[PLACES] * job[PLACES + 1] * job[PLACES + 2]
    image, answer = job[IMAGE] + 4 * first * pixels * channels, job[PLACE] + 4 * first * places * width
    many = n * places
    scratch = memory(16 * many + 4 * n * _size(job, SPACE, channels))
    table, out, pad = words(scratch), words(scratch + 8 * many), scratch + 16 * many
    _padded(image, pad, n, job[PLANES] // 2, job[SPACE], job[SPACE + 1], job[SPACE + 2], channels)
    _table(job, table, pad, n)
    for m in range(many):
        out[m] = answer + 4 * m * width
    clear(answer, many * width)
    for k in range(3 * job[PLANES]):
        b = job[WEIGHT] + 4 * k * 3 * channels * width
        rows(scratch, many, _shift(job, k), b, 4 * width, scratch + 8 * many, 3 * channels, width)
    free(scratch)


@compiled
def _back(job, first, n):
    """Slopes (n, *space, C) of images from the first on; pixels of one parity have the same places in patches."""
    channels, width, stride, deep = job[CHANNELS], job[WIDTH], job[STRIDE], job[PLANES] // 2
    depth, height, long = job[SPACE], job[SPACE + 1], job[SPACE + 2]
    places = job[PLACES] * job[PLACES + 1] * job[PLACES + 2]
    image, slope = job[IMAGE] + 4 * first * depth * height * long * channels, job[PLACE] + 4 * first * places * width
    most = n * depth * height * long
    scratch = memory(16 * most + 4 * n * _size(job, PLACES, width))
    table, out, pad = words(scratch), words(scratch + 8 * most), scratch + 16 * most
    _padded(slope, pad, n, deep, job[PLACES], job[PLACES + 1], job[PLACES + 2], width)
    clear(image, most * channels)
    across, down = job[PLACES + 2] + 2, job[PLACES + 1] + 2
    for parity in range(stride**3):
        pz, py, px = parity // stride**2, parity // stride % stride, parity % stride
        many = 0
        for i in range(n):
            for z in range(pz, depth, stride):
                for y in range(py, height, stride):
                    line = ((i * (job[PLACES] + 2 * deep) + z // stride + deep) * down + y // stride + 1) * across + 1
                    for x in range(px, long, stride):
                        table[many] = pad + 4 * (line + x // stride) * width
                        out[many] = image + 4 * (((i * depth + z) * height + y) * long + x) * channels
                        many += 1
        for tap in range(9 * job[PLANES] if many else 0):
            z, y, x = pz + deep - tap // 9, py + 1 - tap // 3 % 3, px + 1 - tap % 3
            if z % stride == 0 and y % stride == 0 and x % stride == 0:
                offset = 4 * ((z // stride * down + y // stride) * across + x // stride) * width
                b = job[WEIGHT] + 4 * tap * width * channels
                rows(scratch, many, offset, b, 4 * channels, scratch + 8 * most, width, channels)
    free(scratch)


@compiled
def _to_weight(job, part):
    """Slopes (9 planes C, width) of weights by a part of the images."""
    channels, width = job[CHANNELS], job[WIDTH]
    pixels, places = job[SPACE] * job[SPACE + 1] * job[SPACE + 2], job[PLACES] * job[PLACES + 1] * job[PLACES + 2]
    depth, first, end = 9 * job[PLANES] * channels, job[N] * part // job[PARTS], job[N] * (part + 1) // job[PARTS]
    at_once = max(1, TOGETHER // places)
    many = at_once * places
    scratch = memory(8 * many + 8 * depth + 4 * at_once * _size(job, SPACE, channels))
    out, pad = words(scratch + 8 * many), scratch + 8 * many + 8 * depth
    for k in range(depth):
        out[k] = job[WEIGHT] + 4 * (part * depth + k) * width
    clear(out[0], depth * width)
    while first < end:
        n = min(at_once, end - first)
        image, slope = job[IMAGE] + 4 * first * pixels * channels, job[PLACE] + 4 * first * places * width
        _padded(image, pad, n, job[PLANES] // 2, job[SPACE], job[SPACE + 1], job[SPACE + 2], channels)
        _table(job, words(scratch), pad, n)
        for k in range(3 * job[PLANES]):
            to = scratch + 8 * many + 8 * k * 3 * channels
            by_place(scratch, n * places, _shift(job, k), slope, 4 * width, to, 3 * channels, width)
        first += n
    free(scratch)


# ---- a job

NAME = "rafmodel_convolves"
task = instructions.task(NAME)


@compiled
def _work(address):
    """Part after part of a job, until none is left."""
    job = words(address)
    part = add(address + 8 * NEXT, 1)
    while part < job[PARTS]:
        first, end = job[N] * part // job[PARTS], job[N] * (part + 1) // job[PARTS]
        if job[KIND] == AHEAD:
            _ahead(job, first, end - first)
        elif job[KIND] == BACK:
            _back(job, first, end - first)
        else:
            _to_weight(job, part)
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
def _answer(frame, kind):
    """A call of XLA by its frame; 0, as nothing can fail."""
    if versioned(frame):
        return 0
    arguments, made = words(frame[ARGUMENTS]), words(words(frame[RESULTS])[0])
    given, other = words(arguments[0]), words(arguments[1])
    if kind == AHEAD:
        image, weight, place = given, other, made
    elif kind == BACK:
        image, weight, place = made, other, given
    else:
        image, weight, place = given, made, other
    space, places = words(image[DIMS]), words(place[DIMS])
    positions = places[1] * places[2] * places[3]
    parts = max(1, space[0] // max(1, TOGETHER // max(1, positions)))
    if kind == TO_WEIGHT:
        parts = words(weight[DIMS])[0]
    address = begun(parts)
    job = words(address)
    job[KIND], job[N] = kind, space[0]
    job[IMAGE], job[PLACE], job[WEIGHT] = image[DATA], place[DATA], weight[DATA]
    job[CHANNELS], job[WIDTH] = space[4], places[4]
    for axis in range(3):
        job[SPACE + axis], job[PLACES + axis] = space[1 + axis], places[1 + axis]
    settings = words(frame[ATTRIBUTES])
    job[PLANES], job[STRIDE] = words(words(settings[0])[1])[0], words(words(settings[1])[1])[0]
    if space[0] * positions * space[4] * places[4] * 9 * job[PLANES] > SMALL:
        asked(frame, address, task())
    finished(address, task())
    return 0


def _called(kind: int, other: int) -> Any:
    @cfunc(types.int64(types.CPointer(types.int64)), cache=True)
    def called(frame):
        return _answer(frame, kind) + 0 * other

    return called


ahead = _called(AHEAD, OTHER)  # images (N, *space, C) and weights (9 planes C, width) to answers (N, *places, width)
back = _called(BACK, OTHER)  # slopes of answers and weights transposed, (9 planes, width, C), to slopes of images
to_weight = _called(TO_WEIGHT, OTHER)  # images and slopes of answers to those of weights (parts, 9 planes C, width)
