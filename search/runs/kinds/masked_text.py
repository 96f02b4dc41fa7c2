"""``masked_text``: blocks one after the other; in each a step over all tokens, then steps over what is not cached."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tilewright.search.runs.evaluator import register_evaluator
from tilewright.search.runs.memory import check_room, live_bytes
from tilewright.search.runs.simulator import RunSimulator
from tilewright.sim.figures import Figures
from tilewright.sim.runs.result import Measure, MemoryPoint, RunPhase, RunResult, StepPoint, added_figures
from tilewright.workloads.network import network_names, network_options, split_options
from tilewright.workloads.runs.cache import cached_bytes, cached_tensors
from tilewright.workloads.runs.kinds.masked_text import MaskedTextRun
from tilewright.workloads.runs.streams import network_at
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["evaluate_masked_text"]

ASSUMPTIONS = (
    "a step runs the network over its tokens without a causal mask, with logits for all of them",
    "with a cache the first step of each block runs all tokens",
)
REFRESHED = (
    "steps that refresh layers cost as much of a step over all tokens as they refresh, and of a cached one the rest"
)


@dataclass(frozen=True, slots=True)
class _Step:
    figures: Figures
    macs: int


def evaluate_masked_text(run: MaskedTextRun, simulator: RunSimulator) -> RunResult:
    """The run on the simulator's machine. Raises InputError for what the machine cannot hold or run."""
    n_tokens, n_steps = run.prompt + run.generate, run.steps_of_block
    whole = _stream(run, prefill=n_tokens, batch=run.count)
    full = _step(whole, simulator)
    working = live_bytes(whole, simulator)
    held = 0
    if run.cache != "none":
        pair = [_stream(run, decode=1, context=n_tokens + more, batch=1) for more in (0, 1)]
        held = cached_bytes(cached_tensors(*pair, n_sequences=1), n_tokens, run.count)
    check_room(run.title, simulator.machine, whole.weight_bytes + held + working)
    phases: list[RunPhase] = []
    memory = [MemoryPoint(0.0, "weights", whole.weight_bytes, held, working)]
    known: dict[tuple[int, int], _Step] = {}
    now = 0.0
    for number in range(run.n_blocks):
        simulator.tell(number, run.n_blocks, f"block {number + 1}")
        other = full
        if run.cache != "none" and n_steps > 1:
            new = run.of_block if run.cache == "dual" else run.generate - number * run.of_block
            key = new, n_tokens - new
            if key not in known:
                cached = _stream(run, decode=new, context=n_tokens - new, batch=run.count)
                known[key] = _step(cached, simulator)
            other = _mixed(full, known[key], run.refresh)
        phase = _phase(f"block {number + 1}", whole.name, full, other, run, now)
        phases.append(phase)
        now += phase.seconds
    seconds = sum(phase.seconds for phase in phases)
    made = run.count * run.generate
    steps = run.n_blocks * n_steps
    joules = sum(phase.energy_pj for phase in phases) * 1e-12
    return RunResult(
        kind=run.run,
        name=run.title,
        machine=simulator.machine.name,
        phases=tuple(phases),
        figures=added_figures([(phase.figures, 1) for phase in phases]),
        macs=sum(phase.macs for phase in phases),
        own_measures=(
            Measure("tokens_per_s", "tokens a second", made / seconds, "1/s"),
            Measure("j_per_token", "energy per token", joules / made, "J"),
            Measure("full_step_s", "a step over all tokens", full.figures.seconds, "s"),
            Measure(
                "speedup", "as fast as all steps over all tokens", run.generate * full.figures.seconds / seconds, ""
            ),
            Measure("steps", "steps", steps, ""),
        ),
        memory=tuple(memory),
        capacity_bytes=simulator.machine.dram.capacity_bytes,
        assumptions=(*simulator.notes, *ASSUMPTIONS, *([REFRESHED] if run.refresh else [])),
        objective=simulator.objective,
        facts=_facts(run),
        machine_spec=simulator.machine,
    )


def _stream(run: MaskedTextRun, **sizes: int) -> OperatorStream:
    """The network over its tokens, all of them seen by all."""
    place, _ = split_options(run.network)
    has_logits = place not in network_names() or "logits" in network_options(place)
    given: dict[str, int | str] = {**sizes, **({"logits": "all"} if has_logits else {})}
    stream = network_at(run.network, given).with_formats(weights=run.weights, activations=run.activations)
    operators = tuple(
        replace(one, attributes={**one.attributes, "mask": "none"})
        if one.kind == "attention" and one.text("mask") == "causal"
        else one
        for one in stream.operators
    )
    return replace(stream, operators=operators)


def _step(stream: OperatorStream, simulator: RunSimulator) -> _Step:
    done = simulator.network(stream)
    return _Step(done.figures, done.macs)


def _mixed(full: _Step, cached: _Step, share: float) -> _Step:
    """So much of ``full``, the rest of ``cached``."""
    if not share:
        return cached

    def mix(one: float, other: float) -> float:
        return share * one + (1 - share) * other

    one, other = full.figures, cached.figures
    names = dict.fromkeys([*one.energy_by_component, *other.energy_by_component])
    figures = Figures(
        cycles=round(mix(one.cycles, other.cycles)),
        seconds=mix(one.seconds, other.seconds),
        energy_by_component={
            name: mix(one.energy_by_component.get(name, 0.0), other.energy_by_component.get(name, 0.0))
            for name in names
        },
        dram_read_bytes=round(mix(one.dram_read_bytes, other.dram_read_bytes)),
        dram_write_bytes=round(mix(one.dram_write_bytes, other.dram_write_bytes)),
        matrix_utilization=mix(one.matrix_utilization, other.matrix_utilization),
        vector_utilization=mix(one.vector_utilization, other.vector_utilization),
        weight_memory_bytes=round(mix(one.weight_memory_bytes, other.weight_memory_bytes)),
    )
    return _Step(figures, round(mix(full.macs, cached.macs)))


def _phase(name: str, network: str, first: _Step, other: _Step, run: MaskedTextRun, now: float) -> RunPhase:
    """A block: the first step, then the others."""
    n_others = run.steps_of_block - 1
    points, start = [], now
    for number, step in enumerate([first, other][: 1 + min(1, n_others)]):
        told = step.figures
        moved = told.dram_read_bytes + told.dram_write_bytes
        energy = sum(told.energy_by_component.values())
        points.append(StepPoint(number, run.prompt, start, told.seconds, energy, moved))
        start += told.seconds
    return RunPhase(
        name=name,
        network=network,
        n_steps=1 + n_others,
        n_made=run.count * run.of_block,
        start_seconds=now,
        figures=added_figures([(first.figures, 1), (other.figures, n_others)]),
        macs=first.macs + n_others * other.macs,
        first_seconds=first.figures.seconds,
        last_seconds=(other if n_others else first).figures.seconds,
        points=tuple(points),
    )


def _facts(run: MaskedTextRun) -> dict[str, str]:
    found = {
        "texts": f"{run.count} x ({run.prompt} in, {run.generate} filled in)",
        "blocks": f"{run.n_blocks} of {run.of_block} tokens, {run.steps_of_block} steps each",
        "cache": run.cache,
    }
    return {**found, "refreshed": f"{run.refresh:.0%} of the layers"} if run.refresh else found


register_evaluator("masked_text", evaluate_masked_text)
