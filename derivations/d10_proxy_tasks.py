"""Proxy tasks as operators: what each one keeps, when losses on two views agree, and when they do not.

Let ρ_1 ≥ ρ_2 ≥ … be the canonical correlations of two views u, v of an image (eigenvalues of T = C_uu^−½ C_uv C_uu^−½) and
Y = C_uu^½ W the linear encoder in whitened features, so that its outputs have covariance YᵀY and across views YᵀTY.

Statement    (1) Hard whitening.  Where YᵀY = 1, the spectral contrastive loss and VICReg are constants minus 2 tr YᵀTY, and
                 Barlow Twins falls in every eigenvalue of YᵀTY; each is least on the span of the k leading modes.
             (2) The spectral loss needs no constraint: it is ‖YYᵀ − T‖² − ‖T‖², least at strengths ρ_i of the leading modes.
             (3) InfoNCE of mean-zero outputs is log n − tr YᵀTY/t + ‖YᵀY‖²/2t² + O(b³), b the largest |score|, t the temperature:
                 at least, strengths t ρ_i.  Where scores are symmetric about 0 the error is O(b⁴).
             (4) With weights as they are used, VICReg and Barlow Twins are *not* white: they keep leading modes in unequal
                 shares, and the first alone where ρ_2 ≤ ρ_1 − λkρ_1²/(1 − ρ_1 + λρ_1) (Barlow Twins, weight λ ≤ 1, k outputs) or
                 ρ_2 ≤ ρ_1 − 2γka²/α (VICReg, weights α, β ≥ 16γ, γ, outputs of s.d. a).
             (5) Rotation prediction keeps order m with ρ² = |E c_m|²/E|c_m|², and nothing where 4 divides m.
             (6) Asking for a patch's place (jigsaw, relative location) keeps ρ² = B/(B + W): B between places, W within.
             (7) Foretelling a patch from K others (predictive coding, masking) keeps
                 ρ = S/√((S + own (1 + (K − 1) o)/K)(S + own)).
             (8) A view law buys robustness to what widens its mode only through the ridge: the AUC is highest where
                 ρ² = ℓ₂λ/(λ(ℓ₁ + E) + ℓ₂E), wherever the class lives.
             (9) The exemplar task's views are those of the contrastive task: its operator is the same.
Assumptions  Linear encoder, second moments; (2) ρ ≥ 0; (3) bounded scores, many images; (4) as many outputs as a Hadamard matrix
             has rows (1, 2, a multiple of 4 in use), no fewer than modes kept; else what is stated is a lower bound of the loss;
             (5) quarter turns equally likely; (6, 7) patches of one place alike in law; (8) two independent modes, labels so
             many that the probe is the ridge solution (few labels: d05's effective ridge for λ, up to the weights' spread).
Limit        (4) At k → ∞ nothing collapses; at k = 2 and weight 0.005 all of ρ_1 = 0.95, ρ_2 ≤ 0.785 does.  (5) Without a
             preferred orientation (E c_m = 0) rotation prediction keeps nothing.  (7) K → ∞ leaves √(S/(S + own)).  (8) λ → 0:
             a full-rank probe undoes any ρ > 0, the AUC is the same for all view laws; E = 0, ℓ₁ = ℓ₂: any view law costs.
Source       Fan 1949; HaoChen et al. 2021 (spectral loss); Bardes et al. 2022; Zbontar et al. 2021; Balestriero, LeCun 2022.
"""

import jax.numpy as jnp
import numpy as np
import sympy as sp
from scipy.linalg import hadamard
from scipy.optimize import minimize
from scipy.stats import norm

from rafmodel import learning, proxies
from rafmodel import symbols as s

RHO = np.array([0.95, 0.56, 0.50, 0.29, 0.20])


# ---- (1) hard whitening


def whitened_losses() -> None:
    """What three losses are once YᵀY = 1; a frame of 2 outputs among 3 modes stands for all."""
    y = sp.Matrix(3, 2, sp.symbols("y_1:7", real=True))
    turn = sp.diag(*sp.symbols("rho_1:4", positive=True))
    own, across = y.T * y, y.T * turn * y
    spectral = -2 * across.trace() + (own * own).trace()
    vicreg = 2 * (own - across).trace()
    excess = (own - sp.eye(2)).norm() ** 2
    assert sp.expand(spectral - (-2 * across.trace() + 2 * own.trace() - 2 + excess)) == 0  # excess 0, tr YᵀY = 2
    assert sp.expand(vicreg - (2 * own.trace() - 2 * across.trace())) == 0
    # no constraint: the distance of YYᵀ from T
    apart = y * y.T - turn
    assert sp.expand(spectral - ((apart * apart).trace() - (turn * turn).trace())) == 0


