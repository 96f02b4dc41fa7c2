"""``diffusion``: each distinct step as the stream it is, run once, and the steps in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tilewright.errors import InputError
from tilewright.hw_models.energy import Counters
from tilewright.search.runs.evaluator import register_evaluator
from tilewright.search.runs.memory import live_bytes
from tilewright.search.runs.simulator import RunSimulator
from tilewright.sim.figures import Figures, figures_of
from tilewright.sim.network_result import NetworkResult
from tilewright.sim.runs.diffusion import DiffusionResult, StepRow
from tilewright.sim.runs.result import Measure, MemoryPoint, RunPhase, StepPoint, added_figures
from tilewright.units import KIB
from tilewright.workloads.diffusion.blocks import NetworkBlocks, network_blocks
from tilewright.workloads.diffusion.features import StepPlan, plan_steps
from tilewright.workloads.diffusion.kind import make_schedule
from tilewright.workloads.diffusion.step import Schedule
from tilewright.workloads.diffusion.streams import (
    OperatorFormats,
    StepStream,
    bit_operations,
    flops_of,
    product_macs,
    step_stream,
    with_operator_formats,
)
from tilewright.workloads.diffusion.time_tables import with_time_tables
from tilewright.workloads.network import load_network, parse_options, split_options
from tilewright.workloads.runs.kinds.diffusion import DiffusionRun, StageSpec
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["evaluate_diffusion"]

ASSUMPTIONS = (
    "what is kept between steps lies in DRAM: read where a step takes it, written where a step makes it anew",
    "FLOP: two for each multiply-add and one for each basic operation on values, softmax of attention included",
    "an operator whose result neither its own step nor a later one reads does not run",
)
_MIB = KIB**2
_TERA = 1e12


@dataclass(frozen=True, slots=True)
class _Done:
    """A distinct step: its stream, what that is, and how it runs (None where nothing does)."""

    stream: StepStream
    result: NetworkResult | None
    flops: int = 0
    macs: int = 0
    product_macs: int = 0
    bits: int = 0
    live_bytes: int = 0
    computed: tuple[float, ...] = ()


@dataclass(slots=True)
class _Stage:
    """A stage: its network in the run's formats, and its steps."""

    run: DiffusionRun
    spec: StageSpec
    simulator: RunSimulator
    given: NetworkBlocks | None = None
    wanted: Schedule | None = None
    formats: Mapping[int, Mapping[str, OperatorFormats]] = field(default_factory=dict)
    network: NetworkBlocks = field(init=False)
    schedule: Schedule = field(init=False)
    plans: tuple[StepPlan, ...] = field(init=False)
    table_bytes: int = 0
    _batched: dict[int, OperatorStream] = field(default_factory=dict)
    _done: dict[object, _Done] = field(default_factory=dict)

    def __post_init__(self) -> None:
        stream, row_bytes = self._stream(1) if self.given is None else (self.given.stream, 0)
        self.network = network_blocks(stream) if self.given is None else self.given
        guidance = self.spec.guidance or 1
        made = self.wanted or make_schedule(str(self.spec.schedule), self.network, self.spec.steps)
        own = any(step.forwards > 1 for step in made.steps)  # a method that says itself how often the network runs
        if own and guidance > 1:
            raise InputError(f"guidance: {made.method} says it itself; given {guidance} too; allowed 1")
        self.schedule = made if own else made.with_forwards(guidance)
        self.plans = plan_steps(self.network, self.schedule)
        self.table_bytes = row_bytes * self.spec.steps

    def _stream(self, batch: int) -> tuple[OperatorStream, int]:
        text = str(self.spec.network)
        stream = load_network(text if batch == 1 else _with_batch(text, batch))
        stream = stream.with_formats(weights=self.run.weights, activations=self.run.activations)
        if not self.run.time_tables:
            return stream, 0
        tables = with_time_tables(stream)
        return tables.stream, tables.row_bytes

    @property
    def most_forwards(self) -> int:
        """Of a step without anything kept."""
        return max(step.forwards for step in self.schedule.steps)

    def full(self) -> _Done:
        """A full step, with all runs of the network."""
        everything = frozenset(operator.name for operator in self.network.stream.operators)
        step = next((plan.step for plan in self.plans if plan.step.kind == "full"), self.plans[0].step)
        return self.done(StepPlan(at=-1, step=step, runs=everything), self.most_forwards)

    def done(self, plan: StepPlan, forwards: int) -> _Done:
        """The step of ``plan``, run once for all that are alike."""
        batch = forwards if self.run.guidance_as == "batch" else 1
        own = self.formats.get(plan.at, {})
        key = (batch, plan.runs, plan.takes, plan.leaves, frozenset(own.items()))
        if key not in self._done:
            self._done[key] = self._run(plan, batch, own)
        return self._done[key]

    def _run(self, plan: StepPlan, batch: int, formats: Mapping[str, OperatorFormats]) -> _Done:
        if batch > 1 and batch not in self._batched:
            self._batched[batch] = self._stream(batch)[0]
        network = self._batched[batch] if batch > 1 else self.network.stream
        made = step_stream(network, plan)
        if made.stream is None:
            return _Done(made, None, computed=(0.0,) * len(self.network.blocks))
        stream = with_operator_formats(made.stream, formats) if formats else made.stream
        macs = {operator.name: operator.macs for operator in self.network.stream.operators}
        return _Done(
            made,
            self.simulator.network(stream),
            flops=flops_of(stream),
            macs=stream.macs,
            product_macs=product_macs(stream),
            bits=bit_operations(stream),
            live_bytes=live_bytes(stream, self.simulator),
            computed=tuple(_share(block.operators, plan.runs, macs) for block in self.network.blocks),
        )

    def turns(self, forwards: int) -> int:
        """How often a step's stream runs."""
        return 1 if self.run.guidance_as == "batch" else forwards


