"""Number formats by name: what one value is, how many bits it takes, and what the scales that belong to it add.

Two kinds of name. An *element format* (``int8``, ``fp8_e4m3``) is what a multiplier takes. A *tensor format* is an
element format with the way it is scaled:

* ``mxfp4``, ``mxfp6_e2m3``, ``mxfp6_e3m2``, ``mxfp8_e4m3``, ``mxfp8_e5m2``, ``mxint8``: groups of 32 with a power of
  two (E8M0) each; OCP microscaling formats (MX) specification 1.0.
* ``nvfp4``: E2M1 in groups of 16 with an E4M3 scale each, and one fp32 scale for the tensor (NVIDIA Blackwell).
* ``bfpB-gN``: block floating point, B bits of sign and magnitude, one exponent of 8 bits for N values; ``msfp12``
  and ``msfp16`` are ``bfp4-g16`` and ``bfp8-g16`` (Darvish Rouhani et al., NeurIPS 2020).
* ``ELEMENT-gN``, ``ELEMENT-channel``, ``ELEMENT-token``, ``ELEMENT-tensor``: a scale in fp16 for N values, for a
  channel, a token or the tensor. ``-fp32``, ``-bf16`` or ``-fp8_e4m3`` after it stores the scale so; ``-asym`` adds a
  zero point as wide as an element, which is then unsigned: ``int4-g128-asym``.

Element widths are those of the published definitions: IEEE 754-2019 for fp16, fp32 and fp64; bfloat16 as 16 leading
bits of fp32; tf32 as 19 of them, kept in 32; fp8 as in the OCP 8-bit floating point specification 1.0 (``fp8_e3m4`` as
in ml_dtypes); fp6 and ``fp4_e2m1`` as in the OCP microscaling specification 1.0; ``fp4_e1m2`` and ``fp4_e3m0`` with the
bias 2^(E-1) - 1 of the same family and without infinities (FP4DiT, arXiv 2503.15465).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import prod
from typing import Literal, TypeAlias

from tilewright.errors import InputError, unknown

__all__ = [
    "FormatName",
    "NumberFormat",
    "ScaleScheme",
    "TensorFormat",
    "bits_per_element",
    "element_format",
    "format_bits",
    "format_names",
    "number_format",
    "tensor_bits",
    "tensor_format",
    "tensor_format_names",
]

Kind: TypeAlias = Literal["integer", "float"]

#: The names as a type, for schemas: a wrong one is then refused with the names that exist.
FormatName: TypeAlias = Literal[
    "int1",
    "int2",
    "int3",
    "int4",
    "int5",
    "int6",
    "int7",
    "int8",
    "int9",
    "int10",
    "int11",
    "int12",
    "int13",
    "int14",
    "int15",
    "int16",
    "int32",
    "fp4_e1m2",
    "fp4_e2m1",
    "fp4_e3m0",
    "fp6_e2m3",
    "fp6_e3m2",
    "fp8_e3m4",
    "fp8_e4m3",
    "fp8_e5m2",
    "fp16",
    "bf16",
    "tf32",
    "fp32",
    "fp64",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberFormat:
    """An element format: its name, the bits one value takes, and whether it is an integer or a floating-point format.

    ``exponent_bits`` and ``mantissa_bits`` (without the hidden bit) are 0 for integers.
    """

    name: str
    bits: int
    kind: Kind
    exponent_bits: int = 0
    mantissa_bits: int = 0


_FLOATS = (
    ("fp4_e1m2", 4, 1, 2),
    ("fp4_e2m1", 4, 2, 1),
    ("fp4_e3m0", 4, 3, 0),
    ("fp6_e2m3", 6, 2, 3),
    ("fp6_e3m2", 6, 3, 2),
    ("fp8_e3m4", 8, 3, 4),
    ("fp8_e4m3", 8, 4, 3),
    ("fp8_e5m2", 8, 5, 2),
    ("fp16", 16, 5, 10),
    ("bf16", 16, 8, 7),
    ("tf32", 32, 8, 10),
    ("fp32", 32, 8, 23),
    ("fp64", 64, 11, 52),
)
_INTEGER_BITS = (*range(1, 17), 32)
_FORMATS: dict[str, NumberFormat] = {
    **{f"int{bits}": NumberFormat(name=f"int{bits}", bits=bits, kind="integer") for bits in _INTEGER_BITS},
    **{
        name: NumberFormat(name=name, bits=bits, kind="float", exponent_bits=exponent, mantissa_bits=mantissa)
        for name, bits, exponent, mantissa in _FLOATS
    },
}
_NAMES_IN_SHORT = "int1 to int16, int32, " + ", ".join(name for name, *_ in _FLOATS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleScheme:
    """How the values of a tensor share scales.

    ``shared_by``: "group" (``group`` neighbours along the axis that a product sums over), "channel" and "token" (the
    whole of that axis), or "tensor". ``scale_format``: an element format, or "e8m0", a power of two in 8 bits.
    ``zero_point_bits`` per scale. ``tensor_scale_bits``: one more scale for the whole tensor.
    ``element_exponent``: an integer element e stands for e x 2^element_exponent before it is scaled.
    """

    shared_by: Literal["group", "channel", "token", "tensor"]
    group: int | None
    scale_format: str
    scale_bits: int
    zero_point_bits: int = 0
    tensor_scale_bits: int = 0
    element_exponent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorFormat:
    """How the values of a tensor are stored: an element format and, if they are scaled, how."""

    name: str
    element: NumberFormat
    scale: ScaleScheme | None = None

    @property
    def bits_per_element(self) -> Fraction:
        """Bits of one value with its part of the scale of a full group, exactly.

        Scales of whole channels, tokens or tensors depend on the shape: they are in :meth:`bits`, not here.
        """
        bits = Fraction(self.element.bits)
        if self.scale is not None and self.scale.group is not None:
            bits += Fraction(self.scale.scale_bits + self.scale.zero_point_bits, self.scale.group)
        return bits

    def n_scales(self, shape: Sequence[int], axis: int = -1) -> int:
        """Scales of a tensor of ``shape`` whose ``axis`` is the one that a product sums over; 0 without scaling.

        A group that the axis cuts short has a scale of its own. The scale of the tensor beside others is not counted.
        """
        if self.scale is None:
            return 0
        if self.scale.shared_by == "tensor" or not shape:
            return 1
        others = prod(shape) // shape[axis] if shape[axis] else 0
        return others if self.scale.group is None else others * -(-shape[axis] // self.scale.group)

    def bits(self, shape: Sequence[int], axis: int = -1) -> int:
        """Bits of a tensor of ``shape``, scales and zero points included; packed, without padding."""
        bits = prod(shape) * self.element.bits
        if self.scale is not None:
            bits += self.n_scales(shape, axis) * (self.scale.scale_bits + self.scale.zero_point_bits)
            bits += self.scale.tensor_scale_bits
        return bits


def format_names() -> tuple[str, ...]:
    """Names of all element formats, integers first, narrow before wide."""
    return tuple(_FORMATS)


def tensor_format_names() -> tuple[str, ...]:
    """Names of the scaled formats that are called by a name of their own."""
    return tuple(_NAMED)


def number_format(name: str) -> NumberFormat:
    """The element format called ``name``.

    Raises InputError, with the names that exist and the nearest one, when there is none.
    """
    found = _FORMATS.get(name)
    if found is None:
        raise unknown("number format", name, _FORMATS, shown=_NAMES_IN_SHORT)
    return found


def format_bits(name: str) -> int:
    """Bits of one value in the element format called ``name``; raises InputError for an unknown name.

    A format with scales is refused too: its bits are those of a tensor, see :func:`tensor_bits`.
    """
    return number_format(name).bits


@lru_cache(maxsize=1024)
def tensor_format(name: str) -> TensorFormat:
    """The tensor format called ``name``: an element format, or one of the scaled formats of this module.

    Raises InputError for an unknown name and for a part of the name that means nothing.
    """
    if name in _FORMATS:
        return TensorFormat(name=name, element=_FORMATS[name])
    known = _NAMED.get(_ALIASES.get(name, name))
    return known if known is not None else _spelled_out(name)


def bits_per_element(name: str) -> Fraction:
    """Bits of one value of tensor format ``name`` with its part of a full group's scale: 17/4 for ``mxfp4``."""
    return tensor_format(name).bits_per_element


