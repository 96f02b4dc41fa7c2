"""A fused group as a program: loads, products, vector work and stores of rows, bound by semaphores, and its exact run.

Weights are loaded once, each node's before its first row; maps are kept as :mod:`tilewright.sim.fusion.rows` says,
their rows in rotating slots. The commands of :mod:`tilewright.sim.fusion.schedule` say which slots they read and write;
:mod:`tilewright.sim.fusion.binding` makes a program of them, in which neighbouring sections that are the same are a
loop, which the engine then skips through.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import asdict, dataclass
from operator import itemgetter

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.engine.program import Program, ProgramBuilder
from tilewright.sim.fusion.binding import Task, write_tasks
from tilewright.sim.fusion.commands import COMMAND_ASSUMPTIONS, GroupCosts
from tilewright.sim.fusion.fused import FusedResult
from tilewright.sim.fusion.fused_run import measured
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members
from tilewright.sim.fusion.places import Places
from tilewright.sim.fusion.rows import NOT_BY_ROWS, RowPlan, plan_rows
from tilewright.sim.fusion.schedule import RowCommand, Stream, needed_rows, row_commands
from tilewright.sim.lowering.core import LOAD, MATRIX, STORE, VECTOR, TileCore
from tilewright.workloads.homes import GROUP_IN_DRAM, GroupHomes, Place
from tilewright.workloads.stream.graph import OperatorStream

__all__ = [
    "FusedTiling",
    "LineBufferProgram",
    "fast_tilings",
    "fused_program",
    "simulate_group",
    "tilings_that_fit",
]

STEPS = (1, 2, 4, 8, 16, 32)  # rows per step that are tried


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedTiling:
    """How a group is run: see :func:`tilewright.sim.fusion.rows.plan_rows`."""

    spare_rows: int = 0
    rows_per_step: int = 0
    spare_inside: int = 0

    def __post_init__(self) -> None:
        for name in ("spare_rows", "rows_per_step", "spare_inside"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: given {getattr(self, name)}; allowed 0 or more")


def fused_program(
    stream: OperatorStream,
    graph: FusionGraph,
    mask: int,
    machine: MachineSpec,
    *,
    tiling: FusedTiling | None = None,
    homes: GroupHomes = GROUP_IN_DRAM,
) -> Program:
    """The program of a group run with line buffers. ``graph`` is that of ``stream``.

    Raises InputError for a group that cannot be run row by row and MappingError when it does not fit on chip.
    """
    return LineBufferProgram(stream, graph, mask, machine, tiling or FusedTiling(), homes).program()


def simulate_group(
    stream: OperatorStream,
    graph: FusionGraph,
    mask: int,
    machine: MachineSpec,
    *,
    tiling: FusedTiling | None = None,
) -> FusedResult:
    """Run a group on one core of ``machine``, exactly; errors as in :func:`fused_program`."""
    tiling = tiling or FusedTiling()
    program = fused_program(stream, graph, mask, machine, tiling=tiling)
    return measured(program, tuple(graph.names(mask)), machine, asdict(tiling), COMMAND_ASSUMPTIONS)


def tilings_that_fit(
    stream: OperatorStream,
    graph: FusionGraph,
    mask: int,
    machine: MachineSpec,
    homes: GroupHomes = GROUP_IN_DRAM,
) -> Iterator[tuple[FusedTiling, Program]]:
    """The tiling of the least room, then others that fit: rows one by one, or 1, 2, 4 ... 32 a step; without
    spare rows, with some of the maps that are loaded and stored, and with some of all maps.

    More rows a step fill and drain the array less often and need more room. Errors of the first are raised as in
    :func:`fused_program`.
    """
    least = FusedTiling()
    first = LineBufferProgram(stream, graph, mask, machine, least, homes)
    yield least, first.program()
    for rows_per_step in (0, *STEPS):
        for tiling in _spares(rows_per_step, first):
            if tiling == least:
                continue
            made = LineBufferProgram(stream, graph, mask, machine, tiling, homes)
            try:
                program = made.program()
            except MappingError:
                break
            yield tiling, program
            if made.is_one_step:  # as would be all that follow
                return


def fast_tilings(
    stream: OperatorStream,
    graph: FusionGraph,
    mask: int,
    machine: MachineSpec,
    homes: GroupHomes,
    limit: Callable[[], int],
) -> Iterator[tuple[FusedTiling, Program]]:
    """Of :func:`tilings_that_fit` those that may take fewer than ``limit()`` cycles, the most rows first.

    Of those that differ in spare rows alone the first that fits, with the most: it is never slower.
    """
    one_step = False
    for rows_per_step in (*reversed(STEPS), 0):
        plain = FusedTiling(rows_per_step=rows_per_step)
        first = LineBufferProgram(stream, graph, mask, machine, plain, homes)
        if (one_step and first.is_one_step) or first.least_cycles() >= limit():
            continue
        one_step = first.is_one_step
        for tiling in reversed(_spares(rows_per_step, first)):
            made = LineBufferProgram(stream, graph, mask, machine, tiling, homes)
            try:
                program = made.program()
            except MappingError:
                continue
            yield tiling, program
            break


def _spares(rows_per_step: int, made: LineBufferProgram) -> list[FusedTiling]:
    """Tilings with no spare rows, with those of maps that are moved, and with those of all maps; no two the same."""
    found = [FusedTiling(rows_per_step=rows_per_step)]
    if made.moves_maps:
        found.append(FusedTiling(rows_per_step=rows_per_step, spare_rows=1))
    if made.hands_on:
        found.append(FusedTiling(rows_per_step=rows_per_step, spare_rows=found[-1].spare_rows, spare_inside=1))
    return found


class LineBufferProgram:
    """A group with all that its program is made of; ``unroll`` gives the program that is run on numbers.

    Maps and weights that are in the working buffer (by ``homes``) are read and written where they are.
    """

    def __init__(
        self,
        stream: OperatorStream,
        graph: FusionGraph,
        mask: int,
        machine: MachineSpec,
        tiling: FusedTiling,
        homes: GroupHomes = GROUP_IN_DRAM,
    ) -> None:
        if not graph.is_group(mask):
            raise InputError(f"{graph.name}: a fusion group must hang together and no path may leave it and come back")
        self.stream, self.graph, self.mask = stream, graph, mask
        self.costs = GroupCosts(stream, graph, machine, homes)
        self.plan: RowPlan = plan_rows(
            graph,
            mask,
            spare_rows=tiling.spare_rows,
            rows_per_step=tiling.rows_per_step,
            spare_inside=tiling.spare_inside,
            here=self.costs.is_here,
        )
        if any(graph.nodes[i].kind in NOT_BY_ROWS for i in members(mask)):
            raise InputError(f"{graph.name}: attention, products of activations and look-ups do not run row by row")
        if self.plan.reason is not None:
            raise InputError(f"{graph.name}: the group cannot run row by row: {self.plan.reason}")
        self.places = Places(graph, self.plan.maps, self.plan.rides_on, self.is_inside)
        self.weight_loads = {i: self._weight_loads(i) for i in members(mask)}
        self.images = graph.nodes[members(mask)[0]].output.batch

    def least_cycles(self) -> int:
        """What the program takes at least: the work of each unit in commands of so many rows."""
        cycles = {True: 0, False: 0}
        swept = {r.consumer: source for source, reading in self.plan.readers.items() for r in reading if r.sweeps}
        for i in members(self.mask):
            if not self.places.is_silent(i):
                node = self.graph.nodes[i]
                rows = self.plan.steps.get(swept.get(i, i), 1)
                cycles[node.on_matrix] += self.costs.least_cycles(node, rows)
        return max(cycles.values())

    @property
    def moves_maps(self) -> bool:
        """Whether any map is loaded or stored."""
        outside = {i for i in self.plan.readers if not self.is_inside(i)} | set(self.graph.needed_outside(self.mask))
        return bool(outside - self.plan.kept)

    @property
    def hands_on(self) -> bool:
        """Whether nodes of the group hand maps to each other that nobody outside reads."""
        return bool(set(members(self.mask)) - set(self.graph.needed_outside(self.mask)))

    @property
    def is_one_step(self) -> bool:
        """Whether every map is made whole on one step."""
        steps, tensors = self.plan.steps, self.plan.maps.tensors
        return bool(steps) and all(rows >= tensors[i].height for i, rows in steps.items())

    def is_inside(self, i: int) -> bool:
        """Whether map i is made by a node of the group."""
        return i < self.plan.maps.n_nodes and bool(self.mask >> i & 1)

    def program(self, *, unroll: bool = False) -> Program:
        """The program; see :func:`fused_program`."""
        builder = ProgramBuilder(TileCore.engines(1), self.costs.channels(), unroll=unroll)
        core = TileCore(self.costs, n_groups=1, builder=builder)
        self._reserve(core)
        core.declared()
        write_tasks(core, list(self._tasks()))
        return builder.build()

    def _reserve(self, core: TileCore[GroupCosts]) -> None:
        for i in members(self.mask):
            if self.weight_loads[i]:
                core.reserve(f"weights of {self.graph.nodes[i].name}", sum(map(itemgetter(1), self.weight_loads[i])))
        for place, rows in self.plan.rings.items():
            if place not in self.plan.kept:
                core.reserve(f"rows of {self.plan.maps.tensors[place].name}", rows * self.plan.maps.row_bytes[place])

    def _weight_loads(self, i: int) -> list[tuple[Place, int]]:
        """(memory, bytes) of a node's weights that are brought into the working buffer."""
        return [
            (home, n_bytes)
            for home, n_bytes in self.costs.weight_homes(self.graph.nodes[i]).items()
            if n_bytes and home != self.costs.working.name
        ]

    def _tasks(self) -> Iterator[Task]:
        """Image by image; the first one finds the weights on their way."""
        commands = row_commands(self.graph, self.mask, self.plan, self.places)
        last = {command.stream: command.number for command in commands}
        begins, ends = self._turns() if self.images > 1 else ({}, {})
        for image in range(self.images):
            for command in commands:
                task, stream, section = self._task(command, image), command.stream, ((image, command.step),)
                if not image and not command.number and stream.action == "make":
                    yield from (one._replace(section=section) for one in self._weights(stream.on))
                reads = (*task.reads, *ends.get(stream, ())) if command.number == last[stream] else task.reads
                writes = task.writes if command.number else (*task.writes, *begins.get(stream, ()))
                run = "fused rows", command, image
                yield task._replace(section=section, run=run, reads=reads, writes=writes)

    def _turns(self) -> tuple[dict[Stream, list[Hashable]], dict[Stream, list[Hashable]]]:
        """Cells that the first command of a stream writes, and those that the last command of one reads, in an image.

        So an image begins to fill a place only when the one before is done with all of it.
        """
        begins: dict[Stream, list[Hashable]] = {}
        ends: dict[Stream, list[Hashable]] = {}
        for place in self.plan.rings:
            if place in self.plan.kept:  # has room for all images
                continue
            pieces = self.places.pieces(place)
            users = [Stream("make", r.consumer) for r in self.plan.readers[place]]
            users += [Stream("store", place), *(self._maker(piece.state) for piece in pieces)]
            for opener in dict.fromkeys(piece.part[0] for piece in pieces):
                begins.setdefault(self._maker(opener), []).append(("turn", opener))
                for user in dict.fromkeys(users):
                    ends.setdefault(user, []).append(("turn", opener))
        return begins, ends

    def _maker(self, i: int) -> Stream:
        return Stream("make" if self.is_inside(i) else "load", i)

    def _weights(self, i: int) -> Iterator[Task]:
        """The loads of the node's weights, where it has some that are not here; one for each memory."""
        for number, (home, n_bytes) in enumerate(self.weight_loads[i]):
            work, label = self.costs.load_piece(n_bytes, home), f"load weights of {self.graph.nodes[i].name}"
            yield Task(LOAD, work, (), (("weights", i, number),), label, (), ("fused weights", i, number))

    def _task(self, command: RowCommand, image: int) -> Task:
        """What a command costs and which cells it uses."""
        (action, i), rows = command.stream, range(command.first, command.first + command.rows)
        tensor = self.plan.maps.tensors[i]
        if action == "load":
            work = self.costs.load_rows(tensor, len(rows))
            return Task(LOAD, work, (), self._cells(i, rows, image), f"load {tensor.name}")
        if action == "store":
            work = self.costs.store_rows(tensor, len(rows))
            return Task(STORE, work, self._cells(i, rows, image), (), f"store {tensor.name}")
        node = self.graph.nodes[i]
        reads: list[Hashable] = [("weights", i, number) for number in range(len(self.weight_loads[i]))]
        writes = self._cells(i, rows, image, own=True)
        for p, reader in self.plan.maps.sources[i]:
            if reader.sweeps:  # rows are those of the input
                writes = self._cells(i, range(1), image)
                reads += [*self._cells(p, rows, image), *writes]
            elif node.kind != "concat" or not self.places.is_in_place(i, p):
                reads += self._cells(p, needed_rows(reader.rows, rows.start, len(rows)), image)
        work = self.costs.make_rows(node, rows.start, len(rows))
        return Task(MATRIX if node.on_matrix else VECTOR, work, tuple(reads), writes, node.name)

    def _cells(self, i: int, rows: range, image: int, *, own: bool = False) -> tuple[Hashable, ...]:
        """What rows of a map lie in; a place that is not the group's has room for all images."""
        place = self.places.place(i)
        cells = self.places.cells(i, rows, self.plan.rings[place], own=own)
        return tuple((cell, image) for cell in cells) if place in self.plan.kept else tuple(cells)
