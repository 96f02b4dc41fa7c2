"""A network's layers as a pipeline over the chip: partitioned, placed, and run to the cycle with all stages at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, floor
from typing import NamedTuple

from tilewright.errors import InputError, unknown
from tilewright.hw_models.overheads import host_cycles, overhead_assumptions
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress, part
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import ATTENTION_DATAFLOWS, simulate_stream
from tilewright.search.pipeline.by_rows import SLOWER, HandedByRows, by_rows
from tilewright.search.pipeline.costs import StageCosts, core_counts
from tilewright.search.pipeline.figures import batch_figures
from tilewright.search.pipeline.handover import OUTSIDE, Exchanged, Handover, WholeMaps
from tilewright.search.pipeline.partition import (
    NEVER,
    Option,
    Partition,
    StageChoice,
    balanced,
    best_partition,
    bottleneck_bound,
)
from tilewright.search.pipeline.row_handover import Ring
from tilewright.search.pipeline.stages import (
    CORES,
    FALLBACK,
    Stage,
    group_of,
    made_ready,
    prepared_handovers,
)
from tilewright.search.pipeline.timeline import Steady, steady_state
from tilewright.search.pipeline.units import Unit, refuse_what_none_has, units_of
from tilewright.sim.engine.joint import Group, Joint, Repeat, Task, Token, join
from tilewright.sim.engine.run import simulate
from tilewright.sim.jobs import JOB_ASSUMPTIONS, Job, assumptions_of_kinds, jobs_on, storage_assumptions
from tilewright.sim.lacking import fallback_note, refuse_without_fallback
from tilewright.sim.lowering.levels import shared_channels
from tilewright.sim.network_result import NetworkResult
from tilewright.sim.pipeline_result import HAND_OVERS, HandedOver, PipelineResult, StageResult
from tilewright.workloads.fallback import FallbackLayer
from tilewright.workloads.homes import Place
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["MOST_IMAGES", "simulate_pipeline"]

MOST_IMAGES = 10**9
MOST_TRIALS = 8  # partitions that are run
FEW_STAGES = 8  # up to so many, the best partition into each number is a candidate
IN, OUT = "host link in", "host link out"
LINK = "the host link is free"


class _Trial(NamedTuple):
    """A partition as it ran."""

    partition: Partition
    stages: list[Stage]
    handovers: tuple[Handover, ...]
    kept: dict[str, int]
    place: Place
    takes_turns: bool
    rings: tuple[Ring, ...]  # of each hand-over by rows; none where maps are handed over whole
    make: Callable[[int], Joint]
    fill_cycles: int
    steady: Steady


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What stays the same over partitions."""

    stream: OperatorStream
    costs: StageCosts
    options: Sequence[Option]
    prefetch: bool
    by_rows: bool
    progress: Progress | None


