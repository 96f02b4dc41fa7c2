"""``elementwise``: ``function`` of ``n_elements`` results; ``window``: further values that are added for each.

``written_out``: the model has it as so many steps over all values (and ``written_small`` over fewer), each of which its
framework launches as a kernel.
"""

from __future__ import annotations

from collections import Counter

from tilewright.errors import InputError
from tilewright.workloads.kinds.kind import OperatorKind, need_elements, register_kind
from tilewright.workloads.kinds.text import FORMATS, OperatorText, TextKeys, add_result
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import ELEMENTWISE, UnitValues, times

_TWO_INPUTS = ("add", "sub", "mul", "div", "max", "min", "where", "compare")
_MOST_INPUTS = 3


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    need_elements(operator, stream, operator.outputs[0], operator.count("n_elements"))


def _work(operator: Operator) -> Counter[str]:
    n_elements = operator.count("n_elements")
    counts = times(ELEMENTWISE.get(operator.text("function"), {"mul": 1}), n_elements)
    return counts + Counter(add=n_elements * int(operator.attributes.get("window", 0)))


def _unit(operator: Operator) -> UnitValues:
    return UnitValues("elementwise", operator.count("n_elements"))


def _build(built: StreamBuilder, given: TextKeys) -> str:
    n = given.count("n")  # as many rows: only rows can be dealt out to tiles and cores
    function = given.word("function", tuple(ELEMENTWISE))
    n_inputs = given.count("inputs", 2 if function in _TWO_INPUTS else 1)
    if n_inputs > _MOST_INPUTS:
        raise InputError(f"{given.what}: inputs: given {n_inputs}; allowed 1 to {_MOST_INPUTS}")
    inputs = [built.input(f"x{at}", (n, 1), number_format=given.format("a_format")) for at in range(n_inputs)]
    return add_result(built, given, "elementwise", inputs, (n, 1), {"function": function, "n_elements": n})


register_kind(
    OperatorKind(
        name="elementwise",
        word="work on single values",
        attributes={"function": "text", "n_elements": "count"},
        optional={"window": "whole", "written_out": "whole", "written_small": "whole"},
        sizes=_sizes,
        work=_work,
        unit=_unit,
        functions=tuple(ELEMENTWISE),
        follows="products",
        colour="#b89b12",
        text=OperatorText(
            example="elementwise:function=gelu,n=393216",
            keys=("n", "function", "inputs", *FORMATS),
            needed=("n",),
            build=_build,
        ),
    ),
    rank=6,
)
