"""``deformable_conv``: a convolution whose taps lie where the network says; inputs (x, weight, offsets[, bias]).

Attributes as of ``conv``, over two dimensions and not transposed, and how taps lie: ``shape`` "free", an offset of each
tap in both directions (offsets: (batch, 2 taps, height, width), row before column for each tap; Dai et al., arXiv
1703.06211), or "square", one number a pixel that the usual distances of taps from the middle grow by (offsets: (batch,
1, height, width); Huang et al., arXiv 2006.08357). ``bound``: none is beyond so many pixels, to either side; 0 for no
bound. ``sampling`` "bilinear": values between four pixels; "nearest": the pixel that is nearest.
"""

from __future__ import annotations

import math
from collections import Counter

from tilewright.errors import InputError, unknown
from tilewright.units import ceil_div
from tilewright.workloads.kinds.kind import OperatorKind, need_elements, register_kind
from tilewright.workloads.kinds.text import TWO_FORMATS, OperatorText, TextKeys, add_result
from tilewright.workloads.kinds.windows import (
    IMAGE_KEYS,
    SIZES,
    check_dimensions,
    check_windows,
    given_sizes,
    out_size,
    window_text,
)
from tilewright.workloads.operators import Operator, stored_bytes
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import UnitValues, line_pixels

__all__ = ["BURST_BYTES", "SAMPLINGS", "SHAPES", "is_depthwise_deformable"]

SHAPES = ("free", "square")
SAMPLINGS = ("bilinear", "nearest")
BURST_BYTES = 64  # what a gathered pixel is rounded up to


def is_depthwise_deformable(operator: Operator) -> bool:
    """One input channel for each group."""
    return 1 < operator.count("groups") == operator.count("in_channels")


def _check(operator: Operator) -> None:
    check_dimensions(operator)
    if len(operator.sizes("kernel")) != 2:
        raise InputError(f"{operator.name}: kernel: given {len(operator.sizes('kernel'))} numbers; allowed 2")
    for key, allowed in (("shape", SHAPES), ("sampling", SAMPLINGS)):
        if operator.text(key) not in allowed:
            raise unknown(key, operator.text(key), allowed, place=operator.name)
    groups = operator.count("groups")
    for key in ("in_channels", "out_channels"):
        if operator.count(key) % groups:
            given = f"{operator.name}: groups: given {groups}; allowed what divides {key}"
            raise InputError(f"{given}, which is {operator.count(key)}")


def _n_offsets(operator: Operator) -> int:
    """Numbers for each pixel of the result."""
    return 1 if operator.text("shape") == "square" else 2 * math.prod(operator.sizes("kernel"))


