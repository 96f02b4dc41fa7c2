"""Is a machine that is changed on the command line the one that a file with that figure describes?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tilewright.cli.run import run
from tilewright.errors import InputError
from tilewright.hw_models.describe import describe, figures_hash, too_small
from tilewright.hw_models.gpu.calibration import calibration_of
from tilewright.hw_models.load import load_machine, machine_names, machine_text
from tilewright.search.sweep.spec import load_sweep

GEMM = "gemm:m=32,n=48,k=16,format=int8"


def test_a_changed_machine_is_that_of_a_changed_file(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(machine_text("edge-16x16").replace("rows: 16", "rows: 8").replace("5120", "64"))
    changed = load_machine("edge-16x16", ["matrix.rows=8", "buffers.l1.capacity_kib = 64"])
    assert figures_hash(changed) == figures_hash(load_machine(path)) != figures_hash(load_machine("edge-16x16"))
    assert changed.name == "edge-16x16 with matrix.rows=8, buffers.l1.capacity_kib=64"
    assert changed.base_name == "edge-16x16"
    assert load_machine(changed.name) == changed
    rows = {row.path: row for row in describe(changed)}
    assert rows["matrix.rows"].source == "changed from 16"


def test_values_are_read_as_yaml() -> None:
    machine = load_machine(
        "edge-16x16 with matrix.multiplies_per_pe_per_cycle={fp16: 1, int8: 2}, dram.grade=null, "
        "energy.multiply_accumulate_pj.bf16=null, clock_ghz=8e-1, matrix.partial_use=true"
    )
    assert dict(machine.matrix.multiplies_per_pe_per_cycle) == {"fp16": 1, "int8": 2}
    assert (machine.dram.grade, machine.clock_ghz, machine.matrix.partial_use) == (None, 0.8, True)


def test_a_part_that_the_machine_has_not_had_can_be_given() -> None:
    assert load_machine("edge-16x16", ["area.total_mm2=4"]).area is not None
    machine = load_machine("tileflow-cloud")
    name = machine.buffers[-1].name
    gone = [f"energy.buffer_{way}_pj_per_byte.{name}=null" for way in ("read", "write")]
    assert load_machine("tileflow-cloud", [f"buffers.{name}=null", *gone]).buffers == machine.buffers[:-1]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("matrix.rows", 'not of the form PATH=VALUE; given "matrix.rows"; allowed for example matrix.rows=32'),
        ("matrix.rows=", "not of the form PATH=VALUE"),
        ("=32", "not of the form PATH=VALUE"),
        ("matrix.row=32", 'edge-16x16: matrix.row: unknown field; given "row"; allowed rows, columns,'),
        ("matrix.rows=0", "edge-16x16: matrix.rows: out of range; given 0; allowed a whole number of at least 1"),
        ("matrix.rows=x", 'edge-16x16: matrix.rows: not a whole number; given "x"'),
        ("buffers.l2.capacity_kib=4", 'unknown field; given "l2"; allowed l1 (did you mean "l1"?)'),
        ("dram.detail=[", 'dram.detail: not a value; given "["; allowed a number, text, true'),
        ("area.totl_mm2=4", '(did you mean "total_mm2"?)'),
        ("sources=3", "edge-16x16: sources: not a list; given 3"),
        ("buffers=3", "edge-16x16: buffers: not a list; given 3"),
        ("energy.vector_pj.exp=null", "energy.vector_pj: lacks exp"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(setting: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", GEMM, "-a", "edge-16x16", "--set", setting]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("tilewright: error: --set: ")
    assert expected in said.err
    assert said.err.count("\n") == 1


def test_a_path_is_set_once() -> None:
    with pytest.raises(InputError, match="n_cores is given twice; allowed once"):
        load_machine("edge-16x16 with n_cores=2", ["n_cores=3"])


@pytest.mark.parametrize(
    "command",
    [
        ["simulate", GEMM, "-a", "edge-16x16"],
        ["compare", GEMM, "-a", "edge-16x16"],
        ["why", GEMM, "-a", "edge-16x16"],
        ["search", GEMM, "--over", "tiling", "-a", "edge-16x16"],
        ["show", "edge-16x16"],
    ],
)
def test_every_command_names_the_changed_machine(command: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert run([*command, "--set", "matrix.rows=8", "--json", str(out)]) == 0
    (machine,) = json.loads(out.read_text())["header"]["machines"]
    assert machine["name"] == "edge-16x16 with matrix.rows=8"
    assert machine["hash"] == figures_hash(load_machine("edge-16x16", ["matrix.rows=8"]))


def test_a_machine_stands_beside_the_changed_one(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    both = ["-a", "edge-16x16", "-a", "edge-16x16 with matrix.rows=8"]
    assert run(["compare", GEMM, *both, "--json", str(out)]) == 0
    cycles = [one["cycles"] for one in json.loads(out.read_text())["runs"]]
    assert cycles[0] < cycles[1]


def test_a_measured_table_is_held_against_the_changed_machine(tmp_path: Path) -> None:
    table, out = tmp_path / "t.csv", tmp_path / "out.json"
    table.write_text(f'layer,ms\n"{GEMM}",0.01\n"gemm:m=64,n=48,k=16,format=int8",0.02\n')
    assert run(["validate", str(table), "-a", "edge-16x16", "--set", "clock_ghz=0.5", "--json", str(out)]) == 0
    assert json.loads(out.read_text())["header"]["machines"][0]["name"] == "edge-16x16 with clock_ghz=0.5"
    assert run(["validate", str(table), "-a", "edge-16x16", "--set", "clock=0.5"]) == 2


def test_a_sweep_starts_from_the_changed_machine(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("machine: edge-16x16\nworkloads: [bert-base]\nparameters: {vector.lanes: [64, 128]}\n")
    sweep = load_sweep(path, settings=["matrix.rows=8"])
    assert (sweep.machine.matrix.rows, sweep.machine.name) == (8, "edge-16x16 with matrix.rows=8")
    with pytest.raises(InputError, match=r"--set: vector.lanes: is varied by .*; allowed for what it does not vary"):
        load_sweep(path, settings=["vector.lanes=8"])
    path.write_text("machine: edge-16x16 with matrix.rows=8\nworkloads: [bert-base]\n")
    assert load_sweep(path).machine == sweep.machine


def test_a_buffer_below_a_tile_of_the_array_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", GEMM, "-a", "edge-16x16", "--set", "buffers.l1.capacity_kib=0.25"]) == 0
    said = capsys.readouterr().err
    assert "buffers.l1.capacity_kib: 256 bytes hold no tile of the whole array (16 x 16, with operands and" in said
    assert "results 288 bytes), so that it is never filled; with 0.28125 KiB it can be" in said
    for name in machine_names():
        assert too_small(load_machine(name)) == []


def test_a_changed_gpu_keeps_its_calibration() -> None:
    assert calibration_of(load_machine("h200", ["gpu.power_limit_w=500"])) == calibration_of(load_machine("h200"))
