"""A ridge probe from n labels: effective ridge, mean and spread of its weights.

Statement    The equations kappa, df2, probe-* and deploy: with few labels the ridge λ acts as κ > λ, weights shrink to
             (1 − 2η) u_i/(ℓ_i + κ), and their spread adds the term in 1/(n − df₂).
Assumptions  Balanced classes of equal covariance; n and d large together (deterministic equivalents); labels flipped with rate
             η; label noise around the linear part is treated as independent of the features.
Limit        n → ∞: κ → λ and the spread vanishes.  At small ridge and n of about 10 the law is off by up to 2.9 times.
Source       Marchenko & Pastur 1967; Hastie, Montanari, Rosset, Tibshirani 2022.
"""

import numpy as np
import sympy as sp

from rafmodel import symbols as s


def derive() -> None:
    """White features: the fixed point is a quadratic, and its root is the Marchenko–Pastur one."""
    fixed_point = s.lam + s.kappa / s.n * s.d / (1 + s.kappa) - s.kappa
    root = s.KAPPA_ISOTROPIC.rhs
    assert sp.simplify(fixed_point.subs(s.kappa, root)) == 0
    many = sp.limit(root.subs(s.n, sp.Symbol("N", positive=True)), sp.Symbol("N", positive=True), sp.oo)
    assert sp.simplify(sp.sqrt(sp.factor((2 * many - s.lam + 1) ** 2)) - (1 + s.lam)) == 0  # that is, κ = λ
    # the noise term without Σ⁻¹: κ² βᵀRΣRβ + 1 − βᵀΣβ with β = (1 − 2η) u/ℓ, for one direction
    ell, u = sp.symbols("l u", positive=True)
    clean = 1 - 2 * s.eta
    beta = clean * u / ell
    direct = s.kappa**2 * beta**2 * ell / (ell + s.kappa) ** 2 + 1 - beta**2 * ell
    stated = 1 - clean**2 * u**2 * (ell + 2 * s.kappa) / (ell + s.kappa) ** 2
    assert sp.simplify(direct - stated) == 0


def by_simulation() -> None:
    """Probes drawn at n < d with flipped labels: mean weights along the signal, and their total spread."""
    rng = np.random.default_rng(3)
    d, n, eta, ridge, draws = 120, 80, 0.15, 0.3, 1500
    within = np.linspace(0.2, 3.0, d)
    gap = np.zeros(d)
    gap[:20] = 0.45
    weights = np.empty((draws, d))
    for row in range(draws):
        y = np.repeat([-1.0, 1.0], n // 2)
        x = rng.normal(size=(n, d)) * within**0.5 + y[:, None] * gap / 2
        seen = np.where(rng.random(n) < eta, -y, y)
        weights[row] = np.linalg.solve(x.T @ x / n + ridge * np.eye(d), x.T @ seen / n)
    total = np.diag(within) + np.outer(gap, gap) / 4
    ell = np.linalg.eigvalsh(total)
    kappa = ridge
    for _ in range(500):
        kappa = ridge + kappa / n * (ell / (ell + kappa)).sum()
    resolvent = np.linalg.inv(total + kappa * np.eye(d))
    mean = (1 - 2 * eta) * resolvent @ gap / 2
    df2 = ((ell / (ell + kappa)) ** 2).sum()
    beta = (1 - 2 * eta) * np.linalg.solve(total, gap / 2)
    error = kappa**2 * beta @ resolvent @ total @ resolvent @ beta + 1 - beta @ total @ beta
    spread = error * np.trace(total @ resolvent @ resolvent) / n / (1 - df2 / n)
    along = weights @ gap
    assert abs(along.mean() - mean @ gap) < 4 * along.std() / draws**0.5 + 0.02 * mean @ gap  # corrections of order 1/n
    size = ((weights - mean) ** 2).sum(1)
    assert abs(size.mean() - spread) < 4 * size.std() / draws**0.5 + 0.03 * spread


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    derive()
    by_simulation()


if __name__ == "__main__":
    check()
    print("d05: the law of a ridge probe from few labels holds")
