"""A partition made ready to run: each stage with its machine, what stays in its memories, its mappings and programs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import floor

from tilewright.hw_models.energy import Counters
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress
from tilewright.search.network import JobRun, Mapped, runs_in_turn
from tilewright.search.pipeline.costs import StageCosts, stage_machine
from tilewright.search.pipeline.handover import Exchanged, Handover, hand_overs, on_chip
from tilewright.search.pipeline.partition import Option, StageChoice
from tilewright.search.pipeline.row_mappings import by_finer_rows
from tilewright.search.pipeline.spare import with_spare_weights
from tilewright.search.pipeline.units import Unit
from tilewright.search.residency.plan import Planned, memories_of, plan_residency
from tilewright.search.residency.tensors import residents_of, with_homes
from tilewright.sim.engine.joint import Group, Repeat, Task, at_clock
from tilewright.sim.engine.program import Program
from tilewright.sim.engine.run import simulate
from tilewright.sim.jobs import Job, JobLayer
from tilewright.sim.lowering.levels import DRAM_WRITES, level_called
from tilewright.sim.residency_plan import ResidencyPlan
from tilewright.workloads.fallback import FallbackLayer
from tilewright.workloads.homes import Place
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["CORES", "FALLBACK", "Stage", "group_of", "made_ready", "part_of", "prepared_handovers", "programs_at_clock"]

CORES, FALLBACK = "the cores are free", "the fallback is free"
DRAM = "dram"  # the channel that all units share
HANDED_SHARE = 2  # maps between stages take at most one part in so many of a shared memory
PLAN_SECONDS = 20.0  # for the proofs of all stages' plans


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Jobs ``first`` to ``last`` on ``machine``, as they run there: ``n_cores`` of unit number ``unit`` (0: only the
    fallback). ``alone_cycles``: of one image when nothing else runs, without fixed costs; ``programs``: of each job;
    both in cycles of the first machine's clock.
    """

    first: int
    last: int
    unit: int
    n_cores: int
    machine: MachineSpec
    jobs: tuple[Job, ...]
    runs: tuple[JobRun, ...]
    plan: ResidencyPlan | None
    kept_weight_bytes: int
    unit_cycles: int
    assumptions: tuple[str, ...]
    alone_cycles: int
    programs: tuple[tuple[Program, ...], ...]

    @property
    def counters(self) -> Counters:
        return sum((run.counters for run in self.runs), Counters())


def prepared_handovers(
    stream: OperatorStream,
    jobs: Sequence[Job],
    choices: Sequence[StageChoice],
    options: Sequence[Option],
    machine: MachineSpec,
    *,
    keeps: bool,
    buffers: Mapping[str, int] | None = None,
) -> tuple[tuple[Handover, ...], dict[str, int], Place]:
    """The hand-overs, the bytes of all maps of those that live on chip, and the memory that these live in ("").

    ``buffers``: bytes of the line buffer of each map, where maps are handed over by rows.
    """
    stage_of = [number for number, one in enumerate(choices) for _ in range(one.first, one.last + 1)]
    found = hand_overs(stream, jobs, stage_of, has_link=machine.host is not None)
    shared = [place for place in memories_of(machine) if machine.buffer(place).shared_by_cores]
    shared = [place for place in shared if "activations" in machine.buffer(place).holds]
    if not keeps or not shared:
        return found, {}, ""
    place = max(shared, key=lambda one: level_called(machine, one).capacity_bytes)
    operands, residents = residents_of(stream, jobs)
    may_live = {resident.name: resident for resident in residents if not resident.is_weight}
    room = level_called(machine, place).capacity_bytes // HANDED_SHARE
    apart = {number for number, one in enumerate(choices) if options[one.option].beside}
    elsewhere = {one.name for one in found if apart & {one.made_in, one.read_in}}  # no way there but the DRAM
    kept = on_chip([one for one in found if one.name not in elsewhere], operands, may_live, room, buffers)
    return found, kept, place if kept else ""


