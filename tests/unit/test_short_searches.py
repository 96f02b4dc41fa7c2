"""What makes searches of products shorter leaves their results as they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import BufferSpec, MachineSpec
from tilewright.search.mapping_cache import ForgetfulCache
from tilewright.search.network import Way, best_mapping
from tilewright.search.tiling import better_tiling, tiling_space
from tilewright.search.workload import pieces
from tilewright.sim.dataflows.gemm import screen as screen_module
from tilewright.sim.dataflows.gemm.costs import GemmCosts
from tilewright.sim.dataflows.gemm.figures import Figures
from tilewright.sim.dataflows.gemm.images import image
from tilewright.sim.dataflows.gemm.screen import screen, shortlist
from tilewright.sim.engine.image import pack
from tilewright.sim.jobs import Job, jobs_on
from tilewright.sim.lowering.evaluation import build_phase, fits
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.homes import Homes
from tilewright.workloads.zoo.layers import Layers

EDGE = load_machine("edge-16x16")
STAGED = get_dataflow("staged", "gemm")
UNSCREENED = replace(STAGED, phases=(replace(STAGED.phases[0], screen=None),))
HOMES = (Homes(), Homes("l2", "", "l2"), Homes("l2", "l2", "l2", (), (("l2", 3000),)))


def machine() -> MachineSpec:
    far = BufferSpec(
        name="l2",
        capacity_kib=16,
        read_bytes_per_cycle=16,
        write_bytes_per_cycle=8,
        shared_by_cores=True,
        latency_cycles=7,
    )
    pj = {"l1": 1.0, "l2": 3.0}
    energy = replace(EDGE.energy, buffer_read_pj_per_byte=pj, buffer_write_pj_per_byte=pj)
    changed = replace(EDGE, buffers=(*EDGE.buffers, far), energy=energy, n_cores=3)
    return changed.with_(**{"buffers.l1.capacity_kib": 4, "dram.bandwidth_gb_per_s": 4, "matrix.rows": 8})


def job_of(homes: Homes) -> Job:
    b = Layers("small", activations="int8", weights="int8")
    stream = b.finish([b.conv(b.input("image", (1, 8, 9, 9)), 24, 3, "conv")])
    (job,) = jobs_on(stream, machine())
    assert isinstance(job.layer, GemmLayer)
    return replace(job, layer=replace(job.layer, homes=homes))


@pytest.mark.parametrize("homes", [pytest.param(HOMES[0], marks=pytest.mark.slow), HOMES[1]])
@pytest.mark.parametrize("objective", ["latency", "energy"])
def test_screening_leaves_the_best(homes: Homes, objective: str) -> None:
    """With and without what is told of all tilings at once: the same best over all cuts."""

    def best(flow: object) -> Iterator[tuple[int, float]]:
        to_beat = None
        for piece in pieces(job_of(homes).layer, machine(), STAGED):
            found = better_tiling(flow, piece, machine(), to_beat=to_beat, objective=objective)  # type: ignore[arg-type]
            if found is not None:
                own = found.cycles, found.energy_pj
                to_beat = own if objective == "latency" else own[::-1]
                yield own

    assert list(best(STAGED))[-1] == pytest.approx(list(best(UNSCREENED))[-1], rel=1e-12)


def test_mappings_at_other_homes_leave_the_best() -> None:
    """A search that begins with them finds what one finds that does not."""
    found: list[Way] = []
    for homes in HOMES:
        job = job_of(homes)
        alone, begun = (
            best_mapping(job, machine(), "latency", (), ForgetfulCache(), near) for near in ((), tuple(found))
        )
        assert begun == alone
        found.append(alone.way)


def test_figures_of_tiles_are_those_of_their_homes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remembered from searches with other homes or not: all that is told of tilings is the same."""
    spec, homes = machine(), (*HOMES, Homes("", "l2", "", (), (("l2", 900),)))
    layers = [piece for one in homes for piece in pieces(job_of(one).layer, spec, STAGED)]
    phase = STAGED.phases[0]
    spaces = [tiling_space(phase, layer, spec, {}) for layer in layers]
    shared = [screen(GemmCosts(layer, spec), space) for layer, space in zip(layers, spaces, strict=True)]
    monkeypatch.setattr(screen_module, "figures_of", lambda costs: Figures())
    for layer, space, of_all in zip(layers, spaces, shared, strict=True):
        alone = screen(GemmCosts(layer, spec), space)
        assert alone is not None and of_all is not None
        assert all((one == other).all() for one, other in zip(alone, of_all, strict=True))


@pytest.mark.parametrize("homes", HOMES)
def test_shortlists_are_what_screens_leave(homes: Homes) -> None:
    """Of a new space and of a remembered one: the same tilings in the same order, with the same bounds."""
    phase, spec = STAGED.phases[0], machine()
    for piece in pieces(job_of(homes).layer, spec, STAGED)[:4]:
        costs, space = GemmCosts(piece, spec), tiling_space(phase, piece, spec, {})
        told = screen(costs, space)
        assert told is not None
        typical = int(np.median(told.bound_cycles[told.fits]))
        for most_cycles in (typical, typical // 2, 2 * typical):
            short = shortlist(costs, most_cycles, lambda layer: tiling_space(phase, layer, spec, {}), phase)
            assert short is not None
            meant = np.flatnonzero(told.fits & (told.bound_cycles <= most_cycles))
            own = short.bound_cycles <= most_cycles
            assert [tiling for tiling, is_own in zip(short.tilings, own, strict=True) if is_own] == [
                space[at] for at in meant.tolist()
            ]
            assert (short.bound_cycles[own] == told.bound_cycles[meant]).all()
            assert (short.energy_pj[own] == told.energy_pj[meant]).all()
            assert short.n_candidates == len(space) and short.n_fitting <= told.fits.sum()


@pytest.mark.parametrize("homes", [*HOMES, Homes("", "", "l2")])
@pytest.mark.parametrize("kernel", [1, 3])
def test_images_are_those_of_the_lowering(homes: Homes, kernel: int) -> None:
    """Written from another tiling's of the same form or lowered and packed: the same to the last figure."""
    spec, random = replace(machine(), n_cores=2).with_(**{"buffers.l1.capacity_kib": 32}), Random(1)
    b = Layers("small", activations="int8", weights="int8")
    x = b.input("image", (1, 24, 11, 10))
    stream = b.finish([b.elementwise("add", b.conv(x, 24, kernel, "conv"), x)])
    (job,) = jobs_on(stream, spec)
    assert isinstance(job.layer, GemmLayer) and job.layer.fused.extra_bits
    phase, n_written = STAGED.phases[0], 0
    for piece in pieces(replace(job.layer, homes=homes), spec, STAGED):
        costs, space = GemmCosts(piece, spec), tiling_space(phase, piece, spec, {})
        for at in random.sample(range(len(space)), min(16, len(space))):
            tiling = {**space[at], "prefetched": int(random.random() < 0.2)}
            if not fits(phase, costs, tiling):
                continue
            written = image(phase, costs, tiling)
            if written is not None:
                n_written += 1
                assert (written == pack(build_phase(phase, costs, tiling))[0]).all()
    assert n_written > 20
