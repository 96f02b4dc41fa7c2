"""Sweeps on the real simulator: resumed, killed, interrupted, shared, with points that fail."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import tilewright
from tilewright.errors import InputError
from tilewright.search.shared.shared_search import SharedSearch
from tilewright.search.sweep import work as sweep_work
from tilewright.search.sweep.best import best_of_sweep
from tilewright.search.sweep.overview import sweep_overview
from tilewright.search.sweep.run import SweepProgress, run_sweep, sweep_rows, sweep_status
from tilewright.search.sweep.spec import load_sweep
from tilewright.search.sweep.store import ResultsStore
from tilewright.workloads.network import load_network

SPEC = """\
name: small
machine: edge-16x16
parameters:
  matrix.rows: [4, 8, 12, 16]
  buffers.l1.capacity_kib: [1, 4, 8]
  dram.bandwidth_gb_per_s: {from: 10, to: 40, step: 10}
workloads: ["attention:heads=1,seq=32,head_dim=16", "attention:heads=2,seq=24,head_dim=16"]
dataflows: [mas]
"""
N_POINTS = 4 * 3 * 4 * 2
# Long enough to be killed or interrupted in the middle.
LONG = SPEC.replace("{from: 10, to: 40, step: 10}", "{from: 1, to: 29, step: 2}")
N_LONG = 4 * 3 * 15 * 2
COMMAND = [sys.executable, "-m", "tilewright", "sweep"]


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    from tilewright.sim.engine import run as engine

    engine.warm_up()


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path


@pytest.fixture
def long(tmp_path: Path) -> Path:
    path = tmp_path / "long.yaml"
    path.write_text(LONG, encoding="utf-8")
    return path


def rows_of(text: str, folder: Path) -> dict[str, tuple[Any, ...]]:
    (folder / "sweep.yaml").write_text(text, encoding="utf-8")
    run_sweep(load_sweep(folder / "sweep.yaml"), folder / "r.db", jobs=1)
    return stored(folder / "r.db")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, ...]]:
    return rows_of(SPEC, tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="module")
def undisturbed_long(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, ...]]:
    return rows_of(LONG, tmp_path_factory.mktemp("undisturbed_long"))


def stored(path: Path) -> dict[str, tuple[Any, ...]]:
    """The rows of a store by key, without what depends on the clock on the wall."""
    found: dict[str, tuple[Any, ...]] = {}
    with ResultsStore(path, create=False) as store:
        store.check()
        for row in store.rows():
            assert row.key not in found
            found[row.key] = (
                row.workload,
                row.dataflow,
                json.dumps(row.parameters),
                row.status,
                row.cycles,
                row.seconds,
                row.energy_pj,
                row.power_w,
                json.dumps(row.result),
                row.error,
            )
    return found


def start(spec: Path, store: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, str(spec), "--store", str(store), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def n_rows(store: Path) -> int:
    """How many rows a store has by now."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db,
    ):
        (n,) = db.execute("SELECT count(*) FROM points").fetchone()
        return int(n)
    return 0


