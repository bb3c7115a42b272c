"""What a proxy task keeps of a direction: the operator T, its canonical correlation, the gain of a view law.

Statement    In a direction where images have variance B and two views of one image differ by independent draws of variance
             V, T has the eigenvalue ρ² with ρ = B/(B + V), and the best linear prediction of one view from the other is
             ρ times it.  A supervised target gives ρ² = Δ²/(Δ² + 4) along the class direction.
Assumptions  View noise independent of the image and between views; second moments only (no Gaussianity is needed); classes
             balanced, unit within-class variance along the direction for the supervised case.
Limit        V → 0: everything is kept (ρ = 1); V → ∞: nothing is (ρ = 0).  A view law that contains a variability shrinks
             the directions which it moves: robustness to it is bought with whatever class signal lives there.
Source       Hotelling 1936 (canonical correlation); Balestriero & LeCun 2022 for its link to contrastive tasks.
"""

import numpy as np
import sympy as sp

from rafmodel import symbols as s


def derive() -> None:
    """Moments of two views of one image, put into T."""
    image, one, two = sp.symbols("x e f")  # independent, mean zero
    variance = {image: s.between, one: s.view, two: s.view}

    def moment(product: sp.Expr) -> sp.Expr:
        """Expectation of a quadratic form in independent variables of mean zero: only squares survive."""
        form = sp.Poly(sp.expand(product), image, one, two)
        squares = [(v, form.coeff_monomial(v**2)) for v in (image, one, two)]
        return sum(c * variance[v] for v, c in squares)

    u, v = image + one, image + two
    given = {s.C_uu: moment(u * u), s.C_vv: moment(v * v), s.C_uv: moment(u * v)}
    rho = s.GAIN.rhs
    assert sp.simplify(s.OPERATOR.rhs.subs(given) - rho**2) == 0
    assert sp.simplify(s.PREDICTOR.rhs.subs(given) - rho) == 0
    w = sp.Symbol("w", real=True)
    best = sp.solve(sp.diff(moment((v - w * u) ** 2), w), w)
    assert sp.simplify(best[0] - rho) == 0
    assert sp.limit(rho, s.view, 0) == 1
    assert sp.limit(rho, s.view, sp.oo) == 0
    # a target of one number makes T = c cᵀ/C_vv: one direction is learnt, the rest stays where it began
    column = sp.Matrix(sp.symbols("c_1:4", positive=True))
    assert (column * column.T / s.C_vv).rank() == 1
    # supervised: label ±1, class means ±Δ/2, unit variance within
    labelled = {s.C_uu: 1 + s.Delta**2 / 4, s.C_vv: 1, s.C_uv: s.Delta / 2}
    assert sp.simplify(s.OPERATOR.rhs.subs(labelled) - s.OPERATOR_SUPERVISED.rhs) == 0


def by_simulation() -> None:
    """Canonical correlations of drawn views, in a basis where nothing is diagonal."""
    rng = np.random.default_rng(0)
    n, between, view = 200_000, np.array([3.0, 1.0, 0.2]), np.array([0.1, 1.0, 4.0])
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    image = rng.normal(size=(n, 3)) * between**0.5
    u, v = ((image + rng.normal(size=(n, 3)) * view**0.5) @ turn for _ in range(2))
    whiten = [np.linalg.inv(np.linalg.cholesky(np.cov(z.T))) for z in (u, v)]
    found = np.linalg.svd(whiten[0] @ (u.T @ v / n) @ whiten[1].T)[1]
    rho = between / (between + view)
    se = (1 - rho**2) / n**0.5  # large-sample standard error of a canonical correlation
    assert (np.abs(np.sort(found) - np.sort(rho)) < 4 * np.sort(se)[::-1]).all()


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    derive()
    by_simulation()


if __name__ == "__main__":
    check()
    print("d02: a view law keeps B / (B + V) of a direction")
