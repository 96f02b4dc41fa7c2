"""Do names lead to what was registered, and plug-ins find the same door?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tilewright import plugins
from tilewright.errors import InputError
from tilewright.registry import LAST, Registry

_EXAMPLE = (Path(__file__).resolve().parents[2] / "examples" / "own_dataflow.py").read_text(encoding="utf-8")
DATAFLOW = _EXAMPLE[: _EXAMPLE.index("result = ")].replace('name="simple"', 'name="mine"')


def tilewright(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tilewright", *arguments],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **environment},
    )  # fmt: skip


def test_a_name_is_given_once_and_the_nearest_is_told() -> None:
    things: Registry[int] = Registry("thing")
    things.register("first", 1)
    things.register("second", 2)
    assert things.names() == ("first", "second")
    assert things.get("second") == 2
    with pytest.raises(InputError, match='thing: registered already; given "first"'):
        things.register("first", 3)
    with pytest.raises(InputError, match=r'unknown thing; given "frist"; allowed first, second .*"first"'):
        things.get("frist")
    with pytest.raises(InputError, match='given "second"; allowed first'):
        things.get("second", among=["first"])


def test_what_lists_show_first_does_not_depend_on_imports() -> None:
    things: Registry[int] = Registry("thing")
    for name, rank in (("d", LAST), ("c", LAST), ("b", 2), ("a", 1)):
        things.register(name, 0, rank=rank)
    assert things.names() == ("a", "b", "d", "c")
    assert [name for name, _ in things.items()] == ["a", "b", "d", "c"]


def test_what_is_registered_for_now_is_forgotten() -> None:
    things: Registry[int] = Registry("thing")
    with things.only_for_now():
        things.register("one", 1)
        assert things.names() == ("one",)
    assert things.names() == ()


def test_a_dataflow_from_a_file_is_simulated_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(DATAFLOW, encoding="utf-8")
    arguments = (
        "simulate",
        "attention:heads=2,seq=64,head_dim=16",
        "-a",
        "edge-16x16",
        "--dataflow",
        "mine",
        "--json",
        "-",
    )
    found = tilewright(*arguments, "--plugin", str(file))
    assert found.returncode == 0, found.stderr
    assert '"mine"' in found.stdout
    inherited = tilewright(*arguments, **{plugins.VARIABLE: str(file)})
    assert json.loads(inherited.stdout)["cycles"] == json.loads(found.stdout)["cycles"]
    without = tilewright(*arguments)
    assert without.returncode == 2 and 'given "mine"; allowed layerwise' in without.stderr


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("x = (", "mine.py:1: does not load; SyntaxError"),
        (
            "\nimport nothing_like_it",
            "mine.py:2: does not load; ModuleNotFoundError: No module named 'nothing_like_it'",
        ),
        (DATAFLOW.replace('"mine"', '"mas"'), 'dataflow: registered already; given "mas"'),
    ],
)
def test_a_plug_in_that_does_not_load_is_one_sentence(tmp_path: Path, code: str, says: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(code, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        plugins.add_file(file)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plug_in_must_be_a_python_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="plug-in: no such file"):
        plugins.add_file(tmp_path / "absent.py")
    text = tmp_path / "plugin.txt"
    text.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="plug-in: not a Python file"):
        plugins.add_file(text)


def test_a_cost_of_the_bit_search_is_one_registration() -> None:
    from tilewright.search.bits.budget import amount_text, parse_budget
    from tilewright.search.bits.cost_kinds import COSTS, BitCost, register_cost, simulated_kinds

    with COSTS.only_for_now():
        register_cost(
            BitCost(
                name="macs", counts="multiply-adds", column="macs", units={"": 1, "M": 10**6}, shown=(1e6, "M"),
                figure=lambda result: result.macs,
            )
        )  # fmt: skip
        assert parse_budget("macs=3M").limit({}) == 3_000_000
        assert amount_text("macs", 3e6) == "3 M"
        assert simulated_kinds() == ("latency", "energy", "dram", "macs")
    with pytest.raises(InputError, match=r'budget: unknown cost; given "macs"; allowed size, bops'):
        parse_budget("macs=3M")


@pytest.mark.parametrize("name", ["index", "../up", "Big", ""])
def test_a_page_has_the_name_of_a_file(name: str) -> None:
    from tilewright.reports.pages import ReportPage, register_page

    with pytest.raises(InputError, match="report page: cannot be the name of its file"):
        register_page(ReportPage(name=name, title="", subject=object, make=str))
