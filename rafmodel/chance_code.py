# pyright: reportCallIssue=false, reportPrivateImportUsage=false, reportIndexIssue=false, reportArgumentType=false
"""Normal numbers by the cipher of JAX's keys: ``threefry``'s, made in registers.

The inverse error function is Giles's (2010), of two polynomials, and the logarithm in it that of Moshier's Cephes; both are
within 2e-6 of what ``scipy`` says of the same bits, closer than XLA's, whose 1 − x² is rounded where x is near 1.
"""

import math

from numba import njit, types

from rafmodel.image_jobs import INNER, MADE, OUTER, at
from rafmodel.instructions import compiled, free, integers, memory, numbers

BLOCK = 1024  # numbers that are made together
_U, _I, _F = types.uint32, types.int32, types.float32
LOWEST = -1 + 2.0**-24  # the inverse error function is finite there


@njit(error_model="numpy", inline="always")
def _four_rounds(x, y, a, b, c, d):
    """Of the cipher, by their rotations."""
    x = _U(x + y)
    y = _U(_U(_U(y << _U(a)) | _U(y >> _U(32 - a))) ^ x)
    x = _U(x + y)
    y = _U(_U(_U(y << _U(b)) | _U(y >> _U(32 - b))) ^ x)
    x = _U(x + y)
    y = _U(_U(_U(y << _U(c)) | _U(y >> _U(32 - c))) ^ x)
    x = _U(x + y)
    return x, _U(_U(_U(y << _U(d)) | _U(y >> _U(32 - d))) ^ x)


@njit(error_model="numpy", inline="always")
def _words(first, second, third, place):
    """Two random words for a place, by the three words of a key; Salmon, Moraes, Dror, Shaw 2011."""
    x, y = _four_rounds(first, _U(place + second), 13, 15, 26, 6)
    x, y = _four_rounds(_U(x + second), _U(y + third + _U(1)), 17, 29, 16, 24)
    x, y = _four_rounds(_U(x + third), _U(y + first + _U(2)), 13, 15, 26, 6)
    x, y = _four_rounds(_U(x + first), _U(y + second + _U(3)), 17, 29, 16, 24)
    x, y = _four_rounds(_U(x + second), _U(y + third + _U(4)), 13, 15, 26, 6)
    return _U(x + third), _U(y + first + _U(5))


@njit(error_model="numpy", inline="always")
def _from_one_to_two(word):
    """The bits of a number from 1 to 2 whose binary places are a word's first 23."""
    return _I(_U(word >> _U(9)) | _U(0x3F800000))


@compiled
def _drawn(key, place, n, one, other, both):
    """Bits of n numbers from 1 to 2, from a place on; of both words, else of their difference."""
    first, second = _U(key[0]), _U(key[1])
    third = _U(_U(first ^ second) ^ _U(0x1BD11BDA))
    if both:
        for j in range(n):
            x, y = _words(first, second, third, _U(_U(place) + _U(j)))
            one[j], other[j] = _from_one_to_two(x), _from_one_to_two(y)
    else:
        for j in range(n):
            x, y = _words(first, second, third, _U(_U(place) + _U(j)))
            one[j] = _from_one_to_two(_U(x ^ y))


@njit(error_model="numpy", fastmath={"contract"})
def _normal(drawn, rest, made, n):
    """Standard normals where n numbers from 1 to 2 lie; what is drawn is overwritten."""
    u, power, left, bits = numbers(drawn), integers(drawn), numbers(rest), integers(rest)
    lowest, span = _F(LOWEST), _F(1 - LOWEST)
    for j in range(n):
        x = (u[j] - _F(1)) * span + lowest
        x = x if x > lowest else lowest
        made[j], left[j] = x, (_F(1) - x) * (_F(1) + x)
    for j in range(n):  # 1 - x^2 as a power of two times what lies between the roots of 1/2 and of 2
        exponent = _I(_I(bits[j] - _I(0x3F3504F3)) >> _I(23))
        power[j], bits[j] = exponent, _I(bits[j] - _I(exponent << _I(23)))
    for j in range(n):
        m = left[j] - _F(1)
        p = _F(7.0376836292e-2) * m - _F(1.1514610310e-1)
        p = p * m + _F(1.1676998740e-1)
        p = p * m - _F(1.2420140846e-1)
        p = p * m + _F(1.4249322787e-1)
        p = p * m - _F(1.6668057665e-1)
        p = p * m + _F(2.0000714765e-1)
        p = p * m - _F(2.4999993993e-1)
        p = p * m + _F(3.3333331174e-1)
        w = -(_F(power[j]) * _F(0.6931471805599453) + (m + (m * m) * (m * p - _F(0.5))))
        a = w - _F(2.5)
        p = _F(2.81022636e-08) * a + _F(3.43273939e-07)
        p = p * a - _F(3.5233877e-06)
        p = p * a - _F(4.39150654e-06)
        p = p * a + _F(2.1858087e-04)
        p = p * a - _F(1.25372503e-03)
        p = p * a - _F(4.17768164e-03)
        p = p * a + _F(2.46640727e-01)
        p = p * a + _F(1.50140941)
        b = math.sqrt(w if w > _F(0) else _F(0)) - _F(3)
        q = _F(-2.00214257e-04) * b + _F(1.00950558e-04)
        q = q * b + _F(1.34934322e-03)
        q = q * b - _F(3.67342844e-03)
        q = q * b + _F(5.73950773e-03)
        q = q * b - _F(7.6224613e-03)
        q = q * b + _F(9.43887047e-03)
        q = q * b + _F(1.00167406)
        q = q * b + _F(2.83297682)
        made[j] *= _F(1.4142135623730951) * (p if w < _F(5) else q)


@compiled
def normals(job, first, end):
    """Units are blocks of numbers: one field of them, from both words of each place, or two, from a word each."""
    n, both = job[INNER], job[OUTER] == 2
    blocks, scratch = -(-n // BLOCK), memory(12 * BLOCK)
    for unit in range(first, end):
        b, place = unit // blocks, unit % blocks * BLOCK
        many, made = min(BLOCK, n - place), job[MADE] + 4 * (b * job[OUTER] * n + place)
        key = integers(at(job, 0, b, 2))
        _drawn(key, place, many, integers(scratch), integers(scratch + 4 * BLOCK), both)
        _normal(scratch, scratch + 8 * BLOCK, numbers(made), many)
        if both:
            _normal(scratch + 4 * BLOCK, scratch + 8 * BLOCK, numbers(made + 4 * n), many)
    free(scratch)
