"""Layers as a pipeline over the chip: the partition against all partitions, the run against what must hold of it."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tilewright.__main__ import main
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import BufferSpec, FallbackSpec, HostLinkSpec, MachineSpec
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import simulate_stream
from tilewright.search.pipeline import run as pipeline_run
from tilewright.search.pipeline.handover import hand_overs
from tilewright.search.pipeline.partition import NEVER, Option, best_partition, bottleneck_bound
from tilewright.search.pipeline.run import simulate_pipeline
from tilewright.sim.engine.joint import Joint
from tilewright.sim.engine.reference import run_reference
from tilewright.sim.engine.run import run_program
from tilewright.sim.jobs import jobs_on
from tilewright.sim.pipeline_result import PipelineResult
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

EDGE = load_machine("edge-16x16")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> MappingCache:
    """One cache for this file, so that each mapping is searched once."""
    return MappingCache(tmp_path_factory.mktemp("cache"))


def network() -> OperatorStream:
    """Convolutions with a residual over several of them, and a linear layer."""
    b = Layers("small", activations="int8", weights="int8")
    x = b.elementwise("relu", b.conv(b.input("image", (1, 8, 12, 12)), 16, 3, "first"))
    y = b.conv(b.conv(x, 16, 3, "second"), 16, 3, "third")
    x = b.elementwise("silu", b.elementwise("add", y, x), name="silu")
    return b.finish([b.conv(x, 32, 1, "last")])


def cores(n: int, **changes: object) -> MachineSpec:
    return EDGE.with_(n_cores=n, **{"buffers.l1.capacity_kib": 16, "dram.bandwidth_gb_per_s": 4, **changes})


def with_level(kib: float, n_cores: int) -> MachineSpec:
    far = BufferSpec(
        name="l2", capacity_kib=kib, read_bytes_per_cycle=64, write_bytes_per_cycle=64, shared_by_cores=True
    )
    pj = {"l1": 1.0, "l2": 3.0}
    energy = replace(EDGE.energy, buffer_read_pj_per_byte=pj, buffer_write_pj_per_byte=pj)
    return replace(cores(n_cores), buffers=(*cores(n_cores).buffers, far), energy=energy)


def with_fallback(n_cores: int = 1) -> MachineSpec:
    cpu = FallbackSpec(name="cortex", giga_operations_per_s=2, bandwidth_gb_per_s=4, per_operator_us=1)
    return replace(cores(n_cores), lacks=("elementwise:silu",), fallback=cpu)


# -- the partition -----------------------------------------------------------------------------------------


def _brute_force(
    options: list[Option], n_cores: int, n_stages: int | None, at_least: float
) -> tuple[float, float] | None:
    """The shortest interval, and the shortest sum of partitions without a longer one."""
    n = len(options[0].cycles)
    found = []
    for count in range(1, n + 1) if n_stages is None else (n_stages,):
        for cuts in itertools.combinations(range(1, n), count - 1):
            ends = [0, *cuts, n]
            for own in itertools.product(options, repeat=count):
                n_beside = sum(one.beside for one in own)
                if sum(one.n_cores for one in own) <= n_cores and n_beside <= 1:
                    times = [one.cycles[a, b] for one, a, b in zip(own, ends, ends[1:], strict=False)]
                    ends_of = zip(own, ends, ends[1:], strict=False)
                    dram = sum(0.0 if one.dram is None else float(one.dram[a, b]) for one, a, b in ends_of)
                    if max(times) < NEVER:
                        found.append((max(*times, dram), sum(times)))
    if not found:
        return None
    longest = min(longest for longest, _ in found)
    return longest, min(total for own, total in found if own <= max(longest, at_least))


def test_the_partition_is_the_best_of_all() -> None:
    chance = np.random.default_rng(0)
    for trial in range(60):
        n, n_cores = int(chance.integers(1, 6)), int(chance.integers(1, 5))
        options = []
        for count in (1, 2, 3):
            cycles = np.full((n, n + 1), NEVER)
            for first, end in itertools.combinations(range(n + 1), 2):
                cycles[first, end] = chance.integers(1, 20) + end - first
            dram = np.array(chance.integers(0, 9, cycles.shape), dtype=float) if trial % 5 > 2 else None
            options.append(Option(n_cores=count, cycles=cycles, dram=dram))
        if trial % 2:  # a processor beside the cores, for one job
            alone = np.full((n, n + 1), NEVER)
            alone[at, at + 1] = 3 if (at := int(chance.integers(0, n))) >= 0 else NEVER
            options.append(Option(n_cores=0, cycles=alone))
        if trial % 4 > 1:  # a machine beside them, for one stage
            options.append(Option(n_cores=0, beside=1, cycles=options[0].cycles + chance.integers(-2, 3)))
        n_stages = int(chance.integers(1, n + 1)) if trial % 3 == 0 else None
        at_least = float(chance.choice([0, 10, 25]))
        want = _brute_force(options, n_cores, n_stages, at_least)
        got = best_partition(options, n_cores, n_stages=n_stages, at_least=at_least)
        assert (got is None) == (want is None)
        if got is not None and want is not None:
            assert got.interval <= max(want[0], at_least)
            assert got.latency == want[1] or options[0].dram is not None
            if n_stages is None and options[0].dram is None:
                assert bottleneck_bound(options, n_cores) == want[0]


def test_what_is_handed_over_and_how_many_of_it() -> None:
    """The residual passes the stage of "second": there are three of it, two of what neighbours hand on."""
    stream = network()
    jobs = jobs_on(stream, EDGE)
    names = [job.name for job in jobs]
    assert names == ["first", "second", "third", "last"]
    found = hand_overs(stream, jobs, [0, 1, 2, 2], has_link=False)
    assert {(one.made_in, one.read_in): one.n_maps for one in found} == {(0, 1): 2, (0, 2): 3, (1, 2): 2}
    assert not hand_overs(stream, jobs, [0, 0, 0, 0], has_link=False)


# -- the run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residency", [False, True])
@pytest.mark.parametrize("n_cores", [1, 2])
def test_one_stage_is_the_ordinary_run(n_cores: int, residency: bool, kept: MappingCache) -> None:
    """Cycles, bytes, energy and busy units, image after image."""
    stream, machine = network(), cores(n_cores)
    plain = simulate_stream(stream, machine, cache=kept, residency=residency)
    result = simulate_pipeline(stream, machine, n_stages=1, n_images=5, residency=residency, cache=kept)
    assert result.fill_cycles == result.interval_cycles == plain.cycles == result.in_turn_cycles
    assert result.cycles == 5 * plain.cycles
    assert result.period_images == 1
    assert (result.dram_read_bytes, result.dram_write_bytes) == (5 * plain.dram_read_bytes, 5 * plain.dram_write_bytes)
    assert result.energy_pj == pytest.approx(5 * plain.energy_pj)
    assert result.matrix_utilization == pytest.approx(plain.matrix_utilization)


@pytest.fixture(scope="module")
def piped(kept: MappingCache) -> PipelineResult:
    return simulate_pipeline(network(), cores(3), n_stages=3, n_images=7, residency=False, cache=kept)


def test_work_is_conserved(piped: PipelineResult) -> None:
    stream = network()
    assert sum(stage.macs for stage in piped.stages) == stream.macs
    assert sum(stage.weight_bytes for stage in piped.stages) == stream.weight_bytes
    assert sum(stage.n_jobs for stage in piped.stages) == len(jobs_on(stream, EDGE))
    assert sum(stage.dram_bytes for stage in piped.stages) * 7 == piped.dram_bytes


def test_the_interval_keeps_to_its_bounds(piped: PipelineResult) -> None:
    """No stage works longer than the interval, none shorter than its units must; DRAM bytes have their time."""
    assert piped.interval_cycles >= piped.bound_cycles
    for stage in piped.stages:
        assert stage.bound_cycles <= stage.work_cycles <= piped.interval_cycles
        assert stage.alone_cycles <= stage.work_cycles <= stage.stay_cycles
    assert piped.interval_cycles * 4 >= piped.dram_bytes / 7  # 4 bytes a cycle
    assert piped.fill_cycles >= sum(stage.alone_cycles for stage in piped.stages)
    assert piped.interval_cycles < piped.fill_cycles


def test_the_steady_state_is_exact(kept: MappingCache, piped: PipelineResult) -> None:
    """Batches that are a period longer take a period longer; the steady state is that of a batch of many."""
    assert piped.period_images is not None
    n = 300
    few, more = (
        simulate_pipeline(network(), cores(3), n_stages=3, n_images=images, residency=False, cache=kept).cycles
        for images in (n, n + piped.period_images)
    )
    assert more - few == piped.interval_cycles * piped.period_images
    starts = [span.start for span in piped.spans if span.stage == 0]
    assert starts[0] == 0
    assert starts == sorted(starts)


def test_stages_that_share_nothing_keep_to_the_formula(kept: MappingCache) -> None:
    """With a DRAM that nobody feels a batch is the first image and then one a longest stage."""
    machine = cores(2, **{"dram.bandwidth_gb_per_s": 1_000_000, "dram.first_access_latency_ns": 0})
    result = simulate_pipeline(network(), machine, n_stages=2, n_images=50, residency=False, cache=kept)
    assert abs(result.contention_cycles) <= 0.002 * result.cycles


@pytest.mark.parametrize(
    "machine",
    [
        cores(3),
        pytest.param(with_level(64, 2), marks=pytest.mark.slow),
        with_fallback(),
        pytest.param(with_fallback(2), marks=pytest.mark.slow),
    ],
)
def test_the_run_is_that_of_the_reference(
    machine: MachineSpec, kept: MappingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every joint program of a few images: SimPy says the same, skipping or not."""
    made: list[Joint] = []
    join = pipeline_run.join

    def noting(*given: object) -> Joint:
        made.append(join(*given))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(pipeline_run, "join", noting)
    result = simulate_pipeline(network(), machine, n_images=3, cache=kept)
    program = made[-1].program
    want = run_reference(program)
    assert not want.waiting
    for skip in (False, True):
        run = run_program(program, skip=skip)
        assert (run.cycles, run.busy_cycles, run.channel_bytes) == (want.cycles, want.busy_cycles, want.channel_bytes)
    assert result.cycles == want.cycles


