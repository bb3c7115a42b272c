# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false
"""What ``native`` calls: copying patches and adding them up, compiled by numba for this machine.

XLA hands over a call frame (``xla/ffi/api/c_api.h``, which jaxlib ships), structures of which every field is a word of eight
bytes, and lends its threads by functions in a table.  Addresses are int64 here, as numba knows no structures of C.  A job is a
block of words of its own: threads take image after image of it, and who is the last to leave frees it, since a thread that XLA
lends may come when all is done.  Tensors are deep, (..., depth, height, width, channels), of one plane for a picture.
"""

from llvmlite import binding, ir
from numba import carray, cfunc, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

SMALL = 2**16  # numbers in patches below which no other thread is asked for help
TASK = "rafmodel_helped"
_WORD, _BYTES, _FLOATS = ir.IntType(64), ir.IntType(8).as_pointer(), ir.FloatType().as_pointer()
# words of a job; SPACE and PLACES are of three axes, ASK is XLA's structure of up to five words
NEXT, USERS, DONE, N, IMAGE, PATCH, STRIDE, PLANES, BACK, CHANNELS, SPACE, PLACES, THREADS, ASK, WORDS = (
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 16, 17, 22,
)  # fmt: skip
# words of XLA's call frame and of its table of functions
EXTENSION, TABLE, CONTEXT, ARGUMENTS, RESULTS, ATTRIBUTES = 1, 2, 3, 9, 14, 20
LEND, COUNT = 17, 18


# ---- instructions that numba has no words for


@intrinsic
def _at(context, address):
    """Words at an address."""
    return types.CPointer(types.int64)(types.int64), lambda c, b, s, a: b.inttoptr(a[0], _WORD.as_pointer())


@intrinsic
def _numbers(context, address):
    """Single-precision numbers at an address."""
    return types.CPointer(types.float32)(types.int64), lambda c, b, s, a: b.inttoptr(a[0], _FLOATS)


@intrinsic
def _add(context, address, by):
    """The word at an address, to which so much is added; no other thread comes between."""

    def emit(c, b, s, a):
        return b.atomic_rmw("add", b.inttoptr(a[0], _WORD.as_pointer()), a[1], "seq_cst")

    return types.int64(types.int64, types.int64), emit


@intrinsic
def _call(context, function, argument):
    """What a function of C with one pointer returns."""

    def emit(c, b, s, a):
        return b.call(b.inttoptr(a[0], ir.FunctionType(_WORD, [_WORD]).as_pointer()), [a[1]])

    return types.int64(types.int64, types.int64), emit


@intrinsic
def _task(context):
    """The address of ``_helped``, by its name, so that what is compiled can be kept on disk."""

    def emit(c, b, s, a):
        kind = ir.FunctionType(ir.VoidType(), [_WORD])
        return b.ptrtoint(cgutils.get_or_insert_function(b.module, kind, TASK), _WORD)

    return types.int64(), emit


@intrinsic
def _memory(context, size):
    """The address of so many new bytes."""

    def emit(c, b, s, a):
        malloc = cgutils.get_or_insert_function(b.module, ir.FunctionType(_BYTES, [_WORD]), "malloc")
        return b.ptrtoint(b.call(malloc, a), _WORD)

    return types.int64(types.int64), emit


@intrinsic
def _free(context, address):
    def emit(c, b, s, a):
        free = cgutils.get_or_insert_function(b.module, ir.FunctionType(ir.VoidType(), [_BYTES]), "free")
        b.call(free, [b.inttoptr(a[0], _BYTES)])
        return c.get_dummy_value()

    return types.void(types.int64), emit


@intrinsic
def _copy(context, to, source, n):
    """n numbers."""

    def emit(c, b, s, a):
        cgutils.raw_memcpy(b, b.inttoptr(a[0], _FLOATS), b.inttoptr(a[1], _FLOATS), a[2], 4)
        return c.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@intrinsic
def _clear(context, to, n):
    """n zeros."""

    def emit(c, b, s, a):
        cgutils.memset(b, b.inttoptr(a[0], _FLOATS), b.mul(a[1], ir.Constant(_WORD, 4)), 0)
        return c.get_dummy_value()

    return types.void(types.int64, types.int64), emit


# ---- one image


@njit(error_model="numpy")
def _move(image, patch, n, back):
    """n numbers of an image copied to a patch, or those of a patch added to the image's."""
    if not back:
        _copy(patch, image, n)
        return
    total, slope = carray(_numbers(image), n), carray(_numbers(patch), n)
    for k in range(n):
        total[k] += slope[k]


@njit(error_model="numpy")
def _edge(row, patch, first, width, channels, back):
    """Three pixels of an image's row from ``first`` on, of which one or two may lie beyond its ends."""
    low, high = max(first, 0), min(first + 3, width)
    _move(row + 4 * low * channels, patch + 4 * (low - first) * channels, (high - low) * channels, back)
    if not back:
        _clear(patch, (low - first) * channels)
        _clear(patch + 4 * (high - first) * channels, (first + 3 - high) * channels)