def made_ready(
    stream: OperatorStream,
    costs: StageCosts,
    choices: Sequence[StageChoice],
    options: Sequence[Option],
    handovers: Sequence[Handover],
    kept: Mapping[str, int],
    place: Place,
    *,
    prefetch: bool,
    takes_turns: bool,
    spare_cycles: Sequence[int] = (),
    progress: Progress | None = None,
) -> list[Stage]:
    """The stages, each planned and mapped; what ``kept`` names lives in ``place`` between them.

    ``spare_cycles``: where maps are handed over by rows, by how many each stage may take longer to make them sooner.
    """
    jobs = _handing_over(stream, _jobs_of(costs, choices, options), kept, place)
    shared = None
    if takes_turns and costs.keeps:
        shared = _planned(_with_results(stream, handovers), jobs, costs.machine, costs, PLAN_SECONDS, progress)
    if shared is not None:
        jobs = [replace(job, layer=layer) for job, layer in zip(jobs, shared.layers, strict=True)]
    found: list[Stage] = []
    touching = {at for one in handovers for at in (one.maker, *range(one.first, one.last + 1))}
    shares = _shares(stream, costs, choices)
    for choice in choices:
        option = options[choice.option]
        unit = costs.units[option.beside]
        n_cores = unit.machine.n_cores if option.beside else option.n_cores
        taken = {place: sum(kept.values())} if kept and not option.beside else {}
        share = shares[len(found)] if n_cores and not option.beside and not takes_turns else 1.0
        own = stage_machine(unit.machine, n_cores or unit.machine.n_cores, taken, share)
        here = jobs[choice.first : choice.last + 1]
        plain = [job for job in unit.jobs[choice.first : choice.last + 1] if job is not None]
        planned = shared if n_cores else None
        if costs.keeps and n_cores and not takes_turns:
            own_part = part_of(stream, here)
            planned = _planned(own_part, here, own, costs, PLAN_SECONDS / len(choices), progress)
            if planned is not None and len(choices) > 1:
                planned = with_spare_weights(planned, own_part, here, own, partial(_search, costs, own))
        if planned is not None and not takes_turns:
            here = [replace(job, layer=layer) for job, layer in zip(here, planned.layers, strict=True)]
        mapped = {job.layer: costs.mapped(job, job.layer, own) for job in here}
        if spare_cycles:
            handing = [job for at, job in enumerate(here, start=choice.first) if at in touching]
            mapped = by_finer_rows(mapped, here, handing, own, spare_cycles[len(found)])
        runs = tuple(runs_in_turn(here, mapped, own, prefetch=prefetch))
        programs = programs_at_clock(runs, unit)
        found.append(
            Stage(
                first=choice.first,
                last=choice.last,
                unit=option.beside,
                n_cores=n_cores,
                machine=own,
                jobs=tuple(here),
                runs=runs,
                plan=planned.plan if planned is not None else None,
                kept_weight_bytes=0 if planned is None else _kept_weights(stream, here, planned.plan),
                unit_cycles=floor(sum(costs.unit_cycles(job, own) for job in plain) * unit.scale),
                assumptions=tuple(dict.fromkeys(text for one in mapped.values() for text in one.alone.assumptions)),
                alone_cycles=_alone_cycles(runs, programs, unit),
                programs=programs,
            )
        )
    return found


def _shares(stream: OperatorStream, costs: StageCosts, choices: Sequence[StageChoice]) -> list[float]:
    """The part of shared memories that each stage has: by its weights and twice its largest map."""
    needs = []
    for one in choices:
        names = {
            stream.base(name)
            for job in costs.jobs[one.first : one.last + 1]
            for operator in job.operators
            for name in (*operator.inputs, *operator.outputs)
        }
        weights = sum(tensor.n_bytes for tensor in names if tensor.role == "weight")
        needs.append(weights + 2 * max((tensor.n_bytes for tensor in names if tensor.role != "weight"), default=1))
    return [need / sum(needs) for need in needs]


def _search(costs: StageCosts, machine: MachineSpec, job: Job, layer: JobLayer) -> Mapped:
    return costs.mapped(job, layer, machine)


def _jobs_of(costs: StageCosts, choices: Sequence[StageChoice], options: Sequence[Option]) -> list[Job]:
    """All jobs, each as it is on the unit of its stage."""
    found = []
    for choice in choices:
        own = costs.units[options[choice.option].beside].jobs[choice.first : choice.last + 1]
        found += [job for job in own if job is not None]  # a partition has none that its unit cannot do
    return found


def programs_at_clock(
    runs: Sequence[JobRun], unit: Unit, also_shared: Collection[str] = ()
) -> tuple[tuple[Program, ...], ...]:
    """The programs of ``runs`` in cycles of the first machine's clock; equal ones stay one. ``also_shared``: channels
    that are not the unit's own, beside those of the DRAM.
    """
    if not unit.number:
        return tuple(tuple(run.programs) for run in runs)
    shared = {DRAM, DRAM_WRITES, *unit.shared, *also_shared}
    known: dict[int, Program] = {}
    for run in runs:
        for program in run.programs:
            if id(program) not in known:
                known[id(program)] = at_clock(program, unit.scale, unit.name, shared)
    return tuple(tuple(known[id(program)] for program in run.programs) for run in runs)


def _alone_cycles(runs: Sequence[JobRun], programs: Sequence[Sequence[Program]], unit: Unit) -> int:
    if not unit.number:
        return sum(run.cycles for run in runs)
    known = {id(one): one for of_job in programs for one in of_job}
    cycles = {number: simulate(one).cycles for number, one in known.items()}
    return sum(cycles[id(one)] for of_job in programs for one in of_job)


