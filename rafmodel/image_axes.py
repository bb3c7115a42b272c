# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false, reportArgumentType=false
"""Matrices along all axes of an image at once, in numbers or in grey levels of 8 bits.

An image is read once and written once, and what lies between stays in a core's cache.  Rows of a matrix that are the one before
again, as of large pixels, are worked out once.
"""

from numba import types

from rafmodel.image_jobs import CHANNELS, DEPTH, INNER, MADE, OUTER, SIDE, WIDE, at, image_at
from rafmodel.image_products import LINES, PANEL, columns_reached, multiplied, reached, times
from rafmodel.instructions import LANES, again, compiled, copy, free, levels, memory, numbers, words

# what is known of a matrix of n rows, n words each: of rows that are not the one before, their addresses and first and last
# numbers that are not zero; of every row which of them it is; and room for addresses of what is made of them
ROW, LOW, HIGH, WHICH, OUT, TABLES = 0, 8, 16, 24, 32, 40


# ---- numbers and grey levels


@compiled
def taken(to, source, start, step, n, depth):
    """n numbers of an image, ``step`` apart from the start-th one; of grey levels, these."""
    one = numbers(to)
    if depth == 1:
        level = levels(source + start)
        if step == 1:
            for k in range(n):
                one[k] = types.float32(level[k])
        else:
            for k in range(n):
                one[k] = types.float32(level[k * step])
    elif step == 1:
        copy(to, source + 4 * start, n)
    else:
        number = numbers(source + 4 * start)
        for k in range(n):
            one[k] = number[k * step]


@compiled
def _within(x, least, most):
    x = least if x < least else x
    return most if x > most else x


@compiled
def nearest(x):
    """The nearest of 256 grey levels."""
    return types.uint8(types.int32(_within(x, types.float32(0), types.float32(255)) + types.float32(0.5)))


@compiled
def put(to, start, step, source, n, depth, least, most):
    """n numbers to an image, ``step`` apart from the start-th one, none below the least or above the most; of grey levels, the
    nearest."""
    one = numbers(source)
    if depth == 1:
        level = levels(to + start)
        if step == 1:
            for k in range(n):
                level[k] = nearest(one[k])
        else:
            for k in range(n):
                level[k * step] = nearest(one[k])
    else:
        number = numbers(to + 4 * start)
        if step == 1:
            for k in range(n):
                number[k] = _within(one[k], least, most)
        else:
            for k in range(n):
                number[k * step] = _within(one[k], least, most)


# ---- all axes


@compiled
def _known(matrix, n, tables):
    """The tables of a matrix (n, n), and how many of its rows are not the one before."""
    row, which, many = words(tables + ROW * n), words(tables + WHICH * n), 0
    for i in range(n):
        one, before = numbers(matrix + 4 * i * n), numbers(matrix + 4 * (i - 1) * n)
        same, k = i > 0, 0
        while same and k < n:
            same = one[k] == before[k]
            k += 1
        if not same:
            row[many] = matrix + 4 * i * n
            reached(row[many], n, words(tables + LOW * n), words(tables + HIGH * n), many)
            many += 1
        which[i] = many - 1
    return many


@compiled
def _by_rows(tables, side, many, source, wide, to, step):
    """Many rows of a matrix times a source (side, wide), ``step`` numbers after each other."""
    out = words(tables + OUT * side)
    for i in range(many):
        out[i] = to + 4 * i * step
    row, low, high = tables, tables + LOW * side, tables + HIGH * side
    multiplied(row, low, high, side, many, source, wide, tables + OUT * side)


