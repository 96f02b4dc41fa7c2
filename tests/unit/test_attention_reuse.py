"""Attention over denoising steps: what stays, what is saved, what is moved; in plain simulations, too."""

from __future__ import annotations

import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.api import simulate
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.attention_reuse import REUSES, reuse_attention
from tilewright.workloads.load import load_workload

MASK = "frame_windows:frames=4,window=16,block=16"
STEPS = (True, False, False, True, False)


def _layer(text: str = "batch=2,heads=4,seq=256,head_dim=32") -> AttentionLayer:
    layer = load_workload(f"attention:{text}")
    assert isinstance(layer, AttentionLayer)
    return layer


def test_what_stays_and_what_is_saved() -> None:
    layer = _layer()
    n_values = 2 * 4 * 256 * 32
    output = reuse_attention(layer, "output")
    assert output.cache_bytes == 2 * n_values
    assert output.saved_macs(STEPS) == 3 * layer.macs
    assert output.moved_bytes(STEPS) == 2 * layer.compulsory_bytes + 3 * 2 * n_values

    guidance = reuse_attention(layer, "guidance")
    assert guidance.cache_bytes == 0
    assert guidance.saved_macs((False,) * 4) == 2 * layer.macs

    residual = reuse_attention(layer, "residual", mask=MASK)
    statistics = reuse_attention(layer, "statistics", mask=MASK, residual_format="int8")
    (sparse,) = residual.reused_step
    assert sparse.blocks is not None
    assert sparse.macs == 2 * sparse.blocks.n_pairs * 64
    assert residual.cache_bytes == 2 * n_values
    assert statistics.cache_bytes == n_values + 4 * 2 * 4 * 256
    assert residual.macs(STEPS) == 2 * layer.macs + 5 * sparse.macs
    assert residual.saved_macs(STEPS) == 3 * layer.macs - 5 * sparse.macs
    assert residual.moved_bytes((True, False)) == layer.compulsory_bytes + 2 * sparse.compulsory_bytes


def test_a_window_is_a_mask_without_a_family() -> None:
    (sparse,) = reuse_attention(_layer(), "residual", mask="window=16").reused_step
    assert (sparse.mask, sparse.window_left, sparse.window_right) == ("banded", 16, 16)


def test_reused_steps_run_faster_and_never_below_their_bound() -> None:
    machine = load_machine("edge-16x16")
    reused = reuse_attention(_layer(), "statistics", mask=MASK)
    whole, sparse = (simulate(layer, machine, "flash2") for layer in reused.whole_step)
    assert sparse.cycles < whole.cycles
    assert sparse.cycles >= sparse.lower_bound.cycles
    assert sparse.beside_cycles["cached"] >= 0
    assert sparse.to_dict()["beside_cycles"] == sparse.beside_cycles
    assert "beside_cycles" not in whole.to_dict()


def test_the_same_in_text() -> None:
    layer = _layer(f"batch=2,heads=4,seq=256,head_dim=32,mask={MASK},residual_format=fp16,ratios=true")
    (sparse,) = reuse_attention(_layer(), "statistics", mask=MASK).reused_step
    assert layer.cached_bytes == sparse.cached_bytes
    assert layer.compulsory_bytes == sparse.compulsory_bytes


@pytest.mark.parametrize(
    ("reuse", "mask", "message"),
    [
        ("outputs", "", "unknown reuse"),
        ("residual", "", "mask: missing"),
        ("residual", "window=wide", "window: given"),
        ("statistics", "frame_windows:frames=5,window=16", "frames"),
    ],
)
def test_bad_input_is_one_line(reuse: str, mask: str, message: str) -> None:
    assert reuse not in REUSES or mask != MASK
    with pytest.raises(InputError, match=message) as error:
        reuse_attention(_layer(), reuse, mask=mask)
    assert "\n" not in str(error.value)


def test_an_odd_batch_has_no_two_halves() -> None:
    with pytest.raises(InputError, match="batch: guidance shares"):
        reuse_attention(_layer("heads=4,seq=256,head_dim=32"), "guidance")
    with pytest.raises(InputError, match="the first has nothing to reuse"):
        reuse_attention(_layer(), "output").layers((False, True))
