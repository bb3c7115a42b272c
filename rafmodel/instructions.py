# pyright: reportCallIssue=false
"""Instructions that numba has no words for, of addresses and counts, which are all int64."""

from typing import Any

from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16 if binding.get_host_cpu_features().get("avx512f") else 8  # numbers in a register, or in two
ROWS = 8 if LANES == 16 else 6  # of a tile, which is in registers as a whole
compiled = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)  # called by machine code alone
_WORD, _BYTES, _FLOAT = ir.IntType(64), ir.IntType(8).as_pointer(), ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)


@intrinsic
def words(context, address):
    """Words at an address."""
    return types.CPointer(types.int64)(types.int64), lambda c, b, s, a: b.inttoptr(a[0], _WORD.as_pointer())


@intrinsic
def numbers(context, address):
    """Numbers at an address."""
    return types.CPointer(types.float32)(types.int64), lambda c, b, s, a: b.inttoptr(a[0], _FLOAT.as_pointer())


@intrinsic
def integers(context, address):
    """Integers of 32 bits at an address."""
    return types.CPointer(types.int32)(types.int64), lambda c, b, s, a: b.inttoptr(a[0], ir.IntType(32).as_pointer())


@intrinsic
def levels(context, address):
    """Grey levels of 8 bits at an address."""
    return types.CPointer(types.uint8)(types.int64), lambda c, b, s, a: b.inttoptr(a[0], _BYTES)


@intrinsic
def add(context, address, by):
    """The word at an address, to which so much is added; no other thread comes between."""

    def emit(c, b, s, a):
        return b.atomic_rmw("add", b.inttoptr(a[0], _WORD.as_pointer()), a[1], "seq_cst")

    return types.int64(types.int64, types.int64), emit


@intrinsic
def call(context, function, argument):
    """What a function of C with one pointer returns."""

    def emit(c, b, s, a):
        return b.call(b.inttoptr(a[0], ir.FunctionType(_WORD, [_WORD]).as_pointer()), [a[1]])

    return types.int64(types.int64, types.int64), emit


def task(name: str) -> Any:
    """The address of what threads do, by its name, so that what is compiled can be kept on disk: an intrinsic, to be called."""

    @intrinsic
    def task(context):
        def emit(c, b, s, a):
            kind = ir.FunctionType(_WORD, [_WORD])
            return b.ptrtoint(cgutils.get_or_insert_function(b.module, kind, name), _WORD)

        return types.int64(), emit

    return task


@intrinsic
def memory(context, size):
    """The address of so many new bytes."""

    def emit(c, b, s, a):
        malloc = cgutils.get_or_insert_function(b.module, ir.FunctionType(_BYTES, [_WORD]), "malloc")
        return b.ptrtoint(b.call(malloc, a), _WORD)

    return types.int64(types.int64), emit


@intrinsic
def free(context, address):
    def emit(c, b, s, a):
        free = cgutils.get_or_insert_function(b.module, ir.FunctionType(ir.VoidType(), [_BYTES]), "free")
        b.call(free, [b.inttoptr(a[0], _BYTES)])
        return c.get_dummy_value()

    return types.void(types.int64), emit


@intrinsic
def copy(context, to, source, n):
    """n numbers."""

    def emit(c, b, s, a):
        cgutils.raw_memcpy(b, b.inttoptr(a[0], _FLOAT.as_pointer()), b.inttoptr(a[1], _FLOAT.as_pointer()), a[2], 4)
        return c.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@intrinsic
def again(context, to, source, n):
    """n bytes."""

    def emit(c, b, s, a):
        cgutils.raw_memcpy(b, b.inttoptr(a[0], _BYTES), b.inttoptr(a[1], _BYTES), a[2], 1)
        return c.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@intrinsic
def black(context, to, n):
    """n bytes of zero."""

    def emit(c, b, s, a):
        cgutils.memset(b, b.inttoptr(a[0], _BYTES), a[1], 0)
        return c.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic
def clear(context, to, n):
    """n zeros."""

    def emit(c, b, s, a):
        cgutils.memset(b, b.inttoptr(a[0], _FLOAT.as_pointer()), b.mul(a[1], ir.Constant(_WORD, 4)), 0)
        return c.get_dummy_value()

    return types.void(types.int64, types.int64), emit