def _share(names: Sequence[str], runs: frozenset[str], macs: dict[str, int]) -> float:
    whole = sum(macs[name] for name in names)
    done = sum(macs[name] for name in names if name in runs)
    return done / whole if whole else float(any(name in runs for name in names))


def _with_batch(text: str, batch: int) -> str:
    """The network's text for so many images more at once; raises InputError where it has no such option."""
    place, options = split_options(text)
    given = parse_options(text, options)
    given["batch"] = str(batch * int(given.get("batch", "1")))
    return f"{place}:{','.join(f'{key}={value}' for key, value in given.items())}"


def evaluate_diffusion(
    run: DiffusionRun,
    simulator: RunSimulator,
    *,
    network: NetworkBlocks | None = None,
    schedule: Schedule | None = None,
    formats: Mapping[int, Mapping[str, OperatorFormats]] | None = None,
) -> DiffusionResult:
    """The run on the simulator's machine. Raises InputError for what the machine cannot hold or run.

    ``network`` and ``schedule`` stand in for what the run names; ``formats``: of operators, by step.
    """
    stages = [_Stage(run, spec, simulator, network, schedule, formats or {}) for spec in run.all_stages]
    phases: list[RunPhase] = []
    memory: list[MemoryPoint] = []
    now = 0.0
    for text in run.before:
        now = _once(text, run, simulator, now, phases, memory)
    rows: list[StepRow] = []
    for number, stage in enumerate(stages):
        now = _steps(run, simulator, number, stage, now, rows, phases, memory, several=len(stages) > 1)
    for text in run.after:
        now = _once(text, run, simulator, now, phases, memory)
    figures = added_figures([(phase.figures, 1) for phase in phases])
    result = DiffusionResult(
        kind=run.run,
        name=run.title,
        machine=simulator.machine.name,
        phases=tuple(phases),
        figures=figures,
        macs=sum(phase.macs for phase in phases),
        own_measures=_measures(run, stages, rows, figures),
        memory=tuple(memory),
        capacity_bytes=simulator.machine.dram.capacity_bytes,
        assumptions=_assumptions(run, stages, simulator),
        objective=simulator.objective,
        facts=_facts(run, stages),
        machine_spec=simulator.machine,
        steps=tuple(rows),
        blocks=stages[0].network.names,
    )
    _check_memory(result)
    return result


def _once(
    text: str,
    run: DiffusionRun,
    simulator: RunSimulator,
    now: float,
    phases: list[RunPhase],
    memory: list[MemoryPoint],
) -> float:
    """A network that runs once for the image."""
    stream = load_network(text).with_formats(weights=run.weights, activations=run.activations)
    result = simulator.network(stream)
    memory.append(MemoryPoint(now, text, stream.weight_bytes, 0, live_bytes(stream, simulator)))
    point = StepPoint(0, 0, now, result.seconds, result.energy_pj, result.dram_bytes)
    phases.append(
        RunPhase(
            name=text.partition(":")[0],
            network=stream.name,
            n_steps=1,
            n_made=0,
            start_seconds=now,
            figures=result.figures,
            macs=result.macs,
            first_seconds=result.seconds,
            last_seconds=result.seconds,
            points=(point,),
        )
    )
    return now + result.seconds


