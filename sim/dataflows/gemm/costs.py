"""What the tiles of a matrix product or convolution cost."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from tilewright.hw_models.block_steps import ConvShape
from tilewright.hw_models.energy import Counters
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.spans import Span
from tilewright.sim.lowering.costs import TileCosts, Work
from tilewright.sim.lowering.mapping import Tiling
from tilewright.units import bits_to_bytes
from tilewright.workloads.conv_window import ConvWindow, Slab, spanned
from tilewright.workloads.gemm import Fused, GemmLayer

__all__ = ["GemmCosts", "conv_shape", "vector_operations"]

_RECTIFIED = (("max", 1),)


def conv_shape(window: ConvWindow) -> ConvShape:
    """What a matrix unit must know of a convolution."""
    return ConvShape(window.kernel_height, window.kernel_width, window.out_width)


def vector_operations(fused: Fused, machine: MachineSpec) -> tuple[tuple[str, int], ...]:
    """What is left of ``fused`` for the vector unit: nothing of a rectification where results are rectified on their
    way out (``matrix.scratchpads.rectifier``).
    """
    pads = machine.matrix.scratchpads
    rectified = pads is not None and pads.rectifier and not fused.extra_bits and fused.operations == _RECTIFIED
    return () if rectified else fused.operations


class GemmCosts(TileCosts):
    """Costs of the tiles of one product. ``row_tile`` and ``depth_tile`` are the extents of a full tile of A."""

    layer: GemmLayer

    def __init__(self, layer: GemmLayer, machine: MachineSpec) -> None:
        super().__init__(layer, machine)
        self.operations = vector_operations(layer.fused, machine)
        self.conv = None if layer.window is None else conv_shape(layer.window)
        self._of_tiles: dict[tuple[int, int, int], tuple[int, float]] = {}

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

    # -- A -------------------------------------------------------------------------------------------------

    def load_a(self, rows: Span, depth: Span, *, row_tile: int, depth_tile: int) -> Work:
        """A tile (rows, depth): rows of a row-major matrix, or the input slab of a convolution (NHWC)."""
        layer, window = self.layer, self.layer.window
        if window is None:
            return self.load(rows.size, depth.size, layer.a_bits, stride_elements=self._gap(depth.size, layer.k))
        slab = self.slab(rows, row_tile)
        channels, of_channels = self.channels(depth.size, depth_tile), layer.k // window.taps
        if channels < of_channels:
            return self.load(slab.pixels, channels, layer.a_bits, stride_elements=of_channels)
        touching = slab.columns == window.in_width and slab.row_step == 1
        stride = 0 if touching else slab.row_step * window.in_width * channels
        return self.load(slab.rows, slab.columns * channels, layer.a_bits, stride_elements=stride)

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
            return window.largest_slab(rows.size, tile=row_tile)
        return window.slab_at(rows.start, rows.size)

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
        pixels = window.largest_slab(row_tile, tile=row_tile).pixels
        return bits_to_bytes(pixels * self.channels(depth_tile, depth_tile) * self.layer.a_bits)

    # -- B -------------------------------------------------------------------------------------------------

    def load_b(self, depth: int, columns: int) -> Work:
        """B tile: one run when B is a weight (stored tile by tile), else rows of a row-major matrix."""
        layer = self.layer
        if layer.b_is_weight:
            return self.load(1, depth * columns, layer.b_bits)
        return self.load(depth, columns, layer.b_bits, stride_elements=self._gap(columns, layer.before_cut.n))

    def b_bytes(self, depth_tile: int, column_tile: int) -> int:
        """Room that a B tile takes on chip."""
        return bits_to_bytes(depth_tile * column_tile * self.layer.b_bits)

    # -- C -------------------------------------------------------------------------------------------------

    def multiply(self, rows: int, depth: int, columns: int, *, add_to: bool) -> Work:
        """One tile of the product into the accumulators."""
        layer = self.layer
        return self._remember(
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
            ),
        )

    def epilogue(self, rows: int, columns: int) -> Work:
        """The fused vector work on one output tile."""
        layer, n = self.layer, rows * columns
        return self.vector(
            tuple((kind, times * n) for kind, times in self.operations),
            reads_bits=n * (layer.accumulator_bits + sum(layer.fused.extra_bits)),
            writes_bits=n * layer.out_bits,
            reduces=layer.fused.reduces,
        )

    def store_c(self, rows: int, columns: int) -> Work:
        """Output tile to DRAM, rows of a row-major matrix."""
        return self.store(
            rows, columns, self.layer.out_bits, stride_elements=self._gap(columns, self.layer.before_cut.n)
        )

    def load_extra(self, number: int, rows: int, columns: int) -> Work:
        """The tile of a fused input, which has the output's shape."""
        bits = self.layer.fused.extra_bits[number]
        return self.load(rows, columns, bits, stride_elements=self._gap(columns, self.layer.before_cut.n))

    def c_bytes(self, row_tile: int, column_tile: int) -> int:
        """Room that the accumulators of an output tile take on chip."""
        return bits_to_bytes(row_tile * column_tile * self.layer.accumulator_bits)

    def extra_bytes(self, row_tile: int, column_tile: int) -> int:
        """Room that the fused inputs of an output tile take on chip."""
        return bits_to_bytes(row_tile * column_tile * sum(self.layer.fused.extra_bits))

    @staticmethod
    def _gap(run: int, of: int) -> int:
        """The stride of runs of ``run`` elements in rows of ``of``; 0 where they touch."""
        return of if run < of else 0
