"""Sweeps on a Dask cluster of this machine: workers killed while they work, points that kill, and what is said."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tilewright
from tilewright.errors import InputError
from tilewright.search.executors.executor import WorkerError
from tilewright.search.sweep.run import SweepProgress, run_sweep, sweep_rows, sweep_status
from tilewright.search.sweep.spec import Sweep, load_sweep
from tilewright.search.sweep.store import ResultsStore

pytest.importorskip("distributed")
pytestmark = pytest.mark.extras

SPEC: dict[str, Any] = {
    "machine": "edge-16x16",
    "parameters": {
        "matrix.rows": [4, 8, 12, 16],
        "buffers.l1.capacity_kib": [1, 4, 8],
        "dram.bandwidth_gb_per_s": [10, 20, 30, 40],
    },
    "workloads": ["attention:heads=1,seq=32,head_dim=16", "attention:heads=2,seq=24,head_dim=16"],
    "dataflows": ["mas"],
}
N_POINTS = 4 * 3 * 4 * 2

# What the workers of a test do differently. Dask runs such a script twice, so that the second time changes nothing.
PREPARED = """\
import os, time
from tilewright.search.shared.shared_search import SharedSearch

if "real" not in globals():
    real = SharedSearch.best

"""
SLOW = f"""{PREPARED}
def best(search, machine, objective):
    time.sleep(0.05)
    return real(search, machine, objective)

SharedSearch.best = best
"""
DEADLY = f"""{PREPARED}
def best(search, machine, objective):
    if machine.matrix.rows == 12 and machine.dram.bandwidth_gb_per_s == 20 and search.layer.query_heads == 2:
        os.kill(os.getpid(), 9)
    return real(search, machine, objective)

SharedSearch.best = best
"""
OTHER = """\
from tilewright.search.executors import cluster_work

cluster_work.code_digest = lambda: "0" * 64
"""


def stored(path: Path) -> dict[str, tuple[Any, ...]]:
    """The rows of a store by key, without what depends on the clock on the wall."""
    found: dict[str, tuple[Any, ...]] = {}
    with ResultsStore(path, create=False) as store:
        store.check()
        for row in store.rows():
            assert row.key not in found
            parts = (row.status, row.cycles, row.seconds, row.energy_pj, row.power_w, json.dumps(row.result), row.error)
            found[row.key] = (row.workload, row.dataflow, json.dumps(row.parameters), *parts)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, ...]]:
    path = tmp_path_factory.mktemp("undisturbed") / "r.db"
    run_sweep(load_sweep(SPEC), path, jobs=1)
    return stored(path)


class Cluster:
    """A scheduler and workers, each a process of its own that a test may kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def begin(self) -> None:
        """Start the scheduler."""
        file = self.folder / "scheduler.json"
        self.scheduler = self.start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)
        )
        give_up = time.monotonic() + 60
        self.address = ""
        while not self.address:
            assert self.scheduler.poll() is None and time.monotonic() < give_up, "the scheduler does not start"
            time.sleep(0.05)
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):  # not yet, or not yet all of it
                self.address = json.loads(file.read_text())["address"]

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        log = (self.folder / f"{len(self.processes)}.log").open("wb")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments], env=environment, stdout=log, stderr=log, cwd=self.folder
            )
        self.processes.append(process)
        return process

    def worker(self, preload: str = "") -> subprocess.Popen[bytes]:
        """A new worker that runs ``preload`` first."""
        script = self.folder / "preload.py"
        script.write_text(preload or "pass\n")
        return self.start(
            "worker", self.address, "--no-nanny", "--nthreads", "1", "--host", "127.0.0.1", "--no-dashboard",
            "--preload", str(script), "--death-timeout", "60",
        )  # fmt: skip

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
        for process in self.processes:
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with contextlib.closing(Cluster(tmp_path)) as running:
        running.begin()
        yield running


def kill_and_replace(
    cluster: Cluster, sweep: Sweep, store: Path, n_kills: int, preload: str = SLOW
) -> tuple[Counter[str], int]:
    """Run ``sweep`` on two workers, one of which is killed ``n_kills`` times and replaced; how many were at work."""
    chance = random.Random(n_kills)
    workers = [cluster.worker(preload) for _ in range(2)]
    progress: list[SweepProgress] = []
    killed_at: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        for at in range(n_kills):
            while (progress[-1].done if progress else 0) < N_POINTS * (at + 1) // (n_kills + 2):
                if ended.wait(0.01):
                    return
            ended.wait(chance.uniform(0, 0.2))
            victim = workers.pop(chance.randrange(len(workers)))
            victim.send_signal(signal.SIGKILL)
            killed_at.append(progress[-1].done)
            workers.append(cluster.worker(preload))

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        counts = run_sweep(sweep, store, scheduler=cluster.address, progress=progress.append)
    finally:
        ended.set()
        killer.join()
    return counts, sum(at < N_POINTS for at in killed_at)


