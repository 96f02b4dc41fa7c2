"""Configurations of transformers: options, caches, and what is refused in one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tilewright.errors import InputError
from tilewright.workloads.attention_operator import attention_layer
from tilewright.workloads.extract.transformers import stream_from_config
from tilewright.workloads.network import load_network
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream import OperatorStream

pytestmark = pytest.mark.extras

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 100,
}


def config(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**LLAMA, **changes}), encoding="utf-8")
    return path


@pytest.fixture
def libraries() -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'tilewright[zoo]'")
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'tilewright[zoo]'")


@pytest.mark.usefixtures("libraries")
def test_a_decoder_run_once_filled_and_continued(tmp_path: Path) -> None:
    path = config(tmp_path)
    once, filled, step = (load_network(f"{path}:{text}") for text in ("seq=8", "prefill=8", "decode=1,context=8"))
    assert filled.macs == once.macs - 7 * 64 * 100  # logits of the last token alone
    assert once.cache_bytes == filled.cache_bytes == 0
    assert step.cache_bytes == 2 * 2 * 2 * 16 * 8 * 4
    assert sum(op.text("function") == "append" for op in step.operators) == 4
    attention = next(op for op in step.operators if op.kind == "attention")
    assert (attention.count("query_len"), attention.count("key_len")) == (1, 9)
    assert {step.base(name).role for name in step.outputs[1:]} == {"cache"}


@pytest.mark.usefixtures("libraries")
def test_formats_and_batch_are_options(tmp_path: Path) -> None:
    one = stream_from_config(config(tmp_path), {"prefill": 8})
    two = stream_from_config(config(tmp_path), {"prefill": 8, "batch": 2, "weights": "int4", "cache": "int8"})
    assert two.macs == 2 * one.macs
    product = next(op for op in two.operators if op.kind == "matmul")
    assert two.tensor(product.inputs[1]).number_format == "int4"


# --- attention as models have it ------------------------------------------------------------------------------------

LENGTH, WINDOW = 1 << 14, 64


def causal_scores(window: int = LENGTH) -> int:
    return LENGTH * (LENGTH + 1) // 2 - (LENGTH - window) * (LENGTH - window + 1) // 2


def attentions(stream: OperatorStream) -> list[Operator]:
    return [operator for operator in stream.operators if operator.kind == "attention"]


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": WINDOW}, [WINDOW] * 2),
        ({"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": None}, [LENGTH] * 2),
        (
            {
                "model_type": "gemma3_text",
                "architectures": ["Gemma3ForCausalLM"],
                "sliding_window": WINDOW,
                "layer_types": ["sliding_attention", "full_attention"],
            },
            [WINDOW, LENGTH],
        ),
        (
            {
                "model_type": "gpt_oss",
                "architectures": ["GptOssForCausalLM"],
                "sliding_window": WINDOW,
                "layer_types": ["sliding_attention", "full_attention"],
                "num_local_experts": 4,
                "num_experts_per_tok": 2,
            },
            [WINDOW, LENGTH],
        ),
        (
            {
                "model_type": "gemma2",
                "architectures": ["Gemma2ForCausalLM"],
                "sliding_window": WINDOW,
                "attn_logit_softcapping": 50.0,
            },
            [WINDOW, LENGTH],
        ),
    ],
)
def test_windows_sinks_and_caps_of_long_prompts(tmp_path: Path, changes: dict[str, Any], windows: list[int]) -> None:
    stream = stream_from_config(config(tmp_path, **changes), {"prefill": LENGTH})
    found = attentions(stream)
    assert [attention_layer(operator).n_scores_per_head for operator in found] == [*map(causal_scores, windows)]
    has_sinks, cap = changes["model_type"] == "gpt_oss", changes.get("attn_logit_softcapping")
    for operator in found:
        assert operator.attributes.get("sinks", False) is has_sinks
        assert operator.attributes.get("soft_cap") == cap
        assert [stream.tensor(name).shape for name in operator.inputs[3:]] == ([(4,)] if has_sinks else [])
        assert operator.count("kv_heads") == 2


@pytest.mark.usefixtures("libraries")
def test_the_decoder_of_t5_keeps_its_causal_mask_beside_its_bias(tmp_path: Path) -> None:
    t5 = {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        "d_model": 64,
        "d_kv": 16,
        "d_ff": 128,
        "num_heads": 4,
        "num_layers": 1,
        "is_encoder_decoder": True,
        "decoder_start_token_id": 0,
        "vocab_size": 100,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(t5), encoding="utf-8")
    stream = stream_from_config(path, {"seq": 2048})
    found = attentions(stream)
    assert [operator.text("mask") for operator in found] == ["none", "causal", "none"]
    assert [operator.attributes.get("bias", False) for operator in found] == [True, True, False]
    assert stream.tensor(found[1].inputs[3]).shape == (1, 4, 2048, 2048)
    assert stream.read_bytes(found[1]) == 4 * 4 * 2048 * (3 * 16 + 2048)
    assert stream.n_weights <= (stream.n_parameters or 0)


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "no_such_model"}, "refuses it"),
        ({"model_type": ""}, "model_type: missing"),
        ({"_class_name": "UNet"}, "is a configuration of diffusers"),
    ],
)
def test_configurations_that_are_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as fault:
        stream_from_config(config(tmp_path, **changes), {"seq": 8})
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seq": "x"}, 'seq: must be a whole number; given "x"'),
        ({"sequence": "8"}, r'unknown option; given "sequence"; allowed .*did you mean "seq"'),
        ({"decode": 1}, "context: missing"),
        ({"decode": 1, "prefill": 2, "context": 1}, "prefill: is another run than decode"),
        ({"weights": "int99"}, "unknown number format"),
        ({"logits": "first"}, "logits: unknown choice"),
    ],
)
def test_options_that_are_refused(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        stream_from_config(config(tmp_path), options)


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(InputError, match="is no configuration"):
        stream_from_config(path)
    path.write_text('{"model_type": ', encoding="utf-8")
    with pytest.raises(InputError, match=r"config\.json:1:\d+: not valid JSON"):
        stream_from_config(path)
    with pytest.raises(InputError, match="no such file"):
        stream_from_config(tmp_path / "other.json")
