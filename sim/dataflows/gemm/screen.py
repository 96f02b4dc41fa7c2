"""All tilings of a product at once: which fit, and work that none of them undercuts.

The same rules as :class:`tilewright.sim.dataflows.gemm.lower.Nest` declares its pools by and as
:mod:`tilewright.sim.dataflows.gemm.floor` counts by, over columns of tilings instead of one tiling at a time; tests
hold them to these. What a tile costs is asked of the costs once for each different tile, and remembered for the same
layer with its operands in other homes (:mod:`tilewright.sim.dataflows.gemm.figures`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.sim.dataflows.gemm.costs import GemmCosts
from tilewright.sim.dataflows.gemm.figures import figures_of, keep_space
from tilewright.sim.dataflows.gemm.floor import LOSS, products_of, sizes_of
from tilewright.sim.dataflows.gemm.queues import Tilings, queue_cycles, tiles_along
from tilewright.sim.dataflows.gemm.space import KEEPS_A, KEEPS_B
from tilewright.sim.dataflows.gemm.stages import n_copies, n_staging
from tilewright.sim.dataflows.spans import Span
from tilewright.sim.lowering.costs import Work
from tilewright.sim.lowering.levels import DRAM_CHANNEL, channels_of
from tilewright.sim.lowering.mapping import SpaceOf
from tilewright.sim.lowering.screen import Screened, Shortlist, TilingTable
from tilewright.units import ceil_div
from tilewright.workloads.homes import DRAM, Place

__all__ = ["screen", "shortlist"]

Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def screen(costs: GemmCosts, tilings: Sequence[dict[str, int]], most_cycles: int | None = None) -> Screened | None:
    """What fits of ``tilings`` and the floor of each; None for layers whose pools only their nest knows,
    and where operands have parts of the working buffer. Of tilings that take more than ``most_cycles`` no more is told
    than that.
    """
    if costs.layer.engine is not None or costs.working.parts or not tilings:
        return None
    table = TilingTable.of(tilings)
    columns = _Columns(costs, table)
    fits = columns.near_bytes() <= costs.working.capacity_bytes - costs.held_bytes(costs.working.name)
    for number, level in enumerate(costs.levels):
        room = level.capacity_bytes - costs.held_bytes(level.name)
        fits &= columns.staged_bytes(number) <= room
    cycles, energy_pj = np.zeros(len(table), dtype=np.int64), np.zeros(len(table))
    left = np.flatnonzero(fits)
    if most_cycles is not None:  # what is told soonest first
        for told in (_Columns.product_cycles, _Columns.queue_cycles):
            if len(left):
                cycles[left] = _whole(told(_Columns(costs, table.where(left))))
                left = left[cycles[left] <= most_cycles]
    if len(left):
        fitting = _Columns(costs, table.where(left))
        cycles[left], energy_pj[left] = fitting.bound_cycles(), fitting.energy_pj()
    return Screened(fits=fits, bound_cycles=cycles, energy_pj=energy_pj)


MANY = 8  # tilings that fit: that there are so many must be known
MORE = 1.25  # cycles of products up to which tilings are remembered, for each that is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class _Space:
    """Tilings of the space of a layer with its operands in the DRAM, of those that fit where nothing else is held, and
    whose products take at most ``most_cycles``, those that take least first.

    By tiling: its place in the space, room that it takes, cycles of its products, and what it stages (as ``far`` says
    it: 1 A, 2 B, 3 both). ``n_candidates``: of the whole space, by what they stage.
    """

    tilings: TilingTable
    places: Int64Array
    near_bytes: Int64Array
    staged_bytes: tuple[Int64Array, ...]
    product_cycles: Int64Array
    stages: Int64Array
    most_cycles: int
    n_candidates: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.places)

    def fitting(self, costs: GemmCosts, n: int) -> Int64Array:
        """Of the first ``n`` those that fit beside what is held, and stage nothing that is on chip already."""
        needs = (self.near_bytes, *self.staged_bytes)
        fits = [
            need[:n] <= n_bytes - costs.held_bytes(name)
            for need, (name, n_bytes) in zip(needs, _rooms(costs), strict=True)
        ]
        fits += [self.stages[:n] & staged == 0 for staged in _stages_nothing(costs)]
        return np.flatnonzero(np.logical_and.reduce(fits))


def _stages_nothing(costs: GemmCosts) -> list[int]:
    """The operands, as ``far`` says it, that are on chip and therefore never staged."""
    homes = costs.layer.homes
    return [staged for staged, home in ((1, homes.a), (2, homes.b)) if home != DRAM]


def _rooms(costs: GemmCosts) -> list[tuple[str, int]]:
    """The working buffer and the levels, with their bytes."""
    levels = [(level.name, level.capacity_bytes) for level in costs.levels]
    return [(costs.working.name, costs.working.capacity_bytes), *levels]


def shortlist(costs: GemmCosts, most_cycles: int, space: SpaceOf, what: Hashable) -> Shortlist | None:
    """As :func:`screen` tells it, of what may take no more than ``most_cycles``. What depends neither on the levels in
    which operands live nor on the room that others leave is remembered, by ``what`` space it is.
    """
    if type(costs) is not GemmCosts or costs.layer.engine is not None or costs.working.parts:
        return None
    known = _known_space(costs, most_cycles, space, what)
    n = int(np.searchsorted(known.product_cycles, most_cycles, side="right"))
    left = known.fitting(costs, n)
    n_fitting = len(left) if len(left) >= MANY else len(known.fitting(costs, len(known)))
    if len(left):
        left = left[_whole(_Columns(costs, known.tilings.where(left)).queue_cycles()) <= most_cycles]
    left = left[np.argsort(known.places[left])]
    tilings = known.tilings.where(left)
    columns = _Columns(costs, tilings) if len(left) else None
    staged_here = _stages_nothing(costs)
    return Shortlist(
        tilings=tilings,
        bound_cycles=np.zeros(0, dtype=np.int64) if columns is None else columns.bound_cycles(),
        energy_pj=np.zeros(0) if columns is None else columns.energy_pj(),
        n_candidates=sum(n for at, n in enumerate(known.n_candidates) if not any(at & one for one in staged_here)),
        n_fitting=n_fitting,
    )


def _known_space(costs: GemmCosts, most_cycles: int, space: SpaceOf, what: Hashable) -> _Space:
    figures, homes, near = figures_of(costs), costs.layer.homes, costs.is_near
    key = (what, near["a"], near["b"], costs.loaded_extras)
    known = figures.spaces.get(key)
    if not isinstance(known, _Space) or known.most_cycles < most_cycles:
        far = homes._replace(a=homes.a if near["a"] else DRAM, b=homes.b if near["b"] else DRAM, held=())
        layer = replace(costs.layer, homes=far)
        known = _space(GemmCosts(layer, costs.machine), TilingTable.of(space(layer)), int(MORE * most_cycles))
        keep_space(figures, key, known)
    return known


def _space(costs: GemmCosts, tilings: TilingTable, most_cycles: int) -> _Space:
    columns = _Columns(costs, tilings)
    needs = (columns.near_bytes(), *(columns.staged_bytes(number) for number in range(len(costs.levels))))
    fits = np.logical_and.reduce([need <= n_bytes for need, (_, n_bytes) in zip(needs, _rooms(costs), strict=True)])
    places = np.flatnonzero(fits)
    cycles = np.zeros(0, dtype=np.int64)
    if len(places):
        cycles = _whole(_Columns(costs, tilings.where(places)).product_cycles())
    order = np.argsort(cycles, kind="stable")
    order = order[: np.searchsorted(cycles[order], most_cycles, side="right")]
    places = places[order]
    near_bytes, *staged_bytes = (need[places] for need in needs)
    return _Space(
        tilings=tilings.where(places),
        places=places,
        near_bytes=near_bytes,
        staged_bytes=tuple(staged_bytes),
        product_cycles=cycles[order],
        stages=columns.held[places],
        most_cycles=most_cycles,
        n_candidates=tuple(np.bincount(columns.held, minlength=4).tolist()),
    )


class _Columns:
    """The parameters of many tilings, and what follows from them."""

    def __init__(self, costs: GemmCosts, tilings: TilingTable) -> None:
        layer = costs.layer
        self.costs, self.layer, self._figures_of = costs, layer, figures_of(costs)
        self._known: dict[tuple[int, ...], tuple[list[tuple[int, ...]], Int64Array]] = {}
        self._numbered: dict[int, tuple[Int64Array, Int64Array]] = {}

        at = {name: number for number, name in enumerate(tilings.names)}
        table = tilings.rows

        def column(name: str, usual: int = 0) -> Int64Array:
            if name not in at:
                return np.full(len(tilings), usual, dtype=np.int64)
            found: Int64Array = table[:, at[name]].copy()
            return found

        self.m, self.n, self.k = (np.minimum(column(name), getattr(layer, name)) for name in ("m", "n", "k"))
        self.rows, self.columns, self.panel = (
            -(-extent // tile) for extent, tile in ((layer.m, self.m), (layer.n, self.n), (layer.k, self.k))
        )
        order = column("order")
        self.keep_a, self.keep_b = order == KEEPS_A, order == KEEPS_B
        self.depth, self.outputs, self.prefetched = column("depth"), column("outputs"), column("prefetched") > 0
        self.shared = column("shared") > 0
        far = column("far")
        self.level = np.where((far > 0) & ((far - 1) // 3 < len(costs.levels)), (far - 1) // 3, -1)
        self.held = np.where(self.level >= 0, (far - 1) % 3 + 1, 0)
        self.stage_a = (self.held & 1 > 0) & (layer.homes.a == DRAM)
        self.stage_b = (self.held & 2 > 0) & (layer.homes.b == DRAM)
        self.part_rows = self._part(layer.m, self.m, self.rows, column("far_m", 1))
        self.part_columns = self._part(layer.n, self.n, self.columns, column("far_n", 1))
        self.row_parts = -(-layer.m // self.part_rows)
        self.column_parts = -(-layer.n // self.part_columns)

    def _part(self, extent: int, tile: Int64Array, n_tiles: Int64Array, parts: Int64Array) -> Int64Array:
        in_parts = np.minimum(extent, -(-n_tiles // np.maximum(1, parts)) * tile)
        return np.where(self.level >= 0, in_parts, extent)

    # -- room ----------------------------------------------------------------------------------------------

    def near_bytes(self) -> Int64Array:
        """Bytes of the working buffer that the pools take."""
        costs, layer = self.costs, self.layer
        n_outputs = layer.groups * self.rows * self.columns
        streamed = np.minimum(self.depth, n_outputs * self.panel)
        outputs = np.minimum(self.outputs, n_outputs)
        total: Int64Array = outputs * self._of("c", (self.m, self.n), costs.c_bytes)
        if costs.loaded_extras:
            total += outputs * self._of(("extras", costs.loaded_extras), (self.m, self.n), costs.extra_bytes)
        if not costs.is_near["a"]:
            slots = np.where(self.keep_a, self._kept_slots(self.rows, self.columns), streamed)
            total += slots * self._of("a", (self.m, self.k), costs.a_bytes)
        if not costs.is_near["b"]:
            slots = np.where(self.keep_b, self._kept_slots(self.columns, self.rows), streamed)
            total += slots * self._of("b", (self.k, self.n), costs.b_bytes)
        return total

    def _kept_slots(self, n_panels: Int64Array, n_inner: Int64Array) -> Int64Array:
        in_parts = (self.level >= 0) & ((self.row_parts > 1) | (self.column_parts > 1))
        groups = np.where(in_parts, 2, self.layer.groups)
        inner = np.where(in_parts, 2, n_inner)
        beyond = np.where(groups * n_panels > 1, np.maximum(0, self.depth - self.panel), 0)
        more = np.where(inner == 1, beyond, np.minimum(beyond, self.panel))
        found: Int64Array = np.minimum(self.panel + more, groups * n_panels * self.panel)
        return found

    def staged_bytes(self, number: int) -> Int64Array:
        """Bytes of a level that all the cores' parts take."""
        costs, layer = self.costs, self.layer
        level, groups = costs.levels[number], ceil_div(layer.groups, costs.machine.n_cores)
        total = np.zeros(len(self.m), dtype=np.int64)
        here = self.level == number
        if not here.any():
            return total
        stays = self.column_parts == 1
        b_parts = np.where(stays, 1, self.row_parts * self.column_parts)
        for operand, staged, parts, extent, size in (
            ("a", self.stage_a, self.row_parts, self.part_rows, costs.staged_a_bytes),
            ("b", self.stage_b, b_parts, self.part_columns, lambda columns: costs.b_bytes(layer.k, columns)),
        ):
            slots = np.minimum(2, groups * parts)
            copies = n_copies(layer, costs.machine, costs.n_sharing[operand], level)
            total += np.where(here & staged, slots * copies * self._of(("staged", operand), (extent,), size), 0)
        return total

    def _of(self, what: Hashable, tiles: tuple[Int64Array, ...], size: Callable[..., int]) -> Int64Array:
        """The room of tiles, asked once for each different one."""
        distinct, at = self._distinct(tiles)
        sizes: Int64Array = np.array(self._figures_of.told(("room", what), distinct, size), dtype=np.int64)
        found: Int64Array = sizes[at]
        return found

    # -- work ----------------------------------------------------------------------------------------------

    @cached_property
    def products(self) -> _Sum:
        """Of the array, in one group."""
        costs = self.costs

        def make(m: int, n: int, k: int) -> _Total:
            tiling = {"m": m, "n": n, "k": k}
            cycles, energy_pj = costs.of_tiles(tiling, lambda: products_of(costs, tiling))
            return _Total(cycles=cycles, energy_pj=energy_pj)

        return self._each("products", (self.m, self.n, self.k), make)

    @cached_property
    def results(self) -> _Sum:
        """Of the stores and loads beside the products, and of the vector unit, in one group."""
        costs, layer = self.costs, self.layer

        def make(m: int, n: int) -> _Total:
            total = _Total()
            for rows, n_rows in sizes_of(layer.m, m):
                for columns, n_columns in sizes_of(layer.n, n):
                    times = n_rows * n_columns
                    for number in costs.loaded_extras:
                        total = total.plus(costs.load_extra(number, rows, columns), times)
                    if costs.through_vector_unit:
                        total = total.plus(costs.epilogue(rows, columns), times)
                    if not costs.is_near["out"]:
                        total = total.plus(costs.store_c(rows, columns), times)
            return total

        return self._each(("results", layer.homes.out, layer.homes.extras), (self.m, self.n), make)

    def _a(self, what: Hashable, load: Callable[[Span, Span, int, int], Work]) -> _Sum:
        """One pass over the tiles of A."""
        layer = self.layer

        def make(m: int, k: int) -> _Total:
            total = _Total()
            for rows, n_rows in tiles_along(layer.m, m):
                for depth, n_depths in tiles_along(layer.k, k):
                    total = total.plus(load(rows, depth, m, k), n_rows * n_depths)
            return total

        return self._each(what, (self.m, self.k), make)

    def _b(self, what: Hashable, load: Callable[[int, int], Work]) -> _Sum:
        """One pass over the tiles of B."""
        layer = self.layer

        def make(k: int, n: int) -> _Total:
            total = _Total()
            for depth, n_depths in sizes_of(layer.k, k):
                for columns, n_columns in sizes_of(layer.n, n):
                    total = total.plus(load(depth, columns), n_depths * n_columns)
            return total

        return self._each(what, (self.k, self.n), make)

    def _each(self, what: Hashable, tiles: tuple[Int64Array, ...], make: Callable[..., _Total]) -> _Sum:
        """Totals by tile, made once for each different one; ``what`` they are, with all homes that they depend on."""
        return _Sum(*self._figures(("totals", what), tiles, make))

    @cached_property
    def moved(self) -> _Moved:
        """Bytes of the DRAM, of the busiest port of a level, and the energy, of all groups together."""
        costs, layer = self.costs, self.layer
        homes, n = costs.layer.homes, len(self.m)
        dram, ports, energy = np.zeros(n), np.zeros((len(costs.levels), n)), np.zeros(n)

        def add(total: _Sum, times: Any, n_sharing: Any, where: Any, level: int | None) -> None:
            share = np.where(where, times, 0) / n_sharing
            dram[:] += total.dram_bytes * share
            energy[:] += total.energy_pj * share
            if level is not None:
                ports[level] += total.port_bytes * share

        numbers = {level.name: number for number, level in enumerate(costs.levels)}
        b_stays = self.part_columns >= layer.n
        for operand, near, staged, again, once in (
            ("a", costs.is_near["a"], self.stage_a, np.where(self.keep_a, self.column_parts, self.columns), 1),
            ("b", costs.is_near["b"], self.stage_b, np.where(self.keep_b, self.row_parts, self.rows),
             np.where(b_stays, 1, self.row_parts)),
        ):  # fmt: skip
            if near:
                continue
            n_sharing = costs.n_sharing[operand]
            sent = np.where(self.shared & (n_sharing > 1), n_sharing, 1)
            own = np.where(self.prefetched, 0, 1) if operand == "b" else 1
            home = homes.a if operand == "a" else homes.b
            add(self._own(operand, None), again * own, sent, ~staged, numbers.get(home))
            for number, level in enumerate(costs.levels):
                here = staged & (self.level == number)
                if here.any():
                    add(self._fetched(operand, level.name), once, n_staging(n_sharing, level), here, None)
                    add(self._own(operand, level.name), again, sent, here, number)
        add(self.results, 1, 1, True, None)
        busiest = np.zeros(n)
        channels = channels_of(costs.machine)
        for number, level in enumerate(costs.levels):
            rate = float(channels[level.read_channel].bytes_per_cycle)
            busiest = np.maximum(busiest, ports[number] / rate)
        return _Moved(layer.groups * dram, layer.groups * busiest, layer.groups * energy)

    def _own(self, operand: str, home: Place | None) -> _Sum:
        costs, what = self.costs, ("loads", operand, self._home(operand) if home is None else home)
        if operand == "a":
            return self._a(what, lambda rows, k, m, d: costs.load_a(rows, k, row_tile=m, depth_tile=d, home=home))
        return self._b(what, lambda depth, columns: costs.load_b(depth, columns, home=home))

    def _home(self, operand: str) -> Place:
        return self.layer.homes.a if operand == "a" else self.layer.homes.b

    def _fetched(self, operand: str, to: Place) -> _Sum:
        costs, what = self.costs, ("fetches", operand, to)
        if operand == "a":
            return self._a(what, lambda rows, k, m, d: costs.fetch_a(to, rows, k, row_tile=m, depth_tile=d))
        return self._b(what, lambda depth, columns: costs.fetch_b(to, depth, columns))

    def product_cycles(self) -> FloatArray:
        """Cycles of the products of the busiest core."""
        return self.products.cycles * ceil_div(self.layer.groups, self.costs.machine.n_cores)

    def queue_cycles(self) -> FloatArray:
        """Cycles of the queues of the busiest core's engines."""
        tilings = Tilings(*(getattr(self, name) for name in Tilings._fields))
        return queue_cycles(self.costs, tilings, self._figures)

    def bound_cycles(self) -> Int64Array:
        """Cycles of the busiest core's units and queues, of the DRAM's channel, and of the read ports of levels."""
        products = self.product_cycles() + self._before() + self._behind()
        units = np.maximum(products, self.results.cycles * ceil_div(self.layer.groups, self.costs.machine.n_cores))
        moving = np.maximum(self.moved.dram_bytes / float(self.costs.rate), self.moved.port_cycles)
        return _whole(np.maximum.reduce([units, moving, self.queue_cycles()]))

    def _distinct(self, tiles: tuple[Int64Array, ...]) -> tuple[list[tuple[int, ...]], Int64Array]:
        """The different tiles, and which of them each tiling has; told once for columns of this object."""
        key = tuple(id(extents) for extents in tiles)
        if key not in self._known:
            for extents in tiles:
                if id(extents) not in self._numbered:
                    values = np.unique(extents)
                    self._numbered[id(extents)] = values, np.searchsorted(values, extents)
            self._known[key] = _distinct(tiles, [self._numbered[at] for at in key])
        return self._known[key]

    def _figures(
        self, what: Hashable, tiles: tuple[Int64Array, ...], make: Callable[..., tuple[float, ...]]
    ) -> FloatArray:
        distinct, at = self._distinct(tiles)
        table = np.array(self._figures_of.told(what, distinct, make), dtype=np.float64)
        found: FloatArray = table.T[:, at]
        return found

    def _before(self) -> FloatArray:
        """Cycles before the first product can begin: its tiles come over the DRAM's channel, for all cores at work."""
        costs, layer = self.costs, self.layer
        at_work = min(costs.machine.n_cores, layer.groups)
        latency, n_bytes = np.zeros(len(self.m)), np.zeros(len(self.m))
        for operand, staged in (("a", self.stage_a), ("b", self.stage_b)):
            if costs.is_near[operand]:
                continue
            first = self._first(operand)
            n_sharing = costs.n_sharing[operand]
            shares = np.where(staged | self.shared, n_sharing, 1)
            comes = ~self.prefetched if operand == "b" else np.full(len(self.m), True)
            latency = np.maximum(latency, np.where(comes & (first.dram_bytes > 0), first.cycles, 0))
            n_bytes = n_bytes + np.where(comes, first.dram_bytes * np.ceil(at_work / shares), 0)
        return latency + n_bytes / float(costs.rate)

    def _first(self, operand: str) -> _Sum:
        """The first tile of an operand from where it lives; ``cycles`` is the latency."""
        costs, layer = self.costs, self.layer

        def of_a(m: int, k: int) -> _Total:
            rows = Span(m, True, m >= layer.m)
            work = costs.load_a(rows, Span(k, True, k >= layer.k), row_tile=m, depth_tile=k)
            return _Total(work.cycles, work.n_bytes if work.channel == DRAM_CHANNEL else 0)

        def of_b(k: int, n: int) -> _Total:
            work = costs.load_b(k, n)
            return _Total(work.cycles, work.n_bytes if work.channel == DRAM_CHANNEL else 0)

        what = ("first", operand, self._home(operand))
        return self._each(what, (self.m, self.k), of_a) if operand == "a" else self._each(what, (self.k, self.n), of_b)

    def _behind(self) -> FloatArray:
        """Cycles behind the last product: the vector unit's work on its tile, and the store of that."""
        costs, layer = self.costs, self.layer
        at_work = min(costs.machine.n_cores, layer.groups)

        def of_last(m: int, n: int) -> _Total:
            rows, columns = tiles_along(layer.m, m)[-1][0].size, tiles_along(layer.n, n)[-1][0].size
            cycles = costs.epilogue(rows, columns).cycles if costs.through_vector_unit else 0
            if costs.is_near["out"]:
                return _Total(cycles)
            work = costs.store_c(rows, columns)
            is_dram = work.channel == DRAM_CHANNEL
            return _Total(cycles + work.cycles, work.n_bytes * at_work if is_dram else 0)

        last = self._each(("last", layer.homes.out), (self.m, self.n), of_last)
        return last.cycles + last.dram_bytes / float(costs.rate)

    def energy_pj(self) -> FloatArray:
        """Of the products and of what is moved."""
        return (self.layer.groups * self.products.energy_pj + self.moved.energy_pj) * LOSS


