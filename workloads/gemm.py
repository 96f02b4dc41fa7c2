"""One matrix product or convolution as it is mapped: extents, formats, what is fused behind it.

``C[m, n] = A[m, k] B[k, n]`` for each of ``groups`` independent pieces. A convolution is the same product with
m output pixels, k = kernel x input channels and n output channels; its window tells how many input values a tile of
outputs really needs, so that what is loaded is the input slab with its halo and not its unrolled copy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd
from typing import Any, NamedTuple

from tilewright.errors import InputError
from tilewright.units import ceil_div
from tilewright.workloads.conv_window import ConvWindow
from tilewright.workloads.homes import DRAM, IN_DRAM, ROWS_IN_DRAM, Homes, VectorHomes
from tilewright.workloads.vector_work import UnitValues

__all__ = ["NOTHING_FUSED", "ConvWindow", "Fused", "GemmLayer", "RowCut", "Split", "VectorLayer", "Whole"]


class Fused(NamedTuple):
    """Vector work on every output element behind the product, before it is stored.

    ``operations``: (kind, times per element). ``extra_bits``: for each further tensor of the output's shape that is
    loaded (a residual) the bits of an element. ``reduces``: whether rows are reduced (statistics of a norm).
    ``line_results``: of a depthwise convolution in the lines behind the product (:class:`LineSpec` of a machine), its
    results for each pixel of the product; 0 where there is none.
    """

    operations: tuple[tuple[str, int], ...] = ()
    extra_bits: tuple[int | Fraction, ...] = ()
    reduces: bool = False
    line_results: Fraction = Fraction(0)


NOTHING_FUSED = Fused()


class Whole(NamedTuple):
    """Extents of a product before it was cut into pieces for the cores."""

    groups: int
    m: int
    n: int


class Split(NamedTuple):
    """How the sum of a product is split: into ``n_parts`` parts of the ``k`` that it has in all."""

    n_parts: int
    k: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmLayer:
    """A product to be mapped; extents of one group.

    ``compute_format`` is what the matrix unit multiplies in; storage bits are per element with scales
    included. ``b_is_weight``: B is a parameter, stored in the order in which its tiles are read. A convolution's k
    counts channel by channel, all taps of one before those of the next. ``whole``: the product that this is a cut of
    (see :meth:`cuts`); its groups are then the pieces, those of one group of the whole side by side, n fastest.
    ``homes``: where its operands are kept. ``a_format``, ``b_format``: the operands'
    tensor formats, empty where nobody said; ``engine``: the quantised engine that does it, of the machine.
    ``split``: of a piece whose k is a part of the whole's: the parts of a group are then groups of ``whole``.
    ``primitive``: what B needs instead of multiplications ("shift", "add"; empty: they are multiplied).
    ``b_density``: the share of B's values that are not 0; ``speed``: how many times as fast the machine is for
    leaving zeros out.
    """

    name: str
    groups: int
    m: int
    k: int
    n: int
    a_bits: int | Fraction
    b_bits: int | Fraction
    out_bits: int | Fraction
    accumulator_bits: int
    compute_format: str
    b_is_weight: bool = True
    fused: Fused = NOTHING_FUSED
    window: ConvWindow | None = None
    whole: Whole | None = None
    b_density: float = 1.0
    speed: Fraction = Fraction(1)
    homes: Homes = IN_DRAM
    a_format: str = ""
    b_format: str = ""
    engine: Any = None
    split: Split | None = None
    primitive: str = ""

    def __post_init__(self) -> None:
        for field in ("groups", "m", "k", "n"):
            if getattr(self, field) < 1:
                raise InputError(f"{self.name}: {field}: given {getattr(self, field)}, allowed 1 or more")
        if self.fused.extra_bits and not self.fused.operations:
            raise InputError(f"{self.name}: fused: an input that is loaded needs an operation that uses it")

    @property
    def n_groups(self) -> int:
        return self.groups

    @property
    def before_cut(self) -> Whole:
        """Extents of the product before it was cut for the cores."""
        return self.whole or Whole(self.groups, self.m, self.n)

    @property
    def macs(self) -> int:
        """Multiply-adds of the whole product, without what rounding up the pieces of the cores adds."""
        groups, m, n = self.before_cut
        if self.split is not None:
            return groups // self.split.n_parts * m * self.split.k * n
        return groups * m * self.k * n

    @property
    def compulsory_bits(self) -> int | Fraction:
        """A (of a convolution the pixels that are needed), B, C and the fused inputs of the whole, each moved once from
        or to the DRAM, as far as they live there.
        """
        groups, m, n = self.before_cut
        if self.split is not None:
            whole = Whole(groups // self.split.n_parts, m, n)
            return replace(self, k=self.split.k, whole=whole, split=None).compulsory_bits
        homes = self.homes
        a_elements = m * self.k
        if self.window is not None:
            a_elements = self.window.needed_pixels * (self.k // self.window.taps)
        of_output = self.out_bits if homes.out == DRAM else 0
        of_output += sum(bits for i, bits in enumerate(self.fused.extra_bits) if homes.extra(i) == DRAM)
        a = a_elements * self.a_bits if homes.a == DRAM else 0
        b = self.k * n * self.b_bits if homes.b == DRAM else 0
        return groups * (a + b + m * n * of_output)

    def shared_by(self, operand: str) -> int:
        """How many pieces of a cut product need the same tiles of an operand, "a" or "b", at the same time."""
        whole = self.before_cut
        return ceil_div(whole.n, self.n) if operand == "a" else ceil_div(whole.m, self.m)

    def cuts(self, n_cores: int, *, shares: bool = False) -> tuple[GemmLayer, ...]:
        """The ways to give ``n_cores`` cores equal pieces of this product: cut along n, or along m (with as few pieces
        as occupy every core, or so many that every core has equally many). Rounding up the extent of a piece is paid
        for. The layer itself when its groups suffice.

        ``shares``: whether what several pieces need can be brought once for all of them; then cuts along m and n at
        once are worth a try (the squarest come first), and so are all those for half the cores, a quarter, and so on,
        the others idle.
        """
        if self.groups >= n_cores:
            return (self,)
        found: dict[GemmLayer, None] = {}
        for parts in (ceil_div(n_cores, self.groups), n_cores // gcd(n_cores, self.groups)):
            for cut in (self._cut(1, parts), self._cut(parts, 1)):
                if cut is not None:
                    found[cut] = None
        if shares:
            for n_parts_m, n_parts_n in _pairs(ceil_div(n_cores, self.groups)):
                cut = self._cut(n_parts_m, n_parts_n)
                if cut is not None:
                    found[cut] = None
            found = dict.fromkeys(sorted(found, key=lambda cut: cut.m + cut.n))
            found |= dict.fromkeys(self.cuts(n_cores // 2, shares=True))
        return tuple(found) or (self,)

    def splits(self, n_cores: int, rows: int, columns: int) -> tuple[GemmLayer, ...]:
        """The ways to give more cores something to do by splitting k, where there are fewer blocks of ``rows`` x
        ``columns`` results than cores: into 2, 4, 8 ... parts, each cut along n and m as far as there are cores.
        """
        found: dict[GemmLayer, None] = {}
        blocks_m, blocks_n = ceil_div(self.m, rows), ceil_div(self.n, columns)
        n_parts = 2
        while self.groups * blocks_m * blocks_n < n_cores and n_parts <= min(n_cores // self.groups, self.k):
            k = ceil_div(self.k, n_parts)
            split = Split(ceil_div(self.k, k), self.k)
            part = replace(self, groups=self.groups * split.n_parts, k=k)
            n_parts_n = min(blocks_n, max(1, n_cores // part.groups))
            n_parts_m = min(blocks_m, max(1, n_cores // (part.groups * n_parts_n)))
            whole = Whole(part.groups, self.m, self.n)
            found[replace(part._cut(n_parts_m, n_parts_n) or part, whole=whole, split=split)] = None
            n_parts *= 2
        return tuple(found)

    def _cut(self, n_parts_m: int, n_parts_n: int) -> GemmLayer | None:
        """Cut into at most so many pieces along m and n; a convolution along m between output rows."""
        granule = 1 if self.window is None or n_parts_m == 1 else self.window.out_width
        m = ceil_div(ceil_div(self.m, granule), n_parts_m) * granule
        n = ceil_div(self.n, n_parts_n)
        n_pieces = ceil_div(self.m, m) * ceil_div(self.n, n)
        if n_pieces == 1:
            return None
        return replace(self, groups=self.groups * n_pieces, m=m, n=n, whole=Whole(self.groups, self.m, self.n))


def _pairs(parts: int) -> tuple[tuple[int, int], ...]:
    """Pairs of numbers above 1 whose product is ``parts`` or a little less: powers of two, and what is left beside."""
    found: dict[tuple[int, int], None] = {}
    few = 2
    while 2 * few <= parts:
        found |= {(few, parts // few): None, (parts // few, few): None}
        few *= 2
    return tuple(found)


class RowCut(NamedTuple):
    """How one row is done in pieces, where it does not fit on chip: in at most ``columns`` of them.

    Element-wise work writes every piece. Where ``sums``, the pieces add up to the results of the row, which are written
    behind the last. Where statistics of the whole row come first (softmax, norms), a ``first`` pass takes them: it
    reads ``first_read_bytes`` of the row and does the operations ``first``; the last one reads all of the row (again)
    and does ``last``. ``kept_bytes``: sums or statistics of a row, on chip from its first piece to its last.
    """

    columns: int
    last: tuple[tuple[str, int], ...]
    kept_bytes: int = 0
    sums: bool = False
    first: tuple[tuple[str, int], ...] = ()
    first_read_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorLayer:
    """Element-wise, reduction, normalisation or memory work, row by row.

    ``operations``: (kind, how many) for one row. Each row reads ``read_bytes`` from DRAM and writes
    ``write_bytes``; either may be 0. ``groups`` equal pieces of ``rows`` rows each. ``cut``: how a row is done in
    pieces; None for a row too short for that. ``homes``: what of it does not come from or go to the DRAM.
    ``values``: what a unit counts of one row, where it does one kind of work
    (:func:`tilewright.workloads.vector_work.unit_values`). ``results``: into how many parts a row can be dealt out to
    cores, because so many of its results do not need each other (channels of a global pooling).
    """

    name: str
    rows: int
    read_bytes: int
    write_bytes: int
    operations: tuple[tuple[str, int], ...] = ()
    reduces: bool = False
    groups: int = 1
    cut: RowCut | None = None
    homes: VectorHomes = ROWS_IN_DRAM
    values: UnitValues | None = None
    results: int = 1

    @property
    def columns(self) -> int:
        """Pieces that a row can be cut into."""
        return self.cut.columns if self.cut is not None else 1

    @property
    def n_groups(self) -> int:
        return self.groups

    @property
    def compulsory_bytes(self) -> int:
        """Bytes moved over all rows from and to the DRAM."""
        read_bytes = self.read_bytes - sum(n_bytes for _, n_bytes in self.homes.reads)
        return self.groups * self.rows * (read_bytes + (self.write_bytes if self.homes.out == DRAM else 0))

    def for_cores(self, n_cores: int) -> VectorLayer:
        """The same work in at most ``n_cores`` equal pieces (rows rounded up); parts of rows where those are fewer."""
        n_rows = self.groups * self.rows
        if n_rows < n_cores and self.results > 1:
            return self._in_parts(min(self.results, ceil_div(n_cores, n_rows))).for_cores(n_cores)
        rows = ceil_div(n_rows, n_cores)
        return replace(self, rows=rows, groups=ceil_div(n_rows, rows))

    def _in_parts(self, parts: int) -> VectorLayer:
        """Each row as ``parts`` rows of some of its results."""
        each, homes, cut = ceil_div(self.results, parts), self.homes, self.cut
        parts = ceil_div(self.results, each)

        def share(n: int) -> int:
            return ceil_div(n * each, self.results)

        operations = tuple((kind, share(times)) for kind, times in self.operations)
        columns = 1 if cut is None else min(cut.columns, share(cut.columns))
        return replace(
            self,
            rows=self.rows * parts,
            results=1,
            read_bytes=share(self.read_bytes),
            write_bytes=share(self.write_bytes),
            operations=operations,
            homes=homes._replace(reads=tuple((home, share(n)) for home, n in homes.reads)),
            values=None if self.values is None else self.values.share(Fraction(each, self.results)),
            cut=None
            if cut is None or columns < 2
            else cut._replace(columns=columns, last=operations, kept_bytes=share(cut.kept_bytes)),
        )
