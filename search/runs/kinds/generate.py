"""``generate``: the prompts one after the other, then a step for every token of all requests that go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from tilewright.errors import InputError
from tilewright.search.runs.decoding import Decoding, Group
from tilewright.search.runs.evaluator import register_evaluator
from tilewright.search.runs.memory import check_capacity, live_bytes
from tilewright.search.runs.simulator import RunSimulator
from tilewright.sim.runs.result import Measure, MemoryPoint, RunPhase, RunResult, added_figures
from tilewright.sim.runs.steps import Steps, phase_of, steps_of_results
from tilewright.workloads.runs.cache import CachedTensor, cached_bytes, cached_tensors, shared_bytes
from tilewright.workloads.runs.kinds.generate import GenerateRun, RequestSpec
from tilewright.workloads.runs.kv_prediction import predictor_stream
from tilewright.workloads.runs.streams import network_at, with_cache_formats, with_head_format
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["evaluate_generate"]

ASSUMPTIONS = (
    "the prompt's step gives a request's first token; every further one is a step behind the tokens cached so far",
    "prompts are read one after the other in order, equal ones together; then all requests that go on take a step at a "
    "time, and one that has its tokens leaves with its cache",
)
PREDICTED = (
    "KV prediction: keys and values of each layer are a product of those of the helper's layer at its height, and the "
    "network makes its first token behind all but the last token of the prompt",
)
SHARED = "tokens that sequences share are read from the cache for each of them"
GUESSED = (
    "speculative decoding: each round the draft takes its steps one by one, then the network checks them and gives one "
    "more; guesses are right independently of each other, rounds make as many tokens as in the mean, and wrong guesses "
    "cost nothing but their steps",
)


#: What the steps that read a prompt are called, by how many they are.
_STEPS_OF_PROMPTS = {1: ("",), 2: (" shared", " rest"), 3: (" helper", " predictor", " first token")}


@dataclass(frozen=True, slots=True)
class _Networks:
    """A network at a step, in the run's formats."""

    run: GenerateRun
    network: str

    def __call__(self, **sizes: int) -> OperatorStream:
        run = self.run
        stream = network_at(self.network, sizes).with_formats(weights=run.weights, activations=run.activations)
        cache = run.cache
        stream = with_cache_formats(stream, keys=cache.keys, values=cache.values, residual=cache.residual)
        return with_head_format(stream, run.head) if run.head is not None else stream


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Steps between two changes of who goes on: requests with their groups, behind so many steps."""

    requests: tuple[RequestSpec, ...]
    groups: tuple[Group, ...]
    done: int
    n_steps: int

    @property
    def n_sequences(self) -> int:
        return sum(group.count for group in self.groups)


def _kept_by(networks: _Networks, context: int, *, block: int = 1, residual: int = 0) -> tuple[CachedTensor, ...]:
    """What a decoder keeps between its steps."""
    pair = (networks(decode=1, context=context + more, batch=1) for more in (0, 1))
    return cached_tensors(*pair, n_sequences=1, block=block, residual=residual)


class _Model:
    """One network of the run: its weights, its cache, its steps."""

    def __init__(self, run: GenerateRun, network: str, simulator: RunSimulator, *, n_new: int = 1) -> None:
        self._run, self.networks, self._simulator = run, _Networks(run, network), simulator
        self.decoding = Decoding(self.networks, simulator, n_new=n_new, bucket=run.cache.bucket)
        self.prompts = [list(self._prompt(request)) for request in run.requests]
        self.weight_bytes = sum(stream.weight_bytes for stream in self.prompts[0])
        if run.predicted_by is None:  # further steps are of the same weights
            self.weight_bytes = self.prompts[0][0].weight_bytes
        self.tensors = self._cache()

    def _prompt(self, one: RequestSpec) -> Iterator[OperatorStream]:
        """The steps that read a prompt: at once, or what is shared and then what is not; or by another network."""
        helper = self._run.predicted_by
        if helper is not None and self.networks.network == self._run.network and one.prompt > 1:
            other = _Networks(self._run, helper)
            yield other(prefill=one.prompt, batch=one.count)
            yield predictor_stream(_kept_by(other, one.prompt), _kept_by(self.networks, one.prompt), one)
            yield self.networks(decode=1, context=one.prompt - 1, batch=one.count)
            return
        if not one.shared or one.count == 1:
            yield self.networks(prefill=one.prompt, batch=one.count)
            return
        yield self.networks(prefill=one.shared, batch=1)
        if one.shared < one.prompt:
            yield self.networks(decode=one.prompt - one.shared, context=one.shared, batch=one.count)

    def _cache(self) -> tuple[CachedTensor, ...]:
        cache = self._run.cache
        longest = max(one.prompt + one.generate for one in self._run.requests)  # windows show where they hide something
        found = _kept_by(self.networks, longest, block=cache.block, residual=cache.residual)
        if not found:
            raise InputError(
                f"{self.networks.network}: keeps nothing from step to step; allowed a decoder that generates"
            )
        return found

    def held(self, request: RequestSpec, n_tokens: int, n_sequences: int) -> int:
        """Bytes of ``n_sequences`` of a request with ``n_tokens`` in the cache each."""
        whole = cached_bytes(self.tensors, n_tokens, n_sequences)
        return whole - (n_sequences - 1) * shared_bytes(self.tensors, request.shared, n_tokens)


def evaluate_generate(run: GenerateRun, simulator: RunSimulator) -> RunResult:
    """The run on the simulator's machine. Raises InputError for what the machine cannot hold or run."""
    return _Generation(run, simulator).result()


