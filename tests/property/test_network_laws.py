"""Networks of two or three layers on random memories: none beats its bound, and none gets slower by more of a memory.

Each result is the best of what the search finds with twice a memory and of the mappings (and the plan) that were best
without. What the second keeps out is a search whose candidates follow a memory's room. What is left are anomalies of
exact schedules: a transfer that comes earlier may hold another one up. More room alone moves nothing, so that there
are none.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import BufferSpec, MachineSpec
from tilewright.search.network import Chosen, simulate_stream
from tilewright.sim.network_result import NetworkResult
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

EDGE = load_machine("edge-16x16")


def network_of(chance: random.Random) -> OperatorStream:
    """A chain of linear layers with attention, or of convolutions; activations between them."""
    b = Layers("chain", activations="int8", weights="int8")
    if chance.random() < 0.5:
        x = b.input("x", (1, chance.randint(1, 24), 8 * chance.randint(1, 4)))
        for number in range(chance.randint(2, 3)):
            match chance.choice(["linear", "linear", "relu", "attention"]):
                case "linear":
                    x = b.linear(x, 8 * chance.randint(1, 6), f"linear {number}")
                case "relu":
                    x = b.elementwise("relu", x, name=f"relu {number}")
                case _:
                    x = b.attention(x, x, x, f"attention {number}", head_dim=8)
        return b.finish([x])
    x = b.input("x", (1, 4 * chance.randint(1, 3), chance.randint(4, 9), chance.randint(4, 9)))
    for number in range(chance.randint(2, 3)):
        channels = b.shape(x)[1]
        match chance.choice(["conv", "conv", "depthwise", "relu"]):
            case "conv":
                x = b.conv(
                    x, 4 * chance.randint(1, 4), chance.choice([1, 3]), f"conv {number}", stride=chance.choice([1, 2])
                )
            case "depthwise":
                x = b.conv(x, channels, 3, f"depthwise {number}", groups=channels)
            case _:
                x = b.elementwise("relu", x, name=f"relu {number}")
    return b.finish([x])


def machine_of(chance: random.Random) -> MachineSpec:
    """Up to two levels behind the working buffer; small memories, so that little fits."""
    far = tuple(
        BufferSpec(
            name=f"l{2 + i}",
            capacity_kib=chance.choice([0.5, 1, 2, 8]) * 4**i,
            read_bytes_per_cycle=chance.choice([1, 4, 16]),
            write_bytes_per_cycle=chance.choice([1, 4, 16]),
            shared_by_cores=True,
            latency_cycles=chance.choice([0, 7]),
        )
        for i in range(chance.randint(0, 2))
    )
    pj = {"l1": 1.0, **{buffer.name: 2.0 + i for i, buffer in enumerate(far)}}
    energy = replace(EDGE.energy, buffer_read_pj_per_byte=pj, buffer_write_pj_per_byte=pj)
    machine = replace(EDGE, buffers=(*EDGE.buffers, *far), energy=energy, n_cores=chance.choice([1, 1, 2]))
    port = chance.choice([None, 8, 32])
    return machine.with_(
        **{
            "matrix.rows": chance.choice([4, 8]),
            "matrix.columns": chance.choice([4, 8]),
            "vector.lanes": chance.choice([4, 16]),
            "dram.bandwidth_gb_per_s": chance.choice([0.5, 2, 8]),
            "dram.first_access_latency_ns": chance.choice([0, 60]),
            "buffers.l1.capacity_kib": chance.choice([1, 2, 4, 16]),
            "buffers.l1.read_bytes_per_cycle": port,
            "buffers.l1.write_bytes_per_cycle": port,
        }
    )


def doubled_memories(machine: MachineSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    """("room" or "bandwidth", the change) for every memory."""
    yield "bandwidth", {"dram.bandwidth_gb_per_s": 2 * machine.dram.bandwidth_gb_per_s}
    for buffer in machine.buffers:
        yield "room", {f"buffers.{buffer.name}.capacity_kib": 2 * buffer.capacity_kib}
        for port in ("read_bytes_per_cycle", "write_bytes_per_cycle"):
            rate = getattr(buffer, port)
            if rate is not None:
                yield "bandwidth", {f"buffers.{buffer.name}.{port}": 2 * rate}


@dataclass(slots=True)
class Ratios:
    """Cycles with twice a memory over those without: the best, and what the search alone finds."""

    best: list[float] = field(default_factory=list)
    searched: list[float] = field(default_factory=list)

    def share(self) -> float:
        return sum(ratio > 1 for ratio in self.best) / max(1, len(self.best))


def check_bounds(result: NetworkResult) -> None:
    assert result.cycles >= result.lower_bound_cycles
    for operator in result.operators:
        assert operator.cycles >= operator.lower_bound.cycles, operator.name


def measure(n: int, *, most_changes: int, seed: int) -> dict[str, Ratios]:
    """``n`` random networks that fit, each with ``most_changes`` memories doubled at most, by a plan or without."""
    chance, found = random.Random(seed), {"room": Ratios(), "bandwidth": Ratios()}
    while n:
        stream, machine, plans = network_of(chance), machine_of(chance), chance.random() < 0.5
        changes = list(doubled_memories(machine))
        chance.shuffle(changes)
        chosen = Chosen()
        try:
            once = simulate_stream(stream, machine, chosen=chosen, residency=plans)
        except InputError:  # the working buffer is too small for any mapping
            continue
        check_bounds(once)
        for kind, change in changes[:most_changes]:
            larger = machine.with_(**change)
            searched = simulate_stream(stream, larger, residency=plans)
            same = simulate_stream(stream, larger, only=chosen)
            check_bounds(searched)
            check_bounds(same)
            found[kind].best.append(min(searched.cycles, same.cycles) / once.cycles)
            found[kind].searched.append(searched.cycles / once.cycles)
        n -= 1
    return found


def check(laws: dict[str, Ratios]) -> None:
    assert max(laws["room"].best, default=1) <= 1
    assert max(laws["bandwidth"].best, default=1) <= 1.02
    assert max(laws["room"].searched + laws["bandwidth"].searched) <= 1.1


def test_more_of_a_memory_slows_no_network() -> None:
    check(measure(3, most_changes=2, seed=1))


@pytest.mark.slow
def test_more_of_a_memory_slows_no_network_of_many() -> None:
    laws = measure(25, most_changes=20, seed=2)
    for kind, found in laws.items():
        for what, ratios in (("in all", found.best), ("by the search alone", found.searched)):
            print(f"{kind}, {what}: {sum(one > 1 for one in ratios)} of {len(ratios)} slower, worst {max(ratios):.4f}")
    check(laws)
    assert laws["bandwidth"].share() <= 0.05