@njit(error_model="numpy")
def _row(row, patch, step, places, stride, width, channels, back):
    """The same row of all patches along a row of an image; a patch's lies ``step`` bytes after the one before it."""
    _edge(row, patch, -1, width, channels, back)
    inner = max(1, min(places, (width - 2) // stride + 1))
    for x in range(1, inner):
        _move(row + 4 * (x * stride - 1) * channels, patch + x * step, 3 * channels, back)
    for x in range(inner, places):
        _edge(row, patch + x * step, x * stride - 1, width, channels, back)


@njit(error_model="numpy")
def _image(image, patch, job):
    """All patches of one image; backwards, the sum over patches at every pixel."""
    stride, planes, channels, back = job[STRIDE], job[PLANES], job[CHANNELS], job[BACK]
    depth, height, width, places = job[SPACE], job[SPACE + 1], job[SPACE + 2], job[PLACES + 2]
    three = 4 * 3 * channels  # bytes of a patch's row
    step = 3 * planes * three  # from a patch to the next
    if back:
        _clear(image, depth * height * width * channels)
    for i in range(job[PLACES]):
        for j in range(job[PLACES + 1]):
            line = patch + (i * job[PLACES + 1] + j) * places * step
            for k in range(3 * planes):
                z, y = i * stride + k // 3 - planes // 2, j * stride + k % 3 - 1
                if 0 <= z < depth and 0 <= y < height:
                    row = image + 4 * (z * height + y) * width * channels
                    _row(row, line + k * three, step, places, stride, width, channels, back)
                elif not back:
                    for x in range(places):
                        _clear(line + k * three + x * step, 3 * channels)


# ---- a job


@njit(error_model="numpy")
def _work(address):
    """Image after image of a job, until none is left."""
    job = _at(address)
    pixels = 4 * job[CHANNELS] * job[SPACE] * job[SPACE + 1] * job[SPACE + 2]
    places = 4 * job[CHANNELS] * job[PLACES] * job[PLACES + 1] * job[PLACES + 2] * 9 * job[PLANES]
    n = _add(address + 8 * NEXT, 1)
    while n < job[N]:
        _image(job[IMAGE] + n * pixels, job[PATCH] + n * places, job)
        _add(address + 8 * DONE, 1)
        n = _add(address + 8 * NEXT, 1)


@njit(error_model="numpy")
def _leave(address):
    if _add(address + 8 * USERS, -1) == 1:
        _free(address)


@cfunc(types.void(types.int64), cache=True)
def helped(address):
    """What a thread that XLA lends does."""
    _work(address)
    _leave(address)


binding.add_symbol(TASK, helped.address)


@njit(error_model="numpy")
def _ask(frame, address, most):
    """Other threads are asked to help, at most so many, if XLA has them."""
    job, table = _at(address), _at(frame[TABLE])
    asking = address + 8 * ASK  # the size of the structure, its extensions, the context, then what is asked for
    job[ASK], job[ASK + 1], job[ASK + 2], job[ASK + 3] = 32, 0, frame[CONTEXT], address + 8 * THREADS
    if _call(table[COUNT], asking) != 0:
        return
    job[ASK], job[ASK + 3], job[ASK + 4] = 40, _task(), address
    for _ in range(min(most, job[THREADS] - 1)):
        _add(address + 8 * USERS, 1)
        if _call(table[LEND], asking) != 0:
            _add(address + 8 * USERS, -1)
            return


@njit(error_model="numpy")
def _answer(frame, back):
    """A call of XLA by its frame; 0, as nothing can fail."""
    if frame[EXTENSION] != 0:  # XLA asks for the version of the interface: 0.1, two numbers in one word
        _at(_at(frame[EXTENSION])[3])[3] = 1 << 32
        return 0
    given, made = _at(_at(frame[ARGUMENTS])[0]), _at(_at(frame[RESULTS])[0])
    image, patch = (made, given) if back else (given, made)
    address = _memory(8 * WORDS)
    job, last, space, places = _at(address), image[4] - 4, _at(image[5]), _at(patch[5])
    job[NEXT], job[USERS], job[DONE], job[N] = 0, 1, 0, 1
    for axis in range(last):
        job[N] *= space[axis]
    job[IMAGE], job[PATCH], job[BACK], job[CHANNELS] = image[3], patch[3], back, space[last + 3]
    for axis in range(3):
        job[SPACE + axis], job[PLACES + axis] = space[last + axis], places[last + axis]
    job[PLANES] = places[last + 3] // max(1, 9 * space[last + 3])
    job[STRIDE] = _at(_at(_at(frame[ATTRIBUTES])[0])[1])[0]
    n = job[N]
    if n * places[last] * places[last + 1] * places[last + 2] * places[last + 3] > SMALL:
        _ask(frame, address, n - 1)
    _work(address)
    while _add(address + 8 * DONE, 0) < n:  # a thread that helps is at its last image
        pass
    _leave(address)
    return 0


@cfunc(types.int64(types.CPointer(types.int64)), cache=True)
def patches(frame):
    """XLA's call: images (..., *space, C) to patches (..., *places, 9 planes C)."""
    return _answer(frame, 0)


@cfunc(types.int64(types.CPointer(types.int64)), cache=True)
def unpatched(frame):
    """XLA's call: slopes of patches to slopes of images."""
    return _answer(frame, 1)
