"""What the commands of a fused group cost on a machine."""

from __future__ import annotations

import math
from fractions import Fraction

from tilewright.formats import element_format, format_bits
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.fusion.geometry import FeatureMap
from tilewright.sim.fusion.graph import FusionGraph, FusionNode
from tilewright.sim.fusion.schedule import needed_rows
from tilewright.sim.lowering.costs import TileCosts, Work
from tilewright.units import ceil_div
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import is_reducing, vector_work

__all__ = ["COMMAND_ASSUMPTIONS", "GroupCosts"]

COMMAND_ASSUMPTIONS = (
    "maps lie in DRAM row by row, all channels of a pixel together",
    "a row of a convolution or product is one matrix command that sums over all input channels, so that sums leave the "
    "array in the format of the map; biases ride on them",
    "rows of padding are multiplied as zeros; a grouped convolution is one product after the other",
    "a depthwise convolution, a pool and element-wise work run on the vector unit; a copy takes its start-up and the "
    "time of its bytes through the buffer",
    "a masked attention in a group is computed whole; its scores are 32 bits wide, those of one head on chip",
    "a fused group runs on one core",
)
LEAST_ACCUMULATOR_BITS = 32
WHOLE = Fraction(1)


class GroupCosts(TileCosts):
    """Costs of the commands of groups of ``graph``, which was built from ``stream``."""

    def __init__(self, stream: OperatorStream, graph: FusionGraph, machine: MachineSpec) -> None:
        super().__init__(graph, machine)
        self.stream, self.graph = stream, graph
        self.operators = {operator.name: operator for operator in stream.operators}

    def load_rows(self, tensor: FeatureMap, rows: int) -> Work:
        """``rows`` neighbouring rows of a map."""
        return self.load(1, rows * tensor.width * tensor.channels, tensor.bits)

    def store_rows(self, tensor: FeatureMap, rows: int) -> Work:
        """``rows`` neighbouring rows of a map."""
        return self.store(1, rows * tensor.width * tensor.channels, tensor.bits)

    def load_weights(self, node: FusionNode) -> Work:
        """All weights of a node, in one piece."""
        return self.load(1, node.weight_bytes, 8)

    def make_rows(self, node: FusionNode, first: int, rows: int) -> Work:
        """Rows [first, first + rows) of the result of a node (of its input, for a global pooling)."""
        inputs = tuple(
            (len(needed_rows(edge.rows, first, rows)) if node.kind != "reduction" else rows, edge.tensor.row_bytes)
            for edge in self.graph.edges_in[node.index]
        )
        key = ("make", node.index, rows, inputs)
        if node.kind in ("conv", "dense", "matmul"):
            return self._remember(key, lambda: self._product(node, rows))
        n_bytes = sum(count * row_bytes for count, row_bytes in inputs)
        return self._remember(key, lambda: self._vector(node, rows, n_bytes))

    def _product(self, node: FusionNode, rows: int) -> Work:
        times = math.prod(node.stride) if node.function == "transposed" else 1  # outputs made from the same inputs
        taps = math.prod(node.kernel) if node.function != "transposed" else _taps_of_a_phase(node)
        out = node.output
        work = self.matrix_work(
            node,
            ceil_div(rows * out.width, times),
            taps * (node.in_channels // node.groups),
            times * out.channels // node.groups,
            times=node.groups,
        )
        return _both(work, self._riding(node, rows))

    def matrix_work(
        self,
        node: FusionNode,
        m: int,
        k: int,
        n: int,
        *,
        times: int = 1,
        sum_bits: int = 0,
        add_to: bool = False,
    ) -> Work:
        """``times`` products (m, k) by (k, n) of a node's input and weights.

        ``sum_bits``: the width of sums that stay in the buffer, 0 where results leave in the format of the map.
        """
        operator = self.operators[node.name]
        a, b = (self.stream.tensor(name) for name in operator.inputs[:2])
        widest = max((element_format(spec.number_format) for spec in (a, b)), key=format_bits)

        def make() -> Work:
            work = self.product(
                m,
                k,
                n,
                number_format=widest,
                a_bits=self.graph.edges_in[node.index][0].tensor.bits,
                b_bits=Fraction(b.n_bytes * 8, b.n_elements),
                out_bits=sum_bits or node.output.bits,
                partial_bits=max(LEAST_ACCUMULATOR_BITS, format_bits(widest)),
                add_to=add_to,
            )
            cycles, idle = work.cycles * times, work.fill_drain_cycles * times
            return Work(cycles, 0, idle, work.energy_pj * times, work.counters * times)

        return self._remember(("matrix", node.index, m, k, n, times, sum_bits, add_to), make)

    def slab_rows(self, node: FusionNode, rows: int, read_rows: int, channels: int) -> Work:
        """``rows`` rows of ``channels`` of a node that works on each channel by itself, ``read_rows`` of each input."""
        n_bytes = sum(
            ceil_div(read_rows * edge.tensor.row_bytes * channels, node.output.channels)
            for edge in self.graph.edges_in[node.index]
        )
        share = Fraction(channels, node.output.channels)
        operators = [self.operators[name] for name in node.operators]
        key = ("slab", node.index, rows, n_bytes, share)
        return self._remember(key, lambda: self._of_operators(node, operators, rows, n_bytes, share))

    def riding(self, node: FusionNode, work: Work, rows: int, channels: int) -> Work:
        """``work`` with that of the element-wise operators that are part of the node, for some of its channels."""
        return _both(work, self._riding(node, rows, Fraction(channels, node.output.channels)))

    def attention_work(self, node: FusionNode, rows: int, n_keys: int) -> tuple[Work, Work, Work]:
        """Q K^T, softmax and P V of one head for ``rows`` queries; scores are ``LEAST_ACCUMULATOR_BITS`` wide."""
        operator = self.operators[node.name]
        width, value_width = operator.count("head_dim"), operator.count("value_dim")
        bits = node.output.bits
        number_format = element_format(self.stream.tensor(operator.inputs[0]).number_format)
        wide = LEAST_ACCUMULATOR_BITS
        n = rows * n_keys
        qk, pv = (
            self.product(
                rows, k, columns, number_format=number_format, a_bits=a_bits, b_bits=bits, out_bits=out_bits,
                partial_bits=wide, add_to=False,
            )
            for k, columns, a_bits, out_bits in ((width, n_keys, bits, wide), (n_keys, value_width, wide, bits))
        )  # fmt: skip
        kinds = ("max", "sub", "exp", "add", "div")
        pairs = tuple((kind, n) for kind in kinds)
        return qk, self.vector(pairs, reads_bits=n * wide, writes_bits=n * wide, reduces=True), pv

    def load_piece(self, n_bytes: int) -> Work:
        """A piece of weights, which lie in DRAM in the order in which they are read."""
        return self.load(1, n_bytes, 8)

    def load_channels(self, tensor: FeatureMap, rows: int, channels: int) -> Work:
        """``channels`` of every pixel of some rows."""
        if channels == tensor.channels:
            return self.load_rows(tensor, rows)
        return self.load(rows * tensor.width, channels, tensor.bits, stride_elements=tensor.channels)

    def store_channels(self, tensor: FeatureMap, rows: int, channels: int) -> Work:
        """``channels`` of every pixel of some rows."""
        if channels == tensor.channels:
            return self.store_rows(tensor, rows)
        return self.store(rows * tensor.width, channels, tensor.bits, stride_elements=tensor.channels)

    def _riding(self, node: FusionNode, rows: int, share: Fraction = WHOLE) -> Work | None:
        """Element-wise operators that are part of the node."""
        if len(node.operators) == 1:
            return None
        return self._of_operators(node, [self.operators[name] for name in node.operators[1:]], rows, 0, share)

    def _vector(self, node: FusionNode, rows: int, read_bytes: int) -> Work:
        return self._of_operators(node, [self.operators[name] for name in node.operators], rows, read_bytes)

    def _of_operators(
        self, node: FusionNode, operators: list[Operator], rows: int, read_bytes: int, share: Fraction = WHOLE
    ) -> Work:
        """The part of ``rows`` rows, and of a ``share`` of the channels, in the vector work of ``operators``."""
        sweeps = node.kind == "reduction" and node.output.height == 1
        tensor = self.graph.edges_in[node.index][0].tensor if sweeps else node.output
        of_rows = tensor.height * tensor.batch
        work: dict[str, int] = {}
        for operator in operators:
            pairs = vector_work(operator)
            if operator.kind == "conv":
                pairs = (("mul", operator.macs), ("add", operator.macs))
            for kind, times in pairs:
                work[kind] = work.get(kind, 0) + int(-(-times * rows * share // of_rows))
        written = node.output.row_bytes * (1 if sweeps else rows)
        return self.vector(
            tuple(sorted(work.items())),
            reads_bits=8 * read_bytes,
            writes_bits=8 * written * share,
            reduces=any(is_reducing(operator) for operator in operators),
        )


def _both(work: Work, riding: Work | None) -> Work:
    """A product and the element-wise work on its results, one after the other on the same command."""
    if riding is None:
        return work
    energy, counters = work.energy_pj + riding.energy_pj, work.counters + riding.counters
    return Work(work.cycles + riding.cycles, 0, work.fill_drain_cycles, energy, counters)


def _taps_of_a_phase(node: FusionNode) -> int:
    return math.prod(ceil_div(k, s) for k, s in zip(node.kernel, node.stride, strict=True))
