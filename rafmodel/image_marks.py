# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false, reportArgumentType=false
"""Marks on pictures of numbers or of grey levels of 8 bits, what is hidden of images, and round fields of view.  What they do not
touch is copied, or, beside what is hidden of numbers, times one.

Of round marks, row after row: of all that a row meets, the share of each pixel that they leave, and then, over the pixels that
any of them meets, ``colour + (image - colour) * share``.
"""

import math

from numba import njit, types

from rafmodel.image_axes import nearest
from rafmodel.image_jobs import CHANNELS, DEPTH, INNER, LEADS, MADE, OF_OPERAND, OUTER, SIDE, WIDE, at, image_at
from rafmodel.instructions import again, black, compiled, free, integers, levels, memory, numbers, told, words

CHUNK = 16  # pixels of a row of which any is covered, or none
_told_one, _told_two = told(1), told(2)
FAR = 16.0  # from a place in the picture or near it, where all of the picture is nearer

# ---- a row


@compiled
def _uncovered(field, start, end):
    """Nothing covers these pixels."""
    share = numbers(field)
    for k in range(start, end):
        share[k] = types.float32(1)


@compiled
def _tiled(colour, channels, width, scale, to):
    """A colour for every pixel of a row."""
    one, all_ = numbers(colour), numbers(to)
    for k in range(width):
        for c in range(channels):
            all_[k * channels + c] = scale * one[c]


@compiled
def _laid(field, colour, row, n, depth):
    """n numbers of a row of a depth, towards a colour as far as a field says."""
    share, goal, level, number = numbers(field), numbers(colour), levels(row), numbers(row)
    if depth == 1:
        for k in range(n):
            level[k] = nearest(_toward(types.float32(level[k]), goal[k], share[k]))
    else:
        for k in range(n):
            number[k] = _toward(number[k], goal[k], share[k])


@compiled
def _laid_twice(fields, apart, colours, line, row, n, depth):
    """The same of two fields, so many bytes from each other, one after the other; their colours are ``line`` bytes apart."""
    share, share_, goal, goal_ = numbers(fields), numbers(fields + apart), numbers(colours), numbers(colours + line)
    level, number = levels(row), numbers(row)
    if depth == 1:
        for k in range(n):
            level[k] = nearest(_toward(_toward(types.float32(level[k]), goal[k], share[k]), goal_[k], share_[k]))
    else:
        for k in range(n):
            number[k] = _toward(_toward(number[k], goal[k], share[k]), goal_[k], share_[k])


@compiled
def _toward(x, goal, share):
    return goal + (x - goal) * share


@compiled
def _for_channels(field, n, channels, to):
    """The share of each of n pixels, once for every channel."""
    one, all_ = numbers(field), numbers(to)
    if channels == 3:  # with known steps several are written at a time
        for k in range(n):
            all_[3 * k] = all_[3 * k + 1] = all_[3 * k + 2] = one[k]
    else:
        for k in range(n):
            for c in range(channels):
                all_[k * channels + c] = one[k]


@compiled
def _coloured(made, job, start, end, fields, scratch):
    """Pixels from start to end of a row of an image, to one or two colours one after the other, which then cover nothing again.

    scratch  fields of shares, CHUNK longer than a row, colours of all pixels, and room for shares of all numbers
    """
    width, channels, depth = job[INNER], job[CHANNELS], job[DEPTH]
    n, line, apart = (end - start) * channels, 4 * width * channels, 4 * (width + CHUNK)
    colours, row, field = scratch + fields * apart, made + depth * start * channels, scratch + 4 * start
    shares, between = field, apart
    if channels > 1:
        shares, between = colours + fields * line, line
        for f in range(fields):
            _for_channels(field + f * apart, end - start, channels, shares + f * line)
    if fields == 2:
        _laid_twice(shares, between, colours, line, row, n, depth)
    else:
        _laid(shares, colours, row, n, depth)
    for f in range(fields):
        _uncovered(field + f * apart, 0, end - start)