def tile(rows: int, vectors: int, by_place: bool, fresh: bool = False) -> Any:
    """Adds products to a tile of so many rows and registers of channels, which is 0 before if ``fresh``: ``(a, offset, b, step,
    out, shift, n)``.

    What is multiplied by the i-th row of b (``step`` bytes apart), and added to ``shift`` bytes after the r-th address at out, is
    the i-th number ``offset`` bytes after the r-th address at a, or, by place, the r-th number after the i-th address.
    """

    @intrinsic
    def tile(context, a, offset, b, step, out, shift, n):
        def emit(c, builder, s, given):
            a, offset, b, step, out, shift, n = given

            def word(address, i):
                place = builder.inttoptr(address, _WORD.as_pointer())
                return builder.load(builder.gep(place, [i if isinstance(i, ir.Value) else ir.Constant(_WORD, i)]))

            def behind(address, by):
                return builder.add(address, by if isinstance(by, ir.Value) else ir.Constant(_WORD, by))

            def vectors_at(address):
                return [builder.inttoptr(behind(address, 4 * LANES * v), _VECTOR.as_pointer()) for v in range(vectors)]

            ends = [vectors_at(behind(word(out, r), shift)) for r in range(rows)]
            sums = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(vectors)] for _ in range(rows)]
            starts = [] if by_place else [behind(word(a, r), offset) for r in range(rows)]
            for r in range(rows):
                for v in range(vectors):
                    before = ir.Constant(_VECTOR, [0.0] * LANES) if fresh else builder.load(ends[r][v], align=4)
                    builder.store(before, sums[r][v])
            with cgutils.for_range(builder, n) as loop:
                i = loop.index
                others = [builder.load(place, align=4) for place in vectors_at(behind(b, builder.mul(i, step)))]
                here = behind(word(a, i), offset) if by_place else builder.mul(i, ir.Constant(_WORD, 4))
                for r in range(rows):
                    address = behind(here, 4 * r if by_place else starts[r])
                    number = builder.load(builder.inttoptr(address, _FLOAT.as_pointer()), align=4)
                    all_ = in_all(builder, number)
                    for v in range(vectors):
                        product = builder.fmul(all_, others[v], flags=("contract",))
                        total = builder.fadd(builder.load(sums[r][v]), product, flags=("contract",))
                        builder.store(total, sums[r][v])
            for r in range(rows):
                for v in range(vectors):
                    builder.store(builder.load(sums[r][v]), ends[r][v], align=4)
            return c.get_dummy_value()

        return types.void(*[types.int64] * 7), emit

    return tile


def apart(vectors: int) -> Any:
    """Adds to so many registers of numbers at ``out`` those at n places from an image, times a share each: ``(image, place,
    share, out, n)``, all addresses but n; places are words, counted in numbers."""

    @intrinsic
    def apart(context, image, place, share, out, n):
        def emit(c, builder, s, given):
            image, place, share, out, n = given

            def at(address, v):
                behind = builder.add(address, ir.Constant(_WORD, 4 * LANES * v))
                return builder.inttoptr(behind, _VECTOR.as_pointer())

            sums = [cgutils.alloca_once(builder, _VECTOR) for _ in range(vectors)]
            for v in range(vectors):
                builder.store(builder.load(at(out, v), align=4), sums[v])
            with cgutils.for_range(builder, n) as loop:
                far = builder.load(builder.gep(builder.inttoptr(place, _WORD.as_pointer()), [loop.index]))
                number = builder.load(builder.gep(builder.inttoptr(share, _FLOAT.as_pointer()), [loop.index]), align=4)
                source, all_ = builder.add(image, builder.mul(far, ir.Constant(_WORD, 4))), in_all(builder, number)
                for v in range(vectors):
                    product = builder.fmul(all_, builder.load(at(source, v), align=4), flags=("contract",))
                    builder.store(builder.fadd(builder.load(sums[v]), product, flags=("contract",)), sums[v])
            for v in range(vectors):
                builder.store(builder.load(sums[v]), at(out, v), align=4)
            return c.get_dummy_value()

        return types.void(*[types.int64] * 5), emit

    return apart


def scaled(turned: bool) -> Any:
    """n numbers, a multiple of LANES, times a factor, plus what is added; turned: the last comes first.

    ``(to, source, n, factor, added, past)``; past is 1 where they are written past the caches, out of which they would drive what
    is read next, and ``to`` is a multiple of 4 LANES.
    """

    @intrinsic
    def scaled(context, to, source, n, factor, added, past):
        def emit(c, builder, s, given):
            to, source, n, factor, added, past = given
            factor, added = in_all(builder, factor), in_all(builder, added)
            wide = ir.Constant(_WORD, 4 * LANES)
            blocks = builder.udiv(n, ir.Constant(_WORD, LANES))
            order = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(range(LANES))[::-1])

            def written(beyond):
                with cgutils.for_range(builder, blocks) as loop:
                    here = builder.mul(loop.index, wide)
                    back = builder.sub(builder.mul(blocks, wide), builder.add(here, wide))
                    place = builder.add(source, back if turned else here)
                    x = builder.load(builder.inttoptr(place, _VECTOR.as_pointer()), align=4)
                    x = builder.shuffle_vector(x, x, order) if turned else x
                    x = builder.fadd(builder.fmul(x, factor, flags=("contract",)), added, flags=("contract",))
                    goal = builder.inttoptr(builder.add(to, here), _VECTOR.as_pointer())
                    stored = builder.store(x, goal, align=4 * LANES if beyond else 4)
                    if beyond:
                        one = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
                        stored.set_metadata("nontemporal", one)

            with builder.if_else(builder.icmp_signed("!=", past, ir.Constant(_WORD, 0))) as (beyond, within):
                with beyond:
                    written(True)
                with within:
                    written(False)
            return c.get_dummy_value()

        return types.void(*[types.int64] * 3, *[types.float32] * 2, types.int64), emit

    return scaled


