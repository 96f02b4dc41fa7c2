"""Residency where people ask for it: one line that tells of it, and `compare`, `why` and `sweep` with a plan."""

from __future__ import annotations

import csv
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from tilewright.__main__ import main
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import BufferSpec
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
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for this file, so that each mapping is searched once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(cache))


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


def test_what_could_stay_in_a_slow_level() -> None:
    """Where the DRAM is faster than the level, what is best there, not everything."""
    b = Layers("small", activations="int8", weights="int8")
    network = b.finish([b.linear(b.linear(b.input("x", (1, 32, 32)), 64, "up"), 32, "down")])
    edge = load_machine("edge-16x16")
    slow = BufferSpec(name="l2", capacity_kib=64, read_bytes_per_cycle=1, write_bytes_per_cycle=1, shared_by_cores=True)
    pj = {"l1": 1.0, "l2": 3.0}
    energy = replace(edge.energy, buffer_read_pj_per_byte=pj, buffer_write_pj_per_byte=pj)
    found = outlook_of(network, replace(edge, buffers=(*edge.buffers, slow), energy=energy, n_cores=2))
    assert found is not None and found.memory == "l2"
    assert found.bound_cycles <= found.bound_now_cycles


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
    path, store = tmp_path / "sweep.yaml", str(tmp_path / "results.db")
    path.write_text(SWEEP, encoding="utf-8")
    command = ["sweep", str(path), "--store", store, "--residency", "plan", "-j", "1", "--csv", "-"]
    code, told, _ = run(capsys, *command)
    assert code == 0
    rows = {row["buffers.l1.capacity_kib"]: row for row in csv.DictReader(StringIO(told))}
    assert int(rows["64"]["cycles"]) > int(rows["512"]["cycles"])
    assert int(rows["512"]["plan_weight_bytes"]) > 200_000 and float(rows["512"]["plan_gap"]) == 0
    code, _, told = run(capsys, "sweep", "--store", store, "--residency", "plan")
    assert code == 2 and "--residency: changes the machine of a sweep" in told
