"""What of a convolution or product a matrix unit multiplies, and in which formats: rules that all lowerings share."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from tilewright.errors import InputError
from tilewright.formats import element_format, format_bits
from tilewright.units import ceil_div
from tilewright.workloads.conv_window import ConvWindow
from tilewright.workloads.operators import Operator, stored_bits
from tilewright.workloads.stream.graph import OperatorStream

__all__ = [
    "LEAST_ACCUMULATOR_BITS",
    "ConvAxis",
    "ConvProduct",
    "accumulator_bits",
    "compute_format",
    "conv_axes",
    "conv_product",
    "is_depthwise",
    "value_bits",
]

LEAST_ACCUMULATOR_BITS = 32  # integer products are summed in int32, floating-point ones in fp32 (fp64 in fp64)


def value_bits(stream: OperatorStream, name: str) -> int | Fraction:
    """Bits moved for one value of a tensor, its part of the scales included."""
    spec = stream.tensor(name)
    bits = Fraction(stored_bits(spec.shape, spec.number_format, spec.role), spec.n_elements)
    return int(bits) if bits.denominator == 1 else bits


def compute_format(stream: OperatorStream, operator: Operator) -> str:
    """The wider of the two operands' formats is what the array multiplies in.

    Activations that are narrowed as they are loaded (attribute ``activations_as``) count in the narrow format.
    """
    a, b = (_multiplied_format(stream, operator, name) for name in operator.inputs[:2])
    return a if format_bits(a) >= format_bits(b) else b


def _multiplied_format(stream: OperatorStream, operator: Operator, name: str) -> str:
    narrow = operator.text("activations_as") if stream.base(name).role == "activation" else ""
    return narrow or element_format(stream.tensor(name).number_format)


def accumulator_bits(number_format: str) -> int:
    """The width in which products of ``number_format`` are summed."""
    return max(LEAST_ACCUMULATOR_BITS, format_bits(number_format))


def is_depthwise(operator: Operator) -> bool:
    """One input channel for each group: hardly a matrix product, so it is done on the vector unit."""
    return (
        operator.kind == "conv"
        and operator.count("groups") > 1
        and operator.count("in_channels") == operator.count("groups")
    )


class ConvAxis(NamedTuple):
    """One dimension of a convolution or pool; ``shift``: further inputs that the phases of one place need."""

    in_size: int = 1
    out_size: int = 1
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    shift: int = 0
    phases: int = 1

    @property
    def reach(self) -> int:
        """Inputs from the first to the last that one output needs (outputs that one input gives to, transposed)."""
        return (self.kernel - 1) * self.dilation + 1

    def by_phase(self) -> ConvAxis:
        """The plain convolution that makes one phase of a transposed one."""
        kernel = ceil_div(self.kernel, self.stride)
        return ConvAxis(
            in_size=self.in_size,
            out_size=ceil_div(self.out_size, self.stride),
            kernel=kernel,
            dilation=self.dilation,
            padding=(kernel - 1) * self.dilation - self.padding // self.stride,
            shift=int(self.padding % self.stride != 0),
            phases=self.stride,
        )


def conv_axes(operator: Operator) -> list[ConvAxis]:
    """The dimensions of a convolution or pool as they are given, the last one along columns."""
    n = len(operator.sizes("kernel"))
    dilation = operator.sizes("dilation") if "dilation" in operator.attributes else (1,) * n
    sizes = [operator.sizes(name) for name in ("in_size", "out_size", "kernel", "stride", "padding")]
    return [ConvAxis(*one) for one in zip(*sizes, dilation, strict=False)]


class ConvProduct(NamedTuple):
    """A convolution as ``groups`` products (m, k) by (k, n), m places of ``phases`` outputs each, under ``window``."""

    window: ConvWindow
    groups: int
    phases: int
    m: int
    k: int
    n: int


def conv_product(operator: Operator) -> ConvProduct:
    """The products of a convolution: a transposed one by output phase, one over three dimensions plane by plane.

    Raises InputError for more than three dimensions.
    """
    given = conv_axes(operator)
    if len(given) > 3:
        raise InputError(f"{operator.name}: kernel: given {len(given)} dimensions, allowed 1 to 3")
    if operator.attributes["transposed"]:
        given = [axis.by_phase() for axis in given]
    depth, height, width = [ConvAxis()] * (3 - len(given)) + given
    window = ConvWindow(
        height.in_size, width.in_size, height.out_size, width.out_size,
        height.kernel, width.kernel, height.stride, width.stride,
        images=operator.count("batch") * depth.out_size,
        dilation_height=height.dilation, dilation_width=width.dilation,
        pad_top=height.padding, pad_left=width.padding,
        shift_height=height.shift, shift_width=width.shift,
    )  # fmt: skip
    groups, phases = operator.count("groups"), depth.phases * height.phases * width.phases
    return ConvProduct(
        window=window,
        groups=groups,
        phases=phases,
        m=window.images * window.out_height * window.out_width,
        k=window.taps * depth.kernel * (operator.count("in_channels") // groups),
        n=phases * (operator.count("out_channels") // groups),
    )
