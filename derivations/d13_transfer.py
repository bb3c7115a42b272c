"""Transfer: what of a class direction survives an encoder that another domain taught, and what few labels make of it.

Statement    An encoder that keeps the subspace U turns the squared separation Δ² into Δ²|Uᵀδ|²/|δ|².  A class direction drawn
             uniformly in the target's own subspace of k dimensions keeps (1/k) Σ cos²θ_i on average, θ_i the principal angles.
             A ridge probe from n labels has the law of d05 in the l dimensions kept with the separation kept: with
             U = rΔ²/4, r = |Uᵀδ|²/|δ|², and eigenvalues 1, but 1 + U along the class, the equations transfer-kappa and
             transfer-auc.
Assumptions  Whitened features, orthonormal bases.  For the share: the probe is optimal inside what is kept.  From few labels:
             d05, that is Gaussian balanced classes, n and l large together; mean over directions through r of each.
Limit        Equal subspaces keep all, orthogonal ones nothing; a random subspace of l of d dimensions keeps l/d.  n → ∞ gives
             Φ(Δ√(r/2)).  A large ridge gives Φ(rΔ²/√(2(rΔ² + 4l/n))), up to terms that U/n is.
Meaning      Foundation encoders keep much (r near 1) in many dimensions (l): worth it from n of about 4l/(rΔ²) labels on.
             Below that an encoder that keeps less, in fewer dimensions, can be better: from few labels r²/l counts, not r.
Source       Björck, Golub 1973 (principal angles).
"""

import numpy as np
import sympy as sp
from scipy.linalg import subspace_angles
from scipy.stats import norm

from rafmodel import learning
from rafmodel import symbols as s


def derive() -> None:
    """In principal bases the overlap matrix is diag(cos θ); a uniform unit vector has E z_i z_j = δ_ij / k."""
    for k in (1, 2, 3):
        cosines = sp.diag(*[sp.cos(s.angle[i]) for i in range(k)])
        kept = sum((cosines.T * cosines)[i, i] for i in range(k)) / k  # E |cos · z|² with E zzᵀ = 1/k
        assert sp.simplify(kept - s.RETAINED.rhs.subs(s.k, k).doit()) == 0
    # AUC of the best direction inside: separation² in the subspace over unit noise
    overlap = sp.Symbol("rho", positive=True)
    inside = s.AUC.rhs.subs(
        {s.m_1: overlap * s.Delta**2, s.m_0: 0, s.v_1: overlap * s.Delta**2, s.v_0: overlap * s.Delta**2}
    )
    assert sp.simplify(inside.args[0] - s.Delta * sp.sqrt(overlap / 2)) == 0


def by_drawing() -> None:
    """Angles against another library, the mean over drawn directions, and trained least squares in the subspace."""
    rng = np.random.default_rng(0)
    d, k, l = 40, 6, 9
    source = np.linalg.qr(rng.normal(size=(d, l)))[0]
    target = np.linalg.qr(source[:, :k] + 0.12 * rng.normal(size=(d, k)))[0]
    cosines = np.asarray(learning.principal_cosines(source, target))
    np.testing.assert_allclose(np.sort(np.arccos(cosines)), np.sort(subspace_angles(source, target)), atol=2e-3)
    z = rng.normal(size=(20_000, k))
    kept = [float(learning.retained(source, target @ row)) for row in z[:2]]
    share = (((z @ target.T) @ source) ** 2).sum(1) / (z**2).sum(1)
    np.testing.assert_allclose(kept, share[:2], rtol=1e-5)
    assert abs(share.mean() - (cosines**2).mean()) < 4 * share.std() / 20_000**0.5
    # a probe on the kept features of many images reaches Φ(Δ √(kept/2))
    delta = 2.0 * target @ z[0] / np.linalg.norm(z[0])
    y = rng.choice([-1.0, 1.0], 60_000)
    x = (rng.normal(size=(60_000, d)) + y[:, None] * delta / 2) @ source
    w = np.linalg.lstsq(x[:30_000], y[:30_000], rcond=None)[0]
    score = x[30_000:] @ w
    order = score.argsort().argsort() + 1.0
    case = y[30_000:] > 0
    area = (order[case].sum() - case.sum() * (case.sum() + 1) / 2) / (case.sum() * (~case).sum())
    assert abs(area - norm.cdf(2.0 * (share[0] / 2) ** 0.5)) < 4 * 0.003
    random = np.mean([(np.asarray(learning.principal_cosines(np.linalg.qr(rng.normal(size=(d, l)))[0], target)) ** 2).mean()
                      for _ in range(200)])  # fmt: skip
    assert abs(random - l / d) < 0.01


