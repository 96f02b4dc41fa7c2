"""Fit the few physical parameters of a family of kernels to the calibration part of a table.

Least squares of the logarithm of predicted over measured time, robust against outliers (soft L1), within the bounds
that the parameters carry. What the rows say nothing about stays near its usual value, so that it holds on another
device too. Nothing is fitted to single shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_type_hints

from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import (
    PARAMETERS_OF_OPERATOR,
    CalibrationSpec,
    FamilySpec,
    Operator,
    Parameters,
)
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
from tilewright.kernels.measured import MeasuredTable
from tilewright.search.gpu.predict import predict_with
from tilewright.search.gpu.split import calibration_rows, split_rule
from tilewright.search.gpu.stand_in import LISTED_OPERATORS, family_names, kernel_family, parameters_of
from tilewright.sim.gpu.device import GpuDevice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["calibrate", "free_parameters", "parameter_bounds", "related_start", "shared_parameters"]

_MOST_ROWS = 2500  # of the calibration part, drawn once; more do not change the parameters
_FEW_ROWS = 100  # of the calibration part; fewer leave most parameters at their usual values
_FEW_ROWS_OF_LISTED = 30  # their families say which few parameters they have
_STARTS_OF_FEW = 40
_STARTS_OF_LISTED = 6  # where what fits the L2 ends is a step that no slope leads to
_FEWEST_ROWS = 4  # of the calibration part
_SPARE_OF_FEW = 2  # rows more than parameters that are fitted to them
_FREE_OF_ROWS = ("row_us", "step_us")  # rows with barriers: launch and memory are those of element-wise kernels
_FREE_OF_FEW: dict[Operator, tuple[str, ...]] = {  # those that differ most first
    "gemm": ("launch_us", "sustained_share", "memory_share", "overlap_loss"),
    "attention": ("launch_us", "overlap_loss", "tile_us", "memory_share", "block_cycles"),
    "rowwise": ("launch_us", "row_us", "memory_share", "lane_cycles", "cache_share"),
    "experts": ("launch_us", "rate_share", "row_ns", "memory_share", "overlap_loss"),
    "latent": ("host_us", "rate_share", "memory_share", "tile_us"),
    "scan": ("launch_us", "copied", "rate_share", "chunk_us", "head_us", "memory_share", "token_us", "overlap_loss"),
    "short_conv": (
        "launch_us",
        "block_ns",
        "memory_share",
        "step_ns",
        "sm_gb_per_s",
        "token_us",
        "ragged_ns",
        "cache_share",
    ),
    "state_step": ("launch_us", "memory_share", "sm_gb_per_s", "token_us"),
    "token_top_k": ("launch_us", "row_us", "block_us", "short_share"),
    "block_lists": ("block_us", "row_us", "launch_us"),
}
_EVALUATIONS = 30
_SOFT = 0.05  # residuals beyond 5 % count linearly
_HOLD = 0.003  # error of a row for which a parameter may go as far from its usual value as that is from 0

_START: dict[Operator, Parameters] = {
    "gemm": GemmParameters(
        launch_us=2.5,
        memory_share=0.88,
        memory_ramp_us=0.5,
        sm_memory_gb_per_s=60,
        cache_share=0.65,
        feed_bytes_per_cycle=62,
        store_bytes_per_cycle=16,
        step_cycles=50,
        overlap_loss=0.12,
        split_us=2.5,
        sustained_share=0.72,
        convert_cycles=2,
        vector_launch_us=6,
        quantise_row_ns=3,
        quantise_chunk_ns=4,
        edge_cycles=6,
    ),
    "attention": AttentionParameters(
        launch_us=9,
        memory_share=0.8,
        cache_share=0.6,
        tile_us=1,
        tile_bytes_per_cycle=30,
        block_cycles=200,
        lane_operations=4,
        overlap_loss=0.4,
        sm_memory_gb_per_s=60,
        combine_us=2,
        tail_share=0.3,
        sustained_share=0.6,
        fill_gb_per_s=2000,
        value_cycles=1,
        regroup_us=3,
    ),
    "rowwise": RowwiseParameters(
        launch_us=10,
        memory_share=0.8,
        cache_share=0.6,
        memory_ramp_us=1,
        row_us=0.5,
        sm_memory_gb_per_s=60,
        lane_cycles=5,
        step_us=0.3,
    ),
    "experts": ExpertsParameters(
        launch_us=15,
        memory_share=0.88,
        sm_memory_gb_per_s=60,
        cache_share=0.7,
        feed_bytes_per_cycle=60,
        store_bytes_per_cycle=16,
        step_cycles=60,
        overlap_loss=0.15,
        rate_share=0.6,
        row_ns=1,
    ),
    "latent": LatentParameters(
        host_us=160,
        launch_us=20,
        memory_share=0.88,
        rate_share=0.7,
        tile_us=1,
        block_cycles=100,
        tail_share=0.4,
        copied=3,
        head_ns=1,
    ),
    "scan": ScanParameters(
        launch_us=12,
        token_us=0.3,
        head_us=6,
        chunk_us=3,
        memory_share=0.85,
        cache_share=0.6,
        overlap_loss=0.6,
        copied=1.6,
        rate_share=0.3,
        power_loss=0.15,
    ),
    "short_conv": StreamParameters(
        launch_us=2.2,
        memory_share=0.8,
        cache_share=0.6,
        token_us=0.18,
        later_us=0.4,
        sm_gb_per_s=20,
        overlap_loss=0.2,
        block_ns=110,
        step_ns=40,
        ragged_ns=40,
    ),
    "state_step": StreamParameters(
        launch_us=3, memory_share=0.85, cache_share=0.65, token_us=0.8, sm_gb_per_s=40, miss_us=1
    ),
    "token_top_k": RowListParameters(
        launch_us=4, row_us=5, block_us=1.1, short_share=0.03, power_loss=0.05, page_loss=0.3
    ),
    "block_lists": RowListParameters(launch_us=8, row_us=3, block_us=1.3, dense_loss=0.05),
}


def parameter_bounds(operator: Operator) -> dict[str, tuple[float, float]]:
    """Least and largest value of each parameter of ``operator``."""
    cls = PARAMETERS_OF_OPERATOR[operator]
    hints = get_type_hints(cls, include_extras=True)
    return {
        entry.name: (float(hints[entry.name].__metadata__[0].ge), float(hints[entry.name].__metadata__[1].le))
        for entry in fields(cls)
    }


def free_parameters(operator: Operator, family: str) -> tuple[str, ...]:
    """The parameters that mean something for ``family``; the others are 0."""
    names = list(parameter_bounds(operator))
    if operator == "gemm":
        from tilewright.sim.gpu.families import gemm_family

        kernels = gemm_family(family)
        idle = {
            "convert_cycles": not kernels.convert_weights,
            "vector_launch_us": not kernels.vector_rows,
            "quantise_row_ns": not kernels.quantises,
            "quantise_chunk_ns": not kernels.quantises,
            "edge_cycles": not kernels.rules,
            "split_us": kernels.splits == (1,),
        }
        return tuple(name for name in names if not idle.get(name, False))
    if operator == "attention":
        from tilewright.sim.gpu.attention import attention_family

        kernels_of_attention = attention_family(family)
        names.remove("tail_share" if kernels_of_attention.splits_keys else "combine_us")
        if kernels_of_attention.splits_keys or not kernels_of_attention.writes_cache:
            names.remove("fill_gb_per_s")  # one new key and value a sequence takes no time
        if not kernels_of_attention.turns_values:
            names.remove("value_cycles")
        if not kernels_of_attention.regroups:
            names.remove("regroup_us")
    if operator == "latent":
        from tilewright.sim.gpu.latent import LATENT_FAMILIES

        for name in ("tail_share", "copied") if LATENT_FAMILIES.get(family).decodes else ("head_ns",):
            names.remove(name)
    if operator in LISTED_OPERATORS:
        return kernel_family(operator, family).parameters  # type: ignore[union-attr]
    if operator == "rowwise":
        from tilewright.sim.gpu.rowwise import rowwise_family

        if not rowwise_family(family).barriers:
            names.remove("step_us")
    return tuple(names)


def calibrate(
    device: GpuDevice,
    table: MeasuredTable,
    *,
    fixed: Mapping[str, float] | None = None,
    start: Parameters | None = None,
) -> FamilySpec:
    """The parameters of the table's family, fitted to the calibration part; the other part is only measured against.

    ``fixed`` parameters keep the given values, and so do all but a few where the calibration part has less than 100
    rows: then at most two less than rows are fitted. ``start``: where the fit begins, best with the parameters of a
    related family. Raises :class:`InputError` where a part has no rows.
    """
    import numpy as np

    calibrating = calibration_rows(table)
    operator = _operator(table)
    fixed = dict(fixed or {})
    if calibrating.sum() < (_FEW_ROWS_OF_LISTED if operator in LISTED_OPERATORS else _FEW_ROWS):
        usual = start or _START[operator]
        usable = free_parameters(operator, table.family)
        first = _FREE_OF_ROWS if "step_us" in usable else _FREE_OF_FEW[operator]
        few = [name for name in first if name in usable and name not in fixed]
        kept = set(usable) - set(few[: max(1, int(calibrating.sum()) - _SPARE_OF_FEW)])
        fixed = {name: float(getattr(usual, name)) for name in sorted(kept)} | fixed
    free = [name for name in free_parameters(operator, table.family) if name not in fixed]
    if calibrating.sum() < max(len(free), _FEWEST_ROWS) or calibrating.all():
        raise InputError(
            f"{table.name}: {int(calibrating.sum())} rows to calibrate {len(free)} parameters and "
            f"{int((~calibrating).sum())} held out; allowed at least as many rows as parameters (and {_FEWEST_ROWS}), "
            "and some held out"
        )
    part = table.rows(np.flatnonzero(calibrating))
    if len(part) > _MOST_ROWS:
        part = part.rows(np.random.default_rng(0).choice(len(part), _MOST_ROWS, replace=False))
    values = _fit(device, part, operator, free, fixed, start or _START[operator])
    held_out = table.rows(~calibrating)
    predicted = predict_with(device, _typed(operator, values), held_out).seconds
    error = float(np.mean(np.abs(predicted / held_out.seconds - 1)))
    return FamilySpec(
        operator=operator,
        family=table.family,
        kind="calibrated",
        measured=table.name,
        split=split_rule(table),
        n_calibration=int(calibrating.sum()),
        n_held_out=len(held_out),
        held_out_error=error,
        fixed=tuple(fixed),
        parameters=values,
    )


def related_start(device: GpuDevice, calibration: CalibrationSpec | None, table: MeasuredTable) -> Parameters | None:
    """The parameters that a small table's fit begins with: its own so far or its relative's."""
    if calibration is None or calibration_rows(table).sum() >= _FEW_ROWS:
        return None
    try:
        return parameters_of(device, calibration, _operator(table), table.family).parameters
    except InputError:
        return None


def shared_parameters(calibration: CalibrationSpec | None, table: MeasuredTable) -> dict[str, float]:
    """Parameters of the table's family that another, already calibrated family of the same code fixes."""
    if calibration is None or table.operator != "attention":
        return {}
    from tilewright.sim.gpu.attention import ATTENTION_FAMILIES

    known = dict(ATTENTION_FAMILIES.items())
    name = known[table.family].softmax_as if table.family in known else ""
    if not name or not calibration.has("attention", name):
        return {}
    return {"lane_operations": float(calibration.family("attention", name).parameters["lane_operations"])}


