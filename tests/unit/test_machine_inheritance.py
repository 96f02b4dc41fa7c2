"""Does a machine file that inherits from another one mean what the two say together?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tilewright.cli.run import run
from tilewright.errors import InputError
from tilewright.hw_models.describe import describe, figures
from tilewright.hw_models.load import load_machine, machine_names, machine_text
from tilewright.hw_models.spec import MachineSpec


def _file(folder: Path, text: str, name: str = "m.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def _said(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_machine(path)
    return str(caught.value)


def _figures(machine: MachineSpec) -> dict[str, Any]:
    return {f"{section}.{name}": value for section, name, value in figures(machine)}


def test_nothing_but_a_name_is_the_same_machine(tmp_path: Path) -> None:
    for name in machine_names():
        machine = load_machine(_file(tmp_path, f"name: mine\nbase: {name}\n"))
        assert _figures(machine) == _figures(load_machine(name))
        assert (machine.name, machine.description) == ("mine", f"as {name}")
        assert machine.assumptions == (*load_machine(name).assumptions, f"inherits all of {name}")


def test_what_a_file_gives_counts_and_the_rest_is_inherited(tmp_path: Path) -> None:
    text = """
name: mine
base: edge-16x16
matrix: {rows: 32, multiplies_per_pe_per_cycle: {bf16: null}}
buffers: [{name: l2, capacity_kib: 4096}, {name: l1, capacity_kib: 512}]
dram: {grade: null}
energy:
  multiply_accumulate_pj: {bf16: null}
  buffer_read_pj_per_byte: {l2: 4}
  buffer_write_pj_per_byte: {l2: 4}
