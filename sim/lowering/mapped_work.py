"""What a mapping does whatever time it takes: counted from its programs, the same at any clock and DRAM bandwidth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilewright.hw_models.energy import Counters
from tilewright.sim.engine.program import Program, executions
from tilewright.sim.lowering.levels import DRAM_CHANNEL, DRAM_WRITES

__all__ = ["MappedWork", "mapped_work"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedWork:
    """All phases and cores together.

    ``matrix_cycles``, ``vector_cycles``: busy cycles of the units, summed over the cores. ``channel_bytes``: DRAM bus
    time as the bytes that the bus would carry in it. ``peak_buffer_bytes``: most that the working buffer holds.
    """

    counters: Counters
    matrix_cycles: int
    vector_cycles: int
    channel_bytes: int
    peak_buffer_bytes: int


def mapped_work(programs: Sequence[Program]) -> MappedWork:
    """The work of a mapping with these programs, one a phase (no loads for another operator among them)."""
    times_of: dict[int, int] = {}  # of each work, by its identity: many commands do the same
    counters_of: dict[int, Counters] = {}
    busy = {"matrix": 0, "vector": 0}
    channel_bytes = 0
    for program in programs:
        stores = next((at for at, one in enumerate(program.channels) if one.name == DRAM_WRITES), DRAM_CHANNEL)
        for unit, queue in zip(program.engines, program.queues, strict=True):
            for command, times in executions(queue):
                work, times = command.cost, times * unit.weight
                at = id(work)
                if at in times_of:
                    times_of[at] += times
                else:
                    times_of[at], counters_of[at] = times, work.counters
                if command.channel == DRAM_CHANNEL or command.channel == stores:
                    channel_bytes += command.n_bytes * times
                elif command.channel < 0:
                    busy[unit.kind] += command.cycles * times
    counters = sum((counters_of[key] * times for key, times in times_of.items()), Counters())
    return MappedWork(
        counters=counters,
        matrix_cycles=busy["matrix"],
        vector_cycles=busy["vector"],
        channel_bytes=channel_bytes,
        peak_buffer_bytes=max(sum(program.buffer_bytes.values()) for program in programs),
    )
