"""Does every positive bandwidth and clock run, with any number of cores, and exactly as the reference says?"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tilewright
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.sim.engine.program import (
    MAX_CYCLES,
    MAX_WORK_UNITS,
    Channel,
    Engine,
    ProgramBuilder,
    channel_units,
    exact_shares,
)
from tilewright.sim.engine.reference import run_reference
from tilewright.sim.engine.run import run_program, simulate
from tilewright.sim.lowering.evaluation import build_phase
from tilewright.sim.lowering.mapping import get_dataflow

SHARED = Path(__file__).parents[3] / "shared" / "cases" / "break"
LAYER = "attention:heads=3,seq=40,head_dim=16"
TILING = {"query": 16, "key": 16, "depth": 2, "resident": 0}
figures = st.floats(min_value=1e-6, max_value=100, allow_subnormal=False)
counts = st.sampled_from([1, 2, 3, 7, 31, 509, 4093])


@settings(max_examples=25, deadline=None)
@given(figures, figures, counts)
def test_any_bandwidth_clock_and_number_of_cores_runs(bandwidth: float, clock: float, n_cores: int) -> None:
    machine = tilewright.load_machine("edge-16x16").with_(
        clock_ghz=clock, n_cores=n_cores, **{"dram.bandwidth_gb_per_s": bandwidth}
    )
    layer, flow = tilewright.load_workload(LAYER), get_dataflow("flash2")
    program = build_phase(flow.phases[0], flow.costs(layer, machine), TILING)
    run, reference = run_program(program), run_reference(program)
    assert (run.cycles, run.busy_cycles, run.channel_bytes) == (
        reference.cycles,
        reference.busy_cycles,
        reference.channel_bytes,
    )
    assert run.cycles >= flow.bound(layer, machine).cycles


@pytest.mark.parametrize("field", ["dram.bandwidth_gb_per_s", "clock_ghz"])
def test_a_line_of_figures_runs_and_lies_between_regular_neighbours(field: str) -> None:
    """The figures between two that are short fractions give cycles between theirs."""
    machine = tilewright.load_machine("edge-16x16")

    def cycles(value: float) -> int:
        changed = machine.with_(**{field: value})
        return tilewright.simulate(LAYER, changed, dataflow="flash2", tiling=TILING).cycles

    found = [cycles(float(value)) for value in np.linspace(5, 25, 100)]
    assert (cycles(5), cycles(25)) == (found[0], found[-1])
    ordered = found if field == "clock_ghz" else found[::-1]
    assert ordered == sorted(ordered)


@given(
    st.floats(min_value=1e-9, max_value=1e9, allow_subnormal=False).map(lambda value: Fraction(str(value))),
    st.fractions(min_value=Fraction(1, 10**6), max_value=10**6, max_denominator=10**6),
    st.lists(counts, min_size=1, max_size=6),
    st.integers(1, 2**36),
)
def test_a_share_is_exact_or_rounded_down_by_little(
    bandwidth: Fraction, clock: Fraction, weights: list[int], most_bytes: int
) -> None:
    rate, total = bandwidth / clock, sum(weights)
    assume(most_bytes * total / rate <= 10**11)
    per_byte, per_cycle = channel_units(rate, exact_shares(tuple(weights)), total, most_bytes)
    assert most_bytes * per_byte <= MAX_WORK_UNITS
    assert per_cycle <= MAX_WORK_UNITS
    for weight in (weights[0], total):
        share = Fraction(per_cycle // weight, per_byte)
        assert 0 <= 1 - share / (rate / weight) < Fraction(1, 10**6)


def test_short_fractions_stay_exact() -> None:
    assert channel_units(Fraction(640, 47), exact_shares((1, 1)), 2, 65536) == (94, 1280)
    assert channel_units(Fraction(30), exact_shares((5, 5, 2, 2)), 14, 65536) == (1260, 37800)


def test_a_transfer_takes_its_bytes_over_the_rate() -> None:
    rate = Fraction("5.202020202020202") / Fraction("0.9377777777777777")
    builder = ProgramBuilder([Engine("load", "load")], [Channel("dram", rate)])
    builder.transfer(0, n_bytes=10**9, latency_cycles=7)
    assert simulate(builder.build()).cycles == 7 + -(-(10**9) * rate.denominator // rate.numerator)


def test_rounding_is_said_and_only_where_it_can_be() -> None:
    machine = tilewright.load_machine("edge-16x16")
    for bandwidth, said in ((12.8, False), (5.202020202020202, True)):
        result = tilewright.simulate(
            LAYER, machine.with_(**{"dram.bandwidth_gb_per_s": bandwidth}), dataflow="flash2", tiling=TILING
        )
        assert any("no short fraction" in note for note in result.assumptions) == said


def test_a_run_beyond_all_counting_is_one_sentence() -> None:
    machine = tilewright.load_machine("edge-16x16")
    for changes in (
        {"dram.bandwidth_gb_per_s": 1e-18},
        {"matrix.multiplies_per_pe_per_cycle": {"fp16": 1e-17}, "energy.multiply_accumulate_pj": {"fp16": 1}},
        {"buffers.l1.write_bytes_per_cycle": 1e-300},
    ):
        with pytest.raises(InputError, match=r"longer than 2\^58 cycles"):
            tilewright.simulate(LAYER, machine.with_(**changes), dataflow="flash2", tiling=TILING)
    builder = ProgramBuilder([Engine("matrix", "matrix")])
    for _ in builder.loop(10**9):
        builder.compute(0, cycles=MAX_CYCLES // 10**6)
    with pytest.raises(InputError, match=r"longer than 2\^58 cycles"):
        simulate(builder.build())


@pytest.mark.parametrize(
    ("name", "message"),
    [("mach-OverflowError*", r"longer than 2\^58 cycles"), ("mach-ValueError*", r"buffer_write_pj_per_byte")],
)
def test_machine_files_that_overflowed(name: str, message: str) -> None:
    found = sorted(SHARED.glob(name))
    if not found:
        pytest.skip("shared/cases is not beside the repository")
    with pytest.raises(InputError, match=message):
        tilewright.simulate(LAYER, str(found[0]), dataflow="flash2", tiling=TILING)


def test_energies_beyond_reason_are_refused_where_they_enter() -> None:
    with pytest.raises(InputError, match="dram_read_pj_per_byte"):
        tilewright.load_machine("edge-16x16").with_(**{"energy.dram_read_pj_per_byte": 1e308})


def test_the_smallest_bandwidth_is_one_sentence() -> None:
    slowest = load_machine("edge-16x16").with_(**{"dram.bandwidth_gb_per_s": 5e-324})
    with pytest.raises(InputError, match=r"longer than 2\^58 cycles"):
        tilewright.simulate("bert-base", slowest)
