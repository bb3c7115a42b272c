# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false, reportArgumentType=false
"""What ``native`` calls for images: products of a matrix with one axis, of which zeros are left out, and values between pixels.

Operands have axes in front that ``vmap`` gave them, of the result's lengths or 1, so that what images share is there once.
Compiled by numba for this machine, called and helped by XLA as ``jobs`` says.
"""

from typing import Any

from llvmlite import binding
from numba import cfunc, njit, types

from rafmodel import instructions
from rafmodel.instructions import LANES, ROWS, add, clear, copy, free, integers, memory, numbers, words
from rafmodel.jobs import (
    ARGUMENTS,
    COUNTED,
    DATA,
    DIMS,
    DONE,
    NEXT,
    OTHER,
    OWN,
    PARTS,
    RANK,
    RESULTS,
    asked,
    begun,
    finished,
    left,
    rows,
    versioned,
)

PART = 2**16  # numbers of the result in one part of a job
BLOCK = 512  # places whose pixels are found together, several at a time
PANEL = 256  # numbers in a row that are worked on together where a matrix is multiplied by rows
LINES = 8 * ROWS  # rows of images that are worked on together where they are multiplied by a matrix
# words of a job; WHERE and its lengths are of three axes
KIND, IMAGE, MATRIX, MADE, LEADS, LENGTHS, OF_IMAGE, OF_MATRIX, SPACE, OUTER, SIDE, INNER, WIDE, UNITS = range(
    OWN, OWN + 14
)
WHERE, OF_WHERE = OWN + 14, OWN + 17
DOWN, ACROSS, READ = 0, 1, 2


@njit(error_model="numpy")
def _at(job, which, lengths, b, size):
    """Address of an operand's part for the b-th part of the result, if its parts are of so many numbers."""
    own, all_, step, at = words(job[lengths]), words(job[LENGTHS]), size, 0
    for axis in range(job[LEADS] - 1, -1, -1):
        if own[axis] != 1:
            at += b % all_[axis] * step
            step *= own[axis]
        b //= all_[axis]
    return job[which] + 4 * at


# ---- a matrix along an axis


