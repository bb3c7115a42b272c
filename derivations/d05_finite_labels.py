"""A ridge probe from n labels: effective ridge, mean and spread of its weights.

Statement    The equations kappa, df2, probe-* and deploy: with few labels the ridge λ acts as κ > λ, weights shrink to
             (1 − 2η) u_i/(ℓ_i + κ), and their spread adds the term in 1/(n − df₂).
Assumptions  Balanced Gaussian classes of equal covariance; labels flipped at random with rate η; n and d large together, so
             that a quadratic form of one image is its trace (deterministic equivalents).
Limit        n → ∞: κ → λ and the spread vanishes.  At n = 10, d = 12 and λ = 0.001 the squared length of the
             weights is half as large again as the law has it.
Source       Marchenko & Pastur 1967; Hastie, Montanari, Rosset, Tibshirani 2022.

With Ŝ = XᵀX/n and Q = (Ŝ + λ)⁻¹ the probe is ŵ = Q Xᵀy/n.  All functions work in the eigenbasis of Σ, one direction of
eigenvalue ℓ at a time; sums over directions are symbols.
"""

import numpy as np
import sympy as sp
from scipy.integrate import quad

from rafmodel import symbols as s

ell, u, m = sp.symbols("l u m", positive=True)  # eigenvalue, half gap and entry of M in one direction
tau = sp.Symbol("T", positive=True)  # tr(ΣQ)/n
share = sp.Symbol("D", positive=True)  # df₂/n
trace = sp.Symbol("S", real=True)  # Σ ℓ m/(ℓ + κ)²/n
spread = trace / (1 - share)  # what PROBE_VARIANCE sums to against M, per unit of noise
clean = 1 - 2 * s.eta


def fixed_point() -> None:
    """Mean of Q from leaving one image out, and with it the equation of κ = λ(1 + T)."""
    # Sherman-Morrison: with q = xᵀQ₋x/n, which tends to T, xᵀQ = xᵀQ₋/(1 + q); averaged over images, ŜQ = ΣQ/(1 + T)
    resolved = sp.Symbol("Q", positive=True)
    mean = sp.solve(s.lam * resolved + ell * resolved / (1 + tau) - 1, resolved)[0]
    as_kappa = {tau: s.kappa / s.lam - 1}
    assert sp.simplify(mean.subs(as_kappa) - s.kappa / s.lam / (ell + s.kappa)) == 0
    # T = Σ ℓQ/n = (1 + T) F/n with F = Σ ℓ/(ℓ + κ)
    total = s.KAPPA.rhs.atoms(sp.Sum).pop()
    closes = (tau - (1 + tau) * total / s.n).subs(as_kappa) * s.lam
    assert sp.simplify(closes - (s.KAPPA.lhs - s.KAPPA.rhs)) == 0


def spread_from_labels() -> None:
    """Target noise of unit variance: Cov ŵ = QŜQ/n = (Q − λQ²)/n = d(λQ)/dλ/n, since dQ/dλ = −Q²."""
    kappa = sp.Function("k")(s.lam)
    slope = 1 / (1 - share)  # of κ in λ, from the fixed point: 1 = κ'(1 − Σ ℓ²/(ℓ + κ)²/n)
    implicit = sp.diff(s.kappa * ell / (ell + s.kappa), s.kappa)
    assert sp.simplify(implicit - ell**2 / (ell + s.kappa) ** 2) == 0
    variance = sp.diff(kappa / (ell + kappa), s.lam).subs(sp.diff(kappa, s.lam), slope).subs(kappa, s.kappa) / s.n
    stated = s.PROBE_VARIANCE.rhs.subs({s.ell[s.i]: ell, s.noise: 1, s.df_2: share * s.n})
    assert sp.simplify(variance - stated) == 0


def spread_from_images() -> None:
    """E Q M Q = −dQ/dt of (Ŝ + λ + tM)⁻¹ at 0: beside the mean, the spread of labels times ℓ/(ℓ + κ)²."""
    t, moved = sp.symbols("t dT", real=True)
    level = sp.Function("L")(t)  # T as t moves
    resolved = 1 / (ell / (1 + level) + s.lam + t * m)
    slope = sp.diff(resolved, t).subs(sp.diff(level, t), moved).subs(level, tau).subs(t, 0)
    # dT = Σ ℓ dQ/n: the term of M sums to (1 + T)² S, that of dT to D
    root = sp.solve(moved + (1 + tau) ** 2 * trace - moved * share, moved)[0]
    found = (-slope * s.lam**2).subs(moved, root).subs(tau, s.kappa / s.lam - 1)
    assert sp.simplify(found - s.kappa**2 / (ell + s.kappa) ** 2 * (m + ell * spread)) == 0


