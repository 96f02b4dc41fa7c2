"""``show`` and the shell's completion: every kind of name, near names, which of two meanings is meant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tilewright.cli import complete, main
from tilewright.reports.layer_words import layer_words, network_words
from tilewright.search.workload import layer_of

LAYER_FILE = "name: mine\nheads: 4\nseq: 128\nhead_dim: 32\n"


def _show(name: str, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["show", name, *more])
    captured = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    assert "Traceback" not in captured.err
    return stopped.value.code, captured.out, captured.err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("edge-16x16", "sources"),
        ("bert-base", "attention layer: 12 heads, 512 queries and keys, width 64"),
        ("attention:bert-base", "attention layer: 12 heads, 512 queries and keys, width 64"),
        ("network:bert-base", "150, "),
        ("resnet-18", "arXiv 1512.03385"),
        ("mas", "query rows of a row block"),
        ("gemm:m=64,n=48,k=32", "matrix product: 64 x 32 by 32 x 48"),
        ("softmax:rows=64,columns=48", "vector work: 64 rows"),
        (
            "attention:heads=8,kv_heads=2,query_len=1,key_len=64,head_dim=32",
            "8 heads on 2 of keys and values, 1 queries",
        ),
    ],
)
def test_every_kind_of_name(
    name: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = _show(name, capsys)
    assert code == 0
    assert said.split()[0] in out and " ".join(said.split()) in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    layer = json.loads(_show("bert-base", capsys, "--json", "-")[1])
    assert (layer["query_heads"], layer["key_len"], layer["key_format"]) == (12, 512, "fp16")
    assert not any(key.startswith(("bias", "sink")) for key in layer)
    network = json.loads(_show("resnet-18", capsys, "--json", "-")[1])
    assert sum(row["macs"] * row["count"] for row in network["distinct_operators"]) == network["macs"]
    flow = json.loads(_show("mas", capsys, "--json", "-")[1])
    assert [tile["tile"] for tile in flow["tiles"]] == ["query", "key", "depth", "resident", "overwrite"]


def test_a_name_with_two_meanings_says_which(capsys: pytest.CaptureFixture[str]) -> None:
    assert "the whole network is network:bert-base" in _show("bert-base", capsys)[2]
    assert network_words("bert-base:seq=64") == "the whole network is network:bert-base"
    assert network_words("bert-small") == ""


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("edge-16x61", "edge-16x16"),
        ("bert-bse", "bert-base"),
        ("resnet-51", "resnet-50"),
        ("ma", "mas"),
        ("gmm:m=4", "gemm"),
    ],
)
def test_a_wrong_name_gets_the_nearest_of_all(given: str, near: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = _show(given, capsys)
    assert (code, out) == (2, "")
    assert f'unknown name; given "{given}"' in err and f'(did you mean "{near}"?)' in err


def test_yaml_files_of_layers_and_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text(LAYER_FILE)
    assert "attention layer: 4 heads, 128 queries and keys" in _show(str(tmp_path / "mine.yaml"), capsys)[1]
    assert "no such file" in _show(str(tmp_path / "none.yaml"), capsys)[2]


def test_words_of_a_layer() -> None:
    words = layer_words(layer_of("attention:heads=4,seq=64,head_dim=16,batch=2,mask=banded,window_left=8"))
    assert words == "attention layer: batch 2, 4 heads, 64 queries and keys, width 16, banded mask (left 8)"
    assert layer_words(object()) == ""


def test_what_the_shell_completes() -> None:
    assert complete.machines("edge-16") == ["edge-16x16", "edge-16x16-bitfusion"]
    assert "network:bert-base" in complete.workloads("network:")
    assert "resnet-50" in complete.workloads("res") and "gemm:" in complete.workloads("ge")
    assert complete.dataflows("ma") == ["mas", "mas_staged"]
    assert complete.objectives("e") == ["energy", "edp"]
    assert complete.front_objectives("p") == ["pareto"]
    assert complete.methods("n") == ["nsga2"]
    assert complete.list_kinds("ma") == ["machines"] and complete.list_kinds("mem") == ["memories"]
    assert {"mas", "edge-16x16", "bert-base"} <= set(complete.anything(""))


def test_a_shell_asks_the_command_itself() -> None:
    code = (
        "import sys; from tilewright.cli import main; import atexit; heavy = {'numba', 'matplotlib', 'scipy'};"
        "atexit.register(lambda: print(*(heavy & set(sys.modules)), file=sys.stderr)); main([])"
    )
    environment = {
        "_TILEWRIGHT_COMPLETE": "complete_bash",
        "COMP_WORDS": "tilewright simulate x -a edge",
        "COMP_CWORD": "4",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["edge-16x16", "edge-16x16-bitfusion"]
    assert done.stderr.strip() == ""
