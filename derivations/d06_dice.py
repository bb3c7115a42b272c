"""Dice from pixel rates, and the threshold at which it is best.

Statement    Dice = 2q TPR/(q TPR + (1 − q) FPR + q); at its best threshold the posterior of a pixel is Dice/2.
Assumptions  Expected counts over many pixels; q is the structure's share of pixels.
Limit        TPR = 1 and FPR = 0 give 1; FPR costs more the smaller the structure is.
Source       Lipton, Elkan, Naryanaswamy 2014 (optimal F1 threshold is half of the optimum).
"""

import numpy as np
import sympy as sp
from scipy.stats import norm

from rafmodel import symbols as s


def derive() -> None:
    """From counts to rates; then the stationary point over thresholds."""
    tp, fp, fn = s.q * s.TPR, (1 - s.q) * s.FPR, s.q * (1 - s.TPR)
    assert sp.simplify(2 * tp / (2 * tp + fp + fn) - s.DICE.rhs) == 0
    assert s.DICE.rhs.subs({s.TPR: 1, s.FPR: 0}) == 1
    assert sp.simplify(sp.diff(s.DICE.rhs, s.FPR)).subs({s.q: 0.1, s.TPR: 0.5, s.FPR: 0.1}) < 0
    # moving the threshold changes TPR by −f₁ and FPR by −f₀
    t = sp.Symbol("t", real=True)
    tpr, fpr = sp.Function("T")(t), sp.Function("F")(t)
    slope = sp.diff(s.DICE.rhs.subs({s.TPR: tpr, s.FPR: fpr}), t)
    slope = slope.subs({sp.diff(tpr, t): -s.f_1, sp.diff(fpr, t): -s.f_0}).subs({tpr: s.TPR, fpr: s.FPR})
    odds = sp.solve(sp.numer(sp.together(slope)), s.f_0)[0]
    posterior = s.DICE_OPTIMUM.lhs.subs(s.f_0, odds)
    assert sp.simplify(posterior - s.DICE.rhs / 2) == 0


def by_search() -> None:
    """Gaussian pixel scores: the best threshold on a grid has a posterior of half the best Dice."""
    q, gap = 0.08, 2.0
    t = np.linspace(-3, 6, 200_001)
    tpr, fpr = norm.sf(t, gap), norm.sf(t)
    dice = 2 * q * tpr / (q * tpr + (1 - q) * fpr + q)
    best = dice.argmax()
    f1, f0 = norm.pdf(t[best], gap), norm.pdf(t[best])
    assert abs(q * f1 / (q * f1 + (1 - q) * f0) - dice[best] / 2) < 1e-3


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    derive()
    by_search()


if __name__ == "__main__":
    check()
    print("d06: Dice and its best threshold hold")
