"""Predicted times for a table of measured ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import CalibrationSpec, Operator, Parameters, calibration_of
from tilewright.hw_models.gpu.parameters import (
    AttentionParameters,
    ExpertsParameters,
    GemmParameters,
    LatentParameters,
    RowListParameters,
    RowwiseParameters,
    ScanParameters,
    StreamParameters,
)
from tilewright.hw_models.spec import MachineSpec
from tilewright.kernels.measured import COLUMNS, LEAST_SIZES, MeasuredTable
from tilewright.search.gpu.energy import KernelFigures, power_of, seconds_under_limit
from tilewright.search.gpu.model import Prediction, model_of
from tilewright.search.gpu.stand_in import kernel_family, parameters_of
from tilewright.sim.gpu.device import GpuDevice, gpu_device
from tilewright.sim.gpu.power import kernel_power

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tilewright.sim.gpu.attention import AttentionShapes

__all__ = [
    "Prediction",
    "attention_shapes",
    "kernel_energy",
    "kernel_seconds",
    "kernel_times",
    "predict",
    "predict_with",
    "ready",
    "with_activity",
]

_COLD = 1000  # nothing of the operands lies in the L2 yet
#: What a shape has that does not say it.
_USUAL: dict[Operator, dict[str, int]] = {
    "attention": {"window": 0},
    "experts": {"tensor_parts": 1, "expert_parts": 1, "skew_milli": 0},
}


def kernel_seconds(machine: MachineSpec, operator: Operator, family: str, **shape: int) -> float:
    """Seconds of one kernel on ``machine``, with the calibration that comes with it.

    ``shape``: the columns of the operator (:data:`tilewright.kernels.measured.COLUMNS`; ``window`` may be left out).
    ``kernel_seconds(load_machine("h200"), "gemm", "bf16", m=4096, n=4096, k=4096)``. Raises :class:`InputError` for a
    machine that is no GPU, a family that is not calibrated, and a shape with other or not positive extents.
    """
    table = one_kernel(machine, operator, family, shape)
    device, parameters, calibration = ready(machine, operator, family)
    return float(_times(device, parameters, calibration, table)[0])


def kernel_times(
    machine: MachineSpec,
    operator: Operator,
    family: str,
    columns: Mapping[str, Sequence[int]],
    *,
    memory_share: float = 0.0,
) -> NDArray[np.float64]:
    """As :func:`kernel_seconds`, of many kernels at once: ``columns`` are equally long, what they lack is as usual.

    ``memory_share``: of the data sheet's bandwidth, in place of the calibration's (0: that).
    """
    import numpy as np

    first = {name: int(values[0]) for name, values in columns.items()}
    one = one_kernel(machine, operator, family, first)
    size = len(next(iter(columns.values())))
    rows = {
        name: np.asarray(columns[name]) if name in columns else np.repeat(each, size)
        for name, each in one.columns.items()
    }
    device, parameters, calibration = ready(machine, operator, family)
    if memory_share and isinstance(parameters, GemmParameters | AttentionParameters):
        parameters = replace(parameters, memory_share=memory_share)
    return _times(device, parameters, calibration, replace(one, columns=rows, seconds=np.ones(size)))


def _times(
    device: GpuDevice, parameters: Parameters, calibration: CalibrationSpec, table: MeasuredTable
) -> NDArray[np.float64]:
    found = predict_with(device, parameters, table)
    if device.power_limit_w != power_of(device, calibration).limit_w:
        found = with_activity(device, parameters, table, found)
    return _limited(device, calibration, found).seconds


def kernel_energy(
    machine: MachineSpec, operator: Operator, family: str, *, zeros: bool = False, **shape: int
) -> KernelFigures:
    """Seconds (those of :func:`kernel_seconds`), joules by part, power and clock of one kernel on ``machine``.

    ``operator``, ``family``, ``shape`` and what is raised: as for :func:`kernel_seconds`. ``zeros``: operands of
    products are zeros, which switch less. Power is the mean over the kernel, at most the board's limit.
    """
    table = one_kernel(machine, operator, family, shape)
    device, parameters, calibration = ready(machine, operator, family)
    found = with_activity(device, parameters, table, predict_with(device, parameters, table))
    if found.activity is None:
        raise InputError(f"{machine.name}: the energy of {operator} kernels {family} is not modelled")
    power = power_of(device, calibration)
    under = kernel_power(
        power, found.activity, found.seconds, limit_w=device.power_limit_w, core_bound=found.bound == 1, zeros=zeros
    )
    return KernelFigures.of(device, power, under, 0)


def one_kernel(machine: MachineSpec, operator: Operator, family: str, shape: Mapping[str, int]) -> MeasuredTable:
    """One kernel as a table of one row with no time; raises :class:`InputError` for an extent that cannot be."""
    import numpy as np

    if operator == "scheduled":
        raise InputError("scheduled: names parameters, no operator; allowed for example gemm, attention")
    given = {**_USUAL.get(operator, {}), **shape}
    wanted = COLUMNS[operator]
    if set(given) != set(wanted):
        raise InputError(f"{operator}: shape given as {', '.join(given) or 'nothing'}; allowed {', '.join(wanted)}")
    for name, extent in given.items():
        least = LEAST_SIZES.get(name, 1)
        if extent < least:
            raise InputError(f"{operator}: {name}: given {extent}; allowed at least {least}")
    return MeasuredTable(
        name=f"one {family} kernel",
        operator=operator,
        family=family,
        device=machine.name,
        columns={name: np.array([given[name]]) for name in wanted},
        seconds=np.ones(1),
        source="",
        copies=_COLD,
        cache_bits=8 if family.endswith("_fp8") else 16,
    )


@lru_cache(maxsize=64)
def ready(machine: MachineSpec, operator: Operator, family: str) -> tuple[GpuDevice, Parameters, CalibrationSpec]:
    """Device, parameters of the family, and the calibration that comes with ``machine``."""
    device, calibration = gpu_device(machine), calibration_of(machine)
    return device, parameters_of(device, calibration, operator, family).parameters, calibration


def predict(device: GpuDevice, calibration: CalibrationSpec, table: MeasuredTable) -> Prediction:
    """Predictions by the model that covers the table; raises :class:`InputError` where there is none.

    A family that is not calibrated is timed with the parameters of its nearest relative, which the prediction names.
    """
    return _limited(device, calibration, model_of(table).forecast(device, calibration, table))


def _limited(device: GpuDevice, calibration: CalibrationSpec, prediction: Prediction) -> Prediction:
    """The prediction under the board's own limit, where it is another one than that of the measurements."""
    if prediction.activity is None:
        return prediction
    power = power_of(device, calibration)
    return replace(
        prediction,
        seconds=seconds_under_limit(device, power, prediction.activity, prediction.seconds, prediction.bound),
    )


