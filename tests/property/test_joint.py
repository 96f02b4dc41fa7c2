"""Are unlike programs of several groups one exact simulation, hand-overs and repeats included?"""

from __future__ import annotations

import importlib.util
import os
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings

from tilewright.errors import ProgramError
from tilewright.sim.engine.joint import Group, Joint, Repeat, Task, Token, join
from tilewright.sim.engine.program import Channel, Engine, Program, ProgramBuilder
from tilewright.sim.engine.reference import run_reference
from tilewright.sim.engine.run import run_program, simulate

_spec = importlib.util.spec_from_file_location("scripts", Path(__file__).with_name("scripts.py"))
assert _spec is not None and _spec.loader is not None
_scripts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_scripts)
joints, _programs = _scripts.joints, _scripts._programs

N_EXAMPLES = int(os.environ.get("TILEWRIGHT_FUZZ", "12"))  # `make fuzz N=...` sets this
thorough = settings(
    max_examples=N_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


@thorough
@given(joints())
def test_engine_equals_reference(joint: Joint) -> None:
    """End cycle, busy cycles, bytes and deadlocks of unlike programs at once, skipping or not."""
    reference = run_reference(joint.program)
    for skip in (False, True):
        run = run_program(joint.program, skip=skip)
        assert (run.cycles, run.busy_cycles, run.channel_bytes) == (
            reference.cycles,
            reference.busy_cycles,
            reference.channel_bytes,
        )
        assert dict(run.stuck) == reference.waiting


@thorough
@given(joints(max_trips=4, max_images=300))
def test_skipping_changes_nothing(joint: Joint) -> None:
    plain, skipping = run_program(joint.program, skip=False), run_program(joint.program, skip=True)
    assert (plain.cycles, plain.busy_cycles, plain.channel_bytes, plain.stuck, plain.n_commands) == (
        skipping.cycles,
        skipping.busy_cycles,
        skipping.channel_bytes,
        skipping.stuck,
        skipping.n_commands,
    )


@thorough
@given(_programs.programs(max_trips=6))
def test_a_group_runs_its_programs_one_after_the_other(program: Program) -> None:
    """A program three times, alone in its group, takes three times as long: semaphores are as they were."""
    alone = run_program(program)
    assume(not alone.stuck)
    task = Task(name="own", programs=(program, program), before_cycles=7)
    joint = join([Group(name="g", script=(task, Task(name="again", programs=(program,))))], program.channels)
    assert simulate(joint.program).cycles == 3 * alone.cycles + 7


@thorough
@given(_programs.programs(max_trips=6), _programs.programs(max_trips=6))
def test_groups_that_share_nothing_do_not_feel_each_other(one: Program, other: Program) -> None:
    alone = [run_program(program) for program in (one, other)]
    assume(not any(run.stuck for run in alone))
    groups = [
        Group(name=name, script=(Repeat(name=name, count=n, body=(Task(name="own", programs=(program,)),)),))
        for name, n, program in (("a", 3, one), ("b", 2, other))
    ]
    assert simulate(join(groups, []).program).cycles == max(3 * alone[0].cycles, 2 * alone[1].cycles)


def _work(cycles: int, n_bytes: int = 0) -> Program:
    builder = ProgramBuilder([Engine("load", "load"), Engine("matrix", "matrix")], [Channel("dram", Fraction(4))])
    there = builder.semaphore("there")
    if n_bytes:
        builder.transfer(0, n_bytes=n_bytes, signals=[there])
    builder.compute(1, cycles=cycles, waits=[there] if n_bytes else [])
    return builder.build()


def test_a_pipeline_of_two_stages_by_hand() -> None:
    """Stages of 30 and 50 cycles, two maps between them: the first image after 80, then one every 50."""
    tokens = {"free": Token(2, is_slot=True), "there": Token(0)}

    def stages(n: int) -> Joint:
        first = Task(name="first", programs=(_work(30),), waits=("free",), signals=("there",))
        second = Task(name="second", programs=(_work(50),), waits=("there",), signals=("free",))
        groups = [
            Group(name=task.name, script=(Repeat(name="images", count=n, body=(task,)),)) for task in (first, second)
        ]
        return join(groups, [], tokens)

    assert [simulate(stages(n).program).cycles for n in (1, 2, 10)] == [80, 130, 530]
    run = run_program(stages(10**6).program)
    assert run.cycles == 80 + 50 * (10**6 - 1)
    assert run.n_jumps > 0


def test_a_pool_of_many_slots_is_emptied_when_its_program_has_ended() -> None:
    """More tokens than one command takes: nothing is taken away from the program that still needs them."""
    builder = ProgramBuilder([Engine("load", "load"), Engine("matrix", "matrix")])
    free, there = builder.semaphore("free", 200, is_slot=True), builder.semaphore("there")
    for _ in builder.loop(300):
        builder.compute(0, cycles=1, waits=[free], signals=[there])
        builder.compute(1, cycles=2, waits=[there], signals=[free])
    program = builder.build()
    task = Task(name="own", programs=(program, program))
    joint = join([Group(name="g", script=(Repeat(name="images", count=5, body=(task,)),))], [])
    assert simulate(joint.program).cycles == 10 * simulate(program).cycles == run_reference(joint.program).cycles


def test_two_groups_share_a_channel_by_hand() -> None:
    """Both load 40 bytes at 4 a cycle, 20 cycles together; then they compute, each its own time."""
    groups = [Group(name=str(n), script=(Task(name="own", programs=(_work(n, 40),)),)) for n in (5, 9)]
    assert simulate(join(groups, [Channel("dram", Fraction(4))]).program).cycles == 20 + 9
    assert simulate(join(groups, []).program).cycles == 10 + 9  # each its own channel


def test_a_token_that_is_not_there_is_named() -> None:
    with pytest.raises(ProgramError, match="stage: own: there is no token 'map'"):
        join([Group(name="stage", script=(Task(name="own", waits=("map",)),))], [])
