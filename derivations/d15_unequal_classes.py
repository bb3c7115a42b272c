"""Probes of unequal classes: other counts, covariances, label quality or weights; logistic loss; re-sampling.

Statement    The weights of a regularised linear probe with a free offset have the mean and variance of the equations leverage to
             weights-variance, and for the logistic loss the same with the force of logistic-force; the offset is where the
             forces of both classes cancel (balance, offset).  A regularised discriminant has the rates of discriminant-*.  A
             class drawn with replacement is worth the images of resampled to a mean; to a probe its images have random weights
             (repeats).
Assumptions  Gaussian classes; n and d large together, so that the offset, one number, is its mean but for 1/√n; balanced
             weights go by the true class.
Limit        Equal classes give back ``d05``, and their offset is 0; the squared loss and one covariance give back the
             discriminant at any counts; white features and a large ridge give back ``d04``; drawing without end gives back n.
             Flips turn the mean weights by their class's share, so those of one class alone shrink them as half as many in both
             do; they add less spread, for the offset learns what the labels of that class have in common.
Source       Mai, Liao, Couillet 2019; Salehi, Abbasi, Hassibi 2019 (logistic); Kish 1965.
"""

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp
from scipy.optimize import minimize
from scipy.stats import norm

from rafmodel import probes, theory, unequal
from rafmodel import symbols as s
from rafmodel.asked import BINARY

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
    given = {s.theta_c[s.y_c]: theta, s.eta_c[s.y_c]: (1 - c) / 2, s.class_mean[s.y_c]: m, s.v_c[s.y_c]: v}
    assert sp.simplify(s.PULL.rhs.subs(given) - mean) == 0
    assert sp.simplify(s.FORCE.rhs.subs(given) - square) == 0


def offset() -> None:
    """No penalty holds the offset, so the forces of all images cancel; which also makes the middle of the classes free.

    Signed by their class, scores have the mean m ± b.  Around any middle c the force on the weights is Σ force (c ± u + ξ),
    and Σ force c = 0, so that the pull along u is Σ_c p_c ψ_c as if the middle were known.
    """
    m, b = sp.symbols("m b", real=True)
    share, theta, clean = (sp.symbols(f"{name}_0 {name}_1", positive=True) for name in ("p", "t", "k"))
    pull = [theta[c] * (clean[c] - m - (2 * c - 1) * b) for c in (0, 1)]
    by_class = {s.share_c: share, s.theta_c: theta}
    given = {name[c]: value[c] for name, value in by_class.items() for c in (0, 1)} | {s.score_mean: m}
    given |= {s.eta_c[c]: (1 - clean[c]) / 2 for c in (0, 1)}
    balance = (s.BALANCE.lhs - s.BALANCE.rhs).subs({s.psi_c[c]: pull[c] for c in (0, 1)}).subs(given)
    found = sp.solve(balance, b)[0]
    assert sp.simplify(found - s.OFFSET.rhs.doit().subs(given)) == 0
    equal = {share[1]: share[0], theta[1]: theta[0], clean[1]: clean[0]}
    assert sp.simplify(found.subs(equal)) == 0


def offset_gives_the_discriminant() -> None:
    """Squared loss, one covariance, no flips: mean weights a Ru, and the spread of a discriminant with n for n − 2.

    With T = tr ΣRΣR, A = uᵀRΣRu and n θ² T = df₂ (κ = λ/θ): ``v`` closes on the form of discriminant-*, a²[...]/(1 − df₂/n).
    """
    p, n, m, v, theta, a_form, trace = sp.symbols("p n m v theta A T", positive=True)
    share = (1 - p, p)
    b = (2 * p - 1) * (1 - m)  # OFFSET with one θ
    scores = [m + (2 * c - 1) * b for c in (0, 1)]
    level = sp.simplify(sum(share[c] * theta * (1 - scores[c]) for c in (0, 1)))
    square = sum(share[c] * theta**2 * ((1 - scores[c]) ** 2 + v) for c in (0, 1))
    variance = sp.solve(v - (level**2 * a_form + square * trace / n), v)[0]
    counts = 1 / (n * p) + 1 / (n * (1 - p))
    stated = level**2 / 4 * (4 * a_form + counts * trace) / (1 - theta**2 * trace / n)
    assert sp.simplify(variance - stated) == 0
    # the ridge probe that takes the middle of its class means δ̂ apart: Sherman and Morrison, the direction is R δ̂ for any q > 0
    q, reach = sp.symbols("q r", positive=True)  # weight of δ̂δ̂ᵀ beside the scatter within; δ̂ᵀRδ̂
    coefficient = sp.Symbol("k")
    turned = sp.solve(coefficient + q * coefficient * reach - 1, coefficient)[0]  # (R⁻¹ + q δ̂δ̂ᵀ) k Rδ̂ = δ̂
    assert turned.is_positive
    # the logistic force is −ℓ' of log(1 + exp(−a)) at a = h + ω γ r: an image moves its own score by its weight, too
    a = sp.Symbol("a", real=True)
    slope = -sp.diff(sp.log(1 + sp.exp(-a)), a).subs(a, s.margin + s.omega_c[s.y_c] * s.gamma_c[s.y_c] * s.residual)
    assert sp.simplify(slope - s.LOGISTIC_FORCE.rhs) == 0


