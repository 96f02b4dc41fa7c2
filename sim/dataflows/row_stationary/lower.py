"""Row-stationary convolution, as the Eyeriss chip runs it.

Eyeriss (Chen, Emer, Sze, ISCA 2016; Chen, Krishna, Emer, Sze, JSSC 2017) gives each PE one row of a filter and one
row of the input maps; the PE slides one along the other and makes one row of partial sums. ``kernel_rows`` PEs above
each other form a column of a *PE set*: their partial sums are added upwards and make one output row. ``strip`` columns
make a set, for as many output rows. Sets are laid side by side on the array, cut where they are wider than it, for
further channels (their partial sums are added too) and further filters.

One *pass* keeps the filters in the scratchpads, reads the input maps of a few images and channels from the buffer once
for all filters of the pass, and reads and writes each partial sum of the pass in the buffer. The loops around it::

    groups > images > strips > column tiles > blocks of filters, whose partial sums the buffer holds
        chunks of channels: load the input maps of the chunk
            passes over the block's filters: filters into the scratchpads, then the pass
        vector work on the block's output maps, if any is fused behind the convolution
        store them

What waits for what: the buffer holds one chunk of input maps and one block of partial sums, so neither is loaded nor
stored while the array uses it; filters of the next pass are brought ahead, and wait in a buffer of their own. Maps lie
run-length coded in DRAM (three non-zero values in 64 bits), the first layer's input plainly.

What is in no publication as a figure, and is a reading here (:class:`RowRules`; ``tests/validation/test_eyeriss.py``
holds the table of what each is worth against the chip): a PE adds a partial sum from below with the adder that also
adds its products; scratchpads are filled between passes; 4 partial sums enter and leave the array in a cycle. None of
them was fitted to a layer. The *processing* latency of the publication is the time in which the array is busy, the
*total* one the end of the program.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import floor
from typing import Any, NamedTuple

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.dram import bytes_per_cycle, port_names
from tilewright.hw_models.energy import Counters
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.row_stationary.costs import Convolution, RowCosts, RowMapping, RowRules, Tile
from tilewright.sim.engine.program import Channel, Engine, Program, ProgramBuilder
from tilewright.sim.lowering.core import LOAD, MATRIX, STORE, VECTOR, TileCore
from tilewright.sim.lowering.costs import TileCosts, Work
from tilewright.units import ceil_div

__all__ = [
    "ARRAY",
    "Convolution",
    "RowCore",
    "RowMapping",
    "RowRules",
    "RowStep",
    "RowTraffic",
    "check_mapping",
    "lower_convolution",
    "row_stationary_program",
    "row_traffic",
]

INPUTS, ARRAY, FILTERS = LOAD, MATRIX, VECTOR + 1


class RowCore(TileCore[Any]):
    """A core that loads filters in a queue of their own, beside that of the maps."""

    write_channel = 0

    @staticmethod
    def engines(weight: int, suffix: str = "") -> list[Engine]:
        return [*TileCore.engines(weight, suffix), Engine(f"load filters{suffix}", "load", weight)]

    def idle(self, cycles: int) -> None:
        """Cycles in which the array has nothing to do whatever happens: they count as its own."""
        if self._count is not None:
            self._count.add(ARRAY, Work(cycles, 0, 0, 0.0, Counters()))

    def write(
        self, engine: int, work: Work, waits: Sequence[int], signals: Sequence[int], label: str, run: Any
    ) -> None:
        """Append a command to one of the five queues."""
        if engine in (ARRAY, VECTOR):
            self._compute(engine, work, waits, signals, label, run)
        elif self._count is not None:
            here = work if engine != STORE else work._replace(channel=self.write_channel)
            self._count.add(LOAD if engine == FILTERS else engine, here)
        elif self._program is not None:
            self._program.transfer(
                self._first_engine + engine,
                n_bytes=work.n_bytes,
                latency_cycles=work.cycles,
                channel=self.write_channel if engine == STORE else 0,
                waits=(*waits, *self._dma),
                signals=(*signals, *self._dma),
                label=label,
                cost=work,
                run=run,
            )


class RowStep(NamedTuple):
    """What a command does to numbers: where its :class:`Tile` begins; of fused inputs, which one (``number``)."""

    label: str
    group: int
    image: int
    filter: int
    channel: int
    row: int
    column: int
    tile: Tile
    number: int = 0


class RowTraffic(NamedTuple):
    """Bytes between array and map buffer, and between chip and DRAM (maps as they lie there, coded)."""

    buffer: int
    dram_inputs: int
    dram_filters: int
    dram_outputs: int

    @property
    def dram(self) -> int:
        """All bytes of the DRAM link."""
        return self.dram_inputs + self.dram_filters + self.dram_outputs


def row_traffic(program: Program) -> RowTraffic:
    """Traffic of a :func:`row_stationary_program`, by counting its own commands.

    Loads into the map buffer and stores from it are not counted as its accesses, as in the chip's published figures.
    """
    n_bytes = [0] * len(RowCore.engines(1))
    for engine, command, times in program.commands():
        counters: Counters = command.cost.counters
        if engine == ARRAY:
            if not counters.macs:
                continue
            n_bytes[ARRAY] += times * sum(counters.buffer_read_bytes.values())
            n_bytes[ARRAY] += times * sum(counters.buffer_write_bytes.values())
        else:
            n_bytes[engine] += times * (counters.dram_read_bytes + counters.dram_write_bytes)
    return RowTraffic(n_bytes[ARRAY], n_bytes[INPUTS], n_bytes[FILTERS], n_bytes[STORE])


def row_stationary_program(
    conv: Convolution,
    mapping: RowMapping,
    machine: MachineSpec,
    *,
    rules: RowRules | None = None,
    unroll: bool = False,
) -> Program:
    """The program of ``conv`` on ``machine``; every command's ``cost`` is a ``Work``.

    With ``unroll`` there are no loops, and ``run`` of a command is its :class:`RowStep`. Raises InputError for a
    machine without scratchpads or a mapping larger than the layer, and MappingError for one that does not fit.
    """
    channels = [Channel(name, bytes_per_cycle(machine)) for name in port_names(machine)]
    builder = ProgramBuilder(RowCore.engines(1), channels, unroll=unroll)
    core = RowCore(TileCosts(conv, machine), n_groups=conv.groups, builder=builder)
    core.write_channel = len(channels) - 1
    lower_convolution(core, RowCosts(conv, mapping, machine, rules or RowRules()))
    return builder.build()


def lower_convolution(core: RowCore, costs: RowCosts) -> None:
    """Write the commands of the convolution and mapping of ``costs`` to ``core``; errors as of the program."""
    near, ahead = costs.machine.buffers[0], costs.machine.buffers[-1]
    for name, n_bytes in _checked(costs).items():
        if name != "filters" or near is ahead:
            core.reserve(name, n_bytes)
    core.declared()
    _Lowering(core, costs).all_blocks()


def check_mapping(conv: Convolution, mapping: RowMapping, machine: MachineSpec) -> dict[str, int]:
    """Bytes that ``mapping`` keeps in the buffers, by what they hold.

    Raises InputError for sizes out of range, MappingError for what does not fit in array, scratchpads or buffers.
    """
    return _checked(RowCosts(conv, mapping, machine, RowRules()))


def _checked(costs: RowCosts) -> dict[str, int]:
    conv, mapping, machine = costs.conv, costs.mapping, costs.machine
    columns = mapping.columns or conv.columns
    for name, given, most in (
        ("images", mapping.images, conv.batch),
        ("filters", mapping.filters, conv.filters),
        ("strip", mapping.strip, conv.rows),
        ("columns", columns, conv.columns),
        ("pass_filters", mapping.pass_filters, mapping.filters),
        ("pass_channels", mapping.pass_channels, max(conv.channels, mapping.channel_sets)),
    ):
        if not 1 <= given <= most:
            raise InputError(f'mapping: "{name}": given {given}, allowed 1 to {most}')
    _fit(f"sets of PEs on {machine.name}", _sets(mapping), _room_for_sets(conv, mapping, machine), "places")
    row = mapping.set_channels * conv.kernel_columns
    _fit("filter scratchpads", mapping.set_filters * row, costs.pads.filter_words, "words")
    _fit("input scratchpads", row, costs.pads.ifmap_words, "words")
    _fit("partial-sum scratchpads", mapping.set_filters, costs.pads.psum_words, "words")
    whole = Tile(mapping.images, mapping.pass_filters, mapping.pass_channels, mapping.strip, columns)
    outputs = mapping.images * mapping.filters * mapping.strip * columns
    sizes = {
        "partial sums": costs.block_bytes(outputs),
        "input maps": costs.n_bytes(costs.input_words(whole), conv.input_bits),
        "filters": costs.n_bytes(costs.filter_words(whole), conv.filter_bits),
    }
    if conv.fused.extra_bits:
        sizes["fused inputs"] = costs.n_bytes(outputs, sum(conv.fused.extra_bits))
    near, ahead = machine.buffers[0], machine.buffers[-1]
    of_filters = sizes["filters"]
    if near is not ahead:
        _fit(f"buffer {ahead.name}", of_filters, ahead.capacity_bytes, "bytes")
    in_near = sum(sizes.values()) - (0 if near is ahead else of_filters)
    _fit(f"buffer {near.name}", in_near, near.capacity_bytes, "bytes")
    return sizes


def _pieces_of_a_set(mapping: RowMapping, machine: MachineSpec) -> int:
    return ceil_div(mapping.strip, machine.matrix.columns)


def _sets(mapping: RowMapping) -> int:
    return mapping.channel_sets * mapping.filter_sets


def _room_for_sets(conv: Convolution, mapping: RowMapping, machine: MachineSpec) -> int:
    """Sets that find room: pieces of equal width, as many beside and above each other as rows and columns allow."""
    pieces = _pieces_of_a_set(mapping, machine)
    beside = machine.matrix.columns // ceil_div(mapping.strip, pieces)
    return (machine.matrix.rows // conv.kernel_rows) * beside // pieces


def _fit(resource: str, demand: int, limit: int, unit: str) -> None:
    if demand > limit:
        raise MappingError(
            resource=resource,
            demand=demand,
            limit=limit,
            unit=unit,
            levers="use fewer filters, channels, images or rows at a time",
        )


class _Block(NamedTuple):
    """Where a block of partial sums begins, and its extents; positions are right only when unrolling."""

    group: int
    image: int
    row: int
    column: int
    filter: int
    n_images: int
    n_rows: int
    n_columns: int
    n_filters: int


class _Lowering:
    """The loop nest, and under it the commands."""

    def __init__(self, core: RowCore, costs: RowCosts) -> None:
        self.core = b = core
        self.costs = costs
        self.inputs_free = b.semaphore("room for input maps", 1, is_slot=True)
        self.inputs_there = b.semaphore("input maps loaded")
        self.filters_free = b.semaphore("room for filters", 1, is_slot=True)
        self.filters_there = b.semaphore("filters loaded")
        self.sums_free = b.semaphore("room for partial sums", 1, is_slot=True)
        self.sums_done = b.semaphore("sums complete")
        self.outputs_done = b.semaphore("output maps complete") if costs.operations else self.sums_done
        if costs.conv.fused.extra_bits:
            self.extra_free = b.semaphore("room for fused inputs", 1, is_slot=True)
            self.extra_there = b.semaphore("fused inputs loaded")

    # -- the loop nest -----------------------------------------------------------------------------------

    def all_blocks(self) -> None:
        conv, mapping = self.costs.conv, self.costs.mapping
        for group in self.core.loop(self.core.n_groups, name="groups"):
            for image, n_images in self._pieces(conv.batch, mapping.images, "images"):
                for row, n_rows in self._pieces(conv.rows, mapping.strip, "strips"):
                    for column, n_columns in self._pieces(conv.columns, mapping.columns or conv.columns, "columns"):
                        for first, n_filters in self._pieces(conv.filters, mapping.filters, "filter blocks"):
                            self.one_block(
                                _Block(group, image, row, column, first, n_images, n_rows, n_columns, n_filters)
                            )

    def one_block(self, block: _Block) -> None:
        """All channels for one block of partial sums, then its store."""
        for channel, n_channels, first, last in self._ends(
            self.costs.conv.channels, self.costs.mapping.pass_channels, "chunks"
        ):
            waits = [self.sums_free] if first else []
            signals = [self.sums_done] if last else []
            self.one_chunk(block, channel, n_channels, waits=waits, signals=signals)
        tile = Tile(block.n_images, block.n_filters, 1, block.n_rows, block.n_columns)
        if self.costs.operations:
            self.finish(block, tile)
        work, waits, signals = self.costs.store_outputs(tile), [self.outputs_done], [self.sums_free]
        self._command(STORE, "store outputs", block, 0, 0, tile, work, waits=waits, signals=signals)

    def finish(self, block: _Block, tile: Tile) -> None:
        """Fused inputs and vector work of a block."""
        n_extra, waits, signals = len(self.costs.conv.fused.extra_bits), [self.sums_done], [self.outputs_done]
        for number in range(n_extra):
            work = self.costs.load_extra(tile, number)
            here = [self.extra_free] if number == 0 else []
            there = [self.extra_there] if number == n_extra - 1 else []
            label = "load fused input"
            self._command(INPUTS, label, block, 0, 0, tile, work, waits=here, signals=there, number=number)
        if n_extra:
            waits, signals = [*waits, self.extra_there], [*signals, self.extra_free]
        work = self.costs.finish(tile)
        self._command(VECTOR, "fused work", block, 0, 0, tile, work, waits=waits, signals=signals)

    def one_chunk(
        self, block: _Block, channel: int, n_channels: int, *, waits: Sequence[int], signals: Sequence[int]
    ) -> None:
        """All filters of the block over one chunk of channels."""
        costs = self.costs
        tile = Tile(block.n_images, 1, n_channels, block.n_rows, block.n_columns)
        work = costs.load_inputs(tile)
        here, there = [self.inputs_free], [self.inputs_there]
        self._command(INPUTS, "load inputs", block, 0, channel, tile, work, waits=here, signals=there)
        for at, n_filters, first, last in self._ends(block.n_filters, costs.mapping.pass_filters, "passes"):
            tile = Tile(block.n_images, n_filters, n_channels, block.n_rows, block.n_columns)
            spread = costs.spread_filters(tile)
            if first:  # maps come when the last pass over those before has ended; meanwhile filters can be spread
                self.core.idle(max(0, floor(work.n_bytes / costs.link_rate) - spread.cycles))
            place = (block, at, channel, tile)
            free, loaded = [self.filters_free], [self.filters_there]
            self._command(FILTERS, "load filters", *place, costs.load_filters(tile), waits=free, signals=loaded)
            self._command(ARRAY, "spread filters", *place, spread, waits=loaded, signals=free)
            self._command(
                ARRAY,
                "pass",
                *place,
                costs.run_pass(tile),
                waits=[*(there if first else []), *(waits if first else [])],
                signals=[*(here if last else []), *(signals if last else [])],
            )

    def _pieces(self, extent: int, tile: int, name: str) -> Iterator[tuple[int, int]]:
        """(begin, size) of the pieces of ``extent``: a loop over whole ones, then what is left."""
        n_whole, left = divmod(extent, tile)
        for trip in self.core.loop(n_whole, name=name):
            yield trip * tile, tile
        if left:
            yield n_whole * tile, left

    def _ends(self, extent: int, tile: int, name: str) -> Iterator[tuple[int, int, bool, bool]]:
        """(begin, size, is the first, is the last): the first piece, a loop over whole ones, the last piece."""
        n_pieces = ceil_div(extent, tile)
        yield 0, min(tile, extent), True, n_pieces == 1
        for trip in self.core.loop(n_pieces - 2, name=name):
            yield (trip + 1) * tile, tile, False, False
        if n_pieces > 1:
            at = (n_pieces - 1) * tile
            yield at, extent - at, False, True

    # -- one command -------------------------------------------------------------------------------------

    def _command(
        self,
        engine: int,
        label: str,
        block: _Block,
        at: int,
        channel: int,
        tile: Tile,
        work: Work,
        *,
        waits: Sequence[int],
        signals: Sequence[int],
        number: int = 0,
    ) -> None:
        step = None
        if self.core.unroll:
            at, first = block.filter + at, (block.row, block.column)
            step = RowStep(label, block.group, block.image, at, channel, *first, tile, number)
        self.core.write(engine, work, waits, signals, label, step)
