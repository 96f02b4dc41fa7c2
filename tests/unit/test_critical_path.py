"""Is the critical path the one that a person finds by hand, and does it come at once for a very long run?"""

from __future__ import annotations

from fractions import Fraction

import pytest

from tilewright.errors import ProgramError
from tilewright.hw_models.energy import Counters
from tilewright.hw_models.load import load_machine
from tilewright.sim.dataflows.attention.costs import AttentionCosts
from tilewright.sim.engine.critical_path import attribute
from tilewright.sim.engine.program import Channel, Engine, Program, ProgramBuilder
from tilewright.sim.engine.run import run_program
from tilewright.sim.engine.trace import Recording, record_path
from tilewright.sim.lowering.costs import Work
from tilewright.sim.lowering.evaluation import build_phase, phase_tiling
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.sim.result import Attribution
from tilewright.testing.dataflows import plain_dataflows
from tilewright.workloads.load import load_workload

LOAD, MATRIX, VECTOR, STORE, MOVER, MEMORY_UNIT = range(6)


def builder() -> ProgramBuilder:
    """Engines of every kind and two of kinds of their own; one byte a cycle."""
    engines = [Engine(kind, kind) for kind in ("load", "matrix", "vector", "store", "mover", "memory unit")]
    return ProgramBuilder(engines, [Channel("dram", Fraction(1))])


def parts(program: Program, *, skip: bool = True) -> dict[str, int]:
    """The categories that are not zero."""
    attribution = attribute(program, record_path(program, skip=skip))
    assert attribution is not None
    assert attribution.total_cycles == run_program(program).cycles
    return {name: cycles for name, cycles in attribution.to_dict().items() if cycles}


def matrix_work(cycles: int, fill_drain_cycles: int) -> Work:
    return Work(cycles, 0, fill_drain_cycles, 0.0, Counters())


def test_filling_and_draining_is_apart() -> None:
    b = builder()
    for _ in range(3):
        b.compute(MATRIX, cycles=10, cost=matrix_work(10, 4))
    b.compute(VECTOR, cycles=20, cost=matrix_work(20, 4))
    assert parts(b.build()) == {"matrix": 18, "fill_drain": 12}


def test_path_goes_through_the_signals() -> None:
    b = builder()
    loaded, made, ready = b.semaphore("loaded"), b.semaphore("made"), b.semaphore("ready")
    b.transfer(LOAD, n_bytes=64, latency_cycles=5, signals=[loaded])
    b.compute(MATRIX, cycles=30, waits=[loaded], signals=[made])
    b.compute(VECTOR, cycles=7, waits=[made], signals=[ready])
    b.transfer(STORE, n_bytes=16, waits=[ready])
    assert parts(b.build()) == {"dram": 5 + 64 + 16, "matrix": 30, "vector": 7}


def test_sharing_the_channel_counts_as_dram() -> None:
    b = builder()
    b.transfer(LOAD, n_bytes=10)
    b.transfer(STORE, n_bytes=30)
    assert parts(b.build()) == {"dram": 40}


@pytest.mark.parametrize("skip", [True, False])
def test_one_slot_makes_loads_wait_for_the_buffer(skip: bool) -> None:
    b = builder()
    slot, loaded = b.semaphore("slot", 1, is_slot=True), b.semaphore("loaded")
    for _ in b.loop(40):
        b.transfer(LOAD, n_bytes=10, waits=[slot], signals=[loaded])
        b.compute(MATRIX, cycles=20, waits=[loaded], signals=[slot])
    assert parts(b.build(), skip=skip) == {"dram": 10, "buffer_wait": 39 * 10, "matrix": 40 * 20}


def test_a_load_that_does_not_wait_for_its_slot_is_no_buffer_wait() -> None:
    """With two slots the matrix unit never waits: only the first load is on the path, and its slot was free."""
    b = builder()
    slot, loaded = b.semaphore("slot", 2, is_slot=True), b.semaphore("loaded")
    for _ in b.loop(40):
        b.transfer(LOAD, n_bytes=10, waits=[slot], signals=[loaded])
        b.compute(MATRIX, cycles=20, waits=[loaded], signals=[slot])
    assert parts(b.build()) == {"dram": 10, "matrix": 800}


def test_other_engines_count_by_what_they_do() -> None:
    b = builder()
    slot, moved = b.semaphore("slot", 0, is_slot=True), b.semaphore("moved")
    b.compute(MEMORY_UNIT, cycles=9, cost=matrix_work(9, 2), signals=[slot])
    b.transfer(MOVER, n_bytes=8, waits=[slot], signals=[moved])
    b.transfer(MOVER, n_bytes=5, signals=[moved])
    assert parts(b.build()) == {"matrix": 7, "fill_drain": 2, "buffer_wait": 8, "dram": 5}


def test_the_token_that_was_missing_is_the_cause() -> None:
    """Two tokens come in the same cycle; of one of them there was another already."""
    b = builder()
    spare, needed = b.semaphore("spare", 1), b.semaphore("needed")
    b.compute(VECTOR, cycles=10, signals=[spare])
    b.transfer(LOAD, n_bytes=10, signals=[needed])
    b.compute(MATRIX, cycles=5, waits=[spare, needed])
    assert parts(b.build()) == {"dram": 10, "matrix": 5}


