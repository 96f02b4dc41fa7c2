"""What the commands of a depth-first program cost: parts of maps loaded, computed and stored."""

from __future__ import annotations

import math
from fractions import Fraction

from tilewright.formats import element_format, format_bits
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.fusion.geometry import FeatureMap
from tilewright.sim.fusion.graph import FusionGraph, FusionNode
from tilewright.sim.lowering.costs import TileCosts, Work
from tilewright.units import ceil_div
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import is_reducing, vector_work

__all__ = ["PROGRAM_ASSUMPTIONS", "RegionCosts", "on_matrix"]

PROGRAM_ASSUMPTIONS = (
    "maps lie in DRAM row by row, all channels of a pixel together; a part of a map is one run of each of its rows",
    "a part of a convolution or product is one matrix command for each group of channels, which sums over all input "
    "channels; biases ride on it, element-wise operators of the same node run behind it on the same command",
    "a depthwise convolution, a pool and element-wise work run on the vector unit",
    "parts of maps in the caches are read where they are",
    "layers of a tile run one behind the other; the next tile's input is loaded, and results are stored, meanwhile",
    "a group runs on one core",
)
LEAST_ACCUMULATOR_BITS = 32


def on_matrix(node: FusionNode) -> bool:
    """Whether the node's products run on the matrix unit."""
    return node.kind in ("conv", "dense", "matmul")


class RegionCosts(TileCosts):
    """Costs of rectangles of the maps of ``graph``, which was built from ``stream``."""

    def __init__(self, stream: OperatorStream, graph: FusionGraph, machine: MachineSpec) -> None:
        super().__init__(graph, machine)
        self.stream, self.graph = stream, graph
        self.operators = {operator.name: operator for operator in stream.operators}

    def load_part(self, tensor: FeatureMap, columns: int, rows: int) -> Work:
        """A rectangle of a map out of DRAM."""
        n_runs, run, stride = _runs(tensor, columns, rows)
        return self.load(n_runs, run, tensor.bits, stride_elements=stride)

    def store_part(self, tensor: FeatureMap, columns: int, rows: int) -> Work:
        """A rectangle of a map into DRAM."""
        n_runs, run, stride = _runs(tensor, columns, rows)
        return self.store(n_runs, run, tensor.bits, stride_elements=stride)

    def load_weights(self, node: FusionNode) -> Work:
        """All weights of a node, in one piece."""
        return self.load(1, node.weight_bytes, 8)

    def make_part(self, node: FusionNode, columns: int, rows: int, read_bits: int) -> Work:
        """A rectangle of the node's result, for which it reads ``read_bits`` of maps."""
        key = ("part", node.index, columns, rows, read_bits)
        pixels = columns * rows
        if not on_matrix(node):
            members = [self.operators[name] for name in node.operators]
            return self._remember(key, lambda: self._vector(node, members, pixels, read_bits))
        return self._remember(key, lambda: self._product(node, pixels))

    def _product(self, node: FusionNode, pixels: int) -> Work:
        operator = self.operators[node.name]
        a, b = (self.stream.tensor(name) for name in operator.inputs[:2])
        widest = max((element_format(spec.number_format) for spec in (a, b)), key=format_bits)
        taps, phases = math.prod(node.kernel), 1
        if node.function == "transposed":  # outputs of one phase share their taps
            phases = math.prod(node.stride)
            taps = math.prod(ceil_div(k, s) for k, s in zip(node.kernel, node.stride, strict=True))
        work = self.product(
            ceil_div(pixels, phases),
            taps * (node.in_channels // node.groups),
            phases * node.output.channels // node.groups,
            number_format=widest,
            a_bits=self.graph.edges_in[node.index][0].tensor.bits,
            b_bits=Fraction(b.n_bytes * 8, b.n_elements),
            out_bits=node.output.bits,
            partial_bits=max(LEAST_ACCUMULATOR_BITS, format_bits(widest)),
            add_to=False,
        )
        parts = [work] * node.groups
        if len(node.operators) > 1:
            riding = [self.operators[name] for name in node.operators[1:]]
            parts.append(self._vector(node, riding, pixels, 0))
        return Work(
            sum(part.cycles for part in parts),
            0,
            sum(part.fill_drain_cycles for part in parts),
            sum(part.energy_pj for part in parts),
            sum((part.counters for part in parts[1:]), parts[0].counters),
        )

    def _vector(self, node: FusionNode, operators: list[Operator], pixels: int, read_bits: int) -> Work:
        """The share of ``pixels`` output pixels in the vector work of ``operators``."""
        all_pixels = node.output.height * node.output.width * node.output.batch
        work: dict[str, int] = {}
        for operator in operators:
            pairs = vector_work(operator)
            if operator.kind == "conv":
                pairs = (("mul", operator.macs), ("add", operator.macs))
            for kind, times in pairs:
                work[kind] = work.get(kind, 0) + ceil_div(times * pixels, all_pixels)
        return self.vector(
            tuple(sorted(work.items())),
            reads_bits=read_bits,
            writes_bits=pixels * node.output.pixel_bits,
            reduces=any(is_reducing(operator) for operator in operators),
        )


def _runs(tensor: FeatureMap, columns: int, rows: int) -> tuple[int, int, int]:
    """(runs, elements of a run, elements from run to run) of a rectangle; whole rows are one run."""
    if columns == tensor.width:
        return 1, rows * columns * tensor.channels, 0
    return rows, columns * tensor.channels, tensor.width * tensor.channels
