"""Stages of a partition with line buffers between them: how large these are, and which of them lie on chip.

Every map is handed over by rows. A ring of rows may be as small as a line buffer, or hold as many whole maps as are on
their way; the smaller holds up stages that do several layers one after the other, since maker and reader then wait for
each other within a map. So all are made small where that hardly costs throughput; else one after the other, the one
that saves most first, as long as it hardly does. What then fits on chip is decided again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

from tilewright.search.pipeline.handover import OUTSIDE, Exchanged, Handover
from tilewright.search.pipeline.row_handover import Ring, RowExchange, rings_of
from tilewright.search.pipeline.rows import JobRows, rows_of_job
from tilewright.search.pipeline.stages import Stage
from tilewright.search.pipeline.timeline import FEWEST
from tilewright.search.residency.tensors import operands_of
from tilewright.sim.engine.joint import Joint
from tilewright.sim.engine.run import simulate
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.workloads.homes import Place
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["SLOWER", "ByRows", "HandedByRows", "by_rows"]

SLOWER = Fraction(1, 100)  # by so much at most do finer rows and smaller buffers hold the pipeline up
MOST_SINGLE = 8  # rings that are tried one by one
MAPPINGS = (None, 0, 1)  # the best ones, and ones of finer rows that take no time, and all that there is to spare


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedByRows:
    """What a partition is run with. ``made``: its stages with so many bytes of each map in a memory, at their best
    mappings (None) or at ones of finer rows that take this share of the time that stages have to spare; ``on_chip``:
    which maps lie there with buffers of so many bytes; ``make``: the joint program of so many images; ``interval``:
    between images when maps are handed over whole.
    """

    made: Callable[[dict[str, int], Place, int | None], list[Stage]]
    on_chip: Callable[[dict[str, int]], tuple[dict[str, int], Place]]
    make: Callable[[list[Stage], Exchanged], Callable[[int], Joint]]
    interval: Fraction


class ByRows(NamedTuple):
    """Stages with line buffers between them, and how many cycles an image takes when many follow each other."""

    stages: list[Stage]
    rings: tuple[Ring, ...]
    kept: dict[str, int]
    place: Place
    make: Callable[[int], Joint]
    interval: Fraction
    fill_cycles: int


def by_rows(
    stream: OperatorStream,
    handovers: Sequence[Handover],
    how: HandedByRows,
    kept: Mapping[str, int],
    place: Place,
) -> ByRows:
    """The best that is found; ``kept``, ``place``: which maps lie on chip when they are handed over whole."""
    tried = [_with_mappings(stream, handovers, how, kept, place, share) for share in MAPPINGS]
    most = max(how.interval, min(one.interval for one in tried)) * (1 + SLOWER)
    quick = [one for one in tried if one.interval <= most]
    return min(quick, key=lambda one: (one.fill_cycles, sum(_buffers(one.rings).values())))


def _with_mappings(
    stream: OperatorStream,
    handovers: Sequence[Handover],
    how: HandedByRows,
    kept: Mapping[str, int],
    place: Place,
    share: int | None,
) -> ByRows:
    stages = how.made(dict(kept), place, share)
    jobs, rings = _rings(stream, handovers, stages)
    deep = _timed(how, stages, jobs, rings, dict(kept), place)
    best = _smaller(how, deep, jobs)
    buffers = _buffers(best.rings)
    room, where = how.on_chip(buffers)
    if room.keys() == kept.keys():
        return best._replace(kept={name: buffers[name] for name in kept})
    stages = how.made(room, where, share)
    jobs, rings = _rings(stream, handovers, stages)
    rows = {(ring.handover.name, ring.handover.read_in): ring.n_rows for ring in best.rings}
    wanted = [max(ring.least, rows[ring.handover.name, ring.handover.read_in]) for ring in rings]
    rings = _alike([replace(ring, n_rows=n) for ring, n in zip(rings, wanted, strict=True)])
    own = _buffers(rings)
    near = _timed(how, stages, jobs, rings, {name: own[name] for name in room}, where)
    fits = all(own[name] <= n_bytes for name, n_bytes in room.items())
    quick = near.interval <= best.interval * (1 + SLOWER)
    return near if fits and quick and _dram_bytes(near.stages) < _dram_bytes(best.stages) else best


def _dram_bytes(stages: Sequence[Stage]) -> int:
    return sum(stage.counters.dram_read_bytes + stage.counters.dram_write_bytes for stage in stages)


def _rings(
    stream: OperatorStream, handovers: Sequence[Handover], stages: Sequence[Stage]
) -> tuple[list[JobRows], list[Ring]]:
    """What the jobs touch by rows, and the rings between them with room for whole maps."""
    graph = fusion_graph(stream)
    maps = {one.name: one.batch * one.height for one in (*graph.inputs, *(node.output for node in graph.nodes))}
    rows_of = {one.name: maps.get(one.name, 1) for one in handovers}
    stage_of = [number for number, stage in enumerate(stages) for _ in stage.jobs]
    all_jobs = [job for stage in stages for job in stage.jobs]
    programs = [own for stage in stages for own in stage.programs]
    jobs = [
        rows_of_job(graph, job, operands_of(stream, job), own, rows_of)
        for job, own in zip(all_jobs, programs, strict=True)
    ]
    readers: dict[tuple[str, int], list[int]] = {}
    for one in handovers:
        inside = [
            at
            for at, job in enumerate(all_jobs)
            if at != one.maker
            and stage_of[at] in (one.made_in, one.read_in)
            and any(stream.base(name).name == one.name for member in job.operators for name in member.inputs)
        ]
        outside = [one.last] if one.last >= len(all_jobs) else []
        readers[one.name, one.read_in] = [*(inside if one.maker != OUTSIDE or not outside else []), *outside]
    return jobs, rings_of(handovers, readers, jobs, stage_of, rows_of)


def _timed(
    how: HandedByRows,
    stages: list[Stage],
    jobs: Sequence[JobRows],
    rings: Sequence[Ring],
    kept: dict[str, int],
    place: Place,
) -> ByRows:
    make = how.make(stages, RowExchange(rings, jobs))
    many = max(FEWEST, 2 * len(stages) + 8)  # as the steady state is watched
    few = many - many // 2
    fill, *cycles = (simulate(make(n).program).cycles for n in (1, few, many))
    return ByRows(stages, tuple(rings), kept, place, make, Fraction(cycles[1] - cycles[0], many - few), fill)


def _smaller(how: HandedByRows, deep: ByRows, jobs: Sequence[JobRows]) -> ByRows:
    """``deep`` with rings of fewer rows, as far as they hardly hold it up."""

    def with_lines(names: set[str]) -> ByRows:
        rings = [replace(ring, n_rows=ring.line) if ring.handover.name in names else ring for ring in deep.rings]
        return _timed(how, deep.stages, jobs, _alike(rings), deep.kept, deep.place)

    most = deep.interval * (1 + SLOWER)
    saved: dict[str, int] = {}
    for ring in deep.rings:
        if ring.line < ring.n_rows:
            saved[ring.handover.name] = saved.get(ring.handover.name, 0) + ring.n_bytes
    if not saved:
        return deep
    found = with_lines(set(saved))
    if found.interval <= most:
        return found
    best, small = deep, set[str]()
    for name in sorted(saved, key=lambda one: -saved[one])[:MOST_SINGLE]:
        found = with_lines({*small, name})
        if found.interval <= most:
            best, small = found, {*small, name}
    return best


def _alike(rings: Sequence[Ring]) -> list[Ring]:
    """One ring for all stages that read a map: as large as the largest of them."""
    most: dict[str, int] = {}
    for ring in rings:
        most[ring.handover.name] = max(most.get(ring.handover.name, 0), ring.n_rows)
    return [replace(ring, n_rows=most[ring.handover.name]) for ring in rings]


def _buffers(rings: Sequence[Ring]) -> dict[str, int]:
    return {ring.handover.name: ring.n_bytes for ring in _alike(rings)}