@njit(error_model="numpy")
def _down(job, first, end):
    """Matrix (side, side) times units (side, at most PANEL of inner); few rows at a time, from their first to last number."""
    side, inner, outer = job[SIDE], job[INNER], job[OUTER]
    panels, most = -(-inner // PANEL), side * min(PANEL, -(-inner // LANES) * LANES)
    scratch = memory(32 * side + 8 * most)
    table, out, low, high = (
        words(scratch), words(scratch + 8 * side), words(scratch + 16 * side), words(scratch + 24 * side),
    )  # fmt: skip
    known = 0
    for unit in range(first, end):
        slab, column = unit // panels, unit % panels * PANEL
        matrix = _at(job, MATRIX, OF_MATRIX, slab // outer, side * side)
        image = _at(job, IMAGE, OF_IMAGE, slab // outer, outer * side * inner)
        image += 4 * (slab % outer * side * inner + column)
        made = job[MADE] + 4 * (slab * side * inner + column)
        if matrix != known:
            for i in range(side):
                row = numbers(matrix + 4 * i * side)
                table[i] = matrix + 4 * i * side
                low[i], high[i] = 0, side
                while low[i] < side and row[low[i]] == 0:
                    low[i] += 1
                while high[i] > low[i] and row[high[i] - 1] == 0:
                    high[i] -= 1
            known = matrix
        width = min(PANEL, inner - column)
        wide = -(-width // LANES) * LANES
        source, to = image, made
        if wide != inner:
            source, to = scratch + 32 * side, scratch + 32 * side + 4 * side * wide
            for i in range(side):
                copy(source + 4 * i * wide, image + 4 * i * inner, width)
        for i in range(side):
            out[i] = to + 4 * i * wide
        clear(to, side * wide)
        for i in range(0, side, ROWS):
            n, start, stop = min(ROWS, side - i), side, 0
            for k in range(i, i + n):
                start, stop = min(start, low[k]), max(stop, high[k])
            if stop > start:
                given, result = scratch + 8 * i, scratch + 8 * (side + i)
                rows(given, n, 4 * start, source + 4 * start * wide, 4 * wide, result, stop - start, wide)
        if wide != inner:
            for i in range(side):
                copy(made + 4 * i * inner, to + 4 * i * wide, width)
    free(scratch)


@njit(error_model="numpy")
def _across(job, first, end):
    """Units (side, inner), each a row of an image with ``inner`` channels, times matrix (side, wide), its last columns zero."""
    side, inner, outer, wide = job[SIDE], job[INNER], job[OUTER], job[WIDE]
    groups, most = wide // (2 * LANES), LINES * inner
    scratch = memory(16 * most + 16 * groups + 4 * most * (side + wide))
    table, out = words(scratch), words(scratch + 8 * most)
    low, high = words(scratch + 16 * most), words(scratch + 16 * most + 8 * groups)
    source = scratch + 16 * most + 16 * groups
    to, known, unit = source + 4 * most * side, 0, first
    plain = inner == 1 and wide == side
    while unit < end:
        b = unit // outer
        n = min(LINES, min(end - unit, outer - unit % outer))
        matrix = _at(job, MATRIX, OF_MATRIX, b, side * wide)
        image = _at(job, IMAGE, OF_IMAGE, b, outer * side * inner) + 4 * (unit % outer) * side * inner
        made = job[MADE] + 4 * unit * side * inner
        if matrix != known:
            for g in range(groups):
                low[g], high[g] = side, 0
            for k in range(side):
                for g in range(groups):
                    row, there = numbers(matrix + 4 * (k * wide + g * 2 * LANES)), 0.0
                    for j in range(2 * LANES):
                        there = max(there, abs(row[j]))
                    if there != 0:
                        low[g], high[g] = min(low[g], k), k + 1
            known = matrix
        many = n * inner
        for r in range(many):
            table[r] = image + 4 * r * side if inner == 1 else source + 4 * r * side
        if inner > 1:
            for r in range(n):
                for c in range(inner):
                    pixel, one = numbers(image + 4 * (r * side * inner + c)), numbers(table[r * inner + c])
                    for k in range(side):
                        one[k] = pixel[k * inner]
        result = made if plain else to
        clear(result, many * wide)
        for g in range(groups):
            if high[g] > low[g]:
                for r in range(many):
                    out[r] = result + 4 * (r * wide + g * 2 * LANES)
                b_ = matrix + 4 * (low[g] * wide + g * 2 * LANES)
                rows(scratch, many, 4 * low[g], b_, 4 * wide, scratch + 8 * most, high[g] - low[g], 2 * LANES)
        if not plain:
            for r in range(n):
                for c in range(inner):
                    pixel, one = numbers(made + 4 * (r * side * inner + c)), numbers(to + 4 * (r * inner + c) * wide)
                    for k in range(side):
                        pixel[k * inner] = one[k]
        unit += n
    free(scratch)


# ---- values between pixels


@njit(error_model="numpy")
def _along_axis(where, n, step, place, share, many):
    """Where many values lie on an axis of n pixels: ``step`` times the pixel before each, added to ``place``, and the share of
    the way to the next; at the border if they are outside, or no numbers."""
    last, before = types.float32(n - 1), types.int32(max(n - 2, 0))
    for j in range(many):
        x = where[j]
        x = x if x > types.float32(0) else types.float32(0)
        x = x if x < last else last
        pixel = types.int32(x)
        pixel = pixel if pixel < before else before
        share[j] = x - types.float32(pixel)
        place[j] += pixel * types.int32(step)


@njit(error_model="numpy")
def _between(image, p, right, low, x, y):
    """The value in a plane, shares x and y of the way from pixel p to those ``right`` and ``low`` numbers after it."""
    left, top = types.float32(1) - x, types.float32(1) - y
    up, down = left * image[p] + x * image[p + right], left * image[p + low] + x * image[p + low + right]
    return top * up + y * down


@njit(error_model="numpy")
def _read(job, first, end):
    """Values (channels,) at units, which are places in images (*space, channels), linear between pixels, BLOCK at a time."""
    dims, channels, points = job[SIDE], job[INNER], job[OUTER]
    space = words(job[SPACE])
    depth, height, width = space[0] if dims == 3 else 1, space[dims - 2], space[dims - 1]
    line, plane, unit = width * channels, height * width * channels, first
    right, low, back = channels if width > 1 else 0, line if height > 1 else 0, plane if depth > 1 else 0
    scratch = memory(16 * BLOCK)
    place, xs, ys, zs = (
        integers(scratch),
        numbers(scratch + 4 * BLOCK),
        numbers(scratch + 8 * BLOCK),
        numbers(scratch + 12 * BLOCK),
    )
    while unit < end:
        b, i = unit // points, unit % points
        n = min(min(end - unit, points - i), BLOCK)
        image = numbers(_at(job, IMAGE, OF_IMAGE, b, depth * plane))
        made = numbers(job[MADE] + 4 * unit * channels)
        clear(scratch, n)
        _along_axis(
            numbers(_at(job, WHERE + dims - 1, OF_WHERE + dims - 1, b, points) + 4 * i), width, channels, place, xs, n
        )
        _along_axis(
            numbers(_at(job, WHERE + dims - 2, OF_WHERE + dims - 2, b, points) + 4 * i), height, line, place, ys, n
        )
        if dims == 3:
            _along_axis(numbers(_at(job, WHERE, OF_WHERE, b, points) + 4 * i), depth, plane, place, zs, n)
            for j in range(n):
                for c in range(channels):
                    p = types.int64(place[j]) + c
                    near, far = (
                        _between(image, p, right, low, xs[j], ys[j]),
                        _between(image, p + back, right, low, xs[j], ys[j]),
                    )
                    made[j * channels + c] = (types.float32(1) - zs[j]) * near + zs[j] * far
        elif channels == 1:
            for j in range(n):
                made[j] = _between(image, types.int64(place[j]), right, low, xs[j], ys[j])
        else:
            for j in range(n):
                for c in range(channels):
                    made[j * channels + c] = _between(image, types.int64(place[j]) + c, right, low, xs[j], ys[j])
        unit += n
    free(scratch)


# ---- a job

NAME = "rafmodel_alters"
task = instructions.task(NAME)


@njit(error_model="numpy")
def _work(address):
    """Part after part of a job, until none is left."""
    job = words(address)
    part = add(address + 8 * NEXT, 1)
    while part < job[PARTS]:
        first, end = job[UNITS] * part // job[PARTS], job[UNITS] * (part + 1) // job[PARTS]
        if job[KIND] == DOWN:
            _down(job, first, end)
        elif job[KIND] == ACROSS:
            _across(job, first, end)
        else:
            _read(job, first, end)
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


@njit(error_model="numpy")
def _answer(frame, kind):
    """A call of XLA by its frame; 0, as nothing can fail."""
    if versioned(frame):
        return 0
    arguments, made = words(frame[ARGUMENTS]), words(words(frame[RESULTS])[0])
    image, other, lengths = words(arguments[0]), words(arguments[1]), words(made[DIMS])
    space, places = words(image[DIMS]), words(other[DIMS])
    dims = frame[COUNTED] - 1 if kind == READ else 2
    leads = image[RANK] - dims - 1
    outer, side, inner = space[leads], space[leads + 1], space[leads + 2]
    if kind == READ:  # images (*space, channels), places along each axis of space, any shape
        outer, side, inner = 1, dims, lengths[made[RANK] - 1]
        for axis in range(leads, made[RANK] - 1):
            outer *= lengths[axis]
    total = 1
    for axis in range(leads):
        total *= lengths[axis]
    results = total * outer * inner * (1 if kind == READ else side)
    units = total * outer * (-(-inner // PANEL) if kind == DOWN else 1)
    parts = max(1, min(units, results // PART))
    address = begun(parts)
    job = words(address)
    job[KIND], job[IMAGE], job[MATRIX], job[MADE] = kind, image[DATA], other[DATA], made[DATA]
    job[LEADS], job[LENGTHS], job[OF_IMAGE], job[OF_MATRIX] = leads, made[DIMS], image[DIMS], other[DIMS]
    job[SPACE], job[OUTER], job[SIDE], job[INNER] = image[DIMS] + 8 * leads, outer, side, inner
    job[WIDE], job[UNITS] = places[leads + 1], units
    if kind == READ:
        for axis in range(dims):
            where = words(arguments[1 + axis])
            job[WHERE + axis], job[OF_WHERE + axis] = where[DATA], where[DIMS]
    if parts > 1:
        asked(frame, address, task())
    finished(address, task())
    return 0


def _called(kind: int, other: int) -> Any:
    @cfunc(types.int64(types.CPointer(types.int64)), cache=True)
    def called(frame):
        return _answer(frame, kind) + 0 * other

    return called


def _settled(other: int) -> Any:
    @cfunc(types.int64(types.CPointer(types.int64)), cache=True)
    def settled(frame):
        versioned(frame)
        return 0 * other

    return settled


down = _called(DOWN, OTHER)  # images (outer, side, inner) and matrices (side, side) to images
across = _called(ACROSS, OTHER)  # images (outer, side, inner) and matrices transposed (side, wide) to images
read = _called(
    READ, OTHER
)  # images (*space, channels) and places along every axis, of one shape, to values (*shape, channels)
settled = _settled(OTHER)  # an array to itself, in place
