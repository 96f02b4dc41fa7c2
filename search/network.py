"""A whole network: every distinct operator at its own best mapping, run to the cycle, one after the other.

Operators follow each other with a barrier between them, as their data demands; what may cross the barrier is the
next operator's weights: with ``prefetch`` (on by default) its first weight tiles are loaded behind the current
operator's own loads, where the working buffer has room for both. That load is a command of the current operator's
program, and the next program starts with those tiles on chip; nothing is estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.energy import Counters, energy_by_component
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.objective import Objective, score
from tilewright.search.tiling import best_tiling
from tilewright.sim.attention import build_phase, evaluate, phase_tiling
from tilewright.sim.costs import TileCosts
from tilewright.sim.dataflows.gemm import first_weight_tiles
from tilewright.sim.engine import simulate
from tilewright.sim.jobs import Job, JobLayer, jobs_of
from tilewright.sim.mapping import Dataflow, Tiling, get_dataflow
from tilewright.sim.network_result import NetworkResult, OperatorResult
from tilewright.sim.program import Program
from tilewright.sim.result import SimulationResult
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.stream import OperatorStream

__all__ = ["ATTENTION_DATAFLOWS", "simulate_stream"]

Progress = Callable[[int, int, str], None]

# Tried for each attention operator; the best wins.
ATTENTION_DATAFLOWS = ("mas", "flash2")


@dataclass(frozen=True, slots=True)
class _Mapped:
    """A distinct job at its best mapping, run alone."""

    dataflow: Dataflow
    tiling: dict[str, int]
    alone: SimulationResult


@dataclass(frozen=True, slots=True)
class _Run:
    cycles: int
    counters: Counters
    busy_matrix: int
    busy_vector: int


def simulate_stream(
    stream: OperatorStream,
    machine: MachineSpec,
    *,
    objective: Objective = "latency",
    prefetch: bool = True,
    fuse: bool = True,
    attention_dataflows: Sequence[str] = ATTENTION_DATAFLOWS,
    cache: MappingCache | None = None,
    progress: Progress | None = None,
) -> NetworkResult:
    """Run ``stream`` on ``machine``; exact cycles, energy and traffic by operator and in all.

    Raises InputError for a number format that the machine cannot multiply, MappingError (with the operator's
    name) when an operator does not fit in any mapping.
    """
    kept = MappingCache() if cache is None else cache
    jobs = jobs_of(stream, n_cores=machine.n_cores, fuse=fuse)
    mapped: dict[JobLayer, _Mapped] = {}
    distinct = list(dict.fromkeys(job.layer for job in jobs))
    for at, layer in enumerate(distinct):
        job = next(job for job in jobs if job.layer == layer)
        if progress is not None:
            progress(at, len(distinct), job.name)
        mapped[layer] = _best_mapping(job, machine, objective, attention_dataflows, kept)
    if progress is not None:
        progress(len(distinct), len(distinct), stream.name)
    runs = _chain(jobs, mapped, machine, prefetch=prefetch)
    operators = tuple(
        _operator_result(job, mapped[job.layer], run, machine) for job, run in zip(jobs, runs, strict=True)
    )
    counters = sum((run.counters for run in runs), Counters())
    cycles = sum(run.cycles for run in runs)
    return NetworkResult(
        network=stream.name,
        machine=machine.name,
        operators=operators,
        cycles=cycles,
        seconds=machine.seconds(cycles),
        energy_by_component=energy_by_component(machine, counters, cycles),
        dram_read_bytes=counters.dram_read_bytes,
        dram_write_bytes=counters.dram_write_bytes,
        macs=stream.macs,
        weight_bytes=stream.weight_bytes,
        n_steps=stream.n_steps,
        n_distinct=len(distinct),
        prefetch=prefetch,
        cycles_without_prefetch=sum(mapped[job.layer].alone.cycles for job in jobs),
        assumptions=_assumptions(mapped.values(), prefetch=prefetch),
    )


def _best_mapping(
    job: Job, machine: MachineSpec, objective: Objective, attention_dataflows: Sequence[str], cache: MappingCache
) -> _Mapped:
    names = attention_dataflows if job.kind == "attention" else (job.kind,)
    best: _Mapped | None = None
    fault: MappingError | None = None
    for name in names:
        dataflow = get_dataflow(name, job.kind)
        try:
            found = _mapping(job, dataflow, machine, objective, cache)
        except MappingError as error:
            fault = error
            continue
        except InputError as error:
            raise InputError(f"{job.operators[0].path or job.name}: {error}") from None
        if best is None or _score(found, objective) < _score(best, objective):
            best = found
    if best is None:
        assert fault is not None
        raise InputError(f"{job.operators[0].path or job.name}: {fault}")
    return best


def _mapping(job: Job, dataflow: Dataflow, machine: MachineSpec, objective: Objective, cache: MappingCache) -> _Mapped:
    """The best tiling from the cache or by search; the run itself is always made."""
    dataflow.bound(job.layer, machine)  # refuses a number format that the machine cannot multiply
    key = cache.key("tiling", dataflow.name, objective, job.layer, machine)
    known = cache.get(key)
    if known is not None:
        tiling = {name: int(value) for name, value in known["tiling"].items()}
    else:
        tiling = best_tiling(dataflow, job.layer, machine, objective=objective).tiling
        cache.put(key, {"tiling": tiling})
    return _Mapped(dataflow, tiling, evaluate(dataflow, job.layer, machine, tiling))


def _score(mapped: _Mapped, objective: Objective) -> tuple[float, float]:
    return score(objective, mapped.alone.cycles, mapped.alone.energy_pj)


# -- one after the other -----------------------------------------------------------------------------------


def _chain(jobs: Sequence[Job], mapped: dict[JobLayer, _Mapped], machine: MachineSpec, *, prefetch: bool) -> list[_Run]:
    """Each job's run, given what its predecessor brought and what it brings for its successor."""
    known: dict[tuple[Any, ...], _Run] = {}
    costs: dict[JobLayer, TileCosts] = {}
    there = False
    runs = []
    for job, following in zip(jobs, [*jobs[1:], None], strict=True):
        own = mapped[job.layer]
        ahead = 0
        if prefetch and following is not None:
            ahead = _ahead_bytes(own, job, mapped[following.layer], following, machine)
        key = (job.layer, there, ahead)
        if key not in known:
            cost = costs.setdefault(job.layer, own.dataflow.costs(job.layer, machine))
            known[key] = _run(own, cost, machine, there=there, ahead_bytes=ahead)
        runs.append(known[key])
        there = ahead > 0
    return runs


