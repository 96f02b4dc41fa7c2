"""``generate``: the prompts one after the other, then a step for every token of all requests that go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tilewright.errors import InputError
from tilewright.search.runs.decoding import Decoding, Group
from tilewright.search.runs.evaluator import register_evaluator
from tilewright.search.runs.memory import check_capacity, live_bytes
from tilewright.search.runs.simulator import RunSimulator
from tilewright.sim.runs.result import Measure, MemoryPoint, RunPhase, RunResult, added_figures
from tilewright.sim.runs.steps import phase_of, steps_of_results
from tilewright.workloads.runs.cache import CachedTensor, cached_bytes, cached_tensors
from tilewright.workloads.runs.kinds.generate import GenerateRun, RequestSpec
from tilewright.workloads.runs.streams import network_at, with_cache_formats, with_head_format
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["evaluate_generate"]

ASSUMPTIONS = (
    "the prompt's step gives a request's first token; every further one is a step behind the tokens cached so far",
    "prompts are read one after the other in order, equal ones together; then all requests that go on take a step at a "
    "time, and one that has its tokens leaves with its cache",
)


@dataclass(frozen=True, slots=True)
class _Networks:
    """The run's network at a step, in the run's formats."""

    run: GenerateRun

    def __call__(self, **sizes: int) -> OperatorStream:
        run = self.run
        stream = network_at(run.network, sizes).with_formats(weights=run.weights, activations=run.activations)
        stream = with_cache_formats(stream, keys=run.cache.keys, values=run.cache.values)
        return with_head_format(stream, run.head) if run.head is not None else stream


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Steps between two requests that leave: who goes on, each group behind so many cached tokens at the first."""

    groups: tuple[Group, ...]
    n_steps: int

    @property
    def n_sequences(self) -> int:
        return sum(group.count for group in self.groups)


def evaluate_generate(run: GenerateRun, simulator: RunSimulator) -> RunResult:
    """The run on the simulator's machine. Raises InputError for what the machine cannot hold or run."""
    networks = _Networks(run)
    prompts: list[OperatorStream] = [networks(prefill=one.prompt, batch=one.count) for one in run.requests]
    decoding = Decoding(networks, simulator, bucket=run.cache.bucket)
    stretches = list(_stretches(run.requests))
    layers = _cache(run, decoding, stretches)
    weights = prompts[0].weight_bytes
    _check_memory(run, simulator, layers, weights, prompts)
    phases: list[RunPhase] = []
    memory = [MemoryPoint(0.0, "weights", weights, 0, 0)]
    now, first_tokens, held = 0.0, [], 0
    for number, (request, stream) in enumerate(zip(run.requests, prompts, strict=True)):
        simulator.tell(number, len(prompts) + 1, f"prompt of {request.prompt} tokens")
        result = simulator.network(stream)
        name = "prefill" if len(prompts) == 1 else f"prefill {number + 1}"
        steps = steps_of_results([result], [request.prompt])
        phases.append(phase_of(name, stream.name, steps, n_made=request.count, start_seconds=now))
        held += cached_bytes(layers, request.prompt, request.count)
        memory.append(MemoryPoint(now, name, weights, held, live_bytes(stream, simulator)))
        now += result.seconds
        first_tokens.append((now, request.count))
    for number, stretch in enumerate(stretches):
        steps = decoding.steps(stretch.groups, stretch.n_steps)
        name = "decode" if len(stretches) == 1 else f"decode {number + 1}"
        n_made = stretch.n_sequences * stretch.n_steps
        phase = phase_of(
            name,
            decoding.line(stretch.groups, stretch.n_steps).at(stretch.groups[0].context).name,
            steps,
            n_made=n_made,
            start_seconds=now,
        )
        phases.append(phase)
        working = decoding.live_bytes(stretch.groups, stretch.n_steps)
        for point in phase.points:
            held = sum(cached_bytes(layers, group.context + point.step + 1, group.count) for group in stretch.groups)
            memory.append(MemoryPoint(point.start_seconds, name, weights, held, working))
        now += phase.seconds
    figures = added_figures([(phase.figures, 1) for phase in phases])
    return RunResult(
        kind=run.run,
        name=run.title,
        machine=simulator.machine.name,
        phases=tuple(phases),
        figures=figures,
        macs=sum(phase.macs for phase in phases),
        own_measures=_measures(run, phases, first_tokens),
        memory=tuple(memory),
        capacity_bytes=simulator.machine.dram.capacity_bytes,
        assumptions=(*simulator.notes, *ASSUMPTIONS, *decoding.assumptions),
        objective=simulator.objective,
        facts=_facts(run),
        machine_spec=simulator.machine,
    )


