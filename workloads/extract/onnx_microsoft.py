"""Operators of the ``com.microsoft`` domain, which onnxruntime's optimisers and quantisers write.

Their definitions are those of onnxruntime's ContribOperators.md; ONNX itself knows nothing of them, so the sizes of
their results are worked out here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tilewright.workloads.extract.emit import (
    emit_elementwise,
    emit_gather,
    emit_matmul,
    emit_norm,
    emit_reduction,
    emit_softmax,
)
from tilewright.workloads.extract.onnx_attention import MICROSOFT as ATTENTIONS
from tilewright.workloads.extract.onnx_quantised import block_format, note_scales, quantised_result

if TYPE_CHECKING:
    from tilewright.workloads.extract.onnx_nodes import NodeReader

__all__ = ["HANDLERS"]

_ACTIVATIONS = {
    "Relu": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "LeakyRelu": "leaky_relu",
    "Clip": "clip",
    "HardSigmoid": "hardsigmoid",
    "HardSwish": "hardswish",
    "Gelu": "gelu",
    "FastGelu": "gelu_tanh",
}


def _attributes(node: Any) -> dict[str, Any]:
    from tilewright.workloads.extract.onnx_nodes import attributes_of

    return attributes_of(node)


def _text(attributes: Mapping[str, Any], key: str, usual: str = "") -> str:
    value = attributes.get(key, usual)
    return value.decode() if isinstance(value, bytes) else str(value)


def _broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    n_dims = max(map(len, shapes))
    full = [(1,) * (n_dims - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(max(sizes) for sizes in zip(*full, strict=True))


# --- norms and functions of each value -------------------------------------------------------------------------------


def _skip_norm(reader: NodeReader, node: Any, path: str) -> None:
    """SkipLayerNormalization and its RMS form: the sum of two (and a bias), then a norm."""
    simple = node.op_type == "SkipSimplifiedLayerNormalization"
    draft, x = reader.draft, reader.input(node, 0)
    shape = draft.shape(x)
    total = reader.result(node, 3, shape, node.input[0]) or draft.value(
        f"{node.output[0]}.sum", shape, draft.values[x].number_format
    )
    bias = reader.input(node, 3 if simple else 4)
    emit_elementwise(draft, f"{path}.add", "add", [x, reader.input(node, 1)], total)
    if bias:
        draft.steps[-1].inputs.append(bias)
    out = reader.result(node, 0, shape, node.input[0])
    parameters = [reader.input(node, 2), "" if simple else reader.input(node, 3)]
    emit_norm(draft, path, "rms" if simple else "layer", total, out, shape[-1], parameters)


def _embed_norm(reader: NodeReader, node: Any, path: str) -> None:
    """EmbedLayerNormalization: rows of two or three tables, their sum, and a norm."""
    draft, ids = reader.draft, reader.input(node, 0)
    tables = {place: reader.input(node, place) for place in (2, 3, 4) if reader.input(node, place)}
    width, number_format = draft.shape(tables[2])[-1], draft.values[tables[2]].number_format
    shape, parts = (*draft.shape(ids), width), []
    for place, table in tables.items():
        indices = [reader.input(node, {2: 0, 3: 8, 4: 1}[place])]
        rows = draft.value(f"{node.output[0]}.rows_{place}", shape, number_format)
        emit_gather(draft, f"{path}.table_{place}", table, [name for name in indices if name], rows, width)
        parts.append(rows)
    total = reader.result(node, 2, shape, node.input[2]) or draft.value(f"{node.output[0]}.sum", shape, number_format)
    emit_elementwise(draft, f"{path}.add", "add", parts, total)
    out = reader.result(node, 0, shape, node.input[2])
    emit_norm(draft, path, "layer", total, out, width, [reader.input(node, 5), reader.input(node, 6)])
    if len(node.output) > 1 and node.output[1]:
        mask = reader.result(node, 1, (draft.shape(ids)[0],), node.input[0])
        draft.values[mask].role = "constant"


def _group_norm(reader: NodeReader, node: Any, path: str) -> None:
    """GroupNorm and SkipGroupNorm: channels first or last."""
    attributes, draft, x = _attributes(node), reader.draft, reader.input(node, 0)
    shape = draft.shape(x)
    if node.op_type == "SkipGroupNorm":
        total = reader.result(node, 1, shape, node.input[0]) or draft.value(
            f"{node.output[0]}.sum", shape, draft.values[x].number_format
        )
        others = [reader.input(node, place) for place in (3, 4)]
        emit_elementwise(draft, f"{path}.add", "add", [x, *filter(None, others)], total)
        x = total
    columns = math.prod(shape[1:]) // int(attributes["groups"])
    out = reader.result(node, 0, shape, node.input[0])
    swish = int(attributes.get("activation", 0)) == 1
    norm = draft.value(f"{out}.norm", shape, draft.values[x].number_format) if swish else out
    emit_norm(draft, path, "group", x, norm, columns, [reader.input(node, 1), reader.input(node, 2)])
    if swish:
        emit_elementwise(draft, f"{path}.swish", "silu", [norm], out)


_FUNCTIONS = MappingProxyType(
    {
        "FastGelu": "gelu_tanh",
        "BiasGelu": "gelu",
        "Gelu": "gelu",
        "QuickGelu": "quick_gelu",
        "BiasAdd": "add",
        "BiasDropout": "add",
        "Inverse": "div",
    }
)


def _function(reader: NodeReader, node: Any, path: str) -> None:
    """Functions of each value, with a bias added before them where there is one."""
    draft, inputs = reader.draft, reader.inputs(node)
    shape = draft.shape(inputs[0])
    out = reader.result(node, 0, shape, node.input[0])
    function = _FUNCTIONS[node.op_type]
    if function == "add" or len(inputs) == 1:
        emit_elementwise(draft, path, function, inputs[:3], out)
        return
    biased = draft.value(f"{out}.biased", shape, draft.values[inputs[0]].number_format)
    emit_elementwise(draft, f"{path}.bias", "add", inputs[:2], biased)
    emit_elementwise(draft, path, function, [biased], out)


def _bias_softmax(reader: NodeReader, node: Any, path: str) -> None:
    draft, (x, bias) = reader.draft, reader.inputs(node)[:2]
    shape, axis = draft.shape(x), int(_attributes(node).get("axis", 1))
    biased = draft.value(f"{node.output[0]}.biased", shape, draft.values[x].number_format)
    emit_elementwise(draft, f"{path}.bias", "add", [x, bias], biased)
    emit_softmax(draft, path, biased, reader.result(node, 0, shape, node.input[0]), axis)


def _bias_split_gelu(reader: NodeReader, node: Any, path: str) -> None:
    draft, (x, bias) = reader.draft, reader.inputs(node)[:2]
    shape, number_format = draft.shape(x), draft.values[x].number_format
    half = (*shape[:-1], shape[-1] // 2)
    biased = draft.value(f"{node.output[0]}.biased", shape, number_format)
    emit_elementwise(draft, f"{path}.bias", "add", [x, bias], biased)
    gate = draft.value(f"{node.output[0]}.gate", half, number_format)
    left, right = (draft.view(f"{biased}.{side}", biased, half, "part") for side in ("left", "right"))
    emit_elementwise(draft, f"{path}.gelu", "gelu", [right], gate)
    emit_elementwise(draft, path, "mul", [left, gate], reader.result(node, 0, half, node.input[0]))


# --- products --------------------------------------------------------------------------------------------------------


def _fused_matmul(reader: NodeReader, node: Any, path: str) -> None:
    """FusedMatMul, FusedMatMulActivation, TransposeMatMul: either operand turned, a function behind."""
    attributes, draft = _attributes(node), reader.draft
    a, b = reader.input(node, 0), reader.input(node, 1)
    turned = bool(attributes.get("transB"))
    if attributes.get("transA"):
        shape = draft.shape(a)
        a = draft.view(f"{a}.turned", a, (*shape[:-2], shape[-1], shape[-2]))
    lead = _broadcast(draft.shape(a)[:-2], draft.shape(b)[:-2])
    shape = (*lead, draft.shape(a)[-2], draft.shape(b)[-2 if turned else -1])
    out = reader.result(node, 0, shape, node.input[0])
    product = _before_activation(reader, node, path, attributes, out)
    emit_matmul(draft, path, a, b, product, turned=turned)


def _before_activation(
    reader: NodeReader, node: Any, path: str, attributes: Mapping[str, Any], out: str, extra: str = ""
) -> str:
    """The value that a product makes before its fused activation (and sum); ``out`` itself where there is none."""
    function = _ACTIVATIONS.get(_text(attributes, "activation"), "")
    if node.op_type == "GemmFastGelu":
        function = "gelu_tanh"
    draft, wanted = reader.draft, out
    for name, inputs in ((function, []), ("add" if extra else "", [extra])):
        if name:
            before = draft.value(f"{out}.before_{name}", draft.shape(out), draft.values[out].number_format)
            step = draft.step(
                "elementwise",
                f"{path}.{name}",
                [before, *inputs],
                [wanted],
                {"function": name, "n_elements": draft.values[out].n_elements},
            )
            draft.steps.remove(step)
            reader.after.insert(0, step)
            wanted = before
    return wanted


def _fused_gemm(reader: NodeReader, node: Any, path: str) -> None:
    """FusedGemm and GemmFastGelu."""
    attributes, draft = _attributes(node), reader.draft
    a, b, bias = (reader.input(node, place) for place in range(3))
    turned = bool(attributes.get("transB"))
    if attributes.get("transA"):
        a = draft.view(f"{a}.turned", a, draft.shape(a)[::-1])
    shape = (*draft.shape(a)[:-1], draft.shape(b)[-2 if turned else -1])
    out = reader.result(node, 0, shape, node.input[0])
    product = _before_activation(reader, node, path, attributes, out)
    emit_matmul(draft, path, a, b, product, bias=bias, turned=turned)


def _fused_conv(reader: NodeReader, node: Any, path: str) -> None:
    """FusedConv: a convolution, a sum, an activation."""
    attributes = _attributes(node)
    plain = type(node)()
    plain.CopyFrom(node)
    plain.op_type, plain.domain = "Conv", ""
    for attribute in [one for one in plain.attribute if one.name.startswith("activation")]:
        plain.attribute.remove(attribute)
    del plain.input[3:]
    reader.values.infer(plain, path)
    out = reader.new(node.output[0])
    extra = reader.input(node, 3)
    reader.conv_into(plain, path, _before_activation(reader, node, path, attributes, out, extra))


def _block_matmul(reader: NodeReader, node: Any, path: str) -> None:
    """MatMulNBits and MatMulBnb4: a weight of few bits, (n, k), with a scale for each block."""
    attributes, draft, values = _attributes(node), reader.draft, reader.values
    shape, block = (int(attributes["N"]), int(attributes["K"])), int(attributes["block_size"])
    a, packed = reader.input(node, 0), reader.input(node, 1)
    bits, scale = int(attributes.get("bits", 4)), node.input[2]
    zero = node.input[3] if len(node.input) > 3 and node.op_type == "MatMulNBits" else ""
    element = f"int{bits}" if node.op_type == "MatMulNBits" or attributes.get("quant_type", 1) else "fp4_e2m1"
    weight = draft.value(f"{packed}.{bits}_bits", shape, block_format(values, element, scale, zero, block), "weight")
    note_scales(values, [node.input[1], scale, zero])
    values.weights[weight] = None
    out = reader.result(node, 0, (*draft.shape(a)[:-1], shape[0]), node.input[0])
    emit_matmul(draft, path, a, weight, out, bias=reader.input(node, 5), turned=True)


def _dynamic_matmul(reader: NodeReader, node: Any, path: str) -> None:
    """DynamicQuantizeMatMul quantises A by its own range; MatMulIntegerToFloat has it quantised before."""
    draft, dynamic = reader.draft, node.op_type == "DynamicQuantizeMatMul"
    a, b = reader.input(node, 0), reader.input(node, 1)
    reader.scaled_weight(node, 1, 2 if dynamic else 3, 3 if dynamic else 5)
    if dynamic:
        kind = reader.values.format_of(node.input[1])
        narrow = draft.value(f"{a}.quantised", draft.shape(a), kind if kind.startswith("int") else "int8")
        draft.step("quantize", f"{path}.quantize", [a], [narrow], {"n_elements": draft.values[a].n_elements})
        a = narrow
    shape = (*draft.shape(reader.input(node, 0))[:-1], draft.shape(b)[-1])
    out = reader.result(node, 0, shape, node.input[0] if dynamic else node.input[2])
    emit_matmul(draft, path, a, b, out, bias=reader.input(node, 4 if dynamic else 6))


def _quantised_gemm(reader: NodeReader, node: Any, path: str) -> None:
    """QGemm: A B + C of whole numbers."""
    attributes, draft = _attributes(node), reader.draft
    reader.scaled_weight(node, 3, 4, 5)
    a, b, bias = reader.input(node, 0), reader.input(node, 3), reader.input(node, 6)
    if len(node.input) > 6 and node.input[6]:
        reader.values.trained(node.input[6])
    if attributes.get("transA"):
        a = draft.view(f"{a}.turned", a, draft.shape(a)[::-1])
    turned = bool(attributes.get("transB"))
    shape = (draft.shape(a)[0], draft.shape(b)[0 if turned else 1])
    scale, zero = (node.input[place] if len(node.input) > place else "" for place in (7, 8))
    if scale:
        reader.values.declare(node.output[0], shape, node.input[0])
        out = quantised_result(reader, node.output[0], path, scale, zero)
    else:
        out = reader.result(node, 0, shape, node.input[1])
    emit_matmul(draft, path, a, b, out, bias=bias, turned=turned)


def _gather_blocks(reader: NodeReader, node: Any, path: str) -> None:
    """GatherBlockQuantized: rows of a table of few bits."""
    attributes, draft, values = _attributes(node), reader.draft, reader.values
    packed, indices = reader.input(node, 0), reader.input(node, 1)
    zero = node.input[3] if len(node.input) > 3 else ""
    bits, block = int(attributes.get("bits", 4)), int(attributes.get("block_size", 128))
    stored, packed_values = values.format_of(node.input[0]), draft.shape(packed)
    per_byte = 8 // bits if stored == "int8" and bits < 8 else 1
    shape = (*packed_values[:-1], packed_values[-1] * per_byte)
    table = draft.value(
        f"{packed}.{bits}_bits", shape, block_format(values, f"int{bits}", node.input[2], zero, block), "weight"
    )
    note_scales(values, [node.input[0], node.input[2], zero])
    values.weights[table] = None
    columns = math.prod(shape[1:])
    out = reader.result(node, 0, (*draft.shape(indices), *shape[1:]), node.input[2])
    emit_gather(draft, path, table, [indices], out, columns)


# --- experts ----------------------------------------------------------------------------------------------------------


def _experts(reader: NodeReader, node: Any, path: str) -> None:
    """MoE and QMoE: each row by the products of the ``k`` experts that it is sent to, spread evenly over all."""
    attributes, draft = _attributes(node), reader.draft
    x, probabilities = reader.input(node, 0), reader.input(node, 1)
    rows, chosen = math.prod(draft.shape(x)[:-1]), int(attributes.get("k", 1))
    n_experts = draft.shape(probabilities)[-1]
    n_read = min(rows * chosen, n_experts)
    each = -(-rows * chosen // n_read)
    spread = draft.view(f"{x}.sent", x, (n_read, each, draft.shape(x)[-1]), "expand")
    step, bits = (3, int(attributes.get("expert_weight_bits", 4))) if node.op_type == "QMoE" else (2, 0)
    function = {"relu": "relu", "gelu": "gelu", "silu": "silu"}.get(
        _text(attributes, "activation_type", "relu"), "silu"
    )
    number_format = draft.values[x].number_format
    weights = [_expert_weight(reader, node, place, bits, n_read) for place in (2, 2 + step, 2 + 2 * step)]
    inner, outer = draft.shape(weights[0])[1], draft.shape(weights[1])[1]
    hidden = _expert_product(reader, f"{path}.fc1", spread, weights[0], (n_read, each, inner))
    width = draft.shape(weights[1])[2]
    if weights[2]:
        gate = _expert_product(reader, f"{path}.fc3", spread, weights[2], (n_read, each, inner))
        active = draft.value(f"{hidden}.active", (n_read, each, inner), number_format)
        emit_elementwise(draft, f"{path}.activation", function, [hidden], active)
        hidden = draft.value(f"{hidden}.gated", (n_read, each, inner), number_format)
        emit_elementwise(draft, f"{path}.gate", "mul", [active, gate], hidden)
    else:
        parts = [hidden] if width == inner else [draft.view(f"{hidden}.{side}", hidden, (n_read, each, width), "part")
                                                 for side in ("gate", "value")]  # fmt: skip
        active = draft.value(f"{hidden}.active", (n_read, each, width), number_format)
        emit_elementwise(draft, f"{path}.activation", function, parts, active)
        hidden = active
    found = _expert_product(reader, f"{path}.fc2", hidden, weights[1], (n_read, each, outer))
    out = reader.result(node, 0, draft.shape(x), node.input[0])
    kept = draft.view(f"{found}.kept", found, (rows, chosen, outer), "part")
    emit_reduction(draft, f"{path}.sum", "sum", kept, out)


def _expert_weight(reader: NodeReader, node: Any, place: int, bits: int, n_read: int) -> str:
    """The weights (experts, n, k) of those experts that are read; empty where there are none."""
    draft, values, name = reader.draft, reader.values, reader.input(node, place)
    if not name:
        return ""
    n_experts, n, k = draft.shape(name)
    if bits:
        k = k * 8 // bits
        scale, block = node.input[place + 1], int(_attributes(node).get("block_size", 0))
        packed = name
        name = draft.value(
            f"{packed}.{bits}_bits", (n_experts, n, k), block_format(values, f"int{bits}", scale, "", block), "weight"
        )
        note_scales(values, [node.input[place], scale])
        values.weights[name] = None
    return name if n_read == n_experts else draft.view(f"{name}.read", name, (n_read, n, k), "part")


def _expert_product(reader: NodeReader, path: str, x: str, weight: str, shape: tuple[int, int, int]) -> str:
    out = reader.draft.value(f"{weight}.product", shape, reader.draft.values[x].number_format)
    emit_matmul(reader.draft, path, x, weight, out, turned=True)
    return out


# --- whole numbers, value by value -----------------------------------------------------------------------------------

#: Function, places of the data, place of the result's scale (its zero point follows).
_WHOLE = MappingProxyType(
    {
        "QLinearAdd": ("add", (0, 3), 6),
        "QLinearMul": ("mul", (0, 3), 6),
        "QLinearSigmoid": ("sigmoid", (0,), 3),
        "QLinearLeakyRelu": ("leaky_relu", (0,), 3),
        "QLinearWhere": ("where", (0, 1, 4), 7),
    }
)


def _whole_function(reader: NodeReader, node: Any, path: str) -> None:
    draft, (function, places, scale) = reader.draft, _WHOLE[node.op_type]
    inputs = [reader.input(node, place) for place in places]
    shape = _broadcast(*map(draft.shape, inputs))
    reader.values.declare(node.output[0], shape, node.input[places[-1]])
    zero = node.input[scale + 1] if len(node.input) > scale + 1 else ""
    out = quantised_result(reader, node.output[0], path, node.input[scale], zero)
    emit_elementwise(draft, path, function, inputs, out)


def _whole_reduction(reader: NodeReader, node: Any, path: str) -> None:
    """QLinearGlobalAveragePool, QLinearReduceMean, QLinearSoftmax: one input in, one out."""
    attributes, draft = _attributes(node), reader.draft
    x = reader.input(node, 0)
    shape = list(draft.shape(x))
    if node.op_type == "QLinearGlobalAveragePool":
        last = bool(attributes.get("channels_last"))
        shape = [n if at in (0, len(shape) - 1 if last else 1) else 1 for at, n in enumerate(shape)]
    elif node.op_type == "QLinearReduceMean":
        axes = {axis % len(shape) for axis in attributes.get("axes", range(len(shape)))}
        keep = int(attributes.get("keepdims", 1))
        shape = [1 if at in axes else n for at, n in enumerate(shape) if keep or at not in axes]
    reader.values.declare(node.output[0], tuple(shape), node.input[0])
    zero = node.input[4] if len(node.input) > 4 else ""
    out = quantised_result(reader, node.output[0], path, node.input[3], zero)
    if node.op_type == "QLinearSoftmax":
        emit_softmax(draft, path, x, out, int(attributes.get("axis", -1)))
    else:
        emit_reduction(draft, path, "mean", x, out)


def _whole_concat(reader: NodeReader, node: Any, path: str) -> None:
    """QLinearConcat: scale and zero point of the result, then of each input behind it."""
    draft, names = reader.draft, list(node.input[2::3])
    inputs = [reader.values.name_of(name) for name in names]
    axis = int(_attributes(node).get("axis", 0))
    shape = list(draft.shape(inputs[0]))
    shape[axis] = sum(draft.shape(one)[axis] for one in inputs)
    note_scales(reader.values, [name for at, name in enumerate(node.input) if at < 2 or (at - 2) % 3])
    out = reader.result(node, 0, tuple(shape), names[0])
    draft.step("reshape", path, inputs, [out], {"function": "concat"})


HANDLERS: Mapping[str, Any] = {
    **ATTENTIONS,
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _skip_norm),
    **dict.fromkeys(("GroupNorm", "SkipGroupNorm"), _group_norm),
    **dict.fromkeys(_FUNCTIONS, _function),
    **dict.fromkeys(("FusedMatMul", "FusedMatMulActivation", "TransposeMatMul"), _fused_matmul),
    **dict.fromkeys(("FusedGemm", "GemmFastGelu"), _fused_gemm),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4"), _block_matmul),
    **dict.fromkeys(("DynamicQuantizeMatMul", "MatMulIntegerToFloat"), _dynamic_matmul),
    **dict.fromkeys(("MoE", "QMoE"), _experts),
    **dict.fromkeys(_WHOLE, _whole_function),
    **dict.fromkeys(("QLinearGlobalAveragePool", "QLinearReduceMean", "QLinearSoftmax"), _whole_reduction),
    "BiasSoftmax": _bias_softmax,
    "BiasSplitGelu": _bias_split_gelu,
    "EmbedLayerNormalization": _embed_norm,
    "FusedConv": _fused_conv,
    "GatherBlockQuantized": _gather_blocks,
    "QGemm": _quantised_gemm,
    "QLinearConcat": _whole_concat,
}
