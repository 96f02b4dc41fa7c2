"""Attention layers of odd shapes, tiles for them, and their reference result. Needs Hypothesis."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.attention.mas import overwritten_tiles
from tilewright.sim.dataflows.attention.numbers.run import run_on_numbers
from tilewright.sim.lowering.mapping import Dataflow, Tiling
from tilewright.units import ceil_div
from tilewright.workloads.attention import AttentionLayer, Mask
from tilewright.workloads.attention_reference import bias_shape, reference_attention

__all__ = ["layers", "numbers", "tilings"]


@st.composite
def layers(draw: st.DrawFn) -> AttentionLayer:
    """Few queries, keys and heads of any numbers, with masks, biases, sinks, soft caps and formats."""
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
def tilings(draw: st.DrawFn, dataflow: Dataflow, layer: AttentionLayer, machine: MachineSpec) -> dict[str, int]:
    """Tiles of any size for the parameters that dataflows of attention have in common; others from their candidates."""
    values = {
        "query": st.integers(1, 2 * layer.query_len) | st.sampled_from([4, layer.query_len]),
        "key": st.integers(1, layer.key_len) | st.sampled_from([2, 4, layer.key_len]),
        "depth": st.integers(1, 3),
        "heads": st.integers(1, 6),
        "rows": st.integers(1, 6) | st.just(2**20),
    }
    tiling = {}
    for parameter in dataflow.parameters:
        usual = st.sampled_from(parameter.candidates(layer, machine))
        value = draw(values.get(parameter.name.split("_")[-1], usual))
        tiling[parameter.name] = min(value, parameter.largest(layer))
    if tiling.get("heads", 1) > 1:  # whole heads only
        tiling |= {"query": layer.query_len, "resident": 0}
        tiling["heads"] = tiling["heads"] if layer.mask == "none" else 1
    if tiling.get("overwrite"):  # only resident K tiles can be written over, and not all of them
        tiling["resident"] = 1
        covered = overwritten_tiles(layer, tiling)
        tiling["overwrite"] = int(covered < ceil_div(layer.key_len, tiling["key"]))
    return tiling


def numbers(
    dataflow: Dataflow, layer: AttentionLayer, machine: MachineSpec, tiling: Tiling, random: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What the dataflow computes of random operands, and what attention is."""
    q = random.normal(size=(layer.batch, layer.query_heads, layer.query_len, layer.head_dim))
    k = random.normal(size=(layer.batch, layer.kv_heads, layer.key_len, layer.head_dim))
    v = random.normal(size=(layer.batch, layer.kv_heads, layer.key_len, layer.value_dim))
    joins: dict[str, Any] = {"bias": random.normal(size=bias_shape(layer))} if layer.has_bias else {}
    joins |= {"sinks": random.normal(size=layer.query_heads)} if layer.sinks else {}
    joins |= {"soft_cap": random.uniform(0.1, 5)} if layer.soft_cap else {}
    found = run_on_numbers(dataflow, layer, machine, tiling, q, k, v, **joins)
    return found, reference_attention(layer, q, k, v, **joins)
