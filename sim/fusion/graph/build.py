"""From an operator stream to a fusion graph: nodes, feature maps, and the rows that each edge needs.

What is assumed:

* A tensor of four dimensions that a convolution or a pool makes or reads (or an upsampling, a pad, a mean of each
  channel, a norm by channels), or that comes from one by element-wise operators, norms, joins and upsampling, is
  (batch, channels, height, width). One of three dimensions at such a place is (batch, channels, positions), with the
  positions as rows of one pixel. Any other tensor has its last dimension as channels and what stands before it as
  rows; of three dimensions or more, the first is the batch.
* An upsampling reads two neighbouring rows and columns, as bilinear interpolation does (enough for the nearest, too).
* A view between two shapes keeps rows where both have the same rows, or where one lists the pixels of the other;
  any other view needs all of what it reads before its first row.
* A row of what an attention makes, or reads as queries, holds all heads of one token.
* Keys and values of an attention, the second operand of a product of activations, tables that are looked up, and
  what a group norm or an operator of unknown kind reads, are needed whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from tilewright.formats import tensor_bits
from tilewright.sim.fusion.graph.fusion_graph import NODE_KINDS, FusionEdge, FusionGraph, FusionNode, NodeKind
from tilewright.sim.fusion.graph.geometry import AxisWindow, FeatureMap
from tilewright.workloads.operators import Operator, TensorSpec, stored_bytes
from tilewright.workloads.products import ConvAxis, conv_axes, is_depthwise
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["fusion_graph", "weights_of"]

_SPATIAL_KINDS = ("conv", "pool")
_KEEPS_LAYOUT = ("elementwise", "norm", "reshape", "quantize", "dequantize")
_RESHAPES: dict[str, NodeKind] = {"concat": "concat", "pad": "pad", "upsample": "upsample"}


class _Axes(NamedTuple):
    rows: AxisWindow
    columns: AxisWindow


def fusion_graph(stream: OperatorStream, *, absorb: bool = False) -> FusionGraph:
    """The fusion graph of a network; the module's text says what is assumed.

    ``absorb``: element-wise operators and batch norms that need nothing but one result that nobody else reads, and
    weights, become part of the node that makes it (activations, norms), unless it only moves data.
    """
    return _Builder(stream, absorb=absorb).graph()


class _Builder:
    def __init__(self, stream: OperatorStream, *, absorb: bool) -> None:
        self.stream = stream
        self.spatial = _spatial_tensors(stream)
        self.absorb = absorb
        batches = [stream.tensor(name).shape[0] for name in self.spatial if stream.tensor(name).shape]
        self.batch = batches[0] if batches else 0
        self.readers: dict[str, int] = {}
        for operator in stream.operators:
            for name in {stream.base(name).name for name in operator.inputs}:
                self.readers[name] = self.readers.get(name, 0) + 1
        self.wanted = {stream.base(name).name for name in stream.outputs}
        self.attentions = {op.outputs[0]: op for op in stream.operators if op.kind == "attention"}

    def graph(self) -> FusionGraph:
        """Nodes in the order of the stream."""
        chains: list[list[Operator]] = []
        maker: dict[str, int] = {}
        for operator in self.stream.operators:
            host = self._host(operator, maker) if self.absorb else None
            if host is None or chains[host][0].kind == "reshape":  # a join may have nothing to do itself
                host = len(chains)
                chains.append([])
            chains[host].append(operator)
            maker |= dict.fromkeys(operator.outputs, host)
        nodes = tuple(self._node(index, chain) for index, chain in enumerate(chains))
        edges = tuple(
            edge for node, chain in zip(nodes, chains, strict=True) for edge in self._edges(node, chain, maker)
        )
        outside = {edge.tensor.name: edge.tensor for edge in edges if edge.producer < 0}
        return FusionGraph(name=self.stream.name, nodes=nodes, edges=edges, inputs=tuple(outside.values()))

    def _host(self, operator: Operator, maker: dict[str, int]) -> int | None:
        """The node that ``operator`` becomes part of."""
        is_norm = operator.kind == "norm" and operator.text("function") == "batch"
        if operator.kind not in ("elementwise", "quantize", "dequantize") and not is_norm:
            return None
        bases = [self.stream.base(name) for name in operator.inputs]
        moving = {base.name for base in bases if base.role not in ("weight", "constant")}
        if len(moving) != 1:
            return None
        (only,) = moving
        result = self.stream.tensor(operator.outputs[0])
        if self.readers[only] != 1 or only in self.wanted or self.stream.tensor(only).shape != result.shape:
            return None
        return maker.get(only)

    # -- tensors -----------------------------------------------------------------------------------------------

    def feature_map(self, name: str, *, extra_bytes: int = 0) -> FeatureMap:
        """The stored tensor ``name``, or a view in its own shape."""
        spec = self.stream.tensor(name)
        found = self._as_map(spec, spatial=name in self.spatial, extra_bytes=extra_bytes)
        attention = self.attentions.get(name)
        if attention is not None:
            batch, rows, heads, width = map(attention.count, ("batch", "query_len", "query_heads", "value_dim"))
            found = found._replace(channels=heads * width, height=rows, width=1, batch=batch)
        return found

    def _as_map(self, spec: TensorSpec, *, spatial: bool, extra_bytes: int = 0) -> FeatureMap:
        bits = Fraction(tensor_bits(spec.number_format, spec.shape), max(1, spec.n_elements))
        shape = spec.shape
        batch, channels, height, width = 1, 1, 1, 1
        if spatial and len(shape) >= 3:
            batch, channels = shape[:2]
            height, width = (shape[2], 1) if len(shape) == 3 else (math.prod(shape[2:-1]), shape[-1])
        elif len(shape) >= 3:
            batch, height, channels = shape[0], math.prod(shape[1:-1]), shape[-1]
        elif len(shape) == 2 and shape[0] == self.batch:
            batch, channels = shape
        elif shape:
            height, channels = math.prod(shape[:-1]), shape[-1]
        whole_bits: int | Fraction = int(bits) if bits.denominator == 1 else bits
        return FeatureMap(
            spec.name, channels, height, width, whole_bits, batch, extra_bytes, spatial and len(shape) >= 3
        )

    # -- nodes -------------------------------------------------------------------------------------------------

    def _node(self, index: int, chain: list[Operator]) -> FusionNode:
        operator, last = chain[0], chain[-1]
        extra = sum(self.stream.tensor(name).n_bytes for member in chain for name in member.outputs[1:])
        rows, columns = _window_axes(operator)
        is_conv = operator.kind == "conv"
        in_channels = operator.count("in_channels") if is_conv else 0
        output = self.feature_map(last.outputs[0], extra_bytes=extra)
        if operator.kind == "matmul":
            in_channels = operator.count("k")
        return FusionNode(
            index=index,
            operators=tuple(member.name for member in chain),
            kind=_kind(operator, self.stream),
            function=_function(operator),
            output=output,
            in_channels=in_channels or output.channels,
            kernel=(rows.kernel, columns.kernel),
            stride=(rows.stride, columns.stride),
            padding=(rows.padding, columns.padding),
            dilation=(rows.dilation, columns.dilation),
            groups=operator.count("groups") if is_conv else 1,
            weight_bytes=sum(weights_of(self.stream, chain).values()),
            macs=sum(member.macs for member in chain),
            is_output=any(name in self.wanted for member in chain for name in member.outputs),
        )

    # -- edges -------------------------------------------------------------------------------------------------

    def _edges(self, node: FusionNode, chain: list[Operator], maker: dict[str, int]) -> Iterable[FusionEdge]:
        found: list[FusionEdge] = []
        for operator in chain:
            for place, name in enumerate(operator.inputs):
                base = self.stream.base(name)
                if base.role in ("weight", "constant") or maker.get(base.name) == node.index:
                    continue
                if operator.text("function") == "append" and base.role == "cache" and base.name not in maker:
                    continue  # stays where it is
                tensor = self.feature_map(base.name)
                axes = self._axes(operator, place, name, node.output)
                edge = FusionEdge(maker.get(base.name, -1), node.index, tensor, *axes)
                if edge not in found or node.kind == "concat":  # a join may take the same map twice
                    found.append(edge)
        return found

    def _axes(self, operator: Operator, place: int, name: str, output: FeatureMap) -> _Axes:
        """The windows of ``operator`` on its input ``name``, seen on the tensor in memory."""
        base = self.stream.base(name)
        stored = self.feature_map(base.name)
        as_read = self._as_map(self.stream.tensor(name), spatial=name in self.spatial)
        of_heads = base.name in self.attentions and name not in self.spatial
        if operator.kind == "attention" or of_heads:  # heads are parts of a row, not rows
            as_read = stored
        own = _own_axes(operator, place, as_read, output, self._before(operator, place))
        if as_read.size[1:] == stored.size[1:]:
            return own
        if stored.height * stored.width == as_read.height and as_read.width == 1 and not own.rows.whole:
            if own.rows.is_pointwise:  # as_read lists the pixels of stored, one a row
                rows = own.rows._replace(n_in=stored.height, up=stored.width)
                return _Axes(rows, AxisWindow(stored.width, whole=True))
        elif as_read.height * as_read.width == stored.height and stored.width == 1 and not own.rows.whole:
            rows, width = own.rows, as_read.width  # a row of as_read is ``width`` rows of stored
            if rows.up == 1:
                rows = AxisWindow(stored.height, rows.stride * width, rows.pad * width, rows.reach * width)
                return _Axes(rows, AxisWindow(1, whole=True))
        return _Axes(AxisWindow(stored.height, whole=True), AxisWindow(stored.width, whole=True))

    def _before(self, operator: Operator, place: int) -> tuple[int, int]:
        """(rows, columns) of the inputs that a join puts before this one."""
        if operator.text("function") != "concat":
            return 0, 0
        maps = [self._as_map(self.stream.tensor(n), spatial=n in self.spatial) for n in operator.inputs]
        output = self.feature_map(operator.outputs[0])
        before = maps[:place]
        along_rows = sum(one.height for one in maps) == output.height > maps[place].height
        along_columns = sum(one.width for one in maps) == output.width > maps[place].width
        return (
            sum(one.height for one in before) if along_rows else 0,
            sum(one.width for one in before) if along_columns else 0,
        )


def weights_of(stream: OperatorStream, chain: Iterable[Operator]) -> dict[str, int]:
    """The weights, biases and constants that operators read, with their bytes; of a table those of the rows read."""
    found: dict[str, int] = {}
    for operator in chain:
        for name in operator.inputs:
            base = stream.base(name)
            if base.role not in ("weight", "constant"):
                continue
            n_bytes = base.n_bytes
            if operator.kind == "gather" and name == operator.inputs[0]:
                n_bytes = stored_bytes((operator.count("rows"), operator.count("columns")), base.number_format)
            found[base.name] = max(n_bytes, found.get(base.name, 0))
    return found


def _spatial_tensors(stream: OperatorStream) -> set[str]:
    """Tensors that are (batch, channels, positions...): see the module's text."""
    found: set[str] = set()
    for operator in stream.operators:
        if not operator.inputs:
            continue
        shape = stream.tensor(operator.inputs[0]).shape
        if operator.kind in _SPATIAL_KINDS or (len(shape) >= 3 and _is_by_channel(operator, shape)):
            found |= {operator.inputs[0], operator.outputs[0]}
    while True:
        known = len(found)
        for operator in stream.operators:
            if operator.kind not in _KEEPS_LAYOUT:
                continue
            result = operator.outputs[0]
            n_dims = len(stream.tensor(result).shape)
            moving = [n for n in operator.inputs if stream.base(n).role not in ("weight", "constant")]
            alike = [n for n in moving if len(stream.tensor(n).shape) == n_dims > 2]
            if result in found or any(name in found for name in alike):
                found |= {result, *alike}
        found |= {
            spec.name
            for spec in stream.tensors
            if spec.view_of in found and len(spec.shape) == len(stream.tensor(spec.view_of).shape)
            and spec.shape[2:] == stream.tensor(spec.view_of).shape[2:]
        }  # fmt: skip
        if len(found) == known:
            return found


