"""Element-wise work, norms, softmax, pooling and plain data movement: rows streamed through the vector unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from tilewright.hw_models.dram import dram_rate
from tilewright.hw_models.spec import MachineSpec
from tilewright.hw_models.vector_unit import least_vector_cycles
from tilewright.sim.dataflows.spans import Span, spans
from tilewright.sim.engine.program import Channel
from tilewright.sim.lowering.core import Pool, TileCore
from tilewright.sim.lowering.costs import TileCosts
from tilewright.sim.lowering.family import Family, register_family
from tilewright.sim.lowering.levels import channels_of, weight_memory_cycles
from tilewright.sim.lowering.mapping import Dataflow, Parameter, Phase, Tiling, register, tile_sizes
from tilewright.sim.result import LowerBound
from tilewright.units import BITS_PER_BYTE, ceil_div
from tilewright.workloads.gemm import RowCut, VectorLayer
from tilewright.workloads.homes import DRAM, Place, held_in
from tilewright.workloads.vector_work import UnitValues


class VectorCosts(TileCosts):
    """Costs of the row blocks of one vector operator."""

    layer: VectorLayer

    def __init__(self, layer: VectorLayer, machine: MachineSpec) -> None:
        super().__init__(layer, machine)
        near = machine.working_buffer.name
        on_chip = sum(n_bytes for _, n_bytes in layer.homes.reads)
        self.sources = tuple(
            (home, n_bytes)
            for home, n_bytes in ((DRAM, layer.read_bytes - on_chip), *layer.homes.reads)
            if n_bytes and home != near
        )
        self.moved_read_bytes = sum(n_bytes for _, n_bytes in self.sources)
        self.moved_write_bytes = 0 if layer.homes.out == near else layer.write_bytes

    def held_bytes(self, buffer: str) -> int:
        return held_in(self.layer.homes, buffer)


class VectorCore(TileCore[VectorCosts]):
    """A core as a vector operator's lowering sees it."""

    layer: VectorLayer

    @classmethod
    def channels(cls, costs: VectorCosts, tiling: Mapping[str, int]) -> tuple[Channel, ...]:
        homes = (costs.layer.homes.out, *(home for home, _ in costs.layer.homes.reads))
        on_chip = any(home not in (DRAM, costs.working.name) for home in homes)
        return channels_of(costs.machine) if on_chip else cls.of_dram(costs)


def lower(core: VectorCore, tiling: Tiling) -> None:
    """Per row block: load, work in place, store; neighbouring blocks overlap. A row that is cut: piece by piece."""
    layer, nest = core.layer, _Rows(core, tiling)
    core.declared()
    for group in core.loop(core.n_groups, name="pieces"):
        for rows in spans(core, layer.rows, nest.rows, "rows"):
            if nest.cut is None:
                nest.block(rows)
                continue
            for number, one in enumerate(nest.passes):
                for columns in spans(core, nest.cut.columns, nest.columns, "columns"):
                    nest.piece(Piece(group, rows, columns, number), one)
            if nest.cut.sums and core.costs.moved_write_bytes:
                nest.store_sums(group, rows)


class Pass(NamedTuple):
    """One pass over a row: bytes that it reads and writes, and what it does, for all of the row."""

    read_bytes: int
    write_bytes: int
    operations: tuple[tuple[str, int], ...]


class Piece(NamedTuple):
    """Where the loops of a row that is cut stand."""

    group: int
    row: Span
    columns: Span
    number: int  # of the pass


