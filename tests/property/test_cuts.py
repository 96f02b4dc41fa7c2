"""Products cut for many cores: right numbers of all pieces, one amount of work, and every core written out."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tilewright.errors import MappingError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import LinkSpec, MachineSpec
from tilewright.search.tiling import best_tiling, better_tiling
from tilewright.search.workload import pieces
from tilewright.sim.dataflows.gemm.lower import SEND_A, SEND_B, GemmCore
from tilewright.sim.engine.program import Engine, ProgramBuilder
from tilewright.sim.engine.reference import run_reference
from tilewright.sim.engine.run import run_program
from tilewright.sim.lowering.core import ENGINE_KINDS
from tilewright.sim.lowering.costs import Work
from tilewright.sim.lowering.evaluation import build_phase, core_shares, count_phase, evaluate, phase_tiling
from tilewright.sim.lowering.levels import channels_by_share
from tilewright.sim.lowering.mapping import Tiling, get_dataflow
from tilewright.testing.products import layers, numbers, tilings
from tilewright.workloads.conv_window import ConvWindow
from tilewright.workloads.gemm import GemmLayer

_spec = importlib.util.spec_from_file_location("test_levels", Path(__file__).with_name("test_levels.py"))
assert _spec is not None and _spec.loader is not None
_levels = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_levels)
STAGED, PHASE, machines = _levels.STAGED, _levels.PHASE, _levels.machines

SPLIT = get_dataflow("split_k", "gemm")

# `make fuzz N=10000` sets this; the quick suite runs some.
N_EXAMPLES = int(os.environ.get("TILEWRIGHT_FUZZ", "30"))
thorough = settings(
    max_examples=N_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
CORES = (2, 3, 4, 6, 8, 16, 64)


@st.composite
def cases(draw: st.DrawFn, *, cores: tuple[int, ...] = CORES) -> tuple[GemmLayer, MachineSpec, dict[str, int]]:
    """A piece of a product or convolution, a machine of several cores and levels, and a tiling."""
    machine = linked(draw, draw(machines(cores=cores)))
    piece = draw(st.sampled_from(pieces(draw(_levels.kept(machine)), machine, STAGED)))
    return piece, machine, draw(tilings(STAGED, piece, machine)) | {"prefetched": 0}


def linked(draw: st.DrawFn, machine: MachineSpec) -> MachineSpec:
    """With a link of some kind, most often one that sends to several cores at once."""
    if draw(st.integers(0, 3)) == 0:
        return machine
    link = LinkSpec(
        kind=draw(st.sampled_from(["bus", "crossbar", "ring", "mesh"])),
        bytes_per_cycle=draw(st.sampled_from([0.5, 2, 7, 32])),
        hop_cycles=draw(st.integers(0, 5)),
        multicast=draw(st.sampled_from([True, True, True, False])),
    )
    return replace(machine, links=link)


@thorough
@given(case=cases(), seed=st.integers(0, 2**32))
def test_all_pieces_compute_the_product(case: tuple[GemmLayer, MachineSpec, dict[str, int]], seed: int) -> None:
    piece, machine, tiling = case
    try:
        found, wanted = numbers(STAGED, piece, machine, tiling, np.random.default_rng(seed))
    except MappingError:
        return
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_cores_whose_maps_begin_within_an_image() -> None:
    """The second of two cores begins in an image's last row: its tile of two rows needs four of the input."""
    window = ConvWindow(3, 1, 2, 1, kernel_height=2, kernel_width=1, stride_height=1, stride_width=1, images=3)
    bits = {"a_bits": 8, "b_bits": 8, "out_bits": 8, "accumulator_bits": 32, "compute_format": "int8"}
    layer = GemmLayer(name="convolution", groups=1, m=6, k=2, n=1, window=window, **bits)
    machine = load_machine("edge-16x16").with_(n_cores=2)
    (piece,) = layer.cuts(2)
    tiling = {one.name: min(one.candidates(piece, machine)) for one in STAGED.parameters} | {"m": 2, "k": 2}
    found, wanted = numbers(STAGED, piece, machine, tiling, np.random.default_rng(0))
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@st.composite
def split_cases(draw: st.DrawFn) -> tuple[GemmLayer, MachineSpec, dict[str, int]]:
    """A product of few rows and columns whose sum is split, a machine of several cores and levels, and a tiling."""
    machine = linked(draw, draw(machines(cores=CORES)))
    layer = replace(draw(layers()), window=None)
    found = () if SPLIT.refusal(layer, machine) else pieces(layer, machine, SPLIT)
    assume(found)
    piece = draw(st.sampled_from(found))
    return piece, machine, draw(tilings(SPLIT, piece, machine)) | {"prefetched": 0}