def equal_classes() -> None:
    """κ = λ(1 + γ): leverage becomes the fixed point of d05, and the mean weights those of Sherman and Morrison; b = 0."""
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


def repeats() -> None:
    """Draws with replacement fall on an image a Poisson number of times; two numbers have its moments up to the third."""
    few, many, chance = s.REPEATS_FEW.rhs, s.REPEATS_MANY.rhs, s.REPEATS.rhs
    r = s.again
    for power, moment in enumerate((1, r, r**2 + r, r**3 + 3 * r**2 + r)):
        assert sp.simplify((1 - chance) * few**power + chance * many**power - moment) == 0
    assert chance.subs(r, 0) == few.subs(r, 0) == 0


D, COUNT, FLIP, RIDGE = 40, (90, 30), (0.05, 0.2), 0.4


def classes() -> tuple[np.ndarray, list[np.ndarray]]:
    """Half gap and two covariances that share no eigenbasis."""
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(D, D)))[0]
    half = np.full(D, 1.2 / D**0.5)
    return half, [np.diag(np.geomspace(3, 0.2, D)), (turn * np.geomspace(2, 0.6, D)) @ turn.T]


def trained(rng: np.random.Generator, weight: tuple[float, float], loss: str) -> np.ndarray:
    """Weights of one probe with a free offset, its last number, by the normal equations or by a general optimiser."""
    half, cov = classes()
    x, seen, w = [], [], []
    for side, (count, flip, at, each) in enumerate(zip(COUNT, FLIP, cov, weight, strict=True)):
        sign = 2 * side - 1
        x.append(rng.normal(size=(count, D)) @ np.linalg.cholesky(at).T + sign * half)
        seen.append(sign * np.where(rng.random(count) < flip, -1, 1))
        w.append(np.full(count, each))
    x, seen, w = np.concatenate(x), np.concatenate(seen), np.concatenate(w)
    n, x = len(x), np.column_stack([x + 3, np.ones(len(x))])  # far from the origin, which the offset makes up for
    held = RIDGE * np.append(np.ones(D), 0)
    if loss == "squared":
        return np.linalg.solve(x.T @ (w[:, None] * x) / n + np.diag(held), x.T @ (w * seen) / n)

    def cost(v: np.ndarray) -> tuple[float, np.ndarray]:
        a = seen * (x @ v)
        pull = w * seen / (1 + np.exp(a))
        return (w * np.log1p(np.exp(-a))).mean() + held @ v**2 / 2, -x.T @ pull / n + held * v

    return minimize(cost, np.zeros(D + 1), jac=True, method="L-BFGS-B", options={"gtol": 1e-8}).x


def by_simulation() -> None:
    """Score means, variances and offsets of drawn probes: classes unequal in all four ways at once, for both losses."""
    half, cov = classes()
    source = theory.Moments(jnp.stack([-half, half]), jnp.stack(cov), jnp.ones(2))
    rng, draws = np.random.default_rng(2), 400
    for weight in ((1.0, 1.0), (120 / 180, 120 / 60)):
        for loss in unequal.LOSSES:
            law = unequal.probe(source, COUNT, flip=FLIP, ridge=RIDGE, weight=weight, loss=loss)
            fits = np.stack([trained(rng, weight, loss) for _ in range(draws)])
            w, lift = fits[:, :D], fits[:, D] + 3 * fits[:, :D].sum(1)
            second = np.asarray(law.cov + law.mean[:, None] * law.mean[None, :])
            found = [w @ half, *(np.einsum("ni,ij,nj->n", w, c, w) for c in cov), lift]
            stated = [float(law.mean @ half), *(float((second * c).sum()) for c in cov), float(law.offset)]
            for drawn, value in zip(found, stated, strict=True):
                # corrections of order 1/n beside chance
                assert abs(drawn.mean() - value) < 4 * drawn.std() / draws**0.5 + 0.02 * abs(value), (weight, loss)


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
    """Flips of one class alone turn the weights as half as many in both do, with less spread: the offset learns their share."""
    half, (cov, _) = classes()
    source = theory.Moments(jnp.stack([-half, half]), jnp.stack([cov] * 2), jnp.ones(2))
    one = unequal.probe(source, (60, 60), flip=(0.0, 0.3), ridge=RIDGE)
    both = theory.probe(source, 120, flip=0.15, ridge=RIDGE)
    # not the same: the rank-one term of the gap, of order 1/n, is kept in one and not in the other
    np.testing.assert_allclose(one.mean, both.mean, rtol=0.02)
    # a label's variance given its class is 1 − (1 − 2η)², on average less by the variance 0.3² of 1 − 2η over classes
    of_unit = theory.probe(source, 120, flip=0.5, ridge=RIDGE).cov
    assert abs(float(jnp.trace(one.cov) / jnp.trace(both.cov - 0.3**2 * of_unit)) - 1) < 0.03


