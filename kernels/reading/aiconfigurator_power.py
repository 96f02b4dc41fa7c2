"""The power columns of aiconfigurator's tables, and for how long its collector had each row's kernel run for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilewright.kernels.reading.columns import watts_column

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["power_columns"]

#: How the collector stretches runs (collector/helper.py): it times a call of a few kernels outside of a graph, repeats
#: it for 1 s, or 0.3 s where it is shorter than 0.1 ms, and at most 3,000 times. There each kernel costs the host time.
_RUN_S, _SHORT_RUN_S, _SHORT_CALL_S = 1.0, 0.3, 1e-4
_FEWEST_RUNS, _MOST_RUNS = 6, 3000
_HOST_S = 20e-6


def power_columns(
    path: Path,
    rows: pd.DataFrame,
    seconds: NDArray[np.float64],
    kernels_of_call: NDArray[np.int64] | int,
    *,
    host_s: float = _HOST_S,
) -> dict[str, Any]:
    """Fields of :class:`tilewright.kernels.measured.MeasuredTable` where the table has power: watts, how long each run
    was, and the rows' places; none where it has not.

    ``kernels_of_call``: kernels that the collector calls one after the other, each of which takes the host ``host_s``.
    """
    column = next((name for name in ("power_w", "power") if name in rows), None)
    if column is None:
        return {}
    return {
        "watts": watts_column(path, rows, column),
        "run_seconds": _run_seconds(seconds, kernels_of_call, host_s),
        "place": rows.index.to_numpy(dtype=int),
    }


def _run_seconds(
    seconds: NDArray[np.float64], kernels_of_call: NDArray[np.int64] | int, host_s: float
) -> NDArray[np.float64]:
    import numpy as np

    call = kernels_of_call * seconds
    outside = np.maximum(call, kernels_of_call * host_s)
    wanted = np.where(outside < _SHORT_CALL_S, _SHORT_RUN_S, _RUN_S)
    return np.asarray(np.clip(wanted / outside + 1, _FEWEST_RUNS, _MOST_RUNS) * call)
