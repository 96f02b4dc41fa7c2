"""Which rows of a map a job's program needs before, and is done with behind, each of its steps.

A program writes and reads maps tile by tile, in the order of its loops. With the loops over rows written out, each of
the items that then stand in a queue (a command, or an inner loop) reads or writes a run of rows: those of a
convolution's inputs with their halo, by stride and padding; of a product the tokens; of element-wise work a share. What
is not known by rows (products of several groups, attention, programs of several phases) needs a map whole before it
begins and makes one whole when it has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tilewright.search.residency.tensors import JobOperands
from tilewright.sim.dataflows.gemm.lower import Step
from tilewright.sim.dataflows.spans import Span
from tilewright.sim.engine.program import Command, Loop, Program, Queue
from tilewright.sim.fusion.graph.fusion_graph import FusionEdge, FusionGraph
from tilewright.sim.jobs import Job
from tilewright.units import ceil_div
from tilewright.workloads.gemm import GemmLayer, VectorLayer

__all__ = ["JobRows", "Ports", "Range", "Run", "rows_of_job", "with_row_loops_open"]

ROW_LOOPS = ("rows", "row parts")
BRINGS_A = (("fetch_a",), ("bring_a",), ("load_a", "load_new_a"))  # the first of these that a program has reads the map


class Range(NamedTuple):
    """Rows [first, end), counted through all images of a batch."""

    first: int
    end: int


class Run(NamedTuple):
    """Item number ``item`` of a queue reads or writes ``rows`` of a map, to make or as the ``outputs`` of its job."""

    item: int
    rows: Range
    outputs: Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """How a job touches one map: by queue (number of the engine) what its items do, in order. Empty: as a whole."""

    n_rows: int
    runs: Mapping[int, tuple[Run, ...]]

    @property
    def by_rows(self) -> bool:
        return bool(self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRows:
    """A job's program with its loops over rows written out, and what it reads and writes by name of the map."""

    program: Program | None
    reads: Mapping[str, Ports]
    writes: Mapping[str, Ports]


class _Item(NamedTuple):
    """A command or loop of a queue with its place in the loops that were written out (trips by name)."""

    what: Command | Loop
    trips: Mapping[str, int]


def with_row_loops_open(program: Program) -> tuple[Program, list[list[Mapping[str, int]]]]:
    """``program`` with every outer loop over rows (and of one trip) written out, and the trips at which items stand."""
    queues, trips = [], []
    for queue in program.queues:
        items = list(_opened(queue, program.loop_names, {}))
        queues.append([item.what for item in items])
        trips.append([item.trips for item in items])
    opened = Program(
        engines=program.engines,
        channels=program.channels,
        semaphores=program.semaphores,
        queues=tuple(queues),
        loop_names=program.loop_names,
        buffer_bytes=program.buffer_bytes,
    )
    return opened, trips


def _opened(queue: Queue, names: Sequence[str], trips: Mapping[str, int]) -> Iterator[_Item]:
    for item in queue:
        if isinstance(item, Loop) and not item.step and (item.count == 1 or names[item.ident] in ROW_LOOPS):
            for trip in range(item.count):
                yield from _opened(item.body, names, {**trips, names[item.ident]: trip})
        else:
            yield _Item(item, trips)


def _commands(
    item: Command | Loop, names: Sequence[str], inside: Mapping[str, int]
) -> Iterator[tuple[Command, dict[str, int]]]:
    """The commands of an item with the trips of the loops around them that were not written out."""
    if isinstance(item, Command):
        yield item, dict(inside)
        return
    for inner in item.body:
        yield from _commands(inner, names, {**inside, names[item.ident]: item.count})


