"""What estimators of an image's state are worth on a cohort: known amounts are added to its images and looked for.

The change found is compared with the change made: slope, correlation, and what is left unexplained, which is the error of two
measurements.  A state that does not answer is not identified, and it is said why.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import state
from rafmodel.encoder import in_chunks
from rafmodel.registration import change_by_turning, warp
from rafmodel.state import SCORES, STATES, Reference
from rafmodel.variability import CATALOGUE, alter
from rafmodel.variability.intensity import bias_field, gain, gamma
from rafmodel.variability.law import grid, sample
from rafmodel.variability.noise import gaussian
from rafmodel.variability.resolution import gaussian_blur

FEWEST = 0.7  # correlation of added and recovered below which a state is not identified
SLOPES = (0.5, 1.5)  # between which the recovered share of what was added must lie
IMAGES = 256  # of a cohort that amounts are added to
LEVEL = 2  # of an artifact's five levels, from 0, at which its detector is judged
FAR = 5.0  # robust s.d. above the cohort's median from which a score counts as an artifact
_LEAST = np.array([0.1, 0.05, 0.1, 0.3])  # smallest s.d. that a score is taken to have


class Recovery(NamedTuple):
    """What each estimator recovers, (len(STATES),) each, and each detector, (len(SCORES),).

    slope, correlation  of the change found on the change made
    bias                change found where none was made, in the state's unit
    error               s.d. of one measurement, in units of the true state (divided by the slope)
    identified          whether the state can be told from these images
    threshold           score from which an artifact is called
    found, tried        images with an injected artifact that were called, and how many there were
    curve               (len(SCORES), 5) mean score of images at each level of the artifact
    turning             1 − correlation of the mean image with itself turned by 20 degrees
    """

    slope: np.ndarray
    correlation: np.ndarray
    bias: np.ndarray
    error: np.ndarray
    identified: np.ndarray
    threshold: np.ndarray
    found: np.ndarray
    tried: np.ndarray
    curve: np.ndarray
    turning: float


class Injection(NamedTuple):
    """Amounts added to some states of an image.

    names   the states it is meant to change
    amount  ``(key) -> (len(names),)``
    apply   ``(key, image, amount) -> image``
    """

    names: tuple[str, ...]
    amount: Callable[[Array], Array]
    apply: Callable[[Array, Array, Array], Array]


def _one(image: Array) -> Array:
    return jnp.ones((), image.dtype)


def _normal(*sd: float):
    return lambda key: jax.random.normal(key, (len(sd),), jnp.float32) * jnp.array(sd, jnp.float32)


def _uniform(low: float, high: float):
    return lambda key: jax.random.uniform(key, (1,), jnp.float32, low, high)


def _noisy(key: Array, image: Array, amount: Array) -> Array:
    return gaussian({"z": jax.random.normal(key, image.shape, image.dtype)}, image, amount[0])


INJECTIONS = (
    Injection(("gain",), _normal(0.2), lambda _, x, a: gain({"z": a[0]}, x, _one(x))),
    Injection(("gamma",), _normal(0.2), lambda _, x, a: gamma({"z": a[0]}, x, _one(x))),
    Injection(
        ("rotation", "down", "across", "scale"),
        _normal(10.0, 0.05, 0.05, 0.1),
        lambda _, x, a: sample(x, warp(a, grid(x))),
    ),
    Injection(("noise",), _uniform(0.02, 0.1), _noisy),
    Injection(("blur",), _uniform(0.01, 0.05), lambda _, x, a: gaussian_blur({}, x, a[0])),
    Injection(
        tuple(name for name in STATES if name.startswith("field")),
        _normal(*(0.2,) * 5),
        lambda _, x, a: bias_field({"z": a}, x, _one(x)),
    ),
)


def made(name: str, before: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Change of a state (N,) that an amount makes: variances of noise and of blur add, everything else adds as it is."""
    if name == "noise":
        return 0.5 * np.log(np.exp(2 * before) + amount**2) - before
    return amount**2 if name == "blur" else amount


