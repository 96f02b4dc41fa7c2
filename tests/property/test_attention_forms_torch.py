"""MACs and bytes of random attentions in PyTorch modules and configurations, held to closed forms."""

from __future__ import annotations

from typing import Any

import pytest
from attention_forms import Form
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.workloads.attention_operator import attention_layer
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'tilewright[torch]'")

from torch.nn import functional  # noqa: E402

from tilewright.workloads.extract.torch import stream_from_torch  # noqa: E402

pytestmark = pytest.mark.extras
DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
TENSORS = ("q", "k", "v", "o", "bias", "sinks")


@st.composite
def forms(draw: st.DrawFn) -> Form:
    kv_heads, queries, keys = draw(st.integers(1, 3)), draw(st.integers(1, 12)), draw(st.integers(1, 14))
    batch, heads = draw(st.integers(1, 2)), kv_heads * draw(st.integers(1, 3))
    bias = draw(st.none() | st.tuples(*(st.sampled_from([1, n]) for n in (batch, heads, queries))))
    number_format = draw(st.sampled_from(["fp16", "fp32"]))
    return Form(
        batch=batch,
        heads=heads,
        kv_heads=kv_heads,
        queries=queries,
        keys=keys,
        width=draw(st.integers(2, 5)),
        value_width=draw(st.integers(2, 5)),
        left=draw(st.none() | st.integers(0, 15)),
        right=draw(st.none() | st.integers(max(0, queries - keys), 15)),
        bias=None if bias is None else (*bias, keys),
        sinks=draw(st.booleans()),
        formats=dict.fromkeys(TENSORS, number_format)
        | dict.fromkeys(("k", "v"), draw(st.sampled_from([number_format, "int8"]))),
    )


class Attention(torch.nn.Module):  # type: ignore[misc]
    """An attention as a person may write it: whole, or as products and a softmax."""

    def __init__(self, form: Form, *, is_whole: bool, cap: float) -> None:
        super().__init__()
        self.form, self.is_whole, self.cap = form, is_whole, cap
        self.sinks = torch.nn.Parameter(torch.empty(form.heads)) if form.sinks else None

    def seen(self, device: Any) -> Any:
        form = self.form
        query = torch.arange(form.queries, device=device)[:, None] + (form.keys - form.queries)
        key = torch.arange(form.keys, device=device)
        seen = key >= 0
        if form.left is not None:
            seen = seen & (query - key <= form.left)
        return seen if form.right is None else seen & (key <= query + form.right)

    def forward(self, q: Any, k: Any, v: Any, bias: Any = None) -> Any:
        form, seen = self.form, self.seen(q.device)
        shared = form.heads // form.kv_heads
        k, v = (one.repeat_interleave(shared, 1) for one in (k, v))
        hidden = torch.finfo(q.dtype).min
        if self.is_whole:
            if bias is None:
                return functional.scaled_dot_product_attention(q, k, v, seen.expand(form.queries, -1))
            return functional.scaled_dot_product_attention(q, k, v, torch.where(seen, bias, hidden))
        scores = q @ k.transpose(-1, -2) * 0.5
        if self.cap:
            scores = torch.tanh(scores / self.cap) * self.cap
        if bias is not None:
            scores = scores + bias
        scores = scores.masked_fill(~seen, hidden)
        if self.sinks is None:
            return scores.softmax(-1) @ v
        column = self.sinks.reshape(1, -1, 1, 1).expand(form.batch, -1, form.queries, -1)
        weights = torch.cat([scores, column], -1).softmax(-1)
        return weights[..., :-1] @ v


def hold(stream: OperatorStream, operator: Operator, form: Form) -> None:
    layer = attention_layer(operator, stream)
    assert (operator.macs, layer.macs) == (form.macs, form.macs)
    assert (layer.key_bytes, layer.value_bytes, layer.bias_bytes) == (form.key_bytes, form.value_bytes, form.bias_bytes)
    assert (layer.read_bytes, layer.output_bytes) == (form.read_bytes, form.write_bytes)


@given(form=forms(), is_whole=st.booleans(), cap=st.sampled_from([0.0, 30.0]))
@settings(max_examples=25)
def test_modules(form: Form, is_whole: bool, cap: float) -> None:
    is_whole = is_whole and not form.sinks and not cap  # which the whole operator cannot say
    dtype = DTYPES[form.formats["q"]]
    shapes = [(form.heads, form.queries, form.width), (form.kv_heads, form.keys, form.width)]
    shapes.append((form.kv_heads, form.keys, form.value_width))
    inputs = [torch.empty(form.batch, *shape, device="meta", dtype=dtype) for shape in shapes]
    if form.bias is not None:
        inputs.append(torch.empty(form.bias, device="meta", dtype=dtype))
    module = Attention(form, is_whole=is_whole, cap=cap).to("meta", dtype)
    stream = stream_from_torch(module, inputs, caches=("k", "v")).with_formats(cache=form.formats["k"])
    (operator,) = stream.operators
    assert operator.kind == "attention"
    assert operator.attributes.get("soft_cap", 0.0) == pytest.approx(cap)
    hold(stream, operator, form)


@pytest.mark.slow
@given(
    kind=st.sampled_from(["mistral", "gemma2", "gpt_oss"]),
    kv_heads=st.integers(1, 2),
    shared=st.integers(1, 3),
    width=st.sampled_from([8, 16]),
    window=st.integers(1, 12),
    tokens=st.integers(2, 16),
    context=st.integers(0, 20),
    cache=st.sampled_from(["fp32", "int8"]),
)
@settings(max_examples=5, deadline=None)
def test_configurations(
    kind: str, kv_heads: int, shared: int, width: int, window: int, tokens: int, context: int, cache: str
) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'tilewright[zoo]'")
    from tilewright.workloads.extract.transformers import stream_from_config

    names = {"mistral": "MistralForCausalLM", "gemma2": "Gemma2ForCausalLM", "gpt_oss": "GptOssForCausalLM"}
    fields = {"model_type": kind, "architectures": [names[kind]], "hidden_size": 32, "intermediate_size": 32}
    fields |= {"num_hidden_layers": 2, "num_attention_heads": kv_heads * shared, "num_key_value_heads": kv_heads}
    fields |= {"head_dim": width, "vocab_size": 99, "sliding_window": window, "num_local_experts": 2}
    options: dict[str, Any] = {"decode": tokens, "context": context} if context else {"prefill": tokens}
    stream = stream_from_config(fields | {"num_experts_per_tok": 1}, options | {"cache": cache}, name=kind)
    found = [operator for operator in stream.operators if operator.kind == "attention"]
    # a prefill's keys and values are kept, so they are stored as the cache is
    windows = [window - 1, window - 1 if kind == "mistral" else None]
    for operator, left in zip(found, windows, strict=True):
        form = Form(
            heads=kv_heads * shared,
            kv_heads=kv_heads,
            queries=tokens,
            keys=tokens + context,
            width=width,
            value_width=width,
            left=left,
            right=0,
            sinks=kind == "gpt_oss",
            formats=dict.fromkeys(TENSORS, "fp32") | {"k": cache, "v": cache},
        )
        assert operator.attributes.get("soft_cap", 0.0) == (50.0 if kind == "gemma2" else 0.0)
        hold(stream, operator, form)
