"""Figures of a design that need no run: its silicon area and its peak rate.

Area is in proportion: so many square millimetres for a processing element, a vector lane and a KiB of buffer, taken
from the parts of area that the base machine publishes, or given in the sweep file. Neither the clock nor the number
format of an element changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge

from tilewright.document import STRICT_FIELDS
from tilewright.hw_models.describe import figures
from tilewright.hw_models.spec import MachineSpec

__all__ = ["DESIGN_FIGURES", "AreaRule", "area_mm2", "area_rule_of", "base_values", "peak_tops"]

#: What a condition or a limit may call on before anything has run.
DESIGN_FIGURES = ("area_mm2", "peak_tops")

NotNegative = Annotated[float, Ge(0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaRule:
    """Square millimetres of one processing element, one vector lane, one KiB of buffer, and of what stays the same."""

    __pydantic_config__ = STRICT_FIELDS

    mm2_per_pe: NotNegative
    mm2_per_lane: NotNegative
    mm2_per_kib: NotNegative
    other_mm2: NotNegative = 0.0


def base_values(machine: MachineSpec) -> dict[str, Any]:
    """Every figure and choice of ``machine`` by its dotted path (buffers by name)."""
    return {
        field if section == "machine" else f"{section}.{field}": value for section, field, value in figures(machine)
    }


def area_rule_of(machine: MachineSpec) -> AreaRule | None:
    """The rule that gives ``machine`` its published area; None unless all three parts are known."""
    area = machine.area
    if area is None or area.matrix_mm2 is None or area.vector_mm2 is None or area.buffers_mm2 is None:
        return None
    values = base_values(machine)
    n_pes, n_lanes, kib = _sizes(values)
    parts = area.matrix_mm2 + area.vector_mm2 + area.buffers_mm2
    return AreaRule(
        mm2_per_pe=area.matrix_mm2 / n_pes,
        mm2_per_lane=area.vector_mm2 / n_lanes,
        mm2_per_kib=area.buffers_mm2 / kib,
        other_mm2=max(0.0, (area.total_mm2 or parts) - parts),
    )


def area_mm2(rule: AreaRule | None, values: Mapping[str, Any]) -> float | None:
    """Area of the design with ``values`` (dotted path -> value); None where nothing is known about area."""
    if rule is None:
        return None
    n_pes, n_lanes, kib = _sizes(values)
    return rule.mm2_per_pe * n_pes + rule.mm2_per_lane * n_lanes + rule.mm2_per_kib * kib + rule.other_mm2


def peak_tops(values: Mapping[str, Any]) -> float:
    """10^12 operations a second (a multiply-add is two) of the matrix units with their fastest number format."""
    prefix = "matrix.multiplies_per_pe_per_cycle."
    rate = max(float(value) for path, value in values.items() if path.startswith(prefix))
    per_block = values.get("matrix.block.depth", 1) / values.get("matrix.block.step_cycles", 1)
    n_pes, _, _ = _sizes(values)
    return float(2 * n_pes * per_block * rate * values["clock_ghz"] / 1000)


def _sizes(values: Mapping[str, Any]) -> tuple[float, float, float]:
    """Processing elements, vector lanes and KiB of buffers of the whole machine."""
    n_cores = values["n_cores"]
    kib = 0.0
    for path, value in values.items():
        if path.startswith("buffers.") and path.endswith(".capacity_kib"):
            shared = values.get(path.removesuffix("capacity_kib") + "shared_by_cores", False)
            kib += value * (1 if shared else n_cores)
    return values["matrix.rows"] * values["matrix.columns"] * n_cores, values["vector.lanes"] * n_cores, kib
