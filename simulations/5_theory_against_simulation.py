"""Does every closed form agree with a simulation that knows nothing of it, at strong effects?

    python simulations/5_theory_against_simulation.py --out derivations

Each setting is exactly solvable: linear features, Gaussian anatomy, factors drawn by numpy.  A simulation gives independent
draws whose mean, or ratio of means, is the quantity in question.  The table holds prediction, simulation, its standard error, the
distance in standard errors beyond the stated finite-size term, and the slope of log error against log number of draws (-1/2 where
nothing but chance is left).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from scipy.stats import norm

from rafmodel import learning, sampling, theory, unequal
from rafmodel.asked import BINARY
from rafmodel.files import atomically
from rafmodel.probes import fitted

Draws = tuple[np.ndarray, np.ndarray]
GROUPS = 100 * 2 ** np.arange(5)  # numbers of groups that the draws are cut into, for the slope


@dataclass(frozen=True)
class Setting:
    """One agreement to test.

    factor     what it is about: variability, proxy task, labels, imbalance, patches, transfer, scores, two together
    predicted  the closed form's value
    simulate   ``(rng, n) -> (a, b)``: n independent draws; mean(a) / mean(b) is the simulated value
    finite     size of the terms of order 1/dimension that the closed form leaves out
    costly     a draw is a trained probe: fewer of them
    """

    factor: str
    name: str
    predicted: float
    simulate: Callable[[np.random.Generator, int], Draws]
    finite: float = 0.0
    costly: bool = False


def _mean_of(a: np.ndarray) -> Draws:
    return a, np.ones_like(a)


# ---- a population of six features, and the probe's of sixty

MU = np.array([1.0, -0.5, 2.0, 0.3, -1.2, 0.8])
SIGMA = 0.5 * np.eye(6) + 0.2 * np.cos(np.subtract.outer(np.arange(6), np.arange(6)))
W = np.array([0.5, 1.0, -0.3, 0.8, 0.2, -0.6])
FIELD = 0.36 * np.exp(-(np.subtract.outer(np.arange(6), np.arange(6)) ** 2) / 8)


def _anatomy(rng: np.random.Generator, n: int) -> np.ndarray:
    return MU + rng.normal(size=(n, 6)) @ np.linalg.cholesky(SIGMA).T


def _variance(alter: Callable[[np.random.Generator, np.ndarray], np.ndarray]):
    """Variance of Wᵀx for altered images, from independent pairs of them."""

    def simulate(rng: np.random.Generator, n: int) -> Draws:
        one, two = (alter(rng, _anatomy(rng, n)) @ W for _ in range(2))
        return _mean_of((one - two) ** 2 / 2)

    return simulate


def _gain(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    return x * np.exp(0.5 * rng.normal(size=(len(x), 1)))


def _noise(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    return x + 0.8 * rng.normal(size=x.shape)


def _field(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    return x * np.exp(rng.normal(size=x.shape) @ np.linalg.cholesky(FIELD).T)


def _artifact(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    return x + (rng.random((len(x), 1)) < 0.3) * (np.arange(6) / 2 + 0.7 * rng.normal(size=x.shape))


def _along(moments: tuple[jax.Array, jax.Array]) -> float:
    return float(W @ np.asarray(moments[1]) @ W)


def variabilities() -> list[Setting]:
    mu, sigma = jnp.asarray(MU), jnp.asarray(SIGMA)
    artifact = (0.3, jnp.arange(6) / 2.0, 0.49 * jnp.eye(6))
    contrast = theory.contrast_moments(mu, sigma, 0.5)

    def turned(rng: np.random.Generator, n: int) -> Draws:
        return _mean_of(np.cos(3 * 0.4 * rng.normal(size=n)))

    def blurred(rng: np.random.Generator, n: int) -> Draws:  # a Gaussian blur is the mean over Gaussian displacements
        return _mean_of(np.cos(0.7 * 1.5 * rng.normal(size=n)))

    def volume(rng: np.random.Generator, n: int) -> Draws:  # the zonal harmonic of degree 2, at its pole
        axis = rng.normal(size=(n, 3))
        along = axis[:, 0] ** 2 / (axis**2).sum(1)
        turn = np.cos(0.7 * rng.normal(size=n))
        return _mean_of((3 * (turn + (1 - turn) * along) ** 2 - 1) / 2)

    def averaged(rng: np.random.Generator, n: int) -> Draws:  # three noisy pixels into one, phases drawn
        phase = rng.uniform(0, 2 * np.pi, n)
        low = (np.cos(phase[:, None] + 1.3 * np.arange(-1, 2)) + 0.5 * rng.normal(size=(n, 3))).mean(1)
        return low * np.cos(phase), np.cos(phase) ** 2

    def both(rng: np.random.Generator, n: int) -> Draws:
        return _mean_of(np.cos(3 * 0.4 * rng.normal(size=n)) * np.cos(0.7 * 1.5 * rng.normal(size=n)))

    turn, blur = float(theory.rotation_decay(3, 0.4)), float(theory.blur_decay(0.7, 1.5))
    return [
        Setting("variability", "gain", _along(contrast), _variance(_gain)),
        Setting("variability", "noise", _along(theory.noise_moments(mu, sigma, 0.8)), _variance(_noise)),
        Setting(
            "variability", "bias field", _along(theory.field_moments(mu, sigma, jnp.asarray(FIELD))), _variance(_field)
        ),
        Setting("variability", "artifact", _along(theory.artifact_moments(mu, sigma, *artifact)), _variance(_artifact)),
        Setting("variability", "rotation, order 3", turn, turned),
        Setting("variability", "blur", blur, blurred),
        Setting("variability", "rotation in 3D, degree 2", float(theory.rotation_decay_3d(2, 0.7)), volume),
        Setting("variability", "down-sampling by 3", float(theory.sampling_decay(1.3, 3)), averaged),
        Setting(
            "two together",
            "gain, then noise",
            _along(theory.noise_moments(*contrast, 0.8)),
            _variance(lambda rng, x: _noise(rng, _gain(rng, x))),
        ),
        Setting(
            "two together",
            "gain, then artifact",
            _along(theory.artifact_moments(*contrast, *artifact)),
            _variance(lambda rng, x: _artifact(rng, _gain(rng, x))),
        ),
        Setting("two together", "rotation and blur", turn * blur, both),
    ]


# ---- scores, patches, labels


def _won(case: np.ndarray, control: np.ndarray) -> Draws:
    return _mean_of((case > control).astype(float))


def _pooled(rng: np.random.Generator, n: int, carriers: int, pool) -> np.ndarray:
    """Pooled score of 6 of 16 patches drawn without replacement, ``carriers`` of the 16 with mean 1.5."""
    chosen = np.argsort(rng.random((n, 16)), 1)[:, :6]
    return pool(rng.normal(size=(n, 6)) + 1.5 * (chosen < carriers), 1)


def _mixture(rng: np.random.Generator, n: int, share: float, clean: float) -> np.ndarray:
    carries = rng.random(n) < share
    return np.where(carries, clean + 2.0 + 1.5 * rng.normal(size=n), clean + rng.normal(size=n))


def _called(rng: np.random.Generator, n: int, score) -> Draws:
    """Pairs of an image called a case and one called a control; 30 % true cases, 20 % missed, 10 % false alarms."""
    true = rng.random(6 * n) < 0.3
    called = np.where(true, rng.random(6 * n) > 0.2, rng.random(6 * n) < 0.1)
    value = score(rng, true)
    case, control = value[called], value[~called]
    size = min(len(case), len(control), n)
    return _won(case[:size], control[:size])


def samples() -> list[Setting]:
    chance = sampling.hits(16, 3, 6)
    area = float(theory.auc(1.5, 4.0, 1.0))
    largest = float(sampling.auc_max(chance, 1.5))
    mixture = theory.auc_mixture(
        jnp.array([[0.9, 0.1], [0.4, 0.6]]), jnp.array([[0.0, 2.0], [1.0, 3.0]]), jnp.array([[1.0, 2.25], [1.0, 2.25]])
    )
    sensitivity = theory.rate_mixture(jnp.array([0.4, 0.6]), jnp.array([1.0, 3.0]), jnp.array([1.0, 2.25]), 1.5)
    over = sampling.any_patch(chance, 0.8, 0.1)
    odds = (-(1.5**2) / 2 + np.log(3 / 13), 1.5)  # of a carrier, given a patch's score

    def mean_pooling(rng: np.random.Generator, n: int) -> Draws:
        return _won(_pooled(rng, n, 3, np.mean), _pooled(rng, n, 0, np.mean))

    def max_pooling(rng: np.random.Generator, n: int) -> Draws:
        return _won(_pooled(rng, n, 3, np.max), _pooled(rng, n, 0, np.max))

    def any_patch(rng: np.random.Generator, n: int) -> Draws:
        carries = np.argsort(rng.random((n, 16)), 1)[:, :6] < 3
        return _mean_of((rng.random((n, 6)) < np.where(carries, 0.8, 0.1)).any(1).astype(float))

    def noisy_or(rng: np.random.Generator, n: int) -> Draws:
        def joined(x: np.ndarray, axis: int) -> np.ndarray:
            return 1 - np.prod(1 / (1 + np.exp(odds[0] + odds[1] * x)), axis=axis)

        return _won(_pooled(rng, n, 3, joined), _pooled(rng, n, 0, joined))

    def cut(rng: np.random.Generator, n: int) -> Draws:
        """The largest of 8 of 16 tiles; a lesion of a tile's size, at a gap of 3 where it fills one, wrapped around."""
        along = [rng.uniform(0, 4, (n, 1)) - np.arange(4) for _ in range(2)]
        row, column = (np.maximum(1 - np.abs((x + 2) % 4 - 2), 0) for x in along)
        case = rng.normal(size=(n, 16)) + 3.0 * (row[:, :, None] * column[:, None, :]).reshape(n, 16)
        chosen = np.argsort(rng.random((n, 16)), 1)[:, :8]
        return _won(np.take_along_axis(case, chosen, 1).max(1), rng.normal(size=(n, 8)).max(1))

    def overlap(rng: np.random.Generator, n: int) -> Draws:
        truth = rng.binomial(50, 0.1, n)  # foreground pixels of an image of 50
        found = rng.binomial(truth, 0.85)
        return 2.0 * found, (truth + found + rng.binomial(50 - truth, 0.05)).astype(float)

    def each_overlap(rng: np.random.Generator, n: int) -> Draws:  # over the images that have the structure
        truth = rng.binomial(50, 0.1, n)
        found = rng.binomial(truth, 0.85)
        called = found + rng.binomial(50 - truth, 0.05)
        return 2.0 * found / np.maximum(truth + called, 1), (truth > 0).astype(float)

    def shortcut(rng: np.random.Generator, n: int) -> Draws:
        return _mean_of((_mixture(rng, n, 0.6, 1.0) > 1.5).astype(float))

    def simple(rng: np.random.Generator, true: np.ndarray) -> np.ndarray:
        return np.where(true, 1.5 + 2 * rng.normal(size=len(true)), rng.normal(size=len(true)))

    def tiles(rng: np.random.Generator, true: np.ndarray) -> np.ndarray:
        return np.where(true, _pooled(rng, len(true), 3, np.max), _pooled(rng, len(true), 0, np.max))

    return [
        Setting(
            "scores", "unequal variances", area, lambda rng, n: _won(1.5 + 2 * rng.normal(size=n), rng.normal(size=n))
        ),
        Setting(
            "scores",
            "artifact as a shortcut",
            float(mixture),
            lambda rng, n: _won(_mixture(rng, n, 0.6, 1.0), _mixture(rng, n, 0.1, 0.0)),
        ),
        Setting("scores", "sensitivity with a shortcut", float(sensitivity), shortcut),
        Setting("patches", "mean of 6 of 16, 3 carriers", float(sampling.auc_mean(chance, 1.5)), mean_pooling),
        Setting("patches", "largest of 6 of 16", largest, max_pooling),
        Setting("patches", "any of 6 of 16 over a threshold", float(over[0]), any_patch),
        Setting("patches", "noisy-or of 6 of 16", float(sampling.auc_noisy_or(chance, 1.5, odds)), noisy_or),
        Setting("patches", "lesion cut by 8 of 16 tiles", float(sampling.auc_tiles(0.5, 6, 6, 16, 8)), cut),
        Setting("imbalance", "Dice at 10 % of pixels, all together", float(theory.dice(0.1, 0.85, 0.05)), overlap),
        Setting(
            "imbalance",
            "Dice at 10 % of 50 pixels, mean of images",
            float(sampling.mean_dice(0.1, 0.85, 0.05, 50)),
            each_overlap,
        ),
        Setting(
            "labels",
            "AUC against wrong labels",
            float(sampling.auc_wrong_labels(area, 0.3, 0.2, 0.1)),
            lambda rng, n: _called(rng, n, simple),
        ),
        Setting(
            "two together",
            "patches and wrong labels",
            float(sampling.auc_wrong_labels(largest, 0.3, 0.2, 0.1)),
            lambda rng, n: _called(rng, n, tiles),
        ),
    ]


