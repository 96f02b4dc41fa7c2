"""Figures of a product's tiles that are remembered: searches of one layer with other homes ask for the same ones.

A figure depends on the layer, the machine, and of the homes on those that its name says; a plan of what stays on chip
searches each layer, cut in each way, with many homes and rooms.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sized
from dataclasses import replace
from typing import TypeVar

from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.gemm.costs import GemmCosts
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.homes import IN_DRAM

__all__ = ["Figures", "figures_of", "keep_space"]

MOST_LAYERS = 500
MOST_ROWS = 1_000_000  # of tilings of all spaces
MOST_MACHINES = 2  # often one is asked again and again, and so is another that it is held against

Figure = TypeVar("Figure")


class Figures:
    """What has been told of the tiles of one layer: by what it is and the tile's extents."""

    __slots__ = ("_known", "spaces")

    def __init__(self) -> None:
        self._known: dict[Hashable, dict[tuple[int, ...], object]] = {}
        self.spaces: dict[Hashable, Sized] = {}  # what shortlists know of its tilings

    def told(self, what: Hashable, tiles: Iterable[tuple[int, ...]], make: Callable[..., Figure]) -> list[Figure]:
        """``make(*tile)`` of each tile, made once."""
        known: dict[tuple[int, ...], Figure] = self._known.setdefault(what, {})  # type: ignore[assignment]
        found = []
        for tile in tiles:
            figure = known.get(tile)
            if figure is None:
                figure = known[tile] = make(*tile)
            found.append(figure)
        return found


_figures: list[tuple[MachineSpec, dict[GemmLayer, Figures]]] = []


def figures_of(costs: GemmCosts) -> Figures:
    """What is known of the tiles of a layer on a machine as an object; nothing where its costs are of a class that may
    know more than these two.
    """
    if type(costs) is not GemmCosts:
        return Figures()
    layers = _layers_on(costs.machine)
    layer = replace(costs.layer, homes=IN_DRAM)
    if layer not in layers:
        if len(layers) >= MOST_LAYERS:
            layers.clear()
        layers[layer] = Figures()
    return layers[layer]


def _layers_on(machine: MachineSpec) -> dict[GemmLayer, Figures]:
    for known, layers in _figures:
        if known is machine:
            return layers
    if len(_figures) >= MOST_MACHINES:
        _figures.pop(0)
    _figures.append((machine, {}))
    return _figures[-1][1]


def keep_space(figures: Figures, key: Hashable, space: Sized) -> None:
    """Remember ``space``, one item a tiling; others are forgotten where they become many."""
    _n_rows[0] += len(space)
    if _n_rows[0] > MOST_ROWS:
        for _, layers in _figures:
            for own in layers.values():
                own.spaces.clear()
        _n_rows[0] = len(space)
    figures.spaces[key] = space


_n_rows = [0]  # at least of all spaces that are remembered
