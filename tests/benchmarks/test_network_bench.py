"""How long whole networks take with no mapping known: every operator searched, and what stays on chip planned.

Run with: make bench. The time of the clock is that of as many processes as there are cores; processor time of all of
them stands beside it, for computers that do other work meanwhile.
"""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import BufferSpec, MachineSpec
from tilewright.search.executors.calls import n_cores
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import simulate_stream
from tilewright.workloads.network import load_network

EDGE = load_machine("edge-16x16")


def three_levels() -> MachineSpec:
    """Sixteen cores with 128 KiB each, 1 MiB and 8 MiB that they share."""
    shared = [
        BufferSpec(
            name=name, capacity_kib=kib, read_bytes_per_cycle=rate, write_bytes_per_cycle=rate, shared_by_cores=True
        )
        for name, kib, rate in (("l2", 1024, 128), ("l3", 8192, 64))
    ]
    pj = {"l1": 1.0, "l2": 3.0, "l3": 6.0}
    energy = replace(EDGE.energy, buffer_read_pj_per_byte=pj, buffer_write_pj_per_byte=pj)
    machine = replace(EDGE, buffers=(*EDGE.buffers, *shared), energy=energy, n_cores=16)
    return machine.with_(**{"buffers.l1.capacity_kib": 128})


CASES = {
    "resnet-50, edge-16x16": ("resnet-50", EDGE, False),
    "resnet-50, three levels and 16 cores": ("resnet-50", three_levels(), False),
    "resnet-50, three levels and 16 cores, planned": ("resnet-50", three_levels(), True),
    "mobilenet-v2, 8 MiB, planned": ("mobilenet-v2", EDGE.with_(**{"buffers.l1.capacity_kib": 8192}), True),
}


def processor_seconds() -> tuple[float, float]:
    """Of this process, and of those that it has started and ended."""
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime, others.ru_utime + others.ru_stime


@pytest.mark.parametrize("case", CASES)
def test_network_with_nothing_known(benchmark: Any, tmp_path: Path, case: str) -> None:
    name, machine, planned = CASES[case]
    simulate_stream(load_network("ds-cnn:weights=int8,activations=int8"), EDGE, cache=MappingCache(tmp_path / "other"))
    stream = load_network(f"{name}:weights=int8,activations=int8")
    before = processor_seconds()
    result = benchmark.pedantic(
        simulate_stream,
        args=(stream, machine),
        kwargs={"cache": MappingCache(tmp_path / "cache"), "residency": planned, "n_processes": n_cores()},
        rounds=1,
        warmup_rounds=0,
    )
    plan = result.residency
    assert (plan is not None) == planned
    own, others = (now - then for now, then in zip(processor_seconds(), before, strict=True))
    benchmark.extra_info.update(
        cycles=result.cycles,
        searches=0 if plan is None else plan.n_searches,
        processor_s=round(own + others, 2),
        of_this_process_s=round(own, 2),
    )
