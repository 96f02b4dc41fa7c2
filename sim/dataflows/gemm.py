"""Matrix products and convolutions (as implicit GEMM), with vector work fused behind them.

One operand's panel stays on chip while the other is streamed past it:

* ``order=0`` keeps the A panel of a row tile (all of k) for every column tile; B is streamed.
* ``order=1`` keeps the B panel of a column tile for every row tile; A is streamed.

Inside, k is accumulated tile by tile. Loads run ahead by ``depth`` tiles; the fused vector work and the store of one
output tile overlap the products of the next.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from tilewright.errors import InputError, did_you_mean
from tilewright.hw_models.dram import bytes_per_cycle
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.core import Pool, TileCore
from tilewright.sim.dataflows.gemm_costs import GemmCosts
from tilewright.sim.dataflows.spans import Span, spans
from tilewright.sim.mapping import Dataflow, Parameter, Phase, Tiling, register, tile_sizes
from tilewright.sim.result import LowerBound
from tilewright.units import bits_to_bytes, ceil_div, exact
from tilewright.workloads.gemm import GemmLayer

MOST_SIZES = 12  # candidates per extent
MOST_DEPTHS_OF_K = 5
MOST_PARTS_OF_A_ROW = 3


class GemmCore(TileCore[GemmCosts]):
    """A core as a product's lowering sees it."""

    layer: GemmLayer


def lower(core: GemmCore, tiling: Tiling) -> None:
    """The loop nest: groups, kept operand's tiles, streamed operand's tiles, k."""
    layer = core.layer
    nest = _Nest(core, tiling)
    core.declared()
    outer, inner = ((layer.m, "m"), (layer.n, "n")) if nest.keep_a else ((layer.n, "n"), (layer.m, "m"))
    for group in core.loop(core.n_groups, name="groups"):
        for o in spans(core, outer[0], nest.tile[outer[1]], LOOP_NAMES[outer[1]]):
            for i in spans(core, inner[0], nest.tile[inner[1]], LOOP_NAMES[inner[1]]):
                for k in spans(core, layer.k, nest.tile["k"], "k"):
                    step = Step(group, o, i, *((o, i) if nest.keep_a else (i, o)), k)
                    nest.load(step)
                    nest.multiply(step)
                nest.finish(step)


def first_weight_tiles(layer: GemmLayer, tiling: Tiling) -> tuple[tuple[int, int], ...]:
    """(depth, columns) of the tiles of B that ``prefetched=1`` finds on chip: the first panel, or the first tile."""
    depth, columns = min(tiling["k"], layer.k), min(tiling["n"], layer.n)
    if tiling["order"] == 0:
        return ((depth, columns),)
    whole, rest = divmod(layer.k, depth)
    return ((depth, columns),) * whole + (((rest, columns),) if rest else ())


LOOP_NAMES = {"m": "rows", "n": "columns"}


class Step(NamedTuple):
    """One tile of the product: where the outer, inner and k loops stand."""

    group: int
    outer: Span
    inner: Span
    rows: Span
    columns: Span
    k: Span


