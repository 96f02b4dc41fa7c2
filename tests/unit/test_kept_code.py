"""Compiled code in files: taken again by others, never of another source, and damaged files are no fault."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tilewright.search.mapping_cache import MappingCache, cache_folder
from tilewright.sim.engine.kept_code import _Files

MODULE = """
from tilewright.sim.engine.kept_code import compiled

@compiled
def f(x):
    return x + {n}
"""
SCRIPT = "import own; print(own.f(2), sum(own.f.stats.cache_hits.values()), len(own.f.signatures))"


def ran(folder: Path, **more: str) -> list[int]:
    """(result, how often code was taken from a file, signatures) of a fresh process."""
    path = os.pathsep.join([str(folder), *sys.path])
    environment = os.environ | {"PYTHONPATH": path, "NUMBA_CACHE_DIR": str(folder / "kept")} | more
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [int(part) for part in done.stdout.split()]


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "kept").rglob("*.twc"))


@pytest.mark.slow
def test_code_is_kept_and_never_that_of_another_source(tmp_path: Path) -> None:
    source = tmp_path / "own.py"
    source.write_text(MODULE.format(n=1))
    before = source.stat()
    assert ran(tmp_path) == [3, 0, 1]
    assert ran(tmp_path) == [3, 1, 1]
    (first,) = kept(tmp_path)
    source.write_text(MODULE.format(n=5))  # of the same size and time
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ran(tmp_path) == [7, 0, 1]
    assert first not in kept(tmp_path)
    assert len(kept(tmp_path)) == 1


@pytest.mark.parametrize("kind", ["empty", "cut", "one bit", "garbage", "folder"])
def test_damaged_code_counts_as_absent(tmp_path: Path, kind: str) -> None:
    files = _Files(str(tmp_path), "own.f", "source")
    files.save("signature", {"code": b"x" * 1000})
    assert files.load("signature") == {"code": b"x" * 1000}
    assert files.load("another") is None
    assert _Files(str(tmp_path), "own.f", "another source").load("signature") is None
    (file,) = tmp_path.glob("*.twc")
    data = bytearray(file.read_bytes())
    if kind == "folder":
        file.unlink()
        file.mkdir()
    else:
        data[-100] ^= 1
        changed = {"empty": b"", "cut": data[:700], "one bit": data, "garbage": os.urandom(5000)}
        file.write_bytes(changed[kind])
    assert files.load("signature") is None
    if kind != "folder":
        files.save("signature", 7)
        assert files.load("signature") == 7
    assert not list(tmp_path.glob("*.tmp*"))


@pytest.mark.slow
def test_where_nothing_can_be_kept_it_is_compiled_each_time(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(MODULE.format(n=1))
    (tmp_path / "kept").write_text("a file, no folder")
    only = {"NUMBA_CACHE_LOCATOR_CLASSES": "UserWideCacheLocator", "HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null"}
    assert ran(tmp_path, **only) == [3, 0, 1]


@pytest.mark.slow
def test_processes_that_compile_at_once_or_are_killed_leave_only_whole_files(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(MODULE.format(n=1))
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        "NUMBA_CACHE_DIR": str(tmp_path / "kept"),
    }
    for round_ in range(8):
        together = [subprocess.Popen([sys.executable, "-c", SCRIPT], env=environment) for _ in range(3)]
        if round_ % 2:
            time.sleep(0.4 + 0.15 * round_)
            for one in together:
                one.send_signal(signal.SIGKILL)
        codes = [one.wait(timeout=120) for one in together]
        assert set(codes) <= ({0, -signal.SIGKILL} if round_ % 2 else {0})
        assert ran(tmp_path)[0] == 3
        for file in kept(tmp_path):
            if round_ % 3 == 0:
                file.unlink()


@pytest.mark.slow
def test_two_commands_on_cold_caches_say_the_same(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "code"), "TILEWRIGHT_CACHE": str(tmp_path / "maps")}
    command = [sys.executable, "-m", "tilewright", "simulate", "network:resnet-18", "-a", "edge-16x16", "--json", "-"]
    together = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
    ]
    said = [one.communicate(timeout=300) for one in together]
    assert [one.returncode for one in together] == [0, 0]
    assert said[0][0] == said[1][0] != b""


# --- mappings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"key": 1}', b"null", b"9" * 6000], ids=range(7)
)
def test_a_damaged_mapping_counts_as_absent(tmp_path: Path, data: bytes) -> None:
    cache = MappingCache(tmp_path)
    key = cache.key("a")
    cache.put(key, {"tiling": {"m": 1}})
    (file,) = tmp_path.rglob("*.json")
    file.write_bytes(data)
    assert cache.get(key) is None
    cache.put(key, {"tiling": {"m": 2}})
    assert cache.get(key) == {"tiling": {"m": 2}}


def test_without_a_place_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TILEWRIGHT_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert not cache_folder().exists()
    blocked = tmp_path / "a file"
    blocked.write_text("")
    for cache in (MappingCache(), MappingCache(blocked), MappingCache(Path("/proc/1/nothing"))):
        key = cache.key("a")
        cache.put(key, {"tiling": {}})
        assert cache.get(key) is None