def rows_of_job(
    graph: FusionGraph, job: Job, operands: JobOperands, programs: Sequence[Program], maps: Mapping[str, int]
) -> JobRows:
    """What ``job``, run by ``programs``, reads and writes of ``maps`` (by name, with their rows)."""
    names = [name for name in operands.names if name in maps]
    whole = {name: Ports(n_rows=maps[name], runs={}) for name in names}
    nothing = JobRows(program=None, reads=whole, writes=whole)
    if len(programs) != 1 or not names:
        return nothing
    opened, trips = with_row_loops_open(programs[0])
    if isinstance(job.layer, GemmLayer):
        outputs = _of_product(graph, job, opened, trips)
    elif isinstance(job.layer, VectorLayer):
        outputs = _of_vector_work(graph, job, programs[0], opened)
    else:
        return nothing
    if outputs is None:
        return nothing
    n_outputs, found = outputs
    reads, writes = dict(whole), dict(whole)
    edges = _edges_of(graph, job)
    for name in names:
        if name == operands.out:
            if maps[name] == n_outputs:
                writes[name] = Ports(n_rows=n_outputs, runs=_runs(found.get("out", {}), None, 0))
            continue
        at = [number for number, one in enumerate(operands.reads) if one == name]
        edge = edges.get(name)
        if edge is None or (isinstance(job.layer, GemmLayer) and (len(at) != 1 or at[0] == 1)):
            continue
        what = "in" if isinstance(job.layer, VectorLayer) else "a" if at[0] == 0 else f"extra {at[0] - 2}"
        reads[name] = Ports(n_rows=maps[name], runs=_runs(found.get(what, {}), edge, n_outputs))
    return JobRows(program=opened, reads=reads, writes=writes)


Touched = dict[str, dict[int, list[tuple[int, Range]]]]


def _runs(
    touched: Mapping[int, Sequence[tuple[int, Range]]], edge: FusionEdge | None, n_outputs: int
) -> dict[int, tuple[Run, ...]]:
    """By queue the rows of a map from the rows of outputs: these themselves, or what ``edge`` says that they need."""
    if edge is None:
        return {queue: tuple(Run(item, rows, rows) for item, rows in own) for queue, own in touched.items()}
    per_image = n_outputs // edge.tensor.batch

    def needed(rows: Range) -> Range:
        image, first = divmod(rows.first, per_image)
        last_image, last = divmod(rows.end - 1, per_image)
        n_in = edge.tensor.height
        return Range(image * n_in + edge.rows.first(first), last_image * n_in + edge.rows.last(last) + 1)

    return {queue: tuple(Run(item, needed(rows), rows) for item, rows in own) for queue, own in touched.items()}


def _edges_of(graph: FusionGraph, job: Job) -> dict[str, FusionEdge]:
    """What the job needs of each map that it reads in one place, where its operators' results have the same rows."""
    names = {operator.name for operator in job.operators}
    nodes = [node for node in graph.nodes if names & set(node.operators)]
    last = next(node for node in nodes if job.operators[-1].name in node.operators).output
    found: dict[str, FusionEdge] = {}
    twice = set()
    for node in nodes:
        if (node.output.height, node.output.batch) != (last.height, last.batch):
            continue
        for edge in graph.edges_in[node.index]:
            if edge.tensor.name in found:
                twice.add(edge.tensor.name)
            found[edge.tensor.name] = edge
    deep = any(len(operator.sizes("kernel")) > 2 for operator in job.operators if "kernel" in operator.attributes)
    return {
        name: edge
        for name, edge in found.items()
        if name not in twice and edge.tensor.batch == last.batch and not edge.rows.whole and not deep
    }


# -- products ----------------------------------------------------------------------------------------------


