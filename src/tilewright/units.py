"""Unit constants and conversions, so that no bare power of two or ten stands in the code."""

from __future__ import annotations

from fractions import Fraction

__all__ = ["BITS_PER_BYTE", "GIB", "KIB", "MIB", "bits_to_bytes", "ceil_div", "exact"]

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
BITS_PER_BYTE = 8


def ceil_div(numerator: int, denominator: int) -> int:
    """Smallest integer not below ``numerator / denominator`` (both integers, denominator > 0)."""
    return -(-numerator // denominator)


def bits_to_bytes(bits: int | Fraction) -> int:
    """Whole bytes that hold ``bits`` bits (a fraction where values share scales)."""
    return int(-(-bits // BITS_PER_BYTE))


def exact(value: float | int | str | Fraction) -> Fraction:
    """The decimal a person wrote, as an exact fraction (``0.94`` is 47/50, not its binary neighbour)."""
    return value if isinstance(value, Fraction) else Fraction(str(value))
