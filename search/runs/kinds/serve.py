"""``serve``: what weights leave of the memory, the requests, and the points of the sweep one after another."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.hw_models.systems.cards import card_of_machine
from tilewright.search.runs.evaluator import register_evaluator
from tilewright.search.runs.simulator import RunSimulator
from tilewright.search.serving.costs import ServedModel, costs_of
from tilewright.sim.figures import Figures
from tilewright.sim.runs.result import Measure, MemoryPoint, RunPhase, StepPoint
from tilewright.sim.serving.costs import StepCosts
from tilewright.sim.serving.engine import EngineRules, most_blocks
from tilewright.sim.serving.requests import Request
from tilewright.sim.serving.result import ServePoint, ServeResult, point_of
from tilewright.sim.serving.server import Served, serve
from tilewright.workloads.language.catalogue import language_model
from tilewright.workloads.language.routing import routing_of
from tilewright.workloads.language.runtimes import runtime_named
from tilewright.workloads.language.stored import storage_of
from tilewright.workloads.runs.arrivals import arrivals_of
from tilewright.workloads.runs.kinds.serve import ServeRun

__all__ = ["evaluate_serve"]

_UNBOUND = 1 << 40  # blocks where the machine does not say what its memory holds
_GIB = 2**30
_MOST_POINTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """A point of the sweep, ready to run."""

    run: ServeRun
    served: ServedModel
    rules: EngineRules
    costs: StepCosts
    requests: tuple[Request, ...]
    capacity: int | None
    sequence_us: float

    @property
    def devices(self) -> int:
        return self.run.parallel.tensor * self.run.parallel.engines

    def go(self, tell: Callable[[int], None] | None) -> Served:
        return serve(
            self.requests,
            self.rules,
            self.costs,
            engines=self.run.parallel.engines,
            in_step=self.run.parallel.experts,
            host_s=self.run.step_us * 1e-6,
            host_each_s=self.sequence_us * 1e-6,
            tell=tell,
        )


def evaluate_serve(run: ServeRun, simulator: RunSimulator) -> ServeResult:
    """The server on the simulator's machine, at each point of its sweep. Raises InputError for what cannot run."""
    paths = list(run.sweep)
    combinations = list(itertools.product(*run.sweep.values()))
    if len(combinations) > _MOST_POINTS:
        raise InputError(f"sweep: {len(combinations):,} points; allowed at most {_MOST_POINTS:,}")
    known: dict[ServedModel, StepCosts] = {}
    settings = [_setting(_changed(run, paths, one), simulator.machine, known) for one in combinations]
    total = sum(len(setting.requests) for setting in settings)
    done, points, first = 0, [], None
    for setting, values in zip(settings, combinations, strict=True):
        served = setting.go(lambda n, done=done: simulator.tell(done + n, total, "requests"))  # type: ignore[misc]
        done += len(setting.requests)
        simulator.tell(done, total, "requests")
        figures = _figures(setting, served, simulator.machine)
        point = point_of(
            dict(zip(paths, values, strict=True)),
            served,
            joules=sum(figures.energy_by_component.values()) * 1e-12,
            cache_share=served.most_blocks / setting.rules.blocks if setting.rules.blocks < _UNBOUND else 0.0,
            engines=setting.run.parallel.engines,
        )
        points.append(point)
        first = first or (setting, served, figures)
    assert first is not None
    return _result(run, simulator, *first, tuple(points))


def _changed(run: ServeRun, paths: list[str], values: tuple[object, ...]) -> ServeRun:
    try:
        return run.changed(dict(zip(paths, values, strict=True))) if paths else run  # type: ignore[arg-type]
    except ValueError as fault:
        raise InputError(str(fault)) from None


def _setting(run: ServeRun, machine: MachineSpec, known: dict[ServedModel, StepCosts]) -> _Setting:
    model = language_model(run.model)
    if run.routing != "uniform" and not model.experts:
        raise InputError(f"routing: {model.name} has no experts; allowed without")
    card, runtime = card_of_machine(machine.name), runtime_named(run.runtime)
    share = run.weights_share
    if share is None:
        share = card.weights_share if card is not None else 0.0
    served = ServedModel(
        model=model,
        storage=storage_of(run.storage),
        cache_format=run.cache.format,
        runtime=runtime,
        routing=routing_of(run.routing, model.experts),
        parallel=run.parallel,
        weights_share=share,
        expert_rows=run.expert_rows,
    )
    if served not in known:
        known[served] = costs_of(served, machine)
    capacity = machine.dram.capacity_bytes
    if card is not None and capacity == card.spec.dram.capacity_bytes:  # what its driver shows, unless it was changed
        capacity = card.memory_bytes
    rules = EngineRules(
        tokens=run.policy.tokens,
        running=run.policy.running,
        block=run.cache.block,
        blocks=_blocks(run, served, machine, capacity),
        layers=model.layers,
        prefill=run.policy.prefill,
        group_tokens=run.policy.group_tokens,
        keeps=run.cache.keeps,
    )
    requests = _requests(run, rules, model.largest_context)
    sequence_us = runtime.sequence_us if run.sequence_us is None else run.sequence_us
    return _Setting(
        run=run,
        served=served,
        rules=rules,
        costs=known[served],
        requests=requests,
        capacity=capacity,
        sequence_us=sequence_us,
    )


