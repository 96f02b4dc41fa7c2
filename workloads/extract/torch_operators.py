"""PyTorch operators, one by one, as steps of a draft: what they compute and how large they are."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from tilewright.workloads.extract import emit
from tilewright.workloads.extract.draft import Draft
from tilewright.workloads.extract.reference_scans import LIBRARY
from tilewright.workloads.extract.torch_tables import CREATES, ELEMENTWISE, MOVES, REDUCTIONS, VIEWS
from tilewright.workloads.extract.torch_values import format_of, node_path, result_shape
from tilewright.workloads.kinds import KINDS

__all__ = ["HANDLERS", "Call", "Literal", "flat"]


class Literal(str):
    """A word among the arguments of a call, which names no tensor."""

    __slots__ = ()


class Call:
    """One call of an operator: its arguments by the names of the operator's definition, and its results."""

    def __init__(self, draft: Draft, node: Any, resolve: Callable[[Any], Any]) -> None:
        self.draft = draft
        self.node = node
        self.path = node_path(node)
        names = [argument.name for argument in node.target._schema.arguments] if hasattr(node.target, "_schema") else []
        defaults = (
            {argument.name: argument.default_value for argument in node.target._schema.arguments} if names else {}
        )
        given = dict(zip(names, (resolve(one) for one in node.args), strict=False))
        self.arguments = defaults | given | {key: resolve(one) for key, one in node.kwargs.items()}

    def __getitem__(self, name: str) -> Any:
        return self.arguments.get(name)

    def name(self, *keys: str) -> str:
        """The tensor that the first of these arguments that is there stands for; empty where none is."""
        for key in keys:
            found = self.arguments.get(key)
            if self._is_tensor(found):
                return str(found)
        return ""

    def _is_tensor(self, found: Any) -> bool:
        return isinstance(found, str) and not isinstance(found, Literal) and found in self.draft.values

    def tensors(self) -> list[str]:
        """All tensors among the arguments, in order."""
        return [one for one in flat(list(self.arguments.values())) if self._is_tensor(one)]

    def shape(self, value: Any) -> tuple[int, ...]:
        return result_shape(self.draft.name, self.path, value)

    def is_complex(self) -> bool:
        """Whether the result is of complex numbers."""
        return bool(self.node.meta["val"].dtype.is_complex)

    def outputs(self) -> Any:
        """Enter the results into the draft: a name, or a list of them."""
        return self._enter(self.node.meta["val"])

    def _enter(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._enter(one) for one in value]
        if not hasattr(value, "shape") or 0 in self.shape(value):
            return None
        return self.draft.value(self.node.name, self.shape(value), format_of(self.draft.name, value))

    def views(self, name: str) -> Any:
        """Enter the results as views of the first argument."""
        base = self.tensors()[0]
        return self._view(self.node.meta["val"], base, name)

    def _view(self, value: Any, base: str, name: str) -> Any:
        if isinstance(value, list | tuple):
            return [self._view(one, base, name) for one in value]
        if not hasattr(value, "shape") or 0 in self.shape(value):
            return None
        kind = VIEWS[name]
        number_format = format_of(self.draft.name, value) if kind == "cast" else ""
        return self.draft.view(self.node.name, base, self.shape(value), kind, number_format)


# --- operators ------------------------------------------------------------------------------------------------------

Handler = Callable[[Call, str, list[str]], bool]


def _elementwise(call: Call, name: str, outputs: list[str]) -> bool:
    function = ELEMENTWISE[name]
    tensors = call.tensors()
    neutral = {"mul": 1, "div": 1, "add": 0, "sub": 0}.get(name)
    if neutral is not None and len(tensors) == 1 and call["other"] == neutral:
        call.draft.values[outputs[0]].view_of = tensors[0]
        return True
    if name == "masked_fill":  # where the mask holds the number, elsewhere the value
        tensors = [call.name("mask"), _operand(call, "value", outputs[0]), call.name("self")]
    elif name == "where" and call.name("condition") and call["self"] is not None:
        tensors = [call.name("condition"), _operand(call, "self", outputs[0]), _operand(call, "other", outputs[0])]
    if function == "clip":
        limits = (
            call["min"] if "min" in call.arguments else call["min_val"],
            call["max"] if "max" in call.arguments else call["max_val"],
        )
        function = {(0, 6): "relu6", (0, None): "relu"}.get(limits, "clip")
    if function == "mul" and call.is_complex():  # pairs turned by an angle each
        function = "rotary"
    emit.emit_elementwise(call.draft, call.path, function, tensors, outputs[0])
    step = call.draft.steps[-1]
    step.operator = name
    step.numbers = (float(call["other"]),) if isinstance(call["other"], int | float) else ()
    return True


