"""FLAT (arXiv 2107.06419): S and P of one row block stay on chip, whole key rows, three-pass softmax.

For each block: Q K^T, softmax, P V. With ``overlap=0`` (the baseline of MAS-Attention's comparison) these run
one after the other and only the loads run ahead; with ``overlap=1`` the matrix work of one block overlaps the
vector work of its neighbour, as FuseMax's study of FLAT assumes.

Granularity: ``query`` below a head's rows is FLAT's R, equal to them is H; ``heads`` head blocks taken
together give B (a batch entry's heads) and M (all).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.attention import parts
from tilewright.sim.dataflows.attention.blocks import Repeat, RowBlock
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.dataflows.attention.joins import Joins
from tilewright.sim.lowering.mapping import Dataflow, Parameter, Phase, Tiling, register
from tilewright.workloads.attention import AttentionLayer


class Heads(NamedTuple):
    """The unit that goes through the three stages as a whole: one row block, or some whole heads."""

    times: int
    blocks: tuple[RowBlock, ...]


def lower(core: AttentionCore, tiling: Tiling) -> None:
    """One row block (or some whole heads) after the other; with overlap, two at a time."""
    data = parts.Operands(core, tiling)
    heads, overlap = tiling["heads"], tiling["overlap"]
    s = parts.score_pool(core, tiling, slots=heads * (2 if overlap else 1))
    joins = parts.joins_of(core, tiling)
    scores_made = core.semaphore("S rows ready")
    softmax_done = core.semaphore("P rows ready")
    units = _units(core, tiling)
    for window in core.windows(units, 2 if overlap else 1):
        new, old = window[0], window[-1]
        if overlap and old is not None:
            _load_bias(core, joins, old)
        if new is not None:
            for block, _, last in _members(core, new):
                done = [scores_made] if last or overlap else []
                parts.scores_stage(core, data, block, first_waits=[s.free], last_signals=done)
        if old is not None:
            if not overlap:
                _load_bias(core, joins, old)
            for block, first, last in _members(core, old):
                begin = [scores_made] if first or overlap else []
                done = [softmax_done] if last or overlap else []
                parts.softmax_stage(core, block, data.key, joins, first_waits=begin, last_signals=done)
            for block, first, _ in _members(core, old):
                begin = [softmax_done] if first or overlap else []
                parts.values_stage(core, data, block, first_waits=begin, last_signals=[s.free])


def _load_bias(core: AttentionCore, joins: Joins, unit: Heads | RowBlock) -> None:
    if joins.bias is not None:
        for block, _, _ in _members(core, unit):
            joins.load_row(core, block)


def _units(core: AttentionCore, tiling: Tiling) -> tuple[Repeat | Heads | RowBlock, ...]:
    """The row blocks; or whole heads in groups of ``heads``, the last group with what is left on this core."""
    blocks = core.row_blocks(tiling["query"], tiling["key"], resident=bool(tiling["resident"]))
    heads = tiling["heads"]
    if heads == 1:
        return blocks
    if not _whole_heads(core.layer, tiling):
        raise InputError(
            f'tile "heads": {heads} heads at a time need query={core.layer.query_len} (whole heads), resident=0 '
            "and a layer without a mask"
        )
    if core.unroll:
        groups = [blocks[i : i + heads] for i in range(0, len(blocks), heads)]
        return tuple(Heads(len(group), group) for group in groups)
    (repeat,) = blocks
    full, left = divmod(repeat.times, heads)
    units: list[Repeat | Heads] = [Repeat(full, (Heads(heads, repeat.body),), "head group")] if full else []
    return (*units, *([Heads(left, repeat.body)] if left else []))


def _members(core: AttentionCore, unit: Heads | RowBlock) -> Iterator[tuple[RowBlock, bool, bool]]:
    """(block, first of the unit, last of the unit): a stage starts when the one before has done the whole unit."""
    if isinstance(unit, RowBlock):
        yield unit, True, True
    elif core.unroll or unit.times == 1:
        for i, block in enumerate(unit.blocks):
            yield block, i == 0, i == unit.times - 1
    else:
        block = unit.blocks[0]
        if unit.times == 1:
            yield block, True, True
            return
        yield block, True, False
        for _ in core.loop(unit.times - 2, name="heads of the group"):
            yield block, False, False
        yield block, False, True


def _head_groups(layer: AttentionLayer, machine: MachineSpec) -> tuple[int, ...]:
    """1 (granularity R or H), a batch entry's heads (B), all heads (M)."""
    if layer.mask != "none":
        return (1,)
    return tuple(dict.fromkeys([1, layer.query_heads, layer.batch * layer.query_heads]))


def _whole_heads(layer: AttentionLayer, tiling: Tiling) -> bool:
    """Whether every row block is one head, like all the others."""
    return tiling["query"] == layer.query_len and layer.mask == "none" and not tiling["resident"]


def _legal(layer: AttentionLayer, tiling: Tiling) -> bool:
    if tiling["heads"] > 1:
        total = layer.batch * layer.query_heads
        return _whole_heads(layer, tiling) and total % tiling["heads"] == 0 and tiling["heads"] <= total
    return parts.legal(layer, tiling)


HEADS = Parameter(
    name="heads",
    meaning="whole heads that go through the stages together (1: FLAT's R or H, more: B or M)",
    candidates=_head_groups,
    largest=lambda layer: layer.batch * layer.query_heads,
)

OVERLAP = Parameter(
    name="overlap",
    meaning="1 overlaps matrix and vector work of neighbouring blocks, 0 runs the stages one after the other",
    candidates=lambda layer, machine: (0,),
    smallest=0,
    largest=lambda layer: 1,
)

FLAT = register(
    Dataflow(
        name="flat",
        heeds_homes=True,
        summary="one row block at a time: Q K^T, softmax, P V one after the other, loads ahead",
        source="FLAT, arXiv 2107.06419 (ASPLOS 2023)",
        phases=(Phase(name="attention", parameters=(*parts.STANDARD, HEADS, OVERLAP), lower=lower, legal=_legal),),
        assumptions=("matrix and vector work of different blocks do not overlap unless overlap=1",),
    ),
    rank=3,
)