@intrinsic
def seen(context):
    """All that was written is seen by other threads, past the caches or not."""

    def emit(c, b, s, a):
        b.fence("seq_cst")
        return c.get_dummy_value()

    return types.void(), emit


def told(fields: int) -> Any:
    """Multiplies n numbers of each of one or two fields by one less ``shown`` times what a table says of how far they are.

    ``(out, apart, n, table, last, line, shown)``: fields are ``apart`` bytes from each other, the numbers of a line ``start,
    step, above, inner, scale``.

    The i-th lies ``start + i step`` along the line, which passes at a squared distance ``above``; ``scale`` times what it is
    farther than ``inner`` is its place in the table, from 0 to ``last``, a row of which has every field's value and the change
    to the next.  LANES numbers are worked on at a time, up to LANES - 1 more than n.
    """
    wide = 2 * fields
    row_kind = ir.VectorType(_FLOAT, wide)
    whole = ir.VectorType(ir.IntType(32), LANES)

    @intrinsic
    def told(context, out, apart, n, table, last, line, shown):
        def emit(c, builder, s, given):
            out, apart, n, table, last, line, shown = given
            numbers = builder.inttoptr(line, _FLOAT.as_pointer())

            def of_line(i):
                return in_all(builder, builder.load(builder.gep(numbers, [ir.Constant(_WORD, i)]), align=4))

            def fused(x, y, z):
                return builder.fadd(builder.fmul(x, y, flags=("contract",)), z, flags=("contract",))

            def shuffled(x, y, order):
                return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))

            def joined(parts):
                while len(parts) > 1:
                    many = 2 * parts[0].type.count
                    parts = [shuffled(x, y, list(range(many))) for x, y in zip(parts[::2], parts[1::2], strict=True)]
                return parts[0]

            def turned(rows):
                """Vectors of four numbers, one of each of four rows."""
                if fields == 1:
                    low, high = joined(rows[:2]), joined(rows[2:])
                    return [shuffled(low, high, [k, 2 + k, 4 + k, 6 + k]) for k in range(2)]
                pairs = [shuffled(x, y, [k, 4 + k, k + 1, 5 + k]) for x, y in (rows[:2], rows[2:]) for k in (0, 2)]
                return [
                    shuffled(pairs[k // 2], pairs[2 + k // 2], [2 * (k % 2) + i for i in (0, 1, 4, 5)])
                    for k in range(4)
                ]

            start, step, above, inner, scale = (of_line(i) for i in range(5))
            all_shown, end = in_all(builder, shown), in_all(builder, last)
            zero, one = ir.Constant(_VECTOR, [0.0] * LANES), ir.Constant(_VECTOR, [1.0] * LANES)
            counted = ir.Constant(whole, list(range(LANES)))
            kind = ir.FunctionType(_VECTOR, [_VECTOR])
            root = cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{LANES}f32")
            blocks = builder.udiv(builder.add(n, ir.Constant(_WORD, LANES - 1)), ir.Constant(_WORD, LANES))
            with cgutils.for_range(builder, blocks) as loop:
                first = builder.trunc(builder.mul(loop.index, ir.Constant(_WORD, LANES)), ir.IntType(32))
                one_ = builder.insert_element(ir.Constant(whole, ir.Undefined), first, ir.Constant(ir.IntType(32), 0))
                here = builder.add(shuffled(one_, one_, [0] * LANES), counted)
                x = fused(builder.sitofp(here, _VECTOR), step, start)
                far = builder.call(root, [fused(x, x, above)])
                far = builder.fmul(builder.fsub(far, inner), scale)
                far = builder.select(builder.fcmp_ordered("<", far, end), far, end)
                far = builder.select(builder.fcmp_ordered(">", far, zero), far, zero)
                place = builder.fptosi(far, whole)
                way, rows = builder.fsub(far, builder.sitofp(place, _VECTOR)), []
                for k in range(LANES):
                    behind = builder.zext(builder.extract_element(place, ir.Constant(ir.IntType(32), k)), _WORD)
                    address = builder.add(table, builder.mul(behind, ir.Constant(_WORD, 4 * wide)))
                    rows.append(builder.load(builder.inttoptr(address, row_kind.as_pointer()), align=4))
                fours = [turned(rows[k : k + 4]) for k in range(0, LANES, 4)]
                columns = [joined(list(parts)) for parts in zip(*fours, strict=True)]
                to = builder.add(out, builder.mul(loop.index, ir.Constant(_WORD, 4 * LANES)))
                for f in range(fields):
                    cover = fused(way, columns[2 * f + 1], columns[2 * f])
                    at = builder.inttoptr(to, _VECTOR.as_pointer())
                    left = builder.fsub(one, builder.fmul(all_shown, cover, flags=("contract",)), flags=("contract",))
                    builder.store(builder.fmul(builder.load(at, align=4), left), at, align=4)
                    to = builder.add(to, apart)
            return c.get_dummy_value()

        given = types.void(*[types.int64] * 4, types.float32, types.int64, types.float32)
        return given, emit

    return told


def in_all(builder, number):
    """A register that holds a number everywhere."""
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))
