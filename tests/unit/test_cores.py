"""Is one core that stands for C in lock step the same as C cores, and are unequal shares exact?"""

from __future__ import annotations

from fractions import Fraction

import pytest

from tilewright.hw_models.load import load_machine
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.dataflows.attention.costs import AttentionCosts
from tilewright.sim.engine.program import Channel, Engine, ProgramBuilder
from tilewright.sim.engine.run import Run, simulate
from tilewright.sim.lowering.evaluation import build_phase, core_shares, evaluate
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.workloads.load import load_workload

TILING = {"query": 32, "key": 48, "depth": 2, "resident": 0}


def every_core(costs: AttentionCosts, groups: list[int], dataflow: str) -> Run:
    """The layer with each core written out, ``groups[i]`` kv heads on core i."""
    engines = [engine for i in range(len(groups)) for engine in AttentionCore.engines(1, f" {i}")]
    builder = ProgramBuilder(engines, [AttentionCore.channel(costs)])
    for i, n_groups in enumerate(groups):
        core = AttentionCore(costs, n_groups=n_groups, builder=builder, first_engine=4 * i, name=f" {i}")
        get_dataflow(dataflow).phases[0].lower(core, TILING)
    return simulate(builder.build())


@pytest.mark.parametrize("bandwidth", [2.0, 7.3, 40.0])
@pytest.mark.parametrize(("heads", "cores"), [(4, 2), (6, 3), (4, 4), (5, 2), (7, 3), (3, 4)])
def test_lock_step_equals_all_cores(heads: int, cores: int, bandwidth: float) -> None:
    machine = load_machine("edge-16x16").with_(**{"n_cores": cores, "dram.bandwidth_gb_per_s": bandwidth})
    layer = load_workload(f"attention:heads={heads},seq=150,head_dim=32")
    costs = AttentionCosts(layer, machine)
    one = simulate(build_phase(get_dataflow("flash2").phases[0], costs, TILING))
    groups = [share.n_groups for share in core_shares(layer, machine) for _ in range(share.n_cores)]
    assert sum(groups) == heads
    all_cores = every_core(costs, groups, "flash2")
    assert one.cycles == all_cores.cycles
    assert one.channel_bytes == all_cores.channel_bytes


def test_one_core_of_c_sees_a_cth_of_the_channel() -> None:
    """Weight C at rate R is weight 1 at rate R / C."""
    for rate, weight in ((Fraction(30), 4), (Fraction(64, 3), 64)):
        runs = []
        for engine_weight, channel_rate in ((weight, rate), (1, rate / weight)):
            builder = ProgramBuilder(
                [Engine("load", "load", engine_weight), Engine("store", "store", engine_weight)],
                [Channel("dram", channel_rate)],
            )
            for _ in builder.loop(100):
                builder.transfer(0, n_bytes=1000, latency_cycles=3)
                builder.transfer(1, n_bytes=777)
            runs.append(simulate(builder.build()).cycles)
        assert runs[0] == runs[1]


def test_cores_beyond_the_heads_stay_idle() -> None:
    machine = load_machine("tileflow-cloud")
    layer = load_workload("attention:heads=3,seq=256,head_dim=64")
    result = evaluate(get_dataflow("flash2"), layer, machine, {**TILING, "query": 128, "key": 128})
    assert result.matrix_utilization < 0.8
    assert any("3 cores x 1" in note for note in result.assumptions)
