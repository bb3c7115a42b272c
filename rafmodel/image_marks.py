# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false, reportArgumentType=false
"""Marks on pictures of numbers or of grey levels of 8 bits, what is hidden of images, and round fields of view: what they do not
touch is copied.

Of round marks, row after row: of all that a row meets, the share of each pixel that they leave, and then, over the pixels that
any of them meets, ``colour + (image - colour) * share``.
"""

import math

from numba import njit, types

from rafmodel.image_axes import nearest, put, taken
from rafmodel.image_jobs import CHANNELS, DEPTH, INNER, LEADS, MADE, OF_OPERAND, OUTER, SIDE, WIDE, at, image_at
from rafmodel.instructions import LANES, again, black, compiled, free, integers, levels, memory, numbers, words

CHUNK = 16  # pixels of a row of which any is covered, or none
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
    share, goal = numbers(field), numbers(colour)
    if depth == 1:
        level = levels(row)
        for k in range(n):
            level[k] = nearest(goal[k] + (types.float32(level[k]) - goal[k]) * share[k])
    else:
        x = numbers(row)
        for k in range(n):
            x[k] = goal[k] + (x[k] - goal[k]) * share[k]


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
    """Pixels from start to end of a row of an image, to ``fields`` colours one after the other, which then cover nothing again.

    scratch  fields of shares, CHUNK longer than a row, colours of all pixels, and room for two rows
    """
    width, channels, depth = job[INNER], job[CHANNELS], job[DEPTH]
    n, line = (end - start) * channels, width * channels
    colours = scratch + 4 * fields * (width + CHUNK)
    row = colours + 4 * fields * line
    wide = row + 4 * line
    if fields > 1:
        taken(row, made, start * channels, 1, n, depth)
    for f in range(fields):
        shares = field = scratch + 4 * (f * (width + CHUNK) + start)
        if channels > 1:
            shares = wide
            _for_channels(field, end - start, channels, wide)
        if fields > 1:
            _laid(shares, colours + 4 * f * line, row, n, 4)
        else:  # in place
            _laid(shares, colours, made + depth * start * channels, n, depth)
        _uncovered(field, 0, end - start)
    if fields > 1:
        put(made, start * channels, 1, row, n, depth, types.float32(-math.inf), types.float32(math.inf))


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
    scratch = memory(4 * (fields * (width + CHUNK) + width * (fields + 2) * job[CHANNELS]))
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


@njit(error_model="numpy", fastmath={"contract"})
def _beyond(place, share, n, start, step, above, deepest, scale):
    """Where in a table n numbers lie, and the share of the way to its next entry: pixels ``start`` and then ``step`` apart from
    a mark's middle along a row, and ``above`` across, by how far they are from ``deepest`` inside of its edge."""
    for j in range(n):
        x = start + step * types.float32(types.int32(j))  # of 32 bits several are made numbers at a time
        far = (math.sqrt(x * x + above) - deepest) * scale
        place[j] = types.int32(far)
        share[j] = far - types.float32(types.int32(far))


@njit(error_model="numpy", fastmath={"contract"})
def _covered(field, apart, fields, n, place, share, profile, shown):
    """Takes from n numbers of each field, which are so many numbers apart, what a mark covers: a table in which every entry has,
    of each field, the value and the change to the next entry."""
    one = types.float32(1)
    if fields == 2:  # of both at once
        for j in range(n):
            entry, way = 4 * types.int64(place[j]), share[j]
            field[j] *= one - shown * (profile[entry] + way * profile[entry + 1])
            field[j + apart] *= one - shown * (profile[entry + 2] + way * profile[entry + 3])
        return
    for f in range(fields):
        for j in range(n):
            entry = 2 * (types.int64(place[j]) * fields + f)
            field[j + f * apart] *= one - shown * (profile[entry] + share[j] * profile[entry + 1])


