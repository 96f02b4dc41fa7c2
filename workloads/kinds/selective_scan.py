"""``selective_scan``: Mamba-1's scan, a decay for each channel and state (Gu and Dao, arXiv 2312.00752, section 3).

Inputs (x, dt, B, C, A, D[, state]): x and dt (batch, tokens, channels), B and C (batch, tokens, states), A (channels,
states), D (channels). ``value_dim`` counts the channels, ``key_dim`` the states; ``heads`` and ``key_heads`` are 1.
With step = softplus(dt): h = exp(step A) h + step x B, y = C h + D x.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilewright.errors import InputError
from tilewright.workloads.kinds.kind import OperatorKind, need_elements, register_kind
from tilewright.workloads.kinds.text import FORMATS, OperatorText, TextKeys, add_result
from tilewright.workloads.operators import Operator
from tilewright.workloads.scan_operators import (
    SCAN_ATTRIBUTES,
    SCAN_OPTIONAL,
    ScanInputs,
    add_state,
    check_scan,
    input_format,
    scan_macs,
    scan_sizes,
    scan_write_bytes,
)
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["SELECTIVE_INPUTS"]

_LEAST = 6
SELECTIVE_INPUTS = ScanInputs(queries=3, keys=2, values=0, gates=(1,), parameters=(4, 5))


def _check(operator: Operator) -> None:
    check_scan(operator)
    if operator.count("heads") != 1:
        raise InputError(f"{operator.name}: heads: given {operator.count('heads')}; allowed 1, of all channels")


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    channels, states = operator.count("value_dim"), operator.count("key_dim")
    scan_sizes(operator, stream, SELECTIVE_INPUTS, channels)
    need_elements(operator, stream, operator.inputs[4], channels * states)


def _build(built: StreamBuilder, given: TextKeys) -> str:
    batch, tokens, channels = given.count("batch", 1), given.count("tokens"), given.count("channels")
    sizes = {"batch": batch, "tokens": tokens, "heads": 1, "key_heads": 1}
    sizes |= {"key_dim": given.count("states", 16), "value_dim": channels}
    sizes |= {"chunk": given.count("chunk")} if "chunk" in given.values else {}
    states = sizes["key_dim"]
    shapes = {"x": channels, "dt": channels, "B": states, "C": states}
    inputs = [
        built.input(name, (batch, tokens, n), number_format=input_format(given, name)) for name, n in shapes.items()
    ]
    inputs += [built.weight("A", (channels, states), number_format="fp32")]
    inputs += [built.weight("D", (channels,), number_format="fp32")]
    state, said = add_state(built, given, sizes)
    shape = (batch, tokens, channels)
    return add_result(built, given, "selective_scan", [*inputs, *state], shape, {**sizes, **said})


def _of_shapes(inputs: Sequence[tuple[int, ...]], result: tuple[int, ...]) -> dict[str, Any]:
    (batch, tokens, channels), states = inputs[0], inputs[SELECTIVE_INPUTS.keys][-1]
    sizes = zip(SCAN_ATTRIBUTES, (batch, tokens, 1, 1, states, channels), strict=True)
    return dict(sizes) | ({"state": True} if len(inputs) > _LEAST else {})


register_kind(
    OperatorKind(
        name="selective_scan",
        word="a scan of Mamba",
        attributes=SCAN_ATTRIBUTES,
        optional=SCAN_OPTIONAL,
        least_inputs=_LEAST,
        of_shapes=_of_shapes,
        tensors=("x", "dt", "B", "C"),
        n_operands=4,
        check=_check,
        sizes=_sizes,
        macs=scan_macs,
        write_bytes=scan_write_bytes,
        colour="#3f8f6b",
        text=OperatorText(
            example="selective_scan:tokens=2048,channels=1536",
            keys=(
                *("tokens", "channels", "states", "batch", "chunk", "state", "state_format"),
                *(f"{name}_format" for name in ("x", "dt", "B", "C")),
                *FORMATS,
            ),
            needed=("tokens", "channels"),
            build=_build,
        ),
    ),
    rank=13,
)
