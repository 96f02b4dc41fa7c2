"""No fusion: one operator at a time, each with its own best tiling; S and P go through DRAM."""

from __future__ import annotations

from dataclasses import replace

from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.attention import parts, passes
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.lowering.mapping import Dataflow, Phase, Tiling, register
from tilewright.workloads.attention import AttentionLayer


def lower_scores(core: AttentionCore, tiling: Tiling) -> None:
    """S = Q K^T, stored tile by tile."""
    tiling = passes.prefixed(tiling, "qk")
    data = parts.Operands(core, tiling, values=False)
    rows = parts.rows_of(core.layer, tiling["query"])
    s = core.pool("S", slots=tiling["depth"], slot_bytes=core.costs.score_bytes(rows * tiling["key"]), holds="sums")
    for (block,) in core.windows(core.row_blocks(tiling["query"], tiling["key"], resident=data.resident), 1):
        core.load(
            core.costs.load_q(block.rows),
            waits=[data.q.free],
            signals=[data.q.full],
            label="load Q",
            run=("load_q", block),
        )
        for tile in core.key_tiles(block, data.key):
            if tile.fresh:
                parts.load_key(core, data, block, tile)
            parts.score_tile(core, data, block, tile, waits=[s.free], signals=[s.full])
            passes.store_tile(core, block, tile, waits=[s.full], signals=[s.free], what="S")


def lower_softmax(core: AttentionCore, tiling: Tiling) -> None:
    """P = softmax(S), row blocks of whole rows; the next block is loaded and the last one stored meanwhile."""
    tiling = passes.prefixed(tiling, "sm")
    key = tiling["key"]
    s = parts.score_pool(core, tiling, slots=tiling["depth"])
    joins = parts.joins_of(core, tiling)
    normalised = core.semaphore("P tile ready")
    for (block,) in core.windows(core.row_blocks(tiling["query"], key, resident=False), 1):
        for tile in core.key_tiles(block, key):
            waits = [s.free] if tile.first else []
            passes.load_tile(core, block, tile, waits=waits, signals=[s.full], what="S")
            joins.load(core, block, tile)
        passes.softmax_rows(core, block, key, joins, first_waits=[], tile_waits=[s.full], ready=normalised)
        passes.store_rows(core, block, key, ready=normalised, pool=s)


def lower_values(core: AttentionCore, tiling: Tiling) -> None:
    """O = P V with P from DRAM."""
    passes.values_pass(core, passes.prefixed(tiling, "pv"))


def _softmax_widths(layer: AttentionLayer, machine: MachineSpec) -> tuple[int, ...]:
    """Whole rows; under a mask also narrower pieces, so that hidden ones are not moved."""
    return (layer.key_len,) if layer.mask == "none" else parts.key_parameter().candidates(layer, machine)


def _least_width(layer: AttentionLayer, machine: MachineSpec) -> int:
    return layer.key_len if layer.mask == "none" else parts.key_parameter().least_value(layer, machine)


SOFTMAX_KEY = replace(parts.key_parameter("sm_key"), candidates=_softmax_widths, least=_least_width)

LAYERWISE = register(
    Dataflow(
        name="layerwise",
        heeds_homes=True,
        summary="one operator at a time; S and P are written to DRAM and read back",
        source="no fusion; the baseline of TileFlow and MAS-Attention",
        phases=(
            Phase(
                name="scores",
                parameters=parts.prefixed_standard("qk"),
                lower=lower_scores,
                legal=parts.legal_prefixed("qk"),
            ),
            Phase(
                name="softmax",
                parameters=(parts.query_parameter("sm_query"), SOFTMAX_KEY, parts.depth_parameter("sm_depth")),
                lower=lower_softmax,
                legal=parts.legal_prefixed("sm"),
            ),
            Phase(
                name="values",
                parameters=parts.prefixed_standard("pv"),
                lower=lower_values,
                legal=parts.legal_prefixed("pv"),
            ),
        ),
        assumptions=("an operator starts when the one before it has finished and everything is in DRAM",),
    ),
    rank=1,
)
