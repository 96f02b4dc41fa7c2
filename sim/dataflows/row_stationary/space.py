"""The mappings of a row-stationary convolution: what each number means, and the values worth trying.

The letters of the publications stand in the meanings. Sizes that fill the array or a scratchpad, and equal parts of the
layer's extents, are tried; what does not fit is left out by the search.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from tilewright.hw_models.spec import MachineSpec, ScratchpadSpec
from tilewright.sim.dataflows.gemm.costs import GemmCosts
from tilewright.sim.dataflows.row_stationary.costs import Convolution, RowFigures, RowMapping
from tilewright.sim.lowering.mapping import Parameter, Tiling, tile_sizes
from tilewright.units import ceil_div
from tilewright.workloads.conv_window import ConvWindow
from tilewright.workloads.gemm import GemmLayer

__all__ = ["PARAMETERS", "convolution_of", "figures_of", "is_legal", "mapping_of", "window_of"]

MOST_BLOCKS = 6  # candidates for the filters of a block
BLOCK_GRANULE = 8
MOST_IMAGES = 4
PARTS_OF_A_ROW = (1, 2, 4)
PARTS_OF_THE_ARRAY = (1, 2, 4)


def window_of(layer: GemmLayer) -> ConvWindow:
    """The window of a layer that is a convolution."""
    assert layer.window is not None
    return layer.window


def channels_of(layer: GemmLayer) -> int:
    """Input channels of a group."""
    return layer.k // window_of(layer).taps


def convolution_of(layer: GemmLayer, n_groups: int) -> Convolution:
    """``n_groups`` groups of ``layer`` in the words of the row-stationary program."""
    window = window_of(layer)
    return Convolution(
        batch=window.images,
        groups=n_groups,
        filters=layer.n,
        channels=channels_of(layer),
        rows=window.out_height,
        columns=window.out_width,
        kernel_rows=window.kernel_height,
        kernel_columns=window.kernel_width,
        stride=window.stride_height,
        number_format=layer.compute_format,
        input_bits=layer.a_bits,
        filter_bits=layer.b_bits,
        output_bits=layer.out_bits,
        fused=layer.fused,
    )


def figures_of(costs: GemmCosts, n_groups: int) -> RowFigures:
    """What all mappings of ``n_groups`` groups of the layer of ``costs`` share, made once for these costs."""
    of_groups = _FIGURES.setdefault(costs, {})
    if n_groups not in of_groups:
        of_groups[n_groups] = RowFigures(convolution_of(costs.layer, n_groups), costs.machine)
    return of_groups[n_groups]


_FIGURES: WeakKeyDictionary[GemmCosts, dict[int, RowFigures]] = WeakKeyDictionary()


def mapping_of(layer: GemmLayer, tiling: Tiling) -> RowMapping:
    """``tiling`` in the words of the row-stationary program."""
    columns = tiling["columns"]
    return RowMapping(**{**tiling, "columns": 0 if columns == window_of(layer).out_width else columns})


def is_legal(layer: GemmLayer, tiling: Tiling) -> bool:
    """Whether a pass is no larger than what it is a part of (array, scratchpads and buffers are asked later)."""
    filters = tiling["set_filters"] * tiling["filter_sets"]
    channels = tiling["set_channels"] * tiling["channel_sets"]
    return filters <= tiling["filters"] and channels <= channels_of(layer)


def _pads(machine: MachineSpec) -> ScratchpadSpec:
    assert machine.matrix.scratchpads is not None
    return machine.matrix.scratchpads


def _upright_sets(layer: GemmLayer, machine: MachineSpec) -> int:
    """Sets above each other on the array."""
    return max(1, machine.matrix.rows // window_of(layer).kernel_height)


def _strips(layer: GemmLayer, machine: MachineSpec) -> tuple[int, ...]:
    """Equal parts of the output's rows: the widest that the array has room for, as wide as it is, and parts of it."""
    rows, wide = window_of(layer).out_height, machine.matrix.columns
    room = wide * _upright_sets(layer, machine)
    sizes = tile_sizes(rows, 1, most=rows)
    limits = (room, ceil_div(room, 2), *(max(1, wide // part) for part in PARTS_OF_THE_ARRAY))
    return tuple(dict.fromkeys(max((size for size in sizes if size <= limit), default=1) for limit in limits))


def _set_filters(layer: GemmLayer, machine: MachineSpec) -> tuple[int, ...]:
    """Multiples of the words that come in a cycle, up to what a PE has partial sums for."""
    pads = _pads(machine)
    most = min(layer.n, pads.psum_words, pads.filter_words)
    step = min(most, pads.filter_words_per_cycle)
    return tuple(range(most - most % step, 0, -step))


def _set_channels(layer: GemmLayer, machine: MachineSpec) -> tuple[int, ...]:
    """As many as a PE has rows of inputs for, and fewer."""
    most = max(1, min(channels_of(layer), _pads(machine).ifmap_words // window_of(layer).kernel_width))
    return tuple(range(most, 0, -1)) if most <= 4 else tuple(dict.fromkeys((*tile_sizes(most, 1, most=5), 1)))


def _sets(extent: int, layer: GemmLayer, machine: MachineSpec) -> tuple[int, ...]:
    """Powers of two, and as many as stand above each other; none beyond ``extent`` or the array."""
    upright = _upright_sets(layer, machine)
    most = min(extent, upright * machine.matrix.columns)
    powers = [1 << i for i in range(most.bit_length())]
    return tuple(sorted({*(n for n in powers if n <= 2 * upright), min(upright, most)}))


def _columns(layer: GemmLayer, machine: MachineSpec) -> tuple[int, ...]:
    width = window_of(layer).out_width
    return tuple(dict.fromkeys(ceil_div(width, parts) for parts in PARTS_OF_A_ROW))


PARAMETERS = (
    Parameter(
        name="images",
        meaning="images whose partial sums the buffer holds together (n)",
        candidates=lambda layer, machine: tile_sizes(window_of(layer).images, 1, most=MOST_IMAGES),
        largest=lambda layer: window_of(layer).images,
    ),
    Parameter(
        name="filters",
        meaning="filters whose partial sums the buffer holds together (m)",
        candidates=lambda layer, machine: tile_sizes(layer.n, BLOCK_GRANULE, most=MOST_BLOCKS),
        largest=lambda layer: layer.n,
    ),
    Parameter(
        name="strip",
        meaning="output rows of a set of PEs (e)",
        candidates=_strips,
        largest=lambda layer: window_of(layer).out_height,
    ),
    Parameter(
        name="columns",
        meaning="output columns at a time",
        candidates=_columns,
        largest=lambda layer: window_of(layer).out_width,
    ),
    Parameter(
        name="set_filters",
        meaning="filters that a PE works on (p)",
        candidates=_set_filters,
        largest=lambda layer: layer.n,
    ),
    Parameter(
        name="set_channels",
        meaning="channels that a PE works on (q)",
        candidates=_set_channels,
        largest=channels_of,
    ),
    Parameter(
        name="channel_sets",
        meaning="sets of PEs side by side for further channels (r)",
        candidates=lambda layer, machine: _sets(channels_of(layer), layer, machine),
        largest=channels_of,
    ),
    Parameter(
        name="filter_sets",
        meaning="sets of PEs side by side for further filters (t)",
        candidates=lambda layer, machine: _sets(layer.n, layer, machine),
        largest=lambda layer: layer.n,
    ),
)
