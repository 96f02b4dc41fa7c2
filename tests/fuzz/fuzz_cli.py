"""Command lines with values that nobody should give: each ends with code 0, 1 or 2 and without a traceback."""

from __future__ import annotations

import contextlib
import io
import os
import random
import tempfile
from pathlib import Path

from tests.fuzz.damage import Judge
from tilewright.cli.run import run as run_command
from tilewright.hw_models.load import machine_text

_VALUES = (
    "", " ", "0", "-1", "1.5", "1e400", "-1e400", "nan", "inf", "9" * 400, "9" * 5000, "0x10", "1_0", "١٢", "１６", "²",
    "a", "a=b", "=", "=1", "query=", "query=0", "query=-1", "query=99999999999999999999", "query=16,query=32",
    "query=16,key=16", "seq=0", "latency_ms=nan", "weights_mb=1e400", "energy_mj=-1", "weights_mb=0", "1KiB", "0B",
    "99999999999999999999GiB", "nanMiB", "-", "--", "/", ".", "..", "FOLDER", "MISSING", "BINARY", "PIPE", "EMPTY",
    "EMPTYYAML", "BINARYYAML", "DEEP", "BOMB", "BINARYJSON", "DEEPJSON", "NOPE/x.yaml", "/dev/null", "/dev/zero",
    "/dev/zero.yaml", "\x1b[31m", "\u202e", "\n", "a" * 5000, "*", "%s", "{}", "[]", "edge-16x16", "bert-small", "int8",
    "fp16", "MACHINE", "attention:heads=1,seq=32,head_dim=16", "attention:heads=0,seq=32,head_dim=16",
    "attention:heads=1,seq=1e9,head_dim=16", "attention:heads=1,seq=２,head_dim=16", "gemm:m=0,n=1,k=1",
    "gemm:m=99999999999999999999999,n=1,k=1", "gemm:m=16,n=16,k=16", "conv:in=1x1x1,out_channels=1,kernel=9",
    "conv:in=3x8x8,out_channels=4,kernel=" + "9" * 5000, "softmax:rows=" + "9" * 5000 + ",columns=1",
    "resnet-18:batch=0", "resnet-18:batch=" + "9" * 5000, "resnet-18:x=y", "network:", "network:x", ":", "::",
    "bert-small:seq=" + "9" * 5000, "tcp://x:y", "tcp://127.0.0.1:1", "latency", "energy", "edp", "mas", "flash2",
)  # fmt: skip
#: What is damaged; every command here is soon done when nothing is.
_COMMANDS = (
    ["simulate", "gemm:m=16,n=16,k=16", "-a", "edge-16x16"],
    ["simulate", "attention:heads=1,seq=32,head_dim=16", "-a", "MACHINE", "-d", "flash2"],
    [
        "simulate",
        "attention:heads=1,seq=32,head_dim=16",
        "-a",
        "edge-16x16",
        "-d",
        "flash2",
        "--tile",
        "query=16,key=16",
    ],
    ["compare", "attention:heads=1,seq=32,head_dim=16", "-a", "edge-16x16", "-d", "flash2", "-d", "flat"],
    ["why", "attention:heads=1,seq=32,head_dim=16", "-a", "edge-16x16", "-d", "flash2"],
    ["search", "attention:heads=1,seq=32,head_dim=16", "-a", "edge-16x16", "--over", "tiling", "--budget", "20"],
    ["search", "resnet-18", "--over", "bits", "--sensitivity", "x.json", "--budget", "weights_mb=5"],
    ["sweep", "x.yaml", "--store", "x.db", "--jobs", "1"],
    ["sweep", "--store", "x.db", "--check"],
    ["report", "x.db", "-o", "x.html", "--points", "100"],
    ["validate", "x.csv", "-a", "h200"],
    ["list", "machines"],
    ["show", "edge-16x16"],
)
_OPTIONS = (
    "-a", "-d", "--tile", "--budget", "--objective", "--json", "--csv", "--weights", "--activations", "--kv-cache",
    "--report", "--seed", "--method", "--points", "--store", "--jobs", "--scheduler", "--buffer", "--over",
    "--sensitivity", "--sweep", "--calibration", "--markdown", "--unknown", "-h",
)  # fmt: skip


def run(n: int, seed: int) -> None:
    """Give ``n`` command lines."""
    chance, judge = random.Random(seed), Judge("cli", seed)
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            files = _files(Path(folder))
            for at in range(n):
                arguments = _arguments(chance, files)
                judge.of(at, "\0".join(arguments).encode("utf-8", "surrogatepass"), lambda a=arguments: _give(a))
        finally:
            os.chdir(before)
    judge.end()


def _give(arguments: list[str]) -> None:
    out, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        code = run_command(arguments)
    lines = said.getvalue()
    assert code in (0, 1, 2), f"{arguments}: code {code}"
    assert "error: unexpected" not in lines, f"{arguments}: {lines[:3000]}"
    assert lines.replace("\n", "").isprintable(), f"{arguments}: {lines[:500]!r}"
    assert code == 0 or lines, f"{arguments}: nothing said"


def _arguments(chance: random.Random, files: dict[str, str]) -> list[str]:
    arguments = list(chance.choice(_COMMANDS))
    for _ in range(chance.choice((1, 1, 2))):
        value = chance.choice(_VALUES)
        if chance.random() < 0.6 and len(arguments) > 1:
            arguments[chance.randrange(1, len(arguments))] = value
        else:
            arguments += [chance.choice(_OPTIONS), value]
    return [files.get(one, one) for one in arguments]


def _files(folder: Path) -> dict[str, str]:
    contents = {
        "BINARY": ("a.bin", bytes(range(256)) * 40),
        "BINARYYAML": ("a.yaml", bytes(range(256)) * 40),
        "BINARYJSON": ("a.json", bytes(range(256)) * 40),
        "EMPTY": ("empty", b""),
        "EMPTYYAML": ("empty.yaml", b""),
        "DEEP": ("deep.yaml", b"[" * 20_000),
        "DEEPJSON": ("deep.json", b"[" * 200_000),
        "BOMB": ("bomb.yaml", _bomb()),
        "MACHINE": ("own.yaml", machine_text("edge-16x16").encode()),
    }
    named = {
        "MISSING": str(folder / "missing.yaml"),
        "FOLDER": str(folder / "sub.yaml"),
        "PIPE": str(folder / "p.yaml"),
    }
    for name, (file, data) in contents.items():
        (folder / file).write_bytes(data)
        named[name] = file
    (folder / "sub.yaml").mkdir()
    os.mkfifo(folder / "p.yaml")
    return named


def _bomb() -> bytes:
    lines = ["a: &a [x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefghij", "bcdefghijk", strict=True):
        lines.append(f"{name}: &{name} [" + ", ".join([f"*{before}"] * 9) + "]")
    return "\n".join(lines).encode()