def simulate_pipeline(
    stream: OperatorStream,
    machine: MachineSpec,
    *,
    n_stages: int | None = None,
    n_images: int = 16,
    prefetch: bool = True,
    fuse: bool = True,
    residency: bool | None = None,
    beside: Sequence[MachineSpec] = (),
    hand_over: str = "maps",
    attention_dataflows: Sequence[str] = ATTENTION_DATAFLOWS,
    cache: MappingCache | None = None,
    progress: Progress | None = None,
) -> PipelineResult:
    """``n_images`` of ``stream`` through a pipeline of stages over the cores of ``machine``, exact to the cycle.

    ``n_stages``: how many (None: as many as are best). The stages are runs of consecutive operators and the cores are
    dealt to them so that the longest stage, alone on the chip, is as short as it can be; operators that the cores lack
    can be stages of the fallback's own, and where there are not cores enough for the stages between these, the stages
    take turns on all of them. All stages then run at once, in one simulation, and share the DRAM and shared memories.
    ``beside``: machines whose cores share the DRAM of ``machine``: each may do a stage, at its own clock.
    ``residency``: whether weights and maps stay on chip (None and True: yes; False: weights are read for each image).
    ``hand_over``: "maps" (a stage begins when the maps that it reads are whole) or "rows" (when the rows are there
    that its first tile needs; between stages lie line buffers).

    Raises InputError for a number of stages that the layers or the cores do not allow, and as ``simulate_stream`` does.
    """
    if hand_over not in HAND_OVERS:
        raise unknown("hand-over", hand_over, HAND_OVERS, place="hand_over")
    kept = MappingCache() if cache is None else cache
    jobs = jobs_on(stream, machine, fuse=fuse)
    units = units_of(stream, machine, beside, fuse=fuse)
    if not beside:
        refuse_without_fallback([job.operators[0] for job in jobs if isinstance(job.layer, FallbackLayer)], machine)
    refuse_what_none_has(units, jobs)
    _check_counts(stream, jobs, units, n_stages, n_images)
    in_turn = None
    if None not in units[0].jobs:
        in_turn = simulate_stream(
            stream,
            machine,
            prefetch=prefetch,
            fuse=fuse,
            residency=residency is not False,
            attention_dataflows=attention_dataflows,
            cache=kept,
            progress=part(progress, 0, 3, before="one image after the other: "),
        )
    counts = (machine.n_cores,) if n_stages == 1 and not beside else core_counts(machine.n_cores)
    searching = part(progress, 1, 3, before="stages: ")
    costs = StageCosts(stream, jobs, units, attention_dataflows, kept, keeps=residency is not False, progress=searching)
    options = costs.options(counts)
    asked = _Asked(
        stream=stream,
        costs=costs,
        options=options,
        prefetch=prefetch,
        by_rows=hand_over == "rows",
        progress=part(progress, 2, 3, before="plan: "),
    )
    fixed = max(costs.fallback_cycles(), 0 if costs.keeps else costs.dram_cycles(counts))
    trials: list[_Trial] = []
    for partition, takes_turns in _partitions(asked, machine, n_stages, at_least=fixed):
        shortest = min((trial.steady.interval_cycles for trial in trials), default=None)
        if shortest is not None and (partition.interval >= shortest or len(trials) >= MOST_TRIALS):
            break
        trials.append(_tried(asked, partition, takes_turns))
    best = min(trials, key=lambda trial: (trial.steady.interval_cycles, trial.fill_cycles))
    if asked.by_rows and len(best.stages) > 1 and not best.takes_turns:
        best = _better_by_rows(_with_rows(asked, best), best)
    bound = max(fixed, ceil(bottleneck_bound(costs.bounds(counts), machine.n_cores)))
    if best.takes_turns or any(trial.takes_turns for trial in trials):
        bound = min(bound, max(fixed, _turn_bound(asked)))
    guess = balanced(options, machine.n_cores, len(best.stages))
    if progress is not None:
        progress(3, 3, stream.name)
    return _result(asked, best, n_images, in_turn, bound, guess, counts)


def _check_counts(
    stream: OperatorStream, jobs: Sequence[Job], units: Sequence[Unit], n_stages: int | None, n_images: int
) -> None:
    machine = units[0].machine
    if not 1 <= n_images <= MOST_IMAGES:
        raise InputError(f"images: out of range; given {n_images:,}; allowed 1 to {MOST_IMAGES:,}")
    if n_stages is None:
        return
    if n_stages < 1:
        raise InputError(f"pipeline: out of range; given {n_stages} stages; allowed 1 or more, or auto")
    if n_stages > len(jobs):
        raise InputError(
            f"pipeline: more stages than layers; given {n_stages}; allowed at most {len(jobs)}, the layers of "
            f"{stream.name} with what is fused behind them"
        )
    elsewhere = sum(isinstance(job.layer, FallbackLayer) for job in jobs)
    if n_stages > machine.n_cores + elsewhere + len(units) - 1:
        more = f" and one for each of the {elsewhere} operators on the fallback" if elsewhere else ""
        raise InputError(
            f"pipeline: more stages than cores; given {n_stages}; allowed at most {machine.n_cores} on {machine.name}, "
            f"one for each core{more}"
        )


# -- partitions --------------------------------------------------------------------------------------------


