"""Does the lesson of docs/machines.md, from a data sheet to a first table, work as it is printed?"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tilewright.cli.run import run
from tilewright.hw_models.describe import unused_sources
from tilewright.hw_models.load import load_machine
from tilewright.search.sweep.design_figures import base_values, peak_tops

ROOT = Path(__file__).resolve().parents[2]
LESSON = (ROOT / "docs" / "machines.md").read_text(encoding="utf-8").split("## From a data sheet")[1].split("\n## ")[0]
COMMANDS = [line for block in re.findall(r"```console\n(.*?)```", LESSON, re.DOTALL) for line in block.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my-npu.yaml").write_text(re.findall(r"```yaml\n(name: my-npu.*?)```", LESSON, re.DOTALL)[0])
    (tmp_path / "my.csv").write_text(re.findall(r"```text\n(network,.*?)```", LESSON, re.DOTALL)[0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_machine_is_that_of_the_data_sheet(folder: Path) -> None:
    machine = load_machine("my-npu.yaml")
    assert peak_tops(base_values(machine)) == pytest.approx(1.024)
    assert [buffer.name for buffer in machine.buffers] == ["sram"]
    assert machine.energy.multiply_accumulate_pj["int8"] == 0.137
    assert unused_sources(machine) == []
    assert not any("on-chip buffer is never the bottleneck" in text for text in machine.assumptions)


@pytest.mark.parametrize("command", [line for line in COMMANDS if "bert-base" not in line])
def test_every_command_runs(folder: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(shlex.split(command.removeprefix("$ tilewright "))) == 0
    assert "my-npu" in capsys.readouterr().out


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 6
