"""One row of an operator's result from the rows of its inputs, on numbers.

A row of a map is an array (channels, width). Written from the definition of each operator on one row, apart from
:mod:`tilewright.sim.fusion.reference`, which computes whole tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.sim.fusion.graph.geometry import FeatureMap
from tilewright.sim.kinds.elementwise import FUNCTIONS
from tilewright.sim.kinds.values import operator_on_numbers
from tilewright.workloads.operators import Operator, TensorSpec
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["RowReader", "Rows", "from_maps", "to_maps"]

FloatArray = npt.NDArray[np.float64]


def to_maps(tensor: FeatureMap, values: FloatArray) -> FloatArray:
    """A tensor in the stream's shape as (batch, channels, height, width)."""
    if tensor.channels_first:
        return values.reshape(tensor.batch, tensor.channels, tensor.height, tensor.width)
    rows = values.reshape(tensor.batch, tensor.height, tensor.width, tensor.channels)
    return rows.transpose(0, 3, 1, 2)


def from_maps(tensor: FeatureMap, maps: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """The inverse of :func:`to_maps`."""
    return (maps if tensor.channels_first else maps.transpose(0, 2, 3, 1)).reshape(shape)


class Rows(NamedTuple):
    """Some rows of a map."""

    tensor: FeatureMap
    rows: Mapping[int, FloatArray]

    def padded(self, row: int, left: int, width: int, fill: float) -> FloatArray:
        """``width`` columns of a row from column -left on, ``fill`` outside the map."""
        tensor = self.tensor
        found = np.full((tensor.channels, width), fill)
        if 0 <= row < tensor.height:
            begin, end = max(0, -left), min(width, tensor.width - left)
            if end > begin:
                found[:, begin:end] = self.rows[row][:, begin + left : end + left]
        return found

    def whole(self, shape: tuple[int, ...]) -> FloatArray:
        """All values of one image in the stream's shape."""
        image = np.stack([self.rows[row] for row in range(self.tensor.height)], axis=1)[None]
        return from_maps(self.tensor._replace(batch=1), image, shape)


class RowReader:
    """Computes rows of the operators of ``stream``; ``values`` are those of weights and constants."""

    def __init__(self, stream: OperatorStream, values: Mapping[str, FloatArray]) -> None:
        self.stream, self.values = stream, values

    def row(
        self, operator: Operator, output: FeatureMap, row: int, inputs: Mapping[str, Rows], before: FloatArray | None
    ) -> FloatArray:
        """Row ``row`` of the result. ``inputs`` by stored tensor; ``before``: what the operator rides on, else None."""
        match operator.kind:
            case "conv":
                return self._conv(operator, output, row, self._rows(operator, 0, inputs))
            case "pool":
                return _pool(operator, output, row, self._rows(operator, 0, inputs))
            case "matmul":
                return self._product(operator, output, row, self._rows(operator, 0, inputs))
            case "attention":
                return _attention(operator, row, [self._rows(operator, place, inputs) for place in range(3)])
            case "reshape":
                return self._moved(operator, output, row, inputs)
        sides = [self._aligned(operator, name, output, row, inputs, before) for name in operator.inputs]
        if operator.kind == "elementwise":
            found = FUNCTIONS[operator.text("function")](*sides)
            return np.broadcast_to(found, (output.channels, output.width)).copy()
        if operator.kind == "softmax":
            powers = np.exp(sides[0] - sides[0].max(axis=0))
            return np.asarray(powers / powers.sum(axis=0))
        if operator.kind == "norm":
            return _norm(operator, sides)
        shape = (output.width, output.channels)
        return operator_on_numbers(operator, [np.broadcast_to(side.T, shape) for side in sides], shape).T

    def _rows(self, operator: Operator, place: int, inputs: Mapping[str, Rows]) -> Rows:
        return self.as_read(operator.inputs[place], inputs)

    def as_read(self, name: str, inputs: Mapping[str, Rows]) -> Rows:
        """Rows of the tensor that ``name`` is a view of, as it reads them: some channels, a map pixel by pixel, or
        pixels as a map.
        """
        spec = self.stream.tensor(name)
        if spec.view_of is None:
            return inputs[name]
        rows = self.as_read(spec.view_of, inputs)
        if spec.start:
            return _channels_of(rows, spec)
        return _in_order(rows, spec) if spec.order else rows

    def _weight(self, operator: Operator, place: int) -> FloatArray | None:
        if len(operator.inputs) <= place:
            return None
        spec = self.stream.tensor(operator.inputs[place])
        return np.asarray(self.values[self.stream.base(spec.name).name]).reshape(spec.shape)

    def _aligned(
        self,
        operator: Operator,
        name: str,
        output: FeatureMap,
        row: int,
        inputs: Mapping[str, Rows],
        before: FloatArray | None,
    ) -> FloatArray:
        """The part of an input that meets row ``row`` of the output: (channels or 1, width or 1)."""
        base = self.stream.base(name)
        if base.role in ("weight", "constant"):
            values = np.asarray(self.values[base.name]).reshape(self.stream.tensor(name).shape)
            if operator.kind == "norm":
                return values.reshape(-1, 1)
            return _broadcast_row(values, output, row)
        if base.name not in inputs:
            assert before is not None
            return before
        rows = self.as_read(name, inputs)
        return rows.rows[row if rows.tensor.height > 1 else 0]

    def _conv(self, operator: Operator, output: FeatureMap, row: int, x: Rows) -> FloatArray:
        weight, bias = self._weight(operator, 1), self._weight(operator, 2)
        assert weight is not None
        groups = operator.count("groups")
        (kh, kw), (sh, sw), (dh, dw) = (_pair(operator.sizes(k)) for k in ("kernel", "stride", "dilation"))
        top, left = _pair(operator.sizes("padding"))
        if operator.attributes["transposed"]:
            found = _turned(weight, x, output, row, groups, (kh, kw), (sh, sw), (dh, dw), (top, left))
        else:
            reach = (output.width - 1) * sw + (kw - 1) * dw + 1
            lines = np.stack([x.padded(row * sh + i * dh - top, -left, reach, 0.0) for i in range(kh)], axis=1)
            patches = np.stack(
                [lines[:, :, j * dw : j * dw + (output.width - 1) * sw + 1 : sw] for j in range(kw)], axis=2
            )
            parts = zip(np.split(weight, groups), np.split(patches, groups), strict=True)
            found = np.concatenate([np.einsum("ocij,cijw->ow", w, p) for w, p in parts])
        return found if bias is None else found + bias[:, None]

    def _product(self, operator: Operator, output: FeatureMap, row: int, x: Rows) -> FloatArray:
        weight, bias = self._weight(operator, 1), self._weight(operator, 2)
        assert weight is not None
        k, n = operator.count("k"), operator.count("n")
        weight = weight if weight.shape == (n, k) else weight.T
        if x.tensor.height == output.height and x.tensor.channels == k:
            values = x.rows[row]
        else:
            shape = self.stream.tensor(operator.inputs[0]).shape
            values = x.whole((1, *shape[1:]) if x.tensor.batch > 1 else shape).reshape(-1, k)[row][:, None]
        found: FloatArray = weight @ values
        return found if bias is None else found + bias[:, None]

    def _moved(self, operator: Operator, output: FeatureMap, row: int, inputs: Mapping[str, Rows]) -> FloatArray:
        function = operator.text("function")
        maps = [self._rows(operator, place, inputs) for place in range(len(operator.inputs))]
        x = maps[0]
        if function == "concat" and sum(one.tensor.channels for one in maps) == output.channels:
            return np.concatenate([one.rows[row] for one in maps])
        if function == "concat" and sum(one.tensor.height for one in maps) == output.height:
            for one in maps:
                if row < one.tensor.height:
                    return one.rows[row]
                row -= one.tensor.height
        if function == "upsample":
            down, across = output.height // x.tensor.height, output.width // x.tensor.width
            return np.repeat(x.rows[row // down], across, axis=1)
        if function == "pad":
            top, left = (output.height - x.tensor.height) // 2, (output.width - x.tensor.width) // 2
            return x.padded(row - top, -left, output.width, 0.0)
        raise InputError(f'{operator.name}: a move "{function}" does not run on numbers')


def _channels_of(rows: Rows, spec: TensorSpec) -> Rows:
    """Those channels that a part has; one of other dimensions is refused."""
    axis = 1 if rows.tensor.channels_first else len(spec.shape) - 1
    if any(first for at, first in enumerate(spec.start) if at != axis) or len(spec.shape) < 2:
        raise InputError(f"{spec.name}: a part of the rows does not run on numbers in fused groups")
    first, n = spec.start[axis], spec.shape[axis]
    return Rows(rows.tensor._replace(channels=n), _Channels(rows, first, n))


def _in_order(rows: Rows, spec: TensorSpec) -> Rows:
    tensor, shape = rows.tensor, spec.shape
    n_pixels = tensor.height * tensor.width
    if tensor.channels_first and shape[-2:] == (n_pixels, tensor.channels):
        seen = tensor._replace(height=n_pixels, width=1, channels_first=False)
        return Rows(seen, _PixelRows(rows))
    if not tensor.channels_first and len(shape) > 2 and math.prod(shape[2:]) == n_pixels:
        width = shape[-1]
        seen = tensor._replace(height=n_pixels // width, width=width, channels_first=True)
        return Rows(seen, _PixelMap(rows, width))
    raise InputError(f"{spec.name}: is read in an order that fused groups do not run on numbers")


class _Channels(Mapping[int, FloatArray]):
    """Some channels of rows."""

    def __init__(self, rows: Rows, first: int, n: int) -> None:
        self.of, self.first, self.n = rows, first, n

    def __getitem__(self, row: int) -> FloatArray:
        return self.of.rows[row][self.first : self.first + self.n]

    def __iter__(self) -> Iterator[int]:
        return iter(self.of.rows)

    def __len__(self) -> int:
        return len(self.of.rows)


class _PixelRows(Mapping[int, FloatArray]):
    """The pixels of a map, a row each."""

    def __init__(self, rows: Rows) -> None:
        self.of = rows

    def __getitem__(self, row: int) -> FloatArray:
        line, column = divmod(row, self.of.tensor.width)
        return self.of.rows[line][:, column : column + 1]

    def __iter__(self) -> Iterator[int]:
        width = self.of.tensor.width
        return (line * width + column for line in self.of.rows for column in range(width))

    def __len__(self) -> int:
        return len(self.of.rows) * self.of.tensor.width


class _PixelMap(Mapping[int, FloatArray]):
    """Rows of a pixel each, as the lines of a map."""

    def __init__(self, rows: Rows, width: int) -> None:
        self.of, self.width = rows, width

    def __getitem__(self, row: int) -> FloatArray:
        first = row * self.width
        return np.concatenate([self.of.rows[first + column] for column in range(self.width)], axis=1)

    def __iter__(self) -> Iterator[int]:
        return (row // self.width for row in self.of.rows if not row % self.width)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    return sizes[0], sizes[1]


def _broadcast_row(values: FloatArray, output: FeatureMap, row: int) -> FloatArray:
    """Row ``row`` of weights that broadcast to the output's shape."""
    if output.channels_first:
        shape: tuple[int, ...] = (1, output.channels, output.height, output.width)
    else:
        shape = (1, output.height, output.channels)
        if values.ndim > 3:
            raise InputError("weights of more dimensions than the rows that they meet do not run on numbers")
    whole = to_maps(output._replace(batch=1), np.broadcast_to(values, shape))
    return np.asarray(whole[0][:, row])


def _turned(
    weight: FloatArray,
    x: Rows,
    output: FeatureMap,
    row: int,
    groups: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    pad: tuple[int, int],
) -> FloatArray:
    """A row of a transposed convolution: each input spreads over the outputs that its taps reach."""
    found = np.zeros((output.channels, output.width))
    of_group = output.channels // groups
    for i in range(kernel[0]):
        source, rest = divmod(row + pad[0] - i * dilation[0], stride[0])
        if rest or not 0 <= source < x.tensor.height:
            continue
        for j in range(kernel[1]):
            for column in range(x.tensor.width):
                at = column * stride[1] + j * dilation[1] - pad[1]
                if 0 <= at < output.width:
                    values = x.rows[source][:, column]
                    parts = zip(np.split(weight[:, :, i, j], groups), np.split(values, groups), strict=True)
                    for g, (w, v) in enumerate(parts):
                        found[g * of_group : (g + 1) * of_group, at] += w.T @ v
    return found


def _pool(operator: Operator, output: FeatureMap, row: int, x: Rows) -> FloatArray:
    (kh, kw), (sh, sw), (top, left) = (_pair(operator.sizes(key)) for key in ("kernel", "stride", "padding"))
    dh, dw = _pair(operator.sizes("dilation")) if "dilation" in operator.attributes else (1, 1)
    average = operator.text("function") == "average"
    reach = (output.width - 1) * sw + (kw - 1) * dw + 1
    lines = [x.padded(row * sh + i * dh - top, -left, reach, 0.0 if average else -np.inf) for i in range(kh)]
    taps = [line[:, j * dw : j * dw + (output.width - 1) * sw + 1 : sw] for line in lines for j in range(kw)]
    return np.asarray(sum(taps) / len(taps) if average else np.maximum.reduce(taps))


def _norm(operator: Operator, sides: list[FloatArray]) -> FloatArray:
    x, function = sides[0], operator.text("function")
    scale = sides[1] if len(sides) > 1 else np.ones(1)
    shift = sides[2] if len(sides) > 2 else np.zeros(1)
    if function == "batch":
        return np.asarray(x * scale + shift)
    if function not in ("layer", "rms"):
        raise InputError(f'{operator.name}: a norm of kind "{function}" does not run on numbers')
    y = x - x.mean(axis=0) if function == "layer" else x
    return np.asarray(y / np.sqrt((y**2).mean(axis=0) + 1e-5) * scale + shift)


def _attention(operator: Operator, row: int, inputs: list[Rows]) -> FloatArray:
    """All heads of one query row; rows hold the heads one after the other."""
    heads, kv_heads, width = (operator.count(key) for key in ("query_heads", "kv_heads", "head_dim"))
    q = inputs[0].rows[row][:, 0].reshape(heads, width)
    k, v = (
        np.stack([x.rows[key][:, 0] for key in range(operator.count("key_len"))]).reshape(
            operator.count("key_len"), kv_heads, -1
        )
        for x in inputs[1:]
    )
    found = []
    for head in range(heads):
        of = head // (heads // kv_heads)
        scores = k[:, of] @ q[head] / math.sqrt(width)
        powers = np.exp(scores - scores.max())
        found.append(powers @ v[:, of] / powers.sum())
    return np.concatenate(found)[:, None]