def _partitions(
    asked: _Asked, machine: MachineSpec, n_stages: int | None, *, at_least: float
) -> Iterator[tuple[Partition, bool]]:
    """The best partitions: into any number of stages, with at most so many cores for each, into a few stages and, with
    a fallback, that into turns on all cores and on the fallback (then True); the shortest interval first.
    """
    options = asked.options
    most_stages = min(len(asked.costs.jobs), machine.n_cores + len(asked.costs.units) - 1)
    found: list[tuple[float, float, int, Partition]] = []
    for most in sorted({option.n_cores for option in options} - {0}):
        asked_for = [n_stages] if n_stages is not None or most < machine.n_cores else [None, *range(1, FEW_STAGES + 1)]
        for n in asked_for:
            if n is None or n <= most_stages or n_stages is not None:
                way = best_partition(_up_to(most, options), machine.n_cores, n_stages=n, at_least=at_least)
                found += [] if way is None else [(way.interval, way.latency, 0, way)]
    turns = _turns(asked, machine)
    if len(turns.stages) > 1 and not asked.costs.units[1:] and n_stages in (None, len(turns.stages)):
        found.append((turns.interval, turns.latency, 1, turns))
    if not found:
        raise InputError(
            f"pipeline: {n_stages} stages do not come out with {machine.n_cores} cores of {machine.name}; allowed with "
            f"its fallback {len(turns.stages)}, which take turns on the cores, or auto"
        )
    seen = set()
    for _, _, takes_turns, way in sorted(found):
        if way.stages not in seen:
            seen.add(way.stages)
            yield way, bool(takes_turns)


def _up_to(most: int, options: Sequence[Option]) -> list[Option]:
    """``options`` of which those of more cores can do nothing."""
    return [one if one.n_cores <= most else replace(one, cycles=one.cycles + NEVER) for one in options]


def _turns(asked: _Asked, machine: MachineSpec) -> Partition:
    """Runs of jobs on all cores and on the fallback, one after the other: stages that take turns."""
    cores = max(range(len(asked.options)), key=lambda at: asked.options[at].n_cores)
    fallback = min(range(len(asked.options)), key=lambda at: asked.options[at].n_cores)
    choices: list[StageChoice] = []
    for at, job in enumerate(asked.costs.jobs):
        option = fallback if isinstance(job.layer, FallbackLayer) else cores
        if choices and choices[-1].option == option:
            choices[-1] = choices[-1]._replace(last=at)
        else:
            choices.append(StageChoice(at, at, option))
    cycles = [float(asked.options[one.option].cycles[one.first, one.last + 1]) for one in choices]
    of_units = [
        sum(own for own, one in zip(cycles, choices, strict=True) if one.option == unit) for unit in (cores, fallback)
    ]
    return Partition(tuple(choices), max(of_units), sum(cycles), 0.0)


def _turn_bound(asked: _Asked) -> int:
    """What the interval is at least where stages take turns on all cores."""
    machine = asked.costs.machine
    return sum(
        asked.costs.unit_cycles(job, machine) for job in asked.costs.jobs if not isinstance(job.layer, FallbackLayer)
    )


# -- exact runs --------------------------------------------------------------------------------------------


def _tried(asked: _Asked, partition: Partition, takes_turns: bool) -> _Trial:
    """``partition`` planned, mapped and run: one image, and as many as it takes to see the steady state."""
    costs = asked.costs
    handovers, kept, place = prepared_handovers(
        asked.stream, costs.jobs, partition.stages, asked.options, costs.machine, keeps=costs.keeps and not takes_turns
    )
    stages = made_ready(
        asked.stream,
        costs,
        partition.stages,
        asked.options,
        handovers,
        kept,
        place,
        prefetch=asked.prefetch,
        takes_turns=takes_turns,
        progress=asked.progress,
    )
    make = partial(_joint, asked, stages, WholeMaps(handovers), takes_turns)
    return _watched(partition, stages, handovers, kept, place, takes_turns, (), make)


