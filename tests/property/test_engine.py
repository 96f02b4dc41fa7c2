"""Is the compiled engine the machine that the SimPy reference defines, skipping or not?"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tilewright.sim.engine.image import pack
from tilewright.sim.engine.program import Command, Program
from tilewright.sim.engine.reference import ReferenceRun, run_reference
from tilewright.sim.engine.run import Run, run_images, run_program
from tilewright.sim.engine.trace import record_path, trace_program, trace_trips

_spec = importlib.util.spec_from_file_location("programs", Path(__file__).with_name("programs.py"))
assert _spec is not None and _spec.loader is not None
_programs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_programs)
programs, tree_programs = _programs.programs, _programs.tree_programs

# `make fuzz N=10000` sets this; the quick suite runs a few hundred.
N_EXAMPLES = int(os.environ.get("TILEWRIGHT_FUZZ", "300"))
thorough = settings(
    max_examples=N_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def _outcome(run: Run) -> tuple[object, ...]:
    stuck = dict(run.stuck)
    return run.cycles, run.busy_cycles, run.channel_bytes, stuck


def _expected(run: ReferenceRun) -> tuple[object, ...]:
    return run.cycles, run.busy_cycles, run.channel_bytes, run.waiting


@thorough
@given(programs())
def test_engine_equals_reference(program: Program) -> None:
    """End cycle, busy cycles, bytes, deadlock and the full trace."""
    reference = run_reference(program)
    assert _outcome(run_program(program, skip=False)) == _expected(reference)
    recording = record_path(program, skip=False)
    commands: list[Command] = recording.commands
    got = sorted((int(r[0]), int(r[2]), int(r[1]), commands[r[3]].label) for r in recording.events)
    want = sorted((e.start, e.engine, e.end, e.command.label) for e in reference.events)
    assert got == want


@thorough
@given(programs(max_trips=60))
def test_skipping_changes_nothing(program: Program) -> None:
    plain, skipping = run_program(program, skip=False), run_program(program, skip=True)
    assert _outcome(skipping) == _outcome(plain)
    assert skipping.n_commands == plain.n_commands


@thorough
@given(tree_programs(max_trips=5))
def test_engine_equals_reference_on_memory_trees(program: Program) -> None:
    """Levels, movers of their own, private and shared ports, multicast over a link: the same, skipping or not."""
    reference = run_reference(program)
    for skip in (False, True):
        assert _outcome(run_program(program, skip=skip)) == _expected(reference)


@settings(thorough, max_examples=max(50, N_EXAMPLES // 4))
@given(tree_programs(max_trips=200))
def test_skipping_changes_nothing_on_memory_trees(program: Program) -> None:
    plain, skipping = run_program(program, skip=False), run_program(program, skip=True)
    assert _outcome(skipping) == _outcome(plain)
    assert skipping.n_commands == plain.n_commands


@settings(thorough, max_examples=max(50, N_EXAMPLES // 4))
@given(programs(max_trips=60))
def test_a_window_deep_in_a_skipping_run_is_the_run(program: Program) -> None:
    plain = record_path(program, skip=False)
    assume(not plain.overflow)
    start, end = plain.cycles // 2, plain.cycles // 2 + 200
    window = trace_program(program, first_cycle=start, last_cycle=end, max_commands=10_000)
    got = sorted((c.start, c.engine, c.end, c.label) for c in window.commands)
    want = sorted(
        (int(r[0]), int(r[2]), int(r[1]), plain.commands[r[3]].label)
        for r in plain.events
        if start <= r[0] < end and r[1] >= 0
    )
    assert got == want
    assert window.total_cycles == plain.cycles


@settings(thorough, max_examples=max(50, N_EXAMPLES // 4))
@given(programs(max_trips=60), st.data())
def test_a_window_of_trips_is_the_same_with_and_without_skipping(program: Program, data: st.DataObject) -> None:
    if not program.loop_names:
        return
    loop = data.draw(st.integers(0, len(program.loop_names) - 1))
    first = data.draw(st.integers(0, 30))
    plain = trace_trips(program, loop, first_trip=first, n_trips=3, skip=False)
    skipping = trace_trips(program, loop, first_trip=first, n_trips=3)
    assert skipping == plain


@thorough
@given(programs(max_trips=60), st.data())
def test_a_run_with_a_limit_is_the_run_or_is_given_up(program: Program, data: st.DataObject) -> None:
    """Up to the limit it is the run; behind it, some figure between the limit and the end of the run."""
    run = run_program(program)
    assume(not run.stuck)
    limit = data.draw(st.integers(0, run.cycles + 10))
    (found,) = run_images([pack(program)[0]], limit=limit).tolist()
    assert found == run.cycles if run.cycles <= limit else limit < found <= run.cycles
