"""Numbers as a person reads them: cycles with separators, time, energy and bytes in a fitting unit."""

from __future__ import annotations

from collections.abc import Mapping

from tilewright.units import KIB

__all__ = [
    "bytes_text",
    "change_text",
    "count_text",
    "cycles_text",
    "energy_text",
    "percent_text",
    "ratio_text",
    "seconds_text",
    "sequence_text",
    "tiling_text",
    "time_unit",
]

_SECOND_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_ENERGY_UNITS_PJ = ((1e12, "J"), (1e9, "mJ"), (1e6, "uJ"), (1e3, "nJ"), (1.0, "pJ"))
_COUNT_UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_ENDLESS = 2**31 - 1
_BYTE_UNITS = ((KIB**4, "TiB"), (KIB**3, "GiB"), (KIB**2, "MiB"), (KIB, "KiB"))


def _three_digits(value: float) -> str:
    """About three significant digits, without an exponent: 1.23, 12.3, 123, 1,234."""
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> str:
    """``value`` in the largest unit in which it is at least one (the smallest unit otherwise)."""
    for size, name in units:
        if abs(value) >= size * 0.9995:
            return f"{_three_digits(value / size)} {name}"
    size, name = units[-1]
    return f"{_three_digits(value / size)} {name}" if value else f"0 {name}"


def cycles_text(n_cycles: int) -> str:
    """``1234567`` cycles as ``1,234,567``."""
    return f"{n_cycles:,}"


def count_text(count: float) -> str:
    """A large count with a letter for thousands, millions and so on: ``4089184256`` is ``4.09 G``."""
    return f"{count:,.0f}" if abs(count) < 1000 else _scaled(count, _COUNT_UNITS).strip()


def seconds_text(seconds: float) -> str:
    """Seconds in s, ms, us or ns with three digits: ``0.00123`` is ``1.23 ms``."""
    return _scaled(seconds, _SECOND_UNITS)


def time_unit(n_cycles: float, clock_ghz: float) -> tuple[str, float]:
    """The unit in which an axis up to ``n_cycles`` reads well, and how many cycles one such unit is."""
    per_us = clock_ghz * 1e3
    for unit, cycles_per_unit in (("us", per_us), ("ms", per_us * 1e3)):
        if n_cycles < 1e4 * cycles_per_unit:
            return unit, cycles_per_unit
    return "s", per_us * 1e6


def energy_text(energy_pj: float) -> str:
    """Picojoules in pJ, nJ, uJ, mJ or J with three digits: ``4.56e9`` is ``4.56 mJ``."""
    return _scaled(energy_pj, _ENERGY_UNITS_PJ)


def bytes_text(n_bytes: int | float) -> str:
    """Bytes in B, KiB, MiB, GiB or TiB: ``1536`` is ``1.50 KiB``; whole multiples stay whole."""
    for size, name in _BYTE_UNITS:
        if abs(n_bytes) >= size:
            value = n_bytes / size
            return f"{value:,.0f} {name}" if value == int(value) else f"{_three_digits(value)} {name}"
    return f"{n_bytes:,.0f} B"


def percent_text(share: float) -> str:
    """A share of one as per cent: ``0.873`` is ``87.3 %``."""
    return f"{share * 100:.1f} %"


def change_text(ratio: float) -> str:
    """A new value over the old one as a signed change: ``0.8`` is ``-20.0 %``, ``1.0`` is ``no change``."""
    change = (ratio - 1.0) * 100
    return "no change" if abs(change) < 0.005 else f"{change:+.1f} %" if abs(change) >= 0.05 else f"{change:+.2f} %"


def ratio_text(ratio: float) -> str:
    """A ratio with two decimals: ``1.7`` is ``1.70x``."""
    return f"{ratio:,.2f}x"


def sequence_text(length: int) -> str:
    """A sequence length, or ``any length`` for the largest one (the need does not grow with it)."""
    return "any length" if length >= _ENDLESS else f"{length:,}"


def tiling_text(tiling: Mapping[str, int]) -> str:
    """Tile sizes on one line: ``query 64, key 128``."""
    return ", ".join(f"{name} {size:,}" for name, size in tiling.items()) or "none"
