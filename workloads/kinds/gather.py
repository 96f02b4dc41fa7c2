"""``gather``: ``rows`` rows of ``columns`` values out of a table; inputs (table, indices)."""

from __future__ import annotations

from tilewright.workloads.kinds.kind import OperatorKind, need_elements, register_kind
from tilewright.workloads.operators import Operator, stored_bytes
from tilewright.workloads.stream.graph import OperatorStream


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    need_elements(operator, stream, operator.outputs[0], operator.count("rows") * operator.count("columns"))


def _read_bytes(operator: Operator, stream: OperatorStream) -> int:
    """The rows that it needs, and its indices."""
    table, *others = operator.inputs
    rows = (operator.count("rows"), operator.count("columns"))
    return stored_bytes(rows, stream.tensor(table).number_format) + sum(map(stream.moved_bytes, others))


register_kind(
    OperatorKind(
        name="gather",
        word="rows out of a table",
        attributes={"rows": "count", "columns": "count"},
        least_inputs=2,
        sizes=_sizes,
        read_bytes=_read_bytes,
        colour="#4f9a4a",
    ),
    rank=10,
)
