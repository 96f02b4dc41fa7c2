"""Operator streams as rows of a table, and the blocks of operators that repeat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tilewright.workloads.operators import Operator

if TYPE_CHECKING:
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["Block", "repeated_blocks", "size_text", "stream_rows"]

_LONGEST_BLOCK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """``count`` times the same ``n_operators`` operators, one after the other, from operator ``first`` on."""

    first: int
    n_operators: int
    count: int


def stream_rows(stream: OperatorStream, *, distinct: bool = False) -> list[dict[str, Any]]:
    """One row per operator, or per distinct operator with its count.

    Columns: operator, kind, function, size, [count,] macs, weight_bytes, read_bytes, write_bytes, formats (inputs then
    results), path; bytes and macs are those of one operator.
    """
    if distinct:
        return [_row(stream, group.operator) | {"count": group.count} for group in stream.distinct()]
    return [_row(stream, operator) for operator in stream.operators]


def _row(stream: OperatorStream, operator: Operator) -> dict[str, Any]:
    inputs = [stream.tensor(name) for name in operator.inputs]
    outputs = [stream.tensor(name) for name in operator.outputs]
    sides = ("/".join(dict.fromkeys(spec.number_format for spec in side)) for side in (inputs, outputs))
    return {
        "operator": operator.name,
        "kind": operator.kind,
        "function": operator.text("function"),
        "size": size_text(operator),
        "macs": operator.macs,
        "weight_bytes": sum(spec.n_bytes for spec in inputs if spec.role == "weight"),
        "read_bytes": stream.read_bytes(operator),
        "write_bytes": stream.write_bytes(operator),
        "formats": " -> ".join(sides),
        "path": operator.path,
    }


def size_text(operator: Operator) -> str:
    """How large an operator is, in a few characters: ``1x(512x768)(768x768)``, ``64->128 3x3 56x56->28x28``."""
    return operator.of_kind.size(operator)


def repeated_blocks(stream: OperatorStream) -> tuple[Block, ...]:
    """The stream cut into blocks so that identical neighbours (the layers of a transformer) are one block.

    Greedy from the front: of all periods, the one that covers most operators; ties go to the shorter period. A single
    operator that stands alone is a block of one.
    """
    known: dict[Any, int] = {}
    codes = [known.setdefault(stream.signature(op), len(known)) for op in stream.operators]
    blocks: list[Block] = []
    at = 0
    while at < len(codes):
        length, count = _best_period(codes, at)
        blocks.append(Block(first=at, n_operators=length, count=count))
        at += length * count
    return tuple(blocks)


def _best_period(codes: list[int], at: int) -> tuple[int, int]:
    best = (1, 1)
    places = [i for i in range(at + 1, min(len(codes), at + _LONGEST_BLOCK)) if codes[i] == codes[at]]
    for period in (place - at for place in places):
        count = 1
        while codes[at + count * period : at + (count + 1) * period] == codes[at : at + period]:
            count += 1
        if count > 1 and count * period > best[0] * best[1]:
            best = (period, count)
    return best
