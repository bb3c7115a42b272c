# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false, reportArgumentType=false
"""What a job of ``image_code`` is told, word by word, and where its operands lie.

Operands have axes in front that ``vmap`` gave them, of the result's lengths or 1, so that what images share is there once.
"""

from rafmodel.instructions import compiled, words
from rafmodel.jobs import OWN

PART = 2**16  # numbers of the result in one part of a job
MOST_PARTS = 32  # of a job, as each finds out anew what is known of a matrix
# words of a job; of each operand its address, and that of its lengths
KIND, MADE, LEADS, LENGTHS, SPACE, OUTER, SIDE, INNER, WIDE, UNITS, DEPTH, CHANNELS, OPERAND = range(OWN, OWN + 13)
MOST = 6  # operands
OF_OPERAND = OPERAND + MOST
# kinds of work, and what they are told; each is of one image, or mark, or key
DOWN = 0  # (outer, side, inner), matrix (side, side)
ACROSS = 1  # (outer, side, inner), matrix transposed (side, wide)
READ = 2  # (*space, channels), places along every axis, of one shape, to (*shape, channels)
SPREAD = 3  # (n0, n1, n2, channels), kernel (k0, k1, k2)
NORMAL = 4  # key (2,) to normals (fields, n)
# (h, w, channels) to the same
ROUND = 5  # how far shown (M,), marks (M, 3), ends (2,), profiles (n, 2 fields), colours (fields, channels)
STAMP = 6  # how far shown (M,), corners (M, 2), rasters (M, rows, columns), cell (1,), colour (1, channels)
VIEW = 7  # circle (3,)
# (n0, n1, n2, channels) or (n1, n2, channels) to the same
HIDE = 8  # numbers (n0,), (n1,), (n2,)
ALL = 9  # matrices (n0, n0), (n1, n1), transposed (n2, wide), ends (2,)
# (n0, n1, n2, 1) or (n1, n2, 1) to the same
TONE = 10  # a factor, what is added, and 1 where lines are turned round (3,)
# (n0, n1, n2, channels) or (n1, n2, channels) to the same
POWER = 11  # (1,)


@compiled
def at(job, operand, b, size):
    """Address of an operand's part for the b-th part of the result, if its parts are of so many numbers."""
    return job[OPERAND + operand] + 4 * _before(job, operand, b, size)


@compiled
def image_at(job, b, size):
    """The same of the first operand, an image whose numbers are of DEPTH bytes."""
    return job[OPERAND] + job[DEPTH] * _before(job, 0, b, size)


@compiled
def _before(job, operand, b, size):
    """Numbers of an operand before its part for the b-th part of the result."""
    own, all_, step, place = words(job[OF_OPERAND + operand]), words(job[LENGTHS]), size, 0
    for axis in range(job[LEADS] - 1, -1, -1):
        if own[axis] != 1:
            place += b % all_[axis] * step
            step *= own[axis]
        b //= all_[axis]
    return place
