"""Errors of predictions against what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ErrorFigures", "error_figures"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFigures:
    """Errors of ``n`` predictions, as shares of the measured time: ``mape`` is the mean of their magnitudes.

    ``bias``: mean logarithm of predicted over measured. ``rank_correlation``: Spearman's, None for fewer than 3 rows.
    """

    n: int
    mape: float
    median: float
    worst: float
    bias: float
    rank_correlation: float | None

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


def error_figures(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> ErrorFigures:
    """Errors of ``predicted`` against ``measured`` seconds (arrays of one length, at least 1)."""
    import numpy as np
    from scipy.stats import spearmanr

    errors = np.abs(predicted / measured - 1)
    varied = len(measured) > 2 and np.ptp(predicted) > 0 and np.ptp(measured) > 0
    return ErrorFigures(
        n=len(measured),
        mape=float(errors.mean()),
        median=float(np.median(errors)),
        worst=float(errors.max()),
        bias=float(np.mean(np.log(predicted / measured))),
        rank_correlation=float(spearmanr(predicted, measured).statistic) if varied else None,
    )