def _operator(table: MeasuredTable) -> Operator:
    for operator in PARAMETERS_OF_OPERATOR:
        if operator == table.operator and table.family in family_names(operator):
            return operator
    raise InputError(f"{table.name}: {table.operator} kernels {table.family} have no parameters of their own")


def _fit(
    device: GpuDevice,
    part: MeasuredTable,
    operator: Operator,
    free: list[str],
    fixed: Mapping[str, float],
    start: Parameters,
) -> dict[str, float]:
    import numpy as np
    from scipy.optimize import least_squares

    bounds = parameter_bounds(operator)
    usable = free_parameters(operator, part.family)
    values = {name: float(getattr(start, name)) if name in usable else 0.0 for name in bounds} | dict(fixed)
    low, high = (np.array([bounds[name][side] for name in free]) for side in (0, 1))
    first = usual = np.clip([values[name] for name in free], low, high)
    scale = np.maximum(np.abs(usual), 0.05)

    def residuals(point: NDArray[np.float64]) -> NDArray[np.float64]:
        now = values | dict(zip(free, map(float, np.clip(point, low, high)), strict=True))
        predicted = predict_with(device, _typed(operator, now), part).seconds
        moved = (point - usual) / scale * (_HOLD * np.sqrt(len(part)))
        return np.concatenate([np.log(predicted / part.seconds), moved])

    # Small tables leave several valleys: begin at a few more points and keep the lowest end.
    chance = np.random.default_rng(0)
    n_starts = _STARTS_OF_FEW if len(part) < _FEW_ROWS else _STARTS_OF_LISTED if operator in LISTED_OPERATORS else 1
    best, lowest = first, float("inf")
    for _ in range(n_starts):
        found = least_squares(
            residuals,
            first,
            bounds=(low, high),
            x_scale=scale,
            diff_step=[0.02] * len(free),  # the choice of a kernel makes small steps; larger ones see through them
            loss="soft_l1",
            f_scale=_SOFT,
            max_nfev=_EVALUATIONS,
        )
        if found.cost < lowest:
            best, lowest = found.x, float(found.cost)
        first = np.clip(best * np.exp(chance.uniform(-1, 1, len(free))), low, high)
    rounded = {name: float(f"{value:.4g}") for name, value in zip(free, best, strict=True)}
    return values | {name: float(np.clip(value, *bounds[name])) for name, value in rounded.items()}


def _typed(operator: Operator, values: Mapping[str, float]) -> Parameters:
    cls: Any = PARAMETERS_OF_OPERATOR[operator]
    return cls(**values)  # type: ignore[no-any-return]
