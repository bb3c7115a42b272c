"""Wrong labels: what a measured AUC, a learned direction and a mask lose to them.

Statement    Measured against labels of which α of the cases and β of the controls are wrong, AUC is A(1−α−β) + (α+β)/2.
             Least squares on flipped labels learns Σ⁻¹ Σ_g q_g (1−2η_g) δ_g: a subgroup counts by the quality of its labels.
             A boundary that wanders by N(0, σ²) costs Dice Pσ/(√(2π) S).
Assumptions  Errors independent of the score within a class; balanced classes in each subgroup; jitter small against curvature.
Limit        α + β = 1 leaves AUC 1/2; η = 1/2 silences a subgroup; σ = 0 costs nothing.
Source       Menon, van Rooyen, Ong, Williamson 2015 (AUC under corrupted labels).
"""

import numpy as np
import sympy as sp
from scipy.stats import norm

from rafmodel import sampling
from rafmodel import symbols as s


def measured_area() -> None:
    """A pair called (case, control) is truly one of four; equals win half of the time."""
    pair = (
        (1 - s.alpha) * (1 - s.beta) * s.A  # both right
        + s.alpha * s.beta * (1 - s.A)  # both wrong: the order turns round
        + ((1 - s.alpha) * s.beta + s.alpha * (1 - s.beta)) / 2  # two of one class
    )
    assert sp.simplify(pair - s.AUC_WRONG_LABELS.rhs) == 0
    assert s.AUC_WRONG_LABELS.rhs.subs(s.beta, 1 - s.alpha).expand() == sp.Rational(1, 2)
    # Bayes: of those called cases, controls that were called so
    joint = {"case called case": s.pi * (1 - s.e_1), "control called case": (1 - s.pi) * s.e_0}
    assert sp.simplify(joint["control called case"] / sum(joint.values()) - s.IMPURE_CASES.rhs) == 0
    assert sp.simplify(s.IMPURE_CONTROLS.rhs.subs({s.e_1: 0})) == 0


def learned_direction() -> None:
    """E[x ỹ] of one subgroup with balanced classes at ±δ/2 is (1 − 2η) δ/2; subgroups add by their share."""
    delta = sp.Symbol("delta", real=True)
    cross = sum(sp.Rational(1, 2) * y * delta / 2 * ((1 - s.eta) * y + s.eta * (-y)) for y in (1, -1))
    assert sp.simplify(cross - (1 - 2 * s.eta) * delta / 2) == 0
    assert s.TILTED.rhs.function.subs(s.eta_g[s.g], sp.Rational(1, 2)) == 0


def jittered_boundary() -> None:
    """A point of the boundary at offset e ~ N(0, σ²) cuts away E[max(−e, 0)] = σ/√(2π) a unit of length."""
    e = sp.Symbol("e", real=True)
    lost = sp.integrate(-e * sp.exp(-(e**2) / (2 * s.sigma**2)) / (s.sigma * sp.sqrt(2 * sp.pi)), (e, -sp.oo, 0))
    assert sp.simplify(lost - s.sigma / sp.sqrt(2 * sp.pi)) == 0
    # the expected area stays S, so Dice = 2 (S − P lost) / (2 S)
    assert sp.simplify(1 - s.perimeter * lost / s.area - s.DICE_JITTER.rhs) == 0


def by_simulation() -> None:
    """Labels flipped one by one, probes trained on them, and a jittered disc."""
    rng = np.random.default_rng(0)
    n, prevalence, miss, alarm = 40_000, 0.3, 0.35, 0.1
    label = rng.random(n) < prevalence
    score = rng.normal(size=n) + 1.5 * label
    called = np.where(rng.random(n) < np.where(label, miss, alarm), ~label, label)
    order = score.argsort().argsort() + 1.0
    cases = called.sum()
    found = (order[called].sum() - cases * (cases + 1) / 2) / (cases * (n - cases))
    predicted = float(sampling.auc_wrong_labels(norm.cdf(1.5 / 2**0.5), prevalence, miss, alarm))
    assert abs(found - predicted) < 4 * 0.003  # s.e. of an AUC from 12,000 and 28,000

    share, flip = np.array([0.7, 0.3]), np.array([0.4, 0.05])
    gap = np.array([[1.0, 0.0], [0.0, 1.0]])
    directions = []
    for _ in range(200):
        group = (rng.random(4000) < share[1]).astype(int)
        y = rng.choice([-1.0, 1.0], 4000)
        x = rng.normal(size=(4000, 2)) + y[:, None] * gap[group] / 2
        seen = np.where(rng.random(4000) < flip[group], -y, y)
        w = x.T @ seen
        directions.append(w / np.linalg.norm(w))
    mean = np.mean(directions, 0)
    expected = np.asarray(sampling.tilted(share, flip, gap))
    expected /= np.linalg.norm(expected)
    assert expected[1] > expected[0]  # 30 % with good labels outweigh 70 % with bad ones
    se = np.std(directions, 0) / 200**0.5
    assert (np.abs(mean / np.linalg.norm(mean) - expected) < 4 * se + 1e-3).all()

    radius, sigma, angles = 1.0, 0.05, 20_000
    offset = rng.normal(scale=sigma, size=(50, angles))
    drawn = radius + offset
    both = (np.minimum(drawn, radius) ** 2).mean(1)
    dice = 2 * both / (radius**2 + (drawn**2).mean(1))
    closed = float(sampling.dice_jitter(np.pi * radius**2, 2 * np.pi * radius, sigma))
    assert abs(dice.mean() - closed) < sigma**2  # what first order leaves out
    assert 1 - closed > 10 * sigma**2


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    measured_area()
    learned_direction()
    jittered_boundary()
    by_simulation()


if __name__ == "__main__":
    check()
    print("d08: wrong labels hold")
