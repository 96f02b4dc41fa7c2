"""``softmax``: over ``columns`` values, for each of ``rows`` rows.

What was applied to the scores of an attention that is taken apart: ``stages`` (1 for the scale, and 1 each for a bias
and a mask), ``soft_cap`` and ``sinks``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tilewright.workloads.kinds.kind import OperatorKind, always, need_elements, register_kind
from tilewright.workloads.kinds.text import FORMATS, OperatorText, TextKeys, add_result, table
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import SINK, SOFT_CAP, SOFTMAX, times


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    need_elements(operator, stream, operator.inputs[0], operator.count("rows") * operator.count("columns"))


def _work(operator: Operator) -> Counter[str]:
    rows, stages = operator.count("rows"), int(operator.attributes.get("stages", 0))
    n_values = rows * operator.count("columns")
    counts = times(SOFTMAX, n_values)
    counts += times(SOFT_CAP, n_values * ("soft_cap" in operator.attributes))
    counts += times(SINK, rows * bool(operator.attributes.get("sinks")))
    return counts + Counter(mul=n_values * min(1, stages), add=n_values * max(0, stages - 1))


def _passes(operator: Operator) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """The running maximum and the sum of exponentials in one pass, exponentials again in the other."""
    all_of_it, n_values = _work(operator), operator.count("rows") * operator.count("columns")
    return all_of_it - Counter(div=n_values), all_of_it - Counter(max=n_values, add=n_values)


def _build(built: StreamBuilder, given: TextKeys) -> str:
    x, sizes = table(built, given)
    return add_result(built, given, "softmax", [x], (sizes["rows"], sizes["columns"]), sizes)


register_kind(
    OperatorKind(
        name="softmax",
        word="softmax of rows",
        attributes={"rows": "count", "columns": "count"},
        optional={"stages": "whole", "sinks": "flag", "soft_cap": "number"},
        sizes=_sizes,
        work=_work,
        passes=_passes,
        reduces=always,
        colour="#d97aa6",
        text=OperatorText(
            example="softmax:rows=6144,columns=512",
            keys=("rows", "columns", *FORMATS),
            needed=("rows", "columns"),
            build=_build,
        ),
    ),
    rank=4,
)
