"""Full and partial slabs: which maps of a group are held with all channels, and which a few channels at a time.

A convolution or product that reads a *full* map can make its own result a few channels at a time ("partial"); one that
reads a partial map adds up what each piece of channels gives, so that its own result is full. Operators that work on
each channel by itself (pools, depthwise convolutions, sums, joins) are partial when one of their inputs is.
Alternating the two needs the least room: the pairs of Optimus (Cai, Wang and Zhang, LCTES 2021).

Partial maps that hang together are one *unit*: all are made for the same channels, piece after piece, and the full maps
that add them up are finished when the last piece is done. A unit needs its full inputs finished; where that cannot be
(a sum that waits for what its own unit makes, channels that do not line up), its convolutions are made full.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, FusionNode, members
from tilewright.sim.fusion.rows import Maps, Reader

__all__ = ["Slabs", "Unit", "find_slabs", "is_by_channel", "mixes"]

_BY_CHANNEL = ("depthwise", "pool", "elementwise", "concat", "pad")


class Unit(NamedTuple):
    """``partial`` maps (nodes, and inputs that are loaded in pieces), and the ``sums`` that read them.

    ``first`` gives where each partial map's channels begin among the ``channels`` of the unit. A unit without partial
    maps is one full node (in ``sums``).
    """

    partial: tuple[int, ...]
    sums: tuple[int, ...]
    first: Mapping[int, int]
    channels: int


class Slabs(NamedTuple):
    """The units of a group in an order in which they can run in every step; ``partial``: all maps held in pieces."""

    units: tuple[Unit, ...]
    partial: frozenset[int]


def mixes(node: FusionNode) -> bool:
    """Whether each result needs all input channels (of its group)."""
    return node.kind in ("conv", "dense")


def is_by_channel(node: FusionNode) -> bool:
    """Whether each channel of the result needs only that channel of the inputs."""
    return node.kind in _BY_CHANNEL or (node.kind == "norm" and node.function == "batch")


class _ConflictError(Exception):
    """Convolutions that must be full."""

    def __init__(self, roots: set[int]) -> None:
        super().__init__()
        self.roots = roots


def find_slabs(
    graph: FusionGraph,
    maps: Maps,
    mask: int,
    phases: Mapping[int, int],
    readers: Mapping[int, tuple[Reader, ...]],
    *,
    first_partial: bool,
    all_full: bool = False,
) -> Slabs:
    """Alternate full and partial, from the first convolutions on; ``first_partial`` says which they are.

    With full first ones the group's inputs come in pieces where only such convolutions read them. ``all_full`` holds
    every map with all its channels.
    """
    finder = _Finder(graph, maps, mask, phases, readers, first_partial=first_partial)
    if all_full:
        finder.full = {i for i in finder.inside if mixes(graph.nodes[i])}
        finder.pieces = False
    while True:
        try:
            return finder.find()
        except _ConflictError as conflict:
            if conflict.roots <= finder.full:
                finder.pieces = False
            finder.full |= conflict.roots


class _Finder:
    def __init__(
        self,
        graph: FusionGraph,
        maps: Maps,
        mask: int,
        phases: Mapping[int, int],
        readers: Mapping[int, tuple[Reader, ...]],
        *,
        first_partial: bool,
    ) -> None:
        self.graph, self.maps, self.mask, self.phases, self.readers = graph, maps, mask, phases, readers
        self.inside = members(mask)
        self.first_partial = first_partial
        self.full: set[int] = set()
        self.pieces = not first_partial

    def find(self) -> Slabs:
        partial = self._in_pieces() if self.pieces else set()
        for i in self.inside:
            node = self.graph.nodes[i]
            sources = [s for s, _ in self.maps.sources[i]]
            reads_partial = any(s in partial for s in sources)
            if mixes(node):
                own = [s for s in sources if s < self.maps.n_nodes and self.mask >> s & 1]
                wanted = self.first_partial or bool(own)
                if not reads_partial and wanted and i not in self.full and node.groups == 1:
                    partial.add(i)
            elif reads_partial and is_by_channel(node):
                partial.add(i)
        return self._units(partial)

    def _in_pieces(self) -> set[int]:
        """Inputs of the group that only convolutions read, which add up what their channels give."""
        found = set()
        for i, reading in self.readers.items():
            if i < self.maps.n_nodes and self.mask >> i & 1:
                continue
            nodes = [self.graph.nodes[r.consumer] for r in reading]
            if all(r.slides for r in reading) and all(mixes(n) and n.groups == 1 for n in nodes):
                found.add(i)
        return found

    # -- units -------------------------------------------------------------------------------------------------

    def _units(self, partial: set[int]) -> Slabs:
        unit_of = self._components(partial)
        for i in partial:
            for reader in self.readers[i]:
                c = reader.consumer
                same = reader.slides and self.phases[c] == self.phases[i]
                if not same or (
                    c not in partial and not (mixes(self.graph.nodes[c]) and self.graph.nodes[c].groups == 1)
                ):
                    raise _ConflictError(self._roots(partial, unit_of, i))
        parts: dict[int, list[int]] = {}
        sums: dict[int, list[int]] = {}
        for i in sorted(partial):
            parts.setdefault(unit_of[i], []).append(i)
        for i in self.inside:
            if i not in partial:
                reads = [s for s, _ in self.maps.sources[i] if s in partial]
                unit_of[i] = unit_of[reads[0]] if reads else i
                sums.setdefault(unit_of[i], []).append(i)
        order = self._order(partial, unit_of)
        units = []
        for name in order:
            first, channels = self._channels(partial, parts.get(name, []), unit_of)
            units.append(Unit(tuple(parts.get(name, ())), tuple(sums.get(name, ())), first, channels))
        return Slabs(tuple(units), frozenset(partial))

    def _components(self, partial: set[int]) -> dict[int, int]:
        """Partial maps that hang together, by the smallest of them (those with a common sum too)."""
        found = {i: i for i in partial}

        def root(i: int) -> int:
            while found[i] != i:
                i = found[i]
            return i

        sums: dict[int, int] = {}
        for i in sorted(partial):
            for reader in self.readers[i]:
                other = reader.consumer if reader.consumer in partial else sums.setdefault(reader.consumer, i)
                a, b = root(i), root(other)
                found[max(a, b)] = min(a, b)
        return {i: root(i) for i in partial}

    def _roots(self, partial: set[int], unit_of: Mapping[int, int], i: int) -> set[int]:
        """The convolutions that make the partial maps of the unit of map i."""
        return {
            j
            for j in partial
            if unit_of[j] == unit_of[i] and j < self.maps.n_nodes and self.mask >> j & 1 and mixes(self.graph.nodes[j])
        }

    def _order(self, partial: set[int], unit_of: Mapping[int, int]) -> list[int]:
        """Units such that each finds its full inputs finished."""
        needs: dict[int, set[int]] = {}
        for i in self.inside:
            wanted = needs.setdefault(unit_of[i], set())
            for source, _ in self.maps.sources[i]:
                if source in unit_of and source not in partial:
                    if unit_of[source] == unit_of[i] and source != i:
                        raise _ConflictError(self._roots_of(partial, unit_of, unit_of[i]))
                    wanted.add(unit_of[source])
        waiting = sorted(needs)
        done: list[int] = []
        while waiting:
            ready = [u for u in waiting if needs[u] <= set(done)]
            if not ready:
                stuck = {j for u in waiting for j in self._roots_of(partial, unit_of, u)}
                raise _ConflictError(stuck)
            done.append(ready[0])
            waiting.remove(ready[0])
        return done

    def _roots_of(self, partial: set[int], unit_of: Mapping[int, int], unit: int) -> set[int]:
        for j in partial:
            if unit_of[j] == unit:
                return self._roots(partial, unit_of, j)
        return set()

    def _channels(self, partial: set[int], parts: list[int], unit_of: Mapping[int, int]) -> tuple[dict[int, int], int]:
        """Where each partial map's channels lie; raises the conflict of those that do not line up."""
        if not parts:
            return {}, 0
        near: dict[int, list[tuple[int, int]]] = {i: [] for i in parts}
        for i in parts:
            sources = [s for s, _ in self.maps.sources[i]] if i < self.maps.n_nodes and self.mask >> i & 1 else []
            before = 0
            for source in sources:
                if source in partial:
                    at = before if self.graph.nodes[i].kind == "concat" else 0
                    near[i].append((source, at))
                    near[source].append((i, -at))
                    if (
                        self.graph.nodes[i].kind != "concat"
                        and self.maps.tensors[source].channels != self.maps.tensors[i].channels
                    ):
                        raise _ConflictError(self._roots(partial, unit_of, i))
                before += self.maps.tensors[source].channels
        first = {parts[0]: 0}
        waiting = [parts[0]]
        while waiting:
            i = waiting.pop()
            for other, at in near[i]:
                if other not in first:
                    first[other] = first[i] + at
                    waiting.append(other)
                elif first[other] != first[i] + at:
                    raise _ConflictError(self._roots(partial, unit_of, i))
        for i in parts:  # parts that only a common sum holds together begin with the same channel
            first.setdefault(i, 0)
        low = min(first.values())
        first = {i: at - low for i, at in first.items()}
        return first, max(at + self.maps.tensors[i].channels for i, at in first.items())
