"""A fused group on numbers: its commands compute rows from the rows that its slots hold.

As in :mod:`tilewright.sim.numbers.interpreter`: the commands of the program without loops work in the order in which
they finish,
on slots that refuse what is not there, does not fit, or that no token protects. Row z of a map lies in slot z modulo
the rows that the plan keeps. A place on chip is cut into parts where a join has its inputs made in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members
from tilewright.sim.fusion.line_buffers.program import FusedTiling, LineBufferProgram
from tilewright.sim.fusion.places import Piece
from tilewright.sim.fusion.row_values import RowReader, Rows, from_maps, to_maps
from tilewright.sim.fusion.schedule import RowCommand, needed_rows
from tilewright.sim.numbers.hazards import Execution, HazardError, Place, Store
from tilewright.sim.numbers.interpreter import interpret, operation
from tilewright.units import BITS_PER_BYTE
from tilewright.workloads.homes import GROUP_IN_DRAM, GroupHomes
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["run_group_on_numbers", "run_partition_on_numbers"]

FloatArray = npt.NDArray[np.float64]


def run_partition_on_numbers(
    stream: OperatorStream,
    graph: FusionGraph,
    partition: tuple[int, ...],
    machine: MachineSpec,
    values: Mapping[str, FloatArray],
    *,
    tiling: FusedTiling | None = None,
    homes: GroupHomes = GROUP_IN_DRAM,
) -> dict[str, FloatArray]:
    """Group after group; ``values`` and ``homes`` as in :func:`run_group_on_numbers`. Returns all that DRAM then holds.

    Raises InputError when the groups do not cover the network or cannot run one after the other.
    """
    order = graph.order(partition)
    if len(order) != len(partition) or sum(partition) != graph.all_mask:
        raise InputError(f"{graph.name}: the groups do not cover the network, or wait for each other in a circle")
    known = dict(values)
    for mask in order:
        known |= run_group_on_numbers(stream, graph, mask, machine, known, tiling=tiling, homes=homes)
    return known


def run_group_on_numbers(
    stream: OperatorStream,
    graph: FusionGraph,
    mask: int,
    machine: MachineSpec,
    values: Mapping[str, FloatArray],
    *,
    tiling: FusedTiling | None = None,
    homes: GroupHomes = GROUP_IN_DRAM,
) -> dict[str, FloatArray]:
    """The tensors that a group leaves behind, as its commands compute them on one core of ``machine``.

    ``values``: the stored tensors that it reads and its weights, in the shapes of the stream. ``homes``: where those
    are kept, and what it leaves behind. Errors as in
    :func:`tilewright.sim.fusion.line_buffers.program.fused_program`; DeadlockError when the program gets stuck and
    HazardError when
    a command uses data that is not there.
    """
    made = LineBufferProgram(stream, graph, mask, machine, tiling or FusedTiling(), homes)
    program = made.program(unroll=True)
    chip = _Chip(made, values, program.buffer_bytes)
    interpret(program, chip)
    return chip.results()


class _Chip:
    """DRAM, weights and the places of the maps."""

    def __init__(self, made: LineBufferProgram, values: Mapping[str, FloatArray], reserved: Mapping[str, int]) -> None:
        self.made, self.plan, self.graph = made, made.plan, made.graph
        self.tensors = made.plan.maps.tensors
        self.reader = RowReader(made.stream, values)
        self.operators = {operator.name: operator for operator in made.stream.operators}
        self.stored = made.graph.needed_outside(made.mask)
        self.dram: dict[int, FloatArray] = {}
        for i in self.plan.readers:
            tensor = self.tensors[i]
            if not made.is_inside(i):
                self.dram[i] = to_maps(tensor, np.asarray(values[tensor.name], dtype=np.float64))
        for i in self.stored:
            tensor = self.tensors[i]
            self.dram[i] = np.full((tensor.batch, tensor.channels, tensor.height, tensor.width), np.nan)
        self.places = made.places
        self.stores: dict[tuple[int, int, int, tuple[int, int]], Store] = {}
        self._check_room(reserved)
        self.weights: dict[int, Store] = {}
        for i in members(made.mask):
            node = made.graph.nodes[i]
            if made.weight_loads[i]:
                room = reserved[f"weights of {node.name}"] * BITS_PER_BYTE
                self.weights[i] = Store(f"weights of {node.name}", 1, slot_bits=room, bits_of=lambda _: BITS_PER_BYTE)

    def bits(self, i: int) -> int | Fraction:
        """Bits of one row of map i."""
        tensor = self.tensors[i]
        return tensor.width * tensor.channels * tensor.bits

    def _check_room(self, reserved: Mapping[str, int]) -> None:
        """The parts of a row, each as large as the largest that it ever holds, fit in the room of a row."""
        needs: dict[int, dict[tuple[int, int], int | Fraction]] = {place: {} for place in self.plan.rings}
        for i in self.plan.readers:
            parts = needs[self.place(i)]
            for piece in self.pieces(i):
                bits = piece.channels * self.tensors[i].width * self.tensors[piece.state].bits
                parts[piece.part] = max(bits, parts.get(piece.part, 0))
        for place, rows in self.plan.rings.items():
            if place in self.plan.kept:
                continue
            name = f"rows of {self.tensors[place].name}"
            if sum(needs[place].values()) * rows > reserved[name] * BITS_PER_BYTE:
                raise HazardError(f"{name} need more than the {reserved[name]} bytes that were reserved")

    def place(self, i: int) -> int:
        """The map in whose place map i lies."""
        return self.places.place(i)

    def pieces(self, i: int) -> tuple[Piece, ...]:
        """What a row of map i consists of on chip."""
        return self.places.pieces(i)

    # -- rows ------------------------------------------------------------------------------------------------------

    def at(self, i: int, piece: Piece, image: int, row: int) -> Place:
        """Where a piece of row ``row`` of map i lies."""
        place = self.place(i)
        slot = row % self.plan.rings[place]
        key = (place, slot, image if place in self.plan.kept else 0, piece.part)
        if key not in self.stores:
            self.stores[key] = Store(f"row {slot} of {self.tensors[place].name}, part {piece.part}", 1)
        return Place(self.stores[key], f"row {row} of {self.tensors[place].name}, image {image}")

    def read(self, run: Execution, i: int, image: int, row: int) -> FloatArray:
        """Row ``row`` of map i, finished."""
        if i in self.plan.kept and not self.made.is_inside(i):
            return self.dram[i][image, :, row]
        return np.concatenate(
            [run.read(self.at(i, piece, image, row), f"map {piece.state}") for piece in self.pieces(i)]
        )

    def write(self, run: Execution, i: int, image: int, row: int, value: FloatArray) -> None:
        """Row ``row`` of map i; of a join only what is not made in place."""
        first = 0
        for piece in self.pieces(i):
            part = value[first : first + piece.channels]
            first += piece.channels
            if piece.state == i:
                run.write(self.at(i, piece, image, row), f"map {i}", part, opens=piece.part[0] == i)

    def results(self) -> dict[str, FloatArray]:
        """The stored tensors in the shapes of the stream; raises HazardError for rows that nobody stored."""
        found = {}
        for i in self.stored:
            tensor = self.tensors[i]
            if i in self.plan.kept:
                self._take(i)
            if np.isnan(self.dram[i]).any():
                raise HazardError(f"some row of {tensor.name} was never stored to DRAM")
            shape = self.made.stream.tensor(tensor.name).shape
            found[tensor.name] = from_maps(tensor, self.dram[i], shape)
        return found

    def _take(self, i: int) -> None:
        """What was left in the working buffer of a map, in its place there."""
        for image, row in np.ndindex(self.tensors[i].batch, self.tensors[i].height):
            first = 0
            for piece in self.pieces(i):
                place = self.at(i, piece, image, row)
                slot = place.store.find(place.tag)
                cell = slot.cells.get(place.part) if slot is not None else None
                if cell is not None and cell.value is not None and cell.state == f"map {piece.state}":
                    self.dram[i][image, first : first + piece.channels, row] = cell.value
                first += piece.channels


@operation("fused weights")
def _load_weights(chip: _Chip, run: Execution, i: int, number: int) -> None:
    _, n_bytes = chip.made.weight_loads[i][number]
    run.write(Place(chip.weights[i], "weights", number), "weights", np.zeros(n_bytes), opens=not number)


@operation("fused rows")
def _command(chip: _Chip, run: Execution, command: RowCommand, image: int) -> None:
    action, i = command.stream
    tensor = chip.tensors[i]
    rows = range(command.first, command.first + command.rows)
    if action == "make":
        _make(chip, run, command, image)
        return
    moved = chip.made.costs.load_rows(tensor, len(rows)) if action == "load" else None
    moved = moved or chip.made.costs.store_rows(tensor, len(rows))
    counted = moved.counters.buffer_write_bytes if action == "load" else moved.counters.buffer_read_bytes
    paid = counted[chip.made.costs.working.name]
    if paid * BITS_PER_BYTE < len(rows) * chip.bits(i):
        raise run.error(f"moves {len(rows) * chip.bits(i)} bits, but pays for {paid} bytes")
    for row in rows:
        if action == "load":
            chip.write(run, i, image, row, chip.dram[i][image, :, row])
            continue
        if not np.isnan(chip.dram[i][image, :, row]).all():
            raise run.error(f"stores row {row} of {tensor.name}, which was stored before")
        run.store(chip.dram[i], (image, slice(None), row), chip.read(run, i, image, row))


def _make(chip: _Chip, run: Execution, command: RowCommand, image: int) -> None:
    """Rows of a node's result, or rows of its input that a global pooling adds up."""
    i = command.stream.on
    node = chip.graph.nodes[i]
    for number in range(len(chip.made.weight_loads[i])):
        run.read(Place(chip.weights[i], "weights", number), "weights")
    if node.kind == "reduction" and node.output.height == 1:
        _sweep(chip, run, command, image)
        return
    for row in range(command.first, command.first + command.rows):
        inputs: dict[str, Rows] = {}
        for p, reader in chip.plan.maps.sources[i]:
            tensor = chip.tensors[p]
            known = dict(inputs[tensor.name].rows) if tensor.name in inputs else {}
            for y in needed_rows(reader.rows, row, 1):
                if y not in known and not _is_there(chip, i, p):
                    known[y] = chip.read(run, p, image, y)
            inputs[tensor.name] = Rows(tensor, known)
        value: FloatArray | None = None
        for name in node.operators:
            if node.kind == "concat":
                value = _joined(chip, i, row, inputs)
                break
            value = chip.reader.row(chip.operators[name], node.output, row, inputs, value)
        assert value is not None
        chip.write(run, i, image, row, value)


