"""Several questions to one representation: classes against the rest, findings, grades or higher.

Statement    One resolvent serves all questions: the law of ridge weights is that of d05 with the covariance c of the features
             with an answer of variance 1 in place of half the gap, and 1 − cᵀΣ⁻¹c for what is left of it.  Of K equally frequent
             classes of which a wrong label names any other, c keeps the factor 1 − η K/(K−1), whatever set of classes means yes,
             and the answer its variance.  A finding that is wrong on its own keeps 1 − 2η of its covariance, and its variance
             becomes (1−2η)² v + η(1−η).
Assumptions  As d05; classes drawn in equal numbers; wrong labels independent of the image in a class.
Limit        K = 2 is d05.  η = (K−1)/K leaves nothing: the label given is then independent of the class.
Source       Own; d05 for the law.
"""

import itertools

import numpy as np
import sympy as sp

from rafmodel import symbols as s
from rafmodel import unequal


def kept_of_classes() -> None:
    """For every set of classes that means yes, K up to 5: E[answer given | class] is an offset plus a factor times the answer."""
    for k in range(2, 6):
        given = (1 - s.eta) * sp.eye(k) + s.eta / (k - 1) * (sp.ones(k, k) - sp.eye(k))  # row: class, column: label
        factor = 1 - s.eta * sp.Rational(k, k - 1)
        for size in range(1, k):
            for yes in itertools.combinations(range(k), size):
                answer = sp.Matrix([int(c in yes) for c in range(k)])
                told = given * answer
                offset = told[yes[0]] - factor
                assert sp.simplify(told - factor * answer - offset * sp.ones(k, 1)) == sp.zeros(k, 1)
                assert (
                    sp.simplify(sum(told) / k - sp.Rational(size, k)) == 0
                )  # as many say yes as before: so does its variance
        assert sp.simplify(factor.subs(s.eta, sp.Rational(k - 1, k))) == 0


def kept_of_a_finding() -> None:
    """Bernoulli p, flipped with chance η: total variance, within plus between."""
    p = sp.Symbol("p", positive=True)
    shown = p + s.eta * (1 - 2 * p)
    variance = (1 - 2 * s.eta) ** 2 * p * (1 - p) + s.eta * (1 - s.eta)
    assert sp.simplify(shown * (1 - shown) - variance) == 0


def noise_without_an_inverse() -> None:
    """κ² βᵀRΣRβ + 1 − βᵀΣβ with β = Σ⁻¹c is 1 − cᵀRc − κ cᵀR²c, in one eigendirection."""
    ell, c, kappa = sp.symbols("ell c kappa", positive=True)
    beta, resolvent = c / ell, 1 / (ell + kappa)
    left = kappa**2 * beta * resolvent * ell * resolvent * beta - beta * ell * beta
    assert sp.simplify(left + c * resolvent * c + kappa * c * resolvent**2 * c) == 0


def by_simulation() -> None:
    """Covariance of features with answers that were relabelled one by one."""
    rng = np.random.default_rng(0)
    k, eta, n = 4, 0.3, 400_000
    label = rng.integers(0, k, n)
    x = rng.normal(size=(n, 2)) + np.array([[0.0, 1], [1, 0], [2, 2], [-1, 0.5]])[label]
    given = np.where(rng.random(n) < eta, (label + rng.integers(1, k, n)) % k, label)
    for yes in ([0], [1, 3]):
        true, told = (np.isin(y, yes).astype(float) for y in (label, given))
        cross = (x - x.mean(0)).T @ (true - true.mean()) / n
        found = (x - x.mean(0)).T @ (told - told.mean()) / n / told.std()
        stated = np.asarray(unequal.told(cross[:, None], np.array([true.var()]), eta, k))[:, 0]
        assert (np.abs(found - stated) < 4 * 1.5 / n**0.5).all()


def check() -> None:
    """All of the above."""
    kept_of_classes()
    kept_of_a_finding()
    noise_without_an_inverse()
    by_simulation()


if __name__ == "__main__":
    check()
    print("d16: all hold")
