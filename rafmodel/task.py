"""What is asked of the images of a study: cases or controls, classes, findings or grades, or pixels of a structure.

A task is a value: how a design is foreseen, trained, deployed and judged.  A study is the same whichever it is given.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from rafmodel import classes_predict, dice, metrics, predict, segment, segment_predict, simulate
from rafmodel import cohort as cohorts
from rafmodel.asked import Asked
from rafmodel.cohort import Cohort
from rafmodel.masks import Segmentation
from rafmodel.metrics import Outcome
from rafmodel.on_disk import batches
from rafmodel.segment import Segmented
from rafmodel.simulate import Deployment

RATES = ("auc", "tpr", "fpr")


@dataclass(frozen=True)
class Task:
    """A task, and the functions that a study of it runs.

    metric           what RAF is of: ``auc`` or ``dice``
    chance           its value without looking at the image
    measures         what is foreseen and observed in each cell
    survey, foresee  as ``predict.survey`` and ``predict.foresee``
    deploy           as ``simulate.deploy``; ``record`` is what it returns, ``score`` reduces it to an ``Outcome``
    lost             record of a deployment that raised: ``(test images, shifts, error)``
    spread           intervals over patients of the sound seeds of a design: ``(rows, test, group, key)``
    modules          of the package, that decide a result beside those of a classification
    content          digest of what else does
    head             how pixels are scored, '' where images are
    patch            side in pixels of the patches that a segmentation learns from, 0 for whole images
    name             as ``--task`` has it
    questions        in words, where several are asked of an image
    """

    metric: str
    chance: float
    measures: tuple[str, ...]
    survey: Callable[..., Any] = field(repr=False)
    foresee: Callable[..., Outcome] = field(repr=False)
    deploy: Callable[..., Any] = field(repr=False)
    record: type = field(repr=False)
    score: Callable[..., Outcome] = field(repr=False)
    lost: Callable[[int, int, str], Any] = field(repr=False)
    spread: Callable[..., dict[str, np.ndarray]] = field(repr=False)
    modules: tuple[str, ...] = ()
    content: str = ""
    head: str = ""
    name: str = "classification"
    questions: tuple[str, ...] = ()
    patch: int = 0

    def sound(self, row: list) -> list:
        """The seeds of a design that trained well; where there is none, one without scores."""
        return [cell for cell in row if not cell.failed] or [_blank(row[0])]


def segmentation(asked: Segmentation, cohort: Cohort) -> Task:
    """The task of segmenting a cohort with binary masks (``masks.segmented``)."""
    assert cohort.mask is not None
    content = hashlib.sha256(repr((asked, cohort.mask.shape)).encode())
    for some in batches(cohort.mask):
        content.update(np.ascontiguousarray(some).data)
    return Task(
        "dice",
        asked.chance,
        (*RATES, "dice"),
        segment_predict.survey,
        segment_predict.foresee,
        partial(segment.deploy, task=asked),
        Segmented,
        segment.score,
        segment.lost,
        partial(_spread_of_pixels, asked.chance),
        ("contours", "dice", "segment"),
        content.hexdigest(),
        asked.head,
        "segmentation",
        patch=asked.patch,
    )


def _blank(cell: Any) -> Any:
    """A deployment of which nothing is known."""
    if isinstance(cell, Segmented):
        return cell._replace(pixels=np.zeros_like(cell.pixels))
    return cell._replace(score=np.full_like(cell.score, np.nan))


def _spread_of_scores(row: list[Deployment], test: Cohort, group: str | None, key: jax.Array) -> dict[str, np.ndarray]:
    names, code = cohorts.groups(test, group)
    told = test.asked.answers(test.label) if test.asked.several else test.label
    return metrics.raf_interval(np.stack([c.score for c in row]), told, code, len(names), test.patient, key)


def _spread_of_pixels(
    chance: float, row: list[Segmented], test: Cohort, group: str | None, key: jax.Array
) -> dict[str, np.ndarray]:
    names, code = cohorts.groups(test, group)
    cells = [(c.pixels, int(c.threshold)) for c in row]
    return dice.raf_interval(cells, code, len(names), test.patient, key, chance=chance)


CLASSIFICATION = Task(
    "auc",
    0.5,
    RATES,
    predict.survey,
    predict.foresee,
    simulate.deploy,
    Deployment,
    simulate.score,
    simulate.lost,
    _spread_of_scores,
)


def classification(asked: Asked) -> Task:
    """The task of answering what is asked of images: CLASSIFICATION, or several questions, whose mean AUC is judged."""
    if not asked.several:
        return CLASSIFICATION
    return replace(
        CLASSIFICATION,
        measures=(*RATES, "concordance") if asked.kind == "ordinal" else RATES,
        survey=classes_predict.survey,
        foresee=classes_predict.foresee,
        lost=partial(simulate.lost, shape=asked.shape),
        name=asked.kind,
        questions=asked.questions,
    )
