"""Weights as a machine stores them: compressed, in a memory of their own, kept between inferences."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

import tilewright
from tilewright.errors import InputError
from tilewright.hw_models.describe import figures
from tilewright.hw_models.load import load_machine
from tilewright.reports.network_case import NetworkCase
from tilewright.reports.network_table import total_rows
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import simulate_stream
from tilewright.sim.jobs import jobs_of, jobs_on
from tilewright.sim.live import most_live_bytes
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

EDGE = load_machine("edge-16x16")
SMALLER = EDGE.with_(**{"weights.compression": 1.6})


FLASH = EDGE.with_(
    **{"weights.memory": {"name": "flash", "bandwidth_gb_per_s": 0.5, "burst_bytes": 64, "read_pj_per_byte": 100}}
)


def stream() -> OperatorStream:
    b = Layers("small", activations="int8", weights="int8")
    x = b.linear(b.input("x", (1, 4, 512)), 512, "up")
    return b.finish([b.linear(x, 512, "down")])


def test_compressed_weights_are_fewer_bytes_and_nothing_else() -> None:
    plain, less = (
        simulate_stream(stream(), machine, cache=MappingCache(), prefetch=False) for machine in (EDGE, SMALLER)
    )
    saved = 2 * (512 * 512 - 512 * 512 * 5 // 8)
    assert plain.dram_read_bytes - less.dram_read_bytes == pytest.approx(saved, rel=0.01)  # whole bursts
    assert plain.dram_write_bytes == less.dram_write_bytes and plain.macs == less.macs
    assert less.cycles < plain.cycles
    assert all(op.cycles >= op.lower_bound.cycles for op in less.operators)
    assert plain.weight_bytes == less.weight_bytes  # of the network, as it is given
    assert any("compressed by 1.6" in text for text in less.assumptions)
    assert not any("compressed" in text for text in plain.assumptions)


def test_only_weights_are_compressed() -> None:
    (up, _) = (job.layer for job in jobs_on(stream(), SMALLER))
    assert isinstance(up, GemmLayer) and up.b_bits == Fraction(8 * 5, 8)
    b = Layers("scores", activations="int8", weights="int8")
    q, k = b.input("q", (1, 4, 8)), b.input("k", (1, 8, 4))
    scores = b.finish([b.add("matmul", "scores", [q, k], [1, 4, 4], {"batch": 1, "m": 4, "k": 8, "n": 4})])
    assert [job.layer for job in jobs_on(scores, SMALLER)] == [job.layer for job in jobs_of(scores)]


def test_a_layer_alone_has_them_too() -> None:
    plain, less = (
        tilewright.simulate("gemm:m=4,k=512,n=512,a_format=int8,b_format=int8", one) for one in (EDGE, SMALLER)
    )
    assert less.dram_read_bytes < 0.7 * plain.dram_read_bytes


def test_none_is_no_figure_and_less_than_none_is_refused() -> None:
    assert not any(section == "weights" for section, _, _ in figures(EDGE))
    assert ("weights", "compression", 1.6) in list(figures(SMALLER))
    assert replace(SMALLER, weights=EDGE.weights) == replace(EDGE, sources=SMALLER.sources)
    with pytest.raises(InputError, match="compression"):
        EDGE.with_(**{"weights.compression": 0.5})


def test_weights_come_from_their_own_memory() -> None:
    plain, flash = (
        simulate_stream(stream(), machine, cache=MappingCache(), prefetch=False) for machine in (EDGE, FLASH)
    )
    assert flash.weight_memory_bytes == 2 * 512 * 512 and plain.weight_memory_bytes == 0
    assert flash.dram_read_bytes < plain.dram_read_bytes - 512 * 512
    least = 512 * 512 / 0.5  # cycles at 1 GHz
    for op in flash.operators:
        assert op.lower_bound.weight_memory_cycles == least and op.bound_by == "weights"
        assert 1 <= op.bound_ratio < 1.02
    assert flash.energy_by_component["flash"] == 2 * 512 * 512 * 100 and "flash" not in plain.energy_by_component
    assert any("weights come from flash" in text for text in flash.assumptions)
    case = NetworkCase(result=flash, stream=stream(), machine=FLASH, objective="latency", command="")
    assert set(case.cycles_by_limit()) == {"matrix", "vector", "dram", "weights"}
    assert dict(total_rows(case))["from flash"] == "512 KiB of weights read"
    assert flash.to_dict()["weight_memory_bytes"] == 524_288 and "weight_memory_bytes" not in plain.to_dict()


def test_as_fast_as_the_dram_it_is_no_slower() -> None:
    """An engine of its own loads weights beside the activations."""
    fast = FLASH.with_(**{"weights.memory.bandwidth_gb_per_s": EDGE.dram.bandwidth_gb_per_s})
    plain, other = (
        simulate_stream(stream(), machine, cache=MappingCache(), prefetch=False) for machine in (EDGE, fast)
    )
    assert other.cycles <= plain.cycles


def test_first_operators_weights_are_kept_as_long_as_they_fit() -> None:
    kept = FLASH.with_(**{"weights.kept_kib": 300})
    up, down = simulate_stream(stream(), kept, cache=MappingCache()).operators
    assert up.weight_memory_bytes == 0 and up.dram_read_bytes >= 512 * 512
    assert down.weight_memory_bytes == 512 * 512
    all_kept = FLASH.with_(**{"weights.kept_kib": 512})
    assert simulate_stream(stream(), all_kept, cache=MappingCache()).weight_memory_bytes == 0


def test_activations_take_of_the_room_where_they_live_in_it() -> None:
    """Of x (2 KiB), what is between (2 KiB) and the result (2 KiB) two are alive at a time."""
    network = stream()
    assert most_live_bytes(network, jobs_on(network, FLASH)) == 2 * 4 * 512

    def homes(kib: float) -> list[str]:
        machine = FLASH.with_(**{"weights.kept_kib": kib, "weights.beside_activations": True})
        layers = [job.layer for job in jobs_on(network, machine)]
        return [layer.homes.b for layer in layers if isinstance(layer, GemmLayer)]

    assert homes(516) == ["", ""]  # 512 KiB of weights and 4 KiB
    assert homes(515) == ["", "flash"]
    assert homes(2) == ["flash", "flash"]


def test_branches_and_inputs_live_until_they_are_read() -> None:
    b = Layers("branches", activations="int8", weights="int8")
    x = b.input("x", (1, 8, 8, 8))
    left, right = b.conv(x, 16, 3, "left"), b.elementwise("relu", b.conv(x, 32, 3, "right"))
    network = b.finish([b.conv(b.concat([left, right], 1), 4, 1, "joined")])
    # while they are joined: 16, 32 and 48 channels; before, x of 8 as well as both
    assert most_live_bytes(network, jobs_on(network, EDGE)) == 64 * (16 + 32 + 48)


def test_taps_that_a_transposed_convolution_lacks_are_not_kept() -> None:
    b = Layers("up", activations="int8", weights="int8")
    network = b.finish([b.transposed_conv(b.input("x", (1, 32, 4, 4)), 32, 3, "up", stride=2)])
    for kib, home in ((9, ""), (8.9, "flash")):  # 9 taps, of the 16 of its four phases
        (job,) = jobs_on(network, FLASH.with_(**{"weights.kept_kib": kib}))
        assert isinstance(job.layer, GemmLayer) and job.layer.homes.b == home


def test_those_of_work_on_the_vector_unit_too() -> None:
    b = Layers("depthwise", activations="int8", weights="int8")
    one = b.finish([b.conv(b.input("x", (1, 64, 16, 16)), 64, 3, "depthwise", groups=64, bias=False)])
    plain, flash = (simulate_stream(one, machine, cache=MappingCache()) for machine in (EDGE, FLASH))
    assert flash.weight_memory_bytes >= 64 * 9
    assert flash.dram_read_bytes < plain.dram_read_bytes
    assert all(op.cycles >= op.lower_bound.cycles for op in flash.operators)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="beside_activations: given without kept_kib"):
        FLASH.with_(**{"weights.beside_activations": True})
    with pytest.raises(InputError, match="kept_kib: given without a memory"):
        EDGE.with_(**{"weights.kept_kib": 8})
    with pytest.raises(InputError, match=r'weights\.memory\.name: "l1" is a buffer'):
        FLASH.with_(**{"weights.memory.name": "l1"})
    with pytest.raises(InputError, match="bandwidth_gb_per_s"):
        FLASH.with_(**{"weights.memory.bandwidth_gb_per_s": 0})


def test_a_channel_for_weights_alone_is_a_memory_for_weights() -> None:
    """Two channels: all tensors spread over both, or weights on one and maps on the other. The same bytes; weights
    take their channel alone, so that such a network is never faster, and at most as slow as on one channel.
    """
    both = EDGE.with_(**{"dram.bandwidth_gb_per_s": 8, "dram.burst_bytes": 1, "dram.first_access_latency_ns": 0})
    one = both.with_(**{"dram.bandwidth_gb_per_s": 4})
    apart = one.with_(**{"weights.memory": {"name": "channel_1", "bandwidth_gb_per_s": 4}})
    spread, split, half = (
        simulate_stream(stream(), machine, cache=MappingCache(), prefetch=False) for machine in (both, apart, one)
    )
    n_weights = 2 * 512 * 512
    assert split.dram_read_bytes + n_weights == spread.dram_read_bytes == half.dram_read_bytes
    assert spread.cycles <= split.cycles <= half.cycles
    assert split.lower_bound_cycles <= split.cycles
