"""What may stay on chip between fusion groups: maps that one hands to others, and the weights of each."""

from __future__ import annotations

from typing import NamedTuple

from tilewright.sim.fusion.graph.build import weights_of
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["GroupTensors", "KeptMap", "Pattern", "Tensors"]

MOST_FREE = 4  # with more maps only all of them, all that are read, all that are left, or none


class KeptMap(NamedTuple):
    """A map that may stay on chip: made by node ``maker``, read by the nodes of the mask ``readers``."""

    name: str
    n_bytes: int
    maker: int
    readers: int

    @property
    def users(self) -> int:
        """All nodes that make or read it."""
        return self.readers | 1 << self.maker

    def crosses(self, mask: int) -> bool:
        """Whether a group makes or reads it, and some node outside does, too."""
        return bool(self.users & mask) and bool(self.users & ~mask)


class Pattern(NamedTuple):
    """Which maps (by number) that a group reads or leaves are on chip, and whether its weights are."""

    maps: frozenset[int]
    weights: bool


class GroupTensors(NamedTuple):
    """What of a group may be on chip: maps by number, of them those that it reads, bytes and names of its weights."""

    maps: tuple[int, ...]
    reads: frozenset[int]
    weight_bytes: int
    weights: tuple[str, ...]


class Tensors:
    """The maps of ``graph`` (of ``stream``) that may stay, and what of a group may.

    ``holds``: what the memory may hold. ``most_bytes``: its capacity. Inputs and results of the network are
    in the DRAM. The weights of a group stay all or none.
    """

    def __init__(self, stream: OperatorStream, graph: FusionGraph, *, most_bytes: int, holds: tuple[str, ...]) -> None:
        self.stream, self.graph, self.most_bytes = stream, graph, most_bytes
        self.holds_weights = "weights" in holds
        self.maps = tuple(self._maps()) if "activations" in holds else ()
        self._known: dict[int, GroupTensors] = {}
        operators = {operator.name: operator for operator in stream.operators}
        self._weights = [weights_of(stream, [operators[name] for name in node.operators]) for node in graph.nodes]

    def _maps(self) -> list[KeptMap]:
        found = []
        outside = {self.stream.base(name).name for name in (*self.stream.inputs, *self.stream.outputs)}
        for node in self.graph.nodes:
            name, readers = node.output.name, self.graph.successor_masks[node.index]
            if node.is_output or not readers or node.output.extra_bytes or name in outside:
                continue
            if any(edge.tensor.name != name for edge in self.graph.edges_out[node.index]):
                continue
            n_bytes = self.stream.base(name).n_bytes
            if 0 < n_bytes <= self.most_bytes:
                found.append(KeptMap(name, n_bytes, node.index, readers))
        return found

    def of(self, mask: int) -> GroupTensors:
        """What of a group may be on chip."""
        if mask not in self._known:
            crossing = tuple(number for number, one in enumerate(self.maps) if one.crosses(mask))
            reads = frozenset(number for number in crossing if not mask >> self.maps[number].maker & 1)
            weights: dict[str, int] = {}
            for i in members(mask):
                weights |= self._weights[i]
            total = sum(weights.values()) if self.holds_weights else 0
            names = tuple(weights) if 0 < total <= self.most_bytes else ()
            self._known[mask] = GroupTensors(crossing, reads, total if names else 0, names)
        return self._known[mask]

    def patterns(self, mask: int) -> list[Pattern]:
        """What of a group may be on chip together, as far as it fits at all."""
        own = self.of(mask)
        choices = _subsets(own.maps) if len(own.maps) <= MOST_FREE else _few(own)
        ways = (False, True) if own.weights else (False,)
        found = [Pattern(maps, weights) for maps in choices for weights in ways]
        return [pattern for pattern in found if self.own_bytes(mask, pattern) <= self.most_bytes]

    def nearest(self, mask: int) -> Pattern:
        """All of a group on chip, whether there is room or not."""
        own = self.of(mask)
        return Pattern(frozenset(own.maps), bool(own.weights))

    def own_bytes(self, mask: int, pattern: Pattern) -> int:
        """Bytes of what a pattern has on chip."""
        weights = self.of(mask).weight_bytes if pattern.weights else 0
        return weights + sum(self.maps[number].n_bytes for number in pattern.maps)


def _subsets(numbers: tuple[int, ...]) -> list[frozenset[int]]:
    found = [frozenset[int]()]
    for number in numbers:
        found += [one | {number} for one in found]
    return found


def _few(own: GroupTensors) -> list[frozenset[int]]:
    every = frozenset(own.maps)
    return list(dict.fromkeys((frozenset[int](), every, own.reads, every - own.reads)))
