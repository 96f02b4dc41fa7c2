"""How fast are the engine and the search? Run with `make bench`; nothing here is asserted about time.

Every comparison is of two things measured in the same run. The summary table is printed at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

import tilewright
from tilewright.hw_models.load import load_machine
from tilewright.search.tiling import best_tiling
from tilewright.search.workload import layer_of, pieces
from tilewright.sim.dataflows.attention.costs import AttentionCosts
from tilewright.sim.engine import kernel
from tilewright.sim.engine.image import pack
from tilewright.sim.engine.program import Program
from tilewright.sim.engine.reference import run_reference
from tilewright.sim.engine.run import run_images, run_program
from tilewright.sim.lowering.evaluation import build_phase, count_phase, evaluate, fits
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.workloads.load import load_workload

pytest.importorskip("pytest_benchmark")

MACHINE = "edge-16x16"
TILING = {"query": 64, "key": 128, "depth": 2, "resident": 0}
MEDIANS: dict[str, float] = {}


def _program(sequence: int, dataflow: str = "flash2", **more: int) -> Program:
    layer = load_workload(f"attention:heads=12,seq={sequence},head_dim=64")
    costs = AttentionCosts(layer, load_machine(MACHINE))
    return build_phase(get_dataflow(dataflow).phases[0], costs, {**TILING, **more})


def _one_run(program: Program) -> Callable[[], None]:
    """The compiled run alone: the program is packed already."""
    image, _ = pack(program)
    events = np.empty((0, kernel.EVENT_FIELDS), dtype=np.int64)
    jumps = np.empty((0, 1), dtype=np.int64)
    n_channels = int(image[kernel.N_CHANNELS])
    out = np.zeros(kernel.OUT_FIXED_FIELDS + 2 * len(program.engines) + n_channels, dtype=np.int64)
    return lambda: kernel.run_one(image, True, -1, -1, -1, events, jumps, kernel.NO_LIMIT, out)


def _measure(benchmark: pytest.FixtureRequest, name: str, call: Callable[[], object]) -> None:
    call()
    benchmark(call)  # type: ignore[operator]
    MEDIANS[name] = benchmark.stats.stats.median  # type: ignore[attr-defined]


@pytest.mark.parametrize(("n_cores", "shared"), [(1, 0), (64, 0), (64, 1)])
def test_equal_cores(benchmark: pytest.FixtureRequest, n_cores: int, shared: int) -> None:
    """One exact run of a product on 1 and on 64 equal cores (8 x 8 pieces), each loading alone or with multicast."""
    links = {"kind": "mesh", "bytes_per_cycle": 32, "hop_cycles": 9, "multicast": True}
    machine = load_machine(MACHINE).with_(n_cores=n_cores, links=links)
    flow, layer = get_dataflow("staged", "gemm"), layer_of("gemm:m=1024,n=1024,k=1024")
    piece = next(cut for cut in pieces(layer, machine, flow) if cut.n_groups == n_cores)
    tiling = {"m": 64, "n": 64, "k": 128, "order": 1, "depth": 2, "outputs": 2, "prefetched": 0}
    tiling |= {"far": 0, "far_m": 1, "far_n": 1, "shared": shared}
    program = build_phase(flow.phases[0], flow.costs(piece, machine), tiling)
    _measure(benchmark, f"{n_cores} cores, shared={shared}", _one_run(program))


@pytest.mark.parametrize("sequence", [512, 4096, 65536, 1048576])
def test_exact_simulation(benchmark: pytest.FixtureRequest, sequence: int) -> None:
    """12 heads, FlashAttention-2 dataflow, 64 x 128 tiles, streamed K and V."""
    _measure(benchmark, f"run {sequence}", _one_run(_program(sequence)))


def test_exact_simulation_of_mas(benchmark: pytest.FixtureRequest) -> None:
    """BERT-Base at 512 with the mas dataflow at its best tiling."""
    layer, machine = load_workload("bert-base"), load_machine(MACHINE)
    dataflow = get_dataflow("mas")
    tiling = best_tiling(dataflow, layer, machine).tiling
    _measure(benchmark, "run mas", _one_run(build_phase(dataflow.phases[0], AttentionCosts(layer, machine), tiling)))


def test_build_and_run(benchmark: pytest.FixtureRequest) -> None:
    """From the mapping to the cycles: lowering, packing, run."""
    layer = load_workload("attention:heads=12,seq=512,head_dim=64")
    costs = AttentionCosts(layer, load_machine(MACHINE))
    phase = get_dataflow("flash2").phases[0]
    _measure(benchmark, "build and run", lambda: run_program(build_phase(phase, costs, TILING)))


def test_full_result(benchmark: pytest.FixtureRequest) -> None:
    """The whole typed result with energy, bounds and counters."""
    layer, machine = load_workload("bert-base"), load_machine(MACHINE)
    _measure(benchmark, "result", lambda: evaluate(get_dataflow("flash2"), layer, machine, TILING))


@pytest.mark.parametrize("sequence", [512, 1048576])
def test_simulate_again(benchmark: pytest.FixtureRequest, sequence: int) -> None:
    """The public call with a whole tiling, as in a loop of a person's own."""
    layer, machine = load_workload(f"attention:heads=12,seq={sequence},head_dim=64"), load_machine(MACHINE)
    _measure(benchmark, f"simulate {sequence}", lambda: tilewright.simulate(layer, machine, "flash2", TILING))


