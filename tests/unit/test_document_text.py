"""Files that are no files: each is refused in one sentence at once, whatever reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tilewright.cli.run import run
from tilewright.document_text import MOST_BYTES, parse_json, read_text
from tilewright.errors import InputError

READERS = {
    "machine.yaml": ["show", "{}"],
    "layer.yaml": ["simulate", "{}", "-a", "edge-16x16"],
    "stream.json": ["simulate", "{}", "-a", "edge-16x16"],
    "model.onnx": ["simulate", "{}", "-a", "edge-16x16"],
    "sweep.yaml": ["sweep", "{}", "--store", "r.db"],
    "r.db": ["report", "{}", "--csv", "-"],
    "h200_gemm_x_1.csv": ["validate", "{}", "-a", "h200"],
    "measured.json": ["validate", "{}", "-a", "h200"],
    "sensitivity.json": [
        "search",
        "resnet-18",
        "--over",
        "bits",
        "--sensitivity",
        "{}",
        "--budget",
        "weights_mb=5",
        "-a",
        "edge-16x16",
    ],
    "calibration.yaml": ["validate", "x.csv", "-a", "h200", "--calibration", "{}"],
}


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "bytes", "huge"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_at_once(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "r.db" and kind == "huge":
        pytest.skip("a store may be large")
    if name == "model.onnx":
        pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    place = tmp_path / name
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case "device":
            place.symlink_to("/dev/zero")
        case "bytes":
            place.write_bytes(b"\x89\xff\x00\x1b" * 1000)
        case "huge":
            with place.open("wb") as file:
                file.truncate(8 * MOST_BYTES + 1)  # takes no room on the disk
    assert run([part.replace("{}", name) for part in READERS[name]]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("tilewright: error: ")
    assert name in said
    assert said.isprintable()


def test_a_pipe_that_a_shell_has_opened_is_read(tmp_path: Path) -> None:
    assert read_text(write(tmp_path, b"\xef\xbb\xbfa"), what="w", allowed="a") == "a"
    script = "from tilewright.document_text import read_text; print(read_text('/dev/stdin', what='w', allowed='a'))"
    done = subprocess.run([sys.executable, "-c", script], input=b"abc", capture_output=True, timeout=60, check=True)
    assert done.stdout == b"abc\n"


def write(folder: Path, data: bytes) -> Path:
    (folder / "file").write_bytes(data)
    return folder / "file"


def test_bytes_that_are_no_text_are_placed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"file:2:3: thing: not UTF-8 text; given byte 0xff"):
        read_text(write(tmp_path, b"a\nbc\xff"), what="thing", allowed="a")
    with pytest.raises(InputError, match="cannot be read"):
        read_text("a\0b", what="thing", allowed="a")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, r"f: thing: not valid JSON \(nested too deeply\)"),
        ("9" * 5000, r"f: thing: not valid JSON \(a number of too many digits\)"),
        ("[1,\n 2,,]", r"f:2:4: thing: not valid JSON \(expecting value\)"),
        ("", r"f:1:1: thing: not valid JSON"),
    ],
)
def test_json_that_is_none_is_placed(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_json(text, what="thing", name="f")
