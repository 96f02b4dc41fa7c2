"""Residency where people ask for it: one line that tells of it, and `compare`, `why` and `sweep` with a plan."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

import pytest

from tilewright.__main__ import main
from tilewright.hw_models.load import load_machine
from tilewright.search.network import simulate_stream
from tilewright.search.residency.outlook import outlook_of
from tilewright.workloads.network import load_network
from tilewright.workloads.zoo.layers import Layers

INT8 = ["--weights", "int8", "--activations", "int8"]
SWEEP = """
name: capacities
machine: edge-16x16
workloads: ["network:autoencoder"]
objective: latency
formats: {weights: int8, activations: int8}
parameters:
  buffers.l1.capacity_kib: [64, 512]
  residency: [none, plan]
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


def test_one_line_tells_that_a_plan_could_help(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["simulate", "autoencoder", "-a", "edge-16x16", *INT8]
    code, _, told = run(capsys, *command)
    lines = [line for line in told.splitlines() if "--residency plan" in line]
    assert code == 0 and len(lines) == 1 and "could stay in l1 (5 MiB)" in lines[0]
    assert "--residency" not in run(capsys, *command, "--residency", "none")[2]


def test_what_could_stay_is_not_above_what_a_plan_gives() -> None:
    machine = load_machine("edge-16x16 with dram.bandwidth_gb_per_s=2")
    stream = load_network("autoencoder").with_formats(weights="int8", activations="int8")
    found = outlook_of(stream, machine)
    assert found is not None
    planned = simulate_stream(stream, machine, residency=True)
    assert found.bound_cycles <= planned.cycles < found.bound_now_cycles
    assert outlook_of(stream, machine.with_(n_cores=2)) is None  # no memory that all cores reach


def test_a_hint_ends_no_run() -> None:
    """Attention on a machine without a rate for the format that probabilities usually have."""
    b = Layers("attention", activations="int8", weights="int8")
    q, k, v = (b.linear(b.input(name, (1, 16, 32)), 32, f"{name}.linear") for name in "qkv")
    network = b.finish([b.attention(q, k, v, "attention", head_dim=16)])
    found = outlook_of(network, load_machine("ethos-u55-256"))
    assert found is not None and found.bound_cycles <= found.bound_now_cycles


def test_compare_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    code, told, _ = run(
        capsys, "compare", "autoencoder", "-a", "edge-16x16", "--residency", "plan", *INT8, "--csv", "-"
    )
    assert code == 0 and "edge-16x16 with residency=plan" in told
    code, told, _ = run(capsys, "why", "autoencoder", "-a", "edge-16x16", "--residency", "plan", *INT8)
    assert code == 0 and "kept in l1" in told
    code, _, told = run(capsys, "compare", "gemm:m=8,n=8,k=8", "-a", "edge-16x16", "--residency", "plan")
    assert code == 2 and told.count("--residency: is for whole networks") == 1
    code, _, told = run(capsys, "why", "autoencoder", "-a", "edge-16x16", "--residency", "plans")
    assert code == 2 and 'given "plans"' in told


def test_a_sweep_sees_capacity(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Without a plan the two buffers are equal; with one the weights stay in the larger."""
    path, store = tmp_path / "sweep.yaml", str(tmp_path / "results.db")
    path.write_text(SWEEP, encoding="utf-8")
    code, told, _ = run(capsys, "sweep", str(path), "--store", store, "-j", "1", "--csv", "-")
    assert code == 0
    rows = {(row["residency"], row["buffers.l1.capacity_kib"]): row for row in csv.DictReader(StringIO(told))}
    cycles = {at: int(row["cycles"]) for at, row in rows.items()}
    assert cycles["none", "64"] == cycles["none", "512"] > cycles["plan", "64"] > cycles["plan", "512"]
    assert int(rows["plan", "512"]["plan_weight_bytes"]) > 200_000 and float(rows["plan", "512"]["plan_gap"]) == 0
    code, _, told = run(capsys, "sweep", str(path), "--store", store, "--residency", "plan", "--status")
    assert code == 2 and "residency" in told  # the file varies it
    code, _, told = run(capsys, "sweep", "--store", store, "--residency", "plan")
    assert code == 2 and "--residency: changes the machine of a sweep" in told
