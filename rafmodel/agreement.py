"""How far theory is believed: as far as its two parts of the source agree.

A forecast is made on parts of the source of other patients each.  What sets a design apart in one part and not in another comes
from the images that are there and not from the design.
"""

import numpy as np
from scipy.special import ndtr, ndtri

from rafmodel.metrics import Outcome, probit

FEWEST_DESIGNS = 4  # below which parts are not asked whether they agree on what sets them apart


def believed(outcome: Outcome) -> Outcome:
    """The outcomes of several designs (design, ...), their effects kept as far as the parts of the source agree on them.

    On the probit scale the mean effect of a design over all cells, and what it is in a cell beside that, each times its share
    (``shares``): 1 where parts agree, 0 where they do not.  As it is where parts cannot be asked.
    """
    known = None if outcome.by_part is None else shares(outcome.by_part)
    if known is None:
        return outcome

    def kept(rate: np.ndarray) -> np.ndarray:
        own, rest = _split(probit(rate), (1, 2))
        return ndtr(ndtri(rate) + (known[0] - 1) * own + (known[1] - 1) * rest)

    return outcome._replace(auc=kept(outcome.auc), tpr=kept(outcome.tpr), fpr=kept(outcome.fpr))


def shares(by_part: np.ndarray) -> tuple[float, float] | None:
    """Share of variance that parts have in common (Spearman 1910, Brown 1910), of designs' mean effects and of the rest.

    by_part  AUC (design, part, shift, severity) as each part has it
    None where fewer than FEWEST_DESIGNS or two parts are there, or one has no value.
    """
    if len(by_part) < FEWEST_DESIGNS or by_part.shape[1] < 2 or not np.isfinite(by_part).all():
        return None
    own, rest = _split(probit(by_part), (2, 3))
    return _in_common(own), _in_common(rest)


def correlation(by_part: np.ndarray) -> float:
    """Correlation of designs' effects under shift, probit scale, between the first two parts.

    by_part  AUC (design, part, shift, severity)
    """
    own, rest = _split(probit(by_part[..., 1:]), (2, 3))
    effect = own + rest
    return float(np.corrcoef(effect[:, 0].ravel(), effect[:, 1].ravel())[0, 1])


def _split(z: np.ndarray, cells: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Effects of designs (design, ...): mean over cells, whose axes stay with length 1, and what is left."""
    effect = z - z.mean(0)
    own = effect.mean(cells, keepdims=True)
    return own, effect - own


def _in_common(effect: np.ndarray) -> float:
    """Share, in [0, 1], of the variance of the mean over parts of effects (design, part, ...) that is not of single parts."""
    parts, mean = effect.shape[1], np.square(effect.mean(1)).mean()
    common = (parts * mean - np.square(effect).mean()) / (parts - 1)
    return float(np.clip(common / mean, 0, 1)) if mean > 0 else 1.0
