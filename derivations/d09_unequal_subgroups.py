"""Unequal classes and subgroups: thresholds, effective sizes, and the gaps between subgroups in rates and in AUC.

Statement    The threshold of least error moves by −(v/Δ) log(π/(1−π)).  Weights w estimate a mean like (Σw)²/Σw² images.
             Rates: a difference of means trained on two subgroups at distance s, with shares c₁ of the cases and c₀ of the
             controls from the second, has TPR Φ((l + Δ²/2)/√D), l = s²(c₁−c₀)(g − (c₁+c₀)/2) + d(1/n₀−1/n₁)/2,
             D = Δ² + s²(c₁−c₀)² + d(1/n₁+1/n₀).  Its AUC, Φ(Δ²/√(2D)), is the same in both: s moves scores of cases and
             controls alike.
             AUC: let subgroups differ in gap δ_g and feature variance v_g, with shares a_g of the cases and b_g of the
             controls and midpoints s_g.  The weights are w = Σ_g (a_g+b_g)/2 δ_g + (a_g−b_g) s_g on average, with squared
             error T = d Σ_g v_g (a_g/n₁+b_g/n₀), and AUC_g = Φ(wᵀδ_g/√(2 v_g (|w|²+T))).  A ridge probe has the law of d05
             for pooled moments, whose covariance holds the scatter between subgroups, and AUC_g by the equation deploy.
Assumptions  Gaussian classes; many features.  Rates: one covariance (identity), s orthogonal to the class direction.  AUC
             of a difference of means: covariance v_g times identity, counts of subgroups fixed.  Of a ridge probe: d05 for the
             pooled classes, that is one residual variance for all subgroups (v_g 1 and 1.5: AUC off by .005).
Limit        c₁ = c₀ leaves no gap in rates, whatever the sizes; s = 0 is d04.  Equal δ_g and v_g leave no gap in AUC, whatever
             counts, prevalence and s.  A subgroup without training images has Φ(δ₀ᵀδ₁/√(2 v₁(Δ₀²+T))): as much as it shares
             with the others' direction.
"""

import jax.numpy as jnp
import numpy as np
import sympy as sp
from scipy.stats import norm

from rafmodel import sampling, theory
from rafmodel import symbols as s


def threshold() -> None:
    """Where the two weighted densities cross; and the gap that two such thresholds make."""
    t = sp.Symbol("t", real=True)
    log_odds = sp.log(s.pi / (1 - s.pi)) + ((t + s.Delta / 2) ** 2 - (t - s.Delta / 2) ** 2) / (2 * s.v)
    assert sp.simplify(log_odds.subs(t, s.BAYES_THRESHOLD.rhs)) == 0
    at = s.BAYES_THRESHOLD.rhs.subs(s.v, 1)
    sensitivity = (s.Delta / 2 - at).subs(s.pi, s.pi_1)
    assert (
        sp.simplify(sensitivity - s.PREVALENCE_GAP.rhs.args[0].args[0]) == 0
        or sp.simplify(sensitivity - s.PREVALENCE_GAP.rhs.args[1].args[0]) == 0
    )
    assert s.PREVALENCE_GAP.rhs.subs(s.pi_0, s.pi_1) == 0


def effective_size() -> None:
    """Variance of a weighted mean of n unit draws, and of a resampled one: resampling adds, never saves."""
    w = sp.symbols("w1:4", positive=True)
    weighted = sum(x**2 for x in w) / sum(w) ** 2
    stated = s.EFFECTIVE_SIZE.rhs.subs(s.n, 3).doit().subs({s.weights[i]: w[i] for i in range(3)})
    assert sp.simplify(1 / weighted - stated) == 0
    # resampling m times: Var = E[Var | draws] = Σ E[k_i²]/m², with k_i binomial(m, p_i)
    m = sp.Symbol("m", positive=True)
    p = [x / sum(w) for x in w]
    resampled = sum(m * x * (1 - x) + m**2 * x**2 for x in p) / m**2
    assert sp.simplify(resampled - weighted - (1 - weighted) / m) == 0


