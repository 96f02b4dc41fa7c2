"""The loop nest of a product that a quantised engine does: what comes between loads, products and stores.

Tiles are prepared where they lie, as soon as they have come. The sums of two tiles are handed to the vector unit, which
scales them and adds them up under the product of the next two tiles. A branch of low rank is multiplied before the sums
of its output tile. Passes over the rows run before the first tile of the operand that they make is loaded, and behind
the last result.
"""

from __future__ import annotations

from tilewright.sim.dataflows.gemm.engine_costs import EngineCosts
from tilewright.sim.dataflows.gemm.lower import GemmCore, Nest, Step
from tilewright.sim.dataflows.spans import Span, spans
from tilewright.sim.lowering.core import Pool
from tilewright.sim.lowering.mapping import Tiling
from tilewright.units import ceil_div

__all__ = ["EngineNest"]


class EngineNest(Nest):
    """The pools of a tiling and the commands of its steps on an engine."""

    def __init__(self, core: GemmCore, tiling: Tiling) -> None:
        super().__init__(core, tiling)
        costs = core.costs
        assert isinstance(costs, EngineCosts)
        self.costs = costs
        m, n, k = (self.tile[name] for name in ("m", "n", "k"))
        self.comes = {"a": self.a is not None, "b": self.b is not None}
        if costs.prepares_a and self.a is None:
            slots = self._slots(tiling, self.keep_a)
            self.a = core.pool("A panel" if self.keep_a else "A", slots=slots, slot_bytes=costs.a_bytes(m, k))
        if self._prepares_b and self.b is None:
            slots = self._slots(tiling, self.keep_b)
            self.b = core.pool("B panel" if self.keep_b else "B", slots=slots, slot_bytes=costs.b_bytes(k, n))
        self.a_ready = core.semaphore("A prepared") if costs.prepares_a else None
        self.b_ready = core.semaphore("B prepared") if self._prepares_b else None
        self.sums: Pool | None = None
        if costs.scales_sums:
            slots = min(2, ceil_div(core.layer.k, k) * self.n_outputs)
            self.sums = core.pool("sums to scale", slots=slots, slot_bytes=costs.sums_bytes(m, k, n))
        self.branch: Pool | None = None
        if costs.has_branch:
            slots = min(2, self.n_outputs)
            self.branch = core.pool("branch", slots=slots, slot_bytes=costs.branch_bytes(m, n))
        self.before = [_Pass(core, costs, number, m) for number in costs.before]
        self.behind = [_Pass(core, costs, number, m) for number in costs.behind]
        self.made = core.semaphore("pass done") if self.before or self.behind else None

    @property
    def _prepares_b(self) -> bool:
        return self.costs.prepares_b or self.costs.prepares_b_on_array

    def _slots(self, tiling: Tiling, kept: bool) -> int:
        panel = ceil_div(self.core.layer.k, self.tile["k"])
        return panel if kept else min(tiling["depth"], panel * self.n_outputs)

    # -- operands ------------------------------------------------------------------------------------------

    def _load_a(self, step: Step) -> None:
        if self.comes["a"]:
            super()._load_a(step)
        if self.a_ready is None:
            return
        assert self.a is not None
        work = self.costs.prepare_a(step.all_rows, step.k, row_tile=self.tile["m"], depth_tile=self.tile["k"])
        waits = [self.a.full if self.comes["a"] else self.a.free]
        self.core.vector(work, waits=waits, signals=[self.a_ready], label="prepare A", run=("prepare_a", step))

    def _load_b(self, step: Step) -> None:
        if self.comes["b"]:
            super()._load_b(step)
        self._prepare_b(step)

    def _is_there_b(self, step: Step) -> None:
        self._prepare_b(step)

    def _prepare_b(self, step: Step) -> None:
        if self.b_ready is None:
            return
        assert self.b is not None
        depth, columns, costs = step.k.size, step.columns.size, self.costs
        on_array = costs.prepares_b_on_array
        put = self.core.matrix if on_array else self.core.vector
        put(
            costs.prepare_b_on_array(depth, columns) if on_array else costs.prepare_b(depth, columns),
            waits=[self.b.full if self.comes["b"] else self.b.free],
            signals=[self.b_ready],
            label="prepare B",
            run=("prepare_b", step),
        )

    def _come(self, operand: str) -> int:
        ready = self.a_ready if operand == "a" else self.b_ready
        return super()._come(operand) if ready is None else ready

    # -- products ------------------------------------------------------------------------------------------

    def multiply(self, step: Step) -> None:
        """The branch, if any, the tile's product, and the scaling of the sums of the tile before."""
        if self.branch is not None and step.k.first:
            self._begin_with(self.branch, step)
        super().multiply(step)
        if self.sums is None:
            return
        if not step.k.first:
            self._scale(self.sums, step, self.tile["k"], is_last=False)
        if step.k.last:
            self._scale(self.sums, step, step.k.size, is_last=True)

    def _sums_await(self, step: Step) -> list[int]:
        begins = super()._sums_await(step) if self.branch is None else []
        return begins if self.sums is None else [*begins, self.sums.free]

    def _sums_signal(self, step: Step) -> list[int]:
        return super()._sums_signal(step) if self.sums is None else [self.sums.full]

    def _begin_with(self, branch: Pool, step: Step) -> None:
        rows, columns = step.rows.size, step.columns.size
        self.core.load(
            self.costs.load_branch(rows, columns), waits=[branch.free], signals=[branch.full], label="load branch"
        )
        self.core.matrix(
            self.costs.branch(rows, columns),
            waits=[branch.full, self.c.free],
            signals=[branch.free],
            label="branch",
            run=("branch", step),
        )

    def _scale(self, sums: Pool, step: Step, depth: int, *, is_last: bool) -> None:
        """Scale what the product of two tiles, ``depth`` deep, has left; the sums of a first one are added to zeros."""
        is_only = step.k.first and step.k.last and self.branch is None
        self.core.vector(
            self.costs.scale_sums(step.rows.size, depth, step.columns.size, add_to=not is_only),
            waits=[sums.full],
            signals=[sums.free, *([self.finished] if is_last else [])],
            label="scale sums",
            run=("scale_sums", step, is_last),
        )

    # -- passes --------------------------------------------------------------------------------------------

    def begin(self, group: int) -> None:
        """The passes before the product of a group."""
        for at, one in enumerate(self.before):
            one.run(group, awaited=self.made if at else None, done=self.made)

    def end(self, group: int) -> None:
        """The passes behind it."""
        for at, one in enumerate(self.behind):
            one.run(group, awaited=self.made, done=self.made if at < len(self.behind) - 1 else None)

    def _a_awaits(self, step: Step) -> list[int]:
        begins = step.is_first_part and step.outer.first and step.inner.first and step.k.first
        return [self.made] if self.before and self.made is not None and begins else []

    def _store_signals(self, step: Step) -> list[int]:
        ends = step.is_last_part and step.outer.last and step.inner.last
        return [self.made] if self.behind and self.made is not None and ends else []


