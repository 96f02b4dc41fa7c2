"""What the commands of a fused group cost on a machine."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from weakref import WeakKeyDictionary

from tilewright.formats import element_format, format_bits
from tilewright.hw_models.buffer import refuse_parts
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.gemm.costs import conv_shape
from tilewright.sim.engine.program import Channel
from tilewright.sim.fusion.graph.build import weights_of
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, FusionNode
from tilewright.sim.fusion.graph.geometry import FeatureMap
from tilewright.sim.fusion.layer_alone import SUM_BITS
from tilewright.sim.fusion.schedule import needed_rows
from tilewright.sim.lowering.core import TileCore
from tilewright.sim.lowering.costs import TileCosts, Work
from tilewright.sim.lowering.levels import channels_of
from tilewright.units import ceil_div
from tilewright.workloads.homes import DRAM, GROUP_IN_DRAM, GroupHomes, Place
from tilewright.workloads.products import ConvProduct, accumulator_bits, compute_format, conv_product, value_bits
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import is_reducing, on_vector_unit, unit_values

__all__ = [
    "COMMAND_ASSUMPTIONS",
    "COPY_ASSUMPTIONS",
    "HOME_ASSUMPTIONS",
    "TILE_ASSUMPTIONS",
    "GroupCosts",
    "sweeps",
]

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
HOME_ASSUMPTIONS = (
    *COMMAND_ASSUMPTIONS,
    "maps and weights that are kept in the working buffer are read and written where they are",
    "maps that are kept in another memory lie there as they would in DRAM, as the group's weights do",
)
COPY_ASSUMPTIONS = (
    "maps and weights that are kept in the working buffer are copied within it, into the group's own places and out of "
    "them",
    "maps that are kept in another memory lie there as they would in DRAM, as the group's weights do",
)
TILE_ASSUMPTIONS = (
    "maps lie in DRAM row by row, all channels of a pixel together; a part of a map is one run of each of its rows",
    "a part of a convolution or product is one matrix command for each group of channels, which sums over all input "
    "channels; biases ride on it, element-wise operators of the same node run behind it on the same command",
    "a depthwise convolution, a pool and element-wise work run on the vector unit",
    "parts of maps in the caches are read where they are",
    "layers of a tile run one behind the other; the next tile's input is loaded, and results are stored, meanwhile",
    "a group runs on one core",
)
WHOLE = Fraction(1)

#: What commands cost, by graph and machine: the programs of all groups ask for the same rows.
_KNOWN: WeakKeyDictionary[FusionGraph, dict[MachineSpec, dict[tuple[object, ...], Work]]] = WeakKeyDictionary()
_LEAST: WeakKeyDictionary[FusionGraph, dict[MachineSpec, dict[tuple[int, int], int]]] = WeakKeyDictionary()


class GroupCosts(TileCosts):
    """Costs of the commands of groups of ``graph``, which was built from ``stream``.

    A command makes some rows, some channels of rows, or a rectangle of a node's result: products of as many pixels, or
    its share of the node's vector work. A global pooling works on its input: a command that adds up some rows of it has
    their share of the work, one that has the whole map all of it.
    """

    def __init__(
        self, stream: OperatorStream, graph: FusionGraph, machine: MachineSpec, homes: GroupHomes = GROUP_IN_DRAM
    ) -> None:
        super().__init__(graph, machine)
        refuse_parts(machine, "fused groups")
        self.stream, self.graph, self.homes = stream, graph, homes
        self._places = dict(homes.places)
        self._known = _KNOWN.setdefault(graph, {}).setdefault(machine, {})
        self.operators = {operator.name: operator for operator in stream.operators}
        self._products: dict[int, ConvProduct] = {}

    # -- where operands are ----------------------------------------------------------------------------------------

    def held_bytes(self, buffer: Place) -> int:
        """What a buffer holds besides what the group takes."""
        return dict(self.homes.held).get(buffer, 0)

    def home(self, name: str) -> Place:
        """The memory of a stored tensor that the group reads or leaves behind."""
        return self._places.get(name, DRAM)

    def is_here(self, name: str) -> bool:
        """Whether a stored tensor is in the working buffer, where commands read and write it in its place."""
        return self.home(name) == self.working.name

    def weight_homes(self, node: FusionNode) -> dict[Place, int]:
        """Bytes of the weights of a node by their memory."""
        found: dict[Place, int] = {}
        operators = [self.operators[name] for name in node.operators]
        for name, n_bytes in weights_of(self.stream, operators).items():
            home = self.home(name)
            found[home] = found.get(home, 0) + n_bytes
        return found

    def weight_home(self, node: FusionNode) -> Place:
        """The memory of the weights of a node (of most of their bytes)."""
        found = self.weight_homes(node)
        return max(found, key=found.__getitem__) if found else DRAM

    def channels(self) -> tuple[Channel, ...]:
        """The channels of a program: the DRAM's, and those of memories on chip where some operand is in one."""
        if any(home for _, home in self.homes.places):
            return channels_of(self.machine)
        return TileCore.of_dram(self)

    # -- transfers -------------------------------------------------------------------------------------------------

    def load_weights(self, node: FusionNode) -> Work:
        """All weights of a node, in one piece."""
        return self.load_piece(node.weight_bytes, self.weight_home(node))

    def load_piece(self, n_bytes: int, home: Place = DRAM) -> Work:
        """A piece of weights, which lie in their memory in the order in which they are read."""
        return self.load(1, n_bytes, 8, home=home)

    def load_rows(self, tensor: FeatureMap, rows: int) -> Work:
        """``rows`` neighbouring rows of a map."""
        return self.load_part(tensor, tensor.width, rows)

    def store_rows(self, tensor: FeatureMap, rows: int) -> Work:
        """``rows`` neighbouring rows of a map."""
        return self.store_part(tensor, tensor.width, rows)

    def load_part(self, tensor: FeatureMap, columns: int, rows: int) -> Work:
        """A rectangle of a map out of its memory."""
        n_runs, run, stride = _runs(tensor, columns, rows)
        return self.load(n_runs, run, tensor.bits, stride_elements=stride, home=self.home(tensor.name))

    def store_part(self, tensor: FeatureMap, columns: int, rows: int) -> Work:
        """A rectangle of a map into its memory."""
        n_runs, run, stride = _runs(tensor, columns, rows)
        return self.store(n_runs, run, tensor.bits, stride_elements=stride, home=self.home(tensor.name))

    def load_channels(self, tensor: FeatureMap, rows: int, channels: int) -> Work:
        """``channels`` of every pixel of some rows."""
        if channels == tensor.channels:
            return self.load_rows(tensor, rows)
        home, stride = self.home(tensor.name), tensor.channels
        return self.load(rows * tensor.width, channels, tensor.bits, stride_elements=stride, home=home)

    def store_channels(self, tensor: FeatureMap, rows: int, channels: int) -> Work:
        """``channels`` of every pixel of some rows."""
        if channels == tensor.channels:
            return self.store_rows(tensor, rows)
        home, stride = self.home(tensor.name), tensor.channels
        return self.store(rows * tensor.width, channels, tensor.bits, stride_elements=stride, home=home)

    # -- what a command makes --------------------------------------------------------------------------------------

    def make_rows(self, node: FusionNode, first: int, rows: int) -> Work:
        """Rows [first, first + rows) of the result of a node (of its input, for a global pooling)."""
        if node.on_matrix:
            pixels = rows * node.output.width
            return self._remember(("rows", node.index, rows), lambda: self._product(node, pixels))
        key = ("rows", node.index, first, rows)
        return self._remember(key, lambda: self._vector_rows(node, first, rows))

    def least_cycles(self, node: FusionNode, most_rows: int) -> int:
        """Cycles of all rows of a node at least, in commands of at most ``most_rows`` each."""
        tensor = self.graph.edges_in[node.index][0].tensor if sweeps(node) else node.output
        key = (node.index, min(most_rows, tensor.height))
        known = _LEAST.setdefault(self.graph, {}).setdefault(self.machine, {})
        if key not in known:
            command = [0, *(self.make_rows(node, 0, rows).cycles for rows in range(1, key[1] + 1))]
            least = [0]  # of so many rows, in commands of any size up to the most
            for done in range(1, tensor.height + 1):
                least.append(min(least[done - rows] + command[rows] for rows in range(1, min(done, key[1]) + 1)))
            known[key] = least[-1] * tensor.batch
        return known[key]

    def _vector_rows(self, node: FusionNode, first: int, rows: int) -> Work:
        read_bytes = sum(
            edge.tensor.row_bytes * (rows if node.kind == "reduction" else len(needed_rows(edge.rows, first, rows)))
            for edge in self.graph.edges_in[node.index]
        )
        written = node.output.row_bytes * (1 if sweeps(node) else rows)
        return self._vector(node, node.operators, self._share_of_rows(node, rows), 8 * read_bytes, 8 * written)

    def make_part(self, node: FusionNode, columns: int, rows: int, read_bits: int) -> Work:
        """A rectangle of the node's result, for which it reads ``read_bits`` of maps."""
        pixels, output = columns * rows, node.output
        if node.on_matrix:
            return self._product(node, pixels)
        share = Fraction(pixels, output.height * output.width * output.batch)
        return self._vector(node, node.operators, share, read_bits, pixels * output.pixel_bits)

    def slab_rows(self, node: FusionNode, rows: int, read_rows: int, channels: int) -> Work:
        """``rows`` rows of ``channels`` of a node that works on each channel by itself, ``read_rows`` of each input."""
        read_bytes = sum(
            ceil_div(read_rows * edge.tensor.row_bytes * channels, node.output.channels)
            for edge in self.graph.edges_in[node.index]
        )
        part = Fraction(channels, node.output.channels)
        written = 8 * node.output.row_bytes * rows * part
        return self._vector(node, node.operators, self._share_of_rows(node, rows) * part, 8 * read_bytes, written)

    def riding(self, node: FusionNode, work: Work, rows: int, channels: int) -> Work:
        """``work`` with that of the element-wise operators that are part of the node, for some of its channels."""
        return self._with_riding(node, work, rows * node.output.width, Fraction(channels, node.output.channels))

    def taps(self, node: FusionNode) -> int:
        """Inputs of one channel that are multiplied for an output (for all outputs of one place, transposed)."""
        if node.kind != "conv":
            return 1
        return self._conv(node).k // (node.in_channels // node.groups)

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

        def make() -> Work:
            operator = self.operators[node.name]
            number_format = compute_format(self.stream, operator)
            work = self.product(
                m,
                k,
                n,
                number_format=number_format,
                a_bits=self.graph.edges_in[node.index][0].tensor.bits,
                b_bits=value_bits(self.stream, operator.inputs[1]),
                out_bits=sum_bits or node.output.bits,
                partial_bits=self._sum_bits(number_format),
                add_to=add_to,
                conv=conv_shape(self._conv(node).window) if node.kind == "conv" else None,
            )
            cycles, idle = work.cycles * times, work.fill_drain_cycles * times
            return Work(cycles, 0, idle, work.energy_pj * times, work.counters * times)

        return self._remember(("matrix", node.index, m, k, n, times, sum_bits, add_to), make)

    def _sum_bits(self, number_format: str) -> int:
        kept = self.machine.matrix.accumulators.get(number_format)
        return accumulator_bits(number_format) if kept is None else format_bits(kept)

    def attention_work(self, node: FusionNode, rows: int, n_keys: int) -> tuple[Work, Work, Work]:
        """Q K^T, softmax and P V of one head for ``rows`` queries; scores are ``SUM_BITS`` wide."""
        operator = self.operators[node.name]
        width, value_width = operator.count("head_dim"), operator.count("value_dim")
        bits = node.output.bits
        number_format = element_format(self.stream.tensor(operator.inputs[0]).number_format)
        n = rows * n_keys
        qk, pv = (
            self.product(
                rows, k, columns, number_format=number_format, a_bits=a_bits, b_bits=bits, out_bits=out_bits,
                partial_bits=SUM_BITS, add_to=False,
            )
            for k, columns, a_bits, out_bits in ((width, n_keys, bits, SUM_BITS), (n_keys, value_width, SUM_BITS, bits))
        )  # fmt: skip
        kinds = ("max", "sub", "exp", "add", "div")
        pairs = tuple((kind, n) for kind in kinds)
        return qk, self.vector(pairs, reads_bits=n * SUM_BITS, writes_bits=n * SUM_BITS, reduces=True), pv

    # -- shared ----------------------------------------------------------------------------------------------------

    def _product(self, node: FusionNode, pixels: int) -> Work:
        """All channels of ``pixels`` of the result of a convolution or product."""
        if node.kind == "conv":
            of = self._conv(node)
            work = self.matrix_work(node, ceil_div(pixels, of.phases), of.k, of.n, times=of.groups)
        else:
            work = self.matrix_work(node, pixels, node.in_channels, node.output.channels)
        return self._with_riding(node, work, pixels)

    def _conv(self, node: FusionNode) -> ConvProduct:
        if node.index not in self._products:
            self._products[node.index] = conv_product(self.operators[node.name])
        return self._products[node.index]

    def _with_riding(self, node: FusionNode, work: Work, pixels: int, part: Fraction = WHOLE) -> Work:
        """A product and the element-wise work on its results, one after the other on the same command."""
        if len(node.operators) == 1:
            return work
        output = node.output
        share = part * Fraction(pixels, output.height * output.width * output.batch)
        riding = self._vector(node, node.operators[1:], share, 0, pixels * output.pixel_bits * part)
        energy, counters = work.energy_pj + riding.energy_pj, work.counters + riding.counters
        return Work(work.cycles + riding.cycles, 0, work.fill_drain_cycles, energy, counters)

    def _share_of_rows(self, node: FusionNode, rows: int) -> Fraction:
        """The part of a node's vector work in some rows of its result, or of its input where it sweeps over that."""
        tensor = self.graph.edges_in[node.index][0].tensor if sweeps(node) else node.output
        return Fraction(rows, tensor.height * tensor.batch)

    def _vector(
        self,
        node: FusionNode,
        names: Sequence[str],
        share: Fraction,
        read_bits: int | Fraction,
        write_bits: int | Fraction,
    ) -> Work:
        """A ``share`` of the vector work of operators of the node."""

        def make() -> Work:
            operators = [self.operators[name] for name in names]
            work: dict[str, int] = {}
            values = unit_values(operators[0])
            for operator in operators:
                for kind, times in on_vector_unit(operator):
                    work[kind] = work.get(kind, 0) + int(-(-times * share // 1))
            return self.vector(
                tuple(sorted(work.items())),
                reads_bits=read_bits,
                writes_bits=write_bits,
                reduces=any(is_reducing(operator) for operator in operators),
                values=None if values is None else values.share(Fraction(share)),
            )

        return self._remember(("of", node.index, len(names), share, read_bits, write_bits), make)


def sweeps(node: FusionNode) -> bool:
    """Whether the node adds up rows of its input as they come (a global pooling)."""
    return node.kind == "reduction" and node.output.height == 1


def _runs(tensor: FeatureMap, columns: int, rows: int) -> tuple[int, int, int]:
    """(runs, elements of a run, elements from run to run) of a rectangle; whole rows are one run."""
    if columns == tensor.width:
        return 1, rows * columns * tensor.channels, 0
    return rows, columns * tensor.channels, tensor.width * tensor.channels
