"""MACs and bytes of random attentions in ONNX files, held to closed forms, however the file spells them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from attention_forms import Form
from hypothesis import given
from hypothesis import strategies as st

from tilewright.workloads.attention_operator import attention_layer
from tilewright.workloads.stream.graph import OperatorStream

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'tilewright[onnx]'")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tilewright.workloads.extract.onnx import stream_from_onnx  # noqa: E402

pytestmark = pytest.mark.extras
node = helper.make_node
KINDS = {"fp16": TensorProto.FLOAT16, "fp32": TensorProto.FLOAT, "int8": TensorProto.INT8}
ARRAYS = {"fp16": np.float16, "fp32": np.float32}


@st.composite
def forms(draw: st.DrawFn, *, cached: bool = False) -> Form:
    """``cached``: queries are the last of the keys, as behind a cache."""
    kv_heads, queries = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    keys = queries + draw(st.integers(0, 9)) if cached else draw(st.integers(1, 14))
    batch, heads = draw(st.integers(1, 2)), kv_heads * draw(st.integers(1, 3))
    width = draw(st.integers(1, 5))
    bias = draw(st.none() | st.tuples(*(st.sampled_from([1, n]) for n in (batch, heads, queries))))
    number_format = draw(st.sampled_from(["fp16", "fp32"]))
    stored = draw(st.sampled_from([number_format, "int8"]))
    return Form(
        batch=batch,
        heads=heads,
        kv_heads=kv_heads,
        queries=queries,
        keys=keys,
        width=width,
        value_width=width if cached else draw(st.integers(1, 5)),
        left=draw(st.none() | st.integers(0, 15)),
        right=draw(st.none() | st.integers(max(0, queries - keys), 15)),
        bias=None if bias is None else (*bias, keys),
        sinks=draw(st.booleans()),
        formats={**dict.fromkeys(("q", "o", "bias", "sinks"), number_format), "k": stored, "v": stored},
    )


class Graph:
    """A graph of one attention under construction."""

    def __init__(self, form: Form) -> None:
        self.form, self.dtype = form, ARRAYS[form.formats["q"]]
        self.inputs: dict[str, tuple[int, tuple[int, ...]]] = {}
        self.nodes: list[Any] = []
        self.kept: list[Any] = []

    def number(self, name: str, value: Any, dtype: Any = np.int64) -> str:
        self.kept.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def stored(self, name: str, shape: tuple[int, ...]) -> str:
        """An input in its format, as the numbers that it stands for."""
        number_format = self.form.formats[{"b": "bias"}.get(name, name[0])]
        self.inputs[name] = (KINDS[number_format], shape)
        if number_format != "int8":
            return name
        scale = self.number(f"{name}_scale", 0.1, self.dtype)
        self.nodes.append(node("DequantizeLinear", [name, scale], [f"{name}_wide"]))
        return f"{name}_wide"

    def sinks(self) -> str:
        return self.number("sinks", np.ones(self.form.heads), self.dtype) if self.form.sinks else ""

    def stream(self) -> OperatorStream:
        inputs = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in self.inputs.items()]
        result = helper.make_tensor_value_info("y", KINDS[self.form.formats["q"]], None)
        graph = helper.make_graph(self.nodes, "net", inputs, [result], self.kept)
        sets = [helper.make_opsetid("", 25), helper.make_opsetid("com.microsoft", 1)]
        return stream_from_onnx(helper.make_model(graph, opset_imports=sets, ir_version=11))


def hold(stream: OperatorStream, form: Form) -> None:
    (operator,) = [op for op in stream.operators if op.kind == "attention"]
    assert stream.macs == form.macs
    layer = attention_layer(operator, stream)
    assert (layer.macs, layer.read_bytes, layer.output_bytes) == (form.macs, form.read_bytes, form.write_bytes)
    assert (layer.key_bytes, layer.value_bytes, layer.bias_bytes) == (form.key_bytes, form.value_bytes, form.bias_bytes)


def qkv(graph: Graph, *, by_heads: bool = True) -> list[str]:
    form = graph.form
    sizes = {
        "q": (form.heads, form.queries, form.width),
        "k": (form.kv_heads, form.keys, form.width),
        "v": (form.kv_heads, form.keys, form.value_width),
    }
    return [
        graph.stored(name, (form.batch, h, rows, width) if by_heads else (form.batch, rows, h * width))
        for name, (h, rows, width) in sizes.items()
    ]


@given(form=forms(cached=True), by_heads=st.booleans(), soft_cap=st.sampled_from([0.0, 30.0]))
def test_the_standard_operator(form: Form, by_heads: bool, soft_cap: float) -> None:
    """Its windows lie around the first queries' places, those behind a past after it."""
    form = replace(form, sinks=False)
    graph = Graph(form)
    past = form.keys - form.queries
    names = qkv(graph, by_heads=by_heads)
    mask = graph.stored("b", form.bias) if form.bias is not None else ""
    left, right = (-1 if one is None else one for one in (form.left, form.right))
    causal = right == 0
    if past:  # keys in a buffer that is full: the first query stands behind `past` of them
        names += [mask, "", "", graph.number("lengths", [form.keys] * form.batch)]
    else:
        names += [mask]
    heads = {} if by_heads else {"q_num_heads": form.heads, "kv_num_heads": form.kv_heads}
    graph.nodes.append(
        node("Attention", names, ["y"], left_window_size=left, right_window_size=-1 if causal else right,
             is_causal=int(causal), softcap=soft_cap, **heads)
    )  # fmt: skip
    stream = graph.stream()
    hold(stream, form)
    assert attention_layer(stream.operators[-1], stream).soft_cap == bool(soft_cap)


