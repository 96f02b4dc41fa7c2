"""A fused group as a program: loads, products, vector work and stores of rows, bound by semaphores, and its exact run.

Weights are loaded once, each node's before its first row; maps are kept as :mod:`tilewright.sim.fusion.rows` says,
their rows in rotating slots. The program is the list of commands of :mod:`tilewright.sim.fusion.schedule`; where
neighbouring sections of it are the same, they become a loop, which the engine then skips through.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.engine.program import Program, ProgramBuilder
from tilewright.sim.fusion.commands import COMMAND_ASSUMPTIONS, GroupCosts
from tilewright.sim.fusion.fused import FusedResult
from tilewright.sim.fusion.fused_run import measured
from tilewright.sim.fusion.graph import FusionGraph, members
from tilewright.sim.fusion.rows import NOT_BY_ROWS, RowPlan, plan_rows
from tilewright.sim.fusion.schedule import Command, Link, Schedule, Stream, schedule
from tilewright.sim.lowering.core import LOAD, MATRIX, STORE, TileCore
from tilewright.sim.lowering.costs import Work
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["FusedTiling", "LineBufferProgram", "fused_program", "simulate_group", "tilings_that_fit"]

STEPS = (1, 2, 4, 8, 16, 32)  # rows per step that are tried


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedTiling:
    """How a group is run: see :func:`tilewright.sim.fusion.rows.plan_rows`."""

    spare_rows: int = 0
    rows_per_step: int = 0

    def __post_init__(self) -> None:
        for name in ("spare_rows", "rows_per_step"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: given {getattr(self, name)}; allowed 0 or more")


def fused_program(
    stream: OperatorStream,
    graph: FusionGraph,
    mask: int,
    machine: MachineSpec,
    *,
    tiling: FusedTiling | None = None,
) -> Program:
    """The program of a group run with line buffers. ``graph`` is that of ``stream``.

    Raises InputError for a group that cannot be run row by row and MappingError when it does not fit on chip.
    """
    return LineBufferProgram(stream, graph, mask, machine, tiling or FusedTiling()).program()


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
    stream: OperatorStream, graph: FusionGraph, mask: int, machine: MachineSpec
) -> Iterator[tuple[FusedTiling, Program]]:
    """The tiling of the least room, then others that fit: 0 or 1 spare rows; rows one by one, or 1, 2, 4 ... 32 a step.

    More rows a step fill and drain the array less often and need more room. Errors of the first are raised as in
    :func:`fused_program`.
    """
    least = FusedTiling()
    yield least, fused_program(stream, graph, mask, machine, tiling=least)
    for rows_per_step in (0, *STEPS):
        for spare_rows in (0, 1):
            tiling = FusedTiling(spare_rows=spare_rows, rows_per_step=rows_per_step)
            if tiling == least:
                continue
            try:
                program = fused_program(stream, graph, mask, machine, tiling=tiling)
            except MappingError:
                break
            yield tiling, program


class LineBufferProgram:
    """A group with all that its program is made of; ``unroll`` gives the program that is run on numbers."""

    def __init__(
        self, stream: OperatorStream, graph: FusionGraph, mask: int, machine: MachineSpec, tiling: FusedTiling
    ) -> None:
        if not graph.is_group(mask):
            raise InputError(f"{graph.name}: a fusion group must hang together and no path may leave it and come back")
        self.stream, self.graph, self.mask = stream, graph, mask
        self.plan: RowPlan = plan_rows(graph, mask, spare_rows=tiling.spare_rows, rows_per_step=tiling.rows_per_step)
        if any(graph.nodes[i].kind in NOT_BY_ROWS for i in members(mask)):
            raise InputError(f"{graph.name}: attention, products of activations and look-ups do not run row by row")
        if self.plan.reason is not None:
            raise InputError(f"{graph.name}: the group cannot run row by row: {self.plan.reason}")
        self.order: Schedule = schedule(graph, mask, self.plan)
        self.costs = GroupCosts(stream, graph, machine)
        self.images = graph.nodes[members(mask)[0]].output.batch

    def program(self, *, unroll: bool = False) -> Program:
        """The program; see :func:`fused_program`."""
        builder = ProgramBuilder(TileCore.engines(1), [TileCore.channel(self.costs)], unroll=unroll)
        core = TileCore(self.costs, n_groups=1, builder=builder)
        self._reserve(core)
        core.declared()
        _Writer(self, core).write()
        return builder.build()

    def _reserve(self, core: TileCore[GroupCosts]) -> None:
        for i in members(self.mask):
            if self.graph.nodes[i].weight_bytes:
                core.reserve(f"weights of {self.graph.nodes[i].name}", self.graph.nodes[i].weight_bytes)
        for place, rows in self.plan.rings.items():
            core.reserve(f"rows of {self.plan.maps.tensors[place].name}", rows * self.plan.maps.row_bytes[place])


class _Writer:
    """Writes the commands of all images."""

    def __init__(self, made: LineBufferProgram, core: TileCore[GroupCosts]) -> None:
        self.made, self.core = made, core
        self.order, self.graph, self.costs = made.order, made.graph, made.costs
        self.links: dict[Link, int] = {}
        images = made.images
        between = made.order.holders if images > 1 else ()
        self.between = {pair: core.semaphore(f"{_name(pair)} image", 1, is_slot=True) for pair in between}
        self.last = {command.stream: command.number for command in made.order.commands}
        self.weights: dict[int, int] = {}

    def write(self) -> None:
        """Image by image; the first one finds the weights on their way."""
        for image in range(self.made.images):
            self._image(image)

    def _image(self, image: int) -> None:
        sections = [list(part) for _, part in groupby(self.order.commands, key=lambda command: command.step)]
        texts = [tuple(self._text(command, image) for command in section) for section in sections]
        at = 0
        while at < len(sections):
            same = 1
            while at + same < len(sections) and texts[at + same] == texts[at]:
                same += 1
            if self.core.unroll or same == 1:
                for section in sections[at : at + same]:
                    self._section(section, image)
            else:
                for _ in self.core.loop(same, name="rows"):
                    self._section(sections[at], image)
            at += same

    def _section(self, section: list[Command], image: int) -> None:
        for command in section:
            self._weights(command, image)
            engine, work, waits, signals = self._text(command, image)
            run = ("fused rows", command, image) if self.core.unroll else None
            label = self._label(command)
            if engine == LOAD:
                self.core.load(work, waits=waits, signals=signals, label=label, run=run)
            elif engine == STORE:
                self.core.store(work, waits=waits, signals=signals, label=label, run=run)
            elif engine == MATRIX:
                self.core.matrix(work, waits=waits, signals=signals, label=label, run=run)
            else:
                self.core.vector(work, waits=waits, signals=signals, label=label, run=run)

    def _weights(self, command: Command, image: int) -> None:
        """The node's weights, before its first command."""
        i = command.stream.on
        first = command.number == 0 and image == 0 and command.stream.action == "make"
        if first and self.graph.nodes[i].weight_bytes:
            run = ("fused weights", i) if self.core.unroll else None
            self.core.load(
                self.costs.load_weights(self.graph.nodes[i]),
                signals=[self._weights_there(i)],
                label=f"load weights of {self.graph.nodes[i].name}",
                run=run,
            )

    def _weights_there(self, i: int) -> int:
        if i not in self.weights:
            self.weights[i] = self.core.semaphore(f"weights of {self.graph.nodes[i].name} ready")
        return self.weights[i]

    def _text(self, command: Command, image: int) -> tuple[int, Work, tuple[int, ...], tuple[int, ...]]:
        """(engine, work, waits, signals): what makes two commands the same."""
        stream = command.stream
        key = (stream, command.number)
        waits = [self._link(link) for link in self.order.waits.get(key, ())]
        signals = [self._link(link) for link in self.order.signals.get(key, ())]
        first, last = command.number == 0, command.number == self.last[stream]
        if first and image == 0 and stream.action == "make" and self.graph.nodes[stream.on].weight_bytes:
            waits.append(self._weights_there(stream.on))
        waits += [token for (_, writer), token in self.between.items() if first and writer == stream]
        signals += [token for (user, _), token in self.between.items() if last and user == stream]
        return self.order.engines[stream], self._work(command), tuple(waits), tuple(signals)

    def _link(self, link: Link) -> int:
        if link not in self.links:
            what = "ready" if link.data else "free"
            self.links[link] = self.core.semaphore(
                f"{_name((link.source, link.target))} {what}", 0, is_slot=not link.data
            )
        return self.links[link]

    def _work(self, command: Command) -> Work:
        stream = command.stream
        if stream.action == "load":
            return self.costs.load_rows(self.made.plan.maps.tensors[stream.on], command.rows)
        if stream.action == "store":
            return self.costs.store_rows(self.made.plan.maps.tensors[stream.on], command.rows)
        return self.costs.make_rows(self.graph.nodes[stream.on], command.first, command.rows)

    def _label(self, command: Command) -> str:
        name = self.made.plan.maps.tensors[command.stream.on].name
        if command.stream.action == "make":
            name = self.graph.nodes[command.stream.on].name
        return f"{command.stream.action} {name}" if command.stream.action != "make" else name


def _name(pair: tuple[Stream, Stream]) -> str:
    return " to ".join(f"{stream.action} {stream.on}" for stream in pair)
