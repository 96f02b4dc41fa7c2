"""The 0/1 model of bit widths, groups and tiles together; see :mod:`tilewright.search.bits.joint`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.search.bits.joint_tables import JointTables, width
from tilewright.search.bits.problem import Assignment
from tilewright.search.cp_sat import has_answer, new_solver
from tilewright.search.fusion.plan import Plan
from tilewright.sim.fusion.graph.fusion_graph import members

if TYPE_CHECKING:
    from ortools.sat.python.cp_model import CpModel, IntVar

__all__ = ["JointModel"]

_SENSITIVITY_BITS = 40
_DETERMINISTIC_SECONDS = 120.0


class JointModel:
    """The model for CP-SAT: least price with at most ``most_sensitivity`` (None: any)."""

    def __init__(self, tables: JointTables, most_sensitivity: float | None) -> None:
        from ortools.sat.python import cp_model

        self.tables = tables
        self.model: CpModel = cp_model.CpModel()
        self.options = [
            [self.model.new_bool_var(f"d{d}o{o}") for o in range(len(decision.options))]
            for d, decision in enumerate(tables.problem.decisions)
        ]
        for row in self.options:
            self.model.add_exactly_one(row)
        self.formats = [self._formats_of(number) for number in range(len(tables.asks))]
        self.groups = {mask: self.model.new_bool_var(f"g{mask:x}") for mask in tables.groups}
        self.alone = [self.model.new_bool_var(f"s{node.index}") for node in tables.graph.nodes]
        for node in tables.graph.nodes:
            inside = [variable for mask, variable in self.groups.items() if mask & node.bit]
            self.model.add_exactly_one([*inside, self.alone[node.index]])
        self._fit()
        self._bound_sensitivity(most_sensitivity)
        self.model.minimize(sum([*self._maps(), *self._weights(), *self._nodes_alone(), *self._options()]))

    def _formats_of(self, number: int) -> dict[str, Any]:
        """For each format that a map can have: whether it has it (1 where it is the only one)."""
        names, asking = self.tables.map_formats[number], self.tables.asks[number]
        if len(names) == 1:
            return {names[0]: 1}
        decisions = [at for at in asking if at is not None]
        variables = {name: self.model.new_bool_var(f"m{number}{name}") for name in names}
        self.model.add_exactly_one(variables.values())
        for at in decisions:
            for option, variable in zip(self.tables.problem.decisions[at].options, self.options[at], strict=True):
                enough = [one for name, one in variables.items() if width(name) >= width(option.activations)]
                self.model.add_bool_or(enough).only_enforce_if(variable)
        return variables

    def _fit(self) -> None:
        """A group only where its weights and rows fit in the formats chosen."""
        tables = self.tables
        for mask, variable in self.groups.items():
            terms: list[Any] = []
            widest = 0
            for i in members(mask):
                sizes, decision = tables.weight_bytes[i], tables.decisions[i]
                widest += max(sizes)
                terms += [sizes[0]] if decision is None else _weighted(self.options[decision], sizes)
            for number, rows in tables.rings(mask).items():
                room = {name: rows * tables.in_format(number, name).row_bytes for name in self.formats[number]}
                widest += max(room.values())
                terms += [room[name] * one for name, one in self.formats[number].items()]
            if widest > tables.capacity_bytes:
                self.model.add(sum(terms) <= tables.capacity_bytes).only_enforce_if(variable)

    def _bound_sensitivity(self, most: float | None) -> None:
        if most is None:
            return
        rows = [[option.sensitivity for option in decision.options] for decision in self.tables.problem.decisions]
        least = sum(min(row) for row in rows)
        if not least <= most:  # not-a-number, too
            raise InputError(f"sensitivity: given at most {most:g}; the least possible is {least:.6g}")
        span = sum(max(row) - min(row) for row in rows) or 1.0
        scale = 2.0**_SENSITIVITY_BITS / span
        terms = [
            math.floor((value - min(row)) * scale) * one
            for row, variables in zip(rows, self.options, strict=True)
            for value, one in zip(row, variables, strict=True)
        ]
        self.model.add(sum(terms) <= math.floor(min(most - least, span) * scale))

    def _options(self) -> list[Any]:
        """What options cost apart from traffic."""
        terms: list[Any] = []
        for row, variables in zip(self.tables.prices.options, self.options, strict=False):
            terms += _weighted(variables, row)
        return terms

    def _maps(self) -> list[Any]:
        """Maps that groups read and write."""
        read: dict[int, list[Any]] = {}
        written: dict[int, list[Any]] = {}
        for mask, variable in self.groups.items():
            for number in self.tables.read(mask):
                read.setdefault(number, []).append(variable)
            for number in self.tables.written(mask):
                written.setdefault(number, []).append(variable)
        prices = self.tables.prices
        return [*self._moved(read, prices.read), *self._moved(written, prices.write)]

    def _moved(self, groups: dict[int, list[Any]], price: int) -> list[Any]:
        """Each map's bytes in its format, as often as one of its groups is chosen."""
        tables, model = self.tables, self.model
        terms: list[Any] = []
        for number, parts in groups.items():
            sizes = {name: price * tables.in_format(number, name).n_bytes for name in self.formats[number]}
            if len(sizes) == 1:
                terms += [next(iter(sizes.values())) * part for part in parts]
                continue
            most = max(1, len(tables.graph.edges_out[number])) if number < len(tables.graph) else len(parts)
            counts = {name: model.new_int_var(0, most, "") for name in sizes}
            model.add(sum(counts.values()) == sum(parts))
            for name, count in counts.items():
                model.add(count <= most * self.formats[number][name])
            terms += [sizes[name] * count for name, count in counts.items()]
        return terms

    def _weights(self) -> list[Any]:
        """Weights of nodes in groups, loaded once."""
        tables, model = self.tables, self.model
        terms: list[Any] = []
        for node in tables.graph.nodes:
            sizes = tuple(tables.prices.read * size for size in tables.weight_bytes[node.index])
            decision, alone = tables.decisions[node.index], self.alone[node.index]
            if decision is None:
                terms.append(sizes[0] * (1 - alone))
                continue
            loaded = [model.new_bool_var(f"w{node.index}o{at}") for at in range(len(sizes))]
            model.add(sum(loaded) == 1 - alone)
            for one, option in zip(loaded, self.options[decision], strict=True):
                model.add_implication(one, option)
            terms += _weighted(loaded, sizes)
        return terms

    def _nodes_alone(self) -> list[Any]:
        tables, model = self.tables, self.model
        terms: list[Any] = []
        for node in tables.graph.nodes:
            decision, alone = tables.decisions[node.index], self.alone[node.index]
            ways = tables.combinations(node.index)
            if len(ways) == 1:
                terms.append(ways[0].price * alone)
                continue
            taken = [model.new_bool_var(f"a{node.index}c{at}") for at in range(len(ways))]
            model.add(sum(taken) == alone)
            for way, one in zip(ways, taken, strict=True):
                if decision is not None and way.option is not None:
                    model.add_implication(one, self.options[decision][way.option])
                for number, name in way.maps:
                    if len(self.formats[number]) > 1:
                        model.add_implication(one, self.formats[number][name])
            terms += [way.price * one for way, one in zip(ways, taken, strict=True)]
        return terms

    # --- what is known beforehand -------------------------------------------------------------------------------------

    def fix_formats(self, assignment: Assignment) -> None:
        """Only this assignment."""
        for row, place in zip(self.options, assignment, strict=True):
            self.model.add(row[place] == 1)

    def fix_groups(self, plan: Plan) -> None:
        """Only these groups."""
        for mask in plan:
            self.model.add((self.groups[mask] if mask in self.groups else self.alone[mask.bit_length() - 1]) == 1)

    def hint(self, assignment: Assignment, plan: Plan) -> None:
        """Start from a design."""
        for row, at in zip(self.options, assignment, strict=True):
            for place, option in enumerate(row):
                self.model.add_hint(option, place == at)
        for mask, group in self.groups.items():
            self.model.add_hint(group, mask in plan)

    def forbid(self, mask: int, assignment: Assignment) -> None:
        """Not this group in these formats of the layers that decide its room."""
        taken = [self.options[at][assignment[at]] for at in self.tables.layers_around(mask)]
        self.model.add_bool_or([self.groups[mask].negated(), *(one.negated() for one in taken)])

    def forbid_formats(self, assignment: Assignment) -> None:
        """Not this assignment."""
        self.model.add_bool_or([row[at].negated() for row, at in zip(self.options, assignment, strict=True)])

    def forbid_together(self, masks: Plan) -> None:
        """Not all of these groups, which wait for each other."""
        self.model.add_bool_or([self.groups[mask].negated() for mask in masks if mask in self.groups])

    def solve(self) -> tuple[Assignment, Plan, int]:
        """The best assignment and groups, and the proven bound on the price."""
        solver = new_solver(is_linear=True, deterministic_seconds=_DETERMINISTIC_SECONDS)
        if not has_answer(solver, self.model):
            raise InputError(f"{self.tables.graph.name}: no design within the bound on the sensitivity")
        assignment = tuple(
            next(at for at, option in enumerate(row) if solver.boolean_value(option)) for row in self.options
        )
        groups = [mask for mask, variable in self.groups.items() if solver.boolean_value(variable)]
        groups += [1 << at for at, variable in enumerate(self.alone) if solver.boolean_value(variable)]
        return assignment, tuple(groups), round(solver.best_objective_bound)


def _weighted(variables: list[IntVar], factors: tuple[int, ...]) -> list[Any]:
    return [factor * one for one, factor in zip(variables, factors, strict=True)]
