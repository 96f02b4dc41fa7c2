"""The parameters of a family of kernels on a device: its own, else those of its nearest relative."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import CalibrationSpec, FamilySpec, Operator, Parameters
from tilewright.sim.gpu.attention import ATTENTION_FAMILIES, AttentionFamily
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.families import GEMM_FAMILIES, GemmFamily
from tilewright.sim.gpu.rowwise import ROWWISE_FAMILIES, RowwiseFamily

__all__ = ["ChosenParameters", "kernel_family", "parameters_of", "relative_parameters"]

_LEAST_LAUNCH_US = 0.5  # of a parameter
Family = GemmFamily | AttentionFamily | RowwiseFamily


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenParameters:
    """``parameters`` for a family; ``stand_in``: the relative that they are of, empty where they are its own.

    ``measured``: the table that they were fitted to, on the device ``measured_on``.
    """

    parameters: Parameters
    stand_in: str
    measured: str
    measured_on: str


def kernel_family(operator: Operator, name: str) -> Family:
    """The family called ``name``; raises :class:`InputError` for another word."""
    if operator == "gemm":
        return GEMM_FAMILIES.get(name)
    return ATTENTION_FAMILIES.get(name) if operator == "attention" else ROWWISE_FAMILIES.get(name)


def parameters_of(device: GpuDevice, calibration: CalibrationSpec, operator: Operator, name: str) -> ChosenParameters:
    """The parameters that time the family ``name`` on ``device``: its own, else those of its nearest relative.

    Raises :class:`InputError` where neither the family nor a relative is calibrated.
    """
    kernel_family(operator, name)
    if calibration.has(operator, name):
        entry = calibration.family(operator, name)
        return _chosen(calibration, entry, entry.typed(), stand_in="")
    return relative_parameters(device, calibration, operator, name)


def relative_parameters(
    device: GpuDevice, calibration: CalibrationSpec, operator: Operator, name: str
) -> ChosenParameters:
    """The parameters of the nearest calibrated relative of the family ``name``, as far as they are alike.

    A family of single kernels has the launch of the device's shortest kernel: the relative's launch holds what its
    framework does. Raises :class:`InputError` where no relative is calibrated.
    """
    family = kernel_family(operator, name)
    for candidate in family.relatives:
        if calibration.has(operator, candidate):
            entry = calibration.family(operator, candidate)
            parameters = entry.typed()
            if family.alone and not kernel_family(operator, candidate).alone:
                parameters = replace(parameters, launch_us=max(device.launch_s * 1e6, _LEAST_LAUNCH_US))
            return _chosen(calibration, entry, parameters, stand_in=candidate)
    known = [each.family for each in calibration.families if each.operator == operator]
    raise InputError(
        f"{calibration.device}: no calibrated {operator} kernels {name} nor a relative of them; "
        f"allowed {', '.join(known) or 'none'}"
    )


def _chosen(
    calibration: CalibrationSpec, entry: FamilySpec, parameters: Parameters, *, stand_in: str
) -> ChosenParameters:
    return ChosenParameters(
        parameters=parameters,
        stand_in=stand_in,
        measured=entry.measured,
        measured_on=entry.device or calibration.device,
    )
