"""What the queues of a product's engines take at least: columns of many tilings at once.

An engine does one command after the other, and a transfer of cores in lock step gets no more of a channel than all of
it: its latency and its bytes at that rate pass before the next begins. So no run ends before the queue of any engine is
done, with what must come before its first command and behind its last: the tiles that the first product needs, the last
product, fused work and store, and the passes over an operand that follow when all of it was fetched into a level.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.sim.dataflows.gemm.costs import GemmCosts
from tilewright.sim.dataflows.gemm.floor import depths_of, sizes_of
from tilewright.sim.dataflows.gemm.stages import n_staging
from tilewright.sim.dataflows.spans import Span
from tilewright.sim.lowering.costs import Work
from tilewright.sim.lowering.evaluation import core_shares
from tilewright.sim.lowering.levels import channels_of, levels_of
from tilewright.units import ceil_div
from tilewright.workloads.homes import Place

__all__ = ["Tables", "Tilings", "queue_cycles", "tiles_along"]

Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Figures of tiles, asked once for each different tile: what they are, with all homes that they depend on; columns of
#: the tiles' extents, and what is asked.
Tables = Callable[[Hashable, tuple[Int64Array, ...], Callable[..., tuple[float, ...]]], FloatArray]


class Tilings(NamedTuple):
    """Columns of tilings: extents of tiles, how many there are along each, slots of C, what is kept, staged (where),
    and sent.
    """

    m: Int64Array
    n: Int64Array
    k: Int64Array
    rows: Int64Array
    columns: Int64Array
    outputs: Int64Array
    keep_a: BoolArray
    keep_b: BoolArray
    level: Int64Array
    stage_a: BoolArray
    stage_b: BoolArray
    row_parts: Int64Array
    column_parts: Int64Array
    prefetched: BoolArray
    shared: BoolArray


def tiles_along(extent: int, tile: int) -> list[tuple[Span, int]]:
    """The tiles along an extent as :func:`tilewright.sim.dataflows.spans.spans` gives them, and how often."""
    n = ceil_div(extent, tile)
    if n == 1:
        return [(Span(extent, True, True), 1)]
    middle = [(Span(tile, False, False), n - 2)] if n > 2 else []
    return [(Span(tile, True, False), 1), *middle, (Span(extent - (n - 1) * tile, False, True, (n - 1) * tile), 1)]


def queue_cycles(costs: GemmCosts, tilings: Tilings, tables: Tables) -> FloatArray:
    """Cycles below which no run of these tilings ends."""
    return _Queues(costs, tilings, tables).cycles()


class _Operand(NamedTuple):
    """Cycles of an operand's transfers: all tiles once, those of the first and of the last row (or column) of tiles,
    the first tile and the last one; zero where another engine does them.
    """

    once: FloatArray
    of_first: FloatArray
    of_last: FloatArray
    first: FloatArray
    last: FloatArray

    def where(self, condition: BoolArray, other: _Operand) -> _Operand:
        """These, and ``other`` where not ``condition``."""
        return _Operand(*(np.where(condition, own, its) for own, its in zip(self, other, strict=True)))


class _Products(NamedTuple):
    """Cycles of products: all; the first and the last row and column of tiles of C; of C's corners; of last tiles."""

    all: FloatArray
    first_row: FloatArray
    last_row: FloatArray
    first_column: FloatArray
    last_column: FloatArray
    first_of_all: FloatArray  # sums of a tile of C: first row and first column
    last_row_first_column: FloatArray
    first_row_last_column: FloatArray
    last: FloatArray  # the last product of all
    last_k_last_row: FloatArray  # the last along k: last row, first column
    last_k_last_column: FloatArray


class _Results(NamedTuple):
    """Cycles of what comes behind the products: of all tiles of C, and of the first or the last one."""

    fused: FloatArray
    stores: FloatArray
    extras: FloatArray
    first_fused: FloatArray
    last_fused: FloatArray
    last_store: FloatArray
    last_extras: FloatArray


