"""A group executed depth first as a program of one core, and its exact run.

Weights come first. Then, tile by tile: the fresh parts of the maps from outside are loaded into one of two slots, the
nodes run one behind the other, and each result is stored from one of two slots. Rows and columns of tiles that are
alike become loops, which the engine then skips through.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.engine.program import Program, ProgramBuilder
from tilewright.sim.fusion.commands import GroupCosts
from tilewright.sim.fusion.graph.fusion_graph import members
from tilewright.sim.fusion.rows import NOT_BY_ROWS
from tilewright.sim.fusion.tiles.axis import AxisStep
from tilewright.sim.fusion.tiles.geometry import DepthFirstGeometry
from tilewright.sim.fusion.tiles.homes import TileShape
from tilewright.sim.fusion.tiles.room import group_cost
from tilewright.sim.lowering.core import TileCore
from tilewright.units import bits_to_bytes
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

    def __init__(self, stream: OperatorStream, plan: DepthFirstGeometry, machine: MachineSpec) -> None:
        batches = {one.batch for one in plan.maps.values()}
        if len(batches) > 1:
            raise InputError(f"{plan.graph.name}: the group's feature maps differ in the number of images")
        for node in (plan.graph.nodes[i] for i in members(plan.group)):
            if node.kind in NOT_BY_ROWS:  # whose work is not that of pixels of its result
                raise InputError(f"{plan.graph.name}: {node.name}: tiles of {node.kind} have no program")
        (self.images,) = batches
        self.plan = plan
        self.costs = GroupCosts(stream, plan.graph, machine)
        self.results = [plan.result[node] for node in plan.graph.needed_outside(plan.group)]

    def program(self, *, unroll: bool = False) -> Program:
        """The program; ``unroll``: without loops, each command with what it does to numbers."""
        builder = ProgramBuilder(TileCore.engines(1), [TileCore.channel(self.costs)], unroll=unroll)
        core = TileCore(self.costs, n_groups=1, builder=builder)
        self._reserve(core)
        core.declared()
        _Writer(self, core).write()
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


class _Writer:
    """Writes the commands of all tiles."""

    def __init__(self, made: TiledProgram, core: TileCore[GroupCosts]) -> None:
        self.made, self.core, self.plan, self.costs = made, core, made.plan, made.costs
        self.free = {
            name: core.semaphore(f"{name} slot free", SLOTS, is_slot=True)
            for name in (*self.plan.outside, *made.results)
        }
        self.ready = {name: core.semaphore(f"{name} ready") for name in (*self.plan.outside, *made.results)}
        self.passed = {engine: core.semaphore(f"to the {engine} unit") for engine in ("matrix", "vector")}
        self.weights: dict[int, int] = {}

    def write(self) -> None:
        """Weights, then image by image rows of tiles; neighbours of one kind are one loop."""
        for node in members(self.plan.group):
            one = self.plan.graph.nodes[node]
            if one.weight_bytes:
                self.weights[node] = self.core.semaphore(f"weights of {one.name} ready")
                self.core.load(
                    self.costs.load_weights(one),
                    signals=[self.weights[node]],
                    label=f"load weights of {one.name}",
                    run=("tile weights", node),
                )
        for image in range(self.made.images):
            self._image(image)

    def _image(self, image: int) -> None:
        for first_row, n_rows in _runs(self.plan.rows.kinds):
            for down in self.core.loop(n_rows, name="rows of tiles"):
                row = first_row + down if self.core.unroll else first_row
                for first_column, n_columns in _runs(self.plan.columns.kinds):
                    for across in self.core.loop(n_columns, name="tiles"):
                        self._tile(first_column + across if self.core.unroll else first_column, row, image)

    def _engines(self, i: int, j: int) -> list[tuple[int, str]]:
        """The nodes that compute something in tile (i, j), in order, each with its unit; never none."""
        columns, rows = self.plan.columns.step(i), self.plan.rows.step(j)
        found = []
        for node in members(self.plan.group):
            name = self.plan.result[node]
            if columns[name].fresh and rows[name].fresh:
                found.append((node, "matrix" if self.plan.graph.nodes[node].on_matrix else "vector"))
        return found

    def _around(self, i: int, j: int, image: int) -> tuple[str, str]:
        """The unit on which the tile before ends, and that on which the tile behind begins; empty where is none."""
        n_columns, n_tiles = self.plan.columns.n_steps, self.plan.n_tiles
        place = j * n_columns + i

        def engines(other: int) -> list[tuple[int, str]]:  # counted through all images
            return self._engines(other % n_tiles % n_columns, other % n_tiles // n_columns)

        is_first, is_last = not place and not image, place + 1 == n_tiles and image + 1 == self.made.images
        before = "" if is_first else engines(place - 1)[-1][1]
        return before, "" if is_last else engines(place + 1)[0][1]

    def _tile(self, i: int, j: int, image: int) -> None:
        plan, columns, rows = self.plan, self.plan.columns.step(i), self.plan.rows.step(j)
        shape = TileShape(plan, columns, rows, None)
        working = self._engines(i, j)
        readers = {name: [node for node, _ in working if _reads(plan, node, name)] for name in plan.outside}
        for name in plan.outside:
            self._load(name, columns, rows, (image, i, j), read=bool(readers[name]))
        loaded = [one for one in plan.outside if readers[one] and shape.fresh_bits(one)]
        before, behind = self._around(i, j, image)
        chain = [before, *(engine for _, engine in working), behind]
        for place, (node, engine) in enumerate(working, start=1):
            name = plan.result[node]
            waits, signals = list[int](), list[int]()
            if (image, i, j) == (0, 0, 0):
                waits += self._weights_for(node, [] if place > 1 else [one for one, _ in working])
            if chain[place - 1] not in ("", engine):
                waits.append(self.passed[engine])
            if chain[place + 1] not in ("", engine):
                signals.append(self.passed[chain[place + 1]])
            waits += [self.ready[one] for one in loaded if readers[one][0] == node]
            signals += [self.free[one] for one in loaded if readers[one][-1] == node]
            if name in self.made.results:
                waits.append(self.free[name])
                signals.append(self.ready[name])
            reading = sum(shape.read_bits(edge) for edge in shape.edges_into(node))
            work = self.costs.make_part(plan.graph.nodes[node], columns[name].fresh, rows[name].fresh, reading)
            issue = self.core.matrix if engine == "matrix" else self.core.vector
            label, run = plan.graph.nodes[node].name, ("tile make", node, image, i, j)
            issue(work, waits=waits, signals=signals, label=label, run=run)
            if name in self.made.results:
                self._store(name, columns, rows, (image, i, j))

    def _weights_for(self, node: int, working: list[int]) -> list[int]:
        """Semaphores of the node's weights; the first node of the first tile waits for those of idle nodes too."""
        idle = [one for one in self.weights if one not in working] if working else []
        return [self.weights[one] for one in (node, *idle) if one in self.weights]

    def _store(self, name: str, columns: AxisStep, rows: AxisStep, at: tuple[int, int, int]) -> None:
        self.core.store(
            self.costs.store_part(self.plan.maps[name], columns[name].fresh, rows[name].fresh),
            waits=[self.ready[name]],
            signals=[self.free[name]],
            label=f"store {name}",
            run=("tile store", name, *at),
        )

    def _load(self, name: str, columns: AxisStep, rows: AxisStep, at: tuple[int, int, int], *, read: bool) -> None:
        """Bring what is fresh; where no node of this tile reads it, it only goes into the caches."""
        if columns[name].fresh and rows[name].fresh:
            self.core.load(
                self.costs.load_part(self.plan.maps[name], columns[name].fresh, rows[name].fresh),
                waits=[self.free[name]],
                signals=[self.ready[name] if read else self.free[name]],
                label=f"load {name}",
                run=("tile load", name, *at),
            )


def _reads(plan: DepthFirstGeometry, node: int, name: str) -> bool:
    return any(edge.consumer == node and source == name for edge, source in plan.edges)


def _runs(kinds: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """(first step, steps) of neighbours of one kind; the first and the last of them stand alone.

    So what is said once for all steps between is true of each, also of what comes before and behind it.
    """
    first = 0
    for _, run in groupby(kinds):
        n = len(list(run))
        for begin, end in ((0, 1), (1, n - 1), (max(1, n - 1), n)):
            if end > begin:
                yield first + begin, end - begin
        first += n
