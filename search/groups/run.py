"""A network on unlike groups of cores: placed with proof, run at once on one DRAM, told operator by operator.

Candidates are the proven placement, operator by operator in order, each operator where it costs least, and each group
alone; each is run to the cycle with and without weights ahead, and the best run counts. So the result is never slower
than the main group alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import ceil

from tilewright.hw_models.energy import Counters, energy_by_component
from tilewright.hw_models.overheads import host_assumptions, host_cycles, overhead_assumptions, overhead_cycles
from tilewright.hw_models.spec import EVERYTHING, MachineSpec
from tilewright.progress import Progress, part
from tilewright.search.groups.exact import Ready, made_ready, spans_of
from tilewright.search.groups.handed import shared_level, with_hand_over
from tilewright.search.groups.place import Placement, cheapest, in_order, on_one_group, shortest
from tilewright.search.groups.prepare import Prepared, prepared
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.objective import Objective, score
from tilewright.search.pipeline.units import Unit
from tilewright.sim.dataflows.gemm.engines import engine_use
from tilewright.sim.figures import Figures, figures_of
from tilewright.sim.groups_result import GroupUse, OnGroups
from tilewright.sim.jobs import JOB_ASSUMPTIONS, assumptions_of_kinds, storage_assumptions
from tilewright.sim.lacking import fallback_note
from tilewright.sim.network_result import NetworkResult, OperatorResult
from tilewright.sim.result import LowerBound
from tilewright.workloads.fallback import FallbackLayer
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["simulate_on_groups"]

NOTHING = Counters()
MOST_LONGER = 1.5  # candidates that are so much longer than the shortest without contention are not run


def simulate_on_groups(
    stream: OperatorStream,
    machine: MachineSpec,
    *,
    objective: Objective,
    prefetch: bool,
    fuse: bool,
    attention_dataflows: Sequence[str],
    widen: bool,
    cache: MappingCache,
    progress: Progress | None,
    n_processes: int | None,
) -> NetworkResult:
    """``stream`` on all groups of ``machine``; parameters and errors as of ``simulate_stream``."""

    def prepare(spec: MachineSpec, told: Progress | None) -> Prepared:
        return prepared(
            stream,
            spec,
            objective=objective,
            fuse=fuse,
            widen=widen,
            attention_dataflows=attention_dataflows,
            cache=cache,
            n_processes=n_processes,
            progress=told,
        )

    def hand_over(placement: Placement) -> Prepared:
        return with_hand_over(
            ready, placement, objective=objective, attention_dataflows=attention_dataflows, cache=cache
        )

    ready = prepare(machine, part(progress, 0, 2))
    if progress is not None:
        progress(1, 2, "placing operators on groups")
    best = shortest(ready)
    alone = on_one_group(ready, 0)
    main = None
    if alone is not None:  # with the whole of what groups would share
        own = prepare(replace(machine, groups={}), None) if shared_level(machine) else ready
        ways = (True, False) if prefetch else (False,)
        main = min((made_ready(own, alone, prefetch=each) for each in ways), key=lambda one: one.cycles)
    made = _best_run(ready, best, main, hand_over, objective, prefetch=prefetch)
    if progress is not None:
        progress(2, 2, stream.name)
    return _result(ready, best, made, main, objective, prefetch=prefetch, widen=widen)


def _best_run(
    ready: Prepared,
    best: Placement,
    main: Ready | None,
    hand_over: Callable[[Placement], Prepared],
    objective: Objective,
    *,
    prefetch: bool,
) -> Ready:
    """The placement that is best as it runs; of equal ones the first. ``main``: the main group alone."""
    others = [on_one_group(ready, unit.number) for unit in ready.units[1:]]
    rivals = [best, in_order(ready), *(one for one in others if one is not None)]
    if objective != "latency":
        rivals.insert(0, cheapest(ready, _cost(ready, objective)))
    distinct = {one.key: one for one in reversed(rivals)}
    shortest_cycles = min(one.cycles for one in distinct.values())
    ways = (True, False) if prefetch else (False,)
    runs: list[Ready] = []

    def value(run: Ready) -> tuple[float, float]:
        return score(objective, run.cycles, _energy_pj(ready, run))

    for placement in dict.fromkeys(distinct[one.key] for one in rivals):
        is_near = placement.cycles <= MOST_LONGER * shortest_cycles
        if objective == "latency" and not is_near:
            continue
        runs += [made_ready(ready, placement, prefetch=each) for each in ways]
    found = min(runs, key=value)
    for placement in dict.fromkeys((found.placement, runs[0].placement)):
        handed = hand_over(placement)
        if handed is not ready:
            runs += [made_ready(handed, placement, prefetch=each) for each in ways]
    return min([*runs, main] if main is not None else runs, key=value)


def _cost(ready: Prepared, objective: Objective) -> Callable[[int, int], float]:
    def cost(number: int, unit: int) -> float:
        cycles = ready.ticks(number, unit)
        energy = sum(_dynamic(ready.units[unit], mapped_counters(ready, number, unit)).values())
        constant = sum(energy_by_component(ready.machine, NOTHING, cycles).values())
        return score(objective, cycles, energy + constant)[0]

    return cost


def mapped_counters(ready: Prepared, number: int, unit: int) -> Counters:
    """What a job does on a group."""
    from tilewright.search.network import runs_in_turn

    one = ready.options[number][unit]
    (run,) = runs_in_turn([one.job], {one.job.layer: one.mapped}, ready.units[unit].machine, prefetch=False)
    return run.counters


def _energy_pj(ready: Prepared, run: Ready) -> float:
    parts = energy_by_component(ready.machine, NOTHING, run.cycles)
    own = [_dynamic(ready.units[job.unit], one.booked) for job, one in zip(run.placement.jobs, run.runs, strict=True)]
    return sum(parts.values()) + sum(sum(one.values()) for one in own)


def _dynamic(unit: Unit, counters: Counters) -> dict[str, float]:
    """Energy of actions on a group: its own parts by its name (those of the main one as they are), and DRAM."""
    found = energy_by_component(unit.machine, counters, 0)
    if not unit.number:
        return found
    memory = unit.machine.weights.memory
    shared = ("dram", "static", *([memory.name] if memory is not None else ()))
    return {name if name in shared else f"{unit.machine.main} {name}": pj for name, pj in found.items()}


# -- what is told ------------------------------------------------------------------------------------------


def _result(
    ready: Prepared,
    best: Placement,
    made: Ready,
    main: Ready | None,
    objective: Objective,
    *,
    prefetch: bool,
    widen: bool,
) -> NetworkResult:
    stream, machine = ready.stream, ready.machine
    once, each = overhead_cycles(machine)
    host = host_cycles(machine, stream.inputs_and_outputs_bytes())
    fixed = once + host
    spans = spans_of(made)
    operators = _operators(made.prepared, made, spans, fixed)
    without = made if not made.prefetch else made_ready(made.prepared, made.placement, prefetch=False)
    elsewhere = energy_by_component(machine, NOTHING, fixed)
    return NetworkResult(
        network=stream.name,
        machine=machine.name,
        operators=operators,
        figures=_figures(ready, made, fixed),
        macs=stream.macs,
        weight_bytes=stream.weight_bytes,
        n_steps=stream.n_steps,
        n_distinct=len(
            {(job.unit, made.prepared.options[at][job.unit].job.layer) for at, job in enumerate(made.placement.jobs)}
        ),
        prefetch=prefetch,
        cycles_without_prefetch=fixed + without.cycles,
        assumptions=_assumptions(ready, made, prefetch=prefetch, widen=widen),
        objective=objective,
        inference_overhead_cycles=once,
        layer_overhead_cycles=each,
        host_cycles=host,
        overhead_energy_pj=sum(elsewhere.values()),
        stream=stream,
        machine_spec=machine,
        on_groups=_on_groups(ready, best, made, main, spans, objective),
        bound_cycles=fixed + _longest_way(ready, made, operators),
    )


def _figures(ready: Prepared, made: Ready, fixed: int) -> Figures:
    """All groups together; units are busy over all cores that have them."""
    machine, cycles = ready.machine, made.cycles + fixed
    counters = sum((run.counters for run in made.runs), NOTHING)
    parts = energy_by_component(machine, NOTHING, cycles)
    matrix = vector = 0.0
    for job, run in zip(made.placement.jobs, made.runs, strict=True):
        unit = ready.units[job.unit]
        for name, pj in _dynamic(unit, run.booked).items():
            parts[name] = parts.get(name, 0.0) + pj
        matrix += float(run.matrix_cycles * unit.scale)
        vector += float(run.vector_cycles * unit.scale)
    cores = sum(unit.machine.n_cores for unit in ready.units if EVERYTHING not in unit.machine.lacks)
    whole = max(1, cycles * cores)
    plain = figures_of(machine, NOTHING, cycles, matrix_cycles=0, vector_cycles=0)
    return replace(
        plain,
        energy_by_component=parts,
        dram_read_bytes=counters.dram_read_bytes,
        dram_write_bytes=counters.dram_write_bytes,
        weight_memory_bytes=counters.weight_memory_bytes,
        matrix_utilization=matrix / whole,
        vector_utilization=vector / whole,
    )


def _operators(
    ready: Prepared, made: Ready, spans: Sequence[tuple[int, int]], fixed: int
) -> tuple[OperatorResult, ...]:
    """Each operator as it ran; constant power of the whole time is dealt to them by their cycles."""
    machine = ready.machine
    constant = energy_by_component(machine, NOTHING, made.cycles)
    total = sum(end - start for start, end in spans) or 1
    found = []
    for number, (start, end) in enumerate(spans):
        placed, run = made.placement.jobs[number], made.runs[number]
        unit, cycles = ready.units[placed.unit], end - start
        one = ready.options[number][placed.unit]
        parts = _dynamic(unit, run.booked)
        for name, pj in constant.items():
            if pj:
                parts[name] = parts.get(name, 0.0) + pj * cycles / total
        figures = figures_of(
            unit.machine,
            run.booked,
            max(1, ceil(cycles / unit.scale)),
            matrix_cycles=run.matrix_cycles,
            vector_cycles=run.vector_cycles,
        )
        first = one.job.operators[0]
        found.append(
            OperatorResult(
                name=first.name,
                path=first.path,
                kind=first.kind,
                fused=tuple(member.name for member in one.job.operators[1:]),
                dataflow=one.mapped.dataflow.name,
                tiling=one.mapped.tiling,
                figures=replace(figures, cycles=cycles, seconds=machine.seconds(cycles), energy_by_component=parts),
                macs=sum(member.macs for member in one.job.operators),
                weight_bytes=one.job.weight_bytes,
                lower_bound=_bound(one.mapped.alone.lower_bound, unit, run.early_bytes, ready),
                early_weight_bytes=run.early_bytes,
                hidden_weight_bytes=run.early_bytes,
                core_group=unit.machine.main,
                start_cycle=fixed + start,
            )
        )
    return tuple(found)


def _bound(bound: LowerBound, unit: Unit, early_bytes: int, ready: Prepared) -> LowerBound:
    """The bound of a job in cycles of the main group's clock, without the bytes that came before it began."""
    from tilewright.hw_models.dram import bytes_per_cycle

    parts = {name: ceil(getattr(bound, name) * unit.scale) for name in bound.__dataclass_fields__}
    parts["dram_cycles"] = max(0, parts["dram_cycles"] - ceil(early_bytes / bytes_per_cycle(ready.machine)))
    return LowerBound(**parts)