def tensor_bits(name: str, shape: Sequence[int], *, axis: int = -1) -> int:
    """Bits moved for a tensor of ``shape`` in format ``name``, scales included; see :meth:`TensorFormat.bits`."""
    return tensor_format(name).bits(shape, axis)


def element_format(name: str) -> str:
    """Name of the element format of tensor format ``name``: what a multiplier gets to see of it."""
    return tensor_format(name).element.name


# --- scaled formats --------------------------------------------------------------------------------------------------


def _mx(name: str, element: str, element_exponent: int = 0) -> TensorFormat:
    scale = ScaleScheme(
        shared_by="group", group=32, scale_format="e8m0", scale_bits=8, element_exponent=element_exponent
    )
    return TensorFormat(name=name, element=_FORMATS[element], scale=scale)


def _block_floating_point(name: str, bits: int, group: int) -> TensorFormat:
    scale = ScaleScheme(shared_by="group", group=group, scale_format="e8m0", scale_bits=8, element_exponent=2 - bits)
    return TensorFormat(name=name, element=_FORMATS[f"int{bits}"], scale=scale)


_NVFP4 = ScaleScheme(shared_by="group", group=16, scale_format="fp8_e4m3", scale_bits=8, tensor_scale_bits=32)
_NAMED: dict[str, TensorFormat] = {
    scaled.name: scaled
    for scaled in (
        _mx("mxfp4", "fp4_e2m1"),
        _mx("mxfp6_e2m3", "fp6_e2m3"),
        _mx("mxfp6_e3m2", "fp6_e3m2"),
        _mx("mxfp8_e4m3", "fp8_e4m3"),
        _mx("mxfp8_e5m2", "fp8_e5m2"),
        _mx("mxint8", "int8", element_exponent=-6),
        TensorFormat(name="nvfp4", element=_FORMATS["fp4_e2m1"], scale=_NVFP4),
        _block_floating_point("msfp12", 4, 16),
        _block_floating_point("msfp16", 8, 16),
    )
}
#: MX formats of 6 and 8 bits exist twice; without a layout the one with more mantissa is meant.
_ALIASES = {"mxfp6": "mxfp6_e2m3", "mxfp8": "mxfp8_e4m3"}
_SCALE_FORMATS = ("fp16", "bf16", "fp32", "fp8_e4m3")
_LARGEST_GROUP = 1_048_576
_SHARED: dict[str, Literal["channel", "token", "tensor"]] = {
    "channel": "channel",
    "token": "token",
    "tensor": "tensor",
}


