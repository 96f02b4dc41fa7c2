"""Configurations of transformers: options, caches, and what is refused in one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tilewright.errors import InputError
from tilewright.workloads.extract.transformers import stream_from_config
from tilewright.workloads.network import load_network

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
