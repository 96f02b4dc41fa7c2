"""What `tilewright sweep` says beside its tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tilewright.cli.run import run


def test_a_store_of_another_version_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, store = tmp_path / "sweep.yaml", tmp_path / "results.db"
    text = "name: tiny\nmachine: edge-16x16\nworkloads: ['attention:heads=1,seq=32,head_dim=16']\n"
    file.write_text(text, encoding="utf-8")
    assert run(["sweep", str(file), "--store", str(store), "--status"]) == 0
    assert "another version" not in capsys.readouterr().err
    assert run(["sweep", str(file), "--store", str(store), "--jobs", "1"]) == 0
    assert "another version" not in capsys.readouterr().err
    file.write_text(text.replace("seq=32", "seq=33"), encoding="utf-8")
    assert run(["sweep", str(file), "--store", str(store), "--status"]) == 0
    assert "has points of tiny, but of another version of the file or of Tilewright" in capsys.readouterr().err
