"""Fusion groups from Python and the command line: outcome, tables, pictures, files, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import tilewright
from tilewright.cli.run import run
from tilewright.cli.search_fusion import bytes_of
from tilewright.errors import InputError
from tilewright.reports.fusion_drawing import draw_fusion
from tilewright.reports.fusion_page import fusion_page
from tilewright.search.fusion.run import search_fusion
from tilewright.sim.fusion.fused_run import simulate_scheme
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.line_buffers.program import simulate_group
from tilewright.sim.fusion.scheme import get_scheme, schemes_with_programs
from tilewright.workloads.network import load_network
from tilewright.workloads.zoo.layers import Layers
from tilewright.workloads.zoo.transformers import EncoderConfig, add_post_norm_layer

MACHINE = "edge-16x16"
SMALL = ["search", "mobilenet-v2", "-a", MACHINE, "--over", "fusion", "--buffer", "128KiB"]


def test_the_optimum_is_proven_the_same_by_both_exact_methods() -> None:
    for network in ("resnet-18", "squeezenet", "mobilenet-v2"):
        dp, cp_sat = (search_fusion(network, buffer_bytes=128 * 1024, method=method) for method in ("dp", "cp_sat"))
        assert dp.proven
        assert cp_sat.proven
        assert dp.value == cp_sat.value == dp.lower_bound < dp.unfused_value
        local = search_fusion(network, buffer_bytes=128 * 1024, method="local", budget=200)
        assert dp.value <= local.value < local.unfused_value
        assert local.gap is None


def test_a_larger_buffer_never_moves_more() -> None:
    values = [search_fusion("mobilenet-v2", buffer_bytes=kib * 1024).value for kib in (1, 64, 256, 1024, 8192)]
    assert values == sorted(values, reverse=True)


def test_a_group_may_fit_though_a_part_of_it_does_not() -> None:
    """Why no exact search may stop growing a group where it no longer fits."""
    capacity = 128 * 1024
    graph, scheme = fusion_graph(load_network("squeezenet")), get_scheme("lbdf", capacity)
    whole = graph.mask_of(["fires.1.expand1", "fires.1.concat", "fires.2.squeeze", "fires.2.expand3"])
    whole |= graph.mask_of(["fires.1.expand1.relu", "fires.1.expand3.relu", "fires.2.squeeze.relu"])
    whole |= graph.mask_of(["fires.2.expand3.relu"])
    part = whole & ~graph.mask_of(["fires.1.expand1"])
    assert graph.is_group(whole)
    assert graph.is_group(part)
    assert scheme.cost(graph, whole).valid(capacity)
    assert not scheme.cost(graph, part).valid(capacity)


def test_the_outcome_adds_up() -> None:
    outcome = tilewright.search_fusion("squeezenet", MACHINE, buffer_bytes=256 * 1024)
    rows = outcome.group_rows()
    assert sum(row["dram_bytes"] for row in rows) == outcome.value
    assert sum(row["unfused_dram_bytes"] for row in rows) == outcome.unfused_value
    assert sum(row["n_nodes"] for row in rows) == len(outcome.graph)
    assert sum(row["n_operators"] for row in rows) == len(tilewright.load_network("squeezenet").operators)
    fused = [row for row in rows if row["n_nodes"] > 1]
    assert fused
    assert max(row["buffer_bytes"] for row in fused) == outcome.peak_buffer_bytes <= 256 * 1024
    assert outcome.machine == MACHINE
    assert len(outcome.to_frame()) == len(rows)


def test_without_a_buffer_size_the_machine_says() -> None:
    outcome = search_fusion("fsrcnn", MACHINE)
    assert outcome.capacity_bytes == tilewright.load_machine(MACHINE).buffers[0].capacity_bytes
    assert search_fusion("fsrcnn", MACHINE, method="random", budget=30, seed=1) == search_fusion(
        "fsrcnn", MACHINE, method="random", budget=30, seed=1
    )


@pytest.mark.parametrize("objective", ["latency", "energy"])
def test_latency_and_energy_are_those_of_exact_runs(objective: str) -> None:
    network = "fsrcnn:height=24,width=32"
    found = {
        method: search_fusion(network, MACHINE, objective=objective, method=method, buffer_bytes=48 * 1024, budget=40)
        for method in ("dp", "cp_sat", "local")
    }
    best = found["dp"]
    assert best.value == found["cp_sat"].value <= found["local"].value <= best.unfused_value
    stream = tilewright.load_network(network)
    machine = tilewright.load_machine(MACHINE)
    for mask, value in zip(best.plan, best.values, strict=True):
        if mask in best.fused_groups:
            run = simulate_group(stream, best.graph, mask, machine)
            assert value == (run.cycles if objective == "latency" else round(run.energy_pj))
            assert run.peak_buffer_bytes <= 48 * 1024
    assert f"{best.value_name}" in best.group_rows()[0]


@pytest.mark.parametrize("scheme", schemes_with_programs())
def test_groups_of_every_scheme_are_searched_for_latency(
    scheme: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, data = "fsrcnn:height=12,width=16", tmp_path / "groups.json"
    command = ["search", network, "-a", MACHINE, "--over", "fusion", "--buffer", "64KiB", "--objective", "latency"]
    assert run([*command, "--scheme", scheme, "--json", str(data)]) == 0
    assert f"no other partition into {scheme} groups" in capsys.readouterr().out
    found = json.loads(data.read_text())
    assert found["value"] <= found["unfused_value"]
    stream, machine = tilewright.load_network(network), tilewright.load_machine(MACHINE)
    graph, way = fusion_graph(stream, absorb=True), get_scheme(scheme, 64 * 1024)
    for group in (one for one in found["groups"] if one["n_nodes"] > 1):
        mask = sum(node.bit for node in graph.nodes if node.name in group["operators"].split())
        assert group["cycles"] == simulate_scheme(way, stream, graph, mask, machine).cycles


def test_attentions_run_in_slabs_or_alone() -> None:
    """Rows and tiles have no program for one: it runs alone, at its own best mapping."""
    b = Layers("encoder", activations="int8", weights="int8")
    config = EncoderConfig(hidden=16, heads=2, intermediate=32)
    stream = b.finish([add_post_norm_layer(b, b.input("tokens", (1, 8, 16)), config)])
    for scheme in schemes_with_programs():
        outcome = search_fusion(stream, MACHINE, scheme, "latency", buffer_bytes=64 * 1024)
        attention = next(node.bit for node in outcome.graph.nodes if node.kind == "attention")
        (group,) = [mask for mask in outcome.plan if mask & attention]
        assert (group == attention) == (scheme != "brr")
        assert outcome.value <= outcome.unfused_value


def test_a_scheme_that_only_counts_is_not_run() -> None:
    with pytest.raises(
        InputError,
        match="optimus-rules have no programs to run; allowed dram,",
    ):
        search_fusion("fsrcnn", MACHINE, "optimus-rules", "latency")


def test_the_picture_shows_every_operator_and_every_group() -> None:
    outcome = search_fusion("squeezenet", buffer_bytes=128 * 1024)
    picture = ElementTree.fromstring(draw_fusion(outcome))
    text = " ".join(picture.itertext())
    for node in outcome.graph.nodes:
        assert node.name in text
    assert text.count("saves") == len(outcome.fused_groups)
    width, height = (float(picture.attrib[side]) for side in ("width", "height"))
    for box in picture.iter("{http://www.w3.org/2000/svg}rect"):
        assert 0 <= float(box.attrib["x"]) <= float(box.attrib["x"]) + float(box.attrib["width"]) <= width
        assert 0 <= float(box.attrib["y"]) <= height
    page = fusion_page(outcome, command="tilewright <x>")
    assert "proven" in page
    assert "tilewright &lt;x&gt;" in page


def test_command_line_writes_tables_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, data = tmp_path / "report", tmp_path / "groups.json"
    assert run([*SMALL, "--report", str(folder), "--json", str(data), "--csv", str(tmp_path / "groups.csv")]) == 0
    said = capsys.readouterr()
    assert "fusion groups of mobilenet-v2" in said.out
    assert "proven: no other partition into lbdf groups within " in said.out
    found = json.loads(data.read_text())
    assert found["proven"]
    assert sum(group["dram_bytes"] for group in found["groups"]) == found["value"]
    assert {path.name for path in folder.glob("[!.]*")} == {"index.html", "groups.svg"}
    assert len((tmp_path / "groups.csv").read_text().splitlines()) == len(found["groups"]) + 1


def test_an_onnx_file_is_searched_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx = pytest.importorskip("onnx")
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    weights = [
        numpy_helper.from_array(np.zeros(shape, np.float32), name)
        for name, shape in (("w1", (8, 3, 3, 3)), ("w2", (8, 8, 3, 3)))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "b"], ["y"]),
    ]
    maps = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n, 32, 32]) for name, n in (("x", 3), ("y", 8))]
    graph = helper.make_graph(nodes, "small", [maps[0]], [maps[1]], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "small.onnx")
    command = ["search", str(tmp_path / "small.onnx"), "-a", MACHINE, "--over", "fusion", "--method", "local"]
    assert run([*command, "--budget", "20", "--seed", "1", "--separate"]) == 0
    assert "fusion groups" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["--buffer", "12KQ"], '--buffer: not a size; given "12KQ"'),
        (["--scheme", "lbd"], 'unknown fusion scheme; given "lbd"'),
        (["--method", "loca"], 'unknown method; given "loca"; allowed dp, cp_sat'),
        (["--objective", "dra"], 'unknown objective; given "dra"; allowed dram'),
        (["--budget", "0"], "--budget"),
        (["--dataflow", "mas"], "--dataflow: means nothing to --over fusion"),
        (["--weights", "int99"], "unknown number format"),
    ],
)
def test_refused(changes: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = list(SMALL)
    if changes[0] in command:  # given once
        at = command.index(changes[0])
        del command[at : at + 2]
    assert run([*command, *changes]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_refused_from_python() -> None:
    with pytest.raises(InputError, match="buffer_bytes: missing"):
        search_fusion("resnet-18")
    with pytest.raises(InputError, match="machine: missing; latency"):
        search_fusion("resnet-18", buffer_bytes=1000, objective="latency")
    with pytest.raises(InputError, match="have no programs to run"):
        search_fusion("resnet-18", MACHINE, "optimus-rules", "latency")
    with pytest.raises(InputError, match="seed: given -1; allowed a whole number of 0 or more"):
        search_fusion("resnet-18", MACHINE, seed=-1)


def test_without_the_extras_the_method_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"tilewright\[gnn\]"):
        search_fusion("fsrcnn", MACHINE, method="get-local", budget=20)
    monkeypatch.setitem(sys.modules, "pymoo.algorithms.moo.nsga2", None)
    with pytest.raises(InputError, match=r"tilewright\[search\]"):
        search_fusion("fsrcnn", MACHINE, method="nsga2", budget=20)


def test_sizes_as_people_write_them() -> None:
    assert [bytes_of(text) for text in ("256KiB", "1 MiB", "200kB", "262144", "1mb")] == [
        262_144, 1_048_576, 200_000, 262_144, 1_000_000,
    ]  # fmt: skip
