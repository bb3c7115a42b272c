"""Does every closed form agree with a simulation that knows nothing of it, at strong effects?

    python simulations/5_theory_against_simulation.py --out docs

Each setting is exactly solvable: linear features, Gaussian anatomy.  Factors are drawn by numpy; settings "on images" alter
images of the factor phantom (``rafmodel.factors``, moments known exactly) by the package's own laws, or make pairs of them by its
own proxy tasks, and read them by a linear map.  A simulation gives independent draws whose mean, or ratio of means, is the
quantity in question.

The table holds prediction, simulation, its standard error, the distance from the prediction in standard errors, and the slope of
log error, about the prediction, against log number of draws: -1/2 where nothing but chance is left, 0 where the prediction is
wrong.  Closed forms for many features leave out terms of the order of one over their number: a second table has their errors at
half the size, features and labels alike, and at the size of the first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from scipy.stats import norm

from rafmodel import learning, proxies, sampling, theory, unequal
from rafmodel import variability as v
from rafmodel.asked import BINARY
from rafmodel.factors import factor_moments, factor_phantom
from rafmodel.files import atomically
from rafmodel.probes import fitted

Draws = tuple[np.ndarray, np.ndarray]
GROUPS = 25 * 2 ** np.arange(7)  # numbers of groups that the draws are cut into, for the slope
FEWEST = 5, 50  # draws in a group, of a mean and of a ratio of means, which is biased in small groups


@dataclass(frozen=True)
class Setting:
    """One agreement to test.

    factor     what it is about: variability, proxy task, labels, imbalance, patches, transfer, scores, two together
    predicted  the closed form's value
    simulate   ``(rng, n) -> (a, b)``: n independent draws; mean(a) / mean(b) is the simulated value
    costly     how many times fewer draws are taken, where one is a trained probe or an image
    half       the same at half the size, where the closed form leaves out terms of order one over the size
    """

    factor: str
    name: str
    predicted: float
    simulate: Callable[[np.random.Generator, int], Draws]
    costly: int = 1
    half: "Setting | None" = None


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

    def volume(rng: np.random.Generator, n: int) -> Draws:  # the zonal harmonic of degree 2, at its pole
        axis = rng.normal(size=(n, 3))
        along = axis[:, 0] ** 2 / (axis**2).sum(1)
        turn = np.cos(0.7 * rng.normal(size=n))
        return _mean_of((3 * (turn + (1 - turn) * along) ** 2 - 1) / 2)

    def averaged(rng: np.random.Generator, n: int) -> Draws:  # three noisy pixels into one, phases drawn
        phase = rng.uniform(0, 2 * np.pi, n)
        low = (np.cos(phase[:, None] + 1.3 * np.arange(-1, 2)) + 0.5 * rng.normal(size=(n, 3))).mean(1)
        return low * np.cos(phase), np.cos(phase) ** 2

    return [
        Setting("variability", "gain", _along(contrast), _variance(_gain)),
        Setting("variability", "noise", _along(theory.noise_moments(mu, sigma, 0.8)), _variance(_noise)),
        Setting(
            "variability", "bias field", _along(theory.field_moments(mu, sigma, jnp.asarray(FIELD))), _variance(_field)
        ),
        Setting("variability", "artifact", _along(theory.artifact_moments(mu, sigma, *artifact)), _variance(_artifact)),
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


# ---- encoders, domains


def domains() -> list[Setting]:
    rng = np.random.default_rng(0)
    one, two = (np.linalg.qr(rng.normal(size=(12, k)))[0] for k in (6, 4))
    cosines = np.asarray(learning.principal_cosines(jnp.asarray(one), jnp.asarray(two)))

    def transferred(rng: np.random.Generator, n: int) -> Draws:
        direction = rng.normal(size=(n, 4)) @ two.T
        return _mean_of(((direction @ one) ** 2).sum(1) / (direction**2).sum(1))

    def realigned(rng: np.random.Generator, n: int) -> Draws:
        one, two = (np.exp(2j * 0.5 * rng.normal(size=n)) for _ in range(2))
        return _mean_of(1 - (one * two.conj()).real)

    return [
        Setting("transfer", "share of a direction retained", float((cosines**2).mean()), transferred),
        Setting("encoder", "transformer on feature maps, order 2", float(learning.stn_residual(2, 0.5)), realigned),
    ]


# ---- images of the factor phantom

SIDE, MANY = 24, 5_000  # pixels a side; images made at once
STRONG = {"effect": 6.0, "prevalence": 0.8}  # most images have the mean pattern of cases
MOMENTS = factor_moments(size=SIDE, **STRONG)
_share = MOMENTS.weight.ravel()
PIXEL_MEAN = _share @ MOMENTS.mean.reshape(4, -1)
_apart = MOMENTS.mean.reshape(4, -1) - PIXEL_MEAN
PIXEL_COV = np.einsum("g,gij->ij", _share, MOMENTS.cov.reshape(4, SIDE**2, -1)) + (_apart.T * _share) @ _apart
_row, _column = np.meshgrid(*[(np.arange(SIDE) + 0.5) / SIDE * 2 - 1] * 2, indexing="ij")
SLOPE = (_column + 0.6 * _row + 0.5).ravel() / SIDE  # a linear map of images: a ramp


def _images(rng: np.random.Generator, n: int, side: int = SIDE):
    """Batches of phantom images (m, side, side, 1) and labels (m,), n in all, with a key for what is done to them."""
    for start in range(0, n, MANY):
        key, then = jax.random.split(jax.random.key(int(rng.integers(2**31))))
        cohort = factor_phantom(key, n=max(min(MANY, n - start), 20), size=side, **STRONG)
        yield then, jnp.asarray(cohort.image), cohort.label


def _altered(law: v.Variability, severity: float, key: jax.Array, images: jax.Array) -> jax.Array:
    return v.alter(key, law, images, jnp.asarray([severity], images.dtype))[0]


def _flat(images: jax.Array) -> np.ndarray:
    return np.asarray(images, float).reshape(len(images), -1)


def _joined(parts) -> Draws:
    one, two = zip(*parts, strict=True)
    return np.concatenate(one), np.concatenate(two)


def _variance_of_images(*alterations: tuple[v.Variability, float]):
    """Variance of a ramp over altered images, from neighbours in a batch."""

    def part(key: jax.Array, images: jax.Array) -> Draws:
        for i, (law, severity) in enumerate(alterations):
            images = _altered(law, severity, jax.random.fold_in(key, i), images)
        score = _flat(images) @ SLOPE
        return _mean_of((score[::2] - score[1::2]) ** 2 / 2)

    return lambda rng, n: _joined(part(key, images) for key, images, _ in _images(rng, 2 * n))


def _turned(order: int, degrees: float):
    """Angular harmonic of an order in images turned by the package's law against that of the same images upright."""
    side = 2 * SIDE
    row, column = np.meshgrid(*[(np.arange(side) + 0.5) / side * 2 - 1] * 2, indexing="ij")
    radius = np.hypot(row, column)
    wave = (np.exp(1j * order * np.arctan2(row, column)) * radius**2 * np.maximum(1 - radius, 0) ** 2).ravel()

    def part(key: jax.Array, images: jax.Array) -> Draws:
        upright, turned = (_flat(x) @ wave for x in (images, _altered(v.ROTATION, degrees, key, images)))
        return (turned * upright.conj()).real, abs(upright) ** 2

    return lambda rng, n: _joined(part(key, images) for key, images, _ in _images(rng, n, side))