class _Rows:
    """The pools of a tiling and the commands of its blocks; ``cut`` is None where rows stay whole."""

    def __init__(self, core: VectorCore, tiling: Tiling) -> None:
        layer = core.layer
        self.core, self.layer = core, layer
        self.columns = min(tiling["columns"], layer.columns)
        self.cut = layer.cut if self.columns < layer.columns else None
        self.rows = min(tiling["rows"], layer.rows) if self.cut is None else 1
        n_blocks = layer.groups * ceil_div(layer.rows, self.rows)
        self.reads, self.writes = core.costs.moved_read_bytes > 0, core.costs.moved_write_bytes > 0
        if self.cut is None:
            self.passes: tuple[Pass, ...] = ()
            slot_bytes = self.rows * max(core.costs.moved_read_bytes, core.costs.moved_write_bytes)
        else:
            self.passes = self._passes(self.cut)
            slot_bytes = max(max(self._share(p.read_bytes), self._share(p.write_bytes)) for p in self.passes)
            n_blocks *= len(self.passes) * ceil_div(self.cut.columns, self.columns)
        self.pool = core.pool("rows", slots=min(tiling["depth"], n_blocks), slot_bytes=max(1, slot_bytes))
        self.kept: Pool | None = None
        if self.cut is not None and self.cut.kept_bytes:
            slots = min(2, layer.groups * layer.rows) if self.cut.sums else 1  # sums are stored under the next row
            self.kept = core.pool("kept of a row", slots=slots, slot_bytes=self.cut.kept_bytes)
        self.done = core.semaphore("rows done")
        # Slots are taken in turn, but pieces of the first pass are given up by the vector unit and those of the last by
        # the store: so that a slot is not taken while another's token came early, a row waits for the one before.
        self.row_stored = core.semaphore("row stored", 1) if len(self.passes) > 1 else None

    def _passes(self, cut: RowCut) -> tuple[Pass, ...]:
        layer = self.layer
        last = Pass(layer.read_bytes, 0 if cut.sums else layer.write_bytes, cut.last)
        return (Pass(cut.first_read_bytes, 0, cut.first), last) if cut.first else (last,)

    def _share(self, of_row: int, columns: int = 0) -> int:
        """The part of a whole row's bytes or operations that belongs to ``columns`` of its columns."""
        return ceil_div(of_row * (columns or self.columns), self.layer.columns)

    def _load(self, sources: Sequence[tuple[Place, int]], begins: Sequence[int], label: str, run: Any = None) -> None:
        """Bring what a slot needs, in turn from each memory that holds some of it."""
        core, pool = self.core, self.pool
        for i, (home, n_bytes) in enumerate(sources):
            core.load(
                core.costs.load(1, n_bytes, BITS_PER_BYTE, home=home),
                waits=[pool.free, *begins] if i == 0 else [],
                signals=[pool.full] if i == len(sources) - 1 else [],
                label=label,
                run=run if i == len(sources) - 1 else None,
            )

    def block(self, rows: Span) -> None:
        """Whole rows: everything is done in their slot."""
        core, layer, costs, pool, n = self.core, self.layer, self.core.costs, self.pool, rows.size
        ready = pool.full
        self._load([(home, n * n_bytes) for home, n_bytes in costs.sources], (), "load rows")
        if layer.operations or not (self.reads and self.writes):
            work = costs.vector(
                tuple((kind, times * n) for kind, times in layer.operations),
                reads_bits=n * layer.read_bytes * BITS_PER_BYTE,
                writes_bits=n * layer.write_bytes * BITS_PER_BYTE,
                reduces=layer.reduces,
                values=None if layer.values is None else layer.values.share(Fraction(n)),
            )
            core.vector(
                work,
                waits=[pool.full if self.reads else pool.free],
                signals=[self.done if self.writes else pool.free],
                label="vector work",
            )
            ready = self.done
        if self.writes:
            work = costs.store(1, n * layer.write_bytes, BITS_PER_BYTE, home=layer.homes.out)
            core.store(work, waits=[ready], signals=[pool.free], label="store rows")

    def piece(self, at: Piece, one: Pass) -> None:
        """A piece of a row in one pass: sums or statistics are taken from what is kept and put back there."""
        core, costs, pool, columns, cut = self.core, self.core.costs, self.pool, at.columns, self.cut
        assert cut is not None
        reads, writes = self._share(one.read_bytes, columns.size), self._share(one.write_bytes, columns.size)
        is_last_pass = at.number == len(self.passes) - 1
        first, last = at.number == 0 and columns.first, is_last_pass and columns.last
        begins = [self.row_stored] if self.row_stored is not None and first else []
        ends = [self.row_stored] if self.row_stored is not None and last else []
        loads, stores = self._sources(one, columns.size), bool(writes and self.writes)
        self._load(loads, begins, "load piece", ("load_piece", at))
        kept_bits = cut.kept_bytes * BITS_PER_BYTE
        work = costs.vector(
            tuple((kind, self._share(times, columns.size)) for kind, times in one.operations),
            reads_bits=reads * BITS_PER_BYTE + (0 if first else kept_bits),
            writes_bits=writes * BITS_PER_BYTE + (kept_bits if cut.sums or not is_last_pass else 0),
            reduces=self.layer.reduces,
            values=self._values_of(columns.size) if len(self.passes) == 1 else None,
        )
        core.vector(
            work,
            waits=[*([pool.full] if loads else [pool.free, *begins]), *self._of_kept("free", first)],
            signals=[
                *([self.done] if stores else [pool.free, *ends]),
                *self._of_kept("full" if cut.sums and self.writes else "free", last),
            ],
            label="vector work",
            run=("row_work", at),
        )
        if stores:
            work, signals = costs.store(1, writes, BITS_PER_BYTE, home=self.layer.homes.out), [pool.free, *ends]
            core.store(work, waits=[self.done], signals=signals, label="store piece", run=("store_piece", at))

    def _sources(self, one: Pass, columns: int) -> list[tuple[Place, int]]:
        """What a pass loads of ``columns`` of a row's columns, by memory; in the shares that the row has of each."""
        costs, of_row = self.core.costs, self.layer.read_bytes
        if not one.read_bytes:
            return []
        shares = ((home, ceil_div(one.read_bytes * n_bytes, of_row)) for home, n_bytes in costs.sources)
        return [(home, self._share(n_bytes, columns)) for home, n_bytes in shares]

    def _values_of(self, columns: int) -> UnitValues | None:
        values = self.layer.values
        return None if values is None else values.share(Fraction(columns, self.layer.columns))

    def _of_kept(self, which: Literal["free", "full"], wanted: bool) -> list[int]:
        """That semaphore of what is kept of a row, if anything is and it is wanted here."""
        if self.kept is None or not wanted:
            return []
        return [self.kept.free if which == "free" else self.kept.full]

    def store_sums(self, group: int, row: Span) -> None:
        """The results of a row, behind its last piece."""
        assert self.kept is not None
        work = self.core.costs.store(1, self.layer.write_bytes, BITS_PER_BYTE, home=self.layer.homes.out)
        run = ("store_sums", group, row)
        self.core.store(work, waits=[self.kept.full], signals=[self.kept.free], label="store sums", run=run)