def _cache(run: GenerateRun, decoding: Decoding, stretches: Sequence[_Stretch]) -> tuple[CachedTensor, ...]:
    """What the network keeps between steps."""
    if stretches:
        groups, n_steps = stretches[0].groups, max(2, stretches[0].n_steps)
    else:
        first = run.requests[0]
        groups, n_steps = (Group(first.count, first.prompt),), 2
    line = decoding.line(groups, n_steps)
    context = groups[0].context
    found = cached_tensors(
        line.at(context),
        line.at(context + 1),
        n_sequences=sum(group.count for group in groups),
        block=run.cache.block,
        residual=run.cache.residual,
    )
    if not found:
        raise InputError(f"{run.network}: keeps nothing from step to step; allowed a decoder that generates")
    return found


def _stretches(requests: Sequence[RequestSpec]) -> Iterator[_Stretch]:
    """Who takes steps together, from the first step behind the prompts to the last."""
    done = 0
    for end in sorted({request.generate - 1 for request in requests} - {0}):
        groups = tuple(
            Group(count=request.count, context=request.prompt + done)
            for request in requests
            if request.generate - 1 >= end
        )
        yield _Stretch(groups, end - done)
        done = end


def _check_memory(
    run: GenerateRun,
    simulator: RunSimulator,
    layers: Sequence[CachedTensor],
    weights: int,
    prompts: Sequence[OperatorStream],
) -> None:
    working = max(live_bytes(stream, simulator) for stream in prompts)
    most = sum(cached_bytes(layers, one.prompt, one.count) for one in run.requests)
    for stretch in _stretches(run.requests):
        ends = (cached_bytes(layers, one.context + stretch.n_steps, one.count) for one in stretch.groups)
        most = max(most, sum(ends))
    check_capacity(
        run.title, simulator.machine, weights=weights, cache=most, working=working, layers=layers,
        n_sequences=run.n_sequences,
    )  # fmt: skip


def _measures(
    run: GenerateRun, phases: Sequence[RunPhase], first_tokens: Sequence[tuple[float, int]]
) -> tuple[Measure, ...]:
    seconds = sum(phase.seconds for phase in phases)
    joules = sum(phase.energy_pj for phase in phases) * 1e-12
    decodes = [phase for phase in phases if phase.name.startswith("decode")]
    mean_first = sum(at * count for at, count in first_tokens) / run.n_sequences
    found = [Measure("time_to_first_token_s", "time to first token", mean_first, "s")]
    if len(first_tokens) > 1:
        found.append(Measure("time_to_last_first_token_s", "of the last request", first_tokens[-1][0], "s"))
    if decodes:
        n_steps = sum(phase.n_steps for phase in decodes)
        decode_seconds = sum(phase.seconds for phase in decodes)
        n_decoded = sum(phase.n_made for phase in decodes)
        decode_joules = sum(phase.energy_pj for phase in decodes) * 1e-12
        found += [
            Measure("time_per_token_s", "time per token, mean", decode_seconds / n_steps, "s"),
            Measure("first_time_per_token_s", "of the first step", decodes[0].first_seconds, "s"),
            Measure("last_time_per_token_s", "of the last step", decodes[-1].last_seconds, "s"),
            Measure("decode_tokens_per_s", "tokens a second, decoding", n_decoded / decode_seconds, "1/s"),
            Measure("decode_j_per_token", "energy per token, decoding", decode_joules / n_decoded, "J"),
        ]
    return (
        *found,
        Measure("tokens_per_s", "tokens a second, in all", run.n_tokens / seconds, "1/s"),
        Measure("requests_per_s", "requests a second", run.n_sequences / seconds, "1/s"),
        Measure("j_per_token", "energy per token, in all", joules / run.n_tokens, "J"),
    )


def _facts(run: GenerateRun) -> dict[str, str]:
    requests = ", ".join(f"{one.count} x ({one.prompt} in, {one.generate} out)" for one in run.requests)
    cache = run.cache
    formats = {"keys": cache.keys, "values": cache.values, "head": run.head}
    found = {"requests": requests, **{name: value for name, value in formats.items() if value}}
    if cache.block > 1:
        found["block"] = f"{cache.block} tokens"
    if cache.residual:
        found["residual"] = f"{cache.residual} tokens"
    return found


register_evaluator("generate", evaluate_generate)
