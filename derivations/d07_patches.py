"""Patches: how many of those drawn carry the class, what pooling their scores makes of it, and which size is best.

Statement    Hits are hypergeometric.  Given h hits among n patches with independent Gaussian scores of unit s.d. and gap Δ,
             AUC is Φ(hΔ/√(2n)) for the mean, 1 − ∫ F_case dF_control for the largest; an image called a case when any patch
             is over a threshold has TPR 1 − E[(1−r)^h (1−f)^(n−h)].  The score 1 − Π(1−p) with log-odds of p linear in a
             patch's score orders images as Σ −log(1−p) does, of which a patch adds log(1 + e^(b₀+b₁x)), and
             AUC = ½ + (1/π) ∫ Im E[φ₁^h φ₀^(n−h)] φ̄₀ⁿ dt/t, φ the characteristic function of what one patch adds.
             A square lesion of side L touches (L/a + 1)² tiles of side a on average; the mean over a tile that holds all of
             it has the gap Δ(L/a)², its share of the area.  In s.d. of a tile's mean, a tile that it covers by o₁ × o₂ has
             the gap Δo₁o₂/a, and the AUC of the largest of n of N tiles is that of unequal carriers, sets of h of them
             weighted equally, over the lesion's offset.
Assumptions  Drawing without replacement; independent scores; a control has no carrier; grid at a uniform random offset;
             pixel noise white with s.d. 1, the lesion square and in line with the grid.
Limit        All patches drawn: h = K.  Very visible carriers: AUC of the largest → 1 − P(h = 0)/2.  n = 1: the score's AUC is
             Φ(Δ/√2) whatever the pooling.  The mean of all tiles has Φ(ΔL²/(√2 S)) for an image of side S, whatever a.  The
             gap of the tile that shows most of the lesion grows with a up to a = L and falls beyond.
Source       Gil-Pelaez 1951 (chance of a sign from a characteristic function).
"""

import math
from itertools import combinations

import numpy as np
import sympy as sp
from scipy.stats import hypergeom, norm

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
    # any of n, and the largest of n, patch by patch: one more patch without the class multiplies by 1 − f, a carrier by 1 − r
    silent = s.ANY_TPR.rhs.args[1].args[1].function / s.P_h[s.h]
    assert silent.subs({s.n: 0, s.h: 0}) == 1
    assert sp.simplify(silent.subs(s.n, s.n + 1) / silent - (1 - s.f)) == 0
    more = silent.subs({s.n: s.n + 1, s.h: s.h + 1}, simultaneous=True)
    assert sp.powsimp(sp.expand(more / silent)) == 1 - s.r
    assert sp.simplify(1 - silent.subs(s.h, 0) - s.ANY_FPR.rhs) == 0
    # where all are below y: the same with f and r the chances to lie above, and the control's density is the slope of Φⁿ
    [integral] = s.AUC_MAX.rhs.atoms(sp.Integral)
    below = silent.subs({s.f: 1 - s.Phi(s.y), s.r: 1 - s.Phi(s.y - s.Delta)})
    assert sp.simplify(integral.function - below * sp.diff(s.Phi(s.y) ** s.n, s.y)) == 0


