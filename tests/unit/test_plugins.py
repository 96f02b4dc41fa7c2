"""Are things of a file outside the package used by name on the command line, each through the door of its kind?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_FLOW = (EXAMPLES / "own_dataflow.py").read_text(encoding="utf-8")
_PAGE = (EXAMPLES / "own_page.py").read_text(encoding="utf-8")
PLUGIN = (
    _FLOW[: _FLOW.index("result = ")].replace('name="simple"', 'name="mine"')
    + _PAGE[: _PAGE.index("if __name__")]
    + '''
from dataclasses import dataclass

from tilewright.search.methods.method import SearchMethod
from tilewright.search.methods.method import register as register_method
from tilewright.sim.fusion.layer_alone import alone
from tilewright.sim.fusion.scheme import GroupCost, register_scheme


def in_turn(problem):
    for point in problem.points:
        yield [point]


register_method(SearchMethod(name="in_turn", summary="one after the other", propose=in_turn, share=1.0))


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Two layers share a map that stays on chip; nothing else is ever fused."""

    capacity_bytes: int
    name = "pairs"
    has_programs = False
    source = "this file"
    assumptions = ("a map between two layers stays on chip",)

    def cost(self, graph, group):
        parts = [alone(graph, node.index, self.capacity_bytes) for node in graph.nodes if group >> node.index & 1]
        if len(parts) == 1:
            return parts[0]
        reason = None if len(parts) == 2 else "more than two layers"
        writes = sum(graph.nodes[i].output.n_bytes for i in graph.needed_outside(group))
        return GroupCost(
            buffer_bytes=max(part.buffer_bytes for part in parts), dram_read_bytes=parts[0].dram_read_bytes,
            dram_write_bytes=writes, weight_bytes=sum(part.weight_bytes for part in parts), reason=reason,
        )

    def fusable_mask(self, graph):
        return (1 << len(graph.nodes)) - 1

    def least_bytes(self, graph, group):
        return 0

    def programs(self, stream, graph, group, machine):
        return iter(())


register_scheme("pairs", lambda capacity_bytes: Pairs(capacity_bytes=capacity_bytes))
'''
)
_RUN = """
import json, sys
from tilewright.cli.run import run
sys.exit(max(run(arguments) for arguments in json.loads(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what commands that use each kind wrote; in a process of its own, which ends with the plug-in."""
    folder = tmp_path_factory.mktemp("plugin")
    file = folder / "mine.py"
    file.write_text(PLUGIN, encoding="utf-8")
    layer = ["simulate", "attention:heads=2,seq=64,head_dim=16", "-a", "edge-16x16", "-d", "mine"]
    commands = [
        [*layer, "--method", "in_turn", "--json", str(folder / "layer.json"), "--report", str(folder / "report")],
        [*layer, "--json", str(folder / "proven.json")],
        ["search", "squeezenet", "--over", "fusion", "-a", "edge-16x16", "--buffer", "256KiB", "--scheme", "pairs",
         "--json", str(folder / "fusion.json")],
        ["simulate", "recurrence:steps=64,channels=48", "-a", "edge-16x16", "--json", str(folder / "operator.json"),
         "--plugin", str(EXAMPLES / "own_operator.py")],
    ]  # fmt: skip
    given = json.dumps([[*command, "--plugin", str(file)] for command in commands[:-1]] + commands[-1:])
    done = subprocess.run([sys.executable, "-c", _RUN, given], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def _read(path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_a_dataflow_and_a_search_method(made: Path) -> None:
    layer, proven = _read(made / "layer.json"), _read(made / "proven.json")
    assert layer["dataflow"] == "mine"
    assert layer["cycles"] == proven["cycles"]


def test_a_fusion_scheme(made: Path) -> None:
    fusion = _read(made / "fusion.json")
    assert fusion["scheme"] == "pairs"


def test_a_report_page(made: Path) -> None:
    assert '<a href="shares.html">shares of the energy</a>' in (made / "report/index.html").read_text(encoding="utf-8")
    assert "of the energy" in (made / "report/shares.html").read_text(encoding="utf-8")


def test_an_operator_kind(made: Path) -> None:
    operator = json.dumps(_read(made / "operator.json"))
    assert "recurrence" in operator and '"cycles"' in operator


def test_the_kit_holds_what_a_plug_in_brings(made: Path) -> None:
    """In a process of its own, as its author would run it."""
    code = (
        "import sys; from tilewright import plugins; plugins.add_file(sys.argv[1])\n"
        "from tilewright.search.methods.method import get_method\n"
        "from tilewright.sim.lowering.mapping import get_dataflow\n"
        "from tilewright.testing import check_dataflow, check_search_method\n"
        "check_dataflow(get_dataflow('mine'), n_examples=5)\n"
        "check_search_method(get_method('in_turn'), dataflows=['mine'])\n"
    )
    command = [sys.executable, "-c", code, str(made / "mine.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
