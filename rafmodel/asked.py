"""What is asked of an image: whether it is a case, or of which class, with which findings, of what grade.

Each is a set of binary questions to one representation: each class against the rest, each finding with against without,
each grade or higher against lower.  An image's label is a code; what it answers to every question stands in one table.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

SEVERAL = ("multi-class", "multi-label", "ordinal")


@dataclass(frozen=True)
class Asked:
    """Q binary questions, and what the codes of labels answer to them.

    kind     ``classification`` (one question: a case?), ``multi-class``, ``multi-label`` or ``ordinal``
    names    of the classes; of the findings; of the grades from low to high
    stratum  of multi-label: under what each code counts where labels are drawn in equal numbers, from 0 without gaps: no finding,
             or the rarest it has.  Of the others the code itself, and empty here
    """

    kind: str
    names: tuple[str, ...]
    stratum: tuple[int, ...] = ()

    @property
    def several(self) -> bool:
        """Whether it is more than a case against a control."""
        return self.kind in SEVERAL

    @property
    def questions(self) -> tuple[str, ...]:
        """Each question in words."""
        if self.kind == "multi-label":
            return self.names
        words = "{} or higher" if self.kind == "ordinal" else "{} against the rest"
        return tuple(words.format(name) for name in self.names[self.kind != "multi-class" :])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is known of one image for each question: (Q,), or () of a single one."""
        return (len(self.questions),) if self.several else ()

    @property
    def n_strata(self) -> int:
        """How many strata labels are drawn from."""
        return max(self.stratum) + 1 if self.stratum else len(self.names)

    @cached_property
    def table(self) -> np.ndarray:
        """Answers (codes, Q) in {0, 1}; the code of findings has a bit for each."""
        n = len(self.names)
        if self.kind == "multi-class":
            return np.eye(n, dtype=np.int8)
        if self.kind == "multi-label":
            return (np.arange(2**n)[:, None] >> np.arange(n)[None] & 1).astype(np.int8)
        return (np.arange(n)[:, None] >= np.arange(1, n)[None]).astype(np.int8)

    def answers(self, label: np.ndarray) -> np.ndarray:
        """Answers (n, Q) in {0, 1} of images with codes (n,)."""
        return self.table[label]

    def strata(self, label: np.ndarray) -> np.ndarray:
        """Stratum (n,) of images with codes (n,)."""
        return np.asarray(self.stratum)[label] if self.stratum else label

    def undecided(self, label: np.ndarray) -> list[str]:
        """The questions that images with codes (n,) all answer alike, or that no image answers."""
        answers = self.answers(label)
        both = [len(set(column.tolist())) == 2 for column in answers.T]
        return [question for question, decided in zip(self.questions, both, strict=True) if not decided]


BINARY = Asked("classification", ("control", "case"))
