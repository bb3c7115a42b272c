"""Learning time: when a mode is learned, by one linear layer and by two.

Statement    Gradient flow on ½E(v − su)² from 0 gives s(t) = s∞ (1 − e^{−ℓt}).  For a product of two equal layers on white
             input, ds/dt = 2s(s∞ − s): s(t) = s∞/(1 + (s∞/s₀ − 1)e^{−2 s∞ t}).
             A proxy task reaches this through ρ: on whitened features, InfoNCE to second order (d10) moves a mode's strength by
             ds/dt = 4s(ρ − s) at temperature 1, and two layers that regress on a whitened target by ds/dt = 2s(ρ − s), so that
             half of it is learned after log(ρ/s₀ − 1)/(2ρ), and after half as long for InfoNCE.
Assumptions  Modes decouple (input covariance and cross-covariance share their axes); balanced layers; small steps.
Limit        t → ∞ gives s∞; two layers wait log(s∞/s₀ − 1)/(2s∞) for half of it, so weak modes come late or never.
Not derived  ``predict`` does not read these times: the share of a representation that has been learned is t/(t + 0.04), where t
             is steps times learning rate times the task's pace.  The 0.04 and the paces (5 for predictive coding and relative
             location, 0.03 for a jigsaw, 1 for all others) were fitted by hand on four development cohorts (`NOTES.md`): one
             number a task, whatever ρ.
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
    assert sp.simplify(s.HALF_TIME.rhs - half) == 0


def from_proxy_tasks() -> None:
    """What drives one mode of length y (strength y²) downhill, and its time, for the two kinds of task."""
    y, rho = sp.symbols("y rho", positive=True)
    contrasted = 2 * s.INFO_NCE.rhs.subs(s.d, 1).doit().subs({s.temperature: 1, s.modes[0]: rho, s.s[0]: y**2})
    # both views pass the encoder: with the loss doubled it is the spectral loss, y⁴ − 2ρy²
    assert sp.expand(contrasted - (y**4 - 2 * rho * y**2)) == 0
    speed = 2 * y * -sp.diff(contrasted / 2, y)
    assert sp.expand(speed - 4 * y**2 * (rho - y**2)) == 0
    # E(v − y₂y₁u)²/2 with E u² = E v² = 1, E uv = ρ; balanced layers y₁ = y₂ = y
    one, two = sp.symbols("y_1 y_2", positive=True)
    regressed = (1 - 2 * rho * one * two + (one * two) ** 2) / 2
    speed = -(two * sp.diff(regressed, one) + one * sp.diff(regressed, two))
    assert sp.expand(speed.subs({one: y, two: y}) - 2 * y**2 * (rho - y**2)) == 0


def contrasted_by_descent() -> None:
    """Descent on the second order of InfoNCE over random small encoders of four modes; half times by mode."""
    rng = np.random.default_rng(1)
    rho, start, rate = np.array([0.9, 0.6, 0.4, 0.2]), 1e-4, 2e-3
    y = start**0.5 * np.linalg.qr(rng.normal(size=(4, 4)))[0]
    half = np.full(4, np.nan)
    for step in range(1, 20_000):
        y = y + rate * 2 * (rho[:, None] * y - y @ y.T @ y)
        strength = np.diag(y @ y.T)
        half = np.where(np.isnan(half) & (strength > rho / 2), step * rate, half)
    np.testing.assert_allclose(half, learning.half_time(rho, start) / 2, rtol=0.02)


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
    from_proxy_tasks()
    by_descent()
    contrasted_by_descent()


if __name__ == "__main__":
    check()
    print("d11: learning times hold")
