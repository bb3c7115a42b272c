# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false, reportArgumentType=false
"""What is read from images at places between pixels, and what round marks leave of them."""

import math

from numba import njit, types

from rafmodel.image_jobs import INNER, LEADS, MADE, OF_OPERAND, OUTER, SIDE, SPACE, WIDE, at
from rafmodel.instructions import clear, free, integers, memory, numbers, words

BLOCK = 512  # places whose pixels are found together, several at a time


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
def read_between(job, first, end):
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
        image = numbers(at(job, 0, b, depth * plane))
        made = numbers(job[MADE] + 4 * unit * channels)
        clear(scratch, n)
        _along_axis(numbers(at(job, dims, b, points) + 4 * i), width, channels, place, xs, n)
        _along_axis(numbers(at(job, dims - 1, b, points) + 4 * i), height, line, place, ys, n)
        if dims == 3:
            _along_axis(numbers(at(job, 1, b, points) + 4 * i), depth, plane, place, zs, n)
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


# ---- marks


@njit(error_model="numpy", fastmath={"contract"})
def _beyond(place, share, n, start, step, above, deepest, scale):
    """Where in a table n numbers lie, and the share of the way to its next entry: pixels ``start`` and then ``step`` apart from
    a mark's middle along a row, and ``above`` across, by how far they are from ``deepest`` inside of its edge."""
    for j in range(n):
        x = start + step * types.float32(j)
        far = (math.sqrt(x * x + above) - deepest) * scale
        place[j] = types.int32(far)
        share[j] = far - types.float32(types.int32(far))


@njit(error_model="numpy", fastmath={"contract"})
def _covered(field, n, place, share, profile, shown):
    """Takes from n numbers what a mark covers: a table of pairs, value and change to the next."""
    for j in range(n):
        pair = 2 * types.int64(place[j])
        field[j] *= types.float32(1) - shown * (profile[pair] + share[j] * profile[pair + 1])


@njit(error_model="numpy")
def round_marks(job, first, end):
    """Units (fields, height, width): of each field the share that marks leave, which cover as the field's profile says."""
    fields, height, width = job[OUTER], job[SIDE], job[INNER]
    most, entries = job[WIDE], words(job[OF_OPERAND + 3] + 8 * job[LEADS])[1] // 2
    scratch = memory(8 * width)
    place, share = integers(scratch), numbers(scratch + 4 * width)
    across, step = types.float32(width), types.float32(2) / types.float32(width)
    for unit in range(first, end):
        made = job[MADE] + 4 * unit * fields * height * width
        shown, mark = numbers(at(job, 0, unit, most)), numbers(at(job, 1, unit, 3 * most))
        ends, profiles = numbers(at(job, 2, unit, 2)), at(job, 3, unit, 2 * fields * entries)
        deepest, reach = ends[0], ends[1]
        scale = types.float32(entries - 1) / (deepest + reach)
        for k in range(fields * height * width):
            numbers(made)[k] = types.float32(1)
        for m in range(most):
            if shown[m] <= 0:
                continue
            row, column, size = mark[3 * m], mark[3 * m + 1], mark[3 * m + 2]
            radius = size + reach * types.float32(0.999)
            for i in range(height):
                y = types.float32(2 * i + 1) / types.float32(height) - types.float32(1) - row
                if y * y < radius * radius:
                    half = math.sqrt(radius * radius - y * y)
                    left, right = ((column - half + 1) * across - 1) / 2, ((column + half + 1) * across - 1) / 2
                    low = types.int64(left) + 1 if left > 0 else 0
                    high = min(width, types.int64(right) + 1) if right >= 0 else 0
                    start = types.float32(2 * low + 1) / across - types.float32(1) - column
                    n = max(0, high - low)
                    _beyond(place, share, n, start, step, y * y, size - deepest, scale)
                    for f in range(fields):
                        field = numbers(made + 4 * ((f * height + i) * width + low))
                        _covered(field, n, place, share, numbers(profiles + 8 * f * entries), shown[m])
    free(scratch)


@njit(error_model="numpy")
def stamps(job, first, end):
    """Units (height, width): the share that stamps leave, rasters of square cells that hang from a corner."""
    height, width, most = job[SIDE], job[INNER], job[WIDE]
    lengths = words(job[OF_OPERAND + 2] + 8 * job[LEADS])
    rows, columns = lengths[1], lengths[2]
    across, down = types.float32(width), types.float32(height)
    for unit in range(first, end):
        field = numbers(job[MADE] + 4 * unit * height * width)
        shown, corner = numbers(at(job, 0, unit, most)), numbers(at(job, 1, unit, 2 * most))
        raster, cell = numbers(at(job, 2, unit, most * rows * columns)), numbers(at(job, 3, unit, 1))[0]
        for k in range(height * width):
            field[k] = types.float32(1)
        for m in range(most):
            if shown[m] <= 0:
                continue
            top, left = corner[2 * m], corner[2 * m + 1]
            low = max(0, int((left + 1) * across / 2) - 1)
            high = min(width, int((left + columns * cell + 1) * across / 2) + 2)
            for i in range(height):
                row = math.floor((types.float32(2 * i + 1) / down - types.float32(1) - top) / cell)
                if 0 <= row < rows:
                    for j in range(low, high):
                        column = math.floor((types.float32(2 * j + 1) / across - types.float32(1) - left) / cell)
                        if 0 <= column < columns:
                            ink = raster[(m * rows + row) * columns + column]
                            field[i * width + j] *= types.float32(1) - shown[m] * ink
