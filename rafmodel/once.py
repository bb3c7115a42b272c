"""Answers kept for the few questions that were asked lastly."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Any

MOST = 4  # laws of pairs, whose moments are kept: designs of a grid, which share one, follow one another


class Once:
    """What a few questions were answered lastly, each made once whichever thread asks."""

    def __init__(self, most: int = MOST):
        self._most, self._lock, self._answers = most, Lock(), {}

    def __call__(self, question: Any, make: Callable[[], Any]) -> Any:
        """The answer to a question (hashable): one kept, or what ``make`` returns; what it raises is raised to all who ask."""
        with self._lock:
            answer = self._answers.get(question)
            if mine := answer is None:
                answer = self._answers[question] = Future()
                for old in list(self._answers)[: -self._most]:
                    del self._answers[old]
        if mine:
            try:
                answer.set_result(make())
            except Exception as problem:
                answer.set_exception(problem)
        return answer.result()
