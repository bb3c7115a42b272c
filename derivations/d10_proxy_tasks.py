"""Proxy tasks as operators: what each one keeps, and that the two-view losses agree where everything is linear.

Statement    (1) Among linear encoders with white output, InfoNCE's quadratic limit (alignment), VICReg's and Barlow Twins'
             optimum is the span of the leading eigenvectors of T: each maximises tr WᵀC_uvW under WᵀC_uuW = 1 (Ky Fan).
             (2) Rotation prediction keeps order m with ρ² = |E c_m|²/E|c_m|², and nothing where 4 divides m.
             (3) Asking for a patch's place (jigsaw, relative location) keeps ρ² = B/(B + W): B between places, W within.
             (4) Foretelling a patch from another (predictive coding, masking) keeps ρ = S/(S + own).
             (5) The exemplar task's views are those of the contrastive task: its operator is the same.
Assumptions  Linear encoder, second moments; quarter turns equally likely; patches of one place alike in law.
Limit        Without a preferred orientation (E c_m = 0) rotation prediction keeps nothing; a view law that is orthogonal to a
             variability (V = 0 there) buys no robustness to it and costs nothing.
Source       Balestriero, LeCun 2022; HaoChen et al. 2021 (spectral contrastive loss).
"""

import numpy as np
import sympy as sp
from scipy.optimize import minimize

from rafmodel import learning
from rafmodel import symbols as s


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
    # one patch from another of the image: C_uv is what they share
    given = {s.C_uv: s.between, s.C_uu: s.between + s.within}
    assert sp.simplify(s.PREDICTOR.rhs.subs(given) - s.CONTEXT.rhs) == 0


def price() -> None:
    """A view law that contains a variability shrinks its direction: less of the shift, and less of a class that lives there."""
    rho = s.GAIN.rhs
    assert sp.simplify(sp.diff(rho, s.view)).subs({s.between: 1, s.view: 1}) < 0
    assert sp.limit(rho, s.view, 0) == 1
    # one direction that the shift moves by variance E and the class by Δ, one that it does not: AUC argument of a fixed sum
    shift, other = sp.symbols("E Delta_2", positive=True)
    argument = (rho * s.Delta + other) / sp.sqrt(2 * (rho**2 * (1 + shift) + 1))
    slope = sp.diff(argument, s.view).subs({s.between: 1, s.view: sp.Rational(1, 2)})
    assert slope.subs({s.Delta: 1, other: 1, shift: 20}) > 0  # a strong shift there: the view law buys robustness
    assert slope.subs({s.Delta: 3, other: 1, shift: 0}) < 0  # no shift, and a class that lives there: it costs


def two_views_agree() -> None:
    """Minimise three losses by quasi-Newton over linear maps of 5 features to 2; compare their spans with T's."""
    rng = np.random.default_rng(0)
    between, view = np.diag([4.0, 2.5, 1.0, 0.5, 0.2]), np.diag([0.2, 2.0, 0.1, 2.0, 0.05])
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    cross, own = turn @ between @ turn.T, turn @ (between + view) @ turn.T
    root = np.linalg.inv(np.linalg.cholesky(own))
    vectors = np.linalg.eigh(root @ cross @ root.T)[1][:, ::-1]
    leading = root.T @ vectors[:, :2]

    def vicreg(w: np.ndarray) -> float:  # variance and covariance held by a stiff penalty, invariance between views
        w = w.reshape(5, 2)
        z, zz = w.T @ own @ w, w.T @ cross @ w
        return 2 * np.trace(z - zz) + 1e4 * ((np.diag(z) - 1) ** 2).sum() + 1e4 * 2 * z[0, 1] ** 2

    def barlow(w: np.ndarray) -> float:  # cross-correlation to identity
        w = w.reshape(5, 2)
        z, zz = w.T @ own @ w, w.T @ cross @ w
        c = zz / np.sqrt(np.outer(np.diag(z), np.diag(z)))
        return ((1 - np.diag(c)) ** 2).sum() + 10 * (c[0, 1] ** 2 + c[1, 0] ** 2)

    def spectral(w: np.ndarray) -> float:  # −2 E f(u)·f(v) + E (f(u)·f(v'))²: InfoNCE to second order
        w = w.reshape(5, 2)
        return -2 * np.trace(w.T @ cross @ w) + ((w.T @ own @ w) ** 2).sum()

    for loss in (vicreg, barlow, spectral):
        found = min(
            (minimize(loss, rng.normal(size=10), method="BFGS", options={"gtol": 1e-9}) for _ in range(8)),
            key=lambda one: one.fun,
        )
        w = found.x.reshape(5, 2)
        spans = [np.linalg.qr(np.linalg.inv(root.T) @ x)[0] for x in (w, leading)]  # in whitened features
        cosines = np.linalg.svd(spans[0].T @ spans[1])[1]
        assert cosines.min() > 0.999, (loss.__name__, cosines)


def by_regression() -> None:
    """Turned coefficients and placed patches, drawn; explained share of a least-squares fit."""
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
    common = rng.normal(size=n)
    one, two = common + 0.7 * rng.normal(size=(2, n))
    assert abs((one @ two) / (one @ one) - float(learning.kept_of_context(1.0, 0.49))) < 0.02


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    rotation()
    place()
    price()
    two_views_agree()
    by_regression()


if __name__ == "__main__":
    check()
    print("d10: proxy tasks as operators hold")
