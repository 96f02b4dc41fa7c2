"""Matrix products and convolutions (as implicit GEMM), with vector work fused behind them.

One operand's panel stays on chip while the other is streamed past it, or neither does:

* ``order=0`` keeps the A panel of a row tile (all of k) for every column tile; B is streamed.
* ``order=1`` keeps the B panel of a column tile for every row tile; A is streamed.
* ``order=2`` keeps only the sums of an output tile; tiles of A and of B are streamed past them (output-stationary).

Inside, k is accumulated tile by tile, in the accumulators' format; partial sums never leave the chip. (To store them in
DRAM, add and load again cannot be the best here: a sum is at least as wide as either operand, and it would be moved
twice for each time that ``order=2`` moves an operand's tile once; the tile that it would make room for saves less.)
Loads run ahead by ``depth`` tiles. With two ``outputs`` the fused vector work and the store of one output tile overlap
the products of the next.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from tilewright.hw_models.dram import bytes_per_cycle
from tilewright.hw_models.matrix_unit import no_rate
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.gemm.costs import GemmCosts, vector_operations
from tilewright.sim.dataflows.gemm.floor import work_floor
from tilewright.sim.dataflows.gemm.space import KEEPS_A, KEEPS_B, PARAMETERS, is_distinct
from tilewright.sim.dataflows.spans import Span, spans
from tilewright.sim.lowering.core import Pool, TileCore
from tilewright.sim.lowering.family import Family, register_family
from tilewright.sim.lowering.mapping import Dataflow, Phase, Tiling, register
from tilewright.sim.result import LowerBound
from tilewright.units import bits_to_bytes, ceil_div, exact
from tilewright.workloads.gemm import GemmLayer


class GemmCore(TileCore[GemmCosts]):
    """A core as a product's lowering sees it."""

    layer: GemmLayer


def lower(core: GemmCore, tiling: Tiling) -> None:
    """The loop nest: groups, kept operand's tiles, streamed operand's tiles, k."""
    layer = core.layer
    nest = _Nest(core, tiling)
    core.declared()
    outer, inner = ((layer.n, "n"), (layer.m, "m")) if nest.keep_b else ((layer.m, "m"), (layer.n, "n"))
    for group in core.loop(core.n_groups, name="groups"):
        for o in spans(core, outer[0], nest.tile[outer[1]], LOOP_NAMES[outer[1]]):
            for i in spans(core, inner[0], nest.tile[inner[1]], LOOP_NAMES[inner[1]]):
                for k in spans(core, layer.k, nest.tile["k"], "k"):
                    step = Step(group, o, i, *((i, o) if nest.keep_b else (o, i)), k)
                    nest.load(step)
                    nest.multiply(step)
                nest.finish(step)


