"""Whole networks for a person: what a name means, tables, figures, the page, and the command line end to end."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import tilewright
from tilewright.cli import main
from tilewright.errors import InputError
from tilewright.reports.network_case import NetworkCase, common_name
from tilewright.reports.network_figure import roofline_png
from tilewright.reports.network_page import network_page, operator_trace
from tilewright.reports.network_table import kinds_table, operators_table, totals_table
from tilewright.reports.page_script import closed_script
from tilewright.reports.quantity import count_text
from tilewright.reports.roofline import Axis, roofline_of
from tilewright.search.api import simulate_network
from tilewright.workloads.naming import layer_text, what_is_named
from tilewright.workloads.operators import Operator, TensorSpec
from tilewright.workloads.stream.graph import OperatorStream

EVIL = "<script>alert(1)</script>&\"'"
MACHINE = "edge-16x16"


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Mappings of these tests in a folder of their own; the engine compiled before anybody looks at messages."""
    from tilewright.sim.engine import run as engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TILEWRIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
        engine.warm_up()
        yield


def small_stream(name: str = "small", *, n_layers: int = 3, weights: str = "fp16") -> OperatorStream:
    """A chain of layers: product, softmax."""
    tensors = [TensorSpec(name="x0", shape=(48, 64), number_format="fp16")]
    operators = []
    for layer in range(n_layers):
        tensors += [
            TensorSpec(name=f"w{layer}", shape=(64, 64), number_format=weights, role="weight"),
            TensorSpec(name=f"y{layer}", shape=(48, 64), number_format="fp16"),
            TensorSpec(name=f"x{layer + 1}", shape=(48, 64), number_format="fp16"),
        ]
        operators += [
            Operator(
                name=f"layers.{layer}.product",
                kind="matmul",
                inputs=(f"x{layer}", f"w{layer}"),
                outputs=(f"y{layer}",),
                attributes={"batch": 1, "m": 48, "k": 64, "n": 64},
            ),
            Operator(
                name=f"layers.{layer}.softmax",
                kind="softmax",
                inputs=(f"y{layer}",),
                outputs=(f"x{layer + 1}",),
                attributes={"rows": 48, "columns": 64},
            ),
        ]
    return OperatorStream(
        name=name,
        tensors=tuple(tensors),
        operators=tuple(operators),
        inputs=("x0",),
        outputs=(f"x{n_layers}",),
        n_steps=4,
    )


def case_of(stream: OperatorStream, command: str = "") -> NetworkCase:
    machine = tilewright.load_machine(MACHINE)
    result = simulate_network(stream, machine)
    return NetworkCase(result=result, stream=stream, machine=machine, objective="latency", command=command)


@pytest.fixture(scope="module")
def case(own_cache: None) -> NetworkCase:
    return case_of(small_stream())


# --- what a name means -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "taken"),
    [
        ("t5", "attention", "t5"),
        ("attention:heads=2,seq=64,head_dim=32", "attention", "attention:heads=2,seq=64,head_dim=32"),
        ("attention:t5", "attention", "t5"),
        ("attention:bert-base:seq=64", "attention", "bert-base:seq=64"),
        ("layer.yaml", "attention", "layer.yaml"),
        ("resnet-50", "network", "resnet-50"),
        ("network:bert-base:seq=64", "network", "bert-base:seq=64"),
        ("llama-3-8b:prefill=2048", "network", "llama-3-8b:prefill=2048"),
        ("llama-3-8b:decode=1,context=8192", "network", "llama-3-8b:decode=1,context=8192"),
        ("some/model.onnx:batch=1", "network", "some/model.onnx:batch=1"),
        ("config.json", "network", "config.json"),
    ],
)
def test_a_name_is_told_apart(text: str, kind: str, taken: str) -> None:
    named = what_is_named(text)
    assert (named.kind, named.text, named.note) == (kind, taken, "")


@pytest.mark.parametrize("text", ["bert-base", "bert-base:seq=64", "llama-3-8b:heads=4"])
def test_a_name_of_both_is_the_layer_and_says_so(text: str) -> None:
    named = what_is_named(text)
    assert named.kind == "attention"
    assert f"network:{text}" in named.note or "heads" in text


