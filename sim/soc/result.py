"""What jobs on a system on a chip come to: by application, by scheduler, by table and as the exact run has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tilewright.presented import Shown

__all__ = ["ApplicationFigures", "JobsResult", "SchedulerFigures", "Span"]


class Span(NamedTuple):
    """Task ``task`` of job ``job`` of ``application`` on element ``element``, in microseconds."""

    job: int
    application: str
    task: str
    element: int
    cluster: str
    start_us: float
    finish_us: float


class SchedulerFigures(NamedTuple):
    """``n_late`` jobs behind their deadlines, latencies, the end of the last job, joules (None: nothing is said)."""

    name: str
    n_late: int
    mean_us: float
    longest_us: float
    end_us: float
    energy_j: float | None


class ApplicationFigures(NamedTuple):
    """Of one application: jobs, deadline (0: none), latencies by tables and in the exact run (None: none was made)."""

    name: str
    n_jobs: int
    deadline_us: float
    mean_us: float
    longest_us: float
    n_late: int
    exact_mean_us: float | None
    exact_longest_us: float | None
    exact_n_late: int | None
    clusters: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JobsResult(Shown):
    """``scheduler``'s schedule of all jobs; ``compared``: what every scheduler comes to.

    ``spans`` by tables, ``exact_spans`` as they ran with all elements on one DRAM (empty: tasks of tables alone).
    ``bound_us`` (optimal): no schedule has a lower sum of latencies; None where nothing was searched. ``latency_us``:
    that of this one, ``n_late`` its late jobs, of which no schedule has fewer than ``least_late``.
    """

    name: str
    soc: str
    scheduler: str
    elements: tuple[str, ...]
    spans: tuple[Span, ...]
    exact_spans: tuple[Span, ...]
    applications: tuple[ApplicationFigures, ...]
    compared: tuple[SchedulerFigures, ...]
    latency_us: float
    n_late: int
    bound_us: float | None
    least_late: int | None
    energy_j: float | None
    assumptions: tuple[str, ...]

    @property
    def is_proven(self) -> bool:
        """Whether no schedule is better by the tables."""
        if self.bound_us is None or self.least_late is None:
            return False
        return self.least_late >= self.n_late and self.bound_us >= self.latency_us * (1 - 1e-12)

    @property
    def gap(self) -> float | None:
        """How much of the latencies a better schedule could save at most; None where nothing was searched."""
        if self.bound_us is None:
            return None
        return max(0.0, 1 - self.bound_us / self.latency_us) if self.latency_us else 0.0

    @property
    def end_us(self) -> float:
        """When the last task ends, in the exact run where there is one."""
        return max((span.finish_us for span in self.exact_spans or self.spans), default=0.0)

    @property
    def jobs_per_s(self) -> float:
        """Jobs a second from 0 to the end."""
        n_jobs = sum(one.n_jobs for one in self.applications)
        return n_jobs / self.end_us * 1e6 if self.end_us else 0.0

    def busy(self, element: int) -> float:
        """The share of the time in which ``element`` works."""
        own = [span for span in self.exact_spans or self.spans if span.element == element]
        return sum(span.finish_us - span.start_us for span in own) / self.end_us if self.end_us else 0.0

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per task, in the order of the schedule."""
        return [
            {**span._asdict(), **({"exact_start_us": ran.start_us, "exact_finish_us": ran.finish_us} if ran else {})}
            for span, ran in zip(self.spans, _or_none(self.exact_spans, len(self.spans)), strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "run": "jobs",
            "name": self.name,
            "soc": self.soc,
            "scheduler": self.scheduler,
            "latency_us": self.latency_us,
            "late_jobs": self.n_late,
            "bound_us": self.bound_us,
            "is_proven": self.is_proven,
            "gap": self.gap,
            "jobs_per_s": self.jobs_per_s,
            "energy_j": self.energy_j,
            "applications": [one._asdict() for one in self.applications],
            "schedulers": [one._asdict() for one in self.compared],
            "tasks": self.rows(),
            "assumptions": list(self.assumptions),
        }


def _or_none(spans: Sequence[Span], n: int) -> Iterator[Span | None]:
    yield from spans if spans else [None] * n
