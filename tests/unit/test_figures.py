"""Every result holds the same figures, worked out in one place."""

from __future__ import annotations

from dataclasses import fields

import pytest

import tilewright
from tilewright.hw_models.energy import Counters
from tilewright.hw_models.load import load_machine
from tilewright.sim.figures import Figures, Measured, figures_of

CONV = "conv:in=4x6x6,out_channels=4,kernel=3"
NAMES = [field.name for field in fields(Figures)]


def test_results_say_the_figures_that_they_hold() -> None:
    one = tilewright.simulate(CONV, "edge-16x16")
    network = tilewright.simulate_network("fsrcnn:height=8,width=8", "edge-16x16", keep_mappings=False)
    compared = tilewright.compare([CONV], ["edge-16x16"]).runs[0]
    for result in (one, network, network.operators[0], compared):
        assert isinstance(result, Measured)
        assert [getattr(result, name) for name in NAMES] == [getattr(result.figures, name) for name in NAMES]
        assert result.energy_pj == sum(result.energy_by_component.values())
        assert result.dram_bytes == result.dram_read_bytes + result.dram_write_bytes
    assert compared.figures == one.figures
    assert network.matrix_utilization == pytest.approx(
        sum(operator.matrix_utilization * operator.cycles for operator in network.operators) / network.cycles
    )


def test_figures_of_counters_by_hand() -> None:
    machine = load_machine("edge-16x16").with_(n_cores=2)
    counters = Counters(dram_read_bytes=100, dram_write_bytes=28)
    found = figures_of(machine, counters, 50, matrix_cycles=25, vector_cycles=100)
    assert (found.dram_read_bytes, found.dram_write_bytes) == (100, 28)
    assert (found.matrix_utilization, found.vector_utilization) == (0.25, 1.0)
    assert found.seconds == machine.seconds(50)
    assert figures_of(machine, counters, 0, matrix_cycles=0, vector_cycles=0).matrix_utilization == 0
