"""What operators that scan have in common: inputs, sizes, formats, and the layer that they become."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from tilewright.errors import InputError, unknown
from tilewright.formats import element_format, format_bits, tensor_format
from tilewright.workloads.kinds.kind import AttributeType, need_elements
from tilewright.workloads.kinds.text import TextKeys, add_result
from tilewright.workloads.operators import Operator, stored_bits
from tilewright.workloads.products import value_bits
from tilewright.workloads.scan import ScanForm, ScanLayer
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import ELEMENTWISE

__all__ = [
    "SCAN_ATTRIBUTES",
    "SCAN_OPTIONAL",
    "ScanInputs",
    "add_state",
    "build_gated",
    "check_gate",
    "check_scan",
    "common_work",
    "gated_shapes",
    "input_format",
    "scan_layer",
    "scan_macs",
    "scan_sizes",
    "scan_write_bytes",
    "text_extents",
]

SCAN_ATTRIBUTES: Mapping[str, AttributeType] = dict.fromkeys(
    ("batch", "tokens", "heads", "key_heads", "key_dim", "value_dim"), "count"
)
#: ``state``: the last input is the state, which is read, and written in place; ``keeps_state``: the state is written
#: at the end, as it is where it is the second result; ``state_format``: in which it is held, where it is no input;
#: ``chunk``: tokens of a chunk.
SCAN_OPTIONAL: Mapping[str, AttributeType] = {
    "state": "flag",
    "keeps_state": "flag",
    "state_format": "text",
    "chunk": "count",
}


class ScanInputs(NamedTuple):
    """Places among an operator's inputs; ``gates`` those with a number a token and head, channel or column."""

    queries: int
    keys: int
    values: int
    gates: tuple[int, ...] = ()
    parameters: tuple[int, ...] = ()


def check_scan(operator: Operator) -> None:
    """Raise InputError for heads that share keys unevenly, and a chunk longer than the sequence."""
    heads, key_heads, tokens = (operator.count(key) for key in ("heads", "key_heads", "tokens"))
    if heads % key_heads:
        raise InputError(f"{operator.name}: heads: given {heads} on {key_heads} of keys; allowed a multiple of them")
    chunk = operator.attributes.get("chunk", 1)
    if isinstance(chunk, int) and chunk > tokens:
        raise InputError(
            f"{operator.name}: chunk: longer than the sequence; given {chunk}; allowed 1 to {tokens}, its tokens"
        )
    if "state_format" in operator.attributes:
        tensor_format(operator.text("state_format"))


def scan_sizes(operator: Operator, stream: OperatorStream, own: ScanInputs, n_gates: int) -> None:
    """Raise InputError where tensors do not have the values that the attributes ask for."""
    batch, tokens, heads, key_heads, key_dim, value_dim = (operator.count(key) for key in SCAN_ATTRIBUTES)
    for place in (own.queries, own.keys):
        need_elements(operator, stream, operator.inputs[place], batch * tokens * key_heads * key_dim)
    for name in (operator.inputs[own.values], operator.outputs[0]):
        need_elements(operator, stream, name, batch * tokens * heads * value_dim)
    for place in own.gates:
        allowed = (batch * tokens * heads * n_gates, batch * tokens * heads)
        need_elements(operator, stream, operator.inputs[place], *allowed)
    if operator.attributes.get("state"):
        need_elements(operator, stream, operator.inputs[-1], batch * heads * key_dim * value_dim)


def scan_macs(operator: Operator) -> int:
    """Multiply-adds with the state: its update and its use."""
    return 2 * math.prod(operator.count(key) for key in SCAN_ATTRIBUTES if key != "key_heads")


