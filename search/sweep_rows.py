"""A stored point as a flat row, with what its design says about area and peak rate and whether the limits hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilewright.search.store import StoredPoint
from tilewright.search.sweep_space import design_values
from tilewright.search.sweep_spec import Sweep

__all__ = ["flat_row", "n_broken_limits"]


def flat_row(sweep: Sweep, base: dict[str, Any], point: StoredPoint) -> dict[str, Any]:
    """``point`` with the columns of :func:`tilewright.search.sweep.sweep_rows`.

    ``base`` are the figures of the base machine (:func:`tilewright.search.design_figures.base_values`).
    """
    values = design_values(sweep, base, dict(point.parameters))
    row: dict[str, Any] = {
        "machine": point.machine,
        "workload": point.workload,
        "dataflow": point.dataflow,
        "objective": point.objective,
        **point.parameters,
        "area_mm2": values["area_mm2"],
        "peak_tops": values["peak_tops"],
        "status": point.status,
        "cycles": point.cycles,
        "seconds": point.seconds,
        "energy_pj": point.energy_pj,
        "power_w": point.power_w,
    }
    row["within_limits"] = point.status == "done" and n_broken_limits(sweep, row) == 0
    row.update({name: value for name, value in point.result.items() if name not in row})
    return row | {"error": point.error, "evaluation_s": point.evaluation_s, "key": point.key}


def n_broken_limits(sweep: Sweep, row: Mapping[str, Any]) -> int:
    """How many limits of ``sweep`` the finished ``row`` does not keep."""
    figures = {**row, "latency_ms": row["seconds"] * 1e3, "energy_mj": row["energy_pj"] * 1e-9}
    return sum(not limit.holds(figures) for limit in sweep.limits)
