"""Accumulators of a machine: room and traffic of sums, in products, attention and on engines; what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.api import simulate, simulate_network
from tilewright.sim.dataflows.gemm.engines import on_machine
from tilewright.sim.result import SimulationResult
from tilewright.workloads.gemm import GemmLayer

EDGE = load_machine("edge-16x16")
NARROW = EDGE.with_(**{"matrix.accumulators": {"fp16": "fp16"}})
TILING = {"m": 32, "n": 64, "k": 64, "order": 0, "depth": 2, "outputs": 2, "prefetched": 0}


def need(result: SimulationResult) -> int:
    return result.peak_buffer_bytes["l1"]


def test_narrow_sums_take_less_room() -> None:
    text = "gemm:m=64,n=128,k=256"
    wide, narrow = (simulate(text, machine, tiling=TILING) for machine in (EDGE, NARROW))
    assert need(wide) - need(narrow) == 2 * 32 * 64 * 2  # two slots of C, two bytes less for a sum
    assert narrow.cycles == wide.cycles and narrow.energy_pj < wide.energy_pj
    assert any("sums of fp16 are kept in 16 bits" in note for note in narrow.assumptions)
    assert not any("are kept in 16 bits" in note for note in wide.assumptions)
    other = simulate("gemm:m=64,n=128,k=256,format=int8", NARROW, tiling=TILING)
    assert isinstance(other.layer, GemmLayer) and other.layer.accumulator_bits == 32


def test_attention_keeps_its_sums_so() -> None:
    tiling = {"query": 64, "key": 64, "depth": 2, "resident": 0}
    runs = [simulate("attention:heads=2,seq=128,head_dim=64", one, "flash2", tiling) for one in (EDGE, NARROW)]
    assert need(runs[1]) < need(runs[0])
    assert any("running sums are kept in fp16" in note for note in runs[1].assumptions)


def test_networks_and_engines_have_them() -> None:
    result = simulate_network("resnet-8", NARROW, weights="fp16", activations="fp16")
    assert any("sums of fp16 are kept in 16 bits" in note for note in result.assumptions)
    machine = EDGE.with_(**{"matrix.engine": "mixpe", "matrix.accumulators": {"int8": "int16"}})
    layer = simulate("gemm:m=64,n=128,k=256,a_format=int8,b_format=int4", machine).layer
    assert isinstance(layer, GemmLayer) and layer.engine is not None
    assert layer.accumulator_bits == 16 and on_machine(layer, machine) == layer


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"int4": "int32"}, 'accumulators: unknown number format; given "int4"; allowed fp16, bf16, int8'),
        ({"fp16": "int8"}, "fp16: given int8, of 8 bits; allowed 16 bits or more"),
        ({"fp16": "fp17"}, "fp17"),
    ],
)
def test_what_they_cannot_be(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as fault:
        EDGE.with_(**{"matrix.accumulators": given})
    assert told in str(fault.value) and "\n" not in str(fault.value)
