"""How fast is a sweep of 100,000 designs, and how much memory does it take?

    python tests/benchmarks/sweep_100k.py [--points N] [--jobs 2] [--dataflow mas] [--store FILE]

Every design of a grid of arrays, lanes, buffer capacities, bandwidths and clocks gets its best mapping for BERT-Base
attention, through the public sweep in worker processes. With ``--points`` the grid is cut to about N designs evenly
along its axes. ``--check N`` then searches N random designs alone and compares all figures.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import yaml

import tilewright
from tilewright.search.api import simulate
from tilewright.search.sweep.run import SweepProgress, run_sweep, sweep_rows, sweep_status
from tilewright.search.sweep.space import count_points
from tilewright.search.sweep.spec import Sweep, load_sweep

LANES = [16, 32, 48, 64, 96, 128, 192, 256, 384, 512]
CAPACITIES_KIB = [192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 5120]
BANDWIDTHS_GB_PER_S = list(range(5, 105, 5))
CLOCKS_GHZ = [0.4, 0.6, 0.8, 1.0, 1.2]
ROWS = [8, 8, 16, 16, 16, 32, 32, 32, 64, 64]
COLUMNS = [8, 16, 8, 16, 32, 16, 32, 64, 32, 64]


def spec(n_points: int, dataflow: str) -> dict[str, Any]:
    """The sweep file: 10 arrays x 10 lanes x 10 capacities x 20 bandwidths x 5 clocks, or a part of it."""
    share = (n_points / 100_000) ** 0.2

    def some(values: list[Any]) -> list[Any]:
        n = max(1, round(len(values) * share))
        return [values[i * len(values) // n] for i in range(n)]

    shapes = some(list(zip(ROWS, COLUMNS, strict=True)))
    return {
        "name": "bert-base-100k",
        "machine": "edge-16x16",
        "parameters": {
            "vector.lanes": some(LANES),
            "buffers.l1.capacity_kib": some(CAPACITIES_KIB),
            "dram.bandwidth_gb_per_s": some(BANDWIDTHS_GB_PER_S),
            "clock_ghz": some(CLOCKS_GHZ),
        },
        "together": [{"matrix.rows": [r for r, _ in shapes], "matrix.columns": [c for _, c in shapes]}],
        "workloads": ["bert-base"],
        "dataflows": [dataflow],
    }


class Watch:
    """Largest resident memory of this process and those it started, together, from /proc, ten times a second.

    Pages that they share count once for each, so it is rather too much.
    """

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            self.peak_mb = max(self.peak_mb, resident_bytes(os.getpid()) / 1e6)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants; 0 once it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return 0
    return pages * resource.getpagesize() + sum(map(resident_bytes, children))


def check(sweep: Sweep, store: Path, n: int) -> None:
    """Search ``n`` random designs alone; stops at the first figure that differs from the stored one."""
    rows = list(sweep_rows(sweep, store))
    machine = tilewright.load_machine("edge-16x16")
    for row in random.Random(1).sample([row for row in rows if row["status"] == "done"], n):
        alone = simulate(row["workload"], machine.with_(**{path: row[path] for path in sweep.paths}), row["dataflow"])
        for name, value in alone.to_row().items():
            if name in row and name not in ("machine", "longest_sequence"):
                assert row[name] == value, (row["key"], name, row[name], value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--dataflow", default="mas")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--check", type=int, default=0, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file, store = Path(folder) / "sweep.yaml", options.store or Path(folder) / "results.db"
        file.write_text(yaml.safe_dump(spec(options.points, options.dataflow)), encoding="utf-8")
        sweep = load_sweep(file)
        print(f"{count_points(sweep):,} designs, {options.jobs} workers", flush=True)
        watch, begun = Watch(), time.monotonic()
        told = begun

        def tell(progress: SweepProgress) -> None:
            nonlocal told
            if time.monotonic() - told > 30:
                told = time.monotonic()
                print(f"  {progress.done:,} done, {progress.points_per_s:.0f} a second", flush=True)

        counts = run_sweep(sweep, store, jobs=options.jobs, progress=tell)
        elapsed = time.monotonic() - begun
        watch.stop()
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cpu_s = [use.ru_utime + use.ru_stime for use in used]
        begun = time.monotonic()
        status = sweep_status(sweep, store)
        status_s = time.monotonic() - begun
        n = max(1, counts.total())
        figures = {
            "points": counts.total(),
            **counts,
            "total_s": round(elapsed, 1),
            "points_per_s": round(n / elapsed, 1),
            "cpu_ms_per_point": round(1e3 * sum(cpu_s) / n, 2),
            "cpu_s_parent": round(cpu_s[0], 1),
            "cpu_s_workers": round(cpu_s[1], 1),
            "peak_memory_mb": round(watch.peak_mb),
            "store_mb": round(store.stat().st_size / 1e6, 1),
            "status_s": round(status_s, 2),
            "missing": status["missing"],
        }
        print(json.dumps(figures, indent=2))
        if options.check:
            check(sweep, store, options.check)
            print(f"{options.check} designs searched alone: all figures the same")


if __name__ == "__main__":
    main()
