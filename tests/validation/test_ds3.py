"""DS3 (a published simulator of systems on a chip): every task of its traces, its figures, proven optima, energy."""

from __future__ import annotations

import ds3
import pytest

from tilewright.search.schedule.optimum import shortest_schedule
from tilewright.sim.soc.board import SCHEDULERS, Scheduler
from tilewright.sim.soc.energy import energy_of_run
from tilewright.sim.soc.heft import heft, upward_ranks
from tilewright.sim.soc.run import run_jobs

WITH_MET_OF_THE_RELEASE = {"MET": "met-as-released"}
ONE_JOB = {"WIFI_TX": 69, "WIFI_RX": 288, "LAG": 176, "SCT": 56, "SCR": 153, "TEMP_MIT": 79}


def scheduler(name: str) -> Scheduler:
    return SCHEDULERS.get(WITH_MET_OF_THE_RELEASE.get(name, name.lower()))


def test_every_task_of_every_trace() -> None:
    traces: dict[tuple[str, str], dict[tuple[int, int], tuple[int, int, int]]] = {}
    applications = {}
    for row in ds3.rows("soc_ds3_task_traces.csv.gz"):
        at = (row["experiment"], row["scheduler"])
        placed = (int(row["start_us"]), int(row["finish_us"]), int(row["pe"]))
        traces.setdefault(at, {})[int(row["job"]), int(row["task_id"])] = placed
        applications.setdefault(at, ds3.SHORT[row["application"]])
    for (experiment, name), wanted in traces.items():
        jobs = ds3.jobs_of(experiment, applications[experiment, name])
        run = run_jobs(ds3.soc(), jobs, scheduler(name), like_ds3=True)
        assert {(each.job, each.task): (each.start, each.finish, each.element) for each in run.tasks} == wanted, (
            experiment,
            name,
        )


def test_mean_latencies_and_energy_of_the_runs() -> None:
    errors = {}
    for row in ds3.rows("soc_ds3_runs.csv"):
        if row["scheduler"] == "ETF_LB":  # its rules are not published
            continue
        jobs = ds3.jobs_of(row["experiment"], row["apps"])
        run = run_jobs(ds3.soc(), jobs, scheduler(row["scheduler"]), like_ds3=True)
        assert sum(run.latencies) / len(jobs) == pytest.approx(float(row["avg_latency_us"]))
        energy = energy_of_run(run, like_ds3=True)
        assert energy is not None
        errors[row["experiment"], row["scheduler"]] = abs(energy.total_j / float(row["energy_J"]) - 1)
    assert sum(errors.values()) / len(errors) < 0.01
    # 148 uJ are printed for one job of temporal mitigation; why the long mix under STF leaks more was not found.
    over = {run for run, error in errors.items() if error > 0.02}
    assert over <= {("mix_six", "STF"), *(("single_TEMP_MIT", name) for name in ("MET", "EFT", "ETF"))}
    assert max(errors.values()) < 0.027


def test_the_example_of_the_manual() -> None:
    run = run_jobs(ds3.soc(), ds3.manual_jobs(), scheduler("ETF"), like_ds3=True)
    counted = [ticks for ticks, end in zip(run.latencies, run.finishes, strict=True) if 10_000 < end <= 100_000]
    assert len(counted) == 441
    assert f"{sum(counted) / 441:.6f}" == "127.337868"
    energy = energy_of_run(run, like_ds3=True)
    assert energy is not None
    assert energy.total_j == pytest.approx(0.257854, rel=0.02)


def test_the_example_of_the_manual_without_its_programs_artifacts() -> None:
    figures = {}
    for name in ("etf", "eft", "met"):
        run = run_jobs(ds3.soc(), ds3.manual_jobs(), SCHEDULERS.get(name))
        counted = [ticks for ticks, end in zip(run.latencies, run.finishes, strict=True) if 10_000 < end <= 100_000]
        figures[name] = round(sum(counted) / len(counted), 3)
    assert figures == {"etf": 127.796, "eft": 128.435, "met": 160.83}


def test_ten_tasks_on_three_processors() -> None:
    top, graph = ds3.soc("SoC.Top"), ds3.graphs()["Top"]
    ranks = (108, 77, 80, 80, 69, 63.333, 42.667, 35.667, 44.333, 14.667)
    assert upward_ranks(graph, top) == pytest.approx(ranks, abs=5e-4)
    assert heft(graph, top).ticks == 80
    jobs = [ds3.Job(graph=graph, arrival=0)]
    assert {run_jobs(top, jobs, scheduler(name)).ticks for name in ("MET", "EFT", "STF", "ETF")} == {80}
    best = shortest_schedule(top, graph)
    assert (best.cost, best.is_proven) == (73, True)


@pytest.mark.parametrize(("application", "optimum"), ONE_JOB.items())
def test_proven_optimum_of_one_job(application: str, optimum: int) -> None:
    best = shortest_schedule(ds3.soc(), ds3.graphs()[application])
    assert (best.cost, best.bound) == (optimum, optimum)