# ---- proxy tasks, encoders, domains


def proxies() -> list[Setting]:
    def pair(shared: float, own: float):
        """Two features of one image; the slope of the second on the first."""

        def simulate(rng: np.random.Generator, n: int) -> Draws:
            common = shared**0.5 * rng.normal(size=n)
            u, v = (common + own**0.5 * rng.normal(size=n) for _ in range(2))
            return u * v, u * u

        return simulate

    def turned(rng: np.random.Generator, n: int) -> Draws:
        turn = 1j ** rng.integers(0, 4, n)
        one, two = ((1.2 + rng.normal(size=n) + 1j * rng.normal(size=n)) * turn for _ in range(2))
        return (one * two.conj()).real, abs(one) ** 2

    def placed(rng: np.random.Generator, n: int) -> Draws:
        mean = np.array([-2.0, -1.0, 1.0, 2.0])[rng.integers(0, 4, n)]
        one, two = (mean + 1.5 * rng.normal(size=n) for _ in range(2))
        return one * two, one * one

    def labelled(rng: np.random.Generator, n: int) -> Draws:
        y = rng.choice([-1.0, 1.0], n)
        x = 0.9 * y + rng.normal(size=n)
        return x * y, x * x

    slope = theory.predictor(jnp.array([[1 + 0.81]]), jnp.array([[0.9]]), ridge=0.0)
    rng = np.random.default_rng(0)
    one, two = (np.linalg.qr(rng.normal(size=(12, k)))[0] for k in (6, 4))
    cosines = np.asarray(learning.principal_cosines(jnp.asarray(one), jnp.asarray(two)))

    def transferred(rng: np.random.Generator, n: int) -> Draws:
        direction = rng.normal(size=(n, 4)) @ two.T
        return _mean_of(((direction @ one) ** 2).sum(1) / (direction**2).sum(1))

    def realigned(rng: np.random.Generator, n: int) -> Draws:
        one, two = (np.exp(2j * 0.5 * rng.normal(size=n)) for _ in range(2))
        return _mean_of(1 - (one * two.conj()).real)

    views = "contrastive, exemplar, VICReg, Barlow Twins: two views"
    return [
        Setting("proxy task", views, float(theory.gain(1.0, 0.6)), pair(1.0, 0.6)),
        Setting(
            "proxy task",
            "predictive coding, masked: context",
            float(learning.kept_of_context(0.7, 1.1)),
            pair(0.7, 1.1),
        ),
        Setting("proxy task", "rotation prediction, order 1", float(learning.kept_by_turning(1, 1.44, 3.44)), turned),
        Setting("proxy task", "relative location, jigsaw: place", float(learning.kept_by_place(2.5, 2.25)), placed),
        Setting("proxy task", "supervised", float(slope[0, 0]), labelled),
        Setting("transfer", "share of a direction retained", float((cosines**2).mean()), transferred),
        Setting("encoder", "transformer on feature maps, order 2", float(learning.stn_residual(2, 0.5)), realigned),
    ]


