"""The best mapping of a layer: over its dataflows, the ways to cut it for the cores, tilings and paces of ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf, nextafter
from typing import Any, NamedTuple

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.objective import Objective, score
from tilewright.search.paces import image_of
from tilewright.search.tiling import PhaseSearch, best_at_pace, better_tiling, can_beat
from tilewright.search.workload import pieces
from tilewright.sim.engine.image import pack
from tilewright.sim.engine.run import run_images
from tilewright.sim.jobs import Job, JobLayer
from tilewright.sim.lowering.evaluation import build_phase, evaluate, needed_bytes, phase_tiling
from tilewright.sim.lowering.family import family_of
from tilewright.sim.lowering.mapping import DATAFLOWS, Dataflow, Tiling, check_tiling, plain_mapping, usual_dataflows
from tilewright.sim.lowering.pace import is_pace, paces_of
from tilewright.sim.result import SimulationResult
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.gemm import GemmLayer, VectorLayer
from tilewright.workloads.homes import ALL_IN_DRAM, IN_DRAM, ROWS_IN_DRAM
from tilewright.workloads.low_rank import LowRankAttentionLayer
from tilewright.workloads.scan import ScanLayer

__all__ = ["Mapped", "Mappings", "Way", "anywhere", "best_mapping", "flows_of", "score_of"]


class Way(NamedTuple):
    """A mapping by the name of its dataflow, as it passes between processes."""

    layer: JobLayer
    dataflow: str
    tiling: dict[str, int]


@dataclass(frozen=True, slots=True)
class Mapped:
    """A distinct job at its best mapping, run alone; ``layer`` is cut for the cores."""

    layer: JobLayer
    dataflow: Dataflow
    tiling: dict[str, int]
    alone: SimulationResult

    @property
    def way(self) -> Way:
        """The mapping without its run."""
        return Way(self.layer, self.dataflow.name, self.tiling)


Mappings = Mapping[JobLayer, Mapped]


def best_mapping(
    job: Job,
    machine: MachineSpec,
    objective: Objective,
    attention_dataflows: Sequence[str],
    cache: MappingCache,
    near: Sequence[Way] = (),
) -> Mapped:
    """The best mapping of a job, over its dataflows and ways to cut it; raises InputError where none fits.

    ``near``: mappings that may be good ones, of the same layer with other homes, say; they make the search shorter, not
    its result another one.
    """
    flows = flows_of(job.layer, machine, attention_dataflows)
    ways = [(flow, cut) for flow in flows for cut in pieces(job.layer, machine, flow)]
    try:
        for flow, cut in ways:
            flow.bound(cut, machine)  # refuses a number format that the machine cannot multiply
        key = cache.key("mapping", [flow.name for flow in flows], objective, job.layer, machine)
        best = _known(cache.get(key), ways, machine)
        if best is not None:
            return best
        begin = _good_way(ways, near, machine, objective)
        found, fault = _best_of(ways, begin, machine, objective)
        if found is None and begin is not None:  # the good one is none of those that are searched
            found, fault = _best_of(ways, None, machine, objective)
    except InputError as error:
        place = job.operators[0].path or job.name
        raise InputError(f"{place}: {error}; other formats are given with --weights and --activations") from None
    if found is None:
        assert fault is not None
        raise InputError(f"{job.operators[0].path or job.name}: {fault}")
    at, best = found
    cache.put(key, {"dataflow": best.dataflow.name, "way": at, "tiling": best.tiling})
    return best


def _known(
    kept: dict[str, Any] | None, ways: Sequence[tuple[Dataflow, JobLayer]], machine: MachineSpec
) -> Mapped | None:
    """The mapping from the cache, run; None unless it is one of ``ways``."""
    at = kept.get("way") if kept is not None else None
    if kept is None or type(at) is not int or not 0 <= at < len(ways):
        return None
    dataflow, layer = ways[at]
    tiling = _known_tiling(kept, dataflow, layer) if kept.get("dataflow") == dataflow.name else None
    if tiling is None:
        return None
    with suppress(InputError):  # nothing that this house has kept; searched again
        return Mapped(layer, dataflow, tiling, evaluate(dataflow, layer, machine, tiling))
    return None


LITTLE_MORE = 1 + 1e-9  # energies of searches and of runs are added up in other orders

#: A way to map a job, by its number, and a score that it reaches.
_Begin = tuple[int, tuple[float, float]]


def _best_of(
    ways: Sequence[tuple[Dataflow, JobLayer]], begin: _Begin | None, machine: MachineSpec, objective: Objective
) -> tuple[tuple[int, Mapped] | None, MappingError | None]:
    """The best mapping and its way, of equal ones that of the first; and why one does not fit, where some do not.

    All ways are searched at full pace first: at other paces little is left that could be better than the best of all.
    """
    best: tuple[int, Mapped] | None = None
    fault: MappingError | None = None
    best_at, limit = (len(ways), None) if begin is None else (len(ways), begin[1])
    first = [] if begin is None else [begin[0]]
    searches: list[PhaseSearch] = []  # at full pace
    of_way: list[int] = []
    for at in [*first, *(at for at in range(len(ways)) if at not in first)]:
        dataflow, layer = ways[at]
        # One that is as good takes its place where it comes first.
        to_beat = limit if limit is None or at > best_at else (limit[0], nextafter(limit[1], inf))
        if to_beat is not None and not can_beat(to_beat, dataflow, layer, machine, objective):
            continue
        try:
            search = better_tiling(dataflow, layer, machine, objective=objective, to_beat=to_beat, later=searches)
        except MappingError as error:
            fault = error
            continue
        finally:
            of_way += [at] * (len(searches) - len(of_way))
        if search is None:
            continue
        found = Mapped(layer, dataflow, search.tiling, evaluate(dataflow, layer, machine, search.tiling))
        if to_beat is None or score_of(found, objective) < to_beat:
            best, best_at, limit = (at, found), at, score_of(found, objective)
    if limit is not None:
        paced = best_at_pace(searches, limit if best is not None else (nextafter(limit[0], inf), inf))
        if paced is not None:
            number, evaluated = paced
            at = of_way[number]
            dataflow, layer = ways[at]
            best = at, Mapped(layer, dataflow, evaluated.tiling, evaluate(dataflow, layer, machine, evaluated.tiling))
    return best, fault


def _good_way(
    ways: Sequence[tuple[Dataflow, JobLayer]], near: Sequence[Way], machine: MachineSpec, objective: Objective
) -> _Begin | None:
    """The best of those ``near`` as one of the ``ways``."""
    known: list[tuple[int, int, Way]] = []  # by cycles, where these are what counts
    for own in near:
        for at, (dataflow, layer) in enumerate(ways):
            if dataflow.name == own.dataflow and anywhere(layer) == anywhere(own.layer):
                with suppress(InputError):
                    cycles = _cycles(dataflow, layer, machine, own.tiling) if objective == "latency" else 0
                    known.append((cycles, at, own))
    least = min((cycles for cycles, _, _ in known), default=0)
    best: _Begin | None = None
    for cycles, at, own in known:
        if cycles == least:
            with suppress(InputError):
                run = evaluate(*ways[at], machine, own.tiling)
                reached = score(objective, run.cycles, run.energy_pj)
                if best is None or reached < best[1]:
                    best = at, reached
    if best is None:
        return None
    at, (first, second) = best
    return at, (first if objective == "latency" else first * LITTLE_MORE, second * LITTLE_MORE)


def _cycles(dataflow: Dataflow, layer: JobLayer, machine: MachineSpec, tiling: Tiling) -> int:
    """Of the exact run of a mapping. Raises InputError where it is none, MappingError where it does not fit."""
    layer, tiling = plain_mapping(dataflow, layer, tiling)
    costs = dataflow.costs(layer, machine)
    images = []
    for phase in dataflow.phases:
        own = phase_tiling(phase, tiling)
        if not paces_of(own):
            needed_bytes(phase, costs, own)
        images.append(pack(build_phase(phase, costs, own))[0] if paces_of(own) else image_of(phase, costs, own))
    return int(run_images(images).sum())


def anywhere(layer: JobLayer) -> JobLayer:
    """``layer`` with everything in the DRAM."""
    if isinstance(layer, GemmLayer):
        return replace(layer, homes=IN_DRAM)
    if isinstance(layer, AttentionLayer):
        return replace(layer, homes=ALL_IN_DRAM)
    if isinstance(layer, VectorLayer | ScanLayer | LowRankAttentionLayer):
        return replace(layer, homes=ROWS_IN_DRAM)
    return layer


def flows_of(layer: JobLayer, machine: MachineSpec, names: Sequence[str]) -> tuple[Dataflow, ...]:
    """The dataflows of an operator of a network: those of ``names`` that run it on ``machine``, else the usual ones."""
    family = family_of(layer)
    named = [DATAFLOWS.get(name) for name in names]
    own = tuple(
        flow
        for flow in named
        if flow.operator == family.operator and flow.can_take(layer) and not flow.refusal(layer, machine)
    )
    if own:
        return own
    if family.in_networks:
        known = (DATAFLOWS.get(name) for name in family.in_networks)
        return tuple(flow for flow in known if flow.can_take(layer) and not flow.refusal(layer, machine))
    return usual_dataflows(layer, machine)


def _known_tiling(kept: dict[str, Any], dataflow: Dataflow, layer: JobLayer) -> dict[str, int] | None:
    """A tiling from the cache, None unless it is one for this dataflow and layer."""
    tiling = kept.get("tiling")
    if not isinstance(tiling, dict):
        return None
    if {name for name in tiling if not is_pace(name)} != {parameter.name for parameter in dataflow.parameters}:
        return None
    if not all(type(value) is int for value in tiling.values()):
        return None
    try:
        check_tiling(dataflow, layer, tiling)
    except InputError:
        return None
    return tiling


def score_of(mapped: Mapped, objective: Objective) -> tuple[float, float]:
    """The figure to minimise, and the one that decides between equals."""
    return score(objective, mapped.alone.cycles, mapped.alone.energy_pj)
