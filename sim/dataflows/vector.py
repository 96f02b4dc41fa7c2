"""Element-wise work, norms, softmax, pooling and plain data movement: rows streamed through the vector unit."""

from __future__ import annotations

from fractions import Fraction

from tilewright.hw_models.dram import bytes_per_cycle
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.core import TileCore
from tilewright.sim.costs import TileCosts
from tilewright.sim.dataflows.spans import spans
from tilewright.sim.mapping import Dataflow, Parameter, Phase, Tiling, register, tile_sizes
from tilewright.sim.result import LowerBound
from tilewright.units import BITS_PER_BYTE, ceil_div
from tilewright.workloads.gemm import VectorLayer


class VectorCosts(TileCosts):
    """Costs of the row blocks of one vector operator."""

    layer: VectorLayer


class VectorCore(TileCore[VectorCosts]):
    """A core as a vector operator's lowering sees it."""

    layer: VectorLayer


def lower(core: VectorCore, tiling: Tiling) -> None:
    """Per row block: load, work in place, store; neighbouring blocks overlap."""
    layer, costs = core.layer, core.costs
    rows = min(tiling["rows"], layer.rows)
    slot_bytes = rows * max(layer.read_bytes, layer.write_bytes)
    n_blocks = layer.groups * ceil_div(layer.rows, rows)
    pool = core.pool("rows", slots=min(tiling["depth"], n_blocks), slot_bytes=max(1, slot_bytes))
    done = core.semaphore("rows done")
    core.declared()
    for _ in core.loop(core.n_groups, name="pieces"):
        for span in spans(core, layer.rows, rows, "rows"):
            n, ready = span.size, pool.full
            if layer.read_bytes:
                core.load(
                    costs.load(1, n * layer.read_bytes, BITS_PER_BYTE),
                    waits=[pool.free],
                    signals=[pool.full],
                    label="load rows",
                )
            if layer.operations or not (layer.read_bytes and layer.write_bytes):
                work = costs.vector(
                    tuple((kind, times * n) for kind, times in layer.operations),
                    reads_bits=n * layer.read_bytes * BITS_PER_BYTE,
                    writes_bits=n * layer.write_bytes * BITS_PER_BYTE,
                    reduces=layer.reduces,
                )
                core.vector(
                    work,
                    waits=[pool.full if layer.read_bytes else pool.free],
                    signals=[done if layer.write_bytes else pool.free],
                    label="vector work",
                )
                ready = done
            if layer.write_bytes:
                core.store(
                    costs.store(1, n * layer.write_bytes, BITS_PER_BYTE),
                    waits=[ready],
                    signals=[pool.free],
                    label="store rows",
                )


def vector_bound(layer: VectorLayer, machine: MachineSpec) -> LowerBound:
    """The operations over all lanes; every value moved once."""
    per_row = sum(times * machine.vector.cycles[kind] for kind, times in layer.operations)
    work = Fraction(layer.groups * layer.rows * per_row, machine.vector.lanes * machine.n_cores)
    dram = layer.compulsory_bytes / bytes_per_cycle(machine)
    return LowerBound(
        matrix_cycles=0,
        vector_cycles=-(-work.numerator // work.denominator),
        dram_cycles=-(-dram.numerator // dram.denominator),
    )


VECTOR = register(
    Dataflow(
        name="vector",
        summary="rows streamed through the vector unit",
        source="double-buffered streaming",
        phases=(
            Phase(
                name="rows",
                parameters=(
                    Parameter(
                        name="rows",
                        meaning="rows of a block",
                        candidates=lambda layer, machine: tile_sizes(layer.rows, 1, most=16),
                        largest=lambda layer: layer.rows,
                    ),
                    Parameter(
                        name="depth",
                        meaning="slots of the row buffer",
                        candidates=lambda layer, machine: (2, 3),
                        largest=lambda layer: 64,
                        changes_work=False,
                    ),
                ),
                lower=lower,
                core=VectorCore,
            ),
        ),
        assumptions=("a vector operator reads each input once and works in place; its halo, if any, stays on chip",),
        operator="vector",
        costs=VectorCosts,
        bound=vector_bound,
    )
)
