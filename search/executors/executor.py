"""The interface of a place where points are done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tilewright.errors import TilewrightError
from tilewright.search.sweep.space import SweepPoint

__all__ = ["Executor", "Outcome", "WorkerError"]


class WorkerError(TilewrightError):
    """The workers cannot start, cannot be reached, or cannot run points as this process does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of points that were handed over.

    ``counts``: how many finished in which status; their rows are in the store. ``left``: those that did not finish.
    ``killed``: the process that ran them was killed, perhaps by one of those left.
    """

    counts: Counter[str]
    left: Sequence[SweepPoint] = ()
    killed: bool = False


class Executor(Protocol):
    """Does points and sees to it that each finished one is in the store before it is counted.

    ``n_workers``: how many processes work now (0: all have gone, and others may come). ``verdict``: the error of a
    point that kills its worker again when it is the only one handed over.
    """

    verdict: str

    @property
    def n_workers(self) -> int: ...

    def start(self) -> None:
        """Make ready for the first points; nothing happens the second time. Raises WorkerError where it cannot."""

    def wants_more(self) -> bool:
        """Whether more points should be handed over, so that no worker waits."""

    def is_idle(self) -> bool:
        """Whether all points that were handed over have come back."""

    def submit(self, points: Sequence[SweepPoint]) -> None:
        """Hand over neighbouring points, to be done by one worker one after another."""

    def collect(self) -> list[Outcome]:
        """What came back since the last call; waits for something for a moment, so it may be nothing."""

    def close(self) -> None:
        """End the work: what is in a worker's hands may finish, nothing new begins."""