def _watched(
    partition: Partition,
    stages: list[Stage],
    handovers: tuple[Handover, ...],
    kept: dict[str, int],
    place: Place,
    takes_turns: bool,
    rings: tuple[Ring, ...],
    make: Callable[[int], Joint],
) -> _Trial:
    """What one image and the steady state of these programs take."""
    alone = simulate(make(1).program)
    names = [[job.name for job in stage.jobs] for stage in stages]
    steady = steady_state(make, names, alone.n_commands, waits_inside=bool(rings))
    return _Trial(partition, stages, handovers, kept, place, takes_turns, rings, make, alone.cycles, steady)


def _better_by_rows(rows: _Trial, whole: _Trial) -> _Trial:
    """``rows``, unless images follow each other more slowly, or its first image comes no earlier and its buffers are no
    smaller than with whole maps.
    """
    if rows.steady.interval_cycles > whole.steady.interval_cycles * (1 + SLOWER):
        return whole
    largest: dict[str, tuple[int, int]] = {}
    for ring in rows.rings:
        one, (by_rows, by_maps) = ring.handover, largest.get(ring.handover.name, (0, 0))
        largest[one.name] = max(by_rows, ring.n_bytes), max(by_maps, one.n_bytes * one.n_maps)
    is_smaller = sum(a for a, _ in largest.values()) < sum(b for _, b in largest.values())
    return rows if rows.fill_cycles < whole.fill_cycles or is_smaller else whole


def _with_rows(asked: _Asked, trial: _Trial) -> _Trial:
    """The same partition with maps handed over by rows: with the smallest buffers that hardly hold it up."""
    costs, choices = asked.costs, trial.partition.stages
    longest = max(stage.alone_cycles for stage in trial.stages)
    spare = [floor(longest * (1 + SLOWER)) - stage.alone_cycles for stage in trial.stages]

    def made(kept: dict[str, int], place: Place, share: int | None) -> list[Stage]:
        return made_ready(
            asked.stream, costs, choices, asked.options, trial.handovers, kept, place,
            prefetch=asked.prefetch, takes_turns=False, progress=asked.progress,
            spare_cycles=() if share is None else [share * one for one in spare],
        )  # fmt: skip

    def on_chip(buffers: dict[str, int]) -> tuple[dict[str, int], Place]:
        _, kept, place = prepared_handovers(
            asked.stream, costs.jobs, choices, asked.options, costs.machine, keeps=costs.keeps, buffers=buffers
        )
        return kept, place

    def make(stages: list[Stage], exchange: Exchanged) -> Callable[[int], Joint]:
        return partial(_joint, asked, stages, exchange, False)

    how = HandedByRows(made=made, on_chip=on_chip, make=make, interval=trial.steady.interval_cycles)
    found = by_rows(asked.stream, trial.handovers, how, trial.kept, trial.place)
    return _watched(
        trial.partition, found.stages, trial.handovers, found.kept, found.place, False, found.rings, found.make
    )


def _joint(asked: _Asked, stages: Sequence[Stage], exchange: Exchanged, takes_turns: bool, n_images: int) -> Joint:
    """All stages at once, with what brings images over a link to a host, and takes results there."""
    costs, machine = asked.costs, asked.costs.machine
    tokens = {**exchange.tokens, FALLBACK: Token(1)}
    groups = [
        group_of(
            stage,
            f"stage {number}",
            n_images,
            exchange,
            once_cycles=costs.once,
            each_cycles=costs.each_cycles(costs.units[stage.unit]),
            takes_turns=takes_turns,
        )
        for number, stage in enumerate(stages, start=1)
    ]
    if takes_turns:
        tokens[CORES] = Token(1)
    if machine.host is not None:
        tokens[LINK] = Token(1)
        groups += _link_groups(asked, exchange, n_images)
    return join(groups, shared_channels(machine), tokens)


def _link_groups(asked: _Asked, exchange: Exchanged, n_images: int) -> list[Group]:
    """Inputs and results on the link to the host, one transfer at a time."""
    stream, machine = asked.stream, asked.costs.machine
    transfers = stream.inputs_and_outputs_bytes()
    n_in = sum(stream.tensor(name).role == "activation" for name in stream.inputs)
    found = []
    for name, job, own in ((IN, OUTSIDE, transfers[:n_in]), (OUT, len(asked.costs.jobs), transfers[n_in:])):
        waits, signals = exchange.waits_and_signals(job)
        task = Task(name=name, before_cycles=host_cycles(machine, own))
        task = replace(task, waits=(*waits, LINK), signals=(*signals, LINK))
        found.append(Group(name=name, script=(Repeat(name="images", count=n_images, body=(task,)),)))
    return found


