"""``norm``: ``rows`` sets of ``columns`` values that share statistics; inputs (x[, weight[, bias]]).

``function`` is layer, rms, group, instance or batch (at inference, with statistics known: a multiply and an add per
value). ``written_out`` and ``written_small`` as of element-wise work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tilewright.workloads.kinds.kind import OperatorKind, need_elements, register_kind
from tilewright.workloads.kinds.text import TWO_FORMATS, OperatorText, TextKeys, add_result, table
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import times

_CENTRED: Mapping[str, int] = {"add": 2, "sub": 1, "mul": 2}
_PER_VALUE: Mapping[str, Mapping[str, int]] = {
    "layer": _CENTRED,
    "group": _CENTRED,
    "instance": _CENTRED,
    "rms": {"mul": 2, "add": 1},
    "batch": {"mul": 1, "add": 1},
}


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    need_elements(operator, stream, operator.inputs[0], operator.count("rows") * operator.count("columns"))


def _work(operator: Operator) -> Counter[str]:
    rows, function = operator.count("rows"), operator.text("function")
    n_values = rows * operator.count("columns")
    counts = times(_PER_VALUE.get(function, _CENTRED), n_values)
    if function == "batch":
        return counts
    learned = Counter(mul=n_values * (len(operator.inputs) > 1), add=n_values * (len(operator.inputs) > 2))
    return counts + Counter(exp=rows, div=rows) + learned


def _reduces(operator: Operator) -> bool:
    return operator.text("function") != "batch"


def _passes(operator: Operator) -> tuple[Mapping[str, int], Mapping[str, int]] | None:
    """Sum and sum of squares, then the results."""
    if not _reduces(operator):
        return None
    rows = operator.count("rows")
    n_values = rows * operator.count("columns")
    n_sums = 1 if operator.text("function") == "rms" else 2
    first = Counter(mul=n_values, add=n_values * n_sums, exp=rows, div=rows)
    return first, _work(operator) - first


def _build(built: StreamBuilder, given: TextKeys) -> str:
    x, sizes = table(built, given)
    function = given.word("function", ("layer", "rms", "batch", "group", "instance"))
    learned = ("scale",) if function == "rms" else ("scale", "shift")
    weights = [built.weight(name, (sizes["columns"],), number_format=given.format("b_format")) for name in learned]
    shape = (sizes["rows"], sizes["columns"])
    return add_result(built, given, "norm", [x, *weights], shape, {"function": function, **sizes})


register_kind(
    OperatorKind(
        name="norm",
        word="a normalisation of rows",
        attributes={"function": "text", "rows": "count", "columns": "count"},
        optional={"written_out": "whole", "written_small": "whole"},
        sizes=_sizes,
        work=_work,
        passes=_passes,
        reduces=_reduces,
        colour="#e08a1e",
        text=OperatorText(
            example="norm:rows=512,columns=768",
            keys=("rows", "columns", "function", *TWO_FORMATS),
            needed=("rows", "columns"),
            build=_build,
        ),
    ),
    rank=5,
)
