# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false, reportArgumentType=false
"""What a job of ``image_code`` is told, word by word, and where its operands lie.

Operands have axes in front that ``vmap`` gave them, of the result's lengths or 1, so that what images share is there once.
"""

from numba import njit

from rafmodel.instructions import words
from rafmodel.jobs import OWN

PART = 2**16  # numbers of the result in one part of a job
# words of a job; of each operand its address, and that of its lengths
KIND, MADE, LEADS, LENGTHS, SPACE, OUTER, SIDE, INNER, WIDE, UNITS, OPERAND = range(OWN, OWN + 11)
MOST = 4  # operands
OF_OPERAND = OPERAND + MOST
DOWN, ACROSS, READ, SPREAD, NORMAL, ROUND, STAMP = range(7)


@njit(error_model="numpy")
def at(job, operand, b, size):
    """Address of an operand's part for the b-th part of the result, if its parts are of so many numbers."""
    own, all_, step, place = words(job[OF_OPERAND + operand]), words(job[LENGTHS]), size, 0
    for axis in range(job[LEADS] - 1, -1, -1):
        if own[axis] != 1:
            place += b % all_[axis] * step
            step *= own[axis]
        b //= all_[axis]
    return job[OPERAND + operand] + 4 * place
