"""What a forecast of Gaussian scores is worth where it is deployed: calibration in the large, slope and expected error.

Closed forms beside those of ``theory``; the label after "Eq." is the one of the paper.  Class axes are ordered control (0),
case (1).
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtr


def mean_forecast(mean: Array | float, variance: Array | float, centre: Array | float, scale: Array | float) -> Array:
    """Mean over a class of the forecast Φ((score − centre)/scale), in [0, 1].  Eq. (mean-forecast), d01.

    mean, variance  of the Gaussian score in the class
    Weighted by prevalence and summed over classes, its distance from the prevalence is the calibration in the large.
    """
    return ndtr((mean - jnp.asarray(centre)) / jnp.sqrt(jnp.square(jnp.asarray(scale)) + variance))


def calibration_slope(
    gap: Array | float, variance: Array | float, shifted_gap: Array | float, shifted_variance: Array | float
) -> Array | float:
    """Slope of the true log-odds in the forecast log-odds under a shift; 1 is calibrated.  Eq. (calibration-slope), d01.

    gap, variance  of the score at the source, where the forecast is right; variance the same in both classes
    Below 1 a forecast is too sure of itself.
    """
    return (shifted_gap / jnp.asarray(shifted_variance)) / (gap / jnp.asarray(variance))


def calibration_error(
    mean: Array, variance: Array, prevalence: Array | float, forecast: Array, probability: Array | float = 1.0
) -> Array:
    """Expected calibration error of a logistic forecast of a Gaussian score, in [0, 1].  Eq. (calibration-error), d01.

    mean, variance  (2,) of the score in controls and cases, where it is deployed, or (2, k) with the probability (2, k)
                    of each of k components
    forecast        (2,) intercept and slope of the forecast log-odds in the score
    The mean over images of |forecast − chance of a case given the score|, by quadrature on 8 s.d. to either side.
    """
    centre, scale = jnp.reshape(mean, (2, -1)), jnp.sqrt(jnp.reshape(variance, (2, -1)))
    low, high = jnp.min(centre - 8 * scale), jnp.max(centre + 8 * scale)
    score = low + (high - low) * jnp.linspace(0, 1, 2001)
    share = jnp.stack([1 - jnp.asarray(prevalence), jnp.asarray(prevalence)])[:, None] * probability
    bell = jnp.exp(-jnp.square((score[None, None] - centre[..., None]) / scale[..., None]) / 2) / jnp.sqrt(2 * jnp.pi)
    density = jnp.sum((share / scale)[..., None] * bell, axis=1)
    called = jax.nn.sigmoid(forecast[0] + forecast[1] * score)
    # |p − P(1|s)| times the density of s, without a division
    return jnp.trapezoid(jnp.abs(called * density.sum(0) - density[1]), score)
