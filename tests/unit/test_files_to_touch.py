"""How many files are touched to add one more of its kind to the package, and is it in the commands then?

The package is put together again out of links, with new files in its rooms (or a new text of one file); nothing else is
said anywhere. Commands of a process that has that package use each new thing by its name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tilewright.search.bits.sensitivity import LayerSensitivity, OptionSensitivity, Sensitivity, save_sensitivity
from tilewright.workloads.zoo.layers import Layers

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "tilewright"


def _between(file: str, start: str, end: str) -> str:
    """The text of ``file`` from ``start`` up to ``end``."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return text[text.index(start) : text.index(end)]


_MACHINE = "hw_models/machines/edge-16x16-bitfusion.yaml"
_OPERATOR = "examples/own_operator.py"
_METHOD = """
from tilewright.search.methods.method import SearchMethod, register


def in_turn(problem):
    for point in problem.points:
        yield [point]


register(SearchMethod(name="in_turn", summary="one after the other", propose=in_turn, share=1.0))
"""
_SCHEME = '''
from dataclasses import dataclass

from tilewright.sim.fusion.layer_alone import alone
from tilewright.sim.fusion.scheme import GroupCost, register_scheme


@dataclass(frozen=True, kw_only=True)
class Single:
    """No layer is fused with another."""

    capacity_bytes: int
    name = "single"
    has_programs = False
    source = "this test"
    assumptions = ("every layer alone",)

    def cost(self, graph, group):
        if group.bit_count() == 1:
            return alone(graph, group.bit_length() - 1, self.capacity_bytes)
        return GroupCost(buffer_bytes=0, dram_read_bytes=0, dram_write_bytes=0, weight_bytes=0, reason="two layers")

    def fusable_mask(self, graph):
        return graph.all_mask

    def least_bytes(self, graph, group):
        return 0

    def programs(self, stream, graph, group, machine):
        return iter(())


register_scheme("single", lambda capacity_bytes: Single(capacity_bytes=capacity_bytes))
'''
_COST = """
register_cost(
    BitCost(
        name="adds", counts="multiply-adds", column="adds", units={"": 1}, shown=(1, "MACs"),
        figure=lambda result: result.macs,
    )
)
"""

#: What is written to add one of each; "+" before a text: behind what the file holds already.
TOUCHED = {
    "machine": {
        "hw_models/machines/mine.yaml": (ROOT / _MACHINE)
        .read_text(encoding="utf-8")
        .replace("name: edge-16x16-bitfusion", "name: mine")
    },
    "dataflow": {
        "sim/dataflows/attention/mine.py": _between("examples/own_dataflow.py", "import numpy", "result = ").replace(
            '"simple"', '"mine"'
        )
    },
    "operator kind": {
        "workloads/kinds/recurrence.py": "import math\n\n"
        + "from tilewright.workloads.kinds.kind import OperatorKind, need_elements, register_kind\n"
        + "from tilewright.workloads.kinds.text import OperatorText, add_result\n\n\n"
        + _between(_OPERATOR, "def recurrence_sizes", "def recurrence_values"),
        "sim/kinds/recurrence.py": "import numpy as np\n\nfrom tilewright.sim.kinds.values import register_values\n\n\n"
        + _between(_OPERATOR, "def recurrence_values", "def shift_sizes"),
    },
    "search method": {"search/methods/in_turn.py": _METHOD},
    "fusion scheme": {"sim/fusion/schemes/single.py": _SCHEME},
    "bit cost": {"search/bits/cost_kinds.py": "+" + _COST},
    "report page": {"reports/pages/shares.py": _between("examples/own_page.py", "from html", "if __name__")},
}  # fmt: skip
MOST = {
    "machine": 1,
    "dataflow": 1,
    "operator kind": 3,
    "search method": 1,
    "fusion scheme": 1,
    "bit cost": 2,
    "report page": 2,
}
_RUN = """
import json, sys
from tilewright.cli.run import run
sys.exit(max(run(arguments) for arguments in json.loads(sys.argv[1])))
"""


def put_together(place: Path) -> None:
    """The package at ``place / "tilewright"``: links, but for the files of TOUCHED and the folders that hold them."""
    _link(place / "tilewright", PACKAGE)
    for name, text in ((name, text) for files in TOUCHED.values() for name, text in files.items()):
        here, there = place / "tilewright", PACKAGE
        for part in Path(name).parts[:-1]:
            here, there = here / part, there / part
            if here.is_symlink():
                here.unlink()
                _link(here, there)
        file = here / Path(name).name
        before = file.read_text(encoding="utf-8") if text.startswith("+") else ""
        assert file.exists() == text.startswith("+")
        file.unlink(missing_ok=True)
        file.write_text(before + text.removeprefix("+"), encoding="utf-8")


def _link(folder: Path, to: Path) -> None:
    folder.mkdir(parents=True)
    for entry in to.iterdir():
        (folder / entry.name).symlink_to(entry.resolve())


def network(folder: Path) -> None:
    """Two products, and what their formats cost in loss."""
    b = Layers("small")
    x = b.input("x", (16, 64))
    stream = b.finish([b.linear(b.linear(x, 64, "a"), 16, "b")])
    stream.save(folder / "net.json")
    layers = []
    for operator in stream.operators:
        options = [
            OptionSensitivity(weights=weights, activations=weights, sensitivity=loss)
            for weights, loss in (("int8", 0.1), ("int4", 1.0))
        ]
        n_weights = stream.tensor(operator.inputs[1]).n_elements
        layers.append(
            LayerSensitivity(name=operator.name, n_weights=n_weights, macs=operator.macs, options=tuple(options))
        )
    save_sensitivity(Sensitivity(network="small", measured_by="made up", layers=tuple(layers)), folder / "sens.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what commands of the package with the new files wrote."""
    folder = tmp_path_factory.mktemp("touched")
    put_together(folder / "site")
    network(folder)
    on = ["-a", "mine"]
    commands = [
        ["simulate", "attention:heads=2,seq=64,head_dim=16", *on, "-d", "mine", "--method", "in_turn",
         "--json", str(folder / "layer.json"), "--report", str(folder / "report")],
        ["search", str(folder / "net.json"), *on, "--over", "fusion", "--buffer", "8KiB", "--scheme", "single",
         "--json", str(folder / "fusion.json")],
        ["simulate", "recurrence:steps=64,channels=48", *on, "--json", str(folder / "operator.json")],
        ["search", str(folder / "net.json"), *on, "--over", "bits", "--sensitivity", str(folder / "sens.json"),
         "--budget", "adds=1x", "--json", str(folder / "bits.json")],
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(folder / "site"), "TILEWRIGHT_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(commands)],
        capture_output=True, text=True, timeout=300, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def _read(path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_machine_and_dataflow_and_search_method(made: Path) -> None:
    layer = _read(made / "layer.json")
    assert layer["dataflow"] == "mine" and layer["machine"] == "mine"
    assert layer["search"]


def test_fusion_scheme(made: Path) -> None:
    assert _read(made / "fusion.json")["scheme"] == "single"


def test_operator_kind(made: Path) -> None:
    assert "recurrence" in json.dumps(_read(made / "operator.json"))


def test_bit_cost(made: Path) -> None:
    assert "adds" in json.dumps(_read(made / "bits.json"))


def test_report_page(made: Path) -> None:
    assert "of the energy" in (made / "report" / "shares.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("thing", TOUCHED)
def test_so_many_files_and_the_house_says_so(thing: str) -> None:
    assert len(TOUCHED[thing]) <= MOST[thing]
    said = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert f"| {thing} | {len(TOUCHED[thing])} |" in said
