"""Jobs on a system on a chip from a file: tables, optimal schedules, networks to the cycle, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tilewright.__main__ import main
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.soc.load import load_soc, soc_names
from tilewright.hw_models.soc.spec import ClusterSpec, LeakageSpec, PowerSpec, SocSpec
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.schedule import parts as parts_module
from tilewright.search.schedule.exact import joint_of_schedule, run_schedule
from tilewright.search.schedule.jobs import simulate_jobs
from tilewright.search.schedule.parts import parted
from tilewright.sim.engine.reference import run_reference
from tilewright.sim.engine.run import simulate
from tilewright.sim.soc.board import SCHEDULERS
from tilewright.sim.soc.energy import energy_of_run, leakage_w
from tilewright.sim.soc.run import run_jobs
from tilewright.workloads.runs.kinds.jobs import JobsRun
from tilewright.workloads.runs.load import parse_run
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.task_graphs.graph import Job
from tilewright.workloads.zoo.layers import Layers

TEN_TASKS = """
run: jobs
applications:
  ten:
    tasks:
      task-1: {}
      task-2: {task-1: 18}
      task-3: {task-1: 12}
      task-4: {task-1: 9}
      task-5: {task-1: 11}
      task-6: {task-1: 14}
      task-7: {task-3: 23}
      task-8: {task-2: 19, task-4: 27, task-6: 15}
      task-9: {task-2: 16, task-4: 23, task-5: 13}
      task-10: {task-7: 17, task-8: 11, task-9: 13}
jobs: [{application: ten}]
"""
NETWORKS = """
run: jobs
applications:
  camera: {network: camera, parts: 2}
  speech: {network: speech}
  words: {network: words}
  timer: {tasks: {tick: {}}}
jobs:
  - {application: camera, every_us: 40, count: 3, deadline_us: 400}
  - {application: speech, at_us: [0, 30], deadline_us: 1}
  - {application: words, mean_gap_us: 30, count: 2, seed: 7}
  - {application: timer, first_us: 20}
scheduler: eft
"""
SMALL = "edge-16x16 with buffers.l1.capacity_kib=16, dram.bandwidth_gb_per_s=2"


def jobs(text: str, name: str = "jobs.yaml") -> JobsRun:
    run = parse_run(text, name=name)
    assert isinstance(run, JobsRun)
    return run


def camera() -> OperatorStream:
    b = Layers("camera", activations="int8", weights="int8")
    x = b.conv(b.conv(b.input("image", (1, 8, 12, 12)), 16, 3, "first"), 16, 3, "second")
    return b.finish([x])


def speech() -> OperatorStream:
    b = Layers("speech", activations="int8", weights="int8")
    return b.finish([b.linear(b.linear(b.input("frames", (1, 32, 64)), 128, "up"), 64, "down")])


def words() -> OperatorStream:
    b = Layers("words", activations="int8", weights="int8")
    return b.finish([b.linear(b.input("frames", (1, 8, 96)), 96, "one")])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> SocSpec:
    streams = {"camera": camera, "speech": speech, "words": words}
    monkeypatch.setattr(parts_module, "load_network", lambda name: streams[name]())
    clusters = {
        "npu": ClusterSpec(machine=SMALL, count=2),
        "dsp": ClusterSpec(machine=f"{SMALL}, matrix.rows=4, matrix.columns=4, clock_ghz=0.8", latency={"tick": 5}),
    }
    return SocSpec(name="small", source="test", clusters=clusters)


def test_the_ten_tasks_of_the_literature() -> None:
    result = simulate_jobs(jobs(TEN_TASKS), load_soc("ten-task"))
    assert {one.name: one.end_us for one in result.compared} == dict.fromkeys(
        ("etf", "eft", "heft-rt", "met", "stf"), 80
    )
    best = simulate_jobs(jobs(TEN_TASKS + "scheduler: optimal\n"), load_soc("ten-task"))
    assert (best.latency_us, best.bound_us, best.is_proven, best.gap) == (73, 73, True, 0)
    assert not best.exact_spans
    assert best.energy_j is None


def test_networks_to_the_cycle_equal_the_reference(small: SocSpec, tmp_path: Path) -> None:
    run = jobs(NETWORKS)
    result = simulate_jobs(run, small, cache=MappingCache(tmp_path))
    assert len(result.exact_spans) == len(result.spans) == 3 * 2 + 2 + 2 + 1
    assert {one.n_late for one in result.applications if one.name == "speech"} == {2}
    parts = parted(run, small, cache=MappingCache(tmp_path))
    given = [Job(graph=parts.graphs[one.application], arrival=-(-int(one.us * 1000) // 1000)) for one in run.arrivals()]
    schedule = run_jobs(parts.soc, given, SCHEDULERS.get("eft"))
    joint = joint_of_schedule(parts, given, schedule.tasks)
    assert run_reference(joint.program).cycles == simulate(joint.program).cycles
    ran = run_schedule(parts, given, schedule.tasks)
    assert max(one.finish_us for one in ran) * 1000 == pytest.approx(simulate(joint.program).cycles)
    alone = {key: part.cycles for key, part in parts.runs.items()}
    speech_part = parts.graphs["speech"].tasks[0]
    for planned, one in zip(schedule.tasks, ran, strict=True):
        part = given[planned.job].graph.tasks[planned.task]
        if part == speech_part:  # beside others it takes at least what it takes alone
            cluster = parts.soc.cluster_of[planned.element]
            assert (one.finish_us - one.start_us) * 1000 >= alone[part, cluster] - 1e-6
    assert result.energy_j is not None


def test_one_network_alone_runs_as_its_table_says(small: SocSpec, tmp_path: Path) -> None:
    text = "run: jobs\napplications: {camera: {network: camera}}\njobs: [{application: camera}]\n"
    result = simulate_jobs(jobs(text), small, cache=MappingCache(tmp_path))
    (span,), (ran,) = result.spans, result.exact_spans
    assert 0 <= span.finish_us - ran.finish_us < 1


def test_the_fewest_late_jobs_come_before_the_latencies() -> None:
    soc = SocSpec(name="one", source="test", clusters={"cpu": ClusterSpec(latency={"long": 10, "short": 4})})
    text = """
