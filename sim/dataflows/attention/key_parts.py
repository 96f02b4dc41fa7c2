"""Attention whose keys are split over cores (flash-decoding): softmax results of parts of the keys, then merged.

Two phases. In the first every core does `flash2` over its part of the keys and leaves, for each query row, the output
before the division with the maximum and the sum of the row; these go to a level that the cores share, where one has
room for all of them, else to the DRAM. Under a mask keys are dealt to the parts in turn: then every row sees about as
many in each, whatever the mask, and all cores run the same program. In the second every core merges a share of the
rows, or of the columns where rows are too few: with m the largest of the maxima m_i, the weight of part i is
exp(m_i - m) / sum_i(exp(m_i - m) l_i). That is exact, whatever the parts: a row that sees no key of one has the maximum
minus infinity there, and so weight 0. A sink joins there, as a part with its logit as maximum, sum 1 and no output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tilewright.hw_models.links import multicasts
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.attention import online, parts
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.dataflows.attention.costs import AttentionCosts
from tilewright.sim.dataflows.attention.flash2_steps import lower_steps
from tilewright.sim.dataflows.spans import Span, spans
from tilewright.sim.engine.program import Channel
from tilewright.sim.lowering.costs import Work
from tilewright.sim.lowering.levels import channels_of, levels_of
from tilewright.sim.lowering.mapping import Dataflow, Parameter, Phase, Tiling, register, tile_sizes
from tilewright.units import bits_to_bytes, ceil_div
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.homes import DRAM, Place

__all__ = ["FLASH_DECODING", "KeyPartsCosts", "home_of_parts"]

MOST_ROWS = 4  # candidates for the rows that are merged at a time
ROW_SUMS = 2  # values of a row beside its output: maximum and sum


class KeyPartsCosts(AttentionCosts):
    """Costs of the partial results (``layer``: without sinks, its output as wide as sums), and of merging them.

    ``last``: costs of the result itself. ``rows``, ``columns``: of a piece's share of what is merged.
    """

    def __init__(self, layer: AttentionLayer, machine: MachineSpec) -> None:
        homes = layer.homes._replace(out=home_of_parts(layer, machine))
        super().__init__(replace(layer, sinks=False, homes=homes), machine)
        self.last = AttentionCosts(layer, machine)
        self.n_parts = layer.key_parts
        self.all_rows = rows_of_group(layer)
        self.row_shares = max(n for n in range(1, self.n_parts + 1) if self.n_parts % n == 0 and n <= self.all_rows)
        self.rows = ceil_div(self.all_rows, self.row_shares)
        self.columns = ceil_div(layer.value_dim, self.n_parts // self.row_shares)

    def store_part(self, rows: int) -> Work:
        """Undivided output of some rows for one part of the keys."""
        return self._move_sums("store", rows, self.layer.value_dim, self.layer.value_dim)

    def store_row_sums(self, rows: int) -> Work:
        """Their maxima and sums."""
        return self._move_sums("store", rows, ROW_SUMS, ROW_SUMS)

    def load_part(self, rows: int) -> Work:
        """A share's columns of some rows, of one part."""
        return self._move_sums("load", rows, self.columns, self.layer.value_dim)

    def load_row_sums(self, rows: int) -> Work:
        """Maxima and sums of some rows, of all parts."""
        n_values = rows * ROW_SUMS
        return self._move_sums("load", self.n_parts, n_values, self.all_rows * ROW_SUMS)

    def _move_sums(self, way: str, n_runs: int, width: int, of: int) -> Work:
        move = self.load if way == "load" else self.store
        bits, home = self.accumulator_bits, self.layer.homes.out
        if width == of:
            return move(1, n_runs * width, bits, home=home)
        return move(n_runs, width, bits, stride_elements=of, home=home)

    def weigh(self, rows: int) -> Work:
        """The weights of all parts for some rows, in place of their maxima and sums."""
        sinks = self.last.layer.sinks
        n, each = rows * self.n_parts, rows * (self.n_parts + sinks)
        bits = n * ROW_SUMS * self.accumulator_bits
        return self.vector(
            (("max", each), ("sub", each), ("exp", each), ("mul", n), ("add", each), ("div", n)),
            reads_bits=bits + rows * sinks * self.last.sink_bits,
            writes_bits=n * self.accumulator_bits,
        )

    def add_part(self, rows: int, *, first: bool) -> Work:
        """A part's output, times its weights, to the sums."""
        n, bits = rows * self.columns, self.accumulator_bits
        operations = (("mul", n),) if first else (("mul", n), ("add", n))
        reads = (n if first else 2 * n) + rows
        return self.vector(operations, reads_bits=reads * bits, writes_bits=n * bits)

    def store_merged(self, rows: int) -> Work:
        """Some rows of a share of the result to its home."""
        width = self.layer.value_dim
        stride = 0 if self.columns == width else width
        runs, run = (1, rows * width) if not stride else (rows, self.columns)
        return self.store(runs, run, self.output_bits, stride_elements=stride, home=self.last.layer.homes.out)