def _handing_over(stream: OperatorStream, jobs: Sequence[Job], kept: Mapping[str, int], place: Place) -> list[Job]:
    """``jobs`` with the maps that are handed over on chip in their home."""
    if not kept:
        return list(jobs)
    operands, _ = residents_of(stream, jobs)
    places = dict.fromkeys(kept, place)
    return [
        replace(job, layer=with_homes(job.layer, own, {name: places[name] for name in own.names if name in places}))
        if any(name in places for name in own.names)
        else job
        for job, own in zip(jobs, operands, strict=True)
    ]


def _planned(
    stream: OperatorStream,
    jobs: Sequence[Job],
    machine: MachineSpec,
    costs: StageCosts,
    seconds: float,
    progress: Progress | None,
) -> Planned | None:
    """What stays in the stage's memories; None where nothing is better there."""
    from tilewright.sim.lowering.evaluation import needed_rooms

    def search(at: int, layer: JobLayer) -> tuple[int, dict[Place, int]]:
        own = costs.mapped(jobs[at], layer, machine)
        return own.alone.cycles, needed_rooms(own.dataflow, own.layer, machine, own.tiling)

    return plan_residency(stream, jobs, machine, search, seconds=seconds, progress=progress)


def _with_results(stream: OperatorStream, handovers: Sequence[Handover]) -> OperatorStream:
    """``stream`` with all that is handed over as results: that does not live on chip when stages take turns there."""
    names = dict.fromkeys(one.name for one in handovers if one.name not in stream.outputs)
    return replace(stream, outputs=(*stream.outputs, *names))


def _kept_weights(stream: OperatorStream, jobs: Sequence[Job], plan: ResidencyPlan) -> int:
    """Bytes of the weights of ``jobs`` that ``plan`` keeps."""
    own = {stream.base(name).name for job in jobs for operator in job.operators for name in operator.inputs}
    return sum(tensor.n_bytes for tensor in plan.tensors if tensor.is_weight and tensor.name in own)


def part_of(stream: OperatorStream, jobs: Sequence[Job]) -> OperatorStream:
    """The operators of ``jobs`` as a stream of their own: what others make is an input, what others read a result."""
    own = [operator for job in jobs for operator in job.operators]
    names = {operator.name for operator in own}
    if len(own) == len(stream.operators):
        return stream
    order = [operator for operator in stream.operators if operator.name in names]
    made = {stream.base(name).name for operator in order for name in operator.outputs}
    read = {stream.base(name).name for operator in order for name in operator.inputs}
    elsewhere = {
        stream.base(name).name
        for operator in stream.operators
        if operator.name not in names
        for name in operator.inputs
    }
    elsewhere |= {stream.base(name).name for name in stream.outputs}
    is_given = {name for name in read - made if stream.base(name).role not in ("weight", "constant")}
    used = {name for operator in order for name in (*operator.inputs, *operator.outputs)}
    used |= {stream.base(name).name for name in used} | _views_between(stream, used)
    return replace(
        stream,
        tensors=tuple(tensor for tensor in stream.tensors if tensor.name in used),
        operators=tuple(order),
        inputs=tuple(sorted(is_given)),
        outputs=tuple(sorted(made & elsewhere)),
    )


def _views_between(stream: OperatorStream, names: set[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        tensor = stream.tensor(name)
        while tensor.view_of is not None:
            found.add(tensor.view_of)
            tensor = stream.tensor(tensor.view_of)
    return found


def group_of(
    stage: Stage,
    name: str,
    n_images: int,
    exchange: Exchanged,
    *,
    once_cycles: int,
    each_cycles: int,
    takes_turns: bool,
) -> Group:
    """The script of a stage: its jobs for every image, each when what it reads is there and room for what it makes.

    Stages that take turns on the same cores wait for all that at their start, together with the cores.
    """
    tasks = []
    for at, (job, programs) in enumerate(zip(stage.jobs, stage.programs, strict=True)):
        number = stage.first + at
        waits, signals = exchange.waits_and_signals(number)
        before = once_cycles if number == 0 else 0
        if isinstance(job.layer, FallbackLayer):
            waits, signals = [*waits, FALLBACK], [*signals, FALLBACK]
        else:
            before += each_cycles
        task = Task(name=job.name, programs=exchange.programs(number, programs), before_cycles=before)
        tasks.append(replace(task, waits=tuple(waits), signals=tuple(signals)))
    if takes_turns:
        owned = (CORES,) if stage.n_cores else ()
        waits_first = tuple(name for task in tasks for name in task.waits if name != FALLBACK) + owned
        gives_last = tuple(name for task in tasks for name in task.signals if name != FALLBACK) + owned
        tasks = [replace(task, waits=_only(task.waits), signals=_only(task.signals)) for task in tasks]
        tasks[0] = replace(tasks[0], waits=(*waits_first, *tasks[0].waits))
        tasks[-1] = replace(tasks[-1], signals=(*gives_last, *tasks[-1].signals))
    return Group(name=name, script=(Repeat(name="images", count=n_images, body=tuple(tasks)),))


def _only(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name == FALLBACK)
