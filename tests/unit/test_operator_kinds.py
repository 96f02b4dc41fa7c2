"""Is a kind of operator one file, within the package and outside of it?"""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tilewright
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.line_buffers.numbers import run_partition_on_numbers
from tilewright.sim.fusion.reference import network_on_numbers, random_values
from tilewright.sim.fusion.schemes.brr import BufferReduction
from tilewright.sim.fusion.slabs.numbers import run_slabs_on_numbers
from tilewright.sim.jobs import jobs_of
from tilewright.sim.kinds import LOWERINGS, VALUES, register_lowering, register_values
from tilewright.testing import check_operator_kind
from tilewright.workloads.gemm import GemmLayer, VectorLayer
from tilewright.workloads.kinds import KINDS, OperatorKind, register_kind
from tilewright.workloads.network import load_network
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "own_operator.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tilewright", *arguments],
        capture_output=True, text=True, check=False, timeout=120, env=dict(os.environ),
    )  # fmt: skip


def one_operator(kind: str, **attributes: object) -> OperatorStream:
    built = StreamBuilder("one")
    return built.finish([built.add(kind, "it", [built.input("x", (64, 128))], (64, 128), attributes)])


# --- the example ----------------------------------------------------------------------------------------------------


def example() -> OperatorStream:
    stream = runpy.run_path(str(EXAMPLE))["network"]()
    assert isinstance(stream, OperatorStream)
    return stream


def test_kinds_from_a_file_become_layers_and_numbers() -> None:
    with KINDS.only_for_now(), LOWERINGS.only_for_now(), VALUES.only_for_now():
        stream = example()
        product, scan = (job.layer for job in jobs_of(stream))
        assert isinstance(product, GemmLayer) and isinstance(scan, VectorLayer)
        assert (product.name, product.m, product.k, product.n, product.b_bits) == ("shift_product", 768, 256, 768, 4)
        assert product.fused.operations == (("max", 1),)  # the ReLU rides on its tiles
        assert dict(scan.operations) == {"mul": 768, "add": 768} and scan.rows == 768
        assert stream.macs == 768 * 256 * 768
        assert stream.rows()[0]["size"] == "m 768 k 256 n 768"
        assert stream.with_formats(weights="int2").tensor("powers").number_format == "int2"
        assert [node.kind for node in fusion_graph(stream).nodes] == ["memory", "elementwise", "softmax"]
        text = load_network("recurrence:steps=3,channels=2")
        values = random_values(text, seed=1)
        found = network_on_numbers(text, values)[text.outputs[0]]
        a, x = values["gates"], values["x"]
        last = a[:, 2] * (a[:, 1] * x[:, 0] + x[:, 1]) + x[:, 2]
        np.testing.assert_allclose(found[:, 2], last, rtol=1e-12)


def test_kinds_from_a_file_are_used_on_the_command_line(tmp_path: Path) -> None:
    with KINDS.only_for_now(), LOWERINGS.only_for_now(), VALUES.only_for_now():
        example().save(tmp_path / "net.json")
    plugin = ("--plugin", str(EXAMPLE))
    found = run("simulate", str(tmp_path / "net.json"), "-a", "edge-16x16", "--json", "-", *plugin)
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    assert [one["kind"] for one in result["operators"]] == ["shift_product", "recurrence"]
    assert any("recurrence" in text for text in result["assumptions"])
    without = run("simulate", str(tmp_path / "net.json"), "-a", "edge-16x16")
    assert without.returncode == 2
    assert 'net.json: up: kind: unknown kind; given "shift_product"; allowed matmul' in without.stderr


def test_a_kind_from_a_file_is_written_as_text(tmp_path: Path) -> None:
    plugin = ("--plugin", str(EXAMPLE))
    found = run("simulate", "recurrence:steps=64,channels=32", "-a", "edge-16x16", "--json", "-", *plugin)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["dram_read_bytes"] == 2 * 64 * 32 * 2
    wrong = run("simulate", "recurrence:steps=64,chanels=32", "-a", "edge-16x16", *plugin)
    assert wrong.returncode == 2 and 'unknown key; given "chanels"' in wrong.stderr and '"channels"' in wrong.stderr


def test_a_kind_that_works_row_by_row_is_fused_and_run_on_numbers() -> None:
    with KINDS.only_for_now(), LOWERINGS.only_for_now(), VALUES.only_for_now():
        example()
        built = StreamBuilder("fused")
        x, gates = built.input("x", (6, 5)), built.input("gates", (6, 4))
        sizes = {"batch": 1, "m": 6}
        y = built.add("matmul", "up", [x, built.weight("up.w", (5, 4))], (6, 4), {**sizes, "k": 5, "n": 4})
        h = built.add("recurrence", "scan", [gates, y], (6, 4), {"channels": 6, "steps": 4})
        z = built.add("matmul", "down", [h, built.weight("down.w", (4, 3))], (6, 3), {**sizes, "k": 4, "n": 3})
        stream = built.finish([z])
        graph, machine, values = fusion_graph(stream), load_machine("edge-16x16"), random_values(stream, seed=2)
        found = run_partition_on_numbers(stream, graph, [0b111], machine, values)
        np.testing.assert_allclose(found[z], network_on_numbers(stream, values)[z], rtol=1e-12)
        assert not graph.edges_in[1][1].rows.whole
        found = run_slabs_on_numbers(stream, graph, 0b111, machine, values, rules=BufferReduction(capacity_bytes=2**20))
        np.testing.assert_allclose(found[z], network_on_numbers(stream, values)[z], rtol=1e-12)