def test_an_option_that_only_networks_have_decides() -> None:
    named = what_is_named("bert-base", network_options=["--weights"])
    assert named.kind == "network"
    assert "because of --weights" in named.note


def test_unknown_names_get_a_hint_from_both_lists() -> None:
    with pytest.raises(InputError, match=r'did you mean "resnet-50"'):
        what_is_named("resnet-5")
    with pytest.raises(InputError, match=r'did you mean "bert-small"'):
        what_is_named("bert-smal")
    assert layer_text("attention:t5") == "t5"
    for network in ("resnet-18", "network:bert-base", "a.onnx"):
        with pytest.raises(InputError, match="takes attention layers"):
            layer_text(network)


# --- groups, tables, roofline, page ----------------------------------------------------------------------------------


def test_names_that_operators_share() -> None:
    assert common_name(["a.b"]) == "a.b"
    assert common_name(["a.0.b", "a.1.b", "a.2.b"]) == "a.0-2.b"
    assert common_name(["a.0.b", "a.2.b"]) == "a.{0,2}.b"
    assert common_name([f"a.{i}.b" for i in (0, 2, 4, 6)]) == "a.*.b"
    assert common_name(["a.q", "a.k", "b", "a.v"]) == "a.{q,k,v}, ..."


def test_counts_in_words() -> None:
    texts = {0: "0", 999: "999", 25_557_032: "25.6 M", 4_089_184_256: "4.09 G", 14_800_000_000_000: "14.8 T"}
    assert {count: count_text(count) for count in texts} == texts


def test_identical_operators_are_one_group_and_nothing_is_lost(case: NetworkCase) -> None:
    groups = {group.label: group for group in case.groups}
    assert set(groups) == {"layers.0-2.product", "layers.0-2.softmax"}
    assert sum(group.cycles for group in groups.values()) == case.result.cycles
    assert sum(group.count for group in groups.values()) == len(case.result.operators)
    assert sum(case.cycles_by_limit().values()) == case.result.cycles
    assert groups["layers.0-2.product"].macs == case.result.macs == 3 * 48 * 64 * 64
    assert [group.number for group in case.groups] == [1, 2]
    assert all(group.reason for group in case.worst())


def test_reasons_name_the_resource(case: NetworkCase) -> None:
    for group in case.groups:
        shares = group.matrix_utilization, group.vector_utilization, group.dram_utilization
        assert all(0 <= share <= 1.0001 for share in shares)
        assert any(word in group.reason for word in ("busy", "at its bound"))


def text_of(*tables: object, width: int = 160) -> str:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    for table in tables:
        console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 100, 200])
def test_tables_fit_and_say_the_totals(case: NetworkCase, width: int) -> None:
    console = Console(width=width)
    told = text_of(operators_table(console, case), kinds_table(console, case), totals_table(case), width=width)
    assert "layers.0-2.product" in told
    assert f"{case.result.cycles:,}" in told
    assert "all 4 steps" in told
    every = text_of(operators_table(console, case, every=True), width=width)
    assert all(f"layers.{layer}.softmax" in every for layer in range(3))


def test_roofline_lies_on_and_under_its_roofs(case: NetworkCase) -> None:
    roof = roofline_of(case)
    assert roof is not None
    assert [(item.formats, item.macs_per_cycle) for item in roof.roofs] == [("fp16", 256.0)]
    assert roof.bytes_per_cycle == 30.0
    assert roof.ridge(roof.roofs[0]) == pytest.approx(256 / 30)
    assert "softmax" in roof.left_out
    for point in roof.points:
        assert point.y <= 256
        assert 0 < roof.x.percent(point.x) < 100
        assert 0 < roof.y.percent(point.y) < 100
    assert roofline_png(roof, title=EVIL).startswith(b"\x89PNG")


def test_two_number_formats_are_named() -> None:
    roof = roofline_of(case_of(small_stream(weights="int4")))
    assert roof is not None
    assert [item.formats for item in roof.roofs] == ["fp16 x int4"]


