"""Number formats by name: how many bits one value takes, and what kind of number it is.

Widths are those of the published definitions: IEEE 754-2019 for fp16, fp32 and fp64; bfloat16 as 16 leading bits of
fp32; fp8 as in the OCP 8-bit floating point specification 1.0; fp6 and fp4 as in the OCP microscaling specification 1.0
(element width only, without the shared scale).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from tilewright.errors import InputError, did_you_mean

__all__ = ["FormatName", "NumberFormat", "format_bits", "format_names", "number_format"]

Kind: TypeAlias = Literal["integer", "float"]

#: The names as a type, for schemas: a wrong one is then refused with the names that exist.
FormatName: TypeAlias = Literal[
    "int4",
    "int8",
    "int16",
    "int32",
    "fp4_e2m1",
    "fp6_e2m3",
    "fp6_e3m2",
    "fp8_e4m3",
    "fp8_e5m2",
    "fp16",
    "bf16",
    "fp32",
    "fp64",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberFormat:
    """A number format: its name, the bits of one value, and whether it is an integer or a floating-point format."""

    name: str
    bits: int
    kind: Kind


_BITS: dict[FormatName, tuple[int, Kind]] = {
    "int4": (4, "integer"),
    "int8": (8, "integer"),
    "int16": (16, "integer"),
    "int32": (32, "integer"),
    "fp4_e2m1": (4, "float"),
    "fp6_e2m3": (6, "float"),
    "fp6_e3m2": (6, "float"),
    "fp8_e4m3": (8, "float"),
    "fp8_e5m2": (8, "float"),
    "fp16": (16, "float"),
    "bf16": (16, "float"),
    "fp32": (32, "float"),
    "fp64": (64, "float"),
}
_FORMATS: dict[str, NumberFormat] = {
    name: NumberFormat(name=name, bits=bits, kind=kind) for name, (bits, kind) in _BITS.items()
}


def format_names() -> tuple[str, ...]:
    """Names of all number formats, integers first, narrow before wide."""
    return tuple(_FORMATS)


def number_format(name: str) -> NumberFormat:
    """The number format called ``name``.

    Raises InputError, with the names that exist and the nearest one, when there is none.
    """
    found = _FORMATS.get(name)
    if found is None:
        raise InputError(
            f'unknown number format; given "{name}"; allowed {", ".join(_FORMATS)}{did_you_mean(str(name), _FORMATS)}'
        )
    return found


def format_bits(name: str) -> int:
    """Bits of one value in the number format called ``name``; raises InputError for an unknown name."""
    return number_format(name).bits
