"""Steps of a decoder behind growing caches: what each takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tilewright.errors import InputError
from tilewright.search.runs.memory import live_bytes
from tilewright.search.runs.simulator import RunSimulator
from tilewright.sim.runs.steps import Steps, steps_of_results
from tilewright.workloads.runs.kinds.generate import CacheSpec
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["Decoding", "Group"]


@dataclass(frozen=True, slots=True)
class Group:
    """``count`` sequences with ``context`` tokens in the cache before the first step."""

    count: int
    context: int


class Decoding:
    """The decoder ``networks`` (from sizes to its stream) on a machine."""

    def __init__(self, networks: Callable[..., OperatorStream], simulator: RunSimulator, cache: CacheSpec) -> None:
        self._networks, self._simulator, self._cache = networks, simulator, cache
        self.assumptions: tuple[str, ...] = ()

    def name(self, groups: Sequence[Group]) -> str:
        """What the phase's network is called."""
        return self._networks(decode=1, context=groups[0].context, batch=sum(group.count for group in groups)).name

    def live_bytes(self, groups: Sequence[Group]) -> int:
        """Activations of a step."""
        stream = self._networks(decode=1, context=groups[0].context, batch=sum(group.count for group in groups))
        return live_bytes(stream, self._simulator.machine, self._simulator.fuse)

    def steps(self, groups: Sequence[Group], n_steps: int) -> Steps:
        """``n_steps`` steps of all ``groups`` together, each with a token more in the cache than the one before."""
        contexts = {group.context for group in groups}
        if len(contexts) > 1:
            raise InputError(f"requests: of unlike lengths; given {sorted(contexts)} tokens; allowed one length")
        (context,) = contexts
        batch = sum(group.count for group in groups)
        results = []
        for step in range(n_steps):
            self._simulator.tell(step, n_steps, f"step {step + 1}")
            results.append(self._simulator.network(self._networks(decode=1, context=context + step, batch=batch)))
        return steps_of_results(results, [context + step for step in range(n_steps)])
