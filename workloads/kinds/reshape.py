"""``reshape``: data moved, nothing computed.

``function`` is concat, append (rows joined to a cache in place), pad, repeat, upsample or another name. A change of
shape that only changes how a tensor is read is a view, not an operator.
"""

from __future__ import annotations

from tilewright.workloads.kinds.kind import OperatorKind, register_kind
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream


def _read_bytes(operator: Operator, stream: OperatorStream) -> int:
    """Of an append only what it appends."""
    inputs = operator.inputs
    if operator.text("function") == "append":
        inputs = tuple(name for name in inputs if stream.base(name).role != "cache" or stream.producer(name))
    return sum(stream.moved_bytes(name) for name in dict.fromkeys(inputs))


def _write_bytes(operator: Operator, stream: OperatorStream) -> int:
    if operator.text("function") == "append":
        return _read_bytes(operator, stream)
    return sum(stream.moved_bytes(name) for name in operator.outputs)


register_kind(
    OperatorKind(
        name="reshape",
        word="data moved",
        attributes={"function": "text"},
        least_inputs=0,
        read_bytes=_read_bytes,
        write_bytes=_write_bytes,
        colour="#2a9d8f",
    ),
    rank=9,
)