def test_killed_workers_lose_nothing(cluster: Cluster, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    counts, n_killed = kill_and_replace(cluster, load_sweep(SPEC), tmp_path / "r.db", 3)
    assert n_killed == 3
    assert counts.total() == N_POINTS
    assert stored(tmp_path / "r.db") == undisturbed


@pytest.mark.slow
def test_many_killed_workers_lose_nothing(cluster: Cluster, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    counts, n_killed = kill_and_replace(cluster, load_sweep(SPEC), tmp_path / "r.db", 20)
    assert n_killed == 20
    assert counts.total() == N_POINTS
    assert stored(tmp_path / "r.db") == undisturbed


def test_point_that_kills_its_workers_is_set_aside(
    cluster: Cluster, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    sweep = load_sweep(SPEC | {"parameters": SPEC["parameters"] | {"buffers.l1.capacity_kib": [8]}})
    ended = threading.Event()

    def replace_the_dead() -> None:
        workers = [cluster.worker(DEADLY) for _ in range(2)]
        while not ended.wait(0.05):
            workers = [worker if worker.poll() is None else cluster.worker(DEADLY) for worker in workers]

    keeper = threading.Thread(target=replace_the_dead)
    keeper.start()
    try:
        counts = run_sweep(sweep, tmp_path / "r.db", scheduler=cluster.address)
    finally:
        ended.set()
        keeper.join()
    assert counts == {"done": 31, "quarantined": 1}
    (bad,) = [row for row in sweep_rows(sweep, tmp_path / "r.db") if row["status"] == "quarantined"]
    assert (bad["matrix.rows"], bad["dram.bandwidth_gb_per_s"]) == (12, 20)
    assert bad["error"].startswith("worker processes were killed again and again while they ran this point")
    assert run_sweep(sweep, tmp_path / "r.db", jobs=1, retry_failed=True) == Counter(done=1)
    assert stored(tmp_path / "r.db").items() <= undisturbed.items()


def test_adaptive_search_is_the_same_on_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    pytest.importorskip("pymoo")
    sweep = load_sweep(SPEC | {"sampling": {"method": "nsga2", "n": 24, "seed": 1}})
    for _ in range(2):
        cluster.worker()
    assert run_sweep(sweep, tmp_path / "r.db", scheduler=cluster.address).total() == 48
    run_sweep(sweep, tmp_path / "alone.db", jobs=1)
    assert stored(tmp_path / "r.db") == stored(tmp_path / "alone.db")


def test_worker_with_other_code_is_named(cluster: Cluster, tmp_path: Path) -> None:
    cluster.worker(OTHER)
    with pytest.raises(WorkerError, match=r"^the worker tcp://127\.0\.0\.1:\d+ has another Tilewright .*code 00000000"):
        run_sweep(load_sweep(SPEC), tmp_path / "r.db", scheduler=cluster.address)
    assert sweep_status(load_sweep(SPEC), tmp_path / "r.db")["missing"] == N_POINTS


def start_command(cluster: Cluster, spec: Path, store: Path) -> subprocess.Popen[str]:
    spec.write_text(json.dumps(SPEC))
    command = [sys.executable, "-m", "tilewright", "sweep", str(spec), "--store", str(store)]
    return subprocess.Popen(
        [*command, "--scheduler", cluster.address],
        env=os.environ | {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_lost_scheduler_and_interrupt_are_one_sentence(
    cluster: Cluster, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    sweep, store = load_sweep(SPEC), tmp_path / "r.db"
    cluster.worker(SLOW)
    for step, n_before in ((signal.SIGINT, 2), (signal.SIGKILL, 20)):
        process = start_command(cluster, tmp_path / "sweep.yaml", store)
        wait_until(lambda least=n_before: N_POINTS - sweep_status(sweep, store)["missing"] >= least)  # type: ignore[misc]
        (process if step == signal.SIGINT else cluster.scheduler).send_signal(step)
        out, err = process.communicate(timeout=60)
        assert out == ""
        if step == signal.SIGINT:
            assert process.returncode == 130
            assert err.endswith("the same command goes on from there\ntilewright: interrupted\n")
        else:
            assert process.returncode == 1
            assert err == (
                f"tilewright: error: lost the Dask scheduler at {cluster.address}; the points finished so far are in "
                "the store, and the same command goes on from there\n"
            )
        assert stored(store).items() < undisturbed.items()
    assert run_sweep(sweep, store, jobs=1).total() <= N_POINTS - 20  # what was there is not done again
    assert stored(store) == undisturbed


def test_no_scheduler_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tilewright.search.executors import cluster as module

    monkeypatch.setattr(module, "_PATIENCE_S", 0.5)
    with pytest.raises(WorkerError, match=r"^no Dask scheduler answers at tcp://127\.0\.0\.1:9 \(") as refused:
        tilewright.sweep(SPEC, tmp_path / "r.db", scheduler="tcp://127.0.0.1:9")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("address", ["127.0.0.1:8786", "tcp://:8786", "http://here:1", "tcp://here", "tcp://a b:1"])
def test_wrong_address_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^scheduler: not an address; given "):
        run_sweep(load_sweep(SPEC), tmp_path / "r.db", scheduler=address)
    assert not (tmp_path / "r.db").exists()


def test_jobs_are_not_for_a_cluster(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^jobs: says how many processes of this machine work"):
        run_sweep(load_sweep(SPEC), tmp_path / "r.db", jobs=2, scheduler="tcp://127.0.0.1:9")
