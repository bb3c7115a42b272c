"""What theory keeps of a source cohort: moments of its images, in the statistics of untrained encoders' layers.

A chart is a set of coordinates: the leading directions of the layer statistics of one untrained encoder, or of several side
by side, with the moments of the source there, clean and under every shift.  Designs are foreseen in charts by ``predict``.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.special import ndtr, ndtri

from rafmodel import cohort as cohorts
from rafmodel import theory
from rafmodel.cohort import Cohort
from rafmodel.encoder import Network, in_chunks, layer_statistics
from rafmodel.metrics import auc
from rafmodel.on_disk import OnDisk
from rafmodel.variability import Variability

DIRECTIONS, POOLED = (
    120,
    400,
)  # principal directions of the layer statistics that are kept, of one network and of several
NETWORKS = 4  # untrained encoders to average over
FOLDS = 2  # parts of the source that stand in for the cohort to deploy on
CLEAN, ALTERED = 2048, 512  # source images for the class moments and the pairs, and for each shift
DEALS = 200  # of patients to these parts, until each has enough of every class
PROBES = 8  # draws of labels over which the untrained encoder's scores are averaged
AT_ONCE = 1280  # images altered together, in the survey and in the pairs, so that each law compiles once,
PIXELS = 1280 * 64**2  # and most pixels of them
FLAT = 1e-3  # variance, relative to the mean, below which a statistic is not scaled up
FEWEST = 8  # images of a class below which a subgroup's moments are not taken


class Chart(NamedTuple):
    """Moments of a source cohort in the leading directions of what untrained encoders see.

    networks   untrained encoders, whose layers' statistics stand side by side
    centre     (p,), axes (p, r): layer statistics -> coordinates
    width      number of an encoder's features
    untrained  (r, r) inner product of the first untrained encoder's own features
    clean      Moments of the source
    shifted    Moments with leading axes (shift, severity 0-5, group); nan where a subgroup has too few images
    offset     (3, shift, severity 0-5) what to add to the probits of AUC, TPR and FPR so that theory is right for
               the untrained encoder on the source's own images
    """

    networks: tuple[Network, ...]
    centre: np.ndarray
    axes: np.ndarray
    width: int
    untrained: Array
    clean: theory.Moments
    shifted: theory.Moments
    offset: np.ndarray


class Alike(NamedTuple):
    """How alike images of one patient are, by class, and how many a patient has.

    correlation  (C,) intraclass, of an untrained encoder's features, in [0, 1]
    size         (C,) images that the patient of an image has, mean over images
    n            (C,) images
    """

    correlation: np.ndarray
    size: np.ndarray
    n: np.ndarray

    def worth(self, count: Sequence[float]) -> float:
        """Independent labels that one of ``count`` (C,) labelled images of each class is worth, in (0, 1].  Kish 1965."""
        each = (self.size - 1) * np.minimum(1, np.asarray(count) / self.n)  # others of a patient that are labelled too
        return float(1 / np.mean(1 + each * self.correlation))


APART = Alike(np.zeros(1), np.ones(1), np.ones(1))  # every image is a patient's only one


def alike(x: np.ndarray, label: np.ndarray, patient: np.ndarray, classes: int) -> Alike:
    """From features (n, d) by one-way analysis of variance within each class 0 .. classes - 1, all features together."""
    found = []
    for c in range(classes):
        own, (_, code, size) = x[label == c], np.unique(patient[label == c], return_inverse=True, return_counts=True)
        n, patients = len(own), len(size)
        if 1 < patients < n:
            mean = np.stack([np.bincount(code, column) / size for column in own.T], 1)
            within = ((own - mean[code]) ** 2).sum() / (n - patients)
            between = (size[:, None] * (mean - own.mean(0)) ** 2).sum() / (patients - 1)
            shared = max(between - within, 0.0) * (patients - 1) / (n - (size**2).sum() / n)
            correlation = shared / (shared + within) if shared else 0.0
        else:
            correlation = float(patients < n)  # one image a patient: 0; one patient: nothing else is known
        found.append((correlation, (size**2).sum() / max(n, 1), max(n, 1)))
    return Alike(*np.array(found, float).T)


def statistics(networks: Sequence[Network], images: np.ndarray | OnDisk) -> np.ndarray:
    """Layer statistics of several encoders side by side, (N, p); the first one's features come first."""
    return np.concatenate([layer_statistics(network, images) for network in networks], 1)


