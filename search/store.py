"""The results store of sweeps: one SQLite file, one row a design point, each on the disk before the next begins.

The file is in write-ahead mode, so that several processes may write to it at once and a process that is killed leaves
no half row: SQLite's checksums refuse a torn write when the file is opened again. A row is added once;
adding the same key again changes nothing. https://www.sqlite.org/wal.html
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

from tilewright.errors import InputError, TilewrightError

__all__ = [
    "RETRIED",
    "SCHEMA_VERSION",
    "STATUSES",
    "ResultsStore",
    "Status",
    "StoreError",
    "StoredPoint",
    "StoredSweep",
]

SCHEMA_VERSION = 1
Status = Literal["done", "infeasible", "failed", "quarantined"]
STATUSES: tuple[Status, ...] = ("done", "infeasible", "failed", "quarantined")
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
_COLUMNS = (
    "key", "machine", "workload", "dataflow", "objective", "parameters", "status", "cycles", "seconds", "energy_pj",
    "power_w", "result", "error", "version", "evaluation_s", "finished_at",
)  # fmt: skip
_ADD = f"INSERT OR IGNORE INTO points ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"


class StoreError(TilewrightError):
    """The store cannot be read or written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPoint:
    """One row. ``parameters`` are the design, ``result`` further figures by name, ``error`` why there are none.

    ``evaluation_s`` is the time that the point took, in seconds.
    """

    key: str
    machine: str
    workload: str
    dataflow: str
    objective: str
    parameters: Mapping[str, Any]
    status: Status
    cycles: int | None = None
    seconds: float | None = None
    energy_pj: float | None = None
    power_w: float | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    evaluation_s: float = 0.0
    version: str = ""
    finished_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSweep:
    """What a sweep asked for: its file as ``text``, its base machine as plain data, and who began it when."""

    text: str
    name: str
    machine: Mapping[str, Any]
    version: str
    begun_at: str


class PointFigures(NamedTuple):
    """What a row says in numbers; nothing where its point has not ended well."""

    status: Status
    cycles: int
    seconds: float
    energy_pj: float
    power_w: float


class ResultsStore:
    """The store in the file ``path``, made if it is not there (``create``). Close it, or use it as a context.

    Raises InputError when the file is no store or damaged, and StoreError when it cannot be written.
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self.path = Path(path)
        if not create and not self.path.exists():
            raise InputError(f"{path}: no such results store")
        if self.path.is_dir() or not self.path.absolute().parent.is_dir():
            what = "is a folder" if self.path.is_dir() else "there is no such folder"
            raise InputError(f"{path}: {what}; allowed the path of a results store in an existing folder")
        with self._plainly():
            self._connection = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        run = self._connection.execute
        is_new = run("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        (application,) = run("PRAGMA application_id").fetchone()
        (version,) = run("PRAGMA user_version").fetchone()
        if not is_new and application != _APPLICATION_ID:
            raise InputError(f"{self.path}: is a database of something else; allowed a results store or a new file")
        if not is_new and version > SCHEMA_VERSION:
            raise InputError(
                f"{self.path}: was written by a newer Tilewright (schema {version}, known {SCHEMA_VERSION}); "
                "use that version, or another store"
            )
        self._write_ahead()
        run("PRAGMA synchronous = FULL")
        if is_new:
            run("BEGIN IMMEDIATE")
            for statement in _TABLES.split(";\n"):
                run(statement)
            run(f"PRAGMA application_id = {_APPLICATION_ID}")
            run(f"PRAGMA user_version = {SCHEMA_VERSION}")
            run("COMMIT")

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
            raise self._damaged(str(verdict))

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

    def statuses(self, keys: Iterable[str]) -> dict[str, Status]:
        """What has become of those of ``keys`` that are in the store."""
        found: dict[str, Status] = {}
        for some in batched(keys, _BATCH):
            marks = ",".join("?" * len(some))
            with self._plainly():
                found.update(
                    self._connection.execute(f"SELECT key, status FROM points WHERE key IN ({marks})", some).fetchall()
                )
        return found

    def figures(self, keys: Iterable[str]) -> dict[str, PointFigures]:
        """The main figures of those of ``keys`` that are in the store."""
        found: dict[str, PointFigures] = {}
        columns = ", ".join(PointFigures._fields)
        for some in batched(keys, _BATCH):
            marks = ",".join("?" * len(some))
            with self._plainly():
                rows = self._connection.execute(f"SELECT key, {columns} FROM points WHERE key IN ({marks})", some)
                found.update({row[0]: PointFigures._make(row[1:]) for row in rows})
        return found

    def rows(self, keys: Iterable[str] | None = None) -> Iterator[StoredPoint]:
        """The stored points with these ``keys`` in their order, or all of them as they came; others are left out."""
        chosen = f"SELECT {', '.join(_COLUMNS)} FROM points"
        if keys is None:
            with self._plainly():
                for row in self._connection.execute(f"{chosen} ORDER BY rowid"):
                    yield self._point(row)
            return
        for some in batched(keys, _BATCH):
            marks = ",".join("?" * len(some))
            with self._plainly():
                found = self._connection.execute(f"{chosen} WHERE key IN ({marks})", some).fetchall()
            by_key = {row[0]: row for row in found}
            yield from (self._point(by_key[key]) for key in some if key in by_key)

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
        chosen = "SELECT text, name, machine, version, begun_at FROM sweeps ORDER BY begun_at, rowid"
        with self._plainly():
            found = self._connection.execute(chosen).fetchall()
        try:
            return [
                StoredSweep(text=text, name=name, machine=json.loads(machine), version=version, begun_at=begun_at)
                for text, name, machine, version, begun_at in found
            ]
        except (TypeError, ValueError):
            raise self._damaged("a sweep is not as it was written") from None

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

    def _point(self, row: Sequence[Any]) -> StoredPoint:
        values = dict(zip(_COLUMNS, row, strict=True))
        try:
            values["parameters"], values["result"] = json.loads(values["parameters"]), json.loads(values["result"])
        except (TypeError, ValueError):
            raise self._damaged(f"the row {values['key']} is not as it was written") from None
        return StoredPoint(**values)

    def _damaged(self, what: str) -> InputError:
        reason = " ".join(what.split())
        return InputError(
            f"{self.path}: is no results store, or is damaged ({reason}); restore it from a copy, "
            "or move it away to begin anew"
        )

    @contextlib.contextmanager
    def _plainly(self) -> Iterator[None]:
        """Turn SQLite's errors into one sentence."""
        try:
            yield
        except sqlite3.Error as fault:
            code = (fault.sqlite_errorcode or 0) & 0xFF if hasattr(fault, "sqlite_errorcode") else 0
            if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise self._damaged(str(fault)) from None
            if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                raise StoreError(
                    f"{self.path}: cannot be written ({fault}): the disk is full or broken; the points finished so far "
                    "are safe, and the same command goes on from there once there is room"
                ) from None
            if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
                raise InputError(f"{self.path}: cannot be opened for writing ({fault})") from None
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StoreError(f"{self.path}: another process has kept it locked for {_WAIT_S:.0f} s") from None
            raise StoreError(f"{self.path}: {type(fault).__name__}: {fault}") from None


def _values(point: StoredPoint) -> tuple[Any, ...]:
    """``point`` as the values of a row."""
    from tilewright import __version__

    values = [
        json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value
        for value in (getattr(point, name) for name in _COLUMNS[:-1])
    ]
    values[_COLUMNS.index("version")] = __version__
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