# ---- probes trained on few labels

D, N = 60, 90
SPECTRUM = np.geomspace(4.0, 0.3, D)
HALF = np.full(D, 1.1 / D**0.5)


def _probe_auc(flip: float, added: float):
    """AUC of ridge probes from N labels, some wrong, on images with noise ``added``; exact given the weights."""

    def simulate(rng: np.random.Generator, n: int) -> Draws:
        y = np.repeat([-1.0, 1.0], N // 2)
        found = np.empty(n)
        for i in range(n):
            x = rng.normal(size=(N, D)) * SPECTRUM**0.5 + y[:, None] * HALF
            seen = np.where(rng.random(N) < flip, -y, y)
            w = np.linalg.solve(x.T @ x / N + 0.3 * np.eye(D), x.T @ seen / N)
            found[i] = norm.cdf(2 * w @ HALF / np.sqrt(2 * w**2 @ (SPECTRUM + added**2)))
        return _mean_of(found)

    return simulate


OTHER = np.geomspace(0.4, 2.5, D)  # the cases' spectrum, where it differs
COUNT, FLIP = (60, 30), (0.05, 0.2)


_law = jax.jit(unequal.probe, static_argnames="loss")


@dataclass(frozen=True)
class Classes:
    """Unequal classes, controls then cases, and a probe of the package's that learns from them, its centre or offset included."""

    probe: str
    count: tuple[int, int]
    spectrum: tuple[np.ndarray, np.ndarray]
    flip: tuple[float, float] = (0.0, 0.0)
    balance: str = "none"  # weights, or re-sampling: images of the rarer cases drawn again
    added: float = 0.0
    ridge: float = 0.1

    @property
    def half(self) -> np.ndarray:
        return np.full(len(self.spectrum[0]), 1.1 / len(self.spectrum[0]) ** 0.5)

    @property
    def weight(self) -> np.ndarray:
        return np.ones(2) if self.balance == "none" else sum(self.count) / (2 * np.array(self.count))

    def auc(self, rng: np.random.Generator, n: int) -> Draws:
        """AUC of fitted probes in images with noise ``added``; exact given the weights."""
        label = np.repeat([0, 1], self.count)
        scale, mean = np.stack(self.spectrum)[label] ** 0.5, (2 * label[:, None] - 1) * self.half
        found = np.empty(n)
        for i in range(n):
            x = rng.normal(size=scale.shape) * scale + mean
            seen = np.where(rng.random(len(label)) < np.array(self.flip)[label], 1 - label, label)
            weight = self.weight[label] if self.balance == "weights" else None
            if self.balance == "re-sampling":
                control, case = self.count
                again = control + rng.integers(0, case, control - case)
                x, seen = np.concatenate([x, x[again]]), np.concatenate([seen, seen[again]])
            score = fitted(self.probe, x, seen, self.ridge, weight, BINARY)
            w = score(np.eye(len(self.half))) - score(np.zeros((1, len(self.half))))
            found[i] = norm.cdf(2 * w @ self.half / np.sqrt(w**2 @ (sum(self.spectrum) + 2 * self.added**2)))
        return _mean_of(found)

    def stated(self) -> float:
        cov = jax.vmap(jnp.diag)(jnp.stack(self.spectrum))
        source = theory.Moments(jnp.stack([-self.half, self.half]), cov, jnp.ones(2))
        loss = "logistic" if self.probe == "logistic" else "squared"
        count, weight = jnp.asarray(self.count, float), jnp.asarray(self.weight)
        ridge = unequal.penalty(source, count, weight, ridge=self.ridge, loss=loss)
        again = (0.0, self.count[0] / self.count[1] - 1) if self.balance == "re-sampling" else (0.0, 0.0)
        law = _law(source, count, flip=self.flip, ridge=ridge, weight=weight, again=again, loss=loss)
        moved = source._replace(cov=source.cov + self.added**2 * jnp.eye(len(self.half))[None])
        return float(theory.deploy(law, moved)[0])


def all_at_once(probe: str) -> Setting:
    some = Classes(probe, COUNT, (SPECTRUM, OTHER), FLIP, added=0.5, ridge=0.3)
    return Setting(
        "two together", f"counts, covariances, labels and noise, {probe}", some.stated(), some.auc, 0.004, True
    )


def few_cases() -> list[Setting]:
    """A design's usual 256 labels of 64 features, few of them cases, balanced or not."""
    found, spectrum = [], np.geomspace(4.0, 0.3, 64)
    chosen = [(n, probe, how) for n in (26, 77) for probe in ("ridge", "logistic") for how in ("none", "weights")]
    for cases, probe, how in [*chosen, (77, "ridge", "re-sampling"), (77, "logistic", "re-sampling")]:
        some = Classes(probe, (256 - cases, cases), (spectrum, spectrum), balance=how)
        name = f"{probe} probe, {cases} cases of 256, {'as they are' if how == 'none' else f'balanced by {how}'}"
        found.append(Setting("imbalance", name, some.stated(), some.auc, 0.001, True))
    return found


def _discriminant(rng: np.random.Generator, n: int) -> Draws:
    """TPR of regularised discriminants, 15 cases and 75 controls."""
    found = np.empty(n)
    for i in range(n):
        one = rng.normal(size=(15, D)) * SPECTRUM**0.5 + HALF
        two = rng.normal(size=(75, D)) * SPECTRUM**0.5 - HALF
        apart = np.concatenate([one - one.mean(0), two - two.mean(0)])
        w = np.linalg.solve(apart.T @ apart / (N - 2) + 0.3 * np.eye(D), one.mean(0) - two.mean(0))
        found[i] = norm.cdf(w @ (HALF - (one.mean(0) + two.mean(0)) / 2) / (w**2 @ SPECTRUM) ** 0.5)
    return _mean_of(found)


def _resampled(rng: np.random.Generator, n: int) -> Draws:
    """Variance of the mean of 60 draws with replacement from 20 images."""
    images = rng.normal(size=(n, 20))
    return _mean_of(np.take_along_axis(images, rng.integers(0, 20, (n, 60)), 1).mean(1) ** 2)


def _probe_stated(flip: float, added: float) -> float:
    cov = jnp.stack([jnp.diag(SPECTRUM)] * 2)
    source = theory.Moments(jnp.stack([-HALF, HALF]), cov, jnp.ones(2))
    law = theory.probe(source, N, flip=flip, ridge=0.3)
    mean, moved = theory.noise_moments(source.mean, source.cov, added)
    return float(theory.deploy(law, theory.Moments(mean, moved, jnp.ones(2)))[0])


def _rare(group: int | None):
    """TPR of difference-of-means classifiers, 200 features, 25 cases and 150 controls; or of one subgroup of two."""
    d, cases, controls, shift = 200, (20, 5), (50, 100), 2.0

    def simulate(rng: np.random.Generator, n: int) -> Draws:
        case = np.zeros((n, d))
        control = np.zeros((n, d))
        case[:, 0], control[:, 0] = 1.5, -1.5
        if group is not None:  # the second subgroup lies at `shift` along another direction
            case[:, 1] += shift * cases[1] / sum(cases)
            control[:, 1] += shift * controls[1] / sum(controls)
        case = case + rng.normal(size=(n, d)) / sum(cases) ** 0.5
        control = control + rng.normal(size=(n, d)) / sum(controls) ** 0.5
        w, middle = case - control, (case + control) / 2
        deployed = np.zeros(d)
        deployed[0], deployed[1] = 1.5, shift * (group or 0)
        return _mean_of(norm.cdf(((deployed - middle) * w).sum(1) / np.sqrt((w**2).sum(1))))

    if group is None:
        return float(theory.imbalance_rates(9.0, d, sum(cases), sum(controls))[0]), simulate
    stated = sampling.subgroup_rates(9.0, d, jnp.array(cases), jnp.array(controls), shift**2)[0]
    return float(stated[group]), simulate


def _unlike(ridge: float | None):
    """Mean AUC in a subgroup that is rare, mostly ill and looks different: of differences of means, or of ridge probes."""
    gap, place, n_case, n_control = np.zeros((2, D)), np.zeros((2, D)), np.array([30, 15]), np.array([42, 3])
    gap[0, 0], gap[1, :2], place[1, 2] = 2.5, (1.0, 2.0), 2.0
    group = np.repeat([0, 1, 0, 1], [*n_case, *n_control])
    y = np.repeat([1.0, -1.0], [n_case.sum(), n_control.sum()])
    image = place[group] + y[:, None] * gap[group] / 2
    centre = (image[y > 0].mean(0) + image[y < 0].mean(0)) / 2

    def simulate(rng: np.random.Generator, n: int) -> Draws:
        found = np.empty(n)
        for i in range(n):
            x = image + rng.normal(size=image.shape)
            w = x[y > 0].mean(0) - x[y < 0].mean(0)
            if ridge is not None:
                x = x - centre
                w = np.linalg.solve(x.T @ x / N + ridge * np.eye(D), x.T @ y / N)
            found[i] = norm.cdf(gap[1] @ w / np.sqrt(2 * (w @ w)))
        return _mean_of(found)

    if ridge is None:
        areas = sampling.subgroup_auc(*map(jnp.asarray, (gap, place, np.ones(2))), D, n_case, n_control)
        return float(areas[1]), simulate
    mean = jnp.asarray(place[:, None] + np.array([-1, 1])[None, :, None] * gap[:, None] / 2)
    weight = jnp.asarray(np.stack([n_control, n_case], 1), float)
    groups = theory.Moments(mean, jnp.broadcast_to(jnp.eye(D), (2, 2, D, D)), weight)
    law = theory.probe(sampling.pooled(groups), N, flip=0.0, ridge=ridge)
    return float(theory.deploy(law, groups)[0][1]), simulate


def _abroad() -> Setting:
    """AUC of ridge probes from 60 labels on 40 of 80 whitened features, in which part of the class direction lies."""
    rng = np.random.default_rng(0)
    delta = np.full(80, 2.5 / 80**0.5)
    basis = np.linalg.qr(np.column_stack([delta + 0.15 * rng.normal(size=80), rng.normal(size=(80, 39))]))[0]
    share = float(learning.retained(jnp.asarray(basis), jnp.asarray(delta)))
    y = np.repeat([-1.0, 1.0], 30)

    def simulate(rng: np.random.Generator, n: int) -> Draws:
        found = np.empty(n)
        for i in range(n):
            x = (rng.normal(size=(60, 80)) + y[:, None] * delta / 2) @ basis
            seen = np.where(rng.random(60) < 0.1, -y, y)
            w = np.linalg.solve(x.T @ x / 60 + 0.2 * np.eye(40), x.T @ seen / 60)
            found[i] = norm.cdf(w @ (delta @ basis) / np.sqrt(2 * w @ w))
        return _mean_of(found)

    stated = float(learning.transferred(2.5**2, share, 40, 60, flip=0.1, ridge=0.2))
    return Setting("two together", "transfer and few labels", stated, simulate, 0.004, True)


def probes() -> list[Setting]:
    alone, rare = _rare(None)
    unlike, ridged = _unlike(None), _unlike(0.3)
    group, behind = _rare(1)
    source = theory.Moments(jnp.stack([-HALF, HALF]), jnp.stack([jnp.diag(SPECTRUM)] * 2), jnp.ones(2))
    behind_ridge = float(unequal.discriminant_rates(source, (75, 15), ridge=0.3)[0])
    worth = float(1 / unequal.resampled_size(20, 60))
    return [
        Setting("imbalance", "discriminant of the rare class", behind_ridge, _discriminant, 0.004, True),
        Setting("imbalance", "re-sampling", worth, _resampled),
        *map(all_at_once, ("ridge", "logistic")),
        Setting("labels", "ridge probe, 90 labels", _probe_stated(0.0, 0.0), _probe_auc(0.0, 0.0), 0.004, True),
        Setting("labels", "ridge probe, a fifth wrong", _probe_stated(0.2, 0.0), _probe_auc(0.2, 0.0), 0.004, True),
        Setting("two together", "a fifth wrong, and noise", _probe_stated(0.2, 1.0), _probe_auc(0.2, 1.0), 0.004, True),
        Setting("imbalance", "sensitivity of the rare class", alone, rare, 0.004, True),
        Setting("two together", "rare class and rare subgroup", group, behind, 0.004, True),
        Setting("imbalance", "AUC in a rare subgroup that looks different", *unlike, 0.004, True),
        Setting("two together", "a rare subgroup and few labels, ridge", *ridged, 0.004, True),
        _abroad(),
    ]


def settings() -> list[Setting]:
    return [*samples(), *variabilities(), *proxies(), *probes(), *few_cases()]


def compare(setting: Setting, rng: np.random.Generator, n: int) -> tuple[float, float, float, float]:
    """Simulated value, standard error, distance in standard errors beyond ``finite``, slope of log error."""
    a, b = setting.simulate(rng, n // 50 if setting.costly else n)
    value = a.mean() / b.mean()
    error = (a - value * b).std(ddof=1) / b.mean() / len(a) ** 0.5  # delta method for a ratio
    beyond = max(abs(value - setting.predicted) - setting.finite, 0) / error
    target = value if setting.finite else setting.predicted  # chance alone, where a finite-size term stays
    spread = []
    for count in GROUPS:
        one, two = (x[: len(x) // count * count].reshape(count, -1).mean(1) for x in (a, b))
        spread.append(np.sqrt(np.mean((one / two - target) ** 2)))
    slope = -np.polyfit(np.log(GROUPS), np.log(spread), 1)[0]
    return value, error, beyond, slope


@dataclass(frozen=True)
class Options:
    """How many draws."""

    draws: int = 400_000
    """independent draws of each setting (a fiftieth of it where a draw is a trained probe)"""
    out: Path | None = None
    """folder for the table, AGREEMENT.md"""
    quick: bool = False
    """few draws: shows that the script runs"""


def main(options: Options) -> None:
    """Print the table, and keep it."""
    jax.config.update("jax_enable_x64", True)
    draws = 80_000 if options.quick else options.draws
    head = "| factor | setting | predicted | simulated | s.e. | distance, s.e. | slope |"
    rows = [head, "|---|---|---|---|---|---|---|"]
    for i, one in enumerate(settings()):
        value, error, beyond, slope = compare(one, np.random.default_rng(i), draws)
        left = f" (finite size {one.finite:g})" if one.finite else ""
        rows.append(
            f"| {one.factor} | {one.name}{left} | {one.predicted:.4f} | {value:.4f} | {error:.4f} | {beyond:.1f} | {slope:.2f} |"
        )
        print(rows[-1], flush=True)
    if options.out:
        title = "# Theory against simulation\n\nMade by `python simulations/5_theory_against_simulation.py --out "
        text = "\n".join(
            [f"{title}{options.out}`: {draws:,} draws a setting; columns are explained there.\n", *rows, ""]
        )
        atomically(options.out / "AGREEMENT.md", lambda file: file.write(text.encode()))


if __name__ == "__main__":
    main(tyro.cli(Options))