# -- what is told ------------------------------------------------------------------------------------------


def _result(
    asked: _Asked,
    trial: _Trial,
    n_images: int,
    in_turn: NetworkResult | None,
    bound: int,
    guess: Partition | None,
    counts: Sequence[int],
) -> PipelineResult:
    machine, costs = asked.costs.machine, asked.costs
    cycles = simulate(trial.make(n_images).program).cycles
    first_core = 0
    told = []
    for number, stage in enumerate(trial.stages):
        told.append(_told(costs, stage, trial.steady, number, first_core, takes_turns=trial.takes_turns))
        first_core += 0 if stage.unit else stage.n_cores
    return PipelineResult(
        network=asked.stream.name,
        machine=machine.name,
        stages=tuple(told),
        handed_over=tuple(_handed_over(trial)),
        hand_over="rows" if trial.rings else "maps",
        n_images=n_images,
        figures=batch_figures(costs.units, trial.stages, n_images, cycles),
        fill_cycles=trial.fill_cycles,
        interval_cycles=trial.steady.interval_cycles,
        period_images=trial.steady.period_images,
        steady_latency_cycles=trial.steady.latency_cycles,
        in_turn_cycles=None if in_turn is None else in_turn.cycles,
        in_turn_dram_bytes=None if in_turn is None else in_turn.dram_bytes,
        bound_cycles=bound,
        partition_cycles=round(trial.partition.interval),
        guess_cycles=None if guess is None else round(guess.interval),
        searched=_searched(asked, trial, counts),
        takes_turns=trial.takes_turns,
        spans=trial.steady.spans,
        assumptions=_assumptions(asked, trial),
        stream=asked.stream,
        machine_spec=machine,
    )


def _handed_over(trial: _Trial) -> Iterator[HandedOver]:
    """Each hand-over with its memory and, of those on chip, its address there: one behind the other."""
    rings = {(ring.handover.name, ring.handover.read_in): ring for ring in trial.rings}
    addresses, top = {}, 0
    for name, n_bytes in trial.kept.items():
        addresses[name] = top
        top += n_bytes
    for one in trial.handovers:
        ring = rings.get((one.name, one.read_in))
        yield HandedOver(
            name=one.name,
            made_in=one.made_in,
            read_in=one.read_in,
            n_bytes=one.n_bytes,
            n_maps=one.n_maps,
            memory=trial.place if one.name in trial.kept else "dram",
            address=addresses.get(one.name),
            map_rows=None if ring is None else ring.map_rows,
            line_rows=None if ring is None else ring.n_rows,
            least_rows=None if ring is None else ring.least,
            buffer_bytes=one.n_bytes * one.n_maps if ring is None else ring.n_bytes,
        )


def _told(
    costs: StageCosts, stage: Stage, steady: Steady, number: int, first_core: int, *, takes_turns: bool
) -> StageResult:
    counters, plan = stage.counters, stage.plan
    unit = costs.units[stage.unit]
    if unit.number:
        units = unit.name
    elif not stage.n_cores:
        assert costs.machine.fallback is not None
        units = costs.machine.fallback.name
    elif takes_turns:
        units = "all cores, in turn"
    elif stage.n_cores == 1:
        units = f"core {first_core + 1}"
    else:
        units = f"cores {first_core + 1} to {first_core + stage.n_cores}"
    n_commands = sum(not isinstance(job.layer, FallbackLayer) for job in stage.jobs)
    fixed = costs.each_cycles(unit) * n_commands + (costs.once if stage.first == 0 else 0)
    return StageResult(
        first=stage.jobs[0].name,
        last=stage.jobs[-1].name,
        n_jobs=len(stage.jobs),
        units=units,
        n_cores=stage.n_cores,
        alone_cycles=stage.alone_cycles + fixed,
        work_cycles=steady.work_cycles[number],
        stay_cycles=steady.stay_cycles[number],
        bound_cycles=stage.unit_cycles + fixed,
        macs=sum(member.macs for job in stage.jobs for member in job.operators),
        weight_bytes=sum(job.weight_bytes for job in stage.jobs),
        kept_weight_bytes=stage.kept_weight_bytes,
        memory=plan.memory if plan is not None else "dram",
        dram_read_bytes=counters.dram_read_bytes,
        dram_write_bytes=counters.dram_write_bytes,
        matrix_cycles=sum(run.matrix_cycles for run in stage.runs),
        vector_cycles=sum(run.vector_cycles for run in stage.runs),
    )