def noise_of_a_mixture() -> None:
    """Two Gaussian classes with flips have the law of a linear target with independent noise; none is assumed.

    Signed by their class, images are u + z with target ±1 of mean c = 1 − 2η.  Over images, the mean is one draw u + ξ,
    the rest is pure z with noise 1 − c².  With R = (Σ_w + κ)⁻¹, a = uᵀRu and b = uᵀR²u, uᵀRΣ_wRu = a − κb.
    """
    a, b = sp.symbols("a b", positive=True)
    # ŵ = c Q(u + ξ)/(1 + (u + ξ)ᵀQ(u + ξ)), and ξᵀQξ = T, ξᵀQMQξ = (1 + T)²(S + D spread)
    shrink = clean / (1 + (1 + tau) * a + tau)
    wander = (1 + tau) ** 2 * ((a - s.kappa * b) * spread + trace + share * spread)
    noise = sp.simplify((shrink**2 * wander + (1 - clean**2) * spread) / spread)
    # PROBE_NOISE with Σ = Σ_w + uuᵀ: (Σ + κ)⁻¹u = Ru/(1 + a), and (ℓ + 2κ)/(ℓ + κ)² = 1/(ℓ + κ) + κ/(ℓ + κ)²
    stated = 1 - clean**2 * (a / (1 + a) + s.kappa * b / (1 + a) ** 2)
    assert sp.simplify(noise - stated) == 0
    assert (
        sp.simplify((ell + 2 * s.kappa) / (ell + s.kappa) ** 2 - 1 / (ell + s.kappa) - s.kappa / (ell + s.kappa) ** 2)
        == 0
    )
    # the same number from κ² βᵀRΣRβ + 1 − βᵀΣβ with β = c u/ℓ, which needs Σ⁻¹
    beta = clean * u / ell
    direct = s.kappa**2 * beta**2 * ell / (ell + s.kappa) ** 2 + 1 - beta**2 * ell
    term = s.PROBE_NOISE.rhs.atoms(sp.Sum).pop().function.subs({s.u[s.i]: u, s.ell[s.i]: ell})
    assert sp.simplify(direct - (1 - clean**2 * term)) == 0


def white_features() -> None:
    """The fixed point is a quadratic there, and its root is the Marchenko–Pastur one; many labels give back the ridge."""
    root = s.KAPPA_ISOTROPIC.rhs
    assert sp.simplify(s.lam + root / s.n * s.d / (1 + root) - root) == 0
    count = sp.Symbol("N", positive=True)
    many = sp.limit(root.subs(s.n, count), count, sp.oo)
    assert sp.simplify(sp.sqrt(sp.factor((2 * many - s.lam + 1) ** 2)) - (1 + s.lam)) == 0  # that is, κ = λ


def marchenko_pastur() -> None:
    """λ tr Q/d of white features against the integral over the Marchenko–Pastur density, a mass at 0 where d > n."""
    for d, n, ridge in ((40, 100, 0.3), (250, 100, 0.05)):
        ratio = d / n
        low, high = (1 - ratio**0.5) ** 2, (1 + ratio**0.5) ** 2

        def density(x: float, ratio: float = ratio, low: float = low, high: float = high) -> float:
            return ((high - x) * (x - low)) ** 0.5 / (2 * np.pi * ratio * x)

        integral = quad(lambda x: ridge / (x + ridge) * density(x), low, high)[0] + max(0.0, 1 - 1 / ratio)  # noqa: B023
        kappa = float(s.KAPPA_ISOTROPIC.rhs.subs({s.lam: ridge, s.n: n, s.d: d}))
        assert abs(integral - kappa / (1 + kappa)) < 1e-6


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


def few_labels() -> None:
    """How far off the law is at ten labels of twelve white features: a factor of 1.5, of 1.05 at a ridge of 0.1."""
    rng, d, n, draws = np.random.default_rng(0), 12, 10, 4000
    gap, y = np.eye(d)[0] / 2, np.repeat([-1.0, 1.0], n // 2)
    for ridge, low, high in ((0.001, 1.35, 1.7), (0.1, 0.95, 1.05)):
        x = rng.normal(size=(draws, n, d)) + y[:, None] * gap / 2
        second = np.einsum("bni,bnj->bij", x, x) / n + ridge * np.eye(d)
        weights = np.linalg.solve(second, (np.einsum("bni,n->bi", x, y) / n)[..., None])[..., 0]
        ell = np.linalg.eigvalsh(np.eye(d) + np.outer(gap, gap) / 4)
        kappa = ridge
        for _ in range(5000):
            kappa = ridge + kappa / n * (ell / (ell + kappa)).sum()
        ends = {"ell": ell[-1], "df2": ((ell / (ell + kappa)) ** 2).sum(), "u2": gap @ gap / 4}
        noise = 1 - ends["u2"] * (ends["ell"] + 2 * kappa) / (ends["ell"] + kappa) ** 2
        stated = ends["u2"] / (ends["ell"] + kappa) ** 2 + noise / (n - ends["df2"]) * (ell / (ell + kappa) ** 2).sum()
        assert low < (weights**2).sum(1).mean() / stated < high


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    fixed_point()
    spread_from_labels()
    spread_from_images()
    noise_of_a_mixture()
    white_features()
    marchenko_pastur()
    by_simulation()
    few_labels()


if __name__ == "__main__":
    check()
    print("d05: the law of a ridge probe from few labels holds")
