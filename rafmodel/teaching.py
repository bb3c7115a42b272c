"""What the labels that a design's probe learns from come to, for theory."""

from typing import NamedTuple

import numpy as np

from rafmodel.design import Design, n_by_class


class Taught(NamedTuple):
    """What a probe's labels come to, controls then cases, for theory (``unequal.probe``).

    count   images of each class, or as many independent ones as they are worth
    flip    share of each class's labels that are wrong
    weight  of each class in the loss (mean over images 1)
    loss    squared or logistic
    again   how many more times an image of each class is seen on average, drawn again at random
    """

    count: tuple[float, float]
    flip: tuple[float, float]
    weight: tuple[float, float] = (1.0, 1.0)
    loss: str = "squared"
    again: tuple[float, float] = (0.0, 0.0)

    @property
    def alike(self) -> bool:
        """Whether both classes are alike and the loss is squared, as ``theory.probe`` has it."""
        pairs = (self.count, self.flip, self.weight)
        return all(one == other for one, other in pairs) and self.loss == "squared"


def taught(design: Design, label: np.ndarray) -> Taught:
    """Of cases against controls, labels drawn from a source with these labels (n,).

    To draw images of the rarer class again is to weigh them more, some more than others; balance of subgroups is taken for
    that of classes.
    """
    count, flip = n_by_class(design, label), flips(design)
    balanced = (design.weighting, design.resampling) != ("none", "none")
    weight = (sum(count) / (2 * count[0]), sum(count) / (2 * count[1])) if balanced else (1.0, 1.0)
    again = (max(count) / count[0] - 1, max(count) / count[1] - 1) if design.resampling != "none" else (0.0, 0.0)
    return Taught((count[0], count[1]), flip, weight, "logistic" if design.probe == "logistic" else "squared", again)


def flips(design: Design) -> tuple[float, float]:
    """Share of wrong labels among controls and among cases."""
    control, case = (design.label_flip if s is None else s for s in (design.flip_control, design.flip_case))
    return control, case