def _ahead_bytes(own: _Mapped, job: Job, after: _Mapped, following: Job, machine: MachineSpec) -> int:
    """Bytes of the next operator's first weight tiles, or 0 when they cannot be brought early."""
    layer = following.layer
    if not isinstance(layer, GemmLayer) or not layer.b_is_weight or layer.groups != 1:
        return 0
    _, n_bytes = first_weight_tiles(layer, after.tiling)
    used = max(own.alone.peak_buffer_bytes.values())
    fits = used + n_bytes <= machine.buffers[0].capacity_bytes
    return n_bytes if fits else 0


def _run(own: _Mapped, costs: TileCosts, machine: MachineSpec, *, there: bool, ahead_bytes: int) -> _Run:
    tiling: Tiling = {**own.tiling, "prefetched": 1} if there else own.tiling
    cycles, counters, matrix, vector = 0, Counters(), 0, 0
    phases = own.dataflow.phases
    for phase in phases:
        last = phase is phases[-1]
        program = build_phase(phase, costs, phase_tiling(phase, tiling), ahead_bytes=ahead_bytes if last else 0)
        run = simulate(program)
        cycles += run.cycles
        counters = counters + _counters(program)
        for engine, busy in zip(program.engines, run.busy_cycles, strict=True):
            matrix += busy * engine.weight * (engine.kind == "matrix")
            vector += busy * engine.weight * (engine.kind == "vector")
    return _Run(cycles, counters, matrix, vector)


def _counters(program: Program) -> Counters:
    total = Counters()
    for engine, command, times in program.commands():
        total = total + command.cost.counters * (times * program.engines[engine].weight)
    return total


def _operator_result(job: Job, mapped: _Mapped, run: _Run, machine: MachineSpec) -> OperatorResult:
    bound = mapped.alone.lower_bound
    energy = energy_by_component(machine, run.counters, run.cycles)
    first = job.operators[0]
    return OperatorResult(
        name=first.name,
        path=first.path,
        kind=first.kind,
        fused=tuple(member.name for member in job.operators[1:]),
        dataflow=mapped.dataflow.name,
        tiling=mapped.tiling,
        cycles=run.cycles,
        macs=sum(member.macs for member in job.operators),
        energy_pj=sum(energy.values()),
        energy_by_component=energy,
        dram_read_bytes=run.counters.dram_read_bytes,
        dram_write_bytes=run.counters.dram_write_bytes,
        weight_bytes=job.weight_bytes,
        matrix_utilization=run.busy_matrix / (run.cycles * machine.n_cores),
        vector_utilization=run.busy_vector / (run.cycles * machine.n_cores),
        lower_bound=bound,
    )


def _assumptions(mapped: Any, *, prefetch: bool) -> tuple[str, ...]:
    notes: dict[str, None] = {}
    for entry in mapped:
        notes.update(dict.fromkeys(entry.alone.assumptions))
    notes["operators run one after the other; activations go through DRAM between operators that are not fused"] = None
    if prefetch:
        notes["the next operator's first weight tiles are loaded under the current one where the buffer has room"] = (
            None
        )
    return tuple(notes)