class _Generation:
    def __init__(self, run: GenerateRun, simulator: RunSimulator) -> None:
        self._run, self._simulator = run, simulator
        guess = run.speculative
        self._model = _Model(run, run.network, simulator, n_new=1 if guess is None else guess.tokens + 1)
        self._draft = None if guess is None else _Model(run, guess.draft, simulator)
        self._models = [one for one in (self._model, self._draft) if one is not None]
        self._weights = sum(one.weight_bytes for one in self._models)
        self._phases: list[RunPhase] = []
        self._memory = [MemoryPoint(0.0, "weights", self._weights, 0, 0)]
        self._now, self._made = 0.0, 0
        self._first: list[tuple[float, int]] = []

    def result(self) -> RunResult:
        run, simulator = self._run, self._simulator
        stretches = list(_stretches(run.requests))
        self._check_memory(stretches)
        for number in range(len(run.requests)):
            self._read_prompt(number)
        for number, stretch in enumerate(stretches):
            self._decode("decode" if len(stretches) == 1 else f"decode {number + 1}", stretch)
        notes = [note for model in self._models for note in model.decoding.assumptions]
        shares = any(one.shared and one.count > 1 for one in run.requests)
        return RunResult(
            kind=run.run,
            name=run.title,
            machine=simulator.machine.name,
            phases=tuple(self._phases),
            figures=added_figures([(phase.figures, 1) for phase in self._phases]),
            macs=sum(phase.macs for phase in self._phases),
            own_measures=_measures(run, self._phases, self._first),
            memory=tuple(self._memory),
            capacity_bytes=simulator.machine.dram.capacity_bytes,
            assumptions=(
                *simulator.notes,
                *ASSUMPTIONS,
                *([SHARED] if shares else []),
                *(GUESSED if run.speculative else []),
                *(PREDICTED if run.predicted_by else []),
                *dict.fromkeys(notes),
            ),
            objective=simulator.objective,
            facts=_facts(run),
            machine_spec=simulator.machine,
        )

    def _read_prompt(self, number: int) -> None:
        request = self._run.requests[number]
        for model in self._models:
            streams = model.prompts[number]
            for at, stream in enumerate(streams):
                name = "prefill" if len(self._run.requests) == 1 else f"prefill {number + 1}"
                name += " draft" if model is self._draft else ""
                name += _STEPS_OF_PROMPTS[len(streams)][at]
                self._simulator.tell(number, len(self._run.requests) + 1, name)
                result = self._simulator.network(stream)
                is_last = stream is streams[-1]
                n_made = request.count if model is self._model and is_last else 0
                steps = steps_of_results([result], [request.prompt])
                self._phases.append(phase_of(name, stream.name, steps, n_made=n_made, start_seconds=self._now))
                held = self._held_after(number + is_last)
                self._memory.append(
                    MemoryPoint(self._now, name, self._weights, held, live_bytes(stream, self._simulator))
                )
                self._now += result.seconds
                if n_made:
                    self._first.append((self._now, request.count))

    def _held_after(self, n_requests: int) -> int:
        """Bytes of the caches when so many prompts are read."""
        done = self._run.requests[:n_requests]
        return sum(model.held(one, one.prompt, one.count) for model in self._models for one in done)

    def _held(self, stretch: _Stretch, n_done: int) -> int:
        """Bytes of the caches after ``n_done`` tokens more than at the stretch's beginning."""
        pairs = list(zip(stretch.requests, stretch.groups, strict=True))
        return sum(
            model.held(request, group.context + n_done, group.count)
            for model in self._models
            for request, group in pairs
        )

    def _decode(self, name: str, stretch: _Stretch) -> None:
        steps = self._steps(stretch)
        n_made = stretch.n_sequences * stretch.n_steps
        line = self._model.decoding.line(stretch.groups, stretch.n_steps)
        network = line.at(stretch.groups[0].context).name
        phase = phase_of(name, network, steps, n_made=n_made, start_seconds=self._now)
        self._phases.append(phase)
        working = max(model.decoding.live_bytes(stretch.groups, stretch.n_steps) for model in self._models)
        first = stretch.groups[0].context
        for point in phase.points:
            held = self._held(stretch, point.size - first + 1)
            self._memory.append(MemoryPoint(point.start_seconds, name, self._weights, held, working))
        self._now += phase.seconds

    def _steps(self, stretch: _Stretch) -> Steps:
        guess = self._run.speculative
        if guess is None or self._draft is None:
            return self._model.decoding.steps(stretch.groups, stretch.n_steps)
        n_rounds = ceil(stretch.n_steps / guess.tokens_per_round)
        begins = np.floor(np.arange(n_rounds) * guess.tokens_per_round).astype(np.int64)
        rounds = self._model.decoding.steps(stretch.groups, stretch.n_steps).take(begins)
        guesses = self._draft.decoding.steps(stretch.groups, stretch.n_steps + guess.tokens - 1)
        for number in range(guess.tokens):
            rounds = rounds.plus(guesses.take(begins + number))
        return rounds

    def _check_memory(self, stretches: Sequence[_Stretch]) -> None:
        run = self._run
        streams = [stream for model in self._models for steps in model.prompts for stream in steps]
        working = max(live_bytes(stream, self._simulator) for stream in streams)
        most = max([self._held_after(len(run.requests)), *(self._held(one, one.n_steps) for one in stretches)])
        check_capacity(
            run.title,
            self._simulator.machine,
            weights=self._weights,
            cache=most,
            working=working,
            layers=[tensor for model in self._models for tensor in model.tensors],
            n_sequences=run.n_sequences,
        )