def _of_product(
    graph: FusionGraph, job: Job, program: Program, trips: Sequence[Sequence[Mapping[str, int]]]
) -> tuple[int, Touched] | None:
    """(rows of outputs, which of them each item is for, by operand); None where it is not made row by row."""
    layer = job.layer
    assert isinstance(layer, GemmLayer)
    output = next(node for node in graph.nodes if job.operators[0].name in node.operators).output
    whole = layer.before_cut
    n_rows = output.batch * output.height
    if layer.split is not None or layer.engine is not None or whole.groups != 1:
        return None
    if (whole.m, whole.n) != (n_rows * output.width, output.channels):
        return None
    n_pieces = ceil_div(whole.m, layer.m)
    found: Touched = {}
    events: dict[str, str] = {"store_c": "out"}
    seen = {
        command.run[0]
        for queue in program.queues
        for item in queue
        for command, _ in _commands(item, program.loop_names, {})
        if isinstance(command.run, tuple)
    }
    brings = next((names for names in BRINGS_A if seen & set(names)), ())
    events |= dict.fromkeys(brings, "a")
    for engine, queue in enumerate(program.queues):
        for number, item in enumerate(queue):
            for command, inside in _commands(item, program.loop_names, {}):
                run = command.run
                if not isinstance(run, tuple) or not isinstance(run[1], Step):
                    continue
                what = f"extra {run[2]}" if run[0] == "load_extra" else events.get(run[0])
                if what is None:
                    continue
                first, end = _extent(run[1], trips[engine][number], inside)
                end += (n_pieces - 1) * layer.m
                rows = Range(first // output.width, min(n_rows, ceil_div(end, output.width)))
                _note(found, what, engine, number, rows)
    return n_rows, found


def _extent(step: Step, trips: Mapping[str, int], inside: Mapping[str, int]) -> Range:
    """The rows of a product that a command is for, from the first to the last over the loops that are left."""
    part, own = (
        _placed(span, trips.get(name), inside.get(name))
        for span, name in ((step.part.rows, "row parts"), (step.rows, "rows"))
    )
    return Range(part.first + own.first, max(part.first, part.end - max(1, step.part.rows.size)) + own.end)


def _placed(span: Span, trip: int | None, count: int | None) -> Range:
    """Where a span lies: one that is neither first nor last by the trip of its loop."""
    if span.first:
        return Range(0, span.size)
    if span.last:
        return Range(span.start, span.start + span.size)
    if trip is not None:
        return Range((trip + 1) * span.size, (trip + 2) * span.size)
    return Range(span.size, ((count or 1) + 1) * span.size)


def _note(found: Touched, what: str, engine: int, item: int, rows: Range) -> None:
    """Join with what is known of the same item."""
    own = found.setdefault(what, {}).setdefault(engine, [])
    if own and own[-1][0] == item:
        rows = Range(min(own[-1][1].first, rows.first), max(own[-1][1].end, rows.end))
        own.pop()
    own.append((item, rows))


# -- vector work -------------------------------------------------------------------------------------------


def _of_vector_work(graph: FusionGraph, job: Job, plain: Program, program: Program) -> tuple[int, Touched] | None:
    """As :func:`_of_product`: blocks in turn are equal shares of the results' rows."""
    layer = job.layer
    assert isinstance(layer, VectorLayer)
    output = next(node for node in graph.nodes if job.operators[-1].name in node.operators).output
    n_rows = output.batch * output.height
    if len(plain.engines) != len({engine.kind for engine in plain.engines}) or plain.engines[0].weight > 1:
        return None  # cores that do different rows
    queues = {engine.kind: number for number, engine in enumerate(program.engines) if program.queues[number]}
    turns = queues.get("store", queues.get("vector"))  # each block is one of the items there
    if "load" not in queues or turns is None:
        return None
    loads, n_blocks = program.queues[queues["load"]], len(program.queues[turns])
    each, rest = divmod(len(loads), n_blocks)
    if rest or not each:
        return None
    sizes = [sum(map(_bytes, loads[block * each : (block + 1) * each])) for block in range(n_blocks)]
    total, done = sum(sizes), 0
    found: Touched = {}
    for block, size in enumerate(sizes):
        rows = Range(done * n_rows // total, ceil_div((done + size) * n_rows, total))
        if "store" in queues:
            _note(found, "out", turns, block, rows)
        for number in range(block * each, (block + 1) * each):
            _note(found, "in", queues["load"], number, rows)
        done += size
    return n_rows, found


def _bytes(item: Command | Loop) -> int:
    """Bytes that an item moves in all."""
    return item.n_bytes if isinstance(item, Command) else item.count * sum(map(_bytes, item.body))
