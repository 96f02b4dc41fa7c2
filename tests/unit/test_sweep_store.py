"""The results store: rows once, many writers, and what is said when the file or the disk is bad."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tilewright.errors import InputError
from tilewright.search.sweep.store import ResultsStore, StoredPoint, StoreError


def point(at: int, **changes: object) -> StoredPoint:
    values: dict = {
        "key": f"k{at:05d}",
        "machine": "m",
        "workload": "w",
        "dataflow": "d",
        "objective": "latency",
        "parameters": {"matrix.rows": at},
        "status": "done",
        "cycles": at,
        "seconds": (at + 1) * 1e-9,
        "energy_pj": 0.1 * at,
        "power_w": 0.1,
        "result": {"tile_query": 8, "energy_dram_pj": 1 / 3},
    }
    return StoredPoint(**(values | changes))


def keys(n: int) -> list[str]:
    return [f"k{at:05d}" for at in range(n)]


def test_row_comes_back_as_it_was_and_stays(tmp_path: Path) -> None:
    with ResultsStore(tmp_path / "r.db") as store:
        assert store.add(point(7))
        assert not store.add(point(7, cycles=99))
    with ResultsStore(tmp_path / "r.db", create=False) as store:
        (row,) = store.rows()
    wanted = point(7, version=row.version, finished_at=row.finished_at)
    assert row == wanted
    assert row.version and row.finished_at


def test_order_statuses_and_forgetting(tmp_path: Path) -> None:
    with ResultsStore(tmp_path / "r.db") as store:
        for at in range(1200):
            store.add(point(at, status="failed" if at % 3 == 0 else "done"))
        assert [row.cycles for row in store.rows(reversed(keys(1300)))] == list(range(1199, -1, -1))
        assert len(store.statuses(keys(1300))) == 1200
        assert store.forget(keys(600)) == 200
        assert len(store.statuses(keys(1300))) == 1000


def fill(store: ResultsStore) -> int:
    """Add rows until the disk is full; how many went in."""
    for at in range(10_000):
        try:
            store.add(point(at))
        except StoreError as error:
            said = str(error)
            break
    else:
        raise AssertionError("the disk did not fill")
    assert "the disk is full or broken; the points finished so far are safe" in said
    return at


def test_two_processes_make_and_write_one_store(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from tests_of_store import point\n"
        "from tilewright.search.sweep.store import ResultsStore\n"
        "with ResultsStore(sys.argv[1]) as store:\n"
        "    new = sum(store.add(point(at)) for at in range(int(sys.argv[2]), 400))\n"
        "print(new)\n"
    )
    (tmp_path / "tests_of_store.py").write_text(Path(__file__).read_text(encoding="utf-8"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "r.db"), first],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in ("0", "100")
    ]
    new = [int(process.communicate(timeout=60)[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sum(new) == 400
    with ResultsStore(tmp_path / "r.db") as store:
        assert [row.cycles for row in store.rows(keys(500))] == list(range(400))


@pytest.mark.parametrize("kind", ["text", "torn", "foreign", "newer"])
def test_bad_file_is_one_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "r.db"
    if kind == "text":
        path.write_text("no database at all " * 100)
    elif kind == "foreign":
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE t (a)")
        other.close()
    else:
        with ResultsStore(path) as store:
            for at in range(300):
                store.add(point(at))
        if kind == "torn":
            data = bytearray(path.read_bytes())
            data[4096 : len(data) // 2] = b"\x5a" * (len(data) // 2 - 4096)
            path.write_bytes(data)
        else:
            other = sqlite3.connect(path)
            other.execute("PRAGMA user_version = 99")
            other.close()
    said = {
        "text": r"r\.db: is no results store, or is damaged \(it cannot be read as a database\); save what",
        "torn": r"r\.db: is no results store, or is damaged \(",
        "foreign": r"r\.db: is a database of something else; allowed a results store or a new file",
        "newer": r"r\.db: was written by a newer Tilewright \(schema 99, known 1\)",
    }[kind]
    with pytest.raises(InputError, match=said) as refused:  # noqa: SIM117
        with ResultsStore(path) as store:
            store.check()
    assert "\n" not in str(refused.value)


def test_torn_log_loses_at_most_what_was_torn(tmp_path: Path) -> None:
    """A log whose end is garbage: the rows before it are there, the file is sound."""
    store = ResultsStore(tmp_path / "r.db")
    for at in range(50):
        store.add(point(at))
    for name in ("r.db", "r.db-wal"):
        (tmp_path / name.replace("r.", "s.")).write_bytes((tmp_path / name).read_bytes())
    store.close()
    log = tmp_path / "s.db-wal"
    data = bytearray(log.read_bytes())
    data[-2000:] = os.urandom(2000)
    log.write_bytes(data)
    with ResultsStore(tmp_path / "s.db") as store:
        store.check()
        assert [row.cycles for row in store.rows()] == list(range(49))


def test_no_folder_and_no_store(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder; allowed the path of a results store"):
        ResultsStore(tmp_path / "no" / "r.db")
    with pytest.raises(InputError, match="is a folder; allowed the path"):
        ResultsStore(tmp_path)
    with pytest.raises(InputError, match=r"r\.db: no such results store"):
        ResultsStore(tmp_path / "r.db", create=False)


def test_full_store_keeps_what_it_has(tmp_path: Path) -> None:
    with ResultsStore(tmp_path / "r.db") as store:
        store._connection.execute("PRAGMA max_page_count = 30")
        n = fill(store)
    with ResultsStore(tmp_path / "r.db") as store:
        store.check()
        assert [row.cycles for row in store.rows()] == list(range(n))
        assert store.add(point(n))


def test_full_disk(tmp_path: Path) -> None:
    """A file system of 256 KiB, where one may be mounted."""
    small = tmp_path / "small"
    small.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        with ResultsStore(small / "r.db") as store:
            n = fill(store)
        assert n > 10
        for file in small.iterdir():  # the log beside it belongs to the store
            (tmp_path / file.name).write_bytes(file.read_bytes())
        with ResultsStore(tmp_path / "r.db") as store:
            store.check()
            assert [row.cycles for row in store.rows()] == list(range(n))
            assert store.add(point(n))
        with ResultsStore(small / "r.db", create=False) as store:
            assert [row.cycles for row in store.rows()] == list(range(n))
    finally:
        subprocess.run(["umount", str(small)], check=True)
