"""What a scheduler sees: the tasks that are ready, the elements, and what it has assigned so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tilewright.hw_models.soc.spec import SocSpec
from tilewright.registry import Registry
from tilewright.workloads.task_graphs.graph import Job

__all__ = ["SCHEDULERS", "Board", "Ready", "Scheduler"]


class Ready:
    """A task whose predecessors are all noticed as done.

    ``candidates``: (element, ticks) where it can run. ``data_at``: by element, the tick at which all that it needs can
    be there. ``element`` and ``ticks``: where it was assigned, and what it takes there.
    """

    __slots__ = ("candidates", "data_at", "element", "job", "task", "ticks")

    def __init__(self, job: int, task: int, candidates: tuple[tuple[int, int], ...], data_at: Sequence[int]) -> None:
        self.job, self.task, self.candidates, self.data_at = job, task, candidates, data_at
        self.element, self.ticks = -1, 0

    def assign(self, element: int, ticks: int) -> None:
        """Run it on ``element``, for good."""
        self.element, self.ticks = element, ticks


@dataclass(slots=True, kw_only=True)
class Board:
    """``now``; of each element ``free_at`` (the tick at which what runs there is noticed as done) and
    ``available_at`` (what the scheduler keeps: the finish that it expects of what it has assigned there);
    ``ranks`` of applications by name, as a scheduler remembers them.
    """

    soc: SocSpec
    jobs: Sequence[Job]
    free_at: list[int]
    available_at: list[int]
    now: int = 0
    ranks: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def expected_finish(self, ready: Ready, element: int, ticks: int) -> int:
        """When ``ready`` would be done on ``element``: its ticks after data, element and now."""
        return ticks + max(ready.data_at[element], self.available_at[element], self.now)


#: Assigns every task of a list that is in the order in which they became ready; returns the order in which they wait.
Scheduler: TypeAlias = Callable[[list[Ready], Board], list[Ready]]

#: Schedulers by name, built-in ones and those of plug-ins.
SCHEDULERS: Registry[Scheduler] = Registry("scheduler", rooms=("tilewright.sim.soc.schedulers",))
