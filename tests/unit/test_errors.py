"""Texts meant for the user: what does not print is shown, and a copy says the same."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tilewright.cli.run import run
from tilewright.document import parse_document
from tilewright.errors import InputError, TilewrightError, visible
from tilewright.hw_models.spec import MachineSpec


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain µm² 模型", "plain µm² 模型"),
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("two\nlines\r\t", "two\\nlines\\r\\t"),
        ("right\u202eto left\u200f\u2066", "right\\u202eto left\\u200f\\u2066"),
        ("\x00\x7f\x9b\ufeff\u2028", "\\x00\\x7f\\x9b\\ufeff\\u2028"),
        ("half a \ud800 character", "half a \\ud800 character"),
    ],
)
def test_what_does_not_print_is_shown(given: str, shown: str) -> None:
    assert visible(given) == shown
    assert visible(shown) == shown
    assert str(InputError(given)) == shown
    assert shown.encode("utf-8")


def test_several_faults_are_several_lines_and_survive_a_copy() -> None:
    error = InputError("first\x1b", "second\n")
    assert str(error) == "first\\x1b\nsecond\\n"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    with pytest.raises(TilewrightError) as caught:
        parse_document("name: 1\nbuffers: 2\n", MachineSpec, what="machine", name="a\nb.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) > 2
    assert all(line.startswith("a\\nb.yaml") for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "a\x1b[31m\nb"],
        ["simulate", "a\u202e\r", "-a", "edge-16x16"],
        ["simulate", "bert-base", "-a", "\x9b31m\ud800"],
        ["\x1b]0;title\x07"],
        ["simulate", "bert-base", "-a", "edge-16x16", "--tile", "\x1b=\n1"],
        ["list", "machines", "--json", "a\x00b"],
    ],
)
def test_no_argument_moves_the_cursor(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if "error" in line]) == 1
    assert all(line.isprintable() for line in said)


def started(arguments: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tilewright", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("arguments", [["list", "machines"], ["list", "machines", "--json", "-"]])
def test_a_reader_that_goes_away_is_no_fault(arguments: list[str]) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as pipe:
        ran = started(arguments, stdout=pipe)
    assert (ran.returncode, ran.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no device that is always full")
def test_a_full_standard_output_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        ran = started(["list", "machines"], stdout=full)
    assert ran.returncode == 1
    assert ran.stderr == "tilewright: error: what was to be written: no space left on device\n"


def test_closed_standard_streams_do_no_harm(tmp_path: Path) -> None:
    place = tmp_path / "machines.json"
    shell = f'exec "{sys.executable}" -m tilewright list machines --json "{place}" <&- >&- 2>&-'
    assert subprocess.run(["/bin/sh", "-c", shell], timeout=60, check=False).returncode == 0
    assert place.read_text(encoding="utf-8").startswith("{")