def subgroups() -> None:
    """Means of the pooled classes, the score's mean in each subgroup, and what estimation adds."""
    delta, distance = sp.Matrix([s.Delta, 0]), sp.Matrix([0, s.s_g])
    case, control = delta / 2 + s.c_1 * distance, -delta / 2 + s.c_0 * distance
    w, centre = case - control, (case + control) / 2
    score = (w.T * (delta / 2 + s.place * distance - centre))[0]
    # E[ŵᵀĉ] − E[ŵ]ᵀE[ĉ] = ½ (Var x̄₁ − Var x̄₀) summed over d features
    bias = s.d * (1 / s.n_1 - 1 / s.n_0) / 2
    norm2 = (w.T * w)[0] + s.d * (1 / s.n_1 + 1 / s.n_0)
    argument = s.SUBGROUP_TPR.rhs.args[0]
    assert sp.simplify((score - bias) / sp.sqrt(norm2) - argument) == 0
    assert not argument.subs(s.c_1, s.c_0).has(s.place)
    assert sp.simplify(argument.subs(s.s_g, 0) - s.IMBALANCE_TPR.rhs.args[0]) == 0


def by_training() -> None:
    """Difference of means trained on a second subgroup that is rare and mostly ill, 200 features."""
    rng = np.random.default_rng(0)
    d, gap, distance = 200, 2.0, 4.0
    n_case, n_control = np.array([40, 30]), np.array([120, 10])
    delta, shift = np.zeros(d), np.zeros(d)
    delta[0], shift[1] = gap, distance
    scores = []
    for _ in range(600):
        drawn = [
            [y * delta / 2 + g * shift + rng.normal(size=(n[g], d)) for g in (0, 1)]
            for y, n in ((-1, n_control), (1, n_case))
        ]
        control, case = (np.concatenate(x).mean(0) for x in drawn)
        w, centre = case - control, (case + control) / 2
        test = rng.normal(size=(2, 2, 200, d)) + np.array([0, 1])[:, None, None, None] * shift
        test = test + np.array([-1, 1])[None, :, None, None] * delta / 2
        scores.append(((test - centre) @ w > 0).mean(-1))
    found, se = np.mean(scores, 0), np.std(scores, 0) / 600**0.5
    tpr, fpr = (np.asarray(x) for x in sampling.subgroup_rates(gap**2, d, n_case, n_control, distance**2))
    assert (np.abs(found[:, 1] - tpr) < 4 * se[:, 1] + 0.01).all(), (found, tpr)
    assert (np.abs(found[:, 0] - fpr) < 4 * se[:, 0] + 0.01).all(), (found, fpr)
    assert tpr[1] - tpr[0] > 0.3  # at strong effects


def pooled_moments() -> None:
    """Mean and covariance of a mixture of three from E x and E xxᵀ, component by component."""
    size = 3
    share = [s.share_g[i] for i in range(size - 1)]
    share.append(1 - sum(share))
    given = {s.share_g[size - 1]: share[-1]}
    mean = [sum(q * s.mu_g[i, place] for i, q in enumerate(share)) for place in (0, 1)]
    for place in (0, 1):
        assert sp.expand(s.POOLED_MEAN.rhs.subs({s.G: size, s.i: place}).doit().subs(given) - mean[place]) == 0
    second = sum(q * (s.Sigma_g[i, 0, 1] + s.mu_g[i, 0] * s.mu_g[i, 1]) for i, q in enumerate(share))
    stated = s.POOLED_COVARIANCE.rhs.subs({s.G: size, s.i: 0, s.j: 1}).doit().subs(given)
    stated = stated.subs({s.pooled_mean[place]: mean[place] for place in (0, 1)})
    assert sp.expand(stated - (second - mean[0] * mean[1])) == 0