class Columns(NamedTuple):
    """The statistics of one untrained encoder among those of all, or of all together.

    networks  whose they are, columns where they stand, width how many features come first
    """

    networks: tuple[Network, ...]
    columns: slice
    width: int

    def directions(self, clean: np.ndarray, shifted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centre, axes, and the inner product (r, r) of the first encoder's own features, from these columns."""
        several = len(self.networks) > 1
        scale = one_by_one(clean) if several else by_layer(clean, self.width)
        centre, axes = directions(clean, shifted, scale, POOLED if several else DIRECTIONS)
        return centre, axes, own_features(axes, scale, self.width)


def columns(networks: tuple[Network, ...], p: int, width: int) -> list[Columns]:
    """Of ``p`` statistics each network's, and where there are several all of them, last.

    width  number of features of a network whose layers are seen; of another all statistics are features
    """
    each = p // len(networks)
    d = width if hasattr(networks[0], "layers") else each
    found = [Columns((one,), slice(each * q, each * (q + 1)), d) for q, one in enumerate(networks)]
    return [*found, *([Columns(networks, slice(0, p), d)] if len(networks) > 1 else [])]


def own_features(axes: np.ndarray, scale: np.ndarray, d: int) -> np.ndarray:
    """Inner product (r, r) of coordinates that is the one of the first ``d`` statistics, from ``directions``."""
    features = axes[:d] / np.square(scale[:d, None])
    return features.T @ features


def scaled(metric: Array | np.ndarray, clean: theory.Moments) -> Array:
    """The inner product, scaled so that the source's total variance is that of the coordinates themselves."""
    second = theory.total_covariance(clean)
    return jnp.asarray(metric) * jnp.trace(second) / jnp.trace(metric @ second)


def directions(clean: np.ndarray, shifted: np.ndarray, scale: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Centre (p,) and axes (p, r): statistics times a scale (p,), then ``most`` principal axes.

    Shifted images take part, since what a shift moves is often flat among clean images.
    """
    centre = clean.mean(0)
    stacked = np.concatenate([clean - centre, shifted.reshape(-1, len(centre))[::7] - centre]) * scale
    stacked = stacked[np.isfinite(stacked).all(1)]  # of a table of features nothing shifted is known
    vectors = np.linalg.eigh(stacked.T @ stacked)[1][:, ::-1][:, :most]
    return centre, scale[:, None] * vectors


def by_layer(clean: np.ndarray, d: int) -> np.ndarray:
    """Scale (p,) that gives the ``d`` features and the other statistics (n, p) of one encoder equal total variance."""
    spread = clean.var(0)
    return 1 / np.sqrt(np.concatenate([np.full(d, spread[:d].sum()), np.full(len(spread) - d, spread[d:].sum())]))


def one_by_one(clean: np.ndarray) -> np.ndarray:
    """Scale (p,) that gives every statistic (n, p) the same variance, but for those that hardly vary."""
    spread = clean.var(0)
    return 1 / np.sqrt(spread + FLAT * spread.mean())


def under_shifts(
    key: Array, networks: Sequence[Network], images: np.ndarray | OnDisk, shifts: Sequence[Variability]
) -> np.ndarray:
    """Layer statistics of several encoders under every shift, (shift, severity 0-5, n, p).

    No more altered images are held than are altered together.
    """
    n, most = len(images), at_once(images)
    clean = statistics(networks, images)

    def under(i: int) -> np.ndarray:
        levels = shifts[i].levels
        keys = jax.random.split(jax.random.fold_in(key, i), n)  # an image keeps its draw over severities
        repeated = np.tile(np.arange(n), len(levels))
        severity = np.repeat(np.asarray(levels, np.float32), n)

        def seen(keys: Array, row: np.ndarray, severity: np.ndarray) -> np.ndarray:
            altered = np.asarray(jax.vmap(shifts[i].apply)(keys, jnp.asarray(images[row]), jnp.asarray(severity)))
            return statistics(networks, altered)

        altered = in_chunks(seen, keys[repeated], repeated, severity, chunk=most)
        return np.concatenate([clean[None], altered.reshape(len(levels), n, -1)])

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # compiles several variabilities at a time
        return np.array(list(pool.map(under, range(len(shifts)))))


def folds(key: Array, source: Cohort) -> list[np.ndarray]:
    """Rows of the source in random order: FOLDS parts to deploy on, and the rest; no patient in two parts.

    Dealt again, DEALS times at most, while a part to deploy on has fewer than FEWEST images of a class, as of classes with few
    patients it may; the deal with the most is kept.
    """
    _, stratum = np.unique(source.asked.strata(source.label), return_inverse=True)
    best: tuple[int, list[np.ndarray]] | None = None
    for deal in range(DEALS):
        parts = _dealt(jax.random.fold_in(key, deal) if deal else key, source)
        fewest = min(int(np.bincount(stratum[part], minlength=stratum.max() + 1).min()) for part in parts[:FOLDS])
        if best is None or fewest > best[0]:
            best = fewest, parts
        if fewest >= FEWEST:
            break
    assert best is not None
    return best[1]


def _dealt(key: Array, source: Cohort) -> list[np.ndarray]:
    """One deal; a source of fewer patients than parts is split by image."""
    order = np.asarray(jax.random.permutation(key, len(source.label)))
    who = np.unique(source.patient[order], return_inverse=True)[1]
    if who.max() < FOLDS:
        who = np.arange(len(order))
    first = np.unique(who, return_index=True)[1][who]  # a patient comes where the first image of theirs does
    order, first = order[np.argsort(first, kind="stable")], np.sort(first)
    size = min(ALTERED, len(order) // (FOLDS + 1))
    return np.split(order, [np.searchsorted(first, first[size * (i + 1)]) for i in range(FOLDS)])


def measured(
    key: Array,
    clean: np.ndarray,
    label: np.ndarray,
    shifted: np.ndarray,
    shifted_label: np.ndarray,
    n: int,
    ridge: float,
) -> np.ndarray:
    """AUC, TPR and FPR (3, shift, severity) of ridge probes on untrained features (n, d) and (shift, severity, m, d)."""
    rates = []
    for one in jax.random.split(key, PROBES):
        order = np.asarray(jax.random.permutation(one, len(label)))
        rows = np.concatenate([order[label[order] == c][: n // 2] for c in (0, 1)])
        x, y = clean[rows].astype(float), 2.0 * label[rows] - 1
        centre = (x[y > 0].mean(0) + x[y < 0].mean(0)) / 2
        x = x - centre
        penalty = ridge * (x**2).sum() / x.size
        weight = np.linalg.solve(x.T @ x / len(x) + penalty * np.eye(x.shape[1]), x.T @ y / len(x))
        source_score, score = (clean - centre) @ weight, (shifted - centre) @ weight
        bar = (source_score[label == 1].mean() + source_score[label == 0].mean()) / 2
        case = shifted_label == 1
        rates.append([auc(score, shifted_label), (score[..., case] > bar).mean(-1), (score[..., ~case] > bar).mean(-1)])
    return np.mean(rates, axis=0)


def averaged(stated: Sequence[np.ndarray], offsets: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over charts of what theory states (..., shift, severity, group), moved on the probit scale by each one's offset.

    Each untrained encoder is one draw.  A chart that has too few images of a subgroup is left out there; nan where all have.
    """
    found = np.stack([ndtr(ndtri(rates) + offset[..., None]) for rates, offset in zip(stated, offsets, strict=True)])
    known = ~np.isnan(found)
    mean = np.where(known, found, 0).sum(0) / np.maximum(known.sum(0), 1)
    return np.where(known.any(0), mean, np.nan)


def by_part(stated: Sequence[np.ndarray], offsets: Sequence[np.ndarray]) -> np.ndarray:
    """AUC of everyone as each part of the source has it, (part, shift, severity), from charts that stand part by part."""
    each = len(stated) // FOLDS
    some = [slice(each * i, each * (i + 1)) for i in range(FOLDS)]
    return np.stack(
        [averaged([s[:1, ..., :1] for s in stated[i]], [o[:1] for o in offsets[i]])[0, ..., 0] for i in some]
    )


def code(deployed: Cohort, group: str | None, names: list[str]) -> np.ndarray:
    """Number of each deployed image's subgroup among the test part's (-1: not in the test part)."""
    own, code = cohorts.groups(deployed, group)
    return np.array([names.index(name) if name in names else -1 for name in own] or [0])[code]


def moments_by_group(
    shifted: np.ndarray, centre: np.ndarray, axes: np.ndarray, label: np.ndarray, code: np.ndarray, n_groups: int
) -> theory.Moments:
    """Moments of statistics (shift, severity, n, p), in coordinates, with leading axes (shift, severity, group), everyone first.

    One shift at a time, and in single precision: for many shifts they are the largest that theory keeps.
    """
    everyone = np.ones((1, len(label)), bool)
    member = np.concatenate([everyone, code[None] == np.arange(n_groups)[:, None]]) if n_groups else everyone
    weight = member.astype(np.float32)
    each = [
        theory.Moments(*(v.astype(jnp.float32) for v in _moments_of((x - centre) @ axes, label, weight)))
        for x in shifted
    ]
    found = theory.Moments(*(jnp.stack(values) for values in zip(*each, strict=True)))
    few = np.array([min((label[m] == c).sum() for c in (0, 1)) < FEWEST for m in member])
    return found._replace(mean=jnp.where(few[None, None, :, None, None], jnp.nan, found.mean))


@jax.jit
def _moments_of(x: Array, label: Array, member: Array) -> theory.Moments:
    """Moments (severity, group) of x (severity, n, r) for groups given as weights (group, n)."""
    return jax.vmap(jax.vmap(theory.moments, (None, None, 0)), (0, None, None))(x, label, member)


def counts(label: np.ndarray, code: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    inside = [np.ones(len(label), bool), *(code == g for g in range(n_groups))]
    cases, controls = (np.array([(label[m] == c).sum() for m in inside]) for c in (1, 0))
    return cases, controls


def at_once(images: np.ndarray | OnDisk) -> int:
    """How many images (n, *space, C) are altered together."""
    return max(1, min(AT_ONCE, PIXELS // int(np.prod(images.shape[1:-1]))))
