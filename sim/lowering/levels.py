"""The memories on chip behind the working buffers, as programs use them: their ports are channels.

A machine's ``buffers`` stand nearest to the units first. A buffer behind the working one whose bandwidths are given is
a *level* that programs can use: operands are kept or staged there, and read from there again without the DRAM. Each of
its ports is a channel of its own that all cores share (a private one counts as all cores' together: the cores are in
lock step, so that each sees its own). What is brought there from the DRAM (*fetched*) is moved by an engine of its own
and takes the DRAM's channel.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from tilewright.hw_models.dram import bytes_per_cycle
from tilewright.hw_models.spec import BufferSpec, MachineSpec
from tilewright.sim.engine.program import Channel
from tilewright.units import exact

__all__ = ["DRAM_CHANNEL", "Level", "channels_of", "level_called", "levels_of"]

DRAM_CHANNEL = 0


class Level(NamedTuple):
    """A memory on chip that programs use; ``number``: its place among the machine's buffers.

    ``read_channel``, ``write_channel``: of the ports, in :func:`channels_of`.
    """

    name: str
    number: int
    capacity_bytes: int
    latency_cycles: int
    is_shared: bool
    read_channel: int
    write_channel: int


@lru_cache(maxsize=256)
def levels_of(machine: MachineSpec) -> tuple[Level, ...]:
    """The levels behind the working buffer, nearest first."""
    found: list[Level] = []
    for number, buffer in enumerate(machine.buffers):
        if number and buffer.read_bytes_per_cycle is not None and buffer.write_bytes_per_cycle is not None:
            channel = 1 + 2 * len(found)
            found.append(
                Level(
                    buffer.name,
                    number,
                    buffer.capacity_bytes * (1 if buffer.shared_by_cores else machine.n_cores),
                    buffer.latency_cycles,
                    buffer.shared_by_cores,
                    channel,
                    channel + 1,
                )
            )
    return tuple(found)


def level_called(machine: MachineSpec, name: str) -> Level:
    """The level of that name, or the working buffer as a place from which tiles are copied within it.

    Raises KeyError where there is none.
    """
    working = machine.working_buffer
    if name == working.name:
        channel = 1 + 2 * len(levels_of(machine))
        return Level(name, 0, working.capacity_bytes, 0, False, channel, channel)
    for level in levels_of(machine):
        if level.name == name:
            return level
    raise KeyError(name)


@lru_cache(maxsize=256)
def channels_of(machine: MachineSpec) -> tuple[Channel, ...]:
    """The DRAM's channel, the read and the write port of each level, and the working buffer's for copies within it."""
    channels = [Channel("dram", bytes_per_cycle(machine))]
    for level in levels_of(machine):
        buffer = machine.buffers[level.number]
        for port, rate in (("read", buffer.read_bytes_per_cycle), ("write", buffer.write_bytes_per_cycle)):
            channels.append(Channel(f"{level.name} {port}", _rate(machine, buffer, rate)))
    working = machine.working_buffer
    known = [rate for rate in (working.read_bytes_per_cycle, working.write_bytes_per_cycle) if rate is not None]
    channels.append(Channel(f"{working.name} copy", _rate(machine, working, min(known, default=NO_BOTTLENECK))))
    return tuple(channels)


NO_BOTTLENECK = 2.0**20  # bytes a cycle of a port that is never the bottleneck


def _rate(machine: MachineSpec, buffer: BufferSpec, rate: float | None) -> Fraction:
    assert rate is not None
    return exact(rate) * (1 if buffer.shared_by_cores else machine.n_cores)
