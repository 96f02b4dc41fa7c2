"""``quantize``: ``n_elements`` values to the number format of the output."""

from __future__ import annotations

from collections import Counter

from tilewright.workloads.kinds.kind import OperatorKind, need_elements, register_kind
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import times

QUANTISE_ASSUMPTION = (
    "results are quantised as they are stored; one scale for a whole tensor is not counted, and a result that the file "
    "dequantises last leaves the network quantised"
)


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    need_elements(operator, stream, operator.outputs[0], operator.count("n_elements"))


def _work(operator: Operator) -> Counter[str]:
    return times({"mul": 1, "add": 1, "max": 2}, operator.count("n_elements"))


register_kind(
    OperatorKind(
        name="quantize",
        word="values in another number format",
        attributes={"n_elements": "count"},
        sizes=_sizes,
        work=_work,
        follows="anything",
        colour="#9474c0",
        assumptions=(QUANTISE_ASSUMPTION,),
    ),
    rank=11,
)