def ky_fan() -> None:
    """tr YᵀTY = Σ ρ_j p_j with p_j = |row j of Y|² in [0, 1] and Σ p_j = k: no more than the k largest ρ.

    0 ≤ p_j ≤ 1 since YYᵀ is a projection.  The shortfall is a sum of products none of which is negative.
    """
    size, k = 5, 2
    rho, p = sp.symbols("rho_1:6", real=True), list(sp.symbols("p_1:6", real=True))
    p[-1] = k - sum(p[:-1])
    short = sum(rho[:k]) - sum(r * q for r, q in zip(rho, p, strict=True))
    ahead = sum((rho[j] - rho[k - 1]) * (1 - p[j]) for j in range(k))
    behind = sum((rho[k - 1] - rho[j]) * p[j] for j in range(k, size))
    assert sp.expand(short - ahead - behind) == 0


def barlow_of_white_outputs() -> None:
    """Barlow Twins falls in every eigenvalue m_i ≤ 1 of YᵀTY, and these lie below ρ_i.

    m_i ≤ ρ_i: the span of the i leading eigenvectors of YᵀTY, mapped by Y, meets that of modes i, i + 1, … in a unit vector x,
    and m_i ≤ xᵀTx ≤ ρ_i.  For a weight λ ≤ 1 the diagonal wants to be equal ((1 − x)² − λx² is convex; a rotation makes it so),
    for λ ≥ 1 outputs want to be the modes.
    """
    m = sp.symbols("m_1:4", real=True)
    mean, lam = sum(m) / 3, s.lam
    equal = 3 * (1 - mean) ** 2 + lam * sum((x - mean) ** 2 for x in m)
    # M with diagonal ``mean`` and eigenvalues m: Σ(1 − M_ii)² + λ(‖M‖² − ΣM_ii²)
    assert sp.expand(equal - (3 * (1 - mean) ** 2 + lam * (sum(x**2 for x in m) - 3 * mean**2))) == 0
    # slope −2(1 − mean) + 2λ(m_i − mean) = −2(1 − λ)(1 − mean) − 2λ(1 − m_i): not positive for λ in [0, 1], m ≤ 1
    stated = -2 * (1 - lam) * (1 - mean) - 2 * lam * (1 - m[0])
    assert sp.expand(sp.diff(equal, m[0]) - stated) == 0


def by_frames() -> None:
    """Random orthonormal frames never do better than the leading modes, rotated as the loss wants."""
    rng = np.random.default_rng(0)
    for k in (1, 2, 4):
        spread = hadamard(k) / k**0.5
        best = spread @ np.diag(RHO[:k]) @ spread.T
        for lam in (0.0, 0.005, 1.0):
            least = _off_identity(best, lam)
            for _ in range(300):
                y = np.linalg.qr(rng.normal(size=(5, k)))[0]
                across = y.T @ (RHO[:, None] * y)
                assert (np.linalg.eigvalsh(across)[::-1] <= RHO[:k] + 1e-12).all()
                assert np.trace(across) <= RHO[:k].sum() + 1e-12
                assert _off_identity(across, lam) >= least - 1e-12
    found = _least(lambda y: -2 * np.trace(y.T @ (RHO[:, None] * y)) + ((y.T @ y) ** 2).sum(), 2, rng)
    np.testing.assert_allclose(np.linalg.eigvalsh(found @ found.T)[::-1][:3], [*RHO[:2], 0], atol=1e-5)  # strengths ρ


def _off_identity(across: np.ndarray, lam: float) -> float:
    own = np.diag(across)
    return ((1 - own) ** 2).sum() + lam * ((across**2).sum() - (own**2).sum())


def _least(loss, k: int, rng: np.random.Generator, starts: int = 8) -> np.ndarray:
    """The best of several quasi-Newton descents over encoders (5, k)."""
    found = [
        minimize(lambda x: loss(x.reshape(5, k)), rng.normal(size=5 * k), method="BFGS", options={"gtol": 1e-9})
        for _ in range(starts)
    ]
    return min(found, key=lambda one: one.fun).x.reshape(5, k)


# ---- (3) InfoNCE


