"""What the tiles of a matrix product or convolution cost."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cached_property
from math import gcd

from tilewright.hw_models.block_steps import ConvShape
from tilewright.hw_models.energy import Counters
from tilewright.hw_models.links import multicasts
from tilewright.hw_models.spec import MachineSpec
from tilewright.hw_models.vector_unit import RESULTS
from tilewright.sim.dataflows.gemm.stages import n_sharing
from tilewright.sim.dataflows.spans import Span
from tilewright.sim.lowering.costs import TileCosts, Work
from tilewright.sim.lowering.levels import levels_of
from tilewright.sim.lowering.mapping import Tiling
from tilewright.units import bits_to_bytes, ceil_div
from tilewright.workloads.conv_window import ConvWindow, Slab, spanned
from tilewright.workloads.gemm import Fused, GemmLayer
from tilewright.workloads.homes import DRAM, held_in
from tilewright.workloads.vector_work import LinePixels, UnitValues

__all__ = ["GemmCosts", "conv_shape", "vector_operations"]

_RECTIFIED = (("max", 1),)


def conv_shape(window: ConvWindow) -> ConvShape:
    """What a matrix unit must know of a convolution."""
    stride = max(window.stride_height, window.stride_width)
    return ConvShape(window.kernel_height, window.kernel_width, window.out_width, stride)


def vector_operations(fused: Fused, machine: MachineSpec) -> tuple[tuple[str, int], ...]:
    """What is left of ``fused`` for the vector unit: nothing of a rectification where results are rectified on their
    way out (``matrix.scratchpads.rectifier``).
    """
    pads = machine.matrix.scratchpads
    rectified = pads is not None and pads.rectifier and not fused.extra_bits and fused.operations == _RECTIFIED
    return () if rectified else fused.operations


def passing_results(machine: MachineSpec, rows: int, columns: int) -> int:
    """Values that pass the vector unit behind a tile of a product: in whole groups of the matrix unit's columns where
    all results leave that way.
    """
    if not machine.vector.passes_results:
        return rows * columns
    return rows * ceil_div(columns, machine.matrix.columns) * machine.matrix.columns


class GemmCosts(TileCosts):
    """Costs of the tiles of one product. ``row_tile`` and ``depth_tile`` are the extents of a full tile of A."""

    layer: GemmLayer

    def __init__(self, layer: GemmLayer, machine: MachineSpec) -> None:
        super().__init__(layer, machine)
        self.operations = vector_operations(layer.fused, machine)
        self.through_vector_unit = bool(self.operations) or machine.vector.takes_results
        self.conv = None if layer.window is None else conv_shape(layer.window)
        self._of_products = (
            layer.compute_format, layer.a_bits, layer.b_bits, layer.accumulator_bits, self.conv, layer.speed,
            layer.primitive,
        )  # fmt: skip
        near = machine.working_buffer.name
        homes = layer.homes
        self.is_near = {"a": homes.a == near, "b": homes.b == near, "out": homes.out == near}
        self.loaded_extras = tuple(i for i in range(len(layer.fused.extra_bits)) if homes.extra(i) != near)
        self.levels = levels_of(machine)
        self.n_sharing = {operand: n_sharing(layer, machine, operand) for operand in ("a", "b")}
        self.multicasts = multicasts(machine)
        self._of_tiles: dict[tuple[int, int, int], tuple[int, float]] = {}
        self.asked: dict[tuple[object, ...], Work] = {}  # works by all that they depend on
        self._of_slabs: dict[tuple[Span, int, int, int], tuple[int, int, int]] = {}

    # -- all tiles -----------------------------------------------------------------------------------------

    def of_tiles(self, tiling: Tiling, make: Callable[[], tuple[int, float]]) -> tuple[int, float]:
        """A figure of the tiles' extents alone, remembered by them."""
        key = (tiling["m"], tiling["n"], tiling["k"])
        if key not in self._of_tiles:
            self._of_tiles[key] = make()
        return self._of_tiles[key]

    def energy_of(self, counters: Counters) -> float:
        """pJ of what ``counters`` say, idle power left out."""
        return self._energy(counters)

    @cached_property
    def dram_pj_per_byte(self) -> tuple[float, float]:
        """pJ of a byte read from the DRAM and of one written to it, buffers on its way left out."""
        many = 1_000_000
        return (
            self.energy_of(Counters(dram_read_bytes=many)) / many,
            self.energy_of(Counters(dram_write_bytes=many)) / many,
        )

    @cached_property
    def least_bits(self) -> tuple[int | Fraction, int | Fraction, int | Fraction, int | Fraction]:
        """Of a group: one pass over A, one over B, fused inputs from the DRAM, and results that are stored there."""
        layer, homes, outputs = self.layer, self.layer.homes, self.layer.m * self.layer.n
        extras = sum(bits for i, bits in enumerate(layer.fused.extra_bits) if homes.extra(i) == DRAM)
        return (
            self.least_a_elements * layer.a_bits,
            layer.k * layer.n * layer.b_bits,
            outputs * extras,
            outputs * (layer.out_bits if homes.out == DRAM else 0),
        )

    # -- A -------------------------------------------------------------------------------------------------

    def held_bytes(self, buffer: str) -> int:
        return held_in(self.layer.homes, buffer)

    def load_a(self, rows: Span, depth: Span, *, row_tile: int, depth_tile: int, home: str | None = None) -> Work:
        """A tile (rows, depth): rows of a row-major matrix, or the input slab of a convolution (NHWC).

        ``home``: where from (None: where A lives).
        """
        runs, run, stride = self._a_runs(rows, depth, row_tile, depth_tile)
        home = self.layer.homes.a if home is None else home
        return self.load(runs, run, self.layer.a_bits, stride_elements=stride, home=home)

    def fetch_a(self, to: str, rows: Span, depth: Span, *, row_tile: int, depth_tile: int) -> Work:
        """Such a tile from the DRAM into the level ``to``."""
        runs, run, stride = self._a_runs(rows, depth, row_tile, depth_tile)
        return self.fetch(to, runs, run, self.layer.a_bits, stride_elements=stride)

    def bring_a(self, rows: Span, depth: Span, *, row_tile: int, depth_tile: int, home: str | None = None) -> Work:
        """Such a tile for several cores, to one of them (:meth:`send_a`)."""
        runs, run, stride = self._a_runs(rows, depth, row_tile, depth_tile)
        home = self.layer.homes.a if home is None else home
        return self.bring(runs, run, self.layer.a_bits, stride_elements=stride, home=home)

    def send_a(self, rows: Span, depth: Span, n_cores: int, *, row_tile: int, depth_tile: int) -> Work:
        """Such a tile from one core to ``n_cores``."""
        runs, run, _ = self._a_runs(rows, depth, row_tile, depth_tile)
        return self.send(runs * run, self.layer.a_bits, n_cores)

    def _a_runs(self, rows: Span, depth: Span, row_tile: int, depth_tile: int) -> tuple[int, int, int]:
        """(runs, elements of a run, their distance) of a tile of A in its memory."""
        layer, window = self.layer, self.layer.window
        if window is None:
            return rows.size, depth.size, self._gap(depth.size, layer.k)
        key = (rows, depth.size, row_tile, depth_tile)
        known = self._of_slabs.get(key)
        if known is None:
            known = self._of_slabs[key] = self._slab_runs(window, rows, depth, row_tile, depth_tile)
        return known

    def _slab_runs(
        self, window: ConvWindow, rows: Span, depth: Span, row_tile: int, depth_tile: int
    ) -> tuple[int, int, int]:
        layer = self.layer
        slab = self.slab(rows, row_tile)
        channels, of_channels = self.channels(depth.size, depth_tile), layer.k // window.taps
        if channels < of_channels:
            return slab.pixels, channels, of_channels
        touching = slab.columns == window.in_width and slab.row_step == 1
        stride = 0 if touching else slab.row_step * window.in_width * channels
        return slab.rows, slab.columns * channels, stride

    def load_new_a(self, rows: Span) -> Work:
        """The input rows of a tile of whole output rows that the tile before it did not need."""
        layer, window = self.layer, self.layer.window
        assert window is not None
        n_rows = rows.size // window.out_width * window.stride_height
        if rows.last:
            before, end = (self._needed_end(pixel) for pixel in (rows.start, layer.m))
            n_rows = max(1, end - before)
        channels = layer.k // window.taps
        columns = window.slab_at(0, window.out_width).columns
        stride = 0 if columns == window.in_width else window.in_width * channels
        return self.load(n_rows, columns * channels, layer.a_bits, stride_elements=stride, home=layer.homes.a)

    def _needed_end(self, pixel: int) -> int:
        """The row behind the last that the output pixels before ``pixel`` need."""
        window = self.layer.window
        assert window is not None
        last = pixel // window.out_width - 1
        return max(0, min(window.in_height, last * window.stride_height - window.pad_top + window.reach_height))

    def halo_bytes(self) -> int:
        """Room for the rows that a tile leaves for the next one."""
        layer, window = self.layer, self.layer.window
        assert window is not None
        pixels = (window.reach_height - window.stride_height) * window.slab_at(0, window.out_width).columns
        return bits_to_bytes(pixels * (layer.k // window.taps) * layer.a_bits)

    @cached_property
    def least_a_elements(self) -> int:
        """Elements of A that one pass over all the rows of a group loads at least."""
        layer = self.layer
        if layer.window is None:
            return layer.m * layer.k
        if layer.before_cut.m != layer.m:  # a piece of the map: how much of it the pixels need is not told apart
            return 0
        return layer.window.needed_pixels * (layer.k // layer.window.taps)

    def slab(self, rows: Span, row_tile: int) -> Slab:
        """The input of one tile of output pixels: exact for the first and the last, enough for any in between."""
        layer, window = self.layer, self.layer.window
        assert window is not None
        cut_between_rows = layer.before_cut.m != layer.m  # then every core's first and last tile is another one
        if cut_between_rows or not (rows.first or rows.last):
            return window.largest_slab(rows.size, tile=self._begins(row_tile))
        return window.slab_at(rows.start, rows.size)

    def _begins(self, row_tile: int) -> int:
        """Of which number of rows all tiles of ``row_tile`` rows begin at a multiple, on every core."""
        layer = self.layer
        return row_tile if layer.before_cut.m == layer.m else gcd(row_tile, layer.m)

    def channels(self, depth: int, depth_tile: int) -> int:
        """Channels that ``depth`` neighbours along k can lie in."""
        assert self.layer.window is not None
        taps = self.layer.window.taps
        return min(spanned(depth, depth_tile, taps), self.layer.k // taps)

    def a_bytes(self, row_tile: int, depth_tile: int) -> int:
        """Room that an A tile takes on chip."""
        window = self.layer.window
        if window is None:
            return bits_to_bytes(row_tile * depth_tile * self.layer.a_bits)
        pixels = window.largest_slab(row_tile, tile=self._begins(row_tile)).pixels
        return bits_to_bytes(pixels * self.channels(depth_tile, depth_tile) * self.layer.a_bits)

    def staged_a_bytes(self, rows: int) -> int:
        """Room that ``rows`` of A, a part of it, take in a level behind the working buffer."""
        layer, window = self.layer, self.layer.window
        if window is None:
            return bits_to_bytes(rows * layer.k * layer.a_bits)
        pixels = window.needed_pixels if rows == layer.m else window.largest_slab(rows, tile=self._begins(rows)).pixels
        return bits_to_bytes(pixels * (layer.k // window.taps) * layer.a_bits)

    # -- B -------------------------------------------------------------------------------------------------

    def load_b(self, depth: int, columns: int, *, home: str | None = None) -> Work:
        """B tile: one run when B is a weight (stored tile by tile), else rows of a row-major matrix.

        ``home``: where from (None: where B lives).
        """
        runs, run, stride = self._b_runs(depth, columns)
        home = self.layer.homes.b if home is None else home
        return self.load(runs, run, self.layer.b_bits, stride_elements=stride, home=home)

    def fetch_b(self, to: str, depth: int, columns: int) -> Work:
        """Such a tile from the DRAM into the level ``to``."""
        runs, run, stride = self._b_runs(depth, columns)
        return self.fetch(to, runs, run, self.layer.b_bits, stride_elements=stride)

    def bring_b(self, depth: int, columns: int, *, home: str | None = None) -> Work:
        """Such a tile for several cores, to one of them (:meth:`send_b`)."""
        runs, run, stride = self._b_runs(depth, columns)
        home = self.layer.homes.b if home is None else home
        return self.bring(runs, run, self.layer.b_bits, stride_elements=stride, home=home)

    def send_b(self, depth: int, columns: int, n_cores: int) -> Work:
        """Such a tile from one core to ``n_cores``."""
        return self.send(depth * columns, self.layer.b_bits, n_cores)

    def _b_runs(self, depth: int, columns: int) -> tuple[int, int, int]:
        """(runs, elements of a run, their distance) of a tile of B in its memory."""
        if self.layer.b_is_weight:
            return 1, depth * columns, 0
        return depth, columns, self._gap(columns, self.layer.before_cut.n)

    def b_bytes(self, depth_tile: int, column_tile: int) -> int:
        """Room that a B tile takes on chip."""
        return bits_to_bytes(depth_tile * column_tile * self.layer.b_bits)

    # -- C -------------------------------------------------------------------------------------------------

    def multiply(self, rows: int, depth: int, columns: int, *, add_to: bool) -> Work:
        """One tile of the product into the accumulators."""
        layer = self.layer
        return self._remember_of_machine(
            ("multiply", rows, depth, columns, add_to),
            lambda: self.product(
                rows,
                depth,
                columns,
                number_format=layer.compute_format,
                a_bits=layer.a_bits,
                b_bits=layer.b_bits,
                out_bits=layer.accumulator_bits,
                partial_bits=layer.accumulator_bits,
                add_to=add_to,
                conv=self.conv,
                speed=layer.speed,
                primitive=layer.primitive,
            ),
            self._of_products,
        )

    def epilogue(self, rows: int, columns: int) -> Work:
        """The fused vector work on one output tile, or its way through the vector unit."""
        layer, n = self.layer, rows * columns
        return self.vector(
            tuple((kind, times * n) for kind, times in self.operations),
            reads_bits=n * (layer.accumulator_bits + sum(layer.fused.extra_bits)),
            writes_bits=n * layer.out_bits,
            reduces=layer.fused.reduces,
            values=UnitValues(
                RESULTS, passing_results(self.machine, rows, columns), pixels=self._pixels(rows, columns)
            ),
        )

    def _pixels(self, rows: int, columns: int) -> LinePixels | None:
        """What passes the lines behind the matrix unit, where there are some."""
        if self.machine.vector.lines is None:
            return None
        return LinePixels(rows, rows * self.layer.fused.line_results, columns, kernel=1)

    def store_c(self, rows: int, columns: int) -> Work:
        """Output tile to its home, rows of a row-major matrix."""
        gap = self._gap(columns, self.layer.before_cut.n)
        return self.store(rows, columns, self.layer.out_bits, stride_elements=gap, home=self.layer.homes.out)

    def load_extra(self, number: int, rows: int, columns: int) -> Work:
        """The tile of a fused input, which has the output's shape."""
        bits, home = self.layer.fused.extra_bits[number], self.layer.homes.extra(number)
        gap = self._gap(columns, self.layer.before_cut.n)
        return self.load(rows, columns, bits, stride_elements=gap, home=home)

    def c_bytes(self, row_tile: int, column_tile: int) -> int:
        """Room that the accumulators of an output tile take on chip."""
        return bits_to_bytes(row_tile * column_tile * self.layer.accumulator_bits)

    def extra_bytes(self, row_tile: int, column_tile: int) -> int:
        """Room that the fused inputs of an output tile take on chip."""
        bits = self.layer.fused.extra_bits
        return bits_to_bytes(row_tile * column_tile * sum(bits[i] for i in self.loaded_extras))

    @staticmethod
    def _gap(run: int, of: int) -> int:
        """The stride of runs of ``run`` elements in rows of ``of``; 0 where they touch."""
        return of if run < of else 0
