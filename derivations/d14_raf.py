"""RAF: which of its wished-for properties hold, on what conditions, and how it moves with each part.

Statement    R, F and RAF lie in [0, 1]; RAF = 1 only where no shift loses anything and no subgroup is behind; names of subgroups
             and of classes do not matter.  RAF does not fall when the worst subgroup gains in a *shifted* cell, no further than
             the best one there, while the AUC of everyone does not fall.  A small gain dw of the worst in the *clean* cell, by
             which everyone's rises by h dw, raises RAF if and only if h < x_c/(C b F): x_c everyone's clean AUC above chance, b
             the best subgroup's, C the number of cells that F is a mean of.  When the *best* subgroup alone gains, F falls.
             dRAF/RAF = (dR/R + dF/F)/2, so an equal relative gain of either is worth the same.
             Of two designs, D apart in RAF, another test sample reverses the order with probability Φ(−D/σ) where the
             difference is Gaussian, and never more than σ²/(σ² + D²); σ² = gᵀCg, g the gradients side by side and C the
             covariance of all cells of both.
Refuted      "Non-decreasing in every score": raising the best subgroup lowers F; raising the clean metric alone lowers R.
             "Does not fall when the worst subgroup gains": (a) where it overtakes the best, 0.6 and 0.7 in every cell and 0.95
             in one: RAF 0.707 to 0.701; (b) in the clean cell, where everyone's AUC rises too and so less of it is kept.
Assumptions  No cell is clipped where a gradient is taken; the worst and the best subgroup are unique there, and for σ in other
             samples too: they are apart by more than the standard error.  σ by the delta method is of first order.  The mean
             of the difference over samples is D.  Factors: difference of class means, many features, classes equal in number.
Source       Cantelli 1928; DeLong et al. 1988 (covariance of AUCs).
"""

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp
from scipy.stats import norm, rankdata

from rafmodel import sampling, theory
from rafmodel import symbols as s
from rafmodel.metrics import outcome, raf


def sensitivities() -> None:
    """Symbolic gradient of √(RF) in a cell of robustness and in the worst and best subgroup of a cell."""
    assert sp.simplify(sp.diff(sp.log(s.RAF.rhs), s.R) - 1 / (2 * s.R)) == 0
    assert sp.simplify(sp.diff(sp.log(s.RAF.rhs), s.F) - 1 / (2 * s.F)) == 0
    cells = 3
    clean = s.clean_
    x = sp.symbols("x_0:3", positive=True)
    robust = s.ROBUSTNESS.rhs.subs(s.S_cells, cells).doit().subs({s.kept[i]: x[i] for i in range(cells)})
    assert sp.simplify(sp.diff(robust, clean) + robust / clean) == 0  # clean alone up: R down
    worst, best = sp.symbols("w b", positive=True)
    assert sp.diff(worst / best, worst).is_positive
    assert sp.diff(worst / best, best).is_negative
    # symbolic and automatic gradients agree
    value = sp.sqrt(robust * worst / best)
    symbols = (*x, clean, worst, best)
    at = (0.2, 0.25, 0.3, 0.4, 0.15, 0.35)
    ours = jax.grad(lambda *v: jnp.sqrt(sum(v[:3]) / 3 / v[3] * v[4] / v[5]), tuple(range(6)))(*map(jnp.asarray, at))
    stated = [float(sp.diff(value, symbol).subs(dict(zip(symbols, at, strict=True)))) for symbol in symbols]
    np.testing.assert_allclose([float(g) for g in ours], stated, rtol=1e-5)


def when_the_worst_gains() -> None:
    """The conditions under which RAF follows the worst subgroup, from its logarithm."""
    worst, best, second, others, cells, everyone, h = sp.symbols("w b b_2 f C x_c h", positive=True)
    fair = (worst / best + others) / cells  # of C cells; the others' ratios do not move
    # behind the best: the ratio rises; ahead of it the same gain lowers what the former best is of the new one
    assert sp.diff(fair, worst).is_positive
    assert sp.diff(second / worst, worst).is_negative
    # in the clean cell: everyone's goes with h, and R with its inverse
    robust = s.R / (everyone + h * (worst - s.w_start))  # what is kept over clean
    slope = sp.diff(sp.log(robust * fair), worst).subs({worst: s.w_start})
    now = fair.subs(worst, s.w_start)
    stated = 1 / (cells * best * now) - h / everyone
    assert sp.simplify(slope - stated) == 0
    [edge] = sp.solve(stated, h)
    assert sp.simplify(edge - everyone / (cells * best * now)) == 0


