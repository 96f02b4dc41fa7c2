"""What a board's power meter shows of a kernel: a mean over its window, which holds what ran before, too.

The driver's reading is the mean of about the last second. Who repeats a kernel for less, or samples from the start
on, reads a mixture: of the kernel, as far as its run filled the window, and of what the window held before. What that
was is not predicted; it is the reading of the nearest row above that may be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tilewright.kernels.measured import MeasuredTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LONG_RUN_S", "WINDOW_S", "own_shares", "shown_before"]

#: The window that fits the calibration parts best (of 0.5 to 1 s; the driver's manual says 1 s, but a run has begun
#: when the first sample is taken), and how often the collector reads.
WINDOW_S = 0.7
_SAMPLE_S = 0.1
_SHORT_SHARE = 0.1  # of a reading that shows what was before, and nearly nothing else
_ABOVE = (1, 2, 4, 8)
LONG_RUN_S = 0.9  #: runs that fill the window: their last sample shows nothing else


def own_shares(table: MeasuredTable) -> NDArray[np.float64]:
    """The part (0 to 1) of each row's reading that is of the row's own kernel: mean over the samples of its run."""
    import numpy as np

    if table.run_seconds is None:
        return np.ones(len(table))
    n_samples = np.maximum(np.ceil(table.run_seconds / _SAMPLE_S - 1e-9), 1)  # the first at the start
    growing = np.minimum(n_samples, round(WINDOW_S / _SAMPLE_S))
    filled = growing * (growing - 1) / 2 * _SAMPLE_S / WINDOW_S + (n_samples - growing)
    return np.asarray(filled / n_samples)


def shown_before(
    tables: Sequence[MeasuredTable], usable: Sequence[NDArray[np.bool_]], idle_w: float
) -> list[NDArray[np.float64]]:
    """For each table of one file: what the meter showed before each row; ``idle_w`` where nothing was.

    ``usable``: rows of each table whose reading may be looked at. A file may be of several boards that took turns; so
    it is the mean of the last few of them, as many as explain the readings of short usable runs best.
    """
    import numpy as np

    places, readings, shares = [np.zeros(0, dtype=np.int64)], [np.zeros(0)], [np.zeros(0)]
    for table, mask in zip(tables, usable, strict=True):
        if table.place is not None and table.watts is not None:
            places.append(table.place[mask])
            readings.append(table.watts[mask])
            shares.append(own_shares(table)[mask])
    place, reading, share = np.concatenate(places), np.concatenate(readings), np.concatenate(shares)
    order = np.argsort(place)
    place, reading, share = place[order], reading[order], share[order]
    n_above = _rows_that_explain(reading, share <= _SHORT_SHARE)
    return [
        np.full(len(table), idle_w)
        if table.place is None
        else _mean_above(reading, np.searchsorted(place, table.place), n_above, idle_w)
        for table in tables
    ]


def _mean_above(reading: NDArray[np.float64], at: NDArray[np.intp], n_above: int, idle_w: float) -> NDArray[np.float64]:
    """The mean of the ``n_above`` readings before each position, or of as many as there are."""
    import numpy as np

    summed = np.append(0.0, np.cumsum(np.log(reading)))
    count = np.minimum(at, n_above)
    return np.where(count > 0, np.exp((summed[at] - summed[at - count]) / np.maximum(count, 1)), idle_w)


def _rows_that_explain(reading: NDArray[np.float64], short: NDArray[np.bool_]) -> int:
    import numpy as np

    if not short[_ABOVE[-1] :].any():
        return 1
    at = np.flatnonzero(short)
    at = at[at >= _ABOVE[-1]]
    errors = [np.abs(_mean_above(reading, at, n_above, 1.0) / reading[at] - 1).mean() for n_above in _ABOVE]
    return _ABOVE[int(np.argmin(errors))]
