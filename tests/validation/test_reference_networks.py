"""Does every shipped machine run the networks that people ask about, with no operator below its bound?

``pytest tests/validation/test_reference_networks.py -m slow -s`` prints milliseconds and seconds of search for each.
"""

from __future__ import annotations

import time

import pytest

from tilewright.hw_models.load import load_machine, machine_names
from tilewright.search.api import simulate_network
from tilewright.sim.jobs import jobs_on
from tilewright.sim.lacking import refuse_without_fallback
from tilewright.sim.lowering.family import family_of
from tilewright.sim.network_result import NetworkResult
from tilewright.workloads.fallback import FallbackLayer
from tilewright.workloads.network import load_network, network_names

pytestmark = pytest.mark.validation

NETWORKS = ("mobilenet-v2", "resnet-50", "bert-base", "llama-3-8b:prefill=512")


def run(network: str, machine: str) -> NetworkResult:
    result = simulate_network(network, machine, keep_mappings=False)
    for operator in result.operators:
        assert operator.cycles >= operator.lower_bound.cycles, (operator.name, operator.lower_bound)
        assert max(operator.matrix_utilization, operator.vector_utilization) <= 1, operator.name
    assert result.cycles >= result.lower_bound_cycles
    return result


@pytest.mark.slow
@pytest.mark.parametrize("machine", machine_names())
@pytest.mark.parametrize("network", NETWORKS)
def test_every_machine_runs_it(network: str, machine: str) -> None:
    begun = time.perf_counter()
    result = run(network, machine)
    seconds = time.perf_counter() - begun
    print(f"\n{network:24s} {machine:24s} {1e3 * result.seconds:12.3f} ms   searched in {seconds:5.1f} s")


def test_attention_on_a_machine_that_multiplies_int8_alone() -> None:
    """Softmax leaves fp16; the array multiplies P as V is stored, and the result says so."""
    machine = load_machine("ethos-u55-256")
    assert tuple(machine.matrix.multiplies_per_pe_per_cycle) == ("int8",)
    result = run("bert-base:seq=64", machine.name)
    assert any("P is cast to int8" in note for note in result.assumptions)
    assert not any("P is cast" in note for note in run("bert-base:seq=64", "edge-16x16").assumptions)


DEVICES = (
    "coral-edgetpu-usb",
    "dpu-b4096-zcu102",
    "ethos-u55-256",
    "ethos-u65-imx93",
    "gap9-ne16",
    "nvdla-2048",
    "rk3588-npu-core",
    "stm32n6570-dk",
)
_MOST_MACS = 140e9  # larger networks draw pictures, or write


@pytest.mark.slow
@pytest.mark.parametrize("machine", DEVICES)
def test_devices_refuse_no_convolutional_network(machine: str) -> None:
    """Each operator of every network of the zoo that people measure on such devices has a unit, and a bound there."""
    spec = load_machine(machine)
    for name in network_names():
        if any(word in name for word in ("dit-", "dmcnn", "mc-cnn", "fsrcnn")):
            continue
        stream = load_network(name).with_formats(weights="int8", activations="int8")
        if stream.macs > _MOST_MACS or not any(operator.kind == "conv" for operator in stream.operators):
            continue
        jobs = jobs_on(stream, spec)
        refuse_without_fallback([job.operators[0] for job in jobs if isinstance(job.layer, FallbackLayer)], spec)
        for layer in {job.layer for job in jobs}:
            family = family_of(layer)
            assert family.bound(family.adapted(layer, spec), spec).cycles > 0, name