def test_reference_at_4096(benchmark: pytest.FixtureRequest) -> None:
    """The SimPy reference on the same program as `run 4096`, and the engine without skipping."""
    program = _program(4096)
    begun = time.perf_counter()
    reference = benchmark.pedantic(run_reference, args=(program,), rounds=1, iterations=1)  # type: ignore[attr-defined]
    MEDIANS["reference 4096"] = time.perf_counter() - begun
    run = run_program(program)
    assert (reference.cycles, reference.busy_cycles) == (run.cycles, run.busy_cycles)
    begun = time.perf_counter()
    run_program(program, skip=False)
    MEDIANS["no skipping 4096"] = time.perf_counter() - begun


def test_candidates_per_second(benchmark: pytest.FixtureRequest) -> None:
    """The tiling space of mas for BERT-Base, every candidate built and run on all cores."""
    layer, machine = load_workload("bert-base"), load_machine(MACHINE)
    costs, phase = AttentionCosts(layer, machine), get_dataflow("mas").phases[0]
    tilings = [t for t in phase.space(layer, machine) if fits(phase, costs, t)]
    images = [pack(build_phase(phase, costs, t))[0] for t in tilings]

    def whole() -> None:
        run_images([pack(build_phase(phase, costs, t))[0] for t in tilings])

    _measure(benchmark, "space", whole)
    for name, call in {
        "space, runs alone": lambda: run_images(images),
        "space, bounds alone": lambda: [count_phase(phase, costs, t) for t in tilings],
        "space, pruned search": lambda: best_tiling(get_dataflow("mas"), layer, machine),
    }.items():
        call()
        begun = time.perf_counter()
        call()
        MEDIANS[name] = time.perf_counter() - begun
    MEDIANS["candidates"] = len(tilings)


def test_summary(capsys: pytest.CaptureFixture[str]) -> None:
    if "run 1048576" not in MEDIANS or "space" not in MEDIANS:
        pytest.skip("needs the benchmarks above (`make bench`)")
    m, n = MEDIANS, MEDIANS["candidates"]
    rows = [
        ("exact run, BERT-Base/512, mas at its best tiling", f"{m['run mas'] * 1e6:8.1f} us"),
        *(
            (f"exact run, 12 heads x {s:,} tokens, flash2", f"{m[f'run {s}'] * 1e6:8.1f} us")
            for s in (512, 4096, 65536, 1048576)
        ),
        ("  1M tokens over 512 tokens", f"{m['run 1048576'] / m['run 512']:8.2f} x"),
        ("lowering, packing and run, 512 tokens", f"{m['build and run'] * 1e6:8.1f} us"),
        ("complete typed result, 512 tokens", f"{m['result'] * 1e6:8.1f} us"),
        *(
            (f"tilewright.simulate with a tiling, {s:,} tokens", f"{m[f'simulate {s}'] * 1e6:8.1f} us")
            for s in (512, 1048576)
        ),
        ("SimPy reference, 4,096 tokens", f"{m['reference 4096'] * 1e3:8.1f} ms"),
        ("engine without skipping, 4,096 tokens", f"{m['no skipping 4096'] * 1e3:8.1f} ms"),
        ("  reference over engine with skipping", f"{m['reference 4096'] / m['run 4096']:8,.0f} x"),
        ("tiling candidates a second, lowered and run", f"{n / m['space']:8,.0f}"),
        ("tiling candidates a second, run alone", f"{n / m['space, runs alone']:8,.0f}"),
        ("tiling candidates a second, bounded only", f"{n / m['space, bounds alone']:8,.0f}"),
        (f"pruned search of {n:.0f} candidates", f"{m['space, pruned search'] * 1e3:8.1f} ms"),
    ]
    with capsys.disabled():
        print("\n\n" + "\n".join(f"  {what:<52}{value:>14}" for what, value in rows))
