"""Probes of unequal classes: other counts, covariances, label quality or weights; logistic loss; re-sampling.

Statement    The weights of a regularised linear probe have the mean and variance of the equations leverage to
             weights-variance, and for the logistic loss the same with the force of logistic-force.  A regularised discriminant
             has the rates of discriminant-*.  A class drawn with replacement is worth the images of resampled.
Assumptions  Gaussian classes, scores centred at the midpoint of their means; n and d large together.
Limit        Equal classes give back ``d05``; white features and a large ridge give back ``d04``; drawing
             without end gives back n.  Flips act on the pull by their class's share, so those of one class alone cost
             what half as many in both do.
Source       Mai, Liao, Couillet 2019; Salehi, Abbasi, Hassibi 2019 (logistic); Kish 1965.
"""

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp
from scipy.optimize import minimize
from scipy.stats import norm

from rafmodel import symbols as s
from rafmodel import theory, unequal

h, omega, gamma, c = sp.symbols("h omega gamma c", positive=True)
label = sp.Symbol("y", real=True)  # ±1


def force() -> None:
    """Leaving an image out: its score moves by γ times its own force; slope, mean and mean square over score and label."""
    r = sp.Symbol("r")
    own = omega * label * r  # the force of the image itself
    left = sp.solve((r - (1 - label * (h + gamma * own))).expand().subs(label**2, 1), r)[0]
    theta = omega / (1 + omega * gamma)
    assert sp.simplify(sp.diff(own.subs(r, left), h).subs(label**2, 1) + theta) == 0
    given = {s.omega_c[s.y_c]: omega, s.gamma_c[s.y_c]: gamma}
    assert sp.simplify(s.SLOPE.rhs.subs(given) - theta) == 0
    # over labels: E y = 1 − 2η = c, y² = 1; over scores: E h = m, E h² = m² + v
    m, v = sp.symbols("m v", positive=True)

    def averaged(expression: sp.Expr) -> sp.Expr:
        form = sp.Poly(sp.expand(expression), label, h)
        parts = {1: 1, label: c, h: m, label * h: c * m, h**2: m**2 + v}
        return sum(form.coeff_monomial(monomial) * mean for monomial, mean in parts.items())

    mean = theta * averaged(sp.expand(label * (1 - label * h)).subs(label**2, 1))
    square = theta**2 * averaged(sp.expand((1 - label * h) ** 2).subs(label**2, 1))
    given = {s.theta_c[s.y_c]: theta, s.eta_c[s.y_c]: (1 - c) / 2, s.score_mean: m, s.v_c[s.y_c]: v}
    assert sp.simplify(s.PULL.rhs.subs(given) - mean) == 0
    assert sp.simplify(s.FORCE.rhs.subs(given) - square) == 0
    # the logistic force is −ℓ' of log(1 + exp(−a)) at a = h + ω γ r: an image moves its own score by its weight, too
    a = sp.Symbol("a", real=True)
    slope = -sp.diff(sp.log(1 + sp.exp(-a)), a).subs(a, s.margin + s.omega_c[s.y_c] * s.gamma_c[s.y_c] * s.residual)
    assert sp.simplify(slope - s.LOGISTIC_FORCE.rhs) == 0


def equal_classes() -> None:
    """κ = λ(1 + γ): leverage becomes the fixed point of d05, and the mean weights those of Sherman and Morrison."""
    ell, lam, a, m = sp.symbols("l lambda a m", positive=True)
    theta = 1 / (1 + gamma)
    held = lam + theta * ell
    kappa = lam * (1 + gamma)
    assert sp.simplify(ell / held - (1 + gamma) * ell / (ell + kappa)) == 0
    # m = s uᵀR₀u with s = θ(c − m) and uᵀR₀u = (1 + γ) a, a = uᵀ(Σ_w + κ)⁻¹u
    score = sp.solve(m - theta * (c - m) * (1 + gamma) * a, m)[0]
    assert sp.simplify(theta * (c - score) * (1 + gamma) - c / (1 + a)) == 0
    # spread: v = (…) closes on noise/(n − df₂), with S = Σ ℓ²/(ℓ+κ)²/n = D
    v, share, b = sp.symbols("v D b", positive=True)
    found = sp.solve(v - ((c / (1 + a)) ** 2 * (a - kappa * b) + share * (1 - 2 * c * score + score**2 + v)), v)[0]
    per_trace = 1 - 2 * c * score + score**2 + found
    stated = (1 - c**2 * (a / (1 + a) + kappa * b / (1 + a) ** 2)) / (1 - share)
    assert sp.simplify(per_trace - stated) == 0


def discriminant() -> None:
    """Sample means bring the traces, the sample covariance the factor 1/(1 − df₂/ν); a large ridge gives back d04."""
    white = {s.d: 3}
    reach = s.DISCRIMINANT_TPR.rhs.subs(white).doit()
    each = {s.ell[i]: 1 for i in range(3)} | {s.delta_[i]: s.Delta / sp.sqrt(3) for i in range(3)}
    found = reach.subs(each).subs(s.df_2, 0).args[0]
    stated = s.IMBALANCE_TPR.rhs.subs(white).args[0]
    assert sp.simplify(found - stated) == 0  # κ cancels: with white features the ridge turns no weight


def resampling() -> None:
    """The mean of b draws from n images, given them: conditional variance (1 − 1/n)σ²/b beside σ²/n."""
    n, b = sp.symbols("n b", positive=True)
    within = 1 - 1 / n  # expected variance of a sample of n, by n
    assert sp.simplify(1 / (1 / n + within / b) - s.RESAMPLED.rhs.subs({s.n: n, s.drawn: b})) == 0
    assert sp.limit(s.RESAMPLED.rhs.subs(s.n, n), s.drawn, sp.oo) == n
    rng, images = np.random.default_rng(0), 12
    x = rng.normal(size=(60_000, images))
    means = np.take_along_axis(x, rng.integers(0, images, (60_000, 30)), 1).mean(1)
    expected = float(1 / s.RESAMPLED.rhs.subs({s.n: images, s.drawn: 30}))
    assert abs(means.var() - expected) < 4 * expected * (2 / 60_000) ** 0.5


