"""Whether a trained encoder still tells images apart: did it diverge, did it collapse, how many directions does it use?"""

from typing import NamedTuple

import numpy as np

FAILED = ("", "collapsed", "diverged", "error")  # what the numbers of `failed` in a study table say
LEAST = 1e-3  # spread below which features do not tell images apart


class Health(NamedTuple):
    """What the features (n, d) of a trained encoder look like.

    A low rank is no failure: a task that learns two classes to the end leaves one direction between them (neural collapse;
    Papyan, Han, Donoho 2020), and a single direction can tell images apart as well as many.  So it is recorded, not judged.

    rank    effective number of directions, from 1 to d; nan where features are not finite or all alike
    spread  root mean square distance from their mean, by root mean square length, in [0, 1]; nan where not finite
    """

    rank: float
    spread: float

    @property
    def failed(self) -> str:
        """``diverged`` where a feature is not finite, ``collapsed`` where all images have nearly one feature, else ''."""
        if np.isnan(self.spread):
            return FAILED[2]
        return FAILED[1] if self.spread < LEAST else FAILED[0]


def health(features: np.ndarray) -> Health:
    """Effective rank (Roy, Vetterli 2007) and spread of features (n, d), n at least 2."""
    if not np.isfinite(features).all():
        return Health(np.nan, np.nan)
    x = features.astype(np.float64)
    apart, length = x - x.mean(0), np.square(x).sum()
    if not length:
        return Health(np.nan, 0.0)
    power = np.linalg.eigvalsh(apart.T @ apart)
    total = power[power > 0].sum()
    share = power[power > 1e-12 * total] / total if total else np.empty(0)
    rank = float(np.exp(-(share * np.log(share)).sum())) if len(share) else np.nan
    return Health(rank, float(np.sqrt(np.square(apart).sum() / length)))