def _blocks(run: ServeRun, served: ServedModel, machine: MachineSpec, capacity: int | None) -> int:
    """Blocks of the cache that an engine has. Raises InputError for more than the memory holds."""
    if capacity is None:
        return run.cache.blocks or _UNBOUND
    each = served.cache_bytes / run.parallel.tensor * run.cache.block
    beside = served.weight_bytes + run.cache.working_gb * 1e9
    whole = int((capacity - served.weight_bytes) // each)
    told = f"{served.model.name} on {machine.name} ({capacity / _GIB:.4g} GiB)"
    if whole < 1:
        raise InputError(
            f"{told}: weights take {served.weight_bytes / _GIB:.4g} GiB of each device and leave no room for "
            "the cache; allowed narrower weights (storage) or more devices (parallel.tensor)"
        )
    if run.cache.blocks > whole:
        raise InputError(
            f"cache.blocks: {told}: given {run.cache.blocks:,} blocks of {run.cache.block} tokens, "
            f"{run.cache.blocks * each / _GIB:.4g} GiB; {whole:,} blocks fit beside the weights"
        )
    usual = int((capacity * run.cache.share - beside) // each)
    if not run.cache.blocks and usual < 1:
        raise InputError(
            f"cache: {told}: {run.cache.share:g} of the memory less weights and {run.cache.working_gb:g} GB of buffers "
            f"leave no block; {whole:,} blocks fit with cache.blocks"
        )
    return run.cache.blocks or usual


def _requests(run: ServeRun, rules: EngineRules, longest: int) -> tuple[Request, ...]:
    found = tuple(
        Request(number=number, arrival_s=one.seconds, prompt=one.prompt, answer=one.answer, hit=one.hit)
        for number, one in enumerate(arrivals_of(run.arrivals))
    )
    for one in found:
        if one.prompt + one.answer > longest:
            raise InputError(
                f"arrivals: request {one.number} has {one.prompt} tokens in and {one.answer} out; "
                f"{run.model} allows {longest:,} in all"
            )
        if most_blocks([one], rules.block) > rules.blocks:
            raise InputError(
                f"arrivals: request {one.number} has {one.prompt} tokens in and {one.answer} out; the cache holds "
                f"{rules.blocks:,} blocks of {rules.block}, which are {rules.blocks * rules.block:,} tokens"
            )
    return found


def _figures(setting: _Setting, served: Served, machine: MachineSpec) -> Figures:
    """What all devices take: power that flows all the time, bytes through memory and last buffer, multiply-adds."""
    tensor, devices = setting.run.parallel.tensor, setting.devices
    n_bytes, macs = served.n_bytes * tensor, served.macs * tensor
    clock = machine.clock_ghz * 1e9
    peak = machine.matrix.n_multipliers * machine.n_cores * clock
    return Figures(
        cycles=round(served.seconds * clock),
        seconds=served.seconds,
        energy_by_component=_energy_pj(machine, served.seconds * devices, n_bytes, macs),
        dram_read_bytes=round(n_bytes),
        dram_write_bytes=0,
        matrix_utilization=min(1.0, macs / (peak * max(served.seconds, 1e-30) * devices)),
        vector_utilization=0.0,
    )


def _energy_pj(machine: MachineSpec, device_s: float, n_bytes: float, macs: float) -> dict[str, float]:
    """Picojoules of so many seconds of devices, bytes and multiply-adds."""
    energy = machine.energy
    known = energy.multiply_accumulate_pj
    wide = next((name for name in ("fp16", "bf16", "fp32", "int8") if name in known), next(iter(known)))
    return {
        "static": (energy.static_mw + energy.dram_background_mw) * 1e9 * device_s,
        "dram": n_bytes * energy.dram_read_pj_per_byte,
        "buffers": n_bytes * energy.buffer_read_pj_per_byte[machine.buffers[-1].name],
        "multipliers": macs * known[wide],
    }


def _steps(setting: _Setting, served: Served, machine: MachineSpec) -> tuple[StepPoint, ...]:
    """Steps of the first engine, or of all that go in step, some of many."""
    tensor = setting.run.parallel.tensor
    devices = setting.devices if setting.run.parallel.experts else tensor
    return tuple(
        StepPoint(
            one.step,
            one.running,
            one.seconds - one.step_s,
            one.step_s,
            sum(_energy_pj(machine, one.step_s * devices, one.n_bytes * tensor, one.macs * tensor).values()),
            round(one.n_bytes * tensor),
        )
        for one in served.occupancy
    )


def _result(
    run: ServeRun,
    simulator: RunSimulator,
    setting: _Setting,
    served: Served,
    figures: Figures,
    points: tuple[ServePoint, ...],
) -> ServeResult:
    told = points[0].figures
    tensor = setting.run.parallel.tensor
    weights = round(setting.served.weight_bytes)
    block = setting.served.cache_bytes / tensor * setting.rules.block
    phase = RunPhase(
        name="serving",
        network=setting.served.model.name,
        n_steps=served.steps,
        n_made=sum(one.answer for one in served.requests),
        start_seconds=0.0,
        figures=figures,
        macs=round(served.macs * tensor),
        first_seconds=served.first_step_s,
        last_seconds=served.last_step_s,
        points=_steps(setting, served, simulator.machine),
    )
    parallel = setting.run.parallel
    return ServeResult(
        kind=run.run,
        name=run.title,
        machine=simulator.machine.name,
        phases=(phase,),
        figures=figures,
        macs=phase.macs,
        own_measures=_measures(told),
        memory=tuple(
            MemoryPoint(one.seconds, "serving", weights, round(one.blocks * block), 0) for one in served.occupancy
        ),
        capacity_bytes=setting.capacity,
        assumptions=_assumptions(setting, simulator.machine),
        facts={
            "policy": f"{setting.rules.prefill} prefill, {setting.rules.tokens:,} tokens a step, "
            f"{setting.rules.running:,} running",
            "blocks": "without end" if setting.rules.blocks == _UNBOUND else f"{setting.rules.blocks:,}",
            "devices": f"{parallel.tensor} x {parallel.engines}",
            **({"points": f"{len(points)}, figures below of the first"} if len(points) > 1 else {}),
        },
        machine_spec=simulator.machine,
        points=points,
        requests=tuple(served.requests),
    )


def _measures(told: object) -> tuple[Measure, ...]:
    assert isinstance(told, dict)
    return (
        Measure("ttft_s_mean", "time to the first token, mean", told["ttft_s_mean"], "s"),
        Measure("ttft_s_p99", "time to the first token, 99 of 100", told["ttft_s_p99"], "s"),
        Measure("tpot_s_mean", "time per token, mean", told["tpot_s_mean"], "s"),
        Measure("tpot_s_p99", "time per token, 99 of 100", told["tpot_s_p99"], "s"),
        Measure("latency_s_mean", "latency, mean", told["latency_s_mean"], "s"),
        Measure("latency_s_p99", "latency, 99 of 100", told["latency_s_p99"], "s"),
        Measure("requests_per_s", "requests a second", told["requests_per_s"], "1/s"),
        Measure("tokens_per_s", "tokens a second", told["tokens_per_s"], "1/s"),
        Measure("joules_per_token", "energy a token", told["joules_per_token"], "J"),
        Measure("preemptions", "preemptions", told["preemptions"], ""),
        Measure("cache_share", "most of the cache in use", told["cache_share"], "share"),
    )


def _assumptions(setting: _Setting, machine: MachineSpec) -> tuple[str, ...]:
    run = setting.run
    told = [
        setting.costs.told,
        "a request takes the blocks of its whole prompt when it is let in; where blocks are missing the one that was "
        "let in last gives up its own and reads all anew",
        f"beside the steps: {run.step_us:g} us each and {setting.sequence_us:g} us for each request in it",
    ]
    if run.cache.keeps:
        told.append(
            "hits: what a request finds of its own when it lost its blocks; other requests share nothing but hit_tokens"
        )
    if setting.capacity is None:
        told.append(f"{machine.name} does not say what its memory holds: the cache is as large as is asked for")
    if setting.served.model.experts:
        told.append(f"experts: {setting.served.routing.told}; spread over devices as evenly as can be")
    if run.expert_rows:
        told.append(f"loads of experts: once for each begun tile of {run.expert_rows} rows; in times each once")
    link = run.parallel.link
    if link is not None:
        told.append(
            f"link: {link.bandwidth_gb_per_s:g} GB/s and {link.start_us:g} us an exchange; two sums over a layer's "
            "results in an engine, rows sent to all that hold experts and back; nothing is hidden behind products"
        )
    return tuple(told)


register_evaluator("serve", evaluate_serve)