def _operand(call: Call, argument: str, output: str) -> str:
    """The tensor of an argument, or a constant made of its number."""
    name = call.name(argument)
    if name:
        return name
    number = call.draft.value(f"{output}.{argument}", (), call.draft.values[output].number_format, "constant")
    call.draft.values[number].data = _lazy_number(call[argument])
    return number


def _lazy_number(value: Any) -> Callable[[], Any] | None:
    if not isinstance(value, int | float):
        return None
    import numpy as np

    number = np.float64(value)
    return lambda: np.asarray(number)


def _gelu(call: Call, name: str, outputs: list[str]) -> bool:
    function = "gelu_tanh" if call["approximate"] == "tanh" else "gelu"
    emit.emit_elementwise(call.draft, call.path, function, call.tensors(), outputs[0])
    return True


def _glu(call: Call, name: str, outputs: list[str]) -> bool:
    x, shape = call.tensors()[0], call.draft.shape(outputs[0])
    halves = [call.draft.view(f"{x}.half", x, shape, "part") for _ in range(2)]
    gate = call.draft.value(f"{outputs[0]}.gate", shape, call.draft.values[outputs[0]].number_format)
    emit.emit_elementwise(call.draft, call.path, "sigmoid", halves[1:], gate)
    emit.emit_elementwise(call.draft, call.path, "mul", [halves[0], gate], outputs[0])
    return True


def _reduction(call: Call, name: str, outputs: list[str]) -> bool:
    tensors = call.tensors()
    if name in ("max", "min") and call.name("other"):
        emit.emit_elementwise(call.draft, call.path, name, tensors, outputs[0])
        return True
    emit.emit_reduction(call.draft, call.path, REDUCTIONS[name], tensors[0], outputs[0])
    call.draft.steps[-1].outputs += outputs[1:]
    return True


def _move(call: Call, name: str, outputs: list[str]) -> bool:
    inputs, function = call.tensors(), MOVES[name]
    roles = [call.draft.role(one) for one in inputs]
    attributes = {"function": function}
    if function == "concat" and len(inputs) == 1:
        call.draft.values[outputs[0]].view_of = inputs[0]
        return True
    if function == "concat" and roles[0] == "cache" and "cache" not in roles[1:]:
        attributes["function"] = "append"
        call.draft.values[outputs[0]].role = "cache"
    call.draft.step("reshape", call.path, inputs, outputs, attributes)
    return True


def _softmax(call: Call, name: str, outputs: list[str]) -> bool:
    emit.emit_softmax(call.draft, call.path, call.tensors()[0], outputs[0], call["dim"], "log" if "log" in name else "")
    return True


def _norm(call: Call, name: str, outputs: list[str]) -> bool:
    x = call.tensors()[0]
    shape = call.draft.shape(x)
    parameters = [call.name("weight"), call.name("bias")]
    if "layer_norm" in name or "rms_norm" in name:
        function, columns = ("layer" if "layer" in name else "rms"), math.prod(call["normalized_shape"])
    elif "group_norm" in name:
        groups = call["num_groups"] if call["num_groups"] is not None else call["group"]
        function, columns = "group", math.prod(shape[1:]) // groups
    elif "instance_norm" in name:
        function, columns = "instance", math.prod(shape[2:])
    else:
        function, columns = "batch", math.prod(shape) // shape[1]
        parameters += [call.name("running_mean"), call.name("running_var")]
    emit.emit_norm(call.draft, call.path, function, x, outputs[0], columns, parameters)
    return True


def _linear(call: Call, name: str, outputs: list[str]) -> bool:
    x, weight, bias = (call.name(key) for key in ("input", "weight", "bias"))
    emit.emit_matmul(call.draft, call.path, x, weight, outputs[0], bias=bias, turned=True)
    return True


def _matmul(call: Call, name: str, outputs: list[str]) -> bool:
    tensors = call.tensors()
    if name in ("addmm", "baddbmm"):
        bias, a, b = tensors
        product = call.draft.value(
            f"{outputs[0]}.product", call.draft.shape(outputs[0]), call.draft.values[a].number_format
        )
        emit.emit_matmul(call.draft, call.path, a, b, product)
        emit.emit_elementwise(call.draft, call.path, "add", [product, bias], outputs[0])
        return True
    emit.emit_matmul(call.draft, call.path, tensors[0], tensors[1], outputs[0])
    return True


