"""Is an option that would change nothing refused in one sentence, instead of being left out without a word?"""

from __future__ import annotations

import pytest

import tilewright
from tilewright.cli.run import run
from tilewright.hw_models.load import load_machine
from tilewright.sim.lowering.evaluation import unmodelled

ON_EDGE = ["-a", "edge-16x16"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["simulate", "resnet-18", *ON_EDGE, "--kv-cache", "int8"],
            "--kv-cache: means nothing here; no key/value cache in",
        ),
        (["simulate", "resnet-18", *ON_EDGE, "-d", "mas"], "--dataflow: is for attention; no attention operator in"),
        (["why", "bert-base", *ON_EDGE, "-a", "flat-edge"], "--machine: given 2 times; allowed once"),
        (["why", "bert-base", *ON_EDGE, "--json", "a", "--json", "b"], "--json: given 2 times; allowed once"),
        (["why", "resnet-18", *ON_EDGE, "-d", "mas"], "--dataflow: is for attention; no attention operator in"),
        (["compare", "resnet-18", *ON_EDGE, "--kv-cache", "int8"], "--kv-cache: means nothing here; no key/value"),
        (["compare", "bert-base", *ON_EDGE, "--seed", "3"], "--seed: means nothing to --method exhaustive"),
        (["simulate", "bert-base", *ON_EDGE, "--seed", "0"], "--seed: means nothing to --method exhaustive"),
        (["simulate", "resnet-18", *ON_EDGE, "--method", "exhaustive"], "--method: is for attention layers"),
        (["search", "bert-base", *ON_EDGE, "--over", "tiling", "--seed", "1"], "--seed: means nothing to --method exh"),
        (["search", "resnet-18", *ON_EDGE, "--over", "fusion", "--seed", "1"], "--seed: means nothing to --method dp"),
        (["search", "resnet-18", *ON_EDGE, "--over", "fusion", "--budget", "9"], "--budget: means nothing to --method"),
        (["sweep", "a.yaml", "--store", "a.db", "--status", "--jobs", "2"], "--jobs: says who runs points"),
        (["sweep", "a.yaml", "--store", "a.db", "--status", "--scheduler", "tcp://a:1"], "--scheduler: says who runs"),
        (["report", "a.db", "--csv", "-", "--points", "500"], "--points: is about the page"),
    ],
)
def test_an_option_that_changes_nothing_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"tilewright: error: {message}")


def test_options_that_may_be_repeated_still_are(capsys: pytest.CaptureFixture[str]) -> None:
    layer = "attention:seq=32,heads=1,head_dim=16"
    assert run(["compare", layer, *ON_EDGE, "-d", "flash2", "-d", "mas"]) == 0
    out = capsys.readouterr().out
    assert "flash2" in out
    assert "mas" in out


def test_what_is_not_searched_for_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    tiling = ["--tile", "query=16,key=16,depth=2,resident=0"]
    layer = "attention:seq=32,heads=1,head_dim=16"
    assert run(["simulate", layer, *ON_EDGE, "-d", "flash2", *tiling, "--method", "mcts"]) == 0
    assert "nothing was searched" in capsys.readouterr().err


def test_parts_of_a_machine_that_change_nothing_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Before the result and among its assumptions: buffers behind the first. A port for each way is used."""
    layer, tiling = "attention:seq=32,heads=1,head_dim=16", {"query": 16, "key": 16, "depth": 2, "resident": 0}
    two, ports = load_machine("tileflow-cloud"), load_machine("tileflow-rtl")
    assert unmodelled(load_machine("edge-16x16")) == []
    assert "behind l1 (l2)" in unmodelled(two)[0]
    assert unmodelled(ports) == []
    result = tilewright.simulate(layer, two, dataflow="flash2", tiling=tiling)
    assert unmodelled(two)[0] in result.assumptions
    assert (
        run(["simulate", layer, "-a", "tileflow-cloud", "-d", "flash2", "--tile", "query=16,key=16,depth=2,resident=0"])
        == 0
    )
    assert "behind l1 (l2)" in capsys.readouterr().err
