"""``linear_attention``: S = a S + k v^T, o = S^T q, causal, without a softmax.

Inputs (q, k, v[, gates][, state]): q and k (batch, tokens, key_heads, key_dim), v (batch, tokens, heads, value_dim).
``gate``: "none" (a = 1), "fixed" (retention, arXiv 2307.08621: a known decay a head), "head" (logarithms of decays, a
number a token and head), or "channel" (gated linear attention, arXiv 2312.06635: ``key_dim`` of them).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilewright.errors import InputError
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

__all__ = ["GATES", "linear_inputs"]

GATES = ("fixed", "none", "head", "channel")


def linear_inputs(operator: Operator) -> ScanInputs:
    """Places of the inputs; gates are an input where they depend on the token."""
    return ScanInputs(0, 1, 2, gates=(3,) if operator.text("gate") in ("head", "channel") else ())


def _check(operator: Operator) -> None:
    check_scan(operator)
    check_gate(operator, GATES)
    gate = operator.text("gate")
    needed = 3 + (gate in ("head", "channel")) + bool(operator.attributes.get("state"))
    if len(operator.inputs) != needed:
        raise InputError(f"{operator.name}: inputs: given {len(operator.inputs)}; allowed {needed} with gate {gate}")


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    scan_sizes(operator, stream, linear_inputs(operator), operator.count("key_dim"))


def _build(built: StreamBuilder, given: TextKeys) -> str:
    return build_gated(built, given, "linear_attention", GATES)


def _of_shapes(inputs: Sequence[tuple[int, ...]], result: tuple[int, ...]) -> dict[str, Any]:
    return gated_shapes(inputs, 0)


register_kind(
    OperatorKind(
        name="linear_attention",
        word="linear attention",
        attributes={**SCAN_ATTRIBUTES, "gate": "text"},
        optional=SCAN_OPTIONAL,
        least_inputs=3,
        of_shapes=_of_shapes,
        tensors=("q", "k", "v", "gates"),
        n_operands=4,
        check=_check,
        sizes=_sizes,
        macs=scan_macs,
        on_array=always,
        write_bytes=scan_write_bytes,
        colour="#a0527f",
        text=OperatorText(
            example="linear_attention:tokens=2048,heads=8,key_dim=128,value_dim=256",
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
                *(f"{name}_format" for name in ("q", "k", "v", "gates")),
                *FORMATS,
            ),
            needed=("tokens", "key_dim", "value_dim"),
            build=_build,
        ),
    ),
    rank=14,
)