def test_weights_that_stay_are_not_read_again(kept: MappingCache) -> None:
    """In a level of 64 KiB all weights stay, maps are handed over there; only the image and the results move."""
    stream, machine = network(), with_level(64, 2)
    plain = simulate_pipeline(stream, machine, n_stages=2, n_images=4, residency=False, cache=kept)
    stays = simulate_pipeline(stream, machine, n_stages=2, n_images=4, cache=kept)
    assert stays.dram_bytes < plain.dram_bytes
    assert sum(stage.kept_weight_bytes for stage in stays.stages) > 0
    assert {one.memory for one in stays.handed_over} == {"l2"}
    assert all(stage.kept_weight_bytes <= stage.weight_bytes for stage in stays.stages)
    assert stays.interval_cycles <= plain.interval_cycles


def test_cores_and_fallback_work_at_once(kept: MappingCache) -> None:
    """One core and a processor beside it take turns for one image; of many images both are at work."""
    stream, machine = network(), with_fallback()
    result = simulate_pipeline(stream, machine, n_images=20, cache=kept)
    assert result.takes_turns
    assert [stage.units for stage in result.stages] == ["all cores, in turn", "cortex", "all cores, in turn"]
    assert result.fill_cycles == result.in_turn_cycles
    assert result.interval_cycles < result.in_turn_cycles
    on_cores = sum(stage.alone_cycles for stage in result.stages if stage.n_cores)
    assert result.interval_cycles >= max(on_cores, result.stages[1].alone_cycles)


