"""``linear_attention``: S = a S + k v^T, o = S^T q, causal, without a softmax.

Inputs (q, k, v[, gates][, state]): q and k (batch, tokens, key_heads, key_dim), v (batch, tokens, heads, value_dim).
``gate``: "none" (a = 1), "fixed" (retention, arXiv 2307.08621: a known decay a head), "head" (logarithms of decays, a
number a token and head), or "channel" (gated linear attention, arXiv 2312.06635: ``key_dim`` of them).
"""

from __future__ import annotations

from tilewright.errors import InputError, unknown
from tilewright.workloads.kinds.kind import OperatorKind, always, register_kind
from tilewright.workloads.kinds.text import FORMATS, OperatorText, TextKeys, add_result
from tilewright.workloads.operators import Operator
from tilewright.workloads.scan_operators import (
    SCAN_ATTRIBUTES,
    SCAN_OPTIONAL,
    ScanInputs,
    add_state,
    check_scan,
    scan_macs,
    scan_sizes,
    scan_write_bytes,
    text_extents,
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
    gate = operator.text("gate")
    if gate not in GATES:
        raise unknown("gate", gate, GATES, place=operator.name)
    needed = 3 + (gate in ("head", "channel")) + bool(operator.attributes.get("state"))
    if len(operator.inputs) != needed:
        raise InputError(f"{operator.name}: inputs: given {len(operator.inputs)}; allowed {needed} with gate {gate}")
    if gate == "channel" and operator.count("heads") != operator.count("key_heads"):
        raise InputError(
            f"{operator.name}: key_heads: given {operator.count('key_heads')} for {operator.count('heads')} heads; "
            "allowed as many as heads with gates by channel"
        )


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    scan_sizes(operator, stream, linear_inputs(operator), operator.count("key_dim"))


def _build(built: StreamBuilder, given: TextKeys) -> str:
    sizes, gate = text_extents(given), given.word("gate", GATES)
    batch, tokens, heads, key_heads, key_dim, value_dim = (sizes[key] for key in SCAN_ATTRIBUTES)
    shapes: dict[str, tuple[int, ...]] = {"q": (key_heads, key_dim), "k": (key_heads, key_dim), "v": (heads, value_dim)}
    if gate in ("head", "channel"):
        shapes["gates"] = (heads, key_dim) if gate == "channel" else (heads,)
    form = given.format("a_format")
    inputs = [built.input(name, (batch, tokens, *shape), number_format=form) for name, shape in shapes.items()]
    state, said = add_state(built, given, sizes)
    shape = (batch, tokens, heads, value_dim)
    return add_result(built, given, "linear_attention", [*inputs, *state], shape, {"gate": gate, **sizes, **said})


register_kind(
    OperatorKind(
        name="linear_attention",
        word="linear attention",
        attributes={**SCAN_ATTRIBUTES, "gate": "text"},
        optional=SCAN_OPTIONAL,
        least_inputs=3,
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
                *FORMATS,
            ),
            needed=("tokens", "key_dim", "value_dim"),
            build=_build,
        ),
    ),
    rank=14,
)
