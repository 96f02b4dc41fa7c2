"""Damaged results stores: bytes of the file, values of its rows, its tables, its log."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import tempfile
from pathlib import Path

from tests.fuzz.damage import NASTY_NUMBERS, NASTY_TEXT, Judge, damaged_bytes, damaged_data
from tilewright.errors import TilewrightError
from tilewright.reports.sweep.report import report_sweep
from tilewright.search.sweep.overview import sweep_overview
from tilewright.search.sweep.run import run_sweep, sweep_status
from tilewright.search.sweep.spec import load_sweep
from tilewright.search.sweep.store import ResultsStore
from tilewright.search.sweep.store_repair import check_store, repair_store

SWEEP = {
    "name": "damaged",
    "machine": "edge-16x16",
    "area": {"mm2_per_pe": 0.02, "mm2_per_lane": 0.05, "mm2_per_kib": 0.006},
    "workloads": ["attention:heads=1,seq=32,head_dim=16", "attention:heads=2,seq=32,head_dim=8"],
    "dataflows": ["flash2"],
    "parameters": {"vector.lanes": [4, 8], "clock_ghz": {"from": 0.5, "to": 1, "step": 0.5}},
    "limits": ["power_w < 50"],
}


def run(n: int, seed: int) -> None:
    """Read ``n`` stores."""
    chance, judge = random.Random(seed), Judge("sqlite", seed)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.db"
        run_sweep(load_sweep(SWEEP), whole, jobs=1)
        for at in range(n):
            place = Path(folder) / "fuzz"
            place.mkdir()
            store = place / "r.db"
            _make(chance, whole, store)
            data = store.read_bytes()
            judge.of(at, data, lambda store=store, at=at: _use(store, at))
            shutil.rmtree(place)
    judge.end()


def _use(store: Path, at: int) -> None:
    sweep = load_sweep(SWEEP)
    with_page = at % 8 == 0
    try:
        page = store.with_name("page.html") if with_page else None
        report_sweep(store, page, csv=store.with_name("a.csv"), markdown=store.with_name("a.md"), told=_no_matter)
        sweep_status(sweep, store)
        sweep_overview(sweep, store)
        check_store(store)
    except TilewrightError as error:
        _no_matter(str(error))
    repair_store(store)
    assert not check_store(store).damaged
    with ResultsStore(store, create=False) as opened:
        opened.check()
    if at % 4 == 0:
        run_sweep(sweep, store, jobs=1)
        assert not check_store(store).damaged


def _no_matter(text: str) -> None:
    """Something cannot be read; the repair goes on from there."""
    assert text.replace("\n", "").isprintable()


def _make(chance: random.Random, whole: Path, store: Path) -> None:
    shutil.copy(whole, store)
    way = chance.random()
    if way < 0.35:
        store.write_bytes(damaged_bytes(chance, store.read_bytes()))
        if chance.random() < 0.1:
            Path(f"{store}-wal").write_bytes(chance.randbytes(chance.randrange(5000)))
        return
    connection = sqlite3.connect(store)
    try:
        for _ in range(chance.choice((1, 1, 2, 5))):
            _change(chance, connection)
        connection.commit()
    except (sqlite3.Error, OverflowError, UnicodeError):
        pass  # SQLite will not hold it
    finally:
        connection.close()


def _change(chance: random.Random, connection: sqlite3.Connection) -> None:
    table = chance.choice(("points", "points", "points", "sweeps"))
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    if not columns:  # an earlier change took the table away
        return
    column, row = chance.choice(columns), chance.randrange(1, 9)
    match chance.randrange(9):
        case 0 | 1 | 2:
            value = chance.choice((*NASTY_NUMBERS, *NASTY_TEXT, None, b"\xff\xfe\x00", b"{}", "{}", "[]", '{"a": 1}'))
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, row))
        case 3 | 4:
            column = chance.choice(("parameters", "result")) if table == "points" else "machine"
            found = connection.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (row,)).fetchone()
            if found is not None:
                try:
                    text = json.dumps(damaged_data(chance, json.loads(found[0])))
                except (TypeError, ValueError):
                    return
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (text, row))
        case 5:
            other = chance.choice(columns)
            connection.execute(f"UPDATE {table} SET {column} = {other} WHERE rowid = ?", (row,))
        case 6:
            connection.execute(f"UPDATE {table} SET rowid = ? WHERE rowid = ?", (chance.choice((0, -1, 2**62)), row))
        case 7:
            connection.execute(
                chance.choice(
                    (
                        f"ALTER TABLE {table} RENAME COLUMN {column} TO other",
                        f"ALTER TABLE {table} RENAME TO other",
                        "DROP TABLE points",
                        "CREATE TABLE more (a)",
                        f"PRAGMA user_version = {chance.choice((0, -1, 2, 99))}",
                        "PRAGMA application_id = 7",
                        "CREATE VIEW v AS SELECT * FROM points",
                        "CREATE TABLE set_aside (a)",
                    )
                )
            )
        case _:
            connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,))
