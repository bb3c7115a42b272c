"""The rare class loses sensitivity although nothing about it is harder.

Statement    A difference-of-means classifier with identity covariance, trained on n₁ cases and n₀ controls in d features, with
             the midpoint of the sample means as threshold, has the TPR, FPR and AUC of the equations imbalance-*.
Assumptions  Gaussian classes at squared distance Δ²; d large, so that |ŵ|² is its expectation.
Limit        n → ∞ gives the Bayes rates Φ(±Δ/2); n₁ = n₀ makes the two errors equal.
"""

import numpy as np
import sympy as sp
from scipy.stats import norm

from rafmodel import symbols as s


def derive() -> None:
    """Mean and variance of the score ŵᵀ(x − ĉ) with ŵ = x̄₁ − x̄₀ and ĉ = (x̄₁ + x̄₀)/2, sample means δ/2 + e, −δ/2 + f."""
    gap, e, f = sp.symbols("g e f", real=True)

    def over_features(product: sp.Expr) -> sp.Expr:
        """Expectation of one feature's product, summed over d: E e² = 1/n₁, E f² = 1/n₀, odd powers vanish, Σ g² = Δ²."""
        form = sp.Poly(sp.expand(product), gap, e, f)
        sums = {gap: s.Delta**2, e: s.d / s.n_1, f: s.d / s.n_0}
        return sum(form.coeff_monomial(letter**2) * total for letter, total in sums.items())

    weight, centre = gap + e - f, (e + f) / 2
    norm2 = over_features(weight**2)
    mean_case, mean_control = (over_features(weight * (side * gap / 2 - centre)) for side in (1, -1))
    tpr, fpr = (s.Phi(m / sp.sqrt(norm2)) for m in (mean_case, mean_control))
    area = s.Phi((mean_case - mean_control) / sp.sqrt(2 * norm2))
    for found, stated in ((tpr, s.IMBALANCE_TPR), (fpr, s.IMBALANCE_FPR), (area, s.IMBALANCE_AUC)):
        assert sp.simplify(found.args[0] - stated.rhs.args[0]) == 0
    bayes = sp.limit(s.IMBALANCE_TPR.rhs.args[0].subs(s.n_0, s.n_1), s.n_1, sp.oo)
    assert sp.simplify(bayes - s.Delta / 2) == 0
    balanced = s.IMBALANCE_TPR.rhs.args[0] + s.IMBALANCE_FPR.rhs.args[0]
    assert sp.simplify(balanced.subs(s.n_0, s.n_1)) == 0


def by_simulation() -> None:
    """1:9 in 300 features: classifiers drawn and scored exactly; the mean rates, within four standard errors."""
    rng = np.random.default_rng(2)
    d, n1, n0, delta, draws = 300, 30, 270, 2.5, 800
    gap = np.full(d, delta / d**0.5)
    case = gap / 2 + rng.normal(size=(draws, d)) / n1**0.5
    control = -gap / 2 + rng.normal(size=(draws, d)) / n0**0.5
    w, c = case - control, (case + control) / 2
    size = np.linalg.norm(w, axis=1)
    tpr = norm.cdf((w @ gap / 2 - (w * c).sum(1)) / size)
    fpr = norm.cdf((-w @ gap / 2 - (w * c).sum(1)) / size)
    norm2, pull = delta**2 + d * (1 / n1 + 1 / n0), d * (1 / n0 - 1 / n1)
    for drawn, sign in ((tpr, 1), (fpr, -1)):
        expected = norm.cdf((sign * delta**2 + pull) / (2 * norm2**0.5))
        # the mean of Φ over draws differs from Φ at the mean by its curvature: second order, below 0.005 here
        assert abs(drawn.mean() - expected) < 4 * drawn.std() / draws**0.5 + 0.005


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    derive()
    by_simulation()


if __name__ == "__main__":
    check()
    print("d04: the estimation cost of imbalance holds")
