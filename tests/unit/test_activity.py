"""What engines do over time: held to the recorded commands, to the result's own figures, and shown by engine."""

from __future__ import annotations

import json
import pickle
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import tilewright
from tilewright.reports.activity_chart import activity_data, activity_tracks
from tilewright.reports.folder import write_network_report
from tilewright.reports.network_case import NetworkCase
from tilewright.reports.network_page import network_page, operator_trace
from tilewright.reports.present import write_report
from tilewright.search.activity import NetworkActivity
from tilewright.sim.engine.activity import KINDS, activity_of
from tilewright.sim.engine.program import Channel, Engine, Program, ProgramBuilder
from tilewright.sim.engine.trace import trace_program
from tilewright.sim.lowering.evaluation import build_phase, phase_tiling
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.workloads.load import load_workload

MACHINES = ["edge-16x16", "flat-cloud"]


def two_engines() -> Program:
    """Four loads of 8 bytes into two slots of 100 bytes, each used for 3 cycles."""
    b = ProgramBuilder([Engine("load", "load"), Engine("matrix", "matrix")], [Channel("dram", Fraction(4))])
    free, ready = b.semaphore("A slot free", 2, is_slot=True), b.semaphore("A ready")
    b.buffer_bytes = {"A": 200, "kept": 7}
    for _ in b.loop(4):
        b.transfer(0, n_bytes=8, latency_cycles=1, waits=[free], signals=[ready])
        b.compute(1, cycles=3, waits=[ready], signals=[free])
    return b.build()


def test_spans_of_one_cycle_show_every_command() -> None:
    program = two_engines()
    trace = trace_program(program)
    activity = activity_of([program], trace.total_cycles, n_cores=1)
    for number, kind in ((0, "load"), (1, "matrix")):
        busy = np.zeros(trace.total_cycles)
        for command in trace.commands:
            if command.engine == number:
                busy[command.start : command.end] = 1
        assert activity.busy[kind].tolist() == busy.tolist()
    # 1 cycle of latency, then 4 bytes a cycle; slots are held from the start of a load to the end of the work on it.
    assert activity.read_bytes[:3].tolist() == [0, 4, 4]
    assert activity.read_bytes.sum() == 32
    assert activity.held_bytes[:4].tolist() == [107, 107, 107, 207]
    assert activity.held_bytes[-1] == 107


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("dataflow", ["mas", "flash2", "layerwise"])
@pytest.mark.parametrize("most_commands", [10**6, 10])
def test_the_sums_are_those_of_the_result(machine: str, dataflow: str, most_commands: int) -> None:
    spec, layer = tilewright.load_machine(machine), load_workload("attention:heads=6,seq=200,head_dim=32,mask=causal")
    result = tilewright.simulate(layer, spec, dataflow)
    flow = get_dataflow(dataflow)
    costs = flow.costs(layer, spec)
    programs = [build_phase(phase, costs, phase_tiling(phase, result.tiling)) for phase in flow.phases]
    activity = activity_of(programs, 37, n_cores=spec.n_cores, most_commands=most_commands)
    widths = np.diff(np.round(np.linspace(0, result.cycles, 38)))
    assert activity.cycles == result.cycles
    assert activity.is_exact == (most_commands > 10)
    assert np.average(activity.busy["matrix"], weights=widths) == pytest.approx(result.matrix_utilization)
    assert np.average(activity.busy["vector"], weights=widths) == pytest.approx(result.vector_utilization)
    assert activity.read_bytes.sum() == pytest.approx(result.dram_read_bytes)
    assert activity.write_bytes.sum() == pytest.approx(result.dram_write_bytes)
    assert 0 < activity.held_bytes.max() <= max(result.peak_buffer_bytes.values())
    for kind in KINDS:
        assert activity.busy[kind].min() >= 0 and activity.busy[kind].max() <= 1 + 1e-12


@pytest.fixture(scope="module")
def case() -> NetworkCase:
    stream, machine = tilewright.load_network("resnet-18:image=32"), tilewright.load_machine("edge-16x16")
    result = tilewright.simulate_network(stream, machine, keep_mappings=False)
    return NetworkCase(result=result, stream=stream, machine=machine, objective="latency")


def activity_in(case: NetworkCase) -> NetworkActivity:
    assert case.activity is not None
    return case.activity


