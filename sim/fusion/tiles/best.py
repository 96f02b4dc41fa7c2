"""Which stacks of layers, mode and tile size are best for a network executed depth first on a memory hierarchy.

Stacks are cut as DeFiNES cuts them: layers are fused, in order, until the weights of a stack no longer fit the
uppermost memory for weights on chip; between a fork and its join nothing is cut, and a part that does not fit by itself
runs layer by layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tilewright.errors import InputError
from tilewright.hw_models.hierarchy import HierarchySpec, hierarchy_of
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members
from tilewright.sim.fusion.tiles.cost import DepthFirstCost, depth_first_cost
from tilewright.sim.fusion.tiles.geometry import MODES, Mode
from tilewright.sim.fusion.tiles.layers import RUNNABLE, weight_bits
from tilewright.sim.hierarchy.loop_order import N_LOOP_FACTORS, Objective

__all__ = ["DepthFirstPlan", "best_depth_first", "stacks_of", "tiles_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthFirstPlan:
    """A network as stacks, each with its best tiling; ``tried`` says how many tilings were worked out."""

    hierarchy: HierarchySpec
    objective: Objective
    stacks: tuple[DepthFirstCost, ...]
    tried: int

    @property
    def total_pj(self) -> float:
        return sum(stack.total_pj for stack in self.stacks)

    @property
    def cycles(self) -> int:
        return sum(stack.cycles for stack in self.stacks)


def best_depth_first(
    graph: FusionGraph,
    machine: HierarchySpec | MachineSpec,
    *,
    objective: Objective = "energy",
    group: int | None = None,
    modes: Sequence[Mode] = MODES,
    tiles: Iterable[tuple[int, int]] | None = None,
    number_format: str = "int8",
    n_factors: int = N_LOOP_FACTORS,
    progress: Progress | None = None,
) -> DepthFirstPlan:
    """The best mode and tile for every stack of ``graph``, or for ``group`` as one stack.

    ``tiles`` are (columns, rows) of a stack's last result; without them those of :func:`tiles_of`, and from the best of
    these on tiles of twice or half its width or height for as long as that helps. A ``machine`` with
    one chain of buffers is seen as :func:`~tilewright.hw_models.hierarchy.hierarchy_of` says, with ``number_format``.
    ``progress`` is told how many tilings of how many are done. Raises InputError for operators that have no loops here.
    """
    hierarchy = hierarchy_of(machine, number_format) if isinstance(machine, MachineSpec) else machine
    groups = [group] if group is not None else list(stacks_of(graph, hierarchy))
    given = None if tiles is None else list(tiles)
    work = [_Stack(graph, mask, modes, given or tiles_of(graph, mask)) for mask in groups]
    total, done = sum(len(stack.choices) for stack in work), 0

    def cost(stack: _Stack, choice: _Choice) -> DepthFirstCost:
        mode, tile = choice
        return depth_first_cost(
            graph, stack.mask, hierarchy, mode=mode, tile=tile, objective=objective, n_factors=n_factors
        )

    found = []
    for stack in work:
        best: DepthFirstCost | None = None
        waiting = list(stack.choices)
        while waiting:
            here = cost(stack, waiting.pop(0))
            done += 1
            if best is None or here.worth(objective) < best.worth(objective):
                best = here
            if not waiting and given is None:
                waiting = stack.around(best)
                total += len(waiting)
            if progress is not None:
                progress(done, total, "tilings")
        if best is None:
            raise InputError("modes: none given; allowed at least one")
        found.append(best)
    return DepthFirstPlan(hierarchy=hierarchy, objective=objective, stacks=tuple(found), tried=done)


def tiles_of(graph: FusionGraph, group: int) -> list[tuple[int, int]]:
    """A grid of tiles: the whole of the last result, a quarter, a sixteenth, ... down to one, along both axes."""
    last = graph.nodes[graph.needed_outside(group)[-1]].output
    return [(x, y) for x in _quarters(last.width) for y in _quarters(last.height)]


def _quarters(extent: int) -> list[int]:
    found = [extent]
    while found[-1] > 1:
        found.append(-(-found[-1] // 4))
    return found


_Choice: TypeAlias = tuple[Mode, tuple[int, int]]


class _Stack:
    """One stack with the modes and tiles to try; of those that do the same, one."""

    def __init__(self, graph: FusionGraph, mask: int, modes: Sequence[Mode], tiles: Sequence[tuple[int, int]]) -> None:
        self.mask, self.modes = mask, modes
        self.last = graph.nodes[graph.needed_outside(mask)[-1]].output
        self._seen: set[tuple[int, int, bool, bool]] = set()
        self.choices = self._new([(mode, tile) for tile in tiles for mode in modes])

    def around(self, best: DepthFirstCost) -> list[_Choice]:
        """Tiles of twice and half the width or height of the best so far, those not tried yet."""
        x, y = best.plan.tile
        near = ((2 * x, y), (-(-x // 2), y), (x, 2 * y), (x, -(-y // 2)))
        return self._new([(best.plan.mode, tile) for tile in near])

    def _new(self, choices: Sequence[_Choice]) -> list[_Choice]:
        found: list[_Choice] = []
        for mode, (x, y) in choices:
            wide, high = x >= self.last.width, y >= self.last.height
            # Without a neighbour along an axis there is nothing to cache along it.
            cached = (mode != "fully_recompute" and not wide, mode == "fully_cached" and not high)
            key = (min(x, self.last.width), min(y, self.last.height), *cached)
            if key not in self._seen:
                self._seen.add(key)
                found.append((mode, (x, y)))
        return found


def stacks_of(graph: FusionGraph, hierarchy: HierarchySpec) -> tuple[int, ...]:
    """The stacks of a network as masks, in order; see the module's text."""
    for node in graph.nodes:
        if node.kind not in RUNNABLE:
            raise InputError(
                f"{node.name}: depth-first tiling has no loops for this kind of operator; given {node.kind}; allowed "
                f"{', '.join(RUNNABLE)}"
            )
    capacity = hierarchy.levels("weight")[-2].capacity_bits
    found: list[int] = []
    stack = bits = 0
    for part in _parts(graph):
        weights = sum(weight_bits(graph.nodes[i], hierarchy) for i in members(part))
        if stack and bits + weights > capacity:
            found.append(stack)
            stack = bits = 0
        if weights > capacity:
            found += [graph.nodes[i].bit for i in members(part)]
            continue
        stack |= part
        bits += weights
    return (*found, stack) if stack else tuple(found)


def _parts(graph: FusionGraph) -> Iterable[int]:
    """What is not cut: a node through which everything passes ends a part."""
    part, done = 0, 0
    for node in graph.nodes:
        part |= node.bit
        done |= node.bit
        crossing = [i for i in members(done) if graph.successor_masks[i] & ~done]
        late_inputs = any(
            edge.producer < 0 and edge.tensor.name in _early(graph, done)
            for edge in graph.edges
            if not done >> edge.consumer & 1
        )
        if crossing in ([node.index], []) and not late_inputs:
            yield part
            part = 0
    if part:
        yield part


def _early(graph: FusionGraph, done: int) -> set[str]:
    return {edge.tensor.name for edge in graph.edges if edge.producer < 0 and done >> edge.consumer & 1}
