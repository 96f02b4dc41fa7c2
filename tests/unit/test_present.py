"""What results show of themselves: few lines, a table for a notebook, a picture, a page."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tilewright
from tilewright.errors import InputError

LAYER = "attention:heads=2,seq=64,head_dim=32"
PRODUCT = "gemm:m=64,n=48,k=32"
NETWORK = "fsrcnn:height=27,width=48"
MOST_LINES, MOST_LETTERS = 12, 1000


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    machines = ["edge-16x16", "flat-edge"]
    return {
        "result": tilewright.simulate(LAYER, "edge-16x16", "mas"),
        "why": tilewright.why(PRODUCT, "edge-16x16"),
        "one workload": tilewright.compare(LAYER, "edge-16x16", ["mas", "flat"]),
        "two workloads": tilewright.compare([LAYER, PRODUCT], "edge-16x16", ["mas", "flat"]),
        "machines": tilewright.compare([LAYER, NETWORK], machines),
        "network": tilewright.simulate_network(NETWORK, "edge-16x16"),
        "why network": tilewright.why_network(NETWORK, "edge-16x16"),
    }


TEXT_ONLY = {
    "stream": lambda: tilewright.load_network("resnet-18"),
    "machine": lambda: tilewright.load_machine("h100"),
    "tiling": lambda: tilewright.search_tiling(PRODUCT, "edge-16x16", method="random"),
    "fusion": lambda: tilewright.search_fusion(NETWORK, "edge-16x16"),
    "trace": lambda: tilewright.trace(LAYER, "edge-16x16", "mas", {"query": 32, "key": 32, "depth": 2, "resident": 1,
                                                                   "overwrite": 0}),
    "operator": lambda: tilewright.simulate_network(NETWORK, "edge-16x16").operators[0],
}  # fmt: skip
ALL = ("result", "why", "one workload", "two workloads", "machines", "network", "why network")


@pytest.mark.parametrize("name", ALL)
def test_print_is_short_and_a_notebook_gets_a_table(name: str, results: dict[str, Any]) -> None:
    result = results[name]
    text = str(result)
    assert text == repr(result)
    assert text.startswith(f"{type(result).__name__}: ")
    assert len(text) < MOST_LETTERS and text.count("\n") < MOST_LINES
    html = result._repr_html_()
    assert html.count("<tr>") >= 2 and html.count("<table>") == 1
    assert len(result.to_frame()) >= 1


@pytest.mark.parametrize("name", TEXT_ONLY)
def test_large_things_print_short_too(name: str) -> None:
    thing = TEXT_ONLY[name]()
    assert len(repr(thing)) < MOST_LETTERS and repr(thing).count("\n") < MOST_LINES
    assert thing._repr_html_().startswith("<p><b>")


@pytest.mark.parametrize("name", ALL)
def test_a_picture_and_a_page(name: str, results: dict[str, Any], tmp_path: Path) -> None:
    endings = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    for ending, begin in endings.items() if name == "result" else [(".png", endings[".png"])]:
        figure = results[name].plot(tmp_path / f"a{ending}")
        assert (tmp_path / f"a{ending}").read_bytes().startswith(begin)
    assert figure._repr_png_().startswith(b"\x89PNG")
    page = results[name].report(tmp_path / "page")
    assert page == tmp_path / "page" / "index.html"
    assert "</html>" in page.read_text(encoding="utf-8")


def test_the_figures_are_those_of_the_result(results: dict[str, Any]) -> None:
    result = results["result"]
    assert f"{result.cycles:,} cycles" in repr(result)
    assert f"proven best of the {result.search.n_candidates:,} tilings in mas's space" in repr(result)
    assert f"{results['network'].cycles:,} cycles" in repr(results["network"])
    for run in results["machines"].runs:
        assert run.machine in repr(results["machines"])


def test_names_are_escaped_in_a_notebook(made_up: SimpleNamespace) -> None:
    html = made_up.result(workload="<script>alert(1)</script>")._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_what_was_run_goes_along_and_takes_no_part_in_comparisons(results: dict[str, Any]) -> None:
    result = results["result"]
    assert pickle.loads(pickle.dumps(result)).machine_spec == result.machine_spec
    bare = replace(result, layer=None, machine_spec=None)
    assert bare == result
    assert "layer" not in result.to_dict()
    with pytest.raises(InputError, match="does not know what was run"):
        bare.report("nowhere")
    with pytest.raises(InputError, match="does not know what was run"):
        bare.plot()


def test_a_wrong_place_for_a_picture_is_one_sentence(results: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'unknown ending; given ".pngg"; .*did you mean ".png"'):
        results["result"].plot("a.pngg")
    with pytest.raises(InputError, match="plot"):
        results["result"].plot(tmp_path / "no" / "a.png")


def test_printing_loads_nothing_heavy() -> None:
    code = (
        "import sys, tilewright; print(tilewright.load_machine('edge-16x16'));"
        "heavy = {'matplotlib', 'jinja2', 'rich', 'numba'} & set(sys.modules); sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