@given(form=forms(cached=True), soft_cap=st.sampled_from([0.0, 30.0]))
def test_grouped_queries_of_onnxruntime(form: Form, soft_cap: float) -> None:
    """Causal behind the cache that it appends to; a window counts the query's own place."""
    form = replace(form, right=0, formats={**form.formats, **dict.fromkeys("kv", form.formats["q"])})
    graph, past = Graph(form), form.keys - form.queries
    kinds = dict.fromkeys("kv", (form.batch, form.queries, form.kv_heads * form.width))
    names = [graph.stored("q", (form.batch, form.queries, form.heads * form.width))]
    names += [graph.stored(name, shape) for name, shape in kinds.items()]
    cache = (form.batch, form.kv_heads, past, form.width)
    names += [graph.stored(name, cache) for name in ("k_past", "v_past")] if past else ["", ""]
    names += [graph.number("n", [form.keys - 1] * form.batch, np.int32), graph.number("total", form.keys, np.int32)]
    names += ["", "", "", graph.stored("b", form.bias) if form.bias is not None else "", graph.sinks()]
    graph.nodes.append(
        node("GroupQueryAttention", names, ["y", "k_all", "v_all"], domain="com.microsoft", num_heads=form.heads,
             kv_num_heads=form.kv_heads, softcap=soft_cap,
             local_window_size=-1 if form.left is None else form.left + 1)
    )  # fmt: skip
    stream = graph.stream()
    hold(stream, form)
    element = 2 if form.formats["k"] == "fp16" else 4
    assert stream.cache_bytes == 2 * form.batch * form.kv_heads * past * form.width * element
    for operator in stream.operators[:-1]:
        assert operator.text("function") == "append"
        assert stream.read_bytes(operator) == form.batch * form.kv_heads * form.queries * form.width * element


