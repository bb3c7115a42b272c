# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false, reportArgumentType=false
"""Images times a factor, plus what is added, and their lines turned round: as fast as memory is."""

from numba import types

from rafmodel.image_axes import nearest
from rafmodel.image_jobs import DEPTH, INNER, MADE, OUTER, SIDE, UNITS, at, image_at
from rafmodel.instructions import LANES, compiled, levels, numbers, scaled, seen

PAST = 24 * 2**20  # bytes of a result from which it is written past the caches, as none holds it until it is read
_ahead, _back = scaled(False), scaled(True)


@compiled
def _levels(image, made, n, step, factor, added):
    """n grey levels, ``step`` apart from the first that is read, times a factor, plus what is added."""
    x, y = levels(image), levels(made)
    if factor == 1 and added == 0:
        for k in range(n):
            y[k] = x[k * step]
    else:
        for k in range(n):
            y[k] = nearest(types.float32(x[k * step]) * factor + types.float32(255) * added)


@compiled
def toned(job, first, end):
    """Units (n1, n2, 1): planes of images, each times a factor, plus what is added, their lines turned round or not."""
    n0, n1, n2, depth = job[OUTER], job[SIDE], job[INNER], job[DEPTH]
    size = n1 * n2
    past = (
        1 if depth == 4 and 4 * job[UNITS] * size > PAST and size % LANES == 0 and job[MADE] % (4 * LANES) == 0 else 0
    )
    for unit in range(first, end):
        b, i = unit // n0, unit % n0
        image, made = image_at(job, b, n0 * size) + depth * i * size, job[MADE] + depth * unit * size
        told = numbers(at(job, 1, b, 3))
        factor, added, turned = told[0], told[1], told[2] > 0
        if depth == 1 and not turned:
            _levels(image, made, size, 1, factor, added)
        elif not turned:
            even = size - size % LANES
            _ahead(made, image, even, factor, added, past)
            for k in range(even, size):
                numbers(made)[k] = numbers(image)[k] * factor + added
        else:
            for j in range(n1):
                row, to = image + depth * j * n2, made + depth * j * n2
                if depth == 1:
                    _levels(row + n2 - 1, to, n2, -1, factor, added)
                else:
                    even = n2 - n2 % LANES
                    _back(to, row + 4 * (n2 - even), even, factor, added, past if even == n2 else 0)
                    for k in range(even, n2):
                        numbers(to)[k] = numbers(row)[n2 - 1 - k] * factor + added
    if past:
        seen()