D, COUNT, FLIP, RIDGE = 40, (90, 30), (0.05, 0.2), 0.4


def classes() -> tuple[np.ndarray, list[np.ndarray]]:
    """Half gap and two covariances that share no eigenbasis."""
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(D, D)))[0]
    half = np.full(D, 1.2 / D**0.5)
    return half, [np.diag(np.geomspace(3, 0.2, D)), (turn * np.geomspace(2, 0.6, D)) @ turn.T]


def trained(rng: np.random.Generator, weight: tuple[float, float], loss: str) -> np.ndarray:
    """Weights of one probe, by the normal equations or by a general optimiser."""
    half, cov = classes()
    x, seen, w = [], [], []
    for side, (count, flip, at, each) in enumerate(zip(COUNT, FLIP, cov, weight, strict=True)):
        sign = 2 * side - 1
        x.append(rng.normal(size=(count, D)) @ np.linalg.cholesky(at).T + sign * half)
        seen.append(sign * np.where(rng.random(count) < flip, -1, 1))
        w.append(np.full(count, each))
    x, seen, w = np.concatenate(x), np.concatenate(seen), np.concatenate(w)
    n = len(x)
    if loss == "squared":
        return np.linalg.solve(x.T @ (w[:, None] * x) / n + RIDGE * np.eye(D), x.T @ (w * seen) / n)

    def cost(v: np.ndarray) -> tuple[float, np.ndarray]:
        a = seen * (x @ v)
        pull = w * seen / (1 + np.exp(a))
        return (w * np.log1p(np.exp(-a))).mean() + RIDGE * v @ v / 2, -x.T @ pull / n + RIDGE * v

    return minimize(cost, np.zeros(D), jac=True, method="L-BFGS-B", options={"gtol": 1e-8}).x


def by_simulation() -> None:
    """Score means and variances of both classes of drawn probes: unequal in all four ways at once, for both losses."""
    half, cov = classes()
    source = theory.Moments(jnp.stack([-half, half]), jnp.stack(cov), jnp.ones(2))
    rng, draws = np.random.default_rng(2), 400
    for weight in ((1.0, 1.0), (120 / 180, 120 / 60)):
        for loss in unequal.LOSSES:
            law = unequal.probe(source, COUNT, flip=FLIP, ridge=RIDGE, weight=weight, loss=loss)
            w = np.stack([trained(rng, weight, loss) for _ in range(draws)])
            second = np.asarray(law.cov + law.mean[:, None] * law.mean[None, :])
            found = [w @ half, *(np.einsum("ni,ij,nj->n", w, c, w) for c in cov)]
            stated = [float(law.mean @ half), *(float((second * c).sum()) for c in cov)]
            for drawn, value in zip(found, stated, strict=True):
                # corrections of order 1/n beside chance
                assert abs(drawn.mean() - value) < 4 * drawn.std() / draws**0.5 + 0.02 * value, (weight, loss)


def discriminant_by_simulation() -> None:
    """Regularised discriminants at 1:5 and correlated features: mean rates against the closed forms."""
    rng, draws, ridge = np.random.default_rng(3), 400, 0.3
    half, (cov, _) = classes()
    low, count = np.linalg.cholesky(cov), (150, 30)
    rates = []
    for _ in range(draws):
        x = [rng.normal(size=(k, D)) @ low.T + sign * half for k, sign in zip(count, (-1, 1), strict=True)]
        means = [part.mean(0) for part in x]
        scatter = sum((p - m).T @ (p - m) for p, m in zip(x, means, strict=True)) / (sum(count) - 2)
        w = np.linalg.solve(scatter + ridge * np.eye(D), means[1] - means[0])
        cut = w @ (means[0] + means[1]) / 2
        size = (w @ cov @ w) ** 0.5
        rates.append([norm.cdf((w @ half - cut) / size), norm.cdf((-w @ half - cut) / size)])
    source = theory.Moments(jnp.stack([-half, half]), jnp.stack([cov] * 2), jnp.ones(2))
    stated = unequal.discriminant_rates(source, count, ridge=ridge)[:2]
    for drawn, value in zip(np.transpose(rates), stated, strict=True):
        # Φ at the mean is not the mean of Φ: second order
        assert abs(drawn.mean() - float(value)) < 4 * drawn.std() / draws**0.5 + 0.005


def one_sided_flips() -> None:
    """Flips of one class alone act as half as many in both: balanced classes of one covariance."""
    half, (cov, _) = classes()
    source = theory.Moments(jnp.stack([-half, half]), jnp.stack([cov] * 2), jnp.ones(2))
    one = unequal.probe(source, (60, 60), flip=(0.0, 0.3), ridge=RIDGE)
    both = theory.probe(source, 120, flip=0.15, ridge=RIDGE)
    # not equal: the rank-one term of the gap, of order 1/n, is kept in one and not in the other
    np.testing.assert_allclose(one.mean, both.mean, rtol=0.02)
    assert abs(float(jnp.trace(one.cov) / jnp.trace(both.cov)) - 1) < 0.03


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    force()
    equal_classes()
    discriminant()
    resampling()
    with jax.enable_x64(True):
        by_simulation()
        discriminant_by_simulation()
        one_sided_flips()


if __name__ == "__main__":
    check()
    print("d15: probes of unequal classes hold")