def _searched(asked: _Asked, trial: _Trial, counts: Sequence[int]) -> str:
    if trial.takes_turns:
        return "runs of operators on the cores and on the fallback, in turn"
    n = len(asked.costs.jobs)
    return (
        f"all partitions of {n} layers into stages of consecutive ones, each on {_numbers(counts)}, by times "
        "alone on the chip and the DRAM's time for all (proven); the best of these were run, all stages at once"
    )


def _numbers(counts: Sequence[int]) -> str:
    if len(counts) == 1:
        return "one core" if counts[0] == 1 else f"{counts[0]} cores"
    return ", ".join(map(str, counts[:-1])) + f" or {counts[-1]} cores"


def _assumptions(asked: _Asked, trial: _Trial) -> tuple[str, ...]:
    costs, stream, machine = asked.costs, asked.stream, asked.costs.machine
    handed = (
        "maps are handed over by rows: a tile waits for the rows that it needs and, before it is stored, for room in "
        "the line buffer; rows are there, and free again, when the transfer of a tile has ended"
        if trial.rings
        else "maps are handed over whole, by layer, and a stage waits for a free map before the layer that makes one"
    )
    own = [
        f"stages run at once, each its layers one after the other for one image; {handed}",
        "every stage reaches the DRAM and the shared memories at their full bandwidth, shared fairly by the transfers "
        "of that moment; a stage has a part of the room in shared memories, by its weights and its largest map",
    ]
    if asked.by_rows and not trial.rings and len(trial.stages) > 1:
        own.append(
            "rows were asked for, but maps are handed over whole: by rows images would follow each other more than 1 % "
            "more slowly, or nothing would come earlier or take less room"
        )
    plans = list({id(stage.plan): stage.plan for stage in trial.stages if stage.plan is not None}.values())
    if plans:
        load = sum(plan.first_cycles for plan in plans)
        proven = sum(plan.proven for plan in plans)
        own.append(
            f"tensors that the stages' plans keep stay on chip, weights from image to image ({proven} of {len(plans)} "
            f"plans proven the best of their stage); loading these once, {load:,} cycles, is not in the figures"
        )
    if trial.takes_turns:
        own.append(
            "there are not cores enough for a group of its own for each stage: stages take turns on all of them, the "
            "first in the network first, when all that a stage reads is there and room for all that it makes"
        )
    if machine.host is not None:
        own.append(f"inputs and results cross {machine.host.name} one at a time, while the stages work on other images")
    if costs.units[1:]:
        own.append(
            f"beside {machine.name} and on its DRAM: {', '.join(unit.name for unit in costs.units[1:])}, each at its "
            "own clock (commands rounded up to whole cycles of the first) and with its own memories and energies"
        )
    if machine.links is not None:
        own.append("stages share the link's paths from memory as if all cores' were open to each")
    elsewhere = [job.operators[0] for job in costs.jobs if isinstance(job.layer, FallbackLayer)]
    notes = dict.fromkeys(
        text for stage in trial.stages for text in stage.assumptions if not text.startswith("independent pieces")
    )
    return (
        *own,
        *notes,
        *JOB_ASSUMPTIONS,
        *assumptions_of_kinds(stream),
        *overhead_assumptions(machine),
        *storage_assumptions(machine),
        *(
            text.replace("the cores wait, and", "other stages go on meanwhile;")
            for text in fallback_note(elsewhere, machine)
        ),
    )
