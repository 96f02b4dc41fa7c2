"""Laws of jobs on a system on a chip: the run against its rules written out tick by tick, schedules, optima."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.hw_models.soc.spec import ClusterSpec, PathSpec, SocSpec
from tilewright.search.schedule.optimum import shortest_schedule
from tilewright.sim.soc.board import SCHEDULERS, Board, Ready
from tilewright.sim.soc.heft import heft
from tilewright.sim.soc.run import TaskRun, run_jobs
from tilewright.workloads.task_graphs.graph import Edge, Job, TaskGraph


@st.composite
def systems(draw: st.DrawFn) -> SocSpec:
    clusters = {}
    for name in "abc"[: draw(st.integers(1, 3))]:
        latency = {f"t{kind}": draw(st.integers(0, 12)) for kind in range(4)}
        clusters[name] = ClusterSpec(count=draw(st.integers(1, 3)), latency=latency)
    rate = draw(st.sampled_from((0.5, 1.0, 3.0)))
    paths = (PathSpec(clusters=("a", "a"), volume_per_tick=2.0),) if draw(st.booleans()) else ()
    return SocSpec(name="s", source="random", clusters=clusters, volume_per_tick=rate, paths=paths, same_element=8.0)


@st.composite
def applications(draw: st.DrawFn, most: int = 7) -> TaskGraph:
    n = draw(st.integers(1, most))
    tasks = tuple(f"t{draw(st.integers(0, 3))}" for _ in range(n))
    pairs = [(one, other) for other in range(n) for one in range(other) if draw(st.integers(0, 2)) == 0]
    edges = tuple(Edge(source=one, target=other, volume=draw(st.integers(0, 9))) for one, other in pairs)
    return TaskGraph(name=f"g{draw(st.integers(0, 10**9))}", tasks=tasks, edges=edges)


def some_assignment(ready: list[Ready], board: Board) -> list[Ready]:
    """Assigns as nobody would, but repeatably, so that only the rules of the run are looked at."""
    for each in ready:
        element, ticks = each.candidates[(5 * each.job + 3 * each.task + board.now) % len(each.candidates)]
        each.assign(element, ticks)
    return ready


def written_out(soc: SocSpec, jobs: list[Job]) -> dict[tuple[int, int], tuple[int, int, int]]:
    """The rules of ``run_jobs`` with a loop over every tick: (element, start, finish) of each task."""
    done: dict[tuple[int, int], tuple[int, int, int]] = {}
    noticed: set[tuple[int, int]] = set()
    known: set[tuple[int, int]] = set()
    waiting: list[tuple[int, int, int, int]] = []
    free = [0] * soc.n_elements
    now, total = 0, sum(len(job.graph.tasks) for job in jobs)
    while len(done) < total:
        noticed |= {key for key, (_, start, finish) in done.items() if max(finish, start + 1) <= now}
        for number, job in enumerate(jobs):
            for task, name in enumerate(job.graph.tasks):
                before = {(number, source) for source, _ in job.graph.before[task]}
                if job.arrival <= now and (number, task) not in known and before <= noticed:
                    known.add((number, task))
                    options = soc.candidates(name)
                    element, ticks = options[(5 * number + 3 * task + now) % len(options)]
                    waiting.append((number, task, element, ticks))
        # What became ready in one tick waits in the order of jobs here; in it, elements differ or tasks do.
        waiting.sort(key=lambda each: each[0])
        for each in list(waiting):
            number, task, element, ticks = each
            graph = jobs[number].graph
            arrives = [
                done[number, source][2] + soc.moving_ticks(volume, done[number, source][0], element)
                for source, volume in graph.before[task]
            ]
            if max(arrives, default=0) <= now and free[element] <= now:
                done[number, task] = (element, now, now + ticks)
                free[element] = now + max(ticks, 1)
                waiting.remove(each)
        now += 1
    return done


def check_schedule(soc: SocSpec, jobs: list[Job], tasks: tuple[TaskRun, ...]) -> None:
    """Every task once, on an element that can run it, after its data, and no two at once on an element."""
    at = {(run.job, run.task): run for run in tasks}
    assert len(at) == len(tasks) == sum(len(job.graph.tasks) for job in jobs)
    for (number, task), run in at.items():
        graph = jobs[number].graph
        assert (run.element, run.finish - run.start) in soc.candidates(graph.tasks[task])
        assert run.start >= jobs[number].arrival
        for source, volume in graph.before[task]:
            before = at[number, source]
            assert run.start >= before.finish + soc.moving_ticks(volume, before.element, run.element)
    for element in range(soc.n_elements):
        spans = sorted((run.start, run.finish) for run in tasks if run.element == element and run.finish > run.start)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))


@settings(max_examples=60, deadline=None)
@given(soc=systems(), graphs=st.lists(applications(), min_size=1, max_size=4), gap=st.integers(0, 9))
def test_a_run_follows_its_rules_tick_by_tick(soc: SocSpec, graphs: list[TaskGraph], gap: int) -> None:
    # With a single chain of readiness per tick and job the order in which completions are noticed does not matter.
    jobs = [Job(graph=graph, arrival=number * gap) for number, graph in enumerate(graphs)]
    run = run_jobs(soc, jobs, some_assignment_in_task_order)
    assert {(each.job, each.task): (each.element, each.start, each.finish) for each in run.tasks} == written_out(
        soc, jobs
    )


def some_assignment_in_task_order(ready: list[Ready], board: Board) -> list[Ready]:
    return some_assignment(sorted(ready, key=lambda each: (each.job, each.task)), board)


@settings(max_examples=40, deadline=None)
@given(soc=systems(), graphs=st.lists(applications(), min_size=1, max_size=3), gap=st.integers(0, 9))
def test_every_scheduler_makes_a_schedule(soc: SocSpec, graphs: list[TaskGraph], gap: int) -> None:
    jobs = [Job(graph=graph, arrival=number * gap) for number, graph in enumerate(graphs)]
    for scheduler in SCHEDULERS.values():
        check_schedule(soc, jobs, run_jobs(soc, jobs, scheduler).tasks)
        check_schedule(soc, jobs, run_jobs(soc, jobs, scheduler, like_ds3=True).tasks)


@pytest.mark.parametrize(("n_elements", "cost"), [(1, 1 + 8 + 1), (2, 1 + 2 + 1)])
def test_data_that_stays_on_an_element_takes_its_ticks_too(n_elements: int, cost: int) -> None:
    """Moving within an element may be slower than between two: the optimum may not pass it by."""
    clusters = {"a": ClusterSpec(count=n_elements, latency={"t": 1})}
    soc = SocSpec(name="s", source="here", clusters=clusters, volume_per_tick=4.0, same_element=1.0)
    graph = TaskGraph(name="g", tasks=("t", "t"), edges=(Edge(source=0, target=1, volume=8),))
    best = shortest_schedule(soc, graph)
    check_schedule(soc, [Job(graph=graph, arrival=0)], best.tasks)
    assert best.is_proven
    assert best.cost == cost


@settings(max_examples=25, deadline=None)
@given(soc=systems(), graph=applications(most=5))
def test_nothing_is_shorter_than_the_optimum(soc: SocSpec, graph: TaskGraph) -> None:
    jobs = [Job(graph=graph, arrival=0)]
    best = shortest_schedule(soc, graph)
    check_schedule(soc, jobs, best.tasks)
    assert best.is_proven
    assert best.cost == max(run.finish for run in best.tasks)
    static = heft(graph, soc)
    check_schedule(soc, jobs, static.tasks)
    assert best.cost <= static.ticks
    for scheduler in SCHEDULERS.values():
        assert best.cost <= run_jobs(soc, jobs, scheduler).ticks


@settings(max_examples=12, deadline=None)
@given(soc=systems(), graphs=st.lists(applications(most=3), min_size=2, max_size=2), gap=st.integers(0, 6))
def test_the_optimum_of_a_window_of_jobs(soc: SocSpec, graphs: list[TaskGraph], gap: int) -> None:
    jobs = [Job(graph=graph, arrival=number * gap) for number, graph in enumerate(graphs)]
    best = shortest_schedule(soc, jobs)
    check_schedule(soc, jobs, best.tasks)
    ends = [max(run.finish for run in best.tasks if run.job == number) for number in range(len(jobs))]
    assert best.is_proven
    assert sum(end - job.arrival for end, job in zip(ends, jobs, strict=True)) == best.cost