def _is_there(chip: _Chip, i: int, p: int) -> bool:
    """Input p of the join i is made in its place: nothing to copy."""
    return chip.graph.nodes[i].kind == "concat" and chip.places.is_in_place(i, p)


def _joined(chip: _Chip, i: int, row: int, inputs: Mapping[str, Rows]) -> FloatArray:
    """A row of a join; zeros stand for what lies in its place already and is not written."""
    sources = [p for p, _ in chip.plan.maps.sources[i]]
    if any(_is_there(chip, i, p) for p in sources):
        width = chip.tensors[i].width
        parts = [
            np.zeros((chip.tensors[p].channels, width))
            if _is_there(chip, i, p)
            else inputs[chip.tensors[p].name].rows[row]
            for p in sources
        ]
        return np.concatenate(parts)
    operator = chip.operators[chip.graph.nodes[i].name]
    return chip.reader.row(operator, chip.graph.nodes[i].output, row, inputs, None)


def _sweep(chip: _Chip, run: Execution, command: RowCommand, image: int) -> None:
    i = command.stream.on
    node = chip.graph.nodes[i]
    ((source, _),) = chip.plan.maps.sources[i]
    tensor = chip.tensors[source]
    if chip.operators[node.name].text("function") != "mean":
        raise InputError(f"{node.name}: only the mean of a whole map runs on numbers")
    rows = [chip.read(run, source, image, y) for y in range(command.first, command.first + command.rows)]
    total = np.sum(rows, axis=(0, 2))[:, None] / (tensor.height * tensor.width)
    (piece,) = chip.pieces(i)
    place = chip.at(i, piece, image, 0)
    if command.first:
        total = total + run.read(place, f"sum to row {command.first}")
    end = command.first + command.rows
    if end == tensor.height:
        for name in node.operators[1:]:
            total = chip.reader.row(chip.operators[name], node.output, 0, {}, total)
    state = f"map {i}" if end == tensor.height else f"sum to row {end}"
    run.write(place, state, total, opens=command.first == 0)
