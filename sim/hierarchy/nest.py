"""One layer on one tile as a loop nest, and the ways in which its loops can stand.

Seven loops (``K C OX OY FX FY G``, see :mod:`tilewright.hw_models.hierarchy`), some of them spread over the array's
axes, the rest in time. The loops in time are cut into prime factors, and every order of the factors is one candidate
(as in LOMA: Symons, Mei, Verhelst, AICAS 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
import numpy.typing as npt

from tilewright.hw_models.hierarchy import AxisSpec, HierarchySpec, Operand

__all__ = ["LOOPS", "RELEVANT", "LoopNest", "Orders", "Unrolled", "orders_of", "unroll"]

#: The loops, in the order of every array with one entry per loop.
LOOPS = ("K", "C", "OX", "OY", "FX", "FY", "G")
#: The loops along which an operand changes.
RELEVANT: dict[Operand, frozenset[str]] = {
    "weight": frozenset(("K", "C", "FX", "FY", "G")),
    "input": frozenset(("C", "OX", "OY", "FX", "FY", "G")),
    "output": frozenset(("K", "OX", "OY", "G")),
}
_COARSER = ("K", "C", "OY", "OX", "FY", "FX", "G")
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopNest:
    """Extents of a layer on one tile.

    ``stride``, ``dilation`` along (columns, rows). ``map_width``, ``map_height``: input columns and rows that exist
    (padding left out). ``n_inputs``: feature maps that are combined value by value. ``weighted``: whether there are
    weights at all.
    """

    k: int = 1
    c: int = 1
    ox: int
    oy: int
    fx: int = 1
    fy: int = 1
    g: int = 1
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    map_width: int
    map_height: int
    n_inputs: int = 1
    weighted: bool = True

    @property
    def extents(self) -> dict[str, int]:
        """The loops and how often each runs."""
        return {"K": self.k, "C": self.c, "OX": self.ox, "OY": self.oy, "FX": self.fx, "FY": self.fy, "G": self.g}

    @property
    def macs(self) -> int:
        """Multiply-accumulates (or other operations of the array), those on padding included."""
        product = 1
        for extent in self.extents.values():
            product *= extent
        return product

    @property
    def operands(self) -> tuple[Operand, ...]:
        """What the layer reads and writes."""
        return ("weight", "input", "output") if self.weighted else ("input", "output")

    def elements(self, operand: Operand, extents: Floats, *, whole: bool = False) -> Floats:
        """Values of ``operand`` that the loops with ``extents[..., 7]`` touch; whole: extents rounded up first."""
        if whole:
            extents = np.ceil(extents - 1e-9)
        k, c, ox, oy, fx, fy, g = (extents[..., i] for i in range(7))
        if operand == "weight":
            return np.asarray(k * c * fx * fy * g)
        if operand == "output":
            return np.asarray(k * ox * oy * g)
        width = np.minimum(_span(ox, fx, self.stride[0], self.dilation[0]), self.map_width)
        height = np.minimum(_span(oy, fy, self.stride[1], self.dilation[1]), self.map_height)
        return np.asarray(c * g * width * height * self.n_inputs)


def _span(outputs: Floats, taps: Floats, stride: int, dilation: int) -> Floats:
    """Positions that ``taps`` kernel positions around ``outputs`` outputs touch, each once."""
    apart = outputs * taps
    together = (outputs - 1) * stride + (taps - 1) * dilation + 1
    return np.minimum(apart, together)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrolled:
    """A nest on an array: ``lanes`` in use on each axis and the loop on it, and what is left to do in time.

    ``lanes`` may be fractions: the mean over all steps, the last of which may be partly filled.
    """

    lanes: dict[str, tuple[str, float]]
    temporal: dict[str, int]

    def extents(self, axes: frozenset[str], *, whole: bool) -> Floats:
        """Lanes in use along each loop over ``axes``; whole: in a full step."""
        found = np.ones(7)
        for axis, (loop, lanes) in self.lanes.items():
            if axis in axes:
                found[LOOPS.index(loop)] *= np.ceil(lanes - 1e-9) if whole else lanes
        return found


def unroll(nest: LoopNest, hierarchy: HierarchySpec) -> Unrolled:
    """Spread the loops of ``nest`` over the axes: on each the first of its loops that is longer than one."""
    left = dict(nest.extents)
    lanes: dict[str, tuple[str, float]] = {}
    for name, axis in hierarchy.axes.items():
        loop = _loop_on(axis, left)
        if loop is None:
            continue
        steps = -(-left[loop] // axis.size)
        lanes[name] = (loop, left[loop] / steps)
        left[loop] = steps
    return Unrolled(lanes=lanes, temporal={loop: n for loop, n in left.items() if n > 1})


def _loop_on(axis: AxisSpec, left: dict[str, int]) -> str | None:
    return next((loop for loop in axis.loops if left[loop] > 1), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """All orders of loops in time, innermost first: ``loop[n, N]`` is the place in LOOPS, ``size[n, N]`` the trips.

    ``extents[n, N + 1, 7]``: each loop within the first 0, 1, ... N loops; ``trips[n, N + 1]``: their product.
    """

    loop: Ints
    size: Ints
    extents: Floats
    trips: Floats


@lru_cache(maxsize=4096)
def orders_of(temporal: tuple[tuple[str, int], ...], n_factors: int) -> Orders:
    """Every order of the prime factors of ``temporal`` (loop, count), at most ``n_factors`` factors.

    Where there are more, the two smallest factors of the loop with the most factors become one, again and again; of
    several such loops the first of K, C, OY, OX, FY, FX, G (as DeFiNES' tool has it: rows are cut coarser than
    columns).
    """
    factors = {loop: _primes(count) for loop, count in sorted(temporal, key=lambda one: _COARSER.index(one[0]))}
    while sum(map(len, factors.values())) > n_factors:
        most = max(factors.values(), key=len)
        if len(most) == 1:
            break
        first, second, *rest = most
        most[:] = sorted([first * second, *rest])
    loops = [(LOOPS.index(name), size) for name, sizes in factors.items() for size in sizes]
    found = sorted(set(permutations(loops)))
    table = np.array(found, dtype=np.int64).reshape(len(found), len(loops), 2)
    loop, size = table[..., 0], table[..., 1]
    extents = np.ones((len(found), len(loops) + 1, 7))
    for place in range(len(loops)):
        extents[:, place + 1] = extents[:, place]
        extents[np.arange(len(found)), place + 1, loop[:, place]] *= size[:, place]
    return Orders(loop=loop, size=size, extents=extents, trips=extents.prod(axis=2))


def _primes(number: int) -> list[int]:
    found, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return [*found, number] if number > 1 else found