run: jobs
applications: {long: {tasks: {long: {}}}, short: {tasks: {short: {}}}}
jobs: [{application: short}, {application: long, deadline_us: 10}]
scheduler: optimal
"""
    result = simulate_jobs(jobs(text), soc)
    assert (result.n_late, result.least_late, result.latency_us, result.is_proven) == (0, 0, 24, True)
    assert next(one for one in result.compared if one.name == "eft").n_late == 1


def test_energy_scales_with_the_operating_point() -> None:
    leakage = LeakageSpec(c1=0.002488, c2=2660, gate=0.000519, ambient_c=42)
    power = PowerSpec(active_w=(2.0, 3.0), measured_mhz=1000, points_mv={500: 800, 1000: 1000})
    energies = []
    for mhz in (0, 500):
        own = PowerSpec(active_w=power.active_w, measured_mhz=1000, points_mv=power.points_mv, mhz=mhz)
        cluster = ClusterSpec(count=2, latency={"t": 100}, power=own)
        soc = SocSpec(name="s", source="test", clusters={"cpu": cluster}, leakage=leakage)
        graph = parted(jobs("run: jobs\napplications: {a: {tasks: {t: {}}}}\njobs: [{application: a}]\n"), soc).graphs
        run = run_jobs(soc, [Job(graph=graph["a"], arrival=0)] * 2, SCHEDULERS.get("eft"))
        energy = energy_of_run(run)
        assert energy is not None
        assert energy.leakage_j == pytest.approx(
            2 * leakage_w(leakage, own.points_mv[mhz or 1000] / 1000) * run.ticks * 1e-6
        )
        energies.append((run.ticks, energy.active_j["cpu"]))
    assert energies[0] == (100, pytest.approx(3.0 * 100e-6))
    assert energies[1] == (200, pytest.approx(3.0 * 0.8**2 * 0.5 * 200e-6))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (TEN_TASKS.replace("{application: ten}", "{application: tan}"), 'did you mean "ten"'),
        (TEN_TASKS.replace("task-7: {task-3: 23}", "task-7: {task-33: 23}"), 'did you mean "task-3"'),
        (TEN_TASKS.replace("task-1: {}", "task-1: {task-10: 1}"), "wait for each other in a circle"),
        (TEN_TASKS.replace("task-10:", "tusk-10:"), 'did you mean "task-10"'),
        (TEN_TASKS + "scheduler: heft-rd\n", 'did you mean "heft-rt"'),
        (TEN_TASKS.replace("{application: ten}", "{application: ten, every_us: 3, mean_gap_us: 2}"), "one of at_us"),
        (TEN_TASKS.replace("{application: ten}", "{application: ten, count: 2}"), "without a rate"),
        ("run: jobs\napplications: {a: {}}\njobs: [{application: a}]\n", "one of the two"),
        ("run: jobs\napplications: {a: {network: ds-cnn}}\njobs: [{application: a}]\n", "no cluster has a machine"),
    ],
)
def test_what_is_refused(text: str, wanted: str) -> None:
    with pytest.raises(InputError, match=re.escape(wanted)) as fault:
        simulate_jobs(jobs(text), load_soc("ten-task"))
    assert "\n" not in str(fault.value)


def test_a_network_that_is_not_there_is_told_with_its_field() -> None:
    text = "run: jobs\napplications: {a: {network: mobilenet-v9}}\njobs: [{application: a}]\n"
    with pytest.raises(InputError, match=r'applications\.a\.network: unknown network; .*did you mean "mobilenet-v2"'):
        simulate_jobs(jobs(text), load_soc("phone-soc"))


def test_a_part_that_no_cluster_can_run_whole_is_refused(small: SocSpec, tmp_path: Path) -> None:
    text = "run: jobs\napplications: {camera: {network: camera, parts: 3}}\njobs: [{application: camera}]\n"
    with pytest.raises(InputError, match="parts: more than it has layers; given 3; allowed at most 2"):
        simulate_jobs(jobs(text), small, cache=MappingCache(tmp_path))


def test_shipped_systems_are_whole() -> None:
    assert {"ten-task", "phone-soc"} <= set(soc_names())
    for name in soc_names():
        for cluster in load_soc(name).clusters.values():
            assert cluster.latency or load_machine(cluster.machine)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    captured = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, captured.out, captured.err


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out, folder = tmp_path / "ten.yaml", tmp_path / "ten.json", tmp_path / "page"
    file.write_text(TEN_TASKS + "scheduler: optimal\n")
    usual = ("simulate", "--run", str(file), "-a", "ten-task")
    code, shown, _ = said(capsys, *usual, "--json", str(out), "--report", str(folder))
    assert (code, "no schedule by these tables has fewer late jobs" in shown) == (0, True)
    assert json.loads(out.read_text())["latency_us"] == 73
    page = (folder / "index.html").read_text()
    assert "<svg" in page
    assert "proven" in page
    code, _, error = said(capsys, *usual, "--tile", "m=4")
    assert (code, error.count("\n"), "--tile: means nothing for jobs" in error) == (2, 1, True)
    code, _, error = said(capsys, *usual[:-1], "ten-tusk")
    assert (code, error.count("\n"), 'did you mean "ten-task"' in error) == (2, 1, True)
