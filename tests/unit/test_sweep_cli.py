"""What `tilewright sweep` says beside its tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import tilewright
from tilewright.cli.run import run


def test_a_store_of_another_version_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, store = tmp_path / "sweep.yaml", tmp_path / "results.db"
    text = "name: tiny\nmachine: edge-16x16\nworkloads: ['attention:heads=1,seq=32,head_dim=16']\n"
    file.write_text(text, encoding="utf-8")
    assert run(["sweep", str(file), "--store", str(store), "--status"]) == 0
    assert "another version" not in capsys.readouterr().err
    assert run(["sweep", str(file), "--store", str(store), "--jobs", "1"]) == 0
    assert "another version" not in capsys.readouterr().err
    file.write_text(text.replace("seq=32", "seq=33"), encoding="utf-8")
    assert run(["sweep", str(file), "--store", str(store), "--status"]) == 0
    assert "has points of tiny, but of another version of the file or of Tilewright" in capsys.readouterr().err


def test_a_sweep_over_a_gpu_says_what_times_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Library kernels unless dataflows or the engine are asked for; more bandwidth never makes a design slower."""
    text = """
name: gpu
machine: h100
workloads: ['attention:heads=8,seq=128,head_dim=64', 'llama-3-8b-block:decode=1,context=64']
parameters: {dram.bandwidth_gb_per_s: [2000, 3350, 4800], matrix.rows: [32, 64]}
"""
    file, store = tmp_path / "sweep.yaml", tmp_path / "results.db"
    file.write_text(text, encoding="utf-8")
    assert run(["sweep", str(file), "--store", str(store), "--jobs", "1", "--csv", str(tmp_path / "rows.csv")]) == 0
    assert "12 points on h100, as library kernels (eager)" in " ".join(capsys.readouterr().out.split())
    frame = pd.read_csv(tmp_path / "rows.csv", comment="#")
    assert set(frame.dataflow) == {"eager"} and (frame.status == "done").all()
    one = frame[frame.workload.str.startswith("llama") & (frame["matrix.rows"] == 64)]
    assert one.sort_values("dram.bandwidth_gb_per_s").cycles.is_monotonic_decreasing
    wanted = tilewright.simulate_network("llama-3-8b-block:decode=1,context=64", "h100").cycles
    assert one[one["dram.bandwidth_gb_per_s"] == 3350].cycles.tolist() == [wanted]
    assert run(["report", str(store), "-o", str(tmp_path / "page.html")]) == 0
    assert "library kernels of a GPU (eager)" in (tmp_path / "page.html").read_text(encoding="utf-8")
    capsys.readouterr()
    file.write_text(text + "kernels: fused\ndataflows: [mas]\n", encoding="utf-8")
    assert run(["sweep", str(file), "--store", str(store)]) == 2
    assert "kernels: is for library kernels" in capsys.readouterr().err
    file.write_text(text.replace("h100", "edge-16x16") + "kernels: fused\n", encoding="utf-8")
    assert run(["sweep", str(file), "--store", str(store)]) == 2
    assert "is not a GPU" in capsys.readouterr().err
    file.write_text(text + "kernels: engine\n", encoding="utf-8")
    assert run(["sweep", str(file), "--store", str(store), "--status"]) == 0
    assert "on h100, the engine's exact schedules" in " ".join(capsys.readouterr().out.split())
