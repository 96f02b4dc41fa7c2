"""``ssd``: Mamba-2's scan with one decay a head (Dao and Gu, arXiv 2405.21060, section 6).

Inputs (x, dt, B, C, A, D, dt_bias[, state]): x (batch, tokens, heads, value_dim), dt (batch, tokens, heads), B and C
(batch, tokens, key_heads, key_dim), the others a number a head. With step = softplus(dt + dt_bias), S = exp(step A) S +
B (step x)^T, and y = S^T C + D x.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilewright.workloads.kinds.kind import OperatorKind, always, register_kind
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
    text_extents,
)
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["SSD_INPUTS"]

_LEAST = 7
SSD_INPUTS = ScanInputs(queries=3, keys=2, values=0, gates=(1,), parameters=(4, 5, 6))


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    scan_sizes(operator, stream, SSD_INPUTS, 1)


def _build(built: StreamBuilder, given: TextKeys) -> str:
    sizes = text_extents(given)
    batch, tokens, heads, key_heads, key_dim, value_dim = (sizes[key] for key in SCAN_ATTRIBUTES)
    shapes = {"x": (heads, value_dim), "dt": (heads,), "B": (key_heads, key_dim), "C": (key_heads, key_dim)}
    inputs = [
        built.input(name, (batch, tokens, *shape), number_format=input_format(given, name))
        for name, shape in shapes.items()
    ]
    inputs += [built.weight(name, (heads,), number_format="fp32") for name in ("A", "D", "dt_bias")]
    state, said = add_state(built, given, sizes)
    return add_result(built, given, "ssd", [*inputs, *state], (batch, tokens, heads, value_dim), {**sizes, **said})


def _of_shapes(inputs: Sequence[tuple[int, ...]], result: tuple[int, ...]) -> dict[str, Any]:
    (batch, tokens, heads, value_dim), (_, _, key_heads, key_dim) = inputs[0], inputs[SSD_INPUTS.keys]
    sizes = zip(SCAN_ATTRIBUTES, (batch, tokens, heads, key_heads, key_dim, value_dim), strict=True)
    return dict(sizes) | ({"state": True} if len(inputs) > _LEAST else {})


register_kind(
    OperatorKind(
        name="ssd",
        word="a scan of Mamba-2",
        attributes=SCAN_ATTRIBUTES,
        optional=SCAN_OPTIONAL,
        least_inputs=_LEAST,
        of_shapes=_of_shapes,
        tensors=("x", "dt", "B", "C"),
        n_operands=4,
        check=check_scan,
        sizes=_sizes,
        macs=scan_macs,
        on_array=always,
        write_bytes=scan_write_bytes,
        colour="#4b9a8c",
        text=OperatorText(
            example="ssd:tokens=2048,heads=24,key_heads=1,key_dim=128,value_dim=64",
            keys=(
                "tokens",
                "heads",
                "key_heads",
                "key_dim",
                "value_dim",
                "batch",
                "chunk",
                "state",
                "state_format",
                *(f"{name}_format" for name in ("x", "dt", "B", "C")),
                *FORMATS,
            ),
            needed=("tokens", "heads", "key_dim", "value_dim"),
            build=_build,
        ),
    ),
    rank=12,
)
