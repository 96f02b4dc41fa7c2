"""How many values every memory reads and writes under a given loop nest: the exact count, for any nest.

A mapping is a list of nodes from outermost to innermost: :class:`Loop` steps through a layer, :class:`Keep` says where
a memory's tile of an operand stands. A tile is filled anew at every step of the loops above it, with all that the loops
below it touch (halos of convolutions are fetched again); whoever knows that it stays puts it above the loops that do
not change it, as :func:`settled` does. An operand that has no node for a memory passes that memory by. Below the last
node the array takes one value of each operand, and gives one, for every multiply-add.

Partial sums go up at every step and come back for the next; the first time there are none to come back. Loops in space
are done at once by copies of all that stands below them: where they do not change an operand, one transfer serves all
the copies (a multicast, or sums added on their way), and every copy has its own writes and reads.

The notation is that of LoopTree (Gilbert, Wu, Emer, Sze, 2024): loops with storage nodes between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product
from math import prod
from typing import NamedTuple, TypeAlias

from tilewright.errors import InputError, unknown
from tilewright.hw_models.hierarchy import Operand
from tilewright.sim.hierarchy.nest import LOOPS, RELEVANT, LoopNest

__all__ = ["Keep", "Loop", "Mapping", "Moved", "settled", "traffic"]


class Loop(NamedTuple):
    """A loop over ``name`` in steps of ``tile``, the last of which may be shorter; ``in_space``: all steps at once."""

    name: str
    tile: int
    in_space: bool = False


class Keep(NamedTuple):
    """The place of ``memory``'s tile of ``operand``."""

    memory: str
    operand: Operand


Mapping: TypeAlias = Sequence[Loop | Keep]


class Moved(NamedTuple):
    """Values of one operand that a memory reads and writes, over all its copies."""

    reads: int
    writes: int


def traffic(nest: LoopNest, mapping: Mapping, *, whole_runs: bool = False) -> dict[tuple[str, Operand], Moved]:
    """Values moved, by (memory, operand), for every :class:`Keep` of ``mapping``.

    ``whole_runs``: input columns and rows between the first and the last that are touched move too, where a stride or
    a dilation leaves some out. Raises InputError for an unknown loop, one in steps of less than 1, an operand that has
    no place, and one that has two in a memory.
    """
    _check(nest, mapping)
    reads: Counter[tuple[str, Operand]] = Counter()
    writes: Counter[tuple[str, Operand]] = Counter()
    loops = {name: _loops_over(name, mapping) for name, extent in nest.extents.items() if extent > 1}
    for operand in nest.operands:
        places = [i for i, node in enumerate(mapping) if isinstance(node, Keep) and node.operand == operand]
        for outer, inner in zip(places, [*places[1:], None], strict=True):
            link = _Link(nest, loops, operand, outer, len(mapping) + 1 if inner is None else inner, whole_runs)
            above, below = (_memory(mapping, place, operand) for place in (outer, inner))
            down, up = (reads, writes) if operand != "output" else (writes, reads)
            down[above] += link.moves(at_outer=True)
            up[below] += link.moves(at_outer=False)
            if operand == "output":
                reads[above] += link.returns(at_outer=True)
                writes[below] += link.returns(at_outer=False)
    keeps = [(node.memory, node.operand) for node in mapping if isinstance(node, Keep)]
    return {key: Moved(reads[key], writes[key]) for key in keeps if key[1] in nest.operands}


def settled(mapping: Mapping) -> tuple[Loop | Keep, ...]:
    """``mapping`` with every tile above the loops directly over it that do not change it: what stays is not filled
    again. (Loops over kernel taps and output columns or rows both change an input's tile.)
    """
    found: list[Loop | Keep] = []
    for node in mapping:
        found.insert(_top(found, node.operand) if isinstance(node, Keep) else len(found), node)
    return tuple(found)


def _top(above: Sequence[Loop | Keep], operand: Operand) -> int:
    """The highest place under the nodes ``above`` with no node over it that changes, copies or holds ``operand``."""
    top = len(above)
    for place in range(len(above) - 1, -1, -1):
        node = above[place]
        if isinstance(node, Loop):
            if node.in_space or node.name in RELEVANT[operand]:
                break
            top = place
        elif node.operand == operand:
            break
    return top


# -- one operand between two neighbouring memories ---------------------------------------------------------------

#: Whether of all steps of the loop at a place only the first counts.
_Once: TypeAlias = Callable[[int, Loop], bool]
_Loops: TypeAlias = list[tuple[int, Loop]]