def test_a_network_adds_up(case: NetworkCase) -> None:
    activity, result = activity_in(case), case.result
    widths = np.diff(activity.edges)
    assert activity.edges[-1] == activity.starts[-1] == result.cycles
    assert widths.min() >= 1
    assert set(activity.starts) <= set(activity.edges)
    assert set(activity.operator) == set(range(len(result.operators)))
    assert (activity.read_rate * widths).sum() == pytest.approx(result.dram_read_bytes)
    assert (activity.write_rate * widths).sum() == pytest.approx(result.dram_write_bytes)
    assert activity.mean(activity.busy["matrix"]) == pytest.approx(case.matrix_utilization)
    assert (activity.read_rate + activity.write_rate).max() <= activity.peak_rate * (1 + 1e-9)
    assert activity.held_bytes.max() <= activity.capacity_bytes
    assert activity.n_mean == 0


def test_the_trace_has_a_thread_for_each_engine_and_counters(case: NetworkCase) -> None:
    activity, clock = activity_in(case), case.machine.clock_ghz
    events = activity_tracks(activity, [o.name for o in case.result.operators], clock)
    threads = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert threads == {"matrix", "vector", "load", "store"}
    counters: dict[str, list[tuple[float, float]]] = {}
    for event in events:
        if event["ph"] == "C":
            (value,) = event["args"].values()
            counters.setdefault(event["name"], []).append((event["ts"], value))
    assert set(counters) == {
        *(f"{kind} busy, %" for kind in KINDS), "DRAM read, GB/s", "DRAM write, GB/s", "buffer l1 held, bytes"
    }  # fmt: skip
    end = case.result.cycles / (clock * 1000)
    for points in counters.values():
        times = [at for at, _ in points]
        assert times == sorted(times) and times[-1] <= end
        assert points[-1][1] == 0
    moved = sum(rate * (after - at) for (at, rate), (after, _) in pairwise(counters["DRAM read, GB/s"]))
    assert moved * 1e3 == pytest.approx(case.result.dram_read_bytes, rel=1e-3)
    slices = [event for event in events if event["ph"] == "X" and event["cat"] == "matrix"]
    assert all(event["dur"] > 0 for event in slices)
    busy = sum(event["args"]["busy_cycles"] for event in slices)
    assert busy == pytest.approx(case.matrix_utilization * case.result.cycles, rel=1e-3)


def test_the_page_shows_engines_and_its_files_hold_them(case: NetworkCase, tmp_path: Path) -> None:
    data = activity_data(activity_in(case), [o.name for o in case.result.operators], case.machine.clock_ghz)
    names = [row["name"] for row in data["rows"]]
    assert names == ["matrix unit", "vector unit", "load", "store", "DRAM", "buffer l1"]
    assert all(row["path"].startswith("M0 100V") and row["path"].endswith("V100z") for row in data["rows"])
    assert len(data["tips"]) == len(case.result.operators)
    assert sum(tip["width_percent"] for tip in data["tips"]) == pytest.approx(100, abs=0.1)
    assert "The same run by engine" in network_page(case)
    write_network_report(tmp_path / "out", case)
    trace = json.loads((tmp_path / "out" / "trace.json").read_text())
    assert {event["pid"] for event in trace["traceEvents"]} == {1, 2}
    assert (tmp_path / "out" / "timeline.png").stat().st_size > 40_000


def test_operators_stand_where_they_ran(case: NetworkCase) -> None:
    trace = operator_trace(case)
    assert [c.start for c in trace.commands] == activity_in(case).starts[:-1].tolist()
    assert trace.commands[-1].end == case.result.cycles


def test_a_result_from_another_process_has_its_figures_and_a_page(case: NetworkCase) -> None:
    copy = pickle.loads(pickle.dumps(case.result))
    assert copy == case.result
    assert copy.runs == ()
    again = NetworkCase(result=copy, stream=case.stream, machine=case.machine, objective="latency")
    assert again.activity is None
    assert "The same run by engine" not in network_page(again)


def test_a_layer_has_its_engines_over_the_whole_run(tmp_path: Path) -> None:
    """Its timeline shows the first commands; engines and counters go to the end."""
    tiling = {"query": 64, "key": 64}
    result = tilewright.simulate("attention:heads=16,seq=1024,head_dim=64", "edge-16x16", "flash2", tiling=tiling)
    page = write_report(result, tmp_path / "out").read_text(encoding="utf-8")
    assert "The whole run by engine" in page
    trace = json.loads((tmp_path / "out" / "trace.json").read_text())
    counted = [event for event in trace["traceEvents"] if event["name"] == "matrix busy, %"]
    assert counted[-1]["ts"] == pytest.approx(result.cycles / 1000)
    (matrix,) = (event for event in trace["traceEvents"] if event["ph"] == "X" and event.get("pid") == 2
                 and event["cat"] == "matrix")  # fmt: skip
    assert matrix["args"]["busy_cycles"] == pytest.approx(result.matrix_utilization * result.cycles, rel=1e-6)