def _experts(call: Call, name: str, outputs: list[str]) -> bool:
    """Rows times the weights of the expert that each is sent to: spread as evenly as they go over all experts, or over
    as many as there are rows.

    Where the rows are no multiple of the experts, some of these get one row more: two products, whose rows are joined.
    """
    draft, (x, weight) = call.draft, call.tensors()[:2]
    (rows, k), (n_experts, inner, n) = draft.shape(x), draft.shape(weight)
    if inner != k:
        return False
    n_read = min(rows, n_experts)
    each, n_more = divmod(rows, n_read)
    shares = [(count, size) for count, size in ((n_read - n_more, each), (n_more, each + 1)) if count]
    results = []
    for count, size in shares:
        part = weight if count == n_experts else draft.view(f"{weight}.read", weight, (count, k, n), "part")
        held = x if count * size == rows else draft.view(f"{x}.part", x, (count * size, k), "part")
        a = draft.view(f"{x}.spread", held, (count, size, k))
        out = outputs[0]
        if len(shares) > 1:
            out = draft.value(f"{outputs[0]}.part", (count * size, n), draft.values[outputs[0]].number_format)
        emit.emit_matmul(draft, call.path, a, part, out)
        results.append(out)
    if len(results) > 1:
        draft.step("reshape", call.path, results, outputs, {"function": "concat"})
    return True


def _einsum(call: Call, name: str, outputs: list[str]) -> bool:
    return emit.emit_einsum(call.draft, call.path, str(call["equation"]), call.tensors(), outputs[0])


