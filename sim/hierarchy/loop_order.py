"""The cheapest order of a layer's loops on a memory hierarchy: energy and cycles of one layer on one tile.

For every order the loops are given to the memories from the array outwards: each memory takes as many loops of each
operand as lead to the least traffic with the memory above and still fit (LOMA: Symons, Mei, Verhelst, AICAS 2021). A
loop along which an operand does not change, standing at the foot of a memory's loops, costs that memory nothing: the
data below it simply stay. Energy is that of all accesses, each of whole granules, and of the multiply-adds. Cycles are
the array's steps, the stalls of the busiest port, and the time to fill the memories before the first step (the uniform
latency model: Mei, Liu, Wu, Sumbul, Verhelst, Beigne, DATE 2022).

Everything is worked out for all orders at once, on arrays with one entry per order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from tilewright.hw_models.hierarchy import HierarchySpec, MemorySpec, Operand
from tilewright.sim.hierarchy.nest import LOOPS, RELEVANT, Floats, Ints, LoopNest, Orders, orders_of, unroll
from tilewright.sim.hierarchy.ports import Activity, Fill, Link, filling_cycles, stall_cycles

__all__ = ["N_LOOP_FACTORS", "LoopStudy", "NestCost", "Objective", "best_order"]

Objective: TypeAlias = Literal["energy", "cycles", "edp"]
Flags: TypeAlias = npt.NDArray[np.bool_]
#: Factors into which the loops in time are cut at most, unless a caller says otherwise: 6! = 720 orders.
N_LOOP_FACTORS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class NestCost:
    """One layer on one tile: ``energy_pj`` by memory name (and "array"), ``cycles`` = steps + stalls + filling.

    ``order``: the loops in time, innermost first, with how often each runs.
    """

    energy_pj: dict[str, float]
    step_cycles: int
    stall_cycles: int
    filling_cycles: int
    order: tuple[tuple[str, int], ...]

    @property
    def cycles(self) -> int:
        return self.step_cycles + self.stall_cycles + self.filling_cycles

    @property
    def total_pj(self) -> float:
        return sum(self.energy_pj.values())


@lru_cache(maxsize=65536)
def best_order(
    nest: LoopNest,
    hierarchy: HierarchySpec,
    tops: tuple[tuple[Operand, str], ...],
    objective: Objective = "energy",
    n_factors: int = N_LOOP_FACTORS,
) -> NestCost | None:
    """The cheapest order of ``nest`` whose data come from, and go to, the memories ``tops`` (name by operand).

    Among equals in ``objective`` the one with the least of the other figure. None where no order fits.
    """
    study = LoopStudy(nest, hierarchy, dict(tops), n_factors)
    rows = study.fitting
    if not rows.size:
        return None
    energy = study.energy()
    totals = np.sum(list(energy.values()), axis=0)
    near = rows[totals[rows] <= totals[rows].min() * (1 + 1e-9)] if objective == "energy" else rows
    stalls, filling = study.waiting(near)
    cycles = study.steps + stalls + filling
    worth = cycles * totals[near] if objective == "edp" else cycles
    best = int(np.lexsort((totals[near], worth))[0])
    row = int(near[best])
    orders = study.orders
    return NestCost(
        energy_pj={name: float(value[row]) for name, value in energy.items()},
        step_cycles=study.steps,
        stall_cycles=round(float(stalls[best])),
        filling_cycles=round(float(filling[best])),
        order=tuple((LOOPS[loop], int(n)) for loop, n in zip(orders.loop[row], orders.size[row], strict=True)),
    )


@dataclass(slots=True)
class _Side:
    """One operand under study: its memories (the array's lanes come before them where levels are counted).

    ``fed``: the axes that one copy of each memory feeds. ``relevant[n, N]``: loops along which the operand changes.
    ``cuts``: for the array and each memory, how many loops it and all below it have. ``bits_at``: bits of one value
    that leaves each of them outwards.
    """

    operand: Operand
    memories: list[MemorySpec]
    fed: list[frozenset[str]]
    relevant: Flags
    cuts: list[Ints]
    bits_at: list[Floats]


class LoopStudy:
    """All orders of one nest under one choice of outermost memories."""

    def __init__(self, nest: LoopNest, hierarchy: HierarchySpec, tops: dict[Operand, str], n_factors: int) -> None:
        self.nest, self.hierarchy = nest, hierarchy
        self.unrolled = unroll(nest, hierarchy)
        self.orders: Orders = orders_of(tuple(sorted(self.unrolled.temporal.items())), n_factors)
        self.n, self.length = self.orders.loop.shape
        self.rows = np.arange(self.n)
        self.steps = round(float(self.orders.trips[0, -1]))
        everywhere = frozenset(hierarchy.axes)
        self.sides: dict[Operand, _Side] = {}
        for operand in nest.operands:
            levels = hierarchy.levels(operand)
            names = [memory.name for memory in levels]
            memories = list(levels[: names.index(tops[operand]) + 1])
            self.sides[operand] = _Side(
                operand=operand,
                memories=memories,
                fed=[everywhere if one.feeds is None else frozenset(one.feeds) for one in memories],
                relevant=np.isin(self.orders.loop, [LOOPS.index(name) for name in RELEVANT[operand]]),
                cuts=[],
                bits_at=[],
            )
        self.fits = np.ones(self.n, dtype=bool)
        self._allocate()
        self.fitting: Ints = np.flatnonzero(self.fits)
        self._sink()

    # -- which loops belong to which memory --------------------------------------------------------------------

    def _allocate(self) -> None:
        for memory in self.hierarchy.memories:
            sides = [side for side in self.sides.values() if memory in side.memories]
            if not sides:
                continue
            choices = [self._choices(side, memory) for side in sides]
            for side, cut in zip(sides, self._least_traffic(memory, choices), strict=True):
                side.cuts.append(cut)

    def _choices(self, side: _Side, memory: MemorySpec) -> tuple[Floats, Floats]:
        """Bits in the memory, and traffic with the one above, for every number of loops; infinite where impossible."""
        place = side.memories.index(memory)
        below = side.cuts[-1] if side.cuts else np.zeros(self.n, dtype=np.int64)
        spread = self.unrolled.extents(side.fed[place], whole=False)
        elements = self.nest.elements(side.operand, self.orders.extents * spread, whole=True)
        bits = elements * self._word_bits(side, below)[:, None]
        counts = np.arange(self.length + 1)
        allowed = (counts >= below[:, None]) & (bits <= memory.capacity_bits)
        if place == len(side.memories) - 1:
            allowed &= counts == self.length
            traffic = np.zeros_like(bits)
        else:
            traffic = self.orders.trips[:, -1:] / self.orders.trips * bits
        return np.where(allowed, bits, np.inf), np.where(allowed, traffic, np.inf)

    def _least_traffic(self, memory: MemorySpec, choices: list[tuple[Floats, Floats]]) -> list[Ints]:
        """Loops for each operand with the least traffic in all that fit together; the most loops among equals."""
        bits, traffic = np.zeros((self.n, 1)), np.zeros((self.n, 1))
        for more_bits, more_traffic in choices:
            bits = (bits[:, :, None] + more_bits[:, None, :]).reshape(self.n, -1)
            traffic = (traffic[:, :, None] + more_traffic[:, None, :]).reshape(self.n, -1)
        traffic = np.where(bits <= memory.capacity_bits, traffic, np.inf)
        best = traffic.shape[1] - 1 - np.argmin(np.round(traffic[:, ::-1], 6), axis=1)
        self.fits &= np.isfinite(traffic[self.rows, best])
        cuts: list[Ints] = []
        for _ in choices:
            best, cut = np.divmod(best, self.length + 1)
            cuts.insert(0, cut)
        return cuts

    def _word_bits(self, side: _Side, cut: Ints) -> Floats:
        """Bits of one value where ``cut`` loops are below: a sum is partial while loops that add to it are left."""
        if side.operand != "output":
            bits = self.hierarchy.weight_bits if side.operand == "weight" else self.hierarchy.activation_bits
            return np.full(self.n, float(bits))
        partial = self._partial(side, cut)
        return np.where(partial, self.hierarchy.partial_sum_bits, self.hierarchy.activation_bits).astype(float)

    def _partial(self, side: _Side, cut: Ints) -> Flags:
        above = np.arange(self.length) >= cut[:, None]
        return np.asarray((above & ~side.relevant).any(axis=1))

    def _sink(self) -> None:
        """Loops that do not change an operand, at the foot of a memory, sink to the memory below; then words."""
        for side in self.sides.values():
            nearest = np.full((self.n, self.length + 1), self.length)
            for place in reversed(range(self.length)):
                nearest[:, place] = np.where(side.relevant[:, place], place, nearest[:, place + 1])
            side.cuts = [np.zeros(self.n, dtype=np.int64), *(nearest[self.rows, cut] for cut in side.cuts)]
            side.bits_at = [self._word_bits(side, cut) for cut in side.cuts]

    # -- what moves --------------------------------------------------------------------------------------------

    def elements(self, side: _Side, level: int, *, whole: bool) -> Floats:
        """Values in one copy of memory ``level`` (0 is the array's lane)."""
        if level == 0:
            return np.ones(self.n)
        spread = self.unrolled.extents(side.fed[level - 1], whole=whole)
        held = self.orders.extents[self.rows, side.cuts[level]] * spread
        return np.rint(self.nest.elements(side.operand, held, whole=whole))

    def _fan_out(self, side: _Side, level: int, *, whole: bool) -> float:
        """Different values that memory ``level`` (1 is the nearest) gives to the copies below it at a time."""
        below = side.fed[level - 2] if level > 1 else frozenset[str]()
        spread = self.unrolled.extents(side.fed[level - 1] - below, whole=whole)
        return float(np.prod([n for loop, n in zip(LOOPS, spread, strict=True) if loop in RELEVANT[side.operand]]))

    def _copies(self, side: _Side, level: int) -> float:
        """Copies of memory ``level`` that are in use."""
        rest = frozenset(self.hierarchy.axes) - side.fed[level - 1]
        return float(np.prod(self.unrolled.extents(rest, whole=False)))

    def times(self, side: _Side, level: int) -> Floats:
        """How often what memory ``level`` holds is replaced, the first time included."""
        trips = self.orders.trips
        return np.asarray(trips[:, -1] / trips[self.rows, side.cuts[level]])

    def returning(self, side: _Side, level: int) -> Floats:
        """How often a partial sum comes back down across the link above memory ``level``; the first time none does."""
        above = np.arange(self.length) >= side.cuts[level][:, None]
        again = np.where(above & ~side.relevant, self.orders.size, 1).prod(axis=1)
        return np.asarray(self.times(side, level) * (1 - 1 / again))

    def energy(self) -> dict[str, Floats]:
        """Picojoules of each order by memory, and of the array."""
        found = {"array": np.full(self.n, self.hierarchy.multiply_accumulate_pj * self.nest.macs)}
        for side in self.sides.values():
            for level, memory in enumerate(side.memories, start=1):
                spent = self._energy_below(side, level, memory)
                if level < len(side.memories):
                    spent = spent + self._energy_above(side, level, memory)
                found[memory.name] = found.get(memory.name, np.zeros(self.n)) + spent * self._copies(side, level)
        return found

    def _energy_below(self, side: _Side, level: int, memory: MemorySpec) -> Floats:
        """Accesses of one copy on behalf of what is nearer to the array."""
        times, bits = self.times(side, level - 1), side.bits_at[level - 1]
        values = self.elements(side, level - 1, whole=False) * self._fan_out(side, level, whole=False)
        if level > 1:
            # The link moves no more in a cycle than either end can, and each cycle is an access.
            nearer = side.memories[level - 2].port_bits_per_cycle * self._fan_out(side, level, whole=False)
            at_once = np.minimum(min(nearer, memory.port_bits_per_cycle) / bits, values)
            accesses = np.ceil(values / at_once - 1e-9) * _accesses(at_once * bits, memory)
        else:
            accesses = _accesses(values * bits, memory)
        if side.operand != "output":
            return accesses * times * memory.read_pj
        return accesses * (times * memory.write_pj + self.returning(side, level - 1) * memory.read_pj)

    def _energy_above(self, side: _Side, level: int, memory: MemorySpec) -> Floats:
        """Accesses of one copy on behalf of the memory above it."""
        bits = side.bits_at[level]
        accesses = _accesses(self.elements(side, level, whole=False) * bits, memory)
        times = self.times(side, level)
        if side.operand != "output":
            return accesses * times * memory.write_pj
        return accesses * (times * memory.read_pj + self.returning(side, level) * memory.write_pj)

    # -- time --------------------------------------------------------------------------------------------------

    def waiting(self, rows: Ints) -> tuple[Floats, Floats]:
        """Stall cycles and filling cycles of the orders ``rows``."""
        links = self._links()
        activities: dict[tuple[str, str], list[Activity]] = {}
        for link in links:
            for memory, way, cycles in link.port_uses():
                sides = f"{way} {'outer' if memory is link.inner else 'inner'}"
                port = {"shared": "both", "separate": way, "both_sides": sides}[memory.ports]
                activities.setdefault((memory.name, port), []).append(
                    Activity(
                        busy=cycles[rows], window=link.window[rows], period=link.period[rows], times=link.times[rows]
                    )
                )
        stalls = np.zeros(rows.size)
        for uses in activities.values():
            stalls = np.maximum(stalls, stall_cycles(uses, float(self.steps)))
        fills = [
            Fill(operand=link.operand, cycles=link.fill_cycles[rows], shared=self._contended(link))
            for link in links
            if link.operand != "output" and link.inner is not None
        ]
        return stalls, filling_cycles(fills, rows.size)

    def _contended(self, link: Link) -> int:
        """At how many ends of the link weights and inputs use the same port."""
        other = "input" if link.operand == "weight" else "weight"
        if other not in self.sides:
            return 0
        ends = (link.inner, link.outer)
        return sum(memory is not None and memory in self.sides[other].memories for memory in ends)

    def _links(self) -> list[Link]:
        doubled = self._double_buffered()
        found = []
        for side in self.sides.values():
            for level, outer in enumerate(side.memories, start=1):
                inner = side.memories[level - 2] if level > 1 else None
                bits, period = side.bits_at[level - 1], self.orders.trips[self.rows, side.cuts[level - 1]]
                values = self.elements(side, level - 1, whole=True)
                at_rest = self._repeats_on_top(side, level - 1, relevant=False)
                window = np.where(doubled[side.operand][level - 1], period, period // at_rest)
                found.append(
                    Link(
                        operand=side.operand,
                        inner=inner,
                        outer=outer,
                        inner_bits=values * bits,
                        outer_bits=values * bits * self._fan_out(side, level, whole=True),
                        period=period,
                        window=window,
                        times=self.times(side, level - 1),
                        returns=self._partial(side, side.cuts[level - 1])
                        if side.operand == "output"
                        else np.zeros(self.n, dtype=bool),
                    )
                )
        return found

    def _repeats_on_top(self, side: _Side, level: int, *, relevant: bool) -> Floats:
        """Trips of the outermost loops of memory ``level`` that all change the operand (or all do not)."""
        if level == 0:
            return np.ones(self.n)
        low, high = side.cuts[level - 1], side.cuts[level]
        # An input changes along FX and OX together: neither is counted as one that simply repeats or renews.
        sliding = [LOOPS.index(name) for name in ("OX", "OY", "FX", "FY")] if side.operand == "input" else []
        wanted = side.relevant & ~np.isin(self.orders.loop, sliding) if relevant else ~side.relevant
        found, going = np.ones(self.n), np.ones(self.n, dtype=bool)
        for place in reversed(range(self.length)):
            inside = (place >= low) & (place < high)
            going &= wanted[:, place] | ~inside
            found = np.where(inside & going, found * self.orders.size[:, place], found)
        return found

    def _double_buffered(self) -> dict[Operand, list[Flags]]:
        """Whether a second copy of what an operand replaces at a time fits beside all that a memory holds."""
        shares: dict[Operand, list[Floats]] = {}
        used: dict[str, Floats] = {}
        for side in self.sides.values():
            shares[side.operand] = []
            for level, memory in enumerate(side.memories, start=1):
                held = self.elements(side, level, whole=False) * side.bits_at[level]
                part = np.floor(held / self._repeats_on_top(side, level, relevant=True)) / memory.capacity_bits
                shares[side.operand].append(part)
                used[memory.name] = used.get(memory.name, np.zeros(self.n)) + part
        found: dict[Operand, list[Flags]] = {}
        for operand in ("output", "weight", "input"):
            if operand not in self.sides:
                continue
            side = self.sides[operand]
            found[operand] = [np.zeros(self.n, dtype=bool)]
            for memory, part in zip(side.memories, shares[operand], strict=True):
                fits = (used[memory.name] <= 0.5) | (part <= 1 - used[memory.name])
                used[memory.name] = np.where(
                    fits & (used[memory.name] > 0.5), used[memory.name] + part, used[memory.name]
                )
                found[operand].append(fits)
        return found


def _accesses(bits: Floats, memory: MemorySpec) -> Floats:
    """Accesses of the full width that ``bits`` come to, in whole granules."""
    return np.asarray(np.ceil(bits / memory.granule - 1e-9) * (memory.granule / memory.width_bits))
