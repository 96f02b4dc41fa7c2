"""The page, the drawing and the trace of a run over time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tilewright.cli.app import app
from tilewright.reports.runs.drawing import draw_run
from tilewright.reports.runs.trace import run_trace
from tilewright.search.runs.run import simulate_run
from tilewright.sim.runs.result import RunResult

RUN = "llama-3-8b-block:prompt=6,generate=3,kv=int8"


@pytest.fixture(scope="module")
def result() -> RunResult:
    return simulate_run(RUN, "edge-16x16")


def test_the_trace_has_the_phases_and_every_step(result: RunResult) -> None:
    events = run_trace(result)["traceEvents"]
    bars = [event for event in events if event["ph"] == "X"]
    assert [bar["name"] for bar in bars] == ["prefill", "prefill 0", "decode", "decode 0", "decode 1"]
    assert bars[-1]["ts"] + bars[-1]["dur"] == pytest.approx(result.seconds * 1e6)
    memory = [event["args"] for event in events if event["name"] == "memory"]
    assert max(sum(parts.values()) for parts in memory) == result.peak_bytes


def test_the_drawing_has_a_bar_a_phase(result: RunResult) -> None:
    drawn = draw_run(result)
    assert drawn.count("steps, ") == 2 and "in memory" in drawn and drawn.endswith("</svg>\n")


def test_the_report_is_a_page_a_drawing_and_a_trace(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    done = CliRunner().invoke(app, ["simulate", RUN, "-a", "edge-16x16", "--report", str(folder)])
    assert done.exit_code == 0, done.output
    assert {path.name for path in folder.iterdir()} >= {"index.html", "run.svg", "trace.json"}
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "time to first token" in page and "Phases" in page and "<svg" in page
    assert json.loads((folder / "trace.json").read_text(encoding="utf-8"))["otherData"]["run"] == "generate"
