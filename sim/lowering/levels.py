"""The memories on chip behind the working buffers, as programs use them: their ports are channels.

A machine's ``buffers`` stand nearest to the units first. A buffer behind the working one whose bandwidths are given is
a *level* that programs can use: operands are kept or staged there, and read from there again without the DRAM. Each of
its ports is a channel of its own that all cores share. A private one counts as that of all the cores that are in lock
step: each sees its own (:func:`channels_by_share`). What is brought there from the DRAM (*fetched*) is moved by an
engine of its own and takes the DRAM's channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import wraps
from math import ceil
from typing import NamedTuple, TypeVar

from tilewright.hw_models.dram import bytes_per_cycle, in_cycles
from tilewright.hw_models.links import hop_cycles, link_rate, multicasts, of_each_core, rate_from_memory
from tilewright.hw_models.spec import BufferSpec, MachineSpec
from tilewright.sim.engine.program import Channel
from tilewright.units import bits_to_bytes, exact

__all__ = [
    "DRAM_CHANNEL",
    "DRAM_WRITES",
    "Level",
    "channels_by_share",
    "channels_of",
    "level_called",
    "levels_of",
    "link_channel",
    "shared_channels",
    "store_channel",
    "weight_memory_cycles",
]

DRAM_CHANNEL = 0
DRAM_WRITES = "dram write"  # the channel of stores, where each way has a port

T = TypeVar("T")


class Level(NamedTuple):
    """A memory on chip that programs use; ``number``: its place among the machine's buffers. ``latency_cycles``: from a
    command to the first byte.

    ``read_channel``, ``write_channel``: of the ports, in :func:`channels_of`.
    """

    name: str
    number: int
    capacity_bytes: int
    latency_cycles: int
    is_shared: bool
    read_channel: int
    write_channel: int


def _for_each_machine(make: Callable[[MachineSpec], T]) -> Callable[[MachineSpec], T]:
    """``make``, asked once for each machine as an object: lowerings ask so often that hashing one would be felt."""
    known: dict[int, tuple[MachineSpec, T]] = {}

    @wraps(make)
    def ask(machine: MachineSpec) -> T:
        found = known.get(id(machine))
        if found is None or found[0] is not machine:
            if len(known) >= _MOST_MACHINES:
                known.clear()
            found = known[id(machine)] = machine, make(machine)
        return found[1]

    return ask


_MOST_MACHINES = 1024


@_for_each_machine
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
                    machine.dma.start_cycles
                    + buffer.latency_cycles
                    + (hop_cycles(machine) if buffer.shared_by_cores else 0),
                    buffer.shared_by_cores,
                    channel,
                    channel + 1,
                )
            )
    return tuple(found)


def level_called(machine: MachineSpec, name: str) -> Level:
    """The level of that name, the working buffer as a place from which tiles are copied within it, or the memory that
    weights come from.

    Raises KeyError where there is none.
    """
    working = machine.working_buffer
    if name == working.name:
        channel = 1 + 2 * len(levels_of(machine))
        return Level(name, 0, working.capacity_bytes, machine.dma.start_cycles, False, channel, channel)
    for level in levels_of(machine):
        if level.name == name:
            return level
    memory = machine.weights.memory
    if memory is not None and name == memory.name:
        channel = 2 + 2 * len(levels_of(machine))
        latency = machine.dma.start_cycles + in_cycles(memory.first_access_latency_ns, machine.clock_ghz)
        return Level(name, len(machine.buffers), WITHOUT_END, latency, True, channel, channel)
    raise KeyError(name)


WITHOUT_END = 2**62


def weight_memory_cycles(machine: MachineSpec, home: str, n_bits: int | Fraction) -> int:
    """Cycles that so many bits take at least from the memory for weights; 0 where ``home`` is another place."""
    memory = machine.weights.memory
    if memory is None or home != memory.name:
        return 0
    return ceil(bits_to_bytes(n_bits) * exact(machine.clock_ghz) / exact(memory.bandwidth_gb_per_s))


@_for_each_machine
def channels_of(machine: MachineSpec) -> tuple[Channel, ...]:
    """The DRAM's channel, the read and the write port of each level, the working buffer's for copies within it, and
    that of a memory for weights and of a link's multicasts, and the DRAM's port for stores where it has one.
    """
    channels = [Channel("dram", bytes_per_cycle(machine))]
    for level in levels_of(machine):
        buffer = machine.buffers[level.number]
        for port, rate in (("read", buffer.read_bytes_per_cycle), ("write", buffer.write_bytes_per_cycle)):
            channels.append(Channel(f"{level.name} {port}", _rate(machine, buffer, rate)))
    working = machine.working_buffer
    known = [rate for rate in (working.read_bytes_per_cycle, working.write_bytes_per_cycle) if rate is not None]
    channels.append(Channel(f"{working.name} copy", _rate(machine, working, min(known, default=NO_BOTTLENECK))))
    memory = machine.weights.memory
    if memory is not None:
        channels.append(Channel(memory.name, exact(memory.bandwidth_gb_per_s) / exact(machine.clock_ghz)))
    if multicasts(machine):
        channels.append(Channel("link", link_rate(machine)))
    if machine.dram.ports == "separate":
        channels.append(Channel(DRAM_WRITES, bytes_per_cycle(machine)))
    return tuple(channels)


def store_channel(machine: MachineSpec) -> int:
    """The number of the channel of stores to the DRAM: that of loads, or the last where each way has a port."""
    return DRAM_CHANNEL if machine.dram.ports == "shared" else len(channels_of(machine)) - 1


def link_channel(machine: MachineSpec) -> int:
    """The number of the channel of a link's multicasts."""
    return 2 + 2 * len(levels_of(machine)) + (machine.weights.memory is not None)


