"""A group in full and partial slabs as a program: see :mod:`tilewright.sim.fusion.schemes.brr` for what is held and
moved.

In every step the units of the group run one after the other. A full node makes its new rows: a convolution or product
whose weights do not stay does so for one piece of output channels after the other. A unit with partial maps goes over
its channels piece by piece: inputs that come in pieces are loaded, convolutions make these channels of the rows that
are needed in the step, what works on each channel follows, and each sum adds what the piece gives to its wide sums; the
last piece leaves the finished rows. An attention takes one head after the other: scores, softmax, values.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.engine.program import Program, ProgramBuilder
from tilewright.sim.fusion.binding import Task, write_tasks
from tilewright.sim.fusion.commands import GroupCosts
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, FusionNode, members
from tilewright.sim.fusion.layer_alone import SUM_BITS
from tilewright.sim.fusion.places import Places
from tilewright.sim.fusion.schedule import needed_rows
from tilewright.sim.fusion.slabs.choice import Unit, mixes
from tilewright.sim.fusion.slabs.sizes import SlabChoice, SlabRules, step_rows, step_span
from tilewright.sim.lowering.core import LOAD, MATRIX, STORE, VECTOR, TileCore
from tilewright.sim.lowering.costs import Work
from tilewright.units import ceil_div
from tilewright.workloads.homes import GROUP_IN_DRAM, GroupHomes
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["SlabProgram", "Slice", "slab_program"]


class Slice(NamedTuple):
    """Rows and channels [first, last) of a map that a task works on, for one step of one image."""

    map: int
    rows: range
    first: int
    last: int
    step: int
    image: int

    @property
    def channels(self) -> int:
        return self.last - self.first


def slab_program(
    stream: OperatorStream, graph: FusionGraph, mask: int, machine: MachineSpec, rules: SlabRules
) -> Program:
    """The program of a group as ``rules`` choose to run it, on one core of ``machine``.

    Raises InputError for a group that does not run in slabs and MappingError when it does not fit on chip.
    """
    return SlabProgram(stream, graph, mask, machine, rules).program()


class SlabProgram:
    """A group with all that its program is made of."""

    def __init__(
        self,
        stream: OperatorStream,
        graph: FusionGraph,
        mask: int,
        machine: MachineSpec,
        rules: SlabRules,
        homes: GroupHomes = GROUP_IN_DRAM,
    ) -> None:
        if not graph.is_group(mask):
            raise InputError(f"{graph.name}: a fusion group must hang together and no path may leave it and come back")
        reason = rules.refusal(graph, mask)
        if reason is not None:
            raise InputError(f"{graph.name}: the group cannot run in slabs: {reason}")
        self.stream, self.graph, self.mask, self.rules = stream, graph, mask, rules
        self.choice: SlabChoice = rules.choose(graph, mask)
        self.plan, self.maps = self.choice.plan, self.choice.plan.maps
        self.costs = GroupCosts(stream, graph, machine, homes)
        self.stored = set(graph.needed_outside(mask))
        self.places = Places(graph, self.maps, self.choice.rides_on, self.is_inside)
        self.images = graph.nodes[members(mask)[0]].output.batch
        self.step_rows = {i: rows * self.choice.rows_per_step for i, rows in self.plan.steps.items()}
        self._piece = 0
        self._there: set[int] = set()

    def is_inside(self, i: int) -> bool:
        """Whether map i is made by a node of the group."""
        return i < self.maps.n_nodes and bool(self.mask >> i & 1)

    def program(self, *, unroll: bool = False) -> Program:
        """The program; see :func:`slab_program`."""
        builder = ProgramBuilder(TileCore.engines(1), self.costs.channels(), unroll=unroll)
        core = TileCore(self.costs, n_groups=1, builder=builder)
        for name, n_bytes in self.choice.room.items():
            core.reserve(name, n_bytes)
        core.declared()
        write_tasks(core, list(self._tasks()))
        return builder.build()

    # -- rows ------------------------------------------------------------------------------------------------------

    def new_rows(self, i: int, step: int) -> range:
        """The rows by which map i advances in a step."""
        ahead, rows, height = int(self.plan.offsets[i]), self.step_rows[i], self.maps.tensors[i].height
        return step_rows(ahead, rows, height, step, joined=self.choice.joined_start)

    def rows(self, i: int, step: int) -> range:
        """The rows of map i that are made (or loaded) in a step: new ones, or all that a partial map's readers need."""
        if i not in self.choice.slabs.partial:
            return self.new_rows(i, step)
        spans = [self.new_rows(i, step)] if i in self.stored else []
        for reader in self.plan.readers[i]:
            made = self.rows(reader.consumer, step)
            if made:
                spans.append(needed_rows(reader.rows, made.start, len(made)))
        spans = [span for span in spans if span]
        return range(min(s.start for s in spans), max(s.stop for s in spans)) if spans else range(0)

    def _span(self, i: int) -> tuple[int, int]:
        """(first, last) step in which map i advances."""
        ahead, rows, height = int(self.plan.offsets[i]), self.step_rows[i], self.maps.tensors[i].height
        return step_span(ahead, rows, height, joined=self.choice.joined_start)

    # -- cells -----------------------------------------------------------------------------------------------------

    def cells(self, i: int, rows: range, *, own: bool = False) -> list[Hashable]:
        """What rows of map i lie in; ``own``: only what node i itself writes of a join."""
        place = self.places.place(i)
        if i in self.choice.slabs.partial:
            pieces = [piece for piece in self.places.pieces(i) if not own or piece.state == i]
            return [("slab", place, piece.part) for piece in pieces]
        return self.places.cells(i, rows, self.choice.held[place], own=own)

    def _inputs(self, i: int, rows: range) -> list[Hashable]:
        found: list[Hashable] = []
        for p, reader in self.maps.sources[i]:
            if self.graph.nodes[i].kind == "concat" and self.places.is_in_place(i, p):
                continue
            wanted = rows if reader.sweeps else needed_rows(reader.rows, rows.start, len(rows))
            found += self.cells(p, wanted) if wanted else []
        return found

    # -- tasks -----------------------------------------------------------------------------------------------------

    def _tasks(self) -> Iterator[Task]:
        phases = sorted(set(self.plan.phases.values()))
        for image in range(self.images):
            for phase in phases:
                spans = [self._span(i) for i in self.plan.readers if self.plan.phases[i] == phase]
                for step in range(min(s[0] for s in spans), max(s[1] for s in spans) + 1):
                    for task in self._step(phase, step, image):
                        yield task._replace(section=((image, phase, step),))

    def _step(self, phase: int, step: int, image: int) -> Iterator[Task]:
        partial = self.choice.slabs.partial
        for i in self.plan.readers:
            if not self.is_inside(i) and i not in partial and self.plan.phases[i] == phase:
                rows = self.new_rows(i, step)
                if rows:
                    slice_ = Slice(i, rows, 0, self.maps.tensors[i].channels, step, image)
                    work = self.costs.load_rows(self.maps.tensors[i], len(rows))
                    yield self._task(
                        LOAD, work, [], self.cells(i, rows), f"load {self.maps.tensors[i].name}", "load", slice_
                    )
        for unit in self.choice.slabs.units:
            of_phase = [i for i in (*unit.sums, *unit.partial) if self.plan.phases[i] == phase]
            if not of_phase:
                continue
            if unit.partial:
                yield from self._in_pieces(unit, step, image)
            else:
                yield from self._full(unit.sums[0], step, image)
            for i in unit.sums:
                yield from self._store(i, self._finished(i, step), 0, self.maps.tensors[i].channels, step, image)

    def _finished(self, i: int, step: int) -> range:
        """The rows of a full map that are finished in a step; that of a global pooling with the last of its input."""
        for source, reader in self.maps.sources[i]:
            if reader.sweeps:
                rows = self.new_rows(source, step)
                return range(int(bool(rows) and rows.stop == self.maps.tensors[source].height))
        return self.new_rows(i, step)

    def _task(
        self,
        engine: int,
        work: Work,
        reads: list[Hashable],
        writes: list[Hashable],
        label: str,
        what: str,
        *arguments: Any,
        weights: tuple[Hashable, int] | None = None,
    ) -> Task:
        run = ("slab", what, weights, *arguments)
        reads = [*reads, weights[0]] if weights is not None and what != "weights" else reads
        return Task(engine, work, tuple(reads), tuple(writes), label, (), run)

    def _store(self, i: int, rows: range, first: int, last: int, step: int, image: int) -> Iterator[Task]:
        if i in self.stored and rows:
            tensor = self.maps.tensors[i]
            work = self.costs.store_channels(tensor, len(rows), last - first)
            slice_ = Slice(i, rows, first, last, step, image)
            yield self._task(STORE, work, self.cells(i, rows), [], f"store {tensor.name}", "store", slice_)

    def _weights(self, node: FusionNode, part: int, whole: int) -> tuple[list[Task], tuple[Hashable, int] | None]:
        """The load of ``part`` of ``whole`` of a node's weights (of all of them, once, where they stay).

        Also the cell that they lie in and the number of the piece; None for a node without weights.
        """
        i = node.index
        if not node.weight_bytes:
            return [], None
        n_bytes = node.weight_bytes if i in self.choice.resident else ceil_div(node.weight_bytes * part, whole)
        if i in self.choice.resident:
            found: tuple[Hashable, int] = (("weights", i), 0)
            if i in self._there:
                return [], found
            self._there.add(i)
        else:
            found = (("piece", self._piece % self.rules.piece_slots), self._piece)
            self._piece += 1
        work, label = self.costs.load_piece(n_bytes, self.costs.weight_home(node)), f"load weights of {node.name}"
        return [self._task(LOAD, work, [], [found[0]], label, "weights", n_bytes, weights=found)], found

    # -- a full node -----------------------------------------------------------------------------------------------

    def _full(self, i: int, step: int, image: int) -> Iterator[Task]:
        node = self.graph.nodes[i]
        sweeps = [(p, r) for p, r in self.maps.sources[i] if r.sweeps]
        rows = self.new_rows(sweeps[0][0], step) if sweeps else self.new_rows(i, step)
        if not rows or self.places.is_silent(i):
            return
        channels = self.maps.tensors[i].channels
        if node.kind == "attention":
            yield from self._attention(node, rows, step, image)
            return
        share = self.rules.piece_channels if mixes(node) and i not in self.choice.resident else channels
        for first in range(0, channels, share):
            last = min(channels, first + share)
            slice_ = Slice(i, rows, first, last, step, image)
            reads = self._inputs(i, rows)
            loads, weights = self._weights(node, last - first, channels)
            yield from loads
            if sweeps:
                work, writes = self.costs.make_rows(node, rows.start, len(rows)), self.cells(i, range(1))
                yield self._task(VECTOR, work, [*reads, *writes], writes, node.name, "sweep", slice_)
                continue
            engine = MATRIX if mixes(node) else VECTOR
            work = self._product(node, slice_) if mixes(node) else self.costs.make_rows(node, rows.start, len(rows))
            writes = self.cells(i, rows, own=True)
            yield self._task(engine, work, reads, writes, node.name, "make", slice_, weights=weights)

    def _product(self, node: FusionNode, slice_: Slice) -> Work:
        """Rows of some output channels from all input channels."""
        taps, out = self.costs.taps(node), node.output
        m, k = len(slice_.rows) * out.width, taps * node.in_channels // node.groups
        if node.groups > 1:
            times = ceil_div(node.groups * slice_.channels, out.channels)
            work = self.costs.matrix_work(node, m, k, out.channels // node.groups, times=times)
        else:
            work = self.costs.matrix_work(node, m, k, slice_.channels)
        return self.costs.riding(node, work, len(slice_.rows), slice_.channels)

    def _attention(self, node: FusionNode, rows: range, step: int, image: int) -> Iterator[Task]:
        operator = self.costs.operators[node.name]
        n_keys, heads = operator.count("key_len"), operator.count("query_heads")
        qk, softmax, pv = self.costs.attention_work(node, len(rows), n_keys)
        width = node.output.channels // heads
        for head in range(heads):
            slice_ = Slice(node.index, rows, head * width, (head + 1) * width, step, image)
            inputs = self._inputs(node.index, rows)
            scores: Hashable = ("scores",)
            yield self._task(MATRIX, qk, inputs, [scores], f"{node.name} Q K", "scores", slice_, head)
            yield self._task(VECTOR, softmax, [scores], [scores], f"{node.name} softmax", "softmax", slice_)
            writes = self.cells(node.index, rows)
            yield self._task(MATRIX, pv, [*inputs, scores], writes, f"{node.name} P V", "values", slice_, head)

    # -- a unit with partial maps ----------------------------------------------------------------------------------

    def _in_pieces(self, unit: Unit, step: int, image: int) -> Iterator[Task]:
        made = {i: self.rows(i, step) for i in unit.partial}
        if not any(made.values()) and not any(self.new_rows(i, step) for i in unit.sums):
            return
        share = self.rules.piece_channels
        for begin in range(0, unit.channels, share):
            end = min(unit.channels, begin + share)
            # inputs come first, then nodes in the order in which they can run
            for i in sorted(unit.partial, key=lambda i: (self.is_inside(i), i)):
                first = max(0, begin - unit.first[i])
                last = min(self.maps.tensors[i].channels, end - unit.first[i])
                if first < last and made[i]:
                    yield from self._partial(Slice(i, made[i], first, last, step, image), step)
            for i in unit.sums:
                yield from self._sum(unit, i, begin, end, step, image)

    def _partial(self, slice_: Slice, step: int) -> Iterator[Task]:
        i, rows = slice_.map, slice_.rows
        tensor, writes = self.maps.tensors[i], self.cells(i, rows, own=True)
        if not self.is_inside(i):
            work = self.costs.load_channels(tensor, len(rows), slice_.channels)
            yield self._task(LOAD, work, [], self.cells(i, rows), f"load {tensor.name}", "load", slice_)
            return
        node = self.graph.nodes[i]
        if not self.places.is_silent(i):
            loads, weights = self._weights(node, slice_.channels, tensor.channels)
            yield from loads
            if mixes(node):
                engine, work = MATRIX, self._product(node, slice_)
            else:
                read_rows = max(len(needed_rows(r.rows, rows.start, len(rows))) for _, r in self.maps.sources[i])
                engine, work = VECTOR, self.costs.slab_rows(node, len(rows), read_rows, slice_.channels)
            reads = self._inputs(i, rows)
            yield self._task(engine, work, reads, writes, node.name, "partial", slice_, weights=weights)
        yield from self._store(i, self.new_rows(i, step), slice_.first, slice_.last, step, slice_.image)

    def _sum(self, unit: Unit, i: int, begin: int, end: int, step: int, image: int) -> Iterator[Task]:
        """What a piece of channels gives to the rows of a full map."""
        node, rows = self.graph.nodes[i], self.new_rows(i, step)
        ((source, _),) = self.maps.sources[i]
        whole = self.maps.tensors[source].channels
        first, last = max(0, begin - unit.first[source]), min(whole, end - unit.first[source])
        if not rows or first >= last:
            return
        slice_ = Slice(i, rows, first, last, step, image)
        reads = self._inputs(i, rows)
        loads, weights = self._weights(node, last - first, whole)
        yield from loads
        taps, out = self.costs.taps(node), node.output
        m, k = len(rows) * out.width, taps * (last - first)
        wide: Hashable = ("sum", i)
        is_last = last == whole
        sum_bits = 0 if first == 0 and is_last else SUM_BITS
        work = self.costs.matrix_work(node, m, k, out.channels, sum_bits=sum_bits, add_to=first > 0)
        if is_last:
            work = self.costs.riding(node, work, len(rows), out.channels)
        writes = self.cells(i, rows, own=True) if is_last else [wide]
        reads = [*reads, wide] if first else reads
        yield self._task(MATRIX, work, reads, writes, node.name, "sum", slice_, whole, weights=weights)
