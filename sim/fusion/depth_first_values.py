"""Operators of a fusion graph on numbers, for any rectangle of their output.

An operator sees a map through a :class:`Window`: a rectangle of it that is on chip. Everything outside the map is
padding; everything inside the map but outside the rectangle is NaN, so that a value that should have been kept and was
not shows in the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.sim.fusion.graph import FusionEdge, FusionGraph, FusionNode

__all__ = ["Values", "Window", "compute", "random_weights", "run_unfused"]

Values = npt.NDArray[np.float64]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """``values[channels, rows, columns]`` of a map of ``height`` x ``width``, from pixel (``top``, ``left``) on."""

    values: Values
    top: int
    left: int
    height: int
    width: int

    def cut(self, rows: Span, columns: Span, padding: float = 0.0) -> Values:
        """The rectangle rows x columns (as [begin, end), which may reach beyond the map)."""
        shape = (self.values.shape[0], rows[1] - rows[0], columns[1] - columns[0])
        found = np.full(shape, padding)
        inside = [(max(begin, 0), min(end, n)) for (begin, end), n in ((rows, self.height), (columns, self.width))]
        if any(end <= begin for begin, end in inside):
            return found
        (r0, r1), (c0, c1) = inside
        found[:, r0 - rows[0] : r1 - rows[0], c0 - columns[0] : c1 - columns[0]] = np.nan
        n_rows, n_columns = self.values.shape[1:]
        r0, r1 = max(r0, self.top), min(r1, self.top + n_rows)
        c0, c1 = max(c0, self.left), min(c1, self.left + n_columns)
        if r1 > r0 and c1 > c0:
            here = self.values[:, r0 - self.top : r1 - self.top, c0 - self.left : c1 - self.left]
            found[:, r0 - rows[0] : r1 - rows[0], c0 - columns[0] : c1 - columns[0]] = here
        return found


def compute(
    node: FusionNode, inputs: Sequence[tuple[FusionEdge, Window]], weights: Values | None, rows: Span, columns: Span
) -> Values:
    """The rectangle rows x columns of the node's output, [channels, rows, columns].

    ``weights[out, in / groups, kernel rows, kernel columns]`` for convolutions ([in, out / groups, ...] for transposed
    ones). Raises InputError for an operator that is not known here.
    """
    match node.kind:
        case "conv" | "depthwise":
            assert weights is not None
            if node.function == "transposed":
                return _transposed(node, inputs[0], weights, rows, columns)
            return _convolution(node, inputs[0][1], weights, rows, columns)
        case "pool":
            return _pool(node, inputs[0][1], rows, columns)
        case "elementwise":
            return _elementwise(node, [_own_place(*one, rows, columns) for one in inputs])
        case "concat":
            parts = [window.cut(*_shifted(edge, rows, columns)) for edge, window in inputs]
            whole = (node.output.height, node.output.width)
            if all((window.height, window.width) == whole for _, window in inputs):
                return np.concatenate(parts)
            # Along rows or columns: each is zero (padding) where the others are.
            return np.asarray(np.sum(parts, axis=0))
        case "pad":
            return inputs[0][1].cut(*_shifted(inputs[0][0], rows, columns))
        case "upsample":
            return _nearest(node, inputs[0][1], rows, columns)
        case "reduction":
            window = inputs[0][1]
            return np.asarray(window.cut((0, window.height), (0, window.width)).mean(axis=(1, 2), keepdims=True))
    raise InputError(f"{node.name}: tiles of this kind of operator are not run on numbers; given {node.kind}")


def _reach(place: int, stride: int, pad: int, kernel: int, dilation: int, n: int) -> Span:
    begin = place * stride - pad
    return begin, begin + (n - 1) * stride + (kernel - 1) * dilation + 1


def _patches(node: FusionNode, window: Window, rows: Span, columns: Span, padding: float) -> Values:
    """[channels, output rows, output columns, kernel rows, kernel columns]."""
    (kr, kc), (sr, sc), (pr, pc), (dr, dc) = node.kernel, node.stride, node.padding, node.dilation
    patch = window.cut(
        _reach(rows[0], sr, pr, kr, dr, rows[1] - rows[0]),
        _reach(columns[0], sc, pc, kc, dc, columns[1] - columns[0]),
        padding,
    )
    reach = ((kr - 1) * dr + 1, (kc - 1) * dc + 1)
    sliding = np.lib.stride_tricks.sliding_window_view(patch, reach, axis=(1, 2))
    return np.asarray(sliding[:, ::sr, ::sc, ::dr, ::dc])


def _convolution(node: FusionNode, window: Window, weights: Values, rows: Span, columns: Span) -> Values:
    patches = _patches(node, window, rows, columns, 0.0)
    groups = np.split(patches, node.groups)
    filters = np.split(weights, node.groups)
    return np.concatenate([np.einsum("crsij,kcij->krs", p, w) for p, w in zip(groups, filters, strict=True)])


def _pool(node: FusionNode, window: Window, rows: Span, columns: Span) -> Values:
    if "max" in node.function:
        return np.asarray(_patches(node, window, rows, columns, -np.inf).max(axis=(3, 4)))
    return np.asarray(_patches(node, window, rows, columns, 0.0).mean(axis=(3, 4)))


def _transposed(
    node: FusionNode, source: tuple[FusionEdge, Window], weights: Values, rows: Span, columns: Span
) -> Values:
    """Every input spreads over the kernel's taps; here seen from the outputs, tap by tap."""
    window = source[1]
    found = np.zeros((node.output.channels, rows[1] - rows[0], columns[1] - columns[0]))
    per_group = node.output.channels // node.groups
    n_in = node.in_channels // node.groups
    for tap_row in range(node.kernel[0]):
        for tap_column in range(node.kernel[1]):
            places = [
                [(p, *divmod(p + pad - tap * d, s)) for p in range(*span)]
                for span, pad, tap, d, s in zip(
                    (rows, columns), node.padding, (tap_row, tap_column), node.dilation, node.stride, strict=True
                )
            ]
            for row, in_row, off_row in places[0]:
                for column, in_column, off_column in places[1]:
                    if off_row or off_column:
                        continue
                    pixel = window.cut((in_row, in_row + 1), (in_column, in_column + 1))[:, 0, 0]
                    for g in range(node.groups):
                        here = pixel[g * n_in : (g + 1) * n_in]
                        tap = weights[g * n_in : (g + 1) * n_in, :, tap_row, tap_column]
                        out = slice(g * per_group, (g + 1) * per_group)
                        found[out, row - rows[0], column - columns[0]] += here @ tap
    return found


