"""``pool``: ``function`` (max or average) over windows, with sizes as those of a convolution."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tilewright.workloads.kinds.kind import OperatorKind, register_kind
from tilewright.workloads.kinds.text import FORMATS, OperatorText, TextKeys, add_result
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
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.vector_work import UnitValues

_FUNCTIONS = ("max", "average")


def _work(operator: Operator) -> Mapping[str, int]:
    n_results = operator.count("batch") * operator.count("channels") * math.prod(operator.sizes("out_size"))
    n_values = n_results * math.prod(operator.sizes("kernel"))
    return {"add": n_values, "mul": n_results} if operator.text("function") == "average" else {"max": n_values}


def _unit(operator: Operator) -> UnitValues:
    maps = operator.count("batch") * operator.count("channels")
    inputs, results = (maps * math.prod(operator.sizes(key)) for key in ("in_size", "out_size"))
    return UnitValues("pool", results * math.prod(operator.sizes("kernel")), inputs)


def _size(operator: Operator) -> str:
    return f"{operator.count('channels')} {window_text(operator)}"


def _build(built: StreamBuilder, given: TextKeys) -> str:
    batch = given.count("batch", 1)
    channels, sizes = given_sizes(given, stride=None)
    after = out_size(given, sizes, (1,) * len(sizes["in_size"]), transposed=False)
    x = built.input("x", (batch, channels, *sizes["in_size"]), number_format=given.format("a_format"))
    function = given.word("function", _FUNCTIONS)
    attributes = {"function": function, "batch": batch, "channels": channels, "out_size": after, **sizes}
    return add_result(built, given, "pool", [x], (batch, channels, *after), attributes)


register_kind(
    OperatorKind(
        name="pool",
        word="pooling over 1 to 3 dimensions",
        attributes={"function": "text", "batch": "count", "channels": "count", **SIZES},
        optional={"dilation": "sizes"},
        check=check_dimensions,
        sizes=check_windows,
        work=_work,
        sums=True,
        unit=_unit,
        functions=_FUNCTIONS,
        size=_size,
        colour="#4aa3c7",
        text=OperatorText(
            example="pool:in=64x112x112,kernel=3,stride=2,padding=1",
            keys=(*IMAGE_KEYS, "function", *FORMATS),
            needed=("in", "kernel"),
            build=_build,
        ),
    ),
    rank=8,
)