def _longest_way(ready: Prepared, made: Ready, operators: Sequence[OperatorResult]) -> int:
    """The longest way through the network by the operators' bounds on their groups."""
    ends: list[int] = []
    for number, operator in enumerate(operators):
        before = max((ends[source] for source in ready.before[number]), default=0)
        ends.append(before + ready.each_cycles[made.placement.jobs[number].unit] + operator.lower_bound.cycles)
    return max(ends, default=0)


def _on_groups(
    ready: Prepared,
    best: Placement,
    made: Ready,
    main: Ready | None,
    spans: Sequence[tuple[int, int]],
    objective: Objective,
) -> OnGroups:
    groups = []
    for unit in ready.units:
        own = made.placement.order(unit.number)
        groups.append(
            GroupUse(
                name=unit.machine.main,
                n_cores=1 if EVERYTHING in unit.machine.lacks else unit.machine.n_cores,
                clock_ghz=unit.machine.clock_ghz,
                n_operators=len(own),
                macs=sum(member.macs for number in own for member in ready.jobs[number].operators),
                cycles=sum(spans[number][1] - spans[number][0] for number in own),
            )
        )
    is_placed_for_it = objective == "latency"
    return OnGroups(
        groups=tuple(groups),
        schedule_cycles=made.placement.cycles,
        exact_cycles=made.cycles,
        best_cycles=best.cycles if is_placed_for_it else 0,
        bound_cycles=best.bound if is_placed_for_it else 0,
        main_alone_cycles=None if main is None else main.cycles,
        handed_in=shared_level(ready.machine) if made.prepared.handed else "",
        n_handed=len(made.prepared.handed),
        handed_bytes=sum(one.n_bytes for one in made.prepared.handed),
    )


