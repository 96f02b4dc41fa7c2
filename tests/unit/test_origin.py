"""Files for other programs: where their figures come from, every column, and cells that no spreadsheet computes."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

import tilewright
from tilewright.cli import main
from tilewright.hw_models.describe import figures_hash
from tilewright.hw_models.load import load_machine
from tilewright.reports.csv_text import csv_cell, csv_text
from tilewright.reports.network_case import NetworkCase
from tilewright.reports.origin import Origin, layer_facts, network_facts
from tilewright.search.mapping_cache import ForgetfulCache
from tilewright.search.network import simulate_stream
from tilewright.workloads.load import load_workload
from tilewright.workloads.zoo.layers import Layers

FORMULA = "=HYPERLINK(0)"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd", "'+cmd"),
        ("-cmd", "'-cmd"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("＝1", "'＝1"),
        ("-1+cmd|' /C calc'!A0", "'-1+cmd|' /C calc'!A0"),
        ("-12", "-12"),
        ("-1.5e-3", "-1.5e-3"),
        ("+.5", "+.5"),
        (-12, -12),
        (-0.5, -0.5),
        ("conv=1", "conv=1"),
        ("", ""),
        (None, None),
        (True, True),
        ([FORMULA, 2], f"'{FORMULA} 2"),
        ({"query": 64, "key": 128}, "query=64 key=128"),
    ],
)
def test_a_cell_is_never_a_formula(value: Any, cell: Any) -> None:
    assert csv_cell(value) == cell


def test_a_table_of_formulas_is_read_as_texts_and_numbers() -> None:
    text = csv_text([{FORMULA: "@x", "n": -3}, {FORMULA: "a,b\nc", "n": -2.5, "more": '"'}])
    frame = pd.read_csv(io.StringIO(text))
    assert list(frame.columns) == [f"'{FORMULA}", "n", "more"]
    assert frame["n"].tolist() == [-3, -2.5]
    assert frame.iloc[:, 0].tolist() == ["'@x", "a,b\nc"]


def test_the_hash_is_that_of_the_figures() -> None:
    machine = load_machine("edge-16x16")
    assert figures_hash(machine) == figures_hash(replace(machine, name="other", description="x", sources=()))
    faster = replace(machine, clock_ghz=machine.clock_ghz * 2)
    larger = replace(machine, buffers=(replace(machine.buffers[0], capacity_kib=1024.0), *machine.buffers[1:]))
    assert len({figures_hash(one) for one in (machine, faster, larger, load_machine("flat-edge"))}) == 4


def test_a_row_keeps_its_own_columns_and_gets_those_of_its_workload() -> None:
    layers = [load_workload("bert-base"), load_workload("attention:heads=2,seq=64,head_dim=32,mask=causal")]
    machine = load_machine("edge-16x16")
    origin = Origin(machines=(machine,), workloads=tuple(map(layer_facts, layers)), facts={"dataflow": "?"})
    row = origin.completed({"workload": layers[1].name, "dataflow": "mas", "cycles": 7})
    assert "query_len=64" in row["size"] and "mask=causal" in row["size"] and "qkv fp16" in row["formats"]
    assert (row["dataflow"], row["machine"], row["machine_hash"]) == ("mas", "edge-16x16", figures_hash(machine))
    assert row["tilewright_version"] == tilewright.__version__


REQUESTS = {
    "simulate": ["simulate", "bert-base"],
    "compare": ["compare", "bert-base", "vit-b-14"],
    "why": ["why", "bert-base"],
    "show": ["show", "edge-16x16"],
    "list": ["list", "machines"],
}


@pytest.mark.parametrize("name", REQUESTS)
def test_files_say_where_their_figures_come_from(name: str, tmp_path: Path, stand_in_api: ModuleType) -> None:
    request = [*REQUESTS[name], *(["-a", "edge-16x16"] if name not in ("show", "list") else [])]
    outputs = ["--json", str(tmp_path / "a.json"), "--csv", str(tmp_path / "a.csv")]
    with pytest.raises(SystemExit) as ended:
        main([*request, *outputs])
    assert ended.value.code == 0
    data = json.loads((tmp_path / "a.json").read_text())
    header = data["header"]
    assert next(iter(data)) == "header"
    assert header["tilewright_version"] == tilewright.__version__
    assert header["command"] == " ".join(["tilewright", *request, *outputs])
    frame = pd.read_csv(tmp_path / "a.csv")
    assert set(frame["command"]) == {header["command"]}
    assert list(frame.columns)[-2:] == ["tilewright_version", "command"]
    if name != "list":
        assert header["machines"] == [{"name": "edge-16x16", "hash": figures_hash(load_machine("edge-16x16"))}]
        assert set(frame["machine_hash"]) == {header["machines"][0]["hash"]}
    if name in ("simulate", "compare", "why"):
        sizes = {workload["name"]: workload["size"] for workload in header["workloads"]}
        assert sizes == dict(zip(frame["workload"], frame["size"], strict=True))
        assert all("query_heads=12" in size for size in sizes.values())
        assert all("fp16" in workload["formats"] for workload in header["workloads"])


def small_case() -> NetworkCase:
    b = Layers("small")
    x = b.input("x", (32, 64))
    x = b.elementwise("relu", b.linear(x, 64, "first"))
    stream = b.finish([b.linear(x, 64, "second")])
    machine = load_machine("edge-16x16")
    result = simulate_stream(stream, machine, cache=ForgetfulCache())
    return NetworkCase(result=result, stream=stream, machine=machine, objective="latency")


def test_the_rows_of_a_network_have_all_that_its_json_has() -> None:
    case = small_case()
    origin = Origin(machines=(case.machine,), workloads=(network_facts(case.stream),))
    rows = [origin.completed(row) for row in case.rows()]
    frame = pd.read_csv(io.StringIO(csv_text(rows)))
    for operator in case.to_dict()["operators"]:
        parts = operator.pop("energy_by_component")
        assert set(operator) <= set(frame.columns)
        assert {f"energy_{name}_pj" for name in parts} <= set(frame.columns)
    assert frame["share"].sum() == pytest.approx(1)
    assert set(frame["network"]) == {"small"}
    assert set(frame["size"]) == {"(32x64)(64x64)"} and set(frame["formats"]) == {"fp16"}


def test_the_row_of_a_layer_has_all_that_its_json_has_but_the_assumptions() -> None:
    result = tilewright.simulate("attention:heads=2,seq=64,head_dim=32", "edge-16x16")
    row, data = result.to_row(), result.to_dict()
    short = {"tiling": "tile_{}", "energy_by_component": "energy_{}_pj"}
    for name, value in data.items():
        if isinstance(value, dict):
            assert {short.get(name, f"{name}_{{}}").format(part) for part in value} <= set(row)
        elif name != "assumptions":
            assert row[name] == value
