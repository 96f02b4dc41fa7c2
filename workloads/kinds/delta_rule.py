"""``delta_rule``: S = a (S - beta k (k^T S)) + beta k v^T, o = S^T q, the gated delta rule.

Inputs (q, k, v, gates, beta[, state]): q and k (batch, tokens, key_heads, key_dim), v (batch, tokens, heads,
value_dim), beta (batch, tokens, heads); gates are logarithms of a, a number a token and head (``gate`` "head", Yang et
al., arXiv 2412.06464) or ``key_dim`` of them ("channel", Kimi delta attention, arXiv 2510.26692).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilewright.workloads.kinds.kind import OperatorKind, always, register_kind
from tilewright.workloads.kinds.text import FORMATS, OperatorText, TextKeys
from tilewright.workloads.operators import Operator
from tilewright.workloads.scan_operators import (
    SCAN_ATTRIBUTES,
    SCAN_OPTIONAL,
    ScanInputs,
    build_gated,
    check_gate,
    check_scan,
    gated_shapes,
    scan_macs,
    scan_sizes,
    scan_write_bytes,
)
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["DELTA_INPUTS"]

DELTA_INPUTS = ScanInputs(queries=0, keys=1, values=2, gates=(3, 4))
_GATES = ("head", "channel")


def _check(operator: Operator) -> None:
    check_scan(operator)
    check_gate(operator, _GATES)


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    scan_sizes(operator, stream, DELTA_INPUTS, operator.count("key_dim"))


def _macs(operator: Operator) -> int:
    return scan_macs(operator) // 2 * 3


def _build(built: StreamBuilder, given: TextKeys) -> str:
    return build_gated(built, given, "delta_rule", _GATES, "beta")


def _of_shapes(inputs: Sequence[tuple[int, ...]], result: tuple[int, ...]) -> dict[str, Any]:
    return gated_shapes(inputs, 1)


register_kind(
    OperatorKind(
        name="delta_rule",
        word="a gated delta rule",
        attributes={**SCAN_ATTRIBUTES, "gate": "text"},
        optional=SCAN_OPTIONAL,
        least_inputs=5,
        of_shapes=_of_shapes,
        tensors=("q", "k", "v", "gates", "beta"),
        n_operands=5,
        check=_check,
        sizes=_sizes,
        macs=_macs,
        on_array=always,
        write_bytes=scan_write_bytes,
        colour="#8d5bb0",
        text=OperatorText(
            example="delta_rule:tokens=2048,heads=8,key_heads=4,key_dim=128,value_dim=128",
            keys=(
                "tokens",
                "heads",
                "key_heads",
                "key_dim",
                "value_dim",
                "gate",
                "batch",
                "chunk",
                "state",
                "state_format",
                *(f"{name}_format" for name in ("q", "k", "v", "gates", "beta")),
                *FORMATS,
            ),
            needed=("tokens", "key_dim", "value_dim"),
            build=_build,
        ),
    ),
    rank=15,
)