@given(form=forms(), soft_cap=st.sampled_from([0.0, 30.0]), added=st.booleans())
def test_written_out(form: Form, soft_cap: float, added: bool) -> None:
    """Products, soft cap, bias, a mask made of positions, a column of sinks."""
    if form.left is not None and any(len(form.seen(row)) == 0 for row in range(form.queries)):
        form = replace(form, left=None)  # a row without any key has no softmax
    graph = Graph(form)
    nodes, dtype = graph.nodes, graph.dtype
    q, k, v = qkv(graph)
    lead = (form.batch, form.kv_heads, form.heads // form.kv_heads)
    graph.number("axis", [2])
    for name, source, width in (("ke", k, form.width), ("ve", v, form.value_width)):
        graph.number(f"{name}_spread", [*lead, form.keys, width])
        graph.number(f"{name}_heads", [form.batch, form.heads, form.keys, width])
        nodes += [
            node("Unsqueeze", [source, "axis"], [f"{name}0"]),
            node("Expand", [f"{name}0", f"{name}_spread"], [f"{name}1"]),
            node("Reshape", [f"{name}1", f"{name}_heads"], [name]),
        ]
    graph.number("scale", 0.5, dtype)
    nodes += [
        node("Transpose", ["ke"], ["kt"], perm=[0, 1, 3, 2]),
        node("MatMul", [q, "kt"], ["s0"]),
        node("Mul", ["s0", "scale"], ["s1"]),
    ]
    last = "s1"
    if soft_cap:
        graph.number("cap", soft_cap, dtype)
        nodes += [node("Div", [last, "cap"], ["c0"]), node("Tanh", ["c0"], ["c1"]), node("Mul", ["c1", "cap"], ["c2"])]
        last = "c2"
    if form.bias is not None:
        nodes.append(node("Add", [last, graph.stored("b", form.bias)], ["s_bias"]))
        last = "s_bias"
    last = _masked(graph, last, added=added)
    _weighted(graph, last)
    hold(graph.stream(), form)


def _masked(graph: Graph, last: str, *, added: bool) -> str:
    """Scores with the band of the form around positions that start at 0."""
    form, nodes = graph.form, graph.nodes
    limits = {"Less": form.left, "Greater": form.right}
    numbers = {"zero": 0, "one": 1, "n_rows": form.queries, "n_keys": form.keys, "shift": form.keys - form.queries}
    for name, value in numbers.items():
        graph.number(name, value)
    graph.number("last", [1])
    graph.number("low", np.finfo(graph.dtype).min, graph.dtype)
    graph.number("none", 0, graph.dtype)
    nodes += [
        node("Range", ["zero", "n_rows", "one"], ["r0"]),
        node("Add", ["r0", "shift"], ["r1"]),
        node("Unsqueeze", ["r1", "last"], ["row"]),
        node("Range", ["zero", "n_keys", "one"], ["key"]),
        node("Sub", ["key", "row"], ["distance"]),
    ]
    hidden = []
    for kind, limit in limits.items():
        if limit is not None:
            graph.number(f"{kind}_limit", -limit if kind == "Less" else limit)
            nodes.append(node(kind, ["distance", f"{kind}_limit"], [f"hidden_{kind}"]))
            hidden.append(f"hidden_{kind}")
    if not hidden:
        return last
    if len(hidden) == 2:
        nodes.append(node("Or", hidden, ["hidden"]))
        hidden = ["hidden"]
    if added:
        nodes += [node("Where", [hidden[0], "low", "none"], ["m"]), node("Add", [last, "m"], ["masked"])]
    else:
        nodes.append(node("Where", [hidden[0], "low", last], ["masked"]))
    return "masked"


def _weighted(graph: Graph, last: str) -> None:
    form, nodes = graph.form, graph.nodes
    if form.sinks:
        graph.sinks()
        graph.number("sink_shape", [1, form.heads, 1, 1])
        graph.number("sink_rows", [form.batch, form.heads, form.queries, 1])
        for name, value in (("from", [0]), ("to", [form.keys]), ("columns", [3])):
            graph.number(name, value)
        nodes += [
            node("Reshape", ["sinks", "sink_shape"], ["sink0"]),
            node("Expand", ["sink0", "sink_rows"], ["sink1"]),
            node("Concat", [last, "sink1"], ["with_sinks"], axis=-1),
            node("Softmax", ["with_sinks"], ["all"], axis=-1),
            node("Slice", ["all", "from", "to", "columns"], ["p"]),
        ]
    else:
        nodes.append(node("Softmax", [last], ["p"], axis=-1))
    nodes.append(node("MatMul", ["p", "ve"], ["y"]))
