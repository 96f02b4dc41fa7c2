"""What a run of a server tells beside what every run does: latencies by percentile, for each point of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tilewright.sim.runs.result import RunResult
from tilewright.sim.serving.requests import Request
from tilewright.sim.serving.server import Occupancy, Served

__all__ = ["PERCENTILES", "ServePoint", "ServeResult", "point_of"]

PERCENTILES = (50, 90, 95, 99)
_OF = ("ttft_s", "tpot_s", "latency_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServePoint:
    """A run of the server with ``values`` of the sweep (none without one); ``figures`` by name."""

    values: Mapping[str, Any] = field(hash=False)
    figures: Mapping[str, float] = field(hash=False)
    occupancy: tuple[Occupancy, ...] = ()

    def to_row(self) -> dict[str, Any]:
        """One flat row."""
        return {**self.values, **self.figures}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ServeResult(RunResult):
    """A :class:`RunResult` of a server. Phases and all that every run has are those of the first of ``points``;
    ``requests``: what became of each of them there.
    """

    points: tuple[ServePoint, ...] = ()
    requests: tuple[Request, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """A flat row for each point."""
        return [{"run": self.kind, "machine": self.machine, **point.to_row()} for point in self.points]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            **RunResult.to_dict(self),
            "points": [
                {**point.to_row(), "occupancy": [one._asdict() for one in point.occupancy]} for point in self.points
            ],
            "requests": [
                {
                    "request": one.number,
                    "arrival_s": one.arrival_s,
                    "input_tokens": one.prompt,
                    "output_tokens": one.answer,
                    "first_token_s": one.first_s,
                    "last_token_s": one.last_s,
                    "preemptions": one.preemptions,
                }
                for one in self.requests
            ],
        }


def point_of(
    values: Mapping[str, Any], served: Served, *, joules: float, cache_share: float, engines: int
) -> ServePoint:
    """Figures of ``served``; ``cache_share``: of the blocks, the most that were in use (0 where they have no end)."""
    requests = served.requests
    made = sum(one.answer for one in requests)
    first = min((one.arrival_s for one in requests), default=0.0)
    span = served.seconds - first or 1.0
    last = max((one.arrival_s for one in requests), default=0.0)
    figures: dict[str, float] = {
        "requests": len(requests),
        "offered_per_s": (len(requests) - 1) / (last - first) if last > first else 0.0,
        "makespan_s": served.seconds,
        "requests_per_s": len(requests) / span,
        "tokens_per_s": made / span,
        "joules_per_token": joules / made,
    }
    for name in _OF:
        figures |= _percentiles(name, [getattr(one, name) for one in requests if name != "tpot_s" or one.answer > 1])
    figures |= {
        "queued_s_mean": sum(one.admitted_s - one.arrival_s for one in requests) / len(requests),
        "steps": served.steps,
        "busy_share": served.busy_s / served.seconds / engines if served.seconds else 0.0,
        "link_s": served.link_s,
        "preemptions": served.preemptions,
        "prompt_tokens_read": served.prompt_tokens,
        "prompt_tokens_read_again": served.reread,
        "prompt_tokens_found": served.found,
        "most_running": served.most_running,
        "most_blocks": served.most_blocks,
        "cache_share": cache_share,
        "device_bytes": served.n_bytes,
        "expert_load_bytes": served.expert_bytes,
    }
    return ServePoint(values=values, figures=figures, occupancy=tuple(served.occupancy))


def _percentiles(name: str, values: Sequence[float]) -> dict[str, float]:
    import numpy as np

    if not values:
        return {f"{name}_mean": 0.0, **{f"{name}_p{one}": 0.0 for one in PERCENTILES}}
    found = np.percentile(values, PERCENTILES)
    told = {f"{name}_p{one}": float(value) for one, value in zip(PERCENTILES, found, strict=True)}
    return {f"{name}_mean": float(np.mean(values)), **told}