def first_weight_tiles(layer: GemmLayer, tiling: Tiling) -> tuple[tuple[int, int], ...]:
    """(depth, columns) of the tiles of B that ``prefetched=1`` finds on chip: the first panel, or the first tile."""
    depth, columns = min(tiling["k"], layer.k), min(tiling["n"], layer.n)
    if tiling["order"] != KEEPS_B:
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
        self.keep_a, self.keep_b = (tiling["order"] == kept for kept in (KEEPS_A, KEEPS_B))
        self.tile = {name: min(tiling[name], getattr(layer, name)) for name in ("m", "n", "k")}
        self.prefetched = bool(tiling["prefetched"]) and core.n_groups == 1
        m, n, k = (self.tile[name] for name in ("m", "n", "k"))
        n_rows, n_columns, panel = ceil_div(layer.m, m), ceil_div(layer.n, n), ceil_div(layer.k, k)
        n_outputs = layer.groups * n_rows * n_columns
        # Never more slots than tiles that pass through them.
        streamed, outputs = min(tiling["depth"], n_outputs * panel), min(tiling["outputs"], n_outputs)
        there = len(first_weight_tiles(layer, tiling)) if self.prefetched else 0
        a_slots = self._kept_slots(tiling, n_rows, n_columns, panel) if self.keep_a else streamed
        b_slots = self._kept_slots(tiling, n_columns, n_rows, panel) if self.keep_b else streamed
        a_name, b_name = "A panel" if self.keep_a else "A", "B panel" if self.keep_b else "B"
        self.a = core.pool(a_name, slots=a_slots, slot_bytes=costs.a_bytes(m, k))
        self.b = core.pool(b_name, slots=b_slots, slot_bytes=costs.b_bytes(k, n), filled=there)
        self.c = core.pool("C", slots=outputs, slot_bytes=costs.c_bytes(m, n))
        self.done = core.semaphore("C finished") if costs.operations else self.c.full
        self.extra: Pool | None = None
        if layer.fused.extra_bits:
            self.extra = core.pool("fused input", slots=outputs, slot_bytes=costs.extra_bytes(m, n))

    def _kept_slots(self, tiling: Tiling, n_panels: int, n_inner: int, panel: int) -> int:
        """Slots of the kept operand. Loads come in order, so the streamed operand's slots limit how far they run
        ahead: the next panel needs slots of its own only where they reach beyond a panel.
        """
        groups = self.core.layer.groups
        beyond = max(0, tiling["depth"] - panel) if groups * n_panels > 1 else 0
        return min(panel + (beyond if n_inner == 1 else min(beyond, panel)), groups * n_panels * panel)

    def load(self, step: Step) -> None:
        """A kept operand's tile at its first use, a streamed one's always; not the weights that are there."""
        load_a = step.inner.first or not self.keep_a
        load_b = step.inner.first or not self.keep_b
        if self.prefetched and step.outer.first and step.inner.first and (step.k.first or self.keep_b):
            load_b = False
        if load_b and self.keep_b:
            self._load_b(step)
        if load_a:
            self._load_a(step)
        if load_b and not self.keep_b:
            self._load_b(step)

    def _load_a(self, step: Step) -> None:
        work = self.core.costs.load_a(step.rows, step.k, row_tile=self.tile["m"], depth_tile=self.tile["k"])
        run = ("load_a", step)
        self.core.load(work, waits=[self.a.free], signals=[self.a.full], label="load A", run=run)

    def _load_b(self, step: Step) -> None:
        work = self.core.costs.load_b(step.k.size, step.columns.size)
        run = ("load_b", step)
        self.core.load(work, waits=[self.b.free], signals=[self.b.full], label="load B", run=run)

    def multiply(self, step: Step) -> None:
        """One tile of the product; a kept operand is waited for at its first use and given up at its last."""
        c, k, inner = self.c, step.k, step.inner
        # What is kept is loaded before what is streamed past it, so the latter is waited for first.
        operands = ((self.b, self.keep_b), (self.a, self.keep_a))
        if self.keep_b:
            operands = operands[::-1]
        self.core.matrix(
            self.core.costs.multiply(step.rows.size, k.size, step.columns.size, add_to=not k.first),
            waits=[
                *(pool.full for pool, kept in operands if inner.first or not kept),
                *((c.free,) if k.first else ()),
            ],
            signals=[
                *(pool.free for pool, kept in operands if inner.last or not kept),
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
        if costs.operations:
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


# -- bound -------------------------------------------------------------------------------------------------


def gemm_bound(layer: GemmLayer, machine: MachineSpec) -> LowerBound:
    """Multiply-adds at full rate, fused work over all lanes, every tensor moved once."""
    rate = machine.matrix.multiplies_per_pe_per_cycle.get(layer.compute_format)
    if rate is None:
        raise no_rate(layer.compute_format, machine.matrix.multiplies_per_pe_per_cycle, place=machine.name)
    elements = machine.matrix.n_multipliers * machine.n_cores
    groups, m, n = layer.before_cut
    outputs = groups * m * n
    per_output = sum(times * machine.vector.cycles[kind] for kind, times in vector_operations(layer.fused, machine))
    return LowerBound(
        matrix_cycles=_up(Fraction(layer.macs) / (elements * exact(rate))),
        vector_cycles=_up(Fraction(outputs * per_output, machine.vector.lanes * machine.n_cores)),
        dram_cycles=_up(bits_to_bytes(layer.compulsory_bits) / bytes_per_cycle(machine)),
    )


def _up(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


def _pieces(layer: GemmLayer, n_cores: int) -> tuple[GemmLayer, ...]:
    return layer.cuts(n_cores)


register_family(
    Family(
        operator="gemm", layer=GemmLayer, costs=GemmCosts, bound=gemm_bound, usual="gemm", core=GemmCore, pieces=_pieces
    )
)
GEMM = register(
    Dataflow(
        name="gemm",
        summary="matrix product or convolution: a panel of one operand or the sums kept, the rest streamed",
        source="the usual panel-stationary and output-stationary loop nests of systolic machines",
        phases=(
            Phase(
                name="product",
                parameters=PARAMETERS,
                lower=lower,
                distinct=is_distinct,
                floor=work_floor,
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
        ahead=first_weight_tiles,
    ),
    rank=8,
)
