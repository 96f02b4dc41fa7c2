"""A layer on a machine: the programs of a mapping, their exact run, and the typed result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

from tilewright.errors import MappingError
from tilewright.hw_models.dram import bytes_per_cycle, dram_rate, port_names
from tilewright.hw_models.links import link_assumptions
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.engine.program import MAX_WORK_UNITS, Program, ProgramBuilder, exact_shares
from tilewright.sim.engine.run import simulate
from tilewright.sim.engine.trace import TraceCommand, TraceWindow, trace_program
from tilewright.sim.figures import figures_of
from tilewright.sim.lowering.core import BuffersDeclared, TileCore, WorkCounter, WorkTotals
from tilewright.sim.lowering.costs import ASSUMPTIONS, TileCosts, Work
from tilewright.sim.lowering.family import family_of
from tilewright.sim.lowering.levels import DRAM_CHANNEL, channels_by_share, levels_of
from tilewright.sim.lowering.mapped_work import MappedWork, mapped_work
from tilewright.sim.lowering.mapping import Dataflow, Layer, Phase, Tiling, plain_mapping
from tilewright.sim.lowering.pace import costs_at, name_of, pace_note, paces_of, split
from tilewright.sim.result import LengthLimit, SearchSummary, SimulationResult

__all__ = [
    "AHEAD_LABEL",
    "Ahead",
    "CoreShare",
    "build_phase",
    "core_shares",
    "count_phase",
    "evaluate",
    "fits",
    "needed_bytes",
    "needed_rooms",
    "phase_tiling",
    "timed_result",
    "trace_mapping",
    "unmodelled",
]

AHEAD_LABEL = "load next weights"
SHARED_NOTE = " (or what the dataflow brings once for several of them)"


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreShare:
    """``n_cores`` identical cores in lock step, each with ``n_groups`` pieces of the layer; ``share``: which, where
    these are not alike.
    """

    n_groups: int
    n_cores: int
    share: Any = None


def core_shares(layer: Layer, machine: MachineSpec, tiling: Tiling | None = None) -> tuple[CoreShare, ...]:
    """How the pieces of a layer (kv heads, say) are dealt out to the cores: as evenly as whole pieces allow.

    Cores beyond the number of pieces stay idle. ``tiling``: where pieces are not alike, how they go may hang on it.
    """
    if getattr(layer, "blocks", None) is not None:
        deal = family_of(layer).dealt
        return tuple(
            CoreShare(n_groups=sum(count for _, count in share), n_cores=n_cores, share=share)
            for share, n_cores in deal(layer, machine.n_cores, tiling or {})
        )
    groups = layer.n_groups
    base, extra = divmod(groups, machine.n_cores)
    shares = [
        CoreShare(n_groups=base + 1, n_cores=extra),
        CoreShare(n_groups=base, n_cores=machine.n_cores - extra),
    ]
    return tuple(share for share in shares if share.n_cores and share.n_groups)


def phase_tiling(phase: Phase, tiling: Tiling) -> dict[str, int]:
    """The part of ``tiling`` that belongs to ``phase``, the pace of its ports included."""
    own = {parameter.name: tiling[parameter.name] for parameter in phase.parameters}
    paces = {name: value for name, value in tiling.items() if name.startswith(name_of(phase.name, ""))}
    return own | paces


class Ahead(NamedTuple):
    """What each core loads behind its own loads for the operator that comes next, and the room that it takes."""

    n_bytes: int
    loads: tuple[Work, ...]


def build_phase(
    phase: Phase, costs: TileCosts, tiling: Tiling, *, unroll: bool = False, ahead: Ahead | None = None
) -> Program:
    """The program of one phase on all the cores, with the loads ``ahead`` of the next operator, at its pace.

    Raises MappingError when it does not fit, InputError for the pace of a port that the machine has not.
    """
    tiling, pace = split(phase.name, tiling)
    costs = costs_at(costs, pace)
    shares = core_shares(costs.layer, costs.machine, tiling)
    engines = [
        engine
        for i, share in enumerate(shares)
        for engine in phase.core.engines_for(costs, tiling, share.n_cores, f" {i + 1}" if len(shares) > 1 else "")
    ]
    channels, numbers = channels_by_share(
        costs.machine, phase.core.channels(costs, tiling), [share.n_cores for share in shares]
    )
    builder = ProgramBuilder(engines, channels, unroll=unroll)
    for i, share in enumerate(shares):
        builder.buffer_bytes = {}  # what one core holds; the shares differ only in how many heads they do
        suffix = f" {i + 1}" if len(shares) > 1 else ""
        core = phase.core(
            costs,
            n_groups=share.n_groups,
            builder=builder,
            first_engine=len(engines) // len(shares) * i,
            name=suffix,
            channels=numbers[i] if len(channels) > 1 else (),
        )
        core.share = share.share
        core.n_working = sum(one.n_cores for one in shares)
        if ahead is not None:
            core.reserve("next weights", ahead.n_bytes, holds="weights")
        phase.lower(core, tiling)
        for work in ahead.loads if ahead is not None else ():
            core.load(work, label=AHEAD_LABEL)
    return builder.build()


def count_phase(phase: Phase, costs: TileCosts, tiling: Tiling) -> WorkTotals:
    """Work of one phase without running it: of the busiest core's units, and of all cores' bytes and energy.

    Raises MappingError when it does not fit.
    """
    most: WorkTotals | None = None
    n_bytes, energy_pj = 0, 0.0
    level_bytes: dict[int, int] = {}
    shares = core_shares(costs.layer, costs.machine, tiling)
    for share in shares:
        counter = WorkCounter()
        core = phase.core(costs, n_groups=share.n_groups, builder=counter)
        core.share = share.share
        core.n_working = sum(one.n_cores for one in shares)
        phase.lower(core, tiling)
        work = counter.totals()
        most = most or work  # the first share has the most heads
        n_bytes += work.channel_bytes * share.n_cores
        energy_pj += work.energy_pj * share.n_cores
        for shared in counter.shared.values():
            n_bytes += shared.channel_bytes * share.n_cores // shared.n_cores
            energy_pj += shared.energy_pj * share.n_cores / shared.n_cores
            for channel, moved in shared.n_bytes.items():
                if channel != DRAM_CHANNEL:
                    known = level_bytes.get(channel, 0)
                    level_bytes[channel] = known + moved * share.n_cores // shared.n_cores
        for channel, moved in work.level_bytes:
            level_bytes[channel] = level_bytes.get(channel, 0) + moved * share.n_cores
    assert most is not None
    totals = tuple(sorted(level_bytes.items()))
    return most._replace(channel_bytes=n_bytes, energy_pj=energy_pj, level_bytes=totals)


def fits(phase: Phase, costs: TileCosts, tiling: Tiling, *, ahead_bytes: int = 0) -> bool:
    """Whether the buffers of the phase fit, beside weights of the next operator (much cheaper than building it)."""
    try:
        _declare(phase, costs, tiling, ahead_bytes)
    except MappingError:
        return False
    return True


def needed_bytes(phase: Phase, costs: TileCosts, tiling: Tiling) -> int:
    """Bytes of the working buffer that the phase takes; raises MappingError when it does not fit."""
    return _declare(phase, costs, tiling).used_bytes


def needed_rooms(dataflow: Dataflow, layer: Layer, machine: MachineSpec, tiling: Tiling) -> dict[str, int]:
    """Bytes that the tiles of a mapping take in each memory on chip, besides what a plan holds there.

    Raises MappingError when they do not fit.
    """
    costs = dataflow.costs(layer, machine)
    rooms: dict[str, int] = {}
    for phase in dataflow.phases:
        core = _declare(phase, costs, phase_tiling(phase, tiling))
        near = core.used_bytes - costs.held_bytes(costs.working.name)
        for name, n_bytes in ((costs.working.name, near), *core.staged_bytes.items()):
            rooms[name] = max(rooms.get(name, 0), n_bytes)
    return rooms


def _declare(phase: Phase, costs: TileCosts, tiling: Tiling, ahead_bytes: int = 0) -> TileCore[Any]:
    core = phase.core(costs, n_groups=1, builder=WorkCounter())
    if ahead_bytes:
        core.reserve("next weights", ahead_bytes, holds="weights")
    core.only_declare = True
    with contextlib.suppress(BuffersDeclared):
        phase.lower(core, tiling)
    return core


# -- one mapping -------------------------------------------------------------------------------------------


def evaluate(
    dataflow: Dataflow,
    layer: Layer,
    machine: MachineSpec,
    tiling: Tiling,
    *,
    search: SearchSummary | None = None,
    limit: LengthLimit | None = None,
) -> SimulationResult:
    """Run ``layer`` on ``machine`` with ``dataflow`` and a complete ``tiling``; all figures are exact.

    Raises InputError for an unknown or illegal tile and MappingError when the buffers do not hold it.
    """
    layer, tiling = plain_mapping(dataflow, layer, tiling)
    known: Any = layer  # with a hash
    costs = _known_costs(dataflow.costs, known, machine)
    programs = [build_phase(p, costs, phase_tiling(p, tiling)) for p in dataflow.phases]
    cycles = sum(simulate(program).cycles for program in programs)
    return timed_result(dataflow, layer, machine, tiling, cycles, mapped_work(programs), search=search, limit=limit)


@lru_cache(maxsize=8)
def _known_costs(costs: Callable[[Any, MachineSpec], TileCosts], layer: Any, machine: MachineSpec) -> TileCosts:
    """The costs of a layer on a machine, with what was asked of them before: often one mapping follows another."""
    return costs(layer, machine)


def timed_result(
    dataflow: Dataflow,
    layer: Layer,
    machine: MachineSpec,
    tiling: Tiling,
    cycles: int,
    work: MappedWork,
    *,
    search: SearchSummary | None = None,
    limit: LengthLimit | None = None,
) -> SimulationResult:
    """The result of a mapping that does ``work`` in ``cycles``, both known from its exact run."""
    return SimulationResult(
        workload=layer.name,
        machine=machine.name,
        dataflow=dataflow.name,
        tiling={parameter.name: tiling[parameter.name] for parameter in dataflow.parameters} | paces_of(tiling),
        figures=figures_of(
            machine, work.counters, cycles, matrix_cycles=work.matrix_cycles, vector_cycles=work.vector_cycles
        ),
        buffer_read_bytes=dict(work.counters.buffer_read_bytes),
        buffer_write_bytes=dict(work.counters.buffer_write_bytes),
        dram_utilization=float(Fraction(work.channel_bytes) / (dram_rate(machine) * cycles)),
        peak_buffer_bytes={machine.working_buffer.name: work.peak_buffer_bytes},
        lower_bound=dataflow.bound(layer, machine),
        length_limit=limit,
        assumptions=(*_pace_notes(dataflow, tiling), *_assumptions(dataflow, layer, machine, tiling)),
        search=search,
        layer=layer,
        machine_spec=machine,
    )


def _pace_notes(dataflow: Dataflow, tiling: Tiling) -> list[str]:
    """That ports are slowed down, where they are."""
    note = pace_note(tuple(phase.name for phase in dataflow.phases), tiling)
    return [note] if note else []


def _assumptions(dataflow: Dataflow, layer: Layer, machine: MachineSpec, tiling: Tiling) -> tuple[str, ...]:
    """Everything taken for granted in this result, in sentences."""
    notes = [*machine.stated, *ASSUMPTIONS, *dataflow.family.assumptions(layer), *dataflow.assumptions]
    if machine.dram.detail == "bandwidth":
        ways = "shared fairly by load and store" if len(port_names(machine)) == 1 else "of a port for each way"
        notes.append(f"DRAM: first-access latency, then full bandwidth, {ways}")
    else:
        notes.append(f"DRAM: row-buffer timing of {machine.dram.grade}, tile by tile")
    notes += link_assumptions(machine)
    if machine.working_buffer.parts:
        names = ", ".join(f"{part.name} ({', '.join(part.holds)})" for part in machine.working_buffer.parts)
        notes.append(
            f"operands have parts of {machine.working_buffer.name} of their own: {names}; vector work and transfers "
            "pass the ports of the whole, a byte costs the same energy in every part"
        )
    notes += unmodelled(machine, fills_buffers=dataflow.fills_buffers)
    unit = machine.matrix
    if unit.block is None and unit.fill_drain != "hidden" and dataflow.family.uses_array:
        notes.append(
            "a product may use a part of the array, which alone is then filled and drained"
            if unit.partial_use
            else "every product fills and drains the whole array, however little of it is used (matrix.partial_use)"
        )
    shares = core_shares(layer, machine, tiling)
    notes += _rounding(machine, shares)
    if machine.n_cores > 1:
        pieces = "rows of lists" if shares[0].share else "heads, groups, cuts"
        dealt = ", ".join(f"{share.n_cores} cores x {share.n_groups}" for share in shares)
        notes.append(
            f"independent pieces ({pieces}) are dealt out to the cores whole: {dealt}; each loads its own "
            f"operands{SHARED_NOTE if dataflow.fills_buffers else ''}, and they share the DRAM channel fairly"
        )
    return tuple(notes)


def unmodelled(machine: MachineSpec, *, fills_buffers: bool = False) -> list[str]:
    """What the machine has and the schedules of cores do not use, in sentences.

    ``fills_buffers``: a dataflow that keeps operands in far buffers. Levels in which a plan keeps tensors are used.
    """
    notes = []
    used = {level.name for level in levels_of(machine)} if machine.residency != "none" else set()
    far = ", ".join(buffer.name for buffer in machine.buffers[1:] if buffer.name not in used)
    if far and not fills_buffers:
        notes.append(
            f"nothing is kept in buffers behind {machine.working_buffer.name} ({far}): every byte from and to DRAM "
            "passes through them, which costs energy and no time; their capacity and bandwidth change nothing"
        )
    return notes


def _rounding(machine: MachineSpec, shares: Sequence[CoreShare]) -> list[str]:
    """Says that shares of the DRAM may be rounded, where a tile as large as the working buffer would need more bits."""
    weights = tuple(share.n_cores for share in shares for _ in ("load", "store"))
    rate, capacity = bytes_per_cycle(machine), machine.working_buffer.capacity_bytes
    exact = max(rate.denominator * capacity, rate.numerator) * exact_shares(weights)
    if exact <= MAX_WORK_UNITS:
        return []
    return [
        "DRAM: bandwidth over clock is no short fraction of bytes a cycle: a transfer's share of it is rounded down "
        "where 60 bits do not hold it exactly (by less than one part in a million for transfers of up to 10^11 cycles)"
    ]


def trace_mapping(
    dataflow: Dataflow, layer: Layer, machine: MachineSpec, tiling: Tiling, *, max_commands: int = 4000
) -> TraceWindow:
    """The first ``max_commands`` commands of each phase, phases one after the other."""
    layer, tiling = plain_mapping(dataflow, layer, tiling)
    costs = dataflow.costs(layer, machine)
    commands: list[TraceCommand] = []
    engines: tuple[str, ...] = ()
    offset, complete = 0, True
    for phase in dataflow.phases:
        program = build_phase(phase, costs, phase_tiling(phase, tiling))
        window = trace_program(program, clock_ghz=machine.clock_ghz, max_commands=max_commands // len(dataflow.phases))
        engines = window.engines
        commands += [
            TraceCommand(
                start=c.start + offset,
                end=c.end + offset,
                engine=c.engine,
                label=c.label,
                kind=c.kind,
                n_bytes=c.n_bytes,
            )
            for c in window.commands
        ]
        offset += window.total_cycles
        complete = complete and window.complete
    return TraceWindow(
        commands=tuple(commands),
        engines=engines,
        clock_ghz=machine.clock_ghz,
        total_cycles=offset,
        complete=complete,
    )
