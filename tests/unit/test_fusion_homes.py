"""Programs of fused groups whose operands are kept on chip."""

from __future__ import annotations

import pytest

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.load import load_machine
from tilewright.sim.fusion.fused_run import simulate_scheme
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.scheme import get_scheme
from tilewright.workloads.homes import GroupHomes
from tilewright.workloads.network import load_network

EDGE = load_machine("edge-16x16")
STREAM = load_network("ds-cnn").with_formats(weights="int8", activations="int8")
GRAPH = fusion_graph(STREAM, absorb=True)
MASK = 0b1111 << 1


def test_what_is_kept_is_not_moved() -> None:
    """With everything in the working buffer nothing crosses the DRAM, and a group is as fast as its units."""
    scheme = get_scheme("lbdf", EDGE.working_buffer.capacity_bytes)
    plain = simulate_scheme(scheme, STREAM, GRAPH, MASK, EDGE)
    names = [spec.name for spec in STREAM.tensors]
    near = GroupHomes(tuple((name, "l1") for name in names), held=(("l1", 100_000),))
    kept = simulate_scheme(scheme, STREAM, GRAPH, MASK, EDGE, homes=near)
    assert plain.dram_bytes > 0 == kept.dram_bytes
    assert kept.cycles < plain.cycles
    assert kept.energy_pj < plain.energy_pj
    assert kept.buffer_bytes["kept tensors"] == 100_000
    assert not any(name.startswith("weights") for name in kept.buffer_bytes)
    assert any("read and written where they are" in text for text in kept.assumptions)


def test_what_is_held_is_no_room() -> None:
    scheme = get_scheme("lbdf", EDGE.working_buffer.capacity_bytes)
    need = simulate_scheme(scheme, STREAM, GRAPH, MASK, EDGE).peak_buffer_bytes
    free = EDGE.working_buffer.capacity_bytes - need
    simulate_scheme(scheme, STREAM, GRAPH, MASK, EDGE, homes=GroupHomes(held=(("l1", free),)))
    with pytest.raises(MappingError, match="buffer l1"):
        simulate_scheme(scheme, STREAM, GRAPH, MASK, EDGE, homes=GroupHomes(held=(("l1", free + 1),)))


def test_a_scheme_that_knows_no_homes_says_so() -> None:
    scheme = get_scheme("optimus-rules", EDGE.working_buffer.capacity_bytes)
    with pytest.raises(InputError, match=r"keeps nothing on chip between groups.*allowed brr, depth_first"):
        scheme.with_homes()


@pytest.mark.parametrize("name", ["brr", "depth_first"])
def test_what_is_kept_is_copied_within_the_buffer(name: str) -> None:
    scheme = get_scheme(name, EDGE.working_buffer.capacity_bytes)
    near = GroupHomes(tuple((spec.name, "l1") for spec in STREAM.tensors))
    plain, kept = (simulate_scheme(scheme, STREAM, GRAPH, MASK, EDGE, homes=homes) for homes in (GroupHomes(), near))
    assert plain.dram_bytes > 0 == kept.dram_bytes
    assert kept.energy_pj < plain.energy_pj
    assert any("copied within it" in text for text in kept.assumptions)