def rows_of_group(layer: AttentionLayer) -> int:
    """Query rows of all the heads that share a key/value head of ``layer``."""
    return layer.queries_per_kv_head * layer.query_len


def bytes_of_parts(layer: AttentionLayer) -> int:
    """Room that all partial results take."""
    n_rows = layer.n_groups * rows_of_group(layer)
    return bits_to_bytes(n_rows * (layer.value_dim + ROW_SUMS) * layer.accumulator_bits)


def home_of_parts(layer: AttentionLayer, machine: MachineSpec) -> Place:
    """The nearest level that cores share with room for all partial results, else the DRAM."""
    n_bytes = bytes_of_parts(layer)
    found = (level.name for level in levels_of(machine) if level.is_shared and level.capacity_bytes >= n_bytes)
    return next(found, DRAM)


class KeyPartsCore(AttentionCore):
    """A core whose partial results lie in a level for all cores."""

    @classmethod
    def channels(cls, costs: AttentionCosts, tiling: Mapping[str, int]) -> tuple[Channel, ...]:
        if isinstance(costs, KeyPartsCosts) and any(costs.last.layer.homes[:4]):
            return channels_of(costs.machine)
        return super().channels(costs, tiling)

    def stage_parts(self) -> None:
        """Take the room of all partial results."""
        if self.layer.homes.out != DRAM:
            self.stage(self.layer.homes.out, bytes_of_parts(self.layer))


def lower_parts(core: KeyPartsCore, tiling: Tiling) -> None:
    """Every part of the keys; of a layer that is not split, all of it."""
    if not isinstance(core.costs, KeyPartsCosts):
        lower_steps(core, tiling)
        return
    core.stage_parts()
    lower_steps(core, tiling, _store_sums)


def _store_sums(core: AttentionCore, data: online.OnlineData, step: online.Step, signals: Sequence[int]) -> None:
    costs = core.costs
    assert isinstance(costs, KeyPartsCosts)
    core.store(
        costs.store_part(step.rows), waits=[data.o.full], label="store part of O", run=("store_undivided_rows", step)
    )
    core.store(
        costs.store_row_sums(step.rows),
        signals=[data.o.free, *signals],
        label="store maxima and sums",
        run=("store_row_sums", step),
    )


def lower_merge(core: KeyPartsCore, tiling: Tiling) -> None:
    """Row block by row block of a share: weights of all parts, then their outputs in turn, store."""
    costs = core.costs
    if not isinstance(costs, KeyPartsCosts):
        core.declared()
        return
    core.stage_parts()
    merger = _Merger(core, costs, min(tiling["merge_rows"], costs.rows))
    core.declared()
    merger.load_sinks()
    for group in core.loop(core.n_groups, name="groups"):
        for rows in spans(core, costs.rows, merger.rows, "rows"):
            merger.weigh(group, rows)
            for part in spans(core, costs.n_parts, 1, "parts of the keys"):
                merger.add(group, rows, part)
            merger.finish(group, rows)


