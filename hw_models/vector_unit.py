"""What the vector unit takes: cycles of one command of element-wise and reducing work."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.hw_models.spec import VectorUnitSpec

__all__ = ["vector_cycles"]


def vector_cycles(unit: VectorUnitSpec, work: Sequence[tuple[str, int]], *, reduces: bool) -> int:
    """Cycles of one vector command that does ``work``, pairs of (kind of operation, number of elements).

    start-up + sum of ceil(elements / lanes) x cycles of the kind, + the depth of the reduction tree when the command
    ``reduces``; at least 1. Raises KeyError for a kind that is none of ``OPERATION_KINDS``.
    """
    lanes = unit.lanes
    cycles_of = unit.cycles
    cycles = unit.startup_cycles
    for kind, n_elements in work:
        cycles += -(-n_elements // lanes) * cycles_of[kind]
    if reduces:
        cycles += unit.reduction_depth_cycles
    return cycles if cycles > 0 else 1
