"""Budgets as people write them: ``latency=0.6x``, ``size=5.5MB``, ``energy=2mJ``, ``bops=72G``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from tilewright.errors import InputError, unknown
from tilewright.search.bits.cost_kinds import COSTS
from tilewright.search.bits.problem import CostKind

__all__ = ["Budget", "amount_text", "limits_of", "parse_budget", "parse_budgets"]

_SECONDS = {"s": Fraction(1), "ms": Fraction(1, 10**3), "us": Fraction(1, 10**6), "ns": Fraction(1, 10**9)}
_MOST_DIGITS = 40
_LEAST, _MOST = 1e-30, 1e30
_FORM = re.compile(r"\s*([a-z_]+)\s*=\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z]*)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most of one cost: ``value`` times that of the reference (unit ``x``), or in a unit of its own."""

    kind: CostKind
    value: Fraction
    unit: str

    @property
    def text(self) -> str:
        """As it is written."""
        return f"{self.kind}={float(self.value):.15g}{self.unit}"

    def limit(self, reference: Mapping[CostKind, int], clock_hz: Fraction | None = None) -> int:
        """The budget as a whole number of the cost's unit, rounded down; ``reference`` holds the reference's costs.

        Raises InputError for a time where no machine gives a clock, and for a cost that is not known.
        """
        if self.unit == "x":
            if self.kind not in reference:
                known = ", ".join(reference)
                raise InputError(f"budget: {self.text}: {self.kind} comes from the simulator; allowed here: {known}")
            return int(self.value * reference[self.kind])
        if self.kind == "latency" and self.unit in _SECONDS:
            if clock_hz is None:
                raise InputError(f"budget: {self.text}: a time needs a machine; allowed cycles")
            return int(self.value * _SECONDS[self.unit] * clock_hz)
        return int(self.value * COSTS.get(self.kind).unit(self.unit))


def parse_budget(text: str) -> Budget:
    """``KIND=NUMBER`` with ``x`` (times the reference) or a unit behind it.

    Raises InputError for another form, an unknown cost or unit, or nothing left to spend.
    """
    found = _FORM.fullmatch(text)
    if not found:
        raise InputError(
            f'budget: not of the form COST=AMOUNT; given "{text}"; allowed for example latency=0.6x, size=5.5MB, '
            "energy=2mJ"
        )
    kind, amount, unit = found.groups()
    units = {"x": 1, **COSTS.get(kind, place="budget").units, **(_SECONDS if kind == "latency" else {})}
    if unit not in units:
        raise unknown("unit", unit, (name or "no unit" for name in units), place=f"budget: {kind}")
    return Budget(kind=kind, value=_amount(kind, amount), unit=unit)


def _amount(kind: str, text: str) -> Fraction:
    """The number, exactly; checked as a float first, because an exact 1e99999999 fills the memory."""
    if not float(text) > 0:
        raise InputError(f"budget: {kind}: given {text[:_MOST_DIGITS]}; allowed more than 0")
    if len(text) > _MOST_DIGITS or not _LEAST <= float(text) <= _MOST:
        raise InputError(
            f"budget: {kind}: out of range; given {text[:_MOST_DIGITS]}; allowed {_LEAST:g} to {_MOST:g}, in at most "
            f"{_MOST_DIGITS} characters"
        )
    return Fraction(text)


def parse_budgets(texts: Iterable[str]) -> tuple[Budget, ...]:
    """Budgets of several texts, which may hold several with commas.

    Raises InputError for none at all, and for a cost given twice.
    """
    budgets = tuple(parse_budget(part) for text in texts for part in text.split(",") if part.strip())
    if not budgets:
        raise InputError(f"budget: none given; allowed {', '.join(COSTS.names())}, as latency=0.6x")
    for at, budget in enumerate(budgets):
        for other in budgets[:at]:
            if other.kind == budget.kind:
                raise InputError(f"budget: {budget.kind}: given twice, as {other.text} and as {budget.text}")
    return budgets


def limits_of(
    budgets: Iterable[Budget], reference: Mapping[CostKind, int], clock_hz: Fraction | None = None
) -> dict[CostKind, int]:
    """The limit of each budget in whole numbers; see :meth:`Budget.limit`."""
    return {budget.kind: budget.limit(reference, clock_hz) for budget in budgets}


def amount_text(kind: CostKind, amount: float) -> str:
    """A cost in the unit that people read: ``5.84 MB``, ``12.3 G``, ``7,784,011 cycles``, ``1.21 mJ``."""
    per_unit, unit = COSTS.get(kind).shown
    return f"{amount:,.0f} {unit}" if per_unit == 1 else f"{amount / per_unit:,.4g} {unit}"