def test_a_network_without_products_has_no_roofline() -> None:
    stream = small_stream(n_layers=1)
    only = OperatorStream(
        name="only",
        tensors=tuple(tensor for tensor in stream.tensors if tensor.name in ("y0", "x1")),
        operators=stream.operators[1:],
        inputs=("y0",),
        outputs=("x1",),
    )
    case = case_of(only)
    assert roofline_of(case) is None
    assert "Roofline" not in network_page(case)


def test_axis_ticks() -> None:
    assert Axis(low=0.5, high=200).ticks == (1, 10, 100)
    assert Axis(low=1.5, high=30).ticks == (2, 5, 10, 20)


def test_operators_follow_each_other_in_the_trace(case: NetworkCase) -> None:
    trace = operator_trace(case)
    assert trace.engines == ("matmul", "softmax")
    assert [c.start for c in trace.commands[1:]] == [c.end for c in trace.commands[:-1]]
    assert trace.total_cycles == trace.commands[-1].end == case.result.cycles


def test_the_page_escapes_and_holds_the_numbers() -> None:
    case = case_of(small_stream(EVIL), command=f"tilewright simulate {EVIL}")
    page = network_page(case, files=["timeline.png"])
    assert page.count("<script") == 1  # the one that sorts, named by its hash
    assert closed_script("sort.js").policy in page
    assert EVIL not in page.replace(closed_script("sort.js").text, "")
    assert f"{case.result.cycles:,}" in page
    for wanted in (
        "Roofline",
        "Most cycles above the bound",
        "Energy by kind",
        "Assumptions in force",
        "layers.0-2.product",
    ):
        assert wanted in page


# --- the command line, end to end ------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    captured = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    assert "Traceback" not in captured.err
    return stopped.value.code, captured.out, captured.err


SMALL = ["resnet-18:image=64", "-a", MACHINE]


def test_a_network_on_the_command_line_and_from_python(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(
        capsys, "simulate", *SMALL, "--json", "r.json", "--csv", "r.csv", "--report", "page", "--weights", "int8"
    )
    assert code == 0
    assert err.splitlines()[-1] == "tilewright: wrote page/index.html"
    result = tilewright.simulate_network("resnet-18:image=64", MACHINE, weights="int8")
    assert f"{result.cycles:,}" in out
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["cycles"] == result.cycles == sum(o["cycles"] for o in told["operators"])
    assert sum(row["cycles"] for row in told["by_kind"].values()) == result.cycles
    assert sum(group["cycles"] for group in told["groups"]) == result.cycles
    rows = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text())))
    assert [row["name"] for row in rows] == [operator.name for operator in result.operators]
    files = {path.name: path.stat().st_size for path in (tmp_path / "page").glob("[!.]*")}
    assert set(files) == {"index.html", "timeline.png", "roofline.png", "trace.json"}
    assert files["index.html"] < 1_000_000


def test_options_change_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    def cycles(*options: str) -> tuple[int, int]:
        code, out, _ = run(capsys, "simulate", "fsrcnn:height=27,width=48", "-a", MACHINE, "--json", "-", *options)
        assert code == 0
        told = json.loads(out)
        return told["cycles"], len(told["operators"])

    plain, n_operators = cycles()
    alone, _ = cycles("--no-prefetch")
    apart, n_apart = cycles("--no-fuse")
    anew, _ = cycles("--no-cache")
    assert anew == plain
    assert alone != plain
    assert n_apart > n_operators
    assert apart > plain


def test_a_saved_stream_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    small_stream().save(tmp_path / "net.json")
    code, out, _ = run(capsys, "simulate", str(tmp_path / "net.json"), "-a", MACHINE, "--all-operators")
    assert code == 0
    assert "layers.2.softmax" in out
    (tmp_path / "net.json").write_text("{")
    code, out, err = run(capsys, "simulate", str(tmp_path / "net.json"), "-a", MACHINE)
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_format_that_the_array_cannot_multiply(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "simulate", *SMALL, "--weights", "int4", "--activations", "int4")
    assert (code, out) == (2, "")
    assert err.startswith("tilewright: error: stem.conv: edge-16x16: the matrix unit has no multiply rate for ")
    assert err.count("\n") == 1
