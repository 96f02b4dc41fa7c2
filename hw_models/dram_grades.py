"""Row timing of DRAM grades: what a controller must respect besides the data rate.

One grade is one channel of a device. The figures are minimum times of the standard's speed class (JEDEC JESD209-4
for LPDDR4/4X, JESD209-5 for LPDDR5); nanoseconds are rounded up to whole command clocks when they are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le, MinLen

from tilewright.errors import unknown
from tilewright.units import exact

if TYPE_CHECKING:
    from pydantic import ConfigDict

__all__ = ["GRADE_SOURCES", "RowTimingSpec", "grade_names", "row_timing"]

_STRICT: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}
_BITS_PER_BYTE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTimingSpec:
    """Timing of one channel of a DRAM grade.

    ``grade``: its name. ``data_rate_mt_per_s``: transfers a second and pin. ``channel_width_bits``: pins of a channel.
    ``n_banks``: banks of a channel, each with one open row. ``trcd_ns``: from an activation to its first read.
    ``trp_ns``: a precharge. ``tras_ns``: from an activation to the precharge of its bank. ``tcl_ns``: from a read to
    its first data. ``trrd_ns``: between activations of two banks. ``tfaw_ns``: a window for at most four activations.
    ``trfc_ns``: a refresh. ``trefi_ns``: from one refresh to the next.
    ``burst_length`` in beats of ``channel_width_bits``; ``beats_per_clock`` beats pass in one command clock (2 for
    LPDDR4, 8 for LPDDR5 with its 4:1 data clock), so bursts follow each other every ``burst_length /
    beats_per_clock`` clocks (tCCD). ``row_bytes``: the page that one activation opens, in this channel.
    ``trtp_ns`` runs from a read command to the precharge of its bank.
    ``interleave_bytes``: consecutive bytes that stay in one channel before the next channel follows.
    ``rows_ahead``: how many rows the controller opens before the bursts in front of them have begun.
    """

    __pydantic_config__ = _STRICT

    grade: Annotated[str, MinLen(1)]
    data_rate_mt_per_s: Annotated[float, Gt(0), Le(1_000_000)]
    channel_width_bits: Annotated[int, Ge(1), Le(4096)]
    burst_length: Annotated[int, Ge(1), Le(256)]
    beats_per_clock: Annotated[int, Ge(1), Le(64)]
    n_banks: Annotated[int, Ge(1), Le(1024)]
    row_bytes: Annotated[int, Ge(1), Le(1_048_576)]
    trcd_ns: Annotated[float, Ge(0), Le(100_000)]
    trp_ns: Annotated[float, Ge(0), Le(100_000)]
    tras_ns: Annotated[float, Ge(0), Le(100_000)]
    tcl_ns: Annotated[float, Ge(0), Le(100_000)]
    trtp_ns: Annotated[float, Ge(0), Le(100_000)]
    trrd_ns: Annotated[float, Ge(0), Le(100_000)]
    tfaw_ns: Annotated[float, Ge(0), Le(100_000)]
    trfc_ns: Annotated[float, Ge(0), Le(100_000)]
    trefi_ns: Annotated[float, Gt(0), Le(1_000_000_000)]
    interleave_bytes: Annotated[int, Ge(1), Le(1_048_576)] = 256
    rows_ahead: Annotated[int, Ge(1), Le(64)] = 4

    def __post_init__(self) -> None:
        if self.trfc_ns >= self.trefi_ns:
            raise ValueError("trfc_ns: not below trefi_ns; allowed a refresh that ends before the next one begins")
        if self.channel_width_bits * self.burst_length % _BITS_PER_BYTE or self.burst_length % self.beats_per_clock:
            raise ValueError("burst_length: a burst is not a whole number of bytes and of clocks; allowed whole ones")
        if self.row_bytes % self.interleave_bytes or self.interleave_bytes % self.burst_bytes:
            raise ValueError(
                f"interleave_bytes: does not divide the row ({self.row_bytes} bytes) into whole bursts; given "
                f"{self.interleave_bytes}; allowed multiples of {self.burst_bytes} that divide {self.row_bytes}"
            )

    @property
    def burst_bytes(self) -> int:
        """Bytes of one burst."""
        return self.channel_width_bits * self.burst_length // _BITS_PER_BYTE

    @property
    def burst_clocks(self) -> int:
        """Command clocks from one burst to the next (tCCD)."""
        return self.burst_length // self.beats_per_clock

    @property
    def channel_gb_per_s(self) -> Fraction:
        """Peak rate of one channel in 10^9 bytes a second."""
        return exact(self.data_rate_mt_per_s) * self.channel_width_bits / _BITS_PER_BYTE / 1000


_GRADES = {
    grade.grade: grade
    for grade in (
        RowTimingSpec(
            grade="lpddr4x-3200",
            data_rate_mt_per_s=3200,
            channel_width_bits=16,
            burst_length=16,
            beats_per_clock=2,
            n_banks=8,
            row_bytes=2048,
            trcd_ns=18,
            trp_ns=18,
            tras_ns=42,
            tcl_ns=17.5,
            trtp_ns=7.5,
            trrd_ns=10,
            tfaw_ns=40,
            trfc_ns=280,
            trefi_ns=3904,
        ),
        RowTimingSpec(
            grade="lpddr4x-4266",
            data_rate_mt_per_s=4266,
            channel_width_bits=16,
            burst_length=16,
            beats_per_clock=2,
            n_banks=8,
            row_bytes=2048,
            trcd_ns=18,
            trp_ns=18,
            tras_ns=42,
            tcl_ns=16.9,
            trtp_ns=7.5,
            trrd_ns=7.5,
            tfaw_ns=30,
            trfc_ns=280,
            trefi_ns=3904,
        ),
        RowTimingSpec(
            grade="lpddr5-6400",
            data_rate_mt_per_s=6400,
            channel_width_bits=16,
            burst_length=32,
            beats_per_clock=8,
            n_banks=8,
            row_bytes=4096,
            trcd_ns=18,
            trp_ns=18,
            tras_ns=42,
            tcl_ns=21.25,
            trtp_ns=10,
            trrd_ns=10,
            tfaw_ns=40,
            trfc_ns=210,
            trefi_ns=3906,
        ),
    )
}

#: Kind and source of each grade's figures, as (fields, kind, source); ``*`` stands for the rest.
GRADE_SOURCES: dict[str, tuple[tuple[str, Literal["datasheet", "assumed"], str], ...]] = {
    "lpddr4x-3200": (
        (
            "*",
            "datasheet",
            "JEDEC JESD209-4 class values: x16 channel of 8 Gb, BL16, 2 KiB page; the same figures in clocks stand in "
            "DRAMSys' memspec JEDEC_8Gb_LPDDR4-3200_16bit",
        ),
    ),
    "lpddr4x-4266": (
        (
            "*",
            "datasheet",
            "JEDEC JESD209-4 class values: x16 channel of 8 Gb, BL16, 2 KiB page; RL 36 at 2133 MHz, tRRD and tFAW of "
            "the 4266 class",
        ),
    ),
    "lpddr5-6400": (
        (
            "trtp_ns",
            "datasheet",
            "JESD209-5: 4 clocks of BL32 plus the larger of 2 clocks and 7.5 ns less 2 clocks, at 800 MHz",
        ),
        (
            "*",
            "datasheet",
            "JEDEC JESD209-5 class values in 8-bank mode: x16 channel of 8 Gb, BL32, 4 KiB page, 4:1 data clock; the "
            "same figures stand in gem5's LPDDR5_6400_1x16_8B_BL32",
        ),
    ),
}
_CONTROLLER_SOURCE: tuple[tuple[str, Literal["datasheet", "assumed"], str], ...] = tuple(
    (name, "assumed", why)
    for name, why in (
        ("interleave_bytes", "a memory controller's choice, not the grade's; 256 bytes is a common one"),
        ("rows_ahead", "a memory controller's choice, not the grade's; four rows keep tFAW the limit of random rows"),
    )
)
GRADE_SOURCES = {name: _CONTROLLER_SOURCE + sources for name, sources in GRADE_SOURCES.items()}


def grade_names() -> tuple[str, ...]:
    """Names of the grades that are known."""
    return tuple(_GRADES)


def row_timing(name: str) -> RowTimingSpec:
    """The grade called ``name``; raises :class:`InputError` when there is none."""
    if name not in _GRADES:
        raise unknown("DRAM grade", name, _GRADES)
    return _GRADES[name]
