"""``dequantize``: ``n_elements`` values from the number format of the input."""

from __future__ import annotations

from collections import Counter

from tilewright.workloads.kinds.kind import OperatorKind, need_elements, register_kind
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import times


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    need_elements(operator, stream, operator.outputs[0], operator.count("n_elements"))


def _work(operator: Operator) -> Counter[str]:
    return times({"sub": 1, "mul": 1}, operator.count("n_elements"))


register_kind(
    OperatorKind(
        name="dequantize",
        word="values out of another number format",
        attributes={"n_elements": "count"},
        sizes=_sizes,
        work=_work,
        follows="anything",
        colour="#b08fd0",
    ),
    rank=12,
)