class _Link(NamedTuple):
    """``operand`` between its places ``outer`` and ``inner`` in a mapping (beyond its end: the array).

    ``loops``: by name, with their places; those that run once have none.
    """

    nest: LoopNest
    loops: dict[str, _Loops]
    operand: Operand
    outer: int
    inner: int
    whole_runs: bool

    def moves(self, *, at_outer: bool) -> int:
        """Values that pass, as the outer memory or as the inner one counts them."""
        return self._count(self._is_shared if at_outer else _never)

    def returns(self, *, at_outer: bool) -> int:
        """Those of an output that come back: all but the first time of each."""
        return self.moves(at_outer=at_outer) - self._count(
            lambda place, loop: not loop.in_space or (at_outer and self._is_shared(place, loop))
        )

    def _is_shared(self, place: int, loop: Loop) -> bool:
        """Whether the copies that the loop makes stand below the outer memory, which then serves all of them."""
        return loop.in_space and place > self.outer

    def _count(self, once: _Once) -> int:
        """Values of all tiles; of loops that do not change the operand, and are ``once``, of the first step alone."""
        nest, relevant = self.nest, RELEVANT[self.operand]
        times = prod(self._tiles(name, once).total() for name in self.loops if name not in relevant)
        if self.operand != "input":
            extents = nest.extents
            return times * prod(extents[name] for name in relevant)
        for out, tap, axis, whole in (("OX", "FX", 0, nest.map_width), ("OY", "FY", 1, nest.map_height)):
            pairs = product(self._tiles(out).items(), self._tiles(tap).items())
            spacing = (nest.stride[axis], nest.dilation[axis])
            touched = (
                (_touched(n, m, *spacing, self.whole_runs), times_n * times_m) for (n, times_n), (m, times_m) in pairs
            )
            times *= sum(min(values, whole) * count for values, count in touched)
        return times * nest.c * nest.g * nest.n_inputs

    def _tiles(self, name: str, once: _Once | None = None) -> Counter[int]:
        """Tiles along a loop (extent, how many) at the inner place; the array's are single steps."""
        loops = self.loops.get(name)
        if loops is None:
            return Counter({1: 1})
        tiles = Counter({self.nest.extents[name]: 1})
        for place, loop in loops:
            if place < self.inner:
                tiles = _cut(tiles, loop.tile, first_only=once is not None and once(place, loop))
        return tiles


def _never(place: int, loop: Loop) -> bool:
    return False


def _loops_over(name: str, mapping: Mapping) -> _Loops:
    """The loops over ``name`` with their places, and behind all the single steps of the array."""
    found = [(place, node) for place, node in enumerate(mapping) if isinstance(node, Loop) and node.name == name]
    return [*found, (len(mapping), Loop(name, 1))]


def _cut(tiles: Counter[int], step: int, *, first_only: bool) -> Counter[int]:
    """Tiles (extent, how many) cut in steps; of each only the first where that is all that counts."""
    found: Counter[int] = Counter()
    for extent, count in tiles.items():
        whole, rest = divmod(extent, step)
        if first_only or not whole:
            found[min(extent, step)] += count
            continue
        found[step] += whole * count
        if rest:
            found[rest] += count
    return found


@lru_cache(maxsize=65536)
def _touched(outputs: int, taps: int, stride: int, dilation: int, whole_runs: bool) -> int:
    """Inputs along one axis that ``taps`` kernel positions around ``outputs`` outputs touch."""
    together = (outputs - 1) * stride + (taps - 1) * dilation + 1
    if whole_runs or (dilation == 1 and taps >= stride) or (stride == 1 and outputs >= dilation):
        return together
    return len({out * stride + tap * dilation for out in range(outputs) for tap in range(taps)})


# -- what is given -----------------------------------------------------------------------------------------------


def _memory(mapping: Mapping, place: int | None, operand: Operand) -> tuple[str, Operand]:
    node = mapping[place] if place is not None else None
    return (node.memory if isinstance(node, Keep) else "", operand)


def _check(nest: LoopNest, mapping: Mapping) -> None:
    for node in mapping:
        if isinstance(node, Loop) and node.name not in LOOPS:
            raise unknown("loop", node.name, LOOPS, place="mapping")
        if isinstance(node, Loop) and node.tile < 1:
            raise InputError(f"mapping: loop {node.name}: tile: given {node.tile}, allowed 1 or more")
    keeps = Counter(node for node in mapping if isinstance(node, Keep))
    for keep, times in keeps.items():
        if times > 1:
            raise InputError(f"mapping: {keep.memory} keeps {keep.operand} in {times} places; allowed one")
    for operand in nest.operands:
        if all(keep.operand != operand for keep in keeps):
            raise InputError(f"mapping: no memory keeps {operand}; allowed one or more, the outermost its home")
