# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false, reportArgumentType=false
"""Products of a matrix, or of a kernel, with images, of which zeros are left out."""

from numba import types

from rafmodel.image_jobs import INNER, LEADS, MADE, OF_OPERAND, OUTER, SIDE, SPACE, WIDE, at
from rafmodel.instructions import LANES, ROWS, apart, clear, compiled, copy, free, memory, numbers, words
from rafmodel.jobs import fresh_rows

PANEL = 256  # numbers in a row that are worked on together where a matrix is multiplied by rows
LINES = 8 * ROWS  # rows of images that are worked on together where they are multiplied by a matrix
BAND = 32  # rows along the first axis, or planes, that a kernel is summed up about one after the other
eight_apart, one_apart = apart(8), apart(1)


# ---- a matrix along an axis


@compiled
def reached(row, n, low, high, i):
    """The first number of a row of n that is not zero, and the one after the last such, to the i-th places of two tables."""
    number, start, stop = numbers(row), 0, n
    while start < n and number[start] == 0:
        start += 1
    while stop > start and number[stop - 1] == 0:
        stop -= 1
    low[i], high[i] = start, stop


@compiled
def multiplied(rows_, low, high, side, many, source, wide, out):
    """Many rows (side,) at addresses times a source (side, wide), to rows whose addresses are at ``out``; few at a time, from the
    first number of any to the last."""
    begins, ends, row = words(low), words(high), words(out)
    for i in range(0, many, ROWS):
        n, start, stop = min(ROWS, many - i), side, 0
        for k in range(i, i + n):
            start, stop = min(start, begins[k]), max(stop, ends[k])
        if stop > start:
            fresh_rows(
                rows_ + 8 * i, n, 4 * start, source + 4 * start * wide, 4 * wide, out + 8 * i, stop - start, wide
            )
        else:
            for k in range(i, i + n):
                clear(row[k], wide)


@compiled
def columns_reached(matrix, side, wide, low, high):
    """Of a matrix (side, wide), for every 2 LANES columns, the first row with anything in them, and the one after the last."""
    groups = wide // (2 * LANES)
    for g in range(groups):
        low[g], high[g] = side, 0
    for k in range(side):
        for g in range(groups):
            row, there = numbers(matrix + 4 * (k * wide + g * 2 * LANES)), types.float32(0)
            for j in range(2 * LANES):
                there += abs(row[j])
            if there != 0:
                low[g], high[g] = min(low[g], k), k + 1


