"""What the tiles of a product cost that a quantised engine does (``matrix.engine``).

The engine's steps (:mod:`tilewright.hw_models.quantised`) are asked for each tile: products in their formats, work on a
tile of the operands when it has come, on the sums of each product of two tiles, and on finished results. Steps before
and behind the one that multiplies are passes over rows, from and to the DRAM.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import ceil
from typing import Any, NamedTuple

from tilewright.formats import format_bits
from tilewright.hw_models.energy import Counters
from tilewright.hw_models.matrix_unit import product
from tilewright.hw_models.quantised.demand import At, Engine, ProductWork, Step
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.gemm.costs import GemmCosts
from tilewright.sim.dataflows.spans import Span
from tilewright.sim.lowering.costs import Work
from tilewright.units import BITS_PER_BYTE, bits_to_bytes
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.homes import DRAM

__all__ = ["EngineCosts", "PassBytes", "costs_of", "passes"]

_BLOCK_BYTES = 64 * 1024  # about what a pass has in a slot: long transfers, little room


def costs_of(layer: GemmLayer, machine: MachineSpec) -> GemmCosts:
    """Costs of the tiles of ``layer``, by the machine's quantised engine where that does it."""
    if layer.split is not None:
        from tilewright.sim.dataflows.gemm.split import SplitCosts  # which are costs of this kind

        return SplitCosts(layer, machine)
    return GemmCosts(layer, machine) if layer.engine is None else EngineCosts(layer, machine)