@njit(error_model="numpy", fastmath=True)
def _covers(field):
    """Whether anything is covered of CHUNK pixels."""
    share, less = numbers(field), types.float32(0)
    for k in range(CHUNK):
        less += types.float32(1) - share[k]
    return less > 0


@compiled
def _touched(made, job, start, end, fields, scratch):
    """``_coloured`` where anything is covered of a row's pixels from start to end, CHUNK of them at a time."""
    begun, wide = types.int64(-1), job[INNER] + CHUNK
    for first in range(start, end + CHUNK, CHUNK):
        any_ = False
        if first < end:
            for f in range(fields):
                any_ = any_ or _covers(scratch + 4 * (f * wide + first))
        if any_ and begun < 0:
            begun = first
        elif begun >= 0 and not any_:
            _coloured(made, job, begun, min(first, end), fields, scratch)
            begun = types.int64(-1)


@compiled
def _room(job, fields):
    """Memory for ``_coloured``, in which nothing is covered."""
    width = job[INNER]
    scratch = memory(4 * (fields * (width + CHUNK) + 2 * fields * width * job[CHANNELS]))
    _uncovered(scratch, 0, fields * (width + CHUNK))
    return scratch


@compiled
def _colours(job, operand, unit, fields, scratch):
    """The colours of an image, for every pixel of a row."""
    width, channels = job[INNER], job[CHANNELS]
    scale = types.float32(255) if job[DEPTH] == 1 else types.float32(1)
    colour = at(job, operand, unit, fields * channels)
    for f in range(fields):
        to = scratch + 4 * (fields * (width + CHUNK) + f * width * channels)
        _tiled(colour + 4 * f * channels, channels, width, scale, to)


# ---- round marks


@compiled
def _pixels(middle, half, n):
    """From which to before which of n pixels of an axis their middles are within so far of a place."""
    along = types.float32(n)
    before, after = ((middle - half + 1) * along - 1) / 2, ((middle + half + 1) * along - 1) / 2
    low = types.int64(before) + 1 if before > 0 else 0
    high = min(n, types.int64(after) + 1) if after >= 0 else 0
    return min(low, n), max(high, min(low, n))


@compiled
def round_marks(job, first, end):
    """Units (height, width, channels): images under marks of ``fields`` profiles and colours, one after the other."""
    fields, height, width, most = job[OUTER], job[SIDE], job[INNER], job[WIDE]
    depth, line, entries = job[DEPTH], job[INNER] * job[CHANNELS], words(job[OF_OPERAND + 4] + 8 * job[LEADS])[0]
    scratch, here = _room(job, fields), memory(16 * most + 20)
    top, low_, along = words(here), words(here + 8 * most), numbers(here + 16 * most)
    last = types.float32(entries - 1)
    along[1] = types.float32(2) / types.float32(width)
    for unit in range(first, end):
        made = job[MADE] + depth * unit * height * line
        again(made, image_at(job, unit, height * line), depth * height * line)
        _colours(job, 5, unit, fields, scratch)
        shown, mark = numbers(at(job, 1, unit, most)), numbers(at(job, 2, unit, 3 * most))
        ends, profiles = numbers(at(job, 3, unit, 2)), at(job, 4, unit, 2 * fields * entries)
        deepest, reach = ends[0], ends[1] * types.float32(0.999)
        along[4] = last / (deepest + ends[1])
        for m in range(most):
            top[m], low_[m] = height, 0
            if shown[m] > 0:
                top[m], low_[m] = _pixels(mark[3 * m], mark[3 * m + 2] + reach, height)
        for i in range(height):
            left, right, above = (
                width,
                types.int64(0),
                types.float32(2 * i + 1) / types.float32(height) - types.float32(1),
            )
            for m in range(most):
                if i < top[m] or i >= low_[m]:
                    continue
                column, size, y = mark[3 * m + 1], mark[3 * m + 2], above - mark[3 * m]
                half = math.sqrt(max((size + reach) * (size + reach) - y * y, types.float32(0)))
                low, high = _pixels(column, half, width)
                if high <= low:
                    continue
                left, right = min(left, low), max(right, high)
                start = types.float32(2 * low + 1) / types.float32(width) - types.float32(1) - column
                along[0], along[2], along[3] = start, y * y, size - deepest
                field, apart = scratch + 4 * low, 4 * (width + CHUNK)
                if fields == 2:
                    _told_two(field, apart, high - low, profiles, last, here + 16 * most, shown[m])
                else:
                    _told_one(field, apart, high - low, profiles, last, here + 16 * most, shown[m])
            if right > left:
                _touched(made + depth * i * line, job, left, right, fields, scratch)
    free(here)
    free(scratch)


