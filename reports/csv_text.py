"""Rows as CSV that a spreadsheet only shows and never computes.

A text that a spreadsheet would take for a formula (it begins with ``=``, ``+``, ``-``, ``@``, a tab or a line end, or
the wide forms of these signs) gets a ``'`` in front; numbers stay as they are, negative ones, too.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

__all__ = ["csv_cell", "csv_text", "write_csv"]

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def csv_text(rows: Sequence[Mapping[str, Any]], *, last: Sequence[str] = ()) -> str:
    """``rows`` under all the columns that any of them has, those of ``last`` last; what a row lacks stays empty."""
    columns = dict.fromkeys(name for row in rows for name in row if name not in last)
    stream = io.StringIO()
    write_csv(rows, [*columns, *last] if rows else [], stream)
    return stream.getvalue()


def write_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], stream: IO[str]) -> None:
    """A line for the ``columns`` and one for each row; other columns of a row are left out."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in columns])
    writer.writerows([csv_cell(row.get(name)) for name in columns] for row in rows)


def csv_cell(value: Any) -> Any:
    """``value`` as it may stand in a cell: lists as words, pairs as ``name=value``, no formula."""
    if isinstance(value, Mapping):
        value = " ".join(f"{name}={item}" for name, item in value.items())
    elif isinstance(value, list | tuple):
        value = " ".join(map(str, value))
    if not isinstance(value, str) or not value.startswith(_FORMULA_STARTS) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"
