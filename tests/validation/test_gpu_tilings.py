"""Tilings on an H100: errors, ranks and regrets of every sweep, fused against unfused, on our own measurement.

Nothing but the package is needed: the measurement and the compiled schedules come with it. ``-s`` prints every figure.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tilewright.hw_models.gpu.calibration import calibration_of
from tilewright.hw_models.load import load_machine
from tilewright.kernels.reading import read_tables
from tilewright.search.gpu.fused import fused_summary
from tilewright.search.gpu.ranking import COMPILED
from tilewright.search.gpu.tilings import rank_tilings
from tilewright.search.gpu.validate import Validation, validate

pytestmark = pytest.mark.validation

#: Family: mean error (per cent) of the rows held out (all rows where nothing or all was fitted), least rank correlation
#: of its shapes, largest regret (per cent). Targets: 15, 0.9, 5 on the mean and 15 at worst.
WORTH = {
    "triton_fp16": (6.6, 0.975, 0.1),
    "triton_int8": (4.0, 0.98, 0.5),
    "triton_fp8_e4m3": (5.0, 0.96, 5.0),
    "triton_int4": (23.0, 0.94, 0.1),
    "triton_fused_encoder": (6.5, 0.94, 0.6),
    "triton_fused_prefill": (7.0, 0.9, 6.5),
    "triton_fused_mlp": (14.0, 0.93, 0.1),
}


@cache
def validation() -> Validation:
    machine = load_machine("h100")
    tables = [
        table for table in read_tables("h100_own") if table.family.startswith(("triton", "torch_mlp", "torch_norm"))
    ]
    return validate(machine, calibration_of(machine), tables)


def test_every_row_of_our_own_kernels_is_compared() -> None:
    found = validation()
    assert not found.left_out
    rows = sum(t.overall.n + (t.fitted.n if t.fitted else 0) for t in found.tables if t.family.startswith("triton"))
    assert rows == 386


@pytest.mark.parametrize("family", WORTH)
def test_tilings_are_ranked_as_measured(family: str) -> None:
    error, rank, regret = WORTH[family]
    (table,) = (each for each in validation().tables if each.family == family and each.overall.n >= 9)
    rankings = [each for each in validation().rankings if each.table.endswith(f"{family} tiles")]
    assert rankings and {each.timed_by for each in rankings} == {COMPILED}
    for each in rankings:
        print(
            f"h100  {family:22s} {each.scope:8s} {each.n_tilings} tilings  rank {each.rank_correlation:.3f}  "
            f"regret {each.regret * 100:4.1f} %  error {each.mape * 100:4.1f} %"
        )
        assert each.rank_correlation >= rank and each.regret * 100 <= regret
    print(f"h100  {family:22s} error {table.overall.mape * 100:.1f} % ({table.scope})")
    assert table.overall.mape * 100 <= error


def test_regret_and_error_over_all_sweeps() -> None:
    rankings = validation().rankings
    mean = np.mean([each.regret for each in rankings]) * 100
    tables = [
        each for each in validation().tables if each.family.startswith("triton_") and "unfused" not in each.family
    ]
    errors = np.concatenate([np.abs(each.predicted_s / each.measured_s - 1) for each in tables]) * 100
    print(
        f"h100  {len(rankings)} shapes, mean regret {mean:.2f} %; {len(errors)} rows, mean error {errors.mean():.1f} %"
    )
    assert len(rankings) == 22 and mean < 0.6 and errors.mean() < 7.5


def test_fused_kernels_win_or_lose_as_measured() -> None:
    summary = fused_summary(validation().fused)
    assert {name: figures["n"] for name, figures in summary.items()} == {"attention": 82, "mlp": 27, "norm_gemm": 6}
    for name, figures in summary.items():
        print(
            f"h100  fused {name}: ratio {figures['mean_error'] * 100:.1f} % off, "
            f"worst {figures['worst_error'] * 100:.0f}; right {figures['n_right']:.0f} of {figures['n_clear']:.0f}"
        )
        assert figures["mean_error"] < 0.13 and figures["n_right"] == figures["n_clear"]


def test_the_best_tiling_is_named() -> None:
    ranked = rank_tilings(load_machine("h200"), "product-fp16", {"m": 4096, "n": 4096, "k": 4096})
    assert ranked[0].tiles == {"m": 128, "n": 256, "k": 64, "stages": 4, "warps": 8}
    assert ranked[0].seconds < ranked[-1].seconds / 3
    layer = {"heads": 12, "batch": 8, "queries": 512, "keys": 512, "head_dim": 64}
    causal = rank_tilings(load_machine("h100"), "causal-attention", layer)
    assert causal[0].tiles == {"query": 64, "key": 64, "stages": 3, "warps": 4}
