"""RAF: which of its wished-for properties hold, and how it moves with each part.

Statement    R, F and RAF lie in [0, 1]; RAF = 1 only where no shift loses anything and no subgroup is behind; RAF does not fall
             when the worst subgroup alone gains; names of subgroups and of classes do not matter; when the *best* subgroup
             alone gains, F falls.  dRAF/RAF = (dR/R + dF/F)/2, so an equal relative gain of either is worth the same.
Refuted      "Non-decreasing in every score": raising the best subgroup lowers F (counter-example below); raising the clean
             metric alone lowers R.
Assumptions  No cell is clipped where a gradient is taken; the worst and the best subgroup are unique there.
"""

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp

from rafmodel import symbols as s
from rafmodel import theory
from rafmodel.metrics import raf


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


def sensitivity_to_factors() -> None:
    """RAF of a difference-of-means classifier under noise, by each factor: number of labels, features, gaps, noise.

    Two subgroups of gaps Δ₁ > Δ₂; noise σ multiplies the s.d. of a feature by √(1 + σ²).
    """
    labels, features, sigma, ahead, behind = sp.symbols("N d sigma Delta_1 Delta_2", positive=True)

    def above_chance(gap: sp.Expr, noise: sp.Expr) -> sp.Expr:
        area = s.IMBALANCE_AUC.rhs.subs({s.n_1: labels / 2, s.n_0: labels / 2, s.d: features})
        return area.subs(s.Delta, gap / sp.sqrt(1 + noise**2)) - sp.Rational(1, 2)

    everyone = (ahead + behind) / 2
    robust = above_chance(everyone, sigma) / above_chance(everyone, sp.Integer(0))
    fair = (
        above_chance(behind, sigma) / above_chance(ahead, sigma)
        + above_chance(behind, sp.Integer(0)) / above_chance(ahead, sp.Integer(0))
    ) / 2
    value = s.RAF.rhs.subs({s.R: robust, s.F: fair})
    factors = (labels, features, sigma, ahead, behind)
    at = (200.0, 50.0, 0.8, 1.6, 1.2)

    def numeric(n, d, noise, a, b):
        def score(gap, level):
            shrunk = gap**2 / (1 + level**2)
            return theory.imbalance_rates(shrunk, d, n / 2, n / 2)[2] - 0.5

        r = score((a + b) / 2, noise) / score((a + b) / 2, 0.0)
        f = (score(b, noise) / score(a, noise) + score(b, 0.0) / score(a, 0.0)) / 2
        return jnp.sqrt(r * f)

    with jax.enable_x64(True):
        automatic = jax.grad(numeric, tuple(range(5)))(*map(jnp.asarray, at))
    here = dict(zip(factors, at, strict=True))
    symbolic = [float(sp.diff(value, factor).subs(here).rewrite(sp.erf).evalf()) for factor in factors]
    np.testing.assert_allclose([float(g) for g in automatic], symbolic, rtol=1e-8)
    assert symbolic[0] > 0  # labels help
    assert symbolic[2] < 0  # noise hurts
    assert symbolic[4] > 0  # the subgroup behind


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
    sensitivity_to_factors()
    by_difference()
    properties()


if __name__ == "__main__":
    check()
    print("d14: RAF's properties hold, one is refuted")
