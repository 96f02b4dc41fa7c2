"""Stores that were changed or broken since: bad rows are named, the rest is read, and a repair loses nothing."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tilewright.cli.run import run
from tilewright.errors import InputError
from tilewright.reports.sweep.report import report_sweep
from tilewright.search.sweep.run import run_sweep, sweep_rows, sweep_status
from tilewright.search.sweep.spec import load_sweep
from tilewright.search.sweep.store import DamagedRow, ResultsStore
from tilewright.search.sweep.store_repair import check_store, repair_store

TEXT = """
name: small
machine: edge-16x16
workloads: ['attention:heads=1,seq=32,head_dim=16']
dataflows: [flash2]
parameters:
  vector.lanes: [4, 8, 16]
limits: ['power_w < 50']
"""
BROKEN = Path(__file__).parents[3] / "shared/cases/break"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    (folder / "s.yaml").write_text(TEXT)
    run_sweep(load_sweep(folder / "s.yaml"), folder / "r.db", jobs=1)
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    shutil.copy(made / "s.yaml", tmp_path / "s.yaml")
    return Path(shutil.copy(made / "r.db", tmp_path / "r.db"))


def change(store: Path, statement: str, *values: Any) -> None:
    connection = sqlite3.connect(store)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


FAULTS = [
    ("parameters", "[]", "parameters: should be a valid dictionary"),
    ("parameters", '{"vector.lanes": null}', "parameters.vector.lanes: not a number up to 1e+30, text, true or false"),
    ("parameters", '{"vector.lanes": "8"}', "parameters: vector.lanes: not of the kind that the sweep gives it"),
    ("parameters", '{"vector.lanes": -8}', "parameters: vector.lanes: not of the kind"),
    ("parameters", '{"vector.rows": 8}', "parameters: not those of the sweep; allowed vector.lanes"),
    ("parameters", '{"vector.lanes": 1e400}', "parameters"),
    ("parameters", b"\xff\xfe{", "parameters: Invalid JSON"),
    ("result", "-1", "result: should be a valid dictionary"),
    ("result", '{"dram_read_bytes": "many"}', "result: dram_read_bytes: not a number of at least 0"),
    ("result", '{"tile_query": NaN}', "result"),
    ("result", '{"tile_query": 1.5}', "tile_query: not a whole number; given 1.5"),
    ("cycles", "fast\x1b[31m", "cycles: should be a valid integer; given"),
    ("cycles", -1, "cycles: should be greater than or equal to 0"),
    ("seconds", float("inf"), "seconds: should be a finite number"),
    ("seconds", 0.0, "seconds: should be greater than 0"),
    ("energy_pj", None, "energy_pj: missing in a point that is done"),
    ("status", "well", "status: should be 'done'"),
    ("error", b"\x80", "error: should be a valid string; given bytes that are no text"),
    ("workload", "another", 'workload: not of the sweep; given "another"'),
    ("evaluation_s", "{}", "evaluation_s: should be a valid number"),
]


@pytest.mark.parametrize(("column", "value", "said"), FAULTS, ids=[f"{c}-{n}" for n, (c, _, _) in enumerate(FAULTS)])
def test_one_bad_row_is_named_and_the_rest_is_read(store: Path, column: str, value: Any, said: str) -> None:
    change(store, f"UPDATE points SET {column} = ? WHERE rowid = 2", value)
    sweep = load_sweep(store.with_name("s.yaml"))
    with pytest.raises(InputError, match=r"row 2 of its points is damaged: .*--repair") as caught:
        list(sweep_rows(sweep, store))
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    bad: list[DamagedRow] = []
    assert len(list(sweep_rows(sweep, store, damaged=bad.append))) == 2
    assert [row.row for row in bad] == [2]
    told: list[str] = []
    page, table = store.with_name("page.html"), store.with_name("table.csv")
    report_sweep(store, page, csv=table, markdown=store.with_name("a.md"), told=told.append)
    assert "1 row of the store cannot be read" in told[0]
    assert "1 row of the store cannot be read" in page.read_text(encoding="utf-8")
    assert len(table.read_text(encoding="utf-8").splitlines()) == 3


def test_a_sweep_counts_a_bad_row_and_repair_does_it_again(
    store: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(store, "UPDATE points SET cycles = 'x', result = ? WHERE rowid = 2", b"\xff\x00")
    spec, place = str(store.with_name("s.yaml")), str(store)
    sweep = load_sweep(spec)
    assert sweep_status(sweep, store) == {"done": 2, "damaged": 1, "missing": 0}
    assert run(["sweep", spec, "--store", place, "--jobs", "1"]) == 0
    assert "set it aside with --repair" in " ".join(capsys.readouterr().out.split())
    assert run(["sweep", "--store", place, "--check"]) == 1
    assert "points 2" in capsys.readouterr().out
    assert run(["sweep", spec, "--store", place, "--repair", "--jobs", "1"]) == 0
    assert "1 row was moved to the table set_aside" in capsys.readouterr().err
    assert sweep_status(sweep, store) == {"done": 3, "missing": 0}
    assert run(["sweep", spec, "--store", place, "--check"]) == 0
    connection = sqlite3.connect(store)
    kept = connection.execute("SELECT of_table, of_row, cycles, result FROM set_aside").fetchall()
    connection.close()
    assert kept == [("points", 2, "x", b"\xff\x00")]
    figures = [{k: v for k, v in row.items() if k != "evaluation_s"} for row in sweep_rows(sweep, store)]
    wanted = [{k: v for k, v in row.items() if k != "evaluation_s"} for row in sweep_rows(sweep, made / "r.db")]
    assert figures == wanted


def test_a_bad_sweep_is_one_sentence(store: Path) -> None:
    change(store, "UPDATE sweeps SET text = ?", b"\xff")
    with pytest.raises(InputError, match="row 1 of its sweeps is damaged: text: should be a valid string"):
        report_sweep(store, store.with_name("page.html"))
    assert repair_store(store).n_points == 3
    assert check_store(store).damaged == ()


@pytest.mark.parametrize("kind", ["first page", "a page of rows", "header", "tables", "cut off"])
def test_what_can_be_read_of_a_broken_file_is_saved(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "r.db"
    from tilewright.search.sweep.store import StoredPoint

    values: dict[str, Any] = {"machine": "m", "workload": "w", "dataflow": "d", "objective": "latency"}
    figures = {"cycles": 1, "seconds": 1.0, "energy_pj": 1.0, "power_w": 1.0}
    with ResultsStore(path) as store:
        store.note_sweep("name: a", "a", {"name": "m"})
        for at in range(400):
            store.add(StoredPoint(key=f"{at:064d}", parameters={"a": at}, status="done", **values, **figures))
    data = bytearray(path.read_bytes())
    if kind == "first page":
        data[100:4096] = b"\x99" * 3996
    elif kind == "a page of rows":
        at = data.index(f"{200:064d}".encode()) // 4096 * 4096
        data[at : at + 4096] = b"\x5a" * 4096
    elif kind == "header":
        data[:16] = b"\x00" * 16
    elif kind == "tables":
        data[:] = data.replace(b"evaluation_s", b"evaluation_t")
    else:
        del data[len(data) * 2 // 3 // 4096 * 4096 :]
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"is no results store, or is damaged \([a-zA-Z0-9 -]+\); save what"):
        check_store(path)
    found = repair_store(path)
    assert found.original == tmp_path / "r.db.damaged"
    assert found.original.read_bytes() == data
    assert found.n_points >= (400 if kind in ("first page", "header", "tables") else 100)
    again = check_store(path)
    assert (again.n_points, again.damaged) == (found.n_points, ())
    assert not list(tmp_path.glob(".tilewright-*"))


@pytest.mark.parametrize("data", [b"", b"no database" * 1000, b"SQLite format 3\0" + b"\xff" * 9000])
def test_a_file_without_a_row_is_left_as_it_is(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "r.db"
    path.write_bytes(data)
    if data:
        with pytest.raises(InputError, match="nothing in it can be read as a results store"):
            repair_store(path)
        assert path.read_bytes() == data
    assert [one.name for one in tmp_path.iterdir()] == ["r.db"]


def test_a_database_of_something_else_is_never_touched(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    change(path, "CREATE TABLE points (recipe TEXT)")
    data = path.read_bytes()
    with pytest.raises(InputError, match="is a database of something else"):
        repair_store(path)
    assert path.read_bytes() == data


def test_options_that_mean_nothing_together_are_refused(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--status"], ["--check", "--repair"], ["--check", "--status"]):
        assert run(["sweep", "--store", str(store), *more]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.skipif(not BROKEN.exists(), reason="needs ../shared/cases")
@pytest.mark.parametrize("case", sorted(BROKEN.glob("db-*.db")), ids=lambda path: path.stem[3:40])
def test_stores_that_once_ended_in_a_traceback(case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(shutil.copy(case, tmp_path / "r.db"))
    for arguments in (
        ["report", store, "--csv", "-"],
        ["sweep", "--store", store, "--check"],
        ["sweep", "--store", store, "--repair"],
        ["sweep", "--store", store, "--check"],
        ["report", store, "-o", str(tmp_path / "page.html")],
    ):
        assert run(arguments) in (0, 1, 2)
        said = capsys.readouterr().err
        assert "unexpected" not in said
        assert not re.search("[^\n]\n[^t]", said)  # every line begins with the program's name


def test_a_store_that_cannot_be_written_is_read(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tilewright.search.sweep.store._can_be_written", lambda path: False)
    before = store.read_bytes()
    assert run(["report", str(store), "--csv", "-"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert check_store(store).n_points == 3
    change(store, "UPDATE points SET cycles = 'x'")
    assert run(["sweep", "--store", str(store), "--repair"]) == 2
    assert "cannot be opened for writing" in capsys.readouterr().err
    change(store, "UPDATE points SET cycles = 'x'")
    assert before != store.read_bytes()
    assert [path.name for path in store.parent.iterdir() if path.name.startswith("r.db-")] == []
