"""A handful of physical figures of a machine, fitted to one part of a table of measured times; the other part judges.

The model of a run is ``cycles(bytes per cycle) / clock + per_inference + n_commands * per_layer``: its cycles depend on
the DRAM only through the bytes that come in a cycle, so they are simulated at a few of these and interpolated
(logarithms, piecewise linear); what is reported is simulated anew with the fitted figures. Residuals are logarithms of
predicted over measured time, so that short and long runs count alike.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError, unknown
from tilewright.hw_models.spec import MachineSpec, SourceSpec
from tilewright.kernels.reading.runs import MeasuredRun
from tilewright.progress import Progress
from tilewright.search.devices.predict import Prediction, Subject
from tilewright.search.devices.validate import DeviceValidation, subjects_of, validation_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FIGURES", "SPLIT_RULE", "USUAL", "DeviceCalibration", "calibrate_device", "is_fitted_on"]

#: Figures that can be fitted: what is asked for, the field of the machine, and the range in which it is looked for.
FIGURES: Mapping[str, tuple[str, float, float]] = {
    "sustained_share": ("dram.sustained_share", 0.05, 1.0),
    "per_layer_us": ("overheads.per_layer_us", 0.0, 1e5),
    "per_inference_us": ("overheads.per_inference_us", 0.0, 1e7),
    "clock_ghz": ("clock_ghz", 0.25, 4.0),  # times the clock of the file
}
USUAL = ("sustained_share", "per_layer_us", "per_inference_us")
SPLIT_RULE = "rows whose name has an odd CRC-32 are fitted to, the others judge"
_SHARES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
_DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCalibration:
    """``fitted``: the machine with the fitted figures (``figures``, by name: before and after).

    Errors of the part that was fitted to and of the one held out, before and after.
    """

    machine: MachineSpec
    fitted: MachineSpec
    figures: Mapping[str, tuple[float, float]]
    fitted_before: DeviceValidation
    fitted_after: DeviceValidation
    held_out_before: DeviceValidation
    held_out_after: DeviceValidation
    left_out: tuple[tuple[str, str], ...]

    @property
    def carries_over(self) -> bool:
        """Whether the rows that were held out are nearer with the fitted figures."""
        return self.held_out_after.overall.mape <= self.held_out_before.overall.mape

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        parts = ("fitted_before", "fitted_after", "held_out_before", "held_out_after")
        return {
            "machine": self.machine.name,
            "split": SPLIT_RULE,
            "carries_over": self.carries_over,
            "figures": {name: {"before": old, "after": new} for name, (old, new) in self.figures.items()},
            **{part: getattr(self, part).to_dict() for part in parts},
            "left_out": [{"name": name, "reason": reason} for name, reason in self.left_out],
        }


def is_fitted_on(run: MeasuredRun) -> bool:
    """Whether ``run`` is of the part that figures are fitted to: a rule that looks at nothing but its name."""
    return zlib.crc32(run.name.strip().lower().encode()) % 2 == 1


def calibrate_device(
    machine: MachineSpec,
    runs: Sequence[MeasuredRun],
    *,
    names: Sequence[str] = USUAL,
    table: str = "a table",
    keep_mappings: bool = True,
    progress: Progress | None = None,
) -> DeviceCalibration:
    """Fit the figures ``names`` of ``machine`` to the rows of ``runs`` that :func:`is_fitted_on` chooses.

    Raises InputError for an unknown figure, and where either part has too few rows: as many as there are figures to
    fit, and one to judge.
    """
    for name in names:
        if name not in FIGURES:
            raise unknown("--fit", name, FIGURES)
    names = tuple(dict.fromkeys(names))
    found, left_out = subjects_of(machine, runs, keep_mappings=keep_mappings, progress=progress)
    own = [pair for pair in found if is_fitted_on(pair[0].run)]
    others = [pair for pair in found if not is_fitted_on(pair[0].run)]
    if len(own) < len(names) or not others:
        raise InputError(
            f"{table}: {len(own)} rows to fit {len(names)} figures to and {len(others)} to judge; allowed at least "
            f"{len(names)} and 1 ({SPLIT_RULE}; --fit asks for fewer figures)"
        )
    values = _fit(machine, own, names)
    fitted = _changed(machine, values, table, len(own))
    return DeviceCalibration(
        machine=machine,
        fitted=fitted,
        figures={name: (_figure(machine, name), _figure(fitted, name)) for name in names},
        fitted_before=validation_of(machine, own),
        fitted_after=validation_of(fitted, _again(fitted, own, keep_mappings)),
        held_out_before=validation_of(machine, others),
        held_out_after=validation_of(fitted, _again(fitted, others, keep_mappings)),
        left_out=tuple(left_out),
    )


def _again(
    machine: MachineSpec, found: Sequence[tuple[Subject, Prediction]], keep_mappings: bool
) -> list[tuple[Subject, Prediction]]:
    return [(subject, subject.predict(machine, keep_mappings=keep_mappings)) for subject, _ in found]


def _fit(machine: MachineSpec, found: Sequence[tuple[Subject, Prediction]], names: Sequence[str]) -> dict[str, float]:
    """The values of ``names`` with the least squares of logarithms."""
    import numpy as np
    from scipy.optimize import least_squares

    curves = [_Curve.of(subject, machine, "sustained_share" in names or "clock_ghz" in names) for subject, _ in found]
    measured = np.array([subject.run.seconds for subject, _ in found])
    low = np.array([_range(machine, name)[0] for name in names])
    high = np.array([_range(machine, name)[1] for name in names])
    start = np.clip([_figure(machine, name) for name in names], low, high)
    scale = np.array([_scale(machine, name, measured, found) for name in names])

    def residuals(values: NDArray[np.float64]) -> NDArray[np.float64]:
        given = {name: _figure(machine, name) for name in FIGURES} | dict(zip(names, values, strict=True))
        predicted: NDArray[np.float64] = np.array([curve.seconds(given) for curve in curves])
        return np.asarray(np.log(predicted / measured), dtype=np.float64)

    inner = np.clip(start, low + 1e-6 * np.minimum(scale, high - low), high - 1e-6 * np.minimum(scale, high - low))
    solution = least_squares(residuals, inner, bounds=(low, high), x_scale=scale)
    return {name: _rounded(float(value)) for name, value in zip(names, solution.x, strict=True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """A run's own cycles by the logarithm of the DRAM's bytes in a cycle (relative to the file at a share of one)."""

    rates: tuple[float, ...]
    cycles: tuple[float, ...]
    clock_ghz: float
    n_inferences: int
    n_commands: int

    @classmethod
    def of(cls, subject: Subject, machine: MachineSpec, varies: bool) -> _Curve:
        shares = _SHARES if varies else (machine.dram.sustained_share,)
        cycles = []
        for share in shares:
            found = subject.predict(_at_share(machine, share), same_mappings=True)
            cycles.append(float(max(1, found.cycles - found.fixed_cycles)))
        return cls(
            rates=tuple(shares),
            cycles=tuple(cycles),
            clock_ghz=machine.clock_ghz,
            n_inferences=0 if subject.alone else 1,
            n_commands=subject.n_commands,
        )

    def seconds(self, figures: Mapping[str, float]) -> float:
        import numpy as np

        rate = figures["sustained_share"] * self.clock_ghz / figures["clock_ghz"]
        cycles = float(np.exp(np.interp(np.log(rate), np.log(self.rates), np.log(self.cycles))))
        fixed_us = self.n_inferences * figures["per_inference_us"] + self.n_commands * figures["per_layer_us"]
        return cycles / (figures["clock_ghz"] * 1e9) + fixed_us * 1e-6


def _at_share(machine: MachineSpec, share: float) -> MachineSpec:
    return replace(machine, dram=replace(machine.dram, sustained_share=share))


def _figure(machine: MachineSpec, name: str) -> float:
    value: Any = machine
    for step in FIGURES[name][0].split("."):
        value = getattr(value, step)
    return float(value)


def _range(machine: MachineSpec, name: str) -> tuple[float, float]:
    _, low, high = FIGURES[name]
    return (low * machine.clock_ghz, high * machine.clock_ghz) if name == "clock_ghz" else (low, high)


def _scale(
    machine: MachineSpec, name: str, measured: NDArray[np.float64], found: Sequence[tuple[Subject, Prediction]]
) -> float:
    """What is a large change of a figure: all of the shortest run, for costs in time."""
    shortest_us = float(measured.min()) * 1e6
    if name == "per_inference_us":
        return shortest_us
    if name == "per_layer_us":
        return shortest_us / max(1, min(subject.n_commands for subject, _ in found))
    return 1.0 if name == "sustained_share" else machine.clock_ghz


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}") if abs(value) > 1e-6 else 0.0


def _changed(machine: MachineSpec, values: Mapping[str, float], table: str, n_rows: int) -> MachineSpec:
    """``machine`` with the fitted figures, each with its source."""
    fitted = machine.with_(**{FIGURES[name][0]: value for name, value in values.items()})
    notes = tuple(
        SourceSpec(
            fields=(FIGURES[name][0],),
            kind="measured",
            source=f"fitted to {n_rows} rows of {table} by tilewright calibrate; {_figure(machine, name):g} before",
        )
        for name in values
    )
    return replace(fitted, sources=(*notes, *machine.sources))
