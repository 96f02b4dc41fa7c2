"""MACs and bytes of random attentions, held to closed forms from text, file, stream and zoo to what a run moves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attention_forms import Form
from hypothesis import given
from hypothesis import strategies as st

from tilewright.hw_models.load import load_machine
from tilewright.sim.lowering.evaluation import evaluate
from tilewright.sim.lowering.mapping import dataflow_names, get_dataflow
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.attention_operator import attention_layer
from tilewright.workloads.load import load_workload
from tilewright.workloads.operators import Operator, TensorSpec
from tilewright.workloads.stream.file import stream_from_json
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

# Room for everything, and bytes that are moved one by one: nothing is fetched twice or rounded up.
ROOMY = load_machine("edge-16x16").with_(**{"buffers.0.capacity_kib": 65536, "dram.burst_bytes": 1})
FORMATS = {
    "q": "qkv_format",
    "k": "key_format",
    "v": "value_format",
    "o": "output_format",
    "bias": "bias_format",
    "sinks": "sink_format",
}
MULTIPLIED, OTHER = st.sampled_from(["int8", "fp16", "bf16"]), st.sampled_from(["int8", "fp16", "fp32"])


@st.composite
def forms(draw: st.DrawFn) -> Form:
    kv_heads, queries, keys = draw(st.integers(1, 3)), draw(st.integers(1, 20)), draw(st.integers(1, 24))
    batch, heads = draw(st.integers(1, 2)), kv_heads * draw(st.integers(1, 3))
    left, right = draw(st.none() | st.integers(0, 30)), draw(st.none() | st.integers(max(0, queries - keys), 30))
    whole = (batch, heads, queries)
    bias = draw(st.none() | st.tuples(*(st.sampled_from([1, n]) for n in whole)))
    return Form(
        batch=batch,
        heads=heads,
        kv_heads=kv_heads,
        queries=queries,
        keys=keys,
        width=draw(st.integers(1, 9)),
        value_width=draw(st.integers(1, 9)),
        left=left,
        right=right,
        bias=None if bias is None else (*bias, keys),
        sinks=draw(st.booleans()),
        formats={tensor: draw(MULTIPLIED if tensor in "qkv" else OTHER) for tensor in FORMATS},
    )


def fields(form: Form) -> dict[str, Any]:
    """The form in the words of a layer."""
    words: dict[str, Any] = {
        "batch": form.batch,
        "heads": form.heads,
        "kv_heads": form.kv_heads,
        "query_len": form.queries,
        "key_len": form.keys,
        "head_dim": form.width,
        "value_dim": form.value_width,
        "sinks": form.sinks,
        **mask(form),
        **{FORMATS[tensor]: name for tensor, name in form.formats.items()},
    }
    if form.bias is not None:
        words |= dict(zip(("bias_batch", "bias_heads", "bias_rows"), form.bias, strict=False))
    return words


def mask(form: Form) -> dict[str, Any]:
    windows = {"window_left": form.left, "window_right": form.right}
    given_windows = {name: value for name, value in windows.items() if value is not None}
    return {"mask": "banded", **given_windows} if given_windows else {"mask": "none"}


def stream_of(form: Form, soft_cap: float | None = None) -> OperatorStream:
    shapes: dict[str, tuple[int, ...]] = {
        "q": (form.batch, form.heads, form.queries, form.width),
        "k": (form.batch, form.kv_heads, form.keys, form.width),
        "v": (form.batch, form.kv_heads, form.keys, form.value_width),
        **({"bias": form.bias} if form.bias is not None else {}),
        **({"sinks": (form.heads,)} if form.sinks else {}),
    }
    extents = ("batch", "query_heads", "kv_heads", "query_len", "key_len", "head_dim", "value_dim")
    values = (form.batch, form.heads, form.kv_heads, form.queries, form.keys, form.width, form.value_width)
    attributes = {**dict(zip(extents, values, strict=True)), **mask(form), "sinks": form.sinks}
    operator = Operator(
        name="sdpa",
        kind="attention",
        inputs=tuple(shapes),
        outputs=("o",),
        attributes={**attributes, "bias": form.bias is not None, **({"soft_cap": soft_cap} if soft_cap else {})},
    )
    shapes["o"] = (form.batch, form.heads, form.queries, form.value_width)
    tensors = tuple(TensorSpec(name=n, shape=s, number_format=form.formats[n]) for n, s in shapes.items())
    return OperatorStream(name="s", tensors=tensors, operators=(operator,), inputs=operator.inputs, outputs=("o",))


def hold(layer: AttentionLayer, form: Form) -> None:
    assert layer.macs == form.macs
    assert layer.read_bytes == form.read_bytes
    assert (layer.key_bytes, layer.value_bytes, layer.bias_bytes) == (form.key_bytes, form.value_bytes, form.bias_bytes)
    assert layer.output_bytes == form.write_bytes


@given(form=forms())
def test_layers_as_text_and_file(form: Form, tmp_path_factory: Any) -> None:
    words = fields(form)
    text = "attention:" + ",".join(f"{key}={str(value).lower()}" for key, value in words.items())
    layer = load_workload(text)
    hold(layer, form)
    hold(layer.with_plain_mask(), form)
    path: Path = tmp_path_factory.getbasetemp() / "layer.yaml"
    path.write_text(json.dumps({"name": "layer", **words}))
    hold(load_workload(str(path)), form)


@given(form=forms(), soft_cap=st.none() | st.floats(1, 50))
def test_streams(form: Form, soft_cap: float | None) -> None:
    stream = stream_from_json(stream_of(form, soft_cap).to_json(), name="file")
    (operator,) = stream.operators
    layer = attention_layer(operator, stream)
    hold(layer, form)
    assert layer.soft_cap == (soft_cap is not None)
    assert (stream.macs, operator.macs) == (form.macs, form.macs)
    assert stream.read_bytes(operator) == form.read_bytes
    assert stream.write_bytes(operator) == form.write_bytes
    softmax = stream.with_split_attention().operators[1]
    assert softmax.count("rows") * softmax.count("columns") == form.batch * form.heads * form.queries * form.keys


@given(form=forms())
def test_zoo_layers(form: Form) -> None:
    """Rows of heads side by side, as the decoders of the zoo have them."""
    b = Layers("zoo", activations=form.formats["q"], cache=form.formats["k"])
    form = Form(
        batch=form.batch, heads=form.heads, kv_heads=form.kv_heads, queries=form.queries, keys=form.keys,
        width=form.width, value_width=form.width, left=form.left, right=form.right, bias=form.bias, sinks=form.sinks,
        formats={"q": form.formats["q"], "o": form.formats["q"], "k": form.formats["k"], "v": form.formats["k"],
                 "bias": form.formats["q"], "sinks": "fp16"},
    )  # fmt: skip
    q = b.input("q", (form.batch, form.queries, form.heads * form.width))
    k, v = (b.input(name, (form.batch, form.keys, form.kv_heads * form.width), role="cache") for name in "kv")
    y = b.attention(
        q,
        k,
        v,
        "sdpa",
        head_dim=form.width,
        bias=b.input("bias", form.bias) if form.bias is not None else "",
        sinks=b.trained("sinks", form.heads) if form.sinks else "",
        **mask(form),
    )
    stream = b.finish([y])
    (operator,) = stream.operators
    hold(attention_layer(operator, stream), form)
    assert stream.read_bytes(operator) == form.read_bytes


@given(form=forms(), name=st.sampled_from(["flash2", "mas", "tileflow", "flat"]), soft_cap=st.booleans())
def test_a_run_with_room_moves_each_byte_once(form: Form, name: str, soft_cap: bool) -> None:
    """Without a mask; a bias that heads share is read again for each of them."""
    whole = {"left": None, "right": None, "formats": {**form.formats}}
    bias = None if form.bias is None else (form.batch, form.heads, form.queries, form.keys)
    form = Form(**{**{f: getattr(form, f) for f in form.__dataclass_fields__}, **whole, "bias": bias})
    words = fields(form)
    layer = load_workload(
        "attention:"
        + ",".join(f"{k}={str(v).lower()}" for k, v in words.items())
        + f",soft_cap={str(soft_cap).lower()}"
    )
    flow = get_dataflow(name)
    tiles = {
        "query": form.queries,
        "key": form.keys,
        "depth": 2,
        "resident": 1,
        "overwrite": 0,
        "heads": 1,
        "overlap": 0,
    }
    result = evaluate(flow, layer, ROOMY, {p.name: tiles[p.name] for p in flow.parameters})
    assert result.dram_read_bytes == form.read_bytes
    assert result.dram_write_bytes == form.write_bytes
    assert result.cycles >= result.lower_bound_cycles


@given(form=forms(), name=st.sampled_from(dataflow_names()))
def test_no_dataflow_moves_less_or_is_faster_than_the_bound(form: Form, name: str) -> None:
    layer = load_workload("attention:" + ",".join(f"{k}={str(v).lower()}" for k, v in fields(form).items()))
    flow = get_dataflow(name)
    result = evaluate(flow, layer, ROOMY, {p.name: p.least_value(layer, ROOMY) for p in flow.parameters})
    assert result.dram_read_bytes >= form.read_bytes
    assert result.cycles >= result.lower_bound_cycles
