"""Shapes of a row-stationary convolution, and what its commands cost; see
:mod:`tilewright.sim.dataflows.row_stationary.lower`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from tilewright.errors import InputError
from tilewright.formats import format_bits
from tilewright.hw_models.buffer import access_cycles
from tilewright.hw_models.dram import bytes_per_cycle, transfer
from tilewright.hw_models.energy import Counters, energy_by_component
from tilewright.hw_models.matrix_unit import no_rate
from tilewright.hw_models.spec import MachineSpec, ScratchpadSpec
from tilewright.hw_models.vector_unit import vector_cycles
from tilewright.sim.dataflows.gemm.costs import vector_operations
from tilewright.sim.lowering.costs import Work
from tilewright.units import bits_to_bytes, ceil_div, exact
from tilewright.workloads.gemm import NOTHING_FUSED, Fused

__all__ = ["Convolution", "RowCosts", "RowFigures", "RowMapping", "RowRules", "Tile", "coded_bytes", "outputs_of"]

# Eyeriss' run-length code (JSSC 2017): a 64-bit word holds three non-zero values, each with the zeros before it.
CODE_WORD_BYTES = 8
CODE_WORD_VALUES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """``batch`` images, ``groups`` times ``channels`` input and ``filters`` output maps of ``rows`` x ``columns``.

    Kernels are ``kernel_rows`` x ``kernel_columns``, applied every ``stride`` pixels. The input maps count with the
    padding that the kernels reach. ``input_zeros`` and ``output_zeros``: share of zeros in maps that lie run-length
    coded in DRAM; None where they lie there plainly. ``input_bits``, ``filter_bits``, ``output_bits``: of stored ones,
    where not as ``number_format``, in which is multiplied and added. ``fused``: vector work on what is finished.
    """

    batch: int
    filters: int
    channels: int
    rows: int
    columns: int
    kernel_rows: int
    kernel_columns: int
    stride: int = 1
    groups: int = 1
    number_format: str = "int16"
    input_zeros: float | None = None
    output_zeros: float | None = None
    input_bits: int | Fraction | None = None
    filter_bits: int | Fraction | None = None
    output_bits: int | Fraction | None = None
    fused: Fused = NOTHING_FUSED

    def __post_init__(self) -> None:
        for name in ("batch", "filters", "channels", "rows", "columns", "kernel_rows", "kernel_columns", "stride"):
            if getattr(self, name) < 1:
                raise InputError(f'convolution: "{name}": given {getattr(self, name)}, allowed 1 or more')
        for name in ("input_zeros", "output_zeros"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise InputError(f'convolution: "{name}": given {share}, allowed a share from 0 to 1')

    @property
    def macs(self) -> int:
        """Multiply-adds of the whole batch."""
        taps = self.channels * self.kernel_rows * self.kernel_columns
        return self.batch * self.groups * self.filters * self.rows * self.columns * taps

    def input_rows(self, n_rows: int) -> int:
        """Input rows under ``n_rows`` neighbouring output rows."""
        return (n_rows - 1) * self.stride + self.kernel_rows

    def input_columns(self, n_columns: int) -> int:
        """Input columns under ``n_columns`` neighbouring output columns."""
        return (n_columns - 1) * self.stride + self.kernel_columns


@dataclass(frozen=True, slots=True, kw_only=True)
class RowMapping:
    """How a convolution is laid on the array; the letters are those of the Eyeriss publications.

    ``images`` (n) and ``filters`` (m): whose partial sums are in the buffer together. ``strip`` (e): output rows of a
    PE set, its width. ``set_filters`` (p) and ``set_channels`` (q): filters and channels that one PE set works on.
    ``channel_sets`` (r) and ``filter_sets`` (t): PE sets side by side for further channels and filters. ``columns``:
    output columns at a time (0: whole rows, as in the publications).
    """

    images: int
    filters: int
    strip: int
    set_filters: int
    set_channels: int
    channel_sets: int = 1
    filter_sets: int = 1
    columns: int = 0

    @property
    def pass_filters(self) -> int:
        """Filters of one pass, p t."""
        return self.set_filters * self.filter_sets

    @property
    def pass_channels(self) -> int:
        """Channels of one pass, q r."""
        return self.set_channels * self.channel_sets

    def active_pes(self, conv: Convolution) -> int:
        """PEs that work in a pass with a whole strip."""
        return conv.kernel_rows * self.strip * self.channel_sets * self.filter_sets


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRules:
    """Readings of the publication that can be switched off, to see what each is worth.

    ``adder_takes_psum``: a PE adds the partial sum from below with the adder of its products, one cycle for each.
    ``filters_between_passes``: scratchpads get the filters of a pass before it starts, not during the pass before.
    ``psum_port``: partial sums cross between buffer and array at the machine's ``psum_words_per_cycle``.
    """

    adder_takes_psum: bool = True
    filters_between_passes: bool = True
    psum_port: bool = True


class Tile(NamedTuple):
    """Extents of one pass: images, filters, channels, output rows and columns."""

    images: int
    filters: int
    channels: int
    rows: int
    columns: int


def outputs_of(tile: Tile) -> int:
    """Values of the output maps in ``tile``."""
    return tile.images * tile.filters * tile.rows * tile.columns


def coded_bytes(n_words: int, zeros: float) -> int:
    """Bytes of ``n_words`` 16-bit words, a share ``zeros`` of them zero, in Eyeriss' run-length code.

    Runs of more than 31 zeros, which take another entry, are not counted.
    """
    fraction = n_words * (1 - exact(zeros))
    n_values = ceil_div(fraction.numerator, fraction.denominator)
    return max(1, ceil_div(n_values, CODE_WORD_VALUES)) * CODE_WORD_BYTES


class RowFigures:
    """What the costs of all mappings of a convolution on a machine share: figures, and each command's work by shape."""

    def __init__(self, conv: Convolution, machine: MachineSpec) -> None:
        if machine.matrix.scratchpads is None:
            raise InputError(
                f"{machine.name}: row-stationary convolutions need matrix.scratchpads, which it does not have"
            )
        if conv.number_format not in machine.matrix.multiplies_per_pe_per_cycle:
            raise no_rate(conv.number_format, machine.matrix.multiplies_per_pe_per_cycle, place=machine.name)
        self.conv, self.machine = conv, machine
        self.pads: ScratchpadSpec = machine.matrix.scratchpads
        self.rate = exact(machine.matrix.multiplies_per_pe_per_cycle[conv.number_format])
        self.link_rate = bytes_per_cycle(machine)
        self.maps = machine.buffers[0].name
        self.ahead = machine.buffers[-1].name
        self.sum_bits = format_bits(conv.number_format)
        self.operations = vector_operations(conv.fused, machine)
        self.known: dict[tuple[object, ...], Work] = {}


