"""Twice a bandwidth or a capacity never makes the proven best slower, on machines with levels and links.

Every layer stands at its best mapping over all cuts, tilings and paces of ports: at full pace a transfer that ends
earlier may hold another one up, with the same tiling too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from tilewright.errors import MappingError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import BufferSpec, LinkSpec, MachineSpec
from tilewright.search.tiling import better_tiling
from tilewright.search.workload import pieces
from tilewright.sim.lowering.evaluation import evaluate
from tilewright.sim.lowering.mapping import Dataflow, get_dataflow
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.gemm import GemmLayer

EDGE = load_machine("edge-16x16").with_(**{"matrix.rows": 4, "matrix.columns": 4})
STAGED = get_dataflow("staged", "gemm")
HELD = {"prefetched": 0, "depth": 2, "outputs": 2}


def machine_of(chance: random.Random) -> MachineSpec:
    """One or two levels, private or shared, up to four cores, often a link."""
    levels = [
        BufferSpec(
            name=f"l{2 + i}",
            capacity_kib=chance.choice([0.5, 1, 2, 4]) * 4**i,
            read_bytes_per_cycle=chance.choice([1, 4, 16]),
            write_bytes_per_cycle=chance.choice([4, 16]),
            shared_by_cores=chance.random() < 0.7,
            latency_cycles=chance.choice([0, 5]),
        )
        for i in range(chance.choice([1, 1, 2]))
    ]
    pj = {"l1": 1.0, **{level.name: 2.0 for level in levels}}
    energy = replace(EDGE.energy, buffer_read_pj_per_byte=pj, buffer_write_pj_per_byte=pj)
    machine = replace(EDGE, buffers=(*EDGE.buffers, *levels), energy=energy, n_cores=chance.choice([1, 2, 4]))
    machine = machine.with_(
        **{
            "dram.bandwidth_gb_per_s": chance.choice([0.5, 1, 4, 16]),
            "buffers.l1.capacity_kib": chance.choice([0.5, 1, 2]),
        }
    )
    if chance.random() < 0.5:
        return machine
    kind = chance.choice(["bus", "crossbar", "ring", "mesh"])
    link = LinkSpec(kind=kind, bytes_per_cycle=chance.choice([1, 4, 16]), hop_cycles=3, multicast=True)
    return replace(machine, links=link)


def doubled(machine: MachineSpec) -> Iterator[MachineSpec]:
    """The machine with one bandwidth or capacity doubled, each in turn."""
    paths = {"dram.bandwidth_gb_per_s": machine.dram.bandwidth_gb_per_s}
    for i, buffer in enumerate(machine.buffers):
        paths[f"buffers.{buffer.name}.capacity_kib"] = buffer.capacity_kib
        if i:
            paths[f"buffers.{buffer.name}.read_bytes_per_cycle"] = buffer.read_bytes_per_cycle or 0
            paths[f"buffers.{buffer.name}.write_bytes_per_cycle"] = buffer.write_bytes_per_cycle or 0
    if machine.links is not None:
        paths["links.bytes_per_cycle"] = machine.links.bytes_per_cycle
    return (machine.with_(**{path: 2 * value}) for path, value in paths.items())


class Best(NamedTuple):
    """The best mapping over all cuts."""

    cycles: float
    energy_pj: float
    piece: GemmLayer
    tiling: dict[str, int]


def best_of(layer: GemmLayer, machine: MachineSpec) -> Best | None:
    best: Best | None = None
    for piece in pieces(layer, machine, STAGED):
        assert isinstance(piece, GemmLayer)
        try:
            found = better_tiling(STAGED, piece, machine, to_beat=best[:2] if best else None, fixed=HELD)
        except MappingError:
            continue
        if found is not None:
            best = Best(found.cycles, found.energy_pj, piece, found.tiling)
    return best


def ratios(n: int) -> list[float]:
    """Cycles with more over cycles, of ``n`` random products on random machines."""
    chance, found = random.Random(5), []
    for _ in range(n):
        machine = machine_of(chance)
        layer = GemmLayer(
            name="product", groups=1, m=chance.choice([4, 9, 16]), k=chance.choice([8, 12]),
            n=chance.choice([5, 8, 16]), a_bits=8, b_bits=8, out_bits=8, accumulator_bits=32, compute_format="int8",
        )  # fmt: skip
        once = best_of(layer, machine)
        if once is None:
            continue
        for larger in doubled(machine):
            twice = best_of(layer, larger)
            assert twice is not None
            assert twice.cycles <= evaluate(STAGED, once.piece, larger, once.tiling).cycles
            found.append(twice.cycles / once.cycles)
    return found


ATTENTION = tuple(get_dataflow(name) for name in ("flash2", "flash2_staged", "flash_decoding"))


def best_attention(
    layer: AttentionLayer, machine: MachineSpec
) -> tuple[float, float, Dataflow, Any, dict[str, int]] | None:
    """(cycles, pJ, dataflow, piece, tiling) of the best, over dataflows that stage, send and split K and V."""
    best: tuple[float, float, Dataflow, Any, dict[str, int]] | None = None
    for flow in ATTENTION:
        for piece in () if flow.refusal(layer, machine) else pieces(layer, machine, flow):
            try:
                found = better_tiling(flow, piece, machine, to_beat=best[:2] if best else None, fixed={"depth": 2})
            except MappingError:
                continue
            if found is not None:
                best = found.cycles, found.energy_pj, flow, piece, found.tiling
    return best


def attention_ratios(n: int) -> list[float]:
    """As :func:`ratios`, of attention layers, decoding ones among them."""
    chance, found = random.Random(1), []
    for _ in range(n):
        machine, heads, rows = machine_of(chance), chance.choice([1, 2]), chance.choice([1, 8, 16])
        layer = AttentionLayer(
            name="attention", batch=1, query_heads=heads * chance.choice([1, 2]), kv_heads=heads, query_len=rows,
            key_len=max(rows, chance.choice([16, 32])), head_dim=8, value_dim=8,
            mask=chance.choice(["none", "causal"]),
        )  # fmt: skip
        once = best_attention(layer, machine)
        if once is None:
            continue
        for larger in doubled(machine):
            twice = best_attention(layer, larger)
            assert twice is not None
            assert twice[0] <= evaluate(once[2], once[3], larger, once[4]).cycles
            found.append(twice[0] / once[0])
    return found


def check(found: list[float]) -> None:
    assert max(found) <= 1


def test_more_is_never_slower() -> None:
    check(ratios(1))


def test_more_is_never_slower_for_attention() -> None:
    check(attention_ratios(2))


@pytest.mark.slow
def test_more_is_never_slower_for_many_products() -> None:
    found = ratios(40)
    print(len(found))
    check(found)
    assert min(found) < 1


@pytest.mark.slow
def test_more_is_never_slower_for_many_attentions() -> None:
    found = attention_ratios(100)
    print(len(found))
    check(found)
    assert min(found) < 1