@thorough
@given(case=split_cases(), seed=st.integers(0, 2**32))
def test_a_split_sum_is_the_sum(case: tuple[GemmLayer, MachineSpec, dict[str, int]], seed: int) -> None:
    """On numbers; the reference agrees; no run beats the bound, no count is below the floor."""
    piece, machine, tiling = case
    try:
        found, wanted = numbers(SPLIT, piece, machine, tiling, np.random.default_rng(seed))
        result = evaluate(SPLIT, piece, machine, tiling)
    except MappingError:
        return
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    assert result.cycles >= result.lower_bound.cycles
    assert result.lower_bound == SPLIT.bound(piece, machine)
    costs, total = SPLIT.costs(piece, machine), 0
    for phase in SPLIT.phases:
        program = build_phase(phase, costs, phase_tiling(phase, tiling))
        run, reference, counted = run_program(program), run_reference(program), count_phase(phase, costs, tiling)
        assert not run.stuck
        assert (run.cycles, run.busy_cycles, run.channel_bytes) == (
            reference.cycles,
            reference.busy_cycles,
            reference.channel_bytes,
        )
        assert counted.channel_bytes == run.channel_bytes[0]
        total += run.cycles
        if phase.floor is not None:
            assert all(least <= n for least, n in zip(phase.floor(costs, tiling)[:4], counted[:4], strict=True))
    assert total == result.cycles


def test_a_split_sum_occupies_more_cores() -> None:
    """One row and as many columns as one array: along m and n there is nothing to cut."""
    layer = replace(PRODUCT, m=1, k=512, n=4)
    machine = with_level(8, 60.0)
    whole = min(best_tiling(STAGED, piece, machine, fixed=HELD).cycles for piece in pieces(layer, machine, STAGED))
    split = min(best_tiling(SPLIT, piece, machine, fixed=HELD).cycles for piece in pieces(layer, machine, SPLIT))
    assert split < whole
    assert not SPLIT.refusal(layer, machine)
    assert "too few rows and columns" in SPLIT.refusal(replace(layer, m=512, n=512), machine)


class WrittenOut(GemmCore):
    """One core of many: what serves several is written once, by the first of them, and signals all."""

    served: Sequence[int] = ()  # the cores of each shared engine's class, this one first; none if another writes it
    shared_engines: dict[int, tuple[int, Sequence[int]]]
    own_semaphores = 0

    def _transfer(
        self, engine: int, work: Work, waits: Sequence[int], signals: Sequence[int], label: str, run: Any
    ) -> None:
        if engine not in self.shared_engines:
            super()._transfer(engine, work, waits, signals, label, run)
            return
        place, others = self.shared_engines[engine]
        if not others:
            return
        assert self._program is not None
        self._program.transfer(
            place,
            n_bytes=work.n_bytes,
            latency_cycles=work.cycles,
            channel=self._channels[work.channel] if self._channels else work.channel,
            waits=[wait + self.own_semaphores * other for wait in waits for other in others],
            signals=[signal + self.own_semaphores * other for signal in signals for other in others],
            label=label,
        )


