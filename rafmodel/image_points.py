# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false, reportArgumentType=false
"""What is read from images at places between pixels."""

from numba import types

from rafmodel.image_jobs import INNER, MADE, OUTER, SIDE, SPACE, at
from rafmodel.instructions import clear, compiled, free, integers, memory, numbers, words

BLOCK = 512  # places whose pixels are found together, several at a time


@compiled
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


@compiled
def _between(image, p, right, low, x, y):
    """The value in a plane, shares x and y of the way from pixel p to those ``right`` and ``low`` numbers after it."""
    left, top = types.float32(1) - x, types.float32(1) - y
    up, down = left * image[p] + x * image[p + right], left * image[p + low] + x * image[p + low + right]
    return top * up + y * down


@compiled
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
