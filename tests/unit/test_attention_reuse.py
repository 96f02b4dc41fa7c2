"""Attention over denoising steps: what stays, what is saved, what is moved; in plain simulations, too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tilewright.cli.run import run
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.api import simulate
from tilewright.search.attention_steps import compare_steps
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


TEXT = f"attention:batch=2,heads=2,seq=256,head_dim=32,mask={MASK}"


def test_steps_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    out = tmp_path / "steps.json"
    assert run(["compare", TEXT, "-a", "edge-16x16", "-d", "flash2", "--reuse", "10/5", "--json", str(out)]) == 0
    assert "saved work" in capsys.readouterr().out
    ways = {one["way"]: one for one in json.loads(out.read_text())["ways"]}
    assert list(ways) == ["none", "mask alone", "output", "guidance", "residual", "statistics"]
    for one in ways.values():
        assert one["cycles"] == 2 * one["whole_cycles"] + 8 * one["reused_cycles"]
    plain, sparse = ways["none"]["whole_cycles"], ways["residual"]["reused_cycles"]
    assert ways["residual"]["whole_cycles"] == plain + sparse
    assert ways["output"]["reused_cycles"] == 0
    assert ways["output"]["of_whole_cycles"] == pytest.approx(0.2)
    assert ways["mask alone"]["reused_cycles"] <= sparse <= ways["statistics"]["reused_cycles"]
    assert ways["statistics"]["cache_bytes"] - ways["residual"]["cache_bytes"] == 4 * 2 * 2 * 256
    macs = load_workload(TEXT.partition(",mask")[0]).macs
    assert ways["output"]["saved_macs"] == 8 * macs


def test_a_layer_without_a_sparse_form_keeps_results_alone() -> None:
    layer = _layer("heads=2,seq=64,head_dim=32,mask=causal")
    found = compare_steps(layer, 4, 2, lambda one: simulate(one, load_machine("edge-16x16"), "flash2"))
    assert [one.way for one in found.ways] == ["none", "output"]
    assert found.whole_macs == 4 * layer.macs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([TEXT, "--reuse", "10"], '--reuse: given "10"; allowed STEPS/EVERY'),
        ([TEXT, "--reuse", "10/0"], "--reuse: every: given 0 of 10 steps"),
        ([TEXT, "--reuse", "4/9"], "--reuse: every: given 9 of 4 steps"),
        ([TEXT + ",ratios=true", "--reuse", "4/2"], "--reuse adds what is cached itself"),
        ([TEXT, "--reuse", "4/2", "--mask-density", "0.5"], "--reuse: given with --mask-density"),
        (["gemm:m=8,n=8,k=8", "--reuse", "4/2"], "--reuse: is for attention layers"),
        (["resnet-18", "--reuse", "4/2"], "--reuse: is for one attention layer"),
    ],
)
def test_steps_that_cannot_be(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", *arguments, "-a", "edge-16x16"]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said and "\n" not in said
