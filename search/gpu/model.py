"""What times the rows of a table of measured kernels: models by name, each of which says which tables it covers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import CalibrationSpec
from tilewright.kernels.measured import MeasuredTable
from tilewright.registry import LAST, Registry
from tilewright.sim.gpu.activity import Activity
from tilewright.sim.gpu.device import GpuDevice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KERNEL_MODELS", "TABLES_APART", "KernelModel", "Prediction", "calibrates", "model_of", "register_model"]

#: Between the names of the tables that one set of parameters was fitted to.
TABLES_APART = "; "


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Seconds for each row of a table, and what limits it (positions in :data:`tilewright.sim.gpu.gemm.BOUNDS`).

    ``stand_in``: the family whose parameters were used where the table's own has none on the device. ``measured``: the
    tables (:data:`TABLES_APART`) that the parameters were fitted to, on the device ``measured_on``. ``activity``: what
    the kernels do, for their energy; None where a model does not say.
    """

    seconds: NDArray[np.float64] = field(hash=False)
    bound: NDArray[np.int64] = field(hash=False)
    stand_in: str = ""
    measured: str = ""
    measured_on: str = ""
    activity: Activity | None = field(default=None, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelModel:
    """``covers`` a table or not; ``forecast``: its rows on a device, with the parameters of a calibration.

    ``forecast`` raises :class:`InputError` where the calibration has nothing that could stand in.
    """

    name: str
    summary: str
    covers: Callable[[MeasuredTable], bool] = field(hash=False)
    forecast: Callable[[GpuDevice, CalibrationSpec, MeasuredTable], Prediction] = field(hash=False)


KERNEL_MODELS: Registry[KernelModel] = Registry("model of kernels", rooms=("tilewright.search.gpu.models",))


def register_model(model: KernelModel, *, rank: int = LAST) -> KernelModel:
    """Make ``model`` known; one of a lower ``rank`` is asked first."""
    return KERNEL_MODELS.register(model.name, model, rank=rank)


def model_of(table: MeasuredTable) -> KernelModel:
    """The model that times ``table``; raises :class:`InputError` where none covers it."""
    for model in KERNEL_MODELS.values():
        if model.covers(table):
            return model
    raise InputError(f"no model of {table.operator} kernels {table.family}")


def calibrates(measured: str, name: str) -> bool:
    """Whether the table ``name`` is one of those that parameters were fitted to (``Prediction.measured``)."""
    return name in measured.split(TABLES_APART)