# ---- stamps


@compiled
def _cells(corner, n, cell, cells, to):
    """Whether a stamp has any of n pixels of an axis; before which of them each of its cells begins, and the last one ends."""
    along, starts, k = types.float32(n), integers(to), 0
    for c in range(cells + 1):
        near = ((c * cell + corner + types.float32(1)) * along - types.float32(1)) / types.float32(2)
        k = max(k, int(min(max(near, types.float32(1)), along)) - 1)
        while k < n and (types.float32(2 * k + 1) / along - types.float32(1) - corner) / cell < c:
            k += 1
        starts[c] = types.int32(k)
    return starts[0] < starts[cells]


@compiled
def _inked(row, start, n, depth, ink, goal, full):
    """n numbers of an image from the start-th one, brought to goals by a share; grey levels are rounded."""
    number, level = numbers(row + 4 * start), levels(row + start)
    if depth == 1 and ink == 1:
        for k in range(n):
            level[k] = full[k]
    elif depth == 1:
        for k in range(n):
            level[k] = nearest(_toward(types.float32(level[k]), goal[k], types.float32(1) - ink))
    else:
        for k in range(n):
            number[k] = _toward(number[k], goal[k], types.float32(1) - ink)


@compiled
def stamps(job, first, end):
    """Units (height, width, channels): images under rasters of square cells that hang from a corner, of one colour, one after
    the other; grey levels are rounded after each."""
    height, width, channels, most = job[SIDE], job[INNER], job[CHANNELS], job[WIDE]
    depth, line, lengths = job[DEPTH], job[INNER] * job[CHANNELS], words(job[OF_OPERAND + 3] + 8 * job[LEADS])
    rows, columns = lengths[1], lengths[2]
    scale = types.float32(255) if depth == 1 else types.float32(1)
    cells = memory(4 * (rows + columns + 2 + line) + line)
    row, column, goal = integers(cells), integers(cells + 4 * (rows + 1)), numbers(cells + 4 * (rows + columns + 2))
    full, known = levels(cells + 4 * (rows + columns + 2 + line)), 0
    for unit in range(first, end):
        made = job[MADE] + depth * unit * height * line
        again(made, image_at(job, unit, height * line), depth * height * line)
        shown, corner = numbers(at(job, 1, unit, most)), numbers(at(job, 2, unit, 2 * most))
        rasters, cell = at(job, 3, unit, most * rows * columns), numbers(at(job, 4, unit, 1))[0]
        colour = at(job, 5, unit, channels)
        if colour != known:
            known = colour
            _tiled(colour, channels, width, scale, cells + 4 * (rows + columns + 2))
            for k in range(line):
                full[k] = nearest(goal[k])
        for m in range(most):
            if not shown[m] > 0:
                continue
            there = _cells(corner[2 * m], height, cell, rows, cells)
            if not (there and _cells(corner[2 * m + 1], width, cell, columns, cells + 4 * (rows + 1))):
                continue
            for r in range(rows):
                raster, c = numbers(rasters + 4 * (m * rows + r) * columns), 0
                while c < columns:
                    ink, start = shown[m] * raster[c], column[c] * channels
                    c += 1
                    while c < columns and shown[m] * raster[c] == ink:
                        c += 1
                    if ink != 0:
                        for i in range(row[r], row[r + 1]):
                            _inked(made + depth * i * line, start, column[c] * channels - start, depth, ink, goal, full)
    free(cells)


