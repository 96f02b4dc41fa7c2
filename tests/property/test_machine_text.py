"""Is a machine that is written as text and read again the same machine?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tilewright.document import parse_document
from tilewright.errors import InputError
from tilewright.hw_models.describe import figures
from tilewright.hw_models.load import load_machine, machine_names
from tilewright.hw_models.spec import MachineSpec

CHOICES = {
    "matrix.stationarity": ("output", "weight", "input", "flexible"),
    "matrix.fill_drain": ("per_pass", "per_command", "hidden", "scale_sim"),
    "dram.ports": ("shared", "separate"),
}
texts = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    (
        "1e9",
        "0x10",
        "no",
        "null",
        "~",
        "1.5",
        ".inf",
        "2026-01-01",
        "=",
        "<<",
        "- a",
        "a: b",
        "#",
        "a\nb\n",
        " x ",
        "'",
        '"',
    )
)


def _read(text: str) -> MachineSpec:
    return parse_document(text, MachineSpec, what="machine", name="text")


@pytest.mark.parametrize("name", machine_names())
def test_shipped_machines_come_back(name: str) -> None:
    machine = load_machine(name)
    assert _read(machine.to_yaml()) == machine


@st.composite
def machines(draw: st.DrawFn) -> MachineSpec:
    machine = load_machine(draw(st.sampled_from(machine_names())))
    own = {f"{section}.{name}".removeprefix("machine."): value for section, name, value in figures(machine)}
    numbers = [path for path, value in own.items() if type(value) in (int, float) and "sources" not in path]
    changes: dict[str, Any] = {}
    for path in draw(st.lists(st.sampled_from([*numbers, *CHOICES]), max_size=5, unique=True)):
        values: st.SearchStrategy[Any] = st.floats(1e-9, 1e9) | st.integers(1, 4096) | st.floats(0, 1)
        changes[path] = draw(st.sampled_from(CHOICES[path]) if path in CHOICES else values)
    changes |= {"description": draw(texts), "assumptions": draw(st.lists(texts, max_size=3))}
    try:
        return machine.with_(**changes)
    except InputError:
        assume(False)
        raise


@st.composite
def changes_of(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    name = draw(st.sampled_from(machine_names()))
    own = {
        f"{section}.{field}".removeprefix("machine."): value for section, field, value in figures(load_machine(name))
    }
    lists = ("gpu.l2_read", "matrix.block.kernels", "sources", "lacks")
    numbers = [path for path, value in own.items() if type(value) in (int, float) and not path.startswith(lists)]
    paths = draw(st.lists(st.sampled_from(numbers), min_size=1, max_size=4, unique=True))
    return name, {path: draw(st.sampled_from([own[path], own[path] * 2, own[path] + 1])) for path in paths}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given=changes_of())
def test_a_file_with_a_base_a_setting_and_a_change_are_one(given: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    name, changes = given
    data: dict[str, Any] = {"name": "m", "base": name}
    for path, value in changes.items():
        *parents, last = path.split(".")
        here = data
        for step in parents:
            here = here.setdefault(step, {})
        here[last] = value
    file = tmp_path / "m.yaml"
    file.write_text(yaml.safe_dump(data))
    try:
        wanted = load_machine(name).with_(**changes)
    except InputError:
        with pytest.raises(InputError):
            load_machine(file)
        return
    settings_of_text = [f"{path}={value!r}" for path, value in changes.items()]
    assert list(figures(load_machine(file))) == list(figures(wanted))
    assert list(figures(load_machine(name, settings_of_text))) == list(figures(wanted))


@settings(max_examples=25)
@given(machine=machines())
def test_changed_machines_come_back(machine: MachineSpec) -> None:
    again = _read(machine.to_yaml())
    assert again == machine
    assert again.to_yaml() == machine.to_yaml()
