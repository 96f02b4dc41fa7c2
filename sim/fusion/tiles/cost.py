"""Energy and cycles of a group executed depth first on a memory hierarchy.

The model is that of DeFiNES (Mei, Goetschalckx, Symons, Verhelst, HPCA 2023), read from the paper and from what its
public tool does, and written anew: data of every layer and tile in the lowest memory where they fit
(:mod:`~tilewright.sim.fusion.tiles.homes`), copies between layers
(:mod:`~tilewright.sim.hierarchy.copies`), and each layer with its cheapest order of loops
(:mod:`~tilewright.sim.hierarchy.loop_order`). Tiles of the same kind are worked out once and counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise, product

from tilewright.errors import MappingError
from tilewright.hw_models.hierarchy import HierarchySpec, Operand
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members
from tilewright.sim.fusion.tiles.geometry import DepthFirstGeometry, Mode, geometry
from tilewright.sim.fusion.tiles.homes import TileShape, lowest, moments_of, most_with_vertical
from tilewright.sim.fusion.tiles.layers import nest_of, weight_bits
from tilewright.sim.hierarchy.copies import Copy, copy_cost
from tilewright.sim.hierarchy.loop_order import N_LOOP_FACTORS, NestCost, Objective, best_order

__all__ = ["ASSUMPTIONS", "DepthFirstCost", "depth_first_cost"]

#: What the model takes for granted.
ASSUMPTIONS = (
    "a cache keeps one memory for the whole run (vertical) or between two neighbouring tiles (horizontal)",
    "tile, caches and weights each have room of their own; a cache in the memory of a tile is read in place",
    "results of the group go to DRAM, its inputs come from there",
    "weights come from DRAM with the first tile and stay in the lowest memory that holds those of all layers",
    "an addition, a comparison or a copy of a value costs as much as a multiply-add",
    "copies before a layer run together, and the layer waits for them; the drain behind the last step is not counted",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthFirstCost:
    """A group under one tiling. Energy by memory name and "array"; cycles of layers and of copies between them.

    ``homes``: memory by what lies there (weights, caches where there are any). ``peak_bits``: the most data of a tile
    and of caches at any moment.
    """

    plan: DepthFirstGeometry
    energy_pj: dict[str, float]
    layer_cycles: int
    copy_cycles: int
    homes: dict[str, str]
    peak_bits: int

    @property
    def cycles(self) -> int:
        return self.layer_cycles + self.copy_cycles

    @property
    def total_pj(self) -> float:
        return sum(self.energy_pj.values())

    def worth(self, objective: Objective) -> float:
        """The figure to be made small."""
        if objective == "edp":
            return self.total_pj * self.cycles
        return self.total_pj if objective == "energy" else float(self.cycles)


def depth_first_cost(
    graph: FusionGraph,
    group: int,
    hierarchy: HierarchySpec,
    *,
    mode: Mode,
    tile: tuple[int, int],
    objective: Objective = "energy",
    n_factors: int = N_LOOP_FACTORS,
) -> DepthFirstCost:
    """Cost of ``group`` with tiles of (columns, rows) ``tile`` of its last result, all images.

    ``objective`` decides among orders of loops, ``n_factors`` how finely these are cut. Raises InputError for an
    unknown mode or an operator that has no loops to run, MappingError where a layer does not fit at all.
    """
    plan = geometry(graph, group, mode, tile)
    return _Run(plan, hierarchy, objective, n_factors).cost()


#: One tile of which the cost depends on nothing else: kinds along both axes, homes of the cache to the right and left.
_Kind = tuple[int, int, int, int, bool]


@dataclass(slots=True)
class _Sum:
    energy_pj: dict[str, float] = field(default_factory=dict)
    layer_cycles: int = 0
    copy_cycles: int = 0

    def add(self, other: _Sum, times: int) -> None:
        for name, value in other.energy_pj.items():
            self.energy_pj[name] = self.energy_pj.get(name, 0.0) + value * times
        self.layer_cycles += other.layer_cycles * times
        self.copy_cycles += other.copy_cycles * times


class _Run:
    def __init__(
        self, plan: DepthFirstGeometry, hierarchy: HierarchySpec, objective: Objective, n_factors: int
    ) -> None:
        self.plan, self.hierarchy = plan, hierarchy
        self.objective, self.n_factors = objective, n_factors
        self.levels = hierarchy.activation_levels
        self.weight_levels = hierarchy.levels("weight")
        self.moments = moments_of(plan, hierarchy.activation_bits)
        self.apart, self.together = most_with_vertical(plan, self.moments, hierarchy.activation_bits)
        self.all_kinds = list(product(range(len(plan.columns.examples)), range(len(plan.rows.examples))))
        self.vertical_home = max(map(self._vertical_home, self.all_kinds))
        self.weight_home = max(map(self._weight_home, self.all_kinds))
        self.top_weights = self.weight_levels[-1].name

    def _shape(self, x: int, y: int) -> TileShape:
        plan = self.plan
        steps = plan.columns.step(plan.columns.examples[x]), plan.rows.step(plan.rows.examples[y])
        return TileShape(plan, *steps, self.hierarchy.activation_bits)

    # -- homes -------------------------------------------------------------------------------------------------

    def _horizontal_home(self, kind: tuple[int, int]) -> int:
        if not self.plan.columns.cached:
            return 0
        return lowest(self.levels, int(self.moments.most_with_horizontal[kind]))

    def _vertical_home(self, kind: tuple[int, int]) -> int:
        if not self.plan.rows.cached:
            return 0
        for place, memory in enumerate(self.levels):
            if memory.capacity_bits >= self._data_bits(kind, place):
                return place
        return len(self.levels) - 1

    def _data_bits(self, kind: tuple[int, int], place: int) -> int:
        """All data of tile and caches, were the vertical cache in level ``place``."""
        return int((self.together if place == self._horizontal_home(kind) else self.apart)[kind])

    def _weight_home(self, kind: tuple[int, int]) -> int:
        weights = sum(weight_bits(self.plan.graph.nodes[i], self.hierarchy) for i in members(self.plan.group))
        alive = int(self.moments.most_alive[kind])
        for place, memory in enumerate(self.weight_levels):
            data = 0
            if memory in self.levels:
                level = self.levels.index(memory)
                data = alive if level <= lowest(self.levels, alive) else 0
                if self.plan.columns.cached and level == self._horizontal_home(kind):
                    data = int(self.moments.most_with_horizontal[kind])
                if self.plan.rows.cached and level == self.vertical_home:
                    data = self._data_bits(kind, level)
            if memory.feeds is None and memory.capacity_bits >= weights + data:
                return place
        return len(self.weight_levels) - 1

    # -- all tiles ---------------------------------------------------------------------------------------------

    def cost(self) -> DepthFirstCost:
        """Sum over all tiles of all images."""
        total, known = _Sum(), dict[_Kind, _Sum]()
        for kind, times in self._tiles().items():
            if kind not in known:
                known[kind] = self._tile(*kind)
            total.add(known[kind], times)
        names = {"weights": self.weight_levels[self.weight_home].name}
        if self.plan.columns.cached and self.plan.columns.n_steps > 1:
            names["horizontal cache"] = self.levels[max(map(self._horizontal_home, self.all_kinds))].name
        if self.plan.rows.cached and self.plan.rows.n_steps > 1:
            names["vertical cache"] = self.levels[self.vertical_home].name
        return DepthFirstCost(
            plan=self.plan,
            energy_pj=total.energy_pj,
            layer_cycles=total.layer_cycles,
            copy_cycles=total.copy_cycles,
            homes=names,
            peak_bits=int(self.apart.max()),
        )

    def _tiles(self) -> Counter[_Kind]:
        """How many tiles there are of each kind; the first of all brings the weights."""
        batch = max(one.batch for one in self.plan.maps.values())
        found: Counter[_Kind] = Counter()
        for y, n_rows in Counter(self.plan.rows.kinds).items():
            for (x, right, left), n in self._across(y).items():
                found[x, y, right, left, False] = n * n_rows * batch
        y = self.plan.rows.kinds[0]
        x = self.plan.columns.kinds[0]
        right = self._homes_across(y)[0] if len(self.plan.columns.kinds) > 1 else 0
        found[x, y, right, 0, False] -= 1
        found[x, y, right, 0, True] = 1
        return +found

    def _homes_across(self, y: int) -> list[int]:
        """Where the horizontal cache lies between neighbouring tiles: as high as either of the two needs it."""
        homes = [self._horizontal_home((x, y)) for x in self.plan.columns.kinds]
        return [max(pair) for pair in pairwise(homes)]

    def _across(self, y: int) -> Counter[tuple[int, int, int]]:
        between = self._homes_across(y)
        kinds = self.plan.columns.kinds
        return Counter(zip(kinds, [*between, 0], [0, *between], strict=True))

    # -- one tile ----------------------------------------------------------------------------------------------

    def _tile(self, x: int, y: int, right: int, left: int, is_first: bool) -> _Sum:
        shape, plan = self._shape(x, y), self.plan
        at = dict.fromkeys(plan.outside, len(self.levels) - 1)
        brought: set[tuple[str, int]] = set()
        fetched: set[str] = set()
        total, pending = _Sum(), list[Copy]()
        for node in members(plan.group):
            result = plan.result[node]
            if not shape.fresh_bits(result):
                if is_first:
                    total.add(self._bring_weights(node), 1)
                continue
            home, out, cost = self._layer(shape, node, is_first=is_first)
            inputs = tuple(dict.fromkeys(plan.edges[place][1] for place in shape.edges_into(node)))
            for name in inputs:
                if (name, home) not in brought:
                    brought.add((name, home))
                    pending += self._inputs(shape, name, at.get(name, home), home, left)
            total.add(self._copied(pending), 1)
            total.add(_Sum(cost.energy_pj, layer_cycles=cost.cycles), 1)
            at[result] = out
            pending = self._to_caches(shape, result, out, right)
            for name in inputs:
                if name in plan.outside and name not in fetched:
                    at[name] = home
                    pending += self._to_caches(shape, name, home, right)
            fetched.update(inputs)
        for name in plan.outside:
            if name not in fetched:  # no layer of this tile reads it: it only goes into the caches
                pending += [Copy(shape.fresh_bits(name), at[name], 0), *self._to_caches(shape, name, 0, right)]
        total.add(self._copied(pending), 1)
        return total

    def _copied(self, copies: list[Copy]) -> _Sum:
        moved = copy_cost(copies, self.levels)
        return _Sum(moved.energy_pj, copy_cycles=moved.cycles)

    def _bring_weights(self, node: int) -> _Sum:
        """The weights of a layer that computes nothing in the first tile."""
        bits = weight_bits(self.plan.graph.nodes[node], self.hierarchy)
        moved = copy_cost([Copy(bits, len(self.weight_levels) - 1, self.weight_home)], self.weight_levels)
        return _Sum(moved.energy_pj, copy_cycles=moved.cycles)

    def _inputs(self, shape: TileShape, name: str, source: int, home: int, left: int) -> list[Copy]:
        """What must be brought to a layer's input memory: an earlier layer's result, and cached parts."""
        return [
            Copy(shape.fresh_bits(name), source, home),
            Copy(shape.from_left_bits(name), left, home),
            Copy(shape.from_above_bits(name), self.vertical_home, home),
        ]

    def _to_caches(self, shape: TileShape, name: str, home: int, right: int) -> list[Copy]:
        computed, from_above = shape.to_right_bits(name)
        return [
            Copy(shape.to_below_bits(name), home, self.vertical_home),
            Copy(computed, home, right),
            Copy(from_above, self.vertical_home, right),
        ]

    def _layer(self, shape: TileShape, node: int, *, is_first: bool) -> tuple[int, int, NestCost]:
        """(level of the input, level of the output, cost) of one layer on one tile.

        Where no order of loops fits (partial sums take more room than results), the output, then the input, then both
        go one level up, and so on.
        """
        edges = list(shape.edges_into(node))
        reading = sum(shape.read_bits(place) for place in edges)
        made = shape.fresh_bits(self.plan.result[node])
        top = len(self.levels) - 1
        home = lowest(self.levels, reading)
        is_result = node in self.plan.graph.needed_outside(self.plan.group)
        out = top if is_result else self._out_home(made, reading, home)
        nest = nest_of(self.plan, shape, node, edges)
        weights = self.top_weights if is_first else self.weight_levels[self.weight_home].name
        for up in range(top + 1):
            for more_in, more_out in ((up, up), (up, up + 1), (up + 1, up)):
                levels = min(home + more_in, top), min(out + more_out, top)
                tops: tuple[tuple[Operand, str], ...] = (
                    ("weight", weights),
                    ("input", self.levels[levels[0]].name),
                    ("output", self.levels[levels[1]].name),
                )
                cost = best_order(nest, self.hierarchy, tops, self.objective, self.n_factors)
                if cost is not None:
                    return *levels, cost
        raise MappingError(
            resource=f"on-chip memory for {self.plan.graph.nodes[node].name}",
            demand=reading + made,
            limit=self.levels[-1].capacity_bits,
            unit="bits",
            levers="take smaller tiles or a larger memory",
        )

    def _out_home(self, made: int, reading: int, home: int) -> int:
        for place, memory in enumerate(self.levels):
            if memory.capacity_bits >= made + (reading if place == home else 0):
                return place
        return len(self.levels) - 1
