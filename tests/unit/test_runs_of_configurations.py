"""Generation from configurations: caches of all sorts in formats of their own, an encoder and its decoder."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tilewright.errors import InputError
from tilewright.search.api import simulate_network
from tilewright.search.runs.run import simulate_run
from tilewright.workloads.runs.cache import cached_bytes, cached_tensors
from tilewright.workloads.runs.streams import network_at, with_cache_formats

pytestmark = pytest.mark.extras
pytest.importorskip("torch")
pytest.importorskip("transformers")

_SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "vocab_size": 256,
    "max_position_embeddings": 4096,
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "llama": {**_SMALL, "architectures": ["LlamaForCausalLM"]},
    "gemma2": {**_SMALL, "head_dim": 16, "sliding_window": 8, "architectures": ["Gemma2ForCausalLM"]},
    "deepseek_v3": {
        **_SMALL,
        "architectures": ["DeepseekV3ForCausalLM"],
        "num_key_value_heads": 4,
        "moe_intermediate_size": 64,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 32,
        "q_lora_rank": 24,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
    },
    "whisper": {
        "architectures": ["WhisperForConditionalGeneration"],
        "d_model": 64,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_ffn_dim": 128,
        "decoder_ffn_dim": 128,
        "vocab_size": 256,
        "num_mel_bins": 80,
        "max_source_positions": 30,
        "max_target_positions": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    },
}
#: Values of a token over all layers, and those that do not grow (what the encoder gave).
VALUES = {"llama": (2 * 2 * 2 * 16, 0), "gemma2": (2 * 2 * 2 * 16, 0), "deepseek_v3": (2 * (32 + 8), 0)}
VALUES["whisper"] = (2 * 2 * 4 * 16, 2 * 2 * 4 * 16 * 30)


def _file(folder: Path, name: str) -> str:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"model_type": name, **CONFIGURATIONS[name]}), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_bytes_are_those_of_the_configuration(name: str, tmp_path: Path) -> None:
    file, context, batch = _file(tmp_path, name), 21, 2
    grows, fixed = VALUES[name]
    pair = [network_at(file, {"decode": 1, "context": n, "batch": batch}) for n in (context, context + 1)]
    for number_format, bits in (("fp16", Fraction(16)), ("int8", Fraction(8)), ("int4-g8", 4 + Fraction(16, 8))):
        own = [with_cache_formats(stream, keys=number_format, values=number_format) for stream in pair]
        tensors = cached_tensors(own[0], own[1], n_sequences=batch)
        assert own[0].cache_bytes == batch * (context * grows + fixed) * bits / 8
        kept = {one.window or context for one in tensors if one.axis is not None}
        if name == "gemma2":  # half of its layers see 8 tokens
            assert kept == {8, context}
            assert cached_bytes(tensors, context, batch) == batch * (context + 8) * grows // 2 * bits / 8
        else:
            assert cached_bytes(tensors, context, batch) == batch * (context * grows + fixed) * bits / 8


def test_latents_have_one_format(tmp_path: Path) -> None:
    stream = network_at(_file(tmp_path, "deepseek_v3"), {"decode": 1, "context": 8, "batch": 1})
    with pytest.raises(InputError, match="latents, which are keys and values at once; given int8 and int4"):
        with_cache_formats(stream, keys="int8", values="int4")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma2", "whisper"])
def test_a_generation_is_its_steps(name: str, tmp_path: Path) -> None:
    file = _file(tmp_path, name)
    run = simulate_run(f"{file}:prompt=4,generate=8", "edge-16x16")
    texts = [f"{file}:prefill=4", *(f"{file}:decode=1,context={n}" for n in range(4, 11))]
    alone = [simulate_network(text, "edge-16x16") for text in texts]
    assert run.cycles == sum(one.cycles for one in alone)
    assert run.dram_read_bytes == sum(one.dram_read_bytes for one in alone)