def wait_for_rows(store: Path, n: int, process: subprocess.Popen[str]) -> None:
    """Until ``n`` rows are stored, or the sweep has ended."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up and process.poll() is None:
        if n_rows(store) >= n:
            return
        time.sleep(0.02)
    assert process.poll() is not None, "no row in a minute"


def nobody_is_left(group: int) -> bool:
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_frame_has_a_row_for_every_point(spec: Path, tmp_path: Path) -> None:
    frame = tilewright.sweep(spec, store=tmp_path / "r.db", jobs=1)
    assert len(frame) == N_POINTS
    assert set(frame["status"]) == {"done", "infeasible"}
    done = frame[frame["status"] == "done"]
    assert (done["energy_pj"] * 1e-12 / done["seconds"]).tolist() == pytest.approx(done["power_w"].tolist())
    infeasible = frame[frame["status"] == "infeasible"]
    assert infeasible["error"].str.startswith("the mapping needs ").all()
    row = done.iloc[0]
    machine = tilewright.load_machine("edge-16x16").with_(**{path: row[path].item() for path in load_sweep(spec).paths})
    alone = tilewright.simulate(row["workload"], machine, row["dataflow"])
    assert (row["cycles"], row["energy_pj"]) == (alone.cycles, alone.energy_pj)


def test_only_what_is_missing_is_done(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, Any]
) -> None:
    sweep, n_run = load_sweep(spec), 0
    real = sweep_work.SweepBench.run

    def counted(bench: Any, point: Any) -> Any:
        nonlocal n_run
        n_run += 1
        if n_run == 31:
            raise KeyboardInterrupt
        return real(bench, point)

    monkeypatch.setattr(sweep_work.SweepBench, "run", counted)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(sweep, tmp_path / "r.db", jobs=1)
    assert sweep_status(sweep, tmp_path / "r.db")["missing"] == N_POINTS - 30
    heard: list[SweepProgress] = []
    counts = run_sweep(sweep, tmp_path / "r.db", jobs=1, progress=heard.append)
    assert counts.total() == N_POINTS - 30
    assert (heard[0].done, heard[-1].done, heard[-1].total) == (30, N_POINTS, N_POINTS)
    assert run_sweep(sweep, tmp_path / "r.db", jobs=1).total() == 0
    assert stored(tmp_path / "r.db") == undisturbed


def test_failing_point_is_a_row_and_stops_nothing(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, Any]
) -> None:
    sweep, store = load_sweep(spec), tmp_path / "r.db"
    real = SharedSearch.best

    def faulty(search: Any, machine: Any, objective: Any) -> Any:
        if machine.matrix.rows == 12:
            raise ZeroDivisionError("a fault\nof ours")
        return real(search, machine, objective)

    monkeypatch.setattr(SharedSearch, "best", faulty)
    counts = run_sweep(sweep, store, jobs=1)
    assert counts["failed"] == N_POINTS // 4
    assert {row["error"] for row in sweep_rows(sweep, store) if row["status"] == "failed"} == {
        "ZeroDivisionError: a fault of ours"
    }
    monkeypatch.setattr(SharedSearch, "best", real)
    assert run_sweep(sweep, store, jobs=1).total() == 0
    assert run_sweep(sweep, store, jobs=1, retry_failed=True).total() == N_POINTS // 4
    assert stored(store) == undisturbed


KILLER = """\
import os, sys
import tilewright
from tilewright.search.shared.shared_search import SharedSearch
from tilewright.search.sweep.run import run_sweep
from tilewright.search.sweep.spec import load_sweep

real = SharedSearch.best

def deadly(search, machine, objective):
    if machine.matrix.rows == 12 and machine.dram.bandwidth_gb_per_s == 20 and search.layer.query_heads == 2:
        os.kill(os.getpid(), 9)
    return real(search, machine, objective)

SharedSearch.best = deadly

if __name__ == "__main__":
    print(dict(run_sweep(load_sweep(sys.argv[1]), sys.argv[2], jobs=2)))
