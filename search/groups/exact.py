"""A placement as it runs: every group its operators in their order, all at once on one DRAM, to the cycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilewright.errors import InputError, ProgramError
from tilewright.search.groups.place import Placement
from tilewright.search.groups.prepare import Prepared, shared_ports
from tilewright.search.network import JobRun, runs_in_turn
from tilewright.search.pipeline.stages import programs_at_clock
from tilewright.sim.engine.joint import Group, Joint, Task, Token, join
from tilewright.sim.engine.joint_spans import task_spans
from tilewright.sim.engine.program import Program
from tilewright.sim.engine.run import simulate
from tilewright.sim.lowering.levels import DRAM_WRITES, shared_channels

__all__ = ["Ready", "made_ready", "spans_of"]

_DRAM = ("dram", DRAM_WRITES)  # what the groups share


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ready:
    """A placement made ready to run: the run of each job (loads for the next one of its group among them), its programs
    in cycles of the main group's clock, the one program of all, and the ``cycles`` that this takes.
    """

    prepared: Prepared
    placement: Placement
    prefetch: bool
    runs: tuple[JobRun, ...]
    programs: tuple[tuple[Program, ...], ...]
    joint: Joint
    cycles: int


def made_ready(ready: Prepared, placement: Placement, *, prefetch: bool) -> Ready:
    """The program of ``placement`` and how long it runs."""
    runs: list[JobRun | None] = [None] * len(ready.jobs)
    programs: list[tuple[Program, ...]] = [()] * len(ready.jobs)
    for unit in ready.units:
        order = placement.order(unit.number)
        if not order:
            continue
        own = [ready.options[number][unit.number] for number in order]
        mapped = {one.job.layer: one.mapped for one in own}
        made = runs_in_turn([one.job for one in own], mapped, unit.machine, prefetch=prefetch)
        for number, run, texts in zip(
            order, made, programs_at_clock(made, unit, shared_ports(ready.machine, unit)), strict=True
        ):
            runs[number], programs[number] = run, texts
    joint = _joint(ready, placement, programs)
    return Ready(
        prepared=ready,
        placement=placement,
        prefetch=prefetch,
        runs=tuple(run for run in runs if run is not None),
        programs=tuple(programs),
        joint=joint,
        cycles=simulate(joint.program).cycles,
    )


def spans_of(made: Ready) -> tuple[tuple[int, int], ...]:
    """The cycles [start, end) of each job, without what its command costs before it."""
    ready = made.prepared
    try:
        told = task_spans(made.joint)
    except ProgramError as fault:
        raise InputError(f"{ready.stream.name}: {fault}; allowed on one group, --set group=NAME") from None
    used = [unit.number for unit in ready.units if made.placement.order(unit.number)]
    at = {unit: number for number, unit in enumerate(used)}
    found = []
    for number, job in enumerate(made.placement.jobs):
        start, end = told[at[job.unit], _name(ready, number)]
        found.append((start + ready.each_cycles[job.unit], end))
    return tuple(found)


def _joint(ready: Prepared, placement: Placement, programs: Sequence[tuple[Program, ...]]) -> Joint:
    tokens: dict[str, Token] = {}
    waits: list[list[str]] = [[] for _ in ready.jobs]
    signals: list[list[str]] = [[] for _ in ready.jobs]
    for edge in ready.edges:
        if placement.jobs[edge.source].unit != placement.jobs[edge.target].unit:
            token = f"{edge.source} for {edge.target}"
            tokens[token] = Token(0)
            waits[edge.target].append(token)
            signals[edge.source].append(token)
    groups = []
    for unit in ready.units:
        order = placement.order(unit.number)
        if not order:
            continue
        script = tuple(
            Task(
                name=_name(ready, number),
                programs=programs[number],
                before_cycles=ready.each_cycles[unit.number],
                waits=tuple(waits[number]),
                signals=tuple(signals[number]),
            )
            for number in order
        )
        groups.append(Group(name=unit.machine.main, script=script))
    names = {name for unit in ready.units for name in (*shared_ports(ready.machine, unit), *unit.shared)} | set(_DRAM)
    channels = [channel for channel in shared_channels(ready.machine) if channel.name in names]
    return join(groups, channels, tokens)


def _name(ready: Prepared, number: int) -> str:
    return f"{number} {ready.jobs[number].name}"