def every_core(piece: GemmLayer, machine: MachineSpec, tiling: Tiling) -> Any:
    """The program with each core's engines of its own, and one engine for each shared transfer at a time."""
    costs = STAGED.costs(piece, machine)
    (share,) = core_shares(piece, machine)
    n = share.n_cores
    kinds = GemmCore.engines_for(costs, tiling, n)
    own = len(ENGINE_KINDS) + (machine.weights.memory is not None)
    engines = [Engine(f"{name} {i}", kind) for i in range(n) for name, kind, _ in kinds[:own]]
    channels, (private,) = channels_by_share(machine, GemmCore.channels(costs, tiling), [n])
    places: list[dict[int, tuple[int, Sequence[int]]]] = [{} for _ in range(n)]
    for at in range(own, len(kinds)):
        sharing = costs.n_sharing["ab"[(at - own) % 2]] if at - own in (SEND_A, SEND_B) else n // kinds[at].weight
        stride = costs.n_sharing["a"] if (at - own) % 2 and sharing < n else 1  # the pieces lie with n fastest
        for first in (core for core in range(n) if core % (stride * sharing) < stride):
            served = range(0, stride * sharing, stride)
            for other in served:
                places[first + other][at] = (len(engines), served if other == 0 else [])
            engines.append(Engine(f"{kinds[at].name} {first}", "load", kinds[at].weight * sharing // n))
    probe = ProgramBuilder(kinds, channels)
    PHASE.lower(GemmCore(costs, n_groups=share.n_groups, builder=probe), tiling)
    builder = ProgramBuilder(engines, channels)
    for i in range(share.n_cores):
        core = WrittenOut(costs, n_groups=share.n_groups, builder=builder, first_engine=own * i, channels=private)
        core.shared_engines = dict(places[i])
        core.own_semaphores = len(probe.build().semaphores)
        PHASE.lower(core, tiling)
    return builder.build()


@settings(thorough, max_examples=max(10, N_EXAMPLES // 2))
@given(case=cases(cores=(2, 3, 4, 6)))
def test_one_core_in_lock_step_is_all_of_them(case: tuple[GemmLayer, MachineSpec, dict[str, int]]) -> None:
    """Shared transfers included: the engine's run of one core for all equals SimPy's of every core written out."""
    piece, machine, tiling = case
    assume(len(core_shares(piece, machine)) == 1)
    try:
        program = build_phase(PHASE, STAGED.costs(piece, machine), tiling)
    except MappingError:
        return
    run, reference = run_program(program), run_reference(every_core(piece, machine, tiling))
    assert not run.stuck
    assert run.cycles == reference.cycles
    assert run.channel_bytes == reference.channel_bytes
    costs = STAGED.costs(piece, machine)
    counted, floor = count_phase(PHASE, costs, tiling), PHASE.floor(costs, tiling)
    assert counted.channel_bytes == run.channel_bytes[0]
    assert all(run.channel_bytes[channel] == n_bytes for channel, n_bytes in counted.level_bytes)
    assert all(least <= found for least, found in zip(floor[:4], counted[:4], strict=True))
    assert all(least <= dict(counted.level_bytes).get(channel, 0) for channel, least in floor.level_bytes)
    screened = PHASE.screen(costs, [tiling], None)
    assert screened is None or (screened.fits[0] and screened.bound_cycles[0] <= run.cycles)
    result = evaluate(STAGED, piece, machine, tiling)
    assert result.cycles >= result.lower_bound.cycles
    assert screened is None or screened.energy_pj[0] <= result.energy_pj
    assert STAGED.family.least(piece, machine) <= result.cycles
    assert result.energy_pj >= counted.energy_pj * (1 - 1e-9)


def best_cycles(layer: GemmLayer, machine: MachineSpec) -> int:
    """Of the best tiling of the best way to cut ``layer``."""
    best: tuple[float, float] | None = None
    for piece in pieces(layer, machine, STAGED):
        found = better_tiling(STAGED, piece, machine, to_beat=best, fixed=HELD)
        if found is not None:
            best = (found.cycles, found.energy_pj)
    assert best is not None
    return int(best[0])


HELD = {"prefetched": 0, "outputs": 2, "depth": 2}
PRODUCT = GemmLayer(
    name="product", groups=1, m=24, k=24, n=28, a_bits=8, b_bits=8, out_bits=8, accumulator_bits=32,
    compute_format="int8",
)  # fmt: skip


def with_level(n_cores: int, bandwidth: float) -> MachineSpec:
    far = _levels.BufferSpec(
        name="l2", capacity_kib=16, read_bytes_per_cycle=8, write_bytes_per_cycle=8, shared_by_cores=True
    )
    machine = replace(_levels.EDGE, buffers=(*_levels.EDGE.buffers, far), energy=_levels._energy([far]))
    return machine.with_(**{"n_cores": n_cores, "dram.bandwidth_gb_per_s": bandwidth, "buffers.l1.capacity_kib": 2})


def test_more_cores_are_never_slower() -> None:
    """Each number of cores may leave some idle, so that twice as many are as good at least."""
    found = [best_cycles(PRODUCT, with_level(n_cores, 30.0)) for n_cores in (1, 2, 4)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0]


def test_cuts_along_both_extents_share_what_is_brought() -> None:
    cuts = PRODUCT.cuts(16, shares=True)
    assert set(PRODUCT.cuts(16)) <= set(cuts)
    square = next(cut for cut in cuts if (cut.m, cut.n) == (6, 7))
    assert (square.groups, square.shared_by("a"), square.shared_by("b")) == (16, 4, 4)
    assert set(PRODUCT.cuts(8, shares=True)) <= set(cuts)
    assert PRODUCT in cuts
    machine = with_level(16, 1.0)
    along_one = min(best_tiling(STAGED, cut, machine, fixed=HELD).cycles for cut in PRODUCT.cuts(16))
    assert best_cycles(PRODUCT, machine) < along_one


def test_only_what_is_better_is_found() -> None:
    """A search with a score to beat finds what one without finds, or nothing where that is no better."""
    layer = replace(PRODUCT, m=1, k=128, n=4)
    machine = with_level(8, 60.0)
    for flow in (STAGED, SPLIT):
        for piece in pieces(layer, machine, flow)[:2]:
            found = best_tiling(flow, piece, machine, fixed=HELD)
            own = (found.cycles, found.energy_pj)
            worse = better_tiling(flow, piece, machine, fixed=HELD, to_beat=(own[0] + 1, 0.0))
            assert worse is not None and worse.tiling == found.tiling
            assert better_tiling(flow, piece, machine, fixed=HELD, to_beat=(own[0], own[1] / 2)) is None
            assert better_tiling(flow, piece, machine, fixed=HELD, to_beat=(own[0] - 1, own[1])) is None
