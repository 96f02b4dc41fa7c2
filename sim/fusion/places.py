"""Which part of a place on chip holds which channels of a map."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

from tilewright.sim.fusion.graph.fusion_graph import FusionGraph
from tilewright.sim.fusion.rows import Maps

__all__ = ["Piece", "Places"]


class Piece(NamedTuple):
    """Neighbouring channels of a map: the part of the place that holds them, and the map whose values they are."""

    part: tuple[int, int]
    state: int
    channels: int


class Places:
    """The places of the maps of a group (``is_inside``: its nodes), given the maps that ride on others."""

    def __init__(
        self, graph: FusionGraph, maps: Maps, rides_on: Mapping[int, int], is_inside: Callable[[int], bool]
    ) -> None:
        self.graph, self.maps, self.rides_on, self.is_inside = graph, maps, rides_on, is_inside
        self._pieces: dict[int, tuple[Piece, ...]] = {}

    def place(self, i: int) -> int:
        """The map in whose place map i lies."""
        return self.rides_on.get(i, i)

    def is_silent(self, i: int) -> bool:
        """Whether node i is a join whose inputs are all made in its place."""
        return self.graph.nodes[i].kind == "concat" and all(
            self.rides_on.get(p) == self.place(i) for p, _ in self.maps.sources[i]
        )

    def is_in_place(self, i: int, p: int) -> bool:
        """Whether input p of node i is made in its place."""
        return self.rides_on.get(p) == self.place(i)

    def pieces(self, i: int) -> tuple[Piece, ...]:
        """What a row of map i consists of on chip."""
        if i not in self._pieces:
            self._pieces[i] = tuple(self._find(i))
        return self._pieces[i]

    def cells(self, i: int, rows: range, held: int, *, own: bool = False) -> list[Hashable]:
        """What rows of map i, of which ``held`` are kept, lie in; ``own``: only what node i itself writes of a join."""
        pieces = [piece for piece in self.pieces(i) if not own or piece.state == i]
        place, slots = self.place(i), dict.fromkeys(row % held for row in rows)
        return [("row", place, slot, piece.part) for slot in slots for piece in pieces]

    def _find(self, i: int) -> list[Piece]:
        sources = [p for p, _ in self.maps.sources[i]] if self.is_inside(i) else []
        in_place = [p for p in sources if self.is_in_place(i, p)]
        if not in_place:
            return [Piece((i, 0), i, self.maps.tensors[i].channels)]
        if self.graph.nodes[i].kind != "concat":
            return [piece._replace(state=i) for piece in self.pieces(in_place[0])]
        found: list[Piece] = []
        for number, p in enumerate(sources):
            copied = [Piece((i, number), i, self.maps.tensors[p].channels)]
            found += self.pieces(p) if p in in_place else copied
        return found
