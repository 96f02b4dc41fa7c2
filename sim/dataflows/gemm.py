"""Matrix products and convolutions (as implicit GEMM), with vector work fused behind them.

One operand's panel stays on chip while the other is streamed past it:

* ``order=0`` keeps the A panel of a row tile (all of k) for every column tile; B is streamed.
* ``order=1`` keeps the B panel of a column tile for every row tile; A is streamed.

Inside, k is accumulated tile by tile. Loads run ahead by ``depth`` tiles; the fused vector work and the store of one
output tile overlap the products of the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

from tilewright.errors import InputError, did_you_mean
from tilewright.hw_models.dram import bytes_per_cycle
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.core import Pool, TileCore
from tilewright.sim.costs import TileCosts, Work
from tilewright.sim.mapping import Dataflow, Parameter, Phase, Tiling, register, tile_sizes
from tilewright.sim.result import LowerBound
from tilewright.units import bits_to_bytes, ceil_div, exact
from tilewright.workloads.gemm import GemmLayer

MOST_SIZES = 12  # candidates per extent
MOST_DEPTHS_OF_K = 5


class GemmCosts(TileCosts):
    """Costs of the tiles of one product."""

    layer: GemmLayer

    def load_a(self, rows: int, depth: int) -> Work:
        """A tile (rows, depth): rows of a row-major matrix, or the input slab of a convolution (NHWC)."""
        layer, window = self.layer, self.layer.window
        if window is None:
            return self.load(rows, depth, layer.a_bits, stride_elements=layer.k if depth < layer.k else 0)
        slab_rows, slab_columns = window.slab(rows)
        channels, of_channels = max(1, depth // window.taps), layer.k // window.taps
        if channels < of_channels:
            return self.load(slab_rows * slab_columns, channels, layer.a_bits, stride_elements=of_channels)
        gap = window.in_width * of_channels if slab_columns < window.in_width else 0
        return self.load(slab_rows, slab_columns * channels, layer.a_bits, stride_elements=gap)

    def a_bytes(self, rows: int, depth: int) -> int:
        """Room that the A tile takes on chip."""
        window = self.layer.window
        if window is None:
            return bits_to_bytes(rows * depth * self.layer.a_bits)
        slab_rows, slab_columns = window.slab(rows)
        return bits_to_bytes(slab_rows * slab_columns * max(1, depth // window.taps) * self.layer.a_bits)

    def load_b(self, depth: int, columns: int) -> Work:
        """B tile: one run when B is a weight (stored tile by tile), else strided rows."""
        layer = self.layer
        if layer.b_is_weight or columns == layer.n:
            return self.load(1, depth * columns, layer.b_bits)
        return self.load(depth, columns, layer.b_bits, stride_elements=layer.n)

    def multiply(self, rows: int, depth: int, columns: int, *, add_to: bool) -> Work:
        """One tile of the product into the accumulators."""
        layer = self.layer
        return self._remember(
            ("multiply", rows, depth, columns, add_to),
            lambda: self.product(
                rows,
                depth,
                columns,
                number_format=layer.compute_format,
                a_bits=layer.a_bits,
                b_bits=layer.b_bits,
                out_bits=layer.accumulator_bits,
                partial_bits=layer.accumulator_bits,
                add_to=add_to,
            ),
        )

    def epilogue(self, rows: int, columns: int) -> Work:
        """The fused vector work on one output tile."""
        layer, n = self.layer, rows * columns
        return self.vector(
            tuple((kind, times * n) for kind, times in layer.fused.operations),
            reads_bits=n * (layer.accumulator_bits + layer.fused.extra_inputs * layer.out_bits),
            writes_bits=n * layer.out_bits,
            reduces=layer.fused.reduces,
        )

    def store_c(self, rows: int, columns: int) -> Work:
        """Output tile to DRAM, rows of a row-major matrix."""
        layer = self.layer
        return self.store(rows, columns, layer.out_bits, stride_elements=layer.n if columns < layer.n else 0)

    def load_extra(self, rows: int, columns: int) -> Work:
        """A fused input's tile of the output's shape."""
        layer = self.layer
        return self.load(rows, columns, layer.out_bits, stride_elements=layer.n if columns < layer.n else 0)


class GemmCore(TileCore[GemmCosts]):
    """A core as a product's lowering sees it."""

    layer: GemmLayer


class Span(NamedTuple):
    """One tile along an extent; ``start`` is set only when the program is unrolled."""

    size: int
    first: bool
    last: bool
    start: int = 0


def spans(core: TileCore[Any], extent: int, tile: int, name: str) -> Iterator[Span]:
    """Loop over the tiles of an extent; the first and the last stand alone."""
    n = ceil_div(extent, tile)
    if core.unroll:
        for i in range(n):
            yield Span(min(tile, extent - i * tile), i == 0, i == n - 1, i * tile)
        return
    if n == 1:
        yield Span(extent, True, True)
        return
    yield Span(tile, True, False)
    for _ in core.loop(n - 2, name=name):
        yield Span(tile, False, False)
    yield Span(extent - (n - 1) * tile, False, True)


