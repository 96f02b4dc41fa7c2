"""Does the simulator rank tilings as the hardware does? Rank correlation, and the regret of its choice."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import CalibrationSpec
from tilewright.hw_models.gpu.parameters import AttentionParameters, GemmParameters
from tilewright.kernels.measured import MeasuredTable
from tilewright.search.gpu.model import calibrates
from tilewright.search.gpu.predict import predict
from tilewright.search.gpu.split import calibration_rows
from tilewright.sim.gpu.device import GpuDevice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["COMPILED", "ESTIMATE", "TileRanking", "rank_tiles", "ranking_of", "tiled_seconds"]

_FEWEST_TILINGS = 3
#: What the times of a ranking follow from.
COMPILED, ESTIMATE = "compiled schedule", "estimate from the tiles"
_WEIGHT_BITS = {"fp16": 16, "bf16": 16, "int8": 8, "fp8_e4m3": 8, "int4": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class TileRanking:
    """One shape, measured with several tilings.

    ``rank_correlation``: Spearman's, of simulated against measured time over the tilings. ``regret``: how much slower
    the tiling is that the simulator would choose than the best measured one, as a share. ``chosen``, ``best``: those
    two. ``mape``: mean absolute percentage error of the times themselves, as a share. ``scope``: ``fitted`` where the
    shape calibrated the parameters, ``held out`` where other shapes of the table did, else ``all``. ``timed_by``: the
    compiled schedules, or an estimate from the tiles alone.
    """

    table: str
    shape: dict[str, int] = field(hash=False)
    n_tilings: int
    rank_correlation: float
    regret: float
    mape: float
    chosen: dict[str, int] = field(hash=False)
    best: dict[str, int] = field(hash=False)
    scope: str = "all"
    timed_by: str = ESTIMATE

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


def rank_tiles(device: GpuDevice, calibration: CalibrationSpec, table: MeasuredTable) -> list[TileRanking]:
    """A ranking for each shape of a table of tile sweeps with at least three tilings.

    Times follow from the compiled schedules; where these are not known, from the tiles alone. Raises
    :class:`InputError` where no calibrated kernels are near enough to stand in, or no shape has enough tilings.
    """
    import numpy as np

    predicted, measured_by, timed_by = _times(device, calibration, table)
    shape_names = [name for name in table.columns if not name.startswith("tile_")]
    shapes = np.stack([table.columns[name] for name in shape_names], axis=1)
    fitted = calibration_rows(table) if calibrates(measured_by, table.name) else None
    rankings = []
    for shape in np.unique(shapes, axis=0):
        rows = np.flatnonzero((shapes == shape).all(axis=1) & np.isfinite(predicted))
        if len(rows) >= _FEWEST_TILINGS:
            named = dict(zip(shape_names, map(int, shape), strict=True))
            ranking = ranking_of(table, rows, predicted[rows], named)
            scope = "all" if fitted is None else "fitted" if fitted[rows[0]] else "held out"
            rankings.append(replace(ranking, scope=scope, timed_by=timed_by))
    if not rankings:
        raise InputError(f"{table.name}: no shape with {_FEWEST_TILINGS} tilings or more")
    return rankings


def _times(
    device: GpuDevice, calibration: CalibrationSpec, table: MeasuredTable
) -> tuple[NDArray[np.float64], str, str]:
    """Seconds of every row, the tables that the parameters were fitted to, and what the times follow from."""
    try:
        found = predict(device, calibration, table)
    except InputError:
        return tiled_seconds(device, calibration, table), "", ESTIMATE
    return found.seconds, found.measured, COMPILED


def ranking_of(
    table: MeasuredTable, rows: NDArray[np.intp], predicted: NDArray[np.float64], shape: dict[str, int]
) -> TileRanking:
    """The figures of the tilings in ``rows`` of ``table``, with their ``predicted`` seconds."""
    import numpy as np
    from scipy.stats import spearmanr

    measured = table.seconds[rows]
    chosen, best = int(np.argmin(predicted)), int(np.argmin(measured))

    def tiling(at: int) -> dict[str, int]:
        return {name.removeprefix("tile_"): int(table.columns[name][rows[at]]) for name in table.tile_columns}

    varied = np.ptp(predicted) > 0 and np.ptp(measured) > 0
    return TileRanking(
        table=table.name,
        shape=shape,
        n_tilings=len(rows),
        rank_correlation=float(spearmanr(predicted, measured).statistic) if varied else 0.0,
        regret=float(measured[chosen] / measured[best] - 1),
        mape=float(np.mean(np.abs(predicted / measured - 1))),
        chosen=tiling(chosen),
        best=tiling(best),
    )


def tiled_seconds(device: GpuDevice, calibration: CalibrationSpec, table: MeasuredTable) -> NDArray[np.float64]:
    """Simulated seconds of every row of a tile sweep, with the parameters of the device's library kernels."""
    import numpy as np

    columns = {name: np.asarray(values, dtype=np.float64) for name, values in table.columns.items()}
    if table.operator == "gemm":
        from tilewright.sim.gpu.tiled import TiledGemm, tiled_gemm_seconds

        weights = next((name for name in _WEIGHT_BITS if table.family.endswith(f"_{name}")), "fp16")
        narrow = weights in ("int8", "fp8_e4m3")
        case = TiledGemm(
            m=columns["m"],
            n=columns["n"],
            k=columns["k"],
            rows=_tile(table, columns, "m"),
            columns=_tile(table, columns, "n"),
            depth=_tile(table, columns, "k"),
            stages=_tile(table, columns, "stages"),
            warps=_tile(table, columns, "warps"),
            activation_bits=8 if narrow else 16,
            weight_bits=_WEIGHT_BITS[weights],
            multiply_format=weights if narrow else "fp16",
        )
        product = calibration.family("gemm", "bf16").typed()
        assert isinstance(product, GemmParameters)
        return tiled_gemm_seconds(device, product, case)
    if table.operator == "attention":
        from tilewright.sim.gpu.tiled import TiledAttention, tiled_attention_seconds

        parameters = _attention_parameters(calibration)
        layer = TiledAttention(
            heads=columns["batch"] * columns["heads"],
            queries=columns["queries"],
            keys=columns["keys"],
            head_dim=columns["head_dim"],
            tile_queries=_tile(table, columns, "query"),
            tile_keys=_tile(table, columns, "key"),
            stages=_tile(table, columns, "stages"),
            warps=_tile(table, columns, "warps"),
            causal=table.family.endswith("_prefill"),
        )
        return tiled_attention_seconds(device, parameters, layer)
    raise InputError(f"{table.name}: tilings of {table.operator} kernels are not simulated; allowed gemm, attention")


def _attention_parameters(calibration: CalibrationSpec) -> AttentionParameters:
    for family in ("fa3_prefill", "fa2_prefill"):
        if calibration.has("attention", family):
            parameters = calibration.family("attention", family).typed()
            assert isinstance(parameters, AttentionParameters)
            return parameters
    raise InputError(f"{calibration.device}: no calibrated attention kernels; allowed fa3_prefill or fa2_prefill")


def _tile(table: MeasuredTable, columns: dict[str, NDArray[np.float64]], name: str) -> NDArray[np.float64]:
    column = f"tile_{name}"
    if column not in columns:
        raise InputError(f"{table.name}: the tilings lack {name}; allowed {', '.join(table.tile_columns)}")
    return columns[column]
