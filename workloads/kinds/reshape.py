"""``reshape``: data moved, nothing computed.

``function`` is concat, append (rows joined to a cache in place), pad, repeat, upsample, roll (by the places of ``by``
in each dimension; what leaves one end comes in at the other), order (places of rows by two scores of each), inverse (of
such places) or another name. A change of shape that only changes how a
tensor is read is a view, not an operator.
"""

from __future__ import annotations

from tilewright.workloads.kinds.kind import OperatorKind, register_kind
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream


def _read_bytes(operator: Operator, stream: OperatorStream) -> int:
    """Of an append only what it appends."""
    old = _appended_to(operator, stream)
    return sum(stream.moved_bytes(name) for name in dict.fromkeys(operator.inputs) if name not in old)


def _write_bytes(operator: Operator, stream: OperatorStream) -> int:
    """Of an append what it makes the cache longer by, in the cache's format."""
    old = sum(stream.moved_bytes(name) for name in _appended_to(operator, stream))
    return sum(stream.moved_bytes(name) for name in operator.outputs) - old


def _appended_to(operator: Operator, stream: OperatorStream) -> tuple[str, ...]:
    """The cache that an append writes behind; nothing for other moves."""
    if operator.text("function") != "append":
        return ()
    inputs = dict.fromkeys(operator.inputs)
    return tuple(name for name in inputs if stream.base(name).role == "cache" and not stream.producer(name))


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
