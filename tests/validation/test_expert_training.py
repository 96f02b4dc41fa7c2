"""Experts in training on an H100: libraries beside each other, as SonicMoE's figures show them.

Three figures a library and pass are fitted to 4 of the 12 layers;
``pytest tests/validation/test_expert_training.py -s`` prints the error of both parts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tilewright.hw_models.load import load_machine
from tilewright.search.gpu.fit_expert_training import (
    MOST_TERA_FLOPS,
    RatedExperts,
    fit_expert_training,
    is_fitted,
    read_rated_experts,
)
from tilewright.sim.gpu.expert_training import EXPERT_TRAINING, TrainedExperts, training_tera_flops

TABLE = Path(__file__).resolve().parents[2].parent / "shared" / "systems" / "moe_sonicmoe_h100_tflops_digitised.csv"

pytestmark = pytest.mark.skipif(not TABLE.is_file(), reason="the shared tables of systems are not there")
H100 = load_machine("h100")


@pytest.fixture(scope="module")
def rows() -> list[RatedExperts]:
    return read_rated_experts(TABLE)


def predicted(row: RatedExperts) -> float:
    return training_tera_flops(row.layer, H100, EXPERT_TRAINING.get(f"{row.library} {row.which}"))


def ratios(rows: list[RatedExperts], which: str, *, fitted: bool) -> list[float]:
    """Error of SonicMoE's speed against each other library, layer by layer."""
    some = [row for row in rows if row.which == which and is_fitted(row.layer) == fitted]
    own = {row.layer: row for row in some if row.library == "SonicMoE"}
    found = []
    for row in some:
        if row.library != "SonicMoE":
            best = own[row.layer]
            found.append((predicted(best) / predicted(row)) / (best.tera_flops / row.tera_flops) - 1)
    return found


@pytest.mark.parametrize("which", ["fwd", "bwd"])
@pytest.mark.parametrize("fitted", [True, False])
def test_ratios(rows: list[RatedExperts], which: str, *, fitted: bool) -> None:
    errors = np.abs(ratios(rows, which, fitted=fitted))
    rates = [
        abs(predicted(row) / row.tera_flops - 1)
        for row in rows
        if row.which == which and is_fitted(row.layer) == fitted
    ]
    print(
        f"{which}, {'fitted' if fitted else 'shown'}: {len(errors)} ratios, mean {errors.mean():.1%}, "
        f"within 15 %: {np.mean(errors <= 0.15):.0%}, worst {errors.max():.1%}; rates mean {np.mean(rates):.1%}"
    )
    assert errors.mean() <= (0.03 if fitted else 0.07)
    assert np.mean(errors <= 0.15) >= 0.95
    assert np.mean(rates) <= 0.06


def test_figures_are_those_of_the_fit(rows: list[RatedExperts]) -> None:
    for found in fit_expert_training(rows, H100):
        kept = EXPERT_TRAINING.get(f"{found.library} {found.which}")
        assert found.tera_flops == pytest.approx(kept.tera_flops, rel=1e-3)
        assert found.row_passes == pytest.approx(kept.row_passes, rel=1e-3, abs=1e-6)
        assert found.fixed_us == pytest.approx(kept.fixed_us, rel=1e-3, abs=1e-3)
        assert found.tera_flops <= MOST_TERA_FLOPS * 1.001


def test_rounding_helps_many_small_experts_most() -> None:
    """What whole tiles cost: little where experts have thousands of rows, more where they are sparse."""
    figures = EXPERT_TRAINING.get("SonicMoE fwd")
    gains = []
    for experts, top_k in ((64, 8), (256, 8), (512, 8)):
        layer = TrainedExperts(tokens=16_384, hidden=4096, inner=1024, experts=experts, top_k=top_k)
        plain, rounded = (training_tera_flops(layer, H100, figures, rounded=way) for way in (False, True))
        gains.append(rounded / plain - 1)
    print([f"{gain:.1%}" for gain in gains])
    assert 0 < gains[0] < gains[1] < gains[2] < 0.25