# ---- weights and re-sampling compared, for the package's own probes

SIZE, LABELS, RELATIVE = 64, 256, 0.1  # features, labels, ridge relative to the mean variance
SPECTRUM, GAP = np.geomspace(4.0, 0.3, SIZE), np.full(SIZE, 2.2 / SIZE**0.5)
BALANCES = ("none", "weights", "re-sampling", "fewer controls")


def foreseen(kind: str, balance: str, cases: int) -> list[float]:
    """AUC, and TPR and FPR of scores above 0, of probes from LABELS labels."""
    cov = jnp.stack([jnp.diag(jnp.asarray(SPECTRUM))] * 2)
    source = theory.Moments(jnp.stack([-jnp.asarray(GAP), jnp.asarray(GAP)]) / 2, cov, jnp.ones(2))
    count = np.array([cases if balance == "fewer controls" else LABELS - cases, cases], float)
    weight = np.ones(2) if balance in ("none", "fewer controls") else count.sum() / (2 * count)
    loss = "logistic" if kind == "logistic" else "squared"
    ridge = unequal.penalty(source, jnp.asarray(count), jnp.asarray(weight), ridge=RELATIVE, loss=loss)
    again = (0.0, count[0] / count[1] - 1) if balance == "re-sampling" else (0.0, 0.0)
    law = unequal.probe(source, count, flip=(0.0, 0.0), ridge=ridge, weight=weight, again=again, loss=loss)
    area, *rates = theory.deploy(law, source, -law.offset)
    if kind == "ridge" and balance == "none":  # its threshold is the middle of the class means
        rates = unequal.discriminant_rates(source, count, ridge=ridge)[:2]
    return [float(area), *map(float, rates)]


def fitted(rng: np.random.Generator, kind: str, balance: str, cases: int, draws: int) -> np.ndarray:
    """AUC, TPR and FPR (draws, 3) of the package's probes, exact given their weights."""
    rates = np.empty((draws, 3))
    for row in range(draws):
        count = (cases if balance == "fewer controls" else LABELS - cases, cases)
        label = np.repeat([0, 1], count)
        x = rng.normal(size=(len(label), SIZE)) * SPECTRUM**0.5 + (label[:, None] - 0.5) * GAP
        weight = np.array([len(label) / (2 * n) for n in count])[label] if balance == "weights" else None
        if balance == "re-sampling":  # every image, and those of the rarer class again until there are as many
            again = count[0] + rng.integers(0, cases, count[0] - cases)
            x, label = np.concatenate([x, x[again]]), np.concatenate([label, label[again]])
        score = probes.fitted(kind, x, label, RELATIVE, weight, BINARY)
        lift = score(np.zeros((1, SIZE)))[0]
        w = score(np.eye(SIZE)) - lift
        scale = np.sqrt(w**2 @ SPECTRUM)
        rates[row] = norm.cdf([w @ GAP / scale / 2**0.5, (lift + w @ GAP / 2) / scale, (lift - w @ GAP / 2) / scale])
    return rates


def balances(draws: int, prevalences: tuple[float, ...], chosen: tuple[str, ...] = BALANCES) -> list[str]:
    """Rows of the table of ``README.md``: theory, and simulation ± its standard error; they must agree."""
    rng, rows = np.random.default_rng(5), []
    for share in prevalences:
        for balance in chosen[: len(chosen) if share < 0.5 else 1]:  # at a half there is nothing to balance
            cells = []
            for kind in ("ridge", "logistic"):
                stated = foreseen(kind, balance, round(share * LABELS))
                drawn = fitted(rng, kind, balance, round(share * LABELS), draws)
                error = drawn.std(0) / draws**0.5
                left = 4 * error + np.array([0.003, 0.006, 0.006])  # beside chance: of order 1/n
                assert (np.abs(drawn.mean(0) - stated) < left).all(), (share, balance, kind, stated, drawn.mean(0))
                triples = zip(stated, drawn.mean(0), error, strict=True)
                cells += [f"{one:.3f} ({other:.3f} ± {se:.3f})" for one, other, se in triples]
            rows.append(f"| {share:.0%} | {balance} | {' | '.join(cells)} |")
    return rows


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    force()
    offset()
    offset_gives_the_discriminant()
    equal_classes()
    discriminant()
    resampling()
    repeats()
    with jax.enable_x64(True):
        by_simulation()
        discriminant_by_simulation()
        one_sided_flips()
        balances(60, (0.1,))


if __name__ == "__main__":
    check()
    with jax.enable_x64(True):
        columns = [f"{kind} {what}" for kind in ("ridge", "logistic") for what in ("AUC", "TPR", "FPR")]
        print(
            "\n".join(
                [f"| cases | balance | {' | '.join(columns)} |", "|---" * 8 + "|", *balances(300, (0.1, 0.3, 0.5))]
            )
        )
    print("d15: probes of unequal classes hold")
