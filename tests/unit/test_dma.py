"""DMA engines of a core: how many transfers at once, and what starting one costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tilewright import simulate
from tilewright.errors import InputError
from tilewright.hw_models.describe import figures_hash
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import DmaSpec, MachineSpec
from tilewright.sim.engine.reference import run_reference
from tilewright.sim.engine.run import run_program
from tilewright.sim.engine.trace import trace_program
from tilewright.sim.lowering.evaluation import build_phase, phase_tiling
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.testing.products import numbers
from tilewright.workloads.gemm import GemmLayer

EDGE = load_machine("edge-16x16").with_(**{"dram.bandwidth_gb_per_s": 2})
PRODUCT = "gemm:m=128,n=96,k=64"
LAYER = GemmLayer(
    name="product", groups=1, m=33, k=20, n=17, a_bits=8, b_bits=8, out_bits=8, accumulator_bits=32,
    compute_format="int8",
)  # fmt: skip
GEMM = get_dataflow("gemm", "gemm")
TILING = {"m": 16, "n": 16, "k": 20, "order": 0, "depth": 2, "outputs": 2, "prefetched": 0}


def with_dma(**fields: Any) -> MachineSpec:
    return replace(EDGE, dma=DmaSpec(**fields))


def under_way(machine: MachineSpec) -> int:
    """Most loads and stores at the same time."""
    (phase,) = GEMM.phases
    program = build_phase(phase, GEMM.costs(LAYER, machine), phase_tiling(phase, TILING))
    run, reference = run_program(program), run_reference(program)
    assert (run.cycles, run.busy_cycles, run.channel_bytes) == (
        reference.cycles, reference.busy_cycles, reference.channel_bytes
    )  # fmt: skip
    window = trace_program(program, clock_ghz=1, max_commands=10_000)
    spans = [(c.start, c.end) for c in window.commands if c.kind in ("load", "store")]
    return max(sum(begin <= at < end for begin, end in spans) for at, _ in spans)


def test_one_engine_does_one_transfer_at_a_time() -> None:
    assert (under_way(EDGE), under_way(with_dma(engines=2)), under_way(with_dma(engines=1))) == (2, 2, 1)


@pytest.mark.parametrize("workload", [PRODUCT, "attention:heads=2,seq=64,head_dim=32"])
def test_what_is_left_out_or_more_than_needed_changes_nothing(workload: str) -> None:
    plain = simulate(workload, EDGE)
    for engines in (2, 3, 64):
        assert simulate(workload, with_dma(engines=engines)).cycles == plain.cycles
    one, slow = simulate(workload, with_dma(engines=1)), simulate(workload, with_dma(start_cycles=100))
    assert plain.cycles <= one.cycles
    assert plain.cycles < slow.cycles
    for result in (one, slow):
        assert result.cycles >= result.lower_bound.cycles
        assert result.dram_bytes >= plain.lower_bound.dram_cycles  # bytes do not depend on it
    assert figures_hash(EDGE) != figures_hash(with_dma(engines=2))
    assert figures_hash(EDGE) == figures_hash(with_dma())


def test_starting_is_paid_by_every_transfer() -> None:
    """One tile after the other with one slot: each load waits for the start of its own."""
    tiling = TILING | {"m": 33, "n": 17, "depth": 1, "outputs": 1}
    times = [simulate(LAYER, with_dma(start_cycles=n), "gemm", tiling).cycles for n in (0, 1000, 3000)]
    assert times[2] - times[1] == 2 * (times[1] - times[0]) >= 4000


def test_one_engine_computes_the_product() -> None:
    found, wanted = numbers(GEMM, LAYER, with_dma(engines=1, start_cycles=5), TILING, np.random.default_rng(0))
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_none_is_refused() -> None:
    with pytest.raises(InputError, match=r"dma.engines: .*given 0"):
        EDGE.with_(**{"dma.engines": 0})
