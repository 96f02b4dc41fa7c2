"""Monte-Carlo tree search: one factor of the tiling is chosen at each level of the tree.

The rule is UCB1 (Auer, Cesa-Bianchi, Fischer 2002) on rewards between 0 and 1: the lowest counted bound over the exact
result. What UCB1 hopes of a branch is cut at what the counted bounds below it still allow, which is also what is hoped
of a branch not yet tried. TileFlow and MAS-Attention search their tilings by such trees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from tilewright.search.methods.method import SearchMethod, register
from tilewright.search.methods.problem import Point, Problem

__all__ = ["MCTS", "propose"]

_EXPLORATION = 0.1
_DRAWN = 5  # completions drawn by chance below a new node; the one of the lowest bound is run


class _Node:
    """The points that share their first factors; ``left`` are those not yet run, lowest bound first."""

    def __init__(self, left: list[Point], depth: int) -> None:
        self.left = left
        self.depth = depth
        self.visits = 0
        self.rewards = 0.0
        self._children: list[_Node] | None = None

    def children(self) -> list[_Node]:
        """A node for each value of the next factor under which points are left."""
        if self._children is None:
            by_value: dict[int, list[Point]] = {}
            for point in self.left:
                by_value.setdefault(point[self.depth], []).append(point)
            self._children = [_Node(points, self.depth + 1) for points in by_value.values()]
        return [child for child in self._children if child.left]


def propose(problem: Problem) -> Iterator[list[Point]]:
    """Walk down by UCB, complete the first new node by chance, run, and tell every node on the way."""
    order = list(problem.points)
    problem.random.shuffle(order)  # chance decides between equals
    order.sort(key=problem.bound)
    ideal = problem.bound(order[0])[0]
    root = _Node(order, 0)
    while root.left:
        path = _walk(problem, root, ideal)
        drawn = problem.random.sample(path[-1].left, min(_DRAWN, len(path[-1].left)))
        point = min(drawn, key=problem.bound)
        yield [point]
        reward = ideal / problem.score(point)[0]
        for node in path:
            node.left.remove(point)
            node.visits += 1
            node.rewards += reward


def _walk(problem: Problem, root: _Node, ideal: float) -> list[_Node]:
    """From the root to the first node that was never visited, or to a single point."""
    path = [root]
    while path[-1].visits and path[-1].depth < len(problem.factors):
        node = path[-1]
        path.append(max(node.children(), key=lambda child: _hope(problem, child, node.visits, ideal)))
    return path


def _hope(problem: Problem, node: _Node, parent_visits: int, ideal: float) -> float:
    """The upper confidence bound of a node, cut at what its points can still reach."""
    reach = ideal / problem.bound(node.left[0])[0]
    if not node.visits:
        return reach
    mean = node.rewards / node.visits
    return min(reach, mean + _EXPLORATION * math.sqrt(math.log(parent_visits) / node.visits))


MCTS = register(SearchMethod(name="mcts", summary="a UCB tree over one factor at a time", propose=propose), rank=3)
