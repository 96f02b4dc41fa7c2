"""Engines over time: arrivals, steps one after the other, and what happened.

Engines that share experts go in step; others keep their own time. Events are arrivals and ends of steps only, so a
plain loop does what an event queue would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tilewright.sim.serving.costs import Batch, StepCosts
from tilewright.sim.serving.engine import Engine, EngineRules
from tilewright.sim.serving.requests import Request

__all__ = ["Occupancy", "Served", "serve"]

_MOST_POINTS = 512


class Occupancy(NamedTuple):
    """At the end of a step: blocks in use, requests that run and that wait in the first engine; of the step its number,
    what it took, and bytes and multiply-adds of one device of each engine together.
    """

    seconds: float
    blocks: int
    running: int
    waiting: int
    step: int
    step_s: float
    n_bytes: float
    macs: float


class _Trace:
    """At most 512 points, evenly chosen of all that were told."""

    __slots__ = ("_every", "_told", "points")

    def __init__(self) -> None:
        self.points: list[Occupancy] = []
        self._every = 1
        self._told = 0

    def tell(self, seconds: float, engine: Engine, step_s: float, n_bytes: float, macs: float) -> None:
        self._told += 1
        if self._told % self._every:
            return
        blocks, running, waiting = engine.pool.used, len(engine.running), len(engine.waiting)
        self.points.append(Occupancy(seconds, blocks, running, waiting, self._told - 1, step_s, n_bytes, macs))
        if len(self.points) == _MOST_POINTS:
            self.points = self.points[1::2]
            self._every *= 2


@dataclass(slots=True, kw_only=True)
class Served:
    """What happened to ``requests``: ``seconds`` until the last token, ``steps``, sums over all devices of what steps
    take, ``occupancy`` of the first engine. ``busy_s``: of steps, of all engines.
    """

    requests: Sequence[Request]
    seconds: float = 0.0
    busy_s: float = 0.0
    link_s: float = 0.0
    steps: int = 0
    first_step_s: float = 0.0
    last_step_s: float = 0.0
    tokens: int = 0
    prompt_tokens: int = 0
    n_bytes: float = 0.0
    macs: float = 0.0
    expert_bytes: float = 0.0
    preemptions: int = 0
    reread: int = 0
    found: int = 0
    most_blocks: int = 0
    most_running: int = 0
    occupancy: list[Occupancy] = field(default_factory=list)


def serve(
    requests: Sequence[Request],
    rules: EngineRules,
    costs: StepCosts,
    *,
    engines: int = 1,
    in_step: bool = False,
    host_s: float = 0.0,
    host_each_s: float = 0.0,
    tell: Callable[[int], None] | None = None,
) -> Served:
    """Serve ``requests``, which must be in the order of their arrival, dealt out in turn to ``engines``.

    ``in_step``: their steps begin together. ``host_s`` of each step and ``host_each_s`` for each request in it are
    added. ``tell``: called with the number of requests that ended, now and then.
    """
    served = Served(requests=requests)
    dealt = [list(requests[first::engines]) for first in range(engines)]
    groups = [dealt] if in_step else [[one] for one in dealt]
    for group in groups:
        _Together(group, rules, costs, served, host_s, host_each_s, tell).run()
    return served


class _Together:
    """Engines whose steps begin together."""

    def __init__(
        self,
        dealt: Sequence[list[Request]],
        rules: EngineRules,
        costs: StepCosts,
        served: Served,
        host_s: float,
        host_each_s: float,
        tell: Callable[[int], None] | None,
    ) -> None:
        self.dealt, self.costs, self.served = dealt, costs, served
        self.engines = [Engine(rules) for _ in dealt]
        self.host_s, self.host_each_s, self.tell = host_s, host_each_s, tell
        self.trace = _Trace()

    def run(self) -> None:
        now, ended = 0.0, 0
        come = [0] * len(self.engines)
        total = sum(map(len, self.dealt))
        while ended < total:
            for at, engine in enumerate(self.engines):
                mine = self.dealt[at]
                while come[at] < len(mine) and mine[come[at]].arrival_s <= now:
                    engine.waiting.append(mine[come[at]])
                    come[at] += 1
            if all(engine.is_idle for engine in self.engines):
                now = min(self.dealt[at][n].arrival_s for at, n in enumerate(come) if n < len(self.dealt[at]))
                continue
            batches = [engine.plan(now) for engine in self.engines]
            n_bytes, macs, began = self.served.n_bytes, self.served.macs, now
            now += self._seconds(batches)
            for engine in self.engines:
                self.served.most_blocks = max(self.served.most_blocks, engine.pool.used)
                self.served.most_running = max(self.served.most_running, len(engine.running))
                ended += len(engine.done(now))
            taken = self.served.n_bytes - n_bytes, self.served.macs - macs
            self.trace.tell(now, self.engines[0], now - began, *taken)
            if self.tell is not None and self.served.steps % 1024 == 0:
                self.tell(ended)
        self._close(now)

    def _seconds(self, batches: Sequence[Batch]) -> float:
        """Of a step of all engines: the longest; what it takes is added up."""
        served, longest = self.served, 0.0
        tokens = sum(batch.tokens for batch in batches) if len(batches) > 1 else 0
        for batch in batches:
            cost = self.costs.step(batch, beside=tokens - batch.tokens if tokens else 0)
            n = batch.decodes + batch.prompts
            longest = max(longest, cost.seconds + self.host_s + self.host_each_s * n)
            served.link_s += cost.link_s
            served.n_bytes += cost.n_bytes
            served.macs += cost.macs
            served.expert_bytes += cost.expert_bytes
            served.tokens += batch.sampled
            if batch.group == batch.groups - 1:
                served.prompt_tokens += batch.new
        served.first_step_s = served.first_step_s if served.steps else longest
        served.last_step_s = longest
        served.steps += 1
        served.busy_s += longest * len(batches)
        return longest

    def _close(self, now: float) -> None:
        served = self.served
        served.seconds = max(served.seconds, now)
        for engine in self.engines:
            served.preemptions += engine.preemptions
            served.reread += engine.reread
            served.found += engine.found
        served.occupancy = served.occupancy or self.trace.points
