"""Rows of vector work that are cut into pieces: numbers, bytes, room, and what a network's operators become."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.load import load_machine
from tilewright.search.tiling import best_tiling
from tilewright.sim.dataflows.vector.lower import VECTOR
from tilewright.sim.dataflows.vector.numbers import RowFunction, RowMaximum, RowSoftmax, RowSquares, run_rows_on_numbers
from tilewright.sim.jobs import jobs_of
from tilewright.sim.lowering.evaluation import evaluate
from tilewright.workloads.gemm import RowCut, VectorLayer
from tilewright.workloads.network import load_network
from tilewright.workloads.operators import Operator
from tilewright.workloads.vector_work import statistics_pass, vector_work

EDGE = load_machine("edge-16x16")
COLUMNS = 23
MAXIMUM = RowCut(COLUMNS, (("max", COLUMNS),), kept_bytes=4, sums=True)
SQUARES = RowCut(COLUMNS, (("mul", COLUMNS),))
SOFTMAX = RowCut(
    COLUMNS, (("sub", COLUMNS), ("exp", COLUMNS), ("div", COLUMNS)), kept_bytes=8,
    first=(("max", COLUMNS), ("sub", COLUMNS), ("exp", COLUMNS), ("add", COLUMNS)), first_read_bytes=2 * COLUMNS,
)  # fmt: skip


def a_layer(cut: RowCut, **changes: Any) -> VectorLayer:
    values: dict[str, Any] = {"read_bytes": 2 * COLUMNS, "write_bytes": 2 if cut.sums else 2 * COLUMNS}
    return VectorLayer(name="rows", rows=5, groups=2, operations=cut.last, cut=cut, **(values | changes))


def want(function: RowFunction, x: Any) -> Any:
    if isinstance(function, RowMaximum):
        return x.max(axis=-1, keepdims=True)
    if isinstance(function, RowSquares):
        return x * x
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


FUNCTIONS: list[tuple[RowCut, RowFunction]] = [
    (MAXIMUM, RowMaximum()),
    (SQUARES, RowSquares()),
    (SOFTMAX, RowSoftmax()),
]


@pytest.mark.parametrize(("cut", "function"), FUNCTIONS)
def test_pieces_compute_the_row(cut: RowCut, function: RowFunction) -> None:
    layer = a_layer(cut)
    x = np.random.default_rng(3).normal(size=(layer.groups, layer.rows, COLUMNS))
    slow = (EDGE.with_(**{"dram.bandwidth_gb_per_s": 1}), EDGE.with_(**{"vector.lanes": 1}))
    for columns, depth, machine in product((1, 7, 12, 22), (1, 2, 3), slow):
        tiling = {"rows": 1, "columns": columns, "depth": depth}
        np.testing.assert_allclose(run_rows_on_numbers(layer, machine, tiling, function, x), want(function, x))
    with pytest.raises(InputError, match="only rows that are cut into pieces"):
        run_rows_on_numbers(layer, EDGE, {"rows": 1, "columns": COLUMNS, "depth": 2}, function, x)


@pytest.mark.parametrize(("cut", "times"), [(MAXIMUM, 1), (SQUARES, 1), (SOFTMAX, 2)])
def test_every_pass_reads_the_row(cut: RowCut, times: int) -> None:
    layer, machine = a_layer(cut), EDGE.with_(**{"dram.burst_bytes": 1})
    result = evaluate(VECTOR, layer, machine, {"rows": 1, "columns": 6, "depth": 2})
    assert result.dram_read_bytes == times * 10 * layer.read_bytes
    assert result.dram_write_bytes == 10 * layer.write_bytes
    assert result.peak_buffer_bytes["l1"] == 2 * 12 + cut.kept_bytes * (2 if cut.sums else 1)
    whole = evaluate(VECTOR, layer, machine, {"rows": 1, "columns": COLUMNS, "depth": 2})
    assert whole.dram_read_bytes == 10 * layer.read_bytes
    assert whole.lower_bound == result.lower_bound and whole.lower_bound.cycles <= min(whole.cycles, result.cycles)


@pytest.mark.parametrize("cut", [MAXIMUM, SQUARES, SOFTMAX])
def test_more_buffer_never_makes_the_best_slower(cut: RowCut) -> None:
    layer = a_layer(cut)
    cycles = [
        best_tiling(VECTOR, layer, EDGE.with_(**{"buffers.l1.capacity_kib": n_bytes / 1024})).cycles
        for n_bytes in (16, 30, 60, 100, 300, 2000)
    ]
    assert all(more <= less for less, more in pairwise(cycles))
    with pytest.raises(MappingError, match="no tiling of this dataflow needs less"):
        best_tiling(VECTOR, layer, EDGE.with_(**{"buffers.l1.capacity_kib": 1 / 1024}))


@pytest.mark.parametrize("function", ["softmax", "layer", "rms", "group"])
def test_two_passes_do_no_less_than_one(function: str) -> None:
    kind = function if function == "softmax" else "norm"
    attributes: dict[str, Any] = {"rows": 6, "columns": 50} | ({} if kind == function else {"function": function})
    operator = Operator(name="op", kind=kind, inputs=("x", "w"), outputs=("y",), attributes=attributes)
    passes = statistics_pass(operator)
    assert passes is not None
    together: dict[str, int] = {}
    for name, times in (*passes[0], *passes[1]):
        together[name] = together.get(name, 0) + times
    once = dict(vector_work(operator))
    again = {"sub": 300, "exp": 300} if kind == "softmax" else {}
    assert together == {name: once.get(name, 0) + again.get(name, 0) for name in together}
    assert together.keys() >= once.keys()


@pytest.mark.parametrize(("network", "kib"), [("efficientnet-b3", 128), ("resnet-50:batch=64", 228), ("resnet-50", 32)])
def test_pools_of_whole_maps_fit_any_buffer(network: str, kib: int) -> None:
    layers = dict.fromkeys(job.layer for job in jobs_of(load_network(network)) if isinstance(job.layer, VectorLayer))
    longest = max(layers, key=lambda layer: layer.read_bytes)
    assert longest.read_bytes * 2 > kib * 1024 and longest.cut is not None and longest.cut.sums
    machine = EDGE.with_(**{"buffers.l1.capacity_kib": kib})
    found = best_tiling(VECTOR, longest, machine)
    assert found.cycles >= VECTOR.bound(longest, machine).cycles
    assert found.tiling["columns"] < longest.columns