def scan_write_bytes(operator: Operator, stream: OperatorStream) -> int:
    """Results, and the state where it is kept and no result."""
    written = sum(stream.moved_bytes(name) for name in operator.outputs)
    if len(operator.outputs) > 1:
        return written
    bits = _state_bits(stream, operator)
    keeps = operator.attributes.get("state") or operator.attributes.get("keeps_state")
    n = math.prod(operator.count(key) for key in ("batch", "heads", "key_dim", "value_dim"))
    return written + (int(-(-Fraction(n * bits) // 8)) if keeps else 0)


def scan_layer(
    stream: OperatorStream,
    operator: Operator,
    form: ScanForm,
    own: ScanInputs,
    *,
    gate_work: Mapping[str, int],
    value_work: Mapping[str, int],
    by_column: bool = False,
) -> ScanLayer:
    """The layer of ``operator``; ``gate_work`` on each gate, ``value_work`` on each value.

    ``by_column``: gates belong to value columns, not to heads.
    """
    batch, tokens, heads, key_heads, key_dim, value_dim = (operator.count(key) for key in SCAN_ATTRIBUTES)
    values, keys, queries = (operator.inputs[place] for place in (own.values, own.keys, own.queries))
    formats = [element_format(stream.tensor(name).number_format) for name in (values, keys, queries)]
    n_gates = [stream.tensor(operator.inputs[place]).n_elements for place in own.gates]
    bits = sum(_bits(stream, operator.inputs[place]) for place in own.gates)
    of_token = sum(n_gates) // (batch * tokens * heads * (value_dim if by_column else 1))
    columns = heads * value_dim
    has_state = bool(operator.attributes.get("state"))
    chunk = operator.attributes.get("chunk", 0)
    return ScanLayer(
        name=operator.kind,
        form=form,
        groups=batch * key_heads,
        heads=heads // key_heads,
        n_tokens=tokens,
        key_dim=key_dim,
        value_dim=value_dim,
        key_bits=value_bits(stream, keys),
        query_bits=value_bits(stream, queries),
        value_bits=value_bits(stream, values),
        out_bits=value_bits(stream, operator.outputs[0]),
        compute_format=max(formats, key=format_bits),
        gates=0 if by_column else of_token,
        column_gates=of_token if by_column else 0,
        gate_bits=Fraction(bits, sum(n_gates)) if n_gates else 0,
        parameter_bits=Fraction(sum(_bits(stream, operator.inputs[place]) for place in own.parameters), columns),
        state_bits=_state_bits(stream, operator),
        reads_state=has_state,
        writes_state=has_state or bool(operator.attributes.get("keeps_state")) or len(operator.outputs) > 1,
        chunk=chunk if isinstance(chunk, int) else 0,
        gate_operations=tuple(sorted(gate_work.items())),
        value_operations=tuple(sorted(value_work.items())),
    )


def common_work(*functions: str, **operations: int) -> dict[str, int]:
    """Basic operations of element-wise ``functions`` and further ``operations`` together."""
    done = dict(operations)
    for function in functions:
        for kind, n in ELEMENTWISE[function].items():
            done[kind] = done.get(kind, 0) + n
    return done


def _bits(stream: OperatorStream, name: str) -> int:
    tensor = stream.tensor(name)
    return int(stored_bits(tensor.shape, tensor.number_format, tensor.role))


def _state_bits(stream: OperatorStream, operator: Operator) -> int | Fraction:
    if operator.attributes.get("state"):
        return value_bits(stream, operator.inputs[-1])
    if len(operator.outputs) > 1:
        return value_bits(stream, operator.outputs[1])
    return format_bits(element_format(operator.text("state_format") or "fp32"))


def text_extents(given: TextKeys) -> dict[str, int]:
    """Attributes from the keys of a text."""
    heads = given.count("heads", 1)
    return {
        "batch": given.count("batch", 1),
        "tokens": given.count("tokens"),
        "heads": heads,
        "key_heads": given.count("key_heads", heads),
        "key_dim": given.count("key_dim"),
        "value_dim": given.count("value_dim"),
        **({"chunk": given.count("chunk")} if "chunk" in given.values else {}),
    }


def add_state(built: StreamBuilder, given: TextKeys, sizes: Mapping[str, int]) -> tuple[list[str], dict[str, bool]]:
    """The state as an input, where a text asks for it; and the attribute that says so."""
    if given.word("state", ("no", "yes")) == "no":
        return [], {}
    name = given.values.get("state_format", "fp32")
    if "state_format" in given.values:
        try:
            tensor_format(name)
        except InputError as fault:
            raise InputError(f"{given.what}: state_format: {fault}") from None
    shape = tuple(sizes[key] for key in ("batch", "heads", "key_dim", "value_dim"))
    return [built.input("state", shape, role="cache", number_format=name)], {"state": True}


def input_format(given: TextKeys, name: str) -> str:
    """The format of one input (``x_format``), where it is not given that of all."""
    key = f"{name}_format"
    return given.format(key if key in given.values else "a_format")


def check_gate(operator: Operator, gates: Sequence[str]) -> None:
    """Where the gate is none of ``gates``, or is by channel with keys that several heads share: raises InputError."""
    gate = operator.text("gate")
    if gate not in gates:
        raise unknown("gate", gate, gates, place=operator.name)
    if gate == "channel" and operator.count("heads") != operator.count("key_heads"):
        raise InputError(
            f"{operator.name}: key_heads: given {operator.count('key_heads')} for {operator.count('heads')} heads; "
            "allowed as many as heads with gates by channel"
        )


def build_gated(built: StreamBuilder, given: TextKeys, kind: str, gates: Sequence[str], *more: str) -> str:
    """A text as an operator of q, k, v, gates where they depend on the token, and ``more`` with a number a head."""
    sizes, gate = text_extents(given), given.word("gate", tuple(gates))
    batch, tokens, heads, key_heads, key_dim, value_dim = (sizes[key] for key in SCAN_ATTRIBUTES)
    shapes: dict[str, tuple[int, ...]] = {"q": (key_heads, key_dim), "k": (key_heads, key_dim), "v": (heads, value_dim)}
    if gate in ("head", "channel"):
        shapes["gates"] = (heads, key_dim) if gate == "channel" else (heads,)
    shapes |= dict.fromkeys(more, (heads,))
    inputs = [
        built.input(name, (batch, tokens, *shape), number_format=input_format(given, name))
        for name, shape in shapes.items()
    ]
    state, said = add_state(built, given, sizes)
    shape = (batch, tokens, heads, value_dim)
    return add_result(built, given, kind, [*inputs, *state], shape, {"gate": gate, **sizes, **said})


def gated_shapes(inputs: Sequence[tuple[int, ...]], n_more: int) -> dict[str, Any]:
    """Attributes of an operator of q, k, v, gates, ``n_more`` numbers a head, and a state, by their shapes.

    Gates have a dimension for the key channels, or none; what is left over behind them is the state.
    """
    (batch, tokens, key_heads, key_dim), (_, _, heads, value_dim) = inputs[0], inputs[2]
    sizes: dict[str, Any] = dict(
        zip(SCAN_ATTRIBUTES, (batch, tokens, heads, key_heads, key_dim, value_dim), strict=True)
    )
    rest = list(inputs[3:])
    gates = {(batch, tokens, heads): "head", (batch, tokens, heads, key_dim): "channel"}
    sizes["gate"] = gates[rest.pop(0)] if rest and rest[0] in gates else "none"
    if len(rest) > n_more:
        sizes["state"] = True
    return sizes