def _own_place(edge: FusionEdge, window: Window, rows: Span, columns: Span) -> Values:
    """What an element-wise operator reads: its own place, or the one value for all where the map has but one."""
    return window.cut(
        (0, window.height) if edge.rows.whole else rows, (0, window.width) if edge.columns.whole else columns
    )


def _elementwise(node: FusionNode, operands: list[Values]) -> Values:
    if len(operands) == 1:
        return np.asarray(np.maximum(operands[0], 0.0))  # stands for any function of one value
    found = operands[0]
    for operand in operands[1:]:
        found = found * operand if node.function == "mul" else found + operand
    return found


def _shifted(edge: FusionEdge, rows: Span, columns: Span) -> tuple[Span, Span]:
    """The place of an output rectangle in an input that stands behind others, or inside a border."""
    pads = edge.rows.pad, edge.columns.pad
    return (rows[0] - pads[0], rows[1] - pads[0]), (columns[0] - pads[1], columns[1] - pads[1])


def _nearest(node: FusionNode, window: Window, rows: Span, columns: Span) -> Values:
    places = [
        [place * n_in // n_out for place in range(*span)]
        for span, n_in, n_out in (
            (rows, window.height, node.output.height),
            (columns, window.width, node.output.width),
        )
    ]
    here = window.cut((places[0][0], places[0][-1] + 1), (places[1][0], places[1][-1] + 1))
    across = [place - places[1][0] for place in places[1]]
    return np.asarray(here[:, [place - places[0][0] for place in places[0]]][:, :, across])


def random_weights(graph: FusionGraph, seed: int) -> dict[int, Values]:
    """Small whole numbers for the weights of every convolution: sums of their products are exact."""
    draw = np.random.default_rng(seed)
    found = {}
    for node in graph.nodes:
        if node.kind in ("conv", "depthwise"):
            sides = (node.output.channels, node.in_channels // node.groups)
            if node.function == "transposed":
                sides = (node.in_channels, node.output.channels // node.groups)
            found[node.index] = draw.integers(-2, 3, (*sides, *node.kernel)).astype(float)
    return found


def run_unfused(graph: FusionGraph, inputs: dict[str, Values], weights: dict[int, Values]) -> dict[str, Values]:
    """Every node as a whole, one after the other: all maps by name."""
    maps = dict(inputs)
    for node in graph.nodes:
        seen = [(edge, _whole(maps[edge.tensor.name])) for edge in graph.edges_in[node.index]]
        spans = (0, node.output.height), (0, node.output.width)
        maps[node.output.name] = compute(node, seen, weights.get(node.index), *spans)
    return maps


def _whole(values: Values) -> Window:
    return Window(values=values, top=0, left=0, height=values.shape[1], width=values.shape[2])