def info_nce() -> None:
    """log E e^{bs} = bE s + b²/2 Var s + b³/6 κ₃ + …, and per mode what is left.

    |κ₃| of a score in [−b, b], under any weighting e^{xs}, is at most 2b · b²; so the remainder is at most b³/3.
    """
    b, chance = sp.symbols("b epsilon", positive=True)
    scores, weight = sp.symbols("x_1:4", real=True), sp.symbols("p_1:3", positive=True)
    weight = (*weight, 1 - sum(weight))
    log_mean = sp.log(sum(p * sp.exp(chance * x) for p, x in zip(weight, scores, strict=True)))
    first, second = (sum(p * x**power for p, x in zip(weight, scores, strict=True)) for power in (1, 2))
    for power, stated in ((0, 0), (1, first), (2, second - first**2)):
        assert sp.simplify(sp.diff(log_mean, chance, power).subs(chance, 0) - stated) == 0
    assert sp.integrate(2 * b**3 * (1 - chance) ** 2 / 2, (chance, 0, 1)) == b**3 / 3  # Taylor's remainder
    # outputs of mean 0: E s = 0, Var s = zᵀ(YᵀY)z/t², mean over z ‖YᵀY‖²/t²; modes apart, strengths s_i
    loss = s.INFO_NCE.rhs.subs(s.d, 2).doit()
    for i in range(2):
        [least] = sp.solve(sp.diff(loss, s.s[i]), s.s[i])
        assert sp.simplify(least - s.temperature * s.modes[i]) == 0
        assert sp.diff(loss, s.s[i], 2).is_positive


def info_nce_drawn() -> None:
    """The loss of 3,000 images against its second order: halving the scores leaves an eighth, or a sixteenth by symmetry."""
    rng = np.random.default_rng(2)
    rho = np.array([0.9, 0.4])
    for law, power in ((lambda n: rng.exponential(size=n) - 1, 3), (lambda n: rng.choice([-1.0, 1.0], n), 4)):
        one = law((3000, 2))
        two = np.where(rng.random((3000, 2)) < rho, one, law((3000, 2)))  # correlation ρ, the same law
        one, two = (np.linalg.solve(np.linalg.cholesky(np.cov(z.T, ddof=0)), (z - z.mean(0)).T).T for z in (one, two))
        if power == 4:  # exactly symmetric
            two = np.concatenate([two, -two])
            one = np.concatenate([one, -one])
        left = []
        for strength in (0.04, 0.02):
            score = strength * one @ two.T
            exact = (np.log(np.exp(score).mean(1)) - np.diag(score)).mean()
            met = (one * two).mean(0)  # correlations as drawn
            left.append(abs(exact - float(learning.info_nce(jnp.asarray(met), strength * jnp.ones(2), 1.0))))
            assert left[-1] <= np.abs(score).max() ** 3 / 3
        assert 0.8 * 2**power < left[0] / left[1] < 1.25 * 2**power, (power, left)


# ---- (4) VICReg and Barlow Twins with the weights in use