def _assumptions(ready: Prepared, made: Ready, *, prefetch: bool, widen: bool) -> tuple[str, ...]:
    machine = ready.machine
    chosen = [
        (ready.units[job.unit], made.prepared.options[number][job.unit])
        for number, job in enumerate(made.placement.jobs)
    ]
    own: dict[str, None] = {}
    for _, one in chosen:
        own.update(dict.fromkeys(one.mapped.alone.assumptions))
    said = [
        f"each operator runs on one of the groups {', '.join(machine.group_names)}, one at a time on each, as its best "
        "mapping alone there; which and in which order is the schedule that is shortest without contention, or a "
        "simpler one where that runs faster, all groups in one simulation that share the DRAM",
        f"what one operator hands to another goes through the DRAM{_shared_text(made)}, at no further cost",
        "cycles are those of the main group's clock, commands of another clock rounded up; constant power of the whole "
        "time is dealt to the operators by their cycles",
        *JOB_ASSUMPTIONS,
        *assumptions_of_kinds(ready.stream),
    ]
    if widen:
        said.append("a product in a format that the array lacks is done in the narrowest that holds its values")
    if prefetch and made.prefetch:
        said.append(
            "the first weight tiles of a group's next operator are loaded under its current one where the buffer has "
            "room; their bytes and energy are booked with the operator that uses them"
        )
    return (
        *own,
        *said,
        *_by_group(ready, chosen_layers=[(unit, one.mapped.layer) for unit, one in chosen]),
        *overhead_assumptions(machine),
        *storage_assumptions(machine),
        *host_assumptions(machine),
    )