class RowCosts:
    """Cycles, bytes, energy and counters of the commands, each remembered by shape.

    ``figures``: of the same convolution and machine, where other mappings have been costed by the same ``rules``.
    """

    def __init__(
        self,
        conv: Convolution,
        mapping: RowMapping,
        machine: MachineSpec,
        rules: RowRules,
        figures: RowFigures | None = None,
    ) -> None:
        shared = RowFigures(conv, machine) if figures is None else figures
        self.conv, self.mapping, self.machine, self.rules = conv, mapping, machine, rules
        self.pads, self.rate, self.link_rate = shared.pads, shared.rate, shared.link_rate
        self.maps, self.ahead, self.sum_bits = shared.maps, shared.ahead, shared.sum_bits
        self.operations = shared.operations
        self._known = shared.known

    def n_bytes(self, n_words: int, bits: int | Fraction | None = None) -> int:
        """Bytes of ``n_words`` values of ``bits`` (None: those of the number format)."""
        return bits_to_bytes(n_words * (self.sum_bits if bits is None else bits))

    def block_bytes(self, n_words: int) -> int:
        """Room for ``n_words`` partial sums, which vector work turns into outputs where they lie."""
        out = self.conv.output_bits if self.operations else None
        return self.n_bytes(n_words, max(self.sum_bits, out or 0))

    def input_words(self, tile: Tile) -> int:
        """Words of the input maps under ``tile``."""
        conv = self.conv
        plane = conv.input_rows(tile.rows) * conv.input_columns(tile.columns)
        return tile.images * tile.channels * plane

    def filter_words(self, tile: Tile) -> int:
        """Words of the filters of one pass."""
        return tile.filters * tile.channels * self.conv.kernel_rows * self.conv.kernel_columns

    # -- the commands ------------------------------------------------------------------------------------

    def load_inputs(self, tile: Tile) -> Work:
        """Input maps from DRAM into the buffer, decoded on the way."""
        words = self.input_words(tile)
        bits, zeros = self.conv.input_bits, self.conv.input_zeros
        return self._remember("inputs", tile, lambda: self._load(words, bits, zeros, self.maps))

    def load_filters(self, tile: Tile) -> Work:
        """Filters of a pass from DRAM into their buffer."""
        words, bits = self.filter_words(tile), self.conv.filter_bits
        return self._remember("filters", tile, lambda: self._load(words, bits, None, self.ahead))

    def load_extra(self, tile: Tile, number: int) -> Work:
        """The part of a fused input, which has the shape of the outputs, that belongs to a block."""
        words, bits = outputs_of(tile), self.conv.fused.extra_bits[number]
        return self._remember("extra", tile, lambda: self._load(words, bits, None, self.maps), number)

    def finish(self, tile: Tile) -> Work:
        """Vector work on a block of finished sums, where they lie."""

        def make() -> Work:
            words = outputs_of(tile)
            reads = self.n_bytes(words, self.sum_bits + sum(self.conv.fused.extra_bits))
            writes = self.n_bytes(words, self.conv.output_bits)
            work = tuple((kind, times * words) for kind, times in self.operations)
            cycles = vector_cycles(self.machine.vector, work, reduces=self.conv.fused.reduces)
            counters = Counters(
                vector_operations=dict(work),
                buffer_read_bytes={self.maps: reads},
                buffer_write_bytes={self.maps: writes},
            )
            cycles = max(cycles, self._access_cycles(reads, writes))
            return Work(cycles, 0, 0, self._energy(counters), counters)

        return self._remember("finish", tile, make)

    def store_outputs(self, tile: Tile) -> Work:
        """Finished output maps of all filters of the buffer, coded on the way."""
        words, bits = outputs_of(tile), self.conv.output_bits

        def make() -> Work:
            run_bytes = self._dram_bytes(words, bits, self.conv.output_zeros)
            cost = transfer(self.machine, n_runs=1, run_bytes=run_bytes, stride_bytes=run_bytes)
            counters = Counters(
                dram_write_bytes=cost.n_bytes,
                dram_activations=cost.n_activations,
                buffer_read_bytes={self.maps: self.n_bytes(words, bits)},
            )
            return Work(cost.latency_cycles, cost.occupancy_bytes, 0, self._energy(counters), counters)

        return self._remember("store", tile, make)

    def spread_filters(self, tile: Tile) -> Work:
        """Filters of a pass into the scratchpads; nothing is multiplied meanwhile."""

        def make() -> Work:
            words = self.filter_words(tile)
            cycles = ceil_div(words, self.pads.filter_words_per_cycle) if self.rules.filters_between_passes else 1
            counters = Counters(buffer_read_bytes={self.ahead: self.n_bytes(words, self.conv.filter_bits)})
            return Work(cycles, 0, cycles, self._energy(counters), counters)

        return self._remember("spread", tile, make)

    def run_pass(self, tile: Tile) -> Work:
        """One pass: the slower of the busiest PE and of the partial sums' way between buffer and array."""

        def make() -> Work:
            psums = outputs_of(tile)
            inputs = self.n_bytes(self.input_words(tile), self.conv.input_bits)
            reads, writes = self.n_bytes(psums) + inputs, self.n_bytes(psums)
            cycles = max(self.pe_cycles(tile), self._access_cycles(reads, writes))
            if self.rules.psum_port:
                cycles = max(cycles, ceil_div(psums, self.pads.psum_words_per_cycle))
            taps = self.conv.kernel_rows * self.conv.kernel_columns
            counters = Counters(
                macs={self.conv.number_format: psums * tile.channels * taps},
                buffer_read_bytes={self.maps: reads},
                buffer_write_bytes={self.maps: writes},
            )
            return Work(cycles, 0, 0, self._energy(counters), counters)

        return self._remember("pass", tile, make, (self.mapping.filter_sets, self.mapping.channel_sets))

    def pe_cycles(self, tile: Tile) -> int:
        """Cycles of the busiest PE: for each output column and filter its products, and the partial sum from below."""
        filters = ceil_div(tile.filters, self.mapping.filter_sets)
        channels = ceil_div(tile.channels, self.mapping.channel_sets)
        products = tile.images * tile.columns * filters * channels * self.conv.kernel_columns
        sums = tile.images * tile.columns * filters if self.rules.adder_takes_psum else 0
        return ceil_div(products * self.rate.denominator, self.rate.numerator) + sums

    # -- shared ------------------------------------------------------------------------------------------

    def _load(self, words: int, bits: int | Fraction | None, zeros: float | None, buffer: str) -> Work:
        run_bytes = self._dram_bytes(words, bits, zeros)
        cost = transfer(self.machine, n_runs=1, run_bytes=run_bytes, stride_bytes=run_bytes)
        counters = Counters(
            dram_read_bytes=cost.n_bytes,
            dram_activations=cost.n_activations,
            buffer_write_bytes={buffer: self.n_bytes(words, bits)},
        )
        return Work(cost.latency_cycles, cost.occupancy_bytes, 0, self._energy(counters), counters)

    def _dram_bytes(self, words: int, bits: int | Fraction | None, zeros: float | None) -> int:
        return self.n_bytes(words, bits) if zeros is None else coded_bytes(words, zeros)

    def _access_cycles(self, reads: int, writes: int) -> int:
        return access_cycles(self.machine.buffers[0], read_bytes=reads, write_bytes=writes)

    def _energy(self, counters: Counters) -> float:
        return sum(energy_by_component(self.machine, counters, 0).values())

    def _remember(self, what: str, tile: Tile, make: Callable[[], Work], more: object = 0) -> Work:
        key = (what, tile, more)
        work = self._known.get(key)
        if work is None:
            work = self._known[key] = make()
        return work
