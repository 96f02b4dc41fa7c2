"""Do the examples and the README's own lines run, and do they say what the README says?"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import tilewright
from tilewright.workloads.runs.kinds.generate import GenerateRun
from tilewright.workloads.runs.load import load_run

ROOT = Path(__file__).resolve().parents[2]
SAYS = {
    "networks_at_once.py": r"ds-cnn: 28,477 cycles alone, 2\.52x at once; done at 574,446",
    "own_machine.py": r"edge-16x16 +flat +1,740,447 +mas +1,579,743 +1\.10x",
    "own_dataflow.py": r"equals attention: True",
    "own_page.py": r"linked: True .*of the energy",
    "own_operator.py": r"own-operators: 654,222 cycles, 150,994,944 shift-adds",
}


def test_every_example_is_run() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_example(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(SAYS[name], done.stdout), done.stdout


def test_the_run_of_a_chat() -> None:
    text = (ROOT / "examples" / "chat.yaml").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 20
    asked = load_run(ROOT / "examples" / "chat.yaml")
    assert isinstance(asked, GenerateRun)
    short = replace(asked, requests=tuple(replace(one, generate=3 - at) for at, one in enumerate(asked.requests)))
    run = tilewright.simulate_run(short, "h100")
    assert [phase.n_made for phase in run.phases] == [1, 3, 4, 1]
    per_token = 16 * 8 * 64 * ((8 + 16 / 32) + (4 + 16 / 32)) / 8
    assert max(point.cache_bytes for point in run.memory) == (528 + 3 * 112) * per_token  # in blocks of 16


def test_the_run_of_diffusion_steps() -> None:
    """Guidance runs the network twice; seven of its twenty steps are full."""
    run = tilewright.simulate_run(ROOT / "examples" / "diffusion_steps.yaml", "edge-16x16")
    assert len((ROOT / "examples" / "diffusion_steps.yaml").read_text().splitlines()) < 20
    assert run.measure("full_steps") == 7
    assert 2.5 < run.measure("speedup_steps") < run.measure("speedup_flop") < 3


def test_the_notebook_runs_and_each_cell_shows_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell after cell in one namespace, as a kernel does; the last expression of a cell is what it shows."""
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "examples" / "first_steps.ipynb").read_text(encoding="utf-8"))
    codes = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(codes) > 5 and not any(cell["outputs"] or cell["execution_count"] for cell in codes)
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in codes:
        *statements, last = ast.parse("".join(cell["source"])).body
        exec(compile(ast.Module(statements, []), "notebook", "exec"), names)
        if not isinstance(last, ast.Expr):
            exec(compile(ast.Module([last], []), "notebook", "exec"), names)
            continue
        shown = eval(compile(ast.Expression(last.value), "notebook", "eval"), names)
        looks = [getattr(shown, look)() for look in ("_repr_png_", "_repr_html_") if hasattr(shown, look)]
        assert looks and any(looks)
        assert len(repr(shown)) < 1000
    assert not list(tmp_path.iterdir())


def test_sweep_for_the_best_edge_design(tmp_path: Path) -> None:
    """The file as it is, on a smaller image, a shorter memory and some of its designs."""
    from tilewright.search.sweep.best import best_of_sweep
    from tilewright.search.sweep.spec import load_sweep

    text = (ROOT / "examples" / "best_edge_design.yaml").read_text(encoding="utf-8")
    assert text.count("\n") < 30
    swept = '"network:vit-b-16", "llama-3-8b:decode=1,context=4096"'
    assert swept in text
    text = text.replace(swept, '"network:vit-b-16:image=32", "llama-3-8b:decode=1,context=64"')
    short = tmp_path / "sweep.yaml"
    short.write_text(f"{text}sampling: {{method: sobol, n: 4, seed: 1}}\n", encoding="utf-8")
    frame = tilewright.sweep(short, jobs=1)
    assert set(frame["status"]) == {"done"}
    assert (frame["area_mm2"] <= 4).all() and (frame["peak_tops"] >= 2).all()
    best = best_of_sweep(load_sweep(short), frame.to_dict("records"))
    assert all(row["power_w"] <= 1 for row in best.by_workload.values())
    assert len(best.by_workload) == 2


PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_of_a_page_runs(page: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks or page.name not in ("README.md", "fusion.md")
    for block in blocks:
        exec(compile(block, page.name, "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_table_of_dataflows_is_what_the_simulator_says() -> None:
    """The rows of the results table for two networks; the whole table is made by the command above it."""
    readme = (ROOT / "docs" / "attention.md").read_text(encoding="utf-8")
    for network in ("bert-base", "vit-b-16"):
        row = re.search(rf"^\| {network} \| ([^\n]*) \|$", readme, flags=re.MULTILINE)
        assert row is not None
        written = [int(cell.strip(" *").replace(",", "")) for cell in row.group(1).split("|")[:7]]
        results = tilewright.compare(network, "edge-16x16").results
        assert written == [result.cycles for result in results]


def test_table_of_networks_is_what_the_simulator_says() -> None:
    page = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    for network in ("resnet-18", "mobilenet-v2"):
        row = re.search(rf"^\| `{network}` \| ([^\n]*) \|$", page, flags=re.MULTILINE)
        assert row is not None
        written = row.group(1).split(" | ")
        result = tilewright.simulate_network(network, "edge-16x16")
        assert written[2] == f"{result.cycles:,}"
        assert written[4] == f"{result.cycles / result.lower_bound_cycles:.3f}"