def _n_pixels(operator: Operator) -> int:
    return operator.count("batch") * math.prod(operator.sizes("out_size"))


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    batch, groups, ins, outs = (operator.count(key) for key in ("batch", "groups", "in_channels", "out_channels"))
    need_elements(operator, stream, operator.inputs[0], batch * ins * math.prod(operator.sizes("in_size")))
    need_elements(operator, stream, operator.inputs[1], ins * outs // groups * math.prod(operator.sizes("kernel")))
    need_elements(operator, stream, operator.inputs[2], _n_pixels(operator) * _n_offsets(operator))
    need_elements(operator, stream, operator.outputs[0], _n_pixels(operator) * outs)
    check_windows(operator, stream)


def _macs(operator: Operator) -> int:
    taps = operator.count("in_channels") // operator.count("groups") * math.prod(operator.sizes("kernel"))
    return _n_pixels(operator) * operator.count("out_channels") * taps


def _on_array(operator: Operator) -> bool:
    return not is_depthwise_deformable(operator)


def _work(operator: Operator) -> Counter[str]:
    """Places of all taps (an addition a direction; of a square, a product more), and, between pixels, four weights a
    place and four products with three sums a value.
    """
    n_places = _n_pixels(operator) * math.prod(operator.sizes("kernel"))
    work = Counter(add=2 * n_places)
    if operator.text("shape") == "square":
        work["mul"] += 2 * n_places
    if operator.text("sampling") == "bilinear":
        n_values = n_places * operator.count("in_channels")
        work += Counter(mul=4 * n_places + 4 * n_values, sub=2 * n_places, add=3 * n_values)
    return work


def _unit(operator: Operator) -> UnitValues | None:
    """A unit for depthwise convolutions does those whose places are whole pixels within a bound, in its lines."""
    kept = operator.count("bound") and operator.text("sampling") == "nearest"
    if not (kept and is_depthwise_deformable(operator)):
        return None
    return UnitValues("depthwise", operator.macs, pixels=line_pixels(operator))


def _read_bytes(operator: Operator, stream: OperatorStream) -> int:
    """Within a bound, rows of x pass once through lines that are kept; else each place is fetched by itself.

    A fetch is a run of all channels of one pixel, or of two that are neighbours in each of two rows where values lie
    between pixels, and takes whole bursts of 64 bytes.
    """
    x, *others = dict.fromkeys(operator.inputs)
    rest = sum(map(stream.moved_bytes, others))
    if operator.count("bound"):
        return stream.moved_bytes(x) + rest
    rows, pixels = (2, 2) if operator.text("sampling") == "bilinear" else (1, 1)
    run = stored_bytes((pixels * operator.count("in_channels"),), stream.tensor(x).number_format)
    n_runs = _n_pixels(operator) * math.prod(operator.sizes("kernel")) * rows
    return n_runs * ceil_div(run, BURST_BYTES) * BURST_BYTES + rest


def _build(built: StreamBuilder, given: TextKeys) -> str:
    batch, outs, groups = given.count("batch", 1), given.count("out_channels"), given.count("groups", 1)
    ins, sizes = given_sizes(given, stride=1)
    if len(sizes["in_size"]) != 2:
        raise InputError(f'{given.what}: in: given "{given.values["in"]}"; allowed channels and two sizes, as 64x56x56')
    if ins % groups or outs % groups:
        raise InputError(
            f"{given.what}: groups: given {groups}; allowed divisors of {ins} input and {outs} output channels"
        )
    dilation = given.sizes("dilation", 2, 1)
    after = out_size(given, sizes, dilation, transposed=False)
    attributes = {
        "batch": batch, "groups": groups, "in_channels": ins, "out_channels": outs, "out_size": after,
        "dilation": dilation, "shape": given.word("shape", SHAPES), "bound": given.count("bound", 0, least=0),
        "sampling": given.word("sampling", SAMPLINGS), **sizes,
    }  # fmt: skip
    n_offsets = 1 if attributes["shape"] == "square" else 2 * math.prod(sizes["kernel"])
    x = built.input("x", (batch, ins, *sizes["in_size"]), number_format=given.format("a_format"))
    weight = built.weight("weight", (outs, ins // groups, *sizes["kernel"]), number_format=given.format("b_format"))
    offsets = built.input("offsets", (batch, n_offsets, *after), number_format=given.format("a_format"))
    return add_result(built, given, "deformable_conv", [x, weight, offsets], (batch, outs, *after), attributes)


def _size(operator: Operator) -> str:
    channels = f"{operator.count('in_channels')}->{operator.count('out_channels')}"
    return f"{channels} {window_text(operator)} {operator.text('shape')}"


register_kind(
    OperatorKind(
        name="deformable_conv",
        word="a convolution whose taps lie where the network says",
        attributes={
            "batch": "count",
            "groups": "count",
            "in_channels": "count",
            "out_channels": "count",
            **SIZES,
            "dilation": "sizes",
            "shape": "text",
            "bound": "whole",
            "sampling": "text",
        },
        least_inputs=3,
        check=_check,
        sizes=_sizes,
        macs=_macs,
        on_array=_on_array,
        work=_work,
        unit=_unit,
        read_bytes=_read_bytes,
        n_operands=2,
        size=_size,
        colour="#a2459e",
        assumptions=(
            "a deformable convolution within a bound reads each row of its map once, from lines that are kept on chip; "
            "without, it fetches every place by itself, all channels of a pixel in whole bursts of 64 bytes",
        ),
        text=OperatorText(
            example="deformable_conv:in=64x56x56,out_channels=64,kernel=3,padding=1,groups=64,shape=square,bound=8",
            keys=(*IMAGE_KEYS, "out_channels", "dilation", "groups", "shape", "bound", "sampling", *TWO_FORMATS),
            needed=("in", "out_channels", "kernel"),
            build=_build,
        ),
    ),
    rank=14,
)