def predict_with(device: GpuDevice, parameters: Parameters, table: MeasuredTable) -> Prediction:
    """Predictions with ``parameters``, the class of which must be that of the table's operator."""
    columns = table.columns
    if table.operator == "gemm" and isinstance(parameters, GemmParameters):
        from tilewright.sim.gpu.families import gemm_family
        from tilewright.sim.gpu.gemm import GemmShapes, gemm_forecast

        products = GemmShapes(
            m=columns["m"],
            n=columns["n"],
            k=columns["k"],
            weight_copies=table.weight_copies,
            copies=table.copies,
            sustained=table.sustained,
        )
        product = gemm_forecast(device, gemm_family(table.family), parameters, products)
        return Prediction(seconds=product.seconds, bound=product.bound, activity=product.activity)
    if table.operator == "attention" and isinstance(parameters, AttentionParameters):
        from tilewright.sim.gpu.attention import attention_family, attention_forecast

        attention = attention_forecast(device, attention_family(table.family), parameters, attention_shapes(table))
        return Prediction(seconds=attention.seconds, bound=attention.bound, activity=attention.activity)
    if table.operator == "rowwise" and isinstance(parameters, RowwiseParameters):
        from tilewright.sim.gpu.rowwise import RowwiseShapes, rowwise_family, rowwise_forecast

        rows = RowwiseShapes(m=columns["m"], n=columns["n"], copies=table.copies)
        row = rowwise_forecast(device, rowwise_family(table.family), parameters, rows)
        return Prediction(seconds=row.seconds, bound=row.bound, activity=row.activity)
    if table.operator == "experts" and isinstance(parameters, ExpertsParameters):
        from tilewright.sim.gpu.experts import EXPERTS_FAMILIES, ExpertsShapes, experts_forecast

        layers = ExpertsShapes(**{name: columns[name] for name in COLUMNS["experts"]})
        layer = experts_forecast(device, EXPERTS_FAMILIES.get(table.family), parameters, layers)
        return Prediction(seconds=layer.seconds, bound=layer.bound, activity=layer.activity)
    if table.operator == "latent" and isinstance(parameters, LatentParameters):
        from tilewright.sim.gpu.latent import LATENT_FAMILIES, LatentShapes, latent_forecast

        shapes = LatentShapes(**{name: columns[name] for name in COLUMNS["latent"]})
        latent = latent_forecast(device, LATENT_FAMILIES.get(table.family), parameters, shapes)
        return Prediction(seconds=latent.seconds, bound=latent.bound, activity=latent.activity)
    if isinstance(parameters, (ScanParameters, StreamParameters, RowListParameters)):
        return _listed(device, parameters, table)
    raise InputError(f"{table.name}: parameters of another operator than {table.operator}")


