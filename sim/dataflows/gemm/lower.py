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

from collections.abc import Iterator
from fractions import Fraction
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.hw_models.dram import dram_rate
from tilewright.hw_models.links import multicasts, of_each_core
from tilewright.hw_models.matrix_unit import no_rate
from tilewright.hw_models.primitives import products_per_cycle
from tilewright.hw_models.spec import MachineSpec, Operand
from tilewright.hw_models.vector_unit import RESULTS, Passing, least_vector_cycles
from tilewright.sim.dataflows.gemm.costs import GemmCosts, vector_operations
from tilewright.sim.dataflows.gemm.engine_costs import costs_of
from tilewright.sim.dataflows.gemm.engines import engine_bound, gemm_assumptions, on_machine
from tilewright.sim.dataflows.gemm.floor import work_floor
from tilewright.sim.dataflows.gemm.screen import screen, shortlist
from tilewright.sim.dataflows.gemm.space import (
    KEEPS_A,
    KEEPS_B,
    PARAMETERS,
    STAGED_PARAMETERS,
    distinct_of_all,
    distinct_stagings,
    is_distinct,
    is_distinct_staging,
)
from tilewright.sim.dataflows.gemm.stages import n_copies, n_staging, sends, staged, stages_b
from tilewright.sim.dataflows.spans import Span, spans
from tilewright.sim.engine.program import Channel, Engine
from tilewright.sim.lowering.core import ENGINE_KINDS, LOAD, Pool, TileCore
from tilewright.sim.lowering.costs import Work
from tilewright.sim.lowering.family import Family, register_family
from tilewright.sim.lowering.levels import channels_of, levels_of, weight_memory_cycles
from tilewright.sim.lowering.mapping import Dataflow, Phase, Tiling, register
from tilewright.sim.result import LowerBound
from tilewright.units import bits_to_bytes, ceil_div, exact
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.homes import DRAM
from tilewright.workloads.vector_work import LinePixels


