"""What the commands of a fused group cost on a machine."""

from __future__ import annotations

import math
from fractions import Fraction

from tilewright.formats import element_format, format_bits
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.costs import TileCosts, Work
from tilewright.sim.fusion.geometry import FeatureMap
from tilewright.sim.fusion.graph import FusionGraph, FusionNode
from tilewright.sim.fusion.schedule import needed_rows
from tilewright.units import ceil_div
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream import OperatorStream
from tilewright.workloads.vector_work import is_reducing, vector_work

__all__ = ["COMMAND_ASSUMPTIONS", "GroupCosts"]

COMMAND_ASSUMPTIONS = (
    "maps lie in DRAM row by row, all channels of a pixel together",
    "a row of a convolution or product is one matrix command that sums over all input channels, so that sums leave the "
    "array in the format of the map; biases ride on them",
    "rows of padding are multiplied as zeros; a grouped convolution is one product after the other",
    "a depthwise convolution, a pool and element-wise work run on the vector unit; a copy takes its start-up and the "
    "time of its bytes through the buffer",
    "a fused group runs on one core",
)
LEAST_ACCUMULATOR_BITS = 32


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
        operator = self.operators[node.name]
        a, b = (self.stream.tensor(name) for name in operator.inputs[:2])
        formats = [element_format(spec.number_format) for spec in (a, b)]
        widest = max(formats, key=format_bits)
        out = node.output
        times = _phases(operator) if node.function == "transposed" else 1
        edge = self.graph.edges_in[node.index][0]
        taps = math.prod(node.kernel) if node.function != "transposed" else _taps_of_a_phase(node)
        work = self.product(
            ceil_div(rows * out.width, times),
            taps * (node.in_channels // node.groups),
            times * out.channels // node.groups,
            number_format=widest,
            a_bits=edge.tensor.bits,
            b_bits=Fraction(b.n_bytes * 8, b.n_elements),
            out_bits=out.bits,
            partial_bits=max(LEAST_ACCUMULATOR_BITS, format_bits(widest)),
            add_to=False,
        )
        groups = node.groups
        riding = self._riding(node, rows)
        work = Work(
            work.cycles * groups, 0, work.fill_drain_cycles * groups, work.energy_pj * groups, work.counters * groups
        )
        if riding is None:
            return work
        return Work(
            work.cycles + riding.cycles,
            0,
            work.fill_drain_cycles,
            work.energy_pj + riding.energy_pj,
            work.counters + riding.counters,
        )

    def _riding(self, node: FusionNode, rows: int) -> Work | None:
        """Element-wise operators that are part of the node."""
        if len(node.operators) == 1:
            return None
        return self._of_operators(node, [self.operators[name] for name in node.operators[1:]], rows, 0)

    def _vector(self, node: FusionNode, rows: int, read_bytes: int) -> Work:
        return self._of_operators(node, [self.operators[name] for name in node.operators], rows, read_bytes)

    def _of_operators(self, node: FusionNode, operators: list[Operator], rows: int, read_bytes: int) -> Work:
        """The share of ``rows`` rows in the vector work of ``operators``."""
        sweeps = node.kind == "reduction" and node.output.height == 1
        tensor = self.graph.edges_in[node.index][0].tensor if sweeps else node.output
        of_rows = tensor.height * tensor.batch
        work: dict[str, int] = {}
        for operator in operators:
            pairs = vector_work(operator)
            if operator.kind == "conv":
                pairs = (("mul", operator.macs), ("add", operator.macs))
            for kind, times in pairs:
                work[kind] = work.get(kind, 0) + ceil_div(times * rows, of_rows)
        written = node.output.row_bytes * (1 if sweeps else rows)
        return self.vector(
            tuple(sorted(work.items())),
            reads_bits=8 * read_bytes,
            writes_bits=8 * written,
            reduces=any(is_reducing(operator) for operator in operators),
        )


def _phases(operator: Operator) -> int:
    """Outputs of a transposed convolution that are computed with the same inputs."""
    return math.prod(operator.sizes("stride"))


def _taps_of_a_phase(node: FusionNode) -> int:
    return math.prod(ceil_div(k, s) for k, s in zip(node.kernel, node.stride, strict=True))
