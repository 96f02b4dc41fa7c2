"""The graph that fusion works on: operators with their feature maps, edges with the rows that they need.

Groups of nodes are Python integers used as bit masks (bit i is node i), so that set operations, connectedness and
convexity of a group cost about a microsecond per node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias, get_args

from tilewright.errors import InputError, unknown
from tilewright.sim.fusion.graph.geometry import AxisWindow, FeatureMap

__all__ = ["NODE_KINDS", "FusionEdge", "FusionGraph", "FusionNode", "NodeKind", "members"]

NodeKind: TypeAlias = Literal[
    "conv",
    "depthwise",
    "dense",
    "matmul",
    "attention",
    "softmax",
    "norm",
    "elementwise",
    "reduction",
    "pool",
    "concat",
    "pad",
    "upsample",
    "move",
    "gather",
    "memory",
]
NODE_KINDS: tuple[NodeKind, ...] = get_args(NodeKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionNode:
    """One operator (``operators``: its names in the stream, with those that ride on it behind the first).

    ``index`` is its place in a topological order. Along (rows, columns): ``kernel``, ``stride``, ``dilation``, and
    ``padding`` before the first. ``in_channels`` and ``groups`` are those of a convolution; a product has its k as
    ``in_channels``. ``weight_bytes`` also counts biases and constants; ``macs`` are those of all images.
    """

    index: int
    operators: tuple[str, ...]
    kind: NodeKind
    function: str
    output: FeatureMap
    in_channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    weight_bytes: int = 0
    macs: int = 0
    is_output: bool = False

    @property
    def name(self) -> str:
        return self.operators[0]

    @property
    def on_matrix(self) -> bool:
        """Whether its products run on the matrix unit; all else runs on the vector unit."""
        return self.kind in ("conv", "dense", "matmul")

    @property
    def bit(self) -> int:
        """The mask of this node alone."""
        return 1 << self.index


class FusionEdge(NamedTuple):
    """``consumer`` reads ``tensor``; ``producer`` is the node that made it, -1 for an input of the network.

    ``rows`` and ``columns`` say what of it a run of output rows, or columns, of the consumer needs.
    """

    producer: int
    consumer: int
    tensor: FeatureMap
    rows: AxisWindow
    columns: AxisWindow


def members(mask: int) -> tuple[int, ...]:
    """The nodes of a mask, in topological order."""
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class FusionGraph:
    """Nodes in topological order and the edges between them; equal only to itself.

    ``inputs`` are the feature maps that come from outside, ``edges`` stand in the order of their consumers. The rest
    follows from these: neighbours as tuples and as masks, everything above and below a node, edges by node.
    """

    name: str
    nodes: tuple[FusionNode, ...]
    edges: tuple[FusionEdge, ...]
    inputs: tuple[FeatureMap, ...]
    successors: tuple[tuple[int, ...], ...] = field(init=False, repr=False)
    predecessors: tuple[tuple[int, ...], ...] = field(init=False, repr=False)
    successor_masks: tuple[int, ...] = field(init=False, repr=False)
    predecessor_masks: tuple[int, ...] = field(init=False, repr=False)
    ancestors: tuple[int, ...] = field(init=False, repr=False)
    descendants: tuple[int, ...] = field(init=False, repr=False)
    edges_in: tuple[tuple[FusionEdge, ...], ...] = field(init=False, repr=False)
    edges_out: tuple[tuple[FusionEdge, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        count = range(len(self.nodes))
        into: list[list[FusionEdge]] = [[] for _ in count]
        out: list[list[FusionEdge]] = [[] for _ in count]
        for edge in self.edges:
            if edge.producer >= edge.consumer:
                raise InputError(f"{self.name}: the nodes stand in no order in which they can run")
            into[edge.consumer].append(edge)
            if edge.producer >= 0:
                out[edge.producer].append(edge)
        before = [sum(1 << p for p in {e.producer for e in into[i] if e.producer >= 0}) for i in count]
        after = [sum(1 << c for c in {e.consumer for e in out[i]}) for i in count]
        above, below = [0 for _ in count], [0 for _ in count]
        for i in count:
            for p in members(before[i]):
                above[i] |= above[p] | 1 << p
        for i in reversed(count):
            for c in members(after[i]):
                below[i] |= below[c] | 1 << c
        derived = {
            "edges_in": tuple(map(tuple, into)),
            "edges_out": tuple(map(tuple, out)),
            "predecessor_masks": tuple(before),
            "successor_masks": tuple(after),
            "predecessors": tuple(map(members, before)),
            "successors": tuple(map(members, after)),
            "ancestors": tuple(above),
            "descendants": tuple(below),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def all_mask(self) -> int:
        """The group of all nodes."""
        return (1 << len(self.nodes)) - 1

    # -- groups ------------------------------------------------------------------------------------------------

    def above(self, mask: int) -> int:
        """Everything outside the group from which a path leads into it."""
        found = 0
        for i in members(mask):
            found |= self.ancestors[i]
        return found & ~mask

    def below(self, mask: int) -> int:
        """Everything outside the group to which a path leads from it."""
        found = 0
        for i in members(mask):
            found |= self.descendants[i]
        return found & ~mask

    def neighbours(self, mask: int) -> int:
        """The nodes outside the group that share an edge with it."""
        found = 0
        for i in members(mask):
            found |= self.predecessor_masks[i] | self.successor_masks[i]
        return found & ~mask

    def successors_of(self, mask: int) -> int:
        """The nodes outside the group that read something of it."""
        found = 0
        for i in members(mask):
            found |= self.successor_masks[i]
        return found & ~mask

    def component(self, mask: int, start: int) -> int:
        """The part of the group that hangs together with node ``start``, whatever way the edges point."""
        reached, frontier = 0, 1 << start
        while frontier:
            reached |= frontier
            near = 0
            for i in members(frontier):
                near |= self.predecessor_masks[i] | self.successor_masks[i]
            frontier = near & mask & ~reached
        return reached

    def components(self, mask: int) -> tuple[int, ...]:
        """The weakly connected parts of a group, by their first nodes."""
        found = []
        while mask:
            part = self.component(mask, (mask & -mask).bit_length() - 1)
            found.append(part)
            mask &= ~part
        return tuple(found)

    def is_connected(self, mask: int) -> bool:
        """Whether the group hangs together, whatever way the edges point; the empty one does not."""
        return mask != 0 and self.component(mask, (mask & -mask).bit_length() - 1) == mask

    def is_convex(self, mask: int) -> bool:
        """Whether no path leaves the group and comes back (then it can run in one piece)."""
        return not self.above(mask) & self.below(mask)

    def is_group(self, mask: int) -> bool:
        """Whether the nodes can be one fusion group: some, connected, convex."""
        return self.is_connected(mask) and self.is_convex(mask)

    def is_acyclic(self, partition: Iterable[int]) -> bool:
        """Whether the disjoint groups of ``partition`` can run one after the other in some order."""
        return len(self.order(partition)) == len(tuple(partition))

    def order(self, partition: Iterable[int]) -> tuple[int, ...]:
        """The groups in an order in which they can run; those that wait for each other in a circle are left out."""
        groups = tuple(partition)
        needs = [self._direct_needs(mask) for mask in groups]
        covered = 0
        for mask in groups:
            covered |= mask
        waiting = sorted(range(len(groups)), key=lambda i: groups[i] & -groups[i])
        done = 0
        found: list[int] = []
        while True:
            ready = [i for i in waiting if not needs[i] & covered & ~done]
            if not ready:
                return tuple(found)
            for i in ready:
                done |= groups[i]
                found.append(groups[i])
            waiting = [i for i in waiting if i not in set(ready)]

    def _direct_needs(self, mask: int) -> int:
        found = 0
        for i in members(mask):
            found |= self.predecessor_masks[i]
        return found & ~mask

    # -- what a group reads and writes -------------------------------------------------------------------------

    def read_from_outside(self, mask: int) -> tuple[FeatureMap, ...]:
        """The feature maps that the group reads and does not make, each once."""
        found: dict[str, FeatureMap] = {}
        for i in members(mask):
            for edge in self.edges_in[i]:
                if edge.producer < 0 or not mask >> edge.producer & 1:
                    found[edge.tensor.name] = edge.tensor
        return tuple(found.values())

    def needed_outside(self, mask: int) -> tuple[int, ...]:
        """The nodes of the group whose result is read outside it or is a result of the network."""
        return tuple(i for i in members(mask) if self.nodes[i].is_output or self.successor_masks[i] & ~mask)

    def mask_of(self, names: Sequence[str]) -> int:
        """The group of the nodes that run the operators called ``names``; raises InputError for an unknown one."""
        places = {name: node.index for node in self.nodes for name in node.operators}
        mask = 0
        for name in names:
            if name not in places:
                raise unknown("operator", name, places, place=self.name)
            mask |= 1 << places[name]
        return mask

    def names(self, mask: int) -> Iterator[str]:
        """The names of the nodes of a group."""
        return (self.nodes[i].name for i in members(mask))
