"""Learning time: when a mode is learned, by one linear layer and by two.

Statement    Gradient flow on ½E(v − su)² from 0 gives s(t) = s∞ (1 − e^{−ℓt}).  For a product of two equal layers on white
             input, ds/dt = 2s(s∞ − s): s(t) = s∞/(1 + (s∞/s₀ − 1)e^{−2 s∞ t}).
Assumptions  Modes decouple (input covariance and cross-covariance share their axes); balanced layers; small steps.
Limit        t → ∞ gives s∞; two layers wait log(s∞/s₀ − 1)/(2s∞) for half of it, so weak modes come late or never.
Source       Saxe, McClelland, Ganguli 2014.
"""

import numpy as np
import sympy as sp

from rafmodel import learning
from rafmodel import symbols as s


def derive() -> None:
    """Both forms solve their equations and start where they should."""
    t, end, start = s.tau, s.w_end, s.w_start
    ell = s.ell_
    shallow, deep = s.TIME_SHALLOW.rhs, s.TIME_DEEP.rhs
    assert sp.simplify(sp.diff(shallow, t) - ell * (end - shallow)) == 0
    assert shallow.subs(t, 0) == 0
    assert sp.simplify(sp.diff(deep, t) - 2 * deep * (end - deep)) == 0
    assert sp.simplify(deep.subs(t, 0) - start) == 0
    half = sp.log(end / start - 1) / (2 * end)
    assert sp.simplify(deep.subs(t, half) - end / 2) == 0
    assert sp.limit(shallow, t, sp.oo) == end


def by_descent() -> None:
    """Gradient descent on matrices with three modes of unlike strength, in a basis where nothing is diagonal."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(2))
    end, start, rate, steps = np.array([2.0, 1.0, 0.3]), 1e-2, 1e-3, 3000
    target = left @ np.diag(end) @ right.T
    inner = start**0.5 * np.eye(3)
    one, two = inner @ right.T, left @ inner  # two layers, aligned and balanced
    ell = np.array([1.5, 0.7, 0.2])
    cov = right @ np.diag(ell) @ right.T
    flat = np.zeros((3, 3))
    for step in range(1, steps + 1):
        error = target - two @ one
        one, two = one + rate * two.T @ error, two + rate * error @ one.T
        flat = flat + rate * (target - flat) @ cov
        if step % 500 == 0:
            time = rate * step
            deep = np.diag(left.T @ two @ one @ right)
            np.testing.assert_allclose(deep, learning.learned_deep(end, start, time), rtol=0.01)
            shallow = np.diag(left.T @ flat @ right)
            np.testing.assert_allclose(shallow, learning.learned_shallow(end, ell, time), rtol=0.01)
    assert deep[2] / end[2] < 0.3 < deep[0] / end[0]  # the weak mode is late


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    derive()
    by_descent()


if __name__ == "__main__":
    check()
    print("d11: learning times hold")
