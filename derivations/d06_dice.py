"""Dice from pixel rates, the threshold at which it is best, and the mean of the Dice of images that have few pixels.

Statement    D = 2q TPR/(q TPR + (1 − q) FPR + q) of all pixels together; at its best threshold the posterior of a pixel is
             D/2.  The mean over images of N pixels of each image's Dice is
             2Nq TPR/(1 − (1−q)^N) ∫₀¹ x (1 − q TPR (1−x²) − (q(1−TPR) + (1−q)FPR)(1−x))^(N−1) dx, which for large N is
             D − D(1−D)/(N c) with c = q TPR + (1 − q) FPR + q: an image's Dice is below that of all pixels together.
Assumptions  q is the structure's share of pixels.  For D: expected counts.  For the mean: N independent pixels of one q, of
             which real images have fewer than they have pixels; images without any of the structure are left out, as
             ``dice.outcome`` leaves them out.
Limit        TPR = 1 and FPR = 0 give 1; FPR costs more the smaller the structure is.  N → ∞ gives D.
Source       Lipton, Elkan, Naryanaswamy 2014 (optimal F1 threshold is half of the optimum).
"""

from math import factorial

import numpy as np
import sympy as sp
from scipy.stats import norm

from rafmodel import dice, sampling
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


def mean_of_images() -> None:
    """1/(2 TP + M) = ∫ x^(2 TP + M − 1) dx, M pixels in one of the two masks only; so the mean is a slope of E[s^TP x^(2TP+M)].

    TP, M and the rest are multinomial: E[s^TP x^(2 TP + M)] = (1 − a − b + a s x² + b x)^N.
    """
    mark, a, b = sp.symbols("s a b", positive=True)
    either = s.q * (1 - s.TPR) + (1 - s.q) * s.FPR
    generating = (1 - a - b + a * mark * s.x**2 + b * s.x) ** s.pixels
    inside = 2 / s.x * sp.diff(generating, mark).subs(mark, 1)
    [integral] = s.MEAN_DICE.rhs.atoms(sp.Integral)
    stated = s.MEAN_DICE.rhs / integral * integral.function * (1 - (1 - s.q) ** s.pixels)  # the mean, if none is 0
    apart = sp.powsimp((inside.subs({a: s.q * s.TPR, b: either}) / stated).subs(s.pixels, 3))
    assert sp.simplify(apart - 1) == 0
    apart = sp.log(inside.subs({a: s.q * s.TPR, b: either})) - sp.log(stated)
    assert sp.simplify(sp.expand_log(sp.diff(apart, s.x), force=True)) == 0  # for every N, up to a factor, which is 1
    # three pixels, every count of TP and M
    brute = sum(
        sp.Rational(2 * tp, 2 * tp + other)
        * sp.Rational(6, factorial(tp) * factorial(other) * factorial(3 - tp - other))
        * a**tp
        * b**other
        * (1 - a - b) ** (3 - tp - other)
        for tp in range(1, 4)
        for other in range(4 - tp)
    )
    assert sp.expand(sp.integrate(sp.expand(inside.subs(s.pixels, 3)), (s.x, 0, 1)) - brute) == 0


def many_pixels() -> None:
    """With x = 1 − z/N the integrand is e^(−cz)(1 + …/N), term by term; c = 2a + b."""
    small, z, a, c = sp.symbols("e z a c", positive=True)  # e = 1/N; 1 − a(1−x²) − b(1−x) = 1 − c y + a y² at x = 1 − y
    y = z * small
    log = (1 / small - 1) * sp.series(sp.log(1 - c * y + a * y**2), small, 0, 4).removeO()
    first, second = (sp.expand(log).coeff(small, i) for i in (0, 1))
    assert first == -c * z
    terms = [sp.integrate(sp.exp(-c * z) * term, (z, 0, sp.oo)) for term in (1, second - z)]  # x = 1 − ez multiplies
    found = 2 * a * (terms[0] + small * terms[1])
    counted = s.q * s.TPR + (1 - s.q) * s.FPR + s.q
    found = found.subs({a: s.q * s.TPR, c: counted, small: 1 / s.pixels})
    assert sp.simplify(found - s.MEAN_DICE_MANY.rhs) == 0
    assert sp.simplify(sp.limit(s.MEAN_DICE_MANY.rhs, s.pixels, sp.oo) - s.DICE.rhs) == 0


def by_images() -> None:
    """Images of 50 pixels, drawn and scored one by one as a study scores them, where the mean is not the ratio of means."""
    rng = np.random.default_rng(0)
    q, tpr, fpr, n = 0.1, 0.85, 0.05, 50
    mask = rng.random((60_000, n)) < q
    called = rng.random(mask.shape) < np.where(mask, tpr, fpr)
    each = dice.dice(dice.counts(np.where(called, 1.0, -1.0), mask.astype(int)), dice.BINS // 2)
    assert np.isnan(each).mean() == (~mask.any(1)).mean() > 0
    found, error = np.nanmean(each), np.nanstd(each) / len(each) ** 0.5
    ratio = float(s.DICE.rhs.subs({s.q: q, s.TPR: tpr, s.FPR: fpr}))
    second = float(s.MEAN_DICE_MANY.rhs.subs({s.q: q, s.TPR: tpr, s.FPR: fpr, s.pixels: n}))
    assert abs(found - float(sampling.mean_dice(q, tpr, fpr, n))) < 4 * error
    assert abs(found - ratio) > 20 * error and abs(found - second) < 0.002


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    derive()
    by_search()
    mean_of_images()
    many_pixels()
    by_images()


if __name__ == "__main__":
    check()
    print("d06: Dice, its best threshold and its mean over images hold")
