# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false, reportArgumentType=false
"""Images to a power: ``2^(p log2 x)``, a register of numbers at a time, both functions by polynomials."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.polynomial import Chebyshev, Polynomial

from rafmodel.image_jobs import DEPTH, INNER, MADE, OUTER, SIDE, at, image_at
from rafmodel.instructions import LANES, compiled, copy, free, in_all, levels, memory, numbers

DARKEST = 1e-6  # what is darker, and not black, counts as so bright: its logarithm is finite
ROOT = float(np.sqrt(2))
MANTISSA, ROOT_HALF = 23, int(np.float32(1 / ROOT).view(np.int32))  # bits of a number behind its exponent; 1 / ROOT's


def _fitted(function, low: float, high: float, order: int) -> list[float]:
    """A polynomial through a function at Chebyshev's points of an interval, from its highest power down."""
    through = Chebyshev.interpolate(function, order, (low, high)).convert(
        kind=Polynomial, domain=(-1, 1), window=(-1, 1)
    )
    return through.coef[::-1].tolist()


# log2(1 + x) / x where 1 + x goes from 1 / ROOT to ROOT, and 2^x for half a step either way: to 3e-8 and 3e-9 of them
LOGARITHM = _fitted(lambda x: np.log2(1 + x) / np.where(x == 0, 1, x) + (x == 0) / np.log(2), 1 / ROOT - 1, ROOT - 1, 8)
EXPONENTIAL = _fitted(np.exp2, -0.5, 0.5, 6)


@intrinsic
def _powers(context, to, source, n, power):
    """n numbers, a multiple of LANES, to a power; numbers that are not above 0 stay."""

    def emit(c, builder, s, given):
        to, source, n, power = given
        reals, whole = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.IntType(32), LANES)

        def every(number):
            kind = whole if isinstance(number, int) else reals
            return ir.Constant(kind, [number] * LANES)

        def fused(x, y, z):
            return builder.fadd(builder.fmul(x, y, flags=("contract",)), z, flags=("contract",))

        def polynomial(coefficients, x):
            total = every(coefficients[0])
            for coefficient in coefficients[1:]:
                total = fused(total, x, every(coefficient))
            return total

        def at_least(x, y):
            return builder.select(builder.fcmp_ordered(">", x, y), x, y)

        power, bits = in_all(builder, power), every(MANTISSA)
        nearest = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(reals, [reals]), f"llvm.rint.v{LANES}f32"
        )
        with cgutils.for_range(builder, builder.udiv(n, ir.Constant(ir.IntType(64), LANES))) as loop:
            here = builder.mul(loop.index, ir.Constant(ir.IntType(64), 4 * LANES))
            given = builder.load(builder.inttoptr(builder.add(source, here), reals.as_pointer()), align=4)
            word = builder.bitcast(at_least(given, every(DARKEST)), whole)
            exponent = builder.ashr(builder.sub(word, every(ROOT_HALF)), bits)
            rest = builder.bitcast(builder.sub(word, builder.shl(exponent, bits)), reals)
            beyond = builder.fsub(rest, every(1.0))
            logarithm = fused(beyond, polynomial(LOGARITHM, beyond), builder.sitofp(exponent, reals))
            goal = at_least(builder.fmul(power, logarithm), every(-126.0))
            steps = builder.call(nearest, [goal])
            part = builder.bitcast(polynomial(EXPONENTIAL, builder.fsub(goal, steps)), whole)
            made = builder.bitcast(builder.add(part, builder.shl(builder.fptosi(steps, whole), bits)), reals)
            made = builder.select(builder.fcmp_ordered(">", given, every(0.0)), made, given)
            builder.store(made, builder.inttoptr(builder.add(to, here), reals.as_pointer()), align=4)
        return c.get_dummy_value()

    return types.void(*[types.int64] * 3, types.float32), emit


@compiled
def bent(job, first, end):
    """Units (n1, n2, channels): planes of images, each to a power; of 8 bits, by a table of all levels."""
    n0, size, depth = job[OUTER], job[SIDE] * job[INNER], job[DEPTH]
    table = memory(4 * 256 + 256 + 8 * LANES)
    rest, known = table + 4 * 256 + 256, 0
    for unit in range(first, end):
        b, i = unit // n0, unit % n0
        image, made = image_at(job, b, n0 * size) + depth * i * size, job[MADE] + depth * unit * size
        power = numbers(at(job, 1, b, 1))[0]
        if depth == 1:
            level = levels(table + 4 * 256)
            if known != at(job, 1, b, 1):
                known = at(job, 1, b, 1)
                for k in range(256):
                    numbers(table)[k] = types.float32(k) / types.float32(255)
                if power != 1:
                    _powers(table, table, 256, power)
                for k in range(256):
                    level[k] = types.uint8(types.float32(255) * numbers(table)[k] + types.float32(0.5))
            x, y = levels(image), levels(made)
            for k in range(size):
                y[k] = level[x[k]]
        elif power == 1:
            copy(made, image, size)
        else:
            even = size - size % LANES
            _powers(made, image, even, power)
            if even < size:
                copy(rest, image + 4 * even, size - even)
                _powers(rest, rest, LANES, power)
                copy(made + 4 * even, rest, size - even)
    free(table)