class _Pass:
    """A step of the engine over the rows of the product, block by block: load, work, store."""

    def __init__(self, core: GemmCore, costs: EngineCosts, number: int, row_tile: int) -> None:
        self.core, self.costs, self.number = core, costs, number
        self.rows = costs.pass_rows(number, row_tile)
        name, moved = costs.pass_step(number, 1).name, costs.pass_bytes(number, self.rows)
        n_blocks = core.layer.groups * ceil_div(core.layer.m, self.rows)
        self.pool = core.pool(f"rows to {name}", slots=min(2, n_blocks), slot_bytes=moved.reads + moved.writes)
        self.name, self.once = name, moved.once
        if self.once:
            core.reserve(f"weights to {name}", self.once)
            self.weights_free = core.semaphore(f"{name}: weights free", 1, is_slot=True)
            self.weights_there = core.semaphore(f"{name}: weights there")
        self.for_products = core.semaphore(f"{name}: rows for products")
        self.done = {unit: core.semaphore(f"{name}: {unit} done") for unit in ("vector", "matrix")}

    def run(self, group: int, *, awaited: int | None, done: int | None) -> None:
        """All blocks; the first waits for ``awaited``, the last signals ``done``."""
        core, costs = self.core, self.costs
        if self.once:
            weights = costs.pass_load(self.number, self.rows, once=True)
            assert weights is not None
            waits, signals = [self.weights_free], [self.weights_there]
            core.load(weights, waits=waits, signals=signals, label=f"load weights to {self.name}")
        for rows in spans(core, core.layer.m, self.rows, f"rows to {self.name}"):
            self._block(
                group,
                rows,
                awaited=[awaited] if awaited is not None and rows.first else [],
                signals=[done] if done is not None and rows.last else [],
            )

    def _block(self, group: int, rows: Span, *, awaited: list[int], signals: list[int]) -> None:
        core, pool, costs, number = self.core, self.pool, self.costs, self.number
        load = costs.pass_load(number, rows.size)
        vector, products = costs.pass_vector(number, rows.size), costs.pass_products(number, rows.size)
        run = ("pass", group, number, rows)
        there = [pool.free, *awaited]
        readers = [pool.full] * (vector is not None) + [self.for_products] * (products is not None)
        if load is not None:
            core.load(load, waits=there, signals=readers or [pool.full], label=f"load to {self.name}")
            there = [pool.full]
        ends: list[int] = []
        if vector is not None:
            passed_on = [self.for_products] if load is None and products is not None else []
            core.vector(vector, waits=there, signals=[self.done["vector"], *passed_on], label=self.name)
            there, ends = [self.for_products], [self.done["vector"]]
        if products is not None:
            weights = [self.weights_there] if self.once and rows.first else []
            freed = [self.weights_free] if self.once and rows.last else []
            waits = [*(there if vector is None and load is None else [self.for_products]), *weights]
            core.matrix(products, waits=waits, signals=[self.done["matrix"], *freed], label=f"{self.name}: products")
            ends.append(self.done["matrix"])
        core.store(
            costs.pass_store(number, rows.size),
            waits=ends or there,
            signals=[pool.free, *signals],
            label=f"store to {self.name}",
            run=run,
        )