@compiled
def _whole(n):
    """The least multiple of LANES that has room for n numbers."""
    return -(-n // LANES) * LANES


@compiled
def _planes(job, image, tables, many, size, to):
    """Many planes (size,) of numbers, rows of a matrix times the planes of an image, PANEL numbers at a time."""
    n0, depth = job[OUTER], job[DEPTH]
    source, step = to + 4 * n0 * _whole(size), _whole(size)
    for column in range(0, size, PANEL):
        width = min(PANEL, size - column)
        wide = _whole(width)
        for i in range(n0):
            taken(source + 4 * i * wide, image, i * size + column, 1, width, depth)
        _by_rows(tables, n0, many, source, wide, to + 4 * column, step)


@compiled
def multiplied_all(job, first, end):
    """Units (n0, n1, n2, channels): matrices (n0, n0), (n1, n1) and, transposed, (n2, WIDE) along the axes of an image, and
    what is below or above the last operand's two numbers put there."""
    n0, n1, n2, channels = job[OUTER], job[SIDE], job[INNER], job[CHANNELS]
    wide, depth = job[WIDE], job[DEPTH]
    groups, down_wide, line = wide // (2 * LANES), _whole(n2), n2 * channels
    size = n1 * line
    tables_0 = memory(TABLES * (n0 + n1) + 16 * groups + 8 * LINES)
    tables_1 = tables_0 + TABLES * n0
    low = tables_1 + TABLES * n1
    high, ends = low + 8 * groups, low + 16 * groups
    plane = memory(4 * n1 * (2 * down_wide + wide))
    down = plane + 4 * n1 * down_wide
    result = down + 4 * n1 * down_wide
    volume = memory(4 * n0 * (_whole(size) + PANEL)) if n0 > 1 else 0
    which_0, which_1 = words(tables_0 + WHICH * n0), words(tables_1 + WHICH * n1)
    known_0, known_1, known_2, planes, lines, which_0[0] = 0, 0, 0, 1, 0, 0
    for unit in range(first, end):
        image, made = image_at(job, unit, n0 * size), job[MADE] + depth * unit * n0 * size
        matrix_0, matrix_1, matrix_2 = at(job, 1, unit, n0 * n0), at(job, 2, unit, n1 * n1), at(job, 3, unit, n2 * wide)
        ends_ = numbers(at(job, 4, unit, 2))
        least, most = ends_[0], ends_[1]
        if n0 > 1 and matrix_0 != known_0:
            planes, known_0 = _known(matrix_0, n0, tables_0), matrix_0
        if matrix_1 != known_1:
            lines, known_1 = _known(matrix_1, n1, tables_1), matrix_1
        if matrix_2 != known_2:
            columns_reached(matrix_2, n2, wide, words(low), words(high))
            known_2 = matrix_2
        source, kind, step = image, depth, size
        if n0 > 1:
            _planes(job, image, tables_0, planes, size, volume)
            source, kind, step = volume, 4, _whole(size)
        as_is = n0 > 1 and channels == 1 and n2 == down_wide
        for i in range(n0):
            here = made + depth * i * size
            if i > 0 and which_0[i] == which_0[i - 1]:
                again(here, here - depth * size, depth * size)
                continue
            for c in range(channels):
                given = source + kind * which_0[i] * step if as_is else plane
                for j in range(0 if as_is else n1):
                    taken(plane + 4 * j * down_wide, source, which_0[i] * step + j * line + c, channels, n2, kind)
                _by_rows(tables_1, n1, lines, given, down_wide, down, down_wide)
                for j in range(0, lines, LINES):
                    to = result + 4 * j * wide
                    times(tables_1 + OUT * n1 + 8 * j, min(LINES, lines - j), matrix_2, wide, low, high, to, ends)
                for j in range(n1):
                    if j == 0 or which_1[j] != which_1[j - 1]:
                        to = result + 4 * which_1[j] * wide
                        put(here, j * line + c, channels, to, n2, depth, least, most)
            for j in range(1, n1):
                if which_1[j] == which_1[j - 1]:
                    again(here + depth * j * line, here + depth * (j - 1) * line, depth * line)
    if n0 > 1:
        free(volume)
    free(plane)
    free(tables_0)
