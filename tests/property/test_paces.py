"""Laws of paces: no run at any pace of the ports is below a run alone; what a slower machine does is among them."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.property.programs import programs
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import BufferSpec, MachineSpec
from tilewright.search.methods.method import get_method
from tilewright.search.methods.run import run_method
from tilewright.search.paces import Pacer, image_of
from tilewright.search.tiling import best_tiling
from tilewright.sim.engine.alone import Alone
from tilewright.sim.engine.image import AT_SEMAPHORES, pack
from tilewright.sim.engine.program import Program
from tilewright.sim.engine.run import run_images, run_program
from tilewright.sim.lowering.evaluation import evaluate
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.sim.lowering.pace import name_of, paced, ports_of
from tilewright.workloads.gemm import GemmLayer

STAGED = get_dataflow("staged", "gemm")
(PHASE,) = STAGED.phases
PRODUCT = GemmLayer(
    name="product", groups=1, m=16, k=12, n=16, a_bits=8, b_bits=8, out_bits=8, accumulator_bits=32,
    compute_format="int8",
)  # fmt: skip
#: The smallest anomaly found: with l2's read port twice as fast, stores begin earlier and hold up a fetch.
TILING = {
    "m": 4, "n": 8, "k": 8, "order": 0, "depth": 2, "outputs": 2, "prefetched": 0, "far": 3, "far_m": 1, "far_n": 1,
    "shared": 0,
}  # fmt: skip
READ = name_of("product", "l2.read")


def machine(read: float = 4, **changes: float) -> MachineSpec:
    edge = load_machine("edge-16x16").with_(**{"matrix.rows": 4, "matrix.columns": 4})
    level = BufferSpec(name="l2", capacity_kib=4, read_bytes_per_cycle=read, write_bytes_per_cycle=16)
    pj = {"l1": 1.0, "l2": 2.0}
    energy = replace(edge.energy, buffer_read_pj_per_byte=pj, buffer_write_pj_per_byte=pj)
    whole = replace(edge, buffers=(*edge.buffers, level), energy=energy)
    return whole.with_(**{"dram.bandwidth_gb_per_s": 4, "buffers.l1.capacity_kib": 0.5, **changes})


@settings(max_examples=int(os.environ.get("TILEWRIGHT_FUZZ", "30")))  # `make fuzz N=...` sets this
@given(programs(max_trips=30), st.data())
def test_no_run_is_below_the_run_alone(program: Program, data: st.DataObject) -> None:
    """Whichever channels are slowed down; shares that 60 bits do not hold are rounded, by less than is allowed here."""
    run = run_program(program)
    assume(not run.stuck)
    slower = {at: Fraction(data.draw(st.sampled_from([1, 2, 8]))) for at in range(len(program.channels))}
    alone = Alone(pack(program)[0])
    least, least_slowed = run_images([alone.image, alone.slowed(slower)]).tolist()
    rates = [channel.bytes_per_cycle / slower[at] for at, channel in enumerate(program.channels)]
    channels = [channel._replace(bytes_per_cycle=rate) for channel, rate in zip(program.channels, rates, strict=True)]
    slowed = run_program(replace(program, channels=tuple(channels))).cycles
    assert least <= run.cycles
    assert least <= least_slowed <= slowed * (1 + 1e-6) + 1


def test_an_anomaly_and_its_pace() -> None:
    """Twice the port is slower at full pace, and as before at half of it, energy and all."""
    once, twice = machine(), machine(8)
    before, full = evaluate(STAGED, PRODUCT, once, TILING), evaluate(STAGED, PRODUCT, twice, TILING)
    assert full.cycles > before.cycles
    half = evaluate(STAGED, PRODUCT, twice, TILING | {READ: 2})
    assert (half.cycles, half.buffer_read_bytes) == (before.cycles, before.buffer_read_bytes)
    assert half.energy_pj == pytest.approx(before.energy_pj)
    assert half.tiling == TILING | {READ: 2}
    assert half.assumptions[0].startswith(
        "ports are run slower than they could be where that ends sooner: l2.read at 1/2"
    )
    costs = STAGED.costs(PRODUCT, twice)
    found = Pacer(PHASE, costs).better_of(TILING, full.cycles)
    assert found is not None and found.cycles <= before.cycles
    assert evaluate(STAGED, PRODUCT, twice, TILING | found.pace).cycles == found.cycles


def test_the_best_of_all_paces_is_found() -> None:
    """By search, and by running every pace of two ports down to an eighth."""
    twice = machine(8)
    costs = STAGED.costs(PRODUCT, twice)
    full = evaluate(STAGED, PRODUCT, twice, TILING).cycles
    found = Pacer(PHASE, costs).better_of(TILING, full)
    steps = [1, 2, 4, 8]
    write, dram = name_of("product", "l2.write"), name_of("product", "dram")
    tried = [{READ: a, dram: b, write: c} for a in steps for b in steps for c in steps]
    assert found is not None
    assert found.cycles == min(evaluate(STAGED, PRODUCT, twice, TILING | pace).cycles for pace in tried)


def test_programs_at_a_pace_of_the_working_buffer_are_those_of_the_lowering() -> None:
    """They are written from others; the writing is held to what lowering and packing give, command by command."""
    spec = machine().with_(**{"buffers.l1.read_bytes_per_cycle": 16, "buffers.l1.write_bytes_per_cycle": 8})
    pacer = Pacer(PHASE, STAGED.costs(PRODUCT, spec))
    for slower in product((1, 4), (1, 2, 8), (1, 16), (1, 8), (1, 2)):
        pace = tuple((port, n) for port, n in zip(ports_of(spec), slower, strict=True) if n > 1)
        image = image_of(PHASE, STAGED.costs(PRODUCT, paced(spec, pace)), TILING)
        written = pacer.image_at(TILING, dict(pace))
        begin = image[AT_SEMAPHORES]  # before it stand rates, also of channels that nothing uses
        assert written[begin:].tolist() == image[begin:].tolist()
        assert len(set(run_images([written, image]).tolist())) == 1


def test_a_search_with_twice_the_port_is_never_slower() -> None:
    cycles = [
        best_tiling(STAGED, PRODUCT, machine(read), fixed={"depth": 2, "outputs": 2}).cycles for read in (4, 8, 16)
    ]
    assert cycles == sorted(cycles, reverse=True)


def test_a_pace_is_given_beside_a_whole_tiling() -> None:
    with pytest.raises(InputError, match="given without all other numbers of the tiling"):
        best_tiling(STAGED, PRODUCT, machine(), fixed={READ: 2})


def test_a_method_finds_the_pace_too() -> None:
    held = {name: value for name, value in TILING.items() if name not in {"far_m", "far_n"}}
    found = run_method(get_method("exhaustive"), STAGED, PRODUCT, machine(8), fixed=held)
    same = best_tiling(STAGED, PRODUCT, machine(8), fixed=held)
    assert (found.tiling, found.cycles) == (same.tiling, same.cycles)
    assert any(name.startswith("pace.") for name in found.tiling)


def test_ports_and_paces() -> None:
    assert ports_of(machine()) == ("dram", "l2.read", "l2.write")
    slow = paced(machine(8), (("dram", 4), ("l2.read", 2)))
    assert slow.dram.bandwidth_gb_per_s == 1 and slow.buffers[1].read_bytes_per_cycle == 4
    assert ports_of(load_machine("edge-16x16").with_(**{"dram.detail": "row_buffer"})) == ()


@pytest.mark.parametrize(
    ("pace", "said"),
    [
        ({"pace.product.l3.read": 2}, 'unknown port; given "l3.read"; allowed dram, l2.read, l2.write'),
        ({"pace.other.dram": 2}, "is no pace of a phase of this dataflow; allowed pace.product.PORT"),
        ({READ: 0}, "given 0, allowed 1 to 1048576"),
    ],
)
def test_a_wrong_pace_is_refused(pace: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said.replace(".", r"\.")):
        evaluate(STAGED, PRODUCT, machine(), TILING | pace)
