"""Bit widths, fusion groups and tiles chosen together.

Fewer bits let a larger group fit on chip, and a group that fits saves the traffic of what passes inside it: so the
best formats depend on the groups, and the best groups on the formats. One model has both. A 0/1 variable for each
option of each decision and for each group that fits in some formats; every node in one group; a group only if its
weights and rows fit in the formats chosen. Least DRAM traffic, or energy, within a bound on the summed sensitivity
(CP-SAT, whole numbers, one worker). What is chosen is checked by the fusion scheme itself; a group that does not fit
after all is forbidden in those formats and the rest solved again, so the optimum is that of the scheme.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.errors import InputError
from tilewright.presented import Shown
from tilewright.progress import Progress
from tilewright.search.bits.costs import operators_of
from tilewright.search.bits.joint_model import JointModel
from tilewright.search.bits.joint_tables import JointTables
from tilewright.search.bits.problem import Assignment
from tilewright.search.fusion.plan import Plan, ordered
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph
from tilewright.sim.fusion.scheme import GroupCost
from tilewright.workloads.stream.formats import FORMAT_ASSUMPTIONS

__all__ = ["JointDesign", "JointOutcome", "search_joint", "solve_joint"]

_MOST_ROUNDS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class JointDesign:
    """Formats and groups, with what they cost by the fusion scheme in those formats.

    ``plan`` holds the groups (masks of ``graph``) in an order in which they can run, ``costs`` what each needs and
    moves. ``value`` is the price that was made small and ``lower_bound`` proven for all designs that were allowed.
    """

    name: str
    assignment: Assignment
    sensitivity: float
    graph: FusionGraph
    plan: Plan
    costs: tuple[GroupCost, ...]
    value: int
    lower_bound: int
    n_rounds: int

    @property
    def dram_bytes(self) -> int:
        """DRAM traffic of one run of the network."""
        return sum(cost.dram_bytes for cost in self.costs)

    @property
    def proven(self) -> bool:
        """Whether no design that was allowed costs less."""
        return self.value <= self.lower_bound

    @property
    def n_fused(self) -> int:
        """Groups of two nodes or more."""
        return sum(mask & (mask - 1) != 0 for mask in self.plan)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JointOutcome(Shown):
    """The joint optimum beside both ways to choose one after the other, under the same bound on the sensitivity."""

    tables: JointTables
    most_sensitivity: float
    joint: JointDesign
    bits_then_fusion: JointDesign
    fusion_then_bits: JointDesign
    reference: JointDesign

    @property
    def designs(self) -> tuple[JointDesign, ...]:
        """All four: widest formats with their best groups, the two sequences, the joint optimum."""
        return (self.reference, self.bits_then_fusion, self.fusion_then_bits, self.joint)

    @property
    def saved(self) -> float:
        """What the joint optimum saves of the better sequence's price."""
        better = min(self.bits_then_fusion.value, self.fusion_then_bits.value)
        return 1 - self.joint.value / better

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the traffic stands on."""
        own = ["what no layer of the table decides is in the table's widest formats; biases stay as they are"]
        if self.tables.prices.options:
            own.append("besides its DRAM bytes, a layer takes in a group the energy that it takes alone")
        return (*own, *FORMAT_ASSUMPTIONS, *self.tables.scheme.assumptions)

    def group_rows(self) -> list[dict[str, Any]]:
        """One row per group of the joint optimum, in the order in which they run; a node alone is one, too."""
        graph = self.joint.graph
        rows = []
        for at, (mask, cost) in enumerate(zip(self.joint.plan, self.joint.costs, strict=True), start=1):
            names = list(graph.names(mask))
            rows.append(
                {
                    "group": at,
                    "n_nodes": len(names),
                    "first": names[0],
                    "last": names[-1],
                    "buffer_bytes": cost.buffer_bytes,
                    "dram_bytes": cost.dram_bytes,
                    "weight_bytes": cost.weight_bytes,
                    "nodes": " ".join(names),
                }
            )
        return rows

    def layer_rows(self) -> list[dict[str, Any]]:
        """One row per layer: its formats together and when they are chosen before the groups, and its group."""
        problem, graph = self.tables.problem, self.joint.graph
        together = problem.by_layer(self.joint.assignment)
        first = problem.by_layer(self.bits_then_fusion.assignment)
        listed = operators_of(self.tables.stream, self.tables.sensitivity)
        rows = []
        for layer, operators in listed.items():
            node = graph.mask_of([operators[0].name])
            mask = next(group for group in self.joint.plan if group & node)
            at = self.joint.plan.index(mask) + 1
            rows.append(
                {
                    "layer": layer,
                    "formats": together[layer].label,
                    "formats_before_fusion": first[layer].label,
                    "group": str(at) if mask & (mask - 1) else "",
                }
            )
        return rows

    def rows(self) -> list[dict[str, Any]]:
        """One row per design."""
        return [
            {
                "design": design.name,
                "dram_bytes": design.dram_bytes,
                "price": design.value,
                "price_unit": self.tables.prices.unit,
                "sensitivity": design.sensitivity,
                "groups": len(design.plan),
                "fused_groups": design.n_fused,
                "proven": design.proven,
            }
            for design in self.designs
        ]


def search_joint(tables: JointTables, most_sensitivity: float, *, progress: Progress | None = None) -> JointOutcome:
    """The formats, groups and tiles of least price with at most ``most_sensitivity``, and both sequences.

    *Bits, then fusion*: formats of least price while every node runs alone, then the best groups in them. *Fusion,
    then bits*: the best groups in the widest formats, then the best formats for these groups. Raises InputError when no
    formats are within the bound, and for a network with too many groups.
    """
    problem = tables.problem
    alone = tuple(node.bit for node in tables.graph.nodes)
    steps = 5

    def tell(done: int, what: str) -> None:
        if progress is not None:
            progress(done, steps, what)

    tell(0, "groups in the widest formats")
    reference = solve_joint(tables, None, assignment=problem.reference, name="widest formats")
    tell(1, "formats for nodes alone")
    bits_first = solve_joint(tables, most_sensitivity, plan=alone, name="formats alone")
    tell(2, "groups in these formats")
    then_fusion = solve_joint(tables, None, assignment=bits_first.assignment, name="bits, then fusion")
    tell(3, "formats for the groups of the widest formats")
    then_bits = solve_joint(tables, most_sensitivity, plan=reference.plan, name="fusion, then bits")
    tell(4, "formats and groups together")
    joint = solve_joint(tables, most_sensitivity, name="together", hints=(then_fusion, then_bits))
    tell(steps, "formats and groups together")
    return JointOutcome(
        tables=tables,
        most_sensitivity=most_sensitivity,
        joint=joint,
        bits_then_fusion=then_fusion,
        fusion_then_bits=then_bits,
        reference=reference,
    )


def solve_joint(
    tables: JointTables,
    most_sensitivity: float | None,
    *,
    assignment: Assignment | None = None,
    plan: Plan | None = None,
    name: str = "",
    hints: tuple[JointDesign, ...] = (),
) -> JointDesign:
    """The design of least price; with ``assignment`` or ``plan`` given, of those that have it.

    ``hints``: designs from which the solver starts. Raises InputError when there is none within ``most_sensitivity``.
    """
    model = JointModel(tables, most_sensitivity)
    if assignment is not None:
        model.fix_formats(assignment)
    if plan is not None:
        model.fix_groups(plan)
    if hints:
        best = min(hints, key=lambda design: design.value)
        model.hint(best.assignment, best.plan)
    for n_rounds in range(1, _MOST_ROUNDS + 1):
        chosen, groups, bound = model.solve()
        graph = fusion_graph(tables.formatted(chosen), absorb=True)
        runnable = ordered(graph, groups)
        wrong = [mask for mask in groups if not _runs(tables, graph, mask)]
        over = most_sensitivity is not None and tables.problem.sensitivity(chosen) > most_sensitivity
        if over:  # by less than the model's rounding
            model.forbid_formats(chosen)
        elif not wrong and len(runnable) == len(groups):
            costs = tuple(tables.scheme.cost(graph, mask) for mask in runnable)
            return JointDesign(
                name=name,
                assignment=chosen,
                sensitivity=tables.problem.sensitivity(chosen),
                graph=graph,
                plan=runnable,
                costs=costs,
                value=tables.prices.of_groups(costs) + tables.prices.of_formats(chosen),
                lower_bound=bound,
                n_rounds=n_rounds,
            )
        for mask in wrong:
            model.forbid(mask, chosen)
        if len(runnable) < len(groups):  # in a circle
            model.forbid_together(tuple(mask for mask in groups if mask not in runnable))
    raise InputError(f"{tables.graph.name}: no design found in {_MOST_ROUNDS} rounds")


def _runs(tables: JointTables, graph: FusionGraph, mask: int) -> bool:
    return not mask & (mask - 1) or tables.scheme.cost(graph, mask).valid(tables.capacity_bytes)