def counter_examples() -> None:
    """(a) the worst overtakes the best, (b) a gain in the clean cell alone; and where the conditions hold."""
    table = np.tile([0.65, 0.6, 0.7], (1, 6, 1))
    over = table.copy()
    over[0, 3, 1] = 0.95
    assert abs(raf(table).raf - 0.7071) < 1e-4
    assert abs(raf(over).raf - 0.7005) < 1e-4
    over[0, 3, 1] = 0.7  # no further than the best
    assert raf(over).raf > raf(table).raf

    def everyone(*gaps: float) -> tuple[float, ...]:
        """AUC of all and of two halves, whose cases lie a gap above controls that are alike."""
        pair = [float(theory.auc(gap, 1.0, 1.0)) for gap in gaps]
        return float(np.mean(pair)), *pair

    table = np.tile(everyone(0.5, 0.9), (1, 6, 1))
    table[:, 0] = everyone(0.816, 1.6)
    gain = table.copy()
    gain[:, 0] = everyone(1.226, 1.6)
    assert 0.71 < table[0, 0, 1] < 0.72 < 0.80 < gain[0, 0, 1] < 0.81 < gain[0, 0, 2]
    assert raf(gain).fairness > raf(table).fairness
    assert raf(gain).raf < raf(table).raf - 0.02
    # the condition: a small step, everyone moved by h of it
    x_c, best, cells, found = table[0, 0, 0] - 0.5, table[0, 0, 2] - 0.5, 6, raf(table)
    edge = x_c / (cells * best * float(found.fairness))
    for h, rises in ((0.9 * edge, True), (1.1 * edge, False), (0.5, False)):
        step = table.copy()
        step[:, 0, 1] += 1e-5
        step[:, 0, 0] += h * 1e-5
        assert (raf(step).raf > found.raf) == rises, h


def classes_swapped() -> None:
    """What was a case is called a control, and scores are of the other class: every AUC is what it was, so RAF is."""
    swapped = {s.m_1: -s.m_0, s.m_0: -s.m_1, s.v_1: s.v_0, s.v_0: s.v_1}
    assert sp.simplify(s.AUC.rhs.subs(swapped, simultaneous=True) - s.AUC.rhs) == 0
    rng = np.random.default_rng(3)
    label, code = rng.integers(0, 2, 300), rng.integers(0, 2, 300)
    score = rng.normal(size=(2, 6, 300)).round(1) + label  # rounded: with ties
    score[1, 0] = score[0, 0]
    one, other = (outcome(sign * score, y, code, 2, 0.0).auc for sign, y in ((1, label), (-1, 1 - label)))
    np.testing.assert_allclose(one, other, rtol=1e-12)
    assert raf(one).raf == raf(other).raf > 0
    assert (
        raf(outcome(score, 1 - label, code, 2, 0.0).auc).raf != raf(one).raf
    )  # names alone, scores kept: another question


