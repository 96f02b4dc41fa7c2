"""What the vector unit takes: cycles of one command of element-wise and reducing work."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from tilewright.hw_models.spec import VectorUnitSpec
from tilewright.units import exact

__all__ = ["RESULTS", "least_vector_cycles", "vector_cycles"]

RESULTS = "results"  # of a product, on their way out: a kind of work without a rate


def vector_cycles(
    unit: VectorUnitSpec, work: Sequence[tuple[str, int]], *, reduces: bool, unit_kind: str = "", n_values: int = 0
) -> int:
    """Cycles of one vector command that does ``work``, pairs of (kind of operation, number of elements).

    start-up + sum of ceil(elements / lanes) x cycles of the kind, + the depth of the reduction tree when the command
    ``reduces``; at least 1. ``n_values``: how many values pass, where each passes once; a pipeline then takes
    ceil(values / lanes) times its slowest stage. They are work of a ``unit_kind`` that the unit may have a rate for
    (the faster way counts), or RESULTS, which may have to pass whatever is done on them. Raises KeyError for a kind
    that is none of ``OPERATION_KINDS``.
    """
    lanes = unit.lanes
    cycles_of = unit.cycles
    cycles = 0
    if n_values and unit.arrangement == "pipeline":
        cycles = -(-n_values // lanes) * max([1, *(cycles_of[kind] for kind, _ in work)])
    else:
        for kind, n_elements in work:
            cycles += -(-n_elements // lanes) * cycles_of[kind]
    if unit_kind in unit.rates:
        up, down = _ratio(unit.rates[unit_kind])
        cycles = min(cycles, -(-n_values * down // up))
    if unit.passes_results and unit_kind == RESULTS:
        cycles = max(cycles, -(-n_values // lanes))
    cycles += unit.startup_cycles
    if reduces:
        cycles += unit.reduction_depth_cycles
    return cycles if cycles > 0 else 1


def least_vector_cycles(
    unit: VectorUnitSpec, work: Sequence[tuple[str, int]], *, unit_kind: str = "", n_values: int = 0
) -> Fraction:
    """What :func:`vector_cycles` of any commands that do this work together do not undercut."""
    if n_values and unit.arrangement == "pipeline":
        least = Fraction(n_values * max([1, *(unit.cycles[kind] for kind, _ in work)]), unit.lanes)
    else:
        least = Fraction(sum(n * unit.cycles[kind] for kind, n in work), unit.lanes)
    if unit_kind in unit.rates:
        least = min(least, n_values / exact(unit.rates[unit_kind]))
    if unit.passes_results and unit_kind == RESULTS:
        least = max(least, Fraction(n_values, unit.lanes))
    return least


@lru_cache(maxsize=256)
def _ratio(rate: float) -> tuple[int, int]:
    fraction = exact(rate)
    return fraction.numerator, fraction.denominator