def noisy_or() -> None:
    """The sum in place of the product; its characteristic function; and the chance of a sign by Dirichlet's integral."""
    odds = sp.Symbol("l", real=True)
    chance = 1 / (1 + sp.exp(-odds))
    assert sp.simplify(sp.exp(-sp.log(1 - chance)) - (1 + sp.exp(odds))) == 0  # −log(1 − p) = log(1 + e^l)
    one, two = sp.symbols("p_1 p_2", positive=True)
    score = 1 - (1 - one) * (1 - two)
    assert sp.simplify(score - (1 - sp.exp(sp.log(1 - one) + sp.log(1 - two)))) == 0  # grows with the sum
    turn = sp.exp(sp.I * s.wave_time * sp.log(1 + sp.exp(s.b_0 + s.b_1 * (s.y + s.shift))))
    density = sp.exp(-(s.y**2) / 2) / sp.sqrt(2 * sp.pi)
    assert sp.simplify(s.NOISY_OR_WAVE.rhs.function - turn * density) == 0
    # sign(D) = (2/π) ∫ sin(tD)/t dt, so that P(D > 0) − P(D < 0) = (2/π) ∫ Im E e^(itD)/t dt; D Gaussian shows the whole
    apart = sp.Symbol("D", positive=True)
    assert sp.integrate(sp.sin(s.wave_time * apart) / s.wave_time, (s.wave_time, 0, sp.oo)) == sp.pi / 2
    inside = sp.sin(s.wave_time * apart) * sp.exp(-s.v * s.wave_time**2 / 2) / s.wave_time
    gaussian = sp.Rational(1, 2) + sp.integrate(inside, (s.wave_time, 0, sp.oo)) / sp.pi
    assert sp.simplify(gaussian - s.Phi(apart / sp.sqrt(s.v)).rewrite(sp.erf)) == 0
    # D of case less control with h hits: φ of each patch, conjugate where it is subtracted
    [integral] = s.NOISY_OR_AUC.rhs.atoms(sp.Integral)
    both = integral.function * s.wave_time
    hit, clean = s.wave[1], s.wave[0]
    for n in (1, 2):
        product = sum(s.P_h[h] * hit**h * clean ** (n - h) for h in range(n + 1)) * sp.conjugate(clean) ** n
        assert sp.simplify(both.args[0].subs(s.n, n).doit() - product) == 0


def touched() -> None:
    """On one axis an interval of length L at a uniform offset meets 1 + L/a cells on average; axes are independent."""
    x, whole, part = sp.symbols("x m rho", nonnegative=True)  # lesion = (whole + part) patches, offset x of a patch
    # it reaches into whole + 1 cells, and one more where x > 1 − part
    mean = sp.integrate(whole + 1, (x, 0, 1 - part)) + sp.integrate(whole + 2, (x, 1 - part, 1))
    assert sp.simplify(mean - (1 + whole + part)) == 0
    assert sp.simplify(s.TOUCHED.rhs.subs(s.lesion, (whole + part) * s.patch) - mean**2) == 0


def covered() -> None:
    """The gap of a mean is the share of the area; overlaps along an axis sum to L; the best tile for one lesion; sets of h."""
    x, y = sp.symbols("x y", real=True)
    held = sp.integrate(s.Delta, (x, 0, s.lesion), (y, 0, s.lesion)) / s.patch**2
    assert sp.simplify(held - s.DILUTED.rhs) == 0
    # s.d. of the mean of a² pixels is 1/a
    share = s.Delta * s.o_1 * s.o_2 / s.patch**2
    assert sp.simplify(share / (1 / s.patch) - s.TILE_GAP.rhs) == 0
    most = [s.TILE_GAP.rhs.subs({s.o_1: o, s.o_2: o}) for o in (s.patch, s.lesion)]  # tiles inside; tiles that hold it
    assert sp.diff(most[0], s.patch).is_positive and sp.diff(most[1], s.patch).is_negative
    for lesion, patch, place in ((7, 3, 2), (2, 5, 4), (6, 6, 1)):
        tiles = range(math.ceil(sp.Rational(lesion, patch)) + 1)
        overlap = [s.OVERLAP.rhs.subs({s.lesion: lesion, s.patch: patch, s.begin: place, s.k: k}) for k in tiles]
        assert sum(overlap) == lesion
    # all N = (S/a)² tiles: their mean has gap Σ Δ o₁o₂/a / N = Δ L²/a/N and variance 1/N
    side = sp.Symbol("S", positive=True)
    count = (side / s.patch) ** 2
    gap = s.Delta * s.lesion**2 / s.patch / count
    all_tiles = s.AUC.rhs.subs({s.m_1: gap, s.m_0: 0, s.v_1: 1 / count, s.v_0: 1 / count}, simultaneous=True)
    assert sp.simplify(all_tiles.args[0] - s.Delta * s.lesion**2 / (sp.sqrt(2) * side)) == 0
    # h of K unequal tiles, each set as likely: the mean product; where all are alike this is the largest of equal carriers
    [integral] = s.AUC_TILES.rhs.atoms(sp.Integral)
    [plain], [inside] = s.AUC_MAX.rhs.atoms(sp.Integral), integral.function.atoms(sp.Sum)
    alike = inside.function.subs(s.set_h[s.h], sp.binomial(s.K, s.h) * s.Phi(s.y - s.Delta) ** s.h)
    assert sp.simplify(integral.function / inside * alike - s.HITS.rhs * plain.function) == 0


