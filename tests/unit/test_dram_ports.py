"""A port to the DRAM for each way: loads and stores do not hold each other up, and no bound assumes that they do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tilewright import simulate, simulate_network
from tilewright.hw_models.load import load_machine
from tilewright.search.tiling import tiling_space
from tilewright.search.workload import layer_of
from tilewright.sim.engine.reference import run_reference
from tilewright.sim.engine.run import run_program
from tilewright.sim.fusion.layer_alone import SUM_BITS
from tilewright.sim.lowering.evaluation import build_phase, count_phase, fits
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.workloads.gemm import GemmLayer

SHARED = load_machine("edge-16x16").with_(**{"dram.bandwidth_gb_per_s": 2, "buffers.l1.capacity_kib": 16})
APART = SHARED.with_(**{"dram.ports": "separate"})
COPY = GemmLayer(
    name="product", groups=1, m=256, k=16, n=64, a_bits=8, b_bits=8, out_bits=SUM_BITS, accumulator_bits=SUM_BITS,
    compute_format="int8",
)  # fmt: skip


@pytest.mark.parametrize(
    "workload",
    [
        COPY,
        "conv:in=8x20x20,out_channels=8,kernel=3",
        "attention:heads=4,seq=64,head_dim=32",
        "softmax:rows=64,columns=64",
    ],
)
def test_stores_have_a_port_of_their_own(workload: object) -> None:
    one, two = (simulate(workload, machine) for machine in (SHARED, APART))  # type: ignore[arg-type]
    assert two.cycles < one.cycles
    assert two.cycles >= two.lower_bound.cycles
    assert one.dram_utilization <= 1 and two.dram_utilization <= 1
    assert 2 * two.lower_bound.dram_cycles >= one.lower_bound.dram_cycles
    assert two.search is not None and two.search.proven
    assert any("a port for each way" in text for text in two.assumptions)


@pytest.mark.parametrize("name", ["gemm", "flash2", "mas"])
def test_engine_counts_and_floors(name: str) -> None:
    layer = replace(COPY, m=40, n=24) if name == "gemm" else layer_of("attention:heads=2,seq=48,head_dim=16")
    flow = get_dataflow(name, "gemm" if name == "gemm" else "attention")
    costs, (phase,) = flow.costs(layer, APART), flow.phases
    space = [tiling for tiling in tiling_space(phase, layer, APART, {}) if fits(phase, costs, tiling)]
    for tiling in space[:: max(1, len(space) // 6)]:
        program = build_phase(phase, costs, tiling)
        run, reference, counted = run_program(program), run_reference(program), count_phase(phase, costs, tiling)
        assert (run.cycles, run.busy_cycles, run.channel_bytes) == (
            reference.cycles, reference.busy_cycles, reference.channel_bytes
        )  # fmt: skip
        assert counted.channel_bytes == run.channel_bytes[0]
        assert dict(counted.level_bytes) == {costs.store_channel: run.channel_bytes[costs.store_channel]}
        if phase.floor is not None:
            floor = phase.floor(costs, tiling)
            assert all(least <= n for least, n in zip(floor[:4], counted[:4], strict=True))
    if phase.screen is not None:
        told = phase.screen(costs, space)
        assert told is not None and told.fits.all()
        for tiling, least in list(zip(space, told.bound_cycles.tolist(), strict=True))[:: max(1, len(space) // 6)]:
            assert least <= run_program(build_phase(phase, costs, tiling)).cycles


def test_networks_know_both_ports() -> None:
    one, two = (simulate_network("ds-cnn", machine) for machine in (SHARED, APART))
    assert two.lower_bound_cycles <= two.cycles < one.cycles