def _steps(
    run: DiffusionRun,
    simulator: RunSimulator,
    number: int,
    stage: _Stage,
    now: float,
    rows: list[StepRow],
    phases: list[RunPhase],
    memory: list[MemoryPoint],
    *,
    several: bool,
) -> float:
    """The steps of a stage, one phase for those of a kind."""
    weights = stage.network.stream.weight_bytes + stage.table_bytes
    own: dict[str, list[tuple[StepRow, Figures]]] = {}
    for plan in stage.plans:
        simulator.tell(plan.at, len(stage.plans), f"step {plan.at + 1} of {stage.spec.network}")
        done = stage.done(plan, plan.step.forwards)
        waits = run.step_ms + (run.cached_step_ms if plan.step.kind != "full" else 0.0)
        figures = _figures(simulator, done, stage.turns(plan.step.forwards), waits * 1e-3)
        row = _row(len(rows), number, plan, stage, done, figures, now)
        rows.append(row)
        own.setdefault(row.kind, []).append((row, figures))
        memory.append(MemoryPoint(now, f"step {row.step}", weights, row.cache_bytes, done.live_bytes))
        now += figures.seconds
    for kind, done_rows in own.items():
        phases.append(_phase(f"stage {number + 1}: {kind}" if several else kind, stage, done_rows))
    return now


def _figures(simulator: RunSimulator, done: _Done, turns: int, waits_s: float) -> Figures:
    """All runs of the network at a step, and the time in which the machine only waits."""
    machine = simulator.machine
    idle_cycles = round(waits_s * machine.clock_ghz * 1e9)
    idle = figures_of(machine, Counters(), idle_cycles, matrix_cycles=0, vector_cycles=0)
    parts = [(done.result.figures, turns)] if done.result is not None else []
    return added_figures([*parts, *([(idle, 1)] if idle_cycles or not parts else [])])


def _row(at: int, number: int, plan: StepPlan, stage: _Stage, done: _Done, figures: Figures, now: float) -> StepRow:
    turns, forwards = stage.turns(plan.step.forwards), plan.step.forwards
    return StepRow(
        step=at,
        stage=number,
        kind=plan.step.kind,
        forwards=0 if done.result is None else forwards,
        blocks=sum(share > 0 for share in done.computed),
        flops=done.flops * turns,
        macs=done.macs * turns,
        product_macs=done.product_macs * turns,
        bit_operations=done.bits * turns,
        start_seconds=now,
        seconds=figures.seconds,
        energy_pj=sum(figures.energy_by_component.values()),
        dram_read_bytes=figures.dram_read_bytes,
        dram_write_bytes=figures.dram_write_bytes,
        cache_read_bytes=done.stream.read_bytes * turns,
        cache_write_bytes=done.stream.write_bytes * turns,
        cache_bytes=plan.kept_bytes * forwards,
        computed=done.computed,
    )


def _phase(name: str, stage: _Stage, done: Sequence[tuple[StepRow, Figures]]) -> RunPhase:
    first, last = done[0][0], done[-1][0]
    points = tuple(
        StepPoint(
            row.step,
            row.blocks,
            row.start_seconds,
            row.seconds,
            row.energy_pj,
            row.dram_read_bytes + row.dram_write_bytes,
        )
        for row, _ in done
    )
    return RunPhase(
        name=name,
        network=stage.network.stream.name,
        n_steps=len(done),
        n_made=0,
        start_seconds=first.start_seconds,
        figures=added_figures([(figures, 1) for _, figures in done]),
        macs=sum(row.macs for row, _ in done),
        first_seconds=first.seconds,
        last_seconds=last.seconds,
        points=points,
    )


