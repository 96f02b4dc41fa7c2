"""Do editors get the same verdict on a machine file as the checker gives, and a word on every field?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tilewright.cli.run import run
from tilewright.hw_models.field_notes import described_classes, field_notes
from tilewright.hw_models.hierarchy import HierarchySpec
from tilewright.hw_models.load import load_machine, machine_names, machine_text
from tilewright.hw_models.machine_schema import SCHEMAS, schema_of
from tilewright.hw_models.spec import MachineSpec

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = schema_of("machine")
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
OWN = {"name": "m", "base": "edge-16x16"}


def _faults(data: Any) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(data)]


@pytest.mark.parametrize("what", SCHEMAS)
def test_it_is_a_schema(what: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema_of(what))


@pytest.mark.parametrize("name", machine_names())
def test_every_shipped_file_and_its_export_fit(name: str) -> None:
    assert _faults(yaml.safe_load(machine_text(name))) == []
    assert _faults(yaml.safe_load(load_machine(name).to_yaml())) == []


def test_shipped_hierarchies_fit() -> None:
    validator = jsonschema.Draft202012Validator(schema_of("hierarchy"))
    for path in (ROOT / "hw_models" / "hierarchies").glob("*.yaml"):
        assert list(validator.iter_errors(yaml.safe_load(path.read_text()))) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"matrix": {"rows": 8, "block": None}},
        {"buffers": {"l1": {"capacity_kib": 4}, "l2": None}},
        {"buffers": [{"name": "l1", "capacity_kib": 4}]},
        {"energy": {"multiply_accumulate_pj": {"int8": None}}},
        {"assumptions": [None, "mine"], "sources": None},
        {"dram": {"grade": None, "timing": {"trcd_ns": 3}}},
    ],
)
def test_a_file_with_a_base_may_give_a_part(changes: dict[str, Any]) -> None:
    assert _faults({**OWN, **changes}) == []
    without = {key: value for key, value in {**OWN, **changes}.items() if key != "base"}
    assert _faults(without) != []


@pytest.mark.parametrize(
    "changes", [{"matrix": {"row": 8}}, {"matrix": {"rows": 0}}, {"clock_ghz": "1"}, {"n_cores": 1.5}, {"name": None}]
)
def test_a_mistake_is_marked(changes: dict[str, Any]) -> None:
    assert _faults({**OWN, **changes}) != []
    whole = yaml.safe_load(machine_text("edge-16x16"))
    for key, value in changes.items():
        whole[key] = whole[key] | value if isinstance(value, dict) else value
    assert _faults(whole) != []


@pytest.mark.parametrize("described", described_classes(MachineSpec), ids=lambda one: one.__name__)
def test_every_field_has_a_word_for_editors(described: type[Any]) -> None:
    lacking = set(described.__dataclass_fields__) - set(field_notes(described))
    assert not lacking, (
        f"the docstring of {described.__name__} ({described.__module__}) says nothing on {', '.join(sorted(lacking))}: "
        "add a sentence that begins with ``field``: ..."
    )


def test_words_are_found_in_docstrings() -> None:
    place = SCHEMA["$defs"]["DramSpec"]["properties"]
    assert place["ports"]["description"].startswith("whether loads and stores share the bandwidth")
    assert SCHEMA["$defs"]["MachineSpecPart"]["properties"]["clock_ghz"]["description"] == "the one clock of the cores."
    assert field_notes(HierarchySpec)


def test_the_command_line_writes_it_and_exports_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "machine"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(SCHEMA))
    assert run(["schema", "machin"]) == 2
    assert 'given "machin"; allowed machine, hierarchy (did you mean "machine"?)' in capsys.readouterr().err
    out = tmp_path / "mine.yaml"
    assert run(["show", "edge-16x16", "--set", "matrix.rows=32", "--yaml", str(out)]) == 0
    assert load_machine(out) == load_machine("edge-16x16", ["matrix.rows=32"])
    capsys.readouterr()
    assert run(["show", "edge-16x16", "--yaml", "-"]) == 0
    assert capsys.readouterr().out == machine_text("edge-16x16")
    assert run(["show", "mas", "--yaml", "-"]) == 2
    assert run(["show", "edge-16x16", "--yaml", "-", "--json", "-"]) == 2
    assert run(["show", str(out), "--yaml", str(out)]) == 2