def _is_by_channel(operator: Operator, shape: tuple[int, ...]) -> bool:
    """What is only done to maps of (batch, channels, positions...)."""
    match operator.kind:
        case "norm":
            return operator.text("function") in ("batch", "group", "instance")
        case "reduction":
            return len(shape) == 4 and operator.count("rows") == shape[0] * shape[1]
        case "reshape":
            return len(shape) == 4 and operator.text("function") in ("upsample", "pad")
    return False


def _kind(operator: Operator, stream: OperatorStream) -> NodeKind:
    match operator.kind:
        case "conv":
            return "depthwise" if is_depthwise(operator) else "conv"
        case "matmul":
            second = stream.base(operator.inputs[1])
            return "dense" if second.role in ("weight", "constant") else "matmul"
        case "reshape":
            return _RESHAPES.get(operator.text("function"), "move")
        case "quantize" | "dequantize":
            return "elementwise"
    usual: NodeKind = "softmax" if operator.of_kind.by_rows else "memory"  # as what is done row by row, or alone
    return next((kind for kind in NODE_KINDS if kind == operator.kind), usual)


def _function(operator: Operator) -> str:
    if operator.kind == "conv" and operator.attributes["transposed"]:
        return "transposed"
    return operator.text("function") or operator.kind


def _window_axes(operator: Operator) -> tuple[ConvAxis, ConvAxis]:
    """The window along rows and columns; a single dimension is rows of one pixel, deeper ones are left out."""
    axes = conv_axes(operator) if operator.kind in _SPATIAL_KINDS else []
    rows, columns = [*axes, ConvAxis(), ConvAxis()][:2] if len(axes) < 2 else axes[-2:]
    return rows, columns