def collapse() -> None:
    """Both losses as functions of the share q_j that mode j has of the outputs' variance, and where q = (1, 0, …) is least.

    For P = YYᵀ of trace k a²: off-diagonal entries of P (in the modes) only raise ‖YᵀTY‖² = Σ ρ_iρ_j P_ij² and ‖YᵀY‖² = Σ P_ij²;
    given P, outputs that share everything alike are best by Jensen's inequality, as (1 − x)² − λx² is convex for λ ≤ 1 and
    β(1 − √x) − 2γx² on (0, 1] for β ≥ 16γ; rows of a Hadamard matrix over √k share alike.  Longer outputs than 1 only cost.
    """
    lam, k, a = s.lam, s.k, s.output_sd
    agreement, variance, covariance = s.agreed, s.beta, s.covaried
    rho_2, share = sp.symbols("rho_2 q", positive=True)
    x = sp.Symbol("x", positive=True)
    assert sp.expand(sp.diff((1 - x) ** 2 - lam * x**2, x, 2)) == 2 - 2 * lam
    bent = sp.diff(variance * (1 - sp.sqrt(x)) - 2 * covariance * x**2, x, 2)
    assert sp.simplify(bent.subs(x, 1) - (variance - 16 * covariance) / 4) == 0
    assert sp.diff(bent, x).is_negative  # so the least is at x = 1
    # two modes: shares 1 − q and q
    mean = s.rho_1 * (1 - share) + rho_2 * share
    barlow = (1 - mean) ** 2 - lam * mean**2 + lam * k * (s.rho_1**2 * (1 - share) ** 2 + rho_2**2 * share**2)
    squared = (1 - share) ** 2 + share**2
    vicreg = 2 * agreement * a**2 * (1 - mean) + variance * (1 - a) + 2 * covariance * a**4 * (k * squared - 1)
    for loss, stated in ((barlow, s.BARLOW_ALONE.rhs), (vicreg, s.VICREG_ALONE.rhs)):
        edge = sp.solve(sp.diff(loss, share).subs(share, 0), rho_2)
        assert any(sp.simplify(one - stated) == 0 for one in edge), edge
        assert len([one for one in edge if one != s.rho_1]) == 1
    # with two outputs: (1 − ρ1)(ρ1 − ρ2) ≥ λρ1(ρ1 + ρ2)
    two = (1 - s.rho_1) * (s.rho_1 - rho_2) - lam * s.rho_1 * (s.rho_1 + rho_2)
    assert sp.simplify(two.subs(rho_2, s.BARLOW_ALONE.rhs.subs(k, 2))) == 0
    assert abs(float(learning.barlow_alone(0.95, 2, proxies.REDUNDANCY)) - 0.785) < 1e-3
    # a weaker statement: one mode twice is already better than the two modes, one each, below ρ2 = 0.89
    alone = 2 * (1 - s.rho_1) ** 2 + 2 * lam * s.rho_1**2
    each = (1 - s.rho_1) ** 2 + (1 - rho_2) ** 2
    here = {s.rho_1: sp.Rational(95, 100), lam: sp.Rational(5, 1000)}
    assert (each - alone).subs(here | {rho_2: 0.88}) > 0 > (each - alone).subs(here | {rho_2: 0.90})


def shares(loss: str, k: int, rho: np.ndarray = RHO) -> tuple[np.ndarray, float]:
    """Shares of modes and s.d. of outputs at the optimum with the package's weights, from the convex form above."""

    def value(x: np.ndarray) -> float:
        q, a = x[:-1], x[-1]
        if loss == "barlow":
            mean, lam = rho @ q, proxies.REDUNDANCY
            return (1 - mean) ** 2 - lam * mean**2 + lam * k * (rho**2 @ q**2) + (1 - a) ** 2
        return 50 * a**2 * (1 - rho @ q) + 25 * (1 - a) + 2 * a**4 * (k * (q @ q) - 1)

    whole = {"type": "eq", "fun": lambda x: x[:-1].sum() - 1}
    start = np.append(np.full(len(rho), 1 / len(rho)), 0.5)
    found = minimize(value, start, bounds=[(0, 1)] * len(start), constraints=whole, method="SLSQP", tol=1e-13).x
    return found[:-1], found[-1]


def with_weights_in_use() -> None:
    """Quasi-Newton over all linear encoders ends where the convex form says: rank one with 2 outputs, unequal shares with 8.

    The losses are the package's: checked on a large batch against what is minimised here.
    """
    rng = np.random.default_rng(3)

    def barlow(y: np.ndarray) -> float:
        y = y / np.linalg.norm(y, axis=0)
        return _off_identity(y.T @ (RHO[:, None] * y), proxies.REDUNDANCY)

    def vicreg(y: np.ndarray) -> float:
        own, n = y.T @ y, y.shape[1]
        apart = np.trace(own - y.T @ (RHO[:, None] * y))
        short = np.maximum(1 - np.sqrt(np.diag(own)), 0).sum()
        return (50 * apart + 25 * short + 2 * ((own**2).sum() - (np.diag(own) ** 2).sum())) / n

    u, fresh = rng.normal(size=(2, 200_000, 5))
    v = RHO * u + np.sqrt(1 - RHO**2) * fresh
    y = 0.4 * rng.normal(size=(5, 4))
    pair = jnp.asarray(u @ y), jnp.asarray(v @ y)
    assert abs(float(proxies.barlow_twins(*pair)) - barlow(y)) < 0.02 * barlow(y)
    assert abs(float(proxies.vicreg(*pair)) - vicreg(y)) < 0.02 * vicreg(y)

    for k in (2, 8):
        for name, loss in (("barlow", barlow), ("vicreg", vicreg)):
            y = _least(loss, k, rng, 12 if k == 2 else 6)
            y = y / np.linalg.norm(y, axis=0) if name == "barlow" else y
            power = np.diag(y @ y.T)
            stated, size = shares(name, k)
            np.testing.assert_allclose(power / power.sum(), stated, atol=2e-3, err_msg=f"{name}, {k} outputs")
            if name == "barlow":
                alone = learning.barlow_alone(RHO[0], k, proxies.REDUNDANCY)
            else:
                assert abs((power.sum() / k) ** 0.5 - size) < 2e-3
                alone = learning.vicreg_alone(RHO[0], k, size)
            assert (stated[0] > 0.999) == (RHO[1] < float(alone)), (name, k)
    # 64 outputs, as the package's heads have: several modes, leading first, and not in equal shares
    many = 0.95 * 0.95 ** np.arange(64)
    for name in ("barlow", "vicreg"):
        kept, _ = shares(name, 64, many)
        assert (np.diff(kept[kept > 1e-3]) < 0).all(), name
        assert 1 < (kept > 1e-3).sum() < 64, name


