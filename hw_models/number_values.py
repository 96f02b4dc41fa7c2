"""Values in an element format: rounding to it, its bit patterns, and what a bit pattern stands for.

The formats that ml_dtypes or numpy have are theirs. Values are rounded here, to the nearest with ties to the even
significand, because ml_dtypes takes float64 by way of float32 and so rounds twice; its cast then only packs bits. tf32,
fp4 E1M2 and fp4 E3M0 are written here altogether. Integers are two's complement. Rounding saturates unless it is told
not to: ml_dtypes (as torch) turns what is too large for E4M3 into a NaN, which a quantised tensor never means.
"""

from __future__ import annotations

from functools import cache
from math import floor, log2
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tilewright.errors import InputError
from tilewright.formats import NumberFormat, number_format

__all__ = ["Floats", "decode", "encode", "largest_exponent", "largest_value", "round_to"]

Floats: TypeAlias = NDArray[np.float64]
Codes: TypeAlias = NDArray[np.unsignedinteger[Any]]

_ML_DTYPES = {
    "fp4_e2m1": "float4_e2m1fn",
    "fp6_e2m3": "float6_e2m3fn",
    "fp6_e3m2": "float6_e3m2fn",
    "fp8_e3m4": "float8_e3m4",
    "fp8_e4m3": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
    "bf16": "bfloat16",
}
_NUMPY = {"fp16": "float16", "fp32": "float32", "fp64": "float64"}
_NO_NAN = ("fp4_e1m2", "fp4_e2m1", "fp4_e3m0", "fp6_e2m3", "fp6_e3m2")
_TF32_LARGEST = (2 - 2.0**-10) * 2.0**127


def round_to(values: ArrayLike, name: str, *, saturate: bool = True) -> Floats:
    """``values`` (any shape) as the nearest values of element format ``name``, as float64 of the same shape.

    ``saturate``: what is too large, infinities included, becomes the largest finite value; else what the format says:
    infinity, NaN, or the largest value where it has neither. Raises InputError for an unknown format, and for NaN where
    the format has none.
    """
    found = number_format(name)
    exact = np.asarray(values, dtype=np.float64)
    if (found.kind == "integer" or name in _NO_NAN) and bool(np.isnan(exact).any()):
        raise InputError(f'number format "{name}" has no NaN; given values with NaN; allowed numbers')
    if found.kind == "integer":
        return np.clip(np.rint(exact), -largest_value(name) - 1, largest_value(name))
    largest = largest_value(name)
    kept = np.clip(exact, -largest, largest) if saturate else exact
    dtype = _dtype(name)
    if name in _NUMPY:
        with np.errstate(all="ignore"):
            return kept.astype(dtype).astype(np.float64)
    rounded = _round_here(kept, found)
    if dtype is not None:
        with np.errstate(all="ignore"):
            return rounded.astype(dtype).astype(np.float64)
    if name == "tf32":
        return np.where(np.abs(rounded) > largest, np.copysign(np.inf, rounded), rounded)
    return np.clip(rounded, -largest, largest)


def encode(values: ArrayLike, name: str, *, saturate: bool = True) -> Codes:
    """Bit patterns of ``values`` rounded to element format ``name``: unsigned, in the low bits, shape kept.

    uint8 for formats of up to 8 bits, then uint16, uint32, uint64. Errors as :func:`round_to`.
    """
    found = number_format(name)
    rounded = round_to(values, name, saturate=saturate)
    container = _container(found.bits)
    if found.kind == "integer":
        mask = (1 << found.bits) - 1
        return (rounded.astype(np.int64) & mask).astype(container)
    dtype = _dtype(name)
    if dtype is not None:
        with np.errstate(all="ignore"):
            packed: Codes = rounded.astype(dtype).view(container)
            return packed
    if name == "tf32":
        return rounded.astype(np.float32).view(np.uint32)
    sign = np.signbit(rounded).astype(container) << (found.bits - 1)
    magnitude = np.searchsorted(_positive_values(name), np.abs(rounded)).astype(container)
    return np.asarray(magnitude | sign, dtype=container)