class _Pools(NamedTuple):
    kept: Pool
    streamed: Pool
    c: Pool
    extra: Pool | None


def lower(core: GemmCore, tiling: Tiling) -> None:
    """The loop nest: groups, kept operand's tiles, streamed operand's tiles, k."""
    layer, keep_a = core.layer, tiling["order"] == 0
    pools = _declare(core, tiling, keep_a=keep_a)
    core.declared()
    outer, inner = (layer.m, layer.n) if keep_a else (layer.n, layer.m)
    outer_tile, inner_tile = (tiling["m"], tiling["n"]) if keep_a else (tiling["n"], tiling["m"])
    for group in core.loop(core.n_groups, name="groups"):
        for o in spans(core, outer, outer_tile, "rows" if keep_a else "columns"):
            for i in spans(core, inner, inner_tile, "columns" if keep_a else "rows"):
                rows, columns = (o, i) if keep_a else (i, o)
                for k in spans(core, layer.k, tiling["k"], "k"):
                    here = o.first and i.first and core.n_groups == 1
                    there = bool(tiling["prefetched"]) and here and (k.first or not keep_a)
                    _loads(
                        core,
                        pools,
                        rows,
                        columns,
                        k,
                        first_use=i.first,
                        keep_a=keep_a,
                        b_is_there=there,
                        group=group,
                    )
                    _multiply(core, pools, rows, columns, k, i, group)
                _finish(core, pools, rows, columns, group)


def first_weight_tiles(layer: GemmLayer, tiling: Tiling) -> tuple[int, int]:
    """(tiles, bytes) of B that ``prefetched=1`` finds on chip: the first panel, or the first streamed tile."""
    depth, columns = min(tiling["k"], layer.k), min(tiling["n"], layer.n)
    tiles = 1 if tiling["order"] == 0 else ceil_div(layer.k, depth)
    elements = depth * columns if tiling["order"] == 0 else layer.k * columns
    return tiles, bits_to_bytes(elements * layer.b_bits)


def _declare(core: GemmCore, tiling: Tiling, *, keep_a: bool) -> _Pools:
    layer, costs = core.layer, core.costs
    a_bytes = costs.a_bytes(min(tiling["m"], layer.m), min(tiling["k"], layer.k))
    b_bytes = bits_to_bytes(min(tiling["k"], layer.k) * min(tiling["n"], layer.n) * layer.b_bits)
    panel = ceil_div(layer.k, tiling["k"]) + tiling["depth"] - 1
    c_elements = min(tiling["m"], layer.m) * min(tiling["n"], layer.n)
    names = ("A panel", "B") if keep_a else ("B panel", "A")
    kept_bytes, streamed_bytes = (a_bytes, b_bytes) if keep_a else (b_bytes, a_bytes)
    extra = None
    if layer.fused.extra_inputs:
        extra_bytes = bits_to_bytes(c_elements * layer.out_bits * layer.fused.extra_inputs)
        extra = core.pool("fused input", slots=2, slot_bytes=extra_bytes)
    there = 0
    if tiling["prefetched"] and core.n_groups == 1:
        there, _ = first_weight_tiles(layer, tiling)
    return _Pools(
        core.pool(names[0], slots=panel, slot_bytes=kept_bytes, filled=0 if keep_a else there),
        core.pool(names[1], slots=tiling["depth"], slot_bytes=streamed_bytes, filled=there if keep_a else 0),
        core.pool("C", slots=2, slot_bytes=bits_to_bytes(c_elements * layer.accumulator_bits)),
        extra,
    )


def _loads(
    core: GemmCore,
    pools: _Pools,
    rows: Span,
    columns: Span,
    k: Span,
    *,
    first_use: bool,
    keep_a: bool,
    b_is_there: bool,
    group: int,
) -> None:
    costs = core.costs
    a = (costs.load_a(rows.size, k.size), "load A", ("load_a", group, rows, k))
    b = (costs.load_b(k.size, columns.size), "load B", ("load_b", group, k, columns))
    kept, streamed = (a, b) if keep_a else (b, a)
    if first_use and (keep_a or not b_is_there):
        work, label, run = kept
        core.load(work, waits=[pools.kept.free], signals=[pools.kept.full], label=label, run=run)
    if keep_a and b_is_there:
        return
    work, label, run = streamed
    core.load(work, waits=[pools.streamed.free], signals=[pools.streamed.full], label=label, run=run)


def _multiply(core: GemmCore, pools: _Pools, rows: Span, columns: Span, k: Span, inner: Span, group: int) -> None:
    core.matrix(
        core.costs.multiply(rows.size, k.size, columns.size, add_to=not k.first),
        waits=[
            pools.streamed.full,
            *((pools.kept.full,) if inner.first else ()),
            *((pools.c.free,) if k.first else ()),
        ],
        signals=[
            pools.streamed.free,
            *((pools.kept.free,) if inner.last else ()),
            *((pools.c.full,) if k.last else ()),
        ],
        label="A B",
        run=("multiply", group, rows, k, columns),
    )


