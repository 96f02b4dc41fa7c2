"""Jamba and Zamba2 of the zoo are what transformers builds from their configurations."""

from __future__ import annotations

from typing import Any

import pytest

from tilewright.workloads.network import load_network

pytest.importorskip("torch", reason="torch is not installed: pip install 'tilewright[torch]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install 'tilewright[zoo]'")

from tilewright.workloads.extract.transformers import stream_from_config

pytestmark = [pytest.mark.extras, pytest.mark.slow]

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "jamba-v0.1": {"model_type": "jamba", "architectures": ["JambaForCausalLM"]},
    "zamba2-2.7b": {
        "model_type": "zamba2",
        "architectures": ["Zamba2ForCausalLM"],
        "n_mamba_heads": 80,
        "num_mem_blocks": 2,
    },
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("options", ["prefill=64", "decode=1,context=100"])
def test_parameters_and_work_are_the_same(name: str, options: str) -> None:
    given = dict(item.split("=") for item in options.split(","))
    theirs = stream_from_config(CONFIGURATIONS[name], given, name=name)
    ours = load_network(f"{name}:{options}")
    assert theirs.n_parameters == ours.n_parameters
    assert theirs.macs == ours.macs
    for kind in ("selective_scan", "ssd", "causal_conv", "attention"):
        assert theirs.counts.get(kind) == ours.counts.get(kind)