def vector_bound(layer: VectorLayer, machine: MachineSpec) -> LowerBound:
    """The operations over all lanes; every value moved once."""
    n_rows = layer.groups * layer.rows
    values = None if layer.values is None else layer.values.share(Fraction(n_rows))
    operations = tuple((kind, times * n_rows) for kind, times in layer.operations)
    work = least_vector_cycles(machine.vector, operations, values)
    work /= machine.n_cores
    dram = layer.compulsory_bytes / dram_rate(machine)
    n_rows = layer.groups * layer.rows * BITS_PER_BYTE
    elsewhere = [(home, n_bytes * n_rows) for home, n_bytes in layer.homes.reads]
    return LowerBound(
        matrix_cycles=0,
        vector_cycles=-(-work.numerator // work.denominator),
        dram_cycles=-(-dram.numerator // dram.denominator),
        weight_memory_cycles=max((weight_memory_cycles(machine, *moved) for moved in elsewhere), default=0),
    )


def _pieces(layer: VectorLayer, machine: MachineSpec) -> tuple[VectorLayer, ...]:
    return (layer.for_cores(machine.n_cores),)


register_family(
    Family(
        operator="vector",
        layer=VectorLayer,
        costs=VectorCosts,
        bound=vector_bound,
        usual="vector",
        uses_array=False,
        core=VectorCore,
        pieces=_pieces,
    )
)


def _piece_sizes(columns: int) -> tuple[int, ...]:
    """All columns, a half, a third, a quarter, a sixth of them, and so on: each piece costs a first access."""
    n_pieces = sorted(parts << halvings for parts in (2, 3) for halvings in range(columns.bit_length()))
    return tuple(dict.fromkeys(ceil_div(columns, n) for n in (1, *n_pieces)))


VECTOR = register(
    Dataflow(
        name="vector",
        heeds_homes=True,
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
                        finer=lambda layer, machine: (1,),
                    ),
                    Parameter(
                        name="columns",
                        meaning="columns of a piece of a row; all of them where rows stay whole",
                        candidates=lambda layer, machine: _piece_sizes(layer.columns),
                        largest=lambda layer: layer.columns,
                    ),
                    Parameter(
                        name="depth",
                        meaning="slots of the row buffer",
                        candidates=lambda layer, machine: (2, 3),
                        largest=lambda layer: 64,
                        changes_work=False,
                        finer=lambda layer, machine: (1,),
                    ),
                ),
                lower=lower,
                distinct=lambda layer, tiling: tiling["rows"] == 1 or tiling["columns"] >= layer.columns,
            ),
        ),
        assumptions=(
            "a vector operator reads each input once and works in place; its halo, if any, stays on chip",
            "a row that is cut into pieces is read once by element-wise work, reductions and pools, whose sums stay on "
            "chip, and twice by softmax and norms, which take its statistics first",
        ),
        operator="vector",
    ),
    rank=9,
)