def _finish(core: GemmCore, pools: _Pools, rows: Span, columns: Span, group: int) -> None:
    """Fused vector work, then the store; without such work the accumulators are stored as they are."""
    costs, c = core.costs, pools.c
    ready = c.full
    if core.layer.fused.operations:
        waits = [c.full]
        if pools.extra is not None:
            for _ in range(core.layer.fused.extra_inputs):
                last = _ == core.layer.fused.extra_inputs - 1
                core.load(
                    costs.load_extra(rows.size, columns.size),
                    waits=[pools.extra.free] if _ == 0 else [],
                    signals=[pools.extra.full] if last else [],
                    label="load fused input",
                    run=("load_extra", group, rows, columns),
                )
            waits.append(pools.extra.full)
        ready = core.shared_semaphore("C finished")
        core.vector(
            costs.epilogue(rows.size, columns.size),
            waits=waits,
            signals=[ready, *((pools.extra.free,) if pools.extra is not None else ())],
            label="fused work",
            run=("fused", group, rows, columns),
        )
    core.store(
        costs.store_c(rows.size, columns.size),
        waits=[ready],
        signals=[c.free],
        label="store C",
        run=("store_c", group, rows, columns),
    )


# -- space and bound ---------------------------------------------------------------------------------------


def _row_tiles(layer: GemmLayer, machine: MachineSpec) -> tuple[int, ...]:
    granule = machine.matrix.rows
    if layer.window is not None and layer.m > layer.window.out_width:
        granule = layer.window.out_width  # whole output rows, so that the slab has no ragged ends
    return tile_sizes(layer.m, granule, most=MOST_SIZES)


def _depths(layer: GemmLayer, machine: MachineSpec) -> tuple[int, ...]:
    """Tiles of k: whole, or whole channels of a convolution."""
    granule = machine.matrix.rows
    if layer.window is not None:
        granule = layer.window.taps * max(1, ceil_div(granule, layer.window.taps))
    return tile_sizes(layer.k, granule, most=MOST_DEPTHS_OF_K)


ROWS = Parameter(name="m", meaning="rows of a tile of C", candidates=_row_tiles, largest=lambda layer: layer.m)
COLUMNS = Parameter(
    name="n",
    meaning="columns of a tile of C",
    candidates=lambda layer, machine: tile_sizes(layer.n, machine.matrix.columns, most=MOST_SIZES),
    largest=lambda layer: layer.n,
)
DEPTH_OF_K = Parameter(name="k", meaning="tile of the sum", candidates=_depths, largest=lambda layer: layer.k)
ORDER = Parameter(
    name="order",
    meaning="0 keeps A's panel and streams B, 1 keeps B's panel and streams A",
    candidates=lambda layer, machine: (0, 1),
    smallest=0,
    largest=lambda layer: 1,
)
DEPTH = Parameter(
    name="depth",
    meaning="slots of the streamed operand (2 is a double buffer)",
    candidates=lambda layer, machine: (2,),
    largest=lambda layer: 64,
    changes_work=False,
)


PREFETCHED = Parameter(
    name="prefetched",
    meaning="1 finds the first weights on chip, brought there under the operator before (whole networks)",
    candidates=lambda layer, machine: (0,),
    smallest=0,
    largest=lambda layer: 1,
)


def gemm_bound(layer: GemmLayer, machine: MachineSpec) -> LowerBound:
    """Multiply-adds at full rate, fused work over all lanes, every tensor moved once."""
    rate = machine.matrix.multiplies_per_pe_per_cycle.get(layer.compute_format)
    if rate is None:
        known = list(machine.matrix.multiplies_per_pe_per_cycle)
        raise InputError(
            f'{machine.name}: the matrix unit has no multiply rate for format "{layer.compute_format}"; allowed: '
            f"{', '.join(known)}{did_you_mean(layer.compute_format, known)}"
        )
    elements = machine.matrix.rows * machine.matrix.columns * machine.n_cores
    outputs = layer.groups * layer.m * layer.n
    per_output = sum(times * machine.vector.cycles[kind] for kind, times in layer.fused.operations)
    return LowerBound(
        matrix_cycles=_up(Fraction(layer.macs) / (elements * exact(rate))),
        vector_cycles=_up(Fraction(outputs * per_output, machine.vector.lanes * machine.n_cores)),
        dram_cycles=_up(bits_to_bytes(layer.compulsory_bits) / bytes_per_cycle(machine)),
    )


def _up(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


GEMM = register(
    Dataflow(
        name="gemm",
        summary="matrix product or convolution: one operand's panel kept, the other streamed, vector work fused",
        source="the usual panel-stationary loop nests of systolic machines",
        phases=(
            Phase(
                name="product",
                parameters=(ROWS, COLUMNS, DEPTH_OF_K, ORDER, DEPTH, PREFETCHED),
                lower=lower,
                core=GemmCore,
            ),
        ),
        assumptions=(
            "weights lie in DRAM in the order in which their tiles are read; activations row by row",
            "a convolution loads the input slab of its output tile, halo included, and unrolls it on the way "
            "into the array",
        ),
        operator="gemm",
        costs=GemmCosts,
        bound=gemm_bound,
    )
)
