"""Models of many kinds load with the multiply-accumulates and parameters that running them counts, or are refused by
name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tilewright.errors import InputError
from tilewright.workloads.stream.graph import OperatorStream

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'tilewright[torch]'")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install 'tilewright[zoo]'"
)

from independent_counts import counted_macs, counted_parameters  # noqa: E402
from model_list import CONFIGURATIONS, MODULES  # noqa: E402

from tilewright.workloads.extract.torch import stream_from_torch  # noqa: E402
from tilewright.workloads.extract.transformers import stream_from_config  # noqa: E402

pytestmark = [pytest.mark.extras, pytest.mark.slow]

TOKENS = 10
#: Models with an operator that is not understood: its name and its place.
REFUSED = {
    "gpt-neo": r'attn\.attention: attention: its mask cannot be understood \(the numbers of "\S+bias" are not there',
    "longformer": r"cannot be exported at modeling_longformer\.py:\d+ \(if is_global_attn:\)",
    "fnet": r"aten\.fft_fftn at model\.encoder\.layer\.0\.fourier\.self",
}
#: Multiply-accumulates of weights with weights, which are done once and for all: the query of the pooling head; keys
#: and queries of relative positions, in two layers.
FOLDED = {"siglip": 32 * 32, "deberta-v2": 2 * 2 * 128 * 64 * 64}


def macs_of(stream: OperatorStream, *, in_full: bool) -> int:
    total = 0
    for operator in stream.operators:
        if operator.kind == "attention" and in_full:
            extents = ("batch", "query_heads", "query_len", "key_len")
            scores = 1
            for extent in extents:
                scores *= operator.count(extent)
            total += scores * (operator.count("head_dim") + operator.count("value_dim"))
        else:
            total += operator.macs
    return total


def inputs_of(model: Any) -> dict[str, Any]:
    """What a model of transformers is called with, on the processor."""
    config, tokens = model.config, torch.zeros(1, TOKENS, dtype=torch.long)
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", 224)
    pixels = torch.zeros(1, 3, size, size)
    main = model.main_input_name
    given = {
        "input_ids": tokens,
        "pixel_values": pixels,
        "input_features": torch.zeros(1, getattr(config, "num_mel_bins", 1), 100),
        "input_values": torch.zeros(1, getattr(config, "max_length", 1), getattr(config, "num_mel_bins", 1))
        if hasattr(config, "frequency_stride")
        else torch.zeros(1, 16000),
    }
    found = {main: given[main]}
    if hasattr(config, "text_config") and hasattr(config, "vision_config"):
        found |= {"input_ids": tokens, "pixel_values": pixels}
    if getattr(config, "is_encoder_decoder", False) and "Encoder" not in type(model).__name__:
        found["decoder_input_ids"] = tokens
    if hasattr(config, "use_cache"):
        found["use_cache"] = False
    return found


@pytest.mark.parametrize(("name", "kind", "architecture", "fields"), CONFIGURATIONS, ids=lambda one: str(one)[:20])
def test_configurations(name: str, kind: str, architecture: str, fields: dict[str, Any], record_property: Any) -> None:
    data = {**fields, "model_type": kind, "architectures": [architecture]}
    options = {} if name == "wav2vec2" else {"seq": TOKENS}
    if name in REFUSED:
        with pytest.raises(InputError, match=REFUSED[name]):
            stream_from_config(data, options, name=name)
        return
    stream = stream_from_config(data, options, name=name)
    config = transformers.AutoConfig.for_model(kind, **fields)
    builder = getattr(transformers, architecture)
    model = builder._from_config(config, attn_implementation="sdpa" if builder._supports_sdpa else "eager").eval()
    n_heads = getattr(config, "num_attention_heads", None) or getattr(config, "n_heads", None) or 1
    width = getattr(config, "head_dim", None) or getattr(config, "hidden_size", 0) // (
        n_heads if type(n_heads) is int else 1
    )
    in_full, visible = counted_macs(model, (), inputs_of(model), head_dim=width)
    in_full, visible = in_full - FOLDED.get(name, 0), visible - FOLDED.get(name, 0)
    record_property("counts", json.dumps([name, stream.macs, stream.n_parameters]))
    assert stream.n_parameters == counted_parameters(model)
    assert macs_of(stream, in_full=True) == in_full
    assert stream.macs == visible


@pytest.mark.parametrize("name", MODULES)
def test_modules(name: str, record_property: Any) -> None:
    module, inputs, keywords = MODULES[name]()
    stream = stream_from_torch(module, inputs, keywords=keywords, name=name)
    in_full, visible = counted_macs(module.eval(), inputs, keywords)
    record_property("counts", json.dumps([name, stream.macs, stream.n_parameters]))
    assert stream.n_parameters == counted_parameters(module)
    assert macs_of(stream, in_full=True) == in_full
    assert stream.macs == visible


CASES = Path(__file__).parents[3] / "shared" / "cases" / "configs"
#: Attention of published sizes, in multiply-accumulates: file, options, and the count.
PUBLISHED = (
    ("mistral-7b-v0.1-2layers", {"prefill": 8192}, 2 * 32 * 256 * 25_167_872),
    ("gemma-3-1b-6layers", {"prefill": 8192}, 4 * 512 * (5 * 4_063_488 + 33_558_528)),
    ("gpt-oss-20b-2layers", {"seq": 1024}, 64 * 128 * (122_944 + 524_800)),
    ("gemma-2-2b-2layers", {"seq": 2048}, 17_188_257_792),
    ("t5-small", {"seq": 128}, 6 * 8 * 128 * (2 * 128 * 128 + 128 * 129 // 2)),
    ("falcon-7b-2layers", {"decode": 1, "context": 64}, 2 * 71 * 128 * 65),
    ("deepseek-v2-lite-2layers", {"decode": 1, "context": 64}, 2 * 16 * 320 * 65),
    ("deepseek-v3-1layer", {"decode": 1, "context": 64}, 128 * 320 * 65),
    ("llama-4-scout-4layers", {"prefill": 64}, 4 * 40 * 256 * 64 * 65 // 2),
    ("mixtral-8x7b-2layers", {"prefill": 64}, 2 * 32 * 256 * 64 * 65 // 2),
    ("whisper-tiny", {"decode": 1, "context": 64}, 4 * 6 * 128 * (65 + 1500)),
    ("clip-vit-b32", {}, 12 * (12 * 128 * 50 * 50 + 8 * 128 * 77 * 78 // 2)),
    ("mamba-130m-2layers", {"decode": 1, "context": 64}, 0),
)


@pytest.mark.parametrize(("name", "options", "macs"), PUBLISHED, ids=[one[0] for one in PUBLISHED])
def test_published_sizes(name: str, options: dict[str, Any], macs: int) -> None:
    path = CASES / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"{path.name} is not among the shared cases")
    stream = stream_from_config(path, options)
    assert sum(operator.macs for operator in stream.operators if operator.kind == "attention") == macs
    assert stream.n_parameters
