"""Fit the figures of convolutions and of gaps between kernels: a handful, to measured networks and calls.

Convolutions: launch (the same for depthwise ones), latency of a step along k, pace of a depthwise kernel, by least
squares of the logarithm of predicted over measured time of whole networks. The gap: calls of several kernels against
the sum of their kernels' times, by relative least squares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tilewright.hw_models.gpu.calibration import calibration_of
from tilewright.hw_models.gpu.launches import LaunchFigures, MovingFigures, launch_figures_of
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.gpu.library import LibraryOfMachine
from tilewright.search.gpu.network import time_launches
from tilewright.search.gpu.predict import predict
from tilewright.sim.gpu.launches.residence import found_in_cache
from tilewright.sim.gpu.launches.unfused import unfused_launches

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tilewright.kernels.measured import MeasuredTable
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["fit_convolutions", "fit_gap_us"]

_BOUNDS = ((2.0, 14.0), (10.0, 3000.0), (1.0, 100.0))  # launch_us, step_cycles, taps_per_cycle of depthwise ones
_STARTS = ((5.0, 1000.0, 8.0), (8.0, 300.0, 16.0), (3.0, 2000.0, 4.0))
_EVALUATIONS = 20
_KERNELS: Mapping[str, int] = {"torch_mlp": 3, "torch_norm_gemm": 2}  # of one call


def fit_gap_us(machine: MachineSpec, tables: Sequence[MeasuredTable]) -> float:
    """Microseconds from kernel to kernel in one graph that ``tables`` of calls of several kernels show, at least 0."""
    import numpy as np

    device_figures, calibration = LibraryOfMachine(machine).device, calibration_of(machine)
    weights, residuals = [], []
    for table in tables:
        if table.family in _KERNELS and not table.tile_columns:
            predicted = predict(device_figures, calibration, table).seconds
            weights.append(_KERNELS[table.family] / table.seconds)
            residuals.append(1 - predicted / table.seconds)
    weight, residual = np.concatenate(weights), np.concatenate(residuals)
    return max(0.0, float(weight @ residual / (weight @ weight)) * 1e6)


def fit_convolutions(
    machine: MachineSpec, runs: Sequence[tuple[OperatorStream, float]], *, gap_us: float
) -> LaunchFigures:
    """The figures of ``machine`` with those of convolutions fitted to ``runs``: streams and their measured seconds."""
    import numpy as np
    from scipy.optimize import least_squares

    usual = replace(launch_figures_of(machine), gap_us=gap_us)
    library = LibraryOfMachine(machine)
    cache_bytes = library.device.l2_shared_bytes * usual.cache_share
    work = [unfused_launches(stream) for stream, _ in runs]
    found = [found_in_cache(launches, cache_bytes) for launches in work]
    measured = np.array([seconds for _, seconds in runs])

    def residuals(point: NDArray[np.float64]) -> NDArray[np.float64]:
        figures = _with(usual, np.exp(point))
        predicted = [
            sum(one.seconds for one in time_launches(figures, library, launches, states, launch="graph"))
            for launches, states in zip(work, found, strict=True)
        ]
        return np.asarray(np.log(np.array(predicted) / measured))

    low, high = np.log(np.array(_BOUNDS)).T
    ends = [
        least_squares(
            residuals, np.log(start), bounds=(low, high), diff_step=[0.02] * len(start), max_nfev=_EVALUATIONS
        )
        for start in _STARTS
    ]
    return _with(usual, np.exp(min(ends, key=lambda end: float(end.cost)).x))


def _with(figures: LaunchFigures, point: NDArray[np.float64]) -> LaunchFigures:
    launch_us, step_cycles, pace = (float(value) for value in point)
    depthwise = MovingFigures(launch_us=launch_us, taps_per_cycle=pace)
    conv = replace(figures.conv, launch_us=launch_us, step_cycles=step_cycles)
    return replace(figures, conv=conv, moving={**figures.moving, "depthwise": depthwise})
