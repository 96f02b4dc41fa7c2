"""Does the critical path stay the same, to the cycle, when loop trips are skipped?"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilewright.hw_models.energy import Counters
from tilewright.sim.engine.critical_path import attribute
from tilewright.sim.engine.program import Program
from tilewright.sim.engine.run import run_program
from tilewright.sim.engine.trace import record_path
from tilewright.sim.lowering.costs import Work
from tilewright.sim.result import Attribution

_spec = importlib.util.spec_from_file_location("programs", Path(__file__).with_name("programs.py"))
assert _spec is not None and _spec.loader is not None
_programs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_programs)
programs = _programs.programs

# `make fuzz N=10000` sets this; the quick suite runs a hundred.
N_EXAMPLES = int(os.environ.get("TILEWRIGHT_FUZZ", "100"))
MAX_EVENTS = 200_000
MAX_UNSKIPPED = 20_000  # longer runs are not walked command by command, only added up
thorough = settings(
    max_examples=N_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


@st.composite
def mixed_programs(draw: st.DrawFn) -> Program:
    """Random programs whose engines are of all kinds, so that a wrong turn of the path shows."""
    program: Program = draw(programs(max_trips=60))
    kinds = draw(st.permutations(["matrix", "vector", "load", "store"]))
    engines = tuple(engine._replace(kind=kind) for engine, kind in zip(program.engines, kinds, strict=False))
    return replace(program, engines=engines)


def _attribution(program: Program, *, skip: bool, max_events: int) -> Attribution | None:
    recording = record_path(program, skip=skip, max_events=max_events)
    recording.commands = [
        command._replace(cost=Work(command.cycles, command.n_bytes, number % 5, 0.0, Counters()))
        for number, command in enumerate(recording.commands)
    ]
    return attribute(program, recording)


@thorough
@given(mixed_programs())
def test_skipping_does_not_change_the_critical_path(program: Program) -> None:
    run = run_program(program)
    skipping = _attribution(program, skip=True, max_events=MAX_EVENTS)
    if run.stuck:
        assert skipping is None
        return
    if skipping is None:  # a run that hardly repeats may need more room than there is, but only a long one
        assert run.n_commands > MAX_EVENTS
        return
    assert skipping.total_cycles == run.cycles
    if run.n_commands <= MAX_UNSKIPPED:
        assert skipping == _attribution(program, skip=False, max_events=MAX_UNSKIPPED)