def channels_by_share(
    machine: MachineSpec, channels: tuple[Channel, ...], n_cores: Sequence[int]
) -> tuple[tuple[Channel, ...], tuple[tuple[int, ...], ...]]:
    """``channels`` (the first of :func:`channels_of`) for shares of so many cores, and for each share their numbers.

    Ports of private memories, and ways of a link to each core, are as wide as all those of the share, and each share
    has its own.
    """
    private = [at for at in _private_channels(machine) if at < len(channels)]
    if not private or n_cores == [machine.n_cores]:
        return channels, tuple(tuple(range(len(channels))) for _ in n_cores)
    found, numbers = list(channels), []
    for share, n in enumerate(n_cores):
        own = list(range(len(channels)))
        for at in private:
            name, rate = channels[at]
            port = Channel(name if share == 0 else f"{name} {share + 1}", rate * n / machine.n_cores)
            own[at] = at if share == 0 else len(found)
            found[own[at] : own[at] + 1] = [port]
        numbers.append(tuple(own))
    return tuple(found), tuple(numbers)


def shared_channels(machine: MachineSpec) -> tuple[Channel, ...]:
    """The channels of :func:`channels_of` that all cores share, whichever programs they run."""
    private = _private_channels(machine)
    return tuple(channel for at, channel in enumerate(channels_of(machine)) if at not in private)


def _private_channels(machine: MachineSpec) -> list[int]:
    """The numbers of channels of which each core has its own part."""
    levels = levels_of(machine)
    private = [at for level in levels if not level.is_shared for at in (level.read_channel, level.write_channel)]
    private.append(1 + 2 * len(levels))
    if machine.links is not None and of_each_core(machine.links):
        private.append(link_channel(machine))
    return private


NO_BOTTLENECK = 2.0**20  # bytes a cycle of a port that is never the bottleneck


def _rate(machine: MachineSpec, buffer: BufferSpec, rate: float | None) -> Fraction:
    assert rate is not None
    if not buffer.shared_by_cores:
        return exact(rate) * machine.n_cores
    most = rate_from_memory(machine)
    return exact(rate) if most is None else min(exact(rate), most)