def _shared_text(made: Ready) -> str:
    if not made.prepared.handed:
        return ""
    place = shared_level(made.prepared.machine)
    return (
        f" or lives in {place}, of which half is for that and the rest in equal parts for the tiles of the groups that "
        "reach it"
    )


def _by_group(ready: Prepared, chosen_layers: Sequence[tuple[Unit, object]]) -> list[str]:
    """Notes on engines of a group, and on processors of a published rate."""
    found: list[str] = []
    of_unit: Mapping[int, list[object]] = {
        unit.number: [layer for other, layer in chosen_layers if other is unit] for unit in ready.units
    }
    for unit in ready.units:
        layers = of_unit[unit.number]
        plain = [layer for layer in layers if not isinstance(layer, FallbackLayer)]
        found += engine_use(plain, unit.machine)
        cpu = unit.machine.fallback
        if cpu is not None and EVERYTHING in unit.machine.lacks and layers:
            found.append(
                f"{unit.machine.main} is {cpu.name} at {cpu.giga_operations_per_s:g} x 10^9 operations a second or "
                f"{cpu.bandwidth_gb_per_s:g} GB/s, whichever is slower, and {cpu.per_operator_us:g} us a command; "
                "its bytes take nothing of the DRAM's bandwidth from the others, and its own energy is not counted"
            )
        elif not unit.number:
            jobs = [job for job in unit.jobs if job is not None and isinstance(job.layer, FallbackLayer)]
            found += fallback_note([job.operators[0] for job in jobs], unit.machine) if len(plain) < len(layers) else ()
    return found