# ---- (5) to (7) other tasks


def rotation() -> None:
    """Input c_m i^{mr}, target one-hot of r = 0..3: regress on the target, and compare explained to total power."""
    for order in range(9):
        turns = [sp.I ** (order * r) for r in range(4)]
        mean = s.mean_power  # of the upright coefficient, real by choice of the axis
        overall = sum(mean * t for t in turns) / 4
        explained = sum(sp.Abs(mean * t - overall) ** 2 for t in turns) / 4
        stated = s.TURNING.rhs.subs(s.m, order)
        assert sp.simplify(explained / s.power - stated) == 0, order  # turning changes no power


def place() -> None:
    """Target one-hot of the place: explained variance is that of the mean patch over places."""
    mu = sp.symbols("mu_1:5", real=True)
    average = sum(mu) / 4
    spread = sum((x - average) ** 2 for x in mu) / 4
    total = spread + s.within
    assert sp.simplify(spread / total - s.PLACE.rhs.subs(s.between, spread)) == 0


def context() -> None:
    """K patches alike in law: by symmetry the best predictor weighs them alike, so it reads their mean."""
    shared, own, o, k = s.between, s.within, s.overlap, 3
    seen = sp.Matrix(k, k, lambda a, b: shared + (own if a == b else own * o))
    to_come = sp.Matrix([shared] * k)
    explained = (to_come.T * seen.inv() * to_come)[0] / (shared + own)
    assert sp.simplify(explained - (s.CONTEXT.rhs**2).subs(s.k, k)) == 0
    assert sp.simplify(s.CONTEXT.rhs.subs(s.k, 1) - shared / (shared + own)) == 0
    limit = sp.limit(s.CONTEXT.rhs.subs(o, 0), s.k, sp.oo)
    assert sp.simplify(limit - sp.sqrt(shared / (shared + own))) == 0
    given = {s.C_uv: shared, s.C_uu: shared + own}  # one patch: the predictor's weight is ρ too
    assert sp.simplify(s.PREDICTOR.rhs.subs(given) - s.CONTEXT.rhs.subs(s.k, 1)) == 0


# ---- (8) what a view law buys


def price() -> None:
    """Two modes of variances ℓ₁, ℓ₂ in a class and gaps Δ₁, Δ₂; the shift widens the first by E, the view law scales it by ρ.

    A ridge probe's weights follow (Σ + λ)⁻¹δ (the term of the gap changes their length alone), so on the images themselves
    they are ρ²Δ₁/(ρ²ℓ₁ + λ) and Δ₂/(ℓ₂ + λ).
    """
    kept, first, second = sp.symbols("rho Delta_1 Delta_2", positive=True)
    one, two, added, lam = s.ell_1, s.ell_2, s.added, s.lam
    weights = kept**2 * first / (kept**2 * one + lam), second / (two + lam)
    gap, variance = weights[0] * first + weights[1] * second, weights[0] ** 2 * (one + added) + weights[1] ** 2 * two
    argument = gap / sp.sqrt(2 * variance)
    slope = sp.together(sp.diff(argument**2, kept))
    stated = sp.sqrt(s.VIEW_LIMIT.rhs)
    assert sp.simplify(slope.subs(kept, stated)) == 0
    # no other place: but for positive factors the slope is ρ*² − ρ²
    rest = sp.simplify(sp.diff(sp.log(argument), kept) / (stated**2 - kept**2))
    assert sp.simplify(sp.diff(sp.log(argument), kept) - rest * (stated**2 - kept**2)) == 0
    assert all(factor.is_positive for factor in sp.Mul.make_args(sp.factor(rest)))
    # V > 0 pays where ρ*² < 1
    assert sp.simplify(s.VIEW_LIMIT.rhs.subs(added, 0).subs(two, one)) == 1
    assert sp.simplify(sp.diff(argument, kept).subs(lam, 0)) == 0  # without ridge, nothing changes
    assert sp.limit(s.VIEW_LIMIT.rhs, lam, 0) == 0
    # as view noise: V = B (1/ρ − 1)
    rho = s.GAIN.rhs
    assert sp.simplify(sp.solve(rho - kept, s.view)[0] - s.between * (1 / kept - 1)) == 0