def beside(**changes: object) -> MachineSpec:
    """Other cores, with a clock, an array and formats of their own."""
    machine = cores(1, **{"clock_ghz": 0.7, "matrix.rows": 8, "matrix.columns": 8, **changes})
    return replace(machine, name="dsp")


def test_unlike_cores_do_stages_at_once(kept: MappingCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each at its own clock and on one DRAM; SimPy says the same. The cores alone are slower."""
    made: list[Joint] = []
    join = pipeline_run.join
    monkeypatch.setattr(pipeline_run, "join", lambda *given: made.append(join(*given)) or made[-1])
    alone = simulate_stream(network(), cores(1), cache=kept, residency=False)
    result = simulate_pipeline(network(), cores(1), n_images=3, beside=[beside()], residency=False, cache=kept)
    want = run_reference(made[-1].program)
    assert result.cycles == run_program(made[-1].program, skip=False).cycles == want.cycles
    assert sorted(stage.units for stage in result.stages) == ["core 1", "dsp"]
    assert result.interval_cycles < alone.cycles
    assert result.interval_cycles >= result.bound_cycles
    assert sum(stage.macs for stage in result.stages) == network().macs
    assert "dsp vector" in result.energy_by_component
    assert result.dram_bytes == 3 * sum(stage.dram_bytes for stage in result.stages)


def test_what_the_cores_lack_the_others_do(kept: MappingCache) -> None:
    machine = replace(cores(1), lacks=("elementwise:silu",))
    with pytest.raises(InputError, match="lack operators of this kind"):
        simulate_pipeline(network(), machine, cache=kept)
    result = simulate_pipeline(network(), machine, beside=[beside()], cache=kept)
    assert result.in_turn_cycles is None
    assert result.speedup is None
    lacking = replace(beside(), lacks=("elementwise:silu",))
    with pytest.raises(InputError, match="silu: none of edge-16x16, dsp has operators of this kind"):
        simulate_pipeline(network(), machine, beside=[lacking], cache=kept)


def test_a_link_brings_images_while_stages_work(kept: MappingCache) -> None:
    link = HostLinkSpec(name="usb", bandwidth_gb_per_s=1, per_transfer_us=0.1)
    machine = replace(cores(2), host=link)
    plain = simulate_stream(network(), machine, cache=kept, residency=False)
    one = simulate_pipeline(network(), machine, n_stages=1, residency=False, cache=kept)
    assert one.fill_cycles == plain.cycles
    assert one.interval_cycles == plain.cycles - plain.host_cycles  # the link works meanwhile, and is faster
    two = simulate_pipeline(network(), machine, n_stages=2, residency=False, cache=kept)
    assert {(one.made_in, one.read_in) for one in two.handed_over} >= {(-1, 0), (1, 2)}


# -- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_stages", "n_images", "what"),
    [
        (6, 1, "more stages than layers; given 6; allowed at most 4"),
        (4, 1, "more stages than cores; given 4; allowed at most 3 on edge-16x16"),
        (0, 1, "out of range; given 0 stages"),
        (2, 0, "images: out of range; given 0"),
    ],
)
def test_what_cannot_be_is_refused(n_stages: int, n_images: int, what: str) -> None:
    with pytest.raises(InputError, match=what):
        simulate_pipeline(network(), cores(3), n_stages=n_stages, n_images=n_images)


def test_a_stage_that_does_not_fit_is_named() -> None:
    with pytest.raises(InputError, match=r"first: .*buffer l1"):
        simulate_pipeline(network(), cores(2, **{"buffers.l1.capacity_kib": 0.01}), n_stages=2)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--pipeline", "none"], "--pipeline: not a count"),
        (["--images", "4"], "--images: means nothing without --pipeline"),
        (["--pipeline", "2", "--objective", "energy"], "--objective: of --pipeline"),
        (["--pipeline", "2"], "more stages than cores"),
    ],
)
def test_the_command_refuses(options: list[str], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", "ds-cnn", "-a", "edge-16x16", *options])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert what in line


def test_both_commands_tell_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    told = []
    for number, command in enumerate(
        (["simulate", "--pipeline", "2"], ["search", "--over", "pipeline", "--stages", "2"])
    ):
        name, *options = command
        path = tmp_path / f"{number}.json"
        request = [name, "ds-cnn", "-a", "edge-16x16", "--set", "n_cores=2", *options, "--images", "3"]
        with pytest.raises(SystemExit) as stopped:
            main([*request, "--json", str(path), "--report", str(tmp_path / str(number))])
        assert stopped.value.code == 0
        told.append(json.loads(path.read_text()))
        page = (tmp_path / str(number) / "index.html").read_text()
        assert "Images through the stages" in page
    assert "images a second" in capsys.readouterr().out
    keys = ("cycles", "interval_cycles", "stages", "dram_read_bytes", "n_images")
    assert [told[0][key] for key in keys] == [told[1][key] for key in keys]
    assert len(told[0]["stages"]) == 2


@pytest.mark.slow
def test_room_that_a_plan_leaves_keeps_weights(kept: MappingCache) -> None:
    """Weights that make no stage faster stay, too, at addresses of their own: the DRAM is for all stages."""
    stream = network()
    machine = replace(with_level(256, 2), dram=replace(EDGE.dram, bandwidth_gb_per_s=400))
    result = simulate_pipeline(stream, machine, n_stages=2, cache=kept)
    products = sum(tensor.n_bytes for tensor in stream.tensors if tensor.role == "weight" and len(tensor.shape) > 1)
    assert sum(stage.kept_weight_bytes for stage in result.stages) == products
