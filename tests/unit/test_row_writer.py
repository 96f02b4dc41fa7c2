"""Rows written behind the caller's back: on the disk when finished, few commits, and errors that are heard."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tilewright.errors import InputError
from tilewright.search.sweep.row_writer import RowWriter
from tilewright.search.sweep.store import ResultsStore, StoredPoint, StoreError


def row(at: int) -> StoredPoint:
    return StoredPoint(
        key=f"k{at:05d}",
        machine="m",
        workload="w",
        dataflow="d",
        objective="latency",
        parameters={"matrix.rows": at},
        status="done",
        cycles=at,
        seconds=1e-6,
        energy_pj=1.0,
        power_w=1e-6,
    )


def stored(path: Path) -> list[int | None]:
    with ResultsStore(path, create=False) as store:
        return [point.cycles for point in store.rows()]


def test_finished_rows_are_on_the_disk(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path / "r.db")
    writer.finish()
    for at in range(300):
        writer.add(row(at))
        if at % 100 == 99:
            writer.finish()
            assert stored(tmp_path / "r.db") == list(range(at + 1))
    writer.add(row(7))  # known already
    writer.add(row(300))
    writer.close()
    assert stored(tmp_path / "r.db") == list(range(301))


def test_row_does_not_wait_for_the_next_one(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path / "r.db")
    writer.add(row(0))
    give_up = time.monotonic() + 30
    while stored(tmp_path / "r.db") != [0]:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    writer.close()


def test_errors_are_raised_and_writing_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = RowWriter(tmp_path / "r.db")
    real = ResultsStore.add_all

    def full(store: ResultsStore, points: object) -> int:
        raise StoreError("the disk is full")

    monkeypatch.setattr(ResultsStore, "add_all", full)
    writer.add(row(0))
    with pytest.raises(StoreError, match="the disk is full"):
        writer.finish()
    monkeypatch.setattr(ResultsStore, "add_all", real)
    writer.add(row(1))
    writer.finish()
    writer.close()
    assert stored(tmp_path / "r.db") == [1]
    with pytest.raises(InputError, match="there is no such folder"):
        RowWriter(tmp_path / "none" / "r.db")


def test_rows_go_in_together_or_not_at_all(tmp_path: Path) -> None:
    with ResultsStore(tmp_path / "r.db") as store:
        assert store.add_all([row(0), row(1), row(0)]) == 2
        assert store.add_all([]) == 0
        store._connection.execute("PRAGMA max_page_count = 30")
        with pytest.raises(StoreError, match="the points finished so far are safe"):
            store.add_all([row(at) for at in range(2, 5000)])
        assert len(list(store.rows())) == 2
        assert store.add_all([row(2)]) == 1
    assert stored(tmp_path / "r.db") == [0, 1, 2]
