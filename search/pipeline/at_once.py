"""Several networks at once on groups of cores, sharing the DRAM and shared memories: one exact simulation.

Each network runs on its own cores, image after image as fast as it can, layer after layer as it would alone; all of
them meet on the channels. What comes out is when each image began and ended, and how much longer it took than alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tilewright.errors import InputError
from tilewright.hw_models.overheads import overhead_cycles
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import ATTENTION_DATAFLOWS, best_mapping, runs_in_turn
from tilewright.search.pipeline.costs import stage_machine
from tilewright.search.pipeline.stages import FALLBACK
from tilewright.sim.engine.joint import Group, Joint, Mark, Repeat, Task, Token, join
from tilewright.sim.engine.run import _run, simulate
from tilewright.sim.engine.trace import Recording
from tilewright.sim.jobs import jobs_on
from tilewright.sim.lacking import refuse_without_fallback
from tilewright.sim.lowering.levels import shared_channels
from tilewright.workloads.fallback import FallbackLayer
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["AtOnce", "Placement", "Ran", "joint_of", "run_at_once"]

MOST_COMMANDS = 20_000_000  # that are recorded
ENDLESS = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """``stream`` on ``n_cores`` of the cores, ``n_images`` times."""

    stream: OperatorStream
    n_cores: int
    n_images: int = 1


class Ran(NamedTuple):
    """A network's images: the cycles [start, end) of each, and the cycles of one when nothing else runs."""

    network: str
    images: tuple[tuple[int, int], ...]
    alone_cycles: int

    @property
    def slowdown(self) -> float:
        """Mean time of an image over that alone."""
        return sum(end - start for start, end in self.images) / (len(self.images) * self.alone_cycles)


class AtOnce(NamedTuple):
    """All networks, in order of the placements, and the cycle at which the last of them ended."""

    networks: tuple[Ran, ...]
    cycles: int


def run_at_once(placements: Sequence[Placement], machine: MachineSpec, *, cache: MappingCache | None = None) -> AtOnce:
    """Run all ``placements`` at once on ``machine``, exact to the cycle.

    Raises InputError for more cores than there are, for what a network cannot run, and for more commands than can be
    recorded.
    """
    kept = MappingCache() if cache is None else cache
    wanted = sum(placement.n_cores for placement in placements)
    if wanted > machine.n_cores or any(placement.n_cores < 1 for placement in placements):
        raise InputError(
            f"cores: given {wanted} for {len(placements)} networks; allowed one or more each, at most "
            f"{machine.n_cores} in all on {machine.name}"
        )
    groups = [_group(number, placement, machine, kept) for number, placement in enumerate(placements)]
    alone = tuple(simulate(joint_of([_once(group)], machine).program).cycles for group in groups)
    joint = joint_of(groups, machine)
    run = simulate(joint.program)
    if run.n_commands > MOST_COMMANDS:
        raise InputError(
            f"images: {run.n_commands:,} commands in all; allowed {MOST_COMMANDS:,} together: fewer images, or smaller "
            "networks"
        )
    recording = Recording(len(joint.program.engines), run.n_commands + 1, (0, ENDLESS))
    _run(joint.program, skip=False, recording=recording)
    images = _images(joint, recording, groups)
    return AtOnce(
        networks=tuple(
            Ran(placement.stream.name, tuple(own), cycles)
            for placement, own, cycles in zip(placements, images, alone, strict=True)
        ),
        cycles=run.cycles,
    )


def joint_of(groups: Sequence[Group], machine: MachineSpec) -> Joint:
    """The one program of networks that run at once."""
    return join(groups, shared_channels(machine), {FALLBACK: Token(1)})


def _group(number: int, placement: Placement, machine: MachineSpec, cache: MappingCache) -> Group:
    own = stage_machine(machine, placement.n_cores)
    jobs = jobs_on(placement.stream, own)
    refuse_without_fallback([job.operators[0] for job in jobs if isinstance(job.layer, FallbackLayer)], own)
    mapped = {job.layer: best_mapping(job, own, "latency", ATTENTION_DATAFLOWS, cache) for job in jobs}
    once, each = overhead_cycles(machine)
    tasks = []
    for at, (job, run) in enumerate(zip(jobs, runs_in_turn(jobs, mapped, own, prefetch=True), strict=True)):
        elsewhere = isinstance(job.layer, FallbackLayer)
        shared = (FALLBACK,) if elsewhere else ()
        before = (0 if elsewhere else each) + (once if at == 0 else 0)
        name = f"{at} {job.name}"
        tasks.append(Task(name=name, programs=tuple(run.programs), before_cycles=before, waits=shared, signals=shared))
    name = f"{number + 1} {placement.stream.name}"
    return Group(name=name, script=(Repeat(name=f"images of {name}", count=placement.n_images, body=tuple(tasks)),))


def _once(group: Group) -> Group:
    (every,) = group.script
    assert isinstance(every, Repeat)
    return Group(name=group.name, script=every.body)


def _images(joint: Joint, recording: Recording, groups: Sequence[Group]) -> list[list[tuple[int, int]]]:
    """Of each group when its first task began and its last one ended, image by image."""
    from tilewright.sim.engine import kernel

    ends_of = [_once(group).script[-1] for group in groups]
    begins_of = [_once(group).script[0] for group in groups]
    number = {engine: at for at, engine in enumerate(joint.controls)}
    found: list[list[tuple[int, int]]] = [[] for _ in groups]
    begun = [0] * len(groups)
    columns = [kernel.EV_ENGINE, kernel.EV_COMMAND, kernel.EV_START, kernel.EV_END]
    for engine, command, start, end in recording.events[:, columns].tolist():
        at, mark = number.get(engine), recording.commands[command].cost
        if at is None or not isinstance(mark, Mark):
            continue
        first, last = begins_of[at], ends_of[at]
        assert isinstance(first, Task)
        assert isinstance(last, Task)
        if mark.task == first.name and recording.commands[command].label.endswith("begins"):
            begun[at] = start
        if mark.ends and mark.task == last.name:
            found[at].append((begun[at], end))
    return found
