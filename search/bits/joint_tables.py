"""What bit widths mean for fusion groups, as sums: room and traffic of every map and weight in every format.

Groups are run with line buffers (:mod:`tilewright.sim.fusion.schemes.lbdf`): how many rows of a map a group keeps does
not
depend on formats, so the room of a group is a sum over its maps and weights, each in its format, and its traffic a sum
over the maps that cross its border and its weights. A node alone takes its best tiles, whose traffic is worked out for
every combination of formats around it.

The one thing that is no sum: a map shares the place of another only if it is not wider. Sums take every place that
could be shared as shared, so they never ask for more room than there is need of; what is chosen is checked against the
scheme.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import product
from typing import NamedTuple

from tilewright.formats import bits_per_element, tensor_bits
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.bits.costs import in_reference, operators_of
from tilewright.search.bits.problem import Assignment, BitProblem, problem_of
from tilewright.search.bits.sensitivity import Sensitivity
from tilewright.search.fusion.groups import fitting_groups
from tilewright.search.fusion.problem import FusionProblem
from tilewright.sim.fusion.fused import FusedProgram
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members
from tilewright.sim.fusion.graph.geometry import FeatureMap
from tilewright.sim.fusion.rows import maps_of, plan_rows
from tilewright.sim.fusion.scheme import GroupCost
from tilewright.sim.fusion.schemes.lbdf import LineBuffers
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.formats import OperatorFormats, activations_of, with_operator_formats
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["TRAFFIC", "Combination", "JointTables", "Prices", "width"]


class Combination(NamedTuple):
    """Formats around a node alone: its decision's option (None: it has none), formats of maps, price of its traffic."""

    option: int | None
    maps: tuple[tuple[int, str], ...]
    price: int


class Prices(NamedTuple):
    """What is made small: a price for each byte read from and written to DRAM, and for each option of each decision.

    ``options`` is empty where only traffic counts. All whole numbers of ``unit``.
    """

    name: str
    unit: str
    read: int
    write: int
    options: tuple[tuple[int, ...], ...] = ()

    def of_groups(self, costs: Iterable[GroupCost]) -> int:
        """The price of the traffic of groups."""
        return sum(
            self.read * (cost.dram_read_bytes + cost.weight_bytes) + self.write * cost.dram_write_bytes
            for cost in costs
        )

    def of_formats(self, assignment: Assignment) -> int:
        """The price of the options chosen, apart from traffic."""
        return sum(row[at] for row, at in zip(self.options, assignment, strict=True)) if self.options else 0


