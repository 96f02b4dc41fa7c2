"""Scans of transformers' models become one operator each, and are the recurrences that these kinds stand for."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from tilewright.workloads.kinds import KINDS
from tilewright.workloads.network import load_network
from tilewright.workloads.scan_numbers import decay_scan, delta_scan, selective_scan, softplus

pytestmark = pytest.mark.extras

BASE = {"hidden_size": 32, "vocab_size": 99, "pad_token_id": 0, "intermediate_size": 48, "num_attention_heads": 4}
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, int]]] = {
    "mamba": ("MambaForCausalLM", {"num_hidden_layers": 2}, {"selective_scan": 2, "causal_conv": 2}),
    "mamba2": (
        "Mamba2ForCausalLM",
        {"num_hidden_layers": 1, "num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 2},
        {"ssd": 1, "causal_conv": 1},
    ),
    "qwen3_next": (
        "Qwen3NextForCausalLM",
        {"num_hidden_layers": 2, "num_key_value_heads": 2, "head_dim": 8, "linear_num_value_heads": 4,
         "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "num_experts": 0,
         "layer_types": ["linear_attention", "full_attention"]},
        {"delta_rule": 1, "causal_conv": 1, "attention": 1},
    ),
    "zamba2": (
        "Zamba2ForCausalLM",
        {"num_hidden_layers": 2, "layers_block_type": ["mamba", "hybrid"], "num_key_value_heads": 4,
         "mamba_d_state": 8, "n_mamba_heads": 4, "adapter_rank": 4},
        {"ssd": 2, "causal_conv": 2, "attention": 1},
    ),
}  # fmt: skip


@pytest.fixture
def libraries() -> Any:
    return pytest.importorskip("torch"), pytest.importorskip("transformers")


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(
    "name", ["mamba2", *(pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name != "mamba2")]
)
def test_scans_are_one_operator_each(name: str) -> None:
    from tilewright.workloads.extract.transformers import stream_from_config

    architecture, fields, kinds = MODELS[name]
    data = {**BASE, **fields, "model_type": name, "architectures": [architecture]}
    for options in ({"prefill": 12}, {"decode": 1, "context": 20}):
        stream = stream_from_config(data, options, name=name)
        assert {kind: stream.counts.get(kind, 0) for kind in kinds} == kinds
        scans = [one for one in stream.operators if "key_dim" in one.attributes and one.kind != "attention"]
        for one in scans:
            assert one.count("tokens") == (1 if "decode" in options else 12)
            assert bool(one.attributes.get("state")) == ("decode" in options)
            assert len(one.outputs) == (1 if "decode" in options else 2)  # a state is written in place, or a result
        sizes = [tuple(one.count(key) for key in ("heads", "key_heads", "key_dim", "value_dim")) for one in scans]
        assert set(sizes) == {
            {"mamba": (1, 1, 16, 48), "qwen3_next": (4, 2, 8, 8)}.get(name, (4, {"mamba2": 2}.get(name, 1), 8, 16))
        }
    module = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    assert "reference_scans" not in module.causal_conv1d_fn.__code__.co_filename  # as it was before


@pytest.mark.slow
def test_the_zoo_and_the_configuration_agree(libraries: Any) -> None:
    from tilewright.workloads.extract.transformers import stream_from_config

    for name, kind, fields in (
        ("mamba-130m", "mamba", {"hidden_size": 768, "state_size": 16, "num_hidden_layers": 24, "vocab_size": 50280}),
        ("mamba2-130m", "mamba2", {"hidden_size": 768, "state_size": 128, "num_hidden_layers": 24, "num_heads": 24,
                                   "head_dim": 64, "n_groups": 1, "vocab_size": 50288, "tie_word_embeddings": True}),
    ):  # fmt: skip
        data = {**fields, "model_type": kind, "architectures": [f"{kind.title()}ForCausalLM"]}
        stream = stream_from_config(data, {"prefill": 64}, name=name)
        own = load_network(f"{name}:seq=64")
        assert stream.n_parameters == own.n_parameters
        assert stream.macs == own.macs


def test_the_functions_are_these_recurrences(libraries: Any) -> None:
    torch, _ = libraries
    random = np.random.default_rng(0)
    of = {
        name: importlib.import_module(f"transformers.models.{name}.modeling_{name}")
        for name in ("mamba", "mamba2", "qwen3_next", "kimi_linear")
    }

    def drawn(*shape: int) -> Any:
        return torch.from_numpy(random.standard_normal(shape))

    x, dt, a, b, c, d, bias = (
        drawn(2, 6, 9),
        drawn(2, 6, 9),
        -drawn(6, 4).exp(),
        drawn(2, 4, 9),
        drawn(2, 4, 9),
        drawn(6),
        drawn(6),
    )
    theirs = of["mamba"].mamba_selective_scan(x, dt, a, b, c, D=d, delta_bias=bias, delta_softplus=True)
    turned = [one.numpy().transpose(0, 2, 1) for one in (x, dt, b, c)]
    ours, _ = selective_scan(turned[0], softplus(turned[1] + bias.numpy()), a.numpy(), turned[2], turned[3])
    assert np.allclose(theirs.numpy().transpose(0, 2, 1), ours + d.numpy() * turned[0], atol=1e-5)

    x, dt, a, b, c, d, bias = (
        drawn(2, 9, 4, 6),
        drawn(2, 9, 4),
        -drawn(4).exp(),
        drawn(2, 9, 2, 8),
        drawn(2, 9, 2, 8),
        drawn(4),
        drawn(4),
    )
    theirs = of["mamba2"].mamba2_chunk_scan(x, dt, a, b, c, 4, D=d, dt_bias=bias, dt_softplus=True)
    step = softplus(dt.numpy() + bias.numpy())
    ours, _ = decay_scan(c.numpy(), b.numpy(), step[..., None] * x.numpy(), step * a.numpy())
    assert np.allclose(theirs.numpy(), ours + d.numpy()[:, None] * x.numpy(), atol=1e-5)

    q, k, v, beta = drawn(2, 9, 2, 8), drawn(2, 9, 2, 8), drawn(2, 9, 2, 6), drawn(2, 9, 2).sigmoid()
    k = k / k.norm(dim=-1, keepdim=True)
    for module, chunked, gates in (
        ("qwen3_next", "torch_chunk_gated_delta_rule", -drawn(2, 9, 2).exp()),
        ("kimi_linear", "chunk_kimi_delta_attention", -drawn(2, 9, 2, 8).exp()),
    ):
        theirs, _ = getattr(of[module], chunked)(q, k, v, g=gates, beta=beta, chunk_size=4)
        ours, _ = delta_scan(q.numpy() * 8**-0.5, k.numpy(), v.numpy(), gates.numpy(), beta.numpy())
        assert np.allclose(theirs.numpy(), ours, atol=1e-5)


def test_kinds_find_their_attributes_in_shapes() -> None:
    def found(kind: str, *shapes: tuple[int, ...]) -> Any:
        of_shapes = KINDS.get(kind).of_shapes
        assert of_shapes is not None
        return dict(of_shapes(shapes, ()))

    head, keys = (2, 9, 4), (2, 9, 2, 8)
    sizes = {"batch": 2, "tokens": 9, "heads": 4, "key_heads": 2, "key_dim": 8, "value_dim": 6}
    assert found("ssd", (2, 9, 4, 6), head, keys, keys, (4,), (4,), (4,)) == sizes
    assert found("ssd", (2, 9, 4, 6), head, keys, keys, (4,), (4,), (4,), (2, 4, 8, 6)) == sizes | {"state": True}
    assert found("delta_rule", keys, keys, (2, 9, 4, 6), head, head) == sizes | {"gate": "head"}
    alone = (2, 9, 4, 8)
    by_channel = sizes | {"key_heads": 4, "gate": "channel", "state": True}
    assert found("delta_rule", alone, alone, (2, 9, 4, 6), alone, head, (2, 4, 8, 6)) == by_channel
    assert found("linear_attention", keys, keys, (2, 9, 4, 6)) == sizes | {"gate": "none"}
    assert found("linear_attention", keys, keys, (2, 9, 4, 6), (2, 4, 8, 6)) == sizes | {"gate": "none", "state": True}
    selective = {"batch": 2, "tokens": 9, "heads": 1, "key_heads": 1, "key_dim": 16, "value_dim": 6}
    assert found("selective_scan", (2, 9, 6), (2, 9, 6), (2, 9, 16), (2, 9, 16), (6, 16), (6,)) == selective
    conv = {"batch": 2, "tokens": 9, "channels": 6, "width": 4}
    assert found("causal_conv", (2, 9, 6), (6, 4)) == found("causal_conv", (2, 9, 6), (6, 4), (6,)) == conv
    assert found("causal_conv", (2, 9, 6), (6, 4), (2, 6, 3)) == conv | {"state": True}


def test_scans_of_ones_own_are_mapped_by_name(libraries: Any) -> None:
    torch, _ = libraries
    from tilewright.workloads.extract.torch import stream_from_torch

    library = torch.library.Library("mine", "FRAGMENT")
    library.define("retention(Tensor q, Tensor k, Tensor v) -> Tensor")
    torch.library.register_fake("mine::retention", lambda q, k, v: v.new_empty(v.shape), lib=library)

    class Model(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, q: Any, k: Any, v: Any) -> Any:
            return torch.ops.mine.retention(q, k, v)

    with torch.device("meta"):
        given = [torch.empty(1, 16, 2, 8), torch.empty(1, 16, 2, 8), torch.empty(1, 16, 2, 4)]
    stream = stream_from_torch(Model(), given, unknown={"mine.retention": "kind:linear_attention"})
    (scan,) = stream.operators
    assert (scan.kind, scan.text("gate"), scan.macs) == ("linear_attention", "none", 2 * 16 * 2 * 8 * 4)
