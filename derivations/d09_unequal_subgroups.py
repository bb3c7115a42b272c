"""Unequal classes and subgroups: thresholds, effective sizes, and the gap that counts alone make.

Statement    The threshold of least error moves by −(v/Δ) log(π/(1−π)).  Weights w estimate a mean like (Σw)²/Σw² images.
             A difference of means trained on two subgroups at distance s, with shares c₁ of the cases and c₀ of the controls
             from the second, has TPR Φ((l + Δ²/2)/√D), l = s²(c₁−c₀)(g − (c₁+c₀)/2) + d(1/n₀−1/n₁)/2,
             D = Δ² + s²(c₁−c₀)² + d(1/n₁+1/n₀).
Assumptions  Gaussian classes with one covariance (identity); s orthogonal to the class direction; many features.
Limit        c₁ = c₀ leaves no gap between subgroups, whatever their sizes; s = 0 is d04.
"""

import numpy as np
import sympy as sp

from rafmodel import sampling
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


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    threshold()
    effective_size()
    subgroups()
    by_training()


if __name__ == "__main__":
    check()
    print("d09: thresholds, effective sizes and subgroup gaps hold")