def _listed(
    device: GpuDevice, parameters: ScanParameters | StreamParameters | RowListParameters, table: MeasuredTable
) -> Prediction:
    """Scans, convolutions, steps of a state, attention over lists: closed forms, without what they do."""
    from tilewright.sim.gpu.row_lists import block_list_times, token_top_k_times
    from tilewright.sim.gpu.scans import scan_times
    from tilewright.sim.gpu.streams import conv_times, step_times

    columns = {name: values.astype(float) for name, values in table.columns.items()}
    family: Any = _family(table)
    if table.operator == "scan" and isinstance(parameters, ScanParameters):
        seconds, bound = scan_times(device, family, parameters, columns)
    elif table.operator == "short_conv" and isinstance(parameters, StreamParameters):
        seconds, bound = conv_times(device, family, parameters, columns)
    elif table.operator == "state_step" and isinstance(parameters, StreamParameters):
        seconds, bound = step_times(device, family, parameters, columns)
    elif table.operator == "token_top_k" and isinstance(parameters, RowListParameters):
        seconds, bound = token_top_k_times(device, family, parameters, columns)
    elif table.operator == "block_lists" and isinstance(parameters, RowListParameters):
        seconds, bound = block_list_times(device, family, parameters, columns)
    else:
        raise InputError(f"{table.name}: parameters of another operator than {table.operator}")
    return Prediction(seconds=seconds, bound=bound)


def with_activity(
    device: GpuDevice, parameters: Parameters, table: MeasuredTable, prediction: Prediction
) -> Prediction:
    """``prediction`` with what kernels of scans, convolutions, steps of a state and lists do, as others say already."""
    if prediction.activity is not None or not isinstance(
        parameters, (ScanParameters, StreamParameters, RowListParameters)
    ):
        return prediction
    from tilewright.sim.gpu.listed_activity import listed_activity

    columns = {name: values.astype(float) for name, values in table.columns.items()}
    activity = listed_activity(device, table.operator, _family(table), parameters, columns)
    return replace(prediction, activity=activity)


def _family(table: MeasuredTable) -> Any:
    return kernel_family(cast(Operator, table.operator), table.family)


def attention_shapes(table: MeasuredTable) -> AttentionShapes:
    """The shapes of an attention table as the simulator takes them."""
    from tilewright.sim.gpu.attention import AttentionShapes

    columns = table.columns
    return AttentionShapes(
        batch=columns["batch"],
        queries=columns["queries"],
        keys=columns["keys"],
        heads=columns["heads"],
        kv_heads=columns["kv_heads"],
        head_dim=columns["head_dim"],
        window=columns["window"],
        cache_bits=table.cache_bits,
        copies=table.copies,
        sustained=table.sustained,
    )
