"""The latency/energy front of a workload: fronts of its operators, exact, added up without losing what can win.

Cycles and energies of operators that run one after the other add up, so the front of the whole is the non-dominated
part of the Minkowski sum of their fronts (Geilen and others, "An algebra of Pareto points", 2007). Sums are formed pair
by pair in a balanced tree, equal operators by doubling. A sum with more points than are kept is thinned: what is
dropped lies at most so many cycles below a point that stays and needs no more energy; those cycles are added up and
reported. Energies are sums of floating-point numbers: those that differ by less than :data:`SAME` count as equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.overheads import overhead_cycles
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress
from tilewright.search.tiling import BATCH, FIRST_BATCH, Candidate, Evaluated, PhaseSearch, pareto
from tilewright.search.workload import able, kind_of, pieces
from tilewright.sim.jobs import JobLayer
from tilewright.sim.lowering.evaluation import evaluate
from tilewright.sim.lowering.mapping import Dataflow
from tilewright.sim.mapping_front import FrontMapping, FrontPoint, MappingFront
from tilewright.sim.result import SimulationResult

__all__ = ["MOST_POINTS", "SAME", "Named", "layer_front", "phase_front", "workload_front"]

MOST_POINTS = 1024  # of a sum that are kept
SAME = 1e-9
_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


class Named(NamedTuple):
    """An operator: what messages call it, its place in the model, its layer, and the dataflows that it may have."""

    name: str
    path: str
    layer: JobLayer
    dataflows: tuple[Dataflow, ...]


class _Choice(NamedTuple):
    """One mapping of a layer (cut for the cores) with its exact figures."""

    cycles: int
    energy_pj: float
    layer: JobLayer
    dataflow: Dataflow
    tiling: dict[str, int]


@dataclass(frozen=True, slots=True)
class _LayerFront:
    choices: tuple[_Choice, ...]
    n_candidates: int
    n_simulated: int


@dataclass(frozen=True, slots=True, eq=False)
class _Sum:
    """Points by cycles; ``parts`` says of which points of ``left`` and ``right`` each is the sum (a leaf has none)."""

    cycles: _Ints
    energy_pj: _Floats
    slack: int = 0
    layer: JobLayer | None = None
    left: _Sum | None = None
    right: _Sum | None = None
    parts: npt.NDArray[np.int64] | None = None

    def choices(self, at: int) -> list[tuple[JobLayer, int]]:
        """(layer, number of its choice) of every operator that point ``at`` is the sum of."""
        if self.layer is not None:
            return [(self.layer, at)]
        assert self.left is not None and self.right is not None and self.parts is not None
        first, second = (int(part) for part in self.parts[at])
        return self.left.choices(first) + self.right.choices(second)


def workload_front(
    workload: str,
    operators: Sequence[Named],
    machine: MachineSpec,
    *,
    most_points: int = MOST_POINTS,
    progress: Progress | None = None,
) -> MappingFront:
    """The front of ``operators`` one after the other on ``machine``.

    Raises InputError, with the operator's place, for one that no mapping fits or whose format the machine lacks.
    """
    fronts: dict[JobLayer, _LayerFront] = {}
    counts: dict[JobLayer, int] = {}
    for operator in operators:
        counts[operator.layer] = counts.get(operator.layer, 0) + 1
    for operator in operators:
        if operator.layer in fronts:
            continue
        if progress is not None:
            progress(len(fronts), len(counts), operator.name)
        try:
            fronts[operator.layer] = layer_front(operator.layer, operator.dataflows, machine)
        except InputError as error:
            place = "" if len(operators) == 1 else f"{operator.path or operator.name}: "
            raise InputError(f"{place}{error}") from None
    sums = [_times(_leaf(layer, fronts[layer]), n, most_points) for layer, n in counts.items()]
    total = _tree(sums, most_points)
    known: dict[tuple[JobLayer, int], SimulationResult] = {}
    points = tuple(_point(total.choices(at), operators, fronts, machine, known) for at in range(len(total.cycles)))
    notes = dict.fromkeys(note for run in known.values() for note in run.assumptions)
    if progress is not None:
        progress(len(counts), len(counts), workload)
    return MappingFront(
        workload=workload,
        machine=machine.name,
        points=points,
        slack_cycles=total.slack,
        dataflows=tuple(dict.fromkeys(flow.name for operator in operators for flow in operator.dataflows)),
        n_operators=len(operators),
        n_distinct=len(counts),
        n_candidates=sum(front.n_candidates for front in fronts.values()),
        n_simulated=sum(front.n_simulated for front in fronts.values()),
        assumptions=(*notes, *(["the machine's fixed costs are left out"] if any(overhead_cycles(machine)) else [])),
    )


def layer_front(layer: JobLayer, dataflows: Sequence[Dataflow], machine: MachineSpec) -> _LayerFront:
    """All mappings of ``layer`` that no other beats in both cycles and energy; raises MappingError when none fits."""
    found: list[_Choice] = []
    n_candidates = n_simulated = 0
    fault: MappingError | None = None
    for flow, piece in [(one, cut) for one in able(dataflows, layer, machine) for cut in pieces(layer, machine, one)]:
        flow.bound(piece, machine)  # refuses a number format that the machine cannot multiply
        costs = flow.costs(piece, machine)
        try:
            searches = [PhaseSearch(phase, costs, "latency", {}) for phase in flow.phases]
        except MappingError as error:
            fault = error
            continue
        for parts in product(*(phase_front(search) for search in searches)):
            tiling = {name: value for part in parts for name, value in part.tiling.items()}
            cycles, energy = sum(part.cycles for part in parts), sum(part.energy_pj for part in parts)
            found.append(_Choice(cycles, energy, piece, flow, tiling))
        n_candidates += sum(search.n_candidates for search in searches)
        n_simulated += sum(search.n_simulated for search in searches)
    if not found:
        assert fault is not None, kind_of(layer)
        raise fault
    kept: list[_Choice] = []
    for choice in sorted(found, key=lambda one: one[:2]):
        if not kept or choice.energy_pj < kept[-1].energy_pj * (1 - SAME):
            kept.append(choice)
    return _LayerFront(tuple(kept), n_candidates, n_simulated)


def phase_front(search: PhaseSearch) -> list[Evaluated]:
    """The exact front of a phase: a candidate is left out only where a known run is as good as both of its bounds."""
    waiting = sorted(search.candidates, key=lambda one: (one.bound_cycles, search.least_energy(one)))
    front: list[Evaluated] = []
    size = FIRST_BATCH
    while waiting:
        batch: list[Candidate] = []
        rest: list[Candidate] = []
        for candidate in waiting:
            if _is_beaten(search, candidate, front):
                continue
            (batch if len(batch) < size else rest).append(candidate)
        if batch:
            front = pareto([*front, *search.evaluate(batch)])
        waiting, size = rest, min(BATCH, 2 * size)
    return front


def _is_beaten(search: PhaseSearch, candidate: Candidate, front: Sequence[Evaluated]) -> bool:
    energy = search.least_energy(candidate)
    return any(run.cycles <= candidate.bound_cycles and run.energy_pj <= energy for run in front)


# --- sums -------------------------------------------------------------------------------------------------------------


def _leaf(layer: JobLayer, front: _LayerFront) -> _Sum:
    cycles = np.array([choice.cycles for choice in front.choices], dtype=np.int64)
    return _Sum(cycles, np.array([choice.energy_pj for choice in front.choices]), layer=layer)


def _times(one: _Sum, n: int, most: int) -> _Sum:
    """``n`` operators like ``one``, each with a mapping of its own."""
    if n == 1:
        return one
    half = _times(one, n // 2, most)
    whole = _add(half, half, most)
    return _add(whole, one, most) if n % 2 else whole


def _tree(sums: list[_Sum], most: int) -> _Sum:
    while len(sums) > 1:
        pairs = [sums[at : at + 2] for at in range(0, len(sums), 2)]
        sums = [_add(pair[0], pair[1], most) if len(pair) == 2 else pair[0] for pair in pairs]
    return sums[0]


def _add(left: _Sum, right: _Sum, most: int) -> _Sum:
    """The non-dominated sums of a point of ``left`` and one of ``right``, thinned to ``most``."""
    cycles = (left.cycles[:, None] + right.cycles[None, :]).ravel()
    energy = (left.energy_pj[:, None] + right.energy_pj[None, :]).ravel()
    order = np.lexsort((energy, cycles))
    least = np.minimum.accumulate(energy[order])
    better = np.ones(len(order), dtype=np.bool_)
    better[1:] = energy[order][1:] < least[:-1] * (1 - SAME)
    kept = order[better]
    kept, slack = _thinned(kept, cycles, most)
    parts = np.stack(np.divmod(kept, len(right.cycles)), axis=1)
    return _Sum(cycles[kept], energy[kept], left.slack + right.slack + slack, None, left, right, parts)


def _thinned(kept: _Ints, cycles: _Ints, most: int) -> tuple[_Ints, int]:
    """At most ``most`` of the points, and by how many cycles a dropped one lies below the next that stays."""
    if len(kept) <= most:
        return kept, 0
    own = cycles[kept]
    width = (own[-1] - own[0]) // (most - 1) + 1
    bins = (own - own[0]) // width
    stays = np.ones(len(kept), dtype=np.bool_)
    stays[:-1] = bins[:-1] != bins[1:]  # the last of a bin has its least energy
    stays[0] = True
    following = own[stays][np.searchsorted(np.flatnonzero(stays), np.arange(len(kept)))]
    return kept[stays], int((following - own).max())


def _point(
    chosen: Sequence[tuple[JobLayer, int]],
    operators: Sequence[Named],
    fronts: dict[JobLayer, _LayerFront],
    machine: MachineSpec,
    known: dict[tuple[JobLayer, int], SimulationResult],
) -> FrontPoint:
    names: dict[JobLayer, list[str]] = {}
    for operator in reversed(operators):
        names.setdefault(operator.layer, []).append(operator.name)
    users: dict[tuple[JobLayer, int], list[str]] = {}
    for layer, number in sorted(chosen, key=lambda one: one[1]):
        users.setdefault((layer, number), []).append(names[layer].pop())
    mappings = [_mapping(key, fronts[key[0]].choices[key[1]], tuple(of), machine, known) for key, of in users.items()]
    cycles = sum(mapping.cycles * len(mapping.operators) for mapping in mappings)
    return FrontPoint(
        cycles=cycles,
        seconds=machine.seconds(cycles),
        energy_pj=sum(mapping.energy_pj * len(mapping.operators) for mapping in mappings),
        dram_bytes=sum(mapping.dram_bytes * len(mapping.operators) for mapping in mappings),
        mappings=tuple(mappings),
    )


def _mapping(
    key: tuple[JobLayer, int], choice: _Choice, names: tuple[str, ...], machine: MachineSpec, known: dict[Any, Any]
) -> FrontMapping:
    if key not in known:
        known[key] = evaluate(choice.dataflow, choice.layer, machine, choice.tiling)
    run: SimulationResult = known[key]
    return FrontMapping(
        operators=names,
        dataflow=choice.dataflow.name,
        tiling=choice.tiling,
        cycles=run.cycles,
        energy_pj=run.energy_pj,
        dram_bytes=run.dram_bytes,
    )
