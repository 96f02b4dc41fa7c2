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
from tilewright.workloads.stream.graph import OperatorStream

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
    assert stream.read_bytes(found[1]) == 4 * 4 * (3 * 16 * 2048 + 2048 * 2049 // 2)  # the bias where it is added
    assert stream.n_weights <= (stream.n_parameters or 0)


# --- models of all kinds, in few and small layers ------------------------------------------------------------------

MOE = {"moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2, "first_k_dense_replace": 1}
LATENT = {
    "head_dim": 8,
    "kv_lora_rank": 32,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
}
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 99}
MODELS: dict[str, dict[str, Any]] = {
    "falcon": {**TEXT, "architectures": ["FalconForCausalLM"], "multi_query": True},
    "deepseek_v2": {**LLAMA, **MOE, **LATENT, "num_key_value_heads": 4, "architectures": ["DeepseekV2ForCausalLM"]},
    "deepseek_v3": {**LLAMA, **MOE, **LATENT, "num_key_value_heads": 4, "architectures": ["DeepseekV3ForCausalLM"]}
    | {"n_group": 2, "topk_group": 1},
    "llama4_text": {**LLAMA, "intermediate_size_mlp": 128, "num_local_experts": 4, "attention_chunk_size": 64}
    | {"architectures": ["Llama4ForCausalLM"], "interleave_moe_layer_step": 1},
    "mixtral": {**LLAMA, "architectures": ["MixtralForCausalLM"], "num_local_experts": 4, "num_experts_per_tok": 2},
    "t5": {"architectures": ["T5ForConditionalGeneration"], "d_model": 32, "d_kv": 16, "d_ff": 64, "num_heads": 2}
    | {"num_layers": 1, "vocab_size": 99, "is_encoder_decoder": True},
    "whisper": {"architectures": ["WhisperForConditionalGeneration"], "d_model": 32, "vocab_size": 99}
    | {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    | {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_source_positions": 50, "pad_token_id": 0}
    | {"decoder_start_token_id": 1, "eos_token_id": 2, "bos_token_id": 1},
    "mamba": {"architectures": ["MambaForCausalLM"], "hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 99},
    "clip": {
        "architectures": ["CLIPModel"],
        "text_config": {**TEXT, "max_position_embeddings": 12},
        "vision_config": {**TEXT, "image_size": 32, "patch_size": 16},
    },
}


def stream_of(kind: str, options: dict[str, Any], **changes: Any) -> OperatorStream:
    return stream_from_config({**MODELS[kind], **changes, "model_type": kind}, options, name=kind)


def extents(stream: OperatorStream) -> list[tuple[int, ...]]:
    keys = ("query_heads", "kv_heads", "query_len", "key_len", "head_dim", "value_dim")
    return [tuple(operator.count(key) for key in keys) for operator in attentions(stream)]


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(
    ("kind", "heads", "n_cached"),
    [
        ("falcon", (2, 1, 16, 16), 32),
        ("deepseek_v2", (4, 4, 24, 12), 32 + 8),  # what keys and values are made of, and the turned part
        pytest.param("deepseek_v3", (4, 4, 24, 12), 32 + 8, marks=pytest.mark.slow),
        pytest.param("llama4_text", (4, 2, 16, 16), 64, marks=pytest.mark.slow),
        pytest.param("mixtral", (4, 2, 16, 16), 64, marks=pytest.mark.slow),
    ],
)
def test_decoders_decode_behind_the_cache_that_they_fill(kind: str, heads: tuple[int, ...], n_cached: int) -> None:
    filled, step = (stream_of(kind, options) for options in ({"prefill": 7}, {"decode": 1, "context": 40}))
    n_query, n_kept, *widths = heads
    assert set(extents(filled)) == {(n_query, n_kept, 7, 7, *widths)}
    assert {operator.text("mask") for operator in attentions(filled)} == {"causal"}
    assert set(extents(step)) == {(n_query, n_kept, 1, 41, *widths)}
    assert step.cache_bytes == len(extents(step)) * n_cached * 40 * 4
    assert filled.n_parameters == step.n_parameters


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(("kind", "n_read"), [("t5", 9), ("whisper", 50)])
def test_models_that_read_and_write_decode_beside_what_was_read(kind: str, n_read: int) -> None:
    once = stream_of(kind, {"seq": 9})
    assert [one[2:4] for one in extents(once)] == [(n_read, n_read), (9, 9), (9, n_read)]
    assert [operator.text("mask") for operator in attentions(once)] == ["none", "causal", "none"]
    filled = stream_of(kind, {"seq": 9, "prefill": 3})
    assert [one[2:4] for one in extents(filled)] == [(n_read, n_read), (3, 3), (3, n_read)]
    step = stream_of(kind, {"seq": 9, "decode": 1, "context": 20})
    assert [one[2:4] for one in extents(step)] == [(1, 21), (1, n_read)]
    assert step.cache_bytes == 2 * 32 * (20 + n_read) * 4


@pytest.mark.usefixtures("libraries")
def test_a_model_of_states_keeps_those() -> None:
    stream = stream_of("mamba", {"decode": 1, "context": 40})
    assert stream.cache_bytes == (64 * 16 + 64 * 4) * 4
    assert not attentions(stream)
    assert stream.n_parameters == stream_of("mamba", {"prefill": 3}).n_parameters


@pytest.mark.usefixtures("libraries")
def test_a_model_of_texts_and_images_reads_both() -> None:
    stream = stream_of("clip", {"batch": 2})
    assert [one[2:4] for one in extents(stream)] == [(5, 5), (12, 12)]
    assert stream.tensor(stream.inputs[0]).shape == (2, 12)


@pytest.mark.usefixtures("libraries")
def test_experts_take_any_number_of_rows() -> None:
    dense = stream_of("mixtral", {"seq": 7}).macs - stream_of("mixtral", {"seq": 7}, num_experts_per_tok=1).macs
    assert dense == 2 * 7 * 3 * 64 * 128


@pytest.mark.usefixtures("libraries")
def test_chunks_longer_than_the_prompt_are_causal_and_others_are_refused() -> None:
    assert attentions(stream_of("llama4_text", {"prefill": 64}))[0].text("mask") == "causal"
    with pytest.raises(InputError, match=r"llama4_text: model\.model\.layers\.0\.self_attn: attention: its mask of 65"):
        stream_of("llama4_text", {"prefill": 65})


@pytest.mark.usefixtures("libraries")
def test_libraries_say_nothing_when_a_model_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="t5: this module cannot be exported") as fault:
        stream_of("t5", {"seq": 8}, num_heads=3, d_kv=5, d_model=0)
    assert "\n" not in str(fault.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "no_such_model"}, "refuses it"),
        ({"model_type": ""}, "model_type: missing"),
        ({"_class_name": "UNet"}, "unknown class of diffusers"),
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
    with pytest.raises(InputError, match=r"config\.json:1:\d+: configuration: not valid JSON"):
        stream_from_config(path)
    with pytest.raises(InputError, match="no such file"):
        stream_from_config(tmp_path / "other.json")