def _spelled_out(name: str) -> TensorFormat:
    """The format of a name such as ``int4-g128-fp32-asym`` or ``bfp8-g16``."""
    first, *rest = str(name).split("-")
    bfp = re.fullmatch(r"bfp(\d{1,2})", first)
    if not rest or not (bfp or first in _FORMATS):
        shared = "bfpB-gN and FORMAT-gN, FORMAT-channel, FORMAT-token, FORMAT-tensor"
        shown = f"{_NAMES_IN_SHORT}, {', '.join(_NAMED)}, {shared}"
        raise unknown("number format", name, [*_FORMATS, *_NAMED, *_ALIASES], shown=shown)
    group = _group(name, rest[0])
    if bfp:
        if not 2 <= int(bfp[1]) <= 16 or group is None or len(rest) > 1:
            raise InputError(f'number format: given "{name}"; allowed bfpB-gN with B from 2 to 16 and N a whole number')
        return _block_floating_point(name, int(bfp[1]), group)
    return _scaled(name, _FORMATS[first], group, rest)


def _group(name: str, part: str) -> int | None:
    """N of ``gN``; None for a whole channel, token or tensor."""
    found = re.fullmatch(r"g(\d{1,7})", part)
    if found and 1 <= int(found[1]) <= _LARGEST_GROUP:
        return int(found[1])
    if part not in _SHARED:
        shown = f"gN (N from 1 to {_LARGEST_GROUP}), channel, token, tensor"
        raise unknown("way to share a scale", part, _SHARED, place=f'number format "{name}"', shown=shown)
    return None


def _scaled(name: str, element: NumberFormat, group: int | None, parts: Sequence[str]) -> TensorFormat:
    scale_format, asymmetric = "fp16", False
    for part in parts[1:]:
        if part == "asym" and element.kind == "integer":
            asymmetric = True
        elif part in _SCALE_FORMATS:
            scale_format = part
        else:
            shown = f"{', '.join(_SCALE_FORMATS)} for the scale, and asym after an integer format"
            raise unknown("part", part, (*_SCALE_FORMATS, "asym"), place=f'number format "{name}"', shown=shown)
    if element.bits == 1 and not asymmetric:
        raise InputError(f'number format "{name}": one bit holds no sign and value; allowed {name}-asym')
    scale = ScaleScheme(
        shared_by="group" if group is not None else _SHARED[parts[0]],
        group=group,
        scale_format=scale_format,
        scale_bits=_FORMATS[scale_format].bits,
        zero_point_bits=element.bits if asymmetric else 0,
    )
    return TensorFormat(name=name, element=element, scale=scale)