def sensitivity_to_factors() -> None:
    """RAF by every factor of a study: labels of each subgroup, features, flips, noise, view law, transfer, and gaps.

    Two subgroups of shares q of the labels and gaps a, b along two directions.  The first is moved by noise σ under shift and
    kept as ρ by the view law (scores see ρ²); transfer retains r of the gaps' squared length; flips η leave 1 − 2η of
    what is learned.
    """
    names = "N_a N_b d eta sigma rho r a_1 a_2 b_1 b_2"
    factors = sp.symbols(names, positive=True)
    n_a, n_b, features, eta, sigma, rho, kept, *gaps = factors
    total, a, b = n_a + n_b, sp.Matrix(gaps[:2]), sp.Matrix(gaps[2:])
    shares = {s.share_g[0]: n_a / total, s.share_g[1]: n_b / total, s.eta_g[0]: eta, s.eta_g[1]: eta}
    tilted = s.TILTED.rhs.subs(s.G, 2).doit().subs(shares)
    learned = sp.Matrix([tilted.subs({s.Delta_g[0]: a[i], s.Delta_g[1]: b[i]}) for i in range(2)])
    learned = sp.sqrt(kept) * sp.diag(rho**2, 1) * learned

    def above_chance(gap: sp.Matrix, noise: sp.Expr) -> sp.Expr:
        variance = learned[0] ** 2 * (1 + noise**2) + learned[1] ** 2 + 4 * features / total
        given = {s.m_1: sp.sqrt(kept) * learned.dot(gap), s.m_0: 0, s.v_1: variance, s.v_0: variance}
        return s.AUC.rhs.subs(given) - sp.Rational(1, 2)

    robust = above_chance((a + b) / 2, sigma) / above_chance((a + b) / 2, sp.Integer(0))
    fair = sum(above_chance(b, level) / above_chance(a, level) for level in (sigma, sp.Integer(0))) / 2
    value = s.RAF.rhs.subs({s.R: robust, s.F: fair})
    at = (150.0, 50.0, 60.0, 0.1, 1.5, 0.8, 0.9, 1.4, 0.9, 0.5, 1.1)

    def numeric(n_a, n_b, d, eta, noise, rho, r, *gaps):
        gaps, n = jnp.stack(gaps).reshape(2, 2), n_a + n_b
        view = 1 / rho - 1  # of a direction with variance 1 between images
        shrunk = jnp.stack([theory.gain(1.0, view) ** 2, 1.0])
        mean = jnp.sqrt(r) * shrunk * sampling.tilted(jnp.stack([n_a, n_b]) / n, jnp.stack([eta, eta]), gaps)
        law = theory.ProbeLaw(
            jnp.append(mean, 0.0), jnp.diag(jnp.stack([0.0, 0.0, 4 * d / n])), jnp.zeros(3), *[None] * 3
        )

        def score(gap, level):  # the third feature stands for all others
            half = jnp.append(jnp.sqrt(r) * gap, 0.0) / 2
            cov = jnp.diag(jnp.stack([1 + level**2, 1.0, 1.0]))
            return (
                theory.deploy(law, theory.Moments(jnp.stack([-half, half]), jnp.stack([cov, cov]), jnp.ones(2)))[0]
                - 0.5
            )

        everyone = gaps.mean(0)
        r_ = score(everyone, noise) / score(everyone, 0.0)
        f = (score(gaps[1], noise) / score(gaps[0], noise) + score(gaps[1], 0.0) / score(gaps[0], 0.0)) / 2
        return jnp.sqrt(r_ * f)

    with jax.enable_x64(True):
        automatic = jax.grad(numeric, tuple(range(11)))(*map(jnp.asarray, at))
        assert 0.3 < numeric(*map(jnp.asarray, at)) < 0.95
    here = dict(zip(factors, at, strict=True))
    symbolic = [float(sp.diff(value, factor).subs(here).rewrite(sp.erf).evalf()) for factor in factors]
    np.testing.assert_allclose([float(g) for g in automatic], symbolic, rtol=1e-8)
    slope = dict(zip(names.split(), symbolic, strict=True))
    assert slope["N_b"] > slope["N_a"]  # a label of the subgroup behind is worth more
    assert slope["sigma"] < 0 < slope["b_1"]  # noise hurts; the subgroup behind helps
    assert slope["rho"] < 0  # a view law that holds the noisy direction back helps here