def _measures(
    run: DiffusionRun, stages: Sequence[_Stage], rows: Sequence[StepRow], figures: Figures
) -> tuple[Measure, ...]:
    """Of an image, and beside the same steps with nothing kept."""
    flops, seconds = sum(row.flops for row in rows), sum(row.seconds for row in rows)
    full_flops, full_seconds = 0, 0.0
    for stage in stages:
        done, turns = stage.full(), stage.turns(stage.most_forwards)
        assert done.result is not None
        full_flops += stage.spec.steps * turns * done.flops
        full_seconds += stage.spec.steps * (turns * done.result.seconds + run.step_ms * 1e-3)
    batch = stages[0].network.stream.tensor(stages[0].network.stream.outputs[0]).shape[0]
    joules = sum(figures.energy_by_component.values()) * 1e-12
    return (
        Measure("seconds_per_image", "time of an image", figures.seconds / batch, "s"),
        Measure("j_per_image", "energy of an image", joules / batch, "J"),
        Measure("images_per_s", "images a second", batch / figures.seconds, "1/s"),
        Measure("tflop", "TFLOP of all steps", flops / _TERA, ""),
        Measure("product_tmacs", "T multiply-adds without attention's products", _tera(rows, "product_macs"), ""),
        Measure("tbops", "T bit operations", _tera(rows, "bit_operations"), ""),
        Measure("full_steps", "full steps", sum(row.kind == "full" for row in rows), ""),
        Measure("speedup_flop", "fewer FLOP than with nothing kept", full_flops / max(1, flops), ""),
        Measure("speedup_steps", "steps faster than with nothing kept", full_seconds / seconds, ""),
        Measure("cache_peak_bytes", "most kept between steps", max(row.cache_bytes for row in rows), "bytes"),
        Measure("cache_read_bytes", "read from what is kept", sum(row.cache_read_bytes for row in rows), "bytes"),
        Measure("cache_write_bytes", "written to what is kept", sum(row.cache_write_bytes for row in rows), "bytes"),
    )


def _tera(rows: Sequence[StepRow], name: str) -> float:
    return sum(int(getattr(row, name)) for row in rows) / _TERA


def _assumptions(run: DiffusionRun, stages: Sequence[_Stage], simulator: RunSimulator) -> tuple[str, ...]:
    notes = dict.fromkeys([*simulator.notes, *ASSUMPTIONS])
    if any(step.forwards > 1 for stage in stages for step in stage.schedule.steps):
        notes[
            "runs of a step's network "
            + (
                "are one batch"
                if run.guidance_as == "batch"
                else "follow each other, each with what it keeps of its own"
            )
        ] = None
    if run.step_ms or run.cached_step_ms:
        notes[
            f"each step waits {run.step_ms:g} ms, one that is not full {run.step_ms + run.cached_step_ms:g} ms, beside "
            "its network: given, not simulated"
        ] = None
    if run.time_tables:
        n_bytes = sum(stage.table_bytes for stage in stages)
        notes[f"what depends on the step alone is read from tables of {n_bytes / _MIB:,.2f} MiB"] = None
    for stage in stages:
        notes.update(dict.fromkeys(stage.schedule.assumptions))
        for done in stage._done.values():
            notes.update(dict.fromkeys(done.result.assumptions if done.result is not None else ()))
    return tuple(notes)


def _facts(run: DiffusionRun, stages: Sequence[_Stage]) -> dict[str, str]:
    steps = ", ".join(f"{stage.spec.steps} of {stage.spec.network} ({stage.spec.schedule})" for stage in stages)
    found = {"steps": steps}
    if run.guidance > 1:
        found["guidance"] = f"{run.guidance} runs a step, {run.guidance_as}"
    return found


def _check_memory(result: DiffusionResult) -> None:
    """Raise InputError, with what would fit, where weights, activations and what is kept are more than the memory."""
    capacity = result.capacity_bytes
    top = max(result.memory, key=lambda point: point.n_bytes)
    if capacity is None or top.n_bytes <= capacity:
        return
    room = capacity - top.weight_bytes - top.activation_bytes
    fits = f"{room / _MIB:,.0f} MiB may be kept between steps" if room > 0 else "the network fits in no schedule"
    raise InputError(
        f"{result.name}: weights, what is kept and activations take {top.weight_bytes / _MIB:,.0f} + "
        f"{top.cache_bytes / _MIB:,.0f} + {top.activation_bytes / _MIB:,.0f} MiB in {top.what}, and {result.machine} "
        f"holds {capacity / _MIB:,.0f} MiB (dram.capacity_gib); {fits}"
    )


register_evaluator("diffusion", evaluate_diffusion)
