"""What convolutions and pools share: sizes per spatial dimension, windows that fit, and how both are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilewright.errors import InputError
from tilewright.workloads.kinds.kind import AttributeType
from tilewright.workloads.kinds.text import TextKeys
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["IMAGE_KEYS", "SIZES", "check_dimensions", "check_windows", "given_sizes", "out_size", "window_text"]

SIZES: Mapping[str, AttributeType] = {
    "in_size": "sizes",
    "out_size": "sizes",
    "kernel": "sizes",
    "stride": "sizes",
    "padding": "padding",
}
IMAGE_KEYS = ("in", "kernel", "stride", "padding", "batch")
_MOST_DIMENSIONS = 3


def check_dimensions(operator: Operator) -> None:
    """Every list has an entry for each dimension of the kernel, padding two."""
    n_dimensions = len(operator.sizes("kernel"))
    for key in sorted((SIZES.keys() | {"dilation"}) & operator.attributes.keys()):
        n = n_dimensions * (2 if key == "padding" else 1)
        if len(operator.sizes(key)) != n:
            raise InputError(
                f"{operator.name}: {key}: given {len(operator.sizes(key))} numbers; "
                f"allowed {n} (for {n_dimensions} dimensions)"
            )


def check_windows(operator: Operator, stream: OperatorStream) -> None:
    """A window lies in the padded input, and there are no more of them than strides lead to."""
    n_dimensions = len(operator.sizes("kernel"))
    dilations = operator.sizes("dilation") if "dilation" in operator.attributes else (1,) * n_dimensions
    if operator.attributes.get("transposed"):  # an input value is spread over a window of the output
        sides, strides = ("out_size", "in_size"), operator.sizes("stride")
    else:
        sides, strides = ("in_size", "out_size"), operator.sizes("stride")
    wide, narrow = (operator.sizes(side) for side in sides)
    padding = operator.sizes("padding")
    for at, (extent, n, kernel) in enumerate(zip(wide, narrow, operator.sizes("kernel"), strict=True)):
        reach = (kernel - 1) * dilations[at] + 1
        padded = extent + padding[at] + padding[at + n_dimensions]
        most = -(-max(0, padded - reach) // strides[at]) + 1
        if reach > padded + strides[at] or n > most:
            raise InputError(
                f"{stream.name}: {operator.name}: kernel {kernel}, stride {strides[at]} and padding do not lead from "
                f"{sides[0]} {extent} to {sides[1]} {n}"
            )


def window_text(operator: Operator) -> str:
    """``3x3 56x56->28x28``."""
    kernel, before, after = ("x".join(map(str, operator.sizes(key))) for key in ("kernel", "in_size", "out_size"))
    return f"{kernel} {before}->{after}"


def given_sizes(given: TextKeys, *, stride: int | None) -> tuple[int, dict[str, Any]]:
    """(channels, the sizes of a convolution or of pooling); ``stride`` None: as the kernel."""
    channels, *in_size = given.extents("in")
    n = len(in_size)
    if not 1 <= n <= _MOST_DIMENSIONS:
        shown = given.values["in"]
        raise InputError(f'{given.what}: in: given "{shown}"; allowed channels and 1 to 3 sizes, as 64x56x56')
    kernel = given.sizes("kernel", n, 1)
    sizes = {
        "in_size": tuple(in_size),
        "kernel": kernel,
        "stride": kernel if stride is None and "stride" not in given.values else given.sizes("stride", n, 1),
        "padding": given.sizes("padding", n, 0, least=0) * 2,  # before, then behind
    }
    return channels, sizes


def out_size(
    given: TextKeys, sizes: Mapping[str, Any], dilation: tuple[int, ...], *, transposed: bool
) -> tuple[int, ...]:
    """The sizes of the result."""
    found = []
    for size, kernel, stride, padding, spread in zip(
        sizes["in_size"], sizes["kernel"], sizes["stride"], sizes["padding"][: len(dilation)], dilation, strict=True
    ):
        reach = spread * (kernel - 1) + 1
        if transposed:
            found.append((size - 1) * stride - 2 * padding + reach)
        else:
            found.append((size + 2 * padding - reach) // stride + 1)
    if min(found) < 1:
        shown, kernels = "x".join(map(str, sizes["in_size"])), "x".join(map(str, sizes["kernel"]))
        raise InputError(
            f"{given.what}: kernel: {kernels} leaves no result of an input of {shown}; "
            "allowed a smaller kernel or more padding"
        )
    return tuple(found)