class _Queues:
    def __init__(self, costs: GemmCosts, tilings: Tilings, tables: Tables) -> None:
        self.costs, self.layer, self.t, self.tables = costs, costs.layer, tilings, tables
        share = core_shares(costs.layer, costs.machine)[0]  # of the cores that do most
        self.groups, self.n_cores = share.n_groups, share.n_cores
        self.per_byte = self._cycles_of_a_byte()
        n = len(tilings.m)
        self.none = _Operand(*(np.zeros(n) for _ in range(5)))

    def _cycles_of_a_byte(self) -> list[float]:
        """On each channel, of each of the cores in lock step."""
        machine = self.costs.machine
        private = {
            at
            for level in levels_of(machine)
            if not level.is_shared
            for at in (level.read_channel, level.write_channel)
        }
        private.add(1 + 2 * len(levels_of(machine)))
        return [
            float((machine.n_cores if at in private else self.n_cores) / channel.bytes_per_cycle)
            for at, channel in enumerate(channels_of(machine))
        ]

    def _time(self, work: Work, n_served: int = 1) -> float:
        """Of a transfer that serves ``n_served`` cores; of other work its cycles."""
        if not work.n_bytes:
            return work.cycles
        return work.cycles + work.n_bytes * self.per_byte[work.channel] * (self.n_cores // n_served) / self.n_cores

    # -- operands --------------------------------------------------------------------------------------------

    def _tiles_of_a(self, what: Hashable, tile: Callable[[Span, Span, int, int], float]) -> _Operand:
        layer = self.layer

        def make(m: int, k: int) -> tuple[float, ...]:
            rows, depths = tiles_along(layer.m, m), tiles_along(layer.k, k)
            of_rows = [sum(tile(row, depth, m, k) * times for depth, times in depths) for row, _ in rows]
            once = sum(of_row * times for of_row, (_, times) in zip(of_rows, rows, strict=True))
            first = tile(rows[0][0], depths[0][0], m, k)
            return once, of_rows[0], of_rows[-1], first, tile(rows[-1][0], depths[-1][0], m, k)

        return _Operand(*self.tables(("queue of a", what), (self.t.m, self.t.k), make))

    def _tiles_of_b(self, what: Hashable, tile: Callable[[int, int], float]) -> _Operand:
        layer = self.layer

        def make(k: int, n: int) -> tuple[float, ...]:
            depths, columns = sizes_of(layer.k, k), sizes_of(layer.n, n)
            of_columns = [sum(tile(depth, column) * times for depth, times in depths) for column, _ in columns]
            once = sum(of_column * times for of_column, (_, times) in zip(of_columns, columns, strict=True))
            first = tile(depths[0][0], columns[0][0])
            return once, of_columns[0], of_columns[-1], first, tile(depths[-1][0], columns[-1][0])

        return _Operand(*self.tables(("queue of b", what), (self.t.k, self.t.n), make))

    def _loads(self, operand: str, home: Place | None) -> _Operand:
        costs, homes = self.costs, self.layer.homes
        if operand == "a":
            return self._tiles_of_a(
                ("loads", homes.a if home is None else home),
                lambda rows, k, m, d: self._time(costs.load_a(rows, k, row_tile=m, depth_tile=d, home=home)),
            )
        return self._tiles_of_b(
            ("loads", homes.b if home is None else home),
            lambda depth, columns: self._time(costs.load_b(depth, columns, home=home)),
        )

    def _fetches(self, operand: str, to: Place, n_served: int) -> _Operand:
        costs, what = self.costs, ("fetches", to, n_served)
        if operand == "a":
            return self._tiles_of_a(
                what, lambda rows, k, m, d: self._time(costs.fetch_a(to, rows, k, row_tile=m, depth_tile=d), n_served)
            )
        return self._tiles_of_b(what, lambda depth, columns: self._time(costs.fetch_b(to, depth, columns), n_served))

    def _moved(self, operand: str) -> tuple[_Operand, _Operand]:
        """(by the load engine, by the engine that fetches it into a level)."""
        costs, t = self.costs, self.t
        staged = t.stage_a if operand == "a" else t.stage_b
        home = self.layer.homes.a if operand == "a" else self.layer.homes.b
        memory = costs.machine.weights.memory
        if costs.is_near[operand]:
            return self.none, self.none
        loads, fetches = self.none, self.none
        if memory is None or home != memory.name:
            loads = self._loads(operand, None)
        for number, level in enumerate(costs.levels):
            here = staged & (t.level == number)
            if here.any():
                loads = self._loads(operand, level.name).where(here, loads)
                n_served = min(self.n_cores, n_staging(costs.n_sharing[operand], level))
                fetches = self._fetches(operand, level.name, n_served).where(here, fetches)
        other = t.shared & (costs.n_sharing[operand] > 1)  # brought and sent by engines of their own
        if operand == "b":
            other = other | (t.prefetched & ~staged)
        return self.none.where(other, loads), fetches

    # -- products and results --------------------------------------------------------------------------------

    def _products(self) -> _Products:
        costs, layer = self.costs, self.layer

        def make(m: int, n: int, k: int) -> tuple[float, ...]:
            rows, columns, depths = sizes_of(layer.m, m), sizes_of(layer.n, n), depths_of(layer.k, k)

            def of(row: int, column: int, depth: int, adds: bool) -> int:
                return costs.multiply(row, depth, column, add_to=adds).cycles

            sums = [
                [sum(of(row, column, d, adds) * times for d, times, adds in depths) for column, _ in columns]
                for row, _ in rows
            ]
            of_rows = [sum(one * times for one, (_, times) in zip(own, columns, strict=True)) for own in sums]
            of_columns = [
                sum(own[at] * times for own, (_, times) in zip(sums, rows, strict=True)) for at in range(len(columns))
            ]
            last, _, adds = depths[-1]
            return (
                sum(one * times for one, (_, times) in zip(of_rows, rows, strict=True)),
                of_rows[0], of_rows[-1], of_columns[0], of_columns[-1],
                sums[0][0], sums[-1][0], sums[0][-1],
                of(rows[-1][0], columns[-1][0], last, adds),
                of(rows[-1][0], columns[0][0], last, adds),
                of(rows[0][0], columns[-1][0], last, adds),
            )  # fmt: skip

        return _Products(*self.tables("queue of products", (self.t.m, self.t.n, self.t.k), make))

    def _results(self) -> _Results:
        costs, layer = self.costs, self.layer

        def of_tile(rows: int, columns: int) -> tuple[float, float, float]:
            fused = costs.epilogue(rows, columns).cycles if costs.through_vector_unit else 0
            store = 0.0 if costs.is_near["out"] else self._time(costs.store_c(rows, columns))
            return fused, store, sum(self._time(costs.load_extra(i, rows, columns)) for i in costs.loaded_extras)

        def make(m: int, n: int) -> tuple[float, ...]:
            rows, columns = sizes_of(layer.m, m), sizes_of(layer.n, n)
            tiles = [(of_tile(row, column), n_r * n_c) for row, n_r in rows for column, n_c in columns]
            fused, stores, extras = (sum(tile[i] * times for tile, times in tiles) for i in range(3))
            return fused, stores, extras, tiles[0][0][0], *tiles[-1][0]

        what = ("queue of results", layer.homes.out, layer.homes.extras)
        return _Results(*self.tables(what, (self.t.m, self.t.n), make))

    # -- queues ----------------------------------------------------------------------------------------------

    def cycles(self) -> FloatArray:
        t, groups = self.t, self.groups
        products, results = self._products(), self._results()
        (a, fetched_a), (b, fetched_b) = self._moved("a"), self._moved("b")
        behind = results.last_fused + results.last_store
        before = self._before(a, b, fetched_a, fetched_b)
        again_a = np.where(t.keep_a, t.column_parts, t.columns)
        again_b = np.where(t.keep_b, t.row_parts, t.rows)
        loads = groups * (again_a * a.once + again_b * b.once + results.extras)
        first_fetch = np.where(
            t.keep_b, np.where(b.first > 0, fetched_b.first, 0), np.where(a.first > 0, fetched_a.first, 0)
        )
        first_result = before + products.first_of_all
        found = [
            before + groups * products.all + behind,
            first_fetch + loads - results.last_extras + products.last + behind,
            first_fetch + loads + results.last_fused + results.last_store * (results.extras > 0),
            first_result + groups * results.fused + results.last_store,
            first_result + results.first_fused + groups * results.stores,
            # A slot of C, or of fused inputs, serves one tile after the other.
            before + groups * (products.all + results.fused + results.stores) / t.outputs,
            groups * (results.extras + results.fused) / t.outputs + results.last_store,
        ]
        in_parts = (t.row_parts > 1) | (t.column_parts > 1)
        once_b = np.where(t.column_parts == 1, 1, t.row_parts)
        fetches_a, fetches_b = groups * fetched_a.once, groups * fetched_b.once * once_b
        last = products.last
        rest = np.where(
            t.keep_b,
            products.last_k_last_row + products.all - products.first_column,
            products.last_k_last_row + products.last_row - products.last_row_first_column,
        )
        rest_loads = np.where(t.keep_b, (t.columns - 1) * a.once, np.where(t.keep_a, 0, (t.columns - 1) * a.of_last))
        rest_loads = rest_loads + b.once - b.of_first
        found.append(fetches_a + np.where(fetches_a > 0, a.last + np.where(in_parts, last, rest), 0) + behind)
        found.append(fetches_a + np.where((fetches_a > 0) & ~in_parts, rest_loads + last, 0) + behind)
        rest = np.where(
            t.keep_b,
            products.last_k_last_column + products.last_column - products.first_row_last_column,
            products.last_k_last_column + products.all - products.first_row,
        )
        rest_loads = np.where(
            t.keep_b,
            a.once - a.of_first,
            np.where(t.keep_a, 1, t.columns) * (a.once - a.of_first) + (t.rows - 1) * b.once,
        )
        found.append(fetches_b + np.where(fetches_b > 0, b.last + np.where(in_parts, last, rest), 0) + behind)
        found.append(fetches_b + np.where((fetches_b > 0) & ~in_parts, rest_loads + last, 0) + behind)
        most: FloatArray = np.maximum.reduce(found)
        return most

    def _before(self, a: _Operand, b: _Operand, fetched_a: _Operand, fetched_b: _Operand) -> FloatArray:
        """Cycles before the first product: its tiles are fetched at once, and loaded one after the other."""
        b_first = self.t.keep_b
        first = np.where(b_first, fetched_b.first + b.first, fetched_a.first + a.first)
        other = np.where(b_first, fetched_a.first, fetched_b.first)
        found: FloatArray = np.maximum(first, other) + np.where(b_first, a.first, b.first)
        return found
