"""A group executed depth first as a program of one core, and its exact run.

Weights come first. Then, tile by tile: the fresh parts of the maps from outside are loaded into one of two slots, the
nodes run one behind the other, and each result is stored from one of two slots. Neighbouring tiles that are alike
become loops, which the engine then skips through.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import groupby, product
from typing import NamedTuple

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.engine.program import Program, ProgramBuilder
from tilewright.sim.fusion.binding import Task, write_tasks
from tilewright.sim.fusion.commands import GroupCosts
from tilewright.sim.fusion.graph.fusion_graph import members
from tilewright.sim.fusion.rows import NOT_BY_ROWS
from tilewright.sim.fusion.tiles.axis import AxisStep
from tilewright.sim.fusion.tiles.geometry import DepthFirstGeometry
from tilewright.sim.fusion.tiles.homes import TileShape
from tilewright.sim.fusion.tiles.room import group_cost
from tilewright.sim.lowering.core import LOAD, MATRIX, STORE, VECTOR, TileCore
from tilewright.sim.lowering.costs import Work
from tilewright.units import bits_to_bytes
from tilewright.workloads.homes import GROUP_IN_DRAM, GroupHomes
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["SLOTS", "TiledProgram"]

#: Places for what is loaded, and for what is stored.
SLOTS = 2


class TiledProgram:
    """A tiling of a group of the graph of ``stream`` with all that its program is made of.

    Unrolled it can be run on numbers. Raises InputError for maps that differ in their number of images, and for
    attention, products of activations and look-ups; ``program`` raises MappingError when it does not fit the working
    buffer.
    """

    def __init__(
        self,
        stream: OperatorStream,
        plan: DepthFirstGeometry,
        machine: MachineSpec,
        homes: GroupHomes = GROUP_IN_DRAM,
    ) -> None:
        batches = {one.batch for one in plan.maps.values()}
        if len(batches) > 1:
            raise InputError(f"{plan.graph.name}: the group's feature maps differ in the number of images")
        for node in (plan.graph.nodes[i] for i in members(plan.group)):
            if node.kind in NOT_BY_ROWS:  # whose work is not that of pixels of its result
                raise InputError(f"{plan.graph.name}: {node.name}: tiles of {node.kind} have no program")
        (self.images,) = batches
        self.plan = plan
        self.costs = GroupCosts(stream, plan.graph, machine, homes)
        self.results = [plan.result[node] for node in plan.graph.needed_outside(plan.group)]
        self._known: dict[tuple[int, int], list[_Step]] = {}

    def program(self, *, unroll: bool = False) -> Program:
        """The program; ``unroll``: without loops, each command with what it does to numbers."""
        builder = ProgramBuilder(TileCore.engines(1), self.costs.channels(), unroll=unroll)
        core = TileCore(self.costs, n_groups=1, builder=builder)
        self._reserve(core)
        core.declared()
        write_tasks(core, list(self._tasks(unroll=unroll)))
        return builder.build()

    def _reserve(self, core: TileCore[GroupCosts]) -> None:
        """Weights, tile and caches as the scheme counts them; a second slot for what is loaded and stored."""
        weights = sum(self.plan.graph.nodes[node].weight_bytes for node in members(self.plan.group))
        core.reserve("weights", weights)
        core.reserve("tile and caches", group_cost(self.plan).buffer_bytes - weights)
        for name in (*self.plan.outside, *self.results):
            columns = max(step[name].fresh for step in self.plan.columns.steps)
            rows = max(step[name].fresh for step in self.plan.rows.steps)
            core.reserve(f"next {name}", bits_to_bytes(columns * rows * self.plan.maps[name].pixel_bits))

    def _tasks(self, *, unroll: bool) -> Iterator[Task]:
        """Weights, then image by image and row by row the tiles; what is loaded or stored takes its slots in turn."""
        for node in (self.plan.graph.nodes[i] for i in members(self.plan.group)):
            if node.weight_bytes:
                cell, label = ("weights", node.index), f"load weights of {node.name}"
                yield Task(LOAD, self.costs.load_weights(node), (), (cell,), label, (), ("tile weights", node.index))
        count = dict.fromkeys((*self.plan.outside, *self.results), 0)
        across, down = (_parts(axis.kinds, whole=unroll) for axis in (self.plan.columns, self.plan.rows))
        for image, (j, n_rows), (i, n_columns) in product(range(self.images), down, across):
            section, times = (image, j, i), (1, n_rows, n_columns)
            slots = {}
            for step in self._steps(i, j):
                if step.fills:
                    slots[step.fills] = ("slot", step.fills, count[step.fills] % SLOTS)
                    count[step.fills] += 1
                reads = (*(slots[name] for name in step.reads), *step.weights)
                writes = (*((slots[step.fills],) if step.fills else ()), *step.tile)
                run = (*step.run, image, i, j)
                yield Task(step.engine, step.work, reads, writes, step.label, section, run, times)

    def _steps(self, i: int, j: int) -> list[_Step]:
        """What a tile of the kinds of (i, j) does: loads, then node by node the work and the store of a result."""
        key = self.plan.columns.kinds[i], self.plan.rows.kinds[j]
        if key not in self._known:
            self._known[key] = list(self._of_kind(self.plan.columns.step(i), self.plan.rows.step(j)))
        return self._known[key]

    def _of_kind(self, columns: AxisStep, rows: AxisStep) -> Iterator[_Step]:
        plan, shape = self.plan, TileShape(self.plan, columns, rows, None)
        fresh = {name: (columns[name].fresh, rows[name].fresh) for name in plan.maps}
        here = {name for name, size in fresh.items() if min(size)}
        for name in plan.outside:
            if name in here:
                work = self.costs.load_part(plan.maps[name], *fresh[name])
                yield _Step(LOAD, work, f"load {name}", ("tile load", name), fills=name)
        for node in (plan.graph.nodes[i] for i in members(plan.group)):
            name = plan.result[node.index]
            if name not in here:
                continue
            sources = dict.fromkeys(source for edge, source in plan.edges if edge.consumer == node.index)
            reading = sum(shape.read_bits(edge) for edge in shape.edges_into(node.index))
            is_stored = name in self.results
            yield _Step(
                MATRIX if node.on_matrix else VECTOR,
                self.costs.make_part(node, *fresh[name], reading),
                node.name,
                ("tile make", node.index),
                fills=name if is_stored else "",
                reads=tuple(source for source in sources if source in here and source in plan.outside),
                weights=(("weights", node.index),) if node.weight_bytes else (),
                tile=("tile",),
            )
            if is_stored:
                work = self.costs.store_part(plan.maps[name], *fresh[name])
                yield _Step(STORE, work, f"store {name}", ("tile store", name), reads=(name,))


class _Step(NamedTuple):
    """A command of every tile of one kind. ``fills``, ``reads``: maps whose slots it uses; ``tile``: the cell of what
    the tile is made in, where one node works behind the other.
    """

    engine: int
    work: Work
    label: str
    run: tuple[Hashable, ...]
    fills: str = ""
    reads: tuple[str, ...] = ()
    weights: tuple[Hashable, ...] = ()
    tile: tuple[Hashable, ...] = ()


def _parts(kinds: Sequence[int], *, whole: bool) -> list[tuple[int, int]]:
    """(step, how many it stands for) along an axis.

    A step is bound to no other than the two before and the two behind it (each takes the next of two slots), so all of
    a long run of one kind are the same but for the first two and the last two. A multiple of the slots is left out, so
    that those behind find the slots as they would.
    """
    found = []
    for _, run in groupby(range(len(kinds)), key=kinds.__getitem__):
        steps = list(run)
        n_left_out = 0 if whole else max(0, (len(steps) - 2 * SLOTS - 1) // SLOTS * SLOTS)
        found += [(step, 1) for step in steps[:SLOTS]]
        found += [(step, 1 + n_left_out if at == 0 else 1) for at, step in enumerate(steps[SLOTS + n_left_out :])]
    return found
