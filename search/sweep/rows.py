"""A stored point as a flat row, with what its design says about area and peak rate and whether the limits hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tilewright.document_yaml import quoted
from tilewright.search.sweep.space import design_values
from tilewright.search.sweep.spec import Sweep
from tilewright.search.sweep.store import StoredPoint

__all__ = ["design_check", "flat_row", "n_broken_limits"]


def design_check(sweep: Sweep) -> Callable[[StoredPoint], None]:
    """A function that raises ValueError for a stored point that is none that ``sweep`` could have."""
    allowed = {}
    for axis in sweep.axes:
        for at, path in enumerate(axis.paths):
            known = [axis.interval.at(0.0)] if axis.interval is not None else [values[at] for values in axis.settings]
            allowed[path] = {_kind(value) for value in known}

    names: dict[str, tuple[str, ...]] = {
        "machine": (sweep.machine.name,),
        "workload": tuple(layer.name for layer in sweep.layers),
        "dataflow": sweep.dataflows,
        "objective": (sweep.objective,),
    }

    def check(point: StoredPoint) -> None:
        for name, own in names.items():
            if getattr(point, name) not in own:
                raise ValueError(f"{name}: not of the sweep; given {quoted(getattr(point, name))}")
        if point.parameters.keys() != allowed.keys():
            raise ValueError(f"parameters: not those of the sweep; allowed {', '.join(allowed)}")
        for path, value in point.parameters.items():
            if _kind(value) not in allowed[path]:
                raise ValueError(f"parameters: {path}: not of the kind that the sweep gives it")

    return check


def _kind(value: Any) -> str:
    """What a parameter is; a number that is not positive is another thing than one that is."""
    if isinstance(value, bool | str):
        return type(value).__name__
    return "positive" if value > 0 else "other"


def flat_row(sweep: Sweep, base: dict[str, Any], point: StoredPoint) -> dict[str, Any]:
    """``point`` with the columns of :func:`tilewright.search.sweep.run.sweep_rows`.

    ``base`` are the figures of the base machine (:func:`tilewright.search.sweep.design_figures.base_values`).
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
