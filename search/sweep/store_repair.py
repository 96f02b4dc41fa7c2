"""Bad rows of a results store found and set aside, and what can be read saved out of a file that is damaged as a whole.

Nothing is lost: a bad row goes as it stands into the table ``set_aside`` of the same file, and a file that cannot be
mended in place stays beside the new one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tilewright.errors import InputError, visible
from tilewright.search.sweep.store import DamagedError, ResultsStore, RowCheck
from tilewright.search.sweep.store_rows import (
    POINT_COLUMNS,
    SWEEP_COLUMNS,
    DamagedRow,
    StoredPoint,
    StoredSweep,
    read_point,
    read_sweep,
    row_text,
)

__all__ = ["StoreHealth", "check_store", "repair_store"]

Table = Literal["points", "sweeps"]
_TABLES: tuple[tuple[Table, tuple[str, ...]], ...] = (("points", POINT_COLUMNS), ("sweeps", SWEEP_COLUMNS))
_PAGE_BYTES = 4096
# Columns without a type keep every value as it is.
_ASIDE = f"""
CREATE TABLE IF NOT EXISTS set_aside (
    of_table TEXT NOT NULL, of_row INTEGER NOT NULL, fault TEXT NOT NULL, set_aside_at TEXT NOT NULL,
    {", ".join(dict.fromkeys((*POINT_COLUMNS, *SWEEP_COLUMNS)))}
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreHealth:
    """What a store holds: whole ``n_points``, and ``damaged`` rows. ``original``: the file from which the whole rows
    were saved, where it was damaged as a whole; ``n_aside``: rows that earlier repairs have set aside."""

    n_points: int
    damaged: tuple[DamagedRow, ...]
    n_aside: int = 0
    original: Path | None = None


def check_store(path: str | Path, check: RowCheck | None = None) -> StoreHealth:
    """Read every row; ``check`` says what else makes a row a damaged one (raises ValueError).

    Raises InputError where the file is no store, or damaged as a whole.
    """
    with ResultsStore(path, create=False) as opened:
        opened.check()
        return _health(opened, check)


def repair_store(path: str | Path, check: RowCheck | None = None) -> StoreHealth:
    """Set the bad rows aside, so that a sweep does their points again; of a file that is damaged as a whole, save the
    rows that can be read into a new one and keep it beside. No other process may be writing to it.

    Raises InputError where nothing in the file can be read, or it cannot be written.
    """
    try:
        with ResultsStore(path, create=False) as opened:
            opened.check()
            found = _health(opened, check)
            if found.damaged:
                opened.set_aside(_ASIDE, found.damaged)
            return found
    except DamagedError:
        return _saved(Path(path), check)


def _health(opened: ResultsStore, check: RowCheck | None) -> StoreHealth:
    n_points, damaged = 0, []
    for table, columns in _TABLES:
        for number, *values in opened.raw_rows(table, columns):
            row = _read(table, number, values, check)
            if isinstance(row, DamagedRow):
                damaged.append(row)
            else:
                n_points += table == "points"
    return StoreHealth(n_points=n_points, damaged=tuple(damaged), n_aside=opened.n_aside())


def _read(
    table: Table, number: int, values: Sequence[Any], check: RowCheck | None
) -> StoredPoint | StoredSweep | DamagedRow:
    try:
        if table == "sweeps":
            return read_sweep(values)
        point = read_point(values)
        if check is not None:
            check(point)
        return point
    except ValueError as fault:
        key = values[0] if table == "points" and isinstance(values[0], str) else ""
        return DamagedRow(table=table, row=number, key=key, fault=visible(str(fault)))


def _saved(path: Path, check: RowCheck | None) -> StoreHealth:
    """The whole rows of the file ``path`` in a new one in its place; the file itself beside it."""
    with tempfile.TemporaryDirectory(prefix=".tilewright-", dir=path.absolute().parent) as folder:
        copy, new = Path(folder, "copy.db"), Path(folder, "new.db")
        for end in ("", "-wal"):
            if os.path.exists(f"{path}{end}"):
                shutil.copyfile(f"{path}{end}", f"{copy}{end}")
        damaged: list[DamagedRow] = []
        n_points = n_sweeps = 0
        ResultsStore(new).close()
        grafted = _grafted(copy, new)
        with ResultsStore(new) as store:
            for table, columns in _TABLES:
                for number, *values in _readable(copy, table, columns) or _readable(grafted, table, columns):
                    row = _read(table, number, values, check)
                    if isinstance(row, StoredPoint):
                        n_points += store.restore(table, columns, values)
                    elif isinstance(row, StoredSweep):
                        n_sweeps += store.restore(table, columns, values)
                    else:
                        damaged.append(row)
            if not n_points and not n_sweeps:
                raise InputError(
                    f"{path}: nothing in it can be read as a results store; restore it from a copy, or move it away "
                    "to begin anew"
                )
        original = _free_name(path)
        os.rename(path, original)
        for end in ("-wal", "-shm"):
            if os.path.exists(f"{path}{end}"):
                os.rename(f"{path}{end}", f"{original}{end}")
        os.rename(new, path)
    return StoreHealth(n_points=n_points, damaged=tuple(damaged), original=original)


def _free_name(path: Path) -> Path:
    n = 1
    while (name := Path(f"{path}.damaged" + (f"-{n}" if n > 1 else ""))).exists():
        n += 1
    return name


def _grafted(damaged: Path, new: Path) -> Path:
    """A copy of the file ``damaged`` with the first page of a ``new`` store, which says what tables there are and where
    they begin: those of all stores begin at the same pages. https://www.sqlite.org/fileformat.html
    """
    data, first = damaged.read_bytes(), bytearray(new.read_bytes()[:_PAGE_BYTES])
    first[28:32] = (len(data) // _PAGE_BYTES).to_bytes(4, "big")  # how many pages there are
    first[18:20] = b"\1\1"  # no write-ahead log
    grafted = damaged.with_name("grafted.db")
    grafted.write_bytes(bytes(first) + data[_PAGE_BYTES:])
    return grafted


def _readable(path: Path, table: Table, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """The rows of ``table`` that can be read, from the front to where it is torn, and from the back likewise."""
    chosen = f"SELECT rowid, {', '.join(columns)} FROM {table} NOT INDEXED ORDER BY rowid"
    found: dict[int, tuple[Any, ...]] = {}
    for order in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
            connection = sqlite3.connect(path)
            connection.text_factory = row_text
            with contextlib.closing(connection):
                for row in connection.execute(f"{chosen} {order}"):
                    if row[0] in found:
                        break
                    found[row[0]] = row
    return [found[number] for number in sorted(found)]