def areas() -> None:
    """Mean weights from class means s_g ± δ_g/2, their error from the counts, and the AUC of the score; then the limits."""
    size, directions = 2, 2
    case, control, gap, place = (
        [[base[g, i] for i in range(directions)] if base in (s.gap_g, s.place_g) else base[g] for g in range(size)]
        for base in (s.case_g, s.control_g, s.gap_g, s.place_g)
    )
    learned = [
        sum(case[g] * (place[g][i] + gap[g][i] / 2) - control[g] * (place[g][i] - gap[g][i] / 2) for g in range(size))
        for i in range(directions)
    ]
    for i in range(directions):
        assert sp.expand(s.SUBGROUP_WEIGHTS.rhs.subs({s.G: size, s.i: i}).doit() - learned[i]) == 0
    # x̄₁ = Σ_g a_g x̄₁g, each of the d features of x̄₁g with variance v_g/(a_g n₁); E|ŵ|² = |w|² + T
    error = s.d * sum(
        shares[g] ** 2 * s.v_c[g] / (shares[g] * count)
        for shares, count in ((case, s.n_1), (control, s.n_0))
        for g in range(size)
    )
    length = sum(x**2 for x in learned) + error
    weights = {s.weights[i]: learned[i] for i in range(directions)}
    stated = [
        s.SUBGROUP_AUC.rhs.subs(s.j, g).subs({s.G: size, s.k: directions}).doit().subs(weights).args[0]
        for g in range(size)
    ]
    for g in range(size):
        apart = sum(x * y for x, y in zip(learned, gap[g], strict=True))
        scores = {s.m_1: apart, s.m_0: 0, s.v_1: s.v_c[g] * length, s.v_0: s.v_c[g] * length}
        found = s.AUC.rhs.subs(scores).args[0]
        assert sp.expand(apart**2 / found**2 - apart**2 / stated[g] ** 2) == 0  # both have the numerator wᵀδ_g
        assert (found / stated[g]).subs(dict.fromkeys(found.free_symbols, 2)) == 1
    alike = {s.v_c[1]: s.v_c[0]} | {s.gap_g[1, i]: s.gap_g[0, i] for i in range(directions)}
    assert sp.simplify((stated[1] - stated[0]).subs(alike)) == 0
    absent = stated[1].subs({case[0]: 1, control[0]: 1, case[1]: 0, control[1]: 0})
    shared = sum(x * y for x, y in zip(gap[0], gap[1], strict=True))
    length = sum(x**2 for x in gap[0]) + s.d * s.v_c[0] * (1 / s.n_1 + 1 / s.n_0)
    assert sp.simplify(absent**2 - shared**2 / (2 * s.v_c[1] * length)) == 0


def _unlike() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Gaps, midpoints (2, d) and counts of cases and controls: the second subgroup is rare, mostly ill and looks different."""
    gap, place = np.zeros((2, 120)), np.zeros((2, 120))
    gap[0, 0], gap[1, :2], place[1, 2] = 2.5, (1.0, 2.0), 2.0
    return gap, place, np.array([80, 40]), np.array([110, 10])


def _probes(variance: np.ndarray, draws: int, ridge: float | None) -> np.ndarray:
    """AUC (draws, 2) of difference-of-means classifiers, or of ridge probes, exact given their weights."""
    rng = np.random.default_rng(1)
    gap, place, n_case, n_control = _unlike()
    size = gap.shape[1]
    group = np.concatenate([np.repeat([0, 1], n) for n in (n_case, n_control)])
    y = np.repeat([1.0, -1.0], [n_case.sum(), n_control.sum()])
    centre = (np.average(place + gap / 2, 0, n_case) + np.average(place - gap / 2, 0, n_control)) / 2
    found = np.empty((draws, 2))
    for row in range(draws):
        x = place[group] + y[:, None] * gap[group] / 2 + rng.normal(size=(len(y), size)) * variance[group, None] ** 0.5
        w = x[y > 0].mean(0) - x[y < 0].mean(0)
        if ridge is not None:
            x = x - centre
            w = np.linalg.solve(x.T @ x / len(y) + ridge * np.eye(size), x.T @ y / len(y))
        found[row] = norm.cdf(gap @ w / np.sqrt(2 * variance * (w @ w)))
    return found


def area_by_training() -> None:
    """The gap in AUC of trained classifiers: by difference of means, and by ridge through pooled moments."""
    gap, place, n_case, n_control = _unlike()
    size = gap.shape[1]
    for variance in (np.array([1.0, 1.0]), np.array([1.0, 1.5])):
        stated = np.asarray(sampling.subgroup_auc(*map(jnp.asarray, (gap, place, variance)), size, n_case, n_control))
        found = _probes(variance, 400, None)
        assert (np.abs(found.mean(0) - stated) < 4 * found.std(0) / 400**0.5 + 0.004).all(), (found.mean(0), stated)
        assert stated[0] - stated[1] > 0.1
        mean = place[:, None, :] + np.array([-1, 1])[None, :, None] * gap[:, None, :] / 2
        cov = variance[:, None, None, None] * np.eye(size)[None, None] * np.ones((2, 2, 1, 1))
        groups = theory.Moments(*map(jnp.asarray, (mean, cov, np.stack([n_control, n_case], 1).astype(float))))
        law = theory.probe(sampling.pooled(groups), 240, flip=0.0, ridge=0.3)
        stated, found = np.asarray(theory.deploy(law, groups)[0]), _probes(variance, 400, 0.3)
        assert (np.abs(found.mean(0) - stated) < 4 * found.std(0) / 400**0.5 + 0.006).all(), (found.mean(0), stated)


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    threshold()
    effective_size()
    subgroups()
    by_training()
    pooled_moments()
    areas()
    area_by_training()


if __name__ == "__main__":
    check()
    print("d09: thresholds, effective sizes and subgroup gaps hold")