def decode(codes: ArrayLike, name: str) -> Floats:
    """Values of bit patterns ``codes`` (unsigned, any shape) in element format ``name``, as float64.

    Raises InputError for an unknown format and for a pattern with more bits than the format has.
    """
    found = number_format(name)
    given = np.asarray(codes)
    if given.size and (int(given.min()) < 0 or int(given.max()) >> found.bits):
        raise InputError(f'number format "{name}": code out of range; allowed {found.bits} bits')
    patterns = given.astype(_container(found.bits))
    if found.kind == "integer":
        signed = patterns.astype(np.int64)
        return (signed - ((signed >> (found.bits - 1)) << found.bits)).astype(np.float64)
    dtype = _dtype(name)
    if dtype is not None:
        with np.errstate(invalid="ignore"):  # NaN patterns of bf16 that signal
            unpacked: Floats = patterns.view(dtype).astype(np.float64)
            return unpacked
    if name == "tf32":
        return patterns.view(np.float32).astype(np.float64)
    half = 1 << (found.bits - 1)
    magnitudes: Floats = _positive_values(name)[patterns & (half - 1)]
    return np.where(patterns & half, -magnitudes, magnitudes)


@cache
def largest_value(name: str) -> float:
    """The largest finite value of element format ``name``: 6 for ``fp4_e2m1``, 448 for ``fp8_e4m3``, 7 for ``int4``."""
    found = number_format(name)
    if found.kind == "integer":
        return float(2 ** (found.bits - 1) - 1)
    dtype = _dtype(name)
    if dtype is not None:
        from ml_dtypes import finfo

        return float(finfo(dtype).max)  # type: ignore[no-untyped-call]
    if name == "tf32":
        return _TF32_LARGEST
    return float(_positive_values(name)[-1])


@cache
def largest_exponent(name: str) -> int:
    """floor(log2) of the largest value of element format ``name``: 2 for ``fp4_e2m1``, 8 for ``fp8_e4m3``."""
    return floor(log2(largest_value(name)))


@cache
def _dtype(name: str) -> Any:
    """The numpy type of the format, or None where neither numpy nor ml_dtypes has one."""
    if name in _NUMPY:
        return np.dtype(_NUMPY[name])
    if name in _ML_DTYPES:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, _ML_DTYPES[name]))
    return None


def _container(bits: int) -> type[np.unsignedinteger[Any]]:
    if bits <= 8:
        return np.uint8
    if bits <= 16:
        return np.uint16
    return np.uint32 if bits <= 32 else np.uint64


def _bias(found: NumberFormat) -> int:
    return int(2 ** (found.exponent_bits - 1)) - 1


def _round_here(values: Floats, found: NumberFormat) -> Floats:
    """Nearest value whose last digit is 2^(exponent - mantissa bits), subnormals included; no largest value."""
    _, exponents = np.frexp(values)
    steps = np.maximum(exponents - 1, 1 - _bias(found)) - found.mantissa_bits
    with np.errstate(all="ignore"):
        rounded: Floats = np.ldexp(np.rint(np.ldexp(values, -steps)), steps)
    return rounded


@cache
def _positive_values(name: str) -> Floats:
    """Values of the codes with sign 0, in order, of a format whose codes are all finite."""
    found = number_format(name)
    codes = np.arange(1 << (found.bits - 1))
    exponents, mantissas = codes >> found.mantissa_bits, codes & ((1 << found.mantissa_bits) - 1)
    significands = np.where(exponents > 0, 1.0, 0.0) + np.ldexp(mantissas.astype(np.float64), -found.mantissa_bits)
    values: Floats = np.ldexp(significands, np.maximum(exponents, 1) - _bias(found))
    values.setflags(write=False)
    return values