class _Nest:
    """The pools of a tiling and the commands of its steps."""

    def __init__(self, core: GemmCore, tiling: Tiling) -> None:
        layer, costs = core.layer, core.costs
        self.core = core
        self.keep_a = tiling["order"] == 0
        self.tile = {name: min(tiling[name], getattr(layer, name)) for name in ("m", "n", "k")}
        self.prefetched = bool(tiling["prefetched"]) and core.n_groups == 1
        m, n, k = (self.tile[name] for name in ("m", "n", "k"))
        n_rows, n_columns, panel = ceil_div(layer.m, m), ceil_div(layer.n, n), ceil_div(layer.k, k)
        # Never more slots than tiles that pass through them. Loads come in order, so the streamed operand's slots
        # limit how far they run ahead: the next panel needs slots of its own only where they reach beyond a panel.
        n_panels, n_inner = (n_rows, n_columns) if self.keep_a else (n_columns, n_rows)
        beyond = max(0, tiling["depth"] - panel) if layer.groups * n_panels > 1 else 0
        kept = min(panel + (beyond if n_inner == 1 else min(beyond, panel)), layer.groups * n_panels * panel)
        n_outputs = layer.groups * n_rows * n_columns
        streamed, outputs = min(tiling["depth"], n_outputs * panel), min(2, n_outputs)
        there = len(first_weight_tiles(layer, tiling)) if self.prefetched else 0
        a_bytes, b_bytes = costs.a_bytes(m, k), costs.b_bytes(k, n)
        if self.keep_a:
            self.kept = core.pool("A panel", slots=kept, slot_bytes=a_bytes)
            self.streamed = core.pool("B", slots=streamed, slot_bytes=b_bytes, filled=there)
        else:
            self.kept = core.pool("B panel", slots=kept, slot_bytes=b_bytes, filled=there)
            self.streamed = core.pool("A", slots=streamed, slot_bytes=a_bytes)
        self.c = core.pool("C", slots=outputs, slot_bytes=costs.c_bytes(m, n))
        self.done = core.semaphore("C finished") if layer.fused.operations else self.c.full
        self.extra: Pool | None = None
        if layer.fused.extra_bits:
            self.extra = core.pool("fused input", slots=outputs, slot_bytes=costs.extra_bytes(m, n))

    def load(self, step: Step) -> None:
        """The kept operand's tile at its first use, then the streamed one's; not the weights that are there."""
        first_panel = self.prefetched and step.outer.first and step.inner.first
        a_pool, b_pool = (self.kept, self.streamed) if self.keep_a else (self.streamed, self.kept)
        load_a = step.inner.first or not self.keep_a
        load_b = step.inner.first or self.keep_a
        if first_panel and (step.k.first or not self.keep_a):
            load_b = False
        loads = ((load_a, self._load_a, a_pool), (load_b, self._load_b, b_pool))
        for wanted, load, pool in loads if self.keep_a else reversed(loads):
            if wanted:
                load(step, pool)

    def _load_a(self, step: Step, pool: Pool) -> None:
        work = self.core.costs.load_a(step.rows, step.k, row_tile=self.tile["m"], depth_tile=self.tile["k"])
        run = ("load_a", step)
        self.core.load(work, waits=[pool.free], signals=[pool.full], label="load A", run=run)

    def _load_b(self, step: Step, pool: Pool) -> None:
        work = self.core.costs.load_b(step.k.size, step.columns.size)
        run = ("load_b", step)
        self.core.load(work, waits=[pool.free], signals=[pool.full], label="load B", run=run)

    def multiply(self, step: Step) -> None:
        """One tile of the product; the kept operand is waited for at its first use and given up at its last."""
        kept, streamed, c, k = self.kept, self.streamed, self.c, step.k
        self.core.matrix(
            self.core.costs.multiply(step.rows.size, k.size, step.columns.size, add_to=not k.first),
            waits=[
                streamed.full,
                *((kept.full,) if step.inner.first else ()),
                *((c.free,) if k.first else ()),
            ],
            signals=[
                streamed.free,
                *((kept.free,) if step.inner.last else ()),
                *((c.full,) if k.last else ()),
            ],
            label="A B",
            run=("multiply", step),
        )

    def finish(self, step: Step) -> None:
        """Fused vector work, then the store; without such work the accumulators are stored as they are."""
        core, costs, c, extra = self.core, self.core.costs, self.c, self.extra
        rows, columns = step.rows.size, step.columns.size
        if extra is not None:
            last = len(core.layer.fused.extra_bits) - 1
            for number in range(last + 1):
                core.load(
                    costs.load_extra(number, rows, columns),
                    waits=[extra.free] if number == 0 else [],
                    signals=[extra.full] if number == last else [],
                    label="load fused input",
                    run=("load_extra", step, number),
                )
        if core.layer.fused.operations:
            core.vector(
                costs.epilogue(rows, columns),
                waits=[c.full, *((extra.full,) if extra is not None else ())],
                signals=[self.done, *((extra.free,) if extra is not None else ())],
                label="fused work",
                run=("fused", step),
            )
        core.store(
            costs.store_c(rows, columns), waits=[self.done], signals=[c.free], label="store C", run=("store_c", step)
        )


# -- space and bound ---------------------------------------------------------------------------------------


def _row_tiles(layer: GemmLayer, machine: MachineSpec) -> tuple[int, ...]:
    """Whole output rows of a convolution, so that the slab has no ragged ends; equal parts of one when it is long."""
    granule = machine.matrix.rows
    if layer.window is None or layer.m <= layer.window.out_width:
        return tile_sizes(layer.m, granule, most=MOST_SIZES)
    width = layer.window.out_width
    parts = [size for size in tile_sizes(width, granule, most=width) if size < width and width % size == 0]
    few = dict.fromkeys([*parts[: MOST_PARTS_OF_A_ROW - 1], *parts[-1:]])
    return (*tile_sizes(layer.m, width, most=MOST_SIZES), *few)


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
    elements = machine.matrix.n_multipliers * machine.n_cores
    groups, m, n = layer.before_cut
    outputs = groups * m * n
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
            "weights lie in DRAM in the order in which their tiles are read; activations row by row, those of a "
            "grouped convolution group by group",
            "a convolution loads the input slab of its output tile, halo included, and unrolls it on the way "
            "into the array",
            "sums are kept in the working buffer as wide as they are summed (int32 behind whole numbers, fp32 behind "
            "floating point) and become narrower on their way out at no cost",
        ),
        operator="gemm",
        costs=GemmCosts,
        bound=gemm_bound,
    )
)