def _blurred(width: float, sigma: float = 0.0):
    """Mean coefficient, cases minus controls, of the wave cos(3 pi x) in blurred images, then with a gain, against sharp ones."""
    waves = np.cos(np.pi * np.outer((np.arange(SIDE) + 0.5) / SIDE, np.arange(4)))
    inside = slice(5, SIDE - 5)  # where the border is out of the blur's reach
    fit = np.linalg.pinv(np.einsum("ru,cv->rcuv", waves[inside], waves[inside]).reshape(-1, 16))[3]

    def coefficient(images: jax.Array, label: np.ndarray) -> np.ndarray:
        return (2 * label - 1.0) * (np.asarray(images, float)[:, inside, inside, 0].reshape(len(images), -1) @ fit)

    def part(key: jax.Array, images: jax.Array, label: np.ndarray) -> Draws:
        some = np.flatnonzero(label == 1), np.flatnonzero(label == 0)
        n = min(map(len, some))
        rows = np.stack([one[:n] for one in some], 1).ravel()  # a case, a control, and so on
        changed = _altered(v.BLUR, width, key, images)
        changed = _altered(v.GAIN, sigma, jax.random.fold_in(key, 1), changed) if sigma else changed
        a, b = (coefficient(x, label)[rows].reshape(-1, 2).sum(1) for x in (changed, images))
        return a, b

    return lambda rng, n: _joined(part(key, images, label) for key, images, label in _images(rng, 2 * n))


