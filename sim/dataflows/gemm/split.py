"""Products whose sum is split over cores: each makes partial sums of a part of k, and all add up a share of them.

Two phases. The first is a product of its own for every part of k, whose sums go to a level that the cores share, where
one has room for all of them, else to the DRAM. In the second every core adds up, for its share of the columns, the
partial sums of all parts, does the fused work and stores the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tilewright.hw_models.links import multicasts
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.gemm.costs import GemmCosts
from tilewright.sim.dataflows.gemm.floor import work_floor
from tilewright.sim.dataflows.gemm.lower import ASSUMPTIONS, GemmCore, lower
from tilewright.sim.dataflows.gemm.space import STAGED_PARAMETERS, distinct_stagings, is_distinct_staging
from tilewright.sim.dataflows.spans import Span, spans
from tilewright.sim.engine.program import Channel
from tilewright.sim.lowering.core import Pool
from tilewright.sim.lowering.costs import Work
from tilewright.sim.lowering.levels import channels_of, levels_of
from tilewright.sim.lowering.mapping import Dataflow, Parameter, Phase, Tiling, register, tile_sizes
from tilewright.units import bits_to_bytes, ceil_div
from tilewright.workloads.gemm import NOTHING_FUSED, GemmLayer
from tilewright.workloads.homes import DRAM, Place

__all__ = ["SPLIT", "SplitCosts", "home_of_sums"]

MOST_ROWS = 8  # candidates for the rows of a tile that is added up


class SplitCosts(GemmCosts):
    """Costs of the tiles of partial products (``layer``: with plain sums as its result), and of adding them up.

    ``last``: the costs of the result itself, with what is fused into it. ``columns``: of a core's share of a piece.
    """

    def __init__(self, layer: GemmLayer, machine: MachineSpec) -> None:
        split = layer.split
        assert split is not None
        homes = layer.homes._replace(out=home_of_sums(layer, machine), extras=())
        super().__init__(
            replace(layer, out_bits=layer.accumulator_bits, fused=NOTHING_FUSED, homes=homes, split=None), machine
        )
        self.last = GemmCosts(replace(layer, split=None), machine)
        self.n_parts, self.columns = split.n_parts, ceil_div(layer.n, split.n_parts)

    def load_sums(self, rows: int) -> Work:
        """Partial sums of one part of k for some rows of a share."""
        layer = self.layer
        gap = self._gap(self.columns, layer.before_cut.n)
        return self.load(rows, self.columns, layer.accumulator_bits, stride_elements=gap, home=layer.homes.out)

    def add_sums(self, rows: int) -> Work:
        """Adding them to the sums in the working buffer."""
        n, bits = rows * self.columns, self.layer.accumulator_bits
        return self.vector((("add", n),), reads_bits=2 * n * bits, writes_bits=n * bits)

    def sums_bytes(self, rows: int) -> int:
        """Room that they take."""
        return bits_to_bytes(rows * self.columns * self.layer.accumulator_bits)


def home_of_sums(layer: GemmLayer, machine: MachineSpec) -> Place:
    """The nearest level that cores share with room for all partial sums, else the DRAM."""
    n_bytes = bits_to_bytes(layer.groups * layer.m * layer.n * layer.accumulator_bits)
    found = (level.name for level in levels_of(machine) if level.is_shared and level.capacity_bytes >= n_bytes)
    return next(found, DRAM)


class SplitCore(GemmCore):
    """A core that also adds up partial sums, which lie in a level for all cores."""

    @classmethod
    def channels(cls, costs: GemmCosts, tiling: Mapping[str, int]) -> tuple[Channel, ...]:
        if isinstance(costs, SplitCosts) and any(costs.last.layer.homes[:3]):
            return channels_of(costs.machine)
        return super().channels(costs, tiling)

    def stage_sums(self) -> None:
        """Take the room of all partial sums."""
        layer = self.layer
        if layer.homes.out != DRAM:
            self.stage(layer.homes.out, bits_to_bytes(layer.groups * layer.m * layer.n * layer.accumulator_bits))


def lower_parts(core: SplitCore, tiling: Tiling) -> None:
    """The product of every part of k."""
    core.stage_sums()
    lower(core, tiling)


def lower_sums(core: SplitCore, tiling: Tiling) -> None:
    """Row block by row block of a share: the partial sums of all parts in turn, fused work, store."""
    costs = core.costs
    assert isinstance(costs, SplitCosts)
    core.stage_sums()
    adder = _Adder(core, costs, min(tiling["sum_rows"], costs.layer.m))
    core.declared()
    for group in core.loop(core.n_groups, name="groups"):
        for rows in spans(core, costs.layer.m, adder.rows, "rows"):
            for part in spans(core, costs.n_parts, 1, "parts of k"):
                adder.add(group, rows, part)
            adder.finish(group, rows)


class _Adder:
    """The pools of adding up, and its commands."""

    def __init__(self, core: SplitCore, costs: SplitCosts, rows: int) -> None:
        self.core, self.costs, self.rows = core, costs, rows
        n_blocks = costs.layer.groups * ceil_div(costs.layer.m, rows)
        self.parts = core.pool(
            "partial sums", slots=min(2, n_blocks * costs.n_parts), slot_bytes=costs.sums_bytes(rows), holds="sums"
        )
        self.sums = core.pool("sums", slots=min(2, n_blocks), slot_bytes=costs.sums_bytes(rows), holds="sums")
        self.extra: Pool | None = None
        if costs.last.loaded_extras:
            n_bytes = costs.last.extra_bytes(rows, costs.columns)
            self.extra = core.pool("fused input", slots=min(2, n_blocks), slot_bytes=n_bytes)
        self.done = core.semaphore("sums finished")
        self.stays = costs.last.is_near["out"]

    def add(self, group: int, rows: Span, part: Span) -> None:
        core, costs, works = self.core, self.costs, self.costs.last.through_vector_unit
        last = [self.sums.free if self.stays else self.done] if part.last and not works else []
        core.load(
            costs.load_sums(rows.size),
            waits=[self.parts.free],
            signals=[self.parts.full],
            label="load partial sums",
            run=("load_part", group, rows, part),
        )
        core.vector(
            costs.add_sums(rows.size),
            waits=[self.parts.full, *([self.sums.free] if part.first else [])],
            signals=[self.parts.free, *last],
            label="add partial sums",
            run=("add_part", group, rows, part),
        )

    def finish(self, group: int, rows: Span) -> None:
        core, costs, extra, columns = self.core, self.costs.last, self.extra, self.costs.columns
        if extra is not None:
            numbers = costs.loaded_extras
            for number in numbers:
                core.load(
                    costs.load_extra(number, rows.size, columns),
                    waits=[extra.free] if number == numbers[0] else [],
                    signals=[extra.full] if number == numbers[-1] else [],
                    label="load fused input",
                    run=("load_extra_to_added", group, rows, number),
                )
        if costs.through_vector_unit:
            core.vector(
                costs.epilogue(rows.size, columns),
                waits=[extra.full] if extra is not None else [],
                signals=[
                    self.sums.free if self.stays else self.done,
                    *((extra.free,) if extra is not None else ()),
                ],
                label="fused work",
                run=("fused_added", group, rows),
            )
        if not self.stays:
            core.store(
                costs.store_c(rows.size, columns),
                waits=[self.done],
                signals=[self.sums.free],
                label="store C",
                run=("store_added", group, rows),
            )


SUM_ROWS = Parameter(
    name="sum_rows",
    meaning="rows of a tile of partial sums that is added up",
    candidates=lambda layer, machine: tile_sizes(layer.m, 1, most=MOST_ROWS),
    largest=lambda layer: layer.m,
)


def parts(layer: GemmLayer, machine: MachineSpec) -> tuple[GemmLayer, ...]:
    """The ways to split ``layer``, where rows and columns are too few for the cores."""
    shares = multicasts(machine) or any(level.is_shared for level in levels_of(machine))
    if not shares or layer.window is not None or layer.engine is not None:
        return ()
    return layer.splits(machine.n_cores, machine.matrix.rows, machine.matrix.columns)


def no_split(layer: GemmLayer, machine: MachineSpec) -> str:
    """Why the sum of ``layer`` is not split; empty where it can be."""
    if layer.split is not None or parts(layer, machine):
        return ""
    return (
        "is for products of too few rows and columns for the cores, on machines with a level that they share or a link "
        "with multicast"
    )


SPLIT = register(
    Dataflow(
        name="split_k",
        summary="the sum over k split over cores; partial sums go through a shared level or the DRAM and are added up",
        source="split-K products of GPUs' libraries, at the memories of the machine",
        phases=(
            Phase(
                name="parts",
                parameters=STAGED_PARAMETERS,
                lower=lower_parts,
                distinct=is_distinct_staging,
                distinct_of_all=distinct_stagings,
                core=SplitCore,
                floor=work_floor,
            ),
            Phase(name="sums", parameters=(SUM_ROWS,), lower=lower_sums, core=SplitCore),
        ),
        assumptions=(
            *ASSUMPTIONS,
            "partial sums are as wide as accumulators; they are added up, the first to zeros, when all are there",
        ),
        operator="gemm",
        refusal=no_split,
        pieces=parts,
        is_native=True,
        fills_buffers=True,
        heeds_homes=True,
    )
)