"""


@pytest.mark.processes
def test_point_that_kills_its_worker_is_set_aside(spec: Path, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    text = SPEC.replace("[1, 4, 8]", "[8]").replace("[4, 8, 12, 16]", "[8, 12]")
    spec.write_text(text, encoding="utf-8")
    (tmp_path / "killer.py").write_text(KILLER, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "killer.py"), str(spec), str(tmp_path / "r.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert eval(done.stdout) == {"done": 15, "quarantined": 1}
    sweep = load_sweep(spec)
    (bad,) = [row for row in sweep_rows(sweep, tmp_path / "r.db") if row["status"] == "quarantined"]
    assert (bad["matrix.rows"], bad["dram.bandwidth_gb_per_s"]) == (12, 20)
    assert bad["error"].startswith("the worker process was killed twice while it ran this point")
    assert run_sweep(sweep, tmp_path / "r.db", jobs=1, retry_failed=True) == Counter(done=1)
    assert stored(tmp_path / "r.db").items() <= undisturbed.items()


def kill_and_restart(
    spec: Path, store: Path, jobs: int, n_kills: int, undisturbed: dict[str, Any]
) -> Iterator[tuple[int, int]]:
    """Kill the sweep ``n_kills`` times at random moments, starting a new one each time; rows before and after."""
    chance = random.Random(n_kills)
    known: dict[str, Any] = {}
    for kill in range(n_kills):
        process = start(spec, store, "--jobs", str(jobs))
        # Later kills wait for more rows, so that there is always some work left to kill.
        target = max(len(known) + 1, len(undisturbed) * (kill + 1) // (n_kills + 4))
        wait_for_rows(store, target, process)
        time.sleep(chance.uniform(0, 0.03))
        process.kill()
        process.communicate()
        assert nobody_is_left(process.pid)
        now = stored(store)
        assert known.items() <= now.items()
        assert now.items() <= undisturbed.items()
        yield len(known), len(now)
        known = now
    last = start(spec, store, "--jobs", str(jobs))
    out, err = last.communicate(timeout=120)
    assert last.returncode == 0, out + err
    assert stored(store) == undisturbed


@pytest.mark.processes
@pytest.mark.parametrize("n_kills", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_killed_sweep_goes_on_where_it_was(
    n_kills: int, long: Path, tmp_path: Path, undisturbed_long: dict[str, Any]
) -> None:
    seen = list(kill_and_restart(long, tmp_path / "r.db", 1, n_kills, undisturbed_long))
    assert len(seen) == n_kills
    assert seen[0][1] < N_LONG


@pytest.mark.processes
@pytest.mark.slow
def test_killed_sweep_of_many_processes_goes_on_where_it_was(
    long: Path, tmp_path: Path, undisturbed_long: dict[str, Any]
) -> None:
    seen = list(kill_and_restart(long, tmp_path / "r.db", 2, 20, undisturbed_long))
    assert len(seen) == 20


@pytest.mark.processes
def test_interrupted_sweep_says_how_to_go_on(long: Path, tmp_path: Path, undisturbed_long: dict[str, Any]) -> None:
    process = start(long, tmp_path / "r.db", "--jobs", "2")
    wait_for_rows(tmp_path / "r.db", 3, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all of them
    out, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("the sweep was faster than the interrupt")
    assert process.returncode == 130, err
    assert "the same command goes on from there\ntilewright: interrupted\n" in err
    assert "Traceback" not in err
    assert out == ""
    assert nobody_is_left(process.pid)
    assert stored(tmp_path / "r.db").items() <= undisturbed_long.items()


@pytest.mark.processes
@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_full_disk_ends_the_sweep_and_room_lets_it_go_on(
    spec: Path, tmp_path: Path, undisturbed: dict[str, Any], jobs: str
) -> None:
    """On a file system of 256 KiB, where one may be mounted; then it gets larger."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    store = small / "r.db"
    try:
        process = start(spec, store, "--jobs", jobs)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert out == ""
        (said,) = err.splitlines()
        assert said.startswith(f"tilewright: error: {store}: cannot be written: the disk is full or broken")
        assert said.endswith(
            "the points finished so far are safe, and the same command goes on from there once there is room"
        )
        assert nobody_is_left(process.pid)
        subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
        before = stored(store)
        assert 0 < len(before) < N_POINTS
        process = start(spec, store, "--jobs", jobs)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        after = stored(store)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert before.items() <= after.items()
    assert after == undisturbed


