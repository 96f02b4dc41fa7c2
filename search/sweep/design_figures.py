"""Figures of a design that need no run: its silicon area, what it leaks, and its peak rate.

Area is in proportion: so many square millimetres for a processing element, a vector lane and a KiB of buffer, taken
from the parts of area that the base machine publishes, given in the sweep file, or added up from published parts at a
node. Leakage is in proportion to area. The clock changes neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge

from tilewright.document import STRICT_FIELDS
from tilewright.hw_models.area import part_area
from tilewright.hw_models.describe import figures
from tilewright.hw_models.spec import MachineSpec

__all__ = [
    "DESIGN_FIGURES",
    "AreaChoice",
    "AreaRule",
    "area_mm2",
    "area_rule_of",
    "base_values",
    "leakage_mw",
    "peak_tops",
    "with_leakage",
]

#: What a condition or a limit may call on before anything has run.
DESIGN_FIGURES = ("area_mm2", "peak_tops")

NotNegative = Annotated[float, Ge(0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaRule:
    """Square millimetres of one processing element, one vector lane, one KiB of buffer, and of what stays the same.

    Leakage is in milliwatts for a square millimetre of elements and lanes, and for a KiB of buffer.
    """

    mm2_per_pe: float
    mm2_per_lane: float
    mm2_per_kib: float
    other_mm2: float = 0.0
    leakage_mw_per_mm2: float = 0.0
    leakage_mw_per_kib: float = 0.0


_SIZES = ("mm2_per_pe", "mm2_per_lane", "mm2_per_kib")
_PARTS = ("node_nm", "pe_format", "lane_format")


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaChoice:
    """Area as a sweep file gives it: three rates, or a node and the formats of its multiply-adds."""

    __pydantic_config__ = STRICT_FIELDS

    mm2_per_pe: NotNegative | None = None
    mm2_per_lane: NotNegative | None = None
    mm2_per_kib: NotNegative | None = None
    node_nm: int | None = None
    pe_format: str | None = None
    lane_format: str | None = None
    other_mm2: NotNegative = 0.0
    leakage_mw_per_mm2: NotNegative | None = None
    leakage_mw_per_kib: NotNegative | None = None

    def __post_init__(self) -> None:
        rates = [name for name in _SIZES if getattr(self, name) is not None]
        parts = [name for name in _PARTS if getattr(self, name) is not None]
        whole = len(rates) == len(_SIZES) if rates else {"node_nm", "pe_format"} <= set(parts)
        if not whole or (rates and parts):
            given = ", ".join((*rates, *parts)) or "neither"
            raise ValueError(
                f"not a rule; given {given}; "
                f"allowed {', '.join(_SIZES)} together, or node_nm, pe_format and lane_format"
            )

    def rule(self) -> AreaRule:
        """The rates that this stands for. Raises InputError for an unknown node or format."""
        if self.node_nm is None or self.pe_format is None:
            return AreaRule(
                mm2_per_pe=self.mm2_per_pe or 0.0,
                mm2_per_lane=self.mm2_per_lane or 0.0,
                mm2_per_kib=self.mm2_per_kib or 0.0,
                other_mm2=self.other_mm2,
                leakage_mw_per_mm2=self.leakage_mw_per_mm2 or 0.0,
                leakage_mw_per_kib=self.leakage_mw_per_kib or 0.0,
            )
        parts = part_area(self.node_nm, self.pe_format, self.lane_format or "fp16")
        per_mm2, per_kib = self.leakage_mw_per_mm2, self.leakage_mw_per_kib
        return AreaRule(
            mm2_per_pe=parts.mm2_per_pe,
            mm2_per_lane=parts.mm2_per_lane,
            mm2_per_kib=parts.mm2_per_kib,
            other_mm2=self.other_mm2,
            leakage_mw_per_mm2=parts.leakage_mw_per_mm2 if per_mm2 is None else per_mm2,
            leakage_mw_per_kib=parts.leakage_mw_per_kib if per_kib is None else per_kib,
        )


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


def leakage_mw(rule: AreaRule | None, values: Mapping[str, Any]) -> float:
    """What the design with ``values`` leaks by ``rule``, in milliwatts, beside the machine's own ``static_mw``."""
    if rule is None:
        return 0.0
    n_pes, n_lanes, kib = _sizes(values)
    logic_mm2 = rule.mm2_per_pe * n_pes + rule.mm2_per_lane * n_lanes
    return rule.leakage_mw_per_mm2 * logic_mm2 + rule.leakage_mw_per_kib * kib


def with_leakage(rule: AreaRule | None, base: Mapping[str, Any], design: Mapping[str, Any]) -> dict[str, Any]:
    """``design`` with what its area leaks on top of the static power that it, or the machine of ``base``, gives."""
    values = {**base, **design}
    leaks_mw = leakage_mw(rule, values)
    return {**design, "energy.static_mw": values["energy.static_mw"] + leaks_mw} if leaks_mw else dict(design)


def peak_tops(values: Mapping[str, Any]) -> float:
    """10^12 operations a second (a multiply-add is two) of the matrix units with their fastest number format."""
    prefix = "matrix.multiplies_per_pe_per_cycle."
    rate = max(float(value) for path, value in values.items() if path.startswith(prefix))
    n_multipliers, _, _ = _sizes(values)
    return float(2 * n_multipliers * rate * values["clock_ghz"] / 1000)


def _sizes(values: Mapping[str, Any]) -> tuple[float, float, float]:
    """Multiply-adds that start in a cycle at a rate of 1, vector lanes and KiB of buffers, of the whole machine."""
    n_cores = values["n_cores"]
    kib = 0.0
    for path, value in values.items():
        if path.startswith("buffers.") and path.endswith(".capacity_kib"):
            shared = values.get(path.removesuffix("capacity_kib") + "shared_by_cores", False)
            kib += value * (1 if shared else n_cores)
    per_pe = values.get("matrix.block.depth", 1) / values.get("matrix.block.step_cycles", 1)
    n_multipliers = values["matrix.rows"] * values["matrix.columns"] * per_pe * n_cores
    return n_multipliers, values["vector.lanes"] * n_cores, kib
