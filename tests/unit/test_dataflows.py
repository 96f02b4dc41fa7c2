"""Do the dataflows stand in the order that their ideas promise, and does proactive overwrite do its work?"""

from __future__ import annotations

import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.api import compare, simulate
from tilewright.sim.dataflows.attention.limit import longest_sequence
from tilewright.sim.lowering.evaluation import evaluate
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.testing.dataflows import plain_dataflows
from tilewright.workloads.load import load_workload

EDGE = load_machine("edge-16x16")
NEVER_FASTER_THAN_MAS = ("layerwise", "soft_pipe", "flat", "tileflow")


def longest(dataflow: str, **tiling: int) -> int:
    return longest_sequence(get_dataflow(dataflow), load_workload("bert-base"), EDGE, fixed=tiling)


@pytest.mark.parametrize("workload", ["bert-base", "vit-b-16", "llama-3-8b-decode"])
def test_layerwise_is_slowest_and_mas_never_slower(workload: str) -> None:
    cycles = {r.dataflow: r.cycles for r in compare(workload, "edge-16x16").results}
    assert set(cycles) == set(plain_dataflows())
    assert cycles["layerwise"] == max(cycles.values())
    for other in NEVER_FASTER_THAN_MAS:
        assert cycles["mas"] <= cycles[other]


@pytest.mark.validation
@pytest.mark.slow
def test_order_on_all_networks() -> None:
    from tilewright.workloads.load import workload_names

    names = [name for name in workload_names() if not name.startswith("fusemax")]
    comparison = compare(names, "edge-16x16")
    for workload in comparison.workloads:
        cycles = {r.dataflow: r.cycles for r in comparison.results if r.workload == workload}
        assert cycles["layerwise"] == max(cycles.values()), workload
        for other in NEVER_FASTER_THAN_MAS:
            assert cycles["mas"] <= cycles[other], (workload, other)


def test_proactive_overwrite_reaches_longer_sequences() -> None:
    """With K and V resident: P over K lets a longer row fit than two row blocks of S/P do."""
    without = longest("mas", resident=1, overwrite=0)
    with_it = longest("mas", resident=1, overwrite=1)
    assert without < with_it


def test_proactive_overwrite_is_paid_for() -> None:
    layer, machine, mas = load_workload("bert-base"), load_machine("edge-16x16"), get_dataflow("mas")
    tiling = {"query": 16, "key": 64, "depth": 2, "resident": 1}
    without = evaluate(mas, layer, machine, {**tiling, "overwrite": 0})
    with_it = evaluate(mas, layer, machine, {**tiling, "overwrite": 1})
    row_blocks = 12 * 32
    covered = 2  # 16 x 512 scores over tiles of 64 x 64
    reloads = (row_blocks - 12) * covered * 64 * 64 * 2
    assert with_it.dram_read_bytes - without.dram_read_bytes == reloads
    assert with_it.cycles > without.cycles
    assert with_it.peak_buffer_bytes["l1"] < without.peak_buffer_bytes["l1"]


def test_online_softmax_needs_no_more_room_for_longer_rows() -> None:
    for dataflow in ("fusemax", "flash2"):
        assert longest(dataflow) == 2**31 - 1
        assert simulate("bert-base", "edge-16x16", dataflow).longest_sequence == 2**31 - 1


def test_more_of_a_resource_never_hurts_at_the_best_tiling() -> None:
    machine = load_machine("edge-16x16")
    base = simulate("attention:heads=2,seq=256,head_dim=64", machine)
    for change in ({"dram.bandwidth_gb_per_s": 60}, {"vector.lanes": 512}, {"buffers.l1.capacity_kib": 10240}):
        more = simulate("attention:heads=2,seq=256,head_dim=64", machine.with_(**change))
        assert more.cycles <= base.cycles
        assert base.cycles >= base.lower_bound_cycles


def test_proactive_overwrite_needs_resident_keys() -> None:
    tiling = {"query": 16, "key": 64, "depth": 2, "resident": 0, "overwrite": 1}
    with pytest.raises(InputError, match='tile "overwrite": 1 needs resident=1'):
        simulate("bert-base", "edge-16x16", "mas", tiling)