@compiled
def round_marks(job, first, end):
    """Units (height, width, channels): images under marks of ``fields`` profiles and colours, one after the other."""
    fields, height, width, most = job[OUTER], job[SIDE], job[INNER], job[WIDE]
    depth, line, wide = job[DEPTH], job[INNER] * job[CHANNELS], job[INNER] + LANES
    entries = words(job[OF_OPERAND + 4] + 8 * job[LEADS])[0]
    scratch, here = _room(job, fields), memory(8 * wide + 16 * most)
    place, share = integers(here), numbers(here + 4 * wide)
    top, low_ = words(here + 8 * wide), words(here + 8 * wide + 8 * most)
    step = types.float32(2) / types.float32(width)
    for unit in range(first, end):
        made = job[MADE] + depth * unit * height * line
        again(made, image_at(job, unit, height * line), depth * height * line)
        _colours(job, 5, unit, fields, scratch)
        shown, mark = numbers(at(job, 1, unit, most)), numbers(at(job, 2, unit, 3 * most))
        ends, profiles = numbers(at(job, 3, unit, 2)), numbers(at(job, 4, unit, 2 * fields * entries))
        deepest, reach = ends[0], ends[1]
        reach_, scale = reach * types.float32(0.999), types.float32(entries - 1) / (deepest + reach)
        for m in range(most):
            top[m], low_[m] = height, 0
            if shown[m] > 0:
                top[m], low_[m] = _pixels(mark[3 * m], mark[3 * m + 2] + reach_, height)
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
                half = math.sqrt(max((size + reach_) * (size + reach_) - y * y, types.float32(0)))
                low, high = _pixels(column, half, width)
                if high <= low:
                    continue
                left, right = min(left, low), max(right, high)
                start = types.float32(2 * low + 1) / types.float32(width) - types.float32(1) - column
                _beyond(place, share, -(-(high - low) // LANES) * LANES, start, step, y * y, size - deepest, scale)
                field = numbers(scratch + 4 * low)
                _covered(field, width + CHUNK, fields, high - low, place, share, profiles, shown[m])
            if right > left:
                _touched(made + depth * i * line, job, left, right, fields, scratch)
    free(here)
    free(scratch)


# ---- stamps


@compiled
def _cells(corner, n, cell, cells, to):
    """From which to before which of n pixels of an axis a stamp reaches, and of these the cell that each lies in, or -1."""
    along, cell_ = types.float32(n), integers(to)
    low = min(n, max(0, int((corner + 1) * along / 2) - 1))
    high = max(low, min(n, int((corner + cells * cell + 1) * along / 2) + 2))
    for k in range(low, high):
        x = (types.float32(2 * k + 1) / along - types.float32(1) - corner) / cell
        cell_[k - low] = types.int32(x) if 0 <= x < cells else -1
    return low, high


@compiled
def stamps(job, first, end):
    """Units (height, width, channels): images under rasters of square cells that hang from a corner, of one colour, one after
    the other; grey levels are rounded after each."""
    height, width, channels, most = job[SIDE], job[INNER], job[CHANNELS], job[WIDE]
    depth, line, lengths = job[DEPTH], job[INNER] * job[CHANNELS], words(job[OF_OPERAND + 3] + 8 * job[LEADS])
    rows, columns = lengths[1], lengths[2]
    scale = types.float32(255) if depth == 1 else types.float32(1)
    cells = memory(4 * (height + width))
    row, column = integers(cells), integers(cells + 4 * height)
    for unit in range(first, end):
        made = job[MADE] + depth * unit * height * line
        again(made, image_at(job, unit, height * line), depth * height * line)
        shown, corner = numbers(at(job, 1, unit, most)), numbers(at(job, 2, unit, 2 * most))
        raster, cell = numbers(at(job, 3, unit, most * rows * columns)), numbers(at(job, 4, unit, 1))[0]
        colour = numbers(at(job, 5, unit, channels))
        for m in range(most):
            if not shown[m] > 0:
                continue
            top, low = _cells(corner[2 * m], height, cell, rows, cells)
            left, right = _cells(corner[2 * m + 1], width, cell, columns, cells + 4 * height)
            for i in range(top, low):
                if row[i - top] < 0:
                    continue
                level, number = levels(made + i * line), numbers(made + 4 * i * line)
                for j in range(left, right):
                    if column[j - left] < 0:
                        continue
                    ink = shown[m] * raster[(m * rows + row[i - top]) * columns + column[j - left]]
                    if ink == 0:
                        continue
                    for c in range(channels):
                        k, goal = j * channels + c, scale * colour[c]
                        if depth == 1:
                            level[k] = nearest(goal + (types.float32(level[k]) - goal) * (types.float32(1) - ink))
                        else:
                            number[k] = goal + (number[k] - goal) * (types.float32(1) - ink)
    free(cells)


# ---- what is hidden, and a round field of view


@compiled
def hidden(job, first, end):
    """Units (n0, n1, n2, channels): images times one less the product of numbers (n0,), (n1,) and (n2,) along their axes."""
    n0, n1, n2, channels, depth = job[OUTER], job[SIDE], job[INNER], job[CHANNELS], job[DEPTH]
    line, one = n2 * channels, types.float32(1)
    for unit in range(first, end):
        image, made = image_at(job, unit, n0 * n1 * line), job[MADE] + depth * unit * n0 * n1 * line
        again(made, image, depth * n0 * n1 * line)
        plane, row, column = numbers(at(job, 1, unit, n0)), numbers(at(job, 2, unit, n1)), numbers(at(job, 3, unit, n2))
        start, stop = 0, n2
        while start < n2 and column[start] == 0:
            start += 1
        while stop > start and column[stop - 1] == 0:
            stop -= 1
        for i in range(n0):
            for j in range(n1):
                share = plane[i] * row[j]
                if share == 0:
                    continue
                to = made + depth * (i * n1 + j) * line
                for k in range(start, stop):
                    left = one - share * column[k]
                    for c in range(k * channels, (k + 1) * channels):
                        if depth == 1:
                            level = types.float32(levels(to)[c]) * left + types.float32(0.5)
                            levels(to)[c] = types.uint8(types.int32(level))
                        else:
                            numbers(to)[c] *= left


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
        for i in range(height):
            row, to = image + depth * i * line, made + depth * i * line
            y = types.float32(2 * i + 1) / types.float32(height) - one - circle[0]
            outer, inner = radius + soft, radius - soft
            start = end_ = first_ = last = 0  # what is not black; of this, what is wholly seen
            if outer > 0 and outer * outer > y * y:
                start, end_ = _pixels(column, math.sqrt(outer * outer - y * y), width)
                start, end_ = max(0, start - 1), min(width, end_ + 1)
                first_ = last = end_
                if inner > 0 and inner * inner > y * y:
                    first_, last = _pixels(column, math.sqrt(inner * inner - y * y), width)
                    first_, last = min(first_ + 1, end_), max(last - 1, start)
                    if last <= first_:
                        first_ = last = end_
            black(to, depth * start * channels)
            again(to + depth * start * channels, row + depth * start * channels, depth * (end_ - start) * channels)
            black(to + depth * end_ * channels, depth * (width - end_) * channels)
            for side in range(2):
                low, high = (start, first_) if side == 0 else (last, end_)
                for j in range(low, high):
                    x = types.float32(2 * j + 1) / types.float32(width) - one - column
                    share = (radius - math.sqrt(x * x + y * y)) * types.float32(height) / 2 + types.float32(0.5)
                    _faded(to, j * channels, channels, depth, max(types.float32(0), min(one, share)))
