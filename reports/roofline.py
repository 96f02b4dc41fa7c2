"""The roofline of a network on a machine: what its operators reach, and what bandwidth and arithmetic allow.

After Williams, Waterman and Patterson, CACM 52(4), 2009: multiply-adds per cycle over multiply-adds per byte moved to
and from DRAM, both on logarithmic axes. The bandwidth roof is the DRAM's peak; the compute roofs are the units' peaks
at the number formats used, as the operators' lower bounds have them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tilewright.reports.network_case import NetworkCase, OperatorGroup
from tilewright.reports.palette import BASE_COLOUR, operator_colours
from tilewright.reports.quantity import cycles_text, percent_text

__all__ = ["Axis", "Roof", "RoofPoint", "Roofline", "roofline_of"]

_NUMBERED = 10
_SMALLEST_RADIUS, _LARGEST_RADIUS = 4.0, 17.0
_NUMBERED_RADIUS = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A logarithmic axis from ``low`` to ``high``."""

    low: float
    high: float

    def percent(self, value: float) -> float:
        """Where ``value`` lies, in per cent of the axis."""
        return round(math.log(value / self.low) / math.log(self.high / self.low) * 100, 2)

    @property
    def ticks(self) -> tuple[float, ...]:
        """Powers of ten inside; with twice and five times them on a short axis."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        steps = (1, 2, 5) if last - first <= 3 else (1,)
        ticks = (step * 10.0**power for power in range(first, last + 1) for step in steps)
        return tuple(tick for tick in ticks if self.low <= tick <= self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """A compute roof: multiply-adds per cycle that a unit does at most with operands in ``formats``."""

    formats: str
    macs_per_cycle: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RoofPoint:
    """A group of identical operators: multiply-adds per byte (x) and per cycle (y)."""

    group: OperatorGroup
    x: float
    y: float
    radius: float
    colour: str
    number: str

    @property
    def tip(self) -> str:
        group = self.group
        return (
            f"{group.number}. {group.label} ({group.count} x {group.first.kind} {group.size}): "
            f"{self.y:,.3g} multiply-adds per cycle, {self.x:,.3g} per byte, {cycles_text(group.cycles)} cycles"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """Points, roofs and axes. ``left_out``: operators without multiply-adds in words, empty where there are none."""

    points: tuple[RoofPoint, ...]
    roofs: tuple[Roof, ...]
    bytes_per_cycle: float
    bandwidth: str
    x: Axis
    y: Axis
    kinds: dict[str, str]
    left_out: str

    def ridge(self, roof: Roof) -> float:
        """Multiply-adds per byte from which on the compute roof is the lower one."""
        return roof.macs_per_cycle / self.bytes_per_cycle

    @property
    def slope(self) -> tuple[float, float, float, float]:
        """The bandwidth roof from (x, y) to (x, y), inside the axes."""
        top = max(roof.macs_per_cycle for roof in self.roofs)
        start = max(self.x.low, self.y.low / self.bytes_per_cycle)
        end = top / self.bytes_per_cycle
        return start, start * self.bytes_per_cycle, end, top


def roofline_of(case: NetworkCase) -> Roofline | None:
    """The roofline of ``case``; None for a network without multiply-adds."""
    groups = [group for group in case.groups if group.macs]
    if not groups:
        return None
    roofs = _roofs(groups)
    top = max(roof.macs_per_cycle for roof in roofs)
    rate = case.dram_bytes_per_cycle
    points = tuple(_point(group, case) for group in groups)
    ridges = [roof.macs_per_cycle / rate for roof in roofs]
    x = Axis(low=min([*ridges, *(p.x for p in points)]) / 2, high=max([*ridges, *(p.x for p in points)]) * 2)
    y = Axis(low=min(p.y for p in points) / 2, high=top * 2)
    machine = case.machine
    kinds = [group.first.kind for group in groups]
    return Roofline(
        points=points,
        roofs=roofs,
        bytes_per_cycle=rate,
        bandwidth=f"DRAM {rate * machine.clock_ghz:,.4g} GB/s",
        x=x,
        y=y,
        kinds={kind: colour for kind, colour in operator_colours().items() if kind in kinds},
        left_out=_left_out(case),
    )


def _point(group: OperatorGroup, case: NetworkCase) -> RoofPoint:
    share = group.cycles / max(1, case.result.cycles)
    numbered = group.number <= _NUMBERED
    radius = _SMALLEST_RADIUS + (_LARGEST_RADIUS - _SMALLEST_RADIUS) * math.sqrt(share)
    return RoofPoint(
        group=group,
        x=group.intensity,
        y=group.macs_per_cycle,
        radius=round(max(radius, _NUMBERED_RADIUS) if numbered else radius, 1),
        colour=operator_colours().get(group.first.kind, BASE_COLOUR),
        number=str(group.number) if numbered else "",
    )


def _roofs(groups: list[OperatorGroup]) -> tuple[Roof, ...]:
    """The peak of the unit that does the multiply-adds, by formats: the highest that a bound of an operator allows."""
    peaks: dict[str, int] = {}
    for group in groups:
        bound = group.first.lower_bound
        unit = "" if bound.matrix_cycles else " on the vector unit"
        peak = round(group.first.macs / max(1, bound.matrix_cycles or bound.vector_cycles))
        name = f"{group.formats}{unit}"
        peaks[name] = max(peak, peaks.get(name, 1))
    names: dict[int, list[str]] = {}
    for name, peak in peaks.items():
        names.setdefault(peak, []).append(name)
    return tuple(
        Roof(formats=", ".join(names[peak]), macs_per_cycle=float(peak)) for peak in sorted(names, reverse=True)
    )


def _left_out(case: NetworkCase) -> str:
    without = [group for group in case.groups if not group.macs]
    if not without:
        return ""
    n_operators = sum(group.count for group in without)
    share = percent_text(sum(group.cycles for group in without) / max(1, case.result.cycles))
    kinds = ", ".join(dict.fromkeys(group.first.kind for group in without))
    return (
        f"{n_operators:,} operators without multiply-adds ({kinds}) take {share} of the cycles and have no place here."
    )