assumptions: [of my own]
sources: [{fields: [matrix.rows], kind: datasheet, source: sheet}]
"""
    machine, base = load_machine(_file(tmp_path, text)), load_machine("edge-16x16")
    rows = {row.path: row for row in describe(machine)}
    assert (machine.matrix.rows, machine.matrix.columns) == (32, 16)
    assert list(machine.matrix.multiplies_per_pe_per_cycle) == ["fp16", "int8"]
    assert [(one.name, one.capacity_kib) for one in machine.buffers] == [("l2", 4096), ("l1", 512)]
    assert machine.dram.grade is None
    assert machine.vector == base.vector
    assert rows["matrix.rows"].source == "sheet"
    assert rows["matrix.columns"].source.startswith("TransFusion")
    assert rows["buffers.l1.capacity_kib"].source == "changed from 5120, which edge-16x16 has"
    assert rows["energy.buffer_read_pj_per_byte.l2"].kind == "assumed"
    assert machine.assumptions[-1] == "of my own"
    assert "inherits edge-16x16, but for matrix.rows 32 instead of 16, no matrix" in machine.assumptions[-2]


def test_new_things_of_a_list_come_behind_and_null_removes_one(tmp_path: Path) -> None:
    _file(
        tmp_path,
        "name: first\nbase: edge-16x16\nbuffers: {l2: {capacity_kib: 8000}}\n"
        "energy: {buffer_read_pj_per_byte: {l2: 4}, buffer_write_pj_per_byte: {l2: 4}}\n",
        "sub/first.yaml",
    )
    again = "energy: {buffer_read_pj_per_byte: {l2: null}, buffer_write_pj_per_byte: {l2: null}}"
    machine = load_machine(_file(tmp_path, f"name: second\nbase: sub/first.yaml\nbuffers: {{l2: null}}\n{again}\n"))
    first = load_machine(tmp_path / "sub" / "first.yaml")
    assert [one.name for one in first.buffers] == ["l1", "l2"]
    assert first.buffers[1].capacity_kib == 8000
    assert machine.buffers == load_machine("edge-16x16").buffers
    assert "no buffers.l2" in machine.assumptions[-1]


def test_lists_that_begin_with_null_leave_out_those_of_the_base(tmp_path: Path) -> None:
    text = (
        "name: m\nbase: edge-16x16\nassumptions: [null, mine]\nsources: [null, {fields: ['*'], kind: paper, source: p}]"
    )
    machine = load_machine(_file(tmp_path, text))
    assert machine.assumptions == ("inherits all of edge-16x16", "mine")
    assert {row.source for row in describe(machine) if not row.section.startswith("dram.timing")} == {"p"}


def test_an_inherited_machine_is_the_one_written_out(tmp_path: Path) -> None:
    data = yaml.safe_load(machine_text("edge-16x16"))
    data["matrix"]["rows"] = 8
    data["energy"]["static_mw"] = 5
    whole = load_machine(_file(tmp_path, yaml.safe_dump(data), "whole.yaml"))
    short = load_machine(_file(tmp_path, "name: m\nbase: edge-16x16\nmatrix: {rows: 8}\nenergy: {static_mw: 5}\n"))
    assert _figures(short) == _figures(whole)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("base: edge-16x61", ':2:7: base: unknown machine; given "edge-16x61"; allowed a100,'),
        ("base: edge-16x61", '(did you mean "edge-16x16"?)'),
        ("base: no.yaml", ':2:7: base: no such file; given "no.yaml"; allowed the path of a machine file from this'),
        ("base: [a]", ":2:7: base: not text; given a list; allowed the name of a machine, or a path"),
        ("base: m.yaml", ":2:7: base: a circle; given "),
        ("bas: edge-16x16", ':2:1: bas: unknown field; given "bas"; allowed base, name,'),
        ("bas: edge-16x16", '(did you mean "base"?)'),
        ("base: edge-16x16\nmatrix: {rows: 0}", ":3:16: matrix.rows: out of range; given 0; allowed a whole number"),
        ("base: edge-16x16\nmatrix: {row: 8}", ":3:10: matrix.row: unknown field; given 8; allowed rows,"),
        ("base: edge-16x16\nmatrix: {blok: null}", ":3:10: matrix.blok: unknown field; given nothing"),
        (
            "base: tileflow-cloud\nbuffers: {l2: {write_bytes_per_cycle: null}}",
            "tileflow-cloud.yaml:24:27: buffers.1.read_bytes_per_cycle: without write_bytes_per_cycle nothing can",
        ),
        (
            "base: edge-16x16\nbuffers: {l1: {latency_cycles: 5}}",
            ':3:32: buffers.0.latency_cycles: nothing waits for "l1", for the working buffer is not',
        ),
        (
            "base: tileflow-cloud\nbuffers: {l2: {latency_cycles: 5, read_bytes_per_cycle: null, "
            "write_bytes_per_cycle: null}}",
            ':3:32: buffers.1.latency_cycles: nothing waits for "l2", for it is used with both',
        ),
        (
            "base: tileflow-cloud\nbuffers: {l2: {read_bytes_per_cycle: 0}}",
            ":3:38: buffers.1.read_bytes_per_cycle: out of",
        ),
        ("base: nvdla-2048\nmatrix: {partial_use: true}", ":3:23: matrix.partial_use: is for systolic arrays; allowed"),
        (
            "base: h200\nbuffers: {l2: null}\n"
            "energy: {buffer_read_pj_per_byte: {l2: null}, buffer_write_pj_per_byte: {l2: null}}",
            'gpu: needs a buffer called "l2", which its kernels read through',
        ),
        (
            "base: edge-16x16\nenergy: {buffer_read_pj_per_byte: {L1: 3}}",
            ':3:40: energy.buffer_read_pj_per_byte.L1: has what the machine has not; given "L1"; allowed l1 (',
        ),
        ("base: edge-16x16\nassumptions: 5", ":3:14: assumptions: not a list; given 5"),
        (
            "base: edge-16x16\nbuffers: {l2: {capacity_kib: 5}}",
            "energy.buffer_read_pj_per_byte: lacks l2; allowed exactly l1, l2 (inherited by ",
        ),
    ],
)
def test_a_fault_is_one_line_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    path = _file(tmp_path, f"name: mine\n{text}\n")
    said = _said(path)
    assert said.startswith((f"{path}:", "edge-16x16.yaml:30", "tileflow-cloud.yaml:24", "h200.yaml:"))
    assert expected in said
    assert "\n" not in said


def test_a_fault_of_the_base_is_placed_there(tmp_path: Path) -> None:
    base = _file(tmp_path, machine_text("edge-16x16").replace("rows: 16", "rows: 0"), "base.yaml")
    path = _file(tmp_path, "name: mine\nbase: base.yaml\nvector: {lanes: 0}\n")
    first, second = _said(path).split("\n")
    assert first.startswith(f"{path}:3:17: vector.lanes: out of range")
    assert second.startswith(f"{base}:7:9: matrix.rows: out of range")
    _file(tmp_path, "name: [", "base.yaml")
    assert _said(path).startswith(f"{base}:1:8: machine: not valid YAML")


def test_a_longer_circle_is_shown(tmp_path: Path) -> None:
    a, b = _file(tmp_path, "base: b.yaml", "a.yaml"), _file(tmp_path, "base: ./a.yaml", "b.yaml")
    assert f"{b}:1:7: base: a circle; given {a} -> {b} -> {a}; allowed" in _said(a)


def test_a_machine_needs_a_name_of_its_own(tmp_path: Path) -> None:
    path = _file(tmp_path, "base: edge-16x16\n")
    assert _said(path) == f"{path}:1:1: name: this field is missing; allowed non-empty text"


def test_a_source_that_names_no_figure_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "name: m\nbase: edge-16x16\nsources: [{fields: [matrix.row], kind: paper, source: p}]\n"
    assert run(["show", str(_file(tmp_path, text))]) == 0
    said = 'm: a source names "matrix.row", and no figure is called so (did you mean "matrix.rows"?)'
    assert said in capsys.readouterr().err
