# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false, reportArgumentType=false
"""Sums about every pixel of an image, of which a kernel's zeros are left out."""

from numba import types

from rafmodel.image_axes import nearest
from rafmodel.image_jobs import DEPTH, INNER, LEADS, MADE, OF_OPERAND, SPACE, at, image_at
from rafmodel.instructions import LANES, apart, clear, compiled, copy, free, levels, memory, numbers, words

BAND = 32  # rows along the first axis, or planes, that a kernel is summed up about one after the other
eight_apart, one_apart = apart(8), apart(1)


@compiled
def _reach(kernel, k0, k1, k2, found):
    """Of a kernel (k0, k1, k2), the largest distances from its middle, along every axis, at which it is not zero."""
    found[0], found[1], found[2] = 0, 0, 0
    for i in range(k0):
        for j in range(k1):
            for k in range(k2):
                if kernel[(i * k1 + j) * k2 + k] != 0:
                    found[0] = max(found[0], abs(i - k0 // 2))
                    found[1] = max(found[1], abs(j - k1 // 2))
                    found[2] = max(found[2], abs(k - k2 // 2))


@compiled
def _taps(kernel, k0, k1, k2, reach, pixel, line, plane, steps, place, share):
    """Where a kernel is not zero, or, if ``steps``, less itself a row ahead: how many places, numbers from one of a pixel's in an
    image whose pixels, rows and planes are so many numbers apart, and what is there."""
    many, middle = 0, (k0 // 2 * k1 + k1 // 2) * k2 + k2 // 2
    for i in range(-reach[0] - 1 if steps else -reach[0], reach[0] + 1):
        for j in range(-reach[1], reach[1] + 1):
            for k in range(-reach[2], reach[2] + 1):
                here = middle + (i * k1 + j) * k2 + k
                value = kernel[here] if i >= -reach[0] else types.float32(0)
                if steps and i < reach[0]:
                    value -= kernel[here + k1 * k2]
                if value != 0:
                    place[many] = i * plane + j * line + k * pixel
                    share[many] = value
                    many += 1
    return many


@compiled
def _sum_up(row, wide, image, place, share, many):
    """Adds to a row of a multiple of LANES numbers those of an image at many places from each, times their shares."""
    x = 0
    while x + 8 * LANES <= wide:
        eight_apart(image + 4 * x, place, share, row + 4 * x, many)
        x += 8 * LANES
    while x < wide:
        one_apart(image + 4 * x, place, share, row + 4 * x, many)
        x += LANES


@compiled
def _padded(image, depth, to, space, channels, first, end, beside1, beside2, line):
    """Planes from first to end of an image (n0, n1, n2, channels), its border extended, in rows of a length."""
    n0, n1, many = space[0], space[1], space[2] * channels
    start, stop = beside2 * channels, beside2 * channels + many
    for i in range(first, end):
        for j in range(-beside1, n1 + beside1):
            source = image + depth * (min(max(i, 0), n0 - 1) * n1 + min(max(j, 0), n1 - 1)) * many
            level, one = levels(source), numbers(to)
            if depth == 1:
                for k in range(many):
                    one[start + k] = level[k]
            else:
                copy(to + 4 * start, source, many)
            for c in range(channels):
                left, right = one[start + c], one[stop - channels + c]
                for k in range(c, start, channels):
                    one[k] = left
                for k in range(stop + c, line, channels):
                    one[k] = right
            to += 4 * line


@compiled
def spread_about(job, first, end):
    """Units (BAND of n0, n1, n2, channels) of images, of which every number becomes the sum of those about it times a kernel; of
    grey levels, the nearest.

    Row after row along the first axis, either all of the kernel is summed up, or what it has more of than it had for the row
    before: of a disc that is only its rim.
    """
    channels, depth = job[INNER], job[DEPTH]
    space, lengths = words(job[SPACE]), words(job[OF_OPERAND + 1] + 8 * job[LEADS])
    n0, n1, many = space[0], space[1], space[2] * channels
    k0, k1, k2 = lengths[0], lengths[1], lengths[2]
    wide, bands = -(-many // LANES) * LANES, -(-n0 // BAND)
    most, plane_made = (k0 + 1) * k1 * k2, n1 * wide
    scratch = memory(24 + 4 * plane_made + 24 * most)
    reach, before = words(scratch), scratch + 24
    place = before + 4 * plane_made
    place_on, share, share_on = place + 8 * most, place + 16 * most, place + 20 * most
    known, line, plane, taps, taps_on, padded = 0, 0, 0, 0, 0, 0
    for unit in range(first, end):
        b, start = unit // bands, unit % bands * BAND
        stop = min(n0, start + BAND)
        kernel = at(job, 1, b, k0 * k1 * k2)
        if kernel != known:
            if known:
                free(padded)
            one = numbers(kernel)
            _reach(one, k0, k1, k2, reach)
            line = wide + 2 * reach[2] * channels
            plane = line * (n1 + 2 * reach[1])
            taps = _taps(one, k0, k1, k2, reach, channels, line, plane, False, words(place), numbers(share))
            taps_on = _taps(one, k0, k1, k2, reach, channels, line, plane, True, words(place_on), numbers(share_on))
            padded, known = memory(4 * plane * (BAND + 2 * reach[0] + 1)), kernel
        image, made = image_at(job, b, n0 * n1 * many), job[MADE] + depth * b * n0 * n1 * many
        _padded(image, depth, padded, space, channels, start - reach[0] - 1, stop + reach[0], reach[1], reach[2], line)
        for i in range(start, stop):
            for j in range(n1):
                row = before + 4 * j * wide
                pixel = padded + 4 * ((i - start + reach[0] + 1) * plane + (j + reach[1]) * line + reach[2] * channels)
                if i > start and taps_on < taps:
                    _sum_up(row, wide, pixel, place_on, share_on, taps_on)
                else:
                    clear(row, wide)
                    _sum_up(row, wide, pixel, place, share, taps)
                to, one = made + depth * (i * n1 + j) * many, numbers(row)
                level = levels(to)
                if depth == 1:
                    for k in range(many):
                        level[k] = nearest(one[k])
                else:
                    copy(to, row, many)
    if known:
        free(padded)
    free(scratch)