def _whole(cycles: FloatArray) -> Int64Array:
    found: Int64Array = np.minimum(np.floor(cycles * LOSS), float(_MOST)).astype(np.int64)
    return found


def _distinct(
    tiles: tuple[Int64Array, ...], numbered: Sequence[tuple[Int64Array, Int64Array]]
) -> tuple[list[tuple[int, ...]], Int64Array]:
    """The different tiles, and which of them each tiling has. ``numbered``: the values of each, and which it is."""
    code = np.zeros(len(tiles[0]), dtype=np.int64)
    n_codes = 1
    for values, number in numbered:  # few different extents each: their products number the tiles
        code = code * len(values) + number
        n_codes *= len(values)
    first = np.full(n_codes, -1, dtype=np.int64)
    first[code[::-1]] = np.arange(len(code) - 1, -1, -1)
    seen = first >= 0
    at = np.cumsum(seen)[code] - 1
    return list(zip(*(extents[first[seen]].tolist() for extents in tiles), strict=True)), at


class _Sum(NamedTuple):
    """Columns of :class:`_Total`, one a tiling."""

    cycles: FloatArray
    dram_bytes: FloatArray
    port_bytes: FloatArray
    energy_pj: FloatArray


class _Moved(NamedTuple):
    dram_bytes: FloatArray
    port_cycles: FloatArray
    energy_pj: FloatArray


class _Total(NamedTuple):
    """Work added up: cycles of a unit, bytes of the DRAM's channel and of others, energy."""

    cycles: int = 0
    dram_bytes: int = 0
    port_bytes: int = 0
    energy_pj: float = 0.0

    def plus(self, work: Work, times: int) -> _Total:
        """With ``work`` done so many times; the cycles of a transfer are its latency, and do not count."""
        is_dram = work.channel == DRAM_CHANNEL
        return _Total(
            self.cycles + (0 if work.n_bytes else work.cycles * times),
            self.dram_bytes + (work.n_bytes * times if is_dram else 0),
            self.port_bytes + (0 if is_dram else work.n_bytes * times),
            self.energy_pj + work.energy_pj * times,
        )


_MOST = 2**62