def test_kinds_are_held_by_the_contract() -> None:
    machine = load_machine("edge-16x16")
    with KINDS.only_for_now(), LOWERINGS.only_for_now(), VALUES.only_for_now():
        stream = example()
        for kind in ("shift_product", "recurrence"):
            check_operator_kind(kind, stream, machine)
        register_kind(OperatorKind(name="mixed", by_rows=True))
        register_values("mixed", lambda operator, inputs, shape: inputs[0] - inputs[0].mean())
        with pytest.raises(AssertionError):
            check_operator_kind("mixed", one_operator("mixed"), machine)
    check_operator_kind("softmax", load_network("softmax:rows=6,columns=5"), machine)


# --- the door -------------------------------------------------------------------------------------------------------


def test_a_kind_that_only_has_a_name_is_traffic() -> None:
    with KINDS.only_for_now():
        register_kind(OperatorKind(name="shuffle"))
        stream = one_operator("shuffle")
        result = tilewright.simulate_network(stream, "edge-16x16")
        assert (result.dram_bytes, stream.macs) == (2 * 64 * 128 * 2, 0)
    with pytest.raises(InputError, match='it: kind: unknown kind; given "shuffle"'):
        one_operator("shuffle")


def test_multiply_adds_without_a_matrix_unit_are_work_of_the_vector_unit() -> None:
    with KINDS.only_for_now():
        register_kind(OperatorKind(name="taps", macs=lambda operator: 64 * 128 * 9))
        (job,) = jobs_of(one_operator("taps"))
        assert isinstance(job.layer, VectorLayer)
        assert job.layer.rows == 64 and dict(job.layer.operations) == {"mul": 128 * 9, "add": 128 * 9}


def test_two_kinds_are_not_written_alike() -> None:
    text = KINDS.get("matmul").text
    with KINDS.only_for_now():
        register_kind(OperatorKind(name="product", text=text))
        with pytest.raises(InputError, match='operator kind product: text: given "gemm", as for matmul'):
            load_network("gemm:m=1,n=1,k=1")


def test_what_a_kind_says_is_checked() -> None:
    with KINDS.only_for_now(), LOWERINGS.only_for_now():
        with pytest.raises(InputError, match='operator kind: registered already; given "pool"'):
            register_kind(OperatorKind(name="pool"))
        with pytest.raises(InputError, match='unknown operator kind; given "pol"'):
            register_lowering("pol", lambda stream, chain: jobs_of(stream)[0].layer)
        register_kind(OperatorKind(name="odd", attributes={"n": "count"}, work=lambda operator: {"root": 1}))
        with pytest.raises(InputError, match="it: n: missing; a odd needs n"):
            one_operator("odd")
        with pytest.raises(InputError, match="it: n: must be counted in whole numbers; given 0"):
            one_operator("odd", n=0)
        with pytest.raises(InputError, match='operator kind odd: work: unknown operation; given "root"; allowed add'):
            jobs_of(one_operator("odd", n=1))


@pytest.mark.parametrize("name", KINDS.names())
def test_every_kind_has_a_word_a_colour_and_says_what_is_missing(name: str) -> None:
    kind = KINDS.get(name)
    assert kind.word and re.fullmatch("#[0-9a-f]{6}", kind.colour)
    with pytest.raises(InputError, match=f"it: {next(iter(kind.attributes))}: missing; a {name} needs"):
        Operator(name="it", kind=name, inputs=("x",) * 3, outputs=("y",))


# --- how many files ---------------------------------------------------------------------------------------------------

#: Extractors and the zoo make operators, and fused groups have nodes of their own; both map to kinds in their tables.
_OTHER_ROOMS = ("workloads/extract/", "workloads/zoo/", "sim/fusion/")


def files_that_name(kind: str) -> set[str]:
    found = set()
    for folder in ("workloads", "hw_models", "sim", "search", "kernels", "reports", "src/tilewright/cli"):
        for path in (ROOT / folder).rglob("*.py"):
            place = path.relative_to(ROOT).as_posix()
            if place.startswith(_OTHER_ROOMS) or f'"{kind}"' not in path.read_text(encoding="utf-8"):
                continue
            constants = (node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Constant))
            if any(node.value == kind for node in constants):
                found.add(place)
    return found


@pytest.mark.parametrize("kind", ["pool", "norm", "reduction", "gather", "quantize", "dequantize"])
def test_a_kind_is_named_in_three_files_at_most(kind: str) -> None:
    assert files_that_name(kind) <= {f"workloads/kinds/{kind}.py", "hw_models/spec.py", f"sim/kinds/{kind}.py"}
