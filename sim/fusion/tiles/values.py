"""Operators of a fusion graph on numbers, for any rectangle of their output.

An operator sees a map through a :class:`Window`: a rectangle of it that is on chip. Everything outside the map is
padding; everything inside the map but outside the rectangle is NaN, so that a value that should have been kept and was
not shows in the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.sim.fusion.graph.fusion_graph import FusionNode
from tilewright.sim.fusion.graph.geometry import FeatureMap
from tilewright.sim.fusion.row_values import RowReader, Rows
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["TileReader", "Values", "Window"]

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


class TileReader:
    """Computes rectangles of one image; ``values`` of weights and constants, in the shapes of ``stream``."""

    def __init__(self, stream: OperatorStream, values: Mapping[str, Values]) -> None:
        self._reader = RowReader(stream, values)
        self._operators = {operator.name: operator for operator in stream.operators}

    def part(
        self, node: FusionNode, inputs: Mapping[str, tuple[FeatureMap, Window]], rows: Span, columns: Span
    ) -> Values:
        """The rectangle rows x columns of the node's output, [channels, rows, columns]; ``inputs`` by stored tensor.

        Raises InputError for an operator that does not run on numbers.
        """
        seen = {name: Rows(tensor, _SeenRows(window)) for name, (tensor, window) in inputs.items()}
        found = [self._row(node, seen, row)[:, slice(*columns)] for row in range(*rows)]
        return np.stack(found, axis=1)

    def _row(self, node: FusionNode, seen: Mapping[str, Rows], row: int) -> Values:
        """One whole row; NaN where it depends on what is not on chip."""
        value: Values | None = None
        for name in node.operators:
            operator = self._operators[name]
            if operator.kind == "reduction":
                value = _mean_of_all(operator.text("function"), seen[self._reader.stream.base(operator.inputs[0]).name])
            else:
                value = self._reader.row(operator, node.output, row, seen, value)
        assert value is not None
        return value


class _SeenRows(dict[int, Values]):
    """Whole rows of a map, as far as a window has them."""

    def __init__(self, window: Window) -> None:
        super().__init__()
        self.window = window

    def __missing__(self, row: int) -> Values:
        found = self[row] = self.window.cut((row, row + 1), (0, self.window.width))[:, 0]
        return found


def _mean_of_all(function: str, x: Rows) -> Values:
    """(channels, 1): the mean of a whole map."""
    if function != "mean":
        raise InputError(f"{x.tensor.name}: only the mean of a whole map runs on numbers")
    return np.asarray(np.mean([x.rows[row] for row in range(x.tensor.height)], axis=(0, 2))[:, None])
