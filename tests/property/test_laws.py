"""Does more of anything never cost more: twice the work at most twice, twice a resource or an array never slower?

Every layer stands at its own best tiling. What is left are anomalies of exact schedules: a command that comes earlier
may hold another one up. They are rare and small, and the bounds below say how rare and how small.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tilewright.errors import MappingError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.matrix_unit import product
from tilewright.hw_models.spec import MachineSpec
from tilewright.reports.columns import what_if_columns
from tilewright.search.tiling import best_tiling
from tilewright.search.what_if import doubled_resources
from tilewright.search.workload import kind_of, pieces
from tilewright.sim.jobs import JobLayer
from tilewright.sim.lowering.evaluation import evaluate
from tilewright.sim.lowering.mapping import Dataflow, get_dataflow
from tilewright.sim.result import WhatIf, WhyResult
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.gemm import Fused, GemmLayer, VectorLayer

EDGE = load_machine("edge-16x16")


@dataclass(slots=True)
class Tally:
    """How often a law was tried, and the ratios by which it was broken."""

    n: int = 0
    broken: list[float] = field(default_factory=list)

    def add(self, ratio: float, limit: float = 1.0) -> None:
        self.n += 1
        if ratio > limit:
            self.broken.append(ratio / limit)

    @property
    def share(self) -> float:
        return len(self.broken) / max(1, self.n)

    @property
    def worst(self) -> float:
        return max(self.broken, default=1.0)


def machine_of(chance: random.Random, *, partial_use: bool) -> MachineSpec:
    matrix = replace(
        EDGE.matrix,
        rows=chance.choice([4, 8, 16, 32]),
        columns=chance.choice([4, 8, 16, 32]),
        stationarity=chance.choice(["output", "weight", "input", "flexible"]),
        fill_drain=chance.choice(["per_pass", "per_command", "hidden"]),
        partial_use=partial_use,
    )
    vector = replace(EDGE.vector, lanes=chance.choice([8, 32, 128]))
    return replace(EDGE, matrix=matrix, vector=vector, n_cores=chance.choice([1, 1, 2, 3])).with_(
        **{
            "dram.bandwidth_gb_per_s": chance.choice([2, 8, 30, 100]),
            "dram.first_access_latency_ns": chance.choice([0, 100]),
            "buffers.l1.capacity_kib": chance.choice([16, 64, 256]),
        }
    )


def layer_of(chance: random.Random) -> JobLayer:
    kind = chance.choice(["attention", "product", "rows"])
    if kind == "attention":
        heads, length = chance.randint(1, 4), chance.randint(1, 96)
        return AttentionLayer(
            name="attention", batch=1, query_heads=heads, kv_heads=heads, query_len=length, key_len=length,
            head_dim=chance.choice([16, 32]), value_dim=32, mask=chance.choice(["none", "causal"]),
        )  # fmt: skip
    if kind == "product":
        return GemmLayer(
            name="product", groups=chance.choice([1, 1, 3]), m=chance.randint(1, 200), k=chance.randint(1, 200),
            n=chance.randint(1, 200), a_bits=16, b_bits=16, out_bits=16, accumulator_bits=32, compute_format="fp16",
            fused=Fused(chance.choice([(), (("max", 1),)])),
        )  # fmt: skip
    return VectorLayer(
        name="rows", rows=chance.randint(1, 200), read_bytes=chance.randint(1, 400),
        write_bytes=chance.randint(0, 400), operations=chance.choice([(), (("max", 300),)]),
    )  # fmt: skip


def twice(layer: JobLayer) -> JobLayer:
    if isinstance(layer, AttentionLayer):
        return replace(layer, batch=2 * layer.batch)
    return replace(layer, rows=2 * layer.rows) if isinstance(layer, VectorLayer) else replace(layer, m=2 * layer.m)


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    cycles: int
    tiling: dict[str, int]
    piece: JobLayer


def best(layer: JobLayer, machine: MachineSpec, flow: Dataflow) -> Best:
    found = []
    for piece in pieces(layer, machine):
        one = best_tiling(flow, piece, machine)
        found.append(Best(cycles=one.cycles, tiling=dict(one.tiling), piece=piece))
    return min(found, key=lambda one: one.cycles)


def doubled(machine: MachineSpec) -> Iterator[MachineSpec]:
    return (machine.with_(**change) for change in doubled_resources(machine).values())


def measure(n: int, *, partial_use: bool) -> dict[str, Tally]:
    """``n`` random layers and machines held to the three laws."""
    chance, laws = random.Random(7), {"work": Tally(), "resource": Tally(), "array": Tally()}
    for _ in range(n):
        machine, layer = machine_of(chance, partial_use=partial_use), layer_of(chance)
        kind = kind_of(layer)
        flow = get_dataflow(chance.choice(["flash2", "mas"]) if kind == "attention" else kind, kind)
        try:
            once = best(layer, machine, flow)
        except MappingError:
            continue
        laws["work"].add(best(twice(layer), machine, flow).cycles / once.cycles, limit=2)
        more = chance.choice(list(doubled(machine)))
        same = evaluate(flow, once.piece, more, once.tiling).cycles
        laws["resource"].add(min(same, best(layer, more, flow).cycles) / once.cycles)
        side = chance.choice(["rows", "columns"])
        larger = machine.with_(**{f"matrix.{side}": 2 * getattr(machine.matrix, side)})
        laws["array"].add(best(layer, larger, flow).cycles / once.cycles)
    return laws


def check(laws: dict[str, Tally], *, partial_use: bool) -> None:
    """How much worse at the worst; an array that is always used whole may be too large for a product."""
    assert laws["work"].worst <= 1.10
    assert laws["resource"].worst <= 1.25
    if partial_use:
        assert laws["array"].worst <= 1.15


@pytest.mark.parametrize("partial_use", [False, True])
def test_more_is_never_much_worse(partial_use: bool) -> None:
    check(measure(4, partial_use=partial_use), partial_use=partial_use)


@pytest.mark.slow
@pytest.mark.parametrize("partial_use", [False, True])
def test_more_is_hardly_ever_worse_on_many(partial_use: bool) -> None:
    laws = measure(300, partial_use=partial_use)
    print({law: (tally.n, len(tally.broken), round(tally.worst, 4)) for law, tally in laws.items()})
    check(laws, partial_use=partial_use)
    assert laws["work"].share <= 0.1
    assert laws["resource"].share <= 0.1
    assert laws["array"].share <= (0.1 if partial_use else 0.25)


@pytest.mark.parametrize("stationarity", ["output", "weight", "input", "flexible"])
@pytest.mark.parametrize("fill_drain", ["per_pass", "per_command", "scale_sim"])
def test_a_larger_array_with_partial_use_takes_no_longer(stationarity: Any, fill_drain: Any) -> None:
    """For any product; one that is always used whole takes longer to fill."""
    chance = random.Random(3)
    unit = replace(EDGE.matrix, stationarity=stationarity, fill_drain=fill_drain, partial_use=True)
    whole = replace(unit, partial_use=False)
    for _ in range(100):
        m, k, n = (chance.randint(1, 90) for _ in range(3))
        cycles = product(unit, m, k, n, "fp16").cycles
        assert product(replace(unit, rows=2 * unit.rows), m, k, n, "fp16").cycles <= cycles
        assert product(replace(unit, columns=2 * unit.columns), m, k, n, "fp16").cycles <= cycles
        assert cycles <= product(whole, m, k, n, "fp16").cycles
    assert product(whole, 1, 1, 1, "fp16").cycles > product(unit, 1, 1, 1, "fp16").cycles


def test_a_larger_array_leaves_no_less_to_choose_from() -> None:
    """Tiles as large as the array do not fit here; those for a part of it do."""
    layer = GemmLayer(
        name="product", groups=1, m=256, k=256, n=256, a_bits=16, b_bits=16, out_bits=16, accumulator_bits=32,
        compute_format="fp16",
    )  # fmt: skip
    flow = get_dataflow("gemm", "gemm")
    small = EDGE.with_(**{"matrix.rows": 8, "matrix.columns": 8, "buffers.l1.capacity_kib": 2})
    large = small.with_(**{"matrix.rows": 128, "matrix.columns": 128})
    assert best(layer, large, flow).cycles <= 40 * best(layer, small, flow).cycles


def test_a_result_says_how_much_of_the_array_a_product_fills() -> None:
    layer = AttentionLayer(
        name="attention", batch=1, query_heads=1, kv_heads=1, query_len=32, key_len=32, head_dim=16, value_dim=16
    )
    tiling = {"query": 16, "key": 16, "depth": 2, "resident": 0}
    for partial_use, words in ((False, "fills and drains the whole array"), (True, "may use a part of the array")):
        machine = EDGE.with_(**{"matrix.partial_use": partial_use})
        result = evaluate(get_dataflow("flash2"), layer, machine, tiling)
        assert any(words in note for note in result.assumptions)


def test_a_slower_what_if_is_explained_beside_its_figure() -> None:
    layer = AttentionLayer(
        name="attention", batch=1, query_heads=1, kv_heads=1, query_len=32, key_len=32, head_dim=16, value_dim=16
    )
    result = evaluate(get_dataflow("flash2"), layer, EDGE, {"query": 16, "key": 16, "depth": 2, "resident": 0})
    slower = WhatIf(label="2x", cycles=result.cycles + 1, energy_pj=result.energy_pj, cycles_same_tiling=result.cycles)
    faster = replace(slower, cycles=result.cycles - 1)
    for what_ifs, words in (((slower, faster), ["an anomaly of exact schedules", ""]), ((faster,), None)):
        columns = what_if_columns(WhyResult(result=result, attribution=None, what_ifs=what_ifs)).columns
        last = columns[-1]
        assert (last.header == "why slower") == (words is not None)
        if words is not None:
            assert [cell[:29] for cell in last.cells] == words
