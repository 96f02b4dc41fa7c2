"""Does every dataflow compute attention, whatever the layer, the tiles and the machine?

And are the three uses of one lowering (looped, unrolled, counted) the same work?
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.dataflows.attention.costs import AttentionCosts
from tilewright.sim.dataflows.attention.mas import overwritten_tiles
from tilewright.sim.engine.program import ProgramBuilder
from tilewright.sim.engine.run import run_program
from tilewright.sim.lowering.core import WorkCounter
from tilewright.sim.lowering.mapping import Dataflow, dataflow_names, get_dataflow
from tilewright.sim.numbers.attention import run_on_numbers
from tilewright.units import ceil_div
from tilewright.workloads.attention import AttentionLayer, Mask
from tilewright.workloads.attention_reference import bias_shape, reference_attention

# `make fuzz N=10000` sets this; the quick suite runs some for each dataflow.
N_EXAMPLES = int(os.environ.get("TILEWRIGHT_FUZZ", "25"))
thorough = settings(max_examples=N_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])

SMALL = {"matrix.rows": 4, "matrix.columns": 4}
EDGE, CLOUD = load_machine("edge-16x16").with_(**SMALL), load_machine("fusemax-cloud").with_(**SMALL)
MACHINES = (
    EDGE,
    CLOUD,  # the array does softmax
    EDGE.with_(**{"vector.lanes": 8, "dram.bandwidth_gb_per_s": 2}),
    EDGE.with_(**{"vector.lanes": 64, "dram.bandwidth_gb_per_s": 3000, "dram.first_access_latency_ns": 0}),
    EDGE.with_(**{"dram.detail": "row_buffer"}),
)


class Case(NamedTuple):
    dataflow: Dataflow
    layer: AttentionLayer
    machine: MachineSpec
    tiling: dict[str, int]


@st.composite
def layers(draw: st.DrawFn) -> AttentionLayer:
    kv_heads = draw(st.integers(1, 2))
    query_len, key_len = draw(st.integers(1, 14)), draw(st.integers(1, 22))
    mask: Mask = draw(st.sampled_from(["none", "none", "causal", "banded"]))
    extra: dict[str, Any] = {}
    if mask == "causal":
        key_len = max(key_len, query_len)
    if mask == "banded":
        least = max(0, query_len - key_len)  # so that the first row sees a key
        left, right = draw(st.tuples(st.none() | st.integers(0, 9), st.none() | st.integers(least, least + 5)))
        extra = {"window_left": left, "window_right": least if left is None and right is None else right}
    batch, query_heads = draw(st.integers(1, 2)), kv_heads * draw(st.integers(1, 3))
    if draw(st.booleans()):
        extents = {"bias_batch": batch, "bias_heads": query_heads, "bias_rows": query_len}
        extra |= {field: draw(st.sampled_from([1, n])) for field, n in extents.items()}
    return AttentionLayer(
        name="layer",
        batch=batch,
        query_heads=query_heads,
        kv_heads=kv_heads,
        query_len=query_len,
        key_len=key_len,
        head_dim=draw(st.integers(1, 6)),
        value_dim=draw(st.integers(1, 6)),
        mask=mask,
        qkv_format=draw(st.sampled_from(["fp16", "int8"])),
        key_format=draw(st.sampled_from(["fp16", "int8", "int4"])),
        value_format=draw(st.sampled_from(["fp16", "int8-g32"])),
        bias_format=draw(st.sampled_from(["fp16", "fp32"])),
        sinks=draw(st.booleans()),
        soft_cap=draw(st.booleans()),
        **extra,
    )


@st.composite
def cases(draw: st.DrawFn, name: str) -> Case:
    dataflow, layer, machine = get_dataflow(name), draw(layers()), draw(st.sampled_from(MACHINES))
    values = {
        "query": st.integers(1, 2 * layer.query_len) | st.sampled_from([4, layer.query_len]),
        "key": st.integers(1, layer.key_len) | st.sampled_from([2, 4, layer.key_len]),
        "depth": st.integers(1, 3),
        "heads": st.integers(1, 6),
        "rows": st.integers(1, 6) | st.just(2**20),
    }
    tiling = {}
    for parameter in dataflow.parameters:
        value = draw(values.get(parameter.name.split("_")[-1], st.integers(0, 1)))
        tiling[parameter.name] = min(value, parameter.largest(layer))
    if tiling.get("heads", 1) > 1:  # whole heads only
        tiling |= {"query": layer.query_len, "resident": 0}
        tiling["heads"] = tiling["heads"] if layer.mask == "none" else 1
    if tiling.get("overwrite"):
        tiling["resident"] = 1  # without it, the mapping is refused: only resident K tiles can be written over
        covered = overwritten_tiles(layer, tiling)
        tiling["overwrite"] = int(covered < ceil_div(layer.key_len, tiling["key"]))
    return Case(dataflow, layer, machine, tiling)


@pytest.mark.parametrize("name", dataflow_names())
@thorough
@given(data=st.data())
def test_every_mapping_computes_attention(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(name))
    layer = case.layer
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    q = random.normal(size=(layer.batch, layer.query_heads, layer.query_len, layer.head_dim))
    k = random.normal(size=(layer.batch, layer.kv_heads, layer.key_len, layer.head_dim))
    v = random.normal(size=(layer.batch, layer.kv_heads, layer.key_len, layer.value_dim))
    joins: dict[str, Any] = {"bias": random.normal(size=bias_shape(layer))} if layer.has_bias else {}
    joins |= {"sinks": random.normal(size=layer.query_heads)} if layer.sinks else {}
    joins |= {"soft_cap": random.uniform(0.1, 5)} if layer.soft_cap else {}
    output = run_on_numbers(*case, q, k, v, **joins)
    np.testing.assert_allclose(output, reference_attention(layer, q, k, v, **joins), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", dataflow_names())
@thorough
@given(data=st.data())
def test_loops_skipping_and_counting_change_nothing(name: str, data: st.DataObject) -> None:
    """Looped and unrolled program, skipping or not: one result; the counted work is the busy time."""
    case = data.draw(cases(name))
    costs, n_groups = AttentionCosts(case.layer, case.machine), case.layer.batch * case.layer.kv_heads
    for phase in case.dataflow.phases:
        outcomes = set()
        for unroll in (False, True):
            builder = ProgramBuilder(AttentionCore.engines(1), [AttentionCore.channel(costs)], unroll=unroll)
            phase.lower(AttentionCore(costs, n_groups=n_groups, builder=builder), case.tiling)
            for skip in (False, True):
                run = run_program(builder.build(), skip=skip)
                assert not run.stuck
                outcomes.add((run.cycles, run.busy_cycles, run.channel_bytes, run.n_commands))
        ((_, (_, _, matrix_cycles, vector_cycles), (channel_bytes,), _),) = outcomes
        counter = WorkCounter()
        phase.lower(AttentionCore(costs, n_groups=n_groups, builder=counter), case.tiling)
        assert counter.totals()[:3] == (matrix_cycles, vector_cycles, channel_bytes)
