"""Budgets of ``--over steps``: ``latency=0.5x``, ``energy=20J``, ``updates=10``, ``groups=5``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from tilewright.errors import InputError, unknown

__all__ = ["METHODS", "StepBudget", "parse_budget"]

#: How steps are chosen, by what the budget is of.
METHODS = {"latency": "dp", "energy": "dp", "updates": "bac", "groups": "groups"}
_UNITS: dict[str, dict[str, Fraction]] = {
    "latency": {"x": Fraction(0), "s": Fraction(10**12), "ms": Fraction(10**9), "us": Fraction(10**6)},
    "energy": {"x": Fraction(0), "J": Fraction(10**12), "mJ": Fraction(10**9), "uJ": Fraction(10**6)},
    "updates": {"": Fraction(1)},
    "groups": {"": Fraction(1)},
}
_FORM = re.compile(r"\s*([a-z]+)\s*=\s*([0-9]{1,18}(?:\.[0-9]{1,12})?)\s*([A-Za-z]*)\s*")
_ALLOWED = "latency=0.5x, latency=12s, energy=0.5x, energy=20J, updates=10 or groups=5"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBudget:
    """``amount`` of ``kind``: ``latency`` or ``energy`` of all steps (unit ``x``: times that with nothing kept),
    ``updates`` of each unit, or the usual length of ``groups``.
    """

    kind: str
    amount: Fraction
    unit: str

    @property
    def text(self) -> str:
        """As it is written."""
        return f"{self.kind}={float(self.amount):.12g}{self.unit}"

    def limit(self, whole: int) -> int:
        """In picoseconds or picojoules, rounded down; ``whole``: of all steps with nothing kept."""
        return int(self.amount * (whole if self.unit == "x" else _UNITS[self.kind][self.unit]))


def parse_budget(texts: Sequence[str]) -> StepBudget:
    """The one budget of ``texts``; raises InputError for another form, an unknown kind or unit, or none."""
    if len(texts) != 1:
        raise InputError(f"--budget: given {len(texts)} times; allowed once: {_ALLOWED}")
    found = _FORM.fullmatch(texts[0])
    if found is None:
        raise InputError(f'--budget: given "{texts[0]}"; allowed {_ALLOWED}')
    kind, amount, unit = found.groups()
    if kind not in _UNITS:
        raise unknown("budget", kind, _UNITS, place="--budget")
    if unit not in _UNITS[kind]:
        raise unknown("unit", unit, [name or "no unit" for name in _UNITS[kind]], place=f"--budget: {kind}")
    if not Fraction(amount) > 0 or (not unit and Fraction(amount).denominator != 1):
        raise InputError(f"--budget: {kind}: given {amount}; allowed more than 0{'' if unit else ', a whole number'}")
    return StepBudget(kind=kind, amount=Fraction(amount), unit=unit)