@pytest.mark.parametrize("skip", [True, False])
def test_a_token_that_was_missing_only_at_first(skip: bool) -> None:
    """Tokens of one kind pile up: what the first trips waited for says nothing about the skipped ones.

    The load engine's trip i starts at cycle 2 i. Trips 1 and 2 lack a token of the matrix engine, the later
    ones only the vector engine's, which in turn waits for the load engine.
    """
    b = builder()
    many, needed, back = b.semaphore("many"), b.semaphore("needed"), b.semaphore("back", 1)
    b.compute(VECTOR, cycles=1)
    b.compute(STORE, cycles=3)
    for _ in b.loop(100):
        b.compute(MATRIX, cycles=2, signals=[many])
        b.compute(VECTOR, cycles=1, waits=[back], signals=[needed])
        b.compute(LOAD, cycles=1, waits=[many, needed], signals=[back])
        b.compute(STORE, cycles=2, signals=[many])
    b.compute(LOAD, cycles=30)
    assert parts(b.build(), skip=skip) == {"matrix": 4, "vector": 98, "dram": 99 + 30}


def test_billions_of_trips_are_walked_at_once() -> None:
    """Rows of a thousand tiles, a million rows: the matrix unit is busy but for the first load and row ends."""
    n_rows, n_tiles = 1_000_000, 1_000
    b = builder()
    slot, loaded = b.semaphore("slot", 2, is_slot=True), b.semaphore("loaded")
    row_free, row_done = b.semaphore("row free", 1), b.semaphore("row done")
    for _ in b.loop(n_rows):
        b.compute(MATRIX, cycles=3, waits=[row_free])
        for _ in b.loop(n_tiles):
            b.transfer(LOAD, n_bytes=10, waits=[slot], signals=[loaded])
            b.compute(MATRIX, cycles=100, cost=matrix_work(100, 16), waits=[loaded], signals=[slot])
        b.compute(MATRIX, cycles=1, signals=[row_done])
        b.compute(VECTOR, cycles=7, waits=[row_done], signals=[row_free])
    program = b.build()
    assert len(record_path(program).events) < 1000
    assert parts(program) == {
        "dram": 10,
        "matrix": n_rows * (n_tiles * 84 + 1) + (n_rows - 1) * 3,
        "fill_drain": n_rows * n_tiles * 16,
        "vector": n_rows * 7,
    }


@pytest.mark.parametrize("n_trips", range(30, 36))
def test_a_path_that_comes_back_to_an_engine_after_several_periods(n_trips: int) -> None:
    """Two tokens go around a ring of three engines in 18 cycles, one behind the other by half of that.

    So every trip is a period of 9 cycles, but the path follows one of the tokens.
    """
    b = builder()
    ring = [b.semaphore(f"token {i}", int(i == 1)) for i in range(3)]
    b.compute(STORE, cycles=15, signals=[ring[2]])
    for _ in b.loop(n_trips):
        b.compute(MATRIX, cycles=5, waits=[ring[0]], signals=[ring[1]])
        b.compute(VECTOR, cycles=6, waits=[ring[1]], signals=[ring[2]])
        b.transfer(LOAD, n_bytes=7, waits=[ring[2]], signals=[ring[0]])
    program = b.build()
    assert len(record_path(program).jumps) > 0
    assert parts(program) == parts(program, skip=False)


def test_no_path_without_an_end_or_a_full_recording() -> None:
    b = builder()
    never = b.semaphore("never")
    b.compute(MATRIX, cycles=5)
    b.compute(MATRIX, cycles=5, waits=[never])
    stuck = b.build()
    assert attribute(stuck, record_path(stuck)) is None

    b = builder()
    for _ in range(20):
        b.compute(MATRIX, cycles=5)
    long = b.build()
    assert attribute(long, record_path(long, max_events=10)) is None
    with pytest.raises(ProgramError, match="whole run"):
        attribute(long, Recording(len(long.engines), 10, (0, 5)))


def test_nothing_to_do_takes_no_cycles() -> None:
    program = builder().build()
    assert attribute(program, record_path(program)) == Attribution(
        matrix_cycles=0, vector_cycles=0, dram_cycles=0, buffer_wait_cycles=0, fill_drain_cycles=0
    )


@pytest.mark.parametrize("mask", ["none", "causal"])
@pytest.mark.parametrize("dataflow", plain_dataflows())
def test_dataflows_have_the_same_path_skipped_or_not(dataflow: str, mask: str) -> None:
    layer = load_workload(f"attention:heads=3,seq=200,head_dim=64,mask={mask}")
    flow, costs = get_dataflow(dataflow), AttentionCosts(layer, load_machine("edge-16x16"))
    for phase in flow.phases:
        space = list(phase.space(layer, costs.machine))
        for tiling in space[:: max(1, len(space) // 4)]:
            program = build_phase(phase, costs, phase_tiling(phase, tiling))
            assert parts(program) == parts(program, skip=False)
