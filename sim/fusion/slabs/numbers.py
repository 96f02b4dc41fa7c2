"""A group in slabs on numbers: see :mod:`tilewright.sim.fusion.slabs.program` for its tasks.

As in :mod:`tilewright.sim.fusion.line_buffers.numbers`. A slot holds a row of a full map, or, of a partial one, some
channels of all
rows of a step. What a piece of channels gives to a sum is the convolution of a map whose other channels are zero.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, FusionNode
from tilewright.sim.fusion.graph.geometry import FeatureMap
from tilewright.sim.fusion.layer_alone import SUM_BITS
from tilewright.sim.fusion.places import Piece
from tilewright.sim.fusion.row_values import RowReader, Rows, from_maps, to_maps
from tilewright.sim.fusion.schedule import needed_rows
from tilewright.sim.fusion.slabs.program import SlabProgram, Slice
from tilewright.sim.fusion.slabs.sizes import SlabRules
from tilewright.sim.numbers.hazards import Execution, HazardError, Place, Store
from tilewright.sim.numbers.interpreter import interpret, operation
from tilewright.units import BITS_PER_BYTE
from tilewright.workloads.homes import GROUP_IN_DRAM, GroupHomes
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["run_slabs_on_numbers"]

FloatArray = npt.NDArray[np.float64]


def run_slabs_on_numbers(
    stream: OperatorStream,
    graph: FusionGraph,
    mask: int,
    machine: MachineSpec,
    values: Mapping[str, FloatArray],
    *,
    rules: SlabRules,
    homes: GroupHomes = GROUP_IN_DRAM,
) -> dict[str, FloatArray]:
    """The tensors that a group stores; arguments and errors as in
    :func:`tilewright.sim.fusion.line_buffers.numbers.run_group_on_numbers`.
    """
    made = SlabProgram(stream, graph, mask, machine, rules, homes)
    program = made.program(unroll=True)
    chip = _SlabChip(made, values)
    interpret(program, chip)
    return chip.results()


@operation("slab")
def _slab(chip: _SlabChip, run: Execution, what: str, weights: tuple[Hashable, int] | None, *arguments: Any) -> None:
    if weights is not None and what != "weights":
        chip.check_weights(run, *weights)
    if what == "weights":
        assert weights is not None
        chip.load_weights(run, *weights, *arguments)
        return
    getattr(chip, f"do_{what}")(run, *arguments)


class _SlabChip:
    """DRAM and the cells of the buffer; the methods ``do_...`` are the tasks."""

    def __init__(self, made: SlabProgram, values: Mapping[str, FloatArray]) -> None:
        self.made, self.graph, self.maps = made, made.graph, made.maps
        self.tensors = made.maps.tensors
        self.reader = RowReader(made.stream, values)
        self.operators = made.costs.operators
        self.partial = made.choice.slabs.partial
        self.first = {i: at for unit in made.choice.slabs.units for i, at in unit.first.items()}
        self.dram: dict[int, FloatArray] = {}
        for i in made.plan.readers:
            if not made.is_inside(i):
                tensor = self.tensors[i]
                self.dram[i] = to_maps(tensor, np.asarray(values[tensor.name], dtype=np.float64))
        for i in made.stored:
            tensor = self.tensors[i]
            self.dram[i] = np.full((tensor.batch, tensor.channels, tensor.height, tensor.width), np.nan)
        self.stores: dict[Hashable, Store] = {}
        self.in_slab: dict[int, tuple[str, dict[tuple[int, int], float]]] = {}

    def results(self) -> dict[str, FloatArray]:
        """The stored tensors in the shapes of the stream; raises HazardError for what nobody stored."""
        found = {}
        for i in self.made.stored:
            tensor = self.tensors[i]
            if np.isnan(self.dram[i]).any():
                raise HazardError(f"some part of {tensor.name} was never stored to DRAM")
            found[tensor.name] = from_maps(tensor, self.dram[i], self.made.stream.tensor(tensor.name).shape)
        return found

    def cell(self, name: Hashable, tag: str) -> Place:
        """The slot ``name``, when it holds ``tag``."""
        if name not in self.stores:
            self.stores[name] = Store(str(name), 1)
        return Place(self.stores[name], tag)

    # -- weights -------------------------------------------------------------------------------------------------

    def load_weights(self, run: Execution, cell: Hashable, number: int, n_bytes: int) -> None:
        """A piece of weights; their values are looked up where they are used."""
        room = self.made.choice.room
        if cell in room:
            raise run.error("names a cell like a buffer")
        kind = cell[0] if isinstance(cell, tuple) else ""
        if kind == "piece" and n_bytes * self.made.rules.piece_slots > room["weights in pieces"]:
            raise run.error(f"loads {n_bytes} bytes into a smaller place")
        run.write(self.cell(cell, f"piece {number}"), "weights", np.zeros(1), opens=True)

    def check_weights(self, run: Execution, cell: Hashable, number: int) -> None:
        """The piece of weights is there."""
        run.read(self.cell(cell, f"piece {number}"), "weights")

    # -- rows of full maps ---------------------------------------------------------------------------------------

    def _row_cell(self, i: int, piece: Piece, image: int, row: int) -> Place:
        place = self.made.places.place(i)
        slot = row % self.made.choice.held[place]
        return self.cell(("row", place, slot, piece.part), f"row {row} of image {image}")

    def read_row(self, run: Execution, i: int, image: int, row: int) -> FloatArray:
        """All channels of a finished row."""
        pieces = self.made.places.pieces(i)
        return np.concatenate([run.read(self._row_cell(i, p, image, row), f"map {p.state}") for p in pieces])

    def write_row(self, run: Execution, i: int, image: int, row: int, value: FloatArray, first: int = 0) -> None:
        """Channels [first, first + ...) of a row, behind those that are there already."""
        at, whole = 0, self.tensors[i].channels
        for piece in self.made.places.pieces(i):
            begin, end = max(first, at), min(first + len(value), at + piece.channels)
            if piece.state == i and begin < end:
                place = self._row_cell(i, piece, image, row)
                part = value[begin - first : end - first]
                if begin > at:
                    part = np.concatenate([run.read(place, f"map {i} to {begin}"), part])
                state = f"map {i}" if end == at + piece.channels else f"map {i} to {end}"
                run.write(place, state, part, opens=piece.part[0] == i and begin == at)
            at += piece.channels
        if at != whole:
            raise run.error(f"finds {at} of {whole} channels")

    # -- partial maps --------------------------------------------------------------------------------------------

    def _parts(self, i: int, first: int, last: int) -> Iterator[tuple[Piece, int, int]]:
        """Pieces of a partial map with their channels within [first, last), as channels of the map."""
        at = 0
        for piece in self.made.places.pieces(i):
            begin, end = max(first, at), min(last, at + piece.channels)
            if begin < end:
                yield piece, begin, end
            at += piece.channels

    def _slab_tag(self, i: int, slice_: Slice) -> str:
        number = (slice_.first + self.first[i]) // self.made.rules.piece_channels
        return f"piece {number} of step {slice_.step} of image {slice_.image}"

    def read_slab(self, run: Execution, i: int, like: Slice, at: int) -> Rows:
        """The channels of partial map i that lie beside those of ``like``, whose map begins at ``at``; others are 0."""
        tensor, share = self.tensors[i], self.made.rules.piece_channels
        begin = (like.first + at) // share * share - self.first[i]
        first, last = max(0, begin), min(tensor.channels, begin + share)
        rows = self.made.rows(i, like.step)
        if not rows:  # whoever reads sees only padding
            return Rows(tensor, {})
        found = np.zeros((len(rows), tensor.channels, tensor.width))
        here = Slice(i, rows, first, last, like.step, like.image)
        for piece, b, e in self._parts(i, first, last):
            cell = self.cell(("slab", self.made.places.place(i), piece.part), self._slab_tag(i, here))
            found[:, b:e] = run.read(cell, f"map {piece.state}")
        return Rows(tensor, dict(zip(rows, found, strict=True)))

    def write_slab(self, run: Execution, i: int, slice_: Slice, values: FloatArray) -> None:
        """(rows, channels of the slice, width) of a partial map."""
        place, tag = self.made.places.place(i), self._slab_tag(i, slice_)
        for piece, begin, end in self._parts(i, slice_.first, slice_.last):
            if piece.state == i:
                cell = self.cell(("slab", place, piece.part), tag)
                part = values[:, begin - slice_.first : end - slice_.first]
                run.write(cell, f"map {i}", part, opens=piece.part[0] == i)
                self._check_slab(run, place, tag, piece.part, float(part.size * self.tensors[i].bits))

    def _check_slab(self, run: Execution, place: int, tag: str, part: tuple[int, int], bits: float) -> None:
        known = self.in_slab.get(place)
        sizes = known[1] if known is not None and known[0] == tag else {}
        sizes[part] = max(bits, sizes.get(part, 0.0))
        self.in_slab[place] = (tag, sizes)
        room = self.made.choice.room[f"rows of {self.tensors[place].name}"]
        if sum(sizes.values()) > room * BITS_PER_BYTE:
            raise run.error(f"fills a slab of {room} bytes with {sum(sizes.values()) / BITS_PER_BYTE:g}")

    # -- computing -----------------------------------------------------------------------------------------------

    def _inputs(self, run: Execution, i: int, rows: range, slice_: Slice) -> dict[str, Rows]:
        found: dict[str, Rows] = {}
        for p, reader in self.maps.sources[i]:
            tensor = self.tensors[p]
            if self.graph.nodes[i].kind == "concat" and self.made.places.is_in_place(i, p):
                found[tensor.name] = Rows(tensor, _AllZeros(tensor))
            elif p in self.partial:
                wanted = needed_rows(reader.rows, rows.start, len(rows))  # none where only padding is seen
                slab = self.read_slab(run, p, slice_, self._begin(i, p)) if wanted else Rows(tensor, {})
                found[tensor.name] = slab
            else:
                known = dict(found[tensor.name].rows) if tensor.name in found else {}
                for row in rows:
                    for y in needed_rows(reader.rows, row, 1):
                        if y not in known:
                            known[y] = self.read_row(run, p, slice_.image, y)
                found[tensor.name] = Rows(tensor, known)
        return found

    def _begin(self, i: int, p: int) -> int:
        """Where the channels that a slice of node i counts begin in its unit: its own, or those of what it sums."""
        return self.first[i] if i in self.partial else self.first[p]

    def _values(self, node: FusionNode, inputs: Mapping[str, Rows], row: int, *, riding: bool = True) -> FloatArray:
        value: FloatArray | None = None
        for name in node.operators if riding else node.operators[:1]:
            value = self.reader.row(self.operators[name], node.output, row, inputs, value)
        assert value is not None
        return value

    def do_load(self, run: Execution, slice_: Slice) -> None:
        """Rows of an input, or some channels of them."""
        i = slice_.map
        values = self.dram[i][slice_.image, slice_.first : slice_.last]
        if i in self.partial:
            self.write_slab(run, i, slice_, values[:, slice_.rows.start : slice_.rows.stop].transpose(1, 0, 2))
            return
        for row in slice_.rows:
            self.write_row(run, i, slice_.image, row, values[:, row])

    def do_store(self, run: Execution, slice_: Slice) -> None:
        """Rows of a result, or some channels of them."""
        i = slice_.map
        slab = self.read_slab(run, i, slice_, self.first[i]) if i in self.partial else None
        for row in slice_.rows:
            value = slab.rows[row] if slab is not None else self.read_row(run, i, slice_.image, row)
            at = (slice_.image, slice(slice_.first, slice_.last), row)
            if not np.isnan(self.dram[i][at]).all():
                raise run.error(f"stores row {row} again")
            run.store(self.dram[i], at, value[slice_.first : slice_.last])

    def do_make(self, run: Execution, slice_: Slice) -> None:
        """Some output channels of new rows of a full map."""
        i, node = slice_.map, self.graph.nodes[slice_.map]
        inputs = self._inputs(run, i, slice_.rows, slice_)
        for row in slice_.rows:
            value = self._values(node, inputs, row)[slice_.first : slice_.last]
            self.write_row(run, i, slice_.image, row, value, slice_.first)

    def do_partial(self, run: Execution, slice_: Slice) -> None:
        """Some channels of all rows of a partial map in a step."""
        i, node = slice_.map, self.graph.nodes[slice_.map]
        inputs = self._inputs(run, i, slice_.rows, slice_)
        values = np.stack([self._values(node, inputs, row)[slice_.first : slice_.last] for row in slice_.rows])
        self.write_slab(run, i, slice_, values)

    def do_sum(self, run: Execution, slice_: Slice, whole: int) -> None:
        """What some input channels give to new rows of a full map; the last ones finish them."""
        i, node = slice_.map, self.graph.nodes[slice_.map]
        inputs = self._inputs(run, i, slice_.rows, slice_)
        nothing = {name: Rows(rows.tensor, _AllZeros(rows.tensor)) for name, rows in inputs.items()}
        offset = [self._values(node, nothing, row, riding=False) for row in slice_.rows]
        total = np.stack([self._values(node, inputs, row, riding=False) for row in slice_.rows]) - np.stack(offset)
        wide = self.cell(("sum", i), f"step {slice_.step} of image {slice_.image}")
        if slice_.first:
            total = total + run.read(wide, f"sum to {slice_.first}")
        if slice_.last < whole:
            if total.size * SUM_BITS > self.made.choice.room["sums"] * BITS_PER_BYTE:
                raise run.error("adds up more than there is room for")
            run.write(wide, f"sum to {slice_.last}", total, opens=slice_.first == 0)
            return
        for row, value, bias in zip(slice_.rows, total, offset, strict=True):
            value = value + bias
            for name in node.operators[1:]:
                value = self.reader.row(self.operators[name], node.output, row, inputs, value)
            self.write_row(run, i, slice_.image, row, value)

    def do_sweep(self, run: Execution, slice_: Slice) -> None:
        """Rows of a map that a global pooling adds up."""
        i, node = slice_.map, self.graph.nodes[slice_.map]
        ((source, _),) = self.maps.sources[i]
        tensor = self.tensors[source]
        if self.operators[node.name].text("function") != "mean":
            raise InputError(f"{node.name}: only the mean of a whole map runs on numbers")
        rows = [self.read_row(run, source, slice_.image, y) for y in slice_.rows]
        total = np.sum(rows, axis=(0, 2))[:, None] / (tensor.height * tensor.width)
        (piece,) = self.made.places.pieces(i)
        cell = self._row_cell(i, piece, slice_.image, 0)
        if slice_.rows.start:
            total = total + run.read(cell, f"sum to row {slice_.rows.start}")
        end = slice_.rows.stop
        if end == tensor.height:
            for name in node.operators[1:]:
                total = self.reader.row(self.operators[name], node.output, 0, {}, total)
        run.write(cell, f"map {i}" if end == tensor.height else f"sum to row {end}", total, opens=not slice_.rows.start)

    # -- attention -----------------------------------------------------------------------------------------------

    def do_scores(self, run: Execution, slice_: Slice, head: int) -> None:
        """Q K^T of one head, scaled."""
        q, k, _ = self._head(run, slice_, head)
        scores = q @ k.T / math.sqrt(q.shape[1])
        if scores.size * SUM_BITS > self.made.choice.room["scores"] * BITS_PER_BYTE:
            raise run.error("makes more scores than there is room for")
        run.write(self._scores(slice_), "scores", scores, opens=True)

    def do_softmax(self, run: Execution, slice_: Slice) -> None:
        """Softmax over the keys, in place."""
        scores = run.read(self._scores(slice_), "scores")
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        run.write(self._scores(slice_), "weights", powers / powers.sum(axis=1, keepdims=True))

    def do_values(self, run: Execution, slice_: Slice, head: int) -> None:
        """P V of one head: its channels of the output rows."""
        *_, v = self._head(run, slice_, head)
        found = run.read(self._scores(slice_), "weights") @ v
        for row, value in zip(slice_.rows, found, strict=True):
            self.write_row(run, slice_.map, slice_.image, row, value[:, None], slice_.first)

    def _scores(self, slice_: Slice) -> Place:
        return self.cell(("scores",), f"channels {slice_.first} of step {slice_.step} of image {slice_.image}")

    def _head(self, run: Execution, slice_: Slice, head: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(rows, width) of Q, (keys, width) of K and V of one head."""
        operator = self.operators[self.graph.nodes[slice_.map].name]
        heads, kv_heads = operator.count("query_heads"), operator.count("kv_heads")
        numbers = {self.tensors[p].name: p for p, _ in self.maps.sources[slice_.map]}
        found = []
        lengths = (slice_.rows, *[range(operator.count("key_len"))] * 2)
        for name, n_heads, rows in zip(operator.inputs[:3], (heads, kv_heads, kv_heads), lengths, strict=True):
            base = self.made.stream.base(name).name
            stored = Rows(self.tensors[numbers[base]], _RowsOnChip(self, run, numbers[base], slice_.image))
            read = self.reader.as_read(name, {base: stored}).rows
            values = np.stack([read[row][:, 0] for row in rows])
            width = values.shape[1] // n_heads
            own = head * n_heads // heads
            found.append(values[:, own * width : (own + 1) * width])
        return found[0], found[1], found[2]


class _RowsOnChip(Mapping[int, FloatArray]):
    """Rows of a full map, each read from its place when it is asked for."""

    def __init__(self, numbers: Any, run: Execution, i: int, image: int) -> None:
        self.of = numbers, run, i, image

    def __getitem__(self, row: int) -> FloatArray:
        numbers, run, i, image = self.of
        found: FloatArray = numbers.read_row(run, i, image, row)
        return found

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __len__(self) -> int:
        numbers, _, i, _ = self.of
        return int(numbers.tensors[i].height)


class _AllZeros(dict[int, FloatArray]):
    """Every row of a map of zeros."""

    def __init__(self, tensor: FeatureMap) -> None:
        super().__init__()
        self.tensor = tensor

    def __missing__(self, row: int) -> FloatArray:
        return np.zeros((self.tensor.channels, self.tensor.width))