def by_images() -> None:
    """Images of white pixels with a lesion, cut into tiles: AUC of the largest of all and of a quarter, by the side of a tile."""
    rng = np.random.default_rng(1)
    n, side, lesion, gap = 8_000, 24, 6, 0.5
    case, control = (rng.normal(size=(n, side, side)).astype(np.float32) for _ in range(2))
    row, column = ((np.arange(side)[None] - rng.integers(0, side, (n, 1))) % side < lesion for _ in range(2))
    case = case + gap * row[:, :, None] * column[:, None, :]
    stated = {}
    for patch in (2, 4, 6, 12):
        cells, total = side // patch, (side // patch) ** 2
        case_mean, control_mean = (
            x.reshape(n, cells, patch, cells, patch).mean((2, 4)).reshape(n, total) for x in (case, control)
        )
        for drawn in {total, max(total // 4, 1)}:
            chosen = rng.permuted(np.tile(np.arange(total), (n, 1)), axis=1)[:, :drawn]
            won = np.take_along_axis(case_mean, chosen, 1).max(1) > control_mean[:, :drawn].max(1)
            law = float(sampling.auc_tiles(gap, lesion, patch, total, drawn))
            assert abs(won.mean() - law) < 4 * 0.5 / n**0.5, (patch, drawn, won.mean(), law)
            if drawn == total:
                stated[patch] = law
    assert max(stated, key=stated.__getitem__) == lesion and stated[lesion] - stated[2] > 0.1
    faint = [float(sampling.auc_tiles(0.3, lesion, a, (side // a) ** 2, (side // a) ** 2)) for a in (6, 12)]
    assert faint[1] > faint[0]  # a faint lesion: fewer, larger tiles


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
    for x, predicted in zip((case, control), sampling.any_patch(chance, *rates), strict=True):
        called = (x > threshold).any(1)
        assert abs(called.mean() - float(predicted)) < 4 * called.std() / n**0.5 + 0.003
    forecast = (-3.0, 2.0)
    joined = [1 - np.prod(1 / (1 + np.exp(forecast[0] + forecast[1] * x)), axis=1) for x in (case, control)]
    won = joined[0] > joined[1]
    assert abs(won.mean() - float(sampling.auc_noisy_or(chance, gap, forecast))) < 4 * won.std() / n**0.5
    alone = float(sampling.auc_noisy_or(np.array([0.0, 1.0]), gap, (0.0, 1.0)))
    assert abs(alone - norm.cdf(gap / 2**0.5)) < 1e-5
    # the limit of very visible carriers
    assert abs(float(sampling.auc_max(chance, 7.0)) - (1 - chance[0] / 2)) < 2e-3
    offset = rng.uniform(size=(n, 2))
    met = np.prod(np.floor(offset + 2.3) - np.floor(offset) + 1, axis=1)
    assert abs(met.mean() - float(sampling.touched(2.3, 1.0))) < 4 * met.std() / n**0.5


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    hits()
    pooled()
    noisy_or()
    touched()
    covered()
    by_drawing()
    by_images()


if __name__ == "__main__":
    check()
    print("d07: hits, pooled scores, noisy-or and the size of a patch hold")
