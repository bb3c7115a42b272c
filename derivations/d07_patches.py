"""Patches: how many of those drawn carry the class, and what pooling their scores makes of it.

Statement    Hits are hypergeometric.  Given h hits among n patches with independent Gaussian scores of unit s.d. and gap Δ,
             AUC is Φ(hΔ/√(2n)) for the mean, 1 − ∫ F_case dF_control for the largest; an image called a case when any patch
             is has TPR 1 − E[(1−r)^h (1−f)^(n−h)].  A square lesion of side L touches (L/a + 1)² patches of side a on average.
Assumptions  Drawing without replacement; independent scores; a control has no carrier; grid at a uniform random offset.
Limit        All patches drawn: h = K.  Very visible carriers: AUC of the largest → 1 − P(h = 0)/2.
"""

import math
from itertools import combinations

import numpy as np
import sympy as sp
from scipy.stats import hypergeom

from rafmodel import sampling
from rafmodel import symbols as s


def hits() -> None:
    """Counting subsets; all drawn; and none hit, as C(N−K, n)/C(N, n)."""
    total, carriers, drawn = 7, 3, 4
    counts = np.zeros(drawn + 1)
    for subset in combinations(range(total), drawn):
        counts[sum(i < carriers for i in subset)] += 1
    at = {s.N: total, s.K: carriers, s.n: drawn}
    for h in range(drawn + 1):
        assert sp.Rational(int(counts[h]), math.comb(total, drawn)) == s.HITS.rhs.subs({**at, s.h: h})
    assert s.HITS.rhs.subs({s.N: 5, s.K: 2, s.n: 5, s.h: 2}) == 1
    none = s.HITS.rhs.subs(s.h, 0)
    assert sp.simplify(none - sp.binomial(s.N - s.K, s.n) / sp.binomial(s.N, s.n)) == 0


def pooled() -> None:
    """Mean of n unit scores has variance 1/n in both classes; the largest has a product of distributions."""
    gap = s.Delta * s.h / s.n
    variance = 1 / s.n
    assert sp.simplify(s.AUC.rhs.subs({s.m_1: gap, s.m_0: 0, s.v_1: variance, s.v_0: variance}).args[0]) == sp.simplify(
        s.AUC_MEAN.rhs.function.args[1].args[0]
    )
    # any of n: independent patches stay silent together
    r, f = s.r, s.f
    assert sp.simplify(s.NOISY_OR_FPR.rhs - (1 - (1 - f) ** s.n)) == 0
    one = s.NOISY_OR_TPR.rhs.subs(s.n, 1).doit()
    assert sp.simplify(one - (1 - s.P_h[0] * (1 - f) - s.P_h[1] * (1 - r))) == 0


def touched() -> None:
    """On one axis an interval of length L at a uniform offset meets 1 + L/a cells on average; axes are independent."""
    x, whole, part = sp.symbols("x m rho", nonnegative=True)  # lesion = (whole + part) patches, offset x of a patch
    # it reaches into whole + 1 cells, and one more where x > 1 − part
    mean = sp.integrate(whole + 1, (x, 0, 1 - part)) + sp.integrate(whole + 2, (x, 1 - part, 1))
    assert sp.simplify(mean - (1 + whole + part)) == 0
    assert sp.simplify(s.TOUCHED.rhs.subs(s.lesion, (whole + part) * s.patch) - mean**2) == 0


def by_drawing() -> None:
    """Images made of tiles, drawn and pooled, against the closed forms, at a gap of 2 and a lesion in few tiles."""
    rng = np.random.default_rng(0)
    total, carriers, drawn, gap, n = 25, 4, 8, 2.0, 60_000
    chance = np.asarray(sampling.hits(total, carriers, drawn))
    np.testing.assert_allclose(chance, hypergeom(total, carriers, drawn).pmf(np.arange(drawn + 1)), atol=1e-6)
    carrier = rng.permuted(np.tile(np.arange(total) < carriers, (n, 1)), axis=1)[:, :drawn]
    case = rng.normal(size=(n, drawn)) + gap * carrier
    control = rng.normal(size=(n, drawn))
    for pool, predicted in ((np.mean, sampling.auc_mean(chance, gap)), (np.max, sampling.auc_max(chance, gap))):
        won = pool(case, axis=1) > pool(control, axis=1)
        assert abs(won.mean() - float(predicted)) < 4 * won.std() / n**0.5
    threshold = 1.5
    rates = [(x > threshold).mean() for x in (rng.normal(size=10**6) + gap, rng.normal(size=10**6))]
    for x, predicted in zip((case, control), sampling.noisy_or(chance, *rates), strict=True):
        called = (x > threshold).any(1)
        assert abs(called.mean() - float(predicted)) < 4 * called.std() / n**0.5 + 0.003
    # the limit of very visible carriers
    assert abs(float(sampling.auc_max(chance, 7.0)) - (1 - chance[0] / 2)) < 2e-3
    offset = rng.uniform(size=(n, 2))
    met = np.prod(np.floor(offset + 2.3) - np.floor(offset) + 1, axis=1)
    assert abs(met.mean() - float(sampling.touched(2.3, 1.0))) < 4 * met.std() / n**0.5


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    hits()
    pooled()
    touched()
    by_drawing()


if __name__ == "__main__":
    check()
    print("d07: hits, pooled scores and lesion size hold")