def _own_axes(operator: Operator, place: int, x: FeatureMap, output: FeatureMap, before: tuple[int, int]) -> _Axes:
    """What ``operator`` needs of its input at ``place``, in the shape in which it reads it."""
    whole = _Axes(AxisWindow(x.height, whole=True), AxisWindow(x.width, whole=True))
    extents = tuple(zip((x.height, x.width), (output.height, output.width), strict=True))
    match operator.kind:
        case "conv" | "pool":
            if len(operator.sizes("kernel")) > 2:
                return whole
            return _Axes(*_sliding(operator, x))
        case "matmul" | "attention":
            keeps_rows = place == 0 and x.height == output.height and x.width == output.width
            return _Axes(*(AxisWindow(n_in) for n_in, _ in extents)) if keeps_rows else whole
        case "softmax" | "elementwise" | "quantize" | "dequantize":
            return _Axes(*(_along(*pair) for pair in extents))
        case "norm":
            by_value = operator.text("function") == "batch"
            by_row = operator.count("columns") == x.channels and operator.text("function") in ("layer", "rms")
            return _Axes(*(_along(*pair) for pair in extents)) if by_value or by_row else whole
        case "reduction":
            return _Axes(*(_along(*pair) for pair in extents)) if x.height == output.height > 1 else whole
        case "reshape":
            function = operator.text("function")
            if function == "upsample":
                return _Axes(*(_upsampled(*pair) for pair in extents))
            if function == "pad":
                return _Axes(*(AxisWindow(n_in, pad=(n_out - n_in) // 2) for n_in, n_out in extents))
            if function == "concat":
                return _Axes(*(AxisWindow(n_in, pad=pad) for (n_in, _), pad in zip(extents, before, strict=True)))
    if operator.of_kind.by_rows and not x.channels_first:
        return _Axes(*(_along(*pair) for pair in extents))
    return whole


def _along(n_in: int, n_out: int) -> AxisWindow:
    """An operator without a window: at its own place, or, of a single one for all (broadcast), that one."""
    return AxisWindow(n_in) if n_in == n_out else AxisWindow(n_in, whole=True)


def _upsampled(n_in: int, n_out: int) -> AxisWindow:
    """Two neighbours around (place + 1/2) / factor - 1/2, as bilinear interpolation reads them."""
    if n_in == n_out:
        return AxisWindow(n_in)
    factor, rest = divmod(n_out, n_in)
    if rest or n_in == 1:
        return AxisWindow(n_in, whole=True)
    return AxisWindow(n_in, stride=2, pad=factor - 1, reach=2 * factor + 1, up=2 * factor)


def _sliding(operator: Operator, x: FeatureMap) -> tuple[AxisWindow, AxisWindow]:
    turned = operator.kind == "conv" and bool(operator.attributes["transposed"])
    found = []
    for n_in, axis in zip((x.height, x.width), _window_axes(operator), strict=True):
        if turned:  # output o reads the inputs (o + pad - tap * dilation) / stride
            pad, reach = axis.reach - axis.padding - axis.stride, axis.reach - axis.stride + 1
            found.append(AxisWindow(n_in, 1, pad, reach, axis.stride))
        else:
            found.append(AxisWindow(n_in, axis.stride, axis.padding, axis.reach))
    return found[0], found[1]
