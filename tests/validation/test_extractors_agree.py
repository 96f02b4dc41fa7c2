"""ResNet-18, BERT-Base and a Llama block by torch.export, from ONNX, from a configuration and from the zoo are the
same.

With the libraries this extracts anew (about a minute); without them, the figures recorded from such a run are held
against the zoo. TILEWRIGHT_RECORD=1 records them again.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tilewright.workloads.network import load_network
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers
from tilewright.workloads.zoo.transformers import DecoderConfig, add_decoder_layer

pytestmark = [pytest.mark.validation, pytest.mark.extras]

RECORDED = Path(__file__).parents[1] / "golden" / "extracted_streams.json"
NETWORKS = ("resnet-18", "bert-base", "llama-block")
WAYS = ("torch", "onnx", "configuration")
LLAMA = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 1,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 1024,
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "resnet-18": {
        "model_type": "resnet",
        "architectures": ["ResNetForImageClassification"],
        "layer_type": "basic",
        "depths": [2, 2, 2, 2],
        "hidden_sizes": [64, 128, 256, 512],
        "num_labels": 1000,
    },
    "bert-base": {"model_type": "bert", "architectures": ["BertModel"]},
    "llama-block": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **LLAMA},
}


def from_zoo(network: str) -> OperatorStream:
    """The stream of the zoo, every number in fp32 as the frameworks have it."""
    if network != "llama-block":
        stream = load_network(network)
    else:
        b = Layers(network)
        config = DecoderConfig(
            hidden=2048, heads=32, kv_heads=8, head_dim=64, intermediate=8192, layers=1, vocabulary=1024
        )
        x = b.embedding(b.indices("tokens", 1, 128), 1024, 2048, "embedding")
        rotation = (b.constant("cos", (1, 128, 64)), b.constant("sin", (1, 128, 64)))
        x, _ = add_decoder_layer(b, x, rotation, config, caches=False)
        stream = b.finish([b.linear(b.norm(x, "norm", function="rms"), 1024, "head", bias=False)])
    tensors = tuple(
        one if one.number_format == "int32" else dataclasses.replace(one, number_format="fp32")
        for one in stream.tensors
    )
    return dataclasses.replace(stream, tensors=tensors)


def figures(stream: OperatorStream) -> dict[str, Any]:
    """What must be the same: multiply-accumulates, bytes, and operators by kind, function and traffic."""
    counts: dict[str, int] = {}
    for operator in stream.operators:
        key = f"{operator.kind} {operator.text('function')}".strip()
        counts[key] = counts.get(key, 0) + 1
    return {
        "macs": stream.macs,
        "n_weights": stream.n_weights,
        "weight_bytes": stream.weight_bytes,
        "activation_bytes": stream.activation_bytes,
        "read_bytes": sum(map(stream.read_bytes, stream.operators)),
        "write_bytes": sum(map(stream.write_bytes, stream.operators)),
        "distinct": len(stream.distinct()),
        "operators": dict(sorted(counts.items())),
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_zoo_agrees_with_what_was_extracted(network: str, way: str) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    assert figures(from_zoo(network)) == recorded["figures"][network][way]


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_all_ways_agree(network: str, tmp_path: Path) -> None:
    for library in ("torch", "transformers", "onnx", "onnxscript"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    found = _extracted(network, tmp_path)
    if os.environ.get("TILEWRIGHT_RECORD"):
        _record(network, found)
    expected = figures(from_zoo(network))
    for way in WAYS:
        assert found[way] == expected, way


def _extracted(network: str, folder: Path) -> dict[str, Any]:
    import torch
    import transformers

    from tilewright.workloads.extract.onnx import stream_from_onnx
    from tilewright.workloads.extract.torch import stream_from_torch
    from tilewright.workloads.extract.transformers import stream_from_config

    settings = dict(CONFIGURATIONS[network])
    config = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    config._attn_implementation = "eager" if network == "resnet-18" else "sdpa"
    builder = getattr(transformers, CONFIGURATIONS[network]["architectures"][0])
    inputs = torch.zeros((1, 3, 224, 224)) if network == "resnet-18" else torch.zeros((1, 128), dtype=torch.long)

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = builder._from_config(config)

        def forward(self, x: Any) -> Any:
            extra = {} if network == "resnet-18" else {"use_cache": False}
            return tuple(one for one in self.model(x, **extra).values() if isinstance(one, torch.Tensor))

    with torch.device("meta"):
        exported = stream_from_torch(Whole(), [inputs.to("meta")], name=network)
    model = Whole().eval()
    with torch.no_grad():
        for one in (*model.parameters(), *model.buffers()):
            if one.is_floating_point():
                one.copy_(torch.rand_like(one) + 0.5)  # equal weights would be stored once
    path = folder / "model.onnx"
    torch.onnx.export(model, (inputs,), path, dynamo=True, verbose=False, external_data=True)
    configured = stream_from_config(CONFIGURATIONS[network], {} if network == "resnet-18" else {"seq": 128})
    streams = {"torch": exported, "onnx": stream_from_onnx(path), "configuration": configured}
    return {way: figures(stream) for way, stream in streams.items()}


def _record(network: str, found: dict[str, Any]) -> None:
    import onnx
    import torch
    import transformers

    recorded = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {"figures": {}}
    versions = {one.__name__: one.__version__.partition("+")[0] for one in (torch, onnx, transformers)}
    recorded |= {"recorded_with": versions, "figures": recorded["figures"] | {network: found}}
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
