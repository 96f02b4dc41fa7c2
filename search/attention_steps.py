"""One attention over denoising steps, in each way that later steps may reuse what a whole one left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tilewright.errors import InputError
from tilewright.sim.result import SimulationResult
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.attention_reuse import AttentionReuse, reuse_layers

__all__ = ["StepsComparison", "WayOfSteps", "compare_steps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOfSteps:
    """One way: a step that computes all and one that reuses it (cycles, picojoules, bytes moved), and all steps."""

    way: str
    whole_cycles: int
    reused_cycles: int
    cycles: int
    energy_pj: float
    dram_bytes: int
    cache_bytes: int
    saved_macs: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsComparison:
    """All ways for ``n_steps`` steps of which every ``every``-th computes all; ``ways`` begin with the one that
    computes all in each, with ``whole_macs`` multiply-adds.
    """

    n_steps: int
    every: int
    whole_macs: int
    ways: tuple[WayOfSteps, ...]
    assumptions: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One row a way, for tables and files."""
        first = self.ways[0]
        return [
            one.to_dict()
            | {"of_whole_cycles": one.cycles / first.cycles, "of_whole_energy": one.energy_pj / first.energy_pj}
            for one in self.ways
        ]


def compare_steps(
    layer: AttentionLayer, n_steps: int, every: int, best: Callable[[AttentionLayer], SimulationResult]
) -> StepsComparison:
    """``layer`` over ``n_steps`` steps of which each ``every``-th computes all keys, the others what its mask leaves.

    ``best(layer)``: a layer's best run. Raises InputError for steps that there are not, and a layer that says itself
    what is cached.
    """
    if not 1 <= every <= n_steps:
        raise InputError(f"--reuse: every: given {every} of {n_steps} steps; allowed 1 to {n_steps}")
    if layer.takes_cached:
        raise InputError(f"{layer.name}: residual_format: --reuse adds what is cached itself; given it, too")
    causal = layer.mask == "causal" or (layer.blocks is not None and layer.blocks.causal)
    whole = layer.without_lists("causal" if causal else "none")
    sparse = layer if layer.mask in ("banded", "blocks") else None
    runs: dict[AttentionLayer, SimulationResult] = {}

    def run(one: AttentionLayer) -> SimulationResult:
        if one not in runs:
            runs[one] = best(replace(one, name=layer.name))
        return runs[one]

    steps = [at % every == 0 for at in range(n_steps)]
    ways = [
        _way("none", AttentionReuse(plain=whole, whole_step=(whole,), reused_step=(whole,), cache_bytes=0), steps, run)
    ]
    if sparse is not None:
        masked = AttentionReuse(plain=whole, whole_step=(whole,), reused_step=(sparse,), cache_bytes=0)
        ways.append(_way("mask alone", masked, steps, run))
    ways += [_way(name, made, steps, run) for name, made in reuse_layers(whole, sparse).items()]
    notes = dict.fromkeys(note for result in runs.values() for note in result.assumptions)
    more = (
        "a step that takes a cached result as it is costs nothing here: what comes next reads it in any case",
        "a step that makes a residual also runs the sparse attention, which reads the whole result in its place",
    )
    return StepsComparison(
        n_steps=n_steps, every=every, whole_macs=n_steps * whole.macs, ways=tuple(ways), assumptions=(*notes, *more)
    )


def _way(
    name: str, made: AttentionReuse, steps: list[bool], run: Callable[[AttentionLayer], SimulationResult]
) -> WayOfSteps:
    n_whole = sum(steps)
    counts = ((n_whole, made.whole_step), (len(steps) - n_whole, made.reused_step))
    cycles = [sum(run(one).cycles for one in layers) for _, layers in counts]
    return WayOfSteps(
        way=name,
        whole_cycles=cycles[0],
        reused_cycles=cycles[1],
        cycles=sum(n * own for (n, _), own in zip(counts, cycles, strict=True)),
        energy_pj=sum(n * run(one).energy_pj for n, layers in counts for one in layers),
        dram_bytes=sum(n * run(one).dram_bytes for n, layers in counts for one in layers),
        cache_bytes=made.cache_bytes,
        saved_macs=made.saved_macs(steps),
    )
