"""``reduction``: ``function`` (sum, mean, max, min, prod) over ``columns`` values, for each of ``rows`` results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tilewright.workloads.kinds.kind import OperatorKind, always, need_elements, register_kind
from tilewright.workloads.kinds.text import FORMATS, OperatorText, TextKeys, add_result, table
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import UnitValues, times

_PER_VALUE: Mapping[str, str] = {
    "sum": "add",
    "mean": "add",
    "max": "max",
    "min": "max",
    "prod": "mul",
    "average": "add",
}


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    need_elements(operator, stream, operator.inputs[0], operator.count("rows") * operator.count("columns"))


def _work(operator: Operator) -> Counter[str]:
    rows, function = operator.count("rows"), operator.text("function")
    counts = times({_PER_VALUE.get(function, "add"): 1}, rows * operator.count("columns"))
    return counts + Counter(mul=rows * (function == "mean"))


def _unit(operator: Operator) -> UnitValues:
    return UnitValues("reduction", operator.count("rows") * operator.count("columns"))


def _build(built: StreamBuilder, given: TextKeys) -> str:
    x, sizes = table(built, given)
    function = given.word("function", ("sum", "mean", "max", "min", "prod"))
    return add_result(built, given, "reduction", [x], (sizes["rows"], 1), {"function": function, **sizes})


register_kind(
    OperatorKind(
        name="reduction",
        word="a sum or the like of rows",
        attributes={"function": "text", "rows": "count", "columns": "count"},
        sizes=_sizes,
        work=_work,
        reduces=always,
        sums=True,
        unit=_unit,
        colour="#9a6a35",
        text=OperatorText(
            example="reduction:rows=512,columns=768",
            keys=("rows", "columns", "function", *FORMATS),
            needed=("rows", "columns"),
            build=_build,
        ),
    ),
    rank=7,
)