@compiled
def times(rows_, many, matrix, wide, low, high, result, ends):
    """Many rows at addresses times a matrix of WIDE columns, to rows one after the other; ``ends`` is room for as many words."""
    begins, stops, out = words(low), words(high), words(ends)
    for g in range(wide // (2 * LANES)):
        start, stop = begins[g], stops[g]
        for r in range(many):
            out[r] = result + 4 * (r * wide + g * 2 * LANES)
            if stop <= start:
                clear(out[r], 2 * LANES)
        if stop > start:
            columns = matrix + 4 * (start * wide + g * 2 * LANES)
            fresh_rows(rows_, many, 4 * start, columns, 4 * wide, ends, stop - start, 2 * LANES)


@compiled
def multiplied_down(job, first, end):
    """Matrix (side, side) times units (side, at most PANEL of inner)."""
    side, inner, outer = job[SIDE], job[INNER], job[OUTER]
    panels, most = -(-inner // PANEL), side * min(PANEL, -(-inner // LANES) * LANES)
    scratch = memory(32 * side + 8 * most)
    out, low, high = scratch + 8 * side, scratch + 16 * side, scratch + 24 * side
    table, ends, known = words(scratch), words(out), 0
    for unit in range(first, end):
        slab, column = unit // panels, unit % panels * PANEL
        matrix = at(job, 1, slab // outer, side * side)
        image = at(job, 0, slab // outer, outer * side * inner)
        image += 4 * (slab % outer * side * inner + column)
        made = job[MADE] + 4 * (slab * side * inner + column)
        if matrix != known:
            for i in range(side):
                table[i] = matrix + 4 * i * side
                reached(table[i], side, words(low), words(high), i)
            known = matrix
        width = min(PANEL, inner - column)
        wide = -(-width // LANES) * LANES
        source, to = image, made
        if wide != inner:
            source, to = scratch + 32 * side, scratch + 32 * side + 4 * side * wide
            for i in range(side):
                copy(source + 4 * i * wide, image + 4 * i * inner, width)
        for i in range(side):
            ends[i] = to + 4 * i * wide
        multiplied(scratch, low, high, side, side, source, wide, out)
        if wide != inner:
            for i in range(side):
                copy(made + 4 * i * inner, to + 4 * i * wide, width)
    free(scratch)


@compiled
def multiplied_across(job, first, end):
    """Units (side, inner), each a row of an image with ``inner`` channels, times matrix (side, wide), its last columns zero."""
    side, inner, outer, wide = job[SIDE], job[INNER], job[OUTER], job[WIDE]
    groups, most = wide // (2 * LANES), LINES * inner
    scratch = memory(16 * most + 16 * groups + 4 * most * (side + wide))
    table, out, low = words(scratch), scratch + 8 * most, scratch + 16 * most
    high = low + 8 * groups
    source = high + 8 * groups
    to, known, unit = source + 4 * most * side, 0, first
    plain = inner == 1 and wide == side
    while unit < end:
        b = unit // outer
        n = min(LINES, min(end - unit, outer - unit % outer))
        matrix = at(job, 1, b, side * wide)
        image = at(job, 0, b, outer * side * inner) + 4 * (unit % outer) * side * inner
        made = job[MADE] + 4 * unit * side * inner
        if matrix != known:
            columns_reached(matrix, side, wide, words(low), words(high))
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
        times(scratch, many, matrix, wide, low, high, made if plain else to, out)
        if not plain:
            for r in range(n):
                for c in range(inner):
                    pixel, one = numbers(made + 4 * (r * side * inner + c)), numbers(to + 4 * (r * inner + c) * wide)
                    for k in range(side):
                        pixel[k * inner] = one[k]
        unit += n
    free(scratch)


# ---- a kernel about every pixel


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
def _taps(kernel, k0, k1, k2, line, plane, steps, place, share):
    """Where a kernel is not zero, or, if ``steps``, less itself a row ahead: how many places, numbers from the pixel in an image
    whose rows and planes are ``line`` and ``plane`` numbers apart, and what is there."""
    many = 0
    for i in range(-1 if steps else 0, k0):
        for j in range(k1):
            for k in range(k2):
                here = (i * k1 + j) * k2 + k
                value = kernel[here] if i >= 0 else types.float32(0)
                if steps and i + 1 < k0:
                    value -= kernel[here + k1 * k2]
                if value != 0:
                    place[many] = (i - k0 // 2) * plane + (j - k1 // 2) * line + k - k2 // 2
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
def _padded(image, to, n0, n1, n2, channels, first, end, beside1, beside2, line):
    """Planes from first to end of one channel of an image (n0, n1, n2, channels), its border extended, in rows of a length."""
    for i in range(first, end):
        for j in range(-beside1, n1 + beside1):
            source = image + 4 * (min(max(i, 0), n0 - 1) * n1 + min(max(j, 0), n1 - 1)) * n2 * channels
            pixel, one = numbers(source), numbers(to)
            for k in range(beside2):
                one[k] = pixel[0]
            if channels == 1:
                copy(to + 4 * beside2, source, n2)
            else:
                for k in range(n2):
                    one[beside2 + k] = pixel[k * channels]
            for k in range(beside2 + n2, line):
                one[k] = pixel[(n2 - 1) * channels]
            to += 4 * line


@compiled
def spread_about(job, first, end):
    """Units (BAND of n0, n1, n2), each of a channel of an image, of which every number becomes the sum of those about it times a
    kernel.

    Row after row along the first axis, either all of the kernel is summed up, or what it has more of than it had for the row
    before: of a disc that is only its rim.
    """
    channels = job[INNER]
    space, lengths = words(job[SPACE]), words(job[OF_OPERAND + 1] + 8 * job[LEADS])
    n0, n1, n2 = space[0], space[1], space[2]
    k0, k1, k2 = lengths[0], lengths[1], lengths[2]
    wide, bands, volume = -(-n2 // LANES) * LANES, -(-n0 // BAND), n0 * n1 * n2
    most, plane_made = (k0 + 1) * k1 * k2, n1 * wide
    scratch = memory(24 + 4 * plane_made + 24 * most)
    reach, before = words(scratch), scratch + 24
    place = before + 4 * plane_made
    place_on, share, share_on = place + 8 * most, place + 16 * most, place + 20 * most
    known, line, plane, many, many_on, padded = 0, 0, 0, 0, 0, 0
    for unit in range(first, end):
        b, c, start = unit // (bands * channels), unit // bands % channels, unit % bands * BAND
        stop = min(n0, start + BAND)
        kernel = at(job, 1, b, k0 * k1 * k2)
        if kernel != known:
            if known:
                free(padded)
            _reach(numbers(kernel), k0, k1, k2, reach)
            line = wide + 2 * reach[2]
            plane = line * (n1 + 2 * reach[1])
            many = _taps(numbers(kernel), k0, k1, k2, line, plane, False, words(place), numbers(share))
            many_on = _taps(numbers(kernel), k0, k1, k2, line, plane, True, words(place_on), numbers(share_on))
            padded, known = memory(4 * plane * (BAND + 2 * reach[0] + 1)), kernel
        image, made = at(job, 0, b, volume * channels) + 4 * c, job[MADE] + 4 * (b * volume * channels + c)
        _padded(image, padded, n0, n1, n2, channels, start - reach[0] - 1, stop + reach[0], reach[1], reach[2], line)
        for i in range(start, stop):
            for j in range(n1):
                row = before + 4 * j * wide
                pixel = padded + 4 * ((i - start + reach[0] + 1) * plane + (j + reach[1]) * line + reach[2])
                if i > start and many_on < many:
                    _sum_up(row, wide, pixel, place_on, share_on, many_on)
                else:
                    clear(row, wide)
                    _sum_up(row, wide, pixel, place, share, many)
                to, one = numbers(made + 4 * (i * n1 + j) * n2 * channels), numbers(row)
                for k in range(n2):
                    to[k * channels] = one[k]
    if known:
        free(padded)
    free(scratch)