class GemmCore(TileCore[GemmCosts]):
    """A core as a product's lowering sees it: beside the four engines two that fetch operands into a level on chip."""

    layer: GemmLayer
    keeps_halo = False  # rows of a convolution's tile stay for the next one

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.stage_slots: dict[str, int] = {}  # of each staged operand
        self.n_staging: dict[str, int] = {}  # cores that one fetch of it serves
        self.arrived: dict[str, int] = {}  # semaphores of tiles that are with one of the cores that share them
        self.movers: dict[str, Mover] = {}  # of each operand whose fetches are written to their level one by one
        self.is_sent = False  # whether there are engines that send

    @classmethod
    def engines_for(cls, costs: GemmCosts, tiling: Tiling, n_cores: int, suffix: str = "") -> list[Engine]:
        """Four, and the fetchers where there is a level; one that serves several cores at once counts once for them."""
        engines = cls.engines(n_cores, suffix)
        engines += cls._weight_engines(costs, n_cores, suffix)
        if not costs.levels and not costs.multicasts:
            return engines
        level = staged(costs.layer, costs.levels, tiling).level
        served = {operand.upper(): n_staging(costs.n_sharing[operand], level) for operand in ("a", "b")}
        engines += [Engine(f"fetch {name}{suffix}", "load", n_cores // n) for name, n in served.items()]
        fills = [Engine(f"write {name}{suffix}", "load", n_cores // n) for name, n in served.items()]
        if level is None or not costs.fills(level):
            fills = []
        if not costs.multicasts or not tiling.get("shared", 0):
            return engines + fills
        link = costs.machine.links
        assert link is not None
        sharing = {operand.upper(): min(n_cores, costs.n_sharing[operand]) for operand in ("a", "b")}
        engines += [Engine(f"load {name} shared{suffix}", "load", n_cores // n) for name, n in sharing.items()]
        receiving = {name: n_cores if of_each_core(link) else n_cores // n for name, n in sharing.items()}
        return [*engines, *(Engine(f"send {name}{suffix}", "load", n) for name, n in receiving.items()), *fills]

    @staticmethod
    def _weight_engines(costs: GemmCosts, n_cores: int, suffix: str) -> list[Engine]:
        """A memory for weights beside the DRAM is read by an engine of its own."""
        return [] if costs.machine.weights.memory is None else [Engine(f"load weights{suffix}", "load", n_cores)]

    @property
    def own_queues(self) -> tuple[int, ...]:
        return tuple(e for e in (*super().own_queues, len(ENGINE_KINDS)) if e < self._first_mover)

    @property
    def _first_mover(self) -> int:
        """The number of the first engine behind those of a core and its memory for weights."""
        return len(ENGINE_KINDS) + (self.costs.machine.weights.memory is not None)

    def load_weights(self, work: Work, *, waits: list[int], signals: list[int], label: str, run: Any) -> None:
        """Bring a tile of weights from the memory that they come from."""
        if self._count is not None or self.layer.homes.b == DRAM or self.costs.machine.weights.memory is None:
            self.load(work, waits=waits, signals=signals, label=label, run=run)
            return
        from_memory = self.layer.homes.b == self.costs.machine.weights.memory.name
        self._transfer(len(ENGINE_KINDS) if from_memory else LOAD, work, waits, signals, label, run)

    @classmethod
    def channels(cls, costs: GemmCosts, tiling: Tiling) -> tuple[Channel, ...]:
        homes = costs.layer.homes
        on_chip = any(home not in (DRAM, costs.working.name) for home in (homes.a, homes.b, homes.out, *homes.extras))
        uses_more = on_chip or tiling.get("far", 0) or (costs.multicasts and tiling.get("shared", 0))
        return channels_of(costs.machine) if uses_more else cls.of_dram(costs)

    def fetch(
        self, operand: str, work: Work, *, waits: list[int], signals: list[int], label: str, run: Any, begins: bool
    ) -> None:
        """Bring a tile of "a" or "b" from the DRAM into a level on chip, once for the cores that share it.

        ``begins``: it is the first of a part.
        """
        mover = self.movers.get(operand)
        write = None if mover is None else self.costs.fill(mover.level, work)
        if self._count is not None:
            for one in (work, write):
                if one is not None:
                    self._count.add_shared(one, self.n_staging[operand])
            return
        at = self._first_mover + ("a", "b").index(operand)
        if mover is None or write is None:
            self._transfer(FETCH_A + at, work, waits, signals, label, run)
            return
        self._transfer(FETCH_A + at, work, [*waits, mover.free], [*signals, mover.full], label, run)
        first_fill = SEND_B + 1 if self.is_sent else FETCH_B + 1
        waits, label = [mover.full, *([mover.begin] if begins else [])], f"write {operand.upper()} to {mover.level}"
        self._transfer(first_fill + at, write, waits, [mover.free, mover.written], label, None)

    def load_shared(
        self, operand: str, works: tuple[Work, Work], *, waits: list[int], signals: list[int], run: Any
    ) -> None:
        """Bring a tile to one of the cores that share it (the first work), and send it to all of them (the second)."""
        n_cores = self.costs.n_sharing[operand]
        bring, send = works
        if self._count is not None:
            self._count.add_shared(bring, n_cores)
            link = self.costs.machine.links
            assert link is not None
            self._count.add_shared(send, 1 if of_each_core(link) else n_cores)
            return
        at, name = self._first_mover + ("a", "b").index(operand), operand.upper()
        brought = self.arrived[operand]
        self._transfer(
            SHARED_A + at, bring, waits, [brought], f"load {name} for {n_cores} cores", (f"bring_{operand}", run)
        )
        self._transfer(SEND_A + at, send, [brought], signals, f"send {name}", (f"load_{operand}", run))


class Mover(NamedTuple):
    """Between the DRAM and a level: a tile is written while it comes, not before the one before it has come.

    ``free``: slots for tiles on their way; ``full``: tiles that the DRAM has given, and the one that it gives now;
    ``begin``: slots for a part in the level; ``written``: tiles that are written there.
    """

    level: str
    free: int
    full: int
    begin: int
    written: int


TILES_ON_THEIR_WAY = 2  # in a mover
FETCH_A, FETCH_B, SHARED_A, SHARED_B, SEND_A, SEND_B = range(6)  # behind a core's own engines


def lower(core: GemmCore, tiling: Tiling) -> None:
    """The loop nest: groups, parts of what is staged, kept operand's tiles, streamed operand's tiles, k."""
    lower_nest(core, _nest_of(core, tiling))


def lower_nest(core: GemmCore, nest: Nest) -> None:
    """The loops around the commands of ``nest``."""
    layer = core.layer
    core.declared()
    for group in core.loop(core.n_groups, name="groups"):
        nest.begin(group)
        for part in nest.parts():
            extents = {"m": part.rows.size, "n": part.columns.size}
            outer, inner = ("n", "m") if nest.keep_b else ("m", "n")
            for o in spans(core, extents[outer], nest.tile[outer], LOOP_NAMES[outer]):
                for i in spans(core, extents[inner], nest.tile[inner], LOOP_NAMES[inner]):
                    for k in spans(core, layer.k, nest.tile["k"], "k"):
                        step = Step(group, o, i, *((i, o) if nest.keep_b else (o, i)), k, part)
                        nest.load(step)
                        nest.multiply(step)
                    nest.finish(step)
        nest.end(group)


def _nest_of(core: GemmCore, tiling: Tiling) -> Nest:
    if core.layer.engine is None:
        return Nest(core, tiling)
    from tilewright.sim.dataflows.gemm.engine_nest import EngineNest  # which is a nest of this kind

    return EngineNest(core, tiling)


def first_weight_tiles(layer: GemmLayer, tiling: Tiling) -> tuple[tuple[int, int], ...]:
    """(depth, columns) of the tiles of B that ``prefetched=1`` finds on chip: the first panel, or the first tile.

    None where B does not come from the DRAM tile by tile.
    """
    if layer.homes.b != DRAM or stages_b(tiling):
        return ()
    depth, columns = min(tiling["k"], layer.k), min(tiling["n"], layer.n)
    if tiling["order"] != KEEPS_B:
        return ((depth, columns),)
    whole, rest = divmod(layer.k, depth)
    return ((depth, columns),) * whole + (((rest, columns),) if rest else ())


INPUTS: Operand = "inputs"
WEIGHTS: Operand = "weights"
LOOP_NAMES = {"m": "rows", "n": "columns"}


class Part(NamedTuple):
    """A part of what is staged: where the loops over parts of the rows and of the columns stand."""

    rows: Span
    columns: Span


_ALL = Span(0, True, True)
ONLY_PART = Part(_ALL, _ALL)


class Step(NamedTuple):
    """One tile of the product: where the outer, inner and k loops stand in a part."""

    group: int
    outer: Span
    inner: Span
    rows: Span
    columns: Span
    k: Span
    part: Part = ONLY_PART

    @property
    def is_first_part(self) -> bool:
        """Whether it is in the first part of a group."""
        return self.part.rows.first and self.part.columns.first

    @property
    def is_last_part(self) -> bool:
        """Whether it is in the last part of a group."""
        return self.part.rows.last and self.part.columns.last

    @property
    def all_rows(self) -> Span:
        """The rows in the whole product, of which a part holds some."""
        return _within(self.part.rows, self.rows)

    @property
    def all_columns(self) -> Span:
        """The columns in the whole product."""
        return _within(self.part.columns, self.columns)


def _within(part: Span, tile: Span) -> Span:
    return Span(tile.size, part.first and tile.first, part.last and tile.last, part.start + tile.start)


class Nest:
    """The pools of a tiling and the commands of its steps."""

    def __init__(self, core: GemmCore, tiling: Tiling) -> None:
        layer, costs = core.layer, core.costs
        self.core = core
        self.keep_a, self.keep_b = (tiling["order"] == kept for kept in (KEEPS_A, KEEPS_B))
        self.tile = {name: min(tiling[name], getattr(layer, name)) for name in ("m", "n", "k")}
        self.staged = staged(layer, costs.levels, tiling)
        self.prefetched = bool(tiling["prefetched"]) and core.n_groups == 1
        self.near = costs.is_near
        m, n, k = (self.tile[name] for name in ("m", "n", "k"))
        n_rows, n_columns, panel = ceil_div(layer.m, m), ceil_div(layer.n, n), ceil_div(layer.k, k)
        self.n_outputs = n_outputs = layer.groups * n_rows * n_columns
        # Never more slots than tiles that pass through them.
        streamed, outputs = min(tiling["depth"], n_outputs * panel), min(tiling["outputs"], n_outputs)
        there = len(first_weight_tiles(layer, tiling)) if self.prefetched else 0
        a_slots = self._kept_slots(tiling, n_rows, n_columns, panel) if self.keep_a else streamed
        b_slots = self._kept_slots(tiling, n_columns, n_rows, panel) if self.keep_b else streamed
        a_name, b_name = "A panel" if self.keep_a else "A", "B panel" if self.keep_b else "B"
        self.a, self.b = (
            None if self.near[operand] else core.pool(name, slots=slots, slot_bytes=n_bytes, filled=filled, holds=holds)
            for operand, name, slots, n_bytes, filled, holds in (
                ("a", a_name, a_slots, costs.a_bytes(m, k), 0, INPUTS),
                ("b", b_name, b_slots, costs.b_bytes(k, n), there, WEIGHTS),
            )
        )
        self.c = core.pool("C", slots=outputs, slot_bytes=costs.c_bytes(m, n), holds="sums")
        self.done = core.semaphore("C finished") if costs.through_vector_unit else self.c.full
        self.extra: Pool | None = None
        if costs.loaded_extras:
            self.extra = core.pool("fused input", slots=outputs, slot_bytes=costs.extra_bytes(m, n))
        core.is_sent = costs.multicasts and bool(tiling.get("shared", 0))
        self.stage_a, self.stage_b = (self._stage(operand) for operand in ("a", "b"))
        self.sends = {
            operand: pool is not None and costs.multicasts and sends(tiling, costs.n_sharing[operand])
            for operand, pool in (("a", self.a), ("b", self.b))
        }
        core.arrived = {
            operand: core.semaphore(f"{operand.upper()} with one core") for operand, sent in self.sends.items() if sent
        }

    def _kept_slots(self, tiling: Tiling, n_panels: int, n_inner: int, panel: int) -> int:
        """Slots of the kept operand. Loads come in order, so the streamed operand's slots limit how far they run
        ahead: the next panel needs slots of its own only where they reach beyond a panel.
        """
        groups = self.core.layer.groups
        if self.staged.level is not None and (self.staged.rows, self.staged.columns) != (
            self.core.layer.m,
            self.core.layer.n,
        ):
            groups, n_inner = 2, 2  # parts begin anew with a panel, as groups do
        beyond = max(0, tiling["depth"] - panel) if groups * n_panels > 1 else 0
        return min(panel + (beyond if n_inner == 1 else min(beyond, panel)), groups * n_panels * panel)

    # -- what is staged ----------------------------------------------------------------------------------------

    def _stage(self, operand: str) -> Stage | None:
        """The room and the semaphores of a staged operand; None where it is loaded from its home."""
        core, what, layer = self.core, self.staged, self.core.layer
        if what.level is None or not (what.a if operand == "a" else what.b):
            return None
        n_row_parts, n_column_parts = ceil_div(layer.m, what.rows), ceil_div(layer.n, what.columns)
        stays = operand == "b" and n_column_parts == 1  # through all parts of the rows
        n_groups = ceil_div(layer.groups, core.costs.machine.n_cores)
        n_parts = n_groups * (1 if stays else n_row_parts * (n_column_parts if operand == "b" else 1))
        slots = min(2, n_parts)
        n_bytes = core.costs.staged_a_bytes(what.rows) if operand == "a" else core.costs.b_bytes(layer.k, what.columns)
        n_sharing = core.costs.n_sharing[operand]
        core.n_staging[operand] = n_staging(n_sharing, what.level)
        core.stage(what.level.name, slots * n_bytes * n_copies(layer, core.costs.machine, n_sharing, what.level))
        core.stage_slots[operand] = slots
        name = operand.upper()
        if core.costs.fills(what.level):
            core.movers[operand] = Mover(
                what.level.name,
                core.semaphore(f"mover of {name} free", TILES_ON_THEIR_WAY, is_slot=True),
                core.semaphore(f"{name} from the DRAM", 1),
                core.semaphore(f"{name} {what.level.name} slot free to write", slots, is_slot=True),
                core.semaphore(f"{name} written"),
            )
        return Stage(
            what.level.name,
            core.semaphore(f"{name} {what.level.name} slot free", slots, is_slot=True),
            core.semaphore(f"{name} in {what.level.name}"),
            stays,
        )

    def parts(self) -> Iterator[Part]:
        """The parts in turn: of the rows outside, of the columns inside."""
        core, layer = self.core, self.core.layer
        for rows in spans(core, layer.m, self.staged.rows, "row parts"):
            for columns in spans(core, layer.n, self.staged.columns, "column parts"):
                yield Part(rows, columns)

    # -- loads -------------------------------------------------------------------------------------------------

    def load(self, step: Step) -> None:
        """A kept operand's tile at its first use, a streamed one's always; not the weights that are there."""
        load_a = (step.inner.first or not self.keep_a) and self.a is not None
        load_b = (step.inner.first or not self.keep_b) and self.b is not None
        is_first = step.part.rows.first and step.part.columns.first and step.outer.first and step.inner.first
        if self.prefetched and is_first and (step.k.first or self.keep_b) and self.core.layer.homes.b == DRAM:
            load_b = self.stage_b is not None
            if not load_b:
                self._is_there_b(step)
        if load_b and self.keep_b:
            self._load_b(step)
        if load_a:
            self._load_a(step)
        if load_b and not self.keep_b:
            self._load_b(step)

    def begin(self, group: int) -> None:
        """What comes before the product of a group: nothing."""

    def end(self, group: int) -> None:
        """What comes behind it: nothing."""

    def _a_awaits(self, step: Step) -> list[int]:
        """What a tile of A waits for before it is brought from its memory."""
        return []

    def _is_there_b(self, step: Step) -> None:
        """Called in place of a load for a tile of B that was on chip from the start."""

    def _come(self, operand: str) -> int:
        """What tells that a tile of "a" or "b" can be multiplied."""
        pool = self.a if operand == "a" else self.b
        assert pool is not None
        return pool.full

    def _fetch(self, operand: str, work: Work, stage: Stage, *, waits: list[int], begins: bool, step: Step) -> None:
        label, run = f"fetch {operand.upper()}", (f"fetch_{operand}", step)
        self.core.fetch(operand, work, waits=waits, signals=[stage.full], label=label, run=run, begins=begins)

    def _has_come(self, operand: str, stage: Stage) -> list[int]:
        """What tells that a fetched tile is in its level."""
        mover = self.core.movers.get(operand)
        return [stage.full] if mover is None else [stage.full, mover.written]

    def _gives_up(self, operand: str, stage: Stage) -> list[int]:
        """What gives a part's slot in a level back."""
        mover = self.core.movers.get(operand)
        return [stage.free] if mover is None else [stage.free, mover.begin]

    def load_a_work(self, rows: Span, depth: Span) -> Work:
        """Bringing a tile of A into the working buffer, from its home or from where it is staged."""
        home, tile = None if self.stage_a is None else self.stage_a.level, self.tile
        return self.core.costs.load_a(rows, depth, row_tile=tile["m"], depth_tile=tile["k"], home=home)

    def load_b_work(self, depth: int, columns: int) -> Work:
        """The same of B."""
        return self.core.costs.load_b(depth, columns, home=None if self.stage_b is None else self.stage_b.level)

    def fetch_a_work(self, stage: Stage, rows: Span, depth: Span) -> Work:
        """Bringing a tile of A into the level where it is staged."""
        return self.core.costs.fetch_a(stage.level, rows, depth, row_tile=self.tile["m"], depth_tile=self.tile["k"])

    def _load_a(self, step: Step) -> None:
        assert self.a is not None
        costs, tiles = self.core.costs, {"row_tile": self.tile["m"], "depth_tile": self.tile["k"]}
        run, stage = ("load_a", step), self.stage_a
        at_once = [step.columns.first, step.columns.last] if not self.keep_a else [True, True]
        waits, signals = [self.a.free], [self.a.full]
        if stage is not None:
            if step.part.columns.first and (step.columns.first or self.keep_a):
                begins = step.rows.first and step.k.first
                fetch = self.fetch_a_work(stage, step.all_rows, step.k)
                to = [*([stage.free] if begins else []), *self._a_awaits(step)]
                self._fetch("a", fetch, stage, waits=to, begins=begins, step=step)
                waits += self._has_come("a", stage)
            if step.part.columns.last and step.rows.last and step.k.last and at_once[1]:
                signals += self._gives_up("a", stage)
        else:
            waits += self._a_awaits(step)
        if self.sends["a"]:
            home, rows = None if stage is None else stage.level, step.all_rows
            send = costs.send_a(rows, step.k, costs.n_sharing["a"], **tiles)
            works = costs.bring_a(rows, step.k, **tiles, home=home), send
            self.core.load_shared("a", works, waits=waits, signals=signals, run=step)
            return
        work = self.load_a_work(step.all_rows, step.k)
        self.core.load(work, waits=waits, signals=signals, label="load A", run=run)

    def _load_b(self, step: Step) -> None:
        assert self.b is not None
        costs, run, stage = self.core.costs, ("load_b", step), self.stage_b
        waits, signals = [self.b.free], [self.b.full]
        if stage is not None:
            part = step.part.rows
            if (part.first or not stage.stays) and (step.rows.first or self.keep_b):
                begins = step.columns.first and step.k.first
                fetch = costs.fetch_b(stage.level, step.k.size, step.columns.size)
                to = [stage.free] if begins else []
                self._fetch("b", fetch, stage, waits=to, begins=begins, step=step)
                waits += self._has_come("b", stage)
            is_last_row = step.rows.last or self.keep_b
            if (part.last or not stage.stays) and step.columns.last and step.k.last and is_last_row:
                signals += self._gives_up("b", stage)
        if self.sends["b"]:
            home = None if stage is None else stage.level
            send = costs.send_b(step.k.size, step.columns.size, costs.n_sharing["b"])
            works = costs.bring_b(step.k.size, step.columns.size, home=home), send
            self.core.load_shared("b", works, waits=waits, signals=signals, run=step)
            return
        work = self.load_b_work(step.k.size, step.columns.size)
        self.core.load_weights(work, waits=waits, signals=signals, label="load B", run=run)

    def multiply(self, step: Step) -> None:
        """One tile of the product; a kept operand is waited for at its first use and given up at its last."""
        k, inner = step.k, step.inner
        # What is kept is loaded before what is streamed past it, so the latter is waited for first.
        operands = [("b", self.b, self.keep_b), ("a", self.a, self.keep_a)]
        if self.keep_b:
            operands.reverse()
        pools = [(self._come(name), pool.free, kept) for name, pool, kept in operands if pool is not None]
        self.core.matrix(
            self.core.costs.multiply(step.rows.size, k.size, step.columns.size, add_to=not k.first),
            waits=[
                *(come for come, _, kept in pools if inner.first or not kept),
                *self._sums_await(step),
            ],
            signals=[
                *(free for _, free, kept in pools if inner.last or not kept),
                *self._sums_signal(step),
            ],
            label="A B",
            run=("multiply", step),
        )

    def _sums_await(self, step: Step) -> list[int]:
        """What a product waits for on the side of its results."""
        return [self.c.free] if step.k.first else []

    def _sums_signal(self, step: Step) -> list[int]:
        """What it signals there."""
        return [self.finished] if step.k.last else []

    def _store_signals(self, step: Step) -> list[int]:
        """What the store of a tile signals beside its slot."""
        return []

    @property
    def finished(self) -> int:
        """What the last product of an output tile signals: its sums are there, or already where the result stays."""
        stays = self.near["out"] and not self.core.costs.through_vector_unit
        return self.c.free if stays else self.c.full

    def finish(self, step: Step) -> None:
        """Fused vector work, then the store; without such work the accumulators are stored as they are."""
        core, costs, c, extra = self.core, self.core.costs, self.c, self.extra
        rows, columns = step.rows.size, step.columns.size
        if extra is not None:
            for number in costs.loaded_extras:
                core.load(
                    costs.load_extra(number, rows, columns),
                    waits=[extra.free] if number == costs.loaded_extras[0] else [],
                    signals=[extra.full] if number == costs.loaded_extras[-1] else [],
                    label="load fused input",
                    run=("load_extra", step, number),
                )
        if costs.through_vector_unit:
            core.vector(
                costs.epilogue(rows, columns),
                waits=[c.full, *((extra.full,) if extra is not None else ())],
                signals=[
                    c.free if self.near["out"] else self.done,
                    *((extra.free,) if extra is not None else ()),
                ],
                label="fused work",
                run=("fused", step),
            )
        if not self.near["out"]:
            core.store(
                costs.store_c(rows, columns),
                waits=[self.done],
                signals=[c.free, *self._store_signals(step)],
                label="store C",
                run=("store_c", step),
            )


class Stage(NamedTuple):
    """An operand staged in ``level``: ``free`` slots for a part, ``full``: tiles that have come; ``stays``: through
    all parts of the rows.
    """

    level: str
    free: int
    full: int
    stays: bool


# -- bound -------------------------------------------------------------------------------------------------


def gemm_bound(layer: GemmLayer, machine: MachineSpec) -> LowerBound:
    """Multiply-adds at full rate, fused work over all lanes, every tensor moved once; on an engine, its steps."""
    if layer.engine is not None:
        return engine_bound(layer, machine)
    rate = products_per_cycle(machine.matrix, layer.compute_format, layer.primitive)
    if rate is None:
        raise no_rate(layer.compute_format, machine.matrix.multiplies_per_pe_per_cycle, place=machine.name)
    elements = machine.matrix.n_multipliers * machine.n_cores
    groups, m, n = layer.before_cut
    if layer.split is not None:
        groups //= layer.split.n_parts
    outputs = groups * m * n
    fused = tuple((kind, times * outputs) for kind, times in vector_operations(layer.fused, machine))
    vector = Fraction(0)
    if fused or machine.vector.takes_results:
        pixels = LinePixels(groups * m, groups * m * layer.fused.line_results, n, kernel=1)
        vector = least_vector_cycles(machine.vector, fused, Passing(RESULTS, outputs, pixels=pixels))
    return LowerBound(
        matrix_cycles=ceil(Fraction(layer.macs) / (elements * exact(rate) * layer.speed)),
        vector_cycles=ceil(vector / machine.n_cores),
        dram_cycles=ceil(bits_to_bytes(layer.compulsory_bits) / dram_rate(machine)),
        weight_memory_cycles=weight_memory_cycles(machine, layer.homes.b, groups * layer.k * n * layer.b_bits),
    )


def _pieces(layer: GemmLayer, machine: MachineSpec) -> tuple[GemmLayer, ...]:
    shares = multicasts(machine) or any(level.is_shared for level in levels_of(machine))
    return layer.cuts(machine.n_cores, shares=shares)


def _least(piece: GemmLayer, machine: MachineSpec) -> int:
    """The products of the core that has most pieces, at full rate; not told for engines with ways of their own."""
    if piece.engine is not None:
        return 0
    rate = products_per_cycle(machine.matrix, piece.compute_format, piece.primitive)
    if rate is None:
        return 0
    macs = ceil_div(piece.groups, machine.n_cores) * piece.m * piece.k * piece.n
    return ceil(Fraction(macs) / (machine.matrix.n_multipliers * exact(rate)))


register_family(
    Family(
        operator="gemm",
        layer=GemmLayer,
        costs=costs_of,
        bound=gemm_bound,
        usual="gemm",
        core=GemmCore,
        adapted=on_machine,
        pieces=_pieces,
        least=_least,
        assumptions=gemm_assumptions,
    )
)


def _image(phase: Phase, costs: GemmCosts, tiling: Tiling) -> npt.NDArray[np.int64] | None:
    from tilewright.sim.dataflows.gemm.images import image  # which writes what this lowers

    return image(phase, costs, tiling)


def _port_bytes(phase: Phase, costs: GemmCosts, tiling: Tiling) -> npt.NDArray[np.int64] | None:
    from tilewright.sim.dataflows.gemm.images import port_bytes

    return port_bytes(phase, costs, tiling)


ASSUMPTIONS = (
    "weights lie in DRAM in the order in which their tiles are read; activations row by row, those of a "
    "grouped convolution group by group",
    "a convolution loads the input slab of its output tile, halo included, and unrolls it on the way into the array",
    "sums are kept in the working buffer as wide as they are summed (int32 behind whole numbers, fp32 behind "
    "floating point) and become narrower on their way out at no cost",
)
GEMM = register(
    Dataflow(
        name="gemm",
        heeds_homes=True,
        summary="matrix product or convolution: a panel of one operand or the sums kept, the rest streamed",
        source="the usual panel-stationary and output-stationary loop nests of systolic machines",
        phases=(
            Phase(
                name="product",
                parameters=PARAMETERS,
                lower=lower,
                distinct=is_distinct,
                floor=work_floor,
                screen=screen,
                distinct_of_all=distinct_of_all,
                shortlist=shortlist,
                image=_image,
                port_bytes=_port_bytes,
            ),
        ),
        assumptions=ASSUMPTIONS,
        operator="gemm",
        ahead=first_weight_tiles,
    ),
    rank=8,
)


def no_level(layer: GemmLayer, machine: MachineSpec) -> str:
    """Why nothing can be staged on ``machine``; empty where it can."""
    if levels_of(machine) or multicasts(machine):
        return ""
    return (
        "needs a buffer behind the working one with both bandwidths given, or a link with multicast, neither of which "
        f"{machine.name} has"
    )


STAGED = register(
    Dataflow(
        name="staged",
        heeds_homes=True,
        summary="as gemm, with operands staged in a level on chip and read from there again, or sent to several cores",
        source="the same loop nests at two levels of memory",
        phases=(
            Phase(
                name="product",
                parameters=STAGED_PARAMETERS,
                lower=lower,
                distinct=is_distinct_staging,
                floor=work_floor,
                screen=screen,
                distinct_of_all=distinct_stagings,
                shortlist=shortlist,
                image=_image,
                port_bytes=_port_bytes,
            ),
        ),
        assumptions=(
            *ASSUMPTIONS,
            "what is staged is fetched tile by tile at its first use, by a mover of its own for each operand, once for "
            "the cores that need the same tiles at the same time; a convolution's halos are fetched again with each "
            "tile; a fetch takes the DRAM's channel, and the level's write port as it comes (not followed where that "
            "is faster and nothing else is written there)",
            "what a link sends to several cores is with one of them before; the others keep a slot free for it",
        ),
        operator="gemm",
        refusal=no_level,
        is_native=True,
        fills_buffers=True,
        ahead=first_weight_tiles,
    )
)