def passes(engine: Engine, m: int, k: int, n: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The numbers of the steps before the one that multiplies, and of those behind it."""
    steps = engine.steps(m, k, n)
    main = next(i for i, step in enumerate(steps) if step.multiplies)
    return tuple(range(main)), tuple(range(main + 1, len(steps)))


class PassBytes(NamedTuple):
    """What a pass moves for a block of rows, and what it reads once for all of them."""

    reads: int
    writes: int
    once: int


class EngineCosts(GemmCosts):
    """Costs of one product on the engine of ``layer``."""

    def __init__(self, layer: GemmLayer, machine: MachineSpec) -> None:
        super().__init__(layer, machine)
        self.engine: Engine = layer.engine
        self._tiles: dict[tuple[int, int, int], tuple[Step, ...]] = {}
        m, k, n = layer.m, layer.k, layer.n
        self.before, self.behind = passes(self.engine, m, k, n)
        step = self._step(m, k, n)
        self.scales_sums = bool(_works(step, "sums"))
        self.prepares_a = bool(_works(step, "activations"))
        self.prepares_b = bool(_works(step, "weights"))
        self.prepares_b_on_array = bool(_products(step, "weights"))
        self.has_branch = bool(_products(step, "results"))
        self.operations = _joined(self.operations, ((kind, ceil(Fraction(n_elements, m * n)))
                                                    for kind, n_elements in _works(step, "results")))  # fmt: skip
        self.through_vector_unit |= bool(self.operations)
        b_bits, a_bits = self.engine.prepared_bits
        self.b_on_chip: int | Fraction = max(layer.b_bits, b_bits or 0)
        self.a_on_chip: int | Fraction = max(layer.a_bits, a_bits or 0)
        if self.before:
            self.is_near = {**self.is_near, "a": False}  # what the passes leave lies in the DRAM
        if self.behind:
            self.is_near = {**self.is_near, "out": False}

    def _step(self, m: int, k: int, n: int) -> Step:
        """The step that multiplies, for a part of the product."""
        return next(step for step in self._steps(m, k, n) if step.multiplies)

    def _steps(self, m: int, k: int, n: int) -> tuple[Step, ...]:
        key = (m, k, n)
        if key not in self._tiles:
            self._tiles[key] = self.engine.steps(m, k, n)
        return self._tiles[key]

    # -- operands ------------------------------------------------------------------------------------------

    def load_a(self, rows: Span, depth: Span, *, row_tile: int, depth_tile: int, home: str | None = None) -> Work:
        """As of any product; behind a pass the operand lies in the DRAM."""
        home = DRAM if home is None and self.before else home
        return super().load_a(rows, depth, row_tile=row_tile, depth_tile=depth_tile, home=home)

    def bring_a(self, rows: Span, depth: Span, *, row_tile: int, depth_tile: int, home: str | None = None) -> Work:
        """As :meth:`load_a`, for several cores."""
        home = DRAM if home is None and self.before else home
        return super().bring_a(rows, depth, row_tile=row_tile, depth_tile=depth_tile, home=home)

    def a_bytes(self, row_tile: int, depth_tile: int) -> int:
        """Room that an A tile takes, prepared."""
        return ceil(super().a_bytes(row_tile, depth_tile) * Fraction(self.a_on_chip) / Fraction(self.layer.a_bits))

    def b_bytes(self, depth_tile: int, column_tile: int) -> int:
        """Room that a B tile takes, prepared."""
        return bits_to_bytes(depth_tile * column_tile * self.b_on_chip)

    def prepare_a(self, rows: Span, depth: Span, *, row_tile: int, depth_tile: int) -> Work:
        """What is done with a tile of A when it has come; of a convolution with its slab."""
        runs, run, _ = self._a_runs(rows, depth, row_tile, depth_tile)
        n, of = runs * run, rows.size * depth.size
        works = _works(self._step(rows.size, depth.size, 1), "activations")
        return self._prepare([(kind, ceil(Fraction(times * n, of))) for kind, times in works], n, "a")

    def prepare_b(self, depth: int, columns: int) -> Work:
        """What the vector unit does with a tile of B when it has come."""
        return self._prepare(_works(self._step(1, depth, columns), "weights"), depth * columns, "b")

    def prepare_b_on_array(self, depth: int, columns: int) -> Work:
        """What the array multiplies with a tile of B when it has come."""
        n, layer = depth * columns, self.layer

        def make() -> Work:
            cycles, idle, macs = self._array(_products(self._step(1, depth, columns), "weights"))
            reads, writes = bits_to_bytes(n * layer.b_bits), bits_to_bytes(n * self.b_on_chip)
            return self._work(cycles, reads=reads, writes=writes, fill_drain=idle, counters=Counters(macs=macs))

        return self._remember(("prepare on array", depth, columns), make)

    def _prepare(self, operations: Sequence[tuple[str, int]], n: int, operand: str) -> Work:
        stored, on_chip = (self.layer.a_bits, self.a_on_chip) if operand == "a" else (self.layer.b_bits, self.b_on_chip)
        return self._vector(operations, n * stored, n * on_chip)

    def _vector(self, operations: Sequence[tuple[str, int]], reads: int | Fraction, writes: int | Fraction) -> Work:
        reduces = any(kind == "max" for kind, _ in operations)
        return self.vector(tuple(operations), reads_bits=reads, writes_bits=writes, reduces=reduces)

    # -- products ------------------------------------------------------------------------------------------

    def multiply(self, rows: int, depth: int, columns: int, *, add_to: bool) -> Work:
        """One tile of the product, in the engine's formats: into the accumulators, or as sums to be scaled."""
        outputs, layer = rows * columns, self.layer

        def make() -> Work:
            step = self._step(rows, depth, columns)
            works = _products(step, "sums")
            cycles, idle, macs = self._array(works, whole=(rows, depth, columns))
            reads, writes = self._moved(works)
            handed_on = (step.n_sums if self.scales_sums else 1) * outputs * layer.accumulator_bits
            adds = outputs * layer.accumulator_bits if (add_to or self.has_branch) and not self.scales_sums else 0
            return self._work(
                cycles,
                reads=bits_to_bytes(reads + adds),
                writes=bits_to_bytes(writes + handed_on),
                fill_drain=idle,
                counters=Counters(macs=macs),
            )

        return self._remember(("multiply", rows, depth, columns, add_to), make)

    def _array(
        self, works: Sequence[ProductWork], whole: tuple[int, int, int] | None = None
    ) -> tuple[int, int, dict[str, int]]:
        """(cycles, those that stream nothing, multiply-adds by format) of products, one behind the other.

        ``whole``: the extents of a tile of the product itself, which may be one of a convolution.
        """
        cycles = idle = 0
        macs: dict[str, int] = {}
        for work in works:
            conv = self.conv if (work.m, work.k, work.n) == whole else None
            cost = product(self.machine.matrix, work.m, work.k, work.n, work.number_format, conv)
            times = work.times * work.part
            cycles += ceil(cost.cycles * times)
            idle += int(cost.fill_drain_cycles * times)
            macs[work.number_format] = macs.get(work.number_format, 0) + ceil(work.macs)
        return cycles, idle, macs

    def _moved(self, works: Sequence[ProductWork]) -> tuple[Fraction, Fraction]:
        """Bits of operands read and of partial sums read and written between buffer and array.

        A product that is made of several of narrower values reads these each time.
        """
        reads = writes = Fraction(0)
        for work in works:
            cost = product(self.machine.matrix, work.m, work.k, work.n, work.number_format)
            width, times = format_bits(work.number_format), work.part * max(Fraction(1), work.times)
            a_bits, b_bits = (min(Fraction(width), Fraction(bits)) for bits in (self.a_on_chip, self.b_on_chip))
            partial = self.layer.accumulator_bits * times
            reads += times * cost.read_elements_a * a_bits
            reads += times * cost.read_elements_b * b_bits
            reads += partial * cost.read_partial_elements
            writes += partial * (cost.write_elements - work.m * work.n)
        return reads, writes

    # -- sums and results ----------------------------------------------------------------------------------

    def sums_bytes(self, rows: int, depth: int, columns: int) -> int:
        """Room that the sums of one product of tiles take before they are scaled."""
        return bits_to_bytes(self._step(rows, depth, columns).n_sums * rows * columns * self.layer.accumulator_bits)

    def scale_sums(self, rows: int, depth: int, columns: int, *, add_to: bool) -> Work:
        """The vector work on the sums of one product of tiles, which are added to the accumulators."""
        step, bits = self._step(rows, depth, columns), rows * columns * self.layer.accumulator_bits
        return self._vector(_works(step, "sums"), (step.n_sums + add_to) * bits, bits)

    def branch_bytes(self, rows: int, columns: int) -> int:
        """What joins the results of an output tile from the DRAM."""
        return self._step(rows, self.layer.k, columns).branch_read_bytes

    def load_branch(self, rows: int, columns: int) -> Work:
        """Bring it."""
        return self.load(1, self.branch_bytes(rows, columns), BITS_PER_BYTE)

    def branch(self, rows: int, columns: int) -> Work:
        """Its product, with which the accumulators of an output tile begin."""

        def make() -> Work:
            cycles, idle, macs = self._array(_products(self._step(rows, self.layer.k, columns), "results"))
            writes = bits_to_bytes(rows * columns * self.layer.accumulator_bits)
            reads = self.branch_bytes(rows, columns)
            return self._work(cycles, reads=reads, writes=writes, fill_drain=idle, counters=Counters(macs=macs))

        return self._remember(("branch", rows, columns), make)

    def store_c(self, rows: int, columns: int) -> Work:
        """An output tile to its home; to the DRAM where passes over the results follow."""
        if not self.behind:
            return super().store_c(rows, columns)
        gap = self._gap(columns, self.layer.before_cut.n)
        return self.store(rows, columns, self.layer.out_bits, stride_elements=gap, home=DRAM)

    # -- passes --------------------------------------------------------------------------------------------

    def pass_step(self, number: int, rows: int) -> Step:
        """A step of the engine over some rows of the product."""
        return self._steps(rows, self.layer.k, self.layer.n)[number]

    def pass_bytes(self, number: int, rows: int) -> PassBytes:
        """Bytes of such a step; those that do not grow with the rows are read once."""
        step, some, twice = (self.pass_step(number, n) for n in (rows, 8, 16))
        once = max(0, 2 * some.read_bytes - twice.read_bytes)
        return PassBytes(step.read_bytes - once, step.write_bytes, once)

    def pass_rows(self, number: int, row_tile: int) -> int:
        """Rows that a pass takes together: no more than a tile of the product."""
        reads, writes, _ = self.pass_bytes(number, 8)
        return max(1, min(row_tile, 8 * _BLOCK_BYTES // max(1, reads + writes)))

    def pass_load(self, number: int, rows: int, *, once: bool = False) -> Work | None:
        """The reads of a pass: of a block, or those for all; None where there are none, or they lie in the buffer."""
        n_bytes = self.pass_bytes(number, rows).once if once else self.pass_bytes(number, rows).reads
        home = DRAM if once or number in self.behind else self.layer.homes.a
        if not n_bytes or home == self.working.name:
            return None
        return self.load(1, n_bytes, BITS_PER_BYTE, home=home)

    def pass_store(self, number: int, rows: int) -> Work:
        """The writes of a block of a pass."""
        return self.store(1, self.pass_bytes(number, rows).writes, BITS_PER_BYTE)

    def pass_vector(self, number: int, rows: int) -> Work | None:
        """The element-wise work of a block of a pass."""
        step = self.pass_step(number, rows)
        if not step.elements:
            return None
        works = _joined((), ((work.kind, work.n_elements) for work in step.elements))
        return self._vector(works, step.read_bytes * BITS_PER_BYTE, step.write_bytes * BITS_PER_BYTE)

    def pass_products(self, number: int, rows: int) -> Work | None:
        """The products of a block of a pass."""
        step = self.pass_step(number, rows)
        if not step.products:
            return None

        def make() -> Work:
            cycles, idle, macs = self._array(step.products)
            counters = Counters(macs=macs)
            return self._work(
                cycles, reads=step.read_bytes, writes=step.write_bytes, fill_drain=idle, counters=counters
            )

        return self._remember(("products of a pass", number, rows), make)


def _works(step: Step, at: At) -> tuple[tuple[str, int], ...]:
    return _joined((), ((work.kind, work.n_elements) for work in step.elements if work.at == at))


def _products(step: Step, at: At) -> tuple[ProductWork, ...]:
    return tuple(work for work in step.products if work.at == at)


def _joined(some: Iterable[tuple[str, int]], more: Iterable[tuple[Any, int]]) -> tuple[tuple[str, int], ...]:
    """(kind, how many), each kind once."""
    found: dict[str, int] = {}
    for kind, times in (*some, *more):
        found[kind] = found.get(kind, 0) + times
    return tuple(sorted(found.items()))
