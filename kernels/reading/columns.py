"""Columns of a CSV table as checked arrays: the first bad value is named with its line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["need_columns", "read_frame", "seconds_column", "watts_column", "whole_column"]

_FIRST_LINE = 2  # of the values: behind the header
_MOST = 2**31 - 1  # of a size: products of two still are exact
_LEAST_S, _MOST_S = 1e-12, 1e6
_MOST_W = 1e5
_LONGEST_SHOWN = 60


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


def need_columns(path: Path, frame: pd.DataFrame, *columns: str) -> None:
    """Raise :class:`InputError` for a column that the table lacks."""
    for column in columns:
        if column not in frame:
            raise InputError(f"{path}: lacks the column {column}")


def whole_column(path: Path, frame: pd.DataFrame, column: str, *, least: int = 1) -> NDArray[np.int64]:
    """The whole numbers of ``column``, each at least ``least`` and below 2^31."""
    import numpy as np

    values = _numbers(path, frame, column)
    fine = (values == np.floor(values)) & (values >= least) & (values <= _MOST)
    _refuse(path, frame, column, ~fine, f"whole numbers from {least} to {_MOST}")
    return values.astype(np.int64)


def seconds_column(path: Path, frame: pd.DataFrame, column: str, unit_s: float) -> NDArray[np.float64]:
    """The times of ``column`` in seconds, each above 0; ``unit_s``: seconds of its unit."""
    seconds = _numbers(path, frame, column) * unit_s
    allowed = f"a time above 0, from {_LEAST_S / unit_s:g} to {_MOST_S / unit_s:g}"
    _refuse(path, frame, column, ~((seconds >= _LEAST_S) & (seconds <= _MOST_S)), allowed)
    return seconds


def watts_column(path: Path, frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """The power of ``column`` in watts, each above 0."""
    watts = _numbers(path, frame, column)
    _refuse(path, frame, column, ~((watts > 0) & (watts <= _MOST_W)), f"watts above 0, up to {_MOST_W:g}")
    return watts


def _numbers(path: Path, frame: pd.DataFrame, column: str) -> NDArray[np.float64]:
    import pandas as pd

    need_columns(path, frame, column)
    try:
        return pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float)
    except OverflowError:  # a whole number with hundreds of digits; told with its line, as what is no number is
        return frame[column].map(_number).to_numpy(dtype=float)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _refuse(path: Path, frame: pd.DataFrame, column: str, bad: NDArray[np.bool_], allowed: str) -> None:
    if bad.any():
        at = int(bad.argmax())
        line = int(frame.index[at]) + _FIRST_LINE
        given = str(frame[column].iloc[at])[:_LONGEST_SHOWN]
        raise InputError(f"{path}:{line}: {column}: given {given}; allowed {allowed}")
