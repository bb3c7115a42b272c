"""Transfer: what of a class direction survives an encoder that another domain taught.

Statement    An encoder that keeps the subspace U turns the squared separation Δ² into Δ²|Uᵀδ|²/|δ|².  A class direction drawn
             uniformly in the target's own subspace of k dimensions keeps (1/k) Σ cos²θ_i on average, θ_i the principal angles.
Assumptions  Whitened features, orthonormal bases; the probe is optimal inside what is kept.
Limit        Equal subspaces keep all, orthogonal ones nothing; a random subspace of l of d dimensions keeps l/d.
Source       Björck, Golub 1973 (principal angles).
"""

import numpy as np
import sympy as sp
from scipy.linalg import subspace_angles

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
    from scipy.stats import norm

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


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    derive()
    by_drawing()


if __name__ == "__main__":
    check()
    print("d13: transfer holds")
