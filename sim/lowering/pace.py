"""Ports that a mapping runs below their rate.

Transfers share a port fairly, as soon as they are asked for. One that ends earlier may let another in that holds up a
third, so a faster port may make the same mapping slower. Whatever moves data may also ask for less: a mapping that
runs a port at a half of its rate does on a machine with twice that port what it did before. So a mapping may have a
*pace*: ``pace.PHASE.PORT`` of its tiling is by how much that phase slows a port down (2: half of its rate).

A phase at a pace runs the program, and has the costs, of the machine whose ports are so much slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from tilewright.errors import InputError, unknown
from tilewright.hw_models.spec import BufferSpec, MachineSpec
from tilewright.sim.lowering.costs import TileCosts
from tilewright.sim.lowering.family import family_of

__all__ = [
    "MOST",
    "Pace",
    "check_pace",
    "costs_at",
    "is_pace",
    "name_of",
    "pace_note",
    "paced",
    "paces_of",
    "ports_of",
    "refuse_pace",
    "split",
]

PACE = "pace."
MOST = 2**20  # of a slow-down
Pace = tuple[tuple[str, int], ...]  # ports and how much slower, in the order of the ports


def is_pace(name: str) -> bool:
    """Whether this number of a tiling is a pace."""
    return name.startswith(PACE)


def name_of(phase: str, port: str) -> str:
    """What a tiling calls the pace of a port in a phase."""
    return f"{PACE}{phase.replace(' ', '_')}.{port}"


def split(phase: str, tiling: Mapping[str, int]) -> tuple[dict[str, int], Pace]:
    """The tiling of ``phase`` without paces, and the pace of its ports."""
    begin = name_of(phase, "")
    tiles = {name: value for name, value in tiling.items() if not is_pace(name)}
    own = ((name.removeprefix(begin), value) for name, value in tiling.items() if name.startswith(begin))
    return tiles, tuple(sorted((port, value) for port, value in own if value != 1))


def paces_of(tiling: Mapping[str, int]) -> dict[str, int]:
    """The paces of a tiling, of all phases."""
    return {name: value for name, value in tiling.items() if is_pace(name) and value != 1}


def ports_of(machine: MachineSpec) -> tuple[str, ...]:
    """The ports of ``machine`` that can be slowed down.

    (Not that of a DRAM with row timing: half of its bandwidth is half of its channels, other rows in other banks.)
    """
    return tuple(name for name, _ in _ports(machine))


_Slower = Callable[[MachineSpec, int], MachineSpec]


def _ports(machine: MachineSpec) -> Iterator[tuple[str, _Slower]]:
    if machine.dram.detail == "bandwidth":
        yield "dram", _slower_dram
    for at, buffer in enumerate(machine.buffers):
        for way in ("read", "write"):
            if getattr(buffer, f"{way}_bytes_per_cycle") is not None:
                yield f"{buffer.name}.{way}", _slower_buffer(at, way)
        for number, part in enumerate(buffer.parts):
            for way in ("read", "write"):
                if getattr(part, f"{way}_bytes_per_cycle") is not None:
                    yield f"{buffer.name}.{part.name}.{way}", _slower_part(at, number, way)
    if machine.weights.memory is not None:
        yield machine.weights.memory.name, _slower_weights
    if machine.links is not None:
        yield "link", _slower_link


def _slower_dram(machine: MachineSpec, n: int) -> MachineSpec:
    dram = replace(machine.dram, bandwidth_gb_per_s=machine.dram.bandwidth_gb_per_s / n)
    return replace(machine, dram=dram)


def _slower_weights(machine: MachineSpec, n: int) -> MachineSpec:
    memory = machine.weights.memory
    assert memory is not None
    slower = replace(memory, bandwidth_gb_per_s=memory.bandwidth_gb_per_s / n)
    return replace(machine, weights=replace(machine.weights, memory=slower))


def _slower_link(machine: MachineSpec, n: int) -> MachineSpec:
    assert machine.links is not None
    return replace(machine, links=replace(machine.links, bytes_per_cycle=machine.links.bytes_per_cycle / n))


def _halved(port: Any, way: str, n: int) -> Any:
    name = f"{way}_bytes_per_cycle"
    return replace(port, **{name: getattr(port, name) / n})


def _with_buffer(machine: MachineSpec, at: int, buffer: BufferSpec) -> MachineSpec:
    return replace(machine, buffers=(*machine.buffers[:at], buffer, *machine.buffers[at + 1 :]))


def _slower_buffer(at: int, way: str) -> _Slower:
    return lambda machine, n: _with_buffer(machine, at, _halved(machine.buffers[at], way, n))


def _slower_part(at: int, number: int, way: str) -> _Slower:
    def slower(machine: MachineSpec, n: int) -> MachineSpec:
        buffer = machine.buffers[at]
        parts = (*buffer.parts[:number], _halved(buffer.parts[number], way, n), *buffer.parts[number + 1 :])
        return _with_buffer(machine, at, replace(buffer, parts=parts))

    return slower


@lru_cache(maxsize=1024)
def paced(machine: MachineSpec, pace: Pace) -> MachineSpec:
    """``machine`` with its ports slowed down. Raises InputError for a port that it has not."""
    known = dict(_ports(machine))
    for port, n in pace:
        if port not in known:
            raise unknown("port", port, list(known), place="pace")
        machine = known[port](machine, n)
    return machine


def costs_at(costs: TileCosts, pace: Pace) -> TileCosts:
    """The costs of the layer on the machine with its ports slowed down."""
    if not pace:
        return costs
    return family_of(costs.layer).costs(costs.layer, paced(costs.machine, pace))


def check_pace(name: str, value: Any, phases: Sequence[str]) -> None:
    """Refuse the pace of a phase that there is not, or one that is no whole number in its range."""
    begins = [name_of(phase, "") for phase in phases]
    if not name.startswith(tuple(begins)):
        allowed = ", ".join(f"{begin}PORT" for begin in begins)
        raise InputError(f'tile "{name}": is no pace of a phase of this dataflow; allowed {allowed}')
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
        raise InputError(f'tile "{name}": given {value!r}, allowed 1 to {MOST} (2: half of the rate of the port)')


def refuse_pace(held: Mapping[str, int]) -> None:
    """Refuse a pace among numbers that a search is to hold: it finds that of the best tiling by itself."""
    for name in held:
        if is_pace(name):
            raise InputError(
                f'tile "{name}": given without all other numbers of the tiling; allowed beside all of them'
            )


def pace_note(phases: Sequence[str], tiling: Mapping[str, int]) -> str:
    """What results say of a paced mapping; empty for one at full pace."""
    said = []
    for phase in phases:
        _, pace = split(phase, tiling)
        ports = ", ".join(f"{port} at 1/{n} of its rate" for port, n in pace)
        if ports:
            said.append(ports + (f" ({phase})" if len(phases) > 1 else ""))
    if not said:
        return ""
    return (
        f"ports are run slower than they could be where that ends sooner: {'; '.join(said)} (at full rate, transfers "
        "come earlier that hold others up)"
    )
