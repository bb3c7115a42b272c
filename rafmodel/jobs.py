# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false
"""What machine code shares: jobs of which XLA's threads take parts, and sums of products, compiled by numba for this machine.

XLA hands over a call frame (``xla/ffi/api/c_api.h``, which jaxlib ships), structures of which every field is a word of eight
bytes, and lends its threads by functions in a table.  Addresses are int64 here, as numba knows no structures of C.  A job is a
block of words: threads take part after part of it, and who is the last to leave frees it, since a thread that XLA lends may come
when all is done.  Parts do not depend on who takes them, nor do sums on how many threads there are.
"""

from pathlib import Path
from typing import Any
from zlib import crc32

from rafmodel import instructions
from rafmodel.instructions import LANES, ROWS, add, call, compiled, free, memory, tile, words

# first words of every job; ASK is XLA's structure of up to five words
NEXT, USERS, DONE, PARTS, THREADS, ASK, OWN = 0, 1, 2, 3, 4, 5, 10
WORDS = 40
# what numba keeps on disk is known by a file's text and by values that functions enclose: so by other files' texts, too
OTHER = crc32(Path(instructions.__file__).read_bytes() + Path(__file__).read_bytes())
# words of XLA's call frame, whose settings are in the order of their names, of its table of functions, and of a tensor
EXTENSION, TABLE, CONTEXT, COUNTED, ARGUMENTS, RESULTS, ATTRIBUTES = 1, 2, 3, 7, 9, 14, 20
LEND, COUNT = 17, 18
TYPE, DATA, RANK, DIMS = 2, 3, 4, 5
LEVELS = 6  # the type of numbers of 8 bits, in 32 of a word


# ---- many rows


def _swept(by_place: bool, fresh: bool = False) -> Any:
    """Tile after tile of a sum of products, some of them narrow: ``(a, many, offset, b, step, out, n, width)``.

    Rows at a (n numbers ``offset`` after each of many addresses) times b (n, width), added to many rows at out; or, by place,
    the transpose of these rows times b (many, width), added to n rows.  If ``fresh``, what was there is not read.
    """
    full_1, full_2, one_1, one_2 = (tile(*size, by_place, fresh) for size in ((ROWS, 1), (ROWS, 2), (1, 1), (1, 2)))

    @compiled
    def sweep(a, many, offset, b, step, out, n, width):
        rows, depth = (n, many) if by_place else (many, n)
        for w in range(0, width, 2 * LANES):
            two, r = w + 2 * LANES <= width, 0
            while r < rows:
                full = r + ROWS <= rows
                start, behind = (a, offset + 4 * r) if by_place else (a + 8 * r, offset)
                if full and two:
                    full_2(start, behind, b + 4 * w, step, out + 8 * r, 4 * w, depth)
                elif full:
                    full_1(start, behind, b + 4 * w, step, out + 8 * r, 4 * w, depth)
                elif two:
                    one_2(start, behind, b + 4 * w, step, out + 8 * r, 4 * w, depth)
                else:
                    one_1(start, behind, b + 4 * w, step, out + 8 * r, 4 * w, depth)
                r += ROWS if full else 1

    return sweep


rows, by_place, fresh_rows = _swept(False), _swept(True), _swept(False, fresh=True)


# ---- a job


@compiled
def begun(parts):
    """The address of a new job."""
    address = memory(8 * WORDS)
    job = words(address)
    job[NEXT], job[USERS], job[DONE], job[PARTS] = 0, 1, 0, parts
    return address


@compiled
def left(address):
    """One thread fewer has to do with a job."""
    if add(address + 8 * USERS, -1) == 1:
        free(address)


@compiled
def asked(frame, address, task):
    """Other threads are asked to help with a job of several parts, if XLA has them; task is the address of what they do."""
    job, table = words(address), words(frame[TABLE])
    asking = address + 8 * ASK  # the size of the structure, its extensions, the context, then what is asked for
    job[ASK], job[ASK + 1], job[ASK + 2], job[ASK + 3] = 32, 0, frame[CONTEXT], address + 8 * THREADS
    if call(table[COUNT], asking) != 0:
        return
    job[ASK], job[ASK + 3], job[ASK + 4] = 40, task, address
    for _ in range(min(job[PARTS], job[THREADS]) - 1):
        add(address + 8 * USERS, 1)
        if call(table[LEND], asking) != 0:
            add(address + 8 * USERS, -1)
            return


@compiled
def finished(address, task):
    """A job's parts are done, by this thread as long as there are any, and it is left."""
    parts = words(address)[PARTS]
    add(address + 8 * USERS, 1)
    call(task, address)
    while add(address + 8 * DONE, 0) < parts:  # a thread that helps is at its last part
        pass
    left(address)


@compiled
def versioned(frame):
    """Whether XLA only asks for the version of the interface, which is told: 0.1, two numbers in one word."""
    if frame[EXTENSION] == 0:
        return False
    words(words(frame[EXTENSION])[3])[3] = 1 << 32
    return True