def inject(key: Array, injection: Injection, images: Array) -> tuple[Array, np.ndarray]:
    """Images (N, H, W, 1) with amounts (N, len(names)) added, drawn for each."""
    keys = jax.random.split(key, (2, len(images)))
    amounts = jax.vmap(injection.amount)(keys[0])
    altered = in_chunks(jax.jit(jax.vmap(injection.apply)), keys[1], images, amounts, chunk=state.CHUNK)
    return jnp.asarray(altered), np.asarray(amounts)


def recover(key: Array, reference: Reference, images: Array) -> Recovery:
    """Slope, correlation, bias and error of every estimator on images (N, H, W, 1) of a cohort, and of its detectors."""
    order = np.asarray(jax.random.permutation(key, len(images)))[:IMAGES]
    some = images[order]
    before, names = state.states(reference, some), list(STATES)
    lines = np.full((4, len(names)), np.nan)
    for number, injection in enumerate(INJECTIONS):
        altered, amounts = inject(jax.random.fold_in(key, number), injection, some)
        after = state.states(reference, altered)
        for name, amount in zip(injection.names, amounts.T, strict=True):
            i = names.index(name)
            lines[:, i] = _line(made(name, before[:, i], amount), after[:, i] - before[:, i])
    slope, correlation, bias, error = lines
    identified = (correlation >= FEWEST) & (slope >= SLOPES[0]) & (slope <= SLOPES[1])
    turning = float(change_by_turning(reference.template, 20.0))
    detected = _detectors(key, reference, images, some)
    return Recovery(*(slope, correlation, bias, error, identified), *detected, turning)  # pyright: ignore[reportCallIssue]


def _line(change: np.ndarray, seen: np.ndarray) -> tuple[float, float, float, float]:
    """Slope, correlation, bias and error of one measurement; the error from the middle half, for few images fail altogether."""
    slope, bias = np.polyfit(change, seen, 1)
    rest = seen - slope * change - bias
    spread = np.subtract(*np.quantile(rest, [0.75, 0.25])) / 1.349
    return slope, np.corrcoef(change, seen)[0, 1], bias, spread / np.sqrt(2) / max(abs(slope), 1e-6)


def _detectors(key: Array, reference: Reference, images: Array, some: Array) -> tuple[np.ndarray, ...]:
    """Thresholds from the cohort's own scores, what they find of injected artifacts, and mean score by level."""
    own = state.scores(reference, images)
    middle, upper = np.median(own, 0), np.quantile(own, 0.75, axis=0)
    spread = np.maximum(np.maximum(1.4826 * np.median(np.abs(own - middle), 0), (upper - middle) / 0.6745), _LEAST)
    threshold, curve, found = middle + FAR * spread, np.empty((len(SCORES), 5)), np.zeros(len(SCORES), int)
    for i, name in enumerate(SCORES):
        levels = jnp.array(CATALOGUE[name].levels, some.dtype)
        altered = alter(jax.random.fold_in(key, 99 + i), CATALOGUE[name], some, levels)
        score = state.scores(reference, altered.reshape(-1, *some.shape[1:]))[:, i].reshape(5, -1)
        curve[i], found[i] = score.mean(1), int((score[LEVEL] > threshold[i]).sum())
    return threshold, found, np.full(len(SCORES), len(some)), curve


def why_not(name: str, recovery: Recovery) -> str:
    """Why a state cannot be told from the images; "" where it can."""
    i = list(STATES).index(name)
    if recovery.identified[i]:
        return ""
    found = f"of a known amount {recovery.slope[i]:.0%} comes back, correlation {recovery.correlation[i]:.2f}"
    if name == "rotation":
        return (
            f"{found}; turning the mean image by 20° changes its correlation with itself by {recovery.turning:.3f} only"
        )
    return found
