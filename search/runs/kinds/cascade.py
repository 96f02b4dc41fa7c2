"""``cascade``: each stage as it runs alone, so often, one after the other."""

from __future__ import annotations

from dataclasses import replace

from tilewright.search.runs.evaluator import evaluate_run, register_evaluator
from tilewright.search.runs.memory import check_room, live_bytes
from tilewright.search.runs.simulator import RunSimulator
from tilewright.sim.runs.result import Measure, MemoryPoint, RunPhase, RunResult, StepPoint, added_figures
from tilewright.workloads.network import load_network
from tilewright.workloads.runs.kinds.cascade import CascadeRun, CascadeStage
from tilewright.workloads.runs.load import is_run, load_run

__all__ = ["evaluate_cascade"]

ASSUMPTIONS = (
    "stages run one after the other, each as it does alone; the weights of all of them stay in memory",
    "a stage that is run several times takes the same each time",
)


def evaluate_cascade(run: CascadeRun, simulator: RunSimulator) -> RunResult:
    """The cascade on the simulator's machine. Raises InputError for what the machine cannot hold or run."""
    parts = [_stage(stage, simulator) for stage in run.stages]
    weights = sum(max((point.weight_bytes for point in memory), default=0) for _, memory, _ in parts)
    phases: list[RunPhase] = []
    memory: list[MemoryPoint] = []
    now = 0.0
    for number, (stage, (own, points, _)) in enumerate(zip(run.stages, parts, strict=True), start=1):
        begin, length = now, sum(phase.seconds for phase in own)
        for phase in own:
            moved = tuple(point._replace(start_seconds=point.start_seconds + begin) for point in phase.points)
            many = f"{number}. {phase.name}" + (f" x {stage.times:,}" if stage.times > 1 else "")
            phases.append(
                replace(
                    phase,
                    name=many,
                    n_steps=phase.n_steps * stage.times,
                    n_made=phase.n_made * stage.times,
                    start_seconds=begin + phase.start_seconds,
                    figures=added_figures([(phase.figures, stage.times)]),
                    macs=phase.macs * stage.times,
                    points=moved,
                )
            )
        memory += [one._replace(seconds=begin + one.seconds, weight_bytes=weights) for one in points]
        now += length * stage.times
    check_room(run.title, simulator.machine, max(one.n_bytes for one in memory))
    seconds = sum(phase.seconds for phase in phases)
    notes = [note for *_, told in parts for note in told]
    return RunResult(
        kind=run.run,
        name=run.title,
        machine=simulator.machine.name,
        phases=tuple(phases),
        figures=added_figures([(phase.figures, 1) for phase in phases]),
        macs=sum(phase.macs for phase in phases),
        own_measures=(Measure("cascades_per_s", "cascades a second", 1 / seconds, "1/s"),),
        memory=tuple(memory),
        capacity_bytes=simulator.machine.dram.capacity_bytes,
        assumptions=(*ASSUMPTIONS, *dict.fromkeys(notes)),
        objective=simulator.objective,
        facts={"stages": ", ".join(f"{one.times} x {one.network}" for one in run.stages)},
        machine_spec=simulator.machine,
    )


def _stage(
    stage: CascadeStage, simulator: RunSimulator
) -> tuple[list[RunPhase], tuple[MemoryPoint, ...], tuple[str, ...]]:
    """One run of a stage: its phases and what lies in memory, from time 0 on, and what is assumed."""
    if is_run(stage.network) or stage.network.endswith((".yaml", ".yml")):
        result = evaluate_run(load_run(stage.network), simulator)
        return list(result.phases), result.memory, result.assumptions
    stream = load_network(stage.network).with_formats(weights=stage.weights, activations=stage.activations)
    done = simulator.network(stream)
    times = stream.n_steps
    phase = RunPhase(
        name=stream.name.partition(":")[0],
        network=stream.name,
        n_steps=times,
        n_made=1,
        start_seconds=0.0,
        figures=added_figures([(done.figures, times)]),
        macs=done.macs * times,
        first_seconds=done.seconds,
        last_seconds=done.seconds,
        points=(StepPoint(0, 0, 0.0, done.seconds, done.energy_pj, done.dram_bytes),),
    )
    point = MemoryPoint(0.0, phase.name, stream.weight_bytes, stream.cache_bytes, live_bytes(stream, simulator))
    return [phase], (point,), done.assumptions


register_evaluator("cascade", evaluate_cascade)
