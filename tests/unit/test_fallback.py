"""Operators that the cores lack, on the processor beside them, and the link to a host."""

from __future__ import annotations

import dataclasses
import json
from math import ceil
from pathlib import Path

import pytest

from tilewright.errors import InputError
from tilewright.hw_models.describe import figures_hash
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.machine_text import machine_yaml
from tilewright.hw_models.spec import FallbackSpec, HostLinkSpec, MachineSpec
from tilewright.reports.network_case import NetworkCase
from tilewright.reports.network_table import total_rows
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import simulate_stream
from tilewright.sim.jobs import jobs_of
from tilewright.sim.network_result import HOST_KIND
from tilewright.workloads.network import load_network
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

EDGE = load_machine("edge-16x16")
CPU = FallbackSpec(name="cortex", giga_operations_per_s=0.5, bandwidth_gb_per_s=1, per_operator_us=20)
CACHE = MappingCache()


def machine(*lacks: str, cpu: FallbackSpec | None = CPU) -> MachineSpec:
    return dataclasses.replace(EDGE, lacks=lacks, fallback=cpu)


def stream() -> OperatorStream:
    b = Layers("small", activations="int8", weights="int8")
    x = b.conv(b.input("image", (1, 8, 8, 8)), 8, 3, "depthwise", groups=8)
    x = b.elementwise("silu", b.conv(x, 16, 1, "pointwise"), name="silu")
    return b.finish([b.max_pool(x, 2, "pool", stride=2, padding=0)])


def test_what_the_cores_lack_is_a_job_of_its_own() -> None:
    names = [[op.name for op in job.operators] for job in jobs_of(stream(), lacks=("elementwise:silu",))]
    assert names == [["depthwise"], ["pointwise"], ["silu"], ["pool"]]
    kinds = [job.kind for job in jobs_of(stream(), lacks=("conv:depthwise", "pool"))]
    assert kinds == ["fallback", "gemm", "fallback"]
    assert jobs_of(stream(), lacks=("elementwise:gelu", "pool:average")) == jobs_of(stream())


def test_only_commands_to_the_device_cost_a_command() -> None:
    """Two of four jobs are the processor's, which has its own hand-over."""
    costly = machine("elementwise:silu", "pool").with_(**{"overheads.per_layer_us": 3})
    result = simulate_stream(stream(), costly, cache=CACHE)
    assert (len(result.operators), result.n_commands) == (4, 2)
    assert result.overhead_cycles == 2 * 3000
    assert result.cycles == sum(op.cycles for op in result.operators) + 2 * 3000
    assert result.by_kind()["fixed, per layer"]["n"] == 2
    case = NetworkCase(result=result, stream=stream(), machine=costly, objective="latency", command="")
    assert dict(total_rows(case))["fixed costs"].startswith(
        "6,000 cycles (0 an inference, 3,000 for each of 2 commands"
    )


def test_the_processor_takes_the_longer_of_work_and_bytes_and_a_hand_over() -> None:
    result = simulate_stream(stream(), machine("elementwise:silu", "pool"), cache=CACHE)
    silu, pool = (op for op in result.operators if op.dataflow == "fallback")
    n = 16 * 8 * 8
    assert silu.cycles == ceil(20_000 + max(4 * n / 0.5, 2 * n / 1))  # exp, add, div, mul at 1 GHz
    assert pool.cycles == ceil(20_000 + max(n / 0.5, (n + n / 4) / 1))
    assert silu.bound_ratio == 1 and silu.lower_bound.limited_by == "fallback"
    assert (silu.dram_read_bytes, silu.dram_write_bytes) == (n, n)
    assert silu.matrix_utilization == silu.vector_utilization == 0
    assert result.cycles == sum(op.cycles for op in result.operators)
    assert any("on the fallback cortex: 1 elementwise, 1 pool" in text for text in result.assumptions)


def test_kernels_that_the_unit_has_no_way_for() -> None:
    jobs = jobs_of(stream(), lacks=("conv:other_kernel",), kernels=[(1, 1)])
    assert [[op.name for op in job.operators] for job in jobs] == [["depthwise"], ["pointwise", "silu"], ["pool"]]
    tiny = load_network("ds-cnn").with_formats(weights="int8", activations="int8")  # maps of 25 x 5, a kernel of 10 x 4
    result = simulate_stream(tiny, load_machine("gap9-ne16"), cache=CACHE, prefetch=False)
    assert [op.name for op in result.operators if op.bound_by == "fallback"] == ["stem.conv"]


