"""How far the predictions for a machine are from what was measured on it: by row and in all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.kernels.reading.runs import MeasuredRun
from tilewright.progress import Progress
from tilewright.search.devices.predict import Prediction, Subject, subject_of
from tilewright.search.gpu.validate import ErrorFigures, error_figures

__all__ = ["DeviceRow", "DeviceValidation", "subjects_of", "validate_device", "validation_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """A row of a table with its prediction; ``error`` is predicted over measured time, less one."""

    run: MeasuredRun
    prediction: Prediction

    @property
    def error(self) -> float:
        return self.prediction.seconds / self.run.seconds - 1

    @property
    def energy_ratio(self) -> float | None:
        """Predicted over measured energy; None where it was not measured."""
        return None if self.run.joules is None else self.prediction.energy_pj * 1e-12 / self.run.joules

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        run, found = self.run, self.prediction
        return {
            "name": run.name,
            "batch": run.batch,
            "weights": run.weights,
            "activations": run.activations,
            "measured_ms": run.seconds * 1e3,
            "predicted_ms": found.seconds * 1e3,
            "error": self.error,
            "limited_by": found.limited_by,
            "predicted_cycles": found.cycles,
            "fixed_cycles": found.fixed_cycles,
            "measured_mj": None if run.joules is None else run.joules * 1e3,
            "predicted_mj": found.energy_pj * 1e-9,
            "energy_ratio": self.energy_ratio,
            "notes": run.notes,
            "place": run.place,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceValidation:
    """All rows of tables on a machine. ``overall``: errors of time; ``energy``: of energy, where it was measured.

    ``factor``: what all predictions must be multiplied by for a geometric bias of none; ``mape_after_factor``: the mean
    error that then is left. ``left_out``: rows that could not be predicted, and why.
    """

    machine: str
    rows: tuple[DeviceRow, ...]
    left_out: tuple[tuple[str, str], ...]
    overall: ErrorFigures
    energy: ErrorFigures | None
    factor: float
    mape_after_factor: float
    assumptions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "machine": self.machine,
            "overall": self.overall.to_dict(),
            "energy": None if self.energy is None else self.energy.to_dict(),
            "factor": self.factor,
            "mape_after_factor": self.mape_after_factor,
            "rows": [row.to_dict() for row in self.rows],
            "left_out": [{"name": name, "reason": reason} for name, reason in self.left_out],
            "assumptions": list(self.assumptions),
        }


def validate_device(
    machine: MachineSpec,
    runs: Sequence[MeasuredRun],
    *,
    left_out: Sequence[tuple[str, str]] = (),
    keep_mappings: bool = True,
    progress: Progress | None = None,
) -> DeviceValidation:
    """Predict each of ``runs`` on ``machine`` and compare; ``left_out`` are rows that are known to be no help.

    A row that names nothing that is known, or that the machine cannot run, is left out with the reason. Raises
    InputError where no row is left.
    """
    subjects, faults = subjects_of(machine, runs, keep_mappings=keep_mappings, progress=progress)
    return validation_of(machine, subjects, left_out=[*left_out, *faults])


def subjects_of(
    machine: MachineSpec,
    runs: Sequence[MeasuredRun],
    *,
    keep_mappings: bool = True,
    progress: Progress | None = None,
) -> tuple[list[tuple[Subject, Prediction]], list[tuple[str, str]]]:
    """What can be predicted of ``runs`` with its prediction, and the rest with the reason."""
    found, faults = [], []
    for at, run in enumerate(runs):
        if progress is not None:
            progress(at, len(runs), run.name)
        try:
            subject = subject_of(run, machine)
            found.append((subject, subject.predict(machine, keep_mappings=keep_mappings)))
        except InputError as fault:
            faults.append((f"{run.name} ({run.place})", str(fault).replace("\n", "; ")))
    if progress is not None:
        progress(len(runs), len(runs), machine.name)
    return found, faults


def validation_of(
    machine: MachineSpec, found: Sequence[tuple[Subject, Prediction]], *, left_out: Sequence[tuple[str, str]] = ()
) -> DeviceValidation:
    """The comparison of predictions that are made; raises InputError where there is none."""
    import numpy as np

    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out[:3])
        raise InputError(f"{machine.name}: no row can be compared ({reasons or 'there is none'})")
    rows = tuple(DeviceRow(run=subject.run, prediction=prediction) for subject, prediction in found)
    predicted = np.array([row.prediction.seconds for row in rows])
    measured = np.array([row.run.seconds for row in rows])
    factor = float(np.exp(-np.mean(np.log(predicted / measured))))
    ratios = [row.energy_ratio for row in rows if row.energy_ratio]
    return DeviceValidation(
        machine=machine.name,
        rows=rows,
        left_out=tuple(left_out),
        overall=error_figures(predicted, measured),
        energy=error_figures(np.array(ratios), np.ones(len(ratios))) if ratios else None,
        factor=factor,
        mape_after_factor=float(np.abs(predicted * factor / measured - 1).mean()),
        assumptions=tuple(dict.fromkeys(text for row in rows for text in row.prediction.assumptions)),
    )