def price_by_probes() -> None:
    """Ridge probes on 20,000 drawn images: best near the stated ρ, worse on both sides; without ridge all alike."""
    rng = np.random.default_rng(4)
    y = np.repeat([-0.5, 0.5], 10_000)
    gap, scale, added, ridge = np.array([1.0, 0.8]), np.array([1.2, 0.9]) ** 0.5, 3.0, 0.5
    x = y[:, None] * gap + scale * rng.normal(size=(20_000, 2))

    def deployed(kept: float, ridge: float, rows: slice = slice(None)) -> float:
        z, said = x[rows] * [kept, 1.0], 2 * y[rows]
        w = np.linalg.solve(z.T @ z / len(z) + ridge * np.eye(2), z.T @ said / len(z)) * [kept, 1.0]
        return norm.cdf(w @ gap / np.sqrt(2 * (w**2 @ (scale**2 + [added, 0]))))

    best = float(learning.best_gain(1.2, 0.9, added, ridge)) ** 0.5
    grid = np.linspace(0.1, 1, 91)
    found = grid[np.argmax([deployed(kept, ridge) for kept in grid])]
    assert abs(found - best) < 0.04, (found, best)
    assert deployed(best, ridge) > deployed(1.0, ridge) + 0.01
    assert deployed(best, ridge) > deployed(0.12, ridge) + 0.005
    few = slice(9_990, 10_010)  # the same of 20 labels
    for rows in (slice(None), few):
        np.testing.assert_allclose([deployed(kept, 0.0, rows) for kept in grid], deployed(1.0, 0.0, rows), rtol=1e-9)


def by_regression() -> None:
    """Turned coefficients, placed patches and patches of an image, drawn; explained share of a least-squares fit."""
    rng = np.random.default_rng(1)
    n = 100_000
    turns = rng.integers(0, 4, n)
    target = np.eye(4)[turns] - 0.25
    for order in (1, 2, 3, 4, 6):
        upright = 1.2 + 0.5 * (rng.normal(size=n) + 1j * rng.normal(size=n))
        seen = upright * 1j ** (order * turns)
        seen = np.stack([seen.real, seen.imag], 1)
        fit = target @ np.linalg.lstsq(target, seen - seen.mean(0), rcond=None)[0]
        power = 1.2**2 + 2 * 0.25
        share = (fit**2).sum() / n / power
        predicted = float(learning.kept_by_turning(order, 1.2**2, power))
        assert abs(share - predicted) < 0.01, (order, share, predicted)
    mean = np.array([0.0, 1.5, -0.5, 2.0])
    places = rng.integers(0, 4, n)
    patch = mean[places] + rng.normal(size=n)
    share = np.corrcoef(mean[places], patch)[0, 1] ** 2
    assert abs(share - float(learning.kept_by_place(mean.var(), 1.0))) < 0.01
    # means of patches of 8 numbers, three overlapping by half (predictive coding) or eight apart (half of a masked image)
    for step, patches in ((4, 3), (8, 8)):
        common = rng.normal(size=(n, 1))
        strip = rng.normal(size=(n, step * (patches - 1) + 8))
        seen = common + np.stack([strip[:, step * i : step * i + 8].mean(1) for i in range(patches)], 1)
        to_come = common[:, 0] + rng.normal(size=(n, 8)).mean(1)
        pairs = patches * (patches - 1) / 2
        overlap = (1 - step / 8) * (patches - 1) / pairs
        stated = float(learning.kept_of_context(1.0, 1 / 8, patches, overlap))
        assert abs(np.corrcoef(seen.mean(1), to_come)[0, 1] - stated) < 0.003, patches


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    whitened_losses()
    ky_fan()
    barlow_of_white_outputs()
    by_frames()
    info_nce()
    info_nce_drawn()
    collapse()
    with_weights_in_use()
    rotation()
    place()
    context()
    price()
    price_by_probes()
    by_regression()


if __name__ == "__main__":
    check()
    print("d10: proxy tasks as operators hold; two losses on two views are white in a limit only")
