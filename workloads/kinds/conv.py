"""``conv``: a convolution over ``batch`` images; inputs (x, weight[, bias]).

``in_channels`` and ``out_channels`` over all ``groups``; sizes, ``kernel``, ``stride`` and ``dilation`` have one entry
per spatial dimension, ``padding`` two: those before, then those after; ``transposed`` for a deconvolution.
``batch_norm``: a batch norm that stood behind it in its model was folded into weight and bias; where kernels are
launched as the framework does, it is a kernel of its own again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tilewright.errors import InputError
from tilewright.workloads.kinds.kind import OperatorKind, need_elements, register_kind
from tilewright.workloads.kinds.text import TWO_FORMATS, OperatorText, TextKeys, add_result
from tilewright.workloads.kinds.windows import (
    IMAGE_KEYS,
    SIZES,
    check_dimensions,
    check_windows,
    given_sizes,
    out_size,
    window_text,
)
from tilewright.workloads.operators import Operator
from tilewright.workloads.products import is_depthwise
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import UnitValues, line_pixels

_YES_OR_NO = ("no", "yes")
_FUNCTIONS = ("depthwise", "transposed", "dilated", "other_kernel", "windows")


def _check(operator: Operator) -> None:
    check_dimensions(operator)
    groups = operator.count("groups")
    for key in ("in_channels", "out_channels"):
        if operator.count(key) % groups:
            raise InputError(
                f"{operator.name}: groups: given {groups}; allowed what divides {key}, which is {operator.count(key)}"
            )


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    batch, groups, ins, outs = (operator.count(key) for key in ("batch", "groups", "in_channels", "out_channels"))
    image, result = (batch * n * math.prod(operator.sizes(key)) for n, key in ((ins, "in_size"), (outs, "out_size")))
    need_elements(operator, stream, operator.inputs[0], image)
    need_elements(operator, stream, operator.inputs[1], ins * outs // groups * math.prod(operator.sizes("kernel")))
    need_elements(operator, stream, operator.outputs[0], result)
    check_windows(operator, stream)


def _macs(operator: Operator) -> int:
    """in_channels / groups times the kernel's size for each result; of a transposed one, out_channels / groups times
    the kernel's size for each input value.
    """
    many, few = ("in", "out") if operator.attributes["transposed"] else ("out", "in")
    n_points = operator.count("batch") * operator.count(f"{many}_channels") * math.prod(operator.sizes(f"{many}_size"))
    n_taps = operator.count(f"{few}_channels") // operator.count("groups") * math.prod(operator.sizes("kernel"))
    return n_points * n_taps


def _on_array(operator: Operator) -> bool:
    return not is_depthwise(operator)


def _unit(operator: Operator) -> UnitValues | None:
    if not is_depthwise(operator):
        return None
    return UnitValues("depthwise", operator.macs, pixels=line_pixels(operator))


def _functions(operator: Operator, kernels: Sequence[tuple[int, int]]) -> list[str]:
    holds = (
        is_depthwise(operator),
        bool(operator.attributes["transposed"]),
        any(step > 1 for step in operator.sizes("dilation")),
        bool(kernels) and tuple(operator.sizes("kernel")) not in kernels,
        not is_depthwise(operator) and math.prod(operator.sizes("kernel")) > 1,
    )
    return [name for name, yes in zip(_FUNCTIONS, holds, strict=True) if yes]


def _size(operator: Operator) -> str:
    groups = operator.count("groups")
    channels = f"{operator.count('in_channels')}->{operator.count('out_channels')}"
    return f"{channels} {window_text(operator)}" + (f" groups {groups}" if groups != 1 else "")


def _layer_word(operator: Operator) -> str:
    kernel = "x".join(str(size) for size in operator.sizes("kernel"))
    grouped = "grouped" if operator.count("groups") > 1 else "conv"
    return f"{'depthwise' if is_depthwise(operator) else grouped} {kernel}"


def _build(built: StreamBuilder, given: TextKeys) -> str:
    batch, outs, groups = given.count("batch", 1), given.count("out_channels"), given.count("groups", 1)
    ins, sizes = given_sizes(given, stride=1)
    if ins % groups or outs % groups:
        raise InputError(
            f"{given.what}: groups: given {groups}; allowed divisors of {ins} input and {outs} output channels"
        )
    transposed = given.word("transposed", _YES_OR_NO) == "yes"
    dilation = given.sizes("dilation", len(sizes["in_size"]), 1)
    after = out_size(given, sizes, dilation, transposed=transposed)
    rows = (ins, outs // groups) if transposed else (outs, ins // groups)
    x = built.input("x", (batch, ins, *sizes["in_size"]), number_format=given.format("a_format"))
    weight = built.weight("weight", (*rows, *sizes["kernel"]), number_format=given.format("b_format"))
    attributes = {
        "batch": batch, "groups": groups, "in_channels": ins, "out_channels": outs, "out_size": after,
        "dilation": dilation, "transposed": transposed, **sizes,
    }  # fmt: skip
    return add_result(built, given, "conv", [x, weight], (batch, outs, *after), attributes)


register_kind(
    OperatorKind(
        name="conv",
        word="a convolution over 1 to 3 dimensions",
        attributes={
            "batch": "count",
            "groups": "count",
            "in_channels": "count",
            "out_channels": "count",
            **SIZES,
            "dilation": "sizes",
            "transposed": "flag",
        },
        optional={"batch_norm": "flag"},
        least_inputs=2,
        check=_check,
        sizes=_sizes,
        macs=_macs,
        on_array=_on_array,
        unit=_unit,
        functions=_FUNCTIONS,
        functions_of=_functions,
        n_operands=2,
        is_product=True,
        size=_size,
        layer_word=_layer_word,
        colour="#7d4bb3",
        text=OperatorText(
            example="conv:in=64x56x56,out_channels=64,kernel=3,padding=1",
            keys=(*IMAGE_KEYS, "out_channels", "dilation", "groups", "transposed", *TWO_FORMATS),
            needed=("in", "out_channels", "kernel"),
            build=_build,
        ),
    ),
    rank=2,
)