# ---- what is hidden, and a round field of view


@compiled
def _hidden_line(image, made, column, n, share):
    """n numbers times one less ``share`` times those of a column; where that is one this copies, sooner than by C's memcpy."""
    x, y, hides = numbers(image), numbers(made), numbers(column)
    for k in range(n):
        y[k] = x[k] * (types.float32(1) - share * hides[k])


@compiled
def _hidden_levels(image, made, column, n, share):
    """The same of grey levels of 8 bits, rounded."""
    x, y, hides = levels(image), levels(made), numbers(column)
    for k in range(n):
        y[k] = nearest(types.float32(x[k]) * (types.float32(1) - share * hides[k]))


@compiled
def hidden(job, first, end):
    """Units (n1, n2, channels): planes of images times one less the product of numbers (n0,), (n1,) and (n2,) along the axes."""
    n0, n1, n2, channels, depth = job[OUTER], job[SIDE], job[INNER], job[CHANNELS], job[DEPTH]
    line = n2 * channels
    column = memory(4 * line)
    for unit in range(first, end):
        b, i = unit // n0, unit % n0
        image = image_at(job, b, n0 * n1 * line) + depth * i * n1 * line
        made = job[MADE] + depth * unit * n1 * line
        plane, row = numbers(at(job, 1, b, n0))[i], numbers(at(job, 2, b, n1))
        _for_channels(at(job, 3, b, n2), n2, channels, column)
        if depth == 4:
            for j in range(n1):
                _hidden_line(image + 4 * j * line, made + 4 * j * line, column, line, plane * row[j])
            continue
        again(made, image, n1 * line)
        for j in range(n1):
            if plane * row[j] > 0:
                _hidden_levels(image + j * line, made + j * line, column, line, plane * row[j])
    free(column)


@compiled
def _faded(row, start, n, depth, share):
    """n numbers of an image from the start-th one, times a share."""
    for k in range(start, start + n):
        if depth == 1:
            levels(row)[k] = types.uint8(types.int32(types.float32(levels(row)[k]) * share + types.float32(0.5)))
        else:
            numbers(row)[k] *= share


@compiled
def round_view(job, first, end):
    """Units (height, width, channels): images black beyond a circle (row, column, radius); a pixel at its edge fades."""
    height, width, channels, depth = job[SIDE], job[INNER], job[CHANNELS], job[DEPTH]
    line, one = width * channels, types.float32(1)
    soft = one / types.float32(height)  # half of the edge's width
    for unit in range(first, end):
        image, made = image_at(job, unit, height * line), job[MADE] + depth * unit * height * line
        circle = numbers(at(job, 1, unit, 3))
        column, radius = circle[1], min(circle[2], types.float32(FAR))
        again(made, image, depth * height * line)
        for i in range(height):
            to = made + depth * i * line
            y = types.float32(2 * i + 1) / types.float32(height) - one - circle[0]
            outer, inner = radius + soft, radius - soft
            start = end_ = first_ = last = 0  # what is not black; of this, what is wholly seen
            if outer > 0 and outer * outer > y * y:
                start, end_ = _pixels(column, math.sqrt(outer * outer - y * y), width)
                first_ = last = end_
                if inner > 0 and inner * inner > y * y:
                    first_, last = _pixels(column, math.sqrt(inner * inner - y * y), width)
                    if last <= first_:
                        first_ = last = end_
            if start > 0:
                black(to, depth * start * channels)
            if end_ < width:
                black(to + depth * end_ * channels, depth * (width - end_) * channels)
            for side in range(2):
                low, high = (start, first_) if side == 0 else (last, end_)
                for j in range(low, high):
                    x = types.float32(2 * j + 1) / types.float32(width) - one - column
                    share = (radius - math.sqrt(x * x + y * y)) * types.float32(height) / 2 + types.float32(0.5)
                    _faded(to, j * channels, channels, depth, max(types.float32(0), min(one, share)))
