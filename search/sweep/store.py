"""The results store of sweeps: one SQLite file, one row a design point, each on the disk before the next begins.

The file is in write-ahead mode, so that several processes may write to it at once and a process that is killed leaves
no half row: SQLite's checksums refuse a torn write when the file is opened again. A row is added once;
adding the same key again changes nothing. https://www.sqlite.org/wal.html
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

from tilewright.errors import InputError, TilewrightError, visible
from tilewright.search.sweep.store_rows import (
    POINT_COLUMNS,
    STATUSES,
    SWEEP_COLUMNS,
    DamagedRow,
    Status,
    StoredPoint,
    StoredSweep,
    read_point,
    read_sweep,
    row_text,
)

__all__ = [
    "RETRIED",
    "SCHEMA_VERSION",
    "STATUSES",
    "DamagedError",
    "DamagedRow",
    "Found",
    "OnDamaged",
    "ResultsStore",
    "RowCheck",
    "Status",
    "StoreError",
    "StoredPoint",
    "StoredSweep",
]

SCHEMA_VERSION = 1
#: What is done again when failed points are retried; an infeasible design stays one.
RETRIED: tuple[Status, ...] = ("failed", "quarantined")

_APPLICATION_ID = 0x54574C52  # "TWLR"
_WAIT_S = 60.0
_BATCH = 500
_TABLES = """
CREATE TABLE IF NOT EXISTS points (
    key TEXT NOT NULL PRIMARY KEY,
    machine TEXT NOT NULL,
    workload TEXT NOT NULL,
    dataflow TEXT NOT NULL,
    objective TEXT NOT NULL,
    parameters TEXT NOT NULL,
    status TEXT NOT NULL,
    cycles INTEGER,
    seconds REAL,
    energy_pj REAL,
    power_w REAL,
    result TEXT NOT NULL,
    error TEXT,
    version TEXT NOT NULL,
    evaluation_s REAL NOT NULL,
    finished_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS sweeps (
    text TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    machine TEXT NOT NULL,
    version TEXT NOT NULL,
    begun_at TEXT NOT NULL
);
"""
_CHOSEN = f"SELECT rowid, {', '.join(POINT_COLUMNS)} FROM points"
_ADD = f"INSERT OR IGNORE INTO points ({', '.join(POINT_COLUMNS)}) VALUES ({', '.join('?' * len(POINT_COLUMNS))})"


#: What became of a point; ``damaged``: there is a row for it, which cannot be read.
Found = Literal[Status, "damaged"]
OnDamaged = Callable[[DamagedRow], None]
#: Finds what is wrong with a row that is whole but does not fit those who read it; raises ValueError.
RowCheck = Callable[[StoredPoint], None]


class StoreError(TilewrightError):
    """The store cannot be read or written."""


class DamagedError(InputError):
    """The file is no results store, or is damaged as a whole."""


class PointFigures(NamedTuple):
    """What a row says in numbers; nothing where its point has not ended well."""

    status: Found
    cycles: int | None = None
    seconds: float | None = None
    energy_pj: float | None = None
    power_w: float | None = None


class ResultsStore:
    """The store in the file ``path``, made if it is not there (``create``). Close it, or use it as a context.

    A row that is not as it was written is handed to ``damaged`` and left out; without that, reading it raises
    InputError. Raises InputError when the file is no store or damaged as a whole, and StoreError when it cannot be
    written.
    """

    def __init__(self, path: str | Path, *, create: bool = True, damaged: OnDamaged | None = None) -> None:
        self.path = Path(path)
        self._damaged_row = damaged
        if "\0" in str(path):
            raise InputError(f"{path}: no name of a file (a null character); allowed the path of a results store")
        if not create and not self.path.exists():
            raise InputError(f"{path}: no such results store")
        if self.path.is_dir() or not self.path.absolute().parent.is_dir():
            what = "is a folder" if self.path.is_dir() else "there is no such folder"
            raise InputError(f"{path}: {what}; allowed the path of a results store in an existing folder")
        if self.path.exists() and not self.path.is_file():
            raise InputError(f"{path}: is a device or a pipe; allowed the path of a results store")
        self._read_only = not create and not _can_be_written(self.path)
        with self._plainly():
            self._connection = self._open()
            self._connection.text_factory = row_text
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _open(self) -> sqlite3.Connection:
        """The database; one that cannot be written is read as it stands, with its log where there is one."""
        if not self._read_only:
            return sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)
        log = Path(f"{self.path}-wal")
        has_log = log.exists() and log.stat().st_size > 0
        address = f"{self.path.absolute().as_uri()}?mode=ro" + ("" if has_log else "&immutable=1")
        return sqlite3.connect(address, uri=True, timeout=_WAIT_S, isolation_level=None)

    def _prepare(self) -> None:
        run = self._connection.execute
        is_new = run("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        (application,) = run("PRAGMA application_id").fetchone()
        (version,) = run("PRAGMA user_version").fetchone()
        if not is_new and application != _APPLICATION_ID and not self._has_its_tables(SCHEMA_VERSION):
            raise InputError(f"{self.path}: is a database of something else; allowed a results store or a new file")
        if not is_new and version > SCHEMA_VERSION:
            raise InputError(
                f"{self.path}: was written by a newer Tilewright (schema {version}, known {SCHEMA_VERSION}); "
                "use that version, or another store"
            )
        if not self._read_only:
            self._write_ahead()
            run("PRAGMA synchronous = FULL")
        if is_new:
            run("BEGIN IMMEDIATE")
            for statement in _TABLES.split(";\n"):
                run(statement)
            run(f"PRAGMA application_id = {_APPLICATION_ID}")
            run(f"PRAGMA user_version = {SCHEMA_VERSION}")
            run("COMMIT")
        elif application != _APPLICATION_ID or not self._has_its_tables(version):
            raise self._damaged("its tables are not those of a results store")

    def _has_its_tables(self, version: int) -> bool:
        run = self._connection.execute
        tables = {name for (name,) in run("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return version == SCHEMA_VERSION and all(
            table in tables and tuple(row[1] for row in run(f"PRAGMA table_info({table})")) == columns
            for table, columns in (("points", POINT_COLUMNS), ("sweeps", SWEEP_COLUMNS))
        )

    def _write_ahead(self) -> None:
        """Switch to write-ahead mode; SQLite does not wait for another process that does so at the same moment."""
        give_up = time.monotonic() + _WAIT_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as fault:
                if "locked" not in str(fault) or time.monotonic() > give_up:
                    raise
                time.sleep(0.02)
            else:
                return

    def check(self) -> None:
        """Read the whole file once; raises InputError where it is damaged."""
        with self._plainly():
            (verdict,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise self._damaged("its pages do not fit together")

    def add(self, point: StoredPoint) -> bool:
        """Put ``point`` on the disk; False when a row with its key was there already, which then stays."""
        with self._plainly():
            return self._connection.execute(_ADD, _values(point)).rowcount == 1

    def add_all(self, points: Sequence[StoredPoint]) -> int:
        """Put ``points`` on the disk together, all or none; how many were new."""
        run = self._connection.execute
        with self._plainly():
            run("BEGIN IMMEDIATE")
            try:
                n_new = self._connection.executemany(_ADD, map(_values, points)).rowcount
                run("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk has undone it already
                    run("ROLLBACK")
                raise
        return n_new

    def statuses(self, keys: Iterable[str]) -> dict[str, Found]:
        """What has become of those of ``keys`` that are in the store."""
        return {key: figures.status for key, figures in self.figures(keys).items()}

    def figures(self, keys: Iterable[str], *, check: RowCheck | None = None) -> dict[str, PointFigures]:
        """The main figures of those of ``keys`` that are in the store. ``check``: as for :meth:`rows`."""
        found: dict[str, PointFigures] = {}
        for some in batched(keys, _BATCH):
            for key, point in self._some(some, check):
                if isinstance(point, DamagedRow):
                    found[key] = PointFigures("damaged")
                else:
                    found[key] = PointFigures(point.status, point.cycles, point.seconds, point.energy_pj, point.power_w)
        return found

    def rows(self, keys: Iterable[str] | None = None, *, check: RowCheck | None = None) -> Iterator[StoredPoint]:
        """The stored points with these ``keys`` in their order, or all of them as they came; others are left out.

        ``check`` says what else makes a row a damaged one.
        """
        if keys is None:
            with self._plainly():
                for row in self._connection.execute(f"{_CHOSEN} ORDER BY rowid"):
                    yield from self._whole(_point(row, check))
            return
        for some in batched(keys, _BATCH):
            by_key = dict(self._some(some, check))
            for key in some:
                if key in by_key:
                    yield from self._whole(by_key[key])

    def _some(self, keys: Sequence[str], check: RowCheck | None) -> list[tuple[str, StoredPoint | DamagedRow]]:
        marks = ",".join("?" * len(keys))
        with self._plainly():
            found = self._connection.execute(f"{_CHOSEN} WHERE key IN ({marks})", keys).fetchall()
        return [(row[1], _point(row, check)) for row in found]

    def _whole(self, point: StoredPoint | DamagedRow) -> Iterator[StoredPoint]:
        if isinstance(point, StoredPoint):
            yield point
        else:
            self._leave_out(point)

    def _leave_out(self, row: DamagedRow) -> None:
        if self._damaged_row is None:
            raise InputError(
                f"{self.path}: {row.text}; set it aside with: tilewright sweep --store {self.path} --repair"
            )
        self._damaged_row(row)

    def forget(self, keys: Iterable[str], statuses: Sequence[Status] = RETRIED) -> int:
        """Drop the rows with these keys and statuses, so that they are done again; how many there were."""
        n_dropped = 0
        for some in batched(keys, _BATCH):
            where = f"key IN ({','.join('?' * len(some))}) AND status IN ({','.join('?' * len(statuses))})"
            with self._plainly():
                n_dropped += self._connection.execute(f"DELETE FROM points WHERE {where}", (*some, *statuses)).rowcount
        return n_dropped

    def note_sweep(self, text: str, name: str, machine: Mapping[str, Any]) -> None:
        """Keep what a sweep asked for beside its results."""
        from tilewright import __version__

        values = (text, name, json.dumps(machine, sort_keys=True), __version__, _now())
        with self._plainly():
            self._connection.execute("INSERT OR IGNORE INTO sweeps VALUES (?, ?, ?, ?, ?)", values)

    def sweeps(self) -> list[StoredSweep]:
        """The sweeps that wrote into the store, as they were begun."""
        chosen = f"SELECT rowid, {', '.join(SWEEP_COLUMNS)} FROM sweeps ORDER BY begun_at, rowid"
        with self._plainly():
            found = self._connection.execute(chosen).fetchall()
        sweeps = []
        for row, *values in found:
            try:
                sweeps.append(read_sweep(values))
            except ValueError as fault:
                self._leave_out(DamagedRow(table="sweeps", row=row, key="", fault=visible(str(fault))))
        return sweeps

    def raw_rows(self, table: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """All rows of ``table`` as they stand, each with its number first."""
        with self._plainly():
            yield from self._connection.execute(f"SELECT rowid, {', '.join(columns)} FROM {table} ORDER BY rowid")

    def restore(self, table: str, columns: Sequence[str], values: Sequence[Any]) -> int:
        """Put a row as it stands into ``table``; 0 when it was there already."""
        marks = ", ".join("?" * len(columns))
        with self._plainly():
            add = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})"
            return self._connection.execute(add, values).rowcount

    def set_aside(self, table: str, rows: Iterable[DamagedRow]) -> None:
        """Move ``rows`` as they stand into the table ``set_aside``, made with the statement ``table``; all or none."""
        columns = {"points": ", ".join(POINT_COLUMNS), "sweeps": ", ".join(SWEEP_COLUMNS)}
        run = self._connection.execute
        with self._plainly():
            run("BEGIN IMMEDIATE")
            try:
                run(table)
                for row in rows:
                    some = columns[row.table]
                    run(
                        f"INSERT INTO set_aside (of_table, of_row, fault, set_aside_at, {some}) "
                        f"SELECT ?, ?, ?, ?, {some} FROM {row.table} WHERE rowid = ?",
                        (row.table, row.row, row.fault, _now(), row.row),
                    )
                    run(f"DELETE FROM {row.table} WHERE rowid = ?", (row.row,))
                run("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    run("ROLLBACK")
                raise

    def n_aside(self) -> int:
        """How many rows were ever set aside."""
        with self._plainly():
            there = self._connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'set_aside'")
            if there.fetchone() is None:
                return 0
            (n,) = self._connection.execute("SELECT count(*) FROM set_aside").fetchone()
        return int(n)

    def close(self) -> None:
        """Release the file; the write-ahead log goes into it when nobody else has it open."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def __enter__(self) -> ResultsStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(
            f"{self.path}: is no results store, or is damaged ({what}); save what can be read with: "
            f"tilewright sweep --store {self.path} --repair, or restore it from a copy"
        )

    @contextlib.contextmanager
    def _plainly(self) -> Iterator[None]:
        """Turn SQLite's errors into one sentence."""
        try:
            yield
        except sqlite3.Error as fault:
            raise self._told(fault) from None
        except UnicodeDecodeError:  # a name in it, said in an error of SQLite itself
            raise self._damaged("its text is not UTF-8") from None

    def _told(self, fault: sqlite3.Error) -> TilewrightError:
        """The sentence for an error of SQLite, whose own words may be anything that stands in the file."""
        code = getattr(fault, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT):
            return self._damaged("it cannot be read as a database")
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return StoreError(
                f"{self.path}: cannot be written: the disk is full or broken; the points finished so far "
                "are safe, and the same command goes on from there once there is room"
            )
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
            return InputError(f"{self.path}: cannot be opened for writing; allowed a file that may be written")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreError(f"{self.path}: another process has kept it locked for {_WAIT_S:.0f} s")
        if code == sqlite3.SQLITE_NOMEM:
            return StoreError(f"{self.path}: there is not enough memory to read it")
        return self._damaged("its tables are not those of a results store")


def _point(row: Sequence[Any], check: RowCheck | None) -> StoredPoint | DamagedRow:
    """A row of _CHOSEN as what it says, or as what is wrong with it."""
    number, *values = row
    try:
        point = read_point(values)
        if check is not None:
            check(point)
        return point
    except ValueError as fault:
        key = values[0] if isinstance(values[0], str) else ""
        return DamagedRow(table="points", row=number, key=key, fault=visible(str(fault)))


def _can_be_written(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK)


def _values(point: StoredPoint) -> tuple[Any, ...]:
    """``point`` as the values of a row."""
    from tilewright import __version__

    values = [
        json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value
        for value in (getattr(point, name) for name in POINT_COLUMNS[:-1])
    ]
    values[POINT_COLUMNS.index("version")] = __version__
    return (*values, _now())


def batched(items: Iterable[str], n: int) -> Iterator[list[str]]:
    """``items`` in lists of ``n``, the last one shorter."""
    some: list[str] = []
    for item in items:
        some.append(item)
        if len(some) == n:
            yield some
            some = []
    if some:
        yield some


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
