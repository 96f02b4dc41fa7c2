"""Energy of predicted kernels: whose figures count on a board, and what one kernel takes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tilewright.hw_models.gpu.calibration import CalibrationSpec
from tilewright.hw_models.gpu.power import PowerSpec, measured_board
from tilewright.sim.gpu.activity import Activity
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.power import KernelPower, kernel_power

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KernelFigures", "power_of", "seconds_under_limit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFigures:
    """One kernel: seconds, joules and their parts (:data:`tilewright.sim.gpu.power.PARTS`), mean power, clock.

    ``energy_from``: whose measured figures the energy is from, or that it is from the machine's file.
    """

    seconds: float
    joules: float
    watts: float
    clock_ghz: float
    joules_by_part: dict[str, float] = field(hash=False)
    energy_from: str

    @classmethod
    def of(cls, device: GpuDevice, power: PowerSpec, kernels: KernelPower, row: int) -> KernelFigures:
        """The kernel in place ``row`` of ``kernels``."""
        parts = {name: float(joules[row]) for name, joules in kernels.joules.items()}
        return cls(
            seconds=float(kernels.seconds[row]),
            joules=sum(parts.values()),
            watts=float(kernels.watts[row]),
            clock_ghz=float(kernels.clock_share[row]) * device.clock_hz / 1e9,
            joules_by_part=parts,
            energy_from=power.told,
        )

    def to_dict(self) -> dict[str, float | str | dict[str, float]]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


def power_of(device: GpuDevice, calibration: CalibrationSpec) -> PowerSpec:
    """The energy figures that count on ``device``: its board's, a like board's, else those of its machine file.

    Their limit is the one under which times on ``device`` hold: that of its machine file as it comes.
    """
    for name in device.boards:
        found = calibration.power_of(name) or measured_board(name)
        if found is not None:
            return replace(found, limit_w=device.power.limit_w)
    return device.power


def seconds_under_limit(
    device: GpuDevice,
    power: PowerSpec,
    activity: Activity,
    seconds: NDArray[np.float64],
    bound: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Times under the board's own limit, of kernels whose ``seconds`` hold under that of the measurements."""
    if device.power_limit_w == power.limit_w:
        return seconds
    return kernel_power(power, activity, seconds, limit_w=device.power_limit_w, core_bound=bound == 1).seconds
