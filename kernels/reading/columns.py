"""Columns of a CSV table as checked arrays: the first bad value is named with its line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["read_frame", "seconds_column", "whole_column"]

_FIRST_LINE = 2  # of the values: behind the header


def read_frame(path: Path) -> pd.DataFrame:
    """The table at ``path``; raises :class:`InputError` where it is none."""
    import warnings

    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header
            return pd.read_csv(path, index_col=False)
    except (ValueError, OSError, pd.errors.ParserWarning) as fault:
        raise InputError(f"{path}: not a CSV table ({' '.join(str(fault).split())})") from None


def whole_column(path: Path, frame: pd.DataFrame, column: str, *, least: int = 1) -> NDArray[np.int64]:
    """The whole numbers of ``column``, each at least ``least``."""
    import numpy as np

    values = _numbers(path, frame, column)
    _refuse(path, frame, column, ~(np.isfinite(values) & (values == np.floor(values)) & (values >= least)), least)
    return values.astype(np.int64)


def seconds_column(path: Path, frame: pd.DataFrame, column: str, unit_s: float) -> NDArray[np.float64]:
    """The times of ``column`` in seconds, each above 0; ``unit_s``: seconds of its unit."""
    import numpy as np

    values = _numbers(path, frame, column)
    _refuse(path, frame, column, ~(np.isfinite(values) & (values > 0)), "a time above 0")
    return values * unit_s


def _numbers(path: Path, frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    import pandas as pd

    if column not in frame:
        raise InputError(f"{path}: lacks the column {column}")
    return pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float)


def _refuse(path: Path, frame: pd.DataFrame, column: str, bad: NDArray[np.bool_], allowed: object) -> None:
    if bad.any():
        at = int(bad.argmax())
        wanted = f"whole numbers from {allowed}" if isinstance(allowed, int) else allowed
        line = int(frame.index[at]) + _FIRST_LINE
        raise InputError(f"{path}:{line}: {column}: given {frame[column].iloc[at]}; allowed {wanted}")