def few_labels() -> None:
    """The equations of d05 with l − 1 directions of eigenvalue 1 and one of 1 + U that holds the gap; its limits."""
    size, half = 3, sp.sqrt(s.half2)
    spectrum = [1 + s.half2, 1, 1]
    given = {s.d: size} | {s.ell[i]: value for i, value in enumerate(spectrum)}
    given |= {s.u[i]: half if i == 0 else 0 for i in range(size)}

    def told(expr: sp.Expr) -> sp.Expr:
        return expr.subs(s.d, size).doit().subs(given)

    assert sp.simplify(told(s.KAPPA.rhs) - s.TRANSFER_KAPPA.rhs.subs(s.k, size)) == 0
    mean = [told(s.PROBE_MEAN.rhs.subs(s.i, i)) for i in range(size)]
    spread = [told(s.PROBE_VARIANCE.rhs.subs(s.i, i)) for i in range(size)]
    spread = [x.subs({s.noise: told(s.PROBE_NOISE.rhs), s.df_2: told(s.DF2.rhs)}) for x in spread]
    second = told(s.DEPLOY.rhs).subs({s.M[i, j]: int(i == j) for i in range(size) for j in range(size)})
    second = second.subs({s.w[i]: mean[i] for i in range(size)} | {s.s[i]: spread[i] for i in range(size)})
    area = s.AUC.rhs.subs({s.m_1: 2 * half * mean[0], s.m_0: 0, s.v_1: second, s.v_0: second}).args[0]
    stated = s.TRANSFER_AUC.rhs.args[0].subs(s.k, size)
    assert sp.simplify(area**2 - stated**2) == 0
    somewhere = dict.fromkeys(stated.free_symbols, 0.2) | {s.n: 9}
    assert abs(area.subs(somewhere) - stated.subs(somewhere)) < 1e-12 and stated.subs(somewhere) > 0  # the same root
    # many labels; and a large ridge, where κ/λ → 1
    argument, count = s.TRANSFER_AUC.rhs.args[0], sp.Symbol("N", positive=True)
    clean = (argument.subs({s.eta: 0}) ** 2).subs(s.n, count)
    kept = sp.Symbol("r", positive=True)
    assert sp.simplify(sp.limit(clean, count, sp.oo) - 2 * s.half2) == 0
    assert sp.simplify((2 * s.half2).subs(s.half2, s.KEPT_GAP.rhs) - s.Delta**2 * kept / 2) == 0
    held_back = sp.limit(clean, s.kappa, sp.oo)
    plain = 2 * s.half2**2 / (s.half2 + (s.k + s.half2) / count)  # the U beside k is one direction's of many
    assert sp.simplify(held_back - plain) == 0
    crossing = sp.solve(s.half2 - s.k / count, count)[0].subs(s.half2, s.KEPT_GAP.rhs)
    assert sp.simplify(crossing - 4 * s.k / (kept * s.Delta**2)) == 0  # where chance weighs as much as the class


def by_probes() -> None:
    """Probes from as many labels as dimensions kept, by least squares in the subspace; a narrow encoder and a broad one."""
    rng = np.random.default_rng(2)
    d, separation, ridge, eta = 120, 2.5, 0.2, 0.1
    delta = rng.normal(size=d)
    delta *= separation / np.linalg.norm(delta)
    within = delta / separation

    def subspace(size: int, cosine: float) -> np.ndarray:
        """Orthonormal basis of which the first vector holds all of the class direction that is kept."""
        rest = np.linalg.qr(np.column_stack([within, rng.normal(size=(d, size))]))[0][:, 1:]
        first = cosine * within + (1 - cosine**2) ** 0.5 * rest[:, 0]
        return np.column_stack([first, rest[:, 1:]])

    def drawn(basis: np.ndarray, n: int, draws: int) -> np.ndarray:
        found, gap = np.empty(draws), delta @ basis
        for row in range(draws):
            y = np.repeat([-1.0, 1.0], n // 2)
            x = (rng.normal(size=(n, d)) + y[:, None] * delta / 2) @ basis
            seen = np.where(rng.random(n) < eta, -y, y)
            w = np.linalg.solve(x.T @ x / n + ridge * np.eye(x.shape[1]), x.T @ seen / n)
            found[row] = norm.cdf(w @ gap / np.sqrt(2 * w @ w))
        return found

    order = {}
    for n in (30, 60, 600):
        for name, size, cosine in (("narrow", 15, 0.8), ("broad", 60, 0.98)):
            basis = subspace(size, cosine)
            share = float(learning.retained(basis, delta))
            assert abs(share - cosine**2) < 1e-5
            stated = float(learning.transferred(separation**2, share, size, n, flip=eta, ridge=ridge))
            found = drawn(basis, n, 400)
            assert abs(found.mean() - stated) < 4 * found.std() / 400**0.5 + 0.008, (n, name, found.mean(), stated)
            order[n, name] = found.mean()
    assert order[30, "narrow"] > order[30, "broad"] + 0.03 and order[600, "broad"] > order[600, "narrow"] + 0.02


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    derive()
    by_drawing()
    few_labels()
    by_probes()


if __name__ == "__main__":
    check()
    print("d13: transfer holds")