class _Merger:
    """The pools of merging, and its commands."""

    def __init__(self, core: KeyPartsCore, costs: KeyPartsCosts, rows: int) -> None:
        self.core, self.costs, self.rows = core, costs, rows
        n_blocks = costs.layer.n_groups * ceil_div(costs.rows, rows)
        n_bytes = costs.accumulator_bytes(rows * costs.columns)
        self.sums = core.pool(
            "maxima and sums",
            slots=min(2, n_blocks),
            slot_bytes=costs.accumulator_bytes(rows * costs.n_parts * ROW_SUMS),
            holds="sums",
        )
        self.parts = core.pool("part of O", slots=min(2, n_blocks * costs.n_parts), slot_bytes=n_bytes, holds="sums")
        self.merged = core.pool("O", slots=min(2, n_blocks), slot_bytes=n_bytes, holds="sums")
        self.has_sinks = costs.last.layer.sinks
        if self.has_sinks:
            core.reserve("sinks", costs.last.sink_bytes)

    def load_sinks(self) -> None:
        """Before anything else: loads run in order."""
        if self.has_sinks:
            work = self.costs.last.load_sinks(self.core.n_groups)
            self.core.load(work, label="load sinks", run=("load_sinks_to_merge",))

    def weigh(self, group: int, rows: Span) -> None:
        core, costs = self.core, self.costs
        core.load(
            costs.load_row_sums(rows.size),
            waits=[self.sums.free],
            signals=[self.sums.full],
            label="load maxima and sums",
            run=("load_sums_of_parts", group, rows),
        )
        core.vector(
            costs.weigh(rows.size),
            waits=[self.sums.full],
            label="weights of parts",
            run=("weigh_parts", group, rows),
        )

    def add(self, group: int, rows: Span, part: Span) -> None:
        core, costs = self.core, self.costs
        core.load(
            costs.load_part(rows.size),
            waits=[self.parts.free],
            signals=[self.parts.full],
            label="load part of O",
            run=("load_part_of_o", group, rows, part),
        )
        core.vector(
            costs.add_part(rows.size, first=part.first),
            waits=[self.parts.full, *([self.merged.free] if part.first else [])],
            signals=[self.parts.free, *([self.merged.full, self.sums.free] if part.last else [])],
            label="add part of O",
            run=("add_part_of_o", group, rows, part),
        )

    def finish(self, group: int, rows: Span) -> None:
        self.core.store(
            self.costs.store_merged(rows.size),
            waits=[self.merged.full],
            signals=[self.merged.free],
            label="store O",
            run=("store_merged", group, rows),
        )


def _share_rows(layer: AttentionLayer) -> int:
    """Rows of a share; at most, for a layer that is not split."""
    return ceil_div(rows_of_group(layer), min(layer.key_parts, rows_of_group(layer)))


MERGE_ROWS = Parameter(
    name="merge_rows",
    meaning="rows whose partial results are merged at a time",
    candidates=lambda layer, machine: tile_sizes(_share_rows(layer), 1, most=MOST_ROWS),
    largest=rows_of_group,
)


def key_pieces(layer: AttentionLayer, machine: MachineSpec) -> tuple[AttentionLayer, ...]:
    """The ways to split the keys of ``layer`` over the cores."""
    shares = multicasts(machine) or any(level.is_shared for level in levels_of(machine))
    if not shares or layer.engine is not None:
        return ()
    return layer.with_plain_mask().key_cuts(machine.n_cores)


def no_parts(layer: AttentionLayer, machine: MachineSpec) -> str:
    """Why the keys of ``layer`` are not split; empty where they can be."""
    if layer.key_parts > 1 or key_pieces(layer, machine):
        return ""
    return (
        "is for layers of fewer heads than cores, without a bias or lists of blocks, on machines with a level that "
        "cores share or a link with multicast"
    )


FLASH_DECODING = register(
    Dataflow(
        name="flash_decoding",
        summary="flash2 with the keys split over cores; partial results are merged through a shared level or the DRAM",
        source="Flash-Decoding (crfm.stanford.edu/2023/10/12/flashdecoding.html), at the memories of the machine",
        phases=(
            Phase(name="parts", parameters=parts.STANDARD, lower=lower_parts, legal=parts.legal, core=KeyPartsCore),
            Phase(name="merge", parameters=(MERGE_ROWS,), lower=lower_merge, core=KeyPartsCore),
        ),
        assumptions=(
            "the running output is kept on chip and corrected once per key tile",
            "partial outputs, maxima and sums are as wide as running sums; they are merged when all are there",
        ),
        refusal=no_parts,
        pieces=key_pieces,
        heeds_homes=True,
    ),
    rank=10,
)