def test_the_rest_is_as_without_it() -> None:
    plain = simulate_stream(stream(), EDGE, cache=CACHE, prefetch=False)
    helped = simulate_stream(stream(), machine("pool"), cache=CACHE, prefetch=False)
    assert [op.cycles for op in helped.operators][:-1] == [op.cycles for op in plain.operators][:-1]
    assert not any("fallback" in text for text in plain.assumptions)


def test_it_is_shown() -> None:
    board = machine("pool")
    result = simulate_stream(stream(), board, cache=CACHE)
    case = NetworkCase(result=result, stream=stream(), machine=board, objective="latency", command="")
    pool = result.operators[-1]
    assert case.cycles_by_limit()["fallback"] == pool.cycles
    assert any(group.limited_by == "fallback" and "at its bound" in group.reason for group in case.groups)
    json.dumps(case.to_dict())


def test_kinds_may_have_rates_of_their_own() -> None:
    slow = dataclasses.replace(CPU, giga_operations_by_kind={"pool": 0.001})
    plain, slowed = (simulate_stream(stream(), machine("pool", cpu=cpu), cache=CACHE) for cpu in (CPU, slow))
    work = 4 * 4 * 16 * 4  # comparisons, each an operation
    assert slowed.operators[-1].cycles > plain.operators[-1].cycles
    assert slowed.operators[-1].cycles == ceil((20_000 + work / 0.001) * EDGE.clock_ghz)
    assert any("at 0.5 (pool: 0.001) x 10^9" in text for text in slowed.assumptions)
    with pytest.raises(ValueError, match=r'fallback\.giga_operations_by_kind: .*given "softmax"; allowed pool'):
        machine("pool", cpu=dataclasses.replace(CPU, giga_operations_by_kind={"softmax": 1}))


def test_without_one_the_network_is_refused() -> None:
    with pytest.raises(
        InputError, match=r'^pool: the cores of edge-16x16 lack .* given "pool"; allowed with a fallback'
    ):
        simulate_stream(stream(), machine("pool", cpu=None), cache=CACHE)


@pytest.mark.parametrize(
    ("entry", "said"),
    [("poool", 'did you mean "pool"'), ("elementwise:sillu", 'did you mean "silu"'), ("conv:dw", "allowed depthwise")],
)
def test_names_that_are_no_operators_are_refused(entry: str, said: str) -> None:
    with pytest.raises(InputError, match=f"lacks: .*{said}"):
        simulate_stream(stream(), machine(entry), cache=CACHE)


def test_a_fallback_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="fallback: given, but the cores lack nothing"):
        machine()


def test_inputs_and_results_cross_the_link_to_a_host() -> None:
    usb = dataclasses.replace(EDGE, host=HostLinkSpec(name="usb", bandwidth_gb_per_s=0.4, per_transfer_us=100))
    plain, linked = (simulate_stream(stream(), one, cache=CACHE) for one in (EDGE, usb))
    assert linked.host_cycles == ceil(100_000 + 512 / 0.4) + ceil(100_000 + 256 / 0.4)
    assert linked.cycles == plain.cycles + linked.host_cycles
    assert linked.lower_bound_cycles == plain.lower_bound_cycles + linked.host_cycles
    assert linked.by_kind()[HOST_KIND]["cycles"] == linked.host_cycles
    assert linked.to_dict()["host_cycles"] == linked.host_cycles and "host_cycles" not in plain.to_dict()
    assert any("cross usb" in text for text in linked.assumptions)
    case = NetworkCase(result=linked, stream=stream(), machine=usb, objective="latency", command="")
    assert "on the link to the host" in dict(total_rows(case))["fixed costs"]


def test_files_say_them_and_old_files_are_as_before(tmp_path: Path) -> None:
    board = dataclasses.replace(machine("pool"), host=HostLinkSpec(name="usb", bandwidth_gb_per_s=0.4))
    path = tmp_path / "board.yaml"
    path.write_text(machine_yaml(board), encoding="utf-8")
    assert load_machine(path) == board
    assert len({figures_hash(one) for one in (EDGE, machine("pool"), machine("softmax"), board)}) == 4
    assert load_machine("edge-16x16") == EDGE