def learned_from_labels() -> None:
    """The model of the last check, drawn: differences of means of images with flipped labels, AUC exact given the weights."""
    rng = np.random.default_rng(5)
    n, d, eta, gaps = (120, 40), 200, 0.1, np.array([[1.4, 0.9], [0.5, 1.1]])
    group = np.repeat([0, 1], n)
    y = np.tile([-0.5, 0.5], sum(n) // 2)
    found = np.zeros(2)
    for _ in range(300):
        x = rng.normal(size=(sum(n), d))
        x[:, :2] += y[:, None] * gaps[group]
        seen = np.where(rng.random(sum(n)) < eta, -y, y)
        w = x[seen > 0].mean(0) - x[seen < 0].mean(0)
        found += [norm.cdf(w[:2] @ gap / np.sqrt(2 * w @ w)) / 300 for gap in gaps]
    learned = np.asarray(sampling.tilted(jnp.array([0.75, 0.25]), jnp.array([eta, eta]), jnp.asarray(gaps)))
    stated = norm.cdf(gaps @ learned / np.sqrt(2 * (learned @ learned + 4 * d / sum(n))))
    np.testing.assert_allclose(found, stated, atol=0.006)


# ---- ranking


def cantelli() -> None:
    """For any x ≥ 0, P(D̂ ≤ 0) ≤ E(D̂ − D − x)²/(D + x)², by Markov; the best x gives the bound.  The Gaussian's is below it."""
    x = sp.Symbol("x", positive=True)
    markov = (s.sigma**2 + x**2) / (s.ahead + x) ** 2
    best = s.sigma**2 / s.ahead
    assert sp.simplify(sp.diff(markov, x).subs(x, best)) == 0
    assert sp.simplify(markov.subs(x, best) - s.FLIPPED_BOUND.rhs) == 0
    assert sp.limit(s.FLIPPED_BOUND.rhs, s.sigma, 0) == 0
    ratio = np.linspace(0, 8, 400)
    assert (np.asarray(sampling.flipped(ratio, 1.0)) <= np.asarray(sampling.flipped_bound(ratio, 1.0))).all()


GAPS = np.array([[[2.1, 1.9, 1.7, 1.5, 1.3, 1.1], [1.2, 1.1, 0.95, 0.8, 0.7, 0.6]],
                 [[2.2, 1.95, 1.7, 1.4, 1.2, 1.0], [1.2, 1.1, 0.95, 0.8, 0.65, 0.5]]])  # fmt: skip  # design, group, state


def _scores(rng: np.random.Generator, n: int) -> np.ndarray:
    """Scores (design, state, group, class, n): images are easy or hard for both designs and in every state."""
    shared = 0.8 * rng.normal(size=(1, 1, 2, 2, n))
    own = 0.6 * rng.normal(size=(2, 6, 2, 2, n))
    return shared + own + np.stack([np.zeros_like(GAPS), GAPS], -1).transpose(0, 2, 1, 3)[..., None]


def _below(case: np.ndarray, control: np.ndarray) -> np.ndarray:
    """Share of controls (..., n) below each case (..., m)."""
    together = np.concatenate([case, control], -1)
    m = case.shape[-1]
    inside = rankdata(case, axis=-1)
    return (rankdata(together, axis=-1)[..., :m] - inside) / control.shape[-1]


def _tables(score: np.ndarray) -> np.ndarray:
    """AUC (design, 1 shift, state, everyone and two groups)."""
    pooled = score.transpose(0, 1, 3, 2, 4).reshape(*score.shape[:2], 2, -1)
    everyone = _below(pooled[:, :, 1], pooled[:, :, 0]).mean(-1)
    return np.concatenate([everyone[..., None], _below(score[..., 1, :], score[..., 0, :]).mean(-1)], -1)[:, None]


def ranking() -> None:
    """How often two designs change places over test samples, against the delta method and the bound."""
    rng = np.random.default_rng(6)
    large, n = _scores(rng, 5_000), 150
    table = _tables(large)
    truth, eps = raf(table).raf, 1e-5
    gradient = np.zeros(table.shape)
    for at in np.ndindex(*table.shape):
        up, down = table.copy(), table.copy()
        up[at] += eps
        down[at] -= eps
        gradient[at] = (raf(up).raf - raf(down).raf)[at[0]] / (2 * eps)
    gradient[1] *= -1  # of the difference
    # what each image adds to each AUC, from its rank among the other class (DeLong): stratum = group and class
    variance = 0.0
    for g in range(2):
        for c in range(2):
            mine, group = large[:, :, g, c], large[:, :, g, 1 - c]
            other = large[:, :, :, 1 - c].reshape(2, 6, -1)
            sign = 1 if c else -1
            parts = np.zeros((2, 1, 6, 3, 5_000))
            parts[:, 0, :, 0] = (
                sign * _below(mine, other) / 2
            )  # half of everyone's cases, or controls, are of the group
            parts[:, 0, :, 1 + g] = sign * _below(mine, group)
            variance += np.einsum("dfsg,dfsgn->n", gradient, parts).var() / n
    error, ahead = variance**0.5, float(truth[0] - truth[1])
    drawn = np.array([np.subtract(*raf(_tables(_scores(rng, n))).raf) for _ in range(1_500)])
    assert abs(drawn.std() / error - 1) < 0.08, (drawn.std(), error)
    reversed_ = (drawn < 0).mean()
    assert 0.1 < reversed_ < 0.4
    assert abs(reversed_ - float(sampling.flipped(ahead, error))) < 0.04, (reversed_, ahead, error)
    assert reversed_ < float(sampling.flipped_bound(ahead, error))
    print(
        f"  two designs {ahead:.3f} apart in RAF, s.e. {error:.3f} of 4 x {n} images: reversed in {reversed_:.1%} of samples"
    )


def by_difference() -> None:
    """The gradient of the package's own RAF, by finite differences, has these values and signs."""
    rng = np.random.default_rng(0)
    metric = 0.75 + 0.02 * rng.random((1, 6, 3))
    metric[0, 0] = (0.9, 0.88, 0.92)
    metric[:, :, 1] -= 0.1  # the worst subgroup everywhere
    base, eps = raf(metric), 1e-6

    def moved(*cell: int) -> float:
        up = metric.copy()
        up[cell] += eps
        return float((raf(up).raf - base.raf) / eps)

    score, clean = float(base.raf), metric[0, 0, 0] - 0.5
    # a shifted cell of everyone: RAF / 2 · (1 / (5 clean)) / R
    assert abs(moved(0, 3, 0) - score / 2 / (5 * clean) / float(base.robustness)) < 1e-4
    assert abs(moved(0, 0, 0) + score / 2 / clean) < 1e-4
    best, worst = metric[0, 3, 2] - 0.5, metric[0, 3, 1] - 0.5
    assert abs(moved(0, 3, 1) - score / 2 / float(base.fairness) / best / 6) < 1e-4
    assert abs(moved(0, 3, 2) + score / 2 / float(base.fairness) * worst / best**2 / 6) < 1e-4


def properties() -> None:
    """Random tables: range, relabelling, the worst group's gain, the best group's, and equality."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        metric = 0.5 + 0.5 * rng.random((2, 6, 4))
        metric[:, 0] = metric[:1, 0]
        found = raf(metric)
        assert 0 <= found.robustness <= 1
        assert 0 <= found.fairness <= 1
        assert abs(found.raf - (found.robustness * found.fairness) ** 0.5) < 1e-12
        relabelled = raf(metric[..., [0, 3, 1, 2]])
        assert abs(relabelled.raf - found.raf) < 1e-12
        cell = (1, 4)
        ranks = metric[cell][1:].argsort() + 1
        gain = metric.copy()
        gain[(*cell, ranks[0])] = metric[(*cell, ranks[1])]
        assert raf(gain).raf >= found.raf
        ahead = metric.copy()
        ahead[(*cell, ranks[-1])] += 0.05
        assert raf(ahead).fairness < found.fairness  # the counter-example to "more is never worse"
    assert raf(np.full((3, 6, 3), 0.8)).raf == 1
    assert raf(np.concatenate([np.full((3, 6, 2), 0.8), np.full((3, 6, 1), 0.79)], -1)).raf < 1


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    sensitivities()
    when_the_worst_gains()
    counter_examples()
    classes_swapped()
    sensitivity_to_factors()
    learned_from_labels()
    cantelli()
    ranking()
    by_difference()
    properties()


if __name__ == "__main__":
    check()
    print("d14: RAF's properties hold on their conditions; two wishes are refuted")