@pytest.mark.processes
def test_two_sweeps_share_a_store(spec: Path, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    running = [start(spec, tmp_path / "r.db", "--jobs", "1") for _ in range(2)]
    for process in running:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
    assert stored(tmp_path / "r.db") == undisturbed


@pytest.mark.processes
def test_script_without_a_guard_is_told_so(spec: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import tilewright\nfrom tilewright.errors import TilewrightError\n"
        f"try:\n    tilewright.sweep({str(spec)!r}, jobs=2)\nexcept TilewrightError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("the worker processes cannot start; a script that runs a sweep needs if __name__ == ")


def test_best_of_all_workloads_is_one_design(tmp_path: Path) -> None:
    sweep = load_sweep(
        {
            "machine": "edge-16x16",
            "area": {"mm2_per_pe": 0.01, "mm2_per_lane": 0.01, "mm2_per_kib": 0.01},
            "parameters": {"matrix.rows": [4, 8, 16, 32], "buffers.l1.capacity_kib": [8]},
            "workloads": ["attention:heads=1,seq=32,head_dim=16", "attention:heads=2,seq=24,head_dim=16"],
            "dataflows": ["mas", "flat"],
            "limits": ["area_mm2 <= 4.2", "latency_ms < 1"],
        }
    )
    run_sweep(sweep, tmp_path / "r.db", jobs=1)
    rows = list(sweep_rows(sweep, tmp_path / "r.db"))
    assert {row["matrix.rows"] for row in rows} == {4, 8}  # 256 lanes 2.56, 8 KiB 0.08, 16 columns 0.16 a row
    best = best_of_sweep(sweep, rows)
    assert [row["workload"] for row in best.design] == [layer.name for layer in sweep.layers]
    assert {row["matrix.rows"] for row in best.design} == {8}
    for name, row in best.by_workload.items():
        assert row["seconds"] == min(r["seconds"] for r in rows if r["workload"] == name)
    assert best.n_within == len(rows)
    seen = sweep_overview(sweep, tmp_path / "r.db")
    assert (seen.counts, seen.best) == (sweep_status(sweep, tmp_path / "r.db"), best)


@pytest.mark.parametrize("objective", ["latency", "energy", "edp"])
def test_overview_is_what_all_rows_say(objective: str, tmp_path: Path) -> None:
    """Some designs that cannot run a workload, some over the limits, some not run yet; and a store of other things."""
    data = yaml.safe_load(SPEC) | {"objective": objective, "limits": ["latency_ms <= 0.0015"]}
    part, whole = load_sweep(data | {"parameters": data["parameters"] | {"matrix.rows": [8, 16]}}), load_sweep(data)
    store = tmp_path / "r.db"
    empty = sweep_overview(whole, store)
    assert (empty.counts, empty.best.n_within) == (Counter(missing=N_POINTS), 0)
    run_sweep(part, store, jobs=1)
    run_sweep(load_sweep(data | {"workloads": ["attention:heads=3,seq=16,head_dim=16"]}), store, jobs=1)
    seen = sweep_overview(whole, store)
    assert seen.counts == sweep_status(whole, store)
    assert seen.counts["missing"] == N_POINTS // 2
    assert seen.best == best_of_sweep(whole, sweep_rows(whole, store))
    assert 0 < seen.best.n_within < seen.counts["done"]


def test_command_shows_state_and_writes_csv(spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tilewright.cli import main

    def run(*options: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["sweep", str(spec), "--store", str(tmp_path / "r.db"), *options])
        captured = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, captured.out, captured.err

    code, out, _ = run("--status")
    assert code == 0
    assert f"missing  {N_POINTS}" in " ".join(out.split("\n"))
    assert not (tmp_path / "r.db").exists()
    code, out, _ = run("--jobs", "1", "--csv", "-")
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == N_POINTS + 1
    assert lines[0].startswith("machine,workload,dataflow,objective,buffers.l1.capacity_kib,")
    code, out, _ = run("--status", "--json", "-")
    data = json.loads(out)
    assert data["points"]["missing"] == 0
    assert [row["workload"] for row in data["best_design"]] == list(
        dict.fromkeys(row["workload"] for row in data["best_by_workload"])
    )
    code, out, _ = run()
    assert "the best design for all workloads" in out
    assert run("--jobs", "0")[::2] == (
        2,
        "tilewright: error: --jobs: out of range; given 0; allowed a whole number of at least 1\n",
    )
    assert run("--status", "--retry-failed")[0] == 2
    (tmp_path / "r.db").write_bytes(b"damaged " * 4096)
    code, out, err = run("--status")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is no results store, or is damaged" in err


def test_a_whole_network_is_swept_in_its_formats(tmp_path: Path) -> None:
    file = {
        "machine": "edge-16x16",
        "workloads": ["vit-b-16:images=32"],
        "formats": {"weights": "int8", "activations": "int8"},
        "dataflows": ["mas", "flash2"],
        "parameters": {"dram.bandwidth_gb_per_s": [10, 20]},
    }
    with pytest.raises(InputError, match="vit-b-16"):
        tilewright.sweep(file, jobs=1)
    file["workloads"] = ["network:vit-b-16:image=32"]
    frame = tilewright.sweep(file, jobs=1)
    assert len(frame) == 4 and (frame["status"] == "done").all()
    network = load_network("vit-b-16:image=32").with_formats(weights="int8", activations="int8")
    machine = tilewright.load_machine("edge-16x16").with_(**{"dram.bandwidth_gb_per_s": 10})
    wanted = tilewright.simulate_network(network, machine, attention_dataflows=["flash2"], keep_mappings=False)
    (row,) = frame[(frame["dataflow"] == "flash2") & (frame["dram.bandwidth_gb_per_s"] == 10)].to_dict("records")
    assert (row["cycles"], row["energy_pj"]) == (wanted.cycles, pytest.approx(wanted.energy_pj))
    file |= {"dataflows": ["flash2"], "parameters": {"dram.bandwidth_gb_per_s": [10]}}
    stored = tilewright.sweep(file, store=tmp_path / "n.db", jobs=1)
    other = tilewright.sweep(file | {"formats": {}}, store=tmp_path / "n.db", jobs=1)
    assert set(stored["key"]).isdisjoint(other["key"])
