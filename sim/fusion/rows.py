"""How far ahead of each other the maps of a group are made, and how many of their rows must be kept.

The formulas stand in :mod:`tilewright.sim.fusion.schemes.lbdf`. Maps are numbered: the nodes of the graph, then its
inputs.
What depends on the graph alone (rates, the numbers in the edges) is worked out once for each graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import gcd, lcm
from typing import NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from tilewright.sim.fusion.graph.fusion_graph import FusionEdge, FusionGraph, members
from tilewright.sim.fusion.graph.geometry import AxisWindow, FeatureMap
from tilewright.units import bits_to_bytes

__all__ = ["NOT_BY_ROWS", "Maps", "Reader", "RowPlan", "maps_of", "plan_rows", "riders"]

Number: TypeAlias = int | Fraction
_IN_PLACE = ("elementwise", "concat", "norm", "softmax")


class Reader(NamedTuple):
    """One reading of a map: by node ``consumer``, with its windows; ``sweeps``: it adds up rows as they are made."""

    consumer: int
    rows: AxisWindow
    columns: AxisWindow
    slides: bool
    sweeps: bool


class Maps:
    """The maps of a graph: ``tensors``, who ``reads`` each (readers), what each node reads (``sources``).

    ``rates``: rows of each map on one unit of time. Where rates around a circle of edges do not agree, the edge that
    closes it does not slide (its map is kept whole).
    """

    def __init__(self, graph: FusionGraph) -> None:
        n_nodes = len(graph)
        numbers = {tensor.name: n_nodes + i for i, tensor in enumerate(graph.inputs)}
        self.n_nodes = n_nodes
        self.tensors: list[FeatureMap] = [*(node.output for node in graph.nodes), *graph.inputs]
        ends = [(edge, edge.producer if edge.producer >= 0 else numbers[edge.tensor.name]) for edge in graph.edges]
        self.rates = _rates(len(self.tensors), ends)
        readers: list[list[Reader]] = [[] for _ in self.tensors]
        sources: list[list[tuple[int, Reader]]] = [[] for _ in range(n_nodes)]
        for edge, source in ends:
            reader = Reader(
                edge.consumer,
                edge.rows,
                edge.columns,
                slides=_slides(edge, source, self.rates),
                sweeps=edge.rows.whole and graph.nodes[edge.consumer].kind == "reduction",
            )
            readers[source].append(reader)
            sources[edge.consumer].append((source, reader))
        self.reads = tuple(map(tuple, readers))
        self.sources = tuple(map(tuple, sources))
        self.in_place = [node.kind in _IN_PLACE for node in graph.nodes]
        self.joins = [node.kind == "concat" for node in graph.nodes]
        self.row_bytes = [tensor.row_bytes for tensor in self.tensors]


_KNOWN: WeakKeyDictionary[FusionGraph, Maps] = WeakKeyDictionary()


def maps_of(graph: FusionGraph) -> Maps:
    """The maps of ``graph``, worked out once."""
    found = _KNOWN.get(graph)
    if found is None:
        found = _KNOWN[graph] = Maps(graph)
    return found


def _rates(n_maps: int, ends: list[tuple[FusionEdge, int]]) -> list[Number]:
    """Rows of each map on one unit of time, from edge to edge; unconnected maps have 1."""
    near: list[list[tuple[int, Fraction]]] = [[] for _ in range(n_maps)]
    for edge, source in ends:
        if not edge.rows.whole:
            ratio = Fraction(edge.rows.stride, edge.rows.up)
            near[edge.consumer].append((source, ratio))
            near[source].append((edge.consumer, 1 / ratio))
    rates: list[Number] = [0] * n_maps
    for start in range(n_maps):
        if rates[start]:
            continue
        rates[start] = 1
        waiting = [start]
        while waiting:
            here = waiting.pop()
            for other, ratio in near[here]:
                if not rates[other]:
                    rates[other] = rates[here] * ratio
                    waiting.append(other)
    return rates


def _slides(edge: FusionEdge, source: int, rates: list[Number]) -> bool:
    rows = edge.rows
    return not rows.whole and rates[source] * rows.up == rates[edge.consumer] * rows.stride


#: Kinds of nodes whose rows do not follow from rows of their inputs.
NOT_BY_ROWS = ("attention", "matmul", "gather", "memory")


class RowPlan(NamedTuple):
    """The maps of a group and the rows of each that are kept.

    ``phases``, ``offsets`` and ``rides_on`` are by node: the phase in which its rows are made, how many rows it is
    ahead (o_i), and the map whose place on chip it shares. ``rings`` gives, for every map that has a place of its own,
    the rows kept. ``steps``: rows of each map on one step, empty when rows are made one by one. ``reason``: why the
    group cannot run row by row. ``kept``: maps that lie in the working buffer in a place that is not the group's.
    """

    maps: Maps
    phases: Mapping[int, int]
    offsets: Mapping[int, Number]
    rides_on: Mapping[int, int]
    rings: Mapping[int, int]
    readers: Mapping[int, tuple[Reader, ...]]
    steps: Mapping[int, int]
    reason: str | None = None
    kept: frozenset[int] = frozenset()

    def row_bytes(self) -> int:
        """Room of all maps, whole rows."""
        row_bytes = self.maps.row_bytes
        return sum([rows * row_bytes[i] for i, rows in self.rings.items() if i not in self.kept])

    def element_bytes(self) -> int:
        """Room of all maps when they are filled pixel by pixel, from left to right in each row."""
        columns = _offsets(self.maps, self.phases, self.readers, along_rows=False)
        total = 0
        for i, rows in self.rings.items():
            tensor = self.maps.tensors[i]
            if rows >= tensor.height > 1:
                pixels = tensor.height * tensor.width
            else:
                across = _kept(i, self.phases, self.readers[i], columns, tensor.width, {}, along_rows=False)
                pixels = (rows - 1) * tensor.width + across
            total += bits_to_bytes(pixels * tensor.pixel_bits)
        return total


def plan_rows(
    graph: FusionGraph,
    mask: int,
    *,
    spare_rows: int = 0,
    rows_per_step: int = 0,
    spare_inside: int = 0,
    here: Callable[[str], bool] = lambda name: False,
) -> RowPlan:
    """The rows that the group ``mask`` keeps of each of its maps.

    ``spare_rows`` more are kept of maps that are loaded or stored, so that transfers can run ahead or behind,
    ``spare_inside`` of the others, so that one unit can make rows while another reads those before them.
    ``rows_per_step``: 0 makes rows one by one; else the map that advances slowest makes so many at a time, the others
    what belongs to them. ``here``: whether a stored tensor lies in the working buffer whole, in a place of its own: a
    map that the group reads or leaves behind there is neither loaded nor stored.
    """
    maps = maps_of(graph)
    inside = members(mask)
    readers: dict[int, tuple[Reader, ...]] = {
        i: tuple([r for r in maps.reads[i] if mask >> r.consumer & 1]) for i in inside
    }
    phases = _phases(maps, mask, inside)
    for i in inside:
        for source, _ in maps.sources[i]:
            if source not in readers:
                readers[source] = tuple([r for r in maps.reads[source] if mask >> r.consumer & 1])
                phases[source] = min([phases[r.consumer] - (not r.slides and not r.sweeps) for r in readers[source]])
    steps = _steps(maps, readers, rows_per_step)
    offsets = _offsets(maps, phases, readers, along_rows=True, least=0 if steps else 1)
    ends = [i for i in inside if not any(r.slides and phases[r.consumer] == phases[i] for r in readers[i])]
    early = _early_ends(maps, phases, readers, offsets) if len(ends) > 1 else None
    if early:
        offsets = _offsets(maps, phases, readers, along_rows=True, least=0 if steps else 1, ends=early)
    rides_on = riders(graph, maps, mask, readers, phases)
    rings: dict[int, int] = {}
    kept: set[int] = set()
    for i, reading in readers.items():
        if i not in rides_on:
            height = maps.tensors[i].height
            rows = _kept(i, phases, reading, offsets, height, steps, along_rows=True)
            crosses = i >= maps.n_nodes or not mask >> i & 1 or graph.nodes[i].is_output
            crosses = crosses or bool(graph.successor_masks[i] & ~mask)
            if crosses and here(maps.tensors[i].name):
                kept.add(i)
                rows = height
            else:
                rows = min(height, rows + (spare_rows if crosses else spare_inside) * steps.get(i, 1))
            rings[i] = rows
    batches = {maps.tensors[i].batch for i in readers}
    reason = None if len(batches) == 1 else "its feature maps differ in the number of images"
    return RowPlan(maps, phases, offsets, rides_on, rings, readers, steps, reason, frozenset(kept))


def _phases(maps: Maps, mask: int, inside: tuple[int, ...]) -> dict[int, int]:
    """A node runs in the phase behind those of the maps that it needs whole."""
    phases: dict[int, int] = {}
    ready: dict[int, int] = {}
    for i in inside:
        phase, sweeps = 0, False
        for source, reader in maps.sources[i]:
            sweeps = sweeps or reader.sweeps
            if mask >> source & 1 and source < maps.n_nodes:
                waits = 0 if reader.slides or reader.sweeps else 1
                phase = max(phase, phases[source] + waits, ready[source])
            elif not reader.slides and not reader.sweeps and maps.tensors[source].height > 1:
                phase = max(phase, 1)  # an input is loaded whole first
        phases[i] = phase
        ready[i] = phase + 1 if sweeps else phase
    return phases


def _offsets(
    maps: Maps,
    phases: Mapping[int, int],
    readers: Mapping[int, tuple[Reader, ...]],
    *,
    along_rows: bool,
    least: int = 1,
    ends: Mapping[int, Number] | None = None,
) -> dict[int, Number]:
    """o_i of every map, from the readers back; inputs come last in ``readers`` and nobody makes them.

    ``least``: o_i of a map that nobody in the group reads; 0 where step n ends with n whole blocks of it. ``ends``:
    more for some such maps.
    """
    offsets: dict[int, Number] = {}
    n_nodes = maps.n_nodes
    inside = sorted([i for i in readers if i < n_nodes], reverse=True)
    for i in [*inside, *[i for i in readers if i >= n_nodes]]:
        most: Number = ends[i] if ends and i in ends else least
        phase = phases[i]
        for reader in readers[i]:
            window = reader.rows if along_rows else reader.columns
            if reader.slides and not window.whole and phases[reader.consumer] == phase:
                ahead = _ahead(window, offsets[reader.consumer])
                most = max(most, ahead)
        offsets[i] = most
    return offsets


def _early_ends(
    maps: Maps,
    phases: Mapping[int, int],
    readers: Mapping[int, tuple[Reader, ...]],
    offsets: Mapping[int, Number],
) -> dict[int, Number]:
    """Maps that nobody in the group reads and that can be made earlier, with the most rows that they can be ahead.

    Where a map has a deep reader and a shallow one that ends a branch, it is made early for the deep one; the shallow
    one then takes its rows at once, and they need not wait for it.
    """
    earliest: dict[int, Number] = {}
    found: dict[int, Number] = {}
    for i in sorted([i for i in readers if i < maps.n_nodes]):
        most: Number | None = None
        known = True
        for source, reader in maps.sources[i]:
            window = reader.rows
            if source not in readers or not reader.slides or phases[source] != phases[i]:
                continue
            known = known and window.up == 1
            ahead = earliest.get(source, offsets[source])
            room = (ahead - window.reach + window.pad) // window.stride + 1
            most = room if most is None else min(most, room)
        if most is None or not known or most < offsets[i]:
            most = offsets[i]
        earliest[i] = most
        inside = [r for r in readers[i] if r.slides and phases[r.consumer] == phases[i]]
        if not inside and most > offsets[i]:
            found[i] = most
    return found


def _ahead(window: AxisWindow, offset: Number) -> Number:
    """o_i that reader ``window`` with its own ``offset`` asks for."""
    if window.up == 1:
        return window.reach - window.pad + window.stride * (offset - 1)
    # the row floor((w s - pad + reach - 1) / up) must be there with row w: the worst w decides
    up, stride = window.up, window.stride
    most: Number | None = None
    for w in range(up):
        needed = (w * stride - window.pad + window.reach - 1) // up + 1
        ahead = needed - Fraction(stride, up) * (w + 1 - offset)
        most = ahead if most is None else max(most, ahead)
    assert most is not None
    return most


def _kept(
    i: int,
    phases: Mapping[int, int],
    reading: tuple[Reader, ...],
    offsets: Mapping[int, Number],
    extent: int,
    steps: Mapping[int, int],
    *,
    along_rows: bool,
) -> int:
    """Rows (columns) of map i from the oldest that a reader still needs to the newest made."""
    most = steps.get(i, 1)
    for reader in reading:
        window = reader.rows if along_rows else reader.columns
        if reader.sweeps:
            continue
        if not reader.slides or window.whole or phases[reader.consumer] != phases[i]:
            return extent
        made = (steps[i], steps[reader.consumer]) if steps else None
        held = _held(window, offsets[i], offsets[reader.consumer], made)
        most = max(most, held)
    return min(extent, most)


def _held(window: AxisWindow, offset: Number, of_reader: Number, steps: tuple[int, int] | None) -> int:
    """The most rows between the oldest that the reader's next rows need and the newest made.

    ``steps``: rows of the map and of the reader on one step; None where rows are made one by one.
    """
    stride, up = window.stride, window.up
    if up == 1 and type(offset) is int and type(of_reader) is int:
        advance = stride if steps is None else steps[0]
        return offset + window.pad + advance - stride * of_reader
    most = 0
    for n in range(up):
        if steps is None:  # the reader makes row n at time (n + 1 - of_reader) of its own
            first, made = n, _floor(offset + Fraction(stride, up) * (n + 1 - of_reader))
        else:
            first, made = _floor(of_reader + steps[1] * (n - 1)), _floor(offset + steps[0] * n)
        most = max(most, made - (first * stride - window.pad) // up)
    return most


def _floor(value: Number) -> int:
    return value.numerator // value.denominator


def _steps(maps: Maps, readers: Mapping[int, tuple[Reader, ...]], rows_per_step: int) -> dict[int, int]:
    """Rows of each map on one step: whole numbers in the proportion of the rates."""
    if not rows_per_step:
        return {}
    rates = [Fraction(maps.rates[i]) for i in readers]
    unit = Fraction(lcm(*(rate.denominator for rate in rates)), gcd(*(rate.numerator for rate in rates)))
    return {i: int(maps.rates[i] * unit) * rows_per_step for i in readers}


def riders(
    graph: FusionGraph,
    maps: Maps,
    mask: int,
    readers: Mapping[int, tuple[Reader, ...]],
    phases: Mapping[int, int],
    partial: frozenset[int] = frozenset(),
) -> dict[int, int]:
    """Maps whose only reader works in place: they share its place on chip (a join has all of them).

    ``partial``: maps that are held a few channels at a time; they share places only with each other.
    """
    found: dict[int, int] = {}
    taken: set[int] = set()
    for i in members(mask):
        if len(readers[i]) != 1 or graph.nodes[i].is_output or graph.successor_masks[i] & ~mask:
            continue
        reader = readers[i][0]
        host = reader.consumer
        if not maps.in_place[host] or not reader.slides or not reader.rows.is_pointwise or phases[host] != phases[i]:
            continue
        if (i in partial) != (host in partial):
            continue
        if maps.joins[host]:  # along channels
            if maps.tensors[i].size[1:] == maps.tensors[host].size[1:]:
                found[i] = host
        elif (
            host not in taken
            and maps.row_bytes[i] <= maps.row_bytes[host]
            and maps.tensors[i].size == maps.tensors[host].size
        ):
            found[i] = host
            taken.add(host)
    return {i: _root(found, i) for i in found}


def _root(found: Mapping[int, int], i: int) -> int:
    while i in found:
        i = found[i]
    return i
