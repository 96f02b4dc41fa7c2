"""Silicon area of a machine, as far as it is known."""

from __future__ import annotations

from tilewright.hw_models.spec import MachineSpec

__all__ = ["area_by_component"]


def area_by_component(machine: MachineSpec) -> dict[str, float]:
    """Square millimetres of ``matrix``, ``vector``, ``buffers`` and ``total``; what is not known is absent.

    ``total`` is the published one where there is one, else the sum when all three parts are known.
    """
    area = machine.area
    if area is None:
        return {}
    parts = {"matrix": area.matrix_mm2, "vector": area.vector_mm2, "buffers": area.buffers_mm2}
    known = {name: value for name, value in parts.items() if value is not None}
    total = area.total_mm2 if area.total_mm2 is not None else sum(known.values()) if len(known) == len(parts) else None
    return known if total is None else {**known, "total": total}