def _conv(call: Call, name: str, outputs: list[str]) -> bool:
    weight = call.name("weight")
    kernel = call.draft.shape(weight)[2:]
    dilation, padding = _listed(call["dilation"], len(kernel)), call["padding"]
    if isinstance(padding, str):
        spans = [step * (taps - 1) if padding == "same" else 0 for step, taps in zip(dilation, kernel, strict=True)]
        padding = [*(span // 2 for span in spans), *(span - span // 2 for span in spans)]
    else:
        padding = _listed(padding, len(kernel)) * 2
    emit.emit_conv(
        call.draft,
        call.path,
        call.name("input"),
        weight,
        outputs[0],
        bias=call.name("bias"),
        stride=_listed(call["stride"], len(kernel)),
        padding=padding,
        dilation=dilation,
        groups=int(call["groups"]),
        transposed="transpose" in name or bool(call["transposed"]),
    )
    return True


def _listed(value: Any, n_dims: int) -> list[int]:
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    return numbers if len(numbers) == n_dims else numbers * n_dims


def _pool(call: Call, name: str, outputs: list[str]) -> bool:
    function = "max" if "max" in name else "average"
    n_dims = int(name.split("_with_")[0].strip("d")[-1])
    x = call.name("self", "input")
    if name.startswith(("adaptive", "_adaptive")):
        sizes = zip(call.draft.shape(x)[-n_dims:], call.draft.shape(outputs[0])[-n_dims:], strict=True)
        kernel = [-(-before // after) for before, after in sizes]
        stride, padding = kernel, [0]
    else:
        kernel = _listed(call["kernel_size"], n_dims)
        stride = _listed(call["stride"], n_dims) if call["stride"] else kernel
        padding = _listed(call["padding"], n_dims)
    emit.emit_pool(call.draft, call.path, function, x, outputs[0], kernel=kernel, stride=stride, padding=padding)
    call.draft.steps[-1].outputs += outputs[1:]
    return True


def _attention(call: Call, name: str, outputs: list[str]) -> bool:
    q, k, v = (call.name(key) for key in ("query", "key", "value"))
    causal = "top" if call["is_causal"] else ""
    emit.emit_attention(call.draft, call.path, q, k, v, outputs[0], mask=call.name("attn_mask"), causal=causal)
    return True


def _gather(call: Call, name: str, outputs: list[str]) -> bool:
    tensors, shape = call.tensors(), call.draft.shape(outputs[0])
    if name == "embedding":
        table, indices = call.name("weight"), [call.name("indices")]
        emit.emit_gather(call.draft, call.path, table, indices, outputs[0], call.draft.shape(table)[-1])
        return True
    table, indices = tensors[0], tensors[1:]
    if not call.draft.is_known(table) and all(map(call.draft.is_known, indices)):
        smaller = math.prod(shape) <= call.draft.values[table].n_elements
        call.draft.values[outputs[0]].view_of = table
        call.draft.values[outputs[0]].view_kind = "part" if smaller else "expand"
        return True
    columns = 1
    if name == "index_select":
        columns = math.prod(call.draft.shape(table)[call["dim"] % len(shape) + 1 :])
    elif name == "index" and isinstance(call["indices"], list):
        columns = math.prod(call.draft.shape(table)[len(call["indices"]) :])
    emit.emit_gather(call.draft, call.path, table, indices, outputs[0], columns)
    return True


def _scan(call: Call, name: str, outputs: list[str]) -> bool:
    """A scan that was kept whole; a state that it begins with is written in place, else the last one is a result."""
    draft, kind = call.draft, KINDS.get(name.partition(".")[2])
    result, after = outputs
    state = call.name("state")
    inputs = [one for one in call.tensors() if one != state] + [state] * bool(state)
    if kind.of_shapes is None:
        return False
    attributes = dict(kind.of_shapes([draft.shape(one) for one in inputs], draft.shape(result)))
    attributes |= {"plain": True} if call["plain"] is True else {}
    kept = [result]
    if state:
        draft.values[after].view_of, draft.values[after].view_kind = state, "cast"
    elif any(one.target is operator.getitem and one.args[1] == 1 and one.users for one in call.node.users):
        kept.append(after)
    draft.step(kind.name, call.path, inputs, kept, attributes)
    return True


def _meshgrid(call: Call, name: str, outputs: list[str]) -> bool:
    """Each vector repeated along the others."""
    for vector, output in zip(call.tensors(), outputs, strict=True):
        call.draft.values[output].view_of = vector
        call.draft.values[output].view_kind = "expand"
    return True


def _create(call: Call, name: str, outputs: list[str]) -> bool:
    for output in outputs:
        call.draft.values[output].role = "constant"
    return True


def _quantize(call: Call, name: str, outputs: list[str]) -> bool:
    kind = "dequantize" if "dequantize" in name else "quantize"
    x = call.tensors()[0]
    if kind == "dequantize":
        call.draft.values[outputs[0]].view_of = x
        call.draft.values[outputs[0]].view_kind = "cast"
        return True
    n_elements = call.draft.values[outputs[0]].n_elements
    call.draft.step("quantize", call.path, [x], [outputs[0]], {"n_elements": n_elements})
    return True


def _copy(call: Call, name: str, outputs: list[str]) -> bool:
    """What is written over a tensor is the tensor afterwards."""
    source = call.name("src")
    if not source:
        return False
    same = call.draft.shape(source) == call.draft.shape(outputs[0])
    call.draft.values[outputs[0]].view_of = source
    call.draft.values[outputs[0]].view_kind = "cast" if same else "expand"
    return True


def _scatter(call: Call, name: str, outputs: list[str]) -> bool:
    """Values written over a part of a tensor; a new tensor that is filled part by part is its parts joined."""
    draft, base, source = call.draft, call.name("self", "input"), call.name("src")
    if not base or not source:
        return False
    step = draft.makers().get(draft.whole(base))
    inputs, function = [base, source], "scatter"
    if step is not None and step.operator == "filled":
        inputs, function = [*step.inputs, source], "concat"
    elif step is None and draft.role(base) == "constant":
        inputs, function = [source], "concat"
    draft.step("reshape", call.path, inputs, outputs, {"function": function})
    draft.steps[-1].operator = "filled" if function == "concat" else name
    return True


HANDLERS: Mapping[str, Handler] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(MOVES, _move),
    **dict.fromkeys(CREATES, _create),
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "_log_softmax", "_safe_softmax"), _softmax),
    **dict.fromkeys(
        (
            "layer_norm",
            "native_layer_norm",
            "rms_norm",
            "_fused_rms_norm",
            "group_norm",
            "native_group_norm",
            "instance_norm",
            "batch_norm",
            "native_batch_norm",
            "_native_batch_norm_legit_no_training",
        ),
        _norm,
    ),
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot", "addmm", "baddbmm"), _matmul),
    **dict.fromkeys(
        (
            "conv1d",
            "conv2d",
            "conv3d",
            "convolution",
            "conv_transpose1d",
            "conv_transpose2d",
            "conv_transpose3d",
        ),
        _conv,
    ),
    **dict.fromkeys(
        (
            *(
                f"{how}_pool{n}d"
                for how in ("max", "avg", "adaptive_avg", "_adaptive_avg", "adaptive_max")
                for n in (1, 2, 3)
            ),
            "max_pool2d_with_indices",
        ),
        _pool,
    ),
    **dict.fromkeys(("embedding", "index_select", "index", "gather", "take_along_dim"), _gather),
    **dict.fromkeys(
        (
            "quantize_per_tensor",
            "quantize_per_channel",
            "dequantize_per_tensor",
            "dequantize_per_channel",
            "fake_quantize_per_tensor_affine",
        ),
        _quantize,
    ),
    **dict.fromkeys(("slice_scatter", "select_scatter"), _scatter),
    "copy": _copy,
    "_grouped_mm": _experts,
    "transformers.grouped_mm_fallback": _experts,
    "einsum": _einsum,
    "gelu": _gelu,
    "glu": _glu,
    "linear": _linear,
    "meshgrid": _meshgrid,
    **dict.fromkeys((f"{LIBRARY}.{kind}" for kind in ("selective_scan", "ssd", "delta_rule", "causal_conv")), _scan),
    "scaled_dot_product_attention": _attention,
}


def flat(value: Any) -> list[Any]:
    """What nested lists hold, in order, without what is None."""
    if isinstance(value, list | tuple):
        return [one for part in value for one in flat(part)]
    return [] if value is None else [value]