TRAFFIC = Prices("dram", "bytes", 1, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class JointTables:
    """A network whose layers may take the options of a table, on a working buffer of ``capacity_bytes``; ``prices`` say
    what is made small.

    Maps are numbered as in :mod:`tilewright.sim.fusion.rows`: results of nodes, then inputs of the network.
    """

    source: OperatorStream
    sensitivity: Sensitivity
    capacity_bytes: int
    prices: Prices = TRAFFIC

    @cached_property
    def problem(self) -> BitProblem:
        """Decisions and options."""
        return problem_of(self.sensitivity)

    @cached_property
    def stream(self) -> OperatorStream:
        """The network with everything that no layer decides in the widest formats of the table."""
        return in_reference(self.source, self.sensitivity)

    @cached_property
    def graph(self) -> FusionGraph:
        """Its fusion graph, activations in the node that they follow."""
        return fusion_graph(self.stream, absorb=True)

    @cached_property
    def scheme(self) -> LineBuffers:
        return LineBuffers(capacity_bytes=self.capacity_bytes)

    @cached_property
    def _decision_of(self) -> dict[str, int]:
        """The decision of each operator that has one."""
        by_layer = {layer: at for at, decision in enumerate(self.problem.decisions) for layer in decision.layers}
        listed = operators_of(self.stream, self.sensitivity)
        return {operator.name: by_layer[layer] for layer, operators in listed.items() for operator in operators}

    @cached_property
    def decisions(self) -> tuple[int | None, ...]:
        """The decision of each node, None for most nodes that multiply nothing."""
        return tuple(self._decision_of.get(node.name) for node in self.graph.nodes)

    # --- formats ------------------------------------------------------------------------------------------------------

    def formatted(self, assignment: Assignment) -> OperatorStream:
        """The stream in the formats of an assignment."""
        chosen = self.problem.chosen(assignment)
        formats = {
            name: OperatorFormats(weights=chosen[at].weights, activations=chosen[at].activations)
            for name, at in self._decision_of.items()
        }
        return with_operator_formats(self.stream, formats)

    @cached_property
    def asks(self) -> tuple[tuple[int | None, ...], ...]:
        """For each map: the decisions of those who read it; None among them for a reader that wants it as it is."""
        readers: dict[str, list[Operator]] = {}
        for operator in self.stream.operators:
            for name in {self.stream.base(name).name for name in operator.inputs}:
                readers.setdefault(name, []).append(operator)
        outside = {self.stream.base(name).name for name in self.stream.outputs}
        found = []
        for tensor in maps_of(self.graph).tensors:
            name = self.stream.base(tensor.name).name
            asking: set[int | None] = {None} if name in outside else set()
            for operator in readers.get(name, []):
                decides = name in activations_of(self.stream, operator)
                asking.add(self._decision_of.get(operator.name) if decides else None)
            found.append(tuple(sorted(asking, key=lambda at: -1 if at is None else at)) or (None,))
        return tuple(found)

    @cached_property
    def map_formats(self) -> tuple[tuple[str, ...], ...]:
        """The formats that each map can have, narrow before wide."""
        found = []
        for number, asking in enumerate(self.asks):
            names = {
                option.activations for at in asking if at is not None for option in self.problem.decisions[at].options
            }
            if None in asking:
                own = self.stream.base(maps_of(self.graph).tensors[number].name).number_format
                names = {name for name in names if width(name) > width(own)} | {own}
            found.append(tuple(sorted(names, key=width)))
        return tuple(found)

    def in_format(self, number: int, name: str) -> FeatureMap:
        """A map in a format."""
        known = self._in_format
        if (number, name) not in known:
            known[number, name] = self._map(number, name)
        return known[number, name]

    @cached_property
    def _in_format(self) -> dict[tuple[int, str], FeatureMap]:
        return {}

    def _map(self, number: int, name: str) -> FeatureMap:
        tensor = maps_of(self.graph).tensors[number]
        spec = self.stream.tensor(tensor.name)
        bits = Fraction(tensor_bits(name, spec.shape), max(1, spec.n_elements))
        return tensor._replace(bits=int(bits) if bits.denominator == 1 else bits)

    @cached_property
    def weight_bytes(self) -> tuple[tuple[int, ...], ...]:
        """Bytes of weights (and biases) of each node for each option of its decision; one figure where it has none."""
        n_options = max(len(decision.options) for decision in self.problem.decisions)
        graphs = []
        for at in range(n_options):
            assignment = tuple(min(at, len(decision.options) - 1) for decision in self.problem.decisions)
            graphs.append(fusion_graph(self.formatted(assignment), absorb=True))
        found = []
        for node, decision in zip(self.graph.nodes, self.decisions, strict=True):
            count = 1 if decision is None else len(self.problem.decisions[decision].options)
            found.append(tuple(graphs[at].nodes[node.index].weight_bytes for at in range(count)))
        return tuple(found)

    # --- groups -------------------------------------------------------------------------------------------------------

    def rings(self, mask: int) -> Mapping[int, int]:
        """Rows that a group keeps of each map."""
        return plan_rows(self.graph, mask).rings

    def floor(self, mask: int) -> int:
        """The least room that the sums give a group, everything as narrow as it can be."""
        room = sum(min(self.weight_bytes[i]) for i in members(mask))
        for number, rows in self.rings(mask).items():
            room += rows * min(self.in_format(number, name).row_bytes for name in self.map_formats[number])
        return room

    @cached_property
    def groups(self) -> tuple[int, ...]:
        """Groups of two nodes or more that fit in some formats."""
        narrow = replace(
            self.graph,
            nodes=tuple(
                replace(node, weight_bytes=min(sizes))
                for node, sizes in zip(self.graph.nodes, self.weight_bytes, strict=True)
            ),
        )
        found = FusionProblem(
            graph=narrow, scheme=_Floor(self), capacity_bytes=self.capacity_bytes, objective="dram", budget=1, seed=0
        )
        return tuple(mask for mask in fitting_groups(found) if mask & (mask - 1))

    def read(self, mask: int) -> tuple[int, ...]:
        """The maps that a group reads from outside."""
        numbers = {tensor.name: at for at, tensor in enumerate(maps_of(self.graph).tensors)}
        return tuple(numbers[tensor.name] for tensor in self.graph.read_from_outside(mask))

    def written(self, mask: int) -> tuple[int, ...]:
        """The maps that a group writes for others."""
        return self.graph.needed_outside(mask)

    def combinations(self, node: int) -> tuple[Combination, ...]:
        """The price of a node alone for every combination of its option and the formats of its maps."""
        decision = self.decisions[node]
        numbers = sorted({*self.read(1 << node), *self.written(1 << node)})
        found = []
        for at, weights in enumerate(self.weight_bytes[node]):
            for names in product(*(self.map_formats[number] for number in numbers)):
                chosen = tuple(zip(numbers, names, strict=True))
                cost = self.scheme.cost(self._alone(node, weights, dict(chosen)), 1)
                found.append(Combination(None if decision is None else at, chosen, self.prices.of_groups([cost])))
        return tuple(found)

    def _alone(self, node: int, weight_bytes: int, formats: Mapping[int, str]) -> FusionGraph:
        """The graph of one node in given formats."""
        numbers = {tensor.name: at for at, tensor in enumerate(maps_of(self.graph).tensors)}

        def recast(tensor: FeatureMap) -> FeatureMap:
            number = numbers[tensor.name]
            name = formats.get(number, self.map_formats[number][-1])
            return tensor._replace(bits=self.in_format(number, name).bits)

        given = self.graph.nodes[node]
        outside = bool(given.is_output or self.graph.successor_masks[node])
        own = replace(given, index=0, output=recast(given.output), weight_bytes=weight_bytes, is_output=outside)
        edges = tuple(
            edge._replace(producer=-1, consumer=0, tensor=recast(edge.tensor)) for edge in self.graph.edges_in[node]
        )
        inputs = tuple({edge.tensor.name: edge.tensor for edge in edges}.values())
        return FusionGraph(name=self.graph.name, nodes=(own,), edges=edges, inputs=inputs)

    def layers_around(self, mask: int) -> tuple[int, ...]:
        """The decisions on which the room of a group depends."""
        found = {self.decisions[i] for i in members(mask)}
        for number in self.rings(mask):
            found.update(self.asks[number])
        return tuple(sorted(at for at in found if at is not None))


def width(name: str) -> tuple[float, str]:
    """The order of formats from narrow to wide."""
    return float(bits_per_element(name)), name


class _Floor:
    """Line buffers with everything as narrow as it can be: finds every group that fits in some formats."""

    name = "line buffers in the narrowest formats"
    has_programs = False
    source = LineBuffers.source
    assumptions = LineBuffers.assumptions

    def __init__(self, tables: JointTables) -> None:
        self._tables = tables
        self.capacity_bytes = tables.capacity_bytes

    def cost(self, graph: FusionGraph, group_mask: int) -> GroupCost:
        reason = plan_rows(self._tables.graph, group_mask).reason
        room = self._tables.floor(group_mask)
        return GroupCost(buffer_bytes=room, dram_read_bytes=0, dram_write_bytes=0, weight_bytes=0, reason=reason)

    def fusable_mask(self, graph: FusionGraph) -> int:
        return self._tables.scheme.fusable_mask(graph)

    def least_bytes(self, graph: FusionGraph, group_mask: int) -> int:
        return self._tables.scheme.least_bytes(graph, group_mask)

    def programs(
        self, stream: OperatorStream, graph: FusionGraph, group_mask: int, machine: MachineSpec
    ) -> Iterator[FusedProgram]:
        return iter(())
