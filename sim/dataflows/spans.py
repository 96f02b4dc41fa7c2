"""Tiles along one extent, as a loop in which only the first and the last trip stand alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tilewright.sim.lowering.core import TileCore
from tilewright.units import ceil_div

__all__ = ["Span", "spans"]


class Span(NamedTuple):
    """One tile along an extent. ``start`` of a tile that is neither first nor last is set only when unrolled."""

    size: int
    first: bool
    last: bool
    start: int = 0


def spans(core: TileCore[Any], extent: int, tile: int, name: str) -> Iterator[Span]:
    """Loop over the tiles of an extent; the first and the last stand alone."""
    n = ceil_div(extent, tile)
    if n == 1:
        yield Span(extent, True, True)
        return
    yield Span(tile, True, False)
    if core.unroll:
        for i in range(1, n - 1):
            yield Span(tile, False, False, i * tile)
    else:
        for _ in core.loop(n - 2, name=name):
            yield Span(tile, False, False)
    yield Span(extent - (n - 1) * tile, False, True, (n - 1) * tile)