def _stretches(requests: Sequence[RequestSpec]) -> Iterator[_Stretch]:
    """Who takes steps together, from the first step behind the prompts to the last."""
    done = 0
    for end in sorted(set().union(*(request.ends for request in requests))):
        going = tuple(request for request in requests if request.n_alive(done + 1))
        groups = tuple(Group(count=one.n_alive(done + 1), context=one.prompt + done) for one in going)
        yield _Stretch(going, groups, done, end - done)
        done = end


def _measures(
    run: GenerateRun, phases: Sequence[RunPhase], first_tokens: Sequence[tuple[float, int]]
) -> tuple[Measure, ...]:
    seconds = sum(phase.seconds for phase in phases)
    n_tokens = sum(phase.n_made for phase in phases)
    joules = sum(phase.energy_pj for phase in phases) * 1e-12
    decodes = [phase for phase in phases if phase.name.startswith("decode")]
    mean_first = sum(at * count for at, count in first_tokens) / run.n_sequences
    found = [Measure("time_to_first_token_s", "time to first token", mean_first, "s")]
    if len(first_tokens) > 1:
        found.append(Measure("time_to_last_first_token_s", "of the last request", first_tokens[-1][0], "s"))
    if decodes:
        n_steps = max(one.generate for one in run.requests) - 1
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
        Measure("tokens_per_s", "tokens a second, in all", n_tokens / seconds, "1/s"),
        Measure("requests_per_s", "requests a second", run.n_sequences / seconds, "1/s"),
        Measure("j_per_token", "energy per token, in all", joules / n_tokens, "J"),
    )


def _facts(run: GenerateRun) -> dict[str, str]:
    requests = ", ".join(map(_request_text, run.requests))
    cache = run.cache
    formats = {"keys": cache.keys, "values": cache.values, "head": run.head}
    found = {"requests": requests, **{name: value for name, value in formats.items() if value}}
    if run.predicted_by is not None:
        found["keys and values predicted by"] = run.predicted_by
    if run.speculative is not None:
        guess = run.speculative
        found["draft"] = f"{guess.draft}, {guess.tokens} tokens a round, {guess.acceptance:g} of them right"
    if cache.block > 1:
        found["block"] = f"{cache.block} tokens"
    if cache.residual:
        found["residual"] = f"{cache.residual} tokens"
    return found


def _request_text(one: RequestSpec) -> str:
    text = f"{one.count} x ({one.prompt} in, {one.generate} out)"
    if one.shared and one.count > 1:
        text += f" with {one.shared} shared"
    return text + "".join(f", {cut.keep} from token {cut.after} on" for cut in one.prune)


register_evaluator("generate", evaluate_generate)