def _pairs(proxy: proxies.Proxy, key: jax.Array, images: jax.Array, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keys = jax.random.split(key, len(images))
    one, two = jax.vmap(proxy.pairs)(keys, images, jnp.asarray(label, jnp.int32))
    return np.asarray(one, float), np.asarray(two, float)


def _views(proxy: proxies.Proxy):
    """Slope of a ramp in one view on that in the other, about its mean."""

    def part(key: jax.Array, images: jax.Array, label: np.ndarray) -> Draws:
        one, two = (x.reshape(len(x), -1) @ SLOPE for x in _pairs(proxy, key, images, label))
        one, two = (np.diff(x.reshape(-1, 2), axis=1)[:, 0] for x in (one, two))  # the mean drops out
        return one * two, (one**2 + two**2) / 2

    return lambda rng, n: _joined(part(key, images, label) for key, images, label in _images(rng, 2 * n))


def _told(proxy: proxies.Proxy, read, middle: float):
    """Share of a feature's variance that the target tells: two images with the same target, n or a little more of each."""

    def part(key: jax.Array, images: jax.Array, label: np.ndarray) -> Draws:
        u, target = _pairs(proxy, key, images, label)
        feature, answer = read(u) - middle, target.argmax(1)
        rows = [np.flatnonzero(answer == c) for c in range(target.shape[1])]
        rows = np.concatenate([r[: len(r) // 2 * 2].reshape(-1, 2) for r in rows])
        rows = np.asarray(jax.random.permutation(jax.random.fold_in(key, 1), jnp.asarray(rows)))
        one, two = feature[rows].T
        return (one * two.conj()).real, (abs(one) ** 2 + abs(two) ** 2) / 2

    return lambda rng, n: _joined(part(key, images, label) for key, images, label in _images(rng, 2 * n))


def _at(rows: slice, columns: slice, weight: np.ndarray | float) -> np.ndarray:
    """The linear map that reads a patch by ``weight``, on the pixels of an image."""
    whole = np.zeros((SIDE, SIDE))
    whole[rows, columns] = weight
    return whole.ravel()


def _spread(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means (k,) and covariances (k, k) of linear maps (k, d) over images."""
    return maps @ PIXEL_MEAN, maps @ PIXEL_COV @ maps.T


def images() -> list[Setting]:
    mean, cov = _spread(SLOPE[None])
    grey, plain = jnp.asarray(PIXEL_MEAN), jnp.asarray(PIXEL_COV)
    noisy = theory.noise_moments(grey, plain, 0.03)

    def ramp(moments: tuple[jax.Array, jax.Array]) -> float:
        return float(SLOPE @ np.asarray(moments[1]) @ SLOPE)

    turn, blur = (
        float(theory.rotation_decay(2, np.deg2rad(30.0))),
        float(theory.blur_decay(np.pi * 3 / SIDE, 0.05 * SIDE)),
    )
    views = ((v.NOISE, 0.2),), ((v.GAIN, 0.1),)
    noise = float(cov[0, 0]), float(0.2**2 / 3 * SLOPE @ SLOPE)  # severities are uniform
    # a gain exp(sz) with s uniform on [0, 0.1]: means over s of exp(s²/2) and exp(2s²)
    s = np.linspace(0, 0.1, 2001)
    once, twice = (float(np.trapezoid(np.exp(power * s**2), s) / 0.1) for power in (0.5, 2.0))
    shared = once**2 * cov[0, 0]
    gain = shared, twice * (cov[0, 0] + mean[0] ** 2) - once**2 * mean[0] ** 2 - shared

    wave = (np.exp(1j * np.arctan2(_row, _column)) * np.hypot(_row, _column) * (np.hypot(_row, _column) < 1)).ravel()
    upright = abs(wave @ PIXEL_MEAN) ** 2
    turning = float(upright), float((wave.conj() @ PIXEL_COV @ wave).real + upright)

    def placed(cells: int, places: list[int]) -> tuple[float, float, float]:
        """Variance over places of the mean of a cell, the mean variance at one, and the mean over places."""
        side = SIDE // cells
        maps = [
            _at(slice(r * side, (r + 1) * side), slice(c * side, (c + 1) * side), side**-2.0)
            for r in range(cells)
            for c in range(cells)
        ]
        centre, within = _spread(np.stack(maps)[places])
        return float(centre.var()), float(np.diag(within).mean()), float(centre.mean())

    around, tiles = placed(3, [0, 1, 2, 3, 5, 6, 7, 8]), placed(2, [0, 1, 2, 3])

    side, ramp_ = SIDE // 4, np.tile((np.arange(SIDE // 4) + 0.5) / (SIDE // 4) * 2 - 1, (SIDE // 4, 1))
    spots = [(r, c) for r in range(0, SIDE, side) for c in range(0, SIDE, side)]
    centre, within = _spread(np.stack([_at(slice(r, r + side), slice(c, c + side), ramp_) for r, c in spots]))
    second = within + np.outer(centre - centre.mean(), centre - centre.mean())  # which patch is random
    common = (second.sum() - np.trace(second)) / 240
    masking = float(common), float(np.trace(second) / 16 - common)
    many = float(learning.kept_of_context(*masking, 8))  # a correlation; the slope is this times a ratio of deviations

    def hidden(rng: np.random.Generator, n: int) -> Draws:
        def part(key: jax.Array, images: jax.Array, label: np.ndarray) -> Draws:
            shown, target = _pairs(proxies.masked(()), key, images, label)
            mask = target[:, ::side, ::side, 1].reshape(-1, 16) > 0
            cut = [
                (x[..., 0].reshape(-1, 4, side, 4, side) * ramp_[:, None, :]).sum((2, 4)).reshape(-1, 16)
                for x in (shown, target)
            ]
            seen = np.where(mask, 0, cut[0] - centre.mean()).sum(1) / 8
            asked = (
                np.where(mask, cut[1] - centre.mean(), 0).sum(1, keepdims=True) / 8
            )  # the mean over hidden ones, alike in law
            return seen * asked[:, 0], seen**2

        return _joined(part(*each) for each in _images(rng, n))

    half, across = SIDE // 2, np.tile((np.arange(SIDE // 2) + 0.5) / (SIDE // 2) * 2 - 1, (SIDE // 2, 1))
    columns = [slice(i * SIDE // 4, i * SIDE // 4 + half) for i in range(3)]
    up, low = (np.stack([_at(rows, c, across) for c in columns]) for rows in (slice(0, half), slice(half, SIDE)))
    centre_up, within_up = _spread(np.concatenate([up, low]))
    middle = centre_up[:3].mean(), centre_up[3:].mean()
    offset = centre_up - np.repeat(middle, 3)
    both = within_up + np.outer(offset, offset)
    foretold = both[:3, 3:].mean() / np.diag(both)[:3].mean()

    def to_come(rng: np.random.Generator, n: int) -> Draws:
        def part(key: jax.Array, images: jax.Array, label: np.ndarray) -> Draws:
            seen, later = _pairs(proxies.predictive_coding(()), key, images, label)
            u, w = (x[..., 0] * across for x in (seen, later))
            u, w = u.sum((-2, -1)) - middle[0], w.sum((-2, -1)) - middle[1]
            return (u * w[:, None]).mean(1), (u**2).mean(1)

        return _joined(part(*each) for each in _images(rng, n))

    share = MOMENTS.weight.sum(0)
    gap = SLOPE @ (
        MOMENTS.weight[:, 1] @ MOMENTS.mean[:, 1] / share[1] - MOMENTS.weight[:, 0] @ MOMENTS.mean[:, 0] / share[0]
    )
    taught = theory.predictor(jnp.asarray(cov), jnp.asarray([[share[0] * share[1] * gap]]), ridge=0.0)

    def labelled(rng: np.random.Generator, n: int) -> Draws:
        def part(key: jax.Array, images: jax.Array, label: np.ndarray) -> Draws:
            seen, answer = _pairs(proxies.supervised(()), key, images, label)
            score = seen.reshape(len(seen), -1) @ SLOPE - mean[0]
            return score * (answer[:, 1] - share[1]), score**2

        return _joined(part(*each) for each in _images(rng, n))

    def kept(name: str, predicted: object, simulate) -> Setting:
        return Setting("proxy task", f"{name}, on images", float(predicted), simulate, costly=10)  # pyright: ignore[reportArgumentType]

    def moved(name: str, predicted: float, simulate, factor: str = "variability") -> Setting:
        return Setting(factor, f"{name}, on images", predicted, simulate, costly=10)

    return [
        moved("gain", ramp(theory.contrast_moments(grey, plain, 0.1)), _variance_of_images((v.GAIN, 0.1))),
        moved("noise", ramp(noisy), _variance_of_images((v.NOISE, 0.03))),
        moved("rotation, order 2", turn, _turned(2, 30.0)),
        moved("blur", blur, _blurred(0.05)),
        moved(
            "noise, then gain",
            ramp(theory.contrast_moments(*noisy, 0.1)),
            _variance_of_images((v.NOISE, 0.03), (v.GAIN, 0.1)),
            "two together",
        ),
        moved("blur, then gain", blur * float(np.exp(0.1**2 / 2)), _blurred(0.05, 0.1), "two together"),
        kept("contrastive: noise views", theory.gain(*noise), _views(proxies.contrastive(views[0]))),
        kept("exemplar: gain views", theory.gain(*gain), _views(proxies.exemplar(views[1]))),
        kept("VICReg: pairs under gain, its loss apart", theory.gain(*gain), _views(proxies.decorrelating(views[1]))),
        kept("Barlow Twins: pairs under noise, its loss apart", theory.gain(*noise), _views(proxies.barlow(views[0]))),
        kept(
            "rotation prediction, order 1",
            learning.kept_by_turning(1, *turning),
            _told(proxies.rotation_prediction(()), lambda u: u.reshape(len(u), -1) @ wave, 0.0),
        ),
        kept(
            "relative location",
            learning.kept_by_place(*around[:2]),
            _told(proxies.relative_location(()), lambda u: u[:, 1].mean((1, 2, 3)), around[2]),
        ),
        kept(
            "jigsaw",
            learning.kept_by_place(*tiles[:2]),
            _told(proxies.jigsaw(()), lambda u: u[:, : SIDE // 2, : SIDE // 2].mean((1, 2, 3)), tiles[2]),
        ),
        kept("masked: eight patches shown", many * (sum(masking) / (masking[0] + masking[1] / 8)) ** 0.5, hidden),
        kept("predictive coding: one patch shown", foretold, to_come),
        kept("supervised", taught[0, 0], labelled),
    ]


# ---- probes trained on few labels

SIZE = 60  # features; labels half as many again


def _spectrum(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Variances of controls and, where they differ, of cases, and half the gap."""
    return np.geomspace(4.0, 0.3, size), np.geomspace(0.4, 2.5, size), np.full(size, 1.1 / size**0.5)


def _source(size: int, unequal_spectra: bool = False) -> theory.Moments:
    one, other, half = _spectrum(size)
    cov = jax.vmap(jnp.diag)(jnp.stack([one, other if unequal_spectra else one]))
    return theory.Moments(jnp.stack([-half, half]), cov, jnp.ones(2))


def _probe(size: int, flip: float, added: float) -> tuple[float, Callable]:
    """AUC of ridge probes, some labels wrong, on images with noise ``added``; exact given the weights."""
    spectrum, _, half = _spectrum(size)
    n = 3 * size // 2

    def simulate(rng: np.random.Generator, draws: int) -> Draws:
        y = np.tile([-1.0, 1.0], (n + 1) // 2)[:n]
        found = np.empty(draws)
        for i in range(draws):
            x = rng.normal(size=(n, size)) * spectrum**0.5 + y[:, None] * half
            seen = np.where(rng.random(n) < flip, -y, y)
            w = np.linalg.solve(x.T @ x / n + 0.3 * np.eye(size), x.T @ seen / n)
            found[i] = norm.cdf(2 * w @ half / np.sqrt(2 * w**2 @ (spectrum + added**2)))
        return _mean_of(found)

    source = _source(size)
    law = theory.probe(source, n, flip=flip, ridge=0.3)
    mean, moved = theory.noise_moments(source.mean, source.cov, added)
    return float(theory.deploy(law, theory.Moments(mean, moved, jnp.ones(2)))[0]), simulate


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


def _unequal(size: int, probe: str) -> tuple[float, Callable]:
    """AUC of probes of classes unequal in number, covariance and label quality, in images with noise 0.5."""
    one, other, _ = _spectrum(size)
    some = Classes(probe, (size, size // 2), (one, other), (0.05, 0.2), added=0.5, ridge=0.3)
    return some.stated(), some.auc


def few_cases() -> list[Setting]:
    """A design's usual 256 labels of 64 features, few of them cases, balanced or not."""
    found, (spectrum, *_) = [], _spectrum(64)
    chosen = [(n, probe, how) for n in (26, 77) for probe in ("ridge", "logistic") for how in ("none", "weights")]
    for cases, probe, how in [*chosen, (77, "ridge", "re-sampling"), (77, "logistic", "re-sampling")]:
        some = Classes(probe, (256 - cases, cases), (spectrum, spectrum), balance=how)
        name = f"{probe} probe, {cases} cases of 256, {'as they are' if how == 'none' else f'balanced by {how}'}"
        found.append(Setting("imbalance", name, some.stated(), some.auc, costly=50))
    return found


def _discriminant(size: int) -> tuple[float, Callable]:
    """TPR of regularised discriminants, five controls a case."""
    spectrum, _, half = _spectrum(size)
    controls, cases = 4 * size // 3, 4 * size // 15

    def simulate(rng: np.random.Generator, draws: int) -> Draws:
        found = np.empty(draws)
        for i in range(draws):
            one = rng.normal(size=(cases, size)) * spectrum**0.5 + half
            two = rng.normal(size=(controls, size)) * spectrum**0.5 - half
            apart = np.concatenate([one - one.mean(0), two - two.mean(0)])
            w = np.linalg.solve(apart.T @ apart / (len(apart) - 2) + 0.3 * np.eye(size), one.mean(0) - two.mean(0))
            found[i] = norm.cdf(w @ (half - (one.mean(0) + two.mean(0)) / 2) / (w**2 @ spectrum) ** 0.5)
        return _mean_of(found)

    return float(unequal.discriminant_rates(_source(size), (controls, cases), ridge=0.3)[0]), simulate


def _resampled(rng: np.random.Generator, n: int) -> Draws:
    """Variance of the mean of 60 draws with replacement from 20 images."""
    images = rng.normal(size=(n, 20))
    return _mean_of(np.take_along_axis(images, rng.integers(0, 20, (n, 60)), 1).mean(1) ** 2)


def _rare(size: int, group: int | None) -> tuple[float, Callable]:
    """TPR of difference-of-means classifiers with few cases, many features; or of one subgroup of two."""
    d, cases, controls, shift = 10 * size // 3, (size // 3, size // 15), (5 * size // 6, 5 * size // 3), 2.0

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


def _unlike(size: int, ridge: float | None) -> tuple[float, Callable]:
    """Mean AUC in a subgroup that is rare, mostly ill and looks different: of differences of means, or of ridge probes."""
    gap, place = np.zeros((2, 2, size))
    n_case, n_control = np.array([size // 2, size // 4]), np.array([7 * size // 10, size // 20])
    labels = int(n_case.sum() + n_control.sum())
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
                w = np.linalg.solve(x.T @ x / labels + ridge * np.eye(size), x.T @ y / labels)
            found[i] = norm.cdf(gap[1] @ w / np.sqrt(2 * (w @ w)))
        return _mean_of(found)

    if ridge is None:
        areas = sampling.subgroup_auc(*map(jnp.asarray, (gap, place, np.ones(2))), size, n_case, n_control)
        return float(areas[1]), simulate
    mean = jnp.asarray(place[:, None] + np.array([-1, 1])[None, :, None] * gap[:, None] / 2)
    weight = jnp.asarray(np.stack([n_control, n_case], 1), float)
    groups = theory.Moments(mean, jnp.broadcast_to(jnp.eye(size), (2, 2, size, size)), weight)
    law = theory.probe(sampling.pooled(groups), labels, flip=0.0, ridge=ridge)
    return float(theory.deploy(law, groups)[0][1]), simulate


def _abroad(size: int) -> tuple[float, Callable]:
    """AUC of ridge probes from as many labels on two thirds of whitened features, in which part of the class direction lies."""
    rng, whole, kept = np.random.default_rng(0), 4 * size // 3, 2 * size // 3
    delta = np.full(whole, 2.5 / whole**0.5)
    near = delta + 0.15 * rng.normal(size=whole)
    basis = np.linalg.qr(np.column_stack([near, rng.normal(size=(whole, kept - 1))]))[0]
    share = float(learning.retained(jnp.asarray(basis), jnp.asarray(delta)))
    y = np.repeat([-1.0, 1.0], size // 2)

    def simulate(rng: np.random.Generator, n: int) -> Draws:
        found = np.empty(n)
        for i in range(n):
            x = (rng.normal(size=(size, whole)) + y[:, None] * delta / 2) @ basis
            seen = np.where(rng.random(size) < 0.1, -y, y)
            w = np.linalg.solve(x.T @ x / size + 0.2 * np.eye(kept), x.T @ seen / size)
            found[i] = norm.cdf(w @ (delta @ basis) / np.sqrt(2 * w @ w))
        return _mean_of(found)

    return float(learning.transferred(2.5**2, share, kept, size, flip=0.1, ridge=0.2)), simulate


def probes() -> list[Setting]:
    def sized(factor: str, name: str, at: Callable[[int], tuple[float, Callable]]) -> Setting:
        half = Setting(factor, name, *at(SIZE // 2), costly=50)
        return Setting(factor, name, *at(SIZE), costly=50, half=half)

    every = "counts, covariances, labels and noise"
    return [
        sized("imbalance", "discriminant of the rare class", _discriminant),
        Setting("imbalance", "re-sampling", float(1 / unequal.resampled_size(20, 60)), _resampled),
        sized("two together", f"{every}, ridge", lambda size: _unequal(size, "ridge")),
        sized("two together", f"{every}, logistic", lambda size: _unequal(size, "logistic")),
        sized("labels", "ridge probe, 90 labels", lambda size: _probe(size, 0.0, 0.0)),
        sized("labels", "ridge probe, a fifth wrong", lambda size: _probe(size, 0.2, 0.0)),
        sized("two together", "a fifth wrong, and noise", lambda size: _probe(size, 0.2, 1.0)),
        sized("imbalance", "sensitivity of the rare class", lambda size: _rare(size, None)),
        sized("two together", "rare class and rare subgroup", lambda size: _rare(size, 1)),
        sized("imbalance", "AUC in a rare subgroup that looks different", lambda size: _unlike(size, None)),
        sized("two together", "a rare subgroup and few labels, ridge", lambda size: _unlike(size, 0.3)),
        sized("two together", "transfer and few labels", _abroad),
    ]


def settings() -> list[Setting]:
    return [*samples(), *variabilities(), *domains(), *images(), *probes(), *few_cases()]


def compare(setting: Setting, rng: np.random.Generator, n: int) -> tuple[float, float, float, float]:
    """Simulated value, its standard error, distance from the prediction in standard errors, slope of log error about it."""
    a, b = setting.simulate(rng, n // setting.costly)
    value = a.mean() / b.mean()
    error = (a - value * b).std(ddof=1) / b.mean() / len(a) ** 0.5  # delta method for a ratio
    counts = GROUPS[len(a) // GROUPS >= FEWEST[int(np.ptp(b) > 0)]][-5:]
    spread = []
    for count in counts:
        one, two = (x[: len(x) // count * count].reshape(count, -1).mean(1) for x in (a, b))
        spread.append(np.sqrt(np.mean((one / two - setting.predicted) ** 2)))
    slope = -np.polyfit(np.log(counts), np.log(spread), 1)[0] if len(counts) > 1 else np.nan
    return value, error, abs(value - setting.predicted) / error, slope


@dataclass(frozen=True)
class Options:
    """How many draws."""

    draws: int = 250_000
    """independent draws of each setting (a tenth of it where one is an image, a fiftieth where one is a trained probe)"""
    out: Path | None = None
    """folder for the table, AGREEMENT.md"""
    quick: bool = False
    """few draws: shows that the script runs"""


def main(options: Options) -> None:
    """Print the table, and keep it."""
    jax.config.update("jax_enable_x64", True)
    draws = 20_000 if options.quick else options.draws
    rows = [
        "| factor | setting | predicted | simulated | s.e. | distance, s.e. | slope |",
        "|---|---|---|---|---|---|---|",
    ]
    sizes = ["| setting | error at half the size | its s.e. | error | its s.e. |", "|---|---|---|---|---|"]
    for i, one in enumerate(settings()):
        value, error, apart, slope = compare(one, np.random.default_rng(i), draws)
        rows.append(
            f"| {one.factor} | {one.name} | {one.predicted:.4f} | {value:.4f} | {error:.4f} | {apart:.1f} | {slope:.2f} |"
        )
        print(rows[-1], flush=True)
        if one.half:
            small, its, *_ = compare(one.half, np.random.default_rng(1_000 + i), 2 * draws)
            sizes.append(
                f"| {one.name} | {small - one.half.predicted:+.4f} | {its:.4f} | {value - one.predicted:+.4f} | {error:.4f} |"
            )
            print(sizes[-1], flush=True)
    if options.out:
        made = f"Made by `python simulations/5_theory_against_simulation.py --out {options.out}`"
        text = [
            f"# Theory against simulation\n\n{made}: {draws:,} draws a setting; columns are explained there.\n",
            *rows,
        ]
        text += [
            "\nWhat closed forms for many features leave out, simulated minus predicted, with 30 features and with 60:\n"
        ]
        atomically(options.out / "AGREEMENT.md", lambda file: file.write("\n".join([*text, *sizes, ""]).encode()))


if __name__ == "__main__":
    main(tyro.cli(Options))
