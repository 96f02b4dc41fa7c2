"""``delta_rule``: S = a (S - beta k (k^T S)) + beta k v^T, o = S^T q, the gated delta rule.

Inputs (q, k, v, gates, beta[, state]): q and k (batch, tokens, key_heads, key_dim), v (batch, tokens, heads,
value_dim), beta (batch, tokens, heads); gates are logarithms of a, a number a token and head (``gate`` "head", Yang et
al., arXiv 2412.06464) or ``key_dim`` of them ("channel", Kimi delta attention, arXiv 2510.26692).
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

__all__ = ["DELTA_INPUTS"]

DELTA_INPUTS = ScanInputs(queries=0, keys=1, values=2, gates=(3, 4))
_GATES = ("head", "channel")


def _check(operator: Operator) -> None:
    check_scan(operator)
    gate = operator.text("gate")
    if gate not in _GATES:
        raise unknown("gate", gate, _GATES, place=operator.name)
    if gate == "channel" and operator.count("heads") != operator.count("key_heads"):
        raise InputError(
            f"{operator.name}: key_heads: given {operator.count('key_heads')} for {operator.count('heads')} heads; "
            "allowed as many as heads with gates by channel"
        )


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    scan_sizes(operator, stream, DELTA_INPUTS, operator.count("key_dim"))


def _macs(operator: Operator) -> int:
    return scan_macs(operator) // 2 * 3


def _build(built: StreamBuilder, given: TextKeys) -> str:
    sizes, gate = text_extents(given), given.word("gate", _GATES)
    batch, tokens, heads, key_heads, key_dim, value_dim = (sizes[key] for key in SCAN_ATTRIBUTES)
    shapes: dict[str, tuple[int, ...]] = {"q": (key_heads, key_dim), "k": (key_heads, key_dim), "v": (heads, value_dim)}
    shapes |= {"gates": (heads, key_dim) if gate == "channel" else (heads,), "beta": (heads,)}
    form = given.format("a_format")
    inputs = [built.input(name, (batch, tokens, *shape), number_format=form) for name, shape in shapes.items()]
    state, said = add_state(built, given, sizes)
    shape = (batch, tokens, heads, value_dim)
    return add_result(built, given, "delta_rule", [*inputs, *state], shape, {"gate": gate, **sizes, **said})


register_kind(
    OperatorKind(
        name="delta_rule",
        word="a gated delta rule",
        attributes={**SCAN_ATTRIBUTES, "gate": "text"},
        optional=SCAN_OPTIONAL,
        least_inputs=5,
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
                *FORMATS,
            ),
            needed=("tokens", "key_dim", "value_dim"),
            build=_build,
        ),
    ),
    rank=15,
)
