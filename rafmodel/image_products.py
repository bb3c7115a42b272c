# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false, reportArgumentType=false
"""Products of a matrix with images, of which zeros are left out."""

from numba import types

from rafmodel.image_jobs import INNER, MADE, OUTER, SIDE, WIDE, at
from rafmodel.instructions import LANES, ROWS, clear, compiled, copy, free, memory, numbers, words
from rafmodel.jobs import fresh_rows

PANEL = 256  # numbers in a row that are worked on together where a matrix is multiplied by rows
LINES = 8 * ROWS  # rows of images that are worked on together where they are multiplied by a matrix


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
