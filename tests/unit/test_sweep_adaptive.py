"""Adaptive sampling: repeatable, resumed the same way, within its conditions, and near the true front."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import tilewright
from tilewright.errors import InputError
from tilewright.search.sweep import work as sweep_work
from tilewright.search.sweep.adaptive import generations
from tilewright.search.sweep.front import DesignScore, front_of_sweep, score_design
from tilewright.search.sweep.run import run_sweep, sweep_rows, sweep_status
from tilewright.search.sweep.space import Design, designs
from tilewright.search.sweep.spec import Sweep, load_sweep
from tilewright.search.sweep.store import ResultsStore

LAYERS = ["attention:heads=1,seq=32,head_dim=16", "attention:heads=2,query_len=1,key_len=64,head_dim=16"]
GRID: dict[str, Any] = {
    "machine": "edge-16x16",
    "area": {"mm2_per_pe": 0.01, "mm2_per_lane": 0.02, "mm2_per_kib": 0.005},
    "parameters": {
        "matrix.rows": [4, 8, 16, 32],
        "matrix.columns": [4, 8, 16, 32],
        "vector.lanes": [8, 16, 32, 64],
        "dram.bandwidth_gb_per_s": [5, 10, 20, 40],
        "buffers.l1.capacity_kib": [8, 16],
    },
    "workloads": LAYERS,
}
SEARCH = GRID | {"sampling": {"method": "nsga2", "n": 60, "seed": 1}}


def made_up(sweep: Sweep) -> Callable[[Sequence[Design]], list[DesignScore]]:
    """Objectives that cost nothing, against each other in every parameter."""

    def scores(some: Sequence[Design]) -> list[DesignScore]:
        found = []
        for design in some:
            sizes = [float(value) for value in design.values()]
            objectives = sum(1 / size for size in sizes), sum(sizes), -sizes[0]
            found.append(DesignScore(objectives=objectives, violation=0))
        return found

    return scores


def volume(front: Sequence[Sequence[float]], everything: Sequence[Sequence[float]]) -> float:
    """The hypervolume under the worst of ``everything``, each objective from 0 to 1."""
    import numpy as np
    from pymoo.indicators.hv import HV

    low, high = np.min(everything, axis=0), np.max(everything, axis=0)
    return float(HV(ref_point=np.ones(len(low)))((np.array(front) - low) / (high - low)))


def row(**changes: Any) -> dict[str, Any]:
    values = {"status": "done", "workload": load_sweep(SEARCH).layers[0].name, "dataflow": "mas", "cycles": 1}
    return values | {"seconds": 1.0, "energy_pj": 1.0, "power_w": 1.0, "area_mm2": 2.0, "peak_tops": 1.0} | changes


def test_objectives_are_geometric_means_of_each_workload_at_its_best() -> None:
    sweep = load_sweep(SEARCH | {"limits": ["power_w <= 5"], "dataflows": ["mas", "flat"]})
    other = sweep.layers[1].name
    rows = [
        row(seconds=4.0, energy_pj=9.0),
        row(seconds=8.0, energy_pj=1.0, dataflow="flat"),
        row(seconds=1.0, energy_pj=4.0, workload=other),
        row(seconds=0.5, energy_pj=1.0, workload=other, dataflow="flat", power_w=9.0),
    ]
    score, chosen = score_design(sweep, rows)
    assert score.violation == 0
    assert score.objectives == pytest.approx((2.0, 6.0, 2.0))
    assert [one["dataflow"] for one in chosen] == ["mas", "mas"]
    assert score_design(sweep, rows[:2])[0] == DesignScore(objectives=None, violation=2)
    assert score_design(sweep, [rows[0], rows[3]])[0].violation == 1


@pytest.mark.extras
class TestSearch:
    @pytest.fixture(autouse=True)
    def needs_pymoo(self) -> None:
        pytest.importorskip("pymoo")

    def test_is_repeatable_and_within_its_budget_and_conditions(self) -> None:
        sweep = load_sweep(SEARCH | {"conditions": ["matrix.rows * matrix.columns <= 512"], "limits": ["area_mm2 < 7"]})
        found = list(generations(sweep, made_up(sweep)))
        assert found == list(generations(sweep, made_up(sweep)))
        flat = [tuple(design.values()) for generation in found for design in generation]
        assert len(flat) == len(set(flat)) == 60
        assert set(flat) <= {tuple(design[path] for path in sweep.paths) for design in every_design(sweep)}
        other = load_sweep(SEARCH | {"sampling": SEARCH["sampling"] | {"seed": 2}})
        assert found[0] != next(generations(other, made_up(other)))

    def test_ends_when_there_is_nothing_new(self) -> None:
        sweep = load_sweep(SEARCH | {"sampling": SEARCH["sampling"] | {"n": 10_000, "population": 20}})
        flat = [tuple(design.values()) for generation in generations(sweep, made_up(sweep)) for design in generation]
        assert len(flat) == len(set(flat)) == 512

    def test_takes_intervals(self) -> None:
        parameters = {
            "matrix.rows": {"from": 4, "to": 64, "scale": "geometric"},
            "dram.bandwidth_gb_per_s": {"from": 5, "to": 50},
        }
        sweep = load_sweep(SEARCH | {"parameters": parameters})
        found = [design for generation in generations(sweep, made_up(sweep)) for design in generation]
        assert len(found) == 60
        assert all(isinstance(d["matrix.rows"], int) and 4 <= d["matrix.rows"] <= 64 for d in found)
        assert all(5 <= d["dram.bandwidth_gb_per_s"] <= 50 for d in found)

    def test_goes_the_same_way_after_a_crash(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sweep = load_sweep(SEARCH)
        run_sweep(sweep, tmp_path / "whole.db", jobs=1)
        assert sweep_status(sweep, tmp_path / "none.db")["missing"] == 120
        n_run, real = 0, sweep_work.SweepBench.run

        def failing(bench: Any, point: Any) -> Any:
            nonlocal n_run
            n_run += 1
            if n_run in (7, 50, 51, 90):
                raise KeyboardInterrupt
            return real(bench, point)

        monkeypatch.setattr(sweep_work.SweepBench, "run", failing)
        missing = [120]
        for _ in range(4):
            with pytest.raises(KeyboardInterrupt):
                run_sweep(sweep, tmp_path / "r.db", jobs=1)
            missing.append(sweep_status(sweep, tmp_path / "r.db")["missing"])
        assert missing == [120, 114, 72, 72, 34]
        run_sweep(sweep, tmp_path / "r.db", jobs=1)
        assert n_run == 120 + 4
        assert figures(sweep, tmp_path / "r.db") == figures(sweep, tmp_path / "whole.db")
        assert sweep_status(sweep, tmp_path / "r.db") == {**sweep_status(sweep, tmp_path / "whole.db"), "missing": 0}
        assert run_sweep(sweep, tmp_path / "r.db", jobs=2).total() == 0

    def test_goes_the_same_way_after_kills(self, tmp_path: Path) -> None:
        sweep, store, spec = load_sweep(SEARCH), tmp_path / "r.db", tmp_path / "sweep.yaml"
        spec.write_text(json.dumps(SEARCH))
        run_sweep(sweep, tmp_path / "whole.db", jobs=1)
        command = [sys.executable, "-m", "tilewright", "sweep", str(spec), "--store", str(store), "-j", "1"]
        for least in (5, 60):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            give_up = time.monotonic() + 60
            while process.poll() is None and n_rows(store) < least:
                assert time.monotonic() < give_up
                time.sleep(0.01)
            process.kill()
            process.wait()
            assert 120 - sweep_status(sweep, store)["missing"] == n_rows(store) >= least
        run_sweep(sweep, store, jobs=1)
        assert figures(sweep, store) == figures(sweep, tmp_path / "whole.db")
        with ResultsStore(store) as opened:
            assert sum(1 for _ in opened.rows()) == 120  # none besides those of the undisturbed search

    def test_workers_change_nothing(self, tmp_path: Path) -> None:
        sweep = load_sweep(SEARCH | {"sampling": SEARCH["sampling"] | {"n": 24}})
        run_sweep(sweep, tmp_path / "one.db", jobs=1)
        run_sweep(sweep, tmp_path / "two.db", jobs=2)
        assert figures(sweep, tmp_path / "one.db") == figures(sweep, tmp_path / "two.db")

    def test_finds_the_front_of_a_grid_with_a_part_of_the_runs(self, tmp_path: Path) -> None:
        grid = GRID | {"workloads": LAYERS[:1]}
        whole = load_sweep(grid)
        sweep = load_sweep(grid | {"sampling": {"method": "nsga2", "n": 120, "seed": 1}})
        run_sweep(whole, tmp_path / "r.db", jobs=1)
        assert not run_sweep(sweep, tmp_path / "r.db", jobs=1)  # its designs are there already
        rows = list(sweep_rows(whole, tmp_path / "r.db"))
        known = [score.objectives for one in rows if (score := score_design(sweep, [one])[0]).objectives is not None]
        true = [one.objectives for one in front_of_sweep(sweep, rows)]
        found = [one.objectives for one in front_of_sweep(sweep, sweep_rows(sweep, tmp_path / "r.db"))]
        assert volume(found, known) > 0.98 * volume(true, known)
        assert len(set(found) & set(true)) > 0.6 * len(true)

    def test_example(self, tmp_path: Path) -> None:
        """The file as it is, on shorter layers and with fewer designs."""
        text = (Path(__file__).resolve().parents[2] / "examples" / "edge_front.yaml").read_text(encoding="utf-8")
        assert text.count("\n") < 30
        text = text.replace("[vit-b-16, llama-3-8b-decode]", '["vit-b-16:seq=49", "llama-3-8b-decode:key_len=64"]')
        (tmp_path / "s.yaml").write_text(text.replace("n: 300", "n: 16"), encoding="utf-8")
        frame = tilewright.sweep(tmp_path / "s.yaml", jobs=1)
        assert len(frame) == 32
        assert set(frame["workload"]) == {"vit-b-16:seq=49", "llama-3-8b-decode:key_len=64"}
        assert (frame["vector.lanes"] <= frame["matrix.rows"] * frame["matrix.columns"]).all()

    def test_limits_lead_to_designs_that_keep_them(self, tmp_path: Path) -> None:
        given = SEARCH | {
            "limits": ["power_w <= 0.45", "latency_ms < 0.002"],
            "sampling": SEARCH["sampling"] | {"n": 40},
        }
        frame = tilewright.sweep(given, tmp_path / "r.db", jobs=1)
        front = front_of_sweep(load_sweep(given), sweep_rows(load_sweep(given), tmp_path / "r.db"))
        assert len(frame) == 80
        assert front
        assert all(row["power_w"] <= 0.45 for one in front for row in one.rows)
        assert all(one.objectives[0] <= other.objectives[0] for one, other in pairwise(front))

    def test_command_shows_the_front(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from tilewright.cli import main

        (tmp_path / "s.yaml").write_text(json.dumps(SEARCH | {"sampling": SEARCH["sampling"] | {"n": 16}}))
        with pytest.raises(SystemExit) as stopped:
            main(["sweep", str(tmp_path / "s.yaml"), "--store", str(tmp_path / "r.db"), "-j", "1", "--json", "-"])
        assert stopped.value.code == 0
        data = json.loads(capsys.readouterr().out)
        assert data["points"]["missing"] == 0
        assert {"latency_s", "energy_pj", "area_mm2", "matrix.rows"} <= set(data["front"][0])


def n_rows(store: Path) -> int:
    """How many rows a store has by now."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db,
    ):
        return int(db.execute("SELECT count(*) FROM points").fetchone()[0])
    return 0


def every_design(sweep: Sweep) -> list[Design]:
    return list(designs(load_sweep(GRID | {"conditions": [one.text for one in (*sweep.conditions, *sweep.limits)]})))


def figures(sweep: Sweep, store: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in one.items() if k != "evaluation_s"} for one in sweep_rows(sweep, store)]


def test_search_without_pymoo_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymoo.core.problem", None)
    monkeypatch.setitem(sys.modules, "pymoo.algorithms.moo.nsga2", None)
    with pytest.raises(InputError, match=r"^sampling: method nsga2 needs pymoo; install it with: pip install 'tilewr"):
        next(generations(load_sweep(SEARCH), lambda designs: []))
